/* The way out of a C tile: scale, bias, timestep row, activation, residual, store. Compiled once a
 * level; see struct ld_micro_finish. */
#ifndef LD_KERNELS_CPU_FINISH_SIMD_H
#define LD_KERNELS_CPU_FINISH_SIMD_H

#include "kernels/cpu/micro.h"
#include "kernels/cpu/simd_math.h"

/* Sum of products at `c` -> scaled and biased value of weight rows first.. (n <= VF of them). */
static inline vf finish_affine(const struct ld_weight *weight, const float *c, int32_t first,
                               int32_t n)
{
    vf v = vf_load(c);
    vf bias = vf_set(0.0f);
    if (weight->bias != NULL)
        bias = vf_load_part(weight->bias + first, n);
    if (weight->row_scale != NULL)
        return vf_fma(v, vf_load_part(weight->row_scale + first, n), bias);
    return vf_add(v, bias);
}

static inline void finish_row(const struct ld_micro_finish *f, const float *c, int32_t nr,
                              int32_t row)
{
    bool geglu = f->activation == LD_ACT_GEGLU;
    size_t at = (size_t)row * (size_t)f->y_stride + (size_t)f->column;
    size_t image = (size_t)(row / f->rows_per_image);
    float *y = f->y + at;
    const float *residual = f->residual == NULL ? NULL : f->residual + at;
    const float *row_add = f->row_add;
    if (row_add != NULL)
        row_add += image * (size_t)f->row_add_stride + (size_t)f->column;
    for (int32_t j = 0; j < f->columns; j += VF) {
        int32_t n = f->columns - j < VF ? f->columns - j : VF;
        vf v = finish_affine(f->weight, c + j, f->column + j, n);
        if (geglu) {
            int32_t gate = f->weight->facts.rows / 2 + f->column + j;
            v = vf_mul(v, vf_gelu(finish_affine(f->weight, c + nr / 2 + j, gate, n)));
        } else {
            v = vf_activate(v, f->activation);
        }
        if (row_add != NULL)
            v = vf_add(v, vf_load_part(row_add + j, n));
        if (residual != NULL)
            v = vf_add(v, vf_load_part(residual + j, n));
        vf_store_part(y + j, v, n);
    }
}

static inline void finish_tile(const struct ld_micro_finish *f, int32_t sub, int32_t nr)
{
    for (int32_t r = 0; r < sub; r++) {
        if (f->row[r] >= 0)
            finish_row(f, f->c + r * nr, nr, f->row[r]);
    }
}

#endif
