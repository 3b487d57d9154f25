/*
 * Times the packing of a checkpoint's UNet for the CUDA kernels, as the first request after a start
 * waits for it (kernels.md 11), beside plain copies of as many bytes: the ratio is what a busy
 * machine changes least.
 *
 *     pack CHECKPOINT [RUNS [THREADS]]
 *
 * The backend's own weight_create packs over a fake GPU that drops what is sent to it, as a copy
 * engine takes no processor's time; the copies go from the same mapped file into a buffer as large
 * as the backend's two, on as many threads, in loads of their own. Both are warm: the first round,
 * which maps the file's pages, is shown and left out of the medians.
 */
#include "kernels/check.h"
#include "kernels/cuda/backend.h"
#include "runtime/base/arena.h"
#include "runtime/base/thread.h"
#include "runtime/model/model.h"
#include "tests/cuda/fake_gpu.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { RUNS_MAX = 100, PIECE_BYTES = 1 << 18, BUFFER_BYTES = 32 << 20 };

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- Kinds of weights ------------------------------------------------------------------------ */

enum kind { LINEAR, GEGLU, CONV1, CONV3, CONV3_UP, OTHER, KINDS };
static const char *const kind_names[KINDS] = {
    "linear", "geglu", "conv 1x1", "conv 3x3", "conv 3x3, upsampling", "tables, vectors"};

static enum kind kind_of(const struct ld_weight_desc *desc)
{
    switch (desc->kind) {
    case LD_WEIGHT_LINEAR:
        return LINEAR;
    case LD_WEIGHT_GEGLU:
        return GEGLU;
    case LD_WEIGHT_CONV:
        return desc->kernel == 1 ? CONV1 : desc->upsampled ? CONV3_UP : CONV3;
    case LD_WEIGHT_VECTOR:
    case LD_WEIGHT_TABLE:
        break;
    }
    return OTHER;
}

/* One load of the network: bytes made, seconds for them, seconds for copying as many. */
struct round {
    double bytes[KINDS], pack[KINDS], copy[KINDS];
};

/* ---- Both ways ------------------------------------------------------------------------------- */

/* The backend's table with a clock around weight_create, or with copies in its place. */
static struct {
    const struct ld_ops *inner;
    struct ld_pool *pool;
    unsigned char *buffer;
    struct round *round;
} under;

static enum ld_code timed_create(struct ld_backend *backend, const struct ld_weight_desc *desc,
                                 struct ld_weight **out, struct ld_error *err)
{
    const enum kind kind = kind_of(desc);
    const double start = now();
    const enum ld_code code = under.inner->weight_create(backend, desc, out, err);
    under.round->pack[kind] += now() - start;
    if (code == LD_OK)
        under.round->bytes[kind] += (double)under.inner->weight_bytes(*out);
    return code;
}

struct copy {
    const struct ld_weight_desc *desc;
    size_t bytes, source;
};

/* From the start of the first part on, over and over: what is packed may be more than was read. */
static void copy_piece(void *ctx, uint32_t task, uint32_t worker)
{
    const struct copy *copy = ctx;
    const unsigned char *from = copy->desc->parts[0].data;
    const size_t at = (size_t)task * PIECE_BYTES;
    size_t left = copy->bytes - at < PIECE_BYTES ? copy->bytes - at : PIECE_BYTES;
    unsigned char *to = under.buffer + at % BUFFER_BYTES;
    (void)worker;
    for (size_t done = 0; left > 0;) {
        const size_t start = (at + done) % copy->source;
        const size_t whole = copy->source - start < left ? copy->source - start : left;
        memcpy(to + done, from + start, whole);
        done += whole;
        left -= whole;
    }
}

static enum ld_code copied_create(struct ld_backend *backend, const struct ld_weight_desc *desc,
                                  struct ld_weight **out, struct ld_error *err)
{
    const int32_t taps = desc->kind == LD_WEIGHT_CONV ? desc->kernel * desc->kernel : 1;
    const size_t source = (size_t)ld_weight_part_rows(desc, 0) * (size_t)desc->k * (size_t)taps *
                          ld_dtype_size(desc->parts[0].dtype);
    struct copy copy = {
        .desc = desc, .bytes = under.inner->weight_plan_bytes(backend, desc), .source = source};
    (void)err;
    const double start = now();
    ld_pool_run(under.pool, (uint32_t)((copy.bytes + PIECE_BYTES - 1) / PIECE_BYTES), copy_piece,
                &copy);
    under.round->copy[kind_of(desc)] += now() - start;
    *out = (void *)under.buffer; /* something that is there; nobody runs it */
    return LD_OK;
}

static size_t no_bytes(const struct ld_weight *weight)
{
    (void)weight;
    return 0;
}

