/*
 * Proves that the tuner chooses the fastest candidate that is right, and that what a picture's bits
 * depend on never follows the batch size. The device is a table: a false clock, planted failures.
 */
#include "kernels/cuda/tune.h"
#include "kernels/cuda/tune_cache.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* ---- A false device -------------------------------------------------------------------------- */

struct fake_candidate {
    struct ldk_tune_candidate candidate;
    double ms;       /* at batch 2; other batches scale */
    double ms_large; /* from batch 8 on, 0: as ms */
    bool fails, differs, bits_follow_batch, fails_late;
};

struct fake {
    struct fake_candidate list[LDK_TUNE_CANDIDATES_MAX];
    uint32_t count;
    uint32_t checks, runs, bits, logs;
    uint32_t runs_of[LDK_TUNE_CANDIDATES_MAX];
    int32_t batches[16]; /* batch of every check, in order */
};

static const struct ldk_tune_device device = {90, 132, 227 << 10};

static struct fake_candidate *find(struct fake *fake, const struct ldk_tune_candidate *candidate)
{
    uint32_t i = 0;
    while (i < fake->count && strcmp(fake->list[i].candidate.name, candidate->name) != 0)
        i++;
    if (i == fake->count)
        fail_msg("an unknown candidate was asked about");
    return &fake->list[i];
}

static uint32_t fake_candidates(void *ctx, const struct ldk_tune_unit *unit,
                                struct ldk_tune_candidate *out, uint32_t capacity)
{
    const struct fake *fake = ctx;
    (void)unit;
    assert_true(fake->count <= capacity);
    for (uint32_t i = 0; i < fake->count; i++)
        out[i] = fake->list[i].candidate;
    return fake->count;
}

static int fake_check(void *ctx, const struct ldk_tune_unit *unit,
                      const struct ldk_tune_candidate *candidate, bool *equal)
{
    struct fake *fake = ctx;
    const struct fake_candidate *one = find(fake, candidate);
    if (fake->checks < 16)
        fake->batches[fake->checks] = unit->batch;
    fake->checks++;
    *equal = !one->differs;
    return one->fails ? 700 : 0;
}

static int fake_run(void *ctx, const struct ldk_tune_unit *unit,
                    const struct ldk_tune_candidate *candidate, double *ms)
{
    struct fake *fake = ctx;
    struct fake_candidate *one = find(fake, candidate);
    const uint32_t run = fake->runs_of[one - fake->list]++;
    fake->runs++;
    const double base = unit->batch >= 8 && one->ms_large > 0 ? one->ms_large : one->ms;
    /* One run in five is disturbed; a mean would be fooled, a median is not. The first three are
     * slow because nothing is warm. */
    *ms = base * (double)unit->batch * (run < LDK_TUNE_WARM_UPS ? 50 : run % 5 == 0 ? 9 : 1);
    return one->fails_late && run == 10 ? 719 : 0;
}

static int fake_bits(void *ctx, const struct ldk_tune_unit *unit,
                     const struct ldk_tune_candidate *candidate, uint64_t *hash)
{
    struct fake *fake = ctx;
    const struct fake_candidate *one = find(fake, candidate);
    fake->bits++;
    *hash = one->bits_follow_batch && unit->batch >= 16 ? 2 : 1;
    return 0;
}

static void fake_log(void *ctx, const char *sentence)
{
    struct fake *fake = ctx;
    assert_non_null(strstr(sentence, "is not used for"));
    fake->logs++;
}

static struct ldk_tune_bench bench_of(struct fake *fake)
{
    return (struct ldk_tune_bench){fake,     fake_candidates, fake_check,
                                   fake_run, fake_bits,       fake_log};
}

static struct fake_candidate *add(struct fake *fake, const char *name, uint32_t signature,
                                  double ms)
{
    struct fake_candidate *one = &fake->list[fake->count++];
    memset(one, 0, sizeof *one);
    (void)snprintf(one->candidate.name, sizeof one->candidate.name, "%s", name);
    one->candidate.family = strncmp(name, "cublaslt:", 9) == 0 ? LDK_TUNE_CUBLASLT
                            : strncmp(name, "cudnn:", 6) == 0  ? LDK_TUNE_CUDNN
                                                               : LDK_TUNE_OWN;
    one->candidate.signature = signature;
    if (one->candidate.family == LDK_TUNE_OWN) {
        one->candidate.tile_m = 128;
        one->candidate.tile_n = 128;
        one->candidate.shared_bytes = 72 << 10;
    }
    one->ms = ms;
    return one;
}

