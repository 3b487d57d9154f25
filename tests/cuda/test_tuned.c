/*
 * Proves that the tuner measures real kernels, keeps what it decided across processes, and that
 * what it chooses for different batch sizes gives one image the same bits, and what it finds in
 * idle times the bits of the default. Runs the same on a chip, where the clock means something and
 * the libraries may join.
 */
#include "kernels/cuda/pack.h"
#include "kernels/cuda/tuned.h"
#include "kernels/cuda/tuned_bench.h"
#include "kernels/cuda/tuned_operands.h"
#include "tests/cuda/hostcuda.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SIDE = 4, C = 32, N = 64, TAPS = 9, BATCH_MAX = 5, POSITIONS = SIDE * SIDE };

static void packed_weight(struct ldk_weight *out, enum ldk_dtype dtype)
{
    static float matrix[N * C * TAPS];
    static float bias[N];
    struct ldk_pack pack;
    hc_normal(matrix, N * C * TAPS, 0.06F, 1);
    hc_normal(bias, N, 0.5F, 2);
    const struct ld_weight_desc desc = {.kind = LD_WEIGHT_CONV,
                                        .rows = N,
                                        .k = C,
                                        .kernel = 3,
                                        .part_count = 1,
                                        .parts = {{.data = matrix, .dtype = LD_DTYPE_F32}},
                                        .bias = {{.data = bias, .dtype = LD_DTYPE_F32}}};
    ldk_pack_plan(&pack, &desc, dtype, false);
    unsigned char *data = malloc(pack.data_bytes);
    float *packed_bias = malloc(pack.bias_bytes);
    float *line = malloc(pack.line * sizeof *line);
    if (!data || !packed_bias || !line)
        exit(2);
    ldk_pack_rows(&pack, &desc, 0, pack.rows_padded, line, data);
    ldk_pack_bias(&pack, &desc, packed_bias);
    *out = ldk_pack_weight(&pack, hc_upload(data, pack.data_bytes), NULL,
                           hc_upload(packed_bias, pack.bias_bytes));
    free(line);
    free(packed_bias);
    free(data);
}

static struct ldk_conv conv_of(int32_t batch, const struct ldk_weight *w, const void *x)
{
    return (struct ldk_conv){.x0 = x,
                             .c0 = C,
                             .batch = batch,
                             .in_h = SIDE,
                             .in_w = SIDE,
                             .out_h = SIDE,
                             .out_w = SIDE,
                             .stride = 1,
                             .pad_before = 1,
                             .w = *w,
                             .dtype = w->dtype,
                             .variant = LDK_VARIANT_AUTO};
}

/* The output of a chosen variant on the host; `out` has room for the batch. */
static void run(struct ldk_tuner *tuner, struct ldk_conv *conv, uint16_t *out)
{
    const size_t bytes = (size_t)conv->batch * POSITIONS * N * sizeof *out;
    conv->y = hc_device(bytes);
    const size_t scratch = conv->variant < LDK_VARIANT_LIBRARY ? ldk_conv_workspace(conv) : 0;
    conv->workspace = scratch ? hc_device(scratch) : NULL;
    (void)hc_expect(ldk_tuned_conv2d(tuner, conv, NULL) == LDK_OK, "the chosen variant runs");
    hc_download(out, conv->y, bytes);
}

static struct ldk_tuner *create(const char *folder, bool measure)
{
    struct ldk_tuner *tuner = NULL;
    struct ld_error err = {0};
    const struct ldk_tuner_options options = {
        .folder = folder, .measure = measure, .libraries = true};
    if (ldk_tuner_create(&tuner, &options, &err) != LD_OK) {
        (void)fprintf(stderr, "test_tuned: %s\n", err.detail);
        exit(2);
    }
    return tuner;
}

static void remove_folder(const char *folder)
{
    DIR *dir = opendir(folder);
    for (struct dirent *entry; dir && (entry = readdir(dir)) != NULL;) {
        if (strncmp(entry->d_name, "tune-", 5) == 0 || strncmp(entry->d_name, "idle-", 5) == 0)
            (void)unlinkat(dirfd(dir), entry->d_name, 0);
    }
    if (dir)
        (void)closedir(dir);
    (void)hc_expect(rmdir(folder) == 0, "nothing but the tuning file was left");
}

/* ---- Attention ------------------------------------------------------------------------------- */

enum { HEADS = 1, DIM = 40, WIDTH = HEADS * DIM, ROWS = 16 };

