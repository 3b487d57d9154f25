/*
 * Golden cases of the text side: token ids of the four cleaning profiles, prompt grammars, chunks,
 * schedules, wildcards. Cases that need the CLIP vocabulary are skipped where there is none.
 */
#include "tests/golden_check/gc.h"

#include "runtime/text/bpe.h"
#include "runtime/text/chunks.h"
#include "runtime/text/emphasis.h"
#include "runtime/text/grammar.h"
#include "runtime/text/parts.h"
#include "runtime/text/schedule.h"
#include "runtime/text/wildcards.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- What the cases share -------------------------------------------------------------------- */

/* The vocabulary of --vocab, else of the data folder two levels above the case file; loaded once.
 */
static const struct ld_bpe *vocabulary(const struct gc *gc, const char *root)
{
    static struct ld_arena arena;
    static struct ld_bpe *bpe;
    static bool tried;
    char path[4096];
    struct ld_error err = {0};
    if (tried)
        return bpe;
    tried = true;
    ld_arena_init(&arena, "vocabulary", 64 << 20);
    snprintf(path, sizeof path, "%s/../../data/clip", root);
    if (ld_bpe_load(&bpe, &arena, gc->vocab ? gc->vocab : path, 0, &err) != LD_OK)
        bpe = NULL;
    return bpe;
}

/* Calls `run` for each line of a .jsonl file. */
static void each_line(struct gc *gc, const char *root, const char *path,
                      void (*run)(struct gc *gc, const char *root, json_t *value))
{
    size_t size;
    char *file = gc_read_file(path, &size);
    if (!file) {
        gc_fail(gc, path, "cannot be read");
        return;
    }
    for (char *line = file; line < file + size;) {
        char *end = memchr(line, '\n', (size_t)(file + size - line));
        const size_t length = end ? (size_t)(end - line) : (size_t)(file + size - line);
        json_t *value = length ? json_loadb(line, length, 0, NULL) : NULL;
        if (value)
            run(gc, root, value);
        else if (length)
            gc_fail(gc, path, "holds a line that is not JSON");
        json_decref(value);
        line += length + 1;
    }
    free(file);
}

static const char *text_of(const json_t *value, const char *key)
{
    const char *text = json_string_value(json_object_get(value, key));
    return text ? text : "";
}

/* ---- Token ids ------------------------------------------------------------------------------- */

static bool same_ids(const struct ld_list *ids, const json_t *expected)
{
    if (json_array_size(expected) != ids->count)
        return false;
    for (size_t i = 0; i < ids->count; i++)
        if (json_integer_value(json_array_get(expected, i)) != (json_int_t)ids->data[i])
            return false;
    return true;
}

/* One line a case: all four profiles must agree. */
static void run_tokens(struct gc *gc, const char *root, json_t *value)
{
    static const char *const keys[LD_CLEAN_COUNT] = {"ids", "ids_fast", "ids_webui", "ids_openai"};
    const struct ld_bpe *bpe = vocabulary(gc, root);
    const json_t *text = json_object_get(value, "text");
    bool ok = true;
    if (!bpe) {
        gc_skip(gc, text_of(value, "id"), "needs the CLIP vocabulary");
        return;
    }
    for (int profile = 0; profile < LD_CLEAN_COUNT; profile++) {
        const json_t *own = json_object_get(value, keys[profile]);
        struct ld_list ids = ld_list_make(1 << 20);
        struct ld_error err = {0};
        const enum ld_code code = ld_bpe_encode(
            bpe, (enum ld_clean)profile,
            ld_span_of(json_string_value(text), json_string_length(text)), &ids, &err);
        ok = ok && code == LD_OK && same_ids(&ids, own ? own : json_object_get(value, "ids"));
        ld_list_deinit(&ids);
    }
    gc_exact(gc, text_of(value, "id"), ok);
}

static void tokenizer_file(struct gc *gc, const char *root, const char *path)
{
    each_line(gc, root, path, run_tokens);
}

/* ---- Grammars -------------------------------------------------------------------------------- */

static struct ld_span span_of(const json_t *text)
{
    return ld_span_of(json_string_value(text), json_string_length(text));
}

