#include "runtime/estimate.h"

#include "runtime/conditioning.h"

enum { ARENA_MAX = 64 << 20, SLOW_SECONDS = 600 };

void ld_rates_note(struct ld_rates *rates, int32_t height, int32_t width, uint32_t rows,
                   int64_t spent_us)
{
    const double positions = (double)height * (double)width * (double)rows;
    const double now = (double)spent_us / positions;
    const double weight = rates->passes == 0 ? 1.0 : 0.1;
    rates->unet_us_per_position += weight * (now - rates->unet_us_per_position);
    rates->passes++;
}

struct estimate {
    const struct ld_request *request;
    struct ld_resident *model;
    struct ld_conditioning *conditioning;
    int32_t height, width; /* latent of the largest pass */
    uint64_t rows;         /* UNet rows of the whole job, plain guidance */
    double row_positions;
    double effort; /* of a row with its ControlNets, beside one without */
    size_t memory_bytes;
};

/* ---- Parts ----------------------------------------------------------------------------------- */

static void count_rows(struct estimate *estimate)
{
    const struct ld_request *request = estimate->request;
    const double *weights;
    const uint32_t parts = ld_conditioning_parts(estimate->conditioning, &weights);
    const uint64_t per_call = parts + (request->cfg_scale > 1 || request->cfg_scale < 1 ? 1U : 0U);
    const uint64_t images = (uint64_t)request->images;
    const uint64_t first = images * per_call * ld_pass_calls_expected(request, false);
    estimate->rows = first;
    estimate->row_positions =
        (double)first * (double)(request->width / 8) * (double)(request->height / 8);
    if (request->hires.present) {
        const uint64_t second = images * per_call * ld_pass_calls_expected(request, true);
        estimate->rows += second;
        estimate->row_positions +=
            (double)second * (double)estimate->height * (double)estimate->width;
    }
}

static enum ld_code count_memory(struct estimate *estimate, const struct ld_backend *backend,
                                 struct ld_error *err)
{
    const struct ld_arch *arch = ld_model_arch(estimate->model->model);
    struct ld_cost alone;
    struct ld_cost unet;
    struct ld_cost decode;
    int32_t tokens = LD_CHUNK_TOKENS;
    const struct ld_unet_options plain = {0};
    const struct ld_unet_options controlled = {.controls =
                                                   (int32_t)estimate->request->control_count};
    for (int which = 0; which < 2; which++) {
        const int32_t chunks =
            (int32_t)ld_conditioning_prompt(estimate->conditioning, (enum ld_pass_prompt)which)
                ->chunk_count_max;
        tokens = chunks * LD_CHUNK_TOKENS > tokens ? chunks * LD_CHUNK_TOKENS : tokens;
    }
    const struct ld_unet_shape shape = {2, estimate->height, estimate->width, tokens};
    if (ld_cost_unet(&alone, arch, backend->act_dtype, &shape, &plain, err) != LD_OK ||
        ld_cost_unet(&unet, arch, backend->act_dtype, &shape, &controlled, err) != LD_OK ||
        ld_cost_decode(&decode, arch, backend->act_dtype, estimate->height, estimate->width, err) !=
            LD_OK)
        return err->code;
    const size_t scratch =
        unet.scratch_bytes > decode.scratch_bytes ? unet.scratch_bytes : decode.scratch_bytes;
    estimate->memory_bytes = ld_model_weight_bytes(estimate->model->model) + scratch +
                             unet.persistent_bytes + backend->library_bytes +
                             ld_pass_arena_bytes(estimate->height, estimate->width);
    estimate->effort = (double)unet.macs / (double)alone.macs;
    return LD_OK;
}

/* How the grammar read it: [{"text", "weight"}, ...]. */
static void write_segments(const struct ld_segments *segments, struct ld_buffer *out)
{
    ld_buffer_text(out, "\"segments\":[");
    for (uint32_t i = 0; i < segments->count; i++) {
        ld_buffer_text(out, i ? ",{\"text\":" : "{\"text\":");
        ld_buffer_json_string(out, segments->items[i].text);
        ld_buffer_text(out, ",\"weight\":");
        ld_buffer_json_double(out, segments->items[i].weight);
        ld_buffer_text(out, "}");
    }
    ld_buffer_text(out, "]");
}

static void write_tokens(const struct estimate *estimate, struct ld_buffer *out)
{
    static const char *const names[] = {"prompt", "negative_prompt"};
    ld_buffer_text(out, "\"tokens\":{");
    for (int which = 0; which < 2; which++) {
        const struct ld_prompt *prompt =
            ld_conditioning_prompt(estimate->conditioning, (enum ld_pass_prompt)which);
        ld_buffer_format(out, "%s\"%s\":[", which ? "," : "", names[which]);
        for (uint32_t i = 0; i < prompt->text_count; i++) {
            const struct ld_prompt_text *text = &prompt->texts[i];
            ld_buffer_format(out, "%s{\"total\":%u,\"chunks\":[", i ? "," : "", text->token_count);
            for (uint32_t c = 0; c < text->chunk_count; c++)
                ld_buffer_format(out, "%s%u", c ? "," : "", text->chunks[c].used);
            ld_buffer_text(out, "],");
            write_segments(&text->segments, out);
            ld_buffer_text(out, "}");
        }
        ld_buffer_text(out, "]");
    }
    ld_buffer_text(out, "}");
}

