/*
 * Proves that attention with fp16 scores (the option fp16_accumulate) is right where attention is:
 * all widths and heights, tails, key counts, images alone, thread orders; that its error stays
 * within attention's own limit up to scores that spread far; that the option leaves alone what it
 * has nothing to say about; and that a score beyond fp16 never goes unseen.
 */
#include "kernels/cuda/backend.h"
#include "runtime/base/arena.h"
#include "tests/cuda/attention_fixture.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define F16 .dtype = LDK_F16, .fp16_accumulate = true

static const struct attention_case cases[] = {
    {"cross 77 keys", NARROW, F16, .batch = 2, .q_rows = 70, .kv_rows = 77, .heads = 2,
     .head_dim = 40, .kv_len = {77, 13}, .spread = 1},
    {"self, growing maxima", TALL, F16, .batch = 1, .q_rows = 130, .kv_rows = 130, .heads = 1,
     .head_dim = 40, .fused = true, .spread = 2, .ramp = 0.15f},
    {"whole steps only", HIGH, F16, .batch = 1, .q_rows = 195, .kv_rows = 128, .heads = 1,
     .head_dim = 40, .spread = 1},
    {"two prompts", TALL, F16, .batch = 3, .q_rows = 5, .kv_rows = 231, .heads = 1, .head_dim = 40,
     .kv_len = {77, 231, 154}, .spread = 2, .gap = 8},
    {"d 64", NARROW, F16, .batch = 1, .q_rows = 17, .kv_rows = 130, .heads = 1, .head_dim = 64,
     .spread = 1},
    {"d 64 tall", TALL, F16, .batch = 1, .q_rows = 33, .kv_rows = 200, .heads = 1, .head_dim = 64,
     .fused = true, .spread = 2},
    {"d 80", NARROW, F16, .batch = 1, .q_rows = 65, .kv_rows = 154, .heads = 1, .head_dim = 80,
     .spread = 4, .gap = 16},
    {"d 80 tall", TALL, F16, .batch = 1, .q_rows = 129, .kv_rows = 65, .heads = 1, .head_dim = 80,
     .fused = true, .spread = 1},
    {"d 80 high", HIGH, F16, .batch = 1, .q_rows = 258, .kv_rows = 77, .heads = 1, .head_dim = 80,
     .fused = true, .spread = 2},
    {"d 160", NARROW, F16, .batch = 1, .q_rows = 61, .kv_rows = 61, .heads = 2, .head_dim = 160,
     .fused = true, .spread = 1},
    {"d 160 tall", TALL, F16, .batch = 2, .q_rows = 130, .kv_rows = 77, .heads = 1, .head_dim = 160,
     .kv_len = {77, 40}, .spread = 2},
};

/* ---- Spread ------------------------------------------------------------------------------------ */

/* Scores that spread by e^2 and e^8: limits are attention's own. */
static void spread_scores_stay_close(void)
{
    static const float spreads[] = {0.5f, 2, 8};
    static const int32_t widths[] = {40, 80};
    for (int i = 0; i < 6; i++) {
        const struct attention_case c = {"spread",
                                         NARROW,
                                         F16,
                                         .batch = 1,
                                         .q_rows = 16,
                                         .kv_rows = 320,
                                         .heads = 1,
                                         .head_dim = widths[i % 2],
                                         .spread = spreads[i / 2]};
        attention_check(&c, 300 + (uint64_t)i);
    }
}

/* ---- What the option leaves alone --------------------------------------------------------------- */

static void run_into(const struct ldk_attention *op, size_t bytes, void *out)
{
    hc_seed(0);
    hc_expect(ldk_attention(op, NULL) == LDK_OK, "launch");
    hc_download(out, op->o, bytes);
}

static uint32_t signature_of(const struct ldk_attention *op)
{
    struct ldk_variant variants[8];
    const int32_t count = ldk_attention_variants(op, variants, 8);
    for (int32_t i = 0; i < count && i < 8; i++)
        if (variants[i].number == op->variant)
            return variants[i].signature;
    return 0;
}

