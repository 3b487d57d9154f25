/*
 * Proves that no bytes of a client can hurt a WebSocket's end, in whatever pieces they come: the
 * answer is a bounded sequence of whole, unmasked server frames, nothing follows a close, and a
 * conversation that is over stays over. The first byte chooses the sizes of the pieces and whether
 * the server speaks meanwhile.
 */
#include "server/ws.h"

#include <stdlib.h>

enum { WIRE_MAX = 1 << 20, SERVER_WORDS = 4 };

static void require(bool condition)
{
    if (!condition)
        abort();
}

/* Whole frames as RFC 6455 5.2 lays them out; true if the last one is a close. */
static bool wire_is_whole(const struct ld_buffer *wire)
{
    bool closed = false;
    size_t at = 0;
    while (at < wire->size) {
        const uint8_t *frame = (const uint8_t *)wire->data + at;
        const size_t left = wire->size - at;
        require(left >= 2 && !closed);
        const uint8_t opcode = frame[0] & 0x0F;
        size_t head = 2;
        uint64_t size = frame[1];
        require((frame[0] & 0xF0) == 0x80); /* whole messages, no extension */
        require((frame[1] & 0x80) == 0);    /* a server never masks */
        require(opcode == 1 || opcode == 2 || (opcode >= 8 && opcode <= 10));
        require(opcode < 8 || size <= 125);
        if (size >= 126) {
            const size_t bytes = size == 126 ? 2 : 8;
            require(left >= 2 + bytes);
            size = 0;
            for (size_t i = 0; i < bytes; i++)
                size = size << 8 | frame[2 + i];
            head += bytes;
        }
        require(size <= left - head);
        closed = opcode == 8;
        at += head + (size_t)size;
    }
    return closed;
}

static void say_something(struct ld_ws *ws, uint32_t number)
{
    static const char text[] = "{\"type\":\"progress\"}";
    static const uint8_t preview[300];
    if (number % 3 == 0)
        ld_ws_put(ws, LD_WS_TEXT, ld_span_text(text));
    else if (number % 3 == 1)
        ld_ws_put(ws, LD_WS_BINARY, ld_span_of(preview, sizeof preview));
    else
        ld_ws_put(ws, LD_WS_PING, ld_span_of(NULL, 0));
}

static void converse(const uint8_t *data, size_t size, size_t piece, bool talks)
{
    struct ld_buffer wire = ld_buffer_make(WIRE_MAX);
    struct ld_ws *ws;
    bool open = true;
    uint32_t words = 0;
    if (ld_ws_open(&ws, &wire, NULL) != LD_OK)
        return;
    while (size > 0 && open) {
        const size_t now = piece < size ? piece : size;
        open = ld_ws_take(ws, ld_span_of(data, now));
        data += now;
        size -= now;
        if (talks && words < SERVER_WORDS)
            say_something(ws, words++);
    }
    const bool closed = wire_is_whole(&wire);
    require(open || closed || wire.failed);
    if (!open)
        require(!ld_ws_take(ws, ld_span_text("\x81\x80 ghi")));
    ld_ws_close(ws, LD_WS_GOING_AWAY);
    require(wire_is_whole(&wire) || wire.failed);
    ld_ws_destroy(ws);
    ld_buffer_deinit(&wire);
}

static void shake_hands(const uint8_t *data, size_t size)
{
    char key[64];
    char accept[LD_WS_ACCEPT_SIZE];
    if (size >= sizeof key || memchr(data, '\0', size))
        return;
    memcpy(key, data, size);
    key[size] = '\0';
    if (ld_ws_accept(key, accept))
        require(strlen(key) == 24 && strlen(accept) == 28);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    shake_hands(data + 1, size - 1);
    converse(data + 1, size - 1, (size_t)(data[0] & 0x7F) + 1, (data[0] & 0x80) != 0);
    return 0;
}