static struct ldk_attention attention_of(int32_t batch, const uint16_t *qkv)
{
    return (struct ldk_attention){.q = qkv,
                                  .k = qkv + WIDTH,
                                  .v = qkv + 2 * WIDTH,
                                  .batch = batch,
                                  .q_rows = ROWS,
                                  .kv_rows = ROWS,
                                  .q_stride = 3 * WIDTH,
                                  .k_stride = 3 * WIDTH,
                                  .v_stride = 3 * WIDTH,
                                  .o_stride = WIDTH,
                                  .heads = HEADS,
                                  .head_dim = DIM,
                                  .scale = 0.158F,
                                  .dtype = LDK_F16,
                                  .variant = LDK_VARIANT_AUTO};
}

static void attend(struct ldk_attention *a, uint16_t *out)
{
    const size_t bytes = (size_t)a->batch * ROWS * WIDTH * sizeof *out;
    a->o = hc_device(bytes);
    (void)hc_expect(ldk_attention(a, NULL) == LDK_OK, "the chosen variant runs");
    hc_download(out, a->o, bytes);
}

static void test_attention(const char *folder)
{
    static float qkv[3 * ROWS * 3 * WIDTH];
    static uint16_t two_out[2 * ROWS * WIDTH];
    static uint16_t three_out[3 * ROWS * WIDTH];
    hc_case("attention");
    hc_normal(qkv, sizeof qkv / sizeof qkv[0], 1, 4);
    const uint16_t *device = hc_tensor(qkv, sizeof qkv / sizeof qkv[0], LDK_F16);
    struct ldk_attention two = attention_of(2, device);
    struct ldk_attention three = attention_of(3, device);
    struct ldk_tuner *tuner = create(folder, true);
    ldk_tuner_attention(NULL, &two, true);
    (void)hc_expect(two.variant == LDK_VARIANT_AUTO, "without a tuner the default stays");
    ldk_tuner_attention(tuner, &two, true);
    ldk_tuner_attention(tuner, &three, false); /* takes what the reference batch got */
    (void)hc_expect(three.variant == two.variant, "another batch falls back on the class's choice");
    const struct ldk_tune_choice *choice = ldk_tuner_attention_choice(tuner, &two);
    if (hc_expect(choice != NULL, "a choice was made")) {
        (void)hc_expect(choice->ms > 0 && strncmp(choice->candidate, "own:mma-", 8) == 0,
                        "one of the fast kernels, not '%s'", choice->candidate);
        (void)hc_expect(two.variant > LDK_VARIANT_PLAIN, "and has a number");
    }
    const uint32_t signature = choice ? choice->signature : 0; /* `choice` goes with the next one */
    struct ldk_attention f16 = two;
    f16.fp16_accumulate = true;
    (void)hc_expect(ldk_tuner_attention_choice(tuner, &f16) == NULL,
                    "fp16 scores are another class");
    ldk_tuner_attention(tuner, &f16, true);
    const struct ldk_tune_choice *other = ldk_tuner_attention_choice(tuner, &f16);
    (void)hc_expect(other && other->signature != signature, "of another signature");
    attend(&two, two_out);
    attend(&three, three_out);
    (void)hc_equal_bits("two images of three", two_out, three_out, sizeof two_out);
    struct ldk_attention odd = two; /* off by one element: only the plain kernel takes that */
    odd.q = device + 1;
    odd.variant = LDK_VARIANT_AUTO;
    ldk_tuner_attention(tuner, &odd, true);
    (void)hc_expect(odd.variant == LDK_VARIANT_AUTO, "unaligned operands keep the default");
    ldk_tuner_destroy(tuner);
    hc_free_all();
}

/* ---- Idle times ------------------------------------------------------------------------------ */

/* A file of its own kind is there. */
static bool has_file(const char *folder, const char *prefix)
{
    DIR *dir = opendir(folder);
    bool found = false;
    for (struct dirent *entry; dir && (entry = readdir(dir)) != NULL;)
        found = found || strncmp(entry->d_name, prefix, strlen(prefix)) == 0;
    if (dir)
        (void)closedir(dir);
    return found;
}

static struct ldk_tuner *create_idle(const char *folder)
{
    struct ldk_tuner *tuner = NULL;
    struct ld_error err = {0};
    const struct ldk_tuner_options options = {.folder = folder, .idle = true};
    if (ldk_tuner_create(&tuner, &options, &err) != LD_OK) {
        (void)fprintf(stderr, "test_tuned: %s\n", err.detail);
        exit(2);
    }
    return tuner;
}

/* Where moments are wanted a run is timed with what is left to the norm: their sum, or a reading of
 * what a kernel without moments has written. */
