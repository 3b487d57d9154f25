/*
 * Frames on the socket pair between front and worker: a fixed header, then the payload. Both sides
 * parse the other's bytes as if hostile: unknown types, bad lengths and bad checksums are final,
 * the connection (and with it the worker) has to go.
 *
 *   offset  size
 *        0     4  magic "LDF1"
 *        4     2  version, 1
 *        6     2  type, enum ld_frame_type
 *        8     4  payload length
 *       12     8  attempt token, 0 where there is none
 *       20    26  job id, all NUL where there is none
 *       46     2  zero
 *       48     4  CRC-32C of bytes 0..47 and the payload
 *       52        payload
 *
 * All integers are little-endian.
 */
#ifndef LD_IPC_FRAME_H
#define LD_IPC_FRAME_H

#include "runtime/base/buffer.h"
#include "runtime/base/id.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { LD_FRAME_HEADER_BYTES = 52, LD_FRAME_VERSION = 1 };

enum ld_frame_type {
    /* worker to front */
    LD_FRAME_HELLO = 1, /* what this worker has; sent when it can take jobs */
    LD_FRAME_HEARTBEAT,
    LD_FRAME_PROGRESS,
    LD_FRAME_PREVIEW,
    LD_FRAME_IMAGE,
    LD_FRAME_DONE,
    LD_FRAME_PLAN_ANSWER,
    LD_FRAME_FAULT, /* why this worker is about to exit */
    LD_FRAME_STATS, /* what it has counted since it began */
    /* front to worker */
    LD_FRAME_JOB,
    LD_FRAME_CANCEL,
    LD_FRAME_ACK, /* the job's result is stored (or dropped): forget it */
    LD_FRAME_PLAN,
    LD_FRAME_SHUTDOWN,
    LD_FRAME_SHEET, /* a sweep's job: its cells follow */
    LD_FRAME_CELL,
    LD_FRAME_MODEL,  /* load or unload a model; answered by PLAN_ANSWER */
    LD_FRAME_EXTEND, /* a request whose prompt is to be extended; answered by PLAN_ANSWER */
    LD_FRAME_TYPE_END
};

struct ld_frame {
    enum ld_frame_type type;
    uint64_t token;
    char job_id[LD_ID_SIZE]; /* "" where there is none */
    struct ld_span payload;  /* borrowed */
};

/* The largest payload a type may have, in bytes; 0 for unknown types. */
size_t ld_frame_payload_max(enum ld_frame_type type);

/* "job", "image", …; "unknown" for anything else. */
const char *ld_frame_name(enum ld_frame_type type);

/*
 * Append the frame's bytes to `out`.
 * Errors   LD_E_TOO_LARGE (payload beyond the type's limit), LD_E_NOMEM (`out` refused).
 */
enum ld_code ld_frame_encode(struct ld_buffer *out, const struct ld_frame *frame,
                             struct ld_error *err) LD_MUST_USE;

/* ---- Incremental reading --------------------------------------------------------------------- */

/* Caller's storage, one thread. Holds at most one whole frame and what was read behind it. */
struct ld_frame_reader {
    struct ld_buffer bytes;
    size_t taken; /* of `bytes`, already returned */
    bool broken;
};

void ld_frame_reader_init(struct ld_frame_reader *reader);
void ld_frame_reader_deinit(struct ld_frame_reader *reader);

/* Append received bytes; whatever their boundaries. Errors   LD_E_NOMEM, LD_E_TOO_LARGE. */
enum ld_code ld_frame_reader_feed(struct ld_frame_reader *reader, struct ld_span bytes,
                                  struct ld_error *err) LD_MUST_USE;

/*
 * The next whole frame, if there is one (`*got`). Its payload is valid until the next call on this
 * reader. A length is judged as soon as the header is there, before any payload is kept.
 * Errors   LD_E_FORMAT, for good: every later call fails too.
 */
enum ld_code ld_frame_reader_next(struct ld_frame_reader *reader, struct ld_frame *frame, bool *got,
                                  struct ld_error *err) LD_MUST_USE;

/*
 * Read once from a non-blocking socket and feed. `*closed` when the other side is gone.
 * Errors   LD_E_IO, LD_E_NOMEM, LD_E_TOO_LARGE. No data (EAGAIN) is LD_OK.
 */
enum ld_code ld_frame_reader_fill(struct ld_frame_reader *reader, int fd, bool *closed,
                                  struct ld_error *err) LD_MUST_USE;

#ifdef __cplusplus
}
#endif
#endif
