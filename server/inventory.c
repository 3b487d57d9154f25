#include "server/inventory.h"

#include "api/json_scan.h"
#include "config/recipe.h"

#include <pthread.h>
#include <strings.h>

enum {
    ARENA_BYTES = 64 << 20,
    VALUES_MAX = 1 << 20,
    LIST_MAX = 100000 /* of one kind */
};

/* `shown` first, so that the public pointer is the pointer of the whole. */
struct held {
    struct ld_inventory shown;
    struct ld_arena arena;
    struct ld_buffer text; /* strings without escapes lie in here */
    uint32_t holders;      /* with the box's lock */
};

struct ld_inventory_box {
    pthread_mutex_t lock;
    struct held *current;
};

/* ---- Reading the JSON ------------------------------------------------------------------------ */

struct reader {
    const struct ld_json_tree *tree;
    struct ld_arena *arena;
    bool failed;
};

/* A string member as a C string; "" if absent or not a string. */
static const char *text_member(struct reader *reader, const struct ld_json_node *object,
                               const char *key)
{
    struct ld_span text;
    const struct ld_json_node *node = object ? ld_json_member(reader->tree, object, key) : NULL;
    if (!node || node->kind != LD_JSON_STRING)
        return "";
    const char *copy = NULL;
    if (ld_json_string_text(node, reader->arena, &text))
        copy = ld_arena_strndup(reader->arena, (const char *)text.data, text.size);
    if (!copy)
        reader->failed = true;
    return copy ? copy : "";
}

static int64_t integer_member(const struct reader *reader, const struct ld_json_node *object,
                              const char *key)
{
    int64_t value = 0;
    const struct ld_json_node *node = object ? ld_json_member(reader->tree, object, key) : NULL;
    return node && ld_json_integer(node, &value) && value > 0 ? value : 0;
}

static bool flag_member(const struct reader *reader, const struct ld_json_node *object,
                        const char *key)
{
    const struct ld_json_node *node = ld_json_member(reader->tree, object, key);
    return node && node->kind == LD_JSON_TRUE;
}

static const struct ld_json_node *object_member(const struct reader *reader,
                                                const struct ld_json_node *object, const char *key)
{
    const struct ld_json_node *node = ld_json_member(reader->tree, object, key);
    return node && node->kind == LD_JSON_OBJECT_BEGIN ? node : NULL;
}

/* The list under `key` with room for its items; NULL (count 0) if absent. */
static const struct ld_json_node *list_member(struct reader *reader, const char *key,
                                              size_t item_size, void **items, uint32_t *count)
{
    const struct ld_json_node *list = ld_json_member(reader->tree, ld_json_root(reader->tree), key);
    *count = 0;
    *items = NULL;
    if (!list || list->kind != LD_JSON_ARRAY_BEGIN || list->child_count == 0)
        return NULL;
    if (list->child_count > LIST_MAX ||
        !(*items = ld_arena_calloc(reader->arena, list->child_count, item_size))) {
        reader->failed = true;
        return NULL;
    }
    return ld_json_first(reader->tree, list);
}

static void read_models(struct reader *reader, struct ld_inventory *out)
{
    void *items;
    const struct ld_json_node *node =
        list_member(reader, "models", sizeof *out->models, &items, &out->model_count);
    out->models = items;
    for (; node && !reader->failed; node = ld_json_after(reader->tree, node)) {
        if (node->kind != LD_JSON_OBJECT_BEGIN)
            continue;
        const struct ld_json_node *detail = object_member(reader, node, "detail");
        struct ld_model_view *model = &out->models[out->model_count++];
        model->name = text_member(reader, node, "name");
        model->title = text_member(reader, node, "title");
        model->sha256 = text_member(reader, node, "sha256");
        model->bytes = (uint64_t)integer_member(reader, node, "bytes");
        model->created_us = integer_member(reader, node, "created_us");
        model->is_default = flag_member(reader, node, "default");
        model->loaded = flag_member(reader, node, "loaded");
        model->streamed = flag_member(reader, node, "streamed");
        model->kind = text_member(reader, detail, "kind");
        model->prediction = text_member(reader, detail, "prediction");
        model->manifest = "";
    }
}

