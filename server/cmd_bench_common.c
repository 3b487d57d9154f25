#include "server/cmd_bench.h"

#include "runtime/base/clock.h"
#include "runtime/gpu/device.h"
#include "runtime/model/model.h"
#include "runtime/sample/philox.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    LATENT_FACTOR = 8,
    SIDE_MAX = 4096,
    BATCH_MAX = 64,
    STEPS_MAX = 1000,
    THREADS_MAX = 1024,
    SECONDS_MAX = 86400
};
enum { SERVE_BATCH = 16 };

/* ---- Options --------------------------------------------------------------------------------- */

static bool number(const char *text, uint32_t max, uint32_t *out)
{
    uint64_t value;
    if (!ld_parse_u64(ld_span_text(text), &value) || value < 1 || value > max)
        return false;
    *out = (uint32_t)value;
    return true;
}

static bool size(const char *text, struct ld_bench_options *options)
{
    char width[16];
    uint32_t w;
    uint32_t h;
    const char *x = strchr(text, 'x');
    if (!x || !ld_fmt(width, sizeof width, "%.*s", (int)(x - text), text) ||
        !number(width, SIDE_MAX, &w) || !number(x + 1, SIDE_MAX, &h) || w % LATENT_FACTOR != 0 ||
        h % LATENT_FACTOR != 0)
        return false;
    options->width = (int32_t)w;
    options->height = (int32_t)h;
    return true;
}

/* One of the words, or false. */
static bool one_of(const char *text, const char *const *words, const char **out)
{
    for (; *words; words++) {
        if (strcmp(text, *words) == 0) {
            *out = *words;
            return true;
        }
    }
    return false;
}

struct value_option {
    const char *name;
    const char *values; /* for the sentence that refuses one */
};

static const struct value_option value_options[] = {
    {"--backend", "auto, cpu or cuda"}, {"--precision", "fp16 or bf16"},
    {"--network", "unet or vae"},       {"--size", "WxH, both multiples of 8 from 8 to 4096"},
    {"--steps", "1 to 1000"},           {"--rounds", "1 to 1000"},
    {"--threads", "1 to 1024"},         {"--batch", "1 to 64"},
    {"--model", "a checkpoint"},        {"--inputs", "a folder"},
    {"--seconds", "1 to 86400"},
};
enum { VALUE_OPTION_COUNT = sizeof value_options / sizeof value_options[0] };

/* A value of the option of that name; false if it is not one of its values. */
static bool set(struct ld_bench_options *options, const char *name, const char *value)
{
    static const char *const backends[] = {"auto", "cpu", "cuda", NULL};
    static const char *const precisions[] = {"fp16", "bf16", NULL};
    static const char *const networks[] = {"unet", "vae", NULL};
    uint32_t batch;
    if (strcmp(name, "--backend") == 0)
        return one_of(value, backends, &options->backend);
    if (strcmp(name, "--precision") == 0)
        return one_of(value, precisions, &options->precision);
    if (strcmp(name, "--network") == 0)
        return one_of(value, networks, &options->network);
    if (strcmp(name, "--size") == 0)
        return size(value, options);
    if (strcmp(name, "--steps") == 0)
        return number(value, STEPS_MAX, &options->steps);
    if (strcmp(name, "--rounds") == 0)
        return number(value, LD_BENCH_ROUNDS_MAX, &options->rounds);
    if (strcmp(name, "--threads") == 0)
        return number(value, THREADS_MAX, &options->threads);
    if (strcmp(name, "--seconds") == 0)
        return number(value, SECONDS_MAX, &options->seconds);
    if (strcmp(name, "--batch") == 0) {
        if (!number(value, BATCH_MAX, &batch))
            return false;
        options->batch = (int32_t)batch;
        return true;
    }
    *(strcmp(name, "--model") == 0 ? &options->model : &options->inputs) = value;
    return true;
}

/* The option at `argv` and its value, if there is one; false, and a sentence, for wrong usage. */
static bool read_value(struct ld_bench_options *options, const char *name, const char *value)
{
    size_t i = 0;
    while (i < VALUE_OPTION_COUNT && strcmp(value_options[i].name, name) != 0)
        i++;
    if (i == VALUE_OPTION_COUNT) {
        (void)fprintf(stderr, "latentd bench %s: unknown option '%.60s'\n", options->what, name);
        return false;
    }
    if (value && set(options, name, value))
        return true;
    (void)fprintf(stderr, "latentd bench %s: %s takes %s%s%.60s%s\n", options->what, name,
                  value_options[i].values, value ? ", not '" : "", value ? value : "",
                  value ? "'" : "");
    return false;
}

