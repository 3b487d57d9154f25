/*
 * Proves that what a picture says about itself is the same in a PNG, a JPEG and a WebP: written,
 * read again, added to, taken away without a pixel changing; that the Exif blocks of other programs
 * are understood; and that what does not fit a JPEG goes in order. By pictures written here and by
 * blocks put together byte for byte.
 */
#include "config/limits.h"
#include "runtime/base/json_find.h"
#include "runtime/image/exif.h"
#include "runtime/image/picture_read.h"
#include "runtime/image/picture_texts.h"
#include "runtime/image/picture_write.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { SIDE = 24, FILE_BYTES_MAX = 4 << 20, ARENA_BYTES = 8 << 20 };

/* Beyond Latin-1 and beyond 16 bits, so that every form has to carry both. */
static const char infotext[] = "caf\xC3\xA9, \xE7\x8C\xAB \xF0\x9F\x90\x88\nNegative prompt: dog\n"
                               "Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 5, Size: 64x64";
static const char graph[] = "{\"3\":{\"inputs\":{\"text\":\"\xE7\x8C\xAB \xF0\x9F\x90\x88\"}}}";
static const char own[] =
    "{\"version\":\"x\",\"request\":{\"prompt\":\"\xE7\x8C\xAB\",\"seed\":5}}";

static const struct ld_png_text all[] = {
    {"parameters", infotext, false}, {"prompt", graph, false}, {"latentd", own, true}};

static struct ld_buffer written(enum ld_picture_kind kind, const struct ld_png_text *texts,
                                size_t count)
{
    static uint8_t pixels[3 * SIDE * SIDE];
    struct ld_error err = {0};
    struct ld_buffer file = ld_buffer_make(FILE_BYTES_MAX);
    for (size_t i = 0; i < sizeof pixels; i++)
        pixels[i] = (uint8_t)(i * 7);
    const struct ld_picture_image image = {.pixels = pixels,
                                           .width = SIDE,
                                           .height = SIDE,
                                           .channels = 3,
                                           .form = {.kind = kind},
                                           .texts = texts,
                                           .text_count = count};
    assert_int_equal(ld_picture_write(&file, &image, &err), LD_OK);
    return file;
}

static struct ld_span span_of(const struct ld_buffer *buffer)
{
    return ld_span_of(buffer->data, buffer->size);
}

static void read_texts(struct ld_png_texts *texts, struct ld_arena *arena, struct ld_span file)
{
    struct ld_error err = {0};
    ld_arena_init(arena, "test", ARENA_BYTES);
    assert_int_equal(ld_picture_texts_read(texts, arena, file, false, &err), LD_OK);
}

/* A JSON text means the same where its characters are spelled out. */
static void assert_same_word(const char *json, const char *pointer, const char *expected)
{
    char text[256];
    assert_non_null(json);
    assert_true(ld_json_find_string(ld_span_text(json), pointer, text, sizeof text));
    assert_string_equal(text, expected);
}

/* ---- Our own pictures ------------------------------------------------------------------------ */

static void texts_are_the_same_in_every_kind(void **state)
{
    (void)state;
    for (int kind = 0; kind < LD_PICTURE_KINDS; kind++) {
        struct ld_arena arena;
        struct ld_png_texts texts;
        struct ld_picture picture;
        struct ld_error err = {0};
        if (!ld_picture_kind_built((enum ld_picture_kind)kind))
            continue;
        struct ld_buffer file = written((enum ld_picture_kind)kind, all, 3);
        read_texts(&texts, &arena, span_of(&file));
        assert_int_equal(texts.count, 3);
        assert_string_equal(ld_png_text_find(&texts, "parameters"), infotext);
        assert_string_equal(ld_png_text_find(&texts, "latentd"), own);
        assert_same_word(ld_png_text_find(&texts, "prompt"), "/3/inputs/text",
                         "\xE7\x8C\xAB \xF0\x9F\x90\x88");
        assert_int_equal(ld_picture_read(&picture, span_of(&file), &err), LD_OK);
        ld_picture_deinit(&picture);
        ld_arena_deinit(&arena);
        ld_buffer_deinit(&file);
    }
}

