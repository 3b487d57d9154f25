/* rng, resize and deep shrink cases of the sampling folder (formats: its README). */
#include "tests/golden_check/gc_noise.h"

#include "runtime/sample/brownian.h"
#include "runtime/sample/deep_shrink.h"
#include "runtime/sample/mt19937.h"
#include "runtime/sample/noise.h"
#include "runtime/sample/philox.h"
#include "runtime/sample/resize.h"
#include "runtime/sample/seed_sequence.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const double rng_tolerance = 2e-6;      /* README: torch_cpu, philox, image_rng */
static const double brownian_tolerance = 5e-6; /* README */

/* ---- JSON and files -------------------------------------------------------------------------- */

json_t *gc_json_load(struct gc *gc, const char *path)
{
    json_t *json = json_load_file(path, 0, NULL);
    if (!json)
        gc_fail(gc, path, "not readable as JSON");
    return json;
}

double gc_number(const json_t *object, const char *key)
{
    return json_number_value(json_object_get(object, key));
}

uint64_t gc_integer(const json_t *object, const char *key)
{
    return (uint64_t)json_integer_value(json_object_get(object, key));
}

const char *gc_text(const json_t *object, const char *key)
{
    const char *value = json_string_value(json_object_get(object, key));
    return value ? value : "";
}

bool gc_array_load(const struct gc *gc, const char *root, const char *relative,
                   struct gc_array *array)
{
    char path[GC_PATH_SIZE];
    memset(array, 0, sizeof *array);
    return gc_find(gc, root, relative, path, sizeof path) && gc_npy_load(path, array);
}

float *gc_to_f32(const double *values, size_t count)
{
    float *narrow = calloc(count ? count : 1, sizeof *narrow);
    for (size_t i = 0; narrow && i < count; i++)
        narrow[i] = (float)values[i];
    return narrow;
}

double *gc_to_f64(const float *values, size_t count)
{
    double *wide = calloc(count ? count : 1, sizeof *wide);
    for (size_t i = 0; wide && i < count; i++)
        wide[i] = (double)values[i];
    return wide;
}

/* ---- Generators: draws listed in the manifest ------------------------------------------------ */

/* Worst absolute error of a drawn tensor against its listed values; the sum counts as a mean. */
static double draw_error(const json_t *draw, const double *values, size_t count)
{
    const struct {
        const char *key;
        bool from_end;
    } lists[] = {{"all", false}, {"first32", false}, {"last32", true}};
    double worst = gc_integer(draw, "numel") == count ? 0.0 : (double)INFINITY;
    for (size_t l = 0; l < sizeof lists / sizeof lists[0]; l++) {
        const json_t *list = json_object_get(draw, lists[l].key);
        const size_t size = json_array_size(list);
        if (size > count)
            return (double)INFINITY;
        for (size_t i = 0; i < size; i++) {
            const double want = json_number_value(json_array_get(list, i));
            const double have = values[lists[l].from_end ? count - size + i : i];
            worst = fmax(worst, fabs(want - have));
        }
    }
    if (json_object_get(draw, "sum_f64")) {
        double sum = 0;
        for (size_t i = 0; i < count; i++)
            sum += values[i];
        worst = fmax(worst, fabs(sum - gc_number(draw, "sum_f64")) / (double)count);
    }
    return worst;
}

static size_t draw_count(const json_t *draw)
{
    size_t count = 1;
    const json_t *shape = json_object_get(draw, "shape");
    for (size_t i = 0; i < json_array_size(shape); i++)
        count *= (size_t)json_integer_value(json_array_get(shape, i));
    return count;
}

static double torch_draws(const json_t *entry)
{
    struct ld_mt19937 mt;
    ld_mt19937_seed(&mt, gc_integer(entry, "seed"));
    const bool wide = strcmp(gc_text(entry, "dtype"), "float64") == 0;
    double worst = 0;
    size_t i;
    const json_t *draw;
    json_array_foreach(json_object_get(entry, "draws"), i, draw)
    {
        const size_t count = draw_count(draw);
        double *values = calloc(count, sizeof *values);
        float *single = calloc(count, sizeof *single);
        if (wide)
            ld_mt19937_normal_f64(&mt, values, count);
        else
            ld_mt19937_normal_f32(&mt, single, count, 0, count);
        for (size_t e = 0; !wide && e < count; e++)
            values[e] = (double)single[e];
        worst = fmax(worst, draw_error(draw, values, count));
        free(values);
        free(single);
    }
    return worst;
}

