/*
 * The published GITS noise levels, one row a coefficient and step count.
 * Source: arXiv:2405.11326, tables under the Apache License 2.0; sampling.md 2.1.
 */
#ifndef LD_SAMPLE_GITS_TABLE_H
#define LD_SAMPLE_GITS_TABLE_H

#include "runtime/base/error.h"

enum {
    LD_GITS_COEFFICIENTS = 15, /* 0.80, 0.85, ... 1.50 */
    LD_GITS_STEPS_MIN = 2,
    LD_GITS_STEPS_MAX = 20,
    LD_GITS_ENTRIES = 228 /* 3 + 4 + ... + 21 */
};

/* The levels for `steps` into out[steps + 1], decreasing, the last 0.0292; how many there are.
 * `coefficient` is an index: 0 is 0.80, 8 the usual 1.20. */
uint32_t ld_gits_row(uint32_t coefficient, uint32_t steps, double *out);

#endif
