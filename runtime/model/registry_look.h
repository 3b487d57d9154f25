/* Whether a file is what its folder is for, and the facts a listing tells. Private to the registry.
 */
#ifndef LD_MODEL_REGISTRY_LOOK_H
#define LD_MODEL_REGISTRY_LOOK_H

#include "runtime/base/buffer.h"
#include "runtime/model/registry.h"

/* Names of files that may be entries of this kind: ".safetensors", ".pt", ".txt", ... NULL if not;
 * otherwise the ending. */
const char *ld_registry_ending(const char *file_name, enum ld_registry_kind kind);

/* True if the folder at `path` is a model of several files (diffusers). */
bool ld_registry_is_model_folder(const char *path);

/*
 * Look into the file (or model folder) at `path`; `detail` receives a JSON object. False, with the
 * reason in `err`, if it is not of this kind or cannot be used.
 */
bool ld_registry_look(const char *path, enum ld_registry_kind kind, struct ld_buffer *detail,
                      struct ld_registry_stamp *stamp, struct ld_error *err);

/* That of an open file; all zero if it cannot be had. */
void ld_registry_stamp_fd(int fd, struct ld_registry_stamp *stamp);

#endif
