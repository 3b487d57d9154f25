#include "runtime/model/inspect.h"

#include "runtime/base/fsx.h"
#include "runtime/image/picture_header.h"
#include "runtime/image/picture_texts.h"
#include "runtime/model/describe.h"
#include "runtime/model/hash.h"
#include "runtime/model/inventory.h"
#include "runtime/model/magic.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    SHORT_HASH = 10,
    PROBLEMS_MAX = 50,
    VALUE_MAX = 2000,      /* bytes of one metadata value that are shown */
    PICTURE_MAX = 64 << 20 /* of a picture whose texts are read */
};

/* ---- Digests --------------------------------------------------------------------------------- */

static enum ld_code write_digests(struct ld_buffer *out, int fd, uint64_t data_start,
                                  struct ld_error *err)
{
    char digest[LD_SHA256_HEX_SIZE];
    enum ld_code code = ld_hash_fd(fd, 0, digest, err);
    if (code != LD_OK)
        return code;
    ld_buffer_format(out, ",\"sha256\":\"%s\",\"short_hash\":\"%.*s\"", digest, SHORT_HASH, digest);
    if (data_start == 0)
        return LD_OK;
    code = ld_hash_fd(fd, data_start, digest, err);
    if (code == LD_OK)
        ld_buffer_format(out, ",\"addnet_hash\":\"%s\"", digest);
    return code;
}

/* ---- safetensors ----------------------------------------------------------------------------- */

/* The first lines of the detection's report as an array. */
static void write_problems(struct ld_buffer *out, const struct ld_detection *detection)
{
    const char *text = detection->report.data ? detection->report.data : "";
    ld_buffer_text(out, ",\"problems\":[");
    for (uint32_t i = 0; i < PROBLEMS_MAX && *text; i++) {
        const char *end = strchr(text, '\n');
        const size_t length = end ? (size_t)(end - text) : strlen(text);
        if (i > 0)
            ld_buffer_byte(out, ',');
        ld_buffer_json_span(out, ld_span_of(text, length));
        text += length + (end ? 1 : 0);
    }
    ld_buffer_text(out, "]");
}

static void write_adapter(struct ld_buffer *out, const char *path)
{
    struct ld_adapter *adapter;
    struct ld_error why = {0};
    ld_buffer_byte(out, ',');
    if (ld_adapter_open(&adapter, path, &why) == LD_OK) {
        ld_describe_adapter(out, adapter);
        ld_adapter_close(adapter);
    } else {
        ld_buffer_text(out, "\"usable\":false,\"why\":");
        ld_buffer_json_string(out, why.detail);
    }
}

static void write_embedding(struct ld_buffer *out, const char *path)
{
    struct ld_embedding embedding;
    struct ld_error why = {0};
    ld_buffer_byte(out, ',');
    if (ld_embedding_open(&embedding, path, 0, &why) == LD_OK) {
        ld_describe_embedding(out, &embedding);
    } else {
        ld_buffer_text(out, "\"usable\":false,\"why\":");
        ld_buffer_json_string(out, why.detail);
    }
    ld_embedding_deinit(&embedding);
}

/* How many values of a usable model are infinite or NaN. */
static void write_nonfinite(struct ld_buffer *out, const char *path)
{
    struct ld_weights *weights;
    struct ld_error ignored = {0};
    const char *first;
    if (ld_weights_open(&weights, path, NULL, &ignored) != LD_OK)
        return;
    const uint64_t count = ld_weights_count_nonfinite(weights, &first);
    ld_buffer_format(out, ",\"nonfinite\":%llu", (unsigned long long)count);
    if (count > 0)
        ld_buffer_format(out, ",\"first_nonfinite\":\"%s\"", first);
    ld_weights_close(weights);
}

/* Detection over one or several files. */
static enum ld_code write_detection(struct ld_buffer *out, const struct ld_weight_files *files,
                                    const char *path, struct ld_error *err)
{
    struct ld_file_inventory tensors = {0};
    struct ld_detection detection = {0};
    struct ld_detect_options options = {.prediction = files->v_prediction ? LD_PREDICT_V : -1};
    enum ld_code code = ld_file_inventory_init(&tensors, files->files, files->count, err);
    if (code == LD_OK)
        code = ld_detect(&detection, &tensors.inventory, &options, err);
    if (code == LD_OK) {
        ld_buffer_byte(out, ',');
        if (detection.kind == LD_FILE_EMBEDDING) {
            ld_buffer_text(out, "\"arch\":\"embedding\"");
            write_embedding(out, path);
        } else {
            ld_describe_detection(out, &detection);
        }
        if (detection.kind == LD_FILE_ADAPTER)
            write_adapter(out, path);
        if (detection.map && detection.fault == LD_FAULT_NONE)
            write_nonfinite(out, path);
        if (detection.report.size > 0)
            write_problems(out, &detection);
    }
    ld_detection_deinit(&detection);
    ld_file_inventory_deinit(&tensors);
    return code;
}

static enum ld_code write_safetensors(struct ld_buffer *out, int fd, const char *path,
                                      struct ld_error *err)
{
    struct ld_weight_files files = {.count = 1};
    enum ld_st_class why;
    struct ld_error reason = {0};
    enum ld_code code = ld_safetensors_open_fd(&files.files[0], fd, &why, &reason);
    if (code == LD_E_FORMAT || code == LD_E_TOO_LARGE) {
        ld_buffer_format(out,
                         ",\"valid\":false,\"error_class\":\"%s\",\"why\":", ld_st_class_name(why));
        ld_buffer_json_string(out, reason.detail);
        return write_digests(out, fd, 0, err);
    }
    if (code != LD_OK)
        return LD_FAIL(err, code, "%s", reason.detail);
    code = write_digests(out, fd, ld_safetensors_data_start(files.files[0]), err);
    if (code == LD_OK)
        code = write_detection(out, &files, path, err);
    if (code == LD_OK) {
        ld_buffer_byte(out, ',');
        ld_describe_tensors(out, files.files[0]);
        ld_buffer_byte(out, ',');
        ld_describe_metadata(out, files.files[0], VALUE_MAX);
    }
    ld_weight_files_close(&files);
    return code;
}

