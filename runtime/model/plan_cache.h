/*
 * Finished graphs by network, shape and options, least recently used first out. A plan also owns
 * what belongs to its shape: the persistent values' memory and the host rows that a run gathers.
 */
#ifndef LD_MODEL_PLAN_CACHE_H
#define LD_MODEL_PLAN_CACHE_H

#include "runtime/model/clip.h"
#include "runtime/model/graph.h"
#include "runtime/model/keymap.h"
#include "runtime/model/unet.h"
#include "runtime/model/vae_graph.h"

enum { LD_PLANS_MAX = 32 };

/* `part` says which members count. */
struct ld_plan_key {
    enum ld_part part;
    struct ld_unet_shape unet;
    struct ld_unet_options options;
    struct ld_vae_shape vae;
    struct ld_clip_shape clip;
};

struct ld_plan {
    struct ld_plan_key key;
    struct ld_graph graph;
    void *persistent;
    float *host; /* [host_bytes / 4], the network's own use; zeroed at creation */
    size_t host_bytes;
    uint64_t context_owner; /* serial of the variant whose keys and values are held; 0: none */
    uint64_t control_owner[LD_RUN_WEIGHTS_MAX]; /* of the ControlNets' packs likewise */
    uint64_t used;                              /* stamp of the last use */
};

/* Owned by one thread. */
struct ld_plan_cache {
    struct ld_backend *backend;
    struct ld_plan *plans[LD_PLANS_MAX];
    uint32_t count;
    size_t bytes, bytes_max; /* persistent and host memory of all plans */
    uint64_t clock;
};

void ld_plan_cache_init(struct ld_plan_cache *cache, struct ld_backend *backend, size_t bytes_max);
void ld_plan_cache_deinit(struct ld_plan_cache *cache);

/* Append the network of `key` to an initialised graph, which has a layout of ControlNets where the
 * key asks for some. */
void ld_plan_build(struct ld_graph *graph, const struct ld_arch *arch,
                   const struct ld_plan_key *key);

/*
 * Every slot that any shape or option of the part can ask for, so that a pack is filled once and an
 * overlay is not needed afterwards: all text layers, and the middle block's lone V projection.
 * Errors   those of building a graph.
 */
enum ld_code ld_plan_list_slots(struct ld_weight_layout *layout, const struct ld_arch *arch,
                                enum ld_dtype act_dtype, enum ld_part part,
                                struct ld_error *err) LD_MUST_USE;

/*
 * The plan for `key`, built if there is none. It stays valid until the next call. `controls`: the
 * layout of ControlNets, where the key asks for some, else NULL.
 * Errors   those of building the graph, LD_E_NOMEM.
 */
enum ld_code ld_plan_cache_get(struct ld_plan_cache *cache, const struct ld_arch *arch,
                               struct ld_weight_layout *layout, struct ld_weight_layout *controls,
                               const struct ld_plan_key *key, size_t host_bytes,
                               struct ld_plan **out, struct ld_error *err) LD_MUST_USE;

#endif
