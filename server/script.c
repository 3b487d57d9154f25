#include "server/script.h"

#include "config/limits.h"
#include "runtime/base/clock.h"
#include "runtime/image/infotext.h"
#include "runtime/image/picture_upscale.h"
#include "runtime/image/picture_write.h"
#include "runtime/ipc/messages.h"
#include "runtime/ipc/stats.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum { WORD_MAX = 128, JOBS_MAX = 64 };

enum deed {
    DEED_NONE,
    DEED_CRASH,
    DEED_EXIT,
    DEED_HANG,
    DEED_SPIN,
    DEED_GARBAGE,
    DEED_FLOOD,
    DEED_LIE,
    DEED_KILL,
    DEED_FAIL
};

struct orders {
    int64_t step_ms, late_ms, repainted, memory_mib, scan_ms;
    bool scan_dies, tell_inputs;
    enum deed deed;
    int64_t at_step;
    enum ld_code code;
    char once[WORD_MAX];
};

struct script_job {
    bool used;
    uint64_t handle;
    struct ld_engine_job job;
    struct orders orders;
    uint32_t image, step, rows;
    int64_t began_us;
    bool cancelled, keep_partial;
};

struct script {
    struct orders defaults;
    int fd;
    uint64_t next_handle;
    struct script_job jobs[JOBS_MAX];
    uint32_t scans; /* each found one adapter more */
    bool news;
    struct ld_buffer inventory;
};

/* ---- Orders ---------------------------------------------------------------------------------- */

static bool number_after(const char *word, const char *name, int64_t *value)
{
    const size_t size = strlen(name);
    return strncmp(word, name, size) == 0 && ld_parse_i64(ld_span_text(word + size), value);
}

static enum ld_code code_named(const char *name)
{
    for (unsigned code = 0; code < LD_CODE_COUNT; code++) {
        if (strcmp(ld_code_name((enum ld_code)code), name) == 0)
            return (enum ld_code)code;
    }
    return LD_E_BUG;
}

static bool read_deed(struct orders *orders, const char *word)
{
    static const struct {
        const char *name;
        enum deed deed;
    } deeds[] = {{"crash@", DEED_CRASH}, {"exit@", DEED_EXIT},       {"hang@", DEED_HANG},
                 {"spin@", DEED_SPIN},   {"garbage@", DEED_GARBAGE}, {"flood@", DEED_FLOOD},
                 {"lie@", DEED_LIE},     {"kill@", DEED_KILL}};
    for (size_t i = 0; i < sizeof deeds / sizeof deeds[0]; i++) {
        if (number_after(word, deeds[i].name, &orders->at_step)) {
            orders->deed = deeds[i].deed;
            return true;
        }
    }
    const char *equals = strchr(word, '=');
    if (strncmp(word, "fail@", 5) != 0 || !equals ||
        !ld_parse_i64(ld_span_of(word + 5, (size_t)(equals - word - 5)), &orders->at_step))
        return false;
    orders->deed = DEED_FAIL;
    orders->code = code_named(equals + 1);
    return true;
}

static bool read_word(struct orders *orders, const char *word)
{
    if (number_after(word, "step_ms=", &orders->step_ms) ||
        number_after(word, "late_ms=", &orders->late_ms) ||
        number_after(word, "repainted=", &orders->repainted) ||
        number_after(word, "memory_mib=", &orders->memory_mib) ||
        number_after(word, "scan_ms=", &orders->scan_ms))
        return true;
    if (strcmp(word, "scan_dies") == 0)
        return orders->scan_dies = true;
    if (strcmp(word, "tell_inputs") == 0)
        return orders->tell_inputs = true;
    if (strncmp(word, "once=", 5) == 0)
        return ld_fmt(orders->once, sizeof orders->once, "%s", word + 5);
    return read_deed(orders, word);
}

