/*
 * Proves that every field of the request is bounded as config/fields.def says, and that a refusal
 * names the field. It does so by making, for each row of the table, bodies with values below, at
 * and above each bound and of every wrong JSON type, and reading them through the native dialect.
 */
#include "api/dialect_native.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static uint32_t case_count;

/* ---- A body with one field ------------------------------------------------------------------- */

/* {"prompt":"p","hires":{"scale":VALUE}}, with what the field's neighbours need to be complete. */
static void make_body(const struct ld_field *field, const char *value, struct ld_buffer *body)
{
    char path[64];
    uint32_t depth = 0;
    const bool item = (field->flags & LD_FIELD_ITEM) != 0;
    (void)snprintf(path, sizeof path, "%s", field->path);
    ld_buffer_clear(body);
    ld_buffer_text(body, strcmp(field->path, "prompt") == 0 ? "{" : "{\"prompt\":\"p\",");
    char *part = path;
    for (char *dot = strchr(part, '.'); dot; dot = strchr(part, '.')) {
        *dot = '\0';
        ld_buffer_format(body, "\"%s\":%s{", part, item && !strchr(dot + 1, '.') ? "[" : "");
        if ((strcmp(part, "init") == 0 || strcmp(part, "upscale") == 0) &&
            strcmp(field->path + (part - path), "init.image") != 0 &&
            strcmp(field->path + (part - path), "upscale.image") != 0)
            ld_buffer_text(body, "\"image\":{\"id\":\"0123456789abcdefghijklmnop\"},");
        part = dot + 1;
        depth++;
    }
    const struct ld_field *first = item ? ld_field_parent(field) + 1 : field; /* an item's name */
    if (field != first)
        ld_buffer_format(body, "\"%s\":\"a\",", ld_field_key(first));
    ld_buffer_format(body, "\"%s\":", part);
    ld_buffer_text(body, value);
    for (bool innermost = true; depth > 0; depth--, innermost = false)
        ld_buffer_text(body, innermost && item ? "}]" : "}");
    ld_buffer_text(body, "}");
}

/* Reads it; the code and the pointer and message of the first refusal. */
struct outcome {
    enum ld_code code;
    char pointer[128];
    char message[512];
    uint32_t count;
};

static struct outcome read_value(const struct ld_field *field, const char *value)
{
    struct ld_arena arena;
    struct ld_native native;
    struct ld_buffer body = ld_buffer_make(LD_JSON_BODY_BYTES_MAX);
    struct outcome outcome = {0};
    ld_arena_init(&arena, "test", LD_ARENA_REQUEST_BYTES);
    ld_native_init(&native, &arena);
    make_body(field, value, &body);
    assert_false(body.failed);
    outcome.code = ld_native_decode(&native, ld_span_of(body.data, body.size), NULL);
    outcome.count = native.problem.item_count;
    if (outcome.count > 0) {
        (void)snprintf(outcome.pointer, sizeof outcome.pointer, "%s",
                       native.problem.items[0].pointer);
        (void)snprintf(outcome.message, sizeof outcome.message, "%s",
                       native.problem.items[0].message);
    }
    ld_buffer_deinit(&body);
    ld_native_deinit(&native);
    ld_arena_deinit(&arena);
    case_count++;
    return outcome;
}

static void accepts(const struct ld_field *field, const char *value)
{
    const struct outcome outcome = read_value(field, value);
    if (outcome.code != LD_OK)
        fail_msg("%s = %.60s refused: %s", field->path, value, outcome.message);
}

static void refuses(const struct ld_field *field, const char *value, const char *words)
{
    const struct outcome outcome = read_value(field, value);
    char pointer[128];
    assert_true(ld_field_pointer(field, 0, pointer, sizeof pointer));
    if (outcome.code == LD_OK)
        fail_msg("%s = %.60s accepted", field->path, value);
    if (ld_code_status(outcome.code) != 422)
        fail_msg("%s = %.60s gave %d", field->path, value, ld_code_status(outcome.code));
    if (strncmp(outcome.pointer, pointer, strlen(pointer)) != 0)
        fail_msg("%s = %.60s points at %s", field->path, value, outcome.pointer);
    if (!strstr(outcome.message, field->path) || !strstr(outcome.message, words))
        fail_msg("%s = %.60s says: %s", field->path, value, outcome.message);
    assert_int_equal(outcome.count, 1);
}

