#include "api/dialect_native.h"

#include "api/base64.h"
#include "config/nearest.h"

#include <math.h>

enum { NESTING_MAX = 4 }; /* objects of the table within one another */

/* One object of the body whose members are being read. */
struct frame {
    const struct ld_field *object; /* NULL: the request itself */
    const struct ld_json_node *node;
    const struct ld_json_node *member; /* the next one */
    bool is_list;                      /* `node` is the array of a list, its members are objects */
    void *base;                        /* struct ld_request, or one item of a list */
};

struct reader {
    struct ld_native *native;
    const struct ld_json_tree *tree;
    const struct ld_api_context *context;
    struct frame frames[NESTING_MAX];
    uint32_t depth;
};

/* ---- Life ------------------------------------------------------------------------------------ */

void ld_native_init(struct ld_native *native, struct ld_arena *arena)
{
    memset(native, 0, sizeof *native);
    native->arena = arena;
    native->warnings.arena = arena;
    ld_request_default(&native->request);
    ld_problem_init(&native->problem, arena);
}

void ld_native_deinit(struct ld_native *native)
{
    ld_buffer_deinit(&native->init_image);
    ld_buffer_deinit(&native->init_mask);
    for (size_t i = 0; i < LD_CONTROLS_MAX; i++)
        ld_buffer_deinit(&native->control_images[i]);
}

/* ---- Refusals -------------------------------------------------------------------------------- */

static void refuse(struct reader *reader, const struct ld_json_node *node,
                   const struct ld_error *err)
{
    char pointer[LD_ERROR_POINTER_SIZE];
    ld_json_pointer(reader->tree, node, pointer, sizeof pointer);
    ld_problem_add_error(&reader->native->problem, pointer, err);
}

static void refuse_kind(struct reader *reader, const struct ld_json_node *node,
                        const struct ld_field *field)
{
    struct ld_error err = {0};
    ld_field_refuse_kind(field, &err);
    refuse(reader, node, &err);
}

static void refuse_unknown(struct reader *reader, const struct frame *frame,
                           const struct ld_json_node *node)
{
    uint32_t count;
    const struct ld_field *fields = ld_fields(&count);
    struct ld_nearest nearest = ld_nearest_to(node->key);
    char pointer[LD_ERROR_POINTER_SIZE];
    for (uint32_t i = 0; i < count; i++)
        if (ld_field_parent(&fields[i]) == frame->object)
            ld_nearest_offer(&nearest, ld_field_key(&fields[i]));
    ld_json_pointer(reader->tree, node, pointer, sizeof pointer);
    ld_problem_add(&reader->native->problem, LD_E_INVALID, pointer, "unknown field %.*s%s",
                   node->key.size > 64 ? 64 : (int)node->key.size, (const char *)node->key.data,
                   ld_nearest_hint(&nearest));
}

/* ---- Images ---------------------------------------------------------------------------------- */

/* Where a picture's bytes go; the only list whose items have one is `control`. */
static struct ld_buffer *bytes_of(struct ld_native *native, const void *base,
                                  const struct ld_field *field)
{
    if (field->flags & LD_FIELD_ITEM) {
        const struct ld_request_control *unit = base;
        LD_ASSERT(unit >= native->request.controls &&
                  unit < native->request.controls + LD_CONTROLS_MAX);
        return &native->control_images[unit - native->request.controls];
    }
    return strcmp(field->path, "init.mask") == 0 ? &native->init_mask : &native->init_image;
}

static enum ld_code decode_image(struct reader *reader, const void *base,
                                 const struct ld_field *field, const struct ld_json_node *node,
                                 struct ld_error *err)
{
    struct ld_native *native = reader->native;
    struct ld_buffer *out = bytes_of(native, base, field);
    const size_t given_max = reader->context ? reader->context->image_bytes_max : 0;
    struct ld_span text;
    if (!ld_json_string_text(node, native->arena, &text))
        return LD_FAIL(err, LD_E_NOMEM, "out of memory");
    ld_buffer_deinit(out);
    *out = ld_buffer_make(given_max ? given_max : LD_UPLOAD_BYTES_MAX);
    const enum ld_code code = ld_base64_decode(text, out, err);
    if (code == LD_OK && out->size == 0)
        return LD_FAIL(err, LD_E_INVALID, "%s must not be empty", field->path);
    if (code == LD_E_INVALID) {
        char detail[LD_ERROR_DETAIL_SIZE];
        (void)ld_fmt(detail, sizeof detail, "%s", err->detail);
        return LD_FAIL(err, code, "%s.base64: %.200s", field->path, detail);
    }
    return code;
}

