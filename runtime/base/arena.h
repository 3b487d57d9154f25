/*
 * Bounded memory. This is the only module that calls the C allocator.
 *
 *   - An *arena* is named by its lifetime, grows in chunks up to a fixed ceiling and is released as
 *     a whole; cleanup hooks close files and library objects, newest first.
 *   - A *block* is one large, 64-byte aligned, zeroed piece taken from the system (weights,
 *     activations).
 *
 *     struct ld_arena arena;
 *     ld_arena_init(&arena, "request", 1 << 20);
 *     char *copy = ld_arena_strdup(&arena, text);      // NULL at the ceiling
 *     ld_arena_deinit(&arena);
 */
#ifndef LD_BASE_ARENA_H
#define LD_BASE_ARENA_H

#include "runtime/base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct ld_arena_chunk;
struct ld_arena_hook;

/* Owned by one thread. Zero-initialised is a valid empty arena with ceiling 0. */
struct ld_arena {
    const char *name;
    size_t bytes_limit;
    size_t bytes_used; /* taken from the system, bookkeeping included */
    struct ld_arena_chunk *newest;
    struct ld_arena_hook *hooks;
};

/* Caller's storage; takes nothing from the system until the first allocation. */
void ld_arena_init(struct ld_arena *arena, const char *name, size_t bytes_limit);

/* Run all hooks, newest first, and give everything back. Safe on a zeroed or deinited arena. */
void ld_arena_deinit(struct ld_arena *arena);

/* deinit and ready for reuse with the same ceiling. */
void ld_arena_reset(struct ld_arena *arena);

/* Zeroed, 16-byte aligned; NULL at the ceiling or when the system has none. size 0 gives a
 * valid unique pointer. */
void *ld_arena_alloc(struct ld_arena *arena, size_t size) LD_MUST_USE;

/* `count * size` with an overflow check; otherwise as ld_arena_alloc. */
void *ld_arena_calloc(struct ld_arena *arena, size_t count, size_t size) LD_MUST_USE;

char *ld_arena_strdup(struct ld_arena *arena, const char *text) LD_MUST_USE;

/* Copies `size` bytes and appends a NUL. */
char *ld_arena_strndup(struct ld_arena *arena, const char *bytes, size_t size) LD_MUST_USE;

/* Register `run(object)` for reset or deinit. False (nothing registered) at the ceiling. */
bool ld_arena_on_reset(struct ld_arena *arena, void (*run)(void *object), void *object) LD_MUST_USE;

/* ---- Blocks ---------------------------------------------------------------------------------- */

/* Zeroed and 64-byte aligned, pages on demand; NULL when the system has none. Free with
 * ld_block_free and the same size. */
void *ld_block_alloc(size_t size) LD_MUST_USE;
void ld_block_free(void *block, size_t size);

/* ---- Single objects -------------------------------------------------------------------------- */

/* Zeroed object on the heap for things whose lifetime is neither an arena's nor the process's
 * (cache entries, connections). NULL when out of memory. */
void *ld_heap_alloc(size_t size) LD_MUST_USE;
void *ld_heap_calloc(size_t count, size_t size) LD_MUST_USE;
/* As realloc; new bytes are not zeroed; on NULL the old block stays. */
void *ld_heap_resize(void *object, size_t size) LD_MUST_USE;
char *ld_heap_strdup(const char *text) LD_MUST_USE;
void ld_heap_free(void *object);

#ifdef __cplusplus
}
#endif
#endif
