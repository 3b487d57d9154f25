/*
 * Proves that each path has one spelling and one handler, and that every route says who may use it.
 * Walks the server's own table and asks for near misses.
 */
#include "server/router.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define ID "0123456789abcdefghjkmnpqrs"

static struct ld_route_match find(const char *method, const char *path)
{
    uint32_t count;
    struct ld_route_match match;
    const struct ld_route *routes = ld_routes(&count);
    ld_route_find(routes, count, method, path, &match);
    return match;
}

static void paths_find_their_routes_and_parameters(void **state)
{
    (void)state;
    struct ld_route_match match = find("GET", "/v1/jobs/" ID "/images/15");
    assert_non_null(match.route);
    assert_string_equal(match.route->pattern, "/v1/jobs/{id}/images/{n}");
    assert_int_equal(match.param_count, 2);
    assert_string_equal(match.params[0], ID);
    assert_string_equal(match.params[1], "15");
    assert_string_equal(find("HEAD", "/healthz").route->method, "GET");
    assert_string_equal(find("GET", "/").route->pattern, "/");
}

static void near_misses_find_nothing(void **state)
{
    (void)state;
    static const char *const paths[] = {
        "",
        "v1/jobs",
        "/v1/jobs/",
        "/v1/Jobs",
        "/v1/job%73",
        "/v1/jobs/0123456789abcdefghjkmnpqr",
        "/v1/jobs/" ID "x",
        "/v1/jobs/0123456789ABCDEFGHJKMNPQRS",
        "/v1/jobs/" ID "/images/",
        "/v1/jobs/" ID "/images/-1",
        "/v1/jobs/" ID "/images/01",
        "/v1/jobs/" ID "/images/12345",
        "/v1/jobs/" ID "/images/0/0",
        "/v1/jobs/{id}",
        "/a/b/c/d/e/f/g/h/i/j/k",
    };
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        const struct ld_route_match match = find("GET", paths[i]);
        assert_null(match.route);
        assert_false(match.path_known);
    }
}

static void other_methods_are_told_what_is_allowed(void **state)
{
    (void)state;
    const struct ld_route_match match = find("PUT", "/v1/jobs/" ID);
    assert_null(match.route);
    assert_true(match.path_known);
    assert_string_equal(match.allow, "GET, HEAD, DELETE");
}

static void every_route_is_complete_and_unique(void **state)
{
    (void)state;
    uint32_t count;
    const struct ld_route *routes = ld_routes(&count);
    assert_true(count >= 25);
    for (uint32_t i = 0; i < count; i++) {
        assert_non_null(routes[i].handler);
        assert_true(routes[i].pattern[0] == '/');
        assert_in_range(routes[i].scope, LD_SCOPE_OPEN, LD_SCOPE_ADMIN);
        /* Only what tells nothing about jobs or models is open. */
        if (strncmp(routes[i].pattern, "/v1/", 4) == 0)
            assert_int_not_equal(routes[i].scope, LD_SCOPE_OPEN);
        if (strcmp(routes[i].method, "GET") == 0)
            assert_int_equal(routes[i].body, LD_BODY_NONE);
        if (strcmp(routes[i].method, "POST") == 0 || strcmp(routes[i].method, "DELETE") == 0)
            assert_true(routes[i].scope >= LD_SCOPE_READ);
        for (uint32_t j = 0; j < i; j++)
            assert_false(strcmp(routes[i].method, routes[j].method) == 0 &&
                         strcmp(routes[i].pattern, routes[j].pattern) == 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(paths_find_their_routes_and_parameters),
        cmocka_unit_test(near_misses_find_nothing),
        cmocka_unit_test(other_methods_are_told_what_is_allowed),
        cmocka_unit_test(every_route_is_complete_and_unique),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
