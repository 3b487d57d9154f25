/*
 * What the program around a request knows by name. `api` may not look into the samplers or the
 * model registry itself, so server and command line hand in functions. Each returns the canonical
 * name (static or as long-lived as the context) or NULL if unknown; a NULL function means that any
 * name is accepted.
 */
#ifndef LD_API_NAMES_H
#define LD_API_NAMES_H

#include "runtime/params.h"

struct ld_api_names {
    void *ctx;
    const char *(*sampler)(void *ctx, const char *name);
    /* `request` (sampler and profile canonical) helps "automatic" to resolve. */
    const char *(*scheduler)(void *ctx, const char *name, const struct ld_request *request);
    const char *(*model)(void *ctx, const char *name);
    const char *(*adapter)(void *ctx, const char *name);
    const char *(*vae)(void *ctx, const char *name);
    const char *(*controlnet)(void *ctx, const char *name);
    /* Why the "model", "adapter", "VAE" or "ControlNet" of this name, which is none of those known,
     * cannot be used though its file is there: a sentence, or NULL; may be NULL. */
    const char *(*unusable)(void *ctx, const char *kind, const char *name);
    /* For "did you mean": the index-th known name or NULL after the last; may be NULL. */
    const char *(*sampler_at)(void *ctx, uint32_t index);
    const char *(*scheduler_at)(void *ctx, uint32_t index);
    const char *(*model_at)(void *ctx, uint32_t index);
    const char *(*adapter_at)(void *ctx, uint32_t index);
    const char *(*vae_at)(void *ctx, uint32_t index);
    const char *(*controlnet_at)(void *ctx, uint32_t index);
};

#endif
