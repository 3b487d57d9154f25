#include "server/keyring.h"

#include "runtime/base/clock.h"
#include "runtime/base/fsx.h"
#include "runtime/base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define KEYS_FILE "keys.jsonl"
#define LOCK_FILE "keys.lock"

struct list {
    struct ld_key *keys;
    uint32_t count;
};

/* What a file looked like when it was read: another one has another number or time. */
struct look {
    bool there;
    ino_t inode;
    off_t size;
    struct timespec changed, modified;
};

struct ld_keyring {
    char path[4200];
    pthread_mutex_t lock; /* guards what follows */
    struct look look;
    struct list list;
    bool configured;
    uint64_t generation;
};

/* ---- The file -------------------------------------------------------------------------------- */

static void list_free(struct list *list)
{
    ld_heap_free(list->keys);
    list->keys = NULL;
    list->count = 0;
}

static uint32_t count_lines(struct ld_span text)
{
    uint32_t lines = 1;
    for (size_t i = 0; i < text.size; i++)
        lines += text.data[i] == '\n' ? 1 : 0;
    return lines;
}

static enum ld_code parse(struct ld_span text, struct list *list, struct ld_error *err)
{
    uint32_t line_number = 0;
    if (count_lines(text) > LD_KEYS_MAX + 1)
        return LD_FAIL(err, LD_E_RANGE, "there are more than %d keys", LD_KEYS_MAX);
    list->keys = ld_heap_calloc(count_lines(text), sizeof *list->keys);
    list->count = 0;
    if (!list->keys)
        return LD_FAIL(err, LD_E_NOMEM, "out of memory");
    while (text.size > 0) {
        const uint8_t *end = memchr(text.data, '\n', text.size);
        const size_t size = end ? (size_t)(end - text.data) : text.size;
        const struct ld_span line = ld_span_of(text.data, size);
        line_number++;
        text = ld_span_of(text.data + size + (end ? 1 : 0), text.size - size - (end ? 1 : 0));
        if (line.size == 0)
            continue;
        if (ld_key_read_line(&list->keys[list->count], line, err) != LD_OK)
            return LD_FAIL(err, LD_E_FORMAT, "line %u of the keys: %.400s", line_number,
                           err->detail);
        list->count++;
    }
    return LD_OK;
}

/* A missing file is an empty list. */
static enum ld_code load(const char *path, struct list *list, struct ld_error *err)
{
    struct ld_buffer text = ld_buffer_make(LD_KEYS_FILE_BYTES_MAX);
    enum ld_code code = ld_fsx_read_file(path, &text, err);
    *list = (struct list){0};
    if (code == LD_E_NOT_FOUND)
        code = LD_OK;
    else if (code == LD_OK)
        code = parse(ld_span_of(text.data ? text.data : "", text.size), list, err);
    ld_buffer_deinit(&text);
    if (code != LD_OK)
        list_free(list);
    return code;
}

static struct look look_at(const char *path)
{
    struct stat info;
    struct look look = {0};
    if (stat(path, &info) != 0)
        return look;
    look = (struct look){true, info.st_ino, info.st_size, info.st_ctim, info.st_mtim};
    return look;
}

