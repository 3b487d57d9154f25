/*
 * A model: named weights, packed for a backend part by part on first use, and the three networks
 * behind plain functions. A *variant* is the same model with some tensors replaced (adapters); it
 * shares everything that is not.
 *
 *     ld_model_open(&model, backend, path, NULL, &err);
 *     ld_model_encode_text(model, NULL, &text, context, &err);       // [chunks * 77, 768]
 *     ld_model_unet(model, NULL, &request, &err);                     // eps of every row
 *     ld_model_decode(model, latent, 64, 64, 1 / 0.18215F, NULL, picture, &err);
 *
 * One thread at a time uses a model, its variants and its backend. Rows of a batch are independent
 * of each other bit for bit.
 */
#ifndef LD_MODEL_MODEL_H
#define LD_MODEL_MODEL_H

#include "runtime/model/graph_run.h"
#include "runtime/model/keymap.h"
#include "runtime/model/unet.h"
#include "runtime/model/vae_graph.h"

struct ld_model;
struct ld_variant;

/* ---- Life ------------------------------------------------------------------------------------ */

/*
 * Open a checkpoint (errors of ld_weights_open). Nothing is packed yet. `options` may be NULL.
 * Owner    returns owned; the backend is borrowed and outlives the model.
 */
enum ld_code ld_model_open(struct ld_model **out, struct ld_backend *backend, const char *path,
                           const struct ld_weights_options *options,
                           struct ld_error *err) LD_MUST_USE;

/* The same over weights that the caller keeps open for as long as the model lives. */
enum ld_code ld_model_create(struct ld_model **out, struct ld_backend *backend,
                             const struct ld_weights *weights, struct ld_error *err) LD_MUST_USE;

/* Variants go first. */
void ld_model_destroy(struct ld_model *model);

const struct ld_arch *ld_model_arch(const struct ld_model *model);
const struct ld_weights *ld_model_weights(const struct ld_model *model);

/* Stream the weights of the model and of its variants: they stay in the host's memory and are sent
 * to each use, where the backend can do that. Before anything is packed or a variant is made. */
void ld_model_stream(struct ld_model *model);
/* Stream what turns out not to fit: a part of the model, or what a variant makes of it. */
void ld_model_stream_if_short(struct ld_model *model);
/* Whether the UNet is, as it stands. */
bool ld_model_is_streamed(const struct ld_model *model);

/*
 * Pack a part now instead of at its first use.
 * Errors   LD_E_NOT_FOUND (the file lacks the part), LD_E_SHAPE, LD_E_NOMEM, a backend's own.
 */
enum ld_code ld_model_load(struct ld_model *model, enum ld_part part,
                           struct ld_error *err) LD_MUST_USE;

/* Bytes of packed weights so far; give the activations' memory back until the next call, unless the
 * model is computing. False: there was nothing to give. */
size_t ld_model_weight_bytes(const struct ld_model *model);
bool ld_model_trim(struct ld_model *model);

/* Tests: called with every named block; NULL: none. Borrowed. */
void ld_model_set_tap(struct ld_model *model, const struct ld_graph_tap_sink *tap);
/* Tests: rows of a strip of the VAE's form STRIPS, even; 0: as many as memory suggests. */
void ld_model_set_strip_rows(struct ld_model *model, int32_t rows);

/* ---- Variants -------------------------------------------------------------------------------- */

/*
 * `overlay` (ld_weights_overlay over ld_model_weights(model)) is borrowed until ld_variant_load has
 * packed what it edits; after that it may be closed.
 */
enum ld_code ld_variant_create(struct ld_variant **out, struct ld_model *model,
                               const struct ld_weights *overlay, struct ld_error *err) LD_MUST_USE;
void ld_variant_destroy(struct ld_variant *variant);
/* Pack every part that the model has. Errors as ld_model_load. */
enum ld_code ld_variant_load(struct ld_variant *variant, struct ld_error *err) LD_MUST_USE;
/* Bytes that this variant holds beyond the model. */
size_t ld_variant_bytes(const struct ld_variant *variant);

/* ---- Text ------------------------------------------------------------------------------------ */

struct ld_text_request {
    const int32_t *ids;          /* [chunks * 77] */
    const float *const *vectors; /* [chunks * 77] or NULL; a vector replaces that id's table row */
    int32_t chunks;
    int32_t skip; /* clip skip k >= 1 */
};

/*
 * `out` [chunks * 77, width]. `variant` NULL: the model itself.
 * Errors   LD_E_RANGE (skip, an id beyond the vocabulary), and as ld_model_load.
 */
enum ld_code ld_model_encode_text(struct ld_model *model, struct ld_variant *variant,
                                  const struct ld_text_request *request, float *out,
                                  struct ld_error *err) LD_MUST_USE;

/* ---- UNet ------------------------------------------------------------------------------------ */

/* What a ControlNet looks at for one row, and how much it says. */
struct ld_unet_hint {
    const float *planes;   /* [3, 8H, 8W], 0..1 (-1 where an inpainting hint is masked) */
    uint64_t serial;       /* of these planes alone in this process, not 0 */
    const float *strength; /* [ld_control_outputs], each map's factor */
};

struct ld_unet_row {
    const float *x;       /* [4, H, W] */
    float scale;          /* multiplies x: c_in */
    float t;              /* timestep, may be fractional */
    const float *extra;   /* [Cin - 4, H, W] where the model has such channels, else NULL */
    const float *context; /* [context_tokens, width] */
    int32_t context_tokens;
    const struct ld_unet_hint *hints; /* [options.controls] */
    float *eps; /* out [4, H, W]: the network's output, whatever it predicts */
    float *qkv; /* out [3C, h, w] with options.middle_qkv, else NULL */
};

