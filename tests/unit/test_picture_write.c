/*
 * Proves that a picture written as JPEG or WebP is read again as what it was (bit for bit where
 * nothing may be lost), twice the same, and within the sides that its format can say; by writing
 * pictures and reading them with the readers of uploads. What files say: test_picture_texts.c.
 */
#include "config/limits.h"
#include "runtime/base/arena.h"
#include "runtime/image/picture_read.h"
#include "runtime/image/picture_write.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

enum { WIDTH = 61, HEIGHT = 47, FILE_BYTES_MAX = 4 << 20 };

/* A soft gradient with an edge and some noise: what pictures are made of. */
static void paint(uint8_t *pixels, int32_t channels)
{
    uint32_t chance = 1;
    for (int32_t y = 0; y < HEIGHT; y++) {
        for (int32_t x = 0; x < WIDTH; x++) {
            for (int32_t c = 0; c < channels; c++) {
                chance = chance * 1664525 + 1013904223;
                const int32_t soft = 40 + x + y + 20 * c + (x > WIDTH / 2 ? 50 : 0);
                *pixels++ = (uint8_t)(c == 3 ? chance >> 24 : (uint32_t)soft + (chance >> 29));
            }
        }
    }
}

static struct ld_picture_image image_of(const uint8_t *pixels, int32_t channels,
                                        enum ld_picture_kind kind, int32_t quality)
{
    const struct ld_picture_image image = {
        .pixels = pixels,
        .width = WIDTH,
        .height = HEIGHT,
        .channels = channels,
        .form = {.kind = kind, .quality = quality},
    };
    return image;
}

static struct ld_buffer written(const struct ld_picture_image *image)
{
    struct ld_error err = {0};
    struct ld_buffer file = ld_buffer_make(FILE_BYTES_MAX);
    assert_int_equal(ld_picture_write(&file, image, &err), LD_OK);
    assert_int_equal(ld_picture_kind_of(ld_span_of(file.data, file.size)), image->form.kind);
    return file;
}

static void read_again(struct ld_picture *picture, const struct ld_buffer *file)
{
    struct ld_error err = {0};
    assert_int_equal(ld_picture_read(picture, ld_span_of(file->data, file->size), &err), LD_OK);
    assert_int_equal(picture->width, WIDTH);
    assert_int_equal(picture->height, HEIGHT);
}

/* Decibels over the colours; `channels` of the original, whose alpha is not looked at. */
static double psnr(const struct ld_picture *picture, const uint8_t *pixels, int32_t channels)
{
    double sum = 0;
    const size_t count = (size_t)WIDTH * HEIGHT;
    for (size_t i = 0; i < count; i++) {
        for (size_t c = 0; c < 3; c++) {
            const size_t from = channels == 1 ? 0 : c;
            const double distance = (double)picture->pixels[i * (size_t)picture->channels + c] -
                                    pixels[i * (size_t)channels + from];
            sum += distance * distance;
        }
    }
    return 10 * log10(255.0 * 255.0 * 3 * (double)count / sum);
}

static void lossless_webp_keeps_every_bit(void **state)
{
    (void)state;
    if (!ld_picture_kind_built(LD_PICTURE_WEBP)) {
        print_message("needs a build with libwebp\n");
        skip();
    }
    for (int32_t channels = 3; channels <= 4; channels++) {
        uint8_t pixels[4 * WIDTH * HEIGHT];
        struct ld_picture picture;
        paint(pixels, channels);
        struct ld_picture_image image = image_of(pixels, channels, LD_PICTURE_WEBP, 0);
        image.form.lossless = true;
        struct ld_buffer file = written(&image);
        read_again(&picture, &file);
        assert_int_equal(picture.channels, channels);
        assert_memory_equal(picture.pixels, pixels, (size_t)channels * WIDTH * HEIGHT);
        ld_picture_deinit(&picture);
        ld_buffer_deinit(&file);
    }
}

