#include "server/supervisor_internal.h"

#include "runtime/base/clock.h"
#include "runtime/base/log.h"

#include <signal.h>
#include <sys/wait.h>

enum {
    EXIT_CONFIG = 78, /* EX_CONFIG of sysexits.h: started with what cannot work */
    BACKOFF_FIRST_US = 50 * 1000,
    BACKOFF_LAST_US = 30 * 1000 * 1000
};
static const int64_t deaths_window_us = (int64_t)600 * 1000000;

/* Whether something we know of ended the process: its own doing, our watchdog, the memory limit. */
static bool is_explained(const struct ld_slot *slot, int status)
{
    if (slot->killed_by_us || !WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)
        return true;
    return ld_oom_kills() > slot->oom_kills;
}

/* ---- Fates ----------------------------------------------------------------------------------- */

static enum ld_code settle(struct ld_supervisor *supervisor, const struct ld_orphan *orphan,
                           struct ld_error *err)
{
    if (!orphan->crashed)
        return ld_store_job_requeue(supervisor->config.store, orphan->id, orphan->token,
                                    orphan->suspect, orphan->counts, err);
    const struct ld_store_finish end = {
        .id = orphan->id,
        .token = orphan->token,
        .status = LD_JOB_FAILED,
        .error_code = "worker_crash",
        .error_detail = "the job ended its worker twice, the second time while it ran alone",
        .timings = {-1, -1, -1, -1, -1, -1},
        .adapters_json = "",
        .warnings_json = "",
        .resolved_json = "",
        .numerics_json = "",
    };
    struct ld_arena arena;
    struct ld_store_freed freed;
    ld_arena_init(&arena, "job end", 1 << 20);
    const enum ld_code code =
        ld_store_job_finish(supervisor->config.store, &end, &arena, &freed, err);
    for (uint32_t i = 0; code == LD_OK && i < freed.count; i++)
        ld_blob_remove(supervisor->config.blobs, freed.sha256[i]);
    ld_arena_deinit(&arena);
    return code;
}

bool ld_supervisor_settle_orphans(struct ld_supervisor *supervisor)
{
    struct ld_orphan **place = &supervisor->orphans;
    while (*place) {
        struct ld_orphan *orphan = *place;
        struct ld_error err;
        const enum ld_code code = settle(supervisor, orphan, &err);
        if (code != LD_OK && code != LD_E_LEASE_LOST) {
            place = &orphan->next; /* a full disk: the next round tries again */
            continue;
        }
        *place = orphan->next;
        ld_heap_free(orphan);
        atomic_store(&supervisor->claim_wanted, true);
    }
    return supervisor->orphans == NULL;
}

/* Moves the slot's jobs to the orphans. */
static void orphan_jobs(struct ld_supervisor *supervisor, struct ld_slot *slot, bool explained)
{
    const bool alone = slot->job_count == 1;
    pthread_mutex_lock(&supervisor->lock);
    while (slot->job_count > 0) {
        struct ld_slot_job *job = &slot->jobs[0];
        struct ld_orphan *orphan = ld_heap_alloc(sizeof *orphan);
        /* Without memory for a note the store would keep the job as running for ever; the next
         * start of the front queues it again, so starting over is the way out. */
        LD_ASSERT(orphan != NULL);
        memcpy(orphan->id, job->id, sizeof orphan->id);
        orphan->token = job->token;
        if (slot->lease_expired) { /* frozen, not crashed: an attempt was used up */
            orphan->suspect = job->suspect;
            orphan->counts = true;
        } else if (!explained) {
            orphan->suspect = job->suspect;
        } else {
            orphan->crashed = alone && job->suspect;
            orphan->suspect = true;
        }
        orphan->next = supervisor->orphans;
        supervisor->orphans = orphan;
        ld_slot_job_remove(slot, job);
    }
    pthread_mutex_unlock(&supervisor->lock);
}

/* ---- The breaker and the back-off ------------------------------------------------------------ */

static void note_death(struct ld_slot *slot, int64_t now_us)
{
    for (size_t i = LD_SLOT_DEATHS_MAX - 1; i > 0; i--)
        slot->deaths_us[i] = slot->deaths_us[i - 1];
    slot->deaths_us[0] = now_us;
    const int64_t oldest_us = slot->deaths_us[LD_SLOT_DEATHS_MAX - 1];
    slot->disabled = oldest_us != 0 && now_us - oldest_us < deaths_window_us;
}

bool ld_slot_may_start(struct ld_slot *slot, int64_t now_us)
{
    const int64_t oldest_us = slot->deaths_us[LD_SLOT_DEATHS_MAX - 1];
    if (slot->disabled && now_us - oldest_us >= deaths_window_us)
        slot->disabled = false;
    return !slot->disabled && now_us >= slot->start_at_us;
}

static int64_t backoff_us(uint32_t quick_deaths)
{
    int64_t wait_us = BACKOFF_FIRST_US;
    for (uint32_t i = 1; i < quick_deaths && wait_us < BACKOFF_LAST_US; i++)
        wait_us *= 2;
    return wait_us < BACKOFF_LAST_US ? wait_us : BACKOFF_LAST_US;
}

void ld_supervisor_bury(struct ld_supervisor *supervisor, struct ld_slot *slot, int status)
{
    const int64_t now_us = ld_clock_monotonic_us();
    const bool explained = is_explained(slot, status);
    const bool never_ready = slot->jobs_max == 0;
    const bool stopped = atomic_load(&supervisor->stopping);
    LD_LOG(stopped ? LD_LOG_INFO : LD_LOG_WARN, "supervisor", "worker ended",
           ld_log_int("worker", slot->index),
           ld_log_int("signal", WIFSIGNALED(status) ? WTERMSIG(status) : 0),
           ld_log_int("exit", WIFEXITED(status) ? WEXITSTATUS(status) : -1),
           ld_log_int("jobs", slot->job_count), ld_log_int("explained", explained ? 1 : 0));
    if (!stopped && !slot->killed_by_us)
        ld_metrics_add(supervisor->config.metrics,
                       WIFSIGNALED(status) ? LD_COUNT_DEATHS_SIGNAL : LD_COUNT_DEATHS_EXIT, 1);
    ld_metrics_add(supervisor->config.metrics, LD_COUNT_JOBS_REQUEUED, slot->job_count);
    orphan_jobs(supervisor, slot, explained && !stopped);
    if (!ld_supervisor_settle_orphans(supervisor))
        supervisor->retry_at_us = now_us + 1000000;
    slot->restarts++;
    slot->jobs_max = 0;
    /* What cannot start at all (no model, no memory) is tried again ever more rarely; the breaker
     * is for workers that start and die. A kill from outside is neither. */
    if (never_ready || explained)
        slot->quick_deaths++;
    else
        slot->quick_deaths = 0;
    if (explained && !never_ready && !slot->lease_expired && !stopped)
        note_death(slot, now_us);
    if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_CONFIG && slot->quick_deaths < 5)
        slot->quick_deaths = 5; /* it will not get better within a second */
    slot->start_at_us = now_us + (slot->quick_deaths ? backoff_us(slot->quick_deaths) : 0);
    if (slot->disabled)
        LD_LOG(LD_LOG_ERROR, "supervisor", "worker disabled: it died five times in ten minutes",
               ld_log_int("worker", slot->index));
    ld_supervisor_plans_lost(supervisor, slot->index);
}
