/*
 * cp.async: copies from global to shared memory that land when the issuing thread waits for their
 * group.
 *
 * A copy may read its source and write its target at any moment between its issue and the wait.
 * Here it writes at the wait, and reads at the wait as well, or at the issue (ptx_options.order 1):
 * a kernel for which that matters is wrong. Whoever touches the target in between is told by
 * shadow.c.
 *
 * One entry holds the copies of the lanes that issued together, as far as their groups have the
 * same number: each thread counts its own groups, and threads that went apart may have counted
 * differently.
 *
 * Source: PTX ISA 9.0, "cp.async", "cp.async.commit_group", "cp.async.wait_group".
 */
#include "tests/ptx/memory_ops.h"

#include <stdlib.h>
#include <string.h>

enum { COPY_BYTES_MAX = 16 };

struct copy {
    const struct ptx_op *op;
    uint32_t lanes, group;
    uint32_t filled;        /* bytes written; of them `bytes` read, then zeros */
    uint32_t at[PTX_LANES]; /* shared offsets */
    uint8_t bytes[PTX_LANES];
    const unsigned char *source[PTX_LANES];
    unsigned char data[PTX_LANES][COPY_BYTES_MAX];
};

struct ptx_copies {
    struct copy **list; /* `count` under way in the order of issue, then ones to be used again */
    int count, room;
    uint32_t committed[PTX_LANES]; /* groups, = the number of the open one */
};

void ptx_copies_start(struct ptx_warp *w)
{
    if (w->copies == NULL && (w->copies = calloc(1, sizeof *w->copies)) == NULL)
        ptx_fail(w, -1, "no memory for asynchronous copies");
    w->copies->count = 0;
    memset(w->copies->committed, 0, sizeof w->copies->committed);
}

void ptx_copies_end(struct ptx_warp *w)
{
    const struct ptx_copies *copies = w->copies;
    if (copies->count == 0)
        return;
    const struct copy *copy = copies->list[0];
    w->op = copy->op;
    ptx_fail(w, __builtin_ctz(copy->lanes), "the copy is still under way when the thread ends");
}

void ptx_copies_free(struct ptx_warp *w)
{
    if (w->copies == NULL)
        return;
    for (int i = 0; i < w->copies->room; i++)
        free(w->copies->list[i]);
    free(w->copies->list);
    free(w->copies);
    w->copies = NULL;
}

static struct copy *new_copy(struct ptx_warp *w)
{
    struct ptx_copies *copies = w->copies;
    if (copies->count == copies->room) {
        struct copy **list =
            realloc(copies->list, ((size_t)copies->room + 1) * sizeof(struct copy *));
        if (list != NULL)
            copies->list = list;
        struct copy *copy = list != NULL ? malloc(sizeof *copy) : NULL;
        if (copy == NULL)
            ptx_fail(w, -1, "no memory for asynchronous copies");
        copies->list[copies->room++] = copy;
    }
    return copies->list[copies->count++];
}

/* ---- Issue ----------------------------------------------------------------------------------- */

/* [1], the source: its offset and width are not in op, which has those of [0]. */
static void source_addresses(const struct ptx_warp *w, const struct ptx_op *op, uint64_t *address)
{
    const struct ptx_operand *operand = &op->inst->operand[1];
    const struct ptx_register *registers = w->block->launch->kernel->registers;
    const bool wide =
        operand->item[0].kind != PTX_REG || registers[operand->item[0].reg].bytes == 8;
    ptx_addresses(w, op, 1, wide, operand->offset, address);
}

/* The lanes of w->active whose open groups have the number of the first. */
static uint32_t same_group(const struct ptx_warp *w, uint32_t lanes)
{
    const uint32_t *committed = w->copies->committed;
    const uint32_t first = committed[__builtin_ctz(lanes)];
    uint32_t same = 0;
    for (int i = 0; i < PTX_LANES; i++)
        same |= (uint32_t)(committed[i] == first) << i;
    return same & lanes;
}

