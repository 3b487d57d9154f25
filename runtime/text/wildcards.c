#include "runtime/text/wildcards.h"

#include "runtime/text/wildcard_lists.h"
#include "runtime/text/wildcard_scan.h"

/*
 * A template is evaluated once for each result. Wherever something is chosen, the evaluation asks
 * `choose` for a number below n. In random mode that is a generator. In combinatorial mode the
 * answers form the digits of a counter: an evaluation appends a zero for each new question, and
 * the next result increments the last digit that can still grow and forgets those behind it. So
 * the rightmost choice varies fastest and no tree of generators is needed.
 */

enum { ENDLESS = 0xFFFFFFF };

enum frame_kind {
    FRAME_TEXT,   /* a template that is being read */
    FRAME_SELECT, /* chosen options still to be written, separators between */
    FRAME_CAPTURE /* waits for the value of an immediate variable */
};

struct frame {
    enum frame_kind kind;
    struct ld_span text; /* TEXT: the template; SELECT: the separator; CAPTURE: variable's name */
    size_t pos;          /* TEXT: next byte; CAPTURE: where its value starts in the output */
    uint32_t pick, pick_end; /* SELECT: the picks still to come */
    uint32_t depth;
    const struct ld_wildcard_list *list; /* TEXT: the list that it is a line of, or NULL */
};

struct variable {
    struct ld_span name, value;
};

struct digit {
    uint32_t value, radix;
};

struct evaluator {
    const struct ld_wildcard_options *options;
    struct ld_arena *arena;
    struct ld_wildcard_lists lists;
    struct ld_notes *notes;
    struct ld_error *err;
    struct ld_buffer out;
    /* every depth may add a TEXT, a SELECT and a CAPTURE frame */
    struct frame stack[3 * (LD_WILDCARD_DEPTH + 1)];
    uint32_t stack_count;
    struct ld_span *picks; /* options chosen by the SELECT frames on the stack */
    uint32_t pick_count, pick_capacity;
    struct ld_wildcard_option *options_pool; /* options of the group in work */
    uint32_t option_count, option_capacity;
    struct variable variables[LD_WILDCARD_VARIABLES_MAX];
    uint32_t variable_count;
    struct digit *digits; /* combinatorial counter */
    uint32_t digit_count, digit_used;
    uint64_t random;
    uint32_t index; /* of the result */
    size_t work;
    bool novelai;
};

static enum ld_code out_of_memory(const struct evaluator *e)
{
    return LD_FAIL(e->err, LD_E_NOMEM, "out of memory while reading wildcards");
}

/* ---- Choosing -------------------------------------------------------------------------------- */

