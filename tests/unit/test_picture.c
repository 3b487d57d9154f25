/*
 * Proves that headers of pictures are walked within their bytes, that an Exif block turns the size
 * people see and a senseless one does not, and that every turn is undone by its opposite.
 */
#include "config/limits.h"
#include "runtime/base/arena.h"
#include "runtime/image/picture_read.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

/* A JPEG's beginning: marker, Exif with one entry, frame header; no pixels. */
static size_t jpeg_head(uint8_t *out, uint16_t tag, uint16_t orientation, uint8_t frame,
                        uint8_t components)
{
    const uint8_t head[] = {0xFF,
                            0xD8,
                            0xFF,
                            0xE1,
                            0,
                            34,
                            'E',
                            'x',
                            'i',
                            'f',
                            0,
                            0,
                            'M',
                            'M',
                            0,
                            42,
                            0,
                            0,
                            0,
                            8,
                            0,
                            1,
                            (uint8_t)(tag >> 8),
                            (uint8_t)tag,
                            0,
                            3,
                            0,
                            0,
                            0,
                            1,
                            (uint8_t)(orientation >> 8),
                            (uint8_t)orientation,
                            0,
                            0,
                            0,
                            0,
                            0,
                            0};
    const uint8_t sof[] = {0xFF, frame, 0, 17, 8,    0, 20, 0,    30, components,
                           1,    0x11,  0, 2,  0x11, 0, 3,  0x11, 0};
    memcpy(out, head, sizeof head);
    memcpy(out + sizeof head, sof, sizeof sof);
    return sizeof head + sizeof sof;
}

static enum ld_code check(const uint8_t *bytes, size_t size, struct ld_picture_header *header)
{
    struct ld_error err = {0};
    return ld_picture_check_header(header, ld_span_of(bytes, size), &err);
}

static void an_exif_block_turns_the_size(void **state)
{
    (void)state;
    uint8_t bytes[128];
    struct ld_picture_header header;
    if (!ld_picture_kind_built(LD_PICTURE_JPEG))
        skip();
    for (uint16_t orientation = 0; orientation < 12; orientation++) {
        const size_t size = jpeg_head(bytes, 0x0112, orientation, 0xC0, 3);
        assert_int_equal(check(bytes, size, &header), LD_OK);
        assert_int_equal(header.kind, LD_PICTURE_JPEG);
        const bool turned = orientation >= 5 && orientation <= 8;
        assert_int_equal(header.width, turned ? 20 : 30);
        assert_int_equal(header.height, turned ? 30 : 20);
        assert_int_equal(header.orientation,
                         orientation >= 1 && orientation <= 8 ? orientation : 1);
    }
    size_t size = jpeg_head(bytes, 0x0113, 6, 0xC2, 3); /* another tag; progressive */
    assert_int_equal(check(bytes, size, &header), LD_OK);
    assert_int_equal(header.orientation, 1);
    size = jpeg_head(bytes, 0x0112, 1, 0xC0, 4);
    assert_int_equal(check(bytes, size, &header), LD_E_UNSUPPORTED);
    size = jpeg_head(bytes, 0x0112, 1, 0xC9, 3); /* arithmetic */
    assert_int_equal(check(bytes, size, &header), LD_E_UNSUPPORTED);
}

static void every_cut_is_an_error_and_no_read_beyond(void **state)
{
    (void)state;
    uint8_t bytes[128];
    struct ld_picture_header header;
    const size_t whole = jpeg_head(bytes, 0x0112, 6, 0xC0, 3);
    for (size_t size = 0; size < whole; size++) {
        uint8_t *exact = ld_heap_alloc(size ? size : 1); /* a sanitizer sees one byte too far */
        memcpy(exact, bytes, size);
        assert_int_not_equal(check(exact, size, &header), LD_OK);
        ld_heap_free(exact);
    }
}

static void webp_tells_its_size_in_three_ways(void **state)
{
    (void)state;
    struct ld_picture_header header;
    if (!ld_picture_kind_built(LD_PICTURE_WEBP))
        skip();
    uint8_t lossy[30] = "RIFF....WEBPVP8 ....";
    memcpy(lossy + 23, "\x9D\x01\x2A\x1E\x00\x14\x00", 7);
    assert_int_equal(check(lossy, sizeof lossy, &header), LD_OK);
    assert_true(header.width == 30 && header.height == 20);
    uint8_t lossless[30] = "RIFF....WEBPVP8L....";
    lossless[20] = 0x2F;
    lossless[21] = 29;                  /* width - 1, 14 bits */
    lossless[22] = (uint8_t)(19U << 6); /* height - 1 follows */
    lossless[23] = (uint8_t)(19U >> 2);
    assert_int_equal(check(lossless, sizeof lossless, &header), LD_OK);
    assert_true(header.width == 30 && header.height == 20);
    uint8_t extended[30] = "RIFF....WEBPVP8X....";
    extended[24] = 29;
    extended[27] = 19;
    assert_int_equal(check(extended, sizeof extended, &header), LD_OK);
    assert_true(header.width == 30 && header.height == 20);
    extended[20] = 0x02;
    assert_int_equal(check(extended, sizeof extended, &header), LD_E_UNSUPPORTED);
    extended[20] = 0;
    memset(extended + 24, 0xFF, 6);
    assert_int_equal(check(extended, sizeof extended, &header), LD_E_TOO_LARGE);
}

static void turning_and_turning_back_is_nothing(void **state)
{
    (void)state;
    static const int32_t back[9] = {0, 1, 2, 3, 4, 5, 8, 7, 6};
    enum { WIDTH = 5, HEIGHT = 3, BYTES = 3 * WIDTH * HEIGHT };
    for (int32_t orientation = 1; orientation <= 8; orientation++) {
        struct ld_picture picture = {ld_block_alloc(BYTES), WIDTH, HEIGHT, 3};
        uint8_t before[BYTES];
        for (int i = 0; i < BYTES; i++)
            picture.pixels[i] = before[i] = (uint8_t)i;
        assert_int_equal(ld_picture_turn(&picture, orientation, NULL), LD_OK);
        assert_int_equal(picture.width, orientation >= 5 ? HEIGHT : WIDTH);
        assert_int_equal(orientation == 1, memcmp(picture.pixels, before, BYTES) == 0);
        assert_int_equal(ld_picture_turn(&picture, back[orientation], NULL), LD_OK);
        assert_memory_equal(picture.pixels, before, BYTES);
        ld_picture_deinit(&picture);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_exif_block_turns_the_size),
        cmocka_unit_test(every_cut_is_an_error_and_no_read_beyond),
        cmocka_unit_test(webp_tells_its_size_in_three_ways),
        cmocka_unit_test(turning_and_turning_back_is_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
