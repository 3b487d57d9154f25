/* Cases of the files themselves: containers, element types, detection, adapters, merging. */
#include "runtime/model/adapter.h"
#include "runtime/model/detect.h"
#include "runtime/model/embedding.h"
#include "runtime/model/merge.h"
#include "runtime/model/safetensors.h"
#include "tests/golden_check/gc.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- Containers ------------------------------------------------------------------------------ */

/*
 * Does the file end before the data its own header declares? No reader can take such a file,
 * whatever an index says of it (`st/data_truncated.safetensors` is refused for nothing else), so a
 * case that asks for it has lost its end and judges nobody. Read with a JSON library of its own.
 */
static bool is_cut(const char *path)
{
    size_t size;
    bool cut = false;
    char *bytes = gc_read_file(path, &size);
    const uint64_t length = bytes && size >= 8 ? ld_read_u64le((const uint8_t *)bytes) : UINT64_MAX;
    json_t *header =
        length <= size - 8 && bytes ? json_loadb(bytes + 8, (size_t)length, 0, NULL) : NULL;
    const char *name;
    json_t *entry;
    json_object_foreach(header, name, entry)
    {
        const json_t *end = json_array_get(json_object_get(entry, "data_offsets"), 1);
        cut = cut || (json_is_integer(end) &&
                      json_integer_value(end) > (json_int_t)(size - 8 - (size_t)length));
    }
    json_decref(header);
    free(bytes);
    return cut;
}

static void run_container(struct gc *gc, const char *root, const json_t *item)
{
    const char *name = json_string_value(json_object_get(item, "file"));
    const char *class = json_string_value(json_object_get(item, "error_class"));
    const bool accept = json_is_true(json_object_get(item, "accept"));
    char path[4096];
    if (!name || !gc_find(gc, root, name, path, sizeof path)) {
        gc_fail(gc, name ? name : "st", "file not found");
        return;
    }
    if (accept && is_cut(path)) {
        gc_skip(gc, name, "the case's file ends before the data that its header declares");
        return;
    }
    struct ld_safetensors *file;
    struct ld_error err = {0};
    enum ld_st_class why;
    const enum ld_code code = ld_safetensors_open(&file, path, &why, &err);
    const bool right = accept ? code == LD_OK
                              : code != LD_OK && class && strcmp(class, ld_st_class_name(why)) == 0;
    if (!right)
        fprintf(stderr, "%s: got %s (%s)\n", name, ld_st_class_name(why), err.detail);
    gc_exact(gc, name, right);
    ld_safetensors_close(file);
}

static void run_st_index(struct gc *gc, const char *root, const char *path)
{
    json_t *index = json_load_file(path, 0, NULL);
    if (!json_is_array(index))
        gc_fail(gc, path, "not a JSON array");
    size_t i;
    json_t *item;
    json_array_foreach(index, i, item) run_container(gc, root, item);
    json_decref(index);
}

/* ---- Element types --------------------------------------------------------------------------- */

static bool same_bits_or_both_nan(const float *a, const float *b, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (a[i] != a[i] && b[i] != b[i])
            continue;
        if (memcmp(&a[i], &b[i], sizeof *a) != 0)
            return false;
    }
    return true;
}

static void run_dtypes(struct gc *gc, const char *root, const char *path)
{
    (void)root;
    static const char prefix[] = "expect.";
    struct ld_safetensors *file;
    if (ld_safetensors_open(&file, path, NULL, NULL) != LD_OK) {
        gc_fail(gc, path, "cannot be opened");
        return;
    }
    for (uint32_t i = 0; i < ld_safetensors_count(file); i++) {
        const struct ld_st_tensor *expected = ld_safetensors_at(file, i);
        if (strncmp(expected->name, prefix, sizeof prefix - 1) != 0)
            continue;
        const char *name = expected->name + sizeof prefix - 1;
        const struct ld_st_tensor *codes = ld_safetensors_find(file, name);
        const size_t count = (size_t)ld_st_elements(expected);
        float *a = calloc(count + 1, sizeof *a);
        float *b = calloc(count + 1, sizeof *b);
        bool right = codes && a && b && ld_st_elements(codes) == count;
        if (right) {
            ld_safetensors_decode(file, codes, a, count);
            ld_safetensors_decode(file, expected, b, count);
            right = same_bits_or_both_nan(a, b, count);
        }
        char label[64];
        snprintf(label, sizeof label, "dtypes/%s", name);
        gc_exact(gc, label, right);
        free(a);
        free(b);
    }
    ld_safetensors_close(file);
}

