#include "server/key.h"

#include "api/respond.h"
#include "config/limits.h"
#include "config/nearest.h"
#include "server/fair.h"

#include <ctype.h>

enum { LINE_BYTES_MAX = 8 * 1024, LINE_VALUES_MAX = 256, LIST_BYTES_MAX = 512 };

static const char digits[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

static const char *const scope_names[LD_SCOPE_COUNT] = {"open", "read", "generate", "admin"};
static const char *const rating_names[LD_RATING_COUNT] = {"general", "sensitive", "questionable",
                                                          "explicit"};

static const struct ld_key_limit limit_rows[] = {
#define LIMIT(name, member, by_default, min, max, doc)                                             \
    {name, doc, min, max, offsetof(struct ld_key_limits, member)},
#include "server/key_limits.def"
#undef LIMIT
};
enum { LIMIT_COUNT = sizeof limit_rows / sizeof limit_rows[0] };

const char *ld_scope_name(enum ld_scope scope)
{
    return (unsigned)scope < LD_SCOPE_COUNT ? scope_names[scope] : "open";
}

const char *ld_rating_name(enum ld_rating rating)
{
    return (unsigned)rating < LD_RATING_COUNT ? rating_names[rating] : "explicit";
}

const struct ld_key_limit *ld_key_limit_table(uint32_t *count)
{
    *count = LIMIT_COUNT;
    return limit_rows;
}

static int64_t *limit_at(struct ld_key_limits *limits, const struct ld_key_limit *row)
{
    return (int64_t *)(void *)((char *)limits + row->offset);
}

static int64_t limit_of(const struct ld_key_limits *limits, const struct ld_key_limit *row)
{
    return *(const int64_t *)(const void *)((const char *)limits + row->offset);
}

static void unset_limits(struct ld_key_limits *limits)
{
    memset(limits, 0, sizeof *limits);
    for (uint32_t i = 0; i < LIMIT_COUNT; i++)
        *limit_at(limits, &limit_rows[i]) = LD_KEY_UNSET;
    limits->rating = LD_RATING_EXPLICIT;
}

/* ---- The text of a key ----------------------------------------------------------------------- */

/* 32 bytes as a number in base 62, most significant digit first, always 43 digits. */
static void write_base62(const uint8_t bytes[32], char out[LD_KEY_SECRET_LENGTH])
{
    uint8_t number[32];
    memcpy(number, bytes, sizeof number);
    for (int at = LD_KEY_SECRET_LENGTH - 1; at >= 0; at--) {
        uint32_t rest = 0;
        for (size_t i = 0; i < sizeof number; i++) {
            const uint32_t part = rest * 256 + number[i];
            number[i] = (uint8_t)(part / 62);
            rest = part % 62;
        }
        out[at] = digits[rest];
    }
}

void ld_key_make(struct ld_key *key, char text[LD_KEY_TEXT_SIZE])
{
    char id[LD_ID_SIZE];
    uint8_t random[32];
    char secret[LD_KEY_SECRET_LENGTH];
    memset(key, 0, sizeof *key);
    ld_id_make(id);
    memcpy(key->id, id, LD_KEY_ID_LENGTH);
    ld_random_bytes(random, sizeof random);
    write_base62(random, secret);
    ld_sha256(ld_span_of(secret, sizeof secret), key->hash);
    key->scopes = (1U << LD_SCOPE_READ) | (1U << LD_SCOPE_GENERATE);
    unset_limits(&key->limits);
    (void)ld_fmt(text, LD_KEY_TEXT_SIZE, "ldk_%s_%.*s", key->id, LD_KEY_SECRET_LENGTH, secret);
    explicit_bzero(random, sizeof random);
    explicit_bzero(secret, sizeof secret);
}

static bool is_key_id(const uint8_t *text)
{
    for (int i = 0; i < LD_KEY_ID_LENGTH; i++) {
        if (!((text[i] >= '0' && text[i] <= '9') || (text[i] >= 'a' && text[i] <= 'z')))
            return false;
    }
    return true;
}

bool ld_key_split(struct ld_span text, char id[LD_KEY_ID_SIZE], struct ld_span *secret)
{
    if (text.size != LD_KEY_TEXT_LENGTH || memcmp(text.data, "ldk_", 4) != 0 ||
        text.data[4 + LD_KEY_ID_LENGTH] != '_' || !is_key_id(text.data + 4))
        return false;
    memcpy(id, text.data + 4, LD_KEY_ID_LENGTH);
    id[LD_KEY_ID_LENGTH] = '\0';
    *secret = ld_span_of(text.data + 4 + LD_KEY_ID_LENGTH + 1, LD_KEY_SECRET_LENGTH);
    return true;
}

bool ld_key_secret_fits(const struct ld_key *key, struct ld_span secret)
{
    static const uint8_t nobody[LD_SHA256_BYTES];
    uint8_t hash[LD_SHA256_BYTES];
    ld_sha256(secret, hash);
    /* What is compared are hashes, so not even their first differing byte would tell anything. */
    const bool equal = ld_equal_constant_time(hash, key ? key->hash : nobody, sizeof hash);
    return equal && key;
}

/* ---- Members as text ------------------------------------------------------------------------- */

static enum ld_code set_name(struct ld_key *key, const char *value, struct ld_error *err)
{
    const size_t size = strlen(value);
    bool good = size > 0 && size < sizeof key->name;
    for (size_t i = 0; i < size && good; i++)
        good = isalnum((unsigned char)value[i]) || strchr("._-@+", value[i]);
    if (!good)
        return LD_FAIL(err, LD_E_INVALID,
                       "name must have 1 to %d letters, digits or . _ - @ + characters",
                       LD_KEY_NAME_SIZE - 1);
    memcpy(key->name, value, size + 1);
    return LD_OK;
}

static enum ld_code set_scopes(struct ld_key *key, const char *value, struct ld_error *err)
{
    struct ld_span item;
    uint32_t scopes = 0;
    for (size_t pos = 0; ld_settings_list_next(value, &pos, &item);) {
        unsigned scope = LD_SCOPE_READ;
        while (scope < LD_SCOPE_COUNT && !ld_span_is(item, scope_names[scope]))
            scope++;
        if (scope == LD_SCOPE_COUNT)
            return LD_FAIL(err, LD_E_INVALID, "scopes must be of read, generate and admin");
        scopes |= 1U << scope;
    }
    if (scopes == 0)
        return LD_FAIL(err, LD_E_INVALID, "scopes must name at least one of read, generate, admin");
    key->scopes = scopes;
    return LD_OK;
}

static enum ld_code set_rating(struct ld_key *key, const char *value, struct ld_error *err)
{
    for (unsigned i = 0; i < LD_RATING_COUNT; i++) {
        if (strcmp(value, rating_names[i]) == 0) {
            key->limits.rating = (enum ld_rating)i;
            return LD_OK;
        }
    }
    return LD_FAIL(err, LD_E_INVALID,
                   "rating must be general, sensitive, questionable or explicit");
}

static enum ld_code set_models(struct ld_key *key, const char *value, struct ld_error *err)
{
    const bool fits = strlen(value) < sizeof key->limits.models;
    if (!fits || !ld_utf8_valid(ld_span_text(value)))
        return LD_FAIL(err, LD_E_RANGE, "models must have at most %d bytes",
                       LD_KEY_MODELS_SIZE - 1);
    for (const char *c = value; *c; c++) {
        if ((unsigned char)*c < 0x20)
            return LD_FAIL(err, LD_E_INVALID, "models must not hold control characters");
    }
    (void)ld_fmt(key->limits.models, sizeof key->limits.models, "%s", value);
    return LD_OK;
}

static enum ld_code set_limit(struct ld_key *key, const struct ld_key_limit *row, const char *value,
                              struct ld_error *err)
{
    int64_t number;
    if (!*value) {
        *limit_at(&key->limits, row) = LD_KEY_UNSET;
        return LD_OK;
    }
    if (!ld_parse_i64(ld_span_text(value), &number))
        return LD_FAIL(err, LD_E_INVALID, "%s must be an integer", row->name);
    if (number < row->min || number > row->max)
        return LD_FAIL(err, LD_E_RANGE, "%s must be between %lld and %lld", row->name,
                       (long long)row->min, (long long)row->max);
    *limit_at(&key->limits, row) = number;
    return LD_OK;
}

static enum ld_code refuse_member(const char *member, struct ld_error *err)
{
    struct ld_nearest nearest = ld_nearest_to(ld_span_text(member));
    ld_nearest_offer(&nearest, "name");
    ld_nearest_offer(&nearest, "scopes");
    ld_nearest_offer(&nearest, "rating");
    ld_nearest_offer(&nearest, "models");
    for (uint32_t i = 0; i < LIMIT_COUNT; i++)
        ld_nearest_offer(&nearest, limit_rows[i].name);
    return LD_FAIL(err, LD_E_NOT_FOUND, "unknown field %.64s%s", member, ld_nearest_hint(&nearest));
}

enum ld_code ld_key_set(struct ld_key *key, const char *member, const char *value,
                        struct ld_error *err)
{
    if (strcmp(member, "name") == 0)
        return set_name(key, value, err);
    if (strcmp(member, "scopes") == 0)
        return set_scopes(key, value, err);
    if (strcmp(member, "rating") == 0)
        return set_rating(key, value, err);
    if (strcmp(member, "models") == 0)
        return set_models(key, value, err);
    for (uint32_t i = 0; i < LIMIT_COUNT; i++) {
        if (strcmp(member, limit_rows[i].name) == 0)
            return set_limit(key, &limit_rows[i], value, err);
    }
    return refuse_member(member, err);
}

/* ---- Members as JSON ------------------------------------------------------------------------- */

/* Append a string's text; false for one that a comma-separated list or a C string cannot hold. */
static bool append_item(struct ld_buffer *out, const struct ld_json_node *node,
                        struct ld_arena *arena)
{
    struct ld_span text;
    if (node->kind != LD_JSON_STRING || !ld_json_string_text(node, arena, &text) ||
        (text.size > 0 && memchr(text.data, '\0', text.size)))
        return false;
    ld_buffer_bytes(out, text.data, text.size);
    return !out->failed;
}

static bool value_text(const struct ld_json_tree *tree, const struct ld_json_node *node, bool list,
                       struct ld_arena *arena, struct ld_buffer *out)
{
    ld_buffer_text(out, "");
    if (list) {
        if (node->kind != LD_JSON_ARRAY_BEGIN)
            return false;
        for (const struct ld_json_node *item = ld_json_first(tree, node); item;
             item = ld_json_after(tree, item)) {
            if (out->size > 0)
                ld_buffer_text(out, ",");
            if (!append_item(out, item, arena))
                return false;
        }
        return true;
    }
    if (node->kind == LD_JSON_STRING)
        return append_item(out, node, arena);
    if (node->kind != LD_JSON_INTEGER)
        return false;
    ld_buffer_bytes(out, node->text.data, node->text.size);
    return !out->failed;
}

static enum ld_code apply_member(struct ld_key *key, const struct ld_json_tree *tree,
                                 const struct ld_json_node *node, struct ld_arena *arena,
                                 struct ld_error *err)
{
    char member[65];
    const bool list = ld_span_is(node->key, "scopes") || ld_span_is(node->key, "models");
    const bool words = list || ld_span_is(node->key, "name") || ld_span_is(node->key, "rating");
    struct ld_buffer value = ld_buffer_make(LIST_BYTES_MAX + 1);
    enum ld_code code = LD_OK;
    (void)ld_fmt(member, sizeof member, "%.*s", node->key.size > 64 ? 64 : (int)node->key.size,
                 (const char *)node->key.data);
    if (node->kind == LD_JSON_NULL && !words)
        code = ld_key_set(key, member, "", err);
    else if ((!words && node->kind == LD_JSON_STRING) ||
             !value_text(tree, node, list, arena, &value))
        code = ld_key_set(key, member, "x", err) == LD_E_NOT_FOUND
                   ? err->code
                   : LD_FAIL(err, LD_E_INVALID, "%s must be %s", member,
                             list    ? "a list of words"
                             : words ? "a word"
                                     : "an integer");
    else
        code = ld_key_set(key, member, value.data, err);
    ld_buffer_deinit(&value);
    return code;
}

enum ld_code ld_key_apply(struct ld_key *key, const struct ld_json_tree *tree,
                          const struct ld_json_node *object, struct ld_arena *arena,
                          struct ld_problem *problem)
{
    if (object->kind != LD_JSON_OBJECT_BEGIN)
        return ld_problem_add(problem, LD_E_INVALID, "", "the body must be an object");
    for (const struct ld_json_node *node = ld_json_first(tree, object); node;
         node = ld_json_after(tree, node)) {
        struct ld_key trial = *key; /* what is refused leaves nothing behind */
        struct ld_error err = {0};
        char pointer[LD_ERROR_POINTER_SIZE];
        if (apply_member(&trial, tree, node, arena, &err) == LD_OK) {
            *key = trial;
            continue;
        }
        ld_json_pointer(tree, node, pointer, sizeof pointer);
        if (err.code == LD_E_NOT_FOUND)
            err.code = LD_E_INVALID;
        (void)ld_problem_add_error(problem, pointer, &err);
    }
    return problem->code;
}

/* ---- Limits ---------------------------------------------------------------------------------- */

void ld_key_limits_effective(const struct ld_key_limits *limits, const struct ld_settings *settings,
                             struct ld_key_limits *out)
{
    const int64_t by_default[] = {
#define LIMIT(name, member, by_default, min, max, doc) by_default,
#include "server/key_limits.def"
#undef LIMIT
    };
    if (limits)
        *out = *limits;
    else
        unset_limits(out);
    for (uint32_t i = 0; i < LIMIT_COUNT; i++) {
        int64_t *limit = limit_at(out, &limit_rows[i]);
        if (*limit == LD_KEY_UNSET)
            *limit = by_default[i];
    }
}

/* ---- Writing --------------------------------------------------------------------------------- */

static void write_list(const char *list, struct ld_buffer *out)
{
    struct ld_span item;
    bool first = true;
    ld_buffer_byte(out, '[');
    for (size_t pos = 0; ld_settings_list_next(list, &pos, &item); first = false) {
        if (!first)
            ld_buffer_byte(out, ',');
        ld_buffer_json_span(out, item);
    }
    ld_buffer_byte(out, ']');
}

static void write_scopes(uint32_t scopes, struct ld_buffer *out)
{
    bool first = true;
    ld_buffer_text(out, "\"scopes\":[");
    for (unsigned i = LD_SCOPE_READ; i < LD_SCOPE_COUNT; i++) {
        if (!(scopes & (1U << i)))
            continue;
        ld_buffer_format(out, "%s\"%s\"", first ? "" : ",", scope_names[i]);
        first = false;
    }
    ld_buffer_byte(out, ']');
}

void ld_key_write_rights(uint32_t scopes, const struct ld_key_limits *limits, struct ld_buffer *out)
{
    write_scopes(scopes, out);
    ld_buffer_format(out, ",\"rating\":\"%s\",\"models\":", ld_rating_name(limits->rating));
    write_list(limits->models, out);
    ld_buffer_text(out, ",\"limits\":{");
    for (uint32_t i = 0; i < LIMIT_COUNT; i++)
        ld_buffer_format(out, "%s\"%s\":%lld", i ? "," : "", limit_rows[i].name,
                         (long long)limit_of(limits, &limit_rows[i]));
    ld_buffer_byte(out, '}');
}

void ld_key_write_view(const struct ld_key *key, const struct ld_settings *settings,
                       struct ld_buffer *out)
{
    struct ld_key_limits effective;
    ld_key_limits_effective(&key->limits, settings, &effective);
    char created[25];
    ld_time_text(key->created_us, created, sizeof created);
    ld_buffer_format(out, "{\"id\":\"%s\",\"name\":", key->id);
    ld_buffer_json_string(out, key->name);
    ld_buffer_format(out, ",\"created_at\":\"%s\",\"revoked\":%s,", created,
                     key->revoked_us ? "true" : "false");
    ld_key_write_rights(key->scopes, &effective, out);
    ld_buffer_byte(out, '}');
}

/* ---- Lines of the file ----------------------------------------------------------------------- */

void ld_key_write_line(const struct ld_key *key, struct ld_buffer *out)
{
    char hex[LD_SHA256_HEX_SIZE];
    ld_hex(ld_span_of(key->hash, sizeof key->hash), hex);
    ld_buffer_format(out, "{\"id\":\"%s\",\"sha256\":\"%s\",\"created_us\":%lld", key->id, hex,
                     (long long)key->created_us);
    if (key->revoked_us)
        ld_buffer_format(out, ",\"revoked_us\":%lld", (long long)key->revoked_us);
    ld_buffer_text(out, ",\"key\":{\"name\":");
    ld_buffer_json_string(out, key->name);
    ld_buffer_byte(out, ',');
    write_scopes(key->scopes, out);
    if (key->limits.rating != LD_RATING_EXPLICIT)
        ld_buffer_format(out, ",\"rating\":\"%s\"", ld_rating_name(key->limits.rating));
    if (key->limits.models[0]) {
        ld_buffer_text(out, ",\"models\":");
        write_list(key->limits.models, out);
    }
    for (uint32_t i = 0; i < LIMIT_COUNT; i++) {
        const int64_t value = limit_of(&key->limits, &limit_rows[i]);
        if (value != LD_KEY_UNSET)
            ld_buffer_format(out, ",\"%s\":%lld", limit_rows[i].name, (long long)value);
    }
    ld_buffer_text(out, "}}\n");
}

static int nibble(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool read_hash(const struct ld_json_node *node, uint8_t hash[LD_SHA256_BYTES])
{
    if (!node || node->kind != LD_JSON_STRING || node->escaped ||
        node->text.size != 2 * LD_SHA256_BYTES)
        return false;
    for (size_t i = 0; i < LD_SHA256_BYTES; i++) {
        const int high = nibble(node->text.data[2 * i]);
        const int low = nibble(node->text.data[2 * i + 1]);
        if (high < 0 || low < 0)
            return false;
        hash[i] = (uint8_t)(high * 16 + low);
    }
    return true;
}

static bool read_outer(struct ld_key *key, const struct ld_json_tree *tree)
{
    const struct ld_json_node *root = ld_json_root(tree);
    if (root->kind != LD_JSON_OBJECT_BEGIN)
        return false;
    const struct ld_json_node *id = ld_json_member(tree, root, "id");
    const struct ld_json_node *created = ld_json_member(tree, root, "created_us");
    const struct ld_json_node *revoked = ld_json_member(tree, root, "revoked_us");
    if (!id || id->kind != LD_JSON_STRING || id->text.size != LD_KEY_ID_LENGTH ||
        !is_key_id(id->text.data) || !read_hash(ld_json_member(tree, root, "sha256"), key->hash) ||
        !created || !ld_json_integer(created, &key->created_us) ||
        (revoked && !ld_json_integer(revoked, &key->revoked_us)))
        return false;
    memcpy(key->id, id->text.data, LD_KEY_ID_LENGTH);
    return true;
}

enum ld_code ld_key_read_line(struct ld_key *key, struct ld_span line, struct ld_error *err)
{
    struct ld_json_tree tree;
    struct ld_arena arena;
    struct ld_problem problem;
    memset(key, 0, sizeof *key);
    unset_limits(&key->limits);
    if (line.size > LINE_BYTES_MAX)
        return LD_FAIL(err, LD_E_FORMAT, "a line of the keys is too long");
    ld_arena_init(&arena, "key", 256 << 10);
    enum ld_code code = ld_json_scan(&tree, line, LD_JSON_DEPTH, LINE_VALUES_MAX, &arena, err);
    if (code == LD_OK) {
        ld_problem_init(&problem, &arena);
        const struct ld_json_node *own =
            read_outer(key, &tree) ? ld_json_member(&tree, ld_json_root(&tree), "key") : NULL;
        if (!own)
            code = LD_FAIL(err, LD_E_FORMAT, "the line is no key");
        else if (ld_key_apply(key, &tree, own, &arena, &problem) != LD_OK)
            code = LD_FAIL(err, LD_E_FORMAT, "%.400s", problem.detail);
        else if (!key->name[0] || key->scopes == 0)
            code = LD_FAIL(err, LD_E_FORMAT, "the key has no name or no scope");
    }
    ld_arena_deinit(&arena);
    return code;
}
