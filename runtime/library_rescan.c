/*
 * The folders once more while jobs run: what came is found, what went or is another file by now is
 * left to the jobs that have it. Between two ticks, so that no job is being prepared: a job takes
 * everything by name at once and keeps it, and none sees half of the old and half of the new.
 */
#include "runtime/library_state.h"

#include "config/folders.h"
#include "runtime/base/fsx.h"
#include "runtime/base/log.h"

/* A folder beside the checkpoints may have been made, or taken away, since the start. */
static void forget_vanished(const char *base, const char *name, const char **folder)
{
    char beside[LD_FOLDERS_PATH_SIZE];
    if (ld_fmt(beside, sizeof beside, "%s/%s", base, name) && strcmp(*folder, beside) == 0 &&
        !ld_fsx_exists(beside))
        *folder = "";
}

static void look_beside(struct ld_library *library)
{
    struct ld_engine_config *config = &library->config;
    char base[LD_FOLDERS_PATH_SIZE];
    if (!ld_folders_base(config->model_dir, config->model_path, base))
        return;
    forget_vanished(base, "adapters", &config->adapter_dir);
    forget_vanished(base, "embeddings", &config->embedding_dir);
    forget_vanished(base, "vae", &config->vae_dir);
    forget_vanished(base, "controlnets", &config->controlnet_dir);
    forget_vanished(base, "wildcards", &config->wildcard_dir);
    const struct ld_folders folders = {
        .adapters = &config->adapter_dir,
        .embeddings = &config->embedding_dir,
        .vaes = &config->vae_dir,
        .controlnets = &config->controlnet_dir,
        .wildcards = &config->wildcard_dir,
    };
    ld_folders_beside(config->model_dir, config->model_path, &library->arena, &folders);
}

/* ---- What is loaded -------------------------------------------------------------------------- */

static bool is_current(const struct ld_library *library, enum ld_registry_kind kind,
                       const char *name, const struct ld_registry_stamp *stamp)
{
    const struct ld_registry_entry *entry = ld_registry_find(library->registry, kind, name);
    return entry && ld_registry_stamp_equal(&entry->stamp, stamp);
}

/* One that was given as a file stays when its file goes: nothing else could take its place. */
static bool is_current_model(const struct ld_library *library,
                             const struct ld_resident_entry *entry)
{
    struct ld_registry_stamp stamp;
    if (library->default_is_file && strcmp(entry->resident.name, library->default_name) == 0)
        return !ld_registry_stamp_path(library->config.model_path, &stamp) ||
               ld_registry_stamp_equal(&stamp, &entry->stamp);
    return is_current(library, LD_REGISTRY_MODEL, entry->resident.name, &entry->stamp);
}

/* False: everything that is loaded is what its name means. */
static bool let_go_of_old(struct ld_library *library)
{
    bool any_old = false;
    for (int i = 0; i < LD_RESIDENTS_MAX; i++) {
        struct ld_resident_entry *entry = &library->residents[i];
        if (!entry->loaded || is_current_model(library, entry))
            continue;
        any_old = entry->stale = true;
        if (entry->resident.users == 0)
            ld_library_drop_resident(library, entry);
    }
    for (int i = 0; i < LD_SIDES_MAX; i++) {
        struct ld_side_entry *entry = &library->sides[i];
        if (!entry->model || is_current(library, entry->kind, entry->name, &entry->stamp))
            continue;
        any_old = entry->stale = true;
        if (entry->users == 0)
            ld_library_drop_side(entry);
    }
    return any_old;
}

static void reload_embeddings(struct ld_library *library)
{
    for (int i = 0; i < LD_RESIDENTS_MAX; i++) {
        struct ld_resident_entry *entry = &library->residents[i];
        struct ld_error err = {0};
        if (entry->loaded && !entry->stale &&
            ld_library_reload_embeddings(library, entry, &err) != LD_OK)
            ld_log_error(LD_LOG_WARN, "library", "a model keeps its old embeddings", &err);
    }
}

/* ---- The scan -------------------------------------------------------------------------------- */

enum { REFUSED_TOLD_MAX = 100 }; /* files that an answer names; all are counted */

static bool any(const struct ld_registry_changes *changes, enum ld_registry_kind kind)
{
    return changes->added[kind] + changes->removed[kind] + changes->changed[kind] > 0;
}

static void write_changes(const struct ld_library *library,
                          const struct ld_registry_changes *changes, struct ld_buffer *out)
{
    for (int kind = 0; kind < LD_REGISTRY_KIND_COUNT; kind++)
        ld_buffer_format(out,
                         "%s\"%s\":{\"added\":%u,\"removed\":%u,\"changed\":%u,\"unusable\":%u}",
                         kind ? "," : "{", ld_library_kind_keys[kind], changes->added[kind],
                         changes->removed[kind], changes->changed[kind],
                         ld_registry_reject_count(library->registry, (enum ld_registry_kind)kind));
    ld_buffer_text(out, ",\"refused\":");
    ld_library_write_unusable(library, REFUSED_TOLD_MAX, out);
    ld_buffer_byte(out, '}');
}

enum ld_code ld_library_rescan(struct ld_library *library, struct ld_buffer *out, bool *replaced,
                               struct ld_error *err)
{
    struct ld_registry_changes changes;
    struct ld_error no_default = {0};
    *replaced = false;
    look_beside(library);
    const struct ld_registry_folders folders = ld_library_folders(library);
    if (ld_registry_rescan(library->registry, &folders, &changes, err) != LD_OK)
        return err->code;
    *replaced = let_go_of_old(library);
    if (any(&changes, LD_REGISTRY_EMBEDDING))
        reload_embeddings(library);
    /* Without one the old name stays, and who means it hears that it is not here. */
    if (ld_library_choose_default(library, &no_default) != LD_OK)
        ld_log_error(LD_LOG_WARN, "library", "the default model is gone", &no_default);
    for (int kind = 0; kind < LD_REGISTRY_KIND_COUNT; kind++)
        *replaced = *replaced || changes.removed[kind] + changes.changed[kind] > 0;
    library->news = true;
    write_changes(library, &changes, out);
    LD_LOG(LD_LOG_INFO, "library", "the folders were scanned again",
           ld_log_int("models", ld_registry_count(library->registry, LD_REGISTRY_MODEL)),
           ld_log_int("adapters", ld_registry_count(library->registry, LD_REGISTRY_ADAPTER)));
    return LD_OK;
}
