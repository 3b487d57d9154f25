/*
 * Where an access of a warp goes: addresses are computed, checked and counted for all its lanes.
 *
 * Most accesses are a row: lane i's bytes begin where lane i-1's end; one check does for all. Costs
 * are counted as the hardware's caches see them: sectors of 32 bytes of global memory, passes over
 * the 32 banks of 4 bytes of shared memory (accesses of 8 and 16 bytes a lane go by half and
 * quarter warps; equal words are one).
 *
 * Source: CUDA C++ Programming Guide, "Shared Memory"; PTX ISA 9.0, "Generic Addressing".
 */
#include "tests/ptx/memory.h"

#include <string.h>

enum { BANKS = 32, BANK_BYTES = 4, SECTOR_SHIFT = 5, SECTOR = 1 << SECTOR_SHIFT };
enum { ACCESS_BYTES_MAX = 16 };

static const uint64_t SHARED_WINDOW_BYTES = 16u << 20;

/* What lanes that are not active may read. */
static unsigned char nothing[ACCESS_BYTES_MAX];

static bool in_window(uint64_t address)
{
    return address - PTX_SHARED_WINDOW < SHARED_WINDOW_BYTES;
}

void ptx_addresses(const struct ptx_warp *w, const struct ptx_op *op, int k, bool wide,
                   int64_t offset, uint64_t *address)
{
    if (wide) {
        const uint64_t *base = PTX_U64(w, op, k);
        for (int i = 0; i < PTX_LANES; i++)
            address[i] = base[i] + (uint64_t)offset;
    } else {
        const uint32_t *base = PTX_U32(w, op, k);
        for (int i = 0; i < PTX_LANES; i++)
            address[i] = base[i] + (uint32_t)offset;
        for (int i = 0; i < PTX_LANES; i++)
            address[i] &= UINT32_MAX;
    }
}

/* Every lane is active and begins where the one before ends. */
static bool is_row(uint32_t active, const uint64_t *address, uint32_t bytes)
{
    if (active != UINT32_MAX)
        return false;
    uint64_t off = 0;
    for (uint32_t i = 0; i < PTX_LANES; i++)
        off |= address[i] ^ (address[0] + (uint64_t)i * bytes);
    return off == 0;
}

static bool is_same(uint32_t active, const uint64_t *address)
{
    const uint64_t first = address[__builtin_ctz(active)];
    uint64_t off = 0;
    for (int i = 0; i < PTX_LANES; i++)
        off |= active >> i & 1 ? address[i] ^ first : 0;
    return off == 0;
}

static void put_row(struct ptx_where *out, unsigned char *base, uint32_t bytes)
{
    out->row = true;
    for (uint32_t i = 0; i < PTX_LANES; i++)
        out->p[i] = base + (size_t)i * bytes;
}

static void put_same(struct ptx_where *out, uint32_t active, unsigned char *base)
{
    out->row = false;
    for (int i = 0; i < PTX_LANES; i++)
        out->p[i] = active >> i & 1 ? base : nothing;
}

/* ---- Global memory --------------------------------------------------------------------------- */

uint32_t ptx_count_sectors(uint32_t lanes, const uint64_t *address)
{
    return ptx_count_pieces(lanes, address, SECTOR_SHIFT);
}

uint32_t ptx_count_pieces(uint32_t lanes, const uint64_t *address, uint32_t shift)
{
    uint64_t seen[PTX_LANES], last = 0;
    uint32_t changes = 0, count = 0;
    bool up = true; /* addresses go up with the lanes, as they mostly do: then changes are all */
    for (uint32_t left = lanes; left != 0; left &= left - 1) {
        const uint64_t sector = address[__builtin_ctz(left)] >> shift;
        up = up && (changes == 0 || sector >= last);
        changes += changes == 0 || sector != last;
        last = sector;
    }
    for (uint32_t left = lanes; left != 0 && !up; left &= left - 1) {
        const uint64_t sector = address[__builtin_ctz(left)] >> shift;
        uint32_t i = count;
        while (i > 0 && seen[i - 1] != sector)
            i--;
        if (i == 0)
            seen[count++] = sector;
    }
    return up ? changes : count;
}

static void count_global(struct ptx_warp *w, const uint64_t *address, uint32_t bytes,
                         uint32_t sectors)
{
    w->block->counts.global_sectors += sectors;
    ptx_site_sectors(w, w->active, address, bytes, sectors);
}

