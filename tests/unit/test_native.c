/*
 * Proves that a body becomes exactly the request it describes, that canonical JSON is a fixed point
 * and that everything wrong is listed at once. Works on hand-made bodies and on requests whose
 * every field is drawn at random from its legal values.
 */
#include "api/dialect_native.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

/* ---- Helpers --------------------------------------------------------------------------------- */

struct fixture {
    struct ld_arena arena;
    struct ld_native native;
};

static void open_fixture(struct fixture *f)
{
    ld_arena_init(&f->arena, "test", LD_ARENA_REQUEST_BYTES);
    ld_native_init(&f->native, &f->arena);
}

static void close_fixture(struct fixture *f)
{
    ld_native_deinit(&f->native);
    ld_arena_deinit(&f->arena);
}

static const struct ld_request *read_body(struct fixture *f, const char *body)
{
    open_fixture(f);
    if (ld_native_decode(&f->native, ld_span_text(body), NULL) != LD_OK)
        fail_msg("%s: %s", body, f->native.problem.detail);
    return &f->native.request;
}

static bool lists(const struct ld_problem *problem, const char *pointer, const char *words)
{
    for (uint32_t i = 0; i < problem->item_count; i++)
        if (strcmp(problem->items[i].pointer, pointer) == 0 &&
            strstr(problem->items[i].message, words))
            return true;
    return false;
}

/* xorshift64*, for tests only (Marsaglia 2003, Vigna 2016). */
static uint64_t draw(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * UINT64_C(2685821657736338717);
}

static uint64_t below(uint64_t *state, uint64_t limit)
{
    return draw(state) % limit;
}

/* ---- Values ---------------------------------------------------------------------------------- */

static void a_prompt_alone_is_a_request_of_defaults(void **state)
{
    (void)state;
    struct fixture f;
    const struct ld_request *request = read_body(&f, "{\"prompt\":\"a \\u3042 \\ud83d\\ude00\"}");
    assert_string_equal(request->prompt, "a \xE3\x81\x82 \xF0\x9F\x98\x80");
    assert_int_equal(request->width, 832);
    assert_int_equal(request->height, 1216);
    assert_int_equal(request->steps, 28);
    assert_true(request->cfg_scale == 7.0);
    assert_int_equal(request->clip_skip, 2);
    assert_true(request->seed_random);
    assert_string_equal(request->sampler, "euler_ancestral");
    assert_string_equal(request->scheduler, "simple");
    assert_true(isnan(request->sampler_options.eta));
    assert_false(request->hires.present || request->init.present || request->deep_shrink.present);
    assert_true(ld_request_has(request, "prompt"));
    assert_false(ld_request_has(request, "steps"));
    close_fixture(&f);
}

