/*
 * Proves that what the PNG writer makes is read back bit for bit, by us and by others, and that
 * damaged or oversized files end in one clear error. It writes pictures of every kind, changes
 * bytes and lets ExifTool and pngcheck judge where they are installed.
 */
#include "config/limits.h"
#include "runtime/image/png_meta.h"
#include "runtime/image/png_read.h"
#include "runtime/image/png_text.h"
#include "runtime/image/png_write.h"

#include <libdeflate.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { W = 61, H = 37 };

/* A picture with flat parts, slopes and noise, so that every row filter wins somewhere. */
static void paint(uint8_t *pixels, int32_t width, int32_t height, int32_t channels)
{
    uint32_t seed = 7;
    for (int32_t y = 0; y < height; y++)
        for (int32_t i = 0; i < width * channels; i++) {
            seed = seed * 1664525u + 1013904223u;
            const int32_t values[] = {(int32_t)(seed >> 24), 200, 3 * i, i + y, 5 * y};
            pixels[y * width * channels + i] = (uint8_t)values[y % 5];
        }
}

static struct ld_buffer write_png(const uint8_t *pixels, int32_t width, int32_t height,
                                  int32_t channels, int32_t compression,
                                  const struct ld_png_text *texts, size_t text_count)
{
    struct ld_buffer out = ld_buffer_make(LD_PNG_BYTES_MAX);
    const struct ld_png_image image = {.pixels = pixels,
                                       .width = width,
                                       .height = height,
                                       .channels = channels,
                                       .compression = compression,
                                       .texts = texts,
                                       .text_count = text_count};
    assert_int_equal(ld_png_write(&out, &image, NULL), LD_OK);
    return out;
}

static struct ld_span bytes_of(const struct ld_buffer *buffer)
{
    return ld_span_of(buffer->data, buffer->size);
}

/* ---- Pixels ---------------------------------------------------------------------------------- */

static void pixels_come_back_at_every_level_and_kind(void **state)
{
    (void)state;
    static uint8_t pixels[W * H * 4];
    for (int32_t channels = 1; channels <= 4; channels++) {
        if (channels == 2)
            continue;
        paint(pixels, W, H, channels);
        for (int32_t level = 0; level <= 12; level += 3) {
            struct ld_buffer png = write_png(pixels, W, H, channels, level, NULL, 0);
            struct ld_picture picture;
            assert_int_equal(ld_png_read(&picture, bytes_of(&png), 0, NULL), LD_OK);
            assert_int_equal(picture.width, W);
            assert_int_equal(picture.height, H);
            assert_int_equal(picture.channels, channels == 4 ? 4 : 3);
            for (int32_t i = 0; i < W * H * picture.channels; i++)
                assert_int_equal(picture.pixels[i], channels == 1 ? pixels[i / 3] : pixels[i]);
            ld_picture_deinit(&picture);
            ld_buffer_deinit(&png);
        }
    }
}

static void equal_pixels_give_equal_bytes(void **state)
{
    (void)state;
    static uint8_t pixels[W * H * 3];
    paint(pixels, W, H, 3);
    struct ld_buffer a = write_png(pixels, W, H, 3, 0, NULL, 0);
    struct ld_buffer b = write_png(pixels, W, H, 3, 0, NULL, 0);
    assert_int_equal(a.size, b.size);
    assert_memory_equal(a.data, b.data, a.size);
    ld_buffer_deinit(&a);
    ld_buffer_deinit(&b);
}

static void what_is_out_of_bounds_is_not_written(void **state)
{
    (void)state;
    uint8_t pixel[4] = {0};
    struct ld_buffer out = ld_buffer_make(LD_PNG_BYTES_MAX);
    struct ld_png_image image = {.pixels = pixel, .width = 1, .height = 1, .channels = 2};
    assert_int_equal(ld_png_write(&out, &image, NULL), LD_E_RANGE);
    image.channels = 3;
    image.width = LD_AREA_MAX;
    image.height = 2;
    assert_int_equal(ld_png_write(&out, &image, NULL), LD_E_RANGE);
    image.width = image.height = 1;
    image.compression = 13;
    assert_int_equal(ld_png_write(&out, &image, NULL), LD_E_RANGE);
    image.compression = 0;
    struct ld_buffer tight = ld_buffer_make(16);
    assert_int_equal(ld_png_write(&tight, &image, NULL), LD_E_NOMEM);
    ld_buffer_deinit(&tight);
    ld_buffer_deinit(&out);
}

