/*
 * Character references of HTML (`&amp;`, `&#39;`, `&#x1F600;`) as two reference cleaners read them.
 */
#ifndef LD_TEXT_ENTITIES_H
#define LD_TEXT_ENTITIES_H

#include "runtime/text/list.h"

#ifdef __cplusplus
extern "C" {
#endif

enum ld_entities {
    LD_ENTITIES_CLOSED, /* only complete references that end in `;` (profile webui) */
    LD_ENTITIES_HTML    /* as browsers do: `&lt` and `&ltx` too (profile openai) */
};

/*
 * Append `text` with its references replaced to `out`. Knows the 252 names of HTML 4, `apos`, and
 * the upper-case forms HTML 5 kept; other names stay as written.
 * Source   HTML 4.01 section 24; HTML Living Standard 13.2.5.72-84 (numbers, missing semicolon).
 */
void ld_entities_decode(const uint32_t *text, size_t count, enum ld_entities rule,
                        struct ld_list *out);

#ifdef __cplusplus
}
#endif
#endif
