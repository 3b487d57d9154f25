#include "server/guides.h"

#include "config/limits.h"
#include "runtime/base/buffer.h"
#include "runtime/base/id.h"
#include "runtime/base/log.h"

#include <dirent.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>

enum { EDITIONS_MAX = 32, FILES_MAX = 4096 };

/* One reading of the folder. Requests may hold its manifests for as long as they wait. */
struct edition {
    struct ld_guides guides;
    struct ld_arena arena;
    uint64_t folder; /* the fingerprint that was read */
    struct edition *before;
};

struct ld_guide_shelf {
    const char *folder;
    pthread_mutex_t lock; /* of reading again */
    _Atomic(struct edition *) newest;
    uint32_t editions;
};

/* ---- Reading --------------------------------------------------------------------------------- */

/* Changes when a file comes, goes or is written; the order of the listing does not count. */
static uint64_t fingerprint(const char *path)
{
    uint64_t sum = 0;
    const struct dirent *item;
    DIR *folder = *path ? opendir(path) : NULL;
    for (int i = 0; folder && i < FILES_MAX && (item = readdir(folder)) != NULL; i++) {
        struct stat info;
        struct ld_buffer text = ld_buffer_make(1024);
        if (fstatat(dirfd(folder), item->d_name, &info, 0) == 0 && S_ISREG(info.st_mode))
            ld_buffer_format(&text, "%s/%lld/%lld.%09ld/%llu", item->d_name,
                             (long long)info.st_size, (long long)info.st_mtim.tv_sec,
                             info.st_mtim.tv_nsec, (unsigned long long)info.st_ino);
        if (text.size > 0)
            sum += 0x9E3779B97F4A7C15U +
                   ld_crc32c(0, ld_span_of(text.data, text.size)) * (uint64_t)0x100000001B3;
        ld_buffer_deinit(&text);
    }
    if (folder)
        (void)closedir(folder);
    return sum;
}

static void discard(struct edition *edition)
{
    if (!edition)
        return;
    ld_tags_destroy(edition->guides.tags);
    ld_arena_deinit(&edition->arena);
    ld_heap_free(edition);
}

static enum ld_code read_edition(struct ld_guide_shelf *shelf, uint64_t folder,
                                 struct ld_error *err)
{
    struct edition *edition = ld_heap_alloc(sizeof *edition);
    if (!edition)
        return LD_FAIL(err, LD_E_NOMEM, "out of memory");
    ld_arena_init(&edition->arena, "manifests", LD_ARENA_PROCESS_BYTES);
    edition->folder = folder;
    enum ld_code code =
        ld_manifests_load(&edition->guides.manifests, shelf->folder, &edition->arena, err);
    if (code == LD_OK)
        code = ld_tags_load(&edition->guides.tags, shelf->folder, err);
    if (code != LD_OK) {
        discard(edition);
        return code;
    }
    edition->before = atomic_load(&shelf->newest);
    atomic_store(&shelf->newest, edition);
    shelf->editions++;
    return LD_OK;
}

/* ---- The shelf ------------------------------------------------------------------------------- */

enum ld_code ld_guides_open(struct ld_guide_shelf **out, const char *folder, struct ld_error *err)
{
    struct ld_guide_shelf *shelf = ld_heap_alloc(sizeof *shelf);
    *out = NULL;
    if (!shelf)
        return LD_FAIL(err, LD_E_NOMEM, "out of memory");
    shelf->folder = folder;
    (void)pthread_mutex_init(&shelf->lock, NULL);
    const enum ld_code code = read_edition(shelf, fingerprint(folder), err);
    if (code == LD_OK)
        *out = shelf;
    else
        ld_guides_close(shelf);
    return code;
}

void ld_guides_close(struct ld_guide_shelf *shelf)
{
    if (!shelf)
        return;
    for (struct edition *edition = atomic_load(&shelf->newest); edition;) {
        struct edition *before = edition->before;
        discard(edition);
        edition = before;
    }
    (void)pthread_mutex_destroy(&shelf->lock);
    ld_heap_free(shelf);
}

const struct ld_guides *ld_guides_now(struct ld_guide_shelf *shelf)
{
    return &atomic_load(&shelf->newest)->guides;
}

enum ld_code ld_guides_reread(struct ld_guide_shelf *shelf, struct ld_error *err)
{
    enum ld_code code = LD_OK;
    pthread_mutex_lock(&shelf->lock);
    const uint64_t folder = fingerprint(shelf->folder);
    if (folder != atomic_load(&shelf->newest)->folder) {
        code = shelf->editions < EDITIONS_MAX
                   ? read_edition(shelf, folder, err)
                   : LD_FAIL(err, LD_E_CONFLICT,
                             "the manifests have changed %d times; restart the server for more",
                             EDITIONS_MAX);
        if (code == LD_OK)
            LD_LOG(LD_LOG_INFO, "serve", "manifests and tags were read again");
    }
    pthread_mutex_unlock(&shelf->lock);
    return code;
}
