#include "runtime/text/unicode.h"

#include <utf8proc.h>

static utf8proc_category_t category(uint32_t c)
{
    return c > 0x10FFFF ? UTF8PROC_CATEGORY_CN : utf8proc_category((utf8proc_int32_t)c);
}

/* ---- Classes --------------------------------------------------------------------------------- */

bool ld_char_is_letter(uint32_t c)
{
    const utf8proc_category_t k = category(c);
    return k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_LO;
}

bool ld_char_is_number(uint32_t c)
{
    const utf8proc_category_t k = category(c);
    return k >= UTF8PROC_CATEGORY_ND && k <= UTF8PROC_CATEGORY_NO;
}

bool ld_char_is_blank(uint32_t c)
{
    return category(c) == UTF8PROC_CATEGORY_ZS;
}

bool ld_char_is_other(uint32_t c)
{
    const utf8proc_category_t k = category(c);
    return k == UTF8PROC_CATEGORY_CN || (k >= UTF8PROC_CATEGORY_CC && k <= UTF8PROC_CATEGORY_CO);
}

bool ld_char_is_space(uint32_t c)
{
    return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 ||
           c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 ||
           c == 0x202F || c == 0x205F || c == 0x3000;
}

bool ld_char_is_word(uint32_t c)
{
    return c == '_' || ld_char_is_letter(c) || ld_char_is_number(c);
}

bool ld_char_is_ideograph(uint32_t c)
{
    static const struct {
        uint32_t first, last;
    } blocks[] = {{0x4E00, 0x9FFF},   {0x3400, 0x4DBF},   {0x20000, 0x2A6DF}, {0x2A700, 0x2B73F},
                  {0x2B740, 0x2B81F}, {0x2B820, 0x2CEAF}, {0xF900, 0xFAFF},   {0x2F800, 0x2FA1F}};
    for (size_t i = 0; i < sizeof blocks / sizeof blocks[0]; i++)
        if (c >= blocks[i].first && c <= blocks[i].last)
            return true;
    return false;
}

int32_t ld_char_digit(uint32_t c)
{
    if (c >= '0' && c <= '9')
        return (int32_t)(c - '0');
    if (c < 0x80 || category(c) != UTF8PROC_CATEGORY_ND)
        return -1;
    /* Decimal digits come in runs of ten that start with the zero (Unicode 4.6), so the distance
     * to the start of the run tells the value. The longest run (mathematical digits) has 50. */
    uint32_t first = c;
    for (int i = 0; i < 60 && category(first - 1) == UTF8PROC_CATEGORY_ND; i++)
        first--;
    return (int32_t)((c - first) % 10);
}

/* ---- Lower case ------------------------------------------------------------------------------ */

static bool is_cased(uint32_t c)
{
    const utf8proc_category_t k = category(c);
    if (k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_LT)
        return true;
    /* Other_Uppercase and Other_Lowercase: Roman numerals, circled letters, raised letters. */
    const utf8proc_int32_t s = (utf8proc_int32_t)c;
    return c <= 0x10FFFF && (c == 0xAA || c == 0xBA || (c >= 0x2B0 && c <= 0x2B8) ||
                             utf8proc_tolower(s) != s || utf8proc_toupper(s) != s);
}

static bool is_case_ignorable(uint32_t c)
{
    static const uint16_t word_middles[] = {0x27,   0x2E,   0x3A,   0xB7,   0x387,  0x55F,
                                            0x5F4,  0x2018, 0x2019, 0x2024, 0x2027, 0xFE13,
                                            0xFE52, 0xFE55, 0xFF07, 0xFF0E, 0xFF1A};
    for (size_t i = 0; i < sizeof word_middles / sizeof word_middles[0]; i++)
        if (c == word_middles[i])
            return true;
    const utf8proc_category_t k = category(c);
    return k == UTF8PROC_CATEGORY_MN || k == UTF8PROC_CATEGORY_ME || k == UTF8PROC_CATEGORY_CF ||
           k == UTF8PROC_CATEGORY_LM || k == UTF8PROC_CATEGORY_SK;
}

/* A cased character before the sigma and none after it, ignorable ones skipped. A sigma is cased
 * itself and stops the scan of its neighbours, so all scans together are linear. */
static bool is_final_sigma(const uint32_t *text, size_t count, size_t at)
{
    size_t before = at;
    while (before > 0 && is_case_ignorable(text[before - 1]))
        before--;
    if (before == 0 || !is_cased(text[before - 1]))
        return false;
    size_t after = at + 1;
    while (after < count && is_case_ignorable(text[after]))
        after++;
    return after == count || !is_cased(text[after]);
}

void ld_chars_lower(const uint32_t *text, size_t count, enum ld_sigma sigma, struct ld_list *out)
{
    for (size_t i = 0; i < count; i++) {
        const uint32_t c = text[i];
        if (c < 0x80) {
            ld_list_add(out, c >= 'A' && c <= 'Z' ? c + 32 : c);
        } else if (c == 0x130) { /* the only lower case of two characters (SpecialCasing.txt) */
            ld_list_add(out, 'i');
            ld_list_add(out, 0x307);
        } else if (c == 0x3A3) {
            ld_list_add(out,
                        sigma == LD_SIGMA_FINAL && is_final_sigma(text, count, i) ? 0x3C2 : 0x3C3);
        } else if (c > 0x10FFFF) {
            ld_list_add(out, 0xFFFD);
        } else {
            ld_list_add(out, (uint32_t)utf8proc_tolower((utf8proc_int32_t)c));
        }
    }
}

/* ---- Normal form C --------------------------------------------------------------------------- */

