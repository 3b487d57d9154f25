/*
 * Proves that a resolved request says everything needed to run it again: defaults of the model,
 * presets placed, seeds drawn, and that resolving twice changes nothing. Works with the shipped
 * manifests and a counted source of random bytes.
 */
#include "api/dialect_native.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

struct fixture {
    struct ld_arena arena;
    struct ld_manifests manifests;
    struct ld_native native;
    uint32_t next_random;
    bool random_fails;
};

static bool fill(void *ctx, void *out, size_t size)
{
    struct fixture *f = ctx;
    if (f->random_fails || size != sizeof f->next_random)
        return false;
    memcpy(out, &f->next_random, size);
    f->next_random++;
    return true;
}

static const struct ld_manifest *manifest_of(void *ctx, const char *model)
{
    struct fixture *f = ctx;
    return ld_manifests_for(&f->manifests, model);
}

static void open_fixture(struct fixture *f)
{
    struct ld_error err = {0};
    memset(f, 0, sizeof *f);
    f->next_random = 4000000000U;
    ld_arena_init(&f->arena, "test", 1 << 20);
    assert_int_equal(ld_manifests_load(&f->manifests, NULL, &f->arena, &err), LD_OK);
    ld_native_init(&f->native, &f->arena);
}

static void close_fixture(struct fixture *f)
{
    ld_native_deinit(&f->native);
    ld_arena_deinit(&f->arena);
}

static enum ld_code accept(struct fixture *f, const char *body)
{
    const struct ld_random random = {f, fill};
    const struct ld_api_context context = {
        .random = &random, .manifest = manifest_of, .manifest_ctx = f};
    return ld_native_accept(&f->native, ld_span_text(body), &context);
}

static const struct ld_request *resolved(struct fixture *f, const char *body)
{
    open_fixture(f);
    if (accept(f, body) != LD_OK)
        fail_msg("%s", f->native.problem.detail);
    return &f->native.request;
}

static bool warned(const struct fixture *f, const char *words)
{
    for (uint32_t i = 0; i < f->native.warnings.count; i++)
        if (strstr(f->native.warnings.items[i], words))
            return true;
    return false;
}

static void the_model_fills_what_was_not_given(void **state)
{
    (void)state;
    struct fixture f;
    const struct ld_request *request = resolved(&f, "{\"prompt\":\"a\",\"model\":\"demo\"}");
    assert_true(request->width == 256 && request->height == 256 && request->steps == 20);
    assert_true(request->cfg_scale == 5);
    assert_false(ld_request_has(request, "steps"));
    close_fixture(&f);
    request = resolved(&f, "{\"prompt\":\"a\",\"model\":\"demo\",\"steps\":7,\"size\":\"64x128\"}");
    assert_true(request->width == 64 && request->height == 128 && request->steps == 7);
    close_fixture(&f);
    request = resolved(&f, "{\"prompt\":\"a\",\"model\":\"novelai_v2\"}");
    assert_true(request->width == 832 && request->height == 1216 && request->clip_skip == 2);
    close_fixture(&f);
}

static void presets_are_placed_where_the_model_wants_them(void **state)
{
    (void)state;
    struct fixture f;
    const struct ld_request *request =
        resolved(&f, "{\"prompt\":\"1girl\",\"negative_prompt\":\"hat\",\"model\":\"novelai_v2\","
                     "\"quality_tags\":true,\"undesired\":\"light\"}");
    assert_string_equal(request->prompt, "very aesthetic, best quality, absurdres, 1girl");
    assert_string_equal(request->negative_prompt,
                        "nsfw, lowres, jpeg artifacts, worst quality, watermark, blurry, very "
                        "displeasing, hat");
    assert_string_equal(request->quality_tags, "");
    assert_string_equal(request->undesired, "none");
    close_fixture(&f);
    /* Where the prompt asks for it, the leading word is dropped; a longer word does not count. */
    request = resolved(&f, "{\"prompt\":\"NSFW, b\",\"model\":\"novelai_v2\","
                           "\"undesired\":\"light\"}");
    assert_int_equal(strncmp(request->negative_prompt, "lowres, jpeg", 12), 0);
    close_fixture(&f);
    request = resolved(&f, "{\"prompt\":\"b\",\"rating\":\"explicit\",\"model\":\"novelai_v2\","
                           "\"undesired\":\"light\"}");
    assert_string_equal(request->prompt, "b, rating:explicit");
    assert_int_equal(strncmp(request->negative_prompt, "lowres, jpeg", 12), 0);
    close_fixture(&f);
    request = resolved(&f, "{\"prompt\":\"b\",\"rating\":\"questionable\",\"model\":\"novelai_v2\","
                           "\"undesired\":\"light\"}");
    assert_int_equal(strncmp(request->negative_prompt, "nsfw, lowres", 12), 0);
    close_fixture(&f);
    request = resolved(&f, "{\"prompt\":\"nsfwx\",\"model\":\"novelai_v2\","
                           "\"undesired\":\"lowres\",\"quality_tags\":\"v2\"}");
    assert_string_equal(request->negative_prompt, "lowres");
    close_fixture(&f);
    request = resolved(&f, "{\"prompt\":\"\",\"model\":\"novelai_v2\",\"quality_tags\":true}");
    assert_string_equal(request->prompt, "very aesthetic, best quality, absurdres");
    close_fixture(&f);
    request = resolved(&f, "{\"prompt\":\"hat\",\"model\":\"novelai_v2\",\"year\":2023,"
                           "\"rating\":\"general\",\"quality_tags\":true}");
    assert_string_equal(request->prompt, "very aesthetic, best quality, absurdres, hat, year 2023, "
                                         "rating:general");
    assert_true(request->year == 0 && request->rating[0] == '\0');
    assert_non_null(strstr(f.native.warnings.items[0], "reliable up to 2022"));
    close_fixture(&f);
}

