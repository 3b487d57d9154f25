#include "server/worker_loop.h"

#include "api/dialect_native.h"
#include "config/limits.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/ipc/messages.h"
#include "runtime/ipc/stats.h"
#include "server/equal.h"
#include "server/worker_sheet.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    HEARTBEAT_MS = 1000,
    CPU_UNIT_US =
        500 * 1000, /* half a second of computing is activity, a blocked process has none */
    JOB_ARENA_BYTES = LD_ARENA_JOB_BYTES,
    SEND_BYTES_MAX = LD_FRAME_BYTES_MAX + 4096
};
/* Computing alone proves nothing for ever: an endless loop computes too. */
static const int64_t tick_us_max = (int64_t)3600 * 1000000;

/* A message from the front, copied for the pipeline's thread. */
struct inbound {
    struct ld_frame frame;
    struct ld_buffer payload;
    struct inbound *next;
};

struct worker_job {
    struct worker *worker;
    char id[LD_ID_SIZE];
    uint64_t token;
    uint64_t handle;
    struct ld_arena arena;
    struct ld_buffer payload; /* the spans below point into it */
    struct ld_native native;
    struct ld_span init_image, init_mask;
    struct ld_worker_sheet *sheet; /* of a sweep; NULL: a job for the pipeline */
    bool done;  /* reported; its memory goes when the front has acknowledged that */
    bool acked; /* the front has */

    /* Equal jobs: one computes and tells all of them. */
    uint8_t fingerprint[LD_SHA256_BYTES]; /* of everything that decides pictures and previews */
    struct worker_job *leader;            /* whose result this job takes; NULL: its own */
    bool computing;                       /* the pipeline has it, maybe for others only */
    bool told_image, leaving;             /* too late to join */
    struct worker_job *next;
};

struct worker {
    struct ld_worker_options options;
    const struct ld_worker_pipeline *pipeline;

    pthread_mutex_t send_lock;  /* one frame at a time; taken last */
    pthread_mutex_t stats_lock; /* counts go out in order */

    pthread_mutex_t lock; /* guards the inbound list */
    pthread_cond_t arrived;
    struct inbound *first, *last;

    struct worker_job *jobs; /* the pipeline thread's own */
    bool stopping;

    atomic_uint_least64_t steps; /* ticks and reports */
    atomic_int_least64_t tick_began_us;
    atomic_uint job_count;
};

/* ---- Sending --------------------------------------------------------------------------------- */

/* The front is gone, and with it the reason to live. Its store leases our jobs again. */
static void end_orphaned(void)
{
    _exit(0);
}

static void send_bytes(struct worker *worker, const char *data, size_t size)
{
    size_t sent = 0;
    while (sent < size) {
        const ssize_t got = send(worker->options.fd, data + sent, size - sent, MSG_NOSIGNAL);
        if (got > 0)
            sent += (size_t)got;
        else if (got < 0 && errno != EINTR)
            end_orphaned();
    }
}

static void send_frame(struct worker *worker, enum ld_frame_type type, const char *job_id,
                       uint64_t token, const struct ld_buffer *payload)
{
    struct ld_error err = {0};
    struct ld_buffer bytes = ld_buffer_make(SEND_BYTES_MAX);
    struct ld_frame frame = {
        .type = type, .token = token, .payload = ld_span_of(payload->data, payload->size)};
    (void)ld_fmt(frame.job_id, sizeof frame.job_id, "%s", job_id);
    if (payload->failed || ld_frame_encode(&bytes, &frame, &err) != LD_OK) {
        /* Without it the front would wait for ever; a death is something it can deal with. */
        LD_LOG(LD_LOG_ERROR, "worker", "a message does not fit",
               ld_log_text("type", ld_frame_name(type)));
        _exit(1);
    }
    pthread_mutex_lock(&worker->send_lock);
    send_bytes(worker, bytes.data, bytes.size);
    pthread_mutex_unlock(&worker->send_lock);
    ld_buffer_deinit(&bytes);
}

