#include "runtime/model/model_notes.h"

#include "runtime/base/id.h"
#include "runtime/model/weights_private.h"

#include <string.h>

void ld_model_notes_remove(struct ld_model_notes *notes, const char *key)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < notes->count; i++) {
        if (strcmp(notes->notes[i].key, key) != 0)
            notes->notes[kept++] = notes->notes[i];
    }
    notes->count = kept;
}

void ld_model_notes_set(struct ld_model_notes *notes, const char *key, const char *value)
{
    ld_model_notes_remove(notes, key);
    if (notes->count < LD_MODEL_NOTES_MAX)
        notes->notes[notes->count++] = (struct ld_st_note){key, value};
}

/* What no longer holds for a new file. */
static bool is_stale(const char *key)
{
    static const char *const keys[] = {"latentd.merge", "latentd.convert", "modelspec.hash_sha256",
                                       "sshs_model_hash", "sshs_legacy_hash"};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        if (strcmp(key, keys[i]) == 0)
            return true;
    }
    return false;
}

void ld_model_notes_of(struct ld_model_notes *notes, const struct ld_weights *parent)
{
    memset(notes, 0, sizeof *notes);
    const struct ld_weights *root = ld_weights_root(parent);
    const struct ld_safetensors *file = root->files.count ? root->files.files[0] : NULL;
    const uint32_t count = file ? ld_safetensors_metadata_count(file) : 0;
    /* A few places stay for what the caller adds. */
    for (uint32_t i = 0; i < count && notes->count < LD_MODEL_NOTES_MAX - 8; i++) {
        const char *key;
        const char *value;
        ld_safetensors_metadata_at(file, i, &key, &value);
        if (!is_stale(key))
            ld_model_notes_set(notes, key, value);
    }
    if (!file || !ld_safetensors_metadata(file, "format"))
        ld_model_notes_set(notes, "format", "pt");
}

enum ld_code ld_model_notes_parent(struct ld_buffer *out, struct ld_weights *parent,
                                   const char *path, struct ld_error *err)
{
    char digest[LD_SHA256_HEX_SIZE];
    const enum ld_code code = ld_weights_sha256(parent, digest, err);
    size_t size = strlen(path);
    while (size > 1 && path[size - 1] == '/')
        size--;
    size_t start = size;
    while (start > 0 && path[start - 1] != '/')
        start--;
    if (code == LD_OK) {
        ld_buffer_text(out, "{\"name\":");
        ld_buffer_json_span(out, ld_span_of(path + start, size - start));
        ld_buffer_format(out, ",\"sha256\":\"%s\"}", digest);
    }
    return code;
}
