/*
 * Results that were on their way when the front died. A worker keeps the frames of every picture
 * and end that it sent until the front has acknowledged the job's end; when the front goes away, it
 * leaves those of the jobs that had ended in a folder, one file a job, and ends. The next front
 * takes them from there before it gives any job out again, so that nothing finished is computed
 * twice. The attempt's token decides, as ever: what is not the running attempt's is dropped.
 *
 * Workers hold a shared lock on the folder while they live, so that a front which is back at once
 * waits until they have left what they have.
 */
#ifndef LD_SERVER_SPOOL_H
#define LD_SERVER_SPOOL_H

#include "runtime/ipc/frame.h"

struct ld_spool;

/* ---- The worker's side. All may be called with a NULL spool, and then do nothing ---------------- */

/*
 * `dir` is made if it is missing. Owned by the caller, for the life of the process; any thread.
 * Errors   LD_E_NOMEM, those of ld_fsx_make_dirs and ld_fsx_open_dir.
 */
enum ld_code ld_spool_open(struct ld_spool **out, const char *dir,
                           struct ld_error *err) LD_MUST_USE;

/* A frame of a job's result, header and payload, is about to be sent; copied. Beyond 256 MiB in all
 * a job is not kept: it would be computed again. */
void ld_spool_keep(struct ld_spool *spool, enum ld_frame_type type, const char *job_id,
                   uint64_t token, struct ld_span frame);

/* The front has acknowledged the job's end. */
void ld_spool_drop(struct ld_spool *spool, const char *job_id, uint64_t token);

/* The front is gone: write what belongs to ended jobs and let the folder go. Nothing is kept
 * afterwards; what cannot be written is computed again. */
void ld_spool_leave(struct ld_spool *spool);

/* ---- The front's side ------------------------------------------------------------------------ */

/*
 * Hand out every frame that workers of an earlier front left in `dir`, job by job in the order of
 * sending, and empty the folder; what is damaged, or no file of a spool, is dropped. Waits a second
 * at most for workers that are still ending. `take` sees only frames whose job and token are those
 * of their file's name; the frame is borrowed.
 */
void ld_spool_take(const char *dir, void (*take)(void *ctx, const struct ld_frame *frame),
                   void *ctx);

#endif
