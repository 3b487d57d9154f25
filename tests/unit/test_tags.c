/*
 * Proves that tag lists are read in their exchange form, that completion finds names and aliases by
 * prefix in order of frequency, and that a malformed row is named. Lists are texts and a folder.
 */
#include "config/tags.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

static struct ld_tags *make(const char *first, const char *second)
{
    const struct ld_span texts[] = {ld_span_text(first), ld_span_text(second)};
    struct ld_tags *tags;
    struct ld_error err = {0};
    if (ld_tags_create(&tags, texts, 2, &err) != LD_OK)
        fail_msg("%s", err.detail);
    return tags;
}

static const char list[] = "blue_eyes,0,500,\"blue_eye,sapphire eyes\"\r\n"
                           "blue_sky,0,900,\n"
                           "\n"
                           "blueberry,0,10\n"
                           "^_^,0,7,\n"
                           "saber_(fate),4,80,\"blue_knight\"\n"
                           "\"say \"\"hi\"\", she\",0,3,\n";

static void prefixes_find_names_and_aliases_by_frequency(void **state)
{
    (void)state;
    struct ld_tag_match found[8];
    struct ld_tags *tags = make(list, "");
    assert_int_equal(ld_tags_count(tags), 6);
    assert_int_equal(ld_tags_complete(tags, "BLUE", found, 8), 4);
    assert_string_equal(found[0].tag->name, "blue_sky");
    assert_string_equal(found[1].tag->name, "blue_eyes");
    assert_null(found[1].alias); /* its name matches as well as its alias */
    assert_string_equal(found[2].tag->name, "saber_(fate)");
    assert_string_equal(found[2].alias, "blue_knight");
    assert_string_equal(found[3].tag->name, "blueberry");
    assert_int_equal(ld_tags_complete(tags, "blue e", found, 8), 1);
    assert_int_equal(ld_tags_complete(tags, "sapphire_", found, 8), 1);
    assert_string_equal(found[0].alias, "sapphire eyes");
    assert_int_equal(ld_tags_complete(tags, "say \"h", found, 8), 1);
    assert_string_equal(found[0].tag->name, "say \"hi\", she");
    assert_int_equal(ld_tags_complete(tags, "zebra", found, 8), 0);
    ld_tags_destroy(tags);
}

static void the_limit_keeps_the_most_frequent(void **state)
{
    (void)state;
    char text[4096] = "";
    size_t used = 0;
    struct ld_tag_match found[3];
    for (int i = 0; i < 100; i++)
        used +=
            (size_t)snprintf(text + used, sizeof text - used, "tag_%02d,0,%d,\n", i, i * 37 % 101);
    struct ld_tags *tags = make(text, "");
    assert_int_equal(ld_tags_complete(tags, "tag", found, 3), 3);
    assert_int_equal(found[0].tag->count, 100);
    assert_int_equal(found[1].tag->count, 99);
    assert_int_equal(found[2].tag->count, 98);
    ld_tags_destroy(tags);
}

static void a_later_list_replaces_a_tag(void **state)
{
    (void)state;
    struct ld_tag_match found[8];
    struct ld_tags *tags = make(list, "Blue_Sky,0,1,\n");
    assert_int_equal(ld_tags_complete(tags, "blue_s", found, 8), 1);
    assert_int_equal(found[0].tag->count, 1);
    ld_tags_destroy(tags);
}

static const char *found_name(const struct ld_tags *tags, const char *name)
{
    const struct ld_tag *tag = ld_tags_find(tags, ld_span_text(name));
    return tag ? tag->name : "none";
}

static void one_tag_is_found_by_its_whole_name_or_alias(void **state)
{
    (void)state;
    struct ld_tags *tags = make(list, "blue_sky,5,1,\n");
    assert_string_equal(found_name(tags, "blue_eyes"), "blue_eyes");
    assert_string_equal(found_name(tags, "Blue Eyes"), "blue_eyes");
    assert_string_equal(found_name(tags, "SAPPHIRE_eyes"), "blue_eyes");
    assert_string_equal(found_name(tags, "^_^"), "^_^");
    assert_string_equal(found_name(tags, "blue"), "none");
    assert_string_equal(found_name(tags, "blue_eyess"), "none");
    assert_string_equal(found_name(tags, ""), "none");
    assert_null(ld_tags_find(tags, ld_span_of("blue_sky\0", 9)));
    /* only the bytes of the span count, and the later list's copy holds */
    assert_int_equal(ld_tags_find(tags, ld_span_of("blue_skyline", 8))->category, 5);
    ld_tags_destroy(tags);
}