static void taking_texts_away_leaves_the_bare_file(void **state)
{
    (void)state;
    for (int kind = 0; kind < LD_PICTURE_KINDS; kind++) {
        struct ld_error err = {0};
        if (!ld_picture_kind_built((enum ld_picture_kind)kind))
            continue;
        struct ld_buffer bare = written((enum ld_picture_kind)kind, NULL, 0);
        struct ld_buffer full = written((enum ld_picture_kind)kind, all, 3);
        struct ld_buffer stripped = ld_buffer_make(FILE_BYTES_MAX);
        assert_true(full.size > bare.size);
        assert_int_equal(ld_picture_strip(&stripped, span_of(&full), &err), LD_OK);
        assert_int_equal(stripped.size, bare.size);
        assert_memory_equal(stripped.data, bare.data, bare.size);
        assert_null(memmem(stripped.data, stripped.size, "latentd", 7));
        ld_buffer_deinit(&stripped);
        ld_buffer_deinit(&full);
        ld_buffer_deinit(&bare);
    }
}

static void added_texts_stand_beside_those_that_are_there(void **state)
{
    (void)state;
    const struct ld_png_text more[] = {{"Software", "NovelAI", false},
                                       {"Description", "\xE7\x8C\xAB", false},
                                       {"Comment", "{\"uc\":\"\",\"sampler\":\"k_euler\"}", false}};
    for (int kind = 0; kind < LD_PICTURE_KINDS; kind++) {
        struct ld_arena arena;
        struct ld_png_texts texts;
        struct ld_picture_header header;
        struct ld_recipe recipe;
        struct ld_error err = {0};
        if (!ld_picture_kind_built((enum ld_picture_kind)kind))
            continue;
        struct ld_buffer file = written((enum ld_picture_kind)kind, all, 3);
        struct ld_buffer both = ld_buffer_make(FILE_BYTES_MAX);
        assert_int_equal(ld_picture_texts_add(&both, span_of(&file), more, 3, &err), LD_OK);
        assert_int_equal(ld_picture_check_header(&header, span_of(&both), &err), LD_OK);
        assert_true(header.width == SIDE && header.height == SIDE);
        read_texts(&texts, &arena, span_of(&both));
        assert_int_equal(texts.count, 6);
        for (size_t i = 0; i < 3; i++)
            assert_string_equal(ld_png_text_find(&texts, more[i].keyword), more[i].text);
        assert_string_equal(ld_png_text_find(&texts, "parameters"), infotext);
        assert_string_equal(ld_png_text_find(&texts, "latentd"), own);
        assert_int_equal(ld_recipe_read(&recipe, &texts, &err), LD_OK);
        assert_int_equal(recipe.source, LD_RECIPE_LATENTD);
        ld_recipe_deinit(&recipe);
        ld_arena_deinit(&arena);
        ld_buffer_deinit(&both);

        /* Without ours it is a picture of the other service. */
        struct ld_buffer bare = written((enum ld_picture_kind)kind, NULL, 0);
        both = ld_buffer_make(FILE_BYTES_MAX);
        assert_int_equal(ld_picture_texts_add(&both, span_of(&bare), more, 3, &err), LD_OK);
        read_texts(&texts, &arena, span_of(&both));
        assert_int_equal(ld_recipe_read(&recipe, &texts, &err), LD_OK);
        assert_int_equal(recipe.source, LD_RECIPE_NOVELAI);
        ld_recipe_deinit(&recipe);
        ld_arena_deinit(&arena);
        ld_buffer_deinit(&both);
        ld_buffer_deinit(&bare);
        ld_buffer_deinit(&file);
    }
}

/* "latentd" and "latentd_source" are both ours. */
static void an_enlarged_picture_says_both_recipes(void **state)
{
    (void)state;
    const struct ld_png_text texts[] = {{"parameters", "a\nSteps: 1, Seed: 1, Size: 8x8", false},
                                        {"latentd_source", "{\"a\":1}", true},
                                        {"latentd", "{\"b\":2}", true}};
    for (int kind = 0; kind < LD_PICTURE_KINDS; kind++) {
        struct ld_arena arena;
        struct ld_png_texts found;
        if (!ld_picture_kind_built((enum ld_picture_kind)kind))
            continue;
        struct ld_buffer file = written((enum ld_picture_kind)kind, texts, 3);
        read_texts(&found, &arena, span_of(&file));
        assert_int_equal(found.count, 3);
        for (size_t i = 0; i < 3; i++)
            assert_string_equal(ld_png_text_find(&found, texts[i].keyword), texts[i].text);
        ld_arena_deinit(&arena);
        ld_buffer_deinit(&file);
    }
}

