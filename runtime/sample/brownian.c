#include "runtime/sample/brownian.h"

#include "runtime/sample/mt19937.h"
#include "runtime/sample/philox.h"
#include "runtime/sample/seed_sequence.h"

#include <math.h>
#include <string.h>

enum {
    POINTS_KEPT = 3, /* two-evaluation samplers come back to a step's start after its middle */
    DEPTH_MAX = 60   /* the grid of 1e-6 ends any real path before 40 */
};

struct level {
    bool known;
    uint64_t key;
    float *left; /* W over the left half of node (key, depth) */
};

struct point {
    bool known;
    double t;
    uint64_t used; /* clock of the last use, the oldest is replaced */
    float *w;
};

struct ld_brownian {
    struct ld_brownian_config config;
    struct ld_arena *arena;
    double low, high; /* the range on the grid */
    uint64_t clock;
    float *root; /* NULL until the first draw */
    float *whole, *node;
    struct level levels[LD_BROWNIAN_LEVELS_KEPT];
    float *deep; /* `left` of levels that are not kept */
    struct point points[POINTS_KEPT];
};

/*
 * Times live on a grid of 1e-6. The reference rounds the exact decimal value, half to even, so the
 * product's own rounding error takes part in the decision; the quotient of two whole numbers is
 * then the double nearest to that decimal.
 */
static double on_grid(double t)
{
    const double product = t * 1e6;
    const double error = fma(t, 1e6, -product);
    const double whole = floor(product);
    const double above_half = (product - whole - 0.5) + error;
    const bool up = above_half > 0 || (above_half == 0 && fmod(whole, 2.0) != 0);
    return (up ? whole + 1.0 : whole) / 1e6;
}

static bool take(struct ld_brownian *tree, float **tensor)
{
    if (!*tensor)
        *tensor = ld_arena_calloc(tree->arena, tree->config.count, sizeof(float));
    return *tensor != NULL;
}

static void node_normal(const struct ld_brownian *tree, uint32_t seed, float *out)
{
    const struct ld_brownian_config *c = &tree->config;
    if (c->generator == LD_NOISE_PHILOX) {
        struct ld_philox philox = {.seed = seed};
        ld_philox_normal(&philox, out, c->first, c->count);
        return;
    }
    struct ld_mt19937 mt;
    ld_mt19937_seed(&mt, seed);
    ld_mt19937_normal_f32(&mt, out, c->total, c->first, c->count);
}

enum ld_code ld_brownian_create(struct ld_brownian **out, struct ld_arena *arena,
                                const struct ld_brownian_config *config, struct ld_error *err)
{
    if (!(config->sigma_low >= 0) || !(config->sigma_high > config->sigma_low) ||
        !(config->sigma_high < 1e9))
        return LD_FAIL(err, LD_E_RANGE, "sigmas of a Brownian sampler must span a positive range");
    struct ld_brownian *tree = ld_arena_alloc(arena, sizeof *tree);
    if (!tree)
        return LD_FAIL(err, LD_E_NOMEM, "no memory for the noise of this job");
    tree->config = *config;
    tree->arena = arena;
    tree->low = on_grid(config->sigma_low);
    tree->high = on_grid(config->sigma_high);
    *out = tree;
    return LD_OK;
}

static bool prepare(struct ld_brownian *tree)
{
    if (tree->root)
        return true;
    if (!take(tree, &tree->whole) || !take(tree, &tree->node) || !take(tree, &tree->deep) ||
        !take(tree, &tree->root))
        return false;
    uint32_t seed;
    ld_seed_sequence(tree->config.seed, false, 0, 0, &seed, 1);
    node_normal(tree, seed, tree->root);
    const float scale = (float)sqrt(tree->config.sigma_high - tree->config.sigma_low);
    for (size_t i = 0; i < tree->config.count; i++)
        tree->root[i] *= scale;
    return true;
}

/* The Brownian bridge: W over [a, m], given W over [a, b]. */
static void bridge(struct ld_brownian *tree, uint64_t key, uint32_t depth, double a, double m,
                   double b, float *left)
{
    uint32_t seed;
    ld_seed_sequence(tree->config.seed, true, key, depth, &seed, 1);
    node_normal(tree, seed, tree->node);
    const float share = (float)((m - a) / (b - a));
    const float deviation = (float)sqrt((m - a) * (b - m) / (b - a));
    const float *whole = tree->whole;
    const float *node = tree->node;
    for (size_t i = 0; i < tree->config.count; i++)
        left[i] = share * whole[i] + deviation * node[i];
}

