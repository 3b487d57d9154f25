/*
 * Proves that what is told from standings kept in memory is what the tables say, after every kind
 * of operation on jobs and sweeps, refused ones too: positions and costs of waiting jobs, also in
 * the submit's event, how many wait and run, and whose turn a claim takes; that a changed weight
 * counts within two seconds; and that more keys than are kept do no harm. The tables are read here
 * by statements of the test's own.
 */
#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "server/store.h"
#include "server/store_schema.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

enum { TENANTS = 5, OPERATIONS = 400, QUEUED_MAX = 12, CELLS_MAX = 2 };

enum { SAY_KEYS, SAY_RUNNING, SAY_OWN, SAY_JOBS, SAY_QUEUE, SAY_FIRST, SAY_OLDEST, STATEMENTS };
static const char own_before[] =
    "SELECT COUNT(*), COALESCE(SUM(cost), 0) FROM jobs WHERE tenant = ?1 AND status = 0"
    " AND (priority > ?2 OR (priority = ?2 AND seq < ?3))";
/* a sweep waits for its cells */
#define OF_THOSE_THAT_CAN_START                                                                    \
    "SELECT id FROM jobs WHERE tenant = ?1 AND status = 0 AND NOT EXISTS"                          \
    " (SELECT 1 FROM cells JOIN jobs AS cell ON cell.seq = cells.child"                            \
    "  WHERE cells.parent = jobs.seq AND cell.status IN (0, 1, 4))"
static const char *const statements[STATEMENTS] = {
    [SAY_KEYS] =
        "SELECT tenant, vtime, queued, queued_cost, running, turns FROM shares WHERE queued > 0"
        " ORDER BY vtime, tenant",
    [SAY_RUNNING] = "SELECT COALESCE(SUM(running_cost), 0) FROM shares",
    [SAY_OWN] = own_before,
    [SAY_JOBS] = "SELECT seq, id, tenant, priority FROM jobs WHERE status = 0",
    [SAY_QUEUE] = "SELECT SUM(status = 0), SUM(status IN (1, 4)),"
                  " MIN(CASE WHEN status = 0 THEN created END) FROM jobs",
    [SAY_FIRST] = OF_THOSE_THAT_CAN_START " ORDER BY priority DESC, seq",
    [SAY_OLDEST] = OF_THOSE_THAT_CAN_START " ORDER BY seq",
};

static char folder[64];
static char path[128];
static char told[4096]; /* the last event of a status */
static int64_t weight_of_t0;
static struct ld_store *store;
static struct ld_db *tables;
static struct ld_arena arena;

static void on_event(void *ctx, const struct ld_store_event *event)
{
    (void)ctx;
    if (event->kind == LD_EVENT_STATUS)
        (void)ld_fmt(told, sizeof told, "%s", event->json);
}

/* Keys of different weights, the last of which may run one job only. */
static void share(void *ctx, const char *tenant, struct ld_fair_share *out)
{
    (void)ctx;
    const int64_t number = tenant[1] - '0';
    *out = (struct ld_fair_share){number == 0 ? weight_of_t0 : 5 + 5 * number, number == 4 ? 1 : 8};
}

static void open_all(void)
{
    struct ld_error err = {0};
    const struct ld_store_config config = {.path = path,
                                           .lease_us = 30000000,
                                           .attempts_max = 3,
                                           .share = share,
                                           .on_event = on_event};
    assert_int_equal(ld_store_open(&store, &config, &err), LD_OK);
    assert_int_equal(ld_db_open(&tables, path, true, statements, STATEMENTS, &err), LD_OK);
}

static void close_all(void)
{
    ld_db_close(tables);
    ld_store_close(store);
}

static int start(void **state)
{
    (void)state;
    memcpy(folder, "/tmp/ld_ahead_XXXXXX", sizeof "/tmp/ld_ahead_XXXXXX");
    if (!mkdtemp(folder) || !ld_fmt(path, sizeof path, "%s/jobs.db", folder))
        return -1;
    weight_of_t0 = LD_FAIR_WEIGHT_DEFAULT;
    ld_arena_init(&arena, "test", 64 << 20);
    open_all();
    return 0;
}

