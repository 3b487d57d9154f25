/*
 * The engine: sessions and ticks. It holds the models of one worker, takes jobs, and at each tick
 * gathers the pending model evaluations of all active sessions that share weights and latent shape,
 * runs one UNet pass over them and hands the results back. A job joins at the next tick and a
 * cancelled one leaves there. Everything a job produces is told through its callbacks, which run on
 * the thread that calls ld_engine_tick.
 *
 *     ld_engine_create(&engine, &config, &err);
 *     ld_engine_submit(engine, &job, &err);
 *     while (ld_engine_busy(engine))
 *         ld_engine_tick(engine, &err);
 */
#ifndef LD_RUNTIME_ENGINE_H
#define LD_RUNTIME_ENGINE_H

#include "kernels/ops.h"
#include "runtime/base/bytes.h"
#include "runtime/base/thread.h"
#include "runtime/params.h"

struct ld_engine;

struct ld_engine_config {
    const char *model_dir;     /* scanned for checkpoints; "" if none */
    const char *adapter_dir;   /* LoRA family */
    const char *embedding_dir; /* textual inversion */
    const char *wildcard_dir;
    const char *vae_dir;
    const char *controlnet_dir;  /* NULL or "": none */
    const char *preview_decoder; /* a TAESD file; NULL or "": none */
    const char *tipo_model;      /* a .gguf file; NULL or "": no prompt is extended */
    const char *tag_dir;         /* whose *.tags.csv tell it who is a character; NULL or "": none */
    const char *default_model;   /* name in model_dir, or "" for the first */
    const char *model_path;      /* a file or folder given directly; wins over default_model; "" */
    const char
        *vocab_path; /* CLIP merges for models without their own; "" looks beside the model */
    const char *digests_path; /* file that keeps the digests of models and adapters between starts;
                                 NULL or "": none, and they are hashed anew */
    const char *backend;      /* "auto", "cpu", "cuda" */
    const char *precision;    /* "fp16", "bf16": of the CUDA backend; NULL or "" is fp16 */
    bool fp16_accumulate;     /* its sums in fp16 first, in fp16 (docs/numerics.md) */
    const char *stream_weights; /* "auto", "on", "off": on a GPU; NULL or "" is auto */
    uint32_t device_turn;       /* which of several GPUs: ld_device_look */
    uint32_t threads;           /* 0: one per core */
    uint32_t batch_max;         /* UNet rows a tick may hold, 0: planned from memory */
    size_t model_bytes_max;     /* weights of all loaded models and VAEs; 0: no bound */
    size_t variant_bytes_max;   /* of variants that nobody uses, where `variants_bounded` */
    bool variants_bounded;      /* else a few GiB */
    bool tune_idle;             /* ld_engine_idle measures kernels (kernels.md 13) */
    /* Looked at between operators; when set, all jobs end as cancelled. NULL: never. */
    const struct ld_cancel *interrupt;
};

enum ld_engine_phase {
    LD_PHASE_LOAD,
    LD_PHASE_TEXT,
    LD_PHASE_ENCODE,
    LD_PHASE_SAMPLE,
    LD_PHASE_DECODE,
    LD_PHASE_DONE
};
const char *ld_engine_phase_name(enum ld_engine_phase phase);

struct ld_engine_progress {
    enum ld_engine_phase phase;
    uint32_t image, images;
    uint32_t step, steps;
    double fraction; /* of the whole job, 0..1 */
};

struct ld_engine_image {
    uint32_t index;
    uint64_t seed;
    int32_t width, height;
    struct ld_span file; /* borrowed for the call */
    bool partial;        /* a cancelled job's last prediction */
};

struct ld_engine_report {
    int64_t text_us, sample_us, decode_us, encode_us;
    uint64_t unet_rows, unet_rows_saved;
    uint32_t repainted;        /* pictures, or their decoding, made again in bf16 */
    const char *warnings_json; /* JSON array of strings */
    const char *adapters_json; /* JSON array of {name, sha256, tensors_applied, ...} */
    const char *resolved_json; /* the request as it ran, seed and expanded prompt included */
    const char *numerics_json; /* what decided the last bits (numerics.h); {} before a picture */
};

/* Owned by the caller until on_done returned. Any callback may be NULL. */
struct ld_engine_job {
    const struct ld_request *request;     /* borrowed until on_done */
    struct ld_span init_image, init_mask; /* files, borrowed until on_done; empty if none */
    struct ld_span control_images[LD_REQUEST_CONTROLS_MAX]; /* of request.controls, likewise */
    uint64_t share; /* encoded texts are shared among jobs of one number only (robustness.md P7) */
    void *ctx;
    void (*on_progress)(void *ctx, const struct ld_engine_progress *progress);
    /* A picture of the current prediction, at request.preview_every steps */
    void (*on_preview)(void *ctx, const struct ld_engine_image *image);
    void (*on_image)(void *ctx, const struct ld_engine_image *image);
    /* Exactly once per accepted job: code LD_OK, LD_E_CANCELLED or what went wrong. */
    void (*on_done)(void *ctx, const struct ld_engine_report *report, const struct ld_error *err);
};