/* ---- Detection ------------------------------------------------------------------------------- */

enum { ITEMS_MAX = 4096, ITEM_NAME = 256 };

struct inventory {
    struct ld_inventory_item items[ITEMS_MAX];
    char names[ITEMS_MAX][ITEM_NAME];
    uint32_t count;
    uint32_t slots;                         /* names used; only grows within a case */
    char prediction[64], test_config[1024]; /* metadata; "" if absent */
};

static enum ld_dtype dtype_of(const char *name)
{
    for (int dtype = 0; dtype < LD_DTYPE_OTHER; dtype++) {
        if (strcmp(name, ld_dtype_name((enum ld_dtype)dtype)) == 0)
            return (enum ld_dtype)dtype;
    }
    return LD_DTYPE_OTHER;
}

/* `source` keeps the number of the name's slot, as sorting moves the items. */
static void add_item(struct inventory *inventory, const char *name, const json_t *shape,
                     enum ld_dtype dtype)
{
    if (inventory->slots == ITEMS_MAX)
        return;
    struct ld_inventory_item *item = &inventory->items[inventory->count++];
    memset(item, 0, sizeof *item);
    snprintf(inventory->names[inventory->slots], ITEM_NAME, "%s", name);
    item->source = inventory->slots++;
    item->dtype = dtype;
    item->rank = (uint32_t)json_array_size(shape);
    for (uint32_t i = 0; i < item->rank && i < LD_RANK_MAX; i++)
        item->shape[i] = (uint64_t)json_integer_value(json_array_get(shape, i));
}

static void load_inventory(struct inventory *inventory, const json_t *keys)
{
    inventory->count = inventory->slots = 0;
    inventory->prediction[0] = inventory->test_config[0] = 0;
    size_t i;
    json_t *tensor;
    json_array_foreach(json_object_get(keys, "tensors"), i, tensor)
    {
        const char *name = json_string_value(json_object_get(tensor, "name"));
        if (json_is_true(json_object_get(tensor, "required")) || strstr(name, "position_ids"))
            add_item(inventory, name, json_object_get(tensor, "shape"), LD_DTYPE_F16);
    }
}

static bool starts(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

static void remove_items(struct inventory *inventory, const char *name, bool prefix)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < inventory->count; i++) {
        const char *own = inventory->names[inventory->items[i].source];
        if (prefix ? starts(own, name) : strcmp(own, name) == 0)
            continue;
        inventory->items[kept++] = inventory->items[i];
    }
    inventory->count = kept;
}

static void rename_items(struct inventory *inventory, const char *old, const char *new, bool prefix)
{
    for (uint32_t i = 0; i < inventory->count; i++) {
        char *own = inventory->names[inventory->items[i].source];
        char fresh[ITEM_NAME];
        if (prefix ? !starts(own, old) : strcmp(own, old) != 0)
            continue;
        snprintf(fresh, sizeof fresh, "%s%s", new, own + strlen(old));
        memcpy(own, fresh, sizeof fresh);
    }
}

static void retype_items(struct inventory *inventory, const char *name, const char *dtype,
                         bool prefix)
{
    for (uint32_t i = 0; i < inventory->count; i++) {
        const char *own = inventory->names[inventory->items[i].source];
        if (prefix ? starts(own, name) : strcmp(own, name) == 0)
            inventory->items[i].dtype = dtype_of(dtype);
    }
}

static void reshape_item(struct inventory *inventory, const char *name, const json_t *shape)
{
    for (uint32_t i = 0; i < inventory->count; i++) {
        struct ld_inventory_item *item = &inventory->items[i];
        if (strcmp(inventory->names[item->source], name) != 0)
            continue;
        item->rank = (uint32_t)json_array_size(shape);
        for (uint32_t d = 0; d < item->rank; d++)
            item->shape[d] = (uint64_t)json_integer_value(json_array_get(shape, d));
    }
}

