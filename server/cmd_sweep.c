#include "server/cmd_sweep.h"

#include "runtime/base/arena.h"

#include <string.h>

/* ---- Axes ------------------------------------------------------------------------------------ */

static enum ld_code no_memory(struct ld_error *err)
{
    return LD_FAIL(err, LD_E_NOMEM, "out of memory for the sweep");
}

/* The next value up to a comma that no backslash protects; `*text` is left behind it. */
static const char *next_value(const char **text, struct ld_arena *arena)
{
    char *value = ld_arena_alloc(arena, strlen(*text) + 1);
    size_t used = 0;
    if (!value)
        return NULL;
    for (; **text && **text != ','; ++*text) {
        if ((*text)[0] == '\\' && (*text)[1] == ',')
            ++*text;
        value[used++] = **text;
    }
    value[used] = '\0';
    return value;
}

static const char *make_label(const char *field, const char *value, struct ld_arena *arena)
{
    const size_t size = strlen(field) + strlen(value) + 3;
    char *label = ld_arena_alloc(arena, size);
    return label && ld_fmt(label, size, "%s: %s", field, value) ? label : NULL;
}

static enum ld_code read_values(struct ld_sweep_axis *axis, const char *text,
                                struct ld_arena *arena, struct ld_error *err)
{
    for (;;) {
        if (axis->count == LD_SWEEP_CELLS_MAX)
            return LD_FAIL(err, LD_E_RANGE, "a sweep may have %d cells", LD_SWEEP_CELLS_MAX);
        const char *value = next_value(&text, arena);
        const char *label = value ? make_label(axis->field, value, arena) : NULL;
        if (!label)
            return no_memory(err);
        axis->values[axis->count] = value;
        axis->labels[axis->count++] = label;
        if (!*text)
            return LD_OK;
        text++;
    }
}

enum ld_code ld_sweep_add(struct ld_sweep *sweep, const char *text, struct ld_arena *arena,
                          struct ld_error *err)
{
    const char *equals = strchr(text, '=');
    if (!equals || equals == text || !equals[1])
        return LD_FAIL(err, LD_E_INVALID, "a sweep is FIELD=VALUE,VALUE, not '%.60s'", text);
    if (sweep->axis_count == LD_SWEEP_AXES_MAX)
        return LD_FAIL(err, LD_E_RANGE, "a sweep may have %d axes", LD_SWEEP_AXES_MAX);
    struct ld_sweep_axis *axis = &sweep->axes[sweep->axis_count];
    memset(axis, 0, sizeof *axis);
    axis->field = ld_arena_strndup(arena, text, (size_t)(equals - text));
    if (!axis->field)
        return no_memory(err);
    for (uint32_t i = 0; i < sweep->axis_count; i++)
        if (strcmp(sweep->axes[i].field, axis->field) == 0)
            return LD_FAIL(err, LD_E_INVALID, "the sweep has %.60s on two axes", axis->field);
    const enum ld_code code = read_values(axis, equals + 1, arena, err);
    if (code != LD_OK)
        return code;
    sweep->axis_count++;
    return ld_sweep_cells(sweep) <= LD_SWEEP_CELLS_MAX
               ? LD_OK
               : LD_FAIL(err, LD_E_RANGE, "a sweep may have %d cells, not %u", LD_SWEEP_CELLS_MAX,
                         ld_sweep_cells(sweep));
}

/* ---- Cells ----------------------------------------------------------------------------------- */

uint32_t ld_sweep_cells(const struct ld_sweep *sweep)
{
    uint32_t cells = 1;
    for (uint32_t i = 0; i < sweep->axis_count; i++)
        cells *= sweep->axes[i].count; /* at most 64^3 */
    return cells;
}

enum ld_code ld_sweep_cell(const struct ld_sweep *sweep, uint32_t index,
                           const struct ld_request *base, struct ld_request *cell,
                           struct ld_arena *arena, struct ld_error *err)
{
    enum ld_code code = LD_OK;
    LD_ASSERT(index < ld_sweep_cells(sweep));
    *cell = *base;
    for (uint32_t i = 0; code == LD_OK && i < sweep->axis_count; i++) {
        const struct ld_sweep_axis *axis = &sweep->axes[i];
        code =
            ld_request_set_text(cell, arena, axis->field, axis->values[index % axis->count], err);
        index /= axis->count;
    }
    return code;
}

void ld_sweep_plan(const struct ld_sweep *sweep, struct ld_sheet_plan *plan)
{
    const struct ld_sweep_axis *axes = sweep->axes;
    memset(plan, 0, sizeof *plan);
    plan->columns = sweep->axis_count > 0 ? axes[0].count : 1;
    plan->rows = sweep->axis_count > 1 ? axes[1].count : 1;
    plan->pages = sweep->axis_count > 2 ? axes[2].count : 1;
    plan->column_labels = sweep->axis_count > 0 ? axes[0].labels : NULL;
    plan->row_labels = sweep->axis_count > 1 ? axes[1].labels : NULL;
    plan->page_labels = sweep->axis_count > 2 ? axes[2].labels : NULL;
}
