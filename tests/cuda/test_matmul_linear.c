/*
 * Proves that every linear kernel equals float64 at the tolerances of kernels.md section 15 with
 * every activation, residual, moments, two sources and split K, that the float32 timestep path is
 * float32, that GEGLU's gelu is right on every finite float16, and the counts and bits of
 * test_matmul_conv.c.
 */
#include "matmul_fixture.h"

#include "runtime/base/arena.h"

#include <math.h>

static const struct matmul_case cases[] = {
    {.name = "token rows of an odd number",
     .variant = "128x160",
     .batch = 2,
     .tokens = 77,
     .c0 = 64,
     .rows = 168,
     .moments = true},
    {.name = "two m tiles, two sources",
     .variant = "128x128",
     .batch = 2,
     .tokens = 131,
     .c0 = 32,
     .c1 = 96,
     .rows = 40,
     .residual = true,
     .moments = true},
    {.name = "silu",
     .variant = "64x128",
     .batch = 3,
     .tokens = 13,
     .c0 = 96,
     .rows = 136,
     .activation = LDK_ACT_SILU,
     .residual = true},
    {.name = "quick gelu",
     .variant = "64x64",
     .batch = 2,
     .tokens = 65,
     .c0 = 64,
     .rows = 72,
     .activation = LDK_ACT_QUICK_GELU,
     .moments = true},
    {.name = "geglu",
     .variant = "128x160",
     .batch = 1,
     .tokens = 21,
     .c0 = 64,
     .rows = 320,
     .activation = LDK_ACT_GEGLU,
     .residual = true,
     .moments = true},
    {.name = "geglu",
     .variant = "128x128",
     .batch = 2,
     .tokens = 9,
     .c0 = 32,
     .rows = 112,
     .activation = LDK_ACT_GEGLU},
    {.name = "geglu",
     .variant = "64x128",
     .batch = 2,
     .tokens = 66,
     .c0 = 32,
     .rows = 144,
     .activation = LDK_ACT_GEGLU,
     .moments = true},
    {.name = "geglu",
     .variant = "64x64",
     .batch = 2,
     .tokens = 30,
     .c0 = 96,
     .rows = 80,
     .activation = LDK_ACT_GEGLU},
    {.name = "split k, geglu",
     .variant = "128x160 k/2",
     .batch = 1,
     .tokens = 10,
     .c0 = 96,
     .rows = 176,
     .activation = LDK_ACT_GEGLU,
     .residual = true},
    {.name = "split k across sources",
     .variant = "64x128 k/8",
     .batch = 2,
     .tokens = 12,
     .c0 = 160,
     .c1 = 128,
     .rows = 40,
     .activation = LDK_ACT_SILU,
     .moments = true},
    {.name = "one row", .variant = "64x64", .batch = 3, .tokens = 1, .c0 = 32, .rows = 8},
    {.name = "default", .batch = 2, .tokens = 16, .c0 = 64, .rows = 192},
    {.name = "few rows",
     .variant = "rows",
     .batch = 5,
     .tokens = 1,
     .c0 = 72,
     .rows = 13,
     .activation = LDK_ACT_SILU,
     .residual = true},
    {.name = "few rows, default", .batch = 2, .tokens = 1, .c0 = 320, .rows = 24, .y_f32 = true},
    {.name = "plain",
     .variant = "plain",
     .batch = 2,
     .tokens = 5,
     .c0 = 7,
     .c1 = 6,
     .rows = 11,
     .residual = true},
    {.name = "plain geglu",
     .variant = "plain",
     .batch = 1,
     .tokens = 9,
     .c0 = 10,
     .rows = 22,
     .activation = LDK_ACT_GEGLU,
     .residual = true},
    {.name = "plain quick gelu",
     .variant = "plain",
     .batch = 1,
     .tokens = 4,
     .c0 = 10,
     .rows = 5,
     .activation = LDK_ACT_QUICK_GELU},
    {.name = "default of odd widths", .batch = 1, .tokens = 6, .c0 = 20, .rows = 30},
};

static const struct matmul_case promoted[] = {
    {.name = "fp16 sums",
     .variant = "128x160",
     .fp16_accumulate = true,
     .batch = 1,
     .tokens = 40,
     .c0 = 288,
     .rows = 40,
     .moments = true},
    {.name = "fp16 sums, geglu",
     .variant = "64x64",
     .fp16_accumulate = true,
     .batch = 2,
     .tokens = 20,
     .c0 = 160,
     .rows = 64,
     .activation = LDK_ACT_GEGLU},
};

