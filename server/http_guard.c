#include "server/http_guard.h"

#include "config/limits.h"

#include <strings.h>

static void refuse(struct ld_guard_verdict *verdict, int status, const char *sentence)
{
    if (verdict->status == 0) {
        verdict->status = status;
        verdict->sentence = sentence;
    }
}

static bool name_is(struct ld_span name, const char *text)
{
    return name.size == strlen(text) && strncasecmp((const char *)name.data, text, name.size) == 0;
}

/* ---- Characters ------------------------------------------------------------------------------ */

/* tchar of RFC 9110 5.6.2. */
static bool is_token(struct ld_span text)
{
    static const char others[] = "!#$%&'*+-.^_`|~";
    for (size_t i = 0; i < text.size; i++) {
        const uint8_t c = text.data[i];
        const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        const bool digit = c >= '0' && c <= '9';
        if (!letter && !digit && (c == 0 || !strchr(others, c)))
            return false;
    }
    return text.size > 0;
}

/* No control characters but a tab; bytes above 0x7F are opaque. */
static bool is_value(struct ld_span text)
{
    for (size_t i = 0; i < text.size; i++) {
        if ((text.data[i] < 0x20 && text.data[i] != '\t') || text.data[i] == 0x7F)
            return false;
    }
    return true;
}