static void test_norm(const struct ldk_weight *w, const void *dx)
{
    static const int32_t numbers[] = {LDK_VARIANT_AUTO, LDK_VARIANT_PLAIN};
    struct ldk_work work = {.unit = {.op = LDK_TUNE_CONV,
                                     .dtype = LDK_F16,
                                     .epilogue = LDK_TUNE_MOMENTS,
                                     .batch = 2,
                                     .m = POSITIONS,
                                     .n = N,
                                     .k = C * TAPS},
                            .conv = conv_of(2, w, dx)};
    const struct ldk_tune_bench bench = ldk_work_bench(&work);
    hc_case("a norm behind it");
    for (int i = 0; i < 2; i++) {
        const struct ldk_tune_candidate candidate = {.number = numbers[i]};
        struct ldk_conv conv = work.conv;
        double ms = -1;
        conv.variant = numbers[i];
        (void)hc_expect((ldk_conv_tiles(&conv) > 0) == (i == 0), "variant %d and its moments",
                        numbers[i]);
        (void)hc_expect(bench.run(bench.ctx, &work.unit, &candidate, &ms) == LDK_OK && ms >= 0,
                        "it runs");
    }
    ldk_work_deinit(&work);
}

static void test_idle(const struct ldk_weight *w, const void *dx)
{
    static uint16_t before[2 * POSITIONS * N];
    static uint16_t after[2 * POSITIONS * N];
    char folder[] = "/tmp/test_tuned.XXXXXX";
    struct ldk_weight gone = *w; /* as of a model that was let go meanwhile */
    hc_case(w->dtype == LDK_BF16 ? "idle times, bf16" : "idle times");
    if (!mkdtemp(folder))
        exit(2);
    struct ldk_tuner *tuner = create_idle(folder);
    struct ldk_conv conv = conv_of(2, w, dx);
    gone.data = NULL;
    gone.bias = NULL;
    struct ldk_conv noted = conv_of(2, &gone, NULL);
    (void)hc_expect(!ldk_tuner_idle(NULL) && !ldk_tuner_idle(tuner), "nothing waits at first");
    ldk_tuner_conv(tuner, &noted, false, true);
    (void)hc_expect(noted.variant == LDK_VARIANT_AUTO && !has_file(folder, "idle-"),
                    "the default runs at once");
    run(tuner, &conv, before);
    const uint32_t signature = ldk_conv_signature(&conv);
    const int32_t number = ldk_conv_number(&conv);
    (void)hc_expect(!ldk_tuner_idle(tuner), "one shape waited");
    (void)hc_expect(has_file(folder, "idle-") && !has_file(folder, "tune-"),
                    "it is kept apart from what was ordered");
    ldk_tuner_conv(tuner, &conv, false, false);
    const struct ldk_tune_choice *choice = ldk_tuner_latest(tuner);
    if (hc_expect(choice != NULL, "a choice was made"))
        (void)hc_expect(choice->ms > 0 && choice->runner_up[0], "by measuring it against another");
    (void)hc_expect(conv.variant > LDK_VARIANT_PLAIN && ldk_conv_signature(&conv) == signature,
                    "variant %d adds in the default's order", conv.variant);
    (void)hc_expect(ldk_tuner_lost(tuner) == (conv.variant != number),
                    "recordings go if it is another variant");
    run(tuner, &conv, after);
    (void)hc_equal_bits("a picture before and after", before, after, sizeof before);
    ldk_tuner_destroy(tuner);

    tuner = create_idle(folder);
    noted.variant = LDK_VARIANT_AUTO;
    ldk_tuner_conv(tuner, &noted, false, true);
    (void)hc_expect(noted.variant == conv.variant && !ldk_tuner_idle(tuner),
                    "another process knows it");
    ldk_tuner_destroy(tuner);
    remove_folder(folder);
}

