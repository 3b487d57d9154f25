/*
 * What mma and ldmatrix deal out to which lane is what the PTX manual's tables say. The kernels
 * here know no layout: a lane loads the registers it is told and stores those it gets. Which
 * element a register holds is worked out on the host from the manual's formulas, element by element
 * (a0 .. a7, b0 .. b3, c0 .. c3), and the products are small integers, which every type holds:
 * results are equal or wrong. So neither the host build nor the kernels are their own judge.
 *
 * Source: PTX ISA 9.0, "Matrix Fragments for mma.m16n8k8", "... mma.m16n8k16 with floating point
 * type", "ldmatrix".
 */
#include "kernels/cuda/launch.h"
#include "tests/cuda/hostcuda.h"

#include <string.h>

enum { LANES = 32, M = 16, N = 8 };

/* ---- The manual's tables --------------------------------------------------------------------- */

struct element {
    int row, column;
};

/* ai of mma.m16n8k16: row = groupID for 0 <= i < 2 || 4 <= i < 6, else groupID + 8;
 * col = threadID_in_group * 2 + (i & 1), and 8 more for i >= 4. m16n8k8 has a0 .. a3 only:
 * row = groupID for i < 2, else groupID + 8. */
static element a_element(int lane, int i)
{
    const int group = lane >> 2, thread = lane % 4;
    element at;
    at.row = (0 <= i && i < 2) || (4 <= i && i < 6) ? group : group + 8;
    at.column = i < 4 ? thread * 2 + (i & 1) : thread * 2 + (i & 1) + 8;
    return at;
}

/* bi: row = threadID_in_group * 2 + (i & 1), and 8 more for i >= 2; col = groupID. */
static element b_element(int lane, int i)
{
    const int group = lane >> 2, thread = lane % 4;
    element at;
    at.row = i < 2 ? thread * 2 + (i & 1) : thread * 2 + (i & 1) + 8;
    at.column = group;
    return at;
}

/* ci: row = groupID for i < 2, else groupID + 8; col = threadID_in_group * 2 + (i & 1). */
static element c_element(int lane, int i)
{
    const int group = lane >> 2, thread = lane % 4;
    element at;
    at.row = i < 2 ? group : group + 8;
    at.column = thread * 2 + (i & 1);
    return at;
}

/* ---- mma ------------------------------------------------------------------------------------- */

/* Registers of one lane: a, b, and c in, d out. Half accumulators take c[0] and c[1]. */
struct registers {
    uint32_t a[4], b[2], c[4];
};

enum form { K16, K8, K16_HALF, K8_HALF };

static constexpr bool half_sums(int form)
{
    return form == K16_HALF || form == K8_HALF;
}

static constexpr int depth_of(int form)
{
    return form == K8 || form == K8_HALF ? 8 : 16;
}

template <class T, int FORM>
static __global__ void __launch_bounds__(LANES) multiply(const registers *in, uint32_t *out)
{
    const registers r = in[threadIdx.x];
    uint32_t d[4] = {r.c[0], r.c[1], r.c[2], r.c[3]};
    if constexpr (FORM == K16_HALF) {
        ldk_mma_16816_h(d, r.a, r.b);
    } else if constexpr (FORM == K8_HALF) {
        ldk_mma_1688_h(d, r.a, r.b);
    } else {
        float sum[4];
        LDK_UNROLL
        for (int i = 0; i < 4; i++)
            sum[i] = __uint_as_float(r.c[i]);
        if constexpr (FORM == K16)
            ldk_mma_16816<T>(sum, r.a, r.b);
        else
            ldk_mma_1688<T>(sum, r.a, r.b);
        LDK_UNROLL
        for (int i = 0; i < 4; i++)
            d[i] = __float_as_uint(sum[i]);
    }
    LDK_UNROLL
    for (int i = 0; i < 4; i++)
        out[threadIdx.x * 4 + static_cast<unsigned>(i)] = d[i];
}

struct operands {
    const void *in;
    void *out;
};

template <class T, int FORM> static int run_multiply(void *context)
{
    const operands *o = static_cast<const operands *>(context);
    return LDK_LAUNCH((multiply<T, FORM>), dim3(1), dim3(LANES), 0, nullptr,
                      static_cast<const registers *>(o->in), static_cast<uint32_t *>(o->out));
}