/* model_ema.<UNet key from diffusion_model on, dots removed> for every UNet tensor. */
static void add_ema(struct inventory *inventory)
{
    const uint32_t count = inventory->count;
    json_t *scalar = json_array();
    for (uint32_t i = 0; i < count && inventory->slots < ITEMS_MAX; i++) {
        const char *own = inventory->names[inventory->items[i].source];
        if (!starts(own, "model.diffusion_model."))
            continue;
        char name[ITEM_NAME] = "model_ema.";
        size_t size = strlen(name);
        for (const char *p = own + strlen("model."); *p; p++) {
            if (*p != '.')
                name[size++] = *p;
        }
        name[size] = 0;
        const struct ld_inventory_item copy = inventory->items[i];
        add_item(inventory, name, scalar, copy.dtype);
        struct ld_inventory_item *item = &inventory->items[inventory->count - 1];
        item->rank = copy.rank;
        memcpy(item->shape, copy.shape, sizeof item->shape);
    }
    add_item(inventory, "model_ema.decay", scalar, LD_DTYPE_F32);
    add_item(inventory, "model_ema.num_updates", scalar, LD_DTYPE_I64);
    json_decref(scalar);
}

/* Replace all by one diffusers folder; shapes come from the single-file names. */
static void use_diffusers(struct inventory *inventory, const json_t *keys, const json_t *map,
                          const char *folder)
{
    const json_t *flat = json_object_get(json_object_get(map, "reshape"), "keys");
    const char *name;
    json_t *target;
    inventory->count = 0;
    json_object_foreach(json_object_get((json_t *)(uintptr_t)map, folder), name, target)
    {
        size_t i;
        json_t *tensor;
        json_array_foreach(json_object_get(keys, "tensors"), i, tensor)
        {
            if (strcmp(json_string_value(json_object_get(tensor, "name")),
                       json_string_value(target)) != 0)
                continue;
            add_item(inventory, name, json_object_get(tensor, "shape"), LD_DTYPE_F16);
            size_t k;
            json_t *key;
            json_array_foreach(flat, k, key)
            {
                if (strcmp(json_string_value(key), name) == 0)
                    inventory->items[inventory->count - 1].rank = 2;
            }
        }
    }
}

static bool apply_edit(struct inventory *inventory, const json_t *edit, const json_t *keys,
                       const json_t *map)
{
    const char *op = json_string_value(json_array_get(edit, 0));
    const char *a = json_string_value(json_array_get(edit, 1));
    const char *b = json_string_value(json_array_get(edit, 2));
    if (strcmp(op, "remove") == 0 || strcmp(op, "remove_prefix") == 0)
        remove_items(inventory, a, op[6] != 0);
    else if (strcmp(op, "rename") == 0 || strcmp(op, "rename_prefix") == 0)
        rename_items(inventory, a, b, op[6] != 0);
    else if (strcmp(op, "retype") == 0 || strcmp(op, "retype_prefix") == 0)
        retype_items(inventory, a, b, op[6] != 0);
    else if (strcmp(op, "retype_all") == 0)
        retype_items(inventory, "", a, true);
    else if (strcmp(op, "add") == 0)
        add_item(inventory, a, json_array_get(edit, 2), LD_DTYPE_F32);
    else if (strcmp(op, "reshape") == 0)
        reshape_item(inventory, a, json_array_get(edit, 2));
    else if (strcmp(op, "add_ema") == 0)
        add_ema(inventory);
    else if (strcmp(op, "clear") == 0)
        inventory->count = 0;
    else if (strcmp(op, "diffusers") == 0)
        use_diffusers(inventory, keys, map, a);
    else if (strcmp(op, "metadata") == 0 && strcmp(a, "modelspec.prediction_type") == 0)
        snprintf(inventory->prediction, sizeof inventory->prediction, "%s", b);
    else if (strcmp(op, "metadata") == 0 && strcmp(a, "latentd.test_config") == 0)
        snprintf(inventory->test_config, sizeof inventory->test_config, "%s", b);
    else
        return strcmp(op, "metadata") == 0;
    return true;
}

