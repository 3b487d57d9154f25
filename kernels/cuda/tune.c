#include "kernels/cuda/tune.h"

#include "kernels/cuda/tile_model.h"
#include "kernels/cuda/tune_cache.h"
#include "kernels/idx.h"
#include "runtime/base/bytes.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Sizes that the scheduler fills batches up to (kernels.md 10). */
static const int32_t batch_buckets[] = {1, 2, 4, 8, 16, 32};
enum { BUCKETS = sizeof batch_buckets / sizeof batch_buckets[0] };

/* ---- Keys ------------------------------------------------------------------------------------ */

void ldk_tune_key(const struct ldk_tune_unit *unit, bool with_batch, char out[LDK_TUNE_KEY_SIZE])
{
    static const char *const ops[LDK_TUNE_OP_COUNT] = {"conv", "linear", "attention"};
    static const char *const types[] = {"f16", "bf16", "f32"};
    int used = snprintf(out, LDK_TUNE_KEY_SIZE, "%s sm%d %s e%x %dx%dx%d", ops[unit->op],
                        unit->arch, types[unit->dtype], unit->epilogue, unit->m, unit->n, unit->k);
    for (int d = 0; d < LDK_TUNE_DIMS && used < LDK_TUNE_KEY_SIZE; d++)
        used += snprintf(out + used, (size_t)(LDK_TUNE_KEY_SIZE - used), "%c%d", d ? ',' : ' ',
                         unit->dims[d]);
    if (with_batch && used < LDK_TUNE_KEY_SIZE)
        used += snprintf(out + used, (size_t)(LDK_TUNE_KEY_SIZE - used), " b%d", unit->batch);
    LD_ASSERT(used < LDK_TUNE_KEY_SIZE);
}

/* ---- The model ------------------------------------------------------------------------------- */

double ldk_tune_model(const struct ldk_tune_unit *unit, const struct ldk_tune_device *device,
                      const struct ldk_tune_candidate *candidate)
{
    const struct ldk_tile_cut cut = {
        .m = candidate->tile_m, .n = candidate->tile_n, .splits = candidate->splits};
    if (cut.m < 1 || cut.n < 1)
        return 0;
    const int64_t tiles =
        (int64_t)unit->batch * ld_idx_ceil_div(unit->m, cut.m) * ld_idx_ceil_div(unit->n, cut.n);
    return ldk_tile_clocks(tiles, unit->k, cut, device->sm_count);
}

uint32_t ldk_tune_filter(const struct ldk_tune_unit *unit, const struct ldk_tune_device *device,
                         struct ldk_tune_candidate *candidates, uint32_t count)
{
    struct ldk_tune_candidate kept[LDK_TUNE_TIMED_MAX];
    double cost[LDK_TUNE_TIMED_MAX];
    uint32_t libraries = 0;
    for (uint32_t i = 0; i < count; i++)
        libraries += candidates[i].family != LDK_TUNE_OWN;
    if (libraries > LDK_TUNE_LIBRARY_MAX)
        libraries = LDK_TUNE_LIBRARY_MAX;
    /* Insertion into a sorted list of bounded length; equal costs keep their order. */
    const uint32_t places = LDK_TUNE_TIMED_MAX - libraries;
    uint32_t own = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (candidates[i].family != LDK_TUNE_OWN || candidates[i].shared_bytes > device->shared_max)
            continue;
        const double model = ldk_tune_model(unit, device, &candidates[i]);
        const double clocks = model > 0 ? model : (double)INFINITY; /* unknown: behind the others */
        uint32_t at = own;
        while (at > 0 && cost[at - 1] > clocks)
            at--;
        if (at == places)
            continue;
        own += own < places;
        for (uint32_t j = own - 1; j > at; j--) {
            kept[j] = kept[j - 1];
            cost[j] = cost[j - 1];
        }
        kept[at] = candidates[i];
        cost[at] = clocks;
    }
    uint32_t left = own;
    for (uint32_t i = 0; i < count && left < own + libraries; i++) {
        if (candidates[i].family != LDK_TUNE_OWN)
            kept[left++] = candidates[i];
    }
    if (left > 0)
        memcpy(candidates, kept, left * sizeof *kept);
    return left;
}

/* ---- Deciding -------------------------------------------------------------------------------- */

