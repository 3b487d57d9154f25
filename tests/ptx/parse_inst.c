/*
 * Reads a PTX instruction: guard, opcode and operands. Whether the opcode takes such operands is
 * for decode.c to say.
 *
 * Source: PTX ISA 9.0, sections 4.3 to 4.5, 6.4, 9.3 and 10.
 */
#include "tests/ptx/parse.h"

#include <string.h>

enum { ITEMS = sizeof((struct ptx_operand *)0)->item / sizeof(struct ptx_item) };

static const struct ptx_item no_item = {.kind = PTX_SINK, .reg = -1};

static bool read_special(const struct ptx_lex *lex, uint64_t *out)
{
    static const char *const names[] = {
        [PTX_TID_X] = "%tid.x",       [PTX_TID_Y] = "%tid.y",       [PTX_TID_Z] = "%tid.z",
        [PTX_NTID_X] = "%ntid.x",     [PTX_NTID_Y] = "%ntid.y",     [PTX_NTID_Z] = "%ntid.z",
        [PTX_CTAID_X] = "%ctaid.x",   [PTX_CTAID_Y] = "%ctaid.y",   [PTX_CTAID_Z] = "%ctaid.z",
        [PTX_NCTAID_X] = "%nctaid.x", [PTX_NCTAID_Y] = "%nctaid.y", [PTX_NCTAID_Z] = "%nctaid.z",
        [PTX_LANEID] = "%laneid",     [PTX_WARPID] = "%warpid",
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (ptx_lex_is(lex, names[i])) {
            *out = i;
            return true;
        }
    }
    return false;
}

/* [-]number in two's complement; 0f and 0d are their bits. */
static uint64_t read_immediate(struct ptx_parser *p, bool real_allowed)
{
    bool minus = ptx_parse_take(p, '-');
    uint64_t value;
    bool real;
    if (!ptx_lex_number(&p->lex, &value, &real))
        ptx_parse_fail(p, "expected a number, found");
    if (real && (minus || !real_allowed))
        ptx_parse_fail(p, "a whole number is wanted here, not");
    if (minus && value > (uint64_t)1 << 63)
        ptx_parse_fail(p, "too large a number");
    ptx_lex_next(&p->lex);
    return minus ? 0 - value : value;
}

static bool starts_immediate(const struct ptx_parser *p)
{
    return p->lex.kind == PTX_TOKEN_NUMBER || p->lex.kind == '-';
}

/* [+ n] or [- n] */
static int64_t read_offset(struct ptx_parser *p)
{
    if (p->lex.kind != '-' && !ptx_parse_take(p, '+'))
        return 0;
    uint64_t value = read_immediate(p, false);
    int64_t offset;
    memcpy(&offset, &value, sizeof offset);
    return offset;
}

static void add_later(struct ptx_parser *p, int32_t operand, bool label)
{
    p->later = ptx_parse_grow(p, p->later, p->later_count, &p->later_room, sizeof *p->later);
    p->later[p->later_count++] = (struct ptx_later){
        .inst = p->inst_count,
        .operand = operand,
        .scope = p->nesting[p->depth - 1],
        .line = p->lex.line,
        .text = label ? p->lex.text : NULL,
        .length = p->lex.length,
    };
}

/*
 * A name, a number or _. `operand`: its place in the instruction, -1 where neither a symbol nor a
 * label may stand: in a vector.
 */
static struct ptx_item read_item(struct ptx_parser *p, int32_t operand)
{
    struct ptx_item item = no_item;
    if (starts_immediate(p)) {
        item.kind = PTX_IMM;
        item.value = read_immediate(p, true);
        return item;
    }
    if (p->lex.kind != PTX_TOKEN_WORD)
        ptx_parse_fail(p, "expected an operand, found");
    if (ptx_lex_is(&p->lex, "_")) {
        ptx_lex_next(&p->lex);
        return item;
    }
    const struct ptx_name *name = ptx_parse_name(p);
    if (name && name->kind == PTX_NAME_REGISTER) {
        item.kind = PTX_REG;
        item.reg = (int32_t)name->value;
    } else if (operand < 0 || (name && name->kind == PTX_NAME_KERNEL)) {
        ptx_parse_fail(p, "no such thing may stand here");
    } else if (name) {
        item.kind = PTX_SYMBOL;
        item.value = name->value;
        if (name->kind == PTX_NAME_DYNAMIC) {
            add_later(p, operand, false);
            if (p->kernel.dynamic_align < name->value)
                p->kernel.dynamic_align = (uint32_t)name->value;
        }
    } else if (read_special(&p->lex, &item.value)) {
        item.kind = PTX_SPECIAL;
    } else if (p->lex.text[0] == '%') {
        ptx_parse_fail(p, "unknown register");
    } else {
        item.kind = PTX_LABEL;
        add_later(p, operand, true);
    }
    ptx_lex_next(&p->lex);
    return item;
}

