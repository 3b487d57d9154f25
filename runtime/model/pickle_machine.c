#include "runtime/model/pickle_machine.h"

#include <string.h>

enum {
    STACK_MAX = 4096,
    MEMO_PAGE = 256, /* entries; pages are made when they are needed, as most files need one */
    MEMO_PAGES = 256,
    MEMO_MAX = MEMO_PAGE * MEMO_PAGES,
    STEPS_MAX = 1000 * 1000
};

struct machine {
    struct ld_arena *arena;
    struct ld_span bytes;
    size_t pos;
    struct ld_pickle_value *stack[STACK_MAX];
    uint32_t depth;
    struct ld_pickle_value **memo[MEMO_PAGES];
    uint32_t memo_next; /* for MEMOIZE */
    struct ld_error *err;
};

/* ---- Errors ---------------------------------------------------------------------------------- */

static enum ld_code damaged(struct machine *machine)
{
    return LD_FAIL(machine->err, LD_E_FORMAT, "the pickle is damaged");
}

static enum ld_code refused(struct machine *machine, const char *what)
{
    return LD_FAIL(machine->err, LD_E_UNSUPPORTED,
                   "the pickle holds %s, which tensors do not need; it is not read further", what);
}

/* ---- Stack ----------------------------------------------------------------------------------- */

static enum ld_code push(struct machine *machine, struct ld_pickle_value *value)
{
    if (!value)
        return LD_FAIL(machine->err, LD_E_NOMEM, "the pickle needs too much memory");
    if (machine->depth == STACK_MAX)
        return LD_FAIL(machine->err, LD_E_TOO_LARGE, "the pickle is nested too deeply");
    machine->stack[machine->depth++] = value;
    return LD_OK;
}

/* NULL on an empty stack or at a mark. */
static struct ld_pickle_value *pop(struct machine *machine)
{
    if (machine->depth == 0 || machine->stack[machine->depth - 1]->kind == LD_PICKLE_MARK)
        return NULL;
    return machine->stack[--machine->depth];
}

static struct ld_pickle_value *make(struct machine *machine, enum ld_pickle_kind kind)
{
    struct ld_pickle_value *value = ld_arena_alloc(machine->arena, sizeof *value);
    if (value)
        value->kind = kind;
    return value;
}

static enum ld_code push_new(struct machine *machine, enum ld_pickle_kind kind, int64_t integer)
{
    struct ld_pickle_value *value = make(machine, kind);
    if (value)
        value->integer = integer;
    return push(machine, value);
}

static bool append(struct machine *machine, struct ld_pickle_value *container,
                   struct ld_pickle_value *value)
{
    struct ld_pickle_cell *cell = ld_arena_alloc(machine->arena, sizeof *cell);
    if (!cell)
        return false;
    cell->value = value;
    if (container->last)
        container->last->next = cell;
    else
        container->first = cell;
    container->last = cell;
    container->members++;
    return true;
}

/* Index just above the topmost mark; false if there is none. */
static bool above_mark(const struct machine *machine, uint32_t *index)
{
    for (uint32_t i = machine->depth; i-- > 0;) {
        if (machine->stack[i]->kind == LD_PICKLE_MARK) {
            *index = i + 1;
            return true;
        }
    }
    return false;
}

/* Move everything from `from` up into `container`, then drop the mark below. */
static enum ld_code collect(struct machine *machine, struct ld_pickle_value *container,
                            uint32_t from, uint32_t keep)
{
    for (uint32_t i = from; i < machine->depth; i++) {
        if (!append(machine, container, machine->stack[i]))
            return LD_FAIL(machine->err, LD_E_NOMEM, "the pickle needs too much memory");
    }
    machine->depth = keep;
    return LD_OK;
}

/* ---- Operands -------------------------------------------------------------------------------- */

static bool take(struct machine *machine, size_t size, struct ld_span *out)
{
    if (size > machine->bytes.size - machine->pos)
        return false;
    *out = ld_span_of(machine->bytes.data + machine->pos, size);
    machine->pos += size;
    return true;
}

/* An unsigned little-endian operand of 1, 2, 4 or 8 bytes. */
static bool take_number(struct machine *machine, size_t size, uint64_t *out)
{
    struct ld_span bytes;
    if (!take(machine, size, &bytes))
        return false;
    *out = 0;
    for (size_t i = size; i-- > 0;)
        *out = *out << 8 | bytes.data[i];
    return true;
}

