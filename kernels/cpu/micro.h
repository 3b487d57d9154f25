/*
 * The matrix engine of one level, as the drivers of convolution, linear layers and attention see
 * it. A product is a sum over *steps*; a step is 32 values of K (of one tap, for a convolution).
 *
 *   A  rows are pixels or tokens. Packed [k-block][term][pixel][32 values]: one step of one pixel
 *      is `row_bytes` contiguous bytes and pixels follow one another, so a tap of a convolution is
 *      a pixel offset, and no value is ever copied for each tap. Without taps the same order holds
 *      within each tile alone.
 *   B  is cut into panels of `nr` columns. A panel is a row of steps, each `terms` blocks of
 *      32 x nr elements in an order of the level's own (`b_index`).
 *   C  is cut into tiles of `sub` rows by `nr` columns, row-major float32, contiguous.
 *
 * A *term* is one summand of a float32 split into bfloat16 pieces (AMX); the float32 levels have
 * one term. Every row of C is computed alone: what the other rows of a tile hold (also NaN or
 * leftovers) never reaches it, and the order of its sum depends on the steps only.
 */
#ifndef LD_KERNELS_CPU_MICRO_H
#define LD_KERNELS_CPU_MICRO_H

#include "kernels/cpu/cpu.h"

enum {
    LD_STEP_K = 32, /* values of K in a step */
    LD_TAPS_MAX = 9,
    LD_MICRO_TILES = 2, /* C tiles of one call at most */
    LD_MICRO_SUB_MAX = 16,
    LD_MICRO_NR_MAX = 32,
    LD_MICRO_TERMS_MAX = 3,
    LD_HEAD_DIM_MAX = 1024
};

/* C tile t (t < tiles) = [C tile t +] sum over blocks and taps of A B. */
struct ld_micro_call {
    const unsigned char *a[LD_MICRO_TILES]; /* first pixel of each tile, first k-block, term 0 */
    size_t a_block_stride;                  /* bytes from one k-block to the next */
    size_t a_term_stride;
    const size_t *tap_offset; /* bytes */
    int32_t taps;
    int32_t blocks; /* k-blocks; steps = blocks * taps, taps innermost */
    int32_t last_k; /* values in use in the last k-block, 1..32; the others are zero in B */
    int32_t tail;   /* further steps of one term: A one term stride apart, B one after another */
    const unsigned char *b;
    int32_t a_terms, b_terms;
    float *c[LD_MICRO_TILES];
    int32_t tiles;
    int32_t columns; /* of the panel in use, 1..nr: the others of C are undefined */
    bool add;        /* to what C holds */
};

/* The rows of C tiles that go out, with everything that happens to them on the way. */
struct ld_micro_finish {
    const float *c;     /* one tile */
    const int32_t *row; /* [sub] output row of each tile row, -1: none */
    int32_t column;     /* first output column */
    int32_t columns;    /* output columns of this panel, nr or nr / 2 at most */
    const struct ld_weight *weight;
    const float *row_add; /* or NULL */
    int32_t row_add_stride, rows_per_image;
    enum ld_activation activation;
    const float *residual;
    float *y;
    int32_t y_stride; /* of residual and y, in values */
};

/* One call of softmax, in powers of 2, over a block of scores held as C tiles. */
struct ld_micro_softmax {
    const float *scores;  /* tiles of sub rows: [panel][tile][sub][nr] */
    int32_t panel_tiles;  /* tiles from one panel to the next */
    int32_t tile;         /* the tile to work on */
    int32_t keys;         /* columns in use over all panels */
    const int32_t *valid; /* [sub] keys visible to each row, clipped to 0..keys */
    unsigned char *p;     /* A operand: [key-block][term][pixel][32], first pixel of this tile */
    size_t p_block_stride, p_term_stride;
    float *largest, *total; /* [sub] running state of each row */
    float *o;               /* C tiles of the values, from this tile on: [panel][tile][sub][nr] */
    int32_t o_panels, o_panel_tiles;
    bool first; /* no state yet */
};

/* The product of scores: `blocks` steps of so many terms, then `tail` steps of one term. */
struct ld_micro_qk {
    int32_t blocks, last_k, tail;
    int32_t a_terms, b_terms;
};

struct ld_micro {
    const char *name;
    int32_t sub;   /* rows of a C tile */
    int32_t tiles; /* C tiles a call does best */
    int32_t nr;
    size_t row_bytes;
    int32_t a_terms;
    size_t term_bytes;   /* one step of B, one term: 32 * nr elements */
    enum ld_dtype ready; /* the stored type that `multiply` takes without `expand` */

    /* Bracket the calls of one task on one thread (tile registers). */
    void (*begin)(void);
    void (*end)(void);

    /* A: one k-block of `pixels` pixels. `channels` values each, the rest of 32 become zero. */
    void (*pack_a)(unsigned char *dst, size_t term_stride, const float *src, size_t src_stride,
                   int32_t pixels, int32_t channels);

    /* B: the place of element (k, n) in a step. */
    size_t (*b_index)(int32_t k, int32_t n);
    int32_t (*b_terms)(enum ld_dtype stored);
    void (*expand)(unsigned char *dst, const void *src, enum ld_dtype stored, size_t steps);

    void (*multiply)(const struct ld_micro_call *call);
    void (*finish)(const struct ld_micro_finish *finish);

    /* Attention: how q and k are laid out for head width d, and the packing of whole rows, q times
     * `scale`; then one step of B from `keys` (<= 32) rows of v. Missing rows and columns become
     * zero. */
    struct ld_micro_qk (*qk)(int32_t d);
    void (*pack_q)(unsigned char *dst, size_t block_stride, size_t term_stride, const float *src,
                   size_t src_stride, int32_t rows, int32_t d, double scale);
    void (*pack_k)(unsigned char *dst, const float *src, size_t src_stride, int32_t keys,
                   int32_t d);
    void (*pack_v)(unsigned char *dst, const float *src, size_t src_stride, int32_t keys,
                   int32_t columns);
    void (*softmax)(const struct ld_micro_softmax *softmax);
    /* Divide `sub` rows of C tiles by `total` (NULL: copy) and store `columns` values a row. */
    void (*normalise)(float *y, size_t y_stride, int32_t rows, const float *o,
                      int32_t o_panel_tiles, int32_t columns, const float *total);
};

#endif
