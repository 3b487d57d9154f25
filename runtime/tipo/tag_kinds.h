/*
 * Which tag is what. TIPO learnt tags sorted by kind, most of them on a line of their own, so a tag
 * has to be told from its words: by short lists of its training, and by the category of a tag list
 * (config/tags.h) for who is an artist or a character.
 *
 *     char name[LD_TIPO_TAG_SIZE];
 *     kind = ld_tag_kind_of(tags, ld_span_text("Saber_(fate)"), name);
 *     // LD_TAG_CHARACTER, "saber (fate)"
 *
 * Source: KohakuBlueleaf/KGen for the lists (model.md 6.2, 7), novelai_v2.json for the quality
 * words and years of NovelAI Diffusion V2.
 */
#ifndef LD_TIPO_TAG_KINDS_H
#define LD_TIPO_TAG_KINDS_H

#include "config/tags.h"

#ifdef __cplusplus
extern "C" {
#endif

/* In the order in which they stand in a finished prompt (model.md 6.2). */
enum ld_tag_kind {
    LD_TAG_SPECIAL, /* how many there are: 1girl, 6+boys, multiple others; male focus */
    LD_TAG_CHARACTER,
    LD_TAG_COPYRIGHT,
    LD_TAG_ARTIST,
    LD_TAG_GENERAL,
    LD_TAG_QUALITY, /* also how old: newest, old */
    LD_TAG_META,    /* absurdres, year 2020: of the file and its making */
    LD_TAG_RATING,
    LD_TAG_KIND_COUNT
};

enum { LD_TIPO_TAG_SIZE = 128 + 1 }; /* bytes of a tag, and the NUL */

/*
 * The kind of a trimmed tag of 1 to 128 bytes, and in `name` the tag as TIPO knows it: the list's
 * own name for an alias, a rating without `rating:`, else the tag in lower case with blanks for
 * underscores (those of fewer than four characters keep them: ^_^). `tags` may be NULL: then
 * nobody is an artist or a character. Letter case does not count, and a blank is an underscore.
 */
enum ld_tag_kind ld_tag_kind_of(const struct ld_tags *tags, struct ld_span tag,
                                char name[LD_TIPO_TAG_SIZE]);

/* One byte in the form in which tags are compared: lower case (ASCII), blanks for underscores. */
static inline char ld_tag_folded(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c == '_' ? ' ' : c;
}

#ifdef __cplusplus
}
#endif
#endif
