/*
 * What the harnesses of request bodies share: a server that knows a handful of names, and what must
 * hold of whatever it accepts.
 */
#ifndef LD_TESTS_FUZZ_REQUEST_H
#define LD_TESTS_FUZZ_REQUEST_H

#include "api/dialect_native.h"
#include "runtime/base/json.h"

#include <stdlib.h>

enum { DOCUMENT_BYTES_MAX = 1024 * 1024 };

/* A server that knows a handful of names. */
static const char *known(void *ctx, const char *name)
{
    static const char *const names[] = {"euler", "euler_ancestral", "demo", "novelai_v2", "ink"};
    (void)ctx;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(names[i], name) == 0)
            return names[i];
    return NULL;
}

static const char *any_scheduler(void *ctx, const char *name, const struct ld_request *request)
{
    (void)ctx;
    (void)request;
    return strlen(name) < 12 ? name : NULL;
}

static bool fill(void *ctx, void *out, size_t size)
{
    (void)ctx;
    memset(out, 0x5A, size);
    return true;
}

static struct ld_manifests manifests;

static const struct ld_manifest *manifest_of(void *ctx, const char *model)
{
    (void)ctx;
    return ld_manifests_for(&manifests, model);
}

static void load_manifests(void)
{
    static struct ld_arena arena;
    struct ld_error err = {0};
    if (manifests.count > 0)
        return;
    ld_arena_init(&arena, "fuzz", 1 << 20);
    if (ld_manifests_load(&manifests, NULL, &arena, &err) != LD_OK)
        abort();
}

static void must_be_json(const struct ld_buffer *text)
{
    struct ld_json json;
    struct ld_json_token token;
    ld_json_init(&json, ld_span_of(text->data, text->size), LD_JSON_DEPTH_MAX, UINT64_MAX);
    do
        if (ld_json_next(&json, &token, NULL) != LD_OK)
            abort();
    while (token.kind != LD_JSON_END);
}

/* As the server does it: uploads get ids before the request is stored. */
static void name_uploads(struct ld_native *native)
{
    static const char id[] = "0123456789abcdefghijklmnop";
    if (native->init_image.size > 0)
        native->request.init.image = native->request.upscale.image = id;
    if (native->init_mask.size > 0)
        native->request.init.mask = id;
    for (size_t i = 0; i < LD_CONTROLS_MAX; i++)
        if (native->control_images[i].size > 0)
            native->request.controls[i].image = id;
}

static void must_read_back(const struct ld_native *native)
{
    struct ld_arena arena;
    struct ld_native again;
    struct ld_buffer once = ld_buffer_make(DOCUMENT_BYTES_MAX);
    struct ld_buffer twice = ld_buffer_make(DOCUMENT_BYTES_MAX);
    ld_arena_init(&arena, "again", 4 << 20);
    ld_native_init(&again, &arena);
    ld_request_write_json(&native->request, &once);
    must_be_json(&once);
    if (ld_native_decode(&again, ld_span_of(once.data, once.size), NULL) != LD_OK)
        abort();
    ld_request_write_json(&again.request, &twice);
    if (once.size != twice.size || memcmp(once.data, twice.data, once.size) != 0)
        abort();
    ld_native_deinit(&again);
    ld_arena_deinit(&arena);
    ld_buffer_deinit(&once);
    ld_buffer_deinit(&twice);
}

/* The server behind a body. */
struct world {
    struct ld_api_names names;
    struct ld_request_limits limits;
    struct ld_random random;
    struct ld_api_context context;
};

static const struct ld_api_context *world_open(struct world *world)
{
    load_manifests();
    *world = (struct world){
        .names = {.sampler = known, .scheduler = any_scheduler, .model = known, .adapter = known},
        .limits = ld_request_limits_default(),
        .random = {NULL, fill},
    };
    world->context = (struct ld_api_context){.names = &world->names,
                                             .limits = &world->limits,
                                             .random = &world->random,
                                             .manifest = manifest_of,
                                             .image_bytes_max = 65536};
    return &world->context;
}

#endif
