/*
 * Errands: work done beside the device by a thread of its own, so that the next pass does not wait
 * for it. They are run one after the other, in the order they were given. Where no thread can be
 * had, whoever gives one runs it.
 *
 *     ld_errands_give(errands, &encoding->errand);          // the thread's until it is done
 *     while (!ld_errands_done(errands, &encoding->errand))  // or ld_errands_wait
 *         work_on_something_else();
 *     use(encoding->code, &encoding->file);
 *
 * Source: kernels.md 10.
 */
#ifndef LD_RUNTIME_ERRANDS_H
#define LD_RUNTIME_ERRANDS_H

#include "runtime/base/error.h"

#include <stdbool.h>

struct ld_errands;

/* The first member of what is to be done; whoever has the errand has the whole. */
struct ld_errand {
    void (*run)(struct ld_errand *errand);     /* on the thread; keeps its own result */
    void (*destroy)(struct ld_errand *errand); /* of one that was dropped */

    uint64_t serial; /* in the order of ld_errands_give, which is that of being run */
    bool done;       /* the errands' own, as what follows */
    bool dropped;    /* while it was being run */
    struct ld_errand *next;
};

/* Errors   LD_E_NOMEM. A missing thread is none. */
enum ld_code ld_errands_create(struct ld_errands **out, struct ld_error *err) LD_MUST_USE;
/* Nothing may be on its way but what was dropped, which is waited for. NULL is fine. */
void ld_errands_destroy(struct ld_errands *errands);

void ld_errands_give(struct ld_errands *errands, struct ld_errand *errand);
bool ld_errands_done(struct ld_errands *errands, const struct ld_errand *errand);
void ld_errands_wait(struct ld_errands *errands, const struct ld_errand *errand);
/* At most `ms` milliseconds. Whether it is done. */
bool ld_errands_wait_for(struct ld_errands *errands, const struct ld_errand *errand, uint32_t ms);

/* Nobody wants it any more: it is destroyed, by the thread where that has begun it. Nothing is
 * waited for: a large picture may take seconds. */
void ld_errands_drop(struct ld_errands *errands, struct ld_errand *errand);

#endif
