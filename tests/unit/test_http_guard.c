/*
 * Proves which request heads pass and which do not, who counts as this machine, and which origins
 * may call. Tables of single deviations from one good request.
 */
#include "server/http_guard.h"

#include "config/limits.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static struct ld_guard_header header(const char *name, const char *value)
{
    return (struct ld_guard_header){ld_span_text(name), ld_span_text(value)};
}

static int judge(const char *method, const char *target, const char *version, const char *name,
                 const char *value)
{
    struct ld_guard_verdict verdict;
    const struct ld_guard_header headers[] = {header("Host", "localhost:7860"),
                                              header(name ? name : "Accept", name ? value : "*/*")};
    const struct ld_guard_request request = {ld_span_text(method), ld_span_text(target),
                                             ld_span_text(version), headers, 2};
    ld_guard_check(&request, &verdict);
    assert_true((verdict.status == 0) == (verdict.sentence == NULL));
    return verdict.status;
}

static void honest_requests_pass(void **state)
{
    (void)state;
    assert_int_equal(judge("GET", "/", "HTTP/1.1", NULL, NULL), 0);
    assert_int_equal(
        judge("POST", "/v1/jobs?wait=3&x=%20a%C3%A9", "HTTP/1.1", "Content-Length", "12"), 0);
    assert_int_equal(judge("POST", "/v1/jobs", "HTTP/1.1", "transfer-encoding", "Chunked"), 0);
    assert_int_equal(judge("GET", "/v1/jobs/", "HTTP/1.0", "X-Note", "tab\tand \xC3\xA9"), 0);
    assert_int_equal(judge("DELETE", "/a%20b", "HTTP/1.1", NULL, NULL), 0);
}

static void each_deviation_is_refused(void **state)
{
    (void)state;
    static const char *const targets[] = {
        "",     "v1",  "*",     "http://a/b", "/a b",    "/a#b",   "/a\\b",  "/../a", "/a/..",
        "/a/.", "//a", "/a//b", "/%2e",       "/%2E%2e", "/a%2fb", "/a%5Cb", "/%00",  "/a?%00",
        "/%",   "/%4", "/%zz",  "/\x7F",      "/\xC3",   "/a\tb",  "/%0a"};
    for (size_t i = 0; i < sizeof targets / sizeof targets[0]; i++)
        assert_int_equal(judge("GET", targets[i], "HTTP/1.1", NULL, NULL), 400);
    assert_int_equal(judge("BREW", "/", "HTTP/1.1", NULL, NULL), 501);
    assert_int_equal(judge("get", "/", "HTTP/1.1", NULL, NULL), 501);
    assert_int_equal(judge("GET", "/", "HTTP/2.0", NULL, NULL), 505);
    static const char *const headers[][2] = {{"Content-Length", ""},
                                             {"Content-Length", "+1"},
                                             {"Content-Length", "1 "},
                                             {"Content-Length", "1,1"},
                                             {"Content-Length", "0x1"},
                                             {"Transfer-Encoding", "gzip"},
                                             {"Transfer-Encoding", ""},
                                             {"Transfer-Encoding", "chunked, chunked"},
                                             {"Host", "second"},
                                             {"", "x"},
                                             {"A b", "x"},
                                             {"A:", "x"},
                                             {"A\x01", "x"},
                                             {"A", "x\x01"},
                                             {"A", "x\x7F"},
                                             {"A", "\x1B[0m"}};
    for (size_t i = 0; i < sizeof headers / sizeof headers[0]; i++)
        assert_int_equal(judge("POST", "/", "HTTP/1.1", headers[i][0], headers[i][1]), 400);
    assert_int_equal(judge("POST", "/", "HTTP/1.0", "Transfer-Encoding", "chunked"), 400);
}

static int judge_list(const struct ld_guard_header *headers, uint32_t count)
{
    struct ld_guard_verdict verdict;
    const struct ld_guard_request request = {ld_span_text("POST"), ld_span_text("/"),
                                             ld_span_text("HTTP/1.1"), headers, count};
    ld_guard_check(&request, &verdict);
    return verdict.status;
}

