/*
 * The engine's loop. A tick does one unit of work, chosen so that a new job waits for one step at
 * most: first the texts of jobs that have just come, then pictures that only need decoding, then
 * one batched UNet pass led by the session that has waited longest.
 */
#include "runtime/engine.h"

#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/batch.h"
#include "runtime/estimate.h"
#include "runtime/gpu/device.h"

enum {
    SESSIONS_ACTIVE_MAX = 8,
    BATCH_POSITIONS = 65536, /* latent positions a pass of planned size holds on the CPU */
    BATCH_POSITIONS_GPU = 4 * BATCH_POSITIONS, /* 16 rows at 1024x1024 take 1.6 GB */
    BATCH_ROWS_MIN = 2
};

struct ld_engine {
    struct ld_backend *backend;
    struct ld_library *library;
    struct ld_batch_memory memory;
    struct ld_job *jobs; /* oldest first */
    uint64_t next_handle;
    uint64_t tick;
    uint32_t batch_max;
    uint32_t rows_fit; /* rows that fitted after a pass had found too little memory; 0: no such */
    const struct ld_cancel *interrupt;
    struct ld_rates rates; /* measured, for plans */
    char note[LD_DEVICE_NOTE_SIZE];
};

const char *ld_engine_phase_name(enum ld_engine_phase phase)
{
    static const char *const names[] = {"load", "text", "encode", "sample", "decode", "done"};
    return (unsigned)phase < sizeof names / sizeof names[0] ? names[phase] : "unknown";
}

/* ---- Life ------------------------------------------------------------------------------------ */

static enum ld_code create_backend(struct ld_engine *engine, const struct ld_engine_config *config,
                                   struct ld_error *err)
{
    const struct ld_device_choice choice = {
        .backend = config->backend, .precision = config->precision, .threads = config->threads};
    const enum ld_code code = ld_device_open(&engine->backend, &choice, engine->note, err);
    if (code == LD_OK && engine->note[0])
        LD_LOG(LD_LOG_INFO, "engine", "the CPU computes", ld_log_text("why", engine->note));
    return code;
}

enum ld_code ld_engine_create(struct ld_engine **out, const struct ld_engine_config *config,
                              struct ld_error *err)
{
    struct ld_resident *model = NULL;
    struct ld_engine *engine = ld_heap_alloc(sizeof *engine);
    if (!engine)
        return LD_FAIL(err, LD_E_NOMEM, "out of memory");
    engine->interrupt = config->interrupt;
    engine->batch_max = config->batch_max;
    engine->next_handle = 1;
    enum ld_code code = create_backend(engine, config, err);
    if (code == LD_OK)
        code = ld_library_open(&engine->library, config, engine->backend, err);
    if (code == LD_OK)
        code = ld_library_model(engine->library, "", &model, err);
    if (code != LD_OK) {
        ld_engine_destroy(engine);
        return code;
    }
    ld_library_release(engine->library, model);
    *out = engine;
    return LD_OK;
}

void ld_engine_destroy(struct ld_engine *engine)
{
    if (!engine)
        return;
    while (engine->jobs) {
        struct ld_job *job = engine->jobs;
        engine->jobs = job->next;
        ld_job_destroy(job, engine->library);
    }
    ld_batch_memory_deinit(&engine->memory);
    ld_library_close(engine->library);
    if (engine->backend)
        engine->backend->ops->destroy(engine->backend);
    ld_heap_free(engine);
}

const char *ld_engine_note(const struct ld_engine *engine)
{
    return engine->note;
}

const char *ld_engine_inventory(const struct ld_engine *engine)
{
    return ld_library_inventory(engine->library);
}

/* ---- Jobs in and out ------------------------------------------------------------------------- */

enum ld_code ld_engine_submit(struct ld_engine *engine, const struct ld_engine_job *given,
                              uint64_t *handle, struct ld_error *err)
{
    struct ld_job *job = NULL;
    if (ld_job_create(&job, given, engine->next_handle, err) != LD_OK)
        return err->code;
    *handle = engine->next_handle++;
    struct ld_job **end = &engine->jobs;
    while (*end)
        end = &(*end)->next;
    *end = job;
    return LD_OK;
}

