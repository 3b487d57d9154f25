#include "server/supervisor_internal.h"

#include "config/limits.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"

#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum {
    POLL_MS_MAX = 500,
    INPUTS_MAX = 2 + LD_CONTROLS_MAX, /* init, mask, one for each unit of control */
    FRAMES_PER_TURN = 256,            /* then the other workers get their turn */
    CLAIM_RETRY_US = 1000 * 1000,
    STOP_PATIENCE_US = 3 * 1000 * 1000, /* with both the end comes within 5 s of the drain's */
    ORPHAN_PATIENCE_US = 1000 * 1000,
    START_PATIENCE_US = 900 * 1000 * 1000 /* hashing and loading many models from a slow disk */
};

/* ---- Giving out jobs ------------------------------------------------------------------------- */

/* A job's pictures into the message, which borrows `files`; those are made here, also after an
 * error. */
static enum ld_code read_inputs(struct ld_supervisor *supervisor, const struct ld_store_job *job,
                                struct ld_buffer files[INPUTS_MAX], struct ld_message_job *message,
                                struct ld_error *err)
{
    const char *digests[INPUTS_MAX] = {job->init_sha256, job->mask_sha256};
    struct ld_span *places[INPUTS_MAX] = {&message->init_image, &message->init_mask};
    enum ld_code code = LD_OK;
    for (uint32_t i = 0; i < LD_CONTROLS_MAX; i++) {
        digests[2 + i] = job->control_sha256[i];
        places[2 + i] = &message->control_images[i];
    }
    for (uint32_t i = 0; i < INPUTS_MAX; i++) {
        files[i] = ld_buffer_make(LD_UPLOAD_BYTES_MAX);
        if (code == LD_OK && *digests[i])
            code = ld_blob_read(supervisor->config.blobs, digests[i], &files[i], err);
        *places[i] = ld_span_of(files[i].data, files[i].size);
    }
    return code;
}

static enum ld_code send_job(struct ld_supervisor *supervisor, struct ld_slot *slot,
                             const struct ld_store_job *job, struct ld_error *err)
{
    if (job->view.cell_count > 0)
        return ld_supervisor_send_sheet(slot, job, err);
    struct ld_buffer files[INPUTS_MAX];
    struct ld_buffer payload = ld_buffer_make(LD_FRAME_BYTES_MAX);
    struct ld_message_job message = {
        .request = ld_span_text(job->view.request_json),
        .share = ld_supervisor_share_of(supervisor, job->tenant),
    };
    enum ld_code code = read_inputs(supervisor, job, files, &message, err);
    if (code != LD_OK)
        goto done;
    ld_message_job_encode(&payload, &message);
    code = payload.failed ? LD_FAIL(err, LD_E_TOO_LARGE, "the job's images are too large together")
                          : ld_slot_send(slot, LD_FRAME_JOB, job->view.id, job->token,
                                         ld_span_of(payload.data, payload.size), err);
done:
    ld_buffer_deinit(&payload);
    for (uint32_t i = 0; i < INPUTS_MAX; i++)
        ld_buffer_deinit(&files[i]);
    return code;
}

/* A job that cannot even be sent fails; it would not get better in another worker. */
static void fail_unsent(struct ld_supervisor *supervisor, const struct ld_store_job *job,
                        const struct ld_error *why, struct ld_arena *arena)
{
    struct ld_error err;
    struct ld_store_freed freed;
    const struct ld_store_finish end = {
        .id = job->view.id,
        .token = job->token,
        .status = LD_JOB_FAILED,
        .error_code = ld_code_name(why->code),
        .error_detail = why->detail,
        .timings = {-1, -1, -1, -1, -1, -1},
        .adapters_json = "",
        .warnings_json = "",
        .resolved_json = "",
        .numerics_json = "",
    };
    if (ld_store_job_finish(supervisor->config.store, &end, arena, &freed, &err) != LD_OK)
        ld_log_error(LD_LOG_ERROR, "supervisor", "a job could not be ended", &err);
}