static const struct ldk_tune_unit conv = {
    .op = LDK_TUNE_CONV,
    .arch = 90,
    .epilogue = LDK_TUNE_ROW_ADD | LDK_TUNE_MOMENTS,
    .batch = 2,
    .m = 16384,
    .n = 320,
    .k = 2880,
    .dims = {128, 128, 320, 0, 3, 1},
};

/* ---- Deciding -------------------------------------------------------------------------------- */

static void the_fastest_median_wins_and_the_next_is_named(void **state)
{
    (void)state;
    struct fake fake = {0};
    struct ldk_tune_choice choice;
    (void)add(&fake, "own:a", 1, 3);
    (void)add(&fake, "own:b", 1, 1);
    (void)add(&fake, "own:c", 1, 2);
    const struct ldk_tune_bench bench = bench_of(&fake);
    assert_true(ldk_tune_decide(&conv, &device, &bench, 0, true, &choice));
    assert_string_equal(choice.candidate, "own:b");
    assert_string_equal(choice.runner_up, "own:c");
    assert_true(choice.ms > 1.99 && choice.ms < 2.01);
    assert_true(choice.runner_up_ms > 3.99 && choice.runner_up_ms < 4.01);
    assert_int_equal(fake.checks, 3);
    assert_int_equal(fake.runs, 3 * (LDK_TUNE_WARM_UPS + LDK_TUNE_RUNS));
    assert_int_equal(fake.bits, 0);
    assert_int_equal(fake.logs, 0);
}

static void what_fails_or_differs_is_removed_and_logged(void **state)
{
    (void)state;
    struct fake fake = {0};
    struct ldk_tune_choice choice;
    add(&fake, "own:fails", 1, 1)->fails = true;
    add(&fake, "own:differs", 1, 1)->differs = true;
    add(&fake, "own:fails-late", 1, 1)->fails_late = true;
    (void)add(&fake, "own:slow", 1, 5);
    const struct ldk_tune_bench bench = bench_of(&fake);
    assert_true(ldk_tune_decide(&conv, &device, &bench, 0, true, &choice));
    assert_string_equal(choice.candidate, "own:slow");
    assert_string_equal(choice.runner_up, "");
    assert_int_equal(fake.logs, 3);
    assert_int_equal(fake.runs_of[0] + fake.runs_of[1], 0); /* what is wrong is never timed */

    fake.list[2].fails = fake.list[3].fails = true;
    assert_false(ldk_tune_decide(&conv, &device, &bench, 0, true, &choice));
}

static void who_is_far_behind_is_not_timed_to_the_end(void **state)
{
    (void)state;
    struct fake fake = {0};
    struct ldk_tune_choice choice;
    (void)add(&fake, "own:good", 1, 1);
    (void)add(&fake, "own:near", 1, 3.9);
    (void)add(&fake, "own:far", 1, 4.1);
    struct fake_candidate *unknown = add(&fake, "own:unknown", 1, 0.5);
    unknown->candidate.tile_m = unknown->candidate.tile_n = 0;
    const struct ldk_tune_bench bench = bench_of(&fake);
    assert_true(ldk_tune_decide(&conv, &device, &bench, 0, true, &choice));
    assert_string_equal(choice.candidate, "own:unknown");
    assert_string_equal(choice.runner_up, "own:good");
    assert_int_equal(fake.runs_of[1], LDK_TUNE_WARM_UPS + LDK_TUNE_RUNS);
    assert_int_equal(fake.runs_of[2], LDK_TUNE_WARM_UPS + 1);
    assert_int_equal(fake.logs, 0); /* nothing is wrong with it */
}

static void a_library_must_keep_its_bits_in_deterministic_mode_only(void **state)
{
    (void)state;
    struct fake fake = {0};
    struct ldk_tune_choice choice;
    add(&fake, "cublaslt:7", 0x70, 1)->bits_follow_batch = true;
    (void)add(&fake, "cudnn:3", 0x71, 2);
    (void)add(&fake, "own:a", 1, 3);
    const struct ldk_tune_bench bench = bench_of(&fake);
    assert_true(ldk_tune_decide(&conv, &device, &bench, 0, true, &choice));
    assert_string_equal(choice.candidate, "cudnn:3");
    assert_string_equal(choice.runner_up, "own:a");
    assert_int_equal(fake.logs, 1);
    assert_true(ldk_tune_decide(&conv, &device, &bench, 0, false, &choice));
    assert_string_equal(choice.candidate, "cublaslt:7");
}