static int by_item_name(const void *a, const void *b)
{
    return strcmp(((const struct ld_inventory_item *)a)->name,
                  ((const struct ld_inventory_item *)b)->name);
}

static bool expect_text(const json_t *expect, const char *key, const char *got)
{
    const char *wanted = json_string_value(json_object_get(expect, key));
    return !wanted || strcmp(wanted, got) == 0;
}

static bool expect_flag(const json_t *expect, const char *key, bool got)
{
    const json_t *wanted = json_object_get(expect, key);
    return !wanted || json_is_true(wanted) == got;
}

static bool judge(const struct ld_detection *found, const json_t *expect)
{
    static const char *const predictions[] = {"eps", "v", "x0"};
    const json_t *channels = json_object_get(expect, "in_channels");
    const bool ok = found->fault == LD_FAULT_NONE;
    return expect_flag(expect, "ok", ok) && expect_text(expect, "arch", ld_detection_name(found)) &&
           expect_text(expect, "error", ld_fault_name(found->fault)) &&
           expect_flag(expect, "unet", found->arch.has_unet) &&
           expect_flag(expect, "vae", found->arch.has_vae_decoder) &&
           expect_flag(expect, "text", found->arch.has_text) &&
           expect_flag(expect, "ema", found->has_ema) &&
           expect_flag(expect, "scaled_fp8", found->scaled_fp8) &&
           expect_text(expect, "prediction", predictions[found->arch.prediction]) &&
           (!channels || json_integer_value(channels) == found->arch.unet_in_channels) &&
           (!ok || json_integer_value(json_object_get(expect, "warnings")) == found->unknown);
}

static void run_detection(struct gc *gc, struct inventory *inventory, const json_t *item,
                          const json_t *keys, const json_t *map)
{
    char label[128];
    snprintf(label, sizeof label, "detect/%s", json_string_value(json_object_get(item, "id")));
    load_inventory(inventory, keys);
    bool understood = true;
    size_t i;
    json_t *edit;
    json_array_foreach(json_object_get(item, "edits"), i, edit) understood &=
        apply_edit(inventory, edit, keys, map);
    for (uint32_t k = 0; k < inventory->count; k++)
        inventory->items[k].name = inventory->names[inventory->items[k].source];
    qsort(inventory->items, inventory->count, sizeof inventory->items[0], by_item_name);
    const struct ld_inventory view = {
        .items = inventory->items,
        .count = inventory->count,
        .prediction_type = inventory->prediction[0] ? inventory->prediction : NULL,
        .test_config = inventory->test_config[0] ? inventory->test_config : NULL,
    };
    struct ld_detection found;
    const bool done = ld_detect(&found, &view, NULL, NULL) == LD_OK;
    const bool right = understood && done && judge(&found, json_object_get(item, "expect"));
    if (!right)
        fprintf(stderr, "%s: got %s, %s, %u unknown\n", label, ld_detection_name(&found),
                ld_fault_name(found.fault), found.unknown);
    gc_exact(gc, label, right);
    ld_detection_deinit(&found);
}

static json_t *load_spec(const struct gc *gc, const char *root, const char *name)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", gc->spec ? gc->spec : root, name);
    if (!gc->spec)
        snprintf(path, sizeof path, "%s/../../spec/%s", root, name);
    return json_load_file(path, 0, NULL);
}

static void run_detect(struct gc *gc, const char *root, const char *path)
{
    json_t *cases = json_load_file(path, 0, NULL);
    json_t *keys = load_spec(gc, root, "sd15_keys.json");
    json_t *map = load_spec(gc, root, "diffusers_key_map.json");
    struct inventory *inventory = calloc(1, sizeof *inventory);
    size_t i;
    json_t *item;
    if (!cases || !inventory)
        gc_fail(gc, path, "not a case file");
    json_array_foreach(json_object_get(cases, "cases"), i, item)
    {
        if (keys && map && inventory)
            run_detection(gc, inventory, item, keys, map);
        else
            gc_skip(gc, json_string_value(json_object_get(item, "id")),
                    "the tensor inventory is not there (--spec DIR)");
    }
    free(inventory);
    json_decref(map);
    json_decref(keys);
    json_decref(cases);
}

