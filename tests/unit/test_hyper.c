/*
 * Proves that `hyper` finds the adapter of its step count, fills what the request left open, and
 * says where given fields leave the recipe. Recipes are texts; no file is read.
 */
#include "api/hyper.h"

#include "config/recipe.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static const char own_recipe[] = "[recipe]\ntitle = Ink in four\nsteps = 4\nweight = 0.9\n"
                                 "[quick]\nsteps = 4\nsampler = lcm\ncfg_scale = 1.5\n"
                                 "cfg_min = 1\ncfg_max = 2\n"
                                 "[slow]\nsteps = 8\n";

struct fixture {
    struct ld_arena arena;
    struct ld_request request;
    struct ld_warnings warnings;
    struct ld_problem problem;
    const struct ld_known_adapter *adapters;
    uint32_t count;
};

static bool at(void *ctx, uint32_t index, struct ld_known_adapter *out)
{
    const struct fixture *f = ctx;
    if (index >= f->count)
        return false;
    *out = f->adapters[index];
    return true;
}

/* A request made of "name=value" words, then hyper applied with these adapters. */
static enum ld_code apply(struct fixture *f, const struct ld_known_adapter *adapters,
                          uint32_t count, const char *const *words)
{
    memset(f, 0, sizeof *f);
    ld_arena_init(&f->arena, "test", 1 << 20);
    ld_request_default(&f->request);
    ld_problem_init(&f->problem, &f->arena);
    f->warnings.arena = &f->arena;
    f->adapters = adapters;
    f->count = count;
    for (; *words; words += 2)
        assert_int_equal(ld_request_set_text(&f->request, &f->arena, words[0], words[1], NULL),
                         LD_OK);
    const struct ld_adapter_list list = {f, at};
    return ld_request_apply_hyper(&f->request, &list, NULL, &f->arena, &f->warnings, &f->problem);
}

#define WORDS(...) ((const char *const[]){__VA_ARGS__, NULL, NULL})

static void end(struct fixture *f)
{
    ld_arena_deinit(&f->arena);
}

static bool warned(const struct fixture *f, const char *text)
{
    for (uint32_t i = 0; i < f->warnings.count; i++)
        if (strstr(f->warnings.items[i], text))
            return true;
    return false;
}

static const struct ld_known_adapter hyper[] = {
    {"styles/ink", ""},
    {"speed/Hyper-SD15-8steps-CFG-lora", ""},
};

static void a_known_name_has_a_recipe_of_its_own(void **state)
{
    (void)state;
    struct fixture f;
    assert_int_equal(apply(&f, hyper, 2, WORDS("hyper", "true")), LD_OK);
    assert_int_equal(f.request.lora_count, 1);
    assert_string_equal(f.request.loras[0].name, "speed/Hyper-SD15-8steps-CFG-lora");
    assert_true(f.request.loras[0].weight == 1 && f.request.loras[0].text_weight == 1);
    assert_int_equal(f.request.steps, 8);
    assert_string_equal(f.request.sampler, "euler");
    assert_string_equal(f.request.scheduler, "sgm_uniform");
    assert_true(f.request.cfg_scale == 6);
    assert_int_equal(f.request.hyper_steps, 0); /* nothing is left to resolve again */
    assert_int_equal(f.warnings.count, 0);
    end(&f);
    assert_int_equal(apply(&f, hyper, 2, WORDS("hyper.steps", "15")), LD_OK);
    assert_int_equal(f.request.steps, 15);
    assert_string_equal(f.request.sampler, "euler_ancestral");
    assert_string_equal(f.request.scheduler, "simple");
    end(&f);
}

static void given_fields_win_and_departures_are_told(void **state)
{
    (void)state;
    struct fixture f;
    assert_int_equal(apply(&f, hyper, 2,
                           WORDS("hyper", "true", "steps", "20", "sampler", "dpmpp_2m", "scheduler",
                                 "sgm_uniform", "cfg_scale", "9", "hyper.weight", "0.5")),
                     LD_OK);
    assert_int_equal(f.request.steps, 20);
    assert_string_equal(f.request.sampler, "dpmpp_2m");
    assert_true(f.request.cfg_scale == 9 && f.request.loras[0].weight == 0.5);
    assert_int_equal(f.warnings.count, 4);
    assert_true(warned(&f, "hyper: the recipe wants 8 steps, not 20"));
    assert_true(warned(&f, "hyper: the recipe wants sampler euler, not dpmpp_2m"));
    assert_true(warned(&f, "hyper: the recipe wants cfg_scale 5 to 8, not 9"));
    assert_true(warned(&f, "hyper: the recipe wants weight 1, not 0.5"));
    end(&f);
}

