#include "runtime/text/wildcard_lists.h"

#include "runtime/text/unicode.h"
#include "runtime/text/wildcard_scan.h"

#include <stdlib.h>

bool ld_wildcard_matches(const char *pattern, const char *name)
{
    const char *star = NULL;   /* after the last `*` seen */
    const char *resume = NULL; /* where its text may still end */
    while (*name) {
        if (*pattern == '*') {
            star = ++pattern;
            resume = name;
        } else if (*pattern == *name) {
            pattern++;
            name++;
        } else if (star) {
            pattern = star;
            name = ++resume;
        } else {
            return false;
        }
    }
    while (*pattern == '*')
        pattern++;
    return *pattern == '\0';
}

static int by_bytes(const void *a, const void *b)
{
    const struct ld_span *x = a;
    const struct ld_span *y = b;
    const size_t common = x->size < y->size ? x->size : y->size;
    const int order = common ? memcmp(x->data, y->data, common) : 0;
    return order ? order : (x->size > y->size) - (x->size < y->size);
}

/* Lines of `text` as sorted values; comments are gone already. */
static bool split_values(struct ld_arena *arena, struct ld_span text, struct ld_wildcard_list *list)
{
    size_t lines = 1;
    for (size_t i = 0; i < text.size; i++)
        lines += text.data[i] == '\n';
    list->values = ld_arena_calloc(arena, lines, sizeof *list->values);
    if (!list->values)
        return false;
    for (size_t pos = 0; pos < text.size;) {
        const uint8_t *end = memchr(text.data + pos, '\n', text.size - pos);
        const size_t size = end ? (size_t)(end - text.data) - pos : text.size - pos;
        const struct ld_span line = ld_text_trim(ld_span_of(text.data + pos, size));
        if (line.size > 0)
            list->values[list->count++] = line;
        pos += size + 1;
    }
    if (list->count > 1)
        qsort(list->values, list->count, sizeof *list->values, by_bytes);
    uint32_t kept = 0;
    for (uint32_t i = 0; i < list->count; i++)
        if (kept == 0 || !ld_span_equal(list->values[kept - 1], list->values[i]))
            list->values[kept++] = list->values[i];
    list->count = kept;
    return true;
}

/* What could climb out of a folder is no name of a list, whatever the source would make of it. */
static bool is_safe(const char *pattern)
{
    return pattern[0] != '/' && !strstr(pattern, "..");
}

static enum ld_code load(struct ld_wildcard_lists *lists, struct ld_wildcard_list *list,
                         struct ld_error *err)
{
    struct ld_buffer text = ld_buffer_make(LD_WILDCARD_LIST_BYTES);
    enum ld_code code = LD_OK;
    if (lists->source && is_safe(list->pattern))
        code = lists->source->read(lists->source->ctx, list->pattern, &text, err);
    if (code != LD_OK)
        goto done;
    lists->bytes += text.size;
    if (text.failed || lists->bytes > LD_WILDCARD_LISTS_BYTES) {
        code = LD_FAIL(err, LD_E_TOO_LARGE, "the wildcard lists of the prompt are too large");
        goto done;
    }
    size_t size;
    const char *copy = ld_wildcard_strip(lists->arena, ld_span_of(text.data, text.size), &size);
    if (!copy || !split_values(lists->arena, ld_span_of(copy, size), list))
        code = LD_FAIL(err, LD_E_NOMEM, "out of memory while reading wildcards");
done:
    ld_buffer_deinit(&text);
    return code;
}

enum ld_code ld_wildcard_lists_get(struct ld_wildcard_lists *lists, struct ld_span name,
                                   const struct ld_wildcard_list **out, struct ld_error *err)
{
    for (struct ld_wildcard_list *list = lists->first; list; list = list->next) {
        if (ld_span_is(name, list->pattern)) {
            *out = list;
            return LD_OK;
        }
    }
    struct ld_wildcard_list *list = ld_arena_alloc(lists->arena, sizeof *list);
    if (!list ||
        !(list->pattern = ld_arena_strndup(lists->arena, (const char *)name.data, name.size)))
        return LD_FAIL(err, LD_E_NOMEM, "out of memory while reading wildcards");
    const enum ld_code code = load(lists, list, err);
    if (code != LD_OK)
        return code;
    list->next = lists->first;
    lists->first = list;
    *out = list;
    return LD_OK;
}
