#include "runtime/tipo/choice.h"

#include <math.h>
#include <stdlib.h>

/* ---- The draw -------------------------------------------------------------------------------- */

/* Source: Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators", with
 * Stafford's mix 13. */
static uint64_t mix(uint64_t z)
{
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

/* Mixed once for the seed and once for the position, so that neighbours of either are unlike. */
double ld_choice_uniform(uint64_t seed, uint64_t position)
{
    const uint64_t step = UINT64_C(0x9E3779B97F4A7C15);
    const uint64_t bits = mix(mix(seed + step) + step * (position + 1));
    return (double)(bits >> 11) * 0x1p-53;
}

/* ---- Checks ---------------------------------------------------------------------------------- */

static enum ld_code check_range(const char *name, double value, double min, double max,
                                struct ld_error *err)
{
    if (value >= min && value <= max)
        return LD_OK;
    return LD_FAIL(err, LD_E_INVALID, "%s must be between %g and %g", name, min, max);
}

enum ld_code ld_choice_check(const struct ld_token_choice *choice, struct ld_error *err)
{
    enum ld_code code = check_range("temperature", choice->temperature, 0.0, 100.0, err);
    if (code == LD_OK)
        code = check_range("top_p", choice->top_p, 0.0, 1.0, err);
    if (code == LD_OK)
        code = check_range("min_p", choice->min_p, 0.0, 1.0, err);
    if (code == LD_OK)
        code = check_range("repetition_penalty", choice->repetition_penalty, 0.01, 100.0, err);
    return code;
}

/* ---- Candidates ------------------------------------------------------------------------------ */

static bool likelier(const struct ld_candidate *a, const struct ld_candidate *b)
{
    return a->logit > b->logit || (!(a->logit < b->logit) && a->id < b->id);
}

static int likelier_first(const void *a, const void *b)
{
    return likelier(a, b) ? -1 : likelier(b, a) ? 1 : 0;
}

/* All tokens in the order of their ids; `weight` is scratch. */
static enum ld_code gather(struct ld_candidate *candidates, const float *logits, uint32_t count,
                           struct ld_error *err)
{
    bool any = false;
    for (uint32_t i = 0; i < count; i++) {
        const double logit = (double)logits[i];
        if (isnan(logit) || (isinf(logit) && logit > 0.0))
            return LD_FAIL(err, LD_E_NUMERICAL,
                           "the language model computed values that are no numbers");
        any = any || isfinite(logit);
        candidates[i] = (struct ld_candidate){.logit = logit, .weight = 0.0, .id = i};
    }
    return any ? LD_OK
               : LD_FAIL(err, LD_E_NUMERICAL,
                         "the language model computed values that are no numbers");
}

/* Once for each token, however often it came: `weight` marks those that are done. */
static void penalise(struct ld_candidate *candidates, uint32_t vocabulary, double penalty,
                     const uint32_t *tokens, uint32_t token_count)
{
    const uint32_t first = token_count > LD_CHOICE_RECENT ? token_count - LD_CHOICE_RECENT : 0;
    for (uint32_t i = first; i < token_count; i++) {
        if (tokens[i] >= vocabulary || candidates[tokens[i]].weight > 0.0)
            continue;
        struct ld_candidate *candidate = &candidates[tokens[i]];
        candidate->logit =
            candidate->logit > 0.0 ? candidate->logit / penalty : candidate->logit * penalty;
        candidate->weight = 1.0;
    }
}

/* candidates[0..count) becomes a heap again whose root, the least likely, may be out of place. */
static void sink(struct ld_candidate *candidates, uint32_t count, uint32_t root)
{
    for (uint32_t child = 2 * root + 1; child < count; child = 2 * root + 1) {
        if (child + 1 < count && likelier(&candidates[child], &candidates[child + 1]))
            child++;
        if (!likelier(&candidates[root], &candidates[child]))
            return;
        const struct ld_candidate moved = candidates[root];
        candidates[root] = candidates[child];
        candidates[child] = moved;
        root = child;
    }
}

/* The k likeliest, sorted, to the front: a heap of k holds the best seen so far. */
static uint32_t keep_likeliest(struct ld_candidate *candidates, uint32_t count, uint32_t k)
{
    if (k > 0 && k < count) {
        for (uint32_t root = k / 2; root-- > 0;)
            sink(candidates, k, root);
        for (uint32_t i = k; i < count; i++) {
            if (!likelier(&candidates[i], &candidates[0]))
                continue;
            candidates[0] = candidates[i];
            sink(candidates, k, 0);
        }
        count = k;
    }
    qsort(candidates, count, sizeof *candidates, likelier_first);
    return count;
}

/* Weights in proportion to the probabilities at a temperature, the first one's being 1; their sum.
 */
static double weigh(struct ld_candidate *candidates, uint32_t count, double temperature)
{
    double total = 0.0;
    for (uint32_t i = 0; i < count; i++) {
        candidates[i].weight = exp((candidates[i].logit - candidates[0].logit) / temperature);
        total += candidates[i].weight;
    }
    return total;
}

static uint32_t keep_top_p(const struct ld_candidate *candidates, uint32_t count, double total,
                           double top_p)
{
    double sum = 0.0;
    for (uint32_t i = 0; i < count; i++) {
        sum += candidates[i].weight;
        if (sum >= top_p * total)
            return i + 1;
    }
    return count;
}

static uint32_t keep_min_p(const struct ld_candidate *candidates, uint32_t count, double min_p)
{
    uint32_t kept = 1;
    while (kept < count && candidates[kept].weight >= min_p)
        kept++;
    return kept;
}

static uint32_t draw(struct ld_candidate *candidates, uint32_t count, double temperature, double u)
{
    const double wanted = u * weigh(candidates, count, temperature);
    double sum = 0.0;
    uint32_t last = 0; /* with any weight: what rounding leaves beyond the sum is its own */
    for (uint32_t i = 0; i < count; i++) {
        sum += candidates[i].weight;
        if (wanted < sum)
            return candidates[i].id;
        last = candidates[i].weight > 0.0 ? i : last;
    }
    return candidates[last].id;
}

static uint32_t likeliest(const struct ld_candidate *candidates, uint32_t count)
{
    uint32_t best = 0;
    for (uint32_t i = 1; i < count; i++)
        best = likelier(&candidates[i], &candidates[best]) ? i : best;
    return candidates[best].id;
}

enum ld_code ld_choice_next(const struct ld_token_choice *choice, const float *logits,
                            uint32_t vocabulary, const uint32_t *tokens, uint32_t token_count,
                            uint64_t position, struct ld_candidate *candidates, uint32_t *out,
                            struct ld_error *err)
{
    LD_ASSERT(vocabulary > 0 && candidates != NULL && out != NULL);
    const enum ld_code code = gather(candidates, logits, vocabulary, err);
    if (code != LD_OK)
        return code;
    penalise(candidates, vocabulary, choice->repetition_penalty, tokens, token_count);
    if (!(choice->temperature > 0.0)) {
        *out = likeliest(candidates, vocabulary);
        return LD_OK;
    }
    uint32_t count = keep_likeliest(candidates, vocabulary, choice->top_k);
    const double total = weigh(candidates, count, 1.0);
    if (choice->top_p < 1.0)
        count = keep_top_p(candidates, count, total, choice->top_p);
    count = keep_min_p(candidates, count, choice->min_p);
    *out = draw(candidates, count, choice->temperature, ld_choice_uniform(choice->seed, position));
    return LD_OK;
}
