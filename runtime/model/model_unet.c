#include "runtime/model/model_state.h"

#include <string.h>

/* ---- Host rows ------------------------------------------------------------------------------- */

/* Where the rows of a request stand side by side in plan->host. */
struct host_rows {
    float *x, *extra, *scale, *t, *context, *eps, *qkv;
    int32_t *kv_len;
};

/* Floats of one row of each array. */
struct row_sizes {
    size_t latent, extra, context, qkv;
};

static struct row_sizes row_sizes(const struct ld_arch *arch, const struct ld_plan_key *key)
{
    const size_t positions = (size_t)key->unet.height * (size_t)key->unet.width;
    const struct ld_unet_middle middle = ld_unet_middle(arch, &key->unet, &key->options);
    return (struct row_sizes){
        .latent = LD_LATENT_CHANNELS * positions,
        .extra = (size_t)(arch->unet_in_channels - LD_LATENT_CHANNELS) * positions,
        .context = (size_t)key->unet.context_tokens * (size_t)arch->unet_context,
        .qkv = key->options.middle_qkv
                   ? 3 * (size_t)middle.channels * (size_t)middle.height * (size_t)middle.width
                   : 0};
}

static size_t host_bytes(const struct row_sizes *sizes, size_t batch)
{
    /* x and eps; scale, t and kv_len are one float each. */
    return batch * (2 * sizes->latent + sizes->extra + sizes->context + sizes->qkv + 3) *
           sizeof(float);
}

static struct host_rows lay_out(float *host, const struct row_sizes *sizes, size_t batch)
{
    struct host_rows rows;
    rows.x = host;
    rows.eps = rows.x + batch * sizes->latent;
    rows.extra = rows.eps + batch * sizes->latent;
    rows.context = rows.extra + batch * sizes->extra;
    rows.qkv = rows.context + batch * sizes->context;
    rows.scale = rows.qkv + batch * sizes->qkv;
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

/* Copy all rows in; returns true if a context differs from what the last run had. */
static bool gather(const struct ld_unet_request *request, const struct ld_arch *arch,
                   const struct row_sizes *sizes, const struct host_rows *rows)
{
    bool changed = false;
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
        tokens = row->context_tokens > tokens ? row->context_tokens : tokens;
    }
    *key = (struct ld_plan_key){
        .part = LD_PART_UNET,
        .unet = {(int32_t)request->row_count, request->height, request->width, tokens},
        .options = request->options};
    return LD_OK;
}

static void bind(struct ld_graph_run *run, const struct host_rows *rows)
{
    run->in[LD_PORT_X] = rows->x;
    run->in[LD_PORT_EXTRA] = rows->extra;
    run->in[LD_PORT_SCALE] = rows->scale;
    run->in[LD_PORT_T] = rows->t;
    run->in[LD_PORT_CONTEXT] = rows->context;
    run->in[LD_PORT_KV_LEN] = rows->kv_len;
    run->out[LD_PORT_OUT] = rows->eps;
    run->out[LD_PORT_QKV] = rows->qkv;
}

enum ld_code ld_model_unet(struct ld_model *model, struct ld_variant *variant,
                           const struct ld_unet_request *request, struct ld_error *err)
{
    const struct ld_arch *arch = ld_model_arch(model);
    struct ld_plan_key key;
    enum ld_code code = ld_model_load(model, LD_PART_UNET, err);
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
    bind(&run, &rows);
    run.cancel = request->cancel;
    run.meanwhile = request->meanwhile;
    run.skip_prologue = !changed && plan->context_owner == serial;
    plan->context_owner = 0; /* an error leaves half-written keys and values */
    code = ld_model_run(model, plan, &run, err);
    if (code == LD_OK) {
        plan->context_owner = serial;
        scatter(request, &sizes, &rows);
    }
    return code;
}
