/*
 * Proves that prompts of every syntax are read as the tags and sentences they mean, and that the
 * place for additions is found. Each claim is a prompt and what is read of it, written as
 * "kind:tag;..." with the sentences behind.
 */
#include "runtime/tipo/prompt_read.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static const char list[] = "saber_(fate),4,90,\"artoria\"\nfate_(series),3,80,\nas109,1,7,\n"
                           "absurdres,5,9,\nblue_eyes,0,99,\"sapphire_eyes\"\n"
                           "i_want_my_hat_back_right_now_please,0,1,\n";

static struct ld_arena arena;
static struct ld_tags *tags;

static int set_up(void **state)
{
    const struct ld_span text = ld_span_text(list);
    (void)state;
    ld_arena_init(&arena, "test", 64 << 20);
    return ld_tags_create(&tags, &text, 1, NULL) == LD_OK ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    ld_tags_destroy(tags);
    ld_arena_deinit(&arena);
    return 0;
}

static struct ld_tipo_reading *read(enum ld_syntax syntax, const char *prompt)
{
    struct ld_error err = {0};
    struct ld_tipo_reading *reading = ld_arena_alloc(&arena, sizeof *reading);
    assert_non_null(reading);
    if (ld_tipo_read(reading, &arena, tags, syntax, prompt, &err) != LD_OK)
        fail_msg("%s: %s", prompt, err.detail);
    return reading;
}

static void assert_read(enum ld_syntax syntax, const char *prompt, const char *expected)
{
    static const char letters[] = "SCOAGQMR";
    struct ld_buffer got = ld_buffer_make(1 << 16);
    const struct ld_tipo_reading *reading = read(syntax, prompt);
    ld_buffer_text(&got, "");
    for (int kind = 0; kind < LD_TAG_KIND_COUNT; kind++)
        for (uint32_t i = 0; i < reading->given.tags[kind].count; i++)
            ld_buffer_format(&got, "%c:%s;", letters[kind], reading->given.tags[kind].items[i]);
    for (uint32_t i = 0; i < reading->given.sentences.count; i++)
        ld_buffer_format(&got, "<%s>", reading->given.sentences.items[i]);
    if (strcmp(got.data ? got.data : "", expected) != 0)
        fail_msg("%s: %s", prompt, got.data ? got.data : "");
    ld_buffer_deinit(&got);
}

static void weights_and_escapes_come_off(void **state)
{
    (void)state;
    assert_read(LD_SYNTAX_A1111, "1girl, (Red_Hair:1.2), ((smile)), [sky], saber \\(fate\\)",
                "S:1girl;C:saber (fate);G:red hair;G:smile;G:sky;");
    assert_read(LD_SYNTAX_A1111, "(red hair, blue sky:1.3), (a (b:0.5) c)",
                "G:red hair;G:blue sky;G:a b c;");
    assert_read(LD_SYNTAX_COMFY, "(red hair:1.2), saber \\(fate\\), [sky]",
                "C:saber (fate);G:red hair;G:[sky];");
    assert_read(LD_SYNTAX_NOVELAI, "{{red hair}}, [sky], 1.3::smile::, saber (fate), -1::hat",
                "C:saber (fate);G:red hair;G:sky;G:smile;G:hat;");
    assert_read(LD_SYNTAX_NOVELAI, "cat | dog, :|", "G:cat;G:dog;G::|;");
    assert_read(LD_SYNTAX_PLAIN, "(red hair:1.2), {a}", "G:(red hair:1.2);G:{a};");
}

static void every_kind_is_found_once(void **state)
{
    (void)state;
    assert_read(LD_SYNTAX_A1111,
                "masterpiece, absurdres, rating:safe, As109, artoria, fate_\\(series\\),\n2girls,"
                " sapphire eyes,, BLUE_EYES\nyear 2020",
                "S:2girls;C:saber (fate);O:fate (series);A:as109;G:blue eyes;Q:masterpiece;"
                "M:absurdres;M:year 2020;R:safe;");
}

static void what_is_no_tag_is_left_out(void **state)
{
    (void)state;
    assert_read(LD_SYNTAX_A1111, "cat <lora:x:0.5>, embedding:easy, (embedding:neg:1.2), dog",
                "G:cat;G:dog;");
    assert_read(LD_SYNTAX_COMFY, "cat embedding:easy sky, dog", "G:cat  sky;G:dog;");
    assert_read(LD_SYNTAX_A1111, "cat BREAK dog", "G:cat;G:dog;");
    assert_read(LD_SYNTAX_COMFY, "cat, BREAK, AND, dog", "G:cat;G:dog;");
    assert_read(LD_SYNTAX_PLAIN, "<|long|>, a|>, >_<, <lora:x:1>", "G:>_<;G:<lora:x:1>;");
    assert_read(LD_SYNTAX_A1111, "", "");
    assert_read(LD_SYNTAX_A1111, " , \n,", "");
}

