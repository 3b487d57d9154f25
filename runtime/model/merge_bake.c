#include "runtime/model/merge_bake.h"

#include <string.h>

enum ld_code ld_merge_bake_value(struct ld_merge_bake *bake, uint32_t index, float *dst,
                                 struct ld_error *err)
{
    const int32_t key = ld_keymap_find(bake->map, bake->items[index].key->name);
    enum ld_code code = bake->value(bake->ctx, index, dst, err);
    for (uint32_t i = 0; code == LD_OK && key >= 0 && i < bake->plan_count; i++)
        code = ld_adapter_plan_apply(bake->plans[i], (uint32_t)key, NULL, dst, err);
    return code;
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
                             uint32_t *tensors, uint32_t *unmatched, struct ld_error *err)
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
        *tensors = report.tensors_applied;
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
    bake->map = ld_weights_keymap(request->a.weights);
    bake->items = items;
    bake->value = value;
    bake->ctx = ctx;
    for (uint32_t i = 0; code == LD_OK && i < count; i++) {
        if (!has_own_shape(&items[i]))
            code = LD_FAIL(err, LD_E_SHAPE,
                           "adapters can be baked in where the inpainting model comes first");
    }
    for (uint32_t i = 0; code == LD_OK && i < request->adapter_count; i++)
        code = add_plan(bake, &request->adapters[i], request->a.weights, arch,
                        &report->adapter_tensors[i], &report->adapter_unmatched[i], err);
    return code;
}

void ld_merge_bake_deinit(struct ld_merge_bake *bake)
{
    for (uint32_t i = 0; i < bake->plan_count; i++)
        ld_adapter_plan_destroy(bake->plans[i]);
    bake->plan_count = 0;
}
