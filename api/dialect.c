#include "api/dialect.h"

#include "api/base64.h"

#include <stdarg.h>
#include <stdio.h>
#include <strings.h>

/* ---- Whose path ------------------------------------------------------------------------------ */

static bool begins(const char *path, const char *head)
{
    return strncmp(path, head, strlen(head)) == 0;
}

/* `head` as a whole first segment. */
static bool is_under(const char *path, const char *head)
{
    const size_t size = strlen(head);
    return strncmp(path, head, size) == 0 && (path[size] == '\0' || path[size] == '/');
}

enum ld_dialect ld_dialect_of_path(const char *path)
{
    static const char *const comfy[] = {
        "/api",       "/prompt",     "/queue",       "/history",      "/view",         "/upload",
        "/interrupt", "/free",       "/object_info", "/embeddings",   "/models",       "/ws",
        "/features",  "/extensions", "/userdata",    "/system_stats", "/view_metadata"};
    const char *bare = begins(path, "/v1/") ? path + 3 : path;
    if (is_under(path, "/sdapi") || is_under(path, "/internal") || is_under(path, "/controlnet"))
        return LD_DIALECT_A1111;
    /* /v1/images and /v1/models themselves are ours. */
    if (begins(bare, "/images/") || begins(path, "/v1/models/"))
        return LD_DIALECT_OPENAI;
    if (is_under(path, "/ai") || is_under(path, "/user"))
        return LD_DIALECT_NOVELAI;
    for (size_t i = 0; i < sizeof comfy / sizeof comfy[0]; i++)
        if (is_under(path, comfy[i]))
            return LD_DIALECT_COMFY;
    return LD_DIALECT_NATIVE;
}

/* ---- Translating ----------------------------------------------------------------------------- */

void ld_translation_init(struct ld_translation *t, struct ld_native *native)
{
    t->native = native;
    ld_recipe_fields_init(&t->fields);
}

void ld_translation_deinit(struct ld_translation *t)
{
    ld_buffer_deinit(&t->fields.values);
    ld_buffer_deinit(&t->fields.notes);
}

void ld_translation_refuse(struct ld_translation *t, const char *pointer, const char *format, ...)
{
    char text[LD_ERROR_DETAIL_SIZE];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    (void)ld_problem_add(&t->native->problem, LD_E_UNSUPPORTED, pointer, "%s", text);
}

void ld_translation_warn(struct ld_translation *t, const char *format, ...)
{
    char text[LD_ERROR_DETAIL_SIZE];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    ld_warnings_add(&t->native->warnings, "%s", text);
}

void ld_translate_notes(struct ld_translation *t, const struct ld_recipe *recipe)
{
    struct ld_json_tree tree;
    struct ld_error err = {0};
    if (ld_json_scan(&tree, ld_span_of(recipe->notes.data, recipe->notes.size), 2,
                     LD_RECIPE_NOTES_MAX + 1, t->native->arena, &err) != LD_OK)
        return; /* they are ours: this is a lack of memory, and the request still stands */
    for (const struct ld_json_node *note = ld_json_first(&tree, ld_json_root(&tree)); note;
         note = ld_json_after(&tree, note)) {
        const char *text = ld_lenient_text(note, t->native->arena);
        if (text)
            ld_translation_warn(t, "%s", text);
    }
}

bool ld_translation_finish(struct ld_translation *t, struct ld_recipe *recipe)
{
    struct ld_error err = {0};
    ld_recipe_init(recipe, LD_RECIPE_NONE);
    if (ld_recipe_fields_finish(&t->fields, recipe, &err) != LD_OK) {
        (void)ld_problem_add_error(&t->native->problem, "", &err);
        return false;
    }
    ld_translate_notes(t, recipe);
    return t->native->problem.code == LD_OK;
}

/* ---- Pictures -------------------------------------------------------------------------------- */

static struct ld_buffer *place_of(struct ld_translation *t, const char *field)
{
    struct ld_native *native = t->native;
    struct ld_buffer *out =
        strcmp(field, "init.mask") == 0 ? &native->init_mask : &native->init_image;
    ld_buffer_deinit(out);
    *out = ld_buffer_make(LD_UPLOAD_BYTES_MAX);
    ld_recipe_put_json(&t->fields, field, ld_span_text(LD_TRANSLATED_PICTURE));
    return out;
}

static struct ld_span without_prefix(struct ld_span text)
{
    const uint8_t *comma = text.size > 5 && memcmp(text.data, "data:", 5) == 0
                               ? memchr(text.data, ',', text.size < 128 ? text.size : 128)
                               : NULL;
    if (!comma)
        return text;
    const size_t skip = (size_t)(comma - text.data) + 1;
    return ld_span_of(text.data + skip, text.size - skip);
}

static bool is_url(struct ld_span text)
{
    return (text.size >= 7 && strncasecmp((const char *)text.data, "http://", 7) == 0) ||
           (text.size >= 8 && strncasecmp((const char *)text.data, "https://", 8) == 0) ||
           (text.size >= 7 && strncasecmp((const char *)text.data, "file://", 7) == 0);
}

void ld_translate_picture_into(struct ld_translation *t, const struct ld_json_node *node,
                               const char *pointer, struct ld_buffer *out)
{
    struct ld_error err = {0};
    struct ld_span text;
    if (node->kind != LD_JSON_STRING) {
        ld_translation_refuse(t, pointer, "%s must be a picture in base64", pointer + 1);
        return;
    }
    if (!ld_json_string_text(node, t->native->arena, &text)) {
        (void)ld_problem_add(&t->native->problem, LD_E_NOMEM, pointer, "out of memory");
        return;
    }
    if (is_url(text)) {
        ld_translation_refuse(
            t, pointer, "%s must be the picture itself in base64; no URL is fetched", pointer + 1);
        return;
    }
    ld_buffer_deinit(out);
    *out = ld_buffer_make(LD_UPLOAD_BYTES_MAX);
    const enum ld_code code = ld_base64_decode(without_prefix(text), out, &err);
    if (code != LD_OK)
        (void)ld_problem_add(&t->native->problem, code, pointer, "%s: %.200s", pointer + 1,
                             err.detail);
    else if (out->size == 0)
        ld_translation_refuse(t, pointer, "%s must not be empty", pointer + 1);
}

void ld_translate_picture(struct ld_translation *t, const struct ld_json_node *node,
                          const char *pointer, const char *field)
{
    ld_translate_picture_into(t, node, pointer, place_of(t, field));
}

void ld_translate_picture_bytes(struct ld_translation *t, struct ld_span png, const char *pointer,
                                const char *field)
{
    struct ld_buffer *out = place_of(t, field);
    ld_buffer_bytes(out, png.data, png.size);
    if (out->failed)
        (void)ld_problem_add(&t->native->problem, LD_E_TOO_LARGE, pointer,
                             "%s must have at most %d bytes", pointer + 1, LD_UPLOAD_BYTES_MAX);
    else if (out->size == 0)
        ld_translation_refuse(t, pointer, "%s must not be empty", pointer + 1);
}
