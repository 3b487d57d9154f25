#include "api/json_scan.h"

/* ---- Where the scan stands ------------------------------------------------------------------- */

/* One open container on the way to the present token. */
struct level {
    bool is_object;
    bool has_key;
    struct ld_span key; /* raw key of the member under way, once there is one */
    uint32_t index;     /* of the array item under way */
};

struct path {
    struct level levels[LD_JSON_DEPTH_MAX];
    uint32_t depth;
};

/* Appends one reference token, '~' and '/' escaped (RFC 6901); false when it does not fit. */
static bool append_part(char *out, size_t out_size, size_t *used, struct ld_span part)
{
    size_t pos = *used;
    if (pos + 1 >= out_size)
        return false;
    out[pos++] = '/';
    for (size_t i = 0; i < part.size; i++) {
        const char c = (char)part.data[i];
        const bool escape = c == '~' || c == '/';
        if (pos + (escape ? 2 : 1) >= out_size)
            return false;
        if (escape)
            out[pos++] = '~';
        out[pos++] = c == '~' ? '0' : c == '/' ? '1' : c;
    }
    out[pos] = '\0';
    *used = pos;
    return true;
}

static bool append_index(char *out, size_t out_size, size_t *used, uint32_t index)
{
    char digits[16];
    (void)ld_fmt(digits, sizeof digits, "%u", index);
    return append_part(out, out_size, used, ld_span_text(digits));
}

/* The place of an error found while scanning; keys are shown as they stand in the body. */
static void set_pointer(const struct path *path, struct ld_error *err)
{
    size_t used = 0;
    if (!err)
        return;
    err->pointer[0] = '\0';
    for (uint32_t i = 0; i < path->depth; i++) {
        const struct level *level = &path->levels[i];
        if (level->is_object && !level->has_key)
            break;
        const bool fits =
            level->is_object ? append_part(err->pointer, sizeof err->pointer, &used, level->key)
                             : append_index(err->pointer, sizeof err->pointer, &used, level->index);
        if (!fits)
            break;
    }
    err->pointer[used] = '\0';
    while (!ld_utf8_valid(ld_span_text(err->pointer)))
        err->pointer[--used] = '\0'; /* a key cut within a character */
}

/* A token has been read: where does that leave us? */
static void follow(struct path *path, const struct ld_json_token *token)
{
    struct level *top = path->depth ? &path->levels[path->depth - 1] : NULL;
    switch (token->kind) {
    case LD_JSON_KEY:
        if (top) {
            top->key = token->text;
            top->has_key = true;
        }
        return;
    case LD_JSON_OBJECT_BEGIN:
    case LD_JSON_ARRAY_BEGIN:
        if (path->depth < LD_JSON_DEPTH_MAX) {
            const struct level fresh = {.is_object = token->kind == LD_JSON_OBJECT_BEGIN};
            path->levels[path->depth++] = fresh;
        }
        return;
    case LD_JSON_OBJECT_END:
    case LD_JSON_ARRAY_END:
        if (path->depth)
            path->depth--;
        top = path->depth ? &path->levels[path->depth - 1] : NULL;
        break;
    case LD_JSON_STRING:
    case LD_JSON_INTEGER:
    case LD_JSON_REAL:
    case LD_JSON_TRUE:
    case LD_JSON_FALSE:
    case LD_JSON_NULL:
    case LD_JSON_END:
        break;
    }
    if (top)
        top->index++; /* a value ended; meaningless but harmless in objects */
}

/* ---- First pass: is it worth any memory? ----------------------------------------------------- */

static enum ld_code fail_at(struct ld_span input, size_t offset, const char *what,
                            struct ld_error *err)
{
    uint32_t line;
    uint32_t column;
    ld_json_position(input, offset, &line, &column);
    return LD_FAIL(err, LD_E_FORMAT, "line %u, column %u: %s", line, column, what);
}

/* `wide`: up to 2^64-1, as seeds of Python's clients are. */
static enum ld_code check_number(struct ld_span input, const struct ld_json_token *token, bool wide,
                                 struct ld_error *err)
{
    int64_t integer;
    uint64_t natural;
    double real;
    if (token->kind == LD_JSON_INTEGER && !ld_parse_i64(token->text, &integer) &&
        !(wide && ld_parse_u64(token->text, &natural)))
        return fail_at(input, token->offset, "the integer is beyond 64 bits", err);
    if (token->kind == LD_JSON_REAL && !ld_parse_double(token->text, &real))
        return fail_at(input, token->offset, "the number is too large or too long", err);
    return LD_OK;
}

