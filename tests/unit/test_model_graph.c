/* Proves that the networks' operator lists are SD1.5's: parameters, multiply-accumulates, sizes at
 * odd shapes, memory plans. How: graphs are built without weights and their totals compared with
 * the published counts of the architecture and with independent sums. */
#include "runtime/gpu/plan_mem.h"
#include "runtime/model/arch.h"
#include "runtime/model/clip.h"
#include "runtime/model/keymap.h"
#include "runtime/model/unet.h"
#include "runtime/model/vae_graph.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static const struct ld_arch SD15 = {.unet_channels = 320,
                                    .unet_levels = 4,
                                    .unet_multipliers = {1, 2, 4, 4},
                                    .unet_heads = 8,
                                    .unet_context = 768,
                                    .unet_in_channels = 4,
                                    .vae_channels = 128,
                                    .vae_levels = 4,
                                    .vae_multipliers = {1, 2, 4, 4},
                                    .text_layers = 12,
                                    .text_heads = 12,
                                    .text_width = 768,
                                    .text_mlp = 3072,
                                    .text_vocabulary = 49408,
                                    .text_positions = 77};
static const struct ld_unet_options PLAIN;

struct built {
    struct ld_weight_layout layout;
    struct ld_graph graph;
};

static void begin(struct built *built)
{
    ld_weight_layout_init(&built->layout);
    ld_graph_init(&built->graph, LD_DTYPE_F32, &built->layout);
}

static void end(struct built *built)
{
    ld_graph_deinit(&built->graph);
    ld_weight_layout_deinit(&built->layout);
}

static void build_unet(struct built *built, const struct ld_arch *arch, int32_t batch,
                       int32_t height, int32_t width, int32_t tokens,
                       const struct ld_unet_options *options)
{
    const struct ld_unet_shape shape = {batch, height, width, tokens};
    struct ld_error err = {0};
    begin(built);
    ld_unet_build(&built->graph, arch, &shape, options);
    assert_int_equal(ld_graph_finish(&built->graph, &err), LD_OK);
}

/* GMAC to the three decimals in which the specification prints them. */
static void assert_gmac(uint64_t macs, double expected)
{
    assert_true(fabs((double)macs / 1e9 - expected) < 0.0015 * 4);
}

static uint64_t macs_of(const struct ld_graph *graph, enum ld_graph_op_kind kind)
{
    uint64_t macs = 0;
    for (uint32_t i = 0; i < graph->op_count; i++)
        macs += graph->ops[i].kind == kind ? graph->ops[i].macs : 0;
    return macs;
}

/* ---- Totals ---------------------------------------------------------------------------------- */

static void the_unet_has_the_parameters_of_sd15(void **state)
{
    (void)state;
    struct built built;
    build_unet(&built, &SD15, 1, 64, 64, 77, &PLAIN);
    assert_int_equal(ld_weight_layout_values(&built.layout), 859520964);
    end(&built);
}

static void the_unet_costs_what_the_shapes_say(void **state)
{
    (void)state;
    struct built built;
    build_unet(&built, &SD15, 1, 64, 64, 77, &PLAIN);
    assert_gmac(macs_of(&built.graph, LD_GRAPH_CONV2D), 200.163);
    assert_gmac(macs_of(&built.graph, LD_GRAPH_ATTENTION), 61.247 + 1.779);
    assert_gmac(macs_of(&built.graph, LD_GRAPH_LINEAR), 116.638 + 21.810);
    end(&built);
    build_unet(&built, &SD15, 1, 128, 128, 77, &PLAIN);
    assert_gmac(macs_of(&built.graph, LD_GRAPH_CONV2D), 800.651);
    assert_gmac(macs_of(&built.graph, LD_GRAPH_ATTENTION), 979.957 + 7.115);
    end(&built);
}

