/*
 * Proves how AND and <lora:...> are cut out of a prompt and what names are refused. Each claim is
 * a text, the parts or mentions expected, and their numbers.
 */
#include "runtime/text/parts.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

static void assert_parts(const char *text, const char *expected)
{
    struct ld_and_parts parts;
    struct ld_error err = {0};
    char got[512] = "";
    size_t at = 0;
    assert_int_equal(ld_and_split(ld_span_text(text), &parts, &err), LD_OK);
    for (uint32_t i = 0; i < parts.count; i++)
        at += (size_t)snprintf(got + at, sizeof got - at, "<%.*s>%g", (int)parts.items[i].text.size,
                               (const char *)parts.items[i].text.data, parts.items[i].weight);
    assert_string_equal(got, expected);
}

static void and_splits_at_the_whole_word_only(void **state)
{
    (void)state;
    assert_parts("a AND b:0.5 AND c", "<a>1< b>0.5< c>1");
    assert_parts("aAND ANDb _AND", "<aAND ANDb _AND>1");
    assert_parts("AND", "<>1<>1");
    assert_parts("a\nAND\nb", "<a>1<\nb>1");
}

static void a_trailing_number_is_the_weight_of_a_part(void **state)
{
    (void)state;
    assert_parts("a : 1.5 ", "<a>1.5");
    assert_parts("a::.5", "<a:>0.5");
    assert_parts("a:-2.", "<a>-2");
    assert_parts("a:1.2.3", "<a:1.2.3>1");
    assert_parts("a:.", "<a:.>1");
    assert_parts("(a AND b:1.2)", "<(a>1< b:1.2)>1");
    assert_parts("", "<>1");
}

static void too_many_parts_are_refused(void **state)
{
    char text[8 * LD_AND_PARTS_MAX];
    struct ld_and_parts parts;
    struct ld_error err = {0};
    size_t at = 0;
    (void)state;
    for (int i = 0; i < LD_AND_PARTS_MAX - 1; i++, at += 4)
        memcpy(text + at, "AND ", 5);
    assert_int_equal(ld_and_split(ld_span_text(text), &parts, &err), LD_OK);
    assert_int_equal(parts.count, LD_AND_PARTS_MAX);
    memcpy(text + at, "AND ", 5);
    assert_int_equal(ld_and_split(ld_span_text(text), &parts, &err), LD_E_TOO_LARGE);
}

/* Extract, and give the rest of the text and the mention read as an adapter. */
static enum ld_code read_lora(const char *text, struct ld_lora_mention *mention, char *rest)
{
    struct ld_arena arena;
    struct ld_networks networks;
    struct ld_span left;
    struct ld_error err = {0};
    static char name[160];
    ld_arena_init(&arena, "test", 1 << 20);
    assert_int_equal(ld_networks_extract(&arena, ld_span_text(text), &left, &networks, &err),
                     LD_OK);
    assert_int_equal(networks.count, 1);
    assert_true(ld_network_is_lora(&networks.items[0]));
    memcpy(rest, left.data, left.size);
    rest[left.size] = '\0';
    const enum ld_code code = ld_network_lora(&networks.items[0], mention, &err);
    if (code == LD_OK) {
        snprintf(name, sizeof name, "%s", mention->name);
        mention->name = name;
    } else {
        assert_true(err.detail[0]);
    }
    ld_arena_deinit(&arena);
    return code;
}

static void a_lora_mention_names_the_text_weight_first(void **state)
{
    struct ld_lora_mention lora;
    char rest[256];
    (void)state;
    assert_int_equal(read_lora("a, <lora:x:0.5:0.8:16>, b", &lora, rest), LD_OK);
    assert_string_equal(rest, "a, , b");
    assert_string_equal(lora.name, "x");
    assert_true(lora.text_weight == 0.5 && lora.unet_weight == 0.8 && lora.rank == 16);
    assert_int_equal(read_lora("<lyco:dir/x y.v1>", &lora, rest), LD_OK);
    assert_string_equal(lora.name, "dir/x y.v1");
    assert_true(lora.text_weight == 1 && lora.unet_weight == 1 && lora.rank == 0);
    assert_int_equal(read_lora("<locon:x:-0.5>", &lora, rest), LD_OK);
    assert_true(lora.text_weight == -0.5 && lora.unet_weight == -0.5);
    assert_int_equal(read_lora("<lora:x:0.1:unet=2:te=0>", &lora, rest), LD_OK);
    assert_true(lora.text_weight == 0 && lora.unet_weight == 2);
}

static void names_that_could_leave_a_folder_are_refused(void **state)
{
    static const char *const bad[] = {
        "<lora:/etc/x:1>", "<lora:../x:1>", "<lora:a/../b>", "<lora:a/..>",    "<lora:a\\b>",
        "<lora:a\x01>",    "<lora::1>",     "<lora:x:one>",  "<lora:x:1:1:0>", "<lora:x:1:1:9999>"};
    struct ld_lora_mention lora;
    char rest[256];
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(read_lora(bad[i], &lora, rest), LD_E_INVALID);
    assert_int_equal(read_lora("<lora:..x/y..:1>", &lora, rest), LD_OK); /* only dots in a name */
}

static void only_complete_mentions_are_taken_out(void **state)
{
    static const char *const whole[] = {"<lora:>",   "<lora:a", "lora:a>",   "< lora:a>",
                                        "<lora :a>", "<<<",     "a < b > c", "<3"};
    (void)state;
    for (size_t i = 0; i < sizeof whole / sizeof whole[0]; i++) {
        struct ld_arena arena;
        struct ld_networks networks;
        struct ld_span left;
        struct ld_error err = {0};
        ld_arena_init(&arena, "test", 1 << 20);
        assert_int_equal(
            ld_networks_extract(&arena, ld_span_text(whole[i]), &left, &networks, &err), LD_OK);
        assert_int_equal(networks.count, 0);
        assert_true(ld_span_is(left, whole[i]));
        ld_arena_deinit(&arena);
    }
}

static void mentions_and_their_arguments_are_bounded(void **state)
{
    struct ld_arena arena;
    struct ld_networks networks;
    struct ld_span left;
    struct ld_error err = {0};
    char text[8 * LD_NETWORKS_MAX + 16] = "";
    (void)state;
    ld_arena_init(&arena, "test", 8 << 20);
    for (size_t i = 0; i <= LD_NETWORKS_MAX; i++) {
        memcpy(text + 5 * i, "<a:b>", 6);
        assert_int_equal(ld_networks_extract(&arena, ld_span_text(text), &left, &networks, &err),
                         i < LD_NETWORKS_MAX ? LD_OK : LD_E_TOO_LARGE);
    }
    assert_int_equal(ld_networks_extract(&arena,
                                         ld_span_text("<a:1:2:3:4:5:6:7:8:9:10:11:12:13:14:15:16>"),
                                         &left, &networks, &err),
                     LD_OK);
    assert_int_equal(
        ld_networks_extract(&arena, ld_span_text("<a:1:2:3:4:5:6:7:8:9:10:11:12:13:14:15:16:17>"),
                            &left, &networks, &err),
        LD_E_TOO_LARGE);
    ld_arena_deinit(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(and_splits_at_the_whole_word_only),
        cmocka_unit_test(a_trailing_number_is_the_weight_of_a_part),
        cmocka_unit_test(too_many_parts_are_refused),
        cmocka_unit_test(a_lora_mention_names_the_text_weight_first),
        cmocka_unit_test(names_that_could_leave_a_folder_are_refused),
        cmocka_unit_test(only_complete_mentions_are_taken_out),
        cmocka_unit_test(mentions_and_their_arguments_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
