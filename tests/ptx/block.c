/*
 * One block: its warps take turns, each until it waits at a barrier or has ended.
 *
 * A barrier belongs to a number of threads, all that live or as many as the instruction says. A
 * warp comes to it as one, with all its threads that have not ended (PTX ISA: the executing thread
 * waits for all non-exited threads from its warp). When nobody can run any more and somebody waits,
 * it is a deadlock. A warp that spins until another writes something keeps its turn, and ends by
 * its budget of instructions.
 */
#include "tests/ptx/machine.h"

#include <stdio.h>

/* ---- Barriers -------------------------------------------------------------------------------- */

static uint32_t living_warps(const struct ptx_block *block)
{
    uint32_t living = 0;
    for (int i = 0; i < block->warp_count; i++)
        living |= (uint32_t)(block->warps[i].alive != 0) << i;
    return living;
}

static bool barrier_complete(const struct ptx_block *block, const struct ptx_barrier *barrier)
{
    if (barrier->come == 0)
        return false;
    if (barrier->counted)
        return (uint32_t)__builtin_popcount(barrier->come) * PTX_LANES >= barrier->threads;
    return (living_warps(block) & ~barrier->come) == 0;
}

static void release(struct ptx_block *block, int id)
{
    struct ptx_barrier *barrier = &block->barriers[id];
    if (!barrier_complete(block, barrier))
        return;
    for (int i = 0; i < block->warp_count; i++) {
        struct ptx_warp *w = &block->warps[i];
        if (w->barrier != id)
            continue;
        w->barrier = -1;
        if (block->shadow != NULL)
            ptx_shadow_leave(w, id);
    }
    if (block->shadow != NULL)
        ptx_shadow_complete(block, id);
    *barrier = (struct ptx_barrier){0};
}

/* Operand k of a barrier, the same in all living lanes. */
static uint32_t barrier_operand(struct ptx_warp *w, int k, const char *what)
{
    const uint32_t *value = PTX_U32(w, w->op, k);
    const int first = __builtin_ctz(w->active);
    for (int i = first + 1; i < PTX_LANES; i++)
        if (w->active >> i & 1 && value[i] != value[first])
            ptx_fail(w, i, "%s %u, but %u in lane %d", what, value[i], value[first], first);
    return value[first];
}

void ptx_barrier_come(struct ptx_warp *w, bool waits)
{
    struct ptx_block *block = w->block;
    const uint32_t id = barrier_operand(w, 0, "barrier");
    const bool counted = w->op->inst->count > 1;
    const uint32_t threads = counted ? barrier_operand(w, 1, "a barrier's thread count")
                                     : (uint32_t)block->warp_count * PTX_LANES;
    if (id >= PTX_BARRIERS)
        ptx_fail(w, -1, "barrier %u: there are %d", id, PTX_BARRIERS);
    if (threads == 0 || threads % PTX_LANES != 0 ||
        threads > (uint32_t)block->warp_count * PTX_LANES)
        ptx_fail(w, -1, "barrier %u of %u threads in a block of %u", id, threads, block->threads);

    struct ptx_barrier *barrier = &block->barriers[id];
    if (barrier->come != 0 && barrier->threads != threads)
        ptx_fail(w, -1, "barrier %u of %u threads, but of %u for those who came before", id,
                 threads, barrier->threads);
    if (barrier->come >> w->index & 1)
        ptx_fail(w, -1, "the warp comes to barrier %u again before it has completed", id);
    barrier->threads = threads;
    barrier->counted |= counted;
    barrier->come |= 1u << w->index;
    if (block->shadow != NULL)
        ptx_shadow_come(w, (int)id);
    if (waits)
        w->barrier = (int32_t)id;
    release(block, (int)id);
}

/* ---- Turns ----------------------------------------------------------------------------------- */

static _Noreturn void deadlock(struct ptx_block *block)
{
    char text[384];
    size_t used = 0;
    struct ptx_warp *first = NULL;
    for (int i = 0; i < block->warp_count; i++) {
        struct ptx_warp *w = &block->warps[i];
        if (w->barrier < 0)
            continue;
        const struct ptx_barrier *barrier = &block->barriers[w->barrier];
        if (first == NULL)
            first = w;
        if (used < sizeof text)
            used += (size_t)snprintf(
                text + used, sizeof text - used,
                "%swarp %d waits at line %d for barrier %d (%d warps of %u threads have come)",
                used > 0 ? ", " : "", i, w->op->inst->line, w->barrier,
                __builtin_popcount(barrier->come), barrier->threads);
    }
    ptx_fail(first, -1, "deadlock: %s", text);
}

/* The order in which warps take their turns in one round. */
static void shuffle(const struct ptx_block *block, uint64_t *random, int32_t *turn)
{
    for (int32_t i = 0; i < block->warp_count; i++)
        turn[i] = block->order == 1 ? block->warp_count - 1 - i : i;
    if (block->order <= 1)
        return;
    for (int32_t i = block->warp_count - 1; i > 0; i--) {
        *random = *random * 6364136223846793005u + 1442695040888963407u;
        const int32_t k = (int32_t)((*random >> 33) % (uint64_t)(i + 1));
        const int32_t t = turn[i];
        turn[i] = turn[k];
        turn[k] = t;
    }
}

void ptx_block_run(struct ptx_block *block)
{
    uint64_t random = block->order + ((uint64_t)block->index[0] << 32) +
                      ((uint64_t)block->index[1] << 16) + block->index[2];
    int32_t turn[PTX_BLOCK_WARPS];
    int32_t ended = 0;
    bool gone[PTX_BLOCK_WARPS] = {false};

    for (int id = 0; id < PTX_BARRIERS; id++)
        block->barriers[id] = (struct ptx_barrier){0};
    for (int i = 0; i < block->warp_count; i++) {
        ptx_warp_start(&block->warps[i]);
        ptx_copies_start(&block->warps[i]);
    }
    if (block->shadow != NULL)
        ptx_shadow_start(block);

    while (ended < block->warp_count) {
        bool progress = false;
        shuffle(block, &random, turn);
        for (int i = 0; i < block->warp_count; i++) {
            struct ptx_warp *w = &block->warps[turn[i]];
            if (gone[w->index] || w->barrier >= 0)
                continue;
            progress = true;
            if (!ptx_warp_run(w))
                continue;
            ptx_copies_end(w);
            block->counts.instructions += w->instructions;
            gone[w->index] = true;
            ended++;
            for (int id = 0; id < PTX_BARRIERS; id++)
                release(block, id);
        }
        if (!progress)
            deadlock(block);
    }
}
