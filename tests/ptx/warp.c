/*
 * One warp: groups of lanes, each at its own instruction.
 *
 * All lanes start as one group. A branch that only some lanes take makes two groups of one; groups
 * that come to the same instruction become one again. Which group goes on first is nobody's promise
 * on a GPU, so it is an option here (ptx_options.order): the one that is behind, the one that is
 * ahead, or any. A group that comes to an instruction which needs other lanes waits there until
 * they have come; when every group waits, they never will.
 */
#include "tests/ptx/machine.h"

#include <stdio.h>
#include <string.h>

enum { NOWHERE = -1 };

/* ---- Words for messages ---------------------------------------------------------------------- */

/* "3", "0-15", "0-7, 12". */
static const char *lanes_text(uint32_t lanes, char *text, size_t size)
{
    size_t used = 0;
    text[0] = '\0';
    for (int i = 0; i < PTX_LANES && used + 8 < size; i++) {
        if (!(lanes >> i & 1))
            continue;
        int last = i;
        while (last + 1 < PTX_LANES && lanes >> (last + 1) & 1)
            last++;
        used += (size_t)snprintf(text + used, size - used, last > i ? "%s%d-%d" : "%s%d",
                                 used > 0 ? ", " : "", i, last);
        i = last;
    }
    return text;
}

/* Where lanes other than `here` are: "lanes 0-3 wait at line 12 `bar.sync`, lanes 4 have ended". */
static const char *others_text(const struct ptx_warp *w, uint32_t here, char *text, size_t size)
{
    const struct ptx_op *ops = w->block->launch->kernel->ops;
    size_t used = 0;
    char lanes[96];
    text[0] = '\0';
    for (int g = 0; g < w->group_count && used < size; g++) {
        const struct ptx_group *group = &w->groups[g];
        const struct ptx_inst *inst = ops[group->at].inst;
        if ((group->lanes & ~here) == 0)
            continue;
        used += (size_t)snprintf(text + used, size - used, "%slanes %s %s line %d `%s`",
                                 used > 0 ? ", " : "",
                                 lanes_text(group->lanes & ~here, lanes, sizeof lanes),
                                 group->waits ? "wait at" : "are at", inst != NULL ? inst->line : 0,
                                 inst != NULL ? inst->name : "end");
    }
    const uint32_t ended = ~w->alive & ~here;
    if (ended != 0 && used < size)
        snprintf(text + used, size - used, "%slanes %s have ended", used > 0 ? ", " : "",
                 lanes_text(ended, lanes, sizeof lanes));
    return text;
}

/* ---- Groups ---------------------------------------------------------------------------------- */

static int first_lane(uint32_t lanes)
{
    return __builtin_ctz(lanes);
}

/* Lanes stand at `at`; they join those that stand there already. */
static void put_group(struct ptx_warp *w, uint32_t lanes, int32_t at, bool waits)
{
    if (lanes == 0)
        return;
    for (int g = 0; g < w->group_count; g++) {
        if (w->groups[g].at == at) {
            w->groups[g].lanes |= lanes;
            w->groups[g].waits = false;
            return;
        }
    }
    w->groups[w->group_count++] = (struct ptx_group){lanes, at, waits};
}

static struct ptx_group take_group(struct ptx_warp *w, int g)
{
    const struct ptx_group group = w->groups[g];
    w->groups[g] = w->groups[--w->group_count];
    return group;
}

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* The group that goes on, -1 if all wait. */
static int choose_group(struct ptx_warp *w)
{
    int chosen = -1;
    uint64_t able = 0;
    for (int g = 0; g < w->group_count; g++) {
        if (w->groups[g].waits)
            continue;
        able++;
        bool better = chosen < 0;
        if (!better && w->block->order == 0)
            better = w->groups[g].at < w->groups[chosen].at;
        else if (!better && w->block->order == 1)
            better = w->groups[g].at > w->groups[chosen].at;
        else if (!better)
            better = next_random(&w->random) % able == 0;
        if (better)
            chosen = g;
    }
    return chosen;
}

/* The next instruction after `at` where another group stands, NOWHERE if there is none. */
static int32_t next_meeting(const struct ptx_warp *w, int32_t at)
{
    int32_t meeting = NOWHERE;
    for (int g = 0; g < w->group_count; g++)
        if (w->groups[g].at > at && (meeting == NOWHERE || w->groups[g].at < meeting))
            meeting = w->groups[g].at;
    return meeting;
}

/* ---- Instructions that need other lanes ------------------------------------------------------ */

