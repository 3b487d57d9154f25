#include "runtime/tipo/sentences.h"

static bool is_space(uint8_t c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static bool is_end(uint8_t c)
{
    return c == '.' || c == '!' || c == '?';
}

static bool is_closer(uint8_t c)
{
    return c == '"' || c == '\'' || c == ')';
}

bool ld_sentence_next(struct ld_span *rest, struct ld_span *sentence)
{
    size_t start = 0;
    while (start < rest->size && is_space(rest->data[start]))
        start++;
    size_t end = start;
    bool ended = false; /* an end mark stands before `end`, with nothing but closers since */
    for (; end < rest->size && !(ended && is_space(rest->data[end])); end++)
        ended = is_end(rest->data[end]) || (ended && is_closer(rest->data[end]));
    *sentence = ld_span_of(rest->data + start, end - start);
    *rest = ld_span_of(rest->data + end, rest->size - end);
    while (sentence->size > 0 && is_space(sentence->data[sentence->size - 1]))
        sentence->size--;
    return sentence->size > 0;
}

bool ld_sentence_is_finished(struct ld_span sentence)
{
    size_t size = sentence.size;
    while (size > 0 && is_closer(sentence.data[size - 1]))
        size--;
    return size > 0 && is_end(sentence.data[size - 1]);
}

void ld_sentence_write(struct ld_span sentence, struct ld_buffer *out)
{
    bool blank = false;
    for (size_t i = 0; i < sentence.size; i++) {
        blank = blank || is_space(sentence.data[i]);
        if (is_space(sentence.data[i]))
            continue;
        if (blank && i > 0)
            ld_buffer_byte(out, ' ');
        ld_buffer_byte(out, (char)sentence.data[i]);
        blank = false;
    }
    if (!ld_sentence_is_finished(sentence))
        ld_buffer_byte(out, '.');
}

uint32_t ld_sentence_words(struct ld_span text)
{
    uint32_t words = 0;
    for (size_t i = 0; i < text.size; i++)
        words += !is_space(text.data[i]) && (i == 0 || is_space(text.data[i - 1]));
    return words;
}
