/*
 * Loads and stores: every space, width and vector that nvcc writes, and the rules of all memory
 * instructions.
 *
 * A load is where.c's answer to where its lanes read, and a gather by width of element and of
 * register: a u8 goes into registers of 16, 32 or 64 bits, signed elements are extended. Cache
 * operators, .relaxed and .volatile change nothing here.
 *
 * Source: PTX ISA 9.0, "Data Movement and Conversion Instructions: ld, st, cp.async, prefetch".
 */
#include "tests/ptx/memory_ops.h"

#include <stdatomic.h>
#include <string.h>

/* ---- Between registers and lanes' memory ----------------------------------------------------- */

/* T: an element in memory; D: of the register it goes to. */
#define DEFINE_GATHER(name, T, D)                                                                  \
    static void name(struct ptx_warp *w, const struct ptx_op *op, const struct ptx_where *where,   \
                     int count)                                                                    \
    {                                                                                              \
        const uint32_t active = w->active;                                                         \
        for (int k = 0; k < count; k++) {                                                          \
            D *d = (D *)(void *)(w->file + op->at[k]);                                             \
            if (where->row && count == 1 && sizeof(T) == sizeof(D)) {                              \
                memcpy(d, where->p[0], sizeof(T) * PTX_LANES);                                     \
                continue;                                                                          \
            }                                                                                      \
            T x[PTX_LANES];                                                                        \
            for (int i = 0; i < PTX_LANES; i++)                                                    \
                memcpy(&x[i], where->p[i] + (size_t)k * sizeof(T), sizeof(T));                     \
            for (int i = 0; i < PTX_LANES; i++)                                                    \
                d[i] = active >> i & 1 ? (D)x[i] : d[i];                                           \
        }                                                                                          \
    }

DEFINE_GATHER(gather_u1_2, uint8_t, uint16_t)
DEFINE_GATHER(gather_u1_4, uint8_t, uint32_t)
DEFINE_GATHER(gather_u1_8, uint8_t, uint64_t)
DEFINE_GATHER(gather_s1_2, int8_t, uint16_t)
DEFINE_GATHER(gather_s1_4, int8_t, uint32_t)
DEFINE_GATHER(gather_s1_8, int8_t, uint64_t)
DEFINE_GATHER(gather_u2_2, uint16_t, uint16_t)
DEFINE_GATHER(gather_u2_4, uint16_t, uint32_t)
DEFINE_GATHER(gather_u2_8, uint16_t, uint64_t)
DEFINE_GATHER(gather_s2_2, int16_t, uint16_t)
DEFINE_GATHER(gather_s2_4, int16_t, uint32_t)
DEFINE_GATHER(gather_s2_8, int16_t, uint64_t)
DEFINE_GATHER(gather_u4_4, uint32_t, uint32_t)
DEFINE_GATHER(gather_u4_8, uint32_t, uint64_t)
DEFINE_GATHER(gather_s4_4, uint32_t, uint32_t)
DEFINE_GATHER(gather_s4_8, int32_t, uint64_t)
DEFINE_GATHER(gather_u8_8, uint64_t, uint64_t)

/* Lanes of one store that write the same place must write the same: which of them is last is not
 * said. */
static void check_agreed(struct ptx_warp *w, int lane, const unsigned char *at, const void *value,
                         size_t bytes)
{
    if (memcmp(at, value, bytes) != 0)
        ptx_fail(w, lane, "lanes write different values to one place in one instruction");
}

#define DEFINE_SCATTER(name, T, D)                                                                 \
    static void name(struct ptx_warp *w, const struct ptx_op *op, const struct ptx_where *where,   \
                     int count)                                                                    \
    {                                                                                              \
        for (int k = 0; k < count; k++) {                                                          \
            const D *d = (const D *)(const void *)(w->file + op->at[k + 1]);                       \
            if (where->row && count == 1 && sizeof(T) == sizeof(D)) {                              \
                memcpy(where->p[0], d, sizeof(T) * PTX_LANES);                                     \
                continue;                                                                          \
            }                                                                                      \
            for (uint32_t left = w->active; left != 0; left &= left - 1) {                         \
                const int i = __builtin_ctz(left);                                                 \
                const T x = (T)d[i];                                                               \
                memcpy(where->p[i] + (size_t)k * sizeof x, &x, sizeof x);                          \
            }                                                                                      \
        }                                                                                          \
        if (w->block->shadow == NULL || where->row)                                                \
            return;                                                                                \
        for (int k = 0; k < count; k++) {                                                          \
            const D *d = (const D *)(const void *)(w->file + op->at[k + 1]);                       \
            for (uint32_t left = w->active; left != 0; left &= left - 1) {                         \
                const int i = __builtin_ctz(left);                                                 \
                const T x = (T)d[i];                                                               \
                check_agreed(w, i, where->p[i] + (size_t)k * sizeof x, &x, sizeof x);              \
            }                                                                                      \
        }                                                                                          \
    }

