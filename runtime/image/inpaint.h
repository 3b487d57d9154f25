/*
 * The geometry and colours of painting into a picture: the part of it that is painted when only the
 * masked area is wanted, the picture laid into a larger one, and colours brought back to those of
 * the picture.
 */
#ifndef LD_IMAGE_INPAINT_H
#define LD_IMAGE_INPAINT_H

#include "runtime/base/error.h"

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

struct ld_rect {
    int32_t x, y, width, height;
};

/* The pixels of a part alone. Shapes   rgb: [?, width, 3], out: [part.height, part.width, 3]. */
void ld_rect_cut(const uint8_t *rgb, int32_t width, struct ld_rect part, uint8_t *out);

/* The smallest rectangle around all values of at least a half; false where there is none.
 * Shapes   mask: [height, width]. */
bool ld_mask_bounds(const float *mask, int32_t height, int32_t width, struct ld_rect *bounds);

/*
 * `inner` with `padding` pixels more on each side, then widened or heightened to the aspect
 * aspect_width : aspect_height around its middle, as far as the picture [height, width] goes; where
 * it does not, moved inwards. It always holds `inner`.
 */
struct ld_rect ld_rect_around(struct ld_rect inner, int32_t padding, int32_t aspect_width,
                              int32_t aspect_height, int32_t height, int32_t width);

/*
 * Lay a picture into a larger one at `at`, whose sides are the picture's; what lies around repeats
 * the picture's nearest edge, so that the first noise of an outpaint has colours to begin with.
 * Shapes   picture: [at.height, at.width, channels]; out: [height, width, channels], another block.
 */
void ld_pixels_lay(uint8_t *out, int32_t height, int32_t width, const uint8_t *picture,
                   struct ld_rect at, int32_t channels);

/*
 * Give `rgb` the mean and the spread that `reference` has in each of luma and the two chromas
 * (BT.601), with the spread of a flat picture left alone.
 * Shapes   rgb: [count, 3]; reference: [reference_count, 3].
 * Source   Reinhard et al. 2001, "Color Transfer between Images", with BT.601's axes for theirs.
 */
void ld_pixels_match_colors(uint8_t *rgb, size_t count, const uint8_t *reference,
                            size_t reference_count);

#ifdef __cplusplus
}
#endif
#endif