/* ---- Adapters -------------------------------------------------------------------------------- */

enum { GC_ADAPTERS_MAX = 8 }; /* of one case; they stay open until their values are made */

static bool apply_listed(struct gc *gc, const char *root, const json_t *item,
                         struct ld_weights *overlay, struct ld_adapter **adapters)
{
    const char *norm = json_string_value(json_object_get(item, "dora_norm"));
    size_t i;
    json_t *entry;
    json_array_foreach(json_object_get(item, "adapters"), i, entry)
    {
        char path[4096];
        const char *file = json_string_value(json_object_get(entry, "file"));
        const struct ld_adapter_options options = {
            .unet_strength = json_number_value(json_object_get(entry, "unet_strength")),
            .text_strength = json_number_value(json_object_get(entry, "te_strength")),
            .dora_norm = norm && strcmp(norm, "comfy") == 0 ? LD_DORA_COMFY : LD_DORA_MERGED,
        };
        struct ld_adapter_report report;
        if (i >= GC_ADAPTERS_MAX || !file || !gc_find(gc, root, file, path, sizeof path) ||
            ld_adapter_open(&adapters[i], path, NULL) != LD_OK ||
            ld_adapter_apply(adapters[i], overlay, &options, &report, NULL) != LD_OK ||
            report.modules_unmatched != 0)
            return false;
    }
    return true;
}

/* Every merged weight of the case, and that nothing else was touched. */
static void compare_merged(struct gc *gc, const char *id, const json_t *item,
                           struct gc_tensors *tensors, const struct ld_weights *overlay)
{
    char prefix[128];
    snprintf(prefix, sizeof prefix, "%s/W.", id);
    json_int_t compared = 0;
    size_t i;
    json_t *name;
    json_array_foreach(json_object_get(item, "tensors"), i, name)
    {
        const char *label = json_string_value(name);
        if (!starts(label, prefix))
            continue;
        struct gc_array expected = {0};
        struct ld_weight_view view;
        double *got = NULL;
        const bool there = gc_tensors_get(tensors, label, &expected) &&
                           ld_weights_make(overlay, label + strlen(prefix), NULL) == LD_OK &&
                           ld_weights_get(overlay, label + strlen(prefix), &view) &&
                           view.count == expected.count && view.dtype == LD_DTYPE_F32 &&
                           (got = calloc(view.count, sizeof *got)) != NULL;
        for (size_t k = 0; there && k < view.count; k++)
            got[k] = (double)((const float *)view.data)[k];
        if (there)
            gc_report(gc, label, gc_relative_l2(got, expected.data, expected.count), 2e-6);
        else
            gc_fail(gc, label, "not merged");
        compared++;
        free(got);
        gc_array_free(&expected);
    }
    json_int_t edited = 0;
    for (uint32_t k = 0; k < ld_weights_count(overlay); k++) {
        struct ld_weight_view view;
        ld_weights_at(overlay, k, &view);
        edited += ld_weights_is_edited(overlay, view.name);
    }
    snprintf(prefix, sizeof prefix, "%s/only_these", id);
    gc_exact(gc, prefix,
             edited == compared &&
                 edited == json_integer_value(json_object_get(item, "n_weights")));
}

