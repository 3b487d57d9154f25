/*
 * What fp16 cannot hold is computed again in bf16, which has the range of float32. A picture whose
 * sampling overflowed becomes a job of one picture in a second engine over the same files; its
 * result goes out in the name of the job that asked for it, and nothing else of that job, nor of
 * any other, is touched. So a picture's bytes depend on itself alone, here too. Where only the VAE
 * overflowed, the latent stays and the VAE runs again.
 *
 * The second engine takes memory of its own; it is kept for the next such picture until memory is
 * short.
 *
 * Source: kernels.md 2 (fp16 range).
 */
#include "runtime/engine_state.h"

#include "runtime/base/log.h"

bool ld_engine_can_widen(const struct ld_engine *engine)
{
    return engine->backend->act_dtype == LD_DTYPE_F16;
}

/* ---- The second engine ----------------------------------------------------------------------- */

/* `what` names what has to be computed again. It opens files by their names, so a job that began
 * with others cannot go on here. */
static enum ld_code open_wide(struct ld_engine *engine, const struct ld_job *job, const char *what,
                              uint32_t image, struct ld_error *err)
{
    if (job->replaced != engine->replaced)
        return LD_FAIL(err, LD_E_CONFLICT,
                       "%s picture %u went beyond fp16's range and cannot be repeated in bf16: "
                       "files of models were replaced meanwhile",
                       what, image);
    if (engine->wide)
        return LD_OK;
    struct ld_engine_config config = *ld_library_config(engine->library);
    config.backend = "cuda";
    config.precision = "bf16";
    if (ld_engine_create(&engine->wide, &config, err) == LD_OK) {
        engine->wide->backend->relieve = ld_engine_relieve;
        engine->wide->backend->relieve_ctx = engine;
        LD_LOG(LD_LOG_WARN, "engine", "a picture went beyond fp16's range; bf16 takes it up");
        return LD_OK;
    }
    char why[LD_ERROR_DETAIL_SIZE];
    (void)ld_fmt(why, sizeof why, "%s", err->detail);
    return LD_FAIL(err, err->code,
                   "%s picture %u went beyond fp16's range and cannot be repeated in bf16: %.300s",
                   what, image, why);
}

/* Its jobs that hold their files may go on; those that have not begun would take the new ones. */
void ld_engine_replaced(struct ld_engine *engine)
{
    struct ld_engine *wide = engine->wide;
    struct ld_error err = {0};
    bool replaced;
    engine->replaced++;
    if (!wide)
        return;
    for (struct ld_job *job = wide->jobs, *next; job; job = next) {
        next = job->next;
        if (job->prepared)
            continue;
        (void)LD_FAIL(&err, LD_E_CONFLICT,
                      "a picture cannot be repeated in bf16: files of models were replaced "
                      "meanwhile");
        ld_engine_retire(wide, job, &err);
    }
    struct ld_buffer ignored = ld_buffer_make(4096);
    if (wide->jobs || wide->wide_in_use) {
        if (ld_library_rescan(wide->library, &ignored, &replaced, &err) != LD_OK)
            ld_log_error(LD_LOG_WARN, "engine", "the second engine keeps its list of files", &err);
    } else {
        ld_engine_destroy(wide);
        engine->wide = NULL;
    }
    ld_buffer_deinit(&ignored);
    ld_engine_retire_failed(engine);
}

bool ld_engine_relieve(void *pointer)
{
    struct ld_engine *engine = pointer;
    if (engine->wide && !engine->wide->jobs && !engine->wide_in_use) {
        ld_engine_destroy(engine->wide);
        engine->wide = NULL;
        return true;
    }
    const bool freed = ld_library_relieve(engine->library);
    return (engine->wide && ld_library_relieve(engine->wide->library)) || freed;
}

/* ---- A picture painted again ----------------------------------------------------------------- */

/* Lives in the arena of the job that asked. */
struct repaint {
    struct ld_session *session;
    struct ld_request request; /* of this one picture */
};

static void on_progress(void *ctx, const struct ld_engine_progress *progress)
{
    const struct repaint *repaint = ctx;
    const struct ld_job *job = repaint->session->job;
    struct ld_engine_progress told = *progress;
    told.image = repaint->session->image;
    told.images = (uint32_t)job->request.images;
    told.fraction = ld_job_fraction(job) + progress->fraction / (double)told.images;
    told.fraction = told.fraction < 1 ? told.fraction : 1;
    if (job->given.on_progress)
        job->given.on_progress(job->given.ctx, &told);
}

static void pass_on(const struct repaint *repaint, const struct ld_engine_image *image,
                    void (*take)(void *ctx, const struct ld_engine_image *image))
{
    struct ld_engine_image told = *image;
    told.index = repaint->session->image;
    if (take)
        take(repaint->session->job->given.ctx, &told);
}

