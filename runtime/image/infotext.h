/*
 * The text that goes into a picture so that others can paint it again: A1111's infotext and a
 * ComfyUI graph. Nothing in it changes from run to run. Reading it back: png_meta.h.
 *
 *     struct ld_infotext_facts facts = {.model_name = "novelai_v2", .model_sha256 = "...",
 *                                       .version = "latentd " LATENTD_VERSION};
 *     ld_infotext_write(&buffer, &request, &facts);        // chunk "parameters"
 *     ld_infotext_write_graph(&buffer, &request, &facts);  // chunk "prompt"
 *
 * Source: api.md 2.7 and 6.
 */
#ifndef LD_IMAGE_INFOTEXT_H
#define LD_IMAGE_INFOTEXT_H

#include "runtime/base/buffer.h"
#include "runtime/params.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What the request alone does not say. Pointers are borrowed; NULL or "" where unknown. The request
 * is that of one picture: `seed` and `variation_seed` are the picture's own. */
struct ld_infotext_facts {
    const char *model_name, *model_sha256;             /* 64 hexadecimal digits */
    const char *hires_model_name, *hires_model_sha256; /* where the second pass has its own */
    const char *vae_sha256;                            /* of request.vae */
    const char *adapters_json;   /* [{"name": ..., "sha256": ..., ...}], others are left aside */
    const char *embeddings_json; /* the same */
    const char *control_sha256[LD_REQUEST_CONTROLS_MAX]; /* of request.controls, by their places */
    const char *version;                                 /* "latentd 0.1.0" */
    uint32_t image; /* index within its job; for the reader only */
};

/* At least three pairs on the last line; values holding `, : newline` are quoted as JSON. */
void ld_infotext_write(struct ld_buffer *out, const struct ld_request *request,
                       const struct ld_infotext_facts *facts);

/*
 * An API graph that does the same, for dropping the picture into ComfyUI: stock nodes only. What
 * they cannot do (Uncond-Zero, Automatic CFG, dynamic thresholding, blurred masks and the like) is
 * left out there.
 */
void ld_infotext_write_graph(struct ld_buffer *out, const struct ld_request *request,
                             const struct ld_infotext_facts *facts);

#ifdef __cplusplus
}
#endif
#endif
