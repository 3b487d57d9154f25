#include "runtime/model/control.h"
#include "runtime/model/model_state.h"

#include <string.h>

/* ---- Host rows ------------------------------------------------------------------------------- */

/* Where the rows of a request stand side by side in plan->host. */
struct host_rows {
    uint64_t *hint_serials; /* [controls, batch] of what stands in `hints` */
    float *x, *extra, *scale, *t, *context, *eps, *qkv;
    float *hints;    /* [controls, batch] hints */
    float *strength; /* [controls, outputs, batch] */
    int32_t *kv_len;
};

/* Floats of one row of each array; of a hint those of one. */
struct row_sizes {
    size_t latent, extra, context, qkv, hint, controls, outputs;
};

static struct row_sizes row_sizes(const struct ld_arch *arch, const struct ld_plan_key *key)
{
    const size_t positions = (size_t)key->unet.height * (size_t)key->unet.width;
    const struct ld_unet_middle middle = ld_unet_middle(arch, &key->unet, &key->options);
    return (struct row_sizes){
        .latent = LD_LATENT_CHANNELS * positions,
        .extra = (size_t)(arch->unet_in_channels - LD_LATENT_CHANNELS) * positions,
        .hint = LD_HINT_CHANNELS * LD_HINT_FACTOR * LD_HINT_FACTOR * positions,
        .controls = (size_t)key->options.controls,
        .outputs = (size_t)ld_control_outputs(arch),
        .context = (size_t)key->unet.context_tokens * (size_t)arch->unet_context,
        .qkv = key->options.middle_qkv
                   ? 3 * (size_t)middle.channels * (size_t)middle.height * (size_t)middle.width
                   : 0};
}

static size_t host_bytes(const struct row_sizes *sizes, size_t batch)
{
    /* x and eps; scale, t and kv_len are one float each. */
    const size_t plain = 2 * sizes->latent + sizes->extra + sizes->context + sizes->qkv + 3;
    const size_t control = sizes->controls * (sizes->hint + sizes->outputs);
    return batch * ((plain + control) * sizeof(float) + sizes->controls * sizeof(uint64_t));
}

static struct host_rows lay_out(float *host, const struct row_sizes *sizes, size_t batch)
{
    struct host_rows rows;
    rows.hint_serials = (void *)host;
    rows.x = (void *)(rows.hint_serials + sizes->controls * batch);
    rows.eps = rows.x + batch * sizes->latent;
    rows.extra = rows.eps + batch * sizes->latent;
    rows.context = rows.extra + batch * sizes->extra;
    rows.qkv = rows.context + batch * sizes->context;
    rows.hints = rows.qkv + batch * sizes->qkv;
    rows.strength = rows.hints + sizes->controls * batch * sizes->hint;
    rows.scale = rows.strength + sizes->controls * sizes->outputs * batch;
    rows.t = rows.scale + batch;
    rows.kv_len = (void *)(rows.t + batch);
    return rows;
}

/* ---- Gathering ------------------------------------------------------------------------------- */

/* Write `count` floats and zeros up to `size`; true if something changed. */
static bool replace(float *target, const float *source, size_t count, size_t size)
{
    bool changed = memcmp(target, source, count * sizeof *target) != 0;
    for (size_t i = count; i < size && !changed; i++)
        changed = target[i] != 0.0F;
    if (changed) {
        memcpy(target, source, count * sizeof *target);
        memset(target + count, 0, (size - count) * sizeof *target);
    }
    return changed;
}

/* What the ControlNets look at; true if a hint differs from the last run's. Hints are large, so it
 * is their numbers that are compared. */
static bool gather_hints(const struct ld_unet_request *request, const struct row_sizes *sizes,
                         const struct host_rows *rows)
{
    const size_t batch = request->row_count;
    bool changed = false;
    for (size_t net = 0; net < sizes->controls; net++)
        for (size_t b = 0; b < batch; b++) {
            const struct ld_unet_hint *hint = &request->rows[b].hints[net];
            const size_t place = net * batch + b;
            for (size_t i = 0; i < sizes->outputs; i++)
                rows->strength[(net * sizes->outputs + i) * batch + b] = hint->strength[i];
            if (rows->hint_serials[place] == hint->serial)
                continue;
            memcpy(rows->hints + place * sizes->hint, hint->planes, sizes->hint * sizeof(float));
            rows->hint_serials[place] = hint->serial;
            changed = true;
        }
    return changed;
}

/* Copy all rows in; returns true if a context or a hint differs from what the last run had. */
static bool gather(const struct ld_unet_request *request, const struct ld_arch *arch,
                   const struct row_sizes *sizes, const struct host_rows *rows)
{
    bool changed = gather_hints(request, sizes, rows);
    for (uint32_t b = 0; b < request->row_count; b++) {
        const struct ld_unet_row *row = &request->rows[b];
        memcpy(rows->x + b * sizes->latent, row->x, sizes->latent * sizeof(float));
        if (sizes->extra > 0)
            memcpy(rows->extra + b * sizes->extra, row->extra, sizes->extra * sizeof(float));
        rows->scale[b] = row->scale;
        rows->t[b] = row->t;
        rows->kv_len[b] = row->context_tokens;
        if (replace(rows->context + b * sizes->context, row->context,
                    (size_t)row->context_tokens * (size_t)arch->unet_context, sizes->context))
            changed = true;
    }
    return changed;
}

static void scatter(const struct ld_unet_request *request, const struct row_sizes *sizes,
                    const struct host_rows *rows)
{
    for (uint32_t b = 0; b < request->row_count; b++) {
        memcpy(request->rows[b].eps, rows->eps + b * sizes->latent, sizes->latent * sizeof(float));
        if (sizes->qkv > 0)
            memcpy(request->rows[b].qkv, rows->qkv + b * sizes->qkv, sizes->qkv * sizeof(float));
    }
}

