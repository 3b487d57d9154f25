/* Models by hand: loading one before somebody needs it, letting one go, and the folders again. */
#include "server/handlers.h"

#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "server/ask.h"
#include "server/front.h"

/* Web interfaces wait for a refresh before they list; a first look at a large file takes longer. */
static const int64_t refresh_patience_us = (int64_t)10 * 1000000;

static enum ld_handled no_memory(struct ld_exchange *ex)
{
    return ld_exchange_refuse(ex, LD_E_NOMEM, 0, "out of memory");
}

static enum ld_handled reply_or_wait(struct ld_exchange *ex)
{
    return ld_ask_is_answered(ex) ? ld_ask_reply(ex) : ld_ask_wait(ex, INT64_MAX);
}

/* ---- One model ------------------------------------------------------------------------------- */

static bool is_known(struct ld_exchange *ex, const char *name)
{
    const struct ld_inventory *inventory = ld_inventory_acquire(ex->front->inventory);
    const bool known = *name && ld_inventory_model(inventory, name) != NULL;
    ld_inventory_release(ex->front->inventory, inventory);
    return known;
}

static enum ld_handled refuse_unknown(struct ld_exchange *ex, const char *name)
{
    struct ld_error err = {0};
    const struct ld_inventory *inventory = ld_inventory_acquire(ex->front->inventory);
    const char *reason = ld_inventory_unusable(inventory, "model", name);
    (void)(reason ? LD_FAIL(&err, LD_E_NOT_FOUND,
                            "model '%.100s' is here but cannot be used: %.300s", name, reason)
                  : LD_FAIL(&err, LD_E_NOT_FOUND, "there is no such model"));
    ld_inventory_release(ex->front->inventory, inventory);
    return ld_exchange_fail(ex, &err);
}

/* Its file may be newer than the last look at the folder: one more look, and then it is judged. */
enum ld_handled ld_handle_model_load(struct ld_exchange *ex)
{
    const char *name = ld_exchange_param(ex, 0);
    if (!name)
        return no_memory(ex);
    if (!ex->state) {
        if (!ld_name_is_plausible(ld_span_text(name)))
            return refuse_unknown(ex, name);
        if (!ld_ask_begin(ex, name, is_known(ex, name) ? LD_MODEL_LOAD : LD_MODEL_RESCAN))
            return no_memory(ex);
    }
    if (ld_ask_order(ex) == LD_MODEL_RESCAN && ld_ask_is_answered(ex)) {
        ld_ask_end(ex);
        if (!is_known(ex, name))
            return refuse_unknown(ex, name);
        if (!ld_ask_begin(ex, name, LD_MODEL_LOAD))
            return no_memory(ex);
    }
    return reply_or_wait(ex);
}

enum ld_handled ld_handle_model_unload(struct ld_exchange *ex)
{
    const char *name = ld_exchange_param(ex, 0);
    if (!name)
        return no_memory(ex);
    if (!ex->state) {
        if (!ld_name_is_plausible(ld_span_text(name)) || !is_known(ex, name))
            return refuse_unknown(ex, name);
        if (!ld_ask_begin(ex, name, LD_MODEL_UNLOAD))
            return no_memory(ex);
    }
    return reply_or_wait(ex);
}

/* ---- The folders ----------------------------------------------------------------------------- */

static bool begin_scan(struct ld_exchange *ex)
{
    LD_LOG(LD_LOG_INFO, "serve", "the folders are scanned again", ld_log_text("by", ex->tenant));
    return ld_ask_begin(ex, "", LD_MODEL_RESCAN);
}

enum ld_handled ld_handle_rescan(struct ld_exchange *ex)
{
    struct ld_error err = {0};
    if (!ex->state && ld_guides_reread(ex->front->guides, &err) != LD_OK)
        return ld_exchange_refuse(ex, LD_E_CONFLICT, 0, err.detail);
    if (!ex->state && !begin_scan(ex))
        return no_memory(ex);
    return reply_or_wait(ex);
}

/* Reading every header of a folder is an administrator's to ask for, or that of the person at this
 * machine whom nobody gave a key. */
static bool may_rescan(const struct ld_exchange *ex)
{
    const struct ld_front *front = ex->front;
    return ld_caller_may(&ex->caller, LD_SCOPE_ADMIN) ||
           (ex->caller.anonymous && front->local_only && !front->settings->behind_proxy);
}

/* A1111's buttons: `null` to everybody, for whom the lists are new by then. */
enum ld_handled ld_handle_a1111_refresh(struct ld_exchange *ex)
{
    if (may_rescan(ex)) {
        const int64_t until_us = ex->began_us + refresh_patience_us;
        struct ld_error err = {0};
        if (!ex->state && ld_guides_reread(ex->front->guides, &err) != LD_OK)
            ld_log_error(LD_LOG_ERROR, "serve", "the manifests were not read again", &err);
        if (!ex->state && !begin_scan(ex))
            return no_memory(ex);
        if (!ld_ask_is_answered(ex) && !ex->stopping && ld_clock_monotonic_us() < until_us)
            return ld_ask_wait(ex, until_us);
    }
    ld_buffer_text(&ex->reply.body, "null");
    return ld_exchange_json(ex, 200);
}
