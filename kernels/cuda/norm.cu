/*
 * GroupNorm with an optional SiLU over one or two sources, channels concatenated:
 *   y = silu?((x - mean_g) * rstd_g * gamma[c] + beta[c])
 *
 * Three kernels:
 *   moments    only for a source whose producer left none: per tile of positions and channel the
 *              shifted moments (shift, sum d, sum d^2, count), d = x - shift, in float32. The shift
 *              is the tile's first row, so that a small variance beside a large mean survives.
 *   finalise   per image and group, in fp64 and a fixed order: fold tiles and channels to mean and
 *              variance, leave scale = gamma rstd and shift = beta - mean scale for each channel.
 *              Only this step knows groups: a 16-byte vector crosses them, and they cross sources.
 *   apply      y = silu?(x scale + shift), 16 bytes an access, four in flight a thread.
 *
 * Numerics   x scale and shift may cancel, and what is left is stored with 11 digits of its own
 *            size. So both are sums of two floats, and x scale + shift takes two fused multiplies
 *            whose first is rounded at the size of the result: as good as fp64, which GeForce runs
 *            at a 64th of the rate, for two more operations on a value that waits for memory.
 *            The rests are kept to 8 digits, which loses 2^-34 of a product or of the shift. What
 *            is left is the rounding of the moments themselves: about 1e-8 of the spread.
 *
 * Layout   A thread owns one vector column and walks rows, so scale and shift are read once.
 *          Channel counts that are no multiple of 8 take the same kernels with vectors of one.
 * Shared   moments 16 KB, finalise 64 bytes. Registers (sm_90): moments 48, finalise 32, apply 79.
 * Bound    bytes: apply reads and writes each element once; time: not measured.
 * Source   kernels.md 7.1; Wu & He 2018, arXiv:1803.08494; shifted data as in Chan, Golub & LeVeque
 *          1983.
 */
#include "kernels/cuda/vector.cuh"

enum {
    THREADS = 256,
    FOLD_THREADS = 256,
    IN_FLIGHT = 4,      /* vectors a thread of `apply` holds */
    APPLY_ROUNDS = 4,   /* such loads a thread makes */
    TILE_ROWS_MIN = 64, /* own moments: positions a tile */
    TILES_MAX = 512     /* and tiles an image; a pure function of the positions */
};

/* A row of `channels` is walked by `lanes` threads with V channels each, in `blocks` blocks; a
 * block holds `lines` rows at a time. */
struct row_split {
    int lanes, lines, blocks;
};

static struct row_split split_row(int channels, int vector)
{
    const int vectors = channels / vector;
    struct row_split s = {};
    s.blocks = ld_idx_ceil_div(vectors, THREADS);
    s.lanes = ld_idx_ceil_div(vectors, s.blocks);
    s.lines = THREADS / s.lanes;
    return s;
}

/* ---- Moments ------------------------------------------------------------------------------------ */

template <class T, int V>
static __global__ void __launch_bounds__(THREADS)
    moments_kernel(const T *x, int channels, int positions, int tile_rows, int lanes, float *out)
{
    LDK_SHARED(float, partial, [2][static_cast<unsigned>(THREADS * V)]);
    const int tid = static_cast<int>(threadIdx.x);
    const int lines = THREADS / lanes;
    const int line = tid / lanes;
    const int column = (static_cast<int>(blockIdx.y) * lanes + tid % lanes) * V;
    const int tile = static_cast<int>(blockIdx.x);
    const int first = tile * tile_rows;
    const int end = ld_idx_min(first + tile_rows, positions);
    const bool active = line < lines && column < channels;
    x += static_cast<int64_t>(blockIdx.z) * positions * channels + column;
    floats<V> shift = {};
    floats<V> sum = {};
    floats<V> squares = {};
    if (active)
        load_vector(shift, x + static_cast<int64_t>(first) * channels);
    for (int row = first + line; active && row < end; row += lines) {
        floats<V> v;
        load_vector(v, x + static_cast<int64_t>(row) * channels);
        LDK_UNROLL
        for (int i = 0; i < V; i++) {
            const float d = v[i] - shift[i];
            sum[i] += d;
            squares[i] += d * d;
        }
    }
    LDK_UNROLL
    for (int i = 0; i < V; i++) { /* threads side by side in memory: no bank conflicts */
        partial[0][i * THREADS + tid] = sum[i];
        partial[1][i * THREADS + tid] = squares[i];
    }
    __syncthreads();
    if (!active || line != 0)
        return;
    float *const row =
        out + ((static_cast<int64_t>(blockIdx.z) * gridDim.x + tile) * channels + column) * 4;
    LDK_UNROLL
    for (int i = 0; i < V; i++) {
        for (int l = 1; l < lines; l++) {
            sum[i] += partial[0][i * THREADS + l * lanes + tid];
            squares[i] += partial[1][i * THREADS + l * lanes + tid];
        }
        ldk_st(row + i * 4,
               make_float4(shift[i], sum[i], squares[i], static_cast<float>(end - first)));
    }
}

