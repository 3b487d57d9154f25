/* One checked value into one field. Every refusal names the field and its bound. */
#include "runtime/params.h"

#include "config/limits.h"
#include "config/nearest.h"
#include "runtime/base/json.h"

#include <math.h>

static void *place_of(void *base, const struct ld_field *field)
{
    return (char *)base + field->offset;
}

/* Bounds as people write them: whole numbers without a fraction. */
static void bound_text(double bound, char out[32])
{
    if (bound == floor(bound) && fabs(bound) < 1e15)
        (void)ld_fmt(out, 32, "%.0f", bound);
    else if (bound >= 1.8e19)
        (void)ld_fmt(out, 32, "18446744073709551615");
    else
        (void)ld_fmt(out, 32, "%.10g", bound);
}

static enum ld_code fail_range(const struct ld_field *field, struct ld_error *err)
{
    char low[32];
    char high[32];
    bound_text(field->min, low);
    bound_text(field->max, high);
    return LD_FAIL(err, LD_E_RANGE, "%s must be %sbetween %s and %s%s%s", field->path,
                   field->flags & LD_FIELD_MULTIPLE_8 ? "a multiple of 8 " : "", low, high,
                   field->unit[0] ? " " : "", field->unit);
}

static enum ld_code fail_kind(const struct ld_field *field, const char *kind, struct ld_error *err)
{
    return LD_FAIL(err, LD_E_INVALID, "%s must be %s", field->path, kind);
}

static enum ld_code fail_unbuilt(const struct ld_field *field, struct ld_error *err)
{
    return LD_FAIL(err, LD_E_UNSUPPORTED, "%s is not available in this version", field->path);
}

/* What a field wants to be given, for messages. */
static const char *kind_wanted(const struct ld_field *field)
{
    switch (field->kind) {
    case LD_FIELD_OBJECT:
        return "an object";
    case LD_FIELD_OBJECT_ON:
        return field->flags & LD_FIELD_NO_TRUE ? "an object" : "an object, true or false";
    case LD_FIELD_INT:
    case LD_FIELD_OFFSET:
        return "an integer";
    case LD_FIELD_NUMBER:
        return "a number";
    case LD_FIELD_SEED:
        return "an integer or a decimal string";
    case LD_FIELD_BOOL:
        return "true or false";
    case LD_FIELD_TRISTATE:
        return field->words[0] ? "a string" : "true or false";
    case LD_FIELD_CHOICE:
    case LD_FIELD_WORD:
    case LD_FIELD_TEXT:
    case LD_FIELD_NAME:
    case LD_FIELD_SIZE:
        return "a string";
    case LD_FIELD_PRESET:
        return "a preset's name, true or false";
    case LD_FIELD_IMAGE:
        return "an object with id or base64";
    case LD_FIELD_SIGMAS:
        return "an array of numbers";
    case LD_FIELD_WORDS:
        return "an array of words";
    case LD_FIELD_LIST:
        return "an array of objects";
    case LD_FIELD_USER_DATA:
        return "an object";
    case LD_FIELD_UNBUILT:
        return "absent";
    }
    return "something else";
}

enum ld_code ld_field_refuse_kind(const struct ld_field *field, struct ld_error *err)
{
    return field->kind == LD_FIELD_UNBUILT ? fail_unbuilt(field, err)
                                           : fail_kind(field, kind_wanted(field), err);
}

/* ---- Numbers --------------------------------------------------------------------------------- */

enum ld_code ld_field_set_seed(void *base, const struct ld_field *field, uint64_t value,
                               struct ld_error *err)
{
    if (field->kind != LD_FIELD_SEED)
        return ld_field_refuse_kind(field, err);
    *(uint64_t *)place_of(base, field) = value;
    /* A job's seed says "random", a seed that is optional says "given". */
    *(bool *)((char *)base + field->flag_offset) = field->min >= 0;
    return LD_OK;
}

