/*
 * Proves that every rule of integer.c and float.c computes what PTX says: each is run over values
 * that matter and random ones, with all lanes and with some masked, with the result in a place of
 * its own and in that of its source, and every lane is held against the reference
 * (test_ptx_reference.h). Of approximations the error is measured.
 */
#include "tests/ptx/test_ptx_reference.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* ---- Values ---------------------------------------------------------------------------------- */

static uint64_t state = 0x853c49e6748fea9b;

static uint64_t draw(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state * 0x2545f4914f6cdd1d;
}

/* clang-format off */
static const uint64_t integers[] = {
    0, 1, 2, 3, 5, 7, 8, 15, 16, 17, 24, 30, 31, 32, 33, 34, 36, 40, 63, 64, 65, 100, 127, 128,
    255, 256, 0x0705, 0x7531, 0xfedc, 0x7ffe, 0x7fff, 0x8000, 0x8001, 0xffff, 0x10000, 0x12345678,
    0x7fffffff, 0x80000000, 0x80000001, 0xfffffffe, 0xffffffff, 0x100000000, 0x123456789abcdef0,
    0x7fffffffffffffff, 0x8000000000000000, 0x8000000000000001, 0xffffffff80000000,
    0xfffffffffffffff0, 0xfffffffffffffffe, 0xffffffffffffffff,
};

static const double numbers[] = {
    0.0, 0x1p-149, 0x1p-148, 0x1.fffffcp-127, 0x1p-126, 0x1.000002p-126, 0x1p-133, 0x1.8p-134,
    0x1p-25, 0x1.000002p-25, 0x1p-24, 0x1.8p-24, 0x1.ffcp-15, 0x1p-14, 0x1.002p-14, 0x1p-1074,
    0x1p-1022, 0x1.fffffffffffffp-1, 1.0, 0x1.0000000000001p0, 0x1.000002p0, 0x1.001p0, 0x1.003p0,
    0x1.fffffep-1, 0.1, 1.0 / 3, 0.25, 0.5, 0.75, 1.5, 2.0, 2.5, 3.0, 3.5, 100.0, 126.5, 127.5,
    128.0, 128.5, 254.5, 255.5, 256.0, 32767.5, 32768.0, 65504.0, 65519.0, 65520.0, 65535.5,
    65536.0, 0x1p23, 0x1.000002p23, 0x1.000001p24, 2147483647.5, 0x1p31, 4294967295.5, 0x1p32,
    0x1p52, 0x1.fffffep62, 0x1p63, 0x1p64, 1e-30, 1e30, 0x1.fep127, 0x1.fffffep127,
    0x1.ffffffp127, 0x1.fffffffffffffp1023, HUGE_VAL, (double)NAN,
};
/* clang-format on */
enum {
    INTEGERS = sizeof integers / sizeof integers[0],
    NUMBERS = 2 * sizeof numbers / sizeof numbers[0]
};

static uint64_t low(uint64_t x, int bits)
{
    return bits >= 64 ? x : x & (((uint64_t)1 << bits) - 1);
}

/* Value number i of what a register of that letter may hold as an operand of that type. */
static uint64_t chosen(const char *type, char letter, size_t i)
{
    if (letter == 'p')
        return i & 1;
    if (!ref_is_float(type))
        return low(integers[i % INTEGERS], ref_letter_bits(letter));
    double x = numbers[i % NUMBERS / 2];
    return ref_rounded(i & 1 ? -x : x, type);
}

/* Any bits, or a number near 1 with few digits, so that sums cancel and ties come. */
static uint64_t drawn(const char *type, char letter)
{
    uint64_t random = draw();
    if (random >> 62 == 0)
        return chosen(type, letter, (size_t)(draw() >> 8));
    if (random >> 62 == 1 || !ref_is_float(type) || letter == 'p')
        return low(draw(), ref_letter_bits(letter));
    double few = (double)(int64_t)(draw() >> (11 + random % 53));
    few = ldexp(random >> 61 & 1 ? few : -few, -(int)(random >> 8 & 63));
    return ref_rounded(few, type);
}

