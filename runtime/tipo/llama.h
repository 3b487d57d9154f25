/*
 * The decoder of LLaMA models on the CPU: RMS norms, rotary attention with grouped heads over a
 * cache of keys and values, SiLU-gated MLPs. Matrices are float16 (those of an F16 file are used
 * where they lie in it), activations and cache float32.
 *
 *     struct ld_llama *llama;
 *     code = ld_llama_create(&llama, file, 0, &err);
 *     code = ld_llama_feed(llama, ids, count, logits, &err);   // logits of the token after them
 *     ld_llama_rewind(llama, 10);                              // forget all but the first ten
 *
 * For x of each token, in each layer:
 *     h = rms(x) * attn_norm;  q, k, v = h Wq', h Wk', h Wv';  q and k turned by their position
 *     x += softmax(q k' / sqrt(d)) v Wo'
 *     h = rms(x) * ffn_norm;   x += (silu(h Wgate') * (h Wup')) Wdown'
 * and logits = rms(x) * output_norm Woutput'. The rows of Wq and Wk in GGUF files are ordered so
 * that the two values that turn together are neighbours: 2i and 2i + 1.
 *
 * The bits of a result depend on the tokens and on the CPU feature level: not on the number of
 * threads, which divide outputs and never sums, and not on how the tokens were cut into calls.
 *
 * Source   Touvron et al. 2023, arXiv:2302.13971; Su et al. 2021, arXiv:2104.09864 (rotation);
 *          Ainslie et al. 2023, arXiv:2305.13245 (grouped heads); names of keys and tensors, and
 * the order of rows: llama.cpp's converter (convert_hf_to_gguf.py).
 */
#ifndef LD_TIPO_LLAMA_H
#define LD_TIPO_LLAMA_H

#include "runtime/tipo/gguf.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    LD_LLAMA_CONTEXT_MAX = 4096, /* positions; a file that allows more is run with these */
    LD_LLAMA_BLOCK = 64 /* tokens that are computed together: weights are read once for them */
};
#define LD_LLAMA_BYTES_MAX ((uint64_t)4 << 30) /* weights and cache */

struct ld_llama_sizes {
    uint32_t layers, width, mlp_width, heads, kv_heads, head_width;
    uint32_t rotated; /* values of a head that are turned; even, head_width at most */
    uint32_t vocabulary, context;
    double epsilon, rope_base;
    uint64_t parameters, bytes; /* as in ld_language_facts */
};

/* Used by one thread at a time. */
struct ld_llama;

/*
 * `threads` as in ld_pool_create.
 * Owner    returns owned; ld_llama_destroy. Borrows `file` until then.
 * Errors   LD_E_FORMAT (a key or tensor is missing or has the wrong shape), LD_E_UNSUPPORTED,
 *          LD_E_TOO_LARGE (LD_LLAMA_BYTES_MAX), LD_E_INVALID (LATENTD_CPU_LEVEL), LD_E_NOMEM.
 */
enum ld_code ld_llama_create(struct ld_llama **out, const struct ld_gguf *file, uint32_t threads,
                             struct ld_error *err) LD_MUST_USE;
void ld_llama_destroy(struct ld_llama *llama); /* NULL is fine */

const struct ld_llama_sizes *ld_llama_sizes(const struct ld_llama *llama);

/* Tokens that were fed and not forgotten. */
uint32_t ld_llama_position(const struct ld_llama *llama);
/* Forget the tokens from `position` (at most the present one) on. */
void ld_llama_rewind(struct ld_llama *llama, uint32_t position);

/*
 * Append tokens, one at least. `logits`: those of the token after the last one; NULL: not wanted.
 * Shapes   logits: [vocabulary].
 * Errors   LD_E_TOO_LARGE (beyond the context), LD_E_RANGE (no such token); then nothing is
 * appended.
 */
enum ld_code ld_llama_feed(struct ld_llama *llama, const uint32_t *ids, uint32_t count,
                           float *logits, struct ld_error *err) LD_MUST_USE;

#ifdef __cplusplus
}
#endif
#endif
