/*
 * Which models stay in memory: a budget of bytes for the weights of all models, VAEs and
 * ControlNets. Whoever comes makes room by letting go of what nobody uses, longest unused first;
 * the budget is kept before a new model is read, not afterwards.
 */
#include "runtime/library_state.h"

#include "runtime/base/log.h"

#include <sys/stat.h>

/* Weights are packed part by part on first use; until then the file says what they will take. */
static uint64_t bytes_of(const struct ld_model *model, uint64_t file_bytes)
{
    const uint64_t packed = ld_model_weight_bytes(model);
    return packed > file_bytes ? packed : file_bytes;
}

uint64_t ld_library_resident_bytes(const struct ld_library *library, bool used_only)
{
    uint64_t bytes = 0;
    for (int i = 0; i < LD_RESIDENTS_MAX; i++) {
        const struct ld_resident_entry *entry = &library->residents[i];
        if (entry->loaded && entry->resident.model && (!used_only || entry->resident.users > 0))
            bytes += bytes_of(entry->resident.model, entry->file_bytes);
    }
    for (int i = 0; i < LD_SIDES_MAX; i++) {
        const struct ld_side_entry *entry = &library->sides[i];
        if (entry->model && (!used_only || entry->users > 0))
            bytes += bytes_of(entry->model, entry->file_bytes);
    }
    return bytes;
}

uint64_t ld_library_file_bytes(const struct ld_library *library, enum ld_registry_kind kind,
                               const char *name)
{
    struct stat info;
    const struct ld_registry_entry *entry = ld_registry_find(library->registry, kind, name);
    if (kind == LD_REGISTRY_MODEL && library->default_is_file &&
        strcmp(name, library->default_name) == 0 && stat(library->config.model_path, &info) == 0)
        return S_ISREG(info.st_mode) ? (uint64_t)info.st_size : 0;
    return entry ? entry->bytes : 0;
}

/* The model of any kind that nobody uses and was used longest ago; false: there is none. */
static bool drop_oldest(struct ld_library *library)
{
    struct ld_resident_entry *model = NULL;
    struct ld_side_entry *side = NULL;
    for (int i = 0; i < LD_RESIDENTS_MAX; i++) {
        struct ld_resident_entry *entry = &library->residents[i];
        if (entry->loaded && entry->resident.users == 0 &&
            (!model || entry->resident.used < model->resident.used))
            model = entry;
    }
    for (int i = 0; i < LD_SIDES_MAX; i++) {
        struct ld_side_entry *entry = &library->sides[i];
        if (entry->model && entry->users == 0 && (!side || entry->used < side->used))
            side = entry;
    }
    if (model && (!side || model->resident.used < side->used))
        ld_library_drop_resident(library, model);
    else if (side)
        ld_library_drop_side(side);
    return model || side;
}

enum ld_code ld_library_make_room(struct ld_library *library, const char *name, uint64_t need,
                                  struct ld_error *err)
{
    const uint64_t budget = library->config.model_bytes_max;
    if (budget == 0)
        return LD_OK;
    if (need > budget)
        return LD_FAIL(err, LD_E_NOMEM,
                       "'%.100s' takes %llu MiB, more than models.memory_mib allows (%llu)", name,
                       (unsigned long long)((need + (1U << 20) - 1) >> 20),
                       (unsigned long long)(budget >> 20));
    while (ld_library_resident_bytes(library, false) + need > budget)
        if (!drop_oldest(library))
            return LD_FAIL(err, LD_E_NOMEM,
                           "the models that jobs use now leave no room for '%.100s'; try again "
                           "later",
                           name);
    return LD_OK;
}

/* ---- By hand --------------------------------------------------------------------------------- */

static enum ld_code pack_all(struct ld_model *model, struct ld_error *err)
{
    const struct ld_arch *arch = ld_model_arch(model);
    enum ld_code code = arch->has_unet ? ld_model_load(model, LD_PART_UNET, err) : LD_OK;
    if (code == LD_OK && arch->has_text)
        code = ld_model_load(model, LD_PART_TEXT, err);
    if (code == LD_OK && arch->has_vae_decoder)
        code = ld_model_load(model, LD_PART_VAE_DECODER, err);
    return code;
}

enum ld_code ld_library_load(struct ld_library *library, const char *name, struct ld_error *err)
{
    struct ld_resident *resident = NULL;
    if (ld_library_model(library, name, &resident, err) != LD_OK)
        return err->code;
    const enum ld_code code = pack_all(resident->model, err);
    ld_library_release(library, resident);
    return code;
}

enum ld_code ld_library_unload(struct ld_library *library, const char *name, struct ld_error *err)
{
    for (int i = 0; i < LD_RESIDENTS_MAX; i++) {
        struct ld_resident_entry *entry = &library->residents[i];
        if (!ld_library_is_named(entry, name))
            continue;
        if (entry->resident.users > 0)
            return LD_FAIL(err, LD_E_CONFLICT,
                           "model '%.100s' is in use by %u jobs; unload it when they have ended",
                           name, entry->resident.users);
        ld_library_drop_resident(library, entry);
        return LD_OK;
    }
    return LD_FAIL(err, LD_E_NOT_FOUND, "model '%.100s' is not loaded", name);
}

enum ld_code ld_library_find(struct ld_library *library, const char *name, struct ld_error *err)
{
    if (ld_registry_find(library->registry, LD_REGISTRY_MODEL, name))
        return LD_OK;
    const enum ld_code code =
        ld_registry_add(library->registry, library->config.model_dir, LD_REGISTRY_MODEL, name, err);
    library->news = library->news || code == LD_OK;
    return code;
}

void ld_library_write_residents(const struct ld_library *library, const char *name, bool loaded,
                                struct ld_buffer *out)
{
    bool first = true;
    ld_buffer_text(out, "{\"name\":");
    ld_buffer_json_string(out, name);
    ld_buffer_format(out, ",\"loaded\":%s,\"resident\":[", loaded ? "true" : "false");
    for (int i = 0; i < LD_RESIDENTS_MAX; i++) {
        const struct ld_resident_entry *entry = &library->residents[i];
        if (!entry->loaded)
            continue;
        ld_buffer_text(out, first ? "{\"name\":" : ",{\"name\":");
        ld_buffer_json_string(out, entry->resident.name);
        ld_buffer_format(out, ",\"bytes\":%llu,\"jobs\":%u,\"streamed\":%s}",
                         (unsigned long long)bytes_of(entry->resident.model, entry->file_bytes),
                         entry->resident.users,
                         ld_model_is_streamed(entry->resident.model) ? "true" : "false");
        first = false;
    }
    ld_buffer_format(out, "],\"resident_bytes\":%llu,\"budget_bytes\":%llu}",
                     (unsigned long long)ld_library_resident_bytes(library, false),
                     (unsigned long long)library->config.model_bytes_max);
}

bool ld_library_has_news(struct ld_library *library)
{
    struct ld_error err = {0};
    const bool news = library->news;
    library->news = false;
    if (!news || ld_library_write_inventory(library, &err) == LD_OK)
        return news;
    ld_log_error(LD_LOG_ERROR, "library", "the inventory was not written", &err);
    return false;
}