/* ---- Text ------------------------------------------------------------------------------------ */

static const char *kind_of_text(const struct ld_buffer *png, const char *keyword)
{
    static char type[5];
    for (size_t pos = 8; pos + 12 <= png->size;) {
        const uint8_t *chunk = (const uint8_t *)png->data + pos;
        if (memcmp(chunk + 4, "IDAT", 4) == 0)
            return ""; /* text stands before the pixels */
        memcpy(type, chunk + 4, 4);
        if (strcmp((const char *)chunk + 8, keyword) == 0)
            return type;
        pos += 12 + ld_read_u32be(chunk);
    }
    return "";
}

static void text_comes_back_in_the_chunk_that_fits_it(void **state)
{
    (void)state;
    uint8_t pixel[3] = {1, 2, 3};
    char *huge = malloc(200001);
    assert_non_null(huge);
    for (size_t i = 0; i < 200000; i++)
        huge[i] = (char)('a' + i % 17);
    huge[200000] = '\0';
    const struct ld_png_text texts[] = {
        {"parameters", "caf\xC3\xA9\nSteps: 1", false},
        {"prompt", "\xE7\x8C\xAB", false},
        {"latentd", "{}", true},
        {"control",
         "a\x01"
         "b\tc\xC2\x85",
         false},
        {"long", huge, false},
        {"long too", huge, true},
    };
    struct ld_buffer png = write_png(pixel, 1, 1, 3, 0, texts, 6);
    assert_string_equal(kind_of_text(&png, "parameters"), "tEXt");
    assert_string_equal(kind_of_text(&png, "prompt"), "iTXt");
    assert_string_equal(kind_of_text(&png, "latentd"), "iTXt");
    assert_string_equal(kind_of_text(&png, "long"), "zTXt");
    assert_string_equal(kind_of_text(&png, "long too"), "iTXt");

    struct ld_arena arena;
    struct ld_png_texts read;
    ld_arena_init(&arena, "test", 8 << 20);
    assert_int_equal(ld_png_texts_read(&read, &arena, bytes_of(&png), false, NULL), LD_OK);
    assert_int_equal(read.count, 6);
    assert_string_equal(ld_png_text_find(&read, "parameters"), texts[0].text);
    assert_string_equal(ld_png_text_find(&read, "prompt"), texts[1].text);
    assert_string_equal(ld_png_text_find(&read, "latentd"), "{}");
    assert_string_equal(ld_png_text_find(&read, "control"), "a\\x01b\tc\\x85");
    assert_string_equal(ld_png_text_find(&read, "long"), huge);
    assert_string_equal(ld_png_text_find(&read, "long too"), huge);
    assert_null(ld_png_text_find(&read, "workflow"));
    ld_arena_deinit(&arena);
    ld_buffer_deinit(&png);
    free(huge);
}

static void text_that_cannot_be_packed_is_refused(void **state)
{
    (void)state;
    uint8_t pixel[3] = {0};
    char *noise = malloc(400001);
    assert_non_null(noise);
    uint32_t seed = 1;
    for (size_t i = 0; i < 400000; i++) {
        seed = seed * 1664525u + 1013904223u;
        noise[i] = (char)(32 + (seed >> 24) % 95);
    }
    noise[400000] = '\0';
    const struct ld_png_text text = {"parameters", noise, false};
    const struct ld_png_image image = {
        .pixels = pixel, .width = 1, .height = 1, .channels = 3, .texts = &text, .text_count = 1};
    struct ld_buffer out = ld_buffer_make(LD_PNG_BYTES_MAX);
    assert_int_equal(ld_png_write(&out, &image, NULL), LD_E_TOO_LARGE);
    ld_buffer_deinit(&out);
    const struct ld_png_text bad = {" parameters", "x", false};
    assert_int_equal(ld_png_put_text(&out, &bad, NULL), LD_E_RANGE);
    free(noise);
}

