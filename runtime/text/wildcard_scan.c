#include "runtime/text/wildcard_scan.h"

#include "config/limits.h"

static bool is_blank(uint8_t c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static bool is_digit(uint8_t c)
{
    return c >= '0' && c <= '9';
}

static struct ld_span drop(struct ld_span text, size_t count)
{
    return ld_span_of(text.data + count, text.size - count);
}

static struct ld_span drop_blanks(struct ld_span text)
{
    size_t count = 0;
    while (count < text.size && is_blank(text.data[count]))
        count++;
    return drop(text, count);
}

static bool is_pair(struct ld_span text, size_t pos, char c)
{
    return pos + 1 < text.size && text.data[pos] == (uint8_t)c && text.data[pos + 1] == (uint8_t)c;
}

/* ---- Groups ---------------------------------------------------------------------------------- */

size_t ld_wildcard_group(struct ld_span text, size_t pos)
{
    size_t depth = 0;
    for (size_t i = pos; i < text.size; i++) {
        if (text.data[i] == '{')
            depth++;
        else if (text.data[i] == '}' && --depth == 0)
            return i + 1 - pos;
    }
    return 0;
}

static enum ld_wildcard_sampler sampler_of(uint8_t c)
{
    switch (c) {
    case '~':
        return LD_SAMPLER_RANDOM;
    case '!':
        return LD_SAMPLER_COMBINATORIAL;
    case '@':
        return LD_SAMPLER_CYCLICAL;
    default:
        return LD_SAMPLER_DEFAULT;
    }
}

/* Digits at *pos; counts beyond a million mean "all" as well as any other. */
static bool take_count(struct ld_span text, size_t *pos, uint32_t *out)
{
    const size_t start = *pos;
    uint32_t value = 0;
    for (; *pos < text.size && is_digit(text.data[*pos]); (*pos)++)
        if (value < 1000000)
            value = value * 10 + (uint32_t)(text.data[*pos] - '0');
    if (*pos == start)
        return false;
    *out = value;
    return true;
}

/* `n$$`, `n-m$$`, `n-$$` or `-m$$`. Returns its length, 0 if none. */
static size_t take_bounds(struct ld_span text, struct ld_wildcard_head *head)
{
    size_t pos = 0;
    uint32_t low = 1;
    uint32_t high = UINT32_MAX;
    const bool has_low = take_count(text, &pos, &low);
    const bool has_range = pos < text.size && text.data[pos] == '-';
    bool has_high = false;
    if (has_range) {
        pos++;
        has_high = take_count(text, &pos, &high);
    }
    if ((!has_low && !has_high) || !is_pair(text, pos, '$'))
        return 0;
    head->bounded = true;
    head->low = low;
    head->high = has_range ? high : low;
    return pos + 2;
}

/* `separator$$`: everything up to the next `$$` outside of groups. Returns its length, 0 if none.
 */
static size_t take_separator(struct ld_span text, struct ld_wildcard_head *head)
{
    for (size_t i = 0; i < text.size && text.data[i] != '{' && text.data[i] != '}'; i++) {
        if (is_pair(text, i, '$')) {
            head->separator = ld_span_of(text.data, i);
            return i + 2;
        }
    }
    return 0;
}

struct ld_wildcard_head ld_wildcard_head(struct ld_span inside)
{
    struct ld_wildcard_head head = {.low = 1, .high = 1, .separator = ld_span_text(",")};
    if (inside.size > 0)
        head.sampler = sampler_of(inside.data[0]);
    if (head.sampler != LD_SAMPLER_DEFAULT)
        inside = drop(inside, 1);
    const size_t bounds = take_bounds(inside, &head);
    inside = drop(inside, bounds);
    if (bounds > 0)
        inside = drop(inside, take_separator(inside, &head));
    head.options = inside;
    return head;
}

/* `number::` at the start of an option. Returns its length, 0 if none. */
static size_t take_weight(struct ld_span text, double *weight)
{
    size_t size = 0;
    while (size < text.size && (is_digit(text.data[size]) || text.data[size] == '.'))
        size++;
    return size > 0 && is_pair(text, size, ':') &&
                   ld_parse_double(ld_span_of(text.data, size), weight)
               ? size + 2
               : 0;
}

struct ld_wildcard_option ld_wildcard_next_option(struct ld_span *rest, bool *more)
{
    struct ld_wildcard_option option = {.weight = 1.0};
    size_t depth = 0;
    size_t end = 0;
    for (; end < rest->size; end++) {
        const uint8_t c = rest->data[end];
        if (c == '|' && depth == 0)
            break;
        depth += c == '{';
        depth -= c == '}' && depth > 0;
    }
    *more = end < rest->size;
    option.text = drop_blanks(ld_span_of(rest->data, end));
    *rest = drop(*rest, *more ? end + 1 : end);
    const size_t weight = take_weight(option.text, &option.weight);
    option.text = drop_blanks(drop(option.text, weight));
    return option;
}

bool ld_wildcard_is_variant(struct ld_span inside)
{
    size_t depth = 0;
    for (size_t i = 0; i < inside.size; i++) {
        const uint8_t c = inside.data[i];
        if (depth == 0 && (c == '|' || is_pair(inside, i, '$')))
            return true;
        depth += c == '{';
        depth -= c == '}' && depth > 0;
    }
    return false;
}

/* ---- Lists and variables --------------------------------------------------------------------- */

/* What can stand in the name of a list; the rest would be text between two words like `a__b`. */
static bool is_name_byte(uint8_t c)
{
    return c >= 0x20 && c != 0x7F && !strchr("{}|$()<>:,#\\\"", (char)c);
}

bool ld_wildcard_mention(struct ld_span text, size_t pos, struct ld_wildcard_mention *out)
{
    if (!is_pair(text, pos, '_'))
        return false;
    size_t start = pos + 2;
    out->sampler = start < text.size ? sampler_of(text.data[start]) : LD_SAMPLER_DEFAULT;
    start += out->sampler != LD_SAMPLER_DEFAULT;
    size_t end = start;
    while (end < text.size && is_name_byte(text.data[end]) && !is_pair(text, end, '_') &&
           end - start <= LD_NAME_BYTES_MAX)
        end++;
    if (end == start || end - start > LD_NAME_BYTES_MAX || !is_pair(text, end, '_') ||
        text.data[start] == ' ' || text.data[end - 1] == ' ')
        return false;
    out->name = ld_span_of(text.data + start, end - start);
    out->size = end + 2 - pos;
    return true;
}

static bool is_variable_byte(uint8_t c, bool first)
{
    return c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (!first && is_digit(c));
}

bool ld_wildcard_variable(struct ld_span text, size_t pos, struct ld_wildcard_variable *out)
{
    if (pos + 1 >= text.size || text.data[pos] != '$' || text.data[pos + 1] != '{')
        return false;
    const size_t start = pos + 2;
    size_t end = start;
    while (end < text.size && is_variable_byte(text.data[end], end == start))
        end++;
    if (end == start || end == text.size || end - start > LD_NAME_BYTES_MAX)
        return false;
    out->name = ld_span_of(text.data + start, end - start);
    out->kind = (char)text.data[end];
    if (out->kind != '=' && out->kind != ':' && out->kind != '}')
        return false;
    const size_t group = ld_wildcard_group(text, pos + 1);
    if (group == 0)
        return false;
    out->size = group + 1;
    const size_t close = pos + out->size - 1;
    out->value =
        out->kind == '}' ? ld_span_of("", 0) : ld_span_of(text.data + end + 1, close - end - 1);
    return true;
}

char *ld_wildcard_strip(struct ld_arena *arena, struct ld_span text, size_t *size)
{
    char *out = ld_arena_alloc(arena, text.size + 1);
    *size = 0;
    bool comment = false;
    for (size_t i = 0; out && i < text.size; i++) {
        comment = text.data[i] == '#' || (comment && text.data[i] != '\n');
        if (!comment)
            out[(*size)++] = (char)text.data[i];
    }
    return out;
}
