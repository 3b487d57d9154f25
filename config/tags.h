/*
 * Tag completion: a list of tags with categories, counts and aliases, from a small list of our own
 * and from the CSV files beside the manifests, searched by prefix.
 *
 *     ld_tags_load(&tags, folder, &err);
 *     count = ld_tags_complete(tags, "blue ey", matches, 20);
 *
 * A row is `name,category,count,"alias1,alias2"` in RFC 4180 quoting, without a header: the form
 * that completion lists for booru tags are exchanged in (DominikDoom/a1111-sd-webui-tagcomplete).
 * Categories: 0 general, 1 artist, 3 copyright, 4 character, 5 meta.
 */
#ifndef LD_CONFIG_TAGS_H
#define LD_CONFIG_TAGS_H

#include "runtime/base/arena.h"
#include "runtime/base/bytes.h"

enum {
    LD_TAG_NAME_BYTES_MAX = 255, /* of one name */
    LD_TAG_MATCHES_MAX = 100,
    LD_TAGS_MAX = 1 << 20,
    LD_TAGS_FILE_BYTES_MAX = 32 << 20
};

struct ld_tag {
    const char *name; /* as in the list: with underscores */
    uint8_t category;
    uint32_t count; /* pictures that carry it; 0: unknown */
};

struct ld_tag_match {
    const struct ld_tag *tag;
    const char *alias; /* that was matched; NULL: the name itself */
};

/* Immutable after loading; any number of threads may search. */
struct ld_tags;

/*
 * The own list, then every NAME.tags.csv of `folder` (NULL or "": none) in the order of names; a
 * tag of a later file replaces an equal one before it. Owner    returns owned; ld_tags_destroy.
 * Errors   LD_E_FORMAT (names file and line), LD_E_TOO_LARGE, LD_E_IO, LD_E_NOT_FOUND, LD_E_NOMEM.
 */
enum ld_code ld_tags_load(struct ld_tags **out, const char *folder,
                          struct ld_error *err) LD_MUST_USE;
/* From texts alone; what ld_tags_load does with each file. */
enum ld_code ld_tags_create(struct ld_tags **out, const struct ld_span *texts, uint32_t count,
                            struct ld_error *err) LD_MUST_USE;
void ld_tags_destroy(struct ld_tags *tags);

uint32_t ld_tags_count(const struct ld_tags *tags);

/*
 * Tags of which the name or an alias starts with `prefix`; letter case does not count, and a blank
 * is an underscore. The most frequent come first, equal ones in the order of the list; each tag
 * once. At most `limit` (LD_TAG_MATCHES_MAX) go to `out`; returns how many.
 */
uint32_t ld_tags_complete(const struct ld_tags *tags, const char *prefix, struct ld_tag_match *out,
                          uint32_t limit);

/* The tag of exactly this name, else the most frequent with this alias; letter case does not count,
 * and a blank is an underscore. NULL if there is none. */
const struct ld_tag *ld_tags_find(const struct ld_tags *tags, struct ld_span name);

/* "general", "artist", "copyright", "character", "meta"; "other" for an unknown number. */
const char *ld_tag_category(uint8_t category);

/* The tag as it is written into a prompt: blanks for underscores unless it is an emoticon of fewer
 * than four characters, brackets escaped where `escaped`. False if it does not fit. */
bool ld_tag_text(const char *name, bool escaped, char *out, size_t size);

#endif
