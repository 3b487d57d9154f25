/*
 * Proves that a result row is a pure function of its own image: the same bits alone or in a batch,
 * at any place in it, on 1, 2 or 4 threads, and for a row whatever its neighbours hold. Works on
 * random shapes at every level.
 */
#include "cpu_reference.h"

enum { BATCH = 3, ROUNDS = 12 };

static const uint32_t thread_counts[] = {1, 2, 4};

/* Run `op` on a backend of the level with some threads; the operator's y is set by the caller. */
struct machine {
    struct ld_backend *backend[3];
};

static bool open_machine(struct machine *m, enum ld_cpu_level level)
{
    for (size_t i = 0; i < 3; i++) {
        m->backend[i] = open_level(level, thread_counts[i]);
        if (m->backend[i] == NULL)
            return false;
    }
    return true;
}

static void close_machine(struct machine *m)
{
    for (size_t i = 0; i < 3; i++)
        m->backend[i]->ops->destroy(m->backend[i]);
}

static void assert_same_bits(const float *a, const float *b, size_t count)
{
    assert_memory_equal(a, b, count * sizeof *a);
}

static enum ld_dtype some_type(struct rng *rng)
{
    static const enum ld_dtype types[] = {LD_DTYPE_F16, LD_DTYPE_BF16, LD_DTYPE_F32};
    return types[rng_bits(rng) % 3];
}

/* ---- Convolution ----------------------------------------------------------------------------- */

static void conv_round(struct machine *m, struct rng *rng)
{
    struct ld_conv2d op = {.batch = BATCH,
                           .in_h = rng_range(rng, 3, 24),
                           .in_w = rng_range(rng, 3, 40),
                           .c0 = rng_range(rng, 1, 100),
                           .stride = rng_range(rng, 1, 2),
                           .pad_before = 1,
                           .pad_after = 1};
    op.c1 = rng_bits(rng) % 2 ? rng_range(rng, 1, 64) : 0;
    int32_t rows = rng_range(rng, 1, 100);
    struct test_weight w =
        make_weight(LD_WEIGHT_CONV, rows, op.c0 + op.c1, 3, some_type(rng), true, rng);
    size_t pixels = (size_t)(op.in_h * op.in_w);
    size_t out = (size_t)ref_out_side(op.in_h, 0, &op, 3) *
                 (size_t)ref_out_side(op.in_w, 0, &op, 3) * (size_t)rows;
    size_t in0 = pixels * (size_t)op.c0;
    size_t in1 = pixels * (size_t)op.c1;
    float *x0 = random_buffer(BATCH * in0, 1.0f, rng);
    float *x1 = random_buffer(BATCH * in1 + 1, 1.0f, rng);
    float *row_add = random_buffer((size_t)(BATCH * rows), 1.0f, rng);
    float *together = guarded_alloc(BATCH * out);
    float *alone = guarded_alloc(out);
    struct ld_error err = {0};
    for (size_t t = 0; t < 3; t++) {
        struct ld_backend *backend = m->backend[t];
        struct ld_weight *weight = load_weight(backend, &w);
        struct ld_conv2d all = op;
        all.weight = weight;
        all.x0 = x0;
        all.x1 = op.c1 > 0 ? x1 : NULL;
        all.row_add = row_add;
        all.row_add_stride = rows;
        all.y = together;
        if (t == 0)
            assert_int_equal(backend->ops->conv2d(backend, &all, &err), LD_OK);
        for (size_t b = 0; b < BATCH; b++) {
            struct ld_conv2d one = all;
            one.batch = 1;
            one.x0 = x0 + b * in0;
            one.x1 = op.c1 > 0 ? x1 + b * in1 : NULL;
            one.row_add = row_add + b * (size_t)rows;
            one.y = alone;
            assert_int_equal(backend->ops->conv2d(backend, &one, &err), LD_OK);
            assert_same_bits(alone, together + b * out, out);
        }
        backend->ops->weight_destroy(backend, weight);
    }
    guarded_free(x0);
    guarded_free(x1);
    guarded_free(row_add);
    guarded_free(together);
    guarded_free(alone);
    free_weight(&w);
}

/* ---- Linear: rows moved to other places among other neighbours ------------------------------- */

