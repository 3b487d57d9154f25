/* Fields as the command line gives them: a name and a text. */
#include "runtime/params.h"

#include "config/limits.h"
#include "config/nearest.h"

#include <math.h>

/* "true", "false", "on", "off", "yes", "no", "1", "0". */
static bool parse_bool(struct ld_span text, bool *out)
{
    static const char *const yes[] = {"true", "on", "yes", "1"};
    static const char *const no[] = {"false", "off", "no", "0"};
    for (size_t i = 0; i < sizeof yes / sizeof yes[0]; i++) {
        if (ld_span_is(text, yes[i]) || ld_span_is(text, no[i])) {
            *out = ld_span_is(text, yes[i]);
            return true;
        }
    }
    return false;
}

/* Cuts `rest` at the next `separator`. */
static struct ld_span next_part(struct ld_span *rest, char separator)
{
    const uint8_t *cut = rest->size ? memchr(rest->data, separator, rest->size) : NULL;
    const size_t size = cut ? (size_t)(cut - rest->data) : rest->size;
    const struct ld_span part = ld_span_of(rest->data, size);
    *rest = cut ? ld_span_of(cut + 1, rest->size - size - 1) : ld_span_of("", 0);
    return ld_span_trimmed(part);
}

static enum ld_code set_sigmas(struct ld_request *request, struct ld_span text,
                               struct ld_error *err)
{
    double values[LD_SIGMAS_MAX];
    uint32_t count = 0;
    while (text.size > 0) {
        const struct ld_span part = next_part(&text, ',');
        if (count == LD_SIGMAS_MAX)
            return LD_FAIL(err, LD_E_RANGE, "sigmas must have %d to %d values", LD_SIGMAS_MIN,
                           LD_SIGMAS_MAX);
        if (!ld_parse_double(part, &values[count]))
            return LD_FAIL(err, LD_E_INVALID, "sigmas must be numbers with commas between");
        count++;
    }
    return ld_request_set_sigmas(request, values, count, err);
}

static enum ld_code set_words(struct ld_request *request, const struct ld_field *field,
                              struct ld_span text, struct ld_error *err)
{
    enum ld_code code = LD_OK;
    ld_field_clear_words(request, field);
    do
        code = ld_field_add_word(request, field, next_part(&text, ','), err);
    while (code == LD_OK && text.size > 0);
    return code;
}

/* Cuts a range of steps, "@0.2-0.8", off the end; a name may hold '@' where no range follows. */
static bool cut_range(struct ld_span *text, double range[2])
{
    const uint8_t *at = text->size ? memrchr(text->data, '@', text->size) : NULL;
    const size_t head = at ? (size_t)(at - text->data) : 0;
    struct ld_span rest = at ? ld_span_of(at + 1, text->size - head - 1) : (struct ld_span){0};
    const struct ld_span start = next_part(&rest, '-');
    if (!at || !ld_parse_double(start, &range[0]) || !ld_parse_double(rest, &range[1]))
        return false;
    text->size = head;
    return true;
}

static const struct ld_field *member_of(const struct ld_field *list, const char *name)
{
    return ld_field_member(list, ld_span_text(name));
}

/* Cuts up to `max` numbers, ":0.5:1", off the end; `numbers` gets them from the last on. */
static uint32_t cut_numbers(struct ld_span *text, uint32_t max, double *numbers)
{
    uint32_t count = 0;
    while (count < max) {
        const uint8_t *colon = text->size ? memrchr(text->data, ':', text->size) : NULL;
        const size_t head = colon ? (size_t)(colon - text->data) : 0;
        if (!colon ||
            !ld_parse_double(ld_span_of(colon + 1, text->size - head - 1), &numbers[count]))
            break;
        count++;
        text->size = head;
    }
    return count;
}

/* "name:weight:text_weight@start-end" into an item; a name may hold ':' only if no number follows
 * the last. The name is the first member of every list; not every list has a text_weight. */
static enum ld_code set_item(void *item, const struct ld_field *list, struct ld_arena *arena,
                             struct ld_span text, struct ld_error *err)
{
    const struct ld_field *text_weight = member_of(list, "text_weight");
    double numbers[2];
    double range[2];
    const bool ranged = cut_range(&text, range);
    const uint32_t count = cut_numbers(&text, text_weight ? 2 : 1, numbers);
    enum ld_code code = ld_field_set_text(item, list + 1, arena, text, err);
    if (code == LD_OK && count > 0)
        code = ld_field_set_number(item, member_of(list, "weight"), numbers[count - 1], err);
    if (code == LD_OK && count > 1)
        code = ld_field_set_number(item, text_weight, numbers[0], err);
    if (code == LD_OK && ranged)
        code = ld_field_set_number(item, member_of(list, "start"), range[0], err);
    if (code == LD_OK && ranged)
        code = ld_field_set_number(item, member_of(list, "end"), range[1], err);
    return code;
}