/* ---- Bounds ---------------------------------------------------------------------------------- */

static const char *number_text(double value, char out[40])
{
    (void)snprintf(out, 40, value == floor(value) && fabs(value) < 1e15 ? "%.0f" : "%.17g", value);
    return out;
}

static void walk_integer(const struct ld_field *field)
{
    char text[40];
    const double step = field->flags & LD_FIELD_MULTIPLE_8 ? 8 : 1;
    accepts(field, number_text(field->min, text));
    accepts(field, number_text(field->max, text));
    accepts(field, number_text(field->min + step, text));
    accepts(field, number_text(field->max - step, text));
    refuses(field, number_text(field->min - 1, text), "between");
    refuses(field, number_text(field->max + 1, text), "between");
    refuses(field, number_text(field->min - step, text), "between");
    refuses(field, "-9223372036854775808", "between");
    refuses(field, "9223372036854775807", "between");
    if (step > 1)
        refuses(field, number_text(field->min + 1, text), "multiple of 8");
    refuses(field, "-0", "-0");
    refuses(field, "0.1", "integer");
    refuses(field, "20.0", "integer");
    refuses(field, "2e1", "integer");
}

static void walk_number(const struct ld_field *field)
{
    char text[40];
    accepts(field, number_text(field->min, text));
    accepts(field, number_text(field->max, text));
    accepts(field, number_text((field->min + field->max) / 2, text));
    refuses(field, number_text(nextafter(field->min, -HUGE_VAL), text), "between");
    refuses(field, number_text(nextafter(field->max, HUGE_VAL), text), "between");
    refuses(field, number_text(field->min - 1, text), "between");
    refuses(field, number_text(field->max + 1, text), "between");
    refuses(field, "1e300", "between");
    refuses(field, "-1e300", "between");
    refuses(field, "-0", "-0");
    refuses(field, "-0.0", "-0");
    if (field->min > 0) /* must not silently become 0 */
        refuses(field, "1e-999", "between");
}

static void walk_seed(const struct ld_field *field)
{
    accepts(field, "0");
    accepts(field, "9223372036854775807");
    accepts(field, "\"9223372036854775808\"");
    accepts(field, "\"18446744073709551615\"");
    accepts(field, "\"0\"");
    refuses(field, "\"18446744073709551616\"", "between");
    refuses(field, "\"-1\"", "between");
    refuses(field, "\"\"", "between");
    refuses(field, "\" 1\"", "between");
    refuses(field, "\"0x10\"", "between");
    refuses(field, "-2", "between");
    refuses(field, "-0", "-0");
    refuses(field, "1.0", "integer");
    if (field->min < 0)
        accepts(field, "-1");
    else
        refuses(field, "-1", "between");
}

static void walk_words(const struct ld_field *field)
{
    char value[64];
    struct ld_span word;
    for (size_t pos = 0; ld_words_next(field->words, &pos, &word);) {
        (void)snprintf(value, sizeof value, "\"%.*s\"", (int)word.size, (const char *)word.data);
        accepts(field, value);
        (void)snprintf(value, sizeof value, "\"%.*sx\"", (int)word.size, (const char *)word.data);
        refuses(field, value, "must be one of");
    }
    refuses(field, "\"\"", "must be one of");
    refuses(field, "\"\\u0000\"", "must be one of");
}