/* Text up to a newline, as GLOBAL has twice. */
static bool take_line(struct machine *machine, struct ld_span *out)
{
    const uint8_t *start = machine->bytes.data + machine->pos;
    const uint8_t *end = memchr(start, '\n', machine->bytes.size - machine->pos);
    if (!end)
        return false;
    *out = ld_span_of(start, (size_t)(end - start));
    machine->pos += out->size + 1;
    return true;
}

static enum ld_code push_text(struct machine *machine, size_t length_size)
{
    uint64_t size;
    struct ld_span text;
    if (!take_number(machine, length_size, &size) || size > machine->bytes.size ||
        !take(machine, (size_t)size, &text))
        return damaged(machine);
    struct ld_pickle_value *value = make(machine, LD_PICKLE_TEXT);
    if (value)
        value->text = text;
    return push(machine, value);
}

/* Two's complement of up to 8 bytes (LONG1). */
static enum ld_code push_long(struct machine *machine)
{
    uint64_t size;
    uint64_t bits = 0;
    if (!take_number(machine, 1, &size) || size > 8 ||
        (size > 0 && !take_number(machine, (size_t)size, &bits)))
        return damaged(machine);
    if (size > 0 && size < 8 && (bits >> (8 * size - 1) & 1))
        bits |= ~(uint64_t)0 << (8 * size);
    return push_new(machine, LD_PICKLE_INTEGER, (int64_t)bits);
}

/* ---- Memo ------------------------------------------------------------------------------------ */

static enum ld_code memoize(struct machine *machine, uint64_t index)
{
    if (index >= MEMO_MAX || machine->depth == 0)
        return damaged(machine);
    struct ld_pickle_value ***page = &machine->memo[index / MEMO_PAGE];
    if (!*page)
        *page = ld_arena_calloc(machine->arena, MEMO_PAGE, sizeof **page);
    if (!*page)
        return LD_FAIL(machine->err, LD_E_NOMEM, "the pickle needs too much memory");
    (*page)[index % MEMO_PAGE] = machine->stack[machine->depth - 1];
    return LD_OK;
}

static enum ld_code recall(struct machine *machine, size_t size)
{
    uint64_t index;
    if (!take_number(machine, size, &index) || index >= MEMO_MAX)
        return damaged(machine);
    struct ld_pickle_value *const *page = machine->memo[index / MEMO_PAGE];
    if (!page || !page[index % MEMO_PAGE])
        return damaged(machine);
    return push(machine, page[index % MEMO_PAGE]);
}

/* ---- Globals --------------------------------------------------------------------------------- */

struct global_name {
    const char *module, *name;
    enum ld_pickle_global global;
    enum ld_dtype dtype;
};

static const struct global_name globals[] = {
    {"torch._utils", "_rebuild_tensor_v2", LD_PICKLE_REBUILD_TENSOR, LD_DTYPE_OTHER},
    {"torch._utils", "_rebuild_parameter", LD_PICKLE_REBUILD_PARAMETER, LD_DTYPE_OTHER},
    {"collections", "OrderedDict", LD_PICKLE_ORDERED_DICT, LD_DTYPE_OTHER},
    {"torch", "FloatStorage", LD_PICKLE_STORAGE_TYPE, LD_DTYPE_F32},
    {"torch", "HalfStorage", LD_PICKLE_STORAGE_TYPE, LD_DTYPE_F16},
    {"torch", "BFloat16Storage", LD_PICKLE_STORAGE_TYPE, LD_DTYPE_BF16},
    {"torch", "DoubleStorage", LD_PICKLE_STORAGE_TYPE, LD_DTYPE_F64},
    {"torch", "LongStorage", LD_PICKLE_STORAGE_TYPE, LD_DTYPE_I64},
    {"torch", "IntStorage", LD_PICKLE_STORAGE_TYPE, LD_DTYPE_I32},
    {"torch", "ShortStorage", LD_PICKLE_STORAGE_TYPE, LD_DTYPE_I16},
    {"torch", "CharStorage", LD_PICKLE_STORAGE_TYPE, LD_DTYPE_I8},
    {"torch", "ByteStorage", LD_PICKLE_STORAGE_TYPE, LD_DTYPE_U8},
    {"torch", "BoolStorage", LD_PICKLE_STORAGE_TYPE, LD_DTYPE_BOOL},
};

