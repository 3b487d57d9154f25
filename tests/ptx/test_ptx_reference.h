/*
 * A second opinion on what an instruction without memory computes, for test_ptx_numbers.c.
 */
#ifndef LD_TESTS_PTX_TEST_PTX_REFERENCE_H
#define LD_TESTS_PTX_TEST_PTX_REFERENCE_H

#include "tests/ptx/machine.h"

enum { REF_WORDS = 6, REF_VALUES = 5 };

struct ref_opcode {
    const struct ptx_rule *rule;
    char text[64];
    const char *word[REF_WORDS]; /* without what the flags below say */
    int words;
    const char *type; /* the last word: of the operands, or of cvt's source */
    int direction;    /* of rounding */
    bool integral;    /* .rni and its like */
    bool ftz, sat, relu, nan;
};

/* *op points into itself. */
void ref_read(struct ref_opcode *op, const struct ptx_rule *rule);

/* "f32", "bf16"; not "b16". */
bool ref_is_float(const char *type);
/* Bits of a lane's register by its letter in ptx_rule.operands; 1: a predicate. */
int ref_letter_bits(char letter);
/* The bits of the number of a type that is nearest to x. */
uint64_t ref_rounded(double x, const char *type);

/* The results d[] of the sources s[], each in the low bits of its word; fails the test if the
 * opcode is none that is known here. */
void ref_want(const struct ref_opcode *op, const uint64_t *s, uint64_t *d);
/* `got` is as good as PTX promises; `wanted` is of ref_want. */
bool ref_agrees(const struct ref_opcode *op, uint64_t got, uint64_t wanted);

#endif
