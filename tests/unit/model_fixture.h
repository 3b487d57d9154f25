/*
 * Model files made for tests: tensors are listed, renamed or dropped, then written with values that
 * depend on their canonical name alone. A folder of its own is removed with all it holds.
 */
#ifndef LD_TESTS_MODEL_FIXTURE_H
#define LD_TESTS_MODEL_FIXTURE_H

#include "runtime/model/safetensors_write.h"
#include "runtime/model/weights.h"

enum { FIXTURE_TENSORS_MAX = 2048, FIXTURE_NAME_SIZE = 192 };

struct fixture_tensor {
    char name[FIXTURE_NAME_SIZE];
    char seed[FIXTURE_NAME_SIZE]; /* decides the values; the name at the time of adding */
    const float *values;          /* or NULL: from the seed */
    enum ld_dtype dtype;
    uint32_t rank;
    uint64_t shape[LD_ST_RANK_MAX];
};

/* Large: keep it static. */
struct fixture {
    struct fixture_tensor tensors[FIXTURE_TENSORS_MAX];
    uint32_t count;
    struct ld_st_note metadata[8];
    uint32_t metadata_count;
};

/* The widths of the smallest model there is, as JSON and as they are. */
extern const char *const fixture_config;
void fixture_arch(struct ld_arch *arch);

/* All tensors of that model in `dtype`, and the metadata that allows its widths. */
void fixture_model(struct fixture *fixture, enum ld_dtype dtype);

struct fixture_tensor *fixture_add(struct fixture *fixture, const char *name, enum ld_dtype dtype,
                                   uint32_t rank, const uint64_t *shape);
/* Shape [rows, columns]; [rows] if columns is 0; a scalar if both are. */
struct fixture_tensor *fixture_add_matrix(struct fixture *fixture, const char *name,
                                          enum ld_dtype dtype, uint64_t rows, uint64_t columns);
struct fixture_tensor *fixture_find(struct fixture *fixture, const char *name);
void fixture_remove(struct fixture *fixture, const char *prefix);
void fixture_rename(struct fixture *fixture, const char *old_prefix, const char *new_prefix);
void fixture_note(struct fixture *fixture, const char *key, const char *value);

/* The value before rounding to the tensor's type: |value| < 0.5. */
float fixture_value(const char *seed, uint64_t index);

void fixture_write(const struct fixture *fixture, const char *path);

/* ---- Files ----------------------------------------------------------------------------------- */

/* A new folder; its path in `out`. */
void fixture_folder(char out[256]);
void fixture_remove_folder(const char *path);
/* "folder/name" in a static buffer of its own for each of the last four calls. */
const char *fixture_path(const char *folder, const char *name);
void fixture_text(const char *path, const void *bytes, size_t size);

#endif
