#include "config/tags.h"

#include "config/embedded.h"
#include "runtime/base/fsx.h"

#include <dirent.h>
#include <stdlib.h>

enum { FILES_MAX = 16, PATH_SIZE = 4096, ARENA_BYTES = 256 << 20, ALIASES_MAX = 64 };

static const char file_ending[] = ".tags.csv";

/* A name or alias in the form that is searched. */
struct key {
    const char *text;
    const char *alias; /* as written; NULL for the name */
    uint32_t tag;
};

struct ld_tags {
    struct ld_arena arena;
    struct ld_tag *tags;
    uint32_t count, capacity;
    struct key *keys; /* sorted by text, then tag */
    uint32_t key_count, key_capacity;
};

/* ---- Text ------------------------------------------------------------------------------------ */

static char folded(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c == ' ' ? '_' : c;
}

static void fold(char *text)
{
    for (; *text; text++)
        *text = folded(*text);
}

const char *ld_tag_category(uint8_t category)
{
    static const char *const names[] = {"general",   "artist",    "other",
                                        "copyright", "character", "meta"};
    return category < sizeof names / sizeof names[0] ? names[category] : "other";
}

bool ld_tag_text(const char *name, bool escaped, char *out, size_t size)
{
    const bool emoticon = strlen(name) < 4;
    size_t used = 0;
    for (; *name; name++) {
        if (used + 3 > size)
            return false;
        if (escaped && (*name == '(' || *name == ')'))
            out[used++] = '\\';
        out[used++] = *name == '_' && !emoticon ? ' ' : *name;
    }
    out[used] = '\0';
    return true;
}

/* ---- Reading --------------------------------------------------------------------------------- */

/* The next field of a row, unquoted in `out`; `*text` is left at the comma, the line's end or the
 * end. False for a field that is too long or malformed. */
static bool read_field(struct ld_span *text, char *out, size_t size)
{
    size_t used = 0;
    const bool quoted = text->size > 0 && text->data[0] == '"';
    size_t at = quoted ? 1 : 0;
    for (; at < text->size; at++) {
        const char c = (char)text->data[at];
        if (quoted && c == '"') {
            if (at + 1 >= text->size || text->data[at + 1] != '"') {
                at++;
                break;
            }
            at++; /* a doubled quote stands for one */
        } else if (!quoted && (c == ',' || c == '\n' || c == '\r')) {
            break;
        } else if (c == '\0' || (quoted && c == '\n')) {
            return false;
        }
        if (used + 1 >= size)
            return false;
        out[used++] = c;
    }
    out[used] = '\0';
    *text = ld_span_of(text->data + at, text->size - at);
    return text->size == 0 || text->data[0] == ',' || text->data[0] == '\n' ||
           text->data[0] == '\r';
}

static bool take(struct ld_span *text, char c)
{
    if (text->size == 0 || text->data[0] != (uint8_t)c)
        return false;
    *text = ld_span_of(text->data + 1, text->size - 1);
    return true;
}

static bool grow(void **items, uint32_t count, uint32_t *capacity, size_t size)
{
    if (count < *capacity)
        return true;
    const uint32_t wanted = *capacity ? 2 * *capacity : 1024;
    void *larger = ld_heap_calloc(wanted, size);
    if (!larger)
        return false;
    if (count)
        memcpy(larger, *items, count * size);
    ld_heap_free(*items);
    *items = larger;
    *capacity = wanted;
    return true;
}

static bool add_key(struct ld_tags *tags, const char *text, bool alias, uint32_t tag)
{
    void *items = tags->keys;
    if (!grow(&items, tags->key_count, &tags->key_capacity, sizeof *tags->keys))
        return false;
    tags->keys = items;
    char *copy = ld_arena_strndup(&tags->arena, text, strlen(text));
    const char *written = alias ? ld_arena_strdup(&tags->arena, text) : NULL;
    if (!copy || (alias && !written))
        return false;
    fold(copy);
    tags->keys[tags->key_count++] = (struct key){copy, written, tag};
    return true;
}

