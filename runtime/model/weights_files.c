#include "runtime/model/weights_files.h"

#include "runtime/base/arena.h"
#include "runtime/base/fsx.h"
#include "runtime/base/json.h"
#include "runtime/model/magic.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PATH_SIZE = 4096, INDEX_MAX = 16 << 20, CONFIG_MAX = 1 << 20 };

/* Parts in the order of their names, and the stem of their files. */
static const struct {
    const char *folder, *stem;
} parts[] = {
    {"text_encoder", "model"},
    {"unet", "diffusion_pytorch_model"},
    {"vae", "diffusion_pytorch_model"},
};

/* ---- One file -------------------------------------------------------------------------------- */

static enum ld_code add_file(struct ld_weight_files *out, const char *path, struct ld_error *err)
{
    if (out->count == LD_WEIGHT_FILES_MAX)
        return LD_FAIL(err, LD_E_TOO_LARGE, "the model has more than %d files",
                       LD_WEIGHT_FILES_MAX);
    const enum ld_code code = ld_safetensors_open(&out->files[out->count], path, NULL, err);
    if (code == LD_OK) {
        out->count++;
        return LD_OK;
    }
    if (code != LD_E_FORMAT)
        return code;
    const enum ld_magic magic = ld_magic_of_file(path);
    if (magic == LD_MAGIC_PICKLE || magic == LD_MAGIC_TORCH_ZIP)
        return LD_FAIL(err, LD_E_UNSUPPORTED,
                       "the model file is %s and would run code when loaded; convert it to "
                       "safetensors",
                       ld_magic_words(magic));
    if (magic != LD_MAGIC_UNKNOWN && magic != LD_MAGIC_SAFETENSORS)
        return LD_FAIL(err, LD_E_UNSUPPORTED, "the model file is %s, not safetensors",
                       ld_magic_words(magic));
    return code;
}

/* ---- Sharded files --------------------------------------------------------------------------- */

/* A plain file name, so that an index cannot lead out of its folder. */
static bool is_plain_name(struct ld_span name)
{
    static const char tail[] = ".safetensors";
    if (name.size <= sizeof tail - 1 || name.size > 255 || name.data[0] == '.' ||
        memcmp(name.data + name.size - (sizeof tail - 1), tail, sizeof tail - 1) != 0)
        return false;
    for (size_t i = 0; i < name.size; i++) {
        if (name.data[i] < 0x20 || name.data[i] == '/' || name.data[i] == '\\')
            return false;
    }
    return true;
}

struct shard_names {
    char names[LD_WEIGHT_FILES_MAX][256];
    uint32_t count;
};

static enum ld_code add_shard_name(struct shard_names *shards, const struct ld_json_token *token,
                                   struct ld_error *err)
{
    if (token->kind != LD_JSON_STRING || token->escaped || !is_plain_name(token->text))
        return LD_FAIL(err, LD_E_FORMAT, "the index of a sharded model names no plain file");
    for (uint32_t i = 0; i < shards->count; i++) {
        if (ld_json_is(token, shards->names[i]))
            return LD_OK;
    }
    if (shards->count == LD_WEIGHT_FILES_MAX)
        return LD_FAIL(err, LD_E_TOO_LARGE, "the model has more than %d files",
                       LD_WEIGHT_FILES_MAX);
    char *name = shards->names[shards->count++];
    memcpy(name, token->text.data, token->text.size);
    name[token->text.size] = 0;
    return LD_OK;
}

/* The file names of {"weight_map": {tensor: file, ...}, ...}. */
static enum ld_code read_index(struct shard_names *shards, struct ld_span text,
                               struct ld_error *err)
{
    struct ld_json json;
    struct ld_json_token token;
    bool in_map = false;
    bool next_is_map = false;
    enum ld_code code;
    ld_json_init(&json, text, 8, 4 * LD_ST_TENSORS_MAX);
    do {
        code = ld_json_next(&json, &token, err);
        if (code != LD_OK)
            break;
        if (token.kind == LD_JSON_KEY && token.depth == 1)
            next_is_map = ld_json_is(&token, "weight_map");
        else if (token.depth == 1 && token.kind == LD_JSON_OBJECT_BEGIN)
            in_map = next_is_map;
        else if (token.depth == 1 && token.kind == LD_JSON_OBJECT_END)
            in_map = false;
        else if (in_map && token.depth == 2 && token.kind != LD_JSON_KEY)
            code = add_shard_name(shards, &token, err);
    } while (code == LD_OK && token.kind != LD_JSON_END);
    return code;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(a, b);
}

static enum ld_code add_shards(struct ld_weight_files *out, const char *folder,
                               const char *index_path, struct ld_error *err)
{
    struct ld_buffer text = ld_buffer_make(INDEX_MAX);
    struct shard_names *shards = ld_heap_alloc(sizeof *shards);
    enum ld_code code = shards ? ld_fsx_read_file(index_path, &text, err)
                               : LD_FAIL(err, LD_E_NOMEM, "not enough memory for a model's index");
    if (code == LD_OK)
        code = read_index(shards, ld_span_of(text.data, text.size), err);
    if (code == LD_OK && shards->count == 0)
        code = LD_FAIL(err, LD_E_FORMAT, "the index of a sharded model names no file");
    if (code == LD_OK)
        qsort(shards->names, shards->count, sizeof shards->names[0], by_text);
    for (uint32_t i = 0; code == LD_OK && i < shards->count; i++) {
        char path[PATH_SIZE];
        if (!ld_fmt(path, sizeof path, "%s/%s", folder, shards->names[i]))
            code = LD_FAIL(err, LD_E_TOO_LARGE, "the path of the model is too long");
        else
            code = add_file(out, path, err);
    }
    ld_heap_free(shards);
    ld_buffer_deinit(&text);
    return code;
}