/* Every word alone, all of them, none, one twice, and what is none of them. */
static void walk_list_of_words(const struct ld_field *field)
{
    char value[64];
    struct ld_span word;
    struct ld_buffer all = ld_buffer_make(1024);
    for (size_t pos = 0; ld_words_next(field->words, &pos, &word);) {
        (void)snprintf(value, sizeof value, "[\"%.*s\"]", (int)word.size, (const char *)word.data);
        accepts(field, value);
        (void)snprintf(value, sizeof value, "[\"%.*sx\"]", (int)word.size, (const char *)word.data);
        refuses(field, value, "must be one of");
        (void)snprintf(value, sizeof value, "[\"%.*s\",\"%.*s\"]", (int)word.size,
                       (const char *)word.data, (int)word.size, (const char *)word.data);
        refuses(field, value, "twice");
        ld_buffer_format(&all, "%c\"%.*s\"", all.size ? ',' : '[', (int)word.size,
                         (const char *)word.data);
    }
    ld_buffer_text(&all, "]");
    accepts(field, all.data);
    refuses(field, "[]", "must have at least one word");
    refuses(field, "[1]", "array of words");
    refuses(field, "[[]]", "array of words");
    ld_buffer_deinit(&all);
}

/* A string of `size` bytes. */
static void long_text(struct ld_buffer *out, size_t size)
{
    ld_buffer_clear(out);
    ld_buffer_byte(out, '"');
    for (size_t i = 0; i < size; i++)
        ld_buffer_byte(out, 'a');
    ld_buffer_byte(out, '"');
}

static void walk_text(const struct ld_field *field)
{
    struct ld_buffer text = ld_buffer_make(LD_JSON_BODY_BYTES_MAX);
    const size_t max = (size_t)field->max;
    long_text(&text, max);
    accepts(field, text.data);
    long_text(&text, max - 1);
    accepts(field, text.data);
    long_text(&text, max + 1);
    refuses(field, text.data, "at most");
    accepts(field, "\"\"");
    accepts(field, "\"a\\n\\r\\tb\"");
    refuses(field, "\"a\\u0000b\"", "control characters");
    refuses(field, "\"a\\u0007b\"", "control characters");
    refuses(field, "\"a\\u007fb\"", "control characters");
    refuses(field, "\"a\\u0085b\"", "control characters");
    ld_buffer_deinit(&text);
}

static void walk_name(const struct ld_field *field)
{
    static const char *const bad[] = {
        "\"../x\"", "\"a/../b\"", "\"/etc/passwd\"", "\"a//b\"",    "\"a/\"",
        "\".\"",    "\"a\\\\b\"", "\"a\\u0000b\"",   "\"a\\nb\"",   "\"./a\"",
        "\"a/.\"",  "\"..\"",     "\"C:\\\\x\"",     "\"\\u0085\"", "\"a\\tb\"",
    };
    struct ld_buffer text = ld_buffer_make(4096);
    long_text(&text, (size_t)field->max);
    accepts(field, text.data);
    long_text(&text, (size_t)field->max + 1);
    refuses(field, text.data, "bytes");
    refuses(field, "\"\"", "bytes");
    accepts(field, "\"a\"");
    if (field->kind == LD_FIELD_NAME) {
        accepts(field, "\"folder/a b (v1.2)+\\u3042\"");
        for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
            refuses(field, bad[i], "plain name");
    }
    ld_buffer_deinit(&text);
}

static void walk_image(const struct ld_field *field)
{
    accepts(field, "{\"id\":\"0123456789abcdefghijklmnop\"}");
    accepts(field, "{\"base64\":\"AAAA\"}");
    accepts(field, "{\"base64\":\"\\/\\/\\/\\/\"}");
    refuses(field, "{\"id\":\"0123456789abcdefghijklmno\"}", "id");
    refuses(field, "{\"id\":\"0123456789abcdefghijklmnoP\"}", "id");
    refuses(field, "{\"id\":\"../../../../../etc/passwd\"}", "id");
    refuses(field, "{\"base64\":\"AAA\"}", "base64");
    refuses(field, "{\"base64\":\"AAA=AAAA\"}", "base64");
    refuses(field, "{\"base64\":\"\"}", "empty");
    refuses(field, "{\"base64\":1}", "object with id or base64");
    refuses(field, "{}", "object with id or base64");
    refuses(field, "{\"url\":\"http://a\"}", "object with id or base64");
    refuses(field, "{\"id\":\"0123456789abcdefghijklmnop\",\"base64\":\"AAAA\"}",
            "object with id or base64");
}

