/*
 * Reads PTX as nvcc writes it into struct ptx_kernel: what is declared here, instructions in
 * parse_inst.c.
 *
 * Whatever the text is, the end is a module or a sentence: every length in it is bounded, nothing
 * calls itself. A word that is not known is refused, since an unread directive may change what a
 * kernel does.
 *
 * Source: PTX ISA 9.0, sections 4, 5, 9.7.1 and 11.
 */
#include "tests/ptx/parse.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    SHARED_MOST = 1 << 20,
    PARAM_MOST = 1 << 15,
    ALIGN_MOST = 1 << 16,
    RANGE_MOST = 1 << 24,
    FILES_MOST = 1 << 12,
    FILES_STEP = 64,
    THREADS_MOST = 1024,
    LINE_MOST = 1 << 30,
};

/* ---- Words ----------------------------------------------------------------------------------- */

_Noreturn void ptx_parse_fail_at(struct ptx_parser *p, int32_t line, const char *text,
                                 size_t length, const char *what)
{
    char word[80];
    size_t count = length < sizeof word ? length : sizeof word - 1;
    for (size_t i = 0; i < count; i++)
        word[i] = text[i] >= ' ' && text[i] <= '~' ? text[i] : '?';
    word[count] = 0;
    snprintf(p->why->text, sizeof p->why->text, "line %d: %s: '%s'", (int)line, what, word);
    longjmp(p->fail, 1);
}

_Noreturn void ptx_parse_fail(struct ptx_parser *p, const char *what)
{
    if (p->lex.kind == PTX_TOKEN_END)
        ptx_parse_fail_at(p, p->lex.line, "end of the text", 15, what);
    ptx_parse_fail_at(p, p->lex.line, p->lex.text, p->lex.length, what);
}

void *ptx_parse_grow(struct ptx_parser *p, void *array, int32_t count, int32_t *room, size_t bytes)
{
    if (count < *room)
        return array;
    if (*room > INT32_MAX / 2)
        ptx_parse_fail(p, "too much of it");
    int32_t wanted = *room ? *room * 2 : 64;
    void *larger = realloc(array, (size_t)wanted * bytes);
    if (!larger)
        ptx_parse_fail(p, "no memory");
    *room = wanted;
    return larger;
}

void ptx_parse_expect(struct ptx_parser *p, int kind)
{
    if (p->lex.kind != kind) {
        char what[] = "expected ' ', found";
        what[10] = (char)kind;
        ptx_parse_fail(p, what);
    }
    ptx_lex_next(&p->lex);
}

bool ptx_parse_take(struct ptx_parser *p, int kind)
{
    if (p->lex.kind != kind)
        return false;
    ptx_lex_next(&p->lex);
    return true;
}

uint64_t ptx_parse_count(struct ptx_parser *p, uint64_t most)
{
    uint64_t value;
    bool real;
    if (!ptx_lex_number(&p->lex, &value, &real) || real)
        ptx_parse_fail(p, "expected a whole number, found");
    if (value > most)
        ptx_parse_fail(p, "too large a number");
    ptx_lex_next(&p->lex);
    return value;
}

static bool take_word(struct ptx_parser *p, const char *word)
{
    if (!ptx_lex_is(&p->lex, word))
        return false;
    ptx_lex_next(&p->lex);
    return true;
}

static void expect_word(struct ptx_parser *p, const char *word)
{
    if (!take_word(p, word))
        ptx_parse_fail(p, "unknown word");
}

static void *pool_copy(struct ptx_parser *p, const void *data, size_t bytes)
{
    void *copy = ptx_pool_get(&p->pool, bytes);
    if (!copy)
        ptx_parse_fail(p, "no memory");
    if (bytes > 0)
        memcpy(copy, data, bytes);
    return copy;
}

/* ---- Declarations ---------------------------------------------------------------------------- */

static int32_t scope(const struct ptx_parser *p)
{
    return p->nesting[p->depth - 1];
}

/* Adds the present word to the present scope and goes over it. */
static struct ptx_name *declare(struct ptx_parser *p, enum ptx_name_kind kind)
{
    const struct ptx_lex *lex = &p->lex;
    if (lex->kind != PTX_TOKEN_WORD || lex->text[0] == '.')
        ptx_parse_fail(p, "expected a name, found");
    if (ptx_names_find(&p->names, scope(p), lex->text, lex->length, kind))
        ptx_parse_fail(p, "declared twice");
    struct ptx_name *name =
        ptx_names_add(&p->names, &p->pool, scope(p), lex->text, lex->length, kind);
    if (!name)
        ptx_parse_fail(p, "no memory");
    ptx_lex_next(&p->lex);
    return name;
}

