#include "runtime/image/png_read.h"

#include "runtime/base/arena.h"

#include <png.h>

#include <setjmp.h>
#include <string.h>
#include <time.h>

enum {
    CHUNK_HEAD = 8,  /* length and type */
    CHUNK_FRAME = 12 /* and the checksum */
};

static const int64_t cpu_us_max = 1000000;             /* robustness.md 3 */
static const png_alloc_size_t chunk_bytes_max = 65536; /* robustness.md 3 */

/* All that lives across the setjmp, so that no local has to be volatile. */
struct reader {
    struct ld_span png;
    size_t pos;       /* of the next byte for libpng */
    size_t chunk_end; /* where the chunk being handed over ends; pos == chunk_end: at a boundary */
    bool timed_out;
    char message[LD_ERROR_MESSAGE_SIZE]; /* libpng's, for the log */
    png_structp png_ptr;
    png_infop info_ptr;
    struct ld_picture *picture;
    size_t bytes;
    int64_t deadline_us; /* of this thread's CPU clock */
};

static int64_t cpu_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

/* ---- libpng's callbacks ---------------------------------------------------------------------- */

static void on_error(png_structp png_ptr, png_const_charp message)
{
    struct reader *reader = png_get_error_ptr(png_ptr);
    (void)ld_fmt(reader->message, sizeof reader->message, "%s", message);
    png_longjmp(png_ptr, 1);
}

static void on_warning(png_structp png_ptr, png_const_charp message)
{
    (void)png_ptr;
    (void)message;
}

/* The chunks that make the picture; text, profiles and the like never get to libpng. */
static bool is_needed(const uint8_t *type)
{
    static const char needed[][5] = {"IHDR", "PLTE", "tRNS", "IDAT", "IEND"};
    for (size_t i = 0; i < sizeof needed / sizeof needed[0]; i++)
        if (memcmp(type, needed[i], 4) == 0)
            return true;
    /* An unknown critical chunk is passed on, for libpng to refuse. */
    return (type[0] & 0x20) == 0;
}

/* Step over chunks that are not needed; false at the end of the file. */
static bool next_chunk(struct reader *reader)
{
    while (reader->png.size - reader->pos >= CHUNK_FRAME) {
        const uint8_t *head = reader->png.data + reader->pos;
        const size_t length = ld_read_u32be(head);
        const size_t left = reader->png.size - reader->pos - CHUNK_FRAME;
        if (is_needed(head + 4)) {
            /* A chunk cut off by the end of the file is handed over as far as it goes. */
            reader->chunk_end = reader->pos + CHUNK_FRAME + (length < left ? length : left);
            return true;
        }
        if (length > left)
            return false;
        reader->pos += CHUNK_FRAME + length;
    }
    return false;
}

static void on_read(png_structp png_ptr, png_bytep out, size_t size)
{
    struct reader *reader = png_get_io_ptr(png_ptr);
    while (size > 0) {
        if (reader->pos == reader->chunk_end && !next_chunk(reader))
            png_error(png_ptr, "the file is cut");
        const size_t left = reader->chunk_end - reader->pos;
        const size_t part = size < left ? size : left;
        memcpy(out, reader->png.data + reader->pos, part);
        reader->pos += part;
        out += part;
        size -= part;
    }
}

/* ---- Decoding -------------------------------------------------------------------------------- */

static void set_limits(png_structp png_ptr, const struct ld_png_header *header, uint32_t flags)
{
    png_set_user_limits(png_ptr, (png_uint_32)header->width, (png_uint_32)header->height);
    png_set_chunk_malloc_max(png_ptr, chunk_bytes_max);
    png_set_chunk_cache_max(png_ptr, 8);
    if (flags & LD_PNG_IGNORE_CHECKSUMS) {
        png_set_crc_action(png_ptr, PNG_CRC_QUIET_USE, PNG_CRC_QUIET_USE);
#ifdef PNG_IGNORE_ADLER32 /* some builds of libpng cannot: Debian 13's */
        png_set_option(png_ptr, PNG_IGNORE_ADLER32, PNG_OPTION_ON);
#endif
    }
}

/* A palette picture's colours; `count` is 0 for other pictures. libpng would paint an index beyond
 * the palette black without a word, so the indices are looked up here. */
struct palette {
    png_colorp colours;
    png_bytep alphas; /* of the first `alpha_count` colours; the others are opaque */
    int count, alpha_count;
};

static void get_palette(const struct reader *reader, struct palette *palette)
{
    memset(palette, 0, sizeof *palette);
    if (png_get_color_type(reader->png_ptr, reader->info_ptr) != PNG_COLOR_TYPE_PALETTE)
        return;
    (void)png_get_PLTE(reader->png_ptr, reader->info_ptr, &palette->colours, &palette->count);
    (void)png_get_tRNS(reader->png_ptr, reader->info_ptr, &palette->alphas, &palette->alpha_count,
                       NULL);
}

