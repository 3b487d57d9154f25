/* Guidance cases of the sampling folder. */
#include "tests/golden_check/gc_noise.h"

#include "runtime/sample/guidance_area.h"
#include "runtime/sample/guidance_attention.h"
#include "runtime/sample/guidance_freeu.h"
#include "runtime/sample/guidance_math.h"
#include "runtime/sample/guidance_range.h"
#include "runtime/sample/guidance_threshold.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const double exact_tolerance = 1e-10; /* README: guidance in float64, of the largest value */
static const double float_tolerance = 2e-6;  /* README: entries noted float32 */

enum { FILES_MAX = 6 };

/* One case's tensors and scratch, released together. */
struct guided {
    const json_t *params;
    struct gc_array file[FILES_MAX];
    const char *key[FILES_MAX];
    size_t files;
    size_t images, count; /* of the trailing [C, H, W] */
    struct ld_latent_shape shape;
    double *out, *scratch;
};

static const double *tensor(const struct guided *g, const char *key)
{
    for (size_t i = 0; i < g->files; i++)
        if (strcmp(g->key[i], key) == 0)
            return g->file[i].data;
    return NULL;
}

static size_t tensor_size(const struct guided *g, const char *key)
{
    for (size_t i = 0; i < g->files; i++)
        if (strcmp(g->key[i], key) == 0)
            return g->file[i].count;
    return 0;
}

static void guided_close(struct guided *g)
{
    for (size_t i = 0; i < g->files; i++)
        gc_array_free(&g->file[i]);
    free(g->out);
    free(g->scratch);
}

static bool guided_open(struct guided *g, const struct gc *gc, const char *root,
                        const json_t *entry)
{
    memset(g, 0, sizeof *g);
    g->params = json_object_get(entry, "params");
    const char *key;
    json_t *value;
    json_object_foreach(json_object_get(entry, "files"), key, value)
    {
        const char *path = json_string_value(value);
        if (g->files == FILES_MAX || !path || !gc_array_load(gc, root, path, &g->file[g->files]))
            return false;
        g->key[g->files++] = key;
    }
    size_t total = 0;
    for (size_t i = 0; i < g->files; i++) {
        const struct gc_array *a = &g->file[i];
        total = a->count > total ? a->count : total;
        if (strcmp(g->key[i], "out") == 0 || (total == 0 && i == 0)) {
            if (a->rank < 3)
                return false;
            g->shape = (struct ld_latent_shape){(int32_t)a->shape[a->rank - 3],
                                                (int32_t)a->shape[a->rank - 2],
                                                (int32_t)a->shape[a->rank - 1]};
            g->count = ld_latent_count(g->shape);
            g->images = a->count / g->count;
        }
    }
    g->out = calloc(total, sizeof *g->out);
    g->scratch = calloc(2 * total + 4096, sizeof *g->scratch);
    return g->out && g->scratch;
}

/* ---- One function a kind: fills g->out ------------------------------------------------------- */

static void do_cfg(struct guided *g)
{
    ld_cfg(g->out, tensor(g, "cond"), tensor(g, "uncond"), gc_number(g->params, "scale"),
           g->images * g->count);
}

static void do_rescale(struct guided *g)
{
    do_cfg(g);
    for (size_t i = 0; i < g->images; i++)
        ld_cfg_rescale(g->out + i * g->count, tensor(g, "cond") + i * g->count,
                       tensor(g, "x") + i * g->count, gc_number(g->params, "sigma"),
                       gc_number(g->params, "multiplier"), g->count);
}

static void do_perp_neg(struct guided *g)
{
    /* The reference takes its inner products over the whole batch. */
    ld_perp_neg(g->out, tensor(g, "cond"), tensor(g, "neg"), tensor(g, "nocond"),
                gc_number(g->params, "scale"), gc_number(g->params, "neg_scale"),
                g->images * g->count);
}