static void say(const struct ldk_tune_bench *bench, const struct ldk_tune_unit *unit,
                const struct ldk_tune_candidate *candidate, const char *why, int code)
{
    char key[LDK_TUNE_KEY_SIZE];
    char text[2 * LDK_TUNE_KEY_SIZE];
    if (!bench->log)
        return;
    ldk_tune_key(unit, true, key);
    /* A sentence that does not fit is cut; ld_fmt says so, and nobody minds. */
    (void)ld_fmt(text, sizeof text, "%s is not used for %s: %s (code %d)", candidate->name, key,
                 why, code);
    bench->log(bench->ctx, text);
}

/* Does the candidate run and agree with the reference? */
static bool is_right(const struct ldk_tune_unit *unit, const struct ldk_tune_bench *bench,
                     const struct ldk_tune_candidate *candidate)
{
    bool equal = false;
    const int code = bench->check(bench->ctx, unit, candidate, &equal);
    if (code != 0)
        say(bench, unit, candidate, "it failed", code);
    else if (!equal)
        say(bench, unit, candidate, "it differs from the kernel that judges", 0);
    return code == 0 && equal;
}

/* Equal bits of one image at every batch bucket. */
static bool keeps_bits(const struct ldk_tune_unit *unit, const struct ldk_tune_bench *bench,
                       const struct ldk_tune_candidate *candidate)
{
    uint64_t first = 0;
    for (int b = 0; b < BUCKETS; b++) {
        struct ldk_tune_unit at = *unit;
        uint64_t hash = 0;
        at.batch = batch_buckets[b];
        const int code = bench->bits(bench->ctx, &at, candidate, &hash);
        if (code != 0 || (b > 0 && hash != first)) {
            say(bench, &at, candidate, code ? "it failed" : "its bits depend on the batch", code);
            return false;
        }
        first = hash;
    }
    return true;
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a;
    const double y = *(const double *)b;
    return (x > y) - (x < y);
}

/* `best`: the shortest median so far, 0 if there is none. Who has not come near it once warm cannot
 * win any more, and its other runs are not waited for. */
static bool median_ms(const struct ldk_tune_unit *unit, const struct ldk_tune_bench *bench,
                      const struct ldk_tune_candidate *candidate, double best, double *out)
{
    double ms[LDK_TUNE_RUNS];
    double shortest = (double)INFINITY;
    for (int r = -LDK_TUNE_WARM_UPS; r < LDK_TUNE_RUNS; r++) {
        double one = 0;
        const int code = bench->run(bench->ctx, unit, candidate, &one);
        if (code != 0 || !(one >= 0)) {
            say(bench, unit, candidate, "a timed run failed", code);
            return false;
        }
        if (r >= 0)
            ms[r] = one;
        shortest = one < shortest ? one : shortest;
        if (r == 0 && best > 0 && shortest > LDK_TUNE_HOPELESS * best)
            return false;
    }
    qsort(ms, LDK_TUNE_RUNS, sizeof ms[0], ascending);
    *out = (ms[LDK_TUNE_RUNS / 2 - 1] + ms[LDK_TUNE_RUNS / 2]) / 2;
    return true;
}

static void copy_name(char out[LDK_TUNE_NAME_SIZE], const char *name)
{
    LD_ASSERT(ld_fmt(out, LDK_TUNE_NAME_SIZE, "%s", name));
}

/* The new time takes its place among the best two. */
static void rank(struct ldk_tune_choice *choice, bool *any,
                 const struct ldk_tune_candidate *candidate, double ms)
{
    if (!*any || ms < choice->ms) {
        if (*any) {
            copy_name(choice->runner_up, choice->candidate);
            choice->runner_up_ms = choice->ms;
        }
        copy_name(choice->candidate, candidate->name);
        choice->signature = candidate->signature;
        choice->ms = ms;
        *any = true;
    } else if (!choice->runner_up[0] || ms < choice->runner_up_ms) {
        copy_name(choice->runner_up, candidate->name);
        choice->runner_up_ms = ms;
    }
}

