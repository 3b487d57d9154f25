/*
 * golden_check: runs every known case file below the given folders and prints one line a case,
 *     ok|FAIL|skip NAME ERROR TOLERANCE
 * then `N passed, N failed`. A file or tensor below the folders that no check asked for fails. A file kind is one row of the table in main.c: the suffix of its path
 * and the function that runs it. Files a folder lacks are looked for in --base.
 */
#ifndef LD_GOLDEN_CHECK_H
#define LD_GOLDEN_CHECK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef LATENTD_MINIMAL
#include "tests/tools/tiny_json.h"
#else
#include <jansson.h>
#endif

struct gc {
    const char *base;      /* --base DIR or NULL */
    const char *vocab;     /* --vocab DIR: folder with the CLIP vocabulary, or NULL */
    const char *spec;      /* --spec DIR: folder with sd15_keys.json etc., or NULL */
    const char *backend;   /* --backend cpu|cuda: what the networks run on; NULL: cpu */
    const char *precision; /* --precision fp16|bf16: of cuda */
    uint32_t passed, failed, skipped;
};

/* Report one case. `ok` = (error <= tolerance) unless the case is exact: then pass tolerance 0. */
void gc_report(struct gc *gc, const char *name, double error, double tolerance);
void gc_exact(struct gc *gc, const char *name, bool ok);
void gc_skip(struct gc *gc, const char *name, const char *why);
void gc_fail(struct gc *gc, const char *name, const char *why);

/* `root`/`relative`, else `base`/`relative`; the path in `out`, false if neither exists. */
bool gc_find(const struct gc *gc, const char *root, const char *relative, char *out,
             size_t out_size);

/* Whole file; caller frees with free(). NULL on failure. */
char *gc_read_file(const char *path, size_t *size);

/* .npy of <f4 or <f8, as double; caller frees data. False on failure. */
struct gc_array {
    double *data;
    size_t count;
    int32_t rank;
    int64_t shape[8];
    bool is_f4;
};
bool gc_npy_load(const char *path, struct gc_array *array);
void gc_array_free(struct gc_array *array);

/* Tensor from a golden safetensors file, as double (integers by value). */
struct gc_tensors; /* an open file */
struct gc_tensors *gc_tensors_open(const char *path);
bool gc_tensors_get(struct gc_tensors *tensors, const char *name, struct gc_array *array);
/* The names one after the other; NULL past the last. */
const char *gc_tensors_name(struct gc_tensors *tensors, size_t index);
void gc_tensors_close(struct gc_tensors *tensors);

/* ||a-b|| / ||b||, and max|a-b| / max|b|; infinity on a count mismatch or a NaN in only one. */
double gc_relative_l2(const double *a, const double *b, size_t count);
double gc_relative_max(const double *a, const double *b, size_t count);
double gc_absolute_max(const double *a, const double *b, size_t count);

/* One row of the dispatch table. `root` is the path minus `suffix`. */
struct gc_kind {
    const char *suffix; /* "traj/manifest.json" */
    void (*run)(struct gc *gc, const char *root, const char *path);
};

/* Each family of checks exports its rows, ended by {NULL, NULL}. */
extern const struct gc_kind gc_kinds_text[];     /* tokenizer, prompts, wildcards, schedules */
extern const struct gc_kind gc_kinds_weights[];  /* st_index, detect, dtypes, adapters, merges */
extern const struct gc_kind gc_kinds_model[];    /* ops, tiny_*, full_*, ti, emphasis */
extern const struct gc_kind gc_kinds_schedule[]; /* tables, schedules, traj, traj_vp */
extern const struct gc_kind gc_kinds_noise[];    /* rng, guidance, resize, deepshrink */

#endif
