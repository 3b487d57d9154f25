/*
 * Proves where a webhook may go and what it carries: a table of URLs that must be refused however
 * they spell an address, the judgement of addresses at the edges of every range, and a body that
 * is signed, says how the job ended and holds no prompt.
 */
#include "server/webhook.h"
#include "server/webhook_url.h"

#include "runtime/params.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static const char hosts[] = "hooks.example.com, other.example.net:8443";

static bool allowed(const char *text)
{
    struct ld_webhook_url url;
    struct ld_error err = {0};
    return ld_webhook_url_parse(&url, ld_span_text(text), &err) == LD_OK &&
           ld_webhook_url_is_listed(&url, hosts);
}

static void listed_hosts_are_called(void **state)
{
    (void)state;
    static const char *const good[] = {
        "https://hooks.example.com",
        "https://hooks.example.com/",
        "https://hooks.example.com:443/a/b?c=d%20e&f",
        "https://HOOKS.Example.COM/x",
        "https://hooks.example.com?x",
        "https://other.example.net:8443/",
    };
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        if (!allowed(good[i]))
            fail_msg("%s was refused", good[i]);
}

static void everything_else_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "https://",
        "https:///x",
        "https:hooks.example.com",
        "http://hooks.example.com/",
        "HTTPS://hooks.example.com/",
        "ftp://hooks.example.com/",
        "file:///etc/passwd",
        "gopher://hooks.example.com/",
        "javascript:alert(1)",
        "//hooks.example.com/",
        " https://hooks.example.com/",
        "https://hooks.example.com/ ",
        "https://hooks.example.com/a b",
        "https://hooks.example.com/\t",
        "https://hooks.example.com/\r\nHost: x",
        "https://hooks.example.com/\x01",
        "https://hooks.example.com/\xc3\xa9",
        "https://h\xc3\xb6oks.example.com/",
        "https://hooks.example.com.evil.org/",
        "https://evil.org/hooks.example.com",
        "https://evil.org?hooks.example.com",
        "https://evil.org#hooks.example.com",
        "https://evil.org\\hooks.example.com",
        "https://hooks.example.com\\@evil.org/",
        "https://hooks.example.com@evil.org/",
        "https://evil.org@hooks.example.com/",
        "https://user:pw@hooks.example.com/",
        "https://hooks.example.com#x",
        "https://hooks.example.com:444/",
        "https://hooks.example.com:0/",
        "https://hooks.example.com:65536/",
        "https://hooks.example.com:-1/",
        "https://hooks.example.com:+443/",
        "https://hooks.example.com:443443/",
        "https://hooks.example.com:/",
        "https://hooks.example.com:44a/",
        "https://hooks.example.com:443:443/",
        "https://other.example.net/",
        "https://other.example.net:443/",
        "https://.hooks.example.com/",
        "https://hooks.example.com./",
        "https://hooks..example.com/",
        "https://-hooks.example.com/",
        "https://hooks-.example.com/",
        "https://hooks_.example.com/",
        "https://hooks%2eexample.com/",
        "https://hooks.example.co%6d/",
        "https://127.0.0.1/",
        "https://127.1/",
        "https://2130706433/",
        "https://0x7f000001/",
        "https://0x7f.1/",
        "https://0177.0.0.1/",
        "https://017700000001/",
        "https://0/",
        "https://1.2.3.4.5/",
        "https://[::1]/",
        "https://[::ffff:127.0.0.1]/",
        "https://[::ffff:7f00:1]/",
        "https://[fe80::1%25eth0]/",
        "https://localhost/",
        "https://localhost.localdomain/",
        "https://169.254.169.254/latest/meta-data/",
        "https://metadata.google.internal/",
        "https://10.0.0.1.nip.io/",
        "https://example.com/",
        "https://hooks/",
        "https://example.0x7f/",
    };
    assert_true(sizeof bad / sizeof bad[0] >= 60);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (allowed(bad[i]))
            fail_msg("%s was allowed", bad[i]);
    char text[LD_WEBHOOK_URL_BYTES_MAX + 2];
    memset(text, 'a', sizeof text);
    memcpy(text, "https://hooks.example.com/", 26);
    text[LD_WEBHOOK_URL_BYTES_MAX] = '\0';
    assert_true(allowed(text));
    text[LD_WEBHOOK_URL_BYTES_MAX] = 'a';
    text[LD_WEBHOOK_URL_BYTES_MAX + 1] = '\0';
    assert_false(allowed(text));
}