/*
 * Scans the folders and loads the default model.
 * Errors   LD_E_NOT_FOUND (no model, no vocabulary), LD_E_FORMAT, LD_E_NOMEM, LD_E_UNSUPPORTED,
 *          LD_E_GPU_NOMEM, LD_E_DEVICE.
 */
enum ld_code ld_engine_create(struct ld_engine **out, const struct ld_engine_config *config,
                              struct ld_error *err) LD_MUST_USE;
void ld_engine_destroy(struct ld_engine *engine);

/* Why `auto` took the CPU though this build can use a GPU; "" otherwise. Owned by the engine. */
const char *ld_engine_note(const struct ld_engine *engine);

/* JSON object {"backend", "device", "memory", "models": [...], "adapters": [...], "embeddings":
 * [...], "vaes": [...], "controlnets": [...], "wildcards": [...], "unusable": [{"kind", "name",
 * "reason"}]}: what this worker has, and what lies there but is damaged or of another kind; owned
 * by the engine. "memory" tells what pictures take of a device with a bound
 * (ld_library_write_memory), and is absent without one. */
const char *ld_engine_inventory(const struct ld_engine *engine);

/* Take a job; `handle` names it for cancel. The callbacks run in later ticks. */
enum ld_code ld_engine_submit(struct ld_engine *engine, const struct ld_engine_job *job,
                              uint64_t *handle, struct ld_error *err) LD_MUST_USE;

/* Leaves at the next step boundary; keep_partial decodes the current prediction first. Unknown
 * handles are ignored (the job may just have ended). */
void ld_engine_cancel(struct ld_engine *engine, uint64_t handle, bool keep_partial);

/*
 * Load a model now, all of it, or let it go. Appends {"name", "loaded", "resident": [...]} to
 * `out`. Errors   LD_E_NOT_FOUND, LD_E_CONFLICT (a job uses it), those of loading.
 */
enum ld_code ld_engine_model(struct ld_engine *engine, const char *name, bool load,
                             struct ld_buffer *out, struct ld_error *err) LD_MUST_USE;

/* Take up a model file that was put into the folder after the start. Errors as ld_registry_add. */
enum ld_code ld_engine_find(struct ld_engine *engine, const char *name,
                            struct ld_error *err) LD_MUST_USE;

/*
 * Scan the folders again: added files can be used from the next job on, removed ones no more, and
 * where another file has taken a name the next job gets it, while jobs that run keep theirs.
 * Appends {"models": {"added", "removed", "changed", "unusable"}, "adapters": ..., "embeddings":
 * ..., "vaes": ..., "controlnets": ..., "wildcards": ...} to `out`.
 * Errors   as ld_registry_rescan; everything is as it was then.
 */
enum ld_code ld_engine_rescan(struct ld_engine *engine, struct ld_buffer *out,
                              struct ld_error *err) LD_MUST_USE;

/* True once after the inventory has changed: a model came or went. */
bool ld_engine_has_news(struct ld_engine *engine);

/* Whether a tick has something to do: jobs, or prompts to be extended. */
bool ld_engine_busy(const struct ld_engine *engine);

/* One unit of work: a text encoding, one batched UNet pass, or one decode. Errors here are the
 * engine's own (a lost device); a job's errors go to its on_done. */
enum ld_code ld_engine_tick(struct ld_engine *engine, struct ld_error *err) LD_MUST_USE;

/*
 * One piece of work that waits for a time without jobs: under a second. No picture changes by it.
 * Errors   as ld_engine_tick.
 */
enum ld_code ld_engine_idle(struct ld_engine *engine, enum ld_idle *left,
                            struct ld_error *err) LD_MUST_USE;

/* What a request would cost here: JSON for /v1/plan (tokens per chunk, memory, estimated seconds,
 * warnings) appended to `out`. Nothing runs. */
enum ld_code ld_engine_plan(struct ld_engine *engine, const struct ld_request *request,
                            struct ld_buffer *out, struct ld_error *err) LD_MUST_USE;

/*
 * Extend a prompt as request.tipo asks, for a caller who wants to see it: `answer` runs once in a
 * later tick, with LD_OK and {"prompt", "seed", "seconds", "warnings"}, or an error and its
 * sentence; not at all when the engine is destroyed before. Jobs are painted meanwhile.
 * Errors   LD_E_RATE (too many wait already), LD_E_TOO_LARGE, LD_E_NOMEM; `answer` never runs then.
 */
typedef void (*ld_engine_answer)(void *ctx, enum ld_code code, const char *detail,
                                 const char *json);
enum ld_code ld_engine_extend(struct ld_engine *engine, const struct ld_request *request,
                              ld_engine_answer answer, void *ctx, struct ld_error *err) LD_MUST_USE;

/* Callers that wait are not answered any more. */
void ld_engine_forget_asked(struct ld_engine *engine);

#endif