bool ld_bench_options_read(struct ld_bench_options *options, int argc, char **argv)
{
    *options = (struct ld_bench_options){.what = argv[0],
                                         .backend = "auto",
                                         .precision = "fp16",
                                         .network = "unet",
                                         .width = 1024,
                                         .height = 1024,
                                         .batch = strcmp(argv[0], "serve") == 0 ? SERVE_BATCH : 1,
                                         .steps = 8,
                                         .rounds = 20};
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--json") == 0) {
            options->json = true;
        } else if (strcmp(argv[i], "--pipe") == 0) {
            options->pipe = true;
        } else if (strcmp(argv[i], "--tune") == 0) {
            options->tune = true;
        } else if (strcmp(argv[i], "--profile") == 0) {
            options->profile = true;
        } else if (strcmp(argv[i], "--stream") == 0) {
            options->stream = true;
        } else if (strcmp(argv[i], "--fp16-accumulate") == 0) {
            options->fp16_accumulate = true;
        } else if (strcmp(argv[i], "--help") == 0) {
            options->help = true;
        } else if (!read_value(options, argv[i], i + 1 < argc ? argv[i + 1] : NULL)) {
            return false;
        } else {
            i++;
        }
    }
    return true;
}

/* ---- The backend ----------------------------------------------------------------------------- */

enum ld_code ld_bench_backend_open(struct ld_backend **out, const struct ld_bench_options *options,
                                   struct ld_error *err)
{
    char note[LD_DEVICE_NOTE_SIZE];
    const struct ld_device_choice choice = {.backend = options->backend,
                                            .precision = options->precision,
                                            .fp16_accumulate = options->fp16_accumulate,
                                            .stream_weights = options->stream ? "on" : "off",
                                            .threads = options->threads,
                                            .tune = options->tune,
                                            .profile = options->profile};
    const enum ld_code code = ld_device_open(out, &choice, note, err);
    /* A worker's idle times would be measured too. */
    if (code == LD_OK && (*out)->ops->occupy)
        (*out)->ops->occupy(*out, true);
    if (code == LD_OK && note[0])
        (void)fprintf(stderr, "latentd bench %s: %s\n", options->what, note);
    return code;
}

enum ld_code ld_bench_model_open(struct ld_model **out, struct ld_backend *backend,
                                 const struct ld_bench_options *options, struct ld_error *err)
{
    LD_ASSERT(options->model != NULL);
    const enum ld_code code = ld_model_open(out, backend, options->model, NULL, err);
    if (code == LD_OK && options->stream)
        ld_model_stream(*out);
    return code;
}

/* ---- Figures --------------------------------------------------------------------------------- */

void ld_bench_times_add(struct ld_bench_times *times, double ms)
{
    LD_ASSERT(times->count < LD_BENCH_ROUNDS_MAX);
    times->ms[times->count++] = ms;
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a;
    const double y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Linear between the two nearest ranks. */
static double percentile(const struct ld_bench_times *times, double p)
{
    const double at = p * (double)(times->count - 1);
    const uint32_t below = (uint32_t)at;
    const uint32_t above = below + 1 < times->count ? below + 1 : below;
    return times->ms[below] + (at - (double)below) * (times->ms[above] - times->ms[below]);
}

void ld_bench_times_finish(struct ld_bench_times *times)
{
    times->median = times->low = times->high = 0;
    if (times->count == 0)
        return;
    qsort(times->ms, times->count, sizeof times->ms[0], ascending);
    times->median = percentile(times, 0.5);
    times->low = percentile(times, 0.1);
    times->high = percentile(times, 0.9);
}

void ld_bench_times_json(struct ld_buffer *out, const struct ld_bench_times *times)
{
    ld_buffer_format(out, "{\"median_ms\":%.5g,\"p10_ms\":%.5g,\"p90_ms\":%.5g,\"rounds\":%u}",
                     times->median, times->low, times->high, times->count);
}

double ld_bench_now_ms(void)
{
    return (double)ld_clock_monotonic_us() / 1000.0;
}

void ld_bench_json_head(struct ld_buffer *out, const struct ld_bench_options *options,
                        const struct ld_backend *backend)
{
    ld_buffer_format(out, "\"bench\":\"%s\",\"version\":\"%s\",\"backend\":\"%s\",\"device\":",
                     options->what, LATENTD_VERSION, backend->name);
    ld_buffer_json_string(out, backend->description);
    if (options->stream)
        ld_buffer_format(out, ",\"streamed\":%s", backend->ops->ring_plan_bytes ? "true" : "false");
}

void ld_bench_normal(uint64_t seed, float *out, size_t count)
{
    struct ld_philox generator = {.seed = seed};
    ld_philox_normal(&generator, out, 0, count);
}
