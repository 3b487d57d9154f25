/*
 * A machine that runs PTX, in C, so that what nvcc made of the kernels runs where no GPU is.
 *
 * The host build (kernels/host) runs the kernels' sources; it does not see what nvcc read in them,
 * nor a letter of their inline assembly. Here nvcc's own object files are run: cudart.c stands in
 * for the CUDA runtime they are linked with, takes the PTX out of their fat binaries and runs it,
 * every warp of 32 lanes at once, on as many threads as the machine has. Every access is held
 * against the memory that was allocated, every barrier and collective against the lanes that must
 * come to it.
 *
 *     nvcc -> .ptx.o -> fatbin.c: PTX text -> parse.c: struct ptx_kernel, names and operands
 *                    -> decode.c: struct ptx_op, functions and places (machine.h)
 *                    -> launch.c, block.c, warp.c: grids, barriers, lanes that go apart
 *                    -> integer.c, float.c, memory.c, collective.c, mma.c: what an op does
 *
 * What it knows of PTX is what the kernels use (PTX ISA 9.0, target sm_80); anything else is
 * refused at load with its name and line, never guessed. Timing is not modelled.
 *
 * Source: PTX ISA 9.0.
 */
#ifndef LD_TESTS_PTX_H
#define LD_TESTS_PTX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- What the parser makes -------------------------------------------------------------------- */

enum ptx_kind {
    PTX_REG,     /* reg */
    PTX_IMM,     /* value: integers in two's complement, 0f.. and 0d.. as their bits */
    PTX_SPECIAL, /* value: enum ptx_special */
    PTX_SYMBOL,  /* value: the symbol's address in its space (+ offset) */
    PTX_ADDRESS, /* [item[0] + offset], item[0] one of the above */
    PTX_VECTOR,  /* {item, ...}: count items, each PTX_REG, PTX_IMM or PTX_SINK */
    PTX_SINK,    /* _ : a result nobody wants */
    PTX_LABEL,   /* value: index of the instruction to go on with */
};

/* clang-format off */
enum ptx_special {
    PTX_TID_X, PTX_TID_Y, PTX_TID_Z, PTX_NTID_X, PTX_NTID_Y, PTX_NTID_Z,
    PTX_CTAID_X, PTX_CTAID_Y, PTX_CTAID_Z, PTX_NCTAID_X, PTX_NCTAID_Y, PTX_NCTAID_Z,
    PTX_LANEID, PTX_WARPID,
};
/* clang-format on */

struct ptx_item {
    enum ptx_kind kind;
    int32_t reg; /* index into ptx_kernel.registers */
    uint64_t value;
};

struct ptx_operand {
    enum ptx_kind kind;
    int32_t count;           /* of item: 1 unless PTX_VECTOR */
    int64_t offset;          /* of PTX_ADDRESS and PTX_SYMBOL */
    struct ptx_item item[4]; /* item[0] says it all unless PTX_VECTOR */
};

enum { PTX_OPERANDS = 6 };

struct ptx_inst {
    const char *name;                 /* the whole opcode: "mad.lo.s32" */
    int32_t guard;                    /* register of @p, or -1 */
    bool guard_not;                   /* @!p */
    int32_t line;                     /* in the PTX text, from 1 */
    int32_t source_line, source_file; /* of the last .loc; 0: none */
    int32_t count;
    /* "d|p" (shfl) is two operands. */
    struct ptx_operand operand[PTX_OPERANDS];
};

struct ptx_register {
    const char *name; /* "%r12" */
    uint8_t bytes;    /* of one lane: 2, 4, 8; 0: a predicate */
    uint32_t at;      /* decode.c: place in a warp's register file */
};

struct ptx_param {
    uint32_t offset, bytes; /* in the block of parameters, as the ABI lays them out */
};

struct ptx_op;

struct ptx_kernel {
    const char *name; /* mangled, as __cudaRegisterFunction names it */
    struct ptx_module *module;
    struct ptx_param *params;
    int32_t param_count;
    uint32_t param_bytes;
    uint32_t shared_bytes;  /* static shared memory of this entry */
    uint32_t dynamic_align; /* of the extern shared array it uses; 0: uses none */
    uint32_t threads_max;   /* .maxntid's product, 0: not given */
    struct ptx_register *registers;
    int32_t register_count;
    struct ptx_inst *insts;
    int32_t inst_count;
    /* decode.c, at first launch: one piece of memory, freed by ptx_unload */
    struct ptx_op *ops;  /* inst_count and one more that ends the thread */
    uint32_t file_bytes; /* a warp's registers */
    const struct ptx_constant *constants;
    int32_t constant_count;
};

