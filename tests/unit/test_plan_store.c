/*
 * Proves that a kept plan comes back exactly as it was written or not at all, that the folder stays
 * within its bounds and holds nothing half written, and that a folder that cannot be used costs a
 * line of the log. How: every flipped bit and every cut of a file, files of other keys and of other
 * users, a full folder, a read-only one, and processes that write and read one plan at once.
 */
#include "kernels/cuda/plan_store.h"

#include "runtime/base/fsx.h"
#include "runtime/base/log.h"
#include "tests/unit/folder_fixture.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

enum { FILE_MAX = 4096, PATH_MAX_HERE = 256 };

static const char key[] = "NVIDIA Example 1, driver 13000: cudnn:7,17=-1,24=21 2 64x64";
static const char other_key[] = "NVIDIA Example 1, driver 13000: cudnn:7,17=-1,24=21 4 64x64";
static const char plan[] = "{\"cubin\":\"f0VMRgIBAUEIAAAA\"}";

static struct ldk_plan_store store;
static int log_file = -1;

/* ---- Places ---------------------------------------------------------------------------------- */

static int open_folder(void **state)
{
    (void)state;
    if (!make_test_folder("test_plan_store"))
        return -1;
    ldk_plan_store_init(&store, test_folder);
    return ftruncate(log_file, 0) == 0 && lseek(log_file, 0, SEEK_SET) == 0 ? 0 : -1;
}

static int close_folder(void **state)
{
    (void)state;
    return remove_test_folder() ? 0 : -1;
}

static void path_of(const char *of, char out[PATH_MAX_HERE])
{
    char name[LDK_PLAN_FILE_NAME_SIZE];
    ldk_plan_store_file_name(of, name);
    (void)snprintf(out, PATH_MAX_HERE, "%s/%s", test_plans, name);
}

static size_t load(const char *path, char out[FILE_MAX])
{
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    const size_t size = fread(out, 1, FILE_MAX, file);
    assert_int_equal(fclose(file), 0);
    return size;
}

/* In place: the file's owner and mode stay. */
static void save(const char *path, const char *bytes, size_t size)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

/* A plan's file of `size` bytes as far as names tell, `age` seconds old. */
static void put_file(const char *name, off_t size, int age)
{
    char path[PATH_MAX_HERE];
    const struct timespec then = {.tv_sec = time(NULL) - age};
    const struct timespec times[2] = {then, then};
    (void)snprintf(path, sizeof path, "%s/%s", test_plans, name);
    const int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0644);
    assert_true(fd >= 0 && ftruncate(fd, size) == 0 && futimens(fd, times) == 0);
    assert_int_equal(close(fd), 0);
}

static bool has_file(const char *name)
{
    char path[PATH_MAX_HERE];
    struct stat info;
    (void)snprintf(path, sizeof path, "%s/%s", test_plans, name);
    return lstat(path, &info) == 0;
}

static int log_lines(void)
{
    char text[FILE_MAX];
    int lines = 0;
    const ssize_t size = pread(log_file, text, sizeof text, 0);
    for (ssize_t i = 0; i < size; i++)
        lines += text[i] == '\n';
    return lines;
}

/* ---- The store ------------------------------------------------------------------------------- */

static bool reads(const char *of, const void *wanted, size_t size)
{
    struct ld_buffer file = ld_buffer_make(LDK_PLAN_FILE_BYTES_MAX);
    struct ld_span got = {0};
    const bool found = ldk_plan_store_read(&store, of, &file, &got);
    if (found && (got.size != size || memcmp(got.data, wanted, size) != 0))
        fail_msg("another plan came back: %zu bytes", got.size);
    ld_buffer_deinit(&file);
    return found;
}

static bool reads_plan(const char *of)
{
    return reads(of, plan, sizeof plan);
}

static void write_plan(const char *of)
{
    ldk_plan_store_write(&store, of, ld_span_of(plan, sizeof plan));
}

