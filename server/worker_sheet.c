#include "server/worker_sheet.h"

#include "runtime/image/picture_read.h"
#include "runtime/image/picture_write.h"

void ld_sweep_plan(const struct ld_sweep *sweep, struct ld_sheet_plan *plan)
{
    const struct ld_sweep_axis *axes = sweep->axes;
    memset(plan, 0, sizeof *plan);
    plan->columns = sweep->axis_count > 0 ? axes[0].count : 1;
    plan->rows = sweep->axis_count > 1 ? axes[1].count : 1;
    plan->pages = sweep->axis_count > 2 ? axes[2].count : 1;
    plan->column_labels = sweep->axis_count > 0 ? axes[0].labels : NULL;
    plan->row_labels = sweep->axis_count > 1 ? axes[1].labels : NULL;
    plan->page_labels = sweep->axis_count > 2 ? axes[2].labels : NULL;
}

enum ld_code ld_worker_sheet_open(struct ld_worker_sheet *sheet, const struct ld_request *request,
                                  const struct ld_message_sheet *message, struct ld_arena *arena,
                                  struct ld_error *err)
{
    struct ld_sheet_plan plan;
    memset(sheet, 0, sizeof *sheet);
    if (ld_sweep_read(&sheet->sweep, ld_span_text(request->sweep), arena, err) != LD_OK)
        return err->code;
    if (ld_sweep_cells(&sheet->sweep) != message->cells)
        return LD_FAIL(err, LD_E_BUG, "the sweep has other cells than its sheet");
    sheet->cells = message->cells;
    ld_sweep_plan(&sheet->sweep, &plan);
    plan.cell_width = (int32_t)message->width;
    plan.cell_height = (int32_t)message->height;
    return ld_sheet_open(&sheet->sheet, &plan, err);
}

enum ld_code ld_worker_sheet_put(struct ld_worker_sheet *sheet, const struct ld_message_cell *cell,
                                 struct ld_error *err)
{
    struct ld_picture picture;
    if (cell->index != sheet->next || sheet->next == sheet->cells)
        return LD_FAIL(err, LD_E_BUG, "a cell of the sweep came out of order");
    sheet->next++;
    if (cell->file.size == 0)
        return LD_OK;
    enum ld_code code = ld_picture_read(&picture, cell->file, err);
    if (code != LD_OK)
        return code;
    code = ld_sheet_put(&sheet->sheet, cell->index, picture.pixels, picture.width, picture.height,
                        picture.channels, err);
    ld_picture_deinit(&picture);
    return code;
}

enum ld_code ld_worker_sheet_write(const struct ld_worker_sheet *sheet,
                                   const struct ld_request *request, struct ld_buffer *out,
                                   struct ld_error *err)
{
    struct ld_buffer recipe = ld_buffer_make(1 << 20);
    ld_buffer_text(&recipe, "{\"version\":\"" LATENTD_VERSION "\",\"request\":");
    ld_request_write_replay_json(request, &recipe);
    ld_buffer_text(&recipe, "}");
    const struct ld_png_text texts[] = {{"latentd", recipe.failed ? "{}" : recipe.data, true}};
    const struct ld_picture_image image = {
        .pixels = sheet->sheet.pixels,
        .width = sheet->sheet.width,
        .height = sheet->sheet.height,
        .channels = 3,
        .form = ld_picture_form_of(request),
        .texts = texts,
        .text_count = request->metadata_full ? 1 : 0,
    };
    const enum ld_code code = ld_picture_write(out, &image, err);
    ld_buffer_deinit(&recipe);
    return code;
}

void ld_worker_sheet_deinit(struct ld_worker_sheet *sheet)
{
    ld_sheet_deinit(&sheet->sheet);
}
