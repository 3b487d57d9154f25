/*
 * WebP bytes of strangers to RGB or RGBA, through libwebp's incremental decoder: the file is handed
 * over piece by piece, so that the bound of a second of CPU time is looked at in between. Where the
 * build has no libwebp the reader says so.
 *
 * Source: webp/decode.h of libwebp 1.2.
 */
#include "runtime/image/picture_read.h"

#include "runtime/base/arena.h"

#ifdef LATENTD_WEBP
#include <string.h>
#include <webp/decode.h>

enum { PIECE_BYTES = 16 * 1024 };

static enum ld_code feed(WebPIDecoder *decoder, struct ld_span webp, struct ld_error *err)
{
    const int64_t deadline_us = ld_decode_cpu_us() + LD_DECODE_CPU_US_MAX;
    VP8StatusCode status = VP8_STATUS_SUSPENDED;
    for (size_t end = 0; status == VP8_STATUS_SUSPENDED && end < webp.size;) {
        end = webp.size - end > PIECE_BYTES ? end + PIECE_BYTES : webp.size;
        status = WebPIUpdate(decoder, webp.data, end); /* what came before and one piece more */
        if (ld_decode_cpu_us() > deadline_us)
            return LD_FAIL(err, LD_E_TIMEOUT, "the image takes too long to decode");
    }
    if (status == VP8_STATUS_OUT_OF_MEMORY)
        return LD_FAIL(err, LD_E_NOMEM, "no memory to decode the image");
    if (status != VP8_STATUS_OK)
        return LD_FAIL(err, LD_E_FORMAT, "the image is a damaged WebP file");
    return LD_OK;
}

enum ld_code ld_webp_read(struct ld_picture *picture, const struct ld_picture_header *header,
                          struct ld_span webp, struct ld_error *err)
{
    WebPDecoderConfig config;
    memset(picture, 0, sizeof *picture);
    if (!WebPInitDecoderConfig(&config) ||
        WebPGetFeatures(webp.data, webp.size, &config.input) != VP8_STATUS_OK ||
        config.input.has_animation || config.input.width != header->stored_width ||
        config.input.height != header->stored_height)
        return LD_FAIL(err, LD_E_FORMAT, "the image is a damaged WebP file");
    picture->width = header->stored_width;
    picture->height = header->stored_height;
    picture->channels = config.input.has_alpha ? 4 : 3;
    const size_t row = (size_t)picture->width * (size_t)picture->channels;
    const size_t bytes = row * (size_t)picture->height;
    picture->pixels = ld_block_alloc(bytes);
    if (!picture->pixels) {
        memset(picture, 0, sizeof *picture);
        return LD_FAIL(err, LD_E_NOMEM, "no memory to decode the image");
    }
    config.output.colorspace = config.input.has_alpha ? MODE_RGBA : MODE_RGB;
    config.output.is_external_memory = 1;
    config.output.u.RGBA =
        (WebPRGBABuffer){.rgba = picture->pixels, .stride = (int)row, .size = bytes};
    WebPIDecoder *decoder = WebPIDecode(NULL, 0, &config);
    const enum ld_code code = decoder ? feed(decoder, webp, err)
                                      : LD_FAIL(err, LD_E_NOMEM, "no memory to decode the image");
    WebPIDelete(decoder);
    WebPFreeDecBuffer(&config.output);
    if (code != LD_OK) {
        ld_block_free(picture->pixels, bytes);
        memset(picture, 0, sizeof *picture);
    }
    return code;
}

#else

enum ld_code ld_webp_read(struct ld_picture *picture, const struct ld_picture_header *header,
                          struct ld_span webp, struct ld_error *err)
{
    (void)picture;
    (void)header;
    (void)webp;
    return LD_FAIL(err, LD_E_UNSUPPORTED, "this program was built without libwebp; send a PNG");
}

#endif
