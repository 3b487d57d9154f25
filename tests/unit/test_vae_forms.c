/*
 * Proves that a picture in strips is the picture in one piece, bit for bit, at every CPU level this
 * machine has, for sizes that cut unevenly; that tiles blend to about the same picture, on a smooth
 * latent nearer with the norms of a sample of the picture than with their own; and that strips
 * take less memory.
 */
#include "runtime/model/arch.h"
#include "runtime/vae_form.h"
#include "tests/tools/checkpoint_write.h"
#include "tests/unit/network_fixture.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { SIDE_MAX = 112, CELLS_MAX = SIDE_MAX * SIDE_MAX };

static float latent[4 * CELLS_MAX];
static float whole[3 * 64 * CELLS_MAX];
static float parts[3 * 64 * CELLS_MAX];
static float picture[3 * 64 * CELLS_MAX];

static void decode(struct ld_model *model, int32_t height, int32_t width, enum ld_vae_form form,
                   float *out)
{
    struct ld_error err = {0};
    const enum ld_code code =
        ld_model_decode_form(model, latent, height, width, 1, form, NULL, out, &err);
    if (code != LD_OK)
        print_error("%s\n", err.detail);
    assert_int_equal(code, LD_OK);
}

static void encode(struct ld_model *model, int32_t height, int32_t width, enum ld_vae_form form,
                   float *out)
{
    struct ld_error err = {0};
    assert_int_equal(
        ld_model_encode_form(model, picture, 8 * height, 8 * width, form, NULL, out, &err), LD_OK);
}

static void strips_equal_the_whole_to_the_bit(void **state)
{
    (void)state;
    static const int32_t sizes[][2] = {{1, 1}, {3, 5}, {8, 7}, {13, 5}};
    static const int32_t rows[] = {2, 6, 10};
    network_fill(latent, sizeof latent / sizeof latent[0], 1);
    network_fill(picture, sizeof picture / sizeof picture[0], 2);
    for (int level = LD_CPU_GENERIC; level < LD_CPU_LEVELS; level++) {
        struct ld_backend *backend = NULL;
        struct network_fixture fixture;
        if (ld_cpu_backend_create(&backend, 2, (enum ld_cpu_level)level, NULL) != LD_OK)
            continue; /* not on this machine */
        network_fixture_open_on(&fixture, backend, LD_PARTS_ALL, 4);
        /* The plain level computes slowly: the small sizes alone. */
        const size_t count = level == LD_CPU_GENERIC ? 2 : sizeof sizes / sizeof sizes[0];
        for (size_t s = 0; s < count; s++) {
            const int32_t height = sizes[s][0];
            const int32_t width = sizes[s][1];
            const size_t cells = (size_t)height * (size_t)width;
            decode(fixture.model, height, width, LD_VAE_FORM_WHOLE, whole);
            for (size_t r = 0; r < sizeof rows / sizeof rows[0]; r++) {
                ld_model_set_strip_rows(fixture.model, rows[r]);
                memset(parts, 0, sizeof parts);
                decode(fixture.model, height, width, LD_VAE_FORM_STRIPS, parts);
                assert_memory_equal(parts, whole, 3 * 64 * cells * sizeof(float));
            }
            encode(fixture.model, height, width, LD_VAE_FORM_WHOLE, whole);
            for (size_t r = 0; r < sizeof rows / sizeof rows[0]; r++) {
                ld_model_set_strip_rows(fixture.model, rows[r]);
                memset(parts, 0, sizeof parts);
                encode(fixture.model, height, width, LD_VAE_FORM_STRIPS, parts);
                assert_memory_equal(parts, whole, 8 * cells * sizeof(float));
            }
        }
        network_fixture_close(&fixture);
    }
}

/* Root of the mean squared difference. */
static double apart(const float *a, const float *b, size_t count)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
    return sqrt(sum / (double)count);
}

/* A smooth latent whose two halves differ in level: a sample of the picture tells what it is like,
 * and tiles by themselves see other statistics. */
static void uneven_latent(int32_t height, int32_t width)
{
    for (int32_t i = 0; i < 4 * height * width; i++) {
        const int32_t x = i % width;
        const int32_t c = i / (height * width);
        latent[i] = (x < width / 2 ? -1.5F : 1.0F) * (0.5F + 0.25F * (float)c) +
                    0.4F * sinf((float)x / 9.0F + (float)c);
    }
}

