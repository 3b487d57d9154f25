/*
 * Memory and names while a PTX text is read: chunks that are freed at once, and a hash table with
 * open addressing.
 */
#include "tests/ptx/names.h"

#include <stdalign.h>
#include <stdlib.h>
#include <string.h>

/* ---- Memory ---------------------------------------------------------------------------------- */

struct ptx_chunk {
    struct ptx_chunk *next;
    size_t bytes;
    alignas(max_align_t) unsigned char data[];
};

enum { CHUNK_BYTES = 1 << 16, ALIGN = alignof(max_align_t) };

void *ptx_pool_get(struct ptx_pool *pool, size_t bytes)
{
    if (bytes > SIZE_MAX / 2)
        return NULL;
    bytes = (bytes + ALIGN - 1) / ALIGN * ALIGN;
    if (bytes > pool->left) {
        size_t room = bytes > CHUNK_BYTES ? bytes : CHUNK_BYTES;
        struct ptx_chunk *chunk = calloc(1, sizeof *chunk + room);
        if (!chunk)
            return NULL;
        chunk->bytes = room;
        chunk->next = pool->chunks;
        pool->chunks = chunk;
        pool->left = room;
    }
    struct ptx_chunk *chunk = pool->chunks;
    if (!chunk)
        return NULL; /* nothing was asked of an empty pool */
    pool->left -= bytes;
    return chunk->data + (chunk->bytes - pool->left - bytes);
}

char *ptx_pool_text(struct ptx_pool *pool, const char *text, size_t length)
{
    char *copy = ptx_pool_get(pool, length + 1);
    if (copy)
        memcpy(copy, text, length);
    return copy;
}

void ptx_pool_free(struct ptx_pool *pool)
{
    while (pool->chunks) {
        struct ptx_chunk *next = pool->chunks->next;
        free(pool->chunks);
        pool->chunks = next;
    }
    pool->left = 0;
}

/* ---- Names ----------------------------------------------------------------------------------- */

static int space_of(enum ptx_name_kind kind)
{
    switch (kind) {
    case PTX_NAME_OPCODE:
        return 1;
    case PTX_NAME_RANGE:
        return 2;
    case PTX_NAME_LABEL:
        return 3;
    case PTX_NAME_KERNEL:
    case PTX_NAME_REGISTER:
    case PTX_NAME_SYMBOL:
    case PTX_NAME_DYNAMIC:
        break;
    }
    return 0;
}

/* FNV-1a over the name, its scope and its space. */
static size_t hash_of(int32_t scope, const char *text, size_t length, enum ptx_name_kind kind)
{
    uint64_t hash = 14695981039346656037u;
    for (size_t i = 0; i < length; i++)
        hash = (hash ^ (unsigned char)text[i]) * 1099511628211u;
    hash = (hash ^ (uint64_t)scope) * 1099511628211u;
    hash = (hash ^ (uint64_t)space_of(kind)) * 1099511628211u;
    return (size_t)(hash ^ hash >> 29);
}

static bool is_name(const struct ptx_name *name, int32_t scope, const char *text, size_t length,
                    enum ptx_name_kind kind)
{
    return name->scope == scope && name->length == length &&
           space_of(name->kind) == space_of(kind) && memcmp(name->text, text, length) == 0;
}

struct ptx_name *ptx_names_find(const struct ptx_names *names, int32_t scope, const char *text,
                                size_t length, enum ptx_name_kind kind)
{
    if (names->slot_count == 0)
        return NULL;
    size_t at = hash_of(scope, text, length, kind) & (names->slot_count - 1);
    while (names->slots[at] && !is_name(names->slots[at], scope, text, length, kind))
        at = (at + 1) & (names->slot_count - 1);
    return names->slots[at];
}

static void place(struct ptx_name **slots, size_t slot_count, struct ptx_name *name)
{
    size_t at = hash_of(name->scope, name->text, name->length, name->kind) & (slot_count - 1);
    while (slots[at])
        at = (at + 1) & (slot_count - 1);
    slots[at] = name;
}

static bool grow(struct ptx_names *names)
{
    if (names->count * 2 < names->slot_count)
        return true;
    size_t slot_count = names->slot_count ? names->slot_count * 2 : 256;
    struct ptx_name **slots = calloc(slot_count, sizeof(struct ptx_name *));
    if (!slots)
        return false;
    for (size_t i = 0; i < names->slot_count; i++)
        if (names->slots[i])
            place(slots, slot_count, names->slots[i]);
    free(names->slots);
    names->slots = slots;
    names->slot_count = slot_count;
    return true;
}

struct ptx_name *ptx_names_add(struct ptx_names *names, struct ptx_pool *pool, int32_t scope,
                               const char *text, size_t length, enum ptx_name_kind kind)
{
    struct ptx_name *name = ptx_pool_get(pool, sizeof *name);
    char *copy = ptx_pool_text(pool, text, length);
    if (!name || !copy || !grow(names))
        return NULL;
    *name = (struct ptx_name){.text = copy, .length = length, .scope = scope, .kind = kind};
    place(names->slots, names->slot_count, name);
    names->count++;
    return name;
}

void ptx_names_free(struct ptx_names *names)
{
    free(names->slots);
    *names = (struct ptx_names){0};
}
