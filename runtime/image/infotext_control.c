#include "runtime/image/infotext_control.h"

#include "runtime/image/hint.h"

#include <math.h>

const char *ld_infotext_module(enum ld_hint_kind kind)
{
    static const char *const modules[] = {
        [LD_HINT_NONE] = "none",
        [LD_HINT_CANNY] = "canny",
        [LD_HINT_SCRIBBLE] = "scribble_xdog",
        [LD_HINT_LINEART] = "lineart_standard",
        [LD_HINT_INVERT] = "invert",
        [LD_HINT_THRESHOLD] = "threshold",
        [LD_HINT_LUMINANCE] = "recolor_luminance",
        [LD_HINT_BLUR] = "blur_gaussian",
        [LD_HINT_TILE] = "tile_resample",
        [LD_HINT_INPAINT] = "inpaint_global_harmonious",
    };
    return modules[kind];
}

/* As Python prints one: 60.0, 0.8. */
static void put_number(struct ld_buffer *out, const char *key, double value)
{
    if (isnan(value))
        return;
    ld_buffer_format(out, ", %s: ", key);
    if (value == rint(value))
        ld_buffer_format(out, "%.1f", value);
    else
        ld_buffer_json_double(out, value);
}

void ld_infotext_write_control(struct ld_buffer *out, const struct ld_request_control *unit,
                               const char *sha256)
{
    static const char *const fits[] = {[LD_FIT_STRETCH] = "Just Resize",
                                       [LD_FIT_CROP] = "Crop and Resize",
                                       [LD_FIT_PAD] = "Resize and Fill"};
    static const char *const modes[] = {[LD_CONTROL_BALANCED] = "Balanced",
                                        [LD_CONTROL_PROMPT] = "My prompt is more important",
                                        [LD_CONTROL_HINT] = "ControlNet is more important"};
    const struct ld_hint_args args = {unit->preprocess, unit->low, unit->high, NULL};
    const struct ld_hint_args made = ld_hint_settled(&args);
    const bool has_two = !isnan(made.low);
    ld_buffer_format(out, "Module: %s, Model: %s", ld_infotext_module(unit->preprocess),
                     unit->model);
    if (sha256 && sha256[0])
        ld_buffer_format(out, " [%.*s]", LD_INFOTEXT_CONTROL_HASH, sha256);
    put_number(out, "Weight", unit->weight);
    ld_buffer_format(out, ", Resize Mode: %s", fits[unit->resize]);
    put_number(out, "Threshold A", has_two ? made.low : made.high);
    put_number(out, "Threshold B", has_two ? made.high : (double)NAN);
    put_number(out, "Guidance Start", unit->start);
    put_number(out, "Guidance End", unit->end);
    ld_buffer_format(out, ", Pixel Perfect: True, Control Mode: %s", modes[unit->mode]);
}
