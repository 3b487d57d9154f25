/*
 * The AMX level: float32 products on the bfloat16 tile unit.
 *
 * A float32 is the exact sum of three bfloat16 terms (8 + 8 + 8 significant bits, cut off, not
 * rounded): x = x1 + x2 + x3, each about 2^-8 of the one before. A float16 weight needs two terms,
 * a bfloat16 weight one. Of the products of terms those below 2^-24 are dropped:
 *
 *     weights of 1 term    x1 w1 + x2 w1 + x3 w1                              (nothing dropped)
 *     weights of 2 terms   the above + x1 w2 + x2 w2
 *     weights of 3 terms   the above + x1 w3
 *
 * Each product of bfloat16s is exact in float32; the unit adds 16 pairs in float32, even and odd
 * members apart, and then both sums to the accumulator, subnormals as zero. Small products go
 * first. The error is that of float32 sums, not of bfloat16 (tests/unit/test_cpu_matmul.c).
 *
 * Pairs: the unit multiplies pairs of neighbouring K values. Splitting leaves value i and value
 * i + 16 of a step side by side (shift one, mask the other, no shuffle), so weights are packed in
 * that order too.
 *
 * Source   Intel Architecture Instruction Set Extensions Programming Reference, TDPBF16PS.
 */
#include "kernels/cpu/micro.h"
#include "kernels/cpu/simd_math.h"

#include <string.h>

enum {
    SUB = 16,
    NR = 32,
    ROW_BYTES = 64,
    TILE_BYTES = 1024,           /* 16 rows of 64 bytes */
    TERM_BYTES = 2 * TILE_BYTES, /* one step of a panel: two tiles of 16 columns */
    TERMS = 3
};

/* ---- Splitting ------------------------------------------------------------------------------- */

/* The upper halves of two vectors, interleaved: bfloat16 pairs (low[i], high[i]). */
static inline __m512i pair_upper(__m512i low, __m512i high)
{
    return _mm512_mask_blend_epi16(0xAAAAAAAA, _mm512_srli_epi32(low, 16), high);
}

/* 32 floats (values 0..15 and 16..31 of a step) -> three terms at dst, term_stride apart. */
static inline void split_step(unsigned char *dst, size_t term_stride, vf low, vf high)
{
    const __m512i upper = _mm512_set1_epi32((int32_t)0xFFFF0000u);
    for (int32_t t = 0; t < TERMS; t++, dst += term_stride) {
        __m512i low_bits = _mm512_castps_si512(low);
        __m512i high_bits = _mm512_castps_si512(high);
        _mm512_store_si512((void *)dst, pair_upper(low_bits, high_bits));
        low = vf_sub(low, _mm512_castsi512_ps(_mm512_and_si512(low_bits, upper)));
        high = vf_sub(high, _mm512_castsi512_ps(_mm512_and_si512(high_bits, upper)));
    }
}

static void pack_a(unsigned char *dst, size_t term_stride, const float *src, size_t src_stride,
                   int32_t pixels, int32_t channels)
{
    if (channels >= LD_STEP_K) {
        for (int32_t i = 0; i < pixels; i++, dst += ROW_BYTES, src += src_stride)
            split_step(dst, term_stride, vf_load(src), vf_load(src + VF));
        return;
    }
    for (int32_t i = 0; i < pixels; i++, dst += ROW_BYTES, src += src_stride) {
        vf high = vf_set(0.0f);
        if (channels > VF)
            high = vf_load_part(src + VF, channels - VF);
        split_step(dst, term_stride, vf_load_part(src, channels), high);
    }
}

static void softmax_store_p(unsigned char *dst, size_t term_stride, const vf *weight)
{
    split_step(dst, term_stride, weight[0], weight[1]);
}

/* ---- Weights --------------------------------------------------------------------------------- */

static size_t b_index(int32_t k, int32_t n)
{
    int32_t tile = n / SUB;
    int32_t pair = k % 16;
    return (size_t)((tile * 16 + pair) * 32 + n % SUB * 2 + k / 16);
}

static int32_t b_terms(enum ld_dtype stored)
{
    return stored == LD_DTYPE_BF16 ? 1 : stored == LD_DTYPE_F16 ? 2 : 3;
}

