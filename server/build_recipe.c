#include "server/build_recipe.h"

#include "config/limits.h"
#include "config/nearest.h"
#include "runtime/params.h"
#include "server/names.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PATH_SIZE = 4096, POINTER_SIZE = 128, MODELS_MAX = 3 };

typedef const struct ld_json_node *node_ref;

/* ---- Refusals -------------------------------------------------------------------------------- */

static LD_PRINTF(4, 5) bool refuse(struct ld_build_recipe *recipe, enum ld_code code, node_ref node,
                                   const char *format, ...)
{
    char pointer[POINTER_SIZE] = "";
    char sentence[LD_ERROR_DETAIL_SIZE];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(sentence, sizeof sentence, format, args);
    va_end(args);
    if (node)
        ld_json_pointer(recipe->tree, node, pointer, sizeof pointer);
    (void)ld_problem_add(recipe->problem, code, pointer, "%s", sentence);
    return false;
}

static bool no_memory(struct ld_build_recipe *recipe)
{
    return refuse(recipe, LD_E_NOMEM, NULL, "out of memory");
}

/* An object whose members are all of `known` (ended by NULL). */
static bool check_members(struct ld_build_recipe *recipe, node_ref object, const char *const *known)
{
    if (object->kind != LD_JSON_OBJECT_BEGIN)
        return refuse(recipe, LD_E_INVALID, object, "must be an object");
    for (node_ref node = ld_json_first(recipe->tree, object); node;
         node = ld_json_after(recipe->tree, node)) {
        struct ld_nearest nearest = ld_nearest_to(node->key);
        bool found = false;
        for (uint32_t i = 0; known[i]; i++) {
            found = found || ld_span_is(node->key, known[i]);
            ld_nearest_offer(&nearest, known[i]);
        }
        if (found)
            continue;
        return refuse(recipe, LD_E_INVALID, node, "unknown field %.*s%s",
                      (int)(node->key.size < 64 ? node->key.size : 64),
                      (const char *)node->key.data, ld_nearest_hint(&nearest));
    }
    return true;
}

/* A string as a C string; NULL after a refusal. */
static const char *text_of(struct ld_build_recipe *recipe, node_ref node)
{
    struct ld_span text;
    if (node->kind != LD_JSON_STRING) {
        (void)refuse(recipe, LD_E_INVALID, node, "must be a string");
        return NULL;
    }
    const char *copy = NULL;
    if (ld_json_string_text(node, recipe->arena, &text))
        copy = ld_arena_strndup(recipe->arena, (const char *)text.data, text.size);
    if (!copy)
        (void)no_memory(recipe);
    else if (strlen(copy) == text.size)
        return copy;
    else
        (void)refuse(recipe, LD_E_INVALID, node, "must not hold U+0000");
    return NULL;
}

/* ---- Words ----------------------------------------------------------------------------------- */

static bool add_word(struct ld_build_recipe *recipe, const char *word)
{
    char *copy = ld_arena_strdup(recipe->arena, word);
    if (!copy || recipe->count == LD_BUILD_WORDS_MAX)
        return no_memory(recipe);
    recipe->argv[recipe->count++] = copy;
    return true;
}

static bool add_flag(struct ld_build_recipe *recipe, const char *flag, const char *value)
{
    return add_word(recipe, flag) && add_word(recipe, value);
}

/* A number between bounds, if it is there. */
static bool add_number(struct ld_build_recipe *recipe, node_ref object, const char *member,
                       double low, double high)
{
    char flag[32];
    char text[64];
    double number;
    const node_ref node = ld_json_member(recipe->tree, object, member);
    if (!node)
        return true;
    if (!ld_json_number(node, &number) || number < low || number > high)
        return refuse(recipe, LD_E_RANGE, node, "%s must be a number between %g and %g", member,
                      low, high);
    (void)ld_fmt(flag, sizeof flag, "--%s", member);
    (void)ld_fmt(text, sizeof text, "%.17g", number);
    return add_flag(recipe, flag, text);
}

static bool is_norm(const char *word)
{
    return strcmp(word, "merged") == 0 || strcmp(word, "comfy") == 0;
}

static bool add_choice(struct ld_build_recipe *recipe, node_ref object, const char *member,
                       const char *flag, bool (*known)(const char *word), const char *sentence)
{
    const node_ref node = ld_json_member(recipe->tree, object, member);
    if (!node)
        return true;
    const char *word = text_of(recipe, node);
    if (!word)
        return false;
    return known(word) ? add_flag(recipe, flag, word)
                       : refuse(recipe, LD_E_RANGE, node, "%s", sentence);
}