static void linear_round(struct machine *m, struct rng *rng)
{
    bool geglu = rng_bits(rng) % 2;
    int32_t k = rng_range(rng, 1, 700);
    int32_t n = rng_range(rng, 1, 90);
    int32_t rows = rng_range(rng, 1, 150);
    struct test_weight w = make_weight(geglu ? LD_WEIGHT_GEGLU : LD_WEIGHT_LINEAR,
                                       geglu ? 2 * n : n, k, 1, some_type(rng), true, rng);
    float *x = random_buffer((size_t)(rows * k), 1.0f, rng);
    float *moved = random_buffer((size_t)((rows + 20) * k), 1.0f, rng);
    float *y = guarded_alloc((size_t)(rows * n));
    float *z = guarded_alloc((size_t)((rows + 20) * n));
    /* Row r goes to place rows - 1 - r + shift; what stands before it may be NaN. */
    int32_t shift = rng_range(rng, 0, 20);
    for (int32_t i = 0; i < shift * k; i++)
        moved[i] = NAN;
    for (int32_t r = 0; r < rows; r++)
        memcpy(moved + (size_t)((rows - 1 - r + shift) * k), x + (size_t)(r * k),
               (size_t)k * sizeof *x);
    struct ld_error err = {0};
    for (size_t t = 0; t < 3; t++) {
        struct ld_backend *backend = m->backend[t];
        struct ld_weight *weight = load_weight(backend, &w);
        struct ld_linear op = {.x0 = x,
                               .c0 = k,
                               .rows = rows,
                               .rows_per_image = rows,
                               .weight = weight,
                               .y = y,
                               .activation = geglu ? LD_ACT_GEGLU : LD_ACT_SILU};
        if (t == 0)
            assert_int_equal(backend->ops->linear(backend, &op, &err), LD_OK);
        op.rows = op.rows_per_image = rows + 20;
        op.x0 = moved;
        op.y = z;
        assert_int_equal(backend->ops->linear(backend, &op, &err), LD_OK);
        for (int32_t r = 0; r < rows; r++)
            assert_same_bits(z + (size_t)((rows - 1 - r + shift) * n), y + (size_t)(r * n),
                             (size_t)n);
        backend->ops->weight_destroy(backend, weight);
    }
    guarded_free(x);
    guarded_free(moved);
    guarded_free(y);
    guarded_free(z);
    free_weight(&w);
}

/* ---- Attention ------------------------------------------------------------------------------- */

static void attention_round(struct machine *m, struct rng *rng)
{
    static const int32_t widths[] = {16, 40, 64, 80, 160, 33, 320};
    struct ld_attention op = {.batch = BATCH,
                              .q_rows = rng_range(rng, 1, 300),
                              .kv_rows = rng_range(rng, 1, 400),
                              .heads = rng_range(rng, 1, 3),
                              .head_dim = widths[rng_bits(rng) % 7],
                              .scale = 0.15f,
                              .causal = rng_bits(rng) % 2};
    int32_t width = op.heads * op.head_dim;
    op.q_stride = op.k_stride = op.v_stride = op.o_stride = width;
    int32_t kv_len[BATCH];
    for (int i = 0; i < BATCH; i++)
        kv_len[i] = rng_range(rng, 1, op.kv_rows);
    size_t nq = (size_t)(op.q_rows * width);
    size_t nk = (size_t)(op.kv_rows * width);
    float *q = random_buffer(BATCH * nq, 1.0f, rng);
    float *k = random_buffer(BATCH * nk, 1.0f, rng);
    float *v = random_buffer(BATCH * nk, 1.0f, rng);
    float *together = guarded_alloc(BATCH * nq);
    float *alone = guarded_alloc(nq);
    struct ld_error err = {0};
    for (size_t t = 0; t < 3; t++) {
        struct ld_backend *backend = m->backend[t];
        struct ld_attention all = op;
        all.q = q;
        all.k = k;
        all.v = v;
        all.kv_len = kv_len;
        all.o = together;
        if (t == 0)
            assert_int_equal(backend->ops->attention(backend, &all, &err), LD_OK);
        for (size_t b = 0; b < BATCH; b++) {
            struct ld_attention one = all;
            one.batch = 1;
            one.q = q + b * nq;
            one.k = k + b * nk;
            one.v = v + b * nk;
            one.kv_len = kv_len + b;
            one.o = alone;
            assert_int_equal(backend->ops->attention(backend, &one, &err), LD_OK);
            assert_same_bits(alone, together + b * nq, nq);
        }
    }
    guarded_free(q);
    guarded_free(k);
    guarded_free(v);
    guarded_free(together);
    guarded_free(alone);
}

/* ---- Norms ----------------------------------------------------------------------------------- */

