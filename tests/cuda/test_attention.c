/*
 * Proves that every attention kernel computes the softmax average of its contract: against float64
 * from the rounded inputs, for all exact widths, odd sizes, both types, key counts per image,
 * causal calls and wide heads in chunks; that keys beyond kv_len are never looked at; that an
 * image's bits depend neither on its batch nor on the block's height; and that the counted copies,
 * matrix products and bank conflicts are those of the tile walk.
 */
#include "runtime/base/arena.h"
#include "tests/cuda/attention_fixture.h"

#include <stdlib.h>

static const struct attention_case cases[] = {
    {"cross 77 keys", NARROW, LDK_F16, 2, 70, 77, 2, 40, {77, 13}, false, false, 1, 0, 0, false},
    {"self, growing", TALL, LDK_F16, 1, 130, 130, 1, 40, {0}, false, true, 2, 0.3f, 0, false},
    {"whole steps only", NARROW, LDK_BF16, 1, 64, 128, 1, 40, {0}, false, false, 1, 0, 0, false},
    {"two prompts", TALL, LDK_BF16, 3, 5, 231, 1, 40, {77, 231, 154}, false, false, 1, 0, 8, false},
    {"clip", NARROW, LDK_F16, 2, 77, 77, 2, 64, {0}, true, true, 1, 0, 0, false},
    {"clip, short", NARROW, LDK_BF16, 2, 130, 130, 1, 64, {130, 70}, true, false, 3, 0, 0, false},
    {"d 64", TALL, LDK_BF16, 1, 33, 200, 1, 64, {0}, false, false, 1, 0, 0, false},
    {"d 64, growing", NARROW, LDK_F16, 1, 17, 190, 1, 64, {0}, false, false, 1, 0.2f, 0, false},
    {"d 80", NARROW, LDK_F16, 1, 65, 154, 1, 80, {0}, false, false, 4, 0, 16, false},
    {"d 80 tall", TALL, LDK_F16, 1, 129, 65, 1, 80, {0}, false, true, 1, 0, 0, false},
    {"high, growing", HIGH, LDK_F16, 1, 195, 130, 1, 40, {0}, false, true, 2, 0.3f, 0, false},
    {"high, prompts", HIGH, LDK_BF16, 2, 21, 154, 2, 40, {77, 154}, false, false, 1, 0, 8, false},
    {"d 80 high", HIGH, LDK_BF16, 1, 258, 141, 1, 80, {0}, false, true, 2, 0, 0, false},
    {"d 160", NARROW, LDK_F16, 1, 61, 61, 2, 160, {0}, false, true, 1, 0, 0, false},
    {"d 160 tall", TALL, LDK_BF16, 1, 130, 77, 1, 160, {77}, false, false, 1, 0, 0, false},
    {"tiny, causal", AUTO, LDK_F16, 3, 9, 40, 2, 16, {40, 3, 33}, true, false, 1, 0, 0, false},
    {"odd width and strides", AUTO, LDK_BF16, 1, 7, 70, 3, 33, {0}, false, true, 3, 0, 3, false},
    {"one key, one channel", AUTO, LDK_F16, 1, 1, 1, 1, 1, {0}, false, false, 1, 0, 0, false},
    {"plain, 200 wide", AUTO, LDK_F16, 2, 3, 33, 1, 200, {0}, false, false, 1, 0, 0, false},
    {"plain where mma runs", PLAIN, LDK_F16, 1, 6, 77, 1, 40, {0}, false, true, 1, 0, 0, false},
    {"vae", WIDE, LDK_F16, 1, 70, 130, 1, 512, {0}, false, true, 1, 0, 0, false},
    {"wide, 2 heads", WIDE, LDK_BF16, 2, 65, 100, 2, 256, {100, 31}, false, false, 2, 0, 8, false},
};

/* More query rows than a chunk of the workspace holds. */
static void wide_rows_in_two_chunks(void)
{
    const struct attention_case c = {"chunks", WIDE,  LDK_F16, 1, 4098, 5, 1,    256,
                                     {0},      false, false,   1, 0,    0, false};
    hc_case("wide, two chunks");
    struct attention_data a = attention_make(&c, 81);
    const size_t count = a.o_count;
    float *got = calloc(count, sizeof *got);
    double *want = calloc(count, sizeof *want);
    LD_ASSERT(got && want);
    hc_seed(0);
    if (hc_expect(ldk_attention(&a.op, NULL) == LDK_OK, "launch")) {
        hc_values(got, a.op.o, count, LDK_F16);
        attention_reference(&c, &a, want);
        hc_close("o", got, want, count, 2e-3);
    }
    free(got);
    free(want);
    attention_discard(&a, false);
}

static void what_cannot_run_says_so(void)
{
    hc_case("attention: refusals");
    struct attention_case c = cases[0];
    struct attention_data a = attention_make(&c, 91);
    struct ldk_attention op = a.op;
    op.head_dim = 39;
    hc_expect(ldk_attention(&op, NULL) == LDK_E_UNSUPPORTED, "mma of width 39");
    op = a.op;
    op.causal = true;
    hc_expect(ldk_attention(&op, NULL) == LDK_E_UNSUPPORTED, "causal of width 40");
    op = a.op;
    op.q = (const unsigned char *)op.q + 2;
    hc_expect(ldk_attention(&op, NULL) == LDK_E_UNSUPPORTED, "a slice at 2 bytes");
    op = a.op;
    op.variant = WIDE;
    hc_expect(ldk_attention(&op, NULL) == LDK_E_UNSUPPORTED, "wide of width 40");
    op = a.op;
    op.o_stride = c.heads * c.head_dim - 1;
    hc_expect(ldk_attention(&op, NULL) == LDK_E_INVALID, "rows that overlap");
    op = a.op;
    op.scale = 0.0f;
    hc_expect(ldk_attention(&op, NULL) == LDK_E_INVALID, "no scale");
    attention_discard(&a, false);
}

int main(void)
{
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        attention_check(&cases[i], 100 + 10 * i);
    attention_check_heights(40, false);
    attention_check_heights(80, false);
    attention_check_heights(160, false);
    wide_rows_in_two_chunks();
    what_cannot_run_says_so();
    return hc_report();
}
