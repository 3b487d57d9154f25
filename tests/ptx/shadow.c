/*
 * Races in shared memory: who touched which byte last, and whether there was a barrier since.
 *
 * Warps keep vector clocks. A warp counts the barriers that it comes to; at a barrier it leaves
 * what it knows of the others' counts, and who goes on from the barrier takes what was left there,
 * so full and counted barriers and arrivals without waiting are one case. An access is known by its
 * warp and the warp's count; it lies before another warp's access if that one knows a count at
 * least as high. Among the lanes of one warp only barriers and bar.warp.sync order memory: a
 * shuffle makes lanes meet but promises nothing of what they wrote.
 *
 * Of a word is kept who wrote it last and who read it since: warps of at most two counts, and lanes
 * of the warp that read last. What does not fit there is forgotten, so a race may go unseen; none
 * is made up. A word that is touched in parts is kept byte by byte from then on.
 *
 * The target of an asynchronous copy belongs to the copy from issue to landing.
 */
#include "tests/ptx/machine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Every access goes through here: one copy of the code for each kind. */
#define INLINE static inline __attribute__((always_inline))

enum { WORD = 4, CLOCKS = 2 };

struct change {
    uint32_t access; /* its number, the same for all lanes of one instruction */
    uint32_t clock, epoch;
    int32_t op;
    uint32_t thread;
};

struct cell {
    struct change write, atomic; /* the last write, and the last atomic operation since */
    /* Reads since. */
    uint32_t read_warp; /* whose lanes: */
    uint32_t read_lanes, read_epoch;
    int32_t read_op; /* of the last */
    uint32_t read_clock[CLOCKS], read_warps[CLOCKS];
    /* A copy to here is under way: its op + 1; 0: none. */
    int32_t copy_op;
    uint32_t copy_thread;
    uint32_t split; /* number of the block in which the word is kept by bytes */
};

struct warp_clock {
    uint32_t known[PTX_BLOCK_WARPS]; /* counts of all warps; its own is the present one */
    /* Meetings of its lanes: all have seen what was done up to `all`, lane i of lane k up to
     * seen[i][k]. */
    uint32_t epoch, all;
    bool parted; /* seen[] is in use */
    uint32_t seen[PTX_LANES][PTX_LANES];
};

struct ptx_shadow {
    struct cell *words, *bytes;
    uint32_t block; /* number of the present one */
    uint32_t most;  /* no count is higher */
    struct warp_clock warps[PTX_BLOCK_WARPS];
    uint32_t left[PTX_BARRIERS][PTX_BLOCK_WARPS]; /* at barriers, by who came */
};

/* ---- Life ------------------------------------------------------------------------------------ */

bool ptx_shadow_make(struct ptx_block *block)
{
    const size_t words = (size_t)block->shared_bytes / WORD + 1;
    struct ptx_shadow *shadow = calloc(1, sizeof *shadow);
    if (shadow == NULL)
        return false;
    shadow->words = calloc(words, sizeof *shadow->words);
    shadow->bytes = calloc(words * WORD, sizeof *shadow->bytes);
    block->shadow = shadow;
    return shadow->words != NULL && shadow->bytes != NULL;
}

void ptx_shadow_free(struct ptx_block *block)
{
    if (block->shadow == NULL)
        return;
    free(block->shadow->words);
    free(block->shadow->bytes);
    free(block->shadow);
    block->shadow = NULL;
}

/* Counts go on from block to block: what an earlier block left in the cells lies before everything.
 */
void ptx_shadow_start(struct ptx_block *block)
{
    struct ptx_shadow *shadow = block->shadow;
    const uint32_t before = ++shadow->most;
    shadow->most++;
    shadow->block++;
    memset(shadow->left, 0, sizeof shadow->left);
    for (int i = 0; i < PTX_BLOCK_WARPS; i++) {
        struct warp_clock *clock = &shadow->warps[i];
        for (int k = 0; k < PTX_BLOCK_WARPS; k++)
            clock->known[k] = before;
        clock->known[i] = before + 1;
        clock->epoch++;
        clock->parted = false;
    }
}

/* ---- Order ----------------------------------------------------------------------------------- */

static uint32_t higher(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}

void ptx_shadow_come(struct ptx_warp *w, int id)
{
    struct ptx_shadow *shadow = w->block->shadow;
    uint32_t *known = shadow->warps[w->index].known;
    for (int i = 0; i < PTX_BLOCK_WARPS; i++)
        shadow->left[id][i] = higher(shadow->left[id][i], known[i]);
    known[w->index]++;
    shadow->most = higher(shadow->most, known[w->index]);
}

void ptx_shadow_leave(struct ptx_warp *w, int id)
{
    struct ptx_shadow *shadow = w->block->shadow;
    uint32_t *known = shadow->warps[w->index].known;
    for (int i = 0; i < PTX_BLOCK_WARPS; i++)
        known[i] = higher(known[i], shadow->left[id][i]);
}

