/*
 * Small LLaMA models with random weights: as a GGUF file, and as a plain float64 form of the
 * network that is written from the paper's and not the file's conventions. Query and key rows are
 * kept in the order of published checkpoints, where value i of a head turns together with value i +
 * d / 2; the file gets them reordered, so a decoder that misses the reordering computes something
 * else.
 */
#ifndef LD_TESTS_LLAMA_FIXTURE_H
#define LD_TESTS_LLAMA_FIXTURE_H

#include "tests/unit/gguf_fixture.h"

enum { LLAMA_LAYERS_MAX = 4 };

struct llama_plan {
    uint32_t layers, width, mlp_width, heads, kv_heads, rotated, vocabulary, context;
    float epsilon, rope_base;
    uint32_t type; /* of the matrices in the file: LD_GGUF_TENSOR_... */
    bool tied;     /* the embedding is the output matrix as well */
    uint32_t seed;
};

/* [outputs][inputs], the values that the decoder is to compute with. */
struct llama_weight {
    float *values;
    uint32_t inputs, outputs;
};

struct llama_weights_layer {
    struct llama_weight attn_norm, ffn_norm, q, k, v, output, gate, up, down;
};

struct llama_weights {
    struct llama_plan plan;
    struct llama_weight embedding, output_norm, output;
    struct llama_weights_layer layers[LLAMA_LAYERS_MAX];
};

/* Random weights, already rounded to what the file's type can hold. */
struct llama_weights llama_weights_make(const struct llama_plan *plan);
void llama_weights_free(struct llama_weights *weights);

/* The keys of the architecture, and all tensors. */
void llama_write_keys(struct gguf_fixture *f, const struct llama_plan *plan);
void llama_write_tensors(struct gguf_fixture *f, const struct llama_weights *weights);

/* Logits after `count` tokens, [vocabulary] float64. Everything is computed anew, without a cache.
 */
void llama_reference(const struct llama_weights *weights, const uint32_t *ids, uint32_t count,
                     double *logits);

#endif
