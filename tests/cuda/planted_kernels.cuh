/* The kernels behind planted.h. */
#include "tests/cuda/planted.h"

/* ---- Norm: y = (x - mean) * rstd, a block a row, plus pairs of neighbours by way of shared memory  */

enum { NORM_THREADS = 128, NORM_WARPS = 4 };

static __device__ float norm_block_sum(float v, float *partial, int bug)
{
    const int tid = static_cast<int>(threadIdx.x);
    for (int bits = 16; bits > 0; bits /= 2)
        v += __shfl_xor_sync(0xffffffffu, v, bits);
    if (tid % 32 == 0 && !(bug == NORM_UNSET_MATTERS && tid == 96))
        partial[tid / 32] = v;
    if (bug != NORM_NO_BARRIER_AFTER_STORE)
        __syncthreads();
    float sum = 0.0f;
    for (int w = 0; w < NORM_WARPS; w++)
        sum += partial[w];
    if (bug != NORM_NO_BARRIER_BEFORE_REUSE)
        __syncthreads();
    return sum;
}

/* What a row's loads do wrong; `row` is this block's. */
static __device__ float norm_bad_load(const float *row, int columns, int bug)
{
    const int tid = static_cast<int>(threadIdx.x);
    float2 pair = make_float2(0.0f, 0.0f);
    if (bug == NORM_BEYOND_ODD_TENSOR && blockIdx.x == gridDim.x - 2 && tid == 0) /* the last row */
        return *static_cast<const volatile float *>(row + columns) > 0.0f ? 0.0f : 0.0f;
    if (bug == NORM_FAR_STRIDE && tid == 3)
        return *static_cast<const volatile float *>(row + 100000) > 0.0f ? 0.0f : 0.0f;
    if (bug == NORM_MISALIGNED_LD)
        pair = ldk_ld<float2>(row + 1 + blockIdx.x % 2);
    if (bug == NORM_MISALIGNED_CAST)
        pair = *reinterpret_cast<const float2 *>(row + 1 + blockIdx.x % 2);
    return (pair.x + pair.y) * 0.0f; /* both: of one, nvcc makes an aligned load */
}

static __global__ void __launch_bounds__(NORM_THREADS)
    planted_norm(const float *x, int rows, int columns, float *y, int bug)
{
    LDK_SHARED(float, partial, [NORM_WARPS]);
    LDK_SHARED(float, neighbours, [NORM_THREADS]);
    LDK_SHARED(int, flag, );
    const int tid = static_cast<int>(threadIdx.x), row = static_cast<int>(blockIdx.x);
    if (row >= rows && bug != NORM_ROW_MASK_FORGOTTEN)
        return; /* the whole block */
    const float *from = x + row * columns;
    float sum = 0.0f;
    for (int c = tid; c < columns; c += NORM_THREADS)
        sum += from[c];
    sum += norm_bad_load(from, columns, bug);
    const float mean = norm_block_sum(sum, partial, bug) / static_cast<float>(columns);
    sum = 0.0f;
    for (int c = tid; c < columns; c += NORM_THREADS)
        sum += (from[c] - mean) * (from[c] - mean);
    const float variance = norm_block_sum(sum, partial, bug) / static_cast<float>(columns);
    if (bug == NORM_SAME_VALUE_BY_ALL)
        flag = row;
    else if (tid == 0)
        flag = row;
    const int beyond = bug == NORM_OFF_BY_ONE_STATIC && tid == 0 ? 1 : 0;
    neighbours[tid + beyond * NORM_THREADS] = rsqrtf(variance + 1e-5f);
    if (bug != NORM_NO_SYNCWARP)
        __syncwarp();
    const float rstd = neighbours[tid ^ 1];
    __syncthreads();
    const int to = bug == NORM_SAME_ELEMENT_BY_TWO_BLOCKS && row % 2 == 1 ? flag - 1 : flag;
    if (bug == NORM_UNSET_IGNORED) {
        LDK_SHARED(float, unset, [NORM_THREADS]);
        if (unset[tid] > 1.0f)
            __asm__ volatile(""); /* something that the branch decides about */
    }
    for (int c = tid; c < columns; c += NORM_THREADS)
        y[to * columns + c] = (from[c] - mean) * rstd;
}