static int stop(void **state)
{
    (void)state;
    static const char *const suffixes[] = {"", "-wal", "-shm"};
    close_all();
    ld_arena_deinit(&arena);
    for (size_t i = 0; i < 3; i++) {
        char name[160];
        (void)ld_fmt(name, sizeof name, "%s%s", path, suffixes[i]);
        (void)unlink(name);
    }
    return rmdir(folder);
}

/* ---- What the tables say --------------------------------------------------------------------- */

struct tables_say {
    struct ld_fair_key keys[TENANTS];
    char tenants[TENANTS][8];
    int64_t turns[TENANTS];
    uint32_t count;
    int64_t running_cost;
};

static struct ld_db_query *ask(uint32_t statement)
{
    struct ld_error err = {0};
    struct ld_db_query *query = ld_db_use(tables, statement, &err);
    assert_non_null(query);
    return query;
}

static bool answers(struct ld_db_query *query)
{
    struct ld_error err = {0};
    bool row = false;
    assert_int_equal(ld_db_step(query, &row, &err), LD_OK);
    return row;
}

static void read_keys(struct tables_say *say)
{
    say->count = 0;
    struct ld_db_query *query = ask(SAY_KEYS);
    while (answers(query)) {
        assert_true(say->count < TENANTS);
        struct ld_fair_share due;
        (void)ld_fmt(say->tenants[say->count], sizeof say->tenants[0], "%s", ld_db_text(query, 0));
        share(NULL, say->tenants[say->count], &due);
        say->turns[say->count] = ld_db_int(query, 5);
        say->keys[say->count++] = (struct ld_fair_key){.vtime = ld_db_int(query, 1),
                                                       .queued = ld_db_int(query, 2),
                                                       .queued_cost = ld_db_int(query, 3),
                                                       .running = ld_db_int(query, 4),
                                                       .weight = due.weight,
                                                       .running_max = due.running_max};
    }
    ld_db_done(query);
    query = ask(SAY_RUNNING);
    assert_true(answers(query));
    say->running_cost = ld_db_int(query, 0);
    ld_db_done(query);
}

/* From the first principles of server/fair.h. */
static void expect(const struct tables_say *say, const char *tenant, int64_t priority, int64_t seq,
                   struct ld_job_view *view)
{
    struct ld_db_query *query = ask(SAY_OWN);
    ld_db_bind_text(query, 1, tenant);
    ld_db_bind_int(query, 2, priority);
    ld_db_bind_int(query, 3, seq);
    assert_true(answers(query));
    *view = (struct ld_job_view){.own_ahead = ld_db_int(query, 0)};
    const int64_t own_cost = ld_db_int(query, 1);
    ld_db_done(query);
    view->position = view->own_ahead;
    view->cost_ahead = say->running_cost / 2 + own_cost;
    for (uint32_t own = 0; own < say->count; own++) {
        if (strcmp(say->tenants[own], tenant) != 0)
            continue;
        const struct ld_fair_key *key = &say->keys[own];
        view->running_max_reached = key->running >= key->running_max;
        for (uint32_t i = 0; i < say->count; i++) {
            int64_t cost = 0;
            if (i == own)
                continue;
            view->position += ld_fair_ahead(
                &say->keys[i], key->vtime + ld_fair_charge(own_cost, key->weight), &cost);
            view->cost_ahead += cost;
        }
        return;
    }
    fail_msg("%s has a waiting job and no standing", tenant);
}

/* What /metrics and its like are told. */
static void compare_queue(void)
{
    struct ld_store_queue queue;
    struct ld_error err = {0};
    assert_int_equal(ld_store_queue(store, &queue, &err), LD_OK);
    struct ld_db_query *query = ask(SAY_QUEUE);
    assert_true(answers(query));
    assert_int_equal(queue.queued, ld_db_int(query, 0));
    assert_int_equal(queue.running, ld_db_int(query, 1));
    assert_int_equal(queue.oldest_queued_us, ld_db_int(query, 2));
    ld_db_done(query);
}

