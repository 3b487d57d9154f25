#include "api/dialect_openai.h"

#include "runtime/image/picture_header.h"

#include <math.h>
#include <strings.h>

enum { COUNT_MAX = 10, PARTIALS_MAX = 3, FORM_BYTES_MAX = 256 * 1024 };

/* Native names first, then what other servers of this interface call them. */
static const struct ld_dialect_row rows[] = {
    {"prompt", LD_DIALECT_READ, NULL},
    {"model", LD_DIALECT_READ, NULL},
    {"n", LD_DIALECT_READ, NULL},
    {"size", LD_DIALECT_READ, NULL},
    {"quality", LD_DIALECT_READ, NULL},
    {"response_format", LD_DIALECT_READ, NULL},
    {"output_format", LD_DIALECT_TEXT, "output.format"},
    {"output_compression", LD_DIALECT_READ, NULL},
    {"background", LD_DIALECT_READ, NULL},
    {"moderation", LD_DIALECT_READ, NULL},
    {"style", LD_DIALECT_READ, NULL},
    {"stream", LD_DIALECT_READ, NULL},
    {"partial_images", LD_DIALECT_READ, NULL},
    {"input_fidelity", LD_DIALECT_READ, NULL},
    {"user", LD_DIALECT_IGNORE, NULL},
    {"strength", LD_DIALECT_READ, NULL},
    {"negative_prompt", LD_DIALECT_TEXT, "negative_prompt"},
    {"seed", LD_DIALECT_SEED, "seed"},
    {"steps", LD_DIALECT_WHOLE, "steps"},
    {"num_inference_steps", LD_DIALECT_WHOLE, "steps"},
    {"cfg_scale", LD_DIALECT_NUMBER, "cfg_scale"},
    {"guidance_scale", LD_DIALECT_NUMBER, "cfg_scale"},
    {"true_cfg_scale", LD_DIALECT_NUMBER, "cfg_scale"},
    {"sampler", LD_DIALECT_TEXT, "sampler"},
    {"scheduler", LD_DIALECT_TEXT, "scheduler"},
    {"clip_skip", LD_DIALECT_WHOLE, "clip_skip"},
    {"loras", LD_DIALECT_READ, NULL},
    {NULL, LD_DIALECT_READ, NULL},
};

struct body {
    struct ld_translation *t;
    struct ld_openai_call *call;
    const struct ld_json_node *root;
};

static const struct ld_json_node *member(const struct body *b, const char *key)
{
    return ld_lenient_member(&b->call->tree, b->root, key);
}

static const char *text(const struct body *b, const char *key, const char *by_default)
{
    return ld_body_text(b->t, &b->call->tree, b->root, key, by_default);
}

/* ---- Forms ----------------------------------------------------------------------------------- */

static bool is_seen(const struct ld_span *names, uint32_t count, struct ld_span name)
{
    for (uint32_t i = 0; i < count; i++)
        if (ld_span_equal(names[i], name))
            return true;
    return false;
}

enum ld_code ld_openai_read_form(struct ld_openai_call *call, const char *content_type,
                                 struct ld_span body, struct ld_arena *arena, struct ld_error *err)
{
    struct ld_multipart reader;
    struct ld_multipart_part part;
    struct ld_span names[LD_MULTIPART_FORM_PARTS_MAX];
    uint32_t count = 0;
    struct ld_buffer json = ld_buffer_make(FORM_BYTES_MAX);
    enum ld_code code = ld_multipart_open(&reader, content_type, body, err);
    reader.parts_max = LD_MULTIPART_FORM_PARTS_MAX;
    ld_buffer_byte(&json, '{');
    while (code == LD_OK && (code = ld_multipart_next(&reader, &part, err)) == LD_OK &&
           part.found) {
        if (ld_span_is(part.name, "image") || ld_span_is(part.name, "image[]")) {
            if (call->image_count++ == 0)
                call->image = part.data;
        } else if (ld_span_is(part.name, "mask")) {
            call->mask = part.data;
        } else if (!is_seen(names, count, part.name)) {
            ld_buffer_text(&json, count ? "," : "");
            ld_buffer_json_span(&json, part.name);
            ld_buffer_byte(&json, ':');
            ld_buffer_json_span(&json, part.data);
            names[count++] = part.name;
        }
    }
    ld_buffer_byte(&json, '}');
    if (code == LD_OK && json.failed)
        code = LD_FAIL(err, LD_E_TOO_LARGE, "the texts of the form have more than %d bytes",
                       FORM_BYTES_MAX);
    char *kept = code == LD_OK ? ld_arena_strndup(arena, json.data, json.size) : NULL;
    if (code == LD_OK)
        code = kept ? ld_json_scan(&call->tree, ld_span_of(kept, json.size), LD_JSON_DEPTH,
                                   LD_JSON_VALUES, arena, err)
                    : LD_FAIL(err, LD_E_NOMEM, "out of memory");
    ld_buffer_deinit(&json);
    return code;
}

