/* Opening of GGUF files, and what is asked of them once they are read. */
#include "runtime/tipo/gguf.h"

#include "runtime/base/arena.h"
#include "runtime/tipo/gguf_private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- Opening --------------------------------------------------------------------------------- */

static enum ld_code map_file(struct ld_gguf *file, int fd, struct ld_error *err)
{
    struct stat info;
    if (fstat(fd, &info) != 0)
        return LD_FAIL_OS(err, LD_E_IO, errno, "the GGUF file cannot be read");
    if (!S_ISREG(info.st_mode))
        return LD_FAIL(err, LD_E_FORMAT, "the GGUF file is not a regular file");
    if (info.st_size <= 0)
        return LD_FAIL(err, LD_E_FORMAT, "the GGUF file is empty");
    if ((uint64_t)info.st_size > LD_GGUF_FILE_MAX)
        return LD_FAIL(err, LD_E_TOO_LARGE, "the GGUF file is larger than 8 GiB");
    void *map = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (map == MAP_FAILED)
        return LD_FAIL_OS(err, LD_E_NOMEM, errno, "the GGUF file cannot be mapped");
    file->map = map;
    file->bytes = (uint64_t)info.st_size;
    file->mapped = true;
    return LD_OK;
}

enum ld_code ld_gguf_open(struct ld_gguf **out, const char *path, struct ld_error *err)
{
    LD_ASSERT(out != NULL && path != NULL);
    *out = NULL;
    /* Non-blocking, so that a FIFO under this name cannot hold us up before fstat refuses it. */
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        const int os_code = errno;
        const bool absent = os_code == ENOENT || os_code == ENOTDIR;
        return LD_FAIL_OS(err, absent ? LD_E_NOT_FOUND : LD_E_IO, os_code,
                          absent ? "there is no such GGUF file" : "the GGUF file cannot be opened");
    }
    enum ld_code code = LD_OK;
    struct ld_gguf *file = ld_heap_alloc(sizeof *file);
    if (!file)
        code = LD_FAIL(err, LD_E_NOMEM, "not enough memory for a GGUF file");
    if (code == LD_OK)
        code = map_file(file, fd, err);
    if (code == LD_OK)
        code = ld_gguf_parse(file, err);
    (void)close(fd); /* the map keeps the file */
    if (code == LD_OK)
        *out = file;
    else
        ld_gguf_close(file);
    return code;
}

enum ld_code ld_gguf_open_bytes(struct ld_gguf **out, struct ld_span bytes, struct ld_error *err)
{
    LD_ASSERT(out != NULL);
    *out = NULL;
    struct ld_gguf *file = ld_heap_alloc(sizeof *file);
    if (!file)
        return LD_FAIL(err, LD_E_NOMEM, "not enough memory for a GGUF file");
    file->map = bytes.data;
    file->bytes = bytes.size;
    const enum ld_code code = ld_gguf_parse(file, err);
    if (code == LD_OK)
        *out = file;
    else
        ld_gguf_close(file);
    return code;
}

void ld_gguf_close(struct ld_gguf *file)
{
    if (!file)
        return;
    union {
        const uint8_t *read_only;
        void *any;
    } map = {file->map};
    if (file->mapped)
        (void)munmap(map.any, (size_t)file->bytes);
    ld_heap_free(file->values);
    ld_heap_free(file->tensors);
    ld_heap_free(file);
}

/* ---- Tensors --------------------------------------------------------------------------------- */

uint32_t ld_gguf_tensor_count(const struct ld_gguf *file)
{
    return file->tensor_count;
}

const struct ld_gguf_tensor *ld_gguf_tensor_at(const struct ld_gguf *file, uint32_t index)
{
    LD_ASSERT(index < file->tensor_count);
    return &file->tensors[index];
}

static int has_name(const void *name, const void *tensor)
{
    return ld_gguf_compare(*(const struct ld_span *)name,
                           ((const struct ld_gguf_tensor *)tensor)->name);
}

