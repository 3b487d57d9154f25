#include "runtime/image/picture_upscale.h"

#include "config/limits.h"
#include "runtime/base/id.h"
#include "runtime/image/picture_read.h"
#include "runtime/image/picture_texts.h"
#include "runtime/image/picture_write.h"
#include "runtime/image/pixels_resize.h"

#include <string.h>

enum { TEXT_ARENA_BYTES = 8 << 20, TEXT_BYTES_MAX = 256 * 1024, TEXTS_MAX = 5 };

/* ---- What is written into the file ----------------------------------------------------------- */

struct texts {
    struct ld_arena arena;
    struct ld_png_texts source;
    struct ld_buffer infotext, own;
    struct ld_png_text out[TEXTS_MAX];
    size_t count;
};

static void release(struct texts *texts)
{
    ld_buffer_deinit(&texts->infotext);
    ld_buffer_deinit(&texts->own);
    ld_arena_deinit(&texts->arena);
}

/* A text of the source that fits a chunk; what does not is no reason to fail. */
static const char *source_text(const struct texts *texts, const char *keyword)
{
    const char *text = ld_png_text_find(&texts->source, keyword);
    return text && strlen(text) <= LD_PNG_TEXT_CHUNK_BYTES_MAX - 1024 ? text : NULL;
}

static void put(struct texts *texts, const char *keyword, const char *text, bool utf8)
{
    if (text && *text)
        texts->out[texts->count++] = (struct ld_png_text){keyword, text, utf8};
}

/* A1111's name of a filter. */
static const char *label_of(const char *upscaler)
{
    return strcmp(upscaler, "pixel-lanczos") == 0         ? "Lanczos"
           : strcmp(upscaler, "pixel-nearest-exact") == 0 ? "Nearest"
           : strcmp(upscaler, "pixel-bicubic") == 0       ? "Bicubic"
           : strcmp(upscaler, "pixel-bilinear") == 0      ? "Bilinear"
                                                          : "Area";
}

static void write_infotext(struct texts *texts, const struct ld_request *request)
{
    const struct ld_request_upscale *upscale = &request->upscale;
    struct ld_buffer *out = &texts->infotext;
    const char *before = source_text(texts, "parameters");
    if (before)
        ld_buffer_format(out, "%s, ", before);
    ld_buffer_format(out, "Postprocess upscale to: %dx%d, Postprocess upscaler: %s", upscale->width,
                     upscale->height, label_of(upscale->upscaler));
}

static enum ld_code write_own(struct texts *texts, const struct ld_request *request,
                              struct ld_span picture, struct ld_error *err)
{
    char sha256[LD_SHA256_HEX_SIZE];
    ld_sha256_hex(picture, sha256);
    ld_buffer_format(&texts->own,
                     "{\"version\":\"%s\",\"source_sha256\":\"%s\",\"request\":", LATENTD_VERSION,
                     sha256);
    ld_request_write_replay_json(request, &texts->own);
    ld_buffer_byte(&texts->own, '}');
    return texts->own.failed || texts->infotext.failed
               ? LD_FAIL(err, LD_E_NOMEM, "out of memory for the metadata")
               : LD_OK;
}

static enum ld_code make_texts(struct texts *texts, const struct ld_request *request,
                               struct ld_span picture, struct ld_error *err)
{
    struct ld_error ignored = {0};
    ld_arena_init(&texts->arena, "upscale texts", TEXT_ARENA_BYTES);
    texts->infotext = ld_buffer_make(TEXT_BYTES_MAX);
    texts->own = ld_buffer_make(TEXT_BYTES_MAX);
    if (!request->metadata_full)
        return LD_OK;
    /* Damaged texts are left behind. */
    if (ld_picture_texts_read(&texts->source, &texts->arena, picture, true, &ignored) != LD_OK)
        texts->source.count = 0;
    write_infotext(texts, request);
    const enum ld_code code = write_own(texts, request, picture, err);
    if (code != LD_OK)
        return code;
    put(texts, "parameters", texts->infotext.data, false);
    put(texts, "prompt", source_text(texts, "prompt"), false);
    put(texts, "workflow", source_text(texts, "workflow"), false);
    put(texts, "latentd_source", source_text(texts, "latentd"), true);
    put(texts, "latentd", texts->own.data, true);
    return LD_OK;
}

/* ---- Pixels ---------------------------------------------------------------------------------- */

static enum ld_code write_file(struct ld_upscaled *done, const struct ld_request *request,
                               const struct ld_picture_image *image, struct ld_error *err)
{
    const enum ld_code code = ld_picture_write(&done->file, image, err);
    if (code != LD_E_NOMEM || !done->file.failed)
        return code;
    return LD_FAIL(err, LD_E_TOO_LARGE, "the picture of %dx%d would not fit a file of %d bytes",
                   request->upscale.width, request->upscale.height, LD_FRAME_BYTES_MAX);
}

enum ld_code ld_picture_upscale(struct ld_upscaled *done, const struct ld_request *request,
                                struct ld_span picture, struct ld_error *err)
{
    struct ld_picture source = {0};
    struct texts texts = {0};
    *done = (struct ld_upscaled){
        .file = ld_buffer_make(LD_FRAME_BYTES_MAX - 4096), /* with its envelope a frame */
        .width = request->upscale.width,
        .height = request->upscale.height,
    };
    if (ld_picture_read(&source, picture, err) != LD_OK)
        return ld_error_at(err, "/upscale/image");
    const size_t size = (size_t)done->width * (size_t)done->height * (size_t)source.channels;
    uint8_t *pixels = ld_block_alloc(size);
    enum ld_code code = pixels ? make_texts(&texts, request, picture, err)
                               : LD_FAIL(err, LD_E_NOMEM, "out of memory for the picture");
    if (code == LD_OK) {
        const struct ld_pixel_resize op = {
            .in = source.pixels,
            .in_height = source.height,
            .in_width = source.width,
            .channels = source.channels,
            .out_height = done->height,
            .out_width = done->width,
            .filter = ld_pixel_filter_named(request->upscale.upscaler),
            .out = pixels,
        };
        code = ld_pixels_fit(&op, request->upscale.resize, err);
    }
    if (code == LD_OK) {
        const struct ld_picture_image image = {
            .pixels = pixels,
            .width = done->width,
            .height = done->height,
            .channels = source.channels,
            .form = ld_picture_form_of(request),
            .texts = texts.out,
            .text_count = texts.count,
        };
        code = write_file(done, request, &image, err);
    }
    release(&texts);
    ld_block_free(pixels, size);
    ld_picture_deinit(&source);
    return code;
}
