/*
 * The front as its handlers see it: what they may use, and the few things several of them need.
 * Made and ended by cmd_serve.c.
 */
#ifndef LD_SERVER_FRONT_H
#define LD_SERVER_FRONT_H

#include "api/dialect_native.h"
#include "config/settings.h"
#include "server/build.h"
#include "server/capacity.h"
#include "server/events.h"
#include "server/exchange.h"
#include "server/guides.h"
#include "server/inventory.h"
#include "server/metrics.h"
#include "server/supervisor.h"

#include <stdatomic.h>

struct ld_front {
    _Atomic(const struct ld_settings *)
        settings;          /* read again at SIGHUP; never freed before the end */
    const char *state_dir; /* where the keys lie */
    struct ld_keyring *keys;
    struct ld_meter *meter;
    bool local_only; /* only this machine can connect */
    struct ld_store *store;
    struct ld_blobs *blobs;
    struct ld_event_hub *hub;
    struct ld_supervisor *supervisor;
    struct ld_inventory_box *inventory;
    struct ld_capacity *capacity;
    struct ld_build *build;
    struct ld_guide_shelf *guides; /* manifests and tags */
    struct ld_metrics *metrics;
    int64_t started_us; /* wall */
    atomic_bool draining;
};

/* ---- Requests (intake.c, intake_pictures.c) -------------------------------------------------- */

struct ld_intake_cell {
    struct ld_buffer request_json, warnings_json;
    int64_t work, cost;
};

/* A checked request on its way into the store. */
struct ld_intake {
    struct ld_front *front;
    const struct ld_caller *caller;
    struct ld_arena *arena;
    const struct ld_inventory *inventory; /* acquired */
    struct ld_native native;
    struct ld_api_names names;
    struct ld_request_limits limits;
    struct ld_random random;
    struct ld_adapter_list adapters;
    struct ld_api_context context;
    char init_sha256[LD_SHA256_HEX_SIZE], mask_sha256[LD_SHA256_HEX_SIZE];
    char control_sha256[LD_CONTROLS_MAX][LD_SHA256_HEX_SIZE];
    bool init_held, mask_held; /* published here, not referenced yet */
    bool control_held[LD_CONTROLS_MAX];
    uint32_t inline_count; /* pictures that the body carries */
    uint64_t input_bytes;  /* of all its pictures */
    bool unpainted;        /* only its texts are looked at: any size will do */
    const char *format;    /* of the file, where the body names none; NULL: the default */
    struct ld_buffer request_json, warnings_json;
    enum ld_store_key_use key_use; /* of the key that it is submitted with */
    struct ld_intake_cell *cells;  /* of a sweep, each as it will run */
    uint32_t cell_count;
    struct ld_intake_submission *submission; /* between begin and end of a submit */
};

/* In the exchange's arena, with its caller's limits. */
void ld_intake_init(struct ld_intake *intake, struct ld_exchange *ex);
void ld_intake_deinit(struct ld_intake *intake);

/*
 * Decode, resolve and check a body; store the pictures it carries; write the canonical JSON.
 * False after intake->native.problem was filled.
 */
bool ld_intake_accept(struct ld_intake *intake, const char *tenant, struct ld_span body);

/*
 * The pictures of init, upscale and control, of a request that has been checked: those that the
 * body carries are stored like uploads and stay held, those it names are looked up; ids go into the
 * request, digests into the intake. False after intake->native.problem was filled.
 */
bool ld_intake_settle_pictures(struct ld_intake *intake, const char *tenant);
/* What was stored here may go, unless something on disk names it by now. */
void ld_intake_let_go(struct ld_intake *intake);

/*
 * Into the queue, in two halves: begin, do something else until `told` (ld_store_submit_begin),
 * end; server/submit.h does that for a call. `key` is the Idempotency-Key or "". The intake,
 * `tenant`, `key` and the exchange stay as they are in between. Errors   those of ld_store_submit.
 */
