/*
 * The server's end of a WebSocket (RFC 6455) over wslay: bytes of the client in, bytes for it out.
 * Pings are answered, a close is returned, and what breaks the protocol ends it, with a number
 * where wslay gives one; extensions are never agreed to. Whose socket it is and when it is written
 * to is the caller's affair.
 *
 *     ld_ws_accept(key, accept);            // the answer to the handshake
 *     ld_ws_open(&ws, &wire, &err);
 *     ld_ws_put(ws, LD_WS_TEXT, json);      // appended to `wire`
 *     while (ld_ws_take(ws, received)) ...  // until the conversation is over
 *     ld_ws_close(ws, LD_WS_GOING_AWAY);
 *     ld_ws_destroy(ws);
 */
#ifndef LD_SERVER_WS_H
#define LD_SERVER_WS_H

#include "runtime/base/buffer.h"

enum {
    LD_WS_ACCEPT_SIZE = 29, /* 20 bytes in base64, and a NUL */
    LD_WS_CLIENT_BYTES_MAX = 64 * 1024,
    LD_WS_GOING_AWAY = 1001 /* RFC 6455 7.4.1 */
};

enum ld_ws_kind { LD_WS_TEXT, LD_WS_BINARY, LD_WS_PING };

struct ld_ws;

/* Sec-WebSocket-Accept for a Sec-WebSocket-Key. False if the key is not 16 bytes in base64. */
bool ld_ws_accept(const char *key, char out[LD_WS_ACCEPT_SIZE]);

/* `wire` is borrowed until destroy; the caller empties it. LD_E_NOMEM; LD_E_UNSUPPORTED in a build
 * without wslay. */
enum ld_code ld_ws_open(struct ld_ws **out, struct ld_buffer *wire, struct ld_error *err);
void ld_ws_destroy(struct ld_ws *ws); /* NULL is nothing */

/* Append a whole message as one frame; nothing after a close. */
void ld_ws_put(struct ld_ws *ws, enum ld_ws_kind kind, struct ld_span payload);

/* Append a close with this number; nothing if one was sent already. */
void ld_ws_close(struct ld_ws *ws, uint16_t status);

/* What the client sent, in pieces of any size. False once the conversation is over: it closed,
 * broke the protocol or sent a message of more than LD_WS_CLIENT_BYTES_MAX; `wire` then ends with a
 * close.
 */
bool ld_ws_take(struct ld_ws *ws, struct ld_span bytes);

#endif