void ld_worker_report_fault(int fd, const struct ld_error *why)
{
    struct worker worker = {.options = {.fd = fd}};
    const struct ld_message_fault fault = {why->code, ld_span_text(why->detail)};
    struct ld_buffer payload = ld_buffer_make(4096);
    (void)pthread_mutex_init(&worker.send_lock, NULL);
    ld_message_fault_encode(&payload, &fault);
    send_frame(&worker, LD_FRAME_FAULT, "", 0, &payload);
    ld_buffer_deinit(&payload);
    (void)pthread_mutex_destroy(&worker.send_lock);
}

/* ---- Reports of the pipeline ----------------------------------------------------------------- */

/* The next job after `after` (NULL: the first) that takes this computation's result and still
 * waits for it. */
static struct worker_job *next_member(struct worker_job *leader, struct worker_job *after)
{
    struct worker_job *job = after ? after->next : leader->worker->jobs;
    while (job && (job->done || (job != leader && job->leader != leader)))
        job = job->next;
    return job;
}

static void on_progress(void *ctx, const struct ld_engine_progress *progress)
{
    struct worker_job *leader = ctx;
    const struct ld_message_progress message = {
        .phase = ld_span_text(ld_engine_phase_name(progress->phase)),
        .image = progress->image,
        .images = progress->images,
        .step = progress->step < progress->steps ? progress->step : progress->steps,
        .steps = progress->steps,
        .fraction = progress->fraction,
    };
    struct ld_buffer payload = ld_buffer_make(256);
    atomic_fetch_add(&leader->worker->steps, 1);
    ld_message_progress_encode(&payload, &message);
    for (struct worker_job *job = next_member(leader, NULL); job; job = next_member(leader, job))
        send_frame(job->worker, LD_FRAME_PROGRESS, job->id, job->token, &payload);
    ld_buffer_deinit(&payload);
}

static void send_image(struct worker_job *leader, enum ld_frame_type type,
                       const struct ld_engine_image *image)
{
    const struct ld_message_image message = {
        .index = image->index,
        .seed = image->seed,
        .width = (uint32_t)image->width,
        .height = (uint32_t)image->height,
        .partial = image->partial,
        .png = image->png,
    };
    struct ld_buffer payload = ld_buffer_make(SEND_BYTES_MAX);
    struct worker_job *job = next_member(leader, NULL);
    atomic_fetch_add(&leader->worker->steps, 1);
    ld_message_image_encode(&payload, &message);
    if (type == LD_FRAME_IMAGE)
        leader->told_image = true;
    if (payload.size <= ld_frame_payload_max(type)) { /* a preview may be left out */
        for (; job; job = next_member(leader, job))
            send_frame(job->worker, type, job->id, job->token, &payload);
    } else if (type == LD_FRAME_IMAGE) {
        payload.failed = true;
    }
    if (payload.failed)
        _exit(1);
    ld_buffer_deinit(&payload);
}

static void on_preview(void *ctx, const struct ld_engine_image *image)
{
    send_image(ctx, LD_FRAME_PREVIEW, image);
}

static void on_image(void *ctx, const struct ld_engine_image *image)
{
    send_image(ctx, LD_FRAME_IMAGE, image);
}

static struct ld_span text_or_empty(const char *text)
{
    return ld_span_text(text ? text : "");
}

/* What was counted, when there is news: with every heartbeat and before a job's end, so that
 * whoever has seen the end sees the counts too. */
static void send_stats(struct worker *worker)
{
    static struct ld_message_stats message; /* guarded by stats_lock */
    uint64_t now[LD_STAT_COUNT];
    struct ld_buffer payload = ld_buffer_make(ld_frame_payload_max(LD_FRAME_STATS));
    pthread_mutex_lock(&worker->stats_lock);
    ld_stats_read(now);
    if (memcmp(now, message.values, sizeof now) != 0) {
        memcpy(message.values, now, sizeof now);
        message.count = LD_STAT_COUNT;
        ld_message_stats_encode(&payload, &message);
        send_frame(worker, LD_FRAME_STATS, "", 0, &payload);
    }
    pthread_mutex_unlock(&worker->stats_lock);
    ld_buffer_deinit(&payload);
}

/* What ran, as this job asked for it: tag, user data and the like are its own. "" without memory.
 */
