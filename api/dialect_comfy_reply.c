/* Jobs in ComfyUI's words. Source: api.md 2.4. */
#include "api/dialect_comfy.h"
#include "runtime/base/json_find.h"

static void read_word(struct ld_span json, const char *pointer, char *out, size_t size)
{
    if (!ld_json_find_string(json, pointer, out, size))
        out[0] = '\0';
}

void ld_comfy_job_read(struct ld_comfy_job *job, const struct ld_job_view *view)
{
    const struct ld_span json = ld_span_text(view->request_json ? view->request_json : "{}");
    memset(job, 0, sizeof *job);
    read_word(json, "/user_data/comfy/kind", job->kind, sizeof job->kind);
    read_word(json, "/user_data/comfy/prompt_id", job->prompt_id, sizeof job->prompt_id);
    read_word(json, "/user_data/comfy/client_id", job->client_id, sizeof job->client_id);
    read_word(json, "/user_data/comfy/sampler", job->sampler, sizeof job->sampler);
    read_word(json, "/user_data/comfy/output", job->output, sizeof job->output);
    if (!job->prompt_id[0])
        (void)ld_fmt(job->prompt_id, sizeof job->prompt_id, "%s", view->id);
    if (!job->kind[0]) { /* of another interface: shown as a picture that was saved */
        (void)ld_fmt(job->output, sizeof job->output, "9");
        (void)ld_fmt(job->sampler, sizeof job->sampler, "3");
    }
}

void ld_comfy_write_images(const struct ld_comfy_job *comfy, const struct ld_job_view *view,
                           struct ld_buffer *out)
{
    const char *type = strcmp(comfy->kind, "preview") == 0 ? "temp" : "output";
    ld_buffer_text(out, "{\"images\":[");
    for (uint32_t i = 0; i < view->image_count; i++)
        ld_buffer_format(out, "%s{\"filename\":\"%s_%u%s\",\"subfolder\":\"\",\"type\":\"%s\"}",
                         i ? "," : "", view->id, view->images[i].index,
                         ld_picture_kind_ending(view->images[i].kind), type);
    ld_buffer_text(out, "]}");
}

/* [number, id, prompt, extra_data, outputs]; the prompt itself stands in the pictures. */
static void write_prompt(const struct ld_comfy_job *comfy, int64_t number, struct ld_buffer *out)
{
    ld_buffer_format(out, "[%lld,", (long long)number);
    ld_buffer_json_string(out, comfy->prompt_id);
    ld_buffer_text(out, ",{},{\"client_id\":");
    ld_buffer_json_string(out, comfy->client_id);
    ld_buffer_text(out, "},[");
    ld_buffer_json_string(out, comfy->output);
    ld_buffer_text(out, "]]");
}

static void write_message(struct ld_buffer *out, const char *name, const struct ld_comfy_job *comfy,
                          int64_t us, bool first)
{
    ld_buffer_format(out, "%s[\"%s\",{\"prompt_id\":", first ? "" : ",", name);
    ld_buffer_json_string(out, comfy->prompt_id);
    ld_buffer_format(out, ",\"timestamp\":%lld}]", (long long)(us / 1000));
}

void ld_comfy_write_history(const struct ld_job_view *view, struct ld_buffer *out)
{
    struct ld_comfy_job comfy;
    const bool good = view->status == LD_JOB_SUCCEEDED;
    ld_comfy_job_read(&comfy, view);
    ld_buffer_json_string(out, comfy.prompt_id);
    ld_buffer_text(out, ":{\"prompt\":");
    write_prompt(&comfy, view->created_us / 1000000, out);
    ld_buffer_text(out, ",\"outputs\":{");
    if (view->image_count > 0) {
        ld_buffer_json_string(out, comfy.output);
        ld_buffer_byte(out, ':');
        ld_comfy_write_images(&comfy, view, out);
    }
    ld_buffer_format(out, "},\"status\":{\"status_str\":\"%s\",\"completed\":%s,\"messages\":[",
                     good ? "success" : "error", good ? "true" : "false");
    write_message(out, "execution_start", &comfy, view->started_us, true);
    if (good) {
        write_message(out, "execution_success", &comfy, view->finished_us, false);
    } else if (view->status == LD_JOB_FAILED) {
        ld_buffer_text(out, ",[\"execution_error\",{\"prompt_id\":");
        ld_buffer_json_string(out, comfy.prompt_id);
        ld_buffer_text(out, ",\"node_id\":");
        ld_buffer_json_string(out, comfy.sampler);
        ld_buffer_text(out, ",\"exception_type\":");
        ld_buffer_json_string(out, view->error_code ? view->error_code : "");
        ld_buffer_text(out, ",\"exception_message\":");
        ld_buffer_json_string(out, view->error_detail ? view->error_detail : "");
        ld_buffer_text(out, "}]");
    } else {
        write_message(out, "execution_interrupted", &comfy, view->finished_us, false);
    }
    ld_buffer_text(out, "]},\"meta\":{");
    if (view->image_count > 0) {
        ld_buffer_json_string(out, comfy.output);
        ld_buffer_text(out, ":{\"node_id\":");
        ld_buffer_json_string(out, comfy.output);
        ld_buffer_text(out, ",\"display_node\":");
        ld_buffer_json_string(out, comfy.output);
        ld_buffer_byte(out, '}');
    }
    ld_buffer_text(out, "}}");
}

void ld_comfy_write_queued(const struct ld_job_view *view, int64_t number, struct ld_buffer *out)
{
    struct ld_comfy_job comfy;
    ld_comfy_job_read(&comfy, view);
    write_prompt(&comfy, number, out);
}