static void nested_fields_arrive_at_their_members(void **state)
{
    (void)state;
    struct fixture f;
    const struct ld_request *request = read_body(
        &f,
        "{\"prompt\":\"\",\"size\":\"1024x768\",\"seed\":\"18446744073709551615\","
        "\"guidance\":{\"uncond_zero\":{\"scale\":0.5},\"auto_cfg\":true,\"freeu\":{\"b1\":1}},"
        "\"hyper\":true,\"wildcards\":{\"seed\":7},\"quality_tags\":true,\"undesired\":\"heavy\","
        "\"loras\":[{\"name\":\"ink\",\"weight\":-0.5},{\"name\":\"b\",\"text_weight\":2}],"
        "\"hires\":{\"scale\":2,\"prompt\":\"\",\"model\":\"m2\",\"loras\":[{\"name\":\"c\","
        "\"start\":0.25}]},"
        "\"output\":{\"metadata\":\"none\"},"
        "\"on_disconnect\":\"cancel\",\"sigmas\":[14.6,3,0.0],"
        "\"user_data\": { \"a\" : [ 1, \"x y\\\"\" ] },\"smea\":\"auto\","
        "\"sampler_options\":{\"discard_penultimate\":false},\"noise\":\"philox\"}");
    assert_int_equal(request->width, 1024);
    assert_int_equal(request->height, 768);
    assert_true(request->seed == UINT64_MAX && !request->seed_random);
    assert_true(request->guidance.uncond_zero && request->guidance.uncond_zero_scale == 0.5);
    assert_string_equal(request->guidance.auto_cfg, "hard");
    assert_string_equal(request->guidance.freeu, "v2");
    assert_int_equal(request->hyper_steps, 8);
    assert_true(request->wildcards && request->wildcards_seeded && request->wildcards_seed == 7);
    assert_string_equal(request->quality_tags, "default");
    assert_int_equal(request->lora_count, 2);
    assert_true(request->loras[0].weight == -0.5 && isnan(request->loras[0].text_weight));
    assert_true(request->loras[1].weight == 1 && request->loras[1].text_weight == 2);
    assert_true(request->hires.present && request->hires.scale == 2);
    assert_string_equal(request->hires.prompt, "");
    assert_null(request->hires.negative_prompt);
    assert_string_equal(request->hires.model, "m2");
    assert_true(request->hires.loras_given && request->hires.lora_count == 1);
    assert_true(request->hires.loras[0].start == 0.25 && request->hires.loras[0].weight == 1);
    assert_int_equal(request->smea, LD_SMEA_AUTO);
    assert_false(request->metadata_full);
    assert_int_equal(request->cancel_on_disconnect, LD_TRUE);
    assert_int_equal(request->sigma_count, 3);
    assert_string_equal(request->user_data, "{\"a\":[1,\"x y\\\"\"]}");
    assert_int_equal(request->sampler_options.discard_penultimate, LD_FALSE);
    assert_int_equal(request->noise, LD_NOISE_PHILOX);
    close_fixture(&f);
}

static void an_image_is_decoded_beside_the_request(void **state)
{
    (void)state;
    struct fixture f;
    const struct ld_request *request =
        read_body(&f, "{\"prompt\":\"\",\"init\":{\"image\":{\"base64\":\"aGVsbG8=\"},"
                      "\"mask\":{\"id\":\"0123456789abcdefghijklmnop\"},\"mask_blur\":4}}");
    assert_int_equal(f.native.init_image.size, 5);
    assert_memory_equal(f.native.init_image.data, "hello", 5);
    assert_string_equal(request->init.image, "");
    assert_string_equal(request->init.mask, "0123456789abcdefghijklmnop");
    assert_int_equal(f.native.init_mask.size, 0);
    close_fixture(&f);
}

static void each_unit_has_the_picture_that_it_named(void **state)
{
    (void)state;
    struct fixture f;
    const struct ld_request *request =
        read_body(&f, "{\"prompt\":\"\",\"control\":[{\"model\":\"a\"},"
                      "{\"image\":{\"base64\":\"aGVsbG8=\"},\"model\":\"folder/b\","
                      "\"mode\":\"control\",\"resize\":\"pad\"},"
                      "{\"model\":\"c\",\"image\":{\"id\":\"0123456789abcdefghijklmnop\"},"
                      "\"weight\":0.5,\"high\":9,\"preprocess\":\"inpaint\"}]}");
    assert_int_equal(request->control_count, 3);
    assert_int_equal(f.native.control_images[0].size, 0);
    assert_int_equal(f.native.control_images[1].size, 5);
    assert_memory_equal(f.native.control_images[1].data, "hello", 5);
    assert_int_equal(f.native.control_images[2].size, 0);
    assert_int_equal(f.native.init_image.size + f.native.init_mask.size, 0);
    assert_string_equal(request->controls[1].image, "");
    assert_string_equal(request->controls[1].model, "folder/b");
    assert_int_equal(request->controls[1].mode, LD_CONTROL_HINT);
    assert_int_equal(request->controls[1].resize, LD_FIT_PAD);
    assert_true(request->controls[1].weight == 1 && isnan(request->controls[1].high));
    assert_string_equal(request->controls[2].image, "0123456789abcdefghijklmnop");
    assert_int_equal(request->controls[2].preprocess, LD_HINT_INPAINT);
    assert_true(request->controls[2].weight == 0.5 && request->controls[2].high == 9);
    close_fixture(&f);
}

