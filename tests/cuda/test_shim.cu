/*
 * The words of launch.h mean the same on host and chip: each is used here in a correct kernel whose
 * result is known. What the host build says about wrong kernels is in test_planted.cu.
 */
#include "kernels/cuda/launch.h"
#include "tests/cuda/hostcuda.h"

#include <string.h>

static const unsigned ALL = 0xffffffffu;

/* ---- Warp operations ------------------------------------------------------------------------- */

enum { WARP_RESULTS = 14 };

static __global__ void warp_words(int *out)
{
    const int lane = static_cast<int>(threadIdx.x) % 32;
    int *mine = out + (static_cast<int>(blockIdx.x) * static_cast<int>(blockDim.x) +
                       static_cast<int>(threadIdx.x)) *
                          WARP_RESULTS;
    const int v = 100 + lane;
    mine[0] = __shfl_sync(ALL, v, 5);
    mine[1] = __shfl_xor_sync(ALL, v, 3);
    mine[2] = __shfl_up_sync(ALL, v, 2);
    mine[3] = __shfl_down_sync(ALL, v, 4);
    mine[4] = __shfl_xor_sync(ALL, v, 1, 4);
    mine[5] = __shfl_down_sync(ALL, v, 3, 8);
    mine[6] = static_cast<int>(__ballot_sync(ALL, lane % 3 == 0));
    mine[7] = __any_sync(ALL, lane == 31);
    mine[8] = __all_sync(ALL, lane < 31);
    mine[9] = __reduce_add_sync(ALL, v);
    mine[10] = __reduce_min_sync(ALL, -v);
    mine[11] = static_cast<int>(__reduce_max_sync(ALL, static_cast<unsigned>(v)));
    mine[12] = static_cast<int>(__shfl_sync(ALL, static_cast<double>(v) * 0.5, 7) * 2.0);
    if (lane < 16) /* half a warp on its own */
        mine[13] = __shfl_xor_sync(0xffffu, v, 8);
    else
        mine[13] = __shfl_xor_sync(0xffff0000u, v, 2);
    __syncwarp();
}

struct words {
    void *out;
    const void *in;
    int variant;
};

static int run_warp_words(void *context)
{
    const words *w = static_cast<words *>(context);
    return LDK_LAUNCH(warp_words, dim3(2), dim3(64), 0, nullptr, static_cast<int *>(w->out));
}

static void test_warp()
{
    static int out[2 * 64 * WARP_RESULTS];
    words w = {hc_device(sizeof out), nullptr, 0};
    hc_case("warp operations");
    if (hc_run(run_warp_words, &w, w.out, sizeof out)) {
        hc_download(out, w.out, sizeof out);
        int wrong = 0;
        for (int i = 0; i < 128; i++) {
            const int l = i % 32, v = 100 + l;
            const int want[WARP_RESULTS] = {105,
                                            100 + (l ^ 3),
                                            l < 2 ? v : v - 2,
                                            l > 27 ? v : v + 4,
                                            100 + (l ^ 1),
                                            l % 8 > 4 ? v : v + 3,
                                            0x49249249,
                                            1,
                                            0,
                                            32 * 100 + 496,
                                            -131,
                                            131,
                                            107,
                                            100 + (l < 16 ? l ^ 8 : l ^ 2)};
            for (int j = 0; j < WARP_RESULTS; j++)
                wrong += out[i * WARP_RESULTS + j] != want[j];
        }
        hc_expect(wrong == 0, "%d results are wrong", wrong);
    }
    hc_free_all();
}

/* ---- Shared memory, barriers, atomics -------------------------------------------------------- */

