#include "runtime/library_state.h"

#include "config/nearest.h"
#include "runtime/base/log.h"
#include "runtime/model/describe.h"

enum {
    HASH_AT_ONCE_BYTES = 64 << 20, /* while an inventory is written: a tenth of a second */
    HASH_PIECE_BYTES = 16 << 20    /* of an idle time; a job that comes waits for no more */
};

const char *const ld_library_kind_keys[LD_REGISTRY_KIND_COUNT] = {
    "models", "adapters", "embeddings", "vaes", "controlnets", "wildcards"};

/* One of them. */
static const char *const kind_names[LD_REGISTRY_KIND_COUNT] = {"model", "adapter",    "embedding",
                                                               "vae",   "controlnet", "wildcard"};

static const struct ld_resident_entry *resident_named(const struct ld_library *library,
                                                      const char *name)
{
    for (int i = 0; i < LD_RESIDENTS_MAX; i++)
        if (ld_library_is_named(&library->residents[i], name))
            return &library->residents[i];
    return NULL;
}

/* As it stands, or as it would be loaded. */
static bool is_streamed(struct ld_library *library, const char *name)
{
    const struct ld_resident_entry *loaded = resident_named(library, name);
    return loaded && loaded->resident.model ? ld_model_is_streamed(loaded->resident.model)
                                            : ld_library_streams_model(library, name);
}

/* "" where it is not known yet: folders of checkpoints are read for it between jobs
 * (ld_library_idle), so that nobody waits for it. A few small files are no wait. */
static void find_digest(struct ld_library *library, const struct ld_registry_entry *entry,
                        char digest[LD_SHA256_HEX_SIZE])
{
    struct ld_error err = {0};
    digest[0] = '\0';
    if (entry->kind == LD_REGISTRY_WILDCARD ||
        ld_registry_sha256_known(library->registry, entry, digest) ||
        entry->bytes > library->hash_bytes_left)
        return;
    library->hash_bytes_left -= entry->bytes;
    if (ld_registry_sha256(library->registry, entry, digest, &err) == LD_OK)
        return;
    ld_log_error(LD_LOG_WARN, "library", "a file could not be hashed", &err);
    digest[0] = '\0';
}

/* "name": ..., then what the registry found out, as one object. A file that cannot be read now is
 * told to whoever uses it. */
static void write_entry(struct ld_library *library, const struct ld_registry_entry *entry,
                        struct ld_buffer *out)
{
    char digest[LD_SHA256_HEX_SIZE];
    find_digest(library, entry, digest);
    ld_buffer_text(out, "{\"name\":");
    ld_buffer_json_string(out, entry->name);
    ld_buffer_format(out, ",\"sha256\":\"%s\",\"bytes\":%llu,\"created_us\":%lld", digest,
                     (unsigned long long)entry->bytes, (long long)entry->modified_us);
    if (entry->kind == LD_REGISTRY_MODEL)
        ld_buffer_format(out, ",\"default\":%s,\"loaded\":%s,\"streamed\":%s",
                         strcmp(entry->name, library->default_name) == 0 ? "true" : "false",
                         resident_named(library, entry->name) ? "true" : "false",
                         is_streamed(library, entry->name) ? "true" : "false");
    ld_buffer_text(out, ",\"detail\":");
    ld_buffer_text(out, entry->detail[0] ? entry->detail : "{}");
    ld_buffer_text(out, "}");
}

/* A model given by path stands beside those of the folder. What it is, is known once it is loaded.
 */
static void write_direct_model(struct ld_library *library, struct ld_buffer *out)
{
    const struct ld_resident_entry *loaded = resident_named(library, library->default_name);
    ld_buffer_text(out, "{\"name\":");
    ld_buffer_json_string(out, library->default_name);
    ld_buffer_format(out,
                     ",\"sha256\":\"%s\",\"bytes\":0,\"created_us\":0,\"default\":true,"
                     "\"loaded\":%s,\"streamed\":%s,\"detail\":{",
                     loaded ? loaded->resident.sha256 : "", loaded ? "true" : "false",
                     is_streamed(library, library->default_name) ? "true" : "false");
    if (loaded)
        ld_describe_detection(out, ld_weights_detection(loaded->weights));
    ld_buffer_text(out, "}}");
}

