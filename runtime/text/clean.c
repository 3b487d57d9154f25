#include "runtime/text/clean.h"

#include "runtime/text/entities.h"
#include "runtime/text/unicode.h"

/* Repairs are repeated until nothing changes; real text needs two rounds, and only nested HTML
 * references (`&amp;amp;amp;`) can ask for more. */
enum { REPAIR_ROUNDS_MAX = 32 };

/* ---- Profile comfy --------------------------------------------------------------------------- */

static void keep_printable(const struct ld_list *text, struct ld_list *out)
{
    for (size_t i = 0; i < text->count; i++) {
        const uint32_t c = text->data[i];
        if (c == '\t' || c == '\n' || c == '\r' || ld_char_is_blank(c)) {
            ld_list_add(out, ' ');
        } else if (c == 0xFFFD || ld_char_is_other(c)) {
            continue;
        } else if (ld_char_is_ideograph(c)) {
            const uint32_t spaced[3] = {' ', c, ' '};
            ld_list_add_all(out, spaced, 3);
        } else {
            ld_list_add(out, c);
        }
    }
}

/* Words are lowered one by one: the end of a word is where a final sigma may stand. */
static void lower_words(const struct ld_list *text, struct ld_list *out)
{
    bool first = true;
    for (size_t i = 0; i < text->count;) {
        if (ld_char_is_space(text->data[i])) {
            i++;
            continue;
        }
        size_t end = i;
        while (end < text->count && !ld_char_is_space(text->data[end]))
            end++;
        if (!first)
            ld_list_add(out, ' ');
        ld_chars_lower(text->data + i, end - i, LD_SIGMA_FINAL, out);
        first = false;
        i = end;
    }
}

static void clean_comfy(struct ld_list *text, struct ld_list *scratch, struct ld_list *out)
{
    keep_printable(text, scratch);
    ld_chars_compose(scratch);
    lower_words(scratch, out);
    out->failed = out->failed || scratch->failed;
}

/* ---- White space ----------------------------------------------------------------------------- */

static void collapse_spaces(const struct ld_list *text, bool strip, struct ld_list *out)
{
    for (size_t i = 0; i < text->count;) {
        if (!ld_char_is_space(text->data[i])) {
            ld_list_add(out, text->data[i++]);
            continue;
        }
        const size_t start = i;
        while (i < text->count && ld_char_is_space(text->data[i]))
            i++;
        if (!strip || (start > 0 && i < text->count))
            ld_list_add(out, ' ');
    }
}

static void clean_fast(struct ld_list *text, struct ld_list *scratch, struct ld_list *out)
{
    ld_chars_compose(text);
    collapse_spaces(text, false, scratch);
    ld_chars_lower(scratch->data, scratch->count, LD_SIGMA_PLAIN, out);
    out->failed = out->failed || text->failed || scratch->failed;
}

/* ---- Repair ---------------------------------------------------------------------------------- */

static const struct {
    uint16_t ligature;
    uint16_t letters[3];
} ligatures[] = {
    {0x132, {'I', 'J'}},       {0x133, {'i', 'j'}},       {0x149, {0x2BC, 'n'}},
    {0x1C4, {'D', 0x17D}},     {0x1C5, {'D', 0x17E}},     {0x1C6, {'d', 0x17E}},
    {0x1C7, {'L', 'J'}},       {0x1C8, {'L', 'j'}},       {0x1C9, {'l', 'j'}},
    {0x1CA, {'N', 'J'}},       {0x1CB, {'N', 'j'}},       {0x1CC, {'n', 'j'}},
    {0x1F1, {'D', 'Z'}},       {0x1F2, {'D', 'z'}},       {0x1F3, {'d', 'z'}},
    {0xFB00, {'f', 'f'}},      {0xFB01, {'f', 'i'}},      {0xFB02, {'f', 'l'}},
    {0xFB03, {'f', 'f', 'i'}}, {0xFB04, {'f', 'f', 'l'}}, {0xFB05, {0x17F, 't'}},
    {0xFB06, {'s', 't'}},
};

static bool add_ligature(uint32_t c, struct ld_list *out)
{
    for (size_t i = 0; i < sizeof ligatures / sizeof ligatures[0]; i++) {
        if (ligatures[i].ligature != c)
            continue;
        for (size_t k = 0; k < 3 && ligatures[i].letters[k]; k++)
            ld_list_add(out, ligatures[i].letters[k]);
        return true;
    }
    return false;
}

