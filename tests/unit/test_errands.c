/* Proves that errands are run in the order they were given, that who gives them need not wait and
 * may wait for a time only; by pictures, whose PNGs are those that ld_png_write makes: that one
 * which cannot be made says why, and that those which are dropped leave the others as they are. */
#include "runtime/base/arena.h"
#include "runtime/base/clock.h"
#include "runtime/encoding.h"
#include "runtime/image/png_write.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

enum { SIDE = 96, COUNT = 12 };

static struct ld_encoding *picture(uint32_t number)
{
    struct ld_encoding *encoding = ld_encoding_create();
    assert_non_null(encoding);
    encoding->width = SIDE + (int32_t)number;
    encoding->height = SIDE;
    const size_t bytes = 3 * (size_t)encoding->width * SIDE;
    encoding->rgb = ld_block_alloc(bytes);
    assert_non_null(encoding->rgb);
    for (size_t i = 0; i < bytes; i++)
        encoding->rgb[i] = (uint8_t)((i * (number + 3)) >> 4);
    encoding->texts_on = number % 2 == 0;
    encoding->form.compression = 1 + (int32_t)number % 12;
    for (int t = 0; t < LD_ENCODING_TEXTS; t++)
        ld_buffer_format(&encoding->texts[t], "text %d of picture %u", t, number);
    return encoding;
}

static void assert_as_written_directly(const struct ld_encoding *encoding)
{
    const struct ld_png_text texts[] = {{"parameters", encoding->texts[0].data, false},
                                        {"prompt", encoding->texts[1].data, false},
                                        {"latentd", encoding->texts[2].data, true}};
    const struct ld_png_image image = {.pixels = encoding->rgb,
                                       .width = encoding->width,
                                       .height = encoding->height,
                                       .channels = 3,
                                       .compression = encoding->form.compression,
                                       .texts = texts,
                                       .text_count = encoding->texts_on ? 3 : 0};
    struct ld_buffer png = ld_buffer_make(LD_PNG_BYTES_MAX);
    struct ld_error err = {0};
    assert_int_equal(ld_png_write(&png, &image, &err), LD_OK);
    assert_int_equal(encoding->code, LD_OK);
    assert_int_equal(encoding->file.size, png.size);
    assert_memory_equal(encoding->file.data, png.data, png.size);
    ld_buffer_deinit(&png);
}

static void pictures_are_those_written_directly_in_their_order(void **state)
{
    (void)state;
    struct ld_errands *encoder;
    struct ld_encoding *pictures[COUNT];
    struct ld_error err = {0};
    assert_int_equal(ld_errands_create(&encoder, &err), LD_OK);
    for (uint32_t i = 0; i < COUNT; i++)
        ld_errands_give(encoder, &(pictures[i] = picture(i))->errand);
    ld_errands_wait(encoder, &pictures[COUNT - 1]->errand);
    for (uint32_t i = 0; i < COUNT; i++) {
        assert_true(
            ld_errands_done(encoder, &pictures[i]->errand)); /* the last one was made last */
        assert_as_written_directly(pictures[i]);
        assert_true(pictures[i]->spent_us >= 0);
        ld_encoding_destroy(pictures[i]);
    }
    ld_errands_destroy(encoder);
}

static void a_picture_that_cannot_be_made_says_why_and_the_next_is_made(void **state)
{
    (void)state;
    struct ld_errands *encoder;
    struct ld_error err = {0};
    struct ld_encoding *bad = picture(0);
    struct ld_encoding *good = picture(1);
    bad->form.compression = LD_PNG_COMPRESSION_MAX + 1;
    assert_int_equal(ld_errands_create(&encoder, &err), LD_OK);
    ld_errands_give(encoder, &bad->errand);
    ld_errands_give(encoder, &good->errand);
    ld_errands_wait(encoder, &good->errand);
    assert_int_equal(bad->code, LD_E_RANGE);
    assert_true(bad->err.detail[0] != '\0');
    assert_as_written_directly(good);
    ld_encoding_destroy(good);
    ld_encoding_destroy(bad);
    ld_errands_destroy(encoder);
}