/* ---- The request ----------------------------------------------------------------------------- */

static enum ld_code make_key(const struct ld_unet_request *request, const struct ld_arch *arch,
                             struct ld_plan_key *key, struct ld_error *err)
{
    int32_t tokens = 0;
    if (request->row_count < 1 || request->row_count > LD_UNET_BATCH_MAX || request->height < 1 ||
        request->height > LD_LATENT_SIDE_MAX || request->width < 1 ||
        request->width > LD_LATENT_SIDE_MAX)
        return LD_FAIL(err, LD_E_RANGE, "batch or picture size is out of range");
    for (uint32_t b = 0; b < request->row_count; b++) {
        const struct ld_unet_row *row = &request->rows[b];
        if (row->context_tokens < 1 || row->context_tokens > LD_UNET_CONTEXT_TOKENS_MAX)
            return LD_FAIL(err, LD_E_RANGE, "a context has no or too many tokens");
        LD_ASSERT(row->extra || arch->unet_in_channels == LD_LATENT_CHANNELS);
        LD_ASSERT(row->qkv || !request->options.middle_qkv);
        LD_ASSERT(row->hints || request->options.controls == 0);
        tokens = row->context_tokens > tokens ? row->context_tokens : tokens;
    }
    *key = (struct ld_plan_key){
        .part = LD_PART_UNET,
        .unet = {(int32_t)request->row_count, request->height, request->width, tokens},
        .options = request->options};
    return LD_OK;
}

static void bind(struct ld_graph_run *run, const struct host_rows *rows,
                 const struct row_sizes *sizes, size_t batch)
{
    for (size_t net = 0; net < sizes->controls; net++)
        run->in[LD_PORT_HINT + net] = rows->hints + net * batch * sizes->hint;
    run->in[LD_PORT_STRENGTH] = sizes->controls > 0 ? rows->strength : NULL;
    run->in[LD_PORT_X] = rows->x;
    run->in[LD_PORT_EXTRA] = rows->extra;
    run->in[LD_PORT_SCALE] = rows->scale;
    run->in[LD_PORT_T] = rows->t;
    run->in[LD_PORT_CONTEXT] = rows->context;
    run->in[LD_PORT_KV_LEN] = rows->kv_len;
    run->out[LD_PORT_OUT] = rows->eps;
    run->out[LD_PORT_QKV] = rows->qkv;
}

/* ---- ControlNets ----------------------------------------------------------------------------- */

/* Loaded, and of the UNet's widths. */
static enum ld_code load_controls(const struct ld_unet_request *request, const struct ld_arch *arch,
                                  struct ld_error *err)
{
    enum ld_code code = LD_OK;
    LD_ASSERT(request->options.controls <= LD_CONTROL_NETS_MAX);
    for (int32_t i = 0; code == LD_OK && i < request->options.controls; i++) {
        if (!ld_control_fits(ld_model_arch(request->controls[i]), arch))
            return LD_FAIL(err, LD_E_UNSUPPORTED,
                           "the ControlNet has other widths than this model's UNet");
        code = ld_model_load(request->controls[i], LD_PART_CONTROL, err);
    }
    return code;
}

/* Bind their weights; true if the plan's persistent values are what these made. */
static bool bind_controls(const struct ld_unet_request *request, const struct ld_plan *plan,
                          struct ld_graph_run *run)
{
    bool same = true;
    for (int32_t i = 0; i < request->options.controls; i++) {
        const struct ld_model_part *part = &request->controls[i]->parts[LD_PART_CONTROL];
        LD_ASSERT(part->pack.count == part->layout.count);
        run->more[i] = &part->pack;
        same = same && plan->control_owner[i] == part->pack.serial;
    }
    return same;
}

/* ---- The run --------------------------------------------------------------------------------- */

enum ld_code ld_model_unet(struct ld_model *model, struct ld_variant *variant,
                           const struct ld_unet_request *request, struct ld_error *err)
{
    const struct ld_arch *arch = ld_model_arch(model);
    struct ld_plan_key key;
    enum ld_code code = ld_model_load(model, LD_PART_UNET, err);
    if (code == LD_OK)
        code = load_controls(request, arch, err);
    if (code == LD_OK)
        code = make_key(request, arch, &key, err);
    if (code != LD_OK)
        return code;
    const struct row_sizes sizes = row_sizes(arch, &key);
    const uint64_t serial = variant ? variant->serial : LD_MODEL_SERIAL;
    struct ld_plan *plan;
    struct ld_graph_run run;
    code = ld_model_prepare(model, variant, &key, host_bytes(&sizes, request->row_count), &plan,
                            &run, err);
    if (code != LD_OK)
        return code;
    const struct host_rows rows = lay_out(plan->host, &sizes, request->row_count);
    const bool changed = gather(request, arch, &sizes, &rows);
    bind(&run, &rows, &sizes, request->row_count);
    const bool same_controls = bind_controls(request, plan, &run);
    run.cancel = request->cancel;
    run.meanwhile = request->meanwhile;
    run.skip_prologue = !changed && same_controls && plan->context_owner == serial;
    plan->context_owner = 0; /* an error leaves half-written keys and values */
    code = ld_model_run(model, plan, &run, err);
    if (code == LD_OK) {
        plan->context_owner = serial;
        for (int32_t i = 0; i < request->options.controls; i++)
            plan->control_owner[i] = run.more[i]->serial;
        scatter(request, &sizes, &rows);
    }
    return code;
}
