/*
 * The harness over the PTX machine: memory ends where a tensor ends, the order is that of warps and
 * of lanes that went apart, nothing is counted.
 */
#include "tests/cuda/hostcuda_private.h"
#include "tests/ptx/ptx.h"

bool hc_is_host(void)
{
    return true;
}

void hc_seed(uint64_t seed)
{
    ptx_options()->order = seed;
}

bool hc_counters_now(struct ldk_host_counters *out)
{
    *out = (struct ldk_host_counters){0};
    return false;
}
