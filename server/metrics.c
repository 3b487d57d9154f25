#include "server/metrics.h"

#include "api/dialect.h"
#include "runtime/base/arena.h"

#include <stdatomic.h>

/* Upper bounds in microseconds, of requests (api.md 5) and of a job's stages. */
static const int64_t request_us[] = {5000,     10000,    25000,    50000,    100000,
                                     250000,   500000,   1000000,  2500000,  5000000,
                                     10000000, 30000000, 60000000, 120000000};
enum { TIME_BUCKETS = sizeof request_us / sizeof request_us[0] };

/* Every status that a reply can have; what is not here counts as the last one. */
static const int statuses[] = {101, 200, 201, 202, 204, 206, 304, 400, 401, 403,
                               404, 405, 409, 410, 411, 413, 414, 415, 416, 417,
                               422, 429, 431, 500, 501, 503, 505, 507, 0};
enum { STATUS_COUNT = sizeof statuses / sizeof statuses[0] };

struct histogram {
    atomic_uint_least64_t buckets[TIME_BUCKETS + 1];
    atomic_uint_least64_t sum_us;
};

struct route_counts {
    atomic_uint_least64_t by_status[STATUS_COUNT];
    struct histogram spent;
};

struct ld_metrics {
    const struct ld_route *routes;
    uint32_t route_count;
    struct route_counts *requests; /* [route_count + 1]; the last is "no route" */
    atomic_uint_least64_t counts[LD_COUNT_COUNT];
    struct histogram times[LD_TIME_COUNT];
    atomic_uint_least64_t stats[LD_STAT_COUNT];
};

/* Rows of one metric stand together: the format wants them so. */
static const struct {
    const char *name, *labels, *help;
} count_rows[LD_COUNT_COUNT] = {
    [LD_COUNT_SUBMITTED_TEXT] = {"latentd_jobs_submitted_total", "kind=\"txt2img\"",
                                 "Jobs taken into the queue"},
    [LD_COUNT_SUBMITTED_IMAGE] = {"latentd_jobs_submitted_total", "kind=\"img2img\"", ""},
    [LD_COUNT_SUBMITTED_MASK] = {"latentd_jobs_submitted_total", "kind=\"inpaint\"", ""},
    [LD_COUNT_SUBMITTED_UPSCALE] = {"latentd_jobs_submitted_total", "kind=\"upscale\"", ""},
    [LD_COUNT_REJECTED_QUEUE] = {"latentd_jobs_rejected_total", "reason=\"queue_full\"",
                                 "Jobs refused for what the server has no room for"},
    [LD_COUNT_REJECTED_MEMORY] = {"latentd_jobs_rejected_total", "reason=\"gpu_out_of_memory\"",
                                  ""},
    [LD_COUNT_REJECTED_DISK] = {"latentd_jobs_rejected_total", "reason=\"storage_full\"", ""},
    [LD_COUNT_REPLAYED] = {"latentd_jobs_replayed_total", "",
                           "Submits answered from their Idempotency-Key"},
    [LD_COUNT_JOBS_OK] = {"latentd_jobs_finished_total", "outcome=\"ok\"", "Jobs that have ended"},
    [LD_COUNT_JOBS_FAILED] = {"latentd_jobs_finished_total", "outcome=\"failed\"", ""},
    [LD_COUNT_JOBS_CANCELLED] = {"latentd_jobs_finished_total", "outcome=\"cancelled\"", ""},
    [LD_COUNT_JOBS_REQUEUED] = {"latentd_jobs_requeued_total", "",
                                "Runs given back to the queue by a worker's end"},
    [LD_COUNT_LEASES_LOST] = {"latentd_leases_lost_total", "", "Results dropped as too late"},
    [LD_COUNT_IMAGES] = {"latentd_images_total", "", "Pictures stored"},
    [LD_COUNT_IMAGE_BYTES] = {"latentd_image_bytes_total", "", "Bytes of the pictures stored"},
    [LD_COUNT_DEATHS_SIGNAL] = {"latentd_worker_deaths_total", "how=\"signal\"",
                                "Worker processes that have ended"},
    [LD_COUNT_DEATHS_EXIT] = {"latentd_worker_deaths_total", "how=\"exit\"", ""},
    [LD_COUNT_DEATHS_KILLED_HANG] = {"latentd_worker_deaths_total", "how=\"hang\"", ""},
    [LD_COUNT_DEATHS_KILLED_SILENT] = {"latentd_worker_deaths_total", "how=\"silent\"", ""},
    [LD_COUNT_DEATHS_KILLED_FRAMES] = {"latentd_worker_deaths_total", "how=\"bad_frames\"", ""},
    [LD_COUNT_FAULTS_DEVICE] = {"latentd_gpu_errors_total", "kind=\"device\"",
                                "Faults that workers or their jobs have reported"},
    [LD_COUNT_FAULTS_GPU_NOMEM] = {"latentd_gpu_errors_total", "kind=\"out_of_memory\"", ""},
    [LD_COUNT_FAULTS_NUMERICAL] = {"latentd_gpu_errors_total", "kind=\"numerical\"", ""},
    [LD_COUNT_FAULTS_OTHER] = {"latentd_gpu_errors_total", "kind=\"other\"", ""},
    [LD_COUNT_STORAGE_WAITS] = {"latentd_results_waited_total", "",
                                "Results that were held because the store could not take them"},
    [LD_COUNT_WEBHOOKS_OK] = {"latentd_webhooks_total", "outcome=\"ok\"",
                              "Webhook calls that ended"},
    [LD_COUNT_WEBHOOKS_FAILED] = {"latentd_webhooks_total", "outcome=\"failed\"", ""},
    [LD_COUNT_WEBHOOKS_DROPPED] = {"latentd_webhooks_total", "outcome=\"dropped\"", ""},
};

