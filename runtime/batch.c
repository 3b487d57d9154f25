#include "runtime/batch.h"

#include "runtime/image/pixels.h"
#include "runtime/model/control.h"
#include "runtime/model/unet_sag.h"

void ld_batch_memory_deinit(struct ld_batch_memory *memory)
{
    ld_heap_free(memory->data);
    memset(memory, 0, sizeof *memory);
}

static struct ld_model *control_of(const struct ld_session *session, const struct ld_pass_row *row,
                                   int32_t net)
{
    return session->job->controls[row->controls[net].unit].model;
}

/* The same ControlNets in the same order; `options` agree. */
static bool same_controls(const struct ld_session *a, const struct ld_pass_row *of_a,
                          const struct ld_session *b, const struct ld_pass_row *of_b)
{
    for (int32_t net = 0; net < of_a->options.controls; net++)
        if (control_of(a, of_a, net) != control_of(b, of_b, net))
            return false;
    return true;
}

static bool fits(const struct ld_batch *batch, const struct ld_session *session,
                 const struct ld_pass_row *row)
{
    if (batch->count == 0)
        return true;
    const struct ld_session *first = batch->sessions[0];
    if (first != session && (first->alone || session->alone))
        return false;
    return ld_session_pass(first)->model == ld_session_pass(session)->model &&
           ld_session_stage(first)->variant.serial == ld_session_stage(session)->variant.serial &&
           first->height == session->height && first->width == session->width &&
           ld_unet_options_equal(&batch->rows[0]->options, &row->options) &&
           same_controls(first, batch->rows[0], session, row);
}

uint32_t ld_batch_add(struct ld_batch *batch, struct ld_session *session, uint32_t rows_max)
{
    uint32_t count;
    uint32_t added = 0;
    struct ld_pass_row *rows = ld_pass_rows(session->pass, &count);
    for (uint32_t i = 0; i < count && batch->count < rows_max; i++) {
        if (rows[i].done || !fits(batch, session, &rows[i]))
            continue;
        batch->sessions[batch->count] = session;
        batch->rows[batch->count++] = &rows[i];
        added++;
    }
    return added;
}

static float *room(struct ld_batch_memory *memory, size_t count)
{
    if (count > memory->count) {
        ld_heap_free(memory->data);
        memory->count = 0;
        memory->data = ld_heap_calloc(count, sizeof(float));
        if (memory->data)
            memory->count = count;
    }
    return memory->data;
}

/* ---- Memory ---------------------------------------------------------------------------------- */

/* Where one row's tensors lie in the shared memory. */
struct layout {
    size_t latent, qkv, tokens;
    size_t row; /* floats a row takes */
};

static struct layout layout_of(const struct ld_batch *batch, struct ld_unet_middle *middle)
{
    const struct ld_session *first = batch->sessions[0];
    const struct ld_arch *arch = ld_model_arch(ld_session_pass(first)->model->model);
    const struct ld_unet_shape shape = {(int32_t)batch->count, first->height, first->width,
                                        LD_CHUNK_TOKENS};
    struct layout layout = {.latent = (size_t)LD_LATENT_CHANNELS * (size_t)first->height *
                                      (size_t)first->width};
    if (batch->rows[0]->options.middle_qkv) {
        *middle = ld_unet_middle(arch, &shape, &batch->rows[0]->options);
        layout.tokens = (size_t)middle->height * (size_t)middle->width;
        layout.qkv = 3 * (size_t)middle->channels * layout.tokens;
    }
    layout.row = 2 * layout.latent + layout.qkv + layout.tokens;
    return layout;
}

/* ---- Sessions by themselves ------------------------------------------------------------------ */

struct each {
    struct ld_session *sessions[LD_BATCH_ROWS_MAX];
    uint32_t count;
    ld_batch_act act;
    void *ctx;
};

static void act_on(void *ctx, uint32_t task, uint32_t worker)
{
    (void)worker;
    const struct each *each = ctx;
    each->act(each->ctx, each->sessions[task]);
}

void ld_batch_each(const struct ld_batch *batch, ld_batch_act act, void *ctx)
{
    struct each each = {.act = act, .ctx = ctx};
    for (uint32_t i = 0; i < batch->count; i++) {
        uint32_t k = 0;
        while (k < each.count && each.sessions[k] != batch->sessions[i])
            k++;
        if (k == each.count)
            each.sessions[each.count++] = batch->sessions[i];
    }
    if (batch->pool && each.count > 1) {
        ld_pool_run(batch->pool, each.count, act_on, &each);
        return;
    }
    for (uint32_t k = 0; k < each.count; k++)
        act(ctx, each.sessions[k]);
}

/* The noise that the session's sampler will want next. */
static void draw(void *ctx, struct ld_session *session)
{
    (void)ctx;
    ld_pass_ahead(session->pass);
}

/* While the device computes. */
static void draw_ahead(void *ctx)
{
    ld_batch_each(ctx, draw, NULL);
}

struct results {
    const struct ld_batch *batch;
    const struct ld_unet_row *rows;
    const struct layout *layout;
};

/* What the network made of a session's rows. Those with attention are left to
 * take_with_attention: few ask for it, and its scores may fail. */
