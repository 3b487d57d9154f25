/*
 * The web page at "/": plain HTML, CSS and ES modules that are part of the program (api/page).
 *
 *     struct ld_page_file file;
 *     if (ld_page_file_find("main.js", &file)) ...
 */
#ifndef LD_API_PAGE_H
#define LD_API_PAGE_H

#include "runtime/base/bytes.h"

struct ld_page_file {
    struct ld_span bytes; /* static */
    const char *content_type;
};

/* By its file name; false if the page has no such file. */
bool ld_page_file_find(const char *name, struct ld_page_file *out);

/*
 * What a browser may do with the page: run its own modules, talk to its own server, show pictures
 * from there and from memory (previews, and pictures fetched with a key). No inline script or
 * style, no third party, no form post, no frame, and no text that becomes markup (Trusted Types).
 */
extern const char ld_page_policy[];

#endif
