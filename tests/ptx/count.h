/*
 * Counting what the kernels of a network do (ptx_count): between its files.
 */
#ifndef LD_TESTS_PTX_COUNT_H
#define LD_TESTS_PTX_COUNT_H

#include "tests/ptx/ptx.h"

#include <stdio.h>

enum { COUNT_NAME = 96, COUNT_ROWS_MAX = 1024, COUNT_PLACES_MAX = 4096 };

/* What a warp instruction is. */
enum count_class {
    COUNT_MMA,
    COUNT_LDMATRIX,
    COUNT_SHARED_LOAD,
    COUNT_SHARED_STORE,
    COUNT_GLOBAL_LOAD,
    COUNT_GLOBAL_STORE, /* atomic operations too */
    COUNT_COPY,         /* cp.async of bytes */
    COUNT_SPECIAL,      /* ex2, rcp, ...: the special function unit */
    COUNT_MOVE,         /* mov, ld.param, cvta: ptxas mostly leaves none of them */
    COUNT_OTHER,
    COUNT_CLASSES
};

struct count_sums {
    double executed[COUNT_CLASSES];
    double passes[COUNT_CLASSES], passes_least[COUNT_CLASSES];
    double sectors[COUNT_CLASSES], sectors_least[COUNT_CLASSES];
    double all, flop; /* instructions of warps; of mma */
    double flop_f16;  /* of those with fp16 sums */
    /* Where most of the mma are: instructions that run at least half as often as the mma that runs
     * most. */
    double loop_mma, loop_rest; /* m16n8k16, halves for k8; all others but moves */
};

/* Launches of one kernel with one grid for equal operators, the whole grids. */
struct count_row {
    char op[COUNT_NAME], kernel[COUNT_NAME];
    uint32_t grid[3], warps; /* of a block */
    uint64_t launches;
    double blocks;
    struct count_sums sums;
};

/* An instruction that goes to memory, in all kernels of one name. */
struct count_place {
    char kernel[COUNT_NAME];
    const char *inst, *file;
    int32_t line; /* in the PTX; source in `file` */
    int32_t source;
    double executed, passes, passes_least, sectors, sectors_least;
};

struct counts {
    struct count_row rows[COUNT_ROWS_MAX];
    uint32_t row_count;
    struct count_place places[COUNT_PLACES_MAX];
    uint32_t place_count;
    char op[COUNT_NAME]; /* of the launches to come */
    bool full;           /* something was left out */
};

/* count_sum.c: a ptx_options.watch; context is struct counts. */
void count_launch(void *context, const struct ptx_launch *launch, uint64_t blocks,
                  const struct ptx_site *sites);
void count_sums_add(struct count_sums *to, const struct count_sums *from);

/* count_name.c: "attention_kernel<tile_shape<40,4,2,64>,half,0>" for a mangled name. */
void count_name(const char *mangled, char out[COUNT_NAME]);

/* count_report.c: sorts the rows and prints tables; JSON, an object, to `json` unless it is NULL.
 */
void count_report(struct counts *counts, const char *title, FILE *json);

#endif
