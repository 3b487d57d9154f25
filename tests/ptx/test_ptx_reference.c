/*
 * What PTX says an instruction computes, read from the opcode's name and computed bit by bit, in
 * 128-bit integers or in binary128 arithmetic rounded once. Nothing of it is shared with the rules
 * of integer.c and float.c.
 *
 * Source: PTX ISA 9.0, "Integer Arithmetic Instructions", "Floating Point Instructions",
 * "Comparison and Selection Instructions", "Logic and Shift Instructions", "Data Movement and
 * Conversion Instructions: cvt".
 */
#include "tests/ptx/test_ptx_reference.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

__extension__ typedef __int128 wide;
__extension__ typedef unsigned __int128 wide_u;
#if __LDBL_MANT_DIG__ == 113
typedef long double quad;
#else
__extension__ typedef __float128 quad;
#endif

enum { NEAREST, ZERO, DOWN, UP };

/* ---- An opcode's name ------------------------------------------------------------------------ */

static void read_flag(struct ref_opcode *op, const char *word)
{
    static const char *const directions[] = {"rn", "rz", "rm", "rp"};
    static const char *const integrals[] = {"rni", "rzi", "rmi", "rpi"};
    for (int d = 0; d < 4; d++) {
        if (strcmp(word, directions[d]) == 0 || strcmp(word, integrals[d]) == 0) {
            op->direction = d;
            op->integral = strcmp(word, integrals[d]) == 0;
            return;
        }
    }
    if (strcmp(word, "ftz") == 0)
        op->ftz = true;
    else if (strcmp(word, "sat") == 0)
        op->sat = true;
    else if (strcmp(word, "relu") == 0)
        op->relu = true;
    else if (strcmp(word, "NaN") == 0)
        op->nan = true;
    else if (op->words < REF_WORDS)
        op->word[op->words++] = word;
    else
        fail_msg("%s: too many words", op->rule->name);
}

void ref_read(struct ref_opcode *op, const struct ptx_rule *rule)
{
    *op = (struct ref_opcode){.rule = rule, .direction = NEAREST};
    assert_true(strlen(rule->name) < sizeof op->text);
    memcpy(op->text, rule->name, strlen(rule->name) + 1);
    char *rest = op->text;
    for (char *word = strtok_r(op->text, ".", &rest); word; word = strtok_r(NULL, ".", &rest))
        read_flag(op, word);
    op->type = op->word[op->words - 1];
}

static bool is(const char *text, const char *other)
{
    return strcmp(text, other) == 0;
}

static bool names(const struct ref_opcode *op, const char *first)
{
    return is(op->word[0], first);
}

/* Bits of a type: "s32", "b64", "f16", "bf16". */
static int type_bits(const char *type)
{
    return atoi(type + strcspn(type, "0123456789"));
}

bool ref_is_float(const char *type)
{
    return type[0] == 'f' || (type[0] == 'b' && type[1] == 'f');
}

/* ---- Integers -------------------------------------------------------------------------------- */

static uint64_t low(wide x, int bits)
{
    return bits >= 64 ? (uint64_t)x : (uint64_t)x & (((uint64_t)1 << bits) - 1);
}

/* A value of a type, signed or not. */
static wide number(uint64_t bits, const char *type)
{
    int n = type_bits(type);
    wide x = low((wide)bits, n);
    return type[0] == 's' && (x >> (n - 1) & 1) ? x - ((wide)1 << n) : x;
}

static wide clamp(wide x, const char *type)
{
    int n = type_bits(type);
    wide least = type[0] == 's' ? -((wide)1 << (n - 1)) : 0;
    wide most = ((wide)1 << (type[0] == 's' ? n - 1 : n)) - 1;
    return x < least ? least : x > most ? most : x;
}

static uint64_t bit(uint64_t x, int i)
{
    return x >> i & 1;
}