/* Of every waiting job; their number. */
static uint32_t compare_all(void)
{
    struct tables_say say;
    struct ld_error err = {0};
    uint32_t count = 0;
    compare_queue();
    read_keys(&say);
    struct ld_db_query *query = ask(SAY_JOBS);
    while (answers(query)) {
        struct ld_store_job job;
        struct ld_job_view view;
        const char *tenant = ld_arena_strdup(&arena, ld_db_text(query, 2));
        assert_int_equal(ld_store_job_get(store, tenant, ld_db_text(query, 1), &arena, &job, &err),
                         LD_OK);
        count++;
        if (job.view.status != LD_JOB_QUEUED) { /* a sweep that has begun waits for its cells */
            assert_true(job.view.cell_count > 0 && job.view.position < 0);
            continue;
        }
        expect(&say, tenant, ld_db_int(query, 3), ld_db_int(query, 0), &view);
        assert_int_equal(job.view.position, view.position);
        assert_int_equal(job.view.own_ahead, view.own_ahead);
        assert_int_equal(job.view.cost_ahead, view.cost_ahead);
        assert_int_equal(job.view.running_max_reached, view.running_max_reached);
    }
    ld_db_done(query);
    return count;
}

/* ---- Operations ------------------------------------------------------------------------------ */

static uint32_t state_of_chance;

static uint32_t chance(uint32_t below)
{
    state_of_chance = state_of_chance * 1664525U + 1013904223U; /* Numerical Recipes, 7.1 */
    return (state_of_chance >> 8) % below;
}

/* With cells it is a sweep over so many jobs. */
static enum ld_code submit_sweep(const char *tenant, int32_t priority, int64_t cost, uint32_t cells,
                                 char id[LD_ID_SIZE])
{
    struct ld_error err = {0};
    bool replayed;
    const struct ld_store_cell cell = {
        .request_json = "{\"prompt\":\"a\"}", .warnings_json = "", .work = 10, .cost = cost};
    const struct ld_store_cell both[CELLS_MAX] = {cell, cell};
    assert_true(cells <= CELLS_MAX);
    const struct ld_store_submit one = {
        .tenant = tenant,
        .request_json = "{\"prompt\":\"a\"}",
        .warnings_json = "",
        .priority = priority,
        .work = 10,
        .cost = cost,
        .init_sha256 = "",
        .mask_sha256 = "",
        .idempotency_key = "",
        .body_sha256 = "b1",
        .queued_per_tenant_max = QUEUED_MAX,
        .queued_max = 10000,
        .cells = both,
        .cell_count = cells,
    };
    return ld_store_submit(store, &one, id, &replayed, &err);
}

static enum ld_code submit(const char *tenant, int32_t priority, int64_t cost, char id[LD_ID_SIZE])
{
    return submit_sweep(tenant, priority, cost, 0, id);
}

/* The event of a submit tells the place that the job has once it is in. */
static void submit_and_compare(void)
{
    struct ld_store_job job;
    struct ld_error err = {0};
    char id[LD_ID_SIZE];
    char position[32];
    const char tenant[] = {'t', (char)('0' + chance(TENANTS)), '\0'};
    const uint32_t cells = chance(4) == 0 ? CELLS_MAX : 0;
    const enum ld_code code =
        submit_sweep(tenant, (int32_t)chance(10), 1 + chance(1000), cells, id);
    assert_true(code == LD_OK || code == LD_E_QUEUE_FULL);
    if (code != LD_OK)
        return;
    assert_int_equal(ld_store_job_get(store, tenant, id, &arena, &job, &err), LD_OK);
    assert_true(ld_fmt(position, sizeof position, "\"position\":%d", (int)job.view.position));
    if (!strstr(told, position))
        fail_msg("%s, but %s was told", position, told);
}

