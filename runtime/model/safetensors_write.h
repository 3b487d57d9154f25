/*
 * Writing safetensors files: the header from a list, then each tensor as the caller produces it, so
 * that no more than one tensor is in memory.
 */
#ifndef LD_MODEL_SAFETENSORS_WRITE_H
#define LD_MODEL_SAFETENSORS_WRITE_H

#include "runtime/model/safetensors.h"

/* What will be in the file, in this order; names must be unique and neither empty nor
 * "__metadata__". */
struct ld_st_item {
    const char *name;
    enum ld_dtype dtype; /* not LD_DTYPE_OTHER */
    uint32_t rank;
    uint64_t shape[LD_ST_RANK_MAX];
};

struct ld_st_note {
    const char *key, *value;
};

struct ld_st_write {
    const struct ld_st_item *items;
    uint32_t count;
    const struct ld_st_note *metadata; /* keys unique */
    uint32_t metadata_count;
    /* Produce the bytes of items[index]. */
    enum ld_code (*fill)(void *ctx, uint32_t index, void *dst, size_t bytes, struct ld_error *err);
    void *ctx;
};

/*
 * Write everything at the descriptor's position. The header is padded so that the data starts at a
 * multiple of 8.
 * Errors   LD_E_TOO_LARGE (header, tensor count, file), LD_E_NOMEM, those of `fill` and of writing.
 */
enum ld_code ld_safetensors_write(int fd, const struct ld_st_write *plan,
                                  struct ld_error *err) LD_MUST_USE;

#endif
