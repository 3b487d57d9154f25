#include "runtime/pass.h"

#include "runtime/sample/guidance_area.h"
#include "runtime/sample/guidance_freeu.h"
#include "runtime/sample/smea.h"

#include <math.h>

enum { SMEA_BLOCK = 3 };       /* the first block on a halved map, as in deep shrink */
enum { LATENT_TENSORS = 137 }; /* sampler slots, history, Brownian path, guidance, rows, twins */

struct ld_pass {
    struct ld_pass_config config;
    struct ld_latent_shape shape;
    size_t count;
    struct ld_schedule schedule;
    struct ld_noise *noise;
    struct ld_guidance *guidance;
    struct ld_sampler *sampler;
    struct ld_unet_options options; /* without deep shrink, which depends on sigma */
    struct ld_deep_shrink shrink;
    struct ld_smea smea;

    double *x;          /* the sampler's */
    double *mask_noise; /* z0 of the inpaint blend, profile comfy */
    double *blended_x;  /* x with the kept area at this sigma's noise */
    double *cond;       /* AND parts composed */
    double *denoised;
    double *row_results; /* [LD_PASS_ROWS_MAX] tensors */
    bool has_prediction;

    struct ld_sampler_eval eval;
    struct ld_guidance_plan plan;
    struct ld_pass_row rows[LD_PASS_ROWS_MAX];
    uint32_t row_count;
    bool open;
    bool sag_opened;
    const float *attention; /* of the negative's row, copied */
    float *attention_copy;
    int32_t attention_tokens;
    uint64_t rows_run, rows_saved;
    uint32_t step, call;
};

size_t ld_pass_arena_bytes(int32_t height, int32_t width)
{
    const size_t tensor = (size_t)LD_LATENT_CHANNELS * (size_t)height * (size_t)width;
    return LATENT_TENSORS * tensor * sizeof(double) + ((size_t)4 << 20);
}

/* ---- What the request asks of this pass ------------------------------------------------------ */

static const char *sampler_name(const struct ld_request *request, bool hires)
{
    return hires && request->hires.sampler[0] ? request->hires.sampler : request->sampler;
}

static uint32_t step_count(const struct ld_request *request, bool hires)
{
    if (hires && request->hires.steps > 0)
        return (uint32_t)request->hires.steps;
    return request->sigma_count > 1 ? request->sigma_count - 1 : (uint32_t)request->steps;
}

uint32_t ld_pass_calls_expected(const struct ld_request *request, bool hires)
{
    const struct ld_sampler_info *info = ld_sampler_info_find(sampler_name(request, hires));
    const bool second_order = info && (info->traits & LD_SAMPLER_SECOND_ORDER);
    return step_count(request, hires) * (second_order ? 2U : 1U);
}

static double strength(const struct ld_pass_config *config)
{
    if (config->hires)
        return config->request->hires.strength;
    return config->start ? config->request->init.strength : 1.0;
}

static enum ld_code build_schedule(struct ld_pass *pass, struct ld_arena *arena,
                                   const struct ld_sampler_info *info, struct ld_error *err)
{
    const struct ld_request *request = pass->config.request;
    const bool hires = pass->config.hires;
    struct ld_schedule_options options = ld_schedule_options_default();
    options.table = pass->config.table;
    options.scheduler =
        hires && request->hires.scheduler[0] ? request->hires.scheduler : request->scheduler;
    options.sampler = info;
    options.steps = step_count(request, hires);
    options.denoise = strength(&pass->config);
    options.exact_steps = hires;
    options.discard_penultimate = request->sampler_options.discard_penultimate;
    options.rho = request->scheduler_options.rho;
    options.sigma_min = request->scheduler_options.sigma_min;
    options.sigma_max = request->scheduler_options.sigma_max;
    options.coefficient = request->scheduler_options.coefficient;
    options.alpha = request->scheduler_options.alpha;
    options.beta = request->scheduler_options.beta;
    options.mu = request->scheduler_options.mu;
    options.b = request->scheduler_options.b;
    if (request->sigma_count > 0 && !hires)
        return ld_schedule_from_list(&pass->schedule, arena, &options, request->sigmas,
                                     request->sigma_count, err);
    return ld_schedule_build(&pass->schedule, arena, &options, err);
}

