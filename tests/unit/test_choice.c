/*
 * Proves that tokens are drawn from the distribution that the settings ask for: exactly, by walking
 * the draws' own numbers through distributions worked out by hand, and by counting over many seeds.
 */
#include "runtime/tipo/choice.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

enum { VOCABULARY = 6, DRAWS = 20000 };

static const struct ld_token_choice neutral = {
    .temperature = 1.0, .top_p = 1.0, .min_p = 0.0, .top_k = 0, .repetition_penalty = 1.0};

/* Logits whose probabilities are 0.05, 0.4, 0.1, 0.25, 0.2 and none at all. */
static void usual_logits(float *logits)
{
    static const double shares[VOCABULARY] = {0.05, 0.4, 0.1, 0.25, 0.2, 0.0};
    for (size_t i = 0; i < VOCABULARY; i++)
        logits[i] = shares[i] > 0.0 ? (float)log(shares[i]) + 2.0f : -INFINITY;
}

static uint32_t next(const struct ld_token_choice *choice, const float *logits,
                     const uint32_t *tokens, uint32_t token_count, uint64_t position)
{
    struct ld_candidate scratch[VOCABULARY];
    struct ld_error err = {0};
    uint32_t id = VOCABULARY;
    assert_int_equal(ld_choice_next(choice, logits, VOCABULARY, tokens, token_count, position,
                                    scratch, &id, &err),
                     LD_OK);
    assert_true(id < VOCABULARY);
    return id;
}

/*
 * `expected`: probabilities by id. Each single draw must be the token in whose interval the draw's
 * number lies, when the tokens stand in falling order of `order`; and the counts must be near.
 */
static void check_distribution(const struct ld_token_choice *settings, const float *logits,
                               const uint32_t *tokens, uint32_t token_count,
                               const double expected[VOCABULARY], const uint32_t order[VOCABULARY])
{
    struct ld_token_choice choice = *settings;
    uint32_t counts[VOCABULARY] = {0};
    for (uint32_t i = 0; i < DRAWS; i++) {
        choice.seed = i / 100;
        const uint32_t id = next(&choice, logits, tokens, token_count, i % 100);
        const double u = ld_choice_uniform(choice.seed, i % 100);
        double sum = 0.0;
        uint32_t k = 0;
        while (k < VOCABULARY && u >= sum + expected[order[k]])
            sum += expected[order[k++]];
        const bool at_an_edge = k == VOCABULARY || u - sum < 1e-6 ||
                                sum + expected[order[k]] - u < 1e-6; /* float32 logits */
        assert_true(id == order[k < VOCABULARY ? k : 0] || at_an_edge);
        counts[id]++;
    }
    for (uint32_t i = 0; i < VOCABULARY; i++) {
        const double deviation = sqrt(DRAWS * expected[i] * (1.0 - expected[i]));
        assert_true(fabs(counts[i] - DRAWS * expected[i]) <= 4.5 * deviation + 1e-9);
    }
}

static const uint32_t falling[VOCABULARY] = {1, 3, 4, 2, 0, 5};

static void without_limits_the_softmax_is_drawn(void **state)
{
    (void)state;
    static const double expected[VOCABULARY] = {0.05, 0.4, 0.1, 0.25, 0.2, 0.0};
    float logits[VOCABULARY];
    usual_logits(logits);
    check_distribution(&neutral, logits, NULL, 0, expected, falling);
}

static void temperature_sharpens_and_flattens(void **state)
{
    (void)state;
    float logits[VOCABULARY];
    usual_logits(logits);
    struct ld_token_choice choice = neutral;
    choice.temperature = 0.5; /* squares: 0.0025, 0.16, 0.01, 0.0625, 0.04 of 0.275 */
    static const double sharp[VOCABULARY] = {0.0025 / 0.275, 0.16 / 0.275, 0.01 / 0.275,
                                             0.0625 / 0.275, 0.04 / 0.275, 0.0};
    check_distribution(&choice, logits, NULL, 0, sharp, falling);
    choice.temperature = 2.0; /* roots */
    double flat[VOCABULARY] = {sqrt(0.05), sqrt(0.4), sqrt(0.1), sqrt(0.25), sqrt(0.2), 0.0};
    double total = 0.0;
    for (size_t i = 0; i < VOCABULARY; i++)
        total += flat[i];
    for (size_t i = 0; i < VOCABULARY; i++)
        flat[i] /= total;
    check_distribution(&choice, logits, NULL, 0, flat, falling);
}

