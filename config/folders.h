/*
 * Where adapters, embeddings, VAEs and wildcard lists lie when nobody says: in folders of these
 * names inside the folder of checkpoints, so that one mounted folder brings everything.
 */
#ifndef LD_CONFIG_FOLDERS_H
#define LD_CONFIG_FOLDERS_H

#include "runtime/base/arena.h"

/*
 * Each of the four that is "" becomes MODEL_DIR/adapters, /embeddings, /vae, /wildcards if that is
 * a folder, and stays "" otherwise. No text is NULL; what is found lives in the arena, and without
 * memory it counts as not there.
 */
void ld_folders_beside(const char *model_dir, struct ld_arena *arena, const char **adapters,
                       const char **embeddings, const char **vaes, const char **wildcards);

#endif
