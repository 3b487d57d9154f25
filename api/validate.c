#include "api/validate.h"

#include "config/nearest.h"

#include <math.h>

/* What every check needs. */
struct check {
    struct ld_request *request;
    const struct ld_api_names *names;
    const struct ld_request_limits *limits;
    struct ld_arena *arena;
    struct ld_warnings *warnings;
    struct ld_problem *problem;
};

struct ld_request_limits ld_request_limits_default(void)
{
    const struct ld_request_limits limits = {
        .area_max = LD_AREA_DEFAULT,
        .work_max = LD_WORK_DEFAULT,
        .images_max = LD_IMAGES_MAX,
        .steps_max = LD_STEPS_MAX,
        .priority_max = 5,
    };
    return limits;
}

/* ---- Work ------------------------------------------------------------------------------------ */

static int64_t units(int64_t width, int64_t height)
{
    return (width * height + LD_WORK_UNIT_PIXELS - 1) / LD_WORK_UNIT_PIXELS;
}

int64_t ld_request_work(const struct ld_request *request)
{
    int64_t width;
    int64_t height;
    if (request->upscale.present) /* about as long as a step of that many pixels would take */
        return units(request->upscale.width, request->upscale.height);
    int64_t steps = units(request->width, request->height) * request->steps;
    if (request->hires.present) {
        ld_request_final_size(request, &width, &height);
        steps += units(width, height) *
                 (request->hires.steps > 0 ? request->hires.steps : request->steps);
    }
    return steps * request->images;
}

/* ---- Names ----------------------------------------------------------------------------------- */

typedef const char *(*name_at)(void *ctx, uint32_t index);

static void refuse_name(const struct check *check, const char *pointer, const char *kind,
                        const char *name, name_at at)
{
    struct ld_nearest nearest = ld_nearest_to(ld_span_text(name));
    const char *known = NULL;
    const char *reason =
        check->names->unusable ? check->names->unusable(check->names->ctx, kind, name) : NULL;
    if (reason) {
        ld_problem_add(check->problem, LD_E_INVALID, pointer,
                       "%s %.128s is here but cannot be used: %.300s", kind, name, reason);
        return;
    }
    for (uint32_t i = 0; at && i < 4096 && (known = at(check->names->ctx, i)) != NULL; i++)
        ld_nearest_offer(&nearest, known);
    ld_problem_add(check->problem, LD_E_INVALID, pointer, "there is no %s %.128s%s", kind, name,
                   ld_nearest_hint(&nearest));
}

/* "DPM++ 2M Karras" names two things at once: the longest head that is a sampler with a tail that
 * is a scheduler. */
static bool split_sampler(const struct check *check, const char *name, const char **sampler,
                          const char **scheduler)
{
    const struct ld_api_names *names = check->names;
    for (const char *blank = strrchr(name, ' '); blank && blank > name;) {
        const char *head = ld_arena_strndup(check->arena, name, (size_t)(blank - name));
        const char *known = head ? names->sampler(names->ctx, head) : NULL;
        const char *tail = known && names->scheduler
                               ? names->scheduler(names->ctx, blank + 1, check->request)
                               : NULL;
        if (tail) {
            *sampler = known;
            *scheduler = tail;
            return true;
        }
        do
            blank--;
        while (blank > name && *blank != ' ');
    }
    return false;
}

static void check_sampler(const struct check *check, const char **sampler, const char **scheduler,
                          bool scheduler_given, const char *sampler_pointer,
                          const char *scheduler_pointer)
{
    const struct ld_api_names *names = check->names;
    const char *known = NULL;
    const char *tail = NULL;
    if (names->sampler && (*sampler)[0]) {
        known = names->sampler(names->ctx, *sampler);
        if (!known && split_sampler(check, *sampler, &known, &tail) && !scheduler_given)
            *scheduler = tail;
        if (known)
            *sampler = known;
        else
            refuse_name(check, sampler_pointer, "sampler", *sampler, names->sampler_at);
    }
    if (names->scheduler && (*scheduler)[0]) {
        known = names->scheduler(names->ctx, *scheduler, check->request);
        if (known)
            *scheduler = known;
        else
            refuse_name(check, scheduler_pointer, "scheduler", *scheduler, names->scheduler_at);
    }
}

