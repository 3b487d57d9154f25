/*
 * Proves that hostile JSON is refused with a place, before it costs memory, and that what is
 * accepted means the same to an independent reader. Works on the bodies of robustness.md H6 and on
 * mutated documents compared with jansson.
 */
#include "api/json_scan.h"

#include "config/limits.h"
#include "runtime/base/buffer.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <time.h>

#include <cmocka.h>

static enum ld_code scan(struct ld_span body, struct ld_arena *arena, struct ld_json_tree *tree,
                         struct ld_error *err)
{
    return ld_json_scan(tree, body, LD_JSON_DEPTH, LD_JSON_VALUES, arena, err);
}

static void refused(const char *body, const char *pointer, const char *words)
{
    struct ld_arena arena;
    struct ld_json_tree tree;
    struct ld_error err = {0};
    ld_arena_init(&arena, "test", LD_ARENA_REQUEST_BYTES);
    assert_int_equal(scan(ld_span_text(body), &arena, &tree, &err), LD_E_FORMAT);
    assert_string_equal(err.pointer, pointer);
    if (!strstr(err.detail, words) || !strstr(err.detail, "line "))
        fail_msg("%.60s: %s", body, err.detail);
    ld_arena_deinit(&arena);
}

static void malformed_bodies_are_refused_with_their_place(void **state)
{
    (void)state;
    refused("{\"a\":{\"b\":[1,tru]}}", "/a/b/1", "line 1, column 14");
    refused("{\"a\":\n[1,\n 1e999]}", "/a/1", "line 3, column 2");
    refused("{\"a\":9223372036854775808}", "/a", "64 bits");
    refused("{\"a\":-9223372036854775809}", "/a", "64 bits");
    refused("{\"a\":NaN}", "/a", "");
    refused("{\"a\":Infinity}", "/a", "");
    refused("{\"a\":01}", "/a", "");
    refused("{\"a\":+1}", "/a", "");
    refused("{\"a\":.5}", "/a", "");
    refused("{\"a\":\"\xC3\"}", "/a", "");
    refused("{\"a\":\"\xED\xA0\x80\"}", "/a", "");
    refused("{\"a\":\"\\ud800\"}", "/a", "");
    refused("{\"a\":\"\\udc00\\ud800\"}", "/a", "");
    refused("{\"a\":\"\x01\"}", "/a", "");
    refused("{\"a/b~c\":tru}", "/a~1b~0c", "");
    refused("{} x", "", "");
    refused("", "", "");
    refused("{\"a\":1,}", "/a", "");
    refused("{'a':1}", "", "");
    refused("{\"a\":{\"steps\\u0000\":1}}", "", "a key has a NUL in it");
}

static void equal_keys_are_refused_however_they_are_written(void **state)
{
    (void)state;
    refused("{\"a\":1,\"b\":2,\"a\":3}", "/a", "twice");
    refused("{\"x\":[{\"a\":1,\"\\u0061\":3}]}", "/x/0/a", "twice");
    refused("{\"\":1,\"\":2}", "/", "twice");
}

#if defined(__has_include)
#if __has_include(<valgrind/valgrind.h>)
#include <valgrind/valgrind.h>
#endif
#endif
#ifndef RUNNING_ON_VALGRIND
#define RUNNING_ON_VALGRIND 0
#endif

/* Tools that watch memory slow everything down by an order of magnitude. */
static bool clock_is_fair(void)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    return false;
#elif defined(__has_feature)
    return !__has_feature(address_sanitizer) && !__has_feature(thread_sanitizer);
#else
    return RUNNING_ON_VALGRIND == 0;
#endif
}

/* The whole cost of one refusal: at most 2 ms and 256 KiB (robustness.md H6); the best of a
 * few tries counts, since others share the machine. */
static void costs_little(struct ld_span body, const char *what)
{
    double best = 1e9;
    for (int i = 0; i < 5; i++) {
        struct ld_arena arena;
        struct ld_json_tree tree;
        struct ld_error err = {0};
        struct timespec begin;
        struct timespec end;
        ld_arena_init(&arena, "test", 256 * 1024);
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &begin);
        const enum ld_code code = scan(body, &arena, &tree, &err);
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &end);
        if (code != LD_E_FORMAT)
            fail_msg("%s: accepted", what);
        assert_true(arena.bytes_used <= 256 * 1024);
        ld_arena_deinit(&arena);
        const double ms =
            (double)(end.tv_sec - begin.tv_sec) * 1e3 + (double)(end.tv_nsec - begin.tv_nsec) / 1e6;
        best = ms < best ? ms : best;
    }
    print_message("%s: %.3f ms\n", what, best);
    if (clock_is_fair())
        assert_true(best <= 2.0);
}