/* ---- A warp ---------------------------------------------------------------------------------- */

enum { PLACE = 256, PLACES = PTX_PLACES };

struct shape {
    char letter[PLACES]; /* of every place, vectors item by item */
    int count, results;
};

static void read_shape(struct shape *shape, const char *operands)
{
    *shape = (struct shape){.count = 0};
    for (int items = 1; *operands != '\0'; operands++) {
        if (*operands == '=') {
            shape->results = shape->count;
        } else if (*operands >= '1' && *operands <= '9') {
            items = *operands - '0';
        } else {
            for (; items > 0; items--)
                shape->letter[shape->count++] =
                    (char)(*operands < 'a' ? *operands - 'A' + 'a' : *operands);
            items = 1;
        }
    }
}

static void put(unsigned char *place, char letter, int lane, uint64_t x)
{
    size_t bytes = (size_t)ref_letter_bits(letter) / 8;
    uint32_t word;
    if (bytes > 0) {
        memcpy(place + bytes * (size_t)lane, &x, bytes);
        return;
    }
    memcpy(&word, place, sizeof word);
    word = (word & ~(1u << lane)) | (uint32_t)(x & 1) << lane;
    memcpy(place, &word, sizeof word);
}

static uint64_t get(const unsigned char *place, char letter, int lane)
{
    size_t bytes = (size_t)ref_letter_bits(letter) / 8;
    uint64_t x = 0;
    memcpy(&x, place + bytes * (size_t)lane, bytes > 0 ? bytes : sizeof(uint32_t));
    return bytes > 0 ? x : x >> lane & 1;
}

static _Alignas(64) unsigned char file[PLACES * PLACE], old[PLACES * PLACE];

/* `s` of every lane are the sources; odd `turn`s mask lanes, every third has its result in a
 * source's place. */
static void check_warp(const struct ref_opcode *op, const struct shape *shape,
                       uint64_t s[PTX_LANES][REF_VALUES], unsigned turn)
{
    static struct ptx_warp w;
    struct ptx_inst inst = {.name = op->rule->name};
    struct ptx_op decoded = {.act = op->rule->act, .inst = &inst, .count = shape->count};
    const int sources = shape->count - shape->results;
    w.file = file;
    w.active = turn % 2 == 0 ? UINT32_MAX : (uint32_t)draw();
    for (int k = 0; k < shape->count; k++)
        decoded.at[k] = (uint32_t)(k * PLACE);
    for (int k = shape->results; k < shape->count && turn % 3 == 1; k++)
        if (shape->letter[k] == shape->letter[0])
            decoded.at[0] = decoded.at[k];
    for (size_t i = 0; i < sizeof file; i++)
        file[i] = (unsigned char)(draw() >> 32);
    for (int lane = 0; lane < PTX_LANES; lane++)
        for (int j = 0; j < sources; j++)
            put(file + decoded.at[shape->results + j], shape->letter[shape->results + j], lane,
                s[lane][j]);
    memcpy(old, file, sizeof old);
    op->rule->act(&w, &decoded);
    for (int lane = 0; lane < PTX_LANES; lane++) {
        uint64_t wanted[REF_VALUES] = {0};
        ref_want(op, s[lane], wanted);
        for (int r = 0; r < shape->results; r++) {
            uint64_t got = get(file + decoded.at[r], shape->letter[r], lane);
            uint64_t before = get(old + decoded.at[r], shape->letter[r], lane);
            bool active = w.active >> lane & 1;
            if (active ? !ref_agrees(op, got, wanted[r]) : got != before)
                fail_msg("%s (%s): of %llx, %llx, %llx, %llx result %d is %llx, not %llx (%s)",
                         op->rule->name, op->rule->operands, (unsigned long long)s[lane][0],
                         (unsigned long long)s[lane][1], (unsigned long long)s[lane][2],
                         (unsigned long long)s[lane][3], r, (unsigned long long)got,
                         (unsigned long long)(active ? wanted[r] : before),
                         active ? "active" : "masked");
            put(old + decoded.at[r], shape->letter[r], lane, got);
        }
    }
    assert_memory_equal(file, old, sizeof file); /* nothing else was written */
}

