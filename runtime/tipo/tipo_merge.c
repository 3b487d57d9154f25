#include "runtime/tipo/tipo_merge.h"

#include "runtime/text/parts.h"
#include "runtime/text/unicode.h"
#include "runtime/tipo/plain.h"
#include "runtime/tipo/sentences.h"

struct ld_tipo_bounds ld_tipo_bounds_of(enum ld_tipo_length length)
{
    static const struct ld_tipo_bounds bounds[] = {
        [LD_TIPO_VERY_SHORT] = {6, 18, 1, 2},
        [LD_TIPO_SHORT] = {18, 36, 2, 4},
        [LD_TIPO_LONG] = {36, 54, 4, 8},
        [LD_TIPO_VERY_LONG] = {54, 72, 8, LD_TIPO_ITEMS_MAX},
    };
    return bounds[length];
}

uint32_t ld_tipo_tag_count(const struct ld_tipo_merge *merge)
{
    const struct ld_tipo_content *given = &merge->reading->given;
    return given->tags[LD_TAG_SPECIAL].count + given->tags[LD_TAG_GENERAL].count +
           merge->found.tags[LD_TAG_SPECIAL].count + merge->found.tags[LD_TAG_GENERAL].count;
}

uint32_t ld_tipo_sentence_count(const struct ld_tipo_merge *merge)
{
    return merge->reading->given.sentences.count + merge->found.sentences.count;
}

static enum ld_code out_of_memory(struct ld_error *err)
{
    return LD_FAIL(err, LD_E_NOMEM, "out of memory while extending the prompt");
}

/* ---- Tags ------------------------------------------------------------------------------------ */

static bool has_room(const struct ld_tipo_merge *merge, enum ld_tag_kind kind)
{
    switch (kind) {
    case LD_TAG_SPECIAL:
    case LD_TAG_GENERAL:
        return ld_tipo_tag_count(merge) < ld_tipo_bounds_of(merge->length).tags_max;
    case LD_TAG_CHARACTER:
    case LD_TAG_COPYRIGHT:
    case LD_TAG_ARTIST:
        return merge->found.tags[kind].count < LD_TIPO_NAMES_MAX;
    case LD_TAG_QUALITY:
    case LD_TAG_META:
    case LD_TAG_RATING:
    case LD_TAG_KIND_COUNT:
        break;
    }
    return false;
}

/* The tag without the backslashes of escaped brackets, which models have seen in prompts. False if
 * it is too long for a tag. */
static bool unescape(struct ld_span tag, char out[LD_TIPO_TAG_SIZE], size_t *size)
{
    *size = 0;
    for (size_t i = 0; i < tag.size; i++) {
        const uint8_t next = i + 1 < tag.size ? tag.data[i + 1] : 0;
        if (tag.data[i] == '\\' && next && strchr("()[]", next))
            continue;
        if (*size + 1 == LD_TIPO_TAG_SIZE)
            return false;
        out[(*size)++] = (char)tag.data[i];
    }
    return *size > 0;
}

/* One tag of the answer; `line` is the kind of the line it stood on. */
static enum ld_code take_tag(struct ld_tipo_merge *merge, struct ld_span written,
                             enum ld_tag_kind line, struct ld_error *err)
{
    char text[LD_TIPO_TAG_SIZE];
    char name[LD_TIPO_TAG_SIZE];
    size_t size = 0;
    if (!unescape(written, text, &size) || !ld_tipo_is_plain(ld_span_of(text, size)))
        return LD_OK;
    const struct ld_span tag = ld_span_of(text, size);
    enum ld_tag_kind kind = ld_tag_kind_of(merge->tags, tag, name);
    const struct ld_span own = ld_span_text(name);
    kind = kind == LD_TAG_GENERAL ? line : kind;
    if (!ld_tipo_is_plain(own) || !has_room(merge, kind) ||
        ld_tag_set_has(&merge->reading->known, tag) ||
        ld_tag_set_has(&merge->reading->known, own) || ld_tag_avoid_tag(merge->avoid, tag) ||
        ld_tag_avoid_tag(merge->avoid, own))
        return LD_OK;
    if (!ld_tipo_item_add(&merge->found.tags[kind], merge->arena, name, own.size))
        return out_of_memory(err);
    return ld_tag_set_add(&merge->reading->known, own, err);
}