static bool is_unwanted_control(uint32_t c)
{
    return c <= 0x08 || c == 0x0B || (c >= 0x0E && c <= 0x1F) || c == 0x7F ||
           (c >= 0x206A && c <= 0x206F) || c == 0xFEFF || (c >= 0xFFF9 && c <= 0xFFFC);
}

/* Quotes, line ends and control characters. */
static void add_plain(const uint32_t *text, size_t count, size_t i, struct ld_list *out)
{
    const uint32_t c = text[i];
    if (c == 0x2BC || (c >= 0x2018 && c <= 0x201B))
        ld_list_add(out, '\'');
    else if (c >= 0x201C && c <= 0x201F)
        ld_list_add(out, '"');
    else if (c == '\r' && i + 1 < count && text[i + 1] == '\n')
        return; /* the LF that follows stands for both */
    else if (c == '\r' || c == 0x2028 || c == 0x2029 || c == 0x85)
        ld_list_add(out, '\n');
    else if (!is_unwanted_control(c))
        ld_list_add(out, c);
}

/* One round over `text`; the order of the steps is that of model.md 3.2. */
static void repair_once(struct ld_list *text, struct ld_list *scratch)
{
    bool has_angle = false;
    for (size_t i = 0; i < text->count; i++)
        has_angle = has_angle || text->data[i] == '<';
    if (!has_angle) {
        ld_list_clear(scratch);
        ld_entities_decode(text->data, text->count, LD_ENTITIES_CLOSED, scratch);
        ld_list_swap(text, scratch);
    }
    ld_list_clear(scratch);
    for (size_t i = 0; i < text->count; i++) {
        const uint32_t c = text->data[i];
        if (c == 0x3000)
            ld_list_add(scratch, ' ');
        else if (c >= 0xFF01 && c <= 0xFFEF)
            ld_char_compatible(c, scratch);
        else if (c < 0x132 || !add_ligature(c, scratch))
            ld_list_add(scratch, c);
    }
    ld_list_swap(text, scratch);
    ld_list_clear(scratch);
    for (size_t i = 0; i < text->count; i++)
        add_plain(text->data, text->count, i, scratch);
    ld_list_swap(text, scratch);
    ld_chars_compose(text);
}

static void repair(struct ld_list *text, struct ld_list *scratch)
{
    struct ld_list before = ld_list_make(text->count_limit);
    for (int round = 0; round < REPAIR_ROUNDS_MAX && !text->failed && !scratch->failed; round++) {
        ld_list_clear(&before);
        ld_list_add_all(&before, text->data, text->count);
        repair_once(text, scratch);
        if (before.failed || ld_list_equal(&before, text))
            break;
    }
    text->failed = text->failed || scratch->failed || before.failed;
    ld_list_deinit(&before);
}

static void clean_repaired(struct ld_list *text, struct ld_list *scratch, bool unescape,
                           struct ld_list *out)
{
    repair(text, scratch);
    for (int i = 0; i < 2 && unescape; i++) {
        ld_list_clear(scratch);
        ld_entities_decode(text->data, text->count, LD_ENTITIES_HTML, scratch);
        ld_list_swap(text, scratch);
    }
    ld_list_clear(scratch);
    collapse_spaces(text, true, scratch);
    ld_chars_lower(scratch->data, scratch->count, LD_SIGMA_FINAL, out);
    out->failed = out->failed || text->failed || scratch->failed;
}

/* ---- Entry ----------------------------------------------------------------------------------- */

void ld_clean(enum ld_clean profile, struct ld_span text, struct ld_list *out)
{
    /* An ideograph of 3 bytes becomes 3 code points, a decomposition of 2 bytes up to 4. */
    const size_t limit = 4 * text.size + 64;
    struct ld_list chars = ld_list_make(limit);
    struct ld_list scratch = ld_list_make(limit);
    ld_list_add_utf8(&chars, text);
    switch (profile) {
    case LD_CLEAN_FAST:
        clean_fast(&chars, &scratch, out);
        break;
    case LD_CLEAN_WEBUI:
        clean_repaired(&chars, &scratch, false, out);
        break;
    case LD_CLEAN_OPENAI:
        clean_repaired(&chars, &scratch, true, out);
        break;
    case LD_CLEAN_COMFY:
    case LD_CLEAN_COUNT:
        clean_comfy(&chars, &scratch, out);
        break;
    }
    out->failed = out->failed || chars.failed;
    ld_list_deinit(&chars);
    ld_list_deinit(&scratch);
}