/* Bits of a small integer. Both types have an integer's leading bits where float32 has them. */
template <class T> static uint32_t bits_of(int value)
{
    const float v = static_cast<float>(value);
    uint32_t wide;
    memcpy(&wide, &v, sizeof wide);
    if (ldk_dtype_of<T> == LDK_BF16)
        return wide >> 16;
    const uint32_t sign = wide >> 16 & 0x8000u;
    return value == 0 ? 0 : sign | ((wide >> 23 & 255u) - 112u) << 10 | (wide >> 13 & 1023u);
}

static int value_of_half(uint32_t bits)
{
    if ((bits & 0x7fffu) == 0)
        return 0;
    const float v =
        ldexpf(static_cast<float>(1024u + (bits & 1023u)), static_cast<int>(bits >> 10 & 31u) - 25);
    return static_cast<int>(bits & 0x8000u ? -v : v);
}

/* An integer of [-8, 8] that tells rows from columns. */
static int small(int row, int column, int salt)
{
    return (row * 5 + column * 11 + row * column * 3 + salt) % 17 - 8;
}

static uint32_t float_bits(int value)
{
    const float v = static_cast<float>(value);
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    return bits;
}

template <class T, int FORM> static void deal(registers *of, int lane)
{
    constexpr int STEPS = depth_of(FORM) / 8;
    for (int i = 0; i < 4 * STEPS; i++) {
        const element at = a_element(lane, i);
        of->a[i / 2] |= bits_of<T>(small(at.row, at.column, 1)) << (i % 2 * 16);
    }
    for (int i = 0; i < 2 * STEPS; i++) {
        const element at = b_element(lane, i);
        of->b[i / 2] |= bits_of<T>(small(at.row, at.column, 2)) << (i % 2 * 16);
    }
    for (int i = 0; i < 4; i++) {
        const element at = c_element(lane, i);
        const int c = small(at.row, at.column, 3);
        if (half_sums(FORM))
            of->c[i / 2] |= bits_of<half>(c) << (i % 2 * 16);
        else
            of->c[i] = float_bits(c);
    }
}

template <int FORM> static int result_of(const uint32_t *d, int i)
{
    if (half_sums(FORM))
        return value_of_half(d[i / 2] >> (i % 2 * 16) & 0xffffu);
    float v;
    memcpy(&v, &d[i], sizeof v);
    return static_cast<int>(v);
}

static int product(int row, int column, int depth)
{
    int sum = small(row, column, 3);
    for (int k = 0; k < depth; k++)
        sum += small(row, k, 1) * small(k, column, 2);
    return sum;
}

template <class T, int FORM> static void test_mma(const char *name)
{
    registers in[LANES] = {};
    uint32_t out[LANES * 4];
    bool seen[M][N] = {};
    for (int lane = 0; lane < LANES; lane++)
        deal<T, FORM>(&in[lane], lane);
    operands o = {hc_upload(in, sizeof in), hc_device(sizeof out)};
    hc_case("fragments of %s", name);
    if (hc_run(run_multiply<T, FORM>, &o, o.out, sizeof out)) {
        int wrong = 0, missing = M * N;
        hc_download(out, o.out, sizeof out);
        for (int j = 0; j < LANES * 4; j++) {
            const element at = c_element(j / 4, j % 4);
            missing -= !seen[at.row][at.column];
            seen[at.row][at.column] = true;
            wrong += result_of<FORM>(out + j / 4 * 4, j % 4) !=
                     product(at.row, at.column, depth_of(FORM));
        }
        hc_expect(wrong == 0 && missing == 0, "%d of %d values are wrong", wrong, M * N);
    }
    hc_free_all();
}

/* ---- ldmatrix -------------------------------------------------------------------------------- */

/* Lane l's address is row order[l] of 32 rows of 8 elements. */
struct rows_in {
    uint4 row[LANES];
    int32_t order[LANES];
};

