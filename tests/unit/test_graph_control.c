/*
 * Proves that the units of `control` stand in a picture's ComfyUI graph as that program's own
 * nodes: a chain around both prompts in the units' order, each with its loader and its picture, and
 * what those nodes cannot say left out.
 */
#include "runtime/base/json_find.h"
#include "runtime/image/graph_control.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct written {
    struct ld_buffer out;
    struct ld_graph_writer writer;
    struct ld_graph_controls controls;
    struct ld_graph_link positive, negative;
};

static struct ld_request_control unit(const char *model, const char *image)
{
    return (struct ld_request_control){.model = model,
                                       .image = image,
                                       .weight = 0.5,
                                       .end = 0.75,
                                       .low = (double)NAN,
                                       .high = (double)NAN,
                                       .resize = LD_FIT_CROP};
}

/* Both prompts and init's picture stand for nodes 7, 8 and 9, which nobody wrote. */
static void begin(struct written *w, const struct ld_request *request)
{
    *w = (struct written){.positive = {7, 0}, .negative = {8, 0}};
    w->out = ld_buffer_make(1 << 16);
    w->writer = (struct ld_graph_writer){.out = &w->out, .request = request, .init = {9, 0}};
}

static void write_pass(struct written *w, bool second)
{
    w->positive = (struct ld_graph_link){7, 0};
    w->negative = (struct ld_graph_link){8, 0};
    ld_graph_put_controls(&w->writer, &w->controls, second, &w->positive, &w->negative);
}

static void end(struct written *w)
{
    ld_buffer_byte(&w->out, '}');
    assert_false(w->out.failed);
}

static struct ld_span graph_of(const struct written *w)
{
    return ld_span_of(w->out.data, w->out.size);
}

static void has_class(const struct written *w, uint32_t node, const char *want)
{
    char pointer[64], value[64];
    assert_true(ld_fmt(pointer, sizeof pointer, "/%u/class_type", node));
    if (!ld_json_find_string(graph_of(w), pointer, value, sizeof value))
        fail_msg("no node %u in %s", node, w->out.data);
    assert_string_equal(value, want);
}

static void has_text(const struct written *w, uint32_t node, const char *name, const char *want)
{
    char pointer[64], value[128];
    assert_true(ld_fmt(pointer, sizeof pointer, "/%u/inputs/%s", node, name));
    assert_true(ld_json_find_string(graph_of(w), pointer, value, sizeof value));
    assert_string_equal(value, want);
}

static void has_number(const struct written *w, uint32_t node, const char *name, double want)
{
    char pointer[64];
    double value;
    assert_true(ld_fmt(pointer, sizeof pointer, "/%u/inputs/%s", node, name));
    assert_true(ld_json_find_double(graph_of(w), pointer, &value));
    assert_true(fabs(value - want) < 1e-12);
}

static void has_link(const struct written *w, uint32_t node, const char *name, uint32_t to,
                     uint32_t slot)
{
    char pointer[64], id[16], want[16];
    double value;
    assert_true(ld_fmt(want, sizeof want, "%u", to));
    assert_true(ld_fmt(pointer, sizeof pointer, "/%u/inputs/%s/0", node, name));
    assert_true(ld_json_find_string(graph_of(w), pointer, id, sizeof id));
    assert_string_equal(id, want);
    assert_true(ld_fmt(pointer, sizeof pointer, "/%u/inputs/%s/1", node, name));
    assert_true(ld_json_find_double(graph_of(w), pointer, &value));
    assert_true(value == slot);
}

/* ---- The tests ------------------------------------------------------------------------------- */

static void units_are_a_chain_around_both_prompts(void **state)
{
    (void)state;
    struct ld_request request = {.width = 64, .height = 96, .control_count = 2};
    request.controls[0] = unit("lines/edges", "first");
    request.controls[0].preprocess = LD_HINT_CANNY;
    request.controls[1] = unit("scribble", "second");
    request.controls[1].preprocess = LD_HINT_INVERT;
    request.controls[1].resize = LD_FIT_STRETCH;
    struct written w;
    begin(&w, &request);
    write_pass(&w, false);
    end(&w);
    has_class(&w, 1, "ControlNetLoader");
    has_text(&w, 1, "control_net_name", "lines/edges.safetensors");
    has_class(&w, 2, "LoadImage");
    has_text(&w, 2, "image", "first");
    has_class(&w, 3, "Canny");
    has_link(&w, 3, "image", 2, 0);
    has_number(&w, 3, "low_threshold", 100.0 / 255); /* the usual ones */
    has_number(&w, 3, "high_threshold", 200.0 / 255);
    has_class(&w, 4, "ControlNetApplyAdvanced");
    has_link(&w, 4, "positive", 7, 0);
    has_link(&w, 4, "negative", 8, 0);
    has_link(&w, 4, "control_net", 1, 0);
    has_link(&w, 4, "image", 3, 0);
    has_number(&w, 4, "strength", 0.5);
    has_number(&w, 4, "start_percent", 0);
    has_number(&w, 4, "end_percent", 0.75);
    has_class(&w, 5, "ControlNetLoader");
    has_class(&w, 6, "LoadImage");
    has_class(&w, 7, "ImageScale");
    has_number(&w, 7, "width", 64);
    has_number(&w, 7, "height", 96);
    has_text(&w, 7, "crop", "disabled");
    has_class(&w, 8, "ImageInvert");
    has_link(&w, 8, "image", 7, 0);
    has_class(&w, 9, "ControlNetApplyAdvanced");
    has_link(&w, 9, "positive", 4, 0);
    has_link(&w, 9, "negative", 4, 1);
    assert_int_equal(w.positive.node, 9);
    assert_int_equal(w.positive.slot, 0);
    assert_int_equal(w.negative.node, 9);
    assert_int_equal(w.negative.slot, 1);
    assert_int_equal(w.writer.last, 9);
    ld_buffer_deinit(&w.out);
}

