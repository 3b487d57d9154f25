/*
 * Plain values of which replies are made. The server fills them from its store; api/respond.c
 * writes them. All strings are borrowed; NULL or "" where absent, 0 for a time that has not come.
 */
#ifndef LD_API_JOB_VIEW_H
#define LD_API_JOB_VIEW_H

#include "runtime/image/picture_kind.h"

enum ld_job_status {
    LD_JOB_QUEUED,
    LD_JOB_RUNNING,
    LD_JOB_SUCCEEDED,
    LD_JOB_FAILED,
    LD_JOB_CANCELLING,
    LD_JOB_CANCELLED,
    LD_JOB_EXPIRED,
    LD_JOB_STATUS_COUNT
};

/* "queued", ...; never NULL. */
const char *ld_job_status_name(enum ld_job_status status);
/* False if `name` is none of them. */
bool ld_job_status_find(const char *name, enum ld_job_status *out);
/* succeeded, failed, cancelled or expired. */
bool ld_job_status_is_final(enum ld_job_status status);

struct ld_image_view {
    uint32_t index;
    int32_t width, height;
    uint64_t seed;
    const char *sha256;
    uint64_t bytes;
    enum ld_picture_kind kind;
    bool partial; /* a cancelled job's last prediction */
};

struct ld_progress_view {
    uint32_t image, images;
    uint32_t step, steps;
    double fraction;
    const char *phase;
};

/* Milliseconds; negative: not known. */
struct ld_timings_view {
    double queue_ms, text_ms, sample_ms, decode_ms, encode_ms, gpu_ms;
};

/* A cell of a sweep: a job of its own. */
struct ld_cell_view {
    const char *id; /* "" once that job is deleted */
    enum ld_job_status status;
    const char *sha256; /* of its picture; "" without one */
    int32_t width, height;
    const char *error_code, *error_detail; /* "" unless failed */
};

struct ld_job_view {
    const char *id;
    enum ld_job_status status;
    int64_t created_us, started_us, finished_us; /* since 1970, UTC; 0: not yet */
    int64_t position;                            /* in the queue; negative: not queued */
    int64_t eta_ms;                              /* until its end; negative: unknown */
    int64_t own_ahead;        /* of the jobs before it, those of the same caller */
    int64_t cost, cost_ahead; /* estimated, in UNet rows of a unit */
    bool running_max_reached; /* the caller runs as many jobs as it may */
    const char *waits_for;    /* what keeps a queued job: "jobs", "worker", ...; NULL: nothing */
    struct ld_progress_view progress;
    const char *request_json; /* canonical; "{}" if absent */
    const struct ld_image_view *images;
    uint32_t image_count;
    struct ld_timings_view timings;
    uint64_t unet_rows, unet_rows_saved;
    const char *adapters_json; /* JSON array; "[]" if absent */
    const char *warnings_json; /* JSON array; "[]" if absent */
    const char *numerics_json; /* JSON object; "{}" before the first picture */
    uint32_t repainted;        /* pictures, or their decoding, made again in bf16 */
    const char *error_code;    /* NULL unless failed */
    const char *error_detail;
    const char *parent; /* the sweep that this job is a cell of; "" for none */
    const struct ld_cell_view *cells;
    uint32_t cell_count; /* 0 unless this is a sweep */
};

/* ---- Lists ----------------------------------------------------------------------------------- */

struct ld_sampler_view {
    const char *name, *label;
    const char *aliases; /* comma-separated */
    const char *hint;
    uint32_t evals_per_step;
    bool ancestral; /* draws noise while it samples */
};

struct ld_scheduler_view {
    const char *name, *label, *aliases, *hint;
};

struct ld_model_view {
    const char *name, *title, *kind; /* "checkpoint", ... */
    const char *sha256;
    uint64_t bytes;
    int64_t created_us;
    const char *prediction; /* "eps", "v" */
    const char *manifest;
    const char *advice_json; /* of the manifest (api/advice.h); NULL: none */
    bool loaded, is_default;
    bool streamed; /* its weights stay in the host's memory and are sent to the GPU as they are used
                    */
};

struct ld_adapter_view {
    const char *name, *kind; /* "lora", "locon", "loha", "lokr", "dora" */
    int32_t rank;
    const char *recipe;      /* title, "" without one */
    const char *recipe_text; /* of the file beside it, "" without one */
    const char *const *trigger_words;
    uint32_t trigger_word_count;
    const char *sha256;
    uint64_t bytes;
};

struct ld_embedding_view {
    const char *name, *sha256;
    uint32_t vectors, width;
};

struct ld_controlnet_view {
    const char *name, *sha256;
    uint64_t bytes;
};

struct ld_size_view {
    int32_t width, height;
    const char *note;
};

/* The answer of POST /v1/plan. */
struct ld_plan_view {
    const char *request_json; /* resolved */
    const char
        *engine_json; /* JSON object with tokens, memory, seconds; its members are merged in */
    int64_t work_units;
    int64_t queue_eta_ms; /* negative: unknown */
    const char *warnings_json;
};

/* An uploaded image. */
struct ld_upload_view {
    const char *id, *sha256;
    int32_t width, height;
};

#endif
