/*
 * Proves that arenas keep their ceiling, hand out disjoint zeroed memory and run hooks newest
 * first. Works on small arenas with the ceiling met exactly.
 */
#include "runtime/base/arena.h"
#include "runtime/base/buffer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static int order[2];
static int order_count;

static void note_hook(void *object)
{
    order[order_count++] = *(int *)object;
}

static void ceiling_refuses_but_leaves_the_arena_usable(void **state)
{
    (void)state;
    struct ld_arena arena;
    ld_arena_init(&arena, "test", 20 * 1024);
    assert_non_null(ld_arena_alloc(&arena, 1000));
    assert_null(ld_arena_alloc(&arena, 1 << 20));
    assert_non_null(ld_arena_alloc(&arena, 1000));
    assert_true(arena.bytes_used <= arena.bytes_limit);
    assert_null(ld_arena_calloc(&arena, SIZE_MAX / 2, 3));
    ld_arena_deinit(&arena);
    assert_int_equal(arena.bytes_used, 0);
}

static void memory_is_zeroed_and_aligned(void **state)
{
    (void)state;
    struct ld_arena arena;
    ld_arena_init(&arena, "test", 1 << 20);
    for (size_t size = 0; size < 300; size += 7) {
        unsigned char *p = ld_arena_alloc(&arena, size);
        assert_non_null(p);
        assert_int_equal((uintptr_t)p % 16, 0);
        for (size_t i = 0; i < size; i++)
            assert_int_equal(p[i], 0);
        memset(p, 0xAB, size);
    }
    ld_arena_deinit(&arena);
}

static void hooks_run_newest_first_and_once(void **state)
{
    (void)state;
    static int first = 1;
    static int second = 2;
    struct ld_arena arena;
    ld_arena_init(&arena, "test", 1 << 20);
    order_count = 0;
    assert_true(ld_arena_on_reset(&arena, note_hook, &first));
    assert_true(ld_arena_on_reset(&arena, note_hook, &second));
    ld_arena_reset(&arena);
    ld_arena_deinit(&arena);
    assert_int_equal(order_count, 2);
    assert_int_equal(order[0], 2);
    assert_int_equal(order[1], 1);
}

static void buffer_stops_at_its_ceiling(void **state)
{
    (void)state;
    struct ld_buffer buffer = ld_buffer_make(10);
    ld_buffer_text(&buffer, "0123456789");
    assert_false(buffer.failed);
    ld_buffer_byte(&buffer, 'x');
    assert_true(buffer.failed);
    assert_string_equal(buffer.data, "0123456789");
    ld_buffer_deinit(&buffer);
}

static void json_strings_are_escaped(void **state)
{
    (void)state;
    struct ld_buffer buffer = ld_buffer_make(1000);
    ld_buffer_json_string(&buffer, "a\"\\\n\x01\xC3\xA9\xFF");
    assert_string_equal(buffer.data, "\"a\\\"\\\\\\n\\u0001\xC3\xA9\xEF\xBF\xBD\"");
    ld_buffer_clear(&buffer);
    ld_buffer_json_double(&buffer, 0.1);
    assert_string_equal(buffer.data, "0.1");
    ld_buffer_deinit(&buffer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ceiling_refuses_but_leaves_the_arena_usable),
        cmocka_unit_test(memory_is_zeroed_and_aligned),
        cmocka_unit_test(hooks_run_newest_first_and_once),
        cmocka_unit_test(buffer_stops_at_its_ceiling),
        cmocka_unit_test(json_strings_are_escaped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
