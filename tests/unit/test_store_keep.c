/*
 * Proves what the job store takes and keeps, in the same transaction as the job: quotas at their
 * bounds, idempotency keys, what deletion and age leave, pictures that units follow, and lists of
 * what is there.
 */
#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "tests/unit/store_fixture.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

/* ---- Quotas, keys, deletion ------------------------------------------------------------------ */

static void quotas_hold_at_their_bounds(void **state)
{
    (void)state;
    struct ld_store *store = open_store();
    struct ld_error err = {0};
    struct ld_store_job job;
    char id[LD_ID_SIZE];
    bool replayed;
    struct ld_store_submit one = a_submit("a");
    one.queued_per_tenant_max = 3;
    one.queued_max = 5;
    for (int i = 0; i < 3; i++)
        assert_int_equal(ld_store_submit(store, &one, id, &replayed, &err), LD_OK);
    assert_int_equal(ld_store_submit(store, &one, id, &replayed, &err), LD_E_QUEUE_FULL);
    one.tenant = "b";
    for (int i = 0; i < 2; i++)
        assert_int_equal(ld_store_submit(store, &one, id, &replayed, &err), LD_OK);
    assert_int_equal(ld_store_submit(store, &one, id, &replayed, &err), LD_E_QUEUE_FULL);
    assert_true(claim(store, &job)); /* a's first leaves the queue */
    assert_int_equal(ld_store_submit(store, &one, id, &replayed, &err), LD_OK);
    struct ld_store_queue queue;
    assert_int_equal(ld_store_queue(store, &queue, &err), LD_OK);
    assert_int_equal(queue.queued, 5);
    assert_int_equal(queue.running, 1);
    ld_store_close(store);
}

static void an_idempotency_key_names_one_job(void **state)
{
    (void)state;
    struct ld_store *store = open_store();
    struct ld_error err = {0};
    struct ld_store_freed freed;
    char first[LD_ID_SIZE];
    char again[LD_ID_SIZE];
    bool replayed;
    struct ld_store_submit one = a_submit("a");
    one.idempotency_key = "k";
    assert_int_equal(ld_store_submit(store, &one, first, &replayed, &err), LD_OK);
    assert_false(replayed);
    assert_int_equal(ld_store_submit(store, &one, again, &replayed, &err), LD_OK);
    assert_true(replayed);
    assert_string_equal(first, again);
    one.body_sha256 = "b2";
    assert_int_equal(ld_store_submit(store, &one, again, &replayed, &err), LD_E_CONFLICT);
    one.tenant = "b"; /* keys are each tenant's own */
    assert_int_equal(ld_store_submit(store, &one, again, &replayed, &err), LD_OK);
    assert_false(replayed);
    assert_string_not_equal(first, again);
    one = a_submit("a");
    one.idempotency_key = "k";
    assert_int_equal(ld_store_job_delete(store, "a", first, &arena, &freed, &err), LD_OK);
    assert_int_equal(ld_store_submit(store, &one, again, &replayed, &err), LD_E_NOT_FOUND);
    ld_store_close(store);
}

static void a_deleted_job_is_gone_and_frees_its_blobs(void **state)
{
    (void)state;
    struct ld_store *store = open_store();
    struct ld_error err = {0};
    struct ld_store_freed freed;
    struct ld_store_job job;
    bool referenced;
    char id[LD_ID_SIZE];
    submit(store, "a", id);
    assert_true(claim(store, &job));
    assert_int_equal(add_image(store, &job, 0, "aa"), LD_OK);
    assert_int_equal(ld_store_blob_referenced(store, "aa", &referenced, &err), LD_OK);
    assert_true(referenced);
    assert_int_equal(ld_store_job_delete(store, "b", id, &arena, &freed, &err), LD_E_NOT_FOUND);
    assert_int_equal(ld_store_job_delete(store, "a", id, &arena, &freed, &err), LD_OK);
    assert_int_equal(freed.count, 1);
    assert_string_equal(freed.sha256[0], "aa");
    assert_int_equal(ld_store_blob_referenced(store, "aa", &referenced, &err), LD_OK);
    assert_false(referenced);
    assert_int_equal(finish(store, &job, LD_JOB_SUCCEEDED, &freed), LD_E_LEASE_LOST);
    assert_int_equal(ld_store_job_get(store, "a", id, &arena, &job, &err), LD_E_NOT_FOUND);
    assert_int_equal(last_kind, LD_EVENT_DONE); /* followers heard of the end */
    ld_store_close(store);
}