enum ld_code ld_field_set_integer(void *base, const struct ld_field *field, int64_t value,
                                  struct ld_error *err)
{
    switch (field->kind) {
    case LD_FIELD_INT:
        if ((double)value < field->min || (double)value > field->max ||
            ((field->flags & LD_FIELD_MULTIPLE_8) && value % LD_SIDE_STEP != 0))
            return fail_range(field, err);
        return ld_narrow_i32(value, place_of(base, field)) ? LD_OK : fail_range(field, err);
    case LD_FIELD_OFFSET:
        if ((double)value < field->min || (double)value > field->max)
            return fail_range(field, err);
        *(int64_t *)place_of(base, field) = value;
        return LD_OK;
    case LD_FIELD_SEED:
        if (value >= 0)
            return ld_field_set_seed(base, field, (uint64_t)value, err);
        if (value != -1 || field->min >= 0)
            return fail_range(field, err);
        *(uint64_t *)place_of(base, field) = 0;
        *(bool *)((char *)base + field->flag_offset) = true;
        return LD_OK;
    case LD_FIELD_NUMBER:
        return ld_field_set_number(base, field, (double)value, err);
    case LD_FIELD_OBJECT:
    case LD_FIELD_OBJECT_ON:
    case LD_FIELD_BOOL:
    case LD_FIELD_TRISTATE:
    case LD_FIELD_CHOICE:
    case LD_FIELD_WORD:
    case LD_FIELD_WORDS:
    case LD_FIELD_TEXT:
    case LD_FIELD_NAME:
    case LD_FIELD_PRESET:
    case LD_FIELD_IMAGE:
    case LD_FIELD_SIZE:
    case LD_FIELD_SIGMAS:
    case LD_FIELD_LIST:
    case LD_FIELD_USER_DATA:
    case LD_FIELD_UNBUILT:
        break;
    }
    return ld_field_refuse_kind(field, err);
}

enum ld_code ld_field_set_number(void *base, const struct ld_field *field, double value,
                                 struct ld_error *err)
{
    if (field->kind != LD_FIELD_NUMBER)
        return ld_field_refuse_kind(field, err);
    if (!(value >= field->min && value <= field->max))
        return fail_range(field, err);
    *(double *)place_of(base, field) = value == 0.0 ? 0.0 : value; /* no -0 in canonical text */
    return LD_OK;
}

enum ld_code ld_field_set_bool(void *base, const struct ld_field *field, bool value,
                               struct ld_error *err)
{
    void *place = place_of(base, field);
    if (field->kind == LD_FIELD_BOOL)
        *(bool *)place = value;
    else if (field->kind == LD_FIELD_TRISTATE && field->words[0] == '\0')
        *(enum ld_tristate *)place = value ? LD_TRUE : LD_FALSE;
    else if (field->kind == LD_FIELD_PRESET)
        *(const char **)place = value ? "default" : field->default_text;
    else
        return ld_field_refuse_kind(field, err);
    return LD_OK;
}

/* ---- Words ----------------------------------------------------------------------------------- */

bool ld_words_next(const char *words, size_t *pos, struct ld_span *word)
{
    if (words[*pos] == '\0')
        return false;
    const size_t size = strcspn(words + *pos, "|");
    *word = ld_span_of(words + *pos, size);
    *pos += size + (words[*pos + size] == '|' ? 1U : 0U);
    return true;
}

static int32_t word_index(const char *words, struct ld_span value)
{
    struct ld_span word;
    int32_t index = 0;
    for (size_t pos = 0; ld_words_next(words, &pos, &word); index++)
        if (ld_span_equal(word, value))
            return index;
    return -1;
}

/* "must be one of a, b, c" and, for a slip of the finger, what was meant. */
static enum ld_code fail_word(const struct ld_field *field, struct ld_span value,
                              struct ld_error *err)
{
    char list[256] = "";
    char near[64] = "";
    struct ld_span word;
    size_t used = 0;
    uint32_t distance = 3;
    for (size_t pos = 0; ld_words_next(field->words, &pos, &word);) {
        const bool fits = ld_fmt(list + used, sizeof list - used, "%s%.*s", used ? ", " : "",
                                 (int)word.size, (const char *)word.data);
        used = fits ? strlen(list) : used;
        const uint32_t apart = ld_edit_distance(value, word);
        if (apart < distance) {
            distance = apart;
            (void)ld_fmt(near, sizeof near, "; did you mean %.*s?", (int)word.size,
                         (const char *)word.data);
        }
    }
    return LD_FAIL(err, LD_E_INVALID, "%s must be one of %s%s", field->path, list, near);
}