static bool engine_words(const json_t *entry, double *uniform_error)
{
    struct ld_mt19937 words, uniforms;
    ld_mt19937_seed(&words, gc_integer(entry, "seed"));
    uniforms = words;
    bool same = true;
    size_t i;
    const json_t *value;
    json_array_foreach(json_object_get(entry, "raw32_first8"), i, value)
    {
        same = ld_mt19937_u32(&words) == (uint32_t)json_integer_value(value) && same;
    }
    *uniform_error = 0;
    json_array_foreach(json_object_get(entry, "rand_float32_first8"), i, value)
    {
        const float have = ld_mt19937_uniform_f32(&uniforms);
        *uniform_error = fmax(*uniform_error, fabs(json_number_value(value) - (double)have));
    }
    return same;
}

static void run_torch_cpu(struct gc *gc, const char *root, const char *path)
{
    (void)root;
    json_t *json = gc_json_load(gc, path);
    size_t i;
    const json_t *entry;
    char name[GC_NAME_SIZE];
    json_array_foreach(json_object_get(json, "cases"), i, entry)
    {
        snprintf(name, sizeof name, "rng/torch_cpu/%zu/seed=%llu/%s", i,
                 (unsigned long long)gc_integer(entry, "seed"), gc_text(entry, "dtype"));
        gc_report(gc, name, torch_draws(entry), rng_tolerance);
    }
    json_array_foreach(json_object_get(json, "engine"), i, entry)
    {
        double uniform_error;
        snprintf(name, sizeof name, "rng/torch_cpu/engine/seed=%llu",
                 (unsigned long long)gc_integer(entry, "seed"));
        gc_exact(gc, name, engine_words(entry, &uniform_error));
        snprintf(name, sizeof name, "rng/torch_cpu/uniform/seed=%llu",
                 (unsigned long long)gc_integer(entry, "seed"));
        gc_report(gc, name, uniform_error, 1e-7);
    }
    json_decref(json);
}

static double philox_draws(const json_t *entry)
{
    struct ld_philox philox = {.seed = gc_integer(entry, "seed")};
    double worst = 0;
    size_t i;
    const json_t *draw;
    json_array_foreach(json_object_get(entry, "draws"), i, draw)
    {
        const size_t count = draw_count(draw);
        float *single = calloc(count, sizeof *single);
        ld_philox_normal(&philox, single, 0, count);
        double *values = gc_to_f64(single, count);
        worst = fmax(worst, draw_error(draw, values, count));
        free(values);
        free(single);
    }
    return worst;
}

static void run_philox(struct gc *gc, const char *root, const char *path)
{
    (void)root;
    json_t *json = gc_json_load(gc, path);
    size_t i, index;
    const json_t *entry, *row;
    char name[GC_NAME_SIZE];
    json_array_foreach(json_object_get(json, "cases"), i, entry)
    {
        snprintf(name, sizeof name, "rng/philox/%zu/seed=%llu", i,
                 (unsigned long long)gc_integer(entry, "seed"));
        gc_report(gc, name, philox_draws(entry), rng_tolerance);
    }
    json_array_foreach(json_object_get(json, "philox4x32_10_words"), i, entry)
    {
        bool same = true;
        json_array_foreach(json_object_get(entry, "index0_3_words"), index, row)
        {
            uint32_t words[4];
            ld_philox_words(gc_integer(entry, "seed"), (uint32_t)gc_integer(entry, "offset"),
                            (uint32_t)index, words);
            for (size_t w = 0; w < 4; w++)
                same = words[w] == (uint32_t)json_integer_value(json_array_get(row, w)) && same;
        }
        snprintf(name, sizeof name, "rng/philox/words/%zu", i);
        gc_exact(gc, name, same);
    }
    json_decref(json);
}

