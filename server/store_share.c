/*
 * The store's side of the fair queue (fair.h): how every key stands, whose turn it is, and what
 * each key has used.
 */
#include "server/store_internal.h"

#include "config/limits.h"
#include "runtime/base/clock.h"

#include <math.h>

static const int64_t day_us = INT64_C(24) * 3600 * 1000000;
static const double rate_memory_us = 300e6; /* older jobs say less and less */

struct ld_fair_share ld_store_share_of(const struct ld_store *store, const char *tenant)
{
    struct ld_fair_share share = {LD_FAIR_WEIGHT_DEFAULT, LD_RUNNING_PER_KEY_MAX};
    if (store->config.share)
        store->config.share(store->config.share_ctx, tenant, &share);
    return share;
}

/* ---- Moves ----------------------------------------------------------------------------------- */

enum ld_code ld_store_share_join(struct ld_store *store, const char *tenant, int64_t cost,
                                 struct ld_error *err)
{
    struct ld_db_query *query = ld_store_use(store, SQL_SHARE_JOIN, err);
    if (!query)
        return err->code;
    ld_db_bind_text(query, 1, tenant);
    ld_db_bind_int(query, 2, atomic_load(&store->fair_now));
    ld_db_bind_int(query, 3, cost);
    const enum ld_code code = ld_store_step_once(query, err);
    return code == LD_OK ? ld_store_ahead_follow(store, tenant, 1, 0, err) : code;
}

static enum ld_code move(struct ld_store *store, const char *tenant, int64_t queued,
                         int64_t running, int64_t cost, int64_t vtime, int64_t turns,
                         struct ld_error *err)
{
    struct ld_db_query *query = ld_store_use(store, SQL_SHARE_MOVE, err);
    if (!query)
        return err->code;
    ld_db_bind_text(query, 1, tenant);
    ld_db_bind_int(query, 2, queued);
    ld_db_bind_int(query, 3, queued * cost);
    ld_db_bind_int(query, 4, running);
    ld_db_bind_int(query, 5, running * cost);
    ld_db_bind_int(query, 6, vtime);
    ld_db_bind_int(query, 7, turns);
    const enum ld_code code = ld_store_step_once(query, err);
    return code == LD_OK ? ld_store_ahead_follow(store, tenant, queued, running * cost, err) : code;
}

enum ld_code ld_store_share_claimed(struct ld_store *store, const char *tenant, int64_t cost,
                                    struct ld_error *err)
{
    const struct ld_fair_share share = ld_store_share_of(store, tenant);
    return move(store, tenant, -1, 1, cost, ld_fair_charge(cost, share.weight), 1, err);
}

enum ld_code ld_store_share_unqueue(struct ld_store *store, const struct ld_store_row *row,
                                    struct ld_error *err)
{
    const struct ld_store_usage back = {.work = -row->work};
    const enum ld_code code = move(store, row->tenant, -1, 0, row->cost, 0, 0, err);
    return code == LD_OK ? ld_store_usage_add(store, row->tenant, row->created_us, &back, err)
                         : code;
}

enum ld_code ld_store_share_ended(struct ld_store *store, const char *tenant, int64_t cost,
                                  double unused, struct ld_error *err)
{
    const struct ld_fair_share share = ld_store_share_of(store, tenant);
    const int64_t back = (int64_t)((double)cost * unused);
    return move(store, tenant, 0, -1, cost, -ld_fair_charge(back, share.weight), 0, err);
}

enum ld_code ld_store_shares_recount(struct ld_store *store, struct ld_error *err)
{
    bool row = false;
    ld_store_ahead_forget(store);
    struct ld_db_query *query = ld_store_use(store, SQL_SHARES_RESET, err);
    enum ld_code code = query ? ld_store_step_once(query, err) : err->code;
    if (code != LD_OK || !(query = ld_store_use(store, SQL_SHARES_LEAST, err)))
        return err->code;
    code = ld_db_step(query, &row, err);
    atomic_store(&store->fair_now, code == LD_OK && row ? ld_db_int(query, 0) : 0);
    ld_db_done(query);
    if (code != LD_OK || !(query = ld_store_use(store, SQL_SHARES_COUNT, err)))
        return err->code;
    ld_db_bind_int(query, 1, atomic_load(&store->fair_now));
    return ld_store_step_once(query, err);
}

/* ---- Whose turn it is ------------------------------------------------------------------------ */

/* The key's job whose turn it is; `*row` is false when none of its jobs can start yet. */
static enum ld_code take_first(struct ld_store *store, const struct ld_store_waiting *chosen,
                               const struct ld_fair_worker *worker, char id[LD_ID_SIZE], bool *row,
                               bool *found, struct ld_error *err)
{
    struct ld_db_query *query = ld_store_use(
        store, ld_fair_is_oldest_turn(chosen->turns) ? SQL_JOB_OLDEST : SQL_JOB_FIRST, err);
    if (!query)
        return err->code;
    ld_db_bind_text(query, 1, chosen->tenant);
    const enum ld_code code = ld_db_step(query, row, err);
    if (code == LD_OK && *row && ld_fair_may_start(ld_db_int(query, 1) != 0, worker)) {
        *found = true;
        (void)ld_fmt(id, LD_ID_SIZE, "%s", ld_db_text(query, 2));
        atomic_store(&store->fair_now, chosen->key.vtime);
    }
    ld_db_done(query);
    return code;
}

