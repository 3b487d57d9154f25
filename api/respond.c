#include "api/respond.h"

#include "api/base64.h"

#include <time.h>

/* ---- Names ----------------------------------------------------------------------------------- */

static const char *const status_names[LD_JOB_STATUS_COUNT] = {
    "queued", "running", "succeeded", "failed", "cancelling", "cancelled", "expired",
};

const char *ld_job_status_name(enum ld_job_status status)
{
    LD_ASSERT((unsigned)status < LD_JOB_STATUS_COUNT);
    return status_names[status];
}

bool ld_job_status_find(const char *name, enum ld_job_status *out)
{
    for (int i = 0; i < LD_JOB_STATUS_COUNT; i++) {
        if (strcmp(status_names[i], name) == 0) {
            *out = (enum ld_job_status)i;
            return true;
        }
    }
    return false;
}

bool ld_job_status_is_final(enum ld_job_status status)
{
    return status == LD_JOB_SUCCEEDED || status == LD_JOB_FAILED || status == LD_JOB_CANCELLED ||
           status == LD_JOB_EXPIRED;
}

void ld_time_text(int64_t us, char *out, size_t out_size)
{
    int64_t seconds = us / 1000000;
    int64_t rest = us % 1000000;
    if (rest < 0) {
        rest += 1000000;
        seconds--;
    }
    const time_t when = (time_t)seconds;
    struct tm parts = {0};
    char date[32];
    if (!gmtime_r(&when, &parts) || strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%S", &parts) == 0)
        date[0] = '\0';
    (void)ld_fmt(out, out_size, "%s.%03dZ", date, (int)(rest / 1000));
}

/* ---- Pieces ---------------------------------------------------------------------------------- */

/* `,"key":"text"`, nothing for an absent text. */
static void put_text(struct ld_buffer *out, const char *key, const char *text)
{
    if (!text || !text[0])
        return;
    ld_buffer_format(out, ",\"%s\":", key);
    ld_buffer_json_string(out, text);
}

static void put_number(struct ld_buffer *out, const char *key, double value)
{
    ld_buffer_format(out, ",\"%s\":", key);
    ld_buffer_json_double(out, value);
}

static void put_integer(struct ld_buffer *out, const char *key, int64_t value)
{
    ld_buffer_format(out, ",\"%s\":%lld", key, (long long)value);
}

static void put_bool(struct ld_buffer *out, const char *key, bool value)
{
    ld_buffer_format(out, ",\"%s\":%s", key, value ? "true" : "false");
}

/* JSON that is trusted to be JSON: our own canonical text or the worker's checked report. */
static void put_json(struct ld_buffer *out, const char *key, const char *json, const char *absent)
{
    ld_buffer_format(out, ",\"%s\":", key);
    ld_buffer_text(out, json && json[0] ? json : absent);
}

static void put_time(struct ld_buffer *out, const char *key, int64_t us)
{
    char text[40];
    if (us == 0)
        return;
    ld_time_text(us, text, sizeof text);
    put_text(out, key, text);
}

/* "a, b" becomes ["a","b"]. */
static void put_names(struct ld_buffer *out, const char *key, const char *names)
{
    ld_buffer_format(out, ",\"%s\":[", key);
    bool first = true;
    for (const char *rest = names ? names : ""; *rest;) {
        const size_t size = strcspn(rest, ",");
        const char *begin = rest;
        size_t length = size;
        while (length > 0 && *begin == ' ') {
            begin++;
            length--;
        }
        while (length > 0 && begin[length - 1] == ' ')
            length--;
        if (length > 0) {
            if (!first)
                ld_buffer_byte(out, ',');
            ld_buffer_json_span(out, ld_span_of(begin, length));
            first = false;
        }
        rest += size + (rest[size] ? 1 : 0);
    }
    ld_buffer_byte(out, ']');
}

/* Seeds above 2^63-1 are strings, as in requests. */
static void put_seed(struct ld_buffer *out, uint64_t seed)
{
    ld_buffer_format(out, seed > (uint64_t)INT64_MAX ? ",\"seed\":\"%llu\"" : ",\"seed\":%llu",
                     (unsigned long long)seed);
}

/* ---- Jobs ------------------------------------------------------------------------------------ */

static void write_progress(const struct ld_progress_view *progress, struct ld_buffer *out)
{
    ld_buffer_format(out, "{\"image\":%u,\"images\":%u,\"step\":%u,\"steps\":%u", progress->image,
                     progress->images, progress->step, progress->steps);
    put_number(out, "fraction", progress->fraction);
    put_text(out, "phase", progress->phase);
    ld_buffer_byte(out, '}');
}

static void write_image(const char *job_id, const struct ld_image_view *image,
                        struct ld_buffer *out)
{
    ld_buffer_format(out, "{\"index\":%u,\"url\":\"/v1/jobs/%s/images/%u\"", image->index, job_id,
                     image->index);
    put_integer(out, "width", image->width);
    put_integer(out, "height", image->height);
    put_seed(out, image->seed);
    put_text(out, "sha256", image->sha256);
    put_integer(out, "bytes", (int64_t)image->bytes);
    put_text(out, "type", ld_picture_kind_type(image->kind));
    if (image->partial)
        put_bool(out, "partial", true);
    ld_buffer_byte(out, '}');
}

static void write_timings(const struct ld_timings_view *timings, struct ld_buffer *out)
{
    const struct {
        const char *key;
        double value;
    } items[] = {
        {"queue_ms", timings->queue_ms},   {"text_ms", timings->text_ms},
        {"sample_ms", timings->sample_ms}, {"decode_ms", timings->decode_ms},
        {"encode_ms", timings->encode_ms}, {"gpu_ms", timings->gpu_ms},
    };
    bool first = true;
    ld_buffer_text(out, ",\"timings\":{");
    for (size_t i = 0; i < sizeof items / sizeof items[0]; i++) {
        if (items[i].value < 0)
            continue;
        ld_buffer_format(out, "%s\"%s\":", first ? "" : ",", items[i].key);
        ld_buffer_json_double(out, items[i].value);
        first = false;
    }
    ld_buffer_byte(out, '}');
}

static void write_cells(const struct ld_job_view *job, struct ld_buffer *out)
{
    ld_buffer_text(out, ",\"cells\":[");
    for (uint32_t i = 0; i < job->cell_count; i++) {
        const struct ld_cell_view *cell = &job->cells[i];
        ld_buffer_format(out, "%s{\"index\":%u", i ? "," : "", i);
        put_text(out, "id", cell->id);
        put_text(out, "status", cell->id[0] ? ld_job_status_name(cell->status) : "deleted");
        ld_buffer_byte(out, '}');
    }
    ld_buffer_byte(out, ']');
}

void ld_respond_job(const struct ld_job_view *job, struct ld_buffer *out)
{
    ld_buffer_text(out, "{\"id\":");
    ld_buffer_json_string(out, job->id);
    put_text(out, "status", ld_job_status_name(job->status));
    put_time(out, "created_at", job->created_us);
    put_time(out, "started_at", job->started_us);
    put_time(out, "finished_at", job->finished_us);
    if (job->position >= 0)
        put_integer(out, "position", job->position);
    if (job->eta_ms >= 0)
        put_integer(out, "eta_ms", job->eta_ms);
    if (job->waits_for) {
        ld_buffer_text(out, ",\"waits_for\":{\"reason\":");
        ld_buffer_json_string(out, job->waits_for);
        put_integer(out, "own", job->own_ahead);
        put_integer(out, "others", job->position - job->own_ahead);
        ld_buffer_byte(out, '}');
    }
    ld_buffer_text(out, ",\"progress\":");
    write_progress(&job->progress, out);
    put_json(out, "request", job->request_json, "{}");
    ld_buffer_text(out, ",\"images\":[");
    for (uint32_t i = 0; i < job->image_count; i++) {
        if (i)
            ld_buffer_byte(out, ',');
        write_image(job->id, &job->images[i], out);
    }
    ld_buffer_byte(out, ']');
    write_timings(&job->timings, out);
    put_integer(out, "unet_rows", (int64_t)job->unet_rows);
    put_integer(out, "unet_rows_saved", (int64_t)job->unet_rows_saved);
    put_json(out, "adapters", job->adapters_json, "[]");
    put_json(out, "warnings", job->warnings_json, "[]");
    put_json(out, "numerics", job->numerics_json, "{}");
    put_integer(out, "repainted", (int64_t)job->repainted);
    if (job->error_code) {
        ld_buffer_text(out, ",\"error\":{\"code\":");
        ld_buffer_json_string(out, job->error_code);
        put_text(out, "detail", job->error_detail);
        ld_buffer_byte(out, '}');
    }
    put_text(out, "parent", job->parent);
    if (job->cell_count > 0)
        write_cells(job, out);
    ld_buffer_format(out,
                     ",\"links\":{\"self\":\"/v1/jobs/%s\",\"events\":\"/v1/jobs/%s/events\","
                     "\"cancel\":\"/v1/jobs/%s/cancel\"}}",
                     job->id, job->id, job->id);
}

void ld_respond_jobs(const struct ld_job_view *jobs, uint32_t count, const char *cursor,
                     struct ld_buffer *out)
{
    ld_buffer_text(out, "{\"jobs\":[");
    for (uint32_t i = 0; i < count; i++) {
        if (i)
            ld_buffer_byte(out, ',');
        ld_respond_job(&jobs[i], out);
    }
    ld_buffer_byte(out, ']');
    put_text(out, "next", cursor);
    ld_buffer_byte(out, '}');
}

/* ---- Lists ----------------------------------------------------------------------------------- */

/* `{"name":"..."` with a comma before all but the first. */
static void begin_item(struct ld_buffer *out, uint32_t index, const char *key, const char *name)
{
    ld_buffer_format(out, "%s{\"%s\":", index ? "," : "", key);
    ld_buffer_json_string(out, name);
}

void ld_respond_samplers(const struct ld_sampler_view *items, uint32_t count, struct ld_buffer *out)
{
    ld_buffer_text(out, "{\"samplers\":[");
    for (uint32_t i = 0; i < count; i++) {
        begin_item(out, i, "name", items[i].name);
        put_text(out, "label", items[i].label);
        put_names(out, "aliases", items[i].aliases);
        put_text(out, "hint", items[i].hint);
        put_integer(out, "evals_per_step", items[i].evals_per_step);
        put_bool(out, "ancestral", items[i].ancestral);
        ld_buffer_byte(out, '}');
    }
    ld_buffer_text(out, "]}");
}

void ld_respond_schedulers(const struct ld_scheduler_view *items, uint32_t count,
                           struct ld_buffer *out)
{
    ld_buffer_text(out, "{\"schedulers\":[");
    for (uint32_t i = 0; i < count; i++) {
        begin_item(out, i, "name", items[i].name);
        put_text(out, "label", items[i].label);
        put_names(out, "aliases", items[i].aliases);
        put_text(out, "hint", items[i].hint);
        ld_buffer_byte(out, '}');
    }
    ld_buffer_text(out, "]}");
}

void ld_respond_models(const struct ld_model_view *items, uint32_t count, struct ld_buffer *out)
{
    ld_buffer_text(out, "{\"object\":\"list\",\"data\":[");
    for (uint32_t i = 0; i < count; i++) {
        begin_item(out, i, "id", items[i].name);
        put_text(out, "object", "model");
        put_integer(out, "created", items[i].created_us / 1000000);
        put_text(out, "owned_by", "latentd");
        put_text(out, "name", items[i].name);
        put_text(out, "title", items[i].title);
        put_text(out, "kind", items[i].kind);
        put_text(out, "sha256", items[i].sha256);
        put_integer(out, "bytes", (int64_t)items[i].bytes);
        put_text(out, "prediction", items[i].prediction);
        put_text(out, "manifest", items[i].manifest);
        put_bool(out, "loaded", items[i].loaded);
        put_bool(out, "streamed", items[i].streamed);
        put_bool(out, "default", items[i].is_default);
        if (items[i].advice_json)
            put_json(out, "advice", items[i].advice_json, "{}");
        ld_buffer_byte(out, '}');
    }
    ld_buffer_text(out, "]}");
}

void ld_respond_adapters(const struct ld_adapter_view *items, uint32_t count, struct ld_buffer *out)
{
    ld_buffer_text(out, "{\"adapters\":[");
    for (uint32_t i = 0; i < count; i++) {
        begin_item(out, i, "name", items[i].name);
        put_text(out, "kind", items[i].kind);
        put_integer(out, "rank", items[i].rank);
        put_text(out, "recipe", items[i].recipe);
        ld_buffer_text(out, ",\"trigger_words\":[");
        for (uint32_t j = 0; j < items[i].trigger_word_count; j++) {
            if (j)
                ld_buffer_byte(out, ',');
            ld_buffer_json_string(out, items[i].trigger_words[j]);
        }
        ld_buffer_byte(out, ']');
        put_text(out, "sha256", items[i].sha256);
        put_integer(out, "bytes", (int64_t)items[i].bytes);
        ld_buffer_byte(out, '}');
    }
    ld_buffer_text(out, "]}");
}

void ld_respond_embeddings(const struct ld_embedding_view *items, uint32_t count,
                           struct ld_buffer *out)
{
    ld_buffer_text(out, "{\"embeddings\":[");
    for (uint32_t i = 0; i < count; i++) {
        begin_item(out, i, "name", items[i].name);
        put_integer(out, "vectors", items[i].vectors);
        put_integer(out, "width", items[i].width);
        put_text(out, "sha256", items[i].sha256);
        ld_buffer_byte(out, '}');
    }
    ld_buffer_text(out, "]}");
}

void ld_respond_controlnets(const struct ld_controlnet_view *items, uint32_t count,
                            struct ld_buffer *out)
{
    ld_buffer_text(out, "{\"controlnets\":[");
    for (uint32_t i = 0; i < count; i++) {
        begin_item(out, i, "name", items[i].name);
        put_text(out, "sha256", items[i].sha256);
        put_integer(out, "bytes", (int64_t)items[i].bytes);
        ld_buffer_byte(out, '}');
    }
    ld_buffer_text(out, "]}");
}

void ld_respond_resolutions(const struct ld_size_view *items, uint32_t count, struct ld_buffer *out)
{
    ld_buffer_text(out, "{\"resolutions\":[");
    for (uint32_t i = 0; i < count; i++) {
        ld_buffer_format(out, "%s{\"size\":\"%dx%d\",\"width\":%d,\"height\":%d", i ? "," : "",
                         items[i].width, items[i].height, items[i].width, items[i].height);
        put_text(out, "note", items[i].note);
        ld_buffer_byte(out, '}');
    }
    ld_buffer_text(out, "]}");
}

void ld_respond_plan(const struct ld_plan_view *plan, struct ld_buffer *out)
{
    const char *engine = plan->engine_json ? plan->engine_json : "";
    const size_t size = strlen(engine);
    ld_buffer_format(out, "{\"work_units\":%lld", (long long)plan->work_units);
    put_json(out, "request", plan->request_json, "{}");
    if (size > 2) { /* the members of its object become ours */
        ld_buffer_byte(out, ',');
        ld_buffer_bytes(out, engine + 1, size - 2);
    }
    if (plan->queue_eta_ms >= 0)
        put_integer(out, "queue_eta_ms", plan->queue_eta_ms);
    put_json(out, "warnings", plan->warnings_json, "[]");
    ld_buffer_byte(out, '}');
}

void ld_respond_upload(const struct ld_upload_view *upload, struct ld_buffer *out)
{
    begin_item(out, 0, "id", upload->id);
    put_text(out, "sha256", upload->sha256);
    put_integer(out, "width", upload->width);
    put_integer(out, "height", upload->height);
    ld_buffer_byte(out, '}');
}

/* ---- Events ---------------------------------------------------------------------------------- */

void ld_respond_event_status(const char *job_id, enum ld_job_status status, int64_t position,
                             struct ld_buffer *out)
{
    begin_item(out, 0, "job", job_id);
    put_text(out, "status", ld_job_status_name(status));
    if (position >= 0)
        put_integer(out, "position", position);
    ld_buffer_byte(out, '}');
}

void ld_respond_event_progress(const char *job_id, const struct ld_progress_view *progress,
                               int64_t eta_ms, struct ld_buffer *out)
{
    begin_item(out, 0, "job", job_id);
    ld_buffer_text(out, ",\"progress\":");
    write_progress(progress, out);
    if (eta_ms >= 0)
        put_integer(out, "eta_ms", eta_ms);
    ld_buffer_byte(out, '}');
}

void ld_respond_event_preview(const char *job_id, uint32_t image, uint32_t step,
                              const char *content_type, struct ld_span picture,
                              struct ld_buffer *out)
{
    begin_item(out, 0, "job", job_id);
    put_integer(out, "image", image);
    put_integer(out, "step", step);
    put_text(out, "type", content_type);
    ld_buffer_text(out, ",\"base64\":\"");
    ld_base64_encode(picture, out);
    ld_buffer_text(out, "\"}");
}

void ld_respond_event_image(const char *job_id, const struct ld_image_view *image,
                            struct ld_buffer *out)
{
    begin_item(out, 0, "job", job_id);
    ld_buffer_text(out, ",\"image\":");
    write_image(job_id, image, out);
    ld_buffer_byte(out, '}');
}

void ld_respond_event(uint64_t id, const char *name, const char *json, struct ld_buffer *out)
{
    ld_buffer_format(out, "id: %llu\nevent: %s\ndata: ", (unsigned long long)id, name);
    ld_buffer_text(out, json);
    ld_buffer_text(out, "\n\n");
}
