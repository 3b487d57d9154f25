/*
 * What one pass of a job paints with: its model, the adapters of the request and of its prompt, and
 * for every range of steps in which the same adapters act the merged weights and the texts that
 * their text encoder makes.
 */
#include "runtime/job.h"

/* A step's share of all steps has rounding errors; 1e-9 is far below any step. */
static const double SHARE_EPSILON = 1e-9;

enum { REPORT_MAX = 64 * 1024 };

/* ---- Adapters -------------------------------------------------------------------------------- */

/*
 * Adapters mentioned in the prompt join those of the request in a list of the pass's own: the
 * request stays as it was asked, or running it again would apply a mention twice.
 */
static enum ld_code collect_adapters(struct ld_job_pass *pass, const struct ld_request *request,
                                     bool second, const struct ld_prompt *prompt,
                                     struct ld_error *err)
{
    const bool own = second && request->hires.loras_given;
    pass->lora_count = own ? request->hires.lora_count : request->lora_count;
    memcpy(pass->loras, own ? request->hires.loras : request->loras,
           pass->lora_count * sizeof pass->loras[0]);
    for (uint32_t i = 0; i < prompt->adapter_count; i++) {
        const struct ld_lora_mention *mention = &prompt->adapters[i];
        if (pass->lora_count == LD_REQUEST_LORAS_MAX)
            return LD_FAIL(err, LD_E_TOO_LARGE, "at most %d adapters may be used at once",
                           LD_REQUEST_LORAS_MAX);
        pass->loras[pass->lora_count++] = (struct ld_request_lora){
            .name = mention->name,
            .weight = mention->unet_weight,
            .text_weight = mention->text_weight,
            .start = 0,
            .end = 1,
        };
    }
    return LD_OK;
}

static bool acts_at(const struct ld_request_lora *lora, double share)
{
    return lora->start <= share && share < lora->end;
}

static bool is_listed(const struct ld_buffer *list, struct ld_span item)
{
    return list->size >= item.size && memmem(list->data, list->size, item.data, item.size);
}

/* Each adapter once, however many ranges and passes use it. */
static void tell_adapters(struct ld_job *job, const struct ld_buffer *lines)
{
    for (size_t at = 0; at < lines->size;) {
        const char *line = lines->data + at;
        const size_t size = strcspn(line, "\n");
        if (!is_listed(&job->adapters, ld_span_of(line, size))) {
            if (job->adapters.size)
                ld_buffer_byte(&job->adapters, ',');
            ld_buffer_bytes(&job->adapters, line, size);
        }
        at += size + 1;
    }
}

static enum ld_code merge_stage(struct ld_job *job, struct ld_library *library,
                                const struct ld_job_pass *pass, struct ld_job_stage *stage,
                                struct ld_error *err)
{
    struct ld_request_lora acting[LD_REQUEST_LORAS_MAX];
    uint32_t count = 0;
    for (uint32_t i = 0; i < pass->lora_count; i++)
        if (acts_at(&pass->loras[i], stage->start))
            acting[count++] = pass->loras[i];
    if (count == 0)
        return LD_OK;
    struct ld_buffer lines = ld_buffer_make(REPORT_MAX);
    const enum ld_code code = ld_library_variant(
        library, pass->model, acting, count, job->request.dora_norm, &stage->variant, &lines, err);
    if (code == LD_OK)
        tell_adapters(job, &lines);
    ld_buffer_deinit(&lines);
    return code;
}

/* ---- Preparing ------------------------------------------------------------------------------- */

/* What the model's own parametrisation and the profile make of sigma. */
static void init_table(struct ld_job_pass *pass, enum ld_profile profile)
{
    const struct ld_arch *arch = ld_model_arch(pass->model->model);
    const struct ld_sigma_table_config config = {
        .profile = profile,
        .beta_start = arch->beta_start,
        .beta_end = arch->beta_end,
        .zsnr = arch->zero_terminal_snr,
    };
    ld_sigma_table_init(&pass->table, &config);
}

static enum ld_code compile(struct ld_job *job, const struct ld_job_pass *pass, bool second,
                            struct ld_job_stage *stage, struct ld_error *err)
{
    const struct ld_conditioning_config config = {
        .request = &job->request,
        .model = pass->model,
        .hires = second,
        .share = job->given.share,
        .calls = ld_pass_calls_expected(&job->request, false),
        .calls_hires = second ? ld_pass_calls_expected(&job->request, true) : 0,
    };
    return ld_conditioning_create(&stage->conditioning, &job->arena, &config, err);
}

