/*
 * "Complete this text": a small language model read from one GGUF file and run on the CPU. It is
 * what TIPO needs to extend a prompt, and knows nothing of tags.
 *
 *     struct ld_language *language;
 *     if (ld_language_open(&language, "tipo-200m-f16.gguf", 0, &err) != LD_OK) ...
 *     struct ld_token_choice choice = {.temperature = 0.5, .top_p = 0.95, .min_p = 0.05, .top_k =
 * 80, .repetition_penalty = 1, .tokens_max = 512, .seed = 7}; struct ld_buffer out =
 * ld_buffer_make(64 * 1024); code = ld_language_complete(language, ld_span_text("tag: 1girl,
 * solo"), &choice, &interrupt, &out, &err); ld_language_close(language);
 */
#ifndef LD_TIPO_LANGUAGE_H
#define LD_TIPO_LANGUAGE_H

#include "runtime/base/buffer.h"
#include "runtime/base/thread.h"

#ifdef __cplusplus
extern "C" {
#endif

/* How the next token is drawn. */
struct ld_token_choice {
    double temperature;        /* 0: always the likeliest */
    double top_p, min_p;       /* 1 and 0: off */
    uint32_t top_k;            /* 0: off */
    double repetition_penalty; /* 1: off */
    uint32_t tokens_max;       /* of the continuation */
    uint64_t seed;
};

/* One completion at a time: the caller sees to that. */
struct ld_language;

/*
 * Read the file and make everything ready; the file stays mapped until close.
 * `threads` as in ld_pool_create: 0 means one for each usable core.
 *
 * Owner    returns owned; ld_language_close.
 * Errors   LD_E_NOT_FOUND, LD_E_IO, LD_E_FORMAT (damaged, or parts that do not fit together),
 *          LD_E_UNSUPPORTED (a kind of model or of tensor that is not read), LD_E_TOO_LARGE,
 *          LD_E_NOMEM, and those of the CPU level (LATENTD_CPU_LEVEL): LD_E_INVALID.
 */
enum ld_code ld_language_open(struct ld_language **out, const char *path, uint32_t threads,
                              struct ld_error *err) LD_MUST_USE;
void ld_language_close(struct ld_language *language); /* NULL is fine */

/*
 * Appends the continuation of `prompt` (not the prompt) up to the end token, tokens_max or the end
 * of the context. Same file, prompt, choice and CPU feature level: same bytes, whatever `threads`
 * and whatever was completed before. `interrupt` (may be NULL) is looked at before each token.
 *
 * Owner    borrows everything; what a failed call has appended to `out` stays there.
 * Errors   LD_E_INVALID (a number of `choice` outside its range), LD_E_TOO_LARGE (the prompt, or
 *          `out` is at its ceiling), LD_E_CANCELLED, LD_E_NUMERICAL, LD_E_NOMEM.
 */
enum ld_code ld_language_complete(struct ld_language *language, struct ld_span prompt,
                                  const struct ld_token_choice *choice,
                                  const struct ld_cancel *interrupt, struct ld_buffer *out,
                                  struct ld_error *err) LD_MUST_USE;

/* What the file says about itself; borrowed from the language. */
struct ld_language_facts {
    const char *name; /* general.name, or "" */
    uint32_t layers, width, mlp_width, heads, kv_heads;
    uint32_t vocabulary;
    uint32_t context;    /* positions: of prompt and continuation together */
    uint64_t parameters; /* numbers in all tensors */
    uint64_t bytes; /* memory: weights, also those that stay in the mapped file, and the cache */
};

const struct ld_language_facts *ld_language_facts(const struct ld_language *language);

#ifdef __cplusplus
}
#endif
#endif
