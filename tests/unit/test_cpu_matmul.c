/*
 * Proves that convolutions and linear layers of every CPU level are within float32 rounding of a
 * float64 form, for all paddings, strides, upsamplings, sources, epilogues and element types. Works
 * on random odd shapes between guards.
 */
#include "cpu_reference.h"

enum { CASES = 60 };

/* float32 sums of a few thousand terms; measured below 3e-7. */
static const double TOLERANCE = 6e-7;

static enum ld_dtype pick_dtype(struct rng *rng)
{
    static const enum ld_dtype types[] = {LD_DTYPE_F16,     LD_DTYPE_BF16,    LD_DTYPE_F32,
                                          LD_DTYPE_F8_E4M3, LD_DTYPE_F8_E5M2, LD_DTYPE_F64};
    return types[rng_bits(rng) % (sizeof types / sizeof types[0])];
}

static void check(const float *y, const double *expected, size_t count, const char *level,
                  const char *what)
{
    double error = relative_l2(y, expected, count);
    if (error > TOLERANCE)
        print_message("%s on %s: relative error %.3g\n", what, level, error);
    assert_true(error <= TOLERANCE);
    assert_true(guards_intact(y, count));
}

/* ---- Convolution ----------------------------------------------------------------------------- */

static struct ld_conv2d random_conv(struct rng *rng, int32_t *kernel, int32_t *rows)
{
    struct ld_conv2d op = {.batch = rng_range(rng, 1, 3),
                           .in_h = rng_range(rng, 1, 19),
                           .in_w = rng_range(rng, 1, 37),
                           .c0 = rng_range(rng, 1, 75),
                           .stride = 1};
    op.c1 = rng_bits(rng) % 2 ? rng_range(rng, 1, 70) : 0;
    *rows = rng_range(rng, 1, 70);
    *kernel = rng_bits(rng) % 4 ? 3 : 1;
    if (*kernel == 3) {
        op.stride = rng_range(rng, 1, 2);
        op.pad_after = 1;
        op.pad_before = rng_range(rng, 0, 1);
        if (rng_bits(rng) % 8 == 0)
            op.pad_after = op.pad_before = 0;
        op.in_h += 2;
        op.in_w += 2;
    }
    if (rng_bits(rng) % 3 == 0) {
        op.up_h = op.in_h * 2 - rng_range(rng, 0, 1);
        op.up_w = op.in_w * 2 - rng_range(rng, 0, 1);
    }
    return op;
}

static void one_conv(struct rng *rng)
{
    int32_t kernel;
    int32_t rows;
    struct ld_conv2d op = random_conv(rng, &kernel, &rows);
    struct test_weight w = make_weight(LD_WEIGHT_CONV, rows, op.c0 + op.c1, kernel, pick_dtype(rng),
                                       rng_bits(rng) % 2, rng);
    size_t pixels = (size_t)(op.batch * op.in_h * op.in_w);
    size_t count = (size_t)op.batch * (size_t)rows *
                   (size_t)ref_out_side(op.in_h, op.up_h, &op, kernel) *
                   (size_t)ref_out_side(op.in_w, op.up_w, &op, kernel);
    float *x0 = random_buffer(pixels * (size_t)op.c0, 1.0f, rng);
    float *x1 = random_buffer(pixels * (size_t)op.c1 + 1, 1.0f, rng);
    float *residual = random_buffer(count, 1.0f, rng);
    op.row_add_stride = rows + 3;
    float *row_add = random_buffer((size_t)(op.batch * op.row_add_stride), 1.0f, rng);
    op.x0 = x0;
    op.x1 = op.c1 > 0 ? x1 : NULL;
    op.residual = rng_bits(rng) % 2 ? residual : NULL;
    op.row_add = rng_bits(rng) % 2 ? row_add : NULL;
    double *expected = ld_heap_calloc(count, sizeof *expected);
    assert_non_null(expected);
    ref_conv2d(&op, &w, expected);
    for (size_t i = 0; i < LEVELS; i++) {
        struct ld_backend *backend = open_level(all_levels[i], 2);
        if (backend == NULL)
            continue;
        struct ld_weight *weight = load_weight(backend, &w);
        float *y = guarded_alloc(count);
        struct ld_error err = {0};
        op.weight = weight;
        op.y = y;
        assert_int_equal(backend->ops->conv2d(backend, &op, &err), LD_OK);
        check(y, expected, count, backend->description, "convolution");
        if (op.residual != NULL) { /* in place over the residual */
            float *z = guarded_alloc(count);
            memcpy(z, residual, count * sizeof *z);
            struct ld_conv2d in_place = op;
            in_place.residual = z;
            in_place.y = z;
            assert_int_equal(backend->ops->conv2d(backend, &in_place, &err), LD_OK);
            assert_memory_equal(y, z, count * sizeof *z);
            guarded_free(z);
        }
        guarded_free(y);
        backend->ops->weight_destroy(backend, weight);
        backend->ops->destroy(backend);
    }
    ld_heap_free(expected);
    guarded_free(x0);
    guarded_free(x1);
    guarded_free(residual);
    guarded_free(row_add);
    free_weight(&w);
}