static void own_resolved(const struct worker_job *job, const char *resolved, struct ld_buffer *out)
{
    struct ld_arena arena;
    struct ld_native native;
    ld_arena_init(&arena, "resolved", JOB_ARENA_BYTES);
    ld_native_init(&native, &arena);
    if (ld_native_decode(&native, ld_span_text(resolved), NULL) == LD_OK) {
        ld_request_take_delivery(&native.request, &job->native.request);
        ld_request_write_json(&native.request, out);
    }
    ld_native_deinit(&native);
    ld_arena_deinit(&arena);
}

/* The end of one job. Rows that it took from an equal one were saved, not run. */
static void tell_done(struct worker_job *job, const struct ld_engine_report *report,
                      const struct ld_error *err)
{
    static const struct ld_engine_report nothing;
    const struct ld_engine_report *told = report ? report : &nothing;
    struct ld_buffer resolved = ld_buffer_make(1 << 20);
    if (job->leader && told->resolved_json && told->resolved_json[0])
        own_resolved(job, told->resolved_json, &resolved);
    const struct ld_message_done message = {
        .code = err ? err->code : LD_OK,
        .detail = text_or_empty(err && err->code != LD_OK ? err->detail : ""),
        .text_us = (uint64_t)(told->text_us > 0 ? told->text_us : 0),
        .sample_us = (uint64_t)(told->sample_us > 0 ? told->sample_us : 0),
        .decode_us = (uint64_t)(told->decode_us > 0 ? told->decode_us : 0),
        .encode_us = (uint64_t)(told->encode_us > 0 ? told->encode_us : 0),
        .unet_rows = job->leader ? 0 : told->unet_rows,
        .unet_rows_saved = told->unet_rows_saved + (job->leader ? told->unet_rows : 0),
        .warnings = text_or_empty(told->warnings_json),
        .adapters = text_or_empty(told->adapters_json),
        .resolved = text_or_empty(!job->leader                        ? told->resolved_json
                                  : resolved.failed || !resolved.data ? ""
                                                                      : resolved.data),
        .numerics = text_or_empty(told->numerics_json),
        .repainted = told->repainted,
    };
    struct ld_buffer payload = ld_buffer_make(ld_frame_payload_max(LD_FRAME_DONE));
    atomic_fetch_add(&job->worker->steps, 1);
    ld_message_done_encode(&payload, &message);
    job->done = true;
    if (err && err->code != LD_OK && err->code != LD_E_CANCELLED)
        ld_log_error(LD_LOG_WARN, "worker", "a job failed", err);
    send_stats(job->worker);
    send_frame(job->worker, LD_FRAME_DONE, job->id, job->token, &payload);
    ld_buffer_deinit(&payload);
    ld_buffer_deinit(&resolved);
}

static void on_done(void *ctx, const struct ld_engine_report *report, const struct ld_error *err)
{
    struct worker_job *leader = ctx;
    leader->computing = false;
    for (struct worker_job *job = next_member(leader, NULL); job; job = next_member(leader, job))
        tell_done(job, report, err);
}

/* ---- Messages of the front ------------------------------------------------------------------- */

static struct worker_job *find_job(struct worker *worker, const struct ld_frame *frame)
{
    for (struct worker_job *job = worker->jobs; job; job = job->next) {
        if (job->token == frame->token && strcmp(job->id, frame->job_id) == 0)
            return job;
    }
    return NULL;
}

static void free_job(struct worker_job *job)
{
    if (job->sheet)
        ld_worker_sheet_deinit(job->sheet);
    ld_heap_free(job->sheet);
    ld_native_deinit(&job->native);
    ld_buffer_deinit(&job->payload);
    ld_arena_deinit(&job->arena);
    ld_heap_free(job);
}

/* Free what the front has acknowledged; not what still computes for others. */
static void sweep_jobs(struct worker *worker)
{
    struct worker_job **place = &worker->jobs;
    while (*place) {
        struct worker_job *job = *place;
        if (!job->acked || !job->done || job->computing) {
            place = &job->next;
            continue;
        }
        *place = job->next;
        free_job(job);
        atomic_fetch_sub(&worker->job_count, 1);
    }
}

static void forget_job(struct worker *worker, const struct ld_frame *frame)
{
    struct worker_job *job = find_job(worker, frame);
    if (!job || !job->done)
        return; /* given up by the front while it still runs: its end frees it */
    job->acked = true;
    sweep_jobs(worker);
}

