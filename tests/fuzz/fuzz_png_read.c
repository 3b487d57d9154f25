/*
 * Proves that the PNG decoder ends in pixels or in an error, never in between. The first byte says
 * whether the rest is a file, or the header, palette and rows of one that is put together here, so
 * that the decoder behind a correct deflate stream is reached too.
 */
#include "runtime/image/png_read.h"
#include "tests/fuzz/fuzz_picture.h"

#include <libdeflate.h>

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { AREA_MAX = 1 << 14 }; /* larger ones only cost time */

static void decode(struct ld_span png)
{
    struct ld_png_header header;
    struct ld_picture picture;
    if (ld_png_check_header(&header, png, true, NULL) != LD_OK ||
        (int64_t)header.width * header.height > AREA_MAX)
        return;
    if (ld_png_read(&picture, png, LD_PNG_IGNORE_CHECKSUMS, NULL) != LD_OK) {
        fuzz_must(!picture.pixels);
        return;
    }
    fuzz_must(picture.width == header.width && picture.height == header.height);
    fuzz_touch(&picture);
    ld_picture_deinit(&picture);
}

static void put_chunk(struct ld_buffer *out, const char *type, const uint8_t *data, size_t size)
{
    uint8_t word[4];
    ld_write_u32be(word, (uint32_t)size);
    ld_buffer_bytes(out, word, 4);
    ld_buffer_bytes(out, type, 4);
    ld_buffer_bytes(out, data, size);
    ld_buffer_bytes(out, word, 4);
}

/* width, height, depth, colour type, palette entries, transparency bytes, then palette and rows. */
static void assemble(const uint8_t *data, size_t size)
{
    static const uint8_t depths[] = {1, 2, 4, 8, 16}, kinds[] = {0, 2, 3, 4, 6};
    if (size < 6)
        return;
    const uint8_t header[13] = {0,
                                0,
                                0,
                                (uint8_t)(data[0] % 64 + 1),
                                0,
                                0,
                                0,
                                (uint8_t)(data[1] % 64 + 1),
                                depths[data[2] % 5],
                                kinds[data[3] % 5]};
    const size_t palette = (size_t)(data[4] % 86) * 3, transparency = data[5] % 86;
    const uint8_t *rest = data + 6;
    size -= 6;
    if (size < palette + transparency)
        return;
    struct ld_buffer png = ld_buffer_make(1 << 20);
    ld_buffer_bytes(&png, "\x89PNG\r\n\x1A\n", 8);
    put_chunk(&png, "IHDR", header, sizeof header);
    if (palette > 0)
        put_chunk(&png, "PLTE", rest, palette);
    if (transparency > 0)
        put_chunk(&png, "tRNS", rest + palette, transparency);
    rest += palette + transparency;
    size -= palette + transparency;

    struct libdeflate_compressor *deflater = libdeflate_alloc_compressor(1);
    const size_t bound = libdeflate_zlib_compress_bound(deflater, size);
    uint8_t *packed = malloc(bound);
    fuzz_must(deflater && packed);
    const size_t packed_size = libdeflate_zlib_compress(deflater, rest, size, packed, bound);
    /* Two pieces, since real files come in many. */
    put_chunk(&png, "IDAT", packed, packed_size / 2);
    put_chunk(&png, "tEXt", (const uint8_t *)"between", 7);
    put_chunk(&png, "IDAT", packed + packed_size / 2, packed_size - packed_size / 2);
    put_chunk(&png, "IEND", NULL, 0);
    libdeflate_free_compressor(deflater);
    free(packed);
    if (!png.failed)
        decode(ld_span_of(png.data, png.size));
    ld_buffer_deinit(&png);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    if (data[0] % 2 == 0)
        decode(ld_span_of(data + 1, size - 1));
    else
        assemble(data + 1, size - 1);
    return 0;
}