static const struct {
    const char *name, *labels, *help;
} time_rows[LD_TIME_COUNT] = {
    [LD_TIME_QUEUE_WAIT] = {"latentd_queue_wait_seconds", "",
                            "From submit to the start of the job"},
    [LD_TIME_TEXT] = {"latentd_job_stage_seconds", "stage=\"text\"", "Time of a job by stage"},
    [LD_TIME_SAMPLE] = {"latentd_job_stage_seconds", "stage=\"denoise\"", ""},
    [LD_TIME_DECODE] = {"latentd_job_stage_seconds", "stage=\"vae\"", ""},
    [LD_TIME_ENCODE] = {"latentd_job_stage_seconds", "stage=\"png\"", ""},
};

static const struct {
    enum ld_stat stat;
    const char *name, *labels, *help;
    bool microseconds;
} stat_rows[] = {
    {LD_STAT_CONTEXT_HITS, "latentd_text_contexts_total", "result=\"shared\"",
     "Texts that were found encoded, and texts that were encoded", false},
    {LD_STAT_CONTEXT_MISSES, "latentd_text_contexts_total", "result=\"encoded\"", "", false},
    {LD_STAT_JOBS_JOINED, "latentd_jobs_joined_total", "",
     "Jobs that took the result of an equal one in flight", false},
    {LD_STAT_MODEL_LOADS, "latentd_model_loads_total", "", "Models loaded", false},
    {LD_STAT_MODEL_LOAD_US, "latentd_model_load_seconds_total", "", "Time spent loading models",
     true},
    {LD_STAT_VARIANT_HITS, "latentd_lora_cache_hits_total", "", "Adapter sets found merged", false},
    {LD_STAT_VARIANT_MISSES, "latentd_lora_cache_misses_total", "", "Adapter sets merged", false},
    {LD_STAT_PASSES_SHRUNK, "latentd_batch_shrunk_total", "",
     "Passes that found too little GPU memory and came again smaller", false},
};

enum ld_code ld_metrics_create(struct ld_metrics **out, const struct ld_route *routes,
                               uint32_t route_count, struct ld_error *err)
{
    struct ld_metrics *metrics = ld_heap_alloc(sizeof *metrics);
    *out = NULL;
    if (metrics)
        metrics->requests = ld_heap_calloc((size_t)route_count + 1, sizeof *metrics->requests);
    if (!metrics || !metrics->requests) {
        ld_heap_free(metrics);
        return LD_FAIL(err, LD_E_NOMEM, "out of memory");
    }
    metrics->routes = routes;
    metrics->route_count = route_count;
    *out = metrics;
    return LD_OK;
}

void ld_metrics_destroy(struct ld_metrics *metrics)
{
    if (!metrics)
        return;
    ld_heap_free(metrics->requests);
    ld_heap_free(metrics);
}

/* ---- Counting -------------------------------------------------------------------------------- */

static void add(atomic_uint_least64_t *place, uint64_t amount)
{
    atomic_fetch_add_explicit(place, amount, memory_order_relaxed);
}

static uint64_t look(const atomic_uint_least64_t *place)
{
    return atomic_load_explicit(place, memory_order_relaxed);
}

static void observe(struct histogram *histogram, int64_t spent_us)
{
    size_t bucket = 0;
    if (spent_us < 0) /* the wall clock may have been set back */
        spent_us = 0;
    while (bucket < TIME_BUCKETS && spent_us > request_us[bucket])
        bucket++;
    add(&histogram->buckets[bucket], 1);
    add(&histogram->sum_us, (uint64_t)spent_us);
}

void ld_metrics_add(struct ld_metrics *metrics, enum ld_count count, uint64_t amount)
{
    if (metrics)
        add(&metrics->counts[count], amount);
}