static enum ld_code push_global(struct machine *machine, struct ld_span module, struct ld_span name)
{
    for (size_t i = 0; i < sizeof globals / sizeof globals[0]; i++) {
        if (!ld_span_is(module, globals[i].module) || !ld_span_is(name, globals[i].name))
            continue;
        struct ld_pickle_value *value = make(machine, LD_PICKLE_GLOBAL);
        if (value) {
            value->global = globals[i].global;
            value->dtype = globals[i].dtype;
        }
        return push(machine, value);
    }
    return refused(machine, "a reference to code");
}

static enum ld_code global_from_lines(struct machine *machine)
{
    struct ld_span module;
    struct ld_span name;
    if (!take_line(machine, &module) || !take_line(machine, &name))
        return damaged(machine);
    return push_global(machine, module, name);
}

static enum ld_code global_from_stack(struct machine *machine)
{
    const struct ld_pickle_value *name = pop(machine);
    const struct ld_pickle_value *module = pop(machine);
    if (!name || !module || name->kind != LD_PICKLE_TEXT || module->kind != LD_PICKLE_TEXT)
        return damaged(machine);
    return push_global(machine, module->text, name->text);
}

/* ---- Tensors --------------------------------------------------------------------------------- */

/* The n-th member, NULL if there are fewer. */
static struct ld_pickle_value *member(const struct ld_pickle_value *container, uint32_t index)
{
    struct ld_pickle_cell *cell = container->first;
    while (cell && index-- > 0)
        cell = cell->next;
    return cell ? cell->value : NULL;
}

static bool is_kind(const struct ld_pickle_value *value, enum ld_pickle_kind kind)
{
    return value && value->kind == kind;
}

/* ('storage', type, key, location, elements) */
static enum ld_code push_storage(struct machine *machine)
{
    const struct ld_pickle_value *id = pop(machine);
    if (!is_kind(id, LD_PICKLE_TUPLE))
        return damaged(machine);
    const struct ld_pickle_value *word = member(id, 0);
    const struct ld_pickle_value *type = member(id, 1);
    const struct ld_pickle_value *key = member(id, 2);
    const struct ld_pickle_value *elements = member(id, 4);
    if (!is_kind(word, LD_PICKLE_TEXT) || !ld_span_is(word->text, "storage") ||
        !is_kind(type, LD_PICKLE_GLOBAL) || type->global != LD_PICKLE_STORAGE_TYPE ||
        !is_kind(key, LD_PICKLE_TEXT) || !is_kind(elements, LD_PICKLE_INTEGER) ||
        elements->integer < 0)
        return damaged(machine);
    struct ld_pickle_value *value = make(machine, LD_PICKLE_STORAGE);
    if (value) {
        value->text = key->text;
        value->dtype = type->dtype;
        value->elements = (uint64_t)elements->integer;
    }
    return push(machine, value);
}

static bool read_dims(const struct ld_pickle_value *tuple, uint32_t rank,
                      uint64_t out[LD_PICKLE_RANK_MAX])
{
    for (uint32_t i = 0; i < rank; i++) {
        const struct ld_pickle_value *dim = member(tuple, i);
        if (!is_kind(dim, LD_PICKLE_INTEGER) || dim->integer < 0)
            return false;
        out[i] = (uint64_t)dim->integer;
    }
    return true;
}

/* (storage, offset, shape, strides, requires_grad, hooks) */
static enum ld_code push_tensor(struct machine *machine, const struct ld_pickle_value *args)
{
    const struct ld_pickle_value *storage = member(args, 0);
    const struct ld_pickle_value *offset = member(args, 1);
    const struct ld_pickle_value *shape = member(args, 2);
    const struct ld_pickle_value *strides = member(args, 3);
    if (!is_kind(storage, LD_PICKLE_STORAGE) || !is_kind(offset, LD_PICKLE_INTEGER) ||
        offset->integer < 0 || !is_kind(shape, LD_PICKLE_TUPLE) ||
        !is_kind(strides, LD_PICKLE_TUPLE) || shape->members != strides->members)
        return damaged(machine);
    if (shape->members > LD_PICKLE_RANK_MAX)
        return LD_FAIL(machine->err, LD_E_TOO_LARGE,
                       "a tensor of the pickle has more than %d "
                       "dimensions",
                       LD_PICKLE_RANK_MAX);
    struct ld_pickle_value *value = make(machine, LD_PICKLE_TENSOR);
    if (value) {
        value->storage = storage;
        value->offset = (uint64_t)offset->integer;
        value->rank = shape->members;
        if (!read_dims(shape, value->rank, value->shape) ||
            !read_dims(strides, value->rank, value->strides))
            return damaged(machine);
    }
    return push(machine, value);
}

