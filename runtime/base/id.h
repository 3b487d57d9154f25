/*
 * Random ids, hashes, checksums and constant-time comparison. The cryptographic part is GnuTLS's,
 * and this is the only file that knows it.
 *
 *     char id[LD_ID_SIZE];
 *     ld_id_make(id);                               // "7k3v0…", 26 characters of [0-9a-z]
 *     char hex[LD_SHA256_HEX_SIZE];
 *     ld_sha256_hex(bytes, hex);
 */
#ifndef LD_BASE_ID_H
#define LD_BASE_ID_H

#include "runtime/base/bytes.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    LD_ID_LENGTH = 26, /* 130 bits of base32 */
    LD_ID_SIZE = LD_ID_LENGTH + 1,
    LD_SHA256_BYTES = 32,
    LD_SHA1_BYTES = 20,
    LD_SHA256_HEX_SIZE = 2 * LD_SHA256_BYTES + 1
};

/* ---- Randomness ------------------------------------------------------------------------------ */

/* From the system's generator. A system without randomness is a broken invariant, not an error. */
void ld_random_bytes(void *out, size_t size);
uint64_t ld_random_u64(void);

/* 26 random characters of the Crockford alphabet in lower case, and the NUL. */
void ld_id_make(char out[LD_ID_SIZE]);

/* Exactly 26 characters of [0-9a-z]. */
bool ld_id_valid(struct ld_span text);

/* ---- SHA-256 (FIPS 180-4) and HMAC (RFC 2104) ------------------------------------------------ */

struct ld_sha256 {
    void *handle; /* NULL when not started or finished */
};

/* Errors   LD_E_NOMEM. */
enum ld_code ld_sha256_init(struct ld_sha256 *hash, struct ld_error *err) LD_MUST_USE;
void ld_sha256_update(struct ld_sha256 *hash, struct ld_span bytes);
/* Writes the digest and releases the state. */
void ld_sha256_finish(struct ld_sha256 *hash, uint8_t out[LD_SHA256_BYTES]);
/* Releases an unfinished state; safe on a zeroed or finished one. */
void ld_sha256_deinit(struct ld_sha256 *hash);

void ld_sha256(struct ld_span bytes, uint8_t out[LD_SHA256_BYTES]);
void ld_sha256_hex(struct ld_span bytes, char out[LD_SHA256_HEX_SIZE]);
void ld_hmac_sha256(struct ld_span key, struct ld_span bytes, uint8_t out[LD_SHA256_BYTES]);

/* SHA-1 (FIPS 180-4), for protocols that want it as a fingerprint; it protects nothing. Not in a
 * minimal build. */
void ld_sha1(struct ld_span bytes, uint8_t out[LD_SHA1_BYTES]);

/* Lower-case hexadecimal and a NUL; `out` holds 2 * bytes.size + 1. */
void ld_hex(struct ld_span bytes, char *out);

/* ---- Comparison and checksums ---------------------------------------------------------------- */

/* Time depends on `size` only. */
bool ld_equal_constant_time(const void *a, const void *b, size_t size);

/* CRC-32C (Castagnoli, RFC 3720 B.4). `crc` is 0 at first, else the value of the bytes before. */
uint32_t ld_crc32c(uint32_t crc, struct ld_span bytes);

#ifdef __cplusplus
}
#endif
#endif