static void what_was_written_is_read_again(void **state)
{
    (void)state;
    static uint8_t bytes[LDK_PLAN_BYTES_MAX + 1];
    assert_false(reads_plan(key));
    assert_int_equal(count_files(test_plans, ""), 0); /* reading makes no folder */
    write_plan(key);
    assert_true(reads_plan(key));
    assert_false(reads_plan(other_key));
    write_plan(other_key);
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)(i * 7 % 251);
    ldk_plan_store_write(&store, key, ld_span_of(bytes, LDK_PLAN_BYTES_MAX)); /* replaces */
    assert_true(reads(key, bytes, LDK_PLAN_BYTES_MAX));
    assert_true(reads_plan(other_key));
    /* Too large and nothing at all are not plans. */
    ldk_plan_store_write(&store, other_key, ld_span_of(bytes, sizeof bytes));
    ldk_plan_store_write(&store, other_key, ld_span_of(bytes, 0));
    assert_true(reads_plan(other_key));
    assert_int_equal(count_files(test_plans, ""), 2);
    /* A later process. */
    ldk_plan_store_init(&store, test_folder);
    assert_true(reads_plan(other_key));
    assert_int_equal(log_lines(), 0);
}

/* A library may leave in a plan what was in its process's memory. */
static void nobody_else_may_read_a_plan(void **state)
{
    (void)state;
    char path[PATH_MAX_HERE];
    struct stat info;
    const mode_t mask = umask(0);
    write_plan(key);
    (void)umask(mask);
    path_of(key, path);
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);
}

static void without_a_folder_nothing_is_kept(void **state)
{
    (void)state;
    static char deep[LDK_PLAN_FOLDER_SIZE];
    memset(&store, 0, sizeof store);
    write_plan(key);
    assert_false(reads_plan(key));
    memset(deep, 'a', sizeof deep - 1);
    deep[0] = '/';
    ldk_plan_store_init(&store, deep);
    write_plan(key);
    assert_false(reads_plan(key));
    assert_int_equal(log_lines(), 0);
}

static void no_damage_comes_back_as_a_plan(void **state)
{
    (void)state;
    char path[PATH_MAX_HERE];
    char good[FILE_MAX];
    char bad[FILE_MAX];
    write_plan(key);
    path_of(key, path);
    const size_t size = load(path, good);
    for (size_t bit = 0; bit < 8 * size; bit++) {
        memcpy(bad, good, size);
        bad[bit / 8] = (char)(bad[bit / 8] ^ 1 << bit % 8);
        save(path, bad, size);
        assert_false(reads_plan(key));
    }
    for (size_t cut = 0; cut < size; cut++) {
        save(path, good, cut);
        assert_false(reads_plan(key));
    }
    memcpy(bad, good, size);
    bad[size] = '\0';
    save(path, bad, size + 1);
    assert_false(reads_plan(key));
    assert_int_equal(log_lines(), 1); /* of a thousand */
    write_plan(key);
    assert_true(reads_plan(key));
}

/* As if the hashes of two keys were one. */
static void a_file_of_another_key_is_no_answer(void **state)
{
    (void)state;
    char path[PATH_MAX_HERE];
    char bytes[FILE_MAX];
    write_plan(other_key);
    path_of(other_key, path);
    const size_t size = load(path, bytes);
    path_of(key, path);
    save(path, bytes, size);
    assert_false(reads_plan(key));
    assert_true(reads_plan(other_key));
    write_plan(key);
    assert_true(reads_plan(key));
}

static void what_others_may_have_written_is_not_believed(void **state)
{
    (void)state;
    char path[PATH_MAX_HERE];
    static const mode_t modes[] = {0664, 0646, 0666};
    path_of(key, path);
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
        write_plan(key);
        assert_true(reads_plan(key));
        assert_int_equal(chmod(path, modes[i]), 0);
        assert_false(reads_plan(key));
    }
    write_plan(key);
    assert_true(reads_plan(key));
    if (chown(path, 12345, (gid_t)-1) == 0)
        assert_false(reads_plan(key));
    assert_int_equal(unlink(path), 0);
    assert_int_equal(symlink("/dev/zero", path), 0);
    assert_false(reads_plan(key));
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_false(reads_plan(key)); /* and does not wait */
    write_plan(key);
    assert_true(reads_plan(key));
}

