#include "runtime/base/json_find.h"

/* One "/part" of a pointer; the rest follows in *pointer. */
static struct ld_span next_part(const char **pointer)
{
    const char *start = *pointer + 1;
    const char *end = start;
    while (*end != '\0' && *end != '/')
        end++;
    *pointer = end;
    return ld_span_of(start, (size_t)(end - start));
}

static bool key_is(const struct ld_json_token *key, struct ld_span part)
{
    char plain[256];
    size_t size;
    return ld_json_unescape(key, plain, sizeof plain, &size) &&
           ld_span_equal(ld_span_of(plain, size), part);
}

/* Inside the object just begun: move to the value of key `part`. */
static bool enter_member(struct ld_json *json, struct ld_span part, struct ld_json_token *token)
{
    while (ld_json_next(json, token, NULL) == LD_OK && token->kind == LD_JSON_KEY) {
        const bool wanted = key_is(token, part);
        if (ld_json_next(json, token, NULL) != LD_OK)
            return false;
        if (wanted)
            return true;
        if (ld_json_skip(json, token, NULL) != LD_OK)
            return false;
    }
    return false;
}

/* Inside the array just begun: move to element `part`. */
static bool enter_element(struct ld_json *json, struct ld_span part, struct ld_json_token *token)
{
    uint64_t index;
    if (!ld_parse_u64(part, &index))
        return false;
    for (uint64_t i = 0;; i++) {
        if (ld_json_next(json, token, NULL) != LD_OK || token->kind == LD_JSON_ARRAY_END)
            return false;
        if (i == index)
            return true;
        if (ld_json_skip(json, token, NULL) != LD_OK)
            return false;
    }
}

static bool locate(struct ld_json *json, const char *pointer, struct ld_json_token *token)
{
    if (ld_json_next(json, token, NULL) != LD_OK)
        return false;
    while (*pointer == '/') {
        const struct ld_span part = next_part(&pointer);
        const bool found = token->kind == LD_JSON_OBJECT_BEGIN  ? enter_member(json, part, token)
                           : token->kind == LD_JSON_ARRAY_BEGIN ? enter_element(json, part, token)
                                                                : false;
        if (!found)
            return false;
    }
    return *pointer == '\0' && token->kind != LD_JSON_END;
}

static void start(struct ld_json *json, struct ld_span text)
{
    ld_json_init(json, text, LD_JSON_DEPTH_MAX, UINT64_MAX);
}

bool ld_json_find(struct ld_span text, const char *pointer, struct ld_json_token *token)
{
    struct ld_json json;
    start(&json, text);
    return locate(&json, pointer, token);
}

bool ld_json_find_string(struct ld_span text, const char *pointer, char *out, size_t size)
{
    struct ld_json_token token;
    size_t length;
    if (size == 0 || !ld_json_find(text, pointer, &token) || token.kind != LD_JSON_STRING ||
        !ld_json_unescape(&token, out, size - 1, &length) || memchr(out, '\0', length))
        return false;
    out[length] = '\0';
    return true;
}

bool ld_json_find_u64(struct ld_span text, const char *pointer, uint64_t *out)
{
    struct ld_json_token token;
    return ld_json_find(text, pointer, &token) && token.kind == LD_JSON_INTEGER &&
           ld_parse_u64(token.text, out);
}

bool ld_json_find_double(struct ld_span text, const char *pointer, double *out)
{
    struct ld_json_token token;
    return ld_json_find(text, pointer, &token) &&
           (token.kind == LD_JSON_INTEGER || token.kind == LD_JSON_REAL) &&
           ld_parse_double(token.text, out);
}

bool ld_json_find_span(struct ld_span text, const char *pointer, struct ld_span *out)
{
    struct ld_json json;
    struct ld_json_token token;
    start(&json, text);
    if (!locate(&json, pointer, &token) || ld_json_skip(&json, &token, NULL) != LD_OK)
        return false;
    *out = ld_span_of(text.data + token.offset, json.pos - token.offset);
    return true;
}
