/*
 * What the workers have, as the front knows it: parsed once from a worker's hello (or from the
 * store, while no worker lives), then shared read-only. Names of requests are looked up here,
 * exactly; a request never contributes a path.
 */
#ifndef LD_SERVER_INVENTORY_H
#define LD_SERVER_INVENTORY_H

#include "api/hyper.h"
#include "api/job_view.h"
#include "api/names.h"
#include "runtime/base/arena.h"

/* A file that lies in its folder and cannot be used. */
struct ld_unusable_view {
    const char *kind; /* "model", "adapter", "embedding", "vae", "controlnet" or "wildcard" */
    const char *name, *reason;
};

struct ld_inventory {
    struct ld_model_view *models;
    struct ld_adapter_view *adapters;
    struct ld_embedding_view *embeddings;
    struct ld_controlnet_view *controlnets;
    const char **vaes, **wildcards;
    struct ld_unusable_view *unusable;
    uint32_t model_count, adapter_count, embedding_count, controlnet_count;
    uint32_t vae_count, wildcard_count, unusable_count;
};

/* The current one and those still being read. */
struct ld_inventory_box;

enum ld_code ld_inventory_box_create(struct ld_inventory_box **box,
                                     struct ld_error *err) LD_MUST_USE;
/* Nobody holds an inventory any more. */
void ld_inventory_box_destroy(struct ld_inventory_box *box);

/* Replace the current one. Errors   LD_E_FORMAT, LD_E_TOO_LARGE, LD_E_NOMEM; the old one stays. */
enum ld_code ld_inventory_set(struct ld_inventory_box *box, const char *json,
                              struct ld_error *err) LD_MUST_USE;

/* NULL until a worker has ever spoken. */
const struct ld_inventory *ld_inventory_acquire(struct ld_inventory_box *box);
void ld_inventory_release(struct ld_inventory_box *box, const struct ld_inventory *inventory);

/* Add models, adapters, VAEs and ControlNets to `names`; with a NULL inventory any name passes, and
 * the worker judges. `inventory` must stay acquired while the names are used. */
void ld_inventory_names(const struct ld_inventory *inventory, struct ld_api_names *names);

/* The adapters as recipes want them; `inventory` must stay acquired while it is used. */
struct ld_adapter_list ld_inventory_adapters(const struct ld_inventory *inventory);

/* Why the file of that name cannot be used; NULL: it can, or there is none. */
const char *ld_inventory_unusable(const struct ld_inventory *inventory, const char *kind,
                                  const char *name);

/* The model of that name, or the default one for ""; NULL if there is none. */
const struct ld_model_view *ld_inventory_model(const struct ld_inventory *inventory,
                                               const char *name);

#endif