static void an_image_beyond_its_ceiling_is_refused(void **state)
{
    (void)state;
    struct fixture f;
    const struct ld_api_context context = {.image_bytes_max = 4};
    open_fixture(&f);
    const char *body = "{\"prompt\":\"\",\"init\":{\"image\":{\"base64\":\"aGVsbG8=\"}}}";
    assert_int_equal(ld_native_decode(&f.native, ld_span_text(body), &context), LD_E_TOO_LARGE);
    assert_int_equal(ld_problem_status(&f.native.problem), 413);
    close_fixture(&f);
}

/* ---- Refusals -------------------------------------------------------------------------------- */

static void every_wrong_field_is_listed(void **state)
{
    (void)state;
    struct fixture f;
    open_fixture(&f);
    const char *body = "{\"stpes\":20,\"width\":100,\"height\":\"tall\",\"cfg_scale\":31,"
                       "\"size\":\"64x64\",\"hires\":{\"scael\":2},\"loras\":[{\"weigth\":1}],"
                       "\"controlnet\":[],\"reference\":[],\"sampler_options\":{\"eta\":3}}";
    const struct ld_problem *problem = &f.native.problem;
    assert_int_equal(ld_native_decode(&f.native, ld_span_text(body), NULL), LD_E_INVALID);
    assert_true(lists(problem, "/stpes", "did you mean steps?"));
    assert_true(lists(problem, "/width", "width must be a multiple of 8 between 64 and 4096"));
    assert_true(lists(problem, "/height", "height must be an integer"));
    assert_true(lists(problem, "/cfg_scale", "cfg_scale must be between 0 and 30"));
    assert_true(lists(problem, "/size", "beside"));
    assert_true(lists(problem, "/hires/scael", "did you mean scale?"));
    assert_true(lists(problem, "/loras/0/weigth", "did you mean weight?"));
    assert_true(lists(problem, "/loras/0/name", "required"));
    assert_true(lists(problem, "/controlnet", "unknown field"));
    assert_true(lists(problem, "/reference", "not available"));
    assert_true(lists(problem, "/sampler_options/eta", "between 0 and 2"));
    assert_true(lists(problem, "/prompt", "required"));
    assert_int_equal(problem->item_count, 12);
    close_fixture(&f);
}

static void more_errors_than_fit_are_counted(void **state)
{
    (void)state;
    struct fixture f;
    struct ld_buffer body = ld_buffer_make(65536);
    open_fixture(&f);
    ld_buffer_text(&body, "{\"prompt\":\"\"");
    for (int i = 0; i < 200; i++)
        ld_buffer_format(&body, ",\"zz%d\":1", i);
    ld_buffer_text(&body, "}");
    assert_int_equal(ld_native_decode(&f.native, ld_span_of(body.data, body.size), NULL),
                     LD_E_INVALID);
    assert_int_equal(f.native.problem.item_count, LD_PROBLEM_ITEMS);
    assert_int_equal(f.native.problem.dropped, 200 - LD_PROBLEM_ITEMS);
    ld_buffer_deinit(&body);
    close_fixture(&f);
}

static void bodies_that_are_no_object_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *body;
        int status;
    } cases[] = {{"[]", 422}, {"1", 422}, {"null", 422}, {"", 400}, {"{", 400}, {"{} {}", 400}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct fixture f;
        open_fixture(&f);
        assert_int_not_equal(ld_native_decode(&f.native, ld_span_text(cases[i].body), NULL), LD_OK);
        assert_int_equal(ld_problem_status(&f.native.problem), cases[i].status);
        close_fixture(&f);
    }
}

static void an_arena_too_small_is_an_ordinary_error(void **state)
{
    (void)state;
    const char *body = "{\"prompt\":\"a\\nb\",\"tag\":\"x\",\"loras\":[{\"name\":\"a\"}]}";
    for (size_t limit = 0; limit < 4096; limit += 16) {
        struct ld_arena arena;
        struct ld_native native;
        ld_arena_init(&arena, "small", limit);
        ld_native_init(&native, &arena);
        const enum ld_code code = ld_native_decode(&native, ld_span_text(body), NULL);
        assert_true(code == LD_OK || code == LD_E_NOMEM);
        assert_true(code == LD_OK || ld_problem_status(&native.problem) == 503);
        ld_native_deinit(&native);
        ld_arena_deinit(&arena);
    }
}

