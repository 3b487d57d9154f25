/*
 * Proves that the contract and the program name the same calls: every row of the route table has an
 * operation in api/openapi.json and every operation a row, with a body exactly where the route
 * takes one and an operationId of its own; and that the page at /docs shows all of them.
 */
#include "api/respond.h"
#include "server/router.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static json_t *document(void)
{
    const struct ld_span text = ld_openapi_document();
    json_t *root = json_loadb((const char *)text.data, text.size, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(root);
    return root;
}

static void lower(const char *method, char out[16])
{
    size_t i = 0;
    for (; method[i] && i < 15; i++)
        out[i] = (char)(method[i] | 0x20);
    out[i] = '\0';
}

static void every_route_is_documented(void **state)
{
    (void)state;
    uint32_t count;
    json_t *root = document();
    const struct ld_route *routes = ld_routes(&count);
    uint32_t missing = 0;
    for (uint32_t i = 0; i < count; i++) {
        char method[16];
        lower(routes[i].method, method);
        const json_t *path = json_object_get(json_object_get(root, "paths"), routes[i].pattern);
        const json_t *operation = json_object_get(path, method);
        if (!operation) {
            print_error("%s %s is not in api/openapi.json\n", routes[i].method, routes[i].pattern);
            missing++;
            continue;
        }
        const bool takes = routes[i].body != LD_BODY_NONE;
        if (takes != (json_object_get(operation, "requestBody") != NULL)) {
            print_error("%s %s: requestBody and the route disagree\n", method, routes[i].pattern);
            missing++;
        }
    }
    json_decref(root);
    assert_int_equal(missing, 0);
}

static bool is_route(const char *method, const char *pattern)
{
    uint32_t count;
    const struct ld_route *routes = ld_routes(&count);
    for (uint32_t i = 0; i < count; i++) {
        char name[16];
        lower(routes[i].method, name);
        if (strcmp(name, method) == 0 && strcmp(routes[i].pattern, pattern) == 0)
            return true;
    }
    return false;
}

static void every_documented_call_is_a_route_with_an_id_and_an_answer(void **state)
{
    (void)state;
    json_t *root = document();
    json_t *seen = json_object();
    const char *path;
    const char *method;
    json_t *operations;
    json_t *operation;
    json_object_foreach(json_object_get(root, "paths"), path, operations)
    {
        json_object_foreach(operations, method, operation)
        {
            if (strcmp(method, "parameters") == 0) /* shared by the path's operations */
                continue;
            if (!is_route(method, path))
                fail_msg("%s %s is documented and not served", method, path);
            const char *id = json_string_value(json_object_get(operation, "operationId"));
            if (!id || json_object_get(seen, id))
                fail_msg("%s %s needs an operationId of its own", method, path);
            json_object_set_new(seen, id, json_true());
            if (json_object_size(json_object_get(operation, "responses")) == 0)
                fail_msg("%s %s has no answer", method, path);
        }
    }
    json_decref(seen);
    json_decref(root);
}

static void the_page_shows_every_call_and_every_document(void **state)
{
    (void)state;
    struct ld_error err = {0};
    json_t *root = document();
    struct ld_buffer page = ld_buffer_make(8 << 20);
    assert_int_equal(ld_docs_page_write(&page, &err), LD_OK);
    const char *name;
    const char *method;
    json_t *operations;
    json_t *node;
    json_object_foreach(json_object_get(root, "paths"), name, operations)
    {
        json_object_foreach(operations, method, node)
        {
            char anchor[128];
            if (strcmp(method, "parameters") == 0)
                continue;
            assert_true(ld_fmt(anchor, sizeof anchor, "<h3 id=\"%s\">",
                               json_string_value(json_object_get(node, "operationId"))));
            if (!strstr(page.data, anchor))
                fail_msg("%s is not on the page", anchor);
        }
    }
    json_object_foreach(json_object_get(json_object_get(root, "components"), "schemas"), name, node)
    {
        char anchor[128];
        assert_true(ld_fmt(anchor, sizeof anchor, "id=\"schema-%s\"", name));
        if (!strstr(page.data, anchor))
            fail_msg("%s is not on the page", anchor);
    }
    assert_non_null(strstr(page.data, "integer, at least 1, at most 150")); /* steps */
    assert_null(strstr(page.data, "<script"));
    assert_null(strstr(page.data, "src="));
    assert_null(strstr(page.data, "url("));
    assert_null(strstr(page.data, "href=\"http"));
    ld_buffer_deinit(&page);
    json_decref(root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_route_is_documented),
        cmocka_unit_test(every_documented_call_is_a_route_with_an_id_and_an_answer),
        cmocka_unit_test(the_page_shows_every_call_and_every_document),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
