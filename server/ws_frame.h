/*
 * WebSocket on the wire (RFC 6455): the answer to a handshake and frames. Pure functions on bytes;
 * a server's frames are not masked, a client's always are. Extensions are never agreed to.
 */
#ifndef LD_SERVER_WS_FRAME_H
#define LD_SERVER_WS_FRAME_H

#include "runtime/base/buffer.h"

enum {
    LD_WS_ACCEPT_SIZE = 29, /* 20 bytes in base64, and a NUL */
    LD_WS_CLIENT_BYTES_MAX = 64 * 1024
};

enum ld_ws_opcode {
    LD_WS_CONTINUATION = 0,
    LD_WS_TEXT = 1,
    LD_WS_BINARY = 2,
    LD_WS_CLOSE = 8,
    LD_WS_PING = 9,
    LD_WS_PONG = 10
};

/* Sec-WebSocket-Accept for a Sec-WebSocket-Key. False if the key is not 16 bytes in base64. */
bool ld_ws_accept(const char *key, char out[LD_WS_ACCEPT_SIZE]);

/* Append a whole message as one frame. */
void ld_ws_put(struct ld_buffer *out, enum ld_ws_opcode opcode, struct ld_span payload);

struct ld_ws_frame {
    enum ld_ws_opcode opcode;
    bool last;
    size_t size; /* of the whole frame on the wire */
    uint8_t *payload;
    size_t payload_size;
};

enum ld_ws_read { LD_WS_MORE, LD_WS_ONE, LD_WS_WRONG };

/* The first frame of what a client sent; its payload is unmasked in place. WRONG: not masked, an
 * unknown opcode, reserved bits, a long control frame, more than LD_WS_CLIENT_BYTES_MAX. */
enum ld_ws_read ld_ws_take(uint8_t *bytes, size_t size, struct ld_ws_frame *frame);

#endif