static bool same_text(struct ld_span text, const json_t *expected)
{
    return json_is_string(expected) && ld_span_equal(text, span_of(expected));
}

/* Weights agree to 1e-9 relative, as the golden data's page asks. */
static bool same_weight(double weight, const json_t *expected)
{
    const double value = json_number_value(expected);
    return json_is_number(expected) && fabs(weight - value) <= 1e-9 * fabs(value);
}

static bool check_segments(struct ld_arena *arena, enum ld_syntax syntax, const json_t *value)
{
    const json_t *expected = json_object_get(value, "segments");
    struct ld_segments segments;
    struct ld_error err = {0};
    if (ld_grammar_parse(arena, syntax, span_of(json_object_get(value, "text")), &segments, &err) !=
            LD_OK ||
        segments.count != json_array_size(expected))
        return false;
    for (uint32_t i = 0; i < segments.count; i++) {
        const json_t *pair = json_array_get(expected, i);
        if (!same_text(ld_span_of(segments.items[i].text, segments.items[i].size),
                       json_array_get(pair, 0)) ||
            !same_weight(segments.items[i].weight, json_array_get(pair, 1)))
            return false;
    }
    return true;
}

static bool check_schedule(struct ld_arena *arena, const json_t *text, const json_t *value,
                           bool old)
{
    const json_t *expected = json_object_get(value, "schedule");
    const struct ld_prompt_schedule_options options = {
        .steps = (uint32_t)json_integer_value(json_object_get(value, "steps")),
        .hires_steps = (uint32_t)json_integer_value(json_object_get(value, "hires_steps")),
        .old = old};
    struct ld_prompt_schedule schedule;
    struct ld_error err = {0};
    if (ld_prompt_schedule_expand(arena, span_of(text), &options, &schedule, &err) != LD_OK ||
        schedule.entry_count != json_array_size(expected))
        return false;
    for (uint32_t i = 0; i < schedule.entry_count; i++) {
        const json_t *pair = json_array_get(expected, i);
        const struct ld_prompt_schedule_entry *entry = &schedule.entries[i];
        if (json_integer_value(json_array_get(pair, 0)) != (json_int_t)entry->end_step ||
            !same_text(schedule.texts[entry->text], json_array_get(pair, 1)))
            return false;
    }
    return true;
}

/* `parts` is a list of [text, weight] or of {text, weight}. */
static bool check_and(const json_t *text, const json_t *expected)
{
    struct ld_and_parts parts;
    struct ld_error err = {0};
    if (ld_and_split(span_of(text), &parts, &err) != LD_OK ||
        parts.count != json_array_size(expected))
        return false;
    for (uint32_t i = 0; i < parts.count; i++) {
        const json_t *part = json_array_get(expected, i);
        const bool pair = json_is_array(part);
        if (!same_text(parts.items[i].text,
                       pair ? json_array_get(part, 0) : json_object_get(part, "text")) ||
            !same_weight(parts.items[i].weight,
                         pair ? json_array_get(part, 1) : json_object_get(part, "weight")))
            return false;
    }
    return true;
}

static bool check_network(const struct ld_network *network, const json_t *expected)
{
    const json_t *positional = json_object_get(expected, "positional");
    const json_t *named = json_object_get(expected, "named");
    bool ok = json_array_size(positional) == network->positional_count &&
              json_object_size(named) == network->named_count;
    for (uint32_t i = 0; ok && i < network->positional_count; i++)
        ok = same_text(ld_span_text(network->positional[i]), json_array_get(positional, i));
    for (uint32_t i = 0; ok && i < network->named_count; i++)
        ok = same_text(ld_span_text(network->values[i]), json_object_get(named, network->names[i]));
    return ok;
}

/* The golden data groups mentions by type, each group in the order of the text. */
static bool check_extra(struct ld_arena *arena, const json_t *value)
{
    json_t *expected = json_object_get(value, "networks");
    struct ld_networks networks;
    struct ld_span rest;
    struct ld_error err = {0};
    if (ld_networks_extract(arena, span_of(json_object_get(value, "text")), &rest, &networks,
                            &err) != LD_OK ||
        !same_text(rest, json_object_get(value, "rest")))
        return false;
    size_t total = 0;
    const char *type;
    json_t *group;
    json_object_foreach(expected, type, group)
    {
        size_t index = 0;
        for (uint32_t i = 0; i < networks.count; i++)
            if (strcmp(networks.items[i].type, type) == 0 &&
                !check_network(&networks.items[i], json_array_get(group, index++)))
                return false;
        if (index != json_array_size(group))
            return false;
        total += index;
    }
    return total == networks.count;
}

