/*
 * Level detection. Every level asks the processor and the operating system (which must save the
 * wider registers); AMX also needs the process's permission to use the tile state.
 */
#include "kernels/cpu/cpuid.h"

#if defined(LD_CPU_X86)

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

extern const struct ld_cpu_level_ops ld_cpu_avx2_ops;
extern const struct ld_cpu_level_ops ld_cpu_avx512_ops;
extern const struct ld_cpu_level_ops ld_cpu_amx_ops;

/* XCR0: which register states the operating system saves. */
static uint64_t saved_states(void)
{
    uint32_t a;
    uint32_t b;
    uint32_t c;
    uint32_t d;
    if (__get_cpuid(1, &a, &b, &c, &d) == 0 || (c & bit_OSXSAVE) == 0)
        return 0;
    uint32_t low;
    uint32_t high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
}

static bool has_avx2(void)
{
    return (saved_states() & 0x6) == 0x6 && __builtin_cpu_supports("avx2") &&
           __builtin_cpu_supports("fma");
}

static bool has_avx512(void)
{
    return has_avx2() && (saved_states() & 0xE6) == 0xE6 && __builtin_cpu_supports("avx512f") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl");
}

/* Leaf 7: bits 22 and 24 of EDX are AMX-BF16 and AMX-TILE. Linux grants the tile data (state
 * component 18) on request, arch_prctl(ARCH_REQ_XCOMP_PERM): Documentation/arch/x86/xstate.rst. */
static bool has_amx(void)
{
    enum { REQUEST_PERMISSION = 0x1023, TILE_DATA = 18 };
    uint32_t a;
    uint32_t b;
    uint32_t c;
    uint32_t d;
    if (!has_avx512() || (saved_states() & 0x60000) != 0x60000 ||
        __get_cpuid_count(7, 0, &a, &b, &c, &d) == 0)
        return false;
    if ((d & (1u << 22)) == 0 || (d & (1u << 24)) == 0)
        return false;
    return syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
}

bool ld_cpuid_has(enum ld_cpu_level level)
{
    switch (level) {
    case LD_CPU_GENERIC:
        return true;
    case LD_CPU_AVX2:
        return has_avx2();
    case LD_CPU_AVX512:
        return has_avx512();
    case LD_CPU_AMX:
        return has_amx();
    case LD_CPU_NEON:
    case LD_CPU_AUTO:
    case LD_CPU_LEVELS:
        break;
    }
    return false;
}

const struct ld_cpu_level_ops *ld_cpu_level_table(enum ld_cpu_level level)
{
    switch (level) {
    case LD_CPU_GENERIC:
        return &ld_cpu_plain_ops;
    case LD_CPU_AVX2:
        return &ld_cpu_avx2_ops;
    case LD_CPU_AVX512:
        return &ld_cpu_avx512_ops;
    case LD_CPU_AMX:
        return &ld_cpu_amx_ops;
    case LD_CPU_NEON:
    case LD_CPU_AUTO:
    case LD_CPU_LEVELS:
        break;
    }
    return NULL;
}

#elif defined(LD_CPU_ARM64)

extern const struct ld_cpu_level_ops ld_cpu_neon_ops;

/* Part of the architecture (Armv8-A), so there is nothing to ask. */
bool ld_cpuid_has(enum ld_cpu_level level)
{
    return level == LD_CPU_GENERIC || level == LD_CPU_NEON;
}

const struct ld_cpu_level_ops *ld_cpu_level_table(enum ld_cpu_level level)
{
    return level == LD_CPU_NEON      ? &ld_cpu_neon_ops
           : level == LD_CPU_GENERIC ? &ld_cpu_plain_ops
                                     : NULL;
}

#else /* other processors: plain C */

bool ld_cpuid_has(enum ld_cpu_level level)
{
    return level == LD_CPU_GENERIC;
}

const struct ld_cpu_level_ops *ld_cpu_level_table(enum ld_cpu_level level)
{
    return level == LD_CPU_GENERIC ? &ld_cpu_plain_ops : NULL;
}

#endif

enum ld_cpu_level ld_cpuid_best_level(void)
{
    static const enum ld_cpu_level best_first[] = {LD_CPU_AMX, LD_CPU_AVX512, LD_CPU_AVX2,
                                                   LD_CPU_NEON};
    for (size_t i = 0; i < sizeof best_first / sizeof best_first[0]; i++) {
        if (ld_cpuid_has(best_first[i]))
            return best_first[i];
    }
    return LD_CPU_GENERIC;
}
