/*
 * Proves that the job store keeps its promises about one job: one result, tokens decide, each is
 * claimed once, and events come in the order of commits, whoever submits at the same time.
 */
#include "runtime/base/log.h"
#include "tests/unit/store_fixture.h"

#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>

#include <cmocka.h>

/* ---- One job's way --------------------------------------------------------------------------- */

static void a_job_goes_from_queued_to_succeeded(void **state)
{
    (void)state;
    struct ld_store *store = open_store();
    struct ld_store_job job;
    struct ld_store_freed freed;
    char id[LD_ID_SIZE];
    submit(store, "t", id);
    get(store, id, &job);
    assert_int_equal(job.view.status, LD_JOB_QUEUED);
    assert_int_equal(job.view.position, 0);
    assert_true(claim(store, &job));
    assert_string_equal(job.view.id, id);
    assert_int_equal(job.attempt, 1);
    struct ld_store_job none;
    assert_false(claim(store, &none));
    get(store, id, &job);
    assert_int_equal(job.view.status, LD_JOB_RUNNING);
    assert_int_equal(add_image(store, &job, 0, "aa"), LD_OK);
    assert_int_equal(add_image(store, &job, 0, "aa"), LD_OK); /* a repeat changes nothing */
    assert_int_equal(finish(store, &job, LD_JOB_SUCCEEDED, &freed), LD_OK);
    assert_int_equal(freed.count, 0);
    assert_int_equal(finish(store, &job, LD_JOB_SUCCEEDED, &freed), LD_E_LEASE_LOST);
    get(store, id, &job);
    assert_int_equal(job.view.status, LD_JOB_SUCCEEDED);
    assert_int_equal(job.view.image_count, 1);
    assert_true(job.view.images[0].seed == UINT64_MAX);
    assert_string_equal(job.view.request_json, "{\"seed\":1}");
    assert_string_equal(job.view.warnings_json, "[\"w\"]");
    assert_string_equal(job.view.numerics_json, "{\"precision\":\"fp16\"}");
    assert_int_equal(job.view.repainted, 3);
    assert_true(job.view.timings.text_ms == 1.5 && job.view.timings.queue_ms >= 0);
    assert_int_equal(last_kind, LD_EVENT_DONE);
    ld_store_close(store);
}

static void claims_come_by_priority_then_age_and_each_once(void **state)
{
    (void)state;
    struct ld_store *store = open_store();
    struct ld_error err = {0};
    static const int32_t priorities[] = {5, 0, 9, 5, 9};
    static const uint32_t expected[] = {2, 4, 0, 3, 1};
    char ids[5][LD_ID_SIZE];
    struct ld_store_job job;
    for (size_t i = 0; i < 5; i++) {
        struct ld_store_submit one = a_submit("t");
        bool replayed;
        one.priority = priorities[i];
        assert_int_equal(ld_store_submit(store, &one, ids[i], &replayed, &err), LD_OK);
    }
    for (size_t i = 0; i < 5; i++) {
        get(store, ids[expected[i]], &job);
        assert_int_equal(job.view.position, 0);
        assert_true(claim(store, &job));
        assert_string_equal(job.view.id, ids[expected[i]]);
    }
    assert_false(claim(store, &job));
    ld_store_close(store);
}

static void only_the_current_token_ends_a_job(void **state)
{
    (void)state;
    struct ld_store *store = open_store();
    struct ld_store_job first;
    struct ld_store_job second;
    struct ld_store_freed freed;
    struct ld_error err = {0};
    char id[LD_ID_SIZE];
    submit(store, "t", id);
    assert_true(claim(store, &first));
    assert_int_equal(ld_store_job_requeue(store, id, first.token, true, false, &err), LD_OK);
    assert_int_equal(add_image(store, &first, 0, "aa"), LD_E_LEASE_LOST);
    assert_true(claim(store, &second));
    assert_true(second.suspect);
    assert_int_equal(second.attempt, 1); /* the first never happened */
    assert_int_equal(finish(store, &first, LD_JOB_SUCCEEDED, &freed), LD_E_LEASE_LOST);
    assert_int_equal(finish(store, &second, LD_JOB_SUCCEEDED, &freed), LD_OK);
    get(store, id, &first);
    assert_false(first.suspect);
    ld_store_close(store);
}