static void no_destroy(struct ld_backend *backend, struct ld_weight *weight)
{
    (void)backend;
    (void)weight;
}

static enum ld_code load_with(struct ld_backend *backend, const struct ld_ops *ops,
                              const struct ld_weights *weights, struct ld_error *err)
{
    struct ld_model *model = NULL;
    backend->ops = ops;
    enum ld_code code = ld_model_create(&model, backend, weights, err);
    if (code == LD_OK)
        code = ld_model_load(model, LD_PART_UNET, err);
    ld_model_destroy(model);
    backend->ops = under.inner;
    return code;
}

static enum ld_code load_twice(struct ld_backend *backend, const struct ld_weights *weights,
                               struct round *round, struct ld_error *err)
{
    struct ld_ops timed = *under.inner;
    struct ld_ops copied = *under.inner;
    timed.weight_create = timed_create;
    copied.weight_create = copied_create;
    copied.weight_bytes = no_bytes;
    copied.weight_destroy = no_destroy;
    under.round = round;
    memset(round, 0, sizeof *round);
    const enum ld_code code = load_with(backend, &timed, weights, err);
    return code == LD_OK ? load_with(backend, &copied, weights, err) : code;
}

/* ---- Figures --------------------------------------------------------------------------------- */

static double total(const double *of)
{
    double sum = 0;
    for (int k = 0; k < KINDS; k++)
        sum += of[k];
    return sum;
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a;
    const double y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, int count)
{
    qsort(values, (size_t)count, sizeof *values, ascending);
    return (values[(count - 1) / 2] + values[count / 2]) / 2;
}

static void print_line(const char *name, double bytes, double pack, double copy)
{
    printf("%-22s %8.1f MiB  packed %.3f s (%.2f GB/s)  copied %.3f s (%.2f GB/s)  ratio %.2f\n",
           name, bytes / (1 << 20), pack, bytes / pack * 1e-9, copy, bytes / copy * 1e-9,
           pack / copy);
}

/* Medians of each column by itself, over all rounds but the first. */
static void report(const struct round *rounds, int runs)
{
    double pack[RUNS_MAX];
    double copy[RUNS_MAX];
    const struct round *first = &rounds[0];
    print_line("first round", total(first->bytes), total(first->pack), total(first->copy));
    for (int k = 0; k <= KINDS; k++) {
        for (int r = 1; r <= runs; r++) {
            pack[r - 1] = k < KINDS ? rounds[r].pack[k] : total(rounds[r].pack);
            copy[r - 1] = k < KINDS ? rounds[r].copy[k] : total(rounds[r].copy);
        }
        const double bytes = k < KINDS ? first->bytes[k] : total(first->bytes);
        if (bytes > 0)
            print_line(k < KINDS ? kind_names[k] : "all", bytes, median(pack, runs),
                       median(copy, runs));
    }
}

int main(int argc, char **argv)
{
    static struct round rounds[RUNS_MAX + 1];
    struct ld_error err = {0};
    struct ld_backend *backend = NULL;
    struct ld_weights *weights = NULL;
    const int runs = argc > 2 ? atoi(argv[2]) : 5;
    const uint32_t threads = argc > 3 ? (uint32_t)atoi(argv[3]) : 0;
    if (argc < 2 || runs < 1 || runs > RUNS_MAX) {
        fputs("usage: pack CHECKPOINT [RUNS [THREADS]]\n", stderr);
        return 2;
    }
    fake_gpu_reset();
    fake_gpu.drop_uploads = true;
    const struct ld_cuda_options options = {.dtype = LD_DTYPE_F16, .threads = threads};
    under.buffer = ld_block_alloc(BUFFER_BYTES);
    enum ld_code code = under.buffer ? LD_OK : LD_FAIL(&err, LD_E_NOMEM, "out of memory");
    if (code == LD_OK)
        code = ld_cuda_backend_create(&backend, &options, &err);
    if (code == LD_OK)
        code = ld_pool_create(&under.pool, threads, &err);
    if (code == LD_OK)
        code = ld_weights_open(&weights, argv[1], NULL, &err);
    if (code == LD_OK) {
        under.inner = backend->ops;
        for (int r = 0; code == LD_OK && r <= runs; r++)
            code = load_twice(backend, weights, &rounds[r], &err);
    }
    if (code == LD_OK)
        report(rounds, runs);
    else
        fprintf(stderr, "pack: %s\n", err.detail);
    ld_weights_close(weights);
    ld_pool_destroy(under.pool);
    if (under.buffer)
        ld_block_free(under.buffer, BUFFER_BYTES);
    if (backend)
        backend->ops->destroy(backend);
    return code == LD_OK ? 0 : 1;
}
