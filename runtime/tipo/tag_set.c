#include "runtime/tipo/tag_set.h"

#include "runtime/text/wildcards.h"
#include "runtime/tipo/tag_kinds.h"

/* ---- Known tags ------------------------------------------------------------------------------ */

/* FNV-1a of the folded tag; never 0, which marks a free slot. */
static uint64_t hash_of(struct ld_span tag)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < tag.size; i++)
        hash = (hash ^ (uint8_t)ld_tag_folded((char)tag.data[i])) * UINT64_C(0x100000001b3);
    return hash ? hash : 1;
}

/* Where the hash is, or the free slot where it belongs; some slot is always free. */
static uint64_t *slot_of(const struct ld_tag_set *set, uint64_t hash)
{
    uint32_t at = (uint32_t)(hash >> 32) & (set->capacity - 1);
    while (set->slots[at] && set->slots[at] != hash)
        at = (at + 1) & (set->capacity - 1);
    return &set->slots[at];
}

static bool grow(struct ld_tag_set *set)
{
    struct ld_tag_set larger = {.arena = set->arena,
                                .capacity = set->capacity ? 2 * set->capacity : 256,
                                .count = set->count};
    larger.slots = ld_arena_calloc(set->arena, larger.capacity, sizeof *larger.slots);
    if (!larger.slots)
        return false;
    for (uint32_t i = 0; i < set->capacity; i++)
        if (set->slots[i])
            *slot_of(&larger, set->slots[i]) = set->slots[i];
    *set = larger;
    return true;
}

enum ld_code ld_tag_set_add(struct ld_tag_set *set, struct ld_span tag, struct ld_error *err)
{
    const uint64_t hash = hash_of(tag);
    if (2 * set->count >= set->capacity && !grow(set))
        return LD_FAIL(err, LD_E_NOMEM, "out of memory while reading the prompt");
    uint64_t *slot = slot_of(set, hash);
    if (!*slot)
        set->count++;
    *slot = hash;
    return LD_OK;
}

bool ld_tag_set_has(const struct ld_tag_set *set, struct ld_span tag)
{
    return set->capacity > 0 && *slot_of(set, hash_of(tag)) != 0;
}

/* ---- Tags to avoid --------------------------------------------------------------------------- */

/* Folded and NUL-terminated; false if it does not fit. */
static bool fold(struct ld_span text, char out[LD_TIPO_TAG_SIZE])
{
    if (text.size >= LD_TIPO_TAG_SIZE)
        return false;
    for (size_t i = 0; i < text.size; i++)
        out[i] = ld_tag_folded((char)text.data[i]);
    out[text.size] = '\0';
    return true;
}

static bool is_separator(uint8_t c)
{
    return c == ',' || c == '\n' || c == '\r';
}

enum ld_code ld_tag_avoid_read(struct ld_tag_avoid *avoid, struct ld_arena *arena,
                               struct ld_span text, struct ld_error *err)
{
    char folded[LD_TIPO_TAG_SIZE];
    avoid->count = 0;
    for (size_t pos = 0; pos < text.size; pos++) {
        size_t end = pos;
        while (end < text.size && !is_separator(text.data[end]))
            end++;
        const struct ld_span pattern = ld_span_trimmed(ld_span_of(text.data + pos, end - pos));
        pos = end;
        if (pattern.size == 0)
            continue;
        if (!fold(pattern, folded))
            return LD_FAIL(err, LD_E_TOO_LARGE, "a tag to avoid has at most %d bytes",
                           LD_TIPO_TAG_SIZE - 1);
        if (avoid->count == LD_TAG_AVOID_MAX)
            return LD_FAIL(err, LD_E_TOO_LARGE, "at most %d tags can be avoided", LD_TAG_AVOID_MAX);
        const char *copy = ld_arena_strdup(arena, folded);
        if (!copy)
            return LD_FAIL(err, LD_E_NOMEM, "out of memory while reading the prompt");
        avoid->patterns[avoid->count++] = copy;
    }
    return LD_OK;
}

static bool matches_any(const struct ld_tag_avoid *avoid, const char *folded)
{
    for (uint32_t i = 0; i < avoid->count; i++)
        if (ld_wildcard_matches(avoid->patterns[i], folded))
            return true;
    return false;
}

bool ld_tag_avoid_tag(const struct ld_tag_avoid *avoid, struct ld_span tag)
{
    char folded[LD_TIPO_TAG_SIZE];
    return avoid->count > 0 && fold(tag, folded) && matches_any(avoid, folded);
}

/* What stands between the words of a sentence; an apostrophe or a hyphen is part of its word. */
static bool is_between_words(char c)
{
    return c == ' ' || c == '\t' || (c && strchr(".,;:!?\"()", c));
}

/* The next word at *pos, folded; false at the end. A word that is too long is cut. */
static bool next_word(struct ld_span sentence, size_t *pos, char out[LD_TIPO_TAG_SIZE])
{
    size_t used = 0;
    while (*pos < sentence.size && is_between_words(ld_tag_folded((char)sentence.data[*pos])))
        ++*pos;
    for (; *pos < sentence.size; ++*pos) {
        const char c = ld_tag_folded((char)sentence.data[*pos]);
        if (is_between_words(c))
            break;
        if (used + 1 < LD_TIPO_TAG_SIZE)
            out[used++] = c;
    }
    out[used] = '\0';
    return used > 0;
}

bool ld_tag_avoid_sentence(const struct ld_tag_avoid *avoid, struct ld_span sentence)
{
    char word[LD_TIPO_TAG_SIZE];
    if (avoid->count == 0)
        return false;
    for (size_t start = 0; next_word(sentence, &start, word);) {
        char run[LD_TIPO_TAG_SIZE] = "";
        char longer[LD_TIPO_TAG_SIZE];
        size_t pos = start;
        (void)ld_fmt(run, sizeof run, "%s", word);
        for (uint32_t words = 1; !matches_any(avoid, run); words++) {
            if (words == LD_TAG_AVOID_WORDS_MAX || !next_word(sentence, &pos, word) ||
                !ld_fmt(longer, sizeof longer, "%s %s", run, word))
                goto next;
            memcpy(run, longer, sizeof run);
        }
        return true;
    next:;
    }
    return false;
}