void ld_engine_cancel(struct ld_engine *engine, uint64_t handle, bool keep_partial)
{
    for (struct ld_job *job = engine->jobs; job; job = job->next) {
        if (job->handle != handle || job->cancelled)
            continue;
        job->cancelled = true;
        job->keep_partial = keep_partial;
    }
}

bool ld_engine_busy(const struct ld_engine *engine)
{
    return engine->jobs != NULL;
}

/* End a job with what happened to it, and forget it. */
static void retire(struct ld_engine *engine, struct ld_job *job, const struct ld_error *err)
{
    struct ld_job **place = &engine->jobs;
    while (*place != job)
        place = &(*place)->next;
    *place = job->next;
    ld_job_finish(job, err);
    ld_job_destroy(job, engine->library);
}

/* The first session that has begun: whose prediction, or latent between two passes, a cancelled job
 * may keep. */
static struct ld_session *begun_session(struct ld_job *job)
{
    for (uint32_t i = 0; i < job->session_count; i++) {
        struct ld_session *session = &job->sessions[i];
        if (session->pass ? ld_pass_prediction(session->pass) != NULL : session->latent != NULL)
            return session;
    }
    return NULL;
}

static void retire_cancelled(struct ld_engine *engine, struct ld_job *job)
{
    struct ld_error err = {0};
    struct ld_session *session = job->keep_partial ? begun_session(job) : NULL;
    if (session && ld_session_decode(session, true, NULL, &err) != LD_OK)
        ld_job_warn(job, "the partial picture could not be decoded");
    (void)LD_FAIL(&err, LD_E_CANCELLED, "the job was cancelled");
    retire(engine, job, &err);
}

static bool interrupted(const struct ld_engine *engine)
{
    return engine->interrupt && atomic_load(&engine->interrupt->requested);
}

/* True if a job left. */
static bool retire_one(struct ld_engine *engine)
{
    for (struct ld_job *job = engine->jobs; job; job = job->next) {
        bool done = job->prepared;
        if (interrupted(engine))
            job->cancelled = true;
        if (job->cancelled) {
            retire_cancelled(engine, job);
            return true;
        }
        for (uint32_t i = 0; i < job->session_count; i++)
            done = done && job->sessions[i].phase == LD_SESSION_DONE;
        if (done) {
            retire(engine, job, NULL);
            return true;
        }
    }
    return false;
}

/* ---- One unit of work ------------------------------------------------------------------------ */

/* A failure inside a job ends that job; only an interrupt leaves it to retire_one. When the device
 * is lost it is not the job's fault: jobs stay, and the tick ends the engine (robustness.md G1). */
static void settle(struct ld_engine *engine, struct ld_job *job, enum ld_code code,
                   const struct ld_error *err)
{
    if (code != LD_OK && !engine->backend->lost && !(code == LD_E_CANCELLED && interrupted(engine)))
        retire(engine, job, err);
}

/* A job whose model finds no place waits until another job has ended, and newer ones wait behind it
 * lest they keep the places taken. */
static bool prepare_one(struct ld_engine *engine)
{
    struct ld_error err = {0};
    for (struct ld_job *job = engine->jobs; job; job = job->next) {
        if (job->prepared)
            continue;
        if (!ld_library_has_room(engine->library, job->request.model, job->request.vae))
            return false;
        settle(engine, job, ld_job_prepare(job, engine->library, engine->interrupt, &err), &err);
        return true;
    }
    return false;
}