/* The first family is the adapter's kind; a trainer's trigger phrase is one entry. */
static void read_adapter_detail(struct reader *reader, const struct ld_json_node *detail,
                                struct ld_adapter_view *adapter)
{
    struct ld_span family;
    const struct ld_json_node *rank = detail ? object_member(reader, detail, "rank") : NULL;
    const struct ld_json_node *families =
        detail ? ld_json_member(reader->tree, detail, "families") : NULL;
    const struct ld_json_node *first = families && families->kind == LD_JSON_ARRAY_BEGIN
                                           ? ld_json_first(reader->tree, families)
                                           : NULL;
    const char *trigger = text_member(reader, detail, "trigger_words");
    adapter->recipe_text = text_member(reader, detail, "recipe_text");
    adapter->kind = text_member(reader, detail, "kind");
    if (first && first->kind == LD_JSON_STRING &&
        ld_json_string_text(first, reader->arena, &family)) {
        const char *kind = ld_arena_strndup(reader->arena, (const char *)family.data, family.size);
        adapter->kind = kind ? kind : adapter->kind;
    }
    (void)ld_narrow_i32(rank ? integer_member(reader, rank, "max") : 0, &adapter->rank);
    if (!*trigger)
        return;
    const char **words = ld_arena_calloc(reader->arena, 1, sizeof *words);
    if (!words) {
        reader->failed = true;
        return;
    }
    words[0] = trigger;
    adapter->trigger_words = words;
    adapter->trigger_word_count = 1;
}

/* A listing shows the title; one that cannot be read is told to whoever asks for it. */
static void read_recipe(struct reader *reader, struct ld_adapter_view *adapter)
{
    struct ld_recipe recipe;
    struct ld_error ignored = {0};
    const enum ld_code code =
        ld_recipe_of(&recipe, adapter->name, adapter->recipe_text, reader->arena, &ignored);
    adapter->recipe = code == LD_OK ? recipe.title : "";
}

static void read_adapters(struct reader *reader, struct ld_inventory *out)
{
    void *items;
    const struct ld_json_node *node =
        list_member(reader, "adapters", sizeof *out->adapters, &items, &out->adapter_count);
    out->adapters = items;
    for (; node && !reader->failed; node = ld_json_after(reader->tree, node)) {
        if (node->kind != LD_JSON_OBJECT_BEGIN)
            continue;
        struct ld_adapter_view *adapter = &out->adapters[out->adapter_count++];
        adapter->name = text_member(reader, node, "name");
        adapter->sha256 = text_member(reader, node, "sha256");
        adapter->bytes = (uint64_t)integer_member(reader, node, "bytes");
        read_adapter_detail(reader, object_member(reader, node, "detail"), adapter);
        read_recipe(reader, adapter);
    }
}

static void read_embeddings(struct reader *reader, struct ld_inventory *out)
{
    void *items;
    const struct ld_json_node *node =
        list_member(reader, "embeddings", sizeof *out->embeddings, &items, &out->embedding_count);
    out->embeddings = items;
    for (; node && !reader->failed; node = ld_json_after(reader->tree, node)) {
        if (node->kind != LD_JSON_OBJECT_BEGIN)
            continue;
        const struct ld_json_node *detail = object_member(reader, node, "detail");
        struct ld_embedding_view *embedding = &out->embeddings[out->embedding_count++];
        embedding->name = text_member(reader, node, "name");
        embedding->sha256 = text_member(reader, node, "sha256");
        (void)ld_narrow_u32(integer_member(reader, detail, "vectors"), &embedding->vectors);
        (void)ld_narrow_u32(integer_member(reader, detail, "width"), &embedding->width);
    }
}

static void read_controlnets(struct reader *reader, struct ld_inventory *out)
{
    void *items;
    const struct ld_json_node *node = list_member(reader, "controlnets", sizeof *out->controlnets,
                                                  &items, &out->controlnet_count);
    out->controlnets = items;
    for (; node && !reader->failed; node = ld_json_after(reader->tree, node)) {
        if (node->kind != LD_JSON_OBJECT_BEGIN)
            continue;
        struct ld_controlnet_view *controlnet = &out->controlnets[out->controlnet_count++];
        controlnet->name = text_member(reader, node, "name");
        controlnet->sha256 = text_member(reader, node, "sha256");
        controlnet->bytes = (uint64_t)integer_member(reader, node, "bytes");
    }
}

