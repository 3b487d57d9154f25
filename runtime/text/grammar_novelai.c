#include "runtime/text/grammar.h"

/*
 * Weights of NovelAI (model.md 4.4): braces and square brackets in steps of 1.05, and numeric runs
 * `1.2::text::`. Brackets may close in any order, so what counts is how many of each are open.
 */

static const double bracket_factor = 1.05;

struct parser {
    struct ld_segment_builder builder;
    uint8_t open[LD_PROMPT_NESTING_MAX]; /* '{' or '[' in the order of opening */
    uint32_t open_count;
    double factor; /* of the numeric run */
    bool in_run;
};

static double current_weight(const struct parser *p)
{
    int32_t steps = 0;
    double weight = p->in_run ? p->factor : 1.0;
    for (uint32_t i = 0; i < p->open_count; i++)
        steps += p->open[i] == '{' ? 1 : -1;
    for (; steps > 0; steps--)
        weight *= bracket_factor;
    for (; steps < 0; steps++)
        weight /= bracket_factor;
    return weight;
}

/* Empty text makes no segment here: `{}` is nothing, not a weighted nothing. */
static void add_text(struct parser *p, struct ld_span text)
{
    if (text.size > 0)
        ld_segment_add(&p->builder, text, current_weight(p));
}

/* ---- Numeric runs ---------------------------------------------------------------------------- */

/* Length of the decimal that ends `text`: the longest `-?(digits[.digits?]|.digits)`, else 0. */
static size_t trailing_number(struct ld_span text)
{
    size_t start = text.size;
    size_t digits = 0;
    bool dot = false;
    for (; start > 0; start--) {
        const uint8_t c = text.data[start - 1];
        if (c >= '0' && c <= '9')
            digits++;
        else if (c == '.' && !dot)
            dot = true;
        else
            break;
    }
    if (digits == 0)
        return 0;
    if (start > 0 && text.data[start - 1] == '-')
        start--;
    return text.size - start;
}

/* Text that ends at `::`: a number before it opens a run, else it closes the open one. */
static enum ld_code take_double_colon(struct parser *p, struct ld_span before,
                                      struct ld_span colons, struct ld_error *err)
{
    const size_t length = trailing_number(before);
    const size_t head = before.size - length;
    add_text(p, ld_span_of(before.data, head));
    if (length > 0) {
        if (!ld_parse_double(ld_span_of(before.data + head, length), &p->factor))
            return LD_FAIL(err, LD_E_RANGE, "a weight in the prompt is too large for a number");
        p->in_run = true;
    } else if (p->in_run) {
        p->in_run = false;
    } else {
        add_text(p, colons);
    }
    return LD_OK;
}

/* ---- Brackets -------------------------------------------------------------------------------- */

static enum ld_code open_bracket(struct parser *p, uint8_t bracket, struct ld_error *err)
{
    if (p->open_count == LD_PROMPT_NESTING_MAX)
        return LD_FAIL(err, LD_E_TOO_LARGE, "brackets in the prompt nest deeper than %d",
                       LD_PROMPT_NESTING_MAX);
    p->open[p->open_count++] = bracket;
    return LD_OK;
}

/* Take the latest opener of the same kind off the stack, wherever it is. */
static void close_bracket(struct parser *p, struct ld_span bracket)
{
    const uint8_t opener = bracket.data[0] == '}' ? '{' : '[';
    for (uint32_t i = p->open_count; i > 0; i--) {
        if (p->open[i - 1] != opener)
            continue;
        memmove(&p->open[i - 1], &p->open[i], p->open_count - i);
        p->open_count--;
        return;
    }
    add_text(p, bracket);
}

static bool is_bracket(uint8_t c)
{
    return c == '{' || c == '}' || c == '[' || c == ']';
}

static bool is_escape(struct ld_span text, size_t pos)
{
    const uint8_t next = pos + 1 < text.size ? text.data[pos + 1] : 0;
    return text.data[pos] == '\\' && (is_bracket(next) || next == ':' || next == '\\');
}

static bool is_double_colon(struct ld_span text, size_t pos)
{
    return text.data[pos] == ':' && pos + 1 < text.size && text.data[pos + 1] == ':';
}

/* The run of plain text at *pos and the token that ends it. */
static enum ld_code take_run(struct parser *p, struct ld_span text, size_t *pos,
                             struct ld_error *err)
{
    size_t end = *pos;
    while (end < text.size && !is_bracket(text.data[end]) && !is_escape(text, end) &&
           !is_double_colon(text, end))
        end++;
    const struct ld_span run = ld_span_of(text.data + *pos, end - *pos);
    const uint8_t *token = text.data + end;
    enum ld_code code = LD_OK;
    if (end == text.size) {
        add_text(p, run);
        *pos = end;
    } else if (is_double_colon(text, end)) {
        code = take_double_colon(p, run, ld_span_of(token, 2), err);
        *pos = end + 2;
    } else if (is_escape(text, end)) {
        add_text(p, run);
        add_text(p, ld_span_of(token + 1, 1));
        *pos = end + 2;
    } else {
        add_text(p, run);
        if (token[0] == '{' || token[0] == '[')
            code = open_bracket(p, token[0], err);
        else
            close_bracket(p, ld_span_of(token, 1));
        *pos = end + 1;
    }
    return code;
}

enum ld_code ld_grammar_novelai(struct ld_arena *arena, struct ld_span text,
                                struct ld_segments *out, struct ld_error *err)
{
    struct parser p = {.factor = 1.0};
    enum ld_code code = LD_OK;
    memset(out, 0, sizeof *out);
    ld_segment_builder_init(&p.builder, text.size);
    for (size_t pos = 0; pos < text.size;) {
        code = take_run(&p, text, &pos, err);
        if (code != LD_OK)
            goto done;
    }
    if (p.builder.count == 0)
        ld_segment_add(&p.builder, ld_span_of("", 0), 1.0);
    code = ld_segments_finish(&p.builder, true, arena, out, err);
done:
    ld_segment_builder_deinit(&p.builder);
    return code;
}
