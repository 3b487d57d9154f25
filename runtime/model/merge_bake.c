#include "runtime/model/merge_bake.h"

#include "runtime/base/arena.h"

#include <string.h>

/* ---- Held tensors ---------------------------------------------------------------------------- */

static void let_go(struct ld_merge_bake *bake)
{
    for (size_t i = 0; i < 2; i++) {
        ld_block_free(bake->held[i].values, bake->held[i].bytes);
        bake->held[i] = (struct ld_merge_held){.index = -1};
    }
}

/* By name in the sorted items, -1 if absent. */
static int64_t find(const struct ld_merge_bake *bake, const char *name)
{
    uint32_t low = 0;
    uint32_t high = bake->count;
    while (low < high) {
        const uint32_t middle = low + (high - low) / 2;
        const int order = strcmp(bake->items[middle].key->name, name);
        if (order == 0)
            return middle;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return -1;
}

/* The merged values of a tensor, made on the first call. */
static float *hold(struct ld_merge_bake *bake, int64_t index)
{
    struct ld_merge_held *place = NULL;
    for (size_t i = 0; i < 2; i++) {
        if (bake->held[i].index == index)
            return bake->held[i].values;
        if (bake->held[i].index < 0 && !place)
            place = &bake->held[i];
    }
    LD_ASSERT(place); /* weight and bias are all there is of a module */
    place->bytes = bake->items[index].count * sizeof(float);
    place->values = ld_block_alloc(place->bytes);
    if (place->values &&
        bake->value(bake->ctx, (uint32_t)index, place->values, &bake->error) != LD_OK) {
        ld_block_free(place->values, place->bytes);
        place->values = NULL;
    }
    if (place->values)
        place->index = index;
    return place->values;
}

static float *edit(void *ctx, const char *name)
{
    struct ld_merge_bake *bake = ctx;
    const int64_t index = find(bake, name);
    return index >= 0 ? hold(bake, index) : NULL;
}

/* ---- Modules --------------------------------------------------------------------------------- */

/* The weight beside a tensor: its own name with the last part replaced. */
static bool weight_of(const char *name, char *out, size_t size)
{
    const char *dot = strrchr(name, '.');
    return dot && ld_fmt(out, size, "%.*s.weight", (int)(dot - name), name);
}

static enum ld_code apply_all(struct ld_merge_bake *bake, const char *weight, struct ld_error *err)
{
    enum ld_code code = LD_OK;
    let_go(bake);
    for (uint32_t i = 0; code == LD_OK && i < bake->plan_count; i++)
        code = ld_adapter_plan_apply(bake->plans[i], weight, edit, bake, err);
    if (code == LD_OK)
        (void)ld_fmt(bake->module, sizeof bake->module, "%s", weight);
    else if (bake->error.code != LD_OK)
        *err = bake->error;
    return code;
}

enum ld_code ld_merge_bake_value(struct ld_merge_bake *bake, uint32_t index, float *dst,
                                 struct ld_error *err)
{
    char weight[sizeof bake->module];
    enum ld_code code = LD_OK;
    if (!weight_of(bake->items[index].key->name, weight, sizeof weight))
        return bake->value(bake->ctx, index, dst, err);
    if (strcmp(bake->module, weight) != 0)
        code = apply_all(bake, weight, err);
    if (code != LD_OK)
        return code;
    for (size_t i = 0; i < 2; i++) {
        if (bake->held[i].index == (int64_t)index) {
            memcpy(dst, bake->held[i].values, bake->held[i].bytes);
            return LD_OK;
        }
    }
    return bake->value(bake->ctx, index, dst, err); /* no adapter wants it */
}

/* ---- Life ------------------------------------------------------------------------------------ */

static void name_adapter(const struct ld_merge_adapter *adapter, struct ld_error *err)
{
    char why[LD_ERROR_DETAIL_SIZE];
    const char *slash = strrchr(adapter->path, '/');
    if (!err)
        return;
    memcpy(why, err->detail, sizeof why);
    (void)ld_fmt(err->detail, sizeof err->detail, "adapter '%.100s': %.300s",
                 slash ? slash + 1 : adapter->path, why);
}

static enum ld_code add_plan(struct ld_merge_bake *bake, const struct ld_merge_adapter *adapter,
                             const struct ld_weights *model, const struct ld_arch *arch,
                             uint32_t *unmatched, struct ld_error *err)
{
    struct ld_adapter_report report;
    const struct ld_adapter_options options = {
        .unet_strength = adapter->weight,
        .text_strength = adapter->text_weight,
        .dora_norm = adapter->dora_norm,
    };
    enum ld_code code = ld_adapter_plan_create(&bake->plans[bake->plan_count], adapter->adapter,
                                               model, arch, &options, &report, err);
    if (code == LD_OK) {
        bake->plan_count++;
        *unmatched = report.modules_unmatched;
        if (report.modules_applied == 0)
            code = LD_FAIL(err, LD_E_UNSUPPORTED, "it fits no tensor of this model");
    }
    if (code != LD_OK)
        name_adapter(adapter, err);
    return code;
}

/* Adapters are matched against the shapes of the first model. */
static bool has_own_shape(const struct ld_model_item *item)
{
    int64_t count = 1;
    if (item->key->part != LD_PART_UNET)
        return true;
    for (int32_t i = 0; i < item->key->rank; i++)
        count *= item->key->shape[i];
    return count == (int64_t)item->count;
}

enum ld_code ld_merge_bake_init(struct ld_merge_bake *bake, const struct ld_merge_request *request,
                                const struct ld_arch *arch, const struct ld_model_item *items,
                                uint32_t count, ld_merge_value_fn value, void *ctx,
                                struct ld_merge_report *report, struct ld_error *err)
{
    enum ld_code code = LD_OK;
    memset(bake, 0, sizeof *bake);
    bake->items = items;
    bake->count = count;
    bake->value = value;
    bake->ctx = ctx;
    bake->held[0].index = bake->held[1].index = -1;
    for (uint32_t i = 0; code == LD_OK && i < count; i++) {
        if (!has_own_shape(&items[i]))
            code = LD_FAIL(err, LD_E_SHAPE,
                           "adapters can be baked in where the inpainting model comes first");
    }
    for (uint32_t i = 0; code == LD_OK && i < request->adapter_count; i++)
        code = add_plan(bake, &request->adapters[i], request->a.weights, arch,
                        &report->adapter_unmatched[i], err);
    return code;
}

void ld_merge_bake_finish(struct ld_merge_bake *bake, struct ld_merge_report *report)
{
    for (uint32_t i = 0; i < bake->plan_count; i++) {
        report->adapter_tensors[i] = ld_adapter_plan_tensors(bake->plans[i]);
        ld_adapter_plan_destroy(bake->plans[i]);
    }
    if (bake->items)
        let_go(bake);
    bake->plan_count = 0;
}