/* The request was checked when it was accepted; here it is only read back. */
static enum ld_code read_request(struct ld_native *native, struct ld_span json,
                                 struct ld_error *err)
{
    if (ld_native_decode(native, json, NULL) == LD_OK)
        return LD_OK;
    return LD_FAIL(err, native->problem.code, "%s", native->problem.detail);
}

static struct worker_job *add_job(struct worker *worker, struct inbound *inbound)
{
    struct worker_job *job = ld_heap_alloc(sizeof *job);
    if (!job)
        _exit(1); /* the front leases it again */
    job->worker = worker;
    memcpy(job->id, inbound->frame.job_id, sizeof job->id);
    job->token = inbound->frame.token;
    job->payload = inbound->payload; /* takes it: the images stay where they are */
    inbound->payload = ld_buffer_make(0);
    ld_arena_init(&job->arena, "job", JOB_ARENA_BYTES);
    ld_native_init(&job->native, &job->arena);
    job->next = worker->jobs;
    worker->jobs = job;
    atomic_fetch_add(&worker->job_count, 1);
    return job;
}

/* ---- Equal jobs ------------------------------------------------------------------------------ */

/* False without memory. */
static bool take_fingerprint(struct worker_job *job, uint64_t share)
{
    return ld_equal_hash(job->fingerprint,
                         &(struct ld_equal){.request = &job->native.request,
                                            .share = share,
                                            .init_image = job->init_image,
                                            .init_mask = job->init_mask,
                                            .with_tag = job->worker->pipeline->obeys_tag});
}

/* An equal job that computes and has not shown a picture yet. */
static struct worker_job *find_equal(const struct worker_job *job)
{
    for (struct worker_job *other = job->worker->jobs; other; other = other->next) {
        if (other != job && other->computing && !other->told_image && !other->leaving &&
            memcmp(other->fingerprint, job->fingerprint, sizeof job->fingerprint) == 0)
            return other;
    }
    return NULL;
}

static void start_job(struct worker *worker, struct inbound *inbound)
{
    struct ld_error err = {0};
    struct ld_message_job message;
    struct worker_job *job = add_job(worker, inbound);
    enum ld_code code =
        ld_message_job_decode(&message, ld_span_of(job->payload.data, job->payload.size), &err);
    if (code == LD_OK) {
        job->init_image = message.init_image;
        job->init_mask = message.init_mask;
        code = read_request(&job->native, message.request, &err);
    }
    if (code == LD_OK && take_fingerprint(job, message.share) &&
        (job->leader = find_equal(job)) != NULL) {
        ld_stats_add(LD_STAT_JOBS_JOINED, 1);
        return;
    }
    if (code == LD_OK) {
        const struct ld_engine_job engine_job = {
            .request = &job->native.request,
            .init_image = job->init_image,
            .init_mask = job->init_mask,
            .share = message.share,
            .ctx = job,
            .on_progress = on_progress,
            .on_preview = on_preview,
            .on_image = on_image,
            .on_done = on_done,
        };
        code = worker->pipeline->submit(worker->pipeline->ctx, &engine_job, &job->handle, &err);
        job->computing = code == LD_OK;
    }
    if (code != LD_OK)
        on_done(job, NULL, &err);
}

/* ---- Sheets of sweeps ------------------------------------------------------------------------ */

static void start_sheet(struct worker *worker, struct inbound *inbound)
{
    struct ld_error err = {0};
    struct ld_message_sheet message;
    struct worker_job *job = add_job(worker, inbound);
    enum ld_code code =
        ld_message_sheet_decode(&message, ld_span_of(job->payload.data, job->payload.size), &err);
    if (code == LD_OK)
        code = read_request(&job->native, message.request, &err);
    job->sheet = code == LD_OK ? ld_heap_alloc(sizeof *job->sheet) : NULL;
    if (code == LD_OK && !job->sheet)
        code = LD_FAIL(&err, LD_E_NOMEM, "out of memory for the sheet");
    if (code == LD_OK)
        code = ld_worker_sheet_open(job->sheet, &job->native.request, &message, &job->arena, &err);
    if (code != LD_OK)
        on_done(job, NULL, &err);
}