static void hostile_bodies_are_refused_cheaply(void **state)
{
    (void)state;
    struct ld_buffer body = ld_buffer_make(8 * 1024 * 1024);
    for (int i = 0; i < 1000000; i++)
        ld_buffer_byte(&body, '[');
    costs_little(ld_span_of(body.data, body.size), "depth 10^6");
    ld_buffer_clear(&body);
    ld_buffer_byte(&body, '{');
    for (int i = 0; i < 100000; i++)
        ld_buffer_format(&body, "%s\"k%d\":0", i ? "," : "", i);
    ld_buffer_byte(&body, '}');
    costs_little(ld_span_of(body.data, body.size), "10^5 keys");
    ld_buffer_clear(&body);
    ld_buffer_text(&body, "{\"a\":");
    for (int i = 0; i < 1024 * 1024; i++)
        ld_buffer_byte(&body, '9');
    ld_buffer_byte(&body, '}');
    costs_little(ld_span_of(body.data, body.size), "1 MiB integer");
    body.data[6] = '.';
    costs_little(ld_span_of(body.data, body.size), "1 MiB real");
    ld_buffer_clear(&body);
    ld_buffer_byte(&body, '{');
    for (int i = 0; i < LD_JSON_VALUES - 1; i++)
        ld_buffer_format(&body, "%s\"%0200d\":0", i ? "," : "", i < LD_JSON_VALUES - 2 ? i : 0);
    ld_buffer_byte(&body, '}');
    costs_little(ld_span_of(body.data, body.size), "a late duplicate of long keys");
    ld_buffer_deinit(&body);
}

static void limits_hold_at_their_bounds(void **state)
{
    (void)state;
    struct ld_arena arena;
    struct ld_json_tree tree;
    struct ld_error err = {0};
    struct ld_buffer body = ld_buffer_make(1024 * 1024);
    ld_arena_init(&arena, "test", 1024 * 1024);
    for (int depth = LD_JSON_DEPTH - 1; depth <= LD_JSON_DEPTH + 1; depth++) {
        ld_buffer_clear(&body);
        for (int i = 0; i < depth; i++)
            ld_buffer_byte(&body, '[');
        for (int i = 0; i < depth; i++)
            ld_buffer_byte(&body, ']');
        assert_int_equal(scan(ld_span_of(body.data, body.size), &arena, &tree, &err),
                         depth <= LD_JSON_DEPTH ? LD_OK : LD_E_FORMAT);
    }
    for (int values = LD_JSON_VALUES - 1; values <= LD_JSON_VALUES + 1; values++) {
        ld_buffer_clear(&body);
        for (int i = 1; i < values; i++)
            ld_buffer_format(&body, "%c0", i > 1 ? ',' : '[');
        ld_buffer_byte(&body, ']');
        assert_int_equal(scan(ld_span_of(body.data, body.size), &arena, &tree, &err),
                         values <= LD_JSON_VALUES ? LD_OK : LD_E_FORMAT);
        ld_buffer_clear(&body); /* keys are no values */
        for (int i = 1; i < values; i++)
            ld_buffer_format(&body, "%c\"%d\":0", i > 1 ? ',' : '{', i);
        ld_buffer_byte(&body, '}');
        assert_int_equal(scan(ld_span_of(body.data, body.size), &arena, &tree, &err),
                         values <= LD_JSON_VALUES ? LD_OK : LD_E_FORMAT);
    }
    ld_buffer_deinit(&body);
    ld_arena_deinit(&arena);
}