static bool runs_suspect(const struct ld_slot *slot)
{
    for (uint32_t i = 0; i < slot->job_count; i++) {
        if (slot->jobs[i].suspect)
            return true;
    }
    return false;
}

/* Fill one worker; false when the queue had nothing for it. */
static bool claim_one(struct ld_supervisor *supervisor, struct ld_slot *slot)
{
    struct ld_error err;
    struct ld_arena arena;
    struct ld_store_job job;
    bool claimed = false;
    const struct ld_fair_worker worker = {
        .running = slot->job_count,
        .running_max = slot->jobs_max,
        .running_suspect = runs_suspect(slot),
        .places = atomic_load(&supervisor->shared)
                      ? supervisor->config.workers * supervisor->config.jobs_per_worker
                      : 0,
    };
    ld_arena_init(&arena, "claim", 4 << 20);
    const enum ld_code code =
        ld_store_job_claim(supervisor->config.store, &worker, &arena, &job, &claimed, &err);
    if (code != LD_OK)
        supervisor->claim_not_before_us = ld_clock_monotonic_us() + CLAIM_RETRY_US;
    if (claimed) {
        struct ld_equal_mark mark;
        struct ld_slot *to = ld_supervisor_place(supervisor, slot, &job, &mark);
        if (send_job(supervisor, to, &job, &err) == LD_OK) {
            pthread_mutex_lock(&supervisor->lock);
            struct ld_slot_job *added = ld_slot_job_add(to, &job);
            added->equal = mark;
            const bool noted = ld_supervisor_note_cells(added, &job);
            LD_ASSERT(noted); /* 64 names: without them the worker would wait for ever */
            pthread_mutex_unlock(&supervisor->lock);
            /* Now and not with the next turn: the next claim may wait for this one's flush. A
             * connection that is gone is noticed there. */
            (void)ld_slot_write(to);
            ld_metrics_observe(supervisor->config.metrics, LD_TIME_QUEUE_WAIT,
                               ld_clock_wall_us() - job.view.created_us);
        } else {
            ld_log_error(LD_LOG_ERROR, "supervisor", "a job could not be sent", &err);
            fail_unsent(supervisor, &job, &err, &arena);
        }
    }
    ld_arena_deinit(&arena);
    return claimed;
}

static void claim_jobs(struct ld_supervisor *supervisor, int64_t now_us)
{
    if (supervisor->drained || now_us < supervisor->claim_not_before_us ||
        !atomic_exchange(&supervisor->claim_wanted, false))
        return;
    for (uint32_t i = 0; i < supervisor->config.workers; i++) {
        struct ld_slot *slot = &supervisor->slots[i];
        while (slot->state == LD_SLOT_READY && slot->job_count < slot->jobs_max &&
               !runs_suspect(slot) && !atomic_load(&supervisor->draining) &&
               claim_one(supervisor, slot))
            ;
    }
    if (supervisor->claim_not_before_us > now_us)
        atomic_store(&supervisor->claim_wanted, true);
}

static void pass_cancels(struct ld_supervisor *supervisor)
{
    pthread_mutex_lock(&supervisor->lock);
    struct ld_cancel_note *note = supervisor->cancels;
    supervisor->cancels = NULL;
    pthread_mutex_unlock(&supervisor->lock);
    while (note) {
        struct ld_cancel_note *next = note->next;
        struct ld_error err;
        const char keep = note->keep_partial ? 1 : 0;
        for (uint32_t i = 0; i < supervisor->config.workers; i++) {
            struct ld_slot *slot = &supervisor->slots[i];
            for (uint32_t j = 0; j < slot->job_count; j++) {
                if (strcmp(slot->jobs[j].id, note->job_id) == 0 &&
                    ld_slot_send(slot, LD_FRAME_CANCEL, note->job_id, slot->jobs[j].token,
                                 ld_span_of(&keep, 1), &err) != LD_OK)
                    ld_log_error(LD_LOG_WARN, "supervisor", "a cancel was not sent", &err);
            }
        }
        ld_heap_free(note);
        note = next;
    }
}

