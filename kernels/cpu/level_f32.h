/*
 * The float32 matrix engine, compiled for AVX2, AVX-512 and NEON. The including file defines
 * LEVEL_SUB (rows of a C tile) and LEVEL_VECTORS (vectors of a panel row); LEVEL_SUB *
 * LEVEL_VECTORS accumulators, LEVEL_VECTORS of B and one of A fit the registers.
 */
#ifndef LD_KERNELS_CPU_LEVEL_F32_H
#define LD_KERNELS_CPU_LEVEL_F32_H

#include "kernels/cpu/micro.h"
#include "kernels/cpu/simd_math.h"

#include <string.h>

enum {
    LEVEL_NR = LEVEL_VECTORS * VF,
    LEVEL_ROW_BYTES = LD_STEP_K * 4,
    LEVEL_TERM_BYTES = LD_STEP_K * LEVEL_NR * 4
};

static void softmax_store_p(unsigned char *dst, size_t term_stride, const vf *weight)
{
    (void)term_stride;
    float *p = (float *)(void *)dst;
    for (int32_t i = 0; i < LD_STEP_K / VF; i++)
        vf_store(p + i * VF, weight[i]);
}

static void no_bracket(void)
{
}

static void pack_a(unsigned char *dst, size_t term_stride, const float *src, size_t src_stride,
                   int32_t pixels, int32_t channels)
{
    (void)term_stride;
    for (int32_t i = 0; i < pixels; i++, dst += LEVEL_ROW_BYTES, src += src_stride) {
        float *row = (float *)(void *)dst;
        for (int32_t c = 0; c < LD_STEP_K; c += VF) {
            int32_t n = channels - c < VF ? channels - c : VF;
            vf_store(row + c, n >= VF ? vf_load(src + c)
                              : n > 0 ? vf_load_part(src + c, n)
                                      : vf_set(0.0f));
        }
    }
}

static size_t b_index(int32_t k, int32_t n)
{
    return (size_t)k * LEVEL_NR + (size_t)n;
}

static int32_t b_terms(enum ld_dtype stored)
{
    (void)stored;
    return 1;
}

/* VF values of a stored 16-bit type. */
static inline vf widen(const uint16_t *src, bool half)
{
    if (half)
        return vf_load_half(src);
#if defined(__AVX512F__)
    __m256i bits = _mm256_loadu_si256((const __m256i *)(const void *)src);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
#elif defined(__aarch64__)
    return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(src), 16));
#else
    __m128i bits = _mm_loadu_si128((const __m128i *)(const void *)src);
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
#endif
}

static void expand(unsigned char *dst, const void *src, enum ld_dtype stored, size_t steps)
{
    const uint16_t *from = src;
    float *to = (float *)(void *)dst;
    bool half = stored == LD_DTYPE_F16;
    size_t count = steps * LD_STEP_K * LEVEL_NR;
    for (size_t i = 0; i < count; i += VF)
        vf_store(to + i, widen(from + i, half));
}

/* `depth` values of K: C registers += A rows times a panel. */
static inline void multiply_step(vf acc[LEVEL_SUB][LEVEL_VECTORS], const float *a, const float *b,
                                 int32_t depth)
{
    for (int32_t k = 0; k < depth; k++, b += LEVEL_NR) {
        vf right[LEVEL_VECTORS];
#pragma GCC unroll 4
        for (int32_t v = 0; v < LEVEL_VECTORS; v++)
            right[v] = vf_load(b + v * VF);
#pragma GCC unroll 16
        for (int32_t r = 0; r < LEVEL_SUB; r++) {
            vf left = vf_set(a[r * LD_STEP_K + k]);
#pragma GCC unroll 4
            for (int32_t v = 0; v < LEVEL_VECTORS; v++)
                acc[r][v] = vf_fma(left, right[v], acc[r][v]);
        }
    }
}

/* C = or += the registers, which start again at zero. */
static inline void flush(vf acc[LEVEL_SUB][LEVEL_VECTORS], float *c, bool add)
{
#pragma GCC unroll 16
    for (int32_t r = 0; r < LEVEL_SUB; r++) {
#pragma GCC unroll 4
        for (int32_t v = 0; v < LEVEL_VECTORS; v++) {
            float *at = c + r * LEVEL_NR + v * VF;
            vf_store(at, add ? vf_add(vf_load(at), acc[r][v]) : acc[r][v]);
            acc[r][v] = vf_set(0.0f);
        }
    }
}