/* Exponents out of the ordinary: zero, subnormals, infinities, NaN. */
static inline void expand_f16_any(unsigned char *dst, __m512i bits)
{
    const __m512i upper = _mm512_set1_epi32((int32_t)0xFFFF0000u);
    __m512 even = _mm512_cvtph_ps(_mm512_cvtepi32_epi16(bits));
    __m512 odd = _mm512_cvtph_ps(_mm512_cvtepi32_epi16(_mm512_srli_epi32(bits, 16)));
    __m512i even_bits = _mm512_castps_si512(even);
    __m512i odd_bits = _mm512_castps_si512(odd);
    _mm512_store_si512((void *)dst, pair_upper(even_bits, odd_bits));
    even = _mm512_sub_ps(even, _mm512_castsi512_ps(_mm512_and_si512(even_bits, upper)));
    odd = _mm512_sub_ps(odd, _mm512_castsi512_ps(_mm512_and_si512(odd_bits, upper)));
    _mm512_store_si512((void *)(dst + TERM_BYTES),
                       pair_upper(_mm512_castps_si512(even), _mm512_castps_si512(odd)));
}

/*
 * 32 float16 -> their bfloat16 terms: 8 significant bits, then the 3 that are left. A normal
 * float16 s eeeee mmmmmmm nnn is 1.mmmmmmm 2^(e - 15), so its first term is the same bits with the
 * exponent moved by 127 - 15, and the second nnn 2^(e - 25): the bfloat16 of nnn from a table, with
 * e - 25 added to its exponent, where nnn is not zero.
 */
static inline void expand_f16(unsigned char *dst, __m512i bits)
{
    static const uint16_t small[32] = {
#define SMALL 0, 0x3F80, 0x4000, 0x4040, 0x4080, 0x40A0, 0x40C0, 0x40E0 /* 0 .. 7 */
        SMALL, SMALL, SMALL, SMALL /* vpermw reads 5 bits of its index, two of them not ours */
#undef SMALL
    };
    __m512i above = _mm512_add_epi16(bits, _mm512_set1_epi16(0x0400)); /* e + 1 is 1 or 32? */
    if (_mm512_testn_epi16_mask(above, _mm512_set1_epi16(0x7800)) != 0) {
        expand_f16_any(dst, bits);
        return;
    }
    const __m512i sign = _mm512_set1_epi16((int16_t)0x8000);
    __m512i shifted = _mm512_srli_epi16(_mm512_andnot_si512(sign, bits), 3);
    __m512i first = _mm512_add_epi16(shifted, _mm512_set1_epi16((127 - 15) << 7));
    __m512i exponent = _mm512_and_si512(shifted, _mm512_set1_epi16(0x1F << 7));
    __m512i second = _mm512_permutexvar_epi16(bits, _mm512_loadu_si512((const void *)small));
    second = _mm512_add_epi16(second, exponent);
    __mmask32 rest = _mm512_test_epi16_mask(bits, _mm512_set1_epi16(7));
    second = _mm512_maskz_sub_epi16(rest, second, _mm512_set1_epi16(25 << 7));
    /* Truth table of a | (b & c). */
    first = _mm512_ternarylogic_epi32(first, sign, bits, 0xF8);
    second = _mm512_ternarylogic_epi32(second, sign, bits, 0xF8);
    _mm512_store_si512((void *)dst, first);
    _mm512_store_si512((void *)(dst + TERM_BYTES), second);
}

static void expand(unsigned char *dst, const void *src, enum ld_dtype stored, size_t steps)
{
    const unsigned char *from = src;
    int32_t terms = b_terms(stored);
    for (size_t s = 0; s < steps; s++, dst += (size_t)terms * TERM_BYTES) {
        for (size_t line = 0; line < TERM_BYTES; line += ROW_BYTES) {
            if (stored == LD_DTYPE_F16) {
                expand_f16(dst + line, _mm512_loadu_si512((const void *)from));
                from += 64;
                continue;
            }
            /* Float32 stored as (even, odd) pairs: part them, then split as activations. */
            const __m512i evens =
                _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
            const __m512i odds =
                _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
            vf a = vf_load((const float *)(const void *)from);
            vf b = vf_load((const float *)(const void *)(from + 64));
            split_step(dst + line, TERM_BYTES, _mm512_permutex2var_ps(a, evens, b),
                       _mm512_permutex2var_ps(a, odds, b));
            from += 128;
        }
    }
}

/* ---- Multiplying ----------------------------------------------------------------------------- */

struct tile_config {
    uint8_t palette, start_row;
    uint8_t reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
};

/* All eight tiles: 16 rows of 64 bytes. Constant, and not built on the stack: the intrinsic of some
 * compilers says that it reads 8 bytes, and they drop the stores to the others. */
