#include "runtime/model/merge.h"

#include "runtime/base/arena.h"
#include "runtime/base/bytes.h"

#include <math.h>
#include <string.h>

const char *ld_merge_op_name(enum ld_merge_op op)
{
    static const char *const names[LD_MERGE_OP_COUNT] = {
        "weighted_sum", "block_weighted_sum", "add_difference", "ties", "dare",
        "sum_twice",    "cosine_a",           "cosine_b",       "none",
    };
    LD_ASSERT((unsigned)op < LD_MERGE_OP_COUNT);
    return names[op];
}

bool ld_merge_op_find(const char *word, enum ld_merge_op *op)
{
    for (unsigned i = 0; i < LD_MERGE_OP_COUNT; i++) {
        if (strcmp(word, ld_merge_op_name((enum ld_merge_op)i)) == 0) {
            *op = (enum ld_merge_op)i;
            return true;
        }
    }
    return false;
}

bool ld_merge_is_cosine(enum ld_merge_op op)
{
    return op == LD_MERGE_COSINE_A || op == LD_MERGE_COSINE_B;
}

uint32_t ld_merge_models(enum ld_merge_op op)
{
    if (op == LD_MERGE_NONE)
        return 1;
    return op == LD_MERGE_ADD_DIFFERENCE || op == LD_MERGE_TIES || op == LD_MERGE_SUM_TWICE ? 3 : 2;
}

/* ---- Recipe ---------------------------------------------------------------------------------- */

static enum ld_code check_number(double value, double low, double high, const char *what,
                                 struct ld_error *err)
{
    return isfinite(value) && value >= low && value <= high
               ? LD_OK
               : LD_FAIL(err, LD_E_RANGE, "%s must be between %g and %g", what, low, high);
}

enum ld_code ld_merge_check(const struct ld_merge_recipe *recipe, struct ld_error *err)
{
    enum ld_code code = LD_OK;
    if (recipe->op == LD_MERGE_WEIGHTED_SUM || recipe->op == LD_MERGE_ADD_DIFFERENCE ||
        recipe->op == LD_MERGE_SUM_TWICE)
        code = check_number(recipe->alpha, -LD_MERGE_WEIGHT_MAX, LD_MERGE_WEIGHT_MAX, "alpha", err);
    if (code == LD_OK && recipe->op == LD_MERGE_SUM_TWICE)
        code = check_number(recipe->beta, -LD_MERGE_WEIGHT_MAX, LD_MERGE_WEIGHT_MAX, "beta", err);
    if (ld_merge_is_cosine(recipe->op))
        code = check_number(recipe->alpha, -1, 1, "alpha", err);
    if (recipe->op == LD_MERGE_BLOCK_WEIGHTED) {
        code = check_number(recipe->base, -LD_MERGE_WEIGHT_MAX, LD_MERGE_WEIGHT_MAX,
                            "the base weight", err);
        if (code == LD_OK)
            code = check_number(recipe->middle, -LD_MERGE_WEIGHT_MAX, LD_MERGE_WEIGHT_MAX,
                                "a block weight", err);
        for (int i = 0; code == LD_OK && i < LD_MERGE_BLOCKS; i++) {
            code = check_number(recipe->in[i], -LD_MERGE_WEIGHT_MAX, LD_MERGE_WEIGHT_MAX,
                                "a block weight", err);
            if (code == LD_OK)
                code = check_number(recipe->out[i], -LD_MERGE_WEIGHT_MAX, LD_MERGE_WEIGHT_MAX,
                                    "a block weight", err);
        }
    }
    if (recipe->op == LD_MERGE_TIES)
        code = check_number(recipe->density, 0, 1, "density", err);
    if (recipe->op == LD_MERGE_DARE)
        code = check_number(recipe->drop, 0, 0.999, "drop", err);
    if (code == LD_OK && (recipe->op == LD_MERGE_TIES || recipe->op == LD_MERGE_DARE))
        code =
            check_number(recipe->lambda, -LD_MERGE_WEIGHT_MAX, LD_MERGE_WEIGHT_MAX, "lambda", err);
    return code;
}

double *ld_merge_alpha_at(struct ld_merge_recipe *recipe, uint32_t place)
{
    LD_ASSERT(place < LD_MERGE_ALPHAS);
    if (place == 0)
        return &recipe->base;
    if (place <= LD_MERGE_BLOCKS)
        return &recipe->in[place - 1];
    return place == 1 + LD_MERGE_BLOCKS ? &recipe->middle
                                        : &recipe->out[place - 2 - LD_MERGE_BLOCKS];
}