/* Run by root, as `bench --tune` may be, in the folder of a service's user. */
static void what_root_writes_for_a_service_is_the_services(void **state)
{
    (void)state;
    if (geteuid() != 0) {
        print_message("needs to run as root\n");
        skip();
    }
    enum { SERVICE = 65534 };
    assert_int_equal(chown(test_folder, SERVICE, SERVICE), 0);
    const mode_t mask = umask(0077);
    write_plan(key);
    (void)umask(mask);
    assert_int_equal(seteuid(SERVICE), 0);
    const bool read = reads_plan(key);
    write_plan(other_key);
    const bool read_other = reads_plan(other_key);
    assert_int_equal(seteuid(0), 0);
    assert_true(read);
    assert_true(read_other); /* the folder is the service's too */
    assert_int_equal(count_files(test_plans, ""), 2);
    assert_int_equal(log_lines(), 0);
}

static void what_may_not_be_read_is_said_once(void **state)
{
    (void)state;
    char path[PATH_MAX_HERE];
    char text[FILE_MAX];
    write_plan(key);
    path_of(key, path);
    assert_int_equal(chmod(path, 0), 0);
    assert_int_equal(chmod(test_folder, 0755), 0);
    const bool root = geteuid() == 0;
    if (root)
        assert_int_equal(seteuid(65534), 0);
    const bool first = reads_plan(key);
    const bool second = reads_plan(key);
    if (root)
        assert_int_equal(seteuid(0), 0);
    assert_false(first || second);
    assert_int_equal(log_lines(), 1);
    const ssize_t size = pread(log_file, text, sizeof text - 1, 0);
    text[size] = '\0';
    assert_non_null(strstr(text, "info"));
    assert_non_null(strstr(text, "may not read"));
}

/* ---- Bounds ---------------------------------------------------------------------------------- */

static void the_longest_unused_makes_room(void **state)
{
    (void)state;
    char name[LDK_PLAN_FILE_NAME_SIZE];
    write_plan(key);
    for (int i = 1; i < LDK_PLAN_FILES_MAX; i++) { /* 9 is the oldest, then 10 */
        (void)snprintf(name, sizeof name, "plan-%032d.bin", i);
        put_file(name, 10, i == 9 ? 20000 : i == 10 ? 10000 : 5000);
    }
    put_file("tune-0123.txt", 10, 30000); /* not ours */
    assert_int_equal(count_files(test_plans, "plan-"), LDK_PLAN_FILES_MAX);
    write_plan(key); /* replaces its own: needs no more room than there is */
    assert_int_equal(count_files(test_plans, "plan-"), LDK_PLAN_FILES_MAX);
    write_plan(other_key);
    assert_int_equal(count_files(test_plans, "plan-"), LDK_PLAN_FILES_MAX);
    (void)snprintf(name, sizeof name, "plan-%032d.bin", 9);
    assert_false(has_file(name));
    (void)snprintf(name, sizeof name, "plan-%032d.bin", 10);
    assert_true(has_file(name));
    assert_true(has_file("tune-0123.txt"));
    assert_true(reads_plan(key) && reads_plan(other_key));
    assert_int_equal(log_lines(), 0);
}

static void a_plan_that_is_read_is_not_the_oldest(void **state)
{
    (void)state;
    char path[PATH_MAX_HERE];
    char name[LDK_PLAN_FILE_NAME_SIZE];
    const struct timespec old[2] = {{.tv_sec = 1000}, {.tv_sec = 1000}};
    write_plan(key);
    path_of(key, path);
    assert_int_equal(utimensat(AT_FDCWD, path, old, 0), 0);
    for (int i = 1; i < LDK_PLAN_FILES_MAX; i++) {
        (void)snprintf(name, sizeof name, "plan-%032d.bin", i);
        put_file(name, 10, 5000);
    }
    assert_true(reads_plan(key));
    write_plan(other_key);
    assert_int_equal(count_files(test_plans, "plan-"), LDK_PLAN_FILES_MAX);
    assert_true(reads_plan(key));
}