static void where_global(struct ptx_warp *w, const uint64_t *address, uint32_t bytes,
                         enum ptx_access access, struct ptx_where *out)
{
    struct ptx_counts *counts = &w->block->counts;
    const uint32_t active = w->active;
    counts->global_access++;
    if (is_row(active, address, bytes)) {
        /* A row that leaves its region is told lane by lane. */
        const uint64_t first = address[0], last = first + (uint64_t)bytes * PTX_LANES - 1;
        const struct ptx_region *near = w->block->near;
        for (int i = 0; i < PTX_NEAR; i++) {
            const uint64_t offset = first - near[i].base;
            if (offset < near[i].bytes && near[i].bytes - offset >= last - first + 1 &&
                (first & (bytes - 1)) == 0) {
                count_global(w, address, bytes, (uint32_t)(last / SECTOR - first / SECTOR + 1));
                put_row(out, (unsigned char *)(uintptr_t)first, bytes);
                return;
            }
        }
    }
    if (is_same(active, address)) {
        const int lane = __builtin_ctz(active);
        count_global(w, address, bytes, 1);
        put_same(out, active, ptx_global(w, lane, address[lane], bytes, bytes, access != PTX_READ));
        return;
    }
    count_global(w, address, bytes, ptx_count_sectors(active, address));
    out->row = false;
    for (int i = 0; i < PTX_LANES; i++)
        out->p[i] = active >> i & 1 ? ptx_global(w, i, address[i], bytes, bytes, access != PTX_READ)
                                    : nothing;
}

void ptx_where_global(struct ptx_warp *w, const struct ptx_op *op, int k, uint32_t bytes,
                      enum ptx_access access, struct ptx_where *out)
{
    uint64_t address[PTX_LANES];
    ptx_addresses(w, op, k, op->address_wide, op->offset, address);
    where_global(w, address, bytes, access, out);
}

/* ---- Shared memory --------------------------------------------------------------------------- */

/* The most different places that lanes want of one bank. */
static uint32_t count_conflicts(uint32_t lanes, const uint32_t *at, uint32_t shift, uint32_t banks)
{
    uint32_t of_bank[BANKS][PTX_LANES], most = 0;
    uint32_t count[BANKS] = {0};
    for (uint32_t left = lanes; left != 0; left &= left - 1) {
        const uint32_t place = at[__builtin_ctz(left)] >> shift, bank = place & (banks - 1);
        uint32_t n = 0;
        while (n < count[bank] && of_bank[bank][n] != place)
            n++;
        if (n < count[bank])
            continue;
        of_bank[bank][n] = place;
        count[bank]++;
        most = count[bank] > most ? count[bank] : most;
    }
    return most;
}

uint32_t ptx_bank_passes_least(uint32_t lanes, uint32_t bytes)
{
    const uint32_t together = bytes > BANK_BYTES ? BANKS * BANK_BYTES / bytes : PTX_LANES;
    uint32_t passes = 0;
    for (uint32_t first = 0; first < PTX_LANES; first += together)
        passes += ((uint32_t)(((uint64_t)1 << together) - 1) << first & lanes) != 0;
    return passes;
}

uint32_t ptx_bank_passes(uint32_t lanes, const uint32_t *at, uint32_t bytes)
{
    /* Accesses are aligned, so those of 2 and 4 words are of 16 and 8 wider banks. */
    const uint32_t width = bytes > BANK_BYTES ? bytes : BANK_BYTES;
    const uint32_t shift = (uint32_t)__builtin_ctz(width), banks = BANKS * BANK_BYTES >> shift;
    uint32_t passes = 0;
    for (uint32_t first = 0; first < PTX_LANES; first += banks) { /* as many lanes go at once */
        const uint32_t part = (uint32_t)(((uint64_t)1 << banks) - 1) << first & lanes;
        uint32_t hit = 0;
        for (uint32_t left = part; left != 0; left &= left - 1)
            hit |= 1u << (at[__builtin_ctz(left)] >> shift & (banks - 1));
        if (__builtin_popcount(hit) == __builtin_popcount(part)) /* each its own bank */
            passes += part != 0;
        else
            passes += count_conflicts(part, at, shift, banks);
    }
    return passes;
}

unsigned char *ptx_shared_at(struct ptx_warp *w, int lane, uint64_t at, uint32_t count, bool write)
{
    const struct ptx_block *block = w->block;
    if ((at & (count - 1)) != 0)
        ptx_fail(w, lane, "%s %u bytes at shared offset %llu, which is not a multiple of %u",
                 write ? "writes" : "reads", count, (unsigned long long)at, count);
    if (at > block->shared_bytes || block->shared_bytes - at < count)
        ptx_fail(w, lane, "%s %u bytes at shared offset %llu, %llu bytes past the end of %u bytes",
                 write ? "writes" : "reads", count, (unsigned long long)at,
                 (unsigned long long)(at + count - block->shared_bytes), block->shared_bytes);
    return block->shared + at;
}

static void shade(struct ptx_warp *w, int lane, uint32_t at, uint32_t count, enum ptx_access access)
{
    if (access == PTX_READ)
        ptx_shadow_read(w, lane, at, count);
    else if (access == PTX_WRITE)
        ptx_shadow_write(w, lane, at, count);
    else
        ptx_shadow_atomic(w, lane, at, count);
}