/* NaN means the sampler's own, here as there. */
static struct ld_sampler_options sampler_options(const struct ld_request *request)
{
    const struct ld_request_sampler_options *given = &request->sampler_options;
    struct ld_sampler_options options = ld_sampler_options_default();
    options.eta = given->eta;
    options.s_noise = given->s_noise;
    options.s_churn = given->s_churn;
    options.s_tmin = given->s_tmin;
    options.s_tmax = given->s_tmax;
    options.gamma = given->gamma;
    options.r = given->r;
    options.rtol = given->rtol;
    options.atol = given->atol;
    options.h_init = given->h_init;
    options.solver_heun = strcmp(given->solver, "heun") == 0;
    options.extrapolate_last = given->extrapolate_last;
    options.order = given->order;
    options.a1111 = request->profile == LD_PROFILE_A1111;
    return options;
}

static enum ld_code plan_network(struct ld_pass *pass, struct ld_error *err)
{
    const struct ld_request *request = pass->config.request;
    const struct ld_request_guidance *guidance = &request->guidance;
    struct ld_unet_options *options = &pass->options;
    const struct ld_freeu freeu = ld_freeu_of(guidance, 0);
    if (freeu.on) {
        options->freeu = freeu.v2 ? LD_FREEU_V2 : LD_FREEU_V1;
        options->freeu_b1 = (float)freeu.b1;
        options->freeu_b2 = (float)freeu.b2;
        options->freeu_s1 = (float)freeu.s1;
        options->freeu_s2 = (float)freeu.s2;
    }
    if (!pass->config.hires) /* the second pass has its composition already */
        ld_smea_init(&pass->smea, request->smea == LD_SMEA_ON, request->smea_scale,
                     pass->config.table);
    return ld_deep_shrink_init(&pass->shrink, &request->deep_shrink, pass->config.table, err);
}

/* ---- Noise and the starting point ------------------------------------------------------------ */

/* Smallest positive and largest sigma of the run. */
static void noise_range(const struct ld_pass *pass, struct ld_noise_config *config)
{
    const struct ld_schedule *schedule = &pass->schedule;
    if (pass->config.request->profile == LD_PROFILE_A1111) {
        config->sigma_low = schedule->uncut_sigma_min;
        config->sigma_high = schedule->uncut_sigma_max;
        return;
    }
    config->sigma_high = schedule->sigma_count ? schedule->sigmas[0] : 1;
    config->sigma_low = config->sigma_high;
    for (uint32_t i = 0; i < schedule->sigma_count; i++)
        if (schedule->sigmas[i] > 0)
            config->sigma_low = schedule->sigmas[i];
}

/* ComfyUI's `ddim` blends its mask with noise of its own. */
static enum ld_code draw_mask_noise(struct ld_pass *pass, struct ld_arena *arena, const double *z,
                                    struct ld_error *err)
{
    const struct ld_request *request = pass->config.request;
    pass->mask_noise = ld_arena_calloc(arena, pass->count, sizeof(double));
    pass->blended_x = ld_arena_calloc(arena, pass->count, sizeof(double));
    if (!pass->mask_noise || !pass->blended_x)
        return LD_FAIL(err, LD_E_NOMEM, "out of memory for this picture size");
    if (strcmp(sampler_name(request, pass->config.hires), "ddim") != 0) {
        memcpy(pass->mask_noise, z, pass->count * sizeof *z);
        return LD_OK;
    }
    struct ld_noise_config config = {.profile = LD_PROFILE_COMFY,
                                     .initial = LD_NOISE_CPU,
                                     .seed = ld_noise_seed_of(request, pass->config.image) + 1,
                                     .channels = pass->shape.channels,
                                     .height = pass->shape.height,
                                     .width = pass->shape.width,
                                     .sigma_low = 1,
                                     .sigma_high = 1,
                                     .batch_count = 1};
    struct ld_noise *noise;
    if (ld_noise_create(&noise, arena, &config, err) != LD_OK)
        return err->code;
    return ld_noise_initial(noise, pass->mask_noise, pass->count, err);
}

