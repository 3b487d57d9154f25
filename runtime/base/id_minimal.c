/*
 * Randomness, SHA-256 and HMAC of id.h without a library, for builds that have none
 * (LATENTD_MINIMAL). Slower than GnuTLS's, which uses the processor's SHA instructions; a file is
 * hashed once and its digest kept.
 *
 * Source: FIPS 180-4 sections 4.1.2, 4.2.2, 5.3.3, 6.2; RFC 2104.
 */
#include "runtime/base/arena.h"
#include "runtime/base/id.h"

#include <errno.h>
#include <sys/random.h>

enum { BLOCK = 64, ROUNDS = 64, LENGTH_AT = 56 };

/* ---- Randomness ------------------------------------------------------------------------------ */

void ld_random_bytes(void *out, size_t size)
{
    uint8_t *p = out;
    while (size > 0) {
        const ssize_t got = getrandom(p, size, 0);
        LD_ASSERT(got > 0 || (got < 0 && errno == EINTR));
        if (got > 0) {
            p += got;
            size -= (size_t)got;
        }
    }
}

uint64_t ld_random_u64(void)
{
    uint8_t bytes[8];
    ld_random_bytes(bytes, sizeof bytes);
    return ld_read_u64le(bytes);
}

/* ---- SHA-256 --------------------------------------------------------------------------------- */

struct state {
    uint32_t h[8];
    uint64_t size; /* bytes so far */
    uint8_t block[BLOCK];
};

/* The first 32 bits of the fractional parts of the cube roots of the first 64 primes. */
static const uint32_t round_constants[ROUNDS] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static uint32_t rotate(uint32_t x, unsigned n)
{
    return (x >> n) | (x << (32 - n));
}

static void compress(uint32_t h[8], const uint8_t block[BLOCK])
{
    uint32_t w[ROUNDS];
    uint32_t s[8];
    for (size_t t = 0; t < 16; t++)
        w[t] = ld_read_u32be(block + 4 * t);
    for (size_t t = 16; t < ROUNDS; t++) {
        const uint32_t a = w[t - 15];
        const uint32_t b = w[t - 2];
        w[t] = w[t - 16] + (rotate(a, 7) ^ rotate(a, 18) ^ (a >> 3)) + w[t - 7] +
               (rotate(b, 17) ^ rotate(b, 19) ^ (b >> 10));
    }
    memcpy(s, h, sizeof s);
    for (size_t t = 0; t < ROUNDS; t++) {
        const uint32_t one = s[7] + (rotate(s[4], 6) ^ rotate(s[4], 11) ^ rotate(s[4], 25)) +
                             ((s[4] & s[5]) ^ (~s[4] & s[6])) + round_constants[t] + w[t];
        const uint32_t two = (rotate(s[0], 2) ^ rotate(s[0], 13) ^ rotate(s[0], 22)) +
                             ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));
        memmove(s + 1, s, 7 * sizeof *s);
        s[4] += one;
        s[0] = one + two;
    }
    for (size_t i = 0; i < 8; i++)
        h[i] += s[i];
}

static void state_init(struct state *state)
{
    /* Likewise of the square roots of the first eight primes. */
    static const uint32_t start[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                      0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    memset(state, 0, sizeof *state);
    memcpy(state->h, start, sizeof start);
}

static void state_update(struct state *state, struct ld_span bytes)
{
    while (bytes.size > 0) {
        const size_t used = (size_t)(state->size % BLOCK);
        if (used == 0 && bytes.size >= BLOCK) {
            compress(state->h, bytes.data);
            bytes = ld_span_of(bytes.data + BLOCK, bytes.size - BLOCK);
            state->size += BLOCK;
            continue;
        }
        const size_t room = BLOCK - used;
        const size_t take = bytes.size < room ? bytes.size : room;
        memcpy(state->block + used, bytes.data, take);
        bytes = ld_span_of(bytes.data + take, bytes.size - take);
        state->size += take;
        if (take == room)
            compress(state->h, state->block);
    }
}

static void state_finish(struct state *state, uint8_t out[LD_SHA256_BYTES])
{
    static const uint8_t padding[BLOCK] = {0x80};
    uint8_t length[8];
    ld_write_u32be(length, (uint32_t)(state->size >> 29));
    ld_write_u32be(length + 4, (uint32_t)(state->size << 3));
    const size_t used = (size_t)(state->size % BLOCK);
    const size_t fill = used < LENGTH_AT ? LENGTH_AT - used : BLOCK + LENGTH_AT - used;
    state_update(state, ld_span_of(padding, fill));
    state_update(state, ld_span_of(length, sizeof length));
    for (size_t i = 0; i < 8; i++)
        ld_write_u32be(out + 4 * i, state->h[i]);
}

enum ld_code ld_sha256_init(struct ld_sha256 *hash, struct ld_error *err)
{
    hash->handle = ld_heap_alloc(sizeof(struct state));
    if (!hash->handle)
        return LD_FAIL(err, LD_E_NOMEM, "out of memory");
    state_init(hash->handle);
    return LD_OK;
}

void ld_sha256_update(struct ld_sha256 *hash, struct ld_span bytes)
{
    LD_ASSERT(hash->handle != NULL);
    state_update(hash->handle, bytes);
}

void ld_sha256_finish(struct ld_sha256 *hash, uint8_t out[LD_SHA256_BYTES])
{
    LD_ASSERT(hash->handle != NULL);
    state_finish(hash->handle, out);
    ld_sha256_deinit(hash);
}

void ld_sha256_deinit(struct ld_sha256 *hash)
{
    ld_heap_free(hash->handle);
    hash->handle = NULL;
}

void ld_sha256(struct ld_span bytes, uint8_t out[LD_SHA256_BYTES])
{
    struct state state;
    state_init(&state);
    state_update(&state, bytes);
    state_finish(&state, out);
}

void ld_sha256_hex(struct ld_span bytes, char out[LD_SHA256_HEX_SIZE])
{
    uint8_t digest[LD_SHA256_BYTES];
    ld_sha256(bytes, digest);
    ld_hex(ld_span_of(digest, sizeof digest), out);
}

/* ---- HMAC ------------------------------------------------------------------------------------ */

void ld_hmac_sha256(struct ld_span key, struct ld_span bytes, uint8_t out[LD_SHA256_BYTES])
{
    uint8_t pad[BLOCK] = {0};
    struct state state;
    if (key.size > BLOCK)
        ld_sha256(key, pad);
    else if (key.size > 0)
        memcpy(pad, key.data, key.size);
    for (size_t i = 0; i < BLOCK; i++)
        pad[i] ^= 0x36;
    state_init(&state);
    state_update(&state, ld_span_of(pad, BLOCK));
    state_update(&state, bytes);
    state_finish(&state, out);
    for (size_t i = 0; i < BLOCK; i++)
        pad[i] ^= 0x36 ^ 0x5c;
    state_init(&state);
    state_update(&state, ld_span_of(pad, BLOCK));
    state_update(&state, ld_span_of(out, LD_SHA256_BYTES));
    state_finish(&state, out);
}