static const struct tile_config config = {
    .palette = 1,
    .row_bytes = {ROW_BYTES, ROW_BYTES, ROW_BYTES, ROW_BYTES, ROW_BYTES, ROW_BYTES, ROW_BYTES,
                  ROW_BYTES},
    .rows = {SUB, SUB, SUB, SUB, SUB, SUB, SUB, SUB},
};

static void begin(void)
{
    _tile_loadconfig(&config);
}

static void end(void)
{
    _tile_release();
}

/* Tiles 0..3 accumulate (row tile, column tile) = (0,0) (0,1) (1,0) (1,1); 4, 5 hold A and 6, 7
 * hold B. `two_rows` and `two_columns` are constants where these are inlined. */
#define LOAD_A(term)                                                                               \
    do {                                                                                           \
        _tile_loadd(4, a0 + (term)*a_term, ROW_BYTES);                                             \
        if (two_rows)                                                                              \
            _tile_loadd(5, a1 + (term)*a_term, ROW_BYTES);                                         \
    } while (0)
#define LOAD_B(term)                                                                               \
    do {                                                                                           \
        _tile_loadd(6, b + (term)*TERM_BYTES, ROW_BYTES);                                          \
        if (two_columns)                                                                           \
            _tile_loadd(7, b + (term)*TERM_BYTES + TILE_BYTES, ROW_BYTES);                         \
    } while (0)
#define ADD_PRODUCT()                                                                              \
    do {                                                                                           \
        _tile_dpbf16ps(0, 4, 6);                                                                   \
        if (two_columns)                                                                           \
            _tile_dpbf16ps(1, 4, 7);                                                               \
        if (two_rows) {                                                                            \
            _tile_dpbf16ps(2, 5, 6);                                                               \
            if (two_columns)                                                                       \
                _tile_dpbf16ps(3, 5, 7);                                                           \
        }                                                                                          \
    } while (0)

/*
 * All steps into the accumulators. Operands stay loaded from one product to the next.
 *
 * After about 0.6 microseconds without a tile store the next one costs 0.3 microseconds extra
 * (measured on this generation of Xeons; vector stores do not help), a quarter of a call. So a tile
 * is stored to `idle`, where nobody reads it, every few steps.
 */
static inline __attribute__((always_inline)) void multiply_steps(const struct ld_micro_call *call,
                                                                 bool two_rows, bool two_columns,
                                                                 int32_t b_terms, float *idle)
{
    enum { AWAKE_STEPS = 4 };
    const unsigned char *b = call->b;
    size_t a_term = call->a_term_stride;
    uint32_t step = 0;
    for (int32_t block = 0; block < call->blocks; block++) {
        for (int32_t tap = 0; tap < call->taps; tap++) {
            size_t at = (size_t)block * call->a_block_stride + call->tap_offset[tap];
            const unsigned char *a0 = call->a[0] + at;
            const unsigned char *a1 = two_rows ? call->a[1] + at : a0;
            LOAD_B(0);
            LOAD_A(2);
            ADD_PRODUCT();
            LOAD_A(1);
            ADD_PRODUCT();
            if (b_terms >= 2) {
                LOAD_B(1);
                ADD_PRODUCT();
            }
            LOAD_A(0);
            if (b_terms >= 2)
                ADD_PRODUCT();
            if (b_terms == 3) {
                LOAD_B(2);
                ADD_PRODUCT();
            }
            if (b_terms >= 2)
                LOAD_B(0);
            ADD_PRODUCT();
            if (++step % AWAKE_STEPS == 0)
                _tile_stored(6, idle, ROW_BYTES);
            b += (size_t)b_terms * TERM_BYTES;
        }
    }
}

/* The steps of one term behind the others. */
static inline __attribute__((always_inline)) void multiply_tail(const struct ld_micro_call *call,
                                                                bool two_rows, bool two_columns)
{
    size_t at = (size_t)call->blocks * call->a_block_stride;
    size_t a_term = call->a_term_stride;
    const unsigned char *b = call->b + (size_t)(call->blocks * call->b_terms) * TERM_BYTES;
    const unsigned char *a0 = call->a[0] + at;
    const unsigned char *a1 = two_rows ? call->a[1] + at : a0;
    for (int32_t step = 0; step < call->tail; step++, a0 += a_term, a1 += a_term) {
        LOAD_A(0);
        LOAD_B(0);
        ADD_PRODUCT();
        b += TERM_BYTES;
    }
}

