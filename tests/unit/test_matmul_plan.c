/*
 * Proves that the plan of the matmul kernels is legal for every layer of the network at every usual
 * size, knows nothing of the batch, fits the smallest supported chip, and takes the variants that
 * the design names. Layers come from the network's levels; no GPU.
 */
#include "kernels/cuda/matmul.h"
#include "kernels/idx.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { VARIANTS_MAX = 32 };

static const int32_t sizes[][2] = {{512, 512}, {832, 1216}, {1024, 1024}, {1024, 1536}};
static const int32_t widths[] = {320, 640, 1280, 1280};

/* A layer whose pointers are there and aligned, and are never followed. */
static _Alignas(16) float memory[4];

static struct ldk_weight weight_of(int32_t rows, int32_t k, int32_t taps)
{
    return (struct ldk_weight){.data = memory,
                               .bias = memory,
                               .rows = rows,
                               .rows_padded = ld_idx_ceil_div(rows, 8) * 8,
                               .k = k,
                               .k_padded = ld_idx_ceil_div(k, 8) * 8,
                               .taps = taps,
                               .dtype = LDK_F16};
}

static struct ldk_conv conv_of(int32_t batch, int32_t h, int32_t w, int32_t in, int32_t out)
{
    return (struct ldk_conv){.x0 = memory,
                             .c0 = in,
                             .batch = batch,
                             .in_h = h,
                             .in_w = w,
                             .out_h = h,
                             .out_w = w,
                             .stride = 1,
                             .pad_before = 1,
                             .w = weight_of(out, in, 9),
                             .y = memory,
                             .workspace = memory,
                             .dtype = LDK_F16,
                             .variant = LDK_VARIANT_AUTO};
}

static struct ldk_linear linear_of(int32_t images, int32_t tokens, int32_t in, int32_t out)
{
    return (struct ldk_linear){.x0 = memory,
                               .c0 = in,
                               .rows = images * tokens,
                               .rows_per_image = tokens,
                               .w = weight_of(out, in, 1),
                               .y = memory,
                               .workspace = memory,
                               .dtype = LDK_F16,
                               .variant = LDK_VARIANT_AUTO};
}

static const struct ldk_matmul_variant *plan_conv(const struct ldk_conv *c, struct ldk_matmul *m)
{
    const struct ldk_matmul_variant *variant = NULL;
    assert_int_equal(ldk_matmul_plan_conv(c, m, &variant), LDK_OK);
    return variant;
}

static const struct ldk_matmul_variant *plan_linear(const struct ldk_linear *l,
                                                    struct ldk_matmul *m)
{
    const struct ldk_matmul_variant *variant = NULL;
    assert_int_equal(ldk_matmul_plan_linear(l, m, &variant), LDK_OK);
    return variant;
}

/* ---- Legal everywhere ------------------------------------------------------------------------ */

static void check_list(const struct ldk_variant *list, int32_t count)
{
    assert_true(count > 0 && count <= VARIANTS_MAX);
    for (int32_t i = 0; i < count; i++) {
        assert_true(list[i].shared_bytes <= 99 * 1024);
        assert_non_null(list[i].name);
        for (int32_t j = 0; j < i; j++)
            assert_true(list[i].number != list[j].number);
    }
}

static void check_conv(int32_t h, int32_t w, int32_t in, int32_t out)
{
    struct ldk_matmul one;
    struct ldk_matmul many;
    struct ldk_conv c = conv_of(1, h, w, in, out);
    const struct ldk_matmul_variant *variant = plan_conv(&c, &one);
    assert_int_equal(variant->kind, LDK_MATMUL_TILES);
    const struct ldk_matmul_shape *shape = &ldk_matmul_shapes[variant->tile];
    assert_true(one.m_tiles * shape->m >= one.positions);
    assert_true((one.m_tiles - 1) * shape->m < one.positions);
    assert_true(one.n_tiles * shape->n >= out);
    assert_int_equal(one.moment_tiles, ld_idx_ceil_div(one.positions, shape->moment_rows));
    assert_int_equal(ldk_conv_tiles(&c), one.moment_tiles);
    size_t scratch = ldk_conv_workspace(&c);
    assert_true((scratch > 0) == (one.splits > 1));
    struct ldk_variant list[VARIANTS_MAX];
    check_list(list, ldk_conv_variants(&c, list, VARIANTS_MAX));
    for (int32_t batch = 2; batch <= 32; batch *= 4) {
        c.batch = batch;
        assert_ptr_equal(plan_conv(&c, &many), variant);
        assert_int_equal(many.m_tiles, one.m_tiles);
        assert_int_equal(many.splits, one.splits);
        assert_int_equal(ldk_conv_tiles(&c), one.moment_tiles);
        assert_int_equal(ldk_conv_workspace(&c), scratch * (size_t)batch);
    }
}

static void every_convolution_has_a_legal_plan(void **state)
{
    (void)state;
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        for (int32_t level = 0; level < 4; level++) {
            int32_t h = ld_idx_ceil_div(sizes[s][1] / 8, 1 << level);
            int32_t w = ld_idx_ceil_div(sizes[s][0] / 8, 1 << level);
            check_conv(h, w, widths[level], widths[level]);
            check_conv(h, w, 2 * widths[level], widths[level]);
            check_conv(h, w, widths[level] + 320, widths[level]);
        }
    }
    check_conv(1024, 1024, 256, 128); /* the VAE's last level */
    check_conv(64, 64, 32, 64);       /* a small model */
}