/* The answer takes a library a plan for every batch. */
static void only_who_would_win_is_asked_whether_it_keeps_its_bits(void **state)
{
    (void)state;
    enum { BATCHES = 6 };
    struct fake fake = {0};
    struct ldk_tune_choice choice;
    (void)add(&fake, "own:a", 1, 2);
    add(&fake, "cudnn:7,24=21", 0x70, 3)->bits_follow_batch = true;
    (void)add(&fake, "cudnn:7,24=22", 0x71, 1);
    const struct ldk_tune_bench bench = bench_of(&fake);
    assert_true(ldk_tune_decide(&conv, &device, &bench, 0, true, &choice));
    assert_string_equal(choice.candidate, "cudnn:7,24=22");
    assert_int_equal(fake.bits, BATCHES);
    assert_int_equal(fake.logs, 0);
}

/* ---- The filter ------------------------------------------------------------------------------ */

static void what_does_not_fit_the_chip_is_never_run(void **state)
{
    (void)state;
    struct fake fake = {0};
    struct ldk_tune_choice choice;
    const struct ldk_tune_device small = {86, 68, 99 << 10};
    add(&fake, "own:big", 1, 1)->candidate.shared_bytes = (99 << 10) + 1;
    add(&fake, "own:just", 1, 2)->candidate.shared_bytes = 99 << 10;
    const struct ldk_tune_bench bench = bench_of(&fake);
    assert_true(ldk_tune_decide(&conv, &small, &bench, 0, true, &choice));
    assert_string_equal(choice.candidate, "own:just");
    assert_int_equal(fake.checks, 1);
}

static void at_most_twelve_are_left_and_libraries_keep_four_places(void **state)
{
    (void)state;
    struct ldk_tune_candidate list[40];
    memset(list, 0, sizeof list);
    for (int i = 0; i < 40; i++) {
        (void)snprintf(list[i].name, sizeof list[i].name, "%s:%d", i < 30 ? "own" : "cublaslt", i);
        list[i].family = i < 30 ? LDK_TUNE_OWN : LDK_TUNE_CUBLASLT;
        list[i].tile_m = i < 30 ? 16 + 8 * (30 - i) : 0; /* the best come last */
        list[i].tile_n = i < 30 ? 64 : 0;
    }
    const uint32_t left = ldk_tune_filter(&conv, &device, list, 40);
    assert_int_equal(left, LDK_TUNE_TIMED_MAX);
    for (uint32_t i = 0; i < 8; i++)
        assert_int_equal(list[i].family, LDK_TUNE_OWN);
    assert_string_equal(list[8].name, "cublaslt:30");
    assert_string_equal(list[11].name, "cublaslt:33");
    for (uint32_t i = 1; i < 8; i++)
        assert_true(ldk_tune_model(&conv, &device, &list[i - 1]) <=
                    ldk_tune_model(&conv, &device, &list[i]));
}

static void few_candidates_are_all_kept_in_their_order(void **state)
{
    (void)state;
    struct ldk_tune_candidate list[3];
    memset(list, 0, sizeof list);
    for (int i = 0; i < 3; i++) {
        (void)snprintf(list[i].name, sizeof list[i].name, "own:%d", i);
        list[i].tile_m = list[i].tile_n = 128;
    }
    assert_int_equal(ldk_tune_filter(&conv, &device, list, 3), 3);
    assert_string_equal(list[0].name, "own:0");
    assert_string_equal(list[2].name, "own:2");
    assert_int_equal(ldk_tune_filter(&conv, &device, list, 0), 0);
}

/* kernels.md 5.2, 1024x1024 with two rows: 128x160 fills the waves of level 0 better than 128x128,
 * and a 64-row tile is no better than either. */
static void the_model_ranks_tiles_as_the_table_of_the_design_does(void **state)
{
    (void)state;
    const struct ldk_tune_candidate square = {.tile_m = 128, .tile_n = 128};
    const struct ldk_tune_candidate wide = {.tile_m = 128, .tile_n = 160};
    const struct ldk_tune_candidate small = {.tile_m = 64, .tile_n = 64};
    const double at_wide = ldk_tune_model(&conv, &device, &wide);
    assert_true(at_wide < ldk_tune_model(&conv, &device, &square));
    assert_true(at_wide < ldk_tune_model(&conv, &device, &small));
    /* At the deepest level 128x160 leaves most of the chip idle: small tiles win. */
    const struct ldk_tune_unit deep = {
        .op = LDK_TUNE_CONV, .batch = 2, .m = 256, .n = 1280, .k = 11520};
    assert_true(ldk_tune_model(&deep, &device, &small) < ldk_tune_model(&deep, &device, &wide));
}

