/* What GnuTLS does for id.h: randomness, SHA-256, HMAC. id_minimal.c is the same without it. */
#include "runtime/base/id.h"

#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>

/* ---- Randomness ------------------------------------------------------------------------------ */

void ld_random_bytes(void *out, size_t size)
{
    LD_ASSERT(gnutls_rnd(GNUTLS_RND_KEY, out, size) == 0);
}

uint64_t ld_random_u64(void)
{
    uint8_t bytes[8];
    ld_random_bytes(bytes, sizeof bytes);
    return ld_read_u64le(bytes);
}

/* ---- SHA-256 and HMAC ------------------------------------------------------------------------ */

enum ld_code ld_sha256_init(struct ld_sha256 *hash, struct ld_error *err)
{
    gnutls_hash_hd_t handle = NULL;
    hash->handle = NULL;
    if (gnutls_hash_init(&handle, GNUTLS_DIG_SHA256) != 0)
        return LD_FAIL(err, LD_E_NOMEM, "out of memory");
    hash->handle = handle;
    return LD_OK;
}

void ld_sha256_update(struct ld_sha256 *hash, struct ld_span bytes)
{
    LD_ASSERT(hash->handle != NULL);
    if (bytes.size)
        LD_ASSERT(gnutls_hash(hash->handle, bytes.data, bytes.size) == 0);
}

void ld_sha256_finish(struct ld_sha256 *hash, uint8_t out[LD_SHA256_BYTES])
{
    LD_ASSERT(hash->handle != NULL);
    gnutls_hash_deinit(hash->handle, out);
    hash->handle = NULL;
}

void ld_sha256_deinit(struct ld_sha256 *hash)
{
    if (hash->handle)
        gnutls_hash_deinit(hash->handle, NULL);
    hash->handle = NULL;
}

void ld_sha256(struct ld_span bytes, uint8_t out[LD_SHA256_BYTES])
{
    LD_ASSERT(gnutls_hash_fast(GNUTLS_DIG_SHA256, bytes.size ? (const void *)bytes.data : "",
                               bytes.size, out) == 0);
}

void ld_sha256_hex(struct ld_span bytes, char out[LD_SHA256_HEX_SIZE])
{
    uint8_t digest[LD_SHA256_BYTES];
    ld_sha256(bytes, digest);
    ld_hex(ld_span_of(digest, sizeof digest), out);
}

void ld_sha1(struct ld_span bytes, uint8_t out[LD_SHA1_BYTES])
{
    LD_ASSERT(gnutls_hash_fast(GNUTLS_DIG_SHA1, bytes.size ? (const void *)bytes.data : "",
                               bytes.size, out) == 0);
}

void ld_hmac_sha256(struct ld_span key, struct ld_span bytes, uint8_t out[LD_SHA256_BYTES])
{
    LD_ASSERT(gnutls_hmac_fast(GNUTLS_MAC_SHA256, key.data, key.size,
                               bytes.size ? (const void *)bytes.data : "", bytes.size, out) == 0);
}