static void run_adapters(struct gc *gc, const char *root, const char *path)
{
    char file[4096];
    json_t *cases = json_load_file(path, 0, NULL);
    struct ld_weights *base = NULL;
    struct gc_tensors *tensors = NULL;
    const char *tensors_file = json_string_value(json_object_get(cases, "tensors_file"));
    if (gc_find(gc, root, "tiny.safetensors", file, sizeof file) &&
        ld_weights_open(&base, file, NULL, NULL) == LD_OK && tensors_file &&
        gc_find(gc, root, tensors_file, file, sizeof file))
        tensors = gc_tensors_open(file);
    if (!cases || !base || !tensors)
        gc_fail(gc, path, "the case file, its tensors or the base model cannot be read");
    size_t i;
    json_t *item;
    json_array_foreach(json_object_get(cases, "cases"), i, item)
    {
        const char *id = json_string_value(json_object_get(item, "id"));
        struct ld_weights *overlay = NULL;
        struct ld_adapter *adapters[GC_ADAPTERS_MAX] = {0};
        if (!base || !tensors || !json_object_get(item, "adapters"))
            continue;
        if (ld_weights_overlay(&overlay, base, NULL) == LD_OK &&
            apply_listed(gc, root, item, overlay, adapters))
            compare_merged(gc, id, item, tensors, overlay);
        else
            gc_fail(gc, id, "the adapters cannot be applied");
        ld_weights_close(overlay);
        for (size_t a = 0; a < GC_ADAPTERS_MAX; a++)
            ld_adapter_close(adapters[a]);
    }
    if (tensors)
        gc_tensors_close(tensors);
    ld_weights_close(base);
    json_decref(cases);
}

/* ---- Embeddings ------------------------------------------------------------------------------ */

/* The files that the README says hold the same numbers do, and a width of the wrong model is
 * refused. Their effect on text is checked with the text encoder. */
static void run_embeddings(struct gc *gc, const char *root, const char *path)
{
    (void)path;
    static const char *const files[] = {"badhands.safetensors", "badhands_pt.pt",
                                        "badhands_concept.bin"};
    struct ld_embedding first = {0};
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        char relative[128];
        char file[4096];
        struct ld_embedding embedding = {0};
        struct ld_error err = {0};
        snprintf(relative, sizeof relative, "embeddings/%s", files[i]);
        if (!gc_find(gc, root, relative, file, sizeof file)) {
            gc_skip(gc, relative, "not there");
            continue;
        }
        const bool read = ld_embedding_open(&embedding, file, 0, &err) == LD_OK;
        if (!read)
            fprintf(stderr, "%s: %s\n", relative, err.detail);
        if (read && !first.values) {
            first = embedding;
            memset(&embedding, 0, sizeof embedding);
            gc_exact(gc, relative, true);
        } else {
            gc_exact(gc, relative,
                     read && embedding.vectors == first.vectors && embedding.width == first.width &&
                         memcmp(embedding.values, first.values,
                                sizeof(float) * (size_t)(first.vectors * first.width)) == 0);
        }
        ld_embedding_deinit(&embedding);
        snprintf(relative, sizeof relative, "embeddings/%s/other_width", files[i]);
        gc_exact(gc, relative,
                 ld_embedding_open(&embedding, file, first.width + 1, NULL) == LD_E_SHAPE);
        ld_embedding_deinit(&embedding);
    }
    ld_embedding_deinit(&first);
}

/* ---- Merging --------------------------------------------------------------------------------- */

/* `key` of the case names one of the inputs A, B, C. */
static const char *input_named(const json_t *item, const char *key, const char *otherwise)
{
    const char *name = json_string_value(json_object_get(item, key));
    return name ? name : otherwise;
}

static void read_list(const json_t *list, double *out)
{
    for (size_t i = 0; i < LD_MERGE_BLOCKS; i++)
        out[i] = json_number_value(json_array_get(list, i));
}

