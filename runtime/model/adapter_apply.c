/*
 * Merging: modules are matched with weights, checked, and then merged in parallel, one task for
 * each weight of the model, so that what is written never depends on the number of threads.
 */
#include "runtime/model/adapter_delta.h"
#include "runtime/model/adapter_plan.h"
#include "runtime/model/lowrank.h"
#include "runtime/model/weights_private.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct step {
    uint32_t key;
    uint32_t module;
};

struct merge {
    const struct ld_adapter *adapter;
    const struct ld_weights *model; /* names and shapes; its values come through `edit` */
    const struct ld_arch *arch;     /* which parts there are */
    struct ld_adapter_options options;
    const struct ld_keymap *map;
    ld_adapter_edit_fn edit;
    void *edit_ctx;
    struct step *steps; /* sorted by key, then module */
    uint32_t step_count;
    uint32_t *groups; /* first step of each key; one more for the end */
    uint32_t group_count;
    atomic_bool no_memory;
    atomic_uint tensors_applied;
};

/* ---- DoRA ------------------------------------------------------------------------------------ */

enum dora_axis { DORA_OFF, DORA_PER_OUTPUT, DORA_PER_INPUT };

/* Leading dimension = outputs means per output, even for square weights; a bare vector is per
 * output only where its length leaves no choice. PEFT's vector is always per output. */
static enum dora_axis dora_axis(const struct ld_delta *delta, const struct ld_st_tensor **scale)
{
    const struct ld_adapter_module *module = delta->module;
    const size_t in = delta->columns / delta->kernel;
    *scale = module->slots[LD_SLOT_MAGNITUDE];
    if (*scale)
        return ld_st_elements(*scale) == delta->out ? DORA_PER_OUTPUT : DORA_OFF;
    *scale = module->slots[LD_SLOT_DORA];
    if (!*scale)
        return DORA_OFF;
    const uint64_t count = ld_st_elements(*scale);
    if ((*scale)->rank >= 2 && (*scale)->shape[0] == delta->out && count == delta->out)
        return DORA_PER_OUTPUT;
    if ((*scale)->rank >= 2 && (*scale)->shape[1] == in && count == in)
        return DORA_PER_INPUT;
    if ((*scale)->rank == 1 && count == delta->out && count != in)
        return DORA_PER_OUTPUT;
    if ((*scale)->rank == 1 && count == in)
        return DORA_PER_INPUT;
    return DORA_OFF;
}

/* True if the module has a magnitude that fits neither axis. */
static bool dora_contradicts(const struct ld_delta *delta)
{
    const struct ld_st_tensor *scale;
    const bool wanted =
        delta->module->slots[LD_SLOT_DORA] || delta->module->slots[LD_SLOT_MAGNITUDE];
    return wanted && dora_axis(delta, &scale) == DORA_OFF;
}

/* ---- One weight ------------------------------------------------------------------------------ */

struct scratch {
    float *delta, *second; /* [LD_LOWRANK_ROWS, columns] */
};

/* What a row loop works on. */
struct target {
    const struct ld_delta *delta;
    struct scratch scratch;
    float *w;
    double strength;
};

static size_t next_rows(const struct target *target, size_t first)
{
    const size_t left = target->delta->out - first;
    const size_t rows = left < LD_LOWRANK_ROWS ? left : LD_LOWRANK_ROWS;
    ld_delta_rows(target->delta, first, rows,
                  target->w + first * target->delta->in * target->delta->kernel,
                  target->scratch.delta, target->scratch.second);
    return rows;
}

static float *row_of(const struct target *target, size_t row)
{
    return target->w + row * target->delta->in * target->delta->kernel;
}

/* W += strength * scale * D */
static void add_delta(const struct target *target)
{
    const size_t columns = target->delta->columns;
    const float factor = (float)(target->strength * target->delta->scale);
    for (size_t first = 0; first < target->delta->out;) {
        const size_t rows = next_rows(target, first);
        for (size_t r = 0; r < rows; r++) {
            float *w = row_of(target, first + r);
            const float *d = target->scratch.delta + r * columns;
            for (size_t j = 0; j < columns; j++)
                w[j] += factor * d[j];
        }
        first += rows;
    }
}

/* W = what the adapter holds, whatever the strength. */
static void replace(const struct target *target)
{
    const size_t columns = target->delta->columns;
    for (size_t first = 0; first < target->delta->out;) {
        const size_t rows = next_rows(target, first);
        for (size_t r = 0; r < rows; r++)
            memcpy(row_of(target, first + r), target->scratch.delta + r * columns,
                   columns * sizeof(float));
        first += rows;
    }
}