static void presets_a_model_has_not_are_refused_by_name(void **state)
{
    (void)state;
    struct fixture f;
    open_fixture(&f);
    assert_int_equal(accept(&f, "{\"prompt\":\"a\",\"model\":\"novelai_v2\","
                                "\"undesired\":\"havy\",\"quality_tags\":\"v9\"}"),
                     LD_E_INVALID);
    assert_int_equal(f.native.problem.item_count, 2);
    assert_string_equal(f.native.problem.items[0].pointer, "/undesired");
    assert_non_null(strstr(f.native.problem.items[0].message, "heavy, light, lowres"));
    assert_string_equal(f.native.problem.items[1].pointer, "/quality_tags");
    close_fixture(&f);
    open_fixture(&f);
    assert_int_equal(accept(&f, "{\"prompt\":\"a\",\"model\":\"other\",\"quality_tags\":true}"),
                     LD_E_INVALID);
    assert_non_null(strstr(f.native.problem.detail, "no such presets"));
    close_fixture(&f);
    open_fixture(&f);
    assert_int_equal(accept(&f, "{\"prompt\":\"a\",\"model\":\"novelai_v2\",\"year\":1999,"
                                "\"rating\":\"loud\"}"),
                     LD_E_RANGE);
    assert_non_null(strstr(f.native.problem.items[0].message, "between 2005 and 2023"));
    assert_non_null(strstr(f.native.problem.items[1].message, "sensitive"));
    close_fixture(&f);
}

static void a_prompt_that_grows_too_long_is_refused(void **state)
{
    (void)state;
    struct fixture f;
    struct ld_buffer body = ld_buffer_make(65536);
    open_fixture(&f);
    ld_buffer_text(&body, "{\"model\":\"novelai_v2\",\"quality_tags\":true,\"prompt\":\"");
    for (int i = 0; i < LD_PROMPT_BYTES_MAX; i++)
        ld_buffer_byte(&body, 'a');
    ld_buffer_text(&body, "\"}");
    assert_int_equal(accept(&f, body.data), LD_E_RANGE);
    assert_string_equal(f.native.problem.items[0].pointer, "/prompt");
    ld_buffer_deinit(&body);
    close_fixture(&f);
}

static void seeds_are_drawn_below_2_to_the_32(void **state)
{
    (void)state;
    struct fixture f;
    const struct ld_request *request =
        resolved(&f, "{\"prompt\":\"a\",\"seed\":-1,\"variation\":{\"strength\":0.1}}");
    assert_true(request->seed == 4000000000U && !request->seed_random);
    assert_true(request->variation_seed == 4000000001U && !request->variation_seed_random);
    close_fixture(&f);
    request =
        resolved(&f, "{\"prompt\":\"a\",\"seed\":7,\"variation\":{\"seed\":8,\"strength\":1}}");
    assert_true(request->seed == 7 && request->variation_seed == 8);
    assert_int_equal(f.next_random, 4000000000U);
    close_fixture(&f);
    open_fixture(&f);
    f.random_fails = true;
    assert_int_equal(accept(&f, "{\"prompt\":\"a\"}"), LD_E_IO);
    assert_int_equal(ld_problem_status(&f.native.problem), 500);
    close_fixture(&f);
}

