/*
 * A ComfyUI API graph to a native request: from the sampler node along its links to the prompts,
 * the model with its patches, and the latent. Source: api.md 2.4, ComfyUI's node definitions.
 */
#include "config/limits.h"
#include "runtime/image/graph_index.h"
#include "runtime/image/recipe_build.h"
#include "runtime/image/recipe_graph_tables.h"

#include <string.h>

struct reading {
    struct ld_graph graph;
    struct ld_recipe_fields fields;
    struct ld_buffer loras; /* objects, nearest the sampler first, so they are put in front */
    uint32_t lora_count;
    bool second; /* the nodes being read belong to the second pass */
};

typedef const struct ld_graph_node *node_ref;

/* ---- Values ---------------------------------------------------------------------------------- */

/* A word as the native form spells it: "Half Cosine Down" and "MEAN" in lower case. */
static void put_word(struct reading *r, const char *path, enum ld_graph_put how, char *word,
                     size_t size)
{
    char text[LD_RECIPE_NAME_SIZE + 16];
    for (size_t i = 0; i < size; i++) {
        const char c = word[i];
        word[i] = (char)(c == ' ' ? '_' : c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c);
    }
    const char *prefix = how == LD_PUT_LATENT ? "latent-" : how == LD_PUT_PIXEL ? "pixel-" : "";
    if (ld_fmt(text, sizeof text, "%s%.*s", prefix, (int)size, word))
        ld_recipe_put_string(&r->fields, path, text);
}

/* Put one input under `path` as the table's kind says; false if it is not there or another kind. */
static bool put_input(struct reading *r, node_ref node, const char *name, const char *path,
                      enum ld_graph_put how)
{
    const struct ld_graph_input *input = ld_graph_input(&r->graph, node, name);
    char word[LD_RECIPE_NAME_SIZE], file[LD_RECIPE_NAME_SIZE];
    size_t size;
    node_ref carrier = ld_graph_target(&r->graph, input);
    if (carrier) { /* a primitive node holds the value */
        input = ld_graph_input(&r->graph, carrier, "value");
        input = input ? input : ld_graph_input(&r->graph, carrier, name);
    }
    if (!input)
        return false;
    const struct ld_span text = input->token.text;
    const bool number = input->kind == LD_GRAPH_NUMBER;
    switch (how) {
    case LD_PUT_NUMBER:
        return number && ld_recipe_put_number(&r->fields, path, text);
    case LD_PUT_WHOLE:
        return number && ld_recipe_put_whole(&r->fields, path, text);
    case LD_PUT_SEED:
        return number && ld_recipe_put_seed_text(&r->fields, path, text);
    case LD_PUT_BOOL:
        if (input->kind == LD_GRAPH_BOOL)
            ld_recipe_put_bool(&r->fields, path, input->token.kind == LD_JSON_TRUE);
        return input->kind == LD_GRAPH_BOOL;
    case LD_PUT_WORD:
    case LD_PUT_FILE:
    case LD_PUT_LATENT:
    case LD_PUT_PIXEL:
        break;
    }
    if (input->kind != LD_GRAPH_TEXT || !ld_json_unescape(&input->token, word, sizeof word, &size))
        return false;
    if (how == LD_PUT_FILE) {
        ld_recipe_model_name(ld_span_of(word, size), file);
        ld_recipe_put_string(&r->fields, path, file);
    } else {
        put_word(r, path, how, word, size);
    }
    return true;
}

static bool number_of(struct reading *r, node_ref node, const char *name, double *out)
{
    const struct ld_graph_input *input = ld_graph_input(&r->graph, node, name);
    return input && input->kind == LD_GRAPH_NUMBER && ld_parse_double(input->token.text, out);
}

static void note_class(struct reading *r, node_ref node, const char *what)
{
    const struct ld_span name = node->class_type.text;
    ld_recipe_note(&r->fields, "node %.*s: %s", (int)(name.size < 60 ? name.size : 60),
                   name.data ? (const char *)name.data : "", what);
}

/* ---- Prompts --------------------------------------------------------------------------------- */