enum ld_code ld_store_choose(struct ld_store *store, const struct ld_fair_worker *worker,
                             char id[LD_ID_SIZE], bool *found, struct ld_error *err)
{
    const struct ld_store_waiting *waiting;
    uint32_t count;
    bool row = false;
    *found = false;
    if (!ld_fair_has_room(worker))
        return LD_OK;
    enum ld_code code = ld_store_waiting_keys(store, &waiting, &count, err);
    if (code != LD_OK || count == 0)
        return code;
    struct ld_fair_key *keys = ld_arena_calloc(&store->batch_arena, count, sizeof *keys);
    if (!keys)
        return LD_FAIL(err, LD_E_NOMEM, "out of memory");
    for (uint32_t i = 0; i < count; i++)
        keys[i] = waiting[i].key;
    for (;;) {
        const int32_t chosen = ld_fair_choose(keys, count, worker);
        if (chosen == LD_FAIR_NONE)
            return LD_OK;
        code = take_first(store, &waiting[chosen], worker, id, &row, found, err);
        if (code != LD_OK || row)
            return code;
        keys[chosen].running_max = 0; /* only sweeps that wait for their cells */
    }
}

/* ---- What is done in a second ----------------------------------------------------------------- */

/* Busy time is what lies between the last end and this one, as far as this job ran in it. */
void ld_store_rate_note(struct ld_store *store, int64_t claimed_us, int64_t cost)
{
    const int64_t now_us = ld_clock_monotonic_us();
    const int64_t from_us = claimed_us > store->rate_at_us ? claimed_us : store->rate_at_us;
    if (claimed_us <= 0)
        return;
    const double busy_us = (double)(now_us - from_us);
    const double kept = exp(-busy_us / rate_memory_us);
    store->rate_at_us = now_us;
    store->rate_busy_us = store->rate_busy_us * kept + busy_us;
    store->rate_cost = store->rate_cost * kept + (double)cost;
    if (store->rate_busy_us > 0)
        atomic_store(&store->rate_milli,
                     (int64_t)(store->rate_cost / store->rate_busy_us * 1e9 + 0.5));
}

double ld_store_rate(struct ld_store *store)
{
    return (double)atomic_load(&store->rate_milli) / 1000.0;
}

/* ---- Usage ----------------------------------------------------------------------------------- */

int64_t ld_store_day(int64_t wall_us)
{
    return wall_us / day_us;
}

enum ld_code ld_store_usage_add(struct ld_store *store, const char *tenant, int64_t at_us,
                                const struct ld_store_usage *more, struct ld_error *err)
{
    struct ld_db_query *query = ld_store_use(store, SQL_USAGE_ADD, err);
    if (!query)
        return err->code;
    ld_db_bind_text(query, 1, tenant);
    ld_db_bind_int(query, 2, ld_store_day(at_us));
    ld_db_bind_int(query, 3, more->jobs);
    ld_db_bind_int(query, 4, more->images);
    ld_db_bind_int(query, 5, more->work);
    ld_db_bind_int(query, 6, more->compute_us);
    return ld_store_step_once(query, err);
}

enum ld_code ld_store_usage_on(struct ld_db *db, const char *tenant, int64_t day,
                               struct ld_store_usage *usage, struct ld_error *err)
{
    bool row = false;
    struct ld_db_query *query = ld_db_use(db, day < 0 ? SQL_USAGE_TOTAL : SQL_USAGE_DAY, err);
    memset(usage, 0, sizeof *usage);
    if (!query)
        return err->code;
    ld_db_bind_text(query, 1, tenant);
    if (day >= 0)
        ld_db_bind_int(query, 2, day);
    const enum ld_code code = ld_db_step(query, &row, err);
    if (code == LD_OK && row)
        *usage = (struct ld_store_usage){ld_db_int(query, 0), ld_db_int(query, 1),
                                         ld_db_int(query, 2), ld_db_int(query, 3)};
    ld_db_done(query);
    return code;
}

enum ld_code ld_store_standing(struct ld_store *store, const char *tenant,
                               struct ld_store_standing *standing, struct ld_error *err)
{
    bool row = false;
    struct ld_db *reader = ld_store_reader_take(store);
    struct ld_db_query *query = ld_db_use(reader, SQL_SHARE_GET, err);
    enum ld_code code = query ? LD_OK : err->code;
    memset(standing, 0, sizeof *standing);
    if (query) {
        ld_db_bind_text(query, 1, tenant);
        code = ld_db_step(query, &row, err);
        if (code == LD_OK && row) {
            standing->queued = ld_db_int(query, 2);
            standing->running = ld_db_int(query, 4);
        }
        ld_db_done(query);
    }
    if (code == LD_OK)
        code = ld_store_usage_on(reader, tenant, ld_store_day(ld_clock_wall_us()), &standing->today,
                                 err);
    if (code == LD_OK)
        code = ld_store_usage_on(reader, tenant, -1, &standing->total, err);
    ld_store_reader_give(store, reader);
    return code;
}
