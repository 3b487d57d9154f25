/*
 * Proves what the job store keeps when the machine loses its power, and that it waits for the disk
 * where that is promised and nowhere else. The calls that flush a file are this program's: each
 * copies the file as it then is to another folder, which holds what a disk would still have.
 */
#include "tests/unit/store_fixture.h"

#include "runtime/base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- The disk -------------------------------------------------------------------------------- */

static char disk[64]; /* folder of what is on it */
static atomic_uint flushes;
static atomic_bool copying, disk_fails;

/* A name that was removed is gone once anything else is flushed: file systems log in order. */
static void remove_from_disk_too(const char *suffix)
{
    char living[256], copy[256];
    (void)ld_fmt(living, sizeof living, "%s%s", path, suffix);
    (void)ld_fmt(copy, sizeof copy, "%s/jobs.db%s", disk, suffix);
    if (access(living, F_OK) != 0)
        (void)unlink(copy);
}

static int copy_to_disk(int fd)
{
    remove_from_disk_too("-journal");
    char link_name[64], name[256], copy[512];
    (void)ld_fmt(link_name, sizeof link_name, "/proc/self/fd/%d", fd);
    const ssize_t length = readlink(link_name, name, sizeof name - 1);
    if (length < 0)
        return -1;
    name[length] = '\0';
    if (strncmp(name, path, strlen(path)) != 0)
        return 0; /* a folder, or a file of the copies */
    (void)ld_fmt(copy, sizeof copy, "%s/%s", disk, strrchr(name, '/') + 1);
    const int out = open(copy, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (out < 0)
        return -1;
    char bytes[4096];
    off_t at = 0;
    ssize_t got;
    while ((got = pread(fd, bytes, sizeof bytes, at)) > 0 && write(out, bytes, (size_t)got) == got)
        at += got;
    return close(out) == 0 && got == 0 ? 0 : -1;
}

static int flush(int fd, long call)
{
    if (atomic_load(&disk_fails)) {
        errno = EIO;
        return -1;
    }
    if (syscall(call, fd) != 0)
        return -1;
    const int copied = atomic_load(&copying) ? copy_to_disk(fd) : 0;
    (void)atomic_fetch_add(&flushes, 1); /* now it is there for whoever waits for it */
    return copied;
}

/* In the place of the C library's, for SQLite too. */
int fsync(int fd)
{
    return flush(fd, SYS_fsync);
}

int fdatasync(int fd)
{
    return flush(fd, SYS_fdatasync);
}

static uint32_t flushes_soon_above(uint32_t before)
{
    for (int i = 0; i < 2000 && atomic_load(&flushes) <= before; i++)
        ld_clock_sleep_us(1000);
    return atomic_load(&flushes);
}

/* ---- Power failure --------------------------------------------------------------------------- */

static int start(void **state)
{
    memcpy(disk, "/tmp/ld_disk_XXXXXX", sizeof "/tmp/ld_disk_XXXXXX");
    atomic_store(&disk_fails, false);
    atomic_store(&copying, true);
    return mkdtemp(disk) ? start_store_test(state) : -1;
}

static int stop(void **state)
{
    static const char *const suffixes[] = {"", "-wal", "-shm"};
    const int stopped = stop_store_test(state);
    for (size_t i = 0; i < 3; i++) {
        char name[128];
        (void)ld_fmt(name, sizeof name, "%s/jobs.db%s", disk, suffixes[i]);
        (void)unlink(name);
    }
    return stopped || rmdir(disk) ? -1 : 0;
}

/* The store as it comes up after the power: the machine's memory is gone. What is in the folder
 * stays untouched for the store that still runs. */
static struct ld_store *store_after_power_failure(void)
{
    char living[sizeof path];
    memcpy(living, path, sizeof path);
    atomic_store(&copying, false);
    (void)ld_fmt(path, sizeof path, "%s/jobs.db", disk);
    struct ld_store *store = open_store_on("after");
    memcpy(path, living, sizeof path);
    return store;
}

static enum ld_job_status status_of(struct ld_store *store, const char *id)
{
    struct ld_store_job job;
    get(store, id, &job);
    return job.view.status;
}

static void what_a_caller_was_promised_outlives_the_power(void **state)
{
    (void)state;
    struct ld_store *store = open_store_on("before");
    struct ld_store_job job;
    struct ld_store_freed freed;
    char done[LD_ID_SIZE], waiting[LD_ID_SIZE];
    submit(store, "t", done);
    assert_true(claim(store, &job));
    assert_int_equal(add_image(store, &job, 0, "aa"), LD_OK);
    assert_int_equal(finish(store, &job, LD_JOB_SUCCEEDED, &freed), LD_OK);
    submit(store, "t", waiting);

    struct ld_store *after = store_after_power_failure();
    struct ld_store_job kept;
    get(after, done, &kept);
    assert_int_equal(kept.view.status, LD_JOB_SUCCEEDED);
    assert_int_equal(kept.view.image_count, 1);
    assert_string_equal(kept.view.images[0].sha256, "aa");
    assert_int_equal(status_of(after, waiting), LD_JOB_QUEUED);
    ld_store_close(after);
    ld_store_close(store);
}

static void a_job_that_began_counts_as_begun_after_the_power(void **state)
{
    (void)state;
    struct ld_store *store = open_store_on("before");
    struct ld_store_job job;
    char id[LD_ID_SIZE];
    submit(store, "t", id);
    const uint32_t before = atomic_load(&flushes);
    assert_true(claim(store, &job));
    assert_true(flushes_soon_above(before) > before);

    /* Else a job that takes its machine down would be begun again for ever. */
    struct ld_store *after = store_after_power_failure();
    struct ld_store_job again;
    get(after, id, &again);
    assert_true(again.suspect);
    ld_store_close(after);
    ld_store_close(store);
}

static void a_picture_that_nobody_waited_for_is_made_again(void **state)
{
    (void)state;
    struct ld_store *store = open_store_on("before");
    struct ld_store_job job;
    char id[LD_ID_SIZE];
    submit(store, "t", id);
    uint32_t before = atomic_load(&flushes);
    assert_true(claim(store, &job));
    before = flushes_soon_above(before);
    assert_int_equal(add_image(store, &job, 0, "aa"), LD_OK);
    assert_int_equal(atomic_load(&flushes), before);
    get(store, id, &job);
    assert_int_equal(job.view.image_count, 1); /* everybody sees it */

    struct ld_store *after = store_after_power_failure();
    struct ld_store_job lost;
    get(after, id, &lost);
    assert_int_equal(lost.view.status, LD_JOB_QUEUED);
    ld_store_close(after);
    ld_store_close(store);
}

/* ---- Flushes --------------------------------------------------------------------------------- */

static void wait_for_news(struct ld_store *store, uint64_t above)
{
    for (int i = 0; i < 2000 && ld_store_event_newest(store) <= above; i++)
        ld_clock_sleep_us(1000);
    assert_true(ld_store_event_newest(store) > above);
}

static void news_of_progress_and_leases_flush_nothing(void **state)
{
    (void)state;
    struct ld_store *store = open_store_on("before");
    struct ld_error err = {0};
    struct ld_store_job job;
    char id[LD_ID_SIZE];
    submit(store, "t", id);
    uint32_t before = atomic_load(&flushes);
    assert_true(claim(store, &job));
    before = flushes_soon_above(before);
    struct ld_store_job none;
    assert_false(claim(store, &none)); /* nothing was found, nothing was written */
    for (int i = 0; i < 50; i++) {
        const uint64_t newest = ld_store_event_newest(store);
        ld_store_event_post(store, id, LD_EVENT_PROGRESS, "{\"step\":1}");
        wait_for_news(store, newest);
        assert_int_equal(ld_store_lease_extend(store, &job.token, 1, &err), LD_OK);
    }
    assert_int_equal(atomic_load(&flushes), before);

    /* The next promise takes them along. */
    char next[LD_ID_SIZE];
    submit(store, "t", next);
    assert_true(atomic_load(&flushes) > before);
    struct ld_store *after = store_after_power_failure();
    assert_int_equal(status_of(after, next), LD_JOB_QUEUED);
    ld_store_close(after);
    ld_store_close(store);
}

static void a_flush_that_fails_behind_a_claim_ends_the_store(void **state)
{
    (void)state;
    struct ld_store *store = open_store_on("before");
    struct ld_error err = {0};
    struct ld_store_job job;
    char id[LD_ID_SIZE];
    submit(store, "t", id);
    atomic_store(&disk_fails, true);
    assert_true(claim(store, &job)); /* heard before the disk was asked */
    for (int i = 0; i < 2000 && !ld_store_is_broken(store); i++)
        ld_clock_sleep_us(1000);
    assert_true(ld_store_is_broken(store));
    bool replayed;
    const struct ld_store_submit one = a_submit("t");
    assert_int_equal(ld_store_submit(store, &one, id, &replayed, &err), LD_E_IO);
    atomic_store(&disk_fails, false);
    ld_store_close(store);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_a_caller_was_promised_outlives_the_power, start, stop),
        cmocka_unit_test_setup_teardown(a_job_that_began_counts_as_begun_after_the_power, start,
                                        stop),
        cmocka_unit_test_setup_teardown(a_picture_that_nobody_waited_for_is_made_again, start,
                                        stop),
        cmocka_unit_test_setup_teardown(news_of_progress_and_leases_flush_nothing, start, stop),
        cmocka_unit_test_setup_teardown(a_flush_that_fails_behind_a_claim_ends_the_store, start,
                                        stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
