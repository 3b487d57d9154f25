/*
 * Proves what keys are made of: 256 random bits that come back from their text, a hash instead of
 * the secret, a comparison whose time tells nothing, a file that is read back as it was written, a
 * ring that follows it and never opens again, and counters that hold at their bounds.
 */
#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "server/keyring.h"
#include "server/meter.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[64];

static int fresh_folder(void **state)
{
    (void)state;
    memcpy(folder, "/tmp/ld_keys_XXXXXX", sizeof "/tmp/ld_keys_XXXXXX");
    ld_log_setup(LD_LOG_ERROR, LD_LOG_JSON, LD_LOG_PRIVATE_NONE);
    return mkdtemp(folder) ? 0 : -1;
}

static void path_of(const char *name, char out[128])
{
    (void)ld_fmt(out, 128, "%s/%s", folder, name);
}

static int remove_folder(void **state)
{
    (void)state;
    static const char *const names[] = {"keys.jsonl", "keys.lock"};
    for (size_t i = 0; i < 2; i++) {
        char path[128];
        path_of(names[i], path);
        (void)unlink(path);
    }
    return rmdir(folder);
}

static void make(struct ld_key *key, const char *name, char text[LD_KEY_TEXT_SIZE])
{
    struct ld_error err = {0};
    ld_key_make(key, text);
    assert_int_equal(ld_key_set(key, "name", name, &err), LD_OK);
}

/* ---- One key --------------------------------------------------------------------------------- */

static void a_text_is_its_key_and_no_other(void **state)
{
    (void)state;
    struct ld_key key;
    char text[LD_KEY_TEXT_SIZE];
    char id[LD_KEY_ID_SIZE];
    struct ld_span secret;
    for (int i = 0; i < 200; i++) {
        make(&key, "anna", text);
        assert_int_equal(strlen(text), LD_KEY_TEXT_LENGTH);
        assert_true(ld_key_split(ld_span_text(text), id, &secret));
        assert_string_equal(id, key.id);
        assert_true(ld_key_secret_fits(&key, secret));
        assert_false(ld_key_secret_fits(NULL, secret));
        const size_t at = LD_KEY_TEXT_LENGTH - 1 - (size_t)i % LD_KEY_SECRET_LENGTH;
        text[at] = text[at] == 'x' ? 'y' : 'x';
        assert_true(ld_key_split(ld_span_text(text), id, &secret));
        assert_false(ld_key_secret_fits(&key, secret));
    }
    static const char *const strange[] = {
        "",
        "ldk_",
        "ldk_abcdefgh",
        "ldk_abcdefgh_short",
        "xdk_abcdefgh_0000000000000000000000000000000000000000000",
        "ldk_ABCDEFGH_0000000000000000000000000000000000000000000",
        "ldk_abcdefgh-0000000000000000000000000000000000000000000",
        "ldk_abcdefgh_00000000000000000000000000000000000000000000"};
    for (size_t i = 0; i < sizeof strange / sizeof strange[0]; i++)
        assert_false(ld_key_split(ld_span_text(strange[i]), id, &secret));
}