static void the_tree_is_walked_by_key_and_order(void **state)
{
    (void)state;
    struct ld_arena arena;
    struct ld_json_tree tree;
    struct ld_error err = {0};
    char pointer[64];
    int64_t integer;
    double number;
    struct ld_span text;
    ld_arena_init(&arena, "test", 65536);
    const char *body = " { \"a\" : [ 1, -2.5, {\"\\u0062\\/\": \"x\\n\\u3042\"} ], \"z\": -0, "
                       "\"e\": {} } ";
    assert_int_equal(scan(ld_span_text(body), &arena, &tree, &err), LD_OK);
    const struct ld_json_node *root = ld_json_root(&tree);
    assert_int_equal(root->child_count, 3);
    const struct ld_json_node *list = ld_json_member(&tree, root, "a");
    assert_true(ld_span_is(list->text, "[ 1, -2.5, {\"\\u0062\\/\": \"x\\n\\u3042\"} ]"));
    const struct ld_json_node *item = ld_json_first(&tree, list);
    assert_true(ld_json_integer(item, &integer) && integer == 1);
    item = ld_json_after(&tree, item);
    assert_false(ld_json_integer(item, &integer));
    assert_true(ld_json_number(item, &number) && number == -2.5);
    item = ld_json_after(&tree, item);
    assert_null(ld_json_after(&tree, item));
    const struct ld_json_node *leaf = ld_json_member(&tree, item, "b/");
    assert_non_null(leaf);
    ld_json_pointer(&tree, leaf, pointer, sizeof pointer);
    assert_string_equal(pointer, "/a/2/b~1");
    ld_json_pointer(&tree, leaf, pointer, 8);
    assert_string_equal(pointer, "/a/2...");
    assert_true(ld_json_string_text(leaf, &arena, &text));
    assert_true(ld_span_is(text, "x\n\xE3\x81\x82") && ld_json_string_is(leaf, "x\n\xE3\x81\x82"));
    assert_false(ld_json_integer(ld_json_member(&tree, root, "z"), &integer));
    assert_true(ld_json_is_negative_zero(ld_json_member(&tree, root, "z")));
    assert_null(ld_json_first(&tree, ld_json_member(&tree, root, "e")));
    assert_null(ld_json_member(&tree, root, "nothing"));
    ld_arena_deinit(&arena);
}

/* Whatever the scan accepts, jansson accepts too, with as many members at the top. */
static void what_is_accepted_is_json_to_another_reader(void **state)
{
    (void)state;
    static const char seed_text[] =
        "{\"prompt\":\"a \\u3042 "
        "\\\"b\\\"\",\"steps\":20,\"cfg\":7.5e0,\"l\":[{\"n\":null},[],true],"
        "\"hires\":{\"scale\":-1.25E-2,\"x\":\"\xC3\xA9\"}}";
    static const char alphabet[] = "{}[]\":,\\0123456789.eE+-truefalsn \n\xC3\xA9\xED\x80u/";
    uint64_t state_word = 88172645463325252U;
    uint32_t accepted = 0;
    for (int round = 0; round < 200000; round++) {
        char body[sizeof seed_text];
        struct ld_arena arena;
        struct ld_json_tree tree;
        struct ld_error err = {0};
        json_error_t where;
        memcpy(body, seed_text, sizeof body);
        state_word ^= state_word << 13; /* xorshift64 (Marsaglia 2003) */
        state_word ^= state_word >> 7;
        state_word ^= state_word << 17;
        for (uint64_t i = 0, word = state_word; i <= (state_word & 1); i++, word >>= 24)
            body[word % (sizeof body - 1)] = alphabet[(word >> 12) % (sizeof alphabet - 1)];
        ld_arena_init(&arena, "test", 65536);
        if (scan(ld_span_of(body, sizeof body - 1), &arena, &tree, &err) == LD_OK) {
            json_t *other =
                json_loadb(body, sizeof body - 1,
                           JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_ALLOW_NUL, &where);
            if (!other)
                fail_msg("%s: %s", body, where.text);
            assert_int_equal(json_object_size(other), ld_json_root(&tree)->child_count);
            json_decref(other);
            accepted++;
        }
        ld_arena_deinit(&arena);
    }
    assert_true(accepted > 20000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(malformed_bodies_are_refused_with_their_place),
        cmocka_unit_test(equal_keys_are_refused_however_they_are_written),
        cmocka_unit_test(hostile_bodies_are_refused_cheaply),
        cmocka_unit_test(limits_hold_at_their_bounds),
        cmocka_unit_test(the_tree_is_walked_by_key_and_order),
        cmocka_unit_test(what_is_accepted_is_json_to_another_reader),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
