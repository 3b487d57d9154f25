#include "runtime/model/safetensors.h"

#include "runtime/base/arena.h"
#include "runtime/model/safetensors_header.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LENGTH_SIZE = 8 };

struct ld_safetensors {
    struct ld_st_header header;
    const uint8_t *map; /* the whole file */
    uint64_t bytes;
    uint64_t data_start;
    int fd; /* -1 when the bytes are borrowed */
};

static const char *const class_names[LD_ST_CLASS_COUNT] = {
    [LD_ST_VALID] = "valid",
    [LD_ST_TRUNCATED] = "truncated",
    [LD_ST_HEADER_LENGTH] = "header_length",
    [LD_ST_HEADER_START] = "header_start",
    [LD_ST_HEADER_UTF8] = "header_utf8",
    [LD_ST_HEADER_JSON] = "header_json",
    [LD_ST_METADATA] = "metadata",
    [LD_ST_DUPLICATE] = "duplicate",
    [LD_ST_NAME] = "name",
    [LD_ST_DTYPE] = "dtype",
    [LD_ST_RANK] = "rank",
    [LD_ST_SIZE] = "size",
    [LD_ST_LAYOUT] = "layout",
    [LD_ST_LIMIT] = "limit",
};

const char *ld_st_class_name(enum ld_st_class why)
{
    LD_ASSERT((unsigned)why < LD_ST_CLASS_COUNT);
    return class_names[why];
}

/* ---- Header ---------------------------------------------------------------------------------- */

static enum ld_code refuse(enum ld_st_class *why, enum ld_st_class class, struct ld_error *err,
                           const char *sentence)
{
    *why = class;
    return LD_FAIL(err, class == LD_ST_LIMIT ? LD_E_TOO_LARGE : LD_E_FORMAT, "%s", sentence);
}

/* Whether `length`, from the file, can be believed; before anything is allocated for it. */
static enum ld_code check_length(const struct ld_safetensors *file, uint64_t length,
                                 enum ld_st_class *why, struct ld_error *err)
{
    if (length > LD_ST_HEADER_MAX || length > file->bytes - LENGTH_SIZE)
        return refuse(why, LD_ST_HEADER_LENGTH, err,
                      "the header's length leads past the end of the file or is above 100 MB");
    if (length == 0)
        return refuse(why, LD_ST_HEADER_JSON, err, "the header is empty");
    return LD_OK;
}

static enum ld_code parse_header(struct ld_safetensors *file, struct ld_span json,
                                 enum ld_st_class *why, struct ld_error *err)
{
    if (json.data[0] != '{')
        return refuse(why, LD_ST_HEADER_START, err, "the header does not start with '{'");
    if (!ld_utf8_valid(json))
        return refuse(why, LD_ST_HEADER_UTF8, err, "the header is not valid UTF-8");
    file->data_start = LENGTH_SIZE + json.size;
    return ld_st_header_parse(&file->header, json, file->bytes - file->data_start, why, err);
}

/* All of `size` bytes at `offset`, or what the file has left. */
static int64_t read_at(int fd, uint8_t *out, size_t size, uint64_t offset)
{
    size_t done = 0;
    while (done < size) {
        const ssize_t got = pread(fd, out + done, size - done, (off_t)(offset + done));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -1;
        if (got == 0)
            break;
        done += (size_t)got;
    }
    return (int64_t)done;
}

static enum ld_code read_header(struct ld_safetensors *file, enum ld_st_class *why,
                                struct ld_error *err)
{
    uint8_t length_bytes[LENGTH_SIZE];
    uint8_t *copy = NULL;
    if (read_at(file->fd, length_bytes, LENGTH_SIZE, 0) != LENGTH_SIZE)
        return LD_FAIL(err, LD_E_IO, "the model file cannot be read");
    const uint64_t length = ld_read_u64le(length_bytes);
    enum ld_code code = check_length(file, length, why, err);
    if (code != LD_OK)
        return code;
    copy = ld_heap_alloc((size_t)length);
    if (!copy)
        code = LD_FAIL(err, LD_E_NOMEM, "not enough memory for the header of a model file");
    else if (read_at(file->fd, copy, (size_t)length, LENGTH_SIZE) != (int64_t)length)
        code = LD_FAIL(err, LD_E_IO, "the model file cannot be read");
    else
        code = parse_header(file, ld_span_of(copy, (size_t)length), why, err);
    ld_heap_free(copy);
    return code;
}

