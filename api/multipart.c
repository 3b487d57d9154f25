#include "api/multipart.h"

#include "config/limits.h"

/* ---- Small readers --------------------------------------------------------------------------- */

static uint8_t lower(uint8_t c)
{
    return c >= 'A' && c <= 'Z' ? (uint8_t)(c - 'A' + 'a') : c;
}

static bool starts_with(struct ld_span text, const char *word)
{
    const size_t size = strlen(word);
    for (size_t i = 0; i < size; i++)
        if (i >= text.size || lower(text.data[i]) != (uint8_t)word[i])
            return false;
    return true;
}

static struct ld_span skip(struct ld_span text, size_t count)
{
    return ld_span_of(text.data + count, text.size - count);
}

/* RFC 2046 5.1.1: bchars, the blank only inside. */
static bool is_boundary_byte(uint8_t c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           (c != '\0' && strchr("'()+_,-./:=?", c) != NULL);
}

/* The value of `; name=value` in a header, quotes removed; false if it is absent or malformed.
 * Escapes inside quotes are refused: no client in use sends them here. */
static bool parameter(struct ld_span header, const char *name, struct ld_span *value)
{
    while (header.size > 0) {
        const uint8_t *semicolon = memchr(header.data, ';', header.size);
        if (!semicolon)
            return false;
        header = ld_span_trimmed(skip(header, (size_t)(semicolon - header.data) + 1));
        const size_t size = strlen(name);
        if (!starts_with(header, name) || header.size <= size || header.data[size] != '=') {
            /* A quoted value may hold ';', so step over it. */
            const uint8_t *equals = header.size ? memchr(header.data, '=', header.size) : NULL;
            const uint8_t *next = header.size ? memchr(header.data, ';', header.size) : NULL;
            if (equals && (!next || equals < next)) {
                header = skip(header, (size_t)(equals - header.data) + 1);
                const uint8_t *close = header.size > 1 && header.data[0] == '"'
                                           ? memchr(header.data + 1, '"', header.size - 1)
                                           : NULL;
                if (close)
                    header = skip(header, (size_t)(close - header.data) + 1);
            }
            continue;
        }
        header = skip(header, size + 1);
        if (header.size > 0 && header.data[0] == '"') {
            const uint8_t *close = memchr(header.data + 1, '"', header.size - 1);
            if (!close || memchr(header.data, '\\', (size_t)(close - header.data)))
                return false;
            *value = ld_span_of(header.data + 1, (size_t)(close - header.data) - 1);
            return true;
        }
        const uint8_t *end = header.size ? memchr(header.data, ';', header.size) : NULL;
        *value = ld_span_trimmed(
            ld_span_of(header.data, end ? (size_t)(end - header.data) : header.size));
        return value->size > 0;
    }
    return false;
}

/* ---- Reader ---------------------------------------------------------------------------------- */

enum ld_code ld_multipart_open(struct ld_multipart *reader, const char *content_type,
                               struct ld_span body, struct ld_error *err)
{
    struct ld_span boundary;
    memset(reader, 0, sizeof *reader);
    reader->parts_max = LD_MULTIPART_PARTS_MAX;
    const struct ld_span header = ld_span_trimmed(ld_span_text(content_type));
    if (!starts_with(header, "multipart/form-data"))
        return LD_FAIL(err, LD_E_UNSUPPORTED, "the body must be multipart/form-data");
    if (!parameter(header, "boundary", &boundary) || boundary.size > LD_MULTIPART_BOUNDARY_MAX ||
        boundary.size == 0)
        return LD_FAIL(err, LD_E_FORMAT, "multipart/form-data needs a boundary of 1 to %d bytes",
                       LD_MULTIPART_BOUNDARY_MAX);
    for (size_t i = 0; i < boundary.size; i++)
        if (!is_boundary_byte(boundary.data[i]))
            return LD_FAIL(err, LD_E_FORMAT, "the boundary of multipart/form-data is malformed");
    memcpy(reader->delimiter, "\r\n--", 4);
    memcpy(reader->delimiter + 4, boundary.data, boundary.size);
    reader->delimiter_size = boundary.size + 4;
    reader->body = body;
    /* The first delimiter has no line break before it; a preamble is refused. */
    const size_t first = reader->delimiter_size - 2;
    if (body.size < first || memcmp(body.data, reader->delimiter + 2, first) != 0)
        return LD_FAIL(err, LD_E_FORMAT, "the multipart body must begin with its boundary");
    reader->pos = first;
    return LD_OK;
}