static void the_vae_has_the_parameters_and_cost_of_sd15(void **state)
{
    (void)state;
    struct built built;
    struct ld_error err = {0};
    begin(&built);
    ld_vae_build_decoder(&built.graph, &SD15,
                         &(struct ld_vae_shape){.batch = 1, .height = 64, .width = 64});
    assert_int_equal(ld_graph_finish(&built.graph, &err), LD_OK);
    assert_gmac(built.graph.macs, 21.475 + 1218.605 + 17.180);
    uint64_t values = ld_weight_layout_values(&built.layout);
    end(&built);
    begin(&built);
    ld_vae_build_encoder(&built.graph, &SD15,
                         &(struct ld_vae_shape){.batch = 1, .height = 512, .width = 512});
    assert_int_equal(ld_graph_finish(&built.graph, &err), LD_OK);
    assert_gmac(built.graph.macs, 532.559 + 8.590 + 17.180);
    values += ld_weight_layout_values(&built.layout);
    assert_int_equal(values, 83653863);
    end(&built);
}

static void the_text_encoder_has_the_parameters_of_clip(void **state)
{
    (void)state;
    struct built built;
    struct ld_error err = {0};
    begin(&built);
    ld_clip_build(&built.graph, &SD15, &(struct ld_clip_shape){.chunks = 1, .skip = 1});
    assert_int_equal(ld_graph_finish(&built.graph, &err), LD_OK);
    assert_int_equal(ld_weight_layout_values(&built.layout), 123060480);
    end(&built);
}

/* How many slots want tensor `name`. */
static uint32_t uses_of(const struct ld_weight_layout *layout, const char *name)
{
    uint32_t uses = 0;
    for (uint32_t i = 0; i < layout->count; i++)
        for (uint32_t p = 0; p < layout->slots[i].part_count; p++) {
            const struct ld_weight_slot_part *part = &layout->slots[i].parts[p];
            uses += strcmp(part->weight, name) == 0;
            uses += part->bias && strcmp(part->bias, name) == 0;
        }
    return uses;
}

static void every_tensor_of_the_checkpoint_is_used_once(void **state)
{
    (void)state;
    struct built built;
    struct ld_error err = {0};
    struct ld_arch arch;
    struct ld_keymap *map;
    ld_arch_set_sd15(&arch);
    arch.text_vocabulary = 49408;
    assert_int_equal(ld_keymap_create(&map, &arch, &err), LD_OK);
    begin(&built);
    ld_unet_build(&built.graph, &SD15, &(struct ld_unet_shape){1, 8, 8, 77}, &PLAIN);
    ld_vae_build_decoder(&built.graph, &SD15,
                         &(struct ld_vae_shape){.batch = 1, .height = 8, .width = 8});
    ld_vae_build_encoder(&built.graph, &SD15,
                         &(struct ld_vae_shape){.batch = 1, .height = 8, .width = 8});
    ld_clip_build(&built.graph, &SD15, &(struct ld_clip_shape){.chunks = 1, .skip = 1});
    assert_int_equal(ld_graph_finish(&built.graph, &err), LD_OK);
    assert_int_equal(ld_keymap_count(map), 1130);
    for (uint32_t i = 0; i < ld_keymap_count(map); i++)
        if (uses_of(&built.layout, ld_keymap_at(map, i)->name) != 1)
            fail_msg("%s is not used once", ld_keymap_at(map, i)->name);
    /* Nothing else is asked for: the totals agree. */
    assert_int_equal(ld_weight_layout_values(&built.layout), 859520964 + 83653863 + 123060480);
    end(&built);
    ld_keymap_destroy(map);
}

/* ---- Timestep projections -------------------------------------------------------------------- */

/* Names of a tensor and of the block that it belongs to. */
static bool of_block(const char *name, const char *block, size_t length)
{
    return strlen(name) > length && memcmp(name, block, length) == 0;
}

/* Where in the stack the projection of the block with convolution `name` begins. */
static int32_t column_of(const struct ld_weight_slot *stack, const char *name)
{
    const char *end = strstr(name, "in_layers.2.weight");
    int32_t column = 0;
    assert_non_null(end);
    for (uint32_t p = 0; p < stack->part_count; column += stack->parts[p++].rows)
        if (of_block(stack->parts[p].weight, name, (size_t)(end - name)))
            return column;
    fail_msg("%s has no projection", name);
    return -1;
}