static enum ld_code take_line(struct ld_tipo_merge *merge, struct ld_span value,
                              enum ld_tag_kind line, struct ld_error *err)
{
    enum ld_code code = LD_OK;
    for (size_t pos = 0; pos < value.size && code == LD_OK; pos++) {
        size_t end = pos;
        while (end < value.size && value.data[end] != ',' && value.data[end] != '\n')
            end++;
        const struct ld_span tag = ld_text_trim(ld_span_of(value.data + pos, end - pos));
        if (tag.size > 0)
            code = take_tag(merge, tag, line, err);
        pos = end;
    }
    return code;
}

enum ld_code ld_tipo_take_tags(struct ld_tipo_merge *merge, const struct ld_tipo_answer *answer,
                               struct ld_error *err)
{
    static const struct {
        enum ld_tipo_key key;
        enum ld_tag_kind kind;
    } lines[] = {{LD_TIPO_KEY_TAG, LD_TAG_GENERAL},
                 {LD_TIPO_KEY_CHARACTERS, LD_TAG_CHARACTER},
                 {LD_TIPO_KEY_COPYRIGHTS, LD_TAG_COPYRIGHT},
                 {LD_TIPO_KEY_ARTIST, LD_TAG_ARTIST}};
    enum ld_code code = LD_OK;
    for (size_t i = 0; i < sizeof lines / sizeof lines[0] && code == LD_OK; i++)
        code = take_line(merge, answer->values[lines[i].key], lines[i].kind, err);
    return code;
}

/* ---- Text ------------------------------------------------------------------------------------ */

static enum ld_code take_sentence(struct ld_tipo_merge *merge, struct ld_span sentence,
                                  struct ld_error *err)
{
    struct ld_buffer text = ld_buffer_make(LD_TIPO_SENTENCE_BYTES_MAX);
    enum ld_code code = LD_OK;
    const bool plain = ld_tipo_plain_sentence(sentence, &text);
    const struct ld_span written = ld_span_of(text.data, text.size);
    if (plain && !ld_tag_set_has(&merge->reading->told, written) &&
        !ld_tag_avoid_sentence(merge->avoid, written)) {
        code = ld_tag_set_add(&merge->reading->told, written, err);
        if (code == LD_OK &&
            !ld_tipo_item_add(&merge->found.sentences, merge->arena, text.data, text.size))
            code = out_of_memory(err);
    }
    ld_buffer_deinit(&text);
    return code;
}

enum ld_code ld_tipo_take_text(struct ld_tipo_merge *merge, const struct ld_tipo_answer *answer,
                               struct ld_error *err)
{
    const uint32_t most = ld_tipo_bounds_of(merge->length).sentences_max;
    struct ld_span rest = answer->values[LD_TIPO_KEY_LONG];
    struct ld_span sentence;
    enum ld_code code = LD_OK;
    for (bool first = true; code == LD_OK && ld_tipo_sentence_count(merge) < most &&
                            ld_sentence_next(&rest, &sentence);
         first = false)
        if (first || ld_sentence_is_finished(sentence))
            code = take_sentence(merge, sentence, err);
    return code;
}

/* ---- The prompt ------------------------------------------------------------------------------ */

/* What is added, as it grows. */
struct addition {
    enum ld_syntax syntax;
    struct ld_buffer text;
    size_t room; /* bytes it may have */
    bool cut;
};

