/*
 * Which of several ways to compute a convolution, a matrix product or an attention is taken: a
 * decision from an analytic model and from timings. Nothing here knows a device: the candidates,
 * their check and their clock are handed in, so tests decide with a false clock.
 *
 *     const struct ldk_tune_choice *known = ldk_tune_lookup(&cache, &unit, true);
 *     if (!known && ldk_tune(&cache, &unit, &device, &bench, true, &choice, err) == LD_OK) ...
 *
 * Bits. A candidate's *signature* stands for the order in which it sums: candidates of one
 * signature give equal bits. In deterministic mode a layer's signature is decided once per class
 * (operator, image shape, type, epilogue, arch), always at the reference batch, and every batch
 * size chooses among the candidates of that signature; so what a picture's bytes depend on does
 * not depend on who shared its batch. A library's algorithm makes no such promise: it counts as a
 * signature of its own once the same image came out with equal bits at every batch bucket.
 *
 * Source: kernels.md 13.
 */
#ifndef LDK_TUNE_H
#define LDK_TUNE_H

#include "kernels/cuda/kernels.h"
#include "runtime/base/error.h"

enum {
    LDK_TUNE_DIMS = 12,
    LDK_TUNE_KEY_SIZE = 192,
    LDK_TUNE_NAME_SIZE = 96,
    LDK_TUNE_CANDIDATES_MAX = 96,
    LDK_TUNE_TIMED_MAX = 12,  /* candidates that are timed after the filter */
    LDK_TUNE_LIBRARY_MAX = 4, /* of those, places that libraries may have however the model ranks */
    LDK_TUNE_WARM_UPS = 3,
    LDK_TUNE_RUNS = 20,
    LDK_TUNE_HOPELESS = 4,       /* times the best median: not timed to the end */
    LDK_TUNE_REFERENCE_BATCH = 2 /* one image with its negative prompt */
};

/* ---- What is decided ------------------------------------------------------------------------- */

enum ldk_tune_op { LDK_TUNE_CONV, LDK_TUNE_LINEAR, LDK_TUNE_ATTENTION, LDK_TUNE_OP_COUNT };

enum ldk_tune_epilogue {
    LDK_TUNE_ROW_ADD = 1 << 0,
    LDK_TUNE_RESIDUAL = 1 << 1,
    LDK_TUNE_MOMENTS = 1 << 2,
    LDK_TUNE_SILU = 1 << 3,
    LDK_TUNE_QUICK_GELU = 1 << 4,
    LDK_TUNE_GEGLU = 1 << 5,
    LDK_TUNE_FP16_ACCUMULATE = 1 << 6,
    LDK_TUNE_F32_OUT = 1 << 7,
    LDK_TUNE_PHASE = 1 << 8,
    LDK_TUNE_CAUSAL = 1 << 9,
    LDK_TUNE_IN_PLACE = 1 << 10 /* over its own residual */
};

/* Zero-initialise it: every member counts. */
struct ldk_tune_unit {
    enum ldk_tune_op op;
    int32_t arch; /* 90 for compute capability 9.0 */
    enum ldk_dtype dtype;
    uint32_t epilogue;
    int32_t batch;
    int32_t m, n, k; /* of one image, as a matrix product */
    int32_t
        dims[LDK_TUNE_DIMS]; /* what else tells shapes apart, in an order of the operator's own */
};

/* One line of text, without blanks at its ends; `with_batch` false: the class. */
void ldk_tune_key(const struct ldk_tune_unit *unit, bool with_batch, char out[LDK_TUNE_KEY_SIZE]);

enum ldk_tune_family { LDK_TUNE_OWN, LDK_TUNE_CUBLASLT, LDK_TUNE_CUDNN };

struct ldk_tune_candidate {
    char name[LDK_TUNE_NAME_SIZE]; /* "own:...": stable, no blanks; what a cache remembers */
    enum ldk_tune_family family;
    int32_t number;     /* variant, or the library's place in its own list */
    uint32_t signature; /* libraries: a number made of their name */
    int32_t tile_m, tile_n, tile_k, splits, threads, shared_bytes; /* 0: unknown (libraries) */
};