/* {"id": "..."} or {"base64": "..."}, nothing else. */
static void read_image(struct reader *reader, void *base, const struct ld_field *field,
                       const struct ld_json_node *node)
{
    struct ld_error err = {0};
    const struct ld_json_node *value = ld_json_first(reader->tree, node);
    if (node->child_count != 1 || value->kind != LD_JSON_STRING ||
        !(ld_span_is(value->key, "id") || ld_span_is(value->key, "base64"))) {
        refuse_kind(reader, node, field);
        return;
    }
    enum ld_code code;
    if (ld_span_is(value->key, "id")) {
        struct ld_span text;
        code = ld_json_string_text(value, reader->native->arena, &text)
                   ? ld_field_set_text(base, field, reader->native->arena, text, &err)
                   : LD_FAIL(&err, LD_E_NOMEM, "out of memory");
    } else {
        code = decode_image(reader, base, field, value, &err);
    }
    if (code != LD_OK)
        refuse(reader, value, &err);
}

/* ---- Values ---------------------------------------------------------------------------------- */

static enum ld_code read_text(struct reader *reader, void *base, const struct ld_field *field,
                              const struct ld_json_node *node, struct ld_error *err)
{
    struct ld_span text;
    if (field->kind == LD_FIELD_USER_DATA)
        return ld_field_refuse_kind(field, err);
    if (!ld_json_string_text(node, reader->native->arena, &text))
        return LD_FAIL(err, LD_E_NOMEM, "out of memory");
    if (field->kind == LD_FIELD_IMAGE)
        return ld_field_refuse_kind(field, err);
    return ld_field_set_text(base, field, reader->native->arena, text, err);
}

static enum ld_code read_sigmas(struct reader *reader, const struct ld_field *field,
                                const struct ld_json_node *node, struct ld_error *err)
{
    double values[LD_SIGMAS_MAX];
    uint32_t count = 0;
    if (node->child_count > LD_SIGMAS_MAX)
        return LD_FAIL(err, LD_E_RANGE, "sigmas must have %d to %d values", LD_SIGMAS_MIN,
                       LD_SIGMAS_MAX);
    for (const struct ld_json_node *item = ld_json_first(reader->tree, node); item;
         item = ld_json_after(reader->tree, item))
        if (!ld_json_number(item, &values[count++]))
            return ld_field_refuse_kind(field, err);
    return ld_request_set_sigmas(&reader->native->request, values, count, err);
}

static enum ld_code read_words(struct reader *reader, void *base, const struct ld_field *field,
                               const struct ld_json_node *node, struct ld_error *err)
{
    enum ld_code code =
        node->child_count > 0
            ? LD_OK
            : LD_FAIL(err, LD_E_INVALID, "%s must have at least one word", field->path);
    ld_field_clear_words(base, field);
    for (const struct ld_json_node *item = ld_json_first(reader->tree, node); code == LD_OK && item;
         item = ld_json_after(reader->tree, item)) {
        struct ld_span word;
        if (item->kind != LD_JSON_STRING)
            return ld_field_refuse_kind(field, err);
        if (!ld_json_string_text(item, reader->native->arena, &word))
            return LD_FAIL(err, LD_E_NOMEM, "out of memory");
        code = ld_field_add_word(base, field, word, err);
    }
    return code;
}

/* A value that needs no frame of its own. */
static enum ld_code read_plain(struct reader *reader, void *base, const struct ld_field *field,
                               const struct ld_json_node *node, struct ld_error *err)
{
    int64_t integer;
    double number;
    switch (node->kind) {
    case LD_JSON_STRING:
        return read_text(reader, base, field, node, err);
    case LD_JSON_INTEGER:
        if (ld_json_is_negative_zero(node))
            return LD_FAIL(err, LD_E_INVALID, "%s must not be -0", field->path);
        return ld_json_integer(node, &integer) ? ld_field_set_integer(base, field, integer, err)
                                               : ld_field_refuse_kind(field, err);
    case LD_JSON_REAL:
        if (ld_json_is_negative_zero(node))
            return LD_FAIL(err, LD_E_INVALID, "%s must not be -0", field->path);
        return ld_json_number(node, &number) ? ld_field_set_number(base, field, number, err)
                                             : ld_field_refuse_kind(field, err);
    case LD_JSON_TRUE:
    case LD_JSON_FALSE:
        if (field->kind == LD_FIELD_OBJECT_ON && !(field->flags & LD_FIELD_NO_TRUE)) {
            ld_request_set_object(base, field, node->kind == LD_JSON_TRUE);
            return LD_OK;
        }
        return ld_field_set_bool(base, field, node->kind == LD_JSON_TRUE, err);
    case LD_JSON_ARRAY_BEGIN:
        if (field->kind == LD_FIELD_SIGMAS)
            return read_sigmas(reader, field, node, err);
        if (field->kind == LD_FIELD_WORDS)
            return read_words(reader, base, field, node, err);
        return ld_field_refuse_kind(field, err);
    case LD_JSON_OBJECT_BEGIN:
        if (field->kind == LD_FIELD_USER_DATA)
            return ld_field_set_text(base, field, reader->native->arena, node->text, err);
        return ld_field_refuse_kind(field, err);
    case LD_JSON_NULL:
    case LD_JSON_OBJECT_END:
    case LD_JSON_ARRAY_END:
    case LD_JSON_KEY:
    case LD_JSON_END:
        break;
    }
    return ld_field_refuse_kind(field, err);
}