/* The timestep path: sums and results in float32, weights as they are stored. */
static const struct matmul_case timestep[] = {
    {.name = "a stack of 3, one image",
     .batch = 1,
     .tokens = 1,
     .c0 = 320,
     .rows = 45,
     .parts = 3,
     .w_dtype = LDK_F16},
    {.name = "a stack of 5, two images",
     .batch = 2,
     .tokens = 1,
     .c0 = 40,
     .rows = 51,
     .parts = 5,
     .w_dtype = LDK_BF16},
    {.name = "a stack of 22, three images",
     .batch = 3,
     .tokens = 1,
     .c0 = 64,
     .rows = 22 * 22 + 1,
     .parts = 22,
     .w_dtype = LDK_F16},
    {.name = "a stack of 4, no vectors",
     .batch = 3,
     .tokens = 1,
     .c0 = 27,
     .rows = 21,
     .parts = 4,
     .w_dtype = LDK_F32},
    {.name = "f32 and f16 weights",
     .batch = 3,
     .tokens = 1,
     .c0 = 320,
     .rows = 40,
     .activation = LDK_ACT_SILU,
     .w_dtype = LDK_F16},
    {.name = "f32 and bf16 weights",
     .batch = 9,
     .tokens = 1,
     .c0 = 64,
     .rows = 24,
     .residual = true,
     .w_dtype = LDK_BF16},
    {.name = "f32 and f32 weights",
     .batch = 1,
     .tokens = 6,
     .c0 = 40,
     .rows = 9,
     .w_dtype = LDK_F32},
    {.name = "f32, odd width", .batch = 2, .tokens = 1, .c0 = 13, .rows = 9, .w_dtype = LDK_F32},
};

static void run(const struct matmul_case *list, size_t count, enum ldk_dtype dtype)
{
    for (size_t i = 0; i < count; i++) {
        struct matmul_case c = list[i];
        c.dtype = dtype;
        matmul_check(&c);
    }
}

/* ---- GELU ------------------------------------------------------------------------------------------- */

enum { HALVES = 0x7C00 }; /* finite numbers of one sign */

static int launch_gelu(void *context)
{
    return ldk_linear(context, NULL);
}

/* value 1 (its bias) times gelu(gate), the gate being x itself, in float32 out: the polynomial's
 * own error, on all 63,488 finite inputs. */
static void gelu_is_right_on_every_half(void)
{
    hc_case("gelu of every half");
    uint16_t *x = ld_heap_calloc(2 * HALVES, sizeof *x);
    float *y = ld_heap_calloc(2 * HALVES, sizeof *y);
    LD_ASSERT(x != NULL && y != NULL);
    for (uint32_t i = 0; i < HALVES; i++) {
        x[i] = (uint16_t)i;
        x[HALVES + i] = (uint16_t)(i | 0x8000u);
    }
    uint16_t w[16 * 8] = {0};
    w[8 * 8] = ld_f16_from_f32(1.0f);
    const float bias[16] = {1.0f};
    struct ldk_linear l = {.x0 = hc_upload(x, 2 * HALVES * sizeof *x),
                           .c0 = 1,
                           .rows = 2 * HALVES,
                           .rows_per_image = 2 * HALVES,
                           .w = {.data = hc_upload(w, sizeof w),
                                 .bias = hc_upload(bias, sizeof bias),
                                 .rows = 2,
                                 .rows_padded = 16,
                                 .k = 1,
                                 .k_padded = 8,
                                 .taps = 1,
                                 .geglu = true,
                                 .dtype = LDK_F16},
                           .activation = LDK_ACT_GEGLU,
                           .y_f32 = true,
                           .dtype = LDK_F16,
                           .variant = LDK_VARIANT_PLAIN};
    size_t bytes = 2 * HALVES * sizeof *y;
    void *out = hc_device(bytes);
    l.y = out;
    if (hc_run(launch_gelu, &l, out, bytes)) {
        double worst = 0.0;
        hc_download(y, out, bytes);
        for (uint32_t i = 0; i < 2 * HALVES; i++) {
            double v = (double)ld_f16_to_f32(x[i]);
            double error = fabs((double)y[i] - 0.5 * v * erfc(-v * 0.70710678118654752440));
            double relative = error / (fabs(v) > 1.0 ? fabs(v) : 1.0);
            if (!(relative <= worst))
                worst = isfinite(relative) ? relative : 1e30;
        }
        hc_expect(worst <= 5e-7, "error %.3g of the larger of 1 and |x|", worst);
    }
    hc_free_all();
    ld_heap_free(x);
    ld_heap_free(y);
}

int main(void)
{
    const size_t count = sizeof cases / sizeof cases[0];
    run(cases, count, LDK_F16);
    run(cases, count, LDK_BF16);
    run(promoted, sizeof promoted / sizeof promoted[0], LDK_F16);
    run(timestep, sizeof timestep / sizeof timestep[0], LDK_F32);
    gelu_is_right_on_every_half();
    return hc_report();
}
