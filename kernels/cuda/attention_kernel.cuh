/*
 * The walk of flash attention over the keys, and its instances: what attention.cu says of all of
 * them, for the two files that launch some (attention.cu, attention_f16.cu).
 */
#ifndef LDK_ATTENTION_KERNEL_CUH
#define LDK_ATTENTION_KERNEL_CUH

#include "kernels/cuda/attention_scores.cuh"
#include "kernels/cuda/attention_tile.cuh"

/* ---- Softmax ------------------------------------------------------------------------------------ */

/* Keys that row `row` may not see lose their scores. */
template <class S, bool CAUSAL>
static __device__ __forceinline__ void mask_scores(float (&s)[S::MB][2 * S::GROUPS][4], int first,
                                                   int keys, int row0, int lane)
{
    LDK_UNROLL
    for (int m = 0; m < S::MB; m++)
        LDK_UNROLL
    for (int h = 0; h < 2; h++) {
        const int row = row0 + m * 16 + h * 8 + lane / 4;
        const int end = CAUSAL ? ld_idx_min(keys, row + 1) : keys;
        LDK_UNROLL
        for (int n = 0; n < 2 * S::GROUPS; n++)
            LDK_UNROLL
        for (int e = 0; e < 2; e++)
            if (first + n * 8 + lane % 4 * 2 + e >= end)
                s[m][n][2 * h + e] = -INFINITY;
    }
}

/* Raise the references whose rows have grown past the lag, and rescale what they belong to. */
template <class S>
static __device__ __forceinline__ void follow_maximum(warp_state<S> &w,
                                                      float (&s)[S::MB][2 * S::GROUPS][4], float c)
{
    float grown[S::MB][2];
    bool any = false;
    LDK_UNROLL
    for (int m = 0; m < S::MB; m++)
        LDK_UNROLL
    for (int h = 0; h < 2; h++) {
        float most = w.reference[m][h];
        LDK_UNROLL
        for (int n = 0; n < 2 * S::GROUPS; n++)
            most = fmaxf(most, fmaxf(s[m][n][2 * h], s[m][n][2 * h + 1]));
        most = fmaxf(most, __shfl_xor_sync(LDK_ALL_LANES, most, 1));
        most = fmaxf(most, __shfl_xor_sync(LDK_ALL_LANES, most, 2));
        grown[m][h] = most;
        any = any || (most - w.reference[m][h]) * c > RESCALE_LAG;
    }
    if (!__any_sync(LDK_ALL_LANES, any))
        return;
    LDK_UNROLL
    for (int m = 0; m < S::MB; m++)
        LDK_UNROLL
    for (int h = 0; h < 2; h++) {
        const float growth = (grown[m][h] - w.reference[m][h]) * c;
        if (!(growth > RESCALE_LAG))
            continue;
        const float factor = ldk_ex2(-growth);
        w.reference[m][h] = grown[m][h];
        w.sum[m][h] *= factor;
        LDK_UNROLL
        for (int n = 0; n < S::CHUNKS; n++) {
            w.o[m][n][2 * h] *= factor;
            w.o[m][n][2 * h + 1] *= factor;
        }
    }
}

/* s becomes p, and the row sums grow by it. */
template <class S>
static __device__ __forceinline__ void exponentiate(warp_state<S> &w,
                                                    float (&s)[S::MB][2 * S::GROUPS][4], float c)
{
    LDK_UNROLL
    for (int m = 0; m < S::MB; m++)
        LDK_UNROLL
    for (int h = 0; h < 2; h++) {
        const float reference = w.reference[m][h] * c;
        LDK_UNROLL
        for (int n = 0; n < 2 * S::GROUPS; n++)
            LDK_UNROLL
        for (int e = 2 * h; e < 2 * h + 2; e++) {
            s[m][n][e] = ldk_ex2(s[m][n][e] * c - reference);
            w.sum[m][h] += s[m][n][e];
        }
    }
}