/* ---- Noise of an image ----------------------------------------------------------------------- */

/* One image of a case: draw 0 is its initial noise, the others come from its ancestral stream. */
static double one_image(const struct ld_noise_config *config, size_t draws, const double *want,
                        size_t stride)
{
    double have[4 * 8 * 8];
    const size_t count = sizeof have / sizeof have[0];
    struct ld_arena arena;
    ld_arena_init(&arena, "golden", 1 << 20);
    struct ld_noise *noise = NULL;
    bool ok = ld_noise_create(&noise, &arena, config, NULL) == LD_OK;
    const struct ld_noise_source source = ld_noise_source_of(noise);
    double worst = 0;
    for (size_t d = 0; ok && d < draws; d++) {
        ok = (d == 0 ? ld_noise_initial(noise, have, count, NULL)
                     : source.draw(source.state, LD_NOISE_ANCESTRAL, 1, 0.5, have, count, NULL)) ==
             LD_OK;
        worst = fmax(worst, gc_absolute_max(have, want + d * stride, count));
    }
    ld_arena_deinit(&arena);
    return ok ? worst : (double)INFINITY;
}

/* The file holds draws x images x 4x8x8. */
static double image_draws(const json_t *entry, const struct gc_array *want)
{
    const json_t *seeds = json_object_get(entry, "seeds");
    const json_t *subseeds = json_object_get(entry, "subseeds");
    const size_t images = json_array_size(seeds);
    const size_t draws = (size_t)gc_integer(entry, "draws");
    const size_t count = 4 * 8 * 8;
    const bool nv = strcmp(gc_text(entry, "source"), "NV") == 0;
    const enum ld_noise_kind kind = nv ? LD_NOISE_PHILOX : LD_NOISE_CPU;
    double worst = want->count == draws * images * count ? 0.0 : (double)INFINITY;
    for (size_t i = 0; i < images && !isinf(worst); i++) {
        const struct ld_noise_config config = {
            .profile = LD_PROFILE_A1111,
            .initial = kind,
            .ancestral = kind,
            .brownian = kind,
            .seed = (uint64_t)json_integer_value(json_array_get(seeds, i)),
            .variation_seed = (uint64_t)json_integer_value(json_array_get(subseeds, i)),
            .variation_strength = gc_number(entry, "subseed_strength"),
            .ensd = (int64_t)gc_integer(entry, "ensd"),
            .channels = 4,
            .height = 8,
            .width = 8,
            .batch_count = 1,
        };
        worst = fmax(worst, one_image(&config, draws, want->data + i * count, images * count));
    }
    return worst;
}

static double batch_draws(const json_t *entry, const struct gc_array *want)
{
    const size_t count = 4 * 8 * 8;
    const json_t *list = json_object_get(entry, "batch_index");
    const uint32_t images = (uint32_t)want->shape[0];
    uint32_t indices[16] = {0};
    for (size_t i = 0; i < json_array_size(list) && i < 16; i++)
        indices[i] = (uint32_t)json_integer_value(json_array_get(list, i));
    float *single = calloc(images * count, sizeof *single);
    double *have = NULL;
    double worst = (double)INFINITY;
    if (want->count == images * count &&
        ld_noise_batch(gc_integer(entry, "seed"), images, json_is_array(list) ? indices : NULL,
                       count, single, NULL) == LD_OK &&
        (have = gc_to_f64(single, images * count)) != NULL)
        worst = gc_absolute_max(have, want->data, want->count);
    free(single);
    free(have);
    return worst;
}

static void run_image_rng(struct gc *gc, const char *root, const char *path)
{
    json_t *json = gc_json_load(gc, path);
    size_t i;
    const json_t *entry;
    json_array_foreach(json_object_get(json, "cases"), i, entry)
    {
        const char *file = gc_text(entry, "file");
        struct gc_array want;
        if (!gc_array_load(gc, root, file, &want)) {
            gc_fail(gc, file, "file missing");
            continue;
        }
        const bool batch = json_object_get(entry, "mode") != NULL;
        gc_report(gc, file, batch ? batch_draws(entry, &want) : image_draws(entry, &want),
                  rng_tolerance);
        gc_array_free(&want);
    }
    json_decref(json);
}

