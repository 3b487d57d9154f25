#include "kernels/cuda/tune_cache.h"

#include "runtime/base/arena.h"
#include "runtime/base/fsx.h"
#include "runtime/base/id.h"
#include "runtime/base/log.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define FIRST_LINE "latentd-tune 1"

enum { FILE_MODE = 0644, FOLDER_MODE = 0755, CRC_LINE = 16 /* "crc32c ", 8 digits, newline */ };
/* Ten minutes: no kernel takes longer, and it fits 64 bits of nanoseconds many times. */
static const uint64_t NANOSECONDS_MAX = 600U * 1000U * 1000U * 1000U;

/* ---- Identity -------------------------------------------------------------------------------- */

void ldk_tune_identity_text(const struct ldk_tune_identity *identity,
                            char out[LDK_TUNE_IDENTITY_SIZE])
{
    const bool fits =
        ld_fmt(out, LDK_TUNE_IDENTITY_SIZE,
               "%s, %d multiprocessors, driver %d, cublaslt %d, cudnn %d, build %s%s",
               identity->device, identity->sm_count, identity->driver, identity->cublaslt,
               identity->cudnn, identity->build, identity->idle ? ", idle" : "");
    LD_ASSERT(fits);
    for (char *p = out; *p; p++) {
        if (*p < ' ' || *p > '~')
            *p = '?';
    }
}

void ldk_tune_file_name(const struct ldk_tune_identity *identity, char out[LDK_TUNE_FILE_NAME_SIZE])
{
    char text[LDK_TUNE_IDENTITY_SIZE];
    char hex[LD_SHA256_HEX_SIZE];
    ldk_tune_identity_text(identity, text);
    ld_sha256_hex(ld_span_text(text), hex);
    LD_ASSERT(ld_fmt(out, LDK_TUNE_FILE_NAME_SIZE, "%s-%.24s.txt", identity->idle ? "idle" : "tune",
                     hex));
}

/* ---- The table ------------------------------------------------------------------------------- */

void ldk_tune_cache_deinit(struct ldk_tune_cache *cache)
{
    ld_heap_free(cache->classes);
    ld_heap_free(cache->entries);
    memset(cache, 0, sizeof *cache);
}

const struct ldk_tune_choice *ldk_tune_cache_choice(const struct ldk_tune_cache *cache,
                                                    const char *key)
{
    for (uint32_t i = 0; i < cache->entry_count; i++) {
        if (strcmp(cache->entries[i].key, key) == 0)
            return &cache->entries[i].choice;
    }
    return NULL;
}

bool ldk_tune_cache_signature(const struct ldk_tune_cache *cache, const char *class_key,
                              uint32_t *signature)
{
    for (uint32_t i = 0; i < cache->class_count; i++) {
        if (strcmp(cache->classes[i].key, class_key) == 0) {
            *signature = cache->classes[i].signature;
            return true;
        }
    }
    return false;
}

bool ldk_tune_cache_names_library(const struct ldk_tune_cache *cache)
{
    for (uint32_t i = 0; i < cache->entry_count; i++) {
        if (strncmp(cache->entries[i].choice.candidate, "own:", 4) != 0)
            return true;
    }
    return false;
}

/* Room for one more element of `size` bytes in a list that doubles. */
static enum ld_code reserve(void **list, uint32_t count, uint32_t *capacity, size_t size,
                            struct ld_error *err)
{
    if (count < *capacity)
        return LD_OK;
    if (count >= LDK_TUNE_ENTRIES_MAX)
        return LD_FAIL(err, LD_E_TOO_LARGE, "over %d tuned shapes", LDK_TUNE_ENTRIES_MAX);
    const uint32_t wanted = count ? 2 * count : 64;
    void *larger = ld_heap_resize(*list, wanted * size);
    if (!larger)
        return LD_FAIL(err, LD_E_NOMEM, "not enough memory for tuned shapes");
    *list = larger;
    *capacity = wanted;
    return LD_OK;
}

