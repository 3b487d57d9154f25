/*
 * Strict reader of GGUF files, versions 2 and 3, little-endian: the container of language models.
 * The file is mapped read-only and every length in it is checked before anything of it is believed;
 * a tensor is used where it lies.
 *
 *     struct ld_gguf *file;
 *     if (ld_gguf_open(&file, "tipo-200m-f16.gguf", &err) != LD_OK) ...
 *     uint32_t layers = 0;
 *     code = ld_gguf_u32(file, "llama.block_count", true, &layers, &err);
 *     const struct ld_gguf_tensor *norm = ld_gguf_find_tensor(file, "output_norm.weight");
 *     const void *bytes = ld_gguf_data(file, norm);
 *
 * Layout: magic, version, how many tensors, how many keys; the keys with their values; the tensors'
 * names, shapes, types and offsets; then, from the next multiple of general.alignment on, the data.
 * Tensors may overlap and may leave gaps; each lies inside the file and starts aligned.
 *
 * Source   the format's description in ggml (docs/gguf.md), the block types in ggml's
 * ggml-common.h.
 */
#ifndef LD_TIPO_GGUF_H
#define LD_TIPO_GGUF_H

#include "runtime/base/bytes.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    LD_GGUF_KEYS_MAX = 4096,
    LD_GGUF_TENSORS_MAX = 4096,
    LD_GGUF_STRING_MAX = 1 << 20,   /* bytes */
    LD_GGUF_ELEMENTS_MAX = 1000000, /* of an array */
    LD_GGUF_NAME_MAX = 128,         /* bytes of a key or of a tensor's name; ggml itself has 64 */
    LD_GGUF_RANK_MAX = 4
};
#define LD_GGUF_FILE_MAX ((uint64_t)8 << 30)

/* Types of values, numbered as in the file. */
enum ld_gguf_kind {
    LD_GGUF_U8,
    LD_GGUF_I8,
    LD_GGUF_U16,
    LD_GGUF_I16,
    LD_GGUF_U32,
    LD_GGUF_I32,
    LD_GGUF_F32,
    LD_GGUF_BOOL,
    LD_GGUF_STRING,
    LD_GGUF_ARRAY,
    LD_GGUF_U64,
    LD_GGUF_I64,
    LD_GGUF_F64,
    LD_GGUF_KINDS
};

/* The types of tensors that are read; numbered as in the file. */
enum ld_gguf_type {
    LD_GGUF_TENSOR_F32 = 0,
    LD_GGUF_TENSOR_F16 = 1,
    LD_GGUF_TENSOR_Q8_0 = 8, /* blocks of 32: a float16 scale, then 32 signed bytes */
    LD_GGUF_TENSOR_BF16 = 30
};

enum { LD_GGUF_Q8_BLOCK = 32, LD_GGUF_Q8_BYTES = 34 };

/* Borrowed from the file. */
struct ld_gguf_value {
    struct ld_span key;
    enum ld_gguf_kind kind;
    enum ld_gguf_kind element; /* of an array */
    uint32_t count;            /* of an array; else 1 */
    struct ld_span bytes;      /* the value itself; of strings: with their lengths */
};

struct ld_gguf_tensor {
    struct ld_span name;
    enum ld_gguf_type type;
    uint32_t rank;
    uint64_t dims[LD_GGUF_RANK_MAX]; /* innermost first; 1 beyond the rank */
    uint64_t elements, bytes;
    uint64_t offset; /* in the file */
};

struct ld_gguf;

/*
 * Owner    returns owned; ld_gguf_close. The bytes form borrows the bytes until close; they are
 *          aligned to 8.
 * Errors   LD_E_FORMAT, LD_E_TOO_LARGE (more than the limits above), LD_E_UNSUPPORTED (version,
 * byte order, a tensor's type), LD_E_NOT_FOUND, LD_E_IO, LD_E_NOMEM.
 */
enum ld_code ld_gguf_open(struct ld_gguf **out, const char *path, struct ld_error *err) LD_MUST_USE;
enum ld_code ld_gguf_open_bytes(struct ld_gguf **out, struct ld_span bytes,
                                struct ld_error *err) LD_MUST_USE;
void ld_gguf_close(struct ld_gguf *file); /* NULL is fine */

/* ---- Tensors, in the order of their names (bytewise) ----------------------------------------- */

uint32_t ld_gguf_tensor_count(const struct ld_gguf *file);
const struct ld_gguf_tensor *ld_gguf_tensor_at(const struct ld_gguf *file, uint32_t index);
/* NULL if there is none. */
const struct ld_gguf_tensor *ld_gguf_find_tensor(const struct ld_gguf *file, const char *name);
/* The tensor's bytes. */
const void *ld_gguf_data(const struct ld_gguf *file, const struct ld_gguf_tensor *tensor);
const char *ld_gguf_type_name(enum ld_gguf_type type);

/* ---- Values ---------------------------------------------------------------------------------- */

uint32_t ld_gguf_key_count(const struct ld_gguf *file);
/* In the order of their keys (bytewise). */
const struct ld_gguf_value *ld_gguf_value_at(const struct ld_gguf *file, uint32_t index);
const struct ld_gguf_value *ld_gguf_find(const struct ld_gguf *file, const char *key);

/*
 * One value of a key. Where the key is absent and not `needed`, *out stays as it is.
 * Errors   LD_E_FORMAT: absent though needed, of another kind, or (u32) outside of 0..2^32-1.
 */
enum ld_code ld_gguf_u32(const struct ld_gguf *file, const char *key, bool needed, uint32_t *out,
                         struct ld_error *err) LD_MUST_USE;
enum ld_code ld_gguf_real(const struct ld_gguf *file, const char *key, bool needed, double *out,
                          struct ld_error *err) LD_MUST_USE;
enum ld_code ld_gguf_flag(const struct ld_gguf *file, const char *key, bool needed, bool *out,
                          struct ld_error *err) LD_MUST_USE;
enum ld_code ld_gguf_text(const struct ld_gguf *file, const char *key, bool needed,
                          struct ld_span *out, struct ld_error *err) LD_MUST_USE;
/* An array of that kind of elements (LD_GGUF_I32: or LD_GGUF_U32); always needed. */
enum ld_code ld_gguf_array(const struct ld_gguf *file, const char *key, enum ld_gguf_kind element,
                           const struct ld_gguf_value **out, struct ld_error *err) LD_MUST_USE;

/* Element `index` (below the count) of an array that was asked for as LD_GGUF_F32 or
 * LD_GGUF_I32. */
float ld_gguf_element_f32(const struct ld_gguf_value *array, uint32_t index);
int32_t ld_gguf_element_i32(const struct ld_gguf_value *array, uint32_t index);
/* The next string of an array's bytes; `rest` starts as `value->bytes`. False at its end. */
bool ld_gguf_next_string(struct ld_span *rest, struct ld_span *out);

/* A name from a file made fit for a sentence: cut, and without anything but printable ASCII. */
struct ld_gguf_shown {
    char text[LD_GGUF_NAME_MAX + 1];
};
struct ld_gguf_shown ld_gguf_show(struct ld_span name);

#ifdef __cplusplus
}
#endif
#endif
