/*
 * Proves that no body of another program's interface breaks its translation: the first byte chooses
 * the call, the rest is the body. What is accepted has a canonical form that reads back to itself,
 * and a refusal is JSON in that interface's own shape with an error's status.
 */
#include "api/dialect_a1111.h"
#include "api/dialect_comfy.h"
#include "api/dialect_novelai.h"
#include "api/dialect_openai.h"
#include "api/dialect_upscale.h"
#include "fuzz_request.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum call {
    TXT2IMG,
    IMG2IMG,
    EXTRA,
    GENERATIONS,
    EDITS,
    VARIATIONS,
    NOVELAI,
    NOVELAI_STREAM,
    NOVELAI_UPSCALE,
    COMFY,
    CALLS
};

static enum ld_dialect dialect_of(enum call call)
{
    return call <= EXTRA             ? LD_DIALECT_A1111
           : call <= VARIATIONS      ? LD_DIALECT_OPENAI
           : call <= NOVELAI_UPSCALE ? LD_DIALECT_NOVELAI
                                     : LD_DIALECT_COMFY;
}

static bool size_of_upload(void *ctx, const char *id, int32_t *width, int32_t *height)
{
    (void)ctx;
    *width = 128;
    *height = 64;
    return id[0] != 'z';
}

/* ---- Translations ---------------------------------------------------------------------------- */

static void translate_openai(struct ld_translation *t, struct ld_span body, enum call which,
                             struct ld_arena *arena)
{
    struct ld_error err = {0};
    struct ld_openai_call call = {.kind = (enum ld_openai_kind)(which - GENERATIONS),
                                  .default_steps = 28};
    const enum ld_code code =
        which == GENERATIONS
            ? ld_json_scan_wide(&call.tree, body, LD_JSON_DEPTH, LD_JSON_VALUES, arena, &err)
            : ld_openai_read_form(&call, "multipart/form-data; boundary=x", body, arena, &err);
    if (code != LD_OK)
        (void)ld_problem_add_error(&t->native->problem, NULL, &err);
    else if (ld_json_root(&call.tree)->kind == LD_JSON_OBJECT_BEGIN)
        ld_openai_translate(t, &call);
}

static void translate_comfy(struct ld_translation *t, const struct ld_json_tree *tree)
{
    struct ld_comfy_call call = {
        .tree = *tree,
        .lists = {.models = "[\"demo.safetensors\"]",
                  .vaes = "[]",
                  .loras = "[\"ink.safetensors\"]",
                  .samplers = "[\"euler\",\"euler_ancestral\"]",
                  .schedulers = "[\"simple\",\"normal\"]",
                  .controlnets = "[\"edges.safetensors\"]",
                  .images = "[\"0123456789abcdefghjkmnpqrs.png\"]"},
        .image_size = size_of_upload,
    };
    call.node_errors = ld_buffer_make(LD_COMFY_LIST_BYTES_MAX);
    ld_comfy_translate(t, &call);
    if (call.node_error_count > 0 || call.error_type) {
        struct ld_buffer out = ld_buffer_make(2 * LD_COMFY_LIST_BYTES_MAX);
        ld_comfy_write_refusal(&call, &out);
        must_be_json(&out);
        ld_buffer_deinit(&out);
        if (t->native->problem.code == LD_OK)
            abort();
    }
    ld_buffer_deinit(&call.node_errors);
}

static void translate(struct ld_translation *t, struct ld_span body, enum call which,
                      struct ld_arena *arena)
{
    static const struct ld_a1111_options options = {.model = "demo.safetensors [0123456789]",
                                                    .format = "webp"};
    struct ld_novelai_call novelai = {.stream =
                                          which == NOVELAI ? LD_NOVELAI_ZIP : LD_NOVELAI_MSGPACK};
    struct ld_novelai_upscale said;
    struct ld_json_tree tree;
    struct ld_error err = {0};
    const uint32_t values = which == COMFY ? LD_JSON_GRAPH_VALUES : LD_JSON_VALUES;
    if (dialect_of(which) == LD_DIALECT_OPENAI) {
        translate_openai(t, body, which, arena);
        return;
    }
    if (ld_json_scan_wide(&tree, body, LD_JSON_DEPTH, values, arena, &err) != LD_OK) {
        (void)ld_problem_add_error(&t->native->problem, NULL, &err);
        return;
    }
    if (ld_json_root(&tree)->kind != LD_JSON_OBJECT_BEGIN) {
        (void)ld_problem_add(&t->native->problem, LD_E_INVALID, "", "no object");
        return;
    }
    if (which == TXT2IMG || which == IMG2IMG)
        ld_a1111_translate(t, &tree, which == IMG2IMG, &options);
    else if (which == EXTRA)
        ld_a1111_translate_extra(t, &tree, &options);
    else if (which == NOVELAI_UPSCALE)
        ld_novelai_translate_upscale(t, &tree, &said);
    else if (which == COMFY)
        translate_comfy(t, &tree);
    else {
        novelai.tree = tree;
        ld_novelai_translate(t, &novelai);
    }
}

/* ---- The harness ----------------------------------------------------------------------------- */

static void refused(const struct ld_problem *problem, enum ld_dialect dialect)
{
    struct ld_buffer out = ld_buffer_make(DOCUMENT_BYTES_MAX);
    ld_dialect_write_problem(dialect, problem, "/a/path", &out);
    must_be_json(&out);
    if (ld_dialect_status(dialect, problem) < 400)
        abort();
    ld_buffer_deinit(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct world world;
    const struct ld_api_context *context = world_open(&world);
    struct ld_arena arena;
    struct ld_native native;
    struct ld_translation t;
    struct ld_recipe recipe = {0};
    if (size == 0)
        return 0;
    const enum call which = (enum call)(data[0] % CALLS);
    ld_arena_init(&arena, "fuzz", 16 << 20);
    ld_native_init(&native, &arena);
    ld_translation_init(&t, &native);
    translate(&t, ld_span_of(data + 1, size - 1), which, &arena);
    if (ld_translation_finish(&t, &recipe) &&
        ld_native_accept(&native, ld_span_of(recipe.request.data, recipe.request.size), context) ==
            LD_OK) {
        name_uploads(&native);
        must_read_back(&native);
    } else {
        refused(&native.problem, dialect_of(which));
    }
    ld_recipe_deinit(&recipe);
    ld_translation_deinit(&t);
    ld_native_deinit(&native);
    ld_arena_deinit(&arena);
    return 0;
}