/* A PNG of only header, given chunks and IEND. */
static struct ld_buffer png_of_chunks(size_t count, const char *type, struct ld_span data)
{
    uint8_t pixel[3] = {0};
    struct ld_buffer whole = write_png(pixel, 1, 1, 3, 0, NULL, 0);
    struct ld_buffer out = ld_buffer_make(8 << 20);
    ld_buffer_bytes(&out, whole.data, LD_PNG_HEADER_SIZE);
    for (size_t i = 0; i < count; i++)
        ld_png_put_chunk(&out, type, data);
    ld_png_put_chunk(&out, "IEND", ld_span_of("", 0));
    ld_buffer_deinit(&whole);
    return out;
}

static enum ld_code read_texts(const struct ld_buffer *png, size_t *count)
{
    struct ld_arena arena;
    struct ld_png_texts texts;
    ld_arena_init(&arena, "test", 16 << 20);
    const enum ld_code code = ld_png_texts_read(&texts, &arena, bytes_of(png), false, NULL);
    *count = texts.count;
    ld_arena_deinit(&arena);
    return code;
}

static void the_walker_takes_sixteen_texts_and_a_mebibyte(void **state)
{
    (void)state;
    size_t count;
    struct ld_buffer png = png_of_chunks(16, "tEXt", ld_span_of("k\0v", 3));
    assert_int_equal(read_texts(&png, &count), LD_OK);
    assert_int_equal(count, 16);
    ld_buffer_deinit(&png);
    png = png_of_chunks(17, "tEXt", ld_span_of("k\0v", 3));
    assert_int_equal(read_texts(&png, &count), LD_E_TOO_LARGE);
    ld_buffer_deinit(&png);

    /* A bomb: zeros deflate a thousandfold. */
    for (size_t size = LD_PNG_TEXT_BYTES_MAX; size <= LD_PNG_TEXT_BYTES_MAX + 1; size++) {
        char *plain = calloc(size, 1);
        uint8_t *chunk = malloc(64 * 1024);
        assert_non_null(plain);
        assert_non_null(chunk);
        memset(plain, 'a', size);
        struct libdeflate_compressor *deflater = libdeflate_alloc_compressor(9);
        memcpy(chunk, "k\0", 3);
        const size_t packed =
            libdeflate_zlib_compress(deflater, plain, size, chunk + 3, 64 * 1024 - 3);
        assert_true(packed > 0);
        libdeflate_free_compressor(deflater);
        png = png_of_chunks(1, "zTXt", ld_span_of(chunk, packed + 3));
        assert_int_equal(read_texts(&png, &count),
                         size == LD_PNG_TEXT_BYTES_MAX ? LD_OK : LD_E_TOO_LARGE);
        ld_buffer_deinit(&png);
        free(plain);
        free(chunk);
    }
}

static void damaged_text_is_left_out(void **state)
{
    (void)state;
    const struct {
        const char *type;
        const char *data;
        size_t size;
    } bad[] = {
        {"tEXt", "no end", 6}, {"tEXt", "\0v", 2},       {"zTXt", "k\0", 2},
        {"zTXt", "k\0\1x", 4}, {"iTXt", "k\0\0\0\0", 5}, {"iTXt", "k\0\2\0\0\0v", 7},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        size_t count;
        struct ld_buffer png = png_of_chunks(1, bad[i].type, ld_span_of(bad[i].data, bad[i].size));
        assert_int_equal(read_texts(&png, &count), LD_OK);
        assert_int_equal(count, 0);
        ld_buffer_deinit(&png);
    }
}

/* ---- Hostile files --------------------------------------------------------------------------- */