void ptx_copy_issue(struct ptx_warp *w, const struct ptx_op *op)
{
    struct ptx_block *block = w->block;
    const uint32_t active = w->active;
    const uint32_t *size = PTX_U32(w, op, 2), *read = PTX_U32(w, op, 3);
    const bool partial = op->inst->count > 3;
    const uint32_t filled = size[__builtin_ctz(active)];
    uint64_t target[PTX_LANES], source[PTX_LANES];
    uint32_t at[PTX_LANES], reading = 0;
    uint8_t bytes[PTX_LANES];

    if (filled != 4 && filled != 8 && filled != 16)
        ptx_fail(w, -1, "copies %u bytes", filled);
    ptx_addresses(w, op, 0, op->address_wide, op->offset, target);
    source_addresses(w, op, source);
    block->access++;
    for (int i = 0; i < PTX_LANES; i++) {
        if (!(active >> i & 1))
            continue;
        const uint32_t n = partial ? read[i] : filled;
        if (n > filled)
            ptx_fail(w, i, "reads %u bytes to copy %u", n, filled);
        if ((source[i] & (filled - 1)) != 0)
            ptx_fail(w, i, "copies from 0x%llx, which is not a multiple of %u",
                     (unsigned long long)source[i], filled);
        if (n > 0)
            ptx_global(w, i, source[i], n, 1, false);
        ptx_shared_at(w, i, target[i], filled, true);
        reading |= (uint32_t)(n > 0) << i;
        bytes[i] = (uint8_t)n;
        at[i] = (uint32_t)target[i];
        if (block->shadow != NULL)
            ptx_shadow_issue(w, i, at[i], filled);
    }
    block->counts.cp_async++;
    block->counts.global_access++;
    const uint32_t sectors = ptx_count_sectors(reading, source);
    block->counts.global_sectors += sectors;
    ptx_site_sectors(w, reading, source, filled, sectors);
    const uint32_t passes = ptx_bank_passes(active, at, filled);
    block->counts.shared_access++;
    block->counts.shared_passes += passes;
    ptx_site_passes(w, active, filled, passes);

    for (uint32_t left = active; left != 0;) {
        struct copy *copy = new_copy(w);
        copy->op = op;
        copy->lanes = same_group(w, left);
        copy->group = w->copies->committed[__builtin_ctz(left)];
        copy->filled = filled;
        left &= ~copy->lanes;
        memcpy(copy->at, at, sizeof at);
        memcpy(copy->bytes, bytes, sizeof bytes);
        for (int i = 0; i < PTX_LANES; i++) {
            copy->source[i] = (const unsigned char *)(uintptr_t)source[i];
            if (block->order == 1 && copy->lanes >> i & 1)
                memcpy(copy->data[i], copy->source[i], bytes[i]);
        }
    }
}

void ptx_copy_commit(struct ptx_warp *w, const struct ptx_op *op)
{
    (void)op;
    for (int i = 0; i < PTX_LANES; i++)
        w->copies->committed[i] += w->active >> i & 1;
}

/* ---- Waiting --------------------------------------------------------------------------------- */

static void land(struct ptx_warp *w, const struct copy *copy, uint32_t lanes)
{
    struct ptx_block *block = w->block;
    for (uint32_t left = lanes; left != 0; left &= left - 1) {
        const int i = __builtin_ctz(left);
        unsigned char *target = block->shared + copy->at[i];
        const unsigned char *source = block->order == 1 ? copy->data[i] : copy->source[i];
        if (copy->bytes[i] == COPY_BYTES_MAX) {
            memcpy(target, source, COPY_BYTES_MAX);
        } else {
            memset(target, 0, copy->filled);
            memcpy(target, source, copy->bytes[i]);
        }
        if (block->shadow != NULL)
            ptx_shadow_land(w, i, copy->at[i], copy->filled);
    }
}

/* Lands the copies of group numbers below `until` of each active lane. */
static void land_until(struct ptx_warp *w, const uint32_t *until)
{
    struct ptx_copies *copies = w->copies;
    int kept = 0;
    for (int n = 0; n < copies->count; n++) {
        struct copy *copy = copies->list[n];
        uint32_t lanes = 0;
        for (int i = 0; i < PTX_LANES; i++)
            lanes |= (uint32_t)(copy->group < until[i]) << i;
        lanes &= copy->lanes & w->active;
        land(w, copy, lanes);
        copy->lanes &= ~lanes;
        if (copy->lanes == 0)
            continue;
        copies->list[n] = copies->list[kept];
        copies->list[kept++] = copy;
    }
    copies->count = kept;
}

void ptx_copy_wait(struct ptx_warp *w, const struct ptx_op *op)
{
    const uint32_t *pending = PTX_U32(w, op, 0);
    const uint32_t *committed = w->copies->committed;
    uint32_t until[PTX_LANES];
    for (int i = 0; i < PTX_LANES; i++)
        until[i] = committed[i] > pending[i] ? committed[i] - pending[i] : 0;
    land_until(w, until);
}

void ptx_copy_wait_all(struct ptx_warp *w, const struct ptx_op *op)
{
    uint32_t until[PTX_LANES];
    ptx_copy_commit(w, op);
    memcpy(until, w->copies->committed, sizeof until);
    land_until(w, until);
}
