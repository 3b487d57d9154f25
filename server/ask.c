#include "server/ask.h"

#include "runtime/base/clock.h"
#include "server/front.h"

static const int64_t look_us = (int64_t)5 * 1000000;

struct asking {
    struct ld_exchange *ex;
    enum ld_model_order order;
    atomic_bool answered;
    enum ld_code code;
    char detail[LD_ERROR_DETAIL_SIZE];
    struct ld_buffer json;
};

static void end_asking(void *state)
{
    struct asking *asking = state;
    ld_supervisor_plan_drop(asking->ex->front->supervisor, asking);
    ld_buffer_deinit(&asking->json);
    ld_heap_free(asking);
}

static void take_answer(void *ctx, enum ld_code code, const char *detail, const char *json)
{
    struct asking *asking = ctx;
    asking->code = code;
    (void)ld_fmt(asking->detail, sizeof asking->detail, "%s", detail);
    ld_buffer_text(&asking->json, json);
    atomic_store(&asking->answered, true);
    ld_exchange_wake(asking->ex);
}

bool ld_ask_begin(struct ld_exchange *ex, const char *name, enum ld_model_order order)
{
    struct asking *asking = ld_heap_alloc(sizeof *asking);
    LD_ASSERT(!ex->state);
    if (!asking)
        return false;
    asking->ex = ex;
    asking->order = order;
    asking->json = ld_buffer_make(1 << 20);
    ex->state = asking;
    ex->state_free = end_asking;
    if (order == LD_MODEL_RESCAN)
        ld_supervisor_rescan(ex->front->supervisor, take_answer, asking);
    else
        ld_supervisor_model(ex->front->supervisor, name, order, take_answer, asking);
    return true;
}

enum ld_model_order ld_ask_order(const struct ld_exchange *ex)
{
    return ((const struct asking *)ex->state)->order;
}

bool ld_ask_is_answered(const struct ld_exchange *ex)
{
    return atomic_load(&((struct asking *)ex->state)->answered);
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
    if (asking->code == LD_E_UNSUPPORTED || asking->code == LD_E_TIMEOUT)
        return ld_exchange_refuse(ex, asking->code, 503, asking->detail);
    if (asking->code != LD_OK) /* of a scan it is the disk's state, not the call's path */
        return ld_exchange_refuse(
            ex, asking->order == LD_MODEL_RESCAN ? LD_E_CONFLICT : asking->code, 0, asking->detail);
    ld_buffer_bytes(&ex->reply.body, asking->json.data, asking->json.size);
    return ld_exchange_json(ex, 200);
}

void ld_ask_end(struct ld_exchange *ex)
{
    ex->state_free(ex->state);
    ex->state = NULL;
    ex->state_free = NULL;
}
