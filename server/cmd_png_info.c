/*
 * `latentd png-info FILE [--json]`: what a picture's metadata says, in the form of the native
 * request, and the texts themselves. Every text is shown, also those that no reader here
 * understands.
 */
#include "config/limits.h"
#include "runtime/base/fsx.h"
#include "runtime/image/picture_header.h"
#include "runtime/image/picture_texts.h"
#include "runtime/model/inspect.h"
#include "server/cmd.h"

#include <stdio.h>
#include <string.h>

enum { ARENA_BYTES_MAX = 8 << 20, ANSWER_BYTES_MAX = 16 << 20, NOTE_SIZE = 640 };

struct picture {
    struct ld_arena arena;
    struct ld_buffer bytes;
    struct ld_png_texts texts;
    struct ld_recipe recipe;
};

/* Notes are a JSON array; a further sentence goes before its end. */
static void add_note(struct ld_buffer *notes, const char *sentence)
{
    if (notes->failed || notes->size < 2)
        return;
    const bool first = notes->size == 2;
    notes->size--;
    if (!first)
        ld_buffer_byte(notes, ',');
    ld_buffer_json_string(notes, sentence);
    ld_buffer_byte(notes, ']');
}

/* What a file says is read also where this build cannot decode its pixels. */
static enum ld_code check_header(struct ld_span file, struct ld_error *err)
{
    struct ld_picture_header header;
    return ld_picture_kind_built(ld_picture_kind_of(file))
               ? ld_picture_check_header(&header, file, err)
               : LD_OK;
}

/* A recipe that cannot be read does not hide the texts: it becomes a note. */
static enum ld_code read_picture(struct picture *picture, const char *path, struct ld_error *err)
{
    struct ld_error why = {0};
    enum ld_code code = ld_fsx_read_file(path, &picture->bytes, err);
    const struct ld_span file = ld_span_of(picture->bytes.data, picture->bytes.size);
    if (code == LD_OK)
        code = check_header(file, err);
    if (code == LD_OK)
        code = ld_picture_texts_read(&picture->texts, &picture->arena, file, false, err);
    if (code != LD_OK)
        return code;
    code = ld_recipe_read(&picture->recipe, &picture->texts, &why);
    if (code == LD_E_FORMAT || code == LD_E_TOO_LARGE) {
        const struct ld_png_texts none = {.count = 0};
        ld_recipe_deinit(&picture->recipe);
        code = ld_recipe_read(&picture->recipe, &none, err);
        char note[NOTE_SIZE];
        if (code == LD_OK && ld_fmt(note, sizeof note, "the recipe is damaged: %s", why.detail))
            add_note(&picture->recipe.notes, note);
    }
    for (size_t i = 0; code == LD_OK && i < picture->texts.count; i++) {
        char note[NOTE_SIZE];
        if (ld_png_text_is_repeated(&picture->texts, i) &&
            ld_fmt(note, sizeof note, "'%s' occurs more than once; its first text is shown",
                   picture->texts.entry[i].keyword))
            add_note(&picture->recipe.notes, note);
    }
    return code;
}

static enum ld_code show(const char *path, bool json, struct ld_error *err)
{
    struct picture picture = {.bytes = ld_buffer_make(LD_UPLOAD_BYTES_MAX)};
    struct ld_buffer answer = ld_buffer_make(ANSWER_BYTES_MAX);
    struct ld_buffer text = ld_buffer_make(ANSWER_BYTES_MAX);
    ld_arena_init(&picture.arena, "png-info", ARENA_BYTES_MAX);
    enum ld_code code = read_picture(&picture, path, err);
    if (code == LD_OK) {
        ld_recipe_write_json(&picture.recipe, &picture.texts, &answer);
        ld_buffer_text(&answer, "\n");
        if (!json)
            ld_inspect_text(&text, ld_span_of(answer.data, answer.size));
        if (answer.failed || text.failed)
            code = LD_FAIL(err, LD_E_TOO_LARGE, "the answer is larger than %d bytes",
                           ANSWER_BYTES_MAX);
        else if (fputs(json ? answer.data : text.data, stdout) == EOF || fflush(stdout) != 0)
            code = LD_FAIL(err, LD_E_IO, "the answer cannot be written");
    }
    ld_recipe_deinit(&picture.recipe);
    ld_buffer_deinit(&picture.bytes);
    ld_buffer_deinit(&text);
    ld_buffer_deinit(&answer);
    ld_arena_deinit(&picture.arena);
    return code;
}

int ld_cmd_png_info(int argc, char **argv)
{
    static const char usage[] =
        "usage: latentd png-info FILE [--json]\n"
        "Shows the texts of a picture (PNG, JPEG, WebP) and the request that they amount\n"
        "to.\n";
    const char *path = NULL;
    bool json = false;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            fputs(usage, stdout);
            return LD_EXIT_OK;
        }
        if (strcmp(argv[i], "--json") == 0) {
            json = true;
        } else if (argv[i][0] == '-' || path) {
            path = NULL;
            break;
        } else {
            path = argv[i];
        }
    }
    if (!path) {
        fputs(usage, stderr);
        return LD_EXIT_USAGE;
    }
    struct ld_error err = {0};
    if (show(path, json, &err) == LD_OK)
        return LD_EXIT_OK;
    fprintf(stderr, "latentd: '%s': %s\n", path, err.detail);
    return LD_EXIT_FAILED;
}