static void do_auto_cfg(struct guided *g)
{
    enum ld_range_mode mode = LD_RANGE_HARD;
    if (!ld_range_mode_named(gc_text(g->params, "mode"), &mode))
        return;
    for (size_t i = 0; i < g->images; i++)
        ld_auto_cfg(g->out + i * g->count, tensor(g, "cond") + i * g->count,
                    tensor(g, "uncond") + i * g->count, gc_number(g->params, "scale"), mode,
                    g->shape, g->scratch);
}

static void do_threshold(struct guided *g)
{
    const struct ld_threshold options = {
        .scale = gc_number(g->params, "scale"),
        .mimic = gc_number(g->params, "mimic_scale"),
        .percentile = gc_number(g->params, "percentile"),
        .phi = gc_number(g->params, "interpolate_phi"),
        .per_channel = json_is_true(json_object_get(g->params, "separate_channels")),
        .from_zero = strcmp(gc_text(g->params, "startpoint"), "ZERO") == 0,
        .deviation = strcmp(gc_text(g->params, "variability"), "STD") == 0,
    };
    /* Without separate channels the reference measures the whole batch. */
    struct ld_latent_shape batch = g->shape;
    batch.channels *= (int32_t)g->images;
    ld_dynamic_threshold(g->out, tensor(g, "cond"), tensor(g, "uncond"), &options, batch,
                         g->scratch);
}

/* Files are [call, image, C, H, W]; every image has its own state. */
static void do_uncond_zero(struct guided *g)
{
    const json_t *sigmas = json_object_get(g->params, "sigmas");
    const size_t calls = json_array_size(sigmas);
    const size_t images = g->images / calls;
    double *cond = calloc(g->images * g->count, sizeof *cond);
    double *previous = calloc(g->count, sizeof *previous);
    memcpy(cond, tensor(g, "cond"), g->images * g->count * sizeof *cond);
    double drift = 0;
    for (size_t image = 0; image < images; image++) {
        struct ld_uncond_zero state = {
            .scale = gc_number(g->params, "scale"),
            .pre_scale = gc_number(g->params, "pre_scale"),
            .pre_fix = json_is_true(json_object_get(g->params, "pre_fix")),
            .sigma_max = gc_number(g->params, "sigma_max"),
            .previous = previous,
        };
        for (size_t call = 0; call < calls; call++) {
            const size_t at = (call * images + image) * g->count;
            ld_uncond_zero(&state, g->out + at, cond + at, tensor(g, "uncond") + at,
                           json_number_value(json_array_get(sigmas, call)),
                           gc_number(g->params, "cond_scale"), g->shape, g->scratch);
        }
    }
    const double *after = tensor(g, "cond_after");
    if (after)
        drift = gc_relative_max(cond, after, g->images * g->count);
    if (!(drift <= exact_tolerance)) /* a wrong state must not hide behind a right output */
        g->out[0] = (double)NAN;
    free(cond);
    free(previous);
}

static void do_apg(struct guided *g)
{
    const size_t calls = json_array_size(json_object_get(g->params, "sigmas"));
    double *running = calloc(g->count, sizeof *running);
    double *cond = calloc(g->count, sizeof *cond);
    struct ld_apg apg = {.eta = gc_number(g->params, "eta"),
                         .threshold = gc_number(g->params, "norm_threshold"),
                         .momentum = gc_number(g->params, "momentum"),
                         .running = running};
    const double scale = gc_number(g->params, "scale");
    for (size_t call = 0; call < calls && g->images == calls; call++) {
        const size_t at = call * g->count;
        memcpy(cond, tensor(g, "cond") + at, g->count * sizeof *cond);
        ld_apg_fold(&apg, cond, tensor(g, "uncond") + at, scale, g->count);
        ld_cfg(g->out + at, cond, tensor(g, "uncond") + at, scale, g->count);
    }
    free(running);
    free(cond);
}

