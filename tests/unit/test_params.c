/*
 * Proves that command-line texts set the same fields with the same checks as JSON does. Works on
 * every flag of the table and on hand-made slips.
 */
#include "config/limits.h"
#include "runtime/params.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static struct ld_arena arena;
static struct ld_request request;

static int open_request(void **state)
{
    (void)state;
    ld_arena_init(&arena, "test", 1 << 20);
    ld_request_default(&request);
    return 0;
}

static int close_request(void **state)
{
    (void)state;
    ld_arena_deinit(&arena);
    return 0;
}

static void set(const char *name, const char *value)
{
    struct ld_error err = {0};
    if (ld_request_set_text(&request, &arena, name, value, &err) != LD_OK)
        fail_msg("--%s %s: %s", name, value, err.detail);
}

static void refuses(const char *name, const char *value, enum ld_code code, const char *words)
{
    struct ld_error err = {0};
    assert_int_equal(ld_request_set_text(&request, &arena, name, value, &err), code);
    if (!strstr(err.detail, words))
        fail_msg("--%s %s: %s", name, value, err.detail);
}

static void flags_and_paths_name_the_same_fields(void **state)
{
    (void)state;
    set("steps", "20");
    set("cfg-scale", "5.5");
    set("cfg_scale", "6.5");
    set("hires-scale", "2");
    set("guidance-rescale", "0.7");
    set("guidance.uncond_zero.pre_scale", "1.5");
    set("size", "512x768");
    set("seed", "18446744073709551615");
    set("sigmas", "14.6, 7,3,0");
    set("output-metadata", "none");
    set("sampler-options-discard-penultimate", "true");
    assert_int_equal(request.steps, 20);
    assert_true(request.cfg_scale == 6.5);
    assert_true(request.hires.present && request.hires.scale == 2);
    assert_true(request.guidance.rescale == 0.7);
    assert_true(request.guidance.uncond_zero && request.guidance.uncond_zero_pre_scale == 1.5);
    assert_true(request.width == 512 && request.height == 768);
    assert_true(request.seed == UINT64_MAX && !request.seed_random);
    assert_int_equal(request.sigma_count, 4);
    assert_false(request.metadata_full);
    assert_int_equal(request.sampler_options.discard_penultimate, LD_TRUE);
    assert_true(ld_request_has(&request, "steps") && ld_request_has(&request, "width"));
    assert_false(ld_request_has(&request, "sampler"));
    set("seed", "-1");
    assert_true(request.seed_random);
}

static void switches_turn_objects_on_and_off(void **state)
{
    (void)state;
    set("hyper", "true");
    set("guidance-auto-cfg", "true");
    set("deep-shrink", "true");
    set("wildcards", "true");
    set("quality-tags", "true");
    assert_int_equal(request.hyper_steps, 8);
    assert_string_equal(request.guidance.auto_cfg, "hard");
    assert_true(request.deep_shrink.present && request.wildcards);
    assert_string_equal(request.quality_tags, "default");
    set("hyper", "off");
    set("guidance-auto-cfg", "false");
    set("deep-shrink", "no");
    set("quality-tags", "false");
    assert_int_equal(request.hyper_steps, 0);
    assert_string_equal(request.guidance.auto_cfg, "");
    assert_false(request.deep_shrink.present);
    assert_string_equal(request.quality_tags, "");
    set("hyper-steps", "12");
    assert_int_equal(request.hyper_steps, 12);
}