static void convolutions_match_float64(void **state)
{
    (void)state;
    struct rng rng = {1};
    for (int i = 0; i < CASES; i++)
        one_conv(&rng);
}

/* ---- Linear ---------------------------------------------------------------------------------- */

static void one_linear(struct rng *rng)
{
    static const enum ld_activation activations[] = {LD_ACT_NONE, LD_ACT_SILU, LD_ACT_QUICK_GELU,
                                                     LD_ACT_GEGLU};
    struct ld_linear op = {.activation = activations[rng_bits(rng) % 4]};
    op.rows_per_image = rng_range(rng, 1, 90);
    op.rows = op.rows_per_image * rng_range(rng, 1, 3);
    op.c0 = rng_range(rng, 1, 400);
    op.c1 = rng_bits(rng) % 3 == 0 ? rng_range(rng, 1, 100) : 0;
    bool geglu = op.activation == LD_ACT_GEGLU;
    int32_t rows = rng_range(rng, 1, 120) * (geglu ? 2 : 1);
    int32_t n = geglu ? rows / 2 : rows;
    struct test_weight w = make_weight(geglu ? LD_WEIGHT_GEGLU : LD_WEIGHT_LINEAR, rows,
                                       op.c0 + op.c1, 1, pick_dtype(rng), rng_bits(rng) % 2, rng);
    size_t count = (size_t)op.rows * (size_t)n;
    float *x0 = random_buffer((size_t)(op.rows * op.c0), 1.5f, rng);
    float *x1 = random_buffer((size_t)(op.rows * op.c1) + 1, 1.5f, rng);
    float *residual = random_buffer(count, 1.0f, rng);
    op.x0 = x0;
    op.x1 = op.c1 > 0 ? x1 : NULL;
    op.residual = rng_bits(rng) % 2 ? residual : NULL;
    double *expected = ld_heap_calloc(count, sizeof *expected);
    assert_non_null(expected);
    ref_linear(&op, &w, expected);
    for (size_t i = 0; i < LEVELS; i++) {
        struct ld_backend *backend = open_level(all_levels[i], 2);
        if (backend == NULL)
            continue;
        struct ld_weight *weight = load_weight(backend, &w);
        float *y = guarded_alloc(count);
        struct ld_error err = {0};
        op.weight = weight;
        op.y = y;
        assert_int_equal(backend->ops->linear(backend, &op, &err), LD_OK);
        check(y, expected, count, backend->description, "linear");
        guarded_free(y);
        backend->ops->weight_destroy(backend, weight);
        backend->ops->destroy(backend);
    }
    ld_heap_free(expected);
    guarded_free(x0);
    guarded_free(x1);
    guarded_free(residual);
    free_weight(&w);
}

static void linear_layers_match_float64(void **state)
{
    (void)state;
    struct rng rng = {2};
    for (int i = 0; i < CASES; i++)
        one_linear(&rng);
}

