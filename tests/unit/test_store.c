/*
 * Proves that the job store keeps its promises: one result per job, tokens decide, events in commit
 * order, quotas and idempotency in the same transaction, nothing lost when the process dies between
 * any two writes. Works on a real SQLite file in a temporary folder; death is a fork that exits.
 */
#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "server/store.h"

#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[64];
static char path[128];
static uint64_t seen_ids[4096];
static uint32_t seen_count;
static enum ld_event_kind last_kind;

static void note_event(void *ctx, const struct ld_store_event *event)
{
    (void)ctx;
    if (seen_count < 4096)
        seen_ids[seen_count++] = event->id;
    last_kind = event->kind;
}

static struct ld_store *open_store(void)
{
    struct ld_error err = {0};
    struct ld_store *store = NULL;
    const struct ld_store_config config = {
        .path = path, .lease_us = 30000000, .attempts_max = 3, .on_event = note_event};
    const enum ld_code code = ld_store_open(&store, &config, &err);
    if (code != LD_OK)
        fail_msg("open: %s", err.detail);
    return store;
}

static int fresh_folder(void **state)
{
    (void)state;
    memcpy(folder, "/tmp/ld_store_XXXXXX", sizeof "/tmp/ld_store_XXXXXX");
    seen_count = 0;
    return mkdtemp(folder) && ld_fmt(path, sizeof path, "%s/jobs.db", folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    static const char *const suffixes[] = {"", "-wal", "-shm"};
    for (size_t i = 0; i < 3; i++) {
        char name[160];
        (void)ld_fmt(name, sizeof name, "%s%s", path, suffixes[i]);
        (void)unlink(name);
    }
    return rmdir(folder);
}

static struct ld_store_submit a_submit(const char *tenant)
{
    return (struct ld_store_submit){
        .tenant = tenant,
        .request_json = "{\"prompt\":\"a\"}",
        .warnings_json = "",
        .priority = 5,
        .work = 10,
        .init_sha256 = "",
        .mask_sha256 = "",
        .idempotency_key = "",
        .body_sha256 = "b1",
        .queued_per_tenant_max = 200,
        .queued_max = 10000,
    };
}

static void submit(struct ld_store *store, const char *tenant, char id[LD_ID_SIZE])
{
    struct ld_error err = {0};
    bool replayed;
    const struct ld_store_submit one = a_submit(tenant);
    assert_int_equal(ld_store_submit(store, &one, id, &replayed, &err), LD_OK);
    assert_false(replayed);
}

static struct ld_arena arena;

static bool claim(struct ld_store *store, struct ld_store_job *job)
{
    struct ld_error err = {0};
    bool claimed = false;
    const struct ld_fair_worker worker = {.running_max = 8};
    assert_int_equal(ld_store_job_claim(store, &worker, &arena, job, &claimed, &err), LD_OK);
    return claimed;
}

static struct ld_store_finish an_end(const struct ld_store_job *job, enum ld_job_status status)
{
    return (struct ld_store_finish){
        .id = job->view.id,
        .token = job->token,
        .status = status,
        .error_code = "io",
        .error_detail = "it failed",
        .timings = {-1, 1.5, 2, 3, 4, -1},
        .unet_rows = 56,
        .adapters_json = "",
        .warnings_json = "[\"w\"]",
        .resolved_json = "{\"seed\":1}",
        .numerics_json = "{\"precision\":\"fp16\"}",
        .repainted = 3,
    };
}

static enum ld_code finish(struct ld_store *store, const struct ld_store_job *job,
                           enum ld_job_status status, struct ld_store_freed *freed)
{
    struct ld_error err = {0};
    const struct ld_store_finish end = an_end(job, status);
    return ld_store_job_finish(store, &end, &arena, freed, &err);
}

static enum ld_code add_image(struct ld_store *store, const struct ld_store_job *job,
                              uint32_t index, const char *sha256)
{
    struct ld_error err = {0};
    const struct ld_image_view image = {.index = index,
                                        .width = 64,
                                        .height = 64,
                                        .seed = UINT64_MAX - index,
                                        .sha256 = sha256,
                                        .bytes = 100};
    return ld_store_image_add(store, job->view.id, job->token, &image, &err);
}

static void get(struct ld_store *store, const char *id, struct ld_store_job *job)
{
    struct ld_error err = {0};
    assert_int_equal(ld_store_job_get(store, NULL, id, &arena, job, &err), LD_OK);
}

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
        assert_true(queue.queued + queue.finished_recent == (int64_t)acknowledged_before);
        ld_store_close(store);
    }
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

static int start(void **state)
{
    ld_arena_init(&arena, "test", 64 << 20);
    return fresh_folder(state);
}

static int stop(void **state)
{
    ld_arena_deinit(&arena);
    return remove_folder(state);
}

int main(void)
{
    ld_log_setup(LD_LOG_ERROR, LD_LOG_JSON, LD_LOG_PRIVATE_NONE);
#define STORE_TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)
    const struct CMUnitTest tests[] = {
        STORE_TEST(a_job_goes_from_queued_to_succeeded),
        STORE_TEST(claims_come_by_priority_then_age_and_each_once),
        STORE_TEST(only_the_current_token_ends_a_job),
        STORE_TEST(attempts_are_counted_and_exhausted),
        STORE_TEST(cancelling_ends_in_cancelled_whatever_the_worker_says),
        STORE_TEST(a_job_cancelled_while_it_waits_again_keeps_what_was_asked_for),
        STORE_TEST(submits_in_two_halves_are_each_told_once),
        STORE_TEST(quotas_hold_at_their_bounds),
        STORE_TEST(an_idempotency_key_names_one_job),
        STORE_TEST(a_deleted_job_is_gone_and_frees_its_blobs),
        STORE_TEST(expired_jobs_leave_a_tombstone_without_prompt_or_images),
        STORE_TEST(a_tenant_beyond_its_bytes_loses_the_oldest),
        STORE_TEST(lists_are_newest_first_and_paged),
        STORE_TEST(events_have_rising_ids_and_the_last_256_stay),
        STORE_TEST(many_threads_submit_and_each_job_is_claimed_once),
        STORE_TEST(what_was_acknowledged_survives_death_after_any_call),
        STORE_TEST(a_newer_schema_is_refused),
        STORE_TEST(something_else_than_a_database_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
