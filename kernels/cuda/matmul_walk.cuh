/*
 * Walkers: where the next slice of K of each of a thread's rows lies in global memory. The main
 * loop knows only `copy` (all of this thread's 16-byte chunks of the slice, zeros where there is no
 * row or the tap lies outside the map) and `next`. No walker divides inside the loop; what depends
 * on the tap is worked out when the tap begins.
 */
#ifndef LDK_MATMUL_WALK_CUH
#define LDK_MATMUL_WALK_CUH

#include "kernels/cuda/matmul_tile.cuh"

/* This thread's first row in a stage, and its chunk. */
template <class Tile> struct matmul_copy_lane {
    int row, chunk, at;

    __device__ __forceinline__ matmul_copy_lane()
    {
        const int tid = static_cast<int>(threadIdx.x);
        row = tid / Tile::CHUNKS;
        chunk = tid % Tile::CHUNKS;
        at = matmul_chunk_at(row, chunk);
    }
};

/* Bit i: row `row` + i * STRIDE is one of `rows`. */
template <int COPIES, int STRIDE>
static __device__ __forceinline__ uint32_t matmul_inside(int32_t row, int32_t rows)
{
    uint32_t inside = 0;
    LDK_UNROLL
    for (int i = 0; i < COPIES; i++)
        inside |= static_cast<uint32_t>(row + i * STRIDE < rows) << i;
    return inside;
}

/* ---- Weights: rows of one length, K in one line --------------------------------------------------- */

template <class Tile, class T> struct walk_weights {
    const T *from;
    int32_t step;    /* elements between two of this thread's rows */
    uint32_t inside; /* bit i: copy i has something to read */
    int to;

    __device__ __forceinline__ walk_weights(const ldk_matmul &m, const matmul_place &place,
                                            int32_t slice)
    {
        const matmul_copy_lane<Tile> lane;
        to = Tile::A_BYTES + lane.at;
        inside = matmul_inside<Tile::B_COPIES, Tile::COPY_ROWS>(lane.row, m.w_rows - place.col);
        step = Tile::COPY_ROWS * m.w_stride;
        const size_t first = static_cast<size_t>(place.phase) * static_cast<size_t>(m.w_rows) +
                             static_cast<size_t>(place.col + lane.row);
        from = static_cast<const T *>(m.w) + first * static_cast<size_t>(m.w_stride) +
               slice * Tile::K + lane.chunk * 8;
    }

    __device__ __forceinline__ void copy(const ldk_matmul &m, unsigned char *stage) const
    {
        LDK_UNROLL
        for (int i = 0; i < Tile::B_COPIES; i++) {
            /* The last rows of the tile are fewer than threads have rows for. */
            constexpr int ALL = Tile::N / Tile::COPY_ROWS, REST = Tile::N % Tile::COPY_ROWS;
            if (i == ALL && static_cast<int>(threadIdx.x) >= REST * Tile::CHUNKS)
                break;
            const bool there = (inside >> i & 1) != 0;
            ldk_cp_async<16>(stage + to + i * Tile::COPY_ROWS * Tile::ROW_BYTES,
                             there ? from + i * step : static_cast<const T *>(m.w), there ? 16 : 0);
        }
    }

    __device__ __forceinline__ void next()
    {
        from += Tile::K;
    }
};

/* ---- Rows of a matrix, or of two side by side ----------------------------------------------------- */

template <class Tile, class T> struct walk_rows {
    const T *from;
    int32_t step; /* elements between two of this thread's rows */
    uint32_t inside;
    int32_t left; /* slices until the source ends */
    int to;

    __device__ __forceinline__ walk_rows(const ldk_matmul &m, const matmul_place &place,
                                         int32_t slice)
    {
        const matmul_copy_lane<Tile> lane;
        to = lane.at;
        inside = matmul_inside<Tile::A_COPIES, Tile::COPY_ROWS>(lane.row, place.rows);
        const int32_t first = m.c0 / Tile::K;
        const bool second = slice >= first;
        enter(m, place, second, second ? slice - first : slice);
    }

    __device__ __forceinline__ void enter(const ldk_matmul &m, const matmul_place &place,
                                          bool second, int32_t slice)
    {
        const matmul_copy_lane<Tile> lane;
        const T *x = static_cast<const T *>(second ? m.x1 : m.x0);
        const int32_t channels = second ? m.c1 : m.c0;
        const size_t at = static_cast<size_t>(place.image) * static_cast<size_t>(m.positions) +
                          static_cast<size_t>(place.row + lane.row);
        from = x + at * static_cast<size_t>(channels) + slice * Tile::K + lane.chunk * 8;
        step = Tile::COPY_ROWS * channels;
        left = second ? INT32_MAX : channels / Tile::K - slice;
    }

    __device__ __forceinline__ void copy(const ldk_matmul &m, unsigned char *stage) const
    {
        LDK_UNROLL
        for (int i = 0; i < Tile::A_COPIES; i++) {
            const bool there = (inside >> i & 1) != 0;
            ldk_cp_async<16>(stage + to + i * Tile::COPY_ROWS * Tile::ROW_BYTES,
                             there ? from + i * step : static_cast<const T *>(m.x0),
                             there ? 16 : 0);
        }
    }

    __device__ __forceinline__ void next(const ldk_matmul &m, const matmul_place &place)
    {
        from += Tile::K;
        if (--left == 0 && m.c1 > 0)
            enter(m, place, true, 0);
    }
};