/* Parts of different types, scales and biases, stacked: q, k and v of one attention. */
static void stacked_parts_keep_their_own_type_scale_and_bias(void **state)
{
    (void)state;
    struct rng rng = {3};
    enum { ROWS = 21, N = 24, K = 70 };
    struct test_weight part[3] = {
        make_weight(LD_WEIGHT_LINEAR, N, K, 1, LD_DTYPE_F16, true, &rng),
        make_weight(LD_WEIGHT_LINEAR, N, K, 1, LD_DTYPE_F8_E4M3, false, &rng),
        make_weight(LD_WEIGHT_LINEAR, N, K, 1, LD_DTYPE_F32, true, &rng),
    };
    struct ld_weight_desc desc = part[0].desc;
    desc.part_count = 3;
    for (int i = 1; i < 3; i++) {
        desc.parts[i] = part[i].desc.parts[0];
        desc.bias[i] = part[i].desc.bias[0];
    }
    desc.parts[1].scale = 0.375f;
    float *x = random_buffer(ROWS * K, 1.0f, &rng);
    double expected[ROWS * 3 * N];
    for (int p = 0; p < 3; p++) {
        struct ld_linear op = {.x0 = x, .c0 = K, .rows = ROWS, .rows_per_image = ROWS};
        double one[ROWS * N];
        ref_linear(&op, &part[p], one);
        for (int i = 0; i < ROWS * N; i++)
            expected[i / N * 3 * N + p * N + i % N] = p == 1 ? one[i] * 0.375 : one[i];
    }
    for (size_t i = 0; i < LEVELS; i++) {
        struct ld_backend *backend = open_level(all_levels[i], 1);
        if (backend == NULL)
            continue;
        struct ld_weight *weight = NULL;
        struct ld_error err = {0};
        assert_int_equal(backend->ops->weight_create(backend, &desc, &weight, &err), LD_OK);
        float *y = guarded_alloc(ROWS * 3 * N);
        struct ld_linear op = {
            .x0 = x, .c0 = K, .rows = ROWS, .rows_per_image = ROWS, .weight = weight, .y = y};
        assert_int_equal(backend->ops->linear(backend, &op, &err), LD_OK);
        check(y, expected, ROWS * 3 * N, backend->description, "stacked parts");
        guarded_free(y);
        backend->ops->weight_destroy(backend, weight);
        backend->ops->destroy(backend);
    }
    guarded_free(x);
    for (int p = 0; p < 3; p++)
        free_weight(&part[p]);
}

/* A linear layer of one input: y[n] = x w[n] with nothing to round when x is 1. */
static void multiply_by_one(struct ld_backend *backend, enum ld_dtype dtype, const void *raw,
                            int32_t count, float *y)
{
    struct ld_weight_desc desc = {
        .kind = LD_WEIGHT_LINEAR, .rows = count, .k = 1, .kernel = 1, .part_count = 1};
    desc.parts[0] = (struct ld_weight_part){.data = raw, .dtype = dtype};
    struct ld_weight *weight = NULL;
    struct ld_error err = {0};
    assert_int_equal(backend->ops->weight_create(backend, &desc, &weight, &err), LD_OK);
    const float one = 1.0f;
    struct ld_linear op = {
        .x0 = &one, .c0 = 1, .rows = 1, .rows_per_image = 1, .weight = weight, .y = y};
    assert_int_equal(backend->ops->linear(backend, &op, &err), LD_OK);
    backend->ops->weight_destroy(backend, weight);
}

static void every_16_bit_weight_is_held_exactly(void **state)
{
    (void)state;
    enum { COUNT = 65536 };
    static const enum ld_dtype types[] = {LD_DTYPE_F16, LD_DTYPE_BF16};
    static uint16_t raw[COUNT];
    static float expected[COUNT];
    for (size_t i = 0; i < COUNT; i++)
        raw[i] = (uint16_t)i;
    float *y = guarded_alloc(COUNT);
    for (size_t l = 0; l < LEVELS; l++) {
        struct ld_backend *backend = open_level(all_levels[l], 2);
        for (size_t t = 0; backend != NULL && t < 2; t++) {
            ld_dtype_to_f32(expected, raw, types[t], COUNT);
            multiply_by_one(backend, types[t], raw, COUNT, y);
            for (size_t i = 0; i < COUNT; i++) {
                /* The tile unit takes float32 subnormals for zero. */
                bool tiny = fabsf(expected[i]) < 0x1p-126f;
                bool same = y[i] == expected[i] || (!isfinite(expected[i]) && !isfinite(y[i]));
                assert_true(same || (tiny && y[i] == 0.0f));
            }
        }
        if (backend != NULL)
            backend->ops->destroy(backend);
    }
    guarded_free(y);
}

