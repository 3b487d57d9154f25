#include "runtime/conditioning.h"

#include "runtime/ipc/stats.h"
#include "runtime/text/emphasis.h"

#include <math.h>

enum { PROMPTS = 3 };

/* One prompt: what it compiled to, and an encoding for each of its texts. */
struct prompt_contexts {
    struct ld_prompt compiled;
    struct ld_context_entry **entries; /* [text_count] */
};

struct ld_conditioning {
    struct ld_conditioning_config config;
    struct ld_arena *arena;
    struct prompt_contexts prompts[PROMPTS];
    double *weights;     /* of the positive prompt's parts */
    size_t width;        /* of the text encoder */
    uint32_t chunks_min; /* pad_context: every context has at least as many chunks */
};

/* ---- Compiling ------------------------------------------------------------------------------- */

static const char *text_of(const struct ld_conditioning_config *config, enum ld_pass_prompt which)
{
    const struct ld_request *request = config->request;
    switch (which) {
    case LD_PASS_POSITIVE:
        return config->hires && request->hires.prompt ? request->hires.prompt : request->prompt;
    case LD_PASS_NEGATIVE:
        return config->hires && request->hires.negative_prompt ? request->hires.negative_prompt
                                                               : request->negative_prompt;
    case LD_PASS_EMPTY:
        return "";
    }
    return "";
}

static const char *pointer_of(const struct ld_conditioning_config *config,
                              enum ld_pass_prompt which)
{
    const struct ld_request_hires *hires = &config->request->hires;
    if (which == LD_PASS_POSITIVE)
        return config->hires && hires->prompt ? "/hires/prompt" : "/prompt";
    return config->hires && hires->negative_prompt ? "/hires/negative_prompt" : "/negative_prompt";
}

static enum ld_code compile(struct ld_conditioning *conditioning, enum ld_pass_prompt which,
                            struct ld_error *err)
{
    const struct ld_conditioning_config *config = &conditioning->config;
    struct ld_prompt_options options =
        ld_prompt_defaults(config->request->syntax, config->model->bpe);
    options.embeddings = config->model->embeddings;
    options.emphasis = config->request->emphasis;
    options.steps = config->calls;
    options.hires_steps = config->hires ? config->calls_hires : 0;
    options.composed = which == LD_PASS_POSITIVE && options.composed;
    if (ld_prompt_compile(conditioning->arena, &options, text_of(config, which),
                          &conditioning->prompts[which].compiled, err) == LD_OK)
        return LD_OK;
    return ld_error_at(err, "%s", pointer_of(config, which));
}

enum ld_code ld_conditioning_create(struct ld_conditioning **out, struct ld_arena *arena,
                                    const struct ld_conditioning_config *config,
                                    struct ld_error *err)
{
    struct ld_conditioning *conditioning = ld_arena_calloc(arena, 1, sizeof *conditioning);
    if (!conditioning)
        return LD_FAIL(err, LD_E_NOMEM, "out of memory for the prompt");
    const int32_t layers = ld_model_arch(config->model->model)->text_layers;
    if (config->request->clip_skip > layers) {
        (void)LD_FAIL(err, LD_E_RANGE, "clip_skip must be between 1 and %d for model '%.100s'",
                      layers, config->model->name);
        return ld_error_at(err, "/clip_skip");
    }
    conditioning->config = *config;
    conditioning->arena = arena;
    conditioning->width = (size_t)ld_model_arch(config->model->model)->text_width;
    for (int which = 0; which < PROMPTS; which++) {
        if (compile(conditioning, (enum ld_pass_prompt)which, err) != LD_OK)
            return err->code;
        const uint32_t chunks = conditioning->prompts[which].compiled.chunk_count_max;
        if (config->request->pad_context && chunks > conditioning->chunks_min)
            conditioning->chunks_min = chunks;
    }
    const struct ld_prompt *positive = &conditioning->prompts[LD_PASS_POSITIVE].compiled;
    conditioning->weights = ld_arena_calloc(arena, positive->part_count, sizeof(double));
    if (!conditioning->weights)
        return LD_FAIL(err, LD_E_NOMEM, "out of memory for the prompt");
    for (uint32_t part = 0; part < positive->part_count; part++)
        conditioning->weights[part] = positive->parts[part].weight;
    *out = conditioning;
    return LD_OK;
}

