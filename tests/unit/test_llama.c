/*
 * Proves that the decoder computes the network of the paper, for grouped heads, partly turned
 * heads, tied matrices and every type of tensor, that neither threads nor cuts change a bit, and
 * that files which do not hold such a network are refused. The oracle is the float64 form of
 * llama_fixture.h.
 */
#include "runtime/tipo/llama.h"

#include "runtime/base/arena.h"
#include "tests/unit/llama_fixture.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum { VOCABULARY = 61, TOKENS = 150, CONTEXT = 160 };

/* float32 through three layers; measured below 2e-6. */
static const double TOLERANCE = 1e-5;

static const struct llama_plan plain = {.layers = 3,
                                        .width = 64,
                                        .mlp_width = 96,
                                        .heads = 4,
                                        .kv_heads = 4,
                                        .rotated = 16,
                                        .vocabulary = VOCABULARY,
                                        .context = CONTEXT,
                                        .epsilon = 1e-5f,
                                        .rope_base = 10000.0f,
                                        .type = LD_GGUF_TENSOR_F16,
                                        .seed = 1};

struct model {
    struct llama_weights weights;
    struct ld_buffer bytes;
    struct ld_gguf *file;
    struct ld_llama *llama;
};

static struct model open_model(const struct llama_plan *plan, uint32_t threads)
{
    struct model m = {.weights = llama_weights_make(plan)};
    struct gguf_fixture f = gguf_begin();
    llama_write_keys(&f, plan);
    llama_write_tensors(&f, &m.weights);
    m.bytes = gguf_finish(&f);
    struct ld_error err = {0};
    assert_int_equal(ld_gguf_open_bytes(&m.file, ld_span_of(m.bytes.data, m.bytes.size), &err),
                     LD_OK);
    const enum ld_code code = ld_llama_create(&m.llama, m.file, threads, &err);
    if (code != LD_OK)
        print_message("%s\n", err.detail);
    assert_int_equal(code, LD_OK);
    return m;
}

static void close_model(struct model *m)
{
    ld_llama_destroy(m->llama);
    ld_gguf_close(m->file);
    ld_buffer_deinit(&m->bytes);
    llama_weights_free(&m->weights);
}

static void some_tokens(uint32_t *ids, uint32_t count, uint32_t seed)
{
    for (uint32_t i = 0; i < count; i++) {
        seed = seed * 1664525u + 1013904223u;
        ids[i] = (seed >> 8) % VOCABULARY;
    }
}

static void feed(struct model *m, const uint32_t *ids, uint32_t count, float *logits)
{
    struct ld_error err = {0};
    assert_int_equal(ld_llama_feed(m->llama, ids, count, logits, &err), LD_OK);
}

/* ---- Against float64 ------------------------------------------------------------------------- */

static void check_plan(const struct llama_plan *plan)
{
    struct model m = open_model(plan, 2);
    uint32_t ids[TOKENS];
    static const uint32_t counts[] = {1, 2, 7, 70};
    for (size_t c = 0; c < sizeof counts / sizeof counts[0]; c++) {
        float logits[VOCABULARY];
        double expected[VOCABULARY];
        double difference = 0.0;
        double norm = 0.0;
        some_tokens(ids, counts[c], (uint32_t)c);
        ld_llama_rewind(m.llama, 0);
        feed(&m, ids, counts[c], logits);
        llama_reference(&m.weights, ids, counts[c], expected);
        for (uint32_t i = 0; i < VOCABULARY; i++) {
            difference += pow((double)logits[i] - expected[i], 2.0);
            norm += expected[i] * expected[i];
        }
        const double error = sqrt(difference / norm);
        if (!(error <= TOLERANCE))
            print_message("%u tokens, type %u: relative error %.3g\n", counts[c], plan->type,
                          error);
        assert_true(error <= TOLERANCE);
    }
    close_model(&m);
}