/* ---- Fields ---------------------------------------------------------------------------------- */

/* Names of the original service's models stand for whatever this server paints with. */
static void put_model(const struct body *b)
{
    static const char *const theirs[] = {"dall-e", "gpt-image", "chatgpt-image"};
    const char *model = text(b, "model", "");
    char name[LD_RECIPE_NAME_SIZE];
    if (!*model)
        return;
    for (size_t i = 0; i < sizeof theirs / sizeof theirs[0]; i++) {
        if (strncasecmp(model, theirs[i], strlen(theirs[i])) == 0) {
            ld_translation_warn(b->t, "model: the server's default stands in for %.64s", model);
            return;
        }
    }
    ld_recipe_model_name(ld_span_text(model), name);
    ld_recipe_put_string(&b->t->fields, "model", name);
}

/* "auto" for an edit: the picture's own shape, in multiples of 8, at most a megapixel and a
 * quarter; smaller pictures keep their size. */
static void put_own_size(const struct body *b)
{
    struct ld_picture_header header;
    struct ld_error err;
    const double area_max = 1250000;
    if (ld_picture_check_header(&header, b->call->image, &err) != LD_OK)
        return; /* refused where the picture is taken */
    const double area = (double)header.width * header.height;
    const double scale = area > area_max ? sqrt(area_max / area) : 1;
    const double width = header.width * scale / 8;
    const double height = header.height * scale / 8;
    ld_recipe_put_integer(&b->t->fields, "width", (int64_t)(width < 8 ? 8 : width + 0.5) * 8);
    ld_recipe_put_integer(&b->t->fields, "height", (int64_t)(height < 8 ? 8 : height + 0.5) * 8);
}

static void put_size(const struct body *b)
{
    b->call->size = text(b, "size", "auto");
    if (strcmp(b->call->size, "auto") != 0)
        ld_recipe_put_string(&b->t->fields, "size", b->call->size);
    else if (b->call->kind != LD_OPENAI_GENERATE)
        put_own_size(b);
}

static void put_count(const struct body *b)
{
    const int64_t count = ld_body_whole(b->t, &b->call->tree, b->root, "n", 1);
    if (count < 1 || count > COUNT_MAX)
        ld_translation_refuse(b->t, "/n", "n must be between 1 and %d", COUNT_MAX);
    else
        ld_recipe_put_integer(&b->t->fields, "images", count);
}

static bool is_one_of(const char *word, const char *list)
{
    const size_t size = strlen(word);
    for (const char *at = list; *at;) {
        const size_t length = strcspn(at, "|");
        if (length == size && strncmp(at, word, size) == 0)
            return true;
        at += length + (at[length] == '|');
    }
    return false;
}

static const char *word(const struct body *b, const char *key, const char *list,
                        const char *by_default)
{
    char pointer[64];
    const char *value = text(b, key, by_default);
    (void)ld_fmt(pointer, sizeof pointer, "/%s", key);
    if (!is_one_of(value, list))
        ld_translation_refuse(b->t, pointer, "%s must be one of %s", key, list);
    return value;
}

/* Words of the original service that choose among its own ways of working. */
static void read_words(const struct body *b)
{
    struct ld_openai_call *call = b->call;
    call->quality = word(b, "quality", "auto|standard|hd|low|medium|high", "auto");
    call->background = word(b, "background", "auto|opaque|transparent", "auto");
    const char *format = word(b, "response_format", "b64_json|url", "b64_json");
    (void)word(b, "style", "vivid|natural", "vivid");
    (void)word(b, "moderation", "auto|low", "auto");
    (void)word(b, "input_fidelity", "low|high", "low");
    call->wants_url = strcmp(format, "url") == 0;
    if (strcmp(call->background, "transparent") == 0)
        ld_translation_refuse(b->t, "/background",
                              "background: latentd paints opaque pictures only");
    if (!is_one_of(call->quality, "auto|standard"))
        ld_translation_warn(b->t, "quality has no meaning here; steps has");
    if (member(b, "style"))
        ld_translation_warn(b->t, "style has no meaning here; the prompt has");
}

