/* The documents of A1111's interface. Source: api.md 2.1. */
#include "api/base64.h"
#include "api/dialect_a1111.h"
#include "api/dialect_a1111_control.h"
#include "api/respond.h"
#include "runtime/base/json_find.h"

enum { INFO_BYTES_MAX = 4 << 20 };

void ld_a1111_timestamp(int64_t us, char out[16])
{
    char text[32];
    size_t size = 0;
    ld_time_text(us, text, sizeof text);
    for (const char *p = text; *p && *p != '.' && size < 14; p++)
        if (*p >= '0' && *p <= '9')
            out[size++] = *p;
    out[size] = '\0';
}

/* ---- The job's own request, value by value --------------------------------------------------- */

static void put_value(struct ld_buffer *out, struct ld_span request, const char *pointer,
                      const char *by_default)
{
    struct ld_span value;
    if (ld_json_find_span(request, pointer, &value))
        ld_buffer_bytes(out, value.data, value.size);
    else
        ld_buffer_text(out, by_default);
}

/* "all_x": the same value once for each picture. */
static void put_all(struct ld_buffer *out, const char *key, struct ld_span request,
                    const char *pointer, uint32_t count)
{
    ld_buffer_format(out, ",\"%s\":[", key);
    for (uint32_t i = 0; i < count; i++) {
        if (i > 0)
            ld_buffer_byte(out, ',');
        put_value(out, request, pointer, "\"\"");
    }
    ld_buffer_byte(out, ']');
}

static void put_seeds(struct ld_buffer *out, const struct ld_a1111_result *r,
                      struct ld_span request)
{
    struct ld_span subseed;
    uint64_t seed;
    const bool varies = ld_json_find_span(request, "/variation/seed", &subseed);
    if (r->picture_count > 0)
        seed = r->job->images[0].seed;
    else if (!ld_json_find_u64(request, "/seed", &seed))
        seed = 0;
    ld_buffer_format(out, ",\"seed\":%llu,\"all_seeds\":[", (unsigned long long)seed);
    for (uint32_t i = 0; i < r->picture_count; i++)
        ld_buffer_format(out, "%s%llu", i ? "," : "", (unsigned long long)r->job->images[i].seed);
    ld_buffer_text(out, "],\"subseed\":");
    if (varies)
        ld_buffer_bytes(out, subseed.data, subseed.size);
    else
        ld_buffer_format(out, "%llu", (unsigned long long)seed);
    ld_buffer_text(out, ",\"all_subseeds\":[");
    for (uint32_t i = 0; i < r->picture_count; i++) {
        ld_buffer_text(out, i ? "," : "");
        if (varies)
            ld_buffer_bytes(out, subseed.data, subseed.size);
        else
            ld_buffer_format(out, "%llu", (unsigned long long)r->job->images[i].seed);
    }
    ld_buffer_text(out, "],\"subseed_strength\":");
    put_value(out, request, "/variation/strength", "0");
}

static void put_strength(struct ld_buffer *out, struct ld_span request)
{
    struct ld_span value;
    ld_buffer_text(out, ",\"denoising_strength\":");
    if (ld_json_find_span(request, "/init/strength", &value) ||
        ld_json_find_span(request, "/hires/strength", &value))
        ld_buffer_bytes(out, value.data, value.size);
    else
        ld_buffer_text(out, "null");
}

static void put_model(struct ld_buffer *out, const struct ld_a1111_result *r)
{
    ld_buffer_text(out, ",\"sd_model_name\":");
    ld_buffer_json_string(out, r->model_name);
    ld_buffer_format(out, ",\"sd_model_hash\":\"%.10s\",\"sd_vae_name\":", r->model_sha256);
}

/* The document that stands as text in the reply's "info". */
static void write_info(const struct ld_a1111_result *r, struct ld_buffer *out)
{
    const struct ld_span request = ld_span_text(r->job->request_json);
    char stamp[16];
    ld_a1111_timestamp(r->job->created_us, stamp);
    ld_buffer_text(out, "{\"prompt\":");
    put_value(out, request, "/prompt", "\"\"");
    put_all(out, "all_prompts", request, "/prompt", r->picture_count);
    ld_buffer_text(out, ",\"negative_prompt\":");
    put_value(out, request, "/negative_prompt", "\"\"");
    put_all(out, "all_negative_prompts", request, "/negative_prompt", r->picture_count);
    put_seeds(out, r, request);
    ld_buffer_text(out, ",\"width\":");
    put_value(out, request, "/width", "0");
    ld_buffer_text(out, ",\"height\":");
    put_value(out, request, "/height", "0");
    ld_buffer_text(out, ",\"sampler_name\":");
    ld_buffer_json_string(out, r->sampler_label);
    ld_buffer_text(out, ",\"cfg_scale\":");
    put_value(out, request, "/cfg_scale", "7");
    ld_buffer_text(out, ",\"steps\":");
    put_value(out, request, "/steps", "0");
    ld_buffer_format(out,
                     ",\"batch_size\":%u,\"restore_faces\":false,"
                     "\"face_restoration_model\":null",
                     r->picture_count);
    put_model(out, r);
    put_value(out, request, "/vae", "null");
    ld_buffer_text(out, ",\"sd_vae_hash\":null,\"seed_resize_from_w\":-1,"
                        "\"seed_resize_from_h\":-1");
    put_strength(out, request);
    ld_buffer_text(out, ",\"extra_generation_params\":{},\"index_of_first_image\":0,"
                        "\"infotexts\":[");
    for (uint32_t i = 0; i < r->picture_count; i++) {
        ld_buffer_text(out, i ? "," : "");
        ld_buffer_json_string(out, r->pictures[i].infotext);
    }
    ld_buffer_format(out, "],\"styles\":[],\"job_timestamp\":\"%s\",\"clip_skip\":", stamp);
    put_value(out, request, "/clip_skip", "1");
    ld_buffer_text(
        out, ",\"is_using_inpainting_conditioning\":false,\"version\":\"latentd " LATENTD_VERSION
             "\",\"job_id\":");
    ld_buffer_json_string(out, r->job->id);
    ld_buffer_byte(out, '}');
}

