/* Models by hand: loading one before somebody needs it, and letting one go. */
#include "server/handlers.h"

#include "runtime/base/clock.h"
#include "server/front.h"

/* What the workers answer, on its way from the supervisor's thread to the exchange. */
struct asking {
    struct ld_exchange *ex;
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

static enum ld_handled wait_for_answer(struct ld_exchange *ex)
{
    const struct asking *asking = ex->state;
    if (!atomic_load(&asking->answered)) {
        if (ex->stopping)
            return ld_exchange_refuse(ex, LD_E_DRAINING, 0, "the server is shutting down");
        ex->park_until_us = ld_clock_monotonic_us() + (int64_t)5 * 1000000;
        return LD_PARKED;
    }
    if (asking->code == LD_E_UNSUPPORTED || asking->code == LD_E_TIMEOUT)
        return ld_exchange_refuse(ex, asking->code, 503, asking->detail);
    if (asking->code != LD_OK)
        return ld_exchange_refuse(ex, asking->code, 0, asking->detail);
    ld_buffer_bytes(&ex->reply.body, asking->json.data, asking->json.size);
    return ld_exchange_json(ex, 200);
}

static enum ld_handled ask(struct ld_exchange *ex, enum ld_model_order order)
{
    if (ex->state)
        return wait_for_answer(ex);
    const char *name = ld_exchange_param(ex, 0);
    if (!name)
        return ld_exchange_refuse(ex, LD_E_NOMEM, 0, "out of memory");
    const struct ld_inventory *inventory = ld_inventory_acquire(ex->front->inventory);
    const bool known =
        ld_name_is_plausible(ld_span_text(name)) && ld_inventory_model(inventory, name) != NULL;
    ld_inventory_release(ex->front->inventory, inventory);
    if (!known)
        return ld_exchange_refuse(ex, LD_E_NOT_FOUND, 0, "there is no such model");
    struct asking *asking = ld_heap_alloc(sizeof *asking);
    if (!asking)
        return ld_exchange_refuse(ex, LD_E_NOMEM, 0, "out of memory");
    asking->ex = ex;
    asking->json = ld_buffer_make(1 << 20);
    ex->state = asking;
    ex->state_free = end_asking;
    ld_supervisor_model(ex->front->supervisor, name, order, take_answer, asking);
    return wait_for_answer(ex);
}

enum ld_handled ld_handle_model_load(struct ld_exchange *ex)
{
    return ask(ex, LD_MODEL_LOAD);
}

enum ld_handled ld_handle_model_unload(struct ld_exchange *ex)
{
    return ask(ex, LD_MODEL_UNLOAD);
}
