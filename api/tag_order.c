#include "api/tag_order.h"

#include <strings.h>

enum { TAG_SIZE = 64 };

/* ---- Tags of a prompt ------------------------------------------------------------------------ */

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* The weight behind a tag, as in "tag:1.2", is no part of it. */
static size_t without_weight(const char *text, size_t size)
{
    size_t end = size;
    while (end > 0 && (is_digit(text[end - 1]) || text[end - 1] == '.'))
        end--;
    return end > 1 && end < size && text[end - 1] == ':' ? end - 1 : size;
}

/* The next tag, lower case or not, blanks for underscores; false at the end. Tags that are too long
 * are sentences and come out empty. */
static bool next_tag(const char **rest, char tag[TAG_SIZE])
{
    if (!**rest)
        return false;
    size_t size = strcspn(*rest, ",\n");
    const char *begin = *rest;
    *rest += size + ((*rest)[size] ? 1 : 0);
    while (size > 0 && (*begin == ' ' || strchr("({[", *begin))) {
        begin++;
        size--;
    }
    while (size > 0 && (begin[size - 1] == ' ' || strchr(")}]", begin[size - 1])))
        size--;
    size = without_weight(begin, size);
    if (!ld_fmt(tag, TAG_SIZE, "%.*s", (int)size, begin))
        tag[0] = '\0';
    for (char *c = tag; *c; c++)
        *c = *c == '_' ? ' ' : *c;
    return true;
}

/* ---- Classes --------------------------------------------------------------------------------- */

bool ld_tag_is_count(const char *tag)
{
    static const char *const words[] = {"multiple girls", "multiple boys", "multiple others",
                                        "no humans"};
    static const char *const nouns[] = {"girl", "girls", "boy", "boys", "other", "others"};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (strcasecmp(tag, words[i]) == 0)
            return true;
    if (!is_digit(*tag))
        return false;
    while (is_digit(*tag))
        tag++;
    if (*tag == '+')
        tag++;
    for (size_t i = 0; i < sizeof nouns / sizeof nouns[0]; i++)
        if (strcasecmp(tag, nouns[i]) == 0)
            return true;
    return false;
}

/* One of the tags in the model's quality presets; `in_front` tells where that one stands. */
static bool is_quality(const struct ld_manifest *manifest, const char *tag, bool *in_front)
{
    for (uint32_t i = 0; i < manifest->quality_count; i++) {
        char each[TAG_SIZE];
        const char *rest = manifest->quality[i].text;
        while (next_tag(&rest, each)) {
            if (each[0] && strcasecmp(each, tag) == 0) {
                *in_front = manifest->quality[i].in_front;
                return true;
            }
        }
    }
    return false;
}

/* ---- Advice ---------------------------------------------------------------------------------- */

void ld_tag_order_advise(const char *prompt, const struct ld_manifest *manifest,
                         struct ld_warnings *warnings)
{
    char tag[TAG_SIZE];
    char general[TAG_SIZE] = ""; /* the first that is neither count nor quality */
    bool quality_told = false;
    bool count_told = false;
    char behind[TAG_SIZE] = ""; /* a quality tag that wants to be behind the others */
    if (manifest->quality_count == 0)
        return;
    while (next_tag(&prompt, tag)) {
        bool in_front = false;
        const bool quality = tag[0] && is_quality(manifest, tag, &in_front);
        if (!tag[0] || (quality && quality_told))
            continue;
        if (quality && in_front && general[0]) {
            ld_warnings_add(warnings, "tag order: this model wants \"%s\" in front, before \"%s\"",
                            tag, general);
            quality_told = true;
        } else if (quality && !in_front) {
            memcpy(behind, tag, sizeof behind);
        } else if (!quality && behind[0] && !quality_told) {
            ld_warnings_add(warnings, "tag order: this model wants \"%s\" at the end", behind);
            quality_told = true;
        }
        if (ld_tag_is_count(tag) && general[0] && !count_told) {
            ld_warnings_add(warnings,
                            "tag order: this model wants \"%s\" before \"%s\": counts, characters, "
                            "series, then the rest",
                            tag, general);
            count_told = true;
        }
        if (!quality && !ld_tag_is_count(tag) && !general[0])
            memcpy(general, tag, sizeof general);
    }
}
