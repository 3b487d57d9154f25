/*
 * Proves that the guard gives a verdict on any method, target and header list, and that what it lets
 * pass cannot mean two things: one host, one way to tell the body's length, a path without dots or
 * hidden characters. What passes is also given to the router. Input: lines, the first of them
 * "METHOD TARGET VERSION", the others "name:value".
 */
#include "server/http_guard.h"
#include "server/router.h"

#include "config/limits.h"

#include <stdlib.h>
#include <strings.h>

static void require(bool condition)
{
    if (!condition)
        abort();
}

static struct ld_span take_until(struct ld_span *rest, char end)
{
    size_t size = 0;
    while (size < rest->size && rest->data[size] != (uint8_t)end)
        size++;
    const struct ld_span taken = ld_span_of(rest->data, size);
    const size_t skip = size < rest->size ? size + 1 : size;
    *rest = ld_span_of(rest->data + skip, rest->size - skip);
    return taken;
}

static uint32_t count_named(const struct ld_guard_request *request, const char *name)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < request->header_count; i++) {
        const struct ld_span given = request->headers[i].name;
        count += given.size == strlen(name) &&
                         strncasecmp((const char *)given.data, name, given.size) == 0
                     ? 1
                     : 0;
    }
    return count;
}

static void check_passed(const struct ld_guard_request *request,
                         const struct ld_guard_verdict *verdict)
{
    static const struct ld_route routes[] = {
        {"GET", "/v1/jobs/{id}", LD_SCOPE_READ, LD_BODY_NONE, false, NULL},
        {"GET", "/v1/jobs/{id}/images/{n}", LD_SCOPE_READ, LD_BODY_NONE, false, NULL},
        {"POST", "/v1/jobs", LD_SCOPE_READ, LD_BODY_NONE, false, NULL},
        {"GET", "/", LD_SCOPE_OPEN, LD_BODY_NONE, false, NULL},
    };
    struct ld_route_match match;
    char method[16];
    char path[LD_TARGET_BYTES_MAX + 1];
    require(count_named(request, "Host") == 1 && verdict->host.size > 0);
    require(count_named(request, "Content-Length") <= 1);
    require(!(verdict->has_length && verdict->chunked));
    require(count_named(request, "Transfer-Encoding") == (verdict->chunked ? 1U : 0U));
    require(request->target.size <= LD_TARGET_BYTES_MAX && request->target.data[0] == '/');
    require(request->header_count <= LD_HEADER_COUNT_MAX);
    memcpy(path, request->target.data, request->target.size);
    path[request->target.size] = '\0';
    require(strlen(path) == request->target.size);
    path[strcspn(path, "?")] = '\0';
    require(!strstr(path, "/../") && !strstr(path, "//") && !strchr(path, '\\'));
    require(request->method.size < sizeof method);
    memcpy(method, request->method.data, request->method.size);
    method[request->method.size] = '\0';
    ld_route_find(routes, 4, method, path, &match);
    for (uint32_t i = 0; i < match.param_count; i++)
        require(!strchr(match.params[i], '/') && !strchr(match.params[i], '%'));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct ld_guard_header headers[LD_HEADER_COUNT_MAX + 8];
    struct ld_span rest = ld_span_of(data, size);
    struct ld_span line = take_until(&rest, '\n');
    struct ld_guard_request request = {.headers = headers};
    struct ld_guard_verdict verdict;
    request.method = take_until(&line, ' ');
    request.target = take_until(&line, ' ');
    request.version = line;
    while (rest.size > 0 && request.header_count < LD_HEADER_COUNT_MAX + 8) {
        line = take_until(&rest, '\n');
        headers[request.header_count].name = take_until(&line, ':');
        headers[request.header_count].value = line;
        request.header_count++;
    }
    ld_guard_check(&request, &verdict);
    require(verdict.status == 0 || (verdict.status >= 400 && verdict.sentence != NULL));
    if (verdict.status == 0)
        check_passed(&request, &verdict);
    (void)ld_guard_host_is_loopback(request.target);
    (void)ld_guard_origin_allowed(request.target, verdict.host, "https://a.example, null");
    return 0;
}
