/*
 * Proves that opening beneath a folder cannot leave it and that publishing is all or nothing.
 * Works in a fresh temporary folder with links, parents and a FIFO as traps.
 */
#include "runtime/base/fsx.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char root_path[64];
static int root_fd = -1;

static void make_file(const char *name, const char *text)
{
    struct ld_error err;
    const int fd = openat(root_fd, name, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(ld_fsx_write_all(fd, ld_span_text(text), &err), LD_OK);
    assert_int_equal(close(fd), 0);
}

static int setup(void **state)
{
    (void)state;
    struct ld_error err;
    memcpy(root_path, "/tmp/ld_fsx_XXXXXX", sizeof "/tmp/ld_fsx_XXXXXX");
    if (!mkdtemp(root_path) || ld_fsx_open_dir(root_path, &root_fd, &err) != LD_OK)
        return -1;
    if (mkdirat(root_fd, "a", 0700) || mkdirat(root_fd, "a/b", 0700))
        return -1;
    make_file("a/b/file", "hello");
    make_file("top", "t");
    return symlinkat("top", root_fd, "link") + symlinkat("a", root_fd, "dirlink") +
           mkfifoat(root_fd, "fifo", 0600);
}

static int teardown(void **state)
{
    (void)state;
    static const char *const names[] = {"a/b/file", "top", "link",     "dirlink",
                                        "fifo",     "out", "n/m/final"};
    static const char *const dirs[] = {"n/m", "n", "a/b", "a"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        (void)unlinkat(root_fd, names[i], 0);
    for (size_t i = 0; i < sizeof dirs / sizeof dirs[0]; i++)
        (void)unlinkat(root_fd, dirs[i], AT_REMOVEDIR);
    (void)close(root_fd);
    return rmdir(root_path);
}

typedef enum ld_code (*open_function)(int, const char *, int *, struct ld_error *);

static void check_opening(open_function open_file)
{
    static const char *const traps[] = {
        "..",     "../etc/passwd",  "a/../top",  "a//b/file", "/etc/passwd",
        "link",   "dirlink/b/file", "a/b",       "",          "a/b/file/",
        "./top/", "fifo",           "a/b/file/x"};
    struct ld_error err;
    int fd = -1;
    assert_int_equal(open_file(root_fd, "a/b/file", &fd, &err), LD_OK);
    struct ld_buffer text = ld_buffer_make(5);
    assert_int_equal(ld_fsx_read_fd(fd, &text, &err), LD_OK);
    assert_string_equal(text.data, "hello");
    ld_buffer_deinit(&text);
    assert_int_equal(close(fd), 0);
    assert_int_equal(open_file(root_fd, "a/b/none", &fd, &err), LD_E_NOT_FOUND);
    for (size_t i = 0; i < sizeof traps / sizeof traps[0]; i++) {
        /* openat2 resolves inner ".." and "//" itself, inside the folder; that is no escape. */
        if (open_file == ld_fsx_open_beneath && (i == 2 || i == 3))
            continue;
        assert_int_not_equal(open_file(root_fd, traps[i], &fd, &err), LD_OK);
        assert_int_equal(fd, -1);
        assert_null(strstr(err.detail, root_path));
    }
}

static void openat2_cannot_leave_the_folder(void **state)
{
    (void)state;
    check_opening(ld_fsx_open_beneath);
}

static void opening_by_parts_cannot_leave_the_folder(void **state)
{
    (void)state;
    check_opening(ld_fsx_open_by_parts);
}

static void reading_stops_at_the_limit(void **state)
{
    (void)state;
    struct ld_error err;
    char path[128];
    assert_true(ld_fmt(path, sizeof path, "%s/a/b/file", root_path));
    struct ld_buffer text = ld_buffer_make(4);
    assert_int_equal(ld_fsx_read_file(path, &text, &err), LD_E_TOO_LARGE);
    ld_buffer_deinit(&text);
}

static void publishing_replaces_whole_files_only(void **state)
{
    (void)state;
    struct ld_error err;
    char path[128];
    assert_true(ld_fmt(path, sizeof path, "%s/n/m", root_path));
    assert_int_equal(ld_fsx_make_dirs(path, 0700, &err), LD_OK);
    assert_int_equal(ld_fsx_make_dirs(path, 0700, &err), LD_OK);
    int dir_fd = -1;
    assert_int_equal(ld_fsx_open_dir(path, &dir_fd, &err), LD_OK);
    const struct ld_fsx_publish where = {root_fd, "out", dir_fd, "final", 0600};
    assert_int_equal(ld_fsx_publish(&where, ld_span_text("one"), &err), LD_OK);
    assert_int_equal(ld_fsx_publish(&where, ld_span_text("second"), &err), LD_OK);
    assert_int_not_equal(faccessat(root_fd, "out", F_OK, 0), 0);
    int fd = -1;
    struct ld_buffer text = ld_buffer_make(100);
    assert_int_equal(ld_fsx_open_beneath(root_fd, "n/m/final", &fd, &err), LD_OK);
    assert_int_equal(ld_fsx_read_fd(fd, &text, &err), LD_OK);
    assert_string_equal(text.data, "second");
    ld_buffer_deinit(&text);
    assert_int_equal(close(fd), 0);
    /* A name that is a folder cannot be replaced; the temporary does not stay behind. */
    const struct ld_fsx_publish bad = {root_fd, "out", root_fd, "a", 0600};
    assert_int_equal(ld_fsx_publish(&bad, ld_span_text("x"), &err), LD_E_IO);
    assert_int_not_equal(faccessat(root_fd, "out", F_OK, 0), 0);
    assert_int_equal(close(dir_fd), 0);
}

static uid_t owner_of(const char *name)
{
    struct stat info;
    assert_int_equal(fstatat(root_fd, name, &info, AT_SYMLINK_NOFOLLOW), 0);
    return info.st_uid;
}

/* By anybody else it stays with who wrote it. */
static void what_root_leaves_is_the_folders_owners(void **state)
{
    (void)state;
    enum { SERVICE = 12345 };
    const uid_t owner = geteuid() == 0 ? SERVICE : geteuid();
    struct ld_error err = {0};
    char path[128];
    assert_int_equal(mkdirat(root_fd, "s", 0700), 0);
    assert_int_equal(fchownat(root_fd, "s", owner, (gid_t)-1, 0), 0);
    assert_true(ld_fmt(path, sizeof path, "%s/s/t/u", root_path));
    assert_int_equal(ld_fsx_make_dirs_to_owner(path, 0755, &err), LD_OK);
    assert_int_equal(owner_of("s/t"), owner);
    assert_int_equal(owner_of("s/t/u"), owner);
    /* A trap of that owner's under the temporary name: what it leads to is neither written nor
     * given away. */
    make_file("guarded", "kept");
    assert_int_equal(linkat(root_fd, "guarded", root_fd, "s/out", 0), 0);
    int dir_fd = -1;
    assert_true(ld_fmt(path, sizeof path, "%s/s", root_path));
    assert_int_equal(ld_fsx_open_dir(path, &dir_fd, &err), LD_OK);
    const struct ld_fsx_publish where = {dir_fd, "out", dir_fd, "final", 0600};
    for (int i = 0; i < 2; i++)
        assert_int_equal(ld_fsx_publish_to_owner(&where, ld_span_text("x"), &err), LD_OK);
    assert_int_equal(owner_of("s/final"), owner);
    assert_int_equal(owner_of("guarded"), geteuid());
    struct stat info;
    assert_int_equal(fstatat(root_fd, "guarded", &info, 0), 0);
    assert_int_equal(info.st_size, 4);
    /* In a folder of root's own nothing changes hands. */
    const struct ld_fsx_publish own = {root_fd, "out", root_fd, "own", 0600};
    assert_int_equal(ld_fsx_publish_to_owner(&own, ld_span_text("x"), &err), LD_OK);
    assert_int_equal(owner_of("own"), geteuid());
    assert_int_equal(unlinkat(root_fd, "own", 0), 0);
    assert_int_equal(unlinkat(root_fd, "guarded", 0), 0);
    assert_int_equal(unlinkat(dir_fd, "final", 0), 0);
    assert_int_equal(unlinkat(dir_fd, "t/u", AT_REMOVEDIR), 0);
    assert_int_equal(unlinkat(dir_fd, "t", AT_REMOVEDIR), 0);
    assert_int_equal(unlinkat(root_fd, "s", AT_REMOVEDIR), 0);
    assert_int_equal(close(dir_fd), 0);
}

static void what_may_not_be_read_is_told_apart(void **state)
{
    (void)state;
    struct ld_error err = {0};
    int fd = -1;
    make_file("shut", "x");
    assert_int_equal(fchmodat(root_fd, "shut", 0, 0), 0);
    assert_int_equal(fchmodat(root_fd, ".", 0755, 0), 0);
    const bool root = geteuid() == 0;
    if (root)
        assert_int_equal(seteuid(65534), 0);
    const enum ld_code shut = ld_fsx_open_beneath(root_fd, "shut", &fd, &err);
    const bool no_right = ld_fsx_is_no_right(&err);
    const enum ld_code outside = ld_fsx_open_beneath(root_fd, "../x", &fd, &err);
    const bool other = ld_fsx_is_no_right(&err);
    if (root)
        assert_int_equal(seteuid(0), 0);
    assert_int_equal(shut, LD_E_FORBIDDEN);
    assert_true(no_right);
    assert_int_equal(outside, LD_E_FORBIDDEN);
    assert_false(other);
    assert_int_equal(unlinkat(root_fd, "shut", 0), 0);
}

static void full_disks_are_told_apart(void **state)
{
    (void)state;
    struct ld_error err;
    const int fd = open("/dev/full", O_WRONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(ld_fsx_write_all(fd, ld_span_text("x"), &err), LD_E_NOSPACE);
    assert_int_equal(close(fd), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(openat2_cannot_leave_the_folder),
        cmocka_unit_test(opening_by_parts_cannot_leave_the_folder),
        cmocka_unit_test(reading_stops_at_the_limit),
        cmocka_unit_test(publishing_replaces_whole_files_only),
        cmocka_unit_test(what_root_leaves_is_the_folders_owners),
        cmocka_unit_test(what_may_not_be_read_is_told_apart),
        cmocka_unit_test(full_disks_are_told_apart),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