/* Sum of a row by a block; the last block to finish adds the rows up. */
static __global__ void __launch_bounds__(128)
    row_sums(const int *in, int columns, int *out, unsigned *done)
{
    LDK_SHARED(int, partial, [4]);
    LDK_SHARED(bool, last, );
    const int tid = static_cast<int>(threadIdx.x), row = static_cast<int>(blockIdx.x);
    const int rows = static_cast<int>(gridDim.x);
    int sum = 0;
    for (int c = tid; c < columns; c += 128)
        sum += in[row * columns + c];
    sum = __reduce_add_sync(ALL, sum);
    if (tid % 32 == 0)
        partial[tid / 32] = sum;
    __syncthreads();
    if (tid == 0) {
        out[row] = partial[0] + partial[1] + partial[2] + partial[3];
        __threadfence();
        last = atomicAdd(done, 1u) == gridDim.x - 1;
    }
    __syncthreads();
    if (last && tid == 0) {
        int total = 0;
        for (int r = 0; r < rows; r++)
            total += out[r];
        out[rows] = total;
    }
}

enum { SUM_ROWS = 7, SUM_COLUMNS = 301 };

static int run_row_sums(void *context)
{
    const words *w = static_cast<words *>(context);
    const unsigned zero = 0;
    unsigned *done = static_cast<unsigned *>(hc_upload(&zero, sizeof zero));
    return LDK_LAUNCH(row_sums, dim3(SUM_ROWS), dim3(128), 0, nullptr,
                      static_cast<const int *>(w->in), static_cast<int>(SUM_COLUMNS),
                      static_cast<int *>(w->out), done);
}

static void test_row_sums()
{
    static int32_t in[SUM_ROWS * SUM_COLUMNS], out[SUM_ROWS + 1];
    hc_integers(in, SUM_ROWS * SUM_COLUMNS, -1000, 1000, 3);
    words w = {hc_device(sizeof out), hc_upload(in, sizeof in), 0};
    hc_case("row sums");
    if (hc_run(run_row_sums, &w, w.out, sizeof out)) {
        hc_download(out, w.out, sizeof out);
        int total = 0;
        for (int r = 0; r < SUM_ROWS; r++) {
            int sum = 0;
            for (int c = 0; c < SUM_COLUMNS; c++)
                sum += in[r * SUM_COLUMNS + c];
            hc_expect(out[r] == sum, "row %d: %d, not %d", r, out[r], sum);
            total += sum;
        }
        hc_expect(out[SUM_ROWS] == total, "total: %d, not %d", out[SUM_ROWS], total);
        ldk_host_counters c;
        if (hc_counters(&c))
            hc_expect(c.blocks == SUM_ROWS && c.barriers == 2 * SUM_ROWS, "blocks and barriers");
    }
    hc_free_all();
}

/* Warp 0 produces, warp 1 consumes, through two named barriers: full (1) and empty (2). */
static __global__ void __launch_bounds__(64) hand_over(const int *in, int rounds, int *out)
{
    LDK_SHARED(int, slot, [32]);
    const int lane = static_cast<int>(threadIdx.x) % 32;
    if (threadIdx.x < 32) {
        for (int i = 0; i < rounds; i++) {
            if (i > 0)
                ldk_bar_sync(2, 64);
            slot[lane] = in[i * 32 + lane] + 1;
            ldk_bar_arrive(1, 64);
        }
    } else {
        for (int i = 0; i < rounds; i++) {
            ldk_bar_sync(1, 64);
            out[i * 32 + lane] = slot[31 - lane];
            if (i + 1 < rounds)
                ldk_bar_arrive(2, 64);
        }
    }
}

enum { ROUNDS = 5 };

static int run_hand_over(void *context)
{
    const words *w = static_cast<words *>(context);
    return LDK_LAUNCH(hand_over, dim3(1), dim3(64), 0, nullptr, static_cast<const int *>(w->in),
                      static_cast<int>(ROUNDS), static_cast<int *>(w->out));
}

static void test_hand_over()
{
    int32_t in[ROUNDS * 32], out[ROUNDS * 32];
    hc_integers(in, ROUNDS * 32, 0, 9999, 4);
    words w = {hc_device(sizeof out), hc_upload(in, sizeof in), 0};
    hc_case("named barriers");
    if (hc_run(run_hand_over, &w, w.out, sizeof out)) {
        hc_download(out, w.out, sizeof out);
        bool ok = true;
        for (int i = 0; i < ROUNDS * 32; i++)
            ok = ok && out[i] == in[i - i % 32 + 31 - i % 32] + 1;
        hc_expect(ok, "what was handed over");
    }
    hc_free_all();
}