/* Parts of K fill a chip that has more multiprocessors than there are tiles, and cost where it has
 * not. */
static void the_model_splits_where_tiles_are_few(void **state)
{
    (void)state;
    const struct ldk_tune_candidate whole = {.tile_m = 128, .tile_n = 160, .splits = 1};
    const struct ldk_tune_candidate parts = {.tile_m = 128, .tile_n = 160, .splits = 4};
    const struct ldk_tune_unit deep = {
        .op = LDK_TUNE_CONV, .batch = 2, .m = 256, .n = 1280, .k = 11520};
    const double few = ldk_tune_model(&deep, &device, &parts);
    assert_true(few < 0.5 * ldk_tune_model(&deep, &device, &whole));
    assert_true(few > 0.25 * ldk_tune_model(&deep, &device, &whole));
    assert_true(ldk_tune_model(&conv, &device, &whole) < ldk_tune_model(&conv, &device, &parts));
}

/* Twice the rows and columns for once the traffic of each: half the bytes a product. */
static void the_model_knows_the_l2_cache(void **state)
{
    (void)state;
    const struct ldk_tune_candidate small = {.tile_m = 64, .tile_n = 64};
    const struct ldk_tune_candidate large = {.tile_m = 128, .tile_n = 128};
    const struct ldk_tune_unit unit = {
        .op = LDK_TUNE_CONV, .batch = 132, .m = 1024, .n = 1280, .k = 1 << 20};
    const double ratio =
        ldk_tune_model(&unit, &device, &small) / ldk_tune_model(&unit, &device, &large);
    assert_true(ratio > 1.99 && ratio < 2.01);
}

/* ---- Signatures ------------------------------------------------------------------------------ */

/* Signature 1 wins at the reference batch, signature 2 would win at large ones. */
static void two_signatures(struct fake *fake)
{
    (void)add(fake, "own:one-small", 1, 1);
    add(fake, "own:one-large", 1, 1.5)->ms_large = 0.9;
    add(fake, "own:two", 2, 2)->ms_large = 0.1;
    fake->list[0].ms_large = 3;
}

static void the_signature_never_follows_the_batch(void **state)
{
    (void)state;
    /* Whatever batch comes first, the same signature is chosen and the tile follows the batch. */
    for (int order = 0; order < 2; order++) {
        struct fake fake = {0};
        struct ldk_tune_cache cache = {0};
        struct ldk_tune_choice choice;
        struct ld_error err = {0};
        two_signatures(&fake);
        const struct ldk_tune_bench bench = bench_of(&fake);
        for (int i = 0; i < 2; i++) {
            struct ldk_tune_unit unit = conv;
            unit.batch = i == order ? 2 : 16;
            assert_int_equal(ldk_tune(&cache, &unit, &device, &bench, true, &choice, &err), LD_OK);
            assert_int_equal(choice.signature, 1);
            assert_string_equal(choice.candidate,
                                unit.batch == 2 ? "own:one-small" : "own:one-large");
            const struct ldk_tune_choice *known = ldk_tune_lookup(&cache, &unit, true);
            assert_non_null(known);
            assert_string_equal(known->candidate, choice.candidate);
        }
        assert_int_equal(fake.batches[0], LDK_TUNE_REFERENCE_BATCH);
        ldk_tune_cache_deinit(&cache);
    }
}

static void a_batch_nobody_measured_takes_what_the_reference_batch_got(void **state)
{
    (void)state;
    struct fake fake = {0};
    struct ldk_tune_cache cache = {0};
    struct ldk_tune_choice choice;
    struct ld_error err = {0};
    struct ldk_tune_unit unit = conv;
    two_signatures(&fake);
    const struct ldk_tune_bench bench = bench_of(&fake);
    unit.batch = 16;
    assert_null(ldk_tune_fallback(&cache, &unit, true));
    assert_int_equal(ldk_tune(&cache, &conv, &device, &bench, true, &choice, &err), LD_OK);
    assert_null(ldk_tune_lookup(&cache, &unit, true));
    const struct ldk_tune_choice *fallback = ldk_tune_fallback(&cache, &unit, true);
    assert_non_null(fallback);
    assert_string_equal(fallback->candidate, "own:one-small");
    assert_int_equal(fallback->signature, 1);
    assert_null(ldk_tune_fallback(&cache, &unit, false));
    ldk_tune_cache_deinit(&cache);
}