/* ---- Canonical JSON -------------------------------------------------------------------------- */

static void put_random_text(struct ld_buffer *out, uint64_t *seed, size_t max)
{
    static const char *const pieces[] = {
        "a",       "1girl, ",          "\\\"", "\\\\", "\\n", "\xC3\xA9", "(x:1.2)",
        "\\u3042", "\xF0\x9F\x98\x80", "/",    "{b}",  "~"};
    size_t size = 0;
    ld_buffer_byte(out, '"');
    for (uint64_t i = below(seed, 12); i > 0 && size + 8 < max; i--, size += 8)
        ld_buffer_text(out, pieces[below(seed, sizeof pieces / sizeof pieces[0])]);
    ld_buffer_byte(out, '"');
}

static void put_random_number(const struct ld_field *field, struct ld_buffer *out, uint64_t *seed)
{
    const double share = (double)below(seed, 1000001) / 1000000.0;
    double value = field->min + (field->max - field->min) * share;
    if (below(seed, 4) == 0)
        value = field->max;
    ld_buffer_json_double(out, value == 0.0 ? 0.0 : value);
}

static void put_random_word(const struct ld_field *field, struct ld_buffer *out, uint64_t *seed)
{
    struct ld_span word = {0};
    size_t pos = 0;
    uint32_t words = 1;
    for (const char *c = field->words; *c; c++)
        words += *c == '|';
    for (uint64_t i = below(seed, words) + 1; i > 0; i--)
        assert_true(ld_words_next(field->words, &pos, &word));
    ld_buffer_json_span(out, word);
}

/* One to three units, each with about half of its members. */
static void put_random_units(const struct ld_field *list, struct ld_buffer *out, uint64_t *seed)
{
    for (uint64_t i = 0, count = 1 + below(seed, LD_CONTROLS_MAX); i < count; i++) {
        ld_buffer_format(out, "%s{\"model\":\"m %llu\"", i ? "," : "[",
                         (unsigned long long)below(seed, 10));
        for (const struct ld_field *field = list + 2; field->flags & LD_FIELD_ITEM; field++) {
            if (below(seed, 2))
                continue;
            ld_buffer_format(out, ",\"%s\":", ld_field_key(field));
            if (field->kind == LD_FIELD_NUMBER)
                put_random_number(field, out, seed);
            else if (field->kind == LD_FIELD_CHOICE)
                put_random_word(field, out, seed);
            else
                ld_buffer_text(out, "{\"id\":\"0123456789abcdefghijklmnop\"}");
        }
        ld_buffer_byte(out, '}');
    }
    ld_buffer_byte(out, ']');
}