static void add_warning(struct ld_buffer *out, bool *first, const char *sentence)
{
    ld_buffer_text(out, *first ? "" : ",");
    ld_buffer_json_string(out, sentence);
    *first = false;
}

static void write_warnings(const struct estimate *estimate, double seconds, struct ld_buffer *out)
{
    bool first = true;
    ld_buffer_text(out, ",\"warnings\":[");
    for (int which = 0; which < 2; which++) {
        const struct ld_prompt *prompt =
            ld_conditioning_prompt(estimate->conditioning, (enum ld_pass_prompt)which);
        for (uint32_t i = 0; i < prompt->notes.count; i++)
            add_warning(out, &first, prompt->notes.items[i]);
    }
    if (estimate->request->tipo.present)
        add_warning(out, &first,
                    "tipo: tokens and seconds are those of the prompt as it was given");
    if (seconds > SLOW_SECONDS) {
        char sentence[96];
        (void)ld_fmt(sentence, sizeof sentence,
                     "this job will take about %.0f minutes on this machine", seconds / 60);
        add_warning(out, &first, sentence);
    }
    ld_buffer_text(out, "]");
}

/* ---- The whole ------------------------------------------------------------------------------- */

static enum ld_code estimate_with(struct estimate *estimate, const struct ld_backend *backend,
                                  const struct ld_rates *rates, struct ld_arena *arena,
                                  struct ld_buffer *out, struct ld_error *err)
{
    const struct ld_request *request = estimate->request;
    int64_t width;
    int64_t height;
    ld_request_final_size(request, &width, &height);
    estimate->height = (int32_t)(height / 8);
    estimate->width = (int32_t)(width / 8);
    const struct ld_conditioning_config config = {
        .request = request,
        .model = estimate->model,
        .calls = ld_pass_calls_expected(request, false),
    };
    if (ld_conditioning_create(&estimate->conditioning, arena, &config, err) != LD_OK ||
        count_memory(estimate, backend, err) != LD_OK)
        return err->code;
    count_rows(estimate);
    estimate->row_positions *= estimate->effort;
    const double seconds = rates->unet_us_per_position * estimate->row_positions / 1e6;
    ld_buffer_text(out, "{");
    write_tokens(estimate, out);
    ld_buffer_format(out, ",\"memory_bytes\":%zu,\"unet_rows\":%llu,\"seconds\":",
                     estimate->memory_bytes, (unsigned long long)estimate->rows);
    if (rates->passes > 0)
        ld_buffer_json_double(out, seconds);
    else
        ld_buffer_text(out, "null"); /* nothing was measured yet */
    write_warnings(estimate, rates->passes > 0 ? seconds : 0, out);
    ld_buffer_text(out, "}");
    return out->failed ? LD_FAIL(err, LD_E_NOMEM, "out of memory for the plan") : LD_OK;
}

/* A filter alone: the pixels of the result with their file, in less than a step's time. */
static enum ld_code estimate_upscale(const struct ld_request *request, struct ld_buffer *out,
                                     struct ld_error *err)
{
    enum { BYTES_PER_PIXEL = 4 + 8 }; /* RGBA, and the writer's scratch */
    const size_t pixels = (size_t)request->upscale.width * (size_t)request->upscale.height;
    ld_buffer_format(out,
                     "{\"tokens\":{\"prompt\":[],\"negative_prompt\":[]},\"memory_bytes\":%zu,"
                     "\"unet_rows\":0,\"seconds\":null,\"warnings\":[]}",
                     pixels * BYTES_PER_PIXEL);
    return out->failed ? LD_FAIL(err, LD_E_NOMEM, "out of memory for the plan") : LD_OK;
}

enum ld_code ld_estimate(struct ld_library *library, const struct ld_backend *backend,
                         const struct ld_rates *rates, const struct ld_request *request,
                         struct ld_buffer *out, struct ld_error *err)
{
    struct ld_arena arena;
    struct estimate estimate = {.request = request};
    if (request->upscale.present)
        return estimate_upscale(request, out, err);
    ld_arena_init(&arena, "plan", ARENA_MAX);
    enum ld_code code = ld_library_model(library, request->model, &estimate.model, err);
    if (code == LD_OK)
        code = estimate_with(&estimate, backend, rates, &arena, out, err);
    ld_conditioning_release(estimate.conditioning);
    if (estimate.model)
        ld_library_release(library, estimate.model);
    ld_arena_deinit(&arena);
    return code;
}
