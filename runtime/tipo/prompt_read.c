#include "runtime/tipo/prompt_read.h"

#include "runtime/text/grammar.h"
#include "runtime/text/parts.h"
#include "runtime/text/prompt.h"
#include "runtime/text/schedule.h"
#include "runtime/text/unicode.h"
#include "runtime/tipo/plain.h"
#include "runtime/tipo/sentences.h"

enum {
    /* Steps for which schedules are read: fractions from 1/40 on have a first half, and all texts
     * of the longest prompt still fit the schedule's memory. */
    STEPS = 40,
    WORDS_OF_A_TAG_MAX = 6,
    WORDS_OF_A_SENTENCE_MIN = 3,
    COMMAS_OF_A_SENTENCE_MAX = 8
};
static_assert((int)STEPS * LD_PROMPT_EXPANSION_BYTES_MAX <= LD_PROMPT_SCHEDULE_BYTES,
              "any prompt's schedules can be read");

struct reader {
    struct ld_tipo_reading *out;
    struct ld_arena *arena;
    const struct ld_tags *tags;
    enum ld_syntax syntax;
    struct ld_tag_set read; /* by the names that TIPO knows */
    bool shown;             /* the model sees this text; else its tags are only known */
    struct ld_error *err;
};

static enum ld_code out_of_memory(struct ld_error *err)
{
    return LD_FAIL(err, LD_E_NOMEM, "out of memory while reading the prompt");
}

bool ld_tipo_item_add(struct ld_tipo_items *items, struct ld_arena *arena, const char *item,
                      size_t size)
{
    if (items->count == LD_TIPO_ITEMS_MAX)
        return true;
    const char *copy = ld_arena_strndup(arena, item, size);
    if (copy)
        items->items[items->count++] = copy;
    return copy != NULL;
}

/* ---- Sentences ------------------------------------------------------------------------------- */

/* Keep one sentence, once; *plain tells whether it could be kept. */
static enum ld_code take_sentence(struct ld_tipo_reading *out, struct ld_arena *arena,
                                  struct ld_span sentence, bool *plain, struct ld_error *err)
{
    struct ld_buffer text = ld_buffer_make(LD_TIPO_SENTENCE_BYTES_MAX);
    enum ld_code code = LD_OK;
    *plain = ld_tipo_plain_sentence(sentence, &text);
    const struct ld_span written = ld_span_of(text.data, text.size);
    if (*plain && !ld_tag_set_has(&out->told, written)) {
        code = ld_tag_set_add(&out->told, written, err);
        if (code == LD_OK && !ld_tipo_item_add(&out->given.sentences, arena, text.data, text.size))
            code = out_of_memory(err);
    }
    ld_buffer_deinit(&text);
    return code;
}

static enum ld_code take_sentences(struct reader *r, struct ld_span text)
{
    struct ld_span sentence;
    bool plain;
    enum ld_code code = LD_OK;
    while (r->shown && code == LD_OK && ld_sentence_next(&text, &sentence))
        code = take_sentence(r->out, r->arena, sentence, &plain, r->err);
    return code;
}

enum ld_code ld_tipo_read_text(struct ld_tipo_reading *reading, struct ld_arena *arena,
                               const char *text, uint32_t *dropped, struct ld_error *err)
{
    struct ld_span rest = ld_span_text(text);
    struct ld_span sentence;
    enum ld_code code = ld_prompt_check(rest, LD_PROMPT_EXPANSION_BYTES_MAX, err);
    *dropped = 0;
    while (code == LD_OK && ld_sentence_next(&rest, &sentence)) {
        bool plain = true;
        code = take_sentence(reading, arena, sentence, &plain, err);
        *dropped += !plain;
    }
    return code;
}

/* ---- Pieces between commas ------------------------------------------------------------------- */

/* Prompts are mixed with ` | ` elsewhere; here it is text (model.md 4.4), and never part of a tag.
 */
static bool is_separator(const struct reader *r, struct ld_span text, size_t pos)
{
    const uint8_t c = text.data[pos];
    const bool alone = (pos == 0 || text.data[pos - 1] == ' ') &&
                       (pos + 1 == text.size || text.data[pos + 1] == ' ');
    return c == ',' || c == '\n' || c == '\r' ||
           (c == '|' && alone && r->syntax == LD_SYNTAX_NOVELAI);
}