static void check_adapters(const struct check *check, const char *list,
                           struct ld_request_lora *loras, uint32_t count)
{
    const struct ld_api_names *names = check->names;
    for (uint32_t i = 0; names->adapter && i < count; i++) {
        struct ld_request_lora *lora = &loras[i];
        char pointer[32];
        (void)ld_fmt(pointer, sizeof pointer, "%s/%u/name", list, i);
        const char *known = lora->name[0] ? names->adapter(names->ctx, lora->name) : lora->name;
        if (known)
            lora->name = known;
        else
            refuse_name(check, pointer, "adapter", lora->name, names->adapter_at);
    }
}

static void check_controlnets(const struct check *check)
{
    const struct ld_api_names *names = check->names;
    struct ld_request *request = check->request;
    for (uint32_t i = 0; names->controlnet && i < request->control_count; i++) {
        const char **name = &request->controls[i].model;
        char pointer[32];
        (void)ld_fmt(pointer, sizeof pointer, "/control/%u/model", i);
        const char *known = (*name)[0] ? names->controlnet(names->ctx, *name) : *name;
        if (known)
            *name = known;
        else
            refuse_name(check, pointer, "ControlNet", *name, names->controlnet_at);
    }
}

static void check_model(const struct check *check, const char **name, const char *pointer)
{
    const struct ld_api_names *names = check->names;
    const char *known = names->model && (*name)[0] ? names->model(names->ctx, *name) : *name;
    if (known)
        *name = known;
    else
        refuse_name(check, pointer, "model", *name, names->model_at);
}

static void check_names(const struct check *check)
{
    struct ld_request *request = check->request;
    const struct ld_api_names *names = check->names;
    const char *known;
    if (!names)
        return;
    check_sampler(check, &request->sampler, &request->scheduler,
                  ld_request_has(request, "scheduler"), "/sampler", "/scheduler");
    check_sampler(check, &request->hires.sampler, &request->hires.scheduler,
                  ld_request_has(request, "hires.scheduler"), "/hires/sampler", "/hires/scheduler");
    check_model(check, &request->model, "/model");
    check_model(check, &request->hires.model, "/hires/model");
    if (names->vae && request->vae[0]) {
        known = names->vae(names->ctx, request->vae);
        if (known)
            request->vae = known;
        else
            refuse_name(check, "/vae", "VAE", request->vae, names->vae_at);
    }
    check_adapters(check, "/loras", request->loras, request->lora_count);
    check_adapters(check, "/hires/loras", request->hires.loras, request->hires.lora_count);
    check_controlnets(check);
}

/* ---- Limits ---------------------------------------------------------------------------------- */

static void check_priority(const struct ld_request *request, const struct ld_request_limits *limits,
                           struct ld_problem *problem)
{
    if (request->priority > limits->priority_max)
        ld_problem_add(problem, LD_E_FORBIDDEN, "/priority",
                       "priority must be at most %d with this key", limits->priority_max);
}

static void check_limits(const struct check *check)
{
    const struct ld_request *request = check->request;
    const struct ld_request_limits *limits = check->limits;
    int64_t width;
    int64_t height;
    ld_request_final_size(request, &width, &height);
    if (width > LD_SIDE_MAX || height > LD_SIDE_MAX || width < LD_SIDE_MIN || height < LD_SIDE_MIN)
        ld_problem_add(check->problem, LD_E_RANGE, "/hires/scale",
                       "hires.scale must give a picture with sides between %d and %d pixels",
                       LD_SIDE_MIN, LD_SIDE_MAX);
    if (!limits)
        return;
    if ((int64_t)request->width * request->height > limits->area_max)
        ld_problem_add(check->problem, LD_E_RANGE, "/width",
                       "width x height must be at most %lld pixels", (long long)limits->area_max);
    else if (width * height > limits->area_max)
        ld_problem_add(check->problem, LD_E_RANGE, "/hires",
                       "the second pass must have at most %lld pixels",
                       (long long)limits->area_max);
    if (request->images > limits->images_max)
        ld_problem_add(check->problem, LD_E_RANGE, "/images", "images must be at most %d",
                       limits->images_max);
    if (request->steps > limits->steps_max || request->hires.steps > limits->steps_max)
        ld_problem_add(check->problem, LD_E_RANGE,
                       request->steps > limits->steps_max ? "/steps" : "/hires/steps",
                       "steps must be at most %d", limits->steps_max);
    check_priority(request, limits, check->problem);
    const int64_t work = ld_request_work(request);
    if (work > limits->work_max)
        ld_problem_add(check->problem, LD_E_RANGE, "",
                       "the job is too large: ceil(width x height / %d) x steps x images is %lld, "
                       "at most %lld",
                       LD_WORK_UNIT_PIXELS, (long long)work, (long long)limits->work_max);
}

