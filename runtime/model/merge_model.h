/*
 * Merging whole models into a new file, one tensor in memory at a time, and baking adapters into
 * the result.
 *
 *     struct ld_merge_request request = {.recipe = &recipe, .a = {a, "a.safetensors"},
 *                                        .b = {b, "b.safetensors"}, .storage = LD_STORE_F16};
 *     ld_merge_write("merged.safetensors", &request, &report, err);
 */
#ifndef LD_MODEL_MERGE_MODEL_H
#define LD_MODEL_MERGE_MODEL_H

#include "runtime/model/adapter.h"
#include "runtime/model/merge.h"
#include "runtime/model/model_write.h"

enum { LD_MERGE_ADAPTERS_MAX = 16 };

/* A model and the path that it was opened from, whose last part is kept in the history. */
struct ld_merge_parent {
    struct ld_weights *weights; /* NULL: none */
    const char *path;
};

struct ld_merge_adapter {
    const struct ld_adapter *adapter;
    const char *path;
    const char *sha256; /* of the file, hex */
    double weight, text_weight;
    enum ld_dora_norm dora_norm;
};

struct ld_merge_request {
    const struct ld_merge_recipe *recipe;
    struct ld_merge_parent a, b, c; /* b and c as far as the operation needs them */
    /* Models whose VAE and text encoder the new one gets as they are, instead of merged ones; the
     * same as a or b, or a file of its own. */
    struct ld_merge_parent vae, text;
    const struct ld_merge_adapter *adapters; /* baked in, in this order, after merging */
    uint32_t adapter_count;
    enum ld_model_storage storage; /* LD_STORE_KEEP: of A, or of the only side */
    bool folder;                   /* a diffusers folder, without tokenizer */
    bool replace;
    /* `phase` is "compare" (cosine reads everything once before) or "write". */
    bool (*progress)(void *ctx, const char *phase, uint64_t done, uint64_t total);
    void *progress_ctx;
};

struct ld_merge_report {
    uint32_t tensors;                                  /* of the new model */
    uint32_t copied;                                   /* of these, that one side lacked */
    uint32_t adapter_tensors[LD_MERGE_ADAPTERS_MAX];   /* changed by each adapter */
    uint32_t adapter_unmatched[LD_MERGE_ADAPTERS_MAX]; /* modules of it that found no weight */
};

/*
 * Write the merged model to `path`, complete or not at all. Each tensor is computed in float32 and
 * rounded once. A tensor that one side lacks is copied from the other. Where the first convolution
 * of one model has more input channels (inpainting), the 4 common ones are merged and the others
 * stay. Metadata is that of A; "latentd.merge" tells the recipe and names and digests of all
 * parents. Errors   LD_E_SHAPE (the models have different shapes), LD_E_RANGE, LD_E_INVALID (a
 * model is missing for the operation), LD_E_UNSUPPORTED (an adapter that fits nothing), and those
 *          of ld_model_write_file.
 */
enum ld_code ld_merge_write(const char *path, const struct ld_merge_request *request,
                            struct ld_merge_report *report, struct ld_error *err) LD_MUST_USE;

#endif
