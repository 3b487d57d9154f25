/* What A1111's clients list, and what its pictures say. */
#include "server/handle_a1111.h"

#include "api/base64.h"
#include "api/dialect_upscale.h"
#include "config/limits.h"
#include "runtime/image/picture_texts.h"
#include "server/handlers.h"
#include "server/names_list.h"

enum { TEXT_ARENA_BYTES = 8 << 20 };

static enum ld_handled reply_text(struct ld_exchange *ex, const char *json)
{
    ld_buffer_text(&ex->reply.body, json);
    return ld_exchange_json(ex, 200);
}

/* A list "a, b, c" as JSON strings. */
static void write_words(struct ld_buffer *out, const char *list)
{
    const char *comma = "";
    ld_buffer_byte(out, '[');
    for (const char *at = list; *at;) {
        at += strspn(at, ", ");
        const size_t size = strcspn(at, ",");
        if (size > 0) {
            ld_buffer_text(out, comma);
            ld_buffer_json_span(out, ld_span_of(at, size));
            comma = ",";
        }
        at += size;
    }
    ld_buffer_byte(out, ']');
}

/* ---- Samplers and schedulers ----------------------------------------------------------------- */

enum ld_handled ld_handle_a1111_samplers(struct ld_exchange *ex)
{
    uint32_t count;
    struct ld_buffer *out = &ex->reply.body;
    const struct ld_sampler_view *views = ld_names_samplers(&ex->arena, &count);
    if (!views)
        return ld_exchange_refuse(ex, LD_E_NOMEM, 0, "out of memory");
    for (uint32_t i = 0; i < count; i++) {
        ld_buffer_text(out, i ? ",{\"name\":" : "[{\"name\":");
        ld_buffer_json_string(out, views[i].label);
        ld_buffer_text(out, ",\"aliases\":");
        write_words(out, views[i].aliases);
        ld_buffer_text(out, ",\"options\":{}}");
    }
    return reply_text(ex, "]");
}

enum ld_handled ld_handle_a1111_schedulers(struct ld_exchange *ex)
{
    uint32_t count;
    struct ld_buffer *out = &ex->reply.body;
    const struct ld_scheduler_view *views = ld_names_schedulers(&ex->arena, &count);
    if (!views)
        return ld_exchange_refuse(ex, LD_E_NOMEM, 0, "out of memory");
    for (uint32_t i = 0; i < count; i++) {
        ld_buffer_text(out, i ? ",{\"name\":" : "[{\"name\":");
        ld_buffer_json_string(out, views[i].name);
        ld_buffer_text(out, ",\"label\":");
        ld_buffer_json_string(out, views[i].label);
        ld_buffer_text(out, ",\"aliases\":");
        write_words(out, views[i].aliases);
        ld_buffer_text(out, ",\"default_rho\":-1,\"need_inner_model\":false}");
    }
    return reply_text(ex, "]");
}

/* ---- Files ----------------------------------------------------------------------------------- */

const char *ld_a1111_model_title(struct ld_arena *arena, const struct ld_model_view *model)
{
    struct ld_buffer text = ld_buffer_make(1024);
    ld_buffer_text(&text, model->name);
    ld_buffer_text(&text, ".safetensors");
    if (model->sha256 && *model->sha256)
        ld_buffer_format(&text, " [%.10s]", model->sha256);
    const char *kept = text.failed ? NULL : ld_arena_strdup(arena, text.data);
    ld_buffer_deinit(&text);
    return kept;
}

enum ld_handled ld_handle_a1111_models(struct ld_exchange *ex)
{
    struct ld_buffer *out = &ex->reply.body;
    const struct ld_inventory *inventory = ld_inventory_acquire(ex->front->inventory);
    ld_buffer_byte(out, '[');
    for (uint32_t i = 0; inventory && i < inventory->model_count; i++) {
        const struct ld_model_view *model = &inventory->models[i];
        const char *title = ld_a1111_model_title(&ex->arena, model);
        ld_buffer_text(out, i ? ",{\"title\":" : "{\"title\":");
        ld_buffer_json_string(out, title ? title : model->name);
        ld_buffer_text(out, ",\"model_name\":");
        ld_buffer_json_string(out, model->name);
        ld_buffer_format(out, ",\"hash\":\"%.10s\",\"sha256\":\"%s\",\"filename\":", model->sha256,
                         model->sha256);
        /* A name; where files lie is nobody's business. */
        ld_buffer_json_string(out, title ? model->name : "");
        ld_buffer_text(out, ",\"config\":null}");
    }
    ld_inventory_release(ex->front->inventory, inventory);
    return reply_text(ex, "]");
}

