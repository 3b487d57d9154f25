#include "runtime/library_state.h"

#include "runtime/base/clock.h"
#include "runtime/base/fsx.h"
#include "runtime/base/log.h"
#include "runtime/ipc/stats.h"
#include "runtime/text/wildcards.h"

enum {
    LIBRARY_ARENA_MAX = 64 << 20,
    RESIDENT_ARENA_MAX = 64 << 20, /* name and vocabulary */
    CONTEXT_BYTES_MAX = 64 << 20
};

/* Budget of merged adapters that nobody uses at the moment. */
#define VARIANT_BYTES_MAX ((size_t)4 << 30)

/* ---- Life ------------------------------------------------------------------------------------ */

static const char *keep(struct ld_library *library, const char *text)
{
    const char *copy = ld_arena_strdup(&library->arena, text ? text : "");
    return copy ? copy : "";
}

static void copy_config(struct ld_library *library, const struct ld_engine_config *config)
{
    library->config = *config;
    library->config.model_dir = keep(library, config->model_dir);
    library->config.adapter_dir = keep(library, config->adapter_dir);
    library->config.embedding_dir = keep(library, config->embedding_dir);
    library->config.wildcard_dir = keep(library, config->wildcard_dir);
    library->config.vae_dir = keep(library, config->vae_dir);
    library->config.controlnet_dir = keep(library, config->controlnet_dir);
    library->config.preview_decoder = keep(library, config->preview_decoder);
    library->config.default_model = keep(library, config->default_model);
    library->config.model_path = keep(library, config->model_path);
    library->config.vocab_path = keep(library, config->vocab_path);
    library->config.digests_path = keep(library, config->digests_path);
    library->config.stream_weights = keep(library, config->stream_weights);
}

/* The name a directly given file goes by: its own, without folder and ending. */
static const char *name_of_path(struct ld_library *library, const char *path)
{
    size_t length = strlen(path);
    while (length > 1 && path[length - 1] == '/')
        length--;
    size_t start = length;
    while (start > 0 && path[start - 1] != '/')
        start--;
    const char *dot = NULL;
    for (size_t i = start + 1; i < length; i++)
        if (path[i] == '.')
            dot = path + i;
    const char *name = ld_arena_strndup(&library->arena, path + start,
                                        (dot ? (size_t)(dot - path) : length) - start);
    return name ? name : "";
}

enum ld_code ld_library_choose_default(struct ld_library *library, struct ld_error *err)
{
    const char *given = library->config.model_path;
    const char *wanted = library->config.default_model;
    const char *before = library->default_name;
    if (library->default_is_file)
        return LD_OK;
    if (ld_fsx_exists(given)) {
        library->default_name = name_of_path(library, given);
        library->default_is_file = true;
        return LD_OK;
    }
    if (given[0])
        wanted = given; /* a name in the model folder */
    if (wanted[0]) {
        if (!ld_registry_find(library->registry, LD_REGISTRY_MODEL, wanted))
            return LD_FAIL(err, LD_E_NOT_FOUND,
                           "there is no file or model called '%.100s'; --model takes a "
                           ".safetensors file, a diffusers folder, or a name in --model-dir",
                           wanted);
        library->default_name = wanted;
        return LD_OK;
    }
    if (before && ld_registry_find(library->registry, LD_REGISTRY_MODEL, before))
        return LD_OK; /* one that sorts before it may have come */
    if (ld_registry_count(library->registry, LD_REGISTRY_MODEL) == 0)
        return LD_FAIL(err, LD_E_NOT_FOUND,
                       "no model is configured; give one with --model FILE, or a folder of them "
                       "with --model-dir DIR");
    library->default_name =
        keep(library, ld_registry_at(library->registry, LD_REGISTRY_MODEL, 0)->name);
    return LD_OK;
}

struct ld_registry_folders ld_library_folders(struct ld_library *library)
{
    return (struct ld_registry_folders){
        .folder =
            {
                [LD_REGISTRY_MODEL] = library->config.model_dir,
                [LD_REGISTRY_ADAPTER] = library->config.adapter_dir,
                [LD_REGISTRY_EMBEDDING] = library->config.embedding_dir,
                [LD_REGISTRY_VAE] = library->config.vae_dir,
                [LD_REGISTRY_CONTROLNET] = library->config.controlnet_dir,
                [LD_REGISTRY_WILDCARD] = library->config.wildcard_dir,
            },
        .cache_path = library->config.digests_path,
    };
}