struct ldk_tune_device {
    int32_t arch, sm_count, shared_max; /* shared_max: bytes a block may have */
};

/* ---- The model ------------------------------------------------------------------------------- */

/* Predicted clocks on this device (tile_model.h); 0 without tile sizes. */
double ldk_tune_model(const struct ldk_tune_unit *unit, const struct ldk_tune_device *device,
                      const struct ldk_tune_candidate *candidate);

/*
 * Drop what needs more shared memory than a block may have, rank the rest by the model and keep
 * LDK_TUNE_TIMED_MAX; libraries stand last, in their own order. Returns how many are left.
 */
uint32_t ldk_tune_filter(const struct ldk_tune_unit *unit, const struct ldk_tune_device *device,
                         struct ldk_tune_candidate *candidates, uint32_t count);

/* ---- Deciding -------------------------------------------------------------------------------- */

/* The device, or a test's idea of one. Calls return 0 or a code that means "this candidate
 * cannot". */
struct ldk_tune_bench {
    void *ctx;
    /* All candidates for `unit` into out[capacity]; how many. */
    uint32_t (*candidates)(void *ctx, const struct ldk_tune_unit *unit,
                           struct ldk_tune_candidate *out, uint32_t capacity);
    /* Run on random input and compare with the plain kernel. */
    int (*check)(void *ctx, const struct ldk_tune_unit *unit,
                 const struct ldk_tune_candidate *candidate, bool *equal);
    /* One timed run. */
    int (*run)(void *ctx, const struct ldk_tune_unit *unit,
               const struct ldk_tune_candidate *candidate, double *ms);
    /* A hash of the output bits of one fixed image as part of `unit->batch`. */
    int (*bits)(void *ctx, const struct ldk_tune_unit *unit,
                const struct ldk_tune_candidate *candidate, uint64_t *hash);
    void (*log)(void *ctx, const char *sentence);
};

struct ldk_tune_choice {
    char candidate[LDK_TUNE_NAME_SIZE];
    uint32_t signature;
    double ms;
    char runner_up[LDK_TUNE_NAME_SIZE]; /* "": there was no other */
    double runner_up_ms;
};

/*
 * The fastest candidate that is right. `signature` 0: any; else only candidates that have it.
 * `deterministic`: a library's algorithm must first show equal bits at every batch bucket.
 * False if none is left.
 */
bool ldk_tune_decide(const struct ldk_tune_unit *unit, const struct ldk_tune_device *device,
                     const struct ldk_tune_bench *bench, uint32_t signature, bool deterministic,
                     struct ldk_tune_choice *choice);

/* ---- Remembering ---------------------------------------------------------------------------- */

struct ldk_tune_cache; /* tune_cache.h: what was decided, by key */

/* What is known of a unit, or NULL. Valid until the next ldk_tune. */
const struct ldk_tune_choice *ldk_tune_lookup(const struct ldk_tune_cache *cache,
                                              const struct ldk_tune_unit *unit, bool deterministic);

/*
 * For a unit that is not known while its class is: what the reference batch got. It has the class's
 * signature and runs at any batch, where the default might sum in another order. NULL for a class
 * that is not decided, or without determinism.
 */
const struct ldk_tune_choice *ldk_tune_fallback(const struct ldk_tune_cache *cache,
                                                const struct ldk_tune_unit *unit,
                                                bool deterministic);

/*
 * Decide a unit and remember it: in deterministic mode first the class at the reference batch,
 * then the unit among candidates of the class's signature.
 * Errors   LD_E_NOT_FOUND (no candidate is right: the caller takes the default), LD_E_NOMEM.
 */
enum ld_code ldk_tune(struct ldk_tune_cache *cache, const struct ldk_tune_unit *unit,
                      const struct ldk_tune_device *device, const struct ldk_tune_bench *bench,
                      bool deterministic, struct ldk_tune_choice *choice,
                      struct ld_error *err) LD_MUST_USE;

#endif