static void put_random_value(const struct ld_field *field, struct ld_buffer *out, uint64_t *seed)
{
    struct ld_span word = {0};
    uint64_t span;
    switch (field->kind) {
    case LD_FIELD_INT:
    case LD_FIELD_OFFSET:
        span = (uint64_t)(field->max - field->min) + 1;
        if (field->flags & LD_FIELD_MULTIPLE_8)
            ld_buffer_format(out, "%llu", (unsigned long long)(64 + 8 * below(seed, 505)));
        else
            ld_buffer_format(out, "%lld", (long long)field->min + (long long)below(seed, span));
        break;
    case LD_FIELD_NUMBER:
        put_random_number(field, out, seed);
        break;
    case LD_FIELD_SEED:
        if (below(seed, 3) == 0)
            ld_buffer_format(out, "\"%llu\"", (unsigned long long)draw(seed));
        else
            ld_buffer_format(out, "%llu", (unsigned long long)(draw(seed) >> 1));
        break;
    case LD_FIELD_CHOICE:
    case LD_FIELD_WORD:
    case LD_FIELD_TRISTATE:
        if (field->words[0] == '\0')
            ld_buffer_text(out, below(seed, 2) ? "true" : "false");
        else
            put_random_word(field, out, seed);
        break;
    case LD_FIELD_BOOL:
        ld_buffer_text(out, below(seed, 2) ? "true" : "false");
        break;
    case LD_FIELD_TEXT:
        put_random_text(out, seed, (size_t)field->max);
        break;
    case LD_FIELD_NAME:
        ld_buffer_format(out, "\"folder/name %llu\"", (unsigned long long)below(seed, 1000));
        break;
    case LD_FIELD_PRESET:
        ld_buffer_text(out, below(seed, 2) ? "\"heavy\"" : "true");
        break;
    case LD_FIELD_IMAGE:
        ld_buffer_text(out, "{\"id\":\"0123456789abcdefghijklmnop\"}");
        break;
    case LD_FIELD_WORDS: {
        size_t pos = 0;
        assert_true(ld_words_next(field->words, &pos, &word));
        ld_buffer_byte(out, '[');
        ld_buffer_json_span(out, word);
        while (ld_words_next(field->words, &pos, &word)) {
            if (below(seed, 2))
                continue;
            ld_buffer_byte(out, ',');
            ld_buffer_json_span(out, word);
        }
        ld_buffer_byte(out, ']');
        break;
    }
    case LD_FIELD_SIGMAS:
        ld_buffer_format(out, "[%llu.25,1.5,0.1]", (unsigned long long)(2 + below(seed, 100)));
        break;
    case LD_FIELD_LIST:
        if (strcmp(field->path, "control") == 0) {
            put_random_units(field, out, seed);
            break;
        }
        ld_buffer_text(out, "[{\"name\":\"a\",\"weight\":0.7,\"end\":0.5},"
                            "{\"name\":\"b\",\"text_weight\":-1.25}]");
        break;
    case LD_FIELD_USER_DATA:
        ld_buffer_text(out, "{ \"k\" : [1, {\"x\" : \" \\\" \"}] }");
        break;
    case LD_FIELD_OBJECT:
    case LD_FIELD_OBJECT_ON:
    case LD_FIELD_SIZE:
    case LD_FIELD_UNBUILT:
        fail();
    }
}

/* Objects stand before their members, so a body can be written in one walk. */
static void put_random_request(struct ld_buffer *out, uint64_t *seed)
{
    uint32_t count;
    const struct ld_field *fields = ld_fields(&count);
    const struct ld_field *open[4];
    uint32_t depth = 0;
    bool comma = false;
    /* An enlarged picture goes with few others, and they with it. */
    const bool enlarges = below(seed, 8) == 0;
    const struct ld_field *upscale = ld_field_find("upscale");
    ld_buffer_text(out, "{");
    for (const struct ld_field *field = fields; field < fields + count; field++) {
        const struct ld_field *parent = ld_field_parent(field);
        while (depth > 0 && open[depth - 1] != parent) {
            ld_buffer_text(out, "}");
            comma = true;
            depth--;
        }
        const bool needed = (field->flags & LD_FIELD_REQUIRED) != 0;
        if ((field->flags & LD_FIELD_ITEM) || field->kind == LD_FIELD_SIZE ||
            field->kind == LD_FIELD_UNBUILT || (depth ? open[depth - 1] : NULL) != parent ||
            (enlarges ? !ld_field_goes_with_upscale(field) : field == upscale) ||
            (!needed && !(enlarges && field == upscale) && below(seed, 2)))
            continue;
        ld_buffer_format(out, "%s\"%s\":", comma ? "," : "", ld_field_key(field));
        comma = true;
        if (field->kind == LD_FIELD_OBJECT || field->kind == LD_FIELD_OBJECT_ON) {
            ld_buffer_text(out, "{");
            open[depth++] = field;
            comma = false;
        } else {
            put_random_value(field, out, seed);
        }
    }
    for (; depth > 0; depth--)
        ld_buffer_text(out, "}");
    ld_buffer_text(out, "}");
}