/* Bytes of an element, 0 for a predicate. */
static uint8_t read_type(struct ptx_parser *p)
{
    static const struct {
        const char *name;
        uint8_t bytes;
    } types[] = {
        {".pred", 0}, {".b8", 1},  {".u8", 1},  {".s8", 1},    {".b16", 2},
        {".u16", 2},  {".s16", 2}, {".f16", 2}, {".bf16", 2},  {".b32", 4},
        {".u32", 4},  {".s32", 4}, {".f32", 4}, {".f16x2", 4}, {".bf16x2", 4},
        {".b64", 8},  {".u64", 8}, {".s64", 8}, {".f64", 8},
    };
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (take_word(p, types[i].name))
            return types[i].bytes;
    ptx_parse_fail(p, "unknown type");
}

static uint32_t read_align(struct ptx_parser *p)
{
    uint32_t align = (uint32_t)ptx_parse_count(p, ALIGN_MOST);
    if (align == 0 || (align & (align - 1)) != 0)
        ptx_parse_fail(p, "an alignment is a power of two; before");
    return align;
}

static uint32_t align_up(uint32_t at, uint32_t align)
{
    return (at + align - 1) / align * align;
}

/* [.align N] .type name, and what follows the name: nothing, [count] or []. */
struct declared {
    struct ptx_name *name;
    uint32_t align, bytes;
    bool open; /* [] */
};

static struct declared read_variable(struct ptx_parser *p, enum ptx_name_kind kind, uint32_t most)
{
    struct declared out = {0};
    if (take_word(p, ".align"))
        out.align = read_align(p);
    uint8_t item = read_type(p);
    if (item == 0)
        ptx_parse_fail(p, "a predicate is not in memory; before");
    if (out.align == 0)
        out.align = item;
    if (kind == PTX_NAME_SYMBOL && take_word(p, ".ptr")) {
        /* What a pointer points to; the parameter is the pointer. */
        if (!take_word(p, ".global") && !take_word(p, ".shared") && !take_word(p, ".const"))
            take_word(p, ".local");
        if (take_word(p, ".align"))
            read_align(p);
    }
    out.name = declare(p, kind);
    out.bytes = item;
    if (ptx_parse_take(p, '[')) {
        out.open = p->lex.kind == ']';
        out.bytes = out.open ? 0 : item * (uint32_t)ptx_parse_count(p, most / item);
        ptx_parse_expect(p, ']');
    }
    return out;
}

static void read_param(struct ptx_parser *p)
{
    struct declared param = read_variable(p, PTX_NAME_SYMBOL, PARAM_MOST);
    struct ptx_kernel *kernel = &p->kernel;
    uint32_t offset = align_up(kernel->param_bytes, param.align);
    if (param.bytes == 0 || offset + param.bytes > PARAM_MOST)
        ptx_parse_fail(p, "a parameter of no or too many bytes; before");
    param.name->value = offset;
    kernel->param_bytes = offset + param.bytes;
    p->params =
        ptx_parse_grow(p, p->params, kernel->param_count, &p->param_room, sizeof *p->params);
    p->params[kernel->param_count++] = (struct ptx_param){.offset = offset, .bytes = param.bytes};
}

static void read_shared(struct ptx_parser *p)
{
    struct declared shared = read_variable(p, PTX_NAME_SYMBOL, SHARED_MOST);
    uint32_t at = align_up(p->kernel.shared_bytes, shared.align);
    if (shared.bytes == 0 || at + shared.bytes > SHARED_MOST)
        ptx_parse_fail(p, "shared memory of no or too many bytes; before");
    shared.name->value = at;
    p->kernel.shared_bytes = at + shared.bytes;
    ptx_parse_expect(p, ';');
}