static void on_preview(void *ctx, const struct ld_engine_image *image)
{
    const struct repaint *repaint = ctx;
    pass_on(repaint, image, repaint->session->job->given.on_preview);
}

static void on_image(void *ctx, const struct ld_engine_image *image)
{
    const struct repaint *repaint = ctx;
    pass_on(repaint, image, repaint->session->job->given.on_image);
}

static void on_done(void *ctx, const struct ld_engine_report *report, const struct ld_error *err)
{
    struct ld_session *session = ((struct repaint *)ctx)->session;
    struct ld_job *job = session->job;
    session->elsewhere = 0;
    job->report.text_us += report->text_us;
    job->report.sample_us += report->sample_us;
    job->report.decode_us += report->decode_us;
    job->report.encode_us += report->encode_us;
    job->report.unet_rows += report->unet_rows;
    job->report.unet_rows_saved += report->unet_rows_saved;
    if (job->numerics.size == 0 && err->code == LD_OK)
        ld_buffer_text(&job->numerics, report->numerics_json);
    if (err->code == LD_OK)
        session->phase = LD_SESSION_DONE;
    else if (err->code != LD_E_CANCELLED) /* an interrupt: the job ends as cancelled by itself */
        job->err = *err;
}

enum ld_code ld_engine_repaint(struct ld_engine *engine, struct ld_session *session,
                               struct ld_error *err)
{
    struct ld_job *job = session->job;
    struct repaint *repaint = ld_arena_calloc(&job->arena, 1, sizeof *repaint);
    if (!repaint)
        return LD_FAIL(err, LD_E_NOMEM, "out of memory for the job");
    ld_session_release(session);
    if (open_wide(engine, job, "sampling of", session->image, err) != LD_OK)
        return err->code;
    repaint->session = session;
    repaint->request = ld_session_request(session);
    struct ld_engine_job again = {
        .request = &repaint->request,
        .init_image = job->given.init_image,
        .init_mask = job->given.init_mask,
        .ctx = repaint,
        .on_progress = on_progress,
        .on_preview = on_preview,
        .on_image = on_image,
        .on_done = on_done,
    };
    memcpy(again.control_images, job->given.control_images, sizeof again.control_images);
    if (ld_engine_submit(engine->wide, &again, &session->elsewhere, err) != LD_OK)
        return err->code;
    session->phase = LD_SESSION_ELSEWHERE;
    job->report.repainted++;
    ld_job_warn(job,
                "picture %u went beyond the range of fp16 while it was sampled and was painted "
                "again in bf16",
                session->image);
    return LD_OK;
}

void ld_engine_abandon(struct ld_engine *engine, const struct ld_job *job)
{
    for (uint32_t i = 0; i < job->session_count; i++) {
        const uint64_t handle = job->sessions[i].elsewhere;
        struct ld_job *found = handle && engine->wide ? engine->wide->jobs : NULL;
        while (found && found->handle != handle)
            found = found->next;
        if (!found)
            continue;
        found->given.on_progress = NULL;
        found->given.on_preview = found->given.on_image = NULL;
        found->given.on_done = NULL;
        const struct ld_error nobody_listens = {.code = LD_E_CANCELLED};
        ld_engine_retire(engine->wide, found, &nobody_listens);
    }
}

enum ld_code ld_engine_step_wide(struct ld_engine *engine, bool *worked, struct ld_error *err)
{
    if (!engine->wide || !engine->wide->jobs)
        return LD_OK;
    const enum ld_code code = ld_engine_step(engine->wide, worked, err);
    if (code == LD_OK)
        ld_engine_retire_failed(engine);
    return code;
}

/* ---- The VAE alone --------------------------------------------------------------------------- */

enum ld_code ld_engine_widen_vae(struct ld_engine *engine, struct ld_session *session,
                                 enum ld_code (*step)(struct ld_session *session,
                                                      const struct ld_cancel *interrupt,
                                                      struct ld_error *err),
                                 struct ld_error *err)
{
    struct ld_job *job = session->job;
    struct ld_resident *model = NULL;
    struct ld_model *vae = NULL;
    struct ld_model *const narrow = job->vae;
    if (open_wide(engine, job, "the VAE of", session->image, err) != LD_OK)
        return err->code;
    struct ld_library *library = engine->wide->library;
    engine->wide_in_use = true;
    enum ld_code code = narrow ? ld_library_vae(library, job->request.vae, &vae, err)
                               : ld_library_model(library, job->request.model, &model, err);
    if (code == LD_OK) {
        job->vae = narrow ? vae : model->model;
        code = step(session, engine->interrupt, err);
        job->vae = narrow;
    }
    ld_library_side_release(library, vae);
    if (model)
        ld_library_release(library, model);
    engine->wide_in_use = false;
    if (code != LD_OK)
        return code;
    job->report.repainted++;
    ld_job_warn(job, "the VAE went beyond the range of fp16 with picture %u and ran again in bf16",
                session->image);
    return LD_OK;
}
