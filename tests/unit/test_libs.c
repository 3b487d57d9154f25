/* Proves that what the tuner decides reaches the operators: attention runs the variant that was
 * fastest, a linear layer cuBLASLt's algorithm where that is right, fast and keeps an image's bits,
 * and another process finds the decisions again. How: the real backend and tuner over a fake GPU
 * with a clock of its own, and a cuBLASLt of plain loops. */
#include "kernels/cuda/libs_table.h"
#include "tests/unit/tuner_fixture.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* ---- Linear layers --------------------------------------------------------------------------- */

static void check_type(enum ld_dtype dtype, double limit)
{
    static const bool residuals[] = {false, true};
    static uint16_t tuned[Y_VALUES];
    static uint16_t again[Y_VALUES];
    for (int r = 0; r < 2; r++) {
        static struct layer layer;
        struct ld_backend *backend = open_backend(dtype, true);
        open_layer(&layer, backend);
        run_layer(&layer, backend, residuals[r], tuned);
        assert_non_null(strstr(decisions(), "unit ")); /* kept as it is made, not at the end */
        assert_true(distance(&layer, backend, residuals[r], tuned) < limit);
        close_layer(&layer, backend);
        backend->ops->destroy(backend);

        backend = open_backend(dtype, false);
        assert_int_equal(backend->library_bytes, LDK_LIBS_WORKSPACE_BYTES);
        open_layer(&layer, backend);
        const uint64_t launches = fake_gpu.launches;
        run_layer(&layer, backend, residuals[r], again);
        assert_int_equal(fake_gpu.launches, launches); /* none of ours: the library computed */
        assert_memory_equal(tuned, again, sizeof tuned);
        close_layer(&layer, backend);
        backend->ops->destroy(backend);
    }
}

static void a_linear_layer_gets_the_librarys_right_way(void **state)
{
    (void)state;
#ifdef LDK_HAS_CUBLASLT
    check_type(LD_DTYPE_F16, 1e-3);
    assert_non_null(strstr(decisions(), "unit cublaslt:1."));
    check_type(LD_DTYPE_BF16, 6e-3);
    /* Faster, but one is not steady and one is wrong. */
    assert_null(strstr(decisions(), "unit cublaslt:2."));
    assert_null(strstr(decisions(), "cublaslt:3."));
#else
    (void)check_type;
    print_message("needs the CUDA toolkit's cublasLt.h\n");
    skip();
#endif
}

/* ---- Layers that a norm reads ---------------------------------------------------------------- */

enum { IMAGES = 2, GROUPS = 4, GROUP = N / GROUPS, POSITIONS = ROWS / IMAGES };

static struct ld_weight *gains(struct ld_backend *backend, const float *values)
{
    struct ld_error err = {0};
    struct ld_weight *weight = NULL;
    const struct ld_weight_desc desc = {.kind = LD_WEIGHT_VECTOR,
                                        .rows = N,
                                        .k = 1,
                                        .part_count = 1,
                                        .parts = {{.data = values, .dtype = LD_DTYPE_F32}}};
    assert_int_equal(backend->ops->weight_create(backend, &desc, &weight, &err), LD_OK);
    return weight;
}

/* The layer and its norm, which uses the moments that the layer has left, if any. */
static void run_normed(struct layer *layer, struct ld_backend *backend, uint16_t *out)
{
    static const float one[N] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
                                 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
    static const float zero[N];
    const size_t bytes = (size_t)IMAGES * POSITIONS * N * 4 * sizeof(float); /* more than enough */
    struct ld_error err = {0};
    void *moments = NULL;
    struct ld_weight *gamma = gains(backend, one);
    struct ld_weight *beta = gains(backend, zero);
    assert_int_equal(backend->ops->memory_alloc(backend, bytes, &moments, &err), LD_OK);
    const struct ld_linear op = {.x0 = layer->x_device,
                                 .c0 = K,
                                 .rows = ROWS,
                                 .rows_per_image = POSITIONS,
                                 .weight = layer->weight,
                                 .y = layer->y_device,
                                 .moments = moments,
                                 .moments_bytes = bytes};
    const struct ld_group_norm norm = {.x0 = layer->y_device,
                                       .c0 = N,
                                       .batch = IMAGES,
                                       .positions = POSITIONS,
                                       .groups = GROUPS,
                                       .epsilon = 1e-5F,
                                       .gamma = gamma,
                                       .beta = beta,
                                       .y = layer->y_device,
                                       .moments0 = moments};
    if (backend->ops->linear(backend, &op, &err) != LD_OK ||
        backend->ops->group_norm(backend, &norm, &err) != LD_OK)
        fail_msg("%s", err.detail);
    fetch(backend, out, layer->y_device, Y_VALUES * sizeof *out);
    backend->ops->memory_free(backend, moments, bytes);
    backend->ops->weight_destroy(backend, beta);
    backend->ops->weight_destroy(backend, gamma);
}

