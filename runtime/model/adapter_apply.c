/*
 * Adapters and models: modules are matched with tensors and checked once; what they change is
 * computed tensor by tensor, when somebody asks for it.
 */
#include "runtime/model/adapter_plan.h"
#include "runtime/model/adapter_rows.h"
#include "runtime/model/weights_private.h"

#include <stdlib.h>
#include <string.h>

/* One module changes one tensor: a weight, or the bias beside it. */
struct step {
    uint32_t key;
    uint32_t module;
    uint32_t weight; /* the key of the module's weight; equal to `key` unless that is the bias */
};

struct ld_adapter_plan {
    const struct ld_adapter *adapter;
    const struct ld_arch *arch; /* which parts there are */
    struct ld_adapter_options options;
    const struct ld_keymap *map;
    struct step *steps; /* sorted by key, then module; none for a strength of 0 */
    uint32_t step_count;
};

static double strength_of(const struct ld_adapter_plan *plan, const struct ld_key *key)
{
    return key->part == LD_PART_TEXT ? plan->options.text_strength : plan->options.unet_strength;
}

/* ---- Biases ---------------------------------------------------------------------------------- */

/* The key of the bias beside a weight, -1 if the module has none. */
static int32_t bias_key(const struct ld_keymap *map, const struct ld_key *weight)
{
    char name[256];
    const size_t stem = strlen(weight->name) - strlen("weight");
    return ld_fmt(name, sizeof name, "%.*sbias", (int)stem, weight->name)
               ? ld_keymap_find(map, name)
               : -1;
}

static const struct ld_st_tensor *bias_change(const struct ld_adapter_module *module)
{
    return module->slots[LD_SLOT_DIFF_BIAS] ? module->slots[LD_SLOT_DIFF_BIAS]
                                            : module->slots[LD_SLOT_NORM_BIAS];
}

/* A bias difference needs a bias of its length. */
static bool bias_fits(const struct ld_keymap *map, const struct ld_adapter_module *module,
                      const struct ld_key *weight)
{
    const struct ld_st_tensor *change = bias_change(module);
    const int32_t key = change ? bias_key(map, weight) : -1;
    return !change || (key >= 0 && ld_st_elements(change) ==
                                       (uint64_t)ld_keymap_at(map, (uint32_t)key)->shape[0]);
}

/* ---- Matching -------------------------------------------------------------------------------- */

static bool part_present(const struct ld_arch *arch, enum ld_part part)
{
    return part == LD_PART_TEXT ? arch->has_text : part == LD_PART_UNET && arch->has_unet;
}

/* Note what a module changes. False if it does not fit its weight. */
static bool add_module(struct ld_adapter_plan *plan, uint32_t index, uint32_t weight)
{
    const struct ld_adapter_module *module = &plan->adapter->modules[index];
    const struct ld_key *key = ld_keymap_at(plan->map, weight);
    const bool off = strength_of(plan, key) == 0;
    struct ld_delta delta;
    if (!ld_delta_plan(&delta, plan->adapter, module, key) || ld_adapter_rows_contradict(&delta) ||
        !bias_fits(plan->map, module, key))
        return false;
    if (!part_present(plan->arch, key->part))
        return true;
    if (delta.kind == LD_DELTA_REPLACE || (delta.kind != LD_DELTA_NONE && !off))
        plan->steps[plan->step_count++] = (struct step){weight, index, weight};
    if (bias_change(module) && !off)
        plan->steps[plan->step_count++] =
            (struct step){(uint32_t)bias_key(plan->map, key), index, weight};
    return true;
}

static void note_unmatched(struct ld_adapter_report *report, const char *name)
{
    if (report->modules_unmatched++ == 0)
        (void)ld_fmt(report->first_unmatched, sizeof report->first_unmatched, "%s", name);
}

/* Fill the steps; `unknown` counts tensors of modules that SD1.5 does not have. */
static enum ld_code match(struct ld_adapter_plan *plan, const struct ld_module_names *names,
                          struct ld_adapter_report *report, uint32_t *unknown, struct ld_error *err)
{
    for (uint32_t i = 0; i < plan->adapter->module_count; i++) {
        const struct ld_adapter_module *module = &plan->adapter->modules[i];
        const int32_t key = ld_module_names_find(names, module->name);
        if (module->families & LD_ADAPTER_OFT)
            return LD_FAIL(err, LD_E_UNSUPPORTED, "OFT and BOFT adapters are not supported");
        if (key < 0 || module->families == 0 || !add_module(plan, i, (uint32_t)key)) {
            note_unmatched(report, module->name);
            *unknown += module->families ? module->tensors : 0;
        } else if (!part_present(plan->arch, ld_keymap_at(plan->map, (uint32_t)key)->part)) {
            note_unmatched(report, module->name);
        } else {
            report->modules_applied++;
        }
    }
    return LD_OK;
}

static int by_key(const void *a, const void *b)
{
    const struct step *left = a;
    const struct step *right = b;
    if (left->key != right->key)
        return left->key < right->key ? -1 : 1;
    return left->module < right->module ? -1 : left->module > right->module;
}

/* Tensors, each counted once for every module that changes it. */
static enum ld_code fill(struct ld_adapter_plan *plan, const struct ld_weights *model,
                         struct ld_adapter_report *report, struct ld_error *err)
{
    uint32_t unknown = plan->adapter->info.unknown_tensors;
    plan->steps = ld_heap_calloc(2 * (size_t)plan->adapter->module_count, sizeof *plan->steps);
    if (!plan->steps)
        return LD_FAIL(err, LD_E_NOMEM, "not enough memory for an adapter");
    enum ld_code code = match(plan, &ld_weights_root(model)->modules, report, &unknown, err);
    if (code == LD_OK && 2 * (uint64_t)unknown > plan->adapter->info.tensors)
        code = LD_FAIL(err, LD_E_UNSUPPORTED,
                       "the adapter is not for SD1.5: %u of its %u tensors are unknown", unknown,
                       plan->adapter->info.tensors);
    if (plan->step_count)
        qsort(plan->steps, plan->step_count, sizeof *plan->steps, by_key);
    report->tensors_applied = plan->step_count;
    return code;
}