/* Bits and signature with and without the option are equal, or both are not. */
static void option_matters(const char *name, struct attention_case c, bool matters)
{
    hc_case("the option: %s", name);
    c.name = name;
    c.batch = c.heads = 1;
    c.q_rows = 20;
    c.kv_rows = 70;
    c.spread = 2;
    struct attention_data a = attention_make(&c, 401);
    const size_t bytes = a.o_count * 2;
    unsigned char *with = calloc(1, bytes), *without = calloc(1, bytes);
    LD_ASSERT(with && without);
    a.op.fp16_accumulate = true;
    const uint32_t signature = signature_of(&a.op);
    run_into(&a.op, bytes, with);
    a.op.fp16_accumulate = false;
    run_into(&a.op, bytes, without);
    hc_expect((memcmp(with, without, bytes) != 0) == matters, "bits");
    hc_expect(signature != 0 && (signature != signature_of(&a.op)) == matters, "signatures");
    free(with);
    free(without);
    attention_discard(&a, false);
}

static void option_is_passed_over_where_it_says_nothing(void)
{
    static const int32_t widths[] = {40, 64, 80, 160};
    for (int i = 0; i < 4; i++)
        option_matters(
            "fp16",
            (struct attention_case){.variant = NARROW, .dtype = LDK_F16, .head_dim = widths[i]},
            true);
    option_matters(
        "bf16", (struct attention_case){.variant = TALL, .dtype = LDK_BF16, .head_dim = 40}, false);
    option_matters("causal",
                   (struct attention_case){
                       .variant = NARROW, .dtype = LDK_F16, .head_dim = 64, .causal = true},
                   false);
    option_matters("plain",
                   (struct attention_case){.variant = PLAIN, .dtype = LDK_F16, .head_dim = 40},
                   false);
    option_matters(
        "wide", (struct attention_case){.variant = WIDE, .dtype = LDK_F16, .head_dim = 256}, false);
}

/* ---- The backend's option ----------------------------------------------------------------------- */

/* The operator through a backend with or without the option; its signature. */
static uint32_t run_backend(const struct ldk_attention *a, bool option, size_t bytes, void *out)
{
    struct ld_error err = {0};
    struct ld_backend *backend = NULL;
    const struct ld_cuda_options options = {.dtype =
                                                a->dtype == LDK_BF16 ? LD_DTYPE_BF16 : LD_DTYPE_F16,
                                            .threads = 1,
                                            .fp16_accumulate = option};
    const struct ld_attention op = {.q = a->q,
                                    .k = a->k,
                                    .v = a->v,
                                    .o = a->o,
                                    .batch = a->batch,
                                    .q_rows = a->q_rows,
                                    .kv_rows = a->kv_rows,
                                    .q_stride = a->q_stride,
                                    .k_stride = a->k_stride,
                                    .v_stride = a->v_stride,
                                    .o_stride = a->o_stride,
                                    .heads = a->heads,
                                    .head_dim = a->head_dim,
                                    .scale = a->scale};
    hc_seed(0);
    if (!hc_expect(ld_cuda_backend_create(&backend, &options, &err) == LD_OK, "%s", err.detail))
        return 0;
    hc_expect(backend->ops->attention(backend, &op, &err) == LD_OK &&
                  backend->ops->synchronize(backend, &err) == LD_OK,
              "%s", err.detail);
    hc_download(out, a->o, bytes);
    const uint32_t signature = backend->ops->signature(backend, LD_WORKSPACE_ATTENTION, &op);
    backend->ops->destroy(backend);
    return signature;
}

/* It reaches the launcher, of fp16 alone, and a picture's signature tells. */
static void backend_hands_the_option_on(int32_t dtype)
{
    const struct attention_case c = {"backend",  AUTO,           dtype,
                                     .batch = 2, .q_rows = 20,   .kv_rows = 70,
                                     .heads = 1, .head_dim = 40, .spread = 2};
    hc_case("the backend's option, type %d", (int)dtype);
    struct attention_data a = attention_make(&c, 601);
    const size_t bytes = a.o_count * 2;
    unsigned char *want = calloc(1, bytes), *got = calloc(1, bytes);
    uint32_t signatures[2];
    LD_ASSERT(want && got);
    for (int option = 0; option < 2; option++) {
        a.op.fp16_accumulate = option == 1;
        run_into(&a.op, bytes, want);
        signatures[option] = run_backend(&a.op, option == 1, bytes, got);
        hc_equal_bits(option ? "with" : "without", want, got, bytes);
    }
    hc_expect(signatures[0] != 0 && (signatures[0] != signatures[1]) == (dtype == LDK_F16),
              "signatures 0x%x and 0x%x", signatures[0], signatures[1]);
    free(want);
    free(got);
    attention_discard(&a, false);
}