static enum ld_code reduce(struct machine *machine)
{
    const struct ld_pickle_value *args = pop(machine);
    const struct ld_pickle_value *function = pop(machine);
    if (!is_kind(args, LD_PICKLE_TUPLE) || !is_kind(function, LD_PICKLE_GLOBAL))
        return damaged(machine);
    switch (function->global) {
    case LD_PICKLE_REBUILD_TENSOR:
        return push_tensor(machine, args);
    case LD_PICKLE_REBUILD_PARAMETER: /* (tensor, requires_grad, hooks) */
        if (!is_kind(member(args, 0), LD_PICKLE_TENSOR))
            return damaged(machine);
        return push(machine, member(args, 0));
    case LD_PICKLE_ORDERED_DICT:
        return push_new(machine, LD_PICKLE_DICT, 0);
    case LD_PICKLE_STORAGE_TYPE:
        break;
    }
    return damaged(machine);
}

/* ---- Containers ------------------------------------------------------------------------------ */

static enum ld_code tuple_of(struct machine *machine, uint32_t members)
{
    struct ld_pickle_value *tuple = make(machine, LD_PICKLE_TUPLE);
    if (!tuple)
        return push(machine, NULL);
    if (machine->depth < members)
        return damaged(machine);
    const uint32_t from = machine->depth - members;
    for (uint32_t i = from; i < machine->depth; i++) {
        if (machine->stack[i]->kind == LD_PICKLE_MARK)
            return damaged(machine);
    }
    const enum ld_code code = collect(machine, tuple, from, from);
    return code == LD_OK ? push(machine, tuple) : code;
}

/* All above the mark become a new container. */
static enum ld_code container_from_mark(struct machine *machine, enum ld_pickle_kind kind)
{
    uint32_t from;
    struct ld_pickle_value *container = make(machine, kind);
    if (!container)
        return push(machine, NULL);
    if (!above_mark(machine, &from) || (kind == LD_PICKLE_DICT && (machine->depth - from) % 2 != 0))
        return damaged(machine);
    const enum ld_code code = collect(machine, container, from, from - 1);
    return code == LD_OK ? push(machine, container) : code;
}

/* All above the mark go into the container below it. */
static enum ld_code extend_from_mark(struct machine *machine, enum ld_pickle_kind kind)
{
    uint32_t from;
    if (!above_mark(machine, &from) || from < 2)
        return damaged(machine);
    struct ld_pickle_value *container = machine->stack[from - 2];
    if (container->kind != kind || (kind == LD_PICKLE_DICT && (machine->depth - from) % 2 != 0))
        return damaged(machine);
    return collect(machine, container, from, from - 1);
}

/* The topmost one (list) or two (dict) values go into the container below. */
static enum ld_code extend_by(struct machine *machine, enum ld_pickle_kind kind, uint32_t count)
{
    if (machine->depth < count + 1)
        return damaged(machine);
    const uint32_t from = machine->depth - count;
    struct ld_pickle_value *container = machine->stack[from - 1];
    if (container->kind != kind)
        return damaged(machine);
    for (uint32_t i = from; i < machine->depth; i++) {
        if (machine->stack[i]->kind == LD_PICKLE_MARK)
            return damaged(machine);
    }
    return collect(machine, container, from, from);
}

/* ---- The loop -------------------------------------------------------------------------------- */

static enum ld_code push_integer(struct machine *machine, size_t size)
{
    uint64_t value;
    if (!take_number(machine, size, &value))
        return damaged(machine);
    return push_new(machine, LD_PICKLE_INTEGER,
                    size == 4 ? (int64_t)(int32_t)(uint32_t)value : (int64_t)value);
}

