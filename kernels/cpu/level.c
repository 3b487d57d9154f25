/*
 * Which level is used: the one asked for, else the one that LATENTD_CPU_LEVEL names, else the best
 * that this machine has.
 */
#include "kernels/cpu/cpuid.h"

#include <stdlib.h>
#include <string.h>

static const char *const level_names[LD_CPU_LEVELS] = {
    [LD_CPU_AUTO] = "auto",     [LD_CPU_GENERIC] = "generic", [LD_CPU_AVX2] = "avx2",
    [LD_CPU_AVX512] = "avx512", [LD_CPU_AMX] = "amx",         [LD_CPU_NEON] = "neon",
};

/* The level named by LATENTD_CPU_LEVEL; AUTO where it is unset. */
static enum ld_code level_from_environment(enum ld_cpu_level *level, struct ld_error *err)
{
    const char *text = getenv("LATENTD_CPU_LEVEL");
    *level = LD_CPU_AUTO;
    if (text == NULL || text[0] == '\0')
        return LD_OK;
    for (int i = 0; i < LD_CPU_LEVELS; i++) {
        if (strcmp(text, level_names[i]) == 0) {
            *level = (enum ld_cpu_level)i;
            return LD_OK;
        }
    }
    return LD_FAIL(err, LD_E_INVALID,
                   "LATENTD_CPU_LEVEL is one of auto, generic, avx2, avx512, amx, neon");
}

enum ld_code ld_cpu_level_choose(enum ld_cpu_level *level, const struct ld_cpu_level_ops **ops,
                                 struct ld_error *err)
{
    *ops = NULL;
    enum ld_code code = LD_OK;
    if (*level == LD_CPU_AUTO)
        code = level_from_environment(level, err);
    if (code != LD_OK)
        return code;
    if (*level == LD_CPU_AUTO)
        *level = ld_cpuid_best_level();
    *ops = ld_cpuid_has(*level) ? ld_cpu_level_table(*level) : NULL;
    if (*ops == NULL)
        return LD_FAIL(
            err, LD_E_UNSUPPORTED,
            "the CPU level %s (LATENTD_CPU_LEVEL) is not there on this machine; its best "
            "is %s",
            level_names[*level], level_names[ld_cpuid_best_level()]);
    return LD_OK;
}

enum ld_code ld_row_kernels_choose(const struct ld_row_kernels **out, enum ld_cpu_level level,
                                   struct ld_error *err)
{
    LD_ASSERT(out != NULL);
    const struct ld_cpu_level_ops *ops;
    const enum ld_code code = ld_cpu_level_choose(&level, &ops, err);
    *out = code == LD_OK ? ops->rows : NULL;
    return code;
}
