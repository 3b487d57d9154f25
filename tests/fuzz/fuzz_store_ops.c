/*
 * Proves that the job store does what a model of a hundred lines says, whatever is asked of it in
 * whatever order: every operation gives the model's code, and after it every job has the model's
 * status, attempt, suspicion, images and pictures of ControlNet units, and a picture is kept as
 * long as a job follows it, also when the store was closed and opened again. Input: two bytes an
 * operation, what and to which job. One store serves all executions, each of which leaves it empty.
 */
#include "server/store.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { JOBS_MAX = 16, OPS_MAX = 64, KEYS = 4, IMAGES = 3, PICTURES = 4 };

/* Says where the two part. */
#define HOLDS(claim) LD_ASSERT(claim)

struct model_job {
    char id[LD_ID_SIZE];
    bool exists, suspect, keep_partial;
    uint8_t tenant, images;                /* a bit an image */
    const char *controls[LD_CONTROLS_MAX]; /* one of `pictures`, or NULL */
    enum ld_job_status status;
    uint32_t attempt;
    uint64_t token, old_token;
};

struct model {
    struct model_job jobs[JOBS_MAX];
    uint32_t count;
    int key_job[2][KEYS]; /* whose key it is; -1: nobody's */
    uint64_t run;         /* makes keys of this execution */
};

static struct ld_store *store;
static struct ld_arena arena;
static char path[80];
static const char *const tenants[] = {"anna", "bert"};
static const char *const pictures[PICTURES] = {"p0", "p1", "p2", "p3"};

/* ---- The store ------------------------------------------------------------------------------- */

static void share(void *ctx, const char *tenant, struct ld_fair_share *out)
{
    (void)ctx;
    (void)tenant;
    *out = (struct ld_fair_share){LD_FAIR_WEIGHT_DEFAULT, JOBS_MAX};
}

static void open_store(void)
{
    const struct ld_store_config config = {
        .path = path, .lease_us = 1000000, .attempts_max = 3, .share = share};
    HOLDS(ld_store_open(&store, &config, NULL) == LD_OK);
}

static void remove_files(void)
{
    static const char *const suffixes[] = {"", "-wal", "-shm"};
    char name[96];
    ld_store_close(store);
    for (size_t i = 0; i < 3; i++)
        if (ld_fmt(name, sizeof name, "%s%s", path, suffixes[i]))
            (void)unlink(name);
    *strrchr(path, '/') = '\0';
    (void)rmdir(path);
}

/* An execution is some fifty operations, each handed to the writer and waited for: a fifth cheaper
 * where both threads take turns on one processor. */
static void stay_on_one_processor(void)
{
    cpu_set_t one;
    const int here = sched_getcpu();
    CPU_ZERO(&one);
    if (here < 0)
        return;
    CPU_SET((unsigned)here, &one);
    (void)sched_setaffinity(0, sizeof one, &one); /* else it is slower, not wrong */
}