/* ---- Opening --------------------------------------------------------------------------------- */

static enum ld_code check_size(uint64_t bytes, enum ld_st_class *why, struct ld_error *err)
{
    if (bytes < LENGTH_SIZE)
        return refuse(why, LD_ST_TRUNCATED, err, "the file is shorter than 8 bytes");
    if (bytes > LD_ST_FILE_MAX)
        return refuse(why, LD_ST_LIMIT, err, "the file is larger than 16 GiB");
    return LD_OK;
}

static enum ld_code open_described(struct ld_safetensors *file, enum ld_st_class *why,
                                   struct ld_error *err)
{
    struct stat info;
    if (fstat(file->fd, &info) != 0)
        return LD_FAIL_OS(err, LD_E_IO, errno, "the model file cannot be read");
    if (!S_ISREG(info.st_mode))
        return LD_FAIL(err, LD_E_FORMAT, "the model file is not a regular file");
    file->bytes = (uint64_t)info.st_size;
    if (check_size(file->bytes, why, err) != LD_OK || read_header(file, why, err) != LD_OK)
        return err ? err->code : LD_E_FORMAT;
    void *map = mmap(NULL, (size_t)file->bytes, PROT_READ, MAP_PRIVATE, file->fd, 0);
    if (map == MAP_FAILED)
        return LD_FAIL_OS(err, LD_E_NOMEM, errno, "the model file cannot be mapped");
    file->map = map;
    return LD_OK;
}

static struct ld_safetensors *make(struct ld_error *err)
{
    struct ld_safetensors *file = ld_heap_alloc(sizeof *file);
    if (!file)
        (void)LD_FAIL(err, LD_E_NOMEM, "not enough memory for a model file");
    else
        file->fd = -1;
    return file;
}

/* Takes `fd`, whatever happens. */
static enum ld_code open_owned(struct ld_safetensors **out, int fd, enum ld_st_class *why,
                               struct ld_error *err)
{
    enum ld_st_class ignored;
    struct ld_error local = {0};
    struct ld_error *told = err ? err : &local;
    why = why ? why : &ignored;
    *why = LD_ST_VALID;
    *out = NULL;
    struct ld_safetensors *file = make(told);
    if (!file) {
        (void)close(fd);
        return LD_E_NOMEM;
    }
    file->fd = fd;
    const enum ld_code code = open_described(file, why, told);
    if (code == LD_OK)
        *out = file;
    else
        ld_safetensors_close(file);
    return code;
}

enum ld_code ld_safetensors_open(struct ld_safetensors **out, const char *path,
                                 enum ld_st_class *why, struct ld_error *err)
{
    *out = NULL;
    /* Non-blocking, so that a FIFO under this name cannot hold us up before fstat refuses it. */
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        const int os_code = errno;
        const bool absent = os_code == ENOENT || os_code == ENOTDIR;
        return LD_FAIL_OS(err, absent ? LD_E_NOT_FOUND : LD_E_IO, os_code,
                          absent ? "there is no such model file"
                                 : "the model file cannot be opened");
    }
    return open_owned(out, fd, why, err);
}

enum ld_code ld_safetensors_open_fd(struct ld_safetensors **out, int fd, enum ld_st_class *why,
                                    struct ld_error *err)
{
    *out = NULL;
    const int own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (own < 0)
        return LD_FAIL_OS(err, LD_E_IO, errno, "the model file cannot be opened");
    return open_owned(out, own, why, err);
}

