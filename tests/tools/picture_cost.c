/*
 * What a picture's file costs in every format: CPU time of one thread and bytes, the least of five
 * runs. Prints a row a format for docs/images.md.
 *
 *     picture_cost FILE     any picture that latentd reads
 */
#include "runtime/base/fsx.h"
#include "runtime/image/picture_read.h"
#include "runtime/image/picture_write.h"

#include <stdio.h>

enum { RUNS = 5, BYTES_MAX = 80 << 20 };

static const struct {
    const char *words;
    struct ld_picture_form form;
} forms[] = {
    {"png", {.kind = LD_PICTURE_PNG}},
    {"png, compression 6", {.kind = LD_PICTURE_PNG, .compression = 6}},
    {"png, compression 12", {.kind = LD_PICTURE_PNG, .compression = 12}},
    {"webp, lossless", {.kind = LD_PICTURE_WEBP, .lossless = true}},
    {"webp", {.kind = LD_PICTURE_WEBP}},
    {"webp, quality 80", {.kind = LD_PICTURE_WEBP, .quality = 80}},
    {"webp, quality 75", {.kind = LD_PICTURE_WEBP, .quality = 75}},
    {"jpeg", {.kind = LD_PICTURE_JPEG}},
    {"jpeg, quality 80", {.kind = LD_PICTURE_JPEG, .quality = 80}},
    {"jpeg, quality 75", {.kind = LD_PICTURE_JPEG, .quality = 75}},
};

static enum ld_code measure(const struct ld_picture *picture, size_t row, struct ld_error *err)
{
    struct ld_picture_image image = {
        .pixels = picture->pixels,
        .width = picture->width,
        .height = picture->height,
        .channels = picture->channels,
        .form = forms[row].form,
    };
    int64_t least_us = INT64_MAX;
    size_t bytes = 0;
    for (int run = 0; run < RUNS; run++) {
        struct ld_buffer file = ld_buffer_make(BYTES_MAX);
        const int64_t start_us = ld_decode_cpu_us();
        const enum ld_code code = ld_picture_write(&file, &image, err);
        const int64_t spent_us = ld_decode_cpu_us() - start_us;
        least_us = spent_us < least_us ? spent_us : least_us;
        bytes = file.size;
        ld_buffer_deinit(&file);
        if (code != LD_OK)
            return code;
    }
    printf("| %s | %.1f ms | %zu |\n", forms[row].words, (double)least_us / 1e3, bytes);
    return LD_OK;
}

int main(int argc, char **argv)
{
    struct ld_error err = {0};
    struct ld_picture picture = {0};
    struct ld_buffer bytes = ld_buffer_make(BYTES_MAX);
    if (argc != 2) {
        fputs("usage: picture_cost FILE\n", stderr);
        return 2;
    }
    enum ld_code code = ld_fsx_read_file(argv[1], &bytes, &err);
    if (code == LD_OK)
        code = ld_picture_read(&picture, ld_span_of(bytes.data, bytes.size), &err);
    if (code == LD_OK)
        printf("%dx%d\n", picture.width, picture.height);
    for (size_t row = 0; code == LD_OK && row < sizeof forms / sizeof forms[0]; row++)
        if (ld_picture_kind_built(forms[row].form.kind))
            code = measure(&picture, row, &err);
    if (code != LD_OK)
        fprintf(stderr, "picture_cost: %s\n", err.detail);
    ld_picture_deinit(&picture);
    ld_buffer_deinit(&bytes);
    return code == LD_OK ? 0 : 1;
}