struct ld_unet_request {
    const struct ld_unet_row *rows;
    uint32_t row_count;
    int32_t height, width;
    struct ld_unet_options options;
    struct ld_model *const *controls; /* [options.controls], opened on the same backend */
    const struct ld_cancel *cancel;   /* NULL: runs to its end */
    struct ld_meanwhile meanwhile;
};

/* Errors   LD_E_RANGE, LD_E_TOO_LARGE, LD_E_CANCELLED, LD_E_UNSUPPORTED (a ControlNet of other
 * widths), and as ld_model_load, of the ControlNets too. */
enum ld_code ld_model_unet(struct ld_model *model, struct ld_variant *variant,
                           const struct ld_unet_request *request, struct ld_error *err) LD_MUST_USE;

/* ---- VAE ------------------------------------------------------------------------------------- */

/* latent [4, h, w] times `scale` -> picture [3, 8h, 8w], not clamped (model.md 2.2). */
enum ld_code ld_model_decode(struct ld_model *model, const float *latent, int32_t height,
                             int32_t width, float scale, const struct ld_cancel *cancel,
                             float *picture, struct ld_error *err) LD_MUST_USE;

/*
 * The same in another form: STRIPS gives the same picture in less memory, ESTIMATED and TILE go
 * over overlapping tiles, blended along ramps; a picture of one tile passes whole.
 */
enum ld_code ld_model_decode_form(struct ld_model *model, const float *latent, int32_t height,
                                  int32_t width, float scale, enum ld_vae_form form,
                                  const struct ld_cancel *cancel, float *picture,
                                  struct ld_error *err) LD_MUST_USE;

/* picture [3, H, W] in [-1, 1], sides multiples of 8 -> moments [8, H/8, W/8]: four planes of the
 * mean, four of the logarithm of the variance, clamped to [-30, 20]. */
enum ld_code ld_model_encode_image(struct ld_model *model, const float *picture, int32_t height,
                                   int32_t width, const struct ld_cancel *cancel, float *moments,
                                   struct ld_error *err) LD_MUST_USE;

enum ld_code ld_model_encode_form(struct ld_model *model, const float *picture, int32_t height,
                                  int32_t width, enum ld_vae_form form,
                                  const struct ld_cancel *cancel, float *moments,
                                  struct ld_error *err) LD_MUST_USE;

/* Bytes of activations that either half takes for a picture of `height` x `width` latent cells in
 * one piece; 0 where that cannot be said. */
size_t ld_model_vae_bytes(const struct ld_model *model, bool encoder, int32_t height,
                          int32_t width);
/* Whether activations lie in the host's memory, so that its free memory counts. */
bool ld_model_on_host(const struct ld_model *model);

/* ---- What decides bits ----------------------------------------------------------------------- */

/*
 * The reduction signature of a part for a latent of this size (kernels.md 13): equal where equal
 * inputs give equal bits on this device, whatever shares the batch. Builds the part's graph for one
 * image and its negative prompt, which takes a millisecond; nothing runs. 0 where the backend has
 * one order for every shape.
 * Errors   as ld_model_load and building a plan.
 */
enum ld_code ld_model_signature(struct ld_model *model, enum ld_part part, int32_t height,
                                int32_t width, uint64_t *out, struct ld_error *err) LD_MUST_USE;
/* The backend it was opened on. */
const struct ld_backend *ld_model_backend(const struct ld_model *model);

/* ---- Price ----------------------------------------------------------------------------------- */

struct ld_cost {
    size_t scratch_bytes;    /* activations, shared by all plans of a model */
    size_t persistent_bytes; /* what the plan keeps for itself */
    uint64_t macs;           /* multiply-accumulates of one run */
    uint64_t parameters;     /* of the part */
};

/* Without weights or device: build the graph, read its plan, forget it. `act_dtype` is the
 * backend's. Errors as the build. */
enum ld_code ld_cost_unet(struct ld_cost *cost, const struct ld_arch *arch, enum ld_dtype act_dtype,
                          const struct ld_unet_shape *shape, const struct ld_unet_options *options,
                          struct ld_error *err) LD_MUST_USE;
/* height, width: of the latent */
enum ld_code ld_cost_decode(struct ld_cost *cost, const struct ld_arch *arch,
                            enum ld_dtype act_dtype, int32_t height, int32_t width,
                            struct ld_error *err) LD_MUST_USE;
/* The same in strips or of one tile. */
enum ld_code ld_cost_decode_form(struct ld_cost *cost, const struct ld_arch *arch,
                                 enum ld_dtype act_dtype, int32_t height, int32_t width,
                                 enum ld_vae_form form, struct ld_error *err) LD_MUST_USE;
/* height, width: of the picture */
enum ld_code ld_cost_encode_image(struct ld_cost *cost, const struct ld_arch *arch,
                                  enum ld_dtype act_dtype, int32_t height, int32_t width,
                                  struct ld_error *err) LD_MUST_USE;
enum ld_code ld_cost_text(struct ld_cost *cost, const struct ld_arch *arch, enum ld_dtype act_dtype,
                          int32_t chunks, int32_t skip, struct ld_error *err) LD_MUST_USE;

#endif