DEFINE_SCATTER(scatter_1_2, uint8_t, uint16_t)
DEFINE_SCATTER(scatter_1_4, uint8_t, uint32_t)
DEFINE_SCATTER(scatter_1_8, uint8_t, uint64_t)
DEFINE_SCATTER(scatter_2_2, uint16_t, uint16_t)
DEFINE_SCATTER(scatter_2_4, uint16_t, uint32_t)
DEFINE_SCATTER(scatter_2_8, uint16_t, uint64_t)
DEFINE_SCATTER(scatter_4_4, uint32_t, uint32_t)
DEFINE_SCATTER(scatter_4_8, uint32_t, uint64_t)
DEFINE_SCATTER(scatter_8_8, uint64_t, uint64_t)

/* ---- Instructions: ld_SPACE_ELEMENT_REGISTER_COUNT ------------------------------------------- */

#define DEFINE_LOAD(space, element, bytes, reg, count)                                             \
    static void ld_##space##_##element##_##reg##_##count(struct ptx_warp *w,                       \
                                                         const struct ptx_op *op)                  \
    {                                                                                              \
        struct ptx_where where;                                                                    \
        ptx_where_##space(w, op, count, bytes *count, PTX_READ, &where);                           \
        gather_##element##_##reg(w, op, &where, count);                                            \
    }

#define DEFINE_STORE(space, bytes, reg, count)                                                     \
    static void st_##space##_##bytes##_##reg##_##count(struct ptx_warp *w,                         \
                                                       const struct ptx_op *op)                    \
    {                                                                                              \
        struct ptx_where where;                                                                    \
        ptx_where_##space(w, op, 0, bytes *count, PTX_WRITE, &where);                              \
        scatter_##bytes##_##reg(w, op, &where, count);                                             \
    }

#define DEFINE_LOADS_124(space, element, bytes, reg)                                               \
    DEFINE_LOAD(space, element, bytes, reg, 1)                                                     \
    DEFINE_LOAD(space, element, bytes, reg, 2)                                                     \
    DEFINE_LOAD(space, element, bytes, reg, 4)

#define DEFINE_LOADS(space)                                                                        \
    DEFINE_LOADS_124(space, u1, 1, 2)                                                              \
    DEFINE_LOADS_124(space, u1, 1, 4)                                                              \
    DEFINE_LOADS_124(space, u1, 1, 8)                                                              \
    DEFINE_LOADS_124(space, s1, 1, 2)                                                              \
    DEFINE_LOADS_124(space, s1, 1, 4)                                                              \
    DEFINE_LOADS_124(space, s1, 1, 8)                                                              \
    DEFINE_LOADS_124(space, u2, 2, 2)                                                              \
    DEFINE_LOADS_124(space, u2, 2, 4)                                                              \
    DEFINE_LOADS_124(space, u2, 2, 8)                                                              \
    DEFINE_LOADS_124(space, s2, 2, 2)                                                              \
    DEFINE_LOADS_124(space, s2, 2, 4)                                                              \
    DEFINE_LOADS_124(space, s2, 2, 8)                                                              \
    DEFINE_LOADS_124(space, u4, 4, 4)                                                              \
    DEFINE_LOADS_124(space, u4, 4, 8)                                                              \
    DEFINE_LOADS_124(space, s4, 4, 4)                                                              \
    DEFINE_LOADS_124(space, s4, 4, 8)                                                              \
    DEFINE_LOAD(space, u8, 8, 8, 1)                                                                \
    DEFINE_LOAD(space, u8, 8, 8, 2)

DEFINE_LOADS(param)
DEFINE_LOADS(global)
DEFINE_LOADS(shared)
DEFINE_LOADS(generic)

