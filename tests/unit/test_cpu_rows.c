/*
 * Proves that the decoder's products of every CPU level are within float32 rounding of a float64
 * form, that no value depends on how many rows and outputs a call has, and that a row that is not a
 * number stays alone. Works on random odd shapes between guards.
 */
#include "kernels/rows.h"

#include "cpu_reference.h"

enum { CASES = 40 };

static const double TOLERANCE = 6e-7;

static const struct ld_row_kernels *kernels_of(enum ld_cpu_level level)
{
    const struct ld_row_kernels *kernels;
    struct ld_error err = {0};
    const enum ld_code code = ld_row_kernels_choose(&kernels, level, &err);
    assert_true(code == LD_OK || code == LD_E_UNSUPPORTED);
    assert_int_equal(code == LD_OK, kernels != NULL);
    return kernels;
}

static uint16_t *random_half(size_t count, struct rng *rng)
{
    uint16_t *half = ld_heap_calloc(count + 1, sizeof *half);
    assert_non_null(half);
    for (size_t i = 0; i < count; i++)
        half[i] = ld_f16_from_f32(rng_normal(rng));
    return half;
}

static double *reference_product(const struct ld_half_product *op)
{
    double *y =
        ld_heap_calloc((size_t)op->rows * op->y_stride + 1, sizeof *y); /* gaps between rows: 0 */
    assert_non_null(y);
    for (int32_t r = 0; r < op->rows; r++)
        for (int32_t n = 0; n < op->outputs; n++)
            for (int32_t k = 0; k < op->k; k++)
                y[(size_t)r * op->y_stride + (size_t)n] +=
                    (double)op->x[(size_t)r * op->x_stride + (size_t)k] *
                    (double)ld_f16_to_f32(op->w[(size_t)n * (size_t)op->k + (size_t)k]);
    return y;
}

/* Every row by itself, the outputs in pieces of 1, 2, 3, ...: the same bits. */
static void check_cuts(const struct ld_row_kernels *kernels, const struct ld_half_product *op)
{
    float *y = guarded_alloc((size_t)op->rows * op->y_stride);
    for (int32_t r = 0; r < op->rows; r++) {
        for (int32_t first = 0, piece = 1; first < op->outputs; first += piece++) {
            struct ld_half_product part = *op;
            part.rows = 1;
            part.x = op->x + (size_t)r * op->x_stride;
            part.w = op->w + (size_t)first * (size_t)op->k;
            part.y = y + (size_t)r * op->y_stride + first;
            part.outputs = op->outputs - first < piece ? op->outputs - first : piece;
            kernels->product(&part);
        }
        assert_memory_equal(y + (size_t)r * op->y_stride, op->y + (size_t)r * op->y_stride,
                            (size_t)op->outputs * sizeof *y);
    }
    guarded_free(y);
}

static void one_product(struct rng *rng, int32_t k)
{
    struct ld_half_product op = {
        .rows = rng_range(rng, 1, 11), .k = k, .outputs = rng_range(rng, 1, 40)};
    op.x_stride = (size_t)(k + rng_range(rng, 0, 3));
    op.y_stride = (size_t)(op.outputs + rng_range(rng, 0, 3));
    float *x = random_buffer((size_t)op.rows * op.x_stride, 1.0f, rng);
    uint16_t *w = random_half((size_t)op.outputs * (size_t)k, rng);
    op.x = x;
    op.w = w;
    double *expected = reference_product(&op);
    for (size_t i = 0; i < LEVELS; i++) {
        const struct ld_row_kernels *kernels = kernels_of(all_levels[i]);
        if (kernels == NULL)
            continue;
        const size_t count = (size_t)op.rows * op.y_stride;
        op.y = guarded_alloc(count);
        for (size_t j = 0; j < count; j++)
            op.y[j] = 0.0f;
        kernels->product(&op);
        const double error = relative_l2(op.y, expected, count);
        if (error > TOLERANCE)
            print_message("product on %s, k %d: relative error %.3g\n", kernels->name, k, error);
        assert_true(error <= TOLERANCE);
        assert_true(guards_intact(op.y, count));
        check_cuts(kernels, &op);
        guarded_free(op.y);
    }
    ld_heap_free(expected);
    ld_heap_free(w);
    guarded_free(x);
}