/* The byte of an escape at `i`, or -1. */
static int escape_at(struct ld_span text, size_t i)
{
    if (text.data[i] != '%' || i + 2 >= text.size)
        return -1;
    const int high = ld_hex_digit(text.data[i + 1]);
    const int low = ld_hex_digit(text.data[i + 2]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

/* ---- The target ------------------------------------------------------------------------------ */

static size_t path_size(struct ld_span target)
{
    size_t size = 0;
    while (size < target.size && target.data[size] != '?')
        size++;
    return size;
}

/* Visible ASCII and well-formed escapes; none in the path for a character that changes what the
 * path means. */
static bool characters_ok(struct ld_span target)
{
    const size_t path = path_size(target);
    for (size_t i = 0; i < target.size; i++) {
        const uint8_t c = target.data[i];
        if (c <= 0x20 || c >= 0x7F || c == '#' || c == '\\')
            return false;
        if (c != '%')
            continue;
        const int byte = escape_at(target, i);
        if (byte <= 0 || byte == 0x7F || (byte < 0x20 && i < path))
            return false;
        if (i < path && (byte == '/' || byte == '\\' || byte == '.'))
            return false;
    }
    return true;
}

/* No "." or ".." segment and none that is empty, but for a single slash at the end. */
static bool segments_ok(struct ld_span target)
{
    const size_t path = path_size(target);
    for (size_t start = 1; start < path;) {
        size_t end = start;
        while (end < path && target.data[end] != '/')
            end++;
        const struct ld_span segment = ld_span_of(target.data + start, end - start);
        if (segment.size == 0 || ld_span_is(segment, ".") || ld_span_is(segment, ".."))
            return false;
        start = end + 1;
    }
    return true;
}

static void check_target(struct ld_span target, struct ld_guard_verdict *verdict)
{
    if (target.size > LD_TARGET_BYTES_MAX)
        refuse(verdict, 414, "the request target is longer than 2048 bytes");
    else if (target.size == 0 || target.data[0] != '/')
        refuse(verdict, 400, "the request target must be a path");
    else if (!characters_ok(target) || !segments_ok(target))
        refuse(verdict, 400, "the request target is malformed");
}

/* ---- Headers --------------------------------------------------------------------------------- */

static void check_length(struct ld_span value, struct ld_guard_verdict *verdict)
{
    if (verdict->has_length)
        refuse(verdict, 400, "Content-Length occurs more than once");
    verdict->has_length = true;
    if (!ld_parse_u64(value, &verdict->length))
        refuse(verdict, 400, "Content-Length is not a number");
}

static void check_encoding(struct ld_span value, struct ld_guard_verdict *verdict)
{
    if (verdict->chunked || !name_is(value, "chunked"))
        refuse(verdict, 400, "Transfer-Encoding must be chunked, once");
    verdict->chunked = true;
}

/* Letters, digits, "-", ".", "_", and brackets and colons for addresses and ports. */
static bool is_host(struct ld_span host)
{
    for (size_t i = 0; i < host.size; i++) {
        const uint8_t c = host.data[i];
        const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        const bool digit = c >= '0' && c <= '9';
        if (!letter && !digit && (c == 0 || !strchr("-._[]:", c)))
            return false;
    }
    return host.size > 0 && host.size <= 255;
}

static void check_headers(const struct ld_guard_request *request, struct ld_guard_verdict *verdict)
{
    size_t bytes = 0;
    uint32_t hosts = 0;
    if (request->header_count > LD_HEADER_COUNT_MAX)
        refuse(verdict, 431, "there are more than 64 headers");
    for (uint32_t i = 0; i < request->header_count && verdict->status == 0; i++) {
        const struct ld_guard_header *header = &request->headers[i];
        bytes += header->name.size + header->value.size + 4; /* ": " and the line end */
        if (bytes > LD_HEADER_BLOCK_BYTES_MAX)
            refuse(verdict, 431, "the headers are longer than 16384 bytes");
        else if (!is_token(header->name))
            refuse(verdict, 400, "a header's name is malformed");
        else if (!is_value(header->value))
            refuse(verdict, 400, "a header's value holds a control character");
        else if (name_is(header->name, "Content-Length"))
            check_length(header->value, verdict);
        else if (name_is(header->name, "Transfer-Encoding"))
            check_encoding(header->value, verdict);
        else if (name_is(header->name, "Host")) {
            hosts++;
            verdict->host = header->value;
        }
    }
    if (verdict->has_length && verdict->chunked)
        refuse(verdict, 400, "Content-Length and Transfer-Encoding exclude each other");
    if (hosts != 1 || !is_host(verdict->host))
        refuse(verdict, 400, "there must be exactly one Host");
}

void ld_guard_check(const struct ld_guard_request *request, struct ld_guard_verdict *verdict)
{
    static const char *const methods[] = {"GET",    "HEAD",    "POST", "PUT",
                                          "DELETE", "OPTIONS", "PATCH"};
    memset(verdict, 0, sizeof *verdict);
    verdict->host = ld_span_text("");
    const bool http_1_0 = ld_span_is(request->version, "HTTP/1.0");
    if (!http_1_0 && !ld_span_is(request->version, "HTTP/1.1"))
        refuse(verdict, 505, "only HTTP/1.0 and HTTP/1.1 are spoken here");
    bool known = false;
    for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++)
        known = known || ld_span_is(request->method, methods[i]);
    if (!known)
        refuse(verdict, 501, "this method is not implemented");
    check_target(request->target, verdict);
    check_headers(request, verdict);
    if (http_1_0 && verdict->chunked)
        refuse(verdict, 400, "HTTP/1.0 knows no Transfer-Encoding");
}

/* ---- Who is meant, and from where ------------------------------------------------------------ */

/* Without ":port"; brackets of an IPv6 address stay. */
static struct ld_span host_name(struct ld_span host)
{
    for (size_t i = host.size; i > 0; i--) {
        if (host.data[i - 1] == ']')
            return host;
        if (host.data[i - 1] == ':')
            return ld_span_of(host.data, i - 1);
    }
    return host;
}

bool ld_guard_host_is_loopback(struct ld_span host)
{
    const struct ld_span name = host_name(host);
    if (name_is(name, "localhost") || ld_span_is(name, "[::1]"))
        return true;
    if (name.size < 9 || memcmp(name.data, "127.", 4) != 0)
        return false;
    uint32_t dots = 0;
    for (size_t i = 0; i < name.size; i++) { /* "127.0.0.1.example.org" is not an address */
        dots += name.data[i] == '.' ? 1 : 0;
        if (name.data[i] != '.' && (name.data[i] < '0' || name.data[i] > '9'))
            return false;
    }
    return dots == 3;
}

bool ld_guard_origin_allowed(struct ld_span origin, struct ld_span host, const char *allowed)
{
    static const char *const schemes[] = {"http://", "https://"};
    for (size_t i = 0; i < 2; i++) {
        const size_t size = strlen(schemes[i]);
        if (origin.size > size && memcmp(origin.data, schemes[i], size) == 0 &&
            origin.size - size == host.size &&
            strncasecmp((const char *)origin.data + size, (const char *)host.data, host.size) == 0)
            return true;
    }
    for (const char *at = allowed; *at;) {
        at += strspn(at, " \t,");
        const size_t size = strcspn(at, " \t,");
        if (size > 0 && ld_span_equal(origin, ld_span_of(at, size)))
            return true;
        at += size;
    }
    return false;
}