enum ld_code ldk_tune_cache_put_choice(struct ldk_tune_cache *cache, const char *key,
                                       const struct ldk_tune_choice *choice, struct ld_error *err)
{
    uint32_t i = 0;
    while (i < cache->entry_count && strcmp(cache->entries[i].key, key) != 0)
        i++;
    if (i == cache->entry_count) {
        void *list = cache->entries;
        const enum ld_code code =
            reserve(&list, i, &cache->entry_capacity, sizeof *cache->entries, err);
        cache->entries = list;
        if (code != LD_OK)
            return code;
        memset(&cache->entries[i], 0, sizeof cache->entries[i]);
        LD_ASSERT(ld_fmt(cache->entries[i].key, LDK_TUNE_KEY_SIZE, "%s", key));
        cache->entry_count++;
    }
    cache->entries[i].choice = *choice;
    cache->changed = true;
    return LD_OK;
}

enum ld_code ldk_tune_cache_put_signature(struct ldk_tune_cache *cache, const char *class_key,
                                          uint32_t signature, struct ld_error *err)
{
    uint32_t i = 0;
    while (i < cache->class_count && strcmp(cache->classes[i].key, class_key) != 0)
        i++;
    if (i == cache->class_count) {
        void *list = cache->classes;
        const enum ld_code code =
            reserve(&list, i, &cache->class_capacity, sizeof *cache->classes, err);
        cache->classes = list;
        if (code != LD_OK)
            return code;
        memset(&cache->classes[i], 0, sizeof cache->classes[i]);
        LD_ASSERT(ld_fmt(cache->classes[i].key, LDK_TUNE_KEY_SIZE, "%s", class_key));
        cache->class_count++;
    }
    cache->classes[i].signature = signature;
    cache->changed = true;
    return LD_OK;
}

/* ---- Reading --------------------------------------------------------------------------------- */

/* The bytes before the next `end`, which is passed over; false if there is none. */
static bool take_until(struct ld_span *text, char end, struct ld_span *out)
{
    const uint8_t *at = text->size ? memchr(text->data, end, text->size) : NULL;
    if (!at)
        return false;
    const size_t size = (size_t)(at - text->data);
    *out = ld_span_of(text->data, size);
    *text = ld_span_of(at + 1, text->size - size - 1);
    return true;
}

/* Printable ASCII that fits `size` with its NUL and is not empty. */
static bool copy_text(struct ld_span text, char *out, size_t size)
{
    if (text.size == 0 || text.size >= size)
        return false;
    for (size_t i = 0; i < text.size; i++) {
        if (text.data[i] < ' ' || text.data[i] > '~')
            return false;
    }
    memcpy(out, text.data, text.size);
    out[text.size] = '\0';
    return true;
}

/* Exactly eight lower-case digits. */
static bool parse_hex32(struct ld_span text, uint32_t *out)
{
    *out = 0;
    if (text.size != 8)
        return false;
    for (size_t i = 0; i < 8; i++) {
        const uint8_t c = text.data[i];
        const bool digit = c >= '0' && c <= '9';
        if (!digit && !(c >= 'a' && c <= 'f'))
            return false;
        *out = *out << 4 | (uint32_t)(digit ? c - '0' : c - 'a' + 10);
    }
    return true;
}

static bool parse_ms(struct ld_span text, double *ms)
{
    uint64_t nanoseconds;
    if (!ld_parse_u64(text, &nanoseconds) || nanoseconds > NANOSECONDS_MAX)
        return false;
    *ms = (double)nanoseconds * 1e-6;
    return true;
}

static enum ld_code damaged(struct ld_error *err)
{
    return LD_FAIL(err, LD_E_FORMAT, "a line of the tuning file cannot be read");
}

static enum ld_code parse_class(struct ldk_tune_cache *cache, struct ld_span line,
                                struct ld_error *err)
{
    struct ld_span word;
    char key[LDK_TUNE_KEY_SIZE];
    uint32_t signature;
    if (!take_until(&line, ' ', &word) || !parse_hex32(word, &signature) ||
        !copy_text(line, key, sizeof key))
        return damaged(err);
    return ldk_tune_cache_put_signature(cache, key, signature, err);
}

