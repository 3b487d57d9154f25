/*
 * Layers: each call appends one operator (and its weight slots) to a graph and returns the value it
 * writes. `name` is the tensor name without ".weight" / ".bias". After a failure of the graph all
 * of them return LD_GRAPH_NONE and do nothing.
 */
#ifndef LD_MODEL_GRAPH_LAYERS_H
#define LD_MODEL_GRAPH_LAYERS_H

#include "runtime/model/graph.h"

/* ---- Host memory ----------------------------------------------------------------------------- */

/* Planes [batch, channels, height, width] times scale[b] (`scale` may be LD_PORT_NONE). */
int32_t ld_graph_planes_in(struct ld_graph *graph, enum ld_port planes, enum ld_port scale,
                           int32_t batch, int32_t channels, int32_t height, int32_t width);

/* Row-major token rows [batch, tokens, channels], copied as they are. */
int32_t ld_graph_rows_in(struct ld_graph *graph, enum ld_port rows, int32_t batch, int32_t tokens,
                         int32_t channels);

void ld_graph_planes_out(struct ld_graph *graph, int32_t x, enum ld_port planes);
/* As rows: [batch, tokens, channels]. */
void ld_graph_rows_out(struct ld_graph *graph, int32_t x, enum ld_port rows);

/* ---- Layers ---------------------------------------------------------------------------------- */

struct ld_conv_args {
    int32_t x0, x1;              /* x1: joins x0 on channels, or LD_GRAPH_NONE */
    int32_t channels;            /* of the result */
    int32_t stride;              /* 0 means 1 */
    bool pad_end_only;           /* the VAE encoder's downsampling: zeros right and below only */
    int32_t up_height, up_width; /* nearest upsampling first; 0: none */
    int32_t row_add;             /* [batch, 1, 1, ...] float32, `channels` of it from ... */
    int32_t row_add_column;      /* ... this column on */
    int32_t residual;
    int32_t x0_row, x0_rows; /* only these rows of x0; 0 rows: all */
    int32_t residual_row;    /* first row of the residual that is read */
    bool no_bias;
};
/* 3x3. */
int32_t ld_graph_conv(struct ld_graph *graph, const char *name, const struct ld_conv_args *args);

struct ld_linear_args {
    int32_t x0, x1;
    int32_t channels;      /* of the result; of one part of a stack's */
    const int32_t *widths; /* channels of each part where they differ; NULL: `channels` each */
    enum ld_activation activation;
    int32_t residual;
    bool no_bias;
    int32_t rows_per_image;  /* 0: height * width of x0 */
    int32_t x0_row, x0_rows; /* only these rows of the map x0; 0 rows: all */
};
/* Linear layer or 1x1 convolution, float32 on every backend if x0 is; with LD_ACT_GEGLU the weight
 * has 2 * channels rows. */
int32_t ld_graph_linear(struct ld_graph *graph, const char *name,
                        const struct ld_linear_args *args);
/* Several of them on the same input, results side by side: [q | k | v]. */
int32_t ld_graph_linear_stack(struct ld_graph *graph, const char *const *names, uint32_t count,
                              const struct ld_linear_args *args);

/* 32 groups (model.md 2). In place where x1 is absent and x0 is not needed later. */
int32_t ld_graph_group_norm(struct ld_graph *graph, const char *name, int32_t x0, int32_t x1,
                            double epsilon, bool silu);
/* The same in two halves: what is measured of a map (a value of its own), applied to rows of it or
 * of another map; `rows` 0: all of them, then in place where x is not needed later. */
int32_t ld_graph_norm_measure(struct ld_graph *graph, const char *name, int32_t x, double epsilon);
struct ld_norm_rows {
    int32_t x, row, rows;
    int32_t fold;
    double epsilon;
    bool silu;
};
int32_t ld_graph_norm_apply(struct ld_graph *graph, const char *name,
                            const struct ld_norm_rows *args);
/* Epsilon 1e-5. */
int32_t ld_graph_layer_norm(struct ld_graph *graph, const char *name, int32_t x);

struct ld_attention_args {
    struct ld_graph_input q, k, v; /* value and first column */
    int32_t heads, head_dim;
    bool causal;
    enum ld_port kv_len; /* LD_PORT_NONE: all keys */
};
int32_t ld_graph_attention(struct ld_graph *graph, const struct ld_attention_args *args);

/* ---- The rest -------------------------------------------------------------------------------- */

/* Float32 on every backend, and so is what linear layers and SiLU make of it: a timestep's rounding
 * would reach every block of the network. */
int32_t ld_graph_timestep(struct ld_graph *graph, enum ld_port t, int32_t batch, int32_t channels);
int32_t ld_graph_silu(struct ld_graph *graph, int32_t x);
int32_t ld_graph_relu(struct ld_graph *graph, int32_t x);
int32_t ld_graph_resize(struct ld_graph *graph, int32_t x, int32_t height, int32_t width,
                        enum ld_resize_mode mode);
struct ld_scale_args {
    enum ld_port port;    /* a list of `count` floats ... */
    int32_t first, count; /* ... of which [batch] from this one on are the scale */
};
/* x + scale[b] * z. x and z have one shape. */
int32_t ld_graph_add_scaled(struct ld_graph *graph, int32_t x, int32_t z,
                            const struct ld_scale_args *scale);
/* Token and position embedding of [batch, tokens] ids; `vectors` replaces table rows. */
int32_t ld_graph_embed(struct ld_graph *graph, const char *table, int32_t vocabulary,
                       const char *positions, int32_t batch, int32_t tokens, int32_t channels);
/* Rows of `from` become rows of `to` (from ld_graph_value, or written before). */
void ld_graph_copy_rows(struct ld_graph *graph, int32_t from, int32_t from_row, int32_t rows,
                        int32_t to, int32_t to_row);
/* Through host planes; `ctx` must live in the graph's arena. */
int32_t ld_graph_host(struct ld_graph *graph, int32_t x, const struct ld_graph_host *host);

#endif