/* Scripts without the ControlNet units, which hold pictures. */
static void write_scripts(const struct ld_json_tree *tree, const struct ld_json_node *scripts,
                          struct ld_buffer *out)
{
    const char *comma = "";
    ld_buffer_byte(out, '{');
    for (const struct ld_json_node *node = ld_json_first(tree, scripts); node;
         node = ld_json_after(tree, node)) {
        if (ld_a1111_is_control(node->key))
            continue;
        ld_buffer_text(out, comma);
        ld_buffer_json_span(out, node->key);
        ld_buffer_byte(out, ':');
        ld_write_node(node, out);
        comma = ",";
    }
    ld_buffer_byte(out, '}');
}

/* The request back, without pictures (unless they were asked for) and without what some clients
 * leak: addresses and passwords of their own settings. */
static void write_echo(const struct ld_json_tree *tree, struct ld_buffer *out)
{
    static const char *const pictures[] = {"init_images", "mask", "controlnet_units"};
    static const char *const secret[] = {"url", "auth"};
    const struct ld_json_node *root = ld_json_root(tree);
    const struct ld_json_node *include = ld_lenient_member(tree, root, "include_init_images");
    const char *comma = "";
    bool whole = false;
    if (include && !ld_lenient_flag(include, &whole))
        whole = false;
    ld_buffer_byte(out, '{');
    for (const struct ld_json_node *node = ld_json_first(tree, root); node;
         node = ld_json_after(tree, node)) {
        const bool leaks = ld_span_is(node->key, secret[0]) || ld_span_is(node->key, secret[1]);
        bool picture = false;
        for (size_t i = 0; i < sizeof pictures / sizeof pictures[0]; i++)
            picture = picture || ld_span_is(node->key, pictures[i]);
        if (leaks || (picture && !whole))
            continue;
        ld_buffer_text(out, comma);
        ld_buffer_json_span(out, node->key);
        ld_buffer_byte(out, ':');
        if (ld_span_is(node->key, "alwayson_scripts") && node->kind == LD_JSON_OBJECT_BEGIN &&
            !whole)
            write_scripts(tree, node, out);
        else
            ld_write_node(node, out);
        comma = ",";
    }
    ld_buffer_byte(out, '}');
}

void ld_a1111_write_result(const struct ld_a1111_result *result, struct ld_buffer *out)
{
    struct ld_buffer info = ld_buffer_make(INFO_BYTES_MAX);
    ld_buffer_text(out, "{\"images\":[");
    for (uint32_t i = 0; i < result->picture_count && result->send_images; i++) {
        ld_buffer_text(out, i ? ",\"" : "\"");
        ld_base64_encode(result->pictures[i].file, out);
        ld_buffer_byte(out, '"');
    }
    ld_buffer_text(out, "],\"parameters\":");
    write_echo(result->tree, out);
    write_info(result, &info);
    ld_buffer_text(out, ",\"info\":");
    ld_buffer_json_string(out, info.data && !info.failed ? info.data : "{}");
    ld_buffer_text(out, ",\"warnings\":");
    ld_buffer_text(out, result->job->warnings_json && *result->job->warnings_json
                            ? result->job->warnings_json
                            : "[]");
    ld_buffer_byte(out, '}');
    ld_buffer_deinit(&info);
}

/* ---- Progress -------------------------------------------------------------------------------- */

void ld_a1111_write_progress(const struct ld_a1111_progress *progress, struct ld_buffer *out)
{
    static const struct ld_progress_view idle = {.phase = ""};
    const struct ld_job_view *job = progress->job;
    const struct ld_progress_view *at = job ? &job->progress : &idle;
    const double eta_s = job && job->eta_ms > 0 ? (double)job->eta_ms / 1000 : 0;
    char stamp[16] = "0";
    if (job)
        ld_a1111_timestamp(job->created_us, stamp);
    ld_buffer_text(out, "{\"progress\":");
    ld_buffer_json_double(out, job ? at->fraction : 0);
    ld_buffer_text(out, ",\"eta_relative\":");
    ld_buffer_json_double(out, eta_s);
    ld_buffer_format(out,
                     ",\"state\":{\"skipped\":false,\"interrupted\":%s,"
                     "\"stopping_generation\":false,\"job\":",
                     job && job->status == LD_JOB_CANCELLING ? "true" : "false");
    ld_buffer_json_string(out, job ? job->id : "");
    ld_buffer_format(out,
                     ",\"job_count\":%u,\"job_timestamp\":\"%s\",\"job_no\":%u,"
                     "\"sampling_step\":%u,\"sampling_steps\":%u},\"current_image\":",
                     job ? (at->images > 0 ? at->images : 1) : 0, stamp, at->image, at->step,
                     at->steps);
    if (progress->preview.size > 0) {
        ld_buffer_byte(out, '"');
        ld_base64_encode(progress->preview, out);
        ld_buffer_byte(out, '"');
    } else {
        ld_buffer_text(out, "null");
    }
    ld_buffer_text(out, ",\"textinfo\":");
    if (job && job->status == LD_JOB_QUEUED)
        ld_buffer_json_string(out, "Waiting...");
    else
        ld_buffer_text(out, "null");
    ld_buffer_format(out, ",\"waiting\":%u}", progress->waiting);
}