/* x = latent + scale z, and A1111's extra noise. */
static enum ld_code start_at(struct ld_pass *pass, struct ld_arena *arena, struct ld_error *err)
{
    const struct ld_request *request = pass->config.request;
    const double *start = pass->config.start;
    const double extra = start && !pass->config.hires ? request->init.noise : 0;
    double *z = ld_arena_calloc(arena, pass->count, sizeof *z);
    if (!z)
        return LD_FAIL(err, LD_E_NOMEM, "out of memory for this picture size");
    if (pass->schedule.sigma_count == 0) { /* strength 0: nothing runs */
        if (start)
            memcpy(pass->x, start, pass->count * sizeof *start);
        return LD_OK;
    }
    if (ld_noise_initial(pass->noise, z, pass->count, err) != LD_OK)
        return err->code;
    const struct ld_sampler_info *info =
        ld_sampler_info_find(sampler_name(request, pass->config.hires));
    const bool unit_variance = request->profile == LD_PROFILE_A1111 && !start &&
                               ld_sampler_walks_timesteps(info, request->profile);
    const double scale =
        ld_initial_noise_scale(pass->config.table, pass->schedule.sigmas[0], unit_variance);
    for (size_t i = 0; i < pass->count; i++)
        pass->x[i] = (start ? start[i] : 0.0) + (scale + extra) * z[i];
    if (pass->config.mask && request->profile == LD_PROFILE_COMFY)
        return draw_mask_noise(pass, arena, z, err);
    return LD_OK;
}

/* ---- Creation -------------------------------------------------------------------------------- */

static enum ld_code create_parts(struct ld_pass *pass, struct ld_arena *arena, struct ld_error *err)
{
    const struct ld_request *request = pass->config.request;
    const bool hires = pass->config.hires;
    const struct ld_sampler_info *info = ld_sampler_info_find(sampler_name(request, hires));
    if (!info)
        return LD_FAIL(err, LD_E_NOT_FOUND, "sampler is not one that this server has");
    if (build_schedule(pass, arena, info, err) != LD_OK)
        return err->code;

    struct ld_noise_config noise = ld_noise_config_of(
        request, pass->config.image, pass->shape.channels, pass->shape.height, pass->shape.width);
    noise_range(pass, &noise);
    if (ld_noise_create(&pass->noise, arena, &noise, err) != LD_OK ||
        start_at(pass, arena, err) != LD_OK)
        return err->code;

    const bool own_cfg = hires && !isnan(request->hires.cfg_scale);
    const struct ld_guidance_config guidance = {
        .options = &request->guidance,
        .table = pass->config.table,
        .scale = own_cfg ? request->hires.cfg_scale : request->cfg_scale,
        .total_calls = ld_pass_calls_expected(request, hires),
        .composed_and = pass->config.parts > 1,
        .shape = pass->shape,
    };
    if (ld_guidance_create(&pass->guidance, arena, &guidance, err) != LD_OK)
        return err->code;
    if (plan_network(pass, err) != LD_OK)
        return err->code;

    const struct ld_noise_source source = ld_noise_source_of(pass->noise);
    const struct ld_sampler_config sampler = {
        .name = info->name,
        .sigmas = pass->schedule.sigmas,
        .sigma_count = pass->schedule.sigma_count,
        .timesteps = pass->schedule.timesteps,
        .timestep_total = pass->schedule.timestep_total,
        .table = pass->config.table,
        .sigma_min = ld_sigma_table_min(pass->config.table),
        .sigma_max = ld_sigma_table_max(pass->config.table),
        .count = pass->count,
        .options = sampler_options(request),
    };
    return ld_sampler_create(&pass->sampler, arena, &sampler, &source, pass->x, err);
}

