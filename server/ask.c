#include "server/ask.h"

#include "runtime/base/clock.h"
#include "server/front.h"

/* The supervisor answers in time whatever happens; this is for a lost wake. */
static const int64_t look_us = (int64_t)5 * 1000000;

/* ---- The answer ------------------------------------------------------------------------------ */

void ld_answer_init(struct ld_answer *answer, struct ld_exchange *ex, size_t bytes_max)
{
    answer->ex = ex;
    answer->json = ld_buffer_make(bytes_max);
}

void ld_answer_take(void *ctx, enum ld_code code, const char *detail, const char *json)
{
    struct ld_answer *answer = ctx;
    answer->code = code;
    (void)ld_fmt(answer->detail, sizeof answer->detail, "%s", detail);
    ld_buffer_text(&answer->json, json);
    atomic_store(&answer->there, true);
    ld_exchange_wake(answer->ex);
}

void ld_answer_end(struct ld_answer *answer)
{
    ld_supervisor_plan_drop(answer->ex->front->supervisor, answer);
    ld_buffer_deinit(&answer->json);
}

bool ld_answer_is_late(const struct ld_answer *answer)
{
    return answer->code == LD_E_UNSUPPORTED || answer->code == LD_E_TIMEOUT;
}

/* ---- Orders about models --------------------------------------------------------------------- */

struct asking {
    struct ld_answer answer;
    enum ld_model_order order;
};

static void end_asking(void *state)
{
    struct asking *asking = state;
    ld_answer_end(&asking->answer);
    ld_heap_free(asking);
}

bool ld_ask_begin(struct ld_exchange *ex, const char *name, enum ld_model_order order)
{
    struct asking *asking = ld_heap_alloc(sizeof *asking);
    LD_ASSERT(!ex->state);
    if (!asking)
        return false;
    ld_answer_init(&asking->answer, ex, 1 << 20);
    asking->order = order;
    ex->state = asking;
    ex->state_free = end_asking;
    if (order == LD_MODEL_RESCAN)
        ld_supervisor_rescan(ex->front->supervisor, ld_answer_take, &asking->answer);
    else
        ld_supervisor_model(ex->front->supervisor, name, order, ld_answer_take, &asking->answer);
    return true;
}

enum ld_model_order ld_ask_order(const struct ld_exchange *ex)
{
    return ((const struct asking *)ex->state)->order;
}

bool ld_ask_is_answered(const struct ld_exchange *ex)
{
    return atomic_load(&((struct asking *)ex->state)->answer.there);
}

enum ld_handled ld_ask_wait(struct ld_exchange *ex, int64_t until_us)
{
    const int64_t now_us = ld_clock_monotonic_us();
    if (ex->stopping)
        return ld_exchange_refuse(ex, LD_E_DRAINING, 0, "the server is shutting down");
    ex->park_until_us = until_us < now_us + look_us ? until_us : now_us + look_us;
    return LD_PARKED;
}

enum ld_handled ld_ask_reply(struct ld_exchange *ex)
{
    const struct asking *asking = ex->state;
    const struct ld_answer *answer = &asking->answer;
    if (ld_answer_is_late(answer))
        return ld_exchange_refuse(ex, answer->code, 503, answer->detail);
    if (answer->code != LD_OK) /* of a scan it is the disk's state, not the call's path */
        return ld_exchange_refuse(
            ex, asking->order == LD_MODEL_RESCAN ? LD_E_CONFLICT : answer->code, 0, answer->detail);
    if (answer->json.failed)
        return ld_exchange_refuse(ex, LD_E_NOMEM, 0, "out of memory");
    ld_buffer_bytes(&ex->reply.body, answer->json.data, answer->json.size);
    return ld_exchange_json(ex, 200);
}

void ld_ask_end(struct ld_exchange *ex)
{
    ex->state_free(ex->state);
    ex->state = NULL;
    ex->state_free = NULL;
}