/* A picture whose sampling is over, or whose second pass is to begin. */
static bool decode_one(struct ld_engine *engine)
{
    struct ld_error err = {0};
    for (struct ld_job *job = engine->jobs; job; job = job->next) {
        for (uint32_t i = 0; i < job->session_count; i++) {
            struct ld_session *session = &job->sessions[i];
            if (session->phase == LD_SESSION_DECODING) {
                settle(engine, job, ld_session_decode(session, false, engine->interrupt, &err),
                       &err);
                return true;
            }
            if (session->phase == LD_SESSION_UPSCALING) {
                settle(engine, job, ld_session_upscale(session, engine->interrupt, &err), &err);
                return true;
            }
        }
    }
    return false;
}

/* Sessions take their memory when their turn comes: one of each job first, then more of each. */
static bool begin_one(struct ld_engine *engine)
{
    struct ld_error err = {0};
    uint32_t active = 0;
    struct ld_session *next = NULL;
    uint32_t fewest = UINT32_MAX;
    for (struct ld_job *job = engine->jobs; job; job = job->next) {
        uint32_t of_job = 0;
        struct ld_session *waiting = NULL;
        for (uint32_t i = job->session_count; i-- > 0;) {
            if (job->sessions[i].phase == LD_SESSION_WAITING)
                waiting = &job->sessions[i];
            else if (job->sessions[i].phase != LD_SESSION_DONE)
                of_job++;
        }
        active += of_job;
        if (waiting && job->prepared && of_job < fewest) {
            fewest = of_job;
            next = waiting;
        }
    }
    if (!next || active >= SESSIONS_ACTIVE_MAX)
        return false;
    settle(engine, next->job, ld_session_begin(next, &err), &err);
    return true;
}

static uint32_t rows_max(const struct ld_engine *engine, const struct ld_session *session)
{
    const bool gpu = engine->backend->act_dtype != LD_DTYPE_F32;
    const uint32_t positions = (uint32_t)session->height * (uint32_t)session->width;
    uint32_t rows = (uint32_t)(gpu ? BATCH_POSITIONS_GPU : BATCH_POSITIONS) / positions;
    rows = rows < BATCH_ROWS_MIN ? BATCH_ROWS_MIN : rows;
    rows = engine->batch_max > 0 ? engine->batch_max : rows;
    rows = engine->rows_fit > 0 && rows > engine->rows_fit ? engine->rows_fit : rows;
    return rows < LD_BATCH_ROWS_MAX ? rows : LD_BATCH_ROWS_MAX;
}

/* The sampling session that was served longest ago. */
static struct ld_session *next_leader(const struct ld_engine *engine)
{
    struct ld_session *leader = NULL;
    for (struct ld_job *job = engine->jobs; job; job = job->next)
        for (uint32_t i = 0; i < job->session_count; i++)
            if (job->sessions[i].phase == LD_SESSION_SAMPLING &&
                (!leader || job->sessions[i].served < leader->served))
                leader = &job->sessions[i];
    return leader;
}

/* After a pass: calls whose rows are all done go back to their samplers. */
static void close_calls(struct ld_engine *engine, struct ld_batch *batch)
{
    for (uint32_t i = 0; i < batch->count; i++) {
        struct ld_session *session = batch->sessions[i];
        bool seen = false;
        for (uint32_t k = 0; k < i; k++)
            seen = seen || batch->sessions[k] == session;
        uint32_t count;
        const struct ld_pass_row *rows = ld_pass_rows(session->pass, &count);
        bool done = !seen;
        for (uint32_t k = 0; k < count; k++)
            done = done && rows[k].done;
        if (!done)
            continue;
        struct ld_error err = {0};
        const enum ld_code code = ld_pass_close(session->pass, &err);
        if (code != LD_OK) {
            session->job->err = err;
            continue;
        }
        (void)ld_pass_rows(session->pass, &count);
        if (count > 0) /* still open: self attention guidance asks for another row */
            continue;
        ld_job_tell_progress(session->job, session, LD_PHASE_SAMPLE);
        ld_session_preview(session);
    }
    for (struct ld_job *job = engine->jobs, *next; job; job = next) {
        next = job->next;
        if (job->err.code != LD_OK)
            retire(engine, job, &job->err);
    }
}

