#include "runtime/job.h"

#include "runtime/base/clock.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>

enum { JOB_ARENA_MAX = 64 << 20, REPORT_MAX = 256 * 1024 };

/* ---- Life ------------------------------------------------------------------------------------ */

enum ld_code ld_job_create(struct ld_job **out, const struct ld_engine_job *given, uint64_t handle,
                           struct ld_error *err)
{
    struct ld_job *job = ld_heap_alloc(sizeof *job);
    if (!job)
        return LD_FAIL(err, LD_E_NOMEM, "out of memory");
    job->given = *given;
    job->handle = handle;
    job->request = *given->request;
    ld_arena_init(&job->arena, "job", JOB_ARENA_MAX);
    job->warnings = ld_buffer_make(REPORT_MAX);
    job->adapters = ld_buffer_make(REPORT_MAX);
    job->resolved = ld_buffer_make(4 * REPORT_MAX);
    job->numerics = ld_buffer_make(REPORT_MAX);
    *out = job;
    return LD_OK;
}

void ld_job_destroy(struct ld_job *job, struct ld_library *library)
{
    for (uint32_t i = 0; i < job->session_count; i++) {
        ld_session_drop_encoding(&job->sessions[i]);
        ld_session_release(&job->sessions[i]);
    }
    if (job->extension)
        ld_extension_drop(job->writing, job->extension);
    for (uint32_t which = 0; which < LD_JOB_PASSES; which++)
        ld_job_release_pass(job, library, which);
    ld_library_side_release(library, job->vae);
    ld_job_release_controls(job, library);
    ld_job_release_input(job);
    ld_buffer_deinit(&job->warnings);
    ld_buffer_deinit(&job->adapters);
    ld_buffer_deinit(&job->resolved);
    ld_buffer_deinit(&job->numerics);
    ld_arena_deinit(&job->arena);
    ld_heap_free(job);
}

void ld_job_warn(struct ld_job *job, const char *format, ...)
{
    char sentence[512];
    va_list args;
    va_start(args, format);
    vsnprintf(sentence, sizeof sentence, format, args);
    va_end(args);
    ld_buffer_byte(&job->warnings, job->warnings.size ? ',' : '[');
    ld_buffer_json_string(&job->warnings, sentence);
}

/* ---- Preparing ------------------------------------------------------------------------------- */

static enum ld_code make_sessions(struct ld_job *job, struct ld_error *err)
{
    const uint32_t count = (uint32_t)job->request.images;
    job->sessions = ld_arena_calloc(&job->arena, count, sizeof *job->sessions);
    if (!job->sessions)
        return LD_FAIL(err, LD_E_NOMEM, "out of memory for the job");
    job->session_count = count;
    for (uint32_t i = 0; i < count; i++) {
        job->sessions[i].job = job;
        job->sessions[i].image = i;
        job->sessions[i].height = job->request.height / 8;
        job->sessions[i].width = job->request.width / 8;
    }
    return LD_OK;
}

enum ld_code ld_job_prepare(struct ld_job *job, struct ld_library *library,
                            const struct ld_cancel *interrupt, struct ld_error *err)
{
    const int64_t start_us = ld_clock_monotonic_us();
    if (job->request.upscale.present)
        return ld_job_prepare_upscale(job, err);
    ld_job_tell_progress(job, NULL, LD_PHASE_TEXT);
    if (ld_library_expand(library, &job->request, &job->arena, err) != LD_OK)
        return err->code;
    const uint32_t passes = job->request.hires.present ? 2 : 1;
    for (uint32_t which = 0; which < passes; which++)
        if (ld_job_prepare_pass(job, library, which, err) != LD_OK)
            return err->code;
    if (job->request.vae[0] && ld_library_vae(library, job->request.vae, &job->vae, err) != LD_OK)
        return err->code;
    ld_job_choose_preview(job, library);
    job->report.text_us += ld_clock_monotonic_us() - start_us;
    if (ld_job_take_input(job, interrupt, err) != LD_OK ||
        ld_job_take_controls(job, library, err) != LD_OK || make_sessions(job, err) != LD_OK)
        return err->code;
    job->prepared = true;
    return LD_OK;
}