static enum ld_code set_word(void *base, const struct ld_field *field, struct ld_arena *arena,
                             struct ld_span value, struct ld_error *err)
{
    void *place = place_of(base, field);
    const int32_t index = word_index(field->words, value);
    if (index < 0)
        return fail_word(field, value, err);
    if (field->kind == LD_FIELD_CHOICE && field->size == sizeof(bool)) {
        *(bool *)place = index != 0;
    } else if (field->kind == LD_FIELD_CHOICE || field->kind == LD_FIELD_TRISTATE) {
        *(int32_t *)place = index;
    } else {
        const char *copy = ld_arena_strndup(arena, (const char *)value.data, value.size);
        if (!copy)
            return LD_FAIL(err, LD_E_NOMEM, "out of memory");
        *(const char **)place = copy;
    }
    return LD_OK;
}

void ld_field_clear_words(void *base, const struct ld_field *field)
{
    LD_ASSERT(field->kind == LD_FIELD_WORDS);
    *(uint32_t *)place_of(base, field) = 0;
}

enum ld_code ld_field_add_word(void *base, const struct ld_field *field, struct ld_span word,
                               struct ld_error *err)
{
    if (field->kind != LD_FIELD_WORDS)
        return ld_field_refuse_kind(field, err);
    uint32_t *words = place_of(base, field);
    const int32_t index = word_index(field->words, word);
    if (index < 0)
        return fail_word(field, word, err);
    LD_ASSERT(index < 32);
    if (*words >> index & 1)
        return LD_FAIL(err, LD_E_INVALID, "%s has %.*s twice", field->path, (int)word.size,
                       (const char *)word.data);
    *words |= (uint32_t)1 << index;
    return LD_OK;
}

/* ---- Texts ----------------------------------------------------------------------------------- */

/* LF, CR and TAB are the only control characters a text may hold (robustness.md 2). */
static bool has_control(struct ld_span text, bool lines)
{
    for (size_t i = 0; i < text.size; i++) {
        const uint8_t c = text.data[i];
        if ((c < 0x20 && !(lines && (c == '\n' || c == '\r' || c == '\t'))) || c == 0x7F)
            return true;
        if (c == 0xC2 && i + 1 < text.size && text.data[i + 1] < 0xA0)
            return true; /* U+0080..U+009F */
    }
    return false;
}

bool ld_name_is_plausible(struct ld_span name)
{
    if (name.size == 0 || name.size > LD_NAME_BYTES_MAX || !ld_utf8_valid(name) ||
        has_control(name, false) || memchr(name.data, '\\', name.size))
        return false;
    for (size_t start = 0; start <= name.size;) {
        const uint8_t *slash =
            start < name.size ? memchr(name.data + start, '/', name.size - start) : NULL;
        const size_t end = slash ? (size_t)(slash - name.data) : name.size;
        const struct ld_span part = ld_span_of(name.data + start, end - start);
        if (part.size == 0 || ld_span_is(part, ".") || ld_span_is(part, ".."))
            return false;
        start = end + 1;
    }
    return true;
}

static enum ld_code check_text(const struct ld_field *field, struct ld_span value,
                               struct ld_error *err)
{
    if ((double)value.size > field->max)
        return LD_FAIL(err, LD_E_RANGE, "%s must have at most %.0f bytes", field->path, field->max);
    if (!ld_utf8_valid(value))
        return LD_FAIL(err, LD_E_INVALID, "%s must be UTF-8", field->path);
    if (has_control(value, true))
        return LD_FAIL(err, LD_E_INVALID,
                       "%s must not have control characters but line feed, return and tab",
                       field->path);
    return LD_OK;
}

