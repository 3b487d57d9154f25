#include "server/cmd_sweep_sheet.h"

#include "runtime/image/picture_read.h"
#include "runtime/image/picture_write.h"
#include "server/worker_sheet.h"

enum ld_code ld_sweep_keep(struct ld_sweep_pictures *pictures, uint32_t cell, struct ld_span file,
                           struct ld_error *err)
{
    LD_ASSERT(cell < LD_SWEEP_CELLS_MAX && !pictures->file[cell].data);
    pictures->file[cell] = ld_buffer_make(LD_PNG_BYTES_MAX);
    ld_buffer_bytes(&pictures->file[cell], file.data, file.size);
    return pictures->file[cell].failed ? LD_FAIL(err, LD_E_NOMEM, "out of memory for the sweep")
                                       : LD_OK;
}

static struct ld_span bytes_of(const struct ld_sweep_pictures *pictures, uint32_t cell)
{
    return ld_span_of(pictures->file[cell].data, pictures->file[cell].size);
}

/* The sides that hold every picture: a sweep may run over sizes. */
static enum ld_code largest(const struct ld_sweep_pictures *pictures, uint32_t cells,
                            struct ld_sheet_plan *plan, struct ld_error *err)
{
    for (uint32_t i = 0; i < cells; i++) {
        struct ld_picture_header header;
        const enum ld_code code = ld_picture_check_header(&header, bytes_of(pictures, i), err);
        if (code != LD_OK)
            return code;
        if (header.width > plan->cell_width)
            plan->cell_width = header.width;
        if (header.height > plan->cell_height)
            plan->cell_height = header.height;
    }
    return LD_OK;
}

static enum ld_code put(struct ld_sheet *sheet, uint32_t cell, struct ld_span file,
                        struct ld_error *err)
{
    struct ld_picture picture;
    enum ld_code code = ld_picture_read(&picture, file, err);
    if (code != LD_OK)
        return code;
    code = ld_sheet_put(sheet, cell, picture.pixels, picture.width, picture.height,
                        picture.channels, err);
    ld_picture_deinit(&picture);
    return code;
}

enum ld_code ld_sweep_sheet(const struct ld_sweep *sweep, const struct ld_request *request,
                            const struct ld_sweep_pictures *pictures, struct ld_buffer *out,
                            struct ld_error *err)
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
    const struct ld_picture_image image = {
        .pixels = sheet.pixels,
        .width = sheet.width,
        .height = sheet.height,
        .channels = 3,
        .form = ld_picture_form_of(request),
    };
    if (code == LD_OK)
        code = ld_picture_write(out, &image, err);
    ld_sheet_deinit(&sheet);
    return code;
}

void ld_sweep_pictures_deinit(struct ld_sweep_pictures *pictures)
{
    for (uint32_t i = 0; i < LD_SWEEP_CELLS_MAX; i++)
        if (pictures->file[i].data)
            ld_buffer_deinit(&pictures->file[i]);
}
