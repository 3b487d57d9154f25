/* The harness on a chip: the order of threads is the chip's, nothing is counted. */
#include "tests/cuda/hostcuda_private.h"

bool hc_is_host(void)
{
    return false;
}

void hc_seed(uint64_t seed)
{
    (void)seed;
}

bool hc_counters_now(struct ldk_host_counters *out)
{
    *out = (struct ldk_host_counters){0};
    return false;
}
