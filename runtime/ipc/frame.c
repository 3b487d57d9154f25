#include "runtime/ipc/frame.h"

#include "config/limits.h"

#include <errno.h>
#include <sys/socket.h>

static const uint8_t magic[4] = {'L', 'D', 'F', '1'};

enum {
    AT_VERSION = 4,
    AT_TYPE = 6,
    AT_LENGTH = 8,
    AT_TOKEN = 12,
    AT_JOB = 20,
    AT_ZERO = 46,
    AT_CRC = 48,
    READ_SIZE = 256 * 1024
};

/* Small messages get small limits, so that a mad worker cannot make the front hold 64 MiB for a
 * heartbeat. */
static const struct {
    const char *name;
    size_t payload_max;
} types[LD_FRAME_TYPE_END] = {
    [LD_FRAME_HELLO] = {"hello", 16 << 20},
    [LD_FRAME_HEARTBEAT] = {"heartbeat", 256},
    [LD_FRAME_PROGRESS] = {"progress", 256},
    [LD_FRAME_PREVIEW] = {"preview", 16 << 20},
    [LD_FRAME_IMAGE] = {"image", LD_FRAME_BYTES_MAX},
    [LD_FRAME_DONE] = {"done", 4 << 20},
    [LD_FRAME_PLAN_ANSWER] = {"plan_answer", 1 << 20},
    [LD_FRAME_FAULT] = {"fault", 4096},
    [LD_FRAME_STATS] = {"stats", 8192},
    [LD_FRAME_JOB] = {"job", LD_FRAME_BYTES_MAX},
    [LD_FRAME_CANCEL] = {"cancel", 16},
    [LD_FRAME_ACK] = {"ack", 16},
    [LD_FRAME_PLAN] = {"plan", 1 << 20},
    [LD_FRAME_SHUTDOWN] = {"shutdown", 16},
    [LD_FRAME_SHEET] = {"sheet", 1 << 20},
    [LD_FRAME_CELL] = {"cell", LD_FRAME_BYTES_MAX},
    [LD_FRAME_MODEL] = {"model", 4096},
    [LD_FRAME_EXTEND] = {"extend", 1 << 20},
};

static bool type_known(unsigned type)
{
    return type > 0 && type < LD_FRAME_TYPE_END && types[type].name;
}

size_t ld_frame_payload_max(enum ld_frame_type type)
{
    return type_known((unsigned)type) ? types[type].payload_max : 0;
}

const char *ld_frame_name(enum ld_frame_type type)
{
    return type_known((unsigned)type) ? types[type].name : "unknown";
}

static void put_u16le(uint8_t *p, uint16_t value)
{
    p[0] = (uint8_t)value;
    p[1] = (uint8_t)(value >> 8);
}

enum ld_code ld_frame_encode(struct ld_buffer *out, const struct ld_frame *frame,
                             struct ld_error *err)
{
    uint8_t header[LD_FRAME_HEADER_BYTES] = {0};
    LD_ASSERT(type_known((unsigned)frame->type));
    const size_t id_size = strlen(frame->job_id);
    LD_ASSERT(id_size == 0 || id_size == LD_ID_LENGTH);
    if (frame->payload.size > ld_frame_payload_max(frame->type))
        return LD_FAIL(err, LD_E_TOO_LARGE, "a %s message may have at most %zu bytes",
                       ld_frame_name(frame->type), ld_frame_payload_max(frame->type));
    memcpy(header, magic, sizeof magic);
    put_u16le(header + AT_VERSION, LD_FRAME_VERSION);
    put_u16le(header + AT_TYPE, (uint16_t)frame->type);
    ld_write_u32le(header + AT_LENGTH, (uint32_t)frame->payload.size);
    ld_write_u64le(header + AT_TOKEN, frame->token);
    memcpy(header + AT_JOB, frame->job_id, id_size);
    const uint32_t crc = ld_crc32c(0, ld_span_of(header, AT_CRC));
    ld_write_u32le(header + AT_CRC, ld_crc32c(crc, frame->payload));
    ld_buffer_bytes(out, header, sizeof header);
    ld_buffer_bytes(out, frame->payload.data, frame->payload.size);
    return out->failed ? LD_FAIL(err, LD_E_NOMEM, "out of memory") : LD_OK;
}

/* ---- Incremental reading --------------------------------------------------------------------- */

void ld_frame_reader_init(struct ld_frame_reader *reader)
{
    reader->bytes = ld_buffer_make((size_t)LD_FRAME_BYTES_MAX + LD_FRAME_HEADER_BYTES + READ_SIZE);
    reader->taken = 0;
    reader->broken = false;
}

void ld_frame_reader_deinit(struct ld_frame_reader *reader)
{
    ld_buffer_deinit(&reader->bytes);
    reader->taken = 0;
}

