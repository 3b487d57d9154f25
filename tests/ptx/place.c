/*
 * Where registers lie in a warp's file. nvcc gives every value a register of its own, thousands a
 * kernel; those whose lives do not meet share a place here, so that a warp's file stays near the
 * processor.
 *
 * A register lives from an instruction that writes it to the last that may read it (liveness over
 * the blocks of the control flow), and, simpler than that, at all instructions in between as the
 * text orders them (linear scan). Two registers of one instruction never share: lanes.h counts on
 * it.
 *
 * The lanes of a warp may stand at different instructions: one lane may still need a register where
 * another writes the one that shares its place. That is no conflict. A lane has its own element of
 * every place (its own bit of a predicate's), an instruction writes those of the lanes that execute
 * it, and each of these has come here along a path on which the other register's life has ended or
 * not begun. Instructions that read other lanes' elements (shfl, vote, mma) read those of lanes
 * that execute the same instruction. A guarded instruction may leave an element as it is, so it
 * does not begin a life.
 *
 * Source: M. Poletto, V. Sarkar, "Linear scan register allocation", 1999.
 */
#include "tests/ptx/machine.h"

#include <stdlib.h>
#include <string.h>

struct ptx_life {
    int32_t reg;
    int32_t first, last; /* instructions, both included; first > last: none */
};

struct ptx_stretch { /* instructions without a branch into or out of them */
    int32_t first, last;
    int32_t next[2]; /* stretches that may follow, -1: none */
};

struct ptx_placer {
    struct ptx_kernel *kernel;
    struct ptx_life *lives;        /* of every register */
    struct ptx_stretch *stretches; /* in the order of the text */
    int32_t stretch_count;
    size_t words; /* of a set of registers */
    /* Sets of every stretch: read before they are written, written for all lanes, alive before and
     * after. */
    uint64_t *reads, *writes, *before, *after;
};

/* ---- Stretches ------------------------------------------------------------------------------- */

static bool leaves(const struct ptx_op *op)
{
    return op->flow == PTX_BRANCH || op->flow == PTX_EXIT;
}

/* at_start[i]: the number of the stretch that begins at instruction i, or -1. */
static void find_stretches(struct ptx_placer *p, int32_t *at_start)
{
    const struct ptx_kernel *k = p->kernel;
    const int32_t count = k->inst_count;
    for (int32_t i = 0; i <= count; i++)
        at_start[i] = i == 0 || leaves(&k->ops[i - 1]) ? 0 : -1;
    for (int32_t i = 0; i < count; i++)
        if (k->ops[i].flow == PTX_BRANCH)
            at_start[k->ops[i].target] = 0;
    for (int32_t i = 0; i < count; i++) {
        if (at_start[i] == 0) {
            at_start[i] = p->stretch_count++;
            p->stretches[at_start[i]].first = i;
        }
        p->stretches[p->stretch_count - 1].last = i;
    }
    at_start[count] = -1; /* the end of the thread */
    for (int32_t s = 0; s < p->stretch_count; s++) {
        struct ptx_stretch *stretch = &p->stretches[s];
        const int32_t last = stretch->last;
        const bool stays = !leaves(&k->ops[last]) || k->insts[last].guard >= 0;
        stretch->next[0] = stays ? at_start[last + 1] : -1;
        stretch->next[1] = k->ops[last].flow == PTX_BRANCH ? at_start[k->ops[last].target] : -1;
    }
}

/* ---- Lives ----------------------------------------------------------------------------------- */

static bool has(const uint64_t *set, int32_t reg)
{
    return set[reg / 64] >> (reg % 64) & 1;
}

static void add(uint64_t *set, int32_t reg)
{
    set[reg / 64] |= (uint64_t)1 << (reg % 64);
}

static void lives_at(struct ptx_placer *p, int32_t reg, int32_t inst)
{
    struct ptx_life *life = &p->lives[reg];
    life->first = inst < life->first ? inst : life->first;
    life->last = inst > life->last ? inst : life->last;
}

/* What instruction i reads and writes, into its stretch's sets. */
static void scan_inst(struct ptx_placer *p, int32_t i, uint64_t *reads, uint64_t *writes)
{
    const struct ptx_inst *inst = &p->kernel->insts[i];
    const int32_t results = p->kernel->ops[i].results;
    if (inst->guard >= 0) {
        lives_at(p, inst->guard, i);
        if (!has(writes, inst->guard))
            add(reads, inst->guard);
    }
    /* The results come first but are written last. */
    for (int32_t o = inst->count - 1; o >= 0; o--) {
        for (int32_t n = 0; n < inst->operand[o].count; n++) {
            const struct ptx_item *item = &inst->operand[o].item[n];
            if (item->kind != PTX_REG)
                continue;
            lives_at(p, item->reg, i);
            if (o < results && inst->guard < 0)
                add(writes, item->reg);
            else if (o >= results && !has(writes, item->reg))
                add(reads, item->reg);
        }
    }
}