static enum ld_code parse_unit(struct ldk_tune_cache *cache, struct ld_span line,
                               struct ld_error *err)
{
    struct ldk_tune_choice choice = {0};
    struct ld_span words[5];
    char key[LDK_TUNE_KEY_SIZE];
    for (int i = 0; i < 5; i++) {
        if (!take_until(&line, ' ', &words[i]))
            return damaged(err);
    }
    if (!copy_text(words[0], choice.candidate, sizeof choice.candidate) ||
        !parse_hex32(words[1], &choice.signature) || !parse_ms(words[2], &choice.ms) ||
        !copy_text(words[3], choice.runner_up, sizeof choice.runner_up) ||
        !parse_ms(words[4], &choice.runner_up_ms) || !copy_text(line, key, sizeof key))
        return damaged(err);
    if (strcmp(choice.runner_up, "-") == 0)
        choice.runner_up[0] = '\0';
    return ldk_tune_cache_put_choice(cache, key, &choice, err);
}

/* The checksum line off the end; false if it is absent or wrong. */
static bool check_crc(struct ld_span *text)
{
    uint32_t crc;
    if (text->size < CRC_LINE || memcmp(text->data + text->size - CRC_LINE, "crc32c ", 7) != 0 ||
        text->data[text->size - 1] != '\n' ||
        !parse_hex32(ld_span_of(text->data + text->size - 9, 8), &crc))
        return false;
    text->size -= CRC_LINE;
    return ld_crc32c(0, *text) == crc;
}

static enum ld_code parse(struct ldk_tune_cache *cache, struct ld_span text,
                          const struct ldk_tune_identity *identity, struct ld_error *err)
{
    struct ld_span line;
    struct ld_span word;
    char own[LDK_TUNE_IDENTITY_SIZE];
    if (text.size > LDK_TUNE_FILE_BYTES_MAX)
        return LD_FAIL(err, LD_E_TOO_LARGE, "the tuning file is larger than %d bytes",
                       LDK_TUNE_FILE_BYTES_MAX);
    if (!check_crc(&text))
        return LD_FAIL(err, LD_E_FORMAT, "the tuning file is damaged: its checksum is wrong");
    if (!take_until(&text, '\n', &line) || !ld_span_is(line, FIRST_LINE))
        return LD_FAIL(err, LD_E_FORMAT, "the tuning file is of another format");
    ldk_tune_identity_text(identity, own);
    if (!take_until(&text, '\n', &line) || !take_until(&line, ' ', &word) ||
        !ld_span_is(word, "identity") || !ld_span_is(line, own))
        return LD_FAIL(err, LD_E_CONFLICT, "the tuning file is of another device or version");
    enum ld_code code = LD_OK;
    while (code == LD_OK && take_until(&text, '\n', &line)) {
        if (!take_until(&line, ' ', &word))
            continue;
        if (ld_span_is(word, "class"))
            code = parse_class(cache, line, err);
        else if (ld_span_is(word, "unit"))
            code = parse_unit(cache, line, err);
    }
    if (code == LD_OK && text.size > 0)
        code = damaged(err); /* the last line lacks its end */
    return code;
}

enum ld_code ldk_tune_cache_parse(struct ldk_tune_cache *cache, struct ld_span text,
                                  const struct ldk_tune_identity *identity, struct ld_error *err)
{
    ldk_tune_cache_deinit(cache);
    const enum ld_code code = parse(cache, text, identity, err);
    if (code != LD_OK)
        ldk_tune_cache_deinit(cache);
    cache->changed = false;
    return code;
}

void ldk_tune_cache_read(struct ldk_tune_cache *cache, const char *folder,
                         const struct ldk_tune_identity *identity)
{
    char name[LDK_TUNE_FILE_NAME_SIZE];
    struct ld_buffer bytes = ld_buffer_make(LDK_TUNE_FILE_BYTES_MAX + 1);
    struct ld_error why = {0};
    int dir = -1;
    int fd = -1;
    ldk_tune_cache_deinit(cache);
    ldk_tune_file_name(identity, name);
    enum ld_code code = ld_fsx_open_dir(folder, &dir, &why);
    if (code == LD_OK)
        code = ld_fsx_open_beneath(dir, name, &fd, &why);
    if (code == LD_OK)
        code = ld_fsx_read_fd(fd, &bytes, &why);
    if (code == LD_OK)
        code = ldk_tune_cache_parse(cache, ld_span_of(bytes.data, bytes.size), identity, &why);
    if (code != LD_OK && ld_fsx_is_no_right(&why))
        LD_LOG(LD_LOG_INFO, "tune",
               "a tuning file that this user may not read is not used; "
               "`latentd bench step --tune` as this user makes one",
               ld_log_text("file", name));
    else if (code != LD_OK && code != LD_E_NOT_FOUND)
        LD_LOG(LD_LOG_WARN, "tune", "the tuning file is not used", ld_log_text("file", name),
               ld_log_text("why", why.detail));
    if (fd >= 0)
        (void)close(fd);
    if (dir >= 0)
        (void)close(dir);
    ld_buffer_deinit(&bytes);
}