/* ---- Copies ---------------------------------------------------------------------------------- */

/* Copies of every size with every count of source bytes, two groups in flight. */
static __global__ void __launch_bounds__(32) copies(const unsigned char *in, unsigned char *out)
{
    LDK_SHARED(uint4, stage, [2][3][32]);
    const int lane = static_cast<int>(threadIdx.x);
    for (int group = 0; group < 2; group++) {
        const unsigned char *from = in + group * 32 * 16 + lane * 16;
        ldk_cp_async<16>(&stage[group][0][lane], from, lane % 17);
        ldk_cp_async<8>(&stage[group][1][lane], from, lane % 9);
        ldk_cp_async<4>(&stage[group][2][lane], from, lane % 5);
        ldk_cp_async_commit();
    }
    for (int group = 0; group < 2; group++) {
        if (group == 0)
            ldk_cp_async_wait<1>();
        else
            ldk_cp_async_wait<0>();
        const unsigned char *bytes[3];
        for (int i = 0; i < 3; i++)
            bytes[i] = reinterpret_cast<const unsigned char *>(&stage[group][i][lane]);
        unsigned char *to = out + (group * 32 + lane) * 28;
        for (int i = 0; i < 16; i++)
            to[i] = bytes[0][i];
        for (int i = 0; i < 8; i++)
            to[16 + i] = bytes[1][i];
        for (int i = 0; i < 4; i++)
            to[24 + i] = bytes[2][i];
    }
}

static int run_copies(void *context)
{
    const words *w = static_cast<words *>(context);
    return LDK_LAUNCH(copies, dim3(1), dim3(32), 0, nullptr,
                      static_cast<const unsigned char *>(w->in),
                      static_cast<unsigned char *>(w->out));
}

static void test_copies()
{
    static unsigned char in[2 * 32 * 16], out[2 * 32 * 28];
    for (size_t i = 0; i < sizeof in; i++)
        in[i] = static_cast<unsigned char>(i * 7 + 1);
    words w = {hc_device(sizeof out), hc_upload(in, sizeof in), 0};
    hc_case("asynchronous copies");
    if (hc_run(run_copies, &w, w.out, sizeof out)) {
        hc_download(out, w.out, sizeof out);
        int wrong = 0;
        uint64_t read = 0;
        for (int i = 0; i < 64; i++) {
            const int limits[3] = {i % 32 % 17, i % 32 % 9, i % 32 % 5}, sizes[3] = {16, 8, 4};
            int at = i * 28;
            for (int s = 0; s < 3; s++) {
                for (int b = 0; b < sizes[s]; b++)
                    wrong += out[at + b] != (b < limits[s] ? in[i * 16 + b] : 0);
                at += sizes[s];
                read += static_cast<uint64_t>(limits[s]);
            }
        }
        hc_expect(wrong == 0, "%d bytes are wrong", wrong);
        ldk_host_counters c;
        if (hc_counters(&c)) {
            hc_expect(c.cp_async == 192 && c.cp_async_bytes == read, "copies and their bytes");
            hc_expect(c.cp_async_zeros == 64 * 28 - read, "zero-filled bytes");
        }
    }
    hc_free_all();
}

/* ---- Matrices -------------------------------------------------------------------------------- */

enum { DEPTH = 40 }; /* two steps of 16, one of 8 */

/* d[16][8] = a[16][40] * b, b given as [8][40] (variant 0) or [40][8] (variant 1, by transposing
 * loads). Variant 2 accumulates the first 32 of K in half. One warp. */