/* ---- Watching -------------------------------------------------------------------------------- */

static void watch(struct ld_supervisor *supervisor, struct ld_slot *slot, int64_t now_us)
{
    const char *why = NULL;
    enum ld_count count = LD_COUNT_DEATHS_KILLED_HANG;
    if (slot->killed_by_us || slot->state == LD_SLOT_DOWN)
        return;
    if (slot->state == LD_SLOT_STARTING) {
        if (now_us - slot->started_us > START_PATIENCE_US)
            why = "worker did not become ready";
    } else if (now_us - slot->heard_us > supervisor->config.lease_us) {
        slot->lease_expired = true;
        count = LD_COUNT_DEATHS_KILLED_SILENT;
        why = "worker was not heard";
    } else if (slot->job_count > 0 && now_us - slot->activity_us > supervisor->config.hang_us) {
        why = "worker hangs";
    }
    if (!why)
        return;
    LD_LOG(LD_LOG_ERROR, "supervisor", why, ld_log_int("worker", slot->index),
           ld_log_int("pid", slot->pid));
    ld_metrics_add(supervisor->config.metrics, count, 1);
    ld_slot_kill(slot);
}

static void start_worker(struct ld_supervisor *supervisor, struct ld_slot *slot, int64_t now_us)
{
    struct ld_error err;
    if (!ld_slot_may_start(slot, now_us))
        return;
    if (ld_slot_spawn(slot, supervisor->config.worker_argv, &err) != LD_OK) {
        ld_log_error(LD_LOG_ERROR, "supervisor", "no worker", &err);
        slot->start_at_us = now_us + CLAIM_RETRY_US;
    }
}

enum hearing { HEARD, CLOSED, MAD };

/* Everything that has arrived from one worker. A last word before the end is heard too. */
static enum hearing read_worker(struct ld_supervisor *supervisor, struct ld_slot *slot)
{
    struct ld_error err = {0};
    bool closed = false;
    if (ld_frame_reader_fill(&slot->reader, slot->fd, &closed, &err) != LD_OK) {
        ld_log_error(LD_LOG_ERROR, "supervisor", "a worker cannot be read", &err);
        return MAD;
    }
    slot->heard_us = closed ? slot->heard_us : ld_clock_monotonic_us();
    for (uint32_t i = 0; (i < FRAMES_PER_TURN || closed) && !slot->killed_by_us; i++) {
        struct ld_frame frame;
        bool got;
        if (ld_frame_reader_next(&slot->reader, &frame, &got, &err) != LD_OK) {
            ld_log_error(LD_LOG_ERROR, "supervisor", "a worker misbehaves", &err);
            return MAD;
        }
        if (!got)
            break;
        if (!ld_supervisor_take_frame(supervisor, slot, &frame))
            return MAD;
    }
    return closed ? CLOSED : HEARD;
}

/* Frames left over from a full turn need no new bytes to be worked on. */
static bool has_frames(const struct ld_slot *slot)
{
    const size_t unread = slot->reader.bytes.size - slot->reader.taken;
    if (slot->fd < 0 || unread < LD_FRAME_HEADER_BYTES)
        return false;
    const uint8_t *header = (const uint8_t *)slot->reader.bytes.data + slot->reader.taken;
    return unread - LD_FRAME_HEADER_BYTES >= ld_read_u32le(header + 8);
}

static void attend(struct ld_supervisor *supervisor, struct ld_slot *slot, short events)
{
    enum hearing hearing = HEARD;
    if ((events & (POLLIN | POLLHUP | POLLERR)) || has_frames(slot))
        hearing = read_worker(supervisor, slot);
    if (hearing == HEARD && ld_slot_wants_write(slot) && !ld_slot_write(slot))
        hearing = CLOSED;
    if (hearing == HEARD)
        return;
    if (hearing == MAD) {
        ld_metrics_add(supervisor->config.metrics, LD_COUNT_DEATHS_KILLED_FRAMES, 1);
        ld_slot_kill(slot);
    }
    const int status = ld_slot_reap(slot);
    ld_supervisor_bury(supervisor, slot, status);
}

