/*
 * Pixels to WebP through libwebp, on this thread alone. Lossless keeps every bit, also the colours
 * under transparent pixels.
 *
 * Source: webp/encode.h of libwebp 1.2; figures of time and size: docs/images.md.
 */
#include "runtime/image/picture_write.h"

#ifdef LATENTD_WEBP
#include "runtime/base/arena.h"

#include <string.h>
#include <webp/encode.h>

/* Of 0..9 and 0..6. Lossless at 832x1216 of docs/images.md: level 2 takes 193 ms for 609 KB, 3 245
 * ms for 550 KB, 4 288 ms for 548 KB. Lossy: method 2 takes 29 ms for 63.3 KB, 4 64 ms for 61.9 KB.
 */
enum { LOSSLESS_LEVEL = 3, LOSSY_METHOD = 4 };

static int take_bytes(const uint8_t *data, size_t size, const WebPPicture *picture)
{
    struct ld_buffer *out = picture->custom_ptr;
    ld_buffer_bytes(out, data, size);
    return !out->failed;
}

static bool configure(WebPConfig *config, const struct ld_picture_form *form)
{
    if (!WebPConfigInit(config))
        return false;
    if (form->lossless) {
        config->exact = 1;
        return WebPConfigLosslessPreset(config, LOSSLESS_LEVEL);
    }
    config->quality = (float)(form->quality ? form->quality : LD_PICTURE_QUALITY_DEFAULT);
    config->method = LOSSY_METHOD;
    return WebPValidateConfig(config);
}

/* The library knows no grey. */
static uint8_t *spread(const struct ld_picture_image *image, size_t bytes)
{
    uint8_t *rgb = ld_block_alloc(bytes);
    for (size_t i = 0; rgb && i < bytes; i++)
        rgb[i] = image->pixels[i / 3];
    return rgb;
}

static bool import(WebPPicture *picture, const struct ld_picture_image *image)
{
    const size_t bytes = 3 * (size_t)image->width * (size_t)image->height;
    if (image->channels == 4)
        return WebPPictureImportRGBA(picture, image->pixels, 4 * image->width);
    uint8_t *grey = image->channels == 1 ? spread(image, bytes) : NULL;
    const uint8_t *rgb = image->channels == 1 ? grey : image->pixels;
    const bool done = rgb && WebPPictureImportRGB(picture, rgb, 3 * image->width);
    ld_block_free(grey, bytes);
    return done;
}

static enum ld_code failure(WebPEncodingError why, const struct ld_picture_image *image,
                            struct ld_error *err)
{
    if (why == VP8_ENC_ERROR_PARTITION0_OVERFLOW || why == VP8_ENC_ERROR_PARTITION_OVERFLOW ||
        why == VP8_ENC_ERROR_FILE_TOO_BIG)
        (void)LD_FAIL(err, LD_E_TOO_LARGE,
                      "the picture of %dx%d does not fit a WebP file; a lower output.quality or "
                      "another output.format does",
                      image->width, image->height);
    else
        (void)LD_FAIL(err, LD_E_NOMEM, "no memory to write a WebP of %dx%d pixels", image->width,
                      image->height);
    (void)ld_error_note(err, "libwebp: encoding error %d", (int)why);
    return err ? err->code : LD_E_NOMEM;
}

enum ld_code ld_webp_write(struct ld_buffer *out, const struct ld_picture_image *image,
                           struct ld_error *err)
{
    WebPConfig config;
    WebPPicture picture;
    if (!configure(&config, &image->form) || !WebPPictureInit(&picture))
        return LD_FAIL(err, LD_E_BUG, "this libwebp is another one than the build's");
    picture.width = image->width;
    picture.height = image->height;
    picture.use_argb = image->form.lossless;
    picture.writer = take_bytes;
    picture.custom_ptr = out;
    enum ld_code code = LD_OK;
    if (!import(&picture, image) || !WebPEncode(&config, &picture))
        code = failure(picture.error_code, image, err);
    WebPPictureFree(&picture);
    return code;
}

#else

enum ld_code ld_webp_write(struct ld_buffer *out, const struct ld_picture_image *image,
                           struct ld_error *err)
{
    (void)out;
    (void)image;
    return LD_FAIL(err, LD_E_UNSUPPORTED, "this program was built without libwebp");
}

#endif
