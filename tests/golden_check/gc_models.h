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

/* ---- Block statistics ------------------------------------------------------------------------ */

/* Compares every named block that runs with the statistics a case file gives for it (mean, standard
 * deviation, largest magnitude, L2 norm and 16 samples), and with the whole of it where the case has
 * that as a tensor. */
struct gc_blocks {
    const json_t *expected; /* object: block name -> statistics */
    struct gc_tensors *tensors;
    const char *case_id;
    double worst;
    char worst_name[64];
    uint32_t seen;
};

void gc_blocks_begin(struct gc_blocks *blocks, const json_t *expected, struct gc_tensors *tensors,
                     const char *case_id, struct ld_model *model);
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