/* A text input, through nodes that only carry a string. */
static bool put_text(struct reading *r, node_ref node, const char *name, const char *path)
{
    static const char *const carriers[] = {"text", "string", "value", "prompt", "text_g"};
    const struct ld_graph_input *input = ld_graph_input(&r->graph, node, name);
    for (int hop = 0; input && input->kind == LD_GRAPH_LINK && hop < LD_GRAPH_HOPS_MAX; hop++) {
        node_ref carrier = ld_graph_target(&r->graph, input);
        input = NULL;
        for (size_t c = 0; c < sizeof carriers / sizeof carriers[0] && !input; c++)
            input = ld_graph_input(&r->graph, carrier, carriers[c]);
    }
    if (!input || input->kind != LD_GRAPH_TEXT)
        return false;
    /* A string's literal, quotes included, is the JSON that is wanted. */
    ld_recipe_put_json(&r->fields, path,
                       ld_span_of(input->token.text.data - 1, input->token.text.size + 2));
    return true;
}

/* The node that encodes a prompt, through nodes that restrict or combine it. */
static node_ref encoder_of(struct reading *r, node_ref node, const char *name)
{
    static const char *const ways[] = {"conditioning", "conditioning_1", "conditioning_to"};
    node_ref at = ld_graph_follow(&r->graph, node, name);
    for (int hop = 0; at && hop < LD_GRAPH_HOPS_MAX; hop++) {
        if (ld_graph_is(at, "CLIPTextEncode") || ld_graph_is(at, "ConditioningZeroOut"))
            return at;
        note_class(r, at,
                   ld_graph_input(&r->graph, at, "control_net")
                       ? LD_RECIPE_NOTE_CONTROL
                       : "its effect on a prompt was left out");
        /* A node with both sides (ControlNet) carries each through under its own name. */
        node_ref next = ld_graph_follow(&r->graph, at, name);
        for (size_t w = 0; w < sizeof ways / sizeof ways[0] && !next; w++)
            next = ld_graph_follow(&r->graph, at, ways[w]);
        at = next;
    }
    return NULL;
}

/* CLIP's last layer, on the way from a text encoder to the checkpoint. */
static void put_clip_skip(struct reading *r, node_ref encoder)
{
    double layer = -1;
    node_ref at = ld_graph_follow(&r->graph, encoder, "clip");
    for (int hop = 0; at && hop < LD_GRAPH_HOPS_MAX; hop++) {
        if (ld_graph_is(at, "CLIPSetLastLayer")) {
            (void)number_of(r, at, "stop_at_clip_layer", &layer);
            break;
        }
        at = ld_graph_follow(&r->graph, at, "clip");
    }
    if (layer <= -1 && layer >= -24)
        ld_recipe_put_integer(&r->fields, "clip_skip", (int64_t)-layer);
}

static void put_prompts(struct reading *r, node_ref sampler)
{
    node_ref positive = encoder_of(r, sampler, "positive");
    if (!positive) /* a guider without a negative */
        positive = encoder_of(r, sampler, "conditioning");
    node_ref negative = encoder_of(r, sampler, "negative");
    if (r->second) {
        if (positive)
            (void)put_text(r, positive, "text", "hires.prompt");
        if (negative && ld_graph_is(negative, "CLIPTextEncode"))
            (void)put_text(r, negative, "text", "hires.negative_prompt");
        return;
    }
    ld_recipe_put_string(&r->fields, "prompt", "");
    if (!positive || !put_text(r, positive, "text", "prompt"))
        ld_recipe_note(&r->fields, "the prompt was not found in the graph");
    if (negative && ld_graph_is(negative, "CLIPTextEncode"))
        (void)put_text(r, negative, "text", "negative_prompt");
    if (positive)
        put_clip_skip(r, positive);
}

/* ---- Model ----------------------------------------------------------------------------------- */

