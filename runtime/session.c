/*
 * One picture from its first noise to its file's bytes: first pass, optional second pass at a
 * larger size, decoding, the guard against broken pictures, and the metadata.
 */
#include "runtime/job.h"

#include "runtime/base/clock.h"
#include "runtime/image/infotext.h"
#include "runtime/image/pixels.h"
#include "runtime/image/pixels_resize.h"
#include "runtime/numerics.h"
#include "runtime/sample/resize.h"
#include "runtime/vae_form.h"

/* VAE scale factor of SD1.5: latent = 0.18215 * encoder output (sampling.md 1.4). */
static const float LATENT_SCALE = 0.18215F;

enum { METADATA_MAX = 512 * 1024 };

static size_t latent_count(const struct ld_session *session)
{
    return (size_t)LD_LATENT_CHANNELS * (size_t)session->height * (size_t)session->width;
}

/* ---- Passes ---------------------------------------------------------------------------------- */

static void note_rows(struct ld_session *session)
{
    uint64_t run;
    uint64_t saved;
    if (!session->pass)
        return;
    ld_pass_row_counts(session->pass, &run, &saved);
    session->job->report.unet_rows += run;
    session->job->report.unet_rows_saved += saved;
    session->pass = NULL;
}

void ld_session_release(struct ld_session *session)
{
    note_rows(session);
    ld_arena_deinit(&session->arena);
    ld_heap_free(session->latent);
    session->latent = NULL;
}

static enum ld_code begin_pass(struct ld_session *session, const double *start, const double *mask,
                               struct ld_error *err)
{
    struct ld_job *job = session->job;
    const struct ld_job_pass *pass = ld_session_pass(session);
    struct ld_pass_config config = {
        .request = &job->request,
        .table = &pass->table,
        .prediction = ld_model_arch(pass->model->model)->prediction,
        .hires = session->second,
        .image = session->image,
        .height = session->height,
        .width = session->width,
        .start = start,
        .mask = mask,
    };
    config.parts = ld_conditioning_parts(pass->stages[0].conditioning, &config.part_weights);
    ld_arena_init(&session->arena, "pass", ld_pass_arena_bytes(session->height, session->width));
    if (ld_pass_create(&session->pass, &session->arena, &config, err) != LD_OK)
        return err->code;
    const struct ld_schedule *schedule = ld_pass_schedule(session->pass);
    for (uint32_t i = 0; session->image == 0 && i < schedule->warning_count; i++)
        ld_job_warn(job, "%s", schedule->warnings[i]);
    session->phase = LD_SESSION_SAMPLING;
    return LD_OK;
}

enum ld_code ld_session_begin(struct ld_session *session, struct ld_error *err)
{
    return begin_pass(session, session->job->start, session->job->mask, err);
}

enum ld_code ld_session_end_pass(struct ld_session *session, struct ld_error *err)
{
    const size_t count = latent_count(session);
    double *latent = ld_heap_calloc(count, sizeof *latent);
    if (!latent)
        return LD_FAIL(err, LD_E_NOMEM, "out of memory for the picture");
    memcpy(latent, ld_pass_latent(session->pass), count * sizeof *latent);
    note_rows(session);
    ld_arena_deinit(&session->arena);
    ld_heap_free(session->latent);
    session->latent = latent;
    if (!ld_values_finite_f64(latent, count))
        return LD_FAIL(err, LD_E_NUMERICAL,
                       "sampling produced values that are no numbers; try another sampler, a lower "
                       "cfg_scale, or weaker adapters");
    const bool more = session->job->request.hires.present && !session->second;
    session->phase = more ? LD_SESSION_UPSCALING : LD_SESSION_DECODING;
    return LD_OK;
}

/* ---- The second pass ------------------------------------------------------------------------- */

/* Resize a latent in its own space. */
static enum ld_code resize_latent(struct ld_session *session, int32_t height, int32_t width,
                                  enum ld_resize_mode mode, struct ld_error *err)
{
    const size_t count = latent_count(session);
    const size_t target = (size_t)LD_LATENT_CHANNELS * (size_t)height * (size_t)width;
    enum ld_code code = LD_OK;
    float *in = ld_heap_calloc(count, sizeof *in);
    float *out = ld_heap_calloc(target, sizeof *out);
    double *latent = ld_heap_calloc(target, sizeof *latent);
    if (!in || !out || !latent) {
        code = LD_FAIL(err, LD_E_NOMEM, "out of memory for the second pass");
        goto done;
    }
    for (size_t i = 0; i < count; i++)
        in[i] = (float)session->latent[i];
    const struct ld_resample op = {
        .in = in,
        .images = 1,
        .channels = LD_LATENT_CHANNELS,
        .in_height = session->height,
        .in_width = session->width,
        .out_height = height,
        .out_width = width,
        .mode = mode,
        .out = out,
    };
    code = ld_resample(&op, err);
    if (code != LD_OK)
        goto done;
    for (size_t i = 0; i < target; i++)
        latent[i] = (double)out[i];
    ld_heap_free(session->latent);
    session->latent = latent;
    latent = NULL;
done:
    ld_heap_free(latent);
    ld_heap_free(out);
    ld_heap_free(in);
    return code;
}

