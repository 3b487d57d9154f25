/* What hostcuda.c needs from hostcuda_host.c, hostcuda_device.c or tests/ptx/hostcuda_ptx.c. */
#ifndef LD_TESTS_HOSTCUDA_PRIVATE_H
#define LD_TESTS_HOSTCUDA_PRIVATE_H

#include "tests/cuda/hostcuda.h"

/* False, and zeros, where nothing is counted. */
bool hc_counters_now(struct ldk_host_counters *out);

#endif