static char *letters(size_t count)
{
    char *text = malloc(count + 1);
    assert_non_null(text);
    memset(text, 'x', count);
    text[count] = '\0';
    return text;
}

/* A JPEG's segment has 64 KiB: the graph goes first, then the infotext, then our own. */
static void what_does_not_fit_a_jpeg_goes_in_order(void **state)
{
    (void)state;
    static const struct {
        size_t infotext, graph, own, left; /* texts that are left */
    } cases[] = {{10000, 20000, 20000, 3}, {10000, 30000, 20000, 2}, {30000, 10, 20000, 1},
                 {10, 10, 60000, 3},       {10, 10, 65500, 0},       {40000, 40000, 40000, 1}};
    if (!ld_picture_kind_built(LD_PICTURE_JPEG)) {
        print_message("needs a build with libjpeg\n");
        skip();
    }
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct ld_arena arena;
        struct ld_png_texts found;
        char *long_infotext = letters(cases[i].infotext);
        char *long_graph = letters(cases[i].graph);
        char *long_own = letters(cases[i].own);
        const struct ld_png_text texts[] = {{"parameters", long_infotext, false},
                                            {"prompt", long_graph, false},
                                            {"latentd", long_own, true}};
        struct ld_buffer file = written(LD_PICTURE_JPEG, texts, 3);
        read_texts(&found, &arena, span_of(&file));
        assert_int_equal(found.count, cases[i].left);
        if (cases[i].left > 0)
            assert_string_equal(ld_png_text_find(&found, "latentd"), long_own);
        assert_true((ld_png_text_find(&found, "parameters") != NULL) == (cases[i].left > 1));
        assert_true((ld_png_text_find(&found, "prompt") != NULL) == (cases[i].left > 2));
        ld_arena_deinit(&arena);
        ld_buffer_deinit(&file);
        free(long_infotext);
        free(long_graph);
        free(long_own);
    }
}

static void cut_files_are_refused_or_say_less(void **state)
{
    (void)state;
    for (int kind = 0; kind < LD_PICTURE_KINDS; kind++) {
        if (!ld_picture_kind_built((enum ld_picture_kind)kind))
            continue;
        struct ld_buffer file = written((enum ld_picture_kind)kind, all, 3);
        for (size_t size = 0; size < file.size; size += size < 1200 ? 1 : 37) {
            struct ld_arena arena;
            struct ld_png_texts texts;
            struct ld_error err = {0};
            struct ld_buffer out = ld_buffer_make(FILE_BYTES_MAX);
            uint8_t *copy = malloc(size + 1); /* so that a sanitizer sees a step too far */
            assert_non_null(copy);
            memcpy(copy, file.data, size);
            ld_arena_init(&arena, "test", ARENA_BYTES);
            const enum ld_code read =
                ld_picture_texts_read(&texts, &arena, ld_span_of(copy, size), false, &err);
            assert_true(read == LD_OK || read == LD_E_FORMAT);
            const enum ld_code bare = ld_picture_strip(&out, ld_span_of(copy, size), &err);
            assert_true(bare == LD_OK || bare == LD_E_FORMAT);
            ld_arena_deinit(&arena);
            ld_buffer_deinit(&out);
            free(copy);
        }
        ld_buffer_deinit(&file);
    }
}

/* Signature, an empty tEXt, an empty IEND; the checksums are copied, not judged. What stands behind
 * the end is no part of the picture. */
