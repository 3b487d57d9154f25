/*
 * Proves that every operator of the real UNet and VAE decoder, at the sizes people use, is right on
 * this device: sampled elements against fp64 from the rounded operands, every element written,
 * equal bits in repeated runs, and an image's bits the same alone and in a batch of eight. The
 * operators come from the networks' own graphs. Over the host build it walks a tiny network
 * instead.
 *
 *     test_real [--sizes 512x512,1024x1024] [--batches 1,2,4,8,32] [--dtype f16|bf16]
 *               [--seconds N] [--network unet|vae] [--tiny] [--races]
 *
 * --races leaves out what shows a race detector nothing new: runs made only to compare bits (the
 * same again, an image alone, whose shapes the operators' own tests have), and all but the first
 * number of splits of a tile, which is an argument of one and the same kernel. Blocks run one after
 * the other on the host, so that the detector sees races inside a block alone. --tiny leaves out
 * tiles of 256 rows, which none of its maps fills; test_matmul_tall.c has them.
 *
 * One JSON object a line for each operator, then the usual summary. What `--seconds` cut off counts
 * as skipped, never as passed.
 */
#include "kernels/cuda/rt.h"
#include "runtime/base/clock.h"
#include "runtime/model/arch.h"
#include "runtime/model/unet.h"
#include "runtime/model/vae_graph.h"
#include "tests/cuda/hostcuda.h"
#include "tests/gpu/shapes.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    SIZES_MAX = 8,
    BATCHES_MAX = 8,
    SAMPLES = 256,
    SAMPLES_COSTLY = 48, /* attention: one is a whole row of keys */
    REPEATS = 20,
    REPEAT_BATCH = 2,
    COMPANY_BATCH = 8,
    VARIANTS_MAX = 64,
    TALL_ROWS = 256,
    TOKENS = 77
};

static const char TINY_CONFIG[] =
    "{\"unet\":{\"model_channels\":32,\"channel_mult\":[1,1,2,2],\"num_heads\":2,"
    "\"context_dim\":32},\"vae\":{\"ch\":32,\"ch_mult\":[1,1,2,2]}}";

struct size {
    int32_t width, height;
};

struct options {
    struct size sizes[SIZES_MAX];
    int32_t size_count;
    int32_t batches[BATCHES_MAX];
    int32_t batch_count;
    enum ldk_dtype dtype;
    bool vae, tiny, races;
    double seconds;
};

struct real {
    struct options options;
    struct ld_arch arch;
    struct ld_weight_layout layout;
    struct ld_graph graphs[SIZES_MAX]; /* of one image each */
    struct noise noise;
    int64_t start_us;
};

static bool late(const struct real *real)
{
    return (double)(ld_clock_monotonic_us() - real->start_us) * 1e-6 > real->options.seconds;
}

/* ---- One operator ---------------------------------------------------------------------------- */

/* What was seen of one run. */
struct seen {
    double l2, worst; /* worst: largest error in units of its limit */
    bool written;
};

/* Sampled positions: corners and a spread that depends on nothing but the count. */
static size_t sample_at(size_t s, size_t samples, size_t values)
{
    if (s == 0)
        return 0;
    if (s == 1)
        return values - 1;
    return (size_t)((double)values * (double)s / (double)samples + (double)(s * 7919 % 613)) %
           values;
}

static struct seen look(struct job *job, const uint16_t *bits)
{
    const size_t samples = job->kind == LD_GRAPH_ATTENTION ? SAMPLES_COSTLY : SAMPLES;
    const enum ldk_dtype dtype = job->noise->dtype;
    struct seen seen = {0, 0, true};
    double difference = 0;
    double size = 0;
    size_t unwritten = 0;
    for (size_t i = 0; i < job->image_values * (size_t)job->batch; i++)
        unwritten += bits[i] == 0xFFFF;
    seen.written = unwritten == 0;
    /* First and last image; of a large batch the last alone, which is where indices overflow. */
    for (int32_t which = job->batch > COMPANY_BATCH; which < (job->batch > 1 ? 2 : 1); which++) {
        const int32_t image = which ? job->batch - 1 : 0;
        for (size_t s = 0; s < samples; s++) {
            const size_t index = sample_at(s, samples, job->image_values);
            const struct expected want = job_expected(job, image, index);
            const uint16_t got_bits = bits[(size_t)image * job->image_values + index];
            const double got =
                (double)(dtype == LDK_BF16 ? ld_bf16_to_f32(got_bits) : ld_f16_to_f32(got_bits));
            const double error = fabs(got - want.value);
            difference += error * error;
            size += want.value * want.value;
            if (!(error / want.limit <= seen.worst)) /* a NaN stays */
                seen.worst = error / want.limit;
        }
    }
    seen.l2 = sqrt(difference / (size > 0 ? size : 1));
    return seen;
}

