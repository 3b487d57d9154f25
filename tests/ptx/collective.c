/*
 * What lanes of a warp do together without memory: shuffles, votes, reductions, meetings.
 *
 * warp.c calls these when all lanes of a member mask are there: w->active is that mask.
 *
 * Source: PTX ISA 9.0, "shfl.sync", "vote.sync", "match.sync", "activemask", "redux.sync",
 * "bar.warp.sync".
 */
#include "tests/ptx/mma.h"

#include <string.h>

/* ---- shfl ------------------------------------------------------------------------------------ */

enum mode { UP, DOWN, BUTTERFLY, INDEX };

/* d | p, a, b, c, mask */
static void shuffle(struct ptx_warp *w, const struct ptx_op *op, enum mode mode)
{
    uint32_t *d = PTX_U32(w, op, 0), *p = PTX_PRED(w, op, 1);
    const uint32_t *b = PTX_U32(w, op, 3), *c = PTX_U32(w, op, 4);
    uint32_t a[PTX_LANES], in_range = 0;
    memcpy(a, PTX_U32(w, op, 2), sizeof a);
    for (int lane = 0; lane < PTX_LANES; lane++) {
        if (!(w->active >> lane & 1))
            continue;
        const int shift = (int)(b[lane] & 31), clamp = (int)(c[lane] & 31);
        const int segment = (int)(c[lane] >> 8 & 31);
        const int most = (lane & segment) | (clamp & ~segment), least = lane & segment;
        int from = lane;
        bool inside = false;
        switch (mode) {
        case UP:
            from = lane - shift;
            inside = from >= most;
            break;
        case DOWN:
            from = lane + shift;
            inside = from <= most;
            break;
        case BUTTERFLY:
            from = lane ^ shift;
            inside = from <= most;
            break;
        case INDEX:
            from = least | (shift & ~segment);
            inside = from <= most;
            break;
        }
        if (!inside)
            from = lane;
        if (!(w->active >> from & 1))
            ptx_fail(w, lane, "takes the value of lane %d, which is not in member mask 0x%08x",
                     from, w->active);
        d[lane] = a[from];
        in_range |= (uint32_t)inside << lane;
    }
    *p = (*p & ~w->active) | in_range;
}

static void shfl_up(struct ptx_warp *w, const struct ptx_op *op)
{
    shuffle(w, op, UP);
}

static void shfl_down(struct ptx_warp *w, const struct ptx_op *op)
{
    shuffle(w, op, DOWN);
}

static void shfl_bfly(struct ptx_warp *w, const struct ptx_op *op)
{
    shuffle(w, op, BUTTERFLY);
}

static void shfl_idx(struct ptx_warp *w, const struct ptx_op *op)
{
    shuffle(w, op, INDEX);
}

/* ---- vote, match ----------------------------------------------------------------------------- */

static void put_predicate(struct ptx_warp *w, const struct ptx_op *op, bool value)
{
    uint32_t *p = PTX_PRED(w, op, 0);
    *p = (*p & ~w->active) | (value ? w->active : 0);
}

static void put_word(struct ptx_warp *w, const struct ptx_op *op, uint32_t value)
{
    uint32_t *d = PTX_U32(w, op, 0);
    for (int i = 0; i < PTX_LANES; i++)
        d[i] = w->active >> i & 1 ? value : d[i];
}

static void vote_any(struct ptx_warp *w, const struct ptx_op *op)
{
    put_predicate(w, op, (*PTX_PRED(w, op, 1) & w->active) != 0);
}

static void vote_all(struct ptx_warp *w, const struct ptx_op *op)
{
    put_predicate(w, op, (~*PTX_PRED(w, op, 1) & w->active) == 0);
}

static void vote_uni(struct ptx_warp *w, const struct ptx_op *op)
{
    const uint32_t votes = *PTX_PRED(w, op, 1) & w->active;
    put_predicate(w, op, votes == 0 || votes == w->active);
}

static void vote_ballot(struct ptx_warp *w, const struct ptx_op *op)
{
    put_word(w, op, *PTX_PRED(w, op, 1) & w->active);
}

static void match_any_b32(struct ptx_warp *w, const struct ptx_op *op)
{
    uint32_t *d = PTX_U32(w, op, 0);
    uint32_t a[PTX_LANES];
    memcpy(a, PTX_U32(w, op, 1), sizeof a);
    for (int i = 0; i < PTX_LANES; i++) {
        uint32_t same = 0;
        for (int k = 0; k < PTX_LANES; k++)
            same |= (uint32_t)(a[k] == a[i]) << k;
        d[i] = w->active >> i & 1 ? same & w->active : d[i];
    }
}

static void activemask(struct ptx_warp *w, const struct ptx_op *op)
{
    put_word(w, op, w->active);
}

/* ---- redux ----------------------------------------------------------------------------------- */

/* `result`: of `r`, the lanes so far, and `x`, the next. */
#define DEFINE_REDUX(name, T, result)                                                              \
    static void name(struct ptx_warp *w, const struct ptx_op *op)                                  \
    {                                                                                              \
        const uint32_t *a = PTX_U32(w, op, 1);                                                     \
        T r = (T)a[__builtin_ctz(w->active)];                                                      \
        for (uint32_t left = w->active & (w->active - 1); left != 0; left &= left - 1) {           \
            const T x = (T)a[__builtin_ctz(left)];                                                 \
            r = (result);                                                                          \
        }                                                                                          \
        put_word(w, op, (uint32_t)r);                                                              \
    }