static void find_flow(struct ptx_placer *p)
{
    for (int32_t s = 0; s < p->stretch_count; s++) {
        const size_t set = (size_t)s * p->words;
        for (int32_t i = p->stretches[s].first; i <= p->stretches[s].last; i++)
            scan_inst(p, i, p->reads + set, p->writes + set);
        memcpy(p->before + set, p->reads + set, p->words * sizeof *p->before);
    }
    for (bool changed = true; changed;) {
        changed = false;
        for (int32_t s = p->stretch_count - 1; s >= 0; s--) {
            const size_t set = (size_t)s * p->words;
            for (size_t word = 0; word < p->words; word++) {
                uint64_t after = 0;
                for (int n = 0; n < 2; n++)
                    if (p->stretches[s].next[n] >= 0)
                        after |= p->before[(size_t)p->stretches[s].next[n] * p->words + word];
                const uint64_t before = p->reads[set + word] | (after & ~p->writes[set + word]);
                changed = changed || before != p->before[set + word];
                p->after[set + word] = after;
                p->before[set + word] = before;
            }
        }
    }
}

static void find_lives(struct ptx_placer *p)
{
    for (int32_t reg = 0; reg < p->kernel->register_count; reg++)
        p->lives[reg] = (struct ptx_life){reg, INT32_MAX, -1};
    find_flow(p);
    for (int32_t s = 0; s < p->stretch_count; s++) {
        const size_t set = (size_t)s * p->words;
        for (int32_t reg = 0; reg < p->kernel->register_count; reg++) {
            if (has(p->before + set, reg))
                lives_at(p, reg, p->stretches[s].first);
            if (has(p->after + set, reg))
                lives_at(p, reg, p->stretches[s].last);
        }
    }
}

/* ---- Places ---------------------------------------------------------------------------------- */

static int compare_lives(const void *left, const void *right)
{
    const struct ptx_life *a = left, *b = right;
    if (a->first != b->first)
        return a->first < b->first ? -1 : 1;
    return (a->reg > b->reg) - (a->reg < b->reg);
}

/* Registers of `bytes` a lane, from `at` on; `ends` has room for one of each. Returns what is
 * behind them. */
static uint32_t place_width(struct ptx_placer *p, uint8_t bytes, uint32_t at, int32_t *ends)
{
    const uint32_t size = bytes == 0 ? (uint32_t)sizeof(uint32_t) : bytes * (uint32_t)PTX_LANES;
    uint32_t places = 0;
    for (int32_t i = 0; i < p->kernel->register_count; i++) {
        const struct ptx_life *life = &p->lives[i];
        struct ptx_register *reg = &p->kernel->registers[life->reg];
        if (reg->bytes != bytes || life->first > life->last)
            continue;
        uint32_t place = 0;
        while (place < places && ends[place] >= life->first)
            place++;
        places += place == places;
        ends[place] = life->last;
        reg->at = at + place * size;
    }
    return at + places * size;
}

static uint32_t place(struct ptx_placer *p, int32_t *numbers)
{
    find_stretches(p, numbers);
    find_lives(p);
    qsort(p->lives, (size_t)p->kernel->register_count, sizeof *p->lives, compare_lives);
    uint32_t at = 0;
    for (int bytes = 8; bytes > 0; bytes /= 2)
        at = place_width(p, (uint8_t)(bytes == 1 ? 0 : bytes), at, numbers);
    return (at + 64) & ~63u;
}

uint32_t ptx_place(struct ptx_kernel *kernel)
{
    const size_t insts = (size_t)kernel->inst_count + 1;
    const size_t registers = (size_t)kernel->register_count + 1;
    size_t stretches = 1;
    for (int32_t i = 0; i < kernel->inst_count; i++)
        stretches += 2 * (size_t)leaves(&kernel->ops[i]);
    struct ptx_placer p = {.kernel = kernel, .words = (registers + 63) / 64};
    const size_t set = stretches * p.words;
    int32_t *numbers = malloc((insts > registers ? insts : registers) * sizeof *numbers);
    uint64_t *sets = calloc(4 * set, sizeof *sets);
    p.lives = malloc(registers * sizeof *p.lives);
    p.stretches = malloc(stretches * sizeof *p.stretches);
    uint32_t bytes = 0;
    if (numbers != NULL && sets != NULL && p.lives != NULL && p.stretches != NULL) {
        p.reads = sets;
        p.writes = sets + set;
        p.before = sets + 2 * set;
        p.after = sets + 3 * set;
        bytes = place(&p, numbers);
    }
    free(numbers);
    free(sets);
    free(p.lives);
    free(p.stretches);
    return bytes;
}