/* What 8 bit codings of YCbCr lose at quality 90 and 100 is known to within a few decibels. */
static void quality_is_what_is_kept(void **state)
{
    (void)state;
    static const enum ld_picture_kind kinds[] = {LD_PICTURE_JPEG, LD_PICTURE_WEBP};
    for (size_t i = 0; i < 2; i++) {
        static const int32_t qualities[] = {10, 0, 100}; /* 0: 90 */
        static const double least[] = {28, 38, 40};
        double before = 0;
        size_t size_before = 0;
        if (!ld_picture_kind_built(kinds[i]))
            continue;
        for (size_t q = 0; q < 3; q++) {
            uint8_t pixels[3 * WIDTH * HEIGHT];
            struct ld_picture picture;
            paint(pixels, 3);
            const struct ld_picture_image image = image_of(pixels, 3, kinds[i], qualities[q]);
            struct ld_buffer file = written(&image);
            read_again(&picture, &file);
            const double kept = psnr(&picture, pixels, 3);
            assert_true(kept > least[q] && kept > before);
            assert_true(file.size > size_before);
            before = kept;
            size_before = file.size;
            ld_picture_deinit(&picture);
            ld_buffer_deinit(&file);
        }
    }
}

static void an_absent_quality_is_ninety(void **state)
{
    (void)state;
    uint8_t pixels[3 * WIDTH * HEIGHT];
    paint(pixels, 3);
    for (int kind = LD_PICTURE_JPEG; kind < LD_PICTURE_KINDS; kind++) {
        if (!ld_picture_kind_built((enum ld_picture_kind)kind))
            continue;
        const struct ld_picture_image absent = image_of(pixels, 3, (enum ld_picture_kind)kind, 0);
        const struct ld_picture_image said = image_of(pixels, 3, (enum ld_picture_kind)kind, 90);
        struct ld_buffer one = written(&absent);
        struct ld_buffer two = written(&said);
        assert_int_equal(one.size, two.size);
        assert_memory_equal(one.data, two.data, two.size);
        ld_buffer_deinit(&one);
        ld_buffer_deinit(&two);
    }
}

/* The first number of a JPEG's luminance table says its quality: T.81 K.1 has 16 there, which
 * libjpeg halves at 75, scales by 0.4 at 80 and by 0.2 at 90. */
static int first_step_of(const struct ld_buffer *jpeg)
{
    const uint8_t *data = (const uint8_t *)jpeg->data;
    for (size_t i = 0; i + 5 < jpeg->size; i++)
        if (data[i] == 0xFF && data[i + 1] == 0xDB)
            return data[i + 5]; /* behind two bytes of length and the table's number */
    return -1;
}

static void previews_have_a_format_of_their_own(void **state)
{
    (void)state;
    struct ld_request request = {.output_format = "png", .preview_format = "png"};
    uint8_t pixels[3 * WIDTH * HEIGHT];
    paint(pixels, 3);
    assert_int_equal(ld_picture_form_of_preview(&request).kind, LD_PICTURE_PNG);
    request.output_format = "webp";
    request.output_lossless = true;
    request.output_quality = 100;
    assert_int_equal(ld_picture_form_of_preview(&request).kind, LD_PICTURE_PNG);
    request.preview_format = "jpeg";
    assert_int_equal(ld_picture_form_of(&request).kind, LD_PICTURE_WEBP);
    struct ld_picture_image image = image_of(pixels, 3, LD_PICTURE_PNG, 0);
    image.form = ld_picture_form_of_preview(&request);
    assert_int_equal(image.form.kind, LD_PICTURE_JPEG);
    assert_false(image.form.lossless);
    if (ld_picture_kind_built(LD_PICTURE_JPEG)) {
        struct ld_buffer file = written(&image);
        assert_int_equal(first_step_of(&file), 6); /* 6.4 */
        ld_buffer_deinit(&file);
    }
}

