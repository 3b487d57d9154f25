/* Models beside the checkpoints, loaded when a job names one and kept while there is room: VAEs
 * that take the place of a checkpoint's own, and ControlNets. */
#include "runtime/library_state.h"

static const char *kind_name(enum ld_registry_kind kind)
{
    return kind == LD_REGISTRY_VAE ? "VAE" : "ControlNet";
}

/* NULL: it is not loaded. */
static struct ld_side_entry *find(struct ld_library *library, enum ld_registry_kind kind,
                                  const char *name)
{
    for (int i = 0; i < LD_SIDES_MAX; i++) {
        struct ld_side_entry *entry = &library->sides[i];
        if (entry->model && !entry->stale && entry->kind == kind && strcmp(entry->name, name) == 0)
            return entry;
    }
    return NULL;
}

void ld_library_drop_side(struct ld_side_entry *entry)
{
    LD_ASSERT(entry->users == 0);
    ld_model_destroy(entry->model);
    memset(entry, 0, sizeof *entry);
}

/* One that is free, else the one that nobody uses and was used longest ago; NULL: all are in use.
 */
static struct ld_side_entry *free_place(struct ld_library *library)
{
    struct ld_side_entry *oldest = NULL;
    for (int i = 0; i < LD_SIDES_MAX; i++) {
        struct ld_side_entry *entry = &library->sides[i];
        if (!entry->model)
            return entry;
        if (entry->users == 0 && (!oldest || entry->used < oldest->used))
            oldest = entry;
    }
    if (oldest)
        ld_library_drop_side(oldest);
    return oldest;
}

/* It is streamed where the models that it joins are: it is one of the two. */
static bool streams_any(const struct ld_library *library)
{
    for (int i = 0; i < LD_RESIDENTS_MAX; i++)
        if (library->residents[i].loaded && library->residents[i].resident.model &&
            ld_model_is_streamed(library->residents[i].resident.model))
            return true;
    return false;
}

static enum ld_code open_model(struct ld_library *library, enum ld_registry_kind kind,
                               const char *path, const char *name, struct ld_model **out,
                               struct ld_error *err)
{
    const struct ld_weights_options options = {.control = kind == LD_REGISTRY_CONTROLNET,
                                               .prediction = -1};
    if (ld_model_open(out, library->backend, path, &options, err) != LD_OK)
        return err->code;
    if (kind == LD_REGISTRY_VAE && !ld_model_arch(*out)->has_vae_decoder) {
        ld_model_destroy(*out);
        return LD_FAIL(err, LD_E_UNSUPPORTED, "vae '%.100s' has no decoder", name);
    }
    if (ld_library_streams_if_short(library))
        ld_model_stream_if_short(*out);
    if (streams_any(library))
        ld_model_stream(*out);
    return LD_OK;
}

/* NULL after a failure. */
static struct ld_side_entry *load(struct ld_library *library, enum ld_registry_kind kind,
                                  const char *name, struct ld_error *err)
{
    struct ld_model *model = NULL;
    const struct ld_registry_entry *file = ld_library_lookup(library, kind, name, err);
    if (file && ld_library_make_room(library, name, file->bytes, err) != LD_OK)
        return NULL;
    struct ld_side_entry *entry = file ? free_place(library) : NULL;
    if (file && !entry)
        (void)LD_FAIL(err, LD_E_NOMEM, "too many %ss are in use at once; try again later",
                      kind_name(kind));
    if (!entry || open_model(library, kind, file->path, name, &model, err) != LD_OK)
        return NULL;
    *entry = (struct ld_side_entry){.kind = kind, .model = model, .file_bytes = file->bytes};
    (void)ld_fmt(entry->name, sizeof entry->name, "%s", file->name);
    ld_registry_stamp_weights(ld_model_weights(model), &entry->stamp);
    return entry;
}

static enum ld_code pin(struct ld_library *library, enum ld_registry_kind kind, const char *name,
                        struct ld_model **out, struct ld_error *err)
{
    struct ld_side_entry *entry = find(library, kind, name);
    if (!entry)
        entry = load(library, kind, name, err);
    if (!entry)
        return err->code;
    entry->users++;
    entry->used = ++library->clock;
    *out = entry->model;
    return LD_OK;
}

enum ld_code ld_library_vae(struct ld_library *library, const char *name, struct ld_model **out,
                            struct ld_error *err)
{
    return pin(library, LD_REGISTRY_VAE, name, out, err);
}

enum ld_code ld_library_control(struct ld_library *library, const char *name, struct ld_model **out,
                                struct ld_error *err)
{
    return pin(library, LD_REGISTRY_CONTROLNET, name, out, err);
}

void ld_library_side_release(struct ld_library *library, const struct ld_model *model)
{
    for (int i = 0; model && i < LD_SIDES_MAX; i++) {
        struct ld_side_entry *entry = &library->sides[i];
        if (entry->model != model)
            continue;
        LD_ASSERT(entry->users > 0);
        if (--entry->users == 0 && entry->stale)
            ld_library_drop_side(entry);
        return;
    }
}

const char *ld_library_control_sha256(const struct ld_library *library, const char *name)
{
    static _Thread_local char digest[LD_SHA256_HEX_SIZE];
    const struct ld_registry_entry *entry =
        ld_registry_find(library->registry, LD_REGISTRY_CONTROLNET, name);
    if (!entry || ld_registry_sha256(library->registry, entry, digest, NULL) != LD_OK)
        digest[0] = '\0';
    return digest;
}

/* ---- Room ------------------------------------------------------------------------------------ */

/* One more that a request wants, unless it is loaded or was counted before. */
struct wanted {
    enum ld_registry_kind kind;
    const char *name;
};

static uint32_t list_wanted(const struct ld_request *request,
                            struct wanted wanted[1 + LD_REQUEST_CONTROLS_MAX])
{
    uint32_t count = 0;
    if (request->vae[0])
        wanted[count++] = (struct wanted){LD_REGISTRY_VAE, request->vae};
    for (uint32_t i = 0; i < request->control_count; i++) {
        bool again = false;
        for (uint32_t k = 0; k < i; k++)
            again = again || strcmp(request->controls[i].model, request->controls[k].model) == 0;
        if (!again)
            wanted[count++] = (struct wanted){LD_REGISTRY_CONTROLNET, request->controls[i].model};
    }
    return count;
}

bool ld_library_sides_fit(const struct ld_library *library, const struct ld_request *request,
                          uint64_t *need)
{
    struct wanted wanted[1 + LD_REQUEST_CONTROLS_MAX];
    const uint32_t count = list_wanted(request, wanted);
    uint32_t missing = 0;
    uint32_t places = 0;
    bool held[LD_SIDES_MAX] = {false};
    for (uint32_t k = 0; k < count; k++) {
        bool loaded = false;
        for (int i = 0; i < LD_SIDES_MAX; i++) {
            const struct ld_side_entry *entry = &library->sides[i];
            if (entry->model && !entry->stale && entry->kind == wanted[k].kind &&
                strcmp(entry->name, wanted[k].name) == 0)
                loaded = held[i] = true;
        }
        missing += loaded ? 0 : 1;
        *need += loaded ? 0 : ld_library_file_bytes(library, wanted[k].kind, wanted[k].name);
    }
    for (int i = 0; i < LD_SIDES_MAX; i++)
        places += !held[i] && (!library->sides[i].model || library->sides[i].users == 0) ? 1 : 0;
    return places >= missing;
}
