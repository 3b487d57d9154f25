/*
 * Where adapters, embeddings, VAEs, ControlNets and wildcard lists lie when nobody says: in folders
 * of these names inside the folder of checkpoints, so that one mounted folder brings everything, or
 * beside the one checkpoint that was given as a file.
 */
#ifndef LD_CONFIG_FOLDERS_H
#define LD_CONFIG_FOLDERS_H

#include "runtime/base/arena.h"

enum { LD_FOLDERS_PATH_SIZE = 4096 };

/* Where they are looked for: MODEL_DIR, or with that "" the folder in which `model`, the path of a
 * file or of a diffusers folder, lies. False where there is none: `model` is a name. */
bool ld_folders_base(const char *model_dir, const char *model, char out[LD_FOLDERS_PATH_SIZE]);

/* Where the caller keeps the paths; no pointer and no text is NULL. */
struct ld_folders {
    const char **adapters, **embeddings, **vaes, **controlnets, **wildcards;
};

/*
 * Each text that is "" becomes BASE/adapters, /embeddings, /vae, /controlnets, /wildcards if that
 * is a folder, and stays "" otherwise. What is found lives in the arena, and without memory it
 * counts as not there.
 */
void ld_folders_beside(const char *model_dir, const char *model, struct ld_arena *arena,
                       const struct ld_folders *folders);

#endif