/* ---- Finalise ----------------------------------------------------------------------------------- */

/* One source as the fold sees it: moments [batch][tiles][channels][4]. */
struct moment_source {
    const float *moments;
    int tiles, channels;
};

struct fold_args {
    struct moment_source source[2];
    int group_channels;
    float epsilon;
    const float *gamma, *beta;
    float *coefficients; /* [batch][channels][4]: scale and its rest, shift and its rest */
};

/* The sum over the block in a fixed order, in every thread. */
static __device__ __forceinline__ double fold_sum(double v, double *shared, int tid)
{
    v = warp_sum(v);
    __syncthreads(); /* the last sum has been read */
    if (tid % 32 == 0)
        shared[tid / 32] = v;
    __syncthreads();
    double sum = 0.0;
    LDK_UNROLL
    for (int i = 0; i < FOLD_THREADS / 32; i++)
        sum += shared[i];
    return sum;
}

/* Visit the moments of channels [first, end) of the concatenation in image b, this thread's share.
 */
template <class F>
static __device__ __forceinline__ void each_moment(const struct fold_args &a, int b, int first,
                                                   int end, int tid, F visit)
{
    int base = 0; /* channels before this source */
    for (int s = 0; s < 2; s++) {
        const struct moment_source &source = a.source[s];
        const int low = max(first - base, 0);
        const int width = ld_idx_min(end - base, source.channels) - low;
        const float *moments =
            source.moments + static_cast<int64_t>(b) * source.tiles * source.channels * 4;
        for (int i = tid; width > 0 && i < source.tiles * width; i += FOLD_THREADS) {
            const int at = i / width * source.channels + low + i % width;
            const float4 m = ldk_ld<float4>(moments + static_cast<int64_t>(at) * 4);
            if (m.w > 0.0f)
                visit(m);
        }
        base += source.channels;
    }
}

static __global__ void __launch_bounds__(FOLD_THREADS) finalise_kernel(const struct fold_args a)
{
    LDK_SHARED(double, shared, [FOLD_THREADS / 32]);
    const int tid = static_cast<int>(threadIdx.x);
    const int b = static_cast<int>(blockIdx.y);
    const int first = static_cast<int>(blockIdx.x) * a.group_channels;
    const int end = first + a.group_channels;
    double count = 0.0;
    double sum = 0.0;
    each_moment(a, b, first, end, tid, [&](const float4 &m) {
        count += static_cast<double>(m.w);
        sum += static_cast<double>(m.x) * static_cast<double>(m.w) + static_cast<double>(m.y);
    });
    count = fold_sum(count, shared, tid);
    const double mean = fold_sum(sum, shared, tid) / count;
    double squares = 0.0; /* (v - mean)^2 with v - mean = d + (shift - mean) */
    each_moment(a, b, first, end, tid, [&](const float4 &m) {
        const double offset = static_cast<double>(m.x) - mean;
        squares += static_cast<double>(m.z) + 2.0 * offset * static_cast<double>(m.y) +
                   offset * offset * static_cast<double>(m.w);
    });
    squares = fold_sum(squares, shared, tid);
    const double variance = squares > 0.0 ? squares / count : 0.0;
    const double rstd = 1.0 / sqrt(variance + static_cast<double>(a.epsilon));
    const int channels = a.source[0].channels + a.source[1].channels;
    for (int c = first + tid; c < end; c += FOLD_THREADS) {
        const double scale = static_cast<double>(a.gamma[c]) * rstd;
        const double shift = static_cast<double>(a.beta[c]) - mean * scale;
        const float scale_high = static_cast<float>(scale);
        const float shift_high = static_cast<float>(shift);
        ldk_st(a.coefficients + (static_cast<int64_t>(b) * channels + c) * 4,
               make_float4(scale_high, static_cast<float>(scale - static_cast<double>(scale_high)),
                           shift_high,
                           static_cast<float>(shift - static_cast<double>(shift_high))));
    }
}

/* ---- Apply -------------------------------------------------------------------------------------- */

struct apply_args {
    const void *x0, *x1;
    int c0, c1, positions, lanes;
    const float *coefficients;
    void *y;
};

/* What `finalise` left of one channel, in three registers: the rests keep 8 digits of their own. */
struct coefficient {
    float scale, shift;
    uint32_t rests;
};

static __device__ __forceinline__ coefficient load_coefficient(const float *from)
{
    const float4 four = ldk_ld<float4>(from);
    coefficient k;
    k.scale = four.x;
    k.shift = four.z;
    k.rests = ldk_pack<bf16>(four.y, four.w);
    return k;
}