static void attempts_are_counted_and_exhausted(void **state)
{
    (void)state;
    struct ld_store *store = open_store();
    struct ld_store_job job;
    struct ld_error err = {0};
    char id[LD_ID_SIZE];
    submit(store, "t", id);
    for (uint32_t i = 1; i <= 3; i++) {
        assert_true(claim(store, &job));
        assert_int_equal(job.attempt, i);
        assert_int_equal(ld_store_job_requeue(store, id, job.token, false, true, &err), LD_OK);
    }
    get(store, id, &job);
    assert_int_equal(job.view.status, LD_JOB_FAILED);
    assert_string_equal(job.view.error_code, "attempts_exhausted");
    ld_store_close(store);
}

static void cancelling_ends_in_cancelled_whatever_the_worker_says(void **state)
{
    (void)state;
    struct ld_store *store = open_store();
    struct ld_store_job job;
    struct ld_store_freed freed;
    struct ld_error err = {0};
    enum ld_job_status status;
    char id[LD_ID_SIZE];

    submit(store, "t", id); /* while queued: at once */
    assert_int_equal(ld_store_job_cancel(store, "other", id, false, &status, &err), LD_E_NOT_FOUND);
    assert_int_equal(ld_store_job_cancel(store, "t", id, false, &status, &err), LD_OK);
    assert_int_equal(status, LD_JOB_CANCELLED);
    assert_int_equal(ld_store_job_cancel(store, "t", id, false, &status, &err), LD_OK);
    assert_int_equal(status, LD_JOB_CANCELLED);
    assert_false(claim(store, &job));

    for (int keep = 0; keep < 2; keep++) { /* while running: with and without its images */
        submit(store, "t", id);
        assert_true(claim(store, &job));
        assert_int_equal(add_image(store, &job, 0, "aa"), LD_OK);
        assert_int_equal(ld_store_job_cancel(store, "t", id, keep != 0, &status, &err), LD_OK);
        assert_int_equal(status, LD_JOB_CANCELLING);
        assert_int_equal(finish(store, &job, LD_JOB_SUCCEEDED, &freed), LD_OK);
        assert_int_equal(freed.count, keep ? 0 : 1);
        get(store, id, &job);
        assert_int_equal(job.view.status, LD_JOB_CANCELLED);
        assert_int_equal(job.view.image_count, keep ? 1 : 0);
        assert_null(job.view.error_code);
    }
    submit(store, "t", id); /* its worker died meanwhile */
    assert_true(claim(store, &job));
    assert_int_equal(ld_store_job_cancel(store, "t", id, false, &status, &err), LD_OK);
    assert_int_equal(ld_store_job_requeue(store, id, job.token, true, false, &err), LD_OK);
    get(store, id, &job);
    assert_int_equal(job.view.status, LD_JOB_CANCELLED);
    ld_store_close(store);
}

static void a_job_cancelled_while_it_waits_again_keeps_what_was_asked_for(void **state)
{
    (void)state;
    for (int keep = 0; keep < 2; keep++) {
        struct ld_store *store = open_store();
        struct ld_store_job job;
        struct ld_error err = {0};
        enum ld_job_status status;
        char id[LD_ID_SIZE];
        submit(store, "t", id);
        assert_true(claim(store, &job));
        assert_int_equal(add_image(store, &job, 0, "aa"), LD_OK);
        assert_int_equal(ld_store_job_requeue(store, id, job.token, false, false, &err), LD_OK);
        assert_int_equal(ld_store_job_cancel(store, "t", id, keep != 0, &status, &err), LD_OK);
        assert_int_equal(status, LD_JOB_CANCELLED);
        get(store, id, &job);
        assert_int_equal(job.view.image_count, keep ? 1 : 0);
        ld_store_close(store);
    }
}

static atomic_int told_count;

static void note_told(void *ctx)
{
    (void)ctx;
    (void)atomic_fetch_add(&told_count, 1);
}

/* One thread has sixteen in the air; some are ended at once, some when they are known. */
static void submits_in_two_halves_are_each_told_once(void **state)
{
    (void)state;
    struct ld_store *store = open_store();
    struct ld_error err = {0};
    enum { COUNT = 16 };
    struct ld_store_submission *under_way[COUNT];
    struct ld_store_submit submits[COUNT];
    char ids[COUNT][LD_ID_SIZE];
    bool replayed;
    atomic_store(&told_count, 0);
    for (int i = 0; i < COUNT; i++) {
        submits[i] = a_submit("t");
        submits[i].queued_per_tenant_max = COUNT - 1; /* the last is one too many */
        assert_int_equal(
            ld_store_submit_begin(&under_way[i], store, &submits[i], note_told, NULL, &err), LD_OK);
    }
    for (int i = 0; i < COUNT; i++) {
        struct ld_store_job job;
        while (i % 2 && !ld_store_submit_is_known(under_way[i]))
            sched_yield();
        const enum ld_code code = ld_store_submit_end(under_way[i], ids[i], &replayed, &err);
        assert_int_equal(code, i < COUNT - 1 ? LD_OK : LD_E_QUEUE_FULL);
        assert_false(replayed);
        if (code == LD_OK)
            get(store, ids[i], &job);
    }
    assert_int_equal(atomic_load(&told_count), COUNT);
    ld_store_close(store);
}

