#include "runtime/text/schedule.h"

#include "runtime/base/buffer.h"
#include "runtime/text/unicode.h"

/*
 * The reference has an ambiguous grammar whose parser prefers bracket groups over stray brackets.
 * The same language in one pass: a stack of open brackets. A closing bracket that fits the top
 * makes a group if what stands inside is one; every other closing bracket is stray, and then so are
 * all brackets that are open, for a group cannot hold a stray one.
 */

enum group_kind { GROUP_STRAY, GROUP_TEXT, GROUP_SCHEDULED, GROUP_ALTERNATE };

enum { NONE = -1 };

/* A separator (`:` or `|`) on the own level of a group. */
struct separator {
    size_t pos;
    int32_t next; /* of the same group, NONE at the end */
};

struct group {
    size_t open, close;
    enum group_kind kind;
    uint8_t bracket;
    uint32_t colons, pipes;
    int32_t first, last; /* separators, NONE if there are none */
    int64_t when;        /* last step of the part before the last colon */
};

struct parser {
    struct ld_span text;
    struct group *groups; /* in the order of their opening brackets */
    int32_t group_count;
    struct separator *separators;
    int32_t separator_count;
    int32_t stack[LD_PROMPT_NESTING_MAX]; /* groups that are open */
    uint32_t depth;
    bool unreadable; /* the reference's grammar refuses the whole text */
    uint32_t loose_pipes;
};

/* ---- Numbers --------------------------------------------------------------------------------- */

/* `when` of a scheduled group as a step; the conversions are those of model.md 4.2. */
static int64_t when_step(double value, bool has_dot,
                         const struct ld_prompt_schedule_options *options)
{
    const bool second = options->hires_steps > 0 && !options->old;
    const double steps = second ? options->hires_steps : options->steps;
    if (options->old)
        value = value < 1 ? value * steps : value;
    else if (has_dot)
        value = (value - (second ? 1.0 : 0.0)) * steps;
    else
        value -= second ? options->steps : 0;
    if (value >= steps)
        return (int64_t)steps;
    return value < 0 ? 0 : (int64_t)value; /* all steps below 1 mean the same */
}

static bool parse_when(struct ld_span text, const struct ld_prompt_schedule_options *options,
                       int64_t *when)
{
    const struct ld_span number = ld_text_trim(text);
    double value;
    if (!ld_parse_double(number, &value))
        return false;
    *when = when_step(value, memchr(number.data, '.', number.size) != NULL, options);
    return true;
}

/* ---- Parsing --------------------------------------------------------------------------------- */

static enum group_kind kind_of(const struct parser *p, struct group *group,
                               const struct ld_prompt_schedule_options *options)
{
    if (group->bracket == '(')
        return group->pipes == 0 && group->colons <= 1 ? GROUP_TEXT : GROUP_STRAY;
    if (group->pipes > 0)
        return group->colons == 0 ? GROUP_ALTERNATE : GROUP_STRAY;
    if (group->colons == 0)
        return GROUP_TEXT;
    const size_t number = p->separators[group->last].pos + 1;
    const bool scheduled =
        group->colons <= 2 &&
        parse_when(ld_span_of(p->text.data + number, group->close - number), options, &group->when);
    return scheduled ? GROUP_SCHEDULED : GROUP_STRAY;
}

static void close_group(struct parser *p, size_t pos,
                        const struct ld_prompt_schedule_options *options)
{
    const uint8_t bracket = p->text.data[pos] == ')' ? '(' : '[';
    if (p->depth > 0) {
        struct group *group = &p->groups[p->stack[p->depth - 1]];
        group->close = pos;
        if (group->bracket == bracket)
            group->kind = kind_of(p, group, options);
        if (group->kind == GROUP_ALTERNATE)
            p->loose_pipes -= group->pipes;
        if (group->kind != GROUP_STRAY) {
            p->depth--;
            return;
        }
    }
    p->depth = 0; /* a stray bracket: nothing that is open can become a group */
}

static void add_separator(struct parser *p, size_t pos)
{
    const bool pipe = p->text.data[pos] == '|';
    p->loose_pipes += pipe;
    if (p->depth == 0)
        return;
    struct group *group = &p->groups[p->stack[p->depth - 1]];
    const int32_t index = p->separator_count++;
    p->separators[index] = (struct separator){.pos = pos, .next = NONE};
    if (group->first == NONE)
        group->first = index;
    else
        p->separators[group->last].next = index;
    group->last = index;
    group->colons += !pipe;
    group->pipes += pipe;
}