static void norm_round(struct machine *m, struct rng *rng)
{
    int32_t groups = rng_range(rng, 1, 32);
    int32_t channels = groups * rng_range(rng, 1, 5);
    int32_t positions = rng_range(rng, 1, 900);
    size_t count = (size_t)(channels * positions);
    struct test_weight g = make_weight(LD_WEIGHT_VECTOR, channels, 1, 1, LD_DTYPE_F32, false, rng);
    float *x = random_buffer(BATCH * count, 1.0f, rng);
    float *together = guarded_alloc(BATCH * count);
    float *alone = guarded_alloc(count);
    struct ld_error err = {0};
    for (size_t t = 0; t < 3; t++) {
        struct ld_backend *backend = m->backend[t];
        struct ld_weight *gamma = load_weight(backend, &g);
        struct ld_group_norm all = {.x0 = x,
                                    .c0 = channels,
                                    .batch = BATCH,
                                    .positions = positions,
                                    .groups = groups,
                                    .epsilon = 1e-5f,
                                    .silu = true,
                                    .gamma = gamma,
                                    .beta = gamma,
                                    .y = together};
        if (t == 0)
            assert_int_equal(backend->ops->group_norm(backend, &all, &err), LD_OK);
        for (size_t b = 0; b < BATCH; b++) {
            struct ld_group_norm one = all;
            one.batch = 1;
            one.x0 = x + b * count;
            one.y = alone;
            assert_int_equal(backend->ops->group_norm(backend, &one, &err), LD_OK);
            assert_same_bits(alone, together + b * count, count);
        }
        backend->ops->weight_destroy(backend, gamma);
    }
    guarded_free(x);
    guarded_free(together);
    guarded_free(alone);
    free_weight(&g);
}

/* ---- Inputs larger than one chunk, which threads cut in different places --------------------- */

static void chunk_round(struct machine *m, struct rng *rng)
{
    enum { ROWS = 3000, K = 320, N = 40, H = 60, W = 150, C = 96 };
    struct test_weight dense = make_weight(LD_WEIGHT_LINEAR, N, K, 1, some_type(rng), true, rng);
    struct test_weight conv = make_weight(LD_WEIGHT_CONV, N, C, 3, some_type(rng), true, rng);
    float *x = random_buffer(ROWS * K, 1.0f, rng);
    float *first[2] = {guarded_alloc(ROWS * N), guarded_alloc(H * W * N)};
    float *y = guarded_alloc(H * W * N);
    struct ld_error err = {0};
    for (size_t t = 0; t < 3; t++) {
        struct ld_backend *backend = m->backend[t];
        struct ld_weight *w = load_weight(backend, &dense);
        struct ld_linear linear = {.x0 = x,
                                   .c0 = K,
                                   .rows = ROWS,
                                   .rows_per_image = ROWS,
                                   .weight = w,
                                   .y = t == 0 ? first[0] : y};
        assert_int_equal(backend->ops->linear(backend, &linear, &err), LD_OK);
        if (t > 0)
            assert_same_bits(y, first[0], ROWS * N);
        backend->ops->weight_destroy(backend, w);
        w = load_weight(backend, &conv);
        struct ld_conv2d map = {.x0 = x,
                                .c0 = C,
                                .batch = 1,
                                .in_h = H,
                                .in_w = W,
                                .stride = 1,
                                .pad_before = 1,
                                .pad_after = 1,
                                .weight = w,
                                .y = t == 0 ? first[1] : y};
        assert_int_equal(backend->ops->conv2d(backend, &map, &err), LD_OK);
        if (t > 0)
            assert_same_bits(y, first[1], H * W * N);
        backend->ops->weight_destroy(backend, w);
    }
    guarded_free(x);
    guarded_free(y);
    guarded_free(first[0]);
    guarded_free(first[1]);
    free_weight(&dense);
    free_weight(&conv);
}

/* ---- Rounds at every level ------------------------------------------------------------------- */

static void at_every_level(void (*round)(struct machine *, struct rng *), uint64_t seed)
{
    for (size_t i = 0; i < LEVELS; i++) {
        struct machine m;
        struct rng rng = {seed};
        if (!open_machine(&m, all_levels[i]))
            continue;
        int rounds = all_levels[i] == LD_CPU_GENERIC ? 2 : ROUNDS;
        if (round == chunk_round) /* large; plain C cuts nothing */
            rounds = all_levels[i] == LD_CPU_GENERIC ? 0 : 2;
        for (int r = 0; r < rounds; r++)
            round(&m, &rng);
        close_machine(&m);
    }
}

static void a_convolved_image_does_not_know_its_batch_or_threads(void **state)
{
    (void)state;
    at_every_level(conv_round, 31);
}

static void a_linear_row_does_not_know_its_place_or_neighbours(void **state)
{
    (void)state;
    at_every_level(linear_round, 32);
}

static void an_attending_image_does_not_know_its_batch_or_threads(void **state)
{
    (void)state;
    at_every_level(attention_round, 33);
}

static void a_normalised_image_does_not_know_its_batch_or_threads(void **state)
{
    (void)state;
    at_every_level(norm_round, 34);
}

static void chunks_cut_for_other_threads_give_the_same_bits(void **state)
{
    (void)state;
    at_every_level(chunk_round, 35);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_convolved_image_does_not_know_its_batch_or_threads),
        cmocka_unit_test(a_linear_row_does_not_know_its_place_or_neighbours),
        cmocka_unit_test(an_attending_image_does_not_know_its_batch_or_threads),
        cmocka_unit_test(a_normalised_image_does_not_know_its_batch_or_threads),
        cmocka_unit_test(chunks_cut_for_other_threads_give_the_same_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