static enum ld_code finish_sheet(struct worker_job *job, struct ld_error *err)
{
    struct ld_buffer png = ld_buffer_make(LD_FRAME_BYTES_MAX - 4096);
    enum ld_code code = ld_worker_sheet_write(job->sheet, &job->native.request, &png, err);
    if (code == LD_OK) {
        const struct ld_engine_image image = {
            .seed = job->native.request.seed,
            .width = job->sheet->sheet.width,
            .height = job->sheet->sheet.height,
            .png = ld_span_of(png.data, png.size),
        };
        on_image(job, &image);
        on_done(job, NULL, NULL);
    }
    ld_buffer_deinit(&png);
    return code;
}

static void take_cell(struct worker *worker, const struct ld_frame *frame)
{
    struct ld_error err = {0};
    struct ld_message_cell cell;
    struct worker_job *job = find_job(worker, frame);
    if (!job || job->done || !job->sheet)
        return; /* cancelled while this was on its way */
    atomic_fetch_add(&worker->steps, 1);
    enum ld_code code = ld_message_cell_decode(&cell, frame->payload, &err);
    if (code == LD_OK)
        code = ld_worker_sheet_put(job->sheet, &cell, &err);
    if (code == LD_OK && job->sheet->next == job->sheet->cells)
        code = finish_sheet(job, &err);
    if (code != LD_OK)
        on_done(job, NULL, &err);
}

/* A sheet is not the pipeline's: it ends here and now. */
static void cancel_job(struct worker *worker, struct worker_job *job, bool keep_partial)
{
    struct ld_error err = {0};
    if (job->sheet) {
        (void)LD_FAIL(&err, LD_E_CANCELLED, "the sweep was cancelled");
        on_done(job, NULL, &err);
        return;
    }
    struct worker_job *leader = job->leader ? job->leader : job;
    struct worker_job *other = next_member(leader, NULL);
    while (other == job)
        other = next_member(leader, other);
    if (!other) {
        leader->leaving = true;
        worker->pipeline->cancel(worker->pipeline->ctx, leader->handle, keep_partial);
    } else if (!keep_partial) { /* the others go on; who wants the picture gets it with them */
        (void)LD_FAIL(&err, LD_E_CANCELLED, "the job was cancelled");
        tell_done(job, NULL, &err);
    }
}

static void send_plan_answer(struct worker *worker, uint64_t token,
                             const struct ld_message_plan_answer *answer)
{
    struct ld_buffer payload = ld_buffer_make(1 << 20);
    ld_message_plan_answer_encode(&payload, answer);
    send_frame(worker, LD_FRAME_PLAN_ANSWER, "", token, &payload);
    ld_buffer_deinit(&payload);
}

static void answer_plan(struct worker *worker, const struct ld_frame *frame)
{
    struct ld_error err = {0};
    struct ld_message_job message;
    struct ld_arena arena;
    struct ld_native native;
    struct ld_buffer plan = ld_buffer_make(512 * 1024);
    ld_arena_init(&arena, "plan", JOB_ARENA_BYTES);
    ld_native_init(&native, &arena);
    enum ld_code code = ld_message_job_decode(&message, frame->payload, &err);
    if (code == LD_OK)
        code = read_request(&native, message.request, &err);
    if (code == LD_OK)
        code = worker->pipeline->plan(worker->pipeline->ctx, &native.request, &plan, &err);
    const struct ld_message_plan_answer answer = {
        .code = code,
        .detail = text_or_empty(code == LD_OK ? "" : err.detail),
        .plan = ld_span_of(code == LD_OK ? plan.data : "", code == LD_OK ? plan.size : 0),
    };
    send_plan_answer(worker, frame->token, &answer);
    ld_buffer_deinit(&plan);
    ld_native_deinit(&native);
    ld_arena_deinit(&arena);
}

static void say_hello(struct worker *worker)
{
    const struct ld_message_hello hello = {
        worker->options.jobs_max, ld_span_text(worker->pipeline->inventory(worker->pipeline->ctx))};
    struct ld_buffer payload = ld_buffer_make(ld_frame_payload_max(LD_FRAME_HELLO));
    ld_message_hello_encode(&payload, &hello);
    send_frame(worker, LD_FRAME_HELLO, "", 0, &payload);
    ld_buffer_deinit(&payload);
}