enum ld_code ld_library_open(struct ld_library **out, const struct ld_engine_config *config,
                             struct ld_backend *backend, struct ld_error *err)
{
    struct ld_library *library = ld_heap_alloc(sizeof *library);
    if (!library)
        return LD_FAIL(err, LD_E_NOMEM, "out of memory");
    ld_arena_init(&library->arena, "library", LIBRARY_ARENA_MAX);
    library->backend = backend;
    library->variant_bytes_max =
        config->variants_bounded ? config->variant_bytes_max : VARIANT_BYTES_MAX;
    library->next_serial = 1;
    copy_config(library, config);
    const struct ld_registry_folders folders = ld_library_folders(library);
    enum ld_code code = ld_registry_open(&library->registry, &folders, err);
    if (code == LD_OK)
        code = ld_library_choose_default(library, err);
    if (code == LD_OK)
        code = ld_pool_create(&library->pool, config->threads, err);
    if (code == LD_OK)
        code = ld_library_write_inventory(library, err);
    if (code != LD_OK) {
        ld_library_close(library);
        return code;
    }
    *out = library;
    return LD_OK;
}

static void unload(struct ld_library *library, struct ld_resident_entry *entry)
{
    ld_library_drop_variants(library, &entry->resident);
    ld_context_cache_deinit(&entry->resident.contexts);
    ld_model_destroy(entry->resident.model);
    ld_weights_close(entry->weights);
    ld_arena_deinit(&entry->vectors);
    ld_arena_deinit(&entry->arena);
    memset(entry, 0, sizeof *entry);
    library->news = true;
}

void ld_library_drop_resident(struct ld_library *library, struct ld_resident_entry *entry)
{
    unload(library, entry);
}

void ld_library_close(struct ld_library *library)
{
    if (!library)
        return;
    for (int i = 0; i < LD_RESIDENTS_MAX; i++)
        if (library->residents[i].loaded)
            unload(library, &library->residents[i]);
    for (int i = 0; i < LD_SIDES_MAX; i++)
        ld_model_destroy(library->sides[i].model);
    ld_taesd_destroy(library->preview_decoder);
    ld_pool_destroy(library->pool);
    ld_registry_close(library->registry);
    ld_buffer_deinit(&library->inventory);
    ld_arena_deinit(&library->arena);
    ld_heap_free(library);
}

const struct ld_engine_config *ld_library_config(const struct ld_library *library)
{
    return &library->config;
}

struct ld_pool *ld_library_pool(struct ld_library *library)
{
    return library->pool;
}

bool ld_library_relieve(struct ld_library *library)
{
    bool freed = ld_library_drop_unused_variants(library);
    if (library->preview_decoder)
        freed = ld_taesd_trim(library->preview_decoder) || freed;
    for (int i = 0; i < LD_RESIDENTS_MAX; i++) {
        struct ld_resident_entry *entry = &library->residents[i];
        if (!entry->loaded)
            continue;
        freed = ld_model_trim(entry->resident.model) || freed;
        if (entry->resident.users > 0 || ld_model_weight_bytes(entry->resident.model) == 0)
            continue;
        unload(library, entry);
        freed = true;
    }
    for (int i = 0; i < LD_SIDES_MAX; i++) {
        struct ld_side_entry *entry = &library->sides[i];
        if (!entry->model)
            continue;
        freed = ld_model_trim(entry->model) || freed;
        if (entry->users > 0 || ld_model_weight_bytes(entry->model) == 0)
            continue;
        ld_library_drop_side(entry);
        freed = true;
    }
    return freed;
}

/* ---- Models ---------------------------------------------------------------------------------- */

bool ld_library_is_named(const struct ld_resident_entry *entry, const char *name)
{
    return entry->loaded && !entry->stale && strcmp(entry->resident.name, name) == 0;
}

static enum ld_code model_path(struct ld_library *library, const char *name, const char **path,
                               struct ld_error *err)
{
    const bool is_default = strcmp(name, library->default_name) == 0;
    if (is_default && library->default_is_file && ld_fsx_exists(library->config.model_path)) {
        *path = library->config.model_path;
        return LD_OK;
    }
    /* One that was built while this worker started; what is not there is told by the look-up. */
    struct ld_error ignored = {0};
    (void)(ld_library_find(library, name, &ignored) == LD_OK);
    const struct ld_registry_entry *entry =
        ld_library_lookup(library, LD_REGISTRY_MODEL, name, err);
    if (!entry)
        return err->code;
    *path = entry->path;
    return LD_OK;
}