/* ---- Overflow ---------------------------------------------------------------------------------- */

enum { ROWS = 20, KEYS = 70, DIM = 40 };

/* What one row of q has at 0, 16 and 32, each of another product; one key has 1000 there. */
struct overflow {
    const char *name;
    float q[3];
    bool seen;
};

static const struct overflow overflows[] = {
    {"within", {500, 0, 0}, false}, /* 500 * 1000 / 8 is 62500 */
    {"above", {600, 0, 0}, true},   /* infinity */
    {"below", {0, -600, 0}, true},  /* the key counts for nothing either way, but nobody knows */
    {"comes back", {-600, 400, 400}, true}, /* the key counts for all */
    {"in the tail", {400, 400, -600}, true},
    {"both ways", {600, -600, 0}, true},
};

static void attend(struct attention_data *a, float *o)
{
    hc_seed(0);
    hc_expect(ldk_attention(&a->op, NULL) == LDK_OK, "launch");
    hc_values(o, a->op.o, ROWS * DIM, LDK_F16);
}

static bool all_finite(const float *row)
{
    for (int d = 0; d < DIM; d++)
        if (!isfinite(row[d]))
            return false;
    return true;
}

/* Row `row`, which overflows at one key, is NaN from end to end, and no other row notices. */
static void overflow_is_seen(const struct overflow *o, int32_t variant, int32_t row, int32_t key)
{
    const struct attention_case c = {"overflow", variant,         F16,
                                     .batch = 1, .q_rows = ROWS,  .kv_rows = KEYS,
                                     .heads = 1, .head_dim = DIM, .spread = 1};
    float before[ROWS * DIM], after[ROWS * DIM], wide[ROWS * DIM];
    hc_case("overflow: %s, variant %d, row %d, key %d", o->name, (int)variant, (int)row, (int)key);
    struct attention_data a = attention_make(&c, 501);
    for (int i = 0; i < 3; i++) {
        for (int r = 0; r < ROWS; r++)
            a.q[r * DIM + i * 16] = 0;
        a.k[key * DIM + i * 16] = 1000;
    }
    a.op.q = hc_tensor(a.q, ROWS * DIM, LDK_F16);
    a.op.k = hc_tensor(a.k, KEYS * DIM, LDK_F16);
    attend(&a, before);
    for (int i = 0; i < 3; i++)
        a.q[row * DIM + i * 16] = o->q[i];
    a.op.q = hc_tensor(a.q, ROWS * DIM, LDK_F16);
    attend(&a, after);
    a.op.fp16_accumulate = false;
    attend(&a, wide);
    int nan = 0;
    for (int d = 0; d < DIM; d++)
        nan += isnan(after[row * DIM + d]);
    hc_expect(nan == (o->seen ? DIM : 0), "%d of %d values are NaN", nan, DIM);
    hc_expect(all_finite(wide + row * DIM), "sums in float32 hold it");
    for (int r = 0; r < ROWS; r++)
        if (r != row)
            hc_equal_bits("another row", before + r * DIM, after + r * DIM, DIM * sizeof *after);
    attention_discard(&a, false);
}

int main(void)
{
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        attention_check(&cases[i], 200 + 10 * i);
    attention_check_heights(40, true);
    attention_check_heights(80, true);
    attention_check_heights(160, true);
    spread_scores_stay_close();
    option_is_passed_over_where_it_says_nothing();
    backend_hands_the_option_on(LDK_F16);
    backend_hands_the_option_on(LDK_BF16);
    for (size_t i = 0; i < sizeof overflows / sizeof overflows[0]; i++)
        for (int32_t variant = NARROW; variant <= HIGH; variant++) {
            overflow_is_seen(&overflows[i], variant, 13, 5);
            overflow_is_seen(&overflows[i], variant, 16 + variant, KEYS - 1); /* the masked step */
        }
    return hc_report();
}