static void read_names(struct reader *reader, const char *key, const char ***names, uint32_t *count)
{
    void *items;
    const struct ld_json_node *node = list_member(reader, key, sizeof **names, &items, count);
    *names = items;
    for (; node && !reader->failed; node = ld_json_after(reader->tree, node)) {
        if (node->kind == LD_JSON_OBJECT_BEGIN)
            (*names)[(*count)++] = text_member(reader, node, "name");
    }
}

static void read_unusable(struct reader *reader, struct ld_inventory *out)
{
    void *items;
    const struct ld_json_node *node =
        list_member(reader, "unusable", sizeof *out->unusable, &items, &out->unusable_count);
    out->unusable = items;
    for (; node && !reader->failed; node = ld_json_after(reader->tree, node)) {
        if (node->kind != LD_JSON_OBJECT_BEGIN)
            continue;
        struct ld_unusable_view *view = &out->unusable[out->unusable_count++];
        view->kind = text_member(reader, node, "kind");
        view->name = text_member(reader, node, "name");
        view->reason = text_member(reader, node, "reason");
    }
}

static enum ld_code parse(struct held *held, struct ld_error *err)
{
    struct ld_json_tree tree;
    const enum ld_code code = ld_json_scan(&tree, ld_span_of(held->text.data, held->text.size), 16,
                                           VALUES_MAX, &held->arena, err);
    if (code != LD_OK)
        return code;
    if (ld_json_root(&tree)->kind != LD_JSON_OBJECT_BEGIN)
        return LD_FAIL(err, LD_E_FORMAT, "the inventory is not an object");
    struct reader reader = {&tree, &held->arena, false};
    read_models(&reader, &held->shown);
    read_adapters(&reader, &held->shown);
    read_embeddings(&reader, &held->shown);
    read_controlnets(&reader, &held->shown);
    read_names(&reader, "vaes", &held->shown.vaes, &held->shown.vae_count);
    read_names(&reader, "wildcards", &held->shown.wildcards, &held->shown.wildcard_count);
    read_unusable(&reader, &held->shown);
    return reader.failed ? LD_FAIL(err, LD_E_NOMEM, "the inventory is too large") : LD_OK;
}

/* ---- Sharing --------------------------------------------------------------------------------- */

static void destroy(struct held *held)
{
    if (!held)
        return;
    ld_arena_deinit(&held->arena);
    ld_buffer_deinit(&held->text);
    ld_heap_free(held);
}

enum ld_code ld_inventory_box_create(struct ld_inventory_box **box, struct ld_error *err)
{
    *box = ld_heap_alloc(sizeof **box);
    if (!*box)
        return LD_FAIL(err, LD_E_NOMEM, "out of memory");
    (void)pthread_mutex_init(&(*box)->lock, NULL);
    return LD_OK;
}

void ld_inventory_box_destroy(struct ld_inventory_box *box)
{
    if (!box)
        return;
    destroy(box->current);
    (void)pthread_mutex_destroy(&box->lock);
    ld_heap_free(box);
}

/* With the lock. */
static void let_go(struct held *held)
{
    if (held && --held->holders == 0)
        destroy(held);
}

enum ld_code ld_inventory_set(struct ld_inventory_box *box, const char *json, struct ld_error *err)
{
    struct held *held = ld_heap_alloc(sizeof *held);
    if (!held)
        return LD_FAIL(err, LD_E_NOMEM, "out of memory");
    ld_arena_init(&held->arena, "inventory", ARENA_BYTES);
    held->text = ld_buffer_make(ARENA_BYTES);
    ld_buffer_text(&held->text, json);
    const enum ld_code code =
        held->text.failed ? LD_FAIL(err, LD_E_NOMEM, "out of memory") : parse(held, err);
    if (code != LD_OK) {
        destroy(held);
        return code;
    }
    held->holders = 1;
    pthread_mutex_lock(&box->lock);
    let_go(box->current);
    box->current = held;
    pthread_mutex_unlock(&box->lock);
    return LD_OK;
}

const struct ld_inventory *ld_inventory_acquire(struct ld_inventory_box *box)
{
    pthread_mutex_lock(&box->lock);
    struct held *held = box->current;
    if (held)
        held->holders++;
    pthread_mutex_unlock(&box->lock);
    return held ? &held->shown : NULL;
}