static void write_kind(struct ld_library *library, enum ld_registry_kind kind, const char *key,
                       struct ld_buffer *out)
{
    const uint32_t count = ld_registry_count(library->registry, kind);
    const bool direct = kind == LD_REGISTRY_MODEL && library->default_is_file &&
                        !ld_registry_find(library->registry, kind, library->default_name);
    ld_buffer_format(out, ",\"%s\":[", key);
    if (direct)
        write_direct_model(library, out);
    for (uint32_t i = 0; i < count; i++) {
        if (i > 0 || direct)
            ld_buffer_byte(out, ',');
        write_entry(library, ld_registry_at(library->registry, kind, i), out);
    }
    ld_buffer_text(out, "]");
}

void ld_library_write_unusable(const struct ld_library *library, uint32_t count_max,
                               struct ld_buffer *out)
{
    uint32_t written = 0;
    ld_buffer_byte(out, '[');
    for (int kind = 0; kind < LD_REGISTRY_KIND_COUNT; kind++) {
        const uint32_t count =
            ld_registry_reject_count(library->registry, (enum ld_registry_kind)kind);
        for (uint32_t i = 0; i < count && written < count_max; i++) {
            const struct ld_registry_reject *reject =
                ld_registry_reject_at(library->registry, (enum ld_registry_kind)kind, i);
            ld_buffer_format(out, "%s{\"kind\":\"%s\",\"name\":", written++ ? "," : "",
                             kind_names[kind]);
            ld_buffer_json_string(out, reject->name);
            ld_buffer_text(out, ",\"reason\":");
            ld_buffer_json_string(out, reject->reason);
            ld_buffer_byte(out, '}');
        }
    }
    ld_buffer_byte(out, ']');
}

enum ld_code ld_library_write_inventory(struct ld_library *library, struct ld_error *err)
{
    struct ld_buffer out = ld_buffer_make(LD_INVENTORY_BYTES_MAX);
    library->hash_bytes_left = HASH_AT_ONCE_BYTES;
    ld_buffer_text(&out, "{\"backend\":");
    ld_buffer_json_string(&out, library->backend->name);
    ld_buffer_text(&out, ",\"device\":");
    ld_buffer_json_string(&out, library->backend->description);
    ld_library_write_memory(library, &out);
    for (int kind = 0; kind < LD_REGISTRY_KIND_COUNT; kind++)
        write_kind(library, (enum ld_registry_kind)kind, ld_library_kind_keys[kind], &out);
    ld_registry_save_digests(library->registry);
    ld_buffer_text(&out, ",\"unusable\":");
    ld_library_write_unusable(library, UINT32_MAX, &out);
    ld_buffer_text(&out, "}");
    if (out.failed) {
        ld_buffer_deinit(&out);
        return LD_FAIL(err, LD_E_TOO_LARGE, "the model folders hold too many files");
    }
    ld_buffer_deinit(&library->inventory);
    library->inventory = out;
    return LD_OK;
}

bool ld_library_idle(struct ld_library *library)
{
    bool learned;
    const bool more = ld_registry_hash_some(library->registry, HASH_PIECE_BYTES, &learned);
    library->news = library->news || learned;
    return more;
}

const char *ld_library_inventory(const struct ld_library *library)
{
    return library->inventory.data;
}

/* ---- Names ----------------------------------------------------------------------------------- */

const struct ld_registry_entry *ld_library_lookup(const struct ld_library *library,
                                                  enum ld_registry_kind kind, const char *name,
                                                  struct ld_error *err)
{
    const struct ld_registry_entry *entry = ld_registry_find(library->registry, kind, name);
    if (entry)
        return entry;
    for (uint32_t i = 0; i < ld_registry_reject_count(library->registry, kind); i++) {
        const struct ld_registry_reject *reject = ld_registry_reject_at(library->registry, kind, i);
        if (strcmp(reject->name, name) != 0)
            continue;
        (void)LD_FAIL(err, LD_E_NOT_FOUND, "%s '%.100s' is here but cannot be used: %.300s",
                      kind_names[kind], name, reject->reason);
        return NULL;
    }
    struct ld_nearest nearest = ld_nearest_to(ld_span_text(name));
    for (uint32_t i = 0; i < ld_registry_count(library->registry, kind); i++)
        ld_nearest_offer(&nearest, ld_registry_at(library->registry, kind, i)->name);
    (void)LD_FAIL(err, LD_E_NOT_FOUND, "there is no %s '%.100s' here%s", kind_names[kind], name,
                  ld_nearest_hint(&nearest));
    return NULL;
}