static void alpha_name(uint32_t place, char out[8])
{
    if (place == 0)
        (void)ld_fmt(out, 8, "BASE");
    else if (place <= LD_MERGE_BLOCKS)
        (void)ld_fmt(out, 8, "IN%02u", (place - 1) % 100);
    else if (place == 1 + LD_MERGE_BLOCKS)
        (void)ld_fmt(out, 8, "M00");
    else
        (void)ld_fmt(out, 8, "OUT%02u", (place - 2 - LD_MERGE_BLOCKS) % 100);
}

bool ld_merge_alpha_find(struct ld_span name, uint32_t *place)
{
    char known[8];
    for (*place = 0; *place < LD_MERGE_ALPHAS; ++*place) {
        alpha_name(*place, known);
        if (ld_span_is(name, known))
            return true;
    }
    return false;
}

double ld_merge_block_alpha(const struct ld_merge_recipe *recipe, const char *name)
{
    static const struct {
        const char *prefix;
        int which;
    } kinds[] = {
        {"model.diffusion_model.input_blocks.", 0},
        {"model.diffusion_model.middle_block.", 1},
        {"model.diffusion_model.output_blocks.", 2},
    };
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        const size_t length = strlen(kinds[i].prefix);
        if (strncmp(name, kinds[i].prefix, length) != 0)
            continue;
        if (kinds[i].which == 1)
            return recipe->middle;
        const char *digits = name + length;
        int64_t block;
        if (!ld_parse_i64(ld_span_of(digits, strcspn(digits, ".")), &block) || block < 0 ||
            block >= LD_MERGE_BLOCKS)
            break;
        return kinds[i].which == 0 ? recipe->in[block] : recipe->out[block];
    }
    return recipe->base;
}

/* ---- Sums ------------------------------------------------------------------------------------ */

static void weighted_sum(float *dst, const float *a, const float *b, double alpha, size_t count)
{
    const float of_a = (float)(1 - alpha);
    const float of_b = (float)alpha;
    for (size_t i = 0; i < count; i++)
        dst[i] = of_a * a[i] + of_b * b[i];
}

static void add_difference(float *dst, const float *a, const float *b, const float *c, double alpha,
                           size_t count)
{
    const float factor = (float)alpha;
    for (size_t i = 0; i < count; i++)
        dst[i] = a[i] + factor * (b[i] - c[i]);
}

double ld_merge_cosine(const float *a, const float *b, size_t count)
{
    double dot = 0;
    double aa = 0;
    double bb = 0;
    for (size_t i = 0; i < count; i++) {
        dot += (double)a[i] * (double)b[i];
        aa += (double)a[i] * (double)a[i];
        bb += (double)b[i] * (double)b[i];
    }
    return aa > 0 && bb > 0 ? dot / sqrt(aa * bb) : 0;
}

double ld_merge_cosine_share(const struct ld_merge_recipe *recipe)
{
    const double k = fmin(fmax(recipe->similarity - recipe->alpha, 0), 1);
    return recipe->op == LD_MERGE_COSINE_A ? k : 1 - k;
}

/* ---- TIES ------------------------------------------------------------------------------------ */

static uint32_t magnitude_bits(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits & 0x7FFFFFFF; /* ordered like the magnitudes themselves */
}

/* The magnitude of rank `keep` from above, by counting the bytes of its bits from the top down. */
static uint32_t threshold(const float *values, size_t count, size_t keep)
{
    uint32_t prefix = 0;
    uint32_t mask = 0;
    size_t left = keep;
    for (int shift = 24; shift >= 0; shift -= 8) {
        size_t histogram[256] = {0};
        for (size_t i = 0; i < count; i++) {
            const uint32_t bits = magnitude_bits(values[i]);
            if ((bits & mask) == prefix)
                histogram[bits >> shift & 0xFF]++;
        }
        uint32_t byte = 255;
        while (byte > 0 && histogram[byte] < left)
            left -= histogram[byte--];
        prefix |= byte << shift;
        mask |= 0xFFu << shift;
    }
    return prefix;
}

/* Keep the elements of the largest magnitudes, ties included; zero the rest. */
static void trim(float *delta, size_t count, double density)
{
    const size_t keep = (size_t)llrint(density * (double)count);
    if (keep == 0) {
        memset(delta, 0, count * sizeof *delta);
        return;
    }
    const uint32_t least = threshold(delta, count, keep);
    for (size_t i = 0; i < count; i++) {
        if (magnitude_bits(delta[i]) < least)
            delta[i] = 0;
    }
}

