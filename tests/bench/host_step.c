/*
 * Times what a sampler's step costs the host: turning x into the rows of a guided UNet call, their
 * results into an estimate, and that into the next x. The network is a stand-in that answers at
 * once. Prints one line a sampler, CPU time in milliseconds without the first call: the median of
 * what is drawn ahead while a GPU computes, then median and slowest of the rest, which the GPU
 * waits for. What a step in the graph could save is the rest and the bytes that pass the bus
 * (decision 0013).
 *
 *     bench_host_step [WIDTH HEIGHT [STEPS]]     pixels; 1024 1024 20 by default
 */
#include "runtime/pass.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { STEPS_MAX = 150, CALLS_MAX = 4 * STEPS_MAX };

static int compare(const void *a, const void *b)
{
    const int64_t x = *(const int64_t *)a;
    const int64_t y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

/* This thread's own time: what else the machine does is none of the step's. */
static int64_t cpu_us(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

/* The rows of one call as a pass of the engine sees them: x in float32, the estimate back. */
static void answer(struct ld_pass *pass, const float *eps, float *x, size_t count)
{
    uint32_t rows_count;
    struct ld_pass_row *rows = ld_pass_rows(pass, &rows_count);
    for (uint32_t i = 0; i < rows_count; i++) {
        if (rows[i].done)
            continue;
        for (size_t k = 0; k < count; k++)
            x[k] = (float)rows[i].x[k];
        ld_pass_row_done(pass, &rows[i], eps, NULL, 0);
    }
}

static bool time_sampler(const char *name, int32_t width, int32_t height, int32_t steps,
                         const float *eps, float *x)
{
    static int64_t times[CALLS_MAX];
    static int64_t ahead[CALLS_MAX];
    static const double weight = 1;
    const size_t count = (size_t)4 * (size_t)(width / 8) * (size_t)(height / 8);
    struct ld_error err = {0};
    struct ld_arena arena;
    struct ld_request request;
    struct ld_pass *pass = NULL;
    uint32_t calls = 0;
    ld_request_default(&request);
    request.sampler = name;
    request.steps = steps;
    request.cfg_scale = 7;
    request.seed_random = false;
    ld_arena_init(&arena, "pass", ld_pass_arena_bytes(height / 8, width / 8));
    const struct ld_pass_config config = {.request = &request,
                                          .table = ld_sigma_table_default(),
                                          .prediction = LD_PREDICT_EPS,
                                          .height = height / 8,
                                          .width = width / 8,
                                          .parts = 1,
                                          .part_weights = &weight};
    bool good = ld_pass_create(&pass, &arena, &config, &err) == LD_OK;
    while (good && calls < CALLS_MAX) {
        const int64_t start_us = cpu_us();
        if (ld_pass_open(pass, &err) != LD_PASS_ROWS)
            break;
        const int64_t opened_us = cpu_us();
        ld_pass_ahead(pass);
        ahead[calls] = cpu_us() - opened_us;
        answer(pass, eps, x, count);
        good = ld_pass_close(pass, &err) == LD_OK;
        times[calls] = cpu_us() - start_us - ahead[calls];
        calls++;
    }
    if (good && calls > 1) {
        qsort(times + 1, calls - 1, sizeof *times, compare);
        qsort(ahead + 1, calls - 1, sizeof *ahead, compare);
        printf("%-22s %4u calls  ahead %7.3f ms  then median %7.3f ms  slowest %7.3f ms\n", name,
               (unsigned)calls, (double)ahead[1 + (calls - 1) / 2] / 1e3,
               (double)times[1 + (calls - 1) / 2] / 1e3, (double)times[calls - 1] / 1e3);
    } else {
        printf("%-22s %s\n", name, err.detail);
    }
    ld_arena_deinit(&arena);
    return good;
}

int main(int argc, char **argv)
{
    static const char *const samplers[] = {"euler",        "euler_ancestral", "dpmpp_2m",
                                           "dpmpp_2m_sde", "dpmpp_sde",       "ddim",
                                           "lcm",          "uni_pc"};
    int64_t given[] = {1024, 1024, 20}; /* width, height, steps */
    bool good = argc == 1 || argc == 3 || argc == 4;
    for (int i = 1; good && i < argc; i++)
        good = ld_parse_i64(ld_span_text(argv[i]), &given[i - 1]);
    for (int i = 0; i < 2; i++)
        good = good && given[i] >= 64 && given[i] <= 4096 && given[i] % 8 == 0;
    if (!good || given[2] < 2 || given[2] > STEPS_MAX) {
        fprintf(stderr, "usage: bench_host_step [WIDTH HEIGHT [STEPS]]\n");
        return 2;
    }
    const int32_t width = (int32_t)given[0];
    const int32_t height = (int32_t)given[1];
    const int32_t steps = (int32_t)given[2];
    const size_t count = (size_t)4 * (size_t)(width / 8) * (size_t)(height / 8);
    float *eps = ld_heap_calloc(count, sizeof *eps);
    float *x = ld_heap_calloc(count, sizeof *x);
    good = eps && x;
    for (size_t i = 0; good && i < count; i++)
        eps[i] = (float)((double)(i * 2654435761U % 65536) / 32768 - 1);
    for (size_t s = 0; good && s < sizeof samplers / sizeof samplers[0]; s++)
        good = time_sampler(samplers[s], width, height, steps, eps, x);
    ld_heap_free(x);
    ld_heap_free(eps);
    return good ? 0 : 1;
}
