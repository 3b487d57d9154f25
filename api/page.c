#include "api/page.h"

#include "config/embedded.h"

const char ld_page_policy[] =
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'";

static const char *content_type(const char *name)
{
    static const struct {
        const char *ending, *type;
    } types[] = {
        {".html", "text/html; charset=utf-8"},
        {".css", "text/css; charset=utf-8"},
        {".js", "text/javascript; charset=utf-8"},
        {".svg", "image/svg+xml"},
    };
    const size_t size = strlen(name);
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        const size_t ending = strlen(types[i].ending);
        if (size > ending && strcmp(name + size - ending, types[i].ending) == 0)
            return types[i].type;
    }
    return "application/octet-stream";
}

bool ld_page_file_find(const char *name, struct ld_page_file *out)
{
    for (uint32_t i = 0; i < ld_embedded_page_count; i++) {
        const struct ld_embedded *file = &ld_embedded_page[i];
        if (strcmp(file->name, name) != 0)
            continue;
        out->bytes = ld_span_of(file->data, file->size);
        out->content_type = content_type(file->name);
        return true;
    }
    return false;
}
