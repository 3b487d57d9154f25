/*
 * A model's way from text: its vocabulary, wherever it is, and the textual inversions that fit its
 * text encoder.
 */
#include "runtime/library_state.h"

#include "runtime/model/arch.h"
#include "runtime/model/embedding.h"
#include "runtime/model/hash.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

enum { PATH_SIZE = 4096 };

/* ---- Vocabulary ------------------------------------------------------------------------------ */

/* Where get_clip_vocab.sh puts it. */
static bool default_vocabulary(char *out, size_t size)
{
    const char *data = getenv("XDG_DATA_HOME");
    const char *home = getenv("HOME");
    if (data && data[0] == '/')
        return ld_fmt(out, size, "%s/latentd/clip", data);
    return home && home[0] && ld_fmt(out, size, "%s/.local/share/latentd/clip", home);
}

static bool folder_of(const char *path, char *out, size_t size)
{
    const char *slash = strrchr(path, '/');
    return ld_fmt(out, size, "%.*s", slash ? (int)(slash - path + 1) : 1, slash ? path : ".");
}

/* What is wrong with it is said with the setting that names it. */
static enum ld_code load_configured(const struct ld_library *library, struct ld_arena *arena,
                                    uint32_t merges, struct ld_bpe **out, struct ld_error *err)
{
    char why[LD_ERROR_DETAIL_SIZE];
    const enum ld_code code = ld_bpe_load(out, arena, library->config.vocab_path, merges, err);
    if (code != LD_OK) {
        memcpy(why, err->detail, sizeof why);
        (void)ld_fmt(err->detail, sizeof err->detail, "the file of models.vocab: %.400s", why);
    }
    return code;
}

/* In this order: the model's own, the configured one, one beside the model, the installed one. */
static enum ld_code load_vocabulary(struct ld_library *library, struct ld_resident_entry *entry,
                                    const char *path, uint32_t merges, struct ld_bpe **out,
                                    struct ld_error *err)
{
    const struct ld_weights *weights = ld_model_weights(entry->resident.model);
    const char *own = ld_weights_metadata(weights, LD_VOCABULARY_KEY);
    char place[PATH_SIZE];
    if (own)
        return ld_bpe_create(out, &entry->arena, ld_span_text(own), merges, err);
    if (library->config.vocab_path[0])
        return load_configured(library, &entry->arena, merges, out, err);
    struct ld_error ignored = {0};
    if (ld_bpe_load(out, &entry->arena, path, merges, &ignored) == LD_OK)
        return LD_OK;
    if (folder_of(path, place, sizeof place) &&
        ld_bpe_load(out, &entry->arena, place, merges, &ignored) == LD_OK)
        return LD_OK;
    if (default_vocabulary(place, sizeof place) &&
        ld_bpe_load(out, &entry->arena, place, merges, &ignored) == LD_OK)
        return LD_OK;
    return LD_FAIL(err, LD_E_NOT_FOUND,
                   "the model has no vocabulary of its own and the CLIP vocabulary is not "
                   "installed; run deploy/get_clip_vocab.sh, or name it with --vocab");
}

/* ---- Textual inversions ---------------------------------------------------------------------- */

static enum ld_code load_vectors(struct ld_arena *arena, struct ld_registry *registry,
                                 const struct ld_registry_entry *file, int32_t width,
                                 struct ld_vectors *out, struct ld_error *err)
{
    struct ld_embedding embedding = {0};
    enum ld_code code = ld_embedding_open(&embedding, file->path, width, err);
    if (code == LD_OK) {
        const size_t size = (size_t)embedding.vectors * (size_t)width * sizeof(float);
        float *data = ld_arena_alloc(arena, size);
        out->name = ld_arena_strdup(arena, file->name);
        if (data && out->name) {
            memcpy(data, embedding.values, size);
            out->count = (uint32_t)embedding.vectors;
            out->data = data;
            code = ld_registry_sha256(registry, file, out->sha256, err);
        } else {
            code = LD_FAIL(err, LD_E_NOMEM, "out of memory for the embeddings");
        }
    }
    ld_embedding_deinit(&embedding);
    return code;
}

/* Whoever names one of these hears why it is left out; without memory, that it is not known. */
static void refuse_embedding(struct ld_embedding_refusal *refusals, uint32_t *count,
                             struct ld_arena *arena, const char *name, const char *reason)
{
    struct ld_embedding_refusal *refusal = &refusals[*count];
    refusal->name = ld_arena_strdup(arena, name);
    refusal->reason = ld_arena_strdup(arena, reason);
    if (refusal->name && refusal->reason)
        *count += 1;
}

