#include "api/sweep.h"

#include "api/json_scan.h"

static const char *const axis_keys[LD_SWEEP_AXES_MAX] = {"x", "y", "z"};

/* ---- Axes ------------------------------------------------------------------------------------ */

static enum ld_code no_memory(struct ld_error *err)
{
    return LD_FAIL(err, LD_E_NOMEM, "out of memory for the sweep");
}

static const char *make_label(const char *field, const char *value, struct ld_arena *arena)
{
    const size_t size = strlen(field) + strlen(value) + 3;
    char *label = ld_arena_alloc(arena, size);
    return label && ld_fmt(label, size, "%s: %s", field, value) ? label : NULL;
}

/* What does not change the picture, and what a cell cannot have of its own. */
static bool is_shared(const struct ld_field *field)
{
    return (field->flags & LD_FIELD_DELIVERY) || field->kind == LD_FIELD_USER_DATA ||
           field->kind == LD_FIELD_IMAGE || strcmp(field->path, "images") == 0 ||
           strncmp(field->path, "output.", 7) == 0;
}

/* An axis without values under way; it counts once finish_axis has taken it. */
static struct ld_sweep_axis *begin_axis(struct ld_sweep *sweep, struct ld_span name,
                                        struct ld_arena *arena, struct ld_error *err)
{
    if (sweep->axis_count == LD_SWEEP_AXES_MAX) {
        (void)LD_FAIL(err, LD_E_RANGE, "a sweep may have %d axes", LD_SWEEP_AXES_MAX);
        return NULL;
    }
    struct ld_sweep_axis *axis = &sweep->axes[sweep->axis_count];
    memset(axis, 0, sizeof *axis);
    axis->field = ld_arena_strndup(arena, (const char *)name.data, name.size);
    if (!axis->field) {
        (void)no_memory(err);
        return NULL;
    }
    for (uint32_t i = 0; i < sweep->axis_count; i++) {
        if (strcmp(sweep->axes[i].field, axis->field) == 0) {
            (void)LD_FAIL(err, LD_E_INVALID, "the sweep has %.60s on two axes", axis->field);
            return NULL;
        }
    }
    const struct ld_field *field = ld_field_find(axis->field);
    if (field && is_shared(field)) {
        (void)LD_FAIL(err, LD_E_INVALID, "%.60s is the same for all cells of a sweep", axis->field);
        return NULL;
    }
    return axis;
}

static enum ld_code add_value(struct ld_sweep_axis *axis, const char *value, struct ld_arena *arena,
                              struct ld_error *err)
{
    if (axis->count == LD_SWEEP_CELLS_MAX)
        return LD_FAIL(err, LD_E_RANGE, "a sweep may have %d cells", LD_SWEEP_CELLS_MAX);
    const char *label = value ? make_label(axis->field, value, arena) : NULL;
    if (!label)
        return no_memory(err);
    axis->values[axis->count] = value;
    axis->labels[axis->count++] = label;
    return LD_OK;
}

static enum ld_code finish_axis(struct ld_sweep *sweep, struct ld_error *err)
{
    sweep->axis_count++;
    return ld_sweep_cells(sweep) <= LD_SWEEP_CELLS_MAX
               ? LD_OK
               : LD_FAIL(err, LD_E_RANGE, "a sweep may have %d cells, not %u", LD_SWEEP_CELLS_MAX,
                         ld_sweep_cells(sweep));
}

/* ---- As the command line gives it ------------------------------------------------------------ */

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

enum ld_code ld_sweep_add(struct ld_sweep *sweep, const char *text, struct ld_arena *arena,
                          struct ld_error *err)
{
    const char *equals = strchr(text, '=');
    if (!equals || equals == text || !equals[1])
        return LD_FAIL(err, LD_E_INVALID, "a sweep is FIELD=VALUE,VALUE, not '%.60s'", text);
    struct ld_sweep_axis *axis =
        begin_axis(sweep, ld_span_of(text, (size_t)(equals - text)), arena, err);
    if (!axis)
        return err->code;
    for (text = equals + 1;; text++) {
        const enum ld_code code = add_value(axis, next_value(&text, arena), arena, err);
        if (code != LD_OK)
            return code;
        if (!*text)
            return finish_axis(sweep, err);
    }
}

/* ---- As a request gives it ------------------------------------------------------------------- */

static enum ld_code refuse_shape(const char *key, struct ld_error *err)
{
    (void)LD_FAIL(
        err, LD_E_INVALID,
        "sweep.%s must be an object with a field and values, an array of strings, numbers "
        "or booleans",
        key);
    return ld_error_at(err, "/sweep/%s", key);
}