static bool begins_value(enum ld_json_kind kind)
{
    return kind != LD_JSON_KEY && kind != LD_JSON_OBJECT_END && kind != LD_JSON_ARRAY_END &&
           kind != LD_JSON_END;
}

static enum ld_code count_values(struct ld_span input, uint32_t depth_max, uint32_t values_max,
                                 bool wide, uint32_t *count, struct ld_error *err)
{
    struct ld_json json;
    struct ld_json_token token;
    struct path path = {.depth = 0};
    *count = 0;
    ld_json_init(&json, input, depth_max, 2 * (uint64_t)values_max + 2); /* keys count there too */
    do {
        enum ld_code code = ld_json_next(&json, &token, err);
        if (code == LD_OK)
            code = check_number(input, &token, wide, err);
        if (code == LD_OK && begins_value(token.kind) && (*count)++ == values_max)
            code = fail_at(input, token.offset, "too many values", err);
        if (code != LD_OK) {
            if (err)
                err->code = LD_E_FORMAT; /* depth and count are answered like malformed text */
            set_pointer(&path, err);
            return LD_E_FORMAT;
        }
        follow(&path, &token);
    } while (token.kind != LD_JSON_END);
    return LD_OK;
}

/* ---- Second pass: the tree ------------------------------------------------------------------- */

struct builder {
    struct ld_span input;
    struct ld_json_node *nodes;
    struct ld_arena *arena;
    uint32_t count;
    uint32_t open[LD_JSON_DEPTH_MAX]; /* containers under way */
    uint32_t last[LD_JSON_DEPTH_MAX]; /* and the latest child of each, 0 = none */
    uint32_t depth;
    struct ld_span key;
};

static bool resolve(const struct ld_json_token *token, struct ld_arena *arena, struct ld_span *text)
{
    *text = token->text;
    if (!token->escaped)
        return true;
    size_t size;
    char *copy = ld_arena_alloc(arena, token->text.size + 1); /* escapes only ever shrink */
    if (!copy || !ld_json_unescape(token, copy, token->text.size, &size))
        return false;
    *text = ld_span_of(copy, size);
    return true;
}

static void add_node(struct builder *builder, const struct ld_json_token *token)
{
    const uint32_t index = builder->count++;
    struct ld_json_node *node = &builder->nodes[index];
    node->kind = token->kind;
    node->text = token->text;
    node->escaped = token->escaped;
    node->key = builder->key;
    builder->key = ld_span_of("", 0);
    if (builder->depth > 0) {
        const uint32_t level = builder->depth - 1;
        struct ld_json_node *parent = &builder->nodes[builder->open[level]];
        node->parent = builder->open[level];
        if (builder->last[level])
            builder->nodes[builder->last[level]].next = index;
        else
            parent->child = index;
        builder->last[level] = index;
        parent->child_count++;
    }
    if (token->kind == LD_JSON_OBJECT_BEGIN || token->kind == LD_JSON_ARRAY_BEGIN) {
        node->text = ld_span_of(builder->input.data + token->offset, 1);
        builder->open[builder->depth] = index;
        builder->last[builder->depth] = 0;
        builder->depth++;
    }
}

static enum ld_code build(struct builder *builder, uint32_t depth_max, struct ld_error *err)
{
    struct ld_json json;
    struct ld_json_token token;
    ld_json_init(&json, builder->input, depth_max, UINT64_MAX);
    do {
        const enum ld_code code = ld_json_next(&json, &token, err);
        if (code != LD_OK)
            return code; /* cannot be: the first pass accepted the same bytes */
        if (token.kind == LD_JSON_KEY) {
            if (!resolve(&token, builder->arena, &builder->key))
                return LD_FAIL(err, LD_E_NOMEM, "out of memory");
            /* The tokenizer takes it, as names of tensors may have one; no field has. */
            if (token.escaped && memchr(builder->key.data, 0, builder->key.size))
                return fail_at(builder->input, token.offset, "a key has a NUL in it", err);
        } else if (begins_value(token.kind)) {
            add_node(builder, &token);
        } else if (token.kind != LD_JSON_END) {
            struct ld_json_node *node = &builder->nodes[builder->open[--builder->depth]];
            const uint8_t *end = builder->input.data + token.offset + 1;
            node->text.size = (size_t)(end - node->text.data);
        }
    } while (token.kind != LD_JSON_END);
    return LD_OK;
}

