/*
 * Merging checkpoints: one new model out of two or three. The functions here work on one tensor in
 * float32; merge_model.h applies them to whole files.
 *
 * Source   weighted sum, add difference and block weights: the common practice of checkpoint
 *          mergers (AUTOMATIC1111 webui, supermerger); Yadav et al. 2023, arXiv:2306.01708 (TIES);
 *          Yu et al. 2023, arXiv:2311.03099 (DARE).
 */
#ifndef LD_MODEL_MERGE_H
#define LD_MODEL_MERGE_H

#include "runtime/base/bytes.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    LD_MERGE_BLOCKS = 12,                      /* on the way down, and as many on the way up */
    LD_MERGE_ALPHAS = 2 + 2 * LD_MERGE_BLOCKS, /* of block weights: BASE, IN00.., M00, OUT00.. */
    LD_MERGE_WEIGHT_MAX = 4 /* of alpha, beta, lambda and block weights, either sign */
};

enum ld_merge_op {
    LD_MERGE_WEIGHTED_SUM,   /* (1 - alpha) A + alpha B */
    LD_MERGE_BLOCK_WEIGHTED, /* the same with one alpha for each block of the UNet */
    LD_MERGE_ADD_DIFFERENCE, /* A + alpha (B - C) */
    LD_MERGE_TIES,           /* C + lambda * merged deltas of A and B over C */
    LD_MERGE_DARE,           /* A + lambda * thinned delta of B over A */
    LD_MERGE_SUM_TWICE,      /* (1 - beta) ((1 - alpha) A + alpha B) + beta C */
    LD_MERGE_COSINE_A,       /* A where the two agree least, B where they agree most */
    LD_MERGE_COSINE_B,       /* the other way round */
    LD_MERGE_NONE,           /* A as it is: for exchanged parts and adapters */
    LD_MERGE_OP_COUNT
};

struct ld_merge_recipe {
    enum ld_merge_op op;
    double alpha; /* cosine: taken from every similarity */
    double beta;  /* sum-twice: the share of C */
    /* Block weights: `base` is for the text encoder and all that is no block. */
    double base, in[LD_MERGE_BLOCKS], middle, out[LD_MERGE_BLOCKS];
    double density; /* TIES: share of each delta that is kept, by magnitude */
    double drop;    /* DARE: probability that an element of the delta is dropped */
    double lambda;
    double similarity; /* cosine: of this tensor, mapped to 0..1 over the model */
};

/* "weighted_sum", "block_weighted_sum", "add_difference", "ties", "dare", "sum_twice", "cosine_a",
 * "cosine_b", "none". */
const char *ld_merge_op_name(enum ld_merge_op op);
/* False for any other word. */
bool ld_merge_op_find(const char *word, enum ld_merge_op *op);
bool ld_merge_is_cosine(enum ld_merge_op op);

/* How many models an operation needs: 1, 2 or 3. */
uint32_t ld_merge_models(enum ld_merge_op op);

/* Errors   LD_E_RANGE: a share outside 0..1 or a weight that is not finite. */
enum ld_code ld_merge_check(const struct ld_merge_recipe *recipe, struct ld_error *err) LD_MUST_USE;

/* A block weight by its place in that order, below LD_MERGE_ALPHAS. */
double *ld_merge_alpha_at(struct ld_merge_recipe *recipe, uint32_t place);
/* The place of "BASE", "IN00" to "IN11", "M00", "OUT00" to "OUT11"; false for any other name. */
bool ld_merge_alpha_find(struct ld_span name, uint32_t *place);

/* The alpha of a canonical tensor name under block weights. */
double ld_merge_block_alpha(const struct ld_merge_recipe *recipe, const char *name);

/*
 * Merge one tensor of `count` elements; `b` and `c` may be NULL where the operation needs no such
 * model.
 * `name` seeds DARE, so that the result does not depend on the order of tensors. dst may be any of
 * the inputs.
 * Errors   LD_E_NOMEM (TIES needs scratch of three tensors).
 */
enum ld_code ld_merge_tensor(float *dst, const struct ld_merge_recipe *recipe, const char *name,
                             const float *a, const float *b, const float *c, size_t count,
                             struct ld_error *err) LD_MUST_USE;

/* The share of B under a cosine operation. Similarity k, mapped to 0..1 over the model, less alpha
 * and cut at the ends: k for cosine_a, 1 - k for cosine_b. */
double ld_merge_cosine_share(const struct ld_merge_recipe *recipe);

/* Cosine similarity of two tensors; 0 if one of them is zero. */
double ld_merge_cosine(const float *a, const float *b, size_t count);

/* The uniform number in [0, 1) of element `index` under `name`: FNV-1a of the name, then SplitMix64
 * at that position. */
double ld_merge_uniform(uint64_t name_hash, uint64_t index);
uint64_t ld_merge_name_hash(const char *prefix, const char *name);

#endif
