/* What loading and running of the decoder share: its weights and its working memory. */
#ifndef LD_TIPO_LLAMA_PRIVATE_H
#define LD_TIPO_LLAMA_PRIVATE_H

#include "kernels/rows.h"
#include "runtime/base/thread.h"
#include "runtime/tipo/llama.h"

/* Row-major: [outputs][inputs], float16. */
struct llama_matrix {
    const uint16_t *values;
    uint16_t *own; /* what `values` points to where it is no part of the file */
    uint32_t inputs, outputs;
};

struct llama_layer {
    float *attn_norm, *ffn_norm; /* [width] */
    struct llama_matrix q, k, v, output, gate, up, down;
};

struct ld_llama {
    struct ld_llama_sizes sizes;
    struct llama_layer *layers;
    float *output_norm;
    struct llama_matrix embedding;
    struct llama_matrix output; /* of the embedding's values where they are tied */

    const struct ld_row_kernels *kernels;
    struct ld_pool *pool;

    /* Keys and values: [layer][kv_head][position][head_width], keys turned. */
    float *keys, *values;
    size_t cache_bytes; /* of each of the two */
    float *turns;       /* [position][rotated / 2] cosine and sine, pair after pair */
    uint32_t position;

    /* Of one block, a row a token. */
    float *x, *normed, *mixed; /* [block][width] */
    float *q, *k, *v;          /* [block][width], [block][kv width] twice */
    float *gate, *up;          /* [block][mlp_width] */
    float *added;              /* [block][width]: what a half of a layer adds to x */
    float *scores;             /* [thread][context] */
};

/*
 * Sizes from the file's keys, then every tensor it must have. What is allocated belongs to `llama`
 * also on failure. Errors as ld_llama_create.
 */
enum ld_code ld_llama_load(struct ld_llama *llama, const struct ld_gguf *file,
                           struct ld_error *err) LD_MUST_USE;
void ld_llama_unload(struct ld_llama *llama);

static inline uint32_t ld_llama_kv_width(const struct ld_llama_sizes *sizes)
{
    return sizes->kv_heads * sizes->head_width;
}

#endif
