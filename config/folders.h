/*
 * Where adapters, embeddings, VAEs and wildcard lists lie when nobody says: in folders of these
 * names inside the folder of checkpoints, so that one mounted folder brings everything, or beside
 * the one checkpoint that was given as a file.
 */
#ifndef LD_CONFIG_FOLDERS_H
#define LD_CONFIG_FOLDERS_H

#include "runtime/base/arena.h"

/*
 * Each of the four that is "" becomes MODEL_DIR/adapters, /embeddings, /vae, /wildcards if that is
 * a folder, and stays "" otherwise; with MODEL_DIR "" they are looked for where `model`, the path
 * of a file or of a diffusers folder, lies. No text is NULL; what is found lives in the arena, and
 * without memory it counts as not there.
 */
void ld_folders_beside(const char *model_dir, const char *model, struct ld_arena *arena,
                       const char **adapters, const char **embeddings, const char **vaes,
                       const char **wildcards);

#endif