static bool add_aliases(struct ld_tags *tags, char *aliases, uint32_t tag)
{
    uint32_t count = 0;
    for (char *rest = aliases; rest && *rest && count < ALIASES_MAX; count++) {
        char *comma = strchr(rest, ',');
        if (comma)
            *comma = '\0';
        while (*rest == ' ')
            rest++;
        if (*rest && strlen(rest) <= LD_TAG_NAME_BYTES_MAX && !add_key(tags, rest, true, tag))
            return false;
        rest = comma ? comma + 1 : NULL;
    }
    return true;
}

/* One row; blank lines are skipped. */
static enum ld_code read_row(struct ld_tags *tags, struct ld_span *text, struct ld_error *err)
{
    char name[LD_TAG_NAME_BYTES_MAX + 1];
    char number[32];
    static _Thread_local char aliases[16 * 1024];
    uint64_t category = 0;
    uint64_t count = 0;
    void *items = tags->tags;
    if (!read_field(text, name, sizeof name))
        return LD_FAIL(err, LD_E_FORMAT, "a tag has 1 to %d bytes", LD_TAG_NAME_BYTES_MAX);
    if (take(text, ',') &&
        (!read_field(text, number, sizeof number) ||
         (number[0] && (!ld_parse_u64(ld_span_text(number), &category) || category > 255))))
        return LD_FAIL(err, LD_E_FORMAT, "the category is a number below 256");
    if (take(text, ',') &&
        (!read_field(text, number, sizeof number) ||
         (number[0] && (!ld_parse_u64(ld_span_text(number), &count) || count > UINT32_MAX))))
        return LD_FAIL(err, LD_E_FORMAT, "the count is a whole number");
    aliases[0] = '\0';
    if (take(text, ',') && !read_field(text, aliases, sizeof aliases))
        return LD_FAIL(err, LD_E_FORMAT, "the aliases are one field in quotes");
    (void)take(text, '\r');
    if (text->size > 0 && !take(text, '\n'))
        return LD_FAIL(err, LD_E_FORMAT, "a row is name, category, count, aliases");
    if (!name[0])
        return LD_OK;
    if (tags->count == LD_TAGS_MAX)
        return LD_FAIL(err, LD_E_TOO_LARGE, "the lists hold more than %d tags", LD_TAGS_MAX);
    if (!grow(&items, tags->count, &tags->capacity, sizeof *tags->tags))
        return LD_FAIL(err, LD_E_NOMEM, "out of memory");
    tags->tags = items;
    struct ld_tag *tag = &tags->tags[tags->count];
    *tag = (struct ld_tag){ld_arena_strdup(&tags->arena, name), (uint8_t)category, (uint32_t)count};
    if (!tag->name || !add_key(tags, name, false, tags->count) ||
        !add_aliases(tags, aliases, tags->count))
        return LD_FAIL(err, LD_E_NOMEM, "out of memory");
    tags->count++;
    return LD_OK;
}

static enum ld_code read_text(struct ld_tags *tags, struct ld_span text, struct ld_error *err)
{
    enum ld_code code = LD_OK;
    for (uint32_t line = 1; code == LD_OK && text.size > 0; line++) {
        code = read_row(tags, &text, err);
        if (code != LD_OK && err) {
            char why[LD_ERROR_DETAIL_SIZE];
            memcpy(why, err->detail, sizeof why);
            (void)ld_fmt(err->detail, sizeof err->detail, "line %u: %.200s", line, why);
        }
    }
    return code;
}

/* ---- Files ----------------------------------------------------------------------------------- */

static int by_key(const void *a, const void *b)
{
    const struct key *left = a;
    const struct key *right = b;
    const int order = strcmp(left->text, right->text);
    return order ? order : left->tag < right->tag ? -1 : left->tag > right->tag;
}