/* ---- Duplicate keys -------------------------------------------------------------------------- */

/* FNV-1a, 64 bit (Fowler, Noll, Vo; draft-eastlake-fnv). */
static uint64_t key_hash(struct ld_span key)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < key.size; i++)
        hash = (hash ^ key.data[i]) * UINT64_C(0x100000001b3);
    return hash;
}

/* `slots` is a zeroed power of two, at least twice the object's members. */
static const struct ld_json_node *find_duplicate(const struct ld_json_tree *tree,
                                                 const struct ld_json_node *object, uint32_t *slots,
                                                 uint32_t slot_count)
{
    for (uint32_t i = object->child; i; i = tree->nodes[i].next) {
        uint32_t slot = (uint32_t)key_hash(tree->nodes[i].key) & (slot_count - 1);
        for (; slots[slot]; slot = (slot + 1) & (slot_count - 1))
            if (ld_span_equal(tree->nodes[slots[slot]].key, tree->nodes[i].key))
                return &tree->nodes[i];
        slots[slot] = i;
    }
    return NULL;
}

static enum ld_code refuse_duplicates(const struct ld_json_tree *tree, struct ld_arena *arena,
                                      struct ld_error *err)
{
    uint32_t most = 0;
    for (uint32_t i = 0; i < tree->count; i++)
        if (tree->nodes[i].kind == LD_JSON_OBJECT_BEGIN && tree->nodes[i].child_count > most)
            most = tree->nodes[i].child_count;
    if (most < 2)
        return LD_OK;
    uint32_t capacity = 4;
    while (capacity < 2 * most)
        capacity *= 2;
    uint32_t *slots = ld_arena_calloc(arena, capacity, sizeof *slots);
    if (!slots)
        return LD_FAIL(err, LD_E_NOMEM, "out of memory");
    for (uint32_t i = 0; i < tree->count; i++) {
        const struct ld_json_node *object = &tree->nodes[i];
        if (object->kind != LD_JSON_OBJECT_BEGIN || object->child_count < 2)
            continue;
        uint32_t used = 4;
        while (used < 2 * object->child_count)
            used *= 2;
        memset(slots, 0, used * sizeof *slots);
        const struct ld_json_node *twin = find_duplicate(tree, object, slots, used);
        if (twin) {
            const enum ld_code code =
                fail_at(tree->input, (size_t)(twin->text.data - tree->input.data),
                        "the key before this value occurs twice", err);
            if (err)
                ld_json_pointer(tree, twin, err->pointer, sizeof err->pointer);
            return code;
        }
    }
    return LD_OK;
}

static enum ld_code scan(struct ld_json_tree *tree, struct ld_span input, uint32_t depth_max,
                         uint32_t values_max, bool wide, struct ld_arena *arena,
                         struct ld_error *err)
{
    struct builder builder = {.input = input, .arena = arena, .key = ld_span_of("", 0)};
    uint32_t count;
    memset(tree, 0, sizeof *tree);
    LD_ASSERT(depth_max > 0 && depth_max <= LD_JSON_DEPTH_MAX);
    enum ld_code code = count_values(input, depth_max, values_max, wide, &count, err);
    if (code != LD_OK)
        return code;
    builder.nodes = ld_arena_calloc(arena, count, sizeof *builder.nodes);
    if (!builder.nodes)
        return LD_FAIL(err, LD_E_NOMEM, "out of memory");
    code = build(&builder, depth_max, err);
    if (code != LD_OK)
        return code;
    LD_ASSERT(builder.count == count && builder.depth == 0);
    tree->input = input;
    tree->nodes = builder.nodes;
    tree->count = count;
    return refuse_duplicates(tree, arena, err);
}

enum ld_code ld_json_scan(struct ld_json_tree *tree, struct ld_span input, uint32_t depth_max,
                          uint32_t values_max, struct ld_arena *arena, struct ld_error *err)
{
    return scan(tree, input, depth_max, values_max, false, arena, err);
}

enum ld_code ld_json_scan_wide(struct ld_json_tree *tree, struct ld_span input, uint32_t depth_max,
                               uint32_t values_max, struct ld_arena *arena, struct ld_error *err)
{
    return scan(tree, input, depth_max, values_max, true, arena, err);
}