static bool run_into(struct job *job, void *y, size_t bytes, int32_t first, int32_t count,
                     void *host)
{
    int code = ldk_rt_memset(y, 0xFF, bytes, NULL);
    if (code == LDK_OK)
        code = job_launch(job, y, first, count);
    if (code == LDK_OK)
        code = ldk_rt_stream_synchronize(NULL);
    if (!hc_expect(code == LDK_OK, "code %d", code))
        return false;
    hc_download(host, y, bytes);
    return true;
}

static void report(const struct job *job, const char *size, const char *variant,
                   const struct seen *seen, bool ok)
{
    printf("{\"op\":\"%s\",\"size\":\"%s\",\"batch\":%d,\"dtype\":\"%s\",\"variant\":\"%s\","
           "\"rel_l2\":%.3g,\"limit\":%.3g,\"worst_element\":%.3g,\"ok\":%s}\n",
           job->name, size, job->batch, job->noise->dtype == LDK_BF16 ? "bf16" : "f16", variant,
           isfinite(seen->l2) ? seen->l2 : 1e30, job->l2_limit,
           isfinite(seen->worst) ? seen->worst : 1e30, ok ? "true" : "false");
}

/* The output of one variant: right, whole. */
static bool examine(struct job *job, const char *size, const char *variant, void *y, size_t bytes,
                    void *host)
{
    hc_case("%s, %s, batch %d, %s", job->name, size, job->batch, variant);
    if (!run_into(job, y, bytes, 0, job->batch, host))
        return false;
    const struct seen seen = look(job, host);
    bool ok = hc_expect(seen.written, "an element was not written");
    ok =
        hc_expect(seen.l2 <= job->l2_limit, "relative L2 %.3g over %.3g", seen.l2, job->l2_limit) &&
        ok;
    ok = hc_expect(seen.worst <= 1, "an element is %.3g times its limit off", seen.worst) && ok;
    report(job, size, variant, &seen, ok);
    return ok;
}

static void examine_repeats(struct job *job, void *y, size_t bytes, const void *first, void *host)
{
    const int repeats = hc_is_host() ? 2 : REPEATS;
    for (int r = 1; r < repeats; r++) {
        if (!run_into(job, y, bytes, 0, job->batch, host) ||
            !hc_expect(memcmp(first, host, bytes) == 0, "run %d of %d gave other bits", r + 1,
                       repeats))
            return;
    }
    (void)hc_expect(true, "equal bits");
}

/* First and last image of the batch alone. */
static void examine_company(struct job *job, void *y, size_t bytes, const unsigned char *batch,
                            void *host)
{
    const size_t image_bytes = bytes / (size_t)job->batch;
    for (int which = 0; which < 2; which++) {
        const int32_t image = which ? job->batch - 1 : 0;
        if (run_into(job, y, image_bytes, image, 1, host))
            (void)hc_expect(memcmp(batch + (size_t)image * image_bytes, host, image_bytes) == 0,
                            "image %d has other bits alone than in a batch of %d", image,
                            job->batch);
    }
}

/* The variants are listed by tile: "64x128 k/4" comes after "64x128 k/2". */
static bool splits_again(const struct ldk_variant *variants, int32_t v)
{
    const char *split = strstr(variants[v].name, " k/");
    return v > 0 && split && strstr(variants[v - 1].name, " k/") &&
           strncmp(variants[v].name, variants[v - 1].name,
                   (size_t)(split - variants[v].name) + 1) == 0;
}

static void examine_variants(struct job *job, const char *size, const struct options *options,
                             void *y, size_t bytes, void *host)
{
    struct ldk_variant variants[VARIANTS_MAX];
    const int32_t count = job_variants(job, variants, VARIANTS_MAX);
    for (int32_t v = 0; v < count; v++) {
        if ((options->races && splits_again(variants, v)) ||
            (options->tiny && variants[v].tile_m >= TALL_ROWS))
            continue;
        job_set_variant(job, variants[v].number);
        (void)examine(job, size, variants[v].name, y, bytes, host);
    }
    job_set_variant(job, LDK_VARIANT_AUTO);
}

