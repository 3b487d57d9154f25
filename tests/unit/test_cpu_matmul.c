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

static struct ld_weight_desc stack_of(const struct test_weight *parts, uint32_t count)
{
    struct ld_weight_desc desc = parts[0].desc;
    desc.part_count = count;
    desc.rows = 0;
    for (uint32_t p = 0; p < count; p++) {
        desc.parts[p] = parts[p].desc.parts[0];
        desc.parts[p].rows = parts[p].desc.rows;
        desc.bias[p] = parts[p].desc.bias[0];
        desc.rows += parts[p].desc.rows;
    }
    return desc;
}

/* Parts of different widths, types, scales and biases, stacked. */
static void stacked_parts_keep_their_own_type_scale_and_bias(void **state)
{
    (void)state;
    struct rng rng = {3};
    enum { ROWS = 21, N = 3 * 24, K = 70 };
    static const int32_t widths[3] = {24, 1, 47};
    struct test_weight part[3] = {
        make_weight(LD_WEIGHT_LINEAR, widths[0], K, 1, LD_DTYPE_F16, true, &rng),
        make_weight(LD_WEIGHT_LINEAR, widths[1], K, 1, LD_DTYPE_F8_E4M3, false, &rng),
        make_weight(LD_WEIGHT_LINEAR, widths[2], K, 1, LD_DTYPE_F32, true, &rng),
    };
    struct ld_weight_desc desc = stack_of(part, 3);
    desc.parts[1].scale = 0.375f;
    float *x = random_buffer(ROWS * K, 1.0f, &rng);
    double expected[ROWS * N];
    int32_t first = 0;
    for (int p = 0; p < 3; p++) {
        struct ld_linear op = {.x0 = x, .c0 = K, .rows = ROWS, .rows_per_image = ROWS};
        double one[ROWS * 47];
        ref_linear(&op, &part[p], one);
        for (int32_t i = 0; i < ROWS * widths[p]; i++)
            expected[i / widths[p] * N + first + i % widths[p]] = p == 1 ? one[i] * 0.375 : one[i];
        first += widths[p];
    }
    for (size_t i = 0; i < LEVELS; i++) {
        struct ld_backend *backend = open_level(all_levels[i], 1);
        if (backend == NULL)
            continue;
        struct ld_weight *weight = NULL;
        struct ld_error err = {0};
        assert_int_equal(backend->ops->weight_create(backend, &desc, &weight, &err), LD_OK);
        float *y = guarded_alloc(ROWS * N);
        struct ld_linear op = {
            .x0 = x, .c0 = K, .rows = ROWS, .rows_per_image = ROWS, .weight = weight, .y = y};
        assert_int_equal(backend->ops->linear(backend, &op, &err), LD_OK);
        check(y, expected, ROWS * N, backend->description, "stacked parts");
        guarded_free(y);
        backend->ops->weight_destroy(backend, weight);
        backend->ops->destroy(backend);
    }
    guarded_free(x);
    for (int p = 0; p < 3; p++)
        free_weight(&part[p]);
}

/* y[rows, weight's rows] of x[rows, k]. */
static void multiply(struct ld_backend *backend, const struct ld_weight_desc *desc, const float *x,
                     int32_t rows, float *y)
{
    struct ld_weight *weight = NULL;
    struct ld_error err = {0};
    assert_int_equal(backend->ops->weight_create(backend, desc, &weight, &err), LD_OK);
    const struct ld_linear op = {
        .x0 = x, .c0 = desc->k, .rows = rows, .rows_per_image = 1, .weight = weight, .y = y};
    assert_int_equal(backend->ops->linear(backend, &op, &err), LD_OK);
    backend->ops->weight_destroy(backend, weight);
}