static void top_k_keeps_the_k_likeliest(void **state)
{
    (void)state;
    static const double three[VOCABULARY] = {0, 0.4 / 0.85, 0, 0.25 / 0.85, 0.2 / 0.85, 0};
    static const double one[VOCABULARY] = {0, 1, 0, 0, 0, 0};
    static const double all[VOCABULARY] = {0.05, 0.4, 0.1, 0.25, 0.2, 0.0};
    float logits[VOCABULARY];
    usual_logits(logits);
    struct ld_token_choice choice = neutral;
    choice.top_k = 3;
    check_distribution(&choice, logits, NULL, 0, three, falling);
    choice.top_k = 1;
    check_distribution(&choice, logits, NULL, 0, one, falling);
    choice.top_k = 1000;
    check_distribution(&choice, logits, NULL, 0, all, falling);
}

static void top_p_keeps_the_likeliest_up_to_p(void **state)
{
    (void)state;
    static const double two[VOCABULARY] = {0, 0.4 / 0.65, 0, 0.25 / 0.65, 0, 0};
    static const double three[VOCABULARY] = {0, 0.4 / 0.85, 0, 0.25 / 0.85, 0.2 / 0.85, 0};
    static const double one[VOCABULARY] = {0, 1, 0, 0, 0, 0};
    float logits[VOCABULARY];
    usual_logits(logits);
    struct ld_token_choice choice = neutral;
    choice.top_p = 0.6; /* 0.4 is not enough, 0.65 is */
    check_distribution(&choice, logits, NULL, 0, two, falling);
    choice.top_p = 0.7;
    check_distribution(&choice, logits, NULL, 0, three, falling);
    choice.top_p = 0.0; /* one stays always */
    check_distribution(&choice, logits, NULL, 0, one, falling);
    /* Of what top-k leaves: 0.4 of 0.85 is 0.47, with 0.25 it is 0.76. */
    choice.top_k = 3;
    choice.top_p = 0.7;
    check_distribution(&choice, logits, NULL, 0, two, falling);
    /* The temperature comes later and does not change what stays. */
    choice.top_k = 0;
    choice.top_p = 0.6;
    choice.temperature = 2.0;
    const double a = sqrt(0.4);
    const double b = 0.5;
    const double flat[VOCABULARY] = {0, a / (a + b), 0, b / (a + b), 0, 0};
    check_distribution(&choice, logits, NULL, 0, flat, falling);
}

static void min_p_keeps_a_share_of_the_likeliest(void **state)
{
    (void)state;
    static const double three[VOCABULARY] = {0, 0.4 / 0.85, 0, 0.25 / 0.85, 0.2 / 0.85, 0};
    static const double one[VOCABULARY] = {0, 1, 0, 0, 0, 0};
    float logits[VOCABULARY];
    usual_logits(logits);
    struct ld_token_choice choice = neutral;
    choice.min_p = 0.4; /* 0.16 at least */
    check_distribution(&choice, logits, NULL, 0, three, falling);
    choice.min_p = 1.0;
    check_distribution(&choice, logits, NULL, 0, one, falling);
}

static void recent_tokens_are_penalised_once(void **state)
{
    (void)state;
    /* 2 halves the positive logit of token 1 and doubles the negative one of token 2. */
    const float logits[VOCABULARY] = {0.0f, 3.0f, -1.0f, 2.0f, 0.5f, -INFINITY};
    const uint32_t tokens[] = {1, 2, 1, 1, 2};
    struct ld_token_choice choice = neutral;
    choice.repetition_penalty = 2.0;
    const double raised[VOCABULARY] = {exp(0.0), exp(1.5), exp(-2.0), exp(2.0), exp(0.5), 0.0};
    double expected[VOCABULARY];
    double total = 0.0;
    for (size_t i = 0; i < VOCABULARY; i++)
        total += raised[i];
    for (size_t i = 0; i < VOCABULARY; i++)
        expected[i] = raised[i] / total;
    static const uint32_t order[VOCABULARY] = {3, 1, 4, 0, 2, 5};
    check_distribution(&choice, logits, tokens, 5, expected, order);
    choice.temperature = 0.0;
    assert_int_equal(next(&choice, logits, tokens, 5, 0), 3);
    assert_int_equal(next(&choice, logits, tokens, 0, 0), 1);
    /* Token 1 is forgotten once 64 others came after it. */
    uint32_t many[66];
    for (size_t i = 0; i < 66; i++)
        many[i] = 0;
    many[1] = 1;
    assert_int_equal(next(&choice, logits, many, 65, 0), 3);
    assert_int_equal(next(&choice, logits, many, 66, 0), 1);
}

static void equals_go_to_the_lower_id(void **state)
{
    (void)state;
    const float logits[VOCABULARY] = {1.0f, 2.0f, 0.0f, 2.0f, 2.0f, 1.0f};
    struct ld_token_choice choice = neutral;
    choice.temperature = 0.0;
    assert_int_equal(next(&choice, logits, NULL, 0, 0), 1);
    choice.temperature = 1.0;
    choice.top_k = 2;
    static const double expected[VOCABULARY] = {0, 0.5, 0, 0.5, 0, 0};
    static const uint32_t order[VOCABULARY] = {1, 3, 4, 0, 5, 2};
    check_distribution(&choice, logits, NULL, 0, expected, order);
}