/* SplitMix64 (Steele, Lea, Flood 2014, doi:10.1145/2660193.2660195). */
static uint64_t next_random(struct evaluator *e)
{
    uint64_t z = e->random += UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

static void seed_random(struct evaluator *e)
{
    /* The constant keeps this stream apart from others made of the same seed. */
    e->random = e->options->seed ^ UINT64_C(0x6C6174656E746477);
    e->random = next_random(e) + e->index;
    (void)next_random(e);
}

static enum ld_code next_digit(struct evaluator *e, uint32_t radix, uint32_t *out)
{
    if (e->digit_used == LD_WILDCARD_CHOICES_MAX)
        return LD_FAIL(e->err, LD_E_TOO_LARGE, "the prompt has more than %d choices to make",
                       LD_WILDCARD_CHOICES_MAX);
    struct digit *digit = &e->digits[e->digit_used];
    if (e->digit_used++ == e->digit_count) {
        digit->value = 0;
        e->digit_count++;
    }
    /* A random choice before it may have changed what is asked here. */
    digit->radix = radix;
    if (digit->value >= radix)
        digit->value = radix - 1;
    *out = digit->value;
    return LD_OK;
}

static enum ld_wildcard_sampler effective(const struct evaluator *e,
                                          enum ld_wildcard_sampler sampler)
{
    const bool random = e->options->mode == LD_WILDCARDS_RANDOM;
    if (sampler == LD_SAMPLER_DEFAULT)
        return random ? LD_SAMPLER_RANDOM : LD_SAMPLER_COMBINATORIAL;
    /* There is no counter in random mode: the results walk through the options instead. */
    return random && sampler == LD_SAMPLER_COMBINATORIAL ? LD_SAMPLER_CYCLICAL : sampler;
}

/* A number below n > 0. */
static enum ld_code choose(struct evaluator *e, enum ld_wildcard_sampler sampler, uint32_t n,
                           uint32_t *out)
{
    switch (effective(e, sampler)) {
    case LD_SAMPLER_COMBINATORIAL:
        return next_digit(e, n, out);
    case LD_SAMPLER_CYCLICAL:
        *out = e->index % n;
        return LD_OK;
    case LD_SAMPLER_RANDOM:
    case LD_SAMPLER_DEFAULT:
        break;
    }
    *out = (uint32_t)(((next_random(e) >> 32) * n) >> 32);
    return LD_OK;
}

/* An index into the first `count` options of the pool; weights count in random choices only. */
static enum ld_code choose_option(struct evaluator *e, enum ld_wildcard_sampler sampler,
                                  uint32_t count, uint32_t *out)
{
    double total = 0;
    if (effective(e, sampler) != LD_SAMPLER_RANDOM)
        return choose(e, sampler, count, out);
    for (uint32_t i = 0; i < count; i++)
        total += e->options_pool[i].weight;
    if (!(total > 0))
        return choose(e, sampler, count, out);
    double point = (double)(next_random(e) >> 11) * 0x1p-53 * total;
    for (*out = 0; *out + 1 < count; (*out)++) {
        point -= e->options_pool[*out].weight;
        if (point < 0)
            break;
    }
    return LD_OK;
}

/* ---- Pools ----------------------------------------------------------------------------------- */

static enum ld_code add_option(struct evaluator *e, struct ld_wildcard_option option)
{
    if (e->option_count == e->option_capacity) {
        const uint32_t capacity = e->option_capacity ? 2 * e->option_capacity : 64;
        struct ld_wildcard_option *pool = ld_heap_resize(e->options_pool, capacity * sizeof *pool);
        if (!pool)
            return out_of_memory(e);
        e->options_pool = pool;
        e->option_capacity = capacity;
    }
    e->options_pool[e->option_count++] = option;
    return LD_OK;
}

static enum ld_code add_pick(struct evaluator *e, struct ld_span text)
{
    if (e->pick_count == e->pick_capacity) {
        const uint32_t capacity = e->pick_capacity ? 2 * e->pick_capacity : 64;
        struct ld_span *picks = ld_heap_resize(e->picks, capacity * sizeof *picks);
        if (!picks)
            return out_of_memory(e);
        e->picks = picks;
        e->pick_capacity = capacity;
    }
    e->picks[e->pick_count++] = text;
    return LD_OK;
}

/* ---- Frames ---------------------------------------------------------------------------------- */

static enum ld_code spend(struct evaluator *e, size_t bytes)
{
    e->work += bytes + 1;
    if (e->work > LD_WILDCARD_WORK_BYTES)
        return LD_FAIL(e->err, LD_E_TOO_LARGE, "the wildcards of the prompt expand too often");
    return LD_OK;
}

/* The frames on the stack are those that `frame` lies in: a list that is there twice leads to
 * itself. */
static enum ld_code fail_too_deep(const struct evaluator *e, const struct frame *frame)
{
    for (uint32_t i = e->stack_count; frame->list && i-- > 0;)
        if (e->stack[i].list == frame->list)
            return LD_FAIL(e->err, LD_E_TOO_LARGE,
                           "the wildcard \"%.128s\" leads to itself; they may nest %d deep",
                           frame->list->pattern, LD_WILDCARD_DEPTH);
    return LD_FAIL(e->err, LD_E_TOO_LARGE, "wildcards and variants nest deeper than %d",
                   LD_WILDCARD_DEPTH);
}

static enum ld_code push(struct evaluator *e, struct frame frame)
{
    if (frame.depth > LD_WILDCARD_DEPTH)
        return fail_too_deep(e, &frame);
    LD_ASSERT(e->stack_count < sizeof e->stack / sizeof e->stack[0]);
    e->stack[e->stack_count++] = frame;
    return spend(e, frame.kind == FRAME_TEXT ? frame.text.size : 0);
}

static enum ld_code push_text(struct evaluator *e, struct ld_span text, uint32_t depth)
{
    return push(e, (struct frame){.kind = FRAME_TEXT, .text = text, .depth = depth});
}

/* ---- Groups ---------------------------------------------------------------------------------- */

static enum ld_code list_named(struct evaluator *e, struct ld_span name,
                               const struct ld_wildcard_list **list)
{
    const enum ld_code code = ld_wildcard_lists_get(&e->lists, name, list, e->err);
    if (code == LD_OK && (*list)->count == 0)
        ld_notes_add(e->notes, "The wildcard \"%s\" is not known and was kept as text.",
                     (*list)->pattern);
    return code;
}

/* Options of a group into the pool. A single option that is a list stands for the list's lines. */
static enum ld_code collect_options(struct evaluator *e, const struct ld_wildcard_head *head)
{
    struct ld_span rest = head->options;
    struct ld_wildcard_mention mention;
    enum ld_code code = LD_OK;
    e->option_count = 0;
    for (bool more = true; more && code == LD_OK;)
        code = add_option(e, ld_wildcard_next_option(&rest, &more));
    if (code != LD_OK || e->option_count != 1 || !head->bounded)
        return code;
    const struct ld_span only = e->options_pool[0].text;
    const struct ld_wildcard_list *list;
    if (!ld_wildcard_mention(only, 0, &mention) || mention.size != only.size)
        return LD_OK;
    code = list_named(e, mention.name, &list);
    if (code != LD_OK || list->count == 0)
        return code;
    e->option_count = 0;
    code = spend(e, list->count);
    for (uint32_t i = 0; i < list->count && code == LD_OK; i++)
        code = add_option(e, (struct ld_wildcard_option){list->values[i], 1.0});
    return code;
}

/* Choose how many options and then which, one after another without repetition. */
static enum ld_code enter_group(struct evaluator *e, struct ld_span inside, uint32_t depth)
{
    const struct ld_wildcard_head head = ld_wildcard_head(inside);
    enum ld_code code = collect_options(e, &head);
    if (code != LD_OK)
        return code;
    const uint32_t high = head.high < e->option_count ? head.high : e->option_count;
    const uint32_t low = head.low < high ? head.low : high;
    uint32_t extra = 0;
    if (high > low)
        code = choose(e, head.sampler, high - low + 1, &extra);
    struct frame frame = {
        .kind = FRAME_SELECT, .text = head.separator, .pick = e->pick_count, .depth = depth};
    for (uint32_t k = 0; k < low + extra && code == LD_OK; k++) {
        uint32_t chosen = 0;
        code = choose_option(e, head.sampler, e->option_count, &chosen);
        if (code == LD_OK)
            code = add_pick(e, e->options_pool[chosen].text);
        if (code != LD_OK)
            return code;
        e->option_count--;
        memmove(&e->options_pool[chosen], &e->options_pool[chosen + 1],
                (e->option_count - chosen) * sizeof *e->options_pool);
        code = spend(e, e->option_count);
    }
    frame.pick_end = e->pick_count;
    return code == LD_OK ? push(e, frame) : code;
}

/* ---- Lists and variables --------------------------------------------------------------------- */

static enum ld_code enter_list(struct evaluator *e, const struct ld_wildcard_mention *mention,
                               struct ld_span written, uint32_t depth)
{
    const struct ld_wildcard_list *list;
    uint32_t chosen;
    enum ld_code code = list_named(e, mention->name, &list);
    if (code != LD_OK)
        return code;
    if (list->count == 0) {
        ld_buffer_bytes(&e->out, written.data, written.size);
        return e->options->mode == LD_WILDCARDS_COMBINATORIAL
                   ? choose(e, LD_SAMPLER_COMBINATORIAL, ENDLESS, &chosen)
                   : LD_OK;
    }
    code = choose(e, mention->sampler, list->count, &chosen);
    const struct frame line = {.kind = FRAME_TEXT,
                               .text = code == LD_OK ? list->values[chosen] : written,
                               .depth = depth,
                               .list = list};
    return code == LD_OK ? push(e, line) : code;
}

static struct variable *find_variable(struct evaluator *e, struct ld_span name)
{
    for (uint32_t i = 0; i < e->variable_count; i++)
        if (ld_span_equal(e->variables[i].name, name))
            return &e->variables[i];
    return NULL;
}

static enum ld_code set_variable(struct evaluator *e, struct ld_span name, struct ld_span value)
{
    struct variable *variable = find_variable(e, name);
    if (!variable) {
        if (e->variable_count == LD_WILDCARD_VARIABLES_MAX)
            return LD_FAIL(e->err, LD_E_TOO_LARGE, "the prompt has more than %d variables",
                           LD_WILDCARD_VARIABLES_MAX);
        variable = &e->variables[e->variable_count++];
        variable->name = name;
    }
    variable->value = value;
    return LD_OK;
}

/* `${x=...}` keeps the template, to be read anew at each use; `${x=!...}` reads it once, now. */
static enum ld_code take_variable(struct evaluator *e, const struct ld_wildcard_variable *variable,
                                  struct ld_span written, uint32_t depth)
{
    if (variable->kind == '=') {
        if (variable->value.size == 0 || variable->value.data[0] != '!')
            return set_variable(e, variable->name, variable->value);
        const struct frame frame = {
            .kind = FRAME_CAPTURE, .text = variable->name, .pos = e->out.size, .depth = depth};
        const enum ld_code code = push(e, frame);
        return code == LD_OK
                   ? push_text(e, ld_span_of(variable->value.data + 1, variable->value.size - 1),
                               depth)
                   : code;
    }
    const struct variable *known = find_variable(e, variable->name);
    if (known)
        return push_text(e, known->value, depth);
    if (variable->kind == ':')
        return push_text(e, variable->value, depth);
    ld_notes_add(e->notes, "The variable \"%.*s\" has no value and was kept as text.",
                 (int)variable->name.size, (const char *)variable->name.data);
    ld_buffer_bytes(&e->out, written.data, written.size);
    return LD_OK;
}

static enum ld_code finish_capture(struct evaluator *e, const struct frame *frame)
{
    const size_t size = e->out.size - frame->pos;
    const char *copy =
        ld_arena_strndup(e->arena, e->out.data ? e->out.data + frame->pos : "", size);
    if (!copy)
        return out_of_memory(e);
    e->out.size = frame->pos;
    return set_variable(e, frame->text, ld_span_of(copy, size));
}

/* ---- Evaluation ------------------------------------------------------------------------------ */

/* Plain text up to the next byte that may start something. */
static void copy_run(struct evaluator *e, struct frame *frame)
{
    const size_t start = frame->pos++;
    while (frame->pos < frame->text.size) {
        const uint8_t c = frame->text.data[frame->pos];
        if (c == '{' || c == '$' || c == '_')
            break;
        frame->pos++;
    }
    ld_buffer_bytes(&e->out, frame->text.data + start, frame->pos - start);
}

static enum ld_code step_text(struct evaluator *e, struct frame *frame)
{
    const struct ld_span text = frame->text;
    const size_t pos = frame->pos;
    const uint32_t depth = frame->depth + 1;
    struct ld_wildcard_mention mention;
    struct ld_wildcard_variable variable;
    if (text.data[pos] == '{') {
        const size_t size = ld_wildcard_group(text, pos);
        const struct ld_span inside = ld_span_of(text.data + pos + 1, size ? size - 2 : 0);
        enum ld_code code = spend(e, size ? size : text.size - pos);
        if (code != LD_OK)
            return code;
        if (size > 0 && (!e->novelai || ld_wildcard_is_variant(inside))) {
            frame->pos += size;
            return enter_group(e, inside, depth);
        }
    } else if (ld_wildcard_variable(text, pos, &variable)) {
        frame->pos += variable.size;
        return take_variable(e, &variable, ld_span_of(text.data + pos, variable.size), depth);
    } else if (ld_wildcard_mention(text, pos, &mention)) {
        frame->pos += mention.size;
        return enter_list(e, &mention, ld_span_of(text.data + pos, mention.size), depth);
    }
    copy_run(e, frame);
    return LD_OK;
}

/* One step of the topmost frame. */
static enum ld_code step(struct evaluator *e)
{
    struct frame *frame = &e->stack[e->stack_count - 1];
    switch (frame->kind) {
    case FRAME_TEXT:
        if (frame->pos < frame->text.size)
            return step_text(e, frame);
        e->stack_count--;
        return LD_OK;
    case FRAME_SELECT:
        if (frame->pick < frame->pick_end) {
            if (frame->pos++ > 0) /* here: picks written so far */
                ld_buffer_bytes(&e->out, frame->text.data, frame->text.size);
            return push_text(e, e->picks[frame->pick++], frame->depth);
        }
        e->pick_count = frame->pick_end - (uint32_t)frame->pos;
        e->stack_count--;
        return LD_OK;
    case FRAME_CAPTURE:
        break;
    }
    e->stack_count--;
    return finish_capture(e, frame);
}

static enum ld_code evaluate(struct evaluator *e, struct ld_span text)
{
    ld_buffer_clear(&e->out);
    e->stack_count = e->pick_count = e->variable_count = e->digit_used = 0;
    e->work = 0;
    seed_random(e);
    enum ld_code code = push_text(e, text, 0);
    while (code == LD_OK && e->stack_count > 0) {
        code = step(e);
        if (code == LD_OK && e->out.failed)
            code = LD_FAIL(e->err, LD_E_TOO_LARGE, "the prompt expands to more than %d bytes",
                           LD_PROMPT_EXPANSION_BYTES_MAX);
    }
    e->digit_count = e->digit_used;
    return code;
}

/* The next combination; false when all were seen. */
static bool advance(struct evaluator *e)
{
    while (e->digit_count > 0) {
        struct digit *last = &e->digits[e->digit_count - 1];
        if (last->value + 1 < last->radix) {
            last->value++;
            return true;
        }
        e->digit_count--;
    }
    return false;
}

/* ---- Entry ----------------------------------------------------------------------------------- */

static enum ld_code add_result(struct evaluator *e, struct ld_wildcard_results *out)
{
    const char *copy = ld_arena_strndup(e->arena, e->out.data ? e->out.data : "", e->out.size);
    if (!copy)
        return out_of_memory(e);
    out->items[out->count++] = copy;
    return LD_OK;
}

enum ld_code ld_wildcards_expand(struct ld_arena *arena, struct ld_span text,
                                 const struct ld_wildcard_options *options, uint32_t count_max,
                                 struct ld_wildcard_results *out, struct ld_notes *notes,
                                 struct ld_error *err)
{
    enum ld_code code = LD_OK;
    size_t size = 0;
    memset(out, 0, sizeof *out);
    if (count_max > LD_WILDCARD_RESULTS_MAX)
        return LD_FAIL(err, LD_E_TOO_LARGE, "a prompt expands to at most %d texts",
                       LD_WILDCARD_RESULTS_MAX);
    struct evaluator *e = ld_heap_alloc(sizeof *e);
    if (!e)
        return LD_FAIL(err, LD_E_NOMEM, "out of memory while reading wildcards");
    e->options = options;
    e->arena = arena;
    e->lists = (struct ld_wildcard_lists){.arena = arena, .source = options->source};
    e->notes = notes;
    e->err = err;
    e->out = ld_buffer_make(LD_PROMPT_EXPANSION_BYTES_MAX);
    e->novelai = options->syntax == LD_SYNTAX_NOVELAI;
    e->digits = ld_heap_calloc(LD_WILDCARD_CHOICES_MAX, sizeof *e->digits);
    out->items = ld_arena_calloc(arena, count_max, sizeof *out->items);
    const char *stripped = ld_wildcard_strip(arena, text, &size);
    if (!e->digits || !out->items || !stripped) {
        code = out_of_memory(e);
        goto done;
    }
    while (out->count < count_max && code == LD_OK) {
        e->index = options->first_index + out->count;
        code = evaluate(e, ld_span_of(stripped, size));
        if (code == LD_OK)
            code = add_result(e, out);
        if (options->mode == LD_WILDCARDS_COMBINATORIAL && !advance(e))
            break;
    }
done:
    ld_buffer_deinit(&e->out);
    ld_heap_free(e->picks);
    ld_heap_free(e->options_pool);
    ld_heap_free(e->digits);
    ld_heap_free(e);
    return code;
}