/* ---- Chunks ---------------------------------------------------------------------------------- */

static struct ld_embeddings *read_embeddings(struct ld_arena *arena, const struct ld_bpe *bpe,
                                             json_t *list)
{
    struct ld_embedding_entry entries[64];
    struct ld_embeddings *embeddings = NULL;
    uint32_t count = 0;
    struct ld_error err = {0};
    const char *name;
    json_t *vectors;
    json_object_foreach(list, name, vectors)
    {
        if (count < 64)
            entries[count++] =
                (struct ld_embedding_entry){name, (uint32_t)json_integer_value(vectors)};
    }
    if (ld_embeddings_create(&embeddings, arena, bpe, LD_CLEAN_COMFY, entries, count, &err) !=
        LD_OK)
        return NULL;
    return embeddings;
}

static enum ld_code make_chunks(struct ld_arena *arena, const struct ld_bpe *bpe,
                                struct ld_embeddings *embeddings, enum ld_chunking rule,
                                const json_t *value, struct ld_chunks *chunks)
{
    const bool webui = rule == LD_CHUNKING_WEBUI;
    const struct ld_unit_options unit_options = {.bpe = bpe,
                                                 .profile = LD_CLEAN_COMFY,
                                                 .embeddings = embeddings,
                                                 .breaks = webui,
                                                 .token_limit = 100000};
    const struct ld_chunk_options options = {
        .rule = rule,
        .start_id = ld_bpe_start_id(bpe),
        .end_id = ld_bpe_end_id(bpe),
        .backtrack = (uint32_t)json_integer_value(json_object_get(value, "backtrack")),
        .count_limit = 1000};
    struct ld_segments segments;
    struct ld_units units = {0};
    struct ld_error err = {0};
    enum ld_code code = ld_grammar_parse(arena, webui ? LD_SYNTAX_A1111 : LD_SYNTAX_COMFY,
                                         span_of(json_object_get(value, "text")), &segments, &err);
    if (code == LD_OK)
        code = ld_units_build(&segments, &unit_options, NULL, &units, &err);
    if (code == LD_OK)
        code = ld_chunks_build(arena, &units, &options, chunks, &err);
    ld_units_deinit(&units);
    return code;
}

/* Embedding slots of a chunk as the golden data writes them: [offset, name, vectors]. */
static bool same_fixes(const struct ld_chunk *chunk, const struct ld_embeddings *embeddings,
                       const json_t *expected)
{
    size_t found = 0;
    for (uint32_t i = 0; i < LD_CHUNK_TOKENS; i++) {
        if (chunk->embeddings[i] == LD_EMBEDDING_NONE || chunk->vectors[i] != 0)
            continue;
        const json_t *fix = json_array_get(expected, found++);
        if (json_integer_value(json_array_get(fix, 0)) != (json_int_t)i - 1 ||
            !same_text(ld_span_text(ld_embeddings_name(embeddings, chunk->embeddings[i])),
                       json_array_get(fix, 1)) ||
            json_integer_value(json_array_get(fix, 2)) !=
                (json_int_t)ld_embeddings_vectors(embeddings, chunk->embeddings[i]))
            return false;
    }
    return found == json_array_size(expected);
}

