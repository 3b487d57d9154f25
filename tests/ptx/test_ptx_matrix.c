/*
 * The PTX machine's matrix instructions, element by element as the PTX ISA's formulas say where one
 * lies.
 */
#include "tests/ptx/test_ptx_fixture.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { M = 16, N = 8, LANES = 32 };

/* ---- Where elements lie ---------------------------------------------------------------------- */

/* PTX ISA, "Matrix Fragments for mma.m16n8k16 with floating point type", "... mma.m16n8k8": element
 * i. */
static int a_row(int lane, int i)
{
    const int group = lane >> 2;
    return (0 <= i && i < 2) || (4 <= i && i < 6) ? group : group + 8;
}

static int a_column(int lane, int i)
{
    const int thread_in_group = lane % 4;
    return i < 4 ? thread_in_group * 2 + (i & 1) : thread_in_group * 2 + (i & 1) + 8;
}

static int b_row(int lane, int i)
{
    const int thread_in_group = lane % 4;
    return i < 2 ? thread_in_group * 2 + (i & 1) : thread_in_group * 2 + (i & 1) + 8;
}

static int b_column(int lane)
{
    return lane >> 2;
}

static int c_row(int lane, int i)
{
    return i < 2 ? lane >> 2 : (lane >> 2) + 8;
}

static int c_column(int lane, int i)
{
    return lane % 4 * 2 + (i & 1);
}

/* ---- Numbers --------------------------------------------------------------------------------- */

enum type { F16, BF16 };

/* The f16 nearest to x, ties to even, by search: halves are in the order of their bits. */
static uint16_t f16_bits(double x)
{
    const uint16_t sign = signbit(x) ? 0x8000 : 0;
    double best = 1e9;
    uint16_t bits = 0;
    for (uint16_t h = 0; h <= 0x7c00; h++) {
        const int e = h >> 10;
        const double value = e == 0      ? ldexp(h, -24)
                             : e == 0x1f ? 65536.0 /* where infinity would be */
                                         : ldexp(1024 + (h & 0x3ff), e - 25);
        const double off = fabs(value - fabs(x));
        if (off < best || (off == best && h % 2 == 0)) {
            best = off;
            bits = h;
        }
    }
    return bits | sign;
}

static float f16_value(uint16_t h)
{
    const int e = h >> 10 & 0x1f, fraction = h & 0x3ff;
    const double size = e == 0 ? ldexp(fraction, -24) : ldexp(1024 + fraction, e - 25);
    return (float)(h & 0x8000 ? -size : size);
}

