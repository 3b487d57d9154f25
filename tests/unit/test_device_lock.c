/*
 * Proves that a measurement has its device for itself among processes, that those that compute do
 * not wait for one another nor for ever, and that no lock outlives its process or stands in the way
 * where its file cannot be. How: processes over one folder; locks of one process that were opened
 * apart exclude each other as theirs do.
 */
#include "kernels/cuda/device_lock.h"

#include "runtime/base/clock.h"
#include "tests/unit/folder_fixture.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static const uint8_t uuid[LDK_UUID_BYTES] = {0x12, 0xAB, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13};
static struct ldk_device_lock first, second;

static int open_locks(void **state)
{
    (void)state;
    if (!make_test_folder("test_device_lock"))
        return -1;
    ldk_device_lock_init(&first, test_folder, uuid, false);
    ldk_device_lock_init(&second, test_folder, uuid, false);
    return 0;
}

static int close_locks(void **state)
{
    (void)state;
    ldk_device_lock_deinit(&first);
    ldk_device_lock_deinit(&second);
    remove_files(test_folder, "gpu-12ab030405060708090a0b0c0d000000.lock");
    return remove_test_folder() ? 0 : -1;
}

static void a_measurement_has_the_device_for_itself(void **state)
{
    (void)state;
    assert_true(ldk_device_lock_take(&first));
    assert_false(ldk_device_lock_take(&second));
    ldk_device_lock_release(&first);
    assert_true(ldk_device_lock_take(&second));
    ldk_device_lock_release(&second);
    ldk_device_lock_share(&first);
    assert_false(ldk_device_lock_take(&second));
    assert_true(ldk_device_lock_take(&first)); /* his own share is no obstacle */
    ldk_device_lock_release(&first);
    assert_true(ldk_device_lock_take(&second));
    assert_int_equal(count_files(test_folder, "gpu-"), 1);
}

static void those_that_compute_share_it(void **state)
{
    (void)state;
    ldk_device_lock_share(&first);
    const int64_t begun_us = ld_clock_monotonic_us();
    ldk_device_lock_share(&second);
    assert_true(ld_clock_monotonic_us() - begun_us < 500 * 1000);
    ldk_device_lock_release(&first);
    assert_false(ldk_device_lock_take(&first)); /* the second still does */
}

/* A measurement takes less; whoever holds it for longer is not waited for again. */
static void nobody_waits_for_ever(void **state)
{
    (void)state;
    assert_true(ldk_device_lock_take(&first));
    const int64_t begun_us = ld_clock_monotonic_us();
    ldk_device_lock_share(&second);
    const int64_t waited_us = ld_clock_monotonic_us() - begun_us;
    ldk_device_lock_share(&second);
    const int64_t again_us = ld_clock_monotonic_us() - begun_us - waited_us;
    assert_true(waited_us >= 1000 * 1000);
    assert_true(again_us < 500 * 1000);
    ldk_device_lock_release(&first);
    ldk_device_lock_share(&second);
    assert_false(ldk_device_lock_take(&first));
}

static void a_process_that_dies_holds_nothing(void **state)
{
    (void)state;
    int pipes[2];
    char byte = 0;
    assert_int_equal(pipe(pipes), 0);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        const bool taken = ldk_device_lock_take(&second);
        (void)!write(pipes[1], taken ? "y" : "n", 1);
        for (;;)
            (void)pause();
    }
    const ssize_t got = read(pipes[0], &byte, 1);
    const bool taken = ldk_device_lock_take(&first);
    assert_int_equal(kill(child, SIGKILL), 0);
    assert_int_equal(waitpid(child, NULL, 0), child);
    assert_true(got == 1 && byte == 'y');
    assert_false(taken);
    assert_true(ldk_device_lock_take(&first));
    assert_int_equal(close(pipes[0]) + close(pipes[1]), 0);
}

static void every_gpu_has_a_lock_of_its_own(void **state)
{
    (void)state;
    uint8_t other[LDK_UUID_BYTES];
    struct ldk_device_lock elsewhere;
    memcpy(other, uuid, sizeof other);
    other[15] = 1;
    ldk_device_lock_init(&elsewhere, test_folder, other, false);
    assert_true(ldk_device_lock_take(&first));
    assert_true(ldk_device_lock_take(&elsewhere));
    ldk_device_lock_deinit(&elsewhere);
    remove_files(test_folder, "gpu-12ab030405060708090a0b0c0d000001.lock");
}

/* Without a folder, and in one that is made by who measures alone. */
static void where_there_is_no_file_everybody_goes_on(void **state)
{
    (void)state;
    struct ldk_device_lock none;
    struct ldk_device_lock maker;
    struct stat info;
    ldk_device_lock_init(&none, NULL, uuid, true);
    ldk_device_lock_share(&none);
    assert_true(ldk_device_lock_take(&none));
    ldk_device_lock_init(&none, test_plans, uuid, false); /* there is no such folder */
    ldk_device_lock_share(&none);
    assert_true(ldk_device_lock_take(&none));
    assert_int_not_equal(stat(test_plans, &info), 0);
    ldk_device_lock_init(&maker, test_plans, uuid, true);
    assert_true(ldk_device_lock_take(&maker));
    assert_false(ldk_device_lock_take(&none)); /* now there is */
    ldk_device_lock_deinit(&maker);
    ldk_device_lock_deinit(&none);
}

/* Another user could hold it for ever. */
static void nobody_else_may_open_it(void **state)
{
    (void)state;
    struct stat info;
    const mode_t mask = umask(0);
    assert_true(ldk_device_lock_take(&first));
    (void)umask(mask);
    assert_int_equal(stat(first.path, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);
    assert_int_equal(unlink(first.path), 0);
    assert_int_equal(symlink("/dev/null", first.path), 0);
    ldk_device_lock_share(&second); /* not followed: it goes on without */
    assert_int_equal(second.fd, -1);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, open_locks, close_locks)
    const struct CMUnitTest tests[] = {
        TEST(a_measurement_has_the_device_for_itself),
        TEST(those_that_compute_share_it),
        TEST(nobody_waits_for_ever),
        TEST(a_process_that_dies_holds_nothing),
        TEST(every_gpu_has_a_lock_of_its_own),
        TEST(where_there_is_no_file_everybody_goes_on),
        TEST(nobody_else_may_open_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
