#include "runtime/text/embeddings.h"

#include "config/limits.h"

#include <stdlib.h>

struct row {
    const char *name;
    uint32_t vectors;
    int32_t index; /* in the caller's list */
    const uint32_t *ids;
    uint32_t id_count;
};

struct ld_embeddings {
    struct row *rows;          /* in the caller's order */
    const struct row **by_ids; /* first id, then longest first; rows without ids left out */
    uint32_t row_count;
    uint32_t by_ids_count;
    const struct ld_embedding_refusal *refusals;
    uint32_t refusal_count;
};

static int compare_by_ids(const void *a, const void *b)
{
    const struct row *x = *(const struct row *const *)a;
    const struct row *y = *(const struct row *const *)b;
    if (x->ids[0] != y->ids[0])
        return x->ids[0] < y->ids[0] ? -1 : 1;
    if (x->id_count != y->id_count)
        return x->id_count > y->id_count ? -1 : 1;
    return x->index - y->index;
}

static enum ld_code add_row(struct ld_embeddings *self, struct ld_arena *arena,
                            const struct ld_bpe *bpe, enum ld_clean profile,
                            const struct ld_embedding_entry *entry, struct ld_error *err)
{
    const size_t size = strlen(entry->name);
    struct row *row = &self->rows[self->row_count];
    struct ld_list ids = ld_list_make(8 * LD_NAME_BYTES_MAX);
    enum ld_code code;
    if (size > LD_NAME_BYTES_MAX) {
        code = LD_FAIL(err, LD_E_TOO_LARGE, "an embedding's name is longer than %d bytes",
                       LD_NAME_BYTES_MAX);
        goto done;
    }
    code = ld_bpe_encode(bpe, profile, ld_span_of(entry->name, size), &ids, err);
    if (code != LD_OK)
        goto done;
    uint32_t *copy = ld_arena_calloc(arena, ids.count, sizeof *copy);
    row->name = ld_arena_strndup(arena, entry->name, size);
    if (!copy || !row->name) {
        code = LD_FAIL(err, LD_E_NOMEM, "out of memory while listing embeddings");
        goto done;
    }
    if (ids.count)
        memcpy(copy, ids.data, ids.count * sizeof *copy);
    row->vectors = entry->vectors;
    row->index = (int32_t)self->row_count;
    row->ids = copy;
    row->id_count = (uint32_t)ids.count;
    self->row_count++;
    if (ids.count > 0)
        self->by_ids[self->by_ids_count++] = row;
done:
    ld_list_deinit(&ids);
    return code;
}

enum ld_code ld_embeddings_create(struct ld_embeddings **out, struct ld_arena *arena,
                                  const struct ld_bpe *bpe, enum ld_clean profile,
                                  const struct ld_embedding_entry *entries, uint32_t count,
                                  struct ld_error *err)
{
    *out = NULL;
    struct ld_embeddings *self = ld_arena_alloc(arena, sizeof *self);
    if (!self || count > INT32_MAX ||
        !(self->rows = ld_arena_calloc(arena, count, sizeof *self->rows)) ||
        !(self->by_ids = ld_arena_calloc(arena, count, sizeof *self->by_ids)))
        return LD_FAIL(err, LD_E_NOMEM, "out of memory while listing embeddings");
    for (uint32_t i = 0; i < count; i++) {
        const enum ld_code code = add_row(self, arena, bpe, profile, &entries[i], err);
        if (code != LD_OK)
            return code;
    }
    if (self->by_ids_count > 1)
        qsort(self->by_ids, self->by_ids_count, sizeof *self->by_ids, compare_by_ids);
    *out = self;
    return LD_OK;
}

void ld_embeddings_refuse(struct ld_embeddings *embeddings,
                          const struct ld_embedding_refusal *refusals, uint32_t count)
{
    embeddings->refusals = refusals;
    embeddings->refusal_count = count;
}

const char *ld_embeddings_refusal(const struct ld_embeddings *embeddings, struct ld_span name)
{
    for (uint32_t i = 0; embeddings && i < embeddings->refusal_count; i++)
        if (ld_span_is(name, embeddings->refusals[i].name))
            return embeddings->refusals[i].reason;
    return NULL;
}

int32_t ld_embeddings_find(const struct ld_embeddings *embeddings, struct ld_span name)
{
    for (uint32_t i = 0; embeddings && i < embeddings->row_count; i++)
        if (ld_span_is(name, embeddings->rows[i].name))
            return (int32_t)i;
    return LD_EMBEDDING_NONE;
}

int32_t ld_embeddings_match(const struct ld_embeddings *embeddings, const uint32_t *ids,
                            size_t count, size_t *length)
{
    if (!embeddings || count == 0)
        return LD_EMBEDDING_NONE;
    uint32_t low = 0;
    uint32_t high = embeddings->by_ids_count;
    while (low < high) {
        const uint32_t middle = low + (high - low) / 2;
        if (embeddings->by_ids[middle]->ids[0] < ids[0])
            low = middle + 1;
        else
            high = middle;
    }
    for (; low < embeddings->by_ids_count && embeddings->by_ids[low]->ids[0] == ids[0]; low++) {
        const struct row *row = embeddings->by_ids[low];
        if (row->id_count <= count && !memcmp(row->ids, ids, row->id_count * sizeof *ids)) {
            *length = row->id_count;
            return row->index;
        }
    }
    return LD_EMBEDDING_NONE;
}

uint32_t ld_embeddings_vectors(const struct ld_embeddings *embeddings, int32_t index)
{
    LD_ASSERT(index >= 0 && (uint32_t)index < embeddings->row_count);
    return embeddings->rows[index].vectors;
}

const char *ld_embeddings_name(const struct ld_embeddings *embeddings, int32_t index)
{
    LD_ASSERT(index >= 0 && (uint32_t)index < embeddings->row_count);
    return embeddings->rows[index].name;
}