/* What is called compression there is the quality that is kept. */
static void put_output(const struct body *b)
{
    struct ld_openai_call *call = b->call;
    const double kept = ld_body_number(b->t, &call->tree, b->root, "output_compression", 100);
    call->format = text(b, "output_format", "png");
    if (!(kept >= 0 && kept <= 100))
        ld_translation_refuse(b->t, "/output_compression",
                              "output_compression must be between 0 and 100");
    else if (strcmp(call->format, "jpeg") == 0 || strcmp(call->format, "webp") == 0)
        ld_recipe_put_integer(&b->t->fields, "output.quality",
                              kept < 1 ? 1 : (int64_t)(kept + 0.5));
    else if (kept < 100)
        ld_translation_warn(b->t, "output_compression has no meaning for PNG, which loses nothing");
}

static void read_stream(const struct body *b)
{
    struct ld_openai_call *call = b->call;
    call->stream = ld_body_flag(b->t, &call->tree, b->root, "stream", false);
    call->partial_images = ld_body_whole(b->t, &call->tree, b->root, "partial_images", 0);
    if (call->partial_images < 0 || call->partial_images > PARTIALS_MAX) {
        ld_translation_refuse(b->t, "/partial_images", "partial_images must be between 0 and %d",
                              PARTIALS_MAX);
        return;
    }
    if (!call->stream || call->partial_images == 0)
        return;
    int64_t steps = ld_body_whole(b->t, &call->tree, b->root, "steps", 0);
    if (steps <= 0)
        steps = ld_body_whole(b->t, &call->tree, b->root, "num_inference_steps", 0);
    if (steps <= 0)
        steps = call->default_steps;
    const int64_t every = steps / (call->partial_images + 1);
    ld_recipe_put_integer(&b->t->fields, "preview.every", every < 1 ? 1 : every);
    ld_recipe_put_integer(&b->t->fields, "preview.size", 1024);
}

static void put_loras(const struct body *b)
{
    const struct ld_json_node *loras = member(b, "loras");
    if (loras && loras->kind == LD_JSON_ARRAY_BEGIN)
        ld_recipe_put_json(&b->t->fields, "loras", loras->text);
    else if (loras)
        ld_translation_refuse(b->t, "/loras",
                              "loras must be a list of objects with name and weight");
}

static void put_pictures(const struct body *b)
{
    const struct ld_openai_call *call = b->call;
    const bool vary = call->kind == LD_OPENAI_VARY;
    const bool masked = call->mask.size > 0;
    if (call->image_count == 0) {
        (void)ld_problem_add(&b->t->native->problem, LD_E_INVALID, "/image", "image is required");
        return;
    }
    ld_translate_picture_bytes(b->t, call->image, "/image", "init.image");
    if (call->image_count > 1)
        ld_translation_warn(b->t,
                            "image: the first of %u pictures is edited, the others were "
                            "not looked at",
                            call->image_count);
    if (masked) {
        ld_translate_picture_bytes(b->t, call->mask, "/mask", "init.mask");
        ld_recipe_put_string(&b->t->fields, "init.mask_from", "transparent");
    }
    ld_recipe_put_string(&b->t->fields, "init.resize", "crop");
    ld_recipe_put_double(&b->t->fields, "init.strength",
                         ld_body_number(b->t, &call->tree, b->root, "strength",
                                        masked ? 0.9
                                        : vary ? 0.6
                                               : 0.7));
}

void ld_openai_translate(struct ld_translation *t, struct ld_openai_call *call)
{
    const struct body b = {t, call, ld_json_root(&call->tree)};
    const bool wants_prompt = call->kind != LD_OPENAI_VARY;
    ld_translate_rows(t, &call->tree, b.root, rows);
    const char *prompt = text(&b, "prompt", "");
    if (wants_prompt && !*prompt)
        (void)ld_problem_add(&t->native->problem, LD_E_INVALID, "/prompt", "prompt is required");
    ld_recipe_put_prompt(&t->fields, ld_span_text(prompt));
    put_model(&b);
    put_count(&b);
    put_size(&b);
    read_words(&b);
    put_output(&b);
    read_stream(&b);
    put_loras(&b);
    if (call->kind != LD_OPENAI_GENERATE)
        put_pictures(&b);
}
