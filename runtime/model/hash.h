/* SHA-256 of files, read through their descriptor so that hashing maps nothing. */
#ifndef LD_MODEL_HASH_H
#define LD_MODEL_HASH_H

#include "runtime/base/id.h"

/* Add the bytes from `offset` to the end of the file. Errors LD_E_IO, LD_E_NOMEM. */
enum ld_code ld_hash_add_fd(struct ld_sha256 *hash, int fd, uint64_t offset,
                            struct ld_error *err) LD_MUST_USE;

/* The digest of those bytes as hexadecimal. */
enum ld_code ld_hash_fd(int fd, uint64_t offset, char out[LD_SHA256_HEX_SIZE],
                        struct ld_error *err) LD_MUST_USE;

/* The digest of a whole regular file. Errors LD_E_NOT_FOUND, LD_E_IO, LD_E_NOMEM. */
enum ld_code ld_hash_path(const char *path, char out[LD_SHA256_HEX_SIZE],
                          struct ld_error *err) LD_MUST_USE;

#endif