static bool v4(const char *text)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    assert_int_equal(inet_pton(AF_INET, text, &address.sin_addr), 1);
    return ld_webhook_address_is_public((const struct sockaddr *)&address);
}

static bool v6(const char *text)
{
    struct sockaddr_in6 address = {.sin6_family = AF_INET6};
    assert_int_equal(inet_pton(AF_INET6, text, &address.sin6_addr), 1);
    return ld_webhook_address_is_public((const struct sockaddr *)&address);
}

static void addresses_are_judged_at_the_edges_of_every_range(void **state)
{
    (void)state;
    static const char *const open4[] = {
        "1.0.0.0",         "9.255.255.255", "11.0.0.0",        "100.63.255.255", "100.128.0.0",
        "126.255.255.255", "128.0.0.0",     "169.253.255.255", "169.255.0.0",    "172.15.255.255",
        "172.32.0.0",      "192.0.1.0",     "192.167.255.255", "192.169.0.0",    "198.17.255.255",
        "198.20.0.0",      "203.0.112.255", "223.255.255.255"};
    static const char *const closed4[] = {
        "0.0.0.0",         "0.255.255.255",   "10.0.0.0",        "10.255.255.255",  "100.64.0.0",
        "100.127.255.255", "127.0.0.1",       "127.255.255.255", "169.254.169.254", "172.16.0.0",
        "172.31.255.255",  "192.0.0.8",       "192.0.2.1",       "192.88.99.1",     "192.168.0.0",
        "192.168.255.255", "198.18.0.0",      "198.19.255.255",  "198.51.100.1",    "203.0.113.1",
        "224.0.0.1",       "239.255.255.255", "240.0.0.0",       "255.255.255.255"};
    static const char *const open6[] = {"2000::1", "2606:4700::1111", "2a00::1", "3ffe::1"};
    static const char *const closed6[] = {
        "::",      "::1",     "::ffff:8.8.8.8", "::8.8.8.8",       "64:ff9b::8.8.8.8",
        "100::1",  "2001::1", "2001:db8::1",    "2002:808:808::1", "3fff::1",
        "fc00::1", "fdff::1", "fe80::1",        "fec0::1",         "ff02::1"};
    for (size_t i = 0; i < sizeof open4 / sizeof open4[0]; i++)
        if (!v4(open4[i]))
            fail_msg("%s was refused", open4[i]);
    for (size_t i = 0; i < sizeof closed4 / sizeof closed4[0]; i++)
        if (v4(closed4[i]))
            fail_msg("%s was allowed", closed4[i]);
    for (size_t i = 0; i < sizeof open6 / sizeof open6[0]; i++)
        if (!v6(open6[i]))
            fail_msg("%s was refused", open6[i]);
    for (size_t i = 0; i < sizeof closed6 / sizeof closed6[0]; i++)
        if (v6(closed6[i]))
            fail_msg("%s was allowed", closed6[i]);
}

#define REQUEST(more)                                                                              \
    "{\"prompt\":\"SECRET\",\"webhook\":{\"url\":\"https://a.example/\"" more "},"                 \
    "\"tag\":\"t\",\"user_data\":{\"k\":1}}"
#define JOB "0123456789abcdefghjkmnpqrs"

static bool told(enum ld_event_kind kind, const char *json, const char *request,
                 struct ld_buffer *body)
{
    const struct ld_store_event event = {
        .id = 7, .job_id = JOB, .tenant = "", .kind = kind, .json = json, .request = request};
    char url[LD_WEBHOOK_URL_BYTES_MAX + 1];
    ld_buffer_clear(body);
    const bool called = ld_webhook_body(&event, url, sizeof url, body);
    if (called)
        assert_string_equal(url, "https://a.example/");
    return called;
}

static void the_body_says_how_it_ended_and_holds_no_prompt(void **state)
{
    (void)state;
    static const char job[] =
        "{\"id\":\"" JOB "\",\"status\":\"failed\",\"created_at\":\"now\","
        "\"request\":" REQUEST(
            "") ",\"images\":[],"
                "\"error\":{\"code\":\"device\",\"detail\":\"SECRET\"},\"warnings\":[\"SECRET\"]}";
    struct ld_buffer body = ld_buffer_make(4096);
    assert_true(told(LD_EVENT_DONE, job, REQUEST(""), &body));
    assert_string_equal(body.data,
                        "{\"event\":\"done\",\"event_id\":7,\"id\":\"" JOB "\",\"status\":"
                        "\"failed\",\"created_at\":\"now\",\"images\":[],\"error_code\":\"device\","
                        "\"tag\":\"t\",\"user_data\":{\"k\":1}}");
    assert_false(told(LD_EVENT_DONE, job, "{}", &body));
    assert_false(told(LD_EVENT_DONE, job, "{\"user_data\":{\"webhook\":{\"url\":\"x\"}}}", &body));
    assert_false(told(LD_EVENT_DONE, job, NULL, &body));
    ld_buffer_deinit(&body);
}

