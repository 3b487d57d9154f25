/*
 * Proves that a URL which the webhook check lets pass is called where the check thinks: curl's own
 * parser, which makes the call, finds the same scheme, host and port in it and no user. And the
 * verdict over an address agrees with an oracle that spells the refused ranges out as prefixes.
 * Input: the URL; its first 16 bytes are also taken as an address.
 */
#include "server/webhook_url.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <strings.h>

static void require(bool condition)
{
    if (!condition)
        abort();
}

/* ---- The URL --------------------------------------------------------------------------------- */

static bool part_is(CURLU *curl, CURLUPart part, unsigned flags, const char *expected)
{
    char *found = NULL;
    const bool same =
        curl_url_get(curl, part, &found, flags) == CURLUE_OK && strcasecmp(found, expected) == 0;
    curl_free(found);
    return same;
}

static void check_url(struct ld_span text)
{
    struct ld_webhook_url url;
    char copy[LD_WEBHOOK_URL_BYTES_MAX + 1];
    char port[8];
    if (ld_webhook_url_parse(&url, text, NULL) != LD_OK)
        return;
    require(text.size <= LD_WEBHOOK_URL_BYTES_MAX && strlen(url.host) > 0 && url.port > 0);
    memcpy(copy, text.data, text.size);
    copy[text.size] = '\0';
    require(strlen(copy) == text.size && ld_fmt(port, sizeof port, "%u", (unsigned)url.port));
    CURLU *curl = curl_url();
    char *user = NULL;
    require(curl != NULL && curl_url_set(curl, CURLUPART_URL, copy, 0) == CURLUE_OK);
    require(part_is(curl, CURLUPART_SCHEME, 0, "https"));
    require(part_is(curl, CURLUPART_HOST, 0, url.host));
    require(part_is(curl, CURLUPART_PORT, CURLU_DEFAULT_PORT, port));
    require(curl_url_get(curl, CURLUPART_USER, &user, 0) == CURLUE_NO_USER);
    curl_url_cleanup(curl);
    struct in_addr v4; /* the resolver must not take it for an address in any old spelling */
    require(inet_aton(url.host, &v4) == 0);
    require(!ld_webhook_url_is_listed(&url, ""));
    require(ld_webhook_url_is_listed(&url, "a.example, b.example:8443") ==
            ((strcmp(url.host, "a.example") == 0 && url.port == 443) ||
             (strcmp(url.host, "b.example") == 0 && url.port == 8443)));
}

/* ---- The address ----------------------------------------------------------------------------- */

static bool in_prefix(const uint8_t *address, int family, const char *prefix, int bits)
{
    uint8_t net[16];
    require(inet_pton(family, prefix, net) == 1);
    for (int bit = 0; bit < bits; bit++)
        if ((address[bit / 8] ^ net[bit / 8]) >> (7 - bit % 8) & 1)
            return false;
    return true;
}

struct prefix {
    const char *net;
    int bits;
};

static bool oracle_v4(const uint8_t address[4])
{
    static const struct prefix refused[] = {
        {"0.0.0.0", 8},       {"10.0.0.0", 8},      {"100.64.0.0", 10},   {"127.0.0.0", 8},
        {"169.254.0.0", 16},  {"172.16.0.0", 12},   {"192.0.0.0", 24},    {"192.0.2.0", 24},
        {"192.31.196.0", 24}, {"192.52.193.0", 24}, {"192.88.99.0", 24},  {"192.168.0.0", 16},
        {"192.175.48.0", 24}, {"198.18.0.0", 15},   {"198.51.100.0", 24}, {"203.0.113.0", 24},
        {"224.0.0.0", 4},     {"240.0.0.0", 4},
    };
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++)
        if (in_prefix(address, AF_INET, refused[i].net, refused[i].bits))
            return false;
    return true;
}

static bool oracle_v6(const uint8_t address[16])
{
    static const struct prefix refused[] = {
        {"2001::", 23}, {"2001:db8::", 32}, {"2002::", 16}, {"3fff::", 20}};
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++)
        if (in_prefix(address, AF_INET6, refused[i].net, refused[i].bits))
            return false;
    return in_prefix(address, AF_INET6, "2000::", 3);
}

static void check_address(const uint8_t bytes[16])
{
    struct sockaddr_in v4 = {.sin_family = AF_INET};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
    const struct sockaddr none = {.sa_family = AF_UNIX};
    memcpy(&v4.sin_addr, bytes, 4);
    memcpy(&v6.sin6_addr, bytes, 16);
    require(ld_webhook_address_is_public((const struct sockaddr *)&v4) == oracle_v4(bytes));
    require(ld_webhook_address_is_public((const struct sockaddr *)&v6) == oracle_v6(bytes));
    require(!ld_webhook_address_is_public(&none));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    check_url(ld_span_of(data, size));
    if (size >= 16)
        check_address(data);
    return 0;
}
