/*
 * How the keys with waiting jobs stand: whose turn it is, how many jobs wait, and how long one of
 * them still does. All that is kept in memory: the writer brings it up after each change of a key's
 * row, and shows the readers a copy after each commit. A poll therefore costs the same however many
 * keys and jobs wait, and a claim reads no key's row.
 */
#include "server/store_internal.h"

#include "config/limits.h"
#include "runtime/base/clock.h"

#include <stddef.h>

enum { SHARES_AGE_MAX_US = 1000000 }; /* a key's changed weight counts a second later */

/* Keys with waiting jobs in the order of their names, and the sums over all keys. */
struct standings {
    bool known; /* else they must be loaded */
    bool all;   /* no key was left out for want of room */
    uint32_t count;
    int64_t queued, running_cost;
    int64_t shares_us; /* when the weights were last asked for, monotonic */
    struct ld_store_waiting keys[LD_FAIR_KEYS_MAX];
};

struct ld_store_ahead {
    struct standings own; /* the writer's, as of its last statement */
    bool touched;         /* by the running operation */
    bool is_shown;        /* nothing has changed since: a commit of events alone copies nothing */
    pthread_mutex_t lock; /* guards what follows; the keyring's may be taken within it */
    struct standings shown;
};

enum ld_code ld_store_ahead_create(struct ld_store *store, struct ld_error *err)
{
    struct ld_store_ahead *ahead = ld_heap_alloc(sizeof *ahead);
    if (!ahead)
        return LD_FAIL(err, LD_E_NOMEM, "out of memory");
    (void)pthread_mutex_init(&ahead->lock, NULL);
    store->ahead = ahead;
    return LD_OK;
}

void ld_store_ahead_destroy(struct ld_store *store)
{
    if (store->ahead)
        (void)pthread_mutex_destroy(&store->ahead->lock);
    ld_heap_free(store->ahead);
}

/* ---- The writer's side ----------------------------------------------------------------------- */