static void secrets_use_all_digits_evenly(void **state)
{
    (void)state;
    enum { KEYS = 4000, DIGITS = 62 };
    static const char digits[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    uint32_t counts[DIGITS] = {0};
    double chi_square = 0;
    for (int i = 0; i < KEYS; i++) {
        struct ld_key key;
        char text[LD_KEY_TEXT_SIZE];
        ld_key_make(&key, text);
        /* The first digit of 2^256 in base 62 is small; the others are uniform. */
        for (size_t at = 14; at < LD_KEY_TEXT_LENGTH; at++)
            counts[strchr(digits, text[at]) - digits]++;
    }
    const double expected = (double)KEYS * (LD_KEY_SECRET_LENGTH - 1) / DIGITS;
    for (int i = 0; i < DIGITS; i++)
        chi_square += (counts[i] - expected) * (counts[i] - expected) / expected;
    assert_true(chi_square < 150); /* 61 degrees of freedom: beyond 120 once in 10^5 */
}

/* Welch's t over many blocks of comparisons: a wrong first byte against a wrong last one. */
static void comparing_takes_the_same_time_wherever_the_difference_is(void **state)
{
    (void)state;
    enum { ROUNDS = 2000, EACH = 500 };
    uint8_t right[32];
    uint8_t first[32];
    uint8_t last[32];
    double sum[2] = {0};
    double squares[2] = {0};
    uint32_t equal = 0;
    ld_random_bytes(right, sizeof right);
    memcpy(first, right, sizeof right);
    memcpy(last, right, sizeof right);
    first[0] ^= 1;
    last[31] ^= 1;
    double t = 99;
    for (int attempt = 0; attempt < 3 && fabs(t) >= 4.5; attempt++) { /* the machine is shared */
        memset(sum, 0, sizeof sum);
        memset(squares, 0, sizeof squares);
        for (int round = 0; round < 2 * ROUNDS; round++) {
            const int which = (round ^ (round >> 1)) & 1; /* neither always goes first */
            const uint8_t *wrong = which ? last : first;
            const int64_t began = ld_clock_monotonic_us();
            for (int i = 0; i < EACH; i++)
                equal += ld_equal_constant_time(right, wrong, 32) ? 1 : 0;
            double took = (double)(ld_clock_monotonic_us() - began);
            took = took > 200 ? 200 : took; /* interrupted */
            sum[which] += took;
            squares[which] += took * took;
        }
        double mean[2];
        double variance[2];
        for (int i = 0; i < 2; i++) {
            mean[i] = sum[i] / ROUNDS;
            variance[i] = squares[i] / ROUNDS - mean[i] * mean[i];
        }
        t = (mean[0] - mean[1]) / sqrt((variance[0] + variance[1]) / ROUNDS + 1e-12);
    }
    (void)printf("wrong first byte against wrong last byte, 10^6 compares each: t = %.2f\n", t);
    assert_int_equal(equal, 0);
    assert_true(fabs(t) < 4.5);
}

static void what_a_key_may_do_is_written_and_read_back(void **state)
{
    (void)state;
    static const struct {
        const char *member, *value;
    } members[] = {
        {"scopes", "admin,read"}, {"rating", "sensitive"}, {"models", "nai*, demo"},
        {"weight", "25"},         {"queued", "7"},         {"megapixel_steps_per_day", "9"},
        {"area_max", "1048576"},  {"priority_max", "9"},   {"running", "3"}};
    struct ld_error err = {0};
    struct ld_key key;
    struct ld_key back;
    char text[LD_KEY_TEXT_SIZE];
    struct ld_buffer line = ld_buffer_make(8192);
    make(&key, "b.c-d_e@f+g", text);
    key.created_us = 1234567;
    key.revoked_us = 7654321;
    for (size_t i = 0; i < sizeof members / sizeof members[0]; i++)
        assert_int_equal(ld_key_set(&key, members[i].member, members[i].value, &err), LD_OK);
    ld_key_write_line(&key, &line);
    assert_null(strstr(line.data, text + 13)); /* the secret */
    assert_int_equal(ld_key_read_line(&back, ld_span_of(line.data, line.size), &err), LD_OK);
    assert_memory_equal(back.hash, key.hash, sizeof key.hash);
    assert_string_equal(back.name, key.name);
    assert_string_equal(back.id, key.id);
    assert_int_equal(back.scopes, (1U << LD_SCOPE_ADMIN) | (1U << LD_SCOPE_READ));
    assert_int_equal(back.created_us, 1234567);
    assert_int_equal(back.revoked_us, 7654321);
    assert_int_equal(back.limits.weight, 25);
    assert_int_equal(back.limits.queued_max, 7);
    assert_int_equal(back.limits.day_max, 9);
    assert_int_equal(back.limits.work_max, LD_KEY_UNSET);
    assert_int_equal(back.limits.rating, LD_RATING_SENSITIVE);
    assert_string_equal(back.limits.models, "nai*,demo");
    ld_buffer_deinit(&line);
}

static void every_limit_holds_at_its_bounds(void **state)
{
    (void)state;
    uint32_t count;
    const struct ld_key_limit *rows = ld_key_limit_table(&count);
    struct ld_error err = {0};
    struct ld_key key;
    char text[LD_KEY_TEXT_SIZE];
    ld_key_make(&key, text);
    for (uint32_t i = 0; i < count; i++) {
        const struct {
            int64_t value;
            enum ld_code code;
        } tries[] = {{rows[i].min - 1, LD_E_RANGE}, {rows[i].min, LD_OK},
                     {rows[i].min + 1, LD_OK},      {rows[i].max - 1, LD_OK},
                     {rows[i].max, LD_OK},          {rows[i].max + 1, LD_E_RANGE}};
        for (size_t j = 0; j < sizeof tries / sizeof tries[0]; j++) {
            (void)ld_fmt(text, sizeof text, "%lld", (long long)tries[j].value);
            assert_int_equal(ld_key_set(&key, rows[i].name, text, &err), tries[j].code);
        }
        assert_int_equal(ld_key_set(&key, rows[i].name, "1.5", &err), LD_E_INVALID);
        assert_int_equal(ld_key_set(&key, rows[i].name, "", &err), LD_OK);
    }
    assert_int_equal(ld_key_set(&key, "wieght", "1", &err), LD_E_NOT_FOUND);
    assert_non_null(strstr(err.detail, "did you mean weight?"));
}

static void lines_that_are_no_keys_are_refused(void **state)
{
    (void)state;
    static const char *const lines[] = {
        "",
        "{}",
        "[]",
        "null",
        "{\"id\":\"abcdefgh\"}",
        "{\"id\":\"abcdefgh\",\"sha256\":\"00\",\"created_us\":1,\"key\":{\"name\":\"a\"}}",
        "{\"id\":\"ABCDEFGH\",\"sha256\":"
        "\"0000000000000000000000000000000000000000000000000000000000"
        "000000\",\"created_us\":1,\"key\":{\"name\":\"a\",\"scopes\":[\"read\"]}}",
        "{\"id\":\"abcdefgh\",\"sha256\":"
        "\"0000000000000000000000000000000000000000000000000000000000"
        "000000\",\"created_us\":1,\"key\":{\"name\":\"a\"}}",
        "{\"id\":\"abcdefgh\",\"sha256\":"
        "\"0000000000000000000000000000000000000000000000000000000000"
        "000000\",\"created_us\":1,\"key\":{\"name\":\"a\",\"scopes\":[\"read\"],\"x\":1}}"};
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        struct ld_key key;
        struct ld_error err = {0};
        assert_int_not_equal(ld_key_read_line(&key, ld_span_text(lines[i]), &err), LD_OK);
    }
}

