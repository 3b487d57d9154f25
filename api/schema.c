#include "api/schema.h"

#include "config/limits.h"
#include "runtime/params.h"

#include <math.h>

enum { DEPTH_MAX = 4 };

/* ---- Pieces ---------------------------------------------------------------------------------- */

static void put_number(struct ld_buffer *out, const char *key, double value)
{
    ld_buffer_format(out, ",\"%s\":", key);
    if (value == floor(value) && fabs(value) < 1e15)
        ld_buffer_format(out, "%.0f", value);
    else
        ld_buffer_json_double(out, value);
}

static void put_words(struct ld_buffer *out, const char *words)
{
    struct ld_span word;
    bool first = true;
    ld_buffer_text(out, ",\"enum\":[");
    for (size_t pos = 0; ld_words_next(words, &pos, &word); first = false) {
        if (!first)
            ld_buffer_byte(out, ',');
        ld_buffer_json_span(out, word);
    }
    ld_buffer_byte(out, ']');
}

static struct ld_span word_at(const char *words, int32_t index)
{
    struct ld_span word = ld_span_of("", 0);
    size_t pos = 0;
    while (index-- >= 0 && ld_words_next(words, &pos, &word)) {
    }
    return word;
}

/* The default, where there is one that can be said in JSON. */
static void put_default(struct ld_buffer *out, const struct ld_field *field)
{
    switch (field->kind) {
    case LD_FIELD_INT:
        if (!(field->flags & (LD_FIELD_ZERO_OFF | LD_FIELD_SWITCH)))
            put_number(out, "default", field->default_number);
        else if (field->flags & LD_FIELD_SWITCH)
            put_number(out, "default", field->given_number);
        break;
    case LD_FIELD_OFFSET:
    case LD_FIELD_NUMBER:
        if (!isnan(field->default_number))
            put_number(out, "default", field->default_number);
        break;
    case LD_FIELD_BOOL:
        ld_buffer_text(out,
                       field->default_number != 0.0 ? ",\"default\":true" : ",\"default\":false");
        break;
    case LD_FIELD_CHOICE:
        ld_buffer_text(out, ",\"default\":");
        ld_buffer_json_span(out, word_at(field->words, (int32_t)field->default_number));
        break;
    case LD_FIELD_WORD: {
        const char *text = field->flags & LD_FIELD_SWITCH ? field->given_text : field->default_text;
        if (text && text[0]) {
            ld_buffer_text(out, ",\"default\":");
            ld_buffer_json_string(out, text);
        }
        break;
    }
    case LD_FIELD_SEED:
        if (field->min < 0)
            ld_buffer_text(out, ",\"default\":-1");
        break;
    case LD_FIELD_OBJECT:
    case LD_FIELD_OBJECT_ON:
    case LD_FIELD_TRISTATE:
    case LD_FIELD_TEXT:
    case LD_FIELD_NAME:
    case LD_FIELD_PRESET:
    case LD_FIELD_IMAGE:
    case LD_FIELD_SIZE:
    case LD_FIELD_SIGMAS:
    case LD_FIELD_WORDS:
    case LD_FIELD_LIST:
    case LD_FIELD_USER_DATA:
    case LD_FIELD_UNBUILT:
        break;
    }
}