static bool add_dtype(struct ld_build_recipe *recipe, node_ref object)
{
    return add_choice(recipe, object, "dtype", "--dtype", ld_names_is_storage,
                      "dtype must be keep, fp32, fp16, bf16 or fp8");
}

/* ---- Inputs ---------------------------------------------------------------------------------- */

enum input { INPUT_MODEL, INPUT_ADAPTER, INPUT_VAE };

static bool is_known(const struct ld_inventory *inventory, enum input kind, const char *name)
{
    if (!inventory || !ld_name_is_plausible(ld_span_text(name)))
        return false;
    if (kind == INPUT_MODEL)
        return ld_inventory_model(inventory, name) != NULL;
    const uint32_t count = kind == INPUT_VAE ? inventory->vae_count : inventory->adapter_count;
    for (uint32_t i = 0; i < count; i++) {
        const char *there = kind == INPUT_VAE ? inventory->vaes[i] : inventory->adapters[i].name;
        if (strcmp(there, name) == 0)
            return true;
    }
    return false;
}

/* The file or model folder that the name stands for, by the worker's rules. */
static bool find_file(struct ld_build_recipe *recipe, enum input kind, const char *name,
                      char path[PATH_SIZE])
{
    struct stat info;
    char folder[PATH_SIZE];
    const struct ld_settings *settings = recipe->settings;
    const char *given = kind == INPUT_MODEL ? settings->model_dir
                        : kind == INPUT_VAE ? settings->vae_dir
                                            : settings->adapter_dir;
    const struct ld_model_view *model =
        kind == INPUT_MODEL ? ld_inventory_model(recipe->inventory, name) : NULL;
    if (model && model->is_default && settings->model[0] &&
        realpath(settings->model, path) != NULL && stat(path, &info) == 0) {
        recipe->bytes += S_ISREG(info.st_mode) ? (uint64_t)info.st_size : model->bytes;
        return true;
    }
    if (!given[0] || !realpath(given, folder))
        return false;
    if (ld_fmt(path, PATH_SIZE, "%s/%s.safetensors", folder, name) && lstat(path, &info) == 0 &&
        S_ISREG(info.st_mode)) {
        recipe->bytes += (uint64_t)info.st_size;
        return true;
    }
    if (!model || !ld_fmt(path, PATH_SIZE, "%s/%s", folder, name) || lstat(path, &info) != 0 ||
        !S_ISDIR(info.st_mode))
        return false;
    recipe->bytes += model->bytes;
    return true;
}

static bool input_path(struct ld_build_recipe *recipe, enum input kind, node_ref node,
                       char path[PATH_SIZE])
{
    static const char *const kinds[] = {"model", "adapter", "VAE"};
    const char *name = text_of(recipe, node);
    if (!name)
        return false;
    if (name[0] && is_known(recipe->inventory, kind, name) && find_file(recipe, kind, name, path))
        return true;
    return refuse(recipe, LD_E_INVALID, node, "there is no %s '%.100s' here", kinds[kind], name);
}

/* A VAE may also be that of a model. */
static bool add_part(struct ld_build_recipe *recipe, node_ref object, const char *member,
                     const char *flag)
{
    char path[PATH_SIZE];
    const node_ref node = ld_json_member(recipe->tree, object, member);
    if (!node)
        return true;
    const char *name = text_of(recipe, node);
    if (!name)
        return false;
    const bool vae = strcmp(member, "vae") == 0 && is_known(recipe->inventory, INPUT_VAE, name);
    return input_path(recipe, vae ? INPUT_VAE : INPUT_MODEL, node, path) &&
           add_flag(recipe, flag, path);
}

static bool weight_of(struct ld_build_recipe *recipe, node_ref object, const char *member,
                      double *weight)
{
    const node_ref node = ld_json_member(recipe->tree, object, member);
    if (!node || (ld_json_number(node, weight) && *weight >= -LD_LORA_WEIGHT_MAX &&
                  *weight <= LD_LORA_WEIGHT_MAX))
        return true;
    return refuse(recipe, LD_E_RANGE, node, "weights must be between -%d and %d",
                  LD_LORA_WEIGHT_MAX, LD_LORA_WEIGHT_MAX);
}

static bool add_adapter(struct ld_build_recipe *recipe, node_ref item)
{
    static const char *const known[] = {"name", "weight", "text_weight", NULL};
    char path[PATH_SIZE];
    char word[PATH_SIZE + 64];
    double weight = 1;
    if (!check_members(recipe, item, known))
        return false;
    const node_ref name = ld_json_member(recipe->tree, item, "name");
    if (!name)
        return refuse(recipe, LD_E_INVALID, item, "an adapter needs a name");
    if (!input_path(recipe, INPUT_ADAPTER, name, path) ||
        !weight_of(recipe, item, "weight", &weight))
        return false;
    double text_weight = weight;
    if (!weight_of(recipe, item, "text_weight", &text_weight))
        return false;
    (void)ld_fmt(word, sizeof word, "%s:%.17g:%.17g", path, weight, text_weight);
    return add_flag(recipe, "--adapter", word);
}