static bool check_webui_chunks(struct ld_arena *arena, const struct ld_bpe *bpe, json_t *value)
{
    json_t *list = json_object_get(value, "embeddings");
    const json_t *expected = json_object_get(value, "chunks");
    struct ld_embeddings *embeddings = list ? read_embeddings(arena, bpe, list) : NULL;
    struct ld_chunks chunks;
    const enum ld_code code =
        make_chunks(arena, bpe, embeddings, LD_CHUNKING_WEBUI, value, &chunks);
    bool too_long = false;
    for (size_t i = 0; i < json_array_size(expected); i++)
        too_long = too_long || json_array_size(json_object_get(json_array_get(expected, i),
                                                               "tokens")) > LD_CHUNK_TOKENS;
    if (too_long) /* the reference keeps an over-long chunk there, we refuse it */
        return code == LD_E_TOO_LARGE;
    if (code != LD_OK || chunks.count != json_array_size(expected) ||
        json_integer_value(json_object_get(value, "token_count")) != (json_int_t)chunks.token_count)
        return false;
    for (uint32_t i = 0; i < chunks.count; i++) {
        const struct ld_chunk *chunk = &chunks.items[i];
        const json_t *want = json_array_get(expected, i);
        const json_t *tokens = json_object_get(want, "tokens");
        const json_t *weights = json_object_get(want, "mult");
        for (uint32_t t = 0; t < LD_CHUNK_TOKENS; t++) {
            const json_int_t id = chunk->ids[t] < 0 ? 0 : chunk->ids[t];
            if (json_integer_value(json_array_get(tokens, t)) != id ||
                !same_weight(chunk->weights[t], json_array_get(weights, t)))
                return false;
        }
        if (json_array_size(tokens) != LD_CHUNK_TOKENS ||
            !same_fixes(chunk, embeddings, json_object_get(want, "fixes")))
            return false;
    }
    return true;
}

static bool check_comfy_chunks(struct ld_arena *arena, const struct ld_bpe *bpe, json_t *value)
{
    json_t *list = json_object_get(value, "embeddings");
    const json_t *expected = json_object_get(value, "batches");
    struct ld_chunks chunks;
    if (make_chunks(arena, bpe, list ? read_embeddings(arena, bpe, list) : NULL, LD_CHUNKING_COMFY,
                    value, &chunks) != LD_OK ||
        chunks.count != json_array_size(expected))
        return false;
    for (uint32_t i = 0; i < chunks.count; i++) {
        const json_t *batch = json_array_get(expected, i);
        if (json_array_size(batch) != LD_CHUNK_TOKENS)
            return false;
        for (uint32_t t = 0; t < LD_CHUNK_TOKENS; t++) {
            const json_t *pair = json_array_get(batch, t);
            if (json_integer_value(json_array_get(pair, 0)) != chunks.items[i].ids[t] ||
                !same_weight(chunks.items[i].weights[t], json_array_get(pair, 1)))
                return false;
        }
    }
    return true;
}

static void run_chunks(struct gc *gc, const char *root, struct ld_arena *arena, json_t *value)
{
    const struct ld_bpe *bpe = vocabulary(gc, root);
    const char *id = text_of(value, "id");
    if (!bpe)
        gc_skip(gc, id, "needs the CLIP vocabulary");
    else if (strncmp(text_of(value, "kind"), "webui", 5) == 0)
        gc_exact(gc, id, check_webui_chunks(arena, bpe, value));
    else
        gc_exact(gc, id, check_comfy_chunks(arena, bpe, value));
}

static void run_prompt(struct gc *gc, const char *root, json_t *value)
{
    const char *kind = text_of(value, "kind");
    const char *id = text_of(value, "id");
    const json_t *text = json_object_get(value, "text");
    struct ld_arena arena;
    ld_arena_init(&arena, "case", 64 << 20);
    if (strcmp(kind, "webui_attention") == 0)
        gc_exact(gc, id, check_segments(&arena, LD_SYNTAX_A1111, value));
    else if (strcmp(kind, "comfy_weights") == 0)
        gc_exact(gc, id, check_segments(&arena, LD_SYNTAX_COMFY, value));
    else if (strcmp(kind, "novelai_weights") == 0)
        gc_exact(gc, id, check_segments(&arena, LD_SYNTAX_NOVELAI, value));
    else if (strcmp(kind, "webui_schedule") == 0)
        gc_exact(gc, id, check_schedule(&arena, text, value, false));
    else if (strcmp(kind, "webui_schedule_old") == 0)
        gc_exact(gc, id, check_schedule(&arena, text, value, true));
    else if (strcmp(kind, "webui_and") == 0)
        gc_exact(gc, id, check_and(text, json_object_get(value, "parts")));
    else if (strcmp(kind, "webui_extra") == 0)
        gc_exact(gc, id, check_extra(&arena, value));
    else if (strncmp(kind, "webui_chunks", 12) == 0 || strncmp(kind, "comfy_chunks", 12) == 0)
        run_chunks(gc, root, &arena, value);
    else
        gc_fail(gc, id, "is of an unknown kind");
    ld_arena_deinit(&arena);
}