static void examine_op(struct real *real, const struct layer *layer, uint32_t op, int32_t s,
                       int32_t batch)
{
    const struct ld_graph *graph = &real->graphs[s];
    struct job job;
    char size[32];
    snprintf(size, sizeof size, "%dx%d", real->options.sizes[s].width,
             real->options.sizes[s].height);
    if (!job_open(&job, graph, &graph->ops[op], layer, &real->noise, batch))
        return;
    const size_t bytes = job.image_values * sizeof(uint16_t) * (size_t)batch;
    void *y = hc_device(bytes);
    void *first = malloc(bytes);
    void *again = malloc(bytes);
    if (!first || !again) {
        hc_skip("not enough host memory");
    } else if (examine(&job, size, "auto", y, bytes, first)) {
        const bool races = real->options.races;
        if (batch == REPEAT_BATCH && !races)
            examine_repeats(&job, y, bytes, first, again);
        if (batch == REPEAT_BATCH)
            examine_variants(&job, size, &real->options, y, bytes, again);
        if (batch > REPEAT_BATCH && batch <= COMPANY_BATCH && !races)
            examine_company(&job, y, bytes, first, again);
    }
    free(again);
    free(first);
    job_close(&job);
}

/* ---- All of them ----------------------------------------------------------------------------- */

/* Equal operators of one graph are looked at once: the same name at the first size is the same
 * operator at every size. */
static bool seen_before(const struct real *real, uint32_t op)
{
    const struct ld_graph *graph = &real->graphs[0];
    const struct ld_graph_op *a = &graph->ops[op];
    for (uint32_t i = 0; i < op; i++) {
        const struct ld_graph_op *b = &graph->ops[i];
        const bool same_inputs = !a->in[LD_IN_RESIDUAL].value == !b->in[LD_IN_RESIDUAL].value &&
                                 !a->in[LD_IN_ROW_ADD].value == !b->in[LD_IN_ROW_ADD].value &&
                                 (a->in[LD_IN_K].value == a->in[LD_IN_Q].value) ==
                                     (b->in[LD_IN_K].value == b->in[LD_IN_Q].value);
        const struct ld_graph_value *y = ld_graph_at(graph, a->out);
        const struct ld_graph_value *z = ld_graph_at(graph, b->out);
        if (a->kind != b->kind || !same_inputs || y->channels != z->channels ||
            y->height != z->height || y->width != z->width)
            continue;
        if (memcmp(&a->u, &b->u, sizeof a->u) == 0)
            return true;
    }
    return false;
}

static void walk(struct real *real)
{
    const struct options *o = &real->options;
    const struct ld_graph *graph = &real->graphs[0];
    for (uint32_t op = 0; op < graph->op_count; op++) {
        struct layer layer;
        if (seen_before(real, op))
            continue;
        if (late(real)) {
            hc_skip("the time is up");
            continue;
        }
        if (!layer_open(&layer, &real->layout, &graph->ops[op], o->dtype)) {
            hc_skip("not enough memory for the weights");
            layer_close(&layer);
            continue;
        }
        for (int32_t s = 0; s < o->size_count; s++) {
            for (int32_t b = 0; b < o->batch_count; b++)
                examine_op(real, &layer, op, s, o->batches[b]);
        }
        layer_close(&layer);
        hc_free_all();
        (void)fflush(stdout);
    }
}

/* The longest window any operator reads, in elements. */
static size_t longest(const struct real *real)
{
    size_t most = 0;
    int32_t batch = 1;
    for (int32_t b = 0; b < real->options.batch_count; b++)
        batch = real->options.batches[b] > batch ? real->options.batches[b] : batch;
    for (int32_t s = 0; s < real->options.size_count; s++) {
        const struct ld_graph *graph = &real->graphs[s];
        for (uint32_t v = 1; v < graph->value_count; v++) {
            const struct ld_graph_value *value = &graph->values[v];
            const size_t count = (size_t)value->height * (size_t)value->width *
                                 (size_t)value->channels * (size_t)batch;
            most = count > most ? count : most;
        }
    }
    return most;
}

