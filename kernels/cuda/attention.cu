/*
 * Flash attention for head widths 40, 64, 80 and 160, at exactly that width:
 *   o[i,:] = sum_j p_ij v[j,:] / sum_j p_ij,   p_ij = 2^(c s_ij - c m_i),   s = q k^T,
 * with c = scale * log2(e) inside the one FMA before the exponential, so q is never rounded again.
 *
 * Work     A block owns 64 to 256 query rows of one head, a warp 16 or 32 of them, with Q fragments
 *          in registers for the whole walk. Keys come in steps of 64 (32 for d = 160), K and V
 *          double-buffered by cp.async, one barrier a step. Scores go from accumulators to the A
 *          operand of P V without leaving registers.
 * Widths   QK^T takes k16 steps and, for d = 40, one k8 step (16 + 16 + 8); P V takes n8 steps.
 *          Shared rows are padded to an odd number of 16-byte chunks: no ldmatrix conflicts.
 * Numerics Reference maximum m_i is raised (and o, l rescaled) only when a row's maximum has grown
 *          by more than 2^8; p <= 256 then fits fp16 and the division at the end makes the result
 *          exact either way. A row's bits depend on nothing but its own q, the keys and the step.
 *          The option fp16_accumulate: attention_scores.cuh.
 * Tail     Steps that every row sees whole run without masks; the rest (end of the keys, the
 *          diagonal of a causal call) are peeled and work in groups of 16 keys, so 77 keys cost 80.
 * Shared   20, 36, 44, 42 KB for d = 40, 64, 80, 160. Registers (sm_90): 118, 126, 130, 166 with 64
 *          rows a block, 165, 224, 250, 184 with 128 and more.
 * Bound    d = 40: exponentials (16 a clock and SM) next to 2.5 + 2.5 mma per 16 x 16 scores; time:
 *          not measured.
 * Source   kernels.md 8; Dao 2023, arXiv:2307.08691.
 */
#include "kernels/cuda/attention_kernel.cuh"

/* ---- Plan and launch ---------------------------------------------------------------------------- */

template <class S> static int launch_type(const struct ldk_attention *a, ldk_stream stream)
{
    if (a->dtype == LDK_F16)
        return attention_launch<S, half, false>(a, stream);
    return attention_launch<S, bf16, false>(a, stream);
}

static int launch_causal(const struct ldk_attention *a, ldk_stream stream)
{
    if (a->dtype == LDK_F16)
        return attention_launch<narrow_64, half, true>(a, stream);
    return attention_launch<narrow_64, bf16, true>(a, stream);
}

struct launch_it {
    template <class S> static int with(const struct ldk_attention *a, ldk_stream stream)
    {
        return launch_type<S>(a, stream);
    }
};

static bool sane(const struct ldk_attention *a)
{
    const int64_t widest = static_cast<int64_t>(a->heads) * a->head_dim;
    return a->q != nullptr && a->k != nullptr && a->v != nullptr && a->o != nullptr &&
           a->batch >= 1 && a->batch <= 65535 && a->q_rows >= 1 && a->kv_rows >= 1 &&
           a->heads >= 1 && a->heads <= 65535 && a->head_dim >= 1 && widest <= a->q_stride &&
           widest <= a->k_stride && widest <= a->v_stride && widest <= a->o_stride &&
           a->scale > 0.0f && (a->dtype == LDK_F16 || a->dtype == LDK_BF16);
}

static bool mma_fits(const struct ldk_attention *a)
{
    const int d = a->head_dim;
    const bool width = a->causal ? d == 64 : d == 40 || d == 64 || d == 80 || d == 160;
    const int64_t widest = a->k_stride > a->v_stride ? a->k_stride : a->v_stride;
    return width && ldk_attention_aligned(a) && widest * a->kv_rows <= INT32_MAX;
}

static bool runs(const struct ldk_attention *a, int variant)
{
    switch (variant) {
    case LDK_VARIANT_PLAIN:
        return a->head_dim <= 1024;
    case VARIANT_NARROW:
        return mma_fits(a);
    case VARIANT_TALL:
        return mma_fits(a) && !a->causal;
    case VARIANT_HIGH:
        return mma_fits(a) && !a->causal && (a->head_dim == 40 || a->head_dim == 80);
    case VARIANT_WIDE:
        return ldk_attention_wide_fits(a);
    default:
        return false;
    }
}