/* ---- Folders --------------------------------------------------------------------------------- */

static enum ld_code write_folder(struct ld_buffer *out, const char *path, struct ld_error *err)
{
    struct ld_weight_files files;
    struct ld_error reason = {0};
    uint64_t bytes = 0;
    ld_buffer_text(out, "{\"format\":\"folder\"");
    enum ld_code code = ld_weight_files_open(&files, path, &reason);
    if (code == LD_OK) {
        for (uint32_t f = 0; f < files.count; f++)
            bytes += ld_safetensors_bytes(files.files[f]);
        ld_buffer_format(out, ",\"files\":%u,\"bytes\":%llu", files.count,
                         (unsigned long long)bytes);
        code = write_detection(out, &files, path, err);
    } else {
        ld_buffer_text(out, ",\"usable\":false,\"why\":");
        ld_buffer_json_string(out, reason.detail);
        code = LD_OK;
    }
    ld_weight_files_close(&files);
    ld_buffer_text(out, "}");
    return code;
}

/* ---- Pictures -------------------------------------------------------------------------------- */

static void write_texts(struct ld_buffer *out, struct ld_span file)
{
    struct ld_arena arena;
    struct ld_png_texts texts = {.count = 0};
    struct ld_error why = {0};
    ld_arena_init(&arena, "picture texts", (size_t)8 << 20);
    if (ld_picture_texts_read(&texts, &arena, file, false, &why) == LD_OK) {
        ld_buffer_text(out, ",\"texts\":");
        ld_png_texts_write_json(&texts, out);
    } else {
        ld_buffer_text(out, ",\"valid\":false,\"why\":");
        ld_buffer_json_string(out, why.detail);
    }
    ld_arena_deinit(&arena);
}

static void write_picture(struct ld_buffer *out, int fd)
{
    struct ld_buffer bytes = ld_buffer_make(PICTURE_MAX);
    struct ld_picture_header header;
    struct ld_png_header png;
    struct ld_error why = {0};
    enum ld_code code = ld_fsx_read_fd(fd, &bytes, &why);
    const struct ld_span file = ld_span_of(bytes.data, bytes.size);
    if (code == LD_OK)
        code = ld_picture_check_header(&header, file, &why);
    if (code == LD_OK) {
        ld_buffer_format(out, ",\"kind\":\"image\",\"width\":%d,\"height\":%d", header.width,
                         header.height);
        if (header.kind == LD_PICTURE_PNG && ld_png_check_header(&png, file, false, NULL) == LD_OK)
            ld_buffer_format(out, ",\"bit_depth\":%u", png.bit_depth);
        write_texts(out, file);
    } else {
        ld_buffer_text(out, ",\"kind\":\"image\",\"valid\":false,\"why\":");
        ld_buffer_json_string(out, why.detail);
    }
    ld_buffer_deinit(&bytes);
}

/* ---- One file -------------------------------------------------------------------------------- */

static enum ld_code write_file(struct ld_buffer *out, int fd, const char *path,
                               struct ld_error *err)
{
    uint8_t head[LD_MAGIC_BYTES];
    struct stat info;
    const ssize_t size = pread(fd, head, sizeof head, 0);
    if (size < 0 || fstat(fd, &info) != 0)
        return LD_FAIL_OS(err, LD_E_IO, errno, "the file cannot be read");
    const enum ld_magic magic = ld_magic_of(ld_span_of(head, (size_t)size));
    ld_buffer_format(out, "{\"format\":\"%s\",\"bytes\":%llu", ld_magic_name(magic),
                     (unsigned long long)info.st_size);
    enum ld_code code = LD_OK;
    if (magic == LD_MAGIC_SAFETENSORS) {
        code = write_safetensors(out, fd, path, err);
    } else {
        code = write_digests(out, fd, 0, err);
        ld_buffer_text(out, ",\"description\":");
        ld_buffer_json_string(out, ld_magic_words(magic));
    }
    if (code == LD_OK &&
        (magic == LD_MAGIC_PNG || magic == LD_MAGIC_JPEG || magic == LD_MAGIC_WEBP))
        write_picture(out, fd);
    if (code == LD_OK && magic == LD_MAGIC_TORCH_ZIP)
        write_embedding(out, path);
    ld_buffer_text(out, "}");
    return code;
}

enum ld_code ld_inspect(const char *path, struct ld_buffer *json, struct ld_error *err)
{
    struct stat info;
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &info) != 0) {
        const int os_code = errno;
        if (fd >= 0)
            (void)close(fd);
        return LD_FAIL_OS(err, os_code == ENOENT ? LD_E_NOT_FOUND : LD_E_IO, os_code,
                          os_code == ENOENT ? "there is no such file"
                                            : "the file cannot be opened");
    }
    enum ld_code code;
    if (S_ISDIR(info.st_mode))
        code = write_folder(json, path, err);
    else if (S_ISREG(info.st_mode))
        code = write_file(json, fd, path, err);
    else
        code = LD_FAIL(err, LD_E_IO, "this is neither a file nor a folder");
    (void)close(fd);
    if (code == LD_OK && json->failed)
        code = LD_FAIL(err, LD_E_TOO_LARGE, "the description does not fit");
    return code;
}