/* Whichever of them the encoder has begun by then. */
static void dropped_pictures_leave_the_others_as_they_are(void **state)
{
    (void)state;
    struct ld_errands *encoder;
    struct ld_error err = {0};
    for (uint32_t dropped = 1; dropped < 16; dropped++) { /* a bit for each */
        struct ld_encoding *pictures[5];
        assert_int_equal(ld_errands_create(&encoder, &err), LD_OK);
        for (uint32_t i = 0; i < 4; i++)
            ld_errands_give(encoder, &(pictures[i] = picture(i))->errand);
        for (uint32_t i = 4; i-- > 0;)
            if (dropped >> i & 1U)
                ld_errands_drop(encoder, &pictures[i]->errand);
        ld_errands_give(encoder, &(pictures[4] = picture(4))->errand);
        for (uint32_t i = 0; i < 5; i++) {
            if (dropped >> i & 1U)
                continue;
            ld_errands_wait(encoder, &pictures[i]->errand);
            assert_as_written_directly(pictures[i]);
            ld_errands_drop(encoder, &pictures[i]->errand); /* which is made */
        }
        ld_errands_destroy(encoder);
    }
}

static void an_encoder_with_a_dropped_picture_goes_when_it_is_made(void **state)
{
    (void)state;
    struct ld_errands *encoder;
    struct ld_error err = {0};
    for (uint32_t i = 0; i < COUNT; i++) {
        assert_int_equal(ld_errands_create(&encoder, &err), LD_OK);
        struct ld_encoding *one = picture(i);
        ld_errands_give(encoder, &one->errand);
        ld_errands_drop(encoder, &one->errand);
        ld_errands_destroy(encoder);
    }
}

/* An errand that takes as long as it is told to. */
struct stopped {
    struct ld_errand errand;
    atomic_bool go;
};

static void run_stopped(struct ld_errand *errand)
{
    struct stopped *stopped = (struct stopped *)errand;
    while (!atomic_load(&stopped->go))
        (void)usleep(1000);
}

static void a_wait_with_an_end_tells_whether_it_is_done(void **state)
{
    (void)state;
    struct ld_errands *errands;
    struct ld_error err = {0};
    struct stopped stopped = {.errand.run = run_stopped};
    assert_int_equal(ld_errands_create(&errands, &err), LD_OK);
    ld_errands_give(errands, &stopped.errand);
    const int64_t start_us = ld_clock_monotonic_us();
    assert_false(ld_errands_wait_for(errands, &stopped.errand, 1100)); /* over a second's end */
    assert_true(ld_clock_monotonic_us() - start_us >= 1100 * 1000);
    assert_false(ld_errands_wait_for(errands, &stopped.errand, 0));
    atomic_store(&stopped.go, true);
    assert_true(ld_errands_wait_for(errands, &stopped.errand, 60 * 1000));
    ld_errands_destroy(errands);
}

static void an_encoder_without_work_goes_at_once(void **state)
{
    (void)state;
    struct ld_errands *encoder;
    struct ld_error err = {0};
    for (int i = 0; i < 50; i++) {
        assert_int_equal(ld_errands_create(&encoder, &err), LD_OK);
        ld_errands_destroy(encoder);
    }
    ld_errands_destroy(NULL);
    ld_encoding_destroy(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pictures_are_those_written_directly_in_their_order),
        cmocka_unit_test(a_picture_that_cannot_be_made_says_why_and_the_next_is_made),
        cmocka_unit_test(dropped_pictures_leave_the_others_as_they_are),
        cmocka_unit_test(an_encoder_with_a_dropped_picture_goes_when_it_is_made),
        cmocka_unit_test(a_wait_with_an_end_tells_whether_it_is_done),
        cmocka_unit_test(an_encoder_without_work_goes_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
