/* The restricted pickle machine: bytes in, a tree of plain values out. Private to pickle.c. */
#ifndef LD_MODEL_PICKLE_MACHINE_H
#define LD_MODEL_PICKLE_MACHINE_H

#include "runtime/base/arena.h"
#include "runtime/model/pickle.h"

enum ld_pickle_kind {
    LD_PICKLE_NONE,
    LD_PICKLE_BOOL,
    LD_PICKLE_INTEGER,
    LD_PICKLE_REAL,
    LD_PICKLE_TEXT,
    LD_PICKLE_TUPLE, /* and lists: `first` and the `next` of its members */
    LD_PICKLE_DICT,  /* likewise, keys and values in turn */
    LD_PICKLE_GLOBAL,
    LD_PICKLE_STORAGE,
    LD_PICKLE_TENSOR,
    LD_PICKLE_MARK
};

enum ld_pickle_global {
    LD_PICKLE_REBUILD_TENSOR,
    LD_PICKLE_REBUILD_PARAMETER,
    LD_PICKLE_ORDERED_DICT,
    LD_PICKLE_STORAGE_TYPE
};

/* Members are cells, so that one value can be in several containers. */
struct ld_pickle_cell {
    struct ld_pickle_value *value;
    struct ld_pickle_cell *next;
};

struct ld_pickle_value {
    enum ld_pickle_kind kind;
    struct ld_pickle_cell *first, *last;
    uint32_t members;
    int64_t integer;
    struct ld_span text;          /* TEXT; key of a STORAGE */
    enum ld_pickle_global global; /* GLOBAL */
    enum ld_dtype dtype;          /* GLOBAL of a storage type, STORAGE */
    uint64_t elements;            /* STORAGE */
    /* TENSOR */
    const struct ld_pickle_value *storage;
    uint64_t offset;
    uint32_t rank;
    uint64_t shape[LD_PICKLE_RANK_MAX], strides[LD_PICKLE_RANK_MAX];
};

/* Errors   LD_E_FORMAT, LD_E_UNSUPPORTED, LD_E_TOO_LARGE, LD_E_NOMEM. Values live in `arena`, text
 *          borrows `bytes`. */
enum ld_code ld_pickle_run(struct ld_arena *arena, struct ld_span bytes,
                           struct ld_pickle_value **result, struct ld_error *err) LD_MUST_USE;

#endif
