/* The jobs of a worker: starting, joining equal ones, sheets of sweeps, cancelling, forgetting. */
#include "server/worker_internal.h"

#include "server/equal.h"

#include <unistd.h>

/* ---- The list --------------------------------------------------------------------------------- */

struct ld_worker_job *ld_worker_find_job(struct ld_worker *worker, const struct ld_frame *frame)
{
    for (struct ld_worker_job *job = worker->jobs; job; job = job->next) {
        if (job->token == frame->token && strcmp(job->id, frame->job_id) == 0)
            return job;
    }
    return NULL;
}

struct ld_worker_job *ld_worker_next_member(struct ld_worker_job *leader,
                                            struct ld_worker_job *after)
{
    struct ld_worker_job *job = after ? after->next : leader->worker->jobs;
    while (job && (job->done || (job != leader && job->leader != leader)))
        job = job->next;
    return job;
}

static void free_job(struct ld_worker_job *job)
{
    if (job->sheet)
        ld_worker_sheet_deinit(job->sheet);
    ld_heap_free(job->sheet);
    ld_native_deinit(&job->native);
    ld_buffer_deinit(&job->payload);
    ld_arena_deinit(&job->arena);
    ld_heap_free(job);
}

void ld_worker_sweep_jobs(struct ld_worker *worker)
{
    struct ld_worker_job **place = &worker->jobs;
    while (*place) {
        struct ld_worker_job *job = *place;
        if (!job->acked || !job->done || job->computing) {
            place = &job->next;
            continue;
        }
        *place = job->next;
        free_job(job);
        atomic_fetch_sub(&worker->job_count, 1);
    }
}

void ld_worker_forget_job(struct ld_worker *worker, const struct ld_frame *frame)
{
    struct ld_worker_job *job = ld_worker_find_job(worker, frame);
    if (!job || !job->done)
        return; /* given up by the front while it still runs: its end frees it */
    job->acked = true;
    ld_spool_drop(worker->options.spool, job->id, job->token);
    ld_worker_sweep_jobs(worker);
}

enum ld_code ld_worker_read_request(struct ld_native *native, struct ld_span json,
                                    struct ld_error *err)
{
    if (ld_native_decode(native, json, NULL) == LD_OK)
        return LD_OK;
    return LD_FAIL(err, native->problem.code, "%s", native->problem.detail);
}

static struct ld_worker_job *add_job(struct ld_worker *worker, struct ld_worker_inbound *inbound)
{
    struct ld_worker_job *job = ld_heap_alloc(sizeof *job);
    if (!job)
        _exit(1); /* the front leases it again */
    job->worker = worker;
    job->scans = worker->scans;
    memcpy(job->id, inbound->frame.job_id, sizeof job->id);
    job->token = inbound->frame.token;
    job->payload = inbound->payload; /* takes it: the images stay where they are */
    inbound->payload = ld_buffer_make(0);
    ld_arena_init(&job->arena, "job", LD_ARENA_JOB_BYTES);
    ld_native_init(&job->native, &job->arena);
    job->next = worker->jobs;
    worker->jobs = job;
    atomic_fetch_add(&worker->job_count, 1);
    return job;
}

/* ---- Equal jobs ------------------------------------------------------------------------------ */

/* False without memory. */
static bool take_fingerprint(struct ld_worker_job *job, uint64_t share)
{
    struct ld_equal equal = {
        .request = &job->native.request,
        .share = share,
        .init_image = job->init_image,
        .init_mask = job->init_mask,
        .with_tag = job->worker->pipeline->obeys_tag,
    };
    memcpy(equal.control_images, job->control_images, sizeof equal.control_images);
    return ld_equal_hash(job->fingerprint, &equal);
}

/* An equal job that computes, by the files that there are now, and has not shown a picture yet. */
static struct ld_worker_job *find_equal(const struct ld_worker_job *job)
{
    for (struct ld_worker_job *other = job->worker->jobs; other; other = other->next) {
        if (other != job && other->computing && !other->told_image && !other->leaving &&
            other->scans == job->scans &&
            memcmp(other->fingerprint, job->fingerprint, sizeof job->fingerprint) == 0)
            return other;
    }
    return NULL;
}