/* ---- Reading the tree ------------------------------------------------------------------------ */

const struct ld_json_node *ld_json_root(const struct ld_json_tree *tree)
{
    return &tree->nodes[0];
}

const struct ld_json_node *ld_json_first(const struct ld_json_tree *tree,
                                         const struct ld_json_node *container)
{
    return container->child ? &tree->nodes[container->child] : NULL;
}

const struct ld_json_node *ld_json_after(const struct ld_json_tree *tree,
                                         const struct ld_json_node *node)
{
    return node->next ? &tree->nodes[node->next] : NULL;
}

const struct ld_json_node *ld_json_member(const struct ld_json_tree *tree,
                                          const struct ld_json_node *object, const char *key)
{
    if (object->kind != LD_JSON_OBJECT_BEGIN)
        return NULL;
    const struct ld_json_node *node = ld_json_first(tree, object);
    while (node && !ld_span_is(node->key, key))
        node = ld_json_after(tree, node);
    return node;
}

static struct ld_json_token as_token(const struct ld_json_node *node)
{
    struct ld_json_token token = {.kind = node->kind, .text = node->text, .escaped = node->escaped};
    return token;
}

bool ld_json_string_text(const struct ld_json_node *node, struct ld_arena *arena,
                         struct ld_span *text)
{
    const struct ld_json_token token = as_token(node);
    LD_ASSERT(node->kind == LD_JSON_STRING);
    return resolve(&token, arena, text);
}

bool ld_json_string_is(const struct ld_json_node *node, const char *text)
{
    const struct ld_json_token token = as_token(node);
    return node->kind == LD_JSON_STRING && ld_json_is(&token, text);
}

bool ld_json_is_negative_zero(const struct ld_json_node *node)
{
    double value;
    return (node->kind == LD_JSON_INTEGER || node->kind == LD_JSON_REAL) && node->text.size > 0 &&
           node->text.data[0] == '-' && ld_parse_double(node->text, &value) && value == 0.0;
}

bool ld_json_integer(const struct ld_json_node *node, int64_t *out)
{
    return node->kind == LD_JSON_INTEGER && !ld_json_is_negative_zero(node) &&
           ld_parse_i64(node->text, out);
}

bool ld_json_number(const struct ld_json_node *node, double *out)
{
    return (node->kind == LD_JSON_INTEGER || node->kind == LD_JSON_REAL) &&
           !ld_json_is_negative_zero(node) && ld_parse_double(node->text, out);
}

void ld_json_pointer(const struct ld_json_tree *tree, const struct ld_json_node *node, char *out,
                     size_t out_size)
{
    const struct ld_json_node *way[LD_JSON_DEPTH_MAX];
    uint32_t depth = 0;
    size_t used = 0;
    LD_ASSERT(out_size > 4);
    out[0] = '\0';
    for (; node != tree->nodes && depth < LD_JSON_DEPTH_MAX; node = &tree->nodes[node->parent])
        way[depth++] = node;
    while (depth > 0) {
        const struct ld_json_node *step = way[--depth];
        const struct ld_json_node *parent = &tree->nodes[step->parent];
        bool fits;
        if (parent->kind == LD_JSON_OBJECT_BEGIN) {
            fits = append_part(out, out_size - 3, &used, step->key);
        } else {
            uint32_t index = 0;
            for (uint32_t i = parent->child; &tree->nodes[i] != step; i = tree->nodes[i].next)
                index++;
            fits = append_index(out, out_size - 3, &used, index);
        }
        if (!fits) {
            out[used] = '\0';
            (void)ld_fmt(out + used, out_size - used, "...");
            return;
        }
    }
}

const char *ld_json_kind_name(enum ld_json_kind kind)
{
    switch (kind) {
    case LD_JSON_OBJECT_BEGIN:
    case LD_JSON_OBJECT_END:
        return "object";
    case LD_JSON_ARRAY_BEGIN:
    case LD_JSON_ARRAY_END:
        return "array";
    case LD_JSON_KEY:
    case LD_JSON_STRING:
        return "string";
    case LD_JSON_INTEGER:
        return "integer";
    case LD_JSON_REAL:
        return "number";
    case LD_JSON_TRUE:
    case LD_JSON_FALSE:
        return "boolean";
    case LD_JSON_NULL:
        return "null";
    case LD_JSON_END:
        break;
    }
    return "end";
}