DEFINE_REDUX(redux_add, uint32_t, r + x)
DEFINE_REDUX(redux_and, uint32_t, (r & x))
DEFINE_REDUX(redux_or, uint32_t, r | x)
DEFINE_REDUX(redux_xor, uint32_t, r ^ x)
DEFINE_REDUX(redux_min_u32, uint32_t, x < r ? x : r)
DEFINE_REDUX(redux_max_u32, uint32_t, x > r ? x : r)
DEFINE_REDUX(redux_min_s32, int32_t, x < r ? x : r)
DEFINE_REDUX(redux_max_s32, int32_t, x > r ? x : r)

/* ---- bar.warp.sync --------------------------------------------------------------------------- */

static void warp_sync(struct ptx_warp *w, const struct ptx_op *op)
{
    (void)op;
    if (w->block->shadow != NULL)
        ptx_shadow_meet(w, w->active);
}

/* ---- Rules ----------------------------------------------------------------------------------- */

const struct ptx_rule ptx_rules_collective[] = {
    {"shfl.sync.up.b32", shfl_up, "wP=wwww", PTX_GATHER, 5},
    {"shfl.sync.down.b32", shfl_down, "wP=wwww", PTX_GATHER, 5},
    {"shfl.sync.bfly.b32", shfl_bfly, "wP=wwww", PTX_GATHER, 5},
    {"shfl.sync.idx.b32", shfl_idx, "wP=wwww", PTX_GATHER, 5},
    {"vote.sync.any.pred", vote_any, "p=pw", PTX_GATHER, 2},
    {"vote.sync.all.pred", vote_all, "p=pw", PTX_GATHER, 2},
    {"vote.sync.uni.pred", vote_uni, "p=pw", PTX_GATHER, 2},
    {"vote.sync.ballot.b32", vote_ballot, "w=pw", PTX_GATHER, 2},
    {"match.any.sync.b32", match_any_b32, "w=ww", PTX_GATHER, 2},
    {"activemask.b32", activemask, "w=", PTX_PLAIN, 0},
    {"redux.sync.add.u32", redux_add, "w=ww", PTX_GATHER, 2},
    {"redux.sync.add.s32", redux_add, "w=ww", PTX_GATHER, 2},
    {"redux.sync.min.u32", redux_min_u32, "w=ww", PTX_GATHER, 2},
    {"redux.sync.min.s32", redux_min_s32, "w=ww", PTX_GATHER, 2},
    {"redux.sync.max.u32", redux_max_u32, "w=ww", PTX_GATHER, 2},
    {"redux.sync.max.s32", redux_max_s32, "w=ww", PTX_GATHER, 2},
    {"redux.sync.and.b32", redux_and, "w=ww", PTX_GATHER, 2},
    {"redux.sync.or.b32", redux_or, "w=ww", PTX_GATHER, 2},
    {"redux.sync.xor.b32", redux_xor, "w=ww", PTX_GATHER, 2},
    {"bar.warp.sync", warp_sync, "w", PTX_GATHER, 0},
    /* The matrix instructions: mma.c. */
    {"ldmatrix.sync.aligned.m8n8.x1.shared.b16", ptx_ldmatrix_1, "1w=a", PTX_WHOLE, 0},
    {"ldmatrix.sync.aligned.m8n8.x2.shared.b16", ptx_ldmatrix_2, "2w=a", PTX_WHOLE, 0},
    {"ldmatrix.sync.aligned.m8n8.x4.shared.b16", ptx_ldmatrix_4, "4w=a", PTX_WHOLE, 0},
    {"ldmatrix.sync.aligned.m8n8.x1.trans.shared.b16", ptx_ldmatrix_1t, "1w=a", PTX_WHOLE, 0},
    {"ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16", ptx_ldmatrix_2t, "2w=a", PTX_WHOLE, 0},
    {"ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16", ptx_ldmatrix_4t, "4w=a", PTX_WHOLE, 0},
    {"mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32", ptx_mma_k16_f16, "4w=4w2w4w", PTX_WHOLE,
     0},
    {"mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32", ptx_mma_k16_bf16, "4w=4w2w4w",
     PTX_WHOLE, 0},
    {"mma.sync.aligned.m16n8k16.row.col.f16.f16.f16.f16", ptx_mma_k16_f16_f16, "2w=4w2w2w",
     PTX_WHOLE, 0},
    {"mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32", ptx_mma_k8_f16, "4w=2w1w4w", PTX_WHOLE, 0},
    {"mma.sync.aligned.m16n8k8.row.col.f32.bf16.bf16.f32", ptx_mma_k8_bf16, "4w=2w1w4w", PTX_WHOLE,
     0},
    {"mma.sync.aligned.m16n8k8.row.col.f16.f16.f16.f16", ptx_mma_k8_f16_f16, "2w=2w1w2w", PTX_WHOLE,
     0},
    {NULL, NULL, NULL, 0, 0},
};