void ptx_shadow_complete(struct ptx_block *block, int id)
{
    memset(block->shadow->left[id], 0, sizeof block->shadow->left[id]);
}

void ptx_shadow_meet(struct ptx_warp *w, uint32_t mask)
{
    struct warp_clock *clock = &w->block->shadow->warps[w->index];
    const uint32_t now = clock->epoch++;
    if (mask == w->alive) {
        clock->all = now;
        clock->parted = false;
        return;
    }
    if (!clock->parted)
        memset(clock->seen, 0, sizeof clock->seen);
    clock->parted = true;
    uint32_t together[PTX_LANES] = {0};
    for (int i = 0; i < PTX_LANES; i++)
        for (int k = 0; k < PTX_LANES && mask >> i & 1; k++)
            together[k] = mask >> k & 1 ? now : higher(together[k], clock->seen[i][k]);
    for (int i = 0; i < PTX_LANES; i++)
        if (mask >> i & 1)
            memcpy(clock->seen[i], together, sizeof together);
}

/* Lane `lane` has seen what lane `other` of its warp did at `epoch`. */
INLINE bool seen(const struct warp_clock *clock, int lane, int other, uint32_t epoch)
{
    return lane == other || epoch <= clock->all ||
           (clock->parted && epoch <= clock->seen[lane][other]);
}

/* ---- Checks ---------------------------------------------------------------------------------- */

/* The access that is held against the cells. */
struct visit {
    struct ptx_warp *w;
    struct warp_clock *clock;
    int lane;
    uint32_t at; /* offset of the cell */
    uint32_t access;
    int32_t op;
    const char *verb;
};

static _Noreturn __attribute__((noinline, cold)) void race(const struct visit *v, const char *verb,
                                                           int warp, int lane, int32_t op)
{
    const struct ptx_launch *launch = v->w->block->launch;
    const struct ptx_inst *inst = launch->kernel->ops[op].inst;
    char who[48];
    if (lane >= 0)
        ptx_thread_text(launch, (uint32_t)(warp * PTX_LANES + lane), who, sizeof who);
    else
        snprintf(who, sizeof who, "warp %d", warp);
    ptx_fail(v->w, v->lane, "%s shared offset %u, which %s %s at PTX line %d `%s`, %s", v->verb,
             v->at, who, verb, inst->line, inst->name,
             warp == v->w->index ? "and no bar.warp.sync lies between"
                                 : "and no barrier lies between");
}

static _Noreturn __attribute__((noinline, cold)) void under_way(const struct visit *v,
                                                                const struct cell *cell)
{
    const struct ptx_launch *launch = v->w->block->launch;
    const struct ptx_inst *inst = launch->kernel->ops[cell->copy_op - 1].inst;
    char who[48];
    ptx_thread_text(launch, cell->copy_thread, who, sizeof who);
    ptx_fail(v->w, v->lane,
             "%s shared offset %u, the target of a copy under way: %s issued it at PTX line %d and "
             "has not waited for it",
             v->verb, v->at, who, inst->line);
}

/* Against the last write or atomic operation. */
INLINE void check_change(const struct visit *v, const struct change *change, const char *verb)
{
    const int warp = (int)(change->thread / PTX_LANES), lane = (int)(change->thread % PTX_LANES);
    bool before;
    if (warp != v->w->index)
        before = change->clock <= v->clock->known[warp];
    else
        before = change->clock < v->clock->known[warp] || change->access == v->access ||
                 seen(v->clock, v->lane, lane, change->epoch);
    if (!before)
        race(v, verb, warp, lane, change->op);
}

/* Against the reads since. */
INLINE void check_reads(const struct visit *v, const struct cell *cell)
{
    const int self = v->w->index;
    for (int c = 0; c < CLOCKS; c++) {
        for (uint32_t left = cell->read_warps[c] & ~(1u << self); left != 0; left &= left - 1) {
            const int warp = __builtin_ctz(left);
            if (cell->read_clock[c] > v->clock->known[warp])
                race(v, "read", warp, -1, cell->read_op);
        }
        if (!(cell->read_warps[c] >> self & 1) || cell->read_warp != (uint32_t)self ||
            cell->read_clock[c] < v->clock->known[self])
            continue;
        for (uint32_t left = cell->read_lanes; left != 0; left &= left - 1)
            if (!seen(v->clock, v->lane, __builtin_ctz(left), cell->read_epoch))
                race(v, "read", self, __builtin_ctz(left), cell->read_op);
    }
}

INLINE struct change change_of(const struct visit *v)
{
    return (struct change){
        .access = v->access,
        .clock = v->clock->known[v->w->index],
        .epoch = v->clock->epoch,
        .op = v->op,
        .thread = (uint32_t)(v->w->index * PTX_LANES + v->lane),
    };
}

