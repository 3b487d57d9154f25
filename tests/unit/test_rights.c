/*
 * Proves which tags a rating refuses, in whatever brackets, case and spelling, which ordinary words
 * pass, and what is added to the negative prompt.
 */
#include "server/rights.h"

#include "config/limits.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static bool forbids(enum ld_rating rating, const char *prompt)
{
    const char *tag = NULL;
    return ld_rating_forbids(rating, prompt, &tag);
}

static void tags_above_the_rating_are_found(void **state)
{
    (void)state;
    static const char *const explicit_ones[] = {
        "explicit",         "1girl, explicit",       "(explicit:1.3)",   "{{NSFW}}",
        "[nsfw]",           "a cat , Explicit ",     "rating:explicit",  "rating:_explicit",
        "rating: explicit", "rating_explicit",       "rating:e",         "[cat:nsfw:0.5]",
        "a|explicit",       "cat AND explicit",      "explicit AND cat", "cat BREAK nsfw, dog",
        "(rating:e)",       "cat,\nexplicit\n, dog", "nsfw:1.2",         "\\(nsfw\\)"};
    for (size_t i = 0; i < sizeof explicit_ones / sizeof explicit_ones[0]; i++) {
        if (!forbids(LD_RATING_GENERAL, explicit_ones[i]) ||
            !forbids(LD_RATING_QUESTIONABLE, explicit_ones[i]))
            fail_msg("passed: %s", explicit_ones[i]);
        assert_false(forbids(LD_RATING_EXPLICIT, explicit_ones[i]));
    }
    assert_true(forbids(LD_RATING_SENSITIVE, "questionable"));
    assert_false(forbids(LD_RATING_QUESTIONABLE, "questionable, rating:q, sensitive"));
    assert_true(forbids(LD_RATING_GENERAL, "rating:s"));
    assert_false(forbids(LD_RATING_SENSITIVE, "(sensitive:1.1)"));
}

static void ordinary_words_pass(void **state)
{
    (void)state;
    static const char *const fine[] = {"",
                                       "a cat",
                                       "explicitly painted sky",
                                       "an explicit view of the sea",
                                       "rating:general",
                                       "insensitive, sensitive plant",
                                       "e, q, s",
                                       "AND, BREAK",
                                       "::::, ((())), [[[",
                                       "\xe3\x81\x82, \xf0\x9f\x90\x88"};
    for (size_t i = 0; i < sizeof fine / sizeof fine[0]; i++) {
        if (forbids(LD_RATING_GENERAL, fine[i]))
            fail_msg("refused: %s", fine[i]);
    }
}

static bool apply(struct ld_caller *caller, struct ld_request *request, struct ld_arena *arena,
                  struct ld_problem *problem)
{
    ld_problem_init(problem, arena);
    return ld_rights_apply(caller, NULL, request, arena, problem);
}

static void negative_prompts_grow_once(void **state)
{
    (void)state;
    struct ld_arena arena;
    struct ld_problem problem;
    struct ld_caller caller = {.limits = {.rating = LD_RATING_SENSITIVE}};
    struct ld_request request = {.prompt = "a cat", .negative_prompt = "blurry", .model = ""};
    static char long_text[LD_PROMPT_BYTES_MAX + 1];
    ld_arena_init(&arena, "rights", 1 << 20);
    assert_true(apply(&caller, &request, &arena, &problem));
    assert_string_equal(request.negative_prompt, "blurry, questionable, nsfw, explicit");
    assert_true(apply(&caller, &request, &arena, &problem));
    assert_string_equal(request.negative_prompt, "blurry, questionable, nsfw, explicit");
    request.negative_prompt = "";
    assert_true(apply(&caller, &request, &arena, &problem));
    assert_string_equal(request.negative_prompt, "questionable, nsfw, explicit");
    memset(long_text, 'x', LD_PROMPT_BYTES_MAX);
    request.negative_prompt = long_text;
    assert_false(apply(&caller, &request, &arena, &problem));
    assert_string_equal(problem.items[0].pointer, "/negative_prompt");
    request.negative_prompt = "";
    request.prompt = "cat, nsfw";
    assert_false(apply(&caller, &request, &arena, &problem));
    assert_string_equal(problem.items[0].pointer, "/prompt");
    assert_int_equal(ld_problem_status(&problem), 422);
    caller.limits.rating = LD_RATING_EXPLICIT;
    request.negative_prompt = "blurry";
    assert_true(apply(&caller, &request, &arena, &problem));
    assert_string_equal(request.negative_prompt, "blurry");
    ld_arena_deinit(&arena);
}

static void only_allowed_models_pass(void **state)
{
    (void)state;
    struct ld_arena arena;
    struct ld_problem problem;
    struct ld_caller caller = {.limits = {.rating = LD_RATING_EXPLICIT, .models = "demo*, nai"}};
    struct ld_request request = {.prompt = "", .negative_prompt = "", .model = "demo"};
    ld_arena_init(&arena, "rights", 1 << 20);
    assert_true(apply(&caller, &request, &arena, &problem));
    request.model = "other";
    assert_false(apply(&caller, &request, &arena, &problem));
    assert_int_equal(ld_problem_status(&problem), 403);
    request.model = ""; /* a default that nobody knows yet */
    assert_false(apply(&caller, &request, &arena, &problem));
    ld_arena_deinit(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tags_above_the_rating_are_found),
        cmocka_unit_test(ordinary_words_pass),
        cmocka_unit_test(negative_prompts_grow_once),
        cmocka_unit_test(only_allowed_models_pass),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
