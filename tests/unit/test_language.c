/*
 * Proves that a completion is what decoder, tokenizer and choice give together, computed here from
 * the float64 network and the public parts; that it depends on nothing else; and that it ends, is
 * cancelled and is refused as it should be. Models are small random ones in a file below /tmp.
 */
#include "runtime/tipo/language.h"

#include "runtime/base/arena.h"
#include "runtime/tipo/pieces.h"
#include "tests/unit/llama_fixture.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#define BLANK "\xE2\x96\x81"

enum { VOCABULARY = 16, END = 2, CONTEXT = 96 };

static const struct gguf_piece pieces[VOCABULARY] = {
    {"<unk>", 0, 2},  {"<s>", 0, 3},      {"</s>", 0, 3}, {"a", -9, 1},
    {"b", -9, 1},     {"c", -9, 1},       {"d", -9, 1},   {BLANK, -9, 1},
    {"ab", -1, 1},    {BLANK "a", -2, 1}, {",", -9, 1},   {"<|long|>", 0, 3},
    {"<0x0A>", 0, 6}, {"e", -9, 1},       {"cd", -3, 1},  {"f", -9, 1}};

static const struct llama_plan plan = {.layers = 2,
                                       .width = 32,
                                       .mlp_width = 48,
                                       .heads = 2,
                                       .kv_heads = 1,
                                       .rotated = 16,
                                       .vocabulary = VOCABULARY,
                                       .context = CONTEXT,
                                       .epsilon = 1e-5f,
                                       .rope_base = 10000.0f,
                                       .type = LD_GGUF_TENSOR_F16,
                                       .seed = 7};

static const struct ld_token_choice usual = {.temperature = 1.0,
                                             .top_p = 1.0,
                                             .min_p = 0.0,
                                             .top_k = 0,
                                             .repetition_penalty = 1.0,
                                             .tokens_max = 40,
                                             .seed = 1};

static char path[] = "/tmp/test_language.XXXXXX";

/* The weights as a file with `count` of the pieces. */
static void write_file(const struct llama_weights *weights, uint32_t count)
{
    struct gguf_fixture f = gguf_begin();
    gguf_text(&f, "general.name", "tiny");
    llama_write_keys(&f, &weights->plan);
    gguf_vocabulary(&f, pieces, count);
    llama_write_tensors(&f, weights);
    struct ld_buffer bytes = gguf_finish(&f);
    FILE *out = fopen(path, "wb");
    assert_non_null(out);
    assert_int_equal(fwrite(bytes.data, 1, bytes.size, out), bytes.size);
    assert_int_equal(fclose(out), 0);
    ld_buffer_deinit(&bytes);
}

static struct ld_language *open_language(const struct llama_weights *weights, uint32_t threads)
{
    struct ld_language *language;
    struct ld_error err = {0};
    write_file(weights, VOCABULARY);
    const enum ld_code code = ld_language_open(&language, path, threads, &err);
    if (code != LD_OK)
        print_message("%s\n", err.detail);
    assert_int_equal(code, LD_OK);
    return language;
}

static struct ld_buffer complete(struct ld_language *language, const char *prompt,
                                 const struct ld_token_choice *choice)
{
    struct ld_buffer out = ld_buffer_make(1 << 16);
    struct ld_error err = {0};
    const enum ld_code code =
        ld_language_complete(language, ld_span_text(prompt), choice, NULL, &out, &err);
    if (code != LD_OK)
        print_message("%s\n", err.detail);
    assert_int_equal(code, LD_OK);
    ld_buffer_byte(&out, '\0'); /* so that an empty one has data, too */
    return out;
}

static void expect_same(const struct ld_buffer *a, const struct ld_buffer *b)
{
    assert_string_equal(a->data, b->data);
    assert_int_equal(a->size, b->size);
}

/* ---- The whole from its parts ---------------------------------------------------------------- */