/* Readers look at this copy, never at the slots' states. */
static void publish_status(struct ld_supervisor *supervisor)
{
    struct ld_supervisor_status status = {.workers = supervisor->config.workers,
                                          .drained = supervisor->drained};
    for (uint32_t i = 0; i < supervisor->config.workers; i++) {
        const struct ld_slot *slot = &supervisor->slots[i];
        status.ready += slot->state == LD_SLOT_READY ? 1 : 0;
        status.disabled += slot->disabled ? 1 : 0;
        status.jobs_running += slot->job_count;
        status.restarts += slot->restarts;
        status.pids[i] = slot->state == LD_SLOT_DOWN ? 0 : slot->pid;
    }
    pthread_mutex_lock(&supervisor->lock);
    memcpy(status.reason, supervisor->reason, sizeof status.reason);
    supervisor->status = status;
    pthread_mutex_unlock(&supervisor->lock);
}

/* ---- The thread ------------------------------------------------------------------------------ */

static void poll_workers(struct ld_supervisor *supervisor)
{
    struct pollfd fds[LD_WORKERS_MAX + 1];
    bool ready_now = false;
    fds[0] = (struct pollfd){.fd = supervisor->wake_fd, .events = POLLIN};
    for (uint32_t i = 0; i < supervisor->config.workers; i++) {
        struct ld_slot *slot = &supervisor->slots[i];
        fds[i + 1] = (struct pollfd){.fd = slot->fd, .events = POLLIN};
        if (ld_slot_wants_write(slot))
            fds[i + 1].events |= POLLOUT;
        ready_now = ready_now || has_frames(slot);
    }
    int wait_ms = POLL_MS_MAX;
    const int64_t now_us = ld_clock_monotonic_us();
    for (uint32_t i = 0; i < supervisor->config.workers; i++) {
        const struct ld_slot *slot = &supervisor->slots[i];
        const int64_t in_ms = (slot->start_at_us - now_us) / 1000 + 1;
        if (slot->state == LD_SLOT_DOWN && !slot->disabled && in_ms < wait_ms)
            wait_ms = in_ms > 0 ? (int)in_ms : 1;
    }
    const int ready = poll(fds, supervisor->config.workers + 1, ready_now ? 0 : wait_ms);
    if (ready > 0 && (fds[0].revents & POLLIN)) {
        uint64_t ignored;
        (void)(read(supervisor->wake_fd, &ignored, sizeof ignored) == sizeof ignored);
    }
    for (uint32_t i = 0; i < supervisor->config.workers; i++) {
        struct ld_slot *slot = &supervisor->slots[i];
        if (slot->fd >= 0)
            attend(supervisor, slot, ready > 0 ? fds[i + 1].revents : 0);
    }
}

/* True when everything has ended. */
static bool stop_workers(struct ld_supervisor *supervisor, int64_t now_us)
{
    bool all_down = true;
    if (supervisor->stop_until_us == 0)
        supervisor->stop_until_us = now_us + STOP_PATIENCE_US;
    for (uint32_t i = 0; i < supervisor->config.workers; i++) {
        struct ld_slot *slot = &supervisor->slots[i];
        struct ld_error err;
        if (slot->state == LD_SLOT_DOWN)
            continue;
        all_down = false;
        if (now_us > supervisor->stop_until_us)
            ld_slot_kill(slot);
        else if (!supervisor->stop_sent &&
                 ld_slot_send(slot, LD_FRAME_SHUTDOWN, "", 0, ld_span_text(""), &err) != LD_OK)
            ld_slot_kill(slot);
    }
    supervisor->stop_sent = true;
    return all_down && (ld_supervisor_settle_orphans(supervisor) ||
                        ld_store_is_broken(supervisor->config.store) ||
                        now_us > supervisor->stop_until_us + ORPHAN_PATIENCE_US);
}

