/*
 * What a worker has: the folders' files by name, the models that are loaded, and the weight
 * variants that adapters made of them. Models and variants are pinned while a job uses them and
 * otherwise leave least recently used first, within budgets of bytes.
 *
 *     ld_library_open(&library, &config, backend, &err);
 *     ld_library_model(library, "novelai_v2", &model, &err);
 *     ld_library_variant(library, model, loras, count, dora_norm, &pin, &report, &err);
 */
#ifndef LD_RUNTIME_LIBRARY_H
#define LD_RUNTIME_LIBRARY_H

#include "runtime/context_cache.h"
#include "runtime/engine.h"
#include "runtime/model/model.h"
#include "runtime/model/taesd.h"
#include "runtime/text/embeddings.h"

/* One textual inversion, decoded. */
struct ld_vectors {
    const char *name;
    char sha256[LD_SHA256_HEX_SIZE];
    uint32_t count;
    const float *data; /* [count, text width] */
};

/* A loaded model. Owned by the library. */
struct ld_resident {
    const char *name; /* as requests say it */
    char sha256[LD_SHA256_HEX_SIZE];
    struct ld_model *model;
    const struct ld_bpe *bpe;
    /* Textual inversions of this width; `embeddings` indexes `vectors`. */
    struct ld_embeddings *embeddings;
    struct ld_vectors *vectors;
    uint32_t vector_count;
    struct ld_context_cache contexts;
    uint32_t users;
    uint64_t used; /* stamp */
};

/* A variant in use. `serial` names its weights among those of this worker, 0 for the model's own.
 */
struct ld_variant_pin {
    struct ld_variant *variant; /* NULL: no adapter changed anything */
    uint64_t serial;
};

struct ld_library;

/* Scans the folders. Errors LD_E_NOT_FOUND (a folder), LD_E_NOMEM. The backend is borrowed. */
enum ld_code ld_library_open(struct ld_library **out, const struct ld_engine_config *config,
                             struct ld_backend *backend, struct ld_error *err) LD_MUST_USE;
void ld_library_close(struct ld_library *library);

/* What it was opened with, texts included; owned by the library. */
const struct ld_engine_config *ld_library_config(const struct ld_library *library);
/* The device thread's helpers on other cores, when the backend does not compute. Borrowed. */
struct ld_pool *ld_library_pool(struct ld_library *library);

/* Memory is short: let go of models, VAEs and variants that nobody uses, and of what models that do
 * not compute right now hold for their next run. False: there was nothing. */
bool ld_library_relieve(struct ld_library *library);

/*
 * The model called `name` ("" is the default), loaded and pinned; ld_library_release.
 * Errors   LD_E_NOT_FOUND (names it; or no vocabulary, with the advice), those of ld_model_open,
 *          LD_E_SHAPE (the vocabulary does not fit the model).
 */
enum ld_code ld_library_model(struct ld_library *library, const char *name,
                              struct ld_resident **out, struct ld_error *err) LD_MUST_USE;
void ld_library_release(struct ld_library *library, struct ld_resident *resident);

/* Load a model and pack every part of it, without using it. Errors   as ld_library_model. */
enum ld_code ld_library_load(struct ld_library *library, const char *name,
                             struct ld_error *err) LD_MUST_USE;
/* Errors   LD_E_NOT_FOUND (it is not loaded), LD_E_CONFLICT (a job uses it). */
enum ld_code ld_library_unload(struct ld_library *library, const char *name,
                               struct ld_error *err) LD_MUST_USE;
/* A model file that was put into the folder after the start. What is known already is LD_OK.
 * Errors   those of ld_registry_add. */
enum ld_code ld_library_find(struct ld_library *library, const char *name,
                             struct ld_error *err) LD_MUST_USE;
/*
 * Scan the folders again: new files are there for the next job, also where they have the name of
 * one that is gone or loaded; jobs that run keep what they have. Appends {"models": {"added",
 * "removed", "changed", "unusable"}, "adapters": ...} to `out`; `*replaced`: a name means another
 * file than before, or none.
 * Errors   those of ld_registry_rescan; everything is as it was then.
 */
enum ld_code ld_library_rescan(struct ld_library *library, struct ld_buffer *out, bool *replaced,
                               struct ld_error *err) LD_MUST_USE;
/* {"name", "loaded", "resident": [{"name", "bytes", "jobs", "streamed"}], "resident_bytes",
 * "budget_bytes"} */
void ld_library_write_residents(const struct ld_library *library, const char *name, bool loaded,
                                struct ld_buffer *out);
/* True once after a model came or went; the inventory then tells it. */
bool ld_library_has_news(struct ld_library *library);

/* Nobody wants anything: read a piece of a file whose digest is not known yet. Returns whether
 * there may be more; news when a digest was learned. */
bool ld_library_idle(struct ld_library *library);

/* The VAE or ControlNet called `name`, loaded and pinned; ld_library_side_release. Errors as
 * ld_library_model. */
enum ld_code ld_library_vae(struct ld_library *library, const char *name, struct ld_model **out,
                            struct ld_error *err) LD_MUST_USE;
enum ld_code ld_library_control(struct ld_library *library, const char *name, struct ld_model **out,
                                struct ld_error *err) LD_MUST_USE;
/* NULL: nothing happens. */
void ld_library_side_release(struct ld_library *library, const struct ld_model *model);
/* The file's digest, "" where it is not known; for one that is loaded. Static until the next call
 * in this thread. */
const char *ld_library_control_sha256(const struct ld_library *library, const char *name);

/*
 * The decoder of previews, loaded at the first call and kept; the library's.
 * Errors   LD_E_NOT_FOUND (none is configured), those of ld_taesd_open.
 */
enum ld_code ld_library_preview_decoder(struct ld_library *library, struct ld_taesd **out,
                                        struct ld_error *err) LD_MUST_USE;

/* Whether all models of a request are loaded or could take a place now. Otherwise all places are
 * pinned, and one will be free when a job that uses it has ended. */
bool ld_library_has_room(const struct ld_library *library, const struct ld_request *request);

/*
 * The model with `loras` merged in their order, from the cache or made now. One JSON object an
 * adapter ({name, sha256, weight, text_weight, tensors_applied, tensors_unmatched}) is appended to
 * `report`, each ended by a line feed.
 * Errors   LD_E_NOT_FOUND (names the adapter), LD_E_UNSUPPORTED (not for this model, nothing
 *          applied), those of ld_adapter_apply and packing.
 */
enum ld_code ld_library_variant(struct ld_library *library, struct ld_resident *resident,
                                const struct ld_request_lora *loras, uint32_t count,
                                enum ld_dora_choice dora_norm, struct ld_variant_pin *out,
                                struct ld_buffer *report, struct ld_error *err) LD_MUST_USE;
void ld_library_variant_release(struct ld_library *library, const struct ld_variant_pin *pin);

/* JSON object as ld_engine_inventory describes it. */
const char *ld_library_inventory(const struct ld_library *library);

/* SHA-256 of an adapter by name, for metadata; "" if unknown. */
const char *ld_library_adapter_sha256(const struct ld_library *library, const char *name);

/*
 * Wildcards and variants in the request's prompts, replaced in place where the request asks for it.
 * Texts are made in `arena`. Errors LD_E_TOO_LARGE (names the field), LD_E_NOMEM.
 */
enum ld_code ld_library_expand(struct ld_library *library, struct ld_request *request,
                               struct ld_arena *arena, struct ld_error *err) LD_MUST_USE;

#endif
