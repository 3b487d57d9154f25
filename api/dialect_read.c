/* Values of foreign bodies, read as leniently as their own programs do. */
#include "api/dialect.h"

#include <math.h>
#include <strings.h>

const struct ld_json_node *ld_lenient_member(const struct ld_json_tree *tree,
                                             const struct ld_json_node *object, const char *key)
{
    const struct ld_json_node *node =
        object && object->kind == LD_JSON_OBJECT_BEGIN ? ld_json_member(tree, object, key) : NULL;
    return node && node->kind != LD_JSON_NULL ? node : NULL;
}

bool ld_lenient_number(const struct ld_json_node *node, double *out)
{
    switch (node->kind) {
    case LD_JSON_INTEGER:
    case LD_JSON_REAL:
    case LD_JSON_STRING:
        return ld_parse_double(node->text, out) && isfinite(*out);
    case LD_JSON_TRUE:
    case LD_JSON_FALSE:
        *out = node->kind == LD_JSON_TRUE;
        return true;
    case LD_JSON_NULL:
    case LD_JSON_OBJECT_BEGIN:
    case LD_JSON_OBJECT_END:
    case LD_JSON_ARRAY_BEGIN:
    case LD_JSON_ARRAY_END:
    case LD_JSON_KEY:
    case LD_JSON_END:
        break;
    }
    return false;
}

bool ld_lenient_whole(const struct ld_json_node *node, int64_t *out)
{
    double number;
    if ((node->kind == LD_JSON_INTEGER || node->kind == LD_JSON_STRING) &&
        ld_parse_i64(node->text, out))
        return true;
    /* Beyond 2^53 a double no longer is the number that was meant. */
    if (!ld_lenient_number(node, &number) || number != rint(number) || fabs(number) > 9e15)
        return false;
    *out = (int64_t)number;
    return true;
}

bool ld_lenient_flag(const struct ld_json_node *node, bool *out)
{
    double number;
    if (node->kind == LD_JSON_STRING) {
        const size_t size = node->text.size;
        const char *text = (const char *)node->text.data;
        *out = size == 4 && strncasecmp(text, "true", 4) == 0;
        if (*out || (size == 5 && strncasecmp(text, "false", 5) == 0) || size == 0)
            return true;
    }
    if (!ld_lenient_number(node, &number))
        return false;
    *out = number != 0;
    return true;
}

const char *ld_lenient_text(const struct ld_json_node *node, struct ld_arena *arena)
{
    struct ld_span text;
    if (node->kind != LD_JSON_STRING || !ld_json_string_text(node, arena, &text) ||
        (text.size > 0 && memchr(text.data, '\0', text.size)))
        return NULL;
    return ld_arena_strndup(arena, text.size ? (const char *)text.data : "", text.size);
}

bool ld_lenient_is_empty(const struct ld_json_node *node)
{
    double number;
    switch (node->kind) {
    case LD_JSON_NULL:
    case LD_JSON_FALSE:
        return true;
    case LD_JSON_INTEGER:
    case LD_JSON_REAL:
        return ld_parse_double(node->text, &number) && number == 0;
    case LD_JSON_STRING:
        return node->text.size == 0;
    case LD_JSON_OBJECT_BEGIN:
    case LD_JSON_ARRAY_BEGIN:
        return node->child_count == 0;
    case LD_JSON_TRUE:
    case LD_JSON_OBJECT_END:
    case LD_JSON_ARRAY_END:
    case LD_JSON_KEY:
    case LD_JSON_END:
        break;
    }
    return false;
}

/* ---- Members with a default ------------------------------------------------------------------ */

static void refuse_kind(struct ld_translation *t, const char *key, const char *wanted)
{
    char pointer[LD_ERROR_POINTER_SIZE];
    (void)ld_fmt(pointer, sizeof pointer, "/%s", key);
    (void)ld_problem_add(&t->native->problem, LD_E_INVALID, pointer, "%s must be %s", key, wanted);
}

double ld_body_number(struct ld_translation *t, const struct ld_json_tree *tree,
                      const struct ld_json_node *object, const char *key, double by_default)
{
    const struct ld_json_node *node = ld_lenient_member(tree, object, key);
    double value = by_default;
    if (node && !ld_lenient_number(node, &value)) {
        refuse_kind(t, key, "a number");
        return by_default;
    }
    return value;
}

int64_t ld_body_whole(struct ld_translation *t, const struct ld_json_tree *tree,
                      const struct ld_json_node *object, const char *key, int64_t by_default)
{
    const struct ld_json_node *node = ld_lenient_member(tree, object, key);
    int64_t value = by_default;
    if (node && !ld_lenient_whole(node, &value)) {
        refuse_kind(t, key, "an integer");
        return by_default;
    }
    return value;
}

bool ld_body_flag(struct ld_translation *t, const struct ld_json_tree *tree,
                  const struct ld_json_node *object, const char *key, bool by_default)
{
    const struct ld_json_node *node = ld_lenient_member(tree, object, key);
    bool value = by_default;
    if (node && !ld_lenient_flag(node, &value)) {
        refuse_kind(t, key, "true or false");
        return by_default;
    }
    return value;
}