static void grey_and_transparent_pictures_are_taken(void **state)
{
    (void)state;
    for (int kind = LD_PICTURE_JPEG; kind < LD_PICTURE_KINDS; kind++) {
        if (!ld_picture_kind_built((enum ld_picture_kind)kind))
            continue;
        for (int32_t channels = 1; channels <= 4; channels += 3) {
            uint8_t pixels[4 * WIDTH * HEIGHT];
            struct ld_picture picture;
            paint(pixels, channels);
            const struct ld_picture_image image =
                image_of(pixels, channels, (enum ld_picture_kind)kind, 0);
            struct ld_buffer file = written(&image);
            read_again(&picture, &file);
            assert_int_equal(picture.channels, channels == 4 && kind == LD_PICTURE_WEBP ? 4 : 3);
            /* A lossy WebP smooths colours that no one sees. */
            if (channels == 1 || kind == LD_PICTURE_JPEG)
                assert_true(psnr(&picture, pixels, channels) > 34);
            ld_picture_deinit(&picture);
            ld_buffer_deinit(&file);
        }
    }
}

static void equal_pictures_are_equal_bytes(void **state)
{
    (void)state;
    uint8_t pixels[3 * WIDTH * HEIGHT];
    const struct ld_png_text texts[] = {{"parameters", "cat\nSteps: 20, Seed: 1, Size: 8x8", false},
                                        {"latentd", "{\"version\":\"x\"}", true}};
    paint(pixels, 3);
    for (int kind = LD_PICTURE_PNG; kind < LD_PICTURE_KINDS; kind++) {
        if (!ld_picture_kind_built((enum ld_picture_kind)kind))
            continue;
        for (int lossless = 0; lossless <= 1; lossless++) {
            struct ld_picture_image image = image_of(pixels, 3, (enum ld_picture_kind)kind, 0);
            image.form.lossless = lossless;
            image.texts = texts;
            image.text_count = 2;
            struct ld_buffer one = written(&image);
            struct ld_buffer two = written(&image);
            assert_int_equal(one.size, two.size);
            assert_memory_equal(one.data, two.data, two.size);
            ld_buffer_deinit(&one);
            ld_buffer_deinit(&two);
        }
    }
}

static void sides_end_where_the_format_does(void **state)
{
    (void)state;
    uint8_t *pixels = ld_block_alloc(3 * 65536);
    assert_non_null(pixels);
    memset(pixels, 77, 3 * 65536);
    for (int kind = LD_PICTURE_JPEG; kind < LD_PICTURE_KINDS; kind++) {
        const int32_t most = ld_picture_kind_side_max((enum ld_picture_kind)kind);
        struct ld_error err = {0};
        struct ld_buffer file = ld_buffer_make(FILE_BYTES_MAX);
        struct ld_picture_image image = image_of(pixels, 3, (enum ld_picture_kind)kind, 0);
        image.width = most;
        image.height = 1;
        if (ld_picture_kind_built((enum ld_picture_kind)kind))
            assert_int_equal(ld_picture_write(&file, &image, &err), LD_OK);
        ld_buffer_clear(&file);
        image.width = most + 1;
        assert_int_equal(ld_picture_write(&file, &image, &err), LD_E_RANGE);
        assert_non_null(strstr(err.detail, "output.format"));
        image.width = 1;
        image.height = most + 1;
        assert_int_equal(ld_picture_write(&file, &image, &err), LD_E_RANGE);
        ld_buffer_deinit(&file);
    }
    ld_block_free(pixels, 3 * 65536);
}