/* The error of a float32 sum grows with its length, so sums of FLUSH_STEPS steps are added up. */
static void multiply(const struct ld_micro_call *call)
{
    enum { FLUSH_STEPS = 1 };
    vf acc[LEVEL_SUB][LEVEL_VECTORS];
#pragma GCC unroll 16
    for (int32_t r = 0; r < LEVEL_SUB; r++)
#pragma GCC unroll 4
        for (int32_t v = 0; v < LEVEL_VECTORS; v++)
            acc[r][v] = vf_set(0.0f);
    const unsigned char *b = call->b;
    bool add = call->add;
    int32_t step = 0;
    int32_t steps = call->blocks * call->taps;
    for (int32_t block = 0; block < call->blocks; block++) {
        const unsigned char *a = call->a[0] + (size_t)block * call->a_block_stride;
        int32_t depth = block + 1 == call->blocks ? call->last_k : LD_STEP_K;
        for (int32_t tap = 0; tap < call->taps; tap++, b += LEVEL_TERM_BYTES) {
            multiply_step(acc, (const float *)(const void *)(a + call->tap_offset[tap]),
                          (const float *)(const void *)b, depth);
            step++;
            if (step % FLUSH_STEPS == 0 || step == steps) {
                flush(acc, call->c[0], add);
                add = true;
            }
        }
    }
}

/* ---- Attention operands ---------------------------------------------------------------------- */

static struct ld_micro_qk qk(int32_t d)
{
    int32_t blocks = (d + LD_STEP_K - 1) / LD_STEP_K;
    return (struct ld_micro_qk){
        .blocks = blocks, .last_k = d - (blocks - 1) * LD_STEP_K, .a_terms = 1, .b_terms = 1};
}

static void pack_q(unsigned char *dst, size_t block_stride, size_t term_stride, const float *src,
                   size_t src_stride, int32_t rows, int32_t d, double scale)
{
    float row[LD_HEAD_DIM_MAX];
    for (int32_t r = 0; r < rows; r++, dst += LEVEL_ROW_BYTES, src += src_stride) {
        vf_scaled_row(row, src, d, scale);
        unsigned char *at = dst;
        for (int32_t k = 0; k < d; k += LD_STEP_K, at += block_stride)
            pack_a(at, term_stride, row + k, 0, 1, d - k < LD_STEP_K ? d - k : LD_STEP_K);
    }
}

static void pack_k(unsigned char *dst, const float *src, size_t src_stride, int32_t keys, int32_t d)
{
    float *to = (float *)(void *)dst;
    int32_t padded = (d + LD_STEP_K - 1) / LD_STEP_K * LD_STEP_K;
    for (int32_t k = 0; k < padded; k++, to += LEVEL_NR) {
        for (int32_t j = 0; j < LEVEL_NR; j++)
            to[j] = k < d && j < keys ? src[(size_t)j * src_stride + (size_t)k] : 0.0f;
    }
}

static void pack_v(unsigned char *dst, const float *src, size_t src_stride, int32_t keys,
                   int32_t columns)
{
    float *to = (float *)(void *)dst;
    for (int32_t j = 0; j < LD_STEP_K; j++, to += LEVEL_NR) {
        if (j >= keys)
            memset(to, 0, LEVEL_NR * sizeof *to);
        for (int32_t c = 0; j < keys && c < LEVEL_NR; c++)
            to[c] = c < columns ? src[(size_t)j * src_stride + (size_t)c] : 0.0f;
    }
}

#include "kernels/cpu/finish_simd.h"
#include "kernels/cpu/softmax_simd.h"

static void finish(const struct ld_micro_finish *f)
{
    finish_tile(f, LEVEL_SUB, LEVEL_NR);
}

static void softmax(const struct ld_micro_softmax *s)
{
    softmax_block(s, LEVEL_SUB, LEVEL_NR, LEVEL_ROW_BYTES);
}

static void normalise(float *y, size_t y_stride, int32_t rows, const float *o,
                      int32_t o_panel_tiles, int32_t columns, const float *total)
{
    softmax_normalise(y, y_stride, rows, o, o_panel_tiles, columns, total, LEVEL_SUB, LEVEL_NR);
}

#define LEVEL_MICRO(level_name)                                                                    \
    {                                                                                              \
        .name = level_name, .sub = LEVEL_SUB, .tiles = 1, .nr = LEVEL_NR,                          \
        .row_bytes = LEVEL_ROW_BYTES, .a_terms = 1, .term_bytes = LEVEL_TERM_BYTES,                \
        .ready = LD_DTYPE_F32, .begin = no_bracket, .end = no_bracket, .pack_a = pack_a,           \
        .b_index = b_index, .b_terms = b_terms, .expand = expand, .multiply = multiply,            \
        .finish = finish, .qk = qk, .pack_q = pack_q, .pack_k = pack_k, .pack_v = pack_v,          \
        .softmax = softmax, .normalise = normalise                                                 \
    }

#endif