enum ld_code ld_pass_create(struct ld_pass **out, struct ld_arena *arena,
                            const struct ld_pass_config *config, struct ld_error *err)
{
    LD_ASSERT(config->parts >= 1 && config->parts <= LD_PASS_PARTS_MAX);
    LD_ASSERT(config->height >= 1 && config->width >= 1);
    struct ld_pass *pass = ld_arena_calloc(arena, 1, sizeof *pass);
    if (!pass)
        return LD_FAIL(err, LD_E_NOMEM, "out of memory for this picture size");
    pass->config = *config;
    pass->shape = (struct ld_latent_shape){LD_LATENT_CHANNELS, config->height, config->width};
    pass->count = ld_latent_count(pass->shape);
    pass->x = ld_arena_calloc(arena, pass->count, sizeof(double));
    pass->cond = ld_arena_calloc(arena, pass->count, sizeof(double));
    pass->denoised = ld_arena_calloc(arena, pass->count, sizeof(double));
    const size_t rows = (config->parts + 4) * (config->request->smea == LD_SMEA_ON ? 2 : 1);
    pass->row_results = ld_arena_calloc(arena, rows * pass->count, sizeof(double));
    pass->attention_copy = ld_arena_calloc(arena, ld_latent_plane(pass->shape), sizeof(float));
    if (!pass->x || !pass->cond || !pass->denoised || !pass->row_results || !pass->attention_copy)
        return LD_FAIL(err, LD_E_NOMEM, "out of memory for this picture size");
    if (create_parts(pass, arena, err) != LD_OK)
        return err->code;
    *out = pass;
    return LD_OK;
}

/* ---- Opening a call -------------------------------------------------------------------------- */

/* Without the shrink its options stay zero, so that all such evaluations share one plan. */
static struct ld_unet_options options_at(const struct ld_pass *pass, double sigma)
{
    struct ld_unet_options options = pass->options;
    options.shrink = ld_deep_shrink_active(&pass->shrink, sigma);
    if (options.shrink) {
        options.shrink_block = pass->shrink.block;
        options.shrink_factor = pass->shrink.factor;
        options.shrink_after_skip = pass->shrink.after_skip;
        options.shrink_down = pass->shrink.down;
        options.shrink_up = pass->shrink.up;
    }
    return options;
}

static struct ld_pass_row *add_row(struct ld_pass *pass, enum ld_pass_prompt prompt, uint32_t part,
                                   const double *x)
{
    struct ld_pass_row *row = &pass->rows[pass->row_count];
    *row = (struct ld_pass_row){
        .prompt = prompt,
        .part = part,
        .x = x,
        .wrapping =
            ld_sigma_table_wrap(pass->config.table, pass->config.prediction, pass->eval.sigma),
        .options = options_at(pass, pass->eval.sigma),
        .denoised = pass->row_results + pass->row_count * pass->count,
    };
    const struct ld_control_moment moment = {
        .hires = pass->config.hires,
        .positive = prompt == LD_PASS_POSITIVE,
        .sigma = pass->eval.sigma,
        .share = (double)pass->eval.step / (double)ld_pass_steps(pass),
    };
    row->options.controls =
        (int32_t)ld_row_controls(pass->config.request, pass->config.table, &moment, row->controls);
    pass->row_count++;
    return row;
}

/* SMEA: what guidance is made of is also evaluated with a smaller picture in the deep blocks. */
static void add_twins(struct ld_pass *pass)
{
    const uint32_t count = pass->row_count;
    if (!(ld_smea_weight(&pass->smea, pass->eval.sigma) > 0))
        return;
    for (uint32_t i = 0; i < count; i++) {
        const struct ld_pass_row row = pass->rows[i];
        if (row.options.middle_identity)
            continue; /* its own effect is a difference to the plain row */
        struct ld_pass_row *twin = add_row(pass, row.prompt, row.part, row.x);
        const int32_t controls = twin->options.controls;
        twin->options = pass->options;
        twin->options.controls = controls;
        twin->options.shrink = true;
        twin->options.shrink_block = SMEA_BLOCK;
        twin->options.shrink_factor = pass->smea.scale;
        twin->options.shrink_after_skip = true;
        twin->options.shrink_down = twin->options.shrink_up = LD_RESIZE_BICUBIC;
        twin->twin = true;
    }
}

