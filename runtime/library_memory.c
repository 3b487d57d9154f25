/*
 * What the device has, and what a picture takes there at least, model by model: for the front,
 * which refuses a picture that can never fit (server/capacity.h), and for the choice of models
 * whose weights are streamed. Models of equal widths share a table.
 */
#include "runtime/library_state.h"

#include "runtime/base/log.h"
#include "runtime/model/describe.h"

/* ---- Widths ---------------------------------------------------------------------------------- */

static bool arch_loaded(const struct ld_library *library, const char *name, struct ld_arch *arch)
{
    for (int i = 0; i < LD_RESIDENTS_MAX; i++) {
        const struct ld_resident_entry *entry = &library->residents[i];
        if (!ld_library_is_named(entry, name))
            continue;
        *arch = *ld_weights_arch(entry->weights);
        return true;
    }
    return false;
}

/* In all that memory depends on. */
static bool same_widths(const struct ld_arch *a, const struct ld_arch *b)
{
    for (int i = 0; i < LD_LEVELS_MAX; i++)
        if (a->unet_multipliers[i] != b->unet_multipliers[i] ||
            a->vae_multipliers[i] != b->vae_multipliers[i])
            return false;
    return a->has_text == b->has_text && a->has_vae_decoder == b->has_vae_decoder &&
           a->unet_channels == b->unet_channels && a->unet_levels == b->unet_levels &&
           a->unet_heads == b->unet_heads && a->unet_context == b->unet_context &&
           a->unet_in_channels == b->unet_in_channels && a->vae_channels == b->vae_channels &&
           a->vae_levels == b->vae_levels && a->text_layers == b->text_layers &&
           a->text_heads == b->text_heads && a->text_width == b->text_width &&
           a->text_mlp == b->text_mlp && a->text_vocabulary == b->text_vocabulary &&
           a->text_positions == b->text_positions;
}

/* ---- Streaming ------------------------------------------------------------------------------- */

static bool streaming_is(const struct ld_library *library, const char *word)
{
    const char *set = library->config.stream_weights;
    return strcmp(set && set[0] ? set : "auto", word) == 0;
}

/* Left to itself the library streams a model whose weights leave no room for one row of 512x512 and
 * its decoding in what was free at the start. Larger pictures do not count: a device that holds the
 * weights paints small ones without sending them each step. */
static bool wants_streaming(const struct ld_library *library, const struct ld_need *resident)
{
    enum { POSITIONS = 64 * 64 };
    const struct ld_backend *backend = library->backend;
    return backend->ops->ring_plan_bytes &&
           (streaming_is(library, "on") ||
            (streaming_is(library, "auto") && backend->memory_free > 0 &&
             ld_need_of(resident, POSITIONS) > backend->memory_free));
}

bool ld_library_streams_if_short(const struct ld_library *library)
{
    return streaming_is(library, "auto");
}

/* ---- Tables ---------------------------------------------------------------------------------- */

/* The place of the table for these widths, made now if there is none; -1: none can be made. */
static int32_t table_of(struct ld_library *library, const struct ld_arch *arch)
{
    struct ld_error err = {0};
    for (uint32_t i = 0; i < library->need_count; i++)
        if (same_widths(&library->needs[i].arch, arch))
            return (int32_t)i;
    if (library->need_count == LD_NEEDS_MAX)
        return -1;
    struct ld_need_entry *entry = &library->needs[library->need_count];
    entry->arch = *arch;
    enum ld_code code = ld_need_plan(&entry->need, arch, library->backend, false, &err);
    entry->streamed = code == LD_OK && wants_streaming(library, &entry->need);
    if (entry->streamed)
        code = ld_need_plan(&entry->need, arch, library->backend, true, &err);
    if (code != LD_OK) {
        ld_log_error(LD_LOG_WARN, "library", "what a model takes of the device is not known", &err);
        return -1;
    }
    return (int32_t)library->need_count++;
}

static int32_t table_of_model(struct ld_library *library, const char *name,
                              const struct ld_registry_entry *entry)
{
    struct ld_arch arch;
    return arch_loaded(library, name, &arch) ||
                   (entry && ld_describe_arch_of(ld_span_text(entry->detail), &arch))
               ? table_of(library, &arch)
               : -1;
}

bool ld_library_streams(struct ld_library *library, const struct ld_arch *arch)
{
    const int32_t table = library->backend->ops->ring_plan_bytes ? table_of(library, arch) : -1;
    return table >= 0 && library->needs[table].streamed;
}

bool ld_library_streams_model(struct ld_library *library, const char *name)
{
    const struct ld_registry_entry *entry =
        ld_registry_find(library->registry, LD_REGISTRY_MODEL, name);
    const int32_t table =
        library->backend->ops->ring_plan_bytes ? table_of_model(library, name, entry) : -1;
    return table >= 0 && library->needs[table].streamed;
}

/* The models: those of the folder, and behind them one that was given by its path. */
static uint32_t model_count(const struct ld_library *library)
{
    const bool direct =
        library->default_is_file &&
        !ld_registry_find(library->registry, LD_REGISTRY_MODEL, library->default_name);
    return ld_registry_count(library->registry, LD_REGISTRY_MODEL) + (direct ? 1 : 0);
}

static const char *model_at(const struct ld_library *library, uint32_t index,
                            const struct ld_registry_entry **entry)
{
    *entry = index < ld_registry_count(library->registry, LD_REGISTRY_MODEL)
                 ? ld_registry_at(library->registry, LD_REGISTRY_MODEL, index)
                 : NULL;
    return *entry ? (*entry)->name : library->default_name;
}

static void write_table(struct ld_library *library, uint32_t table, struct ld_buffer *out)
{
    const struct ld_need *need = &library->needs[table].need;
    const struct ld_registry_entry *entry;
    const uint32_t count = model_count(library);
    bool first = true;
    ld_buffer_text(out, table ? ",{\"models\":[" : "{\"models\":[");
    for (uint32_t i = 0; i < count; i++) {
        const char *name = model_at(library, i, &entry);
        if (table_of_model(library, name, entry) != (int32_t)table)
            continue;
        if (!first)
            ld_buffer_byte(out, ',');
        ld_buffer_json_string(out, name);
        first = false;
    }
    ld_buffer_text(out, "],\"steps\":[");
    for (uint32_t i = 0; i < need->count; i++)
        ld_buffer_format(out, "%s[%u,%llu]", i ? "," : "", need->steps[i].positions,
                         (unsigned long long)need->steps[i].bytes);
    ld_buffer_text(out, "]}");
}

void ld_library_write_memory(struct ld_library *library, struct ld_buffer *out)
{
    const struct ld_registry_entry *entry;
    const uint32_t count = model_count(library);
    if (library->backend->memory_bytes == 0)
        return;
    for (uint32_t i = 0; i < count; i++) { /* so that every table stands before it is written */
        const char *name = model_at(library, i, &entry);
        (void)table_of_model(library, name, entry);
    }
    ld_buffer_format(out,
                     ",\"memory\":{\"bytes\":%zu,\"default\":", library->backend->memory_bytes);
    ld_buffer_json_string(out, library->default_name);
    ld_buffer_text(out, ",\"needs\":[");
    for (uint32_t i = 0; i < library->need_count; i++)
        write_table(library, i, out);
    ld_buffer_text(out, "]}");
}
