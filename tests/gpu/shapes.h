/*
 * The operators of the real networks with random operands, one at a time, and what each element of
 * their results must be: fp64 from the rounded operands, computed for any element on demand, since
 * no host computes a whole 1024x1024 step in fp64 while a device waits. Private to test_real.
 *
 * Activations are not generated for each operator: they are windows into one long noise that
 * repeats with a known period, so the host knows every value the device reads without a copy.
 */
#ifndef LD_TESTS_GPU_SHAPES_H
#define LD_TESTS_GPU_SHAPES_H

#include "kernels/cuda/kernels.h"
#include "runtime/model/graph.h"

enum {
    NOISE_PERIOD = 4194301, /* prime: no shape's row length divides it */
    NOISE_ROW_MAX = 16384,  /* elements of a row that are read in one piece */
    NAME_SIZE = 160
};

struct noise {
    enum ldk_dtype dtype;
    float *values; /* [NOISE_PERIOD + NOISE_ROW_MAX], rounded to dtype */
    unsigned char *device;
    size_t elements; /* on the device */
};

/* False without memory. `elements` is what the largest operator reads. */
bool noise_open(struct noise *noise, enum ldk_dtype dtype, size_t elements);
void noise_close(struct noise *noise);

static inline double noise_at(const struct noise *noise, size_t element)
{
    return (double)noise->values[element % NOISE_PERIOD];
}

/* NOISE_ROW_MAX elements from `element` on. */
static inline const float *noise_row(const struct noise *noise, size_t element)
{
    return noise->values + element % NOISE_PERIOD;
}

/* A window: device address and the element it begins at. */
struct window {
    const void *device;
    size_t first;
};
struct window noise_window(const struct noise *noise, uint32_t which);

/* ---- Weights of one operator, shared by all sizes and batches -------------------------------- */

struct layer {
    struct ldk_weight w; /* on the device */
    float *matrix;       /* [rows][k][taps] in checkpoint order, rounded to the packed type */
    float *bias;         /* [rows] */
    float *gamma, *beta; /* norms: [channels] */
    const float *gamma_device, *beta_device;
};

/* For an operator that has a matrix or gains; device memory is hc_free_all's. */
bool layer_open(struct layer *layer, const struct ld_weight_layout *layout,
                const struct ld_graph_op *op, enum ldk_dtype dtype);
void layer_close(struct layer *layer);

/* ---- One operator of one size, at one batch -------------------------------------------------- */

/* What an element is, and what its error may be. */
struct expected {
    double value;
    double limit; /* absolute; infinity: only the relative L2 of all counts */
};

struct job {
    enum ld_graph_op_kind kind;
    const struct noise *noise;
    const struct layer *layer;
    union {
        struct ldk_conv conv;
        struct ldk_linear linear;
        struct ldk_group_norm group_norm;
        struct ldk_layer_norm layer_norm;
        struct ldk_attention attention;
    } u;
    struct window x0, x1, residual;
    float *row_add;  /* host copy, [batch][stride] */
    int32_t *kv_len; /* host copy, [batch] */
    int32_t batch;
    size_t image_values; /* of the output */
    double l2_limit;
    void *scratch; /* device, as much as the launches so far wanted */
    size_t scratch_bytes;
    char name[NAME_SIZE];
    /* group_norm: statistics of the image that `stats_image` tells, by group */
    double *means, *scales;
    int32_t stats_image;
};

/*
 * The job for a graph's operator, its output pointer not set. `batch` replaces the graph's. False:
 * not an operator that is tested here (transfers, a few hundred bytes of arithmetic).
 */
bool job_open(struct job *job, const struct ld_graph *graph, const struct ld_graph_op *op,
              const struct layer *layer, const struct noise *noise, int32_t batch);
void job_close(struct job *job);

/* Launch into `y`, images [first, first + count) of the batch alone where count is less. */
int job_launch(struct job *job, void *y, int32_t first, int32_t count);
void job_set_variant(struct job *job, int32_t variant);
int32_t job_variants(struct job *job, struct ldk_variant *out, int32_t capacity);

/* Element `index` of image `image` of the output. */
struct expected job_expected(struct job *job, int32_t image, size_t index);

#endif