/* Type and bounds; the objects are opened by the walk. */
static void put_type(struct ld_buffer *out, const struct ld_field *field)
{
    switch (field->kind) {
    case LD_FIELD_INT:
    case LD_FIELD_OFFSET:
    case LD_FIELD_NUMBER:
        ld_buffer_format(out, ",\"type\":\"%s\"",
                         field->kind == LD_FIELD_NUMBER ? "number" : "integer");
        put_number(out, "minimum", field->min);
        put_number(out, "maximum", field->max);
        if (field->flags & LD_FIELD_MULTIPLE_8)
            ld_buffer_format(out, ",\"multipleOf\":%d", LD_SIDE_STEP);
        break;
    case LD_FIELD_SEED:
        ld_buffer_format(out,
                         ",\"oneOf\":[{\"type\":\"integer\",\"minimum\":%.0f,"
                         "\"maximum\":9223372036854775807},{\"type\":\"string\","
                         "\"pattern\":\"^[0-9]{1,20}$\"}]",
                         field->min);
        break;
    case LD_FIELD_BOOL:
        ld_buffer_text(out, ",\"type\":\"boolean\"");
        break;
    case LD_FIELD_TRISTATE:
        if (field->words[0] == '\0') {
            ld_buffer_text(out, ",\"type\":\"boolean\"");
            break;
        }
        ld_buffer_text(out, ",\"type\":\"string\"");
        put_words(out, field->words);
        break;
    case LD_FIELD_CHOICE:
    case LD_FIELD_WORD:
        ld_buffer_text(out, ",\"type\":\"string\"");
        put_words(out, field->words);
        break;
    case LD_FIELD_TEXT:
    case LD_FIELD_NAME:
        ld_buffer_text(out, ",\"type\":\"string\"");
        if (field->min > 0)
            put_number(out, "minLength", field->min);
        put_number(out, "maxLength", field->max); /* of bytes; JSON Schema counts characters */
        break;
    case LD_FIELD_PRESET:
        ld_buffer_text(out, ",\"type\":[\"string\",\"boolean\"]");
        put_number(out, "maxLength", field->max);
        break;
    case LD_FIELD_IMAGE:
        ld_buffer_text(out, ",\"$ref\":\"#/components/schemas/ImageRef\"");
        break;
    case LD_FIELD_SIZE:
        ld_buffer_text(out, ",\"type\":\"string\",\"pattern\":\"^[0-9]{2,4}x[0-9]{2,4}$\"");
        break;
    case LD_FIELD_SIGMAS:
        ld_buffer_format(out,
                         ",\"type\":\"array\",\"minItems\":%d,\"maxItems\":%d,\"items\":{"
                         "\"type\":\"number\"",
                         LD_SIGMAS_MIN, LD_SIGMAS_MAX);
        put_number(out, "minimum", field->min);
        put_number(out, "maximum", field->max);
        ld_buffer_byte(out, '}');
        break;
    case LD_FIELD_WORDS:
        ld_buffer_text(out, ",\"type\":\"array\",\"minItems\":1,\"uniqueItems\":true,\"items\":{"
                            "\"type\":\"string\"");
        put_words(out, field->words);
        ld_buffer_byte(out, '}');
        break;
    case LD_FIELD_USER_DATA:
        ld_buffer_text(out, ",\"type\":\"object\"");
        break;
    case LD_FIELD_OBJECT:
    case LD_FIELD_OBJECT_ON:
    case LD_FIELD_LIST:
    case LD_FIELD_UNBUILT: /* not in the schema */
        break;
    }
}

/* ---- The schema ------------------------------------------------------------------------------ */

static void open_members(struct ld_buffer *out)
{
    ld_buffer_text(out, "\"type\":\"object\",\"additionalProperties\":false,\"properties\":{");
}

/* Closes `properties`, says what is required, and closes what the row had opened. */
static void close_members(struct ld_buffer *out, const struct ld_field *object)
{
    uint32_t count;
    const struct ld_field *fields = ld_fields(&count);
    bool first = true;
    ld_buffer_byte(out, '}');
    for (uint32_t i = 0; i < count; i++) {
        if (!(fields[i].flags & LD_FIELD_REQUIRED) || !object ||
            ld_field_parent(&fields[i]) != object)
            continue;
        ld_buffer_text(out, first ? ",\"required\":[" : ",");
        ld_buffer_json_string(out, ld_field_key(&fields[i]));
        first = false;
    }
    if (!first)
        ld_buffer_byte(out, ']');
    if (!object) {
        /* The prompt is all that is needed, and a picture that is only enlarged has none. */
        ld_buffer_text(out,
                       ",\"anyOf\":[{\"required\":[\"prompt\"]},{\"required\":[\"upscale\"]}]");
        return;
    }
    if (object->kind == LD_FIELD_LIST)
        ld_buffer_byte(out, '}');
    else if (object->kind == LD_FIELD_OBJECT_ON && !(object->flags & LD_FIELD_NO_TRUE))
        ld_buffer_text(out, "}]");
    ld_buffer_byte(out, '}');
}