static void put_lora(struct reading *r, node_ref node)
{
    const struct ld_graph_input *file = ld_graph_input(&r->graph, node, "lora_name");
    char raw[LD_RECIPE_NAME_SIZE], name[LD_RECIPE_NAME_SIZE];
    size_t size;
    double weight = 1, text_weight;
    if (!file || file->kind != LD_GRAPH_TEXT || r->lora_count == LD_LORAS_MAX ||
        !ld_json_unescape(&file->token, raw, sizeof raw, &size))
        return;
    ld_recipe_model_name(ld_span_of(raw, size), name);
    (void)number_of(r, node, "strength_model", &weight);
    if (!number_of(r, node, "strength_clip", &text_weight))
        text_weight = ld_graph_is(node, "LoraLoaderModelOnly") ? 0 : weight;
    struct ld_buffer one = ld_buffer_make(4096);
    ld_buffer_text(&one, "{\"name\":");
    ld_buffer_json_string(&one, name);
    ld_buffer_text(&one, ",\"weight\":");
    ld_buffer_json_double(&one, weight);
    if (text_weight != weight) {
        ld_buffer_text(&one, ",\"text_weight\":");
        ld_buffer_json_double(&one, text_weight);
    }
    ld_buffer_byte(&one, '}');
    if (r->lora_count++ > 0) {
        ld_buffer_byte(&one, ',');
        ld_buffer_bytes(&one, r->loras.data, r->loras.size);
    }
    ld_buffer_clear(&r->loras);
    ld_buffer_bytes(&r->loras, one.data, one.size);
    ld_buffer_deinit(&one);
}

/* Where a row's value belongs: its path, or that of the second pass; NULL for what a second pass
 * has not of its own. */
static const char *path_of(const struct reading *r, const char *path)
{
    static const char *const seconds[][2] = {{"steps", "hires.steps"},
                                             {"cfg_scale", "hires.cfg_scale"},
                                             {"model", "hires.model"},
                                             {"sampler", "hires.sampler"},
                                             {"scheduler", "hires.scheduler"}};
    if (!r->second || strncmp(path, "hires.", 6) == 0)
        return path;
    for (size_t i = 0; i < sizeof seconds / sizeof seconds[0]; i++)
        if (strcmp(seconds[i][0], path) == 0)
            return seconds[i][1];
    return NULL;
}

/* A row of the table that the node's class has, applied. False for an unknown class. */
static bool put_patch(struct reading *r, node_ref node)
{
    bool known = false;
    for (const struct ld_graph_row *row = ld_graph_patch_rows; row->class_type; row++) {
        if (!ld_graph_is(node, row->class_type))
            continue;
        known = true;
        const char *path = path_of(r, row->path);
        if (path && row->constant)
            ld_recipe_put_json(&r->fields, path, ld_span_text(row->constant));
        else if (path)
            (void)put_input(r, node, row->input, path, row->how);
    }
    return known;
}

/* The last node that a sampler's model went through. */
static node_ref model_of(struct reading *r, node_ref sampler)
{
    node_ref at = ld_graph_follow(&r->graph, sampler, "model");
    if (!at) /* SamplerCustomAdvanced: the guider has it */
        at = ld_graph_follow(&r->graph, ld_graph_follow(&r->graph, sampler, "guider"), "model");
    return at;
}

static void put_model(struct reading *r, node_ref sampler)
{
    node_ref at = model_of(r, sampler);
    for (int hop = 0; at && hop < LD_GRAPH_HOPS_MAX; hop++) {
        if (ld_graph_is(at, "LoraLoader") || ld_graph_is(at, "LoraLoaderModelOnly"))
            put_lora(r, at);
        else if (ld_graph_input(&r->graph, at, "ckpt_name"))
            (void)put_input(r, at, "ckpt_name", path_of(r, "model"), LD_PUT_FILE);
        else if (!put_patch(r, at))
            note_class(r, at, "its patch of the model was left out");
        at = ld_graph_follow(&r->graph, at, "model");
    }
    if (r->lora_count > 0 || r->second) {
        struct ld_buffer list = ld_buffer_make(LD_RECIPE_BYTES_MAX);
        ld_buffer_byte(&list, '[');
        ld_buffer_bytes(&list, r->loras.data, r->loras.size);
        ld_buffer_byte(&list, ']');
        ld_recipe_put_json(&r->fields, r->second ? "hires.loras" : "loras",
                           ld_span_of(list.data, list.size));
        ld_buffer_deinit(&list);
    }
}