static void without_determinism_every_batch_takes_its_fastest(void **state)
{
    (void)state;
    struct fake fake = {0};
    struct ldk_tune_cache cache = {0};
    struct ldk_tune_choice choice;
    struct ld_error err = {0};
    struct ldk_tune_unit unit = conv;
    two_signatures(&fake);
    const struct ldk_tune_bench bench = bench_of(&fake);
    unit.batch = 16;
    assert_int_equal(ldk_tune(&cache, &unit, &device, &bench, false, &choice, &err), LD_OK);
    assert_string_equal(choice.candidate, "own:two");
    /* What was chosen freely is no answer for who wants equal bits. */
    assert_null(ldk_tune_lookup(&cache, &unit, true));
    assert_non_null(ldk_tune_lookup(&cache, &unit, false));
    ldk_tune_cache_deinit(&cache);
}

static void a_class_without_a_right_candidate_stays_undecided(void **state)
{
    (void)state;
    struct fake fake = {0};
    struct ldk_tune_cache cache = {0};
    struct ldk_tune_choice choice;
    struct ld_error err = {0};
    add(&fake, "own:a", 1, 1)->differs = true;
    const struct ldk_tune_bench bench = bench_of(&fake);
    assert_int_equal(ldk_tune(&cache, &conv, &device, &bench, true, &choice, &err), LD_E_NOT_FOUND);
    assert_null(ldk_tune_lookup(&cache, &conv, true));
    assert_int_equal(cache.entry_count + cache.class_count, 0);
    ldk_tune_cache_deinit(&cache);
}

static void keys_tell_shapes_apart_and_classes_together(void **state)
{
    (void)state;
    char a[LDK_TUNE_KEY_SIZE];
    char b[LDK_TUNE_KEY_SIZE];
    struct ldk_tune_unit other = conv;
    other.batch = 8;
    ldk_tune_key(&conv, false, a);
    ldk_tune_key(&other, false, b);
    assert_string_equal(a, b);
    ldk_tune_key(&conv, true, a);
    ldk_tune_key(&other, true, b);
    assert_string_not_equal(a, b);
    /* Every member must show. */
    struct ldk_tune_unit changed[6] = {conv, conv, conv, conv, conv, conv};
    changed[0].op = LDK_TUNE_LINEAR;
    changed[1].arch = 80;
    changed[2].dtype = LDK_BF16;
    changed[3].epilogue = 0;
    changed[4].n = 640;
    changed[5].dims[LDK_TUNE_DIMS - 1] = 1;
    ldk_tune_key(&conv, false, a);
    for (int i = 0; i < 6; i++) {
        ldk_tune_key(&changed[i], false, b);
        assert_string_not_equal(a, b);
    }
    /* The longest of all fits: the function asserts it. */
    memset(&other, 0, sizeof other);
    other.epilogue = UINT32_MAX;
    other.op = LDK_TUNE_ATTENTION;
    other.arch = other.batch = other.m = other.n = other.k = 1 << 20;
    for (int d = 0; d < LDK_TUNE_DIMS; d++)
        other.dims[d] = 1 << 20;
    ldk_tune_key(&other, true, a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_fastest_median_wins_and_the_next_is_named),
        cmocka_unit_test(what_fails_or_differs_is_removed_and_logged),
        cmocka_unit_test(who_is_far_behind_is_not_timed_to_the_end),
        cmocka_unit_test(a_library_must_keep_its_bits_in_deterministic_mode_only),
        cmocka_unit_test(only_who_would_win_is_asked_whether_it_keeps_its_bits),
        cmocka_unit_test(what_does_not_fit_the_chip_is_never_run),
        cmocka_unit_test(at_most_twelve_are_left_and_libraries_keep_four_places),
        cmocka_unit_test(few_candidates_are_all_kept_in_their_order),
        cmocka_unit_test(the_model_ranks_tiles_as_the_table_of_the_design_does),
        cmocka_unit_test(the_model_splits_where_tiles_are_few),
        cmocka_unit_test(the_model_knows_the_l2_cache),
        cmocka_unit_test(the_signature_never_follows_the_batch),
        cmocka_unit_test(a_batch_nobody_measured_takes_what_the_reference_batch_got),
        cmocka_unit_test(without_determinism_every_batch_takes_its_fastest),
        cmocka_unit_test(a_class_without_a_right_candidate_stays_undecided),
        cmocka_unit_test(keys_tell_shapes_apart_and_classes_together),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
