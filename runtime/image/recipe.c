/* Which of the sources in a picture is read, and our own canonical request. */
#include "runtime/base/json_find.h"
#include "runtime/image/png_meta.h"
#include "runtime/image/recipe_build.h"

#include <string.h>

const char *ld_recipe_source_name(enum ld_recipe_source source)
{
    static const char *const names[] = {
        [LD_RECIPE_NONE] = "none",     [LD_RECIPE_LATENTD] = "latentd", [LD_RECIPE_A1111] = "a1111",
        [LD_RECIPE_COMFY] = "comfyui", [LD_RECIPE_NOVELAI] = "novelai",
    };
    return names[source];
}

void ld_recipe_deinit(struct ld_recipe *recipe)
{
    ld_buffer_deinit(&recipe->request);
    ld_buffer_deinit(&recipe->notes);
}

/* The whole text must be one JSON object. */
static enum ld_code check_object(struct ld_span text, struct ld_error *err)
{
    struct ld_json json;
    struct ld_json_token token;
    ld_json_init(&json, text, 16, 8192);
    enum ld_code code = ld_json_next(&json, &token, err);
    if (code == LD_OK && token.kind != LD_JSON_OBJECT_BEGIN)
        return LD_FAIL(err, LD_E_FORMAT, "the image's recipe is no JSON object");
    while (code == LD_OK && token.kind != LD_JSON_END)
        code = ld_json_next(&json, &token, err);
    return code;
}

/* {"request": {...}, "model": {"sha256"}, ...}, or the request itself. */
static enum ld_code read_latentd(struct ld_recipe *recipe, struct ld_span text,
                                 struct ld_error *err)
{
    struct ld_span request = text;
    ld_recipe_init(recipe, LD_RECIPE_LATENTD);
    const enum ld_code code = check_object(text, err);
    if (code != LD_OK)
        return code;
    if (!ld_json_find_span(text, "/request", &request))
        request = text;
    if (!ld_json_find_string(text, "/model/sha256", recipe->model_hash,
                             sizeof recipe->model_hash) &&
        !ld_json_find_string(text, "/model_sha256", recipe->model_hash, sizeof recipe->model_hash))
        recipe->model_hash[0] = '\0';
    ld_buffer_clear(&recipe->request);
    ld_buffer_bytes(&recipe->request, request.data, request.size);
    if (recipe->request.failed)
        return LD_FAIL(err, LD_E_TOO_LARGE, "the image's recipe is larger than a request may be");
    return LD_OK;
}

static bool looks_like_novelai(const struct ld_png_texts *texts, const char *comment)
{
    const char *software = ld_png_text_find(texts, "Software");
    struct ld_json_token token;
    if (!comment)
        return false;
    return (software && strcmp(software, "NovelAI") == 0) ||
           (ld_json_find(ld_span_text(comment), "/uc", &token) &&
            ld_json_find(ld_span_text(comment), "/sampler", &token));
}

/*
 * ComfyUI writes Python's JSON, in which a float may be NaN or Infinity. Replaced by blanks and a
 * zero outside of strings; the text is our own copy.
 */
static void repair_numbers(char *text)
{
    static const char *const words[] = {"-Infinity", "Infinity", "NaN"};
    bool in_string = false;
    for (char *p = text; *p; p++) {
        if (in_string && *p == '\\' && p[1])
            p++;
        else if (*p == '"')
            in_string = !in_string;
        for (size_t w = 0; !in_string && w < sizeof words / sizeof words[0]; w++) {
            const size_t size = strlen(words[w]);
            if (strncmp(p, words[w], size) == 0) {
                memset(p, ' ', size);
                *p = '0';
            }
        }
    }
}

static enum ld_code read_graph(struct ld_recipe *recipe, const char *text, struct ld_error *err)
{
    char *copy = ld_heap_strdup(text);
    ld_recipe_init(recipe, LD_RECIPE_NONE); /* for the caller's deinit */
    if (!copy)
        return LD_FAIL(err, LD_E_NOMEM, "no memory to read the image's graph");
    repair_numbers(copy);
    ld_recipe_deinit(recipe);
    const enum ld_code code = ld_recipe_from_graph(recipe, ld_span_text(copy), err);
    ld_heap_free(copy);
    return code;
}

enum ld_code ld_recipe_read(struct ld_recipe *recipe, const struct ld_png_texts *texts,
                            struct ld_error *err)
{
    const char *own = ld_png_text_find(texts, "latentd");
    const char *comment = ld_png_text_find(texts, "Comment");
    const char *infotext = ld_png_text_find(texts, "parameters");
    const char *graph = ld_png_text_find(texts, "prompt");
    if (own)
        return read_latentd(recipe, ld_span_text(own), err);
    if (looks_like_novelai(texts, comment))
        return ld_recipe_from_novelai(recipe, ld_span_text(comment), err);
    if (infotext)
        return ld_recipe_from_infotext(recipe, ld_span_text(infotext), err);
    if (graph)
        return read_graph(recipe, graph, err);
    ld_recipe_init(recipe, LD_RECIPE_NONE);
    return LD_OK;
}

/* ---- As a document --------------------------------------------------------------------------- */

bool ld_png_text_is_repeated(const struct ld_png_texts *texts, size_t index)
{
    return ld_png_text_find(texts, texts->entry[index].keyword) != texts->entry[index].text;
}

void ld_png_texts_write_json(const struct ld_png_texts *texts, struct ld_buffer *out)
{
    const char *comma = "";
    ld_buffer_text(out, "{");
    for (size_t i = 0; i < texts->count; i++) {
        if (ld_png_text_is_repeated(texts, i))
            continue;
        ld_buffer_text(out, comma);
        ld_buffer_json_string(out, texts->entry[i].keyword);
        ld_buffer_text(out, ":");
        ld_buffer_json_span(out, ld_span_of(texts->entry[i].text, texts->entry[i].text_size));
        comma = ",";
    }
    ld_buffer_text(out, "}");
}

void ld_recipe_write_json(const struct ld_recipe *recipe, const struct ld_png_texts *texts,
                          struct ld_buffer *out)
{
    ld_buffer_text(out, "{\"source\":");
    ld_buffer_json_string(out, ld_recipe_source_name(recipe->source));
    ld_buffer_text(out, ",\"model_hash\":");
    ld_buffer_json_string(out, recipe->model_hash);
    ld_buffer_text(out, ",\"request\":");
    ld_buffer_text(out, recipe->request.size ? recipe->request.data : "{}");
    ld_buffer_text(out, ",\"notes\":");
    ld_buffer_text(out, recipe->notes.size ? recipe->notes.data : "[]");
    ld_buffer_text(out, ",\"texts\":");
    ld_png_texts_write_json(texts, out);
    ld_buffer_text(out, "}");
}