/* ---- The ring -------------------------------------------------------------------------------- */

static void a_ring_follows_its_file_and_never_opens_again(void **state)
{
    (void)state;
    struct ld_error err = {0};
    struct ld_keyring *ring;
    struct ld_key key;
    struct ld_key found;
    char text[LD_KEY_TEXT_SIZE];
    char path[128];
    assert_int_equal(ld_keyring_open(&ring, folder, &err), LD_OK);
    assert_false(ld_keyring_is_configured(ring));
    make(&key, "anna", text);
    assert_int_equal(ld_keys_add(folder, &key, &err), LD_OK);
    assert_true(ld_keyring_is_configured(ring));
    assert_true(ld_keyring_check(ring, ld_span_text(text), &found));
    assert_string_equal(found.name, "anna");
    assert_int_equal(ld_keyring_valid_count(ring), 1);
    struct ld_key twin;
    char twin_text[LD_KEY_TEXT_SIZE];
    make(&twin, "anna", twin_text);
    assert_int_equal(ld_keys_add(folder, &twin, &err), LD_E_CONFLICT);
    assert_false(ld_keyring_check(ring, ld_span_text(twin_text), &found));
    assert_int_equal(ld_key_set(&key, "weight", "30", &err), LD_OK);
    assert_int_equal(ld_keys_replace(folder, &key, &err), LD_OK);
    assert_true(ld_keyring_check(ring, ld_span_text(text), &found));
    assert_int_equal(found.limits.weight, 30);
    const uint64_t before = ld_keyring_generation(ring);
    assert_int_equal(ld_keys_revoke(folder, "anna", &found, &err), LD_OK);
    assert_false(ld_keyring_check(ring, ld_span_text(text), &found));
    assert_true(ld_keyring_find(ring, key.id, &found));
    assert_true(found.revoked_us > 0);
    assert_true(ld_keyring_generation(ring) > before);
    assert_int_equal(ld_keys_revoke(folder, "anna", &found, &err), LD_E_NOT_FOUND);
    path_of("keys.jsonl", path);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(ld_keyring_valid_count(ring), 0);
    assert_true(ld_keyring_is_configured(ring));
    ld_keyring_close(ring);
}

