/*
 * The real backend and tuner over a fake GPU with a clock of its own: what is open, what runs on
 * it, and what the files of its folder say. What fails fails the test.
 */
#ifndef TUNER_FIXTURE_H
#define TUNER_FIXTURE_H

#include "kernels/cuda/backend.h"
#include "kernels/cuda/tuned.h"
#include "tests/cuda/fake_gpu.h"
#include "tests/unit/folder_fixture.h"

enum { ROWS = 12, K = 32, N = 24, X_VALUES = ROWS * K, Y_VALUES = ROWS * N };
enum { TOKENS = 10, HEADS = 2, DIM = 8, WIDTH = HEADS * DIM, QKV = TOKENS * 3 * WIDTH };

/* A fresh GPU and folder before each claim; after it no file but decisions and locks, and no memory,
 * may be left. */
int open_tuning(void **state);
int close_tuning(void **state);

/* What the file of a kind says, "tune-" or "idle-"; "" without one. Valid until the next call. */
const char *decisions_of(const char *prefix);
/* Of those that were asked for. */
const char *decisions(void);

struct ld_backend *open_with(const struct ld_cuda_options *options);
struct ld_backend *open_backend(enum ld_dtype dtype, bool tune);
/* One that measures when it is idle; `where` NULL: nothing is kept. */
struct ld_backend *open_idle(enum ld_dtype dtype, const char *where);

/* A linear layer [N,K] with its input [ROWS,K] and residual [ROWS,N]. */
struct layer {
    float matrix[N * K], bias[N], x[X_VALUES], residual[Y_VALUES];
    struct ld_weight *weight;
    void *x_device, *residual_device, *y_device;
};

void open_layer(struct layer *layer, struct ld_backend *backend);
void close_layer(struct layer *layer, struct ld_backend *backend);
/* All rows as two images, into `out`. */
void run_layer(struct layer *layer, struct ld_backend *backend, bool residual, uint16_t *out);
/* Relative L2 of what run_layer gave from float64. */
double distance(const struct layer *layer, const struct ld_backend *backend, bool residual,
                const uint16_t *got);

/* Two images of TOKENS rows attend to themselves; [2, TOKENS, WIDTH] into `out`. */
void attend(struct ld_backend *backend, uint16_t *out);

/* `bytes` of the device, waited for. */
void fetch(struct ld_backend *backend, uint16_t *out, const void *device, size_t bytes);

#endif
