/* The AVX-512 level: 12 x 32 C tiles, 24 accumulators. */
#define LEVEL_SUB     12
#define LEVEL_VECTORS 2
#include "kernels/cpu/level_f32.h"

#include "kernels/cpu/level_table.h"

static const struct ld_micro micro = LEVEL_MICRO("AVX-512");

LEVEL_TABLE(avx512, "AVX-512")