/* Between two ticks: loading holds up the jobs that run, as loading for a job does. */
static void answer_model(struct worker *worker, const struct ld_frame *frame)
{
    struct ld_error err = {0};
    struct ld_message_model message;
    char name[LD_NAME_BYTES_MAX + 1];
    struct ld_buffer out = ld_buffer_make(512 * 1024);
    enum ld_code code = ld_message_model_decode(&message, frame->payload, &err);
    if (code == LD_OK &&
        !ld_fmt(name, sizeof name, "%.*s", (int)message.name.size, (const char *)message.name.data))
        code = LD_FAIL(&err, LD_E_RANGE, "the model's name is too long");
    if (code == LD_OK && message.order == LD_MODEL_FIND) {
        code = worker->pipeline->find(worker->pipeline->ctx, name, &err);
        ld_buffer_text(&out, "{}");
    } else if (code == LD_OK) {
        code = worker->pipeline->model(worker->pipeline->ctx, name, message.order == LD_MODEL_LOAD,
                                       &out, &err);
    }
    const struct ld_message_plan_answer answer = {
        .code = code,
        .detail = text_or_empty(code == LD_OK ? "" : err.detail),
        .plan = ld_span_of(code == LD_OK ? out.data : "", code == LD_OK ? out.size : 0),
    };
    if (worker->pipeline->has_news(worker->pipeline->ctx))
        say_hello(worker); /* who asks next shall see it */
    send_plan_answer(worker, frame->token, &answer);
    ld_buffer_deinit(&out);
}

/* Jobs leave at their next step and go back to the queue. */
static void stop_jobs(struct worker *worker)
{
    worker->stopping = true;
    for (struct worker_job *job = worker->jobs; job; job = job->next) {
        if (!job->done)
            cancel_job(worker, job, false);
    }
}

static void act(struct worker *worker, struct inbound *inbound)
{
    struct ld_error err = {0};
    struct ld_message_cancel cancel;
    struct worker_job *job;
    inbound->frame.payload = ld_span_of(inbound->payload.data, inbound->payload.size);
    switch ((int)inbound->frame.type) {
    case LD_FRAME_JOB:
        start_job(worker, inbound);
        break;
    case LD_FRAME_CANCEL:
        job = find_job(worker, &inbound->frame);
        if (job && !job->done &&
            ld_message_cancel_decode(&cancel, inbound->frame.payload, &err) == LD_OK)
            cancel_job(worker, job, cancel.keep_partial);
        break;
    case LD_FRAME_SHEET:
        start_sheet(worker, inbound);
        break;
    case LD_FRAME_CELL:
        take_cell(worker, &inbound->frame);
        break;
    case LD_FRAME_ACK:
        forget_job(worker, &inbound->frame);
        break;
    case LD_FRAME_MODEL:
        answer_model(worker, &inbound->frame);
        break;
    case LD_FRAME_PLAN:
        answer_plan(worker, &inbound->frame);
        break;
    case LD_FRAME_SHUTDOWN:
        stop_jobs(worker);
        break;
    default:
        LD_LOG(LD_LOG_ERROR, "worker", "the front sent a message of a worker");
        break;
    }
}

/* ---- The reading thread ---------------------------------------------------------------------- */

static uint64_t activity(struct worker *worker)
{
    struct timespec cpu = {0};
    const int64_t began_us = atomic_load(&worker->tick_began_us);
    const uint64_t steps = atomic_load(&worker->steps);
    if (began_us != 0 && ld_clock_monotonic_us() - began_us > tick_us_max)
        return steps;
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
    const int64_t cpu_us = (int64_t)cpu.tv_sec * 1000000 + cpu.tv_nsec / 1000;
    return steps + (uint64_t)(cpu_us / CPU_UNIT_US);
}

static void send_heartbeat(struct worker *worker)
{
    const struct ld_message_heartbeat beat = {activity(worker), atomic_load(&worker->job_count)};
    struct ld_buffer payload = ld_buffer_make(256);
    ld_message_heartbeat_encode(&payload, &beat);
    send_frame(worker, LD_FRAME_HEARTBEAT, "", 0, &payload);
    ld_buffer_deinit(&payload);
}