static enum ld_code open_group(struct parser *p, size_t pos, struct ld_error *err)
{
    if (p->depth == LD_PROMPT_NESTING_MAX)
        return LD_FAIL(err, LD_E_TOO_LARGE, "brackets in the prompt nest deeper than %d",
                       LD_PROMPT_NESTING_MAX);
    p->stack[p->depth++] = p->group_count;
    p->groups[p->group_count++] =
        (struct group){.open = pos, .bracket = p->text.data[pos], .first = NONE, .last = NONE};
    return LD_OK;
}

static enum ld_code parse(struct parser *p, const struct ld_prompt_schedule_options *options,
                          struct ld_error *err)
{
    for (size_t pos = 0; pos < p->text.size; pos++) {
        const uint8_t c = p->text.data[pos];
        if (c == '\\') {
            pos++; /* the next character is text; there must be one, and not a line end */
            p->unreadable = p->unreadable || pos >= p->text.size || p->text.data[pos] == '\n';
        } else if (c == '(' || c == '[') {
            const enum ld_code code = open_group(p, pos, err);
            if (code != LD_OK)
                return code;
        } else if (c == ')' || c == ']') {
            close_group(p, pos, options);
        } else if (c == ':' || c == '|') {
            add_separator(p, pos);
        }
    }
    p->unreadable = p->unreadable || p->loose_pipes > 0;
    return LD_OK;
}

static enum ld_code parser_init(struct parser *p, struct ld_span text, struct ld_error *err)
{
    size_t brackets = 0;
    size_t separators = 0;
    for (size_t i = 0; i < text.size; i++) {
        brackets += text.data[i] == '(' || text.data[i] == '[';
        separators += text.data[i] == ':' || text.data[i] == '|';
    }
    p->text = text;
    p->groups = ld_heap_calloc(brackets, sizeof *p->groups);
    p->separators = ld_heap_calloc(separators, sizeof *p->separators);
    if (!p->groups || !p->separators)
        return LD_FAIL(err, LD_E_NOMEM, "out of memory while reading the prompt");
    return LD_OK;
}

/* ---- The text of one step -------------------------------------------------------------------- */

/* The part of a scheduled or alternating group that holds at `step`. */
static struct ld_span chosen_part(const struct parser *p, const struct group *group, uint32_t step)
{
    size_t start = group->open + 1;
    size_t end = group->close;
    if (group->kind == GROUP_SCHEDULED) {
        const size_t first = p->separators[group->first].pos;
        const bool before = step <= group->when;
        if (group->colons == 2)
            start = before ? start : first + 1;
        end = before && group->colons == 2 ? first : p->separators[group->last].pos;
        if (before && group->colons == 1)
            end = start; /* `[to:when]` has nothing before */
    } else {
        int32_t separator = group->first;
        for (uint32_t i = (step - 1) % (group->pipes + 1); i > 0; i--) {
            start = p->separators[separator].pos + 1;
            separator = p->separators[separator].next;
        }
        end = separator == NONE ? end : p->separators[separator].pos;
    }
    return ld_span_of(p->text.data + start, end - start);
}

/* Write the text of `step`: plain stretches are copied, groups continue in their chosen part. The
 * walk only moves forward, so one index over the groups is enough. */
static void write_step(const struct parser *p, uint32_t step, struct ld_buffer *out)
{
    struct {
        size_t end, resume; /* where the current stretch ends, and where the outer one goes on */
    } stack[LD_PROMPT_NESTING_MAX + 1];
    uint32_t depth = 0;
    int32_t next = 0;
    size_t pos = 0;
    stack[0].end = stack[0].resume = p->text.size;
    for (;;) {
        while (next < p->group_count &&
               (p->groups[next].open < pos || p->groups[next].kind < GROUP_SCHEDULED))
            next++;
        const size_t end = stack[depth].end;
        const bool enter = next < p->group_count && p->groups[next].open < end;
        const size_t stop = enter ? p->groups[next].open : end;
        ld_buffer_bytes(out, p->text.data + pos, stop - pos);
        if (enter) {
            const struct group *group = &p->groups[next++];
            const struct ld_span part = chosen_part(p, group, step);
            pos = (size_t)(part.data - p->text.data);
            stack[++depth].end = pos + part.size;
            stack[depth].resume = group->close + 1;
        } else if (depth > 0) {
            pos = stack[depth--].resume;
        } else {
            return;
        }
    }
}

/* ---- Entry ----------------------------------------------------------------------------------- */

static uint64_t hash_bytes(struct ld_span text)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325); /* FNV-1a */
    for (size_t i = 0; i < text.size; i++)
        hash = (hash ^ text.data[i]) * UINT64_C(0x100000001b3);
    return hash;
}

