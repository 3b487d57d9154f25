/*
 * Proves that every word which a request may use is known where it is used. Works on the closed
 * lists of the table and the look-ups of the sampling room.
 */
#include "runtime/params.h"
#include "runtime/sample/guidance_range.h"
#include "runtime/sample/guidance_threshold.h"
#include "runtime/sample/resize.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static bool resize_known(const char *word)
{
    enum ld_resize_mode mode;
    return strncmp(word, "pixel-", 6) == 0 || ld_resize_mode_named(word, &mode);
}

static bool scale_known(const char *word)
{
    enum ld_scale_mode mode;
    return ld_scale_mode_named(word, &mode);
}

static bool range_known(const char *word)
{
    enum ld_range_mode mode;
    return ld_range_mode_named(word, &mode);
}

static void words_of_the_table_are_known_to_the_samplers(void **state)
{
    (void)state;
    static const struct {
        const char *path;
        bool (*known)(const char *word);
    } rows[] = {
        {"hires.upscaler", resize_known},
        {"deep_shrink.downscale", resize_known},
        {"deep_shrink.upscale", resize_known},
        {"guidance.dynamic_threshold.mimic_mode", scale_known},
        {"guidance.dynamic_threshold.cfg_mode", scale_known},
        {"guidance.auto_cfg.mode", range_known},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const struct ld_field *field = ld_field_find(rows[i].path);
        struct ld_span word;
        uint32_t count = 0;
        assert_non_null(field);
        for (size_t pos = 0; ld_words_next(field->words, &pos, &word); count++) {
            char text[64];
            assert_true(ld_fmt(text, sizeof text, "%.*s", (int)word.size, (const char *)word.data));
            if (!rows[i].known(text))
                fail_msg("%s: %s is not known", rows[i].path, text);
        }
        assert_true(count >= 4);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words_of_the_table_are_known_to_the_samplers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