static void hidden_defaults_become_explicit(void **state)
{
    (void)state;
    struct fixture f;
    const struct ld_request *request =
        resolved(&f, "{\"prompt\":\"v, a\",\"model\":\"novelai_v2\",\"profile\":\"a1111\","
                     "\"sigmas\":[10,5,1,0],\"loras\":[{\"name\":\"x\",\"weight\":0.5}],"
                     "\"guidance\":{\"freeu\":{\"version\":\"v1\",\"s1\":0.5}}}");
    assert_int_equal(request->noise, LD_NOISE_PHILOX);
    assert_int_equal(request->steps, 3);
    assert_true(request->loras[0].text_weight == 0.5);
    assert_true(request->guidance.freeu_b1 == 1.1 && request->guidance.freeu_s1 == 0.5);
    assert_true(warned(&f, "\"v\" as \"peace sign\""));
    assert_true(warned(&f, "philox"));
    close_fixture(&f);
    request = resolved(&f, "{\"prompt\":\"a\",\"profile\":\"a1111\",\"noise\":\"cpu\"}");
    assert_int_equal(request->noise, LD_NOISE_CPU);
    close_fixture(&f);
}

static void sizes_are_advised_and_smea_is_settled(void **state)
{
    (void)state;
    struct fixture f;
    const struct ld_request *request = resolved(
        &f, "{\"prompt\":\"a\",\"model\":\"novelai_v2\",\"size\":\"832x1280\",\"smea\":\"auto\"}");
    assert_true(warned(&f, "832x1280 is not among this model's sizes; the nearest is 832x1216"));
    assert_false(warned(&f, "hires help"));
    assert_int_equal(request->smea, LD_SMEA_OFF);
    close_fixture(&f);
    request = resolved(&f, "{\"prompt\":\"a\",\"model\":\"novelai_v2\",\"size\":\"1216x1664\","
                           "\"smea\":\"auto\"}");
    assert_int_equal(request->smea, LD_SMEA_ON);
    assert_true(fabs(request->smea_scale - sqrt(1216.0 * 1664.0 / (1024.0 * 1024.0))) < 1e-9);
    close_fixture(&f);
    request = resolved(&f, "{\"prompt\":\"a\",\"model\":\"novelai_v2\",\"size\":\"1600x1600\"}");
    assert_true(warned(&f, "deep_shrink, smea or hires help beyond it"));
    close_fixture(&f);
    request = resolved(&f, "{\"prompt\":\"a\",\"model\":\"novelai_v2\",\"smea\":\"on\"}");
    assert_true(request->smea_scale == 1.25); /* below the native area, as little as there is */
    assert_false(warned(&f, "not among"));
    close_fixture(&f);
}

static void resolving_what_is_resolved_changes_nothing(void **state)
{
    (void)state;
    static const char *const bodies[] = {
        "{\"prompt\":\"a\",\"model\":\"novelai_v2\",\"quality_tags\":true,\"undesired\":\"heavy\"}",
        "{\"prompt\":\"a\",\"model\":\"demo\",\"profile\":\"a1111\",\"deep_shrink\":true,"
        "\"guidance\":{\"freeu\":true},\"variation\":{\"strength\":0.5},\"hires\":true,"
        "\"loras\":[{\"name\":\"x\"}],\"sigmas\":[3,2,1]}",
    };
    for (size_t i = 0; i < sizeof bodies / sizeof bodies[0]; i++) {
        struct fixture first;
        struct fixture second;
        struct ld_buffer once = ld_buffer_make(65536);
        struct ld_buffer twice = ld_buffer_make(65536);
        ld_request_write_json(resolved(&first, bodies[i]), &once);
        ld_request_write_json(resolved(&second, once.data), &twice);
        assert_string_equal(once.data, twice.data);
        ld_buffer_deinit(&once);
        ld_buffer_deinit(&twice);
        close_fixture(&first);
        close_fixture(&second);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_model_fills_what_was_not_given),
        cmocka_unit_test(sizes_are_advised_and_smea_is_settled),
        cmocka_unit_test(presets_are_placed_where_the_model_wants_them),
        cmocka_unit_test(presets_a_model_has_not_are_refused_by_name),
        cmocka_unit_test(a_prompt_that_grows_too_long_is_refused),
        cmocka_unit_test(seeds_are_drawn_below_2_to_the_32),
        cmocka_unit_test(hidden_defaults_become_explicit),
        cmocka_unit_test(resolving_what_is_resolved_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
