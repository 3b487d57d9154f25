/*
 * Proves that WebSocket frames and stored ZIP archives are what their specifications say: the
 * handshake of RFC 6455 1.3, the frames of 5.7, lengths of all three forms, refusals; and an
 * archive byte by byte.
 */
#include "api/zip_store.h"
#include "runtime/base/arena.h"
#include "server/ws_frame.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void the_handshake_answers_as_rfc_6455_says(void **state)
{
    char accept[LD_WS_ACCEPT_SIZE];
    (void)state;
    assert_true(ld_ws_accept("dGhlIHNhbXBsZSBub25jZQ==", accept));
    assert_string_equal(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    assert_false(ld_ws_accept("", accept));
    assert_false(ld_ws_accept("short", accept));
    assert_false(ld_ws_accept("AAAA", accept));
}

static void a_servers_frames_have_the_shortest_length(void **state)
{
    static const size_t sizes[] = {0, 125, 126, 65535, 65536};
    static const size_t heads[] = {2, 2, 4, 4, 10};
    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct ld_buffer out = ld_buffer_make(1 << 20);
        uint8_t *payload = ld_heap_calloc(sizes[i] + 1, 1);
        ld_ws_put(&out, LD_WS_BINARY, ld_span_of(payload, sizes[i]));
        assert_int_equal(out.size, heads[i] + sizes[i]);
        assert_int_equal((uint8_t)out.data[0], 0x82);
        ld_heap_free(payload);
        ld_buffer_deinit(&out);
    }
}

static void a_clients_frame_is_unmasked_once_it_is_whole(void **state)
{
    uint8_t hello[] = {0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58};
    struct ld_ws_frame frame;
    (void)state;
    for (size_t size = 0; size < sizeof hello; size++)
        assert_int_equal(ld_ws_take(hello, size, &frame), LD_WS_MORE);
    assert_int_equal(ld_ws_take(hello, sizeof hello, &frame), LD_WS_ONE);
    assert_int_equal(frame.opcode, LD_WS_TEXT);
    assert_true(frame.last);
    assert_int_equal(frame.size, sizeof hello);
    assert_memory_equal(frame.payload, "Hello", 5);
}

static void wrong_frames_are_refused_by_their_head(void **state)
{
    static const uint8_t wrong[][14] = {
        {0x81, 0x02, 'h', 'i'},               /* not masked */
        {0xC1, 0x80},                         /* a reserved bit */
        {0x83, 0x80},                         /* no such opcode */
        {0x09, 0x80},                         /* a control frame in pieces */
        {0x89, 0xFE},                         /* a long control frame */
        {0x82, 0xFF, 0, 0, 0, 0, 0, 1, 0, 1}, /* 65537 bytes */
        {0x82, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF}, /* 2^64-1 */
    };
    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        uint8_t bytes[14];
        struct ld_ws_frame frame;
        memcpy(bytes, wrong[i], sizeof bytes);
        assert_int_equal(ld_ws_take(bytes, sizeof bytes, &frame), LD_WS_WRONG);
    }
}

static void an_archive_holds_its_files_as_they_are(void **state)
{
    struct ld_buffer out = ld_buffer_make(4096);
    struct ld_zip zip = {.out = &out};
    (void)state;
    ld_zip_add(&zip, "a.txt", ld_span_text("123456789"));
    ld_zip_add(&zip, "b", ld_span_text(""));
    ld_zip_finish(&zip);
    const uint8_t *bytes = (const uint8_t *)out.data;
    static const uint8_t local[] = {
        'P',  'K', 3, 4, 20, 0, 0, 0, 0, 0, 0, 0, 0x21, 0,   0x26, 0x39, 0xF4,
        0xCB, /* CRC-32 of "123456789": CBF43926 */
        9,    0,   0, 0, 9,  0, 0, 0, 5, 0, 0, 0, 'a',  '.', 't',  'x',  't'};
    assert_memory_equal(bytes, local, sizeof local);
    assert_memory_equal(bytes + sizeof local, "123456789", 9);
    const uint8_t *end = bytes + out.size - 22;
    assert_memory_equal(end, "PK\5\6\0\0\0\0\2\0\2\0", 12);
    const uint32_t directory = (uint32_t)end[16] | (uint32_t)end[17] << 8;
    assert_int_equal(directory, sizeof local + 9 + 30 + 1);
    assert_memory_equal(bytes + directory, "PK\1\2", 4);
    ld_buffer_deinit(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_handshake_answers_as_rfc_6455_says),
        cmocka_unit_test(a_servers_frames_have_the_shortest_length),
        cmocka_unit_test(a_clients_frame_is_unmasked_once_it_is_whole),
        cmocka_unit_test(wrong_frames_are_refused_by_their_head),
        cmocka_unit_test(an_archive_holds_its_files_as_they_are),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
