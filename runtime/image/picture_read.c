#include "runtime/image/picture_read.h"

#include "runtime/base/arena.h"

#include <string.h>
#include <time.h>

int64_t ld_decode_cpu_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

/* Orientation n: whether rows and columns change places, and which ends are mirrored before that
 * (Exif 2.32, table of tag 0x0112). */
static const struct {
    bool transposed, flip_x, flip_y;
} turns[9] = {
    [2] = {false, true, false}, [3] = {false, true, true}, [4] = {false, false, true},
    [5] = {true, false, false}, [6] = {true, false, true}, [7] = {true, true, true},
    [8] = {true, true, false},
};

enum ld_code ld_picture_turn(struct ld_picture *picture, int32_t orientation, struct ld_error *err)
{
    if (orientation < 2 || orientation > 8)
        return LD_OK;
    const bool transposed = turns[orientation].transposed;
    const int32_t width = transposed ? picture->height : picture->width;
    const int32_t height = transposed ? picture->width : picture->height;
    const size_t channels = (size_t)picture->channels;
    const size_t bytes = (size_t)width * (size_t)height * channels;
    uint8_t *out = ld_block_alloc(bytes);
    if (!out)
        return LD_FAIL(err, LD_E_NOMEM, "no memory to decode the image");
    for (int32_t y = 0; y < height; y++) {
        for (int32_t x = 0; x < width; x++) {
            int32_t from_x = transposed ? y : x;
            int32_t from_y = transposed ? x : y;
            from_x = turns[orientation].flip_x ? picture->width - 1 - from_x : from_x;
            from_y = turns[orientation].flip_y ? picture->height - 1 - from_y : from_y;
            memcpy(out + ((size_t)y * (size_t)width + (size_t)x) * channels,
                   picture->pixels +
                       ((size_t)from_y * (size_t)picture->width + (size_t)from_x) * channels,
                   channels);
        }
    }
    ld_block_free(picture->pixels, bytes);
    picture->pixels = out;
    picture->width = width;
    picture->height = height;
    return LD_OK;
}

enum ld_code ld_picture_read(struct ld_picture *picture, struct ld_span bytes, struct ld_error *err)
{
    struct ld_picture_header header;
    memset(picture, 0, sizeof *picture);
    enum ld_code code = ld_picture_check_header(&header, bytes, err);
    if (code != LD_OK)
        return code;
    if (header.kind == LD_PICTURE_JPEG)
        code = ld_jpeg_read(picture, &header, bytes, err);
    else if (header.kind == LD_PICTURE_WEBP)
        code = ld_webp_read(picture, &header, bytes, err);
    else
        code = ld_png_read(picture, bytes, 0, err);
    if (code == LD_OK)
        code = ld_picture_turn(picture, header.orientation, err);
    if (code != LD_OK)
        ld_picture_deinit(picture);
    return code;
}