/* ---- Telling --------------------------------------------------------------------------------- */

/* Every step of every pass counts the same, decoding as one step. */
double ld_job_fraction(const struct ld_job *job)
{
    const bool hires = job->request.hires.present;
    if (job->request.upscale.present)
        return job->session_count && job->sessions[0].phase == LD_SESSION_DONE ? 1.0 : 0.0;
    const double first = (double)ld_pass_calls_expected(&job->request, false);
    const double second = hires ? (double)ld_pass_calls_expected(&job->request, true) : 0;
    const double each = first + second + 1;
    double done = 0;
    for (uint32_t i = 0; i < job->session_count; i++) {
        const struct ld_session *session = &job->sessions[i];
        if (session->phase == LD_SESSION_DONE)
            done += each;
        else if (session->phase == LD_SESSION_DECODING || session->phase == LD_SESSION_ENCODING)
            done += first + second;
        else {
            done += session->second || session->phase == LD_SESSION_UPSCALING ? first : 0;
            /* Samplers with three calls a step make more than was counted on. */
            if (session->pass)
                done += fmin((double)ld_pass_call(session->pass), session->second ? second : first);
        }
    }
    const double all = each * (double)(job->session_count ? job->session_count : 1);
    return fmin(1.0, done / all);
}

void ld_job_tell_progress(const struct ld_job *job, const struct ld_session *session,
                          enum ld_engine_phase phase)
{
    if (!job->given.on_progress)
        return;
    struct ld_engine_progress progress = {
        .phase = phase,
        .images = (uint32_t)job->request.images,
        .fraction = ld_job_fraction(job),
        .steps = (uint32_t)job->request.steps,
    };
    if (session) {
        progress.image = session->image;
        if (session->pass) {
            const uint32_t calls = ld_pass_calls_total(session->pass);
            progress.steps = ld_pass_steps(session->pass);
            progress.step = ld_pass_step(session->pass);
            /* Samplers report the step they are in; the call just closed may have finished it. */
            if (calls == progress.steps)
                progress.step = ld_pass_call(session->pass);
            if (progress.step > progress.steps)
                progress.step = progress.steps;
        }
    }
    job->given.on_progress(job->given.ctx, &progress);
}

void ld_job_finish(struct ld_job *job, const struct ld_error *err)
{
    const struct ld_error none = {0};
    for (uint32_t i = 0; i < job->session_count; i++) {
        uint64_t run = 0;
        uint64_t saved = 0;
        if (job->sessions[i].pass)
            ld_pass_row_counts(job->sessions[i].pass, &run, &saved);
        job->report.unet_rows += run;
        job->report.unet_rows_saved += saved;
    }
    ld_buffer_text(&job->warnings, job->warnings.size ? "]" : "[]");
    struct ld_buffer adapters = ld_buffer_make(REPORT_MAX + 2);
    ld_buffer_text(&adapters, "[");
    if (job->adapters.size)
        ld_buffer_text(&adapters, job->adapters.data);
    ld_buffer_text(&adapters, "]");
    ld_request_write_json(&job->request, &job->resolved);
    job->report.warnings_json = job->warnings.failed ? "[]" : job->warnings.data;
    job->report.adapters_json = adapters.failed ? "[]" : adapters.data;
    job->report.resolved_json = job->resolved.failed ? "{}" : job->resolved.data;
    job->report.numerics_json = job->numerics.size ? job->numerics.data : "{}";
    if (job->given.on_done)
        job->given.on_done(job->given.ctx, &job->report, err ? err : &none);
    ld_buffer_deinit(&adapters);
}