bool ldk_tune_decide(const struct ldk_tune_unit *unit, const struct ldk_tune_device *device,
                     const struct ldk_tune_bench *bench, uint32_t signature, bool deterministic,
                     struct ldk_tune_choice *choice)
{
    struct ldk_tune_candidate all[LDK_TUNE_CANDIDATES_MAX];
    uint32_t count = bench->candidates(bench->ctx, unit, all, LDK_TUNE_CANDIDATES_MAX);
    uint32_t fitting = 0;
    bool any = false;
    LD_ASSERT(count <= LDK_TUNE_CANDIDATES_MAX);
    memset(choice, 0, sizeof *choice);
    for (uint32_t i = 0; i < count; i++) {
        if (signature == 0 || all[i].signature == signature)
            all[fitting++] = all[i];
    }
    count = ldk_tune_filter(unit, device, all, fitting);
    for (uint32_t i = 0; i < count; i++) {
        double ms;
        /* Under a given signature the question of bits was answered when the class was decided. */
        const bool ask_bits = deterministic && signature == 0 && all[i].family != LDK_TUNE_OWN;
        if (!is_right(unit, bench, &all[i]) ||
            !median_ms(unit, bench, &all[i], any ? choice->ms : 0, &ms))
            continue;
        /* The question is dear, a library makes a plan for every batch: only who would win is
         * asked. */
        if (ask_bits && (!any || ms < choice->ms) && !keeps_bits(unit, bench, &all[i]))
            continue;
        rank(choice, &any, &all[i], ms);
    }
    return any;
}

/* ---- Remembering ----------------------------------------------------------------------------- */

const struct ldk_tune_choice *ldk_tune_lookup(const struct ldk_tune_cache *cache,
                                              const struct ldk_tune_unit *unit, bool deterministic)
{
    char key[LDK_TUNE_KEY_SIZE];
    uint32_t signature;
    ldk_tune_key(unit, true, key);
    const struct ldk_tune_choice *choice = ldk_tune_cache_choice(cache, key);
    if (!choice || !deterministic)
        return choice;
    ldk_tune_key(unit, false, key);
    const bool agreed =
        ldk_tune_cache_signature(cache, key, &signature) && signature == choice->signature;
    return agreed ? choice : NULL;
}

const struct ldk_tune_choice *ldk_tune_fallback(const struct ldk_tune_cache *cache,
                                                const struct ldk_tune_unit *unit,
                                                bool deterministic)
{
    struct ldk_tune_unit reference = *unit;
    reference.batch = LDK_TUNE_REFERENCE_BATCH;
    return deterministic ? ldk_tune_lookup(cache, &reference, true) : NULL;
}

static enum ld_code no_candidate(const struct ldk_tune_unit *unit, struct ld_error *err)
{
    char key[LDK_TUNE_KEY_SIZE];
    ldk_tune_key(unit, true, key);
    return LD_FAIL(err, LD_E_NOT_FOUND, "no kernel but the default can be chosen for %s", key);
}

/* Decide, then keep under the unit's key. */
static enum ld_code decide_and_keep(struct ldk_tune_cache *cache, const struct ldk_tune_unit *unit,
                                    const struct ldk_tune_device *device,
                                    const struct ldk_tune_bench *bench, uint32_t signature,
                                    bool deterministic, struct ldk_tune_choice *choice,
                                    struct ld_error *err)
{
    char key[LDK_TUNE_KEY_SIZE];
    if (!ldk_tune_decide(unit, device, bench, signature, deterministic, choice))
        return no_candidate(unit, err);
    ldk_tune_key(unit, true, key);
    return ldk_tune_cache_put_choice(cache, key, choice, err);
}

enum ld_code ldk_tune(struct ldk_tune_cache *cache, const struct ldk_tune_unit *unit,
                      const struct ldk_tune_device *device, const struct ldk_tune_bench *bench,
                      bool deterministic, struct ldk_tune_choice *choice, struct ld_error *err)
{
    char class_key[LDK_TUNE_KEY_SIZE];
    uint32_t signature = 0;
    if (!deterministic)
        return decide_and_keep(cache, unit, device, bench, 0, false, choice, err);
    ldk_tune_key(unit, false, class_key);
    if (!ldk_tune_cache_signature(cache, class_key, &signature)) {
        struct ldk_tune_unit reference = *unit;
        reference.batch = LDK_TUNE_REFERENCE_BATCH;
        enum ld_code code = decide_and_keep(cache, &reference, device, bench, 0, true, choice, err);
        if (code == LD_OK) {
            signature = choice->signature;
            code = ldk_tune_cache_put_signature(cache, class_key, signature, err);
        }
        if (code != LD_OK || unit->batch == LDK_TUNE_REFERENCE_BATCH)
            return code;
    }
    return decide_and_keep(cache, unit, device, bench, signature, true, choice, err);
}
