/*
 * Proves that attention of every CPU level is within float32 rounding of a float64 form: all head
 * widths, causal, key counts, strided slices, large logits, keys in chunks. Works on random shapes
 * between guards.
 */
#include "cpu_reference.h"

enum { CASES = 40 };

/* Measured below 4e-7 for ordinary logits. */
static const double TOLERANCE = 1e-6;

static void compare_levels(struct ld_attention *op, const double *expected, double tolerance,
                           const char *what)
{
    int32_t width = op->heads * op->head_dim;
    size_t rows = (size_t)op->batch * (size_t)op->q_rows;
    size_t count = rows * (size_t)op->o_stride;
    float *dense = ld_heap_calloc(rows * (size_t)width, sizeof *dense);
    assert_non_null(dense);
    for (size_t i = 0; i < LEVELS; i++) {
        struct ld_backend *backend = open_level(all_levels[i], 2);
        if (backend == NULL)
            continue;
        float *o = guarded_alloc(count);
        struct ld_error err = {0};
        op->o = o;
        assert_int_equal(backend->ops->attention(backend, op, &err), LD_OK);
        for (size_t r = 0; r < rows; r++) {
            memcpy(dense + r * (size_t)width, o + r * (size_t)op->o_stride,
                   (size_t)width * sizeof *dense);
            for (int32_t c = width; c < op->o_stride; c++) /* between the rows nothing is written */
                assert_true(o[r * (size_t)op->o_stride + (size_t)c] == 12345.5f);
        }
        double error = relative_l2(dense, expected, rows * (size_t)width);
        if (error > tolerance)
            print_message("%s on %s: d %d, relative error %.3g\n", what, backend->description,
                          op->head_dim, error);
        assert_true(error <= tolerance);
        assert_true(guards_intact(o, count));
        guarded_free(o);
        backend->ops->destroy(backend);
    }
    ld_heap_free(dense);
}

static void one_case(struct rng *rng, int32_t head_dim, float logit)
{
    struct ld_attention op = {.batch = rng_range(rng, 1, 3),
                              .q_rows = rng_range(rng, 1, 90),
                              .kv_rows = rng_range(rng, 1, 600),
                              .heads = rng_range(rng, 1, 3),
                              .head_dim = head_dim,
                              .scale = 1.0f / sqrtf((float)head_dim)};
    if (head_dim > 200)
        op.kv_rows = rng_range(rng, 1, 150);
    int32_t width = op.heads * head_dim;
    op.q_stride = width + rng_range(rng, 0, 5);
    op.k_stride = width + rng_range(rng, 0, 5);
    op.v_stride = width + rng_range(rng, 0, 5);
    op.o_stride = width + rng_range(rng, 0, 5);
    op.causal = rng_bits(rng) % 3 == 0;
    int32_t kv_len[3];
    for (int i = 0; i < 3; i++)
        kv_len[i] = rng_range(rng, 1, op.kv_rows);
    op.kv_len = rng_bits(rng) % 2 ? kv_len : NULL;
    float *q = random_buffer((size_t)(op.batch * op.q_rows * op.q_stride), logit, rng);
    float *k = random_buffer((size_t)(op.batch * op.kv_rows * op.k_stride), 1.0f, rng);
    float *v = random_buffer((size_t)(op.batch * op.kv_rows * op.v_stride), 1.0f, rng);
    op.q = q;
    op.k = k;
    op.v = v;
    double *expected = ld_heap_calloc((size_t)(op.batch * op.q_rows * width), sizeof *expected);
    assert_non_null(expected);
    ref_attention(&op, expected);
    /* Scores carry the rounding of float32 relative to their size, and exp turns it into weight. */
    compare_levels(&op, expected, TOLERANCE * (double)(logit > 1.0f ? logit : 1.0f), "attention");
    ld_heap_free(expected);
    guarded_free(q);
    guarded_free(k);
    guarded_free(v);
}

static void attention_matches_float64(void **state)
{
    (void)state;
    static const int32_t widths[] = {16, 40, 64, 80, 160, 512, 1, 33, 100};
    struct rng rng = {11};
    for (int i = 0; i < CASES; i++)
        one_case(&rng, widths[(size_t)i % (sizeof widths / sizeof widths[0])], 1.0f);
}

static void large_logits_stay_exact(void **state)
{
    (void)state;
    struct rng rng = {12};
    for (int i = 0; i < 6; i++)
        one_case(&rng, i % 2 ? 40 : 64, 12.0f);
}

/* Two heads of 512 over so many keys that they are taken in chunks; a few queries only. */
static void keys_beyond_the_scratch_are_taken_in_chunks(void **state)
{
    (void)state;
    struct rng rng = {13};
    enum { KEYS = 24000, D = 512, QUERIES = 5 };
    struct ld_attention op = {.batch = 1,
                              .q_rows = QUERIES,
                              .kv_rows = KEYS,
                              .heads = 1,
                              .head_dim = D,
                              .scale = 0.044f,
                              .q_stride = D,
                              .k_stride = D,
                              .v_stride = D,
                              .o_stride = D};
    float *q = random_buffer(QUERIES * D, 1.0f, &rng);
    float *k = random_buffer(KEYS * D, 1.0f, &rng);
    op.q = q;
    op.k = k;
    op.v = k;
    double *expected = ld_heap_calloc(QUERIES * D, sizeof *expected);
    assert_non_null(expected);
    ref_attention(&op, expected);
    compare_levels(&op, expected, 4 * TOLERANCE, "attention in chunks");
    ld_heap_free(expected);
    guarded_free(q);
    guarded_free(k);
}

static void unusable_key_counts_are_refused(void **state)
{
    (void)state;
    struct ld_backend *backend = open_level(LD_CPU_AUTO, 1);
    float x[8] = {0};
    int32_t kv_len[1] = {0};
    struct ld_attention op = {.q = x,
                              .k = x,
                              .v = x,
                              .o = x + 4,
                              .batch = 1,
                              .q_rows = 1,
                              .kv_rows = 1,
                              .q_stride = 4,
                              .k_stride = 4,
                              .v_stride = 4,
                              .o_stride = 4,
                              .heads = 1,
                              .head_dim = 4,
                              .scale = 1.0f,
                              .kv_len = kv_len};
    struct ld_error err = {0};
    assert_int_equal(backend->ops->attention(backend, &op, &err), LD_E_SHAPE);
    kv_len[0] = 2;
    assert_int_equal(backend->ops->attention(backend, &op, &err), LD_E_SHAPE);
    kv_len[0] = 1;
    assert_int_equal(backend->ops->attention(backend, &op, &err), LD_OK);
    backend->ops->destroy(backend);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(attention_matches_float64),
        cmocka_unit_test(large_logits_stay_exact),
        cmocka_unit_test(keys_beyond_the_scratch_are_taken_in_chunks),
        cmocka_unit_test(unusable_key_counts_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