static void adapters_are_added_one_by_one(void **state)
{
    (void)state;
    set("lora", "ink");
    set("lora", "folder/ink v2:0.8");
    set("loras", "a:b:-1:0.5");
    assert_int_equal(request.lora_count, 3);
    assert_string_equal(request.loras[0].name, "ink");
    assert_true(request.loras[0].weight == 1 && isnan(request.loras[0].text_weight));
    assert_string_equal(request.loras[1].name, "folder/ink v2");
    assert_true(request.loras[1].weight == 0.8);
    assert_string_equal(request.loras[2].name, "a:b");
    assert_true(request.loras[2].weight == -1 && request.loras[2].text_weight == 0.5);
    set("hires-loras", "ink:0.5@0.25-0.75");
    set("hires-loras", "a@b");
    assert_int_equal(request.hires.lora_count, 2);
    assert_true(request.hires.present && request.hires.loras_given);
    assert_true(request.hires.loras[0].weight == 0.5 && request.hires.loras[0].start == 0.25 &&
                request.hires.loras[0].end == 0.75);
    assert_string_equal(request.hires.loras[1].name, "a@b");
    assert_true(request.hires.loras[1].end == 1);
    refuses("lora", "ink@0-2", LD_E_RANGE, "between 0 and 1");
    refuses("lora", "ink:5", LD_E_RANGE, "between -4 and 4");
    refuses("lora", "../x", LD_E_INVALID, "plain name");
    refuses("lora", ":1", LD_E_RANGE, "bytes");
    for (uint32_t i = request.lora_count; i < LD_LORAS_MAX; i++)
        set("lora", "x");
    refuses("lora", "x", LD_E_RANGE, "at most 16");
}

static void units_are_added_and_their_members_set_on_the_last(void **state)
{
    (void)state;
    struct ld_buffer text = ld_buffer_make(65536);
    set("control", "canny:0.5@0.25-0.75");
    set("control-preprocess", "canny");
    set("control.low", "9");
    set("control", "folder/a:b");
    set("control-mode", "control");
    set("control-image", "0123456789abcdefghijklmnop");
    set("control-passes", "second");
    set("control-weight", "2");
    assert_int_equal(request.control_count, 2);
    const struct ld_request_control *first = &request.controls[0];
    const struct ld_request_control *second = &request.controls[1];
    assert_string_equal(first->model, "canny");
    assert_string_equal(first->image, "");
    assert_true(first->weight == 0.5 && first->start == 0.25 && first->end == 0.75);
    assert_true(first->low == 9 && isnan(first->high));
    assert_int_equal(first->preprocess, LD_HINT_CANNY);
    assert_int_equal(first->mode, LD_CONTROL_BALANCED);
    assert_int_equal(first->resize, LD_FIT_CROP);
    assert_string_equal(second->model, "folder/a:b");
    assert_string_equal(second->image, "0123456789abcdefghijklmnop");
    assert_true(second->weight == 2 && second->start == 0 && second->end == 1);
    assert_int_equal(second->preprocess, LD_HINT_NONE);
    assert_int_equal(second->mode, LD_CONTROL_HINT);
    assert_int_equal(second->passes, LD_CONTROL_SECOND);
    assert_true(ld_request_has(&request, "control") && request.controls_given);
    ld_request_write_given_json(&request, &text);
    assert_string_equal(
        text.data, "{\"control\":[{\"model\":\"canny\",\"weight\":0.5,\"start\":0.25,\"end\":0.75,"
                   "\"mode\":\"balanced\",\"preprocess\":\"canny\",\"low\":9,\"resize\":\"crop\","
                   "\"passes\":\"both\"},{\"model\":\"folder/a:b\",\"image\":{\"id\":"
                   "\"0123456789abcdefghijklmnop\"},\"weight\":2,\"start\":0,\"end\":1,"
                   "\"mode\":\"control\",\"preprocess\":\"none\",\"resize\":\"crop\","
                   "\"passes\":\"second\"}]}");
    refuses("control-weight", "2.5", LD_E_RANGE, "control.weight must be between 0 and 2");
    assert_true(second->weight == 2);
    set("control", "c");
    refuses("control", "d", LD_E_RANGE, "control must have at most 3 items");
    ld_buffer_deinit(&text);
}

