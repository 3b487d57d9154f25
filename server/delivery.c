#include "server/supervisor_internal.h"

#include "api/respond.h"
#include "config/limits.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"

enum {
    FRAMES_PER_SECOND_MAX = 5000, /* eight jobs at 100 steps a second send 800 */
    PROGRESS_PERIOD_US = 50 * 1000,
    RETRY_US = 1000 * 1000,
    EVENT_BYTES_MAX = 24 << 20 /* a preview of 16 MiB as base64 */
};

static void send_ack(struct ld_slot *slot, const char *job_id, uint64_t token)
{
    struct ld_error err;
    if (ld_slot_send(slot, LD_FRAME_ACK, job_id, token, ld_span_text(""), &err) != LD_OK)
        ld_log_error(LD_LOG_WARN, "supervisor", "an acknowledgement was not sent", &err);
}

/* The job is over for this worker, one way or another. */
static void forget_job(struct ld_supervisor *supervisor, struct ld_slot *slot,
                       struct ld_slot_job *job)
{
    send_ack(slot, job->id, job->token);
    pthread_mutex_lock(&supervisor->lock);
    ld_slot_job_remove(slot, job);
    pthread_mutex_unlock(&supervisor->lock);
    slot->quick_deaths = 0;
    atomic_store(&supervisor->claim_wanted, true);
}

static void remove_freed(const struct ld_supervisor_config *config,
                         const struct ld_store_freed *freed)
{
    for (uint32_t i = 0; i < freed->count; i++)
        ld_blob_remove(config->blobs, freed->sha256[i]);
}

/* ---- Results into the store ------------------------------------------------------------------ */

static enum ld_code deliver_image(const struct ld_supervisor_config *config,
                                  const struct ld_slot_job *job, struct ld_span payload,
                                  struct ld_error *err)
{
    struct ld_message_image image;
    char sha256[LD_SHA256_HEX_SIZE];
    enum ld_code code = ld_message_image_decode(&image, payload, err);
    if (code != LD_OK)
        return code;
    code = ld_blob_publish(config->blobs, image.file, sha256, err);
    if (code != LD_OK)
        return code;
    const struct ld_image_view view = {
        .index = image.index,
        .width = (int32_t)image.width,
        .height = (int32_t)image.height,
        .seed = image.seed,
        .sha256 = sha256,
        .bytes = image.file.size,
        .kind = ld_picture_kind_of(image.file),
        .partial = image.partial,
    };
    code = ld_store_image_add(config->store, job->id, job->token, &view, err);
    ld_blob_let_go(config->blobs, sha256);
    if (code == LD_E_LEASE_LOST)
        ld_blob_remove(config->blobs, sha256);
    if (code == LD_OK) {
        ld_metrics_add(config->metrics, LD_COUNT_IMAGES, 1);
        ld_metrics_add(config->metrics, LD_COUNT_IMAGE_BYTES, image.file.size);
    }
    return code;
}

static double milliseconds(uint64_t us)
{
    return (double)us / 1000.0;
}

/* NUL-terminated copy in the arena; "" for nothing. */
static const char *text_of(struct ld_arena *arena, struct ld_span span)
{
    const char *text = ld_arena_strndup(arena, (const char *)span.data, span.size);
    return text ? text : "";
}

static enum ld_code finish(const struct ld_supervisor_config *config,
                           const struct ld_store_finish *finish, struct ld_arena *arena,
                           struct ld_error *err)
{
    struct ld_store_freed freed;
    const enum ld_code code = ld_store_job_finish(config->store, finish, arena, &freed, err);
    if (code == LD_OK)
        remove_freed(config, &freed);
    return code;
}

/* A worker that stops hands its jobs back as cancelled although nobody asked for that. */
static enum ld_code hand_back(const struct ld_supervisor_config *config,
                              const struct ld_slot_job *job, struct ld_error *err)
{
    return ld_store_job_requeue(config->store, job->id, job->token, job->suspect, false, err);
}

