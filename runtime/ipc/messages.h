/*
 * What frames say: one struct per message with an encoder and a decoder. Decoded spans are borrowed
 * from the frame's payload and checked for length only; texts are checked to be UTF-8, JSON texts
 * to be one well-formed object or array, so that they can be stored and shown as they are.
 *
 *     struct ld_message_image image;
 *     if (ld_message_image_decode(&image, frame.payload, err) != LD_OK)
 *         kill the worker
 */
#ifndef LD_IPC_MESSAGES_H
#define LD_IPC_MESSAGES_H

#include "config/limits.h"
#include "runtime/ipc/frame.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Worker to front ------------------------------------------------------------------------- */

/* What this worker has and how many jobs it may hold. */
struct ld_message_hello {
    uint32_t jobs_max;
    struct ld_span inventory; /* JSON object, see ld_engine_inventory */
};

/* Alive; `activity` grows whenever the pipeline made progress (the watchdog looks at it). */
struct ld_message_heartbeat {
    uint64_t activity;
    uint32_t jobs;
};

struct ld_message_progress {
    struct ld_span phase; /* a word */
    uint32_t image, images, step, steps;
    double fraction; /* 0..1 */
};

/* A finished image (or, as PREVIEW, the current prediction). */
struct ld_message_image {
    uint32_t index;
    uint64_t seed;
    uint32_t width, height;
    bool partial;
    struct ld_span file;
};

/* Ends a job. `code` LD_OK, LD_E_CANCELLED or the error; `detail` its public sentence. */
struct ld_message_done {
    enum ld_code code;
    struct ld_span detail;
    uint64_t text_us, sample_us, decode_us, encode_us;
    uint64_t unet_rows, unet_rows_saved;
    struct ld_span warnings; /* JSON array */
    struct ld_span adapters; /* JSON array */
    struct ld_span resolved; /* JSON object */
    struct ld_span numerics; /* JSON object (runtime/numerics.h) */
    uint32_t repainted;      /* pictures, or their decoding, made again in bf16 */
};

/* The answer to PLAN, MODEL and EXTEND; `code` LD_OK and the JSON object, or the error. */
struct ld_message_plan_answer {
    enum ld_code code;
    struct ld_span detail;
    struct ld_span plan;
};

struct ld_message_fault {
    enum ld_code code;
    struct ld_span detail;
};

/* What the worker has counted (runtime/ipc/stats.h), one number a place. */
enum { LD_MESSAGE_STATS_MAX = 1000 };
struct ld_message_stats {
    uint32_t count;
    uint64_t values[LD_MESSAGE_STATS_MAX];
};

/* ---- Front to worker ------------------------------------------------------------------------- */

/* JOB, PLAN and EXTEND. */
struct ld_message_job {
    struct ld_span request;    /* canonical native JSON */
    struct ld_span init_image; /* a file or empty */
    struct ld_span init_mask;
    struct ld_span control_images[LD_CONTROLS_MAX]; /* files that its ControlNet units follow */
    uint64_t share; /* jobs of one number may share texts and results (robustness.md P7) */
};

/* A sweep whose cells are painted: make its sheet of `cells` pictures, none larger than this. */
struct ld_message_sheet {
    struct ld_span request; /* canonical native JSON, with its sweep */
    uint32_t cells;
    uint32_t width, height;
};

/* One picture of it, in order; empty where the cell has none. */
struct ld_message_cell {
    uint32_t index;
    struct ld_span file;
};

enum ld_model_order {
    LD_MODEL_UNLOAD,
    LD_MODEL_LOAD,
    LD_MODEL_FIND,   /* its file is new in the folder */
    LD_MODEL_RESCAN, /* all folders; without a name */
    LD_MODEL_ORDER_END
};

struct ld_message_model {
    enum ld_model_order order;
    struct ld_span name;
};

struct ld_message_cancel {
    bool keep_partial;
};

/* ---- Encoding: append to `out`, whose `failed` tells whether it fitted ----------------------- */

void ld_message_hello_encode(struct ld_buffer *out, const struct ld_message_hello *message);
void ld_message_heartbeat_encode(struct ld_buffer *out, const struct ld_message_heartbeat *message);
void ld_message_progress_encode(struct ld_buffer *out, const struct ld_message_progress *message);
void ld_message_image_encode(struct ld_buffer *out, const struct ld_message_image *message);
void ld_message_done_encode(struct ld_buffer *out, const struct ld_message_done *message);
void ld_message_plan_answer_encode(struct ld_buffer *out,
                                   const struct ld_message_plan_answer *message);
void ld_message_fault_encode(struct ld_buffer *out, const struct ld_message_fault *message);
void ld_message_stats_encode(struct ld_buffer *out, const struct ld_message_stats *message);
void ld_message_job_encode(struct ld_buffer *out, const struct ld_message_job *message);
void ld_message_sheet_encode(struct ld_buffer *out, const struct ld_message_sheet *message);
void ld_message_cell_encode(struct ld_buffer *out, const struct ld_message_cell *message);
void ld_message_model_encode(struct ld_buffer *out, const struct ld_message_model *message);
void ld_message_cancel_encode(struct ld_buffer *out, const struct ld_message_cancel *message);

/* ---- Decoding. Errors LD_E_FORMAT ------------------------------------------------------------ */

enum ld_code ld_message_hello_decode(struct ld_message_hello *message, struct ld_span payload,
                                     struct ld_error *err) LD_MUST_USE;
enum ld_code ld_message_heartbeat_decode(struct ld_message_heartbeat *message,
                                         struct ld_span payload, struct ld_error *err) LD_MUST_USE;
enum ld_code ld_message_progress_decode(struct ld_message_progress *message, struct ld_span payload,
                                        struct ld_error *err) LD_MUST_USE;
/* Also checks that `file` starts as a picture of this width and height. */
enum ld_code ld_message_image_decode(struct ld_message_image *message, struct ld_span payload,
                                     struct ld_error *err) LD_MUST_USE;
enum ld_code ld_message_done_decode(struct ld_message_done *message, struct ld_span payload,
                                    struct ld_error *err) LD_MUST_USE;
enum ld_code ld_message_plan_answer_decode(struct ld_message_plan_answer *message,
                                           struct ld_span payload,
                                           struct ld_error *err) LD_MUST_USE;
enum ld_code ld_message_fault_decode(struct ld_message_fault *message, struct ld_span payload,
                                     struct ld_error *err) LD_MUST_USE;
enum ld_code ld_message_stats_decode(struct ld_message_stats *message, struct ld_span payload,
                                     struct ld_error *err) LD_MUST_USE;
enum ld_code ld_message_job_decode(struct ld_message_job *message, struct ld_span payload,
                                   struct ld_error *err) LD_MUST_USE;
enum ld_code ld_message_sheet_decode(struct ld_message_sheet *message, struct ld_span payload,
                                     struct ld_error *err) LD_MUST_USE;
enum ld_code ld_message_cell_decode(struct ld_message_cell *message, struct ld_span payload,
                                    struct ld_error *err) LD_MUST_USE;
enum ld_code ld_message_model_decode(struct ld_message_model *message, struct ld_span payload,
                                     struct ld_error *err) LD_MUST_USE;
enum ld_code ld_message_cancel_decode(struct ld_message_cancel *message, struct ld_span payload,
                                      struct ld_error *err) LD_MUST_USE;

#ifdef __cplusplus
}
#endif
#endif