static void prompts_file(struct gc *gc, const char *root, const char *path)
{
    each_line(gc, root, path, run_prompt);
}

/* prompt/schedules.json: `cases` and `hires` are schedules, `and` splits. */
static void schedules_file(struct gc *gc, const char *root, const char *path)
{
    static const char *const groups[] = {"cases", "hires", "and"};
    size_t size;
    char *file = gc_read_file(path, &size);
    json_t *all = file ? json_loadb(file, size, 0, NULL) : NULL;
    (void)root;
    free(file);
    if (!all) {
        gc_fail(gc, path, "cannot be read");
        return;
    }
    for (size_t g = 0; g < 3; g++) {
        size_t i;
        json_t *value;
        json_array_foreach(json_object_get(all, groups[g]), i, value)
        {
            char name[128];
            struct ld_arena arena;
            const json_t *prompt = json_object_get(value, "prompt");
            snprintf(name, sizeof name, "prompt/%s%zu", groups[g], i);
            ld_arena_init(&arena, "case", 64 << 20);
            gc_exact(gc, name,
                     g == 2 ? check_and(prompt, json_object_get(value, "parts"))
                            : check_schedule(&arena, prompt, value, false));
            ld_arena_deinit(&arena);
        }
    }
    json_decref(all);
}

/* ---- Weights on the encoder's output --------------------------------------------------------- */

enum { EMPHASIS_ARRAYS = 8 };

struct emphasis_case {
    char id[64];
    struct gc_array z, mult, restored, scaled, tokens, comfy_tokens, comfy_weights, comfy_result;
    size_t width, chunks;
};

static bool load_emphasis(struct gc_tensors *tensors, const json_t *value,
                          struct emphasis_case *out)
{
    const struct {
        const char *name;
        struct gc_array *array;
    } arrays[EMPHASIS_ARRAYS] = {{"z", &out->z},
                                 {"webui_mult", &out->mult},
                                 {"webui_mean_restore", &out->restored},
                                 {"webui_no_norm", &out->scaled},
                                 {"webui_tokens", &out->tokens},
                                 {"comfy_tokens", &out->comfy_tokens},
                                 {"comfy_weights", &out->comfy_weights},
                                 {"comfy_result", &out->comfy_result}};
    memset(out, 0, sizeof *out);
    snprintf(out->id, sizeof out->id, "%s", text_of(value, "id"));
    for (size_t i = 0; i < EMPHASIS_ARRAYS; i++) {
        char name[128];
        snprintf(name, sizeof name, "%s/%s", out->id, arrays[i].name);
        if (!gc_tensors_get(tensors, name, arrays[i].array))
            return false;
    }
    out->chunks = (size_t)out->z.shape[0];
    out->width = (size_t)out->z.shape[2];
    return true;
}

static void free_emphasis(struct emphasis_case *c)
{
    struct gc_array *arrays[EMPHASIS_ARRAYS] = {
        &c->z,      &c->mult,         &c->restored,      &c->scaled,
        &c->tokens, &c->comfy_tokens, &c->comfy_weights, &c->comfy_result};
    for (size_t i = 0; i < EMPHASIS_ARRAYS; i++)
        gc_array_free(arrays[i]);
}

/* z of a case as float, `rule` applied chunk by chunk, as double again in `out`. */
static void apply_emphasis(const struct emphasis_case *c, enum ld_emphasis_rule rule,
                           const double *weights, const float *empty, double *out)
{
    const size_t size = LD_CHUNK_TOKENS * c->width;
    float *z = calloc(c->z.count, sizeof *z);
    for (size_t i = 0; z && i < c->z.count; i++)
        z[i] = (float)c->z.data[i];
    for (size_t k = 0; z && k < c->chunks; k++)
        ld_emphasis_apply(rule, z + k * size, empty, weights + k * LD_CHUNK_TOKENS, LD_CHUNK_TOKENS,
                          c->width);
    for (size_t i = 0; i < c->z.count; i++)
        out[i] = z ? (double)z[i] : (double)NAN;
    free(z);
}

