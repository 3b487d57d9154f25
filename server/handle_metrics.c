/*
 * GET /metrics: what was counted (metrics.c), and what is looked up now: queue, workers, streams,
 * memory and descriptors of the processes. Counts only, nothing that a user wrote.
 */
#include "server/handlers.h"

#include "runtime/base/clock.h"
#include "server/front.h"

#include <dirent.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

static void gauge(struct ld_buffer *out, const char *name, const char *help, double value)
{
    ld_metrics_head(out, name, "gauge", help);
    ld_metrics_sample(out, name, "", value);
}

/* Resident bytes of a process (proc(5), statm: the second number, in pages); 0 if it is gone. */
static uint64_t resident_bytes(pid_t pid)
{
    char path[64];
    char text[128];
    uint64_t pages = 0;
    FILE *file =
        ld_fmt(path, sizeof path, "/proc/%lld/statm", (long long)pid) ? fopen(path, "re") : NULL;
    if (!file)
        return 0;
    if (fgets(text, sizeof text, file)) {
        const char *second = strchr(text, ' ');
        const size_t size = second ? strcspn(second + 1, " \n") : 0;
        if (!second || !ld_parse_u64(ld_span_of(second + 1, size), &pages))
            pages = 0;
    }
    (void)fclose(file);
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static uint64_t open_descriptors(void)
{
    uint64_t count = 0;
    DIR *folder = opendir("/proc/self/fd");
    if (!folder)
        return 0;
    while (readdir(folder))
        count++;
    (void)closedir(folder);
    return count > 3 ? count - 3 : 0; /* ".", "..", and the folder's own */
}

static void write_queue(struct ld_front *front, struct ld_buffer *out)
{
    struct ld_store_queue queue = {0};
    struct ld_error err = {0};
    const bool known = ld_store_queue(front->store, &queue, &err) == LD_OK;
    gauge(out, "latentd_store_up", "Whether the job store can be used", known ? 1 : 0);
    if (!known)
        return;
    ld_metrics_head(out, "latentd_queue_jobs", "gauge", "Jobs in the store that have not ended");
    ld_metrics_sample(out, "latentd_queue_jobs", "state=\"queued\"", (double)queue.queued);
    ld_metrics_sample(out, "latentd_queue_jobs", "state=\"running\"", (double)queue.running);
    const int64_t age_us =
        queue.oldest_queued_us > 0 ? ld_clock_wall_us() - queue.oldest_queued_us : 0;
    gauge(out, "latentd_queue_oldest_age_seconds", "Age of the oldest waiting job",
          age_us > 0 ? (double)age_us / 1e6 : 0);
}

static void write_workers(struct ld_front *front, struct ld_buffer *out)
{
    struct ld_supervisor_status workers;
    ld_supervisor_status_get(front->supervisor, &workers);
    ld_metrics_head(out, "latentd_workers", "gauge", "Worker processes by state");
    ld_metrics_sample(out, "latentd_workers", "state=\"configured\"", workers.workers);
    ld_metrics_sample(out, "latentd_workers", "state=\"ready\"", workers.ready);
    ld_metrics_sample(out, "latentd_workers", "state=\"disabled\"", workers.disabled);
    ld_metrics_head(out, "latentd_worker_restarts_total", "counter",
                    "Worker processes that had to be replaced");
    ld_metrics_sample(out, "latentd_worker_restarts_total", "", (double)workers.restarts);
    ld_metrics_head(out, "latentd_worker_resident_bytes", "gauge",
                    "Resident memory of a worker process");
    for (uint32_t i = 0; i < workers.workers; i++) {
        char labels[32];
        (void)ld_fmt(labels, sizeof labels, "worker=\"%u\"", i);
        ld_metrics_sample(out, "latentd_worker_resident_bytes", labels,
                          workers.pids[i] > 0 ? (double)resident_bytes(workers.pids[i]) : 0);
    }
}

static void write_process(struct ld_front *front, struct ld_buffer *out)
{
    struct timespec cpu = {0};
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
    ld_metrics_head(out, "process_cpu_seconds_total", "counter", "CPU time of the front");
    ld_metrics_sample(out, "process_cpu_seconds_total", "",
                      (double)cpu.tv_sec + (double)cpu.tv_nsec / 1e9);
    gauge(out, "process_resident_memory_bytes", "Resident memory of the front",
          (double)resident_bytes(getpid()));
    gauge(out, "process_open_fds", "Open descriptors of the front", (double)open_descriptors());
    gauge(out, "process_start_time_seconds", "When the front was started, since 1970",
          (double)front->started_us / 1e6);
}

enum ld_handled ld_handle_metrics(struct ld_exchange *ex)
{
    struct ld_front *front = ex->front;
    struct ld_buffer *out = &ex->reply.body;
    ld_metrics_write(front->metrics, out);
    write_queue(front, out);
    write_workers(front, out);
    gauge(out, "latentd_sse_clients", "Open event streams",
          (double)ld_event_hub_followers(front->hub, NULL));
    gauge(out, "latentd_disk_free_bytes", "Free space where pictures are stored",
          (double)ld_blobs_disk_free(front->blobs));
    gauge(out, "latentd_draining", "1 while the server ends its work",
          atomic_load(&front->draining) ? 1 : 0);
    write_process(front, out);
    ex->reply.status = 200;
    ex->reply.content_type = "text/plain; version=0.0.4; charset=utf-8";
    ld_exchange_set_header(ex, "Cache-Control", "no-store");
    return LD_HANDLED;
}
