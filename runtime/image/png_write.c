/*
 * libdeflate's level 1 is the default: at 832x1216 a picture takes 16-19 ms on one core of a Xeon
 * (filters 2.5 ms of it) and is 3 % larger than at level 2, which takes twice as long; level 6
 * saves 6-8 % for four times the time.
 */
#include "runtime/image/png_write.h"

#include "config/limits.h"
#include "runtime/base/arena.h"
#include "runtime/image/png_filter.h"
#include "runtime/image/png_text.h"

#include <libdeflate.h>

#include <string.h>

/* ---- Chunks ---------------------------------------------------------------------------------- */

static void put_header(struct ld_buffer *out, const struct ld_png_image *image)
{
    static const uint8_t signature[8] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1A, '\n'};
    uint8_t header[13] = {0};
    ld_write_u32be(header, (uint32_t)image->width);
    ld_write_u32be(header + 4, (uint32_t)image->height);
    header[8] = 8;                                                       /* bits a sample */
    header[9] = image->channels == 1 ? 0 : image->channels == 3 ? 2 : 6; /* colour type */
    ld_buffer_bytes(out, signature, sizeof signature);
    ld_png_put_chunk(out, "IHDR", ld_span_of(header, sizeof header));
}

/* ---- Pixels ---------------------------------------------------------------------------------- */

static void filter_all(uint8_t *filtered, const struct ld_png_image *image, uint8_t *scratch)
{
    const size_t step = (size_t)image->channels;
    const size_t row = (size_t)image->width * step;
    uint8_t *above = scratch + LD_PNG_FILTERS * row; /* zeros */
    const uint8_t *before = above;
    for (int32_t y = 0; y < image->height; y++) {
        const uint8_t *pixels = image->pixels + (size_t)y * row;
        ld_png_filter_row(filtered + (size_t)y * (row + 1), pixels, before, row, step, scratch);
        before = pixels;
    }
}

static enum ld_code put_pixels(struct ld_buffer *out, const struct ld_png_image *image,
                               struct ld_error *err)
{
    const size_t row = (size_t)image->width * (size_t)image->channels;
    const size_t plain = (size_t)image->height * (row + 1);
    const size_t scratch_size = (LD_PNG_FILTERS + 1) * row;
    const int level = image->compression ? image->compression : LD_PNG_COMPRESSION_DEFAULT;
    enum ld_code code = LD_OK;
    uint8_t *filtered = ld_block_alloc(plain);
    uint8_t *scratch = ld_block_alloc(scratch_size);
    uint8_t *packed = NULL;
    size_t bound = 0;
    struct libdeflate_compressor *deflater = libdeflate_alloc_compressor(level);
    if (deflater) {
        bound = libdeflate_zlib_compress_bound(deflater, plain);
        packed = ld_block_alloc(bound);
    }
    if (!filtered || !scratch || !packed) {
        code = LD_FAIL(err, LD_E_NOMEM, "no memory to write a PNG of %dx%d pixels", image->width,
                       image->height);
        goto done;
    }
    filter_all(filtered, image, scratch);
    const size_t size = libdeflate_zlib_compress(deflater, filtered, plain, packed, bound);
    LD_ASSERT(size > 0); /* the bound is libdeflate's own promise */
    ld_png_put_chunk(out, "IDAT", ld_span_of(packed, size));
done:
    libdeflate_free_compressor(deflater);
    ld_block_free(packed, bound);
    ld_block_free(scratch, scratch_size);
    ld_block_free(filtered, plain);
    return code;
}

/* ---- The file -------------------------------------------------------------------------------- */

static enum ld_code check(const struct ld_png_image *image, struct ld_error *err)
{
    if (image->width < 1 || image->height < 1 ||
        (int64_t)image->width * image->height > LD_AREA_MAX)
        return LD_FAIL(err, LD_E_RANGE, "a PNG must have between 1 and %d pixels", LD_AREA_MAX);
    if (image->channels != 1 && image->channels != 3 && image->channels != 4)
        return LD_FAIL(err, LD_E_RANGE, "a PNG must have 1, 3 or 4 channels");
    if (image->compression < 0 || image->compression > LD_PNG_COMPRESSION_MAX)
        return LD_FAIL(err, LD_E_RANGE, "output.compression must be between 0 and %d",
                       LD_PNG_COMPRESSION_MAX);
    return LD_OK;
}

enum ld_code ld_png_write(struct ld_buffer *out, const struct ld_png_image *image,
                          struct ld_error *err)
{
    enum ld_code code = check(image, err);
    if (code != LD_OK)
        return code;
    put_header(out, image);
    for (size_t i = 0; i < image->text_count; i++) {
        code = ld_png_put_text(out, &image->texts[i], err);
        if (code != LD_OK)
            return code;
    }
    code = put_pixels(out, image, err);
    if (code != LD_OK)
        return code;
    ld_png_put_chunk(out, "IEND", ld_span_of("", 0));
    if (out->failed)
        return LD_FAIL(err, LD_E_NOMEM, "no memory to write a PNG of %dx%d pixels", image->width,
                       image->height);
    return LD_OK;
}