static enum ld_count fault_of(enum ld_code code)
{
    return code == LD_E_DEVICE      ? LD_COUNT_FAULTS_DEVICE
           : code == LD_E_GPU_NOMEM ? LD_COUNT_FAULTS_GPU_NOMEM
           : code == LD_E_NUMERICAL ? LD_COUNT_FAULTS_NUMERICAL
                                    : LD_COUNT_FAULTS_OTHER;
}

static void count_done(struct ld_metrics *metrics, const struct ld_message_done *done)
{
    if (done->code != LD_OK && done->code != LD_E_CANCELLED)
        ld_metrics_add(metrics, fault_of(done->code), 1);
    if (done->code != LD_OK)
        return;
    ld_metrics_observe(metrics, LD_TIME_TEXT, (int64_t)done->text_us);
    ld_metrics_observe(metrics, LD_TIME_SAMPLE, (int64_t)done->sample_us);
    ld_metrics_observe(metrics, LD_TIME_DECODE, (int64_t)done->decode_us);
    ld_metrics_observe(metrics, LD_TIME_ENCODE, (int64_t)done->encode_us);
}

static enum ld_code deliver_done(const struct ld_supervisor_config *config,
                                 const struct ld_slot_job *job, struct ld_span payload,
                                 struct ld_error *err)
{
    struct ld_message_done done;
    struct ld_arena arena;
    enum ld_code code = ld_message_done_decode(&done, payload, err);
    if (code != LD_OK)
        return code;
    ld_arena_init(&arena, "job end", 16 << 20);
    struct ld_store_finish end = {
        .id = job->id,
        .token = job->token,
        .status = done.code == LD_OK ? LD_JOB_SUCCEEDED : LD_JOB_FAILED,
        .error_code = ld_code_name(done.code),
        .error_detail = text_of(&arena, done.detail),
        .timings = {.queue_ms = -1,
                    .text_ms = milliseconds(done.text_us),
                    .sample_ms = milliseconds(done.sample_us),
                    .decode_ms = milliseconds(done.decode_us),
                    .encode_ms = milliseconds(done.encode_us),
                    .gpu_ms = -1},
        .claimed_us = job->claimed_us,
        .done = job->progress.fraction,
        .unet_rows = done.unet_rows,
        .unet_rows_saved = done.unet_rows_saved,
        .adapters_json = text_of(&arena, done.adapters),
        .warnings_json = text_of(&arena, done.warnings),
        .resolved_json = text_of(&arena, done.resolved),
        .numerics_json = text_of(&arena, done.numerics),
        .repainted = done.repainted,
    };
    struct ld_store_job stored;
    if (done.code == LD_OK || done.code == LD_E_CANCELLED)
        code = ld_store_job_get(config->store, NULL, job->id, &arena, &stored, err);
    if (code == LD_E_NOT_FOUND) { /* deleted meanwhile */
        code = LD_FAIL(err, LD_E_LEASE_LOST, "the job was deleted");
    } else if (code == LD_OK && done.code == LD_E_CANCELLED &&
               stored.view.status == LD_JOB_RUNNING) {
        code = hand_back(config, job, err);
    } else if (code == LD_OK) {
        if (done.code == LD_OK && stored.view.status == LD_JOB_RUNNING &&
            stored.view.image_count == 0) {
            end.status = LD_JOB_FAILED;
            end.error_code = ld_code_name(LD_E_BUG);
            end.error_detail = "the worker ended the job without a picture";
        }
        code = finish(config, &end, &arena, err);
    }
    if (code == LD_OK)
        count_done(config->metrics, &done);
    ld_arena_deinit(&arena);
    return code;
}

