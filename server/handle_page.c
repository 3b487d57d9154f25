/* The page at /, its files, and how long a browser may keep them. */
#include "server/handlers.h"

#include "api/page.h"
#include "runtime/base/id.h"

/* A file of the program changes with the program only, but its URL does not: the browser keeps it
 * and asks each time whether it is still the same. */
static enum ld_handled reply_file(struct ld_exchange *ex, const char *name)
{
    enum { QUOTED_HASH = LD_SHA256_HEX_SIZE + 2 };
    struct ld_page_file file;
    if (!ld_page_file_find(name, &file))
        return ld_exchange_refuse(ex, LD_E_NOT_FOUND, 0, "there is nothing at this path");
    char hash[LD_SHA256_HEX_SIZE];
    char *tag = ld_arena_alloc(&ex->arena, QUOTED_HASH);
    ld_sha256_hex(file.bytes, hash);
    if (!tag || !ld_fmt(tag, QUOTED_HASH, "\"%s\"", hash))
        return ld_exchange_refuse(ex, LD_E_NOMEM, 0, "out of memory");
    const char *known = ld_exchange_header(ex, "If-None-Match");
    const bool unchanged = known && strstr(known, tag);
    if (unchanged)
        (void)ld_exchange_empty(ex, 304);
    else
        ld_buffer_bytes(&ex->reply.body, file.bytes.data, file.bytes.size);
    if (!unchanged && ld_exchange_json(ex, 200) == LD_HANDLED && ex->reply.status == 200)
        ex->reply.content_type = file.content_type;
    ld_exchange_set_header(ex, "ETag", tag);
    ld_exchange_set_header(ex, "Cache-Control", "no-cache");
    ld_exchange_set_header(ex, "Content-Security-Policy", ld_page_policy);
    ld_exchange_set_header(ex, "Referrer-Policy", "no-referrer");
    return LD_HANDLED;
}

enum ld_handled ld_handle_page(struct ld_exchange *ex)
{
    return reply_file(ex, "index.html");
}

enum ld_handled ld_handle_page_file(struct ld_exchange *ex)
{
    return reply_file(ex, ex->params[0]);
}