void ld_worker_start_job(struct ld_worker *worker, struct ld_worker_inbound *inbound)
{
    struct ld_error err = {0};
    struct ld_message_job message;
    struct ld_worker_job *job = add_job(worker, inbound);
    enum ld_code code =
        ld_message_job_decode(&message, ld_span_of(job->payload.data, job->payload.size), &err);
    if (code == LD_OK) {
        job->init_image = message.init_image;
        job->init_mask = message.init_mask;
        memcpy(job->control_images, message.control_images, sizeof job->control_images);
        code = ld_worker_read_request(&job->native, message.request, &err);
    }
    if (code == LD_OK && take_fingerprint(job, message.share) &&
        (job->leader = find_equal(job)) != NULL) {
        ld_stats_add(LD_STAT_JOBS_JOINED, 1);
        return;
    }
    if (code == LD_OK) {
        struct ld_engine_job engine_job = {
            .request = &job->native.request,
            .init_image = job->init_image,
            .init_mask = job->init_mask,
            .share = message.share,
            .ctx = job,
            .on_progress = ld_worker_on_progress,
            .on_preview = ld_worker_on_preview,
            .on_image = ld_worker_on_image,
            .on_done = ld_worker_on_done,
        };
        memcpy(engine_job.control_images, job->control_images, sizeof engine_job.control_images);
        code = worker->pipeline->submit(worker->pipeline->ctx, &engine_job, &job->handle, &err);
        job->computing = code == LD_OK;
    }
    if (code != LD_OK)
        ld_worker_on_done(job, NULL, &err);
}

/* ---- Sheets of sweeps ------------------------------------------------------------------------ */

void ld_worker_start_sheet(struct ld_worker *worker, struct ld_worker_inbound *inbound)
{
    struct ld_error err = {0};
    struct ld_message_sheet message;
    struct ld_worker_job *job = add_job(worker, inbound);
    enum ld_code code =
        ld_message_sheet_decode(&message, ld_span_of(job->payload.data, job->payload.size), &err);
    if (code == LD_OK)
        code = ld_worker_read_request(&job->native, message.request, &err);
    job->sheet = code == LD_OK ? ld_heap_alloc(sizeof *job->sheet) : NULL;
    if (code == LD_OK && !job->sheet)
        code = LD_FAIL(&err, LD_E_NOMEM, "out of memory for the sheet");
    if (code == LD_OK)
        code = ld_worker_sheet_open(job->sheet, &job->native.request, &message, &job->arena, &err);
    if (code != LD_OK)
        ld_worker_on_done(job, NULL, &err);
}

static enum ld_code finish_sheet(struct ld_worker_job *job, struct ld_error *err)
{
    struct ld_buffer file = ld_buffer_make(LD_FRAME_BYTES_MAX - 4096);
    enum ld_code code = ld_worker_sheet_write(job->sheet, &job->native.request, &file, err);
    if (code == LD_OK) {
        const struct ld_engine_image image = {
            .seed = job->native.request.seed,
            .width = job->sheet->sheet.width,
            .height = job->sheet->sheet.height,
            .file = ld_span_of(file.data, file.size),
        };
        ld_worker_on_image(job, &image);
        ld_worker_on_done(job, NULL, NULL);
    }
    ld_buffer_deinit(&file);
    return code;
}

void ld_worker_take_cell(struct ld_worker *worker, const struct ld_frame *frame)
{
    struct ld_error err = {0};
    struct ld_message_cell cell;
    struct ld_worker_job *job = ld_worker_find_job(worker, frame);
    if (!job || job->done || !job->sheet)
        return; /* cancelled while this was on its way */
    atomic_fetch_add(&worker->steps, 1);
    enum ld_code code = ld_message_cell_decode(&cell, frame->payload, &err);
    if (code == LD_OK)
        code = ld_worker_sheet_put(job->sheet, &cell, &err);
    if (code == LD_OK && job->sheet->next == job->sheet->cells)
        code = finish_sheet(job, &err);
    if (code != LD_OK)
        ld_worker_on_done(job, NULL, &err);
}

/* A sheet is not the pipeline's: it ends here and now. */
void ld_worker_cancel_job(struct ld_worker *worker, struct ld_worker_job *job, bool keep_partial)
{
    struct ld_error err = {0};
    if (job->sheet) {
        (void)LD_FAIL(&err, LD_E_CANCELLED, "the sweep was cancelled");
        ld_worker_on_done(job, NULL, &err);
        return;
    }
    struct ld_worker_job *leader = job->leader ? job->leader : job;
    struct ld_worker_job *other = ld_worker_next_member(leader, NULL);
    while (other == job)
        other = ld_worker_next_member(leader, other);
    if (!other) {
        leader->leaving = true;
        worker->pipeline->cancel(worker->pipeline->ctx, leader->handle, keep_partial);
    } else if (!keep_partial) { /* the others go on; who wants the picture gets it with them */
        (void)LD_FAIL(&err, LD_E_CANCELLED, "the job was cancelled");
        ld_worker_tell_done(job, NULL, &err);
    }
}
