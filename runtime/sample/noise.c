#include "runtime/sample/noise.h"

#include "runtime/sample/brownian.h"
#include "runtime/sample/mt19937.h"
#include "runtime/sample/philox.h"
#include "runtime/sample/slerp.h"

#include <string.h>

enum { BATCH_INDEX_MAX = 4096 }; /* ComfyUI's own ceiling of a latent batch */

struct generator {
    enum ld_noise_kind kind;
    struct ld_mt19937 mt;
    struct ld_philox philox;
    bool asked;   /* somebody draws from it */
    float *ahead; /* one image, the next draw where `ready` */
    bool ready;
};

struct ld_noise {
    struct ld_noise_config config;
    struct ld_arena *arena;
    size_t count;               /* of one image */
    float *scratch;             /* one image */
    struct generator ancestral; /* A, in profile a1111 also G */
    struct generator churn;     /* G of profile comfy */
    struct ld_brownian *tree;   /* NULL until the first Brownian draw */
};

/* ---- Generators ------------------------------------------------------------------------------ */

static void generator_seed(struct generator *g, enum ld_noise_kind kind, uint64_t seed)
{
    g->kind = kind;
    g->philox = (struct ld_philox){.seed = seed};
    if (kind == LD_NOISE_CPU)
        ld_mt19937_seed(&g->mt, seed);
}

/* One draw of `total` elements, of which [first, first + count) are wanted. */
static void generator_draw(struct generator *g, float *out, size_t total, size_t first,
                           size_t count)
{
    if (g->kind == LD_NOISE_PHILOX)
        ld_philox_normal(&g->philox, out, first, count);
    else
        ld_mt19937_normal_f32(&g->mt, out, total, first, count);
}

/* Pass over the draw that the initial noise takes. */
static void generator_skip(struct generator *g, size_t total)
{
    if (g->kind == LD_NOISE_PHILOX)
        g->philox.offset++;
    else
        ld_mt19937_normal_f32(&g->mt, NULL, total, 0, 0);
}

/* ---- Configuration --------------------------------------------------------------------------- */

static bool steps_variation_seed(const struct ld_request *request)
{
    return request->profile == LD_PROFILE_A1111 && request->variation_strength != 0.0;
}

uint64_t ld_noise_seed_of(const struct ld_request *request, uint32_t index)
{
    return steps_variation_seed(request) || request->batch_size > 0 ? request->seed
                                                                    : request->seed + index;
}

uint64_t ld_noise_variation_seed_of(const struct ld_request *request, uint32_t index)
{
    return request->variation_seed + (steps_variation_seed(request) ? index : 0);
}

static enum ld_noise_kind kind_named(const char *name, enum ld_noise_kind fallback)
{
    if (name && strcmp(name, "philox") == 0)
        return LD_NOISE_PHILOX;
    if (name && strcmp(name, "cpu") == 0)
        return LD_NOISE_CPU;
    return fallback;
}

struct ld_noise_config ld_noise_config_of(const struct ld_request *request, uint32_t index,
                                          int32_t channels, int32_t height, int32_t width)
{
    const struct ld_request_sampler_options *options = &request->sampler_options;
    const bool a1111 = request->profile == LD_PROFILE_A1111;
    return (struct ld_noise_config){
        .profile = request->profile,
        .initial = request->noise,
        .ancestral = kind_named(options->ancestral_rng, a1111 ? request->noise : LD_NOISE_PHILOX),
        .brownian = kind_named(options->brownian_rng, a1111 ? request->noise : LD_NOISE_CPU),
        .seed = ld_noise_seed_of(request, index),
        .variation_seed = ld_noise_variation_seed_of(request, index),
        .variation_strength = request->variation_strength,
        .ensd = options->ensd,
        .channels = channels,
        .height = height,
        .width = width,
        .batch_count = request->batch_size > 0 ? (uint32_t)request->batch_size : 1,
        .batch_index = request->batch_size > 0 ? (uint32_t)request->batch_index + index : 0,
    };
}

/* Seed stream A and G as the head of noise.h says. */
static void seed_streams(struct ld_noise *noise)
{
    const struct ld_noise_config *c = &noise->config;
    const size_t total = noise->count * c->batch_count;
    const bool a1111 = c->profile == LD_PROFILE_A1111;
    uint64_t seed = c->seed;
    bool skip = false;
    if (c->ensd != 0)
        seed += (uint64_t)c->ensd;
    else if (a1111)
        skip = true;
    else if (c->ancestral == LD_NOISE_CPU)
        seed += 1;
    else
        skip = c->initial == LD_NOISE_PHILOX;
    generator_seed(&noise->ancestral, c->ancestral, seed);
    if (skip)
        generator_skip(&noise->ancestral, total);
    generator_seed(&noise->churn, LD_NOISE_PHILOX, c->seed);
}