const struct ld_prompt *ld_conditioning_prompt(const struct ld_conditioning *conditioning,
                                               enum ld_pass_prompt prompt)
{
    return &conditioning->prompts[prompt].compiled;
}

/* ---- Encoding -------------------------------------------------------------------------------- */

/* Everything that decides an encoding goes into its key. */
static enum ld_code key_of(const struct ld_conditioning *conditioning,
                           const struct ld_variant_pin *variant, const struct ld_prompt_text *text,
                           enum ld_emphasis_rule rule, uint8_t key[LD_SHA256_BYTES],
                           struct ld_error *err)
{
    struct ld_sha256 hash = {0};
    if (ld_sha256_init(&hash, err) != LD_OK)
        return err->code;
    const uint64_t head[] = {
        variant->serial,          (uint64_t)conditioning->config.request->clip_skip,
        (uint64_t)rule,           text->chunk_count,
        conditioning->chunks_min, conditioning->config.share};
    ld_sha256_update(&hash, ld_span_of(head, sizeof head));
    for (uint32_t i = 0; i < text->chunk_count; i++) {
        const struct ld_chunk *chunk = &text->chunks[i];
        ld_sha256_update(&hash, ld_span_of(chunk->ids, sizeof chunk->ids));
        ld_sha256_update(&hash, ld_span_of(chunk->vectors, sizeof chunk->vectors));
        ld_sha256_update(&hash, ld_span_of(chunk->weights, sizeof chunk->weights));
        for (int t = 0; t < LD_CHUNK_TOKENS; t++)
            if (chunk->embeddings[t] != LD_EMBEDDING_NONE)
                ld_sha256_update(
                    &hash,
                    ld_span_text(conditioning->config.model->vectors[chunk->embeddings[t]].sha256));
    }
    ld_sha256_finish(&hash, key);
    return LD_OK;
}

/* The text encoder's output for `count` chunks, [count * 77, width]. */
static enum ld_code encode_chunks(const struct ld_conditioning *conditioning,
                                  const struct ld_variant_pin *variant,
                                  const struct ld_chunk *chunks, uint32_t count, float *out,
                                  struct ld_error *err)
{
    const struct ld_resident *model = conditioning->config.model;
    const size_t tokens = (size_t)count * LD_CHUNK_TOKENS;
    enum ld_code code = LD_OK;
    int32_t *ids = ld_heap_calloc(tokens, sizeof *ids);
    const float **vectors = ld_heap_calloc(tokens, sizeof *vectors);
    if (!ids || !vectors) {
        code = LD_FAIL(err, LD_E_NOMEM, "out of memory for the prompt");
        goto done;
    }
    for (size_t i = 0; i < tokens; i++) {
        const struct ld_chunk *chunk = &chunks[i / LD_CHUNK_TOKENS];
        const size_t t = i % LD_CHUNK_TOKENS;
        const int32_t embedding = chunk->embeddings[t];
        ids[i] = chunk->ids[t] < 0 ? 0 : chunk->ids[t];
        if (embedding != LD_EMBEDDING_NONE)
            vectors[i] = model->vectors[embedding].data + chunk->vectors[t] * conditioning->width;
    }
    const struct ld_text_request request = {
        .ids = ids,
        .vectors = vectors,
        .chunks = (int32_t)count,
        .skip = conditioning->config.request->clip_skip,
    };
    code = ld_model_encode_text(model->model, variant->variant, &request, out, err);
done:
    ld_heap_free(ids);
    ld_heap_free(vectors);
    return code;
}

/* Encode, weight, and pad with empty chunks. */
static enum ld_code fill(const struct ld_conditioning *conditioning,
                         const struct ld_variant_pin *variant, const struct ld_prompt_text *text,
                         enum ld_emphasis_rule rule, float *out, struct ld_error *err)
{
    const size_t chunk_size = LD_CHUNK_TOKENS * conditioning->width;
    const bool padded = text->chunk_count < conditioning->chunks_min;
    float *empty = NULL;
    enum ld_code code =
        encode_chunks(conditioning, variant, text->chunks, text->chunk_count, out, err);
    if (code == LD_OK && (padded || (text->weighted && rule == LD_EMPHASIS_RULE_LERP))) {
        struct ld_chunk chunk;
        empty = ld_heap_calloc(chunk_size, sizeof *empty);
        ld_chunk_set_empty(&chunk, conditioning->config.model->bpe);
        code = empty ? encode_chunks(conditioning, variant, &chunk, 1, empty, err)
                     : LD_FAIL(err, LD_E_NOMEM, "out of memory for the prompt");
    }
    for (uint32_t i = 0; code == LD_OK && text->weighted && i < text->chunk_count; i++)
        if (ld_chunk_is_weighted(&text->chunks[i]))
            ld_emphasis_apply(rule, out + i * chunk_size, empty, text->chunks[i].weights,
                              LD_CHUNK_TOKENS, conditioning->width);
    for (uint32_t i = text->chunk_count; code == LD_OK && i < conditioning->chunks_min; i++)
        memcpy(out + i * chunk_size, empty, chunk_size * sizeof *out);
    ld_heap_free(empty);
    return code;
}