/* Recompute the checksum after a change of the header. */
static void seal_header(struct ld_buffer *png)
{
    uint8_t *p = (uint8_t *)png->data;
    ld_write_u32be(p + 29, libdeflate_crc32(0, p + 12, 17));
}

static void the_header_check_says_what_is_wrong(void **state)
{
    (void)state;
    const struct {
        size_t at;
        uint8_t value;
        enum ld_code code;
        const char *word;
    } changes[] = {
        {0, 0x88, LD_E_FORMAT, "not a PNG"},   {15, 'X', LD_E_FORMAT, "not a PNG"},
        {19, 0, LD_E_FORMAT, "no picture"},    {16, 1, LD_E_TOO_LARGE, "pixels"},
        {16, 0xFF, LD_E_TOO_LARGE, "pixels"},  {24, 3, LD_E_FORMAT, "no picture"},
        {25, 1, LD_E_FORMAT, "no picture"},    {26, 1, LD_E_FORMAT, "no picture"},
        {28, 1, LD_E_UNSUPPORTED, "interlac"},
    };
    uint8_t pixels[3] = {0};
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        struct ld_buffer png = write_png(pixels, 1, 1, 3, 0, NULL, 0);
        struct ld_png_header header;
        struct ld_picture picture;
        struct ld_error err = {0};
        png.data[changes[i].at] = (char)changes[i].value;
        seal_header(&png);
        assert_int_equal(ld_png_check_header(&header, bytes_of(&png), false, &err),
                         changes[i].code);
        assert_non_null(strstr(err.detail, changes[i].word));
        assert_int_equal(ld_png_read(&picture, bytes_of(&png), 0, &err), changes[i].code);
        ld_buffer_deinit(&png);
    }
}

static void a_cut_or_flipped_file_never_gives_a_picture_or_a_crash(void **state)
{
    (void)state;
    static uint8_t pixels[W * H * 3];
    paint(pixels, W, H, 3);
    const struct ld_png_text text = {"parameters", "a cat", false};
    struct ld_buffer png = write_png(pixels, W, H, 3, 0, &text, 1);
    struct ld_picture picture;
    size_t idat = LD_PNG_HEADER_SIZE;
    while (memcmp(png.data + idat + 4, "IDAT", 4) != 0)
        idat += 12 + ld_read_u32be((const uint8_t *)png.data + idat);
    for (size_t cut = 0; cut < png.size - 13; cut += 7)
        assert_int_not_equal(ld_png_read(&picture, ld_span_of(png.data, cut), 0, NULL), LD_OK);
    for (size_t at = idat; at < png.size - 16; at += 11) {
        png.data[at] = (char)(png.data[at] ^ 0x20);
        if (ld_png_read(&picture, bytes_of(&png), 0, NULL) == LD_OK) {
            fail_msg("byte %zu was changed and nobody noticed", at);
        }
        png.data[at] = (char)(png.data[at] ^ 0x20);
    }
    ld_buffer_deinit(&png);
}

static void ancillary_chunks_of_any_size_do_not_disturb_the_decoder(void **state)
{
    (void)state;
    static uint8_t pixels[W * H * 3];
    paint(pixels, W, H, 3);
    struct ld_buffer plain = write_png(pixels, W, H, 3, 0, NULL, 0);
    struct ld_buffer stuffed = ld_buffer_make(8 << 20);
    char *big = calloc(300000, 1);
    assert_non_null(big);
    ld_buffer_bytes(&stuffed, plain.data, LD_PNG_HEADER_SIZE);
    ld_png_put_chunk(&stuffed, "tEXt", ld_span_of(big, 300000));
    ld_png_put_chunk(&stuffed, "iCCP", ld_span_of("bad", 3));
    ld_buffer_bytes(&stuffed, plain.data + LD_PNG_HEADER_SIZE, plain.size - LD_PNG_HEADER_SIZE);
    struct ld_picture picture;
    assert_int_equal(ld_png_read(&picture, bytes_of(&stuffed), 0, NULL), LD_OK);
    assert_memory_equal(picture.pixels, pixels, sizeof pixels);
    ld_picture_deinit(&picture);
    free(big);
    ld_buffer_deinit(&plain);
    ld_buffer_deinit(&stuffed);
}

