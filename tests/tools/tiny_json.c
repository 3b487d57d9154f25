#include "tests/tools/tiny_json.h"

#include "runtime/base/arena.h"
#include "runtime/base/fsx.h"
#include "runtime/base/json.h"

#include <string.h>

static const size_t BYTES_MAX = (size_t)1 << 30;
static const uint64_t VALUES_MAX = 50000000;

/* A member of an object or array; `key` NULL in arrays. */
struct member {
    const char *key;
    json_t *value;
    struct member *next;
};

struct json_t {
    enum ld_json_kind kind; /* of its first token */
    const char *text;       /* strings */
    double number;
    long long integer;
    struct member *first, *last;
    size_t count;
    struct ld_arena *arena; /* that everything of the document comes from */
};

/* ---- Building -------------------------------------------------------------------------------- */

static json_t *value_new(struct ld_arena *arena, enum ld_json_kind kind)
{
    json_t *json = ld_arena_alloc(arena, sizeof *json);
    if (json) {
        json->kind = kind;
        json->arena = arena;
    }
    return json;
}

static bool append(json_t *parent, const char *key, json_t *value)
{
    struct member *member = ld_arena_alloc(parent->arena, sizeof *member);
    if (!member || !value)
        return false;
    *member = (struct member){key, value, NULL};
    if (parent->last)
        parent->last->next = member;
    else
        parent->first = member;
    parent->last = member;
    parent->count++;
    return true;
}

static const char *text_of(struct ld_arena *arena, const struct ld_json_token *token)
{
    size_t size;
    char *out = ld_arena_alloc(arena, token->text.size + 1);
    if (!out || !ld_json_unescape(token, out, token->text.size, &size))
        return NULL;
    out[size] = '\0';
    return out;
}

/* A value from its first token; containers come back empty. */
static json_t *value_of(struct ld_arena *arena, const struct ld_json_token *token)
{
    json_t *json = value_new(arena, token->kind);
    int64_t integer;
    if (!json)
        return NULL;
    if (token->kind == LD_JSON_STRING && !(json->text = text_of(arena, token)))
        return NULL;
    if (token->kind == LD_JSON_INTEGER && ld_parse_i64(token->text, &integer)) {
        json->integer = integer;
        json->number = (double)integer;
    } else if (token->kind == LD_JSON_INTEGER || token->kind == LD_JSON_REAL) {
        if (!ld_parse_double(token->text, &json->number))
            return NULL;
    }
    return json;
}

/* The whole document, with a stack of the containers that are open. */
static json_t *parse(struct ld_arena *arena, struct ld_span text)
{
    json_t *open[LD_JSON_DEPTH_MAX + 1];
    const char *key = NULL;
    json_t *root = NULL;
    size_t depth = 0;
    struct ld_json json;
    struct ld_json_token token;
    ld_json_init(&json, text, LD_JSON_DEPTH_MAX, VALUES_MAX);
    for (;;) {
        if (ld_json_next(&json, &token, NULL) != LD_OK)
            return NULL;
        if (token.kind == LD_JSON_END)
            return root;
        if (token.kind == LD_JSON_OBJECT_END || token.kind == LD_JSON_ARRAY_END) {
            depth--;
            continue;
        }
        if (token.kind == LD_JSON_KEY) {
            key = text_of(arena, &token);
            if (!key)
                return NULL;
            continue;
        }
        json_t *value = value_of(arena, &token);
        if (!value || (depth > 0 && !append(open[depth - 1], key, value)))
            return NULL;
        if (!root)
            root = value;
        key = NULL;
        if (token.kind == LD_JSON_OBJECT_BEGIN || token.kind == LD_JSON_ARRAY_BEGIN)
            open[depth++] = value;
    }
}

static struct ld_arena *arena_new(void)
{
    struct ld_arena *arena = ld_heap_alloc(sizeof *arena);
    if (arena)
        ld_arena_init(arena, "json", BYTES_MAX);
    return arena;
}

static void arena_drop(struct ld_arena *arena)
{
    ld_arena_deinit(arena);
    ld_heap_free(arena);
}

json_t *json_loadb(const char *text, size_t size, size_t flags, json_error_t *error)
{
    struct ld_arena *arena = arena_new();
    (void)flags;
    (void)error;
    json_t *root = arena ? parse(arena, ld_span_of(text, size)) : NULL;
    if (arena && !root)
        arena_drop(arena);
    return root;
}

json_t *json_load_file(const char *path, size_t flags, json_error_t *error)
{
    struct ld_buffer bytes = ld_buffer_make(BYTES_MAX);
    struct ld_error err = {0};
    json_t *root = NULL;
    if (ld_fsx_read_file(path, &bytes, &err) == LD_OK)
        root = json_loadb(bytes.data, bytes.size, flags, error);
    ld_buffer_deinit(&bytes);
    return root;
}

json_t *json_object(void)
{
    struct ld_arena *arena = arena_new();
    json_t *root = arena ? value_new(arena, LD_JSON_OBJECT_BEGIN) : NULL;
    if (arena && !root)
        arena_drop(arena);
    return root;
}

void json_decref(json_t *json)
{
    if (json)
        arena_drop(json->arena);
}

/* ---- Asking ---------------------------------------------------------------------------------- */

static bool is(const json_t *json, enum ld_json_kind kind)
{
    return json && json->kind == kind;
}

json_t *json_object_get(const json_t *object, const char *key)
{
    if (!is(object, LD_JSON_OBJECT_BEGIN))
        return NULL;
    for (const struct member *m = object->first; m; m = m->next) {
        if (strcmp(m->key, key) == 0)
            return m->value;
    }
    return NULL;
}

size_t json_object_size(const json_t *object)
{
    return is(object, LD_JSON_OBJECT_BEGIN) ? object->count : 0;
}

int json_object_set(json_t *object, const char *key, json_t *value)
{
    const char *copy =
        is(object, LD_JSON_OBJECT_BEGIN) && value ? ld_arena_strdup(object->arena, key) : NULL;
    return copy && append(object, copy, value) ? 0 : -1;
}

size_t json_array_size(const json_t *array)
{
    return is(array, LD_JSON_ARRAY_BEGIN) ? array->count : 0;
}

json_t *json_array_get(const json_t *array, size_t index)
{
    if (index >= json_array_size(array))
        return NULL;
    const struct member *m = array->first;
    while (index-- > 0)
        m = m->next;
    return m->value;
}

const char *json_string_value(const json_t *json)
{
    return is(json, LD_JSON_STRING) ? json->text : NULL;
}

long long json_integer_value(const json_t *json)
{
    return is(json, LD_JSON_INTEGER) ? json->integer : 0;
}

double json_number_value(const json_t *json)
{
    return is(json, LD_JSON_INTEGER) || is(json, LD_JSON_REAL) ? json->number : 0;
}

bool json_is_string(const json_t *json)
{
    return is(json, LD_JSON_STRING);
}

bool json_is_true(const json_t *json)
{
    return is(json, LD_JSON_TRUE);
}

void *json_object_iter(json_t *object)
{
    return is(object, LD_JSON_OBJECT_BEGIN) ? object->first : NULL;
}

void *json_object_iter_next(json_t *object, void *at)
{
    (void)object;
    return ((struct member *)at)->next;
}

const char *json_object_iter_key(void *at)
{
    return ((struct member *)at)->key;
}

json_t *json_object_iter_value(void *at)
{
    return ((struct member *)at)->value;
}
