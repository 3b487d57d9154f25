#include "config/folders.h"

#include "runtime/base/bytes.h"

#include <string.h>
#include <sys/stat.h>

static void find(const char **folder, const char *model_dir, const char *name,
                 struct ld_arena *arena)
{
    char path[LD_FOLDERS_PATH_SIZE];
    struct stat info;
    if ((*folder)[0] || !ld_fmt(path, sizeof path, "%s/%s", model_dir, name) ||
        stat(path, &info) != 0 || !S_ISDIR(info.st_mode))
        return;
    const char *kept = ld_arena_strdup(arena, path);
    *folder = kept ? kept : "";
}

/* Where a model given as a file or folder lies; false for a name. */
static bool folder_of(const char *model, char out[LD_FOLDERS_PATH_SIZE])
{
    struct stat info;
    if (!model[0] || stat(model, &info) != 0 || !ld_fmt(out, LD_FOLDERS_PATH_SIZE, "%s", model))
        return false;
    size_t size = strlen(out);
    while (size > 1 && out[size - 1] == '/')
        out[--size] = '\0';
    char *slash = strrchr(out, '/');
    if (!slash)
        return ld_fmt(out, LD_FOLDERS_PATH_SIZE, ".");
    slash[slash == out] = '\0';
    return true;
}

bool ld_folders_base(const char *model_dir, const char *model, char out[LD_FOLDERS_PATH_SIZE])
{
    return model_dir[0] ? ld_fmt(out, LD_FOLDERS_PATH_SIZE, "%s", model_dir)
                        : folder_of(model, out);
}

void ld_folders_beside(const char *model_dir, const char *model, struct ld_arena *arena,
                       const struct ld_folders *folders)
{
    char base[LD_FOLDERS_PATH_SIZE];
    if (!ld_folders_base(model_dir, model, base))
        return;
    find(folders->adapters, base, "adapters", arena);
    find(folders->embeddings, base, "embeddings", arena);
    find(folders->vaes, base, "vae", arena);
    find(folders->controlnets, base, "controlnets", arena);
    find(folders->wildcards, base, "wildcards", arena);
}