const struct ld_gguf_tensor *ld_gguf_find_tensor(const struct ld_gguf *file, const char *name)
{
    const struct ld_span wanted = ld_span_text(name);
    return bsearch(&wanted, file->tensors, file->tensor_count, sizeof *file->tensors, has_name);
}

const void *ld_gguf_data(const struct ld_gguf *file, const struct ld_gguf_tensor *tensor)
{
    return file->map + tensor->offset;
}

const char *ld_gguf_type_name(enum ld_gguf_type type)
{
    switch (type) {
    case LD_GGUF_TENSOR_F32:
        return "F32";
    case LD_GGUF_TENSOR_F16:
        return "F16";
    case LD_GGUF_TENSOR_Q8_0:
        return "Q8_0";
    case LD_GGUF_TENSOR_BF16:
        return "BF16";
    }
    return "?";
}

/* ---- Values ---------------------------------------------------------------------------------- */

uint32_t ld_gguf_key_count(const struct ld_gguf *file)
{
    return file->value_count;
}

const struct ld_gguf_value *ld_gguf_value_at(const struct ld_gguf *file, uint32_t index)
{
    LD_ASSERT(index < file->value_count);
    return &file->values[index];
}

static int has_key(const void *key, const void *value)
{
    return ld_gguf_compare(*(const struct ld_span *)key,
                           ((const struct ld_gguf_value *)value)->key);
}

const struct ld_gguf_value *ld_gguf_find(const struct ld_gguf *file, const char *key)
{
    const struct ld_span wanted = ld_span_text(key);
    return bsearch(&wanted, file->values, file->value_count, sizeof *file->values, has_key);
}

static enum ld_code absent(const char *key, bool needed, struct ld_error *err)
{
    return needed ? LD_FAIL(err, LD_E_FORMAT, "the GGUF file lacks the key %s", key) : LD_OK;
}

static enum ld_code other_kind(const char *key, const char *wanted, struct ld_error *err)
{
    return LD_FAIL(err, LD_E_FORMAT, "the value of %s in the GGUF file is not %s", key, wanted);
}

/* False if the value is no integer or is beyond int64_t. */
static bool integer_of(const struct ld_gguf_value *value, int64_t *out)
{
    const uint8_t *p = value->bytes.data;
    switch (value->kind) {
    case LD_GGUF_U8:
        *out = p[0];
        return true;
    case LD_GGUF_I8:
        *out = (int8_t)p[0];
        return true;
    case LD_GGUF_U16:
        *out = ld_read_u16le(p);
        return true;
    case LD_GGUF_I16:
        *out = (int16_t)ld_read_u16le(p);
        return true;
    case LD_GGUF_U32:
        *out = ld_read_u32le(p);
        return true;
    case LD_GGUF_I32:
        *out = (int32_t)ld_read_u32le(p);
        return true;
    case LD_GGUF_U64:
    case LD_GGUF_I64:
        *out = (int64_t)ld_read_u64le(p);
        return value->kind == LD_GGUF_I64 || *out >= 0;
    case LD_GGUF_F32:
    case LD_GGUF_BOOL:
    case LD_GGUF_STRING:
    case LD_GGUF_ARRAY:
    case LD_GGUF_F64:
    case LD_GGUF_KINDS:
        break;
    }
    return false;
}

enum ld_code ld_gguf_u32(const struct ld_gguf *file, const char *key, bool needed, uint32_t *out,
                         struct ld_error *err)
{
    const struct ld_gguf_value *value = ld_gguf_find(file, key);
    int64_t number;
    if (!value)
        return absent(key, needed, err);
    if (!integer_of(value, &number) || !ld_narrow_u32(number, out))
        return other_kind(key, "a whole number from 0 to 4294967295", err);
    return LD_OK;
}