static void a_schedule_shows_its_first_step_and_is_known_whole(void **state)
{
    (void)state;
    assert_read(LD_SYNTAX_A1111, "[cat:dog:0.5], [bird:0.5], [fish::0.5], [sun|moon]",
                "G:cat;G:fish;G:sun;");
    const struct ld_tipo_reading *reading =
        read(LD_SYNTAX_A1111, "[cat:dog:0.5], [bird:0.5], [fish::0.5], [sun|moon]");
    static const char *const words[] = {"cat", "dog", "bird", "fish", "sun", "moon"};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        assert_true(ld_tag_set_has(&reading->known, ld_span_text(words[i])));
    assert_false(ld_tag_set_has(&reading->known, ld_span_text("wolf")));
}

static void an_alias_is_known_by_both_names(void **state)
{
    (void)state;
    const struct ld_tipo_reading *reading = read(LD_SYNTAX_A1111, "sapphire_eyes, (Artoria)");
    static const char *const words[] = {"blue eyes", "sapphire eyes", "saber (fate)", "artoria"};
    assert_true(ld_tag_set_has(&read(LD_SYNTAX_A1111, "fate (series)")->known,
                               ld_span_text("fate (series)")));
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        assert_true(ld_tag_set_has(&reading->known, ld_span_text(words[i])));
}

static void sentences_are_told_from_tags(void **state)
{
    (void)state;
    assert_read(LD_SYNTAX_A1111, "1girl, she smiles at us., sky",
                "S:1girl;G:sky;<she smiles at us.>");
    assert_read(LD_SYNTAX_A1111, "1girl, a girl who stands in the rain, sky",
                "S:1girl;G:sky;<a girl who stands in the rain.>");
    assert_read(LD_SYNTAX_A1111, "a girl stands in rain now, sky",
                "G:a girl stands in rain now;G:sky;"); /* six words without a full stop */
    assert_read(LD_SYNTAX_A1111, "A girl is sitting on a bench, smiling, looking at the sky., dog",
                "G:dog;<A girl is sitting on a bench, smiling, looking at the sky.>");
    assert_read(LD_SYNTAX_A1111, "A girl is sitting on a bench, masterpiece, looking at us.",
                "Q:masterpiece;<A girl is sitting on a bench.><looking at us.>");
    assert_read(LD_SYNTAX_A1111, "A girl is sitting on a bench\nlooking up.",
                "G:looking up.;<A girl is sitting on a bench.>");
    assert_read(LD_SYNTAX_A1111, "One girl sits. The other (old) one: stands. Both smile",
                "<One girl sits.><The other old one: stands.><Both smile.>");
    assert_read(LD_SYNTAX_A1111, "i want my hat back right now please, dog",
                "G:i want my hat back right now please;G:dog;"); /* a tag of the list */
    assert_read(LD_SYNTAX_PLAIN, "She writes <|tag|> on the wall of the house. She waits there.",
                "<She waits there.>");
}

/* ---- Places ---------------------------------------------------------------------------------- */

static void assert_place(enum ld_syntax syntax, const char *prompt, const char *kept,
                         const char *behind)
{
    const struct ld_tipo_reading *reading = read(syntax, prompt);
    const struct ld_span head = ld_span_of(prompt, reading->head);
    if (!ld_span_is(head, kept) || strcmp(prompt + reading->tail, behind) != 0)
        fail_msg("%s: \"%.*s\" \"%s\"", prompt, (int)head.size, prompt, prompt + reading->tail);
}

static void additions_go_to_the_end_of_the_first_part(void **state)
{
    (void)state;
    assert_place(LD_SYNTAX_A1111, "cat, dog", "cat, dog", "");
    assert_place(LD_SYNTAX_A1111, "cat, ,\n ", "cat", "");
    assert_place(LD_SYNTAX_A1111, "cat AND dog", "cat", " AND dog");
    assert_place(LD_SYNTAX_A1111, "cat, :1.2 AND dog:0.5", "cat", " :1.2 AND dog:0.5");
    assert_place(LD_SYNTAX_A1111, "cat,  AND dog AND sun", "cat", "  AND dog AND sun");
    assert_place(LD_SYNTAX_A1111, "AND dog", "", "AND dog");
    assert_place(LD_SYNTAX_A1111, " AND dog", "", " AND dog");
    assert_place(LD_SYNTAX_COMFY, "cat AND dog", "cat AND dog", "");
    assert_place(LD_SYNTAX_NOVELAI, "cat | dog, ", "cat | dog", "");
    assert_place(LD_SYNTAX_A1111, "cat BREAK dog,", "cat BREAK dog", "");
    assert_place(LD_SYNTAX_A1111, "cat:1.2", "cat:1.2", ""); /* no AND, so it is no weight */
}

