#include "server/worker_internal.h"

#include <poll.h>
#include <time.h>
#include <unistd.h>

enum {
    HEARTBEAT_MS = 1000,
    QUIET_MS = 1000, /* nobody has wanted anything for so long: an idle time */
    FOR_EVER = -1,
    CPU_UNIT_US =
        500 * 1000 /* half a second of computing is activity, a blocked process has none */
};
/* Computing alone proves nothing for ever: an endless loop computes too. */
static const int64_t tick_us_max = (int64_t)3600 * 1000000;

/* ---- Messages of the front ------------------------------------------------------------------- */

/* Jobs leave at their next step and go back to the queue. */
static void stop_jobs(struct ld_worker *worker)
{
    worker->stopping = true;
    for (struct ld_worker_job *job = worker->jobs; job; job = job->next) {
        if (!job->done)
            ld_worker_cancel_job(worker, job, false);
    }
    if (worker->pipeline->forget_asked)
        worker->pipeline->forget_asked(worker->pipeline->ctx);
}

static void act(struct ld_worker *worker, struct ld_worker_inbound *inbound)
{
    struct ld_error err = {0};
    struct ld_message_cancel cancel;
    struct ld_worker_job *job;
    inbound->frame.payload = ld_span_of(inbound->payload.data, inbound->payload.size);
    switch ((int)inbound->frame.type) {
    case LD_FRAME_JOB:
        ld_worker_start_job(worker, inbound);
        break;
    case LD_FRAME_CANCEL:
        job = ld_worker_find_job(worker, &inbound->frame);
        if (job && !job->done &&
            ld_message_cancel_decode(&cancel, inbound->frame.payload, &err) == LD_OK)
            ld_worker_cancel_job(worker, job, cancel.keep_partial);
        break;
    case LD_FRAME_SHEET:
        ld_worker_start_sheet(worker, inbound);
        break;
    case LD_FRAME_CELL:
        ld_worker_take_cell(worker, &inbound->frame);
        break;
    case LD_FRAME_ACK:
        ld_worker_forget_job(worker, &inbound->frame);
        break;
    case LD_FRAME_MODEL:
        ld_worker_answer_model(worker, &inbound->frame);
        break;
    case LD_FRAME_PLAN:
        ld_worker_answer_plan(worker, &inbound->frame);
        break;
    case LD_FRAME_EXTEND:
        ld_worker_answer_extend(worker, &inbound->frame);
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

static uint64_t activity(struct ld_worker *worker)
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

static void send_heartbeat(struct ld_worker *worker)
{
    const struct ld_message_heartbeat beat = {activity(worker), atomic_load(&worker->job_count)};
    struct ld_buffer payload = ld_buffer_make(256);
    ld_message_heartbeat_encode(&payload, &beat);
    ld_worker_send(worker, LD_FRAME_HEARTBEAT, "", 0, &payload);
    ld_buffer_deinit(&payload);
}

static void pass_on(struct ld_worker *worker, const struct ld_frame *frame)
{
    struct ld_worker_inbound *inbound = ld_heap_alloc(sizeof *inbound);
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
    struct ld_worker *worker = arg;
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
            ld_worker_end_orphaned(worker);
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
            ld_worker_send_stats(worker);
            beat_at_us = now_us + HEARTBEAT_MS * 1000;
        }
    }
    return NULL;
}

/* ---- The pipeline's thread ------------------------------------------------------------------- */

static struct ld_worker_inbound *take_inbound(struct ld_worker *worker, int64_t wait_ms)
{
    struct timespec end;
    bool late = wait_ms == 0;
    (void)clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_sec += wait_ms / 1000;
    pthread_mutex_lock(&worker->lock);
    while (!worker->first && !late) {
        if (wait_ms == FOR_EVER)
            pthread_cond_wait(&worker->arrived, &worker->lock);
        else
            late = pthread_cond_timedwait(&worker->arrived, &worker->lock, &end) != 0;
    }
    struct ld_worker_inbound *first = worker->first;
    worker->first = worker->last = NULL;
    pthread_mutex_unlock(&worker->lock);
    return first;
}

/* Whether there were any. */
static bool act_on_all(struct ld_worker *worker, int64_t wait_ms)
{
    struct ld_worker_inbound *inbound = take_inbound(worker, wait_ms);
    const bool arrived = inbound != NULL;
    while (inbound) {
        struct ld_worker_inbound *next = inbound->next;
        act(worker, inbound);
        ld_buffer_deinit(&inbound->payload);
        ld_heap_free(inbound);
        inbound = next;
    }
    return arrived;
}

_Noreturn static void end_lost(const struct ld_worker *worker, const struct ld_error *err)
{
    ld_log_error(LD_LOG_ERROR, "worker", "the pipeline is lost", err);
    ld_worker_report_fault(worker->options.fd, err);
    _exit(1); /* a lost device may hang every orderly way out */
}

static void tick(struct ld_worker *worker)
{
    struct ld_error err = {0};
    atomic_store(&worker->tick_began_us, ld_clock_monotonic_us());
    if (worker->pipeline->tick(worker->pipeline->ctx, &err) != LD_OK)
        end_lost(worker, &err);
    atomic_fetch_add(&worker->steps, 1);
    atomic_store(&worker->tick_began_us, 0);
    ld_worker_sweep_jobs(worker);
}

/* How long the next message may be waited for: what is left to do in idle times is done piece
 * by piece. */
static int64_t use_idle_time(struct ld_worker *worker)
{
    struct ld_error err = {0};
    enum ld_idle left = LD_IDLE_DONE;
    if (worker->pipeline->idle(worker->pipeline->ctx, &left, &err) != LD_OK)
        end_lost(worker, &err);
    return left == LD_IDLE_MORE ? 0 : left == LD_IDLE_LATER ? QUIET_MS : FOR_EVER;
}

static void init_locks(struct ld_worker *worker)
{
    pthread_condattr_t monotonic;
    (void)pthread_mutex_init(&worker->send_lock, NULL);
    (void)pthread_mutex_init(&worker->stats_lock, NULL);
    (void)pthread_mutex_init(&worker->lock, NULL);
    (void)pthread_condattr_init(&monotonic);
    (void)pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&worker->arrived, &monotonic);
    (void)pthread_condattr_destroy(&monotonic);
}

int ld_worker_run(const struct ld_worker_options *options,
                  const struct ld_worker_pipeline *pipeline)
{
    struct ld_worker worker = {.options = *options, .pipeline = pipeline};
    const int64_t quiet_ms = pipeline->idle ? QUIET_MS : FOR_EVER;
    int64_t wait_ms = quiet_ms;
    pthread_t reader;
    init_locks(&worker);
    (void)pipeline->has_news(pipeline->ctx); /* of what was loaded until now */
    ld_worker_say_hello(&worker);
    if (pthread_create(&reader, NULL, reader_main, &worker) != 0)
        return 1;
    for (;;) {
        const bool busy = pipeline->busy(pipeline->ctx);
        if (worker.stopping && !busy)
            break;
        if (pipeline->has_news(pipeline->ctx))
            ld_worker_say_hello(&worker);
        const bool arrived = act_on_all(&worker, busy ? 0 : wait_ms);
        if (arrived || busy)
            wait_ms = quiet_ms;
        if (pipeline->busy(pipeline->ctx))
            tick(&worker);
        else if (!arrived && !busy)
            wait_ms = use_idle_time(&worker);
    }
    _exit(0); /* the reading thread has nothing left to read for; the front has every result */
}
