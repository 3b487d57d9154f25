#include "tests/unit/store_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

char folder[64], path[128];
struct ld_arena arena;
uint64_t seen_ids[SEEN_EVENTS_MAX];
uint32_t seen_count;
enum ld_event_kind last_kind;

static void note_event(void *ctx, const struct ld_store_event *event)
{
    (void)ctx;
    if (seen_count < SEEN_EVENTS_MAX)
        seen_ids[seen_count++] = event->id;
    last_kind = event->kind;
}

struct ld_store *open_store(void)
{
    return open_store_on(NULL);
}

struct ld_store *open_store_on(const char *machine_start)
{
    struct ld_error err = {0};
    struct ld_store *store = NULL;
    const struct ld_store_config config = {.path = path,
                                           .lease_us = 30000000,
                                           .attempts_max = 3,
                                           .machine_start = machine_start,
                                           .on_event = note_event};
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

int start_store_test(void **state)
{
    ld_arena_init(&arena, "test", 64 << 20);
    return fresh_folder(state);
}

int stop_store_test(void **state)
{
    ld_arena_deinit(&arena);
    return remove_folder(state);
}

struct ld_store_submit a_submit(const char *tenant)
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

void submit(struct ld_store *store, const char *tenant, char id[LD_ID_SIZE])
{
    struct ld_error err = {0};
    bool replayed;
    const struct ld_store_submit one = a_submit(tenant);
    assert_int_equal(ld_store_submit(store, &one, id, &replayed, &err), LD_OK);
    assert_false(replayed);
}

bool claim(struct ld_store *store, struct ld_store_job *job)
{
    struct ld_error err = {0};
    bool claimed = false;
    const struct ld_fair_worker worker = {.running_max = 8};
    assert_int_equal(ld_store_job_claim(store, &worker, &arena, job, &claimed, &err), LD_OK);
    return claimed;
}

struct ld_store_finish an_end(const struct ld_store_job *job, enum ld_job_status status)
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

enum ld_code finish(struct ld_store *store, const struct ld_store_job *job,
                    enum ld_job_status status, struct ld_store_freed *freed)
{
    struct ld_error err = {0};
    const struct ld_store_finish end = an_end(job, status);
    return ld_store_job_finish(store, &end, &arena, freed, &err);
}

enum ld_code add_image(struct ld_store *store, const struct ld_store_job *job, uint32_t index,
                       const char *sha256)
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

void get(struct ld_store *store, const char *id, struct ld_store_job *job)
{
    struct ld_error err = {0};
    assert_int_equal(ld_store_job_get(store, NULL, id, &arena, job, &err), LD_OK);
}
