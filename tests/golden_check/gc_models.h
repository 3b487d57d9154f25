/* Models that the golden cases of this family run on, opened once and kept. */
#ifndef LD_GOLDEN_CHECK_MODELS_H
#define LD_GOLDEN_CHECK_MODELS_H

#include "runtime/model/model.h"
#include "tests/golden_check/gc.h"

/* The backend that gc->backend names; NULL (and a failed case) if there is none. */
struct ld_backend *gc_backend(struct gc *gc);

/* The tolerance of a network's result on that backend: `float32`, or that of 16-bit activations. */
double gc_tolerance(struct gc *gc, double float32);

/* tiny.safetensors beside the cases or in --base. NULL: not found or not loadable, and reported as
 * a failed case under `name`. */
struct ld_model *gc_tiny_model(struct gc *gc, const char *root, const char *name);

/* SD1.5's shapes with generated weights, only the given parts (mask of LD_PART_BIT). The latest one
 * is kept, so cases of the same parts share it. */
struct ld_model *gc_full_model(struct gc *gc, uint32_t parts, const char *name);

/* ---- Runs of one case ------------------------------------------------------------------------ */

/*
 * In 16 bits the tiny model's deepest level, of one position, leaves a group norm two values a
 * group: the last bit of one of them, rounded the other way, moves the case's answer by 1 to 3 %,
 * and which way it is rounded hangs on the last bit of sums whose order is a device's own.
 * (Exponentials one unit in the last place off, of 12 kinds: 7 took some case beyond 1e-2, while
 * errors are near 2.5e-3 otherwise.) So where such a case is wrong it runs on up to eight
 * neighbours, latents that differ by 2^-18 of their value, far below every tolerance, and three of
 * them must be right. A kernel that computes something else is wrong in all. SD1.5's own widths
 * have ten values a group at least, and float32 rounds nothing away: one run.
 */
enum { GC_NEIGHBOURS_MAX = 8, GC_NEIGHBOURS_RIGHT = 3 };
struct gc_runs {
    double first;
    double near[GC_NEIGHBOURS_MAX]; /* of the neighbours, ascending */
    int32_t count;                  /* of all runs */
};

/* Runs at most: 1, or the first and all neighbours. */
int32_t gc_runs_wanted(struct gc *gc, const struct ld_model *model);
/* Run 0 has x itself. */
void gc_runs_latents(float *out, const float *x, size_t count, int32_t run);
void gc_runs_add(struct gc_runs *runs, double error);
/* The first run's where that is within the tolerance or alone, else the third smallest of the
 * neighbours'. */
double gc_runs_error(const struct gc_runs *runs, double tolerance);
/* Within the tolerance: no further run changes that. */
bool gc_runs_are_enough(const struct gc_runs *runs, double tolerance);

/* ---- Block statistics ------------------------------------------------------------------------ */

/* Compares every named block that runs with the statistics a case file gives for it (mean, standard
 * deviation, largest magnitude, L2 norm and 16 samples), and with the whole of it where the case
 * has that as a tensor. */
struct gc_blocks {
    const json_t *expected; /* object: block name -> statistics */
    struct gc_tensors *tensors;
    const char *case_id;
    double worst; /* of the present run */
    char worst_name[64];
    uint32_t seen;
    struct gc_runs runs;
};

void gc_blocks_begin(struct gc_blocks *blocks, const json_t *expected, struct gc_tensors *tensors,
                     const char *case_id, struct ld_model *model);
/* A run is over; another begins, or the end follows. */
void gc_blocks_run(struct gc_blocks *blocks);
/* Reports one line "<case>/blocks"; a block that never came is a failure. */
void gc_blocks_end(struct gc *gc, struct gc_blocks *blocks, struct ld_model *model,
                   const char *case_id, double tolerance);

/* The error of one tensor against its statistics, relative to its scale. */
double gc_statistics_error(const float *values, size_t count, const json_t *expected);

/* ---- Small helpers --------------------------------------------------------------------------- */

/* "<a>/<b>" in a static buffer of the caller's. */
const char *gc_join(char *out, size_t size, const char *a, const char *b);

/* Tensor as float32; caller frees with free(). NULL if absent. `shape` may be NULL. */
float *gc_floats(struct gc_tensors *tensors, const char *case_id, const char *name,
                 struct gc_array *shape);

/* Relative L2 distance of float results to a golden tensor; infinity if it is absent or of another
 * size. */
double gc_distance(struct gc_tensors *tensors, const char *case_id, const char *name,
                   const float *values, size_t count);

/* The "cases" of a file and its tensors; false (and a failed case) if they cannot be read. */
struct gc_case_file {
    json_t *json;
    const json_t *cases;
    struct gc_tensors *tensors;
};
bool gc_case_file_open(struct gc *gc, const char *root, const char *path,
                       struct gc_case_file *file);
void gc_case_file_close(struct gc_case_file *file);

#endif
