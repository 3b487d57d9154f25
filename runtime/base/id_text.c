/* The part of id.h that needs no library: ids from random bytes, hexadecimal, comparison, CRC. */
#include "runtime/base/id.h"

#include <pthread.h>

/* ---- Ids and digits -------------------------------------------------------------------------- */

void ld_id_make(char out[LD_ID_SIZE])
{
    /* Crockford's base32: no i, l, o, u, so an id can be read out loud. */
    static const char alphabet[] = "0123456789abcdefghjkmnpqrstvwxyz";
    uint8_t bytes[LD_ID_LENGTH];
    ld_random_bytes(bytes, sizeof bytes);
    for (size_t i = 0; i < LD_ID_LENGTH; i++)
        out[i] = alphabet[bytes[i] & 31U];
    out[LD_ID_LENGTH] = '\0';
}

bool ld_id_valid(struct ld_span text)
{
    if (text.size != LD_ID_LENGTH)
        return false;
    for (size_t i = 0; i < text.size; i++) {
        const uint8_t c = text.data[i];
        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z')))
            return false;
    }
    return true;
}

void ld_hex(struct ld_span bytes, char *out)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < bytes.size; i++) {
        out[2 * i] = digits[bytes.data[i] >> 4];
        out[2 * i + 1] = digits[bytes.data[i] & 15U];
    }
    out[2 * bytes.size] = '\0';
}

/* ---- Comparison and checksums ---------------------------------------------------------------- */

bool ld_equal_constant_time(const void *a, const void *b, size_t size)
{
    const volatile uint8_t *left = a;
    const volatile uint8_t *right = b;
    uint8_t difference = 0;
    for (size_t i = 0; i < size; i++)
        difference = (uint8_t)(difference | (left[i] ^ right[i]));
    return difference == 0;
}

/* Eight tables, so that eight bytes are folded per step (Kounavis and Berry, "slicing-by-8"). */
static uint32_t crc_tables[8][256];
static pthread_once_t crc_once = PTHREAD_ONCE_INIT;

static void build_crc_tables(void)
{
    const uint32_t polynomial = 0x82F63B78U; /* 0x1EDC6F41 with its bits reversed */
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t crc = byte;
        for (int bit = 0; bit < 8; bit++)
            crc = (crc >> 1) ^ ((crc & 1U) ? polynomial : 0U);
        crc_tables[0][byte] = crc;
    }
    for (uint32_t byte = 0; byte < 256; byte++) {
        for (size_t t = 1; t < 8; t++) {
            const uint32_t before = crc_tables[t - 1][byte];
            crc_tables[t][byte] = (before >> 8) ^ crc_tables[0][before & 255U];
        }
    }
}

uint32_t ld_crc32c(uint32_t crc, struct ld_span bytes)
{
    (void)pthread_once(&crc_once, build_crc_tables);
    const uint8_t *p = bytes.data;
    size_t left = bytes.size;
    crc = ~crc;
    for (; left >= 8; left -= 8, p += 8) {
        const uint32_t low = ld_read_u32le(p) ^ crc;
        const uint32_t high = ld_read_u32le(p + 4);
        crc = crc_tables[7][low & 255U] ^ crc_tables[6][(low >> 8) & 255U] ^
              crc_tables[5][(low >> 16) & 255U] ^ crc_tables[4][low >> 24] ^
              crc_tables[3][high & 255U] ^ crc_tables[2][(high >> 8) & 255U] ^
              crc_tables[1][(high >> 16) & 255U] ^ crc_tables[0][high >> 24];
    }
    for (; left > 0; left--, p++)
        crc = (crc >> 8) ^ crc_tables[0][(crc ^ *p) & 255U];
    return ~crc;
}