static size_t piece_end(const struct reader *r, struct ld_span text, size_t pos)
{
    while (pos < text.size && !is_separator(r, text, pos))
        pos++;
    return pos;
}

static struct ld_span piece_of(struct ld_span text, size_t start, size_t end)
{
    return ld_text_trim(ld_span_of(text.data + start, end - start));
}

static bool has_kind(const struct reader *r, struct ld_span piece)
{
    char name[LD_TIPO_TAG_SIZE];
    return piece.size > 0 && piece.size < LD_TIPO_TAG_SIZE &&
           ld_tag_kind_of(r->tags, piece, name) != LD_TAG_GENERAL;
}

static bool has_full_stop(struct ld_span piece)
{
    return piece.size > 0 && piece.data[piece.size - 1] == '.';
}

static bool is_prose(const struct reader *r, struct ld_span piece)
{
    const uint32_t words = ld_sentence_words(piece);
    if (words <= WORDS_OF_A_TAG_MAX && (words < WORDS_OF_A_SENTENCE_MIN || !has_full_stop(piece)))
        return false;
    return !has_kind(r, piece) && !(r->tags && ld_tags_find(r->tags, piece));
}

/* Where the sentence ends of which the piece up to `end` is the first. */
static size_t prose_end(const struct reader *r, struct ld_span text, struct ld_span piece,
                        size_t end)
{
    size_t at = end;
    if (ld_sentence_is_finished(piece))
        return end;
    for (int commas = 0; commas < COMMAS_OF_A_SENTENCE_MAX; commas++) {
        if (at >= text.size || text.data[at] != ',')
            return end;
        const size_t next = piece_end(r, text, at + 1);
        const struct ld_span further = piece_of(text, at + 1, next);
        if (has_kind(r, further))
            return end;
        if (has_full_stop(further))
            return next;
        at = next;
    }
    return end;
}

/* Nothing that the model would read as one of its control tokens. */
static bool is_showable(const char *name)
{
    return !strstr(name, "<|") && !strstr(name, "|>");
}

static enum ld_code take_tag(struct reader *r, struct ld_span tag)
{
    struct ld_tipo_reading *out = r->out;
    char name[LD_TIPO_TAG_SIZE];
    if (ld_span_is(tag, "BREAK") || ld_span_is(tag, "AND"))
        return LD_OK;
    enum ld_code code = ld_tag_set_add(&out->known, tag, r->err);
    if (code != LD_OK || tag.size >= LD_TIPO_TAG_SIZE)
        return code;
    const enum ld_tag_kind kind = ld_tag_kind_of(r->tags, tag, name);
    if (ld_tag_set_has(&r->read, ld_span_text(name)))
        return LD_OK;
    code = ld_tag_set_add(&r->read, ld_span_text(name), r->err);
    if (code == LD_OK)
        code = ld_tag_set_add(&out->known, ld_span_text(name), r->err);
    if (code == LD_OK && r->shown && is_showable(name) &&
        !ld_tipo_item_add(&out->given.tags[kind], r->arena, name, strlen(name)))
        code = out_of_memory(r->err);
    return code;
}

static enum ld_code take_pieces(struct reader *r, struct ld_span text)
{
    enum ld_code code = LD_OK;
    for (size_t pos = 0; pos < text.size && code == LD_OK; pos++) {
        size_t end = piece_end(r, text, pos);
        const struct ld_span piece = piece_of(text, pos, end);
        if (piece.size > 0 && is_prose(r, piece)) {
            end = prose_end(r, text, piece, end);
            code = take_sentences(r, ld_span_of(text.data + pos, end - pos));
        } else if (piece.size > 0) {
            code = take_tag(r, piece);
        }
        pos = end;
    }
    return code;
}

/* ---- Texts ----------------------------------------------------------------------------------- */

/* Append `text` without its mentions of embeddings, which end at a blank or a comma. */
static void add_without_embeddings(struct ld_span text, struct ld_buffer *out)
{
    static const char mark[] = "embedding:";
    const size_t size = sizeof mark - 1;
    for (size_t pos = 0; pos < text.size;) {
        const bool starts_word = pos == 0 || !ld_char_is_word(ld_text_char_before(text, pos));
        if (starts_word && text.size - pos >= size && memcmp(text.data + pos, mark, size) == 0) {
            while (pos < text.size && text.data[pos] != ',' && text.data[pos] != ' ' &&
                   text.data[pos] != '\n')
                pos++;
        } else {
            ld_buffer_byte(out, (char)text.data[pos++]);
        }
    }
}