/* ---- Fields that depend on one another ------------------------------------------------------- */

static void check_order(const struct check *check, double low, double high, const char *low_pointer,
                        const char *low_name, const char *high_name)
{
    if (low > high) /* false where one is not given (NAN) */
        ld_problem_add(check->problem, LD_E_RANGE, low_pointer, "%s must be at most %s", low_name,
                       high_name);
}

static void check_lora_ranges(const struct check *check, const char *list,
                              const struct ld_request_lora *loras, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        char pointer[32];
        (void)ld_fmt(pointer, sizeof pointer, "%s/%u/start", list, i);
        check_order(check, loras[i].start, loras[i].end, pointer, "loras.start", "loras.end");
    }
    if (ld_lora_ranges(loras, count, NULL) > LD_LORA_RANGES_MAX)
        ld_problem_add(check->problem, LD_E_RANGE, list,
                       "the starts and ends of loras may divide the steps into at most %d ranges",
                       LD_LORA_RANGES_MAX);
}

/* What surrounds the picture has to leave room for it. */
static void check_init(const struct check *check)
{
    const struct ld_request *request = check->request;
    const struct ld_request_init *init = &request->init;
    if (!init->present)
        return;
    const bool has_mask = init->mask[0] || ld_request_has(request, "init.mask");
    const bool grows =
        init->outpaint_left + init->outpaint_top + init->outpaint_right + init->outpaint_bottom > 0;
    if (init->mask_blur > 0 && !has_mask && !grows)
        ld_problem_add(check->problem, LD_E_INVALID, "/init/mask_blur",
                       "init.mask_blur needs init.mask or init.outpaint");
    if (init->area == LD_INIT_MASKED && (!has_mask || grows))
        ld_problem_add(check->problem, LD_E_INVALID, "/init/area",
                       grows ? "init.area \"masked\" and init.outpaint exclude each other"
                             : "init.area \"masked\" needs init.mask");
    if (request->width - init->outpaint_left - init->outpaint_right < LD_SIDE_MIN)
        ld_problem_add(check->problem, LD_E_RANGE, "/init/outpaint",
                       "init.outpaint.left and right must leave %d pixels of width", LD_SIDE_MIN);
    if (request->height - init->outpaint_top - init->outpaint_bottom < LD_SIDE_MIN)
        ld_problem_add(check->problem, LD_E_RANGE, "/init/outpaint",
                       "init.outpaint.top and bottom must leave %d pixels of height", LD_SIDE_MIN);
}

static void check_batch(const struct check *check)
{
    const struct ld_request *request = check->request;
    if (request->batch_size == 0 && request->batch_index > 0)
        ld_problem_add(check->problem, LD_E_INVALID, "/batch/index",
                       "batch.index needs batch.size");
    if (request->batch_size == 0)
        return;
    if (request->batch_index + request->images > request->batch_size)
        ld_problem_add(check->problem, LD_E_RANGE, "/batch/size",
                       "batch.size must be at least batch.index + images, %d",
                       request->batch_index + request->images);
    if (request->profile != LD_PROFILE_COMFY)
        ld_problem_add(check->problem, LD_E_INVALID, "/batch",
                       "batch is ComfyUI's: it needs profile comfy");
}