static void set_up(void)
{
    stay_on_one_processor();
    /* Where a flush costs nothing, if there is such a place. */
    char folder[64];
    HOLDS(ld_fmt(folder, sizeof folder, "%s/ld_fuzz_store_XXXXXX",
                 access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp"));
    HOLDS(mkdtemp(folder) && ld_fmt(path, sizeof path, "%s/jobs.db", folder));
    ld_arena_init(&arena, "store_ops", 64 << 20);
    open_store();
    (void)atexit(remove_files);
}

/* ---- The model's transitions ----------------------------------------------------------------- */

static bool runs(const struct model_job *job)
{
    return job->exists && (job->status == LD_JOB_RUNNING || job->status == LD_JOB_CANCELLING);
}

static void model_end(struct model_job *job, enum ld_job_status status)
{
    job->status = job->status == LD_JOB_CANCELLING ? LD_JOB_CANCELLED : status;
    if (job->status == LD_JOB_CANCELLED && !job->keep_partial)
        job->images = 0;
    job->suspect = false;
    job->old_token = job->token;
    job->token = 0;
}

static void model_requeue(struct model_job *job, bool suspect, bool counts)
{
    if (job->status == LD_JOB_CANCELLING || (counts && job->attempt >= 3)) {
        model_end(job, LD_JOB_FAILED);
        return;
    }
    job->status = LD_JOB_QUEUED;
    job->attempt -= counts ? 0 : 1;
    job->suspect = suspect;
    job->old_token = job->token;
    job->token = 0;
}

/* ---- Operations: both sides, and they must agree --------------------------------------------- */

/* `units`: a bit for each that has a picture of its own. */
static void op_submit(struct model *model, uint8_t units, uint8_t how)
{
    const uint8_t tenant = how & 1;
    const int key = (how >> 1) % (KEYS + 1) - 1; /* -1: none */
    char key_text[32] = "";
    char id[LD_ID_SIZE];
    bool replayed;
    if (model->count == JOBS_MAX)
        return;
    HOLDS(key < 0 ||
          ld_fmt(key_text, sizeof key_text, "%llu-%d", (unsigned long long)model->run, key));
    const bool other_body = (how & 0x80) != 0;
    struct ld_store_submit submit = {
        .tenant = tenants[tenant],
        .request_json = "{\"prompt\":\"a\"}",
        .warnings_json = "",
        .priority = how >> 4 & 7,
        .work = 10,
        .cost = 10 + how,
        .init_sha256 = "",
        .mask_sha256 = "",
        .idempotency_key = key_text,
        .body_sha256 = other_body ? "b2" : "b1",
        .queued_per_tenant_max = 5,
        .queued_max = 8,
    };
    for (uint32_t i = 0; i < LD_CONTROLS_MAX; i++)
        submit.control_sha256[i] = units & 1U << i ? pictures[(how + i) % PICTURES] : NULL;
    int64_t queued[2] = {0, 0};
    for (uint32_t i = 0; i < model->count; i++)
        if (model->jobs[i].exists && model->jobs[i].status == LD_JOB_QUEUED)
            queued[model->jobs[i].tenant]++;
    const int first = key < 0 ? -1 : model->key_job[tenant][key];
    const enum ld_code code = ld_store_submit(store, &submit, id, &replayed, NULL);
    if (first >= 0) {
        const struct model_job *job = &model->jobs[first & 0xFF];
        if ((first >= 0x100) != other_body)
            HOLDS(code == LD_E_CONFLICT);
        else if (!job->exists)
            HOLDS(code == LD_E_NOT_FOUND);
        else
            HOLDS(code == LD_OK && replayed && strcmp(id, job->id) == 0);
        return;
    }
    if (queued[tenant] >= 5 || queued[0] + queued[1] >= 8) {
        HOLDS(code == LD_E_QUEUE_FULL);
        return;
    }
    HOLDS(code == LD_OK && !replayed);
    struct model_job *job = &model->jobs[model->count];
    *job = (struct model_job){.exists = true, .tenant = tenant, .status = LD_JOB_QUEUED};
    memcpy(job->id, id, sizeof id);
    memcpy(job->controls, submit.control_sha256, sizeof job->controls);
    if (key >= 0)
        model->key_job[tenant][key] = (int)model->count | (other_body ? 0x100 : 0);
    model->count++;
}

static void op_claim(struct model *model)
{
    const struct ld_fair_worker worker = {.running_max = JOBS_MAX};
    struct ld_store_job job;
    bool claimed;
    bool waiting = false;
    for (uint32_t i = 0; i < model->count; i++)
        waiting = waiting || (model->jobs[i].exists && model->jobs[i].status == LD_JOB_QUEUED);
    HOLDS(ld_store_job_claim(store, &worker, &arena, &job, &claimed, NULL) == LD_OK);
    HOLDS(claimed == waiting);
    for (uint32_t i = 0; claimed; i++) {
        HOLDS(i < model->count);
        struct model_job *own = &model->jobs[i];
        if (strcmp(own->id, job.view.id) != 0)
            continue;
        HOLDS(own->exists && own->status == LD_JOB_QUEUED && job.token != 0);
        own->status = LD_JOB_RUNNING;
        own->attempt++;
        own->token = job.token;
        break;
    }
}

/* The token of the running attempt, or on request one of before. */
static uint64_t token_of(const struct model_job *job, bool stale)
{
    return stale ? job->old_token : job->token;
}

static bool holds(const struct model_job *job, uint64_t token)
{
    return runs(job) && token != 0 && token == job->token;
}

static void op_finish(struct model_job *job, bool stale, bool failed)
{
    struct ld_store_freed freed;
    const uint64_t token = token_of(job, stale);
    const struct ld_store_finish finish = {
        .id = job->id,
        .token = token,
        .status = failed ? LD_JOB_FAILED : LD_JOB_SUCCEEDED,
        .error_code = "io",
        .error_detail = "it failed",
        .timings = {-1, 1, 2, 3, 4, -1},
        .adapters_json = "",
        .warnings_json = "",
        .resolved_json = "",
        .numerics_json = "{}",
        .repainted = 1,
    };
    const enum ld_code code = ld_store_job_finish(store, &finish, &arena, &freed, NULL);
    HOLDS(code == (holds(job, token) ? LD_OK : LD_E_LEASE_LOST));
    if (code == LD_OK)
        model_end(job, finish.status);
}

static void op_image(struct model_job *job, bool stale, uint32_t index)
{
    const uint64_t token = token_of(job, stale);
    const struct ld_image_view image = {
        .index = index, .width = 64, .height = 64, .sha256 = "aa", .bytes = 100};
    const enum ld_code code = ld_store_image_add(store, job->id, token, &image, NULL);
    HOLDS(code == (holds(job, token) ? LD_OK : LD_E_LEASE_LOST));
    if (code == LD_OK)
        job->images |= (uint8_t)(1U << index);
}

static void op_requeue(struct model_job *job, bool stale, bool suspect, bool counts)
{
    const uint64_t token = token_of(job, stale);
    const enum ld_code code = ld_store_job_requeue(store, job->id, token, suspect, counts, NULL);
    HOLDS(code == (holds(job, token) ? LD_OK : LD_E_LEASE_LOST));
    if (code == LD_OK)
        model_requeue(job, suspect, counts);
}

static void op_cancel(struct model_job *job, bool stranger, bool keep)
{
    enum ld_job_status status;
    const char *tenant = tenants[stranger ? 1 - job->tenant : job->tenant];
    const enum ld_code code = ld_store_job_cancel(store, tenant, job->id, keep, &status, NULL);
    HOLDS(code == (job->exists && !stranger ? LD_OK : LD_E_NOT_FOUND));
    if (code != LD_OK)
        return;
    if (job->status == LD_JOB_QUEUED) {
        job->status = LD_JOB_CANCELLED;
        job->keep_partial = keep;
        job->images = keep ? job->images : 0;
    } else if (job->status == LD_JOB_RUNNING) {
        job->status = LD_JOB_CANCELLING;
        job->keep_partial = keep;
    }
    HOLDS(status == job->status);
}

static void op_delete(struct model_job *job, bool stranger)
{
    struct ld_store_freed freed;
    const char *tenant = tenants[stranger ? 1 - job->tenant : job->tenant];
    const enum ld_code code = ld_store_job_delete(store, tenant, job->id, &arena, &freed, NULL);
    HOLDS(code == (job->exists && !stranger ? LD_OK : LD_E_NOT_FOUND));
    if (code != LD_OK)
        return;
    job->exists = false;
    for (uint32_t i = 0; i < LD_CONTROLS_MAX; i++) {
        bool told = !job->controls[i];
        for (uint32_t j = 0; j < freed.count; j++)
            told = told || strcmp(freed.sha256[j], job->controls[i]) == 0;
        HOLDS(told);
    }
}

/* Everything that has ended. */
static void op_expire(struct model *model)
{
    const struct ld_store_retention all = {INT64_MAX, 0, INT64_MAX, JOBS_MAX + 1};
    struct ld_store_freed freed;
    bool more;
    uint32_t lost = 0;
    for (uint32_t i = 0; i < model->count; i++) {
        struct model_job *job = &model->jobs[i];
        if (!job->exists || !ld_job_status_is_final(job->status) || job->status == LD_JOB_EXPIRED)
            continue;
        lost += (uint32_t)__builtin_popcount(job->images);
        for (uint32_t j = 0; j < LD_CONTROLS_MAX; j++)
            lost += job->controls[j] ? 1 : 0;
        job->status = LD_JOB_EXPIRED;
        job->images = 0;
        memset(job->controls, 0, sizeof job->controls);
    }
    HOLDS(ld_store_expire(store, &all, &arena, &freed, &more, NULL) == LD_OK);
    HOLDS(!more && freed.count == lost);
}

static void op_reopen(struct model *model)
{
    ld_store_close(store);
    open_store();
    for (uint32_t i = 0; i < model->count; i++)
        if (runs(&model->jobs[i]))
            model_requeue(&model->jobs[i], model->jobs[i].suspect, false);
}

/* ---- Agreement ------------------------------------------------------------------------------- */

static void compare_pictures(const struct model *model)
{
    for (uint32_t i = 0; i < PICTURES; i++) {
        bool referenced;
        bool followed = false;
        for (uint32_t j = 0; j < model->count * LD_CONTROLS_MAX; j++) {
            const struct model_job *job = &model->jobs[j / LD_CONTROLS_MAX];
            followed =
                followed || (job->exists && job->controls[j % LD_CONTROLS_MAX] == pictures[i]);
        }
        HOLDS(ld_store_blob_referenced(store, pictures[i], &referenced, NULL) == LD_OK);
        HOLDS(referenced == followed);
    }
}

static void compare(const struct model *model)
{
    struct ld_store_queue queue;
    int64_t queued = 0;
    int64_t running = 0;
    for (uint32_t i = 0; i < model->count; i++) {
        const struct model_job *own = &model->jobs[i];
        struct ld_store_job job;
        const enum ld_code code =
            ld_store_job_get(store, tenants[own->tenant], own->id, &arena, &job, NULL);
        HOLDS(code == (own->exists ? LD_OK : LD_E_NOT_FOUND));
        if (!own->exists)
            continue;
        HOLDS(job.view.status == own->status && job.attempt == own->attempt);
        HOLDS(job.suspect == own->suspect);
        /* What an attempt left is not shown while the job waits for the next one. */
        const uint8_t shown = own->status == LD_JOB_QUEUED ? 0 : own->images;
        HOLDS(job.view.image_count == (uint32_t)__builtin_popcount(shown));
        for (uint32_t j = 0; j < LD_CONTROLS_MAX; j++)
            HOLDS(strcmp(job.control_sha256[j], own->controls[j] ? own->controls[j] : "") == 0);
        queued += own->status == LD_JOB_QUEUED;
        running += runs(own);
    }
    HOLDS(ld_store_queue(store, &queue, NULL) == LD_OK);
    HOLDS(queue.queued == queued && queue.running == running);
}

static void perform(struct model *model, uint8_t what, uint8_t how)
{
    struct model_job *job = &model->jobs[model->count > 0 ? how % model->count : 0];
    const bool stale = (what & 0x10) != 0;
    const bool one = (what & 0x20) != 0;
    const bool two = (what & 0x40) != 0;
    switch (what & 0x0F) {
    case 0:
    case 1:
    case 2:
        op_submit(model, what >> 4, how);
        return;
    case 3:
    case 4:
    case 5:
        op_claim(model);
        return;
    case 6:
        if ((what & 0xF0) == 0xF0) /* seldom: it costs as much as all others together */
            op_reopen(model);
        else if ((what & 0xF0) == 0xE0)
            op_expire(model);
        return;
    default:
        break;
    }
    if (model->count == 0)
        return;
    switch (what & 0x0F) {
    case 7:
    case 8:
        op_finish(job, stale, one);
        break;
    case 9:
    case 10:
        op_image(job, stale, (uint32_t)(what >> 5) % IMAGES);
        break;
    case 11:
    case 12:
        op_requeue(job, stale, one, two);
        break;
    case 13:
    case 14:
        op_cancel(job, stale, one);
        break;
    default:
        op_delete(job, stale);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint64_t runs_so_far;
    struct model model = {.run = runs_so_far++};
    memset(model.key_job, -1, sizeof model.key_job);
    if (!store)
        set_up();
    for (size_t i = 0; i + 1 < size && i < (size_t)2 * OPS_MAX; i += 2)
        perform(&model, data[i], data[i + 1]);
    compare(&model);
    compare_pictures(&model);
    ld_arena_reset(&arena);
    for (uint32_t i = 0; i < model.count; i++)
        if (model.jobs[i].exists)
            op_delete(&model.jobs[i], false);
    ld_arena_reset(&arena);
    return 0;
}