/* ---- Brownian tree --------------------------------------------------------------------------- */

/* All queries of one tree, `count` elements of each `stride` in the file. */
static double tree_draws(const json_t *queries, struct ld_brownian_config config,
                         const double *want, size_t stride)
{
    struct ld_arena arena;
    ld_arena_init(&arena, "golden", 4 << 20);
    struct ld_brownian *tree = NULL;
    bool ok = ld_brownian_create(&tree, &arena, &config, NULL) == LD_OK;
    float *single = calloc(config.count, sizeof *single);
    double worst = 0;
    size_t q;
    const json_t *query;
    json_array_foreach(queries, q, query)
    {
        ok = ok &&
             ld_brownian_draw(tree, json_number_value(json_array_get(query, 0)),
                              json_number_value(json_array_get(query, 1)), single, NULL) == LD_OK;
        double *have = gc_to_f64(single, config.count);
        worst = fmax(worst, gc_absolute_max(have, want + q * stride, config.count));
        free(have);
    }
    free(single);
    ld_arena_deinit(&arena);
    return ok ? worst : (double)INFINITY;
}

static double brownian_case(const json_t *entry, const struct gc_array *want)
{
    const json_t *queries = json_object_get(entry, "queries_from_to");
    const json_t *seeds = json_object_get(entry, "seeds");
    const size_t total = want->count / json_array_size(queries);
    const size_t images = seeds ? json_array_size(seeds) : 1;
    struct ld_brownian_config config = {
        .seed = gc_integer(entry, "seed"),
        .sigma_low = gc_number(entry, "t0"),
        .sigma_high = gc_number(entry, "t1"),
        .generator = LD_NOISE_CPU,
        .total = total / images,
        .count = total / images,
    };
    double worst = 0;
    for (size_t i = 0; i < images; i++) {
        if (seeds)
            config.seed = (uint64_t)json_integer_value(json_array_get(seeds, i));
        worst = fmax(worst, tree_draws(queries, config, want->data + i * config.count, total));
    }
    return worst;
}

static double raw_increments(const json_t *entry)
{
    struct ld_arena arena;
    ld_arena_init(&arena, "golden", 4 << 20);
    const size_t count = draw_count(entry);
    const struct ld_brownian_config config = {
        .seed = gc_integer(entry, "seed"),
        .sigma_low = gc_number(entry, "t0"),
        .sigma_high = gc_number(entry, "t1"),
        .generator = LD_NOISE_CPU,
        .total = count,
        .count = count,
    };
    struct ld_brownian *tree = NULL;
    bool ok = ld_brownian_create(&tree, &arena, &config, NULL) == LD_OK;
    double worst = 0;
    size_t q;
    const json_t *query;
    json_array_foreach(json_object_get(entry, "queries"), q, query)
    {
        float have[64];
        ok = ok && ld_brownian_increment(tree, json_number_value(json_array_get(query, 0)),
                                         json_number_value(json_array_get(query, 1)), have,
                                         NULL) == LD_OK;
        const json_t *want = json_array_get(json_object_get(entry, "increments"), q);
        for (size_t i = 0; i < count && ok; i++)
            worst = fmax(worst, fabs(json_number_value(json_array_get(want, i)) - (double)have[i]));
    }
    ld_arena_deinit(&arena);
    return ok ? worst : (double)INFINITY;
}

static bool seed_sequence_case(const json_t *entry)
{
    const json_t *key = json_object_get(entry, "spawn_key");
    const json_t *want = json_object_get(entry, "generate_state");
    uint32_t words[LD_SEED_SEQUENCE_POOL];
    ld_seed_sequence(gc_integer(entry, "entropy"), json_is_array(key),
                     (uint64_t)json_integer_value(json_array_get(key, 0)),
                     (uint64_t)json_integer_value(json_array_get(key, 1)), words,
                     json_array_size(want));
    bool same = json_array_size(want) > 0;
    for (size_t i = 0; i < json_array_size(want); i++)
        same = words[i] == (uint32_t)json_integer_value(json_array_get(want, i)) && same;
    return same;
}