/* Whole, or in pieces where the request or the memory says so. */
static enum ld_code decode_in_pieces(const struct ld_session *session, const float *latent,
                                     const struct ld_cancel *interrupt, float *planes,
                                     struct ld_error *err)
{
    struct ld_job *job = session->job;
    struct ld_model *vae = ld_job_vae(job, session->second);
    const enum ld_vae_tiling asked = job->request.vae_tiling;
    enum ld_vae_form form =
        ld_vae_form_of(asked, vae, false, session->height, session->width, session->tiles);
    enum ld_code code = ld_model_decode_form(vae, latent, session->height, session->width,
                                             1.0F / LATENT_SCALE, form, interrupt, planes, err);
    /* The last resort, which is no longer the same picture to the bit. */
    if ((code == LD_E_NOMEM || code == LD_E_GPU_NOMEM) && asked == LD_VAE_AUTO && session->tiles &&
        form == LD_VAE_FORM_STRIPS) {
        form = LD_VAE_FORM_ESTIMATED;
        code = ld_model_decode_form(vae, latent, session->height, session->width,
                                    1.0F / LATENT_SCALE, form, interrupt, planes, err);
    }
    if (code == LD_OK && asked == LD_VAE_AUTO && form != LD_VAE_FORM_WHOLE)
        ld_job_warn(job, "picture %u did not fit into memory in one piece; it was decoded in %s",
                    session->image,
                    form != LD_VAE_FORM_STRIPS ? "tiles with estimated norms"
                    : ld_model_on_host(vae)    ? "strips, with the same result"
                                               : "strips, the same but for rounding");
    return code;
}

/* Decode to RGB8. */
static enum ld_code decode_pixels(const struct ld_session *session, const double *latent,
                                  const struct ld_cancel *interrupt, uint8_t *rgb,
                                  struct ld_error *err)
{
    const size_t count = latent_count(session);
    const int32_t height = session->height * 8;
    const int32_t width = session->width * 8;
    const size_t plane_count = 3 * (size_t)height * (size_t)width;
    enum ld_code code = LD_OK;
    float *in = ld_heap_calloc(count, sizeof *in);
    float *planes = ld_block_alloc(plane_count * sizeof *planes);
    if (!in || !planes) {
        code = LD_FAIL(err, LD_E_NOMEM, "out of memory for the picture");
        goto done;
    }
    for (size_t i = 0; i < count; i++)
        in[i] = (float)latent[i];
    code = decode_in_pieces(session, in, interrupt, planes, err);
    if (code == LD_OK && !ld_values_finite(planes, plane_count))
        code = LD_FAIL(err, LD_E_NUMERICAL,
                       "the decoder produced values that are no numbers; try another VAE");
    if (code == LD_OK)
        ld_pixels_from_planes(rgb, planes, height, width);
done:
    ld_block_free(planes, plane_count * sizeof *planes);
    ld_heap_free(in);
    return code;
}

/* Decode, resize the pixels, encode again. */
static enum ld_code resize_pixels(struct ld_session *session, int32_t height, int32_t width,
                                  const struct ld_cancel *interrupt, struct ld_error *err)
{
    const size_t small = 3 * 64 * (size_t)session->height * (size_t)session->width;
    const size_t large = 3 * 64 * (size_t)height * (size_t)width;
    enum ld_code code = LD_OK;
    uint8_t *before = ld_block_alloc(small);
    uint8_t *after = ld_block_alloc(large);
    double *latent = NULL;
    if (!before || !after) {
        code = LD_FAIL(err, LD_E_NOMEM, "out of memory for the second pass");
        goto done;
    }
    code = decode_pixels(session, session->latent, interrupt, before, err);
    if (code != LD_OK)
        goto done;
    const struct ld_pixel_resize op = {
        .in = before,
        .in_height = session->height * 8,
        .in_width = session->width * 8,
        .channels = 3,
        .out_height = height * 8,
        .out_width = width * 8,
        .filter = ld_pixel_filter_named(session->job->request.hires.upscaler),
        .out = after,
    };
    code = ld_pixels_resize(&op, err);
    if (code == LD_OK)
        code = ld_job_encode_pixels(session->job, true, after, height * 8, width * 8, interrupt,
                                    &latent, err);
    if (code != LD_OK)
        goto done;
    ld_heap_free(session->latent);
    session->latent = latent;
done:
    ld_block_free(after, large);
    ld_block_free(before, small);
    return code;
}

