#include "server/ws.h"

#include "api/base64.h"
#include "runtime/base/arena.h"
#include "runtime/base/id.h"

bool ld_ws_accept(const char *key, char out[LD_WS_ACCEPT_SIZE])
{
    /* RFC 6455 1.3; SHA-1 is a fingerprint here, not a secret. */
    static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    char text[128];
    uint8_t digest[LD_SHA1_BYTES];
    struct ld_buffer decoded = ld_buffer_make(64);
    struct ld_buffer encoded = ld_buffer_make(64);
    bool good = ld_base64_decode(ld_span_text(key), &decoded, NULL) == LD_OK &&
                decoded.size == 16 && ld_fmt(text, sizeof text, "%s%s", key, guid);
    if (good) {
        ld_sha1(ld_span_text(text), digest);
        ld_base64_encode(ld_span_of(digest, sizeof digest), &encoded);
    }
    good = good && !encoded.failed && ld_fmt(out, LD_WS_ACCEPT_SIZE, "%s", encoded.data);
    ld_buffer_deinit(&encoded);
    ld_buffer_deinit(&decoded);
    return good;
}

#ifdef LATENTD_WSLAY
#include <wslay/wslay.h>

struct ld_ws {
    wslay_event_context_ptr context;
    struct ld_buffer *wire;
    struct ld_span received; /* not read yet */
};

/* ---- wslay's two ends ------------------------------------------------------------------------ */

static ssize_t read_received(wslay_event_context_ptr context, uint8_t *bytes, size_t size,
                             int flags, void *user)
{
    struct ld_ws *ws = user;
    const size_t got = ws->received.size < size ? ws->received.size : size;
    (void)flags;
    if (got == 0) {
        wslay_event_set_error(context, WSLAY_ERR_WOULDBLOCK);
        return -1;
    }
    memcpy(bytes, ws->received.data, got);
    ws->received = ld_span_of(ws->received.data + got, ws->received.size - got);
    return (ssize_t)got;
}

static ssize_t write_wire(wslay_event_context_ptr context, const uint8_t *bytes, size_t size,
                          int flags, void *user)
{
    struct ld_ws *ws = user;
    (void)flags;
    ld_buffer_bytes(ws->wire, bytes, size);
    if (ws->wire->failed) {
        wslay_event_set_error(context, WSLAY_ERR_CALLBACK_FAILURE);
        return -1;
    }
    return (ssize_t)size;
}

/* ---- The conversation ------------------------------------------------------------------------ */

enum ld_code ld_ws_open(struct ld_ws **out, struct ld_buffer *wire, struct ld_error *err)
{
    static const struct wslay_event_callbacks callbacks = {.recv_callback = read_received,
                                                           .send_callback = write_wire};
    struct ld_ws *ws = ld_heap_alloc(sizeof *ws);
    *out = NULL;
    if (!ws)
        return LD_FAIL(err, LD_E_NOMEM, "out of memory");
    *ws = (struct ld_ws){.wire = wire};
    if (wslay_event_context_server_init(&ws->context, &callbacks, ws) != 0) {
        ld_heap_free(ws);
        return LD_FAIL(err, LD_E_NOMEM, "out of memory");
    }
    /* Nothing that a client says beside pings and a close is listened to, so nothing is kept. */
    wslay_event_config_set_no_buffering(ws->context, 1);
    wslay_event_config_set_max_recv_msg_length(ws->context, LD_WS_CLIENT_BYTES_MAX);
    *out = ws;
    return LD_OK;
}

void ld_ws_destroy(struct ld_ws *ws)
{
    if (!ws)
        return;
    wslay_event_context_free(ws->context);
    ld_heap_free(ws);
}

void ld_ws_put(struct ld_ws *ws, enum ld_ws_kind kind, struct ld_span payload)
{
    static const uint8_t opcodes[] = {[LD_WS_TEXT] = WSLAY_TEXT_FRAME,
                                      [LD_WS_BINARY] = WSLAY_BINARY_FRAME,
                                      [LD_WS_PING] = WSLAY_PING};
    const struct wslay_event_msg message = {opcodes[kind], payload.data, payload.size};
    /* Refused after a close only, or without memory: the wire then ends, and so does the socket. */
    if (wslay_event_queue_msg(ws->context, &message) == 0)
        (void)wslay_event_send(ws->context);
}

void ld_ws_close(struct ld_ws *ws, uint16_t status)
{
    if (wslay_event_queue_close(ws->context, status, NULL, 0) == 0)
        (void)wslay_event_send(ws->context);
}

bool ld_ws_take(struct ld_ws *ws, struct ld_span bytes)
{
    ws->received = bytes;
    const int read = wslay_event_recv(ws->context);
    const int sent = wslay_event_send(ws->context);
    return read == 0 && sent == 0 && wslay_event_get_read_enabled(ws->context) &&
           wslay_event_get_write_enabled(ws->context);
}

#else

enum ld_code ld_ws_open(struct ld_ws **out, struct ld_buffer *wire, struct ld_error *err)
{
    (void)wire;
    *out = NULL;
    return LD_FAIL(err, LD_E_UNSUPPORTED,
                   "this program was built without wslay and has no sockets");
}

/* Without an open one none of these is ever reached. */
void ld_ws_destroy(struct ld_ws *ws)
{
    (void)ws;
}

void ld_ws_put(struct ld_ws *ws, enum ld_ws_kind kind, struct ld_span payload)
{
    (void)ws;
    (void)kind;
    (void)payload;
}

void ld_ws_close(struct ld_ws *ws, uint16_t status)
{
    (void)ws;
    (void)status;
}

bool ld_ws_take(struct ld_ws *ws, struct ld_span bytes)
{
    (void)ws;
    (void)bytes;
    return false;
}

#endif