static void walk_sigmas(const struct ld_field *field)
{
    struct ld_buffer text = ld_buffer_make(LD_JSON_BODY_BYTES_MAX);
    for (int count = LD_SIGMAS_MAX - 1; count <= LD_SIGMAS_MAX + 1; count++) {
        ld_buffer_clear(&text);
        for (int i = 0; i < count; i++)
            ld_buffer_format(&text, "%c%d", i ? ',' : '[', count - i);
        ld_buffer_text(&text, "]");
        if (count <= LD_SIGMAS_MAX)
            accepts(field, text.data);
        else
            refuses(field, text.data, "values");
    }
    accepts(field, "[1,0]");
    accepts(field, "[1000000,0.5,0.0]");
    refuses(field, "[1]", "values");
    refuses(field, "[]", "values");
    refuses(field, "[1,1]", "decreasing");
    refuses(field, "[1,2,0]", "decreasing");
    refuses(field, "[1000001,0]", "between");
    refuses(field, "[1,-1]", "between");
    refuses(field, "[1,\"0\"]", "array of numbers");
    refuses(field, "[[1,0]]", "array of numbers");
    ld_buffer_deinit(&text);
}

/* Lists of items whose first member is a name, and all that they need. */
static void walk_list(const struct ld_field *field)
{
    const int max = (int)field->max;
    char required[80];
    struct ld_buffer text = ld_buffer_make(LD_JSON_BODY_BYTES_MAX);
    assert_true(max > 0);
    for (int count = max - 1; count <= max + 1; count++) {
        ld_buffer_clear(&text);
        for (int i = 0; i < count; i++)
            ld_buffer_format(&text, "%c{\"%s\":\"a%d\"}", i ? ',' : '[', ld_field_key(field + 1),
                             i);
        ld_buffer_text(&text, "]");
        if (count <= max)
            accepts(field, text.data);
        else
            refuses(field, text.data, "at most");
    }
    accepts(field, "[]");
    refuses(field, "[\"a\"]", "array of objects");
    (void)snprintf(required, sizeof required, "%s is required", field[1].path);
    refuses(field, "[{}]", required);
    ld_buffer_deinit(&text);
}

static void walk_user_data(const struct ld_field *field)
{
    struct ld_buffer text = ld_buffer_make(LD_JSON_BODY_BYTES_MAX);
    const size_t frame = strlen("{\"a\":\"\"}");
    for (int over = -1; over <= 1; over++) {
        ld_buffer_clear(&text);
        ld_buffer_text(&text, "{ \"a\" : \""); /* blanks outside of strings do not count */
        for (size_t i = 0; i < (size_t)field->max - frame + (size_t)(over + 1) - 1; i++)
            ld_buffer_byte(&text, ' ');
        ld_buffer_text(&text, "\" }");
        if (over <= 0)
            accepts(field, text.data);
        else
            refuses(field, text.data, "at most");
    }
    accepts(field, "{}");
    ld_buffer_deinit(&text);
}

/* ---- Types ----------------------------------------------------------------------------------- */

enum shape { NUL, YES, NO, WHOLE, REAL, STRING, ARRAY, OBJ, SHAPES };
static const char *const samples[SHAPES] = {"null", "true",  "false", "1",
                                            "1.5",  "\"?\"", "[0]",   "{\"?\":0}"};