/* Mix each twin into its row and drop it: guidance sees as many rows as ever. */
static enum ld_code settle_twins(struct ld_pass *pass, struct ld_error *err)
{
    const double weight = ld_smea_weight(&pass->smea, pass->eval.sigma);
    uint32_t twin = 0;
    while (twin < pass->row_count && !pass->rows[twin].twin)
        twin++;
    const uint32_t count = twin;
    for (uint32_t i = 0; i < count && twin < pass->row_count; i++) {
        if (pass->rows[i].options.middle_identity)
            continue;
        const enum ld_code code =
            ld_smea_mix(&pass->smea, weight, pass->rows[twin].denoised, pass->shape.height,
                        pass->shape.width, pass->rows[i].denoised, err);
        if (code != LD_OK)
            return code;
        twin++;
    }
    pass->row_count = count;
    return LD_OK;
}

/* Profile comfy: the kept area enters every call at the noise of that call. */
static const double *blend_input(struct ld_pass *pass)
{
    const double *mask = pass->config.mask;
    if (!pass->mask_noise)
        return pass->eval.x;
    const size_t plane = ld_latent_plane(pass->shape);
    for (size_t i = 0; i < pass->count; i++) {
        const double m = mask[i % plane];
        const double kept = pass->config.start[i] + pass->eval.sigma * pass->mask_noise[i];
        pass->blended_x[i] = m * pass->eval.x[i] + (1 - m) * kept;
    }
    return pass->blended_x;
}

enum ld_pass_status ld_pass_open(struct ld_pass *pass, struct ld_error *err)
{
    if (pass->open)
        return LD_PASS_ROWS;
    switch (ld_sampler_next(pass->sampler, &pass->eval)) {
    case LD_SAMPLER_DONE:
        pass->step = ld_pass_steps(pass);
        return LD_PASS_DONE;
    case LD_SAMPLER_FAILED:
        (void)LD_FAIL(err, LD_E_NOMEM, "out of memory for the sampler's noise");
        return LD_PASS_FAILED;
    case LD_SAMPLER_EVAL:
        break;
    }
    pass->step = pass->eval.step;
    pass->plan = ld_guidance_plan(pass->guidance, pass->eval.sigma, pass->eval.call,
                                  pass->eval.needs_uncond);
    const double *x = blend_input(pass);
    pass->row_count = 0;
    pass->sag_opened = false;
    for (uint32_t part = 0; part < pass->config.parts; part++)
        add_row(pass, LD_PASS_POSITIVE, part, x);
    if (pass->plan.rows & LD_ROW_UNCOND)
        add_row(pass, LD_PASS_NEGATIVE, 0, x)->options.middle_qkv = pass->plan.keep_attention;
    if (pass->plan.rows & LD_ROW_EMPTY)
        add_row(pass, LD_PASS_EMPTY, 0, x);
    if (pass->plan.rows & LD_ROW_PERTURBED)
        add_row(pass, LD_PASS_POSITIVE, 0, x)->options.middle_identity = true;
    add_twins(pass);
    pass->open = true;
    return LD_PASS_ROWS;
}

struct ld_pass_row *ld_pass_rows(struct ld_pass *pass, uint32_t *count)
{
    *count = pass->open ? pass->row_count : 0;
    return pass->rows;
}

void ld_pass_ahead(struct ld_pass *pass)
{
    if (pass->open)
        ld_noise_ahead(pass->noise, pass->eval.noise_to);
}

void ld_pass_row_done(struct ld_pass *pass, struct ld_pass_row *row, const float *output,
                      const float *attention, int32_t tokens)
{
    LD_ASSERT(!row->done);
    for (size_t i = 0; i < pass->count; i++)
        row->denoised[i] = row->wrapping.x * row->x[i] + row->wrapping.out * (double)output[i];
    if (attention && (size_t)tokens <= ld_latent_plane(pass->shape)) {
        memcpy(pass->attention_copy, attention, (size_t)tokens * sizeof *attention);
        pass->attention_tokens = tokens;
    }
    row->done = true;
    pass->rows_run++;
}

/* ---- Closing a call -------------------------------------------------------------------------- */