static bool open_real(struct real *real)
{
    struct ld_error err = {0};
    enum ld_code code = LD_OK;
    ld_arch_set_sd15(&real->arch);
    if (real->options.tiny)
        code = ld_arch_set_test_config(&real->arch, TINY_CONFIG, &err);
    ld_weight_layout_init(&real->layout);
    for (int32_t s = 0; code == LD_OK && s < real->options.size_count; s++) {
        const struct size *size = &real->options.sizes[s];
        struct ld_graph *graph = &real->graphs[s];
        ld_graph_init(graph, LD_DTYPE_F16, &real->layout);
        if (real->options.vae)
            ld_vae_build_decoder(graph, &real->arch,
                                 &(struct ld_vae_shape){.batch = 1,
                                                        .height = size->height / 8,
                                                        .width = size->width / 8});
        else
            ld_unet_build(graph, &real->arch,
                          &(struct ld_unet_shape){1, size->height / 8, size->width / 8, TOKENS},
                          &(struct ld_unet_options){0});
        code = ld_graph_finish(graph, &err);
    }
    if (code != LD_OK)
        (void)fprintf(stderr, "test_real: %s\n", err.detail);
    return code == LD_OK && noise_open(&real->noise, real->options.dtype, longest(real));
}

static void close_real(struct real *real)
{
    noise_close(&real->noise);
    for (int32_t s = 0; s < real->options.size_count; s++)
        ld_graph_deinit(&real->graphs[s]);
    ld_weight_layout_deinit(&real->layout);
}

/* ---- Options --------------------------------------------------------------------------------- */

static bool read_sizes(const char *text, struct options *options)
{
    options->size_count = 0;
    while (*text && options->size_count < SIZES_MAX) {
        char *end;
        struct size *size = &options->sizes[options->size_count++];
        size->width = (int32_t)strtol(text, &end, 10);
        if (*end != 'x')
            return false;
        size->height = (int32_t)strtol(end + 1, &end, 10);
        if (size->width < 64 || size->height < 64 || size->width % 8 || size->height % 8)
            return false;
        text = *end == ',' ? end + 1 : end;
        if (*end && *end != ',')
            return false;
    }
    return options->size_count > 0 && !*text;
}

static bool read_batches(const char *text, struct options *options)
{
    options->batch_count = 0;
    while (*text && options->batch_count < BATCHES_MAX) {
        char *end;
        const long batch = strtol(text, &end, 10);
        if (batch < 1 || batch > 64 || (*end && *end != ','))
            return false;
        options->batches[options->batch_count++] = (int32_t)batch;
        text = *end ? end + 1 : end;
    }
    return options->batch_count > 0 && !*text;
}

static bool read_options(struct options *o, int argc, char **argv)
{
    o->tiny = hc_is_host();
    o->seconds = 1e9;
    if (!read_sizes(o->tiny ? "64x64" : "512x512", o) || !read_batches(o->tiny ? "2,3" : "2", o))
        return false;
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        bool ok = true;
        if (strcmp(argv[i], "--tiny") == 0) {
            o->tiny = true;
            continue;
        }
        if (strcmp(argv[i], "--races") == 0) {
            o->races = true;
            continue;
        }
        if (strcmp(argv[i], "--sizes") == 0)
            ok = read_sizes(value, o);
        else if (strcmp(argv[i], "--batches") == 0)
            ok = read_batches(value, o);
        else if (strcmp(argv[i], "--dtype") == 0)
            o->dtype = strcmp(value, "bf16") == 0 ? LDK_BF16 : LDK_F16;
        else if (strcmp(argv[i], "--network") == 0)
            o->vae = strcmp(value, "vae") == 0;
        else if (strcmp(argv[i], "--seconds") == 0)
            o->seconds = strtod(value, NULL);
        else
            ok = false;
        if (!ok)
            return false;
        i++;
    }
    return true;
}

int main(int argc, char **argv)
{
    struct real *real = calloc(1, sizeof *real);
    if (!real || !read_options(&real->options, argc, argv)) {
        (void)fprintf(stderr,
                      "usage: test_real [--sizes WxH,...] [--batches N,...] [--dtype f16|bf16] "
                      "[--seconds N] [--network unet|vae] [--tiny] [--races]\n");
        return 2;
    }
    real->start_us = ld_clock_monotonic_us();
    if (open_real(real)) {
        walk(real);
    } else {
        hc_case("start");
        (void)hc_expect(false, "the networks or their operands do not fit");
    }
    close_real(real);
    free(real);
    return hc_report();
}
