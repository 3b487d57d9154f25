/*
 * Memory and names while a PTX text is read. Private to parse.c.
 *
 * A pool gives memory that is freed at once with the module. A table maps a name in a scope (the
 * file, an entry, a { } inside) to what it stands for.
 */
#ifndef LD_TESTS_PTX_NAMES_H
#define LD_TESTS_PTX_NAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ptx_pool {
    struct ptx_chunk *chunks; /* the newest first */
    size_t left;              /* in the newest */
};

/* Zeroed, aligned for anything; NULL: no memory. */
void *ptx_pool_get(struct ptx_pool *pool, size_t bytes);
/* With a zero at its end. */
char *ptx_pool_text(struct ptx_pool *pool, const char *text, size_t length);
void ptx_pool_free(struct ptx_pool *pool);

enum ptx_name_kind {
    PTX_NAME_OPCODE,
    PTX_NAME_KERNEL,
    PTX_NAME_REGISTER, /* value: its index */
    PTX_NAME_RANGE,    /* the name is the prefix; value: how many; bytes */
    PTX_NAME_SYMBOL,   /* value: its address */
    PTX_NAME_DYNAMIC,  /* value: alignment of an extern shared array */
    PTX_NAME_LABEL,    /* value: index of an instruction */
};

struct ptx_name {
    const char *text; /* in the pool, with a zero */
    size_t length;
    int32_t scope;
    enum ptx_name_kind kind;
    uint64_t value;
    uint8_t bytes; /* of a range's registers */
};

/* Labels, ranges and opcodes have name spaces of their own; the other kinds share one. */
struct ptx_names {
    struct ptx_name **slots; /* a power of two, at most half of them taken */
    size_t slot_count, count;
};

/* A kind of the same name space is found; NULL: there is none. */
struct ptx_name *ptx_names_find(const struct ptx_names *names, int32_t scope, const char *text,
                                size_t length, enum ptx_name_kind kind);
/* Adds a name that is not there yet. NULL: no memory. It lives as long as the pool. */
struct ptx_name *ptx_names_add(struct ptx_names *names, struct ptx_pool *pool, int32_t scope,
                               const char *text, size_t length, enum ptx_name_kind kind);
void ptx_names_free(struct ptx_names *names);

#endif
