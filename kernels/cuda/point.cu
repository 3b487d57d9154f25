/*
 * The small operators: timestep features, token embedding, elementwise maps, a map added to
 * another, and the turn between float32 planes [B, C, H, W] and activations [B, H, W, C].
 *
 * Each is one pass over its data without shared memory; the timestep features use fp64 because an
 * angle of 1000 radians leaves float32 no digits, and there are a few hundred of them a step.
 * Registers (sm_90) at most 40. Bound: bytes or launch; time: not measured.
 */
#include "kernels/cuda/vector.cuh"

enum { THREADS = 256 };

static unsigned blocks_of(int64_t items)
{
    return static_cast<unsigned>((items + THREADS - 1) / THREADS);
}

/* This thread's item in a one-dimensional grid. */
static __device__ __forceinline__ int64_t item_index()
{
    return static_cast<int64_t>(blockIdx.x) * THREADS + threadIdx.x;
}

static bool is_half_type(enum ldk_dtype dtype)
{
    return dtype == LDK_F16 || dtype == LDK_BF16;
}

/* ---- Timestep features -------------------------------------------------------------------------- */

template <class T>
static __global__ void __launch_bounds__(THREADS)
    timestep_kernel(const float *t, int batch, int dim, T *y)
{
    const int64_t item = item_index();
    const int half_dim = dim / 2;
    if (item >= static_cast<int64_t>(batch) * half_dim)
        return;
    const int b = static_cast<int>(item / half_dim);
    const int i = static_cast<int>(item % half_dim);
    const double log_period = 9.210340371976182736; /* ln(10000), the largest period */
    const double turns = static_cast<double>(t[b]) *
                         exp(-log_period * static_cast<double>(i) / static_cast<double>(half_dim)) *
                         0.15915494309189533577; /* 1 / (2 pi) */
    /* Less than one turn, so that sine and cosine take their short path. */
    const float angle = static_cast<float>((turns - floor(turns)) * 2.0);
    float sine;
    float cosine;
    sincospif(angle, &sine, &cosine);
    y[static_cast<int64_t>(b) * dim + i] = ldk_from_f32<T>(cosine);
    y[static_cast<int64_t>(b) * dim + half_dim + i] = ldk_from_f32<T>(sine);
}

extern "C" int ldk_timestep(const float *t, int32_t batch, int32_t dim, void *y,
                            enum ldk_dtype dtype, ldk_stream stream)
{
    if (t == nullptr || y == nullptr || batch < 1 || dim < 2 || dim % 2 != 0)
        return LDK_E_INVALID;
    const dim3 grid(blocks_of(static_cast<int64_t>(batch) * (dim / 2)));
    const dim3 block(THREADS);
    if (dtype == LDK_F32)
        return LDK_LAUNCH((timestep_kernel<float>), grid, block, 0, stream, t, batch, dim,
                          static_cast<float *>(y));
    if (dtype == LDK_F16)
        return LDK_LAUNCH((timestep_kernel<half>), grid, block, 0, stream, t, batch, dim,
                          static_cast<half *>(y));
    return LDK_LAUNCH((timestep_kernel<bf16>), grid, block, 0, stream, t, batch, dim,
                      static_cast<bf16 *>(y));
}

/* ---- Embedding ---------------------------------------------------------------------------------- */

struct embed_args {
    const int32_t *ids, *override_index;
    const float *overrides;
    const void *table, *positions;
    void *y;
    int rows, tokens, channels, table_rows;
};

template <class T>
static __global__ void __launch_bounds__(THREADS) embed_kernel(const embed_args a)
{
    const int64_t item = item_index();
    if (item >= static_cast<int64_t>(a.rows) * a.channels)
        return;
    const int row = static_cast<int>(item / a.channels);
    const int c = static_cast<int>(item % a.channels);
    const int instead = a.override_index != nullptr ? a.override_index[row] : -1;
    float v;
    if (instead >= 0) {
        v = a.overrides[static_cast<int64_t>(instead) * a.channels + c];
    } else {
        const int id = min(max(a.ids[row], 0), a.table_rows - 1); /* the host has checked it */
        v = ldk_to_f32(static_cast<const T *>(a.table)[static_cast<int64_t>(id) * a.channels + c]);
    }
    const int64_t place = static_cast<int64_t>(row % a.tokens) * a.channels + c;
    v += ldk_to_f32(static_cast<const T *>(a.positions)[place]);
    static_cast<T *>(a.y)[item] = ldk_from_f32<T>(v);
}

