/*
 * Where a user keeps what can be made again: tuning results, digests of large files.
 */
#ifndef LD_BASE_CACHE_FOLDER_H
#define LD_BASE_CACHE_FOLDER_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * $XDG_CACHE_HOME/latentd, else ~/.cache/latentd, which need not exist; "" if neither variable is
 * an absolute path, or the result does not fit `size` bytes. Source   XDG Base Directory
 * Specification 0.8: relative paths are ignored.
 */
void ld_cache_folder(char *out, size_t size);

#ifdef __cplusplus
}
#endif

#endif
