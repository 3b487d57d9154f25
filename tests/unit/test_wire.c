/*
 * Proves that WebSocket frames and stored ZIP archives are what their specifications say: the
 * handshake of RFC 6455 1.3, lengths of all three forms, pings and closes answered, what is wrong
 * ends the conversation; and an archive byte by byte.
 */
#include "runtime/image/zip_write.h"
#include "runtime/base/arena.h"
#include "server/ws.h"

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

/* ---- A conversation -------------------------------------------------------------------------- */

static struct ld_ws *ws;
static struct ld_buffer wire;

static int begin(void **state)
{
    struct ld_error err = {0};
    (void)state;
    wire = ld_buffer_make(1 << 20);
    return ld_ws_open(&ws, &wire, &err) == LD_OK ? 0 : -1;
}

static int end(void **state)
{
    (void)state;
    ld_ws_destroy(ws);
    ld_buffer_deinit(&wire);
    return 0;
}

static void a_servers_frames_have_the_shortest_length(void **state)
{
    static const size_t sizes[] = {0, 125, 126, 65535, 65536};
    static const size_t heads[] = {2, 2, 4, 4, 10};
    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        uint8_t *payload = ld_heap_calloc(sizes[i] + 1, 1);
        ld_buffer_clear(&wire);
        ld_ws_put(ws, LD_WS_BINARY, ld_span_of(payload, sizes[i]));
        assert_int_equal(wire.size, heads[i] + sizes[i]);
        assert_int_equal((uint8_t)wire.data[0], 0x82);
        ld_heap_free(payload);
    }
}

static void a_ping_is_answered_once_it_is_whole(void **state)
{
    static const uint8_t ping[] = {0x89, 0x85, 0x37, 0xfa, 0x21, 0x3d,
                                   0x7f, 0x9f, 0x4d, 0x51, 0x58};
    (void)state;
    for (size_t i = 0; i < sizeof ping; i++) {
        assert_int_equal(wire.size, 0);
        assert_true(ld_ws_take(ws, ld_span_of(ping + i, 1)));
    }
    assert_int_equal(wire.size, 7);
    assert_memory_equal(wire.data, "\x8a\x05Hello", 7);
}

static void what_a_client_says_changes_nothing(void **state)
{
    static const uint8_t hello[] = {0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d,
                                    0x7f, 0x9f, 0x4d, 0x51, 0x58};
    (void)state;
    assert_true(ld_ws_take(ws, ld_span_of(hello, sizeof hello)));
    assert_int_equal(wire.size, 0);
}

static void a_close_is_returned_and_ends_it(void **state)
{
    static const uint8_t bye[] = {0x88, 0x82, 0, 0, 0, 0, 0x03, 0xE8};
    (void)state;
    assert_false(ld_ws_take(ws, ld_span_of(bye, sizeof bye)));
    assert_int_equal(wire.size, 4);
    assert_memory_equal(wire.data, "\x88\x02\x03\xe8", 4);
    ld_ws_put(ws, LD_WS_TEXT, ld_span_text("too late"));
    ld_ws_close(ws, LD_WS_GOING_AWAY);
    assert_int_equal(wire.size, 4);
}

static void going_away_is_said_with_its_number(void **state)
{
    (void)state;
    ld_ws_close(ws, LD_WS_GOING_AWAY);
    assert_memory_equal(wire.data, "\x88\x02\x03\xe9", 4);
}

static void wrong_frames_end_it(void **state)
{
    static const struct {
        uint8_t bytes[15];
        size_t size;
        const char *close; /* with its number where it has one: 03EA is 1002, 03F1 is 1009 */
    } wrong[] = {
        {{0x81, 0x02, 'h', 'i'}, 4, "\x88\x02\x03\xea"}, /* not masked */
        {{0xC1, 0x80}, 6, "\x88\x02\x03\xea"},           /* a reserved bit */
        {{0x83, 0x80}, 6, "\x88\x02\x03\xea"},           /* no such opcode */
        {{0x09, 0x80}, 6, "\x88"},                       /* a control frame in pieces */
        {{0x89, 0xFE, 0, 126}, 8, "\x88"},               /* a long control frame */
        {{0x82, 0xFF, 0, 0, 0, 0, 0, 1, 0, 1}, 15, "\x88\x02\x03\xf1"}, /* 65537 bytes */
        {{0x82, 0xFF, 0xFF}, 14, "\x88"},                               /* a length beyond 2^63 */
    };
    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        assert_int_equal(begin(NULL), 0);
        assert_false(ld_ws_take(ws, ld_span_of(wrong[i].bytes, wrong[i].size)));
        assert_true(wire.size >= 2);
        assert_memory_equal(wire.data, wrong[i].close, strlen(wrong[i].close));
        (void)end(NULL);
    }
}

static void an_archive_holds_its_files_as_they_are(void **state)
{
    struct ld_buffer out = ld_buffer_make(4096);
    struct ld_zip_writer zip = {.out = &out};
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
        cmocka_unit_test_setup_teardown(a_servers_frames_have_the_shortest_length, begin, end),
        cmocka_unit_test_setup_teardown(a_ping_is_answered_once_it_is_whole, begin, end),
        cmocka_unit_test_setup_teardown(what_a_client_says_changes_nothing, begin, end),
        cmocka_unit_test_setup_teardown(a_close_is_returned_and_ends_it, begin, end),
        cmocka_unit_test_setup_teardown(going_away_is_said_with_its_number, begin, end),
        cmocka_unit_test(wrong_frames_end_it),
        cmocka_unit_test(an_archive_holds_its_files_as_they_are),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