static enum ld_code skip_operand(struct machine *machine, size_t size)
{
    struct ld_span ignored;
    return take(machine, size, &ignored) ? LD_OK : damaged(machine);
}

static enum ld_code memoize_at(struct machine *machine, size_t size)
{
    uint64_t index;
    return take_number(machine, size, &index) ? memoize(machine, index) : damaged(machine);
}

/* One opcode; STOP is handled by the caller. Letters are those of pickletools. */
static enum ld_code step(struct machine *machine, uint8_t opcode)
{
    switch (opcode) {
    case 0x80: /* PROTO */
        return skip_operand(machine, 1);
    case 0x95: /* FRAME */
        return skip_operand(machine, 8);
    case '(': /* MARK */
        return push_new(machine, LD_PICKLE_MARK, 0);
    case 'N':
        return push_new(machine, LD_PICKLE_NONE, 0);
    case 0x88: /* NEWTRUE */
    case 0x89: /* NEWFALSE */
        return push_new(machine, LD_PICKLE_BOOL, opcode == 0x88);
    case 'K':
        return push_integer(machine, 1);
    case 'M':
        return push_integer(machine, 2);
    case 'J':
        return push_integer(machine, 4);
    case 0x8A: /* LONG1 */
        return push_long(machine);
    case 'G': { /* BINFLOAT: nothing here looks at its value */
        const enum ld_code code = skip_operand(machine, 8);
        return code == LD_OK ? push_new(machine, LD_PICKLE_REAL, 0) : code;
    }
    case 0x8C: /* SHORT_BINUNICODE */
    case 'U':  /* SHORT_BINSTRING */
        return push_text(machine, 1);
    case 'X': /* BINUNICODE */
    case 'T': /* BINSTRING */
        return push_text(machine, 4);
    case '}':
        return push_new(machine, LD_PICKLE_DICT, 0);
    case ']':
    case ')':
        return push_new(machine, LD_PICKLE_TUPLE, 0);
    case 0x85: /* TUPLE1 */
    case 0x86:
    case 0x87:
        return tuple_of(machine, (uint32_t)(opcode - 0x84));
    case 't':
    case 'l':
        return container_from_mark(machine, LD_PICKLE_TUPLE);
    case 'd':
        return container_from_mark(machine, LD_PICKLE_DICT);
    case 'a':
        return extend_by(machine, LD_PICKLE_TUPLE, 1);
    case 'e':
        return extend_from_mark(machine, LD_PICKLE_TUPLE);
    case 's':
        return extend_by(machine, LD_PICKLE_DICT, 2);
    case 'u':
        return extend_from_mark(machine, LD_PICKLE_DICT);
    case 'q':
        return memoize_at(machine, 1);
    case 'r':
        return memoize_at(machine, 4);
    case 0x94: /* MEMOIZE */
        return memoize(machine, machine->memo_next++);
    case 'h':
        return recall(machine, 1);
    case 'j':
        return recall(machine, 4);
    case 'c':
        return global_from_lines(machine);
    case 0x93: /* STACK_GLOBAL */
        return global_from_stack(machine);
    case 'Q': /* BINPERSID */
        return push_storage(machine);
    case 'R':
        return reduce(machine);
    default:
        return refused(machine, "an opcode");
    }
}

enum ld_code ld_pickle_run(struct ld_arena *arena, struct ld_span bytes,
                           struct ld_pickle_value **result, struct ld_error *err)
{
    struct machine *machine = ld_arena_alloc(arena, sizeof *machine);
    if (!machine)
        return LD_FAIL(err, LD_E_NOMEM, "the pickle needs too much memory");
    machine->arena = arena;
    machine->bytes = bytes;
    machine->err = err;
    for (uint32_t steps = 0; steps < STEPS_MAX; steps++) {
        if (machine->pos >= bytes.size)
            return damaged(machine);
        const uint8_t opcode = bytes.data[machine->pos++];
        if (opcode == '.') {
            *result = pop(machine);
            return *result ? LD_OK : damaged(machine);
        }
        const enum ld_code code = step(machine, opcode);
        if (code != LD_OK)
            return code;
    }
    return LD_FAIL(err, LD_E_TOO_LARGE, "the pickle has too many steps");
}
