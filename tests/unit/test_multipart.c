/*
 * Proves that multipart bodies are cut exactly at their boundaries and that malformed or oversized
 * ones are refused. Works on hand-made bodies and on every truncation of a good one.
 */
#include "api/multipart.h"

#include "config/limits.h"
#include "runtime/base/arena.h"
#include "runtime/base/buffer.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static const char type[] = "multipart/form-data; boundary=XyZ";
static const char good[] =
    "--XyZ\r\n"
    "Content-Disposition: form-data; name=\"image\"; filename=\"a;b.png\"\r\n"
    "Content-Type: image/png\r\n\r\n"
    "\r\n--XyY data\r\n\r\n--XyZ\r\n"
    "content-disposition: form-data; name=strength\r\n\r\n"
    "0.5\r\n--XyZ\r\n"
    "Content-Disposition: form-data; name=\"empty\"\r\n\r\n"
    "\r\n--XyZ--\r\nepilogue";

static void parts_are_cut_at_their_boundaries(void **state)
{
    (void)state;
    struct ld_multipart reader;
    struct ld_multipart_part part;
    struct ld_error err = {0};
    assert_int_equal(ld_multipart_open(&reader, type, ld_span_text(good), &err), LD_OK);
    assert_int_equal(ld_multipart_next(&reader, &part, &err), LD_OK);
    assert_true(part.found && ld_span_is(part.name, "image"));
    assert_true(ld_span_is(part.file_name, "a;b.png") &&
                ld_span_is(part.content_type, "image/png"));
    assert_true(ld_span_is(part.data, "\r\n--XyY data\r\n"));
    assert_int_equal(ld_multipart_next(&reader, &part, &err), LD_OK);
    assert_true(part.found && ld_span_is(part.name, "strength") && ld_span_is(part.data, "0.5"));
    assert_int_equal(part.file_name.size, 0);
    assert_int_equal(ld_multipart_next(&reader, &part, &err), LD_OK);
    assert_true(part.found && ld_span_is(part.name, "empty") && part.data.size == 0);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(ld_multipart_next(&reader, &part, &err), LD_OK);
        assert_false(part.found);
    }
}

/* All parts, or the first refusal. */
static enum ld_code read_all(const char *content_type, struct ld_span body, struct ld_error *err)
{
    struct ld_multipart reader;
    struct ld_multipart_part part = {.found = true};
    enum ld_code code = ld_multipart_open(&reader, content_type, body, err);
    for (int i = 0; code == LD_OK && part.found && i < 100; i++)
        code = ld_multipart_next(&reader, &part, err);
    return code;
}

static void every_truncation_is_refused(void **state)
{
    (void)state;
    const size_t closing = (size_t)(strstr(good, "--XyZ--") - good) + 7;
    for (size_t size = 0; size < closing; size++) {
        struct ld_error err = {0};
        char *copy =
            ld_heap_alloc(size + 1); /* exactly as long, so that a sanitizer sees overreads */
        memcpy(copy, good, size);
        assert_int_equal(read_all(type, ld_span_of(copy, size), &err), LD_E_FORMAT);
        ld_heap_free(copy);
    }
    struct ld_error err = {0};
    assert_int_equal(read_all(type, ld_span_of(good, closing), &err), LD_OK);
}

static void strange_types_and_boundaries_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *type;
        enum ld_code code;
    } cases[] = {
        {"application/json", LD_E_UNSUPPORTED},
        {"", LD_E_UNSUPPORTED},
        {"multipart/form-data", LD_E_FORMAT},
        {"multipart/form-data; boundary=", LD_E_FORMAT},
        {"multipart/form-data; boundary=\"a", LD_E_FORMAT},
        {"multipart/form-data; boundary=a b", LD_E_FORMAT},
        {"multipart/form-data; boundary=a\x01", LD_E_FORMAT},
        {"multipart/form-data; boundary=0123456789012345678901234567890123456789012345678901234567"
         "8901234567890",
         LD_E_FORMAT},
        {"multipart/form-data; boundary=other", LD_E_FORMAT},
        {"Multipart/Form-Data; charset=utf-8; Boundary=\"XyZ\"", LD_OK},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct ld_error err = {0};
        assert_int_equal(read_all(cases[i].type, ld_span_text(good), &err), cases[i].code);
    }
}

static void strange_parts_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "preamble\r\n--XyZ\r\nContent-Disposition: form-data; name=a\r\n\r\n\r\n--XyZ--",
        "--XyZ\r\nContent-Type: text/plain\r\n\r\nx\r\n--XyZ--",
        "--XyZ\r\nContent-Disposition: form-data\r\n\r\nx\r\n--XyZ--",
        "--XyZ\r\nContent-Disposition: form-data; name=\"a\\\"b\"\r\n\r\nx\r\n--XyZ--",
        ("--XyZ\r\nContent-Disposition: form-data; name=a\r\nContent-Transfer-Encoding: base64\r\n"
         "\r\nx\r\n--XyZ--"),
        "--XyZ\nContent-Disposition: form-data; name=a\n\nx\n--XyZ--",
        "--XyZgarbage\r\nContent-Disposition: form-data; name=a\r\n\r\nx\r\n--XyZ--",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct ld_error err = {0};
        assert_int_equal(read_all(type, ld_span_text(bad[i]), &err), LD_E_FORMAT);
    }
}

static void bounds_hold_at_four_parts_and_one_kibibyte(void **state)
{
    (void)state;
    for (int parts = LD_MULTIPART_PARTS_MAX - 1; parts <= LD_MULTIPART_PARTS_MAX + 1; parts++) {
        struct ld_buffer body = ld_buffer_make(65536);
        struct ld_error err = {0};
        for (int i = 0; i < parts; i++)
            ld_buffer_text(&body, "--XyZ\r\nContent-Disposition: form-data; name=a\r\n\r\nx\r\n");
        ld_buffer_text(&body, "--XyZ--");
        assert_int_equal(read_all(type, ld_span_of(body.data, body.size), &err),
                         parts <= LD_MULTIPART_PARTS_MAX ? LD_OK : LD_E_TOO_LARGE);
        ld_buffer_deinit(&body);
    }
    static const char head[] = "Content-Disposition: form-data; name=a\r\nX: ";
    for (int over = -1; over <= 1; over++) {
        struct ld_buffer body = ld_buffer_make(65536);
        struct ld_error err = {0};
        ld_buffer_text(&body, "--XyZ\r\n");
        ld_buffer_text(&body, head);
        const size_t fill = LD_MULTIPART_HEADER_BYTES_MAX - (sizeof head - 1) - 4;
        for (size_t i = 0; i < fill + (size_t)(over + 1) - 1; i++)
            ld_buffer_byte(&body, 'x');
        ld_buffer_text(&body, "\r\n\r\ndata\r\n--XyZ--");
        assert_int_equal(read_all(type, ld_span_of(body.data, body.size), &err),
                         over <= 0 ? LD_OK : LD_E_TOO_LARGE);
        ld_buffer_deinit(&body);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parts_are_cut_at_their_boundaries),
        cmocka_unit_test(every_truncation_is_refused),
        cmocka_unit_test(strange_types_and_boundaries_are_refused),
        cmocka_unit_test(strange_parts_are_refused),
        cmocka_unit_test(bounds_hold_at_four_parts_and_one_kibibyte),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