static bool takes(const struct ld_field *field, enum shape shape)
{
    switch (field->kind) {
    case LD_FIELD_OBJECT:
        return shape == OBJ;
    case LD_FIELD_OBJECT_ON:
        return shape == OBJ ||
               ((shape == YES || shape == NO) && !(field->flags & LD_FIELD_NO_TRUE));
    case LD_FIELD_INT:
    case LD_FIELD_OFFSET:
        return shape == WHOLE;
    case LD_FIELD_NUMBER:
        return shape == WHOLE || shape == REAL;
    case LD_FIELD_SEED:
        return shape == WHOLE || shape == STRING;
    case LD_FIELD_BOOL:
        return shape == YES || shape == NO;
    case LD_FIELD_TRISTATE:
        return field->words[0] ? shape == STRING : shape == YES || shape == NO;
    case LD_FIELD_CHOICE:
    case LD_FIELD_WORD:
    case LD_FIELD_TEXT:
    case LD_FIELD_NAME:
    case LD_FIELD_SIZE:
        return shape == STRING;
    case LD_FIELD_PRESET:
        return shape == STRING || shape == YES || shape == NO;
    case LD_FIELD_IMAGE:
        return shape == OBJ;
    case LD_FIELD_SIGMAS:
    case LD_FIELD_WORDS:
    case LD_FIELD_LIST:
        return shape == ARRAY;
    case LD_FIELD_USER_DATA:
        return shape == OBJ;
    case LD_FIELD_UNBUILT:
        return false;
    }
    return false;
}

static void every_wrong_type_is_refused_by_name(void **state)
{
    (void)state;
    uint32_t count;
    const struct ld_field *fields = ld_fields(&count);
    for (uint32_t i = 0; i < count; i++)
        for (int shape = 0; shape < SHAPES; shape++)
            if (!takes(&fields[i], (enum shape)shape))
                refuses(&fields[i], samples[shape], "");
}

static void every_bound_holds_below_at_and_above(void **state)
{
    (void)state;
    uint32_t count;
    const struct ld_field *fields = ld_fields(&count);
    for (uint32_t i = 0; i < count; i++) {
        const struct ld_field *field = &fields[i];
        switch (field->kind) {
        case LD_FIELD_INT:
        case LD_FIELD_OFFSET:
            walk_integer(field);
            break;
        case LD_FIELD_NUMBER:
            walk_number(field);
            break;
        case LD_FIELD_SEED:
            walk_seed(field);
            break;
        case LD_FIELD_CHOICE:
        case LD_FIELD_WORD:
            walk_words(field);
            break;
        case LD_FIELD_TRISTATE:
            if (field->words[0])
                walk_words(field);
            break;
        case LD_FIELD_TEXT:
            walk_text(field);
            break;
        case LD_FIELD_NAME:
        case LD_FIELD_PRESET:
            walk_name(field);
            break;
        case LD_FIELD_IMAGE:
            walk_image(field);
            break;
        case LD_FIELD_SIGMAS:
            walk_sigmas(field);
            break;
        case LD_FIELD_WORDS:
            walk_list_of_words(field);
            break;
        case LD_FIELD_LIST:
            walk_list(field);
            break;
        case LD_FIELD_USER_DATA:
            walk_user_data(field);
            break;
        case LD_FIELD_OBJECT_ON:
            if (!(field->flags & LD_FIELD_NO_TRUE)) {
                accepts(field, "true");
                accepts(field, "{}");
            }
            break;
        case LD_FIELD_BOOL:
            accepts(field, "true");
            accepts(field, "false");
            break;
        case LD_FIELD_OBJECT:
            accepts(field, "{}");
            break;
        case LD_FIELD_SIZE:
            accepts(field, "\"64x4096\"");
            refuses(field, "\"56x64\"", "multiples of 8");
            refuses(field, "\"64x4104\"", "multiples of 8");
            refuses(field, "\"64x65\"", "multiples of 8");
            refuses(field, "\"64\"", "WIDTHxHEIGHT");
            refuses(field, "\"64x\"", "WIDTHxHEIGHT");
            refuses(field, "\"64x64x64\"", "WIDTHxHEIGHT");
            refuses(field, "\"0x40x64\"", "WIDTHxHEIGHT");
            break;
        case LD_FIELD_UNBUILT:
            refuses(field, "{}", "not available");
            break;
        }
    }
}