static void run_brownian(struct gc *gc, const char *root, const char *path)
{
    json_t *json = gc_json_load(gc, path);
    size_t i;
    const json_t *entry;
    char name[GC_NAME_SIZE];
    json_array_foreach(json_object_get(json, "cases"), i, entry)
    {
        struct gc_array want;
        if (!gc_array_load(gc, root, gc_text(entry, "file"), &want)) {
            gc_fail(gc, gc_text(entry, "file"), "file missing");
            continue;
        }
        gc_report(gc, gc_text(entry, "file"), brownian_case(entry, &want), brownian_tolerance);
        gc_array_free(&want);
    }
    json_array_foreach(json_object_get(json, "raw_increments"), i, entry)
    {
        snprintf(name, sizeof name, "rng/brownian/increments/%zu", i);
        gc_report(gc, name, raw_increments(entry), brownian_tolerance);
    }
    json_array_foreach(json_object_get(json, "seed_sequence"), i, entry)
    {
        snprintf(name, sizeof name, "rng/brownian/seed_sequence/%zu", i);
        gc_exact(gc, name, seed_sequence_case(entry));
    }
    json_decref(json);
}

/* ---- Resampling ------------------------------------------------------------------------------ */

/* README: nearest modes exact, bislerp 1e-4 (acos near 1), the others 1e-5. */
static double resize_tolerance(enum ld_resize_mode mode)
{
    if (mode == LD_RESIZE_NEAREST || mode == LD_RESIZE_NEAREST_EXACT)
        return 0;
    return mode == LD_RESIZE_BISLERP ? 1e-4 : 1e-5;
}

/* Worst absolute error of `in` resampled to the size of `want`. */
static double resize_error(const struct gc_array *in, const struct gc_array *want,
                           enum ld_resize_mode mode, bool centre)
{
    const int32_t in_h = (int32_t)in->shape[2], in_w = (int32_t)in->shape[3];
    const int32_t out_h = (int32_t)want->shape[2], out_w = (int32_t)want->shape[3];
    const int32_t planes = (int32_t)(in->shape[0] * in->shape[1]);
    const struct ld_crop whole = {0, 0, in_h, in_w};
    const struct ld_crop crop = centre ? ld_crop_centre(in_h, in_w, out_h, out_w) : whole;
    float *planar = gc_to_f32(in->data, in->count);
    float *cropped = calloc(in->count, sizeof *cropped);
    float *out = calloc(want->count, sizeof *out);
    ld_crop_planes(cropped, planar, planes, in_h, in_w, &crop);
    const struct ld_resample op = {
        .in = cropped,
        .images = (int32_t)in->shape[0],
        .channels = (int32_t)in->shape[1],
        .in_height = crop.height,
        .in_width = crop.width,
        .out_height = out_h,
        .out_width = out_w,
        .mode = mode,
        .out = out,
    };
    double worst = (double)INFINITY;
    if (want->count == (size_t)planes * (size_t)out_h * (size_t)out_w &&
        ld_resample(&op, NULL) == LD_OK) {
        double *wide = gc_to_f64(out, want->count);
        worst = gc_absolute_max(wide, want->data, want->count);
        free(wide);
    }
    free(planar);
    free(cropped);
    free(out);
    return worst;
}

static void run_resize(struct gc *gc, const char *root, const char *path)
{
    json_t *json = gc_json_load(gc, path);
    size_t i;
    const json_t *entry;
    json_array_foreach(json_object_get(json, "cases"), i, entry)
    {
        const char *file = gc_text(entry, "file");
        struct gc_array in, want = {0};
        enum ld_resize_mode mode;
        const bool centre = strcmp(gc_text(entry, "crop"), "center") == 0;
        if (!gc_array_load(gc, root, gc_text(entry, "in"), &in) ||
            !gc_array_load(gc, root, file, &want) || in.rank != 4 || want.rank != 4 ||
            !ld_resize_mode_named(gc_text(entry, "method"), &mode))
            gc_fail(gc, file, "file missing or method unknown");
        else
            gc_report(gc, file, resize_error(&in, &want, mode, centre), resize_tolerance(mode));
        gc_array_free(&in);
        gc_array_free(&want);
    }
    json_decref(json);
}