/* The likeliest token after `ids` by the float64 network; the begin and unknown ones never. */
static uint32_t likeliest(const struct llama_weights *weights, const uint32_t *ids, uint32_t count)
{
    double logits[VOCABULARY];
    llama_reference(weights, ids, count, logits);
    uint32_t best = END;
    for (uint32_t i = END; i < VOCABULARY; i++)
        best = logits[i] > logits[best] ? i : best;
    return best;
}

static const char *text_of(uint32_t id)
{
    static const char *const texts[VOCABULARY] = {
        "", "", "", "a", "b", "c", "d", " ", "ab", " a", ",", "<|long|>", "\n", "e", "cd", "f"};
    return texts[id];
}

static void the_likeliest_continuation_is_the_networks(void **state)
{
    (void)state;
    uint32_t ends = 0;
    for (uint32_t seed = 1; seed <= 12; seed++) {
        struct llama_plan varied = plan;
        varied.seed = seed;
        struct llama_weights weights = llama_weights_make(&varied);
        struct ld_language *language = open_language(&weights, 2);
        struct ld_token_choice choice = usual;
        choice.temperature = 0.0;
        struct ld_buffer got = complete(language, "b, <|long|>ab", &choice);
        struct ld_buffer expected = ld_buffer_make(1 << 12);
        uint32_t ids[CONTEXT] = {1, 7, 4, 10, 7, 11, 7, 8}; /* "<s> b , _ <|long|> _ ab" */
        uint32_t count = 8;
        for (uint32_t i = 0; i < choice.tokens_max; i++) {
            ids[count] = likeliest(&weights, ids, count);
            if (ids[count] == END) {
                ends++;
                break;
            }
            ld_buffer_text(&expected, text_of(ids[count++]));
        }
        ld_buffer_byte(&expected, '\0');
        expect_same(&got, &expected);
        ld_buffer_deinit(&got);
        ld_buffer_deinit(&expected);
        ld_language_close(language);
        llama_weights_free(&weights);
    }
    assert_true(ends > 0 && ends < 12); /* both ways of ending were met */
}

static void nothing_else_matters(void **state)
{
    (void)state;
    struct llama_weights weights = llama_weights_make(&plan);
    struct ld_language *one = open_language(&weights, 1);
    struct ld_language *three = open_language(&weights, 3);
    static const char *const prompts[] = {"ab", "ab,cd", "", "ab,cd,<|long|>e", "f", "ab,cd"};
    uint32_t differing = 0;
    for (uint64_t seed = 0; seed < 10; seed++) {
        struct ld_token_choice choice = usual;
        choice.seed = seed;
        choice.repetition_penalty = 1.1;
        for (size_t i = 0; i < sizeof prompts / sizeof prompts[0]; i++) {
            struct ld_language *fresh = open_language(&weights, 2);
            struct ld_buffer a = complete(one, prompts[i], &choice);
            struct ld_buffer b = complete(three, prompts[i], &choice);
            struct ld_buffer c = complete(fresh, prompts[i], &choice);
            struct ld_token_choice other = choice;
            other.seed += 100;
            struct ld_buffer d = complete(three, prompts[i], &other);
            expect_same(&a, &b);
            expect_same(&a, &c);
            differing += strcmp(a.data, d.data) != 0;
            ld_buffer_deinit(&a);
            ld_buffer_deinit(&b);
            ld_buffer_deinit(&c);
            ld_buffer_deinit(&d);
            ld_language_close(fresh);
        }
    }
    assert_true(differing > 40);
    ld_language_close(one);
    ld_language_close(three);
    llama_weights_free(&weights);
}

/* The begin and unknown tokens are made the likeliest by far, and still never come. */
static void begin_and_unknown_are_never_chosen(void **state)
{
    (void)state;
    struct llama_weights weights = llama_weights_make(&plan);
    for (uint32_t i = 0; i < plan.width; i++) {
        weights.output.values[i] *= 30.0f;              /* unknown */
        weights.output.values[plan.width + i] *= 30.0f; /* begin */
        weights.output.values[(size_t)END * plan.width + i] = 0.0f;
    }
    struct ld_language *language = open_language(&weights, 1);
    struct ld_token_choice choice = usual;
    choice.temperature = 0.0;
    choice.tokens_max = 30;
    struct ld_buffer out = complete(language, "a", &choice);
    assert_true(out.size > 10); /* those two would write nothing */
    ld_buffer_deinit(&out);
    ld_language_close(language);
    llama_weights_free(&weights);
}