extern "C" int ldk_embed(const int32_t *ids, const int32_t *override_index, const float *overrides,
                         int32_t rows, int32_t tokens, int32_t channels, int32_t table_rows,
                         const void *table, const void *positions, void *y, enum ldk_dtype dtype,
                         ldk_stream stream)
{
    if (ids == nullptr || table == nullptr || positions == nullptr || y == nullptr || rows < 1 ||
        tokens < 1 || channels < 1 || table_rows < 1 || !is_half_type(dtype) ||
        (override_index != nullptr && overrides == nullptr))
        return LDK_E_INVALID;
    struct embed_args a = {};
    a.ids = ids;
    a.override_index = override_index;
    a.overrides = overrides;
    a.table = table;
    a.positions = positions;
    a.y = y;
    a.rows = rows;
    a.tokens = tokens;
    a.channels = channels;
    a.table_rows = table_rows;
    const dim3 grid(blocks_of(static_cast<int64_t>(rows) * channels));
    if (dtype == LDK_F16)
        return LDK_LAUNCH((embed_kernel<half>), grid, dim3(THREADS), 0, stream, a);
    return LDK_LAUNCH((embed_kernel<bf16>), grid, dim3(THREADS), 0, stream, a);
}

/* ---- Maps --------------------------------------------------------------------------------------- */

template <class T, int V>
static __global__ void __launch_bounds__(THREADS)
    map_kernel(const T *x, int64_t count, int activation, T *y)
{
    const int64_t first = item_index() * V;
    if (first >= count)
        return;
    floats<V> v;
    load_vector(v, x + first);
    LDK_UNROLL
    for (int i = 0; i < V; i++) {
        if (activation == LDK_ACT_SILU)
            v[i] = silu(v[i]);
        else if (activation == LDK_ACT_QUICK_GELU)
            v[i] = quick_gelu(v[i]);
        else if (activation == LDK_ACT_RELU)
            v[i] = fmaxf(v[i], 0.0f);
    }
    store_vector(y + first, v);
}

template <class T, int V>
static int launch_map(const void *x, int64_t count, int activation, void *y, ldk_stream stream)
{
    return LDK_LAUNCH((map_kernel<T, V>), dim3(blocks_of(count / V)), dim3(THREADS), 0, stream,
                      static_cast<const T *>(x), count, activation, static_cast<T *>(y));
}

extern "C" int ldk_map(const void *x, int64_t count, enum ldk_activation activation, void *y,
                       enum ldk_dtype dtype, ldk_stream stream)
{
    if (x == nullptr || y == nullptr || count < 1 || activation == LDK_ACT_GEGLU)
        return LDK_E_INVALID;
    if (dtype == LDK_F32)
        return launch_map<float, 1>(x, count, activation, y, stream);
    const uintptr_t bases = reinterpret_cast<uintptr_t>(x) | reinterpret_cast<uintptr_t>(y);
    const bool wide = bases % 16 == 0 && count % 8 == 0;
    if (dtype == LDK_F16)
        return wide ? launch_map<half, 8>(x, count, activation, y, stream)
                    : launch_map<half, 1>(x, count, activation, y, stream);
    return wide ? launch_map<bf16, 8>(x, count, activation, y, stream)
                : launch_map<bf16, 1>(x, count, activation, y, stream);
}

/* ---- A map times a number on another ------------------------------------------------------------ */

/* A block has one image, so that all its threads take the same way. A scale of 0 asks for x itself:
 * its bits are passed on as they are, and z is not read. Product and sum are rounded each, as on
 * every other backend. */
template <class T, int V>
static __global__ void __launch_bounds__(THREADS)
    add_scaled_kernel(const T *x, const T *z, const float *scale, int64_t count, T *y)
{
    using raw = typename raw_vector<T, V>::type;
    const int64_t within = item_index() * V;
    if (within >= count)
        return;
    const float factor = scale[blockIdx.y];
    const int64_t first = static_cast<int64_t>(blockIdx.y) * count + within;
    const raw own = ldk_ld<raw>(x + first);
    if (factor == 0.0f) {
        ldk_st(y + first, own);
        return;
    }
    floats<V> v;
    floats<V> added;
    unpack_vector<T>(v, own);
    load_vector(added, z + first);
    LDK_UNROLL
    for (int i = 0; i < V; i++)
        v[i] = __fadd_rn(v[i], __fmul_rn(factor, added[i]));
    store_vector(y + first, v);
}

template <class T, int V>
static int launch_add_scaled(const void *x, const void *z, const float *scale, int batch,
                             int64_t count, void *y, ldk_stream stream)
{
    const dim3 grid(blocks_of(count / V), static_cast<unsigned>(batch));
    return LDK_LAUNCH((add_scaled_kernel<T, V>), grid, dim3(THREADS), 0, stream,
                      static_cast<const T *>(x), static_cast<const T *>(z), scale, count,
                      static_cast<T *>(y));
}

extern "C" int ldk_add_scaled(const void *x, const void *z, const float *scale, int32_t batch,
                              int64_t count, void *y, enum ldk_dtype dtype, ldk_stream stream)
{
    if (x == nullptr || z == nullptr || scale == nullptr || y == nullptr || batch < 1 ||
        batch > 65535 || count < 1 || !is_half_type(dtype))
        return LDK_E_INVALID;
    const uintptr_t bases = reinterpret_cast<uintptr_t>(x) | reinterpret_cast<uintptr_t>(z) |
                            reinterpret_cast<uintptr_t>(y);
    const bool wide = bases % 16 == 0 && count % 8 == 0;
    if (dtype == LDK_F16)
        return wide ? launch_add_scaled<half, 8>(x, z, scale, batch, count, y, stream)
                    : launch_add_scaled<half, 1>(x, z, scale, batch, count, y, stream);
    return wide ? launch_add_scaled<bf16, 8>(x, z, scale, batch, count, y, stream)
                : launch_add_scaled<bf16, 1>(x, z, scale, batch, count, y, stream);
}

