/* What hostcuda.c needs from hostcuda_host.c or hostcuda_device.c. */
#ifndef LD_TESTS_HOSTCUDA_PRIVATE_H
#define LD_TESTS_HOSTCUDA_PRIVATE_H

#include "tests/cuda/hostcuda.h"

void hc_counters_now(struct ldk_host_counters *out);

#endif