static void products_match_float64_however_they_are_cut(void **state)
{
    (void)state;
    struct rng rng = {11};
    for (int i = 0; i < CASES; i++)
        one_product(&rng, rng_range(&rng, 1, 150));
    for (int32_t k = 1; k <= 70; k++)
        one_product(&rng, k);
    one_product(&rng, 5000); /* many chunks of the matrix */
}

static void a_row_without_numbers_stays_alone(void **state)
{
    (void)state;
    enum { ROWS = 7, K = 45, OUTPUTS = 9 };
    struct rng rng = {12};
    float *x = random_buffer((size_t)ROWS * K, 1.0f, &rng);
    uint16_t *w = random_half((size_t)OUTPUTS * K, &rng);
    for (size_t i = 0; i < LEVELS; i++) {
        const struct ld_row_kernels *kernels = kernels_of(all_levels[i]);
        if (kernels == NULL)
            continue;
        for (int32_t bad = 0; bad < ROWS; bad++) {
            float y[ROWS * OUTPUTS];
            const float kept = x[bad * K + K - 1];
            x[bad * K + K - 1] = NAN;
            kernels->product(&(struct ld_half_product){.x = x,
                                                       .x_stride = K,
                                                       .rows = ROWS,
                                                       .w = w,
                                                       .k = K,
                                                       .y = y,
                                                       .y_stride = OUTPUTS,
                                                       .outputs = OUTPUTS});
            x[bad * K + K - 1] = kept;
            for (int32_t j = 0; j < ROWS * OUTPUTS; j++)
                assert_int_equal(isnan(y[j]) != 0, j / OUTPUTS == bad);
        }
    }
    ld_heap_free(w);
    guarded_free(x);
}

static void one_attention(struct rng *rng)
{
    const int32_t count = rng_range(rng, 1, 60);
    const int32_t width = rng_range(rng, 1, 150);
    const size_t total = (size_t)count * (size_t)width;
    float *q = random_buffer((size_t)width, 1.0f, rng);
    float *keys = random_buffer(total, 1.0f, rng);
    float *weights = random_buffer((size_t)count, 1.0f, rng);
    double *scores = ld_heap_calloc((size_t)count, sizeof *scores);
    double *mixed = ld_heap_calloc((size_t)width, sizeof *mixed);
    assert_true(scores != NULL && mixed != NULL);
    for (int32_t j = 0; j < count; j++)
        for (int32_t d = 0; d < width; d++) {
            const double key = (double)keys[(size_t)j * (size_t)width + (size_t)d];
            scores[j] += 0.125 * (double)q[d] * key;
            mixed[d] += (double)weights[j] * key;
        }
    for (size_t i = 0; i < LEVELS; i++) {
        const struct ld_row_kernels *kernels = kernels_of(all_levels[i]);
        if (kernels == NULL)
            continue;
        float *y = guarded_alloc((size_t)count);
        kernels->scores(y, q, keys, count, width, 0.125f);
        /* A sum near zero of few terms has a large relative error: measured as a whole, width > 1.
         */
        assert_true(relative_l2(y, scores, (size_t)count) <= TOLERANCE * (count < 4 ? 50 : 4));
        assert_true(guards_intact(y, (size_t)count));
        guarded_free(y);
        y = guarded_alloc((size_t)width);
        kernels->mix(y, weights, keys, count, width);
        assert_true(relative_l2(y, mixed, (size_t)width) <= TOLERANCE * (width < 4 ? 50 : 4));
        assert_true(guards_intact(y, (size_t)width));
        guarded_free(y);
    }
    ld_heap_free(scores);
    ld_heap_free(mixed);
    guarded_free(q);
    guarded_free(keys);
    guarded_free(weights);
}

static void attention_matches_float64(void **state)
{
    (void)state;
    struct rng rng = {13};
    for (int i = 0; i < 4 * CASES; i++)
        one_attention(&rng);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_match_float64_however_they_are_cut),
        cmocka_unit_test(a_row_without_numbers_stays_alone),
        cmocka_unit_test(attention_matches_float64),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
