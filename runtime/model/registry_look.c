#include "runtime/model/registry_look.h"

#include "runtime/base/fsx.h"
#include "runtime/model/describe.h"
#include "runtime/model/detect_kind.h"
#include "runtime/model/weights_private.h"

#include <sys/stat.h>
#include <unistd.h>

enum { RECIPE_BYTES_MAX = 8 * 1024 };

const char *ld_registry_ending(const char *file_name, enum ld_registry_kind kind)
{
    static const char *const tensors[] = {".safetensors", NULL};
    static const char *const vectors[] = {".safetensors", ".pt", ".bin", NULL};
    static const char *const lists[] = {".txt", NULL};
    const char *const *endings = kind == LD_REGISTRY_EMBEDDING  ? vectors
                                 : kind == LD_REGISTRY_WILDCARD ? lists
                                                                : tensors;
    for (; *endings; endings++) {
        if (ld_has_suffix(file_name, *endings) && strlen(file_name) > strlen(*endings))
            return *endings;
    }
    return NULL;
}

bool ld_registry_is_model_folder(const char *path)
{
    char index[4096];
    char unet[4096];
    return ld_fmt(index, sizeof index, "%s/model_index.json", path) &&
           ld_fmt(unet, sizeof unet, "%s/unet", path) &&
           (ld_fsx_exists(index) || ld_fsx_exists(unet));
}

static void add_stamp(struct ld_registry_stamp *stamp, const struct stat *info)
{
    const int64_t modified_ns = (int64_t)info->st_mtim.tv_sec * 1000000000 + info->st_mtim.tv_nsec;
    stamp->bytes += (uint64_t)info->st_size;
    stamp->inode = stamp->inode * 31 + (uint64_t)info->st_ino;
    if (modified_ns > stamp->modified_ns)
        stamp->modified_ns = modified_ns;
}

void ld_registry_stamp_fd(int fd, struct ld_registry_stamp *stamp)
{
    struct stat info;
    memset(stamp, 0, sizeof *stamp);
    if (fstat(fd, &info) == 0)
        add_stamp(stamp, &info);
}

void ld_registry_stamp_weights(const struct ld_weights *weights, struct ld_registry_stamp *stamp)
{
    const struct ld_weight_files *files = &weights->files;
    memset(stamp, 0, sizeof *stamp);
    for (uint32_t f = 0; f < files->count; f++) {
        struct stat info;
        if (fstat(ld_safetensors_fd(files->files[f]), &info) == 0)
            add_stamp(stamp, &info);
    }
}

bool ld_registry_stamp_path(const char *path, struct ld_registry_stamp *stamp)
{
    struct stat info;
    struct ld_error ignored = {0};
    struct ld_weights *weights = NULL;
    memset(stamp, 0, sizeof *stamp);
    if (stat(path, &info) != 0)
        return false;
    if (S_ISREG(info.st_mode)) {
        add_stamp(stamp, &info);
        return true;
    }
    const bool opened = ld_weights_open(&weights, path, NULL, &ignored) == LD_OK;
    if (opened)
        ld_registry_stamp_weights(weights, stamp);
    ld_weights_close(weights);
    return opened;
}

bool ld_registry_stamp_equal(const struct ld_registry_stamp *a, const struct ld_registry_stamp *b)
{
    return a->bytes == b->bytes && a->modified_ns == b->modified_ns && a->inode == b->inode;
}

static bool look_at_model(const char *path, enum ld_registry_kind kind, struct ld_buffer *detail,
                          struct ld_registry_stamp *stamp, struct ld_error *err)
{
    struct ld_weights *weights;
    if (ld_weights_open(&weights, path, NULL, err) != LD_OK)
        return false;
    const struct ld_detection *found = ld_weights_detection(weights);
    const bool fits =
        kind == LD_REGISTRY_MODEL ? found->kind == LD_FILE_MODEL : found->arch.has_vae_decoder;
    ld_registry_stamp_weights(weights, stamp);
    if (fits)
        ld_describe_detection(detail, found);
    else
        (void)LD_FAIL(err, LD_E_UNSUPPORTED, "the file holds no %s",
                      kind == LD_REGISTRY_MODEL ? "UNet" : "VAE");
    ld_weights_close(weights);
    return fits;
}

