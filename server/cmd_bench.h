/*
 * What the measuring verbs (`latentd bench kernels|step|image|serve`) share: their options, a
 * backend to measure, inputs that look like real ones, and figures as numbers with a spread.
 */
#ifndef LD_SERVER_CMD_BENCH_H
#define LD_SERVER_CMD_BENCH_H

#include "kernels/ops.h"
#include "runtime/base/buffer.h"

enum { LD_BENCH_ROUNDS_MAX = 1000, LD_BENCH_TOKENS = 77, LD_BENCH_JSON_MAX = 8 << 20 };

struct ld_bench_options {
    const char *what;      /* the word after `bench` */
    const char *backend;   /* "auto", "cpu", "cuda" */
    const char *precision; /* "fp16", "bf16": CUDA only */
    const char *model;     /* checkpoint, or NULL */
    const char *network;   /* kernels: "unet", "vae" */
    const char *inputs;    /* step --pipe: folder with x.f32 and context.f32, or NULL */
    int32_t width, height, batch;
    uint32_t steps, rounds, threads;
    uint32_t seconds; /* serve: more in flight are not begun if they would end later; 0: no limit */
    bool json, pipe, tune, profile, stream, fp16_accumulate, help;
};

/* False (and a sentence on stderr) for wrong usage. */
bool ld_bench_options_read(struct ld_bench_options *options, int argc, char **argv);

/*
 * Errors   LD_E_UNSUPPORTED (not in this build, no such device), those of the backend.
 */
enum ld_code ld_bench_backend_open(struct ld_backend **out, const struct ld_bench_options *options,
                                   struct ld_error *err) LD_MUST_USE;

/* The checkpoint of the options, which name one; its weights are streamed where they ask for it.
 * Errors   those of ld_model_open. */
struct ld_model;
enum ld_code ld_bench_model_open(struct ld_model **out, struct ld_backend *backend,
                                 const struct ld_bench_options *options,
                                 struct ld_error *err) LD_MUST_USE;

/* ---- Figures --------------------------------------------------------------------------------- */

/* Milliseconds. `low` and `high` are the 10th and 90th percentile. */
struct ld_bench_times {
    double ms[LD_BENCH_ROUNDS_MAX];
    uint32_t count;
    double median, low, high;
};

void ld_bench_times_add(struct ld_bench_times *times, double ms);
/* Fills median, low and high; sorts `ms`. All zero without a value. */
void ld_bench_times_finish(struct ld_bench_times *times);
/* {"median_ms":..,"p10_ms":..,"p90_ms":..,"rounds":..} */
void ld_bench_times_json(struct ld_buffer *out, const struct ld_bench_times *times);

double ld_bench_now_ms(void);

/* "key":"value" pairs that every document starts with: program, backend, device. */
void ld_bench_json_head(struct ld_buffer *out, const struct ld_bench_options *options,
                        const struct ld_backend *backend);

/* Standard normals of one seed; never zeros, which run faster than real data. */
void ld_bench_normal(uint64_t seed, float *out, size_t count);

/* ---- The verbs ------------------------------------------------------------------------------- */

enum ld_code ld_bench_kernels(const struct ld_bench_options *options, struct ld_buffer *json,
                              struct ld_error *err) LD_MUST_USE;
enum ld_code ld_bench_step(const struct ld_bench_options *options, struct ld_buffer *json,
                           struct ld_error *err) LD_MUST_USE;
enum ld_code ld_bench_image(const struct ld_bench_options *options, struct ld_buffer *json,
                            struct ld_error *err) LD_MUST_USE;
enum ld_code ld_bench_serve(const struct ld_bench_options *options, struct ld_buffer *json,
                            struct ld_error *err) LD_MUST_USE;

#endif