static inline void add_tile(float *c, const float *sum)
{
    for (int32_t i = 0; i < SUB; i++, c += NR, sum += NR) {
        vf_store(c, vf_add(vf_load(c), vf_load(sum)));
        vf_store(c + VF, vf_add(vf_load(c + VF), vf_load(sum + VF)));
    }
}

static inline __attribute__((always_inline)) void multiply_tiles(const struct ld_micro_call *call,
                                                                 bool two_rows, bool two_columns)
{
    _Alignas(64) float sum[2 * SUB * NR];
    float *c0 = call->add ? sum : call->c[0];
    float *c1 = call->add ? sum + SUB * NR : call->c[two_rows ? 1 : 0];
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    if (call->b_terms == 2)
        multiply_steps(call, two_rows, two_columns, 2, sum);
    else if (call->b_terms == 3)
        multiply_steps(call, two_rows, two_columns, 3, sum);
    else
        multiply_steps(call, two_rows, two_columns, 1, sum);
    if (call->tail > 0)
        multiply_tail(call, two_rows, two_columns);
    _tile_stored(0, c0, NR * 4);
    if (two_columns)
        _tile_stored(1, c0 + SUB, NR * 4);
    if (two_rows)
        _tile_stored(2, c1, NR * 4);
    if (two_rows && two_columns)
        _tile_stored(3, c1 + SUB, NR * 4);
    if (call->add) {
        add_tile(call->c[0], sum);
        if (two_rows)
            add_tile(call->c[1], sum + SUB * NR);
    }
}

static void multiply(const struct ld_micro_call *call)
{
    bool two_columns = call->columns > SUB;
    if (call->tiles == 2 && two_columns)
        multiply_tiles(call, true, true);
    else if (call->tiles == 2)
        multiply_tiles(call, true, false);
    else if (two_columns)
        multiply_tiles(call, false, true);
    else
        multiply_tiles(call, false, false);
}

/* ---- Attention operands ---------------------------------------------------------------------- */

/*
 * Of a head's values whole steps of 32 are split like any other operand. The r < 32 that are left
 * would waste most of a step in each of its six products, so their products are laid behind one
 * another instead, as one K of 6 r values: q as (q3 q1 q2 q2 q1 q1), k as (k1 k3 k2 k1 k2 k1).
 */
static const uint8_t q_order[6] = {2, 0, 1, 1, 0, 0};
static const uint8_t k_order[6] = {0, 2, 1, 0, 1, 0};

static struct ld_micro_qk qk(int32_t d)
{
    return (struct ld_micro_qk){.blocks = d / LD_STEP_K,
                                .last_k = LD_STEP_K,
                                .tail = (6 * (d % LD_STEP_K) + LD_STEP_K - 1) / LD_STEP_K,
                                .a_terms = TERMS,
                                .b_terms = TERMS};
}

enum { CHAIN_MAX = 7 * LD_STEP_K };

/* d < 32 values as a chain of 6 d bfloat16 in `order`, zeros up to a whole step. */
static void chain_row(uint16_t *chain, const float *src, int32_t d, const uint8_t order[6])
{
    const __m512i upper = _mm512_set1_epi32((int32_t)0xFFFF0000u);
    for (int32_t i = 0; i < d; i += VF) {
        __mmask16 lanes = vf_mask(d - i);
        vf rest = vf_load_part(src + i, d - i);
        __m256i terms[TERMS];
        for (int32_t t = 0; t < TERMS; t++) {
            __m512i bits = _mm512_castps_si512(rest);
            terms[t] = _mm512_cvtepi32_epi16(_mm512_srli_epi32(bits, 16));
            rest = vf_sub(rest, _mm512_castsi512_ps(_mm512_and_si512(bits, upper)));
        }
        for (int32_t p = 0; p < 6; p++)
            _mm256_mask_storeu_epi16(chain + p * d + i, lanes, terms[order[p]]);
    }
    for (int32_t i = 6 * d; i % LD_STEP_K != 0; i++)
        chain[i] = 0;
}

