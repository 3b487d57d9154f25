/*
 * What one launch of the matmul family computes: convolutions and linear layers in one form, as the
 * kernels see it. Private to the family (conv.cu, gemm.cu, conv_edge.cu, matmul_plain.cu,
 * matmul_plan.c); everyone else uses kernels.h.
 *
 *     y[image, row, n] = act(sum_k a[image, row, k] * w[n, k] + bias[n] + row_add[image, n])
 *                      + residual[image, row, n]
 *
 * Rows are output positions of an image, K is (tap, channel) with the channel innermost. A linear
 * layer is the convolution of kernel 1 over one line of rows_per_image positions. An upsampling
 * convolution in phase form is four slabs of rows for each image, one for each parity of the
 * output position, each with its own weights of kernel 2.
 */
#ifndef LDK_MATMUL_H
#define LDK_MATMUL_H

#include "kernels/cuda/kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    LDK_MATMUL_K = 32, /* of K in one slice: no slice of a fast shape crosses a tap or source */
    LDK_MATMUL_PROMOTE = 128, /* of K that fp16 accumulators hold before they go to float32 */
    LDK_MATMUL_BAND = 8,      /* rows of tiles that are walked together */
    LDK_MOMENT_ROWS = 128,    /* of a tile that one record of moments covers, at most */
    LDK_MATMUL_STRIDE_MAX = 1 << 22, /* elements of a row of A or B, 256 of which are a tile's */
    LDK_MATMUL_LAST_OUTPUTS = 8      /* up to which the direct kernel of few outputs is offered */
};

/* Which code runs a launch. */
enum ldk_matmul_kind {
    LDK_MATMUL_PLAIN, /* one thread an output, any shape and type */
    LDK_MATMUL_FIRST, /* conv_in: a thread keeps all weights of one output channel */
    LDK_MATMUL_LAST,  /* conv_out: a warp sums 8 positions of a few outputs */
    LDK_MATMUL_ROWS,  /* few rows, float32 allowed: a warp an output */
    LDK_MATMUL_TILES  /* the tensor cores' main loop */
};

enum ldk_matmul_tile {
    LDK_TILE_GRAND,  /* 256 x 160 */
    LDK_TILE_WIDE,   /* 128 x 160 */
    LDK_TILE_TALL,   /* 256 x 128 */
    LDK_TILE_SQUARE, /* 128 x 128 */
    LDK_TILE_LOW,    /* 64 x 128 */
    LDK_TILE_NARROW, /* 64 x 64 */
    LDK_TILE_COUNT
};

struct ldk_matmul {
    /* Sources, [image][in_h * in_w][c0 | c1]. */
    const void *x0, *x1;
    int32_t c0, c1;
    bool linear;                       /* kernel 1 over one line of positions */
    int32_t in_h, in_w, up_h, up_w;    /* up 0: not upsampled (or in phase form) */
    int32_t kernel, stride, pad;       /* kernel side 1, 2 (phases) or 3; zeros before row 0 */
    int32_t grid_w;                    /* columns of the grid that rows walk */
    int32_t images, phases, positions; /* phases 1 or 4; positions: rows of one slab */

    /* Weights, [phases][w_rows][w_stride]. */
    const void *w;
    int32_t w_rows, w_stride; /* rows with padding; elements of one row */
    int32_t k_padded;         /* elements of one tap */
    int32_t n, out_n;         /* weight rows, output channels (half of them for GEGLU) */
    const float *bias;        /* [w_rows] */

    /* After the sum. */
    const void *row_add; /* [images][row_add_stride] */
    int32_t row_add_stride;
    bool row_add_f32;
    enum ldk_activation activation;
    const void *residual;
    void *y;
    float *moments; /* [image][phases * moment_tiles][out_n][4] */

    /* How it is cut. */
    int32_t m_tiles, n_tiles; /* of one slab */
    int32_t moment_tiles;     /* records of moments of one slab: one or two a tile */
    int32_t splits;
    float *partial; /* [tile][split][fragment][thread] float32x4 where splits > 1 */

    enum ldk_dtype x_dtype, w_dtype, y_dtype;
    bool fp16_accumulate;
};

/* One entry of the family's list; `number` is its place. */
struct ldk_matmul_variant {
    const char *name;
    enum ldk_matmul_kind kind;
    enum ldk_matmul_tile tile; /* of LDK_MATMUL_TILES */
    int32_t splits;
};

struct ldk_matmul_shape {
    int32_t m, n, stages, threads;
    int32_t blocks;       /* that fit one SM of 100 KB and 64 K registers */
    int32_t shared_bytes; /* dynamic */
    int32_t moment_rows;  /* of one record of moments */
};

extern const struct ldk_matmul_shape ldk_matmul_shapes[LDK_TILE_COUNT];

/* ---- The plan: pure functions of shapes (matmul_plan.c) ------------------------------------------- */

/*
 * Check the arguments, choose the variant where it is left open and fill in the launch.
 * Errors   LDK_E_INVALID for arguments that make no sense, LDK_E_UNSUPPORTED where the variant
 * asked for cannot run this shape.
 */
int ldk_matmul_plan_conv(const struct ldk_conv *c, struct ldk_matmul *m,
                         const struct ldk_matmul_variant **variant);
int ldk_matmul_plan_linear(const struct ldk_linear *l, struct ldk_matmul *m,
                           const struct ldk_matmul_variant **variant);

/* ---- The kernels' launchers ----------------------------------------------------------------------- */

int ldk_matmul_launch_taps(const struct ldk_matmul *m, enum ldk_matmul_tile tile,
                           ldk_stream stream);
int ldk_matmul_launch_rows(const struct ldk_matmul *m, enum ldk_matmul_tile tile,
                           ldk_stream stream);
/* Second half of a split K: adds the partial sums and finishes the tile. */
int ldk_matmul_launch_join(const struct ldk_matmul *m, enum ldk_matmul_tile tile,
                           ldk_stream stream);
int ldk_matmul_launch_plain(const struct ldk_matmul *m, ldk_stream stream);
int ldk_matmul_launch_few_rows(const struct ldk_matmul *m, ldk_stream stream);
int ldk_matmul_launch_first(const struct ldk_matmul *m, ldk_stream stream);
int ldk_matmul_launch_last(const struct ldk_matmul *m, ldk_stream stream);

#ifdef __cplusplus
}
#endif
#endif