enum ld_handled ld_handle_a1111_loras(struct ld_exchange *ex)
{
    struct ld_buffer *out = &ex->reply.body;
    const struct ld_inventory *inventory = ld_inventory_acquire(ex->front->inventory);
    ld_buffer_byte(out, '[');
    for (uint32_t i = 0; inventory && i < inventory->adapter_count; i++) {
        const struct ld_adapter_view *adapter = &inventory->adapters[i];
        ld_buffer_text(out, i ? ",{\"name\":" : "{\"name\":");
        ld_buffer_json_string(out, adapter->name);
        ld_buffer_text(out, ",\"alias\":");
        ld_buffer_json_string(out, adapter->name);
        ld_buffer_text(out, ",\"path\":");
        ld_buffer_json_string(out, adapter->name);
        ld_buffer_text(out, ",\"metadata\":{\"ss_network_dim\":");
        ld_buffer_format(out, "\"%d\",\"sshs_model_hash\":\"%s\"", adapter->rank, adapter->sha256);
        ld_buffer_text(out, ",\"modelspec.trigger_phrase\":");
        struct ld_buffer words = ld_buffer_make(4096);
        for (uint32_t w = 0; w < adapter->trigger_word_count; w++) {
            ld_buffer_text(&words, w ? ", " : "");
            ld_buffer_text(&words, adapter->trigger_words[w]);
        }
        ld_buffer_json_string(out, words.size > 0 && !words.failed ? words.data : "");
        ld_buffer_deinit(&words);
        ld_buffer_text(out, "}}");
    }
    ld_inventory_release(ex->front->inventory, inventory);
    return reply_text(ex, "]");
}

enum ld_handled ld_handle_a1111_embeddings(struct ld_exchange *ex)
{
    struct ld_buffer *out = &ex->reply.body;
    const struct ld_inventory *inventory = ld_inventory_acquire(ex->front->inventory);
    ld_buffer_text(out, "{\"loaded\":{");
    for (uint32_t i = 0; inventory && i < inventory->embedding_count; i++) {
        const struct ld_embedding_view *embedding = &inventory->embeddings[i];
        ld_buffer_text(out, i ? "," : "");
        ld_buffer_json_string(out, embedding->name);
        ld_buffer_format(out,
                         ":{\"step\":null,\"sd_checkpoint\":null,\"sd_checkpoint_name\":null,"
                         "\"shape\":%u,\"vectors\":%u}",
                         embedding->width, embedding->vectors);
    }
    ld_inventory_release(ex->front->inventory, inventory);
    return reply_text(ex, "},\"skipped\":{}}");
}

enum ld_handled ld_handle_a1111_vaes(struct ld_exchange *ex)
{
    struct ld_buffer *out = &ex->reply.body;
    const struct ld_inventory *inventory = ld_inventory_acquire(ex->front->inventory);
    ld_buffer_byte(out, '[');
    for (uint32_t i = 0; inventory && i < inventory->vae_count; i++) {
        ld_buffer_text(out, i ? ",{\"model_name\":" : "{\"model_name\":");
        ld_buffer_json_string(out, inventory->vaes[i]);
        ld_buffer_text(out, ",\"filename\":");
        ld_buffer_json_string(out, inventory->vaes[i]);
        ld_buffer_byte(out, '}');
    }
    ld_inventory_release(ex->front->inventory, inventory);
    return reply_text(ex, "]");
}

/* ---- Lists that are the same everywhere ------------------------------------------------------ */

/* Clients count on "None" being the first, and put the latent ones behind it themselves. */
enum ld_handled ld_handle_a1111_upscalers(struct ld_exchange *ex)
{
    struct ld_buffer *out = &ex->reply.body;
    const char *name;
    ld_buffer_byte(out, '[');
    for (uint32_t i = 0; (name = ld_a1111_upscaler_at(i)) != NULL; i++)
        ld_buffer_format(out,
                         "%s{\"name\":\"%s\",\"model_name\":null,\"model_path\":null,"
                         "\"model_url\":null,\"scale\":4}",
                         i ? "," : "", name);
    return reply_text(ex, "]");
}

enum ld_handled ld_handle_a1111_latent_modes(struct ld_exchange *ex)
{
    return reply_text(ex, "[{\"name\":\"Latent\"},{\"name\":\"Latent (antialiased)\"},"
                          "{\"name\":\"Latent (bicubic)\"},"
                          "{\"name\":\"Latent (bicubic antialiased)\"},"
                          "{\"name\":\"Latent (nearest)\"},{\"name\":\"Latent (nearest-exact)\"}]");
}

enum ld_handled ld_handle_a1111_empty_list(struct ld_exchange *ex)
{
    return reply_text(ex, "[]");
}

enum ld_handled ld_handle_a1111_scripts(struct ld_exchange *ex)
{
    return reply_text(ex, "{\"txt2img\":[],\"img2img\":[]}");
}

enum ld_handled ld_handle_a1111_script_info(struct ld_exchange *ex)
{
    return reply_text(
        ex, "[{\"name\":\"kohya hrfix integrated\",\"is_alwayson\":true,\"is_img2img\":false,"
            "\"args\":[{\"label\":\"Enabled\",\"value\":false},"
            "{\"label\":\"Block Number\",\"value\":3},{\"label\":\"Downscale Factor\",\"value\":2},"
            "{\"label\":\"Start Percent\",\"value\":0},{\"label\":\"End Percent\",\"value\":0.35},"
            "{\"label\":\"Downscale After Skip\",\"value\":true},"
            "{\"label\":\"Downscale Method\",\"value\":\"bicubic\"},"
            "{\"label\":\"Upscale Method\",\"value\":\"bicubic\"}]}]");
}

