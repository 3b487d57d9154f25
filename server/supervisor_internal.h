/*
 * What the files of the supervisor share. Nobody else includes this.
 */
#ifndef LD_SERVER_SUPERVISOR_INTERNAL_H
#define LD_SERVER_SUPERVISOR_INTERNAL_H

#include "server/slot.h"
#include "server/supervisor.h"

#include <pthread.h>
#include <stdatomic.h>

/* A job that lost its worker and whose fate is not in the store yet. */
struct ld_orphan {
    char id[LD_ID_SIZE];
    uint64_t token;
    bool crashed; /* it fails as worker_crash; else it is queued again */
    bool suspect, counts;
    struct ld_orphan *next;
};

struct ld_cancel_note {
    char job_id[LD_ID_SIZE];
    bool keep_partial;
    struct ld_cancel_note *next;
};

enum ld_question {
    LD_QUESTION_PLAN,
    LD_QUESTION_EXTEND,
    LD_QUESTION_MODEL /* an order about the model called `request_json`, to every worker */
};

struct ld_plan_note {
    uint64_t number; /* the frame's token; 0: not sent yet */
    enum ld_question question;
    enum ld_model_order order;
    uint32_t waits; /* workers that have not answered yet */
    uint32_t slot;
    int64_t until_us;
    ld_plan_answer answer;
    void *ctx; /* NULL: who asked has left; a worker is at it still */
    struct ld_plan_note *next;
    char tenant[LD_STORE_TENANT_BYTES_MAX + 1]; /* whose prompt it is to extend; else "" */
    char request_json[];
};

struct ld_supervisor {
    struct ld_supervisor_config config;
    pthread_t thread;
    int wake_fd;
    atomic_bool draining, stopping, claim_wanted, shared;
    bool drained; /* the thread has seen `draining`, and claims nothing more */

    /* The supervisor thread's own; it changes jobs and progress under `lock` for readers. */
    struct ld_slot slots[LD_WORKERS_MAX];
    struct ld_orphan *orphans;
    int64_t claim_not_before_us, retry_at_us;
    uint64_t plan_next;
    uint64_t scan_number; /* of the scan of folders that runs; 0: none */
    uint32_t scan_waits;  /* workers that have not answered it */
    int64_t stop_until_us;
    bool stop_sent;

    pthread_mutex_t lock; /* guards what follows, and readers' view of the slots */
    struct ld_cancel_note *cancels;
    struct ld_plan_note *plans;
    char reason[256];
    struct ld_supervisor_status status;
};

/* ---- delivery.c ------------------------------------------------------------------------------ */

/* Act on one frame; false when it is not a frame that a sane worker sends. */
bool ld_supervisor_take_frame(struct ld_supervisor *supervisor, struct ld_slot *slot,
                              const struct ld_frame *frame);

/* Try again what a full disk held up. */
void ld_supervisor_retry_results(struct ld_supervisor *supervisor, struct ld_slot *slot);

/* ---- place.c --------------------------------------------------------------------------------- */

/* Whose texts and results a job may share: those of its own tenant, told by a number that says
 * nothing about the name. */
uint64_t ld_supervisor_share_of(const struct ld_supervisor *supervisor, const char *tenant);
/* The worker that a job claimed for `slot` goes to, and what to remember about it. */
struct ld_slot *ld_supervisor_place(struct ld_supervisor *supervisor, struct ld_slot *slot,
                                    const struct ld_store_job *job, struct ld_equal_mark *mark);

/* ---- sheets.c -------------------------------------------------------------------------------- */

/* Give a sweep's job to a worker; its cells follow one by one. Errors   LD_E_NOMEM, LD_E_TOO_LARGE.
 */
enum ld_code ld_supervisor_send_sheet(struct ld_slot *slot, const struct ld_store_job *job,
                                      struct ld_error *err) LD_MUST_USE;
/* Remember which pictures the job that was just added to the slot still has to be sent. False
 * without memory. */
bool ld_supervisor_note_cells(struct ld_slot_job *added, const struct ld_store_job *job);
/* The next cells, as far as what was sent before is on its way. */
void ld_supervisor_feed_sheets(struct ld_supervisor *supervisor, struct ld_slot *slot);

/* ---- blame.c --------------------------------------------------------------------------------- */

/* The slot's process has ended with this wait status: judge it, decide its jobs' fate and when it
 * is started again. */
void ld_supervisor_bury(struct ld_supervisor *supervisor, struct ld_slot *slot, int status);

/* Write the fates that are not in the store yet; false while some are left. */
bool ld_supervisor_settle_orphans(struct ld_supervisor *supervisor);

/* The breaker: may this slot be started again? */
bool ld_slot_may_start(struct ld_slot *slot, int64_t now_us);

/* ---- plans.c --------------------------------------------------------------------------------- */

void ld_supervisor_send_plans(struct ld_supervisor *supervisor, int64_t now_us);
void ld_supervisor_plan_answered(struct ld_supervisor *supervisor, uint64_t number,
                                 enum ld_code code, struct ld_span detail, struct ld_span plan);
/* A worker is gone, or (slot UINT32_MAX) all are. */
void ld_supervisor_plans_lost(struct ld_supervisor *supervisor, uint32_t slot);

#endif
