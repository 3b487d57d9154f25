/*
 * Softmax over a block of keys with running maximum and sum, in the form that the next product
 * takes: scores come as exponents of 2 (the queries carry the scale), weights go out as an A
 * operand through `softmax_store_p`, which the level defines before it includes this file. See
 * struct ld_micro_softmax.
 */
#ifndef LD_KERNELS_CPU_SOFTMAX_SIMD_H
#define LD_KERNELS_CPU_SOFTMAX_SIMD_H

#include "kernels/cpu/micro.h"
#include "kernels/cpu/simd_math.h"

#include <math.h>

/* Scores of row r from key j on, j a multiple of VF. */
static inline const float *softmax_scores(const struct ld_micro_softmax *s, int32_t sub, int32_t nr,
                                          int32_t r, int32_t j)
{
    int32_t tile = (j / nr) * s->panel_tiles + s->tile;
    return s->scores + ((size_t)tile * (size_t)sub + (size_t)r) * (size_t)nr + (size_t)(j % nr);
}

static inline float softmax_largest(const struct ld_micro_softmax *s, int32_t sub, int32_t nr,
                                    int32_t r)
{
    vf none = vf_set(-INFINITY);
    vf largest = none;
    int32_t valid = s->valid[r];
    int32_t j = 0;
    for (; j + VF <= valid; j += VF)
        largest = vf_max(vf_load(softmax_scores(s, sub, nr, r, j)), largest);
    if (j < valid)
        largest =
            vf_max(vf_keep(vf_load(softmax_scores(s, sub, nr, r, j)), valid - j, none), largest);
    return vf_largest(largest);
}

static inline vf softmax_weights(const float *scores, vf shift)
{
    return vf_exp2_negative(vf_sub(vf_load(scores), shift));
}

/* Weights of one row; returns their sum. */
static inline float softmax_row(const struct ld_micro_softmax *s, int32_t sub, int32_t nr,
                                int32_t r, float largest, size_t row_bytes)
{
    enum { PIECES = LD_STEP_K / VF };
    vf zero = vf_set(0.0f);
    vf shift = vf_set(largest);
    vf total[PIECES];
    vf weight[PIECES];
    size_t term_stride = s->p_term_stride;
    unsigned char *p = s->p + (size_t)r * row_bytes;
    int32_t valid = s->valid[r];
    int32_t j = 0;
    for (int32_t i = 0; i < PIECES; i++)
        total[i] = zero;
    for (; j + LD_STEP_K <= valid; j += LD_STEP_K, p += s->p_block_stride) {
        for (int32_t i = 0; i < PIECES; i++) {
            weight[i] = softmax_weights(softmax_scores(s, sub, nr, r, j + i * VF), shift);
            total[i] = vf_add(total[i], weight[i]);
        }
        softmax_store_p(p, term_stride, weight);
    }
    /* The step that ends within the visible keys, and those beyond it: zero from there on. */
    for (; j < s->keys; j += LD_STEP_K, p += s->p_block_stride) {
        for (int32_t i = 0; i < PIECES; i++) {
            int32_t left = valid - (j + i * VF);
            weight[i] = zero;
            if (left > 0)
                weight[i] = vf_keep(
                    softmax_weights(softmax_scores(s, sub, nr, r, j + i * VF), shift), left, zero);
            total[i] = vf_add(total[i], weight[i]);
        }
        softmax_store_p(p, term_stride, weight);
    }
    for (int32_t i = 1; i < PIECES; i++)
        total[0] = vf_add(total[0], total[i]);
    return vf_sum(total[0]);
}

static inline void softmax_scale_values(const struct ld_micro_softmax *s, int32_t sub, int32_t nr,
                                        int32_t r, float factor)
{
    for (int32_t panel = 0; panel < s->o_panels; panel++) {
        int32_t tile = panel * s->o_panel_tiles;
        float *o = s->o + ((size_t)tile * (size_t)sub + (size_t)r) * (size_t)nr;
        for (int32_t j = 0; j < nr; j += VF)
            vf_store(o + j, vf_mul(vf_load(o + j), vf_set(factor)));
    }
}

static inline void softmax_block(const struct ld_micro_softmax *s, int32_t sub, int32_t nr,
                                 size_t row_bytes)
{
    float largest[LD_MICRO_SUB_MAX];
    float factor[LD_MICRO_SUB_MAX];
    for (int32_t r = 0; r < sub; r++) {
        largest[r] = softmax_largest(s, sub, nr, r);
        if (!s->first && !(largest[r] > s->largest[r]))
            largest[r] = s->largest[r];
    }
    for (int32_t r = 0; r < sub && !s->first; r += VF) {
        int32_t n = sub - r < VF ? sub - r : VF;
        vf step = vf_sub(vf_load_part(s->largest + r, n), vf_load_part(largest + r, n));
        vf_store_part(factor + r, vf_exp2_negative(step), n);
    }
    for (int32_t r = 0; r < sub; r++) {
        float total = softmax_row(s, sub, nr, r, largest[r], row_bytes);
        if (!s->first && s->largest[r] != largest[r]) {
            softmax_scale_values(s, sub, nr, r, factor[r]);
            s->total[r] *= factor[r];
        }
        s->total[r] = s->first ? total : s->total[r] + total;
        s->largest[r] = largest[r];
    }
}

static inline void softmax_normalise(float *y, size_t y_stride, int32_t rows, const float *o,
                                     int32_t o_panel_tiles, int32_t columns, const float *total,
                                     int32_t sub, int32_t nr)
{
    for (int32_t r = 0; r < rows; r++) {
        vf inverse = vf_set(total != NULL ? 1.0f / total[r] : 1.0f);
        for (int32_t j = 0; j < columns; j += VF) {
            size_t tile = (size_t)(j / nr) * (size_t)o_panel_tiles;
            const float *src = o + (tile * (size_t)sub + (size_t)r) * (size_t)nr + (size_t)(j % nr);
            int32_t n = columns - j < VF ? columns - j : VF;
            vf v = vf_load(src);
            if (total != NULL)
                v = vf_mul(v, inverse);
            vf_store_part(y + (size_t)r * y_stride + (size_t)j, v, n);
        }
    }
}

#endif