static enum ld_code check_name(const struct ld_field *field, struct ld_span value,
                               struct ld_error *err)
{
    if (value.size == 0 || (double)value.size > field->max)
        return LD_FAIL(err, LD_E_RANGE, "%s must have 1 to %.0f bytes", field->path, field->max);
    if (field->kind == LD_FIELD_PRESET) {
        for (size_t i = 0; i < value.size; i++)
            if (!value.data[i] || !strchr("abcdefghijklmnopqrstuvwxyz0123456789_.-", value.data[i]))
                return LD_FAIL(err, LD_E_INVALID, "%s must be a preset's name", field->path);
        return LD_OK;
    }
    if (!ld_name_is_plausible(value))
        return LD_FAIL(err, LD_E_INVALID,
                       "%s must be a plain name: no control characters, '\\', '..' or path",
                       field->path);
    return LD_OK;
}

/* Ids of uploads, as the server makes them: 26 digits and lower-case letters. */
static enum ld_code check_id(const struct ld_field *field, struct ld_span value,
                             struct ld_error *err)
{
    bool good = value.size == 26;
    for (size_t i = 0; good && i < value.size; i++)
        good = (value.data[i] >= '0' && value.data[i] <= '9') ||
               (value.data[i] >= 'a' && value.data[i] <= 'z');
    return good ? LD_OK
                : LD_FAIL(err, LD_E_INVALID, "%s must be the id of an uploaded image", field->path);
}

/* Blanks outside strings go, so that the text fits one line of an event stream. */
static enum ld_code copy_object(const struct ld_field *field, struct ld_arena *arena,
                                struct ld_span value, const char **out, struct ld_error *err)
{
    struct ld_json json;
    struct ld_json_token token = {0};
    bool first = true;
    ld_json_init(&json, value, LD_JSON_DEPTH, LD_JSON_VALUES);
    do {
        if (ld_json_next(&json, &token, err) != LD_OK ||
            (first && token.kind != LD_JSON_OBJECT_BEGIN))
            return fail_kind(field, "a JSON object", err);
        first = false;
    } while (token.kind != LD_JSON_END);
    char *copy = ld_arena_alloc(arena, value.size + 1);
    if (!copy)
        return LD_FAIL(err, LD_E_NOMEM, "out of memory");
    size_t size = 0;
    bool in_string = false;
    for (size_t i = 0; i < value.size; i++) {
        const char c = (char)value.data[i];
        if (in_string && c == '\\' && i + 1 < value.size)
            copy[size++] = (char)value.data[i++];
        else if (c == '"')
            in_string = !in_string;
        else if (!in_string && (c == ' ' || c == '\n' || c == '\r' || c == '\t'))
            continue;
        copy[size++] = (char)value.data[i];
    }
    copy[size] = '\0';
    if ((double)size > field->max)
        return LD_FAIL(err, LD_E_RANGE, "%s must have at most %.0f bytes", field->path, field->max);
    *out = copy;
    return LD_OK;
}

static enum ld_code set_size(struct ld_request *request, struct ld_span value, struct ld_error *err)
{
    const uint8_t *cross = value.size ? memchr(value.data, 'x', value.size) : NULL;
    int64_t width;
    int64_t height;
    if (!cross)
        return LD_FAIL(err, LD_E_INVALID, "size must be WIDTHxHEIGHT, such as 832x1216");
    const size_t split = (size_t)(cross - value.data);
    if (!ld_parse_i64(ld_span_of(value.data, split), &width) ||
        !ld_parse_i64(ld_span_of(cross + 1, value.size - split - 1), &height))
        return LD_FAIL(err, LD_E_INVALID, "size must be WIDTHxHEIGHT, such as 832x1216");
    struct ld_request trial = *request;
    if (ld_field_set_integer(&trial, ld_field_find("width"), width, err) != LD_OK ||
        ld_field_set_integer(&trial, ld_field_find("height"), height, err) != LD_OK)
        return LD_FAIL(err, LD_E_RANGE,
                       "size must have a width and a height that are multiples of 8 between %d "
                       "and %d pixels",
                       LD_SIDE_MIN, LD_SIDE_MAX);
    request->width = trial.width;
    request->height = trial.height;
    return LD_OK;
}