static void a_job_is_told_about_as_it_asked(void **state)
{
    (void)state;
    static const struct {
        enum ld_event_kind kind;
        const char *json;
        const char *words; /* that make a call of it, between blanks */
    } events[] = {
        {LD_EVENT_STATUS, "{\"status\":\"queued\"}", " queued "},
        {LD_EVENT_STATUS, "{\"status\":\"running\"}", " running "},
        {LD_EVENT_STATUS, "{\"status\":\"cancelling\"}", " "},
        {LD_EVENT_STATUS, "{\"status\":\"succeeded\"}", " "}, /* LD_EVENT_DONE follows */
        {LD_EVENT_PROGRESS, "{\"progress\":{}}", " "},
        {LD_EVENT_IMAGE, "{\"image\":{\"index\":0}}", " image "},
        {LD_EVENT_DONE, "{\"status\":\"succeeded\"}", " succeeded done "},
        {LD_EVENT_DONE, "{\"status\":\"failed\"}", " failed done "},
        {LD_EVENT_DONE, "{\"status\":\"cancelled\"}", " cancelled done "},
    };
    struct ld_span word;
    const char *const words = ld_field_find("webhook.events")->words;
    struct ld_buffer body = ld_buffer_make(4096);
    for (size_t i = 0; i < sizeof events / sizeof events[0]; i++) {
        for (size_t pos = 0; ld_words_next(words, &pos, &word);) {
            char padded[32];
            char request[256];
            (void)snprintf(padded, sizeof padded, " %.*s ", (int)word.size,
                           (const char *)word.data);
            (void)snprintf(request, sizeof request, REQUEST(",\"events\":[\"%.*s\"]"),
                           (int)word.size, (const char *)word.data);
            if (told(events[i].kind, events[i].json, request, &body) !=
                (strstr(events[i].words, padded) != NULL))
                fail_msg("%s with%s", events[i].json, padded);
        }
        /* Without a list: every end, and nothing else. */
        assert_int_equal(told(events[i].kind, events[i].json, REQUEST(""), &body),
                         events[i].kind == LD_EVENT_DONE);
    }
    assert_true(
        told(LD_EVENT_IMAGE, events[5].json, REQUEST(",\"events\":[\"image\",\"failed\"]"), &body));
    assert_string_equal(body.data,
                        "{\"event\":\"image\",\"event_id\":7,\"id\":\"" JOB
                        "\",\"image\":{\"index\":0},\"tag\":\"t\",\"user_data\":{\"k\":1}}");
    assert_true(told(LD_EVENT_STATUS, events[1].json, REQUEST(",\"events\":[\"running\"]"), &body));
    assert_string_equal(body.data,
                        "{\"event\":\"running\",\"event_id\":7,\"id\":\"" JOB
                        "\",\"status\":\"running\",\"tag\":\"t\",\"user_data\":{\"k\":1}}");
    ld_buffer_deinit(&body);
}

/* The digest by `printf %s '1700000000.{}' | openssl dgst -sha256 -hmac 0123456789abcdef`. */
static void the_signature_is_that_of_time_and_body(void **state)
{
    (void)state;
    char signature[112];
    ld_webhook_signature(ld_span_text("0123456789abcdef"), 1700000000, ld_span_text("{}"),
                         signature);
    assert_string_equal(
        signature,
        "t=1700000000,v1=e4f8e2ecae2295b2ddb2f0b5584c8275e226c0ebe9b3b819e70156bb67122e3e");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(listed_hosts_are_called),
        cmocka_unit_test(everything_else_is_refused),
        cmocka_unit_test(addresses_are_judged_at_the_edges_of_every_range),
        cmocka_unit_test(the_body_says_how_it_ended_and_holds_no_prompt),
        cmocka_unit_test(a_job_is_told_about_as_it_asked),
        cmocka_unit_test(the_signature_is_that_of_time_and_body),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