static void pass_on(struct worker *worker, const struct ld_frame *frame)
{
    struct inbound *inbound = ld_heap_alloc(sizeof *inbound);
    if (!inbound)
        _exit(1);
    inbound->frame = *frame;
    inbound->payload = ld_buffer_make(frame->payload.size + 1);
    ld_buffer_bytes(&inbound->payload, frame->payload.data, frame->payload.size);
    if (inbound->payload.failed)
        _exit(1);
    pthread_mutex_lock(&worker->lock);
    if (worker->last)
        worker->last->next = inbound;
    else
        worker->first = inbound;
    worker->last = inbound;
    pthread_cond_signal(&worker->arrived);
    pthread_mutex_unlock(&worker->lock);
}

static void *reader_main(void *arg)
{
    struct worker *worker = arg;
    struct ld_frame_reader reader;
    int64_t beat_at_us = 0;
    ld_frame_reader_init(&reader);
    for (;;) {
        struct ld_error err = {0};
        struct ld_frame frame;
        bool closed = false;
        bool got = true;
        struct pollfd look = {.fd = worker->options.fd, .events = POLLIN};
        (void)poll(&look, 1, HEARTBEAT_MS / 4);
        if (ld_frame_reader_fill(&reader, worker->options.fd, &closed, &err) != LD_OK || closed)
            end_orphaned();
        while (got) {
            if (ld_frame_reader_next(&reader, &frame, &got, &err) != LD_OK) {
                ld_log_error(LD_LOG_ERROR, "worker", "the front misbehaves", &err);
                _exit(1);
            }
            if (got)
                pass_on(worker, &frame);
        }
        const int64_t now_us = ld_clock_monotonic_us();
        if (now_us >= beat_at_us) {
            send_heartbeat(worker);
            send_stats(worker);
            beat_at_us = now_us + HEARTBEAT_MS * 1000;
        }
    }
    return NULL;
}

/* ---- The pipeline's thread ------------------------------------------------------------------- */

static struct inbound *take_inbound(struct worker *worker, bool wait)
{
    pthread_mutex_lock(&worker->lock);
    while (wait && !worker->first)
        pthread_cond_wait(&worker->arrived, &worker->lock);
    struct inbound *first = worker->first;
    worker->first = worker->last = NULL;
    pthread_mutex_unlock(&worker->lock);
    return first;
}

static void act_on_all(struct worker *worker, bool wait)
{
    struct inbound *inbound = take_inbound(worker, wait);
    while (inbound) {
        struct inbound *next = inbound->next;
        act(worker, inbound);
        ld_buffer_deinit(&inbound->payload);
        ld_heap_free(inbound);
        inbound = next;
    }
}

int ld_worker_run(const struct ld_worker_options *options,
                  const struct ld_worker_pipeline *pipeline)
{
    struct worker worker = {.options = *options, .pipeline = pipeline};
    struct ld_error err = {0};
    pthread_t reader;
    (void)pthread_mutex_init(&worker.send_lock, NULL);
    (void)pthread_mutex_init(&worker.stats_lock, NULL);
    (void)pthread_mutex_init(&worker.lock, NULL);
    (void)pthread_cond_init(&worker.arrived, NULL);
    (void)pipeline->has_news(pipeline->ctx); /* of what was loaded until now */
    say_hello(&worker);
    if (pthread_create(&reader, NULL, reader_main, &worker) != 0)
        return 1;
    for (;;) {
        const bool busy = pipeline->busy(pipeline->ctx);
        if (worker.stopping && !busy)
            break;
        if (pipeline->has_news(pipeline->ctx))
            say_hello(&worker);
        act_on_all(&worker, !busy);
        if (!pipeline->busy(pipeline->ctx))
            continue;
        atomic_store(&worker.tick_began_us, ld_clock_monotonic_us());
        if (pipeline->tick(pipeline->ctx, &err) != LD_OK) {
            ld_log_error(LD_LOG_ERROR, "worker", "the pipeline is lost", &err);
            ld_worker_report_fault(options->fd, &err);
            _exit(1); /* a lost device may hang every orderly way out */
        }
        atomic_fetch_add(&worker.steps, 1);
        atomic_store(&worker.tick_began_us, 0);
        sweep_jobs(&worker);
    }
    _exit(0); /* the reading thread has nothing left to read for; the front has every result */
}
