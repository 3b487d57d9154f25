/*
 * Proves that a grid reads the same from flags and from JSON, that its cells run with x fastest and
 * hold exactly their values, and that what is no grid is refused by name.
 */
#include "api/sweep.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static struct ld_arena arena;

static int make_arena(void **state)
{
    (void)state;
    ld_arena_init(&arena, "test", 1 << 20);
    return 0;
}

static int drop_arena(void **state)
{
    (void)state;
    ld_arena_deinit(&arena);
    return 0;
}

static struct ld_sweep read_json(const char *json)
{
    struct ld_error err = {0};
    struct ld_sweep sweep;
    if (ld_sweep_read(&sweep, ld_span_text(json), &arena, &err) != LD_OK)
        fail_msg("%s", err.detail);
    return sweep;
}

static struct ld_request cell_of(const struct ld_sweep *sweep, uint32_t index)
{
    struct ld_error err = {0};
    struct ld_request base;
    struct ld_request cell;
    ld_request_default(&base);
    base.sweep = "{}";
    assert_int_equal(ld_sweep_cell(sweep, index, &base, &cell, &arena, &err), LD_OK);
    return cell;
}

static void cells_run_with_x_fastest(void **state)
{
    (void)state;
    const struct ld_sweep sweep =
        read_json("{\"x\":{\"field\":\"steps\",\"values\":[10,20]},"
                  "\"y\":{\"field\":\"guidance.rescale\",\"values\":[0,0.5,\"1\"]},"
                  "\"z\":{\"field\":\"pad_context\",\"values\":[false,true]}}");
    assert_int_equal(ld_sweep_cells(&sweep), 12);
    for (uint32_t i = 0; i < 12; i++) {
        const struct ld_request cell = cell_of(&sweep, i);
        assert_int_equal(cell.steps, i % 2 ? 20 : 10);
        assert_true(cell.guidance.rescale == 0.5 * (i / 2 % 3));
        assert_int_equal(cell.pad_context, i >= 6);
        assert_string_equal(cell.sweep, "");
    }
    assert_string_equal(sweep.axes[1].labels[1], "guidance.rescale: 0.5");
}

/* An axis over a member sets it on the last unit of each cell; one over the list adds a unit. */
static void units_of_control_are_swept(void **state)
{
    (void)state;
    struct ld_error err = {0};
    struct ld_request base, cell;
    ld_request_default(&base);
    assert_int_equal(ld_request_set_text(&base, &arena, "control", "a", &err), LD_OK);
    assert_int_equal(ld_request_set_text(&base, &arena, "control", "b", &err), LD_OK);
    const struct ld_sweep sweep =
        read_json("{\"x\":{\"field\":\"control.weight\",\"values\":[0.5,2]},"
                  "\"y\":{\"field\":\"control\",\"values\":[\"c:0.25\",\"d\"]}}");
    for (uint32_t i = 0; i < 4; i++) {
        assert_int_equal(ld_sweep_cell(&sweep, i, &base, &cell, &arena, &err), LD_OK);
        assert_int_equal(cell.control_count, 3);
        assert_true(cell.controls[0].weight == 1);
        assert_true(cell.controls[1].weight == (i % 2 ? 2 : 0.5));
        assert_string_equal(cell.controls[2].model, i / 2 ? "d" : "c");
        assert_true(cell.controls[2].weight == (i / 2 ? 1 : 0.25));
    }
    ld_request_default(&base);
    assert_int_equal(ld_sweep_cell(&sweep, 0, &base, &cell, &arena, &err), LD_E_INVALID);
    assert_string_equal(err.pointer, "/sweep/x/values/0");
}

static void flags_and_json_say_the_same(void **state)
{
    (void)state;
    struct ld_error err = {0};
    struct ld_sweep flags = {0};
    struct ld_buffer out = ld_buffer_make(4096);
    assert_int_equal(ld_sweep_add(&flags, "prompt=a\\, b,c \"d\"", &arena, &err), LD_OK);
    assert_int_equal(ld_sweep_add(&flags, "seed=18446744073709551615", &arena, &err), LD_OK);
    ld_sweep_write(&flags, &out);
    assert_string_equal(out.data,
                        "{\"x\":{\"field\":\"prompt\",\"values\":[\"a, b\",\"c \\\"d\\\"\"]},"
                        "\"y\":{\"field\":\"seed\",\"values\":[\"18446744073709551615\"]}}");
    const struct ld_sweep json = read_json(out.data);
    assert_int_equal(json.axis_count, 2);
    assert_string_equal(cell_of(&json, 0).prompt, "a, b");
    assert_string_equal(cell_of(&json, 1).prompt, "c \"d\"");
    assert_true(cell_of(&json, 1).seed == UINT64_MAX);
    ld_buffer_deinit(&out);
}

static void what_is_no_grid_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *json, *words;
    } cases[] = {
        {"{}", "x, or x and y"},
        {"[1]", "x, or x and y"},
        {"{\"z\":{\"field\":\"steps\",\"values\":[1]}}", "x, or x and y"},
        {"{\"x\":{\"field\":7,\"values\":[1]}}", "sweep.x must be an object"},
        {"{\"x\":{\"field\":\"steps\",\"values\":[null]}}", "sweep.x must be an object"},
        {"{\"x\":{\"field\":\"steps\",\"values\":[\"a\\u0000b\"]}}", "sweep.x must be an object"},
        {"{\"x\":{\"field\":\"sweep\",\"values\":[1]}}", "the same for all cells"},
        {"{\"x\":{\"field\":\"init.image\",\"values\":[\"a\"]}}", "the same for all cells"},
        {"{\"x\":{\"field\":\"control.image\",\"values\":[\"a\"]}}", "the same for all cells"},
        {"{\"x\":{\"field\":\"output.compression\",\"values\":[1]}}", "the same for all cells"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct ld_error err = {0};
        struct ld_sweep sweep;
        assert_int_equal(ld_sweep_read(&sweep, ld_span_text(cases[i].json), &arena, &err),
                         LD_E_INVALID);
        if (!strstr(err.detail, cases[i].words))
            fail_msg("%s: %s", cases[i].json, err.detail);
        assert_true(strncmp(err.pointer, "/sweep", 6) == 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(cells_run_with_x_fastest, make_arena, drop_arena),
        cmocka_unit_test_setup_teardown(units_of_control_are_swept, make_arena, drop_arena),
        cmocka_unit_test_setup_teardown(flags_and_json_say_the_same, make_arena, drop_arena),
        cmocka_unit_test_setup_teardown(what_is_no_grid_is_refused, make_arena, drop_arena),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