enum ld_code ld_session_upscale(struct ld_session *session, const struct ld_cancel *interrupt,
                                struct ld_error *err)
{
    struct ld_job *job = session->job;
    const char *upscaler = job->request.hires.upscaler;
    int64_t width;
    int64_t height;
    enum ld_resize_mode mode;
    ld_request_final_size(&job->request, &width, &height);
    const int32_t latent_height = (int32_t)(height / 8);
    const int32_t latent_width = (int32_t)(width / 8);
    enum ld_code code;
    if (ld_resize_mode_named(upscaler, &mode))
        code = resize_latent(session, latent_height, latent_width, mode, err);
    else
        code = resize_pixels(session, latent_height, latent_width, interrupt, err);
    if (code == LD_OK && (job->mask || job->extra[1]))
        code = ld_job_second_mask(job, latent_height, latent_width, err);
    if (code != LD_OK)
        return code;
    session->height = latent_height;
    session->width = latent_width;
    session->second = true;
    return begin_pass(session, session->latent, job->second_mask, err);
}

/* ---- Pictures -------------------------------------------------------------------------------- */

struct ld_request ld_session_request(const struct ld_session *session)
{
    struct ld_request request = session->job->request;
    request.seed = ld_noise_seed_of(&session->job->request, session->image);
    request.variation_seed = ld_noise_variation_seed_of(&session->job->request, session->image);
    request.images = 1;
    request.batch_index += request.batch_size > 0 ? (int32_t)session->image : 0;
    return request;
}

/* What computed this picture; the decoder may have run in a wider type. */
static enum ld_code write_numerics(const struct ld_session *session, struct ld_error *err)
{
    struct ld_job *job = session->job;
    const bool second = session->second;
    const struct ld_numerics_sizes sizes = {
        .height = second ? job->request.height / 8 : session->height,
        .width = second ? job->request.width / 8 : session->width,
        .second_height = second ? session->height : 0,
        .second_width = second ? session->width : 0,
    };
    ld_buffer_clear(&job->numerics);
    return ld_numerics_write(&job->numerics, ld_session_pass(session)->model->model,
                             ld_job_vae(job, second), &sizes, err);
}

/* Which ControlNets took part, by content: "controlnets": [...], or nothing without one. */
static void write_controls(const struct ld_job *job, struct ld_buffer *out)
{
    for (uint32_t i = 0; i < job->request.control_count; i++) {
        ld_buffer_text(out, i ? ",{\"name\":" : "\"controlnets\":[{\"name\":");
        ld_buffer_json_string(out, job->request.controls[i].model);
        ld_buffer_format(out, ",\"sha256\":\"%s\"}", job->controls[i].sha256);
    }
    if (job->request.control_count > 0)
        ld_buffer_text(out, "],");
}

/* What stands in the picture: A1111's parameters, ComfyUI's graph, our own. */
static enum ld_code write_texts(const struct ld_session *session, bool partial,
                                struct ld_encoding *encoding, struct ld_error *err)
{
    const struct ld_job *job = session->job;
    const struct ld_request request = ld_session_request(session);
    struct ld_buffer *infotext = &encoding->texts[0];
    struct ld_buffer *graph = &encoding->texts[1];
    struct ld_buffer *own = &encoding->texts[2];
    struct ld_buffer adapters = ld_buffer_make(METADATA_MAX);
    ld_buffer_format(&adapters, "[%s]", job->adapters.size ? job->adapters.data : "");
    const struct ld_resident *own_second =
        request.hires.present && request.hires.model[0] ? job->passes[1].model : NULL;
    struct ld_infotext_facts facts = {
        .model_name = job->passes[0].model->name,
        .model_sha256 = job->passes[0].model->sha256,
        .hires_model_name = own_second ? own_second->name : NULL,
        .hires_model_sha256 = own_second ? own_second->sha256 : NULL,
        .version = "latentd " LATENTD_VERSION,
        .adapters_json = adapters.data,
        .image = session->image,
    };
    for (uint32_t i = 0; i < request.control_count; i++)
        facts.control_sha256[i] = job->controls[i].sha256;
    ld_infotext_write(infotext, &request, &facts);
    ld_infotext_write_graph(graph, &request, &facts);
    ld_buffer_format(own, "{\"version\":\"%s\",\"model_sha256\":\"%s\",", LATENTD_VERSION,
                     job->passes[0].model->sha256);
    if (own_second)
        ld_buffer_format(own, "\"hires_model_sha256\":\"%s\",", own_second->sha256);
    write_controls(job, own);
    ld_buffer_format(own, "\"adapters\":%s,%s\"numerics\":%s,\"request\":", adapters.data,
                     partial ? "\"partial\":true," : "", job->numerics.data);
    ld_request_write_replay_json(&request, own);
    ld_buffer_text(own, "}");
    const bool failed = infotext->failed || graph->failed || own->failed || adapters.failed;
    ld_buffer_deinit(&adapters);
    encoding->texts_on = request.metadata_full;
    encoding->form = ld_picture_form_of(&request);
    return failed ? LD_FAIL(err, LD_E_NOMEM, "out of memory for the metadata") : LD_OK;
}