/* Of attention: blocks of all heights have the same bits, with fp16 scores other ones. */
static void test_idle_attention(bool fp16_accumulate)
{
    static float qkv[2 * ROWS * 3 * WIDTH];
    static uint16_t before[2 * ROWS * WIDTH];
    static uint16_t after[2 * ROWS * WIDTH];
    char folder[] = "/tmp/test_tuned.XXXXXX";
    hc_case("idle times, attention%s", fp16_accumulate ? " with fp16 scores" : "");
    if (!mkdtemp(folder))
        exit(2);
    hc_normal(qkv, sizeof qkv / sizeof qkv[0], 1, 5);
    const uint16_t *device = hc_tensor(qkv, sizeof qkv / sizeof qkv[0], LDK_F16);
    struct ldk_tuner *tuner = create_idle(folder);
    struct ldk_attention a = attention_of(2, device);
    a.fp16_accumulate = fp16_accumulate;
    const int32_t number = ldk_attention_number(&a);
    ldk_tuner_attention(tuner, &a, true);
    (void)hc_expect(a.variant == LDK_VARIANT_AUTO, "the default runs at once");
    attend(&a, before);
    (void)hc_expect(!ldk_tuner_idle(tuner), "one shape waited");
    ldk_tuner_attention(tuner, &a, false);
    const struct ldk_tune_choice *choice = ldk_tuner_latest(tuner);
    if (hc_expect(choice != NULL, "a choice was made"))
        (void)hc_expect(choice->ms > 0 && strncmp(choice->candidate, "own:mma-", 8) == 0 &&
                            choice->runner_up[0],
                        "'%s', measured against another", choice->candidate);
    (void)hc_expect(ldk_tuner_lost(tuner) == (a.variant != number),
                    "recordings go if it is another variant");
    attend(&a, after);
    (void)hc_equal_bits("before and after", before, after, sizeof before);
    ldk_tuner_destroy(tuner);

    const int32_t variant = a.variant;
    tuner = create_idle(folder);
    a.variant = LDK_VARIANT_AUTO;
    ldk_tuner_attention(tuner, &a, true);
    (void)hc_expect(a.variant == variant && !ldk_tuner_idle(tuner), "another process knows it");
    ldk_tuner_destroy(tuner);
    remove_folder(folder);
    hc_free_all();
}

int main(void)
{
    static uint16_t small[2 * POSITIONS * N];
    static uint16_t large[BATCH_MAX * POSITIONS * N];
    static float x[BATCH_MAX * POSITIONS * C];
    char folder[] = "/tmp/test_tuned.XXXXXX";
    struct ldk_weight w;
    if (!mkdtemp(folder))
        return 2;
    hc_case("tuner");
    packed_weight(&w, LDK_F16);
    hc_normal(x, sizeof x / sizeof x[0], 1, 3);
    const void *dx = hc_tensor(x, sizeof x / sizeof x[0], LDK_F16);
    struct ldk_conv two = conv_of(2, &w, dx);
    struct ldk_conv five = conv_of(BATCH_MAX, &w, dx);

    ldk_tuner_conv(NULL, &two, false, true);
    (void)hc_expect(two.variant == LDK_VARIANT_AUTO, "without a tuner the default stays");

    struct ldk_tuner *tuner = create(folder, true);
    (void)hc_expect(ldk_tuner_conv_choice(tuner, &two, false) == NULL, "nothing is known at first");
    ldk_tuner_conv(tuner, &two, false, false);
    (void)hc_expect(two.variant == LDK_VARIANT_AUTO, "nothing is measured where it may not be");
    /* The large batch is asked first: the signature must still be the reference batch's. */
    ldk_tuner_conv(tuner, &five, false, true);
    ldk_tuner_conv(tuner, &two, false, true);
    const struct ldk_tune_choice *choice = ldk_tuner_conv_choice(tuner, &two, false);
    if (hc_expect(choice != NULL, "a choice was made")) {
        (void)hc_expect(choice->ms > 0 && choice->runner_up[0], "it was timed against another");
        (void)hc_expect(two.variant != LDK_VARIANT_AUTO, "and has a number");
    }
    run(tuner, &two, small);
    run(tuner, &five, large);
    (void)hc_equal_bits("two images of a batch of five", small, large, sizeof small);
    const int32_t variant = two.variant;
    ldk_tuner_destroy(tuner);

    hc_case("another process");
    tuner = create(folder, false);
    two.variant = LDK_VARIANT_AUTO;
    ldk_tuner_conv(tuner, &two, false, true);
    (void)hc_expect(two.variant == variant, "the file tells variant %d again, not %d", variant,
                    two.variant);
    struct ldk_conv other = two;
    other.residual = dx;
    ldk_tuner_conv(tuner, &other, false, true);
    (void)hc_expect(other.variant == LDK_VARIANT_AUTO, "what it does not know gets the default");
    ldk_tuner_destroy(tuner);
    test_norm(&w, dx);
    test_idle(&w, dx);
    packed_weight(&w, LDK_BF16);
    test_idle(&w, hc_tensor(x, sizeof x / sizeof x[0], LDK_BF16));
    hc_free_all();
    test_idle_attention(false);
    test_idle_attention(true);
    test_attention(folder);
    remove_folder(folder);
    return hc_report();
}