/* Words that are no orders are somebody's tag. Returns how many were understood. */
static uint32_t read_orders(struct orders *orders, const char *text, uint32_t *others)
{
    uint32_t understood = 0;
    *others = 0;
    for (const char *at = text; *at;) {
        char word[WORD_MAX];
        at += strspn(at, " ");
        const size_t size = strcspn(at, " ");
        if (size > 0 && size < sizeof word) {
            memcpy(word, at, size);
            word[size] = '\0';
            if (read_word(orders, word))
                understood++;
            else
                *others += 1;
        }
        at += size;
    }
    return understood;
}

/* ---- Deeds ----------------------------------------------------------------------------------- */

static void send_raw(const struct script *script, const void *bytes, size_t size)
{
    (void)(send(script->fd, bytes, size, MSG_NOSIGNAL) > 0);
}

static void flood(const struct script *script)
{
    struct ld_error err;
    const struct ld_message_heartbeat beat = {1, 1};
    struct ld_buffer payload = ld_buffer_make(256);
    struct ld_buffer bytes = ld_buffer_make(4096);
    ld_message_heartbeat_encode(&payload, &beat);
    const struct ld_frame frame = {.type = LD_FRAME_HEARTBEAT,
                                   .payload = ld_span_of(payload.data, payload.size)};
    if (ld_frame_encode(&bytes, &frame, &err) != LD_OK)
        abort();
    for (;;)
        send_raw(script, bytes.data, bytes.size);
}