/* Open calls until a batch is full; sessions found finished move on. */
static bool gather(struct ld_engine *engine, struct ld_session *leader, struct ld_batch *batch)
{
    const uint32_t limit = rows_max(engine, leader);
    struct ld_session *order[LD_BATCH_ROWS_MAX + SESSIONS_ACTIVE_MAX] = {leader};
    uint32_t count = 1;
    for (struct ld_job *job = engine->jobs; job; job = job->next)
        for (uint32_t i = 0; i < job->session_count && count < SESSIONS_ACTIVE_MAX; i++)
            if (&job->sessions[i] != leader && job->sessions[i].phase == LD_SESSION_SAMPLING)
                order[count++] = &job->sessions[i];
    for (uint32_t i = 0; i < count && batch->count < limit; i++) {
        struct ld_session *session = order[i];
        struct ld_error err = {0};
        const enum ld_pass_status status = ld_pass_open(session->pass, &err);
        if (status == LD_PASS_ROWS) {
            if (ld_batch_add(batch, session, limit) > 0)
                session->served = engine->tick;
            continue;
        }
        enum ld_code code = status == LD_PASS_FAILED ? err.code : LD_OK;
        if (code == LD_OK)
            code = ld_session_end_pass(session, &err);
        if (code != LD_OK) {
            settle(engine, session->job, code, &err);
            return false; /* sessions in the batch may be gone: start over */
        }
    }
    return batch->count > 0;
}

static bool sample_some(struct ld_engine *engine)
{
    struct ld_batch batch = {.count = 0};
    struct ld_error err = {0};
    struct ld_session *leader = next_leader(engine);
    if (!leader)
        return false;
    engine->tick++;
    if (!gather(engine, leader, &batch))
        return true;
    const int64_t start_us = ld_clock_monotonic_us();
    const enum ld_code code = ld_batch_run(&batch, &engine->memory, engine->interrupt, &err);
    const int64_t spent_us = ld_clock_monotonic_us() - start_us;
    if ((code == LD_E_CANCELLED && interrupted(engine)) || engine->backend->lost)
        return true;
    if (code == LD_E_GPU_NOMEM && batch.count > 1) {
        engine->rows_fit = batch.count / 2; /* the rows are still open and come again, fewer */
        LD_LOG(LD_LOG_WARN, "engine", "a pass found too little GPU memory; passes get smaller",
               ld_log_int("rows", engine->rows_fit));
        return true;
    }
    if (code != LD_OK) {
        /* The pass failed for all of it: each job hears why. */
        struct ld_job *failed[LD_BATCH_ROWS_MAX];
        uint32_t count = 0;
        for (uint32_t i = 0; i < batch.count; i++) {
            bool seen = false;
            for (uint32_t k = 0; k < count; k++)
                seen = seen || failed[k] == batch.sessions[i]->job;
            if (!seen)
                failed[count++] = batch.sessions[i]->job;
        }
        for (uint32_t i = 0; i < count; i++)
            retire(engine, failed[i], &err);
        return true;
    }
    for (uint32_t i = 0; i < batch.count; i++)
        batch.sessions[i]->job->report.sample_us += spent_us / batch.count;
    ld_rates_note(&engine->rates, leader->height, leader->width, batch.count, spent_us);
    close_calls(engine, &batch);
    return true;
}

enum ld_code ld_engine_tick(struct ld_engine *engine, struct ld_error *err)
{
    if (!(retire_one(engine) || prepare_one(engine) || decode_one(engine) || begin_one(engine)))
        (void)sample_some(engine);
    if (engine->backend->lost)
        return LD_FAIL(err, LD_E_DEVICE,
                       "the GPU cannot be used any more; the worker has to start anew");
    return LD_OK;
}

enum ld_code ld_engine_plan(struct ld_engine *engine, const struct ld_request *request,
                            struct ld_buffer *out, struct ld_error *err)
{
    return ld_estimate(engine->library, engine->backend, &engine->rates, request, out, err);
}