template <class T, int V, bool SILU>
static __global__ void __launch_bounds__(THREADS) apply_kernel(const struct apply_args a)
{
    using raw = typename raw_vector<T, V>::type;
    const int tid = static_cast<int>(threadIdx.x);
    const int lines = THREADS / a.lanes;
    const int line = tid / a.lanes;
    const int column = (static_cast<int>(blockIdx.y) * a.lanes + tid % a.lanes) * V;
    const int channels = a.c0 + a.c1;
    const int64_t b = blockIdx.z;
    if (line >= lines || column >= channels)
        return;
    const bool second = column >= a.c0;
    const int stride = second ? a.c1 : a.c0;
    const T *x = static_cast<const T *>(second ? a.x1 : a.x0) + b * a.positions * stride +
                 (second ? column - a.c0 : column);
    T *y = static_cast<T *>(a.y) + b * a.positions * channels + column;
    coefficient k[static_cast<unsigned>(V)];
    LDK_UNROLL
    for (int i = 0; i < V; i++)
        k[i] = load_coefficient(a.coefficients + (b * channels + column + i) * 4);
    int row = static_cast<int>(blockIdx.x) * lines * IN_FLIGHT * APPLY_ROUNDS + line;
    LDK_NO_UNROLL
    for (int round = 0; round < APPLY_ROUNDS; round++, row += IN_FLIGHT * lines) {
        raw raws[IN_FLIGHT];
        LDK_UNROLL
        for (int n = 0; n < IN_FLIGHT; n++) /* y may be x: all loads come before the stores */
            if (row + n * lines < a.positions)
                raws[n] = ldk_ld<raw>(x + static_cast<int64_t>(row + n * lines) * stride);
        LDK_UNROLL
        for (int n = 0; n < IN_FLIGHT; n++) {
            if (row + n * lines >= a.positions)
                continue;
            floats<V> v;
            unpack_vector<T>(v, raws[n]);
            LDK_UNROLL
            for (int i = 0; i < V; i++) {
                const float2 rest = ldk_unpack<bf16>(k[i].rests);
                v[i] = __fmaf_rn(v[i], k[i].scale, k[i].shift) + __fmaf_rn(v[i], rest.x, rest.y);
                if constexpr (SILU)
                    v[i] = silu(v[i]);
            }
            store_vector(y + static_cast<int64_t>(row + n * lines) * channels, v);
        }
    }
}

/* ---- Plan --------------------------------------------------------------------------------------- */

static int own_tile_rows(int positions)
{
    const int rows = ld_idx_ceil_div(positions, TILES_MAX);
    return rows > TILE_ROWS_MIN ? rows : TILE_ROWS_MIN;
}

static int own_tiles(int positions)
{
    return ld_idx_ceil_div(positions, own_tile_rows(positions));
}

/* The fold counts the moments of an image in 32 bits. */
static bool tiles_fit(int tiles, int channels)
{
    return tiles >= 1 && static_cast<int64_t>(tiles) * channels <= INT32_MAX;
}

static bool sane(const struct ldk_group_norm *n)
{
    const int channels = n->c0 + n->c1;
    return n->x0 != nullptr && (n->y != nullptr || n->half == LDK_NORM_MEASURE) &&
           (n->half == LDK_NORM_BOTH || n->fold != nullptr) && n->workspace != nullptr &&
           n->c0 >= 1 && n->c1 >= 0 && (n->c1 > 0) == (n->x1 != nullptr) && n->batch >= 1 &&
           n->batch <= 65535 && n->positions >= 1 && channels <= INT32_MAX / TILES_MAX &&
           n->groups >= 1 && channels % n->groups == 0 && n->gamma != nullptr &&
           n->beta != nullptr && (n->x1 == nullptr || n->y != n->x0) &&
           (n->moments0 == nullptr || tiles_fit(n->tiles0, n->c0)) &&
           (n->moments1 == nullptr || tiles_fit(n->tiles1, n->c1)) &&
           (n->dtype == LDK_F16 || n->dtype == LDK_BF16);
}

/* Floats that the own moments of a source of `channels` take; none where a producer left them. */
static size_t moment_floats(const struct ldk_group_norm *n, int channels, const float *given)
{
    if (given != nullptr)
        return 0;
    return static_cast<size_t>(n->batch) * static_cast<size_t>(own_tiles(n->positions)) *
           static_cast<size_t>(channels) * 4;
}

/* Floats of scale and shift, rounded up so that what follows is aligned. */
static size_t coefficient_floats(const struct ldk_group_norm *n)
{
    const size_t floats = static_cast<size_t>(n->batch) * static_cast<size_t>(n->c0 + n->c1) * 4;
    return (floats + 63) / 64 * 64;
}

