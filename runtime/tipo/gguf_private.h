/* What the two files of the GGUF reader share: the parsed file, and the parser. */
#ifndef LD_TIPO_GGUF_PRIVATE_H
#define LD_TIPO_GGUF_PRIVATE_H

#include "runtime/tipo/gguf.h"

struct ld_gguf {
    const uint8_t *map; /* the whole file */
    uint64_t bytes;
    struct ld_gguf_value *values;   /* by key */
    struct ld_gguf_tensor *tensors; /* by name */
    uint32_t value_count, tensor_count;
    bool mapped; /* else the bytes are borrowed */
};

/* Bytewise, a prefix first. */
int ld_gguf_compare(struct ld_span a, struct ld_span b);

/* Fills the tables from `map`, sorted and without duplicates. Errors as ld_gguf_open_bytes; what is
 * allocated then belongs to `file` all the same. */
enum ld_code ld_gguf_parse(struct ld_gguf *file, struct ld_error *err) LD_MUST_USE;

#endif