/* ---- The folder ------------------------------------------------------------------------------ */

/* The first of the usual file names that exists; a part may be absent. */
static enum ld_code add_part(struct ld_weight_files *out, const char *root, size_t part,
                             struct ld_error *err)
{
    static const char *const tails[] = {".safetensors", ".fp16.safetensors"};
    static const char *const indexes[] = {".safetensors.index.json", ".safetensors.index.fp16.json",
                                          ".fp16.safetensors.index.json"};
    char folder[PATH_SIZE];
    char path[PATH_SIZE];
    if (!ld_fmt(folder, sizeof folder, "%s/%s", root, parts[part].folder))
        return LD_FAIL(err, LD_E_TOO_LARGE, "the path of the model is too long");
    for (size_t i = 0; i < sizeof tails / sizeof tails[0]; i++) {
        if (ld_fmt(path, sizeof path, "%s/%s%s", folder, parts[part].stem, tails[i]) &&
            ld_fsx_exists(path))
            return add_file(out, path, err);
    }
    for (size_t i = 0; i < sizeof indexes / sizeof indexes[0]; i++) {
        if (ld_fmt(path, sizeof path, "%s/%s%s", folder, parts[part].stem, indexes[i]) &&
            ld_fsx_exists(path))
            return add_shards(out, folder, path, err);
    }
    return LD_OK;
}

static enum ld_code read_setting(struct ld_json *json, const struct ld_json_token *key,
                                 struct ld_weight_files *out, struct ld_error *err)
{
    struct ld_json_token value;
    enum ld_code code = ld_json_next(json, &value, err);
    if (code != LD_OK)
        return code;
    const bool number = value.kind == LD_JSON_REAL || value.kind == LD_JSON_INTEGER;
    double *beta = ld_json_is(key, "beta_start") ? &out->beta_start
                   : ld_json_is(key, "beta_end") ? &out->beta_end
                                                 : NULL;
    if (beta && (!number || !ld_parse_double(value.text, beta) || *beta <= 0 || *beta >= 1))
        return LD_FAIL(err, LD_E_RANGE, "beta_start and beta_end must be between 0 and 1");
    if (ld_json_is(key, "prediction_type"))
        out->v_prediction = ld_json_is(&value, "v_prediction");
    if (ld_json_is(key, "rescale_betas_zero_snr"))
        out->zero_terminal_snr = value.kind == LD_JSON_TRUE;
    return ld_json_skip(json, &value, err);
}

static enum ld_code read_scheduler(struct ld_weight_files *out, const char *root,
                                   struct ld_error *err)
{
    char path[PATH_SIZE];
    struct ld_buffer text = ld_buffer_make(CONFIG_MAX);
    struct ld_json json;
    struct ld_json_token token;
    if (!ld_fmt(path, sizeof path, "%s/scheduler/scheduler_config.json", root) ||
        !ld_fsx_exists(path))
        return LD_OK;
    enum ld_code code = ld_fsx_read_file(path, &text, err);
    ld_json_init(&json, ld_span_of(text.data, text.size), 16, 4096);
    if (code == LD_OK)
        code = ld_json_next(&json, &token, err);
    if (code == LD_OK && token.kind != LD_JSON_OBJECT_BEGIN)
        code = LD_FAIL(err, LD_E_FORMAT, "the scheduler's configuration is not an object");
    while (code == LD_OK) {
        code = ld_json_next(&json, &token, err);
        if (code != LD_OK || token.kind == LD_JSON_OBJECT_END)
            break;
        code = read_setting(&json, &token, out, err);
    }
    ld_buffer_deinit(&text);
    return code;
}

static enum ld_code open_folder(struct ld_weight_files *out, const char *root, struct ld_error *err)
{
    enum ld_code code = LD_OK;
    for (size_t i = 0; code == LD_OK && i < sizeof parts / sizeof parts[0]; i++)
        code = add_part(out, root, i, err);
    if (code == LD_OK && out->count == 0)
        code = LD_FAIL(err, LD_E_NOT_FOUND,
                       "the model folder holds no unet, vae or text_encoder in safetensors");
    if (code == LD_OK)
        code = read_scheduler(out, root, err);
    return code;
}

enum ld_code ld_weight_files_open(struct ld_weight_files *out, const char *path,
                                  struct ld_error *err)
{
    struct stat info;
    memset(out, 0, sizeof *out);
    if (stat(path, &info) == 0 && S_ISDIR(info.st_mode))
        return open_folder(out, path, err);
    return add_file(out, path, err);
}

void ld_weight_files_close(struct ld_weight_files *files)
{
    for (uint32_t i = 0; i < files->count; i++)
        ld_safetensors_close(files->files[i]);
    memset(files, 0, sizeof *files);
}