void ld_metrics_observe(struct ld_metrics *metrics, enum ld_time time, int64_t spent_us)
{
    if (metrics)
        observe(&metrics->times[time], spent_us);
}

void ld_metrics_request(struct ld_metrics *metrics, const struct ld_route *route, int status,
                        int64_t spent_us)
{
    size_t at = 0;
    if (!metrics)
        return;
    const size_t index = route && route >= metrics->routes ? (size_t)(route - metrics->routes)
                                                           : metrics->route_count;
    struct route_counts *counts =
        &metrics->requests[index < metrics->route_count ? index : metrics->route_count];
    while (at < STATUS_COUNT - 1 && statuses[at] != status)
        at++;
    add(&counts->by_status[at], 1);
    observe(&counts->spent, spent_us);
}

void ld_metrics_take_stats(struct ld_metrics *metrics, uint64_t before[LD_STAT_COUNT],
                           const uint64_t now[LD_STAT_COUNT])
{
    for (size_t i = 0; i < LD_STAT_COUNT; i++) {
        if (metrics)
            add(&metrics->stats[i], now[i] >= before[i] ? now[i] - before[i] : now[i]);
        before[i] = now[i];
    }
}

uint64_t ld_metrics_count(const struct ld_metrics *metrics, enum ld_count count)
{
    return look(&metrics->counts[count]);
}

/* ---- Text ------------------------------------------------------------------------------------ */