enum ld_code ld_noise_create(struct ld_noise **out, struct ld_arena *arena,
                             const struct ld_noise_config *config, struct ld_error *err)
{
    LD_ASSERT(config->channels > 0 && config->height > 0 && config->width > 0);
    if (config->batch_count == 0 || config->batch_index >= config->batch_count)
        return LD_FAIL(err, LD_E_RANGE, "batch index %u is outside a batch of %u",
                       config->batch_index, config->batch_count);
    struct ld_noise *noise = ld_arena_alloc(arena, sizeof *noise);
    if (!noise)
        goto no_memory;
    noise->config = *config;
    noise->arena = arena;
    noise->count = (size_t)config->channels * (size_t)config->height * (size_t)config->width;
    noise->scratch = ld_arena_calloc(arena, noise->count, sizeof(float));
    if (!noise->scratch)
        goto no_memory;
    seed_streams(noise);
    *out = noise;
    return LD_OK;

no_memory:
    return LD_FAIL(err, LD_E_NOMEM, "no memory for the noise of this job");
}

/* ---- Initial noise --------------------------------------------------------------------------- */

static void fresh_draw(const struct ld_noise *noise, uint64_t seed, size_t count, float *out)
{
    const struct ld_noise_config *c = &noise->config;
    struct generator g;
    generator_seed(&g, c->initial, seed);
    generator_draw(&g, out, count * c->batch_count, count * c->batch_index, count);
}

/* Lay `small` centred over `large`; what sticks out is cut. Halves round down, also below zero. */
static void paste_centred(float *large, int32_t height, int32_t width, const float *small,
                          int32_t small_height, int32_t small_width, int32_t channels)
{
    const int32_t dx = (width - small_width) >> 1;
    const int32_t dy = (height - small_height) >> 1;
    const int32_t w = dx >= 0 ? small_width : small_width + 2 * dx;
    const int32_t h = dy >= 0 ? small_height : small_height + 2 * dy;
    const int32_t to_x = dx > 0 ? dx : 0, from_x = dx < 0 ? -dx : 0;
    const int32_t to_y = dy > 0 ? dy : 0, from_y = dy < 0 ? -dy : 0;
    for (int32_t c = 0; c < channels; c++)
        for (int32_t y = 0; y < h; y++)
            for (int32_t x = 0; x < w; x++)
                large[(c * height + to_y + y) * width + to_x + x] =
                    small[(c * small_height + from_y + y) * small_width + from_x + x];
}

/* Draw at (height, width), with the variation blended in. */
static enum ld_code varied_draw(struct ld_noise *noise, int32_t height, int32_t width, float *out,
                                struct ld_error *err)
{
    const struct ld_noise_config *c = &noise->config;
    const size_t count = (size_t)c->channels * (size_t)height * (size_t)width;
    fresh_draw(noise, c->seed, count, out);
    if (c->variation_strength == 0.0)
        return LD_OK;
    float *other = ld_heap_calloc(count, sizeof(float));
    if (!other)
        return LD_FAIL(err, LD_E_NOMEM, "no memory for the noise of this job");
    fresh_draw(noise, c->variation_seed, count, other);
    ld_slerp(out, other, c->variation_strength, c->channels, height, width);
    ld_heap_free(other);
    return LD_OK;
}

enum ld_code ld_noise_initial(struct ld_noise *noise, double *out, size_t count,
                              struct ld_error *err)
{
    const struct ld_noise_config *c = &noise->config;
    if (count != noise->count)
        return LD_FAIL(err, LD_E_SHAPE, "the latent has not the size of its noise");
    float *small = NULL;
    enum ld_code code = LD_OK;
    const int32_t h = c->resize_from_height, w = c->resize_from_width;
    if (h > 0 && w > 0 && (h != c->height || w != c->width)) {
        small = ld_heap_calloc((size_t)c->channels * (size_t)h * (size_t)w, sizeof(float));
        if (!small)
            return LD_FAIL(err, LD_E_NOMEM, "no memory for the noise of this job");
        code = varied_draw(noise, h, w, small, err);
        if (code != LD_OK)
            goto done;
        fresh_draw(noise, c->seed, count, noise->scratch);
        paste_centred(noise->scratch, c->height, c->width, small, h, w, c->channels);
    } else {
        code = varied_draw(noise, c->height, c->width, noise->scratch, err);
        if (code != LD_OK)
            goto done;
    }
    for (size_t i = 0; i < count; i++)
        out[i] = (double)noise->scratch[i];
done:
    ld_heap_free(small);
    return code;
}