static void pack_q(unsigned char *dst, size_t block_stride, size_t term_stride, const float *src,
                   size_t src_stride, int32_t rows, int32_t d, double scale)
{
    struct ld_micro_qk shape = qk(d);
    float row[LD_HEAD_DIM_MAX];
    uint16_t chain[CHAIN_MAX];
    for (int32_t r = 0; r < rows; r++, dst += ROW_BYTES, src += src_stride) {
        vf_scaled_row(row, src, d, scale);
        unsigned char *at = dst;
        for (int32_t block = 0; block < shape.blocks; block++, at += block_stride)
            pack_a(at, term_stride, row + block * LD_STEP_K, 0, 1, LD_STEP_K);
        if (shape.tail > 0)
            chain_row(chain, row + shape.blocks * LD_STEP_K, d % LD_STEP_K, q_order);
        for (int32_t step = 0; step < shape.tail; step++, at += term_stride)
            memcpy(at, chain + step * LD_STEP_K, ROW_BYTES);
    }
}

/* Key n of a panel: its pairs of values go down one column of 32-bit cells. */
static inline void place_pairs(unsigned char *dst, int32_t n, const unsigned char *pairs)
{
    uint32_t *cell = (uint32_t *)(void *)(dst + (n / SUB) * TILE_BYTES) + n % SUB;
    for (int32_t r = 0; r < 16; r++, pairs += 4)
        memcpy(cell + r * 16, pairs, 4);
}

static void pack_k(unsigned char *dst, const float *src, size_t src_stride, int32_t keys, int32_t d)
{
    struct ld_micro_qk shape = qk(d);
    uint16_t chain[CHAIN_MAX];
    _Alignas(64) unsigned char terms[TERMS * ROW_BYTES];
    if (keys < NR)
        memset(dst, 0, (size_t)(shape.blocks * TERMS + shape.tail) * TERM_BYTES);
    for (int32_t n = 0; n < keys; n++, src += src_stride) {
        unsigned char *at = dst;
        for (int32_t block = 0; block < shape.blocks; block++) {
            pack_a(terms, ROW_BYTES, src + block * LD_STEP_K, 0, 1, LD_STEP_K);
            for (int32_t t = 0; t < TERMS; t++, at += TERM_BYTES)
                place_pairs(at, n, terms + t * ROW_BYTES);
        }
        if (shape.tail > 0)
            chain_row(chain, src + shape.blocks * LD_STEP_K, d % LD_STEP_K, k_order);
        for (int32_t step = 0; step < shape.tail; step++, at += TERM_BYTES)
            place_pairs(at, n, (const unsigned char *)(chain + step * LD_STEP_K));
    }
}

/* Row r of both tiles holds keys (r, r + 16): the pair order of softmax weights. */
static void pack_v(unsigned char *dst, const float *src, size_t src_stride, int32_t keys,
                   int32_t columns)
{
    for (int32_t r = 0; r < 16; r++) {
        for (int32_t tile = 0; tile < 2; tile++) {
            int32_t n = columns - tile * SUB;
            const float *at = src + (size_t)r * src_stride + tile * SUB;
            vf low = vf_set(0.0f);
            vf high = vf_set(0.0f);
            if (n > 0 && r < keys)
                low = vf_load_part(at, n);
            if (n > 0 && r + 16 < keys)
                high = vf_load_part(at + 16 * src_stride, n);
            split_step(dst + tile * TILE_BYTES + r * ROW_BYTES, TERM_BYTES, low, high);
        }
    }
}

#include "kernels/cpu/finish_simd.h"
#include "kernels/cpu/level_table.h"
#include "kernels/cpu/softmax_simd.h"

static void finish(const struct ld_micro_finish *f)
{
    finish_tile(f, SUB, NR);
}

static void softmax(const struct ld_micro_softmax *s)
{
    softmax_block(s, SUB, NR, ROW_BYTES);
}

static void normalise(float *y, size_t y_stride, int32_t rows, const float *o,
                      int32_t o_panel_tiles, int32_t columns, const float *total)
{
    softmax_normalise(y, y_stride, rows, o, o_panel_tiles, columns, total, SUB, NR);
}

static const struct ld_micro micro = {
    .name = "AMX",
    .sub = SUB,
    .tiles = 2,
    .nr = NR,
    .row_bytes = ROW_BYTES,
    .a_terms = TERMS,
    .term_bytes = TERM_BYTES,
    .ready = LD_DTYPE_BF16,
    .begin = begin,
    .end = end,
    .pack_a = pack_a,
    .b_index = b_index,
    .b_terms = b_terms,
    .expand = expand,
    .multiply = multiply,
    .finish = finish,
    .qk = qk,
    .pack_q = pack_q,
    .pack_k = pack_k,
    .pack_v = pack_v,
    .softmax = softmax,
    .normalise = normalise,
};

LEVEL_TABLE(amx, "AMX")