struct running {
    char id[LD_ID_SIZE], tenant[8];
    uint64_t token;
};
static struct running running[64];
static uint32_t running_count;

/* Whose turn it is: the least virtual time, then the first name, of those who may have more and
 * have a job that can start; its most urgent one, at every eighth turn its oldest. False: nobody's.
 */
static bool find_due(const struct tables_say *say, char id[LD_ID_SIZE])
{
    for (uint32_t i = 0; i < say->count; i++) {
        if (say->keys[i].running >= say->keys[i].running_max)
            continue;
        struct ld_db_query *query = ask(say->turns[i] % 8 == 7 ? SAY_OLDEST : SAY_FIRST);
        ld_db_bind_text(query, 1, say->tenants[i]);
        const bool can_start = answers(query);
        if (can_start)
            (void)ld_fmt(id, LD_ID_SIZE, "%s", ld_db_text(query, 0));
        ld_db_done(query);
        if (can_start)
            return true;
    }
    return false;
}

/* What a worker gets, or nothing. */
static bool claim(struct ld_store_job *job)
{
    struct ld_error err = {0};
    bool claimed = false;
    const struct ld_fair_worker worker = {.running = running_count, .running_max = 64};
    assert_int_equal(ld_store_job_claim(store, &worker, &arena, job, &claimed, &err), LD_OK);
    if (!claimed)
        return false;
    struct running *one = &running[running_count++];
    one->token = job->token;
    (void)ld_fmt(one->id, sizeof one->id, "%s", job->view.id);
    (void)ld_fmt(one->tenant, sizeof one->tenant, "%s", job->tenant);
    return true;
}

static void claim_and_compare(void)
{
    struct tables_say say;
    struct ld_store_job job;
    char id[LD_ID_SIZE];
    read_keys(&say);
    const bool expected = find_due(&say, id);
    assert_int_equal(claim(&job), expected);
    if (expected)
        assert_string_equal(job.view.id, id);
}

/* A running job ends, goes back, or is cancelled and then ends; with an outdated token nothing. */
static void end_one(void)
{
    struct ld_error err = {0};
    struct ld_store_freed freed;
    enum ld_job_status status;
    if (running_count == 0)
        return;
    const uint32_t at = chance(running_count);
    const struct running one = running[at];
    running[at] = running[--running_count];
    const struct ld_store_finish end = {.id = one.id,
                                        .token = one.token,
                                        .status = LD_JOB_SUCCEEDED,
                                        .error_code = "",
                                        .error_detail = "",
                                        .adapters_json = "",
                                        .warnings_json = "",
                                        .resolved_json = "",
                                        .numerics_json = "{}"};
    const uint32_t how = chance(3);
    if (how == 0) {
        assert_int_equal(ld_store_job_requeue(store, one.id, one.token, false, false, &err), LD_OK);
        return;
    }
    if (how == 1)
        assert_int_equal(ld_store_job_cancel(store, one.tenant, one.id, false, &status, &err),
                         LD_OK);
    assert_int_equal(ld_store_job_finish(store, &end, &arena, &freed, &err), LD_OK);
    assert_int_equal(ld_store_job_finish(store, &end, &arena, &freed, &err), LD_E_LEASE_LOST);
}

/* Any waiting job, cancelled or deleted; a sweep, some of whose cells may run, only cancelled. */
static void leave_one(void)
{
    struct ld_error err = {0};
    struct ld_store_freed freed;
    struct ld_store_job job;
    enum ld_job_status status;
    struct ld_db_query *query = ask(SAY_JOBS);
    const bool there = answers(query);
    char id[LD_ID_SIZE] = "";
    char tenant[8] = "";
    if (there) {
        (void)ld_fmt(id, sizeof id, "%s", ld_db_text(query, 1));
        (void)ld_fmt(tenant, sizeof tenant, "%s", ld_db_text(query, 2));
    }
    ld_db_done(query);
    if (!there)
        return;
    assert_int_equal(ld_store_job_get(store, tenant, id, &arena, &job, &err), LD_OK);
    const enum ld_code code = chance(2) == 0 || job.view.cell_count > 0
                                  ? ld_store_job_cancel(store, tenant, id, false, &status, &err)
                                  : ld_store_job_delete(store, tenant, id, &arena, &freed, &err);
    assert_int_equal(code, LD_OK);
}

