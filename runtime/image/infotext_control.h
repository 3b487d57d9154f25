/*
 * ControlNet units as A1111's extension writes them into a picture's infotext, where each is the
 * quoted value of "ControlNet 0", "ControlNet 1" and so on:
 *
 *     Module: canny, Model: edges [01234567], Weight: 0.8, Resize Mode: Crop and Resize,
 *     Threshold A: 100, Threshold B: 200, Guidance Start: 0, Guidance End: 1,
 *     Pixel Perfect: True, Control Mode: Balanced, Hr Option: Both
 *
 * Pixel Perfect makes the extension's hint at the size that is painted, which is what is done here.
 * Hr Option is Forge's and stands there where there is a second pass.
 *
 * Source: sd-webui-controlnet, internal_controlnet/args.py (fields and their order, spelling);
 * Forge, lib_controlnet/external_code.py (Hr Option).
 */
#ifndef LD_IMAGE_INFOTEXT_CONTROL_H
#define LD_IMAGE_INFOTEXT_CONTROL_H

#include "runtime/base/buffer.h"
#include "runtime/params.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Append the value for request.controls[index], without its quotes. `sha256`: its model's, or NULL.
 * False and nothing is written where the model's name has a comma or colon, which the extension has
 * no spelling for, and where the unit weighs nothing.
 */
bool ld_infotext_write_control(struct ld_buffer *out, const struct ld_request *request,
                               uint32_t index, const char *sha256);

#ifdef __cplusplus
}
#endif
#endif