/* `left` of a node, from the kept path where it is still the same node. NULL without memory. */
static const float *left_half(struct ld_brownian *tree, uint64_t key, uint32_t depth, double a,
                              double m, double b)
{
    if (depth >= LD_BROWNIAN_LEVELS_KEPT) {
        bridge(tree, key, depth, a, m, b, tree->deep);
        return tree->deep;
    }
    struct level *level = &tree->levels[depth];
    if (level->known && level->key == key)
        return level->left;
    if (!take(tree, &level->left))
        return NULL;
    bridge(tree, key, depth, a, m, b, level->left);
    level->known = true;
    level->key = key;
    return level->left;
}

/* W(t) - W(low) into `out`; t strictly inside the range and on the grid. */
static bool descend(struct ld_brownian *tree, double t, float *out)
{
    const size_t count = tree->config.count;
    double a = tree->low, b = tree->high;
    uint64_t key = 0;
    memcpy(tree->whole, tree->root, count * sizeof(float));
    memset(out, 0, count * sizeof(float));
    for (uint32_t depth = 0; depth < DEPTH_MAX; depth++) {
        const double m = on_grid((a + b) / 2);
        const float *left = left_half(tree, key, depth, a, m, b);
        if (!left)
            return false;
        if (t >= m) {
            for (size_t i = 0; i < count; i++)
                out[i] += left[i];
            if (t == m)
                return true;
            for (size_t i = 0; i < count; i++)
                tree->whole[i] -= left[i];
            a = m;
            key = 2 * key + 1;
        } else {
            memcpy(tree->whole, left, count * sizeof(float));
            b = m;
            key = 2 * key;
        }
    }
    /* a < t < b on a grid of 1e-6 halves away long before this. */
    LD_ASSERT(false);
    return false;
}

/* W(t), kept among the last points. NULL without memory. The result stays good until POINTS_KEPT
 * other points were asked for. */
static const float *value_at(struct ld_brownian *tree, double t)
{
    struct point *oldest = &tree->points[0];
    tree->clock++;
    for (size_t i = 0; i < POINTS_KEPT; i++) {
        struct point *point = &tree->points[i];
        if (point->known && point->t == t) {
            point->used = tree->clock;
            return point->w;
        }
        if (point->used < oldest->used)
            oldest = point;
    }
    if (!prepare(tree) || !take(tree, &oldest->w))
        return NULL;
    oldest->known = false;
    if (t <= tree->low)
        memset(oldest->w, 0, tree->config.count * sizeof(float));
    else if (t >= tree->high)
        memcpy(oldest->w, tree->root, tree->config.count * sizeof(float));
    else if (!descend(tree, t, oldest->w))
        return NULL;
    oldest->known = true;
    oldest->t = t;
    oldest->used = tree->clock;
    return oldest->w;
}

void ld_brownian_ahead(struct ld_brownian *tree, double sigma)
{
    (void)value_at(tree, on_grid(sigma));
}

enum ld_code ld_brownian_increment(struct ld_brownian *tree, double a, double b, float *out,
                                   struct ld_error *err)
{
    const float *from = value_at(tree, on_grid(a));
    const float *to = from ? value_at(tree, on_grid(b)) : NULL;
    if (!to)
        return LD_FAIL(err, LD_E_NOMEM, "no memory for the noise of this job");
    for (size_t i = 0; i < tree->config.count; i++)
        out[i] = to[i] - from[i];
    return LD_OK;
}

enum ld_code ld_brownian_draw(struct ld_brownian *tree, double from, double to, float *zeta,
                              struct ld_error *err)
{
    const double low = from < to ? from : to;
    const double high = from < to ? to : from;
    const enum ld_code code = ld_brownian_increment(tree, low, high, zeta, err);
    if (code != LD_OK || low == high)
        return code; /* no time passed: all zero, and nothing to divide by */
    /* The reference takes this root in single precision. */
    const float root = sqrtf(fabsf((float)to - (float)from));
    const float sign = from < to ? 1.0f : -1.0f;
    for (size_t i = 0; i < tree->config.count; i++)
        zeta[i] = sign * (zeta[i] / root);
    return LD_OK;
}