/* ---- Objects --------------------------------------------------------------------------------- */

static void enter(struct reader *reader, const struct ld_field *object,
                  const struct ld_json_node *node, bool is_list, void *base)
{
    const struct frame frame = {
        .object = object,
        .node = node,
        .member = ld_json_first(reader->tree, node),
        .is_list = is_list,
        .base = base,
    };
    LD_ASSERT(reader->depth < NESTING_MAX);
    reader->frames[reader->depth++] = frame;
}

/* What had to be there is known when all members were seen. */
static void leave(struct reader *reader)
{
    const struct frame *frame = &reader->frames[--reader->depth];
    uint32_t count;
    const struct ld_field *fields = ld_fields(&count);
    for (uint32_t i = 0; i < count && !frame->is_list; i++) {
        const char *key = ld_field_key(&fields[i]);
        if (!frame->object && reader->native->request.upscale.present)
            continue; /* a picture that is only enlarged needs no prompt */
        if (!(fields[i].flags & LD_FIELD_REQUIRED) ||
            ld_field_parent(&fields[i]) != frame->object ||
            ld_json_member(reader->tree, frame->node, key))
            continue;
        char pointer[LD_ERROR_POINTER_SIZE];
        char whole[LD_ERROR_POINTER_SIZE + 32];
        ld_json_pointer(reader->tree, frame->node, pointer, sizeof pointer);
        (void)ld_fmt(whole, sizeof whole, "%s/%s", pointer, key);
        ld_problem_add(&reader->native->problem, LD_E_INVALID, whole, "%s is required",
                       fields[i].path);
    }
}

static void read_item(struct reader *reader, const struct frame *list,
                      const struct ld_json_node *node)
{
    struct ld_request *request = list->base;
    if (node->kind != LD_JSON_OBJECT_BEGIN) {
        refuse_kind(reader, node, list->object);
        return;
    }
    void *item = ld_request_list_add(request, list->object);
    LD_ASSERT(item); /* read_list has counted them */
    enter(reader, list->object, node, false, item);
}

static void read_list(struct reader *reader, const struct ld_field *field,
                      const struct ld_json_node *node, void *base)
{
    struct ld_error err = {0};
    if ((double)node->child_count > field->max) {
        LD_FAIL(&err, LD_E_RANGE, "%s must have at most %.0f items", field->path, field->max);
        refuse(reader, node, &err);
        return;
    }
    *(bool *)((char *)base + field->flag_offset) = true;
    enter(reader, field, node, true, base);
}

static void read_member(struct reader *reader, const struct ld_json_node *node)
{
    const struct frame *frame = &reader->frames[reader->depth - 1];
    void *base = frame->base;
    const struct ld_field *field = ld_field_member(frame->object, node->key);
    struct ld_error err = {0};
    if (!field) {
        refuse_unknown(reader, frame, node);
        return;
    }
    if (!(field->flags & LD_FIELD_ITEM))
        ld_request_mark(&reader->native->request, field);
    if (node->kind == LD_JSON_OBJECT_BEGIN &&
        (field->kind == LD_FIELD_OBJECT || field->kind == LD_FIELD_OBJECT_ON)) {
        ld_request_set_object(base, field, true);
        enter(reader, field, node, false, base);
    } else if (node->kind == LD_JSON_ARRAY_BEGIN && field->kind == LD_FIELD_LIST) {
        read_list(reader, field, node, base);
    } else if (node->kind == LD_JSON_OBJECT_BEGIN && field->kind == LD_FIELD_IMAGE) {
        read_image(reader, base, field, node);
    } else if (read_plain(reader, base, field, node, &err) != LD_OK) {
        refuse(reader, node, &err);
    }
}

/* ---- The whole body -------------------------------------------------------------------------- */