static void an_adapter_that_is_named_already_is_not_added_again(void **state)
{
    (void)state;
    struct fixture f;
    assert_int_equal(
        apply(&f, hyper, 2, WORDS("lora", "speed/Hyper-SD15-8steps-CFG-lora:0.7", "hyper", "true")),
        LD_OK);
    assert_int_equal(f.request.lora_count, 1);
    assert_true(f.request.loras[0].weight == 0.7);
    end(&f);
}

static void the_adapter_made_for_the_steps_comes_first(void **state)
{
    (void)state;
    const struct ld_known_adapter both[] = {{"a", own_recipe}, hyper[1]};
    struct fixture f;
    assert_int_equal(apply(&f, both, 2, WORDS("hyper.steps", "8")), LD_OK);
    assert_string_equal(f.request.loras[0].name, hyper[1].name);
    end(&f);
    assert_int_equal(apply(&f, both, 2, WORDS("hyper.steps", "4")), LD_OK);
    assert_string_equal(f.request.loras[0].name, "a");
    assert_true(f.request.loras[0].weight == 0.9 && f.request.cfg_scale == 1.5);
    assert_string_equal(f.request.sampler, "lcm");
    end(&f);
}

static void what_is_missing_is_one_sentence(void **state)
{
    (void)state;
    struct fixture f;
    assert_int_equal(apply(&f, hyper, 1, WORDS("hyper", "true")), LD_E_INVALID);
    assert_string_equal(f.problem.items[0].pointer, "/hyper");
    assert_non_null(strstr(f.problem.items[0].message, "no adapter with a recipe is here"));
    assert_int_equal(f.request.lora_count, 0);
    end(&f);
    assert_int_equal(apply(&f, hyper, 2, WORDS("hyper.steps", "9")), LD_E_INVALID);
    assert_string_equal(f.problem.items[0].message,
                        "hyper.steps: no adapter here has a recipe for 9 steps; there are: 8, 15");
    end(&f);
}

static void a_malformed_recipe_is_passed_over_and_told(void **state)
{
    (void)state;
    const struct ld_known_adapter some[] = {{"bad", "[recipe]\nsteps = 0\n"}, hyper[1]};
    struct fixture f;
    assert_int_equal(apply(&f, some, 2, WORDS("hyper", "true")), LD_OK);
    assert_true(warned(&f, "the recipe of adapter 'bad' is not used: line 2: steps must be"));
    assert_string_equal(f.request.loras[0].name, hyper[1].name);
    end(&f);
}

static void recipes_are_checked(void **state)
{
    (void)state;
    static const struct {
        const char *text, *words;
    } cases[] = {
        {"steps = 8\n", "before [recipe]"},
        {"[recipe]\nsteps = 8\n", "a section of use"},
        {"[recipe]\nsteps = 8\n[x]\nsampler = euler\n", "[x] needs steps"},
        {"[recipe]\nsteps = 8\nwieght = 1\n", "did you mean weight?"},
        {"[recipe]\nsteps = 8\nweight = 3\n", "weight must be a number between 0 and 2"},
        {"[recipe]\nsteps = 8\n[x]\nsteps = 8\ncfg_min = 8\ncfg_max = 5\n", "at most cfg_max"},
        {"[recipe]\nsteps = 151\n", "steps must be between 1 and 150"},
    };
    struct ld_arena arena;
    ld_arena_init(&arena, "test", 1 << 16);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct ld_recipe recipe;
        struct ld_error err = {0};
        assert_int_not_equal(ld_recipe_parse(&recipe, ld_span_text(cases[i].text), &arena, &err),
                             LD_OK);
        if (!strstr(err.detail, cases[i].words))
            fail_msg("%s: %s", cases[i].words, err.detail);
    }
    ld_arena_deinit(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_known_name_has_a_recipe_of_its_own),
        cmocka_unit_test(given_fields_win_and_departures_are_told),
        cmocka_unit_test(an_adapter_that_is_named_already_is_not_added_again),
        cmocka_unit_test(the_adapter_made_for_the_steps_comes_first),
        cmocka_unit_test(what_is_missing_is_one_sentence),
        cmocka_unit_test(a_malformed_recipe_is_passed_over_and_told),
        cmocka_unit_test(recipes_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
