#include "runtime/tipo/plain.h"

#include "runtime/text/unicode.h"
#include "runtime/tipo/sentences.h"

#include <strings.h>

/* `word` stands at `pos` as a whole word, as AND and BREAK are looked for in prompts. */
static bool is_word_at(struct ld_span text, size_t pos, const char *word)
{
    const size_t size = strlen(word);
    if (text.size - pos < size || memcmp(text.data + pos, word, size) != 0)
        return false;
    const uint32_t before = ld_text_char_before(text, pos);
    const uint32_t after = ld_text_char_at(text, pos + size);
    return (before == LD_CHAR_NONE || !ld_char_is_word(before)) &&
           (after == LD_CHAR_NONE || !ld_char_is_word(after));
}

static bool starts_with(struct ld_span text, size_t pos, const char *word)
{
    const size_t size = strlen(word);
    return text.size - pos >= size && strncasecmp((const char *)text.data + pos, word, size) == 0;
}

static bool opens_syntax(struct ld_span text, size_t pos)
{
    switch (text.data[pos]) {
    case '<':
    case '>':
    case '\\':
    case '{':
    case '}':
    case '|':
    case '$':
    case '#':
        return true;
    case '_':
        return starts_with(text, pos, "__");
    case 'A':
        return is_word_at(text, pos, "AND");
    case 'B':
        return is_word_at(text, pos, "BREAK");
    case 'E':
    case 'e':
        return starts_with(text, pos, "embedding:");
    default:
        return false;
    }
}

bool ld_tipo_is_plain(struct ld_span text)
{
    if (!ld_utf8_valid(text))
        return false;
    for (size_t pos = 0; pos < text.size;) {
        if (opens_syntax(text, pos) || ld_char_is_other(ld_utf8_next(text.data, text.size, &pos)))
            return false;
    }
    return true;
}

bool ld_tipo_plain_sentence(struct ld_span sentence, struct ld_buffer *out)
{
    const size_t start = out->size;
    if (sentence.size >= LD_TIPO_SENTENCE_BYTES_MAX)
        return false;
    ld_sentence_write(sentence, out);
    return !out->failed && ld_tipo_is_plain(ld_span_of(out->data + start, out->size - start));
}

static bool is_escaped(enum ld_syntax syntax, struct ld_span text, size_t pos)
{
    const uint8_t c = text.data[pos];
    const bool round = c == '(' || c == ')';
    const bool square = c == '[' || c == ']';
    switch (syntax) {
    case LD_SYNTAX_A1111:
        return round || square;
    case LD_SYNTAX_COMFY:
        return round;
    case LD_SYNTAX_NOVELAI:
        return square || (c == ':' && ((pos > 0 && text.data[pos - 1] == ':') ||
                                       (pos + 1 < text.size && text.data[pos + 1] == ':')));
    case LD_SYNTAX_PLAIN:
        break;
    }
    return false;
}

void ld_tipo_escape(enum ld_syntax syntax, struct ld_span text, struct ld_buffer *out)
{
    for (size_t pos = 0; pos < text.size; pos++) {
        if (is_escaped(syntax, text, pos))
            ld_buffer_byte(out, '\\');
        ld_buffer_byte(out, (char)text.data[pos]);
    }
}