/* What came before has been found to lie before this: from now on this write stands for it. */
INLINE void put_write(const struct visit *v, struct cell *cell)
{
    cell->write = change_of(v);
    memset(cell->read_warps, 0, sizeof cell->read_warps);
    cell->read_lanes = 0;
}

/* Reads that lie before this one say nothing any more; this one is put with those of its count. */
static void list_reader(const struct visit *v, struct cell *cell, uint32_t now)
{
    const int self = v->w->index;
    for (int c = 0; c < CLOCKS; c++) {
        for (uint32_t left = cell->read_warps[c]; left != 0; left &= left - 1) {
            const int warp = __builtin_ctz(left);
            if (warp == self || cell->read_clock[c] <= v->clock->known[warp])
                cell->read_warps[c] &= ~(1u << warp);
        }
    }
    const int c = cell->read_warps[0] == 0 || cell->read_clock[0] == now ? 0 : 1;
    if (cell->read_clock[c] != now)
        cell->read_warps[c] = 0;
    cell->read_clock[c] = now;
    cell->read_warps[c] |= 1u << self;
}

INLINE void put_read(const struct visit *v, struct cell *cell)
{
    const int self = v->w->index;
    const uint32_t now = v->clock->known[self];
    const bool listed = cell->read_clock[0] == now && (cell->read_warps[0] >> self & 1) != 0;
    if (!listed)
        list_reader(v, cell, now);
    const bool together =
        listed && cell->read_warp == (uint32_t)self && cell->read_epoch == v->clock->epoch;
    cell->read_lanes = (together ? cell->read_lanes : 0) | 1u << v->lane;
    cell->read_warp = (uint32_t)self;
    cell->read_epoch = v->clock->epoch;
    cell->read_op = v->op;
}

/* ---- Accesses -------------------------------------------------------------------------------- */

enum kind { READ, WRITE, ATOMIC, ISSUE, LAND };

INLINE void visit_cell(const struct visit *v, struct cell *cell, enum kind kind)
{
    if (kind == LAND) {
        cell->copy_op = 0;
        put_write(v, cell);
        return;
    }
    if (cell->copy_op != 0)
        under_way(v, cell);
    check_change(v, &cell->write, "wrote");
    if (kind != ATOMIC)
        check_change(v, &cell->atomic, "changed");
    if (kind == READ) {
        put_read(v, cell);
        return;
    }
    check_reads(v, cell);
    if (kind == WRITE) {
        put_write(v, cell);
    } else if (kind == ATOMIC) {
        cell->atomic = change_of(v);
    } else {
        cell->copy_op = v->op + 1;
        cell->copy_thread = (uint32_t)(v->w->index * PTX_LANES + v->lane);
    }
}

static void split(struct ptx_shadow *shadow, uint32_t word)
{
    struct cell *cell = &shadow->words[word];
    if (cell->split == shadow->block)
        return;
    cell->split = shadow->block;
    for (uint32_t i = 0; i < WORD; i++)
        shadow->bytes[word * WORD + i] = *cell;
}

INLINE void visit(struct ptx_warp *w, int lane, uint32_t at, uint32_t count, enum kind kind,
                  const char *verb)
{
    struct ptx_shadow *shadow = w->block->shadow;
    struct visit v = {
        .w = w,
        .clock = &shadow->warps[w->index],
        .lane = lane,
        .access = (uint32_t)w->block->access,
        .op = (int32_t)(w->op - w->block->launch->kernel->ops),
        .verb = verb,
    };
    const uint32_t end = at + count;
    if (count < WORD)
        split(shadow, at / WORD);
    for (v.at = at; v.at < end;) {
        struct cell *word = &shadow->words[v.at / WORD];
        if (word->split != shadow->block) {
            visit_cell(&v, word, kind);
            v.at += WORD;
            continue;
        }
        const uint32_t last = (v.at / WORD + 1) * WORD;
        for (; v.at < last && v.at < end; v.at++)
            visit_cell(&v, &shadow->bytes[v.at], kind);
    }
}

void ptx_shadow_read(struct ptx_warp *w, int lane, uint32_t at, uint32_t count)
{
    visit(w, lane, at, count, READ, "reads");
}

void ptx_shadow_write(struct ptx_warp *w, int lane, uint32_t at, uint32_t count)
{
    visit(w, lane, at, count, WRITE, "writes");
}

void ptx_shadow_atomic(struct ptx_warp *w, int lane, uint32_t at, uint32_t count)
{
    visit(w, lane, at, count, ATOMIC, "changes");
}

void ptx_shadow_issue(struct ptx_warp *w, int lane, uint32_t at, uint32_t count)
{
    visit(w, lane, at, count, ISSUE, "copies to");
}

void ptx_shadow_land(struct ptx_warp *w, int lane, uint32_t at, uint32_t count)
{
    visit(w, lane, at, count, LAND, "copies to");
}
