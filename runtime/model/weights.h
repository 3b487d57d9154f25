/*
 * Named weights of one model, in the single-file (LDM) naming, wherever they come from: a
 * single-file checkpoint, a diffusers folder, separate UNet / VAE / text files, or an *overlay*
 * that holds merged tensors over a base. Data stays mapped, nothing is converted or copied here.
 *
 *     struct ld_weights *weights;
 *     ld_weights_open(&weights, path, NULL, &err);
 *     ld_weights_get(weights, "model.diffusion_model.out.2.weight", &view);
 */
#ifndef LD_MODEL_WEIGHTS_H
#define LD_MODEL_WEIGHTS_H

#include "kernels/tensor.h"
#include "runtime/base/arena.h"
#include "runtime/base/bytes.h"

#include <stdbool.h>

enum { LD_RANK_MAX = 8, LD_LEVELS_MAX = 8 };

/* Borrowed from the weights it was taken from. `data` may be unaligned. */
struct ld_weight_view {
    const char *name;
    const void *data;
    enum ld_dtype dtype;
    int32_t rank;
    int64_t shape[LD_RANK_MAX];
    size_t count; /* product of shape */
    float scale;  /* fp8 scale_weight, else 1 */
};

enum ld_prediction { LD_PREDICT_EPS, LD_PREDICT_V, LD_PREDICT_X0 };

/* Everything that shapes and metadata say. Zero where a part is absent. */
struct ld_arch {
    bool has_unet, has_vae_decoder, has_vae_encoder, has_text;
    bool has_control; /* a ControlNet, which has none of the other parts; its widths are the UNet's
                       */
    bool is_test_config; /* widths come from metadata latentd.test_config */
    /* UNet */
    int32_t unet_channels;                   /* 320 */
    int32_t unet_levels;                     /* 4 */
    int32_t unet_multipliers[LD_LEVELS_MAX]; /* 1 2 4 4 */
    int32_t unet_heads;                      /* 8 */
    int32_t unet_context;                    /* 768 */
    int32_t unet_in_channels;                /* 4, 9 inpainting, 8 instruct-pix2pix */
    enum ld_prediction prediction;
    bool zero_terminal_snr;
    double beta_start, beta_end; /* 0.00085, 0.012 unless a scheduler config says otherwise */
    /* VAE */
    int32_t vae_channels;                   /* 128 */
    int32_t vae_levels;                     /* 4 */
    int32_t vae_multipliers[LD_LEVELS_MAX]; /* 1 2 4 4 */
    /* Text encoder */
    int32_t text_layers, text_heads, text_width, text_mlp; /* 12 12 768 3072 */
    int32_t text_vocabulary;                               /* rows of the token embedding, 49408 */
    int32_t text_positions;                                /* 77 */
};

struct ld_weights_options {
    bool use_ema; /* prefer model_ema.* */
    bool refuse_nonfinite;
    bool control;   /* the file shall be a ControlNet, not a model */
    int prediction; /* -1: detect; else enum ld_prediction */
};

struct ld_weights;

/*
 * Open a .safetensors file or a diffusers folder. Every required tensor of each part that is
 * present exists with the exact shape, or the call fails naming what is missing or mis-shaped.
 * Owner    returns owned; ld_weights_close. `options` may be NULL.
 * Errors   LD_E_NOT_FOUND, LD_E_IO, LD_E_FORMAT, LD_E_UNSUPPORTED (SD2, SDXL, a
 * ControlNet where none is wanted, pickle...), LD_E_TOO_LARGE, LD_E_NOMEM; the sentence says what
 * the file is where that is known.
 */
enum ld_code ld_weights_open(struct ld_weights **out, const char *path,
                             const struct ld_weights_options *options,
                             struct ld_error *err) LD_MUST_USE;
void ld_weights_close(struct ld_weights *weights);

const struct ld_arch *ld_weights_arch(const struct ld_weights *weights);