static void a_weight_of_one_returns_every_input_exactly(void **state)
{
    (void)state;
    enum { COUNT = 50000 };
    struct rng rng = {5};
    const float one = 1.0f;
    struct ld_weight_desc desc = {
        .kind = LD_WEIGHT_LINEAR, .rows = 1, .k = 1, .kernel = 1, .part_count = 1};
    desc.parts[0] = (struct ld_weight_part){.data = &one, .dtype = LD_DTYPE_F32};
    float *x = guarded_alloc(COUNT);
    float *y = guarded_alloc(COUNT);
    for (size_t i = 0; i < COUNT; i++) {
        /* Any sign and fraction; exponents whose lowest term is still normal. */
        uint32_t bits = rng_bits(&rng) & 0x807FFFFFu;
        bits |= (uint32_t)rng_range(&rng, 26, 254) << 23;
        memcpy(&x[i], &bits, sizeof bits);
    }
    for (size_t l = 0; l < LEVELS; l++) {
        struct ld_backend *backend = open_level(all_levels[l], 2);
        if (backend == NULL)
            continue;
        struct ld_weight *weight = NULL;
        struct ld_error err = {0};
        assert_int_equal(backend->ops->weight_create(backend, &desc, &weight, &err), LD_OK);
        struct ld_linear op = {
            .x0 = x, .c0 = 1, .rows = COUNT, .rows_per_image = COUNT, .weight = weight, .y = y};
        assert_int_equal(backend->ops->linear(backend, &op, &err), LD_OK);
        assert_memory_equal(x, y, COUNT * sizeof *x);
        backend->ops->weight_destroy(backend, weight);
        backend->ops->destroy(backend);
    }
    guarded_free(x);
    guarded_free(y);
}

/* Types that need different storage, in either order: the wider one must win. */
static void mixed_parts_lose_nothing(void **state)
{
    (void)state;
    enum { N = 3 };
    const uint16_t half[N] = {0x3C01, 0x0001, 0x7BFF};  /* 11 significant bits, subnormal, top */
    const uint16_t brain[N] = {0x0080, 0x7F7F, 0x3F81}; /* outside float16's range */
    float expected[2 * N];
    ld_dtype_to_f32(expected, half, LD_DTYPE_F16, N);
    ld_dtype_to_f32(expected + N, brain, LD_DTYPE_BF16, N);
    for (size_t l = 0; l < LEVELS; l++) {
        struct ld_backend *backend = open_level(all_levels[l], 1);
        for (int order = 0; backend != NULL && order < 2; order++) {
            struct ld_weight_desc desc = {
                .kind = LD_WEIGHT_LINEAR, .rows = N, .k = 1, .kernel = 1, .part_count = 2};
            desc.parts[order] = (struct ld_weight_part){.data = half, .dtype = LD_DTYPE_F16};
            desc.parts[1 - order] = (struct ld_weight_part){.data = brain, .dtype = LD_DTYPE_BF16};
            struct ld_weight *weight = NULL;
            struct ld_error err = {0};
            assert_int_equal(backend->ops->weight_create(backend, &desc, &weight, &err), LD_OK);
            const float one = 1.0f;
            float y[2 * N];
            struct ld_linear op = {
                .x0 = &one, .c0 = 1, .rows = 1, .rows_per_image = 1, .weight = weight, .y = y};
            assert_int_equal(backend->ops->linear(backend, &op, &err), LD_OK);
            for (int i = 0; i < 2 * N; i++)
                assert_true(y[i] == expected[(i + order * N) % (2 * N)]);
            backend->ops->weight_destroy(backend, weight);
        }
        if (backend != NULL)
            backend->ops->destroy(backend);
    }
}

