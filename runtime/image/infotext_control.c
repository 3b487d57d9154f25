#include "runtime/image/infotext_control.h"

#include "runtime/image/hint.h"

#include <math.h>
#include <string.h>

enum { HASH_DIGITS = 8 };

/* By enum ld_hint_kind. */
static const char *const modules[] = {
    [LD_HINT_NONE] = "none",
    [LD_HINT_CANNY] = "canny",
    [LD_HINT_SCRIBBLE] = "scribble_xdog",
    [LD_HINT_LINEART] = "lineart_standard (from white bg & black line)",
    [LD_HINT_INVERT] = "invert (from white bg & black line)",
    [LD_HINT_THRESHOLD] = "threshold",
    [LD_HINT_LUMINANCE] = "recolor_luminance",
    [LD_HINT_BLUR] = "blur_gaussian",
    [LD_HINT_TILE] = "tile_resample",
    [LD_HINT_INPAINT] = "inpaint_global_harmonious",
};
static const char *const resizes[] = {[LD_FIT_STRETCH] = "Just Resize",
                                      [LD_FIT_CROP] = "Crop and Resize",
                                      [LD_FIT_PAD] = "Resize and Fill"};
static const char *const modes[] = {[LD_CONTROL_BALANCED] = "Balanced",
                                    [LD_CONTROL_PROMPT] = "My prompt is more important",
                                    [LD_CONTROL_HINT] = "ControlNet is more important"};
static const char *const passes[] = {[LD_CONTROL_BOTH] = "Both",
                                     [LD_CONTROL_FIRST] = "Low res only",
                                     [LD_CONTROL_SECOND] = "High res only"};

/* Whole numbers without a fraction. */
static void put_number(struct ld_buffer *out, const char *key, double value)
{
    ld_buffer_format(out, ", %s: ", key);
    if (value == rint(value))
        ld_buffer_format(out, "%.0f", value);
    else
        ld_buffer_json_double(out, value);
}

/* Threshold A is the only number of most preprocessors, and Canny's lower one. */
static void put_thresholds(struct ld_buffer *out, const struct ld_request_control *unit)
{
    const struct ld_hint_args args = {
        .kind = unit->preprocess, .low = unit->low, .high = unit->high};
    const struct ld_hint_args made = ld_hint_settled(&args);
    if (!isnan(made.low))
        put_number(out, "Threshold A", made.low);
    if (!isnan(made.high))
        put_number(out, isnan(made.low) ? "Threshold A" : "Threshold B", made.high);
}

bool ld_infotext_write_control(struct ld_buffer *out, const struct ld_request *request,
                               uint32_t index, const char *sha256)
{
    LD_ASSERT(index < request->control_count);
    const struct ld_request_control *unit = &request->controls[index];
    if (unit->weight == 0 || strpbrk(unit->model, ",:"))
        return false;
    ld_buffer_format(out, "Module: %s, Model: %s", modules[unit->preprocess], unit->model);
    if (sha256 && *sha256)
        ld_buffer_format(out, " [%.*s]", HASH_DIGITS, sha256);
    put_number(out, "Weight", unit->weight);
    ld_buffer_format(out, ", Resize Mode: %s", resizes[unit->resize]);
    put_thresholds(out, unit);
    put_number(out, "Guidance Start", unit->start);
    put_number(out, "Guidance End", unit->end);
    ld_buffer_format(out, ", Pixel Perfect: True, Control Mode: %s", modes[unit->mode]);
    if (request->hires.present)
        ld_buffer_format(out, ", Hr Option: %s", passes[unit->passes]);
    return true;
}