/* What a card or a machine has is the operator's to see (/metrics), not every caller's. */
enum ld_handled ld_handle_a1111_memory(struct ld_exchange *ex)
{
    return reply_text(ex, "{\"ram\":{\"error\":\"not told to API clients\"},"
                          "\"cuda\":{\"error\":\"not told to API clients\"}}");
}

enum ld_handled ld_handle_a1111_flags(struct ld_exchange *ex)
{
    return reply_text(ex, "{\"api\":true,\"nowebui\":true}");
}

/* The model is everybody's: the answer that clients wait for, and nothing else. */
enum ld_handled ld_handle_a1111_keep(struct ld_exchange *ex)
{
    return reply_text(ex, "null");
}

enum ld_handled ld_handle_a1111_interrogate(struct ld_exchange *ex)
{
    return ld_exchange_refuse(ex, LD_E_UNSUPPORTED, 0,
                              "latentd has no model that describes pictures");
}

/* ---- What a picture says --------------------------------------------------------------------- */

static void write_parameters(const char *infotext, struct ld_buffer *out)
{
    struct ld_infotext info;
    char value[4096];
    ld_infotext_split(&info, ld_span_text(infotext));
    ld_buffer_text(out, "{\"Prompt\":");
    ld_buffer_json_span(out, info.prompt);
    ld_buffer_text(out, ",\"Negative prompt\":");
    ld_buffer_json_span(out, info.negative);
    for (size_t i = 0; i < info.pair_count; i++) {
        const bool repeated = ld_infotext_find(&info, "Prompt") == &info.pair[i] ||
                              ld_infotext_find(&info, "Negative prompt") == &info.pair[i];
        bool seen = repeated;
        for (size_t k = 0; k < i && !seen; k++)
            seen = ld_span_equal(info.pair[k].key, info.pair[i].key);
        if (seen || !ld_infotext_value(&info.pair[i], value, sizeof value))
            continue;
        ld_buffer_byte(out, ',');
        ld_buffer_json_span(out, info.pair[i].key);
        ld_buffer_byte(out, ':');
        ld_buffer_json_string(out, value);
    }
    ld_buffer_byte(out, '}');
}

static void write_png_info(const struct ld_png_texts *texts, struct ld_buffer *out)
{
    const char *infotext = ld_png_text_find(texts, "parameters");
    const char *comma = "";
    ld_buffer_text(out, "{\"info\":");
    ld_buffer_json_string(out, infotext ? infotext : "");
    ld_buffer_text(out, ",\"items\":{");
    for (size_t i = 0; i < texts->count; i++) {
        if (ld_png_text_is_repeated(texts, i))
            continue;
        ld_buffer_text(out, comma);
        ld_buffer_json_string(out, texts->entry[i].keyword);
        ld_buffer_byte(out, ':');
        ld_buffer_json_span(out, ld_span_of(texts->entry[i].text, texts->entry[i].text_size));
        comma = ",";
    }
    ld_buffer_text(out, "},\"parameters\":");
    write_parameters(infotext ? infotext : "", out);
    ld_buffer_byte(out, '}');
}

enum ld_handled ld_handle_a1111_png_info(struct ld_exchange *ex)
{
    struct ld_json_tree tree;
    struct ld_native native;
    struct ld_translation t;
    struct ld_png_texts texts = {0};
    struct ld_error err = {0};
    struct ld_arena arena;
    if (!ld_dialect_body(ex, &tree, LD_JSON_VALUES))
        return LD_HANDLED;
    const struct ld_json_node *image = ld_lenient_member(&tree, ld_json_root(&tree), "image");
    if (!image)
        return ld_exchange_refuse(ex, LD_E_INVALID, 0, "image is required");
    ld_native_init(&native, &ex->arena);
    ld_translation_init(&t, &native);
    ld_arena_init(&arena, "png texts", TEXT_ARENA_BYTES);
    ld_translate_picture(&t, image, "/image", "init.image");
    enum ld_handled handled = LD_HANDLED;
    if (native.problem.code != LD_OK) {
        handled = ld_exchange_problem(ex, &native.problem);
    } else if (ld_picture_texts_read(&texts, &arena,
                                     ld_span_of(native.init_image.data, native.init_image.size),
                                     true, &err) != LD_OK) {
        err.code = LD_E_INVALID;
        handled = ld_exchange_fail(ex, &err);
    } else {
        write_png_info(&texts, &ex->reply.body);
        handled = ld_exchange_json(ex, 200);
    }
    ld_arena_deinit(&arena);
    ld_translation_deinit(&t);
    ld_native_deinit(&native);
    return handled;
}
