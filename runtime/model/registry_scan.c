#include "runtime/model/registry_scan.h"

#include "runtime/base/fsx.h"
#include "runtime/base/log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PATH_SIZE = 4096, FOLDERS_MAX = 1024, DETAIL_MAX = 64 * 1024 };

/* Folders still to be read, by their path below the root. */
struct walk {
    struct ld_registry_list *list;
    enum ld_registry_kind kind;
    const char *root;
    int root_fd;
    struct place {
        dev_t device;
        ino_t inode;
    } others[LD_REGISTRY_KIND_COUNT]; /* the folders of the other kinds */
    uint32_t other_count;
    struct {
        const char *path; /* "" is the root itself */
        uint32_t depth;
    } folders[FOLDERS_MAX];
    uint32_t waiting;
    struct ld_arena arena; /* of folder paths */
    struct ld_error *err;
};

bool ld_registry_name_valid(const char *name)
{
    const size_t length = strlen(name);
    if (length == 0 || length > LD_REGISTRY_NAME_MAX || name[length - 1] == '/' ||
        !ld_utf8_valid(ld_span_of(name, length)))
        return false;
    for (size_t i = 0; i < length; i++) {
        const unsigned char c = (unsigned char)name[i];
        const bool part_start = i == 0 || name[i - 1] == '/';
        if (c < 0x20 || c == 0x7F || c == '\\' || (part_start && (c == '/' || c == '.')))
            return false;
    }
    return true;
}

/* ---- Entries --------------------------------------------------------------------------------- */

static enum ld_code out_of_memory(struct ld_error *err)
{
    return LD_FAIL(err, LD_E_NOMEM, "not enough memory for the list of model files");
}

static struct ld_registry_entry *new_entry(struct ld_registry_list *list)
{
    if (list->count == list->capacity) {
        const uint32_t larger = list->capacity ? 2 * list->capacity : 64;
        void *moved = ld_heap_resize(list->items, larger * sizeof *list->items);
        if (!moved)
            return NULL;
        list->items = moved;
        list->capacity = larger;
    }
    struct ld_registry_entry *found = &list->items[list->count];
    memset(found, 0, sizeof *found);
    return found;
}

static enum ld_code keep(struct walk *walk, const char *name, const char *path,
                         const struct ld_registry_stamp *stamp, const struct ld_buffer *detail)
{
    struct ld_registry_entry *found = new_entry(walk->list);
    if (!found)
        return out_of_memory(walk->err);
    found->name = ld_arena_strdup(walk->list->arena, name);
    found->path = ld_arena_strdup(walk->list->arena, path);
    found->detail = ld_arena_strndup(walk->list->arena, detail->data, detail->size);
    if (!found->name || !found->path || !found->detail)
        return out_of_memory(walk->err);
    found->kind = walk->kind;
    found->bytes = stamp->bytes;
    found->modified_us = stamp->modified_ns / 1000;
    found->stamp = *stamp;
    walk->list->count++;
    return LD_OK;
}

/* Who asks for it by name hears why it is not there. Without memory only the log knows. */
static void reject(struct walk *walk, const char *name, const char *reason)
{
    struct ld_registry_list *list = walk->list;
    if (!list->rejects)
        list->rejects =
            ld_arena_calloc(list->arena, LD_REGISTRY_REJECTS_MAX, sizeof *list->rejects);
    if (!list->rejects || list->reject_count == LD_REGISTRY_REJECTS_MAX)
        return;
    const struct ld_registry_reject kept = {ld_arena_strdup(list->arena, name),
                                            ld_arena_strdup(list->arena, reason)};
    if (kept.name && kept.reason)
        list->rejects[list->reject_count++] = kept;
}

