/*
 * Separable resampling of NHWC maps, all modes of enum ld_resize_mode (by number; kernels/cpu's
 * resize.c is the oracle and has the formulas). Two kernels:
 *   axes    one thread an output row or column: which source indices it reads, and their weights,
 *           into workspace. Coordinates are float32 without contraction, since their rounding
 * decides which source index is meant; weights come from fp64. blend   one thread an output pixel
 * and V channels: columns are summed first, then rows. bislerp one warp an output pixel: bends
 * vectors instead of averaging them; lengths and angles are taken over all channels in fp64.
 *
 * No shared memory. Registers (sm_90) at most 64. Bound: bytes; time: not measured.
 * Source   sampling.md 7.1.
 */
#include "kernels/cuda/vector.cuh"

enum mode {
    MODE_NEAREST,
    MODE_NEAREST_EXACT,
    MODE_BILINEAR,
    MODE_BICUBIC,
    MODE_AREA,
    MODE_BISLERP,
    MODE_BILINEAR_ANTIALIAS,
    MODE_BICUBIC_ANTIALIAS
};

enum {
    THREADS = 256,
    TAPS_MAX = 128,
    RATIO_MAX = 31 /* largest in / out: 4 * 31 + 2 taps of the widest kernel fit TAPS_MAX */
};

/* Reads index clamp(first + t, 0, n - 1) with weight[t]; bislerp: weight[1] is the ratio between
 * `first` and `second`. */
struct axis {
    int32_t first, count, second;
    float weight[TAPS_MAX];
};

struct resize_args {
    const void *x;
    void *y;
    int in_h, in_w, out_h, out_w, channels, mode;
    struct axis *axes; /* [out_h + out_w] */
};

/* ---- Axes --------------------------------------------------------------------------------------- */

static __device__ __forceinline__ int clamp_index(int i, int n)
{
    return min(max(i, 0), n - 1);
}

/* Keys' cubic convolution kernel with parameter a. */
static __device__ double keys(double x, double a)
{
    x = fabs(x);
    if (x < 1.0)
        return ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0;
    if (x < 2.0)
        return (((x - 5.0) * x + 8.0) * x - 4.0) * a;
    return 0.0;
}

/* (i + 1/2) scale, rounded after each step. */
static __device__ __forceinline__ float centre_of(int i, float scale)
{
    return __fmul_rn(__fadd_rn(static_cast<float>(i), 0.5f), scale);
}

static __device__ void axis_point(struct axis *axis, float source, int n)
{
    axis->first = clamp_index(static_cast<int>(floorf(source)), n);
    axis->count = 1;
    axis->weight[0] = 1.0f;
}

static __device__ void axis_bilinear(struct axis *axis, int i, float scale, int n)
{
    const float s = fmaxf(__fsub_rn(centre_of(i, scale), 0.5f), 0.0f);
    const int first = clamp_index(static_cast<int>(s), n);
    const float share = s - static_cast<float>(first);
    axis->first = first;
    axis->count = 2;
    axis->weight[0] = 1.0f - share;
    axis->weight[1] = share;
    /* Bislerp reads its second index off an interpolated list 1, 2, .., n-1, n-1, as the reference
     * does: in float32 that can fall short of first + 1. */
    const int next = clamp_index(first + 1, n);
    const float a = static_cast<float>(ld_idx_min(first + 1, n - 1));
    const float b = static_cast<float>(ld_idx_min(next + 1, n - 1));
    const float second = __fadd_rn(__fmul_rn(1.0f - share, a), __fmul_rn(share, b));
    axis->second = clamp_index(static_cast<int>(second), n);
}

static __device__ void axis_bicubic(struct axis *axis, int i, float scale)
{
    const float s = __fsub_rn(centre_of(i, scale), 0.5f);
    const float base = floorf(s);
    axis->first = static_cast<int>(base) - 1;
    axis->count = 4;
    for (int k = 0; k < 4; k++)
        axis->weight[k] = static_cast<float>(
            keys(static_cast<double>(s - base) + 1.0 - static_cast<double>(k), -0.75));
}

