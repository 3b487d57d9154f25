#include "runtime/tipo/tag_kinds.h"

static const char *const quality_words[] = {"masterpiece",
                                            "best quality",
                                            "great quality",
                                            "good quality",
                                            "normal quality",
                                            "low quality",
                                            "worse quality",
                                            "very aesthetic",
                                            "aesthetic",
                                            "displeasing",
                                            "very displeasing",
                                            "newest",
                                            "recent",
                                            "mid",
                                            "early",
                                            "old",
                                            "score_9",
                                            "score_8_up",
                                            "score_7_up",
                                            "score_6_up",
                                            "score_5_up",
                                            "score_4_up",
                                            "source_anime",
                                            "source_cartoon",
                                            "source_furry",
                                            "source_pony",
                                            "amazing quality",
                                            "bad quality",
                                            "worst quality"};

static const char *const rating_words[] = {"safe", "general",  "sfw",         "sensitive",
                                           "nsfw", "explicit", "questionable"};

static const char *const special_words[] = {"multiple girls", "multiple boys", "multiple others",
                                            "male focus"};

static bool is_digit(uint8_t c)
{
    return c >= '0' && c <= '9';
}

static bool is_word(struct ld_span tag, const char *word)
{
    if (tag.size != strlen(word))
        return false;
    for (size_t i = 0; i < tag.size; i++)
        if (ld_tag_folded((char)tag.data[i]) != ld_tag_folded(word[i]))
            return false;
    return true;
}

/* The word of the list that the tag is, in the list's own spelling; NULL if none. */
static const char *find_word(struct ld_span tag, const char *const *words, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (is_word(tag, words[i]))
            return words[i];
    return NULL;
}

/* 1girl, 2girls to 5girls, 6+girls, and the same of boys and others. */
static bool is_count(struct ld_span tag)
{
    static const char *const one[] = {"girl", "boy", "other"};
    static const char *const many[] = {"girls", "boys", "others"};
    if (tag.size < 2 || tag.data[0] < '1' || tag.data[0] > '6')
        return false;
    const bool six = tag.data[0] == '6';
    if (six && tag.data[1] != '+')
        return false;
    const size_t head = six ? 2 : 1;
    const struct ld_span noun = ld_span_of(tag.data + head, tag.size - head);
    return find_word(noun, tag.data[0] == '1' ? one : many, 3) != NULL;
}

static struct ld_span without_rating_mark(struct ld_span tag)
{
    static const char mark[] = "rating:";
    const size_t size = sizeof mark - 1;
    if (tag.size <= size || !is_word(ld_span_of(tag.data, size), mark))
        return tag;
    return ld_span_trimmed(ld_span_of(tag.data + size, tag.size - size));
}

static bool is_year(struct ld_span tag)
{
    return tag.size == 9 && is_word(ld_span_of(tag.data, 5), "year ") && is_digit(tag.data[5]) &&
           is_digit(tag.data[6]) && is_digit(tag.data[7]) && is_digit(tag.data[8]);
}

/* Lower case; blanks for underscores unless the tag is an emoticon. */
static void spell(struct ld_span tag, char name[LD_TIPO_TAG_SIZE])
{
    size_t characters = 0;
    for (size_t i = 0; i < tag.size; i++)
        characters += (tag.data[i] & 0xC0) != 0x80;
    for (size_t i = 0; i < tag.size; i++) {
        const char c = (char)tag.data[i];
        name[i] = c == '_' && characters < 4 ? c : ld_tag_folded(c);
    }
    name[tag.size] = '\0';
}

static enum ld_tag_kind kind_of_category(uint8_t category)
{
    switch (category) {
    case 1:
        return LD_TAG_ARTIST;
    case 3:
        return LD_TAG_COPYRIGHT;
    case 4:
        return LD_TAG_CHARACTER;
    case 5:
        return LD_TAG_META;
    default:
        return LD_TAG_GENERAL;
    }
}

enum ld_tag_kind ld_tag_kind_of(const struct ld_tags *tags, struct ld_span tag,
                                char name[LD_TIPO_TAG_SIZE])
{
    LD_ASSERT(tag.size > 0 && tag.size < LD_TIPO_TAG_SIZE);
    const char *quality =
        find_word(tag, quality_words, sizeof quality_words / sizeof quality_words[0]);
    const char *rating = find_word(without_rating_mark(tag), rating_words,
                                   sizeof rating_words / sizeof rating_words[0]);
    if (quality || rating) {
        (void)ld_fmt(name, LD_TIPO_TAG_SIZE, "%s", quality ? quality : rating);
        return quality ? LD_TAG_QUALITY : LD_TAG_RATING;
    }
    const struct ld_tag *known = tags ? ld_tags_find(tags, tag) : NULL;
    const struct ld_span own =
        known && strlen(known->name) < LD_TIPO_TAG_SIZE ? ld_span_text(known->name) : tag;
    spell(own, name);
    if (is_count(own) ||
        find_word(own, special_words, sizeof special_words / sizeof special_words[0]))
        return LD_TAG_SPECIAL;
    if (is_year(own))
        return LD_TAG_META;
    return known ? kind_of_category(known->category) : LD_TAG_GENERAL;
}