/* A free place, or that of the model unused for longest; NULL if all are in use. */
static struct ld_resident_entry *free_place(struct ld_library *library)
{
    struct ld_resident_entry *oldest = NULL;
    for (int i = 0; i < LD_RESIDENTS_MAX; i++) {
        struct ld_resident_entry *entry = &library->residents[i];
        if (!entry->loaded)
            return entry;
        if (entry->resident.users == 0 && (!oldest || entry->resident.used < oldest->resident.used))
            oldest = entry;
    }
    if (oldest)
        unload(library, oldest);
    return oldest;
}

static enum ld_code load(struct ld_library *library, struct ld_resident_entry *entry,
                         const char *name, const char *path, struct ld_error *err)
{
    struct ld_resident *resident = &entry->resident;
    ld_arena_init(&entry->arena, "model", RESIDENT_ARENA_MAX);
    ld_arena_init(&entry->vectors, "embeddings", LD_VECTORS_ARENA_MAX);
    ld_context_cache_init(&resident->contexts, CONTEXT_BYTES_MAX);
    entry->loaded = true;
    resident->users = 1; /* not to be let go meanwhile */
    resident->name = ld_arena_strdup(&entry->arena, name);
    if (!resident->name)
        return LD_FAIL(err, LD_E_NOMEM, "out of memory");
    if (ld_weights_open(&entry->weights, path, NULL, err) != LD_OK) {
        char cause[LD_ERROR_DETAIL_SIZE];
        memcpy(cause, err->detail, sizeof cause);
        return LD_FAIL(err, err->code, "model '%.100s': %s", name, cause);
    }
    ld_registry_stamp_weights(entry->weights, &entry->stamp);
    if (ld_model_create(&resident->model, library->backend, entry->weights, err) != LD_OK)
        return err->code;
    const struct ld_arch *arch = ld_model_arch(resident->model);
    if (!arch->has_unet || !arch->has_vae_decoder)
        return LD_FAIL(err, LD_E_UNSUPPORTED, "model '%.100s' has no %s", name,
                       arch->has_unet ? "VAE decoder" : "UNet");
    if (ld_library_streams_if_short(library))
        ld_model_stream_if_short(resident->model);
    if (ld_library_streams(library, arch)) {
        ld_model_stream(resident->model);
        LD_LOG(LD_LOG_INFO, "library", "a model's weights are streamed to the GPU",
               ld_log_text("model", name));
    }
    if (ld_library_load_text(library, entry, path, err) != LD_OK)
        return err->code;
    return ld_registry_weights_sha256(library->registry, path, entry->weights, resident->sha256,
                                      err);
}

enum ld_code ld_library_model(struct ld_library *library, const char *name,
                              struct ld_resident **out, struct ld_error *err)
{
    if (!name[0])
        name = library->default_name;
    for (int i = 0; i < LD_RESIDENTS_MAX; i++) {
        struct ld_resident_entry *entry = &library->residents[i];
        if (ld_library_is_named(entry, name)) {
            entry->resident.users++;
            entry->resident.used = ++library->clock;
            *out = &entry->resident;
            return LD_OK;
        }
    }
    const char *path = NULL;
    if (model_path(library, name, &path, err) != LD_OK)
        return err->code;
    const uint64_t need = ld_library_file_bytes(library, LD_REGISTRY_MODEL, name);
    if (ld_library_make_room(library, name, need, err) != LD_OK)
        return err->code;
    struct ld_resident_entry *entry = free_place(library);
    if (!entry)
        return LD_FAIL(err, LD_E_NOMEM, "too many models are in use at once; try again later");
    const int64_t start_us = ld_clock_monotonic_us();
    if (load(library, entry, name, path, err) != LD_OK) {
        unload(library, entry);
        return err->code;
    }
    ld_stats_add(LD_STAT_MODEL_LOADS, 1);
    ld_stats_add(LD_STAT_MODEL_LOAD_US, (uint64_t)(ld_clock_monotonic_us() - start_us));
    if (path == library->config.model_path && ld_library_write_inventory(library, err) != LD_OK) {
        unload(library, entry);
        return err->code;
    }
    entry->file_bytes = need;
    entry->resident.used = ++library->clock;
    library->news = true;
    *out = &entry->resident;
    return LD_OK;
}