const char *ld_body_text(struct ld_translation *t, const struct ld_json_tree *tree,
                         const struct ld_json_node *object, const char *key, const char *by_default)
{
    const struct ld_json_node *node = ld_lenient_member(tree, object, key);
    const char *text = node ? ld_lenient_text(node, t->native->arena) : by_default;
    if (!text)
        refuse_kind(t, key, "a string");
    return text ? text : by_default;
}

/* ---- Tables ---------------------------------------------------------------------------------- */

static void put_seed(struct ld_translation *t, const struct ld_json_node *node,
                     const struct ld_dialect_row *row)
{
    int64_t seed;
    uint64_t large;
    if ((node->kind == LD_JSON_INTEGER || node->kind == LD_JSON_STRING) &&
        ld_parse_u64(node->text, &large))
        ld_recipe_put_seed(&t->fields, row->path, large);
    else if (!ld_lenient_whole(node, &seed))
        refuse_kind(t, row->key, "an integer, at most 2^64-1");
    else if (seed >= 0)
        ld_recipe_put_seed(&t->fields, row->path, (uint64_t)seed);
}

void ld_translate_value(struct ld_translation *t, const struct ld_json_node *node,
                        const struct ld_dialect_row *row)
{
    double number;
    int64_t whole;
    bool flag;
    switch (row->put) {
    case LD_DIALECT_NUMBER:
        if (ld_lenient_number(node, &number))
            ld_recipe_put_double(&t->fields, row->path, number);
        else
            refuse_kind(t, row->key, "a number");
        break;
    case LD_DIALECT_WHOLE:
        if (ld_lenient_whole(node, &whole))
            ld_recipe_put_integer(&t->fields, row->path, whole);
        else
            refuse_kind(t, row->key, "an integer");
        break;
    case LD_DIALECT_SEED:
        put_seed(t, node, row);
        break;
    case LD_DIALECT_TEXT:
        if (node->kind == LD_JSON_STRING) /* a string's literal is the JSON that is wanted */
            ld_recipe_put_json(&t->fields, row->path,
                               ld_span_of(node->text.data - 1, node->text.size + 2));
        else
            refuse_kind(t, row->key, "a string");
        break;
    case LD_DIALECT_FLAG:
        if (ld_lenient_flag(node, &flag))
            ld_recipe_put_bool(&t->fields, row->path, flag);
        else
            refuse_kind(t, row->key, "true or false");
        break;
    case LD_DIALECT_LACKED:
        if (!ld_lenient_is_empty(node)) {
            char pointer[LD_ERROR_POINTER_SIZE];
            (void)ld_fmt(pointer, sizeof pointer, "/%s", row->key);
            ld_translation_refuse(t, pointer, "%s: latentd has no %s", row->key, row->path);
        }
        break;
    case LD_DIALECT_READ:
    case LD_DIALECT_IGNORE:
        break;
    }
}

void ld_translate_rows(struct ld_translation *t, const struct ld_json_tree *tree,
                       const struct ld_json_node *object, const struct ld_dialect_row *rows)
{
    for (const struct ld_json_node *node = ld_json_first(tree, object); node;
         node = ld_json_after(tree, node)) {
        const struct ld_dialect_row *row = rows;
        while (row->key && !ld_span_is(node->key, row->key))
            row++;
        if (row->key && node->kind != LD_JSON_NULL)
            ld_translate_value(t, node, row);
        else if (!row->key)
            ld_translation_warn(t, "%.*s is not known here and was ignored",
                                node->key.size > 64 ? 64 : (int)node->key.size,
                                (const char *)node->key.data);
    }
}

static bool is_in_array(const struct ld_json_tree *tree, const struct ld_json_node *node)
{
    for (const struct ld_json_node *at = node; at != ld_json_root(tree);) {
        at = &tree->nodes[at->parent];
        if (at->kind == LD_JSON_ARRAY_BEGIN)
            return true;
    }
    return false;
}

void ld_translate_native(struct ld_translation *t, const struct ld_json_tree *tree)
{
    for (uint32_t i = 1; i < tree->count; i++) {
        const struct ld_json_node *node = &tree->nodes[i];
        char pointer[LD_ERROR_POINTER_SIZE];
        if (node->kind == LD_JSON_OBJECT_BEGIN || is_in_array(tree, node))
            continue;
        ld_json_pointer(tree, node, pointer, sizeof pointer);
        char *path = ld_arena_strdup(t->native->arena, pointer + 1);
        if (!path) {
            t->fields.failed = true;
            return;
        }
        for (char *p = path; *p; p++)
            *p = *p == '/' ? '.' : *p;
        const bool text = node->kind == LD_JSON_STRING;
        ld_recipe_put_json(&t->fields, path,
                           text ? ld_span_of(node->text.data - 1, node->text.size + 2)
                                : node->text);
    }
}

/* ---- Echo ------------------------------------------------------------------------------------ */

void ld_write_node(const struct ld_json_node *node, struct ld_buffer *out)
{
    if (node->kind == LD_JSON_STRING) /* the raw text lies between its quotes */
        ld_buffer_bytes(out, node->text.data - 1, node->text.size + 2);
    else
        ld_buffer_bytes(out, node->text.data, node->text.size);
}