static void a_name_goes_before_an_alias_and_a_frequent_tag_before_a_rare_one(void **state)
{
    (void)state;
    struct ld_tags *tags = make("aqua_hair,0,900,\"cyan,teal\"\nturquoise,0,950,\"teal\"\n"
                                "cyan,0,1,\"cyan_old\"\nlime,0,5,\"teal,cyan\"\n",
                                "cyan,1,2,\nsea,0,999,\"cyan\"\n");
    assert_string_equal(found_name(tags, "cyan"), "cyan");
    assert_int_equal(ld_tags_find(tags, ld_span_text("cyan"))->category, 1);
    assert_string_equal(found_name(tags, "teal"), "turquoise");
    assert_string_equal(found_name(tags, "cyan old"), "none"); /* only the replaced one had it */
    ld_tags_destroy(tags);
}

static void malformed_rows_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *text, *words;
    } cases[] = {
        {"a,0,1,\nb,x,1,\n", "line 2: the category"}, {"a,256,1,\n", "line 1: the category"},
        {"a,0,-1,\n", "line 1: the count"},           {"a,0,1,\"open\n", "line 1: the aliases"},
        {"a,0,1,x,y\n", "line 1: a row is"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct ld_span text = ld_span_text(cases[i].text);
        struct ld_tags *tags;
        struct ld_error err = {0};
        assert_int_equal(ld_tags_create(&tags, &text, 1, &err), LD_E_FORMAT);
        assert_null(tags);
        if (!strstr(err.detail, cases[i].words))
            fail_msg("%s: %s", cases[i].words, err.detail);
    }
}

static void tags_are_written_as_prompts_want_them(void **state)
{
    (void)state;
    char out[64];
    assert_true(ld_tag_text("saber_(fate)", true, out, sizeof out));
    assert_string_equal(out, "saber \\(fate\\)");
    assert_true(ld_tag_text("saber_(fate)", false, out, sizeof out));
    assert_string_equal(out, "saber (fate)");
    assert_true(ld_tag_text("^_^", true, out, sizeof out));
    assert_string_equal(out, "^_^");
    assert_false(ld_tag_text("saber_(fate)", true, out, 8));
}

static void the_folder_adds_to_the_own_list(void **state)
{
    (void)state;
    char folder[] = "/tmp/latentd-tags-XXXXXX";
    char path[64];
    struct ld_tag_match found[8];
    struct ld_tags *tags;
    struct ld_error err = {0};
    assert_non_null(mkdtemp(folder));
    assert_int_equal(ld_tags_load(&tags, "", NULL), LD_OK);
    const uint32_t own = ld_tags_count(tags);
    assert_true(own > 100);
    assert_int_equal(ld_tags_complete(tags, "redhe", found, 8), 1);
    assert_string_equal(found[0].tag->name, "red_hair");
    ld_tags_destroy(tags);
    assert_true(ld_fmt(path, sizeof path, "%s/more.tags.csv", folder));
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs("zeppelin,0,12,\n", file) >= 0 && fclose(file) == 0);
    assert_int_equal(ld_tags_load(&tags, folder, NULL), LD_OK);
    assert_int_equal(ld_tags_count(tags), own + 1);
    ld_tags_destroy(tags);
    file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs("zeppelin,none\n", file) >= 0 && fclose(file) == 0);
    assert_int_equal(ld_tags_load(&tags, folder, &err), LD_E_FORMAT);
    assert_non_null(strstr(err.detail, "more.tags.csv: line 1: the category"));
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(folder), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(prefixes_find_names_and_aliases_by_frequency),
        cmocka_unit_test(the_limit_keeps_the_most_frequent),
        cmocka_unit_test(a_later_list_replaces_a_tag),
        cmocka_unit_test(one_tag_is_found_by_its_whole_name_or_alias),
        cmocka_unit_test(a_name_goes_before_an_alias_and_a_frequent_tag_before_a_rare_one),
        cmocka_unit_test(malformed_rows_are_named),
        cmocka_unit_test(tags_are_written_as_prompts_want_them),
        cmocka_unit_test(the_folder_adds_to_the_own_list),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
