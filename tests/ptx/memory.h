/*
 * Where the lanes of an access are: between the files that move data between registers and memory.
 */
#ifndef LD_TESTS_PTX_MEMORY_H
#define LD_TESTS_PTX_MEMORY_H

#include "tests/ptx/machine.h"

enum ptx_access { PTX_READ, PTX_WRITE, PTX_ATOMIC };

/*
 * The host's addresses of an access: p[i] of an active lane i is checked, of another it points to
 * zeros that may be read. row: all 32 lanes are active, and each begins where the one before ends.
 */
struct ptx_where {
    unsigned char *p[PTX_LANES];
    bool row;
};

/* Generic addresses, of operand k, `offset` from its register of 64 or 32 bits a lane. */
void ptx_addresses(const struct ptx_warp *w, const struct ptx_op *op, int k, bool wide,
                   int64_t offset, uint64_t *address);
/* Checks an access of the active lanes to `bytes` (1..16) bytes at operand k, and counts it. */
void ptx_where_param(struct ptx_warp *w, const struct ptx_op *op, int k, uint32_t bytes,
                     enum ptx_access access, struct ptx_where *out);
void ptx_where_global(struct ptx_warp *w, const struct ptx_op *op, int k, uint32_t bytes,
                      enum ptx_access access, struct ptx_where *out);
void ptx_where_shared(struct ptx_warp *w, const struct ptx_op *op, int k, uint32_t bytes,
                      enum ptx_access access, struct ptx_where *out);
void ptx_where_generic(struct ptx_warp *w, const struct ptx_op *op, int k, uint32_t bytes,
                       enum ptx_access access, struct ptx_where *out);
/* Shared offset `at` of `count` bytes; no shadow. */
unsigned char *ptx_shared_at(struct ptx_warp *w, int lane, uint64_t at, uint32_t count, bool write);
/* Passes over the 32 banks that an access of the lanes to `bytes` bytes at these shared offsets
 * takes. */
uint32_t ptx_bank_passes(uint32_t lanes, const uint32_t *at, uint32_t bytes);
/* Passes of the same access if no two lanes were in each other's way: at least one. */
uint32_t ptx_bank_passes_least(uint32_t lanes, uint32_t bytes);
/* Different pieces of 32 bytes of global memory that the lanes touch; none crosses a border. */
uint32_t ptx_count_sectors(uint32_t lanes, const uint64_t *address);
/* Different pieces of 2^shift bytes. */
uint32_t ptx_count_pieces(uint32_t lanes, const uint64_t *address, uint32_t shift);

#endif
