/*
 * One UNet pass: who takes part, how large it may be, and what a failure of it means for whom. A
 * pass that finds too little memory comes again smaller; one that fails for another reason comes
 * again with every session by itself, so that only the job that fails alone has failed.
 */
#include "runtime/engine_state.h"

#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/ipc/stats.h"

enum {
    BATCH_POSITIONS = 65536, /* latent positions a pass of planned size holds on the CPU */
    BATCH_POSITIONS_GPU = 4 * BATCH_POSITIONS, /* 16 rows at 1024x1024 take 1.6 GB */
    BATCH_ROWS_MIN = 2,
    BATCH_ANY_ROWS = 16, /* up to here any number; beyond, multiples of the step */
    BATCH_STEP = 8,
    ROWS_OF_A_PICTURE = 2, /* with guidance, as most have it */
    ACTIVE_FEW = 8         /* pictures under way whatever their size */
};

/* ---- Who takes part -------------------------------------------------------------------------- */

static bool on_gpu(const struct ld_engine *engine)
{
    return engine->backend->act_dtype != LD_DTYPE_F32;
}

static uint32_t rows_max(const struct ld_engine *engine, const struct ld_session *session)
{
    const uint32_t positions = (uint32_t)session->height * (uint32_t)session->width;
    uint32_t rows = (uint32_t)(on_gpu(engine) ? BATCH_POSITIONS_GPU : BATCH_POSITIONS) / positions;
    rows = rows < BATCH_ROWS_MIN ? BATCH_ROWS_MIN : rows;
    rows = engine->batch_max > 0 ? engine->batch_max : rows;
    if (engine->positions_fit > 0 && rows > engine->positions_fit / positions)
        rows = (uint32_t)(engine->positions_fit / positions);
    rows = rows < 1 ? 1 : rows;
    return rows < LD_BATCH_ROWS_MAX ? rows : LD_BATCH_ROWS_MAX;
}

bool ld_engine_has_room(const struct ld_engine *engine, uint32_t active, uint64_t positions)
{
    uint64_t fit = BATCH_POSITIONS_GPU / ROWS_OF_A_PICTURE;
    if (active < ACTIVE_FEW)
        return true;
    if (engine->positions_fit > 0 && engine->positions_fit / ROWS_OF_A_PICTURE < fit)
        fit = engine->positions_fit / ROWS_OF_A_PICTURE;
    return on_gpu(engine) && active < LD_SESSIONS_ACTIVE_MAX && positions < fit &&
           (engine->batch_max == 0 || ROWS_OF_A_PICTURE * active < engine->batch_max);
}

/* Every number of rows is a plan of its own, with a recording; pictures that come and go would ask
 * for all of them. So a large batch has a multiple of eight; what is left over comes first in the
 * next. */
