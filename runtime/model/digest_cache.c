#include "runtime/model/digest_cache.h"

#include "runtime/base/buffer.h"
#include "runtime/base/fsx.h"

#include <string.h>
#include <unistd.h>

/* First line of the file; another number means another format, and the file is not read. */
#define HEADER "latentd digests 1\n"

enum { FILE_MAX = 16 << 20, PATH_SIZE = 4096, ARENA_MAX = 64 << 20 };

struct entry {
    struct ld_digest_key key;
    char digest[LD_SHA256_HEX_SIZE];
};

struct ld_digest_cache {
    struct ld_arena arena;
    char path[PATH_SIZE];
    struct entry *entries;
    uint32_t count;
    bool changed;
};

/* ---- Entries --------------------------------------------------------------------------------- */

static struct entry *find(const struct ld_digest_cache *cache, const char *path)
{
    for (uint32_t i = 0; i < cache->count; i++) {
        if (strcmp(cache->entries[i].key.path, path) == 0)
            return &cache->entries[i];
    }
    return NULL;
}

bool ld_digest_cache_get(const struct ld_digest_cache *cache, const struct ld_digest_key *key,
                         char out[LD_SHA256_HEX_SIZE])
{
    const struct entry *entry = find(cache, key->path);
    if (!entry || entry->key.bytes != key->bytes || entry->key.modified_ns != key->modified_ns ||
        entry->key.inode != key->inode)
        return false;
    memcpy(out, entry->digest, sizeof entry->digest);
    return true;
}

void ld_digest_cache_put(struct ld_digest_cache *cache, const struct ld_digest_key *key,
                         const char *digest)
{
    struct entry *entry = find(cache, key->path);
    if (strchr(key->path, '\n')) /* it would be two lines of the file */
        return;
    if (!entry) {
        const char *path =
            cache->count < LD_DIGEST_ENTRIES_MAX ? ld_arena_strdup(&cache->arena, key->path) : NULL;
        if (!path)
            return;
        entry = &cache->entries[cache->count++];
        entry->key.path = path;
    }
    entry->key.bytes = key->bytes;
    entry->key.modified_ns = key->modified_ns;
    entry->key.inode = key->inode;
    (void)ld_fmt(entry->digest, sizeof entry->digest, "%s", digest);
    cache->changed = true;
}

/* ---- Reading --------------------------------------------------------------------------------- */

/* The next word up to a blank; the rest stays in `line`. */
static struct ld_span word(struct ld_span *line)
{
    size_t length = 0;
    while (length < line->size && line->data[length] != ' ')
        length++;
    const struct ld_span found = ld_span_of(line->data, length);
    const size_t used = length < line->size ? length + 1 : length;
    *line = ld_span_of(line->data + used, line->size - used);
    return found;
}

static bool is_digest(struct ld_span text)
{
    if (text.size != LD_SHA256_HEX_SIZE - 1)
        return false;
    for (size_t i = 0; i < text.size; i++) {
        const uint8_t c = text.data[i];
        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f')))
            return false;
    }
    return true;
}

/* "digest bytes modified inode path"; a line that is none is passed over, and so is one of a path
 * that is known: what this process has hashed is newer. */
static void read_line(struct ld_digest_cache *cache, struct ld_span line)
{
    struct ld_digest_key key;
    char path[PATH_SIZE];
    char digest[LD_SHA256_HEX_SIZE];
    const struct ld_span first = word(&line);
    if (!is_digest(first) || !ld_parse_u64(word(&line), &key.bytes) ||
        !ld_parse_i64(word(&line), &key.modified_ns) || !ld_parse_u64(word(&line), &key.inode) ||
        line.size == 0 || line.size >= sizeof path)
        return;
    memcpy(path, line.data, line.size);
    path[line.size] = 0;
    memcpy(digest, first.data, first.size);
    digest[first.size] = 0;
    key.path = path;
    if (!find(cache, path))
        ld_digest_cache_put(cache, &key, digest);
}