/* ---- Events ---------------------------------------------------------------------------------- */

static void events_have_rising_ids_and_the_last_256_stay(void **state)
{
    (void)state;
    struct ld_store *store = open_store();
    struct ld_error err = {0};
    struct ld_store_event *events;
    struct ld_store_job job;
    struct ld_store_freed freed;
    uint32_t count;
    char id[LD_ID_SIZE];
    submit(store, "a", id);
    assert_true(claim(store, &job));
    for (int i = 0; i < 400; i++) {
        ld_store_event_post(store, id, i % 4 ? LD_EVENT_PROGRESS : LD_EVENT_PREVIEW, "{}");
        if (i % 50 == 0)
            assert_int_equal(ld_store_flush(store, &err), LD_OK);
    }
    assert_int_equal(finish(store, &job, LD_JOB_FAILED, &freed), LD_OK);
    assert_int_equal(seen_count, 2 + 400 + 2);
    for (uint32_t i = 1; i < seen_count; i++)
        assert_true(seen_ids[i] > seen_ids[i - 1]);
    assert_int_equal(ld_store_event_list(store, "a", id, 0, 1000, &arena, &events, &count, &err),
                     LD_OK);
    assert_int_equal(count, 256);
    assert_int_equal(events[255].kind, LD_EVENT_DONE);
    const uint64_t newest = events[255].id;
    assert_true(ld_store_event_newest(store) == newest);
    assert_int_equal(ld_store_event_list(store, "b", id, 0, 1000, &arena, &events, &count, &err),
                     LD_OK);
    assert_int_equal(count, 0);
    ld_store_close(store);
    store = open_store(); /* a later start never reuses ids */
    assert_true(ld_store_event_newest(store) > newest);
    ld_store_close(store);
}

/* ---- Many threads ---------------------------------------------------------------------------- */

struct crowd {
    struct ld_store *store;
    uint32_t submitted;
};

static void *submit_many(void *arg)
{
    struct crowd *crowd = arg;
    struct ld_error err = {0};
    for (uint32_t i = 0; i < 50; i++) {
        char id[LD_ID_SIZE];
        bool replayed;
        const struct ld_store_submit one = a_submit("t");
        if (ld_store_submit(crowd->store, &one, id, &replayed, &err) == LD_OK)
            crowd->submitted++;
    }
    return NULL;
}

static void many_threads_submit_and_each_job_is_claimed_once(void **state)
{
    (void)state;
    struct ld_store *store = open_store();
    pthread_t threads[4];
    struct crowd crowds[4] = {{store, 0}, {store, 0}, {store, 0}, {store, 0}};
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, submit_many, &crowds[i]), 0);
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    uint32_t claimed = 0;
    struct ld_store_job job;
    while (claimed < 1000 && claim(store, &job)) {
        claimed++;
        ld_arena_reset(&arena);
    }
    assert_int_equal(claimed, 200);
    ld_store_close(store);
}

int main(void)
{
    ld_log_setup(LD_LOG_ERROR, LD_LOG_JSON, LD_LOG_PRIVATE_NONE);
    const struct CMUnitTest tests[] = {
        STORE_TEST(a_job_goes_from_queued_to_succeeded),
        STORE_TEST(claims_come_by_priority_then_age_and_each_once),
        STORE_TEST(only_the_current_token_ends_a_job),
        STORE_TEST(attempts_are_counted_and_exhausted),
        STORE_TEST(cancelling_ends_in_cancelled_whatever_the_worker_says),
        STORE_TEST(a_job_cancelled_while_it_waits_again_keeps_what_was_asked_for),
        STORE_TEST(submits_in_two_halves_are_each_told_once),
        STORE_TEST(events_have_rising_ids_and_the_last_256_stay),
        STORE_TEST(many_threads_submit_and_each_job_is_claimed_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
