#include "server/ws_frame.h"

#include "api/base64.h"

/* ---- SHA-1 (RFC 3174), which the handshake wants as a fingerprint, not as a secret ------------ */

static uint32_t rotated(uint32_t value, int bits)
{
    return value << bits | value >> (32 - bits);
}

static void mix_block(uint32_t state[5], const uint8_t block[64])
{
    uint32_t w[80];
    uint32_t a = state[0], b = state[1], c = state[2], d = state[3], e = state[4];
    for (int i = 0; i < 16; i++)
        w[i] = ld_read_u32be(block + 4 * i);
    for (int i = 16; i < 80; i++)
        w[i] = rotated(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
    for (int i = 0; i < 80; i++) {
        uint32_t f, k;
        if (i < 20) {
            f = (b & c) | (~b & d);
            k = 0x5A827999;
        } else if (i < 40) {
            f = b ^ c ^ d;
            k = 0x6ED9EBA1;
        } else if (i < 60) {
            f = (b & c) | (b & d) | (c & d);
            k = 0x8F1BBCDC;
        } else {
            f = b ^ c ^ d;
            k = 0xCA62C1D6;
        }
        const uint32_t next = rotated(a, 5) + f + e + k + w[i];
        e = d;
        d = c;
        c = rotated(b, 30);
        b = a;
        a = next;
    }
    state[0] += a;
    state[1] += b;
    state[2] += c;
    state[3] += d;
    state[4] += e;
}

/* Of at most 119 bytes: two blocks with the padding. */
static void short_sha1(const uint8_t *bytes, size_t size, uint8_t out[20])
{
    uint32_t state[5] = {0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476, 0xC3D2E1F0};
    uint8_t blocks[128] = {0};
    const size_t total = size + 9 <= 64 ? 64 : 128;
    LD_ASSERT(size <= 119);
    memcpy(blocks, bytes, size);
    blocks[size] = 0x80;
    blocks[total - 2] = (uint8_t)(size * 8 >> 8);
    blocks[total - 1] = (uint8_t)(size * 8);
    for (size_t at = 0; at < total; at += 64)
        mix_block(state, blocks + at);
    for (int i = 0; i < 20; i++)
        out[i] = (uint8_t)(state[i / 4] >> (24 - i % 4 * 8));
}

bool ld_ws_accept(const char *key, char out[LD_WS_ACCEPT_SIZE])
{
    /* RFC 6455 1.3. */
    static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    char text[128];
    uint8_t digest[20];
    struct ld_buffer decoded = ld_buffer_make(64);
    struct ld_buffer encoded = ld_buffer_make(64);
    struct ld_error err;
    const bool good = ld_base64_decode(ld_span_text(key), &decoded, &err) == LD_OK &&
                      decoded.size == 16 && ld_fmt(text, sizeof text, "%s%s", key, guid);
    if (good) {
        short_sha1((const uint8_t *)text, strlen(text), digest);
        ld_base64_encode(ld_span_of(digest, sizeof digest), &encoded);
    }
    const bool done = good && !encoded.failed && ld_fmt(out, LD_WS_ACCEPT_SIZE, "%s", encoded.data);
    ld_buffer_deinit(&encoded);
    ld_buffer_deinit(&decoded);
    return done;
}

/* ---- Frames (RFC 6455 5.2) ------------------------------------------------------------------- */

void ld_ws_put(struct ld_buffer *out, enum ld_ws_opcode opcode, struct ld_span payload)
{
    const uint64_t size = payload.size;
    ld_buffer_byte(out, (char)(0x80 | opcode));
    int bytes = 0;
    if (size < 126) {
        ld_buffer_byte(out, (char)size);
    } else {
        bytes = size <= UINT16_MAX ? 2 : 8;
        ld_buffer_byte(out, (char)(bytes == 2 ? 126 : 127));
    }
    for (int i = bytes - 1; i >= 0; i--)
        ld_buffer_byte(out, (char)(size >> (8 * i) & 0xFF));
    ld_buffer_bytes(out, payload.data, payload.size);
}

static bool is_known(unsigned opcode)
{
    return opcode <= LD_WS_BINARY || (opcode >= LD_WS_CLOSE && opcode <= LD_WS_PONG);
}

enum ld_ws_read ld_ws_take(uint8_t *bytes, size_t size, struct ld_ws_frame *frame)
{
    size_t head = 2;
    if (size < head)
        return LD_WS_MORE;
    const unsigned opcode = bytes[0] & 0x0F;
    uint64_t length = bytes[1] & 0x7F;
    if ((bytes[0] & 0x70) || !(bytes[1] & 0x80) || !is_known(opcode) ||
        (opcode >= LD_WS_CLOSE && (length > 125 || !(bytes[0] & 0x80))))
        return LD_WS_WRONG;
    const size_t extra = length == 126 ? 2 : length == 127 ? 8 : 0;
    head += extra + 4;
    if (size < head)
        return LD_WS_MORE;
    if (extra > 0)
        length = 0;
    for (size_t i = 0; i < extra; i++)
        length = length << 8 | bytes[2 + i];
    if (length > LD_WS_CLIENT_BYTES_MAX)
        return LD_WS_WRONG;
    if (size - head < length)
        return LD_WS_MORE;
    const uint8_t *mask = bytes + head - 4;
    frame->opcode = (enum ld_ws_opcode)opcode;
    frame->last = (bytes[0] & 0x80) != 0;
    frame->payload = bytes + head;
    frame->payload_size = (size_t)length;
    frame->size = head + (size_t)length;
    for (size_t i = 0; i < length; i++)
        bytes[head + i] ^= mask[i % 4];
    return LD_WS_ONE;
}