/* ---- Deep shrink ----------------------------------------------------------------------------- */

static bool shrink_activity(const struct ld_deep_shrink *shrink, const json_t *entry,
                            const struct gc_array *h)
{
    bool same = true;
    size_t i;
    const json_t *call;
    json_array_foreach(json_object_get(entry, "activity"), i, call)
    {
        const json_t *want = json_object_get(call, "out_hw");
        const bool shrinks = (int32_t)gc_integer(call, "block") == shrink->block &&
                             ld_deep_shrink_active(shrink, gc_number(call, "sigma"));
        for (size_t side = 0; side < 2; side++) {
            const int32_t full = (int32_t)h->shape[2 + side];
            const int32_t size = shrinks ? ld_deep_shrink_size(shrink, full) : full;
            same = size == (int32_t)json_integer_value(json_array_get(want, side)) && same;
        }
    }
    return same && i > 0;
}

static void shrink_case(struct gc *gc, const char *root, const json_t *entry, const char *name)
{
    char line[GC_NAME_SIZE + 32];
    struct gc_array h, down = {0}, up = {0};
    const struct ld_request_deep_shrink request = {
        .present = true,
        .block = (int32_t)gc_integer(entry, "block_number"),
        .factor = gc_number(entry, "downscale_factor"),
        .start = gc_number(entry, "start_percent"),
        .end = gc_number(entry, "end_percent"),
        .after_skip = json_is_true(json_object_get(entry, "downscale_after_skip")),
        .downscale = gc_text(entry, "downscale_method"),
        .upscale = gc_text(entry, "upscale_method"),
    };
    struct ld_deep_shrink shrink;
    if (!gc_array_load(gc, root, gc_text(entry, "h"), &h) ||
        !gc_array_load(gc, root, gc_text(entry, "down"), &down) ||
        !gc_array_load(gc, root, gc_text(entry, "up_to_skip_size"), &up) ||
        ld_deep_shrink_init(&shrink, &request, ld_sigma_table_default(), NULL) != LD_OK) {
        gc_fail(gc, name, "file missing or method unknown");
    } else {
        snprintf(line, sizeof line, "%s/activity", name);
        gc_exact(gc, line, shrink_activity(&shrink, entry, &h));
        snprintf(line, sizeof line, "%s/range", name);
        gc_report(gc, line,
                  fmax(fabs(shrink.sigma_high / gc_number(entry, "sigma_start") - 1),
                       fabs(shrink.sigma_low / gc_number(entry, "sigma_end") - 1)),
                  2e-6);
        snprintf(line, sizeof line, "%s/down", name);
        gc_report(gc, line, resize_error(&h, &down, shrink.down, false),
                  resize_tolerance(shrink.down));
        snprintf(line, sizeof line, "%s/up", name);
        gc_report(gc, line, resize_error(&down, &up, shrink.up, false),
                  resize_tolerance(shrink.up));
    }
    gc_array_free(&h);
    gc_array_free(&down);
    gc_array_free(&up);
}

static void run_deep_shrink(struct gc *gc, const char *root, const char *path)
{
    json_t *json = gc_json_load(gc, path);
    size_t i;
    const json_t *entry;
    json_array_foreach(json_object_get(json, "cases"), i, entry)
    {
        char name[GC_NAME_SIZE];
        snprintf(name, sizeof name, "deepshrink/%zu", i);
        shrink_case(gc, root, entry, name);
    }
    json_decref(json);
}

const struct gc_kind gc_kinds_noise[] = {
    {"rng/torch_cpu.json", run_torch_cpu},
    {"rng/philox.json", run_philox},
    {"rng/image_rng.json", run_image_rng},
    {"rng/brownian.json", run_brownian},
    {"guidance/manifest.json", gc_run_guidance},
    {"guidance/area.json", gc_run_area},
    {"resize/manifest.json", run_resize},
    {"deepshrink/manifest.json", run_deep_shrink},
    {NULL, NULL},
};