static void tiles_with_the_picture_s_norms_are_nearer(void **state)
{
    (void)state;
    enum { H = 8, W = 112 };
    struct network_fixture fixture;
    network_fixture_open(&fixture, 2, LD_PARTS_ALL);
    uneven_latent(H, W);
    decode(fixture.model, H, W, LD_VAE_FORM_WHOLE, whole);
    const size_t count = (size_t)3 * 64 * H * W;
    const float nothing = 0;
    double size = 0;
    for (size_t i = 0; i < count; i++)
        size += ((double)whole[i] - (double)nothing) * (double)whole[i];
    size = sqrt(size / (double)count);
    decode(fixture.model, H, W, LD_VAE_FORM_TILE, parts);
    const double plain = apart(parts, whole, count);
    decode(fixture.model, H, W, LD_VAE_FORM_ESTIMATED, parts);
    const double estimated = apart(parts, whole, count);
    assert_true(plain > 0 && estimated > 0); /* they are tiles indeed */
    assert_true(estimated < 0.5 * plain);
    assert_true(estimated < 0.5 * size);
    /* What was measured for one picture does not stay for the next. */
    memcpy(whole, parts, count * sizeof(float));
    for (int32_t i = 0; i < 4 * H * W; i++)
        latent[i] = -latent[i];
    decode(fixture.model, H, W, LD_VAE_FORM_ESTIMATED, parts);
    for (int32_t i = 0; i < 4 * H * W; i++)
        latent[i] = -latent[i];
    decode(fixture.model, H, W, LD_VAE_FORM_ESTIMATED, parts);
    assert_memory_equal(parts, whole, count * sizeof(float));
    network_fixture_close(&fixture);
}

static void a_picture_of_one_tile_passes_whole(void **state)
{
    (void)state;
    struct network_fixture fixture;
    network_fixture_open(&fixture, 2, LD_PARTS_ALL);
    decode(fixture.model, 12, 20, LD_VAE_FORM_WHOLE, whole);
    decode(fixture.model, 12, 20, LD_VAE_FORM_TILE, parts);
    assert_memory_equal(parts, whole, (size_t)3 * 64 * 12 * 20 * sizeof(float));
    decode(fixture.model, 12, 20, LD_VAE_FORM_ESTIMATED, parts);
    assert_memory_equal(parts, whole, (size_t)3 * 64 * 12 * 20 * sizeof(float));
    network_fixture_close(&fixture);
}

/* Of SD1.5 itself, in float32: what the planner says without computing anything. */
static void strips_of_a_large_picture_take_less_memory(void **state)
{
    (void)state;
    struct ld_cost one = {0};
    struct ld_cost strips = {0};
    struct ld_arch arch;
    ld_arch_set_sd15(&arch);
    assert_int_equal(ld_cost_decode(&one, &arch, LD_DTYPE_F32, 192, 128, NULL), LD_OK);
    assert_int_equal(
        ld_cost_decode_form(&strips, &arch, LD_DTYPE_F32, 192, 128, LD_VAE_FORM_STRIPS, NULL),
        LD_OK);
    print_message("decode 1024x1536: %zu MB whole, %zu MB in strips, %.1f %% more work\n",
                  one.scratch_bytes >> 20, strips.scratch_bytes >> 20,
                  100.0 * ((double)strips.macs / (double)one.macs - 1));
    assert_true((double)strips.scratch_bytes < 0.8 * (double)one.scratch_bytes);
    assert_true((double)strips.macs < 1.15 * (double)one.macs);
}

static void the_form_follows_request_and_memory(void **state)
{
    (void)state;
    struct network_fixture fixture;
    network_fixture_open(&fixture, 1, LD_PARTS_ALL);
    struct ld_model *model = fixture.model;
    assert_int_equal(ld_vae_form_of(LD_VAE_EXACT, model, false, 8, 8, false), LD_VAE_FORM_STRIPS);
    assert_int_equal(ld_vae_form_of(LD_VAE_ESTIMATED, model, false, 8, 8, false),
                     LD_VAE_FORM_ESTIMATED);
    assert_int_equal(ld_vae_form_of(LD_VAE_PLAIN, model, true, 8, 8, false), LD_VAE_FORM_TILE);
    assert_int_equal(ld_vae_form_of(LD_VAE_AUTO, model, false, 8, 8, false), LD_VAE_FORM_WHOLE);
    assert_int_equal(ld_vae_form_of(LD_VAE_AUTO, model, false, 8, 8, true), LD_VAE_FORM_STRIPS);
    assert_true(ld_model_vae_bytes(model, false, 64, 64) >
                ld_model_vae_bytes(model, false, 32, 32));
    network_fixture_close(&fixture);
    const struct ld_span none = {0};
    const struct ld_span info = ld_span_text("MemTotal: 9 kB\nMemAvailable:     2048 kB\n");
    assert_true(ld_memory_available(none, none, none) == SIZE_MAX);
    assert_true(ld_memory_available(info, none, none) == 2048 * 1024);
    assert_true(ld_memory_available(info, ld_span_text("max\n"), ld_span_text("5\n")) ==
                2048 * 1024);
    assert_true(ld_memory_available(info, ld_span_text("1000\n"), ld_span_text("400\n")) == 600);
    assert_true(ld_memory_available(info, ld_span_text("10\n"), ld_span_text("400\n")) == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(strips_equal_the_whole_to_the_bit),
        cmocka_unit_test(tiles_with_the_picture_s_norms_are_nearer),
        cmocka_unit_test(a_picture_of_one_tile_passes_whole),
        cmocka_unit_test(strips_of_a_large_picture_take_less_memory),
        cmocka_unit_test(the_form_follows_request_and_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