static void reopen(void)
{
    close_all();
    open_all(); /* what ran waits again */
    running_count = 0;
}

/* ---- Claims ---------------------------------------------------------------------------------- */

static void what_is_told_is_what_the_tables_say(void **state)
{
    (void)state;
    uint64_t compared = 0;
    uint32_t deepest = 0;
    state_of_chance = 7;
    running_count = 0;
    for (uint32_t i = 0; i < OPERATIONS; i++) {
        const uint32_t what = chance(100);
        if (what < 55)
            submit_and_compare();
        else if (what < 73)
            claim_and_compare();
        else if (what < 88)
            end_one();
        else if (what < 98)
            leave_one();
        else
            reopen();
        const uint32_t waiting = compare_all();
        deepest = waiting > deepest ? waiting : deepest;
        compared += waiting;
        ld_arena_reset(&arena);
    }
    /* it did meet queues, and keys at their bound */
    assert_true(deepest > 3 * QUEUED_MAX);
    assert_true(compared > (uint64_t)10 * OPERATIONS);
}

static void a_changed_weight_counts_soon(void **state)
{
    (void)state;
    char id[LD_ID_SIZE];
    for (int i = 0; i < 4; i++) {
        assert_int_equal(submit("t0", 5, 100, id), LD_OK);
        assert_int_equal(submit("t1", 5, 100, id), LD_OK);
    }
    assert_int_equal(compare_all(), 8);
    weight_of_t0 = 1000;
    const struct timespec wait = {2, 0};
    assert_int_equal(nanosleep(&wait, NULL), 0);
    assert_int_equal(compare_all(), 8);
}

static void more_keys_than_are_kept_do_no_harm(void **state)
{
    (void)state;
    char id[LD_ID_SIZE];
    struct ld_store_job job;
    struct ld_error err = {0};
    for (int i = 0; i < LD_FAIR_KEYS_MAX + 3; i++) {
        char tenant[16];
        assert_true(ld_fmt(tenant, sizeof tenant, "k%d", i));
        assert_int_equal(submit(tenant, 5, 100, id), LD_OK);
    }
    compare_queue();
    assert_int_equal(ld_store_job_get(store, "k0", id, &arena, &job, &err), LD_E_NOT_FOUND);
    double own = 0;
    double any = 0;
    ld_store_drain_seconds(store, "k0", &own, &any); /* nothing has run yet */
    assert_true(own < 0 && any < 0);
    const int64_t all = ld_store_forecast(store, "nobody");
    assert_true(all >= 0 && all <= (int64_t)LD_FAIR_KEYS_MAX * 100);
    running_count = 0;
    static const char *const first[] = {"k0", "k1", "k10", "k100", "k1000"};
    for (int i = 0; i < 5; i++) { /* all stand alike: by name */
        assert_true(claim(&job));
        assert_string_equal(job.tenant, first[i]);
    }
    assert_int_equal(running_count, 5);
    compare_queue();
    assert_true(ld_store_forecast(store, "nobody") >= 5 * 100 / 2);
}

int main(void)
{
    ld_log_setup(LD_LOG_ERROR, LD_LOG_JSON, LD_LOG_PRIVATE_NONE);
#define AHEAD_TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)
    const struct CMUnitTest tests[] = {
        AHEAD_TEST(what_is_told_is_what_the_tables_say),
        AHEAD_TEST(a_changed_weight_counts_soon),
        AHEAD_TEST(more_keys_than_are_kept_do_no_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