static void check_ranges(const struct check *check)
{
    const struct ld_request *request = check->request;
    const struct ld_request_guidance *guidance = &request->guidance;
    const struct ld_request_scheduler_options *scheduler = &request->scheduler_options;
    check_lora_ranges(check, "/loras", request->loras, request->lora_count);
    check_lora_ranges(check, "/hires/loras", request->hires.loras, request->hires.lora_count);
    check_order(check, request->deep_shrink.start, request->deep_shrink.end, "/deep_shrink/start",
                "deep_shrink.start", "deep_shrink.end");
    check_order(check, guidance->negative_start, guidance->negative_end, "/guidance/negative_start",
                "guidance.negative_start", "guidance.negative_end");
    check_order(check, guidance->skip_below_sigma, guidance->skip_above_sigma,
                "/guidance/skip_below_sigma", "guidance.skip_below_sigma",
                "guidance.skip_above_sigma");
    check_order(check, request->sampler_options.s_tmin, request->sampler_options.s_tmax,
                "/sampler_options/s_tmin", "sampler_options.s_tmin", "sampler_options.s_tmax");
    if (scheduler->sigma_min >= scheduler->sigma_max)
        ld_problem_add(check->problem, LD_E_RANGE, "/scheduler_options/sigma_min",
                       "scheduler_options.sigma_min must be below scheduler_options.sigma_max");
    const double coefficient = scheduler->coefficient * 20; /* tables exist every 0.05 */
    if (!isnan(coefficient) && fabs(coefficient - nearbyint(coefficient)) > 1e-9)
        ld_problem_add(check->problem, LD_E_RANGE, "/scheduler_options/coefficient",
                       "scheduler_options.coefficient must be a multiple of 0.05 between 0.8 and "
                       "1.5");
    if (request->hires.present && (request->hires.width > 0) != (request->hires.height > 0))
        ld_problem_add(check->problem, LD_E_INVALID,
                       request->hires.width > 0 ? "/hires/height" : "/hires/width",
                       "hires.width and hires.height must be given together");
    check_init(check);
    check_batch(check);
}

/* ---- Worth a word ---------------------------------------------------------------------------- */