/* The picture's pixels and texts, for the encoder. */
static enum ld_code decode_into(struct ld_session *session, const double *latent, bool partial,
                                const struct ld_cancel *interrupt, struct ld_encoding *encoding,
                                struct ld_error *err)
{
    struct ld_job *job = session->job;
    struct ld_job_pixels pixels = {.width = session->width * 8, .height = session->height * 8};
    pixels.rgb = ld_block_alloc(3 * (size_t)pixels.width * (size_t)pixels.height);
    const int64_t start_us = ld_clock_monotonic_us();
    enum ld_code code = pixels.rgb ? decode_pixels(session, latent, interrupt, pixels.rgb, err)
                                   : LD_FAIL(err, LD_E_NOMEM, "out of memory for the picture");
    if (code == LD_OK &&
        ld_pixels_black(pixels.rgb, 3 * (size_t)pixels.width * (size_t)pixels.height))
        ld_job_warn(job, "picture %u is entirely black", session->image);
    if (code == LD_OK)
        code = ld_job_finish_pixels(job, &pixels, err);
    encoding->rgb = pixels.rgb;
    encoding->width = pixels.width;
    encoding->height = pixels.height;
    if (code != LD_OK)
        return code;
    job->report.decode_us += ld_clock_monotonic_us() - start_us;
    code = write_numerics(session, err);
    return code == LD_OK ? write_texts(session, partial, encoding, err) : code;
}

void ld_session_drop_encoding(struct ld_session *session)
{
    if (session->encoding)
        ld_errands_drop(session->job->encoder, &session->encoding->errand);
    session->encoding = NULL;
}

bool ld_session_encoded(const struct ld_session *session)
{
    return session->phase == LD_SESSION_ENCODING &&
           ld_errands_done(session->job->encoder, &session->encoding->errand);
}

enum ld_code ld_session_hand_out(struct ld_session *session, bool partial, struct ld_error *err)
{
    struct ld_job *job = session->job;
    struct ld_encoding *encoding = session->encoding;
    ld_errands_wait(job->encoder, &encoding->errand);
    const enum ld_code code = encoding->code;
    job->report.encode_us += encoding->spent_us;
    if (code != LD_OK) {
        *err = encoding->err;
    } else {
        if (!partial)
            session->phase = LD_SESSION_DONE;
        ld_job_tell_progress(job, session, LD_PHASE_DECODE);
        const struct ld_engine_image image = {
            .index = session->image,
            .seed = ld_noise_seed_of(&job->request, session->image),
            .width = encoding->width,
            .height = encoding->height,
            .file = ld_span_of(encoding->file.data, encoding->file.size),
            .partial = partial,
        };
        if (job->given.on_image)
            job->given.on_image(job->given.ctx, &image);
    }
    ld_session_drop_encoding(session);
    return code;
}

enum ld_code ld_session_decode(struct ld_session *session, const struct ld_cancel *interrupt,
                               struct ld_error *err)
{
    struct ld_encoding *encoding = ld_encoding_create();
    if (!encoding)
        return LD_FAIL(err, LD_E_NOMEM, "out of memory for the picture");
    const enum ld_code code =
        decode_into(session, session->latent, false, interrupt, encoding, err);
    if (code != LD_OK) {
        ld_encoding_destroy(encoding);
        return code;
    }
    session->encoding = encoding;
    session->phase = LD_SESSION_ENCODING;
    ld_errands_give(session->job->encoder, &encoding->errand);
    ld_session_release(session);
    return LD_OK;
}

enum ld_code ld_session_decode_partial(struct ld_session *session, struct ld_error *err)
{
    const double *latent = session->pass ? ld_pass_prediction(session->pass) : session->latent;
    struct ld_encoding *encoding = ld_encoding_create();
    if (!encoding)
        return LD_FAIL(err, LD_E_NOMEM, "out of memory for the picture");
    const enum ld_code code = decode_into(session, latent, true, NULL, encoding, err);
    if (code != LD_OK) {
        ld_encoding_destroy(encoding);
        return code;
    }
    session->encoding = encoding;
    ld_errands_give(session->job->encoder, &encoding->errand);
    return ld_session_hand_out(session, true, err);
}
