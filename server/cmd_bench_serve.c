/*
 * `bench serve`: pictures a second with 1, 2, 4 ... pictures in flight, as the engine serves them:
 * a step of all that are under way is one batch, a picture that ends is decoded and the next one,
 * with other prompts, takes its place. Starts are spread over a picture's steps, as with users that
 * know nothing of each other. PNGs, which other threads make, and HTTP are not part of it.
 *
 * The picture of one seed is painted in each company; its values are compared with those it has
 * alone, bit for bit.
 */
#include "server/cmd_bench_picture.h"

#include <stdio.h>
#include <string.h>

enum { FLIGHT_MAX = 64, WATCHED_SEED = 1 };

/* A place in the batch. */
struct slot {
    struct ld_bench_picture picture;
    bool flying;
    uint64_t seed;
    uint32_t ended; /* pictures, warm-up included */
};

/* What is measured with one number of pictures in flight. */
struct flight {
    uint32_t count, pictures;
    double seconds;
    struct ld_bench_times step, decode, text;
    bool same_bits; /* the watched picture's, with those that it has alone */
};

struct serve {
    struct ld_bench_painter painter;
    struct slot slots[FLIGHT_MAX];
    uint32_t slot_count; /* that have memory */
    uint64_t next_seed;
    size_t values;      /* of a picture: 3 * 8h * 8w */
    float *rgb, *alone; /* [values]: the latest picture, the watched one alone */
};

static enum ld_code open_serve(struct serve *serve, const struct ld_bench_options *options,
                               struct ld_error *err)
{
    const enum ld_code code = ld_bench_painter_open(&serve->painter, options, err);
    if (code != LD_OK)
        return code;
    serve->values = 3 * (size_t)options->height * (size_t)options->width;
    serve->rgb = ld_heap_calloc(serve->values, sizeof *serve->rgb);
    serve->alone = ld_heap_calloc(serve->values, sizeof *serve->alone);
    return serve->rgb && serve->alone ? LD_OK
                                      : LD_FAIL(err, LD_E_NOMEM, "not enough memory for a picture");
}

static void close_serve(struct serve *serve)
{
    for (uint32_t s = 0; s < serve->slot_count; s++)
        ld_bench_picture_destroy(&serve->slots[s].picture);
    ld_heap_free(serve->alone);
    ld_heap_free(serve->rgb);
    ld_bench_painter_close(&serve->painter);
}

static void add(struct ld_bench_times *times, double ms)
{
    if (times->count < LD_BENCH_ROUNDS_MAX)
        ld_bench_times_add(times, ms);
}

/* ---- A tick ---------------------------------------------------------------------------------- */

static enum ld_code start(struct slot *slot, struct flight *flight, struct ld_error *err)
{
    const double from = ld_bench_now_ms();
    enum ld_code code = ld_bench_picture_encode(&slot->picture, slot->seed, err);
    add(&flight->text, ld_bench_now_ms() - from);
    if (code == LD_OK)
        code = ld_bench_picture_begin(&slot->picture, slot->seed, err);
    slot->flying = code == LD_OK;
    return code;
}

static enum ld_code land(struct serve *serve, struct slot *slot, struct flight *flight,
                         struct ld_error *err)
{
    const size_t bytes = serve->values * sizeof *serve->rgb;
    const double from = ld_bench_now_ms();
    const enum ld_code code = ld_bench_picture_decode(&slot->picture, serve->rgb, err);
    add(&flight->decode, ld_bench_now_ms() - from);
    if (code == LD_OK && slot->seed == WATCHED_SEED && flight->count == 1)
        memcpy(serve->alone, serve->rgb, bytes);
    if (code == LD_OK && slot->seed == WATCHED_SEED)
        flight->same_bits = memcmp(serve->alone, serve->rgb, bytes) == 0;
    slot->ended++;
    slot->seed = serve->next_seed++;
    return code;
}

