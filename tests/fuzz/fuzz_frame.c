/*
 * Proves that bytes from the other process cannot hurt: whatever arrives, in whatever pieces, the
 * reader gives whole frames or is broken for good, and every message decoder accepts or refuses
 * without reading beyond its payload. The first byte chooses the sizes of the pieces; the checksum
 * is repaired where the input asks for it, so that the decoders behind it are reached.
 */
#include "config/limits.h"
#include "runtime/ipc/messages.h"

#include <stdlib.h>

static void require(bool condition)
{
    if (!condition)
        abort();
}

/* A span of a message lies within the payload, or is empty. */
static void inside(struct ld_span outer, struct ld_span inner)
{
    require(inner.size == 0 ||
            (inner.data >= outer.data && inner.data + inner.size <= outer.data + outer.size));
}

static void decode_from_worker(const struct ld_frame *frame)
{
    struct ld_message_hello hello;
    struct ld_message_heartbeat beat;
    struct ld_message_progress progress;
    struct ld_message_image image;
    struct ld_message_done done;
    struct ld_message_plan_answer plan;
    struct ld_message_fault fault;
    const struct ld_span payload = frame->payload;
    if (ld_message_hello_decode(&hello, payload, NULL) == LD_OK)
        inside(payload, hello.inventory);
    if (ld_message_heartbeat_decode(&beat, payload, NULL) == LD_OK)
        require(payload.size == 12);
    if (ld_message_progress_decode(&progress, payload, NULL) == LD_OK) {
        inside(payload, progress.phase);
        require(progress.fraction >= 0 && progress.fraction <= 1 &&
                progress.step <= progress.steps && ld_utf8_valid(progress.phase));
    }
    if (ld_message_image_decode(&image, payload, NULL) == LD_OK) {
        inside(payload, image.file);
        require(image.file.size >= 12 && image.index < 16); /* a JPEG's header */
    }
    if (ld_message_done_decode(&done, payload, NULL) == LD_OK) {
        inside(payload, done.detail);
        inside(payload, done.warnings);
        inside(payload, done.adapters);
        inside(payload, done.resolved);
        inside(payload, done.numerics);
        require(done.repainted <= 2 * LD_IMAGES_MAX);
        require((unsigned)done.code < LD_CODE_COUNT && ld_utf8_valid(done.detail));
    }
    if (ld_message_plan_answer_decode(&plan, payload, NULL) == LD_OK)
        inside(payload, plan.plan);
    if (ld_message_fault_decode(&fault, payload, NULL) == LD_OK)
        inside(payload, fault.detail);
}

static void decode_from_front(const struct ld_frame *frame)
{
    struct ld_message_job job;
    struct ld_message_cancel cancel;
    struct ld_message_sheet sheet;
    struct ld_message_cell cell;
    struct ld_message_model model;
    if (ld_message_sheet_decode(&sheet, frame->payload, NULL) == LD_OK) {
        inside(frame->payload, sheet.request);
        require(sheet.cells >= 1 && sheet.cells <= 64 && sheet.width >= 1 && sheet.height >= 1);
    }
    if (ld_message_cell_decode(&cell, frame->payload, NULL) == LD_OK) {
        inside(frame->payload, cell.file);
        require(cell.index < 64);
    }
    if (ld_message_model_decode(&model, frame->payload, NULL) == LD_OK) {
        inside(frame->payload, model.name);
        require((unsigned)model.order < LD_MODEL_ORDER_END);
    }
    if (ld_message_job_decode(&job, frame->payload, NULL) == LD_OK) {
        inside(frame->payload, job.request);
        inside(frame->payload, job.init_image);
        inside(frame->payload, job.init_mask);
        for (size_t i = 0; i < LD_CONTROLS_MAX; i++)
            inside(frame->payload, job.control_images[i]);
    }
    if (ld_message_cancel_decode(&cancel, frame->payload, NULL) == LD_OK)
        require(frame->payload.size == 1);
}

/* A header in the input whose last checksum byte is 0xFF gets the right one. */
static void repair(uint8_t *bytes, size_t size)
{
    for (size_t at = 0; at + LD_FRAME_HEADER_BYTES <= size;) {
        const size_t length = ld_read_u32le(bytes + at + 8);
        const size_t left = size - at - LD_FRAME_HEADER_BYTES;
        if (bytes[at + 51] != 0xFF || length > left)
            return;
        const uint32_t crc = ld_crc32c(0, ld_span_of(bytes + at, 48));
        ld_write_u32le(bytes + at + 48,
                       ld_crc32c(crc, ld_span_of(bytes + at + LD_FRAME_HEADER_BYTES, length)));
        at += LD_FRAME_HEADER_BYTES + length;
    }
}

static void read_all(struct ld_frame_reader *reader, bool *broken)
{
    bool got = true;
    while (got && !*broken) {
        struct ld_frame frame;
        *broken = ld_frame_reader_next(reader, &frame, &got, NULL) != LD_OK;
        if (!*broken && got) {
            require(frame.payload.size <= ld_frame_payload_max(frame.type));
            require(frame.job_id[0] == '\0' || ld_id_valid(ld_span_text(frame.job_id)));
            decode_from_worker(&frame);
            decode_from_front(&frame);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t bytes[65536];
    struct ld_frame_reader reader;
    bool broken = false;
    if (size < 1 || size > sizeof bytes)
        return 0;
    const size_t step = (size_t)data[0] + 1;
    memcpy(bytes, data + 1, size - 1);
    repair(bytes, size - 1);
    ld_frame_reader_init(&reader);
    for (size_t at = 0; at < size - 1 && !broken; at += step) {
        const size_t part = size - 1 - at < step ? size - 1 - at : step;
        require(ld_frame_reader_feed(&reader, ld_span_of(bytes + at, part), NULL) == LD_OK);
        read_all(&reader, &broken);
    }
    if (broken) { /* for good */
        struct ld_frame frame;
        bool got;
        require(ld_frame_reader_next(&reader, &frame, &got, NULL) != LD_OK);
    }
    ld_frame_reader_deinit(&reader);
    return 0;
}