/* Drop what was returned, so that the buffer holds one frame, not a history. */
static void compact(struct ld_frame_reader *reader)
{
    struct ld_buffer *bytes = &reader->bytes;
    if (reader->taken == 0)
        return;
    memmove(bytes->data, bytes->data + reader->taken, bytes->size - reader->taken);
    bytes->size -= reader->taken;
    reader->taken = 0;
    if (bytes->size == 0 && bytes->capacity > ((size_t)1 << 20)) {
        ld_buffer_deinit(bytes); /* after a large frame, let go of its memory */
        ld_frame_reader_init(reader);
    }
}

static enum ld_code fail_format(struct ld_frame_reader *reader, struct ld_error *err,
                                const char *what)
{
    reader->broken = true;
    return LD_FAIL(err, LD_E_FORMAT, "a frame %s", what);
}

enum ld_code ld_frame_reader_feed(struct ld_frame_reader *reader, struct ld_span bytes,
                                  struct ld_error *err)
{
    compact(reader);
    if (bytes.size > reader->bytes.bytes_limit - reader->bytes.size)
        return LD_FAIL(err, LD_E_TOO_LARGE, "too many unread bytes between front and worker");
    ld_buffer_bytes(&reader->bytes, bytes.data, bytes.size);
    return reader->bytes.failed ? LD_FAIL(err, LD_E_NOMEM, "out of memory") : LD_OK;
}

static bool job_field_ok(const uint8_t *field)
{
    static const uint8_t none[LD_ID_LENGTH] = {0};
    return memcmp(field, none, sizeof none) == 0 || ld_id_valid(ld_span_of(field, LD_ID_LENGTH));
}

static enum ld_code check_header(struct ld_frame_reader *reader, const uint8_t *header,
                                 struct ld_error *err)
{
    if (memcmp(header, magic, sizeof magic) != 0)
        return fail_format(reader, err, "does not start with the magic");
    if (ld_read_u16le(header + AT_VERSION) != LD_FRAME_VERSION)
        return fail_format(reader, err, "has another version");
    const unsigned type = ld_read_u16le(header + AT_TYPE);
    if (!type_known(type))
        return fail_format(reader, err, "has an unknown type");
    if (ld_read_u32le(header + AT_LENGTH) > types[type].payload_max)
        return fail_format(reader, err, "is longer than its type allows");
    if (!job_field_ok(header + AT_JOB) || ld_read_u16le(header + AT_ZERO) != 0)
        return fail_format(reader, err, "has a malformed header");
    return LD_OK;
}

enum ld_code ld_frame_reader_next(struct ld_frame_reader *reader, struct ld_frame *frame, bool *got,
                                  struct ld_error *err)
{
    *got = false;
    if (reader->broken)
        return fail_format(reader, err, "came after a broken one");
    const size_t available = reader->bytes.size - reader->taken;
    if (available < LD_FRAME_HEADER_BYTES)
        return LD_OK;
    const uint8_t *header = (const uint8_t *)reader->bytes.data + reader->taken;
    if (check_header(reader, header, err) != LD_OK)
        return err ? err->code : LD_E_FORMAT;
    const size_t length = ld_read_u32le(header + AT_LENGTH);
    if (available - LD_FRAME_HEADER_BYTES < length)
        return LD_OK;
    const struct ld_span payload = ld_span_of(header + LD_FRAME_HEADER_BYTES, length);
    const uint32_t crc = ld_crc32c(ld_crc32c(0, ld_span_of(header, AT_CRC)), payload);
    if (crc != ld_read_u32le(header + AT_CRC))
        return fail_format(reader, err, "has a wrong checksum");
    frame->type = (enum ld_frame_type)ld_read_u16le(header + AT_TYPE);
    frame->token = ld_read_u64le(header + AT_TOKEN);
    memcpy(frame->job_id, header + AT_JOB, LD_ID_LENGTH);
    frame->job_id[LD_ID_LENGTH] = '\0';
    frame->payload = payload;
    reader->taken += LD_FRAME_HEADER_BYTES + length;
    *got = true;
    return LD_OK;
}

enum ld_code ld_frame_reader_fill(struct ld_frame_reader *reader, int fd, bool *closed,
                                  struct ld_error *err)
{
    /* One buffer per thread that reads; too large for a stack with a small limit. */
    static _Thread_local uint8_t chunk[READ_SIZE];
    *closed = false;
    const ssize_t got = recv(fd, chunk, sizeof chunk, MSG_DONTWAIT);
    const int os_code = errno;
    if (got > 0)
        return ld_frame_reader_feed(reader, ld_span_of(chunk, (size_t)got), err);
    if (got == 0 || os_code == ECONNRESET || os_code == EPIPE) {
        *closed = true;
        return LD_OK;
    }
    if (os_code == EAGAIN || os_code == EWOULDBLOCK || os_code == EINTR)
        return LD_OK;
    return LD_FAIL_OS(err, LD_E_IO, os_code, "reading from the other process failed");
}