static bool add_adapters(struct ld_build_recipe *recipe, node_ref object)
{
    const node_ref list = ld_json_member(recipe->tree, object, "adapters");
    if (!list)
        return true;
    if (list->kind != LD_JSON_ARRAY_BEGIN || list->child_count > LD_LORAS_MAX)
        return refuse(recipe, LD_E_INVALID, list, "adapters must be a list of at most %d",
                      LD_LORAS_MAX);
    for (node_ref item = ld_json_first(recipe->tree, list); item;
         item = ld_json_after(recipe->tree, item))
        if (!add_adapter(recipe, item))
            return false;
    return true;
}

/* ---- Merging --------------------------------------------------------------------------------- */

static bool add_blocks(struct ld_build_recipe *recipe, node_ref object)
{
    char pair[64];
    const int most = ld_names_merge_weight_max();
    struct ld_buffer list = ld_buffer_make(4096);
    const node_ref blocks = ld_json_member(recipe->tree, object, "blocks");
    bool good = true;
    if (!blocks)
        return true;
    if (blocks->kind != LD_JSON_OBJECT_BEGIN || blocks->child_count == 0)
        return refuse(recipe, LD_E_INVALID, blocks,
                      "blocks must be an object of block names and numbers");
    for (node_ref node = ld_json_first(recipe->tree, blocks); good && node;
         node = ld_json_after(recipe->tree, node)) {
        double number = 0;
        if (!ld_names_is_merge_block(node->key))
            good = refuse(recipe, LD_E_INVALID, node,
                          "is no block; they are BASE, IN00..IN11, M00, OUT00..OUT11");
        else if (!ld_json_number(node, &number) || fabs(number) > most)
            good = refuse(recipe, LD_E_RANGE, node,
                          "a block's weight must be a number between -%d and %d", most, most);
        (void)ld_fmt(pair, sizeof pair, "%s%.*s=%.17g", list.size ? "," : "", (int)node->key.size,
                     (const char *)node->key.data, number);
        ld_buffer_text(&list, pair);
    }
    if (good && list.failed)
        good = no_memory(recipe);
    if (good)
        good = add_flag(recipe, "--blocks", list.data);
    ld_buffer_deinit(&list);
    return good;
}

static bool add_models(struct ld_build_recipe *recipe, node_ref object, uint32_t *count)
{
    char path[PATH_SIZE];
    const node_ref list = ld_json_member(recipe->tree, object, "models");
    if (!list || list->kind != LD_JSON_ARRAY_BEGIN || list->child_count == 0 ||
        list->child_count > MODELS_MAX)
        return refuse(recipe, LD_E_INVALID, list ? list : object,
                      "models must be a list of 1 to 3 names");
    for (node_ref node = ld_json_first(recipe->tree, list); node;
         node = ld_json_after(recipe->tree, node))
        if (!input_path(recipe, INPUT_MODEL, node, path) || !add_word(recipe, path))
            return false;
    *count = list->child_count;
    return true;
}

static bool add_op(struct ld_build_recipe *recipe, node_ref object, uint32_t models)
{
    const node_ref node = ld_json_member(recipe->tree, object, "op");
    if (!node) {
        const bool enough = models > 1 || ld_json_member(recipe->tree, object, "vae") ||
                            ld_json_member(recipe->tree, object, "text") ||
                            ld_json_member(recipe->tree, object, "adapters");
        return enough || refuse(recipe, LD_E_INVALID, object,
                                "one model alone needs vae, text or adapters (or use convert)");
    }
    const char *op = text_of(recipe, node);
    if (!op)
        return false;
    const uint32_t wanted = ld_names_merge_models(op);
    if (wanted == 0)
        return refuse(recipe, LD_E_RANGE, node,
                      "op must be weighted_sum, block_weighted_sum, sum_twice, add_difference, "
                      "cosine_a, cosine_b, ties, dare or none");
    if (wanted != models)
        return refuse(recipe, LD_E_INVALID, node, "%s takes %u model%s, not %u", op, wanted,
                      wanted == 1 ? "" : "s", models);
    return add_flag(recipe, "--op", op);
}