static void put_vae(struct reading *r)
{
    for (uint32_t i = 0; i < r->graph.node_count; i++) {
        node_ref node = &r->graph.node[i];
        if (ld_graph_is(node, "VAEDecode"))
            (void)put_input(r, ld_graph_follow(&r->graph, node, "vae"), "vae_name", "vae",
                            LD_PUT_FILE);
    }
}

/* ---- Sampling -------------------------------------------------------------------------------- */

static bool is_custom(node_ref node)
{
    return ld_graph_is(node, "SamplerCustom") || ld_graph_is(node, "SamplerCustomAdvanced");
}

static bool is_sampler(node_ref node)
{
    return ld_graph_is(node, "KSampler") || ld_graph_is(node, "KSamplerAdvanced") ||
           is_custom(node);
}

/* The parts of SamplerCustom(Advanced): sampler, sigmas, guider, noise. */
static void put_custom(struct reading *r, node_ref sampler)
{
    static const char *const parts[] = {"sampler", "sigmas", "guider", "noise"};
    for (size_t p = 0; p < sizeof parts / sizeof parts[0]; p++) {
        node_ref part = ld_graph_follow(&r->graph, sampler, parts[p]);
        if (part && !put_patch(r, part))
            note_class(r, part, "is not known and was left out");
    }
    if (!r->second)
        (void)put_input(r, sampler, "noise_seed", "seed", LD_PUT_SEED);
    (void)put_input(r, sampler, "cfg", path_of(r, "cfg_scale"), LD_PUT_NUMBER);
}

static void put_first(struct reading *r, node_ref sampler)
{
    static const struct {
        const char *input, *path;
        enum ld_graph_put how;
    } rows[] = {{"seed", "seed", LD_PUT_SEED},
                {"noise_seed", "seed", LD_PUT_SEED},
                {"steps", "steps", LD_PUT_WHOLE},
                {"cfg", "cfg_scale", LD_PUT_NUMBER},
                {"sampler_name", "sampler", LD_PUT_WORD},
                {"scheduler", "scheduler", LD_PUT_WORD}};
    if (is_custom(sampler)) {
        put_custom(r, sampler);
    } else {
        for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
            (void)put_input(r, sampler, rows[i].input, rows[i].path, rows[i].how);
        if (ld_graph_is(sampler, "KSamplerAdvanced"))
            note_class(r, sampler, "start and end step were left out");
    }
    node_ref guider = ld_graph_follow(&r->graph, sampler, "guider");
    put_prompts(r, guider ? guider : sampler);
    put_model(r, sampler);
}

/* Nodes between a latent and where it comes from; sizes met on the way belong to the second pass.
 */
static node_ref latent_origin(struct reading *r, node_ref sampler, bool take)
{
    static const char *const ways[] = {"samples", "image", "pixels", "latent", "latent_image"};
    node_ref at = ld_graph_follow(&r->graph, sampler, "latent_image");
    for (int hop = 0; at && hop < LD_GRAPH_HOPS_MAX; hop++) {
        if (is_sampler(at))
            return at;
        if (take)
            (void)put_patch(r, at);
        node_ref next = NULL;
        for (size_t w = 0; w < sizeof ways / sizeof ways[0] && !next; w++)
            next = ld_graph_follow(&r->graph, at, ways[w]);
        if (!next)
            return at;
        at = next;
    }
    return NULL;
}

/* What the second pass has like the first is left to the first: both forms mean the same, and the
 * shorter one is what people write. */
static void drop_repeated(struct reading *r)
{
    static const char *const pairs[][2] = {
        {"hires.steps", "steps"},     {"hires.cfg_scale", "cfg_scale"},
        {"hires.sampler", "sampler"}, {"hires.scheduler", "scheduler"},
        {"hires.prompt", "prompt"},   {"hires.negative_prompt", "negative_prompt"},
        {"hires.model", "model"},     {"hires.loras", "loras"}};
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++)
        ld_recipe_drop_equal(&r->fields, pairs[i][0], pairs[i][1]);
}