/* One step over the keys in shared memory. MASKED: some rows do not see all of them. */
template <class S, class T, bool MASKED, bool CAUSAL>
static __device__ __forceinline__ void attend_step(warp_state<S> &w, const T *k, const T *v,
                                                   int first, int keys, int row0, float c, int lane)
{
    float s[S::MB][2 * S::GROUPS][4] = {};
    LDK_UNROLL
    for (int group = 0; group < S::GROUPS; group++) {
        if (MASKED && first + group * 16 >= keys)
            continue;
        if constexpr (S::F16_SCORES)
            score_group_f16<S>(w, k, lane, s, group);
        else
            score_group<S, T>(w, k, lane, s, group);
    }
    if constexpr (MASKED)
        mask_scores<S, CAUSAL>(s, first, keys, row0, lane);
    follow_maximum<S>(w, s, c);
    exponentiate<S>(w, s, c);
    LDK_UNROLL
    for (int group = 0; group < S::GROUPS; group++) {
        if (MASKED && first + group * 16 >= keys)
            continue;
        uint32_t p[S::MB][4];
        LDK_UNROLL
        for (int m = 0; m < S::MB; m++)
            LDK_UNROLL
        for (int i = 0; i < 4; i++) {
            const float *pair = s[m][2 * group + i / 2] + i % 2 * 2;
            p[m][i] = ldk_pack<T>(pair[0], pair[1]);
        }
        value_group<S, T>(w, p, v, lane, group);
    }
}

/* ---- Output ------------------------------------------------------------------------------------- */

/* o / l through shared memory, so that rows leave in 16-byte pieces. `stage` is the warp's own. */
template <class S, class T>
static __device__ __forceinline__ void store_rows(const warp_state<S> &w, T *stage, T *o, int row0,
                                                  int rows, int stride, int lane)
{
    LDK_UNROLL
    for (int m = 0; m < S::MB; m++)
        LDK_UNROLL
    for (int h = 0; h < 2; h++) {
        float sum = w.sum[m][h];
        sum += __shfl_xor_sync(LDK_ALL_LANES, sum, 1);
        sum += __shfl_xor_sync(LDK_ALL_LANES, sum, 2);
        const float inverse = sum == 0.0f ? 0.0f : 1.0f / sum; /* no keys: zeros */
        T *row = stage + (m * 16 + h * 8 + lane / 4) * S::PITCH + lane % 4 * 2;
        LDK_UNROLL
        for (int c = 0; c < S::CHUNKS; c++)
            ldk_st(row + c * 8,
                   ldk_pack<T>(w.o[m][c][2 * h] * inverse, w.o[m][c][2 * h + 1] * inverse));
    }
    __syncwarp();
    LDK_UNROLL
    for (int i = 0; i < S::WARP_ROWS * S::CHUNKS; i += 32) {
        const int row = (i + lane) / S::CHUNKS;
        const int chunk = (i + lane) % S::CHUNKS;
        if (row < S::WARP_ROWS && row0 + row < rows)
            ldk_st(o + static_cast<int64_t>(row0 + row) * stride + chunk * 8,
                   ldk_ld<uint4>(stage + row * S::PITCH + chunk * 8));
    }
}

/* ---- The kernel --------------------------------------------------------------------------------- */

template <class S, class T, bool CAUSAL>
static __global__ void __launch_bounds__(S::THREADS, S::RESIDENT)
    attention_kernel(const struct ldk_attention a)
{
    LDK_SHARED_DYN(T, shared);
    const int tid = static_cast<int>(threadIdx.x);
    const int lane = tid % 32;
    const int head = static_cast<int>(blockIdx.y) * S::D;
    const int b = static_cast<int>(blockIdx.z);
    const int block_row = static_cast<int>(blockIdx.x) * S::ROWS;
    const int row0 = block_row + tid / 32 * S::WARP_ROWS;
    const T *q = static_cast<const T *>(a.q) + static_cast<int64_t>(b) * a.q_rows * a.q_stride;
    const T *k = static_cast<const T *>(a.k) + static_cast<int64_t>(b) * a.kv_rows * a.k_stride;
    const T *v = static_cast<const T *>(a.v) + static_cast<int64_t>(b) * a.kv_rows * a.v_stride;
    T *o = static_cast<T *>(a.o) + static_cast<int64_t>(b) * a.q_rows * a.o_stride;
    const float c = a.scale * (S::F16_SCORES ? LDK_LOG2_E / LDK_QUERY_SCALE : LDK_LOG2_E);
    const int all = attention_keys(a, b);
    const int keys = CAUSAL ? ld_idx_min(all, block_row + S::ROWS) : all;
    const int steps = ld_idx_ceil_div(keys, S::KEYS);
    const int whole = (CAUSAL ? ld_idx_min(keys, block_row + 1) : keys) / S::KEYS;

    T *const keys_at = shared;
    T *const values_at = shared + 2 * S::BUFFER;
    copy_rows<S, T>(keys_at, k + head, 0, keys, a.k_stride, tid);
    copy_rows<S, T>(values_at, v + head, 0, keys, a.v_stride, tid);
    ldk_cp_async_commit();
    warp_state<S> w;
    load_queries<S, T>(w, q + head, row0, a.q_rows, a.q_stride, lane);
    if constexpr (S::F16_SCORES)
        scale_queries<S>(w);

    for (int step = 0; step < steps; step++) {
        const int now = step % 2 * S::BUFFER;
        const int next = S::BUFFER - now;
        ldk_cp_async_wait<0>();
        __syncthreads(); /* this step has landed, and nobody reads the other buffer any more */
        if (step + 1 < steps) {
            const int first = (step + 1) * S::KEYS;
            copy_rows<S, T>(keys_at + next, k + head, first, keys, a.k_stride, tid);
            copy_rows<S, T>(values_at + next, v + head, first, keys, a.v_stride, tid);
            ldk_cp_async_commit();
        }
        if (step < whole)
            attend_step<S, T, false, CAUSAL>(w, keys_at + now, values_at + now, step * S::KEYS,
                                             keys, row0, c, lane);
        else
            attend_step<S, T, true, CAUSAL>(w, keys_at + now, values_at + now, step * S::KEYS, keys,
                                            row0, c, lane);
    }
    ldk_cp_async_wait<0>();
    __syncthreads(); /* K and V are done with: their place takes the output */
    T *stage = shared + tid / 32 * S::WARP_ROWS * S::PITCH;
    store_rows<S, T>(w, stage, o + head, row0, a.q_rows, a.o_stride, lane);
}