/* Headers up to and with the empty line; `size` is where the data begins. */
static enum ld_code read_headers(struct ld_span rest, struct ld_multipart_part *part, size_t *size,
                                 struct ld_error *err)
{
    const size_t window =
        rest.size < LD_MULTIPART_HEADER_BYTES_MAX ? rest.size : LD_MULTIPART_HEADER_BYTES_MAX;
    size_t pos = 0;
    bool named = false;
    for (;;) {
        const uint8_t *end = memmem(rest.data + pos, window - pos, "\r\n", 2);
        if (!end)
            return window < rest.size ? LD_FAIL(err, LD_E_TOO_LARGE,
                                                "the headers of a part must have at most %d "
                                                "bytes",
                                                LD_MULTIPART_HEADER_BYTES_MAX)
                                      : LD_FAIL(err, LD_E_FORMAT, "a part has no end of headers");
        const size_t line_size = (size_t)(end - (rest.data + pos));
        const struct ld_span line = ld_span_of(rest.data + pos, line_size);
        pos += line_size + 2;
        if (line_size == 0)
            break;
        if (starts_with(line, "content-disposition:")) {
            named = parameter(line, "name", &part->name);
            if (!parameter(line, "filename", &part->file_name))
                part->file_name = ld_span_of("", 0);
        } else if (starts_with(line, "content-type:")) {
            part->content_type = ld_span_trimmed(skip(line, strlen("content-type:")));
        } else if (starts_with(line, "content-transfer-encoding:") &&
                   !starts_with(ld_span_trimmed(skip(line, strlen("content-transfer-encoding:"))),
                                "binary")) {
            return LD_FAIL(err, LD_E_FORMAT, "a part must not be encoded"); /* RFC 7578 4.7 */
        }
    }
    *size = pos;
    return named ? LD_OK : LD_FAIL(err, LD_E_FORMAT, "a part has no name");
}

enum ld_code ld_multipart_next(struct ld_multipart *reader, struct ld_multipart_part *part,
                               struct ld_error *err)
{
    memset(part, 0, sizeof *part);
    part->name = part->file_name = part->content_type = part->data = ld_span_of("", 0);
    if (reader->done)
        return LD_OK;
    struct ld_span rest = skip(reader->body, reader->pos);
    if (rest.size >= 2 && memcmp(rest.data, "--", 2) == 0) {
        reader->done = true; /* an epilogue is ignored, as RFC 2046 asks */
        return LD_OK;
    }
    if (rest.size < 2 || memcmp(rest.data, "\r\n", 2) != 0)
        return LD_FAIL(err, LD_E_FORMAT, "a multipart boundary is not followed by a line break");
    if (reader->parts == reader->parts_max)
        return LD_FAIL(err, LD_E_TOO_LARGE, "a multipart body must have at most %u parts",
                       reader->parts_max);
    rest = skip(rest, 2);
    size_t headers = 0;
    const enum ld_code code = read_headers(rest, part, &headers, err);
    if (code != LD_OK)
        return code;
    /* The delimiter's line break may be the one that ended the headers: an empty part. */
    const struct ld_span data = skip(rest, headers);
    const uint8_t *end =
        memmem(data.data - 2, data.size + 2, reader->delimiter, reader->delimiter_size);
    if (!end)
        return LD_FAIL(err, LD_E_FORMAT, "the closing boundary is missing");
    part->data = end < data.data ? ld_span_of(data.data, 0)
                                 : ld_span_of(data.data, (size_t)(end - data.data));
    part->found = true;
    reader->parts++;
    reader->pos = (size_t)(end - reader->body.data) + reader->delimiter_size;
    return LD_OK;
}
