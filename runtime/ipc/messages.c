#include "runtime/ipc/messages.h"

#include "config/limits.h"
#include "runtime/base/json.h"
#include "runtime/image/picture_header.h"

#include <math.h>

/* ---- Writing fields -------------------------------------------------------------------------- */

static void put_u8(struct ld_buffer *out, bool value)
{
    ld_buffer_byte(out, value ? 1 : 0);
}

static void put_u32(struct ld_buffer *out, uint32_t value)
{
    uint8_t bytes[4];
    ld_write_u32le(bytes, value);
    ld_buffer_bytes(out, bytes, sizeof bytes);
}

static void put_u64(struct ld_buffer *out, uint64_t value)
{
    uint8_t bytes[8];
    ld_write_u64le(bytes, value);
    ld_buffer_bytes(out, bytes, sizeof bytes);
}

static void put_double(struct ld_buffer *out, double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    put_u64(out, bits);
}

static void put_span(struct ld_buffer *out, struct ld_span span)
{
    if (span.size > UINT32_MAX) {
        out->failed = true;
        return;
    }
    put_u32(out, (uint32_t)span.size);
    ld_buffer_bytes(out, span.data, span.size);
}

/* A sentence as take_text accepts it: an error cut in the middle of a character, or one with a line
 * break, must not get its worker killed. */
static void put_sentence(struct ld_buffer *out, struct ld_span text)
{
    char clean[LD_ERROR_DETAIL_SIZE];
    size_t size = 0;
    for (size_t pos = 0; pos < text.size;) {
        uint8_t bytes[4];
        uint32_t c = ld_utf8_next(text.data, text.size, &pos);
        if (c < 0x20 || c == 0x7F)
            c = ' ';
        const size_t length = ld_utf8_put(c, bytes);
        if (size + length > sizeof clean)
            break;
        memcpy(clean + size, bytes, length);
        size += length;
    }
    put_span(out, ld_span_of(clean, size));
}

/* ---- Reading fields: the first failure sticks ------------------------------------------------ */

struct reader {
    struct ld_span rest;
    bool failed;
};

static const uint8_t *take(struct reader *reader, size_t size)
{
    if (reader->failed || reader->rest.size < size) {
        reader->failed = true;
        return NULL;
    }
    const uint8_t *bytes = reader->rest.data;
    reader->rest = ld_span_of(bytes + size, reader->rest.size - size);
    return bytes;
}

static bool take_bool(struct reader *reader)
{
    const uint8_t *bytes = take(reader, 1);
    if (bytes && *bytes > 1)
        reader->failed = true;
    return bytes && *bytes == 1;
}

static uint32_t take_u32(struct reader *reader)
{
    const uint8_t *bytes = take(reader, 4);
    return bytes ? ld_read_u32le(bytes) : 0;
}

static uint64_t take_u64(struct reader *reader)
{
    const uint8_t *bytes = take(reader, 8);
    return bytes ? ld_read_u64le(bytes) : 0;
}