/* Files that do not fit this model (another width, damaged) are left out: they may be meant for
 * another one, and the inventory tells what they are. */
static enum ld_code load_embeddings(struct ld_library *library, struct ld_resident *resident,
                                    struct ld_arena *arena, struct ld_error *err)
{
    const struct ld_registry *registry = library->registry;
    const int32_t width = ld_model_arch(resident->model)->text_width;
    const uint32_t files = ld_registry_count(registry, LD_REGISTRY_EMBEDDING);
    const uint32_t rejects = ld_registry_reject_count(registry, LD_REGISTRY_EMBEDDING);
    struct ld_embedding_entry *names = ld_arena_calloc(arena, files + 1, sizeof *names);
    struct ld_embedding_refusal *refusals =
        ld_arena_calloc(arena, files + rejects + 1, sizeof *refusals);
    uint32_t refused = 0;
    resident->vectors = ld_arena_calloc(arena, files + 1, sizeof *resident->vectors);
    resident->vector_count = 0;
    if (!names || !refusals || !resident->vectors)
        return LD_FAIL(err, LD_E_NOMEM, "out of memory for the embeddings");
    for (uint32_t i = 0; i < files; i++) {
        const struct ld_registry_entry *file = ld_registry_at(registry, LD_REGISTRY_EMBEDDING, i);
        struct ld_error why = {0};
        struct ld_vectors *vectors = &resident->vectors[resident->vector_count];
        if (load_vectors(arena, library->registry, file, width, vectors, &why) != LD_OK) {
            refuse_embedding(refusals, &refused, arena, file->name, why.detail);
            continue;
        }
        names[resident->vector_count].name = vectors->name;
        names[resident->vector_count].vectors = vectors->count;
        resident->vector_count++;
    }
    for (uint32_t i = 0; i < rejects; i++) {
        const struct ld_registry_reject *reject =
            ld_registry_reject_at(registry, LD_REGISTRY_EMBEDDING, i);
        refuse_embedding(refusals, &refused, arena, reject->name, reject->reason);
    }
    const enum ld_code code =
        ld_embeddings_create(&resident->embeddings, arena, resident->bpe, LD_CLEAN_COMFY, names,
                             resident->vector_count, err);
    if (code == LD_OK)
        ld_embeddings_refuse(resident->embeddings, refusals, refused);
    return code;
}

enum ld_code ld_library_reload_embeddings(struct ld_library *library,
                                          struct ld_resident_entry *entry, struct ld_error *err)
{
    struct ld_resident fresh = entry->resident;
    struct ld_arena arena;
    ld_arena_init(&arena, "embeddings", LD_VECTORS_ARENA_MAX);
    if (load_embeddings(library, &fresh, &arena, err) != LD_OK) {
        ld_arena_deinit(&arena);
        return err->code;
    }
    ld_arena_deinit(&entry->vectors);
    entry->vectors = arena;
    entry->resident.embeddings = fresh.embeddings;
    entry->resident.vectors = fresh.vectors;
    entry->resident.vector_count = fresh.vector_count;
    return LD_OK;
}

enum ld_code ld_library_load_text(struct ld_library *library, struct ld_resident_entry *entry,
                                  const char *path, struct ld_error *err)
{
    const struct ld_arch *arch = ld_model_arch(entry->resident.model);
    struct ld_bpe *bpe = NULL;
    const int32_t special = LD_BPE_FIRST_MERGE + 2; /* alphabet twice, start and end */
    if (!arch->has_text)
        return LD_FAIL(err, LD_E_UNSUPPORTED, "the model has no text encoder");
    if (arch->text_vocabulary <= special)
        return LD_FAIL(err, LD_E_SHAPE, "the model's token table is too small for any vocabulary");
    const uint32_t merges = (uint32_t)(arch->text_vocabulary - special);
    if (load_vocabulary(library, entry, path, merges, &bpe, err) != LD_OK)
        return err->code;
    if (ld_bpe_merge_count(bpe) != merges)
        return LD_FAIL(err, LD_E_SHAPE, "the vocabulary has %u merges, the model needs %u",
                       ld_bpe_merge_count(bpe), merges);
    entry->resident.bpe = bpe;
    return load_embeddings(library, &entry->resident, &entry->vectors, err);
}