static void read_vector(struct ptx_parser *p, struct ptx_operand *out)
{
    out->kind = PTX_VECTOR;
    out->count = 0;
    do {
        if (out->count == ITEMS)
            ptx_parse_fail(p, "a vector of more than four; before");
        out->item[out->count++] = read_item(p, -1);
    } while (ptx_parse_take(p, ','));
    ptx_parse_expect(p, '}');
}

static struct ptx_operand read_operand(struct ptx_parser *p, int32_t place)
{
    struct ptx_operand out = {.count = 1, .item = {no_item, no_item, no_item, no_item}};
    if (ptx_parse_take(p, '{')) {
        read_vector(p, &out);
    } else if (ptx_parse_take(p, '[')) {
        out.kind = PTX_ADDRESS;
        out.item[0] = read_item(p, place);
        enum ptx_kind kind = out.item[0].kind;
        if (kind != PTX_REG && kind != PTX_SYMBOL && kind != PTX_IMM)
            ptx_parse_fail(p, "no such address is known; before");
        out.offset = read_offset(p);
        ptx_parse_expect(p, ']');
    } else {
        out.item[0] = read_item(p, place);
        out.kind = out.item[0].kind;
        if (out.kind == PTX_SYMBOL)
            out.offset = read_offset(p);
    }
    return out;
}

/* A name of an opcode is there once. */
static const char *read_opcode(struct ptx_parser *p)
{
    const struct ptx_lex *lex = &p->lex;
    if (lex->kind != PTX_TOKEN_WORD || lex->text[0] < 'a' || lex->text[0] > 'z')
        ptx_parse_fail(p, "expected an instruction, found");
    struct ptx_name *name =
        ptx_names_find(&p->names, PTX_SCOPE_FILE, lex->text, lex->length, PTX_NAME_OPCODE);
    if (!name)
        name = ptx_names_add(&p->names, &p->pool, PTX_SCOPE_FILE, lex->text, lex->length,
                             PTX_NAME_OPCODE);
    if (!name)
        ptx_parse_fail(p, "no memory");
    ptx_lex_next(&p->lex);
    return name->text;
}

static void read_guard(struct ptx_parser *p, struct ptx_inst *inst)
{
    inst->guard = -1;
    if (!ptx_parse_take(p, '@'))
        return;
    inst->guard_not = ptx_parse_take(p, '!');
    const struct ptx_name *name = p->lex.kind == PTX_TOKEN_WORD ? ptx_parse_name(p) : NULL;
    if (!name || name->kind != PTX_NAME_REGISTER || p->registers[name->value].bytes != 0)
        ptx_parse_fail(p, "expected a predicate, found");
    inst->guard = (int32_t)name->value;
    ptx_lex_next(&p->lex);
}

void ptx_parse_inst(struct ptx_parser *p)
{
    struct ptx_inst inst = {.source_file = p->source_file, .source_line = p->source_line};
    read_guard(p, &inst);
    inst.line = p->lex.line;
    inst.name = read_opcode(p);
    if (p->lex.kind != ';') {
        do {
            if (inst.count == PTX_OPERANDS)
                ptx_parse_fail(p, "more operands than any instruction has; before");
            inst.operand[inst.count] = read_operand(p, inst.count);
            inst.count++;
        } while (ptx_parse_take(p, ',') || (inst.count == 1 && ptx_parse_take(p, '|')));
    }
    ptx_parse_expect(p, ';');
    p->insts = ptx_parse_grow(p, p->insts, p->inst_count, &p->inst_room, sizeof *p->insts);
    p->insts[p->inst_count++] = inst;
}

/* A label of the scope or of those around it. */
static uint64_t find_label(struct ptx_parser *p, const struct ptx_later *later)
{
    for (int32_t scope = later->scope; scope != PTX_SCOPE_FILE; scope = p->parents[scope]) {
        const struct ptx_name *name =
            ptx_names_find(&p->names, scope, later->text, later->length, PTX_NAME_LABEL);
        if (name)
            return name->value;
    }
    ptx_parse_fail_at(p, later->line, later->text, later->length, "unknown name");
}

void ptx_parse_later(struct ptx_parser *p)
{
    uint64_t align = p->kernel.dynamic_align;
    uint64_t dynamic = align ? (p->kernel.shared_bytes + align - 1) / align * align : 0;
    for (int32_t i = 0; i < p->later_count; i++) {
        const struct ptx_later *later = &p->later[i];
        struct ptx_item *item = &p->insts[later->inst].operand[later->operand].item[0];
        item->value = later->text ? find_label(p, later) : dynamic;
    }
}
