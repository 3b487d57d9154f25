#include "kernels/cuda/tile_model.h"

/* One multiprocessor's multiply-adds and L2 bytes a clock: those of an H100's 16-bit mma.sync and
 * of 5.5 TB/s over 132 of them at 1.75 GHz (kernels.md 5.2). Their ratio is what ranks tiles. */
static const double MACS_A_CLOCK = 1024;
static const double BYTES_A_CLOCK = 24;
/* A block's start: its launch, and the pipeline's first slices. */
static const double START_CLOCKS = 2000;
/* Of operands and outputs, and of partial sums. */
static const double HALF_BYTES = 2;
static const double FLOAT_BYTES = 4;

static double larger(double a, double b)
{
    return a > b ? a : b;
}

/* What the busiest of `sm_count` gets of `blocks`. */
static double rounds(int64_t blocks, int32_t sm_count)
{
    const int64_t sms = sm_count > 0 ? sm_count : 1;
    return (double)((blocks + sms - 1) / sms);
}

double ldk_tile_clocks(int64_t tiles, int32_t k, struct ldk_tile_cut cut, int32_t sm_count)
{
    const int32_t splits = cut.splits > 1 ? cut.splits : 1;
    const double m = cut.m, n = cut.n, part = (double)k / splits;
    const double sums =
        larger(m * n * part / MACS_A_CLOCK, HALF_BYTES * (m + n) * part / BYTES_A_CLOCK);
    const double output = HALF_BYTES * m * n / BYTES_A_CLOCK;
    if (splits == 1)
        return rounds(tiles, sm_count) * (START_CLOCKS + sums + output);
    const double partial = FLOAT_BYTES * m * n / BYTES_A_CLOCK;
    return rounds(tiles * splits, sm_count) * (START_CLOCKS + sums + partial) +
           rounds(tiles, sm_count) * (START_CLOCKS + splits * partial + output);
}