struct ptx_module {
    struct ptx_kernel *kernels;
    int32_t kernel_count;
    const char **files; /* .file, by its number; NULL where there is none */
    int32_t file_count;
    void *memory; /* what the pointers above point to */
};

/* One sentence about what is wrong. */
struct ptx_why {
    char text[1024];
};

/*
 * Reads PTX `text` (length bytes). NULL with *why naming the line if it is not what parse.c knows.
 * Dynamic shared memory's symbol has address (shared_bytes rounded up to its alignment). Freed by
 * ptx_unload.
 */
struct ptx_module *ptx_load(const char *text, size_t length, struct ptx_why *why);
void ptx_unload(struct ptx_module *module);
/* NULL: there is none. */
struct ptx_kernel *ptx_find(struct ptx_module *module, const char *name);

/*
 * The PTX in a fat binary as nvcc registers it (the wrapper's `data`): *text is a new string of
 * *length bytes and a zero, freed by the caller. False with *why if there is none or it is
 * compressed.
 */
bool ptx_fatbin(const void *data, char **text, size_t *length, struct ptx_why *why);

/* ---- Memory ------------------------------------------------------------------------------------ */

/* Memory that kernels may touch: [base, base + bytes). Thread-safe; no launch is under way. */
void ptx_memory_add(void *base, size_t bytes);
void ptx_memory_remove(void *base);

/* ---- Running ----------------------------------------------------------------------------------- */

struct ptx_launch;

/* What one instruction of a kernel did, in warps. */
struct ptx_site {
    uint64_t executed;
    uint64_t passes, passes_least; /* over the banks of shared memory; least: without a conflict */
    uint64_t sectors,
        sectors_least; /* of global memory, 32 bytes; least: that hold the bytes asked for */
};

struct ptx_options {
    int32_t threads; /* of the host; 0: as many as there are processors */
    /* Of warps and of lanes that went apart: 0 ascending, 1 descending, else a seed. */
    uint64_t order;
    bool races;      /* two accesses to a byte of shared memory without a barrier between */
    uint64_t budget; /* instructions a warp may execute; 0: 2^32 */
    /* Blocks of a grid to run, spread evenly, first and last among them; 0: all. For counting, and
     * for sizes that would take hours: what the blocks that are left out would have written stays as
     * it was. */
    int32_t blocks;
    /* Told of every launch that came to its end, one at a time: sites[i] is of kernel->insts[i] in
     * all blocks that ran. NULL: no sites are counted. */
    void (*watch)(void *context, const struct ptx_launch *launch, uint64_t blocks,
                  const struct ptx_site *sites);
    void *watch_context;
};

/* Those of this process, at first PTX_THREADS, PTX_ORDER, PTX_RACES=1 and PTX_BLOCKS of the
 * environment. */
struct ptx_options *ptx_options(void);
/* A variable of the environment as a number; 0: it is not set, or none. */
uint64_t ptx_environment(const char *name);

/* Counts of all launches since the last ptx_count_reset. */
struct ptx_counts {
    uint64_t launches, blocks, instructions; /* of warps */
    uint64_t mma, ldmatrix, cp_async;        /* instructions of warps */
    uint64_t shared_access, shared_passes;   /* of warps; passes: with bank conflicts */
    uint64_t global_access, global_sectors;  /* of warps; sectors: of 32 bytes */
};
void ptx_count_reset(void);
void ptx_counts(struct ptx_counts *out);

struct ptx_launch {
    struct ptx_kernel *kernel;
    uint32_t grid[3], block[3];
    uint32_t dynamic_bytes;      /* of shared memory */
    const unsigned char *params; /* kernel->param_bytes */
};

/*
 * Runs the grid to its end. False if a thread did what no thread may, with *why naming kernel,
 * block, thread and line; what other threads wrote stays.
 */
bool ptx_run(const struct ptx_launch *launch, struct ptx_why *why);

#endif