void ld_library_release(struct ld_library *library, struct ld_resident *resident)
{
    LD_ASSERT(resident->users > 0);
    resident->users--;
    for (int i = 0; i < LD_RESIDENTS_MAX; i++) {
        struct ld_resident_entry *entry = &library->residents[i];
        if (&entry->resident == resident && entry->stale && resident->users == 0)
            unload(library, entry);
    }
}

/* ---- Previews -------------------------------------------------------------------------------- */

enum ld_code ld_library_preview_decoder(struct ld_library *library, struct ld_taesd **out,
                                        struct ld_error *err)
{
    const char *path = library->config.preview_decoder;
    *out = NULL;
    if (!path[0])
        return LD_FAIL(err, LD_E_NOT_FOUND, "the server has no TAESD decoder");
    if (!library->preview_decoder &&
        ld_taesd_open(&library->preview_decoder, library->backend, path, err) != LD_OK)
        return err->code;
    *out = library->preview_decoder;
    return LD_OK;
}

bool ld_library_has_room(const struct ld_library *library, const struct ld_request *request)
{
    const char *second = request->hires.model;
    const char *const names[2] = {request->model[0] ? request->model : library->default_name,
                                  second};
    bool loaded[2] = {false, second[0] == '\0' || strcmp(names[0], second) == 0};
    int places = 0; /* that neither hold one of them nor are pinned */
    for (int i = 0; i < LD_RESIDENTS_MAX; i++) {
        const struct ld_resident_entry *entry = &library->residents[i];
        bool wanted = false;
        for (int k = 0; k < 2; k++)
            if (ld_library_is_named(entry, names[k]))
                wanted = loaded[k] = true;
        places += !wanted && (!entry->loaded || entry->resident.users == 0) ? 1 : 0;
    }
    const bool model_fits = places >= (loaded[0] ? 0 : 1) + (loaded[1] ? 0 : 1);
    /* Within the budget beside what jobs use; what cannot fit at all is refused when it starts. */
    const uint64_t budget = library->config.model_bytes_max;
    uint64_t need = 0;
    const bool sides_fit = ld_library_sides_fit(library, request, &need);
    for (int k = 0; k < 2; k++)
        need += loaded[k] ? 0 : ld_library_file_bytes(library, LD_REGISTRY_MODEL, names[k]);
    const uint64_t used = ld_library_resident_bytes(library, true);
    if (budget > 0 && used > 0 && need > 0 && used + need > budget)
        return false;
    return model_fits && sides_fit;
}

/* ---- Wildcards ------------------------------------------------------------------------------- */

static enum ld_code read_lists(void *ctx, const char *pattern, struct ld_buffer *out,
                               struct ld_error *err)
{
    const struct ld_library *library = ctx;
    const uint32_t count = ld_registry_count(library->registry, LD_REGISTRY_WILDCARD);
    for (uint32_t i = 0; i < count; i++) {
        const struct ld_registry_entry *entry =
            ld_registry_at(library->registry, LD_REGISTRY_WILDCARD, i);
        if (!ld_wildcard_matches(pattern, entry->name))
            continue;
        if (ld_fsx_read_file(entry->path, out, err) != LD_OK)
            return err->code;
        ld_buffer_byte(out, '\n');
    }
    return LD_OK;
}

enum ld_code ld_library_expand(struct ld_library *library, struct ld_request *request,
                               struct ld_arena *arena, struct ld_error *err)
{
    if (!request->wildcards)
        return LD_OK;
    const struct ld_wildcard_source source = {library, read_lists};
    const char **texts[] = {&request->prompt, &request->negative_prompt, &request->hires.prompt,
                            &request->hires.negative_prompt};
    static const char *const pointers[] = {"/prompt", "/negative_prompt", "/hires/prompt",
                                           "/hires/negative_prompt"};
    for (uint32_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        const struct ld_wildcard_options options = {
            .mode = LD_WILDCARDS_RANDOM,
            .seed = request->wildcards_seeded ? request->wildcards_seed : request->seed,
            .syntax = request->syntax,
            .source = &source,
        };
        struct ld_wildcard_results results;
        if (!*texts[i])
            continue;
        if (ld_wildcards_expand(arena, ld_span_text(*texts[i]), &options, 1, &results, NULL, err) !=
            LD_OK)
            return ld_error_at(err, "%s", pointers[i]);
        *texts[i] = results.items[0];
    }
    request->wildcards =
        false; /* what is told and stored is the expansion, to be taken literally */
    return LD_OK;
}
