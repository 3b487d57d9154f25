/* What a worker tells its front. */
#include "server/worker_internal.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- Sending --------------------------------------------------------------------------------- */

void ld_worker_end_orphaned(struct ld_worker *worker)
{
    ld_spool_leave(worker->options.spool);
    _exit(0);
}

static void send_bytes(struct ld_worker *worker, const char *data, size_t size)
{
    size_t sent = 0;
    while (sent < size) {
        const ssize_t got = send(worker->options.fd, data + sent, size - sent, MSG_NOSIGNAL);
        if (got > 0)
            sent += (size_t)got;
        else if (got < 0 && errno != EINTR)
            ld_worker_end_orphaned(worker);
    }
}

void ld_worker_send(struct ld_worker *worker, enum ld_frame_type type, const char *job_id,
                    uint64_t token, const struct ld_buffer *payload)
{
    struct ld_error err = {0};
    struct ld_buffer bytes = ld_buffer_make(LD_WORKER_SEND_BYTES_MAX);
    struct ld_frame frame = {
        .type = type, .token = token, .payload = ld_span_of(payload->data, payload->size)};
    (void)ld_fmt(frame.job_id, sizeof frame.job_id, "%s", job_id);
    if (payload->failed || ld_frame_encode(&bytes, &frame, &err) != LD_OK) {
        /* Without it the front would wait for ever; a death is something it can deal with. */
        LD_LOG(LD_LOG_ERROR, "worker", "a message does not fit",
               ld_log_text("type", ld_frame_name(type)));
        _exit(1);
    }
    ld_spool_keep(worker->options.spool, type, job_id, token, ld_span_of(bytes.data, bytes.size));
    pthread_mutex_lock(&worker->send_lock);
    send_bytes(worker, bytes.data, bytes.size);
    pthread_mutex_unlock(&worker->send_lock);
    ld_buffer_deinit(&bytes);
}

void ld_worker_report_fault(int fd, const struct ld_error *why)
{
    struct ld_worker worker = {.options = {.fd = fd}};
    const struct ld_message_fault fault = {why->code, ld_span_text(why->detail)};
    struct ld_buffer payload = ld_buffer_make(4096);
    (void)pthread_mutex_init(&worker.send_lock, NULL);
    ld_message_fault_encode(&payload, &fault);
    ld_worker_send(&worker, LD_FRAME_FAULT, "", 0, &payload);
    ld_buffer_deinit(&payload);
    (void)pthread_mutex_destroy(&worker.send_lock);
}

void ld_worker_say_hello(struct ld_worker *worker)
{
    const struct ld_message_hello hello = {
        worker->options.jobs_max, ld_span_text(worker->pipeline->inventory(worker->pipeline->ctx))};
    struct ld_buffer payload = ld_buffer_make(ld_frame_payload_max(LD_FRAME_HELLO));
    ld_message_hello_encode(&payload, &hello);
    ld_worker_send(worker, LD_FRAME_HELLO, "", 0, &payload);
    ld_buffer_deinit(&payload);
}

/* ---- Reports of the pipeline ----------------------------------------------------------------- */

void ld_worker_on_progress(void *ctx, const struct ld_engine_progress *progress)
{
    struct ld_worker_job *leader = ctx;
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
    for (struct ld_worker_job *job = ld_worker_next_member(leader, NULL); job;
         job = ld_worker_next_member(leader, job))
        ld_worker_send(job->worker, LD_FRAME_PROGRESS, job->id, job->token, &payload);
    ld_buffer_deinit(&payload);
}

static void send_image(struct ld_worker_job *leader, enum ld_frame_type type,
                       const struct ld_engine_image *image)
{
    const struct ld_message_image message = {
        .index = image->index,
        .seed = image->seed,
        .width = (uint32_t)image->width,
        .height = (uint32_t)image->height,
        .partial = image->partial,
        .file = image->file,
    };
    struct ld_buffer payload = ld_buffer_make(LD_WORKER_SEND_BYTES_MAX);
    struct ld_worker_job *job = ld_worker_next_member(leader, NULL);
    atomic_fetch_add(&leader->worker->steps, 1);
    ld_message_image_encode(&payload, &message);
    if (type == LD_FRAME_IMAGE)
        leader->told_image = true;
    if (payload.size <= ld_frame_payload_max(type)) { /* a preview may be left out */
        for (; job; job = ld_worker_next_member(leader, job))
            ld_worker_send(job->worker, type, job->id, job->token, &payload);
    } else if (type == LD_FRAME_IMAGE) {
        payload.failed = true;
    }
    if (payload.failed)
        _exit(1);
    ld_buffer_deinit(&payload);
}

void ld_worker_on_preview(void *ctx, const struct ld_engine_image *image)
{
    send_image(ctx, LD_FRAME_PREVIEW, image);
}

void ld_worker_on_image(void *ctx, const struct ld_engine_image *image)
{
    send_image(ctx, LD_FRAME_IMAGE, image);
}

static struct ld_span text_or_empty(const char *text)
{
    return ld_span_text(text ? text : "");
}

void ld_worker_send_stats(struct ld_worker *worker)
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
        ld_worker_send(worker, LD_FRAME_STATS, "", 0, &payload);
    }
    pthread_mutex_unlock(&worker->stats_lock);
    ld_buffer_deinit(&payload);
}

/* What ran, as this job asked for it: tag, user data and the like are its own. "" without memory.
 */
static void own_resolved(const struct ld_worker_job *job, const char *resolved,
                         struct ld_buffer *out)
{
    struct ld_arena arena;
    struct ld_native native;
    ld_arena_init(&arena, "resolved", LD_ARENA_JOB_BYTES);
    ld_native_init(&native, &arena);
    if (ld_native_decode(&native, ld_span_text(resolved), NULL) == LD_OK) {
        ld_request_take_delivery(&native.request, &job->native.request);
        ld_request_write_json(&native.request, out);
    }
    ld_native_deinit(&native);
    ld_arena_deinit(&arena);
}

void ld_worker_tell_done(struct ld_worker_job *job, const struct ld_engine_report *report,
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
    ld_worker_send_stats(job->worker);
    ld_worker_send(job->worker, LD_FRAME_DONE, job->id, job->token, &payload);
    ld_buffer_deinit(&payload);
    ld_buffer_deinit(&resolved);
}

void ld_worker_on_done(void *ctx, const struct ld_engine_report *report, const struct ld_error *err)
{
    struct ld_worker_job *leader = ctx;
    leader->computing = false;
    for (struct ld_worker_job *job = ld_worker_next_member(leader, NULL); job;
         job = ld_worker_next_member(leader, job))
        ld_worker_tell_done(job, report, err);
}