static void fail_for_storage(struct ld_supervisor *supervisor, struct ld_slot *slot,
                             struct ld_slot_job *job)
{
    struct ld_error err;
    struct ld_arena arena;
    const struct ld_store_finish end = {
        .id = job->id,
        .token = job->token,
        .status = LD_JOB_FAILED,
        .error_code = "storage_full",
        .error_detail = "the disk was full when the result was to be stored",
        .timings = {-1, -1, -1, -1, -1, -1},
        .adapters_json = "",
        .warnings_json = "",
        .resolved_json = "",
        .numerics_json = "",
    };
    ld_arena_init(&arena, "job end", 1 << 20);
    const enum ld_code code = finish(&supervisor->config, &end, &arena, &err);
    ld_arena_deinit(&arena);
    if (code != LD_OK && code != LD_E_LEASE_LOST)
        return; /* not even that fits: the results stay, a later try may store them after all */
    if (ld_slot_send(slot, LD_FRAME_CANCEL, job->id, job->token, ld_span_of("", 1), &err) != LD_OK)
        ld_log_error(LD_LOG_WARN, "supervisor", "a cancel was not sent", &err);
    forget_job(supervisor, slot, job);
}

static void pop_result(struct ld_slot_job *job)
{
    struct ld_slot_result *first = job->results_first;
    job->results_first = first->next;
    if (!job->results_first)
        job->results_last = NULL;
    ld_buffer_deinit(&first->payload);
    ld_heap_free(first);
}

/* Store what waits, in order; stops at a full disk. The job may be gone afterwards. */
static void deliver(struct ld_supervisor *supervisor, struct ld_slot *slot, struct ld_slot_job *job)
{
    while (job->results_first) {
        const struct ld_slot_result *result = job->results_first;
        const struct ld_span payload = ld_span_of(result->payload.data, result->payload.size);
        const bool last = result->type == LD_FRAME_DONE;
        struct ld_error err = {0};
        const enum ld_code code = last ? deliver_done(&supervisor->config, job, payload, &err)
                                       : deliver_image(&supervisor->config, job, payload, &err);
        if (code != LD_OK && code != LD_E_LEASE_LOST) {
            const int64_t now_us = ld_clock_monotonic_us();
            if (job->blocked_since_us == 0) {
                job->blocked_since_us = now_us;
                ld_metrics_add(supervisor->config.metrics, LD_COUNT_STORAGE_WAITS, 1);
                ld_log_error(LD_LOG_ERROR, "supervisor", "a result waits for the store", &err);
            }
            supervisor->retry_at_us = now_us + RETRY_US;
            if (now_us - job->blocked_since_us > supervisor->config.storage_us)
                fail_for_storage(supervisor, slot, job);
            return;
        }
        if (code == LD_E_LEASE_LOST) {
            ld_metrics_add(supervisor->config.metrics, LD_COUNT_LEASES_LOST, 1);
            LD_LOG(LD_LOG_INFO, "supervisor", "a late result was dropped",
                   ld_log_text("job_id", job->id));
        }
        job->blocked_since_us = 0;
        pop_result(job);
        if (last) {
            forget_job(supervisor, slot, job);
            return;
        }
    }
}

void ld_supervisor_take_left(void *ctx, const struct ld_frame *frame)
{
    const struct ld_supervisor_config *config = ctx;
    struct ld_slot_job job = {.token = frame->token, .progress.fraction = 1};
    struct ld_error err = {0};
    (void)ld_fmt(job.id, sizeof job.id, "%s", frame->job_id);
    const enum ld_code code = frame->type == LD_FRAME_IMAGE
                                  ? deliver_image(config, &job, frame->payload, &err)
                                  : deliver_done(config, &job, frame->payload, &err);
    if (code != LD_OK)
        ld_log_error(LD_LOG_WARN, "supervisor", "a left result was not taken", &err);
    else if (frame->type == LD_FRAME_DONE)
        LD_LOG(LD_LOG_INFO, "supervisor", "a result was left by a worker of before",
               ld_log_text("job_id", job.id));
}

void ld_supervisor_retry_results(struct ld_supervisor *supervisor, struct ld_slot *slot)
{
    for (uint32_t i = slot->job_count; i > 0; i--) { /* from the end: delivering may remove one */
        if (i <= slot->job_count && slot->jobs[i - 1].results_first)
            deliver(supervisor, slot, &slot->jobs[i - 1]);
    }
}

/* ---- Frames ---------------------------------------------------------------------------------- */

