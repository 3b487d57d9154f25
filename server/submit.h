/*
 * A submit that waits parked for its flush. A thread that waited for it itself would let all its
 * other connections wait too, and a flush would carry no more submits than there are threads.
 *
 *     if (ld_front_is_parked(ex))
 *         return ld_front_again(ex);
 *     struct ld_intake *intake = ld_intake_open(ex);
 *     ... ld_front_accept(ex, intake, body)
 *     return ld_front_submit(ex, &options);      // options.queued answers, or waits
 * (ld_front_wait)
 */
#ifndef LD_SERVER_SUBMIT_H
#define LD_SERVER_SUBMIT_H

#include "server/front.h"

struct ld_submit_options {
    struct ld_intake *intake; /* accepted */
    const char *key;          /* the Idempotency-Key or "" */
    struct ld_span body;      /* what the key stands for; looked at during the call only */
    bool stays;               /* the job, although its client left before it was told of it */
    /* It is in the queue. `ctx` is the callee's from here on, `id` is gone after the call. */
    enum ld_handled (*queued)(struct ld_exchange *ex, const char *id, bool replayed, void *ctx);
    void *ctx;
    void (*ctx_free)(void *ctx); /* where it comes to nothing; NULL: nothing to free */
};

/* On the heap, initialised; NULL without memory. ld_front_submit takes it, else ld_intake_close. */
struct ld_intake *ld_intake_open(struct ld_exchange *ex);
void ld_intake_close(struct ld_intake *intake);

/* ld_intake_accept of what is to be submitted: counts those that no worker's device can hold. */
bool ld_front_accept(struct ld_exchange *ex, struct ld_intake *intake, struct ld_span body);

/* Into the queue. Takes the intake and `ctx` whatever comes of it; a refusal is replied to. */
enum ld_handled ld_front_submit(struct ld_exchange *ex, const struct ld_submit_options *options);

/* Whether the exchange waits for a submit or a job and is called again, and its going on. */
bool ld_front_is_parked(const struct ld_exchange *ex);
enum ld_handled ld_front_again(struct ld_exchange *ex);

#endif