/* ---- Instances ---------------------------------------------------------------------------------- */

enum { VARIANT_NARROW = LDK_VARIANT_PLAIN + 1, VARIANT_TALL, VARIANT_HIGH, VARIANT_WIDE };

/*
 * Instances: 64 rows a block; 128 rows where registers allow two m16 blocks a warp; and as many
 * rows an SM in fewer blocks, which read K and V less often and have more threads to copy them:
 *
 *                 rows   blocks an SM   L2 bytes, predicted, 1024 x 1024, two images (ptx-counts)
 *   tall_40       128         3            3.37 GB a layer
 *   high_40       192         2            2.3
 *   tall_80       128         2            0.37
 *   high_80       256         1            0.2; its warps wait for one another at each step
 */
using narrow_40 = tile_shape<40, 4, 1, 64>;
using narrow_64 = tile_shape<64, 4, 1, 64>;
using narrow_80 = tile_shape<80, 4, 1, 64>;
using narrow_160 = tile_shape<160, 4, 1, 32>;
using tall_40 = tile_shape<40, 4, 2, 64>;
using tall_64 = tile_shape<64, 4, 2, 64>;
using tall_80 = tile_shape<80, 4, 2, 64>;
using tall_160 = tile_shape<160, 8, 1, 32>;
using high_40 = tile_shape<40, 6, 2, 64>;
using high_80 = tile_shape<80, 8, 2, 64>;

template <class S, class T, bool CAUSAL>
static int attention_launch(const struct ldk_attention *a, ldk_stream stream)
{
    const dim3 grid(static_cast<unsigned>(ld_idx_ceil_div(a->q_rows, S::ROWS)),
                    static_cast<unsigned>(a->heads), static_cast<unsigned>(a->batch));
    return LDK_LAUNCH((attention_kernel<S, T, CAUSAL>), grid, dim3(S::THREADS), S::SHARED, stream,
                      *a);
}

/* What is done with the instance of a width and variant: `Use::with<Shape>(...)`. */
template <class Use, class... Arguments>
static auto with_instance(int d, int number, Arguments... arguments)
{
    const bool narrow = number == VARIANT_NARROW, high = number == VARIANT_HIGH;
    if (d == 40)
        return narrow ? Use::template with<narrow_40>(arguments...)
               : high ? Use::template with<high_40>(arguments...)
                      : Use::template with<tall_40>(arguments...);
    if (d == 64)
        return narrow ? Use::template with<narrow_64>(arguments...)
                      : Use::template with<tall_64>(arguments...);
    if (d == 80)
        return narrow ? Use::template with<narrow_80>(arguments...)
               : high ? Use::template with<high_80>(arguments...)
                      : Use::template with<tall_80>(arguments...);
    return narrow ? Use::template with<narrow_160>(arguments...)
                  : Use::template with<tall_160>(arguments...);
}

#endif