void ld_inventory_release(struct ld_inventory_box *box, const struct ld_inventory *inventory)
{
    if (!inventory)
        return;
    struct held *held;
    memcpy(&held, &inventory, sizeof held); /* `shown` is its first member, and it is ours */
    pthread_mutex_lock(&box->lock);
    let_go(held);
    pthread_mutex_unlock(&box->lock);
}

/* ---- Names ----------------------------------------------------------------------------------- */

static const char *model_name(void *ctx, const char *name)
{
    const struct ld_model_view *model = ld_inventory_model(ctx, name);
    return model ? model->name : NULL;
}

static const char *adapter_name(void *ctx, const char *name)
{
    const struct ld_inventory *inventory = ctx;
    for (uint32_t i = 0; i < inventory->adapter_count; i++) {
        if (strcmp(inventory->adapters[i].name, name) == 0)
            return inventory->adapters[i].name;
    }
    return NULL;
}

static const char *vae_name(void *ctx, const char *name)
{
    const struct ld_inventory *inventory = ctx;
    for (uint32_t i = 0; i < inventory->vae_count; i++) {
        if (strcmp(inventory->vaes[i], name) == 0)
            return inventory->vaes[i];
    }
    return NULL;
}

static const char *controlnet_name(void *ctx, const char *name)
{
    const struct ld_inventory *inventory = ctx;
    for (uint32_t i = 0; i < inventory->controlnet_count; i++) {
        if (strcmp(inventory->controlnets[i].name, name) == 0)
            return inventory->controlnets[i].name;
    }
    return NULL;
}

static const char *why_unusable(void *ctx, const char *kind, const char *name)
{
    return ld_inventory_unusable(ctx, kind, name);
}

static const char *model_at(void *ctx, uint32_t index)
{
    const struct ld_inventory *inventory = ctx;
    return index < inventory->model_count ? inventory->models[index].name : NULL;
}

static const char *adapter_at(void *ctx, uint32_t index)
{
    const struct ld_inventory *inventory = ctx;
    return index < inventory->adapter_count ? inventory->adapters[index].name : NULL;
}

static const char *vae_at(void *ctx, uint32_t index)
{
    const struct ld_inventory *inventory = ctx;
    return index < inventory->vae_count ? inventory->vaes[index] : NULL;
}

static const char *controlnet_at(void *ctx, uint32_t index)
{
    const struct ld_inventory *inventory = ctx;
    return index < inventory->controlnet_count ? inventory->controlnets[index].name : NULL;
}

void ld_inventory_names(const struct ld_inventory *inventory, struct ld_api_names *names)
{
    if (!inventory)
        return;
    /* The functions above only read it. */
    memcpy(&names->ctx, &inventory, sizeof names->ctx);
    names->model = model_name;
    names->adapter = adapter_name;
    names->vae = vae_name;
    names->controlnet = controlnet_name;
    names->unusable = why_unusable;
    names->model_at = model_at;
    names->adapter_at = adapter_at;
    names->vae_at = vae_at;
    names->controlnet_at = controlnet_at;
}

static bool adapter_known(void *ctx, uint32_t index, struct ld_known_adapter *out)
{
    const struct ld_inventory *inventory = ctx;
    if (index >= inventory->adapter_count)
        return false;
    *out = (struct ld_known_adapter){inventory->adapters[index].name,
                                     inventory->adapters[index].recipe_text};
    return true;
}

struct ld_adapter_list ld_inventory_adapters(const struct ld_inventory *inventory)
{
    struct ld_adapter_list list = {.at = adapter_known};
    memcpy(&list.ctx, &inventory, sizeof list.ctx); /* only read */
    return list;
}

const struct ld_model_view *ld_inventory_model(const struct ld_inventory *inventory,
                                               const char *name)
{
    for (uint32_t i = 0; inventory && i < inventory->model_count; i++) {
        const struct ld_model_view *model = &inventory->models[i];
        if (*name ? strcmp(model->name, name) == 0 : model->is_default)
            return model;
    }
    return NULL;
}

const char *ld_inventory_unusable(const struct ld_inventory *inventory, const char *kind,
                                  const char *name)
{
    for (uint32_t i = 0; inventory && i < inventory->unusable_count; i++) {
        const struct ld_unusable_view *view = &inventory->unusable[i];
        if (strcasecmp(view->kind, kind) == 0 &&
            strcmp(view->name, name) == 0) /* "VAE", "ControlNet" */
            return view->reason;
    }
    return NULL;
}