/* The integer families whose operands are all of the type. */
static bool want_sum(const struct ref_opcode *op, const uint64_t *s, uint64_t *d)
{
    const char *t = op->type, *part = op->words > 2 ? op->word[1] : "";
    int n = type_bits(t);
    wide x = number(s[0], t), y = number(s[1], t), z = number(s[2], t), sum;
    if (names(op, "add"))
        sum = x + y;
    else if (names(op, "sub"))
        sum = x - y;
    else if (names(op, "mul") || names(op, "mad"))
        sum = t[0] == 'u' ? (wide)((wide_u)x * (wide_u)y) : x * y;
    else if (names(op, "div"))
        sum = y == 0 ? -1 : x / y;
    else if (names(op, "rem"))
        sum = y == 0 ? x : x % y;
    else if (names(op, "min"))
        sum = x < y ? x : y;
    else if (names(op, "max"))
        sum = x > y ? x : y;
    else if (names(op, "neg"))
        sum = -x;
    else if (names(op, "abs"))
        sum = x < 0 ? -x : x;
    else
        return false;
    if (is(part, "hi"))
        sum = t[0] == 'u' ? (wide)((wide_u)sum >> n) : sum >> n;
    if (names(op, "mad"))
        sum = (wide)((wide_u)sum + (wide_u)(is(part, "wide") ? (wide)s[2] : z));
    *d = low(op->sat ? clamp(sum, t) : sum, is(part, "wide") ? 2 * n : n);
    return true;
}

static bool want_logic(const struct ref_opcode *op, const uint64_t *s, uint64_t *d)
{
    int n = is(op->type, "pred") ? 1 : type_bits(op->type);
    uint64_t sum = 0;
    for (int i = 0; i < n; i++) {
        uint64_t x = bit(s[0], i), y = bit(s[1], i), here;
        if (names(op, "and"))
            here = x && y;
        else if (names(op, "or"))
            here = x || y;
        else if (names(op, "xor"))
            here = x != y;
        else if (names(op, "not"))
            here = !x;
        else if (names(op, "cnot"))
            here = s[0] == 0 && i == 0;
        else if (names(op, "lop3"))
            here = bit(s[3], (int)(4 * x + 2 * y + bit(s[2], i)));
        else
            return false;
        sum |= here << i;
    }
    *d = sum;
    return true;
}

/* One bit at a time. */
static bool want_shift(const struct ref_opcode *op, const uint64_t *s, uint64_t *d)
{
    int n = type_bits(op->type);
    uint64_t x = s[0];
    if (names(op, "shl") || names(op, "shr")) {
        uint64_t sign = op->type[0] == 's' ? bit(x, n - 1) << (n - 1) : 0;
        for (uint64_t i = 0; i < (s[1] < 70 ? s[1] : 70); i++)
            x = names(op, "shl") ? low((wide)x << 1, n) : x >> 1 | sign;
        *d = x;
        return true;
    }
    if (!names(op, "shf"))
        return false;
    uint64_t count = is(op->word[2], "wrap") ? s[2] % 32 : s[2] < 32 ? s[2] : 32, high = s[1];
    for (uint64_t i = 0; i < count; i++) {
        uint64_t pair = high << 32 | x;
        pair = is(op->word[1], "l") ? pair << 1 : pair >> 1;
        high = pair >> 32;
        x = pair & UINT32_MAX;
    }
    *d = is(op->word[1], "l") ? high : x;
    return true;
}

static bool want_bits(const struct ref_opcode *op, const uint64_t *s, uint64_t *d)
{
    int n = type_bits(op->type), top = -1, count = 0;
    uint64_t x = s[0], reverse = 0;
    bool sign = op->type[0] == 's' && bit(x, n - 1);
    for (int i = 0; i < n; i++) {
        count += (int)bit(x, i);
        reverse |= bit(x, i) << (n - 1 - i);
        top = bit(x, i) != sign ? i : top;
    }
    if (names(op, "popc"))
        *d = (uint64_t)count;
    else if (names(op, "clz"))
        *d = (uint64_t)(n - 1 - top);
    else if (names(op, "brev"))
        *d = reverse;
    else if (names(op, "bfind"))
        *d = (uint32_t)top;
    else
        return false;
    return true;
}

