/*
 * Atomic operations: C11 atomics on the host's memory, so blocks on other host threads see them as
 * one.
 *
 * Lanes of a warp take their turns in the order of ptx_options. A result that depends on it depends
 * on it on a GPU as well. The orders that PTX can ask for are all taken as the strongest.
 *
 * Source: PTX ISA 9.0, "atom", "red".
 */
#include "tests/ptx/memory_ops.h"

#include <stdatomic.h>
#include <string.h>

/* ---- One operation on one place -------------------------------------------------------------- */

static uint32_t add_u32(void *at, uint32_t value)
{
    return atomic_fetch_add((_Atomic uint32_t *)at, value);
}

static uint64_t add_u64(void *at, uint64_t value)
{
    return atomic_fetch_add((_Atomic uint64_t *)at, value);
}

static uint32_t and_b32(void *at, uint32_t value)
{
    return atomic_fetch_and((_Atomic uint32_t *)at, value);
}

static uint32_t or_b32(void *at, uint32_t value)
{
    return atomic_fetch_or((_Atomic uint32_t *)at, value);
}

static uint32_t xor_b32(void *at, uint32_t value)
{
    return atomic_fetch_xor((_Atomic uint32_t *)at, value);
}

static uint32_t exch_b32(void *at, uint32_t value)
{
    return atomic_exchange((_Atomic uint32_t *)at, value);
}

static uint64_t exch_b64(void *at, uint64_t value)
{
    return atomic_exchange((_Atomic uint64_t *)at, value);
}

/* `result`: the new value, from the `old` one and `value`. */
#define DEFINE_UPDATE(name, T, result)                                                             \
    static T name(void *at, T value)                                                               \
    {                                                                                              \
        T old = atomic_load((_Atomic T *)at);                                                      \
        while (!atomic_compare_exchange_weak((_Atomic T *)at, &old, (result)))                     \
            ;                                                                                      \
        return old;                                                                                \
    }

static uint32_t sum_f32(uint32_t a, uint32_t b)
{
    float x, y;
    memcpy(&x, &a, sizeof x);
    memcpy(&y, &b, sizeof y);
    x += y;
    memcpy(&a, &x, sizeof a);
    return a;
}

DEFINE_UPDATE(add_f32, uint32_t, sum_f32(old, value))
DEFINE_UPDATE(max_u32, uint32_t, old > value ? old : value)
DEFINE_UPDATE(min_u32, uint32_t, old < value ? old : value)
DEFINE_UPDATE(max_s32, uint32_t, (int32_t)old > (int32_t)value ? old : value)
DEFINE_UPDATE(min_s32, uint32_t, (int32_t)old < (int32_t)value ? old : value)
DEFINE_UPDATE(max_u64, uint64_t, old > value ? old : value)
DEFINE_UPDATE(min_u64, uint64_t, old < value ? old : value)

static uint32_t cas_b32(void *at, uint32_t compare, uint32_t value)
{
    atomic_compare_exchange_strong((_Atomic uint32_t *)at, &compare, value);
    return compare; /* what was there */
}

static uint64_t cas_b64(void *at, uint64_t compare, uint64_t value)
{
    atomic_compare_exchange_strong((_Atomic uint64_t *)at, &compare, value);
    return compare;
}

/* ---- A warp of them -------------------------------------------------------------------------- */

/* The next of the lanes `left`, which is taken from them. */
static int next_lane(const struct ptx_warp *w, uint32_t *left)
{
    const int lane = w->block->order == 1 ? 31 - __builtin_clz(*left) : __builtin_ctz(*left);
    *left &= ~(1u << lane);
    return lane;
}

#define DEFINE_ATOM(space, name, T)                                                                \
    void ptx_atom_##space##_##name(struct ptx_warp *w, const struct ptx_op *op)                    \
    {                                                                                              \
        struct ptx_where where;                                                                    \
        ptx_where_##space(w, op, 1, sizeof(T), PTX_ATOMIC, &where);                                \
        T *d = (T *)(void *)(w->file + op->at[0]);                                                 \
        const T *value = (const T *)(const void *)(w->file + op->at[2]);                           \
        for (uint32_t left = w->active; left != 0;) {                                              \
            const int i = next_lane(w, &left);                                                     \
            d[i] = name(where.p[i], value[i]);                                                     \
        }                                                                                          \
    }

#define DEFINE_RED(space, name, T)                                                                 \
    void ptx_red_##space##_##name(struct ptx_warp *w, const struct ptx_op *op)                     \
    {                                                                                              \
        struct ptx_where where;                                                                    \
        ptx_where_##space(w, op, 0, sizeof(T), PTX_ATOMIC, &where);                                \
        const T *value = (const T *)(const void *)(w->file + op->at[1]);                           \
        for (uint32_t left = w->active; left != 0;) {                                              \
            const int i = next_lane(w, &left);                                                     \
            name(where.p[i], value[i]);                                                            \
        }                                                                                          \
    }

#define DEFINE_CAS(space, name, T)                                                                 \
    void ptx_atom_##space##_##name(struct ptx_warp *w, const struct ptx_op *op)                    \
    {                                                                                              \
        struct ptx_where where;                                                                    \
        ptx_where_##space(w, op, 1, sizeof(T), PTX_ATOMIC, &where);                                \
        T *d = (T *)(void *)(w->file + op->at[0]);                                                 \
        const T *compare = (const T *)(const void *)(w->file + op->at[2]);                         \
        const T *value = (const T *)(const void *)(w->file + op->at[3]);                           \
        for (uint32_t left = w->active; left != 0;) {                                              \
            const int i = next_lane(w, &left);                                                     \
            d[i] = name(where.p[i], compare[i], value[i]);                                         \
        }                                                                                          \
    }

#define DEFINE_BOTH(space, name, T)                                                                \
    DEFINE_ATOM(space, name, T)                                                                    \
    DEFINE_RED(space, name, T)

#define DEFINE_ATOMICS(space)                                                                      \
    DEFINE_BOTH(space, add_u32, uint32_t)                                                          \
    DEFINE_BOTH(space, add_u64, uint64_t)                                                          \
    DEFINE_BOTH(space, add_f32, uint32_t)                                                          \
    DEFINE_BOTH(space, max_u32, uint32_t)                                                          \
    DEFINE_BOTH(space, max_s32, uint32_t)                                                          \
    DEFINE_BOTH(space, max_u64, uint64_t)                                                          \
    DEFINE_BOTH(space, min_u32, uint32_t)                                                          \
    DEFINE_BOTH(space, min_s32, uint32_t)                                                          \
    DEFINE_BOTH(space, min_u64, uint64_t)                                                          \
    DEFINE_BOTH(space, and_b32, uint32_t)                                                          \
    DEFINE_BOTH(space, or_b32, uint32_t)                                                           \
    DEFINE_BOTH(space, xor_b32, uint32_t)                                                          \
    DEFINE_ATOM(space, exch_b32, uint32_t)                                                         \
    DEFINE_ATOM(space, exch_b64, uint64_t)                                                         \
    DEFINE_CAS(space, cas_b32, uint32_t)                                                           \
    DEFINE_CAS(space, cas_b64, uint64_t)

DEFINE_ATOMICS(global)
DEFINE_ATOMICS(shared)
DEFINE_ATOMICS(generic)
