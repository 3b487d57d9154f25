#include "server/state.h"

#include "runtime/base/clock.h"
#include "runtime/base/fsx.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

enum { LOCK_PATIENCE_US = 5 * 1000 * 1000, LOCK_STEP_US = 20 * 1000 };

static bool place(struct ld_state *state, const struct ld_settings *settings)
{
    const char *given = getenv("STATE_DIRECTORY");
    const char *data = getenv("XDG_DATA_HOME");
    const char *home = getenv("HOME");
    if (settings->state_dir[0])
        return ld_fmt(state->dir, sizeof state->dir, "%s", settings->state_dir);
    if (given && given[0]) /* systemd may list several, the first is ours */
        return ld_fmt(state->dir, sizeof state->dir, "%.*s", (int)strcspn(given, ":"), given);
    if (data && data[0] == '/')
        return ld_fmt(state->dir, sizeof state->dir, "%s/latentd", data);
    return home && home[0] &&
           ld_fmt(state->dir, sizeof state->dir, "%s/.local/share/latentd", home);
}

/* Locks and flushes of a network file system are not what SQLite needs them to be. */
static bool is_network(const char *path)
{
    static const unsigned long types[] = {NFS_SUPER_MAGIC,  SMB_SUPER_MAGIC,  SMB2_SUPER_MAGIC,
                                          CIFS_SUPER_MAGIC, CEPH_SUPER_MAGIC, AFS_SUPER_MAGIC,
                                          CODA_SUPER_MAGIC, V9FS_MAGIC};
    struct statfs info;
    if (statfs(path, &info) != 0)
        return false;
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        if ((unsigned long)info.f_type == types[i])
            return true;
    }
    return false;
}

enum ld_code ld_state_check_folder(const char *path, const char *setting, struct ld_error *err)
{
    struct stat info;
    if (!path[0] || stat(path, &info) != 0 || !S_ISDIR(info.st_mode))
        return LD_OK;
    if (info.st_mode & S_IWOTH)
        return LD_FAIL(err, LD_E_FORBIDDEN,
                       "the folder of %s can be written by everyone; take that right away",
                       setting);
    return LD_OK;
}

enum ld_code ld_state_check_models(const struct ld_settings *settings, struct ld_error *err)
{
    const struct {
        const char *setting, *flag, *path;
    } folders[] = {{"models.dir", "--model-dir", settings->model_dir},
                   {"models.adapter_dir", "--adapter-dir", settings->adapter_dir},
                   {"models.embedding_dir", "--embedding-dir", settings->embedding_dir},
                   {"models.vae_dir", "--vae-dir", settings->vae_dir},
                   {"models.controlnet_dir", "--controlnet-dir", settings->controlnet_dir},
                   {"models.wildcard_dir", "--wildcard-dir", settings->wildcard_dir},
                   {"models.manifest_dir", "--manifest-dir", settings->manifest_dir}};
    for (size_t i = 0; i < sizeof folders / sizeof folders[0]; i++) {
        const char *path = folders[i].path;
        if (!path[0])
            continue;
        const int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        const int os_code = errno;
        if (fd < 0)
            return LD_FAIL_OS(err, LD_E_INVALID, os_code,
                              "%s (%s) names the folder '%.300s', which %s", folders[i].setting,
                              folders[i].flag, path,
                              os_code == ENOENT    ? "does not exist"
                              : os_code == ENOTDIR ? "is not a folder"
                                                   : "cannot be read");
        (void)close(fd);
        if (ld_state_check_folder(path, folders[i].setting, err) != LD_OK)
            return err->code;
    }
    return LD_OK;
}

static enum ld_code lock(struct ld_state *state, struct ld_error *err)
{
    char path[4200];
    const int64_t until_us = ld_clock_monotonic_us() + LOCK_PATIENCE_US;
    (void)ld_fmt(path, sizeof path, "%s/lock", state->dir);
    state->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    const int os_code = errno;
    if (state->lock_fd < 0)
        return LD_FAIL_OS(err, ld_fsx_code(os_code), os_code, "the state folder cannot be written");
    while (flock(state->lock_fd, LOCK_EX | LOCK_NB) != 0) {
        if (ld_clock_monotonic_us() > until_us)
            return LD_FAIL(err, LD_E_CONFLICT, "another server uses this state folder");
        ld_clock_sleep_us(LOCK_STEP_US);
    }
    return LD_OK;
}

enum ld_code ld_state_place(struct ld_state *state, const struct ld_settings *settings,
                            struct ld_error *err)
{
    memset(state, 0, sizeof *state);
    state->lock_fd = -1;
    if (!place(state, settings))
        return LD_FAIL(err, LD_E_NOT_FOUND, "there is no place for the state; set store.dir");
    (void)ld_fmt(state->db_path, sizeof state->db_path, "%s/jobs.db", state->dir);
    (void)ld_fmt(state->blob_dir, sizeof state->blob_dir, "%s/blobs", state->dir);
    (void)ld_fmt(state->spool_dir, sizeof state->spool_dir, "%s/spool", state->dir);
    (void)ld_fmt(state->digests_path, sizeof state->digests_path, "%s/digests", state->dir);
    return LD_OK;
}

enum ld_code ld_state_open(struct ld_state *state, const struct ld_settings *settings,
                           struct ld_error *err)
{
    enum ld_code code;
    if ((code = ld_state_place(state, settings, err)) != LD_OK ||
        (code = ld_fsx_make_dirs(state->dir, 0700, err)) != LD_OK)
        return code;
    if (is_network(state->dir))
        return LD_FAIL(err, LD_E_FORBIDDEN, "store.dir must not lie on a network file system");
    if ((code = ld_state_check_folder(state->dir, "store.dir", err)) != LD_OK ||
        (code = lock(state, err)) != LD_OK)
        return code;
    return LD_OK;
}

void ld_state_close(struct ld_state *state)
{
    if (state->lock_fd >= 0)
        (void)close(state->lock_fd);
    state->lock_fd = -1;
}