static void one_operator_projects_the_timestep_for_all_blocks(void **state)
{
    (void)state;
    struct built built;
    build_unet(&built, &SD15, 2, 64, 64, 77, &PLAIN);
    const struct ld_graph *graph = &built.graph;
    const struct ld_graph_op *stacks[2] = {NULL, NULL};
    uint32_t stack_count = 0;
    uint32_t blocks = 0;
    for (uint32_t i = 0; i < graph->op_count; i++)
        if (graph->ops[i].kind == LD_GRAPH_LINEAR &&
            strstr(built.layout.slots[graph->ops[i].weight[0]].parts[0].weight, "emb_layers"))
            stacks[stack_count++ % 2] = &graph->ops[i];
    assert_int_equal(stack_count, 1);
    const struct ld_weight_slot *stack = &built.layout.slots[stacks[0]->weight[0]];
    assert_int_equal(stack->part_count, 22);
    assert_int_equal(ld_graph_at(graph, stacks[0]->out)->channels, 20160);
    assert_true(ld_graph_at(graph, stacks[0]->out)->wide);
    for (uint32_t i = 0; i < graph->op_count; i++) {
        const struct ld_graph_op *op = &graph->ops[i];
        if (op->kind != LD_GRAPH_CONV2D || op->in[LD_IN_ROW_ADD].value == LD_GRAPH_NONE)
            continue;
        blocks++;
        assert_int_equal(op->in[LD_IN_ROW_ADD].value, stacks[0]->out);
        assert_int_equal(op->in[LD_IN_ROW_ADD].column,
                         column_of(stack, built.layout.slots[op->weight[0]].parts[0].weight));
        assert_int_equal(op->u.conv2d.row_add_stride, 20160);
    }
    assert_int_equal(blocks, 22);
    end(&built);
}

/* ---- Memory ---------------------------------------------------------------------------------- */

static bool lives_at(const struct ld_graph_value *value, int32_t op)
{
    return !value->persistent && value->first >= 0 && value->first <= op && op <= value->last;
}

/* No operator's inputs and output overlap, but where the graph allows the output to stand on one.
 */
static void assert_no_overlap(const struct ld_graph *graph)
{
    for (int32_t i = 0; i < (int32_t)graph->op_count; i++) {
        const struct ld_graph_op *op = &graph->ops[i];
        for (uint32_t a = 1; a < graph->value_count; a++)
            for (uint32_t b = 1; b < a; b++) {
                const struct ld_graph_value *x = &graph->values[a];
                const struct ld_graph_value *y = &graph->values[b];
                if (!lives_at(x, i) || !lives_at(y, i) || x->offset >= y->offset + y->bytes ||
                    y->offset >= x->offset + x->bytes)
                    continue;
                const int32_t out = op->out;
                const bool declared = (out == (int32_t)a && op->in_place == (int32_t)b) ||
                                      (out == (int32_t)b && op->in_place == (int32_t)a);
                assert_true(declared && x->offset == y->offset);
            }
    }
}

/* The largest sum of live bytes, counting an in-place pair once. */
static size_t live_bound(const struct ld_graph *graph)
{
    size_t bound = 0;
    for (int32_t i = 0; i < (int32_t)graph->op_count; i++) {
        size_t live = 0;
        for (uint32_t a = 1; a < graph->value_count; a++)
            if (lives_at(&graph->values[a], i))
                live += graph->values[a].bytes;
        const struct ld_graph_op *op = &graph->ops[i];
        if (op->out && op->in_place &&
            graph->values[op->out].offset == graph->values[op->in_place].offset)
            live -= graph->values[op->in_place].bytes;
        bound = live > bound ? live : bound;
    }
    return bound;
}