/* ---- Ends ------------------------------------------------------------------------------------ */

/* A model that always says "e": the last norm leaves one value, which only that row looks at. */
static struct llama_weights always_e(void)
{
    struct llama_weights weights = llama_weights_make(&plan);
    for (uint32_t i = 0; i < plan.width; i++)
        weights.output_norm.values[i] = 0.0f;
    for (size_t i = 0; i < (size_t)VOCABULARY * plan.width; i++)
        weights.output.values[i] = 0.0f;
    for (uint32_t i = 0; i < plan.width; i++) {
        weights.output_norm.values[i] = 1.0f;
        for (uint32_t id = 0; id < VOCABULARY; id++)
            weights.embedding.values[(size_t)id * plan.width + i] = 1.0f;
        weights.output.values[(size_t)13 * plan.width + i] = 1.0f;
    }
    for (uint32_t l = 0; l < plan.layers; l++) { /* nothing is added to the embedding */
        memset(weights.layers[l].output.values, 0, plan.width * plan.width * sizeof(float));
        memset(weights.layers[l].down.values, 0, plan.width * plan.mlp_width * sizeof(float));
    }
    return weights;
}

static void it_ends_at_tokens_max_and_at_the_context(void **state)
{
    (void)state;
    struct llama_weights weights = always_e();
    struct ld_language *language = open_language(&weights, 1);
    struct ld_token_choice choice = usual;
    choice.temperature = 0.0;
    choice.tokens_max = 5;
    struct ld_buffer out = complete(language, "ab", &choice);
    assert_string_equal(out.data, "eeeee");
    ld_buffer_deinit(&out);
    choice.tokens_max = 0;
    out = complete(language, "ab", &choice);
    assert_string_equal(out.data, "");
    ld_buffer_deinit(&out);
    choice.tokens_max = 100000;
    out =
        complete(language, "ab", &choice); /* begin, blank, ab: 3 of 96; the last one is not read */
    assert_int_equal(out.size - 1, CONTEXT - 3 + 1);
    ld_buffer_deinit(&out);
    ld_language_close(language);
    llama_weights_free(&weights);
}

static void prompts_leave_room(void **state)
{
    (void)state;
    struct llama_weights weights = always_e();
    struct ld_language *language = open_language(&weights, 1);
    struct ld_token_choice choice = usual;
    choice.temperature = 0.0;
    choice.tokens_max = 100;
    char prompt[CONTEXT];
    memset(prompt, 'f', sizeof prompt);
    prompt[CONTEXT - 16 - 2] = '\0'; /* with begin and blank just as many as may be */
    struct ld_buffer out = complete(language, prompt, &choice);
    assert_int_equal(out.size - 1, 17);
    ld_buffer_deinit(&out);
    prompt[CONTEXT - 16 - 2] = 'f';
    prompt[CONTEXT - 16 - 1] = '\0';
    out = ld_buffer_make(100);
    struct ld_error err = {0};
    assert_int_equal(
        ld_language_complete(language, ld_span_text(prompt), &choice, NULL, &out, &err),
        LD_E_TOO_LARGE);
    assert_non_null(strstr(err.detail, "81 tokens"));
    assert_non_null(strstr(err.detail, "at most 80 of its 96"));
    assert_int_equal(out.size, 0);
    ld_buffer_deinit(&out);
    ld_language_close(language);
    llama_weights_free(&weights);
}

