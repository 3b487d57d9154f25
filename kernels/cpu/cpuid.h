/* What this machine can do, and the operators of each level. */
#ifndef LD_KERNELS_CPU_CPUID_H
#define LD_KERNELS_CPU_CPUID_H

#include "kernels/cpu/cpu.h"

/*
 * True if the processor, the operating system and this build all support the level. Asking for
 * LD_CPU_AMX asks the kernel for the tile registers' state once per process.
 */
bool ld_cpuid_has(enum ld_cpu_level level);

/* The highest level that ld_cpuid_has; LD_CPU_GENERIC at least. */
enum ld_cpu_level ld_cpuid_best_level(void);

/* NULL for LD_CPU_AUTO and for levels that this build does not contain. */
const struct ld_cpu_level_ops *ld_cpu_level_table(enum ld_cpu_level level);

/*
 * LD_CPU_AUTO in `level` becomes the level that is taken: that of LATENTD_CPU_LEVEL, or the best.
 * Errors   LD_E_UNSUPPORTED if the machine lacks the level, LD_E_INVALID (LATENTD_CPU_LEVEL).
 */
enum ld_code ld_cpu_level_choose(enum ld_cpu_level *level, const struct ld_cpu_level_ops **ops,
                                 struct ld_error *err);

#endif
