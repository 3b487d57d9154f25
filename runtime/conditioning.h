/*
 * The text contexts of one pass: positive prompt (with its schedule and AND parts), negative prompt
 * and the empty one, compiled, encoded and weighted. Encodings come from a cache that is keyed by
 * everything that decides them, so equal texts of one worker are encoded once.
 *
 * Source: model.md 2.3, 3.3, 4; sampling.md 5.9.
 */
#ifndef LD_RUNTIME_CONDITIONING_H
#define LD_RUNTIME_CONDITIONING_H

#include "runtime/library.h"
#include "runtime/pass.h"
#include "runtime/text/prompt.h"

/* One encoded text, [tokens, width] float32; owned by the cache or the conditioning. */
struct ld_context {
    const float *data;
    int32_t tokens;
};

struct ld_conditioning;

struct ld_conditioning_config {
    const struct ld_request *request; /* borrowed until release */
    struct ld_resident *model;
    bool hires;
    uint64_t share;              /* as in struct ld_engine_job */
    uint32_t calls, calls_hires; /* denoiser calls of the first pass, and of this one if second */
};

/*
 * Compile the prompts; nothing is encoded yet.
 * Owner    from `arena`.
 * Errors   those of ld_prompt_compile, with the field's pointer.
 */
enum ld_code ld_conditioning_create(struct ld_conditioning **out, struct ld_arena *arena,
                                    const struct ld_conditioning_config *config,
                                    struct ld_error *err) LD_MUST_USE;

/* The positive prompt as compiled: adapters mentioned in it, token counts, notes. */
const struct ld_prompt *ld_conditioning_prompt(const struct ld_conditioning *conditioning,
                                               enum ld_pass_prompt prompt);

/*
 * Encode everything the pass may need, with the text encoder of `variant`.
 * Owner    encodings are held until ld_conditioning_release.
 * Errors   those of ld_model_encode_text, LD_E_NOMEM.
 */
enum ld_code ld_conditioning_encode(struct ld_conditioning *conditioning,
                                    const struct ld_variant_pin *variant,
                                    struct ld_error *err) LD_MUST_USE;

/* Parts of the positive prompt joined by AND, and their weights. */
uint32_t ld_conditioning_parts(const struct ld_conditioning *conditioning, const double **weights);

/* The context for denoiser call `call` (0-based). */
struct ld_context ld_conditioning_at(const struct ld_conditioning *conditioning,
                                     enum ld_pass_prompt prompt, uint32_t part, uint32_t call);

/* Encodings go back to the cache. Safe on NULL and on one that was not encoded. */
void ld_conditioning_release(struct ld_conditioning *conditioning);

#endif