static uint8_t combining_class(uint32_t c)
{
    return (uint8_t)utf8proc_get_property((utf8proc_int32_t)c)->combining_class;
}

static void decompose(uint32_t c, int options, struct ld_list *out)
{
    utf8proc_int32_t parts[32]; /* the longest decomposition has 18 code points */
    int boundary = 0;
    const utf8proc_ssize_t count = utf8proc_decompose_char((utf8proc_int32_t)c, parts, 32,
                                                           (utf8proc_option_t)options, &boundary);
    if (count <= 0 || count > 32) {
        ld_list_add(out, c);
        return;
    }
    for (utf8proc_ssize_t i = 0; i < count; i++)
        ld_list_add(out, (uint32_t)parts[i]);
}

/* Stable sort of one run of marks by class, by counting: the library's own ordering is quadratic
 * in the length of the run. */
static void sort_marks(uint32_t *marks, size_t count, uint32_t *held)
{
    size_t start[257] = {0};
    for (size_t i = 0; i < count; i++)
        start[combining_class(marks[i]) + 1]++;
    for (size_t k = 1; k < 257; k++)
        start[k] += start[k - 1];
    memcpy(held, marks, count * sizeof *marks);
    for (size_t i = 0; i < count; i++)
        marks[start[combining_class(held[i])]++] = held[i];
}

static void order_marks(struct ld_list *text, struct ld_list *scratch)
{
    size_t i = 0;
    while (i < text->count) {
        size_t end = i;
        bool ordered = true;
        uint8_t previous = 0;
        for (; end < text->count; end++) {
            const uint8_t class = combining_class(text->data[end]);
            if (class == 0)
                break;
            ordered = ordered && previous <= class;
            previous = class;
        }
        if (!ordered) {
            ld_list_clear(scratch);
            ld_list_add_all(scratch, text->data + i, end - i);
            if (scratch->failed) {
                text->failed = true;
                return;
            }
            sort_marks(text->data + i, end - i, scratch->data);
        }
        i = end + 1;
    }
}

void ld_chars_compose(struct ld_list *text)
{
    /* Below U+0300 every text is already in this form. */
    bool plain = !text->failed;
    for (size_t i = 0; plain && i < text->count; i++)
        plain = text->data[i] < 0x300;
    if (plain)
        return;
    const size_t limit = text->count_limit;
    struct ld_list parts = ld_list_make(limit);
    for (size_t i = 0; i < text->count; i++)
        decompose(text->data[i] > 0x10FFFF ? 0xFFFD : text->data[i],
                  UTF8PROC_DECOMPOSE | UTF8PROC_STABLE, &parts);
    struct ld_list scratch = ld_list_make(limit);
    order_marks(&parts, &scratch);
    ld_list_deinit(&scratch);
    if (!parts.failed && parts.count > 0) {
        /* int32_t and uint32_t may alias; all values are below 2^21. */
        const utf8proc_ssize_t count =
            utf8proc_normalize_utf32((utf8proc_int32_t *)parts.data, (utf8proc_ssize_t)parts.count,
                                     UTF8PROC_COMPOSE | UTF8PROC_STABLE);
        if (count < 0)
            parts.failed = true;
        else
            parts.count = (size_t)count;
    }
    parts.failed = parts.failed || text->failed;
    ld_list_swap(text, &parts);
    ld_list_deinit(&parts);
}

void ld_char_compatible(uint32_t c, struct ld_list *out)
{
    if (c > 0x10FFFF)
        c = 0xFFFD;
    struct ld_list parts = ld_list_make(32);
    decompose(c, UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT | UTF8PROC_STABLE, &parts);
    ld_chars_compose(&parts);
    ld_list_add_all(out, parts.data, parts.count);
    ld_list_deinit(&parts);
}

/* ---- Spans of UTF-8 -------------------------------------------------------------------------- */

uint32_t ld_text_char_at(struct ld_span text, size_t pos)
{
    return pos < text.size ? ld_utf8_next(text.data, text.size, &pos) : LD_CHAR_NONE;
}

uint32_t ld_text_char_before(struct ld_span text, size_t pos)
{
    if (pos == 0 || pos > text.size)
        return LD_CHAR_NONE;
    size_t start = pos - 1;
    for (int i = 0; i < 3 && start > 0 && (text.data[start] & 0xC0) == 0x80; i++)
        start--;
    size_t end = start;
    const uint32_t c = ld_utf8_next(text.data, pos, &end);
    return end == pos ? c : 0xFFFD;
}

struct ld_span ld_text_trim(struct ld_span text)
{
    size_t start = 0;
    while (start < text.size) {
        size_t next = start;
        if (!ld_char_is_space(ld_utf8_next(text.data, text.size, &next)))
            break;
        start = next;
    }
    size_t end = text.size;
    while (end > start && ld_char_is_space(ld_text_char_before(text, end))) {
        end--;
        while (end > start && (text.data[end] & 0xC0) == 0x80)
            end--;
    }
    return ld_span_of(text.data + start, end - start);
}

bool ld_text_parse_double(struct ld_span text, double *out)
{
    uint8_t ascii[340];
    size_t size = 0;
    text = ld_text_trim(text);
    for (size_t pos = 0; pos < text.size;) {
        const uint32_t c = ld_utf8_next(text.data, text.size, &pos);
        const int32_t digit = ld_char_digit(c);
        if (size == sizeof ascii || (digit < 0 && c >= 0x80))
            return false;
        ascii[size++] = (uint8_t)(digit >= 0 ? '0' + digit : (int32_t)c);
    }
    return ld_parse_double(ld_span_of(ascii, size), out);
}