static void bytes_are_bounded_too(void **state)
{
    (void)state;
    char name[LDK_PLAN_FILE_NAME_SIZE];
    const int files = LDK_PLAN_FOLDER_BYTES_MAX / LDK_PLAN_BYTES_MAX;
    write_plan(other_key);
    for (int i = 1; i < files; i++) { /* leaves a MiB less the other plan */
        (void)snprintf(name, sizeof name, "plan-%032d.bin", i);
        put_file(name, LDK_PLAN_BYTES_MAX, 1000 + i);
    }
    write_plan(key);
    assert_int_equal(count_files(test_plans, "plan-"), files + 1);
    put_file("plan-last.bin", LDK_PLAN_BYTES_MAX, 100);
    write_plan(key); /* over by two small plans: the two oldest of the others go */
    assert_int_equal(count_files(test_plans, "plan-"), files + 1);
    (void)snprintf(name, sizeof name, "plan-%032d.bin", files - 1);
    assert_false(has_file(name));
    (void)snprintf(name, sizeof name, "plan-%032d.bin", files - 2);
    assert_true(has_file(name));
    assert_true(reads_plan(key) && reads_plan(other_key));
    assert_int_equal(log_lines(), 0);
}

static void a_folder_of_other_things_is_left_alone(void **state)
{
    (void)state;
    char name[32];
    write_plan(key);
    for (int i = 0; i < 4 * LDK_PLAN_FILES_MAX; i++) {
        (void)snprintf(name, sizeof name, "thing-%d", i);
        put_file(name, 0, 0);
    }
    write_plan(other_key); /* its plans cannot be counted */
    assert_false(reads_plan(other_key));
    assert_true(reads_plan(key));
    assert_int_equal(count_files(test_plans, "thing-"), 4 * LDK_PLAN_FILES_MAX);
    assert_int_equal(log_lines(), 1);
}

static void what_a_dead_process_left_is_removed(void **state)
{
    (void)state;
    write_plan(key);
    put_file(".plan-0123.bin.abandoned", 100, 7200);
    put_file(".plan-0123.bin.written", 100, 60); /* by another one, now */
    put_file(".other", 100, 7200);
    write_plan(other_key);
    assert_false(has_file(".plan-0123.bin.abandoned"));
    assert_true(has_file(".plan-0123.bin.written") && has_file(".other"));
}

/* One file is asked for by its name: a store with a thousand plans answers as fast as an empty
 * one. */
static void reading_looks_at_one_file_alone(void **state)
{
    (void)state;
    char name[LDK_PLAN_FILE_NAME_SIZE];
    write_plan(key);
    for (int i = 1; i < LDK_PLAN_FILES_MAX; i++) {
        (void)snprintf(name, sizeof name, "plan-%032d.bin", i);
        put_file(name, LDK_PLAN_BYTES_MAX, 0);
    }
    struct timespec start;
    struct timespec end;
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &start);
    for (int i = 0; i < 100; i++)
        assert_true(reads_plan(key));
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &end);
    /* Reading a thousand files of a MiB a hundred times takes ten seconds at 10 GB/s. */
    assert_true(end.tv_sec - start.tv_sec < 5);
    assert_int_equal(log_lines(), 0);
}

/* ---- Folders that cannot be used ------------------------------------------------------------- */

static void a_folder_that_cannot_be_written_costs_one_line(void **state)
{
    (void)state;
    save(test_plans, "", 0); /* a file in the folder's place; not even root gets around it */
    write_plan(key);
    write_plan(other_key);
    assert_int_equal(log_lines(), 1);
    assert_int_equal(unlink(test_plans), 0);
    write_plan(key); /* not tried again by this process */
    assert_false(reads_plan(key));
    ldk_plan_store_init(&store, test_folder);
    write_plan(key);
    assert_true(reads_plan(key));
    assert_int_equal(log_lines(), 1);
}

