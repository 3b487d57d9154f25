/*
 * Proves that nothing which the job store has acknowledged is lost when the process dies between
 * any two writes (death is a fork that exits), that a job which takes its machine down is given up
 * and no other is blamed, that an older file is brought up to date, and that files of another kind
 * or a later time are refused.
 */
#include "runtime/base/log.h"
#include "server/db.h"
#include "tests/unit/store_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- Death ----------------------------------------------------------------------------------- */

/* A child that acknowledges through a pipe and dies without any cleanup after `steps` calls. */
static void run_and_die(int ack_fd, uint32_t steps)
{
    struct ld_store *store = open_store();
    struct ld_store_job job = {0};
    struct ld_store_freed freed;
    uint32_t step = 0;
    for (;;) {
        char id[LD_ID_SIZE];
        submit(store, "t", id);
        if (write(ack_fd, id, LD_ID_LENGTH) != LD_ID_LENGTH || ++step >= steps)
            break;
        if (!claim(store, &job) || ++step >= steps)
            break;
        if (add_image(store, &job, 0, "aa") != LD_OK || ++step >= steps)
            break;
        if (finish(store, &job, LD_JOB_SUCCEEDED, &freed) != LD_OK || ++step >= steps)
            break;
    }
    _exit(0);
}

/* Of a status, or of all (-1). */
static uint32_t count_of(struct ld_store *store, int status)
{
    struct ld_error err = {0};
    struct ld_store_job *jobs;
    uint32_t count;
    char next[LD_STORE_CURSOR_SIZE];
    const struct ld_store_list all = {"t", status, 100, ""};
    assert_int_equal(ld_store_job_list(store, &all, &arena, &jobs, &count, next, &err), LD_OK);
    assert_string_equal(next, "");
    return count;
}

static void what_was_acknowledged_survives_death_after_any_call(void **state)
{
    (void)state;
    uint32_t acknowledged_before = 0;
    for (uint32_t steps = 1; steps <= 9; steps++) {
        int fds[2];
        assert_int_equal(pipe(fds), 0);
        const pid_t child = fork();
        if (child == 0)
            run_and_die(fds[1], steps);
        assert_true(child > 0);
        assert_int_equal(close(fds[1]), 0);
        int status;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_int_equal(status, 0);
        char ids[9 * LD_ID_LENGTH];
        const ssize_t got = read(fds[0], ids, sizeof ids);
        assert_true(got > 0 && got % LD_ID_LENGTH == 0);
        assert_int_equal(close(fds[0]), 0);

        struct ld_store *store = open_store();
        struct ld_error err = {0};
        struct ld_store_queue queue;
        for (ssize_t at = 0; at < got; at += LD_ID_LENGTH) {
            char id[LD_ID_SIZE];
            struct ld_store_job job;
            memcpy(id, ids + at, LD_ID_LENGTH);
            id[LD_ID_LENGTH] = '\0';
            get(store, id, &job);
            /* ended for good, or waiting again: nothing keeps running without an owner */
            assert_true(job.view.status == LD_JOB_QUEUED || job.view.status == LD_JOB_SUCCEEDED);
            acknowledged_before++;
        }
        assert_int_equal(ld_store_queue(store, &queue, &err), LD_OK);
        assert_int_equal(queue.running, 0);
        assert_true(queue.queued + count_of(store, LD_JOB_SUCCEEDED) == acknowledged_before);
        assert_int_equal(count_of(store, -1), acknowledged_before);
        ld_store_close(store);
    }
}

static void a_job_that_takes_its_machine_down_is_given_up(void **state)
{
    (void)state;
    struct ld_store *store = open_store_on("first");
    char guilty[LD_ID_SIZE], company[LD_ID_SIZE];
    struct ld_store_job job, other;
    struct ld_store_freed freed;
    submit(store, "t", guilty);
    submit(store, "t", company);
    assert_true(claim(store, &job) && claim(store, &other));
    ld_store_close(store); /* with both running, as the machine's end leaves it */

    /* Both are suspect now, which costs neither an attempt; the other one ends well. */
    store = open_store_on("second");
    get(store, company, &other);
    assert_true(other.suspect);
    assert_int_equal(other.attempt, 0);
    assert_true(claim(store, &job));
    assert_string_equal(job.view.id, guilty);
    ld_store_close(store);

    for (int again = 0; again < 2; again++) {
        store = open_store_on(again ? "fourth" : "third");
        get(store, guilty, &job);
        assert_int_equal(job.view.status, LD_JOB_QUEUED);
        assert_int_equal(job.attempt, again + 1);
        assert_true(claim(store, &job));
        ld_store_close(store);
    }
    store = open_store_on("fifth");
    get(store, guilty, &job);
    assert_int_equal(job.view.status, LD_JOB_FAILED);
    assert_string_equal(job.view.error_code, "attempts_exhausted");
    assert_true(claim(store, &other));
    assert_string_equal(other.view.id, company);
    assert_int_equal(finish(store, &other, LD_JOB_SUCCEEDED, &freed), LD_OK);
    ld_store_close(store);
}