/* Threads have ended: who waited for them at a barrier need not wait any longer. */
static void wake_groups(struct ptx_warp *w)
{
    for (int g = 0; g < w->group_count; g++)
        w->groups[g].waits = false;
}

/* The lanes of `here` whose member masks are complete, after the instruction has acted for them. */
static uint32_t act_gathered(struct ptx_warp *w, const struct ptx_op *op, uint32_t here)
{
    const uint32_t *mask = (const uint32_t *)(const void *)(w->file + op->at[op->mask]);
    uint32_t done = 0, left = here;
    char text[96];
    while (left != 0) {
        const int lane = first_lane(left);
        const uint32_t members = mask[lane];
        uint32_t same = 0;
        for (int i = 0; i < PTX_LANES; i++)
            same |= (uint32_t)(mask[i] == members) << i;
        same &= here;
        left &= ~same;
        if ((same & ~members) != 0)
            ptx_fail(w, first_lane(same & ~members),
                     "a lane that is not in its own member mask 0x%08x", members);
        if ((members & ~w->alive) != 0)
            ptx_fail(w, lane, "the member mask 0x%08x names lanes %s, which have ended", members,
                     lanes_text(members & ~w->alive, text, sizeof text));
        if ((members & here & ~same) != 0)
            ptx_fail(w, lane, "lane %d has member mask 0x%08x, lane %d, which is in it, 0x%08x",
                     lane, members, first_lane(members & here & ~same),
                     mask[first_lane(members & here & ~same)]);
        if (same != members)
            continue;
        w->active = same;
        op->act(w, op);
        done |= same;
    }
    return done;
}

/* The lanes of `here` that may go on from op, a collective that all of them execute; 0: all wait.
 */
static uint32_t gather(struct ptx_warp *w, const struct ptx_op *op, uint32_t here)
{
    w->op = op;
    w->active = here;
    switch ((enum ptx_flow)op->flow) {
    case PTX_GATHER:
        return act_gathered(w, op, here);
    case PTX_WHOLE:
        if (here != UINT32_MAX)
            return 0;
        op->act(w, op);
        return here;
    case PTX_BARRIER:
    case PTX_ARRIVE:
        if (here != w->alive)
            return 0;
        ptx_barrier_come(w, op->flow == PTX_BARRIER);
        return here;
    case PTX_PLAIN:
    case PTX_BRANCH:
    case PTX_EXIT:
        break;
    }
    return 0;
}

/* Every group waits for lanes that never come. */
static _Noreturn void stuck(struct ptx_warp *w)
{
    char others[320], lanes[96];
    const struct ptx_group group = w->groups[0];
    const struct ptx_op *op = &w->block->launch->kernel->ops[group.at];
    const int lane = first_lane(group.lanes);
    lanes_text(group.lanes, lanes, sizeof lanes);
    others_text(w, group.lanes, others, sizeof others);
    w->op = op;
    if (op->flow == PTX_GATHER)
        ptx_fail(w, lane, "lanes %s wait for ever for member mask 0x%08x: %s", lanes,
                 ((const uint32_t *)(const void *)(w->file + op->at[op->mask]))[lane], others);
    if (op->flow == PTX_WHOLE)
        ptx_fail(w, lane, "all 32 lanes must come, only lanes %s do: %s", lanes, others);
    ptx_fail(w, lane, "a barrier that only lanes %s of the warp come to: %s", lanes, others);
}

/* ---- Running --------------------------------------------------------------------------------- */

static void check_budget(struct ptx_warp *w, const struct ptx_op *op, uint32_t lanes)
{
    if (w->instructions <= w->block->budget)
        return;
    w->op = op;
    ptx_fail(w, first_lane(lanes), "the warp has executed more than %llu instructions",
             (unsigned long long)w->block->budget);
}

/*
 * Runs one group until it waits, ends, parts, meets another, or branches while there are others.
 * False: the warp waits at a barrier.
 */