template <class T, int VARIANT>
static __global__ void __launch_bounds__(32) matrices(const T *a, const T *b, float *d)
{
    /* Rows of 5 chunks of 16 bytes: an odd number, so no conflicts. */
    LDK_SHARED(uint4, a_rows, [16][5]);
    LDK_SHARED(uint4, b_rows, [VARIANT == 1 ? 40 : 8][VARIANT == 1 ? 1 : 5]);
    const int lane = static_cast<int>(threadIdx.x);
    for (int i = lane; i < 80; i += 32)
        ldk_cp_async<16>(&a_rows[i / 5][i % 5], a + i * 8);
    for (int i = lane; i < 40; i += 32)
        ldk_cp_async<16>(&b_rows[VARIANT == 1 ? i : i / 5][VARIANT == 1 ? 0 : i % 5], b + i * 8);
    ldk_cp_async_commit();
    ldk_cp_async_wait<0>();
    __syncwarp();
    float sum[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    uint32_t half_sum[2] = {0, 0};
    LDK_UNROLL
    for (int step = 0; step < 2; step++) {
        uint32_t fa[4], fb[2];
        ldk_ldmatrix_x4(fa, &a_rows[lane % 16][2 * step + lane / 16]);
        if (VARIANT == 1)
            ldk_ldmatrix_x2_trans(fb, &b_rows[16 * step + lane % 16][0]);
        else
            ldk_ldmatrix_x2(fb, &b_rows[lane % 8][2 * step + lane / 8 % 2]);
        if (VARIANT == 2)
            ldk_mma_16816_h(half_sum, fa, fb);
        else
            ldk_mma_16816<T>(sum, fa, fb);
    }
    if (VARIANT == 2) {
        for (int i = 0; i < 2; i++) {
            const float2 pair = ldk_unpack<half>(half_sum[i]);
            sum[2 * i] = pair.x;
            sum[2 * i + 1] = pair.y;
        }
    }
    uint32_t fa[2], fb[1];
    ldk_ldmatrix_x2(fa, &a_rows[lane % 16][4]);
    if (VARIANT == 1)
        ldk_ldmatrix_x1_trans(fb, &b_rows[32 + lane % 8][0]);
    else
        ldk_ldmatrix_x1(fb, &b_rows[lane % 8][4]);
    ldk_mma_1688(sum, fa, fb, static_cast<T *>(nullptr));
    float *row = d + lane / 4 * 8 + lane % 4 * 2;
    ldk_st(row, make_float2(sum[0], sum[1]));
    ldk_st(row + 64, make_float2(sum[2], sum[3]));
}

template <class T, int VARIANT> static int run_matrices(void *context)
{
    const words *w = static_cast<words *>(context);
    const T *a = static_cast<const T *>(w->in);
    return LDK_LAUNCH((matrices<T, VARIANT>), dim3(1), dim3(32), 0, nullptr, a, a + 16 * DEPTH,
                      static_cast<float *>(w->out));
}

template <class T, int VARIANT> static void test_matrices(const char *name)
{
    float in[24 * DEPTH], out[128];
    double want[128];
    hc_normal(in, 24 * DEPTH, 1.0f, 11 + VARIANT);
    words w = {hc_device(sizeof out), nullptr, VARIANT};
    w.in = hc_tensor(in, 24 * DEPTH, ldk_dtype_of<T>);
    for (int m = 0; m < 16; m++) {
        for (int n = 0; n < 8; n++) {
            double sum = 0.0;
            for (int k = 0; k < DEPTH; k++) {
                const float *b = in + 16 * DEPTH;
                sum += static_cast<double>(in[m * DEPTH + k]) *
                       static_cast<double>(VARIANT == 1 ? b[k * 8 + n] : b[n * DEPTH + k]);
            }
            want[m * 8 + n] = sum;
        }
    }
    hc_case("matrices %s", name);
    if (hc_run(run_matrices<T, VARIANT>, &w, w.out, sizeof out)) {
        hc_download(out, w.out, sizeof out);
        hc_close("d", out, want, 128, VARIANT == 2 ? 1e-3 : 1e-6);
        ldk_host_counters c;
        if (hc_counters(&c)) {
            hc_expect(c.mma_1688 == 1 && c.mma_16816 == (VARIANT == 2 ? 0 : 2) &&
                          c.mma_16816_h == (VARIANT == 2 ? 2 : 0),
                      "mma counts");
            hc_expect(c.ldmatrix == 6 && c.ldmatrix_conflicts == 0, "ldmatrix without conflicts");
        }
    }
    hc_free_all();
}

/* Rows of 64 bytes, read plainly or swizzled (chunk ^= row / 2 % 4). */
template <bool SWIZZLED> static __global__ void __launch_bounds__(32) rows_of_64(uint32_t *out)
{
    LDK_SHARED_DYN(uint32_t, words);
    const int lane = static_cast<int>(threadIdx.x);
    for (int i = lane; i < 16 * 16; i += 32) {
        const int row = i / 16, chunk = i / 4 % 4;
        words[row * 16 + (SWIZZLED ? chunk ^ (row / 2 % 4) : chunk) * 4 + i % 4] =
            static_cast<uint32_t>(i);
    }
    __syncwarp();
    uint32_t r[4];
    const int row = lane % 16, chunk = lane / 16;
    ldk_ldmatrix_x4(r, words + row * 16 + (SWIZZLED ? chunk ^ (row / 2 % 4) : chunk) * 4);
    ldk_st(out + lane * 4, make_uint4(r[0], r[1], r[2], r[3]));
}

template <bool SWIZZLED> static int run_rows(void *context)
{
    const words *w = static_cast<words *>(context);
    return LDK_LAUNCH((rows_of_64<SWIZZLED>), dim3(1), dim3(32), 1024, nullptr,
                      static_cast<uint32_t *>(w->out));
}

static void test_swizzle()
{
    uint32_t plain[128], swizzled[128];
    words w = {hc_device(sizeof plain), nullptr, 0};
    ldk_host_counters c;
    hc_case("rows of 64 bytes");
    if (hc_run(run_rows<false>, &w, w.out, sizeof plain)) {
        hc_download(plain, w.out, sizeof plain);
        if (hc_counters(&c))
            hc_expect(c.ldmatrix_conflicts == 4 * 3, "unswizzled rows: 3 more passes a matrix");
    }
    if (hc_run(run_rows<true>, &w, w.out, sizeof swizzled)) {
        hc_download(swizzled, w.out, sizeof swizzled);
        if (hc_counters(&c))
            hc_expect(c.ldmatrix_conflicts == 0, "swizzled rows: no conflict");
        hc_equal_bits("both", plain, swizzled, sizeof plain);
    }
    hc_free_all();
}

/* ---- Numbers --------------------------------------------------------------------------------- */

/* Every half to float and back; every float of a coarse grid to both types. */
static __global__ void numbers(float *wide, uint16_t *narrow, uint16_t *brain, int count)
{
    const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
    if (i >= count)
        return;
    half h;
    h.bits = static_cast<uint16_t>(i);
    wide[i] = ldk_to_f32(h);
    const float v = __uint_as_float(static_cast<unsigned>(i) * 65537u);
    narrow[i] = ldk_from_f32<half>(v).bits;
    brain[i] = static_cast<uint16_t>(ldk_pack<bf16>(0.0f, v) >> 16);
}

static int run_numbers(void *context)
{
    const words *w = static_cast<words *>(context);
    float *wide = static_cast<float *>(w->out);
    uint16_t *narrow = reinterpret_cast<uint16_t *>(wide + 65536);
    return LDK_LAUNCH(numbers, dim3(256), dim3(256), 0, nullptr, wide, narrow, narrow + 65536,
                      65536);
}

/* What a half is worth by its definition. */
static double half_value(unsigned bits)
{
    const int exponent = static_cast<int>(bits >> 10 & 31u),
              fraction = static_cast<int>(bits & 1023u);
    const double magnitude =
        exponent == 0 ? ldexp(fraction, -24) : ldexp(1024 + fraction, exponent - 25);
    return bits >> 15 ? -magnitude : magnitude;
}

static void test_numbers()
{
    struct {
        float wide[65536];
        uint16_t narrow[65536], brain[65536];
    } static out;
    words w = {hc_device(sizeof out), nullptr, 0};
    hc_case("numbers");
    if (hc_run(run_numbers, &w, w.out, sizeof out)) {
        hc_download(&out, w.out, sizeof out);
        int wide = 0, narrow = 0, brain = 0;
        for (unsigned i = 0; i < 65536; i++) {
            const bool special = (i >> 10 & 31u) == 31u;
            if (!special)
                wide += static_cast<double>(out.wide[i]) != half_value(i);
            else if ((i & 1023u) == 0)
                wide += !isinf(out.wide[i]) || (out.wide[i] < 0.0f) != (i >> 15 != 0);
            else
                wide += !isnan(out.wide[i]);
            uint32_t bits = i * 65537u;
            float v;
            memcpy(&v, &bits, sizeof v);
            if (isnan(v)) {
                narrow += (out.narrow[i] & 0x7fffu) <= 0x7c00u;
                brain += (out.brain[i] & 0x7fffu) <= 0x7f80u;
                continue;
            }
            /* Rounded to nearest: no neighbour is nearer. */
            const unsigned n = out.narrow[i];
            if ((n & 0x7fffu) == 0x7c00u) {
                narrow += fabs(static_cast<double>(v)) < 65520.0;
            } else {
                const double error = fabs(half_value(n) - static_cast<double>(v));
                const double above = fabs(half_value(n + 1) - static_cast<double>(v));
                const double below =
                    (n & 0x7fffu) ? fabs(half_value(n - 1) - static_cast<double>(v)) : above;
                const bool odd = n & 1u;
                narrow +=
                    error > above || error > below || (odd && (error == above || error == below));
                narrow += (n >> 15 != 0) != (bits >> 31 != 0);
            }
            const uint32_t low = bits & 0xffffu, top = bits >> 16;
            const uint32_t up = low > 0x8000u || (low == 0x8000u && (top & 1u));
            brain += out.brain[i] != ((top + up) & 0xffffu);
        }
        hc_expect(wide == 0, "%d halves are worth something else", wide);
        hc_expect(narrow == 0, "%d floats rounded wrongly to half", narrow);
        hc_expect(brain == 0, "%d floats rounded wrongly to bf16", brain);
    }
    hc_free_all();
}

/* ---- Launching ------------------------------------------------------------------------------- */

static __global__ void positions(int *out)
{
    LDK_SHARED_DYN(int, all);
    const int tid =
        static_cast<int>(threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z));
    const int block =
        static_cast<int>(blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z));
    const int threads = static_cast<int>(blockDim.x * blockDim.y * blockDim.z);
    all[tid] = tid;
    __syncthreads();
    out[block * threads + tid] = all[threads - 1 - tid] + 1000 * block;
}