/* ---- Taps of a convolution ------------------------------------------------------------------------ */

/* Stored row or column behind place `i` of the grid that the kernel walks over. */
static __device__ __forceinline__ int32_t matmul_stored(int32_t i, int32_t n, int32_t up)
{
    return up == 2 * n ? i >> 1 : ld_idx_upsample(i, n, up);
}

template <class Tile, class T> struct walk_taps {
    const T *from[Tile::A_COPIES];
    int32_t y[Tile::A_COPIES], x[Tile::A_COPIES]; /* the window's corner */
    uint32_t inside;                              /* bit i: copy i has something to read */
    int32_t tap, left;
    bool second;
    int to;

    __device__ __forceinline__ walk_taps(const ldk_matmul &m, const matmul_place &place,
                                         int32_t slice)
    {
        const matmul_copy_lane<Tile> lane;
        to = lane.at;
        LDK_UNROLL
        for (int i = 0; i < Tile::A_COPIES; i++) {
            const int32_t r = lane.row + i * Tile::COPY_ROWS, at = place.row + r;
            y[i] = at / m.grid_w * m.stride - m.pad + (place.phase >> 1);
            x[i] = at % m.grid_w * m.stride - m.pad + (place.phase & 1);
            if (r >= place.rows)
                y[i] = INT32_MIN / 2; /* outside, whatever the tap */
        }
        const int32_t of_tap = (m.c0 + m.c1) / Tile::K, first = m.c0 / Tile::K;
        const int32_t rest = slice % of_tap;
        tap = slice / of_tap;
        second = rest >= first;
        enter(m, place, second ? rest - first : rest, lane.chunk);
    }

    /* The source or the tap has changed. */
    __device__ __forceinline__ void enter(const ldk_matmul &m, const matmul_place &place,
                                          int32_t slice, int chunk)
    {
        const int32_t channels = second ? m.c1 : m.c0;
        const int32_t h = m.up_h > 0 ? m.up_h : m.in_h, w = m.up_w > 0 ? m.up_w : m.in_w;
        const T *image = static_cast<const T *>(second ? m.x1 : m.x0) +
                         static_cast<size_t>(place.image) * static_cast<size_t>(m.in_h) *
                             static_cast<size_t>(m.in_w) * static_cast<size_t>(channels) +
                         slice * Tile::K + chunk * 8;
        const int32_t tap_y = tap / m.kernel, tap_x = tap % m.kernel;
        left = channels / Tile::K - slice;
        inside = 0;
        LDK_UNROLL
        for (int i = 0; i < Tile::A_COPIES; i++) {
            const int32_t iy = y[i] + tap_y, ix = x[i] + tap_x;
            const bool there = iy >= 0 && iy < h && ix >= 0 && ix < w;
            const int32_t at = there ? matmul_stored(iy, m.in_h, m.up_h) * m.in_w +
                                           matmul_stored(ix, m.in_w, m.up_w)
                                     : 0;
            from[i] = image + static_cast<size_t>(at) * static_cast<size_t>(channels);
            inside |= static_cast<uint32_t>(there) << i;
        }
    }

    __device__ __forceinline__ void copy(const ldk_matmul &, unsigned char *stage) const
    {
        LDK_UNROLL
        for (int i = 0; i < Tile::A_COPIES; i++)
            ldk_cp_async<16>(stage + to + i * Tile::COPY_ROWS * Tile::ROW_BYTES, from[i],
                             (inside >> i & 1) != 0 ? 16 : 0);
    }

    __device__ __forceinline__ void next(const ldk_matmul &m, const matmul_place &place)
    {
        LDK_UNROLL
        for (int i = 0; i < Tile::A_COPIES; i++)
            from[i] += Tile::K;
        if (--left > 0)
            return;
        second = !second && m.c1 > 0;
        tap += !second;
        if (tap < m.kernel * m.kernel)
            enter(m, place, 0, matmul_copy_lane<Tile>().chunk);
    }
};

#endif