/* V = W + scale * D, in place of D. */
static void merged_row(const struct target *target, const float *w, float *d)
{
    const float scale = (float)target->delta->scale;
    for (size_t j = 0; j < target->delta->columns; j++)
        d[j] = w[j] + scale * d[j];
}

/* W += strength * (V * factor - W) */
static void blend_row(const struct target *target, float *w, const float *v, size_t columns,
                      float factor)
{
    const float strength = (float)target->strength;
    for (size_t j = 0; j < columns; j++)
        w[j] += strength * (v[j] * factor - w[j]);
}

static double square_sum(const float *values, size_t count)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += (double)values[i] * (double)values[i];
    return sum;
}

static float magnitude_over(float magnitude, double squares)
{
    return (float)((double)magnitude / (sqrt(squares) + (double)FLT_EPSILON));
}

static void dora_per_output(const struct target *target, const float *magnitude,
                            enum ld_dora_norm norm)
{
    const size_t columns = target->delta->columns;
    for (size_t first = 0; first < target->delta->out;) {
        const size_t rows = next_rows(target, first);
        for (size_t r = 0; r < rows; r++) {
            float *w = row_of(target, first + r);
            float *d = target->scratch.delta + r * columns;
            const double before = norm == LD_DORA_COMFY ? square_sum(w, columns) : 0;
            merged_row(target, w, d);
            const double squares = norm == LD_DORA_COMFY ? before : square_sum(d, columns);
            blend_row(target, w, d, columns, magnitude_over(magnitude[first + r], squares));
        }
        first += rows;
    }
}

/* Two passes: the norms need every row, and D is made again rather than kept. */
static void dora_per_input(const struct target *target, const float *magnitude, double *squares)
{
    const size_t columns = target->delta->columns;
    const size_t kernel = target->delta->kernel;
    for (size_t first = 0; first < target->delta->out;) {
        const size_t rows = next_rows(target, first);
        for (size_t r = 0; r < rows; r++) {
            float *d = target->scratch.delta + r * columns;
            merged_row(target, row_of(target, first + r), d);
            for (size_t i = 0; i < columns / kernel; i++)
                squares[i] += square_sum(d + i * kernel, kernel);
        }
        first += rows;
    }
    for (size_t first = 0; first < target->delta->out;) {
        const size_t rows = next_rows(target, first);
        for (size_t r = 0; r < rows; r++) {
            float *w = row_of(target, first + r);
            float *d = target->scratch.delta + r * columns;
            merged_row(target, w, d);
            for (size_t i = 0; i < columns / kernel; i++)
                blend_row(target, w + i * kernel, d + i * kernel, kernel,
                          magnitude_over(magnitude[i], squares[i]));
        }
        first += rows;
    }
}

/* False without memory. */
static bool merge_dora(const struct target *target, enum dora_axis axis,
                       const struct ld_st_tensor *scale, enum ld_dora_norm norm)
{
    const size_t count = (size_t)ld_st_elements(scale);
    float *magnitude = ld_heap_calloc(count, sizeof *magnitude);
    double *squares = ld_heap_calloc(count, sizeof *squares);
    const bool ready = magnitude && squares;
    if (ready) {
        ld_safetensors_decode(target->delta->adapter->file, scale, magnitude, count);
        if (axis == DORA_PER_OUTPUT)
            dora_per_output(target, magnitude, norm);
        else
            dora_per_input(target, magnitude, squares);
    }
    ld_heap_free(magnitude);
    ld_heap_free(squares);
    return ready;
}

/* ---- One module ------------------------------------------------------------------------------ */

static double strength_of(const struct merge *merge, const struct ld_key *key)
{
    return key->part == LD_PART_TEXT ? merge->options.text_strength : merge->options.unet_strength;
}

/* False without memory. */
static bool merge_weight(struct merge *merge, struct ld_delta *delta, const struct ld_key *key)
{
    const double strength = strength_of(merge, key);
    if (delta->kind == LD_DELTA_NONE || (strength == 0 && delta->kind != LD_DELTA_REPLACE))
        return true;
    struct target target = {
        .delta = delta,
        .w = merge->edit(merge->edit_ctx, key->name),
        .strength = strength,
    };
    float *block = ld_heap_calloc(2 * LD_LOWRANK_ROWS * delta->columns, sizeof *block);
    target.scratch.delta = block;
    target.scratch.second = block ? block + LD_LOWRANK_ROWS * delta->columns : NULL;
    bool done = target.w && block && ld_delta_load(delta, NULL) == LD_OK;
    if (done) {
        const struct ld_st_tensor *scale;
        const enum dora_axis axis = dora_axis(delta, &scale);
        if (delta->kind == LD_DELTA_REPLACE)
            replace(&target);
        else if (axis == DORA_OFF)
            add_delta(&target);
        else
            done = merge_dora(&target, axis, scale, merge->options.dora_norm);
        atomic_fetch_add(&merge->tensors_applied, 1u);
    }
    ld_delta_deinit(delta);
    ld_heap_free(block);
    return done;
}

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