static __device__ void axis_area(struct axis *axis, int i, int n, int m)
{
    const int64_t begin = static_cast<int64_t>(i) * n / m;
    const int64_t end = (static_cast<int64_t>(i + 1) * n + m - 1) / m;
    axis->first = static_cast<int>(begin);
    axis->count = static_cast<int>(end - begin);
    for (int k = 0; k < axis->count; k++)
        axis->weight[k] = 1.0f / static_cast<float>(axis->count);
}

/* Weight of a source at distance x, in units of the stretched kernel. */
static __device__ double antialias_weight(double x, bool cubic)
{
    if (cubic)
        return keys(x, -0.5);
    return fmax(1.0 - fabs(x), 0.0);
}

static __device__ void axis_antialias(struct axis *axis, int i, float scale, int n, bool cubic)
{
    const float stretch = fmaxf(scale, 1.0f);
    const float support = (cubic ? 2.0f : 1.0f) * stretch;
    const float centre = centre_of(i, scale);
    const int begin = max(static_cast<int>(__fadd_rn(__fsub_rn(centre, support), 0.5f)), 0);
    const int end = min(static_cast<int>(__fadd_rn(__fadd_rn(centre, support), 0.5f)), n);
    axis->first = begin;
    axis->count = ld_idx_min(end - begin, TAPS_MAX);
    double total = 0.0;
    for (int pass = 0; pass < 2; pass++) /* twice, so that no array of doubles is needed */
        for (int k = 0; k < axis->count; k++) {
            const double x = (static_cast<double>(begin + k) - static_cast<double>(centre) + 0.5) /
                             static_cast<double>(stretch);
            const double weight = antialias_weight(x, cubic);
            if (pass == 0)
                total += weight;
            else
                axis->weight[k] = static_cast<float>(total != 0.0 ? weight / total : weight);
        }
}

static __global__ void __launch_bounds__(THREADS) axes_kernel(const struct resize_args a)
{
    const int item = static_cast<int>(blockIdx.x) * THREADS + static_cast<int>(threadIdx.x);
    if (item >= a.out_h + a.out_w)
        return;
    const bool is_row = item < a.out_h;
    const int i = is_row ? item : item - a.out_h;
    const int n = is_row ? a.in_h : a.in_w;
    const int m = is_row ? a.out_h : a.out_w;
    const float scale = static_cast<float>(n) / static_cast<float>(m);
    struct axis *axis = a.axes + item;
    switch (a.mode) {
    case MODE_NEAREST:
        axis_point(axis, __fmul_rn(static_cast<float>(i), scale), n);
        break;
    case MODE_NEAREST_EXACT:
        axis_point(axis, centre_of(i, scale), n);
        break;
    case MODE_BICUBIC:
        axis_bicubic(axis, i, scale);
        break;
    case MODE_AREA:
        axis_area(axis, i, n, m);
        break;
    case MODE_BILINEAR_ANTIALIAS:
    case MODE_BICUBIC_ANTIALIAS:
        axis_antialias(axis, i, scale, n, a.mode == MODE_BICUBIC_ANTIALIAS);
        break;
    default: /* bilinear and bislerp */
        axis_bilinear(axis, i, scale, n);
        break;
    }
}

/* ---- Blend -------------------------------------------------------------------------------------- */

template <class T>
static __device__ __forceinline__ const T *pixel(const struct resize_args &a, int64_t b, int y,
                                                 int x)
{
    const int64_t row = b * a.in_h + clamp_index(y, a.in_h);
    return static_cast<const T *>(a.x) + (row * a.in_w + clamp_index(x, a.in_w)) * a.channels;
}

template <class T, int V>
static __global__ void __launch_bounds__(THREADS) blend_kernel(const struct resize_args a)
{
    const int64_t item = static_cast<int64_t>(blockIdx.x) * THREADS + threadIdx.x;
    const int vectors = a.channels / V;
    const int64_t pixels = static_cast<int64_t>(a.out_h) * a.out_w;
    const int64_t b = blockIdx.y;
    if (item >= pixels * vectors)
        return;
    const int64_t at = item / vectors;
    const int c = static_cast<int>(item - at * vectors) * V;
    const struct axis *rows = a.axes + at / a.out_w;
    const struct axis *columns = a.axes + a.out_h + at % a.out_w;
    floats<V> sum = {};
    for (int r = 0; r < rows->count; r++) {
        floats<V> line = {};
        for (int t = 0; t < columns->count; t++) {
            floats<V> v;
            load_vector(v, pixel<T>(a, b, rows->first + r, columns->first + t) + c);
            LDK_UNROLL
            for (int i = 0; i < V; i++)
                line[i] += columns->weight[t] * v[i];
        }
        LDK_UNROLL
        for (int i = 0; i < V; i++)
            sum[i] += rows->weight[r] * line[i];
    }
    store_vector(static_cast<T *>(a.y) + (b * pixels + at) * a.channels + c, sum);
}