/* The file holds the softmax [heads, queries, keys]. */
static void do_sag(struct guided *g)
{
    const size_t heads = (size_t)gc_integer(g->params, "heads");
    const size_t tokens = (size_t)sqrt((double)tensor_size(g, "attn") / (double)heads);
    float *sums = calloc(tokens, sizeof *sums);
    for (size_t key = 0; key < tokens; key++) {
        double sum = 0;
        for (size_t row = 0; row < heads * tokens; row++)
            sum += tensor(g, "attn")[row * tokens + key];
        sums[key] = (float)(sum / (double)heads);
    }
    ld_sag_degrade(g->out, tensor(g, "x0"), sums, (int32_t)tokens, gc_number(g->params, "sigma"),
                   g->shape, g->scratch);
    free(sums);
}

/* NCHW, and the same through an NHWC copy: both must give the file's numbers. */
static double freeu_error(const struct gc_array *in, const struct gc_array *want, bool skip,
                          float factor, bool v2)
{
    const int32_t c = (int32_t)in->shape[1], h = (int32_t)in->shape[2], w = (int32_t)in->shape[3];
    const size_t plane = (size_t)h * (size_t)w, channels = (size_t)c, count = channels * plane;
    double scratch[256], worst = in->count == want->count ? 0.0 : (double)INFINITY;
    float pixels[256];
    for (size_t image = 0; image < in->count / count && !isinf(worst); image++) {
        for (int layout = 0; layout < 2; layout++) {
            struct ld_feature_map map = {
                gc_to_f32(in->data + image * count, count), c, h, w, plane, 1};
            if (layout == 1) {
                map.channel_stride = 1;
                map.pixel_stride = channels;
                for (size_t i = 0; i < count; i++)
                    map.data[i % plane * channels + i / plane] = (float)in->data[image * count + i];
            }
            if (skip)
                ld_freeu_skip(&map, factor, scratch);
            else
                ld_freeu_backbone(&map, factor, v2, pixels);
            for (size_t i = 0; i < count; i++) {
                const size_t at = i / plane * map.channel_stride + i % plane * map.pixel_stride;
                worst = fmax(worst, fabs((double)map.data[at] - want->data[image * count + i]));
            }
            free(map.data);
        }
    }
    return worst;
}

/* ---- Running --------------------------------------------------------------------------------- */

static const struct gc_array *array_named(const struct guided *g, const char *key)
{
    for (size_t i = 0; i < g->files; i++)
        if (strcmp(g->key[i], key) == 0)
            return &g->file[i];
    return NULL;
}

static void run_freeu(struct gc *gc, const char *name, const struct guided *g)
{
    const char *const outputs[] = {"h_v1", "h_v2", "hsp_v1", "hsp_v2"};
    char line[GC_NAME_SIZE + 16];
    if (array_named(g, "x")) {
        gc_report(gc, name,
                  freeu_error(array_named(g, "x"), array_named(g, "out"), true,
                              (float)gc_number(g->params, "scale"), false),
                  float_tolerance);
        return;
    }
    for (size_t i = 0; i < 4; i++) {
        const bool skip = i >= 2;
        const struct gc_array *in = array_named(g, skip ? "hsp" : "h");
        const struct gc_array *want = array_named(g, outputs[i]);
        snprintf(line, sizeof line, "%s/%s", name, outputs[i]);
        if (!in || !want) {
            gc_fail(gc, line, "file missing");
            continue;
        }
        /* [b1, b2, s1, s2] of the version; 640 channels take the second of each. */
        const json_t *factors = json_object_get(g->params, i % 2 == 0 ? "v1" : "v2");
        const float factor = (float)json_number_value(json_array_get(factors, skip ? 3 : 1));
        gc_report(gc, line, freeu_error(in, want, skip, factor, i % 2 == 1), float_tolerance);
    }
}