static void take(void *ctx, struct ld_session *session)
{
    const struct results *results = ctx;
    const struct ld_batch *batch = results->batch;
    for (uint32_t i = 0; i < batch->count; i++)
        if (batch->sessions[i] == session)
            session->overflowed = session->overflowed ||
                                  !ld_values_finite(results->rows[i].eps, results->layout->latent);
    if (session->overflowed || results->layout->qkv)
        return;
    for (uint32_t i = 0; i < batch->count; i++)
        if (batch->sessions[i] == session)
            ld_pass_row_done(session->pass, batch->rows[i], results->rows[i].eps, NULL, 0);
}

static enum ld_code take_with_attention(const struct results *results,
                                        const struct ld_unet_middle *middle, struct ld_error *err)
{
    const struct ld_batch *batch = results->batch;
    const struct layout *layout = results->layout;
    for (uint32_t i = 0; i < batch->count; i++) {
        struct ld_session *session = batch->sessions[i];
        const struct ld_unet_row *row = &results->rows[i];
        float *attention = row->qkv + layout->qkv;
        if (session->overflowed)
            continue;
        if (ld_sag_scores(row->qkv, middle->channels, middle->heads, (int32_t)layout->tokens,
                          attention, err) != LD_OK)
            return err->code;
        ld_pass_row_done(session->pass, batch->rows[i], row->eps, attention,
                         (int32_t)layout->tokens);
    }
    return LD_OK;
}

/* ---- ControlNets ----------------------------------------------------------------------------- */

struct row_hints {
    struct ld_unet_hint hints[LD_REQUEST_CONTROLS_MAX];
    float strength[LD_REQUEST_CONTROLS_MAX][LD_CONTROL_OUTPUTS_MAX];
};
_Static_assert((int)LD_REQUEST_CONTROLS_MAX <= (int)LD_CONTROL_NETS_MAX, "every unit has a net");

static void take_hints(const struct ld_session *session, const struct ld_pass_row *row,
                       const struct ld_arch *arch, struct row_hints *out)
{
    for (int32_t net = 0; net < row->options.controls; net++) {
        const struct ld_row_control *control = &row->controls[net];
        const struct ld_job_hint *hint =
            &session->job->controls[control->unit].hints[session->second ? 1 : 0];
        LD_ASSERT(hint->width == LD_HINT_FACTOR * session->width &&
                  hint->height == LD_HINT_FACTOR * session->height);
        ld_row_control_strength(control, ld_control_outputs(arch), out->strength[net]);
        out->hints[net] = (struct ld_unet_hint){
            .planes = hint->planes, .serial = hint->serial, .strength = out->strength[net]};
    }
}

/* ---- A pass ---------------------------------------------------------------------------------- */

enum ld_code ld_batch_run(struct ld_batch *batch, struct ld_batch_memory *memory,
                          const struct ld_cancel *interrupt, struct ld_error *err)
{
    struct ld_unet_row rows[LD_BATCH_ROWS_MAX];
    struct row_hints hints[LD_BATCH_ROWS_MAX];
    struct ld_model *controls[LD_REQUEST_CONTROLS_MAX] = {0};
    struct ld_unet_middle middle = {0};
    LD_ASSERT(batch->count > 0 && batch->count <= LD_BATCH_ROWS_MAX);
    const struct layout layout = layout_of(batch, &middle);
    float *data = room(memory, layout.row * batch->count);
    if (!data)
        return LD_FAIL(err, LD_E_NOMEM, "out of memory for this picture size");
    const struct ld_session *first = batch->sessions[0];
    struct ld_model *model = ld_session_pass(first)->model->model;
    for (int32_t net = 0; net < batch->rows[0]->options.controls; net++)
        controls[net] = control_of(first, batch->rows[0], net);
    for (uint32_t i = 0; i < batch->count; i++) {
        const struct ld_pass_row *row = batch->rows[i];
        take_hints(batch->sessions[i], row, ld_model_arch(model), &hints[i]);
        const struct ld_job *job = batch->sessions[i]->job;
        float *x = data + i * layout.row;
        for (size_t k = 0; k < layout.latent; k++)
            x[k] = (float)row->x[k];
        const struct ld_context context =
            ld_conditioning_at(ld_session_stage(batch->sessions[i])->conditioning, row->prompt,
                               row->part, ld_pass_call(batch->sessions[i]->pass));
        rows[i] = (struct ld_unet_row){
            .x = x,
            .scale = (float)row->wrapping.c_in,
            .t = (float)row->wrapping.timestep,
            .extra = job->extra[batch->sessions[i]->second ? 1 : 0],
            .context = context.data,
            .context_tokens = context.tokens,
            .hints = hints[i].hints,
            .eps = x + layout.latent,
            .qkv = layout.qkv ? x + 2 * layout.latent : NULL,
        };
    }
    const struct ld_unet_request request = {
        .rows = rows,
        .row_count = batch->count,
        .height = first->height,
        .width = first->width,
        .options = batch->rows[0]->options,
        .controls = controls,
        .cancel = interrupt,
        .meanwhile = {.act = draw_ahead, .ctx = batch},
    };
    if (ld_model_unet(model, ld_session_stage(first)->variant.variant, &request, err) != LD_OK)
        return err->code;
    struct results results = {batch, rows, &layout};
    ld_batch_each(batch, take, &results);
    return layout.qkv ? take_with_attention(&results, &middle, err) : LD_OK;
}
