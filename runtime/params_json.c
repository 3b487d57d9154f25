/* Canonical JSON of a request: one walk over the table. */
#include "runtime/params.h"

#include <math.h>

enum { DEPTH_MAX = 4 };

/* Objects that are open in the output, outermost first. */
struct writer {
    const struct ld_request *request;
    struct ld_buffer *out;
    const struct ld_field *open[DEPTH_MAX];
    uint32_t depth;
    bool need_comma;
};

static bool is_inside(const struct ld_field *field, const struct ld_field *object)
{
    const size_t size = strlen(object->path);
    return strncmp(field->path, object->path, size) == 0 && field->path[size] == '.';
}

static void write_key(struct writer *writer, const char *key)
{
    if (writer->need_comma)
        ld_buffer_byte(writer->out, ',');
    ld_buffer_json_string(writer->out, key);
    ld_buffer_byte(writer->out, ':');
    writer->need_comma = true;
}

/* Closes what does not hold `field` and opens what does. */
static void move_to(struct writer *writer, const struct ld_field *field)
{
    const struct ld_field *missing[DEPTH_MAX];
    uint32_t missing_count = 0;
    while (writer->depth > 0 && !is_inside(field, writer->open[writer->depth - 1])) {
        ld_buffer_byte(writer->out, '}');
        writer->depth--;
        writer->need_comma = true;
    }
    const struct ld_field *top = writer->depth ? writer->open[writer->depth - 1] : NULL;
    for (const struct ld_field *object = ld_field_parent(field); object && object != top;
         object = ld_field_parent(object)) {
        LD_ASSERT(missing_count < DEPTH_MAX);
        missing[missing_count++] = object;
    }
    while (missing_count > 0) {
        const struct ld_field *object = missing[--missing_count];
        write_key(writer, ld_field_key(object));
        ld_buffer_byte(writer->out, '{');
        LD_ASSERT(writer->depth < DEPTH_MAX);
        writer->open[writer->depth++] = object;
        writer->need_comma = false;
    }
}

/* ---- Values ---------------------------------------------------------------------------------- */

static void write_seed(struct ld_buffer *out, uint64_t seed, bool random)
{
    if (random)
        ld_buffer_text(out, "-1");
    else if (seed > (uint64_t)INT64_MAX) /* beyond what JSON readers keep as an integer */
        ld_buffer_format(out, "\"%llu\"", (unsigned long long)seed);
    else
        ld_buffer_format(out, "%llu", (unsigned long long)seed);
}

static void write_word(struct ld_buffer *out, const char *words, int32_t index)
{
    struct ld_span word = {0};
    size_t pos = 0;
    for (int32_t i = 0; i <= index; i++) {
        const bool found = ld_words_next(words, &pos, &word);
        LD_ASSERT(found);
    }
    ld_buffer_json_span(out, word);
}

static void write_words(struct ld_buffer *out, const char *words, uint32_t chosen)
{
    char separator = '[';
    for (int32_t i = 0; i < 32; i++) {
        if (!(chosen >> i & 1))
            continue;
        ld_buffer_byte(out, separator);
        write_word(out, words, i);
        separator = ',';
    }
    ld_buffer_byte(out, ']');
}

static void write_sigmas(const struct ld_request *request, struct ld_buffer *out)
{
    for (uint32_t i = 0; i < request->sigma_count; i++) {
        ld_buffer_byte(out, i ? ',' : '[');
        ld_buffer_json_double(out, request->sigmas[i]);
    }
    ld_buffer_byte(out, ']');
}

static uint32_t count_of(const struct ld_request *request, const struct ld_field *list)
{
    return *(const uint32_t *)(const void *)((const char *)request + list->count_offset);
}

static int32_t choice_of(const struct ld_field *field, const void *place)
{
    return field->size == sizeof(bool) ? (int32_t) * (const bool *)place : *(const int32_t *)place;
}

