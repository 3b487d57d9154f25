/*
 * Weight variants: a model with adapters merged in, made once and kept while it is used and after
 * that as long as the budget lasts. The key names the model, DoRA's norm, every adapter's content
 * and both strengths in order, so nothing of one request reaches another.
 */
#include "runtime/library_state.h"

#include "runtime/ipc/stats.h"
#include "runtime/model/adapter.h"

/* ---- The cache ------------------------------------------------------------------------------- */

static void drop(struct ld_variant_entry *entry)
{
    ld_variant_destroy(entry->variant);
    ld_buffer_deinit(&entry->report);
    memset(entry, 0, sizeof *entry);
}

void ld_library_drop_variants(struct ld_library *library, const struct ld_resident *model)
{
    for (int i = 0; i < LD_VARIANTS_MAX; i++)
        if (library->variants[i].variant && library->variants[i].model == model)
            drop(&library->variants[i]);
}

static struct ld_variant_entry *oldest_unused(struct ld_library *library)
{
    struct ld_variant_entry *oldest = NULL;
    for (int i = 0; i < LD_VARIANTS_MAX; i++) {
        struct ld_variant_entry *entry = &library->variants[i];
        if (entry->variant && entry->users == 0 && (!oldest || entry->used < oldest->used))
            oldest = entry;
    }
    return oldest;
}

bool ld_library_drop_unused_variants(struct ld_library *library)
{
    bool dropped = false;
    for (struct ld_variant_entry *entry; (entry = oldest_unused(library)) != NULL; dropped = true)
        drop(entry);
    return dropped;
}

/* Until the budget holds what is there. */
static void shrink(struct ld_library *library)
{
    for (int round = 0; round < LD_VARIANTS_MAX; round++) {
        size_t bytes = 0;
        for (int i = 0; i < LD_VARIANTS_MAX; i++)
            bytes += library->variants[i].bytes;
        struct ld_variant_entry *oldest = oldest_unused(library);
        if (bytes <= library->variant_bytes_max || !oldest)
            return;
        drop(oldest);
    }
}

static struct ld_variant_entry *free_place(struct ld_library *library)
{
    for (int i = 0; i < LD_VARIANTS_MAX; i++)
        if (!library->variants[i].variant)
            return &library->variants[i];
    struct ld_variant_entry *oldest = oldest_unused(library);
    if (oldest)
        drop(oldest);
    return oldest;
}

/* ---- Making one ------------------------------------------------------------------------------ */

const char *ld_library_adapter_sha256(const struct ld_library *library, const char *name)
{
    static _Thread_local char digest[LD_SHA256_HEX_SIZE];
    const struct ld_registry_entry *entry =
        ld_registry_find(library->registry, LD_REGISTRY_ADAPTER, name);
    if (!entry || ld_registry_sha256(library->registry, entry, digest, NULL) != LD_OK)
        digest[0] = '\0';
    return digest;
}

static enum ld_code key_of(struct ld_library *library, const struct ld_resident *resident,
                           const struct ld_request_lora *loras, uint32_t count,
                           enum ld_dora_choice norm, char key[LD_SHA256_HEX_SIZE],
                           struct ld_error *err)
{
    struct ld_buffer text = ld_buffer_make(64 * 1024);
    enum ld_code code = LD_OK;
    ld_buffer_format(&text, "%s|%d", resident->sha256, (int)norm);
    for (uint32_t i = 0; code == LD_OK && i < count; i++) {
        char digest[LD_SHA256_HEX_SIZE] = "";
        const struct ld_registry_entry *entry =
            ld_library_lookup(library, LD_REGISTRY_ADAPTER, loras[i].name, err);
        code = entry ? ld_registry_sha256(library->registry, entry, digest, err) : err->code;
        ld_buffer_format(&text, "|%s:%.17g:%.17g", digest, loras[i].weight, loras[i].text_weight);
    }
    if (code == LD_OK && text.failed)
        code = LD_FAIL(err, LD_E_NOMEM, "out of memory for the adapters");
    if (code == LD_OK)
        ld_sha256_hex(ld_span_of(text.data, text.size), key);
    ld_buffer_deinit(&text);
    return code;
}

static void write_report(const struct ld_request_lora *lora, const char *digest,
                         const struct ld_adapter_report *report, struct ld_buffer *out)
{
    ld_buffer_text(out, "{\"name\":");
    ld_buffer_json_string(out, lora->name);
    ld_buffer_format(out, ",\"sha256\":\"%s\",\"weight\":", digest);
    ld_buffer_json_double(out, lora->weight);
    ld_buffer_text(out, ",\"text_weight\":");
    ld_buffer_json_double(out, lora->text_weight);
    ld_buffer_format(out, ",\"tensors_applied\":%u,\"tensors_unmatched\":%u}\n",
                     report->tensors_applied, report->modules_unmatched);
}

/* Of several adapters, which one it was; the chain of causes stays. */
static void name_adapter(const char *name, struct ld_error *err)
{
    char why[LD_ERROR_DETAIL_SIZE];
    memcpy(why, err->detail, sizeof why);
    (void)ld_fmt(err->detail, sizeof err->detail, "adapter '%.100s': %.300s", name, why);
}

