/*
 * Content-addressed pictures on disk: DIR/<aa>/<sha256>.png, .jpg or .webp, published atomically.
 * (Older stores call every kind .png: any of the endings is found.) A blob belongs to whoever
 * refers to it in the job store; a file nobody refers to is removed when its last reference goes,
 * or swept at the next start.
 *
 *     ld_blob_publish(blobs, file, sha256, &err);   // held: nobody may remove it
 *     ld_store_image_add(...)                      // referenced
 *     ld_blob_let_go(blobs, sha256);
 */
#ifndef LD_SERVER_BLOB_H
#define LD_SERVER_BLOB_H

#include "runtime/base/buffer.h"
#include "runtime/base/id.h"

struct ld_blobs;

/* Whether the store refers to a hash; true when it cannot tell. */
typedef bool (*ld_blob_referenced)(void *ctx, const char *sha256);

/* Creates the folders below `dir` where missing.
 * Errors   those of ld_fsx_make_dirs and ld_fsx_open_dir, LD_E_NOMEM. */
enum ld_code ld_blobs_open(struct ld_blobs **blobs, const char *dir, ld_blob_referenced referenced,
                           void *ctx, struct ld_error *err) LD_MUST_USE;
void ld_blobs_close(struct ld_blobs *blobs);

/*
 * Write under the bytes' own hash and hold it until ld_blob_let_go, so that a removal that runs
 * meanwhile cannot take it away before it is referenced. Bytes that are there already cost nothing.
 * Errors   LD_E_NOSPACE, LD_E_IO, LD_E_NOMEM; nothing is held then.
 */
enum ld_code ld_blob_publish(struct ld_blobs *blobs, struct ld_span bytes,
                             char sha256[LD_SHA256_HEX_SIZE], struct ld_error *err) LD_MUST_USE;
void ld_blob_let_go(struct ld_blobs *blobs, const char *sha256);

/* Open for reading; the caller closes. Errors   LD_E_NOT_FOUND, LD_E_IO, LD_E_INVALID (no hash). */
enum ld_code ld_blob_open(struct ld_blobs *blobs, const char *sha256, int *fd, uint64_t *bytes,
                          struct ld_error *err) LD_MUST_USE;

/* Append all bytes to `out`. Errors   as ld_blob_open, LD_E_TOO_LARGE, LD_E_NOMEM. */
enum ld_code ld_blob_read(struct ld_blobs *blobs, const char *sha256, struct ld_buffer *out,
                          struct ld_error *err) LD_MUST_USE;

/* Remove unless held or referenced. */
void ld_blob_remove(struct ld_blobs *blobs, const char *sha256);

/* Remove temporary and unreferenced files last written before `before_us` (wall time); returns how
 * many. Damaged names are left alone. */
uint32_t ld_blobs_sweep(struct ld_blobs *blobs, int64_t before_us);

/* Bytes free for us on the disk of the blobs, 0 if unknown. */
uint64_t ld_blobs_disk_free(const struct ld_blobs *blobs);

#endif