static void assert_units_equal(const struct ld_request *a, const struct ld_request *b)
{
    assert_int_equal(a->control_count, b->control_count);
    for (uint32_t i = 0; i < a->control_count; i++) {
        const struct ld_request_control *x = &a->controls[i];
        const struct ld_request_control *y = &b->controls[i];
        assert_string_equal(x->model, y->model);
        assert_string_equal(x->image, y->image);
        assert_memory_equal(&x->weight, &y->weight, sizeof x->weight);
        assert_memory_equal(&x->start, &y->start, sizeof x->start);
        assert_memory_equal(&x->end, &y->end, sizeof x->end);
        assert_true(isnan(x->low) ? isnan(y->low) : x->low == y->low);
        assert_true(isnan(x->high) ? isnan(y->high) : x->high == y->high);
        assert_int_equal(x->mode, y->mode);
        assert_int_equal(x->preprocess, y->preprocess);
        assert_int_equal(x->resize, y->resize);
        assert_int_equal(x->passes, y->passes);
    }
}

static void canonical_json_is_a_fixed_point_of_random_requests(void **state)
{
    (void)state;
    uint64_t seed = 20261125;
    for (int round = 0; round < 3000; round++) {
        struct fixture first;
        struct fixture second;
        struct ld_buffer body = ld_buffer_make(65536);
        struct ld_buffer once = ld_buffer_make(65536);
        struct ld_buffer twice = ld_buffer_make(65536);
        put_random_request(&body, &seed);
        assert_false(body.failed);
        const struct ld_request *request = read_body(&first, body.data);
        ld_request_write_json(request, &once);
        assert_false(once.failed);
        const struct ld_request *again = read_body(&second, once.data);
        ld_request_write_json(again, &twice);
        assert_string_equal(once.data, twice.data);
        /* The values themselves, not only their text. */
        assert_true(again->seed == request->seed && again->cfg_scale == request->cfg_scale);
        assert_memory_equal(&again->hires.scale, &request->hires.scale, sizeof(double));
        assert_int_equal(again->steps, request->steps);
        assert_string_equal(again->prompt, request->prompt);
        assert_int_equal(again->hires.present, request->hires.present);
        assert_units_equal(request, again);
        ld_buffer_deinit(&body);
        ld_buffer_deinit(&once);
        ld_buffer_deinit(&twice);
        close_fixture(&first);
        close_fixture(&second);
    }
}

static void canonical_json_of_the_smallest_request_is_known(void **state)
{
    (void)state;
    struct fixture f;
    struct ld_buffer out = ld_buffer_make(65536);
    const struct ld_request *request =
        read_body(&f, "{\"seed\":5,\"prompt\":\"a\",\"tag\":\"t\",\"priority\":7}");
    ld_request_write_json(request, &out);
    assert_string_equal(
        out.data,
        "{\"prompt\":\"a\",\"negative_prompt\":\"\",\"syntax\":\"a1111\",\"profile\":\"comfy\","
        "\"width\":832,\"height\":1216,\"images\":1,\"steps\":28,\"cfg_scale\":7,"
        "\"sampler\":\"euler_ancestral\",\"scheduler\":\"simple\",\"seed\":5,\"noise\":\"cpu\","
        "\"clip_skip\":2,\"vae_tiling\":\"auto\",\"emphasis\":\"original\",\"priority\":7,"
        "\"output\":{\"format\":\"png\",\"metadata\":\"full\"},\"tag\":\"t\"}");
    ld_buffer_clear(&out);
    ld_request_write_replay_json(request, &out);
    assert_null(strstr(out.data, "tag"));
    assert_null(strstr(out.data, "priority"));
    assert_non_null(strstr(out.data, "\"seed\":5"));
    ld_buffer_deinit(&out);
    close_fixture(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_prompt_alone_is_a_request_of_defaults),
        cmocka_unit_test(nested_fields_arrive_at_their_members),
        cmocka_unit_test(an_image_is_decoded_beside_the_request),
        cmocka_unit_test(each_unit_has_the_picture_that_it_named),
        cmocka_unit_test(an_image_beyond_its_ceiling_is_refused),
        cmocka_unit_test(every_wrong_field_is_listed),
        cmocka_unit_test(more_errors_than_fit_are_counted),
        cmocka_unit_test(bodies_that_are_no_object_are_refused),
        cmocka_unit_test(an_arena_too_small_is_an_ordinary_error),
        cmocka_unit_test(canonical_json_is_a_fixed_point_of_random_requests),
        cmocka_unit_test(canonical_json_of_the_smallest_request_is_known),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