static bool same_time(struct timespec a, struct timespec b)
{
    return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

static bool same_look(const struct look *a, const struct look *b)
{
    return a->there == b->there && a->inode == b->inode && a->size == b->size &&
           same_time(a->changed, b->changed) && same_time(a->modified, b->modified);
}

/* ---- The ring -------------------------------------------------------------------------------- */

/* With the lock. What cannot be read changes nothing: the keys that were known stay. */
static void follow(struct ld_keyring *ring)
{
    const struct look now = look_at(ring->path);
    struct ld_error err = {0};
    struct list fresh;
    if (same_look(&now, &ring->look))
        return;
    ring->look = now;
    if (load(ring->path, &fresh, &err) != LD_OK) {
        ld_log_error(LD_LOG_ERROR, "keys", "the changed keys were not taken", &err);
        return;
    }
    /* Revoked keys stay in the file, so one without any is somebody's editor at work. */
    if (now.there && fresh.count == 0 && ring->list.count > 0) {
        list_free(&fresh);
        LD_LOG(LD_LOG_ERROR, "keys", "the file of keys is empty; the keys that were known stay");
        return;
    }
    list_free(&ring->list);
    ring->list = fresh;
    ring->configured = ring->configured || fresh.count > 0;
    ring->generation++;
    LD_LOG(LD_LOG_INFO, "keys", "the keys were read", ld_log_int("keys", fresh.count));
}

enum ld_code ld_keyring_open(struct ld_keyring **out, const char *dir, struct ld_error *err)
{
    struct ld_keyring *ring = ld_heap_alloc(sizeof *ring);
    *out = NULL;
    if (!ring)
        return LD_FAIL(err, LD_E_NOMEM, "out of memory");
    (void)ld_fmt(ring->path, sizeof ring->path, "%s/" KEYS_FILE, dir);
    ring->look = look_at(ring->path);
    const enum ld_code code = load(ring->path, &ring->list, err);
    if (code != LD_OK) {
        ld_heap_free(ring);
        return code;
    }
    (void)pthread_mutex_init(&ring->lock, NULL);
    ring->configured = ring->list.count > 0;
    ring->generation = 1;
    *out = ring;
    return LD_OK;
}

void ld_keyring_close(struct ld_keyring *ring)
{
    if (!ring)
        return;
    list_free(&ring->list);
    (void)pthread_mutex_destroy(&ring->lock);
    ld_heap_free(ring);
}

static const struct ld_key *find_id(const struct list *list, const char *id)
{
    for (uint32_t i = 0; i < list->count; i++) {
        if (memcmp(list->keys[i].id, id, LD_KEY_ID_LENGTH) == 0)
            return &list->keys[i];
    }
    return NULL;
}

bool ld_keyring_is_configured(struct ld_keyring *ring)
{
    pthread_mutex_lock(&ring->lock);
    follow(ring);
    const bool configured = ring->configured;
    pthread_mutex_unlock(&ring->lock);
    return configured;
}

static bool look_up(struct ld_keyring *ring, const char *id, bool fresh, struct ld_key *key)
{
    if (strlen(id) != LD_KEY_ID_LENGTH)
        return false;
    pthread_mutex_lock(&ring->lock);
    if (fresh)
        follow(ring);
    const struct ld_key *found = find_id(&ring->list, id);
    if (found)
        *key = *found;
    pthread_mutex_unlock(&ring->lock);
    return found != NULL;
}

bool ld_keyring_find(struct ld_keyring *ring, const char *id, struct ld_key *key)
{
    return look_up(ring, id, true, key);
}

bool ld_keyring_recall(struct ld_keyring *ring, const char *id, struct ld_key *key)
{
    return look_up(ring, id, false, key);
}

bool ld_keyring_check(struct ld_keyring *ring, struct ld_span text, struct ld_key *key)
{
    char id[LD_KEY_ID_SIZE] = "";
    struct ld_span secret = ld_span_text("");
    const bool shaped = ld_key_split(text, id, &secret);
    const bool known = shaped && ld_keyring_find(ring, id, key);
    /* An unknown id takes the same way as a known one. */
    const bool fits = ld_key_secret_fits(known ? key : NULL, secret);
    return fits && key->revoked_us == 0;
}

uint32_t ld_keyring_valid_count(struct ld_keyring *ring)
{
    uint32_t count = 0;
    pthread_mutex_lock(&ring->lock);
    follow(ring);
    for (uint32_t i = 0; i < ring->list.count; i++)
        count += ring->list.keys[i].revoked_us == 0 ? 1 : 0;
    pthread_mutex_unlock(&ring->lock);
    return count;
}

uint64_t ld_keyring_generation(struct ld_keyring *ring)
{
    pthread_mutex_lock(&ring->lock);
    follow(ring);
    const uint64_t generation = ring->generation;
    pthread_mutex_unlock(&ring->lock);
    return generation;
}

enum ld_code ld_keyring_list(struct ld_keyring *ring, struct ld_arena *arena, struct ld_key **keys,
                             uint32_t *count, struct ld_error *err)
{
    pthread_mutex_lock(&ring->lock);
    follow(ring);
    *count = ring->list.count;
    *keys = ld_arena_calloc(arena, *count ? *count : 1, sizeof **keys);
    if (*keys && *count)
        memcpy(*keys, ring->list.keys, *count * sizeof **keys);
    pthread_mutex_unlock(&ring->lock);
    return *keys ? LD_OK : LD_FAIL(err, LD_E_NOMEM, "out of memory");
}

/* ---- Changing the file ----------------------------------------------------------------------- */

struct edit {
    int dir_fd, lock_fd;
    struct stat dir;
    struct list list;
};

static void edit_close(struct edit *edit)
{
    list_free(&edit->list);
    if (edit->lock_fd >= 0)
        (void)close(edit->lock_fd);
    if (edit->dir_fd >= 0)
        (void)close(edit->dir_fd);
}

/* Run by root for a service with a user of its own, the files must be the service's. */
static void give_to_owner(const struct edit *edit, const char *name)
{
    if (geteuid() == 0 && edit->dir.st_uid != 0 &&
        fchownat(edit->dir_fd, name, edit->dir.st_uid, edit->dir.st_gid, AT_SYMLINK_NOFOLLOW) != 0)
        LD_LOG(LD_LOG_WARN, "keys", "a file could not be given to the owner of the folder");
}

static enum ld_code edit_open(struct edit *edit, const char *dir, struct ld_error *err)
{
    char path[4200];
    *edit = (struct edit){.dir_fd = -1, .lock_fd = -1};
    enum ld_code code = ld_fsx_make_dirs(dir, 0700, err);
    if (code == LD_OK)
        code = ld_fsx_open_dir(dir, &edit->dir_fd, err);
    if (code != LD_OK)
        return code;
    edit->lock_fd =
        openat(edit->dir_fd, LOCK_FILE, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (edit->lock_fd < 0 || fstat(edit->dir_fd, &edit->dir) != 0 ||
        flock(edit->lock_fd, LOCK_EX) != 0) {
        const int os_code = errno;
        return LD_FAIL_OS(err, ld_fsx_code(os_code), os_code, "the keys cannot be changed");
    }
    give_to_owner(edit, LOCK_FILE);
    (void)ld_fmt(path, sizeof path, "%s/" KEYS_FILE, dir);
    return load(path, &edit->list, err);
}

static enum ld_code edit_save(struct edit *edit, struct ld_error *err)
{
    struct ld_buffer text = ld_buffer_make(LD_KEYS_FILE_BYTES_MAX);
    for (uint32_t i = 0; i < edit->list.count; i++)
        ld_key_write_line(&edit->list.keys[i], &text);
    const struct ld_fsx_publish where = {
        .tmp_fd = edit->dir_fd,
        .tmp_name = KEYS_FILE ".tmp",
        .dir_fd = edit->dir_fd,
        .name = KEYS_FILE,
        .mode = 0600,
    };
    const enum ld_code code = text.failed
                                  ? LD_FAIL(err, LD_E_NOMEM, "out of memory")
                                  : ld_fsx_publish(&where, ld_span_of(text.data, text.size), err);
    ld_buffer_deinit(&text);
    if (code == LD_OK)
        give_to_owner(edit, KEYS_FILE);
    return code;
}

/* A valid key by id or name; `except` does not count. */
static struct ld_key *find_valid(const struct list *list, const char *who, const char *except)
{
    for (uint32_t i = 0; i < list->count; i++) {
        struct ld_key *key = &list->keys[i];
        if (key->revoked_us == 0 && strcmp(key->id, except) != 0 &&
            (strcmp(key->id, who) == 0 || strcmp(key->name, who) == 0))
            return key;
    }
    return NULL;
}

static enum ld_code append(struct list *list, const struct ld_key *key, struct ld_error *err)
{
    if (list->count >= LD_KEYS_MAX)
        return LD_FAIL(err, LD_E_RANGE, "there are %d keys already", LD_KEYS_MAX);
    struct ld_key *more = ld_heap_resize(list->keys, (list->count + 1U) * sizeof *more);
    if (!more)
        return LD_FAIL(err, LD_E_NOMEM, "out of memory");
    list->keys = more;
    list->keys[list->count++] = *key;
    return LD_OK;
}

enum ld_code ld_keys_add(const char *dir, struct ld_key *key, struct ld_error *err)
{
    struct edit edit;
    enum ld_code code = edit_open(&edit, dir, err);
    if (code == LD_OK && (find_id(&edit.list, key->id) || find_valid(&edit.list, key->name, "")))
        code = LD_FAIL(err, LD_E_CONFLICT, "there is a key called %s", key->name);
    key->created_us = ld_clock_wall_us();
    if (code == LD_OK && (code = append(&edit.list, key, err)) == LD_OK)
        code = edit_save(&edit, err);
    edit_close(&edit);
    return code;
}

enum ld_code ld_keys_revoke(const char *dir, const char *who, struct ld_key *key,
                            struct ld_error *err)
{
    struct edit edit;
    enum ld_code code = edit_open(&edit, dir, err);
    if (code == LD_OK) {
        struct ld_key *found = find_valid(&edit.list, who, "");
        if (found) {
            *key = *found;
            found->revoked_us = ld_clock_wall_us();
            code = edit_save(&edit, err);
        } else {
            code = LD_FAIL(err, LD_E_NOT_FOUND, "there is no valid key with that id or name");
        }
    }
    edit_close(&edit);
    return code;
}

static enum ld_code replace(const struct edit *edit, const struct ld_key *key, struct ld_error *err)
{
    struct ld_key *found = find_valid(&edit->list, key->id, "");
    if (!found)
        return LD_FAIL(err, LD_E_NOT_FOUND, "there is no valid key with that id or name");
    if (find_valid(&edit->list, key->name, key->id))
        return LD_FAIL(err, LD_E_CONFLICT, "there is a key called %s", key->name);
    found->scopes = key->scopes;
    found->limits = key->limits;
    memcpy(found->name, key->name, sizeof found->name);
    return LD_OK;
}

enum ld_code ld_keys_replace(const char *dir, const struct ld_key *key, struct ld_error *err)
{
    struct edit edit;
    enum ld_code code = edit_open(&edit, dir, err);
    if (code == LD_OK && (code = replace(&edit, key, err)) == LD_OK)
        code = edit_save(&edit, err);
    edit_close(&edit);
    return code;
}
