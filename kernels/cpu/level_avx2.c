/* The AVX2 level: 6 x 16 C tiles, 12 accumulators. */
#define LEVEL_SUB     6
#define LEVEL_VECTORS 2
#include "kernels/cpu/level_f32.h"

#include "kernels/cpu/level_table.h"

static const struct ld_micro micro = LEVEL_MICRO("AVX2");

LEVEL_TABLE(avx2, "AVX2")
