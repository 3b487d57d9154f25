/* The documents and events of OpenAI's images interface. Source: api.md 2.2. */
#include "api/base64.h"
#include "api/dialect_openai.h"
#include "runtime/base/json_find.h"

/* Nothing here is paid by tokens; SDKs want the object. */
static const char usage[] = "\"usage\":{\"input_tokens\":0,\"input_tokens_details\":"
                            "{\"image_tokens\":0,\"text_tokens\":0},\"output_tokens\":0,"
                            "\"total_tokens\":0}";

static void put_word(struct ld_buffer *out, const char *key, const char *value)
{
    ld_buffer_format(out, ",\"%s\":", key);
    ld_buffer_json_string(out, value);
}

static void put_facts(const struct ld_openai_call *call, const char *size, const char *format,
                      struct ld_buffer *out)
{
    put_word(out, "background", "opaque");
    put_word(out, "output_format", format);
    put_word(out, "quality", call->quality);
    put_word(out, "size", size);
}

void ld_openai_write_result(const struct ld_openai_call *call, const struct ld_job_view *job,
                            const struct ld_openai_picture *pictures, struct ld_buffer *out)
{
    char size[32] = "auto";
    if (job->image_count > 0)
        (void)ld_fmt(size, sizeof size, "%dx%d", job->images[0].width, job->images[0].height);
    ld_buffer_format(out, "{\"created\":%lld,\"data\":[", (long long)(job->created_us / 1000000));
    for (uint32_t i = 0; i < job->image_count; i++) {
        ld_buffer_text(out, i ? "," : "");
        if (pictures[i].url[0]) {
            ld_buffer_text(out, "{\"url\":");
            ld_buffer_json_string(out, pictures[i].url);
        } else {
            ld_buffer_text(out, "{\"b64_json\":\"");
            ld_base64_encode(pictures[i].file, out);
            ld_buffer_byte(out, '"');
        }
        ld_buffer_format(out, ",\"seed\":%llu}", (unsigned long long)job->images[i].seed);
    }
    ld_buffer_byte(out, ']');
    put_facts(call, size, call->format, out);
    ld_buffer_byte(out, ',');
    ld_buffer_text(out, usage);
    ld_buffer_text(out, ",\"warnings\":");
    ld_buffer_text(out, job->warnings_json && *job->warnings_json ? job->warnings_json : "[]");
    ld_buffer_byte(out, '}');
}

static void begin_event(const struct ld_openai_call *call, const char *name, const char *size,
                        const char *format, int64_t created_s, struct ld_buffer *out)
{
    const char *kind = call->kind == LD_OPENAI_GENERATE ? "image_generation" : "image_edit";
    ld_buffer_format(out, "event: %s.%s\ndata: {\"type\":\"%s.%s\",\"created_at\":%lld", kind, name,
                     kind, name, (long long)created_s);
    put_facts(call, size, format, out);
}

void ld_openai_write_partial(const struct ld_openai_call *call, int64_t created_s, uint32_t index,
                             enum ld_picture_kind kind, struct ld_span base64,
                             struct ld_buffer *out)
{
    begin_event(call, "partial_image", call->size, ld_picture_kind_name(kind), created_s, out);
    ld_buffer_format(out, ",\"partial_image_index\":%u,\"b64_json\":\"", index);
    ld_buffer_bytes(out, base64.data, base64.size);
    ld_buffer_text(out, "\"}\n\n");
}

void ld_openai_write_completed(const struct ld_openai_call *call, const struct ld_image_view *image,
                               int64_t created_s, struct ld_span file, struct ld_buffer *out)
{
    char size[32] = "auto";
    (void)ld_fmt(size, sizeof size, "%dx%d", image->width, image->height);
    begin_event(call, "completed", size, call->format, created_s, out);
    ld_buffer_byte(out, ',');
    ld_buffer_text(out, usage);
    ld_buffer_text(out, ",\"b64_json\":\"");
    ld_base64_encode(file, out);
    ld_buffer_text(out, "\"}\n\n");
}

void ld_openai_write_failed(const char *code, const char *sentence, struct ld_buffer *out)
{
    ld_buffer_text(out, "event: error\ndata: {\"type\":\"error\",\"error\":{\"message\":");
    ld_buffer_json_string(out, sentence);
    ld_buffer_text(out, ",\"type\":\"server_error\",\"param\":null,\"code\":");
    ld_buffer_json_string(out, code);
    ld_buffer_text(out, "}}\n\n");
}