static void run_case(struct gc *gc, const char *name, const char *kind, struct guided *g)
{
    static const struct {
        const char *kind;
        void (*run)(struct guided *);
        bool single; /* the reference worked in float32 */
    } kinds[] = {{"cfg", do_cfg, false},
                 {"rescale_cfg", do_rescale, false},
                 {"perp_neg", do_perp_neg, false},
                 {"automatic_cfg", do_auto_cfg, false},
                 {"dynamic_thresholding", do_threshold, false},
                 {"uncond_zero_sequence", do_uncond_zero, false},
                 {"apg_sequence", do_apg, false},
                 {"sag_blur_map", do_sag, true}};
    for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++) {
        if (strcmp(kinds[k].kind, kind) != 0)
            continue;
        kinds[k].run(g);
        const double error = gc_relative_max(g->out, tensor(g, "out"), g->images * g->count);
        gc_report(gc, name, error, kinds[k].single ? float_tolerance : exact_tolerance);
        return;
    }
    if (strncmp(kind, "freeu", 5) == 0)
        run_freeu(gc, name, g);
    else
        gc_fail(gc, name, "unknown kind");
}

void gc_run_guidance(struct gc *gc, const char *root, const char *path)
{
    json_t *json = gc_json_load(gc, path);
    size_t i;
    const json_t *entry;
    json_array_foreach(json_object_get(json, "cases"), i, entry)
    {
        char name[GC_NAME_SIZE];
        struct guided g;
        snprintf(name, sizeof name, "guidance/%s", gc_text(entry, "name"));
        if (guided_open(&g, gc, root, entry))
            run_case(gc, name, gc_text(entry, "kind"), &g);
        else
            gc_fail(gc, name, "file missing or shape unknown");
        guided_close(&g);
    }
    json_decref(json);
}

/* ---- Areas ----------------------------------------------------------------------------------- */

static int32_t int_at(const json_t *list, size_t index)
{
    return (int32_t)json_integer_value(json_array_get(list, index));
}

static double share_at(const json_t *list, size_t index)
{
    return json_number_value(json_array_get(list, index));
}

static bool area_matches(const json_t *entry, struct ld_area *area)
{
    const json_t *size = json_object_get(entry, "latent_hw");
    const json_t *request = json_object_get(entry, "area_request");
    const json_t *want = json_object_get(entry, "area_h_w_y_x");
    const int32_t h = int_at(size, 0), w = int_at(size, 1);
    if (json_is_string(json_array_get(request, 0)))
        *area = ld_area_of_share(share_at(request, 1), share_at(request, 2), share_at(request, 3),
                                 share_at(request, 4), h, w);
    else
        *area = (struct ld_area){int_at(request, 0), int_at(request, 1), int_at(request, 2),
                                 int_at(request, 3)};
    return ld_area_clip(area, h, w) && area->height == int_at(want, 0) &&
           area->width == int_at(want, 1) && area->y == int_at(want, 2) &&
           area->x == int_at(want, 3);
}

void gc_run_area(struct gc *gc, const char *root, const char *path)
{
    json_t *json = gc_json_load(gc, path);
    size_t i;
    const json_t *entry;
    json_array_foreach(json_object_get(json, "cases"), i, entry)
    {
        char name[GC_NAME_SIZE];
        struct ld_area area;
        struct gc_array want;
        snprintf(name, sizeof name, "guidance/area/%zu", i);
        const bool same = area_matches(entry, &area);
        if (!gc_array_load(gc, root, gc_text(entry, "weight_map"), &want) || !same ||
            want.count != (size_t)area.height * (size_t)area.width) {
            gc_fail(gc, name, same ? "file missing" : "another area");
            gc_array_free(&want);
            continue;
        }
        double *have = calloc(want.count, sizeof *have);
        const json_t *size = json_object_get(entry, "latent_hw");
        ld_area_weights(have, &area, gc_number(entry, "strength"), true, int_at(size, 0),
                        int_at(size, 1));
        gc_report(gc, name, gc_relative_max(have, want.data, want.count), exact_tolerance);
        free(have);
        gc_array_free(&want);
    }
    json_decref(json);
}
