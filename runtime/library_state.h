/* What the files of the library share. Internal; library.h is the way in. */
#ifndef LD_RUNTIME_LIBRARY_STATE_H
#define LD_RUNTIME_LIBRARY_STATE_H

#include "runtime/library.h"
#include "runtime/model/model_need.h"
#include "runtime/model/registry.h"

enum {
    LD_RESIDENTS_MAX = 4,
    LD_SIDES_MAX = 16,
    LD_VARIANTS_MAX = 64,
    LD_NEEDS_MAX = 8,
    LD_VECTORS_ARENA_MAX = 512 << 20, /* embeddings of one model */
    LD_INVENTORY_BYTES_MAX = 16 << 20
};

struct ld_variant_entry {
    char key[LD_SHA256_HEX_SIZE]; /* of model, adapters in order, weights */
    struct ld_resident *model;    /* whose plans it runs: equal files by two names are two */
    struct ld_variant *variant;
    struct ld_buffer report; /* what applying told, for later users */
    size_t bytes;
    uint64_t serial, used;
    uint32_t users;
};

/* A model beside the checkpoints: a VAE or a ControlNet. */
struct ld_side_entry {
    enum ld_registry_kind kind;
    char name[LD_REGISTRY_NAME_MAX + 1];
    struct ld_model *model; /* NULL: a free place */
    uint64_t used;
    uint64_t file_bytes;
    uint32_t users;
    struct ld_registry_stamp stamp; /* of the file it was read from */
    bool stale;                     /* as for a resident */
};

/* A resident and what it owns. */
struct ld_resident_entry {
    struct ld_resident resident;
    struct ld_weights *weights;
    struct ld_arena arena;          /* name, vocabulary */
    struct ld_arena vectors;        /* embeddings, which come and go with their folder */
    uint64_t file_bytes;            /* counts until its weights are packed */
    struct ld_registry_stamp stamp; /* of the files that it was read from */
    bool loaded;
    bool stale; /* its file is gone or another one: jobs that have it end with it, no other comes */
};

/* What a picture takes of the device by a model of these widths, its weights streamed or not. */
struct ld_need_entry {
    struct ld_arch arch;
    struct ld_need need;
    bool streamed;
};

struct ld_library {
    struct ld_arena arena;
    struct ld_engine_config config; /* texts copied into the arena */
    struct ld_backend *backend;
    struct ld_registry *registry;
    struct ld_pool *pool; /* for merging adapters, and ld_library_pool */
    const char *default_name;
    bool default_is_file; /* given as a path: it need not be in the folder */
    struct ld_resident_entry residents[LD_RESIDENTS_MAX];
    struct ld_side_entry sides[LD_SIDES_MAX];
    struct ld_taesd *preview_decoder; /* NULL: not asked for yet */
    struct ld_variant_entry variants[LD_VARIANTS_MAX];
    size_t variant_bytes_max;
    struct ld_need_entry needs[LD_NEEDS_MAX]; /* made once, for every inventory */
    uint32_t need_count;
    uint64_t clock, next_serial;
    struct ld_buffer inventory;
    uint64_t hash_bytes_left; /* of the inventory that is being written */
    bool news;                /* a model came or went since ld_library_has_news */
};

/* library_residency.c: bytes of all loaded models of any kind, those that jobs use, and letting go
 * of unused ones, oldest first, until `need` more fit the budget. Errors   LD_E_NOMEM (more than
 * the budget, or all are in use). */
uint64_t ld_library_resident_bytes(const struct ld_library *library, bool used_only);
enum ld_code ld_library_make_room(struct ld_library *library, const char *name, uint64_t need,
                                  struct ld_error *err) LD_MUST_USE;
uint64_t ld_library_file_bytes(const struct ld_library *library, enum ld_registry_kind kind,
                               const char *name);
void ld_library_drop_resident(struct ld_library *library, struct ld_resident_entry *entry);

/* library_side.c: let one go that nobody uses. */
void ld_library_drop_side(struct ld_side_entry *entry);
/* library_side.c: whether the VAE and the ControlNets of a request are loaded or could take places
 * now; what has to be read for them is added to `need`, in bytes. */
bool ld_library_sides_fit(const struct ld_library *library, const struct ld_request *request,
                          uint64_t *need);

/* library.c: whether the entry is the model that requests mean by this name. */
bool ld_library_is_named(const struct ld_resident_entry *entry, const char *name);
/* library.c: which model requests mean that name none; what is right stays.
 * Errors   LD_E_NOT_FOUND (there is none, with the advice). */
enum ld_code ld_library_choose_default(struct ld_library *library,
                                       struct ld_error *err) LD_MUST_USE;
/* library.c: the folders as they are configured and found now; texts are the library's. */
struct ld_registry_folders ld_library_folders(struct ld_library *library);

/* library_text.c: load vocabulary and embeddings of a model just opened. */
enum ld_code ld_library_load_text(struct ld_library *library, struct ld_resident_entry *entry,
                                  const char *path, struct ld_error *err) LD_MUST_USE;
/* library_text.c: its embeddings once more, as the registry has them now. Between two jobs'
 * preparations nobody points to the old ones. After a failure they stay. */
enum ld_code ld_library_reload_embeddings(struct ld_library *library,
                                          struct ld_resident_entry *entry,
                                          struct ld_error *err) LD_MUST_USE;

/* library_inventory.c: the kinds as the inventory calls them: "models", "adapters", ... */
extern const char *const ld_library_kind_keys[LD_REGISTRY_KIND_COUNT];

/* library_inventory.c: what the folders hold, as JSON. After a failure the old one stays. */
enum ld_code ld_library_write_inventory(struct ld_library *library,
                                        struct ld_error *err) LD_MUST_USE;

/* library_inventory.c: files that lie there and cannot be used, with the reason for whoever asks
 * for one: [{"kind": "adapter", "name": ..., "reason": ...}], the first `count_max` of them. */
void ld_library_write_unusable(const struct ld_library *library, uint32_t count_max,
                               struct ld_buffer *out);

/* library_memory.c: whether the weights of a model of these widths are to be streamed, by the
 * setting and by what the device had free; and the same of a model by its name, for reports. */
bool ld_library_streams(struct ld_library *library, const struct ld_arch *arch);
bool ld_library_streams_model(struct ld_library *library, const char *name);
/* library_memory.c: whether the setting leaves the choice to the library. */
bool ld_library_streams_if_short(const struct ld_library *library);

/* library_memory.c: a member `"memory"` of it, {"bytes": what the device has, "default": name,
 * "needs": [{"models": [name], "steps": [[positions, bytes]]}]} with the steps of
 * model/model_need.h; nothing where the device has no bound of its own. */
void ld_library_write_memory(struct ld_library *library, struct ld_buffer *out);

/* library_inventory.c: a file of the folders by its name. NULL: LD_E_NOT_FOUND, with the nearest
 * name that there is. */
const struct ld_registry_entry *ld_library_lookup(const struct ld_library *library,
                                                  enum ld_registry_kind kind, const char *name,
                                                  struct ld_error *err);

/* library_variant.c: forget all variants of a model that is about to go. */
void ld_library_drop_variants(struct ld_library *library, const struct ld_resident *model);
/* library_variant.c: forget all variants that no job uses. False: there were none. */
bool ld_library_drop_unused_variants(struct ld_library *library);

#endif