enum ld_code ld_adapter_plan_create(struct ld_adapter_plan **out, const struct ld_adapter *adapter,
                                    const struct ld_weights *model, const struct ld_arch *arch,
                                    const struct ld_adapter_options *options,
                                    struct ld_adapter_report *report, struct ld_error *err)
{
    *out = NULL;
    memset(report, 0, sizeof *report);
    struct ld_adapter_plan *plan = ld_heap_alloc(sizeof *plan);
    if (!plan)
        return LD_FAIL(err, LD_E_NOMEM, "not enough memory for an adapter");
    *plan = (struct ld_adapter_plan){
        .adapter = adapter, .arch = arch, .options = *options, .map = ld_weights_keymap(model)};
    const enum ld_code code = fill(plan, model, report, err);
    if (code == LD_OK)
        *out = plan;
    else
        ld_adapter_plan_destroy(plan);
    return code;
}

void ld_adapter_plan_destroy(struct ld_adapter_plan *plan)
{
    if (!plan)
        return;
    ld_heap_free(plan->steps);
    ld_heap_free(plan);
}

/* ---- One tensor ------------------------------------------------------------------------------ */

/* The first step of a tensor; step_count if it has none. */
static uint32_t first_step(const struct ld_adapter_plan *plan, uint32_t key)
{
    uint32_t low = 0;
    uint32_t high = plan->step_count;
    while (low < high) {
        const uint32_t middle = low + (high - low) / 2;
        if (plan->steps[middle].key < key)
            low = middle + 1;
        else
            high = middle;
    }
    return low < plan->step_count && plan->steps[low].key == key ? low : plan->step_count;
}

bool ld_adapter_plan_touches(const struct ld_adapter_plan *plan, uint32_t key)
{
    return first_step(plan, key) < plan->step_count;
}

static enum ld_code change_bias(const struct ld_adapter_plan *plan, const struct step *step,
                                const struct ld_weight_view *from, float *bias,
                                struct ld_error *err)
{
    const struct ld_key *key = ld_keymap_at(plan->map, step->key);
    const float strength = (float)strength_of(plan, key);
    const size_t count = (size_t)key->shape[0];
    float *values = ld_heap_calloc(count, sizeof *values);
    if (!values)
        return LD_FAIL(err, LD_E_NOMEM, "not enough memory for an adapter");
    if (from)
        ld_weight_view_decode(from, bias);
    ld_safetensors_decode(plan->adapter->file, bias_change(&plan->adapter->modules[step->module]),
                          values, count);
    for (size_t i = 0; i < count; i++)
        bias[i] += strength * values[i];
    ld_heap_free(values);
    return LD_OK;
}

static enum ld_code change_weight(const struct ld_adapter_plan *plan, const struct step *step,
                                  const struct ld_weight_view *from, float *values,
                                  struct ld_error *err)
{
    const struct ld_key *key = ld_keymap_at(plan->map, step->key);
    const struct ld_rows_options options = {.strength = strength_of(plan, key),
                                            .dora_norm = plan->options.dora_norm,
                                            .pool = plan->options.pool};
    struct ld_delta delta;
    const bool fits =
        ld_delta_plan(&delta, plan->adapter, &plan->adapter->modules[step->module], key);
    LD_ASSERT(fits); /* it did when the plan was made */
    return ld_adapter_rows_change(&delta, &options, from, values, err);
}

enum ld_code ld_adapter_plan_apply(struct ld_adapter_plan *plan, uint32_t key,
                                   const struct ld_weight_view *from, float *values,
                                   struct ld_error *err)
{
    enum ld_code code = LD_OK;
    for (uint32_t i = first_step(plan, key);
         code == LD_OK && i < plan->step_count && plan->steps[i].key == key; i++, from = NULL)
        code = plan->steps[i].key == plan->steps[i].weight
                   ? change_weight(plan, &plan->steps[i], from, values, err)
                   : change_bias(plan, &plan->steps[i], from, values, err);
    return code;
}

/* ---- Overlays -------------------------------------------------------------------------------- */

static bool touches(const void *ctx, uint32_t key)
{
    return ld_adapter_plan_touches(ctx, key);
}

static enum ld_code apply(void *ctx, uint32_t key, const struct ld_weight_view *from, float *values,
                          struct ld_error *err)
{
    return ld_adapter_plan_apply(ctx, key, from, values, err);
}

static void destroy(void *ctx)
{
    ld_adapter_plan_destroy(ctx);
}

enum ld_code ld_adapter_apply(const struct ld_adapter *adapter, struct ld_weights *overlay,
                              const struct ld_adapter_options *options,
                              struct ld_adapter_report *report, struct ld_error *err)
{
    struct ld_adapter_report ignored;
    struct ld_adapter_plan *plan;
    enum ld_code code = ld_adapter_plan_create(&plan, adapter, overlay, ld_weights_arch(overlay),
                                               options, report ? report : &ignored, err);
    if (code != LD_OK)
        return code;
    code =
        ld_weights_defer(overlay,
                         &(struct ld_weights_change){
                             .touches = touches, .apply = apply, .destroy = destroy, .ctx = plan},
                         err);
    if (code != LD_OK)
        ld_adapter_plan_destroy(plan);
    return code;
}