/* ---- Planes ------------------------------------------------------------------------------------- */

/* One thread a position: neighbours read neighbouring floats of each plane. V channels at a time.
 */
template <class T, int V>
static __global__ void __launch_bounds__(THREADS)
    planes_in_kernel(const float *planes, const float *scale, int channels, int positions, T *y)
{
    const int64_t p = item_index();
    const int64_t b = blockIdx.y;
    if (p >= positions)
        return;
    const float factor = scale != nullptr ? scale[b] : 1.0f;
    const float *from = planes + b * channels * positions + p;
    T *to = y + (b * positions + p) * channels;
    for (int c = 0; c < channels; c += V) {
        floats<V> v;
        LDK_UNROLL
        for (int i = 0; i < V; i++)
            v[i] = from[static_cast<int64_t>(c + i) * positions] * factor;
        store_vector(to + c, v);
    }
}

template <class T, int V>
static __global__ void __launch_bounds__(THREADS)
    planes_out_kernel(const T *x, int channels, int positions, float *planes)
{
    const int64_t p = item_index();
    const int64_t b = blockIdx.y;
    if (p >= positions)
        return;
    const T *from = x + (b * positions + p) * channels;
    float *to = planes + b * channels * positions + p;
    for (int c = 0; c < channels; c += V) {
        floats<V> v;
        load_vector(v, from + c);
        LDK_UNROLL
        for (int i = 0; i < V; i++)
            to[static_cast<int64_t>(c + i) * positions] = v[i];
    }
}

static bool planes_sane(const void *from, const void *to, int batch, int channels, int height,
                        int width, enum ldk_dtype dtype)
{
    return from != nullptr && to != nullptr && batch >= 1 && batch <= 65535 && channels >= 1 &&
           height >= 1 && width >= 1 && static_cast<int64_t>(height) * width <= INT32_MAX &&
           is_half_type(dtype);
}

template <class T, int V>
static int launch_planes_in(const float *planes, const float *scale, int batch, int channels,
                            int positions, void *y, ldk_stream stream)
{
    const dim3 grid(blocks_of(positions), static_cast<unsigned>(batch));
    return LDK_LAUNCH((planes_in_kernel<T, V>), grid, dim3(THREADS), 0, stream, planes, scale,
                      channels, positions, static_cast<T *>(y));
}

template <class T, int V>
static int launch_planes_out(const void *x, int batch, int channels, int positions, float *planes,
                             ldk_stream stream)
{
    const dim3 grid(blocks_of(positions), static_cast<unsigned>(batch));
    return LDK_LAUNCH((planes_out_kernel<T, V>), grid, dim3(THREADS), 0, stream,
                      static_cast<const T *>(x), channels, positions, planes);
}

extern "C" int ldk_planes_in(const float *planes, const float *scale, int32_t batch,
                             int32_t channels, int32_t height, int32_t width, void *y,
                             enum ldk_dtype dtype, ldk_stream stream)
{
    if (!planes_sane(planes, y, batch, channels, height, width, dtype))
        return LDK_E_INVALID;
    const int positions = height * width;
    const bool wide = channels % 4 == 0 && reinterpret_cast<uintptr_t>(y) % 8 == 0;
    if (dtype == LDK_F16)
        return wide
                   ? launch_planes_in<half, 4>(planes, scale, batch, channels, positions, y, stream)
                   : launch_planes_in<half, 1>(planes, scale, batch, channels, positions, y,
                                               stream);
    return wide ? launch_planes_in<bf16, 4>(planes, scale, batch, channels, positions, y, stream)
                : launch_planes_in<bf16, 1>(planes, scale, batch, channels, positions, y, stream);
}

extern "C" int ldk_planes_out(const void *x, int32_t batch, int32_t channels, int32_t height,
                              int32_t width, float *planes, enum ldk_dtype dtype, ldk_stream stream)
{
    if (!planes_sane(x, planes, batch, channels, height, width, dtype))
        return LDK_E_INVALID;
    const int positions = height * width;
    const bool wide = channels % 4 == 0 && reinterpret_cast<uintptr_t>(x) % 8 == 0;
    if (dtype == LDK_F16)
        return wide ? launch_planes_out<half, 4>(x, batch, channels, positions, planes, stream)
                    : launch_planes_out<half, 1>(x, batch, channels, positions, planes, stream);
    return wide ? launch_planes_out<bf16, 4>(x, batch, channels, positions, planes, stream)
                : launch_planes_out<bf16, 1>(x, batch, channels, positions, planes, stream);
}