static void every_object_names_its_unknown_members(void **state)
{
    (void)state;
    uint32_t count;
    const struct ld_field *fields = ld_fields(&count);
    for (uint32_t i = 0; i < count; i++) {
        if (fields[i].kind != LD_FIELD_OBJECT && fields[i].kind != LD_FIELD_OBJECT_ON)
            continue;
        const struct outcome outcome = read_value(&fields[i], "{\"no_such_thing\":1}");
        assert_int_equal(ld_code_status(outcome.code), 422);
        assert_non_null(strstr(outcome.message, "no_such_thing"));
        assert_non_null(strstr(outcome.pointer, "/no_such_thing"));
    }
}

/* Every row has what documents and flags need of it, and the members follow their object. */
static void the_table_is_well_formed(void **state)
{
    (void)state;
    uint32_t count;
    const struct ld_field *fields = ld_fields(&count);
    for (uint32_t i = 0; i < count; i++) {
        const struct ld_field *field = &fields[i];
        char flag[80];
        assert_ptr_equal(ld_field_find(field->path), field);
        assert_true(field->doc[0] != '\0' && field->unit != NULL && field->words != NULL);
        if (strchr(field->path, '.')) {
            const struct ld_field *parent = ld_field_parent(field);
            assert_non_null(parent);
            assert_ptr_equal(ld_field_member(parent, ld_span_text(ld_field_key(field))), field);
        } else {
            assert_null(ld_field_parent(field));
        }
        if (ld_field_flag_name(field, flag, sizeof flag))
            assert_ptr_equal(ld_field_find(flag), field);
        if (field->switch_path)
            assert_non_null(ld_field_find(field->switch_path));
    }
    assert_in_range(count, 150, LD_REQUEST_FIELDS_MAX);
}

/* An item of each list fills its members and no byte of what follows it. */
static void every_list_holds_items_of_its_own_size(void **state)
{
    (void)state;
    static struct ld_request request;
    uint32_t rows, lists = 0;
    const struct ld_field *fields = ld_fields(&rows);
    ld_request_default(&request);
    for (uint32_t i = 0; i < rows; i++) {
        uint32_t *count;
        if (fields[i].kind != LD_FIELD_LIST)
            continue;
        const char *first = ld_request_list(&request, &fields[i], &count);
        assert_null(ld_request_list_last(&request, &fields[i]));
        for (int item = 0; item < (int)fields[i].max; item++) {
            const char *added = ld_request_list_add(&request, &fields[i]);
            assert_ptr_equal(added, first + (size_t)item * fields[i].size);
            assert_ptr_equal(ld_request_list_last(&request, &fields[i]), added);
            assert_int_equal(*count, item + 1);
        }
        assert_null(ld_request_list_add(&request, &fields[i]));
        for (const struct ld_field *row = &fields[i + 1]; row->flags & LD_FIELD_ITEM; row++)
            assert_true(row->offset + sizeof(int32_t) <= fields[i].size);
        lists++;
    }
    assert_int_equal(lists, 3);
    assert_int_equal(fields[ld_field_row(ld_field_find("control"))].size,
                     sizeof(struct ld_request_control));
    assert_int_equal(request.lora_count, LD_LORAS_MAX);
    assert_int_equal(request.hires.lora_count, LD_LORAS_MAX);
    assert_int_equal(request.control_count, LD_CONTROLS_MAX);
    assert_true(request.loras[15].end == 1 && request.controls[2].end == 1);
    assert_int_equal(request.controls[2].resize, LD_FIT_CROP);
    assert_true(isnan(request.controls[2].low) && isnan(request.loras[15].text_weight));
}

static int report(void **state)
{
    (void)state;
    print_message("%u generated cases\n", case_count);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_table_is_well_formed),
        cmocka_unit_test(every_list_holds_items_of_its_own_size),
        cmocka_unit_test(every_bound_holds_below_at_and_above),
        cmocka_unit_test(every_wrong_type_is_refused_by_name),
        cmocka_unit_test(every_object_names_its_unknown_members),
    };
    return cmocka_run_group_tests(tests, NULL, report);
}