/* Look into a candidate; what does not fit its folder is logged and left out. */
static enum ld_code consider(struct walk *walk, const char *relative, size_t name_length)
{
    char path[PATH_SIZE];
    char name[LD_REGISTRY_NAME_MAX + 1];
    struct ld_error reason = {0};
    struct ld_registry_stamp stamp;
    if (!ld_fmt(path, sizeof path, "%s/%s", walk->root, relative))
        return LD_OK;
    if (!ld_fmt(name, sizeof name, "%.*s", (int)name_length, relative) ||
        !ld_registry_name_valid(name)) {
        LD_LOG(LD_LOG_WARN, "registry", "file left out: its name cannot be used",
               ld_log_text("path", path));
        return LD_OK;
    }
    if (walk->list->count >= LD_REGISTRY_ENTRIES_MAX)
        return LD_FAIL(walk->err, LD_E_TOO_LARGE, "the model folders hold more than %d files",
                       LD_REGISTRY_ENTRIES_MAX);
    struct ld_buffer detail = ld_buffer_make(DETAIL_MAX);
    enum ld_code code = LD_OK;
    if (ld_registry_look(path, walk->kind, &detail, &stamp, &reason)) {
        code = keep(walk, name, path, &stamp, &detail);
    } else {
        LD_LOG(LD_LOG_WARN, "registry", "file left out", ld_log_text("path", path),
               ld_log_text("reason", reason.detail));
        reject(walk, name, reason.detail);
    }
    ld_buffer_deinit(&detail);
    return code;
}

/* ---- Walking --------------------------------------------------------------------------------- */

static enum ld_code queue_folder(struct walk *walk, const char *relative, uint32_t depth)
{
    if (depth > LD_REGISTRY_DEPTH_MAX || walk->waiting == FOLDERS_MAX) {
        LD_LOG(LD_LOG_WARN, "registry", "folder left out: too deep or too many",
               ld_log_text("folder", relative));
        return LD_OK;
    }
    const char *path = ld_arena_strdup(&walk->arena, relative);
    if (!path)
        return out_of_memory(walk->err);
    walk->folders[walk->waiting].path = path;
    walk->folders[walk->waiting].depth = depth;
    walk->waiting++;
    return LD_OK;
}

static bool is_of_another_kind(const struct walk *walk, const struct stat *folder)
{
    for (uint32_t i = 0; i < walk->other_count; i++)
        if (walk->others[i].device == folder->st_dev && walk->others[i].inode == folder->st_ino)
            return true;
    return false;
}

static enum ld_code visit(struct walk *walk, int folder_fd, const char *folder, const char *name,
                          uint32_t depth)
{
    struct stat info;
    char relative[PATH_SIZE];
    char path[PATH_SIZE];
    /* Links are not followed, so nothing outside the folder can be listed. */
    if (name[0] == '.' || fstatat(folder_fd, name, &info, AT_SYMLINK_NOFOLLOW) != 0 ||
        !ld_fmt(relative, sizeof relative, "%s%s%s", folder, folder[0] ? "/" : "", name))
        return LD_OK;
    if (S_ISDIR(info.st_mode)) {
        if (is_of_another_kind(walk, &info))
            return LD_OK;
        if (walk->kind == LD_REGISTRY_MODEL &&
            ld_fmt(path, sizeof path, "%s/%s", walk->root, relative) &&
            ld_registry_is_model_folder(path))
            return consider(walk, relative, strlen(relative));
        return queue_folder(walk, relative, depth + 1);
    }
    const char *ending = S_ISREG(info.st_mode) ? ld_registry_ending(name, walk->kind) : NULL;
    return ending ? consider(walk, relative, strlen(relative) - strlen(ending)) : LD_OK;
}

