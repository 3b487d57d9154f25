/* Proves that a picture is refused only where no worker's device can hold it, and what the refusal
 * says. How: workers' tables as JSON, and requests around every step of them. */
#include "server/capacity.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Latents of 8x8, 64x64, 128x128 and 256x256 positions. */
#define STEPS "[[64,104857600],[4096,209715200],[16384,314572800],[65536,524288000]]"
#define NEEDS "\"needs\":[{\"models\":[\"a\",\"b\"],\"steps\":" STEPS "}]"
#define MEMORY(bytes)                                                                              \
    "{\"backend\":\"x\",\"memory\":{\"bytes\":" bytes ",\"default\":\"a\"," NEEDS "}}"

enum { MIB = 1 << 20 };

static struct ld_request request_of(int32_t width, int32_t height)
{
    struct ld_request request;
    ld_request_default(&request);
    request.width = width;
    request.height = height;
    return request;
}

static struct ld_capacity *capacity_of(uint32_t workers)
{
    struct ld_capacity *capacity = NULL;
    struct ld_error err = {0};
    assert_int_equal(ld_capacity_create(&capacity, workers, &err), LD_OK);
    return capacity;
}

static bool fits(struct ld_capacity *capacity, const struct ld_request *request)
{
    struct ld_error err = {0};
    const enum ld_code code = ld_capacity_check(capacity, request, &err);
    assert_true(code == LD_OK || code == LD_E_GPU_NOMEM);
    return code == LD_OK;
}

static bool size_fits(struct ld_capacity *capacity, int32_t width, int32_t height)
{
    const struct ld_request request = request_of(width, height);
    return fits(capacity, &request);
}

static void tell(struct ld_capacity *capacity, uint32_t worker, int64_t bytes)
{
    char json[512];
    (void)snprintf(json, sizeof json, MEMORY("%lld"), (long long)bytes);
    ld_capacity_set(capacity, worker, json);
}

/* ---- Steps ----------------------------------------------------------------------------------- */

static void the_step_at_or_below_a_size_counts(void **state)
{
    (void)state;
    static const struct {
        int32_t width, height;
        int64_t mib; /* that it takes by its step */
    } sizes[] = {
        {64, 64, 100},     {504, 512, 100},   {512, 512, 200},   {520, 512, 200},
        {1024, 256, 200},  {1016, 1024, 200}, {1024, 1024, 300}, {2048, 512, 300},
        {2040, 2048, 300}, {2048, 2048, 500}, {4096, 1024, 500}, {4096, 4096, 500},
    };
    struct ld_capacity *capacity = capacity_of(1);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        const int64_t bytes = sizes[i].mib * MIB;
        tell(capacity, 0, bytes - 1);
        assert_false(size_fits(capacity, sizes[i].width, sizes[i].height));
        tell(capacity, 0, bytes);
        assert_true(size_fits(capacity, sizes[i].width, sizes[i].height));
        tell(capacity, 0, bytes + 1);
        assert_true(size_fits(capacity, sizes[i].width, sizes[i].height));
    }
    ld_capacity_destroy(capacity);
}

static void the_sentence_names_size_need_device_and_what_fits(void **state)
{
    (void)state;
    struct ld_error err = {0};
    struct ld_capacity *capacity = capacity_of(2);
    const struct ld_request large = request_of(2048, 2304);
    tell(capacity, 0, 250 * MIB);
    tell(capacity, 1, 320 * MIB);
    assert_int_equal(ld_capacity_check(capacity, &large, &err), LD_E_GPU_NOMEM);
    assert_string_equal(err.detail,
                        "a picture of 2048x2304 takes at least 500 MiB of GPU memory; the largest "
                        "worker has 320 MiB, enough for about 1024x1024");
    assert_string_equal(err.pointer, "/width");
    const struct ld_request small = request_of(64, 64);
    tell(capacity, 0, 10 * MIB);
    tell(capacity, 1, 20 * MIB);
    assert_int_equal(ld_capacity_check(capacity, &small, &err), LD_E_GPU_NOMEM);
    assert_string_equal(err.detail, "a picture of 64x64 takes at least 100 MiB of GPU memory; the "
                                    "largest worker has 20 MiB, too little for any picture of this "
                                    "model");
    ld_capacity_destroy(capacity);
}

/* ---- What is not known ----------------------------------------------------------------------- */

static void nothing_is_refused_that_is_not_known_to_fail(void **state)
{
    (void)state;
    static const char *const unknown[] = {
        "{}",
        "{\"backend\":\"cpu\"}",                                     /* no bound */
        "{\"memory\":{\"bytes\":1,\"default\":\"a\",\"needs\":[]}}", /* no table */
        "{\"memory\":{\"bytes\":0,\"default\":\"a\"," NEEDS "}}",    /* no bound */
        "{\"memory\":{\"bytes\":1,\"default\":\"c\"," NEEDS "}}",    /* another model */
        "{\"memory\":{\"bytes\":1," NEEDS "}}",                      /* and what cannot */
        "{\"memory\":{\"default\":\"a\"," NEEDS "}}",                /* be read */
        "{\"memory\":{\"bytes\":-1,\"default\":\"a\"," NEEDS "}}",
        "{\"memory\":{\"bytes\":\"1\",\"default\":\"a\"," NEEDS "}}",
        "{\"memory\":{\"bytes\":1,\"default\":\"a\",\"needs\":[{\"models\":[\"a\"],"
        "\"steps\":[[64,5],[32,6]]}]}}",
        "{\"memory\":{\"bytes\":1,\"default\":\"a\",\"needs\":[{\"models\":[\"a\"],"
        "\"steps\":[[64,6],[128,5]]}]}}",
        "{\"memory\":{\"bytes\":1,\"default\":\"a\",\"needs\":[{\"models\":[\"a\"],"
        "\"steps\":[[64]]}]}}",
        "{\"memory\":{\"bytes\":1,\"default\":\"a\",\"needs\":[{\"models\":[7],"
        "\"steps\":[[64,5]]}]}}",
        "{\"memory\":{\"bytes\":1,\"default\":\"a\",\"needs\":[{\"models\":[\"a\"]}]}}",
        "{\"memory\":{\"bytes\":1,\"default\":\"a\",\"needs\":[7]}}",
        "{\"memory\":[]}",
        "{\"memory\":7}",
        "not JSON",
    };
    struct ld_capacity *capacity = capacity_of(1);
    assert_true(size_fits(capacity, 4096, 4096)); /* it has not spoken yet */
    for (size_t i = 0; i < sizeof unknown / sizeof unknown[0]; i++) {
        ld_capacity_set(capacity, 0, unknown[i]);
        if (!size_fits(capacity, 4096, 4096))
            fail_msg("refused by %s", unknown[i]);
    }
    tell(capacity, 0, 1);
    assert_false(size_fits(capacity, 64, 64));
    ld_capacity_destroy(capacity);
}