/* Index of `text` among the texts so far, added if it is new. */
static enum ld_code intern(struct ld_arena *arena, struct ld_prompt_schedule *out, uint64_t *hashes,
                           size_t *bytes, struct ld_span text, uint32_t *index,
                           struct ld_error *err)
{
    const uint64_t hash = hash_bytes(text);
    for (uint32_t i = 0; i < out->text_count; i++) {
        if (hashes[i] == hash && ld_span_equal(out->texts[i], text)) {
            *index = i;
            return LD_OK;
        }
    }
    *bytes += text.size;
    if (*bytes > LD_PROMPT_SCHEDULE_BYTES)
        return LD_FAIL(err, LD_E_TOO_LARGE, "the prompt's schedule expands to more than %d bytes",
                       LD_PROMPT_SCHEDULE_BYTES);
    const char *copy = ld_arena_strndup(arena, (const char *)text.data, text.size);
    if (!copy)
        return LD_FAIL(err, LD_E_NOMEM, "out of memory while reading the prompt");
    hashes[out->text_count] = hash;
    out->texts[out->text_count] = ld_span_of(copy, text.size);
    *index = out->text_count++;
    return LD_OK;
}

/* Mark the steps after which some group may change. */
static void mark_changes(const struct parser *p, uint32_t steps, bool *ends)
{
    ends[steps] = true;
    for (int32_t i = 0; i < p->group_count && !p->unreadable; i++) {
        const struct group *group = &p->groups[i];
        if (group->kind == GROUP_SCHEDULED && group->when >= 1)
            ends[group->when] = true;
        for (uint32_t s = 1; group->kind == GROUP_ALTERNATE && s <= steps; s++)
            ends[s] = true;
        if (group->kind == GROUP_ALTERNATE)
            return;
    }
}

static enum ld_code expand(const struct parser *p, struct ld_arena *arena, uint32_t steps,
                           struct ld_prompt_schedule *out, struct ld_error *err)
{
    bool ends[LD_PROMPT_SCHEDULE_STEPS_MAX + 1] = {false};
    uint64_t hashes[LD_PROMPT_SCHEDULE_STEPS_MAX];
    size_t bytes = 0;
    uint32_t count = 0;
    enum ld_code code = LD_OK;
    struct ld_buffer buffer = ld_buffer_make(p->text.size);
    mark_changes(p, steps, ends);
    for (uint32_t step = 1; step <= steps; step++)
        count += ends[step];
    out->entries = ld_arena_calloc(arena, count, sizeof *out->entries);
    out->texts = ld_arena_calloc(arena, count, sizeof *out->texts);
    if (!out->entries || !out->texts) {
        code = LD_FAIL(err, LD_E_NOMEM, "out of memory while reading the prompt");
        goto done;
    }
    for (uint32_t step = 1; step <= steps && code == LD_OK; step++) {
        if (!ends[step])
            continue;
        ld_buffer_clear(&buffer);
        if (p->unreadable)
            ld_buffer_bytes(&buffer, p->text.data, p->text.size);
        else
            write_step(p, step, &buffer);
        if (buffer.failed) {
            code = LD_FAIL(err, LD_E_NOMEM, "out of memory while reading the prompt");
            goto done;
        }
        struct ld_prompt_schedule_entry *entry = &out->entries[out->entry_count++];
        entry->end_step = step;
        code = intern(arena, out, hashes, &bytes, ld_span_of(buffer.data, buffer.size),
                      &entry->text, err);
    }
done:
    ld_buffer_deinit(&buffer);
    return code;
}

enum ld_code ld_prompt_schedule_expand(struct ld_arena *arena, struct ld_span text,
                                       const struct ld_prompt_schedule_options *options,
                                       struct ld_prompt_schedule *out, struct ld_error *err)
{
    struct parser p = {.depth = 0};
    const uint32_t steps =
        options->hires_steps > 0 && !options->old ? options->hires_steps : options->steps;
    memset(out, 0, sizeof *out);
    if (steps < 1 || steps > LD_PROMPT_SCHEDULE_STEPS_MAX)
        return LD_FAIL(err, LD_E_RANGE, "a prompt schedule needs 1 to %d steps",
                       LD_PROMPT_SCHEDULE_STEPS_MAX);
    if (text.size > INT32_MAX)
        return LD_FAIL(err, LD_E_TOO_LARGE, "the prompt is longer than %d bytes", INT32_MAX);
    enum ld_code code = parser_init(&p, text, err);
    if (code == LD_OK)
        code = parse(&p, options, err);
    if (code == LD_OK)
        code = expand(&p, arena, steps, out, err);
    ld_heap_free(p.groups);
    ld_heap_free(p.separators);
    return code;
}