/* The ranges: their starts, and what each needs to be compiled. */
static enum ld_code plan_stages(struct ld_job *job, struct ld_job_pass *pass, bool second,
                                struct ld_error *err)
{
    double starts[LD_LORA_RANGES_MAX];
    pass->stage_count = ld_lora_ranges(pass->loras, pass->lora_count, starts);
    if (pass->stage_count > LD_LORA_RANGES_MAX) {
        pass->stage_count = 1;
        return LD_FAIL(err, LD_E_RANGE,
                       "the starts and ends of loras may divide the steps into at most %d ranges",
                       LD_LORA_RANGES_MAX);
    }
    for (uint32_t i = 0; i < pass->stage_count; i++)
        pass->stages[i].start = starts[i];
    for (uint32_t i = 1; i < pass->stage_count; i++)
        if (compile(job, pass, second, &pass->stages[i], err) != LD_OK)
            return err->code;
    return LD_OK;
}

enum ld_code ld_job_prepare_pass(struct ld_job *job, struct ld_library *library, uint32_t which,
                                 struct ld_error *err)
{
    struct ld_job_pass *pass = &job->passes[which];
    struct ld_request *request = &job->request;
    const bool second = which == 1;
    const bool other = second && request->hires.model[0];
    if (ld_library_model(library, other ? request->hires.model : request->model, &pass->model,
                         err) != LD_OK)
        return err->code;
    if (!second)
        request->model = pass->model->name;
    if (ld_model_is_streamed(pass->model->model) && (!second || other))
        ld_job_warn(
            job, "the weights of model '%.100s' are streamed to the GPU, which may slow its steps",
            pass->model->name);
    init_table(pass, request->profile);
    pass->stage_count = 1;
    if (compile(job, pass, second, &pass->stages[0], err) != LD_OK)
        return err->code;
    for (int kind = 0; kind < 2 && !second; kind++) {
        const struct ld_prompt *prompt =
            ld_conditioning_prompt(pass->stages[0].conditioning, (enum ld_pass_prompt)kind);
        for (uint32_t i = 0; i < prompt->notes.count; i++)
            ld_job_warn(job, "%s", prompt->notes.items[i]);
    }
    if (collect_adapters(pass, request, second,
                         ld_conditioning_prompt(pass->stages[0].conditioning, LD_PASS_POSITIVE),
                         err) != LD_OK ||
        plan_stages(job, pass, second, err) != LD_OK)
        return err->code;
    for (uint32_t i = 0; i < pass->stage_count; i++) {
        struct ld_job_stage *stage = &pass->stages[i];
        if (merge_stage(job, library, pass, stage, err) != LD_OK ||
            ld_conditioning_encode(stage->conditioning, &stage->variant, err) != LD_OK)
            return err->code;
    }
    return LD_OK;
}

void ld_job_release_pass(struct ld_job *job, struct ld_library *library, uint32_t which)
{
    struct ld_job_pass *pass = &job->passes[which];
    for (uint32_t i = 0; i < pass->stage_count; i++) {
        ld_conditioning_release(pass->stages[i].conditioning);
        ld_library_variant_release(library, &pass->stages[i].variant);
    }
    if (pass->model)
        ld_library_release(library, pass->model);
}

/* ---- What acts now --------------------------------------------------------------------------- */

const struct ld_job_pass *ld_session_pass(const struct ld_session *session)
{
    return &session->job->passes[session->second ? 1 : 0];
}

const struct ld_job_stage *ld_session_stage(const struct ld_session *session)
{
    const struct ld_job_pass *pass = ld_session_pass(session);
    const uint32_t steps = session->pass ? ld_pass_steps(session->pass) : 0;
    const double share = steps ? (double)ld_pass_step(session->pass) / (double)steps : 0;
    uint32_t at = 0;
    while (at + 1 < pass->stage_count && pass->stages[at + 1].start <= share + SHARE_EPSILON)
        at++;
    return &pass->stages[at];
}

struct ld_model *ld_job_vae(const struct ld_job *job, bool second)
{
    return job->vae ? job->vae : job->passes[second ? 1 : 0].model->model;
}