static uint32_t even_rows(uint32_t rows)
{
    return rows <= BATCH_ANY_ROWS ? rows : rows - rows % BATCH_STEP;
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

/* The sampling sessions behind the leader, order[0]: those that the last pass left over, or the
 * others. */
static void append(const struct ld_engine *engine, bool left_over, struct ld_session **order,
                   uint32_t *count)
{
    for (struct ld_job *job = engine->jobs; job; job = job->next)
        for (uint32_t i = 0; i < job->session_count && *count < LD_SESSIONS_ACTIVE_MAX; i++)
            if (&job->sessions[i] != order[0] && job->sessions[i].phase == LD_SESSION_SAMPLING &&
                job->sessions[i].left_over == left_over)
                order[(*count)++] = &job->sessions[i];
}

/* Open calls until a batch is full; sessions found finished move on. */
static bool gather(struct ld_engine *engine, struct ld_session *leader, struct ld_batch *batch)
{
    const uint32_t limit = rows_max(engine, leader);
    struct ld_session *order[LD_BATCH_ROWS_MAX + LD_SESSIONS_ACTIVE_MAX] = {leader};
    uint32_t count = 1;
    append(engine, true, order, &count);
    append(engine, false, order, &count);
    for (uint32_t i = 0; i < count && batch->count < limit; i++) {
        struct ld_session *session = order[i];
        struct ld_error err = {0};
        const enum ld_pass_status status = ld_pass_open(session->pass, &err);
        if (status == LD_PASS_ROWS) {
            (void)ld_batch_add(batch, session, limit);
            continue;
        }
        enum ld_code code = status == LD_PASS_FAILED ? err.code : LD_OK;
        if (code == LD_OK)
            code = ld_session_end_pass(session, &err);
        if (code == LD_E_NUMERICAL && ld_engine_can_widen(engine)) {
            code = ld_engine_repaint(engine, session, &err);
            if (code == LD_OK)
                continue;
        }
        if (code != LD_OK) {
            ld_engine_settle(engine, session->job, code, &err);
            return false; /* sessions in the batch may be gone: start over */
        }
    }
    const uint32_t rows = even_rows(batch->count);
    for (uint32_t i = 0; i < batch->count; i++) {
        batch->sessions[i]->left_over = i >= rows;
        if (i < rows)
            batch->sessions[i]->served = engine->tick;
    }
    batch->count = rows;
    return batch->count > 0;
}

/* ---- After a pass ---------------------------------------------------------------------------- */

/* What the UNet made of a session's rows cannot be used. Without a wider type that is the job's
 * end; errors are kept in the job until the whole batch has been looked at. */
static void leave_overflowed(struct ld_engine *engine, struct ld_session *session)
{
    struct ld_error err = {0};
    session->overflowed = false;
    if (session->job->err.code != LD_OK)
        return;
    if (!ld_engine_can_widen(engine))
        (void)LD_FAIL(&err, LD_E_NUMERICAL,
                      "the model produced values that are no numbers for picture %u; try another "
                      "sampler, a lower cfg_scale, or weaker adapters",
                      session->image);
    else if (ld_engine_repaint(engine, session, &err) == LD_OK)
        return;
    session->job->err = err;
}

/* All rows of the call are done: combine them and hand them to the sampler. A call may stay open:
 * self attention guidance asks for another row. */
static void close_call(void *ctx, struct ld_session *session)
{
    (void)ctx;
    uint32_t count;
    const struct ld_pass_row *rows = ld_pass_rows(session->pass, &count);
    session->alone = false;
    session->closed = false;
    session->err.code = LD_OK;
    if (session->overflowed)
        return;
    for (uint32_t k = 0; k < count; k++)
        if (!rows[k].done)
            return;
    if (ld_pass_close(session->pass, &session->err) != LD_OK)
        return;
    (void)ld_pass_rows(session->pass, &count);
    session->closed = count == 0;
}

/* The sessions close their calls side by side; what their jobs are told comes one by one. */
static void close_calls(struct ld_engine *engine, const struct ld_batch *batch)
{
    ld_batch_each(batch, close_call, NULL);
    for (uint32_t i = 0; i < batch->count; i++) {
        struct ld_session *session = batch->sessions[i];
        if (session->overflowed) {
            leave_overflowed(engine, session);
        } else if (session->err.code != LD_OK) {
            session->job->err = session->err;
        } else if (session->closed) {
            session->closed = false; /* told once, however many rows it has */
            ld_job_tell_progress(session->job, session, LD_PHASE_SAMPLE);
            ld_session_preview(session);
        }
    }
    ld_engine_retire_failed(engine);
}

/* ---- Failures -------------------------------------------------------------------------------- */

static bool of_one_job(const struct ld_batch *batch)
{
    for (uint32_t i = 1; i < batch->count; i++)
        if (batch->sessions[i]->job != batch->sessions[0]->job)
            return false;
    return true;
}

/* A pass failed. Its rows are still open and come again, with less company; where there was none,
 * the job has failed. */
static void give_way(struct ld_engine *engine, struct ld_batch *batch, enum ld_code code,
                     const struct ld_error *err)
{
    const struct ld_session *first = batch->sessions[0];
    const bool memory = code == LD_E_GPU_NOMEM || code == LD_E_NOMEM;
    if (memory && batch->count > 1) {
        engine->positions_fit =
            (uint64_t)(batch->count / 2) * (uint64_t)first->height * (uint64_t)first->width;
        ld_stats_add(LD_STAT_PASSES_SHRUNK, 1);
        LD_LOG(LD_LOG_WARN, "engine", "a pass found too little memory; passes get smaller",
               ld_log_int("rows", batch->count / 2));
        return;
    }
    if (of_one_job(batch)) {
        ld_engine_settle(engine, first->job, code, err);
        return;
    }
    ld_log_error(LD_LOG_WARN, "engine", "a pass failed; its jobs go on apart", err);
    for (uint32_t i = 0; i < batch->count; i++)
        batch->sessions[i]->alone = true;
}

/* ---- A pass ---------------------------------------------------------------------------------- */

/* On a profiler's time line it is a step of the session that leads it, whoever takes part. */
static enum ld_code run_pass(struct ld_engine *engine, struct ld_batch *batch, struct ld_error *err)
{
    const struct ld_ranges *ranges = engine->backend->ranges;
    const struct ld_session *leader = batch->sessions[0];
    ld_range_push(ranges, "step[%u] %dx%d, rows %u", ld_pass_step(leader->pass), 8 * leader->width,
                  8 * leader->height, batch->count);
    const enum ld_code code = ld_batch_run(batch, &engine->memory, engine->interrupt, err);
    ld_range_pop(ranges);
    return code;
}

bool ld_engine_sample(struct ld_engine *engine)
{
    struct ld_batch batch = {.pool = ld_library_pool(engine->library)};
    struct ld_error err = {0};
    struct ld_session *leader = next_leader(engine);
    if (!leader)
        return false;
    engine->tick++;
    if (!gather(engine, leader, &batch))
        return true;
    const int64_t start_us = ld_clock_monotonic_us();
    const enum ld_code code = run_pass(engine, &batch, &err);
    const int64_t spent_us = ld_clock_monotonic_us() - start_us;
    if ((code == LD_E_CANCELLED && ld_engine_interrupted(engine)) || engine->backend->lost)
        return true;
    if (code != LD_OK) {
        give_way(engine, &batch, code, &err);
        return true;
    }
    for (uint32_t i = 0; i < batch.count; i++)
        batch.sessions[i]->job->report.sample_us += spent_us / batch.count;
    ld_stats_pass((uint32_t)(batch.sessions[0]->height * batch.sessions[0]->width), batch.count,
                  spent_us);
    ld_rates_note(&engine->rates, batch.sessions[0]->height, batch.sessions[0]->width, batch.count,
                  spent_us);
    close_calls(engine, &batch);
    return true;
}