/* The recipe and which input is A, B and C of the operation. */
static bool read_recipe(const json_t *item, struct ld_merge_recipe *recipe, const char *inputs[3])
{
    const char *op = json_string_value(json_object_get(item, "op"));
    const json_t *weights = json_object_get(item, "weights");
    memset(recipe, 0, sizeof *recipe);
    inputs[0] = "A", inputs[1] = "B", inputs[2] = "C";
    int found = 0;
    while (found < LD_MERGE_OP_COUNT && strcmp(op, ld_merge_op_name((enum ld_merge_op)found)) != 0)
        found++;
    recipe->op = (enum ld_merge_op)found;
    recipe->alpha = json_number_value(json_object_get(item, "alpha"));
    recipe->density = json_number_value(json_object_get(item, "density"));
    recipe->drop = json_number_value(json_object_get(item, "drop"));
    recipe->lambda = json_number_value(json_object_get(item, "lam"));
    recipe->base = json_number_value(json_object_get(weights, "base"));
    recipe->middle = json_number_value(json_object_get(weights, "M"));
    read_list(json_object_get(weights, "IN"), recipe->in);
    read_list(json_object_get(weights, "OUT"), recipe->out);
    if (recipe->op == LD_MERGE_TIES) {
        const json_t *experts = json_object_get(item, "experts");
        inputs[0] = json_string_value(json_array_get(experts, 0));
        inputs[1] = json_string_value(json_array_get(experts, 1));
        inputs[2] = input_named(item, "base", "C");
    }
    if (recipe->op == LD_MERGE_DARE) {
        inputs[0] = input_named(item, "base", "A");
        inputs[1] = input_named(item, "expert", "B");
    }
    return found < LD_MERGE_OP_COUNT && inputs[0] && inputs[1];
}

static float *input_values(struct gc_tensors *tensors, const char *input, const char *name,
                           size_t count)
{
    char label[512];
    struct gc_array array = {0};
    float *values = calloc(count, sizeof *values);
    snprintf(label, sizeof label, "inputs/%s.%s", input, name);
    if (!values || !gc_tensors_get(tensors, label, &array) || array.count != count) {
        free(values);
        values = NULL;
    }
    for (size_t i = 0; values && i < count; i++)
        values[i] = (float)array.data[i];
    gc_array_free(&array);
    return values;
}

static void run_merge(struct gc *gc, const json_t *item, struct gc_tensors *tensors)
{
    const char *id = json_string_value(json_object_get(item, "id"));
    struct ld_merge_recipe recipe;
    const char *inputs[3];
    if (!read_recipe(item, &recipe, inputs)) {
        gc_fail(gc, id, "unknown operation");
        return;
    }
    size_t i;
    json_t *label;
    json_array_foreach(json_object_get(item, "tensors"), i, label)
    {
        const char *full = json_string_value(label);
        const char *name = full + strlen(id) + 1;
        struct gc_array expected = {0};
        float *values[3] = {NULL, NULL, NULL};
        bool ready = gc_tensors_get(tensors, full, &expected);
        for (int k = 0; ready && k < 3; k++)
            ready = (values[k] = input_values(tensors, inputs[k], name, expected.count)) != NULL;
        ready = ready && ld_merge_tensor(values[0], &recipe, name, values[0], values[1], values[2],
                                         expected.count, NULL) == LD_OK;
        double *got = calloc(expected.count + 1, sizeof *got);
        for (size_t k = 0; ready && got && k < expected.count; k++)
            got[k] = (double)values[0][k];
        if (ready && got)
            gc_report(gc, full, gc_relative_l2(got, expected.data, expected.count), 2e-6);
        else
            gc_fail(gc, full, "not merged");
        free(got);
        for (int k = 0; k < 3; k++)
            free(values[k]);
        gc_array_free(&expected);
    }
}

static void run_merges(struct gc *gc, const char *root, const char *path)
{
    char file[4096];
    json_t *cases = json_load_file(path, 0, NULL);
    const char *tensors_file = json_string_value(json_object_get(cases, "tensors_file"));
    struct gc_tensors *tensors = NULL;
    if (tensors_file && gc_find(gc, root, tensors_file, file, sizeof file))
        tensors = gc_tensors_open(file);
    if (!tensors)
        gc_fail(gc, path, "the case file or its tensors cannot be read");
    size_t i;
    json_t *item;
    json_array_foreach(json_object_get(cases, "cases"), i, item)
    {
        if (tensors && json_object_get(item, "op"))
            run_merge(gc, item, tensors);
    }
    if (tensors)
        gc_tensors_close(tensors);
    json_decref(cases);
}

const struct gc_kind gc_kinds_weights[] = {
    {"st_index.json", run_st_index},
    {"dtypes.safetensors", run_dtypes},
    {"detect.json", run_detect},
    {"adapters.json", run_adapters},
    {"ti.json", run_embeddings},
    {"merges.json", run_merges},
    {NULL, NULL},
};
