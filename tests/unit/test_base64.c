/*
 * Proves that base64 is a bijection here: what is encoded decodes to itself, and no other text
 * decodes at all. Works on the vectors of RFC 4648, on all lengths to 300 and on single changes.
 */
#include "api/base64.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void the_vectors_of_the_standard_hold(void **state)
{
    (void)state;
    static const char *const pairs[][2] = {
        {"", ""},
        {"f", "Zg=="},
        {"fo", "Zm8="},
        {"foo", "Zm9v"},
        {"foob", "Zm9vYg=="},
        {"fooba", "Zm9vYmE="},
        {"foobar", "Zm9vYmFy"},
    };
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        struct ld_buffer text = ld_buffer_make(64);
        struct ld_buffer bytes = ld_buffer_make(64);
        struct ld_error err = {0};
        ld_base64_encode(ld_span_text(pairs[i][0]), &text);
        assert_string_equal(text.data, pairs[i][1]);
        assert_int_equal(ld_base64_decode(ld_span_text(pairs[i][1]), &bytes, &err), LD_OK);
        assert_string_equal(bytes.data, pairs[i][0]);
        assert_int_equal(ld_base64_decoded_size(ld_span_text(pairs[i][1])), bytes.size);
        ld_buffer_deinit(&text);
        ld_buffer_deinit(&bytes);
    }
}

static void malformed_texts_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "Z",    "Zg",       "Zg=",         "Zg===", "Zh==", "Zm9=",  "====",
        "=Zg=", "Zg==Zg==", "Zm 9",        "Zm9\n", "Zm-_", "Zm9vZ", "\xC3\xA9\xC3\xA9",
        "A===", "data:,aa", "Zm9vYmF\x00",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct ld_buffer bytes = ld_buffer_make(64);
        struct ld_error err = {0};
        assert_int_equal(ld_base64_decode(ld_span_text(bad[i]), &bytes, &err), LD_E_INVALID);
        ld_buffer_deinit(&bytes);
    }
    struct ld_buffer bytes = ld_buffer_make(64);
    struct ld_error err = {0};
    assert_int_equal(ld_base64_decode(ld_span_of("Zm9\0", 4), &bytes, &err), LD_E_INVALID);
    assert_non_null(strstr(err.detail, "character 4"));
    ld_buffer_deinit(&bytes);
}

static void the_ceiling_holds_at_its_bound(void **state)
{
    (void)state;
    for (size_t limit = 5; limit <= 7; limit++) {
        struct ld_buffer bytes = ld_buffer_make(limit);
        struct ld_error err = {0};
        assert_int_equal(ld_base64_decode(ld_span_text("Zm9vYmFy"), &bytes, &err),
                         limit < 6 ? LD_E_TOO_LARGE : LD_OK);
        ld_buffer_deinit(&bytes);
    }
}

static void every_length_comes_back_and_every_change_is_seen(void **state)
{
    (void)state;
    uint8_t data[8000];
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(i * 167 + i / 256);
    for (size_t size = 0; size <= sizeof data; size += size < 300 ? 1 : 1925) {
        struct ld_buffer text = ld_buffer_make(20000);
        struct ld_buffer bytes = ld_buffer_make(20000);
        struct ld_error err = {0};
        ld_base64_encode(ld_span_of(data, size), &text);
        assert_int_equal(text.size, (size + 2) / 3 * 4);
        const struct ld_span span = ld_span_of(text.data, text.size);
        assert_int_equal(ld_base64_decode(span, &bytes, &err), LD_OK);
        assert_true(ld_span_equal(ld_span_of(bytes.data, bytes.size), ld_span_of(data, size)));
        if (size > 0) {
            char *last = &text.data[text.size - 1];
            while (*last == '=')
                last--;
            *last = *last == 'A' ? 'B' : 'A';
            ld_buffer_clear(&bytes);
            if (ld_base64_decode(span, &bytes, &err) == LD_OK)
                assert_false(
                    ld_span_equal(ld_span_of(bytes.data, bytes.size), ld_span_of(data, size)));
        }
        ld_buffer_deinit(&text);
        ld_buffer_deinit(&bytes);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_vectors_of_the_standard_hold),
        cmocka_unit_test(malformed_texts_are_refused),
        cmocka_unit_test(the_ceiling_holds_at_its_bound),
        cmocka_unit_test(every_length_comes_back_and_every_change_is_seen),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