void ld_metrics_head(struct ld_buffer *out, const char *name, const char *type, const char *help)
{
    ld_buffer_format(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

void ld_metrics_sample(struct ld_buffer *out, const char *name, const char *labels, double value)
{
    ld_buffer_format(out, "%s%s%s%s ", name, labels[0] ? "{" : "", labels, labels[0] ? "}" : "");
    ld_buffer_json_double(out, value);
    ld_buffer_byte(out, '\n');
}

static void sample_u64(struct ld_buffer *out, const char *name, const char *labels, uint64_t value)
{
    ld_buffer_format(out, "%s%s%s%s %llu\n", name, labels[0] ? "{" : "", labels,
                     labels[0] ? "}" : "", (unsigned long long)value);
}

static void bucket_line(struct ld_buffer *out, const char *name, const char *labels,
                        const char *bound, uint64_t value)
{
    ld_buffer_format(out, "%s_bucket{%s%sle=\"%s\"} %llu\n", name, labels, labels[0] ? "," : "",
                     bound, (unsigned long long)value);
}

static void seconds_text(int64_t us, char out[32])
{
    (void)ld_fmt(out, 32, "%g", (double)us / 1e6);
}

/* _sum and _count of a histogram. */
static void totals(struct ld_buffer *out, const char *name, const char *labels, double sum,
                   uint64_t count)
{
    char full[128];
    if (ld_fmt(full, sizeof full, "%s_sum", name))
        ld_metrics_sample(out, full, labels, sum);
    if (ld_fmt(full, sizeof full, "%s_count", name))
        sample_u64(out, full, labels, count);
}

static void write_histogram(struct ld_buffer *out, const char *name, const char *labels,
                            const struct histogram *histogram)
{
    uint64_t so_far = 0;
    for (size_t i = 0; i < TIME_BUCKETS; i++) {
        char bound[32];
        seconds_text(request_us[i], bound);
        so_far += look(&histogram->buckets[i]);
        bucket_line(out, name, labels, bound, so_far);
    }
    so_far += look(&histogram->buckets[TIME_BUCKETS]);
    bucket_line(out, name, labels, "+Inf", so_far);
    totals(out, name, labels, (double)look(&histogram->sum_us) / 1e6, so_far);
}

static const char *dialect_of(const char *pattern)
{
    static const char *const names[] = {"native", "a1111", "openai", "novelai", "comfyui"};
    const unsigned dialect = (unsigned)ld_dialect_of_path(pattern);
    return dialect < sizeof names / sizeof names[0] ? names[dialect] : "other";
}

static void write_requests(const struct ld_metrics *metrics, struct ld_buffer *out)
{
    static const char requests[] = "latentd_http_requests_total";
    static const char spent[] = "latentd_http_request_duration_seconds";
    for (int histogram = 0; histogram < 2; histogram++) {
        if (histogram)
            ld_metrics_head(out, spent, "histogram", "From a request's first line to its reply");
        else
            ld_metrics_head(out, requests, "counter", "Replies by route and status");
        for (uint32_t i = 0; i <= metrics->route_count; i++) {
            const bool known = i < metrics->route_count;
            const struct route_counts *counts = &metrics->requests[i];
            char labels[256];
            bool any = false;
            if (!ld_fmt(labels, sizeof labels, "route=\"%s\",method=\"%s\",dialect=\"%s\"",
                        known ? metrics->routes[i].pattern : "none",
                        known ? metrics->routes[i].method : "any",
                        known ? dialect_of(metrics->routes[i].pattern) : "none"))
                continue;
            for (size_t s = 0; s < STATUS_COUNT; s++) {
                char with_code[300];
                const uint64_t value = look(&counts->by_status[s]);
                any = any || value > 0;
                if (value > 0 && !histogram &&
                    ld_fmt(with_code, sizeof with_code, "%s,code=\"%d\"", labels, statuses[s]))
                    sample_u64(out, requests, with_code, value);
            }
            if (any && histogram)
                write_histogram(out, spent, labels, &counts->spent);
        }
    }
}

static void write_passes(const struct ld_metrics *metrics, struct ld_buffer *out)
{
    static const char name[] = "latentd_denoise_step_seconds";
    static const char *const sizes[LD_STATS_SIZES] = {"<=512x512", "<=1024x1024", ">1024x1024"};
    uint64_t by_batch[LD_STATS_BATCHES] = {0};
    ld_metrics_head(out, name, "histogram", "One pass of the denoiser by picture size and rows");
    for (size_t size = 0; size < LD_STATS_SIZES; size++) {
        for (size_t batch = 0; batch < LD_STATS_BATCHES; batch++) {
            char labels[80];
            uint64_t so_far = 0;
            (void)ld_fmt(labels, sizeof labels, "bucket=\"%s\",batch=\"%s%u\"", sizes[size],
                         batch > 1 ? "<=" : "", ld_stats_batch_max[batch]);
            for (size_t i = 0; i < LD_STATS_BUCKETS; i++)
                so_far += look(&metrics->stats[ld_stat_pass_bucket(size, batch, i)]);
            by_batch[batch] += so_far;
            if (so_far == 0)
                continue;
            so_far = 0;
            for (size_t i = 0; i < LD_STATS_BUCKETS; i++) {
                char bound[32] = "+Inf";
                if (i < LD_STATS_BUCKETS - 1)
                    seconds_text(ld_stats_bucket_us[i], bound);
                so_far += look(&metrics->stats[ld_stat_pass_bucket(size, batch, i)]);
                bucket_line(out, name, labels, bound, so_far);
            }
            totals(out, name, labels,
                   (double)look(&metrics->stats[ld_stat_pass_us(size, batch)]) / 1e6, so_far);
        }
    }
    ld_metrics_head(out, "latentd_batch_size", "histogram", "Rows of a pass");
    uint64_t passes = 0;
    for (size_t batch = 0; batch < LD_STATS_BATCHES; batch++) {
        char bound[16];
        (void)ld_fmt(bound, sizeof bound, "%u", ld_stats_batch_max[batch]);
        passes += by_batch[batch];
        bucket_line(out, "latentd_batch_size", "", bound, passes);
    }
    bucket_line(out, "latentd_batch_size", "", "+Inf", passes);
    totals(out, "latentd_batch_size", "", (double)look(&metrics->stats[LD_STAT_ROWS]), passes);
}

void ld_metrics_write(const struct ld_metrics *metrics, struct ld_buffer *out)
{
    const char *last = "";
    ld_metrics_head(out, "latentd_build_info", "gauge", "Always 1; the version is in the label");
    ld_metrics_sample(out, "latentd_build_info", "version=\"" LATENTD_VERSION "\"", 1);
    write_requests(metrics, out);
    for (size_t i = 0; i < LD_COUNT_COUNT; i++) {
        if (strcmp(count_rows[i].name, last) != 0)
            ld_metrics_head(out, count_rows[i].name, "counter", count_rows[i].help);
        last = count_rows[i].name;
        sample_u64(out, last, count_rows[i].labels, look(&metrics->counts[i]));
    }
    for (size_t i = 0; i < LD_TIME_COUNT; i++) {
        if (strcmp(time_rows[i].name, last) != 0)
            ld_metrics_head(out, time_rows[i].name, "histogram", time_rows[i].help);
        last = time_rows[i].name;
        write_histogram(out, last, time_rows[i].labels, &metrics->times[i]);
    }
    for (size_t i = 0; i < sizeof stat_rows / sizeof stat_rows[0]; i++) {
        const uint64_t value = look(&metrics->stats[stat_rows[i].stat]);
        if (strcmp(stat_rows[i].name, last) != 0)
            ld_metrics_head(out, stat_rows[i].name, "counter", stat_rows[i].help);
        last = stat_rows[i].name;
        if (stat_rows[i].microseconds)
            ld_metrics_sample(out, last, stat_rows[i].labels, (double)value / 1e6);
        else
            sample_u64(out, last, stat_rows[i].labels, value);
    }
    write_passes(metrics, out);
}
