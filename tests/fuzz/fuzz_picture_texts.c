/*
 * Proves that what a stranger's file says about itself is bounded and taken away safely, whatever
 * the bytes: texts are whole UTF-8 within their ceiling, stripping gives a file that stripping
 * changes no more, and added texts leave a file that can be walked. The first byte says whether the
 * rest is a file (PNG, JPEG or WebP) or an Exif block alone.
 */
#include "config/limits.h"
#include "runtime/image/exif.h"
#include "runtime/image/picture_texts.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { ARENA_BYTES = 8 << 20, FILE_BYTES_MAX = 1 << 20 };

static void must(bool condition)
{
    if (!condition)
        abort();
}

static void check_texts(const struct ld_png_texts *texts)
{
    size_t total = 0;
    must(texts->count <= LD_PNG_TEXT_CHUNKS_MAX);
    for (size_t i = 0; i < texts->count; i++) {
        const struct ld_png_text_entry *entry = &texts->entry[i];
        must(strlen(entry->text) == entry->text_size && entry->keyword[0] != '\0');
        must(ld_utf8_valid(ld_span_text(entry->text)));
        total += entry->text_size;
    }
    must(total <= 3 * (size_t)LD_PNG_TEXT_BYTES_MAX);
}

static void read_block(struct ld_span tiff)
{
    struct ld_arena arena;
    struct ld_png_texts texts = {.count = 0};
    const int32_t orientation = ld_exif_orientation(tiff);
    must(orientation >= 1 && orientation <= 8);
    ld_arena_init(&arena, "fuzz", ARENA_BYTES);
    if (ld_exif_texts(&texts, &arena, tiff, NULL) == LD_OK)
        check_texts(&texts);
    ld_arena_deinit(&arena);
}

static void read_file(struct ld_span file)
{
    struct ld_arena arena;
    struct ld_png_texts texts = {.count = 0};
    struct ld_recipe recipe = {0};
    ld_arena_init(&arena, "fuzz", ARENA_BYTES);
    if (ld_picture_texts_read(&texts, &arena, file, true, NULL) == LD_OK) {
        check_texts(&texts);
        (void)!ld_recipe_read(&recipe, &texts, NULL);
        ld_recipe_deinit(&recipe);
    }
    ld_arena_deinit(&arena);
}

/* A chunk may get the padding that it lacked. */
static void strip(struct ld_span file)
{
    struct ld_buffer once = ld_buffer_make(FILE_BYTES_MAX);
    struct ld_buffer twice = ld_buffer_make(FILE_BYTES_MAX);
    if (ld_picture_strip(&once, file, NULL) == LD_OK) {
        must(once.size <= file.size + 1);
        must(ld_picture_strip(&twice, ld_span_of(once.data, once.size), NULL) == LD_OK);
        must(once.size == twice.size && memcmp(once.data, twice.data, once.size) == 0);
    }
    ld_buffer_deinit(&once);
    ld_buffer_deinit(&twice);
}

static void add(struct ld_span file)
{
    const struct ld_png_text texts[] = {{"parameters", "a cat", false},
                                        {"Comment", "{\"uc\":\"\"}", false}};
    struct ld_buffer out = ld_buffer_make(4 * FILE_BYTES_MAX);
    struct ld_picture_part part;
    if (ld_picture_texts_add(&out, file, texts, 2, NULL) == LD_OK &&
        ld_picture_kind_of(file) != LD_PICTURE_PNG) {
        struct ld_picture_walk walk = ld_picture_walk_begin(ld_span_of(out.data, out.size));
        do
            must(ld_picture_walk_next(&walk, &part, NULL) == LD_OK);
        while (part.bytes.size > 0);
        read_file(ld_span_of(out.data, out.size));
    }
    ld_buffer_deinit(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1 || size > FILE_BYTES_MAX / 2)
        return 0;
    const struct ld_span rest = ld_span_of(data + 1, size - 1);
    if (data[0] & 1) {
        read_block(rest);
    } else {
        read_file(rest);
        strip(rest);
        add(rest);
    }
    return 0;
}