static bool opens(const struct ld_field *field)
{
    return field->kind == LD_FIELD_OBJECT || field->kind == LD_FIELD_OBJECT_ON ||
           field->kind == LD_FIELD_LIST;
}

static void open_object(struct ld_buffer *out, const struct ld_field *field)
{
    if (field->kind == LD_FIELD_LIST)
        ld_buffer_format(out, ",\"type\":\"array\",\"maxItems\":%.0f,\"items\":{", field->max);
    else if (field->kind == LD_FIELD_OBJECT_ON && !(field->flags & LD_FIELD_NO_TRUE))
        ld_buffer_text(out, ",\"oneOf\":[{\"type\":\"boolean\"},{");
    else
        ld_buffer_byte(out, ',');
    open_members(out);
}

void ld_schema_write_request(struct ld_buffer *out)
{
    uint32_t count;
    const struct ld_field *fields = ld_fields(&count);
    const struct ld_field *open[DEPTH_MAX];
    uint32_t depth = 0;
    bool comma = false;
    ld_buffer_byte(out, '{');
    open_members(out);
    for (const struct ld_field *field = fields; field < fields + count; field++) {
        const struct ld_field *parent = ld_field_parent(field);
        for (; depth > 0 && open[depth - 1] != parent; comma = true)
            close_members(out, open[--depth]);
        if (field->kind == LD_FIELD_UNBUILT)
            continue;
        if (comma)
            ld_buffer_byte(out, ',');
        ld_buffer_json_string(out, ld_field_key(field));
        ld_buffer_text(out, ":{\"description\":");
        ld_buffer_json_string(out, field->doc);
        if (opens(field)) {
            LD_ASSERT(depth < DEPTH_MAX);
            open_object(out, field);
            open[depth++] = field;
            comma = false;
        } else {
            put_type(out, field);
            put_default(out, field);
            ld_buffer_byte(out, '}');
            comma = true;
        }
    }
    while (depth > 0)
        close_members(out, open[--depth]);
    close_members(out, NULL);
    ld_buffer_byte(out, '}');
}

/* ---- The manual ------------------------------------------------------------------------------ */

static void write_type_column(const struct ld_field *field, struct ld_buffer *out)
{
    struct ld_span word;
    bool first = true;
    switch (field->kind) {
    case LD_FIELD_INT:
    case LD_FIELD_OFFSET:
    case LD_FIELD_NUMBER:
        ld_buffer_format(out, "%s, %.15g to %.15g",
                         field->kind == LD_FIELD_NUMBER ? "number" : "integer", field->min,
                         field->max);
        if (field->flags & LD_FIELD_MULTIPLE_8)
            ld_buffer_text(out, ", multiple of 8");
        if (field->unit[0])
            ld_buffer_format(out, ", %s", field->unit);
        return;
    case LD_FIELD_CHOICE:
    case LD_FIELD_WORD:
    case LD_FIELD_WORDS:
    case LD_FIELD_TRISTATE:
        if (field->kind == LD_FIELD_WORDS)
            ld_buffer_text(out, "list of ");
        if (field->words[0] == '\0')
            ld_buffer_text(out, "true or false");
        for (size_t pos = 0; ld_words_next(field->words, &pos, &word); first = false)
            ld_buffer_format(out, "%s`%.*s`", first ? "" : ", ", (int)word.size,
                             (const char *)word.data);
        return;
    case LD_FIELD_TEXT:
    case LD_FIELD_NAME:
        ld_buffer_format(out, "%s, at most %.0f bytes",
                         field->kind == LD_FIELD_NAME ? "name" : "text", field->max);
        return;
    case LD_FIELD_SEED:
        ld_buffer_text(out, field->min < 0 ? "-1 or 0 to 2^64-1" : "0 to 2^64-1");
        return;
    case LD_FIELD_BOOL:
        ld_buffer_text(out, "true or false");
        return;
    case LD_FIELD_PRESET:
        ld_buffer_text(out, "preset, true or false");
        return;
    case LD_FIELD_IMAGE:
        ld_buffer_text(out, "`{\"id\"}` or `{\"base64\"}`");
        return;
    case LD_FIELD_SIZE:
        ld_buffer_text(out, "`WIDTHxHEIGHT`");
        return;
    case LD_FIELD_SIGMAS:
        ld_buffer_format(out, "%d to %d numbers", LD_SIGMAS_MIN, LD_SIGMAS_MAX);
        return;
    case LD_FIELD_LIST:
        ld_buffer_format(out, "at most %.0f objects", field->max);
        return;
    case LD_FIELD_OBJECT_ON:
        ld_buffer_text(out, field->flags & LD_FIELD_NO_TRUE ? "object" : "object or true");
        return;
    case LD_FIELD_OBJECT:
        ld_buffer_text(out, "object");
        return;
    case LD_FIELD_USER_DATA:
        ld_buffer_format(out, "object, at most %.0f bytes", field->max);
        return;
    case LD_FIELD_UNBUILT:
        ld_buffer_text(out, "not in this version");
        return;
    }
}