/* Largest distance of a group's mean from 0 and of its mean square from 1. */
static double norm_distance(const uint16_t *got)
{
    double largest = 0;
    for (int g = 0; g < IMAGES * GROUPS; g++) {
        double sum = 0;
        double squares = 0;
        for (int i = 0; i < POSITIONS * GROUP; i++) {
            const int row = g / GROUPS * POSITIONS + i / GROUP;
            const double v = (double)ld_f16_to_f32(got[row * N + g % GROUPS * GROUP + i % GROUP]);
            sum += v / (POSITIONS * GROUP);
            squares += v * v / (POSITIONS * GROUP);
        }
        largest = fmax(largest, fmax(fabs(sum), fabs(squares - 1)));
    }
    return largest;
}

static void a_library_pays_for_the_moments_that_it_does_not_leave(void **state)
{
    (void)state;
#ifdef LDK_HAS_CUBLASLT
    /* The library is half a unit faster than our kernel: a whole one more for the norm is too much,
     * a quarter is not. */
    static const double readings[] = {1, 0.25};
    for (int i = 0; i < 2; i++) {
        static struct layer layer;
        static uint16_t got[Y_VALUES];
        const bool library = readings[i] < 0.5;
        fake_gpu.reading_ms = readings[i];
        struct ld_backend *backend = open_backend(LD_DTYPE_F16, true);
        open_layer(&layer, backend);
        run_normed(&layer, backend, got);
        assert_true(norm_distance(got) < 2e-3);
        if (!strstr(decisions(), library ? "unit cublaslt:1." : "unit own:"))
            fail_msg("a reading of %g ms: %s", readings[i], decisions());
        const uint64_t with_moments = fake_gpu.norms_with_moments;
        run_normed(&layer, backend, got); /* nothing is measured any more */
        assert_true(norm_distance(got) < 2e-3);
        assert_int_equal(fake_gpu.norms_with_moments, with_moments + !library);
        close_layer(&layer, backend);
        backend->ops->destroy(backend);
        assert_int_equal(close_tuning(NULL), 0);
        assert_int_equal(open_tuning(NULL), 0);
    }
#else
    (void)run_normed;
    (void)norm_distance;
    print_message("needs the CUDA toolkit's cublasLt.h\n");
    skip();
#endif
}

static void a_library_that_fails_later_is_replaced_by_our_own_kernel(void **state)
{
    (void)state;
#ifdef LDK_HAS_CUBLASLT
    static struct layer layer;
    static uint16_t tuned[Y_VALUES];
    static uint16_t got[Y_VALUES];
    struct ld_backend *backend = open_backend(LD_DTYPE_F16, true);
    open_layer(&layer, backend);
    run_layer(&layer, backend, true, tuned);
    fake_gpu.library_fails = true;
    for (int i = 0; i < 2; i++) {
        const uint64_t launches = fake_gpu.launches;
        run_layer(&layer, backend, true, got);
        assert_int_equal(fake_gpu.launches, launches + 1);
        assert_true(distance(&layer, backend, true, got) < 1e-3);
        fake_gpu.library_fails = false; /* it is not asked again */
    }
    close_layer(&layer, backend);
    backend->ops->destroy(backend);
#else
    print_message("needs the CUDA toolkit's cublasLt.h\n");
    skip();
#endif
}

static void what_a_library_cannot_do_as_it_is_is_not_offered_to_it(void **state)
{
    (void)state;
#ifdef LDK_HAS_CUBLASLT
    struct ld_error err = {0};
    struct ldk_libs *libs = NULL;
    struct ldk_libs_way ways[LDK_LIBS_WAYS_MAX];
    static uint16_t memory[N * K];
    const struct ldk_linear good = {.x0 = memory,
                                    .c0 = K,
                                    .rows = ROWS,
                                    .rows_per_image = ROWS,
                                    .w = {.data = memory,
                                          .rows = N,
                                          .rows_padded = N,
                                          .k = K,
                                          .k_padded = K,
                                          .taps = 1,
                                          .bias16 = memory},
                                    .y = memory};
    assert_int_equal(ldk_libs_open(&libs, &err), LD_OK);
    assert_int_equal(ldk_libs_info(libs)->cublaslt, 139900);
    assert_int_equal(ldk_libs_linear_ways(libs, &good, ways, LDK_LIBS_WAYS_MAX), 3);
    assert_int_equal(ldk_libs_linear_ways(libs, &good, ways, 2), 2);
    assert_string_equal(ways[0].name, "cublaslt:3.20.0.0.0.0.0.0.7");
    struct ldk_linear bad[8];
    for (int i = 0; i < 8; i++)
        bad[i] = good;
    bad[0].w.bias16 = NULL;
    bad[1].activation = LDK_ACT_SILU;
    bad[2].c1 = 8;
    bad[3].y_f32 = true;
    bad[4].w.k_padded = K + 8;
    bad[5].w.geglu = true;
    bad[6].fp16_accumulate = true;
    bad[7].w.rows = N - 1;
    for (int i = 0; i < 8; i++) {
        if (ldk_libs_linear_ways(libs, &bad[i], ways, LDK_LIBS_WAYS_MAX) != 0)
            fail_msg("layer %d is offered", i);
        if (ldk_libs_linear(libs, &ways[0], &bad[i], NULL) != LDK_E_UNSUPPORTED)
            fail_msg("layer %d runs", i);
    }
    static const char *const names[] = {"cublaslt:", "cublaslt:3.20.0.0.0.0.0.0",
                                        "cublaslt:3.20.0.0.0.0.0.0.70000", "cudnn:1",
                                        "cublaslt:3.20.0.0.0.0.0.0.7.1"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        (void)snprintf(ways[0].name, sizeof ways[0].name, "%s", names[i]);
        if (ldk_libs_linear(libs, &ways[0], &good, NULL) != LDK_E_INVALID)
            fail_msg("'%s' tells an algorithm", names[i]);
    }
    /* An operand that the algorithm does not want as it lies. */
    struct ldk_linear off = good;
    off.x0 = memory + 1;
    (void)snprintf(ways[0].name, sizeof ways[0].name, "cublaslt:3.20.0.0.0.0.0.0.7");
    assert_int_equal(ldk_libs_linear(libs, &ways[0], &off, NULL), LDK_E_UNSUPPORTED);
    ldk_libs_close(libs);
#else
    print_message("needs the CUDA toolkit's cublasLt.h\n");
    skip();
#endif
}

