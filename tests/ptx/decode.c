/*
 * From instructions as PTX names them to what a warp runs: for every opcode its rule, for every
 * operand the place of a register, of a constant or of the scratch. A kernel's file begins with its
 * registers (place.c); behind them come the constants and at the end the scratch. A constant is
 * whatever an instruction reads that is no register; it is there once for every value and width.
 */
#include "tests/ptx/machine.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- Rules by name --------------------------------------------------------------------------- */

struct ptx_named {
    const struct ptx_rule *rule;
    size_t order; /* in the tables: rules of one name are tried in it */
};

static struct ptx_named *named; /* sorted; lives as long as the process */
static size_t named_count;
static pthread_once_t named_once = PTHREAD_ONCE_INIT;

static int compare_named(const void *left, const void *right)
{
    const struct ptx_named *a = left, *b = right;
    int order = strcmp(a->rule->name, b->rule->name);
    return order != 0 ? order : (a->order > b->order) - (a->order < b->order);
}

static void sort_rules(void)
{
    const struct ptx_rule *tables[] = {ptx_rules_integer, ptx_rules_float, ptx_rules_memory,
                                       ptx_rules_collective, ptx_rules_control};
    const size_t count = sizeof tables / sizeof tables[0];
    size_t rules = 0;
    for (size_t t = 0; t < count; t++)
        for (const struct ptx_rule *rule = tables[t]; rule->name != NULL; rule++)
            rules++;
    named = calloc(rules, sizeof *named);
    if (named == NULL)
        return;
    for (size_t t = 0; t < count; t++)
        for (const struct ptx_rule *rule = tables[t]; rule->name != NULL; rule++, named_count++)
            named[named_count] = (struct ptx_named){rule, named_count};
    qsort(named, named_count, sizeof *named, compare_named);
}

