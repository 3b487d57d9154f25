/*
 * The UNet as an operator list, for any latent size from 1x1 and any topology of SD1.5's kind
 * (levels, widths and head counts from struct ld_arch).
 *
 * Ports    in  LD_PORT_X [B, 4, H, W] and LD_PORT_SCALE [B] (c_in of each row); LD_PORT_EXTRA
 *              [B, Cin - 4, H, W] where the model has such channels; LD_PORT_T [B];
 *              LD_PORT_CONTEXT [B, T, width], rows beyond a row's own length zero;
 *              LD_PORT_KV_LEN [B]; of each ControlNet LD_PORT_HINT [B, 3, 8H, 8W], and
 *              LD_PORT_STRENGTH [nets, outputs, B] of all.
 *          out LD_PORT_OUT [B, 4, H, W]; LD_PORT_QKV [B, 3C, h, w] if asked for.
 * The cross attention's keys and values are persistent: they depend on the context only.
 * Source   model.md 2.1; deep shrink, FreeU, PAG and SAG: sampling.md 5.8 and 6.
 */
#ifndef LD_MODEL_UNET_H
#define LD_MODEL_UNET_H

#include "runtime/model/graph.h"

enum {
    LD_LATENT_CHANNELS = 4,
    LD_LATENT_SIDE_MAX = 1 << 14, /* 131,072 pixels; keeps every product of sizes in 64 bits */
    LD_UNET_BATCH_MAX = 1024,
    LD_UNET_CONTEXT_TOKENS_MAX = 1 << 20
};

enum ld_freeu_version { LD_FREEU_OFF, LD_FREEU_V1, LD_FREEU_V2 };

/* What changes the operator list. All zero: the plain network. */
struct ld_unet_options {
    bool shrink; /* deep shrink on in this evaluation */
    bool shrink_after_skip;
    int32_t shrink_block; /* 0..11, encoder block after which the map shrinks */
    double shrink_factor;
    enum ld_resize_mode shrink_down, shrink_up;
    bool middle_identity; /* PAG: the middle block's self-attention becomes its V projection */
    bool middle_qkv;      /* SAG: hand out the middle block's q, k, v */
    enum ld_freeu_version freeu;
    float freeu_b1, freeu_b2, freeu_s1, freeu_s2;
    int32_t controls; /* ControlNets that take part: control.h */
};

struct ld_unet_shape {
    int32_t batch, height, width; /* of the latent */
    int32_t context_tokens;       /* of the longest row */
};

bool ld_unet_options_equal(const struct ld_unet_options *a, const struct ld_unet_options *b);

/* The size and channel count of the middle block, where LD_PORT_QKV comes from. */
struct ld_unet_middle {
    int32_t height, width, channels, heads;
};
struct ld_unet_middle ld_unet_middle(const struct ld_arch *arch, const struct ld_unet_shape *shape,
                                     const struct ld_unet_options *options);

/*
 * Append the network to an initialised graph; the caller finishes it.
 * Failures (kept in the graph): LD_E_RANGE for a shape or an option out of range, LD_E_UNSUPPORTED
 * for widths that no such checkpoint has, LD_E_TOO_LARGE, LD_E_NOMEM.
 */
void ld_unet_build(struct ld_graph *graph, const struct ld_arch *arch,
                   const struct ld_unet_shape *shape, const struct ld_unet_options *options);

#endif