static void the_unets_plan_is_sound_and_tight(void **state)
{
    (void)state;
    struct built built;
    build_unet(&built, &SD15, 2, 64, 64, 154, &PLAIN);
    assert_no_overlap(&built.graph);
    const size_t bound = live_bound(&built.graph);
    assert_true(built.graph.scratch_bytes >= bound);
    /* Measured 1.11: decoder block 9 with its two sources of 640 and 320 channels. */
    assert_true((double)built.graph.scratch_bytes <= 1.12 * (double)bound);
    /* 16 transformers: 2 rows x 154 tokens x [k | v]; the sum of their widths is 12,480. */
    assert_int_equal(built.graph.persistent_bytes, (size_t)2 * 154 * 2 * 12480 * 4);
    end(&built);
}

static void the_decoders_plan_needs_the_least(void **state)
{
    (void)state;
    struct built built;
    struct ld_error err = {0};
    begin(&built);
    ld_vae_build_decoder(&built.graph, &SD15,
                         &(struct ld_vae_shape){.batch = 1, .height = 64, .width = 64});
    assert_int_equal(ld_graph_finish(&built.graph, &err), LD_OK);
    assert_no_overlap(&built.graph);
    /* Top level: 256 channels in, shortcut and first convolution of 128 each. */
    assert_int_equal(built.graph.scratch_bytes, (size_t)512 * 512 * (256 + 128 + 128) * 4);
    assert_true(live_bound(&built.graph) <= built.graph.scratch_bytes);
    end(&built);
}

/* ---- Shapes ---------------------------------------------------------------------------------- */

static const struct ld_graph_value *tapped(const struct ld_graph *graph, const char *name)
{
    for (uint32_t i = 0; i < graph->op_count; i++)
        if (graph->ops[i].tap && strcmp(graph->ops[i].tap, name) == 0)
            return ld_graph_at(graph, graph->ops[i].out);
    fail_msg("no block %s", name);
    return NULL;
}

static void every_latent_size_has_a_graph(void **state)
{
    (void)state;
    static const int32_t sizes[][2] = {{1, 1},  {1, 9},   {2, 3},   {9, 13},
                                       {11, 7}, {17, 64}, {128, 90}};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct built built;
        build_unet(&built, &SD15, 1, sizes[i][0], sizes[i][1], 77, &PLAIN);
        const struct ld_graph_value *down = tapped(&built.graph, "input_blocks.3");
        assert_int_equal(down->height, (sizes[i][0] + 1) / 2);
        assert_int_equal(down->width, (sizes[i][1] + 1) / 2);
        const struct ld_graph_value *last = tapped(&built.graph, "output_blocks.11");
        assert_int_equal(last->height, sizes[i][0]);
        assert_int_equal(last->width, sizes[i][1]);
        assert_int_equal(last->channels, 320);
        end(&built);
    }
}

static void deep_shrink_halves_the_deep_blocks(void **state)
{
    (void)state;
    struct ld_unet_options options = {.shrink = true,
                                      .shrink_after_skip = true,
                                      .shrink_block = 3,
                                      .shrink_factor = 2,
                                      .shrink_down = LD_RESIZE_BICUBIC,
                                      .shrink_up = LD_RESIZE_BICUBIC};
    struct built built;
    build_unet(&built, &SD15, 1, 104, 152, 77, &options);
    assert_int_equal(tapped(&built.graph, "input_blocks.3")->height, 52);
    assert_int_equal(tapped(&built.graph, "input_blocks.4")->height, 26);
    assert_int_equal(tapped(&built.graph, "middle_block")->height, 7);
    assert_int_equal(tapped(&built.graph, "middle_block")->width, 10);
    assert_int_equal(tapped(&built.graph, "output_blocks.7")->height, 26);
    assert_int_equal(tapped(&built.graph, "output_blocks.8")->height, 104);
    const struct ld_unet_middle middle =
        ld_unet_middle(&SD15, &(struct ld_unet_shape){1, 104, 152, 77}, &options);
    assert_int_equal(middle.height, 7);
    assert_int_equal(middle.width, 10);
    assert_int_equal(middle.channels, 1280);
    end(&built);

    /* With the skip shrunk too, block 8 works on the small map and its upsampling jumps back. */
    options.shrink_after_skip = false;
    build_unet(&built, &SD15, 1, 104, 152, 77, &options);
    assert_int_equal(tapped(&built.graph, "output_blocks.7")->height, 26);
    assert_int_equal(tapped(&built.graph, "output_blocks.8")->height, 104);
    end(&built);
}