bool ldk_tune_cache_any(const char *folder)
{
    enum { LOOKED_AT_MAX = 4096 };
    DIR *dir = opendir(folder);
    bool found = false;
    const struct dirent *entry;
    for (int i = 0; dir && !found && i < LOOKED_AT_MAX && (entry = readdir(dir)) != NULL; i++)
        found = strncmp(entry->d_name, "tune-", strlen("tune-")) == 0;
    if (dir)
        (void)closedir(dir);
    return found;
}

/* ---- Writing --------------------------------------------------------------------------------- */

static uint64_t nanoseconds(double ms)
{
    const double ns = ms * 1e6 + 0.5;
    if (!(ns > 0))
        return 0;
    return ns < (double)NANOSECONDS_MAX ? (uint64_t)ns : NANOSECONDS_MAX;
}

static void print(const struct ldk_tune_cache *cache, const struct ldk_tune_identity *identity,
                  struct ld_buffer *out)
{
    char text[LDK_TUNE_IDENTITY_SIZE];
    ldk_tune_identity_text(identity, text);
    ld_buffer_format(out, FIRST_LINE "\nidentity %s\n", text);
    for (uint32_t i = 0; i < cache->class_count; i++)
        ld_buffer_format(out, "class %08x %s\n", cache->classes[i].signature,
                         cache->classes[i].key);
    for (uint32_t i = 0; i < cache->entry_count; i++) {
        const struct ldk_tune_choice *choice = &cache->entries[i].choice;
        ld_buffer_format(out, "unit %s %08x %llu %s %llu %s\n", choice->candidate,
                         choice->signature, (unsigned long long)nanoseconds(choice->ms),
                         choice->runner_up[0] ? choice->runner_up : "-",
                         (unsigned long long)nanoseconds(choice->runner_up_ms),
                         cache->entries[i].key);
    }
    if (!out->failed)
        ld_buffer_format(out, "crc32c %08x\n", ld_crc32c(0, ld_span_of(out->data, out->size)));
}

enum ld_code ldk_tune_cache_write(struct ldk_tune_cache *cache, const char *folder,
                                  const struct ldk_tune_identity *identity, struct ld_error *err)
{
    char name[LDK_TUNE_FILE_NAME_SIZE];
    char temporary[LDK_TUNE_FILE_NAME_SIZE + 32];
    struct ld_buffer bytes = ld_buffer_make(LDK_TUNE_FILE_BYTES_MAX);
    int dir = -1;
    if (!cache->changed)
        return LD_OK;
    ldk_tune_file_name(identity, name);
    /* Two processes may write at once; each has a name of its own, the later one stays. */
    LD_ASSERT(ld_fmt(temporary, sizeof temporary, ".%s.%ld", name, (long)getpid()));
    enum ld_code code = ld_fsx_make_dirs_to_owner(folder, FOLDER_MODE, err);
    if (code == LD_OK)
        code = ld_fsx_open_dir(folder, &dir, err);
    print(cache, identity, &bytes);
    if (code == LD_OK && bytes.failed)
        code = LD_FAIL(err, LD_E_NOMEM, "not enough memory for the tuning file");
    if (code == LD_OK) {
        const struct ld_fsx_publish where = {
            .tmp_fd = dir, .tmp_name = temporary, .dir_fd = dir, .name = name, .mode = FILE_MODE};
        code = ld_fsx_publish_to_owner(&where, ld_span_of(bytes.data, bytes.size), err);
    }
    if (code == LD_OK)
        cache->changed = false;
    if (dir >= 0)
        (void)close(dir);
    ld_buffer_deinit(&bytes);
    return code;
}