/* Indices at the end of a row's place become colours from its beginning on. */
static void look_up(const struct reader *reader, const struct palette *palette, uint8_t *row)
{
    const size_t width = (size_t)reader->picture->width;
    const size_t channels = (size_t)reader->picture->channels;
    const uint8_t *indices = row + width * (channels - 1);
    for (size_t x = 0; x < width; x++) {
        const int index = indices[x];
        if (index >= palette->count)
            png_error(reader->png_ptr, "a pixel has a colour beyond the palette");
        uint8_t *pixel = row + x * channels;
        if (channels == 4)
            pixel[3] = index < palette->alpha_count ? palette->alphas[index] : 255;
        pixel[0] = palette->colours[index].red;
        pixel[1] = palette->colours[index].green;
        pixel[2] = palette->colours[index].blue;
    }
}

/* Between png_create and png_destroy; false after libpng jumped out. */
static bool decode(struct reader *reader)
{
    png_structp png_ptr = reader->png_ptr;
    struct ld_picture *picture = reader->picture;
    if (setjmp(png_jmpbuf(png_ptr)))
        return false;
    png_set_read_fn(png_ptr, reader, on_read);
    png_read_info(png_ptr, reader->info_ptr);
    struct palette palette;
    get_palette(reader, &palette);
    if (palette.count > 0) {
        png_set_packing(png_ptr); /* a byte an index */
    } else {
        png_set_expand(png_ptr); /* grey to 8 bits, transparency to alpha */
        png_set_scale_16(png_ptr);
        png_set_gray_to_rgb(png_ptr);
    }
    png_read_update_info(png_ptr, reader->info_ptr);

    picture->width = (int32_t)png_get_image_width(png_ptr, reader->info_ptr);
    picture->height = (int32_t)png_get_image_height(png_ptr, reader->info_ptr);
    picture->channels = png_get_channels(png_ptr, reader->info_ptr);
    if (palette.count > 0)
        picture->channels = palette.alpha_count > 0 ? 4 : 3;
    const size_t row = (size_t)picture->width * (size_t)picture->channels;
    const size_t decoded = png_get_rowbytes(png_ptr, reader->info_ptr); /* of a row, by libpng */
    if ((picture->channels != 3 && picture->channels != 4) ||
        decoded != (palette.count > 0 ? (size_t)picture->width : row))
        png_error(png_ptr, "an unexpected row size");
    reader->bytes = row * (size_t)picture->height;
    picture->pixels = ld_block_alloc(reader->bytes);
    if (!picture->pixels)
        png_error(png_ptr, "no memory");
    for (int32_t y = 0; y < picture->height; y++) {
        if (y % 16 == 0 && cpu_us() > reader->deadline_us) {
            reader->timed_out = true;
            return false;
        }
        uint8_t *place = picture->pixels + (size_t)y * row;
        png_read_row(png_ptr, place + row - decoded, NULL);
        if (palette.count > 0)
            look_up(reader, &palette, place);
    }
    return true;
}

static enum ld_code failure(const struct reader *reader, struct ld_error *err)
{
    if (reader->timed_out)
        return LD_FAIL(err, LD_E_TIMEOUT, "the image takes too long to decode");
    if (reader->bytes > 0 && !reader->picture->pixels)
        return LD_FAIL(err, LD_E_NOMEM, "no memory to decode the image");
    (void)LD_FAIL(err, LD_E_FORMAT, "the image is a damaged PNG file");
    (void)ld_error_note(err, "libpng: %s", reader->message);
    return LD_E_FORMAT;
}

enum ld_code ld_png_read(struct ld_picture *picture, struct ld_span png, uint32_t flags,
                         struct ld_error *err)
{
    struct ld_png_header header;
    memset(picture, 0, sizeof *picture);
    enum ld_code code =
        ld_png_check_header(&header, png, (flags & LD_PNG_IGNORE_CHECKSUMS) != 0, err);
    if (code != LD_OK)
        return code;
    /* libpng reads the signature first; from there on the stream is chunks. */
    struct reader reader = {.png = png,
                            .chunk_end = LD_PNG_HEADER_SIZE,
                            .picture = picture,
                            .deadline_us = cpu_us() + cpu_us_max};
    reader.png_ptr = png_create_read_struct(PNG_LIBPNG_VER_STRING, &reader, on_error, on_warning);
    if (reader.png_ptr)
        reader.info_ptr = png_create_info_struct(reader.png_ptr);
    if (!reader.info_ptr) {
        code = LD_FAIL(err, LD_E_NOMEM, "no memory to decode the image");
        goto done;
    }
    set_limits(reader.png_ptr, &header, flags);
    if (!decode(&reader)) {
        code = failure(&reader, err);
        ld_block_free(picture->pixels, reader.bytes);
        memset(picture, 0, sizeof *picture);
    }
done:
    png_destroy_read_struct(&reader.png_ptr, &reader.info_ptr, NULL);
    return code;
}

void ld_picture_deinit(struct ld_picture *picture)
{
    ld_block_free(picture->pixels,
                  (size_t)picture->width * (size_t)picture->height * (size_t)picture->channels);
    memset(picture, 0, sizeof *picture);
}