static void put_second(struct reading *r, node_ref first, node_ref sampler)
{
    static const struct {
        const char *input, *path;
        enum ld_graph_put how;
    } rows[] = {{"steps", "hires.steps", LD_PUT_WHOLE},
                {"cfg", "hires.cfg_scale", LD_PUT_NUMBER},
                {"denoise", "hires.strength", LD_PUT_NUMBER},
                {"sampler_name", "hires.sampler", LD_PUT_WORD},
                {"scheduler", "hires.scheduler", LD_PUT_WORD}};
    r->second = true;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        (void)put_input(r, sampler, rows[i].input, rows[i].path, rows[i].how);
    if (is_custom(sampler)) {
        put_custom(r, sampler);
        (void)put_input(r, ld_graph_follow(&r->graph, sampler, "sigmas"), "denoise",
                        "hires.strength", LD_PUT_NUMBER);
    }
    node_ref guider = ld_graph_follow(&r->graph, sampler, "guider");
    put_prompts(r, guider ? guider : sampler);
    if (model_of(r, sampler) != model_of(r, first)) {
        const bool first_has_adapters = r->lora_count > 0;
        ld_buffer_clear(&r->loras);
        r->lora_count = 0;
        put_model(r, sampler);
        if (r->lora_count == 0 && !first_has_adapters)
            ld_recipe_drop(&r->fields, "hires.loras");
    }
    (void)latent_origin(r, sampler, true);
    drop_repeated(r);
}

static void put_latent(struct reading *r, node_ref sampler)
{
    double batch = 1, denoise = 1;
    node_ref origin = latent_origin(r, sampler, false);
    (void)number_of(r, sampler, "denoise", &denoise);
    if (ld_graph_is(origin, "EmptyLatentImage") || ld_graph_is(origin, "EmptySD3LatentImage")) {
        (void)put_input(r, origin, "width", "width", LD_PUT_WHOLE);
        (void)put_input(r, origin, "height", "height", LD_PUT_WHOLE);
        if (number_of(r, origin, "batch_size", &batch) && batch > 1)
            ld_recipe_note(&r->fields,
                           "one of a batch of %.0f; only its first is the picture of "
                           "the seed alone",
                           batch);
    } else {
        ld_recipe_note(&r->fields, "made from another picture (denoise %g), which is not here",
                       denoise);
    }
}

enum { SAMPLERS_MAX = 16 }; /* looked at; a recipe has one or two */

/* The sampler that starts the picture, and the one that goes on from it. */
static void find_passes(struct reading *r, node_ref *first, node_ref *second)
{
    node_ref sampler[SAMPLERS_MAX], origin[SAMPLERS_MAX];
    size_t count = 0;
    for (uint32_t i = 0; i < r->graph.node_count && count < SAMPLERS_MAX; i++) {
        if (!is_sampler(&r->graph.node[i]))
            continue;
        sampler[count] = &r->graph.node[i];
        origin[count] = latent_origin(r, sampler[count], false);
        count++;
    }
    *first = *second = NULL;
    for (size_t i = 0; i < count && !*first; i++)
        if (!is_sampler(origin[i]))
            *first = sampler[i];
    for (size_t i = 0; i < count && *first && !*second; i++)
        if (sampler[i] != *first && origin[i] == *first)
            *second = sampler[i];
}

enum ld_code ld_recipe_from_graph(struct ld_recipe *recipe, struct ld_span json,
                                  struct ld_error *err)
{
    struct reading r = {.loras = ld_buffer_make(LD_RECIPE_BYTES_MAX)};
    node_ref first, second;
    ld_recipe_init(recipe, LD_RECIPE_COMFY);
    ld_recipe_fields_init(&r.fields);
    enum ld_code code = ld_graph_read(&r.graph, json, err);
    if (code != LD_OK)
        goto done;
    find_passes(&r, &first, &second);
    if (!first) {
        code = LD_FAIL(err, LD_E_FORMAT, "the image's graph has no sampler that is known");
        goto done;
    }
    ld_recipe_put_string(&r.fields, "syntax", "comfy");
    ld_recipe_put_string(&r.fields, "profile", "comfy");
    put_first(&r, first);
    put_latent(&r, first);
    put_vae(&r);
    if (second)
        put_second(&r, first, second);
done:
    ld_graph_index_deinit(&r.graph);
    ld_buffer_deinit(&r.loras);
    const enum ld_code finished =
        ld_recipe_fields_finish(&r.fields, recipe, code == LD_OK ? err : NULL);
    return code != LD_OK ? code : finished;
}