static void logits_are_those_of_the_network(void **state)
{
    (void)state;
    struct llama_plan plan = plain;
    check_plan(&plan);
    plan.kv_heads = 2;
    check_plan(&plan);
    plan.kv_heads = 1;
    plan.rotated = 8; /* half of each head stays as it is */
    plan.rope_base = 500.0f;
    check_plan(&plan);
    plan = plain;
    plan.width = 54; /* no multiple of any vector: heads of 18 values */
    plan.heads = plan.kv_heads = 3;
    plan.rotated = 18;
    plan.mlp_width = 77;
    plan.epsilon = 1e-2f;
    plan.seed = 2;
    check_plan(&plan);
    plan = plain;
    plan.tied = true;
    check_plan(&plan);
}

static void every_type_of_tensor_is_computed_with(void **state)
{
    (void)state;
    static const uint32_t types[] = {LD_GGUF_TENSOR_F32, LD_GGUF_TENSOR_F16, LD_GGUF_TENSOR_BF16,
                                     LD_GGUF_TENSOR_Q8_0};
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        struct llama_plan plan = plain;
        plan.type = types[i];
        check_plan(&plan);
        plan.tied = true; /* converted once, freed once */
        check_plan(&plan);
    }
}

/* ---- The same bits --------------------------------------------------------------------------- */

static void cuts_change_no_bit(void **state)
{
    (void)state;
    struct llama_plan plan = plain;
    plan.kv_heads = 2;
    struct model m = open_model(&plan, 2);
    uint32_t ids[TOKENS];
    float whole[VOCABULARY];
    float other[VOCABULARY];
    some_tokens(ids, TOKENS, 3);
    feed(&m, ids, TOKENS, whole);
    assert_int_equal(ld_llama_position(m.llama), TOKENS);
    static const uint32_t pieces[] = {1, 2, 3, 5, 63, 64, 65, 149};
    for (size_t i = 0; i < sizeof pieces / sizeof pieces[0]; i++) {
        ld_llama_rewind(m.llama, 0);
        for (uint32_t done = 0; done < TOKENS; done += pieces[i]) {
            const uint32_t left = TOKENS - done;
            feed(&m, ids + done, left < pieces[i] ? left : pieces[i], other);
        }
        assert_memory_equal(whole, other, sizeof whole);
    }
    /* Other tokens in between leave no trace. */
    uint32_t others[20];
    some_tokens(others, 20, 4);
    ld_llama_rewind(m.llama, 100);
    feed(&m, others, 20, other);
    assert_memory_not_equal(whole, other, sizeof whole);
    ld_llama_rewind(m.llama, 100);
    feed(&m, ids + 100, TOKENS - 100, other);
    assert_memory_equal(whole, other, sizeof whole);
    close_model(&m);
}

static void threads_change_no_bit(void **state)
{
    (void)state;
    struct llama_plan plan = plain;
    plan.width = 320; /* several tasks a product */
    plan.mlp_width = 640;
    plan.rotated = 80;
    uint32_t ids[TOKENS];
    float first[VOCABULARY];
    some_tokens(ids, TOKENS, 5);
    for (uint32_t threads = 1; threads <= 5; threads++) {
        struct model m = open_model(&plan, threads);
        float logits[VOCABULARY];
        feed(&m, ids, TOKENS - 1, NULL);
        feed(&m, ids + TOKENS - 1, 1, logits);
        if (threads == 1)
            memcpy(first, logits, sizeof first);
        assert_memory_equal(first, logits, sizeof first);
        close_model(&m);
    }
}

static void what_does_not_fit_is_refused_and_leaves_no_trace(void **state)
{
    (void)state;
    struct model m = open_model(&plain, 1);
    uint32_t ids[CONTEXT + 1] = {0};
    struct ld_error err = {0};
    float logits[VOCABULARY];
    float again[VOCABULARY];
    assert_int_equal(ld_llama_feed(m.llama, ids, CONTEXT + 1, logits, &err), LD_E_TOO_LARGE);
    assert_non_null(strstr(err.detail, "context of 160"));
    assert_int_equal(ld_llama_position(m.llama), 0);
    feed(&m, ids, 3, logits);
    ids[3] = VOCABULARY;
    assert_int_equal(ld_llama_feed(m.llama, ids + 2, 2, again, &err), LD_E_RANGE);
    assert_int_equal(ld_llama_position(m.llama), 3);
    ld_llama_rewind(m.llama, 2);
    feed(&m, ids, 1, again);
    assert_memory_equal(logits, again, sizeof again);
    feed(&m, ids, 1, NULL);
    ids[3] = 0;
    feed(&m, ids, CONTEXT - 4, logits);
    assert_int_equal(ld_llama_feed(m.llama, ids, 1, logits, &err), LD_E_TOO_LARGE);
    close_model(&m);
}

