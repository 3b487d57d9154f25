#include "runtime/text/grammar.h"

#include "runtime/text/unicode.h"

/*
 * Emphasis of AUTOMATIC1111 (model.md 4.1). Round and square brackets have independent stacks of
 * the segment index at which they were opened; a closing bracket scales everything since.
 */

static const double round_factor = 1.1;
static const double square_factor = 1.0 / 1.1;

struct parser {
    struct ld_segment_builder builder;
    uint32_t round[LD_PROMPT_NESTING_MAX], square[LD_PROMPT_NESTING_MAX];
    uint32_t round_count, square_count;
};

/* ---- Plain text and BREAK -------------------------------------------------------------------- */

/* The word BREAK at `pos`, not as a part of a longer word. */
static bool is_break_word(struct ld_span text, size_t pos)
{
    if (text.size - pos < 5 || memcmp(text.data + pos, "BREAK", 5) != 0)
        return false;
    const uint32_t before = ld_text_char_before(text, pos);
    const uint32_t after = ld_text_char_at(text, pos + 5);
    return (before == LD_CHAR_NONE || !ld_char_is_word(before)) &&
           (after == LD_CHAR_NONE || !ld_char_is_word(after));
}

/* Cut at each BREAK with the white space around it; the parts between may be empty. */
static void add_text(struct parser *p, struct ld_span text)
{
    size_t start = 0;
    for (size_t pos = 0; pos < text.size;) {
        const uint8_t *found = memmem(text.data + pos, text.size - pos, "BREAK", 5);
        if (!found)
            break;
        const size_t at = (size_t)(found - text.data);
        pos = at + 5;
        if (!is_break_word(text, at))
            continue;
        size_t end = at;
        while (end > start && ld_char_is_space(ld_text_char_before(text, end)))
            for (end--; end > start && (text.data[end] & 0xC0) == 0x80;)
                end--;
        ld_segment_add(&p->builder, ld_span_of(text.data + start, end - start), 1.0);
        ld_segment_add(&p->builder, ld_span_of(found, 5), -1.0);
        if (!p->builder.failed)
            p->builder.items[p->builder.count - 1].is_break = true;
        for (start = pos; start < text.size;) {
            size_t next = start;
            if (!ld_char_is_space(ld_utf8_next(text.data, text.size, &next)))
                break;
            start = next;
        }
        pos = start;
    }
    ld_segment_add(&p->builder, ld_span_of(text.data + start, text.size - start), 1.0);
}

/* ---- `: number )` ---------------------------------------------------------------------------- */

/*
 * Length of `: number )` at `pos`, 0 if something else stands there; the number in `number`. A
 * number here is an optional sign and any digits and dots, of any script.
 */
static size_t weight_length(struct ld_span text, size_t pos, struct ld_span *number)
{
    size_t i = pos + 1;
    size_t next = i;
    while (i < text.size && ld_char_is_space(ld_utf8_next(text.data, text.size, &next)))
        i = next;
    const size_t start = i;
    if (i < text.size && (text.data[i] == '+' || text.data[i] == '-'))
        i++;
    const size_t digits = i;
    next = i;
    while (i < text.size) {
        const uint32_t c = ld_utf8_next(text.data, text.size, &next);
        if (c != '.' && ld_char_digit(c) < 0)
            break;
        i = next;
    }
    if (i == digits)
        return 0;
    *number = ld_span_of(text.data + start, i - start);
    next = i;
    while (i < text.size && ld_char_is_space(ld_utf8_next(text.data, text.size, &next)))
        i = next;
    return i < text.size && text.data[i] == ')' ? i + 1 - pos : 0;
}

/* `(a:1.2.3)` looks like a weight and is none: the text stays and the bracket closes as usual. */
static bool is_number(struct ld_span number)
{
    size_t dots = 0;
    size_t digits = 0;
    for (size_t pos = 0; pos < number.size;) {
        const uint32_t c = ld_utf8_next(number.data, number.size, &pos);
        dots += c == '.';
        digits += ld_char_digit(c) >= 0;
    }
    return dots <= 1 && digits > 0;
}

