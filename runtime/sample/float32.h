/*
 * Rounding to float32. A plain (double)(float)x is what the language asks for, but gcc 12 at -O2
 * -fno-math-errno has been seen to drop both conversions where it vectorises two neighbouring ones
 * (of square roots, in this folder), so the value goes through memory.
 */
#ifndef LD_SAMPLE_FLOAT32_H
#define LD_SAMPLE_FLOAT32_H

static inline double ld_float32(double value)
{
    volatile float rounded = (float)value;
    return (double)rounded;
}

#endif