/* Every pair of the first two sources' values, the others drawn; then all drawn. */
static void check_rule(const struct ptx_rule *rule)
{
    struct ref_opcode op;
    struct shape shape;
    uint64_t s[PTX_LANES][REF_VALUES];
    ref_read(&op, rule);
    read_shape(&shape, rule->operands);
    const int sources = shape.count - shape.results;
    const char *letters = shape.letter + shape.results;
    assert_in_range(sources, 1, REF_VALUES - 1);
    const size_t values = ref_is_float(op.type) ? NUMBERS : INTEGERS;
    const size_t pairs = sources > 1 ? values * values : values;
    for (size_t i = 0; i < pairs + 100 * PTX_LANES; i++) {
        uint64_t *lane = s[i % PTX_LANES];
        memset(lane, 0, sizeof s[0]);
        for (int j = 0; j < sources; j++)
            lane[j] = i >= pairs || j > 1
                          ? drawn(op.type, letters[j])
                          : chosen(op.type, letters[j], j == 0 ? i % values : i / values);
        if (i % PTX_LANES == PTX_LANES - 1)
            check_warp(&op, &shape, s, (unsigned)(i / PTX_LANES));
    }
}

static void integer_rules_compute_what_ptx_says(void **unused)
{
    (void)unused;
    for (const struct ptx_rule *rule = ptx_rules_integer; rule->name != NULL; rule++)
        check_rule(rule);
}

static void float_rules_compute_what_ptx_says(void **unused)
{
    (void)unused;
    for (const struct ptx_rule *rule = ptx_rules_float; rule->name != NULL; rule++)
        check_rule(rule);
}

/* ---- Whole ranges ---------------------------------------------------------------------------- */

static const struct ptx_rule *rule_of(const char *name)
{
    for (const struct ptx_rule *rule = ptx_rules_float; rule->name != NULL; rule++)
        if (strcmp(rule->name, name) == 0)
            return rule;
    fail_msg("no rule %s", name);
    return NULL;
}

/* Values first, first + step, ... of a one-operand rule, every lane active. */
static void check_range(const char *name, uint64_t first, uint64_t last, uint64_t step)
{
    struct ref_opcode op;
    struct shape shape;
    uint64_t s[PTX_LANES][REF_VALUES] = {{0}};
    ref_read(&op, rule_of(name));
    read_shape(&shape, op.rule->operands);
    while (first <= last) {
        for (int lane = 0; lane < PTX_LANES; lane++, first += step)
            s[lane][0] = first <= last ? first : last;
        check_warp(&op, &shape, s, 0);
    }
}

static void every_half_is_widened(void **unused)
{
    (void)unused;
    check_range("cvt.f32.f16", 0, 0xffff, 1);
    check_range("cvt.f32.bf16", 0, 0xffff, 1);
}

/* 2^-27 to 2^17, where halves are, both signs; a step that comes by every low bit pattern. */
static void floats_are_narrowed(void **unused)
{
    (void)unused;
    check_range("cvt.rn.f16.f32", 0x32000000, 0x48000000, 997);
    check_range("cvt.rn.f16.f32", 0xb2000000, 0xc8000000, 1009);
    check_range("cvt.rn.bf16.f32", 0, 0x7fffffff, 9973);
}

/* The exponential on all its range: 2^-22 relative, as the GPU's, and one unit of a subnormal. */
static void the_exponential_is_as_good_as_the_gpus(void **unused)
{
    (void)unused;
    check_range("ex2.approx.f32", 0xc3180000 - 0x1a000000, 0xc3180000, 4001);
    check_range("ex2.approx.ftz.f32", 0x43020000 - 0x1a000000, 0x43020000, 4001);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(integer_rules_compute_what_ptx_says),
        cmocka_unit_test(float_rules_compute_what_ptx_says),
        cmocka_unit_test(every_half_is_widened),
        cmocka_unit_test(floats_are_narrowed),
        cmocka_unit_test(the_exponential_is_as_good_as_the_gpus),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