static bool take_hello(struct ld_supervisor *supervisor, struct ld_slot *slot,
                       const struct ld_frame *frame, struct ld_error *err)
{
    struct ld_message_hello hello;
    if (ld_message_hello_decode(&hello, frame->payload, err) != LD_OK)
        return false;
    struct ld_buffer inventory = ld_buffer_make(hello.inventory.size + 1);
    ld_buffer_bytes(&inventory, hello.inventory.data, hello.inventory.size);
    if (!inventory.failed) {
        struct ld_error ignored;
        if (ld_store_note_put(supervisor->config.store, "inventory", inventory.data, &ignored) !=
            LD_OK)
            ld_log_error(LD_LOG_WARN, "supervisor", "the inventory was not stored", &ignored);
        if (supervisor->config.on_inventory)
            supervisor->config.on_inventory(supervisor->config.ctx, slot->index, inventory.data);
    }
    ld_buffer_deinit(&inventory);
    const bool again = slot->state == LD_SLOT_READY;
    pthread_mutex_lock(&supervisor->lock);
    slot->jobs_max = hello.jobs_max;
    if (slot->jobs_max > supervisor->config.jobs_per_worker)
        slot->jobs_max = supervisor->config.jobs_per_worker;
    slot->state = LD_SLOT_READY;
    supervisor->reason[0] = '\0';
    pthread_mutex_unlock(&supervisor->lock);
    if (again) /* a model came or went */
        return true;
    LD_LOG(LD_LOG_INFO, "supervisor", "worker ready", ld_log_int("worker", slot->index),
           ld_log_int("pid", slot->pid),
           ld_log_real("start_s", (double)(slot->heard_us - slot->started_us) / 1e6));
    atomic_store(&supervisor->claim_wanted, true);
    return true;
}

static bool take_heartbeat(struct ld_supervisor *supervisor, struct ld_slot *slot,
                           const struct ld_frame *frame, struct ld_error *err)
{
    struct ld_message_heartbeat beat;
    if (ld_message_heartbeat_decode(&beat, frame->payload, err) != LD_OK)
        return false;
    if (beat.activity != slot->activity) {
        slot->activity = beat.activity;
        slot->activity_us = slot->heard_us;
    }
    if (slot->job_count == 0 || slot->heard_us - slot->lease_sent_us < LD_HEARTBEAT_S * 1000000)
        return true;
    uint64_t tokens[LD_SLOT_JOBS_MAX];
    for (uint32_t i = 0; i < slot->job_count; i++)
        tokens[i] = slot->jobs[i].token;
    struct ld_error ignored;
    slot->lease_sent_us = slot->heard_us;
    if (ld_store_lease_extend(supervisor->config.store, tokens, slot->job_count, &ignored) != LD_OK)
        ld_log_error(LD_LOG_WARN, "supervisor", "leases were not extended", &ignored);
    return true;
}

static int64_t eta_ms(const struct ld_slot_job *job)
{
    const int64_t elapsed_ms = (ld_clock_monotonic_us() - job->claimed_us) / 1000;
    const double done = job->progress.fraction;
    return done < 0.02 ? -1 : (int64_t)((double)elapsed_ms * (1.0 - done) / done);
}

static bool take_progress(struct ld_supervisor *supervisor, struct ld_slot *slot,
                          const struct ld_frame *frame, struct ld_error *err)
{
    struct ld_message_progress message;
    if (ld_message_progress_decode(&message, frame->payload, err) != LD_OK)
        return false;
    slot->activity_us = slot->heard_us;
    struct ld_slot_job *job = ld_slot_job_find(slot, frame->job_id, frame->token);
    if (!job)
        return true;
    pthread_mutex_lock(&supervisor->lock);
    const bool news = message.phase.size != strlen(job->phase) ||
                      memcmp(job->phase, message.phase.data, message.phase.size) != 0 ||
                      message.image != job->progress.image || message.step == message.steps;
    memset(job->phase, 0, sizeof job->phase);
    memcpy(job->phase, message.phase.data,
           message.phase.size < sizeof job->phase ? message.phase.size : sizeof job->phase - 1);
    job->progress = (struct ld_progress_view){.image = message.image,
                                              .images = message.images,
                                              .step = message.step,
                                              .steps = message.steps,
                                              .fraction = message.fraction,
                                              .phase = job->phase};
    pthread_mutex_unlock(&supervisor->lock);
    if (!news && slot->heard_us - job->progress_posted_us < PROGRESS_PERIOD_US)
        return true;
    job->progress_posted_us = slot->heard_us;
    struct ld_buffer json = ld_buffer_make(4096);
    ld_respond_event_progress(job->id, &job->progress, eta_ms(job), &json);
    if (!json.failed)
        ld_store_event_post(supervisor->config.store, job->id, LD_EVENT_PROGRESS, json.data);
    ld_buffer_deinit(&json);
    return true;
}

