/* The two building blocks of the UNet: residual block and transformer. Internal to unet.c. */
#ifndef LD_MODEL_UNET_BLOCKS_H
#define LD_MODEL_UNET_BLOCKS_H

#include "runtime/model/graph_layers.h"
#include "runtime/model/unet.h"

struct ld_unet_builder {
    struct ld_graph *graph;
    const struct ld_arch *arch;
    const struct ld_unet_shape *shape;
    const struct ld_unet_options *options;
    const char *prefix;  /* of the tensors' names */
    const char *tap;     /* of the blocks' names */
    int32_t time;        /* every residual block's projection of the timestep [B, 1, 1, ...] ... */
    int32_t time_column; /* ... and where in it that of the next block begins */
    int32_t context;     /* [B, 1, T, width] */
    int32_t latent;      /* [B, H, W, 4], scaled */
    /* Told of the map that each block leaves for the way up; NULL: nobody is. */
    void (*left)(struct ld_unet_builder *builder, int32_t block, int32_t map);
    void *ctx;
};

/* Name the block whose result the latest operator wrote, without its prefix. */
void ld_unet_tap(struct ld_unet_builder *builder, const char *name);

/* x1 joins x0 on channels, or LD_GRAPH_NONE. Takes the next block's columns of `time`. */
int32_t ld_unet_resblock(struct ld_unet_builder *builder, const char *name, int32_t x0, int32_t x1,
                         int32_t channels);

/* `middle`: the one that PAG and SAG look at. */
int32_t ld_unet_transformer(struct ld_unet_builder *builder, const char *name, int32_t x,
                            bool middle);

#endif