template <int COUNT, bool TRANS>
static __global__ void __launch_bounds__(LANES) load(const rows_in *in, uint32_t *out)
{
    LDK_SHARED(uint4, rows, [LANES]);
    const int lane = static_cast<int>(threadIdx.x);
    uint32_t r[4] = {};
    rows[lane] = in->row[lane];
    __syncwarp();
    const uint4 *row = &rows[in->order[lane]];
    if constexpr (COUNT == 4 && TRANS)
        ldk_ldmatrix_x4_trans(r, row);
    else if constexpr (COUNT == 4)
        ldk_ldmatrix_x4(r, row);
    else if constexpr (COUNT == 2 && TRANS)
        ldk_ldmatrix_x2_trans(r, row);
    else if constexpr (COUNT == 2)
        ldk_ldmatrix_x2(r, row);
    else if constexpr (TRANS)
        ldk_ldmatrix_x1_trans(r, row);
    else
        ldk_ldmatrix_x1(r, row);
    LDK_UNROLL
    for (int i = 0; i < 4; i++)
        out[lane * 4 + i] = r[i];
}

template <int COUNT, bool TRANS> static int run_load(void *context)
{
    const operands *o = static_cast<const operands *>(context);
    return LDK_LAUNCH((load<COUNT, TRANS>), dim3(1), dim3(LANES), 0, nullptr,
                      static_cast<const rows_in *>(o->in), static_cast<uint32_t *>(o->out));
}

/* What names element `column` of row `row` of matrix `matrix`. */
static uint32_t name_of(int matrix, int row, int column)
{
    return static_cast<uint32_t>(matrix * 64 + row * 8 + column + 1);
}

/* Thread l receives elements 2 (l % 4) and the next of row l / 4; .trans: of the transposed. */
static uint32_t dealt(int matrix, int lane, bool trans)
{
    const int row = lane / 4, column = lane % 4 * 2;
    const uint32_t low = trans ? name_of(matrix, column, row) : name_of(matrix, row, column);
    const uint32_t high =
        trans ? name_of(matrix, column + 1, row) : name_of(matrix, row, column + 1);
    return low | high << 16;
}

template <int COUNT, bool TRANS> static void test_ldmatrix(const char *name)
{
    rows_in in = {};
    uint32_t out[LANES * 4];
    for (int l = 0; l < LANES; l++) {
        /* Threads 8 m .. 8 m + 7 address the rows of matrix m; 13 and 32 have no common factor. */
        in.order[l] = (l * 13 + 5) % LANES;
        uint16_t *to = reinterpret_cast<uint16_t *>(&in.row[in.order[l]]);
        for (int e = 0; e < 8; e++)
            to[e] = static_cast<uint16_t>(name_of(l / 8, l % 8, e));
    }
    operands o = {hc_upload(&in, sizeof in), hc_device(sizeof out)};
    hc_case("fragments of %s", name);
    if (hc_run(run_load<COUNT, TRANS>, &o, o.out, sizeof out)) {
        int wrong = 0;
        hc_download(out, o.out, sizeof out);
        for (int i = 0; i < LANES * 4; i++)
            wrong += out[i] != (i % 4 < COUNT ? dealt(i % 4, i / 4, TRANS) : 0);
        hc_expect(wrong == 0, "%d of %d registers are wrong", wrong, LANES * 4);
    }
    hc_free_all();
}

int main()
{
    test_mma<half, K16>("mma.m16n8k16 f16");
    test_mma<bf16, K16>("mma.m16n8k16 bf16");
    test_mma<half, K8>("mma.m16n8k8 f16");
    test_mma<bf16, K8>("mma.m16n8k8 bf16");
    test_mma<half, K16_HALF>("mma.m16n8k16 f16 accumulators");
    test_mma<half, K8_HALF>("mma.m16n8k8 f16 accumulators");
    test_ldmatrix<1, false>("ldmatrix.x1");
    test_ldmatrix<2, false>("ldmatrix.x2");
    test_ldmatrix<4, false>("ldmatrix.x4");
    test_ldmatrix<1, true>("ldmatrix.x1.trans");
    test_ldmatrix<2, true>("ldmatrix.x2.trans");
    test_ldmatrix<4, true>("ldmatrix.x4.trans");
    return hc_report();
}