static bool want_field(const struct ref_opcode *op, const uint64_t *s, uint64_t *d)
{
    int n = type_bits(op->type);
    if (names(op, "bfe")) {
        int from = (int)(s[1] & 255), length = (int)(s[2] & 255);
        int last = from + length - 1 < n - 1 ? from + length - 1 : n - 1;
        uint64_t fill = op->type[0] == 's' && length > 0 ? bit(s[0], last) : 0;
        *d = 0;
        for (int i = 0; i < n; i++)
            *d |= (i < length && from + i < n ? bit(s[0], from + i) : fill) << i;
    } else if (names(op, "bfi")) {
        int from = (int)(s[2] & 255), length = (int)(s[3] & 255);
        *d = s[1];
        for (int i = 0; i < length && from + i < n; i++)
            *d = (*d & ~((uint64_t)1 << (from + i))) | bit(s[0], i) << (from + i);
    } else if (names(op, "prmt")) {
        *d = 0;
        for (int i = 0; i < 4; i++) {
            int selector = (int)(s[2] >> 4 * i & 15), source = selector & 7;
            uint64_t byte = (source < 4 ? s[0] : s[1]) >> 8 * (source & 3) & 255;
            *d |= (selector < 8 ? byte : byte < 128 ? 0 : 255) << 8 * i;
        }
    } else {
        return false;
    }
    return true;
}

/* ---- Floating point -------------------------------------------------------------------------- */

static float float_of(uint64_t bits)
{
    uint32_t word = (uint32_t)bits;
    float x;
    memcpy(&x, &word, sizeof x);
    return x;
}

