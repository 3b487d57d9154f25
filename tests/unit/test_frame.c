/*
 * Proves that frames survive any cut of the byte stream and that every corruption is refused for
 * good. Sends frames byte by byte, flips every bit, and forges headers with right checksums.
 */
#include "runtime/ipc/frame.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

static const char job_id[LD_ID_SIZE] = "0123456789abcdefghjkmnpqrs";

static struct ld_buffer encoded(enum ld_frame_type type, uint64_t token, const char *id,
                                struct ld_span payload)
{
    struct ld_buffer out = ld_buffer_make(1 << 20);
    struct ld_frame frame = {.type = type, .token = token, .payload = payload};
    memcpy(frame.job_id, id, strlen(id) + 1);
    assert_int_equal(ld_frame_encode(&out, &frame, NULL), LD_OK);
    return out;
}

static void assert_frame(const struct ld_frame *frame, enum ld_frame_type type, uint64_t token,
                         const char *payload)
{
    assert_int_equal(frame->type, type);
    assert_true(frame->token == token);
    assert_true(ld_span_is(frame->payload, payload));
}

static void frames_survive_any_cut_of_the_stream(void **state)
{
    (void)state;
    struct ld_buffer stream =
        encoded(LD_FRAME_DONE, 0xFEDCBA9876543210U, job_id, ld_span_text("payload"));
    struct ld_buffer second = encoded(LD_FRAME_SHUTDOWN, 0, "", ld_span_text(""));
    ld_buffer_bytes(&stream, second.data, second.size);
    for (size_t cut = 0; cut <= stream.size; cut++) {
        struct ld_frame_reader reader;
        struct ld_frame frame;
        bool got = false;
        uint32_t count = 0;
        ld_frame_reader_init(&reader);
        const struct ld_span parts[2] = {ld_span_of(stream.data, cut),
                                         ld_span_of(stream.data + cut, stream.size - cut)};
        for (size_t i = 0; i < 2; i++) {
            assert_int_equal(ld_frame_reader_feed(&reader, parts[i], NULL), LD_OK);
            for (;;) {
                assert_int_equal(ld_frame_reader_next(&reader, &frame, &got, NULL), LD_OK);
                if (!got)
                    break;
                if (count == 0) {
                    assert_frame(&frame, LD_FRAME_DONE, 0xFEDCBA9876543210U, "payload");
                    assert_string_equal(frame.job_id, job_id);
                } else {
                    assert_frame(&frame, LD_FRAME_SHUTDOWN, 0, "");
                    assert_string_equal(frame.job_id, "");
                }
                count++;
            }
        }
        assert_int_equal(count, 2);
        ld_frame_reader_deinit(&reader);
    }
    ld_buffer_deinit(&stream);
    ld_buffer_deinit(&second);
}

static enum ld_code read_once(const void *bytes, size_t size, bool *got)
{
    struct ld_frame_reader reader;
    struct ld_frame frame;
    struct ld_error err;
    ld_frame_reader_init(&reader);
    enum ld_code code = ld_frame_reader_feed(&reader, ld_span_of(bytes, size), &err);
    if (code == LD_OK)
        code = ld_frame_reader_next(&reader, &frame, got, &err);
    if (code != LD_OK) { /* for good */
        struct ld_buffer good = encoded(LD_FRAME_SHUTDOWN, 0, "", ld_span_text(""));
        assert_int_equal(ld_frame_reader_feed(&reader, ld_span_of(good.data, good.size), &err),
                         LD_OK);
        assert_int_equal(ld_frame_reader_next(&reader, &frame, got, &err), LD_E_FORMAT);
        ld_buffer_deinit(&good);
    }
    ld_frame_reader_deinit(&reader);
    return code;
}

static void every_flipped_bit_is_noticed(void **state)
{
    (void)state;
    struct ld_buffer good = encoded(LD_FRAME_IMAGE, 7, job_id, ld_span_text("some pixels"));
    bool got = false;
    assert_int_equal(read_once(good.data, good.size, &got), LD_OK);
    assert_true(got);
    for (size_t bit = 0; bit < good.size * 8; bit++) {
        good.data[bit / 8] = (char)(good.data[bit / 8] ^ (1 << (bit % 8)));
        got = false;
        const enum ld_code code = read_once(good.data, good.size, &got);
        /* A longer length is not wrong yet: the frame just never becomes whole. */
        assert_true(code == LD_E_FORMAT || !got);
        good.data[bit / 8] = (char)(good.data[bit / 8] ^ (1 << (bit % 8)));
    }
    ld_buffer_deinit(&good);
}