static bool run_group(struct ptx_warp *w, struct ptx_group group)
{
    const struct ptx_op *ops = w->block->launch->kernel->ops;
    uint32_t lanes = group.lanes;
    int32_t at = group.at;
    int32_t meeting = next_meeting(w, at);
    struct ptx_site *sites = w->block->sites;
    uint64_t executed = 0;
    bool together = true; /* the group is still of one mind */

    while (together && at != meeting) {
        const struct ptx_op *op = &ops[at];
        uint32_t active = lanes;
        executed++;
        if (sites != NULL)
            sites[at].executed++;
        if (op->guard >= 0) {
            const uint32_t guard = *(const uint32_t *)(const void *)(w->file + op->guard);
            active &= op->guard_not ? ~guard : guard;
            if (active == 0) {
                at++;
                continue;
            }
        }
        if (op->flow == PTX_PLAIN) {
            w->op = op;
            w->active = active;
            op->act(w, op);
            at++;
        } else if (op->flow == PTX_BRANCH) {
            w->instructions += executed;
            executed = 0;
            check_budget(w, op, active);
            together = active == lanes && w->group_count == 0;
            if (!together)
                put_group(w, lanes & ~active, at + 1, false);
            lanes = active;
            at = op->target;
        } else if (op->flow == PTX_EXIT) {
            w->alive &= ~active;
            lanes &= ~active;
            wake_groups(w);
            at++;
            together = lanes != 0;
        } else if (active != lanes) {
            put_group(w, lanes & ~active, at + 1, false);
            lanes = active;
            together = false;
        } else {
            const uint32_t done = gather(w, op, lanes);
            together = done == lanes && w->barrier < 0;
            if (done != lanes)
                put_group(w, lanes & ~done, at, true);
            lanes = done;
            at++;
        }
    }
    w->instructions += executed;
    put_group(w, lanes, at, false);
    return w->barrier < 0;
}

bool ptx_warp_run(struct ptx_warp *w)
{
    while (w->group_count > 0) {
        const int g = choose_group(w);
        if (g < 0)
            stuck(w);
        if (!run_group(w, take_group(w, g)))
            return false;
    }
    return true;
}

/* ---- Start ----------------------------------------------------------------------------------- */

static uint32_t special(const struct ptx_warp *w, int lane, enum ptx_special which)
{
    const struct ptx_launch *launch = w->block->launch;
    const uint32_t thread = (uint32_t)(w->index * PTX_LANES + lane);
    const uint32_t x = launch->block[0], y = launch->block[1];
    switch (which) {
    case PTX_TID_X:
        return thread % x;
    case PTX_TID_Y:
        return thread / x % y;
    case PTX_TID_Z:
        return thread / x / y;
    case PTX_NTID_X:
    case PTX_NTID_Y:
    case PTX_NTID_Z:
        return launch->block[which - PTX_NTID_X];
    case PTX_CTAID_X:
    case PTX_CTAID_Y:
    case PTX_CTAID_Z:
        return w->block->index[which - PTX_CTAID_X];
    case PTX_NCTAID_X:
    case PTX_NCTAID_Y:
    case PTX_NCTAID_Z:
        return launch->grid[which - PTX_NCTAID_X];
    case PTX_LANEID:
        return (uint32_t)lane;
    case PTX_WARPID:
        return (uint32_t)w->index;
    }
    return 0;
}

static void fill_constant(struct ptx_warp *w, const struct ptx_constant *c)
{
    unsigned char *at = w->file + c->at;
    if (c->bytes == 0) {
        const uint32_t all = c->value != 0 ? UINT32_MAX : 0;
        memcpy(at, &all, sizeof all);
        return;
    }
    for (int i = 0; i < PTX_LANES; i++) {
        const uint64_t value =
            c->kind == PTX_CONST_SPECIAL ? special(w, i, (enum ptx_special)c->value) : c->value;
        memcpy(at + (size_t)i * c->bytes, &value, c->bytes); /* little-endian: the low bytes */
    }
}

void ptx_warp_start(struct ptx_warp *w)
{
    const struct ptx_kernel *kernel = w->block->launch->kernel;
    const uint32_t left = w->block->threads - (uint32_t)w->index * PTX_LANES;
    w->alive = left >= PTX_LANES ? UINT32_MAX : (1u << left) - 1;
    w->active = w->alive;
    w->op = kernel->ops;
    w->barrier = -1;
    w->instructions = 0;
    w->random = (w->block->order * 0x9e3779b97f4a7c15u) ^ ((uint64_t)w->index << 40) ^
                ((uint64_t)w->block->index[2] << 24) ^ ((uint64_t)w->block->index[1] << 12) ^
                w->block->index[0];
    w->random |= 1u << 31; /* never zero */
    /* What a kernel reads before it writes is different in every order. */
    memset(w->file, w->block->order == 0 ? 0 : 0xff, kernel->file_bytes);
    for (int i = 0; i < kernel->constant_count; i++)
        fill_constant(w, &kernel->constants[i]);
    w->group_count = 0;
    put_group(w, w->alive, 0, false);
}