static void expired_jobs_leave_a_tombstone_without_prompt_or_images(void **state)
{
    (void)state;
    struct ld_store *store = open_store();
    struct ld_error err = {0};
    struct ld_store_freed freed;
    struct ld_store_job job;
    struct ld_store_event *events;
    uint32_t count;
    bool more;
    char id[LD_ID_SIZE];
    submit(store, "a", id);
    assert_true(claim(store, &job));
    assert_int_equal(add_image(store, &job, 0, "aa"), LD_OK);
    assert_int_equal(finish(store, &job, LD_JOB_SUCCEEDED, &freed), LD_OK);
    struct ld_store_retention keep = {0, 0, INT64_MAX, 10};
    assert_int_equal(ld_store_expire(store, &keep, &arena, &freed, &more, &err), LD_OK);
    assert_int_equal(freed.count, 0);
    keep.finished_before_us = ld_clock_wall_us() + 1;
    assert_int_equal(ld_store_expire(store, &keep, &arena, &freed, &more, &err), LD_OK);
    assert_int_equal(freed.count, 1);
    assert_false(more);
    get(store, id, &job);
    assert_int_equal(job.view.status, LD_JOB_EXPIRED);
    assert_int_equal(job.view.image_count, 0);
    assert_string_equal(job.view.request_json, "{}");
    assert_int_equal(ld_store_event_list(store, "a", id, 0, 100, &arena, &events, &count, &err),
                     LD_OK);
    assert_int_equal(count, 0);
    keep.expired_before_us = keep.finished_before_us;
    assert_int_equal(ld_store_expire(store, &keep, &arena, &freed, &more, &err), LD_OK);
    assert_int_equal(ld_store_job_get(store, "a", id, &arena, &job, &err), LD_E_NOT_FOUND);
    ld_store_close(store);
}

static void a_tenant_beyond_its_bytes_loses_the_oldest(void **state)
{
    (void)state;
    struct ld_store *store = open_store();
    struct ld_error err = {0};
    struct ld_store_freed freed;
    struct ld_store_job job;
    bool more;
    char ids[4][LD_ID_SIZE];
    static const char *const hashes[] = {"aa", "bb", "cc", "dd"};
    for (size_t i = 0; i < 4; i++) {
        submit(store, "a", ids[i]);
        assert_true(claim(store, &job));
        assert_int_equal(add_image(store, &job, 0, hashes[i]), LD_OK);
        assert_int_equal(finish(store, &job, LD_JOB_SUCCEEDED, &freed), LD_OK);
    }
    const struct ld_store_retention keep = {0, 0, 250, 10};
    assert_int_equal(ld_store_expire(store, &keep, &arena, &freed, &more, &err), LD_OK);
    assert_int_equal(freed.count, 2);
    assert_string_equal(freed.sha256[0], "aa");
    assert_string_equal(freed.sha256[1], "bb");
    get(store, ids[2], &job);
    assert_int_equal(job.view.status, LD_JOB_SUCCEEDED);
    ld_store_close(store);
}

/* ---- Pictures that ControlNet units follow --------------------------------------------------- */

static void submit_units(struct ld_store *store, const char *const units[LD_CONTROLS_MAX],
                         char id[LD_ID_SIZE])
{
    struct ld_error err = {0};
    bool replayed;
    struct ld_store_submit one = a_submit("a");
    memcpy(one.control_sha256, units, sizeof one.control_sha256);
    assert_int_equal(ld_store_submit(store, &one, id, &replayed, &err), LD_OK);
}

static void expect_units(const struct ld_store_job *job, const char *first, const char *second,
                         const char *third)
{
    assert_string_equal(job->control_sha256[0], first);
    assert_string_equal(job->control_sha256[1], second);
    assert_string_equal(job->control_sha256[2], third);
}

static bool is_referenced(struct ld_store *store, const char *sha256)
{
    struct ld_error err = {0};
    bool referenced;
    assert_int_equal(ld_store_blob_referenced(store, sha256, &referenced, &err), LD_OK);
    return referenced;
}

static bool lists(const struct ld_store_freed *freed, const char *sha256)
{
    for (uint32_t i = 0; i < freed->count; i++)
        if (strcmp(freed->sha256[i], sha256) == 0)
            return true;
    return false;
}