static void a_png_keeps_its_chunks_without_text(void **state)
{
    (void)state;
    static const uint8_t png[] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1A, '\n', 0, 0, 0,
                                  0,    't', 'E', 'X', 't',  1,    2,    3,    4, 0, 0,
                                  0,    0,   'I', 'E', 'N',  'D',  5,    6,    7, 8, 9};
    struct ld_error err;
    struct ld_buffer out = ld_buffer_make(100);
    assert_int_equal(ld_picture_strip(&out, ld_span_of(png, sizeof png), &err), LD_OK);
    assert_int_equal(out.size, 20);
    assert_memory_equal(out.data + 8, png + 20, 12);
    ld_buffer_clear(&out);
    for (size_t cut = 9; cut < sizeof png - 1; cut++) {
        if (cut == 20)
            continue; /* between two chunks */
        assert_int_equal(ld_picture_strip(&out, ld_span_of(png, cut), &err), LD_E_FORMAT);
        ld_buffer_clear(&out);
    }
    assert_int_equal(ld_picture_strip(&out, ld_span_text("GIF89a"), &err), LD_E_FORMAT);
    ld_buffer_deinit(&out);
}

/* ---- Blocks of other programs ---------------------------------------------------------------- */

struct block {
    uint8_t bytes[4096];
    size_t size;
    bool little;
};

static void put(struct block *block, uint32_t value, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        block->bytes[block->size++] =
            (uint8_t)(value >> 8 * (block->little ? i : bytes - 1 - i) & 0xFF);
}

/* A directory of one entry at the end of the block, its value behind it. */
static void put_entry(struct block *block, uint16_t tag, uint16_t type, const void *value,
                      size_t size)
{
    put(block, 1, 2);
    put(block, tag, 2);
    put(block, type, 2);
    put(block, (uint32_t)(type == 4 ? 1 : size), 4);
    if (size <= 4) {
        memcpy(block->bytes + block->size, value, size);
        block->size += 4;
    } else {
        put(block, (uint32_t)block->size + 8, 4);
    }
    put(block, 0, 4);
    if (size > 4)
        memcpy(block->bytes + block->size, value, size);
    block->size += size > 4 ? size : 0;
}

static void begin(struct block *block, bool little)
{
    memset(block, 0, sizeof *block);
    block->little = little;
    memcpy(block->bytes, little ? "II" : "MM", 2);
    block->size = 2;
    put(block, 42, 2);
    put(block, 8, 4);
}

/* A block whose second directory has a UserComment. */
static void make_comment(struct block *block, bool little, const void *value, size_t size)
{
    begin(block, little);
    const uint32_t place = 26;
    uint8_t pointer[4];
    for (size_t i = 0; i < 4; i++)
        pointer[i] = (uint8_t)(place >> 8 * (little ? i : 3 - i));
    put_entry(block, 0x8769, 4, pointer, 4);
    assert_int_equal(block->size, place);
    put_entry(block, 0x9286, 7, value, size);
}

static void read_block(struct ld_png_texts *texts, struct ld_arena *arena,
                       const struct block *block)
{
    struct ld_error err = {0};
    uint8_t *copy = malloc(block->size);
    assert_non_null(copy);
    memcpy(copy, block->bytes, block->size);
    texts->count = 0;
    ld_arena_init(arena, "test", ARENA_BYTES);
    assert_int_equal(ld_exif_texts(texts, arena, ld_span_of(copy, block->size), &err), LD_OK);
    free(copy); /* the texts are the arena's own */
}

static void assert_text(const struct block *block, const char *keyword, const char *expected)
{
    struct ld_arena arena;
    struct ld_png_texts texts;
    read_block(&texts, &arena, block);
    const char *text = ld_png_text_find(&texts, keyword);
    if (expected) {
        assert_non_null(text);
        assert_string_equal(text, expected);
    } else {
        assert_null(text);
    }
    ld_arena_deinit(&arena);
}

