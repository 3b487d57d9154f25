/*
 * Pixels to JPEG through libjpeg (turbo): baseline, Huffman tables made for the picture, the
 * accurate transform, whose result is the same on every machine. From quality 90 on colours are
 * kept at full resolution: below it halving them shows less than the quality does.
 *
 * Source: libjpeg.txt of libjpeg-turbo 2.1 (error handling, destination managers); figures of time
 * and size: docs/images.md.
 */
#include "runtime/image/picture_write.h"

#ifdef LATENTD_JPEG
#include "runtime/base/arena.h"

#include <setjmp.h>
#include <stdio.h> /* jpeglib.h needs it */
#include <string.h>

#include <jpeglib.h>

enum { FULL_COLOUR_QUALITY = 90, PIECE_BYTES = 16 * 1024 };

/* All that lives across the setjmp. */
struct writer {
    struct jpeg_compress_struct jpeg;
    struct jpeg_error_mgr errors;
    struct jpeg_destination_mgr destination;
    jmp_buf jump;
    struct ld_buffer *out;
    const struct ld_picture_image *image;
    uint8_t *row; /* RGB of an RGBA line */
    JOCTET piece[PIECE_BYTES];
    char message[LD_ERROR_MESSAGE_SIZE]; /* the library's, for the log */
};

static void on_error(j_common_ptr common)
{
    struct writer *writer = common->client_data;
    char text[JMSG_LENGTH_MAX];
    common->err->format_message(common, text);
    (void)ld_fmt(writer->message, sizeof writer->message, "%s", text);
    longjmp(writer->jump, 1);
}

static void on_text(j_common_ptr common)
{
    (void)common; /* nothing to stderr */
}

/* ---- Where the bytes go ---------------------------------------------------------------------- */

static void begin_piece(j_compress_ptr jpeg)
{
    struct writer *writer = jpeg->client_data;
    writer->destination.next_output_byte = writer->piece;
    writer->destination.free_in_buffer = PIECE_BYTES;
}

static boolean take_piece(j_compress_ptr jpeg)
{
    struct writer *writer = jpeg->client_data;
    ld_buffer_bytes(writer->out, writer->piece, PIECE_BYTES);
    begin_piece(jpeg);
    return TRUE;
}

static void take_rest(j_compress_ptr jpeg)
{
    struct writer *writer = jpeg->client_data;
    ld_buffer_bytes(writer->out, writer->piece, PIECE_BYTES - writer->destination.free_in_buffer);
}

/* ---- The picture ----------------------------------------------------------------------------- */

/* A line as the library takes it: alpha has no place in a JPEG. */
static const uint8_t *line_of(struct writer *writer, size_t y)
{
    const struct ld_picture_image *image = writer->image;
    const size_t width = (size_t)image->width;
    const uint8_t *line = image->pixels + y * width * (size_t)image->channels;
    if (image->channels != 4)
        return line;
    for (size_t x = 0; x < width; x++)
        memcpy(writer->row + 3 * x, line + 4 * x, 3);
    return writer->row;
}

static void set_up(struct writer *writer)
{
    const struct ld_picture_image *image = writer->image;
    struct jpeg_compress_struct *jpeg = &writer->jpeg;
    const int quality = image->form.quality ? image->form.quality : LD_PICTURE_QUALITY_DEFAULT;
    jpeg->dest = &writer->destination;
    jpeg->image_width = (JDIMENSION)image->width;
    jpeg->image_height = (JDIMENSION)image->height;
    jpeg->input_components = image->channels == 1 ? 1 : 3;
    jpeg->in_color_space = image->channels == 1 ? JCS_GRAYSCALE : JCS_RGB;
    jpeg_set_defaults(jpeg);
    jpeg_set_quality(jpeg, quality, TRUE);
    jpeg->optimize_coding = TRUE;
    jpeg->dct_method = JDCT_ISLOW;
    if (image->channels != 1 && quality >= FULL_COLOUR_QUALITY)
        jpeg->comp_info[0].h_samp_factor = jpeg->comp_info[0].v_samp_factor = 1;
}

/* False after a jump. */
static bool encode(struct writer *writer)
{
    struct jpeg_compress_struct *jpeg = &writer->jpeg;
    if (setjmp(writer->jump))
        return false;
    jpeg_create_compress(jpeg);
    set_up(writer);
    jpeg_start_compress(jpeg, TRUE);
    while (jpeg->next_scanline < jpeg->image_height) {
        /* The library reads the line; its interface only lacks the word. */
        union {
            const uint8_t *line;
            JSAMPROW row;
        } here = {.line = line_of(writer, jpeg->next_scanline)};
        (void)jpeg_write_scanlines(jpeg, &here.row, 1);
    }
    jpeg_finish_compress(jpeg);
    return true;
}

enum ld_code ld_jpeg_write(struct ld_buffer *out, const struct ld_picture_image *image,
                           struct ld_error *err)
{
    enum ld_code code = LD_OK;
    struct writer *writer = ld_heap_alloc(sizeof *writer);
    const size_t row_bytes = 3 * (size_t)image->width;
    if (!writer)
        return LD_FAIL(err, LD_E_NOMEM, "no memory to write a JPEG");
    memset(writer, 0, sizeof *writer);
    writer->out = out;
    writer->image = image;
    writer->row = image->channels == 4 ? ld_heap_alloc(row_bytes) : NULL;
    writer->jpeg.err = jpeg_std_error(&writer->errors);
    writer->errors.error_exit = on_error;
    writer->errors.output_message = on_text;
    writer->destination.init_destination = begin_piece;
    writer->destination.empty_output_buffer = take_piece;
    writer->destination.term_destination = take_rest;
    writer->jpeg.client_data = writer;
    if (image->channels == 4 && !writer->row) {
        code = LD_FAIL(err, LD_E_NOMEM, "no memory to write a JPEG");
    } else if (!encode(writer)) {
        /* Settings and sizes were checked: what is left is memory. */
        code = LD_FAIL(err, LD_E_NOMEM, "no memory to write a JPEG of %dx%d pixels", image->width,
                       image->height);
        (void)ld_error_note(err, "libjpeg: %s", writer->message);
    }
    jpeg_destroy_compress(&writer->jpeg);
    ld_heap_free(writer->row);
    ld_heap_free(writer);
    return code;
}

#else

enum ld_code ld_jpeg_write(struct ld_buffer *out, const struct ld_picture_image *image,
                           struct ld_error *err)
{
    (void)out;
    (void)image;
    return LD_FAIL(err, LD_E_UNSUPPORTED, "this program was built without libjpeg");
}

#endif