/* The rows of a place; where its picture is painted, the next one's. */
static enum ld_code gather(struct serve *serve, struct slot *slot, struct flight *flight,
                           struct ld_unet_request *request, struct ld_unet_row *rows,
                           struct ld_error *err)
{
    enum ld_code code = LD_OK;
    if (!ld_bench_picture_rows(&slot->picture, rows + request->row_count)) {
        code = land(serve, slot, flight, err);
        if (code == LD_OK)
            code = start(slot, flight, err);
        if (code == LD_OK)
            (void)ld_bench_picture_rows(&slot->picture, rows + request->row_count);
    }
    request->row_count += LD_BENCH_PICTURE_ROWS;
    return code;
}

/* One evaluation of every picture under way. */
static enum ld_code tick(struct serve *serve, struct flight *flight, struct ld_error *err)
{
    struct ld_unet_row rows[LD_BENCH_PICTURE_ROWS * FLIGHT_MAX];
    struct ld_unet_request request = {
        .rows = rows, .height = serve->painter.height, .width = serve->painter.width};
    enum ld_code code = LD_OK;
    for (uint32_t s = 0; code == LD_OK && s < flight->count; s++)
        if (serve->slots[s].flying)
            code = gather(serve, &serve->slots[s], flight, &request, rows, err);
    const double from = ld_bench_now_ms();
    if (code == LD_OK)
        code = ld_model_unet(serve->painter.model, NULL, &request, err);
    if (request.row_count == LD_BENCH_PICTURE_ROWS * flight->count)
        add(&flight->step, ld_bench_now_ms() - from);
    for (uint32_t s = 0; code == LD_OK && s < flight->count; s++)
        if (serve->slots[s].flying)
            code = ld_bench_picture_accept(&serve->slots[s].picture, err);
    return code;
}

/* ---- A number in flight ---------------------------------------------------------------------- */

static enum ld_code prepare(struct serve *serve, uint32_t count, struct ld_error *err)
{
    enum ld_code code = LD_OK;
    while (code == LD_OK && serve->slot_count < count)
        code = ld_bench_picture_create(&serve->slots[serve->slot_count++].picture, &serve->painter,
                                       err);
    for (uint32_t s = 0; s < count; s++) {
        serve->slots[s].flying = false;
        serve->slots[s].ended = 0;
        serve->slots[s].seed = WATCHED_SEED + s;
    }
    serve->next_seed = WATCHED_SEED + count;
    return code;
}

static uint32_t ended_at_least(const struct serve *serve, uint32_t count)
{
    uint32_t least = UINT32_MAX;
    for (uint32_t s = 0; s < count; s++)
        least = serve->slots[s].ended < least ? serve->slots[s].ended : least;
    return least;
}

static uint32_t ended_in_all(const struct serve *serve, uint32_t count)
{
    uint32_t all = 0;
    for (uint32_t s = 0; s < count; s++)
        all += serve->slots[s].ended;
    return all;
}

/* Measured from when every place has ended a picture, so that every size of batch has been seen. */
static enum ld_code fly(struct serve *serve, struct flight *flight, struct ld_error *err)
{
    const struct ld_bench_options *options = serve->painter.options;
    const uint32_t wanted =
        options->rounds > 2 * flight->count ? options->rounds : 2 * flight->count;
    double from = 0;
    uint32_t before = 0;
    bool warm = false;
    enum ld_code code = prepare(serve, flight->count, err);
    for (uint64_t t = 0; code == LD_OK && flight->pictures < wanted; t++) {
        for (uint64_t s = 0; code == LD_OK && s < flight->count; s++)
            if (!serve->slots[s].flying && t * flight->count >= s * options->steps)
                code = start(&serve->slots[s], flight, err);
        if (code == LD_OK)
            code = tick(serve, flight, err);
        if (!warm && ended_at_least(serve, flight->count) > 0) {
            warm = true;
            from = ld_bench_now_ms();
            before = ended_in_all(serve, flight->count);
            flight->step.count = flight->decode.count = flight->text.count = 0;
        }
        flight->pictures = warm ? ended_in_all(serve, flight->count) - before : 0;
    }
    flight->seconds = 1e-3 * (ld_bench_now_ms() - from);
    ld_bench_times_finish(&flight->step);
    ld_bench_times_finish(&flight->decode);
    ld_bench_times_finish(&flight->text);
    return code;
}

