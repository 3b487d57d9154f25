/*
 * Proves that ids are well formed and distinct, and that hashes and checksums equal the published
 * vectors. Compares with FIPS 180-4, RFC 4231 and RFC 3720 examples.
 */
#include "runtime/base/id.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static void ids_are_well_formed_and_distinct(void **state)
{
    (void)state;
    static char ids[1000][LD_ID_SIZE];
    for (size_t i = 0; i < 1000; i++) {
        ld_id_make(ids[i]);
        assert_true(ld_id_valid(ld_span_text(ids[i])));
        for (size_t j = 0; j < i; j++)
            assert_string_not_equal(ids[i], ids[j]);
    }
    assert_false(ld_id_valid(ld_span_text("")));
    assert_false(ld_id_valid(ld_span_text("0123456789012345678901234")));
    assert_false(ld_id_valid(ld_span_text("012345678901234567890123456")));
    assert_false(ld_id_valid(ld_span_text("0123456789012345678901234A")));
    assert_false(ld_id_valid(ld_span_text("01234567890123456789012./x")));
    assert_int_not_equal(ld_random_u64(), ld_random_u64());
}

static void sha256_equals_the_published_vectors(void **state)
{
    (void)state;
    char hex[LD_SHA256_HEX_SIZE];
    ld_sha256_hex(ld_span_text(""), hex);
    assert_string_equal(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    ld_sha256_hex(ld_span_text("abc"), hex);
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");

    struct ld_sha256 hash;
    struct ld_error err;
    uint8_t digest[LD_SHA256_BYTES];
    assert_int_equal(ld_sha256_init(&hash, &err), LD_OK);
    char piece[999];
    memset(piece, 'a', sizeof piece);
    size_t left = 1000000;
    for (size_t size = 1; left > 0; size = size % sizeof piece + 1) {
        const size_t part = size < left ? size : left; /* every length from 1 to 999 */
        ld_sha256_update(&hash, ld_span_of(piece, part));
        left -= part;
    }
    ld_sha256_finish(&hash, digest);
    ld_hex(ld_span_of(digest, sizeof digest), hex);
    assert_string_equal(hex, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    ld_sha256_deinit(&hash);
}

static void hmac_equals_rfc_4231_case_2(void **state)
{
    (void)state;
    uint8_t mac[LD_SHA256_BYTES];
    char hex[LD_SHA256_HEX_SIZE];
    ld_hmac_sha256(ld_span_text("Jefe"), ld_span_text("what do ya want for nothing?"), mac);
    ld_hex(ld_span_of(mac, sizeof mac), hex);
    assert_string_equal(hex, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
}

static void crc32c_equals_rfc_3720_and_can_be_continued(void **state)
{
    (void)state;
    uint8_t bytes[32];
    memset(bytes, 0, sizeof bytes);
    assert_int_equal(ld_crc32c(0, ld_span_of(bytes, 32)), 0x8A9136AA);
    memset(bytes, 0xFF, sizeof bytes);
    assert_int_equal(ld_crc32c(0, ld_span_of(bytes, 32)), 0x62A8AB43);
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)i;
    assert_int_equal(ld_crc32c(0, ld_span_of(bytes, 32)), 0x46DD794E);
    for (size_t cut = 0; cut <= 32; cut++) {
        const uint32_t head = ld_crc32c(0, ld_span_of(bytes, cut));
        assert_int_equal(ld_crc32c(head, ld_span_of(bytes + cut, 32 - cut)), 0x46DD794E);
    }
    assert_int_equal(ld_crc32c(0, ld_span_text("123456789")), 0xE3069283);
}

static void comparison_sees_every_byte(void **state)
{
    (void)state;
    uint8_t a[64] = {0};
    uint8_t b[64] = {0};
    assert_true(ld_equal_constant_time(a, b, sizeof a));
    for (size_t i = 0; i < sizeof a; i++) {
        b[i] = 0x80;
        assert_false(ld_equal_constant_time(a, b, sizeof a));
        b[i] = 0;
    }
    assert_true(ld_equal_constant_time(a, b, 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids_are_well_formed_and_distinct),
        cmocka_unit_test(sha256_equals_the_published_vectors),
        cmocka_unit_test(hmac_equals_rfc_4231_case_2),
        cmocka_unit_test(crc32c_equals_rfc_3720_and_can_be_continued),
        cmocka_unit_test(comparison_sees_every_byte),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