enum ld_code ld_safetensors_open_bytes(struct ld_safetensors **out, struct ld_span bytes,
                                       enum ld_st_class *why, struct ld_error *err)
{
    enum ld_st_class ignored;
    why = why ? why : &ignored;
    *why = LD_ST_VALID;
    *out = NULL;
    struct ld_safetensors *file = make(err);
    if (!file)
        return LD_E_NOMEM;
    file->map = bytes.data;
    file->bytes = bytes.size;
    enum ld_code code = check_size(file->bytes, why, err);
    if (code == LD_OK) {
        const uint64_t length = ld_read_u64le(bytes.data);
        code = check_length(file, length, why, err);
        if (code == LD_OK)
            code =
                parse_header(file, ld_span_of(bytes.data + LENGTH_SIZE, (size_t)length), why, err);
    }
    if (code == LD_OK)
        *out = file;
    else
        ld_safetensors_close(file);
    return code;
}

void ld_safetensors_close(struct ld_safetensors *file)
{
    if (!file)
        return;
    if (file->fd >= 0) {
        union {
            const uint8_t *read_only;
            void *any;
        } map = {file->map};
        if (file->map)
            (void)munmap(map.any, (size_t)file->bytes);
        (void)close(file->fd);
    }
    ld_st_header_deinit(&file->header);
    ld_heap_free(file);
}

/* ---- Reading --------------------------------------------------------------------------------- */

uint32_t ld_safetensors_count(const struct ld_safetensors *file)
{
    return file->header.tensor_count;
}

const struct ld_st_tensor *ld_safetensors_at(const struct ld_safetensors *file, uint32_t index)
{
    LD_ASSERT(index < file->header.tensor_count);
    return &file->header.tensors[index];
}

static int has_name(const void *name, const void *tensor)
{
    return strcmp(name, ((const struct ld_st_tensor *)tensor)->name);
}

const struct ld_st_tensor *ld_safetensors_find(const struct ld_safetensors *file, const char *name)
{
    const struct ld_st_header *header = &file->header;
    return header->tensor_count ? bsearch(name, header->tensors, header->tensor_count,
                                          sizeof *header->tensors, has_name)
                                : NULL;
}

const void *ld_safetensors_data(const struct ld_safetensors *file,
                                const struct ld_st_tensor *tensor)
{
    return file->map + file->data_start + tensor->begin;
}

uint64_t ld_st_elements(const struct ld_st_tensor *tensor)
{
    uint64_t count = 1;
    for (uint32_t i = 0; i < tensor->rank; i++)
        count *= tensor->shape[i];
    return count;
}

void ld_safetensors_decode(const struct ld_safetensors *file, const struct ld_st_tensor *tensor,
                           float *dst, size_t count)
{
    LD_ASSERT((uint64_t)count == ld_st_elements(tensor));
    ld_dtype_to_f32(dst, ld_safetensors_data(file, tensor), tensor->dtype, count);
}

uint32_t ld_safetensors_metadata_count(const struct ld_safetensors *file)
{
    return file->header.pair_count;
}

void ld_safetensors_metadata_at(const struct ld_safetensors *file, uint32_t index, const char **key,
                                const char **value)
{
    LD_ASSERT(index < file->header.pair_count);
    *key = (const char *)file->header.pairs[index].key.data;
    *value = file->header.pairs[index].value;
}

const char *ld_safetensors_metadata(const struct ld_safetensors *file, const char *key)
{
    for (uint32_t i = 0; i < file->header.pair_count; i++) {
        if (ld_span_is(file->header.pairs[i].key, key))
            return file->header.pairs[i].value;
    }
    return NULL;
}

uint64_t ld_safetensors_bytes(const struct ld_safetensors *file)
{
    return file->bytes;
}

uint64_t ld_safetensors_data_start(const struct ld_safetensors *file)
{
    return file->data_start;
}

int ld_safetensors_fd(const struct ld_safetensors *file)
{
    return file->fd;
}

void ld_safetensors_drop_pages(const struct ld_safetensors *file, const void *data, size_t size)
{
    if (file->fd < 0)
        return;
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    const uintptr_t begin = ((uintptr_t)data + page - 1) & ~(page - 1);
    const uintptr_t end = ((uintptr_t)data + size) & ~(page - 1);
    if (begin < end)
        (void)madvise((void *)begin, end - begin, MADV_DONTNEED); /* only advice */
}
