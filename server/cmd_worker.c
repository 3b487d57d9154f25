/*
 * `latentd worker`: started by `latentd serve` with its end of a socket pair as descriptor 3.
 */
#include "runtime/base/log.h"
#include "server/cmd.h"
#include "server/cmd_options.h"
#include "server/script.h"
#include "server/state.h"
#include "server/worker_engine.h"

#include <stdio.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
    FRONT_FD = 3,
    EXIT_CONFIG = 78 /* EX_CONFIG of sysexits.h: it will not get better by trying again soon */
};

static bool has_front(void)
{
    int type = 0;
    socklen_t size = sizeof type;
    return getsockopt(FRONT_FD, SOL_SOCKET, SO_TYPE, &type, &size) == 0 && type == SOCK_STREAM;
}

/* A worker holds no socket, key or database: whatever was left open does not come along. */
static void close_the_rest(void)
{
    (void)syscall(SYS_close_range, FRONT_FD + 1, ~0U, 0); /* an old kernel: all are close-on-exec */
}

static enum ld_code open_pipeline(const struct ld_cmd_options *options,
                                  struct ld_worker_pipeline *pipeline, struct ld_error *err)
{
    if (options->script)
        return ld_script_open(pipeline, options->script, FRONT_FD, err);
    return ld_worker_engine_open(pipeline, &options->settings, options->slot, err);
}

/* NULL where it cannot be had: results that are on their way when the front dies are then computed
 * again. */
static struct ld_spool *open_spool(const struct ld_settings *settings)
{
    static struct ld_state state; /* large */
    struct ld_spool *spool = NULL;
    struct ld_error err = {0};
    if (ld_state_place(&state, settings, &err) != LD_OK ||
        ld_spool_open(&spool, state.spool_dir, &err) != LD_OK)
        ld_log_error(LD_LOG_WARN, "worker", "there is no spool for results", &err);
    return spool;
}

int ld_cmd_worker(int argc, char **argv)
{
    struct ld_cmd_options options;
    struct ld_worker_pipeline pipeline;
    struct ld_error err = {0};
    if (!has_front()) {
        (void)fputs("latentd worker is started by latentd serve\n", stderr);
        return LD_EXIT_USAGE;
    }
    close_the_rest();
    enum ld_code code = ld_cmd_options_read(&options, argc, argv, &err);
    if (code == LD_OK) {
        ld_cmd_options_log(&options.settings);
        code = open_pipeline(&options, &pipeline, &err);
    }
    if (code != LD_OK) {
        ld_log_error(LD_LOG_ERROR, "worker", "the worker cannot start", &err);
        ld_worker_report_fault(FRONT_FD, &err);
        ld_cmd_options_deinit(&options);
        return code == LD_E_NOMEM || code == LD_E_DEVICE || code == LD_E_IO ? LD_EXIT_FAILED
                                                                            : EXIT_CONFIG;
    }
    const struct ld_worker_options run = {FRONT_FD, (uint32_t)options.settings.worker_jobs,
                                          open_spool(&options.settings)};
    return ld_worker_run(&run, &pipeline);
}