static void what_makes_no_sense_is_refused(void **state)
{
    (void)state;
    uint8_t pixels[3 * WIDTH * HEIGHT];
    paint(pixels, 3);
    for (int kind = LD_PICTURE_PNG; kind < LD_PICTURE_KINDS; kind++) {
        struct ld_error err = {0};
        struct ld_buffer file = ld_buffer_make(FILE_BYTES_MAX);
        struct ld_picture_image image = image_of(pixels, 3, (enum ld_picture_kind)kind, 101);
        assert_int_equal(ld_picture_write(&file, &image, &err), LD_E_RANGE);
        image = image_of(pixels, 2, (enum ld_picture_kind)kind, 0);
        assert_int_equal(ld_picture_write(&file, &image, &err), LD_E_RANGE);
        image = image_of(pixels, 3, (enum ld_picture_kind)kind, 0);
        image.width = 0;
        assert_int_equal(ld_picture_write(&file, &image, &err), LD_E_RANGE);
        ld_buffer_deinit(&file);
    }
}

/* A build without the library says so; one with it has a file that does not fit. */
static void failures_are_one_sentence(void **state)
{
    (void)state;
    uint8_t pixels[3 * WIDTH * HEIGHT];
    paint(pixels, 3);
    for (int kind = LD_PICTURE_PNG; kind < LD_PICTURE_KINDS; kind++) {
        const bool built = ld_picture_kind_built((enum ld_picture_kind)kind);
        for (size_t texts = 0; texts <= 1; texts++) {
            const struct ld_png_text text = {"parameters", "a cat", false};
            struct ld_error err = {0};
            struct ld_buffer file = ld_buffer_make(100);
            struct ld_picture_image image = image_of(pixels, 3, (enum ld_picture_kind)kind, 0);
            image.texts = &text;
            image.text_count = texts;
            assert_int_equal(ld_picture_write(&file, &image, &err),
                             built ? LD_E_NOMEM : LD_E_UNSUPPORTED);
            assert_true(err.detail[0] != '\0');
            ld_buffer_deinit(&file);
        }
    }
}

static void kinds_have_names_types_and_endings(void **state)
{
    (void)state;
    static const struct {
        const char *path;
        bool known;
        enum ld_picture_kind kind;
    } paths[] = {{"a.png", true, LD_PICTURE_PNG},      {"a.b.JPG", true, LD_PICTURE_JPEG},
                 {"x/y.jpeg", true, LD_PICTURE_JPEG},  {"y.WebP", true, LD_PICTURE_WEBP},
                 {"webp", false, LD_PICTURE_PNG},      {"a.webp/out", false, LD_PICTURE_PNG},
                 {"a.gif", false, LD_PICTURE_PNG},     {"", false, LD_PICTURE_PNG},
                 {"a.webp.tmp", false, LD_PICTURE_PNG}};
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        enum ld_picture_kind kind = LD_PICTURE_PNG;
        assert_true(ld_picture_kind_of_path(paths[i].path, &kind) == paths[i].known);
        assert_int_equal(kind, paths[i].kind);
    }
    for (int kind = 0; kind < LD_PICTURE_KINDS; kind++) {
        enum ld_picture_kind found = LD_PICTURE_KINDS;
        assert_true(ld_picture_kind_find(ld_picture_kind_name((enum ld_picture_kind)kind), &found));
        assert_int_equal(found, kind);
    }
    enum ld_picture_kind none = LD_PICTURE_WEBP;
    assert_false(ld_picture_kind_find("gif", &none));
    assert_int_equal(none, LD_PICTURE_WEBP);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lossless_webp_keeps_every_bit),
        cmocka_unit_test(quality_is_what_is_kept),
        cmocka_unit_test(an_absent_quality_is_ninety),
        cmocka_unit_test(previews_have_a_format_of_their_own),
        cmocka_unit_test(grey_and_transparent_pictures_are_taken),
        cmocka_unit_test(equal_pictures_are_equal_bytes),
        cmocka_unit_test(sides_end_where_the_format_does),
        cmocka_unit_test(what_makes_no_sense_is_refused),
        cmocka_unit_test(failures_are_one_sentence),
        cmocka_unit_test(kinds_have_names_types_and_endings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