static void *supervisor_main(void *arg)
{
    struct ld_supervisor *supervisor = arg;
    for (;;) {
        const int64_t now_us = ld_clock_monotonic_us();
        const bool stopping = atomic_load(&supervisor->stopping);
        pass_cancels(supervisor);
        ld_supervisor_send_plans(supervisor, now_us);
        if (stopping && stop_workers(supervisor, now_us))
            break;
        for (uint32_t i = 0; i < supervisor->config.workers; i++) {
            struct ld_slot *slot = &supervisor->slots[i];
            if (slot->state == LD_SLOT_DOWN && !stopping)
                start_worker(supervisor, slot, now_us);
            watch(supervisor, slot, now_us);
        }
        if (supervisor->retry_at_us != 0 && now_us >= supervisor->retry_at_us) {
            supervisor->retry_at_us = 0;
            if (!ld_supervisor_settle_orphans(supervisor))
                supervisor->retry_at_us = now_us + CLAIM_RETRY_US;
            for (uint32_t i = 0; i < supervisor->config.workers; i++)
                ld_supervisor_retry_results(supervisor, &supervisor->slots[i]);
        }
        /* Once for this turn: what is published below counts every job that was claimed before. */
        supervisor->drained = atomic_load(&supervisor->draining);
        claim_jobs(supervisor, now_us);
        for (uint32_t i = 0; i < supervisor->config.workers; i++)
            ld_supervisor_feed_sheets(supervisor, &supervisor->slots[i]);
        publish_status(supervisor);
        poll_workers(supervisor);
    }
    ld_supervisor_plans_lost(supervisor, UINT32_MAX);
    return NULL;
}

/* ---- The interface --------------------------------------------------------------------------- */

enum ld_code ld_supervisor_start(struct ld_supervisor **out,
                                 const struct ld_supervisor_config *config, struct ld_error *err)
{
    LD_ASSERT(config->workers >= 1 && config->workers <= LD_WORKERS_MAX);
    LD_ASSERT(config->jobs_per_worker >= 1 && config->jobs_per_worker <= LD_SLOT_JOBS_MAX);
    struct ld_supervisor *supervisor = ld_heap_alloc(sizeof *supervisor);
    *out = NULL;
    if (!supervisor)
        return LD_FAIL(err, LD_E_NOMEM, "out of memory");
    supervisor->config = *config;
    supervisor->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    const int os_code = errno;
    if (supervisor->wake_fd < 0) {
        ld_heap_free(supervisor);
        return LD_FAIL_OS(err, LD_E_IO, os_code, "the supervisor could not be started");
    }
    (void)pthread_mutex_init(&supervisor->lock, NULL);
    for (uint32_t i = 0; i < config->workers; i++)
        ld_slot_init(&supervisor->slots[i], i);
    atomic_store(&supervisor->claim_wanted, true);
    const int failed = pthread_create(&supervisor->thread, NULL, supervisor_main, supervisor);
    if (failed) {
        (void)close(supervisor->wake_fd);
        (void)pthread_mutex_destroy(&supervisor->lock);
        ld_heap_free(supervisor);
        return LD_FAIL_OS(err, LD_E_NOMEM, failed, "no thread for the supervisor");
    }
    *out = supervisor;
    return LD_OK;
}

static void ring(struct ld_supervisor *supervisor)
{
    const uint64_t one = 1;
    (void)(write(supervisor->wake_fd, &one, sizeof one) == sizeof one);
}

void ld_supervisor_wake(struct ld_supervisor *supervisor)
{
    atomic_store(&supervisor->claim_wanted, true);
    ring(supervisor);
}