static void sizes_are_told(void **state)
{
    (void)state;
    struct llama_plan plan = plain;
    plan.kv_heads = 2;
    struct model m = open_model(&plan, 1);
    const struct ld_llama_sizes *sizes = ld_llama_sizes(m.llama);
    assert_int_equal(sizes->head_width, 16);
    assert_int_equal(sizes->context, CONTEXT);
    const uint64_t layer = 2 * 64 + 2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 96;
    const uint64_t total = 3 * layer + 64 + 2 * 64 * VOCABULARY;
    const uint64_t vectors = 3 * 2 * 64 + 64;
    assert_int_equal(sizes->parameters, total);
    assert_int_equal(sizes->bytes,
                     2 * (total - vectors) + 4 * vectors + 3 * CONTEXT * 32 * 2 * sizeof(float));
    close_model(&m);
}

/* ---- Files that hold no such network --------------------------------------------------------- */

/* Takes the fixture. */
static void expect_refused(struct gguf_fixture *f, enum ld_code expected, const char *part)
{
    struct ld_buffer bytes = gguf_finish(f);
    struct ld_gguf *file;
    struct ld_llama *llama;
    struct ld_error err = {0};
    assert_int_equal(ld_gguf_open_bytes(&file, ld_span_of(bytes.data, bytes.size), &err), LD_OK);
    const enum ld_code code = ld_llama_create(&llama, file, 1, &err);
    if (code != expected || strstr(err.detail, part) == NULL)
        print_message("got '%s' (%s), wanted '%s'\n", err.detail, ld_code_name(code), part);
    assert_int_equal(code, expected);
    assert_non_null(strstr(err.detail, part));
    assert_null(llama);
    ld_gguf_close(file);
    ld_buffer_deinit(&bytes);
}

/* Weights of `made` under the keys of `said`. */
static struct gguf_fixture written(const struct llama_plan *made, const struct llama_plan *said)
{
    struct llama_weights weights = llama_weights_make(made);
    struct gguf_fixture f = gguf_begin();
    llama_write_keys(&f, said);
    llama_write_tensors(&f, &weights);
    llama_weights_free(&weights);
    return f;
}

static void sizes_that_do_not_fit_are_refused(void **state)
{
    (void)state;
    struct llama_plan said = plain;
    said.mlp_width = 97;
    struct gguf_fixture f = written(&plain, &said);
    expect_refused(&f, LD_E_FORMAT,
                   "blk.0.ffn_gate.weight has the shape 64 x 96; the file's sizes ask for 64 x 97");
    said = plain;
    said.layers = 4;
    f = written(&plain, &said);
    expect_refused(&f, LD_E_FORMAT, "lacks the tensor blk.3.attn_norm.weight");
    said.layers = 2;
    f = written(&plain, &said);
    expect_refused(&f, LD_E_UNSUPPORTED, "tensor 'blk.2.attn_k.weight' has no place");
    said = plain;
    said.kv_heads = 2;
    f = written(&plain, &said);
    expect_refused(&f, LD_E_FORMAT, "blk.0.attn_k.weight has the shape 64 x 64");
    said.kv_heads = 3;
    f = written(&plain, &said);
    expect_refused(&f, LD_E_UNSUPPORTED, "4 heads in groups of 3");
    said = plain;
    said.rotated = 15;
    f = written(&plain, &said);
    expect_refused(&f, LD_E_FORMAT, "rope.dimension_count is 15");
    said.rotated = 18;
    f = written(&plain, &said);
    expect_refused(&f, LD_E_UNSUPPORTED, "rope.dimension_count is 18; 2 to 16");
    said = plain;
    said.epsilon = 0.0f;
    f = written(&plain, &said);
    expect_refused(&f, LD_E_FORMAT, "layer_norm_rms_epsilon");
    said.epsilon = NAN;
    f = written(&plain, &said);
    expect_refused(&f, LD_E_FORMAT, "layer_norm_rms_epsilon");
    said = plain;
    said.rope_base = INFINITY;
    f = written(&plain, &said);
    expect_refused(&f, LD_E_FORMAT, "rope.freq_base");
    said = plain;
    said.layers = 0;
    f = written(&plain, &said);
    expect_refused(&f, LD_E_UNSUPPORTED, "llama.block_count is 0; 1 to 256");
}

