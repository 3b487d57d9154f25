#include "runtime/base/arena.h"

#include "runtime/base/bytes.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { CHUNK_SIZE_MIN = 16 * 1024, ALIGNMENT = 16 };

struct ld_arena_chunk {
    struct ld_arena_chunk *older;
    size_t size; /* of the payload */
    size_t used;
    _Alignas(ALIGNMENT) unsigned char payload[];
};

struct ld_arena_hook {
    struct ld_arena_hook *older;
    void (*run)(void *object);
    void *object;
};

void ld_arena_init(struct ld_arena *arena, const char *name, size_t bytes_limit)
{
    memset(arena, 0, sizeof *arena);
    arena->name = name;
    arena->bytes_limit = bytes_limit;
}

void ld_arena_deinit(struct ld_arena *arena)
{
    for (struct ld_arena_hook *hook = arena->hooks; hook; hook = hook->older)
        hook->run(hook->object);
    arena->hooks = NULL;
    while (arena->newest) {
        struct ld_arena_chunk *older = arena->newest->older;
        free(arena->newest);
        arena->newest = older;
    }
    arena->bytes_used = 0;
}

void ld_arena_reset(struct ld_arena *arena)
{
    ld_arena_deinit(arena);
}

static bool add_chunk(struct ld_arena *arena, size_t size)
{
    size_t payload = size > CHUNK_SIZE_MIN ? size : CHUNK_SIZE_MIN;
    size_t total;
    size_t used;
    if (!ld_add_ok(payload, sizeof(struct ld_arena_chunk), &total) ||
        !ld_add_ok(arena->bytes_used, total, &used))
        return false;
    if (used > arena->bytes_limit) {
        /* A last, smaller chunk may still hold the request. */
        if (!ld_add_ok(size, sizeof(struct ld_arena_chunk), &total) ||
            !ld_add_ok(arena->bytes_used, total, &used) || used > arena->bytes_limit)
            return false;
        payload = size;
    }
    struct ld_arena_chunk *chunk = calloc(1, total);
    if (!chunk)
        return false;
    chunk->older = arena->newest;
    chunk->size = payload;
    arena->newest = chunk;
    arena->bytes_used = used;
    return true;
}

void *ld_arena_alloc(struct ld_arena *arena, size_t size)
{
    size_t rounded;
    if (!ld_add_ok(size ? size : 1, ALIGNMENT - 1, &rounded))
        return NULL;
    rounded &= ~(size_t)(ALIGNMENT - 1);
    struct ld_arena_chunk *chunk = arena->newest;
    if (!chunk || chunk->size - chunk->used < rounded) {
        if (!add_chunk(arena, rounded))
            return NULL;
        chunk = arena->newest;
    }
    void *place = chunk->payload + chunk->used;
    chunk->used += rounded;
    return place;
}

void *ld_arena_calloc(struct ld_arena *arena, size_t count, size_t size)
{
    size_t total;
    return ld_mul_ok(count, size, &total) ? ld_arena_alloc(arena, total) : NULL;
}

char *ld_arena_strndup(struct ld_arena *arena, const char *bytes, size_t size)
{
    size_t total;
    if (!ld_add_ok(size, 1, &total))
        return NULL;
    char *copy = ld_arena_alloc(arena, total);
    if (copy && size)
        memcpy(copy, bytes, size);
    return copy;
}

char *ld_arena_strdup(struct ld_arena *arena, const char *text)
{
    return ld_arena_strndup(arena, text, strlen(text));
}

bool ld_arena_on_reset(struct ld_arena *arena, void (*run)(void *object), void *object)
{
    struct ld_arena_hook *hook = ld_arena_alloc(arena, sizeof *hook);
    if (!hook)
        return false;
    hook->older = arena->hooks;
    hook->run = run;
    hook->object = object;
    arena->hooks = hook;
    return true;
}

/* ---- Blocks ---------------------------------------------------------------------------------- */

/* Straight from mmap: pages arrive zeroed and on demand, and go back to the system at once. */
void *ld_block_alloc(size_t size)
{
    if (size == 0)
        size = 1;
    void *block = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (block == MAP_FAILED)
        return NULL;
    if (size >= (size_t)4 << 20)
        (void)madvise(block, size, MADV_HUGEPAGE); /* fewer TLB misses; a refusal is harmless */
    return block;
}

void ld_block_free(void *block, size_t size)
{
    if (block)
        (void)munmap(block, size ? size : 1);
}

/* ---- Single objects -------------------------------------------------------------------------- */

void *ld_heap_alloc(size_t size)
{
    return calloc(1, size ? size : 1);
}

void *ld_heap_calloc(size_t count, size_t size)
{
    size_t total;
    return ld_mul_ok(count, size, &total) ? ld_heap_alloc(total) : NULL;
}

void *ld_heap_resize(void *object, size_t size)
{
    return realloc(object, size ? size : 1);
}

char *ld_heap_strdup(const char *text)
{
    const size_t size = strlen(text) + 1;
    char *copy = ld_heap_alloc(size);
    if (copy)
        memcpy(copy, text, size);
    return copy;
}

void ld_heap_free(void *object)
{
    free(object);
}
