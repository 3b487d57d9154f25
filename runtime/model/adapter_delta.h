/*
 * The change D that one module of an adapter makes to one weight, a few output rows at a time, so
 * that no copy of the whole matrix is needed whatever the family.
 */
#ifndef LD_MODEL_ADAPTER_DELTA_H
#define LD_MODEL_ADAPTER_DELTA_H

#include "runtime/model/adapter_private.h"
#include "runtime/model/keymap.h"

enum ld_delta_kind {
    LD_DELTA_NONE, /* the module does not change this weight, only its bias perhaps */
    LD_DELTA_LOWRANK,
    LD_DELTA_HADAMARD,
    LD_DELTA_KRONECKER,
    LD_DELTA_GLORA,
    LD_DELTA_DIFFERENCE,
    LD_DELTA_IA3,
    LD_DELTA_REPLACE /* W' is given, strength does not matter */
};

/* A weight seen as a matrix [out, in * kernel]. */
struct ld_delta {
    const struct ld_adapter *adapter;
    const struct ld_adapter_module *module;
    enum ld_delta_kind kind;
    size_t out, in, kernel;
    size_t columns; /* of D; less than in * kernel where D leaves the last input channels alone */
    double scale;   /* alpha / rank; not yet in the rows */
    /* Factors in float32; which are used depends on the kind. */
    struct ld_arena arena;
    float *up[2], *down[2];
    size_t rank[2];
    const struct ld_st_tensor *whole; /* difference, replacement or IA3 vector */
    size_t kron_out, kron_in;         /* shape of w1 (in up[0]); w2 is in up[1] */
    bool on_input;
};

/*
 * Decide whether the module fits `key` (a weight), from shapes alone. False if it does not, or if
 * the module's factors contradict each other.
 */
bool ld_delta_plan(struct ld_delta *out, const struct ld_adapter *adapter,
                   const struct ld_adapter_module *module, const struct ld_key *key) LD_MUST_USE;

/* Decode the factors of a planned delta. ld_delta_deinit on success and on failure. Errors
 * LD_E_NOMEM. */
enum ld_code ld_delta_load(struct ld_delta *delta, struct ld_error *err) LD_MUST_USE;
void ld_delta_deinit(struct ld_delta *delta);

/*
 * Rows [first, first + rows) of D without `scale`.
 *
 * Shapes   w: those rows of W as it stands, [rows, in * kernel] (IA3 and GLoRA depend on it);
 *          dst and scratch: [rows, columns]; rows <= LD_LOWRANK_ROWS.
 */
void ld_delta_rows(const struct ld_delta *delta, size_t first, size_t rows, const float *w,
                   float *dst, float *scratch);

#endif
