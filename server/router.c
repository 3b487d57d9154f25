#include "server/router.h"

#include "runtime/base/id.h"

enum { SEGMENTS_MAX = 8 };

static bool is_number(const char *text, size_t size)
{
    if (size == 0 || size > 4 || (size > 1 && text[0] == '0'))
        return false;
    for (size_t i = 0; i < size; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
    }
    return true;
}

/* A word of another program's names ("KSampler", a UUID): letters, digits and a little more, none
 * of which needs an escape. */
static bool is_name(const char *text, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        const char c = text[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
              c == '_' || c == '-' || (c == '.' && i > 0)))
            return false;
    }
    return size > 0;
}

/* One segment of the path against one of the pattern. Literal segments and parameters hold no
 * character that needs an escape, so an escaped one never matches: there is one spelling. */
static bool segment_matches(const char *pattern, size_t pattern_size, const char *segment,
                            size_t segment_size, struct ld_route_match *match)
{
    if (pattern_size < 2 || pattern[0] != '{')
        return pattern_size == segment_size && memcmp(pattern, segment, segment_size) == 0;
    const bool wants_id = strncmp(pattern, "{id}", 4) == 0;
    const bool wants_name = strncmp(pattern, "{name}", 6) == 0;
    const bool wants_model = strncmp(pattern, "{model}", 7) == 0; /* its handler decodes it */
    const bool fits = wants_id      ? ld_id_valid(ld_span_of(segment, segment_size))
                      : wants_name  ? is_name(segment, segment_size)
                      : wants_model ? segment_size > 0
                                    : is_number(segment, segment_size);
    if (!fits || match->param_count == LD_EXCHANGE_PARAMS_MAX ||
        segment_size >= sizeof match->params[0])
        return false;
    char *param = match->params[match->param_count++];
    memcpy(param, segment, segment_size);
    param[segment_size] = '\0';
    return true;
}

static bool path_matches(const char *pattern, const char *path, struct ld_route_match *match)
{
    match->param_count = 0;
    for (int i = 0; i < SEGMENTS_MAX; i++) {
        if (*pattern != '/' || *path != '/')
            return false;
        pattern++;
        path++;
        const size_t pattern_size = strcspn(pattern, "/");
        const size_t segment_size = strcspn(path, "/");
        if (!segment_matches(pattern, pattern_size, path, segment_size, match))
            return false;
        pattern += pattern_size;
        path += segment_size;
        if (!*pattern && !*path)
            return true;
    }
    return false;
}

static void add_allowed(struct ld_route_match *match, const char *method)
{
    const size_t used = strlen(match->allow);
    (void)ld_fmt(match->allow + used, sizeof match->allow - used, "%s%s", used ? ", " : "", method);
}

void ld_route_find(const struct ld_route *routes, uint32_t count, const char *method,
                   const char *path, struct ld_route_match *match)
{
    const char *wanted = strcmp(method, "HEAD") == 0 ? "GET" : method;
    memset(match, 0, sizeof *match);
    for (uint32_t i = 0; i < count; i++) {
        if (!path_matches(routes[i].pattern, path, match))
            continue;
        if (strcmp(routes[i].method, wanted) == 0) {
            match->route = &routes[i];
            return;
        }
        match->path_known = true;
        add_allowed(match, routes[i].method);
        if (strcmp(routes[i].method, "GET") == 0)
            add_allowed(match, "HEAD");
    }
    match->param_count = 0;
}