static void comments_are_read_in_every_encoding(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t size;
        const char *expected;
    } cases[] = {
        {"ASCII\0\0\0a cat", 13, "a cat"},
        {"ASCII\0\0\0a cat\0\0\0", 16, "a cat"},
        {"\0\0\0\0\0\0\0\0a c\xC3\xA4t", 14, "a c\xC3\xA4t"},
        {"UNICODE\0\0c\0a\0t", 14, "cat"}, /* most significant first, as piexif writes */
        {"UNICODE\0c\0a\0t\0", 14, "cat"}, /* and the other order */
        {"UNICODE\0\xFE\xFF\x73\x2B", 12, "\xE7\x8C\xAB"}, /* by its mark */
        {"UNICODE\0\xFF\xFE\x2B\x73", 12, "\xE7\x8C\xAB"},
        {"UNICODE\0\xD8\x3D\xDC\x08\0!", 14, "\xF0\x9F\x90\x88!"},
        {"UNICODE\0\xD8\x3D\0!", 12, "\xEF\xBF\xBD!"}, /* half a pair */
        {"no code at all", 14, "no code at all"},
        {"{broken json", 12, "{broken json"},
        {"ASCII\0\0\0", 8, NULL},
        {"UNICODE\0\0", 9, NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        for (int little = 0; little <= 1; little++) {
            struct block block;
            make_comment(&block, little, cases[i].bytes, cases[i].size);
            assert_text(&block, "parameters", cases[i].expected);
        }
    }
}

static void an_object_in_a_comment_is_a_list_of_texts(void **state)
{
    (void)state;
    static const char object[] =
        "ASCII\0\0\0{\"Comment\":\"{\\\"uc\\\":1}\",\"Software\":\"NovelAI\",\"prompt\":{\"3\":{}},"
        "\"n\":1}";
    struct block block;
    make_comment(&block, false, object, sizeof object - 1);
    assert_text(&block, "Comment", "{\"uc\":1}");
    assert_text(&block, "Software", "NovelAI");
    assert_text(&block, "prompt", "{\"3\":{}}");
    assert_text(&block, "n", "1");
    assert_text(&block, "parameters", NULL);
}

static void labels_of_comfyui_are_read_and_cameras_are_not(void **state)
{
    (void)state;
    static const struct {
        uint16_t tag;
        const char *value, *keyword, *expected;
    } cases[] = {
        {0x0110, "prompt:{\"1\":{}}", "prompt", "{\"1\":{}}"},
        {0x010F, "workflow:{\"a\":1}", "workflow", "{\"a\":1}"},
        {0x010F, "Prompt: {\"2\":{}}", "prompt", "{\"2\":{}}"},
        {0x010E, "Workflow: {}", "workflow", "{}"},
        {0x010E, "a cat on a mat", "Description", "a cat on a mat"},
        {0x0110, "EOS 5D: Mark II", "prompt", NULL},
        {0x010F, "Canon Incorporated", "Description", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct block block;
        begin(&block, i & 1);
        put_entry(&block, cases[i].tag, 2, cases[i].value, strlen(cases[i].value) + 1);
        assert_text(&block, cases[i].keyword, cases[i].expected);
    }
}

static void offsets_beyond_the_block_say_nothing(void **state)
{
    (void)state;
    struct block good;
    make_comment(&good, false, "ASCII\0\0\0cat", 11);
    for (size_t at = 0; at < good.size; at++) {
        for (int bit = 0; bit < 8; bit++) {
            struct ld_arena arena;
            struct ld_png_texts texts;
            struct block bad = good;
            bad.bytes[at] = (uint8_t)(bad.bytes[at] ^ 1 << bit);
            read_block(&texts, &arena, &bad);
            assert_true(texts.count <= 1);
            ld_arena_deinit(&arena);
        }
    }
    for (size_t size = 0; size < good.size; size++) {
        struct ld_arena arena;
        struct ld_png_texts texts;
        struct block cut = good;
        cut.size = size;
        read_block(&texts, &arena, &cut);
        assert_int_equal(texts.count, 0);
        ld_arena_deinit(&arena);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_are_the_same_in_every_kind),
        cmocka_unit_test(taking_texts_away_leaves_the_bare_file),
        cmocka_unit_test(added_texts_stand_beside_those_that_are_there),
        cmocka_unit_test(an_enlarged_picture_says_both_recipes),
        cmocka_unit_test(what_does_not_fit_a_jpeg_goes_in_order),
        cmocka_unit_test(cut_files_are_refused_or_say_less),
        cmocka_unit_test(a_png_keeps_its_chunks_without_text),
        cmocka_unit_test(comments_are_read_in_every_encoding),
        cmocka_unit_test(an_object_in_a_comment_is_a_list_of_texts),
        cmocka_unit_test(labels_of_comfyui_are_read_and_cameras_are_not),
        cmocka_unit_test(offsets_beyond_the_block_say_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
