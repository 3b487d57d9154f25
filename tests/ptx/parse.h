/*
 * Between the two halves of the PTX reader: parse.c reads files and entries, parse_inst.c
 * instructions.
 */
#ifndef LD_TESTS_PTX_PARSE_H
#define LD_TESTS_PTX_PARSE_H

#include "tests/ptx/lex.h"
#include "tests/ptx/names.h"
#include "tests/ptx/ptx.h"

#include <setjmp.h>

enum { PTX_SCOPE_FILE = 0, PTX_NESTING = 16 };

/* An operand that can be filled in only at its entry's end. */
struct ptx_later {
    int32_t inst, operand;
    int32_t scope, line;
    const char *text; /* of a label; NULL: the entry's dynamic shared memory */
    size_t length;
};

struct ptx_parser {
    struct ptx_lex lex;
    struct ptx_pool pool;
    struct ptx_names names;
    struct ptx_why *why;
    jmp_buf fail;

    int32_t *parents; /* of every scope, by its number */
    int32_t scope_count, scope_room;
    int32_t nesting[PTX_NESTING]; /* the open scopes, the file's first */
    int32_t depth;                /* of nesting[] */

    struct ptx_kernel *kernels;
    int32_t kernel_count, kernel_room;
    const char **files;
    int32_t file_count;

    /* The entry under way. */
    struct ptx_kernel kernel;
    struct ptx_param *params;
    int32_t param_room;
    struct ptx_register *registers;
    int32_t register_count, register_room;
    struct ptx_inst *insts;
    int32_t inst_count, inst_room;
    struct ptx_later *later;
    int32_t later_count, later_room;
    int32_t source_file, source_line;
};

/* Ends ptx_load: `what` about the present token. */
_Noreturn void ptx_parse_fail(struct ptx_parser *p, const char *what);
/* The same about another word. */
_Noreturn void ptx_parse_fail_at(struct ptx_parser *p, int32_t line, const char *text,
                                 size_t length, const char *what);
/* `array` of `room` items with room for one more; it may have moved. */
void *ptx_parse_grow(struct ptx_parser *p, void *array, int32_t count, int32_t *room, size_t bytes);
/* The punctuation character must come now. */
void ptx_parse_expect(struct ptx_parser *p, int kind);
/* Goes over a punctuation character if it comes now. */
bool ptx_parse_take(struct ptx_parser *p, int kind);
/* A number without sign, not 0f or 0d, up to `most`. */
uint64_t ptx_parse_count(struct ptx_parser *p, uint64_t most);

/* What the present word means here: a register, a symbol, a kernel; NULL: none of them. */
const struct ptx_name *ptx_parse_name(struct ptx_parser *p);

/* [@p] opcode operand, ...; */
void ptx_parse_inst(struct ptx_parser *p);
/* Labels and dynamic shared memory, at the entry's end. */
void ptx_parse_later(struct ptx_parser *p);

#endif
