/*
 * Proves that what every claim and every look at the queue asks of the store is answered from an
 * index, in its order, however many jobs there are: nothing is scanned, nothing sorted. How: what
 * SQLite says it will do, over an empty store and one of 100,000 jobs.
 */
#include "server/store_schema.h"
#include "tests/unit/store_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { FINISHED = 99000, QUEUED = 1000, LINES_MAX = 16, SQL_SIZE = 4096 };

/* ---- The store ------------------------------------------------------------------------------- */

static void execute(struct ld_db *db, const char *sql)
{
    struct ld_error err = {0};
    if (ld_db_exec(db, sql, &err) != LD_OK)
        fail_msg("%s: %s", sql, err.detail);
}

/* One key's: finished ones, then waiting ones of all priorities. */
static void fill(void)
{
    static const char jobs[] =
        "WITH RECURSIVE number(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < %d)"
        " INSERT INTO jobs (id, tenant, status, priority, work, created, request, warnings,"
        " init_sha256, mask_sha256, cost) SELECT printf('%%026d', n), 'ada',"
        " CASE WHEN n <= %d THEN 2 ELSE 0 END, n %% 10, 1, n, '{}', '[]', '', '', 2 FROM number";
    static const char *const none[] = {"SELECT 1"};
    struct ld_error err = {0};
    struct ld_db *db = NULL;
    char sql[SQL_SIZE];
    assert_int_equal(ld_db_open(&db, path, false, none, 1, &err), LD_OK);
    (void)snprintf(sql, sizeof sql, jobs, FINISHED + QUEUED, FINISHED);
    execute(db, sql);
    ld_db_close(db);
}

/* What SQLite would do for a statement of the store's, a step a line. */
static const char *plan_of(enum ld_store_sql_index statement)
{
    static char plan[SQL_SIZE];
    char sql[SQL_SIZE];
    const char *statements[] = {sql};
    struct ld_error err = {0};
    struct ld_db *db = NULL;
    bool row = true;
    size_t used = 0;
    assert_true(snprintf(sql, sizeof sql, "EXPLAIN QUERY PLAN %s", ld_store_sql[statement]) <
                SQL_SIZE);
    assert_int_equal(ld_db_open(&db, path, true, statements, 1, &err), LD_OK);
    struct ld_db_query *query = ld_db_use(db, 0, &err);
    assert_non_null(query);
    plan[0] = '\0';
    for (int i = 0; i < LINES_MAX; i++) {
        assert_int_equal(ld_db_step(query, &row, &err), LD_OK);
        if (!row)
            break;
        used += (size_t)snprintf(plan + used, sizeof plan - used, "%s\n", ld_db_text(query, 3));
        assert_true(used < sizeof plan);
    }
    assert_false(row);
    ld_db_done(query);
    ld_db_close(db);
    return plan;
}

static void expect_from(enum ld_store_sql_index statement, const char *index)
{
    const char *plan = plan_of(statement);
    if (!strstr(plan, index) || strstr(plan, "TEMP B-TREE") || strstr(plan, "SCAN jobs\n"))
        fail_msg("statement %d:\n%s", (int)statement, plan);
}

static void expect_all(void)
{
    expect_from(SQL_JOB_OLDEST, "SEARCH jobs USING INDEX jobs_oldest (tenant=?)");
    expect_from(SQL_JOB_FIRST, "SEARCH jobs USING INDEX jobs_turn (tenant=?)");
    expect_from(SQL_JOBS_AHEAD, "INDEX jobs_turn (tenant=? AND priority>?)");
    expect_from(SQL_JOBS_AHEAD, "INDEX jobs_turn (tenant=? AND priority=? AND seq<?)");
    expect_from(SQL_QUEUE_COUNTS, "INDEX jobs_age");
    expect_from(SQL_JOB_LIST, "SEARCH jobs USING INDEX jobs_of_tenant (tenant=? AND seq<?)");
    expect_from(SQL_BLOB_REFERENCED, "INDEX controls_sha256 (sha256=?)");
    expect_from(SQL_CONTROLS_OF_JOB, "SEARCH controls USING PRIMARY KEY (job=?)");
}

/* ---- Claims ---------------------------------------------------------------------------------- */

static void claims_are_answered_from_an_index(void **state)
{
    (void)state;
    ld_store_close(open_store());
    expect_all(); /* of an empty one */
    fill();
    expect_all();
}

/* One claim in LD_FAIR_OLDEST_TURN takes the key's oldest job, the others its first. */
static void the_oldest_is_still_the_oldest(void **state)
{
    (void)state;
    ld_store_close(open_store());
    fill();
    struct ld_store *store = open_store();
    int oldest = 0;
    for (int i = 1; i <= LD_FAIR_OLDEST_TURN; i++) {
        struct ld_store_job job;
        struct ld_store_freed freed;
        char wanted[LD_ID_SIZE];
        assert_true(claim(store, &job));
        (void)snprintf(wanted, sizeof wanted, "%026d", FINISHED + 1);
        oldest += strcmp(job.view.id, wanted) == 0;
        if (strcmp(job.view.id, wanted) != 0)
            assert_int_equal(job.view.id[25], '9'); /* the highest priority */
        assert_int_equal(finish(store, &job, LD_JOB_SUCCEEDED, &freed), LD_OK);
    }
    assert_int_equal(oldest, 1);
    ld_store_close(store);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORE_TEST(claims_are_answered_from_an_index),
        STORE_TEST(the_oldest_is_still_the_oldest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