static enum ld_code start(struct ld_tags **out, struct ld_error *err)
{
    *out = ld_heap_alloc(sizeof **out);
    if (!*out)
        return LD_FAIL(err, LD_E_NOMEM, "out of memory");
    memset(*out, 0, sizeof **out);
    ld_arena_init(&(*out)->arena, "tags", ARENA_BYTES);
    return LD_OK;
}

static enum ld_code finish(struct ld_tags **out, enum ld_code code)
{
    if (code != LD_OK) {
        ld_tags_destroy(*out);
        *out = NULL;
    } else if ((*out)->key_count) {
        qsort((*out)->keys, (*out)->key_count, sizeof *(*out)->keys, by_key);
    }
    return code;
}

enum ld_code ld_tags_create(struct ld_tags **out, const struct ld_span *texts, uint32_t count,
                            struct ld_error *err)
{
    enum ld_code code = start(out, err);
    if (code != LD_OK)
        return code;
    for (uint32_t i = 0; code == LD_OK && i < count; i++)
        code = read_text(*out, texts[i], err);
    return finish(out, code);
}

static int by_text(const void *a, const void *b)
{
    return strcmp(a, b);
}

static enum ld_code list_files(const char *folder, char names[FILES_MAX][256], uint32_t *count,
                               struct ld_error *err)
{
    DIR *dir = opendir(folder);
    const struct dirent *entry;
    *count = 0;
    if (!dir)
        return LD_FAIL(err, LD_E_NOT_FOUND, "the folder of manifests cannot be read");
    while (*count < FILES_MAX && (entry = readdir(dir)) != NULL) {
        const size_t size = strlen(entry->d_name);
        if (entry->d_name[0] != '.' && size > sizeof file_ending - 1 &&
            strcmp(entry->d_name + size - (sizeof file_ending - 1), file_ending) == 0 &&
            ld_fmt(names[*count], 256, "%s", entry->d_name))
            ++*count;
    }
    (void)closedir(dir);
    qsort(names, *count, 256, by_text);
    return LD_OK;
}

static enum ld_code read_file(struct ld_tags *tags, const char *folder, const char *name,
                              struct ld_error *err)
{
    char path[PATH_SIZE];
    struct ld_buffer text = ld_buffer_make(LD_TAGS_FILE_BYTES_MAX);
    enum ld_code code = ld_fmt(path, sizeof path, "%s/%s", folder, name)
                            ? ld_fsx_read_file(path, &text, err)
                            : LD_FAIL(err, LD_E_INVALID, "the path is too long");
    if (code == LD_OK)
        code = read_text(tags, ld_span_of(text.data, text.size), err);
    ld_buffer_deinit(&text);
    if (code != LD_OK && err) {
        char why[LD_ERROR_DETAIL_SIZE];
        memcpy(why, err->detail, sizeof why);
        (void)ld_fmt(err->detail, sizeof err->detail, "%.100s: %.300s", name, why);
    }
    return code;
}

enum ld_code ld_tags_load(struct ld_tags **out, const char *folder, struct ld_error *err)
{
    static _Thread_local char names[FILES_MAX][256];
    uint32_t files = 0;
    enum ld_code code = start(out, err);
    if (code != LD_OK)
        return code;
    for (uint32_t i = 0; code == LD_OK && i < ld_embedded_tags_count; i++)
        code = read_text(*out, ld_span_of(ld_embedded_tags[i].data, ld_embedded_tags[i].size), err);
    if (code == LD_OK && folder && folder[0])
        code = list_files(folder, names, &files, err);
    for (uint32_t i = 0; code == LD_OK && i < files; i++)
        code = read_file(*out, folder, names[i], err);
    return finish(out, code);
}

void ld_tags_destroy(struct ld_tags *tags)
{
    if (!tags)
        return;
    ld_arena_deinit(&tags->arena);
    ld_heap_free(tags->tags);
    ld_heap_free(tags->keys);
    ld_heap_free(tags);
}