static int sign_of(float value)
{
    return (value > 0) - (value < 0);
}

/* The mean of those that have the sign of the sum. */
static float elect(float a, float b)
{
    const int sign = sign_of(a + b);
    if (sign == 0)
        return 0;
    const bool of_a = sign_of(a) == sign;
    const bool of_b = sign_of(b) == sign;
    const float sum = (of_a ? a : 0) + (of_b ? b : 0);
    return of_a && of_b ? sum / 2 : sum;
}

static enum ld_code ties(float *dst, const struct ld_merge_recipe *recipe, const float *a,
                         const float *b, const float *base, size_t count, struct ld_error *err)
{
    float *of_a = ld_heap_calloc(count, sizeof *of_a);
    float *of_b = ld_heap_calloc(count, sizeof *of_b);
    const bool ready = of_a && of_b;
    if (ready) {
        for (size_t i = 0; i < count; i++) {
            of_a[i] = a[i] - base[i];
            of_b[i] = b[i] - base[i];
        }
        trim(of_a, count, recipe->density);
        trim(of_b, count, recipe->density);
        for (size_t i = 0; i < count; i++)
            dst[i] = base[i] + (float)recipe->lambda * elect(of_a[i], of_b[i]);
    }
    ld_heap_free(of_a);
    ld_heap_free(of_b);
    return ready ? LD_OK : LD_FAIL(err, LD_E_NOMEM, "not enough memory to merge models");
}

/* ---- DARE ------------------------------------------------------------------------------------ */

uint64_t ld_merge_name_hash(const char *prefix, const char *name)
{
    const char *const parts[] = {prefix, name};
    uint64_t hash = 0xCBF29CE484222325u;
    for (size_t k = 0; k < 2; k++) {
        for (const char *p = parts[k]; *p; p++)
            hash = (hash ^ (uint8_t)*p) * 0x100000001B3u;
    }
    return hash;
}

double ld_merge_uniform(uint64_t name_hash, uint64_t index)
{
    uint64_t z = name_hash + (index + 1) * 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    z ^= z >> 31;
    return (double)(z >> 40) / 16777216.0;
}

static void dare(float *dst, const struct ld_merge_recipe *recipe, const char *name, const float *a,
                 const float *b, size_t count)
{
    const uint64_t hash = ld_merge_name_hash("dare:", name);
    const float scale = (float)(recipe->lambda / (1 - recipe->drop));
    for (size_t i = 0; i < count; i++) {
        const bool kept = ld_merge_uniform(hash, i) >= recipe->drop;
        dst[i] = kept ? a[i] + scale * (b[i] - a[i]) : a[i];
    }
}

/* ---- One tensor ------------------------------------------------------------------------------ */

enum ld_code ld_merge_tensor(float *dst, const struct ld_merge_recipe *recipe, const char *name,
                             const float *a, const float *b, const float *c, size_t count,
                             struct ld_error *err)
{
    LD_ASSERT((c || ld_merge_models(recipe->op) < 3) && (b || recipe->op == LD_MERGE_NONE));
    switch (recipe->op) {
    case LD_MERGE_WEIGHTED_SUM:
        weighted_sum(dst, a, b, recipe->alpha, count);
        return LD_OK;
    case LD_MERGE_BLOCK_WEIGHTED:
        weighted_sum(dst, a, b, ld_merge_block_alpha(recipe, name), count);
        return LD_OK;
    case LD_MERGE_ADD_DIFFERENCE:
        add_difference(dst, a, b, c, recipe->alpha, count);
        return LD_OK;
    case LD_MERGE_TIES:
        return ties(dst, recipe, a, b, c, count, err);
    case LD_MERGE_DARE:
        dare(dst, recipe, name, a, b, count);
        return LD_OK;
    case LD_MERGE_SUM_TWICE:
        weighted_sum(dst, a, b, recipe->alpha, count);
        weighted_sum(dst, dst, c, recipe->beta, count);
        return LD_OK;
    case LD_MERGE_COSINE_A:
    case LD_MERGE_COSINE_B:
        weighted_sum(dst, a, b, ld_merge_cosine_share(recipe), count);
        return LD_OK;
    case LD_MERGE_NONE:
        memmove(dst, a, count * sizeof *dst);
        return LD_OK;
    case LD_MERGE_OP_COUNT:
        break;
    }
    return LD_FAIL(err, LD_E_BUG, "unknown merge operation");
}