static double double_of(uint64_t bits)
{
    double x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static uint64_t float_bits(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static uint64_t double_bits(double x)
{
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static bool negative(quad x)
{
    return signbit((double)x);
}

static bool is_nan(quad x)
{
    return x != x;
}

/* The value of a number of 16 bits, by its definition. */
static quad narrow_value(uint32_t bits, const char *type)
{
    int fraction = is(type, "f16") ? 10 : 7, least = is(type, "f16") ? -14 : -126;
    uint32_t exponent = (bits & 0x7fff) >> fraction, rest = bits & ((1u << fraction) - 1);
    double x = exponent == 0 ? ldexp(rest, least - fraction)
                             : ldexp(rest + (1u << fraction), least - fraction + (int)exponent - 1);
    if (exponent == 0x7fffu >> fraction)
        x = rest == 0 ? HUGE_VAL : (double)NAN;
    return (quad)(bits >> 15 ? -x : x);
}

static quad value(uint64_t bits, const char *type)
{
    if (is(type, "f64"))
        return (quad)double_of(bits);
    return is(type, "f32") ? (quad)float_of(bits) : narrow_value((uint32_t)bits, type);
}

/* Of the two numbers next to x, `below` and `above` in size, the one that `direction` asks for. */
static bool takes_above(quad x, quad below, quad above, bool even_below, int direction)
{
    quad size = negative(x) ? -x : x;
    if (size == below)
        return false;
    if (direction == NEAREST)
        return size - below > above - size || (size - below == above - size && !even_below);
    return direction == (negative(x) ? DOWN : UP);
}

static uint64_t round_narrow(quad x, const char *type, int direction)
{
    uint32_t infinity = is(type, "f16") ? 0x7c00 : 0x7f80, first = 0, last = infinity;
    if (is_nan(x))
        return 0x7fff;
    quad size = negative(x) ? -x : x;
    while (last - first > 1) { /* value(first) <= size < value(last) */
        uint32_t middle = (first + last) / 2;
        *(narrow_value(middle, type) <= size ? &first : &last) = middle;
    }
    quad below = narrow_value(first, type);
    quad above =
        last == infinity ? 2 * below - narrow_value(first - 1, type) : narrow_value(last, type);
    bool inside = size < (quad)INFINITY;
    bool up = !inside || takes_above(x, below, above, first % 2 == 0, direction);
    /* Past the largest number only the direction counts, and nearest is infinity from half a unit
     * on. */
    if (inside && last == infinity && size >= above)
        up = direction == NEAREST || direction == (negative(x) ? DOWN : UP);
    return (up ? last : first) | (negative(x) ? 0x8000u : 0);
}

static uint64_t round_32(quad x, int direction)
{
    if (is_nan(x))
        return 0x7fffffff;
    float f = (float)x;
    bool towards_zero = direction == ZERO || direction == (negative(x) ? UP : DOWN);
    if (direction == NEAREST || (quad)f == x)
        return float_bits(f);
    bool larger = negative(x) ? (quad)f < x : (quad)f > x;
    if (towards_zero && larger)
        f = nextafterf(f, 0.0f);
    else if (!towards_zero && !larger)
        f = nextafterf(f, negative(x) ? -INFINITY : INFINITY);
    return float_bits(f);
}

static uint64_t round_64(quad x, int direction)
{
    double f = (double)x;
    bool towards_zero = direction == ZERO || direction == (negative(x) ? UP : DOWN);
    if (direction == NEAREST || (quad)f == x || is_nan(x))
        return double_bits(f);
    bool larger = negative(x) ? (quad)f < x : (quad)f > x;
    if (towards_zero && larger)
        f = nextafter(f, 0.0);
    else if (!towards_zero && !larger)
        f = nextafter(f, negative(x) ? -HUGE_VAL : HUGE_VAL);
    return double_bits(f);
}

static uint64_t rounded(quad x, const char *type, int direction)
{
    if (is(type, "f64"))
        return round_64(x, direction);
    return is(type, "f32") ? round_32(x, direction) : round_narrow(x, type, direction);
}

/* x + y rounded to odd: no later rounding sees a tie that is none. */
static quad sum_to_odd(quad x, quad y)
{
    quad sum = x + y, other = sum - x, error = (x - (sum - other)) + (y - other);
    wide_u bits;
    if (!(error < 0 || error > 0)) /* also of infinities, whose error is none */
        return sum;
    memcpy(&bits, &sum, sizeof bits);
    if (bits & 1)
        return sum;
    bits = (error > 0) == (sum > 0) ? bits + 1 : bits - 1;
    memcpy(&sum, &bits, sizeof sum);
    return sum;
}

static quad sum_of(quad x, quad y, int direction)
{
    quad sum = sum_to_odd(x, y);
    bool positive_zeros = x == 0 && y == 0 && !negative(x) && !negative(y);
    return sum == 0 && direction == DOWN && !positive_zeros ? -(quad)0 : sum;
}

/* To more than 100 bits: three times what is needed to tell a root from a tie of 32 bits, enough
 * for 64. */
static quad root_of(quad x)
{
    quad root = (quad)sqrt((double)x);
    for (int i = 0; i < 2 && root > 0 && root < (quad)INFINITY; i++)
        root = root + (x - root * root) / (2 * root);
    return root;
}

static uint64_t flush_bits(uint64_t bits)
{
    return bits & 0x7f800000 ? bits : bits & 0x80000000;
}

static quad saturated(quad x)
{
    return !(x > 0) ? 0 : x < 1 ? x : 1;
}

static quad operand(const struct ref_opcode *op, uint64_t bits)
{
    return value(op->ftz && is(op->type, "f32") ? flush_bits(bits) : bits, op->type);
}

static bool want_approximation(const struct ref_opcode *op, quad x, quad *result)
{
    if (names(op, "ex2"))
        *result = (quad)exp2l((long double)x);
    else if (names(op, "lg2"))
        *result = (quad)log2l((long double)x);
    else if (names(op, "sin"))
        *result = (quad)sinl((long double)x);
    else if (names(op, "cos"))
        *result = (quad)cosl((long double)x);
    else if (names(op, "tanh"))
        *result = (quad)tanhl((long double)x);
    else if (names(op, "rsqrt"))
        *result = 1 / root_of(x);
    else
        return false;
    return true;
}

static bool is_upper(const struct ref_opcode *op)
{
    return is(op->rule->name, "rcp.approx.ftz.f64") || is(op->rule->name, "rsqrt.approx.ftz.f64");
}

/* Of the upper half of a number of 64 bits, without subnormal ones. */
static uint64_t want_upper(const struct ref_opcode *op, uint64_t bits)
{
    double x = double_of(bits & ~(uint64_t)UINT32_MAX);
    x = fpclassify(x) == FP_SUBNORMAL ? copysign(0.0, x) : x;
    double y = names(op, "rcp") ? 1.0 / x : 1.0 / sqrt(x);
    return double_bits(fpclassify(y) == FP_SUBNORMAL ? copysign(0.0, y) : y);
}

static bool want_arithmetic(const struct ref_opcode *op, const uint64_t *s, uint64_t *d)
{
    quad x = operand(op, s[0]), y = operand(op, s[1]), z = operand(op, s[2]), result;
    if (names(op, "add"))
        result = sum_of(x, y, op->direction);
    else if (names(op, "sub"))
        result = sum_of(x, -y, op->direction);
    else if (names(op, "mul"))
        result = x * y;
    else if (names(op, "fma"))
        result = sum_of(x * y, z, op->direction);
    else if (names(op, "div"))
        result = x / y;
    else if (names(op, "rcp"))
        result = 1 / x;
    else if (names(op, "sqrt"))
        result = root_of(x);
    else if (!want_approximation(op, x, &result))
        return false;
    *d = rounded(op->sat ? saturated(result) : result, op->type, op->direction);
    if (op->ftz && is(op->type, "f32"))
        *d = flush_bits(*d);
    if (is_upper(op))
        *d = want_upper(op, s[0]);
    return true;
}

/* What looks at signs and order. */
static bool want_order(const struct ref_opcode *op, const uint64_t *s, uint64_t *d)
{
    int top = type_bits(op->type) - 1;
    uint64_t sign = (uint64_t)1 << top, a = s[0], b = s[1];
    quad x = operand(op, a), y = operand(op, b);
    if (op->ftz && is(op->type, "f32")) {
        a = flush_bits(a);
        b = flush_bits(b);
    }
    if (names(op, "neg")) {
        *d = a ^ sign;
    } else if (names(op, "abs")) {
        *d = a & ~sign;
    } else if (names(op, "copysign")) {
        *d = bit(a, top) ? b | sign : b & ~sign;
    } else if (names(op, "min") || names(op, "max")) {
        bool first =
            names(op, "min") ? x < y || (x == y && bit(a, top)) : x > y || (x == y && !bit(a, top));
        *d = is_nan(x) ? b : is_nan(y) || first ? a : b;
        if (op->nan && (is_nan(x) || is_nan(y)))
            *d = 0x7fffffff;
        if (is_nan(operand(op, *d)))
            *d = is(op->type, "f32") ? 0x7fffffff : *d;
    } else {
        return false;
    }
    return true;
}

static bool want_test(const struct ref_opcode *op, const uint64_t *s, uint64_t *d)
{
    bool single = is(op->type, "f32");
    uint64_t exponent = single ? s[0] >> 23 & 255 : s[0] >> 52 & 2047, most = single ? 255 : 2047;
    uint64_t rest = s[0] & (single ? 0x7fffff : 0xfffffffffffff);
    const char *property = op->word[1];
    *d = is(property, "finite")       ? exponent < most
         : is(property, "infinite")   ? exponent == most && rest == 0
         : is(property, "number")     ? exponent < most || rest == 0
         : is(property, "notanumber") ? exponent == most && rest != 0
         : is(property, "normal")     ? exponent > 0 && exponent < most
         : is(property, "subnormal")  ? exponent == 0 && rest != 0
                                      : 2;
    return names(op, "testp") && *d < 2;
}

/* ---- Comparing, selecting, moving, converting ------------------------------------------------ */

/* less, equal, greater or neither, as the bits 0 to 3 of what `how` accepts. */
static int accepted(const char *how)
{
    static const struct {
        const char *how;
        int relations;
    } table[] = {{"eq", 2},  {"ne", 5},   {"lt", 1},   {"le", 3},   {"gt", 4},   {"ge", 6},
                 {"lo", 1},  {"ls", 3},   {"hi", 4},   {"hs", 6},   {"equ", 10}, {"neu", 13},
                 {"ltu", 9}, {"leu", 11}, {"gtu", 12}, {"geu", 14}, {"num", 7},  {"nan", 8}};
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        if (is(table[i].how, how))
            return table[i].relations;
    fail_msg("no comparison: %s", how);
    return 0;
}

static bool joined(const char *how, bool x, bool c)
{
    return is(how, "and") ? x && c : is(how, "or") ? x || c : is(how, "xor") ? x != c : x;
}

static bool want_compare(const struct ref_opcode *op, const uint64_t *s, uint64_t *d)
{
    if (!names(op, "setp"))
        return false;
    int relation;
    if (ref_is_float(op->type)) {
        quad x = operand(op, s[0]), y = operand(op, s[1]);
        relation = x < y ? 1 : x == y ? 2 : x > y ? 4 : 8;
    } else {
        wide x = number(s[0], op->type), y = number(s[1], op->type);
        relation = x < y ? 1 : x == y ? 2 : 4;
    }
    bool is_so = accepted(op->word[1]) & relation;
    const char *how = op->words > 3 ? op->word[2] : "";
    d[0] = joined(how, is_so, s[2]);
    d[1] = joined(how, !is_so, s[2]);
    return true;
}

static bool want_move(const struct ref_opcode *op, const uint64_t *s, uint64_t *d)
{
    const char *operands = op->rule->operands;
    if (names(op, "selp")) {
        *d = s[2] ? s[0] : s[1];
    } else if (names(op, "cvta")) {
        bool shared = is(op->word[op->words - 2], "shared"), to = is(op->word[1], "to");
        *d = !shared ? s[0] : to ? s[0] - PTX_SHARED_WINDOW : s[0] + PTX_SHARED_WINDOW;
    } else if (!names(op, "mov")) {
        return false;
    } else if (strlen(operands) == 3) {
        *d = s[0];
    } else {
        bool pack = operands[1] == '=';
        int parts = (pack ? operands[2] : operands[0]) - '0', bits = type_bits(op->type) / parts;
        *d = 0;
        for (int i = 0; i < parts && pack; i++)
            *d |= s[i] << i * bits;
        for (int i = 0; i < parts && !pack; i++)
            d[i] = low((wide)(s[0] >> i * bits), bits);
    }
    return true;
}

int ref_letter_bits(char letter)
{
    return letter == 'd' ? 64 : letter == 'w' ? 32 : letter == 'h' ? 16 : 1;
}

static quad integral(quad x, int direction)
{
    long double v = (long double)x; /* holds every source exactly */
    return (quad)(direction == NEAREST ? rintl(v)
                  : direction == ZERO  ? truncl(v)
                  : direction == DOWN  ? floorl(v)
                                       : ceill(v));
}

static wide to_integer(quad x, const char *from, const char *to)
{
    int n = type_bits(to);
    if (is_nan(x)) {
        wide top = (wide)1 << (n - 1);
        return !is(from, "f64") && n < 64 ? 0 : to[0] == 's' ? -top : top;
    }
    double size = (double)x;
    return clamp(size > 1e30 ? (wide)1 << 100 : size < -1e30 ? -((wide)1 << 100) : (wide)x, to);
}

static uint64_t narrow_half(const struct ref_opcode *op, uint64_t bits, const char *type)
{
    uint64_t half = rounded(operand(op, bits), type, op->direction);
    return op->relu && bit(half, 15) ? 0 : half;
}

static bool want_conversion(const struct ref_opcode *op, const uint64_t *s, uint64_t *d)
{
    if (!names(op, "cvt") || op->words != 3)
        return false;
    const char *to = op->word[1], *from = op->type;
    if (is(to, "f16x2") || is(to, "bf16x2")) {
        const char *half = is(to, "f16x2") ? "f16" : "bf16";
        *d = narrow_half(op, s[0], half) << 16 | narrow_half(op, s[1], half);
        return true;
    }
    if (!ref_is_float(from) && !ref_is_float(to)) {
        wide x = op->sat ? clamp(number(s[0], from), to) : number(s[0], from);
        *d = low(number(low(x, type_bits(to)), to), ref_letter_bits(op->rule->operands[0]));
        return true;
    }
    quad x = ref_is_float(from) ? operand(op, s[0]) : (quad)number(s[0], from);
    if (op->integral)
        x = integral(x, op->direction);
    if (!ref_is_float(to)) {
        *d = low(to_integer(x, from, to), ref_letter_bits(op->rule->operands[0]));
        return true;
    }
    *d = rounded(op->sat ? saturated(x) : x, to, op->direction);
    if (op->ftz && is(to, "f32"))
        *d = flush_bits(*d);
    if (op->relu && bit(*d, 15))
        *d = 0;
    return true;
}

void ref_want(const struct ref_opcode *op, const uint64_t *s, uint64_t *d)
{
    bool known = names(op, "cvt")     ? want_conversion(op, s, d)
                 : names(op, "setp")  ? want_compare(op, s, d)
                 : names(op, "testp") ? want_test(op, s, d)
                 : names(op, "mov") || names(op, "selp") || names(op, "cvta") ? want_move(op, s, d)
                 : ref_is_float(op->type)
                     ? want_order(op, s, d) || want_arithmetic(op, s, d)
                     : want_logic(op, s, d) || want_shift(op, s, d) || want_bits(op, s, d) ||
                           want_field(op, s, d) || want_sum(op, s, d);
    if (!known)
        fail_msg("%s: no reference", op->rule->name);
}

/* ---- What a test sees of it ------------------------------------------------------------------ */

uint64_t ref_rounded(double x, const char *type)
{
    return rounded((quad)x, type, NEAREST);
}

/* Units in the last place, of 32 bits, by which an approximation may be off. */
static uint64_t allowed(const struct ref_opcode *op)
{
    return names(op, "ex2") || names(op, "lg2") || names(op, "sin") || names(op, "cos") ||
           names(op, "tanh") || (names(op, "rsqrt") && is(op->type, "f32"));
}

bool ref_agrees(const struct ref_opcode *op, uint64_t got, uint64_t wanted)
{
    const char *type = names(op, "cvt") ? op->word[1] : op->type;
    if (got == wanted)
        return true;
    if (is_upper(op) && (got & UINT32_MAX) != 0)
        return false;
    if (is(type, "f64") && isnan(double_of(wanted)))
        return isnan(double_of(got));
    if (is_upper(op))
        return fabs(double_of(got) - double_of(wanted)) <= 0x1p-20 * fabs(double_of(wanted));
    if (is(op->rule->name, "rsqrt.approx.f64"))
        return got - wanted + 1 <= 2;
    return allowed(op) > 0 && isfinite(float_of(wanted)) &&
           got - wanted + allowed(op) <= 2 * allowed(op);
}