static bool merge_bias(struct merge *merge, const struct ld_adapter_module *module,
                       const struct ld_key *weight)
{
    const struct ld_st_tensor *change = bias_change(module);
    const float strength = (float)strength_of(merge, weight);
    if (!change || strength == 0)
        return true;
    const struct ld_key *key = ld_keymap_at(merge->map, (uint32_t)bias_key(merge->map, weight));
    const size_t count = (size_t)key->shape[0];
    float *bias = merge->edit(merge->edit_ctx, key->name);
    float *values = ld_heap_calloc(count, sizeof *values);
    const bool done = bias && values;
    if (done) {
        ld_safetensors_decode(merge->adapter->file, change, values, count);
        for (size_t i = 0; i < count; i++)
            bias[i] += strength * values[i];
        atomic_fetch_add(&merge->tensors_applied, 1u);
    }
    ld_heap_free(values);
    return done;
}

/* All modules that change one weight, in the order of their names. */
static void merge_group(void *ctx, uint32_t task, uint32_t worker)
{
    (void)worker;
    struct merge *merge = ctx;
    for (uint32_t i = merge->groups[task]; i < merge->groups[task + 1]; i++) {
        const struct ld_key *key = ld_keymap_at(merge->map, merge->steps[i].key);
        const struct ld_adapter_module *module = &merge->adapter->modules[merge->steps[i].module];
        struct ld_delta delta;
        if (!ld_delta_plan(&delta, merge->adapter, module, key) ||
            !merge_weight(merge, &delta, key) || !merge_bias(merge, module, key))
            atomic_store(&merge->no_memory, true);
    }
}

/* ---- Matching -------------------------------------------------------------------------------- */

static bool part_present(const struct ld_arch *arch, enum ld_part part)
{
    return part == LD_PART_TEXT ? arch->has_text : part == LD_PART_UNET && arch->has_unet;
}

static bool module_fits(const struct merge *merge, const struct ld_adapter_module *module,
                        const struct ld_key *key)
{
    struct ld_delta delta;
    return ld_delta_plan(&delta, merge->adapter, module, key) && !dora_contradicts(&delta) &&
           bias_fits(merge->map, module, key);
}

static void note_unmatched(struct ld_adapter_report *report, const char *name)
{
    if (report->modules_unmatched++ == 0)
        (void)ld_fmt(report->first_unmatched, sizeof report->first_unmatched, "%s", name);
}

/* Fill the steps; `unknown` counts tensors of modules that SD1.5 does not have. */
static enum ld_code match(struct merge *merge, struct ld_adapter_report *report, uint32_t *unknown,
                          struct ld_error *err)
{
    const struct ld_module_names *names = &ld_weights_root(merge->model)->modules;
    enum ld_code code = LD_OK;
    for (uint32_t i = 0; code == LD_OK && i < merge->adapter->module_count; i++) {
        const struct ld_adapter_module *module = &merge->adapter->modules[i];
        const int32_t key = ld_module_names_find(names, module->name);
        if (module->families & LD_ADAPTER_OFT) {
            code = LD_FAIL(err, LD_E_UNSUPPORTED, "OFT and BOFT adapters are not supported");
        } else if (key < 0 || module->families == 0 ||
                   !module_fits(merge, module, ld_keymap_at(merge->map, (uint32_t)key))) {
            note_unmatched(report, module->name);
            *unknown += module->families ? module->tensors : 0;
        } else if (!part_present(merge->arch, ld_keymap_at(merge->map, (uint32_t)key)->part)) {
            note_unmatched(report, module->name);
        } else {
            merge->steps[merge->step_count++] = (struct step){(uint32_t)key, i};
        }
    }
    return code;
}

static int by_key(const void *a, const void *b)
{
    const struct step *left = a;
    const struct step *right = b;
    if (left->key != right->key)
        return left->key < right->key ? -1 : 1;
    return left->module < right->module ? -1 : left->module > right->module;
}

static void make_groups(struct merge *merge)
{
    if (merge->step_count)
        qsort(merge->steps, merge->step_count, sizeof *merge->steps, by_key);
    for (uint32_t i = 0; i < merge->step_count; i++) {
        if (i == 0 || merge->steps[i].key != merge->steps[i - 1].key)
            merge->groups[merge->group_count++] = i;
    }
    merge->groups[merge->group_count] = merge->step_count;
}

