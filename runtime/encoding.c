#include "runtime/encoding.h"

#include "runtime/base/arena.h"
#include "runtime/base/clock.h"

enum { TEXT_BYTES_MAX = 512 * 1024 };

static void make(struct ld_errand *errand)
{
    struct ld_encoding *encoding = (struct ld_encoding *)errand;
    const struct ld_png_text texts[LD_ENCODING_TEXTS] = {
        {"parameters", encoding->texts[0].data, false},
        {"prompt", encoding->texts[1].data, false},
        {"latentd", encoding->texts[2].data, true},
    };
    const struct ld_picture_image image = {
        .pixels = encoding->rgb,
        .width = encoding->width,
        .height = encoding->height,
        .channels = 3,
        .form = encoding->form,
        .texts = texts,
        .text_count = encoding->texts_on ? LD_ENCODING_TEXTS : 0,
    };
    const int64_t start_us = ld_clock_monotonic_us();
    encoding->code = ld_picture_write(&encoding->file, &image, &encoding->err);
    encoding->spent_us = ld_clock_monotonic_us() - start_us;
}

static void drop(struct ld_errand *errand)
{
    ld_encoding_destroy((struct ld_encoding *)errand);
}

struct ld_encoding *ld_encoding_create(void)
{
    struct ld_encoding *encoding = ld_heap_alloc(sizeof *encoding);
    if (!encoding)
        return NULL;
    encoding->errand = (struct ld_errand){.run = make, .destroy = drop};
    for (int i = 0; i < LD_ENCODING_TEXTS; i++)
        encoding->texts[i] = ld_buffer_make(TEXT_BYTES_MAX);
    encoding->file = ld_buffer_make(LD_PNG_BYTES_MAX);
    return encoding;
}

void ld_encoding_destroy(struct ld_encoding *encoding)
{
    if (!encoding)
        return;
    ld_block_free(encoding->rgb, 3 * (size_t)encoding->width * (size_t)encoding->height);
    for (int i = 0; i < LD_ENCODING_TEXTS; i++)
        ld_buffer_deinit(&encoding->texts[i]);
    ld_buffer_deinit(&encoding->file);
    ld_heap_free(encoding);
}
