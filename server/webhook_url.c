#include "server/webhook_url.h"

#include "config/settings.h"

#include <netinet/in.h>

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static char lower(char c)
{
    return (char)(c >= 'A' && c <= 'Z' ? c + 32 : c);
}

/* Letters, digits and inner hyphens in labels of 1 to 63 bytes (RFC 1123 2.1), and the last label
 * no number: what ends in a number is read as an IPv4 address by some (WHATWG URL 3.5). */
static bool host_is_name(const char *host)
{
    const char *last = host;
    size_t label = 0;
    for (const char *c = host; *c; c++) {
        if (*c == '.') {
            if (label == 0 || label > 63 || c[-1] == '-')
                return false;
            label = 0;
            last = c + 1;
        } else if ((*c >= 'a' && *c <= 'z') || is_digit(*c) || (*c == '-' && label > 0)) {
            label++;
        } else {
            return false;
        }
    }
    if (label == 0 || label > 63 || host[strlen(host) - 1] == '-')
        return false;
    if (last[0] == '0' && last[1] == 'x')
        return false;
    for (const char *c = last; *c; c++)
        if (!is_digit(*c))
            return true;
    return false;
}

static bool take_port(struct ld_span text, uint16_t *port)
{
    int64_t value;
    if (text.size == 0 || text.size > 5 || !is_digit((char)text.data[0]) ||
        !ld_parse_i64(text, &value) || value < 1 || value > 65535)
        return false;
    *port = (uint16_t)value;
    return true;
}

enum ld_code ld_webhook_url_parse(struct ld_webhook_url *url, struct ld_span text,
                                  struct ld_error *err)
{
    static const char scheme[] = "https://";
    const size_t start = sizeof scheme - 1;
    size_t at = start;
    memset(url, 0, sizeof *url);
    url->port = 443;
    if (text.size > LD_WEBHOOK_URL_BYTES_MAX)
        return LD_FAIL(err, LD_E_INVALID, "a webhook's URL must have at most %d bytes",
                       LD_WEBHOOK_URL_BYTES_MAX);
    for (size_t i = 0; i < text.size; i++) {
        const char c = (char)text.data[i];
        if (c <= 0x20 || c >= 0x7F || strchr("\\\"<>^`{|}#@", c))
            return LD_FAIL(err, LD_E_INVALID,
                           "a webhook's URL must be visible ASCII without \\ \" < > ^ ` { | } # @");
    }
    if (text.size <= start || memcmp(text.data, scheme, start) != 0)
        return LD_FAIL(err, LD_E_INVALID, "a webhook's URL must begin with https://");
    while (at < text.size && !strchr(":/?", (char)text.data[at]))
        at++;
    const size_t host_size = at - start;
    if (host_size == 0 || host_size >= sizeof url->host)
        return LD_FAIL(err, LD_E_INVALID, "a webhook's URL must name a host");
    for (size_t i = 0; i < host_size; i++)
        url->host[i] = lower((char)text.data[start + i]);
    if (!host_is_name(url->host))
        return LD_FAIL(err, LD_E_INVALID, "a webhook's host must be a name, not an address");
    if (at < text.size && text.data[at] == ':') {
        const size_t port_at = ++at;
        while (at < text.size && !strchr("/?", (char)text.data[at]))
            at++;
        if (!take_port(ld_span_of(text.data + port_at, at - port_at), &url->port))
            return LD_FAIL(err, LD_E_INVALID, "a webhook's port must be between 1 and 65535");
    }
    return LD_OK;
}

bool ld_webhook_url_is_listed(const struct ld_webhook_url *url, const char *hosts)
{
    struct ld_span item;
    size_t pos = 0;
    while (ld_settings_list_next(hosts, &pos, &item)) {
        const uint8_t *colon = memchr(item.data, ':', item.size);
        const size_t size = colon ? (size_t)(colon - item.data) : item.size;
        uint16_t port = 443;
        if (colon && !take_port(ld_span_of(colon + 1, item.size - size - 1), &port))
            continue;
        bool same = port == url->port && strlen(url->host) == size;
        for (size_t i = 0; same && i < size; i++)
            same = lower((char)item.data[i]) == url->host[i];
        if (same)
            return true;
    }
    return false;
}

/* ---- Addresses ------------------------------------------------------------------------------- */

static bool v4_is_public(uint32_t address)
{
    /* IANA's special-purpose registry (RFC 6890, as of 2024), multicast and class E. */
    static const struct {
        uint32_t net;
        int bits;
    } refused[] = {
        {0x00000000, 8},  {0x0A000000, 8},  {0x64400000, 10}, {0x7F000000, 8},  {0xA9FE0000, 16},
        {0xAC100000, 12}, {0xC0000000, 24}, {0xC0000200, 24}, {0xC01FC400, 24}, {0xC034C100, 24},
        {0xC0586300, 24}, {0xC0A80000, 16}, {0xC0AF3000, 24}, {0xC6120000, 15}, {0xC6336400, 24},
        {0xCB007100, 24}, {0xE0000000, 4},  {0xF0000000, 4},
    };
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++)
        if ((address ^ refused[i].net) >> (32 - refused[i].bits) == 0)
            return false;
    return true;
}

/* 2000::/3 is what is given out; within it 2001::/23 (Teredo and other protocols), 2001:db8::/32
 * (documentation), 2002::/16 (6to4, a v4 address inside), 3fff::/20 (documentation). */
static bool v6_is_public(const uint8_t a[16])
{
    if ((a[0] & 0xE0) != 0x20)
        return false;
    if (a[0] == 0x20 && a[1] == 0x01 && ((a[2] & 0xFE) == 0 || (a[2] == 0x0D && a[3] == 0xB8)))
        return false;
    if (a[0] == 0x20 && a[1] == 0x02)
        return false;
    return !(a[0] == 0x3F && a[1] == 0xFF && (a[2] & 0xF0) == 0);
}

bool ld_webhook_address_is_public(const struct sockaddr *address)
{
    if (address->sa_family == AF_INET) {
        struct sockaddr_in v4;
        memcpy(&v4, address, sizeof v4);
        return v4_is_public(ntohl(v4.sin_addr.s_addr));
    }
    if (address->sa_family == AF_INET6) {
        struct sockaddr_in6 v6;
        memcpy(&v6, address, sizeof v6);
        return v6_is_public(v6.sin6_addr.s6_addr);
    }
    return false;
}
