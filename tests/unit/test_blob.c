/*
 * Proves that pictures are stored once under their own hash, are never visible half, and go exactly
 * when nobody refers to them. Works in a temporary folder; references are a variable.
 */
#include "runtime/base/clock.h"
#include "server/blob.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[64];
static bool referenced;
static struct ld_blobs *blobs;

static bool is_referenced(void *ctx, const char *sha256)
{
    (void)ctx;
    (void)sha256;
    return referenced;
}

static int start(void **state)
{
    (void)state;
    struct ld_error err;
    memcpy(folder, "/tmp/ld_blob_XXXXXX", sizeof "/tmp/ld_blob_XXXXXX");
    referenced = false;
    return mkdtemp(folder) && ld_blobs_open(&blobs, folder, is_referenced, NULL, &err) == LD_OK
               ? 0
               : -1;
}

static int stop(void **state)
{
    (void)state;
    char path[128];
    referenced = false;
    (void)ld_blobs_sweep(blobs, INT64_MAX);
    ld_blobs_close(blobs);
    for (int i = 0; i < 256; i++) {
        (void)ld_fmt(path, sizeof path, "%s/%02x", folder, (unsigned)i);
        (void)rmdir(path);
    }
    (void)ld_fmt(path, sizeof path, "%s/tmp", folder);
    (void)rmdir(path);
    return rmdir(folder);
}

static bool is_there(const char *sha256)
{
    struct ld_error err;
    int fd;
    uint64_t bytes;
    if (ld_blob_open(blobs, sha256, &fd, &bytes, &err) != LD_OK)
        return false;
    (void)close(fd);
    return true;
}

static void equal_bytes_are_one_file(void **state)
{
    (void)state;
    struct ld_error err;
    char first[LD_SHA256_HEX_SIZE];
    char second[LD_SHA256_HEX_SIZE];
    struct ld_buffer bytes = ld_buffer_make(100);
    assert_int_equal(ld_blob_publish(blobs, ld_span_text("picture"), first, &err), LD_OK);
    assert_int_equal(ld_blob_publish(blobs, ld_span_text("picture"), second, &err), LD_OK);
    assert_string_equal(first, second);
    assert_int_equal(ld_blob_read(blobs, first, &bytes, &err), LD_OK);
    assert_string_equal(bytes.data, "picture");
    ld_buffer_deinit(&bytes);
    ld_blob_let_go(blobs, first);
    ld_blob_let_go(blobs, first);
}

static void held_or_referenced_blobs_stay(void **state)
{
    (void)state;
    struct ld_error err;
    char sha256[LD_SHA256_HEX_SIZE];
    assert_int_equal(ld_blob_publish(blobs, ld_span_text("a"), sha256, &err), LD_OK);
    ld_blob_remove(blobs, sha256); /* held: its row is not written yet */
    assert_true(is_there(sha256));
    assert_int_equal(ld_blobs_sweep(blobs, INT64_MAX), 0);
    ld_blob_let_go(blobs, sha256);
    referenced = true;
    ld_blob_remove(blobs, sha256);
    assert_int_equal(ld_blobs_sweep(blobs, INT64_MAX), 0);
    assert_true(is_there(sha256));
    referenced = false;
    ld_blob_remove(blobs, sha256);
    assert_false(is_there(sha256));
}

static void the_sweep_takes_old_leftovers_only(void **state)
{
    (void)state;
    struct ld_error err;
    char sha256[LD_SHA256_HEX_SIZE];
    char path[128];
    assert_int_equal(ld_blob_publish(blobs, ld_span_text("old"), sha256, &err), LD_OK);
    ld_blob_let_go(blobs, sha256);
    (void)ld_fmt(path, sizeof path, "%s/tmp/half", folder);
    const int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(close(fd), 0);
    assert_int_equal(ld_blobs_sweep(blobs, ld_clock_wall_us() - 3600000000), 0); /* too young */
    assert_true(is_there(sha256));
    assert_int_equal(ld_blobs_sweep(blobs, INT64_MAX), 2);
    assert_false(is_there(sha256));
}

static void names_that_are_no_hash_open_nothing(void **state)
{
    (void)state;
    struct ld_error err;
    int fd;
    uint64_t bytes;
    static const char no_hex[] = "zz00000000000000000000000000000000000000000000000000000000000000";
    static const char *const names[] = {"", "../../etc/passwd", "aa", "AA", no_hex};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        assert_int_equal(ld_blob_open(blobs, names[i], &fd, &bytes, &err), LD_E_INVALID);
    assert_true(ld_blobs_disk_free(blobs) > 0);
}

/* A store of before the endings told the kind calls every file .png. */
static void every_kind_has_its_ending_and_older_names_are_found(void **state)
{
    (void)state;
    static const char jpeg[] = "\xFF\xD8\xFF and more";
    static const char webp[] = "RIFF\0\0\0\0WEBP and more";
    const struct ld_span files[] = {ld_span_of(jpeg, sizeof jpeg), ld_span_of(webp, sizeof webp)};
    static const char *const endings[] = {"jpg", "webp"};
    for (size_t i = 0; i < 2; i++) {
        struct ld_error err;
        char sha256[LD_SHA256_HEX_SIZE];
        char path[256], older[256];
        int fd;
        uint64_t bytes;
        assert_int_equal(ld_blob_publish(blobs, files[i], sha256, &err), LD_OK);
        (void)ld_fmt(path, sizeof path, "%s/%.2s/%s.%s", folder, sha256, sha256, endings[i]);
        (void)ld_fmt(older, sizeof older, "%s/%.2s/%s.png", folder, sha256, sha256);
        assert_int_equal(faccessat(AT_FDCWD, path, F_OK, 0), 0);
        assert_int_equal(rename(path, older), 0);
        assert_int_equal(ld_blob_open(blobs, sha256, &fd, &bytes, &err), LD_OK);
        assert_int_equal(bytes, files[i].size);
        assert_int_equal(close(fd), 0);
        ld_blob_let_go(blobs, sha256);
        assert_int_equal(ld_blob_publish(blobs, files[i], sha256, &err), LD_OK); /* is there */
        assert_int_equal(faccessat(AT_FDCWD, path, F_OK, 0), -1);
        ld_blob_let_go(blobs, sha256);
        assert_int_equal(ld_blobs_sweep(blobs, INT64_MAX), 1);
        assert_int_equal(faccessat(AT_FDCWD, older, F_OK, 0), -1);
    }
}

int main(void)
{
#define BLOB_TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)
    const struct CMUnitTest tests[] = {
        BLOB_TEST(equal_bytes_are_one_file),
        BLOB_TEST(held_or_referenced_blobs_stay),
        BLOB_TEST(the_sweep_takes_old_leftovers_only),
        BLOB_TEST(names_that_are_no_hash_open_nothing),
        BLOB_TEST(every_kind_has_its_ending_and_older_names_are_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