static void lengths_and_hosts_must_be_single(void **state)
{
    (void)state;
    const struct ld_guard_header twice[] = {header("Host", "a"), header("Content-Length", "1"),
                                            header("content-length", "1")};
    const struct ld_guard_header both[] = {header("Host", "a"), header("Content-Length", "1"),
                                           header("Transfer-Encoding", "chunked")};
    const struct ld_guard_header hosts[] = {header("Host", "a"), header("HOST", "a")};
    const struct ld_guard_header odd[] = {header("Host", "a/b")};
    assert_int_equal(judge_list(twice, 2), 0);
    assert_int_equal(judge_list(twice, 3), 400);
    assert_int_equal(judge_list(both, 3), 400);
    assert_int_equal(judge_list(hosts, 2), 400);
    assert_int_equal(judge_list(hosts, 0), 400);
    assert_int_equal(judge_list(odd, 1), 400);
}

static void sizes_hold_at_their_bounds(void **state)
{
    (void)state;
    static char target[LD_TARGET_BYTES_MAX + 2];
    memset(target, 'a', sizeof target - 1);
    target[0] = '/';
    target[LD_TARGET_BYTES_MAX + 1] = '\0';
    assert_int_equal(judge("GET", target, "HTTP/1.1", NULL, NULL), 414);
    target[LD_TARGET_BYTES_MAX] = '\0';
    assert_int_equal(judge("GET", target, "HTTP/1.1", NULL, NULL), 0);

    static struct ld_guard_header many[LD_HEADER_COUNT_MAX + 1];
    many[0] = header("Host", "a");
    for (uint32_t i = 1; i <= LD_HEADER_COUNT_MAX; i++)
        many[i] = header("A", "b");
    assert_int_equal(judge_list(many, LD_HEADER_COUNT_MAX), 0);
    assert_int_equal(judge_list(many, LD_HEADER_COUNT_MAX + 1), 431);

    static char value[LD_HEADER_BLOCK_BYTES_MAX];
    memset(value, 'b', sizeof value);
    /* "Host" and "a" with four more are 9 bytes; "A" with its value and four more fill the rest. */
    value[LD_HEADER_BLOCK_BYTES_MAX - 9 - 5] = '\0';
    many[1] = header("A", value);
    assert_int_equal(judge_list(many, 2), 0);
    value[LD_HEADER_BLOCK_BYTES_MAX - 9 - 5] = 'b';
    value[LD_HEADER_BLOCK_BYTES_MAX - 9 - 4] = '\0';
    many[1] = header("A", value);
    assert_int_equal(judge_list(many, 2), 431);
}

static void this_machine_is_told_from_others(void **state)
{
    (void)state;
    static const char *const own[] = {"localhost",      "LocalHost:1", "127.0.0.1",
                                      "127.1.2.3:7860", "[::1]",       "[::1]:7860"};
    static const char *const others[] = {"",
                                         "example.org",
                                         "localhost.example.org",
                                         "127.0.0.1.nip.io",
                                         "128.0.0.1",
                                         "127.0.0",
                                         "::1",
                                         "[::2]",
                                         "1127.0.0.1"};
    for (size_t i = 0; i < sizeof own / sizeof own[0]; i++)
        assert_true(ld_guard_host_is_loopback(ld_span_text(own[i])));
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        assert_false(ld_guard_host_is_loopback(ld_span_text(others[i])));
}

static void origins_must_be_our_own_or_listed(void **state)
{
    (void)state;
    const struct ld_span host = ld_span_text("localhost:7860");
    static const char list[] = " https://a.example , https://b.example:1";
    assert_true(ld_guard_origin_allowed(ld_span_text("http://localhost:7860"), host, ""));
    assert_true(ld_guard_origin_allowed(ld_span_text("https://LOCALHOST:7860"), host, ""));
    assert_true(ld_guard_origin_allowed(ld_span_text("https://a.example"), host, list));
    assert_true(ld_guard_origin_allowed(ld_span_text("https://b.example:1"), host, list));
    static const char *const foreign[] = {"null",
                                          "",
                                          "http://localhost",
                                          "http://localhost:78600",
                                          "https://a.example.org",
                                          "https://a.exampl",
                                          "ftp://localhost:7860",
                                          "https://a.example , https://b.example:1"};
    for (size_t i = 0; i < sizeof foreign / sizeof foreign[0]; i++)
        assert_false(ld_guard_origin_allowed(ld_span_text(foreign[i]), host, list));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(honest_requests_pass),
        cmocka_unit_test(each_deviation_is_refused),
        cmocka_unit_test(lengths_and_hosts_must_be_single),
        cmocka_unit_test(sizes_hold_at_their_bounds),
        cmocka_unit_test(this_machine_is_told_from_others),
        cmocka_unit_test(origins_must_be_our_own_or_listed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