static bool read_merge(struct ld_build_recipe *recipe, node_ref object)
{
    static const char *const known[] = {"models",   "op",        "alpha",  "beta", "blocks",
                                        "density",  "drop",      "lambda", "vae",  "text",
                                        "adapters", "dora_norm", "dtype",  NULL};
    const int most = ld_names_merge_weight_max();
    uint32_t models = 0;
    return check_members(recipe, object, known) && add_word(recipe, "merge") &&
           add_models(recipe, object, &models) && add_op(recipe, object, models) &&
           add_number(recipe, object, "alpha", -most, most) &&
           add_number(recipe, object, "beta", -most, most) &&
           add_number(recipe, object, "density", 0, 1) &&
           add_number(recipe, object, "drop", 0, 0.999) &&
           add_number(recipe, object, "lambda", -most, most) && add_blocks(recipe, object) &&
           add_part(recipe, object, "vae", "--vae") && add_part(recipe, object, "text", "--text") &&
           add_adapters(recipe, object) &&
           add_choice(recipe, object, "dora_norm", "--dora-norm", is_norm,
                      "dora_norm must be merged or comfy") &&
           add_dtype(recipe, object);
}

/* ---- Converting ------------------------------------------------------------------------------ */

static bool read_convert(struct ld_build_recipe *recipe, node_ref object)
{
    static const char *const known[] = {"model", "dtype", "ema", NULL};
    char path[PATH_SIZE];
    if (!check_members(recipe, object, known))
        return false;
    const node_ref model = ld_json_member(recipe->tree, object, "model");
    const node_ref ema = ld_json_member(recipe->tree, object, "ema");
    if (!model)
        return refuse(recipe, LD_E_INVALID, object, "convert needs a model");
    if (ema && ema->kind != LD_JSON_TRUE && ema->kind != LD_JSON_FALSE)
        return refuse(recipe, LD_E_INVALID, ema, "ema must be true or false");
    return add_word(recipe, "convert") && input_path(recipe, INPUT_MODEL, model, path) &&
           add_word(recipe, path) && add_dtype(recipe, object) &&
           (!ema || ema->kind == LD_JSON_FALSE || add_word(recipe, "--ema"));
}

/* ---- The place ------------------------------------------------------------------------------- */

static bool find_folder(struct ld_build_recipe *recipe)
{
    char folder[PATH_SIZE];
    if (!recipe->settings->model_dir[0] || !realpath(recipe->settings->model_dir, folder))
        return refuse(recipe, LD_E_CONFLICT, NULL,
                      "the server has no folder of models (models.dir) to put one in");
    if (faccessat(AT_FDCWD, folder, W_OK | X_OK, AT_EACCESS) != 0)
        return refuse(recipe, LD_E_FORBIDDEN, NULL,
                      "the server may not write to its folder of models (models.dir)");
    recipe->folder = ld_arena_strdup(recipe->arena, folder);
    return recipe->folder || no_memory(recipe);
}

static bool read_name(struct ld_build_recipe *recipe, node_ref root)
{
    struct stat info;
    char path[PATH_SIZE];
    const node_ref node = ld_json_member(recipe->tree, root, "name");
    if (!node)
        return refuse(recipe, LD_E_INVALID, root, "the new model needs a name");
    const char *name = text_of(recipe, node);
    if (!name)
        return false;
    if (!ld_name_is_plausible(ld_span_text(name)) || strchr(name, '/') || name[0] == '.')
        return refuse(recipe, LD_E_INVALID, node,
                      "name must be a plain file name of at most 128 bytes, without '/' and not "
                      "beginning with '.'");
    const bool fits = ld_fmt(path, sizeof path, "%s/%s", recipe->folder, name);
    const bool folder = fits && lstat(path, &info) == 0;
    const bool file = ld_fmt(path, sizeof path, "%s/%s.safetensors", recipe->folder, name) &&
                      lstat(path, &info) == 0;
    if (folder || file || is_known(recipe->inventory, INPUT_MODEL, name))
        return refuse(recipe, LD_E_CONFLICT, node, "there is a model of this name already");
    recipe->name = name;
    return add_flag(recipe, "-o", path) && add_word(recipe, "--json") &&
           add_word(recipe, "--quiet");
}

bool ld_build_recipe_read(struct ld_build_recipe *recipe)
{
    static const char *const known[] = {"name", "merge", "convert", NULL};
    const node_ref root = ld_json_root(recipe->tree);
    if (!check_members(recipe, root, known))
        return false;
    const node_ref merge = ld_json_member(recipe->tree, root, "merge");
    const node_ref convert = ld_json_member(recipe->tree, root, "convert");
    if (!merge == !convert)
        return refuse(recipe, LD_E_INVALID, root, "either merge or convert is needed");
    return add_word(recipe, "latentd") &&
           (merge ? read_merge(recipe, merge) : read_convert(recipe, convert)) &&
           find_folder(recipe) && read_name(recipe, root);
}