static void write_default_column(const struct ld_field *field, struct ld_buffer *out)
{
    struct ld_buffer text = ld_buffer_make(256);
    put_default(&text, field);
    if (field->flags & LD_FIELD_REQUIRED)
        ld_buffer_text(out, "required");
    else if (text.size > strlen(",\"default\":"))
        ld_buffer_format(out, "`%s`", text.data + strlen(",\"default\":"));
    ld_buffer_deinit(&text);
}

void ld_schema_write_docs(struct ld_buffer *out)
{
    uint32_t count;
    const struct ld_field *fields = ld_fields(&count);
    ld_buffer_text(
        out, "# Fields of a request\n\n"
             "The body of `POST /v1/jobs` and the flags of `latentd generate`: a dot in "
             "a name is an object in JSON and a dash in\na flag, so `hires.scale` is "
             "`{\"hires\": {\"scale\": 2}}` and `--hires-scale 2`.\n`loras` and `control` are "
             "arrays of objects in JSON; `--lora NAME[:WEIGHT[:TEXT_WEIGHT]][@START-END]` "
             "and\n`--control MODEL[:WEIGHT][@START-END]` add one, and `--control-mode` and "
             "its like are of the last that was added.\nOnly `prompt` is required; a "
             "model's manifest may have other defaults than the ones shown. This page is "
             "made\nfrom `config/fields.def`.\n\n"
             "| Field | Values | Default | Meaning |\n|---|---|---|---|\n");
    for (uint32_t i = 0; i < count; i++) {
        ld_buffer_format(out, "| `%s` | ", fields[i].path);
        write_type_column(&fields[i], out);
        ld_buffer_text(out, " | ");
        write_default_column(&fields[i], out);
        ld_buffer_format(out, " | %s |\n", fields[i].doc);
    }
}

/* ---- The fuzzer's dictionary ----------------------------------------------------------------- */

static void put_token(struct ld_buffer *out, const char *before, struct ld_span text,
                      const char *after)
{
    ld_buffer_format(out, "\"%s%.*s%s\"\n", before, (int)text.size, (const char *)text.data, after);
}

void ld_schema_write_dictionary(struct ld_buffer *out)
{
    static const char *const extra[] = {"\\\\u0000",
                                        "\\\\ud83d\\\\ude00",
                                        "-0",
                                        "1e-999",
                                        "9223372036854775808",
                                        "true",
                                        "false",
                                        "null",
                                        "\\\"id\\\":",
                                        "[{",
                                        "}]",
                                        "\\\"base64\\\":",
                                        "-1",
                                        "832x1216"};
    uint32_t count;
    const struct ld_field *fields = ld_fields(&count);
    for (uint32_t i = 0; i < count; i++) {
        struct ld_span word;
        put_token(out, "\\\"", ld_span_text(ld_field_key(&fields[i])),
                  opens(&fields[i]) ? "\\\":{" : "\\\":");
        for (size_t pos = 0; ld_words_next(fields[i].words, &pos, &word);)
            put_token(out, "\\\"", word, "\\\"");
    }
    for (size_t i = 0; i < sizeof extra / sizeof extra[0]; i++)
        put_token(out, "", ld_span_text(extra[i]), "");
}
