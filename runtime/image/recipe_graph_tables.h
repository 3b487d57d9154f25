/* What ComfyUI's nodes mean in a native request: one row an input. */
#ifndef LD_IMAGE_RECIPE_GRAPH_TABLES_H
#define LD_IMAGE_RECIPE_GRAPH_TABLES_H

#include <stddef.h>

enum ld_graph_put {
    LD_PUT_NUMBER,
    LD_PUT_WHOLE,
    LD_PUT_SEED,
    LD_PUT_BOOL,
    LD_PUT_WORD,   /* lower case, blanks as '_' */
    LD_PUT_FILE,   /* a model's file name without its ending */
    LD_PUT_LATENT, /* a resampling method of latents: "latent-bislerp" */
    LD_PUT_PIXEL   /* one of pictures: "pixel-bicubic" */
};

struct ld_graph_row {
    const char *class_type;
    const char *input;
    const char *path;
    enum ld_graph_put how;
    const char *constant; /* JSON value to put instead of an input; NULL: the input */
};

/* Model patches, samplers, schedulers, guiders, noise and latent resizers; ended by class_type
 * NULL.
 */
extern const struct ld_graph_row ld_graph_patch_rows[];

#endif