static void one_worker_that_fits_or_is_silent_is_enough(void **state)
{
    (void)state;
    struct ld_capacity *capacity = capacity_of(2);
    tell(capacity, 0, 250 * MIB);
    assert_true(size_fits(capacity, 2048, 2048)); /* the other one has not spoken */
    tell(capacity, 1, 250 * MIB);
    assert_false(size_fits(capacity, 2048, 2048));
    assert_true(size_fits(capacity, 512, 512));
    tell(capacity, 1, 500 * MIB);
    assert_true(size_fits(capacity, 2048, 2048));
    tell(capacity, 1, 400 * MIB);
    assert_false(size_fits(capacity, 2048, 2048));
    ld_capacity_set(capacity, 0, "{\"backend\":\"cpu\"}");
    assert_true(size_fits(capacity, 2048, 2048));
    ld_capacity_destroy(capacity);
}

/* ---- What a job is --------------------------------------------------------------------------- */

static void models_are_looked_up_by_name(void **state)
{
    (void)state;
    struct ld_capacity *capacity = capacity_of(1);
    struct ld_request request = request_of(2048, 2048);
    tell(capacity, 0, 250 * MIB);
    request.model = "b";
    assert_false(fits(capacity, &request));
    request.model = "c"; /* no table */
    assert_true(fits(capacity, &request));
    request.hires.present = true;
    request.hires.strength = 0.5;
    request.hires.model = "b";
    assert_false(fits(capacity, &request));
    request.hires.model = "";
    assert_true(fits(capacity, &request));
    ld_capacity_destroy(capacity);
}

static void the_second_pass_counts_with_its_own_size(void **state)
{
    (void)state;
    struct ld_error err = {0};
    struct ld_capacity *capacity = capacity_of(1);
    struct ld_request request = request_of(1024, 1024);
    tell(capacity, 0, 300 * MIB);
    assert_true(fits(capacity, &request));
    request.hires.present = true;
    request.hires.strength = 0.5;
    request.hires.scale = 1.5;
    assert_true(fits(capacity, &request));
    request.hires.scale = 2;
    assert_int_equal(ld_capacity_check(capacity, &request, &err), LD_E_GPU_NOMEM);
    assert_string_equal(err.pointer, "/hires");
    assert_non_null(strstr(err.detail, "a picture of 2048x2048 takes at least 500 MiB"));
    request.hires.strength = 0; /* may evaluate nothing */
    assert_true(fits(capacity, &request));
    ld_capacity_destroy(capacity);
}

static void a_picture_that_is_only_enlarged_fits(void **state)
{
    (void)state;
    struct ld_capacity *capacity = capacity_of(1);
    struct ld_request request = request_of(4096, 4096);
    tell(capacity, 0, 1);
    assert_false(fits(capacity, &request));
    request.upscale.present = true;
    assert_true(fits(capacity, &request));
    ld_capacity_destroy(capacity);
}

static void only_what_is_sure_to_be_evaluated_counts(void **state)
{
    (void)state;
    struct ld_capacity *capacity = capacity_of(1);
    struct ld_request request = request_of(2048, 2048);
    tell(capacity, 0, 250 * MIB);
    request.deep_shrink.present = true; /* smaller maps: the weights are sure, the size is not */
    assert_true(fits(capacity, &request));
    tell(capacity, 0, 99 * MIB);
    assert_false(fits(capacity, &request));
    request.deep_shrink.present = false;
    request.init.present = true;
    request.steps = 20;
    request.init.strength = 0.5;
    assert_false(fits(capacity, &request));
    request.init.strength = 0.05;
    assert_true(fits(capacity, &request));
    request.init.strength = 1;
    request.sigma_count = 2; /* one step */
    assert_true(fits(capacity, &request));
    request.sigma_count = 3;
    assert_false(fits(capacity, &request));
    request.init.present = false; /* from noise, where one step is one */
    request.sigma_count = 0;
    request.steps = 1;
    assert_false(fits(capacity, &request));
    ld_capacity_destroy(capacity);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_step_at_or_below_a_size_counts),
        cmocka_unit_test(the_sentence_names_size_need_device_and_what_fits),
        cmocka_unit_test(nothing_is_refused_that_is_not_known_to_fail),
        cmocka_unit_test(one_worker_that_fits_or_is_silent_is_enough),
        cmocka_unit_test(models_are_looked_up_by_name),
        cmocka_unit_test(the_second_pass_counts_with_its_own_size),
        cmocka_unit_test(a_picture_that_is_only_enlarged_fits),
        cmocka_unit_test(only_what_is_sure_to_be_evaluated_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