static void mentions_of_adapters_keep_their_place(void **state)
{
    (void)state;
    assert_place(LD_SYNTAX_A1111, "cat <lora:x:1>", "cat <lora:x:1>", "");
    assert_place(LD_SYNTAX_A1111, "<lora:a AND b:1>cat AND dog", "<lora:a AND b:1>cat", " AND dog");
    assert_place(LD_SYNTAX_A1111, "<lora:a:1>cat<lora:b:1> AND dog<lora:c:1>",
                 "<lora:a:1>cat<lora:b:1>", " AND dog<lora:c:1>");
    assert_place(LD_SYNTAX_A1111, "cat <lora:b:1> AND dog", "cat", " <lora:b:1> AND dog");
    assert_place(LD_SYNTAX_A1111, "<lora:a:1>AND dog", "<lora:a:1>", "AND dog");
}

static void only_the_first_part_is_read(void **state)
{
    (void)state;
    assert_read(LD_SYNTAX_A1111, "cat:1.2 AND dog", "G:cat;");
    assert_read(LD_SYNTAX_COMFY, "cat AND dog", "G:cat and dog;");
    assert_read(LD_SYNTAX_A1111, "cat, :3", "G:cat;G::3;");
}

/* ---- Texts beside ---------------------------------------------------------------------------- */

static void a_text_beside_follows_the_prompts_own_sentences(void **state)
{
    (void)state;
    uint32_t dropped = 9;
    struct ld_tipo_reading *reading = read(LD_SYNTAX_A1111, "1girl, she smiles at us.");
    assert_int_equal(ld_tipo_read_text(reading, &arena,
                                       "The  sun\nshines. She smiles at us. Use <lora:x:1> now. "
                                       "This AND that. End",
                                       &dropped, NULL),
                     LD_OK);
    assert_int_equal(dropped, 2);
    assert_int_equal(reading->sentences_in_prompt, 1);
    assert_int_equal(reading->given.sentences.count, 3);
    assert_string_equal(reading->given.sentences.items[1], "The sun shines.");
    assert_string_equal(reading->given.sentences.items[2], "End.");
}

static void bad_prompts_and_texts_are_refused_as_elsewhere(void **state)
{
    (void)state;
    static const struct {
        const char *prompt;
        enum ld_code code;
    } cases[] = {
        {"a\xFF", LD_E_FORMAT},
        {"a\x01", LD_E_INVALID},
        {"((((((((((((((((((((((((((((((((((((((((", LD_E_TOO_LARGE},
        {"AND AND AND AND AND AND AND AND AND AND AND AND AND AND AND AND AND", LD_E_TOO_LARGE}};
    struct ld_tipo_reading *reading = ld_arena_alloc(&arena, sizeof *reading);
    uint32_t dropped;
    assert_non_null(reading);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_int_equal(
            ld_tipo_read(reading, &arena, NULL, LD_SYNTAX_A1111, cases[i].prompt, NULL),
            cases[i].code);
    assert_int_equal(ld_tipo_read_text(reading, &arena, "a\xFF", &dropped, NULL), LD_E_FORMAT);
    assert_int_equal(ld_tipo_read_text(reading, &arena, "a\x02", &dropped, NULL), LD_E_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(weights_and_escapes_come_off),
        cmocka_unit_test(every_kind_is_found_once),
        cmocka_unit_test(what_is_no_tag_is_left_out),
        cmocka_unit_test(a_schedule_shows_its_first_step_and_is_known_whole),
        cmocka_unit_test(an_alias_is_known_by_both_names),
        cmocka_unit_test(sentences_are_told_from_tags),
        cmocka_unit_test(additions_go_to_the_end_of_the_first_part),
        cmocka_unit_test(mentions_of_adapters_keep_their_place),
        cmocka_unit_test(only_the_first_part_is_read),
        cmocka_unit_test(a_text_beside_follows_the_prompts_own_sentences),
        cmocka_unit_test(bad_prompts_and_texts_are_refused_as_elsewhere),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
