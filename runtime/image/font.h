/*
 * A font of 5x7 pixels for labels on contact sheets, drawn for this program: capitals, digits and
 * punctuation. Small letters look like capitals, everything beyond ASCII like a question mark.
 */
#ifndef LD_IMAGE_FONT_H
#define LD_IMAGE_FONT_H

#include <stdint.h>

enum { LD_FONT_WIDTH = 5, LD_FONT_HEIGHT = 7 };

/* LD_FONT_HEIGHT rows; bit 4 is the leftmost pixel. */
const uint8_t *ld_font_glyph(char c);

#endif
