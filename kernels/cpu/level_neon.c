/* The NEON level of 64-bit Arm: 6 x 16 C tiles, 24 accumulators. */
#define LEVEL_SUB     6
#define LEVEL_VECTORS 4
#include "kernels/cpu/level_f32.h"

#include "kernels/cpu/level_table.h"

static const struct ld_micro micro = LEVEL_MICRO("NEON");

LEVEL_TABLE(neon, "NEON")
