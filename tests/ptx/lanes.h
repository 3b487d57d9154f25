/*
 * How integer.c and float.c write an instruction: one expression over x, y, z of a lane, made into
 * a loop over all 32 that the compiler turns into vector instructions.
 *
 * A register is either the same as another operand or does not overlap it (place.c never lets
 * registers of one instruction share a place), so every element may be read right before it is
 * written: that is what PTX_EACH promises to the compiler. When lanes are masked the loop writes to
 * a spare array and the active ones are copied from there.
 */
#ifndef LD_TESTS_PTX_LANES_H
#define LD_TESTS_PTX_LANES_H

#include "tests/ptx/machine.h"

#ifdef __AVX512DQ__
#include <immintrin.h>
#endif

#define PTX_ALL 0xffffffffu

/* clang is told nothing: it makes an error of a loop it was promised and cannot vectorise. */
#ifdef __clang__
#define PTX_EACH for (int i = 0; i < PTX_LANES; i++)
#else
#define PTX_EACH _Pragma("GCC ivdep") for (int i = 0; i < PTX_LANES; i++)
#endif

/* Copies elements of `bytes` from `from` to `to` where `lanes` has a bit. */
static inline void ptx_blend(void *to, const void *from, size_t bytes, uint32_t lanes)
{
    if (bytes == 2) {
        uint16_t *d = to;
        const uint16_t *s = from;
        PTX_EACH d[i] = lanes >> i & 1 ? s[i] : d[i];
    } else if (bytes == 4) {
        uint32_t *d = to;
        const uint32_t *s = from;
        PTX_EACH d[i] = lanes >> i & 1 ? s[i] : d[i];
    } else {
        uint64_t *d = to;
        const uint64_t *s = from;
        PTX_EACH d[i] = lanes >> i & 1 ? s[i] : d[i];
    }
}

#define PTX_PLACE(type, k) ((type *)(void *)(w->file + op->at[k]))
#define PTX_OP(name)       static void name(struct ptx_warp *w, const struct ptx_op *op)

/* D: type of the result. `lane`: declarations of x, y, ... out of arrays that `arrays` declares. */
#define PTX_LANEWISE(name, D, arrays, lane, expression)                                            \
    PTX_OP(name)                                                                                   \
    {                                                                                              \
        arrays;                                                                                    \
        D spare[PTX_LANES], *place = PTX_PLACE(D, 0);                                              \
        D *d = w->active == PTX_ALL ? place : spare;                                               \
        PTX_EACH                                                                                   \
        {                                                                                          \
            lane;                                                                                  \
            d[i] = (D)(expression);                                                                \
        }                                                                                          \
        if (d == spare)                                                                            \
            ptx_blend(place, spare, sizeof(D), w->active);                                         \
    }

#define PTX_UNARY(name, D, A, expression)                                                          \
    PTX_LANEWISE(name, D, const A *a = PTX_PLACE(A, 1), const A x = a[i], expression)

#define PTX_BINARY(name, D, A, B, expression)                                                      \
    PTX_LANEWISE(name, D, const A *a = PTX_PLACE(A, 1);                                            \
                 const B *b = PTX_PLACE(B, 2), const A x = a[i]; const B y = b[i], expression)

#define PTX_TERNARY(name, D, A, B, C, expression)                                                  \
    PTX_LANEWISE(name, D, const A *a = PTX_PLACE(A, 1); const B *b = PTX_PLACE(B, 2);              \
                 const C *c = PTX_PLACE(C, 3), const A x = a[i]; const B y = b[i];                 \
                 const C z = c[i], expression)

/* A bit of every lane's word, which is all ones or zero. */
static inline uint32_t ptx_bits(const uint32_t *yes)
{
#ifdef __AVX512DQ__
    return _mm512_movepi32_mask(_mm512_loadu_si512(yes)) |
           (uint32_t)_mm512_movepi32_mask(_mm512_loadu_si512(yes + 16)) << 16;
#else
    uint32_t bits = 0;
    PTX_EACH bits |= yes[i] & (1u << i);
    return bits;
#endif
}

/* setp: a bit a lane. Operands: p, q (the scratch place if there is none), a, b, then c of .and,
 * .or, .xor. */
#define PTX_COMPARE(name, A, expression)                                                           \
    PTX_OP(name)                                                                                   \
    {                                                                                              \
        const A *a = PTX_PLACE(A, 2), *b = PTX_PLACE(A, 3);                                        \
        uint32_t yes[PTX_LANES];                                                                   \
        PTX_EACH                                                                                   \
        {                                                                                          \
            const A x = a[i], y = b[i];                                                            \
            yes[i] = 0u - (uint32_t)(expression);                                                  \
        }                                                                                          \
        ptx_set_predicates(w, op, ptx_bits(yes));                                                  \
    }

/*
 * Types of cvt: name, C type, and the lane it lies in (letter and type): 8 and 16 bits may lie in
 * wider registers than they need. What is in `...` goes first, to pair each with something else.
 */
#define PTX_TYPES(M, ...)                                                                          \
    M(__VA_ARGS__, s8, int8_t, h, int16_t)                                                         \
    M(__VA_ARGS__, s8, int8_t, w, int32_t)                                                         \
    M(__VA_ARGS__, u8, uint8_t, h, uint16_t)                                                       \
    M(__VA_ARGS__, u8, uint8_t, w, uint32_t)                                                       \
    M(__VA_ARGS__, s16, int16_t, h, int16_t)                                                       \
    M(__VA_ARGS__, s16, int16_t, w, int32_t)                                                       \
    M(__VA_ARGS__, u16, uint16_t, h, uint16_t)                                                     \
    M(__VA_ARGS__, u16, uint16_t, w, uint32_t)                                                     \
    M(__VA_ARGS__, s32, int32_t, w, int32_t)                                                       \
    M(__VA_ARGS__, u32, uint32_t, w, uint32_t)                                                     \
    M(__VA_ARGS__, s64, int64_t, d, int64_t)                                                       \
    M(__VA_ARGS__, u64, uint64_t, d, uint64_t)

static inline void ptx_set_predicate(uint32_t *p, uint32_t bits, uint32_t lanes)
{
    *p = (*p & ~lanes) | (bits & lanes);
}

/* integer.c: writes the results of a setp, joined with c as the opcode says; q's comparison is the
 * opposite. */
void ptx_set_predicates(struct ptx_warp *w, const struct ptx_op *op, uint32_t bits);

#define PTX_RULE(name, act, operands)                                                              \
    {                                                                                              \
        name, act, operands, PTX_PLAIN, 0                                                          \
    }

#endif