/* 2 x 2 pixels by hand from rows with their filter bytes; the palette has two colours. */
static struct ld_buffer small_picture(uint8_t depth, uint8_t type, bool transparent,
                                      struct ld_span rows)
{
    const uint8_t header[13] = {0, 0, 0, 2, 0, 0, 0, 2, depth, type};
    uint8_t packed[256];
    struct ld_buffer png = ld_buffer_make(4096);
    ld_buffer_bytes(&png, "\x89PNG\r\n\x1A\n", 8);
    ld_png_put_chunk(&png, "IHDR", ld_span_of(header, 13));
    if (type == 3)
        ld_png_put_chunk(&png, "PLTE", ld_span_of("\x0A\x14\x1E\x28\x32\x3C", 6));
    if (transparent)
        ld_png_put_chunk(&png, "tRNS", ld_span_of("\x80", 1));
    struct libdeflate_compressor *deflater = libdeflate_alloc_compressor(1);
    const size_t size =
        libdeflate_zlib_compress(deflater, rows.data, rows.size, packed, sizeof packed);
    libdeflate_free_compressor(deflater);
    ld_png_put_chunk(&png, "IDAT", ld_span_of(packed, size));
    ld_png_put_chunk(&png, "IEND", ld_span_of("", 0));
    return png;
}

/* Palette with and without transparency, 16-bit grey, 1-bit grey, grey with alpha. */
static void every_legal_kind_is_expanded(void **state)
{
    (void)state;
    const struct {
        uint8_t depth, type;
        bool transparent;
        const char *rows;
        size_t rows_size;
        int32_t channels;
        uint8_t want[4 * 4];
    } kinds[] = {
        {8,
         3,
         true,
         "\0\0\1\0\1\0",
         6,
         4,
         {10, 20, 30, 128, 40, 50, 60, 255, 40, 50, 60, 255, 10, 20, 30, 128}},
        {8, 3, false, "\0\0\1\0\1\0", 6, 3, {10, 20, 30, 40, 50, 60, 40, 50, 60, 10, 20, 30}},
        {4, 3, false, "\0\x10\0\x01", 4, 3, {40, 50, 60, 10, 20, 30, 10, 20, 30, 40, 50, 60}},
        {1,
         3,
         true,
         "\0\x40\0\xC0",
         4,
         4,
         {10, 20, 30, 128, 40, 50, 60, 255, 40, 50, 60, 255, 40, 50, 60, 255}},
        {16,
         0,
         false,
         "\0\x12\x34\xFF\xFF\0\0\0\x80\0",
         10,
         3,
         {18, 18, 18, 255, 255, 255, 0, 0, 0, 128, 128, 128}},
        {1, 0, false, "\0\x40\0\x80", 4, 3, {0, 0, 0, 255, 255, 255, 255, 255, 255, 0, 0, 0}},
        {8,
         4,
         false,
         "\0\7\x80\x09\xFF\0\1\2\3\4",
         10,
         4,
         {7, 7, 7, 128, 9, 9, 9, 255, 1, 1, 1, 2, 3, 3, 3, 4}},
    };
    for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++) {
        struct ld_buffer png = small_picture(kinds[k].depth, kinds[k].type, kinds[k].transparent,
                                             ld_span_of(kinds[k].rows, kinds[k].rows_size));
        struct ld_picture picture;
        assert_int_equal(ld_png_read(&picture, bytes_of(&png), 0, NULL), LD_OK);
        assert_int_equal(picture.channels, kinds[k].channels);
        assert_memory_equal(picture.pixels, kinds[k].want, (size_t)(4 * picture.channels));
        ld_picture_deinit(&picture);
        ld_buffer_deinit(&png);
    }
}