/* The text of NAME.recipe.conf beside NAME.safetensors; who applies it also judges it. */
static void add_recipe(const char *path, struct ld_buffer *detail)
{
    static const char tail[] = ".safetensors";
    char beside[4096];
    struct ld_error ignored = {0};
    struct ld_buffer text = ld_buffer_make(RECIPE_BYTES_MAX);
    const size_t stem = strlen(path) - (sizeof tail - 1);
    if (ld_fmt(beside, sizeof beside, "%.*s.recipe.conf", (int)stem, path) &&
        ld_fsx_read_file(beside, &text, &ignored) == LD_OK && text.size > 0) {
        ld_buffer_text(detail, ",\"recipe_text\":");
        ld_buffer_json_span(detail, ld_span_of(text.data, text.size));
    }
    ld_buffer_deinit(&text);
}

static bool look_at_adapter(const char *path, struct ld_buffer *detail, struct ld_error *err)
{
    struct ld_adapter *adapter;
    if (ld_adapter_open(&adapter, path, err) != LD_OK)
        return false;
    const struct ld_adapter_info *info = ld_adapter_info(adapter);
    const bool fits = info->families != 0 && !(info->families & LD_ADAPTER_OFT);
    if (fits) {
        ld_buffer_text(detail, "\"kind\":\"adapter\",");
        ld_describe_adapter(detail, adapter);
        add_recipe(path, detail);
    } else {
        (void)LD_FAIL(err, LD_E_UNSUPPORTED, "the file holds no adapter of a supported family");
    }
    ld_adapter_close(adapter);
    return fits;
}

/* Whether all its tensors are there is seen when it is loaded; the names tell what it is. */
static bool look_at_controlnet(const char *path, struct ld_buffer *detail, struct ld_error *err)
{
    struct ld_weight_files files = {.count = 0};
    struct ld_file_inventory tensors = {0};
    struct ld_detection found = {0};
    enum ld_code code = ld_weight_files_open(&files, path, err);
    if (code == LD_OK)
        code = ld_file_inventory_init(&tensors, files.files, files.count, err);
    if (code == LD_OK)
        code = ld_detect(&found, &tensors.inventory, NULL, err);
    const bool fits = code == LD_OK && found.kind == LD_FILE_CONTROLNET;
    const char *words = ld_file_kind_words(found.kind);
    if (fits)
        ld_describe_detection(detail, &found);
    else if (code == LD_OK && words)
        (void)LD_FAIL(err, LD_E_UNSUPPORTED, "the file is %s, not a ControlNet for SD1.5", words);
    else if (code == LD_OK)
        (void)LD_FAIL(err, LD_E_UNSUPPORTED, "the file holds no ControlNet");
    ld_detection_deinit(&found);
    ld_file_inventory_deinit(&tensors);
    ld_weight_files_close(&files);
    return fits;
}

static bool look_at_embedding(const char *path, struct ld_buffer *detail, struct ld_error *err)
{
    struct ld_embedding embedding;
    const bool fits = ld_embedding_open(&embedding, path, 0, err) == LD_OK;
    if (fits)
        ld_describe_embedding(detail, &embedding);
    ld_embedding_deinit(&embedding);
    return fits;
}

bool ld_registry_look(const char *path, enum ld_registry_kind kind, struct ld_buffer *detail,
                      struct ld_registry_stamp *stamp, struct ld_error *err)
{
    struct stat info;
    bool fits = false;
    memset(stamp, 0, sizeof *stamp);
    if (stat(path, &info) == 0 && S_ISREG(info.st_mode) && kind != LD_REGISTRY_MODEL &&
        kind != LD_REGISTRY_VAE)
        add_stamp(stamp, &info);
    ld_buffer_text(detail, "{");
    switch (kind) {
    case LD_REGISTRY_MODEL:
    case LD_REGISTRY_VAE:
        fits = look_at_model(path, kind, detail, stamp, err);
        break;
    case LD_REGISTRY_ADAPTER:
        fits = look_at_adapter(path, detail, err);
        break;
    case LD_REGISTRY_CONTROLNET:
        fits = look_at_controlnet(path, detail, err);
        break;
    case LD_REGISTRY_EMBEDDING:
        fits = look_at_embedding(path, detail, err);
        break;
    case LD_REGISTRY_WILDCARD:
        ld_buffer_text(detail, "\"kind\":\"wildcard\"");
        fits = true;
        break;
    case LD_REGISTRY_KIND_COUNT:
        break;
    }
    ld_buffer_text(detail, "}");
    return fits && !detail->failed;
}