/* ---- Bislerp ------------------------------------------------------------------------------------ */

struct bend {
    float p, q; /* the bent vector is p * first + q * second */
};

/* sin x for x in [0, pi], by its series on [0, pi/2]: the term left out is below 4e-14. (The
 * library's function reserves local memory for arguments that do not occur.) */
static __device__ double sine_of(double x)
{
    const double y = fmin(x, 3.14159265358979323846 - x);
    const double q = y * y;
    double sum = 0.0;
    for (int n = 16; n >= 2; n -= 2)
        sum = (1.0 + sum) * -q / static_cast<double>(n * (n + 1));
    return y * (1.0 + sum);
}

/* Of two vectors with squared lengths pp, qq and product pq, `ratio` of the way from one to the
 * other. */
static __device__ struct bend bend_between(double pp, double qq, double pq, float ratio)
{
    const double np = sqrt(pp);
    const double nq = sqrt(qq);
    const double inverse_p = np > 0.0 ? 1.0 / np : 0.0;
    const double inverse_q = nq > 0.0 ? 1.0 / nq : 0.0;
    const double cosine = pq * inverse_p * inverse_q;
    const double r = static_cast<double>(ratio);
    double p = 1.0 - r;
    double q = r;
    if (cosine > 1.0 - 1e-5) {
        p = 1.0;
        q = 0.0;
    } else if (cosine >= 1e-5 - 1.0) {
        const double angle = acos(cosine);
        const double length = (np * (1.0 - r) + nq * r) / sine_of(angle);
        p = sine_of((1.0 - r) * angle) * length * inverse_p;
        q = sine_of(r * angle) * length * inverse_q;
    }
    struct bend out;
    out.p = static_cast<float>(p);
    out.q = static_cast<float>(q);
    return out;
}

/* Sums over the channels that one warp has gone through. */
struct products {
    double pp, qq, pq;
};

static __device__ __forceinline__ void add_products(struct products &s, float p, float q)
{
    s.pp += static_cast<double>(p) * static_cast<double>(p);
    s.qq += static_cast<double>(q) * static_cast<double>(q);
    s.pq += static_cast<double>(p) * static_cast<double>(q);
}

static __device__ __forceinline__ struct bend bend_warp(const struct products &s, float ratio)
{
    return bend_between(warp_sum(s.pp), warp_sum(s.qq), warp_sum(s.pq), ratio);
}

static __device__ __forceinline__ float bent(struct bend w, float p, float q)
{
    return w.p * p + w.q * q;
}

template <class T>
static __global__ void __launch_bounds__(THREADS) bislerp_kernel(const struct resize_args a)
{
    const int tid = static_cast<int>(threadIdx.x);
    const int lane = tid % 32;
    const int64_t at = static_cast<int64_t>(blockIdx.x) * (THREADS / 32) + tid / 32;
    const int64_t pixels = static_cast<int64_t>(a.out_h) * a.out_w;
    const int64_t b = blockIdx.y;
    if (at >= pixels) /* a whole warp */
        return;
    const struct axis *row = a.axes + at / a.out_w;
    const struct axis *column = a.axes + a.out_h + at % a.out_w;
    const T *top_p = pixel<T>(a, b, row->first, column->first);
    const T *top_q = pixel<T>(a, b, row->first, column->second);
    const T *low_p = pixel<T>(a, b, row->second, column->first);
    const T *low_q = pixel<T>(a, b, row->second, column->second);
    struct products top = {};
    struct products low = {};
    for (int c = lane; c < a.channels; c += 32) {
        add_products(top, ldk_to_f32(top_p[c]), ldk_to_f32(top_q[c]));
        add_products(low, ldk_to_f32(low_p[c]), ldk_to_f32(low_q[c]));
    }
    const struct bend across_top = bend_warp(top, column->weight[1]);
    const struct bend across_low = bend_warp(low, column->weight[1]);
    struct products down = {};
    for (int c = lane; c < a.channels; c += 32)
        add_products(down, bent(across_top, ldk_to_f32(top_p[c]), ldk_to_f32(top_q[c])),
                     bent(across_low, ldk_to_f32(low_p[c]), ldk_to_f32(low_q[c])));
    const struct bend along = bend_warp(down, row->weight[1]);
    T *y = static_cast<T *>(a.y) + (b * pixels + at) * a.channels;
    for (int c = lane; c < a.channels; c += 32) {
        const float p = bent(across_top, ldk_to_f32(top_p[c]), ldk_to_f32(top_q[c]));
        const float q = bent(across_low, ldk_to_f32(low_p[c]), ldk_to_f32(low_q[c]));
        y[c] = ldk_from_f32<T>(bent(along, p, q));
    }
}

