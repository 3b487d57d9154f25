/*
 * JPEG bytes of strangers to RGB, through libjpeg (turbo). Bounds beside the declared size: a
 * second of CPU time, looked at in every pass over the picture, a number of scans (a progressive
 * file of a few kilobytes may ask for thousands of passes), and memory. Where the build has no
 * libjpeg the reader says so.
 *
 * Source: libjpeg.txt of libjpeg-turbo 2.1 (error handling, progress monitoring, memory limits).
 */
#include "runtime/image/picture_read.h"

#include "runtime/base/arena.h"

#ifdef LATENTD_JPEG
#include <setjmp.h>
#include <stdio.h> /* jpeglib.h needs it */
#include <string.h>

#include <jpeglib.h>

#include <jerror.h>

enum { SCANS_MAX = 100 };
static const long MEMORY_MAX = 256L << 20; /* 16.8 Mpixel of coefficients take 100 MB */

/* All that lives across the setjmp. */
struct reader {
    struct jpeg_decompress_struct jpeg;
    struct jpeg_error_mgr errors;
    struct jpeg_progress_mgr progress;
    jmp_buf jump;
    struct ld_picture *picture;
    size_t bytes;
    int64_t deadline_us;
    enum ld_code code;                   /* why it ended, where not through the library */
    bool cut;                            /* the data end before the picture does */
    char message[LD_ERROR_MESSAGE_SIZE]; /* the library's, for the log */
};

static void on_error(j_common_ptr common)
{
    struct reader *reader = common->client_data;
    char text[JMSG_LENGTH_MAX];
    common->err->format_message(common, text);
    (void)ld_fmt(reader->message, sizeof reader->message, "%s", text);
    longjmp(reader->jump, 1);
}

/* The library paints grey over what is missing; a picture that somebody sent whole is not cut. */
static void on_message(j_common_ptr common, int level)
{
    struct reader *reader = common->client_data;
    const int code = common->err->msg_code;
    if (level < 0 && (code == JWRN_JPEG_EOF || code == JWRN_HIT_MARKER))
        reader->cut = true;
}

static void on_text(j_common_ptr common)
{
    (void)common; /* nothing to stderr */
}

static void on_progress(j_common_ptr common)
{
    struct reader *reader = common->client_data;
    if (ld_decode_cpu_us() <= reader->deadline_us && reader->jpeg.input_scan_number <= SCANS_MAX)
        return;
    reader->code = LD_E_TIMEOUT;
    longjmp(reader->jump, 1);
}

/* Between create and destroy; false after a jump. */
static bool decode(struct reader *reader, struct ld_span bytes,
                   const struct ld_picture_header *header)
{
    struct jpeg_decompress_struct *jpeg = &reader->jpeg;
    struct ld_picture *picture = reader->picture;
    if (setjmp(reader->jump))
        return false;
    jpeg_create_decompress(jpeg);
    jpeg->progress = &reader->progress;
    jpeg->mem->max_memory_to_use = MEMORY_MAX;
    jpeg_mem_src(jpeg, bytes.data, bytes.size);
    if (jpeg_read_header(jpeg, TRUE) != JPEG_HEADER_OK ||
        (int32_t)jpeg->image_width != header->stored_width ||
        (int32_t)jpeg->image_height != header->stored_height) {
        reader->code = LD_E_FORMAT;
        return false;
    }
    jpeg->out_color_space = JCS_RGB;
    jpeg_start_decompress(jpeg);
    const size_t row = 3 * (size_t)jpeg->output_width;
    picture->width = (int32_t)jpeg->output_width;
    picture->height = (int32_t)jpeg->output_height;
    picture->channels = 3;
    reader->bytes = row * (size_t)picture->height;
    picture->pixels = ld_block_alloc(reader->bytes);
    if (!picture->pixels) {
        reader->code = LD_E_NOMEM;
        return false;
    }
    while (jpeg->output_scanline < jpeg->output_height) {
        JSAMPROW line = picture->pixels + (size_t)jpeg->output_scanline * row;
        (void)jpeg_read_scanlines(jpeg, &line, 1);
    }
    (void)jpeg_finish_decompress(jpeg);
    return !reader->cut;
}

static enum ld_code failure(const struct reader *reader, struct ld_error *err)
{
    if (reader->code == LD_E_TIMEOUT)
        return LD_FAIL(err, LD_E_TIMEOUT, "the image takes too long to decode");
    if (reader->code == LD_E_NOMEM)
        return LD_FAIL(err, LD_E_NOMEM, "no memory to decode the image");
    (void)LD_FAIL(err, LD_E_FORMAT, "the image is a damaged JPEG file");
    (void)ld_error_note(err, "libjpeg: %s", reader->message);
    return LD_E_FORMAT;
}

enum ld_code ld_jpeg_read(struct ld_picture *picture, const struct ld_picture_header *header,
                          struct ld_span jpeg, struct ld_error *err)
{
    struct reader reader;
    memset(&reader, 0, sizeof reader);
    memset(picture, 0, sizeof *picture);
    reader.picture = picture;
    reader.deadline_us = ld_decode_cpu_us() + LD_DECODE_CPU_US_MAX;
    reader.jpeg.err = jpeg_std_error(&reader.errors);
    reader.errors.error_exit = on_error;
    reader.errors.emit_message = on_message;
    reader.errors.output_message = on_text;
    reader.progress.progress_monitor = on_progress;
    reader.jpeg.client_data = &reader;
    const bool good = decode(&reader, jpeg, header);
    enum ld_code code = LD_OK;
    if (!good) {
        code = failure(&reader, err);
        ld_block_free(picture->pixels, reader.bytes);
        memset(picture, 0, sizeof *picture);
    }
    jpeg_destroy_decompress(&reader.jpeg);
    return code;
}

#else

enum ld_code ld_jpeg_read(struct ld_picture *picture, const struct ld_picture_header *header,
                          struct ld_span jpeg, struct ld_error *err)
{
    (void)picture;
    (void)header;
    (void)jpeg;
    return LD_FAIL(err, LD_E_UNSUPPORTED, "this program was built without libjpeg; send a PNG");
}

#endif
