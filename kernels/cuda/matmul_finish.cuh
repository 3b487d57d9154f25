/*
 * What happens to a tile after its sums: bias and timestep row by column, activation, residual,
 * one rounding, coalesced stores, and the per-channel moments that the next GroupNorm starts from.
 *
 * The tile passes through shared memory (free after the main loop): the residual arrives there by
 * 16-byte copies, each thread adds its fragment in float32 and leaves the rounded value in the
 * residual's place, and the finished rows leave as 16-byte stores. Rows are 16 bytes longer than
 * their data, an odd number of chunks, so fragments meet no bank conflict.
 */
#ifndef LDK_MATMUL_FINISH_CUH
#define LDK_MATMUL_FINISH_CUH

#include "kernels/cuda/matmul_act.cuh"
#include "kernels/cuda/matmul_main.cuh"

template <class Tile, class T, bool GEGLU> struct matmul_finish {
    static constexpr int N = GEGLU ? Tile::N / 2 : Tile::N; /* output channels of the tile */
    static constexpr int CHUNKS = N / 8, PITCH = 2 * N + 16;
    static constexpr int CHUNKS_ALL = Tile::M * CHUNKS;
    static constexpr int COLUMNS_AT = Tile::M * PITCH; /* float[Tile::N]: bias and timestep row */
    static constexpr int PARTS_AT = COLUMNS_AT + Tile::N * 4;
    /* Moments: one thread at a time sums a pair of channels over a group of rows. A tall tile has
     * two records, those of two tiles half as tall, so that both give equal bits. */
    static constexpr int PAIRS = N / 2, GROUP_ROWS = 16, GROUPS = Tile::MOMENT_ROWS / GROUP_ROWS;

    static_assert(PITCH / 16 % 2 == 1, "rows must fall on different banks");
    static_assert(COLUMNS_AT % 16 == 0 && PARTS_AT % 16 == 0, "vectors must be aligned");
    static_assert(PARTS_AT + PAIRS * GROUPS * 16 <= Tile::SHARED_BYTES, "the tile has room");

    const ldk_matmul &m;
    const matmul_place &place;
    unsigned char *shared;
    int tid;
    int32_t col; /* first output channel of the tile */

    __device__ __forceinline__ matmul_finish(const ldk_matmul &matmul, const matmul_place &at,
                                             unsigned char *memory)
        : m(matmul), place(at), shared(memory), tid(static_cast<int>(threadIdx.x)),
          col(GEGLU ? at.col / 2 : at.col)
    {
    }

    /* Element of y (and residual) behind channel 0 of row `row` of the tile. */
    __device__ __forceinline__ size_t output(int32_t row) const
    {
        int32_t at = place.row + row;
        if (m.phases > 1)
            at = (2 * (at / m.grid_w) + (place.phase >> 1)) * 2 * m.grid_w + 2 * (at % m.grid_w) +
                 (place.phase & 1);
        const size_t image =
            static_cast<size_t>(place.image) * static_cast<size_t>(m.phases * m.positions);
        return (image + static_cast<size_t>(at)) * static_cast<size_t>(m.out_n);
    }

    __device__ __forceinline__ float column(int32_t n) const
    {
        if (n >= m.n)
            return 0.0f;
        const float bias = n < m.w_rows ? m.bias[n] : 0.0f;
        if (m.row_add == nullptr)
            return bias;
        const size_t at = static_cast<size_t>(place.image) * static_cast<size_t>(m.row_add_stride) +
                          static_cast<size_t>(n);
        return bias + (m.row_add_f32 ? static_cast<const float *>(m.row_add)[at]
                                     : ldk_to_f32(static_cast<const T *>(m.row_add)[at]));
    }

    /* Columns and residual into shared memory. */
    __device__ __forceinline__ void gather() const
    {
        for (int n = tid; n < Tile::N; n += Tile::THREADS)
            ldk_st<float>(shared + COLUMNS_AT + n * 4, column(place.col + n));
        if (m.residual != nullptr) {
            const T *residual = static_cast<const T *>(m.residual);
            for (int i = tid; i < CHUNKS_ALL; i += Tile::THREADS) {
                const int row = i / CHUNKS, n = i % CHUNKS * 8;
                const bool there = row < place.rows && col + n < m.out_n;
                ldk_cp_async<16>(shared + row * PITCH + n * 2,
                                 there ? residual + output(row) + col + n : residual,
                                 there ? 16 : 0);
            }
        }
        ldk_cp_async_commit();
        ldk_cp_async_wait<0>();
        __syncthreads();
    }

    /* Adds the columns, applies the activation. GEGLU leaves the products in the value blocks. */
    template <class Sum> __device__ __forceinline__ void activate(Sum &sum, int32_t first) const
    {
        LDK_UNROLL
        for (int j = 0; j < Tile::MMA_N; j++) {
            const float2 add = ldk_ld<float2>(shared + COLUMNS_AT + (first + j * 8) * 4);
            LDK_UNROLL
            for (int i = 0; i < Tile::MMA_M * 2; i++) {
                sum.c[i / 2][j][i % 2 * 2] += add.x;
                sum.c[i / 2][j][i % 2 * 2 + 1] += add.y;
            }
        }
        if constexpr (GEGLU) {
            LDK_UNROLL
            for (int i = 0; i < Tile::MMA_M * 4; i++) {
                LDK_UNROLL
                for (int j = 0; j < Tile::MMA_N; j += 2)
                    sum.c[i / 4][j][i % 4] *= ldk_gelu(sum.c[i / 4][j + 1][i % 4]);
            }
        } else if (m.activation != LDK_ACT_NONE) {
            const float slope = ldk_gate_slope(m.activation);
            LDK_UNROLL
            for (int i = 0; i < Tile::MMA_M * 4; i++) {
                LDK_UNROLL
                for (int j = 0; j < Tile::MMA_N; j++)
                    sum.c[i / 4][j][i % 4] = swish(sum.c[i / 4][j][i % 4], slope);
            }
        }
    }

    /* The thread's fragment joins the residual in shared memory, rounded. */
    template <class Sum> __device__ __forceinline__ void round(const Sum &sum) const
    {
        constexpr int STRIDE = GEGLU ? 2 : 1;
        const matmul_lane<Tile> at;
        const int first = (GEGLU ? at.col / 2 : at.col) + at.lane % 4 * 2;
        LDK_UNROLL
        for (int i = 0; i < Tile::MMA_M * 2; i++) {
            unsigned char *row = shared + (at.row + i * 8 + at.lane / 4) * PITCH + first * 2;
            LDK_UNROLL
            for (int j = 0; j < Tile::MMA_N / STRIDE; j++) {
                float2 v = make_float2(0.0f, 0.0f);
                if (m.residual != nullptr)
                    v = ldk_unpack<T>(ldk_ld<uint32_t>(row + j * 16));
                const float *c = &sum.c[i / 2][j * STRIDE][i % 2 * 2];
                ldk_st<uint32_t>(row + j * 16, ldk_pack<T>(c[0] + v.x, c[1] + v.y));
            }
        }
        __syncthreads();
    }

    __device__ __forceinline__ void store() const
    {
        T *y = static_cast<T *>(m.y);
        for (int i = tid; i < CHUNKS_ALL; i += Tile::THREADS) {
            const int row = i / CHUNKS, n = i % CHUNKS * 8;
            if (row < place.rows && col + n < m.out_n)
                ldk_st(y + output(row) + col + n, ldk_ld<uint4>(shared + row * PITCH + n * 2));
        }
    }

    __device__ __forceinline__ float2 pair_at(int row, int pair) const
    {
        return ldk_unpack<T>(ldk_ld<uint32_t>(shared + row * PITCH + pair * 4));
    }

    /* Sums of v - shift and of its square over rows [row, end) for a pair of channels: first
     * channel, second channel. */
    __device__ __forceinline__ float4 group_sum(int row, int end, int pair, float2 shift) const
    {
        float4 sum = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        for (; row < end; row++) {
            const float2 v = pair_at(row, pair);
            const float a = v.x - shift.x, b = v.y - shift.y;
            sum.x += a;
            sum.y += a * a;
            sum.z += b;
            sum.w += b * b;
        }
        return sum;
    }

    /* One record of moments: of the rounded values of rows [first, end) around the first of them.
     * Every thread of the block comes here; a group is summed from the top, groups are added in
     * order. */
    __device__ __forceinline__ void record(int first, int end) const
    {
        for (int i = tid; i < GROUPS * PAIRS; i += Tile::THREADS) {
            const int row = first + i / PAIRS * GROUP_ROWS, pair = i % PAIRS;
            ldk_st(shared + PARTS_AT + i * 16,
                   group_sum(row, ld_idx_min(row + GROUP_ROWS, end), pair, pair_at(first, pair)));
        }
        __syncthreads();
        const int32_t n = col + 2 * tid;
        if (tid >= PAIRS || n >= m.out_n)
            return;
        float4 sum = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        for (int g = 0; g < GROUPS; g++) {
            const float4 more = ldk_ld<float4>(shared + PARTS_AT + (g * PAIRS + tid) * 16);
            sum.x += more.x;
            sum.y += more.y;
            sum.z += more.z;
            sum.w += more.w;
        }
        const float2 shift = pair_at(first, tid);
        const float count = static_cast<float>(end - first);
        const int32_t tile = (place.image * m.phases + place.phase) * m.moment_tiles +
                             (place.row + first) / Tile::MOMENT_ROWS;
        float *to =
            m.moments +
            (static_cast<size_t>(tile) * static_cast<size_t>(m.out_n) + static_cast<size_t>(n)) * 4;
        ldk_st(to, make_float4(shift.x, sum.x, sum.y, count));
        ldk_st(to + 4, make_float4(shift.y, sum.z, sum.w, count));
    }

    __device__ __forceinline__ void moments() const
    {
        record(0, ld_idx_min(Tile::MOMENT_ROWS, place.rows));
        if (Tile::M > Tile::MOMENT_ROWS && place.rows > Tile::MOMENT_ROWS) {
            __syncthreads(); /* the first record's parts have been read */
            record(Tile::MOMENT_ROWS, place.rows);
        }
    }

    template <class Sum> __device__ __forceinline__ void run(Sum &sum) const
    {
        const matmul_lane<Tile> at;
        gather();
        activate(sum, at.col + at.lane % 4 * 2);
        round(sum);
        store();
        if (m.moments != nullptr)
            moments();
    }
};

