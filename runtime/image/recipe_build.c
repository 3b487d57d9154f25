#include "runtime/image/recipe_build.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { NOTE_BYTES_MAX = 16 * 1024 };

void ld_recipe_init(struct ld_recipe *recipe, enum ld_recipe_source source)
{
    memset(recipe, 0, sizeof *recipe);
    recipe->source = source;
    recipe->request = ld_buffer_make(LD_RECIPE_BYTES_MAX);
    recipe->notes = ld_buffer_make(2 * NOTE_BYTES_MAX);
    ld_buffer_text(&recipe->request, "{}");
    ld_buffer_text(&recipe->notes, "[]");
}

void ld_recipe_fields_init(struct ld_recipe_fields *fields)
{
    memset(fields, 0, sizeof *fields);
    fields->values = ld_buffer_make(LD_RECIPE_BYTES_MAX);
    fields->notes = ld_buffer_make(NOTE_BYTES_MAX);
}

/* ---- Putting --------------------------------------------------------------------------------- */

/* The field's place; `count` where it is not there. */
static size_t find_field(const struct ld_recipe_fields *fields, const char *path)
{
    size_t i = 0;
    while (i < fields->count && strcmp(fields->field[i].path, path) != 0)
        i++;
    return i;
}

/* Room for a value that the caller now appends to `values`; close_field ends it. */
static struct ld_recipe_field *open_field(struct ld_recipe_fields *fields, const char *path)
{
    const size_t at = find_field(fields, path);
    if (at == LD_RECIPE_FIELDS_MAX) {
        fields->failed = true;
        return NULL;
    }
    if (at == fields->count)
        fields->count++;
    struct ld_recipe_field *field = &fields->field[at];
    field->path = path;
    field->at = fields->values.size;
    return field;
}

static void close_field(struct ld_recipe_fields *fields, struct ld_recipe_field *field)
{
    field->size = fields->values.size - field->at;
    fields->failed = fields->failed || fields->values.failed;
}

void ld_recipe_put_json(struct ld_recipe_fields *fields, const char *path, struct ld_span json)
{
    struct ld_recipe_field *field = open_field(fields, path);
    if (!field)
        return;
    ld_buffer_bytes(&fields->values, json.data, json.size);
    close_field(fields, field);
}

void ld_recipe_put_text(struct ld_recipe_fields *fields, const char *path, struct ld_span text)
{
    struct ld_recipe_field *field = open_field(fields, path);
    if (!field)
        return;
    ld_buffer_json_span(&fields->values, text);
    close_field(fields, field);
}

void ld_recipe_put_string(struct ld_recipe_fields *fields, const char *path, const char *text)
{
    ld_recipe_put_text(fields, path, ld_span_text(text));
}

void ld_recipe_put_bool(struct ld_recipe_fields *fields, const char *path, bool value)
{
    ld_recipe_put_json(fields, path, ld_span_text(value ? "true" : "false"));
}

void ld_recipe_put_integer(struct ld_recipe_fields *fields, const char *path, int64_t value)
{
    char text[32];
    (void)ld_fmt(text, sizeof text, "%lld", (long long)value);
    ld_recipe_put_json(fields, path, ld_span_text(text));
}

void ld_recipe_put_seed(struct ld_recipe_fields *fields, const char *path, uint64_t value)
{
    char text[32];
    (void)ld_fmt(text, sizeof text, value > (uint64_t)INT64_MAX ? "\"%llu\"" : "%llu",
                 (unsigned long long)value);
    ld_recipe_put_json(fields, path, ld_span_text(text));
}

void ld_recipe_put_double(struct ld_recipe_fields *fields, const char *path, double value)
{
    struct ld_recipe_field *field = open_field(fields, path);
    if (!field)
        return;
    if (value == rint(value) && fabs(value) < 1e15)
        ld_buffer_format(&fields->values, "%.0f", value);
    else
        ld_buffer_json_double(&fields->values, value);
    close_field(fields, field);
}

bool ld_recipe_put_number(struct ld_recipe_fields *fields, const char *path, struct ld_span text)
{
    double value;
    if (!ld_parse_double(text, &value))
        return false;
    ld_recipe_put_double(fields, path, value);
    return true;
}

bool ld_recipe_put_whole(struct ld_recipe_fields *fields, const char *path, struct ld_span text)
{
    double value;
    if (!ld_parse_double(text, &value) || value != rint(value) || fabs(value) > 2147483647.0)
        return false;
    ld_recipe_put_integer(fields, path, (int64_t)value);
    return true;
}

bool ld_recipe_put_seed_text(struct ld_recipe_fields *fields, const char *path, struct ld_span text)
{
    uint64_t value;
    if (!ld_parse_u64(text, &value))
        return false;
    ld_recipe_put_seed(fields, path, value);
    return true;
}

bool ld_recipe_has(const struct ld_recipe_fields *fields, const char *path)
{
    return find_field(fields, path) < fields->count;
}