static void a_convolutions_way_is_an_engine_with_its_knobs(void **state)
{
    (void)state;
#ifdef LDK_HAS_CUDNN
    static const struct {
        const char *name;
        int code;
    } cases[] = {
        {"cudnn:7", LDK_E_UNSUPPORTED}, /* told, but there is no cuDNN */
        {"cudnn:7,24=21", LDK_E_UNSUPPORTED},
        {"cudnn:7,24=21,14=3,1=0", LDK_E_UNSUPPORTED},
        {"cudnn:7,1=1,2=1,3=1,4=1,5=1,6=1,7=1,8=1,9=1,10=1,11=1,12=1", LDK_E_UNSUPPORTED},
        {"cudnn:7,1=1,2=1,3=1,4=1,5=1,6=1,7=1,8=1,9=1,10=1,11=1,12=1,13=1", LDK_E_INVALID},
        {"cudnn:", LDK_E_INVALID},
        {"cudnn:x", LDK_E_INVALID},
        {"cudnn:7,", LDK_E_INVALID},
        {"cudnn:7,24", LDK_E_INVALID},
        {"cudnn:7,24=", LDK_E_INVALID},
        {"cudnn:7,=21", LDK_E_INVALID},
        {"cudnn:7,24=21=3", LDK_E_INVALID},
        {"cudnn:7 24=21", LDK_E_INVALID},
        {"cublaslt:1", LDK_E_INVALID},
    };
    struct ld_error err = {0};
    struct ldk_libs *libs = NULL;
    struct ldk_libs_way way;
    const struct ldk_conv conv = {.c0 = 8, .w = {.rows = 8, .taps = 9, .k_padded = 8}};
    assert_int_equal(ldk_libs_open(&libs, &err), LD_OK);
    if (ldk_libs_info(libs)->cudnn) { /* a machine with a GPU: the names would be tried */
        ldk_libs_close(libs);
        print_message("needs a machine without a GPU\n");
        skip();
    }
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        (void)snprintf(way.name, sizeof way.name, "%s", cases[i].name);
        if (ldk_libs_conv(libs, &way, &conv, NULL) != cases[i].code)
            fail_msg("'%s'", cases[i].name);
    }
    assert_int_equal(ldk_libs_plans_lost(libs), 0);
    ldk_libs_close(libs);
#else
    print_message("needs cuDNN's cudnn_graph.h\n");
    skip();
#endif
}

/* ---- Attention ------------------------------------------------------------------------------- */

static void attention_runs_the_fastest_variant(void **state)
{
    (void)state;
    static uint16_t tuned[2 * TOKENS * WIDTH];
    static uint16_t again[2 * TOKENS * WIDTH];
    struct ld_backend *backend = open_backend(LD_DTYPE_F16, true);
    attend(backend, tuned);
    backend->ops->destroy(backend);
    assert_non_null(strstr(decisions(), "unit own:fast "));
    assert_non_null(strstr(decisions(), " own:slow "));
    assert_null(strstr(decisions(), "own:plain")); /* the judge does not stand for election */

    backend = open_backend(LD_DTYPE_F16, false);
    const double before_ms = fake_gpu.now_ms;
    attend(backend, again);
    /* Two copies and the attention, half a unit less than the default would take. */
    assert_true(fake_gpu.now_ms - before_ms == 2.5);
    assert_memory_equal(tuned, again, sizeof tuned);
    backend->ops->destroy(backend);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, open_tuning, close_tuning)
    const struct CMUnitTest tests[] = {
        TEST(a_linear_layer_gets_the_librarys_right_way),
        TEST(a_library_pays_for_the_moments_that_it_does_not_leave),
        TEST(a_library_that_fails_later_is_replaced_by_our_own_kernel),
        TEST(what_a_library_cannot_do_as_it_is_is_not_offered_to_it),
        cmocka_unit_test(a_convolutions_way_is_an_engine_with_its_knobs),
        TEST(attention_runs_the_fastest_variant),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
