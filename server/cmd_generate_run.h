/*
 * A run of `latentd generate`: its pictures are written as they come, and it tells how it goes, as
 * a progress bar and sentences or as JSON lines. What it is told by the engine or by a server are
 * the functions below; `ctx` is the run.
 */
#ifndef LD_SERVER_CMD_GENERATE_RUN_H
#define LD_SERVER_CMD_GENERATE_RUN_H

#include "runtime/text/notes.h"
#include "server/cmd_generate_args.h"
#include "server/cmd_replay.h"
#include "server/cmd_sweep_sheet.h"
#include "server/progress_bar.h"

struct ld_generate_run {
    const struct ld_generate_args *args;
    struct ld_progress_bar bar;
    bool done;
    uint32_t written;
    struct ld_sweep_pictures *pictures; /* of a sweep; NULL: none */
    uint32_t cell, cells;               /* which of how many */
    struct ld_replay *replay;           /* NULL: none */
    struct ld_notes told;               /* sentences about the jobs so far */
    struct ld_buffer painted;           /* the replay's picture, to be compared */
    enum ld_code code;
    struct ld_error err;
};

void ld_generate_on_progress(void *ctx, const struct ld_engine_progress *told);
void ld_generate_on_image(void *ctx, const struct ld_engine_image *told);
void ld_generate_on_done(void *ctx, const struct ld_engine_report *report,
                         const struct ld_error *err);

/* The end of a job on a server, by its document. */
void ld_generate_on_end(void *ctx, struct ld_span job);

#endif