/* ---- Plan and launch ---------------------------------------------------------------------------- */

extern "C" size_t ldk_resize_workspace(int32_t batch, int32_t in_h, int32_t in_w, int32_t channels,
                                       int32_t out_h, int32_t out_w, int32_t mode)
{
    (void)batch, (void)in_h, (void)in_w, (void)channels, (void)mode;
    return (static_cast<size_t>(out_h) + static_cast<size_t>(out_w)) * sizeof(struct axis);
}

static unsigned blocks_of(int64_t items, int per_block)
{
    return static_cast<unsigned>((items + per_block - 1) / per_block);
}

template <class T> static int launch_type(const struct resize_args *a, int batch, ldk_stream stream)
{
    const dim3 block(THREADS);
    const int64_t pixels = static_cast<int64_t>(a->out_h) * a->out_w;
    const unsigned images = static_cast<unsigned>(batch);
    const int code = LDK_LAUNCH(axes_kernel, dim3(blocks_of(a->out_h + a->out_w, THREADS)), block,
                                0, stream, *a);
    if (code != LDK_OK)
        return code;
    if (a->mode == MODE_BISLERP)
        return LDK_LAUNCH((bislerp_kernel<T>), dim3(blocks_of(pixels, THREADS / 32), images), block,
                          0, stream, *a);
    const uintptr_t bases = reinterpret_cast<uintptr_t>(a->x) | reinterpret_cast<uintptr_t>(a->y);
    if (a->channels % 8 == 0 && bases % 16 == 0)
        return LDK_LAUNCH((blend_kernel<T, 8>),
                          dim3(blocks_of(pixels * (a->channels / 8), THREADS), images), block, 0,
                          stream, *a);
    return LDK_LAUNCH((blend_kernel<T, 1>), dim3(blocks_of(pixels * a->channels, THREADS), images),
                      block, 0, stream, *a);
}

extern "C" int ldk_resize(const void *x, int32_t batch, int32_t in_h, int32_t in_w,
                          int32_t channels, int32_t out_h, int32_t out_w, int32_t mode, void *y,
                          void *workspace, enum ldk_dtype dtype, ldk_stream stream)
{
    if (x == nullptr || y == nullptr || x == y || workspace == nullptr || batch < 1 ||
        batch > 65535 || in_h < 1 || in_w < 1 || channels < 1 || out_h < 1 || out_w < 1 ||
        out_h > INT32_MAX / 2 || out_w > INT32_MAX / 2 || mode < MODE_NEAREST ||
        mode > MODE_BICUBIC_ANTIALIAS || (dtype != LDK_F16 && dtype != LDK_BF16))
        return LDK_E_INVALID;
    if (in_h / out_h >= RATIO_MAX || in_w / out_w >= RATIO_MAX)
        return LDK_E_UNSUPPORTED;
    struct resize_args a = {};
    a.x = x;
    a.y = y;
    a.in_h = in_h;
    a.in_w = in_w;
    a.out_h = out_h;
    a.out_w = out_w;
    a.channels = channels;
    a.mode = mode;
    a.axes = static_cast<struct axis *>(workspace);
    if (dtype == LDK_F16)
        return launch_type<half>(&a, batch, stream);
    return launch_type<bf16>(&a, batch, stream);
}