static void a_wish_to_stop_and_a_full_buffer_stop_it(void **state)
{
    (void)state;
    struct llama_weights weights = always_e();
    struct ld_language *language = open_language(&weights, 1);
    struct ld_cancel cancel;
    atomic_init(&cancel.requested, true);
    struct ld_buffer out = ld_buffer_make(10);
    struct ld_error err = {0};
    assert_int_equal(
        ld_language_complete(language, ld_span_text("ab"), &usual, &cancel, &out, &err),
        LD_E_CANCELLED);
    assert_int_equal(out.size, 0);
    atomic_store(&cancel.requested, false);
    err = (struct ld_error){0};
    assert_int_equal(
        ld_language_complete(language, ld_span_text("ab"), &usual, &cancel, &out, &err),
        LD_E_TOO_LARGE);
    assert_non_null(strstr(err.detail, "10 bytes"));
    ld_buffer_deinit(&out);
    struct ld_token_choice choice = usual;
    choice.temperature = -1.0;
    out = ld_buffer_make(1000);
    assert_int_equal(ld_language_complete(language, ld_span_text("ab"), &choice, NULL, &out, &err),
                     LD_E_INVALID);
    ld_buffer_deinit(&out);
    ld_language_close(language);
    llama_weights_free(&weights);
}

/* ---- Files ----------------------------------------------------------------------------------- */

static void weights_that_are_no_numbers_are_told(void **state)
{
    (void)state;
    struct llama_weights weights = llama_weights_make(&plan);
    weights.layers[1].up.values[5] = NAN; /* read in place, so found by what it computes */
    struct ld_language *language = open_language(&weights, 1);
    struct ld_buffer out = ld_buffer_make(1000);
    struct ld_error err = {0};
    assert_int_equal(ld_language_complete(language, ld_span_text("ab"), &usual, NULL, &out, &err),
                     LD_E_NUMERICAL);
    ld_buffer_deinit(&out);
    ld_language_close(language);
    llama_weights_free(&weights);
}

static void parts_that_do_not_fit_are_refused(void **state)
{
    (void)state;
    struct llama_weights weights = llama_weights_make(&plan);
    struct ld_language *language;
    struct ld_error err = {0};
    write_file(&weights, VOCABULARY - 1);
    assert_int_equal(ld_language_open(&language, path, 1, &err), LD_E_FORMAT);
    assert_non_null(strstr(err.detail, "decoder has 16 tokens, its tokenizer 15"));
    assert_null(language);
    assert_int_equal(ld_language_open(&language, "/nowhere/at/all.gguf", 1, &err), LD_E_NOT_FOUND);
    ld_language_close(NULL);
    llama_weights_free(&weights);
}

static void facts_are_told(void **state)
{
    (void)state;
    struct llama_weights weights = llama_weights_make(&plan);
    struct ld_language *language = open_language(&weights, 1);
    const struct ld_language_facts *facts = ld_language_facts(language);
    assert_string_equal(facts->name, "tiny");
    assert_int_equal(facts->layers, 2);
    assert_int_equal(facts->width, 32);
    assert_int_equal(facts->mlp_width, 48);
    assert_int_equal(facts->heads, 2);
    assert_int_equal(facts->kv_heads, 1);
    assert_int_equal(facts->vocabulary, VOCABULARY);
    assert_int_equal(facts->context, CONTEXT);
    assert_true(facts->parameters > 0 && facts->bytes > 2 * facts->parameters);
    ld_language_close(language);
    llama_weights_free(&weights);
}

static int make_path(void **state)
{
    (void)state;
    const int fd = mkstemp(path);
    return fd < 0 ? -1 : close(fd);
}

static int remove_path(void **state)
{
    (void)state;
    return unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_likeliest_continuation_is_the_networks),
        cmocka_unit_test(nothing_else_matters),
        cmocka_unit_test(begin_and_unknown_are_never_chosen),
        cmocka_unit_test(it_ends_at_tokens_max_and_at_the_context),
        cmocka_unit_test(prompts_leave_room),
        cmocka_unit_test(a_wish_to_stop_and_a_full_buffer_stop_it),
        cmocka_unit_test(weights_that_are_no_numbers_are_told),
        cmocka_unit_test(parts_that_do_not_fit_are_refused),
        cmocka_unit_test(facts_are_told),
    };
    return cmocka_run_group_tests(tests, make_path, remove_path);
}