static void an_empty_list_of_the_second_pass_is_said(void **state)
{
    (void)state;
    struct ld_buffer text = ld_buffer_make(65536);
    set("hires-loras", "none");
    ld_request_write_json(&request, &text);
    assert_non_null(strstr(text.data, "\"loras\":[]"));
    assert_int_equal(request.hires.lora_count, 0);
    ld_buffer_deinit(&text);
}

static void ranges_of_adapters_are_counted_and_sorted(void **state)
{
    (void)state;
    double starts[LD_LORA_RANGES_MAX];
    const struct ld_request_lora loras[] = {
        {"a", 1, 1, 0.5, 1}, {"b", 1, 1, 0, 0.25}, {"c", 1, 1, 0, 1}, {"d", 1, 1, 0.25, 0.5}};
    assert_int_equal(ld_lora_ranges(loras, 4, starts), 3);
    assert_true(starts[0] == 0 && starts[1] == 0.25 && starts[2] == 0.5);
    assert_int_equal(ld_lora_ranges(loras, 0, starts), 1);
    assert_int_equal(ld_lora_ranges(loras + 2, 1, starts), 1);
}

static void slips_are_named_and_change_nothing(void **state)
{
    (void)state;
    const struct ld_request before = request;
    refuses("stpes", "20", LD_E_NOT_FOUND, "did you mean steps?");
    refuses("hires-scal", "2", LD_E_NOT_FOUND, "hires.scale");
    refuses("loras.weight", "1", LD_E_NOT_FOUND, "no field");
    refuses("steps", "0", LD_E_RANGE, "steps must be between 1 and 150");
    refuses("steps", "20.0", LD_E_INVALID, "integer");
    refuses("steps", " 20", LD_E_INVALID, "integer");
    refuses("width", "100", LD_E_RANGE, "multiple of 8");
    refuses("cfg_scale", "nan", LD_E_INVALID, "number");
    refuses("cfg_scale", "30.5", LD_E_RANGE, "between 0 and 30");
    refuses("syntax", "a1112", LD_E_INVALID, "did you mean a1111?");
    refuses("pad_context", "maybe", LD_E_INVALID, "true or false");
    refuses("sigmas", "1,2", LD_E_RANGE, "decreasing");
    refuses("sigmas", "1,x", LD_E_INVALID, "numbers");
    refuses("prompt", "a\xFF", LD_E_INVALID, "UTF-8");
    refuses("user_data", "[1]", LD_E_INVALID, "object");
    refuses("user_data", "{\"a\":1}x", LD_E_INVALID, "object");
    refuses("reference", "x", LD_E_UNSUPPORTED, "not available");
    refuses("control", "../x", LD_E_INVALID, "plain name");
    refuses("control", "x:3", LD_E_RANGE, "control.weight must be between 0 and 2");
    refuses("control-mode", "prompt", LD_E_INVALID, "control.mode needs a control before it");
    refuses("control-strength", "1", LD_E_NOT_FOUND, "no field");
    refuses("hires", "2", LD_E_INVALID, "true or false");
    assert_memory_equal(&before, &request, sizeof request);
}