static int run_positions(void *context)
{
    const words *w = static_cast<words *>(context);
    return LDK_LAUNCH(positions, dim3(2, 3, 2), dim3(4, 4, 4), 60 * 1024, nullptr,
                      static_cast<int *>(w->out));
}

static void test_launch()
{
    int out[12 * 64];
    words w = {hc_device(sizeof out), nullptr, 0};
    int *p = static_cast<int *>(w.out);
    hc_case("launching");
    hc_expect(LDK_LAUNCH(positions, dim3(0), dim3(32), 0, nullptr, p) != 0, "no block");
    hc_expect(LDK_LAUNCH(positions, dim3(1), dim3(1025), 0, nullptr, p) != 0, "too many threads");
    hc_expect(LDK_LAUNCH(positions, dim3(1), dim3(32), 49153, nullptr, p) != 0,
              "more than 48 KB of shared memory without opting in");
    hc_expect(LDK_SMEM_OPTIN(positions, 1 << 20) != 0, "more shared memory than there is");
    hc_expect(LDK_SMEM_OPTIN(positions, 60 * 1024) == 0, "opting in");
    if (hc_run(run_positions, &w, w.out, sizeof out)) {
        hc_download(out, w.out, sizeof out);
        bool ok = true;
        for (int i = 0; i < 12 * 64; i++)
            ok = ok && out[i] == 63 - i % 64 + 1000 * (i / 64);
        hc_expect(ok, "positions in three dimensions");
    }
    hc_free_all();
}

int main()
{
    test_launch();
    test_warp();
    test_row_sums();
    test_hand_over();
    test_copies();
    test_matrices<half, 0>("fp16");
    test_matrices<half, 1>("fp16, transposed");
    test_matrices<half, 2>("fp16 accumulators");
    test_matrices<bf16, 0>("bf16");
    test_matrices<bf16, 1>("bf16, transposed");
    test_swizzle();
    test_numbers();
    return hc_report();
}