/* Tall blocks read K and V half as often, but want enough of them in one image to fill a GPU. All
 * of them give the same bits, so the choice is free. */
static int choose(const struct ldk_attention *a)
{
    enum { ENOUGH = 256 };
    if (a->variant != LDK_VARIANT_AUTO)
        return a->variant;
    const int64_t slices = static_cast<int64_t>(a->batch) * a->heads;
    if (runs(a, VARIANT_HIGH) && a->head_dim == 40 &&
        slices * ld_idx_ceil_div(a->q_rows, high_40::ROWS) >= ENOUGH)
        return VARIANT_HIGH;
    if (runs(a, VARIANT_TALL) && slices * ld_idx_ceil_div(a->q_rows, tall_40::ROWS) >= ENOUGH)
        return VARIANT_TALL;
    if (runs(a, VARIANT_NARROW))
        return VARIANT_NARROW;
    if (runs(a, VARIANT_WIDE))
        return VARIANT_WIDE;
    return LDK_VARIANT_PLAIN;
}

/* The option where it has something to say: in the products of the mma kernels. */
static bool has_f16_scores(const struct ldk_attention *a)
{
    return a->fp16_accumulate && a->dtype == LDK_F16 && !a->causal;
}

extern "C" int32_t ldk_attention_number(const struct ldk_attention *a)
{
    const int number = choose(a);
    return runs(a, number) ? number : LDK_VARIANT_AUTO;
}

extern "C" size_t ldk_attention_workspace(const struct ldk_attention *a)
{
    return choose(a) == VARIANT_WIDE ? ldk_attention_wide_workspace(a) : 0;
}

extern "C" int ldk_attention(const struct ldk_attention *a, ldk_stream stream)
{
    if (!sane(a))
        return LDK_E_INVALID;
    const int variant = choose(a);
    if (!runs(a, variant))
        return LDK_E_UNSUPPORTED;
    if (variant == LDK_VARIANT_PLAIN)
        return ldk_attention_plain(a, stream);
    if (variant == VARIANT_WIDE)
        return a->workspace != nullptr ? ldk_attention_wide(a, stream) : LDK_E_INVALID;
    if (has_f16_scores(a))
        return ldk_attention_f16_scores(a, variant, stream);
    return a->causal ? launch_causal(a, stream)
                     : with_instance<launch_it>(a->head_dim, variant, a, stream);
}

struct describe_it {
    template <class S> static struct ldk_variant with(int number, bool f16_scores)
    {
        struct ldk_variant v = {};
        v.number = number;
        /* The order of a row's sums, steps of KEYS, and how scores are summed. */
        v.signature = 0x41000000u + (f16_scores ? 0x100u : 0u) + S::KEYS;
        v.tile_m = S::ROWS;
        v.tile_n = S::D;
        v.tile_k = S::KEYS;
        v.stages = 2;
        v.threads = S::THREADS;
        v.shared_bytes = S::SHARED;
        v.name = S::ROWS == 64 ? "mma-64" : S::ROWS == 128 ? "mma-128" : "mma-high";
        return v;
    }
};

static struct ldk_variant describe_any(const struct ldk_attention *a, int number)
{
    if (number == VARIANT_NARROW || number == VARIANT_TALL || number == VARIANT_HIGH)
        return with_instance<describe_it>(a->head_dim, number, number, has_f16_scores(a));
    struct ldk_variant v = number == VARIANT_WIDE ? ldk_attention_wide_variant()
                                                  : ldk_attention_plain_variant(a->head_dim);
    v.number = number;
    return v;
}

extern "C" int32_t ldk_attention_variants(const struct ldk_attention *a, struct ldk_variant *out,
                                          int32_t capacity)
{
    int32_t count = 0;
    for (int number = LDK_VARIANT_PLAIN; number <= VARIANT_WIDE; number++) {
        if (!runs(a, number))
            continue;
        if (count < capacity)
            out[count] = describe_any(a, number);
        count++;
    }
    return count;
}