/* What is given to something that is off. */
static void warn_idle(const struct check *check)
{
    const struct ld_request *request = check->request;
    const bool full = request->cfg_scale != 1.0;
    const struct {
        const char *field, *without;
        bool acts;
    } rows[] = {
        {"smea_scale", "smea", request->smea != LD_SMEA_OFF},
        {"variation.seed", "variation.strength", request->variation_strength > 0},
        {"guidance.sag_blur", "guidance.sag", request->guidance.sag != 0},
        {"guidance.rescale", "a cfg_scale other than 1", full},
        {"guidance.dynamic_threshold", "a cfg_scale other than 1", full},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (!rows[i].acts && ld_request_has(request, rows[i].field))
            ld_warnings_add(check->warnings, "%s has no effect without %s", rows[i].field,
                            rows[i].without);
}

static bool is_blank(const char *text)
{
    return !text || text[strspn(text, " \t\r\n")] == '\0';
}

/* Whether some pass has words to steer away from; presets have been placed by now. */
static bool has_negative(const struct ld_request *request)
{
    return !is_blank(request->negative_prompt) ||
           (request->hires.present && !is_blank(request->hires.negative_prompt));
}

static void warn(const struct check *check)
{
    const struct ld_request *request = check->request;
    struct ld_warnings *warnings = check->warnings;
    warn_idle(check);
    if (request->width % LD_SIDE_STEP_ADVISED || request->height % LD_SIDE_STEP_ADVISED)
        ld_warnings_add(warnings, "width and height are best multiples of %d",
                        LD_SIDE_STEP_ADVISED);
    if (request->sigma_count > 0 &&
        (ld_request_has(request, "scheduler") || ld_request_has(request, "steps")))
        ld_warnings_add(warnings, "sigmas replace scheduler and steps");
    if (request->cfg_scale == 1.0 && request->negative_prompt[0] &&
        ld_request_has(request, "negative_prompt"))
        ld_warnings_add(warnings, "with cfg_scale 1 the negative prompt has no effect");
    if (request->guidance.perp_neg != 0 && !has_negative(request))
        ld_warnings_add(warnings, "guidance.perp_neg has no effect without a negative prompt, and "
                                  "takes a third row of each step");
    if (request->hires.width > 0 && ld_request_has(request, "hires.scale"))
        ld_warnings_add(warnings, "hires.width and hires.height replace hires.scale");
    if (request->noise == LD_NOISE_CPU && request->seed > UINT32_MAX)
        ld_warnings_add(warnings, "noise \"cpu\" uses the lowest 32 bits of the seed only");
    if (request->profile == LD_PROFILE_A1111 && !ld_request_has(request, "noise"))
        ld_warnings_add(warnings, "profile a1111: noise is \"philox\" unless given");
    if (ld_request_has(request, "sampler_options.ensd") && request->profile != LD_PROFILE_A1111)
        ld_warnings_add(warnings, "sampler_options.ensd acts in profile a1111 only");
}

enum ld_code ld_request_check(struct ld_request *request, const struct ld_api_names *names,
                              const struct ld_request_limits *limits, struct ld_arena *arena,
                              struct ld_warnings *warnings, struct ld_problem *problem)
{
    const struct check check = {request, names, limits, arena, warnings, problem};
    const uint32_t before = problem->item_count + problem->dropped;
    check_names(&check);
    check_limits(&check);
    check_ranges(&check);
    ld_request_check_control(request, problem);
    ld_request_check_output(request, warnings, problem);
    warn(&check);
    return problem->item_count + problem->dropped > before ? problem->code : LD_OK;
}

/* ---- Pictures that are only enlarged --------------------------------------------------------- */

enum ld_code ld_request_check_upscale(const struct ld_request *request,
                                      const struct ld_request_limits *limits,
                                      struct ld_warnings *warnings, struct ld_problem *problem)
{
    uint32_t count;
    const struct ld_field *fields = ld_fields(&count);
    for (uint32_t i = 0; i < count; i++) {
        char pointer[LD_ERROR_POINTER_SIZE];
        if ((fields[i].flags & LD_FIELD_ITEM) || ld_field_parent(&fields[i]) ||
            ld_field_goes_with_upscale(&fields[i]) || !ld_request_has(request, fields[i].path) ||
            !ld_field_pointer(&fields[i], -1, pointer, sizeof pointer))
            continue;
        ld_problem_add(problem, LD_E_INVALID, pointer,
                       "%s has no meaning beside upscale, which enlarges a picture as it is",
                       fields[i].path);
    }
    if ((request->upscale.width > 0) != (request->upscale.height > 0))
        ld_problem_add(problem, LD_E_INVALID,
                       request->upscale.width > 0 ? "/upscale/height" : "/upscale/width",
                       "upscale.width and upscale.height must be given together");
    ld_request_check_output(request, warnings, problem);
    if (limits)
        check_priority(request, limits, problem);
    return problem->code;
}

enum ld_code ld_request_settle_upscale(struct ld_request *request, int32_t width, int32_t height,
                                       const struct ld_request_limits *limits,
                                       struct ld_problem *problem)
{
    struct ld_request_upscale *upscale = &request->upscale;
    const bool scaled = upscale->width == 0;
    const bool covers = !scaled && upscale->resize == LD_FIT_COVER;
    const double scale =
        covers ? fmax((double)upscale->width / width, (double)upscale->height / height)
               : upscale->scale;
    const bool shaped = scaled || covers; /* as the picture is */
    const double across = shaped ? nearbyint(width * scale) : upscale->width;
    const double down = shaped ? nearbyint(height * scale) : upscale->height;
    const int64_t key = (limits ? limits->area_max : LD_AREA_MAX) * LD_UPSCALE_AREA_FACTOR;
    const int64_t area_max = key < LD_AREA_MAX ? key : LD_AREA_MAX;
    const char *pointer = scaled ? "/upscale/scale" : "/upscale/width";
    if (across > LD_UPSCALE_SIDE_MAX || down > LD_UPSCALE_SIDE_MAX)
        return ld_problem_add(problem, LD_E_RANGE, pointer,
                              "upscale must give a picture with sides of at most %d pixels, not "
                              "%.0fx%.0f",
                              LD_UPSCALE_SIDE_MAX, across, down);
    if (across * down > (double)area_max)
        return ld_problem_add(problem, LD_E_RANGE, pointer,
                              "upscale must give a picture of at most %lld pixels, not %.0fx%.0f",
                              (long long)area_max, across, down);
    upscale->resize = shaped ? LD_FIT_STRETCH : upscale->resize;
    upscale->width = (int32_t)across;
    upscale->height = (int32_t)down;
    return LD_OK;
}
