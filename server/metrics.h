/*
 * What the front counts, and the text that Prometheus reads (exposition format 0.0.4). Counting is
 * one atomic addition; nothing here waits or allocates. No name or label ever holds text of a user,
 * a key, an address or a path as it was sent: routes are named by their pattern.
 *
 *     ld_metrics_add(metrics, LD_COUNT_JOBS_OK, 1);
 *     ld_metrics_observe(metrics, LD_TIME_QUEUE_WAIT, waited_us);
 */
#ifndef LD_SERVER_METRICS_H
#define LD_SERVER_METRICS_H

#include "runtime/base/buffer.h"
#include "runtime/base/error.h"
#include "runtime/ipc/stats.h"
#include "server/router.h"

#ifdef __cplusplus
extern "C" {
#endif

enum ld_count {
    LD_COUNT_SUBMITTED_TEXT, /* jobs taken into the queue, by what they start from */
    LD_COUNT_SUBMITTED_IMAGE,
    LD_COUNT_SUBMITTED_MASK,
    LD_COUNT_SUBMITTED_UPSCALE,
    LD_COUNT_REJECTED_QUEUE,  /* refused for a full queue */
    LD_COUNT_REJECTED_MEMORY, /* or as no worker's device can hold the picture */
    LD_COUNT_REJECTED_DISK,   /* or as the disk is full */
    LD_COUNT_REPLAYED,        /* answered from an idempotency key */
    LD_COUNT_JOBS_OK,
    LD_COUNT_JOBS_FAILED,
    LD_COUNT_JOBS_CANCELLED,
    LD_COUNT_JOBS_REQUEUED, /* runs that were given back to the queue */
    LD_COUNT_LEASES_LOST,   /* results that came too late */
    LD_COUNT_IMAGES,
    LD_COUNT_IMAGE_BYTES,
    LD_COUNT_DEATHS_SIGNAL, /* workers that ended, by how */
    LD_COUNT_DEATHS_EXIT,
    LD_COUNT_DEATHS_KILLED_HANG,
    LD_COUNT_DEATHS_KILLED_SILENT,
    LD_COUNT_DEATHS_KILLED_FRAMES,
    LD_COUNT_FAULTS_DEVICE, /* reported by workers, by kind */
    LD_COUNT_FAULTS_GPU_NOMEM,
    LD_COUNT_FAULTS_NUMERICAL,
    LD_COUNT_FAULTS_OTHER,
    LD_COUNT_STORAGE_WAITS, /* results held for a full disk */
    LD_COUNT_WEBHOOKS_OK,
    LD_COUNT_WEBHOOKS_FAILED,
    LD_COUNT_WEBHOOKS_DROPPED,
    LD_COUNT_COUNT
};

enum ld_time {
    LD_TIME_QUEUE_WAIT, /* from submit to the claim that ran */
    LD_TIME_TEXT,
    LD_TIME_SAMPLE,
    LD_TIME_DECODE,
    LD_TIME_ENCODE,
    LD_TIME_COUNT
};

struct ld_metrics;

/* For the routes of `routes` (borrowed), which requests are counted by. Errors   LD_E_NOMEM. */
enum ld_code ld_metrics_create(struct ld_metrics **metrics, const struct ld_route *routes,
                               uint32_t route_count, struct ld_error *err) LD_MUST_USE;
void ld_metrics_destroy(struct ld_metrics *metrics);

/* All of these: any thread; `metrics` NULL does nothing. */
void ld_metrics_add(struct ld_metrics *metrics, enum ld_count count, uint64_t amount);
void ld_metrics_observe(struct ld_metrics *metrics, enum ld_time time, int64_t spent_us);
/* One reply; `route` NULL: nothing was found at the path. */
void ld_metrics_request(struct ld_metrics *metrics, const struct ld_route *route, int status,
                        int64_t spent_us);
/*
 * A worker's table. `before` is what it said last time (zeroed for a new process) and becomes
 * `now`; the difference is added. A value that went back counts from nothing.
 */
void ld_metrics_take_stats(struct ld_metrics *metrics, uint64_t before[LD_STAT_COUNT],
                           const uint64_t now[LD_STAT_COUNT]);

uint64_t ld_metrics_count(const struct ld_metrics *metrics, enum ld_count count);

/* Everything above as text. */
void ld_metrics_write(const struct ld_metrics *metrics, struct ld_buffer *out);

/* ---- For gauges that are looked up when they are asked for ------------------------------------ */

/* "# HELP" and "# TYPE" of a metric, then its samples: `labels` without braces, "" for none. */
void ld_metrics_head(struct ld_buffer *out, const char *name, const char *type, const char *help);
void ld_metrics_sample(struct ld_buffer *out, const char *name, const char *labels, double value);

#ifdef __cplusplus
}
#endif
#endif