/* `base` is the request, or the item of a list that the field lies in. */
static void write_value(const void *base, const struct ld_field *field, struct ld_buffer *out)
{
    const void *place = (const char *)base + field->offset;
    const bool *flag = (const bool *)((const char *)base + field->flag_offset);
    switch (field->kind) {
    case LD_FIELD_INT:
        ld_buffer_format(out, "%d", *(const int32_t *)place);
        break;
    case LD_FIELD_OFFSET:
        ld_buffer_format(out, "%lld", (long long)*(const int64_t *)place);
        break;
    case LD_FIELD_NUMBER:
        ld_buffer_json_double(out, *(const double *)place);
        break;
    case LD_FIELD_SEED:
        write_seed(out, *(const uint64_t *)place, field->min < 0 && *flag);
        break;
    case LD_FIELD_BOOL:
        ld_buffer_text(out, *(const bool *)place ? "true" : "false");
        break;
    case LD_FIELD_TRISTATE:
        if (field->words[0])
            write_word(out, field->words, *(const int32_t *)place);
        else
            ld_buffer_text(out, *(const int32_t *)place == LD_TRUE ? "true" : "false");
        break;
    case LD_FIELD_CHOICE:
        write_word(out, field->words, choice_of(field, place));
        break;
    case LD_FIELD_WORD:
    case LD_FIELD_TEXT:
    case LD_FIELD_NAME:
    case LD_FIELD_PRESET:
        ld_buffer_json_string(out, *(const char *const *)place);
        break;
    case LD_FIELD_IMAGE:
        ld_buffer_text(out, "{\"id\":");
        ld_buffer_json_string(out, *(const char *const *)place);
        ld_buffer_byte(out, '}');
        break;
    case LD_FIELD_USER_DATA:
        ld_buffer_text(out, *(const char *const *)place);
        break;
    case LD_FIELD_WORDS:
        write_words(out, field->words, *(const uint32_t *)place);
        break;
    case LD_FIELD_SIGMAS:
        write_sigmas(base, out);
        break;
    case LD_FIELD_LIST: /* write_list's */
    case LD_FIELD_OBJECT:
    case LD_FIELD_OBJECT_ON:
    case LD_FIELD_SIZE:
    case LD_FIELD_UNBUILT:
        break;
    }
}

/* ---- What is said ---------------------------------------------------------------------------- */

/* A default may stay unsaid where it will always mean the same: "off", or "the sampler's own".
 * Every other value is written, so that a later change of defaults changes no stored request. */
static bool is_said(const void *base, const struct ld_field *field)
{
    const void *place = (const char *)base + field->offset;
    const bool *flag = (const bool *)((const char *)base + field->flag_offset);
    const struct ld_field *parent = ld_field_parent(field);
    const bool neutral =
        !(field->flags & LD_FIELD_KEEP_EMPTY) &&
        ((field->flags & LD_FIELD_NEUTRAL) || (parent && parent->kind == LD_FIELD_OBJECT));
    const char *text;
    switch (field->kind) {
    case LD_FIELD_INT:
        if (field->flags & LD_FIELD_ZERO_OFF)
            return *(const int32_t *)place != 0;
        return !neutral || *(const int32_t *)place != (int32_t)field->default_number;
    case LD_FIELD_OFFSET:
        return !neutral || *(const int64_t *)place != (int64_t)field->default_number;
    case LD_FIELD_NUMBER:
        return !isnan(*(const double *)place) &&
               (!neutral || *(const double *)place != field->default_number);
    case LD_FIELD_SEED:
        return field->min >= 0 ? *flag : !neutral || *flag || *(const uint64_t *)place != 0;
    case LD_FIELD_BOOL:
        return !neutral || *(const bool *)place != (field->default_number != 0.0);
    case LD_FIELD_TRISTATE:
        return *(const int32_t *)place != LD_UNSET;
    case LD_FIELD_CHOICE:
        return !neutral || choice_of(field, place) != (int32_t)field->default_number;
    case LD_FIELD_WORD:
    case LD_FIELD_TEXT:
    case LD_FIELD_NAME:
    case LD_FIELD_PRESET:
    case LD_FIELD_IMAGE:
    case LD_FIELD_USER_DATA:
        text = *(const char *const *)place;
        if (!text || (field->flags & (LD_FIELD_NULLABLE | LD_FIELD_KEEP_EMPTY)))
            return text != NULL;
        return text[0] != '\0' &&
               !(neutral && field->default_text && strcmp(text, field->default_text) == 0);
    case LD_FIELD_WORDS:
        return *(const uint32_t *)place != 0;
    case LD_FIELD_SIGMAS:
        return ((const struct ld_request *)base)->sigma_count > 0;
    case LD_FIELD_LIST:
        /* An empty list says more than an absent one where another list would stand in. */
        return count_of(base, field) > 0 || (parent && *flag);
    case LD_FIELD_OBJECT:
    case LD_FIELD_OBJECT_ON:
    case LD_FIELD_SIZE:
    case LD_FIELD_UNBUILT:
        break;
    }
    return false;
}

