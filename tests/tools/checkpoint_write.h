/*
 * Writes a single-file checkpoint of float16 tensors: the names and shapes come from a keymap, the
 * values from a function. For tests and demonstrations; a real model is never written here.
 */
#ifndef LD_TESTS_CHECKPOINT_WRITE_H
#define LD_TESTS_CHECKPOINT_WRITE_H

#include "runtime/base/thread.h"
#include "runtime/model/keymap.h"

/* Fill out[0..count) with the float16 bits of elements [first, first + count) of tensor `key`. May
 * run on several threads at once. */
typedef void (*ld_checkpoint_fill)(const void *ctx, const struct ld_key *key, size_t first,
                                   size_t count, uint16_t *out);

/* Bit mask over enum ld_part. */
#define LD_PART_BIT(part) (1U << (unsigned)(part))
#define LD_PARTS_ALL      ((1U << LD_PART_COUNT) - 1)

/*
 * Write into `fd` (a regular file or memory file, truncated first; the caller closes it).
 * `metadata`: JSON object of strings for __metadata__, or NULL.
 * Errors   LD_E_IO (with errno), LD_E_NOMEM.
 */
enum ld_code ld_checkpoint_write(int fd, const struct ld_keymap *map, uint32_t parts,
                                 const char *metadata, ld_checkpoint_fill fill, const void *ctx,
                                 struct ld_pool *pool, struct ld_error *err) LD_MUST_USE;

#endif