static void add(struct addition *a, const char *between, const char *item)
{
    const size_t start = a->text.size;
    if (a->cut)
        return;
    ld_buffer_text(&a->text, start ? between : "");
    ld_tipo_escape(a->syntax, ld_span_text(item), &a->text);
    if (a->text.size > a->room) {
        a->text.data[a->text.size = start] = '\0';
        a->cut = true;
    }
}

static void add_sentences(struct addition *a, const struct ld_tipo_items *sentences, uint32_t first,
                          bool *told)
{
    for (uint32_t i = first; i < sentences->count; i++) {
        add(a, *told ? " " : ", ", sentences->items[i]);
        *told = true;
    }
}

/* The end of a part that is a colon and a number would be read as the part's weight: `:3`. */
static void protect_end(struct addition *a)
{
    struct ld_and_parts parts;
    if (a->syntax == LD_SYNTAX_A1111 && a->text.size > 0 &&
        (ld_and_split(ld_span_of(a->text.data, a->text.size), &parts, NULL) != LD_OK ||
         parts.items[parts.count - 1].weighted))
        ld_buffer_byte(&a->text, ',');
}

/* `, ` between a prompt and what is added; a blank behind BREAK. */
static const char *joint_of(enum ld_syntax syntax, struct ld_span kept)
{
    static const char word[] = "BREAK";
    const size_t size = sizeof word - 1;
    if (kept.size == 0)
        return "";
    if (syntax != LD_SYNTAX_A1111 || kept.size < size ||
        memcmp(kept.data + kept.size - size, word, size) != 0)
        return ", ";
    const uint32_t before = ld_text_char_before(kept, kept.size - size);
    return before != LD_CHAR_NONE && ld_char_is_word(before) ? ", " : " ";
}

void ld_tipo_write(const struct ld_tipo_merge *merge, enum ld_syntax syntax,
                   enum ld_tipo_write write, const char *prompt, struct ld_buffer *out,
                   struct ld_notes *notes)
{
    const struct ld_tipo_reading *reading = merge->reading;
    const struct ld_span whole = ld_span_text(prompt);
    const struct ld_span kept = ld_span_of(whole.data, reading->head);
    const struct ld_span behind =
        ld_span_of(whole.data + reading->tail, whole.size - reading->tail);
    const char *joint = joint_of(syntax, kept);
    /* Beside joint and parts there are a comma and a blank at most. */
    const size_t taken = kept.size + strlen(joint) + 2 + behind.size;
    struct addition a = {.syntax = syntax, .text = ld_buffer_make(2 * LD_PROMPT_BYTES_MAX)};
    bool told = false;
    a.room = taken < LD_PROMPT_BYTES_MAX ? LD_PROMPT_BYTES_MAX - taken : 0;
    for (int kind = LD_TAG_SPECIAL; write != LD_TIPO_TEXT && kind <= LD_TAG_GENERAL; kind++)
        for (uint32_t i = 0; i < merge->found.tags[kind].count; i++)
            add(&a, ", ", merge->found.tags[kind].items[i]);
    if (write != LD_TIPO_TAGS) {
        add_sentences(&a, &reading->given.sentences, reading->sentences_in_prompt, &told);
        add_sentences(&a, &merge->found.sentences, 0, &told);
    }
    protect_end(&a);
    if (a.cut)
        ld_notes_add(notes, "What the language model added was cut: a prompt has at most %d bytes.",
                     LD_PROMPT_BYTES_MAX);
    if (a.text.size == 0) {
        ld_buffer_text(out, prompt);
    } else {
        ld_buffer_bytes(out, kept.data, kept.size);
        ld_buffer_text(out, joint);
        ld_buffer_bytes(out, a.text.data, a.text.size);
        if (behind.size > 0 && !strchr(" \t\r\n:", behind.data[0]))
            ld_buffer_byte(out, ' ');
        ld_buffer_bytes(out, behind.data, behind.size);
    }
    out->failed = out->failed || a.text.failed;
    ld_buffer_deinit(&a.text);
}