/* The longest sums of the network: 2560 channels under a 3x3 kernel. */
static void long_sums_keep_the_error_of_short_ones(void **state)
{
    (void)state;
    static const enum ld_dtype types[] = {LD_DTYPE_F16, LD_DTYPE_BF16, LD_DTYPE_F32};
    enum { SIDE = 3, C = 2560, N = 40, COUNT = SIDE * SIDE * N };
    struct rng rng = {4};
    float *x = random_buffer(SIDE * SIDE * C, 1.0f, &rng);
    for (size_t i = 0; i < SIDE * SIDE * C; i++)
        x[i] += 0.3f; /* a mean, as after SiLU: sums grow steadily */
    for (size_t t = 0; t < 3; t++) {
        struct test_weight w = make_weight(LD_WEIGHT_CONV, N, C, 3, types[t], true, &rng);
        struct ld_conv2d op = {.x0 = x,
                               .c0 = C,
                               .batch = 1,
                               .in_h = SIDE,
                               .in_w = SIDE,
                               .stride = 1,
                               .pad_before = 1,
                               .pad_after = 1};
        double expected[COUNT];
        ref_conv2d(&op, &w, expected);
        for (size_t i = 0; i < LEVELS; i++) {
            struct ld_backend *backend = open_level(all_levels[i], 2);
            if (backend == NULL)
                continue;
            struct ld_weight *weight = load_weight(backend, &w);
            float *y = guarded_alloc(COUNT);
            struct ld_error err = {0};
            op.weight = weight;
            op.y = y;
            assert_int_equal(backend->ops->conv2d(backend, &op, &err), LD_OK);
            check(y, expected, COUNT, backend->description, "a long sum");
            guarded_free(y);
            backend->ops->weight_destroy(backend, weight);
            backend->ops->destroy(backend);
        }
        free_weight(&w);
    }
    guarded_free(x);
}

/* Rows as wide as the scratch allows run; one more column is refused, not an abort. */
static void rows_wider_than_the_scratch_are_refused(void **state)
{
    (void)state;
    enum { C = 512, WIDEST = (3 << 19) / (C + 31) - 2, N = 1 };
    struct rng rng = {6};
    struct test_weight w = make_weight(LD_WEIGHT_CONV, N, C, 3, LD_DTYPE_F16, false, &rng);
    float *x = random_buffer(2 * WIDEST * C, 1.0f, &rng);
    float *y = guarded_alloc(2 * WIDEST * N);
    double expected[(WIDEST + 1) / 2];
    for (size_t l = 1; l < LEVELS; l++) {
        struct ld_backend *backend = open_level(all_levels[l], 2);
        if (backend == NULL)
            continue;
        struct ld_weight *weight = load_weight(backend, &w);
        struct ld_error err = {0};
        struct ld_conv2d op = {.x0 = x,
                               .c0 = C,
                               .batch = 1,
                               .in_h = 2,
                               .in_w = WIDEST,
                               .stride = 2,
                               .pad_before = 1,
                               .pad_after = 1,
                               .weight = weight,
                               .y = y};
        ref_conv2d(&op, &w, expected);
        assert_int_equal(backend->ops->conv2d(backend, &op, &err), LD_OK);
        assert_true(relative_l2(y, expected, (WIDEST + 1) / 2) <= TOLERANCE);
        op.stride = 1;
        assert_int_equal(backend->ops->conv2d(backend, &op, &err), LD_OK);
        assert_true(guards_intact(y, 2 * WIDEST * N));
        op.in_w++;
        assert_int_equal(backend->ops->conv2d(backend, &op, &err), LD_E_SHAPE);
        backend->ops->weight_destroy(backend, weight);
        backend->ops->destroy(backend);
    }
    guarded_free(x);
    guarded_free(y);
    free_weight(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(convolutions_match_float64),
        cmocka_unit_test(linear_layers_match_float64),
        cmocka_unit_test(stacked_parts_keep_their_own_type_scale_and_bias),
        cmocka_unit_test(every_16_bit_weight_is_held_exactly),
        cmocka_unit_test(a_weight_of_one_returns_every_input_exactly),
        cmocka_unit_test(mixed_parts_lose_nothing),
        cmocka_unit_test(rows_wider_than_the_scratch_are_refused),
        cmocka_unit_test(long_sums_keep_the_error_of_short_ones),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