static void write_list(const struct ld_request *request, const struct ld_field *list,
                       struct ld_buffer *out)
{
    const char *items = (const char *)request + list->offset;
    uint32_t rows;
    const struct ld_field *end = ld_fields(&rows) + rows;
    ld_buffer_byte(out, '[');
    for (uint32_t i = 0; i < count_of(request, list); i++) {
        const void *item = items + i * list->size;
        char before = '{'; /* the first member is a name, which is always said */
        if (i > 0)
            ld_buffer_byte(out, ',');
        for (const struct ld_field *field = list + 1; field < end && is_inside(field, list);
             field++) {
            if (!is_said(item, field))
                continue;
            ld_buffer_byte(out, before);
            ld_buffer_json_string(out, ld_field_key(field));
            ld_buffer_byte(out, ':');
            write_value(item, field, out);
            before = ',';
        }
        ld_buffer_byte(out, '}');
    }
    ld_buffer_byte(out, ']');
}

enum selection {
    SELECT_ALL,
    SELECT_PICTURE, /* without what does not change the picture */
    SELECT_GIVEN    /* without defaults */
};

static bool is_selected(const struct ld_request *request, const struct ld_field *field,
                        enum selection selection)
{
    if (selection == SELECT_PICTURE && (field->flags & LD_FIELD_DELIVERY))
        return false;
    if (request->upscale.present && !ld_field_goes_with_upscale(field))
        return false;
    const int32_t row = ld_field_row(field);
    return selection != SELECT_GIVEN || field->kind == LD_FIELD_OBJECT_ON ||
           (request->given[row / 8] >> (row % 8) & 1) != 0;
}

static void write_fields(const struct ld_request *request, enum selection selection,
                         struct ld_buffer *out)
{
    struct writer writer = {.request = request, .out = out};
    uint32_t count;
    const struct ld_field *fields = ld_fields(&count);
    const struct ld_field *skipped = NULL;
    ld_buffer_byte(out, '{');
    for (const struct ld_field *field = fields; field < fields + count; field++) {
        if ((field->flags & LD_FIELD_ITEM) || !is_selected(request, field, selection) ||
            (skipped && is_inside(field, skipped)))
            continue;
        if (field->kind == LD_FIELD_OBJECT_ON) {
            skipped = ld_request_object_present(request, field) ? NULL : field;
            if (skipped)
                continue;
            move_to(&writer, field);
            write_key(&writer, ld_field_key(field));
            ld_buffer_byte(out, '{');
            LD_ASSERT(writer.depth < DEPTH_MAX);
            writer.open[writer.depth++] = field;
            writer.need_comma = false;
        } else if (is_said(request, field)) {
            move_to(&writer, field);
            write_key(&writer, ld_field_key(field));
            if (field->kind == LD_FIELD_LIST)
                write_list(request, field, out);
            else
                write_value(request, field, out);
        }
    }
    for (; writer.depth > 0; writer.depth--)
        ld_buffer_byte(out, '}');
    ld_buffer_byte(out, '}');
}

void ld_request_write_json(const struct ld_request *request, struct ld_buffer *out)
{
    write_fields(request, SELECT_ALL, out);
}

void ld_request_write_replay_json(const struct ld_request *request, struct ld_buffer *out)
{
    write_fields(request, SELECT_PICTURE, out);
}

void ld_request_write_given_json(const struct ld_request *request, struct ld_buffer *out)
{
    write_fields(request, SELECT_GIVEN, out);
}