static void reseal(struct ld_buffer *frame)
{
    const uint32_t crc = ld_crc32c(0, ld_span_of(frame->data, 48));
    uint8_t bytes[4];
    ld_write_u32le(bytes, ld_crc32c(crc, ld_span_of(frame->data + 52, frame->size - 52)));
    memcpy(frame->data + 48, bytes, sizeof bytes);
}

static void forged_headers_are_refused_whatever_their_checksum(void **state)
{
    (void)state;
    static const struct {
        size_t offset;
        char value;
    } forgeries[] = {{0, 'X'},  {4, 2},    {5, 1},     {6, 0},  {6, LD_FRAME_TYPE_END},
                     {7, 1},    {20, '/'}, {25, '\0'}, {46, 1}, {47, 1},
                     {45, 'A'}, {10, 1}};
    for (size_t i = 0; i < sizeof forgeries / sizeof forgeries[0]; i++) {
        struct ld_buffer frame = encoded(LD_FRAME_HEARTBEAT, 7, job_id, ld_span_text("x"));
        bool got = false;
        frame.data[forgeries[i].offset] = forgeries[i].value;
        reseal(&frame);
        assert_int_equal(read_once(frame.data, frame.size, &got), LD_E_FORMAT);
        ld_buffer_deinit(&frame);
    }
}

static void a_length_beyond_the_type_is_refused_before_its_payload(void **state)
{
    (void)state;
    struct ld_buffer frame = encoded(LD_FRAME_PROGRESS, 7, job_id, ld_span_text(""));
    bool got = false;
    ld_write_u32le((uint8_t *)frame.data + 8, 257);
    assert_int_equal(read_once(frame.data, LD_FRAME_HEADER_BYTES, &got), LD_E_FORMAT);
    ld_write_u32le((uint8_t *)frame.data + 8, 256);
    assert_int_equal(read_once(frame.data, LD_FRAME_HEADER_BYTES, &got), LD_OK);
    assert_false(got);
    ld_buffer_deinit(&frame);

    char payload[300] = {0};
    struct ld_buffer out = ld_buffer_make(1 << 20);
    const struct ld_frame large = {.type = LD_FRAME_PROGRESS,
                                   .payload = ld_span_of(payload, sizeof payload)};
    assert_int_equal(ld_frame_encode(&out, &large, NULL), LD_E_TOO_LARGE);
    ld_buffer_deinit(&out);
}

static void a_closed_socket_is_told_apart_from_a_silent_one(void **state)
{
    (void)state;
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    struct ld_frame_reader reader;
    struct ld_frame frame;
    bool closed = true;
    bool got = false;
    ld_frame_reader_init(&reader);
    assert_int_equal(ld_frame_reader_fill(&reader, fds[0], &closed, NULL), LD_OK);
    assert_false(closed);
    struct ld_buffer bytes = encoded(LD_FRAME_FAULT, 0, "", ld_span_text("oh"));
    assert_int_equal(write(fds[1], bytes.data, bytes.size), (ssize_t)bytes.size);
    assert_int_equal(close(fds[1]), 0);
    assert_int_equal(ld_frame_reader_fill(&reader, fds[0], &closed, NULL), LD_OK);
    assert_false(closed);
    assert_int_equal(ld_frame_reader_next(&reader, &frame, &got, NULL), LD_OK);
    assert_true(got);
    assert_frame(&frame, LD_FRAME_FAULT, 0, "oh");
    assert_int_equal(ld_frame_reader_fill(&reader, fds[0], &closed, NULL), LD_OK);
    assert_true(closed);
    ld_buffer_deinit(&bytes);
    ld_frame_reader_deinit(&reader);
    assert_int_equal(close(fds[0]), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_survive_any_cut_of_the_stream),
        cmocka_unit_test(every_flipped_bit_is_noticed),
        cmocka_unit_test(forged_headers_are_refused_whatever_their_checksum),
        cmocka_unit_test(a_length_beyond_the_type_is_refused_before_its_payload),
        cmocka_unit_test(a_closed_socket_is_told_apart_from_a_silent_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