extern "C" size_t ldk_group_norm_workspace(const struct ldk_group_norm *n)
{
    return (coefficient_floats(n) + moment_floats(n, n->c0, n->moments0) +
            moment_floats(n, n->c1, n->moments1)) *
           sizeof(float);
}

/* ---- Launch ------------------------------------------------------------------------------------- */

template <class T, int V>
static int launch_moments(const struct ldk_group_norm *n, const void *x, int channels, float *out,
                          ldk_stream stream)
{
    const struct row_split split = split_row(channels, V);
    const dim3 grid(static_cast<unsigned>(own_tiles(n->positions)),
                    static_cast<unsigned>(split.blocks), static_cast<unsigned>(n->batch));
    return LDK_LAUNCH((moments_kernel<T, V>), grid, dim3(THREADS), 0, stream,
                      static_cast<const T *>(x), channels, n->positions,
                      own_tile_rows(n->positions), split.lanes, out);
}

template <class T, int V>
static int launch_apply(const struct ldk_group_norm *n, const float *coefficients,
                        ldk_stream stream)
{
    const struct row_split split = split_row(n->c0 + n->c1, V);
    struct apply_args a = {};
    a.x0 = n->x0;
    a.x1 = n->x1;
    a.c0 = n->c0;
    a.c1 = n->c1;
    a.positions = n->positions;
    a.lanes = split.lanes;
    a.coefficients = coefficients;
    a.y = n->y;
    const int rows = split.lines * IN_FLIGHT * APPLY_ROUNDS;
    const dim3 grid(static_cast<unsigned>(ld_idx_ceil_div(n->positions, rows)),
                    static_cast<unsigned>(split.blocks), static_cast<unsigned>(n->batch));
    const dim3 block(THREADS);
    if (n->silu)
        return LDK_LAUNCH((apply_kernel<T, V, true>), grid, block, 0, stream, a);
    return LDK_LAUNCH((apply_kernel<T, V, false>), grid, block, 0, stream, a);
}

/* Moments of source `index`: the producer's, or taken here into *next, which then moves on. */
template <class T, int V>
static int find_moments(const struct ldk_group_norm *n, int index, float **next,
                        struct moment_source *out, ldk_stream stream)
{
    const void *x = index == 0 ? n->x0 : n->x1;
    const float *given = index == 0 ? n->moments0 : n->moments1;
    out->channels = index == 0 ? n->c0 : n->c1;
    out->moments = given;
    out->tiles = index == 0 ? n->tiles0 : n->tiles1;
    if (given != nullptr || out->channels == 0)
        return LDK_OK;
    out->moments = *next;
    out->tiles = own_tiles(n->positions);
    *next += moment_floats(n, out->channels, nullptr);
    float *moments = const_cast<float *>(out->moments);
    return launch_moments<T, V>(n, x, out->channels, moments, stream);
}

template <class T, int V> static int launch_all(const struct ldk_group_norm *n, ldk_stream stream)
{
    struct fold_args fold = {};
    fold.group_channels = (n->c0 + n->c1) / n->groups;
    fold.epsilon = n->epsilon;
    fold.gamma = n->gamma;
    fold.beta = n->beta;
    float *next = static_cast<float *>(n->workspace) + coefficient_floats(n);
    fold.coefficients = n->half == LDK_NORM_BOTH ? static_cast<float *>(n->workspace) : n->fold;
    if (n->half == LDK_NORM_APPLY)
        return launch_apply<T, V>(n, fold.coefficients, stream);
    for (int s = 0; s < 2; s++) {
        const int code = find_moments<T, V>(n, s, &next, &fold.source[s], stream);
        if (code != LDK_OK)
            return code;
    }
    const dim3 grid(static_cast<unsigned>(n->groups), static_cast<unsigned>(n->batch));
    const int code = LDK_LAUNCH(finalise_kernel, grid, dim3(FOLD_THREADS), 0, stream, fold);
    if (code != LDK_OK || n->half == LDK_NORM_MEASURE)
        return code;
    return launch_apply<T, V>(n, fold.coefficients, stream);
}

template <class T> static int launch_type(const struct ldk_group_norm *n, ldk_stream stream)
{
    if (n->c0 % 8 == 0 && n->c1 % 8 == 0)
        return launch_all<T, 8>(n, stream);
    return launch_all<T, 1>(n, stream);
}

extern "C" int ldk_group_norm(const struct ldk_group_norm *n, ldk_stream stream)
{
    if (!sane(n))
        return LDK_E_INVALID;
    return n->dtype == LDK_F16 ? launch_type<half>(n, stream) : launch_type<bf16>(n, stream);
}