static const char *const three[LD_CONTROLS_MAX] = {"c0", "c1", "c2"};
static const char *const second[LD_CONTROLS_MAX] = {NULL, "c1", ""};

static void the_last_job_that_follows_a_picture_frees_it(void **state)
{
    (void)state;
    struct ld_store *store = open_store();
    struct ld_error err = {0};
    struct ld_store_freed freed;
    struct ld_store_job job;
    bool more;
    char all[LD_ID_SIZE], one[LD_ID_SIZE];
    submit_units(store, three, all);
    submit_units(store, second, one);
    get(store, all, &job);
    expect_units(&job, "c0", "c1", "c2");
    assert_true(claim(store, &job)); /* what goes to a worker names them too */
    assert_string_equal(job.view.id, all);
    expect_units(&job, "c0", "c1", "c2");
    get(store, one, &job);
    expect_units(&job, "", "c1", "");

    assert_int_equal(ld_store_job_delete(store, "a", all, &arena, &freed, &err), LD_OK);
    assert_true(lists(&freed, "c0") && lists(&freed, "c1") && lists(&freed, "c2"));
    assert_int_equal(freed.count, 3);
    assert_false(is_referenced(store, "c0"));
    assert_true(is_referenced(store, "c1"));
    assert_false(is_referenced(store, "c2"));

    struct ld_store_retention keep = {ld_clock_wall_us() + 1000000, 0, INT64_MAX, 10};
    assert_int_equal(ld_store_expire(store, &keep, &arena, &freed, &more, &err), LD_OK);
    assert_int_equal(freed.count, 0); /* it still waits */
    assert_true(claim(store, &job));
    assert_int_equal(finish(store, &job, LD_JOB_FAILED, &freed), LD_OK);
    assert_true(is_referenced(store, "c1")); /* so that it can be painted again */
    keep.finished_before_us = ld_clock_wall_us() + 1000000;
    assert_int_equal(ld_store_expire(store, &keep, &arena, &freed, &more, &err), LD_OK);
    assert_int_equal(freed.count, 1);
    assert_string_equal(freed.sha256[0], "c1");
    assert_false(is_referenced(store, "c1"));
    get(store, one, &job);
    expect_units(&job, "", "", "");
    ld_store_close(store);
}

static void a_tenant_beyond_its_bytes_frees_what_its_units_followed(void **state)
{
    (void)state;
    struct ld_store *store = open_store();
    struct ld_error err = {0};
    struct ld_store_freed freed;
    struct ld_store_job job;
    bool more;
    char id[LD_ID_SIZE];
    submit_units(store, three, id);
    assert_true(claim(store, &job));
    assert_int_equal(add_image(store, &job, 0, "aa"), LD_OK);
    assert_int_equal(finish(store, &job, LD_JOB_SUCCEEDED, &freed), LD_OK);
    const struct ld_store_retention keep = {0, 0, 50, 10};
    assert_int_equal(ld_store_expire(store, &keep, &arena, &freed, &more, &err), LD_OK);
    assert_int_equal(freed.count, 4);
    assert_true(lists(&freed, "aa") && lists(&freed, "c0") && lists(&freed, "c2"));
    assert_false(is_referenced(store, "c0"));
    ld_store_close(store);
}

static void every_cell_of_a_sweep_has_its_units_pictures(void **state)
{
    (void)state;
    struct ld_store *store = open_store();
    struct ld_error err = {0};
    struct ld_store_freed freed;
    struct ld_store_job job, cell;
    bool replayed;
    char id[LD_ID_SIZE];
    const struct ld_store_cell cells[2] = {{"{\"prompt\":\"a\"}", "", 1, 2},
                                           {"{\"prompt\":\"b\"}", "", 1, 2}};
    struct ld_store_submit sweep = a_submit("a");
    memcpy(sweep.control_sha256, three, sizeof sweep.control_sha256);
    sweep.cells = cells;
    sweep.cell_count = 2;
    assert_int_equal(ld_store_submit(store, &sweep, id, &replayed, &err), LD_OK);
    get(store, id, &job);
    expect_units(&job, "c0", "c1", "c2");
    assert_int_equal(job.view.cell_count, 2);
    for (uint32_t i = 0; i < 2; i++) {
        get(store, job.view.cells[i].id, &cell);
        expect_units(&cell, "c0", "c1", "c2");
    }
    assert_int_equal(ld_store_job_delete(store, "a", id, &arena, &freed, &err), LD_OK);
    assert_int_equal(freed.count, 9);
    assert_false(is_referenced(store, "c1"));
    ld_store_close(store);
}