/* The first rule of that name or, if there is none, of a later one. */
static size_t find_rule(const char *name)
{
    size_t low = 0, high = named_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (strcmp(named[middle].rule->name, name) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* ---- Signatures ------------------------------------------------------------------------------ */

/* One operand of ptx_rule.operands. */
struct ptx_slot {
    char letter;   /* p h w d a l */
    int32_t count; /* of a vector, 0: none */
    bool optional, result;
};

enum { SLOTS = PTX_OPERANDS + 1 };

static int32_t read_signature(const char *text, struct ptx_slot slots[SLOTS])
{
    int32_t count = 0, results = 0;
    for (; *text != '\0' && count < SLOTS; text++) {
        struct ptx_slot slot = {0};
        if (*text == '=') {
            results = count;
            continue;
        }
        if (*text >= '1' && *text <= '4')
            slot.count = *text++ - '0';
        slot.optional = *text >= 'A' && *text <= 'Z';
        slot.letter = (char)(slot.optional ? *text - 'A' + 'a' : *text);
        slots[count++] = slot;
    }
    for (int32_t i = 0; i < results; i++)
        slots[i].result = true;
    return count;
}

/* Bytes of a lane's register, 0: a predicate. */
static uint8_t letter_bytes(char letter)
{
    return letter == 'd' || letter == 'a' ? 8 : letter == 'w' ? 4 : letter == 'h' ? 2 : 0;
}

static bool item_fits(const struct ptx_kernel *k, const struct ptx_item *item,
                      const struct ptx_slot *slot)
{
    if (item->kind == PTX_REG)
        return k->registers[item->reg].bytes == letter_bytes(slot->letter);
    if (item->kind == PTX_SINK)
        return slot->result;
    return !slot->result &&
           (item->kind == PTX_IMM ||
            (slot->letter != 'p' && (item->kind == PTX_SPECIAL || item->kind == PTX_SYMBOL)));
}

static bool operand_fits(const struct ptx_kernel *k, const struct ptx_operand *operand,
                         const struct ptx_slot *slot)
{
    const struct ptx_item *item = operand->item;
    if (slot->letter == 'l')
        return operand->kind == PTX_LABEL;
    if (slot->letter == 'a')
        return operand->kind == PTX_ADDRESS &&
               (item->kind != PTX_REG || k->registers[item->reg].bytes >= 4);
    if ((operand->kind == PTX_VECTOR) != (slot->count > 0) ||
        (slot->count > 0 && operand->count != slot->count) || operand->kind == PTX_ADDRESS)
        return false;
    for (int32_t i = 0; i < operand->count; i++)
        if (!item_fits(k, &item[i], slot))
            return false;
    return true;
}

/* ---- One kernel ------------------------------------------------------------------------------ */

/* What stands in at[] until registers and constants are placed. */
struct ptx_source {
    enum { FROM_REGISTER, FROM_CONSTANT, FROM_SCRATCH } from;
    int32_t index;
};

struct ptx_decoder {
    struct ptx_kernel *kernel;
    const struct ptx_inst *inst; /* the present one */
    struct ptx_op *op;           /* likewise */
    struct ptx_op *ops;
    struct ptx_source (*sources)[PTX_PLACES]; /* of every op's at[] */
    struct ptx_constant *constants;
    int32_t constant_count;
    int32_t *slots; /* hash table: index of a constant + 1; twice the room, a power of two */
    size_t slot_count;
    struct ptx_why *why;
};

static bool __attribute__((format(printf, 2, 3)))
refuse(struct ptx_decoder *d, const char *format, ...)
{
    int used = snprintf(d->why->text, sizeof d->why->text, "%s: line %d: %s: ", d->kernel->name,
                        d->inst->line, d->inst->name);
    if (used >= 0 && (size_t)used < sizeof d->why->text) {
        va_list args;
        va_start(args, format);
        vsnprintf(d->why->text + used, sizeof d->why->text - (size_t)used, format, args);
        va_end(args);
    }
    return false;
}

/* The constant of these bits, as many as its width shows: one for all that read it. */
static struct ptx_source constant(struct ptx_decoder *d, uint8_t kind, uint8_t bytes,
                                  uint64_t value)
{
    if (kind == PTX_CONST_VALUE && bytes < 8)
        value = bytes == 0 ? value != 0 : value & (((uint64_t)1 << 8 * bytes) - 1);
    const uint64_t key = value ^ (uint64_t)bytes << 56 ^ (uint64_t)kind << 60;
    size_t at = (size_t)(key * 0x9e3779b97f4a7c15u >> 32) & (d->slot_count - 1);
    for (; d->slots[at] != 0; at = (at + 1) & (d->slot_count - 1)) {
        const struct ptx_constant *c = &d->constants[d->slots[at] - 1];
        if (c->kind == kind && c->bytes == bytes && c->value == value)
            return (struct ptx_source){FROM_CONSTANT, d->slots[at] - 1};
    }
    d->constants[d->constant_count] = (struct ptx_constant){kind, bytes, 0, value};
    d->slots[at] = ++d->constant_count;
    return (struct ptx_source){FROM_CONSTANT, d->constant_count - 1};
}

/* `offset`: of a symbol. */
static struct ptx_source source_of(struct ptx_decoder *d, const struct ptx_item *item,
                                   uint8_t bytes, int64_t offset)
{
    switch (item->kind) {
    case PTX_REG:
        return (struct ptx_source){FROM_REGISTER, item->reg};
    case PTX_IMM:
        return constant(d, PTX_CONST_VALUE, bytes, item->value);
    case PTX_SPECIAL:
        return constant(d, PTX_CONST_SPECIAL, bytes, item->value);
    case PTX_SYMBOL:
        return constant(d, PTX_CONST_VALUE, bytes, item->value + (uint64_t)offset);
    case PTX_SINK:
    case PTX_ADDRESS:
    case PTX_VECTOR:
    case PTX_LABEL:
        break;
    }
    return (struct ptx_source){FROM_SCRATCH, 0};
}

static void take_operand(struct ptx_decoder *d, const struct ptx_operand *operand,
                         const struct ptx_slot *slot, struct ptx_source *sources,
                         bool first_address)
{
    struct ptx_op *op = d->op;
    const struct ptx_item *item = operand->item;
    const uint8_t bytes = letter_bytes(slot->letter);
    if (slot->letter == 'l') {
        op->target = (int32_t)item->value;
        return;
    }
    if (slot->letter == 'a') {
        if (first_address) {
            op->offset = operand->offset;
            op->address_wide = item->kind != PTX_REG || d->kernel->registers[item->reg].bytes == 8;
        }
        sources[op->count++] = source_of(d, item, bytes, 0);
        return;
    }
    for (int32_t i = 0; i < operand->count; i++)
        sources[op->count++] = source_of(d, &item[i], bytes, operand->offset);
}

/*
 * Gives every slot of the rule its operand, -1 to those that are missing: the last ones that may
 * be. Returns the number of an operand that does not fit from 1, 0 if all do, -1 if there are too
 * few or too many.
 */
static int32_t match(const struct ptx_kernel *k, const struct ptx_inst *inst,
                     const struct ptx_slot *slots, int32_t slot_count, int32_t operands[SLOTS])
{
    int32_t missing = slot_count - inst->count;
    bool left_out[SLOTS] = {false};
    for (int32_t s = slot_count - 1; s >= 0 && missing > 0; s--) {
        left_out[s] = slots[s].optional;
        missing -= left_out[s];
    }
    if (missing != 0)
        return -1;
    for (int32_t s = 0, o = 0; s < slot_count; s++) {
        operands[s] = left_out[s] ? -1 : o++;
        if (operands[s] >= 0 && !operand_fits(k, &inst->operand[operands[s]], &slots[s]))
            return o;
    }
    return 0;
}

static void take_rule(struct ptx_decoder *d, const struct ptx_rule *rule,
                      const struct ptx_slot *slots, int32_t slot_count, const int32_t *operands)
{
    struct ptx_op *op = d->op;
    struct ptx_source *sources = d->sources[op - d->ops];
    bool first_address = true;
    op->act = rule->act;
    op->flow = rule->flow;
    op->mask = rule->mask;
    for (int32_t s = 0; s < slot_count; s++) {
        if (operands[s] >= 0) {
            take_operand(d, &d->inst->operand[operands[s]], &slots[s], sources, first_address);
            first_address = first_address && slots[s].letter != 'a';
            op->results += slots[s].result;
        } else if (slots[s].result) {
            sources[op->count++] = (struct ptx_source){FROM_SCRATCH, 0};
        } else {
            sources[op->count++] = constant(d, PTX_CONST_VALUE, letter_bytes(slots[s].letter), 0);
        }
    }
}

static bool decode_inst(struct ptx_decoder *d)
{
    const struct ptx_inst *inst = d->inst;
    *d->op = (struct ptx_op){.inst = inst, .guard = inst->guard, .guard_not = inst->guard_not};
    int32_t wrong = -1, tried = 0;
    for (size_t r = find_rule(inst->name);
         r < named_count && strcmp(named[r].rule->name, inst->name) == 0; r++, tried++) {
        struct ptx_slot slots[SLOTS];
        int32_t operands[SLOTS];
        int32_t slot_count = read_signature(named[r].rule->operands, slots);
        wrong = match(d->kernel, inst, slots, slot_count, operands);
        if (wrong == 0) {
            take_rule(d, named[r].rule, slots, slot_count, operands);
            return true;
        }
    }
    if (tried == 0)
        return refuse(d, "this instruction is not known");
    if (wrong < 0)
        return refuse(d, "known, but not with %d operands", inst->count);
    return refuse(d, "operand %d is not of the kind or width it must have", wrong);
}

/* ---- Places ---------------------------------------------------------------------------------- */

static uint32_t round_64(uint32_t bytes)
{
    return (bytes + 63) & ~63u;
}

/* Behind `at`: constants of 2 to 8 bytes a lane, predicates, the scratch. Returns the scratch's
 * place. */
static uint32_t place_constants(struct ptx_decoder *d, uint32_t at)
{
    for (int32_t i = 0; i < d->constant_count; i++) {
        struct ptx_constant *c = &d->constants[i];
        c->at = at;
        at += (uint32_t)c->bytes * PTX_LANES;
    }
    for (int32_t i = 0; i < d->constant_count; i++) {
        if (d->constants[i].bytes != 0)
            continue;
        d->constants[i].at = at;
        at += (uint32_t)sizeof(uint32_t);
    }
    return round_64(at);
}

static void place_op(struct ptx_decoder *d, struct ptx_op *op, uint32_t scratch)
{
    const struct ptx_source *sources = d->sources[op - d->ops];
    const struct ptx_register *registers = d->kernel->registers;
    for (int32_t i = 0; i < op->count; i++)
        op->at[i] = sources[i].from == FROM_REGISTER   ? registers[sources[i].index].at
                    : sources[i].from == FROM_CONSTANT ? d->constants[sources[i].index].at
                                                       : scratch;
    if (op->guard >= 0)
        op->guard = (int32_t)registers[op->guard].at;
}

/* The ops and, behind them, the constants: one piece of memory. */
static bool decode(struct ptx_decoder *d)
{
    struct ptx_kernel *k = d->kernel;
    const size_t op_count = (size_t)k->inst_count + 1;
    for (int32_t i = 0; i < k->inst_count; i++) {
        d->inst = &k->insts[i];
        d->op = &d->ops[i];
        if (!decode_inst(d))
            return false;
    }
    d->ops[k->inst_count] = (struct ptx_op){.flow = PTX_EXIT, .guard = -1};

    k->ops = d->ops; /* ptx_place looks at them */
    const uint32_t registers = ptx_place(k);
    k->ops = NULL;
    if (registers == 0)
        return refuse(d, "no memory");
    const uint32_t scratch = place_constants(d, round_64(registers));
    for (size_t i = 0; i < op_count; i++)
        place_op(d, &d->ops[i], scratch);

    const size_t constants = (size_t)d->constant_count * sizeof *d->constants;
    unsigned char *memory = malloc(op_count * sizeof *d->ops + constants);
    if (memory == NULL)
        return refuse(d, "no memory");
    memcpy(memory, d->ops, op_count * sizeof *d->ops);
    memcpy(memory + op_count * sizeof *d->ops, d->constants, constants);
    k->file_bytes = scratch + (uint32_t)sizeof(uint64_t) * PTX_LANES;
    k->constants = (const struct ptx_constant *)(const void *)(memory + op_count * sizeof *d->ops);
    k->constant_count = d->constant_count;
    k->ops = (struct ptx_op *)(void *)memory;
    return true;
}

bool ptx_decode(struct ptx_kernel *kernel, struct ptx_why *why)
{
    static const struct ptx_inst nothing = {.name = "", .line = 0};
    struct ptx_decoder d = {.kernel = kernel, .inst = &nothing, .why = why, .slot_count = 1};
    const size_t op_count = (size_t)kernel->inst_count + 1, room = op_count * PTX_PLACES;
    pthread_once(&named_once, sort_rules);
    while (d.slot_count < 2 * room)
        d.slot_count *= 2;
    d.ops = calloc(op_count, sizeof *d.ops);
    d.sources = calloc(op_count, sizeof *d.sources);
    d.constants = calloc(room, sizeof *d.constants);
    d.slots = calloc(d.slot_count, sizeof *d.slots);
    const bool memory = named != NULL && d.ops != NULL && d.sources != NULL &&
                        d.constants != NULL && d.slots != NULL;
    const bool done = memory ? decode(&d) : refuse(&d, "no memory");
    free(d.ops);
    free(d.sources);
    free(d.constants);
    free(d.slots);
    return done;
}