static void check_webui_emphasis(struct gc *gc, const struct emphasis_case *c)
{
    double mean = 0;
    double square = 0;
    char name[96];
    double *out = calloc(c->z.count, sizeof *out);
    if (!out)
        return;
    for (size_t i = 0; i < c->z.count; i++) {
        mean += c->z.data[i] / (double)c->z.count;
        square += c->z.data[i] * c->z.data[i] / (double)c->z.count;
    }
    const double ratio = sqrt(square - mean * mean) / fabs(mean);
    apply_emphasis(c, LD_EMPHASIS_RULE_ORIGINAL, c->mult.data, NULL, out);
    ld_fmt(name, sizeof name, "emphasis/%s/mean_restore", c->id);
    gc_report(gc, name, gc_relative_l2(out, c->restored.data, c->z.count),
              1e-5 * (ratio > 1 ? ratio : 1));
    apply_emphasis(c, LD_EMPHASIS_RULE_SCALE, c->mult.data, NULL, out);
    ld_fmt(name, sizeof name, "emphasis/%s/no_norm", c->id);
    gc_report(gc, name, gc_relative_l2(out, c->scaled.data, c->z.count), 2e-6);
    free(out);
}

/* The two programs read the same tokens, so that z is the encoding of the comfy tokens too. */
static bool reads_alike(const struct emphasis_case *c)
{
    return c->chunks == 1 && c->comfy_tokens.count == c->tokens.count &&
           gc_absolute_max(c->tokens.data, c->comfy_tokens.data, c->tokens.count) == 0;
}

/*
 * The data has no encoding of the empty prompt, but a weighted token of one case reveals its row:
 * e = (result - w z) / (1 - w). Rows taken from case `from` must then explain the weighted tokens
 * of case `c` at the same positions.
 */
static void check_comfy_emphasis(struct gc *gc, const struct emphasis_case *c,
                                 const struct emphasis_case *from)
{
    char name[96];
    float *empty = calloc(LD_CHUNK_TOKENS * c->width, sizeof *empty);
    double *weights = calloc(LD_CHUNK_TOKENS, sizeof *weights);
    double *out = calloc(c->z.count, sizeof *out);
    double *want = calloc(c->z.count, sizeof *want);
    size_t explained = 0;
    for (size_t t = 0; empty && weights && out && want && t < LD_CHUNK_TOKENS; t++) {
        const double other = from->comfy_weights.data[t];
        const bool known = other != 1.0;
        weights[t] = known ? c->comfy_weights.data[t] : 1.0;
        explained += known && weights[t] != 1.0;
        for (size_t i = t * c->width; i < (t + 1) * c->width; i++) {
            if (known)
                empty[i] =
                    (float)((from->comfy_result.data[i] - other * from->z.data[i]) / (1 - other));
            want[i] =
                known || c->comfy_weights.data[t] == 1.0 ? c->comfy_result.data[i] : c->z.data[i];
        }
    }
    if (explained > 0) {
        apply_emphasis(c, LD_EMPHASIS_RULE_LERP, weights, empty, out);
        ld_fmt(name, sizeof name, "emphasis/%s/comfy", c->id);
        gc_report(gc, name, gc_relative_l2(out, want, c->z.count), 2e-6);
    }
    free(empty);
    free(weights);
    free(out);
    free(want);
}