/* Where a key is, or would have to be put. */
static uint32_t place_of(const struct standings *standings, const char *tenant)
{
    uint32_t low = 0;
    uint32_t high = standings->count;
    while (low < high) {
        const uint32_t middle = low + (high - low) / 2;
        if (strcmp(standings->keys[middle].tenant, tenant) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static bool is_at(const struct standings *standings, uint32_t place, const char *tenant)
{
    return place < standings->count && strcmp(standings->keys[place].tenant, tenant) == 0;
}

static const struct ld_store_waiting *find(const struct standings *standings, const char *tenant)
{
    const uint32_t place = place_of(standings, tenant);
    return is_at(standings, place, tenant) ? &standings->keys[place] : NULL;
}

static void ask_share(const struct ld_store *store, struct ld_store_waiting *waiting)
{
    const struct ld_fair_share share = ld_store_share_of(store, waiting->tenant);
    waiting->key.weight = share.weight;
    waiting->key.running_max = share.running_max;
}

/* Weights change without the store hearing of it. */
static void refresh_shares(const struct ld_store *store, struct standings *standings)
{
    const int64_t now_us = ld_clock_monotonic_us();
    if (now_us - standings->shares_us < SHARES_AGE_MAX_US)
        return;
    standings->shares_us = now_us;
    for (uint32_t i = 0; i < standings->count; i++)
        ask_share(store, &standings->keys[i]);
}

static enum ld_code load_sums(struct ld_store *store, struct standings *own, struct ld_error *err)
{
    bool row;
    struct ld_db_query *query = ld_store_use(store, SQL_SHARES_SUMS, err);
    if (!query)
        return err->code;
    const enum ld_code code = ld_db_step(query, &row, err);
    own->queued = code == LD_OK && row ? ld_db_int(query, 0) : 0;
    own->running_cost = code == LD_OK && row ? ld_db_int(query, 1) : 0;
    ld_db_done(query);
    return code;
}

/* The columns from `at` on: virtual time, turns, waiting jobs, their cost, running jobs. */
static void read_key(struct ld_db_query *row, int at, struct ld_store_waiting *waiting)
{
    waiting->key = (struct ld_fair_key){.vtime = ld_db_int(row, at),
                                        .queued = ld_db_int(row, at + 2),
                                        .queued_cost = ld_db_int(row, at + 3),
                                        .running = ld_db_int(row, at + 4)};
    waiting->turns = ld_db_int(row, at + 1);
}

static enum ld_code load(struct ld_store *store, struct standings *own, struct ld_error *err)
{
    bool row = false;
    enum ld_code code = load_sums(store, own, err);
    struct ld_db_query *query = code == LD_OK ? ld_store_use(store, SQL_SHARES_WAITING, err) : NULL;
    if (!query)
        return err->code;
    own->count = 0;
    ld_db_bind_int(query, 1, LD_FAIR_KEYS_MAX);
    while ((code = ld_db_step(query, &row, err)) == LD_OK && row && own->count < LD_FAIR_KEYS_MAX) {
        struct ld_store_waiting *waiting = &own->keys[own->count++];
        (void)ld_fmt(waiting->tenant, sizeof waiting->tenant, "%s", ld_db_text(query, 0));
        read_key(query, 1, waiting);
    }
    ld_db_done(query);
    own->all = own->count < LD_FAIR_KEYS_MAX;
    own->shares_us = INT64_MIN / 2;
    own->known = code == LD_OK;
    return code;
}

/* The writer's standings, of this very moment. */
static enum ld_code bring_up(struct ld_store *store, struct ld_error *err)
{
    struct standings *own = &store->ahead->own;
    const enum ld_code code = own->known && own->all ? LD_OK : load(store, own, err);
    if (code == LD_OK)
        refresh_shares(store, own);
    return code;
}

static void take_out(struct standings *own, uint32_t place)
{
    struct ld_store_waiting *at = &own->keys[place];
    own->count--;
    memmove(at, at + 1, (own->count - place) * sizeof *at);
}

static void put(struct ld_store *store, const struct ld_store_waiting *waiting)
{
    struct standings *own = &store->ahead->own;
    const uint32_t place = place_of(own, waiting->tenant);
    struct ld_store_waiting *at = &own->keys[place];
    const bool there = is_at(own, place, waiting->tenant);
    if (waiting->key.queued == 0) {
        if (there)
            take_out(own, place);
        return;
    }
    if (!there) {
        own->all = own->all && own->count + 1 < LD_FAIR_KEYS_MAX;
        if (!own->all)
            return; /* loaded anew when it is next needed */
        memmove(at + 1, at, (own->count - place) * sizeof *at);
        own->count++;
    }
    *at = *waiting;
    ask_share(store, at);
}

enum ld_code ld_store_ahead_follow(struct ld_store *store, const char *tenant,
                                   int64_t queued_change, int64_t running_cost_change,
                                   struct ld_error *err)
{
    bool row = false;
    struct standings *own = &store->ahead->own;
    store->ahead->touched = true;
    store->ahead->is_shown = false;
    if (!own->known)
        return LD_OK;
    struct ld_db_query *query = ld_store_use(store, SQL_SHARE_GET, err);
    if (!query)
        return err->code;
    ld_db_bind_text(query, 1, tenant);
    const enum ld_code code = ld_db_step(query, &row, err);
    struct ld_store_waiting waiting = {0};
    (void)ld_fmt(waiting.tenant, sizeof waiting.tenant, "%s", tenant);
    if (code == LD_OK && row)
        read_key(query, 0, &waiting);
    ld_db_done(query);
    if (code != LD_OK)
        return code;
    own->queued += queued_change;
    own->running_cost += running_cost_change;
    put(store, &waiting);
    return LD_OK;
}

void ld_store_ahead_begin(struct ld_store *store)
{
    store->ahead->touched = false;
}

void ld_store_ahead_undo(struct ld_store *store)
{
    if (store->ahead->touched)
        store->ahead->own.known = false;
}

void ld_store_ahead_forget(struct ld_store *store)
{
    store->ahead->own.known = false;
    store->ahead->is_shown = false;
}

enum ld_code ld_store_ahead_show(struct ld_store *store, struct ld_error *err)
{
    const struct standings *own = &store->ahead->own;
    struct standings *shown = &store->ahead->shown;
    if (store->ahead->is_shown)
        return LD_OK;
    const enum ld_code code = bring_up(store, err);
    if (code != LD_OK)
        return code;
    pthread_mutex_lock(&store->ahead->lock);
    memcpy(shown, own, offsetof(struct standings, keys) + own->count * sizeof own->keys[0]);
    pthread_mutex_unlock(&store->ahead->lock);
    store->ahead->is_shown = true;
    return LD_OK;
}

/* ---- Who waits, and how many ----------------------------------------------------------------- */

enum ld_code ld_store_waiting_keys(struct ld_store *store, const struct ld_store_waiting **keys,
                                   uint32_t *count, struct ld_error *err)
{
    const enum ld_code code = bring_up(store, err);
    *keys = store->ahead->own.keys;
    *count = code == LD_OK ? store->ahead->own.count : 0;
    return code;
}

enum ld_code ld_store_queued(struct ld_store *store, struct ld_db *db, int64_t *queued,
                             struct ld_error *err)
{
    struct ld_store_ahead *ahead = store->ahead;
    if (db == store->writer) {
        const enum ld_code code = bring_up(store, err);
        *queued = code == LD_OK ? ahead->own.queued : 0;
        return code;
    }
    pthread_mutex_lock(&ahead->lock);
    *queued = ahead->shown.queued;
    pthread_mutex_unlock(&ahead->lock);
    return LD_OK;
}

/* ---- What lies before a job ------------------------------------------------------------------ */

/* Before a job of `tenant` that has `own_cost` of its own before it. */
static void look(const struct ld_store *store, const struct standings *standings,
                 const char *tenant, int64_t own_cost, struct ld_job_view *view)
{
    const struct ld_store_waiting *own = find(standings, tenant);
    int64_t start = own ? own->key.vtime : atomic_load(&store->fair_now); /* in virtual time */
    start += ld_fair_charge(own_cost, own ? own->key.weight : LD_FAIR_WEIGHT_DEFAULT);
    view->running_max_reached = own && own->key.running >= own->key.running_max;
    view->position = view->own_ahead;
    view->cost_ahead = standings->running_cost / 2; /* half through, on average */
    view->cost_ahead += own_cost;
    for (uint32_t i = 0; i < standings->count; i++) {
        int64_t cost;
        if (&standings->keys[i] == own)
            continue;
        view->position += ld_fair_ahead(&standings->keys[i].key, start, &cost);
        view->cost_ahead += cost;
    }
}

static enum ld_code look_ahead(struct ld_store *store, struct ld_db *db, const char *tenant,
                               int64_t own_cost, struct ld_job_view *view, struct ld_error *err)
{
    struct ld_store_ahead *ahead = store->ahead;
    if (db == store->writer) {
        const enum ld_code code = bring_up(store, err);
        if (code == LD_OK)
            look(store, &ahead->own, tenant, own_cost, view);
        return code;
    }
    pthread_mutex_lock(&ahead->lock);
    refresh_shares(store, &ahead->shown);
    look(store, &ahead->shown, tenant, own_cost, view);
    pthread_mutex_unlock(&ahead->lock);
    return LD_OK;
}

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

enum ld_code ld_store_load_ahead(struct ld_store *store, struct ld_db *db, int64_t seq,
                                 struct ld_store_job *job, struct ld_error *err)
{
    int64_t own_cost = 0;
    const enum ld_code code = load_own_ahead(db, job, seq, &job->view.own_ahead, &own_cost, err);
    return code == LD_OK ? look_ahead(store, db, job->tenant, own_cost, &job->view, err) : code;
}

int64_t ld_store_forecast(struct ld_store *store, const char *tenant)
{
    struct ld_store_ahead *ahead = store->ahead;
    struct ld_job_view view = {0};
    pthread_mutex_lock(&ahead->lock);
    const struct ld_store_waiting *own = find(&ahead->shown, tenant);
    refresh_shares(store, &ahead->shown);
    look(store, &ahead->shown, tenant, own ? own->key.queued_cost : 0, &view);
    pthread_mutex_unlock(&ahead->lock);
    return view.cost_ahead;
}

void ld_store_drain_seconds(struct ld_store *store, const char *tenant, double *own, double *any)
{
    struct ld_store_ahead *ahead = store->ahead;
    const double rate = ld_store_rate(store);
    double weights = 0;
    double own_weight = 0;
    double own_mean = 0;
    double cost = 0;
    double queued = 0;
    pthread_mutex_lock(&ahead->lock);
    refresh_shares(store, &ahead->shown);
    for (uint32_t i = 0; i < ahead->shown.count; i++) {
        const struct ld_fair_key *key = &ahead->shown.keys[i].key;
        weights += (double)key->weight;
        cost += (double)key->queued_cost;
        queued += (double)key->queued;
        if (strcmp(ahead->shown.keys[i].tenant, tenant) == 0) {
            own_weight = (double)key->weight;
            own_mean = (double)key->queued_cost / (double)key->queued;
        }
    }
    pthread_mutex_unlock(&ahead->lock);
    *any = rate > 0 && queued > 0 ? cost / queued / rate : -1;
    *own = rate > 0 && own_weight > 0 ? own_mean / (rate * own_weight / weights) : -1;
}