void ld_supervisor_cancel(struct ld_supervisor *supervisor, const char *job_id, bool keep_partial)
{
    struct ld_cancel_note *note = ld_heap_alloc(sizeof *note);
    if (!note)
        return; /* the job runs to its end and is dropped there: its status is in the store */
    (void)ld_fmt(note->job_id, sizeof note->job_id, "%s", job_id);
    note->keep_partial = keep_partial;
    pthread_mutex_lock(&supervisor->lock);
    note->next = supervisor->cancels;
    supervisor->cancels = note;
    pthread_mutex_unlock(&supervisor->lock);
    ring(supervisor);
}

/* With the lock. */
static const struct ld_slot_job *find_running(const struct ld_supervisor *supervisor,
                                              const char *job_id)
{
    for (uint32_t i = 0; i < supervisor->config.workers; i++) {
        const struct ld_slot *slot = &supervisor->slots[i];
        for (uint32_t j = 0; j < slot->job_count; j++)
            if (strcmp(slot->jobs[j].id, job_id) == 0)
                return &slot->jobs[j];
    }
    return NULL;
}

uint32_t ld_supervisor_preview(struct ld_supervisor *supervisor, const char *job_id,
                               struct ld_buffer *out)
{
    pthread_mutex_lock(&supervisor->lock);
    const struct ld_slot_job *job = find_running(supervisor, job_id);
    const uint32_t number = job ? job->preview_number : 0;
    if (number > 0)
        ld_buffer_bytes(out, job->preview.data, job->preview.size);
    pthread_mutex_unlock(&supervisor->lock);
    return out->failed ? 0 : number;
}

bool ld_supervisor_progress(struct ld_supervisor *supervisor, const char *job_id,
                            struct ld_progress_view *progress, char buffer[32], int64_t *eta_ms)
{
    pthread_mutex_lock(&supervisor->lock);
    const struct ld_slot_job *job = find_running(supervisor, job_id);
    if (job) {
        *progress = job->progress;
        memcpy(buffer, job->phase, sizeof job->phase);
        progress->phase = buffer;
        const double done = progress->fraction;
        const int64_t elapsed_ms = (ld_clock_monotonic_us() - job->claimed_us) / 1000;
        *eta_ms = done < 0.02 ? -1 : (int64_t)((double)elapsed_ms * (1.0 - done) / done);
    }
    pthread_mutex_unlock(&supervisor->lock);
    return job != NULL;
}

void ld_supervisor_set_shared(struct ld_supervisor *supervisor, bool shared)
{
    atomic_store(&supervisor->shared, shared);
}

void ld_supervisor_status_get(struct ld_supervisor *supervisor, struct ld_supervisor_status *status)
{
    pthread_mutex_lock(&supervisor->lock);
    *status = supervisor->status;
    pthread_mutex_unlock(&supervisor->lock);
}

void ld_supervisor_drain(struct ld_supervisor *supervisor)
{
    atomic_store(&supervisor->draining, true);
    ring(supervisor);
}

bool ld_supervisor_is_idle(struct ld_supervisor *supervisor)
{
    struct ld_supervisor_status status;
    ld_supervisor_status_get(supervisor, &status);
    return status.drained && status.jobs_running == 0;
}

void ld_supervisor_stop(struct ld_supervisor *supervisor)
{
    if (!supervisor)
        return;
    atomic_store(&supervisor->draining, true);
    atomic_store(&supervisor->stopping, true);
    ring(supervisor);
    (void)pthread_join(supervisor->thread, NULL);
    for (uint32_t i = 0; i < supervisor->config.workers; i++)
        ld_slot_deinit(&supervisor->slots[i]);
    while (supervisor->orphans) {
        struct ld_orphan *next = supervisor->orphans->next;
        ld_heap_free(supervisor->orphans);
        supervisor->orphans = next;
    }
    pass_cancels(supervisor); /* frees what nobody will pass on */
    (void)close(supervisor->wake_fd);
    (void)pthread_mutex_destroy(&supervisor->lock);
    ld_heap_free(supervisor);
}
