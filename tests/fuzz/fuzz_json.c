/*
 * The JSON tokenizer against jansson: what one accepts the other accepts, apart from the limits on
 * depth and count and from numbers that no double holds. Tokens stay inside the input, strings
 * unescape to valid UTF-8, and skipping a value ends where its last token does.
 */
#include "runtime/base/json.h"

#include "runtime/base/arena.h"

#include <jansson.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { DEPTH = 32, VALUES = 100000 };

/* True if the text holds a NUL. */
static bool check_text(const struct ld_json_token *token, struct ld_span input)
{
    LD_ASSERT(token->text.data >= input.data &&
              token->text.data + token->text.size <= input.data + input.size);
    if (token->kind != LD_JSON_KEY && token->kind != LD_JSON_STRING)
        return false;
    size_t used = 0;
    char *text = ld_heap_alloc(token->text.size + 1);
    LD_ASSERT(text && ld_json_unescape(token, text, token->text.size, &used));
    LD_ASSERT(used <= token->text.size && ld_utf8_valid(ld_span_of(text, used)));
    const bool has_nul = memchr(text, 0, used) != NULL;
    if (!has_nul)
        LD_ASSERT(ld_json_is(token, text));
    if (used > 0)
        LD_ASSERT(!ld_json_unescape(token, text, used - 1, &used));
    ld_heap_free(text);
    return has_nul;
}

/* The code of a whole scan; `unusual` is set where jansson has limits of its own. */
static enum ld_code scan(struct ld_span input, bool *unusual)
{
    struct ld_json json;
    struct ld_json_token token;
    struct ld_error err = {0};
    ld_json_init(&json, input, DEPTH, VALUES);
    do {
        const enum ld_code code = ld_json_next(&json, &token, &err);
        LD_ASSERT((code == LD_OK) == (err.detail[0] == 0));
        if (code != LD_OK)
            return code;
        double number;
        if ((token.kind == LD_JSON_REAL || token.kind == LD_JSON_INTEGER) &&
            !ld_parse_double(token.text, &number))
            *unusual = true;
        /* jansson has no keys with a NUL in them. */
        if (token.text.data && check_text(&token, input) && token.kind == LD_JSON_KEY)
            *unusual = true;
    } while (token.kind != LD_JSON_END);
    LD_ASSERT(ld_json_next(&json, &token, NULL) == LD_OK && token.kind == LD_JSON_END);
    return LD_OK;
}

static void check_skip(struct ld_span input)
{
    struct ld_json json;
    struct ld_json_token token;
    ld_json_init(&json, input, DEPTH, VALUES);
    LD_ASSERT(ld_json_next(&json, &token, NULL) == LD_OK);
    LD_ASSERT(ld_json_skip(&json, &token, NULL) == LD_OK);
    LD_ASSERT(ld_json_next(&json, &token, NULL) == LD_OK && token.kind == LD_JSON_END);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct ld_span input = ld_span_of(data, size);
    bool unusual = false;
    json_error_t error;
    const enum ld_code code = scan(input, &unusual);
    json_t *tree = json_loadb((const char *)data, size,
                              JSON_DECODE_ANY | JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, &error);
    if (code == LD_OK) {
        check_skip(input);
        LD_ASSERT(tree || unusual);
    } else {
        /* jansson takes a NUL byte after the document for its end; that is malformed here. */
        LD_ASSERT(!tree || code == LD_E_TOO_LARGE || memchr(data, 0, size));
    }
    json_decref(tree);
    return 0;
}
