/*
 * The native dialect: a body of POST /v1/jobs becomes a struct ld_request. Unknown fields are
 * errors that name the field and the nearest known one; numbers are what they look like (20.0 is no
 * integer); all rejected fields are listed.
 *
 *     struct ld_native native;
 *     ld_native_init(&native, &arena);
 *     if (ld_native_accept(&native, body, &context) != LD_OK) ... native.problem ...
 *     ld_native_deinit(&native);
 */
#ifndef LD_API_DIALECT_NATIVE_H
#define LD_API_DIALECT_NATIVE_H

#include "api/hyper.h"
#include "api/json_scan.h"
#include "api/names.h"
#include "api/problem.h"
#include "api/resolve.h"
#include "api/validate.h"

/* Where decoding needs to know more than the bytes. All borrowed; any pointer may be NULL. */
struct ld_api_context {
    const struct ld_api_names *names;
    const struct ld_request_limits *limits;
    const struct ld_random *random;
    /* The manifest of a model by name ("" = the server's default); NULL function: none. */
    const struct ld_manifest *(*manifest)(void *ctx, const char *model);
    void *manifest_ctx;
    const struct ld_adapter_list *adapters; /* for hyper */
    bool no_tipo;                           /* the server has no TIPO model */
    size_t image_bytes_max;                 /* of a decoded base64 image; 0: LD_UPLOAD_BYTES_MAX */
};

/* Texts of `request` live in `arena`, which must outlive it. */
struct ld_native {
    struct ld_arena *arena;
    struct ld_request request;
    struct ld_buffer
        init_image;             /* decoded from {"base64"}; then request.init.image is "" and the */
    struct ld_buffer init_mask; /* caller puts the id of the stored upload there */
    struct ld_buffer control_images[LD_CONTROLS_MAX]; /* likewise, of request.controls[i].image */
    struct ld_warnings warnings;
    struct ld_problem problem;
};

void ld_native_init(struct ld_native *native, struct ld_arena *arena);
void ld_native_deinit(struct ld_native *native);

/* Bytes to fields only: table checks, no defaults of a model, no names. What a worker does with
 * canonical JSON. Errors: as native->problem.code. */
enum ld_code ld_native_decode(struct ld_native *native, struct ld_span body,
                              const struct ld_api_context *context) LD_MUST_USE;

/* The same from a tree, for bodies that hold a request among other things. */
enum ld_code ld_native_decode_tree(struct ld_native *native, const struct ld_json_tree *tree,
                                   const struct ld_json_node *object,
                                   const struct ld_api_context *context) LD_MUST_USE;

/* What follows decoding: the model's defaults, seeds, recipes, every check. */
enum ld_code ld_native_settle(struct ld_native *native,
                              const struct ld_api_context *context) LD_MUST_USE;

/* decode, settle. */
enum ld_code ld_native_accept(struct ld_native *native, struct ld_span body,
                              const struct ld_api_context *context) LD_MUST_USE;

#endif
