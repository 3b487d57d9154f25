#include "server/cmd_sweep_sheet.h"

#include "runtime/image/png_read.h"
#include "runtime/image/png_write.h"
#include "server/worker_sheet.h"

enum ld_code ld_sweep_keep(struct ld_sweep_pictures *pictures, uint32_t cell, struct ld_span png,
                           struct ld_error *err)
{
    LD_ASSERT(cell < LD_SWEEP_CELLS_MAX && !pictures->png[cell].data);
    pictures->png[cell] = ld_buffer_make(LD_PNG_BYTES_MAX);
    ld_buffer_bytes(&pictures->png[cell], png.data, png.size);
    return pictures->png[cell].failed ? LD_FAIL(err, LD_E_NOMEM, "out of memory for the sweep")
                                      : LD_OK;
}

static struct ld_span bytes_of(const struct ld_sweep_pictures *pictures, uint32_t cell)
{
    return ld_span_of(pictures->png[cell].data, pictures->png[cell].size);
}

/* The sides that hold every picture: a sweep may run over sizes. */
static enum ld_code largest(const struct ld_sweep_pictures *pictures, uint32_t cells,
                            struct ld_sheet_plan *plan, struct ld_error *err)
{
    for (uint32_t i = 0; i < cells; i++) {
        struct ld_png_header header;
        const enum ld_code code = ld_png_check_header(&header, bytes_of(pictures, i), false, err);
        if (code != LD_OK)
            return code;
        const int32_t width = (int32_t)header.width;
        const int32_t height = (int32_t)header.height;
        plan->cell_width = width > plan->cell_width ? width : plan->cell_width;
        plan->cell_height = height > plan->cell_height ? height : plan->cell_height;
    }
    return LD_OK;
}

static enum ld_code put(struct ld_sheet *sheet, uint32_t cell, struct ld_span png,
                        struct ld_error *err)
{
    struct ld_picture picture;
    enum ld_code code = ld_png_read(&picture, png, 0, err);
    if (code != LD_OK)
        return code;
    code = ld_sheet_put(sheet, cell, picture.pixels, picture.width, picture.height,
                        picture.channels, err);
    ld_picture_deinit(&picture);
    return code;
}

enum ld_code ld_sweep_sheet(const struct ld_sweep *sweep, const struct ld_sweep_pictures *pictures,
                            struct ld_buffer *out, struct ld_error *err)
{
    struct ld_sheet sheet = {0};
    struct ld_sheet_plan plan;
    const uint32_t cells = ld_sweep_cells(sweep);
    ld_sweep_plan(sweep, &plan);
    enum ld_code code = largest(pictures, cells, &plan, err);
    if (code == LD_OK)
        code = ld_sheet_open(&sheet, &plan, err);
    for (uint32_t i = 0; code == LD_OK && i < cells; i++)
        code = put(&sheet, i, bytes_of(pictures, i), err);
    const struct ld_png_image image = {
        .pixels = sheet.pixels, .width = sheet.width, .height = sheet.height, .channels = 3};
    if (code == LD_OK)
        code = ld_png_write(out, &image, err);
    ld_sheet_deinit(&sheet);
    return code;
}

void ld_sweep_pictures_deinit(struct ld_sweep_pictures *pictures)
{
    for (uint32_t i = 0; i < LD_SWEEP_CELLS_MAX; i++)
        if (pictures->png[i].data)
            ld_buffer_deinit(&pictures->png[i]);
}
