/*
 * Proves that tags in an unusual order are told once each, for models that have quality presets,
 * and that the usual order, weights and sentences pass in silence.
 */
#include "api/tag_order.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static const char front[] = "{\"quality\":{\"default\":\"q\",\"presets\":[{\"name\":\"q\","
                            "\"position\":\"front\",\"text\":\"best quality, absurdres\"}]}}";
static const char back[] = "{\"quality\":{\"default\":\"q\",\"presets\":[{\"name\":\"q\","
                           "\"position\":\"end\",\"text\":\"best quality, absurdres\"}]}}";

/* The advice for a prompt, joined by '|'. */
static const char *advice(const char *tags, const char *prompt)
{
    static char text[1024];
    static const char conf[] = "[manifest]\ntitle = t\nmodels = *\n";
    struct ld_arena arena;
    struct ld_manifest manifest;
    struct ld_error err = {0};
    ld_arena_init(&arena, "test", 1 << 16);
    struct ld_warnings warnings = {.arena = &arena};
    if (ld_manifest_parse(&manifest, "t", ld_span_text(conf), ld_span_text(tags), &arena, &err) !=
        LD_OK)
        fail_msg("%s", err.detail);
    ld_tag_order_advise(prompt, &manifest, &warnings);
    text[0] = '\0';
    for (uint32_t i = 0; i < warnings.count; i++) {
        const size_t used = strlen(text);
        assert_true(
            ld_fmt(text + used, sizeof text - used, "%s%s", i ? "|" : "", warnings.items[i]));
    }
    ld_arena_deinit(&arena);
    return text;
}

static void the_usual_order_is_silent(void **state)
{
    (void)state;
    static const char *const prompts[] = {
        "",
        "best quality, absurdres, 1girl, solo, blue sky",
        "(best_quality:1.2), 2girls, cat",
        "1girl, a girl who walks through a very long sentence without any comma at all in it",
        "{{best quality}}, no humans, castle",
        "1girl",
    };
    for (size_t i = 0; i < sizeof prompts / sizeof prompts[0]; i++)
        assert_string_equal(advice(front, prompts[i]), "");
    assert_string_equal(advice(back, "1girl, blue sky, best quality, absurdres"), "");
    assert_string_equal(advice("", "blue sky, 1girl, best quality"), "");
}

static void an_unusual_order_is_told_once_of_each_kind(void **state)
{
    (void)state;
    assert_string_equal(advice(front, "blue sky, best quality, absurdres"),
                        "tag order: this model wants \"best quality\" in front, before \"blue "
                        "sky\"");
    assert_string_equal(advice(front, "blue sky, (1girl:1.1), 1boy"),
                        "tag order: this model wants \"1girl\" before \"blue sky\": counts, "
                        "characters, series, then the rest");
    assert_string_equal(advice(back, "best quality, 1girl, blue sky"),
                        "tag order: this model wants \"best quality\" at the end");
}

static void counts_are_known(void **state)
{
    (void)state;
    static const char *const counts[] = {"1girl",  "2boys",     "6+girls",
                                         "1other", "No Humans", "multiple girls"};
    static const char *const others[] = {"girl", "1", "1girls and more", "4koma", "+girl", ""};
    for (size_t i = 0; i < 6; i++) {
        assert_true(ld_tag_is_count(counts[i]));
        assert_false(ld_tag_is_count(others[i]));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_usual_order_is_silent),
        cmocka_unit_test(an_unusual_order_is_told_once_of_each_kind),
        cmocka_unit_test(counts_are_known),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
