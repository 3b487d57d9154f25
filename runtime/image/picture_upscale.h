/*
 * A finished picture, enlarged by a filter alone: no model, no noise, no seed. What the picture
 * said about itself goes with it.
 *
 *     struct ld_upscaled done;
 *     if (ld_picture_upscale(&done, &request, bytes, &err) == LD_OK) ... done.file ...
 *     ld_buffer_deinit(&done.file);
 *
 * Written into the file, unless output.metadata is "none": `parameters` of the source with A1111's
 * two pairs behind it ("Postprocess upscale by", "Postprocess upscaler"), its `prompt` and
 * `workflow` as they were, its `latentd` as `latentd_source`, and our own `latentd`:
 * {"version", "source_sha256", "request"}.
 *
 * Source: A1111 scripts/postprocessing_upscale.py (what it writes), api.md 6.
 */
#ifndef LD_IMAGE_PICTURE_UPSCALE_H
#define LD_IMAGE_PICTURE_UPSCALE_H

#include "runtime/base/buffer.h"
#include "runtime/params.h"

#ifdef __cplusplus
extern "C" {
#endif

struct ld_upscaled {
    struct ld_buffer file;
    int32_t width, height;
};

/*
 * `request` has upscale.width and upscale.height settled.
 * Owner    the caller deinits `done->file`, also after an error.
 * Errors   those of reading a picture and of resizing; LD_E_TOO_LARGE (the file would pass what a
 *          worker may send), LD_E_NOMEM.
 */
enum ld_code ld_picture_upscale(struct ld_upscaled *done, const struct ld_request *request,
                                struct ld_span picture, struct ld_error *err) LD_MUST_USE;

#ifdef __cplusplus
}
#endif
#endif