void ld_recipe_drop(struct ld_recipe_fields *fields, const char *path)
{
    const size_t at = find_field(fields, path);
    if (at < fields->count)
        fields->field[at] = fields->field[--fields->count]; /* they are sorted at the end only */
}

void ld_recipe_drop_equal(struct ld_recipe_fields *fields, const char *path, const char *other)
{
    if (!ld_recipe_has(fields, path) || !ld_recipe_has(fields, other))
        return;
    const struct ld_recipe_field *a = &fields->field[find_field(fields, path)];
    const struct ld_recipe_field *b = &fields->field[find_field(fields, other)];
    if (ld_span_equal(ld_span_of(fields->values.data + a->at, a->size),
                      ld_span_of(fields->values.data + b->at, b->size)))
        ld_recipe_drop(fields, path);
}

void ld_recipe_note(struct ld_recipe_fields *fields, const char *format, ...)
{
    char text[256];
    va_list list;
    if (fields->note_count == LD_RECIPE_NOTES_MAX)
        return;
    va_start(list, format);
    (void)vsnprintf(text, sizeof text, format, list);
    va_end(list);
    if (fields->note_count++ > 0)
        ld_buffer_byte(&fields->notes, ',');
    ld_buffer_json_string(&fields->notes, text);
}

void ld_recipe_model_name(struct ld_span file, char *out)
{
    static const char *const endings[] = {".safetensors", ".ckpt", ".pt", ".pth", ".bin"};
    size_t size = file.size < LD_RECIPE_NAME_SIZE ? file.size : LD_RECIPE_NAME_SIZE - 1;
    for (size_t i = 0; i < size; i++)
        out[i] = file.data[i] == '\\' ? '/' : (char)file.data[i];
    out[size] = '\0';
    for (size_t e = 0; e < sizeof endings / sizeof endings[0]; e++) {
        const size_t ending = strlen(endings[e]);
        if (size > ending && strcasecmp(out + size - ending, endings[e]) == 0) {
            out[size - ending] = '\0';
            break;
        }
    }
}

/* ---- Writing --------------------------------------------------------------------------------- */

static int by_path(const void *a, const void *b)
{
    const struct ld_recipe_field *x = a, *y = b;
    return strcmp(x->path, y->path);
}

/* Bytes of the enclosing objects' path that two paths share: "a.b." of "a.b.c" and "a.b.d". */
static size_t shared_prefix(const char *a, const char *b)
{
    size_t shared = 0;
    for (size_t i = 0; a[i] && a[i] == b[i]; i++)
        if (a[i] == '.')
            shared = i + 1;
    return shared;
}

static size_t dots(const char *path)
{
    size_t count = 0;
    for (; *path; path++)
        count += *path == '.';
    return count;
}

/* Sorted by path, members of one object stand together, so one walk with a depth suffices. */
static void write_object(struct ld_recipe_fields *fields, struct ld_buffer *out)
{
    const char *last = "";
    size_t depth = 0;
    qsort(fields->field, fields->count, sizeof fields->field[0], by_path);
    ld_buffer_byte(out, '{');
    for (size_t i = 0; i < fields->count; i++) {
        const struct ld_recipe_field *field = &fields->field[i];
        const char *rest = field->path + shared_prefix(last, field->path);
        const size_t kept = dots(field->path) - dots(rest);
        for (; depth > kept; depth--)
            ld_buffer_byte(out, '}');
        if (i > 0)
            ld_buffer_byte(out, ',');
        for (const char *dot; (dot = strchr(rest, '.')) != NULL; rest = dot + 1, depth++) {
            ld_buffer_json_span(out, ld_span_of(rest, (size_t)(dot - rest)));
            ld_buffer_text(out, ":{");
        }
        ld_buffer_json_string(out, rest);
        ld_buffer_byte(out, ':');
        ld_buffer_bytes(out, fields->values.data + field->at, field->size);
        last = field->path;
    }
    for (; depth > 0; depth--)
        ld_buffer_byte(out, '}');
    ld_buffer_byte(out, '}');
}

enum ld_code ld_recipe_fields_finish(struct ld_recipe_fields *fields, struct ld_recipe *recipe,
                                     struct ld_error *err)
{
    enum ld_code code = LD_OK;
    if (!fields->failed) {
        ld_buffer_clear(&recipe->request);
        write_object(fields, &recipe->request);
        ld_buffer_clear(&recipe->notes);
        ld_buffer_byte(&recipe->notes, '[');
        if (!fields->notes.failed)
            ld_buffer_bytes(&recipe->notes, fields->notes.data, fields->notes.size);
        ld_buffer_byte(&recipe->notes, ']');
    }
    if (fields->failed || recipe->request.failed || recipe->notes.failed)
        code = LD_FAIL(err, LD_E_TOO_LARGE, "the image's recipe is larger than a request may be");
    ld_buffer_deinit(&fields->values);
    ld_buffer_deinit(&fields->notes);
    return code;
}
