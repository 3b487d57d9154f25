/*
 * Times the host's part of a pass over several pictures: the noise that is drawn while a GPU
 * computes, and what the GPU waits for (the network's answers to the samplers, their next x). Each
 * call is done by one thread and by several in turns, so that their ratio does not depend on what
 * else the machine does. Prints one line a sampler: milliseconds on the clock, medians.
 *
 *     bench_host_batch [PICTURES [THREADS [STEPS]]]     of 1024x1024; 8, one a core, 20 by default
 */
#include "runtime/base/clock.h"
#include "runtime/batch.h"

#include <stdio.h>
#include <stdlib.h>

enum { SIDE = 128, COUNT = 4 * SIDE * SIDE, PICTURES_MAX = 32, STEPS_MAX = 150, CALLS_MAX = 400 };

struct picture {
    struct ld_session session; /* first: acts get its address */
    const float *answer;
    bool failed;
};

struct times {
    double ahead[CALLS_MAX], rest[CALLS_MAX];
    uint32_t count;
};

static struct picture pictures[PICTURES_MAX];
static struct times one, many;

static int compare(const void *a, const void *b)
{
    const double x = *(const double *)a;
    const double y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, uint32_t count)
{
    qsort(values, count, sizeof *values, compare);
    return values[count / 2];
}

static void ahead(void *ctx, struct ld_session *session)
{
    (void)ctx;
    ld_pass_ahead(session->pass);
}

/* What batch.c and engine_sample.c do of a session when the network has answered. */
static void take_and_close(void *ctx, struct ld_session *session)
{
    (void)ctx;
    struct picture *picture = (struct picture *)session;
    struct ld_error err = {0};
    uint32_t count;
    struct ld_pass_row *rows = ld_pass_rows(session->pass, &count);
    for (uint32_t i = 0; i < count; i++)
        ld_pass_row_done(session->pass, &rows[i], picture->answer, NULL, 0);
    picture->failed = ld_pass_close(session->pass, &err) != LD_OK;
}

static bool open_passes(const struct ld_request *request, uint32_t count, const float *answer)
{
    static const double weight = 1;
    struct ld_error err = {0};
    const struct ld_pass_config config = {.request = request,
                                          .table = ld_sigma_table_default(),
                                          .prediction = LD_PREDICT_EPS,
                                          .height = SIDE,
                                          .width = SIDE,
                                          .parts = 1,
                                          .part_weights = &weight};
    for (uint32_t i = 0; i < count; i++) {
        struct ld_session *session = &pictures[i].session;
        pictures[i].answer = answer;
        ld_arena_init(&session->arena, "pass", ld_pass_arena_bytes(SIDE, SIDE));
        if (ld_pass_create(&session->pass, &session->arena, &config, &err) != LD_OK) {
            printf("%s\n", err.detail);
            return false;
        }
    }
    return true;
}

/* One call of every picture; false at the end. */
static bool call(const struct ld_batch *batch, struct times *times)
{
    struct ld_error err = {0};
    for (uint32_t i = 0; i < batch->count; i++)
        if (ld_pass_open(batch->sessions[i]->pass, &err) != LD_PASS_ROWS)
            return false;
    const int64_t start_us = ld_clock_monotonic_us();
    ld_batch_each(batch, ahead, NULL);
    const int64_t drawn_us = ld_clock_monotonic_us();
    ld_batch_each(batch, take_and_close, NULL);
    const int64_t closed_us = ld_clock_monotonic_us();
    times->ahead[times->count] = (double)(drawn_us - start_us) / 1e3;
    times->rest[times->count++] = (double)(closed_us - drawn_us) / 1e3;
    for (uint32_t i = 0; i < batch->count; i++)
        if (pictures[i].failed)
            return false;
    return times->count < CALLS_MAX;
}

static bool time_sampler(const char *name, uint32_t count, uint32_t steps, struct ld_pool *pool,
                         const float *answer)
{
    struct ld_request request;
    struct ld_batch batch = {.count = count};
    ld_request_default(&request);
    request.sampler = name;
    request.steps = (int32_t)steps;
    request.cfg_scale = 7;
    request.seed_random = false;
    one.count = many.count = 0;
    bool good = open_passes(&request, count, answer);
    for (uint32_t i = 0; i < count; i++)
        batch.sessions[i] = &pictures[i].session;
    for (uint32_t i = 0; good; i++) {
        batch.pool = i % 2 == 0 ? NULL : pool;
        good = call(&batch, i % 2 == 0 ? &one : &many);
    }
    good = one.count > 1 && many.count > 1;
    if (good) {
        const double rest[2] = {median(one.rest, one.count), median(many.rest, many.count)};
        printf("%-18s ahead %8.2f ms, side by side %8.2f;  then %7.2f ms, side by side %7.2f: "
               "%.2f times as fast\n",
               name, median(one.ahead, one.count), median(many.ahead, many.count), rest[0], rest[1],
               rest[0] / rest[1]);
    }
    for (uint32_t i = 0; i < count; i++)
        ld_arena_deinit(&pictures[i].session.arena);
    return good;
}

int main(int argc, char **argv)
{
    static const char *const samplers[] = {"euler", "euler_ancestral", "dpmpp_2m", "dpmpp_2m_sde",
                                           "dpmpp_sde"};
    int64_t given[] = {8, 0, 20}; /* pictures, threads, steps */
    bool good = argc <= 4;
    struct ld_pool *pool = NULL;
    struct ld_error err = {0};
    for (int i = 1; good && i < argc; i++)
        good = ld_parse_i64(ld_span_text(argv[i]), &given[i - 1]);
    if (!good || given[0] < 2 || given[0] > PICTURES_MAX || given[1] < 0 || given[1] > 1024 ||
        given[2] < 4 || given[2] > STEPS_MAX) {
        fprintf(stderr, "usage: bench_host_batch [PICTURES [THREADS [STEPS]]]\n");
        return 2;
    }
    float *answer = ld_heap_calloc(COUNT, sizeof *answer);
    good = answer && ld_pool_create(&pool, (uint32_t)given[1], &err) == LD_OK;
    for (size_t i = 0; good && i < COUNT; i++)
        answer[i] = (float)((double)(i * 2654435761U % 65536) / 32768 - 1);
    if (good)
        printf("%d pictures of 1024x1024, one thread and %u in turns\n", (int)given[0],
               ld_pool_threads(pool));
    for (size_t s = 0; good && s < sizeof samplers / sizeof samplers[0]; s++)
        good = time_sampler(samplers[s], (uint32_t)given[0], (uint32_t)given[2], pool, answer);
    ld_pool_destroy(pool);
    ld_heap_free(answer);
    return good ? 0 : 1;
}