/* `adapter` stays open until the variant is packed, which is when its values are computed. */
static enum ld_code apply_one(struct ld_library *library, const struct ld_request_lora *lora,
                              enum ld_dora_choice norm, struct ld_weights *overlay,
                              struct ld_adapter **adapter, struct ld_buffer *lines,
                              struct ld_error *err)
{
    struct ld_adapter_report report = {0};
    char digest[LD_SHA256_HEX_SIZE] = "";
    const struct ld_registry_entry *file =
        ld_library_lookup(library, LD_REGISTRY_ADAPTER, lora->name, err);
    if (!file)
        return err->code;
    const struct ld_adapter_options options = {
        .unet_strength = lora->weight,
        .text_strength = lora->text_weight,
        .dora_norm = norm == LD_DORA_CHOICE_COMFY ? LD_DORA_COMFY : LD_DORA_MERGED,
        .pool = library->pool,
    };
    enum ld_code code = ld_registry_sha256(library->registry, file, digest, err);
    if (code == LD_OK)
        code = ld_adapter_open(adapter, file->path, err);
    if (code == LD_OK)
        code = ld_adapter_apply(*adapter, overlay, &options, &report, err);
    const bool off =
        !(lora->weight < 0 || lora->weight > 0 || lora->text_weight < 0 || lora->text_weight > 0);
    if (code == LD_OK && report.tensors_applied == 0 && !off)
        code =
            LD_FAIL(err, LD_E_UNSUPPORTED,
                    "adapter '%.100s' fits no tensor of this model; it was made for another kind",
                    lora->name);
    else if (code != LD_OK)
        name_adapter(lora->name, err);
    if (code == LD_OK)
        write_report(lora, digest, &report, lines);
    return code;
}

/* Tensor by tensor: what the adapters make of one is packed before the next is made. */
static enum ld_code make(struct ld_library *library, struct ld_resident *resident,
                         const struct ld_request_lora *loras, uint32_t count,
                         enum ld_dora_choice norm, struct ld_variant_entry *entry,
                         struct ld_error *err)
{
    struct ld_adapter *adapters[LD_REQUEST_LORAS_MAX] = {0};
    struct ld_weights *overlay = NULL;
    LD_ASSERT(count <= LD_REQUEST_LORAS_MAX);
    entry->report = ld_buffer_make(64 * 1024);
    entry->model = resident;
    entry->users = 1; /* not to be let go while it is made */
    enum ld_code code = ld_weights_overlay(&overlay, ld_model_weights(resident->model), err);
    for (uint32_t i = 0; code == LD_OK && i < count; i++)
        code = apply_one(library, &loras[i], norm, overlay, &adapters[i], &entry->report, err);
    if (code == LD_OK)
        code = ld_variant_create(&entry->variant, resident->model, overlay, err);
    if (code == LD_OK)
        code = ld_variant_load(entry->variant, err);
    ld_weights_close(overlay);
    for (uint32_t i = 0; i < count; i++)
        ld_adapter_close(adapters[i]);
    if (code != LD_OK) {
        drop(entry);
        return code;
    }
    entry->bytes = ld_variant_bytes(entry->variant);
    entry->serial = library->next_serial++;
    return LD_OK;
}

/* What was read is what the key names, as long as the files are the same before and after. */
static enum ld_code make_as_named(struct ld_library *library, struct ld_resident *resident,
                                  const struct ld_request_lora *loras, uint32_t count,
                                  enum ld_dora_choice norm, struct ld_variant_entry *entry,
                                  const char key[LD_SHA256_HEX_SIZE], struct ld_error *err)
{
    char after[LD_SHA256_HEX_SIZE] = "";
    enum ld_code code = make(library, resident, loras, count, norm, entry, err);
    if (code != LD_OK)
        return code;
    code = key_of(library, resident, loras, count, norm, after, err);
    if (code == LD_OK && strcmp(after, key) != 0)
        code = LD_FAIL(err, LD_E_CONFLICT,
                       "an adapter's file was replaced while it was read; send the job again");
    if (code == LD_OK)
        memcpy(entry->key, key, sizeof entry->key);
    else
        drop(entry);
    return code;
}

enum ld_code ld_library_variant(struct ld_library *library, struct ld_resident *resident,
                                const struct ld_request_lora *loras, uint32_t count,
                                enum ld_dora_choice dora_norm, struct ld_variant_pin *out,
                                struct ld_buffer *report, struct ld_error *err)
{
    char key[LD_SHA256_HEX_SIZE];
    struct ld_variant_entry *entry = NULL;
    if (key_of(library, resident, loras, count, dora_norm, key, err) != LD_OK)
        return err->code;
    for (int i = 0; i < LD_VARIANTS_MAX && !entry; i++)
        if (library->variants[i].variant && library->variants[i].model == resident &&
            strcmp(library->variants[i].key, key) == 0)
            entry = &library->variants[i];
    ld_stats_add(entry ? LD_STAT_VARIANT_HITS : LD_STAT_VARIANT_MISSES, 1);
    if (!entry) {
        entry = free_place(library);
        if (!entry)
            return LD_FAIL(err, LD_E_NOMEM, "too many adapter sets are in use at once");
        if (make_as_named(library, resident, loras, count, dora_norm, entry, key, err) != LD_OK)
            return err->code;
    } else {
        entry->users++;
    }
    entry->used = ++library->clock;
    if (entry->report.size)
        ld_buffer_text(report, entry->report.data);
    *out = (struct ld_variant_pin){entry->variant, entry->serial};
    shrink(library);
    return LD_OK;
}

void ld_library_variant_release(struct ld_library *library, const struct ld_variant_pin *pin)
{
    for (int i = 0; pin->variant && i < LD_VARIANTS_MAX; i++) {
        if (library->variants[i].variant != pin->variant)
            continue;
        LD_ASSERT(library->variants[i].users > 0);
        library->variants[i].users--;
        shrink(library);
        return;
    }
}
