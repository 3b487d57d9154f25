/*
 * A bounded reader of multipart/form-data (RFC 7578) over a complete body: at most 4 parts, headers
 * of at most 1 KiB a part, nothing is copied. Preamble and nesting are refused.
 *
 *     ld_multipart_open(&reader, content_type, body, &err);
 *     while (ld_multipart_next(&reader, &part, &err) == LD_OK && part.found) ...
 */
#ifndef LD_API_MULTIPART_H
#define LD_API_MULTIPART_H

#include "runtime/base/bytes.h"

enum { LD_MULTIPART_BOUNDARY_MAX = 70 }; /* RFC 2046 5.1.1 */

/* Borrowed from the body. */
struct ld_multipart_part {
    bool found;                  /* false: the closing boundary was reached */
    struct ld_span name;         /* of the form field, quotes removed */
    struct ld_span file_name;    /* "" if absent; never used as a path */
    struct ld_span content_type; /* "" if absent */
    struct ld_span data;
};

struct ld_multipart {
    struct ld_span body;
    size_t pos;
    uint32_t parts;
    uint32_t parts_max; /* LD_MULTIPART_PARTS_MAX by ld_multipart_open; a form may set more */
    bool done;
    char delimiter[LD_MULTIPART_BOUNDARY_MAX + 5]; /* CR LF "--" boundary */
    size_t delimiter_size;
};

/* Errors: LD_E_UNSUPPORTED (not multipart/form-data), LD_E_FORMAT (boundary missing or malformed,
 * or the body does not begin with it). */
enum ld_code ld_multipart_open(struct ld_multipart *reader, const char *content_type,
                               struct ld_span body, struct ld_error *err) LD_MUST_USE;

/* Errors: LD_E_FORMAT, LD_E_TOO_LARGE (fifth part, long headers). */
enum ld_code ld_multipart_next(struct ld_multipart *reader, struct ld_multipart_part *part,
                               struct ld_error *err) LD_MUST_USE;

#endif