/* Some clients do not follow events but ask now and then. */
static void keep_preview(struct ld_supervisor *supervisor, struct ld_slot_job *job,
                         struct ld_span file)
{
    struct ld_buffer copy = ld_buffer_make(file.size + 1);
    ld_buffer_bytes(&copy, file.data, file.size);
    if (copy.failed) { /* the one before stays */
        ld_buffer_deinit(&copy);
        return;
    }
    pthread_mutex_lock(&supervisor->lock);
    struct ld_buffer old = job->preview;
    job->preview = copy;
    job->preview_number++;
    pthread_mutex_unlock(&supervisor->lock);
    ld_buffer_deinit(&old);
}

static bool take_preview(struct ld_supervisor *supervisor, struct ld_slot *slot,
                         const struct ld_frame *frame, struct ld_error *err)
{
    struct ld_message_image preview;
    if (ld_message_image_decode(&preview, frame->payload, err) != LD_OK)
        return false;
    struct ld_slot_job *job = ld_slot_job_find(slot, frame->job_id, frame->token);
    if (!job)
        return true;
    keep_preview(supervisor, job, preview.file);
    struct ld_buffer json = ld_buffer_make(EVENT_BYTES_MAX);
    ld_respond_event_preview(job->id, preview.index, job->progress.step,
                             ld_picture_kind_type(ld_picture_kind_of(preview.file)), preview.file,
                             &json);
    if (!json.failed)
        ld_store_event_post(supervisor->config.store, job->id, LD_EVENT_PREVIEW, json.data);
    ld_buffer_deinit(&json);
    return true;
}

static bool take_result(struct ld_supervisor *supervisor, struct ld_slot *slot,
                        const struct ld_frame *frame, struct ld_error *err)
{
    struct ld_message_image image;
    struct ld_message_done done;
    const bool sound = frame->type == LD_FRAME_IMAGE
                           ? ld_message_image_decode(&image, frame->payload, err) == LD_OK
                           : ld_message_done_decode(&done, frame->payload, err) == LD_OK;
    if (!sound)
        return false;
    slot->activity_us = slot->heard_us;
    struct ld_slot_job *job = ld_slot_job_find(slot, frame->job_id, frame->token);
    if (!job) { /* cancelled, deleted or given up: the worker may forget it too */
        if (frame->type == LD_FRAME_DONE)
            send_ack(slot, frame->job_id, frame->token);
        return true;
    }
    job->shown = true;
    struct ld_slot_result *result = ld_heap_alloc(sizeof *result);
    if (!result) {
        (void)LD_FAIL(err, LD_E_NOMEM, "out of memory");
        return false; /* the worker dies, its jobs are run again: nothing is lost */
    }
    result->type = frame->type;
    result->payload = ld_buffer_make(frame->payload.size + 1);
    ld_buffer_bytes(&result->payload, frame->payload.data, frame->payload.size);
    if (result->payload.failed) {
        ld_buffer_deinit(&result->payload);
        ld_heap_free(result);
        (void)LD_FAIL(err, LD_E_NOMEM, "out of memory");
        return false;
    }
    if (job->results_last)
        job->results_last->next = result;
    else
        job->results_first = result;
    job->results_last = result;
    if (job->blocked_since_us == 0)
        deliver(supervisor, slot, job);
    return true;
}