static void a_read_only_folder_is_read(void **state)
{
    (void)state;
    write_plan(key);
    assert_int_equal(chmod(test_plans, 0555), 0);
    if (geteuid() != 0) {
        write_plan(other_key);
        assert_false(reads_plan(other_key));
        assert_int_equal(count_files(test_plans, ""), 1);
        assert_int_equal(log_lines(), 1);
    }
    assert_true(reads_plan(key));
    assert_int_equal(chmod(test_plans, 0755), 0);
}

/* ---- Many at once ---------------------------------------------------------------------------- */

enum { WRITERS = 4, TURNS = 60, SHARED_SIZE = 40000 };

/* The writer's number in every byte: a mixture of two would be seen. */
static void write_turns(uint8_t number)
{
    static uint8_t bytes[SHARED_SIZE];
    memset(bytes, number, sizeof bytes);
    for (int i = 0; i < TURNS; i++)
        ldk_plan_store_write(&store, key, ld_span_of(bytes, SHARED_SIZE - number));
}

static bool is_of_one_writer(struct ld_span got)
{
    const uint8_t number = got.data[0];
    for (size_t i = 0; i < got.size; i++) {
        if (got.data[i] != number)
            return false;
    }
    return number >= 1 && number <= WRITERS && got.size == SHARED_SIZE - (size_t)number;
}

static void processes_may_write_one_plan_at_once(void **state)
{
    (void)state;
    pid_t children[WRITERS];
    int left = WRITERS;
    int found = 0;
    for (int i = 0; i < WRITERS; i++) {
        children[i] = fork();
        assert_true(children[i] >= 0);
        if (children[i] == 0) {
            write_turns((uint8_t)(i + 1));
            _exit(store.closed);
        }
    }
    while (left > 0) {
        struct ld_buffer file = ld_buffer_make(LDK_PLAN_FILE_BYTES_MAX);
        struct ld_span got = {0};
        if (ldk_plan_store_read(&store, key, &file, &got)) {
            assert_true(is_of_one_writer(got));
            found++;
        } else {
            assert_int_equal(found, 0); /* once there, always there */
        }
        ld_buffer_deinit(&file);
        for (int i = 0; i < WRITERS; i++) {
            int status;
            if (children[i] > 0 && waitpid(children[i], &status, WNOHANG) == children[i]) {
                assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
                children[i] = 0;
                left--;
            }
        }
    }
    assert_true(found > 0);
    assert_int_equal(count_files(test_plans, ""), 1);
    assert_int_equal(log_lines(), 0);
}

static int open_log(void **state)
{
    (void)state;
    char path[] = "/tmp/test_plans.log.XXXXXX";
    log_file = mkstemp(path);
    if (log_file < 0 || fcntl(log_file, F_SETFL, O_APPEND) != 0)
        return -1;
    ld_log_set_fd(log_file);
    return unlink(path);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, open_folder, close_folder)
    const struct CMUnitTest tests[] = {
        TEST(what_was_written_is_read_again),
        TEST(nobody_else_may_read_a_plan),
        TEST(without_a_folder_nothing_is_kept),
        TEST(no_damage_comes_back_as_a_plan),
        TEST(a_file_of_another_key_is_no_answer),
        TEST(what_others_may_have_written_is_not_believed),
        TEST(what_root_writes_for_a_service_is_the_services),
        TEST(what_may_not_be_read_is_said_once),
        TEST(the_longest_unused_makes_room),
        TEST(a_plan_that_is_read_is_not_the_oldest),
        TEST(bytes_are_bounded_too),
        TEST(a_folder_of_other_things_is_left_alone),
        TEST(what_a_dead_process_left_is_removed),
        TEST(reading_looks_at_one_file_alone),
        TEST(a_folder_that_cannot_be_written_costs_one_line),
        TEST(a_read_only_folder_is_read),
        TEST(processes_may_write_one_plan_at_once),
    };
    return cmocka_run_group_tests(tests, open_log, NULL);
}