static void the_end_of_a_server_is_no_jobs_fault(void **state)
{
    (void)state;
    char id[LD_ID_SIZE];
    struct ld_store_job job;
    struct ld_store *store = open_store_on("first");
    submit(store, "t", id);
    for (int i = 0; i < 6; i++) {
        assert_true(claim(store, &job));
        ld_store_close(store);
        /* The last one learns nothing of the machine. */
        store = i < 5 ? open_store_on("first") : open_store();
        get(store, id, &job);
        assert_int_equal(job.view.status, LD_JOB_QUEUED);
        assert_int_equal(job.attempt, 0);
        assert_false(job.suspect);
    }
    ld_store_close(store);
}

static void a_store_from_before_controlnets_is_brought_up_to_date(void **state)
{
    (void)state;
    static const char *const none[] = {"SELECT 1"};
    struct ld_store *store = open_store();
    struct ld_error err = {0};
    struct ld_store_job job;
    struct ld_store_freed freed;
    struct ld_db *db = NULL;
    char old[LD_ID_SIZE], new[LD_ID_SIZE];
    bool replayed, referenced;
    submit(store, "t", old);
    ld_store_close(store);
    assert_int_equal(ld_db_open(&db, path, false, none, 1, &err), LD_OK);
    assert_int_equal(ld_db_exec(db, "DROP TABLE controls; PRAGMA user_version = 8", &err), LD_OK);
    ld_db_close(db);

    store = open_store();
    get(store, old, &job);
    assert_int_equal(job.view.status, LD_JOB_QUEUED);
    assert_string_equal(job.control_sha256[0], "");
    struct ld_store_submit one = a_submit("t");
    one.control_sha256[0] = "c0";
    assert_int_equal(ld_store_submit(store, &one, new, &replayed, &err), LD_OK);
    ld_store_close(store);
    store = open_store(); /* a second time there is nothing to do */
    get(store, new, &job);
    assert_string_equal(job.control_sha256[0], "c0");
    assert_int_equal(ld_store_blob_referenced(store, "c0", &referenced, &err), LD_OK);
    assert_true(referenced);
    assert_true(claim(store, &job));
    assert_string_equal(job.view.id, old);
    assert_int_equal(finish(store, &job, LD_JOB_SUCCEEDED, &freed), LD_OK);
    ld_store_close(store);
}

static void a_newer_schema_is_refused(void **state)
{
    (void)state;
    struct ld_store *store = open_store();
    ld_store_close(store);
    /* user_version stands at offset 60 of the database header (SQLite file format, 1.3). */
    FILE *file = fopen(path, "r+b");
    assert_non_null(file);
    static const uint8_t version[4] = {0, 0, 0, 99};
    assert_int_equal(fseek(file, 60, SEEK_SET), 0);
    assert_int_equal(fwrite(version, 1, 4, file), 4);
    assert_int_equal(fclose(file), 0);
    struct ld_error err = {0};
    const struct ld_store_config config = {.path = path, .lease_us = 1, .attempts_max = 3};
    assert_int_equal(ld_store_open(&store, &config, &err), LD_E_UNSUPPORTED);
    assert_null(store);
}

static void something_else_than_a_database_is_refused(void **state)
{
    (void)state;
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    for (int i = 0; i < 2000; i++)
        assert_true(fputs("not a database ", file) >= 0);
    assert_int_equal(fclose(file), 0);
    struct ld_error err = {0};
    struct ld_store *store;
    const struct ld_store_config config = {.path = path, .lease_us = 1, .attempts_max = 3};
    assert_int_equal(ld_store_open(&store, &config, &err), LD_E_FORMAT);
    assert_null(strstr(err.detail, folder));
}

int main(void)
{
    ld_log_setup(LD_LOG_ERROR, LD_LOG_JSON, LD_LOG_PRIVATE_NONE);
    const struct CMUnitTest tests[] = {
        STORE_TEST(what_was_acknowledged_survives_death_after_any_call),
        STORE_TEST(a_job_that_takes_its_machine_down_is_given_up),
        STORE_TEST(the_end_of_a_server_is_no_jobs_fault),
        STORE_TEST(a_store_from_before_controlnets_is_brought_up_to_date),
        STORE_TEST(a_newer_schema_is_refused),
        STORE_TEST(something_else_than_a_database_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
