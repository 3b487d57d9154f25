/* What NovelAI's clients get back: signed pictures and events. Source: api.md 2.3; the MessagePack
 * specification (msgpack.org) for the binary stream, whose messages have a length of four bytes in
 * front, most significant first. */
#include "api/base64.h"
#include "api/dialect_novelai.h"
#include "runtime/base/json_find.h"
#include "runtime/image/picture_texts.h"

enum { COMMENT_BYTES_MAX = 512 * 1024 };

/* ---- Metadata -------------------------------------------------------------------------------- */

static void put(struct ld_buffer *out, const char *key, struct ld_span object, const char *pointer,
                const char *by_default)
{
    struct ld_span value;
    ld_buffer_format(out, ",\"%s\":", key);
    if (ld_json_find_span(object, pointer, &value))
        ld_buffer_bytes(out, value.data, value.size);
    else
        ld_buffer_text(out, by_default);
}

/* As the service's own pictures say it; what the client sent is said in the client's words. */
static void write_comment(const struct ld_novelai_call *call, const struct ld_job_view *job,
                          uint64_t seed, struct ld_buffer *out)
{
    const struct ld_span request = ld_span_text(job->request_json);
    const struct ld_json_node *node =
        ld_json_member(&call->tree, ld_json_root(&call->tree), "parameters");
    const struct ld_span sent = node ? node->text : ld_span_text("{}");
    ld_buffer_format(out, "{\"seed\":%llu,\"version\":1", (unsigned long long)seed);
    put(out, "prompt", request, "/prompt", "\"\"");
    put(out, "uc", request, "/negative_prompt", "\"\"");
    put(out, "steps", request, "/steps", "28");
    put(out, "width", request, "/width", "0");
    put(out, "height", request, "/height", "0");
    put(out, "scale", request, "/cfg_scale", "0");
    put(out, "sampler", sent, "/sampler", "\"k_euler_ancestral\"");
    put(out, "noise_schedule", sent, "/noise_schedule", "\"native\"");
    put(out, "uncond_scale", sent, "/uncond_scale", "1.0");
    put(out, "cfg_rescale", sent, "/cfg_rescale", "0.0");
    put(out, "sm", sent, "/sm", "false");
    put(out, "sm_dyn", sent, "/sm_dyn", "false");
    put(out, "dynamic_thresholding", sent, "/dynamic_thresholding", "false");
    put(out, "skip_cfg_above_sigma", sent, "/skip_cfg_above_sigma", "null");
    put(out, "qualityToggle", sent, "/qualityToggle", "true");
    put(out, "ucPreset", sent, "/ucPreset", "0");
    put(out, "strength", request, "/init/strength", "null");
    ld_buffer_text(out, ",\"n_samples\":1,\"request_type\":");
    ld_buffer_json_string(
        out, node && ld_json_member(&call->tree, node, "mask")    ? "NativeInfillingRequest"
             : node && ld_json_member(&call->tree, node, "image") ? "Img2ImgRequest"
                                                                  : "PromptGenerateRequest");
    ld_buffer_byte(out, '}');
}

enum ld_code ld_novelai_sign(const struct ld_novelai_call *call, const struct ld_job_view *job,
                             uint64_t seed, struct ld_span file, struct ld_buffer *out,
                             struct ld_error *err)
{
    char prompt[LD_PROMPT_BYTES_MAX + 1];
    struct ld_buffer comment = ld_buffer_make(COMMENT_BYTES_MAX);
    if (!ld_json_find_string(ld_span_text(job->request_json), "/prompt", prompt, sizeof prompt))
        prompt[0] = '\0';
    write_comment(call, job, seed, &comment);
    const struct ld_png_text texts[] = {
        {"Title", "AI generated image", false},
        {"Description", prompt, false},
        {"Software", "NovelAI", false},
        {"Source", "latentd " LATENTD_VERSION, false},
        {"Generation time", "0", false},
        {"Comment", comment.data && !comment.failed ? comment.data : "{}", false},
    };
    const enum ld_code code =
        ld_picture_texts_add(out, file, texts, sizeof texts / sizeof texts[0], err);
    ld_buffer_deinit(&comment);
    return code;
}

