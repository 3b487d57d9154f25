/*
 * A question to the workers and its answer, on its way from the supervisor's thread to the exchange
 * that waits. An order about models is a question whose answer is passed on as it is; it is the
 * exchange's `state`, and ends with it.
 *
 *     if (!ex->state && !ld_ask_begin(ex, name, LD_MODEL_LOAD))
 *         return ld_exchange_refuse(ex, LD_E_NOMEM, 0, "out of memory");
 *     if (!ld_ask_is_answered(ex))
 *         return ld_ask_wait(ex, INT64_MAX);
 *     return ld_ask_reply(ex);
 */
#ifndef LD_SERVER_ASK_H
#define LD_SERVER_ASK_H

#include "runtime/base/error.h"
#include "runtime/ipc/messages.h"
#include "server/exchange.h"

#include <stdatomic.h>

/* ---- The answer, part of whatever waits for it ----------------------------------------------- */

struct ld_answer {
    struct ld_exchange *ex;
    atomic_bool there; /* then the rest may be read */
    enum ld_code code;
    char detail[LD_ERROR_DETAIL_SIZE];
    struct ld_buffer json;
};

/* `bytes_max`: of the JSON. Ended by ld_answer_end, also while nothing has come. */
void ld_answer_init(struct ld_answer *answer, struct ld_exchange *ex, size_t bytes_max);
/* Given to the supervisor with the answer as `ctx`: keeps what came and wakes the exchange. */
void ld_answer_take(void *ctx, enum ld_code code, const char *detail, const char *json);
/* Nobody takes it any more. */
void ld_answer_end(struct ld_answer *answer);
/* No worker could, or none did in time: 503, which passes. */
bool ld_answer_is_late(const struct ld_answer *answer);

/* ---- Orders about models --------------------------------------------------------------------- */

/* An order about a model, or to scan the folders (`name` is "" then). False: no memory. */
bool ld_ask_begin(struct ld_exchange *ex, const char *name, enum ld_model_order order);
/* Which one it is. */
enum ld_model_order ld_ask_order(const struct ld_exchange *ex);
bool ld_ask_is_answered(const struct ld_exchange *ex);

/* For a plan as for an order: park until there is an answer, at most until `until_us` (monotonic);
 * then the handler is called again. While the server stops it is refused. */
enum ld_handled ld_ask_wait(struct ld_exchange *ex, int64_t until_us);

/* What was answered: the workers' JSON, or 503 where none could, or their error. */
enum ld_handled ld_ask_reply(struct ld_exchange *ex);

/* Nobody waits for this one any more; another may begin. */
void ld_ask_end(struct ld_exchange *ex);

#endif