static void every_linear_layer_has_a_legal_plan(void **state)
{
    (void)state;
    for (int32_t tokens = 1; tokens < 20000; tokens = tokens * 3 + 1) {
        for (int32_t level = 0; level < 3; level++) {
            struct ldk_matmul m;
            struct ldk_linear l = linear_of(2, tokens, widths[level], 3 * widths[level]);
            const struct ldk_matmul_variant *variant = plan_linear(&l, &m);
            assert_int_equal(variant->kind, tokens <= 4 ? LDK_MATMUL_ROWS : LDK_MATMUL_TILES);
            l.w.geglu = true;
            l.w.rows = 8 * widths[level];
            l.w.rows_padded = l.w.rows;
            l.activation = LDK_ACT_GEGLU;
            assert_int_equal(plan_linear(&l, &m)->kind, LDK_MATMUL_TILES);
            assert_int_equal(m.out_n, 4 * widths[level]);
        }
    }
}

/* The tiles' walkers count in 32 bits; the plain kernel does not. */
static void rows_too_long_for_the_tiles_are_not_cut_into_them(void **state)
{
    (void)state;
    struct ldk_matmul m;
    struct ldk_linear l = linear_of(2, 64, LDK_MATMUL_STRIDE_MAX, 64);
    assert_int_equal(plan_linear(&l, &m)->kind, LDK_MATMUL_TILES);
    l = linear_of(2, 64, LDK_MATMUL_STRIDE_MAX + LDK_MATMUL_K, 64);
    assert_int_equal(plan_linear(&l, &m)->kind, LDK_MATMUL_PLAIN);
}

/* ---- The choices of the design --------------------------------------------------------------- */

static void levels_take_the_tiles_of_the_design(void **state)
{
    (void)state;
    struct ldk_matmul m;
    struct ldk_conv c = conv_of(2, 128, 128, 320, 320);
    assert_string_equal(plan_conv(&c, &m)->name, "256x160");
    c = conv_of(2, 64, 64, 640, 640);
    assert_string_equal(plan_conv(&c, &m)->name, "256x160");
    c = conv_of(2, 32, 32, 1280, 1280); /* 64 large tiles, two blocks each */
    assert_string_equal(plan_conv(&c, &m)->name, "256x160 k/2");
    c = conv_of(2, 16, 16, 1280, 1280); /* 32 tiles alone would leave three quarters idle */
    assert_true(plan_conv(&c, &m)->splits > 1);
    c = conv_of(1, 512, 512, 256, 256);
    assert_string_equal(plan_conv(&c, &m)->name, "256x128");
    c = conv_of(2, 128, 128, 4, 320);
    assert_string_equal(plan_conv(&c, &m)->name, "first");
    c = conv_of(2, 128, 128, 320, 4);
    assert_string_equal(plan_conv(&c, &m)->name, "last");
    c = conv_of(2, 8, 8, 20, 24);
    assert_string_equal(plan_conv(&c, &m)->name, "plain");
}

static void doubling_takes_the_phase_form_where_there_is_one(void **state)
{
    (void)state;
    struct ldk_matmul m;
    struct ldk_conv c = conv_of(2, 52, 76, 640, 640);
    c.up_h = c.out_h = 104;
    c.up_w = c.out_w = 152;
    plan_conv(&c, &m);
    assert_int_equal(m.phases, 1);
    c.w.phase = memory;
    plan_conv(&c, &m);
    assert_int_equal(m.phases, 4);
    assert_int_equal(m.kernel, 2);
    assert_int_equal(m.positions, 52 * 76);
    assert_int_equal(ldk_conv_tiles(&c), 4 * m.moment_tiles);
    c.variant = LDK_VARIANT_PLAIN; /* which walks the kernel of 3 */
    plan_conv(&c, &m);
    assert_int_equal(m.phases, 1);
    c.variant = LDK_VARIANT_AUTO;
    c.up_w = c.out_w = 151;
    plan_conv(&c, &m);
    assert_int_equal(m.phases, 1);
}

/* ---- Signatures ------------------------------------------------------------------------------ */

static const struct ldk_variant *named(const struct ldk_variant *list, int32_t count,
                                       const char *name)
{
    int32_t i = 0;
    while (i < count && strcmp(list[i].name, name) != 0)
        i++;
    if (i == count)
        fail_msg("%s is not offered", name);
    return &list[i];
}

static void signatures_tell_the_order_of_sums(void **state)
{
    (void)state;
    struct ldk_variant list[VARIANTS_MAX];
    struct ldk_conv c = conv_of(2, 16, 16, 1280, 1280);
    int32_t count = ldk_conv_variants(&c, list, VARIANTS_MAX);
    uint32_t wide = named(list, count, "128x160")->signature;
    assert_true(wide == named(list, count, "128x128")->signature);
    assert_true(wide == named(list, count, "256x160")->signature);
    assert_true(wide == named(list, count, "256x128")->signature);
    assert_true(named(list, count, "64x128")->signature == named(list, count, "64x64")->signature);
    assert_true(wide != named(list, count, "64x128")->signature); /* their moments differ */
    assert_true(wide != named(list, count, "128x160 k/4")->signature);
    assert_true(wide != named(list, count, "plain")->signature);
    c.fp16_accumulate = true;
    count = ldk_conv_variants(&c, list, VARIANTS_MAX);
    assert_true(wide != named(list, count, "128x160")->signature);
    assert_int_equal(ldk_conv_variants(&c, list, 2), count); /* says how many there are */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_convolution_has_a_legal_plan),
        cmocka_unit_test(every_linear_layer_has_a_legal_plan),
        cmocka_unit_test(rows_too_long_for_the_tiles_are_not_cut_into_them),
        cmocka_unit_test(levels_take_the_tiles_of_the_design),
        cmocka_unit_test(doubling_takes_the_phase_form_where_there_is_one),
        cmocka_unit_test(signatures_tell_the_order_of_sums),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