/* The text that the command line would give; NULL for what is no plain value. */
static const char *value_text(const struct ld_json_node *node, struct ld_arena *arena)
{
    struct ld_span text = node->text;
    if (node->kind == LD_JSON_STRING) {
        if (!ld_json_string_text(node, arena, &text) || memchr(text.data, '\0', text.size))
            return NULL;
    } else if (node->kind != LD_JSON_INTEGER && node->kind != LD_JSON_REAL &&
               node->kind != LD_JSON_TRUE && node->kind != LD_JSON_FALSE) {
        return NULL;
    }
    return ld_arena_strndup(arena, (const char *)text.data, text.size);
}

static enum ld_code read_axis(struct ld_sweep *sweep, const struct ld_json_tree *tree,
                              const struct ld_json_node *node, const char *key,
                              struct ld_arena *arena, struct ld_error *err)
{
    const bool object = node->kind == LD_JSON_OBJECT_BEGIN && node->child_count == 2;
    const struct ld_json_node *field = object ? ld_json_member(tree, node, "field") : NULL;
    const struct ld_json_node *values = object ? ld_json_member(tree, node, "values") : NULL;
    struct ld_span name;
    if (!field || field->kind != LD_JSON_STRING || !values || values->kind != LD_JSON_ARRAY_BEGIN ||
        values->child_count == 0)
        return refuse_shape(key, err);
    if (!ld_json_string_text(field, arena, &name))
        return no_memory(err);
    struct ld_sweep_axis *axis = begin_axis(sweep, name, arena, err);
    if (!axis)
        return ld_error_at(err, "/sweep/%s/field", key);
    for (const struct ld_json_node *item = ld_json_first(tree, values); item;
         item = ld_json_after(tree, item)) {
        const char *text = value_text(item, arena);
        if (!text)
            return refuse_shape(key, err);
        if (add_value(axis, text, arena, err) != LD_OK)
            return ld_error_at(err, "/sweep/%s/values", key);
    }
    return finish_axis(sweep, err) == LD_OK ? LD_OK : ld_error_at(err, "/sweep");
}

enum ld_code ld_sweep_read(struct ld_sweep *sweep, struct ld_span json, struct ld_arena *arena,
                           struct ld_error *err)
{
    struct ld_json_tree tree;
    uint32_t known = 0;
    memset(sweep, 0, sizeof *sweep);
    enum ld_code code = ld_json_scan(&tree, json, LD_JSON_DEPTH, LD_JSON_VALUES, arena, err);
    if (code != LD_OK)
        return code;
    const struct ld_json_node *root = ld_json_root(&tree);
    for (int i = 0; code == LD_OK && i < LD_SWEEP_AXES_MAX; i++) {
        const struct ld_json_node *axis =
            root->kind == LD_JSON_OBJECT_BEGIN ? ld_json_member(&tree, root, axis_keys[i]) : NULL;
        if (!axis)
            break; /* y needs x, z needs y */
        known++;
        code = read_axis(sweep, &tree, axis, axis_keys[i], arena, err);
    }
    if (code == LD_OK && (known == 0 || root->child_count != known)) {
        (void)LD_FAIL(err, LD_E_INVALID, "sweep must have x, or x and y, or x, y and z");
        code = ld_error_at(err, "/sweep");
    }
    return code;
}

void ld_sweep_write(const struct ld_sweep *sweep, struct ld_buffer *out)
{
    for (uint32_t i = 0; i < sweep->axis_count; i++) {
        const struct ld_sweep_axis *axis = &sweep->axes[i];
        ld_buffer_format(out, "%s\"%s\":{\"field\":", i ? "," : "{", axis_keys[i]);
        ld_buffer_json_string(out, axis->field);
        ld_buffer_text(out, ",\"values\":[");
        for (uint32_t j = 0; j < axis->count; j++) {
            if (j)
                ld_buffer_byte(out, ',');
            ld_buffer_json_string(out, axis->values[j]);
        }
        ld_buffer_text(out, "]}");
    }
    ld_buffer_text(out, sweep->axis_count ? "}" : "{}");
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
    LD_ASSERT(index < ld_sweep_cells(sweep));
    *cell = *base;
    cell->sweep = "";
    for (uint32_t i = 0; i < sweep->axis_count; i++) {
        const struct ld_sweep_axis *axis = &sweep->axes[i];
        const uint32_t at = index % axis->count;
        if (ld_request_set_text(cell, arena, axis->field, axis->values[at], err) != LD_OK)
            return ld_error_at(err, "/sweep/%s/values/%u", axis_keys[i], at);
        index /= axis->count;
    }
    return LD_OK;
}
