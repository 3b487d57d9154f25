/* What model.c and the files that run its networks share. Internal to runtime/model. */
#ifndef LD_MODEL_MODEL_STATE_H
#define LD_MODEL_MODEL_STATE_H

#include "runtime/model/model.h"
#include "runtime/model/plan_cache.h"

/* One network: the slots it wants, and the model's own handles for them. */
struct ld_model_part {
    struct ld_weight_layout layout;
    struct ld_weight_pack pack;
    bool listed; /* layout holds every slot that any options ask for */
};

struct ld_model {
    struct ld_backend *backend;
    const struct ld_weights *weights;
    struct ld_weights *owned_weights; /* NULL: borrowed */
    struct ld_model_part parts[LD_PART_COUNT];
    struct ld_plan_cache cache;
    struct ld_workspace workspace;
    const struct ld_graph_tap_sink *tap;
    bool stream_if_short;
    bool computing;     /* from ld_model_prepare to ld_model_run: the workspace is spoken for */
    int32_t strip_rows; /* tests; 0: by memory */
    uint64_t serials;   /* handed out to variants; the model itself is LD_MODEL_SERIAL */
};
enum { LD_MODEL_SERIAL = 1 };

struct ld_variant {
    struct ld_model *model;
    const struct ld_weights *overlay; /* NULL once every part is packed */
    struct ld_weight_pack packs[LD_PART_COUNT];
    uint64_t serial;
};

/* The pack that a run with `variant` (or NULL) uses, filled first. */
enum ld_code ld_model_pack(struct ld_model *model, struct ld_variant *variant, enum ld_part part,
                           const struct ld_weight_pack **out, struct ld_error *err) LD_MUST_USE;

/* The plan for `key` and a workspace that holds it; `run` is filled but for its ports. */
enum ld_code ld_model_prepare(struct ld_model *model, struct ld_variant *variant,
                              const struct ld_plan_key *key, size_t host_bytes,
                              struct ld_plan **plan, struct ld_graph_run *run,
                              struct ld_error *err) LD_MUST_USE;

/* Run what ld_model_prepare has prepared, once. Errors as ld_graph_run. */
enum ld_code ld_model_run(struct ld_model *model, const struct ld_plan *plan,
                          const struct ld_graph_run *run, struct ld_error *err) LD_MUST_USE;

#endif