/* ---- GEMM: y[32][8] = a[32][64] * b[8][64]', two warps, three stages of 16 of K -------------- */

enum { GEMM_THREADS = 64, GEMM_DEPTH = 64, GEMM_STEPS = GEMM_DEPTH / 16, GEMM_STAGE_CHUNKS = 80 };

/* Thread i copies for the other warp too: chunks of a from the last to the first, then b. */
static __device__ void gemm_load(uint4 *stage, const half *a, const half *b, int step, int bug)
{
    const int tid = static_cast<int>(threadIdx.x), chunk = GEMM_THREADS - 1 - tid;
    const int shift = bug == GEMM_MISALIGNED_SOURCE ? 1 : 0;
    ldk_cp_async<16>(&stage[chunk], a + chunk / 2 * GEMM_DEPTH + step * 16 + chunk % 2 * 8 + shift);
    if (tid < 16)
        ldk_cp_async<16>(&stage[64 + tid], b + tid / 2 * GEMM_DEPTH + step * 16 + tid % 2 * 8);
}

static __global__ void __launch_bounds__(GEMM_THREADS)
    planted_gemm(const half *a, const half *b, float *y, int bug)
{
    LDK_SHARED_DYN(uint4, stages);
    const int tid = static_cast<int>(threadIdx.x), lane = tid % 32, warp = tid / 32;
    float sum[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    for (int s = 0; s < 2; s++) {
        gemm_load(stages + s * GEMM_STAGE_CHUNKS, a, b, s, bug);
        if (bug != GEMM_NO_COMMIT)
            ldk_cp_async_commit();
    }
    for (int step = 0; step < GEMM_STEPS; step++) {
        if (bug == GEMM_WAIT_SHORT)
            ldk_cp_async_wait<2>();
        else if (bug != GEMM_NO_WAIT)
            ldk_cp_async_wait<1>();
        if (bug == GEMM_ONLY_SYNCWARP)
            __syncwarp();
        else if (bug != GEMM_NO_BARRIER_IN_LOOP)
            __syncthreads();
        const int ahead = bug == GEMM_COPY_INTO_READ_STAGE ? step % 3 : (step + 2) % 3;
        if (step + 2 < GEMM_STEPS)
            gemm_load(stages + ahead * GEMM_STAGE_CHUNKS, a, b, step + 2, bug);
        if (bug != GEMM_NO_COMMIT)
            ldk_cp_async_commit();
        const uint4 *stage = stages + step % 3 * GEMM_STAGE_CHUNKS;
        uint32_t fa[4], fb[2];
#if defined(__CUDACC__)
        const half *local = a; /* nvcc's kernels may have no local memory (tests/static) */
#else
        uint4 local[2] = {make_uint4(0, 0, 0, 0), make_uint4(0, 0, 0, 0)};
#endif
        const void *row = stage + (warp * 16 + lane % 16) * 2 + lane / 16;
        if (bug == GEMM_LDMATRIX_8_OFF)
            row = static_cast<const uint2 *>(row) + 1;
        if (bug == GEMM_LDMATRIX_LOCAL)
            row = local;
        ldk_ldmatrix_x4(fa, row);
        ldk_ldmatrix_x2(fb, stage + 64 + lane % 8 * 2 + lane / 8 % 2);
        ldk_mma_16816<half>(sum, fa, fb);
    }
    if (bug == GEMM_LEAVES_IN_FLIGHT) {
        __syncthreads();
        gemm_load(stages, a, b, 0, bug);
        ldk_cp_async_commit();
    } else if (bug != GEMM_NO_WAIT) {
        ldk_cp_async_wait<0>();
    }
    if (bug == GEMM_OFF_BY_ONE_DYNAMIC && tid == 0)
        sum[0] += __uint_as_float(stages[3 * GEMM_STAGE_CHUNKS].x);
    float *out = y + (warp * 16 + lane / 4) * 8 + lane % 4 * 2;
    ldk_st(out, make_float2(sum[0], sum[1]));
    ldk_st(out + 64, make_float2(sum[2], sum[3]));
}

/* ---- Attention's way with a buffer: y = sum over tiles of (sum of k's tile) * (some of v's) -- */

enum { ATTENTION_THREADS = 64, ATTENTION_TILES = 3 };

/* The first barrier is for those who still read what the buffer held. */
static __device__ void attention_fill(float4 *buffer, const float *from, int tile, bool barrier)
{
    const int mirrored = ATTENTION_THREADS - 1 - static_cast<int>(threadIdx.x);
    if (barrier)
        __syncthreads();
    ldk_cp_async<16>(&buffer[mirrored], from + (tile * ATTENTION_THREADS + mirrored) * 4);
    ldk_cp_async_commit();
    ldk_cp_async_wait<0>();
    __syncthreads();
}

static __global__ void __launch_bounds__(ATTENTION_THREADS)
    planted_attention(const float *k, const float *v, float *y, int bug)
{
    LDK_SHARED(float4, tile, [ATTENTION_THREADS]);
    const int tid = static_cast<int>(threadIdx.x);
    float out = 0.0f;
    for (int t = 0; t < ATTENTION_TILES; t++) {
        attention_fill(tile, k, t, bug != ATTENTION_NO_BARRIER_BEFORE_K);
        float score = 0.0f;
        for (int i = 0; i < ATTENTION_THREADS; i++)
            score += tile[(i + tid) % ATTENTION_THREADS].x;
        attention_fill(tile, v, t, bug != ATTENTION_NO_BARRIER_BEFORE_V);
        for (int i = 0; i < ATTENTION_THREADS; i++)
            out += score * tile[(tid + i) % ATTENTION_THREADS].y;
    }
    y[tid] = out;
}

/* ---- Control flow: y = sum of the two warps' x ----------------------------------------------- */

enum { CONTROL_THREADS = 64 };

static __global__ void __launch_bounds__(CONTROL_THREADS)
    planted_control(const float *x, float *y, int bug)
{
    LDK_SHARED(float, all, [CONTROL_THREADS]);
    const int tid = static_cast<int>(threadIdx.x), lane = tid % 32;
    const unsigned full = 0xffffffffu;
    float v = x[tid];
    if (bug == CONTROL_RETURN_BEFORE_BARRIER && tid >= 48)
        return;
    if (bug == CONTROL_MASK_NAMES_FINISHED_LANE && lane == 31)
        return;
    all[tid] = v;
    if (bug == CONTROL_DIVERGENT_BARRIER) {
        if (tid < 32)
            __syncthreads();
        else
            __syncthreads();
    } else if (bug == CONTROL_DIVERGENT_ON_ONE_LINE) {
        /* clang-format off */
        if (tid < 32) { __syncthreads(); } else { __syncthreads(); }
        /* clang-format on */
    } else if (bug == CONTROL_NAMED_BARRIER_WRONG_ID) {
        ldk_bar_sync(tid < 32 ? 1 : 2, CONTROL_THREADS);
    } else if (bug == CONTROL_NAMED_BARRIER_WRONG_COUNT) {
        ldk_bar_sync(1, tid < 32 ? 64 : 32);
    } else if (bug != CONTROL_MASK_NAMES_FINISHED_LANE) {
        __syncthreads();
    }
    if (bug != CONTROL_MASK_NAMES_FINISHED_LANE) /* no barrier there, and one bug at a time */
        v += all[tid ^ 32];
    if (bug == CONTROL_SHUFFLE_IN_BRANCH) {
        if (lane < 16)
            v += 0.0f * __shfl_xor_sync(full, v, 1);
    } else if (bug == CONTROL_SHUFFLE_FROM_OUTSIDE_MASK) {
        if (lane < 16)
            v += 0.0f * __shfl_sync(0xffffu, v, 20);
    } else if (bug == CONTROL_LANE_OUTSIDE_OWN_MASK) {
        v += 0.0f * __shfl_xor_sync(0xffffu, v, 1);
    } else if (bug == CONTROL_LANES_AT_DIFFERENT_PLACES) {
        if (lane < 16)
            v += 0.0f * __shfl_xor_sync(full, v, 1);
        else
            v += 0.0f * __shfl_xor_sync(full, v, 2);
    } else {
        v += 0.0f * __shfl_xor_sync(full, v, 1);
    }
    y[tid] = v;
}
