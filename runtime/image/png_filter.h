/*
 * PNG row filters: which of the five predicts a row best, and the filtered bytes. The choice is the
 * usual one, the smallest sum of absolute differences, so equal pixels give equal bytes.
 */
#ifndef LD_IMAGE_PNG_FILTER_H
#define LD_IMAGE_PNG_FILTER_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { LD_PNG_FILTERS = 5 };

/*
 * Filter one row.
 *   out[0] = type (0 none, 1 sub, 2 up, 3 average, 4 Paeth), out[1..size] = row - prediction mod
 * 256
 *
 * Shapes   row: [size]; above: [size], the row before it, or zeros for the first; `step` bytes a
 *          pixel (1..4); scratch: [LD_PNG_FILTERS * size]; out: [size + 1].
 * Source   PNG specification (Third Edition), section 9.
 */
void ld_png_filter_row(uint8_t *out, const uint8_t *row, const uint8_t *above, size_t size,
                       size_t step, uint8_t *scratch);

#ifdef __cplusplus
}
#endif
#endif