enum ld_code ld_intake_submit_begin(struct ld_intake *intake, const char *tenant, const char *key,
                                    struct ld_span body, void (*told)(void *ctx), void *ctx,
                                    struct ld_error *err) LD_MUST_USE;
bool ld_intake_submit_is_known(const struct ld_intake *intake);
enum ld_code ld_intake_submit_end(struct ld_intake *intake, char id[LD_ID_SIZE], bool *replayed,
                                  struct ld_error *err) LD_MUST_USE;

/* Check a picture of a stranger by its header and store it as an upload.
 * Errors   LD_E_UNSUPPORTED (not a picture that is taken here), LD_E_TOO_LARGE, those of the store.
 */
enum ld_code ld_intake_upload(struct ld_front *front, const char *tenant, struct ld_span png,
                              struct ld_store_upload *upload, struct ld_error *err) LD_MUST_USE;

/* ---- Jobs (jobs.c) --------------------------------------------------------------------------- */

/* Live progress and an estimate into a job's view; `buffer` keeps the phase. */
void ld_front_enliven(struct ld_front *front, struct ld_job_view *view, char buffer[32]);

/* Seconds after which a job that was refused with this code is worth another try: a place in the
 * queue by the measured rate (1..3600), the next day for its work limit; 0 for other codes. */
uint32_t ld_front_retry_after(struct ld_exchange *ex, enum ld_code code);

/* {"queued","running","today":{...},"total":{...}} */
void ld_front_write_standing(const struct ld_store_standing *standing, struct ld_buffer *out);

/* End the streams of revoked keys, and cancel what they left in the queue or running. */
void ld_front_end_revoked(struct ld_front *front);

/* Cancel and tell the worker. */
enum ld_code ld_front_cancel(struct ld_front *front, const char *tenant, const char *id,
                             bool keep_partial, enum ld_job_status *status,
                             struct ld_error *err) LD_MUST_USE;

/* Remove blobs that lost a reference. */
void ld_front_drop_blobs(struct ld_front *front, const struct ld_store_freed *freed);

/* The job's document as the reply, 410 if it expired. */
enum ld_handled ld_front_reply_job(struct ld_exchange *ex, const char *id, int status);
/* The bytes of image `index` of a job as the reply. */
enum ld_handled ld_front_reply_image(struct ld_exchange *ex, const struct ld_job_view *job,
                                     const struct ld_image_view *image);

/* The picture in a body: the body itself, or the first part of a form that is a file or called
 * "image". Errors   those of the multipart reader, LD_E_INVALID (no such part). */
enum ld_code ld_front_body_picture(struct ld_exchange *ex, struct ld_span *file,
                                   struct ld_error *err) LD_MUST_USE;

/* ---- Waiting (wait.c) ------------------------------------------------------------------------ */

/* What a call does when its job has ended or its time is up. */
typedef enum ld_handled (*ld_wait_reply)(struct ld_exchange *ex, const struct ld_job_view *job,
                                         void *ctx);

struct ld_wait_options {
    const char *job_id;
    int64_t seconds;
    bool cancel_on_leave;
    ld_wait_reply ended; /* the job is final */
    ld_wait_reply timed_out;
    void *ctx; /* freed with ctx_free once the exchange ends */
    void (*ctx_free)(void *ctx);
};

/* Parks until the job ends; the exchange's later calls go to ld_front_wait_again. */
enum ld_handled ld_front_wait(struct ld_exchange *ex, const struct ld_wait_options *options);
bool ld_front_is_waiting(const struct ld_exchange *ex);
enum ld_handled ld_front_wait_again(struct ld_exchange *ex);

/* Seconds from Prefer: wait=N or ?wait=N, at most the setting; 0 for none, -1 for a bad value.
 * `by_default` is used where neither is given. */
int64_t ld_front_wait_seconds(struct ld_exchange *ex, int64_t by_default);

#endif