/* The timestep projections of a UNet: many parts, one to three rows of the batch. */
static void a_stack_gives_each_part_the_bits_that_it_has_alone(void **state)
{
    (void)state;
    struct rng rng = {21};
    enum { PARTS = 22, WIDTH_MAX = 60, K = 150, ROWS_MAX = 3 };
    struct test_weight parts[PARTS];
    for (int p = 0; p < PARTS; p++)
        parts[p] = make_weight(LD_WEIGHT_LINEAR, rng_range(&rng, 1, WIDTH_MAX), K, 1, LD_DTYPE_F16,
                               p % 5 > 0, &rng);
    const struct ld_weight_desc desc = stack_of(parts, PARTS);
    float *x = random_buffer(ROWS_MAX * K, 1.0f, &rng);
    float *y = guarded_alloc((size_t)(ROWS_MAX * desc.rows));
    float one[ROWS_MAX * WIDTH_MAX];
    for (size_t i = 0; i < LEVELS; i++) {
        struct ld_backend *backend = open_level(all_levels[i], 2);
        for (int32_t rows = 1; backend != NULL && rows <= ROWS_MAX; rows++) {
            int32_t first = 0;
            multiply(backend, &desc, x, rows, y);
            for (int p = 0; p < PARTS; first += parts[p++].desc.rows) {
                const int32_t width = parts[p].desc.rows;
                multiply(backend, &parts[p].desc, x, rows, one);
                for (int32_t r = 0; r < rows; r++)
                    assert_memory_equal(y + r * desc.rows + first, one + r * width,
                                        (size_t)width * sizeof *y);
            }
        }
        if (backend != NULL)
            backend->ops->destroy(backend);
    }
    guarded_free(y);
    guarded_free(x);
    for (int p = 0; p < PARTS; p++)
        free_weight(&parts[p]);
}

static void parts_that_do_not_make_up_the_weight_are_refused(void **state)
{
    (void)state;
    static const int32_t wrong[][3] = {{8, 8, 7}, {8, 8, 9}, {24, 0, 0}, {32, -16, 8}, {0, 0, 0}};
    struct rng rng = {22};
    struct test_weight part = make_weight(LD_WEIGHT_LINEAR, 8, 5, 1, LD_DTYPE_F32, false, &rng);
    struct ld_backend *backend = open_level(LD_CPU_GENERIC, 1);
    const struct test_weight parts[3] = {part, part, part};
    struct ld_weight *weight = NULL;
    struct ld_error err = {0};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct ld_weight_desc desc = stack_of(parts, 3);
        for (int p = 0; p < 3; p++)
            desc.parts[p].rows = wrong[i][p];
        assert_int_equal(backend->ops->weight_create(backend, &desc, &weight, &err), LD_E_SHAPE);
        assert_null(weight);
    }
    struct ld_weight_desc many = stack_of(parts, 3);
    many.part_count = LD_WEIGHT_PARTS_MAX + 1;
    assert_int_equal(backend->ops->weight_create(backend, &many, &weight, &err), LD_E_SHAPE);
    assert_non_null(strstr(err.detail, "between 1 and 42 parts"));
    backend->ops->destroy(backend);
    free_weight(&part);
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
                .kind = LD_WEIGHT_LINEAR, .rows = 2 * N, .k = 1, .kernel = 1, .part_count = 2};
            desc.parts[order] =
                (struct ld_weight_part){.data = half, .dtype = LD_DTYPE_F16, .rows = N};
            desc.parts[1 - order] =
                (struct ld_weight_part){.data = brain, .dtype = LD_DTYPE_BF16, .rows = N};
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
        cmocka_unit_test(a_stack_gives_each_part_the_bits_that_it_has_alone),
        cmocka_unit_test(parts_that_do_not_make_up_the_weight_are_refused),
        cmocka_unit_test(every_16_bit_weight_is_held_exactly),
        cmocka_unit_test(a_weight_of_one_returns_every_input_exactly),
        cmocka_unit_test(mixed_parts_lose_nothing),
        cmocka_unit_test(rows_wider_than_the_scratch_are_refused),
        cmocka_unit_test(long_sums_keep_the_error_of_short_ones),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
