/*
 * A network as data: values (tensors with lifetimes) and operators in order, built once for one
 * shape, run many times. Operators are the structs of kernels/ops.h; where those hold pointers, the
 * graph holds value numbers, weight slots and ports (host memory bound at run time). So a graph
 * needs neither weights nor a device to be built, planned and priced.
 *
 *     ld_graph_init(&graph, LD_DTYPE_F32, &layout);
 *     int32_t x = ld_graph_planes_in(&graph, LD_PORT_X, LD_PORT_NONE, 1, 4, 64, 64);
 *     ... helpers of graph_layers.h ...
 *     if (ld_graph_finish(&graph, &err) != LD_OK) ...       // graph.scratch_bytes is known now
 *
 * Builders do not check each call: the first failure is kept and reported by ld_graph_finish.
 */
#ifndef LD_MODEL_GRAPH_H
#define LD_MODEL_GRAPH_H

#include "runtime/model/weight_set.h"

enum {
    LD_GRAPH_NONE = 0,
    LD_GRAPH_INPUTS_MAX = 4,
    LD_GRAPH_WEIGHTS_MAX = 2,
    LD_GRAPH_PORTS_MAX = 2,
    LD_GRAPH_SETS_MAX = 1 + LD_RUN_WEIGHTS_MAX /* of weights: the network's own and ControlNets' */
};

/* ---- Values ---------------------------------------------------------------------------------- */

/* [batch, height, width, channels]; tokens are height 1. */
struct ld_graph_value {
    int32_t batch, height, width, channels;
    bool persistent; /* keeps its content from run to run, outside the shared scratch memory */
    bool wide;       /* float32 whatever the activation type */
    int32_t moments; /* value that holds this one's moments for a group norm, or LD_GRAPH_NONE */
    bool patched;    /* rows of it are written after its first writer: its moments do not last */
    int32_t shares;  /* value in whose memory this one lies, row by row behind its last reads, or
                        LD_GRAPH_NONE */
    size_t bytes, offset;
    int32_t first, last; /* operator indices; first -1: not written yet */
};

/* ---- Ports: host memory that a run binds ----------------------------------------------------- */

enum ld_port {
    LD_PORT_NONE,
    LD_PORT_X,       /* in: planes [B, C, H, W] float32 */
    LD_PORT_EXTRA,   /* in: planes that join x on channels (inpainting) */
    LD_PORT_SCALE,   /* in: [B] float32, multiplies x */
    LD_PORT_T,       /* in: [B] float32 timesteps */
    LD_PORT_CONTEXT, /* in: [B, T, width] float32 */
    LD_PORT_KV_LEN,  /* in: [B] int32, context tokens in use */
    LD_PORT_IDS,     /* in: [rows] int32 token ids */
    LD_PORT_VECTORS, /* in: [rows] float32 vectors or NULL, instead of table rows */
    LD_PORT_HINT, /* in: planes [B, 3, 8H, 8W] float32 of the first ControlNet; the next ports: */
    LD_PORT_HINT_LAST = LD_PORT_HINT + LD_RUN_WEIGHTS_MAX - 1, /* ... of the others */
    LD_PORT_STRENGTH, /* in: [ControlNets, outputs, B] float32 */
    LD_PORT_OUT,      /* out: planes float32 */
    LD_PORT_QKV,      /* out: planes of the middle block's fused q, k, v */
    LD_PORT_COUNT
};

/* ---- Operators ------------------------------------------------------------------------------- */

enum ld_graph_op_kind {
    LD_GRAPH_CONV2D,
    LD_GRAPH_LINEAR,
    LD_GRAPH_GROUP_NORM,
    LD_GRAPH_LAYER_NORM,
    LD_GRAPH_ATTENTION,
    LD_GRAPH_TIMESTEP,
    LD_GRAPH_EMBED,
    LD_GRAPH_MAP,
    LD_GRAPH_RESIZE,
    LD_GRAPH_ADD_SCALED,
    LD_GRAPH_PLANES_IN,
    LD_GRAPH_PLANES_OUT,
    LD_GRAPH_HOST
};

/* What each input stands for; an attention has Q, K, V instead. */
enum { LD_IN_X0 = 0, LD_IN_X1 = 1, LD_IN_RESIDUAL = 2, LD_IN_ROW_ADD = 3 };
enum { LD_IN_Q = 0, LD_IN_K = 1, LD_IN_V = 2 };
enum { LD_IN_FOLD = 2 };           /* of a norm that applies what another has measured */
enum { LD_IN_X = 0, LD_IN_Z = 1 }; /* of a scaled sum */

struct ld_graph_input {
    int32_t value;  /* LD_GRAPH_NONE: absent */
    int32_t column; /* first channel, for slices of a fused projection */
    int32_t row;    /* first row of the map, for strips of it */
};