/* ---- Counting -------------------------------------------------------------------------------- */

static int64_t now_us = 1000000;

static int64_t fake_now(void)
{
    return now_us;
}

static void calls_a_minute_hold_at_their_bound(void **state)
{
    (void)state;
    struct ld_error err = {0};
    struct ld_meter *meter;
    struct ld_meter_reading reading;
    ld_clock_override(fake_now, NULL);
    assert_int_equal(ld_meter_create(&meter, &err), LD_OK);
    for (int i = 0; i < 60; i++)
        assert_true(ld_meter_take(meter, "a", 60, &reading));
    assert_int_equal(reading.remaining, 0);
    assert_int_equal(reading.next_in_s, 2); /* one a second, rounded up */
    assert_false(ld_meter_take(meter, "a", 60, &reading));
    assert_true(ld_meter_take(meter, "b", 60, &reading)); /* each name its own */
    now_us += 999000;
    assert_false(ld_meter_take(meter, "a", 60, &reading));
    now_us += 2000;
    assert_true(ld_meter_take(meter, "a", 60, &reading));
    assert_false(ld_meter_take(meter, "a", 60, &reading));
    now_us += INT64_C(3600) * 1000000; /* never more than a minute's */
    for (int i = 0; i < 60; i++)
        assert_true(ld_meter_take(meter, "a", 60, &reading));
    assert_false(ld_meter_take(meter, "a", 60, &reading));
    ld_meter_destroy(meter);
    ld_clock_override(NULL, NULL);
}

static void calls_in_flight_hold_at_their_bound(void **state)
{
    (void)state;
    struct ld_error err = {0};
    struct ld_meter *meter;
    assert_int_equal(ld_meter_create(&meter, &err), LD_OK);
    for (int i = 0; i < 16; i++)
        assert_true(ld_meter_enter(meter, "a", 16));
    assert_false(ld_meter_enter(meter, "a", 16));
    assert_true(ld_meter_enter(meter, "b", 16));
    ld_meter_leave(meter, "a");
    assert_true(ld_meter_enter(meter, "a", 16));
    assert_false(ld_meter_enter(meter, "a", 16));
    /* More names than there is room for: those in use are kept. */
    for (int i = 0; i < 2 * LD_METER_NAMES_MAX; i++) {
        char name[32];
        struct ld_meter_reading reading;
        (void)ld_fmt(name, sizeof name, "@%d", i);
        assert_true(ld_meter_take(meter, name, 10, &reading));
    }
    assert_false(ld_meter_enter(meter, "a", 16));
    ld_meter_destroy(meter);
}

int main(void)
{
#define IN_FOLDER(name) cmocka_unit_test_setup_teardown(name, fresh_folder, remove_folder)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_text_is_its_key_and_no_other),
        cmocka_unit_test(secrets_use_all_digits_evenly),
        cmocka_unit_test(comparing_takes_the_same_time_wherever_the_difference_is),
        cmocka_unit_test(what_a_key_may_do_is_written_and_read_back),
        cmocka_unit_test(every_limit_holds_at_its_bounds),
        cmocka_unit_test(lines_that_are_no_keys_are_refused),
        IN_FOLDER(a_ring_follows_its_file_and_never_opens_again),
        cmocka_unit_test(calls_a_minute_hold_at_their_bound),
        cmocka_unit_test(calls_in_flight_hold_at_their_bound),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
