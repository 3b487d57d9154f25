/* The harness over the host build. */
#include "tests/cuda/hostcuda_private.h"

bool hc_is_host(void)
{
    return true;
}

void hc_seed(uint64_t seed)
{
    ldk_host_seed(seed);
}

bool hc_counters_now(struct ldk_host_counters *out)
{
    *out = ldk_host_stats;
    return true;
}