uint32_t ld_tags_count(const struct ld_tags *tags)
{
    return tags->count;
}

/* ---- Searching ------------------------------------------------------------------------------- */

/* The first key that is not before `prefix`. */
static uint32_t lower_bound(const struct ld_tags *tags, const char *prefix)
{
    uint32_t low = 0;
    uint32_t high = tags->key_count;
    while (low < high) {
        const uint32_t middle = low + (high - low) / 2;
        if (strcmp(tags->keys[middle].text, prefix) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Is the list's copy of the tag the last of its name? Later files replace. */
static bool is_current(const struct ld_tags *tags, uint32_t tag)
{
    char name[LD_TAG_NAME_BYTES_MAX + 1];
    (void)ld_fmt(name, sizeof name, "%s", tags->tags[tag].name);
    fold(name);
    for (uint32_t i = lower_bound(tags, name);
         i < tags->key_count && strcmp(tags->keys[i].text, name) == 0; i++)
        if (!tags->keys[i].alias && tags->keys[i].tag > tag)
            return false;
    return true;
}

/* Before another: more frequent, or as frequent and earlier in the list. */
static bool ranks_before(const struct ld_tag *a, const struct ld_tag *b)
{
    return a->count != b->count ? a->count > b->count : a < b;
}

/* Put a match in its place of the first `limit`; a tag that is there keeps the better match. */
static void insert(struct ld_tag_match *out, uint32_t *count, uint32_t limit,
                   struct ld_tag_match match)
{
    for (uint32_t i = 0; i < *count; i++) {
        if (out[i].tag != match.tag)
            continue;
        if (!match.alias)
            out[i].alias = NULL;
        return;
    }
    if (*count == limit && !ranks_before(match.tag, out[limit - 1].tag))
        return;
    uint32_t at = *count < limit ? (*count)++ : limit - 1;
    for (; at > 0 && ranks_before(match.tag, out[at - 1].tag); at--)
        out[at] = out[at - 1];
    out[at] = match;
}

uint32_t ld_tags_complete(const struct ld_tags *tags, const char *prefix, struct ld_tag_match *out,
                          uint32_t limit)
{
    char wanted[LD_TAG_NAME_BYTES_MAX + 1];
    uint32_t count = 0;
    LD_ASSERT(limit > 0 && limit <= LD_TAG_MATCHES_MAX);
    if (!ld_fmt(wanted, sizeof wanted, "%s", prefix))
        return 0;
    fold(wanted);
    const size_t size = strlen(wanted);
    for (uint32_t i = lower_bound(tags, wanted);
         i < tags->key_count && strncmp(tags->keys[i].text, wanted, size) == 0; i++) {
        const struct key *key = &tags->keys[i];
        if (is_current(tags, key->tag))
            insert(out, &count, limit, (struct ld_tag_match){&tags->tags[key->tag], key->alias});
    }
    return count;
}

const struct ld_tag *ld_tags_find(const struct ld_tags *tags, struct ld_span name)
{
    char wanted[LD_TAG_NAME_BYTES_MAX + 1];
    const struct ld_tag *found = NULL;
    bool by_name = false;
    if (name.size == 0 || name.size >= sizeof wanted || memchr(name.data, '\0', name.size))
        return NULL;
    memcpy(wanted, name.data, name.size);
    wanted[name.size] = '\0';
    fold(wanted);
    for (uint32_t i = lower_bound(tags, wanted);
         i < tags->key_count && strcmp(tags->keys[i].text, wanted) == 0; i++) {
        const struct key *key = &tags->keys[i];
        const struct ld_tag *tag = &tags->tags[key->tag];
        if (!is_current(tags, key->tag) || (by_name && key->alias))
            continue;
        if (!key->alias || !found || ranks_before(tag, found))
            found = tag;
        by_name = by_name || !key->alias;
    }
    return found;
}