/* ---- Partial sums of a split K -------------------------------------------------------------------- */

/* Where block `index`, part `split` keeps its fragments: one float4 a thread at a time, so that a
 * warp touches 512 bytes in a row. */
template <class Tile>
static __device__ __forceinline__ float *matmul_partial(const ldk_matmul &m, int32_t index,
                                                        int32_t split)
{
    constexpr size_t FLOATS = static_cast<size_t>(Tile::M) * Tile::N;
    const size_t part =
        static_cast<size_t>(index) * static_cast<size_t>(m.splits) + static_cast<size_t>(split);
    return m.partial + part * FLOATS + static_cast<size_t>(threadIdx.x) * 4;
}

template <class Tile, class Sum>
static __device__ __forceinline__ void matmul_partial_store(const Sum &sum, float *to)
{
    LDK_UNROLL
    for (int i = 0; i < Tile::MMA_M * Tile::MMA_N; i++) {
        const float *c = sum.c[i / Tile::MMA_N][i % Tile::MMA_N];
        ldk_st(to + i * Tile::THREADS * 4, make_float4(c[0], c[1], c[2], c[3]));
    }
}

template <class Tile, class Sum>
static __device__ __forceinline__ void matmul_partial_add(Sum &sum, const float *from)
{
    LDK_UNROLL
    for (int i = 0; i < Tile::MMA_M * Tile::MMA_N; i++) {
        const float4 v = ldk_ld<float4>(from + i * Tile::THREADS * 4);
        float *c = sum.c[i / Tile::MMA_N][i % Tile::MMA_N];
        c[0] += v.x;
        c[1] += v.y;
        c[2] += v.z;
        c[3] += v.w;
    }
}

#endif
