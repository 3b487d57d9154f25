/*
 * Golden cases of the text side: token ids of the four cleaning profiles, prompt grammars, chunks,
 * schedules, wildcards. Cases that need the CLIP vocabulary are skipped where there is none.
 */
#include "tests/golden_check/gc.h"

#include "runtime/text/bpe.h"
#include "runtime/text/grammar.h"
#include "runtime/text/parts.h"
#include "runtime/text/schedule.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- What the cases share -----------------------------------------------------------------------
 */

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
                      void (*run)(struct gc *gc, const char *root, const json_t *value))
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

/* ---- Token ids
 * ------------------------------------------------------------------------------------ */

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
static void run_tokens(struct gc *gc, const char *root, const json_t *value)
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

/* ---- Grammars
 * ------------------------------------------------------------------------------------- */

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
    const struct ld_schedule_options options = {
        .steps = (uint32_t)json_integer_value(json_object_get(value, "steps")),
        .hires_steps = (uint32_t)json_integer_value(json_object_get(value, "hires_steps")),
        .old = old};
    struct ld_schedule schedule;
    struct ld_error err = {0};
    if (ld_schedule_expand(arena, span_of(text), &options, &schedule, &err) != LD_OK ||
        schedule.entry_count != json_array_size(expected))
        return false;
    for (uint32_t i = 0; i < schedule.entry_count; i++) {
        const json_t *pair = json_array_get(expected, i);
        const struct ld_schedule_entry *entry = &schedule.entries[i];
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

static void run_prompt(struct gc *gc, const char *root, const json_t *value)
{
    const char *kind = text_of(value, "kind");
    const char *id = text_of(value, "id");
    const json_t *text = json_object_get(value, "text");
    struct ld_arena arena;
    (void)root;
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

const struct gc_kind gc_kinds_text[] = {{"tokenizer.jsonl", tokenizer_file},
                                        {"prompts.jsonl", prompts_file},
                                        {"prompt/schedules.json", schedules_file},
                                        {NULL, NULL}};