unsigned char *ptx_shared(struct ptx_warp *w, int lane, uint64_t address, uint32_t count,
                          bool write)
{
    const uint64_t at = in_window(address) ? address - PTX_SHARED_WINDOW : address;
    unsigned char *p = ptx_shared_at(w, lane, at, count, write);
    if (w->block->shadow != NULL)
        shade(w, lane, (uint32_t)at, count, write ? PTX_WRITE : PTX_READ);
    return p;
}

static void count_shared(struct ptx_warp *w, uint32_t bytes, uint32_t passes)
{
    w->block->counts.shared_access++;
    w->block->counts.shared_passes += passes;
    ptx_site_passes(w, w->active, bytes, passes);
}

static void where_shared(struct ptx_warp *w, const uint64_t *offset, uint32_t bytes,
                         enum ptx_access access, struct ptx_where *out)
{
    struct ptx_block *block = w->block;
    const uint32_t active = w->active;
    if (is_row(active, offset, bytes) && (offset[0] & (bytes - 1)) == 0 &&
        offset[0] + (uint64_t)bytes * PTX_LANES <= block->shared_bytes) {
        count_shared(w, bytes, ptx_bank_passes_least(active, bytes));
        put_row(out, block->shared + offset[0], bytes);
    } else if (is_same(active, offset)) {
        const int lane = __builtin_ctz(active);
        count_shared(w, bytes, ptx_bank_passes_least(active, bytes));
        put_same(out, active, ptx_shared_at(w, lane, offset[lane], bytes, access != PTX_READ));
    } else {
        uint32_t at[PTX_LANES];
        out->row = false;
        for (int i = 0; i < PTX_LANES; i++) {
            at[i] = (uint32_t)offset[i];
            out->p[i] = active >> i & 1 ? ptx_shared_at(w, i, offset[i], bytes, access != PTX_READ)
                                        : nothing;
        }
        count_shared(w, bytes, ptx_bank_passes(active, at, bytes));
    }
    if (block->shadow == NULL)
        return;
    block->access++;
    for (uint32_t left = active; left != 0; left &= left - 1) {
        const int lane = __builtin_ctz(left);
        shade(w, lane, (uint32_t)offset[lane], bytes, access);
    }
}

void ptx_where_shared(struct ptx_warp *w, const struct ptx_op *op, int k, uint32_t bytes,
                      enum ptx_access access, struct ptx_where *out)
{
    uint64_t offset[PTX_LANES];
    ptx_addresses(w, op, k, op->address_wide, op->offset, offset);
    where_shared(w, offset, bytes, access, out);
}

/* ---- Generic addresses and parameters -------------------------------------------------------- */

void ptx_where_generic(struct ptx_warp *w, const struct ptx_op *op, int k, uint32_t bytes,
                       enum ptx_access access, struct ptx_where *out)
{
    const uint32_t active = w->active;
    uint64_t address[PTX_LANES], offset[PTX_LANES];
    uint32_t shared = 0;
    ptx_addresses(w, op, k, op->address_wide, op->offset, address);
    for (int i = 0; i < PTX_LANES; i++) {
        shared |= (uint32_t)in_window(address[i]) << i;
        offset[i] = address[i] - PTX_SHARED_WINDOW;
    }
    shared &= active;
    if (shared == 0) {
        where_global(w, address, bytes, access, out);
    } else if (shared == active) {
        where_shared(w, offset, bytes, access, out);
    } else {
        /* Some of each: two accesses. */
        struct ptx_where other;
        w->active = shared;
        where_shared(w, offset, bytes, access, &other);
        w->active = active & ~shared;
        where_global(w, address, bytes, access, out);
        w->active = active;
        for (int i = 0; i < PTX_LANES; i++)
            out->p[i] = shared >> i & 1 ? other.p[i] : out->p[i];
    }
}

void ptx_where_param(struct ptx_warp *w, const struct ptx_op *op, int k, uint32_t bytes,
                     enum ptx_access access, struct ptx_where *out)
{
    const struct ptx_launch *launch = w->block->launch;
    const uint32_t size = launch->kernel->param_bytes;
    uint64_t address[PTX_LANES];
    ptx_addresses(w, op, k, op->address_wide, op->offset, address);
    (void)access; /* there is no rule that writes parameters */
    out->row = false;
    for (int i = 0; i < PTX_LANES; i++) {
        out->p[i] = nothing;
        if (!(w->active >> i & 1))
            continue;
        if (address[i] > size || size - address[i] < bytes || (address[i] & (bytes - 1)) != 0)
            ptx_fail(w, i, "reads %u bytes at offset %llu of %u bytes of parameters", bytes,
                     (unsigned long long)address[i], size);
        out->p[i] = (unsigned char *)(uintptr_t)(launch->params + address[i]);
    }
}