static const double *result_of(const struct ld_pass *pass, enum ld_pass_prompt prompt,
                               bool identity)
{
    for (uint32_t i = pass->config.parts; i < pass->row_count; i++)
        if (pass->rows[i].prompt == prompt && pass->rows[i].options.middle_identity == identity)
            return pass->rows[i].denoised;
    return NULL;
}

static const double *compose(struct ld_pass *pass, const double *uncond)
{
    const uint32_t parts = pass->config.parts;
    const double *conds[LD_PASS_PARTS_MAX];
    if (parts == 1 && !(fabs(pass->config.part_weights[0] - 1.0) > 0))
        return pass->rows[0].denoised;
    for (uint32_t part = 0; part < parts; part++)
        conds[part] = pass->rows[part].denoised;
    const double *base = pass->plan.and_base_is_cond || !uncond ? conds[0] : uncond;
    ld_compose_and(pass->cond, conds, pass->config.part_weights, parts, base, pass->count);
    return pass->cond;
}

/* The kept area's estimate is what stands there already. */
static void blend_output(struct ld_pass *pass)
{
    const double *mask = pass->config.mask;
    const size_t plane = ld_latent_plane(pass->shape);
    if (!mask || !pass->config.start)
        return;
    for (size_t i = 0; i < pass->count; i++) {
        const double m = mask[i % plane];
        pass->denoised[i] = m * pass->denoised[i] + (1 - m) * pass->config.start[i];
    }
}

enum ld_code ld_pass_close(struct ld_pass *pass, struct ld_error *err)
{
    LD_ASSERT(pass->open);
    for (uint32_t i = 0; i < pass->row_count; i++)
        LD_ASSERT(pass->rows[i].done);
    if (settle_twins(pass, err) != LD_OK)
        return err->code;
    struct ld_guidance_rows rows = {
        .x = pass->rows[0].x,
        .uncond = result_of(pass, LD_PASS_NEGATIVE, false),
        .empty = result_of(pass, LD_PASS_EMPTY, false),
        .perturbed = result_of(pass, LD_PASS_POSITIVE, true),
    };
    if ((pass->plan.rows & LD_ROW_SAG) && !pass->sag_opened) {
        ld_guidance_sag(pass->guidance, rows.x, rows.uncond, pass->attention_copy,
                        pass->attention_tokens);
        add_row(pass, LD_PASS_NEGATIVE, 0, ld_guidance_sag_x(pass->guidance));
        pass->sag_opened = true;
        return LD_OK;
    }
    rows.sag = pass->sag_opened ? pass->rows[pass->row_count - 1].denoised : NULL;
    rows.cond = compose(pass, rows.uncond);
    ld_guidance_combine(pass->guidance, &pass->plan, &rows, pass->denoised);
    blend_output(pass);
    pass->has_prediction = true;
    pass->open = false;
    pass->call++;
    if (pass->row_count < pass->config.parts + 1)
        pass->rows_saved += pass->config.parts + 1 - pass->row_count;
    return ld_sampler_accept(pass->sampler, pass->denoised,
                             pass->eval.needs_uncond ? ld_guidance_uncond(pass->guidance) : NULL,
                             err);
}

/* ---- Looking at it --------------------------------------------------------------------------- */

const double *ld_pass_latent(const struct ld_pass *pass)
{
    return pass->x;
}

const double *ld_pass_prediction(const struct ld_pass *pass)
{
    return pass->has_prediction ? pass->denoised : NULL;
}

uint32_t ld_pass_steps(const struct ld_pass *pass)
{
    return pass->schedule.sigma_count ? pass->schedule.sigma_count - 1 : 0;
}

uint32_t ld_pass_step(const struct ld_pass *pass)
{
    return pass->step;
}

uint32_t ld_pass_call(const struct ld_pass *pass)
{
    return pass->call;
}

uint32_t ld_pass_calls_total(const struct ld_pass *pass)
{
    return ld_pass_calls_expected(pass->config.request, pass->config.hires);
}

void ld_pass_row_counts(const struct ld_pass *pass, uint64_t *run, uint64_t *saved)
{
    *run = pass->rows_run;
    *saved = pass->rows_saved;
}

const struct ld_schedule *ld_pass_schedule(const struct ld_pass *pass)
{
    return &pass->schedule;
}