/* ---- Streams --------------------------------------------------------------------------------- */

static enum ld_code draw_brownian(struct ld_noise *noise, double from, double to,
                                  struct ld_error *err)
{
    const struct ld_noise_config *c = &noise->config;
    if (!noise->tree) {
        const struct ld_brownian_config tree = {
            .seed = c->seed,
            .sigma_low = c->sigma_low,
            .sigma_high = c->sigma_high,
            .generator = c->brownian,
            .total = noise->count * c->batch_count,
            .first = noise->count * c->batch_index,
            .count = noise->count,
        };
        const enum ld_code code = ld_brownian_create(&noise->tree, noise->arena, &tree, err);
        if (code != LD_OK)
            return code;
    }
    return ld_brownian_draw(noise->tree, from, to, noise->scratch, err);
}

/* One image of this draw of the whole batch. */
static void draw_image(const struct ld_noise *noise, struct generator *g, float *out)
{
    const size_t count = noise->count;
    generator_draw(g, out, count * noise->config.batch_count, count * noise->config.batch_index,
                   count);
}

/* The generator's next tensor, drawn ahead or now; good until the next draw. */
static const float *draw_next(struct ld_noise *noise, struct generator *g)
{
    g->asked = true;
    if (g->ready) {
        g->ready = false;
        return g->ahead;
    }
    draw_image(noise, g, noise->scratch);
    return noise->scratch;
}

static void draw_ahead(struct ld_noise *noise, struct generator *g)
{
    if (!g->asked || g->ready)
        return;
    if (!g->ahead)
        g->ahead = ld_arena_calloc(noise->arena, noise->count, sizeof(float));
    if (!g->ahead)
        return;
    draw_image(noise, g, g->ahead);
    g->ready = true;
}

void ld_noise_ahead(struct ld_noise *noise, double to)
{
    draw_ahead(noise, &noise->ancestral);
    draw_ahead(noise, &noise->churn);
    if (noise->tree && to > 0)
        ld_brownian_ahead(noise->tree, to);
}

static enum ld_code draw(void *state, enum ld_noise_stream stream, double from, double to,
                         double *out, size_t count, struct ld_error *err)
{
    struct ld_noise *noise = state;
    const struct ld_noise_config *c = &noise->config;
    if (count != noise->count)
        return LD_FAIL(err, LD_E_SHAPE, "the latent has not the size of its noise");
    const float *drawn = noise->scratch;
    if (stream == LD_NOISE_BROWNIAN) {
        const enum ld_code code = draw_brownian(noise, from, to, err);
        if (code != LD_OK)
            return code;
    } else {
        const bool own = stream == LD_NOISE_CHURN && c->profile == LD_PROFILE_COMFY;
        drawn = draw_next(noise, own ? &noise->churn : &noise->ancestral);
    }
    for (size_t i = 0; i < count; i++)
        out[i] = (double)drawn[i];
    return LD_OK;
}

struct ld_noise_source ld_noise_source_of(struct ld_noise *noise)
{
    return (struct ld_noise_source){.state = noise, .draw = draw};
}

/* ---- Whole batches --------------------------------------------------------------------------- */

enum ld_code ld_noise_batch(uint64_t seed, uint32_t images, const uint32_t *indices,
                            size_t image_count, float *out, struct ld_error *err)
{
    struct ld_mt19937 mt;
    ld_mt19937_seed(&mt, seed);
    if (!indices) {
        ld_mt19937_normal_f32(&mt, out, images * image_count, 0, images * image_count);
        return LD_OK;
    }
    uint32_t last = 0;
    for (uint32_t i = 0; i < images; i++)
        last = indices[i] > last ? indices[i] : last;
    if (last > BATCH_INDEX_MAX)
        return LD_FAIL(err, LD_E_RANGE, "batch indices must be between 0 and %d", BATCH_INDEX_MAX);
    for (uint32_t drawn = 0; drawn <= last; drawn++) {
        float *first = NULL; /* where this image was drawn to; its other places are copies */
        for (uint32_t i = 0; i < images; i++) {
            if (indices[i] != drawn)
                continue;
            float *place = out + i * image_count;
            if (first)
                memcpy(place, first, image_count * sizeof(float));
            else
                ld_mt19937_normal_f32(&mt, place, image_count, 0, image_count);
            first = first ? first : place;
        }
        if (!first)
            ld_mt19937_normal_f32(&mt, NULL, image_count, 0, 0);
    }
    return LD_OK;
}
