/*
 * The engine's loop. A tick does one unit of work, chosen so that a new job waits for one step at
 * most: first what has ended (jobs, files and prompts that were made meanwhile), then the texts of
 * jobs that have just come, then pictures that only need decoding, then one batched UNet pass led
 * by the session that has waited longest. Where files or prompts are all that is left, it waits for
 * one.
 */
#include "runtime/engine_state.h"

#include "runtime/base/log.h"

const char *ld_engine_phase_name(enum ld_engine_phase phase)
{
    static const char *const names[] = {"load", "text", "encode", "sample", "decode", "done"};
    return (unsigned)phase < sizeof names / sizeof names[0] ? names[phase] : "unknown";
}

/* ---- Life ------------------------------------------------------------------------------------ */

static enum ld_code create_backend(struct ld_engine *engine, const struct ld_engine_config *config,
                                   struct ld_error *err)
{
    const struct ld_device_choice choice = {.backend = config->backend,
                                            .precision = config->precision,
                                            .fp16_accumulate = config->fp16_accumulate,
                                            .stream_weights = config->stream_weights,
                                            .threads = config->threads,
                                            .turn = config->device_turn,
                                            .tune_idle = config->tune_idle};
    const enum ld_code code = ld_device_open(&engine->backend, &choice, engine->note, err);
    if (code == LD_OK) {
        engine->backend->relieve = ld_engine_relieve;
        engine->backend->relieve_ctx = engine;
    }
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
    enum ld_code code = ld_errands_create(&engine->encoder, err);
    if (code == LD_OK)
        code = ld_errands_create(&engine->writing, err);
    if (code == LD_OK)
        code = ld_prompt_writer_create(&engine->prompt_writer, config->tipo_model, config->tag_dir,
                                       config->threads, err);
    if (code == LD_OK)
        code = create_backend(engine, config, err);
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

static void end_job(struct ld_engine *engine, struct ld_job *job)
{
    ld_range_end(engine->backend->ranges, job->range);
    ld_job_destroy(job, engine->library);
}

void ld_engine_destroy(struct ld_engine *engine)
{
    if (!engine)
        return;
    ld_engine_destroy(engine->wide); /* its jobs belong to some of these */
    while (engine->jobs) {
        struct ld_job *job = engine->jobs;
        engine->jobs = job->next;
        end_job(engine, job);
    }
    ld_engine_forget_asked(engine);
    ld_errands_destroy(engine->writing);
    ld_prompt_writer_destroy(engine->prompt_writer);
    ld_errands_destroy(engine->encoder);
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
    if (!engine->jobs) /* memory may be free by now */
        engine->positions_fit = 0;
    job->encoder = engine->encoder;
    job->writing = engine->writing;
    *handle = engine->next_handle++;
    struct ld_job **end = &engine->jobs;
    while (*end)
        end = &(*end)->next;
    *end = job;
    job->range = ld_range_start(engine->backend->ranges, "request %dx%d, steps %d, images %d",
                                job->request.width, job->request.height, job->request.steps,
                                job->request.images);
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
    return engine->jobs != NULL || engine->asked != NULL;
}

/* Its pictures that only lack their file are whole. */
static void hand_out_finished(struct ld_job *job)
{
    struct ld_error err = {0};
    for (uint32_t i = 0; i < job->session_count; i++)
        if (job->sessions[i].encoding &&
            ld_session_hand_out(&job->sessions[i], false, &err) != LD_OK)
            ld_job_warn(job, "picture %u could not be encoded", i);
}

void ld_engine_retire(struct ld_engine *engine, struct ld_job *job, const struct ld_error *err)
{
    struct ld_job **place = &engine->jobs;
    while (*place != job)
        place = &(*place)->next;
    *place = job->next;
    ld_engine_abandon(engine, job);
    if (err && err->code != LD_E_CANCELLED) /* one picture has failed, not those */
        hand_out_finished(job);
    ld_job_finish(job, err);
    end_job(engine, job);
}

void ld_engine_retire_failed(struct ld_engine *engine)
{
    for (struct ld_job *job = engine->jobs, *next; job; job = next) {
        next = job->next;
        if (job->err.code != LD_OK) {
            const struct ld_error err = job->err;
            ld_engine_retire(engine, job, &err);
        }
    }
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
    if (job->keep_partial)
        hand_out_finished(job);
    if (session && ld_session_decode_partial(session, &err) != LD_OK)
        ld_job_warn(job, "the partial picture could not be decoded");
    (void)LD_FAIL(&err, LD_E_CANCELLED, "the job was cancelled");
    ld_engine_retire(engine, job, &err);
}

bool ld_engine_interrupted(const struct ld_engine *engine)
{
    return engine->interrupt && atomic_load(&engine->interrupt->requested);
}

/* True if a job left. */
static bool retire_one(struct ld_engine *engine)
{
    for (struct ld_job *job = engine->jobs; job; job = job->next) {
        bool done = job->prepared;
        if (ld_engine_interrupted(engine))
            job->cancelled = true;
        if (job->cancelled) {
            retire_cancelled(engine, job);
            return true;
        }
        for (uint32_t i = 0; i < job->session_count; i++)
            done = done && job->sessions[i].phase == LD_SESSION_DONE;
        if (done) {
            ld_engine_retire(engine, job, NULL);
            return true;
        }
    }
    return false;
}

/* ---- One unit of work ------------------------------------------------------------------------ */

void ld_engine_settle(struct ld_engine *engine, struct ld_job *job, enum ld_code code,
                      const struct ld_error *err)
{
    if (code != LD_OK && !engine->backend->lost &&
        !(code == LD_E_CANCELLED && ld_engine_interrupted(engine)))
        ld_engine_retire(engine, job, err);
}

/* A job whose model finds no place waits until another job has ended, and newer ones wait behind it
 * lest they keep the places taken. */
static bool prepare_one(struct ld_engine *engine)
{
    struct ld_error err = {0};
    bool worked;
    for (struct ld_job *job = engine->jobs; job; job = job->next) {
        if (job->prepared)
            continue;
        if (ld_engine_prompt_waits(engine, job, &worked)) {
            if (worked)
                return true;
            continue;
        }
        if (!job->request.upscale.present && !ld_library_has_room(engine->library, &job->request))
            return false;
        job->replaced = engine->replaced;
        ld_engine_settle(engine, job, ld_job_prepare(job, engine->library, engine->interrupt, &err),
                         &err);
        return true;
    }
    return false;
}

static enum ld_code decode_whole(struct ld_session *session, const struct ld_cancel *interrupt,
                                 struct ld_error *err)
{
    return session->job->request.upscale.present ? ld_session_enlarge(session, err)
                                                 : ld_session_decode(session, interrupt, err);
}

/* A step in which the VAE has its part. Too little memory for the picture in one piece: the next
 * tick tries it in tiles. */
static void run_vae(struct ld_engine *engine, struct ld_session *session,
                    enum ld_code (*step)(struct ld_session *, const struct ld_cancel *,
                                         struct ld_error *))
{
    struct ld_error err = {0};
    enum ld_code code = step(session, engine->interrupt, &err);
    if (code == LD_E_NUMERICAL && ld_engine_can_widen(engine))
        code = ld_engine_widen_vae(engine, session, step, &err);
    if ((code == LD_E_GPU_NOMEM || code == LD_E_NOMEM) && !session->tiles &&
        session->job->request.vae_tiling == LD_VAE_AUTO) {
        session->tiles = true;
        ld_log_error(LD_LOG_WARN, "engine", "a picture does not fit in one piece; tiles come next",
                     &err);
        return;
    }
    ld_engine_settle(engine, session->job, code, &err);
}

/* A picture whose file has been made meanwhile. */
static bool hand_out_one(struct ld_engine *engine)
{
    struct ld_error err = {0};
    for (struct ld_job *job = engine->jobs; job; job = job->next) {
        for (uint32_t i = 0; i < job->session_count; i++) {
            if (!ld_session_encoded(&job->sessions[i]))
                continue;
            ld_engine_settle(engine, job, ld_session_hand_out(&job->sessions[i], false, &err),
                             &err);
            return true;
        }
    }
    return false;
}

/* The picture that the encoder has had longest, and how many it has. */
static struct ld_session *encoding_session(const struct ld_engine *engine, uint32_t *count)
{
    struct ld_session *first = NULL;
    *count = 0;
    for (struct ld_job *job = engine->jobs; job; job = job->next) {
        for (uint32_t i = 0; i < job->session_count; i++) {
            struct ld_session *session = &job->sessions[i];
            if (session->phase != LD_SESSION_ENCODING)
                continue;
            if (!first || session->encoding->errand.serial < first->encoding->errand.serial)
                first = session;
            ++*count;
        }
    }
    return first;
}

/* Nothing is left to do, in the second engine neither, but to wait for a file or a prompt. */
static void await_errand(struct ld_engine *engine)
{
    uint32_t count;
    const struct ld_session *session = encoding_session(engine, &count);
    if (!session && engine->wide)
        session = encoding_session(engine->wide, &count);
    if (session)
        ld_errands_wait(session->job->encoder, &session->encoding->errand);
    else
        ld_engine_await_prompt(engine);
}

/* A picture whose sampling is over, or whose second pass is to begin. */
static bool decode_one(struct ld_engine *engine)
{
    uint32_t encodings;
    (void)encoding_session(engine, &encodings);
    if (encodings >= LD_ENCODINGS_MAX)
        return false;
    for (struct ld_job *job = engine->jobs; job; job = job->next) {
        for (uint32_t i = 0; i < job->session_count; i++) {
            struct ld_session *session = &job->sessions[i];
            const bool decoding = session->phase == LD_SESSION_DECODING;
            if (!decoding && session->phase != LD_SESSION_UPSCALING)
                continue;
            run_vae(engine, session, decoding ? decode_whole : ld_session_upscale);
            return true;
        }
    }
    return false;
}

/* Sessions take their memory when their turn comes: one of each job first, then more of each. */
static bool begin_one(struct ld_engine *engine)
{
    struct ld_error err = {0};
    uint32_t active = 0;
    uint64_t positions = 0;
    struct ld_session *next = NULL;
    uint32_t fewest = UINT32_MAX;
    for (struct ld_job *job = engine->jobs; job; job = job->next) {
        uint32_t of_job = 0;
        struct ld_session *waiting = NULL;
        for (uint32_t i = job->session_count; i-- > 0;) {
            const struct ld_session *session = &job->sessions[i];
            if (session->phase == LD_SESSION_WAITING) {
                waiting = &job->sessions[i];
            } else if (session->phase != LD_SESSION_DONE && session->phase != LD_SESSION_ENCODING) {
                of_job++;
                positions += (uint64_t)session->height * (uint64_t)session->width;
            }
        }
        active += of_job;
        if (waiting && job->prepared && of_job < fewest) {
            fewest = of_job;
            next = waiting;
        }
    }
    if (!next || !ld_engine_has_room(engine, active, positions))
        return false;
    ld_engine_settle(engine, next->job, ld_session_begin(next, &err), &err);
    return true;
}

static enum ld_code still_there(const struct ld_engine *engine, struct ld_error *err)
{
    if (engine->backend->lost)
        return LD_FAIL(err, LD_E_DEVICE,
                       "the GPU cannot be used any more; the worker has to start anew");
    return LD_OK;
}

/* Other processes on this device hear of the first job and of the last one's end. */
static void tell_others(struct ld_engine *engine)
{
    const bool busy = engine->jobs != NULL;
    if (busy != engine->occupies && engine->backend->ops->occupy)
        engine->backend->ops->occupy(engine->backend, busy);
    engine->occupies = busy;
}

/* The second engine's shapes too: where a model's VAE is beyond fp16, every picture meets them. */
enum ld_code ld_engine_idle(struct ld_engine *engine, enum ld_idle *left, struct ld_error *err)
{
    const struct ld_engine *const both[] = {engine, engine->wide};
    enum ld_code code = LD_OK;
    LD_ASSERT(!engine->jobs);
    tell_others(engine);
    *left = LD_IDLE_MORE;
    if (ld_library_idle(engine->library)) /* before measurements, which want a quiet machine */
        return LD_OK;
    *left = LD_IDLE_DONE;
    for (int i = 0; i < 2 && both[i] && code == LD_OK && *left == LD_IDLE_DONE; i++) {
        struct ld_backend *backend = both[i]->backend;
        if (!backend->lost && backend->ops->idle)
            *left = backend->ops->idle(backend);
        code = still_there(both[i], err);
    }
    return code;
}

enum ld_code ld_engine_step(struct ld_engine *engine, bool *worked, struct ld_error *err)
{
    if (retire_one(engine) || hand_out_one(engine) || ld_engine_answer_one(engine) ||
        prepare_one(engine) || decode_one(engine) || begin_one(engine) || ld_engine_sample(engine))
        *worked = true;
    return still_there(engine, err);
}

enum ld_code ld_engine_tick(struct ld_engine *engine, struct ld_error *err)
{
    bool worked = false;
    tell_others(engine);
    if (ld_engine_step(engine, &worked, err) != LD_OK ||
        ld_engine_step_wide(engine, &worked, err) != LD_OK)
        return err->code;
    if (!worked)
        await_errand(engine);
    tell_others(engine);
    return still_there(engine, err);
}

enum ld_code ld_engine_model(struct ld_engine *engine, const char *name, bool load,
                             struct ld_buffer *out, struct ld_error *err)
{
    const enum ld_code code = load ? ld_library_load(engine->library, name, err)
                                   : ld_library_unload(engine->library, name, err);
    if (code == LD_OK)
        ld_library_write_residents(engine->library, name, load, out);
    return code;
}

enum ld_code ld_engine_find(struct ld_engine *engine, const char *name, struct ld_error *err)
{
    return ld_library_find(engine->library, name, err);
}

enum ld_code ld_engine_rescan(struct ld_engine *engine, struct ld_buffer *out, struct ld_error *err)
{
    bool replaced = false;
    if (ld_library_rescan(engine->library, out, &replaced, err) != LD_OK)
        return err->code;
    if (replaced)
        ld_engine_replaced(engine);
    return LD_OK;
}

bool ld_engine_has_news(struct ld_engine *engine)
{
    return ld_library_has_news(engine->library);
}

enum ld_code ld_engine_plan(struct ld_engine *engine, const struct ld_request *request,
                            struct ld_buffer *out, struct ld_error *err)
{
    return ld_estimate(engine->library, engine->backend, &engine->rates, request, out, err);
}
