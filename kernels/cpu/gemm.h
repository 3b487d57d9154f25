/* Convolutions and linear layers of the fast levels: one driver over the level's matrix engine. */
#ifndef LD_KERNELS_CPU_GEMM_H
#define LD_KERNELS_CPU_GEMM_H

#include "kernels/cpu/micro.h"

/*
 * Packed matrices: panels of `nr` columns (weight rows), each a row of steps in the order k-block,
 * tap, each step 32 * nr elements in the level's order. GEGLU panels hold nr / 2 value rows and the
 * nr / 2 gate rows of the same outputs. The element type is the narrowest of BF16, F16 and F32 that
 * holds every element exactly.
 */
enum ld_code ld_gemm_weight_pack(struct ld_cpu_backend *cpu, const struct ld_micro *micro,
                                 const struct ld_weight_desc *desc, struct ld_weight *weight,
                                 struct ld_error *err);

void ld_gemm_conv2d(struct ld_cpu_backend *cpu, const struct ld_micro *micro,
                    const struct ld_conv2d *op);
void ld_gemm_linear(struct ld_cpu_backend *cpu, const struct ld_micro *micro,
                    const struct ld_linear *op);

static inline int32_t ld_gemm_panels(const struct ld_micro *micro, const struct ld_weight *weight)
{
    return (weight->facts.rows + micro->nr - 1) / micro->nr;
}

static inline int32_t ld_gemm_blocks(const struct ld_weight *weight)
{
    return (weight->facts.k + LD_STEP_K - 1) / LD_STEP_K;
}

static inline size_t ld_gemm_steps(const struct ld_weight *weight)
{
    return (size_t)ld_gemm_blocks(weight) * (size_t)weight->facts.kernel *
           (size_t)weight->facts.kernel;
}

#endif
