#include "runtime/image/picture_write.h"

#include "config/limits.h"
#include "runtime/image/picture_texts.h"

struct ld_picture_form ld_picture_form_of(const struct ld_request *request)
{
    struct ld_picture_form form = {
        .kind = LD_PICTURE_PNG,
        .compression = request->compression,
        .quality = request->output_quality,
        .lossless = request->output_lossless,
    };
    (void)ld_picture_kind_find(request->output_format, &form.kind); /* a word of the table */
    return form;
}

struct ld_picture_form ld_picture_form_of_preview(const struct ld_request *request)
{
    struct ld_picture_form form = {.kind = LD_PICTURE_PNG, .quality = LD_PICTURE_QUALITY_PREVIEW};
    (void)ld_picture_kind_find(request->preview_format, &form.kind); /* a word of the table */
    return form;
}

static enum ld_code check(const struct ld_picture_image *image, struct ld_error *err)
{
    const char *name = ld_picture_kind_name(image->form.kind);
    const int32_t side_max = ld_picture_kind_side_max(image->form.kind);
    if (image->width < 1 || image->height < 1 ||
        (int64_t)image->width * image->height > LD_AREA_MAX)
        return LD_FAIL(err, LD_E_RANGE, "a picture must have between 1 and %d pixels", LD_AREA_MAX);
    if (image->width > side_max || image->height > side_max)
        return LD_FAIL(err, LD_E_RANGE,
                       "output.format %s holds sides of at most %d pixels, not %dx%d", name,
                       side_max, image->width, image->height);
    if (image->channels != 1 && image->channels != 3 && image->channels != 4)
        return LD_FAIL(err, LD_E_RANGE, "a picture must have 1, 3 or 4 channels");
    if (image->form.quality < 0 || image->form.quality > LD_PICTURE_QUALITY_MAX)
        return LD_FAIL(err, LD_E_RANGE, "output.quality must be between 1 and %d",
                       LD_PICTURE_QUALITY_MAX);
    if (!ld_picture_kind_built(image->form.kind))
        return LD_FAIL(err, LD_E_UNSUPPORTED, "output.format %s: this program was built without %s",
                       name, ld_picture_kind_library(image->form.kind));
    return LD_OK;
}

static enum ld_code write_png(struct ld_buffer *out, const struct ld_picture_image *image,
                              struct ld_error *err)
{
    const struct ld_png_image png = {
        .pixels = image->pixels,
        .width = image->width,
        .height = image->height,
        .channels = image->channels,
        .compression = image->form.compression,
        .texts = image->texts,
        .text_count = image->text_count,
    };
    return ld_png_write(out, &png, err);
}

enum ld_code ld_picture_write(struct ld_buffer *out, const struct ld_picture_image *image,
                              struct ld_error *err)
{
    enum ld_code code = check(image, err);
    if (code != LD_OK || image->form.kind == LD_PICTURE_PNG)
        return code == LD_OK ? write_png(out, image, err) : code;
    struct ld_buffer bare = ld_buffer_make(out->bytes_limit);
    struct ld_buffer *file = image->text_count > 0 ? &bare : out;
    code = image->form.kind == LD_PICTURE_JPEG ? ld_jpeg_write(file, image, err)
                                               : ld_webp_write(file, image, err);
    if (code == LD_OK && file->failed)
        code = LD_FAIL(err, LD_E_NOMEM, "no memory to write a picture of %dx%d pixels",
                       image->width, image->height);
    if (code == LD_OK && file == &bare)
        code = ld_picture_texts_add(out, ld_span_of(bare.data, bare.size), image->texts,
                                    image->text_count, err);
    out->failed = out->failed || bare.failed;
    ld_buffer_deinit(&bare);
    return code;
}