static void emphasis_file(struct gc *gc, const char *root, const char *path)
{
    static struct emphasis_case cases[64];
    size_t size;
    size_t count = 0;
    char tensors_path[4096];
    char *file = gc_read_file(path, &size);
    json_t *all = file ? json_loadb(file, size, 0, NULL) : NULL;
    struct gc_tensors *tensors = NULL;
    free(file);
    if (gc_find(gc, root, text_of(all, "tensors_file"), tensors_path, sizeof tensors_path))
        tensors = gc_tensors_open(tensors_path);
    if (!all || !tensors)
        gc_fail(gc, path, "or its tensors cannot be read");
    size_t i;
    json_t *value;
    json_array_foreach(json_object_get(all, "cases"), i, value)
    {
        if (!tensors || count == 64)
            break;
        if (load_emphasis(tensors, value, &cases[count]))
            count++;
        else
            gc_fail(gc, text_of(value, "id"), "lacks a tensor");
    }
    size_t richest = 0; /* the case with most weighted tokens */
    size_t most = 0;
    for (size_t k = 0; k < count; k++) {
        size_t weighted = 0;
        for (size_t t = 0; t < cases[k].comfy_weights.count; t++)
            weighted += cases[k].comfy_weights.data[t] != 1.0;
        if (reads_alike(&cases[k]) && weighted > most) {
            richest = k;
            most = weighted;
        }
    }
    for (size_t k = 0; k < count; k++) {
        check_webui_emphasis(gc, &cases[k]);
        if (k != richest && most > 0 && reads_alike(&cases[k]))
            check_comfy_emphasis(gc, &cases[k], &cases[richest]);
    }
    for (size_t k = 0; k < count; k++)
        free_emphasis(&cases[k]);
    gc_tensors_close(tensors);
    json_decref(all);
}

/* ---- Wildcards ------------------------------------------------------------------------------- */

/* The source of the cases: `files` of the case file, path -> lines. */
static enum ld_code read_list(void *ctx, const char *pattern, struct ld_buffer *out,
                              struct ld_error *err)
{
    const char *path;
    json_t *lines;
    (void)err;
    json_object_foreach((json_t *)ctx, path, lines)
    {
        char name[256];
        ld_fmt(name, sizeof name, "%.*s", (int)(strlen(path) - strlen(".txt")), path);
        for (size_t i = 0; ld_wildcard_matches(pattern, name) && i < json_array_size(lines); i++) {
            ld_buffer_text(out, json_string_value(json_array_get(lines, i)));
            ld_buffer_byte(out, '\n');
        }
    }
    return LD_OK;
}

static bool check_wildcards(const struct ld_wildcard_source *source, const json_t *value,
                            uint32_t count_max)
{
    const struct ld_wildcard_options options = {
        .mode = LD_WILDCARDS_COMBINATORIAL, .syntax = LD_SYNTAX_A1111, .source = source};
    const json_t *expected = json_object_get(value, "results");
    struct ld_wildcard_results results;
    struct ld_arena arena;
    struct ld_error err = {0};
    ld_arena_init(&arena, "case", 64 << 20);
    bool ok = ld_wildcards_expand(&arena, span_of(json_object_get(value, "template")), &options,
                                  count_max, &results, NULL, &err) == LD_OK &&
              results.count == json_array_size(expected);
    for (uint32_t i = 0; ok && i < results.count; i++)
        ok = same_text(ld_span_text(results.items[i]), json_array_get(expected, i));
    ld_arena_deinit(&arena);
    return ok;
}

static void wildcards_file(struct gc *gc, const char *root, const char *path)
{
    size_t size;
    char *file = gc_read_file(path, &size);
    json_t *all = file ? json_loadb(file, size, 0, NULL) : NULL;
    const struct ld_wildcard_source source = {json_object_get(all, "files"), read_list};
    size_t i;
    json_t *value;
    (void)root;
    free(file);
    if (!all)
        gc_fail(gc, path, "cannot be read");
    json_array_foreach(json_object_get(all, "cases"), i, value)
    {
        if (strcmp(text_of(value, "kind"), "combinatorial") != 0)
            gc_fail(gc, text_of(value, "id"), "is of an unknown kind");
        else
            gc_exact(
                gc, text_of(value, "id"),
                check_wildcards(&source, value,
                                (uint32_t)json_integer_value(json_object_get(all, "max_prompts"))));
    }
    json_decref(all);
}

const struct gc_kind gc_kinds_text[] = {
    {"tokenizer.jsonl", tokenizer_file},       {"prompts.jsonl", prompts_file},
    {"prompt/schedules.json", schedules_file}, {"emphasis.json", emphasis_file},
    {"wildcards.json", wildcards_file},        {NULL, NULL}};
