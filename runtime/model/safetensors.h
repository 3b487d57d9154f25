/*
 * Strict reader of safetensors files: the header is read into a private copy and checked by every
 * rule of the format before anything of it is believed, then the data is mapped read-only through
 * the same descriptor. Nothing is converted; a tensor may start at an odd address.
 *
 *     struct ld_safetensors *file;
 *     enum ld_st_class why;
 *     if (ld_safetensors_open(&file, path, &why, err) != LD_OK) ...
 *     const struct ld_st_tensor *tensor = ld_safetensors_find(file, "emb_params");
 *     const void *bytes = ld_safetensors_data(file, tensor);
 *
 * Source   the format's own description (github.com/huggingface/safetensors, README) plus the
 *          stricter rules named below.
 */
#ifndef LD_MODEL_SAFETENSORS_H
#define LD_MODEL_SAFETENSORS_H

#include "kernels/tensor.h"
#include "runtime/base/bytes.h"

enum {
    LD_ST_RANK_MAX = 8,
    LD_ST_HEADER_MAX = 100000000, /* bytes; the format's own bound */
    LD_ST_TENSORS_MAX = 100000
};
#define LD_ST_FILE_MAX ((uint64_t)16 << 30) /* a full float32 SD1.5 model with EMA has 8 GB */

/* What is wrong with a file: the first rule of this order that it breaks. */
enum ld_st_class {
    LD_ST_VALID,
    LD_ST_TRUNCATED,     /* shorter than the length field */
    LD_ST_HEADER_LENGTH, /* the length is over the bound or leads past the end */
    LD_ST_HEADER_START,  /* the header does not start with '{' */
    LD_ST_HEADER_UTF8,
    LD_ST_HEADER_JSON, /* malformed, or a field is missing or of the wrong type */
    LD_ST_METADATA,    /* __metadata__ is not an object of strings */
    LD_ST_DUPLICATE,   /* two equal names in one object, escapes resolved */
    LD_ST_NAME,        /* empty, or with U+0000 */
    LD_ST_DTYPE,
    LD_ST_RANK,
    LD_ST_SIZE,   /* shape and data_offsets disagree, or the shape overflows */
    LD_ST_LAYOUT, /* the data is not tiled without holes, overlaps and a tail */
    LD_ST_LIMIT,  /* more tensors or a larger file than latentd takes */
    LD_ST_CLASS_COUNT
};

/* "header_json", ...; "valid" for LD_ST_VALID. */
const char *ld_st_class_name(enum ld_st_class why);

/* Borrowed from the file. */
struct ld_st_tensor {
    const char *name;
    enum ld_dtype dtype;    /* LD_DTYPE_OTHER: a known name that cannot be a weight */
    const char *dtype_name; /* as written */
    uint32_t rank;
    uint64_t shape[LD_ST_RANK_MAX];
    uint64_t begin, end; /* within the data */
};

struct ld_safetensors;

/*
 * Owner    returns owned; ld_safetensors_close. The fd form duplicates the descriptor, the bytes
 *          form borrows the bytes until close. `why` may be NULL.
 * Errors   LD_E_FORMAT (then `why` says which rule), LD_E_TOO_LARGE, LD_E_NOT_FOUND, LD_E_IO,
 *          LD_E_NOMEM.
 */
enum ld_code ld_safetensors_open(struct ld_safetensors **out, const char *path,
                                 enum ld_st_class *why, struct ld_error *err) LD_MUST_USE;
enum ld_code ld_safetensors_open_fd(struct ld_safetensors **out, int fd, enum ld_st_class *why,
                                    struct ld_error *err) LD_MUST_USE;
enum ld_code ld_safetensors_open_bytes(struct ld_safetensors **out, struct ld_span bytes,
                                       enum ld_st_class *why, struct ld_error *err) LD_MUST_USE;
void ld_safetensors_close(struct ld_safetensors *file);

/* Tensors in the order of their names (bytewise). */
uint32_t ld_safetensors_count(const struct ld_safetensors *file);
const struct ld_st_tensor *ld_safetensors_at(const struct ld_safetensors *file, uint32_t index);
/* NULL if there is none. */
const struct ld_st_tensor *ld_safetensors_find(const struct ld_safetensors *file, const char *name);

/* The tensor's bytes, end - begin of them. */
const void *ld_safetensors_data(const struct ld_safetensors *file,
                                const struct ld_st_tensor *tensor);

/* Decode a tensor of `count` elements (the product of its shape); the caller has checked it. */
void ld_safetensors_decode(const struct ld_safetensors *file, const struct ld_st_tensor *tensor,
                           float *dst, size_t count);

/* Product of the shape; it fits, the header check has seen to that. */
uint64_t ld_st_elements(const struct ld_st_tensor *tensor);

/* __metadata__, in the order of its keys. */
uint32_t ld_safetensors_metadata_count(const struct ld_safetensors *file);
void ld_safetensors_metadata_at(const struct ld_safetensors *file, uint32_t index, const char **key,
                                const char **value);
const char *ld_safetensors_metadata(const struct ld_safetensors *file, const char *key);

/* Size of the whole file, and of what stands before the data. */
uint64_t ld_safetensors_bytes(const struct ld_safetensors *file);
uint64_t ld_safetensors_data_start(const struct ld_safetensors *file);

/* The pinned descriptor; -1 when the bytes are borrowed. */
int ld_safetensors_fd(const struct ld_safetensors *file);

/* Give the pages of a data range back to the system; they are read again when touched. */
void ld_safetensors_drop_pages(const struct ld_safetensors *file, const void *data, size_t size);

#endif
