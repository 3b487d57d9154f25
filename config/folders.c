#include "config/folders.h"

#include "runtime/base/bytes.h"

#include <sys/stat.h>

enum { PATH_SIZE = 4096 };

static void find(const char **folder, const char *model_dir, const char *name,
                 struct ld_arena *arena)
{
    char path[PATH_SIZE];
    struct stat info;
    if ((*folder)[0] || !ld_fmt(path, sizeof path, "%s/%s", model_dir, name) ||
        stat(path, &info) != 0 || !S_ISDIR(info.st_mode))
        return;
    const char *kept = ld_arena_strdup(arena, path);
    *folder = kept ? kept : "";
}

void ld_folders_beside(const char *model_dir, struct ld_arena *arena, const char **adapters,
                       const char **embeddings, const char **vaes, const char **wildcards)
{
    if (!model_dir[0])
        return;
    find(adapters, model_dir, "adapters", arena);
    find(embeddings, model_dir, "embeddings", arena);
    find(vaes, model_dir, "vae", arena);
    find(wildcards, model_dir, "wildcards", arena);
}
