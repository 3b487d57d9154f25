/*
 * Scores of flash attention by products with fp16 results: the option fp16_accumulate, for chips
 * whose tensor cores form those at twice the rate (GeForce: sm_86, sm_89, sm_120). P V, the sums of
 * weights and the softmax stay float32.
 *
 * Range    Q is divided by 8, which rounds nothing but subnormals: scores then lie near units of
 *          log2, and 8 scale log2(e) is what the FMA before the exponential multiplies by.
 * Sums     A product starts at zero, takes one k16 step, two at d = 64 and 80, and goes to float32:
 *          fp16 holds no more than 32 terms. At d = 40 that is 3 conversions, 2 additions and the
 *          check below a score; at the 4.3 scores a clock that the tensor cores then form, an SM
 *          can issue 30 instructions a score (kernels.md 8.2).
 * Error    With t_i the partial sums after each k16 step, in units of log2, a score is off by
 *          |ds| <= 2^-11 sum |t_i|, its weight by the factor 2^ds, and an output by at most
 *          2 ln 2 max |ds| max |v|. Relative L2 by the deviation of the scores (as exponents of
 *          e), random q, k, v, 1024 keys, the largest of d = 40, 80, 160, over the host build:
 *
 *              deviation       0.5       1         2         4         8
 *              fp16 scores     3.3e-4    4.6e-4    8.8e-4    1.0e-3    1.4e-3
 *              float32         3.1e-4    2.9e-4    3.2e-4    2.7e-4    2.7e-4
 *
 *          so attention's limit of 2e-3 holds. Where one product alone makes scores up to e^25 it
 *          is 2.6e-3, up to e^49 4.6e-3: to e^32 the limit is 4e-3, as for other products with
 *          fp16 sums. How a chip rounds inside is not measured; if it cuts, bounds double.
 * Overflow A partial sum beyond 65504, q k beyond 524032, is infinite. The row's sum of weights
 *          becomes NaN then, whichever the sign, and with it the whole output row, which is seen
 *          where all overflows of fp16 are (decision 0012). Without that, minus infinity would be a
 *          key quietly left out, even one that other partial sums would have brought back.
 * Source   kernels.md 8.4, 12; PTX ISA 9.0, mma.m16n8k16 and m16n8k8 with .f16 results.
 */
#ifndef LDK_ATTENTION_SCORES_CUH
#define LDK_ATTENTION_SCORES_CUH

#include "kernels/cuda/attention_tile.cuh"

static constexpr float LDK_QUERY_SCALE = 1.0f / 8;

static __device__ __forceinline__ uint32_t scale_pair(uint32_t pair)
{
    const float2 v = ldk_unpack<half>(pair);
    return ldk_pack<half>(v.x * LDK_QUERY_SCALE, v.y * LDK_QUERY_SCALE);
}

template <class S> static __device__ __forceinline__ void scale_queries(warp_state<S> &w)
{
    LDK_UNROLL
    for (int m = 0; m < S::MB; m++) {
        LDK_UNROLL
        for (int k = 0; k < S::K16; k++)
            LDK_UNROLL
        for (int i = 0; i < 4; i++)
            w.q[m][k][i] = scale_pair(w.q[m][k][i]);
        if constexpr (S::K8) {
            LDK_UNROLL
            for (int i = 0; i < 2; i++)
                w.q_tail[m][i] = scale_pair(w.q_tail[m][i]);
        }
    }
}

/* An n8 block's partial sums join the others. */
static __device__ __forceinline__ void promote(float (&s)[4], const uint32_t (&partial)[2],
                                               bool first)
{
    LDK_UNROLL
    for (int i = 0; i < 2; i++) {
        const float2 v = ldk_unpack<half>(partial[i]);
        s[2 * i] = first ? v.x : s[2 * i] + v.x;
        s[2 * i + 1] = first ? v.y : s[2 * i + 1] + v.y;
    }
}

/* As score_group. */
template <class S>
static __device__ __forceinline__ void score_group_f16(warp_state<S> &w, const half *k, int lane,
                                                       float (&s)[S::MB][2 * S::GROUPS][4],
                                                       int group)
{
    const int matrix = lane / 8;
    const half *row = k + (group * 16 + matrix / 2 * 8 + lane % 8) * S::PITCH;
    uint32_t partial[S::MB][2][2];
    LDK_UNROLL
    for (int step = 0; step < S::K16; step++) {
        uint32_t b[4];
        ldk_ldmatrix_x4(b, row + (step * 2 + matrix % 2) * 8);
        LDK_UNROLL
        for (int m = 0; m < S::MB; m++)
            LDK_UNROLL
        for (int n = 0; n < 2; n++) {
            if (step % S::CHAIN == 0)
                partial[m][n][0] = partial[m][n][1] = 0;
            ldk_mma_16816_h(partial[m][n], w.q[m][step], b + 2 * n);
            if (step % S::CHAIN == S::CHAIN - 1 || step == S::K16 - 1)
                promote(s[m][2 * group + n], partial[m][n], step < S::CHAIN);
        }
    }
    if constexpr (S::K8) {
        uint32_t b[2];
        ldk_ldmatrix_x2(b, k + (group * 16 + lane % 16) * S::PITCH + S::K16 * 16);
        LDK_UNROLL
        for (int m = 0; m < S::MB; m++)
            LDK_UNROLL
        for (int n = 0; n < 2; n++) {
            partial[m][n][0] = partial[m][n][1] = 0;
            ldk_mma_1688_h(partial[m][n], w.q_tail[m], b + n);
            promote(s[m][2 * group + n], partial[m][n], false);
        }
    }
    /* See Overflow: infinity times zero is NaN, all else leaves the sum as it is. */
    LDK_UNROLL
    for (int m = 0; m < S::MB; m++)
        LDK_UNROLL
    for (int n = 2 * group; n < 2 * group + 2; n++)
        LDK_UNROLL
    for (int e = 0; e < 4; e++)
        w.sum[m][e / 2] = s[m][n][e] * 0.0f + w.sum[m][e / 2];
}

#endif