static void each_pass_has_its_own_and_loads_nothing_twice(void **state)
{
    (void)state;
    struct ld_request request = {.width = 64, .height = 64, .control_count = 3};
    request.controls[0] = unit("a", "x");
    request.controls[1] = unit("b", "x");
    request.controls[1].passes = LD_CONTROL_FIRST;
    request.controls[2] = unit("c", "x");
    request.controls[2].passes = LD_CONTROL_SECOND;
    request.controls[2].resize = LD_FIT_STRETCH;
    request.hires.width = 128;
    request.hires.height = 192;
    struct written w;
    begin(&w, &request);
    write_pass(&w, false);
    assert_int_equal(w.writer.last, 6); /* a loader, a picture and the application of each */
    assert_int_equal(w.positive.node, 6);
    write_pass(&w, true);
    end(&w);
    has_class(&w, 7, "ControlNetApplyAdvanced");
    has_link(&w, 7, "positive", 7, 0);
    has_link(&w, 7, "control_net", 1, 0);
    has_link(&w, 7, "image", 2, 0);
    has_class(&w, 8, "ControlNetLoader");
    has_text(&w, 8, "control_net_name", "c.safetensors");
    has_class(&w, 10, "ImageScale");
    has_number(&w, 10, "width", 128); /* to the size of the only pass that it is for */
    has_number(&w, 10, "height", 192);
    has_link(&w, 11, "positive", 7, 0);
    has_link(&w, 11, "negative", 7, 1);
    assert_int_equal(w.writer.last, 11);
    ld_buffer_deinit(&w.out);
}

static void what_the_nodes_cannot_say_is_left_out(void **state)
{
    (void)state;
    struct ld_request request = {.width = 64, .height = 64, .control_count = 3};
    request.controls[0] = unit("a", ""); /* follows init's picture */
    request.controls[0].resize = LD_FIT_STRETCH;
    request.controls[0].preprocess = LD_HINT_LUMINANCE;
    request.controls[1] = unit("b", "x");
    request.controls[1].mode = LD_CONTROL_HINT;
    request.controls[1].resize = LD_FIT_PAD;
    request.controls[2] = unit("c", "x");
    request.controls[2].preprocess = LD_HINT_CANNY;
    request.controls[2].low = 1;
    request.controls[2].high = 80;
    struct written w;
    begin(&w, &request);
    write_pass(&w, false);
    end(&w);
    has_class(&w, 2, "ControlNetApplyAdvanced");
    has_link(&w, 2, "image", 9, 0);
    has_class(&w, 4, "LoadImage");
    has_class(&w, 5, "ControlNetApplyAdvanced");
    has_link(&w, 5, "image", 4, 0);
    has_class(&w, 8, "Canny");
    has_number(&w, 8, "low_threshold", 0.4); /* beyond ComfyUI's bounds: its defaults */
    has_number(&w, 8, "high_threshold", 0.8);
    ld_buffer_deinit(&w.out);
}

static void without_units_the_prompts_stay(void **state)
{
    (void)state;
    const struct ld_request request = {.width = 64, .height = 64};
    struct written w;
    begin(&w, &request);
    write_pass(&w, false);
    assert_int_equal(w.writer.last, 0);
    assert_int_equal(w.positive.node, 7);
    assert_int_equal(w.negative.node, 8);
    ld_buffer_deinit(&w.out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(units_are_a_chain_around_both_prompts),
        cmocka_unit_test(each_pass_has_its_own_and_loads_nothing_twice),
        cmocka_unit_test(what_the_nodes_cannot_say_is_left_out),
        cmocka_unit_test(without_units_the_prompts_stay),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
