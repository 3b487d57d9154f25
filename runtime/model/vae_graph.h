/*
 * The VAE's two halves as operator lists.
 *
 * Decoder  in LD_PORT_X [B, 4, h, w] with LD_PORT_SCALE [B] (1 / 0.18215 for a sampler's latent);
 *          out LD_PORT_OUT [B, 3, 8h, 8w], not clamped; 0 is black plus white halves: (y + 1) / 2.
 *          ESTIMATED: a sample of the latent in LD_PORT_EXTRA.
 * Encoder  in LD_PORT_X [B, 3, H, W] in [-1, 1]; out LD_PORT_OUT [B, 8, H/8, W/8]: four mean
 *          planes, then four logvar planes, not clamped.
 * (8 is 2^(levels - 1).) Source: model.md 2.2.
 */
#ifndef LD_MODEL_VAE_GRAPH_H
#define LD_MODEL_VAE_GRAPH_H

#include "runtime/model/graph.h"

/*
 * How a large picture passes (kernels.md 3).
 *   WHOLE      every map in one piece.
 *   STRIPS     the same operators over strips of rows, each with a row of its neighbours; norms are
 *              measured on whole maps and applied strip by strip inside the next convolution, and
 *              results take the place of their residuals. So no normalised map and no second
 *              residual ever stands: about half of WHOLE's memory. WHOLE's bits on the CPU; on a
 *              GPU its sums may be cut elsewhere (moments by tiles of what wrote them, K where a
 *              kernel for fewer rows splits it), which moves last bits.
 *   ESTIMATED  one tile of a picture, with the norms of a sample of the picture (LD_PORT_EXTRA:
 *              half its sides, at least a tile) that runs as the prologue: no seams, a slight
 *              shift of tone.
 *   TILE       one tile by itself, its norms its own.
 */
enum ld_vae_form { LD_VAE_FORM_WHOLE, LD_VAE_FORM_STRIPS, LD_VAE_FORM_ESTIMATED, LD_VAE_FORM_TILE };

struct ld_vae_shape {
    int32_t batch, height,
        width; /* of the input: latent for the decoder, picture for the encoder */
    enum ld_vae_form form;
    int32_t sample_height, sample_width; /* of ESTIMATED */
    int32_t strip_rows;                  /* STRIPS: of a map; 0: as many as fit a strip's bytes */
};
/* A strip of a map takes at most this much, and at most this part of a map as wide and high as the
 * picture: a small picture in strips is to take less than in one piece, too. */
enum { LD_VAE_STRIP_BYTES = 16 << 20, LD_VAE_STRIP_PART = 8 };

/* Side of a tile, and what neighbours share of it, in latent cells (kernels.md 3). */
enum { LD_VAE_TILE_SIDE = 64, LD_VAE_TILE_OVERLAP = 16 };

/* Append to an initialised graph; failures are kept in it: LD_E_RANGE, LD_E_UNSUPPORTED,
 * LD_E_TOO_LARGE, LD_E_NOMEM. */
void ld_vae_build_decoder(struct ld_graph *graph, const struct ld_arch *arch,
                          const struct ld_vae_shape *shape);
void ld_vae_build_encoder(struct ld_graph *graph, const struct ld_arch *arch,
                          const struct ld_vae_shape *shape);

/* Picture rows or columns per latent one. */
int32_t ld_vae_factor(const struct ld_arch *arch);

#endif