static enum ld_code take_weight(struct parser *p, struct ld_span whole, struct ld_span number,
                                struct ld_error *err)
{
    double weight = round_factor;
    if (p->round_count == 0) {
        add_text(p, whole);
        return LD_OK;
    }
    if (!is_number(number))
        add_text(p, ld_span_of(whole.data, whole.size - 1));
    else if (!ld_text_parse_double(number, &weight))
        return LD_FAIL(err, LD_E_RANGE, "a weight in the prompt is too large for a number");
    ld_segments_scale(&p->builder, p->round[--p->round_count], weight);
    return LD_OK;
}

/* ---- Brackets -------------------------------------------------------------------------------- */

static enum ld_code open_bracket(struct parser *p, uint32_t *stack, uint32_t *count,
                                 struct ld_error *err)
{
    if (p->round_count + p->square_count == LD_PROMPT_NESTING_MAX)
        return LD_FAIL(err, LD_E_TOO_LARGE, "brackets in the prompt nest deeper than %d",
                       LD_PROMPT_NESTING_MAX);
    stack[(*count)++] = p->builder.count;
    return LD_OK;
}

static void close_bracket(struct parser *p, uint32_t *stack, uint32_t *count, double factor,
                          struct ld_span bracket)
{
    if (*count > 0)
        ld_segments_scale(&p->builder, stack[--*count], factor);
    else
        add_text(p, bracket);
}

static bool is_special(uint8_t c)
{
    return c == '\\' || c == '(' || c == ')' || c == '[' || c == ']' || c == ':';
}

/* One token of the scanner at *pos. */
static enum ld_code take_token(struct parser *p, struct ld_span text, size_t *pos,
                               struct ld_error *err)
{
    const uint8_t *here = text.data + *pos;
    const uint8_t next = *pos + 1 < text.size ? here[1] : 0;
    size_t length = 1;
    enum ld_code code = LD_OK;
    struct ld_span number;
    switch (here[0]) {
    case '\\':
        length = next != 0 && next != ':' && is_special(next) ? 2 : 1;
        ld_segment_add(&p->builder, ld_span_of(here + 1, length - 1), 1.0);
        break;
    case '(':
        code = open_bracket(p, p->round, &p->round_count, err);
        break;
    case '[':
        code = open_bracket(p, p->square, &p->square_count, err);
        break;
    case ')':
        close_bracket(p, p->round, &p->round_count, round_factor, ld_span_of(here, 1));
        break;
    case ']':
        close_bracket(p, p->square, &p->square_count, square_factor, ld_span_of(here, 1));
        break;
    case ':':
        length = weight_length(text, *pos, &number);
        if (length)
            code = take_weight(p, ld_span_of(here, length), number, err);
        else
            add_text(p, ld_span_of(here, length = 1));
        break;
    default:
        while (*pos + length < text.size && !is_special(here[length]))
            length++;
        add_text(p, ld_span_of(here, length));
        break;
    }
    *pos += length;
    return code;
}

enum ld_code ld_grammar_a1111(struct ld_arena *arena, struct ld_span text, struct ld_segments *out,
                              struct ld_error *err)
{
    struct parser p = {.round_count = 0};
    enum ld_code code = LD_OK;
    memset(out, 0, sizeof *out);
    ld_segment_builder_init(&p.builder, text.size);
    for (size_t pos = 0; pos < text.size;) {
        code = take_token(&p, text, &pos, err);
        if (code != LD_OK)
            goto done;
    }
    while (p.round_count > 0)
        ld_segments_scale(&p.builder, p.round[--p.round_count], round_factor);
    while (p.square_count > 0)
        ld_segments_scale(&p.builder, p.square[--p.square_count], square_factor);
    if (p.builder.count == 0)
        ld_segment_add(&p.builder, ld_span_of("", 0), 1.0);
    code = ld_segments_finish(&p.builder, true, arena, out, err);
done:
    ld_segment_builder_deinit(&p.builder);
    return code;
}