static void read_extern(struct ptx_parser *p)
{
    expect_word(p, ".shared");
    struct declared array = read_variable(p, PTX_NAME_DYNAMIC, SHARED_MOST);
    if (!array.open)
        ptx_parse_fail(p, "an extern shared array has no size; before");
    array.name->value = array.align;
    ptx_parse_expect(p, ';');
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* The range that a name of this scope belongs to by its digits, NULL if none is declared. */
static struct ptx_name *range_of(const struct ptx_parser *p, int32_t in, const char *text,
                                 size_t length)
{
    size_t prefix = length;
    while (prefix > 0 && is_digit(text[prefix - 1]))
        prefix--;
    size_t digits = length - prefix;
    if (digits == 0 || digits > 8 || (digits > 1 && text[prefix] == '0'))
        return NULL;
    uint64_t number = 0;
    for (size_t i = prefix; i < length; i++)
        number = number * 10 + (uint64_t)(text[i] - '0');
    struct ptx_name *range = ptx_names_find(&p->names, in, text, prefix, PTX_NAME_RANGE);
    return range && number < range->value ? range : NULL;
}

static void add_register(struct ptx_parser *p, struct ptx_name *name, uint8_t bytes)
{
    p->registers =
        ptx_parse_grow(p, p->registers, p->register_count, &p->register_room, sizeof *p->registers);
    p->registers[p->register_count] = (struct ptx_register){.name = name->text, .bytes = bytes};
    name->value = (uint64_t)p->register_count++;
}

/* .reg .type name, name<count>, ...; */
static void read_registers(struct ptx_parser *p)
{
    uint8_t bytes = read_type(p);
    if (bytes == 1)
        ptx_parse_fail(p, "registers of 8 bits are not known; before");
    do {
        const struct ptx_lex *lex = &p->lex;
        if (ptx_lex_peek(&p->lex) == '<') {
            if (lex->length > 0 && is_digit(lex->text[lex->length - 1]))
                ptx_parse_fail(p, "a range of registers whose name ends in a digit");
            struct ptx_name *range = declare(p, PTX_NAME_RANGE);
            ptx_parse_expect(p, '<');
            range->value = ptx_parse_count(p, RANGE_MOST);
            range->bytes = bytes;
            ptx_parse_expect(p, '>');
        } else {
            if (range_of(p, scope(p), lex->text, lex->length))
                ptx_parse_fail(p, "declared twice");
            add_register(p, declare(p, PTX_NAME_REGISTER), bytes);
        }
    } while (ptx_parse_take(p, ','));
    ptx_parse_expect(p, ';');
}

const struct ptx_name *ptx_parse_name(struct ptx_parser *p)
{
    const char *text = p->lex.text;
    size_t length = p->lex.length;
    for (int32_t i = p->depth; i-- > 0;) {
        int32_t in = p->nesting[i];
        struct ptx_name *name = ptx_names_find(&p->names, in, text, length, PTX_NAME_REGISTER);
        if (name)
            return name;
        struct ptx_name *range = range_of(p, in, text, length);
        if (range) {
            name = ptx_names_add(&p->names, &p->pool, in, text, length, PTX_NAME_REGISTER);
            if (!name)
                ptx_parse_fail(p, "no memory");
            add_register(p, name, range->bytes);
            return name;
        }
    }
    return NULL;
}

/* ---- Entries --------------------------------------------------------------------------------- */

static void open_scope(struct ptx_parser *p)
{
    if (p->depth == PTX_NESTING)
        ptx_parse_fail(p, "braces nested too deep");
    p->parents = ptx_parse_grow(p, p->parents, p->scope_count, &p->scope_room, sizeof *p->parents);
    p->parents[p->scope_count] = p->depth > 0 ? scope(p) : PTX_SCOPE_FILE;
    p->nesting[p->depth++] = p->scope_count++;
}

static void skip_pragma(struct ptx_parser *p)
{
    do {
        if (p->lex.kind != PTX_TOKEN_STRING)
            ptx_parse_fail(p, "expected a string, found");
        ptx_lex_next(&p->lex);
    } while (ptx_parse_take(p, ','));
    ptx_parse_expect(p, ';');
}

/* .loc file line column [, function_name label[+n], inlined_at file line column] */
static void read_loc(struct ptx_parser *p)
{
    p->source_file = (int32_t)ptx_parse_count(p, FILES_MOST);
    p->source_line = (int32_t)ptx_parse_count(p, LINE_MOST);
    ptx_parse_count(p, LINE_MOST);
    while (ptx_parse_take(p, ',')) {
        if (take_word(p, "function_name")) {
            if (p->lex.kind != PTX_TOKEN_WORD)
                ptx_parse_fail(p, "expected a label, found");
            ptx_lex_next(&p->lex);
            if (ptx_parse_take(p, '+'))
                ptx_parse_count(p, LINE_MOST);
        } else {
            expect_word(p, "inlined_at");
            ptx_parse_count(p, FILES_MOST);
            ptx_parse_count(p, LINE_MOST);
            ptx_parse_count(p, LINE_MOST);
        }
    }
}

static void read_body_directive(struct ptx_parser *p)
{
    if (take_word(p, ".reg"))
        read_registers(p);
    else if (take_word(p, ".shared"))
        read_shared(p);
    else if (take_word(p, ".loc"))
        read_loc(p);
    else if (take_word(p, ".pragma"))
        skip_pragma(p);
    else
        ptx_parse_fail(p, "unknown directive");
}

static void read_body(struct ptx_parser *p)
{
    int32_t outer = p->depth;
    do {
        if (p->lex.kind == '{') {
            open_scope(p);
            ptx_lex_next(&p->lex);
        } else if (p->lex.kind == '}') {
            p->depth--;
            ptx_lex_next(&p->lex);
        } else if (p->lex.kind == PTX_TOKEN_WORD && p->lex.text[0] == '.') {
            read_body_directive(p);
        } else if (p->lex.kind == PTX_TOKEN_WORD && ptx_lex_peek(&p->lex) == ':') {
            declare(p, PTX_NAME_LABEL)->value = (uint64_t)p->inst_count;
            ptx_parse_expect(p, ':');
        } else {
            ptx_parse_inst(p);
        }
    } while (p->depth > outer);
}

/* The product of up to three numbers. */
static uint32_t read_threads(struct ptx_parser *p)
{
    uint64_t product = 1;
    int32_t count = 0;
    do {
        product *= ptx_parse_count(p, THREADS_MOST);
        if (++count > 3 || product > THREADS_MOST || product == 0)
            ptx_parse_fail(p, "no number of threads a block may have; before");
    } while (ptx_parse_take(p, ','));
    return (uint32_t)product;
}

static void read_entry(struct ptx_parser *p)
{
    struct ptx_kernel *kernel = &p->kernel;
    *kernel = (struct ptx_kernel){.name = declare(p, PTX_NAME_KERNEL)->text};
    p->register_count = p->inst_count = p->later_count = 0;
    p->source_file = p->source_line = 0;
    open_scope(p);
    if (ptx_parse_take(p, '(') && !ptx_parse_take(p, ')')) {
        do {
            expect_word(p, ".param");
            read_param(p);
        } while (ptx_parse_take(p, ','));
        ptx_parse_expect(p, ')');
    }
    while (p->lex.kind != '{') {
        if (take_word(p, ".maxntid") || take_word(p, ".reqntid"))
            kernel->threads_max = read_threads(p);
        else if (take_word(p, ".minnctapersm") || take_word(p, ".maxnreg"))
            ptx_parse_count(p, THREADS_MOST);
        else if (take_word(p, ".pragma"))
            skip_pragma(p);
        else
            ptx_parse_fail(p, "unknown word between an entry's head and its body");
    }
    read_body(p);
    p->depth--;
    ptx_parse_later(p);

    kernel->params = pool_copy(p, p->params, (size_t)kernel->param_count * sizeof *p->params);
    kernel->registers =
        pool_copy(p, p->registers, (size_t)p->register_count * sizeof *p->registers);
    kernel->register_count = p->register_count;
    kernel->insts = pool_copy(p, p->insts, (size_t)p->inst_count * sizeof *p->insts);
    kernel->inst_count = p->inst_count;
    p->kernels =
        ptx_parse_grow(p, p->kernels, p->kernel_count, &p->kernel_room, sizeof *p->kernels);
    p->kernels[p->kernel_count++] = *kernel;
}

/* ---- Files ----------------------------------------------------------------------------------- */

/* .file number "name" [, time, bytes] */
static void read_file(struct ptx_parser *p)
{
    int32_t number = (int32_t)ptx_parse_count(p, FILES_MOST);
    if (p->lex.kind != PTX_TOKEN_STRING)
        ptx_parse_fail(p, "expected a string, found");
    if (number >= p->file_count) {
        int32_t room = (number / FILES_STEP + 1) * FILES_STEP;
        const char **files = ptx_pool_get(&p->pool, (size_t)room * sizeof *files);
        if (!files)
            ptx_parse_fail(p, "no memory");
        for (int32_t i = 0; i < p->file_count; i++)
            files[i] = p->files[i];
        p->files = files;
        p->file_count = room;
    }
    p->files[number] = ptx_pool_text(&p->pool, p->lex.text, p->lex.length);
    if (!p->files[number])
        ptx_parse_fail(p, "no memory");
    ptx_lex_next(&p->lex);
    while (ptx_parse_take(p, ','))
        ptx_parse_count(p, UINT64_MAX);
}

/* Of the debugger: .section name { ... } */
static void skip_section(struct ptx_parser *p)
{
    if (p->lex.kind != PTX_TOKEN_WORD)
        ptx_parse_fail(p, "expected a name, found");
    ptx_lex_next(&p->lex);
    ptx_parse_expect(p, '{');
    while (p->lex.kind != '}') {
        if (p->lex.kind == PTX_TOKEN_END || p->lex.kind == '{')
            ptx_parse_fail(p, "a section without end");
        ptx_lex_next(&p->lex);
    }
    ptx_parse_expect(p, '}');
}

static void read_head(struct ptx_parser *p)
{
    expect_word(p, ".version");
    if (p->lex.kind != PTX_TOKEN_NUMBER)
        ptx_parse_fail(p, "expected a version, found");
    ptx_lex_next(&p->lex);
    expect_word(p, ".target");
    expect_word(p, "sm_80");
    expect_word(p, ".address_size");
    if (ptx_parse_count(p, 64) != 64)
        ptx_parse_fail(p, "only addresses of 64 bits are known; before");
}

static void read_text(struct ptx_parser *p)
{
    read_head(p);
    while (p->lex.kind != PTX_TOKEN_END) {
        if (take_word(p, ".visible") || take_word(p, ".weak")) {
            expect_word(p, ".entry");
            read_entry(p);
        } else if (take_word(p, ".entry")) {
            read_entry(p);
        } else if (take_word(p, ".extern")) {
            read_extern(p);
        } else if (take_word(p, ".file")) {
            read_file(p);
        } else if (take_word(p, ".section")) {
            skip_section(p);
        } else {
            ptx_parse_fail(p, "unknown word outside an entry");
        }
    }
}

static struct ptx_module *read_module(struct ptx_parser *p)
{
    if (setjmp(p->fail) != 0)
        return NULL;
    open_scope(p); /* PTX_SCOPE_FILE */
    ptx_lex_start(&p->lex, p->lex.text, p->lex.length);
    read_text(p);
    struct ptx_module *module = pool_copy(p, &(struct ptx_module){0}, sizeof *module);
    module->kernels = pool_copy(p, p->kernels, (size_t)p->kernel_count * sizeof *p->kernels);
    module->kernel_count = p->kernel_count;
    module->files = p->files;
    module->file_count = p->file_count;
    for (int32_t i = 0; i < module->kernel_count; i++)
        module->kernels[i].module = module;
    struct ptx_pool *pool = pool_copy(p, &p->pool, sizeof p->pool);
    *pool = p->pool;
    module->memory = pool;
    return module;
}

struct ptx_module *ptx_load(const char *text, size_t length, struct ptx_why *why)
{
    struct ptx_parser *p = calloc(1, sizeof *p);
    if (!p) {
        snprintf(why->text, sizeof why->text, "no memory");
        return NULL;
    }
    p->why = why;
    p->lex.text = text;
    p->lex.length = length;
    struct ptx_module *module = read_module(p);
    if (!module)
        ptx_pool_free(&p->pool);
    ptx_names_free(&p->names);
    free(p->parents);
    free(p->kernels);
    free(p->params);
    free(p->registers);
    free(p->insts);
    free(p->later);
    free(p);
    return module;
}

void ptx_unload(struct ptx_module *module)
{
    if (!module)
        return;
    for (int32_t i = 0; i < module->kernel_count; i++)
        free(module->kernels[i].ops);
    struct ptx_pool pool = *(struct ptx_pool *)module->memory;
    ptx_pool_free(&pool);
}

struct ptx_kernel *ptx_find(struct ptx_module *module, const char *name)
{
    for (int32_t i = 0; i < module->kernel_count; i++)
        if (strcmp(module->kernels[i].name, name) == 0)
            return &module->kernels[i];
    return NULL;
}
