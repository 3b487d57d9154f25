/*
 * The SHA-256 of one large file, or of a model folder's files, read in pieces between other work.
 *
 *     ld_digester_begin(&digester, path, true, &err);
 *     while (!done)
 *         code = ld_digester_step(digester, 16 << 20, &done, &err);
 *     if (ld_digester_result(digester, &stamp, digest)) ...
 *     ld_digester_end(digester);
 */
#ifndef LD_MODEL_DIGESTER_H
#define LD_MODEL_DIGESTER_H

#include "runtime/base/id.h"
#include "runtime/model/registry.h"

struct ld_digester;

/*
 * `is_weights`: a checkpoint or VAE, whose digest is that of its files in the order of their names,
 * as ld_weights_sha256 has it; else one plain file.
 * Owner    returns owned; ld_digester_end. Errors those of ld_weights_open, LD_E_IO, LD_E_NOMEM.
 */
enum ld_code ld_digester_begin(struct ld_digester **out, const char *path, bool is_weights,
                               struct ld_error *err) LD_MUST_USE;

/* Read at most `bytes` more. Errors   LD_E_IO; the digester can only be ended then. */
enum ld_code ld_digester_step(struct ld_digester *digester, uint64_t bytes, bool *done,
                              struct ld_error *err) LD_MUST_USE;

/* After `done`, once: the digest and what it is the digest of. False if the file was written to
 * meanwhile: the digest is that of no state it was in. */
bool ld_digester_result(struct ld_digester *digester, struct ld_registry_stamp *stamp,
                        char out[LD_SHA256_HEX_SIZE]);

/* NULL is fine. */
void ld_digester_end(struct ld_digester *digester);

#endif
