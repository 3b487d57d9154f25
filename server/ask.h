/*
 * A question to the workers, on its way from the supervisor's thread to the exchange that waits for
 * the answer. It is the exchange's `state`, and ends with it.
 *
 *     if (!ex->state && !ld_ask_begin(ex, name, LD_MODEL_LOAD))
 *         return ld_exchange_refuse(ex, LD_E_NOMEM, 0, "out of memory");
 *     if (!ld_ask_is_answered(ex))
 *         return ld_ask_wait(ex, INT64_MAX);
 *     return ld_ask_reply(ex);
 */
#ifndef LD_SERVER_ASK_H
#define LD_SERVER_ASK_H

#include "runtime/ipc/messages.h"
#include "server/exchange.h"

/* An order about a model, or to scan the folders (`name` is "" then). False: no memory. */
bool ld_ask_begin(struct ld_exchange *ex, const char *name, enum ld_model_order order);
/* Which one it is. */
enum ld_model_order ld_ask_order(const struct ld_exchange *ex);
bool ld_ask_is_answered(const struct ld_exchange *ex);

/* Park until there is an answer, at most until `until_us` (monotonic); then the handler is called
 * again. While the server stops it is refused. */
enum ld_handled ld_ask_wait(struct ld_exchange *ex, int64_t until_us);

/* What was answered: the workers' JSON, or 503 where none could, or their error. */
enum ld_handled ld_ask_reply(struct ld_exchange *ex);

/* Nobody waits for this one any more; another may begin. */
void ld_ask_end(struct ld_exchange *ex);

#endif
