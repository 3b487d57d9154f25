/*
 * Times the making of a weight variant on the CPU backend, as a job with an adapter waits for it.
 *
 *     variant CHECKPOINT ADAPTER [RUNS [THREADS]]
 *
 * Prints seconds on the clock and of processor time, run by run, each beside plain copies of as
 * many bytes into fresh memory on the same threads: the ratio is what a busy machine changes least.
 * The copy before a run shows what the machine takes to give that memory: a virtual one may fetch
 * it from its host first, at a tenth of the speed, and what was given is there for the run.
 * variant.py makes an adapter of any rank over every matrix and convolution of a checkpoint's UNet.
 */
#include "runtime/base/arena.h"
#include "runtime/base/thread.h"
#include "runtime/model/adapter.h"
#include "runtime/model/model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static double now(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- A plain copy ---------------------------------------------------------------------------- */

enum { PIECE_BYTES = 4 << 20 };

struct copy {
    const char *from; /* a piece */
    char *to;
    size_t bytes;
};

static void copy_piece(void *ctx, uint32_t task, uint32_t worker)
{
    (void)worker;
    const struct copy *copy = ctx;
    const size_t at = (size_t)task * PIECE_BYTES;
    const size_t left = copy->bytes - at;
    memcpy(copy->to + at, copy->from, left < PIECE_BYTES ? left : PIECE_BYTES);
}

/* Seconds for copying `bytes` into memory that nobody has touched; 0 without memory. */
static double time_copy(size_t bytes, struct ld_pool *pool)
{
    char *from = ld_block_alloc(PIECE_BYTES);
    struct copy copy = {.from = from, .to = ld_block_alloc(bytes), .bytes = bytes};
    double seconds = 0;
    if (from && copy.to) {
        memset(from, 1, PIECE_BYTES);
        const double start = now(CLOCK_MONOTONIC);
        ld_pool_run(pool, (uint32_t)((bytes + PIECE_BYTES - 1) / PIECE_BYTES), copy_piece, &copy);
        seconds = now(CLOCK_MONOTONIC) - start;
    }
    if (from)
        ld_block_free(from, PIECE_BYTES);
    if (copy.to)
        ld_block_free(copy.to, bytes);
    return seconds;
}

/* ---- A variant ------------------------------------------------------------------------------- */

static enum ld_code make_variant(struct ld_model *model, const char *path, struct ld_pool *pool,
                                 struct ld_error *err)
{
    /* Twice: a checkpoint of 16-bit values is held as such, a variant as float32. */
    const double before = time_copy(2 * ld_model_weight_bytes(model), pool);
    struct ld_adapter *adapter = NULL;
    struct ld_weights *overlay = NULL;
    struct ld_variant *variant = NULL;
    struct ld_adapter_report report = {0};
    const struct ld_adapter_options options = {
        .unet_strength = 1, .text_strength = 1, .dora_norm = LD_DORA_MERGED, .pool = pool};
    const double start = now(CLOCK_MONOTONIC);
    const double start_cpu = now(CLOCK_PROCESS_CPUTIME_ID);
    enum ld_code code = ld_adapter_open(&adapter, path, err);
    if (code == LD_OK)
        code = ld_weights_overlay(&overlay, ld_model_weights(model), err);
    if (code == LD_OK)
        code = ld_adapter_apply(adapter, overlay, &options, &report, err);
    if (code == LD_OK)
        code = ld_variant_create(&variant, model, overlay, err);
    if (code == LD_OK)
        code = ld_variant_load(variant, err);
    const double seconds = now(CLOCK_MONOTONIC) - start;
    const double cpu = now(CLOCK_PROCESS_CPUTIME_ID) - start_cpu;
    const size_t bytes = variant ? ld_variant_bytes(variant) : 0;
    ld_variant_destroy(variant);
    if (code == LD_OK) {
        const double copy = time_copy(bytes, pool);
        printf("%u tensors, %u unmatched: %.3f s (processors %.3f s), %zu MiB; a copy of them "
               "%.3f s: %.2f times that; before the run %.3f s\n",
               report.tensors_applied, report.modules_unmatched, seconds, cpu, bytes >> 20, copy,
               copy > 0 ? seconds / copy : 0, before);
        fflush(stdout);
    }
    ld_weights_close(overlay);
    ld_adapter_close(adapter);
    return code;
}

int main(int argc, char **argv)
{
    struct ld_error err = {0};
    struct ld_backend *backend = NULL;
    struct ld_weights *weights = NULL;
    struct ld_model *model = NULL;
    struct ld_pool *pool = NULL;
    const int runs = argc > 3 ? atoi(argv[3]) : 3;
    const uint32_t threads = argc > 4 ? (uint32_t)atoi(argv[4]) : 0;
    if (argc < 3) {
        fputs("usage: variant CHECKPOINT ADAPTER [RUNS [THREADS]]\n", stderr);
        return 2;
    }
    enum ld_code code = ld_cpu_backend_create(&backend, threads, LD_CPU_AUTO, &err);
    if (code == LD_OK)
        code = ld_pool_create(&pool, threads, &err);
    if (code == LD_OK)
        code = ld_weights_open(&weights, argv[1], NULL, &err);
    if (code == LD_OK)
        code = ld_model_create(&model, backend, weights, &err);
    if (code == LD_OK)
        code = ld_model_load(model, LD_PART_UNET, &err);
    for (int i = 0; code == LD_OK && i < runs; i++)
        code = make_variant(model, argv[2], pool, &err);
    if (code != LD_OK)
        fprintf(stderr, "variant: %s\n", err.detail);
    ld_model_destroy(model);
    ld_weights_close(weights);
    ld_pool_destroy(pool);
    if (backend)
        backend->ops->destroy(backend);
    return code == LD_OK ? 0 : 1;
}