static enum ld_code read_folder(struct walk *walk, const char *folder, uint32_t depth)
{
    const int fd = openat(walk->root_fd, folder[0] ? folder : ".",
                          O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *stream = fd >= 0 ? fdopendir(fd) : NULL;
    if (!stream) {
        const int os_code = errno;
        if (fd >= 0)
            (void)close(fd);
        return LD_FAIL_OS(walk->err, LD_E_IO, os_code, "a model folder cannot be read");
    }
    enum ld_code code = LD_OK;
    const struct dirent *item;
    while (code == LD_OK && (item = readdir(stream)) != NULL)
        code = visit(walk, fd, folder, item->d_name, depth);
    (void)closedir(stream);
    return code;
}

/* What everybody may write to would let any local user put a model in. */
static enum ld_code check_root(int fd, struct ld_error *err)
{
    struct stat info;
    if (fstat(fd, &info) != 0)
        return LD_FAIL_OS(err, LD_E_IO, errno, "a model folder cannot be read");
    return info.st_mode & S_IWOTH
               ? LD_FAIL(err, LD_E_FORBIDDEN, "a model folder may be written to by everybody")
               : LD_OK;
}

static struct walk *begin_walk(struct ld_registry_list *list, const char *folder,
                               enum ld_registry_kind kind, struct ld_error *err)
{
    struct walk *walk = ld_heap_alloc(sizeof *walk);
    if (walk) {
        walk->list = list;
        walk->kind = kind;
        walk->root = folder;
        walk->err = err;
    }
    return walk;
}

static void note_others(struct walk *walk, const struct ld_registry_folders *folders)
{
    struct stat info;
    for (int kind = 0; kind < LD_REGISTRY_KIND_COUNT; kind++) {
        const char *folder = folders->folder[kind];
        if (kind != (int)walk->kind && folder && folder[0] && stat(folder, &info) == 0)
            walk->others[walk->other_count++] = (struct place){info.st_dev, info.st_ino};
    }
}

enum ld_code ld_registry_scan(struct ld_registry_list *list,
                              const struct ld_registry_folders *folders, enum ld_registry_kind kind,
                              struct ld_error *err)
{
    static const char *const kinds[LD_REGISTRY_KIND_COUNT] = {"models", "adapters",    "embeddings",
                                                              "VAEs",   "ControlNets", "wildcards"};
    const char *folder = folders->folder[kind];
    struct walk *walk = begin_walk(list, folder, kind, err);
    if (!walk)
        return out_of_memory(err);
    note_others(walk, folders);
    ld_arena_init(&walk->arena, "folders", (size_t)8 << 20);
    enum ld_code code = ld_fsx_open_dir(folder, &walk->root_fd, err);
    if (code != LD_OK)
        code = LD_FAIL(err, code, "the folder of %s cannot be opened", kinds[kind]);
    if (code == LD_OK) {
        code = check_root(walk->root_fd, err);
        if (code == LD_OK)
            code = queue_folder(walk, "", 0);
        while (code == LD_OK && walk->waiting > 0) {
            walk->waiting--;
            code = read_folder(walk, walk->folders[walk->waiting].path,
                               walk->folders[walk->waiting].depth);
        }
        (void)close(walk->root_fd);
    }
    ld_arena_deinit(&walk->arena);
    ld_heap_free(walk);
    return code;
}

enum ld_code ld_registry_scan_one(struct ld_registry_list *list, const char *folder,
                                  enum ld_registry_kind kind, const char *name,
                                  struct ld_error *err)
{
    struct stat info;
    char file[LD_REGISTRY_NAME_MAX + 16];
    char path[PATH_SIZE];
    if (!folder[0] || !ld_registry_name_valid(name) || strchr(name, '/') ||
        !ld_fmt(file, sizeof file, "%s.safetensors", name) ||
        !ld_fmt(path, sizeof path, "%s/%s", folder, file) || lstat(path, &info) != 0 ||
        !S_ISREG(info.st_mode))
        return LD_FAIL(err, LD_E_NOT_FOUND, "there is no file of that name");
    struct walk *walk = begin_walk(list, folder, kind, err);
    if (!walk)
        return out_of_memory(err);
    const uint32_t before = list->count;
    enum ld_code code = consider(walk, file, strlen(name));
    if (code == LD_OK && list->count == before)
        code = LD_FAIL(err, LD_E_UNSUPPORTED, "the file is not one that can be used here");
    ld_heap_free(walk);
    return code;
}
