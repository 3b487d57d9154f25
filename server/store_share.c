/*
 * The store's side of the fair queue (fair.h): how every key stands, whose turn it is, how long a
 * waiting job still waits, and what each key has used.
 */
#include "server/store_internal.h"

#include "config/limits.h"
#include "runtime/base/clock.h"

#include <math.h>

static const int64_t day_us = INT64_C(24) * 3600 * 1000000;
static const double rate_memory_us = 300e6; /* older jobs say less and less */

static struct ld_fair_share share_of(const struct ld_store *store, const char *tenant)
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
    return ld_store_step_once(query, err);
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
    return ld_store_step_once(query, err);
}

enum ld_code ld_store_share_claimed(struct ld_store *store, const char *tenant, int64_t cost,
                                    struct ld_error *err)
{
    const struct ld_fair_share share = share_of(store, tenant);
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
    const struct ld_fair_share share = share_of(store, tenant);
    const int64_t back = (int64_t)((double)cost * unused);
    return move(store, tenant, 0, -1, cost, -ld_fair_charge(back, share.weight), 0, err);
}

enum ld_code ld_store_shares_recount(struct ld_store *store, struct ld_error *err)
{
    bool row = false;
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

struct waiting {
    struct ld_fair_key keys[LD_FAIR_KEYS_MAX];
    const char *tenants[LD_FAIR_KEYS_MAX]; /* in the arena */
    int64_t turns[LD_FAIR_KEYS_MAX];
    uint32_t count;
};

static enum ld_code load_waiting(struct ld_store *store, struct ld_db *db, struct ld_arena *arena,
                                 struct waiting **out, struct ld_error *err)
{
    bool row;
    enum ld_code code;
    struct waiting *waiting = ld_arena_alloc(arena, sizeof *waiting);
    struct ld_db_query *query = ld_db_use(db, SQL_SHARES_WAITING, err);
    *out = waiting;
    if (!waiting)
        return LD_FAIL(err, LD_E_NOMEM, "out of memory");
    if (!query)
        return err->code;
    ld_db_bind_int(query, 1, LD_FAIR_KEYS_MAX);
    while ((code = ld_db_step(query, &row, err)) == LD_OK && row &&
           waiting->count < LD_FAIR_KEYS_MAX) {
        const char *tenant = ld_arena_strdup(arena, ld_db_text(query, 0));
        if (!tenant) {
            code = LD_FAIL(err, LD_E_NOMEM, "out of memory");
            break;
        }
        const struct ld_fair_share share = share_of(store, tenant);
        waiting->keys[waiting->count] = (struct ld_fair_key){
            .vtime = ld_db_int(query, 1),
            .weight = share.weight,
            .queued = ld_db_int(query, 2),
            .queued_cost = ld_db_int(query, 3),
            .running = ld_db_int(query, 4),
            .running_max = share.running_max,
        };
        waiting->turns[waiting->count] = ld_db_int(query, 5);
        waiting->tenants[waiting->count++] = tenant;
    }
    ld_db_done(query);
    return code;
}

/* The key's job whose turn it is; `*row` is false when none of its jobs can start yet. */
static enum ld_code take_first(struct ld_store *store, const struct waiting *waiting,
                               int32_t chosen, const struct ld_fair_worker *worker,
                               char id[LD_ID_SIZE], bool *row, bool *found, struct ld_error *err)
{
    struct ld_db_query *query = ld_store_use(
        store, ld_fair_is_oldest_turn(waiting->turns[chosen]) ? SQL_JOB_OLDEST : SQL_JOB_FIRST,
        err);
    if (!query)
        return err->code;
    ld_db_bind_text(query, 1, waiting->tenants[chosen]);
    const enum ld_code code = ld_db_step(query, row, err);
    if (code == LD_OK && *row && ld_fair_may_start(ld_db_int(query, 1) != 0, worker)) {
        *found = true;
        (void)ld_fmt(id, LD_ID_SIZE, "%s", ld_db_text(query, 2));
        atomic_store(&store->fair_now, waiting->keys[chosen].vtime);
    }
    ld_db_done(query);
    return code;
}

enum ld_code ld_store_choose(struct ld_store *store, const struct ld_fair_worker *worker,
                             char id[LD_ID_SIZE], bool *found, struct ld_error *err)
{
    struct waiting *waiting;
    bool row = false;
    *found = false;
    if (!ld_fair_has_room(worker))
        return LD_OK;
    enum ld_code code = load_waiting(store, store->writer, &store->batch_arena, &waiting, err);
    if (code != LD_OK)
        return code;
    for (;;) {
        const int32_t chosen = ld_fair_choose(waiting->keys, waiting->count, worker);
        if (chosen == LD_FAIR_NONE)
            return LD_OK;
        if ((code = take_first(store, waiting, chosen, worker, id, &row, found, err)) != LD_OK)
            return code;
        if (row)
            return LD_OK;
        waiting->keys[chosen].running_max = 0; /* only sweeps that wait for their cells */
    }
}

/* ---- How long it still takes ----------------------------------------------------------------- */

static enum ld_code load_own_ahead(struct ld_db *db, const struct ld_store_job *job, int64_t seq,
                                   int64_t *count, int64_t *cost, struct ld_error *err)
{
    bool row;
    struct ld_db_query *query = ld_db_use(db, SQL_JOBS_AHEAD, err);
    if (!query)
        return err->code;
    ld_db_bind_text(query, 1, job->tenant);
    ld_db_bind_int(query, 2, job->priority);
    ld_db_bind_int(query, 3, seq);
    const enum ld_code code = ld_db_step(query, &row, err);
    *count = code == LD_OK && row ? ld_db_int(query, 0) : 0;
    *cost = code == LD_OK && row ? ld_db_int(query, 1) : 0;
    ld_db_done(query);
    return code;
}

static enum ld_code load_running_cost(struct ld_db *db, int64_t *cost, struct ld_error *err)
{
    bool row;
    struct ld_db_query *query = ld_db_use(db, SQL_SHARES_RUNNING, err);
    if (!query)
        return err->code;
    const enum ld_code code = ld_db_step(query, &row, err);
    *cost = code == LD_OK && row ? ld_db_int(query, 1) : 0;
    ld_db_done(query);
    return code;
}

/* What lies before a job of `tenant` that has `own_cost` of its own before it. */
static void look_ahead(const struct ld_store *store, const struct waiting *waiting,
                       const char *tenant, int64_t own_cost, struct ld_job_view *view)
{
    int64_t start = atomic_load(&store->fair_now); /* of the job, in virtual time */
    int64_t weight = LD_FAIR_WEIGHT_DEFAULT;
    for (uint32_t i = 0; i < waiting->count; i++) {
        if (strcmp(waiting->tenants[i], tenant) != 0)
            continue;
        start = waiting->keys[i].vtime;
        weight = waiting->keys[i].weight;
        view->running_max_reached = waiting->keys[i].running >= waiting->keys[i].running_max;
    }
    start += ld_fair_charge(own_cost, weight);
    view->position = view->own_ahead;
    view->cost_ahead += own_cost;
    for (uint32_t i = 0; i < waiting->count; i++) {
        int64_t cost;
        if (strcmp(waiting->tenants[i], tenant) == 0)
            continue;
        view->position += ld_fair_ahead(&waiting->keys[i], start, &cost);
        view->cost_ahead += cost;
    }
}

static enum ld_code load_ahead(struct ld_store *store, struct ld_db *db, const char *tenant,
                               int64_t own_cost, struct ld_job_view *view, struct ld_error *err)
{
    struct ld_arena arena;
    struct waiting *waiting = NULL;
    int64_t running_cost = 0;
    enum ld_code code = load_running_cost(db, &running_cost, err);
    ld_arena_init(&arena, "waiting keys", 4 << 20);
    if (code == LD_OK)
        code = load_waiting(store, db, &arena, &waiting, err);
    view->cost_ahead = running_cost / 2; /* those that run are half through, on average */
    if (code == LD_OK)
        look_ahead(store, waiting, tenant, own_cost, view);
    ld_arena_deinit(&arena);
    return code;
}

enum ld_code ld_store_load_ahead(struct ld_store *store, struct ld_db *db, int64_t seq,
                                 struct ld_store_job *job, struct ld_error *err)
{
    int64_t own_cost = 0;
    const enum ld_code code = load_own_ahead(db, job, seq, &job->view.own_ahead, &own_cost, err);
    return code == LD_OK ? load_ahead(store, db, job->tenant, own_cost, &job->view, err) : code;
}

enum ld_code ld_store_forecast(struct ld_store *store, const char *tenant, int64_t *cost_ahead,
                               struct ld_error *err)
{
    bool row = false;
    struct ld_job_view view = {0};
    struct ld_db *reader = ld_store_reader_take(store);
    struct ld_db_query *query = ld_db_use(reader, SQL_SHARE_GET, err);
    enum ld_code code = query ? LD_OK : err->code;
    int64_t own_cost = 0;
    if (query) {
        ld_db_bind_text(query, 1, tenant);
        code = ld_db_step(query, &row, err);
        own_cost = code == LD_OK && row ? ld_db_int(query, 3) : 0;
        ld_db_done(query);
    }
    if (code == LD_OK)
        code = load_ahead(store, reader, tenant, own_cost, &view, err);
    ld_store_reader_give(store, reader);
    *cost_ahead = view.cost_ahead;
    return code;
}

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

enum ld_code ld_store_drain_seconds(struct ld_store *store, const char *tenant, double *own,
                                    double *any, struct ld_error *err)
{
    struct ld_arena arena;
    struct waiting *waiting = NULL;
    const double rate = ld_store_rate(store);
    double weights = 0;
    double own_weight = 0;
    double own_mean = 0;
    double cost = 0;
    double queued = 0;
    *own = *any = -1;
    ld_arena_init(&arena, "waiting keys", 4 << 20);
    struct ld_db *reader = ld_store_reader_take(store);
    const enum ld_code code = load_waiting(store, reader, &arena, &waiting, err);
    ld_store_reader_give(store, reader);
    for (uint32_t i = 0; code == LD_OK && i < waiting->count; i++) {
        const struct ld_fair_key *key = &waiting->keys[i];
        weights += (double)key->weight;
        cost += (double)key->queued_cost;
        queued += (double)key->queued;
        if (strcmp(waiting->tenants[i], tenant) == 0) {
            own_weight = (double)key->weight;
            own_mean = (double)key->queued_cost / (double)key->queued;
        }
    }
    if (rate > 0 && queued > 0)
        *any = cost / queued / rate;
    if (rate > 0 && own_weight > 0)
        *own = own_mean / (rate * own_weight / weights);
    ld_arena_deinit(&arena);
    return code;
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
