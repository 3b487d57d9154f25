/*
 * Proves that text out of a stranger's picture is bounded and that whatever becomes of it is JSON.
 * The first byte says how the rest is taken: as a PNG, as text chunks of one, or as the text of one
 * of the sources of a recipe.
 */
#include "config/limits.h"
#include "runtime/base/json.h"
#include "runtime/image/png_meta.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { ARENA_BYTES = 8 * 1024 * 1024, CHUNK_BYTES_MAX = 4096 };

static void must(bool condition)
{
    if (!condition)
        abort();
}

static void must_be_json(const struct ld_buffer *buffer)
{
    struct ld_json json;
    struct ld_json_token token;
    ld_json_init(&json, ld_span_of(buffer->data, buffer->size), 64, 1 << 20);
    do
        must(ld_json_next(&json, &token, NULL) == LD_OK);
    while (token.kind != LD_JSON_END);
}

static void check_recipe(struct ld_recipe *recipe, enum ld_code code)
{
    if (code == LD_OK) {
        must_be_json(&recipe->request);
        must_be_json(&recipe->notes);
        must(memchr(recipe->model_hash, '\0', sizeof recipe->model_hash) != NULL);
    }
    ld_recipe_deinit(recipe);
}

/* The ceiling of inflation: a byte of text takes three at most in UTF-8. */
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

static void read_png(struct ld_span png)
{
    struct ld_arena arena;
    struct ld_png_texts texts;
    struct ld_png_header header;
    struct ld_recipe recipe;
    ld_arena_init(&arena, "fuzz", ARENA_BYTES);
    if (ld_png_check_header(&header, png, true, NULL) == LD_OK)
        must(header.width > 0 && header.height > 0 &&
             (int64_t)header.width * header.height <= LD_AREA_MAX);
    const enum ld_code code = ld_png_texts_read(&texts, &arena, png, true, NULL);
    check_texts(&texts);
    if (code == LD_OK)
        check_recipe(&recipe, ld_recipe_read(&recipe, &texts, NULL));
    ld_arena_deinit(&arena);
}

/* The input cut at 0xFF into chunks, each a kind of text chunk by its first byte. */
static void read_chunks(const uint8_t *data, size_t size)
{
    static const char types[3][5] = {"tEXt", "zTXt", "iTXt"};
    struct ld_buffer png = ld_buffer_make(1 << 20);
    uint8_t word[4];
    ld_buffer_bytes(&png, "\x89PNG\r\n\x1A\n", 8);
    for (size_t pos = 0; pos < size;) {
        const uint8_t *end = memchr(data + pos, 0xFF, size - pos);
        size_t length = end ? (size_t)(end - data) - pos : size - pos;
        const size_t next = pos + length + 1;
        if (length > 0) {
            length = length < CHUNK_BYTES_MAX ? length : CHUNK_BYTES_MAX;
            ld_write_u32be(word, (uint32_t)length - 1);
            ld_buffer_bytes(&png, word, 4);
            ld_buffer_bytes(&png, types[data[pos] % 3], 4);
            ld_buffer_bytes(&png, data + pos + 1, length - 1);
            ld_buffer_bytes(&png, word, 4); /* a checksum nobody looks at here */
        }
        pos = next;
    }
    if (!png.failed)
        read_png(ld_span_of(png.data, png.size));
    ld_buffer_deinit(&png);
}

static void read_infotext(struct ld_span text)
{
    struct ld_infotext info;
    struct ld_recipe recipe;
    char value[256];
    ld_infotext_split(&info, text);
    must(info.pair_count <= LD_INFOTEXT_PAIRS_MAX);
    must(info.prompt.size <= text.size && info.negative.size <= text.size);
    for (size_t i = 0; i < info.pair_count; i++)
        if (ld_infotext_value(&info.pair[i], value, sizeof value))
            must(memchr(value, '\0', sizeof value) != NULL);
    check_recipe(&recipe, ld_recipe_from_infotext(&recipe, text, NULL));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ld_recipe recipe;
    if (size == 0)
        return 0;
    const struct ld_span rest = ld_span_of(data + 1, size - 1);
    switch (data[0] % 5) {
    case 0:
        read_png(rest);
        break;
    case 1:
        read_chunks(rest.data, rest.size);
        break;
    case 2:
        read_infotext(rest);
        break;
    case 3:
        check_recipe(&recipe, ld_recipe_from_graph(&recipe, rest, NULL));
        break;
    default:
        check_recipe(&recipe, ld_recipe_from_novelai(&recipe, rest, NULL));
        break;
    }
    return 0;
}
