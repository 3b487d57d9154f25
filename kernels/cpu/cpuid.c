#include "kernels/cpu/cpuid.h"

bool ld_cpuid_has(enum ld_cpu_level level)
{
    return level == LD_CPU_GENERIC;
}

enum ld_cpu_level ld_cpuid_best_level(void)
{
    return LD_CPU_GENERIC;
}

const struct ld_cpu_level_ops *ld_cpu_level_table(enum ld_cpu_level level)
{
    return level == LD_CPU_GENERIC ? &ld_cpu_plain_ops : NULL;
}