enum ld_code ld_field_set_text(void *base, const struct ld_field *field, struct ld_arena *arena,
                               struct ld_span value, struct ld_error *err)
{
    const char *copy = NULL;
    enum ld_code code = LD_OK;
    uint64_t seed;
    switch (field->kind) {
    case LD_FIELD_CHOICE:
    case LD_FIELD_WORD:
        return set_word(base, field, arena, value, err);
    case LD_FIELD_TRISTATE:
        return field->words[0] ? set_word(base, field, arena, value, err)
                               : ld_field_refuse_kind(field, err);
    case LD_FIELD_SEED:
        return ld_parse_u64(value, &seed) ? ld_field_set_seed(base, field, seed, err)
                                          : fail_range(field, err);
    case LD_FIELD_SIZE:
        return set_size(base, value, err);
    case LD_FIELD_TEXT:
        code = check_text(field, value, err);
        break;
    case LD_FIELD_NAME:
    case LD_FIELD_PRESET:
        code = check_name(field, value, err);
        break;
    case LD_FIELD_IMAGE:
        code = check_id(field, value, err);
        break;
    case LD_FIELD_USER_DATA:
        code = copy_object(field, arena, value, &copy, err);
        break;
    case LD_FIELD_OBJECT:
    case LD_FIELD_OBJECT_ON:
    case LD_FIELD_INT:
    case LD_FIELD_OFFSET:
    case LD_FIELD_NUMBER:
    case LD_FIELD_BOOL:
    case LD_FIELD_WORDS:
    case LD_FIELD_SIGMAS:
    case LD_FIELD_LIST:
    case LD_FIELD_UNBUILT:
        return ld_field_refuse_kind(field, err);
    }
    if (code != LD_OK)
        return code;
    if (!copy)
        copy = ld_arena_strndup(arena, (const char *)value.data, value.size);
    if (!copy)
        return LD_FAIL(err, LD_E_NOMEM, "out of memory");
    *(const char **)place_of(base, field) = copy;
    return LD_OK;
}

/* ---- Lists and objects ----------------------------------------------------------------------- */

enum ld_code ld_request_set_sigmas(struct ld_request *request, const double *sigmas, uint32_t count,
                                   struct ld_error *err)
{
    const struct ld_field *field = ld_field_find("sigmas");
    if (count < LD_SIGMAS_MIN || count > LD_SIGMAS_MAX)
        return LD_FAIL(err, LD_E_RANGE, "sigmas must have %d to %d values", LD_SIGMAS_MIN,
                       LD_SIGMAS_MAX);
    for (uint32_t i = 0; i < count; i++) {
        if (!(sigmas[i] >= field->min && sigmas[i] <= field->max))
            return LD_FAIL(err, LD_E_RANGE, "sigmas must lie between 0 and %.0f", field->max);
        if (i > 0 && !(sigmas[i] < sigmas[i - 1]))
            return LD_FAIL(err, LD_E_RANGE, "sigmas must be strictly decreasing");
    }
    memcpy(request->sigmas, sigmas, count * sizeof *sigmas);
    request->sigmas[count - 1] += 0.0; /* -0 becomes 0 */
    request->sigma_count = count;
    return LD_OK;
}

/* Is a switch at the value that means "object absent"? */
static bool switch_is_off(const struct ld_request *request, const struct ld_field *field)
{
    const void *place = (const char *)request + field->offset;
    return field->kind == LD_FIELD_INT ? *(const int32_t *)place == 0
                                       : **(const char *const *)place == '\0';
}

bool ld_request_object_present(const struct ld_request *request, const struct ld_field *field)
{
    if (field->kind != LD_FIELD_OBJECT_ON)
        return true;
    if (field->switch_path)
        return !switch_is_off(request, ld_field_find(field->switch_path));
    return *(const bool *)((const char *)request + field->flag_offset);
}

void ld_request_set_object(struct ld_request *request, const struct ld_field *field, bool given)
{
    if (field->kind != LD_FIELD_OBJECT_ON)
        return;
    if (!field->switch_path) {
        *(bool *)((char *)request + field->flag_offset) = given;
        return;
    }
    const struct ld_field *control = ld_field_find(field->switch_path);
    void *place = (char *)request + control->offset;
    if (given && !switch_is_off(request, control))
        return;
    if (control->kind == LD_FIELD_INT)
        *(int32_t *)place = given ? (int32_t)control->given_number : 0;
    else
        *(const char **)place = given ? control->given_text : "";
}