static float read_f32(const uint8_t *p)
{
    const uint32_t bits = ld_read_u32le(p);
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

enum ld_code ld_gguf_real(const struct ld_gguf *file, const char *key, bool needed, double *out,
                          struct ld_error *err)
{
    const struct ld_gguf_value *value = ld_gguf_find(file, key);
    if (!value)
        return absent(key, needed, err);
    if (value->kind == LD_GGUF_F32) {
        *out = (double)read_f32(value->bytes.data);
        return LD_OK;
    }
    if (value->kind == LD_GGUF_F64) {
        const uint64_t bits = ld_read_u64le(value->bytes.data);
        memcpy(out, &bits, sizeof *out);
        return LD_OK;
    }
    return other_kind(key, "a floating-point number", err);
}

enum ld_code ld_gguf_flag(const struct ld_gguf *file, const char *key, bool needed, bool *out,
                          struct ld_error *err)
{
    const struct ld_gguf_value *value = ld_gguf_find(file, key);
    if (!value)
        return absent(key, needed, err);
    if (value->kind != LD_GGUF_BOOL || value->bytes.data[0] > 1)
        return other_kind(key, "true or false", err);
    *out = value->bytes.data[0] == 1;
    return LD_OK;
}

enum ld_code ld_gguf_text(const struct ld_gguf *file, const char *key, bool needed,
                          struct ld_span *out, struct ld_error *err)
{
    const struct ld_gguf_value *value = ld_gguf_find(file, key);
    if (!value)
        return absent(key, needed, err);
    struct ld_span rest = value->bytes;
    if (value->kind != LD_GGUF_STRING || !ld_gguf_next_string(&rest, out))
        return other_kind(key, "a text", err);
    return LD_OK;
}

enum ld_code ld_gguf_array(const struct ld_gguf *file, const char *key, enum ld_gguf_kind element,
                           const struct ld_gguf_value **out, struct ld_error *err)
{
    const struct ld_gguf_value *value = ld_gguf_find(file, key);
    *out = value;
    if (!value)
        return absent(key, true, err);
    const bool whole = element == LD_GGUF_I32 && value->element == LD_GGUF_U32;
    if (value->kind != LD_GGUF_ARRAY || (value->element != element && !whole))
        return other_kind(key,
                          element == LD_GGUF_STRING ? "an array of texts"
                          : element == LD_GGUF_F32  ? "an array of 32-bit floating-point numbers"
                                                    : "an array of 32-bit whole numbers",
                          err);
    return LD_OK;
}

float ld_gguf_element_f32(const struct ld_gguf_value *array, uint32_t index)
{
    LD_ASSERT(array->element == LD_GGUF_F32 && index < array->count);
    return read_f32(array->bytes.data + 4 * (size_t)index);
}

int32_t ld_gguf_element_i32(const struct ld_gguf_value *array, uint32_t index)
{
    LD_ASSERT((array->element == LD_GGUF_I32 || array->element == LD_GGUF_U32) &&
              index < array->count);
    return (int32_t)ld_read_u32le(array->bytes.data + 4 * (size_t)index);
}

/* Checked once more: a file that is written to after it was opened shows through the map. */
bool ld_gguf_next_string(struct ld_span *rest, struct ld_span *out)
{
    if (rest->size < 8)
        return false;
    const uint64_t size = ld_read_u64le(rest->data);
    if (size > rest->size - 8)
        return false;
    *out = ld_span_of(rest->data + 8, (size_t)size);
    *rest = ld_span_of(rest->data + 8 + size, rest->size - 8 - (size_t)size);
    return true;
}

struct ld_gguf_shown ld_gguf_show(struct ld_span name)
{
    struct ld_gguf_shown shown;
    size_t i = 0;
    for (; i < name.size && i + 1 < sizeof shown.text; i++)
        shown.text[i] = name.data[i] >= 0x20 && name.data[i] < 0x7F ? (char)name.data[i] : '?';
    shown.text[i] = '\0';
    return shown;
}