/* ---- Plans ----------------------------------------------------------------------------------- */

struct ld_adapter_plan {
    struct merge merge;
};

static void deinit(struct merge *merge)
{
    ld_heap_free(merge->steps);
    ld_heap_free(merge->groups);
}

/* Match the modules; nothing is read or changed yet. */
static enum ld_code init(struct merge *merge, const struct ld_adapter *adapter,
                         const struct ld_weights *model, const struct ld_arch *arch,
                         const struct ld_adapter_options *options, struct ld_adapter_report *report,
                         struct ld_error *err)
{
    memset(report, 0, sizeof *report);
    memset(merge, 0, sizeof *merge);
    merge->adapter = adapter;
    merge->model = model;
    merge->arch = arch;
    merge->options = *options;
    merge->map = ld_weights_keymap(model);
    uint32_t unknown = adapter->info.unknown_tensors;
    merge->steps = ld_heap_calloc(adapter->module_count, sizeof *merge->steps);
    merge->groups = ld_heap_calloc((size_t)adapter->module_count + 1, sizeof *merge->groups);
    enum ld_code code = merge->steps && merge->groups
                            ? match(merge, report, &unknown, err)
                            : LD_FAIL(err, LD_E_NOMEM, "not enough memory for an adapter");
    if (code == LD_OK && 2 * (uint64_t)unknown > adapter->info.tensors)
        code = LD_FAIL(err, LD_E_UNSUPPORTED,
                       "the adapter is not for SD1.5: %u of its %u tensors are unknown", unknown,
                       adapter->info.tensors);
    if (code == LD_OK) {
        make_groups(merge);
        report->modules_applied = merge->step_count;
    }
    return code;
}

static enum ld_code outcome(const struct merge *merge, struct ld_error *err)
{
    return atomic_load(&merge->no_memory)
               ? LD_FAIL(err, LD_E_NOMEM, "not enough memory for an adapter")
               : LD_OK;
}

enum ld_code ld_adapter_plan_create(struct ld_adapter_plan **out, const struct ld_adapter *adapter,
                                    const struct ld_weights *model, const struct ld_arch *arch,
                                    const struct ld_adapter_options *options,
                                    struct ld_adapter_report *report, struct ld_error *err)
{
    *out = NULL;
    struct ld_adapter_plan *plan = ld_heap_alloc(sizeof *plan);
    if (!plan)
        return LD_FAIL(err, LD_E_NOMEM, "not enough memory for an adapter");
    const enum ld_code code = init(&plan->merge, adapter, model, arch, options, report, err);
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
    deinit(&plan->merge);
    ld_heap_free(plan);
}

enum ld_code ld_adapter_plan_apply(struct ld_adapter_plan *plan, const char *weight,
                                   ld_adapter_edit_fn edit, void *ctx, struct ld_error *err)
{
    struct merge *merge = &plan->merge;
    const int32_t key = ld_keymap_find(merge->map, weight);
    merge->edit = edit;
    merge->edit_ctx = ctx;
    for (uint32_t group = 0; key >= 0 && group < merge->group_count; group++) {
        if (merge->steps[merge->groups[group]].key == (uint32_t)key)
            merge_group(merge, group, 0);
    }
    return outcome(merge, err);
}

uint32_t ld_adapter_plan_tensors(const struct ld_adapter_plan *plan)
{
    return atomic_load(&plan->merge.tensors_applied);
}

/* ---- The whole ------------------------------------------------------------------------------- */

static float *edit_overlay(void *ctx, const char *name)
{
    struct ld_weights *overlay = ctx;
    return ld_weights_edit(overlay, name);
}

static void run_groups(struct merge *merge)
{
    if (merge->options.pool) {
        ld_pool_run(merge->options.pool, merge->group_count, merge_group, merge);
        return;
    }
    for (uint32_t i = 0; i < merge->group_count; i++)
        merge_group(merge, i, 0);
}

enum ld_code ld_adapter_apply(const struct ld_adapter *adapter, struct ld_weights *overlay,
                              const struct ld_adapter_options *options,
                              struct ld_adapter_report *report, struct ld_error *err)
{
    struct ld_adapter_report ignored;
    struct merge merge;
    report = report ? report : &ignored;
    enum ld_code code =
        init(&merge, adapter, overlay, ld_weights_arch(overlay), options, report, err);
    if (code == LD_OK) {
        merge.edit = edit_overlay;
        merge.edit_ctx = overlay;
        run_groups(&merge);
        report->tensors_applied = atomic_load(&merge.tensors_applied);
        code = outcome(&merge, err);
    }
    deinit(&merge);
    return code;
}