static enum ld_code encode_text(struct ld_conditioning *conditioning,
                                const struct ld_variant_pin *variant,
                                const struct ld_prompt_text *text, struct ld_context_entry **out,
                                struct ld_error *err)
{
    const struct ld_request *request = conditioning->config.request;
    struct ld_context_cache *cache = &conditioning->config.model->contexts;
    const enum ld_emphasis_rule rule = ld_emphasis_rule_of(request->syntax, request->emphasis);
    const uint32_t chunks =
        text->chunk_count > conditioning->chunks_min ? text->chunk_count : conditioning->chunks_min;
    uint8_t key[LD_SHA256_BYTES];
    if (key_of(conditioning, variant, text, rule, key, err) != LD_OK)
        return err->code;
    *out = ld_context_cache_acquire(cache, key);
    ld_stats_add(*out ? LD_STAT_CONTEXT_HITS : LD_STAT_CONTEXT_MISSES, 1);
    if (*out)
        return LD_OK;
    *out = ld_context_cache_add(cache, key, (size_t)chunks * LD_CHUNK_TOKENS * conditioning->width);
    if (!*out)
        return LD_FAIL(err, LD_E_NOMEM, "out of memory for the prompt");
    const enum ld_code code = fill(conditioning, variant, text, rule, (*out)->data, err);
    if (code != LD_OK) {
        ld_context_cache_discard(cache, *out);
        *out = NULL;
    }
    return code;
}

enum ld_code ld_conditioning_encode(struct ld_conditioning *conditioning,
                                    const struct ld_variant_pin *variant, struct ld_error *err)
{
    const struct ld_request_guidance *guidance = &conditioning->config.request->guidance;
    for (int which = 0; which < PROMPTS; which++) {
        struct prompt_contexts *prompt = &conditioning->prompts[which];
        if (which == LD_PASS_EMPTY && !(fabs(guidance->perp_neg) > 0))
            continue; /* only Perp-Neg looks at it */
        prompt->entries = ld_arena_calloc(conditioning->arena, prompt->compiled.text_count,
                                          sizeof(struct ld_context_entry *));
        if (!prompt->entries)
            return LD_FAIL(err, LD_E_NOMEM, "out of memory for the prompt");
        for (uint32_t i = 0; i < prompt->compiled.text_count; i++)
            if (encode_text(conditioning, variant, &prompt->compiled.texts[i], &prompt->entries[i],
                            err) != LD_OK)
                return err->code;
    }
    return LD_OK;
}

/* ---- Use ------------------------------------------------------------------------------------- */

uint32_t ld_conditioning_parts(const struct ld_conditioning *conditioning, const double **weights)
{
    *weights = conditioning->weights;
    return conditioning->prompts[LD_PASS_POSITIVE].compiled.part_count;
}

struct ld_context ld_conditioning_at(const struct ld_conditioning *conditioning,
                                     enum ld_pass_prompt prompt, uint32_t part, uint32_t call)
{
    const struct prompt_contexts *contexts = &conditioning->prompts[prompt];
    const uint32_t text = ld_prompt_text_at(&contexts->compiled, part, call);
    const struct ld_context_entry *entry = contexts->entries[text];
    return (struct ld_context){entry->data, (int32_t)(entry->count / conditioning->width)};
}

void ld_conditioning_release(struct ld_conditioning *conditioning)
{
    if (!conditioning)
        return;
    for (int which = 0; which < PROMPTS; which++) {
        struct prompt_contexts *prompt = &conditioning->prompts[which];
        for (uint32_t i = 0; prompt->entries && i < prompt->compiled.text_count; i++)
            ld_context_cache_release(&conditioning->config.model->contexts, prompt->entries[i]);
        prompt->entries = NULL;
    }
}