static void refuse_double_size(struct ld_native *native)
{
    const struct ld_request *request = &native->request;
    if (!ld_request_has(request, "size"))
        return;
    if (ld_request_has(request, "width") || ld_request_has(request, "height"))
        ld_problem_add(&native->problem, LD_E_INVALID, "/size",
                       "size must not be given beside width or height");
    ld_request_mark(&native->request, ld_field_find("width"));
    ld_request_mark(&native->request, ld_field_find("height"));
}

enum ld_code ld_native_decode_tree(struct ld_native *native, const struct ld_json_tree *tree,
                                   const struct ld_json_node *object,
                                   const struct ld_api_context *context)
{
    struct reader reader = {.native = native, .tree = tree, .context = context};
    if (object->kind != LD_JSON_OBJECT_BEGIN)
        return ld_problem_add(&native->problem, LD_E_INVALID, "", "the request must be an object");
    enter(&reader, NULL, object, false, &native->request);
    while (reader.depth > 0) {
        struct frame *frame = &reader.frames[reader.depth - 1];
        const struct ld_json_node *node = frame->member;
        if (!node) {
            leave(&reader);
            continue;
        }
        frame->member = ld_json_after(tree, node);
        if (frame->is_list)
            read_item(&reader, frame, node);
        else
            read_member(&reader, node);
    }
    refuse_double_size(native);
    return native->problem.code;
}

enum ld_code ld_native_decode(struct ld_native *native, struct ld_span body,
                              const struct ld_api_context *context)
{
    struct ld_json_tree tree;
    struct ld_error err = {0};
    /* A canonical request says its defaults too: it may be longer than what was taken in. */
    const uint32_t values_max = context ? LD_JSON_VALUES : LD_JSON_CANONICAL_VALUES;
    if (ld_json_scan(&tree, body, LD_JSON_DEPTH, values_max, native->arena, &err) != LD_OK)
        return ld_problem_add_error(&native->problem, NULL, &err);
    return ld_native_decode_tree(native, &tree, ld_json_root(&tree), context);
}

/* Bytes that came in base64 get their id later; a unit that has some has a picture all the same.
 * After a refusal no unit is said to have none: it may be the one whose picture was refused. */
static enum ld_code check_request(struct ld_native *native, const struct ld_api_context *context)
{
    struct ld_request *request = &native->request;
    bool stands_in[LD_CONTROLS_MAX] = {false};
    const bool refused = native->problem.code != LD_OK;
    for (uint32_t i = 0; i < request->control_count; i++) {
        stands_in[i] =
            !request->controls[i].image[0] && (refused || native->control_images[i].size > 0);
        if (stands_in[i])
            request->controls[i].image = "base64";
    }
    const enum ld_code code =
        ld_request_check(request, context ? context->names : NULL, context ? context->limits : NULL,
                         native->arena, &native->warnings, &native->problem);
    for (uint32_t i = 0; i < request->control_count; i++)
        if (stands_in[i])
            request->controls[i].image = "";
    return code;
}

enum ld_code ld_native_settle(struct ld_native *native, const struct ld_api_context *context)
{
    struct ld_problem *problem = &native->problem;
    struct ld_request *request = &native->request;
    if (request->upscale.present)
        return ld_request_check_upscale(request, context ? context->limits : NULL,
                                        &native->warnings, problem);
    if (context && context->names && context->names->model && request->model[0]) {
        const char *model = context->names->model(context->names->ctx, request->model);
        request->model = model ? model : request->model;
    }
    const struct ld_manifest *manifest =
        context && context->manifest ? context->manifest(context->manifest_ctx, request->model)
                                     : NULL;
    if (ld_request_resolve(request, manifest, context ? context->random : NULL, native->arena,
                           &native->warnings, problem) == LD_E_NOMEM)
        return problem->code;
    if (ld_request_apply_hyper(request, context ? context->adapters : NULL,
                               context ? context->names : NULL, native->arena, &native->warnings,
                               problem) == LD_E_NOMEM)
        return problem->code;
    if (request->tipo.present && context && context->no_tipo &&
        ld_problem_add(
            problem, LD_E_INVALID, "/tipo",
            "tipo: this server has no TIPO model; models.tipo_model (--tipo-model) names "
            "its .gguf file") == LD_E_NOMEM)
        return problem->code;
    (void)check_request(native, context);
    return problem->code;
}

enum ld_code ld_native_accept(struct ld_native *native, struct ld_span body,
                              const struct ld_api_context *context)
{
    const enum ld_code code = ld_native_decode(native, body, context);
    /* Go on after a refusal, so that the answer lists everything that is wrong. */
    return code == LD_E_FORMAT || code == LD_E_NOMEM ? code : ld_native_settle(native, context);
}
