/*
 * Ranges for NVIDIA's profilers (NVTX). A profiler announces itself in the environment
 * (NVTX_INJECTION64_PATH names its library); without that nothing is opened.
 */
#ifndef LDK_RANGES_H
#define LDK_RANGES_H

#include "kernels/range.h"

/* The table of this process, in the domain "latentd"; NULL if no profiler listens, or in a build
 * without the toolkit. Any thread. */
const struct ld_ranges *ldk_ranges(void);

#endif