#define DEFINE_STORES_124(space, bytes, reg)                                                       \
    DEFINE_STORE(space, bytes, reg, 1)                                                             \
    DEFINE_STORE(space, bytes, reg, 2)                                                             \
    DEFINE_STORE(space, bytes, reg, 4)

#define DEFINE_STORES(space)                                                                       \
    DEFINE_STORES_124(space, 1, 2)                                                                 \
    DEFINE_STORES_124(space, 1, 4)                                                                 \
    DEFINE_STORES_124(space, 1, 8)                                                                 \
    DEFINE_STORES_124(space, 2, 2)                                                                 \
    DEFINE_STORES_124(space, 2, 4)                                                                 \
    DEFINE_STORES_124(space, 2, 8)                                                                 \
    DEFINE_STORES_124(space, 4, 4)                                                                 \
    DEFINE_STORES_124(space, 4, 8)                                                                 \
    DEFINE_STORE(space, 8, 8, 1)                                                                   \
    DEFINE_STORE(space, 8, 8, 2)

DEFINE_STORES(global)
DEFINE_STORES(shared)
DEFINE_STORES(generic)

static void fence(struct ptx_warp *w, const struct ptx_op *op)
{
    (void)w;
    (void)op;
    atomic_thread_fence(memory_order_seq_cst);
}

static void prefetch(struct ptx_warp *w, const struct ptx_op *op)
{
    (void)w;
    (void)op;
}

/* ---- Rules ----------------------------------------------------------------------------------- */

/* One rule; braces of many would be laid out oddly in the macros below. */
#define PLAIN_RULE(name, act, operands)                                                            \
    {                                                                                              \
        name, act, operands, PTX_PLAIN, 0                                                          \
    }