/* True if the job has been dealt with. */
static bool misbehave(struct script *script, struct script_job *job)
{
    const struct orders *orders = &job->orders;
    if (orders->deed == DEED_NONE || orders->deed == DEED_LIE || orders->at_step != job->step)
        return false;
    if (orders->once[0]) {
        const int fd = open(orders->once, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
        if (fd < 0)
            return false; /* done before */
        (void)close(fd);
    }
    struct ld_error err = {0};
    volatile uint64_t spun = 0;
    switch (orders->deed) {
    case DEED_CRASH:
        abort();
    case DEED_EXIT:
        _exit(3);
    case DEED_KILL:
        (void)kill(getpid(), SIGKILL);
        break;
    case DEED_HANG:
        for (;;)
            ld_clock_sleep_us(1000000);
    case DEED_SPIN:
        for (;;)
            spun = spun + 1;
    case DEED_GARBAGE:
        send_raw(script, "this is no frame, it is 64 bytes of something else entirely ....", 64);
        ld_clock_sleep_us(5000000);
        break;
    case DEED_FLOOD:
        flood(script);
        break;
    case DEED_FAIL:
        (void)LD_FAIL(&err, orders->code, "the script says so");
        job->used = false;
        job->job.on_done(job->job.ctx, NULL, &err);
        return true;
    case DEED_NONE:
    case DEED_LIE:
        break;
    }
    return false;
}

/* ---- Pictures -------------------------------------------------------------------------------- */

/* Four flat fields whose colours come from the seed: valid, distinct, and cheap to make. */
static enum ld_code paint(const struct ld_request *request, uint64_t seed, bool partial,
                          bool preview, struct ld_buffer *file, struct ld_error *err)
{
    int64_t width;
    int64_t height;
    ld_request_final_size(request, &width, &height);
    uint8_t *pixels = ld_block_alloc((size_t)(width * height * 3));
    if (!pixels)
        return LD_FAIL(err, LD_E_NOMEM, "out of memory");
    for (int64_t y = 0; y < height; y++) {
        for (int64_t x = 0; x < width; x++) {
            const uint64_t field = (x * 2 < width ? 0U : 1U) + (y * 2 < height ? 0U : 2U);
            uint8_t *pixel = pixels + (size_t)(y * width + x) * 3;
            const uint64_t mixed = (seed + field + 1) * 0x9E3779B97F4A7C15U;
            pixel[0] = (uint8_t)(mixed >> 56);
            pixel[1] = (uint8_t)(mixed >> 48);
            pixel[2] = partial || preview ? 0 : (uint8_t)(mixed >> 40);
        }
    }
    struct ld_buffer recipe = ld_buffer_make(1 << 20);
    ld_request_write_replay_json(request, &recipe);
    struct ld_buffer infotext = ld_buffer_make(1 << 20);
    const struct ld_infotext_facts facts = {.model_name = "scripted",
                                            .version = "latentd " LATENTD_VERSION};
    struct ld_request one = *request; /* of this picture alone */
    one.seed = seed;
    ld_infotext_write(&infotext, &one, &facts);
    const struct ld_png_text texts[] = {{"parameters", infotext.data ? infotext.data : "", false},
                                        {"latentd", recipe.data ? recipe.data : "{}", true}};
    const struct ld_picture_image image = {
        .pixels = pixels,
        .width = (int32_t)width,
        .height = (int32_t)height,
        .channels = 3,
        .form = preview ? ld_picture_form_of_preview(request) : ld_picture_form_of(request),
        .texts = texts,
        .text_count = request->metadata_full ? 2 : 0,
    };
    const enum ld_code code = ld_picture_write(file, &image, err);
    ld_buffer_deinit(&infotext);
    ld_buffer_deinit(&recipe);
    ld_block_free(pixels, (size_t)(width * height * 3));
    return code;
}

static void show_image(struct script_job *job, uint32_t index, bool partial, bool preview)
{
    const struct ld_request *request = job->job.request;
    struct ld_error err = {0};
    struct ld_buffer file = ld_buffer_make(LD_FRAME_BYTES_MAX);
    int64_t width;
    int64_t height;
    const bool batch = request->batch_size > 0; /* one seed, and rows that differ all the same */
    const uint64_t row = index + (batch ? (uint64_t)request->batch_index : 0);
    const uint64_t seed = request->seed + (batch ? 0 : index);
    ld_request_final_size(request, &width, &height);
    if (paint(request, request->seed + row, partial, preview, &file, &err) == LD_OK) {
        const bool lies = job->orders.deed == DEED_LIE && !preview;
        const struct ld_engine_image image = {
            .index = index,
            .seed = seed,
            .width = (int32_t)width + (lies ? 8 : 0),
            .height = (int32_t)height,
            .file = ld_span_of(file.data, file.size),
            .partial = partial,
        };
        if (preview)
            job->job.on_preview(job->job.ctx, &image);
        else
            job->job.on_image(job->job.ctx, &image);
    }
    ld_buffer_deinit(&file);
}

/* ---- The pipeline ---------------------------------------------------------------------------- */

/* A device of so many MiB, of which a picture takes 100, and one more for every 1024 positions. */
static void write_memory(int64_t mib, struct ld_buffer *out)
{
    enum { LEAST_MIB = 100, STEPS = 256 };
    ld_buffer_format(out,
                     ",\"memory\":{\"bytes\":%lld,\"default\":\"scripted\",\"needs\":[{"
                     "\"models\":[\"scripted\"],\"steps\":[[64,%d]",
                     (long long)(mib << 20), LEAST_MIB << 20);
    for (int i = 1; i <= STEPS; i++)
        ld_buffer_format(out, ",[%d,%d]", i * 1024, (LEAST_MIB + i) << 20);
    ld_buffer_text(out, "]}]}");
}

static const char *inventory(void *ctx)
{
    struct script *script = ctx;
    struct ld_buffer *out = &script->inventory;
    ld_buffer_clear(out);
    ld_buffer_text(out, "{\"backend\":\"script\",\"device\":\"none\"");
    if (script->defaults.memory_mib > 0)
        write_memory(script->defaults.memory_mib, out);
    ld_buffer_text(out, ",\"models\":[{\"name\":"
                        "\"scripted\",\"sha256\":\"\",\"bytes\":0,\"created_us\":0,\"default\":"
                        "true,\"loaded\":true,\"detail\":{\"kind\":\"model\",\"prediction\":"
                        "\"eps\"}}],\"adapters\":[{\"name\":\"ink\",\"sha256\":\"00\",\"bytes\":8,"
                        "\"created_us\":0,\"detail\":{\"families\":[\"lora\"],\"rank\":{\"min\":4,"
                        "\"max\":8},\"trigger_words\":\"ink\"}}");
    for (uint32_t i = 1; i <= script->scans; i++)
        ld_buffer_format(out,
                         ",{\"name\":\"scan%u\",\"sha256\":\"00\",\"bytes\":8,"
                         "\"created_us\":0,\"detail\":{}}",
                         i);
    ld_buffer_text(out, "],\"embeddings\":[{\"name\":\"bad\",\"sha256\":\"11\",\"bytes\":8,"
                        "\"created_us\":0,\"detail\":{\"vectors\":2,\"width\":768}}],\"vaes\":[],"
                        "\"controlnets\":[{\"name\":\"edges\",\"sha256\":\"22\",\"bytes\":8,"
                        "\"created_us\":0,\"detail\":{\"kind\":\"controlnet\"}}],"
                        "\"wildcards\":[]}");
    return out->failed ? "{}" : out->data;
}

static enum ld_code submit(void *ctx, const struct ld_engine_job *job, uint64_t *handle,
                           struct ld_error *err)
{
    struct script *script = ctx;
    for (size_t i = 0; i < JOBS_MAX; i++) {
        struct script_job *place = &script->jobs[i];
        uint32_t others;
        if (place->used)
            continue;
        memset(place, 0, sizeof *place);
        place->used = true;
        place->handle = *handle = ++script->next_handle;
        place->job = *job;
        place->orders = script->defaults;
        place->began_us = ld_clock_monotonic_us();
        (void)read_orders(&place->orders, job->request->tag, &others);
        return LD_OK;
    }
    return LD_FAIL(err, LD_E_QUEUE_FULL, "the worker holds too many jobs");
}

static void cancel(void *ctx, uint64_t handle, bool keep_partial)
{
    struct script *script = ctx;
    for (size_t i = 0; i < JOBS_MAX; i++) {
        if (script->jobs[i].used && script->jobs[i].handle == handle) {
            script->jobs[i].cancelled = true;
            script->jobs[i].keep_partial = keep_partial;
        }
    }
}

static bool busy(void *ctx)
{
    const struct script *script = ctx;
    for (size_t i = 0; i < JOBS_MAX; i++) {
        if (script->jobs[i].used)
            return true;
    }
    return false;
}

static void tell_input(struct ld_buffer *out, const char *name, uint32_t number,
                       struct ld_span file)
{
    char digest[LD_SHA256_HEX_SIZE];
    if (file.size == 0)
        return;
    ld_sha256_hex(file, digest);
    ld_buffer_format(out, "%s\"%s %u: %s\"", out->size > 1 ? "," : "", name, number, digest);
}

/* The pictures that came with the job, a warning each: "control 0: <sha256>". */
static void tell_inputs(struct ld_buffer *out, const struct ld_engine_job *job)
{
    ld_buffer_byte(out, '[');
    tell_input(out, "init", 0, job->init_image);
    tell_input(out, "mask", 0, job->init_mask);
    for (uint32_t i = 0; i < LD_REQUEST_CONTROLS_MAX; i++)
        tell_input(out, "control", i, job->control_images[i]);
    ld_buffer_byte(out, ']');
}

static void finish(struct script_job *job, enum ld_code code)
{
    struct ld_error err = {0};
    struct ld_buffer resolved = ld_buffer_make(1 << 20);
    struct ld_buffer warnings = ld_buffer_make(4096);
    if (job->orders.tell_inputs)
        tell_inputs(&warnings, &job->job);
    ld_request_write_json(job->job.request, &resolved);
    const struct ld_engine_report report = {
        .text_us = 100,
        .sample_us = ld_clock_monotonic_us() - job->began_us,
        .decode_us = 100,
        .encode_us = 100,
        .unet_rows = job->rows,
        .warnings_json = warnings.data ? warnings.data : "",
        .adapters_json = "",
        .resolved_json = resolved.data ? resolved.data : "",
        .numerics_json = "{\"backend\":\"script\",\"device\":\"none\",\"precision\":\"fp16\"}",
        .repainted = (uint32_t)job->orders.repainted,
    };
    if (code != LD_OK)
        (void)LD_FAIL(&err, code, "cancelled");
    ld_clock_sleep_us(job->orders.late_ms * 1000);
    job->used = false;
    job->job.on_done(job->job.ctx, &report, &err);
    ld_buffer_deinit(&warnings);
    ld_buffer_deinit(&resolved);
}

/* A picture that is enlarged needs no model, so it is made as everywhere. */
static void enlarge(struct script_job *job)
{
    struct ld_error err = {0};
    struct ld_upscaled done;
    const enum ld_code code =
        ld_picture_upscale(&done, job->job.request, job->job.init_image, &err);
    if (code == LD_OK) {
        const struct ld_engine_image image = {
            .width = done.width,
            .height = done.height,
            .file = ld_span_of(done.file.data, done.file.size),
        };
        job->job.on_image(job->job.ctx, &image);
        finish(job, LD_OK);
    } else {
        job->used = false;
        job->job.on_done(job->job.ctx, NULL, &err);
    }
    ld_buffer_deinit(&done.file);
}

static void advance(struct script *script, struct script_job *job)
{
    const struct ld_request *request = job->job.request;
    const uint32_t steps = (uint32_t)request->steps;
    const uint32_t images = (uint32_t)request->images;
    if (job->cancelled) {
        if (job->keep_partial && !request->upscale.present)
            show_image(job, job->image, true, false);
        finish(job, LD_E_CANCELLED);
        return;
    }
    if (misbehave(script, job))
        return;
    job->step++;
    job->rows += 2; /* one with the prompt, one without */
    const struct ld_engine_progress progress = {
        .phase = LD_PHASE_SAMPLE,
        .image = job->image,
        .images = images,
        .step = job->step,
        .steps = steps,
        .fraction = ((double)job->image + (double)job->step / steps) / images,
    };
    job->job.on_progress(job->job.ctx, &progress);
    if (request->preview_every > 0 && !request->upscale.present &&
        job->step % (uint32_t)request->preview_every == 0)
        show_image(job, job->image, false, true);
    if (job->step < steps)
        return;
    if (request->upscale.present) {
        enlarge(job);
        return;
    }
    show_image(job, job->image, false, false);
    job->step = 0;
    if (++job->image == images)
        finish(job, LD_OK);
}

/* As the engine would count this tick. */
static void count_pass(const struct script *script, int64_t spent_us)
{
    uint32_t rows = 0;
    uint32_t positions = 0;
    for (size_t i = 0; i < JOBS_MAX; i++) {
        const struct script_job *job = &script->jobs[i];
        if (!job->used || job->cancelled)
            continue;
        const uint32_t own =
            (uint32_t)(job->job.request->width / 8 * (job->job.request->height / 8));
        rows += 2;
        positions = own > positions ? own : positions;
    }
    if (rows > 0)
        ld_stats_pass(positions, rows, spent_us);
}

/* One step of every job, as in a batch; the slowest decides how long it takes. */
static enum ld_code tick(void *ctx, struct ld_error *err)
{
    struct script *script = ctx;
    int64_t step_ms = 0;
    (void)err;
    for (size_t i = 0; i < JOBS_MAX; i++) {
        if (script->jobs[i].used && script->jobs[i].orders.step_ms > step_ms)
            step_ms = script->jobs[i].orders.step_ms;
    }
    const int64_t start_us = ld_clock_monotonic_us();
    ld_clock_sleep_us(step_ms * 1000);
    count_pass(script, ld_clock_monotonic_us() - start_us);
    for (size_t i = 0; i < JOBS_MAX; i++) {
        if (script->jobs[i].used)
            advance(script, &script->jobs[i]);
    }
    return LD_OK;
}

static enum ld_code plan(void *ctx, const struct ld_request *request, struct ld_buffer *out,
                         struct ld_error *err)
{
    const struct script *script = ctx;
    const size_t tokens = strlen(request->prompt) / 4 + 2;
    ld_buffer_format(out,
                     "{\"tokens\":{\"prompt\":[{\"total\":%zu,\"chunks\":[%zu]}],"
                     "\"negative_prompt\":[]},\"memory_bytes\":0,\"unet_rows\":%d,\"seconds\":",
                     tokens, tokens, request->steps * request->images * 2);
    ld_buffer_json_double(out, (double)script->defaults.step_ms * request->steps / 1000.0);
    ld_buffer_text(out, ",\"warnings\":[]}");
    return out->failed ? LD_FAIL(err, LD_E_NOMEM, "out of memory") : LD_OK;
}

/* One word more; at once. */
static enum ld_code extend(void *ctx, const struct ld_request *request, ld_engine_answer answer,
                           void *answer_ctx, struct ld_error *err)
{
    struct ld_buffer prompt = ld_buffer_make(64 << 10);
    struct ld_buffer json = ld_buffer_make(256 << 10);
    (void)ctx;
    (void)err;
    ld_buffer_format(&prompt, "%s, scripted", request->prompt);
    ld_buffer_text(&json, "{\"prompt\":");
    ld_buffer_json_string(&json, prompt.data);
    ld_buffer_format(&json, ",\"seed\":%llu,\"seconds\":0.0,\"warnings\":[]}",
                     (unsigned long long)request->seed);
    answer(answer_ctx, LD_OK, "", json.data);
    ld_buffer_deinit(&json);
    ld_buffer_deinit(&prompt);
    return LD_OK;
}

/* It knows one model, which is always there. */
static enum ld_code model(void *ctx, const char *name, bool load, struct ld_buffer *out,
                          struct ld_error *err)
{
    (void)ctx;
    if (strcmp(name, "scripted") != 0)
        return LD_FAIL(err, LD_E_NOT_FOUND, "there is no model '%.100s' here", name);
    ld_buffer_format(out, "{\"name\":\"scripted\",\"loaded\":%s,\"resident\":[]}",
                     load ? "true" : "false");
    return LD_OK;
}

/* It has no files. */
static enum ld_code find(void *ctx, const char *name, struct ld_error *err)
{
    (void)ctx;
    return LD_FAIL(err, LD_E_NOT_FOUND, "there is no model '%.100s' here", name);
}

static enum ld_code rescan(void *ctx, struct ld_buffer *out, struct ld_error *err)
{
    static const char *const keys[] = {"models", "adapters",    "embeddings",
                                       "vaes",   "controlnets", "wildcards"};
    struct script *script = ctx;
    (void)err;
    if (script->defaults.scan_dies)
        abort();
    ld_clock_sleep_us(script->defaults.scan_ms * 1000);
    script->scans += script->defaults.scan_ms > 0 ? 1 : 0;
    script->news = true;
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        ld_buffer_format(out, "%s\"%s\":{\"added\":%d,\"removed\":0,\"changed\":0,\"unusable\":0}",
                         i ? "," : "{", keys[i], i == 1 && script->defaults.scan_ms > 0 ? 1 : 0);
    ld_buffer_text(out, ",\"refused\":[]}");
    return LD_OK;
}

static bool has_news(void *ctx)
{
    struct script *script = ctx;
    const bool news = script->news;
    script->news = false;
    return news;
}

enum ld_code ld_script_open(struct ld_worker_pipeline *pipeline, const char *text, int fd,
                            struct ld_error *err)
{
    uint32_t others;
    struct script *script = ld_heap_alloc(sizeof *script);
    if (!script)
        return LD_FAIL(err, LD_E_NOMEM, "out of memory");
    script->fd = fd;
    script->inventory = ld_buffer_make(1 << 20);
    (void)read_orders(&script->defaults, text, &others);
    if (others > 0) {
        ld_heap_free(script);
        return LD_FAIL(err, LD_E_INVALID, "the script has a word that is no order");
    }
    *pipeline = (struct ld_worker_pipeline){.ctx = script,
                                            .obeys_tag = true,
                                            .inventory = inventory,
                                            .submit = submit,
                                            .cancel = cancel,
                                            .busy = busy,
                                            .tick = tick,
                                            .plan = plan,
                                            .extend = extend,
                                            .model = model,
                                            .find = find,
                                            .rescan = rescan,
                                            .has_news = has_news};
    return LD_OK;
}
