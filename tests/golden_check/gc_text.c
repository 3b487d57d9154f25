/*
 * Golden cases of the text side: token ids of the four cleaning profiles, prompt grammars, chunks,
 * schedules, wildcards. Cases that need the CLIP vocabulary are skipped where there is none.
 */
#include "tests/golden_check/gc.h"

#include "runtime/text/bpe.h"

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

const struct gc_kind gc_kinds_text[] = {{"tokenizer.jsonl", tokenizer_file}, {NULL, NULL}};