#define LOAD_RULE(prefix, space, type, element, reg, letter)                                       \
    PLAIN_RULE(prefix "." type, ld_##space##_##element##_##reg##_1, letter "=a"),                  \
        PLAIN_RULE(prefix ".v2." type, ld_##space##_##element##_##reg##_2, "2" letter "=a"),       \
        PLAIN_RULE(prefix ".v4." type, ld_##space##_##element##_##reg##_4, "4" letter "=a")

#define LOAD_RULES_8(prefix, space, type)                                                          \
    PLAIN_RULE(prefix "." type, ld_##space##_u8_8_1, "d=a"),                                       \
        PLAIN_RULE(prefix ".v2." type, ld_##space##_u8_8_2, "2d=a")

/* Of elements of 1 and 2 bytes, which go into registers of 2, 4 and 8; of 4 bytes: into 4 and 8. */
#define LOAD_RULES_12(prefix, space, type, element)                                                \
    LOAD_RULE(prefix, space, type, element, 2, "h"),                                               \
        LOAD_RULE(prefix, space, type, element, 4, "w"),                                           \
        LOAD_RULE(prefix, space, type, element, 8, "d")
#define LOAD_RULES_4(prefix, space, type, element)                                                 \
    LOAD_RULE(prefix, space, type, element, 4, "w"), LOAD_RULE(prefix, space, type, element, 8, "d")

#define LOAD_RULES(prefix, space)                                                                  \
    LOAD_RULES_12(prefix, space, "u8", u1), LOAD_RULES_12(prefix, space, "b8", u1),                \
        LOAD_RULES_12(prefix, space, "s8", s1), LOAD_RULES_12(prefix, space, "u16", u2),           \
        LOAD_RULES_12(prefix, space, "b16", u2), LOAD_RULES_12(prefix, space, "s16", s2),          \
        LOAD_RULES_4(prefix, space, "u32", u4), LOAD_RULES_4(prefix, space, "b32", u4),            \
        LOAD_RULES_4(prefix, space, "s32", s4), LOAD_RULE(prefix, space, "f32", u4, 4, "w"),       \
        LOAD_RULES_8(prefix, space, "u64"), LOAD_RULES_8(prefix, space, "b64"),                    \
        LOAD_RULES_8(prefix, space, "s64"), LOAD_RULES_8(prefix, space, "f64")

#define STORE_RULE(prefix, space, type, bytes, reg, letter)                                        \
    PLAIN_RULE(prefix "." type, st_##space##_##bytes##_##reg##_1, "a" letter),                     \
        PLAIN_RULE(prefix ".v2." type, st_##space##_##bytes##_##reg##_2, "a2" letter),             \
        PLAIN_RULE(prefix ".v4." type, st_##space##_##bytes##_##reg##_4, "a4" letter)

#define STORE_RULES_8(prefix, space, type)                                                         \
    PLAIN_RULE(prefix "." type, st_##space##_8_8_1, "ad"),                                         \
        PLAIN_RULE(prefix ".v2." type, st_##space##_8_8_2, "a2d")

#define STORE_RULES_12(prefix, space, type, bytes)                                                 \
    STORE_RULE(prefix, space, type, bytes, 2, "h"),                                                \
        STORE_RULE(prefix, space, type, bytes, 4, "w"),                                            \
        STORE_RULE(prefix, space, type, bytes, 8, "d")
#define STORE_RULES_4(prefix, space, type)                                                         \
    STORE_RULE(prefix, space, type, 4, 4, "w"), STORE_RULE(prefix, space, type, 4, 8, "d")

#define STORE_RULES(prefix, space)                                                                 \
    STORE_RULES_12(prefix, space, "u8", 1), STORE_RULES_12(prefix, space, "b8", 1),                \
        STORE_RULES_12(prefix, space, "s8", 1), STORE_RULES_12(prefix, space, "u16", 2),           \
        STORE_RULES_12(prefix, space, "b16", 2), STORE_RULES_12(prefix, space, "s16", 2),          \
        STORE_RULES_4(prefix, space, "u32"), STORE_RULES_4(prefix, space, "b32"),                  \
        STORE_RULES_4(prefix, space, "s32"), STORE_RULE(prefix, space, "f32", 4, 4, "w"),          \
        STORE_RULES_8(prefix, space, "u64"), STORE_RULES_8(prefix, space, "b64"),                  \
        STORE_RULES_8(prefix, space, "s64"), STORE_RULES_8(prefix, space, "f64")

#define ATOM_RULE(space, op, type, act, letter)                                                    \
    PLAIN_RULE("atom" space "." op "." type, act, letter "=a" letter),                             \
        PLAIN_RULE("atom.relaxed.gpu" space "." op "." type, act, letter "=a" letter),             \
        PLAIN_RULE("atom.acq_rel.gpu" space "." op "." type, act, letter "=a" letter)

#define RED_RULE(space, op, type, act, letter)                                                     \
    PLAIN_RULE("red" space "." op "." type, act, "a" letter),                                      \
        PLAIN_RULE("red.relaxed.gpu" space "." op "." type, act, "a" letter)

#define CAS_RULE(space, type, act, letter)                                                         \
    PLAIN_RULE("atom" space ".cas." type, act, letter "=a" letter letter),                         \
        PLAIN_RULE("atom.relaxed.gpu" space ".cas." type, act, letter "=a" letter letter),         \
        PLAIN_RULE("atom.acq_rel.gpu" space ".cas." type, act, letter "=a" letter letter)

#define BOTH(space, suffix, op, type, name, letter)                                                \
    ATOM_RULE(space, op, type, ptx_atom_##suffix##_##name, letter),                                \
        RED_RULE(space, op, type, ptx_red_##suffix##_##name, letter)

#define ATOM_RULES(space, suffix)                                                                  \
    BOTH(space, suffix, "add", "u32", add_u32, "w"),                                               \
        BOTH(space, suffix, "add", "s32", add_u32, "w"),                                           \
        BOTH(space, suffix, "add", "u64", add_u64, "d"),                                           \
        BOTH(space, suffix, "add", "f32", add_f32, "w"),                                           \
        BOTH(space, suffix, "max", "u32", max_u32, "w"),                                           \
        BOTH(space, suffix, "max", "s32", max_s32, "w"),                                           \
        BOTH(space, suffix, "max", "u64", max_u64, "d"),                                           \
        BOTH(space, suffix, "min", "u32", min_u32, "w"),                                           \
        BOTH(space, suffix, "min", "s32", min_s32, "w"),                                           \
        BOTH(space, suffix, "min", "u64", min_u64, "d"),                                           \
        BOTH(space, suffix, "and", "b32", and_b32, "w"),                                           \
        BOTH(space, suffix, "or", "b32", or_b32, "w"),                                             \
        BOTH(space, suffix, "xor", "b32", xor_b32, "w"),                                           \
        ATOM_RULE(space, "exch", "b32", ptx_atom_##suffix##_exch_b32, "w"),                        \
        ATOM_RULE(space, "exch", "b64", ptx_atom_##suffix##_exch_b64, "d"),                        \
        CAS_RULE(space, "b32", ptx_atom_##suffix##_cas_b32, "w"),                                  \
        CAS_RULE(space, "b64", ptx_atom_##suffix##_cas_b64, "d")

#define COPY_RULES(cache)                                                                          \
    PLAIN_RULE("cp.async." cache ".shared.global", ptx_copy_issue, "aawW"),                        \
        PLAIN_RULE("cp.async." cache ".shared.global.L2::64B", ptx_copy_issue, "aawW"),            \
        PLAIN_RULE("cp.async." cache ".shared.global.L2::128B", ptx_copy_issue, "aawW"),           \
        PLAIN_RULE("cp.async." cache ".shared.global.L2::256B", ptx_copy_issue, "aawW")

const struct ptx_rule ptx_rules_memory[] = {
    LOAD_RULES("ld.param", param),
    LOAD_RULES("ld", generic),
    LOAD_RULES("ld.volatile", generic),
    LOAD_RULES("ld.global", global),
    LOAD_RULES("ld.global.ca", global),
    LOAD_RULES("ld.global.cg", global),
    LOAD_RULES("ld.global.cs", global),
    LOAD_RULES("ld.global.lu", global),
    LOAD_RULES("ld.global.cv", global),
    LOAD_RULES("ld.global.nc", global),
    LOAD_RULES("ld.global.nc.L1::no_allocate", global),
    LOAD_RULES("ld.global.nc.L1::evict_last", global),
    LOAD_RULES("ld.global.nc.L2::128B", global),
    LOAD_RULES("ld.global.nc.L1::no_allocate.L2::128B", global),
    LOAD_RULES("ld.global.L1::no_allocate", global),
    LOAD_RULES("ld.global.L1::evict_last", global),
    LOAD_RULES("ld.volatile.global", global),
    LOAD_RULES("ld.relaxed.gpu.global", global),
    LOAD_RULES("ld.relaxed.sys.global", global),
    LOAD_RULES("ld.shared", shared),
    LOAD_RULES("ld.volatile.shared", shared),
    STORE_RULES("st", generic),
    STORE_RULES("st.volatile", generic),
    STORE_RULES("st.global", global),
    STORE_RULES("st.global.wb", global),
    STORE_RULES("st.global.cg", global),
    STORE_RULES("st.global.cs", global),
    STORE_RULES("st.global.wt", global),
    STORE_RULES("st.global.L1::no_allocate", global),
    STORE_RULES("st.volatile.global", global),
    STORE_RULES("st.relaxed.gpu.global", global),
    STORE_RULES("st.relaxed.sys.global", global),
    STORE_RULES("st.shared", shared),
    STORE_RULES("st.volatile.shared", shared),
    ATOM_RULES("", generic),
    ATOM_RULES(".global", global),
    ATOM_RULES(".shared", shared),
    COPY_RULES("ca"),
    COPY_RULES("cg"),
    PLAIN_RULE("cp.async.commit_group", ptx_copy_commit, ""),
    PLAIN_RULE("cp.async.wait_group", ptx_copy_wait, "w"),
    PLAIN_RULE("cp.async.wait_all", ptx_copy_wait_all, ""),
    PLAIN_RULE("membar.cta", fence, ""),
    PLAIN_RULE("membar.gl", fence, ""),
    PLAIN_RULE("membar.sys", fence, ""),
    PLAIN_RULE("fence.acq_rel.cta", fence, ""),
    PLAIN_RULE("fence.acq_rel.gpu", fence, ""),
    PLAIN_RULE("fence.acq_rel.sys", fence, ""),
    PLAIN_RULE("fence.sc.cta", fence, ""),
    PLAIN_RULE("fence.sc.gpu", fence, ""),
    PLAIN_RULE("fence.sc.sys", fence, ""),
    PLAIN_RULE("prefetch.global.L1", prefetch, "a"),
    PLAIN_RULE("prefetch.global.L2", prefetch, "a"),
    PLAIN_RULE("prefetch.L1", prefetch, "a"),
    PLAIN_RULE("prefetch.L2", prefetch, "a"),
    PLAIN_RULE("prefetchu.L1", prefetch, "a"),
    PLAIN_RULE(NULL, NULL, NULL),
};