/* ---- MessagePack ----------------------------------------------------------------------------- */

static void put32(struct ld_buffer *out, uint32_t value)
{
    for (int shift = 24; shift >= 0; shift -= 8)
        ld_buffer_byte(out, (char)(value >> shift & 0xFF));
}

static void pack_text(struct ld_buffer *out, const char *text)
{
    const size_t size = strlen(text);
    if (size < 32) {
        ld_buffer_byte(out, (char)(0xA0 | size));
    } else {
        ld_buffer_byte(out, (char)0xDB);
        put32(out, (uint32_t)size);
    }
    ld_buffer_bytes(out, text, size);
}

static void pack_integer(struct ld_buffer *out, const char *key, uint32_t value)
{
    pack_text(out, key);
    ld_buffer_byte(out, (char)0xCE);
    put32(out, value);
}

/* A message: its length, then the map that `map` holds. */
static void put_message(struct ld_buffer *out, const struct ld_buffer *map)
{
    put32(out, (uint32_t)map->size);
    ld_buffer_bytes(out, map->data, map->size);
}

static void pack_event(const struct ld_novelai_call *call, const struct ld_novelai_event *event,
                       struct ld_buffer *out)
{
    struct ld_buffer map = ld_buffer_make(out->bytes_limit);
    struct ld_buffer bytes = ld_buffer_make(out->bytes_limit);
    struct ld_error err;
    ld_buffer_byte(&map, (char)0x86); /* six members */
    pack_text(&map, "event_type");
    pack_text(&map, event->final ? "final" : "intermediate");
    pack_integer(&map, "samp_ix", event->sample);
    pack_integer(&map, "step_ix", event->step);
    pack_text(&map, "gen_id");
    pack_text(&map, call->gen_id);
    pack_text(&map, "sigma");
    ld_buffer_bytes(&map, "\xCA\0\0\0", 5); /* float32 0: previews do not carry their sigma */
    pack_text(&map, "image");
    struct ld_span picture = event->file;
    if (!event->final && ld_base64_decode(event->base64, &bytes, &err) == LD_OK)
        picture = ld_span_of(bytes.data, bytes.size);
    ld_buffer_byte(&map, (char)0xC6);
    put32(&map, (uint32_t)picture.size);
    ld_buffer_bytes(&map, picture.data, picture.size);
    put_message(out, &map);
    ld_buffer_deinit(&bytes);
    ld_buffer_deinit(&map);
}

/* ---- Events ---------------------------------------------------------------------------------- */

void ld_novelai_write_event(const struct ld_novelai_call *call,
                            const struct ld_novelai_event *event, struct ld_buffer *out)
{
    const char *name = event->final ? "final" : "intermediate";
    if (call->stream == LD_NOVELAI_MSGPACK) {
        pack_event(call, event, out);
        return;
    }
    ld_buffer_format(
        out,
        "event: %s\nid: %u\ndata: {\"event_type\":\"%s\",\"samp_ix\":%u,\"step_ix\":%u,"
        "\"gen_id\":\"%s\",\"sigma\":0.0,\"image\":\"",
        name, event->step, name, event->sample, event->step, call->gen_id);
    if (event->final)
        ld_base64_encode(event->file, out);
    else
        ld_buffer_bytes(out, event->base64.data, event->base64.size);
    ld_buffer_text(out, "\"}\n\n");
}

void ld_novelai_write_failed(const struct ld_novelai_call *call, const char *sentence,
                             struct ld_buffer *out)
{
    if (call->stream != LD_NOVELAI_MSGPACK) {
        ld_buffer_text(out,
                       "event: error\ndata: {\"event_type\":\"error\",\"code\":500,\"message\":");
        ld_buffer_json_string(out, sentence);
        ld_buffer_text(out, "}\n\n");
        return;
    }
    struct ld_buffer map = ld_buffer_make(64 * 1024);
    ld_buffer_byte(&map, (char)0x83);
    pack_text(&map, "event_type");
    pack_text(&map, "error");
    pack_integer(&map, "code", 500);
    pack_text(&map, "message");
    pack_text(&map, sentence);
    put_message(out, &map);
    ld_buffer_deinit(&map);
}