static double take_double(struct reader *reader)
{
    const uint64_t bits = take_u64(reader);
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static struct ld_span take_span(struct reader *reader)
{
    const uint32_t size = take_u32(reader);
    const uint8_t *bytes = take(reader, size);
    return ld_span_of(bytes ? bytes : (const uint8_t *)"", bytes ? size : 0);
}

/* A sentence that may be shown: valid UTF-8, no control characters, bounded. */
static struct ld_span take_text(struct reader *reader, size_t bytes_max)
{
    const struct ld_span text = take_span(reader);
    if (text.size > bytes_max || !ld_utf8_valid(text))
        reader->failed = true;
    for (size_t i = 0; i < text.size && !reader->failed; i++)
        reader->failed = text.data[i] < 0x20 || text.data[i] == 0x7F;
    return text;
}

static enum ld_code take_code(struct reader *reader)
{
    const uint32_t value = take_u32(reader);
    if (value >= LD_CODE_COUNT)
        reader->failed = true;
    return reader->failed ? LD_E_BUG : (enum ld_code)value;
}

/* One well-formed JSON text whose outermost value is of `kind`, or, if allowed, nothing. */
static struct ld_span take_json(struct reader *reader, enum ld_json_kind kind, bool may_be_empty)
{
    const struct ld_span text = take_span(reader);
    if (reader->failed || (may_be_empty && text.size == 0))
        return text;
    struct ld_json json;
    struct ld_json_token token;
    ld_json_init(&json, text, LD_JSON_DEPTH, 1 << 20);
    if (ld_json_next(&json, &token, NULL) != LD_OK || token.kind != kind) {
        reader->failed = true;
        return text;
    }
    while (token.kind != LD_JSON_END && !reader->failed)
        reader->failed = ld_json_next(&json, &token, NULL) != LD_OK;
    return text;
}

static enum ld_code finish(const struct reader *reader, const char *name, struct ld_error *err)
{
    if (reader->failed || reader->rest.size != 0)
        return LD_FAIL(err, LD_E_FORMAT, "a %s message is malformed", name);
    return LD_OK;
}

/* ---- Worker to front ------------------------------------------------------------------------- */

void ld_message_hello_encode(struct ld_buffer *out, const struct ld_message_hello *message)
{
    put_u32(out, message->jobs_max);
    put_span(out, message->inventory);
}

enum ld_code ld_message_hello_decode(struct ld_message_hello *message, struct ld_span payload,
                                     struct ld_error *err)
{
    struct reader reader = {payload, false};
    message->jobs_max = take_u32(&reader);
    message->inventory = take_json(&reader, LD_JSON_OBJECT_BEGIN, false);
    if (message->jobs_max == 0 || message->jobs_max > 1024)
        reader.failed = true;
    return finish(&reader, "hello", err);
}

void ld_message_heartbeat_encode(struct ld_buffer *out, const struct ld_message_heartbeat *message)
{
    put_u64(out, message->activity);
    put_u32(out, message->jobs);
}

enum ld_code ld_message_heartbeat_decode(struct ld_message_heartbeat *message,
                                         struct ld_span payload, struct ld_error *err)
{
    struct reader reader = {payload, false};
    message->activity = take_u64(&reader);
    message->jobs = take_u32(&reader);
    return finish(&reader, "heartbeat", err);
}

void ld_message_progress_encode(struct ld_buffer *out, const struct ld_message_progress *message)
{
    put_sentence(out, message->phase);
    put_u32(out, message->image);
    put_u32(out, message->images);
    put_u32(out, message->step);
    put_u32(out, message->steps);
    put_double(out, message->fraction);
}

enum ld_code ld_message_progress_decode(struct ld_message_progress *message, struct ld_span payload,
                                        struct ld_error *err)
{
    struct reader reader = {payload, false};
    message->phase = take_text(&reader, 32);
    message->image = take_u32(&reader);
    message->images = take_u32(&reader);
    message->step = take_u32(&reader);
    message->steps = take_u32(&reader);
    message->fraction = take_double(&reader);
    if (!isfinite(message->fraction) || message->fraction < 0 || message->fraction > 1 ||
        message->step > message->steps || message->image > message->images)
        reader.failed = true;
    return finish(&reader, "progress", err);
}

void ld_message_image_encode(struct ld_buffer *out, const struct ld_message_image *message)
{
    put_u32(out, message->index);
    put_u64(out, message->seed);
    put_u32(out, message->width);
    put_u32(out, message->height);
    put_u8(out, message->partial);
    put_span(out, message->file);
}

/* A picture of one of the kinds that this build writes, and of the size that was said. */
static bool starts_as(struct ld_span file, uint32_t width, uint32_t height)
{
    struct ld_picture_header header;
    return ld_picture_check_header(&header, file, NULL) == LD_OK &&
           (uint32_t)header.width == width && (uint32_t)header.height == height;
}

enum ld_code ld_message_image_decode(struct ld_message_image *message, struct ld_span payload,
                                     struct ld_error *err)
{
    struct reader reader = {payload, false};
    message->index = take_u32(&reader);
    message->seed = take_u64(&reader);
    message->width = take_u32(&reader);
    message->height = take_u32(&reader);
    message->partial = take_bool(&reader);
    message->file = take_span(&reader);
    if (!reader.failed)
        reader.failed = message->index >= LD_IMAGES_MAX ||
                        !starts_as(message->file, message->width, message->height);
    return finish(&reader, "image", err);
}

void ld_message_done_encode(struct ld_buffer *out, const struct ld_message_done *message)
{
    put_u32(out, (uint32_t)message->code);
    put_sentence(out, message->detail);
    put_u64(out, message->text_us);
    put_u64(out, message->sample_us);
    put_u64(out, message->decode_us);
    put_u64(out, message->encode_us);
    put_u64(out, message->unet_rows);
    put_u64(out, message->unet_rows_saved);
    put_span(out, message->warnings);
    put_span(out, message->adapters);
    put_span(out, message->resolved);
    put_span(out, message->numerics);
    put_u32(out, message->repainted);
}

enum ld_code ld_message_done_decode(struct ld_message_done *message, struct ld_span payload,
                                    struct ld_error *err)
{
    struct reader reader = {payload, false};
    message->code = take_code(&reader);
    message->detail = take_text(&reader, LD_ERROR_DETAIL_SIZE);
    message->text_us = take_u64(&reader);
    message->sample_us = take_u64(&reader);
    message->decode_us = take_u64(&reader);
    message->encode_us = take_u64(&reader);
    message->unet_rows = take_u64(&reader);
    message->unet_rows_saved = take_u64(&reader);
    message->warnings = take_json(&reader, LD_JSON_ARRAY_BEGIN, true);
    message->adapters = take_json(&reader, LD_JSON_ARRAY_BEGIN, true);
    message->resolved = take_json(&reader, LD_JSON_OBJECT_BEGIN, true);
    message->numerics = take_json(&reader, LD_JSON_OBJECT_BEGIN, true);
    message->repainted = take_u32(&reader);
    if (!reader.failed)
        reader.failed = message->repainted > 2 * LD_IMAGES_MAX; /* each picture and its decoding */
    return finish(&reader, "done", err);
}

void ld_message_plan_answer_encode(struct ld_buffer *out,
                                   const struct ld_message_plan_answer *message)
{
    put_u32(out, (uint32_t)message->code);
    put_sentence(out, message->detail);
    put_span(out, message->plan);
}

enum ld_code ld_message_plan_answer_decode(struct ld_message_plan_answer *message,
                                           struct ld_span payload, struct ld_error *err)
{
    struct reader reader = {payload, false};
    message->code = take_code(&reader);
    message->detail = take_text(&reader, LD_ERROR_DETAIL_SIZE);
    message->plan = take_json(&reader, LD_JSON_OBJECT_BEGIN, message->code != LD_OK);
    return finish(&reader, "plan answer", err);
}

void ld_message_fault_encode(struct ld_buffer *out, const struct ld_message_fault *message)
{
    put_u32(out, (uint32_t)message->code);
    put_sentence(out, message->detail);
}

enum ld_code ld_message_fault_decode(struct ld_message_fault *message, struct ld_span payload,
                                     struct ld_error *err)
{
    struct reader reader = {payload, false};
    message->code = take_code(&reader);
    message->detail = take_text(&reader, LD_ERROR_DETAIL_SIZE);
    return finish(&reader, "fault", err);
}

/* ---- Front to worker ------------------------------------------------------------------------- */

void ld_message_stats_encode(struct ld_buffer *out, const struct ld_message_stats *message)
{
    put_u32(out, message->count);
    for (uint32_t i = 0; i < message->count && i < LD_MESSAGE_STATS_MAX; i++)
        put_u64(out, message->values[i]);
}

enum ld_code ld_message_stats_decode(struct ld_message_stats *message, struct ld_span payload,
                                     struct ld_error *err)
{
    struct reader reader = {payload, false};
    message->count = take_u32(&reader);
    if (message->count > LD_MESSAGE_STATS_MAX)
        reader.failed = true;
    for (uint32_t i = 0; i < message->count && !reader.failed; i++)
        message->values[i] = take_u64(&reader);
    return finish(&reader, "stats", err);
}

void ld_message_job_encode(struct ld_buffer *out, const struct ld_message_job *message)
{
    put_span(out, message->request);
    put_span(out, message->init_image);
    put_span(out, message->init_mask);
    for (uint32_t i = 0; i < LD_CONTROLS_MAX; i++)
        put_span(out, message->control_images[i]);
    put_u64(out, message->share);
}

enum ld_code ld_message_job_decode(struct ld_message_job *message, struct ld_span payload,
                                   struct ld_error *err)
{
    struct reader reader = {payload, false};
    message->request = take_json(&reader, LD_JSON_OBJECT_BEGIN, false);
    message->init_image = take_span(&reader);
    message->init_mask = take_span(&reader);
    for (uint32_t i = 0; i < LD_CONTROLS_MAX; i++)
        message->control_images[i] = take_span(&reader);
    message->share = take_u64(&reader);
    return finish(&reader, "job", err);
}

void ld_message_sheet_encode(struct ld_buffer *out, const struct ld_message_sheet *message)
{
    put_span(out, message->request);
    put_u32(out, message->cells);
    put_u32(out, message->width);
    put_u32(out, message->height);
}

enum ld_code ld_message_sheet_decode(struct ld_message_sheet *message, struct ld_span payload,
                                     struct ld_error *err)
{
    struct reader reader = {payload, false};
    message->request = take_json(&reader, LD_JSON_OBJECT_BEGIN, false);
    message->cells = take_u32(&reader);
    message->width = take_u32(&reader);
    message->height = take_u32(&reader);
    if (!reader.failed)
        reader.failed = message->cells < 1 || message->cells > LD_SWEEP_CELLS_MAX ||
                        message->width < 1 || message->width > LD_SIDE_MAX || message->height < 1 ||
                        message->height > LD_SIDE_MAX;
    return finish(&reader, "sheet", err);
}

void ld_message_cell_encode(struct ld_buffer *out, const struct ld_message_cell *message)
{
    put_u32(out, message->index);
    put_span(out, message->file);
}

enum ld_code ld_message_cell_decode(struct ld_message_cell *message, struct ld_span payload,
                                    struct ld_error *err)
{
    struct reader reader = {payload, false};
    message->index = take_u32(&reader);
    message->file = take_span(&reader);
    if (!reader.failed)
        reader.failed = message->index >= LD_SWEEP_CELLS_MAX;
    return finish(&reader, "cell", err);
}

void ld_message_model_encode(struct ld_buffer *out, const struct ld_message_model *message)
{
    ld_buffer_byte(out, (char)message->order);
    put_span(out, message->name);
}

enum ld_code ld_message_model_decode(struct ld_message_model *message, struct ld_span payload,
                                     struct ld_error *err)
{
    struct reader reader = {payload, false};
    const uint8_t *order = take(&reader, 1);
    reader.failed = !order || *order >= LD_MODEL_ORDER_END;
    message->order = LD_MODEL_UNLOAD;
    if (!reader.failed)
        message->order = (enum ld_model_order) * order;
    message->name = take_text(&reader, LD_NAME_BYTES_MAX);
    return finish(&reader, "model", err);
}

void ld_message_cancel_encode(struct ld_buffer *out, const struct ld_message_cancel *message)
{
    put_u8(out, message->keep_partial);
}

enum ld_code ld_message_cancel_decode(struct ld_message_cancel *message, struct ld_span payload,
                                      struct ld_error *err)
{
    struct reader reader = {payload, false};
    message->keep_partial = take_bool(&reader);
    return finish(&reader, "cancel", err);
}