/* A function on the host's copy of a value: planes [batch, channels, height, width], in place.
 * For rare arithmetic that is not worth an operator on every backend. */
struct ld_graph_host {
    void (*run)(const void *ctx, float *planes, int32_t batch, int32_t channels, int32_t height,
                int32_t width);
    const void *ctx; /* in the graph's arena */
};

struct ld_graph_op {
    enum ld_graph_op_kind kind;
    bool prologue;   /* depends on the context only, see ld_graph_run */
    const char *tap; /* name of the block whose result this operator writes, or NULL */
    struct ld_graph_input in[LD_GRAPH_INPUTS_MAX];
    int32_t out;
    int32_t out_row;                      /* of `out`, with `partial` */
    bool partial;                         /* writes rows of a value, which may stand already */
    int32_t in_place;                     /* value that `out` may stand on, or LD_GRAPH_NONE */
    int32_t weight[LD_GRAPH_WEIGHTS_MAX]; /* slots: weight; gamma, beta; table, positions */
    uint32_t set;                         /* of weights, 0: the network's own */
    enum ld_port port[LD_GRAPH_PORTS_MAX];
    int32_t port_first; /* of what is bound to port[0], the first float that is read */
    uint64_t macs;
    union {
        struct ld_conv2d conv2d;
        struct ld_linear linear;
        struct ld_group_norm group_norm;
        struct ld_layer_norm layer_norm;
        struct ld_attention attention;
        struct ld_timestep timestep;
        struct ld_embed embed;
        struct ld_map map;
        struct ld_resize resize;
        struct ld_add_scaled add_scaled;
        struct ld_planes_in planes_in;
        struct ld_planes_out planes_out;
        struct ld_graph_host host;
    } u;
};

/* ---- The graph ------------------------------------------------------------------------------- */

/* Owned by one thread while it is built; read-only after ld_graph_finish. */
struct ld_graph {
    uint64_t serial; /* of this graph alone in this process, given by ld_graph_init */
    enum ld_dtype act_dtype;
    struct ld_weight_layout *layout; /* borrowed, shared by all graphs of one network */
    struct ld_weight_layout
        *control_layout;           /* likewise, of every ControlNet; NULL: there is none */
    struct ld_arena arena;         /* names, contexts of host operators */
    struct ld_graph_value *values; /* [0] is LD_GRAPH_NONE */
    uint32_t value_count, value_capacity;
    struct ld_graph_op *ops;
    uint32_t op_count, op_capacity;
    bool in_prologue; /* operators added now are prologue operators */
    uint32_t set;     /* operators added now take this set of weights */
    bool no_sharing;  /* tests: every value has a place of its own */
    enum ld_code failed;
    char failure[128];
    /* After ld_graph_finish: */
    uint32_t prologue_count; /* they come first */
    size_t scratch_bytes, persistent_bytes, staging_bytes;
    bool has_host_ops; /* the host works on values between operators */
    uint64_t macs;
};

void ld_graph_init(struct ld_graph *graph, enum ld_dtype act_dtype,
                   struct ld_weight_layout *layout);
void ld_graph_deinit(struct ld_graph *graph);

/* The layout that a set of weights follows: all ControlNets have one. */
struct ld_weight_layout *ld_graph_layout(const struct ld_graph *graph, uint32_t set);

/* Scratch that `ops` (a backend's table) wants for the greediest operator. */
size_t ld_graph_workspace_bytes(const struct ld_graph *graph, const struct ld_ops *ops);

/* A new value, LD_GRAPH_NONE after a failure. Dimensions must be positive. */
int32_t ld_graph_value(struct ld_graph *graph, int32_t batch, int32_t height, int32_t width,
                       int32_t channels);
const struct ld_graph_value *ld_graph_at(const struct ld_graph *graph, int32_t value);

/* Make a value that nothing has written yet float32 on every backend. */
void ld_graph_widen(struct ld_graph *graph, int32_t value);

/* Append an operator (copied). `op->out` must be new, its inputs written before. */
void ld_graph_push(struct ld_graph *graph, const struct ld_graph_op *op);

/* Name the block whose result the latest operator wrote. */
void ld_graph_tap(struct ld_graph *graph, const char *name);

/* printf into the graph's arena; "" after a failure. */
const char *ld_graph_name(struct ld_graph *graph, const char *format, ...) LD_PRINTF(2, 3);

/* Keep the first failure. */
void ld_graph_fail(struct ld_graph *graph, enum ld_code code, const char *why);

/*
 * Move prologue operators to the front, compute lifetimes and plan memory. Where activations are 16
 * bits wide (a GPU), maps that a group norm reads get room for the moments their writers leave.
 * Errors   the first failure of the building, LD_E_TOO_LARGE, LD_E_NOMEM.
 */
enum ld_code ld_graph_finish(struct ld_graph *graph, struct ld_error *err) LD_MUST_USE;

#endif