static void large_vocabularies_keep_the_right_ones(void **state)
{
    (void)state;
    enum { COUNT = 5000, K = 37 };
    static float logits[COUNT];
    static struct ld_candidate scratch[COUNT];
    uint32_t seed = 9;
    for (uint32_t i = 0; i < COUNT; i++) {
        seed = seed * 1664525u + 1013904223u;
        logits[i] = (float)(seed >> 24) / 64.0f; /* many equals */
    }
    struct ld_token_choice choice = neutral;
    choice.top_k = K;
    choice.temperature = 50.0;
    static uint32_t drawn[COUNT];
    for (uint64_t i = 0; i < 4000; i++) {
        uint32_t id;
        struct ld_error err = {0};
        assert_int_equal(ld_choice_next(&choice, logits, COUNT, NULL, 0, i, scratch, &id, &err),
                         LD_OK);
        drawn[id]++;
    }
    for (uint32_t i = 0; i < COUNT; i++) {
        uint32_t before = 0; /* tokens that rank before this one */
        for (uint32_t k = 0; k < COUNT; k++)
            before += logits[k] > logits[i] || (logits[k] >= logits[i] && k < i);
        assert_int_equal(drawn[i] > 0, before < K);
    }
}

static void draws_are_functions_of_seed_and_position(void **state)
{
    (void)state;
    double sum = 0.0;
    uint32_t equal = 0;
    for (uint64_t i = 0; i < 10000; i++) {
        const double u = ld_choice_uniform(i % 100, i / 100);
        assert_true(u >= 0.0 && u < 1.0);
        assert_true(u == ld_choice_uniform(i % 100, i / 100));
        equal += u == ld_choice_uniform(i % 100 + 1, i / 100);
        equal += u == ld_choice_uniform(i % 100, i / 100 + 1);
        equal += u == ld_choice_uniform(i / 100, i % 100) && i % 100 != i / 100;
        sum += u;
    }
    assert_int_equal(equal, 0);
    assert_true(fabs(sum / 10000 - 0.5) < 0.015); /* five deviations */
}

static void what_is_no_number_is_refused(void **state)
{
    (void)state;
    struct ld_candidate scratch[VOCABULARY];
    struct ld_error err = {0};
    uint32_t id;
    float logits[VOCABULARY];
    static const float bad[] = {NAN, INFINITY};
    for (size_t i = 0; i < 2; i++) {
        usual_logits(logits);
        logits[4] = bad[i];
        assert_int_equal(
            ld_choice_next(&neutral, logits, VOCABULARY, NULL, 0, 0, scratch, &id, &err),
            LD_E_NUMERICAL);
        assert_non_null(strstr(err.detail, "no numbers"));
    }
    for (size_t i = 0; i < VOCABULARY; i++)
        logits[i] = -INFINITY;
    assert_int_equal(ld_choice_next(&neutral, logits, VOCABULARY, NULL, 0, 0, scratch, &id, &err),
                     LD_E_NUMERICAL);
}

static void settings_have_ranges(void **state)
{
    (void)state;
    struct ld_error err = {0};
    assert_int_equal(ld_choice_check(&neutral, &err), LD_OK);
    static const double bad[] = {(double)NAN, -0.1, 101.0};
    for (size_t i = 0; i < 3; i++) {
        struct ld_token_choice choice = neutral;
        choice.temperature = bad[i];
        assert_int_equal(ld_choice_check(&choice, &err), LD_E_INVALID);
        assert_non_null(strstr(err.detail, "temperature must be between 0 and 100"));
        choice = neutral;
        choice.top_p = bad[i];
        assert_int_equal(ld_choice_check(&choice, &err), LD_E_INVALID);
        choice = neutral;
        choice.min_p = bad[i];
        assert_int_equal(ld_choice_check(&choice, &err), LD_E_INVALID);
        choice = neutral;
        choice.repetition_penalty = bad[i];
        assert_int_equal(ld_choice_check(&choice, &err), LD_E_INVALID);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_limits_the_softmax_is_drawn),
        cmocka_unit_test(temperature_sharpens_and_flattens),
        cmocka_unit_test(top_k_keeps_the_k_likeliest),
        cmocka_unit_test(top_p_keeps_the_likeliest_up_to_p),
        cmocka_unit_test(min_p_keeps_a_share_of_the_likeliest),
        cmocka_unit_test(recent_tokens_are_penalised_once),
        cmocka_unit_test(equals_go_to_the_lower_id),
        cmocka_unit_test(large_vocabularies_keep_the_right_ones),
        cmocka_unit_test(draws_are_functions_of_seed_and_position),
        cmocka_unit_test(what_is_no_number_is_refused),
        cmocka_unit_test(settings_have_ranges),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