/* The names of all tensors the architecture has, and how the file was understood (detect.h). */
struct ld_keymap;
struct ld_detection;
const struct ld_keymap *ld_weights_keymap(const struct ld_weights *weights);
const struct ld_detection *ld_weights_detection(const struct ld_weights *weights);

/* Values that are infinite or NaN, over all tensors in use; `first` names the first tensor with
 * one, NULL if there is none. Reads everything. */
uint64_t ld_weights_count_nonfinite(const struct ld_weights *weights, const char **first);

/* Decode a view to float32, its scale applied: `view->count` values, or `count` from `first` on. */
void ld_weight_view_decode(const struct ld_weight_view *view, float *dst);
void ld_weight_view_decode_part(const struct ld_weight_view *view, size_t first, size_t count,
                                float *dst);

/* By canonical single-file name; views (1x1 conv as linear, renamed VAE attention) are resolved, so
 * the shape is always the canonical one. False if there is no such tensor. */
bool ld_weights_get(const struct ld_weights *weights, const char *name,
                    struct ld_weight_view *view);

uint32_t ld_weights_count(const struct ld_weights *weights);
void ld_weights_at(const struct ld_weights *weights, uint32_t index, struct ld_weight_view *view);

/* __metadata__ of the (first) file; NULL if the key is absent. */
const char *ld_weights_metadata(const struct ld_weights *weights, const char *key);

/* SHA-256 over the whole file (or over the folder's files in name order) as 64 hex digits. Reads
 * the file on the first call. */
enum ld_code ld_weights_sha256(struct ld_weights *weights, char out[65],
                               struct ld_error *err) LD_MUST_USE;

/* Tell the system that this tensor's pages are no longer needed (after packing). What
 * ld_weights_make made is forgotten, and made again if it is asked for again. */
void ld_weights_drop_pages(const struct ld_weights *weights, const struct ld_weight_view *view);

/* ---- Overlays: a base with some tensors replaced --------------------------------------------- */

/* Starts empty over `base` (borrowed, must outlive it). */
enum ld_code ld_weights_overlay(struct ld_weights **out, const struct ld_weights *base,
                                struct ld_error *err) LD_MUST_USE;

/* A writable float32 copy of tensor `name` inside the overlay, decoded from what stood there
 * before; the second call for the same name returns the same copy. NULL: no such tensor or no
 * memory. The view's dtype becomes F32; `ld_weights_storage_dtype` still tells the base's type. */
float *ld_weights_edit(struct ld_weights *overlay, const char *name);

/*
 * Tensors that the overlay makes when somebody asks for them, so that a variant never stands in
 * memory whole: `touches` says which (by index in the keymap), `apply` changes one. It finds the
 * values in `values` or, with `from`, reads them there and leaves the changed ones in `values`.
 * Errors of `apply` are those of ld_weights_make.
 */
struct ld_weights_change {
    bool (*touches)(const void *ctx, uint32_t key);
    enum ld_code (*apply)(void *ctx, uint32_t key, const struct ld_weight_view *from, float *values,
                          struct ld_error *err);
    void (*destroy)(void *ctx); /* when the overlay is closed */
    void *ctx;
};

/*
 * Add a change after those that are there. From here on tensors that it touches have no data until
 * they are made, and cannot be edited. Owner: the overlay takes ctx over, unless the call fails.
 * Errors   LD_E_TOO_LARGE (64 changes).
 */
enum ld_code ld_weights_defer(struct ld_weights *overlay, const struct ld_weights_change *change,
                              struct ld_error *err) LD_MUST_USE;

/* Make tensor `name` if it waits to be made; its view is float32 until ld_weights_drop_pages.
 * Errors   LD_E_NOMEM. */
enum ld_code ld_weights_make(const struct ld_weights *weights, const char *name,
                             struct ld_error *err) LD_MUST_USE;

enum ld_dtype ld_weights_storage_dtype(const struct ld_weights *weights, const char *name);
/* True if `name` differs from the base (so a variant can share what is not replaced). */
bool ld_weights_is_edited(const struct ld_weights *weights, const char *name);

#endif