static void deep_shrink_that_rounds_only_the_width_meets_its_skip(void **state)
{
    (void)state;
    const struct ld_unet_options options = {.shrink = true,
                                            .shrink_after_skip = true,
                                            .shrink_block = 11,
                                            .shrink_factor = 2,
                                            .shrink_down = LD_RESIZE_BICUBIC,
                                            .shrink_up = LD_RESIZE_BICUBIC};
    struct built built;
    build_unet(&built, &SD15, 2, 8, 10, 77, &options); /* 1x2 in the deepest blocks, shrunk 1x1 */
    assert_int_equal(tapped(&built.graph, "middle_block")->height, 1);
    assert_int_equal(tapped(&built.graph, "middle_block")->width, 1);
    assert_int_equal(tapped(&built.graph, "output_blocks.0")->height, 1);
    assert_int_equal(tapped(&built.graph, "output_blocks.0")->width, 2);
    end(&built);
}

static void wrong_shapes_and_options_are_refused(void **state)
{
    (void)state;
    static const struct {
        struct ld_unet_shape shape;
        struct ld_unet_options options;
    } cases[] = {
        {{0, 8, 8, 77}, {0}},
        {{1, 0, 8, 77}, {0}},
        {{1, 8, 1 << 20, 77}, {0}},
        {{1, 8, 8, 0}, {0}},
        {{1, 8, 8, 77}, {.shrink = true, .shrink_block = 12, .shrink_factor = 2}},
        {{1, 8, 8, 77}, {.shrink = true, .shrink_block = 3, .shrink_factor = (double)NAN}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct built built;
        struct ld_error err = {0};
        begin(&built);
        ld_unet_build(&built.graph, &SD15, &cases[i].shape, &cases[i].options);
        assert_int_equal(ld_graph_finish(&built.graph, &err), LD_E_RANGE);
        end(&built);
    }
}

static void a_picture_beyond_32_bit_counts_is_refused(void **state)
{
    (void)state;
    struct built built;
    struct ld_error err = {0};
    const struct ld_unet_shape shape = {1024, 1 << 14, 1 << 14, 77};
    begin(&built);
    ld_unet_build(&built.graph, &SD15, &shape, &PLAIN);
    assert_int_equal(ld_graph_finish(&built.graph, &err), LD_E_TOO_LARGE);
    end(&built);
}

static void prologue_operators_come_first(void **state)
{
    (void)state;
    struct built built;
    build_unet(&built, &SD15, 1, 8, 8, 77, &PLAIN);
    assert_int_equal(built.graph.prologue_count, 17); /* the context and 16 projections */
    assert_int_equal(built.graph.op_count, 17 + 342); /* one more is one more launch a step */
    for (uint32_t i = 0; i < built.graph.op_count; i++)
        assert_int_equal(built.graph.ops[i].prologue, i < built.graph.prologue_count);
    end(&built);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_unet_has_the_parameters_of_sd15),
        cmocka_unit_test(the_unet_costs_what_the_shapes_say),
        cmocka_unit_test(the_vae_has_the_parameters_and_cost_of_sd15),
        cmocka_unit_test(the_text_encoder_has_the_parameters_of_clip),
        cmocka_unit_test(every_tensor_of_the_checkpoint_is_used_once),
        cmocka_unit_test(one_operator_projects_the_timestep_for_all_blocks),
        cmocka_unit_test(the_unets_plan_is_sound_and_tight),
        cmocka_unit_test(the_decoders_plan_needs_the_least),
        cmocka_unit_test(every_latent_size_has_a_graph),
        cmocka_unit_test(deep_shrink_halves_the_deep_blocks),
        cmocka_unit_test(deep_shrink_that_rounds_only_the_width_meets_its_skip),
        cmocka_unit_test(wrong_shapes_and_options_are_refused),
        cmocka_unit_test(a_picture_beyond_32_bit_counts_is_refused),
        cmocka_unit_test(prologue_operators_come_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