static void a_colour_beyond_the_palette_is_damage(void **state)
{
    (void)state;
    const char *const rows[] = {"\0\0\1\0\1\2", "\0\xFF\0\0\0\0"};
    for (size_t i = 0; i < 4; i++) {
        struct ld_buffer png = small_picture(8, 3, i % 2 != 0, ld_span_of(rows[i / 2], 6));
        struct ld_picture picture;
        assert_int_equal(ld_png_read(&picture, bytes_of(&png), 0, NULL), LD_E_FORMAT);
        assert_null(picture.pixels);
        ld_buffer_deinit(&png);
    }
}

/* ---- Other people's programs ----------------------------------------------------------------- */

/* Run a program with one file, no shell; its output in `out`. -1 if it is not installed. */
static int run_on(const char *program, const char *option, const char *path, char *out, size_t size)
{
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        (void)dup2(ends[1], STDOUT_FILENO);
        (void)close(ends[0]);
        (void)close(ends[1]);
        execlp(program, program, option, path, (char *)NULL);
        _exit(127);
    }
    (void)close(ends[1]);
    size_t used = 0;
    for (ssize_t got; used + 1 < size && (got = read(ends[0], out + used, size - 1 - used)) > 0;)
        used += (size_t)got;
    out[used] = '\0';
    (void)close(ends[0]);
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFEXITED(status) && WEXITSTATUS(status) != 127 ? WEXITSTATUS(status) : -1;
}

static void others_read_what_we_write(const char *program, const char *option, const char *expect)
{
    static uint8_t pixels[W * H * 3];
    char path[] = "/tmp/test_png_XXXXXX";
    char output[8192];
    paint(pixels, W, H, 3);
    const struct ld_png_text texts[] = {{"parameters", "caf\xC3\xA9, tree\nSteps: 20", false},
                                        {"latentd", "{\"prompt\":\"\xE7\x8C\xAB\"}", true}};
    struct ld_buffer png = write_png(pixels, W, H, 3, 0, texts, 2);
    const int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, png.data, png.size), (ssize_t)png.size);
    (void)close(fd);
    const int status = run_on(program, option, path, output, sizeof output);
    (void)unlink(path);
    ld_buffer_deinit(&png);
    if (status < 0) {
        print_message("%s is not installed\n", program);
        skip();
    }
    assert_int_equal(status, 0);
    assert_non_null(strstr(output, expect));
}

static void exiftool_finds_our_text(void **state)
{
    (void)state;
    others_read_what_we_write("exiftool", "-Parameters", "caf\xC3\xA9, tree");
}

static void exiftool_finds_our_utf8(void **state)
{
    (void)state;
    others_read_what_we_write("exiftool", "-latentd", "\xE7\x8C\xAB");
}

static void pngcheck_has_no_complaint(void **state)
{
    (void)state;
    others_read_what_we_write("pngcheck", "-v", "No errors detected");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pixels_come_back_at_every_level_and_kind),
        cmocka_unit_test(equal_pixels_give_equal_bytes),
        cmocka_unit_test(what_is_out_of_bounds_is_not_written),
        cmocka_unit_test(text_comes_back_in_the_chunk_that_fits_it),
        cmocka_unit_test(text_that_cannot_be_packed_is_refused),
        cmocka_unit_test(the_walker_takes_sixteen_texts_and_a_mebibyte),
        cmocka_unit_test(damaged_text_is_left_out),
        cmocka_unit_test(the_header_check_says_what_is_wrong),
        cmocka_unit_test(a_cut_or_flipped_file_never_gives_a_picture_or_a_crash),
        cmocka_unit_test(ancillary_chunks_of_any_size_do_not_disturb_the_decoder),
        cmocka_unit_test(every_legal_kind_is_expanded),
        cmocka_unit_test(a_colour_beyond_the_palette_is_damage),
        cmocka_unit_test(exiftool_finds_our_text),
        cmocka_unit_test(exiftool_finds_our_utf8),
        cmocka_unit_test(pngcheck_has_no_complaint),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