static void every_flag_can_be_set(void **state)
{
    (void)state;
    uint32_t count;
    const struct ld_field *fields = ld_fields(&count);
    uint32_t flags = 0;
    for (uint32_t i = 0; i < count; i++) {
        char flag[80];
        char value[80] = "true";
        if (!ld_field_flag_name(&fields[i], flag, sizeof flag))
            continue;
        const struct ld_field *field = &fields[i];
        if (field->kind == LD_FIELD_INT || field->kind == LD_FIELD_OFFSET)
            (void)ld_fmt(value, sizeof value, "%.0f", field->max);
        else if (field->kind == LD_FIELD_NUMBER)
            (void)ld_fmt(value, sizeof value, "%.17g", field->max);
        else if (field->kind == LD_FIELD_SEED)
            (void)ld_fmt(value, sizeof value, "7");
        else if (field->kind == LD_FIELD_SIZE)
            (void)ld_fmt(value, sizeof value, "64x64");
        else if (field->kind == LD_FIELD_SIGMAS)
            (void)ld_fmt(value, sizeof value, "1,0");
        else if (field->kind == LD_FIELD_IMAGE)
            (void)ld_fmt(value, sizeof value, "0123456789abcdefghijklmnop");
        else if (field->kind == LD_FIELD_USER_DATA)
            (void)ld_fmt(value, sizeof value, "{}");
        else if (field->words[0])
            (void)ld_fmt(value, sizeof value, "%.*s", (int)strcspn(field->words, "|"),
                         field->words);
        set(flag, value);
        assert_true(ld_request_has(&request, field->path));
        flags++;
    }
    assert_true(flags > 120);
}

/* Every row that changes no picture, whatever its kind; the picture stays the taker's. */
static void delivery_is_taken_from_another_request(void **state)
{
    struct ld_request taker;
    (void)state;
    ld_request_default(&taker);
    taker.steps = 7;
    set("steps", "9");
    set("priority", "3");
    set("tag", "its");
    set("user-data", "{}");
    set("webhook-url", "https://a.example/");
    set("webhook-events", "image,done");
    set("preview-decoder", "latent");
    set("preview-format", "webp");
    ld_request_take_delivery(&taker, &request);
    assert_int_equal(taker.steps, 7);
    assert_int_equal(taker.priority, 3);
    assert_string_equal(taker.tag, "its");
    assert_string_equal(taker.user_data, "{}");
    assert_string_equal(taker.webhook_url, "https://a.example/");
    assert_true(taker.webhook_events != 0 && taker.webhook_events == request.webhook_events);
    assert_int_equal(taker.preview_decoder, LD_PREVIEW_LATENT);
    assert_string_equal(taker.preview_format, "webp");
}

static void the_second_pass_is_sized_as_its_profile_rounds(void **state)
{
    (void)state;
    int64_t width;
    int64_t height;
    set("size", "832x1216");
    ld_request_final_size(&request, &width, &height);
    assert_true(width == 832 && height == 1216);
    set("hires-scale", "1.3");
    ld_request_final_size(&request, &width, &height);
    assert_true(width == 1080 && height == 1584); /* round(104*1.3)*8, round(152*1.3)*8 */
    set("profile", "a1111");
    ld_request_final_size(&request, &width, &height);
    assert_true(width == 1080 && height == 1576); /* int(1081.6), int(1580.8), down to 8 */
    set("hires-width", "1024");
    set("hires-height", "1536");
    ld_request_final_size(&request, &width, &height);
    assert_true(width == 1024 && height == 1536);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(flags_and_paths_name_the_same_fields, open_request,
                                        close_request),
        cmocka_unit_test_setup_teardown(switches_turn_objects_on_and_off, open_request,
                                        close_request),
        cmocka_unit_test_setup_teardown(adapters_are_added_one_by_one, open_request, close_request),
        cmocka_unit_test_setup_teardown(units_are_added_and_their_members_set_on_the_last,
                                        open_request, close_request),
        cmocka_unit_test_setup_teardown(an_empty_list_of_the_second_pass_is_said, open_request,
                                        close_request),
        cmocka_unit_test_setup_teardown(ranges_of_adapters_are_counted_and_sorted, open_request,
                                        close_request),
        cmocka_unit_test_setup_teardown(slips_are_named_and_change_nothing, open_request,
                                        close_request),
        cmocka_unit_test_setup_teardown(every_flag_can_be_set, open_request, close_request),
        cmocka_unit_test_setup_teardown(delivery_is_taken_from_another_request, open_request,
                                        close_request),
        cmocka_unit_test_setup_teardown(the_second_pass_is_sized_as_its_profile_rounds,
                                        open_request, close_request),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
