/* The operators of one fast level over its `micro`, as a table named ld_cpu_<level>_ops. */
#ifndef LD_KERNELS_CPU_LEVEL_TABLE_H
#define LD_KERNELS_CPU_LEVEL_TABLE_H

#include "kernels/cpu/attention.h"
#include "kernels/cpu/cpuid.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/norm_simd.h"
#include "kernels/cpu/rows_simd.h"

#define LEVEL_TABLE(level, level_name)                                                             \
    static enum ld_code level_weight_pack(struct ld_cpu_backend *cpu,                              \
                                          const struct ld_weight_desc *desc,                       \
                                          struct ld_weight *weight, struct ld_error *err)          \
    {                                                                                              \
        return ld_gemm_weight_pack(cpu, &micro, desc, weight, err);                                \
    }                                                                                              \
    static void level_conv2d(struct ld_cpu_backend *cpu, const struct ld_conv2d *op)               \
    {                                                                                              \
        ld_gemm_conv2d(cpu, &micro, op);                                                           \
    }                                                                                              \
    static void level_linear(struct ld_cpu_backend *cpu, const struct ld_linear *op)               \
    {                                                                                              \
        ld_gemm_linear(cpu, &micro, op);                                                           \
    }                                                                                              \
    static void level_attention(struct ld_cpu_backend *cpu, const struct ld_attention *op)         \
    {                                                                                              \
        ld_tiled_attention(cpu, &micro, op);                                                       \
    }                                                                                              \
    static const struct ld_row_kernels level_rows = {                                              \
        .name = level_name, .product = rows_product, .scores = rows_scores, .mix = rows_mix};      \
    const struct ld_cpu_level_ops ld_cpu_##level##_ops = {                                         \
        .name = level_name,                                                                        \
        .weight_pack = level_weight_pack,                                                          \
        .conv2d = level_conv2d,                                                                    \
        .linear = level_linear,                                                                    \
        .group_norm = norm_groups,                                                                 \
        .layer_norm = norm_layers,                                                                 \
        .attention = level_attention,                                                              \
        .map = map_values,                                                                         \
        .rows = &level_rows,                                                                       \
    };

#endif