/* ---- The verb -------------------------------------------------------------------------------- */

static void report(const struct serve *serve, const struct flight *flight, struct ld_buffer *json)
{
    const double rate = (double)flight->pictures / flight->seconds;
    ld_buffer_format(json,
                     "%s{\"in_flight\":%u,\"pictures\":%u,\"seconds\":%.5g,"
                     "\"pictures_per_second\":%.5g,\"same_bits\":%s",
                     flight->count == 1 ? "" : ",", flight->count, flight->pictures,
                     flight->seconds, rate, flight->same_bits ? "true" : "false");
    ld_buffer_text(json, ",\"step\":");
    ld_bench_times_json(json, &flight->step);
    ld_buffer_text(json, ",\"decode\":");
    ld_bench_times_json(json, &flight->decode);
    ld_buffer_text(json, ",\"text\":");
    ld_bench_times_json(json, &flight->text);
    ld_buffer_text(json, "}");
    if (!serve->painter.options->json)
        printf("%2u in flight: %7.3f pictures/s; step %.2f ms, decode %.2f ms, both prompts %.2f "
               "ms; the watched picture's bits are %s\n",
               flight->count, rate, flight->step.median, flight->decode.median, flight->text.median,
               flight->same_bits ? "those it has alone" : "OTHERS");
    (void)fflush(stdout);
}

/* 1, 2, 4 ... up to what was asked for, or to what the device holds, or what the time allows: twice
 * as many take about twice as long. */
static enum ld_code fly_all(struct serve *serve, struct flight *flight, struct ld_buffer *json,
                            double begun, struct ld_error *err)
{
    const uint32_t most = (uint32_t)serve->painter.options->batch;
    const double limit = 1000 * (double)serve->painter.options->seconds;
    double from = ld_bench_now_ms();
    double took = 0;
    for (uint32_t count = 1; count <= most; count *= 2) {
        if (limit > 0 && count > 1 && from - begun + 2 * took > limit) {
            (void)fprintf(stderr, "latentd bench serve: no time for %u in flight\n", count);
            return LD_OK;
        }
        memset(flight, 0, sizeof *flight);
        flight->count = count;
        const enum ld_code code = fly(serve, flight, err);
        if (count > 1 && (code == LD_E_GPU_NOMEM || code == LD_E_NOMEM)) {
            (void)fprintf(stderr, "latentd bench serve: %u in flight: %s\n", count, err->detail);
            return LD_OK;
        }
        if (code != LD_OK)
            return code;
        report(serve, flight, json);
        took = ld_bench_now_ms() - from;
        from += took;
    }
    return LD_OK;
}

enum ld_code ld_bench_serve(const struct ld_bench_options *options, struct ld_buffer *json,
                            struct ld_error *err)
{
    const double begun = ld_bench_now_ms();
    struct serve *serve = ld_heap_calloc(1, sizeof *serve);
    struct flight *flight = ld_heap_calloc(1, sizeof *flight);
    enum ld_code code = LD_OK;
    if (!serve || !flight)
        code = LD_FAIL(err, LD_E_NOMEM, "not enough memory");
    if (code == LD_OK)
        code = open_serve(serve, options, err);
    if (code == LD_OK) {
        ld_buffer_text(json, "{");
        ld_bench_json_head(json, options, serve->painter.backend);
        ld_buffer_format(json, ",\"width\":%d,\"height\":%d,\"steps\":%u,\"rows\":[",
                         options->width, options->height, options->steps);
        code = fly_all(serve, flight, json, begun, err);
        ld_buffer_text(json, "]}");
    }
    if (serve)
        close_serve(serve);
    ld_heap_free(flight);
    ld_heap_free(serve);
    return code;
}