static void an_upload_that_a_unit_follows_is_in_use(void **state)
{
    (void)state;
    struct ld_store *store = open_store();
    struct ld_error err = {0};
    struct ld_store_freed freed;
    struct ld_store_upload used = {.bytes = 1, .width = 8, .height = 8};
    struct ld_store_upload unused = used;
    bool more;
    char id[LD_ID_SIZE];
    memset(used.sha256, 'a', LD_SHA256_HEX_SIZE - 1);
    memset(unused.sha256, 'b', LD_SHA256_HEX_SIZE - 1);
    assert_int_equal(ld_store_upload_add(store, "a", &used, &err), LD_OK);
    assert_int_equal(ld_store_upload_add(store, "a", &unused, &err), LD_OK);
    const struct ld_store_retention keep = {ld_clock_wall_us() + 1, 0, INT64_MAX, 10};
    while (ld_clock_wall_us() <= keep.finished_before_us)
        ;
    const char *const units[LD_CONTROLS_MAX] = {"", "", used.sha256};
    submit_units(store, units, id);
    assert_int_equal(ld_store_expire(store, &keep, &arena, &freed, &more, &err), LD_OK);
    assert_int_equal(freed.count, 1);
    assert_string_equal(freed.sha256[0], unused.sha256);
    assert_int_equal(ld_store_upload_get(store, "a", used.id, &used, &err), LD_OK);
    assert_int_equal(ld_store_upload_get(store, "a", unused.id, &unused, &err), LD_E_NOT_FOUND);
    ld_store_close(store);
}

/* ---- Lists ----------------------------------------------------------------------------------- */

static void lists_are_newest_first_and_paged(void **state)
{
    (void)state;
    struct ld_store *store = open_store();
    struct ld_error err = {0};
    char ids[7][LD_ID_SIZE];
    char foreign[LD_ID_SIZE];
    for (size_t i = 0; i < 7; i++)
        submit(store, "a", ids[i]);
    submit(store, "b", foreign);
    char cursor[LD_STORE_CURSOR_SIZE] = "";
    uint32_t total = 0;
    for (int page = 0; page < 3; page++) {
        const struct ld_store_list query = {"a", -1, 3, cursor};
        struct ld_store_job *jobs;
        uint32_t count;
        char next[LD_STORE_CURSOR_SIZE];
        assert_int_equal(ld_store_job_list(store, &query, &arena, &jobs, &count, next, &err),
                         LD_OK);
        for (uint32_t i = 0; i < count; i++)
            assert_string_equal(jobs[i].view.id, ids[6 - total++]);
        memcpy(cursor, next, sizeof cursor);
    }
    assert_int_equal(total, 7);
    assert_string_equal(cursor, "");
    const struct ld_store_list none = {"a", LD_JOB_FAILED, 3, ""};
    const struct ld_store_list bad = {"a", -1, 3, "x'; --"};
    struct ld_store_job *jobs;
    uint32_t count;
    assert_int_equal(ld_store_job_list(store, &none, &arena, &jobs, &count, cursor, &err), LD_OK);
    assert_int_equal(count, 0);
    assert_int_equal(ld_store_job_list(store, &bad, &arena, &jobs, &count, cursor, &err),
                     LD_E_INVALID);
    ld_store_close(store);
}

int main(void)
{
    ld_log_setup(LD_LOG_ERROR, LD_LOG_JSON, LD_LOG_PRIVATE_NONE);
    const struct CMUnitTest tests[] = {
        STORE_TEST(quotas_hold_at_their_bounds),
        STORE_TEST(an_idempotency_key_names_one_job),
        STORE_TEST(a_deleted_job_is_gone_and_frees_its_blobs),
        STORE_TEST(expired_jobs_leave_a_tombstone_without_prompt_or_images),
        STORE_TEST(a_tenant_beyond_its_bytes_loses_the_oldest),
        STORE_TEST(the_last_job_that_follows_a_picture_frees_it),
        STORE_TEST(a_tenant_beyond_its_bytes_frees_what_its_units_followed),
        STORE_TEST(every_cell_of_a_sweep_has_its_units_pictures),
        STORE_TEST(an_upload_that_a_unit_follows_is_in_use),
        STORE_TEST(lists_are_newest_first_and_paged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
