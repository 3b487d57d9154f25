/*
 * Proves that an event stream tells each event once and in order, from the store and then live,
 * whatever the reader's pace. Uses a real store whose events go to a hub.
 */
#include "runtime/base/log.h"
#include "server/events.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[64];
static char path[128];
static struct ld_store *store;
static struct ld_event_hub *hub;
static uint32_t wakes;
static char job_id[LD_ID_SIZE];
static struct ld_store_job job;
static struct ld_arena arena;

static void count_wake(void *ctx)
{
    (void)ctx;
    wakes++;
}

static int start(void **state)
{
    (void)state;
    struct ld_error err;
    bool replayed;
    bool claimed;
    memcpy(folder, "/tmp/ld_events_XXXXXX", sizeof "/tmp/ld_events_XXXXXX");
    wakes = 0;
    ld_arena_init(&arena, "test", 16 << 20);
    if (!mkdtemp(folder) || !ld_fmt(path, sizeof path, "%s/jobs.db", folder) ||
        ld_event_hub_create(&hub, &err) != LD_OK)
        return -1;
    const struct ld_store_config config = {.path = path,
                                           .lease_us = 30000000,
                                           .attempts_max = 3,
                                           .on_event = ld_event_hub_publish,
                                           .ctx = hub};
    const struct ld_store_submit submit = {.tenant = "t",
                                           .request_json = "{}",
                                           .warnings_json = "",
                                           .priority = 5,
                                           .init_sha256 = "",
                                           .mask_sha256 = "",
                                           .idempotency_key = "",
                                           .body_sha256 = "",
                                           .queued_per_tenant_max = 9,
                                           .queued_max = 9};
    const struct ld_fair_worker worker = {.running_max = 8};
    return ld_store_open(&store, &config, &err) == LD_OK &&
                   ld_store_submit(store, &submit, job_id, &replayed, &err) == LD_OK &&
                   ld_store_job_claim(store, &worker, &arena, &job, &claimed, &err) == LD_OK &&
                   claimed
               ? 0
               : -1;
}

static int stop(void **state)
{
    (void)state;
    static const char *const suffixes[] = {"", "-wal", "-shm"};
    ld_store_close(store);
    ld_event_hub_destroy(hub);
    ld_arena_deinit(&arena);
    for (size_t i = 0; i < 3; i++) {
        char name[160];
        (void)ld_fmt(name, sizeof name, "%s%s", path, suffixes[i]);
        (void)unlink(name);
    }
    return rmdir(folder);
}

static struct ld_event_stream *open_stream(const char *tenant, const char *id, uint64_t after,
                                           bool previews)
{
    struct ld_error err;
    struct ld_event_stream *stream;
    const struct ld_event_stream_options options = {.store = store,
                                                    .tenant = tenant,
                                                    .job_id = id,
                                                    .after = after,
                                                    .previews = previews,
                                                    .wake = count_wake};
    assert_int_equal(ld_event_stream_open(&stream, hub, &options, &err), LD_OK);
    return stream;
}

static void post(enum ld_event_kind kind, uint32_t count)
{
    struct ld_error err;
    for (uint32_t i = 0; i < count; i++)
        ld_store_event_post(store, job_id, kind, "{}");
    assert_int_equal(ld_store_flush(store, &err), LD_OK);
}

/* Reads all there is now; ids must rise from *last. */
static uint32_t drain(struct ld_event_stream *stream, uint64_t *last)
{
    struct ld_store_event event;
    uint32_t count = 0;
    enum ld_event_next next;
    while ((next = ld_event_stream_next(stream, &event)) == LD_EVENT_NEXT_ONE) {
        assert_true(event.id > *last);
        *last = event.id;
        count++;
    }
    assert_int_equal(next, LD_EVENT_NEXT_NONE);
    return count;
}

static void a_stream_reads_the_past_and_then_lives(void **state)
{
    (void)state;
    uint64_t last = 0;
    post(LD_EVENT_PROGRESS, 40);
    struct ld_event_stream *stream = open_stream("t", job_id, 0, true);
    post(LD_EVENT_PROGRESS, 5); /* in the store and in the queue */
    assert_int_equal(drain(stream, &last), 2 + 40 + 5);
    assert_int_equal(wakes, 5);
    post(LD_EVENT_PREVIEW, 3);
    post(LD_EVENT_PROGRESS, 2);
    assert_int_equal(drain(stream, &last), 5);
    assert_int_equal(drain(stream, &last), 0);
    ld_event_stream_close(stream);
    struct ld_event_stream *again = open_stream("t", job_id, last, true);
    assert_int_equal(drain(again, &last), 0);
    ld_event_stream_close(again);
}

static void previews_keep_their_place_among_stored_events(void **state)
{
    (void)state;
    struct ld_store_event event;
    struct ld_event_stream *stream = open_stream("t", job_id, ld_store_event_newest(store), true);
    for (int i = 0; i < 40; i++) { /* more than a page of the store; nobody reads yet */
        post(LD_EVENT_PROGRESS, 1);
        post(LD_EVENT_PREVIEW, 1);
    }
    for (int i = 0; i < 80; i++) {
        assert_int_equal(ld_event_stream_next(stream, &event), LD_EVENT_NEXT_ONE);
        assert_int_equal(event.kind, i % 2 == 0 ? LD_EVENT_PROGRESS : LD_EVENT_PREVIEW);
        assert_string_equal(event.json, "{}");
    }
    assert_int_equal(ld_event_stream_next(stream, &event), LD_EVENT_NEXT_NONE);
    ld_event_stream_close(stream);
}

static void an_overflowing_queue_falls_back_to_the_store(void **state)
{
    (void)state;
    uint64_t last = ld_store_event_newest(store);
    struct ld_event_stream *stream = open_stream("t", "", last, true);
    assert_int_equal(drain(stream, &last), 0); /* live */
    for (int i = 0; i < 3; i++)
        post(LD_EVENT_PROGRESS, 200); /* more than the queue holds; the store keeps 256 and some */
    const uint32_t told = drain(stream, &last);
    assert_in_range(told, 256, 256 + 16);
    assert_true(last == ld_store_event_newest(store));
    post(LD_EVENT_PROGRESS, 1);
    assert_int_equal(drain(stream, &last), 1);
    ld_event_stream_close(stream);
}

static void streams_see_their_own_tenant_and_kind_only(void **state)
{
    (void)state;
    uint64_t last = 0;
    struct ld_event_stream *foreign = open_stream("u", "", 0, true);
    struct ld_event_stream *quiet = open_stream("t", job_id, ld_store_event_newest(store), false);
    assert_int_equal(ld_event_hub_followers(hub, "u"), 1);
    assert_int_equal(ld_event_hub_followers(hub, "t"), 0);
    post(LD_EVENT_PREVIEW, 4);
    post(LD_EVENT_PROGRESS, 1);
    assert_int_equal(drain(foreign, &last), 0);
    last = 0;
    assert_int_equal(drain(quiet, &last), 1);
    ld_event_stream_close(foreign);
    ld_event_stream_close(quiet);
}

int main(void)
{
    ld_log_setup(LD_LOG_ERROR, LD_LOG_JSON, LD_LOG_PRIVATE_NONE);
#define EVENT_TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)
    const struct CMUnitTest tests[] = {
        EVENT_TEST(a_stream_reads_the_past_and_then_lives),
        EVENT_TEST(previews_keep_their_place_among_stored_events),
        EVENT_TEST(an_overflowing_queue_falls_back_to_the_store),
        EVENT_TEST(streams_see_their_own_tenant_and_kind_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
