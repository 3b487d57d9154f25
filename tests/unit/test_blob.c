/*
 * Proves that pictures are stored once under their own hash, are never visible half, and go exactly
 * when nobody refers to them. Works in a temporary folder; references are a variable.
 */
#include "runtime/base/clock.h"
#include "server/blob.h"
#include "server/png_strip.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
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

static void stripping_leaves_the_picture_and_takes_the_text(void **state)
{
    (void)state;
    struct ld_error err;
    /* Signature, an empty tEXt, an empty IEND; the checksums are copied, not judged. */
    static const uint8_t png[] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1A, '\n', 0, 0, 0,
                                  0,    't', 'E', 'X', 't',  1,    2,    3,    4, 0, 0,
                                  0,    0,   'I', 'E', 'N',  'D',  5,    6,    7, 8};
    struct ld_buffer out = ld_buffer_make(100);
    assert_int_equal(ld_png_strip(ld_span_of(png, sizeof png), &out, &err), LD_OK);
    assert_int_equal(out.size, 20);
    assert_memory_equal(out.data + 8, png + 20, 12);
    ld_buffer_clear(&out);
    for (size_t cut = 9; cut < sizeof png; cut++) {
        if (cut == 20)
            continue; /* between two chunks */
        assert_int_equal(ld_png_strip(ld_span_of(png, cut), &out, &err), LD_E_FORMAT);
        ld_buffer_clear(&out);
    }
    assert_int_equal(ld_png_strip(ld_span_text("GIF89a"), &out, &err), LD_E_FORMAT);
    ld_buffer_deinit(&out);
}

int main(void)
{
#define BLOB_TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)
    const struct CMUnitTest tests[] = {
        BLOB_TEST(equal_bytes_are_one_file),
        BLOB_TEST(held_or_referenced_blobs_stay),
        BLOB_TEST(the_sweep_takes_old_leftovers_only),
        BLOB_TEST(names_that_are_no_hash_open_nothing),
        cmocka_unit_test(stripping_leaves_the_picture_and_takes_the_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