static void read_file(struct ld_digest_cache *cache)
{
    struct ld_buffer text = ld_buffer_make(FILE_MAX);
    struct ld_error ignored = {0};
    const size_t header = strlen(HEADER);
    if (ld_fsx_read_file(cache->path, &text, &ignored) == LD_OK && text.size > header &&
        memcmp(text.data, HEADER, header) == 0) {
        const char *at = text.data + header;
        const char *end = text.data + text.size;
        while (at < end) {
            const char *newline = memchr(at, '\n', (size_t)(end - at));
            if (!newline)
                break; /* a cut last line is no entry */
            read_line(cache, ld_span_of(at, (size_t)(newline - at)));
            at = newline + 1;
        }
    }
    ld_buffer_deinit(&text);
    cache->changed = false;
}

void ld_digest_cache_reread(struct ld_digest_cache *cache)
{
    const bool changed = cache->changed;
    if (cache->path[0])
        read_file(cache);
    cache->changed = changed;
}

enum ld_code ld_digest_cache_open(struct ld_digest_cache **out, const char *path,
                                  struct ld_error *err)
{
    *out = NULL;
    struct ld_digest_cache *cache = ld_heap_alloc(sizeof *cache);
    if (!cache)
        return LD_FAIL(err, LD_E_NOMEM, "not enough memory for the digest cache");
    ld_arena_init(&cache->arena, "digest cache", ARENA_MAX);
    cache->entries = ld_arena_calloc(&cache->arena, LD_DIGEST_ENTRIES_MAX, sizeof *cache->entries);
    if (!cache->entries) {
        ld_digest_cache_close(cache);
        return LD_FAIL(err, LD_E_NOMEM, "not enough memory for the digest cache");
    }
    if (path[0] && ld_fmt(cache->path, sizeof cache->path, "%s", path))
        read_file(cache);
    *out = cache;
    return LD_OK;
}

void ld_digest_cache_close(struct ld_digest_cache *cache)
{
    if (!cache)
        return;
    ld_arena_deinit(&cache->arena);
    ld_heap_free(cache);
}

/* ---- Writing --------------------------------------------------------------------------------- */

/* Replace the file through a temporary one beside it. */
static enum ld_code publish(const struct ld_digest_cache *cache, struct ld_span text,
                            struct ld_error *err)
{
    char folder[PATH_SIZE];
    char temporary[PATH_SIZE];
    int fd = -1;
    const char *slash = strrchr(cache->path, '/');
    const char *name = slash ? slash + 1 : cache->path;
    /* Of this process: several may save at once, and each file must be whole. */
    if (!ld_fmt(folder, sizeof folder, "%.*s", slash ? (int)(slash - cache->path + 1) : 1,
                slash ? cache->path : ".") ||
        !ld_fmt(temporary, sizeof temporary, "%s.%ld.new", name, (long)getpid()))
        return LD_FAIL(err, LD_E_TOO_LARGE, "the path of the digest cache is too long");
    enum ld_code code = ld_fsx_make_dirs(folder, 0700, err);
    if (code == LD_OK)
        code = ld_fsx_open_dir(folder, &fd, err);
    if (code != LD_OK)
        return code;
    const struct ld_fsx_publish where = {
        .tmp_fd = fd, .tmp_name = temporary, .dir_fd = fd, .name = name, .mode = 0600};
    code = ld_fsx_publish(&where, text, err);
    (void)close(fd);
    return code;
}

enum ld_code ld_digest_cache_save(struct ld_digest_cache *cache, struct ld_error *err)
{
    if (!cache->path[0] || !cache->changed)
        return LD_OK;
    ld_digest_cache_reread(cache);
    struct ld_buffer text = ld_buffer_make(FILE_MAX);
    ld_buffer_text(&text, HEADER);
    for (uint32_t i = 0; i < cache->count; i++) {
        const struct entry *entry = &cache->entries[i];
        ld_buffer_format(&text, "%s %llu %lld %llu %s\n", entry->digest,
                         (unsigned long long)entry->key.bytes, (long long)entry->key.modified_ns,
                         (unsigned long long)entry->key.inode, entry->key.path);
    }
    enum ld_code code = text.failed ? LD_FAIL(err, LD_E_TOO_LARGE, "the digest cache is too large")
                                    : publish(cache, ld_span_of(text.data, text.size), err);
    if (code == LD_OK)
        cache->changed = false;
    ld_buffer_deinit(&text);
    return code;
}