static bool take_plan_answer(struct ld_supervisor *supervisor, const struct ld_frame *frame,
                             struct ld_error *err)
{
    struct ld_message_plan_answer answer;
    if (ld_message_plan_answer_decode(&answer, frame->payload, err) != LD_OK)
        return false;
    ld_supervisor_plan_answered(supervisor, frame->token, answer.code, answer.detail, answer.plan);
    return true;
}

static bool take_fault(struct ld_supervisor *supervisor, struct ld_slot *slot,
                       const struct ld_frame *frame, struct ld_error *err)
{
    struct ld_message_fault fault;
    if (ld_message_fault_decode(&fault, frame->payload, err) != LD_OK)
        return false;
    pthread_mutex_lock(&supervisor->lock);
    (void)ld_fmt(supervisor->reason, sizeof supervisor->reason, "%.*s", (int)fault.detail.size,
                 (const char *)fault.detail.data);
    pthread_mutex_unlock(&supervisor->lock);
    ld_metrics_add(supervisor->config.metrics, fault_of(fault.code), 1);
    LD_LOG(LD_LOG_ERROR, "supervisor", "worker reports a fault", ld_log_int("worker", slot->index),
           ld_log_text("code", ld_code_name(fault.code)),
           ld_log_text("detail", supervisor->reason));
    return true;
}

static bool take_stats(struct ld_supervisor *supervisor, struct ld_slot *slot,
                       const struct ld_frame *frame, struct ld_error *err)
{
    struct ld_message_stats stats;
    if (ld_message_stats_decode(&stats, frame->payload, err) != LD_OK)
        return false;
    if (stats.count != LD_STAT_COUNT) {
        (void)LD_FAIL(err, LD_E_FORMAT, "a worker counts other things than its front");
        return false;
    }
    ld_metrics_take_stats(supervisor->config.metrics, slot->stats, stats.values);
    return true;
}

/* A worker that sends without end must not keep the front from its other work. */
static bool within_rate(struct ld_slot *slot)
{
    const int64_t second = slot->heard_us / 1000000;
    if (second != slot->frames_second) {
        slot->frames_second = second;
        slot->frames = 0;
    }
    return ++slot->frames <= FRAMES_PER_SECOND_MAX;
}

bool ld_supervisor_take_frame(struct ld_supervisor *supervisor, struct ld_slot *slot,
                              const struct ld_frame *frame)
{
    struct ld_error err = {0};
    bool sane = within_rate(slot);
    if (!sane) {
        (void)LD_FAIL(&err, LD_E_RATE, "a worker sends too many messages");
    } else if (slot->state != LD_SLOT_READY && frame->type != LD_FRAME_HELLO &&
               frame->type != LD_FRAME_FAULT && frame->type != LD_FRAME_HEARTBEAT &&
               frame->type != LD_FRAME_STATS) {
        sane = false;
        (void)LD_FAIL(&err, LD_E_FORMAT, "a worker spoke before its hello");
    } else if (frame->type == LD_FRAME_HELLO) {
        sane = take_hello(supervisor, slot, frame, &err);
    } else if (frame->type == LD_FRAME_HEARTBEAT) {
        sane = take_heartbeat(supervisor, slot, frame, &err);
    } else if (frame->type == LD_FRAME_PROGRESS) {
        sane = take_progress(supervisor, slot, frame, &err);
    } else if (frame->type == LD_FRAME_PREVIEW) {
        sane = take_preview(supervisor, slot, frame, &err);
    } else if (frame->type == LD_FRAME_IMAGE || frame->type == LD_FRAME_DONE) {
        sane = take_result(supervisor, slot, frame, &err);
    } else if (frame->type == LD_FRAME_PLAN_ANSWER) {
        sane = take_plan_answer(supervisor, frame, &err);
    } else if (frame->type == LD_FRAME_STATS) {
        sane = take_stats(supervisor, slot, frame, &err);
    } else if (frame->type == LD_FRAME_FAULT) {
        sane = take_fault(supervisor, slot, frame, &err);
    } else {
        sane = false;
        (void)LD_FAIL(&err, LD_E_FORMAT, "a worker sent a message of the front");
    }
    if (!sane)
        ld_log_error(LD_LOG_ERROR, "supervisor", "a worker misbehaves", &err);
    return sane;
}
