/* The header of a safetensors file, parsed and checked; private to the reader. */
#ifndef LD_MODEL_SAFETENSORS_HEADER_H
#define LD_MODEL_SAFETENSORS_HEADER_H

#include "runtime/base/arena.h"
#include "runtime/model/safetensors.h"

struct ld_st_pair {
    struct ld_span key; /* a NUL follows */
    const char *value;
};

/* Everything lives in `arena`, except the growing arrays while they grow. */
struct ld_st_header {
    struct ld_arena arena;
    struct ld_st_tensor *tensors; /* sorted by name */
    uint32_t tensor_count;
    struct ld_st_pair *pairs; /* sorted by key */
    uint32_t pair_count;
};

/*
 * Parse `json` (the header's bytes) of a file with `data_size` bytes behind it.
 * Owner    fills `out`, a zeroed struct; ld_st_header_deinit on success and on failure.
 * Errors   LD_E_FORMAT and LD_E_TOO_LARGE with `why`, LD_E_NOMEM.
 */
enum ld_code ld_st_header_parse(struct ld_st_header *out, struct ld_span json, uint64_t data_size,
                                enum ld_st_class *why, struct ld_error *err) LD_MUST_USE;
void ld_st_header_deinit(struct ld_st_header *header);

#endif
