/*
 * Integer, logic, compare, select, move and integer conversion instructions of PTX.
 *
 * A lane's work is one expression (lanes.h). Sums and products are of unsigned type, where overflow
 * is defined; signed types only order, divide and shift. Shifts by more than the width give what
 * infinitely many single shifts would. Division by zero does not trap on a GPU: all ones, as its
 * hardware gives.
 *
 * Source: PTX ISA 9.0, sections 9.7.1, 9.7.6, 9.7.8, 9.7.9.
 */
#include "tests/ptx/lanes.h"

#include <string.h>

/* ---- Adding and multiplying ------------------------------------------------------------------ */

/* One handler serves both signs of a width where the low bits do not depend on the sign. */
#define WIDTH(bits, U, S)                                                                          \
    PTX_BINARY(add_##bits, U, U, U, x + y)                                                         \
    PTX_BINARY(sub_##bits, U, U, U, x - y)                                                         \
    PTX_UNARY(neg_##bits, U, U, 0u - x)                                                            \
    PTX_UNARY(abs_##bits, U, U, (S)x < 0 ? 0u - x : x)                                             \
    PTX_BINARY(and_##bits, U, U, U, (x & y))                                                       \
    PTX_BINARY(or_##bits, U, U, U, x | y)                                                          \
    PTX_BINARY(xor_##bits, U, U, U, x ^ y)                                                         \
    PTX_UNARY(not_##bits, U, U, ~x)                                                                \
    PTX_UNARY(cnot_##bits, U, U, x == 0)                                                           \
    PTX_BINARY(min_s##bits, S, S, S, x < y ? x : y)                                                \
    PTX_BINARY(max_s##bits, S, S, S, x > y ? x : y)                                                \
    PTX_BINARY(min_u##bits, U, U, U, x < y ? x : y)                                                \
    PTX_BINARY(max_u##bits, U, U, U, x > y ? x : y)                                                \
    PTX_BINARY(shl_##bits, U, U, uint32_t, y < bits ? (U)(x << (y & (bits - 1))) : 0)              \
    PTX_BINARY(shr_u##bits, U, U, uint32_t, y < bits ? x >> (y & (bits - 1)) : 0)                  \
    PTX_BINARY(shr_s##bits, S, S, uint32_t, x >> (y < bits ? y : bits - 1))                        \
    PTX_UNARY(mov_##bits, U, U, x)                                                                 \
    PTX_COMPARE(setp_eq_##bits, U, x == y)                                                         \
    PTX_COMPARE(setp_ne_##bits, U, x != y)                                                         \
    PTX_COMPARE(setp_lt_s##bits, S, x < y)                                                         \
    PTX_COMPARE(setp_le_s##bits, S, x <= y)                                                        \
    PTX_COMPARE(setp_gt_s##bits, S, x > y)                                                         \
    PTX_COMPARE(setp_ge_s##bits, S, x >= y)                                                        \
    PTX_COMPARE(setp_lt_u##bits, U, x < y)                                                         \
    PTX_COMPARE(setp_le_u##bits, U, x <= y)                                                        \
    PTX_COMPARE(setp_gt_u##bits, U, x > y)                                                         \
    PTX_COMPARE(setp_ge_u##bits, U, x >= y)                                                        \
    PTX_OP(selp_##bits)                                                                            \
    {                                                                                              \
        const U *a = PTX_PLACE(U, 1), *b = PTX_PLACE(U, 2);                                        \
        const uint32_t p = *PTX_PLACE(uint32_t, 3);                                                \
        U spare[PTX_LANES], *place = PTX_PLACE(U, 0), *d = w->active == PTX_ALL ? place : spare;   \
        PTX_EACH d[i] = p >> i & 1 ? a[i] : b[i];                                                  \
        if (d == spare)                                                                            \
            ptx_blend(place, spare, sizeof(U), w->active);                                         \
    }

WIDTH(16, uint16_t, int16_t)
WIDTH(32, uint32_t, int32_t)
WIDTH(64, uint64_t, int64_t)

#define DIVISIONS(bits, U, S)                                                                      \
    PTX_BINARY(div_u##bits, U, U, U, y == 0 ? (U) ~(U)0 : x / y)                                   \
    PTX_BINARY(rem_u##bits, U, U, U, y == 0 ? x : x % y)                                           \
    PTX_BINARY(div_s##bits, S, S, S, y == 0 ? -1 : y == -1 ? (S)((U)0 - (U)x) : x / y)             \
    PTX_BINARY(rem_s##bits, S, S, S, y == 0 ? x : y == -1 ? 0 : x % y)
DIVISIONS(16, uint16_t, int16_t)
DIVISIONS(64, uint64_t, int64_t)

/*
 * 32 bits through double, which there are vectors for. Its quotient, cut, is the true one: that is
 * at least 2^-32 of itself below the next integer, and double errs by 2^-53.
 */
#define QUOTIENT(x, y) (uint32_t)(int64_t)((double)(x) / (double)((y) + ((y) == 0)))
PTX_BINARY(div_u32, uint32_t, uint32_t, uint32_t, (y == 0 ? UINT32_MAX : 0) | QUOTIENT(x, y))
PTX_BINARY(div_s32, uint32_t, int32_t, int32_t, (y == 0 ? UINT32_MAX : 0) | QUOTIENT(x, y))
PTX_BINARY(rem_u32, uint32_t, uint32_t, uint32_t, x - QUOTIENT(x, y) * y)
PTX_BINARY(rem_s32, uint32_t, int32_t, int32_t, (uint32_t)x - QUOTIENT(x, y) * (uint32_t)y)

/* P: unsigned and at least 32 bits wide, where no product overflows into a sign. */
#define LOW_PRODUCTS(bits, U, P)                                                                   \
    PTX_BINARY(mul_lo_##bits, U, U, U, ((P)x * y))                                                 \
    PTX_TERNARY(mad_lo_##bits, U, U, U, U, z + (P)x * y)

/* W: twice as wide as U, so the whole product fits. For 64 bits it is the compiler's 128 bits. */
#define HIGH_PRODUCTS(bits, U, S, W, SW)                                                           \
    PTX_BINARY(mul_hi_u##bits, U, U, U, ((W)x * y) >> bits)                                        \
    PTX_BINARY(mul_hi_s##bits, U, S, S, ((SW)x * y) >> bits)                                       \
    PTX_TERNARY(mad_hi_u##bits, U, U, U, U, ((W)x * y >> bits) + z)                                \
    PTX_TERNARY(mad_hi_s##bits, U, S, S, U, (U)((SW)x * y >> bits) + z)

#define WIDE_PRODUCTS(bits, U, S, W, SW)                                                           \
    PTX_BINARY(mul_wide_u##bits, W, U, U, ((W)x * y))                                              \
    PTX_BINARY(mul_wide_s##bits, W, S, S, ((SW)x * y))                                             \
    PTX_TERNARY(mad_wide_u##bits, W, U, U, W, z + (W)x * y)                                        \
    PTX_TERNARY(mad_wide_s##bits, W, S, S, W, (W)((SW)x * y) + z)

__extension__ typedef unsigned __int128 wide_u;
__extension__ typedef __int128 wide_s;

LOW_PRODUCTS(16, uint16_t, uint32_t)
LOW_PRODUCTS(32, uint32_t, uint32_t)
LOW_PRODUCTS(64, uint64_t, uint64_t)
HIGH_PRODUCTS(16, uint16_t, int16_t, uint32_t, int32_t)
HIGH_PRODUCTS(32, uint32_t, int32_t, uint64_t, int64_t)
HIGH_PRODUCTS(64, uint64_t, int64_t, wide_u, wide_s)
WIDE_PRODUCTS(16, uint16_t, int16_t, uint32_t, int32_t)
WIDE_PRODUCTS(32, uint32_t, int32_t, uint64_t, int64_t)

static inline int32_t saturated(int64_t x)
{
    return x > INT32_MAX ? INT32_MAX : x < INT32_MIN ? INT32_MIN : (int32_t)x;
}
PTX_BINARY(add_sat_s32, int32_t, int32_t, int32_t, saturated((int64_t)x + y))
PTX_BINARY(sub_sat_s32, int32_t, int32_t, int32_t, saturated((int64_t)x - y))
PTX_TERNARY(mad_hi_sat_s32, int32_t, int32_t, int32_t, int32_t,
            saturated(((int64_t)x * y >> 32) + z))

/* ---- Bits ------------------------------------------------------------------------------------ */

static inline uint32_t reversed(uint32_t x)
{
    x = (x >> 1 & 0x55555555u) | (x & 0x55555555u) << 1;
    x = (x >> 2 & 0x33333333u) | (x & 0x33333333u) << 2;
    x = (x >> 4 & 0x0f0f0f0fu) | (x & 0x0f0f0f0fu) << 4;
    return __builtin_bswap32(x);
}
PTX_UNARY(popc_32, uint32_t, uint32_t, __builtin_popcount(x))
PTX_UNARY(popc_64, uint32_t, uint64_t, __builtin_popcountll(x))
PTX_UNARY(clz_32, uint32_t, uint32_t, x == 0 ? 32 : __builtin_clz(x))
PTX_UNARY(clz_64, uint32_t, uint64_t, x == 0 ? 64 : __builtin_clzll(x))
PTX_UNARY(brev_32, uint32_t, uint32_t, reversed(x))
PTX_UNARY(brev_64, uint64_t, uint64_t,
          (uint64_t)reversed((uint32_t)x) << 32 | reversed((uint32_t)(x >> 32)))

/* The highest bit unlike the sign, all ones if there is none. */
static inline uint32_t highest(uint64_t x)
{
    return x == 0 ? UINT32_MAX : 63u - (uint32_t)__builtin_clzll(x);
}
PTX_UNARY(bfind_u32, uint32_t, uint32_t, highest(x))
PTX_UNARY(bfind_s32, uint32_t, uint32_t, highest(x >> 31 ? ~x : x))
PTX_UNARY(bfind_u64, uint32_t, uint64_t, highest(x))
PTX_UNARY(bfind_s64, uint32_t, uint64_t, highest(x >> 63 ? ~x : x))

/* `count` ones, of at most 64. */
static inline uint64_t ones(uint32_t count)
{
    return count >= 64 ? UINT64_MAX : ((uint64_t)1 << (count & 63)) - 1;
}

/* Field of `length` bits at `from`; above it and above `bits`, the sign's. x is extended to 64
 * bits. */
static inline uint64_t extracted(int64_t x, uint32_t from, uint32_t length, uint32_t bits,
                                 bool sign)
{
    from &= 255;
    length &= 255;
    if (length == 0)
        return 0;
    uint32_t last = from + length - 1 < bits - 1 ? from + length - 1 : bits - 1;
    uint64_t fill = sign && (x >> last & 1) ? UINT64_MAX : 0;
    if (from >= bits)
        return fill;
    uint64_t kept = ones(last - from + 1);
    return ((uint64_t)(x >> from) & kept) | (fill & ~kept);
}
PTX_TERNARY(bfe_u32, uint32_t, uint32_t, uint32_t, uint32_t, extracted(x, y, z, 32, false))
PTX_TERNARY(bfe_s32, uint32_t, int32_t, uint32_t, uint32_t, extracted(x, y, z, 32, true))
PTX_TERNARY(bfe_u64, uint64_t, int64_t, uint32_t, uint32_t, extracted(x, y, z, 64, false))
PTX_TERNARY(bfe_s64, uint64_t, int64_t, uint32_t, uint32_t, extracted(x, y, z, 64, true))

/* A mask of `length` bits from `from` on, of a type of `bits` bits. */
#define FIELD(U, bits, from, length)                                                               \
    (((length & 255) < bits ? ((U)1 << (length & (bits - 1))) - 1 : ~(U)0)                         \
         << (from & (bits - 1)) &                                                                  \
     ((from & 255) < bits ? ~(U)0 : 0))
#define INSERTED(U, bits, field, x, into, from)                                                    \
    ((into & ~(field)) | (x << (from & (bits - 1)) & (field)))
#define QUATERNARY(name, D, A, B, C, E, expression)                                                \
    PTX_LANEWISE(name, D, const A *a = PTX_PLACE(A, 1); const B *b = PTX_PLACE(B, 2);              \
                 const C *c = PTX_PLACE(C, 3); const E *e = PTX_PLACE(E, 4), const A x = a[i];     \
                 const B y = b[i]; const C z = c[i]; const E t = e[i], expression)
QUATERNARY(bfi_32, uint32_t, uint32_t, uint32_t, uint32_t, uint32_t,
           INSERTED(uint32_t, 32, FIELD(uint32_t, 32, z, t), x, y, z))
QUATERNARY(bfi_64, uint64_t, uint64_t, uint64_t, uint32_t, uint32_t,
           INSERTED(uint64_t, 64, FIELD(uint64_t, 64, z, t), x, y, z))

/* Funnel shifts: y the high word, x the low one. */
static inline uint64_t pair(uint32_t low, uint32_t high)
{
    return (uint64_t)high << 32 | low;
}
#define CLAMPED(z) ((z) < 32 ? (z) : 32)
PTX_TERNARY(shf_l_clamp, uint32_t, uint32_t, uint32_t, uint32_t,
            CLAMPED(z) == 32 ? x : (uint32_t)(pair(x, y) << (z & 31) >> 32))
PTX_TERNARY(shf_r_clamp, uint32_t, uint32_t, uint32_t, uint32_t, pair(x, y) >> CLAMPED(z))
PTX_TERNARY(shf_l_wrap, uint32_t, uint32_t, uint32_t, uint32_t, pair(x, y) << (z & 31) >> 32)
PTX_TERNARY(shf_r_wrap, uint32_t, uint32_t, uint32_t, uint32_t, pair(x, y) >> (z & 31))

/* A byte of the eight, or its sign eight times. */
static inline uint32_t picked(uint64_t bytes, uint32_t selector)
{
    uint32_t byte = (uint32_t)(bytes >> (selector & 7) * 8) & 255;
    return selector & 8 ? (byte >> 7) * 255 : byte;
}
PTX_TERNARY(prmt, uint32_t, uint32_t, uint32_t, uint32_t,
            picked(pair(x, y), z) | picked(pair(x, y), z >> 4) << 8 |
                picked(pair(x, y), z >> 8) << 16 | picked(pair(x, y), z >> 12) << 24)

/* Bit j of the table where x, y, z have the bits of j = 4x + 2y + z. */
static inline uint32_t looked_up(uint32_t x, uint32_t y, uint32_t z, uint32_t table)
{
    uint32_t sum = 0;
    for (uint32_t j = 0; j < 8; j++) {
        uint32_t here = (j & 4 ? x : ~x) & (j & 2 ? y : ~y) & (j & 1 ? z : ~z);
        sum |= here & (0u - (table >> j & 1));
    }
    return sum;
}
QUATERNARY(lop3, uint32_t, uint32_t, uint32_t, uint32_t, uint32_t, looked_up(x, y, z, t))

/* ---- Predicates ------------------------------------------------------------------------------ */

#define PREDICATE(name, expression)                                                                \
    PTX_OP(name)                                                                                   \
    {                                                                                              \
        const uint32_t x = *PTX_PLACE(uint32_t, 1), y = *PTX_PLACE(uint32_t, op->count - 1);       \
        (void)y;                                                                                   \
        ptx_set_predicate(PTX_PLACE(uint32_t, 0), expression, w->active);                          \
    }
PREDICATE(mov_pred, x)
PREDICATE(not_pred, ~x)
PREDICATE(and_pred, (x & y))
PREDICATE(or_pred, x | y)
PREDICATE(xor_pred, x ^ y)

static uint32_t joined(const char *opcode, uint32_t x, uint32_t c)
{
    if (strstr(opcode, ".and."))
        return x & c;
    return strstr(opcode, ".xor.") ? x ^ c : x | c;
}

void ptx_set_predicates(struct ptx_warp *w, const struct ptx_op *op, uint32_t bits)
{
    uint32_t opposite = ~bits;
    if (op->count > 4) {
        uint32_t c = *PTX_PLACE(uint32_t, 4);
        bits = joined(op->inst->name, bits, c);
        opposite = joined(op->inst->name, opposite, c);
    }
    ptx_set_predicate(PTX_PLACE(uint32_t, 0), bits, w->active);
    ptx_set_predicate(PTX_PLACE(uint32_t, 1), opposite, w->active);
}

/* ---- Moving ---------------------------------------------------------------------------------- */

PTX_BINARY(pack_32, uint32_t, uint16_t, uint16_t, (uint32_t)y << 16 | x)
PTX_BINARY(pack_64, uint64_t, uint32_t, uint32_t, pair(x, y))
QUATERNARY(pack_64_of_16, uint64_t, uint16_t, uint16_t, uint16_t, uint16_t,
           (uint64_t)t << 48 | (uint64_t)z << 32 | (uint64_t)y << 16 | x)

/* The parts of a word, the lowest first, to as many registers; the word may be in the place of none
 * of them. */
#define UNPACK(name, parts, D, A)                                                                  \
    PTX_OP(name)                                                                                   \
    {                                                                                              \
        const A *a = PTX_PLACE(A, parts);                                                          \
        for (int part = 0; part < parts; part++) {                                                 \
            const unsigned shift = (unsigned)part * 8 * (unsigned)sizeof(D);                       \
            D spare[PTX_LANES];                                                                    \
            PTX_EACH spare[i] = (D)(a[i] >> shift);                                                \
            ptx_blend(PTX_PLACE(D, part), spare, sizeof(D), w->active);                            \
        }                                                                                          \
    }
UNPACK(unpack_32, 2, uint16_t, uint32_t)
UNPACK(unpack_64, 2, uint32_t, uint64_t)
UNPACK(unpack_64_to_16, 4, uint16_t, uint64_t)

PTX_UNARY(to_shared_64, uint64_t, uint64_t, x - PTX_SHARED_WINDOW)
PTX_UNARY(from_shared_64, uint64_t, uint64_t, x + PTX_SHARED_WINDOW)

/* ---- Conversions ----------------------------------------------------------------------------- */

/* What may lie in still wider registers, of which the low bits are read. */
#define WIDE_SOURCES(M, ...)                                                                       \
    M(__VA_ARGS__, s8, int8_t, d, int64_t)                                                         \
    M(__VA_ARGS__, u8, uint8_t, d, uint64_t)                                                       \
    M(__VA_ARGS__, s16, int16_t, d, int64_t)                                                       \
    M(__VA_ARGS__, u16, uint16_t, d, uint64_t)                                                     \
    M(__VA_ARGS__, s32, int32_t, d, int64_t)                                                       \
    M(__VA_ARGS__, u32, uint32_t, d, uint64_t)

#define SOURCES(M, ...) PTX_TYPES(M, __VA_ARGS__) WIDE_SOURCES(M, __VA_ARGS__)

/* M for every pair, the result's type first. */
#define PAIRS(M)                                                                                   \
    SOURCES(M, s8, int8_t, h, int16_t)                                                             \
    SOURCES(M, s8, int8_t, w, int32_t)                                                             \
    SOURCES(M, u8, uint8_t, h, uint16_t)                                                           \
    SOURCES(M, u8, uint8_t, w, uint32_t)                                                           \
    SOURCES(M, s16, int16_t, h, int16_t)                                                           \
    SOURCES(M, s16, int16_t, w, int32_t)                                                           \
    SOURCES(M, u16, uint16_t, h, uint16_t)                                                         \
    SOURCES(M, u16, uint16_t, w, uint32_t)                                                         \
    SOURCES(M, s32, int32_t, w, int32_t)                                                           \
    SOURCES(M, u32, uint32_t, w, uint32_t)                                                         \
    SOURCES(M, s64, int64_t, d, int64_t)                                                           \
    SOURCES(M, u64, uint64_t, d, uint64_t)

/* A result is extended to its register by its own sign. */
#define CONVERT(to, T, tl, TL, from, F, fl, FL)                                                    \
    PTX_UNARY(cvt_##to##tl##_##from##fl, TL, FL, (T)(F)x)
PAIRS(CONVERT)

/* .sat: to the nearest value of the type. */
static inline bool above(wide_s x, wide_s bound)
{
    return x > bound;
}
#define LEAST_s8  INT8_MIN
#define LEAST_u8  0
#define LEAST_s16 INT16_MIN
#define LEAST_u16 0
#define LEAST_s32 INT32_MIN
#define LEAST_u32 0
#define LEAST_s64 INT64_MIN
#define LEAST_u64 0
#define MOST_s8   INT8_MAX
#define MOST_u8   UINT8_MAX
#define MOST_s16  INT16_MAX
#define MOST_u16  UINT16_MAX
#define MOST_s32  INT32_MAX
#define MOST_u32  UINT32_MAX
#define MOST_s64  INT64_MAX
#define MOST_u64  UINT64_MAX
#define SATURATE(to, T, tl, TL, from, F, fl, FL)                                                   \
    PTX_UNARY(cvt_sat_##to##tl##_##from##fl, TL, FL,                                               \
              above((F)x, MOST_##to)    ? (T)MOST_##to                                             \
              : above(LEAST_##to, (F)x) ? (T)LEAST_##to                                            \
                                        : (T)(F)x)
PAIRS(SATURATE)

/* ---- The table ------------------------------------------------------------------------------- */

#define BOTH(opcode, bits, act, operands)                                                          \
    PTX_RULE(opcode ".s" #bits, act##_##bits, operands),                                           \
        PTX_RULE(opcode ".u" #bits, act##_##bits, operands)
#define EACH_SIGN(opcode, bits, act, operands)                                                     \
    PTX_RULE(opcode ".s" #bits, act##_s##bits, operands),                                          \
        PTX_RULE(opcode ".u" #bits, act##_u##bits, operands)

/* setp.CmpOp and setp.CmpOp.BoolOp. */
#define SETP(compare, type, act, letter)                                                           \
    PTX_RULE("setp." compare "." type, act, "pP=" letter letter),                                  \
        PTX_RULE("setp." compare ".and." type, act, "pP=" letter letter "p"),                      \
        PTX_RULE("setp." compare ".or." type, act, "pP=" letter letter "p"),                       \
        PTX_RULE("setp." compare ".xor." type, act, "pP=" letter letter "p")

#define WIDTH_RULES(bits, l)                                                                       \
    BOTH("add", bits, add, l "=" l l), BOTH("sub", bits, sub, l "=" l l),                          \
        BOTH("mul.lo", bits, mul_lo, l "=" l l), BOTH("mad.lo", bits, mad_lo, l "=" l l l),        \
        EACH_SIGN("mul.hi", bits, mul_hi, l "=" l l),                                              \
        EACH_SIGN("mad.hi", bits, mad_hi, l "=" l l l), EACH_SIGN("div", bits, div, l "=" l l),    \
        EACH_SIGN("rem", bits, rem, l "=" l l), EACH_SIGN("min", bits, min, l "=" l l),            \
        EACH_SIGN("max", bits, max, l "=" l l), EACH_SIGN("shr", bits, shr, l "=" l "w"),          \
        PTX_RULE("shr.b" #bits, shr_u##bits, l "=" l "w"),                                         \
        PTX_RULE("shl.b" #bits, shl_##bits, l "=" l "w"),                                          \
        PTX_RULE("neg.s" #bits, neg_##bits, l "=" l),                                              \
        PTX_RULE("abs.s" #bits, abs_##bits, l "=" l),                                              \
        PTX_RULE("and.b" #bits, and_##bits, l "=" l l),                                            \
        PTX_RULE("or.b" #bits, or_##bits, l "=" l l),                                              \
        PTX_RULE("xor.b" #bits, xor_##bits, l "=" l l),                                            \
        PTX_RULE("not.b" #bits, not_##bits, l "=" l),                                              \
        PTX_RULE("cnot.b" #bits, cnot_##bits, l "=" l),                                            \
        PTX_RULE("mov.b" #bits, mov_##bits, l "=" l), BOTH("mov", bits, mov, l "=" l),             \
        PTX_RULE("mov.f" #bits, mov_##bits, l "=" l),                                              \
        PTX_RULE("selp.b" #bits, selp_##bits, l "=" l l "p"),                                      \
        BOTH("selp", bits, selp, l "=" l l "p"),                                                   \
        PTX_RULE("selp.f" #bits, selp_##bits, l "=" l l "p"),                                      \
        SETP("eq", "b" #bits, setp_eq_##bits, l), SETP("ne", "b" #bits, setp_ne_##bits, l),        \
        SETP("eq", "s" #bits, setp_eq_##bits, l), SETP("ne", "s" #bits, setp_ne_##bits, l),        \
        SETP("eq", "u" #bits, setp_eq_##bits, l), SETP("ne", "u" #bits, setp_ne_##bits, l),        \
        SETP("lt", "s" #bits, setp_lt_s##bits, l), SETP("le", "s" #bits, setp_le_s##bits, l),      \
        SETP("gt", "s" #bits, setp_gt_s##bits, l), SETP("ge", "s" #bits, setp_ge_s##bits, l),      \
        SETP("lt", "u" #bits, setp_lt_u##bits, l), SETP("le", "u" #bits, setp_le_u##bits, l),      \
        SETP("gt", "u" #bits, setp_gt_u##bits, l), SETP("ge", "u" #bits, setp_ge_u##bits, l),      \
        SETP("lo", "u" #bits, setp_lt_u##bits, l), SETP("ls", "u" #bits, setp_le_u##bits, l),      \
        SETP("hi", "u" #bits, setp_gt_u##bits, l), SETP("hs", "u" #bits, setp_ge_u##bits, l)

#define CONVERT_RULE(to, T, tl, TL, from, F, fl, FL)                                               \
    PTX_RULE("cvt." #to "." #from, cvt_##to##tl##_##from##fl, #tl "=" #fl),                        \
        PTX_RULE("cvt.sat." #to "." #from, cvt_sat_##to##tl##_##from##fl, #tl "=" #fl),

const struct ptx_rule ptx_rules_integer[] = {
    WIDTH_RULES(16, "h"),
    WIDTH_RULES(32, "w"),
    WIDTH_RULES(64, "d"),
    EACH_SIGN("mul.wide", 16, mul_wide, "w=hh"),
    EACH_SIGN("mul.wide", 32, mul_wide, "d=ww"),
    EACH_SIGN("mad.wide", 16, mad_wide, "w=hhw"),
    EACH_SIGN("mad.wide", 32, mad_wide, "d=wwd"),
    PTX_RULE("add.sat.s32", add_sat_s32, "w=ww"),
    PTX_RULE("sub.sat.s32", sub_sat_s32, "w=ww"),
    PTX_RULE("mad.hi.sat.s32", mad_hi_sat_s32, "w=www"),

    PTX_RULE("popc.b32", popc_32, "w=w"),
    PTX_RULE("popc.b64", popc_64, "w=d"),
    PTX_RULE("clz.b32", clz_32, "w=w"),
    PTX_RULE("clz.b64", clz_64, "w=d"),
    PTX_RULE("brev.b32", brev_32, "w=w"),
    PTX_RULE("brev.b64", brev_64, "d=d"),
    EACH_SIGN("bfind", 32, bfind, "w=w"),
    EACH_SIGN("bfind", 64, bfind, "w=d"),
    EACH_SIGN("bfe", 32, bfe, "w=www"),
    EACH_SIGN("bfe", 64, bfe, "d=dww"),
    PTX_RULE("bfi.b32", bfi_32, "w=wwww"),
    PTX_RULE("bfi.b64", bfi_64, "d=ddww"),
    PTX_RULE("shf.l.clamp.b32", shf_l_clamp, "w=www"),
    PTX_RULE("shf.r.clamp.b32", shf_r_clamp, "w=www"),
    PTX_RULE("shf.l.wrap.b32", shf_l_wrap, "w=www"),
    PTX_RULE("shf.r.wrap.b32", shf_r_wrap, "w=www"),
    PTX_RULE("prmt.b32", prmt, "w=www"),
    PTX_RULE("lop3.b32", lop3, "w=wwww"),

    PTX_RULE("mov.pred", mov_pred, "p=p"),
    PTX_RULE("not.pred", not_pred, "p=p"),
    PTX_RULE("and.pred", and_pred, "p=pp"),
    PTX_RULE("or.pred", or_pred, "p=pp"),
    PTX_RULE("xor.pred", xor_pred, "p=pp"),

    PTX_RULE("mov.b32", pack_32, "w=2h"),
    PTX_RULE("mov.b64", pack_64, "d=2w"),
    PTX_RULE("mov.b64", pack_64_of_16, "d=4h"),
    PTX_RULE("mov.b32", unpack_32, "2h=w"),
    PTX_RULE("mov.b64", unpack_64, "2w=d"),
    PTX_RULE("mov.b64", unpack_64_to_16, "4h=d"),

    PTX_RULE("cvta.global.u64", mov_64, "d=d"),
    PTX_RULE("cvta.to.global.u64", mov_64, "d=d"),
    PTX_RULE("cvta.shared.u64", from_shared_64, "d=d"),
    PTX_RULE("cvta.to.shared.u64", to_shared_64, "d=d"),

    PAIRS(CONVERT_RULE){NULL, NULL, NULL, PTX_PLAIN, 0},
};
