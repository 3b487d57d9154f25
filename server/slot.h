/*
 * One worker process as the front sees it: spawned over a socket pair, written to without blocking,
 * read as if hostile, reaped. What its messages mean is delivery.c's business, when to start or
 * kill it supervisor.c's. Everything here runs on the supervisor's thread.
 */
#ifndef LD_SERVER_SLOT_H
#define LD_SERVER_SLOT_H

#include "runtime/ipc/messages.h"
#include "runtime/ipc/stats.h"
#include "server/store.h"

#include <sys/types.h>

enum {
    LD_SLOT_JOBS_MAX = 64,
    LD_SLOT_DEATHS_MAX = 5 /* within LD_SLOT_DEATHS_S: the breaker opens */
};

/* An IMAGE or DONE message that is not in the store yet. */
struct ld_slot_result {
    enum ld_frame_type type;
    struct ld_buffer payload;
    struct ld_slot_result *next;
};

/* What a job has in common with equal ones (equal.h). */
struct ld_equal_mark {
    bool known;
    uint8_t digest[LD_SHA256_BYTES];
};

/* A job that this worker holds. */
struct ld_slot_job {
    char id[LD_ID_SIZE];
    uint64_t token;
    bool suspect;
    bool shown; /* a picture of it has come */
    struct ld_equal_mark equal;
    int64_t claimed_us; /* monotonic */
    struct ld_progress_view progress;
    char phase[32];
    int64_t progress_posted_us;
    struct ld_buffer preview; /* the latest one; for those who ask instead of following */
    uint32_t preview_number;  /* how many there were */
    struct ld_slot_result *results_first, *results_last;
    char (
        *cells)[LD_SHA256_HEX_SIZE]; /* of a sweep: pictures to send, "" for none; NULL: no sweep */
    uint32_t cell_count, cell_next;
    int64_t blocked_since_us; /* the disk was full since then, 0: it is not */
};

enum ld_slot_state {
    LD_SLOT_DOWN,     /* no process; started again at start_at_us */
    LD_SLOT_STARTING, /* no HELLO yet */
    LD_SLOT_READY
};

struct ld_slot {
    enum ld_slot_state state;
    uint32_t index;
    pid_t pid;
    int fd;
    struct ld_frame_reader reader;
    struct ld_buffer out; /* to be written */
    size_t out_pos;

    uint32_t jobs_max; /* of the worker and of the setting */
    struct ld_slot_job jobs[LD_SLOT_JOBS_MAX];
    uint32_t job_count;

    int64_t started_us, heard_us; /* monotonic */
    int64_t lease_sent_us;
    uint64_t activity;
    uint64_t stats[LD_STAT_COUNT]; /* as the worker told them last */
    int64_t activity_us;
    int64_t frames_second; /* the second that `frames` counts in */
    uint32_t frames;
    bool killed_by_us;
    bool lease_expired; /* that was why */
    uint64_t oom_kills; /* of the cgroup when it was started */

    int64_t start_at_us;
    uint32_t quick_deaths; /* in a row; sets the back-off */
    int64_t deaths_us[LD_SLOT_DEATHS_MAX];
    bool disabled;
    uint64_t restarts;
};

void ld_slot_init(struct ld_slot *slot, uint32_t index);
void ld_slot_deinit(struct ld_slot *slot);

enum { LD_SLOT_ARGS_MAX = 256 };

/* Start this very program with `argv` (NULL-terminated, fewer than LD_SLOT_ARGS_MAX - 2) and
 * `--slot=` with the slot's number; its end of the pair is descriptor 3.
 * Errors   LD_E_NOMEM, LD_E_IO. */
enum ld_code ld_slot_spawn(struct ld_slot *slot, char *const *argv,
                           struct ld_error *err) LD_MUST_USE;

/* Queue a message; ld_slot_write sends it. Errors   LD_E_TOO_LARGE, LD_E_NOMEM. */
enum ld_code ld_slot_send(struct ld_slot *slot, enum ld_frame_type type, const char *job_id,
                          uint64_t token, struct ld_span payload, struct ld_error *err) LD_MUST_USE;
bool ld_slot_wants_write(const struct ld_slot *slot);
/* False when the worker is gone. */
bool ld_slot_write(struct ld_slot *slot);

/* SIGKILL, remembered as ours. */
void ld_slot_kill(struct ld_slot *slot);

/* The socket is closed: collect the process (killing one that hangs on), close and clear. Returns
 * the wait status. The jobs stay for the caller to deal with. */
int ld_slot_reap(struct ld_slot *slot);

struct ld_slot_job *ld_slot_job_find(struct ld_slot *slot, const char *id, uint64_t token);
struct ld_slot_job *ld_slot_job_add(struct ld_slot *slot, const struct ld_store_job *job);
void ld_slot_job_remove(struct ld_slot *slot, struct ld_slot_job *job);

/* The cgroup's count of processes killed for memory, 0 where there is none. */
uint64_t ld_oom_kills(void);

#endif