static enum ld_code add_item(struct ld_request *request, const struct ld_field *list,
                             struct ld_arena *arena, struct ld_span text, struct ld_error *err)
{
    uint32_t *count;
    void *item = ld_request_list_add(request, list);
    if (!item)
        return LD_FAIL(err, LD_E_RANGE, "%s must have at most %.0f items", list->path, list->max);
    const enum ld_code code = set_item(item, list, arena, text, err);
    if (code != LD_OK) {
        (void)ld_request_list(request, list, &count);
        *count -= 1;
        memset(item, 0, list->size);
    }
    return code;
}

/* `base` is the request, or the item of a list that the field lies in. */
static enum ld_code set_value(void *base, const struct ld_field *field, struct ld_arena *arena,
                              struct ld_span text, struct ld_error *err)
{
    enum ld_code code;
    int64_t integer;
    double number;
    bool yes;
    switch (field->kind) {
    case LD_FIELD_INT:
    case LD_FIELD_OFFSET:
        return ld_parse_i64(text, &integer) ? ld_field_set_integer(base, field, integer, err)
                                            : ld_field_refuse_kind(field, err);
    case LD_FIELD_SEED:
        return ld_span_is(text, "-1") ? ld_field_set_integer(base, field, -1, err)
                                      : ld_field_set_text(base, field, arena, text, err);
    case LD_FIELD_NUMBER:
        return ld_parse_double(text, &number) ? ld_field_set_number(base, field, number, err)
                                              : ld_field_refuse_kind(field, err);
    case LD_FIELD_BOOL:
    case LD_FIELD_OBJECT_ON:
        if (!parse_bool(text, &yes))
            return ld_field_refuse_kind(field, err);
        if (field->kind == LD_FIELD_BOOL)
            return ld_field_set_bool(base, field, yes, err);
        ld_request_set_object(base, field, yes);
        return LD_OK;
    case LD_FIELD_TRISTATE:
    case LD_FIELD_PRESET:
        if ((field->kind == LD_FIELD_PRESET || field->words[0] == '\0') && parse_bool(text, &yes))
            return ld_field_set_bool(base, field, yes, err);
        return ld_field_set_text(base, field, arena, text, err);
    case LD_FIELD_WORDS:
        return set_words(base, field, text, err);
    case LD_FIELD_SIGMAS:
        return set_sigmas(base, text, err);
    case LD_FIELD_LIST:
        /* "none": an empty list in the place of the first pass's. */
        code = ld_field_parent(field) && ld_span_is(text, "none")
                   ? LD_OK
                   : add_item(base, field, arena, text, err);
        if (code == LD_OK)
            *(bool *)((char *)base + field->flag_offset) = true;
        return code;
    case LD_FIELD_OBJECT:
    case LD_FIELD_UNBUILT:
        return ld_field_refuse_kind(field, err);
    case LD_FIELD_CHOICE:
    case LD_FIELD_WORD:
    case LD_FIELD_TEXT:
    case LD_FIELD_NAME:
    case LD_FIELD_IMAGE:
    case LD_FIELD_SIZE:
    case LD_FIELD_USER_DATA:
        break;
    }
    return ld_field_set_text(base, field, arena, text, err);
}

static enum ld_code fail_unknown(const char *name, struct ld_error *err)
{
    uint32_t count;
    const struct ld_field *fields = ld_fields(&count);
    struct ld_nearest nearest = ld_nearest_to(ld_span_text(name));
    for (uint32_t i = 0; i < count; i++)
        if (ld_field_is_set_by_name(&fields[i]))
            ld_nearest_offer(&nearest, fields[i].path);
    return LD_FAIL(err, LD_E_NOT_FOUND, "there is no field %.64s%s", name,
                   ld_nearest_hint(&nearest));
}

enum ld_code ld_request_set_text(struct ld_request *request, struct ld_arena *arena,
                                 const char *name, const char *value, struct ld_error *err)
{
    const struct ld_field *field = ld_field_find(strcmp(name, "lora") == 0 ? "loras" : name);
    if (!field || !ld_field_is_set_by_name(field))
        return fail_unknown(name, err);
    void *base = request;
    if (field->flags & LD_FIELD_ITEM) {
        const struct ld_field *list = ld_field_parent(field);
        base = ld_request_list_last(request, list);
        if (!base)
            return LD_FAIL(err, LD_E_INVALID, "%s needs a %s before it", field->path, list->path);
    }
    const enum ld_code code = set_value(base, field, arena, ld_span_text(value), err);
    if (code != LD_OK)
        return code;
    ld_request_mark(request, field);
    if (field->kind == LD_FIELD_SIZE) {
        ld_request_mark(request, ld_field_find("width"));
        ld_request_mark(request, ld_field_find("height"));
    }
    for (field = ld_field_parent(field); field; field = ld_field_parent(field)) {
        ld_request_set_object(request, field, true);
        ld_request_mark(request, field);
    }
    return LD_OK;
}
