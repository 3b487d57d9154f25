#include "config/ini_text.h"

#include <ini.h>
#include <stdio.h>

struct parse {
    struct ld_span rest;
    int line;
    bool indented; /* the present line begins with a blank, so it continues a value */
    ld_ini_entry entry;
    void *ctx;
    struct ld_error error; /* the first one, .code LD_OK until then */
    int error_line;
};

static void fail(struct parse *parse, const char *what)
{
    if (parse->error.code != LD_OK)
        return;
    LD_FAIL(&parse->error, LD_E_FORMAT, "%s", what);
    parse->error_line = parse->line;
}

/* The reader that libinih wants: like fgets. After an error it says that the text is over. */
static char *read_line(char *out, int out_size, void *stream)
{
    struct parse *parse = stream;
    if (parse->rest.size == 0 || parse->error.code != LD_OK)
        return NULL;
    const uint8_t *end = memchr(parse->rest.data, '\n', parse->rest.size);
    const size_t size = end ? (size_t)(end - parse->rest.data) : parse->rest.size;
    const size_t with_end = size + (end ? 1 : 0);
    parse->line++;
    if (size > LD_INI_LINE_BYTES_MAX || with_end + 1 > (size_t)out_size) {
        fail(parse, "the line is too long; indent a further line to continue a list");
        return NULL;
    }
    memcpy(out, parse->rest.data, with_end);
    out[with_end] = '\0';
    parse->indented = size > 0 && (out[0] == ' ' || out[0] == '\t');
    parse->rest = ld_span_of(parse->rest.data + with_end, parse->rest.size - with_end);
    return out;
}

static int take(void *user, const char *section, const char *key, const char *value)
{
    struct parse *parse = user;
    if (parse->error.code != LD_OK)
        return 0;
    if (parse->entry(parse->ctx, section, key, value, parse->indented, &parse->error) == LD_OK)
        return 1;
    parse->error_line = parse->line;
    return 0;
}

enum ld_code ld_ini_parse(struct ld_span text, ld_ini_entry entry, void *ctx, struct ld_error *err)
{
    struct parse parse = {.rest = text, .entry = entry, .ctx = ctx};
    if (text.size > LD_INI_FILE_BYTES_MAX)
        return LD_FAIL(err, LD_E_TOO_LARGE, "the file must have at most %d bytes",
                       LD_INI_FILE_BYTES_MAX);
    if (text.size > 0 && (memchr(text.data, '\0', text.size) || !ld_utf8_valid(text)))
        return LD_FAIL(err, LD_E_FORMAT, "the file is not UTF-8 text");
    const int bad_line = ini_parse_stream(read_line, &parse, take, &parse);
    if (bad_line > 0 && (parse.error.code == LD_OK || bad_line < parse.error_line))
        return LD_FAIL(err, LD_E_FORMAT, "line %d: neither a [section] nor key = value", bad_line);
    if (bad_line < 0)
        return LD_FAIL(err, LD_E_NOMEM, "out of memory");
    if (parse.error.code != LD_OK)
        return LD_FAIL(err, parse.error.code, "line %d: %.400s", parse.error_line,
                       parse.error.detail);
    return LD_OK;
}