static float value(enum type type, uint16_t h)
{
    if (type == F16)
        return f16_value(h);
    const uint32_t bits = (uint32_t)h << 16;
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static uint32_t next(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

/* Any finite number of moderate size, subnormal f16 among them. */
static uint16_t draw(enum type type, uint32_t *state)
{
    const uint16_t sign = (uint16_t)(next(state) & 0x8000);
    if (type == F16)
        return (uint16_t)(next(state) % 0x4800) | sign;
    return (uint16_t)(0x3c00 + next(state) % 0x0700) | sign;
}

/* ---- mma ------------------------------------------------------------------------------------- */

/* Lane l's words: A at in[4 l], B at in[128 + 2 l], C at in[192 + 4 l]; D at out[4 l]. */
static const char *const LOAD = "shl.b32 %r5, %r0, 4;\n"
                                "cvt.u64.u32 %rd4, %r5;\n"
                                "add.s64 %rd5, %rd4, %rd1;\n"
                                "ld.global.v4.u32 {%r10, %r11, %r12, %r13}, [%rd5];\n"
                                "ld.global.v4.f32 {%f0, %f1, %f2, %f3}, [%rd5+768];\n"
                                "ld.global.v4.u32 {%r20, %r21, %r22, %r23}, [%rd5+768];\n"
                                "shl.b32 %r5, %r0, 3;\n"
                                "cvt.u64.u32 %rd6, %r5;\n"
                                "add.s64 %rd6, %rd6, %rd1;\n"
                                "ld.global.v2.u32 {%r14, %r15}, [%rd6+512];\n"
                                "add.s64 %rd4, %rd4, %rd0;\n";

struct product {
    enum type type;
    int depth;
    bool f16_sum;
    const char *instruction;
};

static const struct product products[] = {
    {F16, 16, false,
     "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%f4, %f5, %f6, %f7}, {%r10, %r11, %r12, "
     "%r13}, {%r14, %r15}, {%f0, %f1, %f2, %f3};\n"},
    {BF16, 16, false,
     "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f4, %f5, %f6, %f7}, {%r10, %r11, "
     "%r12, %r13}, {%r14, %r15}, {%f0, %f1, %f2, %f3};\n"},
    {F16, 8, false,
     "mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%f4, %f5, %f6, %f7}, {%r10, %r11}, "
     "{%r14}, {%f0, %f1, %f2, %f3};\n"},
    {BF16, 8, false,
     "mma.sync.aligned.m16n8k8.row.col.f32.bf16.bf16.f32 {%f4, %f5, %f6, %f7}, {%r10, %r11}, "
     "{%r14}, {%f0, %f1, %f2, %f3};\n"},
    {F16, 16, true,
     "mma.sync.aligned.m16n8k16.row.col.f16.f16.f16.f16 {%r30, %r31}, {%r10, %r11, %r12, %r13}, "
     "{%r14, %r15}, {%r20, %r21};\n"},
    {F16, 8, true,
     "mma.sync.aligned.m16n8k8.row.col.f16.f16.f16.f16 {%r30, %r31}, {%r10, %r11}, {%r14}, {%r20, "
     "%r21};\n"},
};

struct matrices {
    uint16_t a[M][16], b[16][N], half_c[M][N];
    float c[M][N];
};

static void deal(const struct product *p, const struct matrices *m, uint32_t *in)
{
    uint16_t *a = (uint16_t *)in, *b = (uint16_t *)(in + 128), *half_c = (uint16_t *)(in + 192);
    memset(in, 0xff, 384 * sizeof *in); /* what is not the instruction's is NaN */
    for (int lane = 0; lane < LANES; lane++) {
        for (int i = 0; i < p->depth / 2; i++)
            a[lane * 8 + i] = m->a[a_row(lane, i)][a_column(lane, i)];
        for (int i = 0; i < p->depth / 4; i++)
            b[lane * 4 + i] = m->b[b_row(lane, i)][b_column(lane)];
        for (int i = 0; i < 4; i++) {
            if (p->f16_sum)
                half_c[lane * 8 + i] = m->half_c[c_row(lane, i)][c_column(lane, i)];
            else
                memcpy(&in[192 + lane * 4 + i], &m->c[c_row(lane, i)][c_column(lane, i)],
                       sizeof *in);
        }
    }
}

static void check_product(const struct product *p, const struct matrices *m)
{
    struct fixture f;
    char body[2048];
    fixture_start(&f, 1, LANES);
    deal(p, m, f.in);
    snprintf(body, sizeof body, "%s%s%s", LOAD, p->instruction,
             p->f16_sum ? "st.global.v2.u32 [%rd4], {%r30, %r31};"
                        : "st.global.v4.f32 [%rd4], {%f4, %f5, %f6, %f7};");
    if (!fixture_run(&f, body))
        fail_msg("%s", f.why.text);
    for (int lane = 0; lane < LANES; lane++) {
        for (int i = 0; i < 4; i++) {
            const int row = c_row(lane, i), column = c_column(lane, i);
            volatile float sum = p->f16_sum ? f16_value(m->half_c[row][column]) : m->c[row][column];
            for (int k = 0; k < p->depth; k++)
                sum = sum + value(p->type, m->a[row][k]) * value(p->type, m->b[k][column]);
            float have;
            if (p->f16_sum) {
                const uint16_t half = ((const uint16_t *)f.out)[lane * 8 + i];
                assert_int_equal(half, f16_bits((double)sum));
                continue;
            }
            memcpy(&have, &f.out[lane * 4 + i], sizeof have);
            if (have != sum)
                fail_msg("lane %d, d%d: %a, not %a", lane, i, (double)have, (double)sum);
        }
    }
    fixture_end(&f);
}

/* One element of A and one of B at a time: where the product lands says which they were. */
static void test_positions(void **state)
{
    (void)state;
    for (size_t n = 0; n < sizeof products / sizeof products[0]; n++) {
        const struct product *p = &products[n];
        const uint16_t one = p->type == F16 ? 0x3c00 : 0x3f80;
        for (int k = 0; k < p->depth; k++) {
            struct matrices m = {0};
            for (int row = 0; row < M; row++) /* 1 + row / 16 */
                m.a[row][k] =
                    p->type == F16 ? (uint16_t)(one + row * 64) : (uint16_t)(one + row * 8);
            for (int column = 0; column < N; column++) /* powers of 2 */
                m.b[k][column] = (uint16_t)(one + column * (p->type == F16 ? 0x400 : 0x80));
            check_product(p, &m);
        }
    }
}

static void test_sums(void **state)
{
    (void)state;
    uint32_t random = 12345;
    for (size_t n = 0; n < 40 * sizeof products / sizeof products[0]; n++) {
        const struct product *p = &products[n / 40];
        struct matrices m;
        for (int i = 0; i < M; i++)
            for (int k = 0; k < 16; k++)
                m.a[i][k] = draw(p->type, &random);
        for (int k = 0; k < 16; k++)
            for (int j = 0; j < N; j++)
                m.b[k][j] = draw(p->type, &random);
        for (int i = 0; i < M; i++) {
            for (int j = 0; j < N; j++) {
                m.half_c[i][j] = draw(F16, &random);
                m.c[i][j] = ldexpf((float)next(&random) - 0x1p23f, -20);
            }
        }
        check_product(p, &m);
    }
}

/* ---- ldmatrix -------------------------------------------------------------------------------- */

/* Row r of all matrices lies at 80 r; its elements are 8 r and on. */
static const char *const FILL = "mul.lo.s32 %r5, %r0, 80;\n"
                                "add.s32 %r5, %r5, %r3;\n"
                                "mul.lo.s32 %r6, %r0, 0x80008;\n" /* two elements a word */
                                "add.s32 %r6, %r6, 0x10000;\n"
                                "st.shared.u32 [%r5], %r6;\n"
                                "add.s32 %r6, %r6, 0x20002;\n"
                                "st.shared.u32 [%r5+4], %r6;\n"
                                "add.s32 %r6, %r6, 0x20002;\n"
                                "st.shared.u32 [%r5+8], %r6;\n"
                                "add.s32 %r6, %r6, 0x20002;\n"
                                "st.shared.u32 [%r5+12], %r6;\n"
                                "bar.warp.sync -1;\n"
                                "mul.wide.u32 %rd4, %r0, 16;\n"
                                "add.s64 %rd4, %rd4, %rd0;\n";

static void check_ldmatrix(const char *name, const char *vector, int count, bool transposed)
{
    char body[2048];
    uint32_t want[LANES * 4];
    snprintf(body, sizeof body,
             "%smov.u32 %%r10, 0;\nmov.u32 %%r11, 0;\nmov.u32 %%r12, 0;\nmov.u32 %%r13, 0;\n"
             "setp.ge.u32 %%p0, %%r0, %d;\n"
             "@%%p0 mov.u32 %%r5, 0xfffffff1;\n" /* nobody looks at these lanes' addresses */
             "ldmatrix.sync.aligned.m8n8.%s.shared.b16 %s, [%%r5];\n"
             "st.global.v4.u32 [%%rd4], {%%r10, %%r11, %%r12, %%r13};",
             FILL, count * 8, name, vector);
    for (int lane = 0; lane < LANES; lane++) {
        for (int r = 0; r < 4; r++) {
            const int row = lane / 4, column = lane % 4 * 2;
            const int low = transposed ? column * 8 + row : row * 8 + column;
            const int high = transposed ? (column + 1) * 8 + row : row * 8 + column + 1;
            want[lane * 4 + r] =
                r < count ? (uint32_t)(low + r * 64) | (uint32_t)(high + r * 64) << 16 : 0;
        }
    }
    fixture_expect(body, 1, LANES, want, LANES * 4);
}

static void test_ldmatrix(void **state)
{
    (void)state;
    check_ldmatrix("x1", "{%r10}", 1, false);
    check_ldmatrix("x2", "{%r10, %r11}", 2, false);
    check_ldmatrix("x4", "{%r10, %r11, %r12, %r13}", 4, false);
    check_ldmatrix("x1.trans", "{%r10}", 1, true);
    check_ldmatrix("x2.trans", "{%r10, %r11}", 2, true);
    check_ldmatrix("x4.trans", "{%r10, %r11, %r12, %r13}", 4, true);
}

/* ---- Counts ---------------------------------------------------------------------------------- */

static struct ptx_counts counts_of(const char *body)
{
    struct fixture f;
    struct ptx_counts counts;
    fixture_start(&f, 1, LANES);
    ptx_count_reset();
    if (!fixture_run(&f, body))
        fail_msg("%s", f.why.text);
    ptx_counts(&counts);
    fixture_end(&f);
    return counts;
}

static void test_counts(void **state)
{
    (void)state;
    /* Words side by side, of one bank, of one word; 8 rows of 16 bytes at the two pitches. */
    assert_int_equal(counts_of("ld.shared.u32 %r5, [%r4];").shared_passes, 1);
    assert_int_equal(counts_of("mul.lo.s32 %r5, %r0, 124;\n"
                               "ld.shared.u32 %r5, [%r5+4];")
                         .shared_passes,
                     1);
    assert_int_equal(counts_of("mul.lo.s32 %r5, %r0, 128;\n"
                               "ld.shared.u32 %r5, [%r5];")
                         .shared_passes,
                     32);
    assert_int_equal(counts_of("ld.shared.u32 %r5, [%r3];").shared_passes, 1);
    assert_int_equal(counts_of("mul.lo.s32 %r5, %r0, 16;\n"
                               "ld.shared.v4.u32 {%r5, %r6, %r7, %r8}, [%r5];")
                         .shared_passes,
                     4);
    assert_int_equal(counts_of("mul.lo.s32 %r5, %r0, 112;\n"
                               "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r5, %r6, %r7, %r8}, "
                               "[%r5];")
                         .shared_passes,
                     4);
    assert_int_equal(counts_of("mul.lo.s32 %r5, %r0, 128;\n"
                               "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r5, %r6, %r7, %r8}, "
                               "[%r5];")
                         .shared_passes,
                     32);
    assert_int_equal(counts_of("ld.global.u32 %r5, [%rd3];").global_sectors, 4);
    assert_int_equal(counts_of("ld.global.u32 %r5, [%rd3+4];").global_sectors, 5);
    assert_int_equal(counts_of("mul.wide.u32 %rd4, %r0, 32;\n"
                               "add.s64 %rd4, %rd4, %rd1;\n"
                               "ld.global.u32 %r5, [%rd4];")
                         .global_sectors,
                     32);
    assert_int_equal(counts_of("ld.global.u32 %r5, [%rd1];").global_sectors, 1);
    assert_int_equal(counts_of("and.b32 %r5, %r0, 3;\n" /* up and down, 3 pieces */
                               "min.u32 %r5, %r5, 2;\n"
                               "mul.wide.u32 %rd4, %r5, 64;\n"
                               "add.s64 %rd4, %rd4, %rd1;\n"
                               "ld.global.u32 %r5, [%rd4];")
                         .global_sectors,
                     3);
    const struct ptx_counts counts = counts_of("ld.global.u32 %r5, [%rd1];\nret;\n");
    assert_int_equal(counts.launches, 1);
    assert_int_equal(counts.blocks, 1);
    assert_int_equal(counts.instructions, 14);
}

/* ---- A sample of blocks, and what each instruction cost --------------------------------------- */

struct watched {
    uint64_t blocks;
    struct ptx_site site; /* of the instruction that begins with `name` */
    const char *name;
};

static void watch(void *context, const struct ptx_launch *launch, uint64_t blocks,
                  const struct ptx_site *sites)
{
    struct watched *watched = context;
    watched->blocks = blocks;
    for (int32_t i = 0; i < launch->kernel->inst_count; i++)
        if (strncmp(launch->kernel->insts[i].name, watched->name, strlen(watched->name)) == 0)
            watched->site = sites[i];
}

static struct watched watch_body(const char *name, const char *body)
{
    struct watched watched = {.name = name};
    struct fixture f;
    fixture_start(&f, 2, 32);
    ptx_options()->watch = watch;
    ptx_options()->watch_context = &watched;
    const bool ran = fixture_run(&f, body);
    ptx_options()->watch = NULL;
    if (!ran)
        fail_msg("%s", f.why.text);
    fixture_end(&f);
    return watched;
}

static void test_sites(void **state)
{
    (void)state;
    struct watched w = watch_body("ldmatrix", "mul.lo.s32 %r5, %r0, 128;\n"
                                              "ldmatrix.sync.aligned.m8n8.x4.shared.b16 "
                                              "{%r5, %r6, %r7, %r8}, [%r5];");
    assert_int_equal(w.blocks, 2);
    assert_int_equal(w.site.executed, 2);
    assert_int_equal(w.site.passes, 2 * 32);
    assert_int_equal(w.site.passes_least, 2 * 4);
    w = watch_body("ld.global.u32", "mul.wide.u32 %rd4, %r0, 32;\n"
                                    "add.s64 %rd4, %rd4, %rd1;\n"
                                    "ld.global.u32 %r5, [%rd4];");
    assert_int_equal(w.site.sectors, 2 * 32);
    assert_int_equal(w.site.sectors_least, 2 * 4);
    w = watch_body("ld.global.u32", "ld.global.u32 %r5, [%rd1];"); /* one word for all */
    assert_int_equal(w.site.sectors, 2);
    assert_int_equal(w.site.sectors_least, 2);
    w = watch_body("cp.async.cg", "mul.lo.s32 %r5, %r0, 128;\n"
                                  "add.s32 %r5, %r5, %r3;\n"
                                  "mul.wide.u32 %rd4, %r0, 16;\n"
                                  "add.s64 %rd4, %rd4, %rd1;\n"
                                  "cp.async.cg.shared.global [%r5], [%rd4], 16;\n"
                                  "cp.async.wait_all;");
    assert_int_equal(w.site.passes, 2 * 32);
    assert_int_equal(w.site.passes_least, 2 * 4);
    assert_int_equal(w.site.sectors, 2 * 16);
    assert_int_equal(w.site.sectors_least, 2 * 16);
}

static void test_sample_of_blocks(void **state)
{
    (void)state;
    static const bool runs[8] = {[0] = true, [4] = true, [7] = true};
    struct fixture f;
    fixture_start(&f, 8, 32);
    ptx_options()->blocks = 3;
    const bool ran = fixture_run(&f, "st.global.u32 [%rd2], %r1;");
    ptx_options()->blocks = 0;
    assert_true(ran);
    for (uint32_t b = 0; b < 8; b++)
        assert_int_equal(f.out[b * 32 + 5], runs[b] ? b : UINT32_MAX);
    fixture_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_positions), cmocka_unit_test(test_sums),
        cmocka_unit_test(test_ldmatrix),  cmocka_unit_test(test_counts),
        cmocka_unit_test(test_sites),     cmocka_unit_test(test_sample_of_blocks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