/* One text of a schedule: weights off, escapes undone, then its pieces. */
static enum ld_code read_text(struct reader *r, struct ld_span text)
{
    struct ld_segments segments;
    struct ld_buffer joined = ld_buffer_make(2 * text.size + 8);
    enum ld_code code = ld_grammar_parse(r->arena, r->syntax, text, &segments, r->err);
    for (uint32_t i = 0; code == LD_OK && i < segments.count; i++) {
        const struct ld_span part = ld_span_of(segments.items[i].text, segments.items[i].size);
        if (segments.items[i].weight < 0 && ld_span_is(part, "BREAK"))
            ld_buffer_byte(&joined, '\n');
        else
            add_without_embeddings(part, &joined);
    }
    if (code == LD_OK && joined.failed)
        code = out_of_memory(r->err);
    if (code == LD_OK)
        code = take_pieces(r, ld_span_of(joined.data, joined.size));
    ld_buffer_deinit(&joined);
    return code;
}

static enum ld_code read_schedule(struct reader *r, struct ld_span text)
{
    const struct ld_prompt_schedule_options options = {.steps = STEPS};
    struct ld_prompt_schedule schedule;
    enum ld_code code = ld_prompt_schedule_expand(r->arena, text, &options, &schedule, r->err);
    for (uint32_t i = 0; code == LD_OK && i < schedule.text_count; i++) {
        r->shown = i == 0;
        code = read_text(r, schedule.texts[i]);
    }
    return code;
}

/* ---- The whole ------------------------------------------------------------------------------- */

/* Where byte `at` of the text without mentions stands in the prompt, behind mentions that end
 * there. */
static size_t origin_of(const struct ld_networks *networks, struct ld_span prompt, size_t at)
{
    size_t taken = 0;
    for (uint32_t i = 0; i < networks->count; i++) {
        const struct ld_span mention = networks->items[i].mention;
        if ((size_t)(mention.data - prompt.data) > at + taken)
            break;
        taken += mention.size;
    }
    return at + taken;
}

static size_t without_trailing_commas(struct ld_span prompt, size_t end)
{
    while (end > 0 && prompt.data[end - 1] && strchr(", \t\r\n", prompt.data[end - 1]))
        end--;
    return end;
}

enum ld_code ld_tipo_read(struct ld_tipo_reading *out, struct ld_arena *arena,
                          const struct ld_tags *tags, enum ld_syntax syntax, const char *prompt,
                          struct ld_error *err)
{
    struct reader r = {out,           arena,     tags, syntax, .read = {.arena = arena},
                       .shown = true, .err = err};
    const struct ld_span whole = ld_span_text(prompt);
    struct ld_networks networks = {0};
    struct ld_and_parts parts = {.count = 1};
    struct ld_span rest = whole;
    memset(out, 0, sizeof *out);
    out->known.arena = out->told.arena = arena;
    out->tail = whole.size;
    enum ld_code code = ld_prompt_check(whole, LD_PROMPT_EXPANSION_BYTES_MAX, err);
    if (code == LD_OK && syntax != LD_SYNTAX_PLAIN)
        code = ld_networks_extract(arena, whole, &rest, &networks, err);
    if (code == LD_OK && syntax == LD_SYNTAX_A1111)
        code = ld_and_split(rest, &parts, err);
    if (code != LD_OK)
        return code;
    if (parts.count > 1) {
        const struct ld_span first = parts.items[0].text;
        const size_t end = first.size ? (size_t)(first.data - rest.data) + first.size : 0;
        out->tail = origin_of(&networks, whole, end);
        rest = first;
    }
    out->head = without_trailing_commas(whole, out->tail);
    code = syntax == LD_SYNTAX_A1111 ? read_schedule(&r, rest) : read_text(&r, rest);
    out->sentences_in_prompt = out->given.sentences.count;
    r.shown = false;
    return code == LD_OK ? take_pieces(&r, rest) : code;
}