static void other_networks_are_refused(void **state)
{
    (void)state;
    static const float bias[64];
    static const uint64_t dims[1] = {64};
    struct gguf_fixture f = gguf_begin();
    gguf_text(&f, "general.architecture", "qwen2");
    expect_refused(&f, LD_E_UNSUPPORTED, "architecture 'qwen2'");
    f = gguf_begin();
    expect_refused(&f, LD_E_FORMAT, "lacks the key general.architecture");
    f = written(&plain, &plain);
    gguf_text(&f, "llama.rope.scaling.type", "linear");
    expect_refused(&f, LD_E_UNSUPPORTED, "llama.rope.scaling.type is 'linear'");
    f = written(&plain, &plain);
    gguf_f32(&f, "llama.rope.scaling.factor", 2.0f);
    expect_refused(&f, LD_E_UNSUPPORTED, "scales its rotations");
    f = written(&plain, &plain);
    gguf_u32(&f, "llama.expert_count", 8);
    expect_refused(&f, LD_E_UNSUPPORTED, "experts");
    f = written(&plain, &plain);
    gguf_u32(&f, "llama.attention.key_length", 32);
    expect_refused(&f, LD_E_UNSUPPORTED, "key_length is 32; 16 to 16");
    f = written(&plain, &plain);
    gguf_tensor(&f, "blk.0.attn_q.bias", LD_GGUF_TENSOR_F32, 1, dims, bias, sizeof bias);
    expect_refused(&f, LD_E_UNSUPPORTED, "'blk.0.attn_q.bias' has no place");
}

static void values_beyond_float16_are_refused(void **state)
{
    (void)state;
    static const float beyond[] = {65520.0f, -1e6f, NAN};
    for (size_t i = 0; i < sizeof beyond / sizeof beyond[0]; i++) {
        struct llama_plan plan = plain;
        plan.type = LD_GGUF_TENSOR_F32;
        struct llama_weights weights = llama_weights_make(&plan);
        weights.layers[1].down.values[77] = beyond[i];
        struct gguf_fixture f = gguf_begin();
        llama_write_keys(&f, &plan);
        llama_write_tensors(&f, &weights);
        llama_weights_free(&weights);
        expect_refused(&f, LD_E_UNSUPPORTED, "blk.1.ffn_down.weight holds a value that float16");
    }
}

static void a_cache_beyond_memory_is_refused(void **state)
{
    (void)state;
    struct llama_plan plan = plain;
    plan.width = 16384;
    plan.context = 1 << 20; /* run with 4096 */
    plan.layers = 9;        /* 512 MiB each */
    struct gguf_fixture f = gguf_begin();
    llama_write_keys(&f, &plan);
    expect_refused(&f, LD_E_TOO_LARGE, "4608 MiB for its context; at most 4096 MiB");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(logits_are_those_of_the_network),
        cmocka_unit_test(every_type_of_tensor_is_computed_with),
        cmocka_unit_test(cuts_change_no_bit),
        cmocka_unit_test(threads_change_no_bit),
        cmocka_unit_test(what_does_not_fit_is_refused_and_leaves_no_trace),
        cmocka_unit_test(sizes_are_told),
        cmocka_unit_test(sizes_that_do_not_fit_are_refused),
        cmocka_unit_test(other_networks_are_refused),
        cmocka_unit_test(values_beyond_float16_are_refused),
        cmocka_unit_test(a_cache_beyond_memory_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
