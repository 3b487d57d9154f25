/*
 * A job that only enlarges a finished picture: no model, no passes, one session that has nothing to
 * do but to be written.
 */
#include "runtime/job.h"

#include "runtime/base/clock.h"
#include "runtime/image/picture_upscale.h"

enum ld_code ld_job_prepare_upscale(struct ld_job *job, struct ld_error *err)
{
    if (job->given.init_image.size == 0)
        return LD_FAIL(err, LD_E_NOT_FOUND, "upscale.image is not an image that is stored here");
    job->sessions = ld_arena_calloc(&job->arena, 1, sizeof *job->sessions);
    if (!job->sessions)
        return LD_FAIL(err, LD_E_NOMEM, "out of memory for the job");
    job->sessions[0].job = job;
    job->sessions[0].phase = LD_SESSION_DECODING;
    job->session_count = 1;
    job->prepared = true;
    return LD_OK;
}

enum ld_code ld_session_enlarge(struct ld_session *session, struct ld_error *err)
{
    struct ld_job *job = session->job;
    struct ld_upscaled done;
    const int64_t start_us = ld_clock_monotonic_us();
    ld_job_tell_progress(job, session, LD_PHASE_DECODE);
    const enum ld_code code = ld_picture_upscale(&done, &job->request, job->given.init_image, err);
    job->report.decode_us += ld_clock_monotonic_us() - start_us;
    if (code == LD_OK) {
        const struct ld_engine_image image = {
            .width = done.width,
            .height = done.height,
            .file = ld_span_of(done.file.data, done.file.size),
        };
        session->phase = LD_SESSION_DONE;
        ld_job_tell_progress(job, session, LD_PHASE_DECODE);
        if (job->given.on_image)
            job->given.on_image(job->given.ctx, &image);
    }
    ld_buffer_deinit(&done.file);
    return code;
}
