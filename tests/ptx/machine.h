/*
 * Between the files of the PTX machine: decoded instructions, warps, blocks.
 *
 * A register holds one element a lane, side by side: uint16_t, uint32_t or uint64_t [32], at a byte
 * offset in the warp's register file; a predicate is one uint32_t with a bit a lane. Immediates,
 * special registers and symbols are registers too, filled when a warp starts. So an instruction is
 * a function over arrays:
 *
 *     static void add_s32(struct ptx_warp *w, const struct ptx_op *op)
 *     {
 *         uint32_t *d = PTX_U32(w, op, 0), *a = PTX_U32(w, op, 1), *b = PTX_U32(w, op, 2);
 *         for (int i = 0; i < PTX_LANES; i++)
 *             d[i] = w->active >> i & 1 ? a[i] + b[i] : d[i];
 *     }
 *
 * It must leave the results of lanes outside w->active as they are, and the values there are
 * anything: no trap, no access for them. A destination may be one of the sources.
 */
#ifndef LD_TESTS_PTX_MACHINE_H
#define LD_TESTS_PTX_MACHINE_H

#include "tests/ptx/ptx.h"

#include <setjmp.h>

/* The window of shared memory among generic addresses: generic = window + offset. Others are the
 * host's. */
#define PTX_SHARED_WINDOW 0x00007a0000000000ull

enum { PTX_SHARED_BYTES = 163 << 10 }; /* of a block of sm_80, at most */
enum { PTX_LANES = 32, PTX_PLACES = 14, PTX_BARRIERS = 16, PTX_BLOCK_WARPS = 32 };

struct ptx_warp;
typedef void ptx_do(struct ptx_warp *w, const struct ptx_op *op);

/* What the warp's loop has to do about it. */
enum ptx_flow {
    PTX_PLAIN,   /* call op->act, go on */
    PTX_BRANCH,  /* active lanes go on at op->target */
    PTX_EXIT,    /* active lanes end */
    PTX_BARRIER, /* bar.sync, barrier.sync: the warp waits for the block; at[]: id, threads */
    PTX_ARRIVE,  /* barrier.arrive: as above, without waiting */
    /* shfl, vote, redux, bar.warp.sync: waits until all lanes of the member mask (a 32-bit register
     * at at[op->mask]) are here, then acts for all of them at once */
    PTX_GATHER,
    PTX_WHOLE, /* .aligned matrix instructions: all 32 lanes must be here */
};

struct ptx_op {
    ptx_do *act;
    uint8_t flow; /* enum ptx_flow */
    bool guard_not;
    bool address_wide;       /* the address register has 64 bits */
    uint8_t mask;            /* PTX_GATHER: which of at[] is the member mask */
    int32_t guard;           /* offset of the predicate, -1: always */
    int32_t target;          /* PTX_BRANCH */
    int32_t count;           /* of at[] */
    int32_t results;         /* of inst->operand[]: the first so many are written */
    int64_t offset;          /* of the address operand */
    uint32_t at[PTX_PLACES]; /* offsets of the operands in their order, vectors item by item */
    const struct ptx_inst *inst;
};

/*
 * How an opcode is decoded. `operands`, one word: p predicate, h 16, w 32, d 64 bits a lane; 2w,
 * 4w: a vector of that many; a: an address (its base register at at[k], 32 or 64 bits:
 * op->address_wide; op->offset); l: a label; upper-case P, H, W, D: optional, what is missing reads
 * as zero. Results come first, then a =; without = an instruction writes no register (st). A result
 * that is missing or _ is written to a place nobody reads. `p` given as an immediate (-1, 0) is a
 * constant predicate. Of two addresses the first's offset and width are the op's, the second's
 * offset is in op->inst. Rules may share a name: the first whose operands fit is taken, as in
 * {"st.global.u8", st_u8_h, "ah"}, {"st.global.u8", st_u8_w, "aw"}.
 */
struct ptx_rule {
    const char *name;
    ptx_do *act;
    const char *operands;
    uint8_t flow;
    uint8_t mask;
};

/* Tables end with a rule whose name is NULL. */
extern const struct ptx_rule ptx_rules_integer[];    /* integer.c */
extern const struct ptx_rule ptx_rules_float[];      /* float.c */
extern const struct ptx_rule ptx_rules_memory[];     /* memory.c */
extern const struct ptx_rule ptx_rules_collective[]; /* collective.c */
extern const struct ptx_rule ptx_rules_control[];    /* launch.c */

enum ptx_constant_kind { PTX_CONST_VALUE, PTX_CONST_SPECIAL };
struct ptx_constant {
    uint8_t kind, bytes; /* bytes of a lane as in struct ptx_register */
    uint32_t at;
    uint64_t value; /* or enum ptx_special */
};

/*
 * Fills kernel->ops and what is below them, once; false with *why if an opcode or operand is
 * unknown. The constants are in the same piece of memory: free(kernel->ops) frees both.
 */
bool ptx_decode(struct ptx_kernel *kernel, struct ptx_why *why);
/*
 * Places registers whose lives do not meet in the same place: fills registers[].at, returns the
 * bytes used, at least 64; 0: no memory. Of kernel->ops it needs flow, target and results. Part of
 * ptx_decode.
 */
uint32_t ptx_place(struct ptx_kernel *kernel);

/* Lanes that stand at one instruction. */
struct ptx_group {
    uint32_t lanes;
    int32_t at;
    bool waits; /* for other lanes, at a PTX_GATHER or PTX_WHOLE */
};

struct ptx_warp {
    unsigned char *file;
    uint32_t active; /* lanes that execute the present instruction */
    uint32_t alive;  /* lanes that have not ended */
    int32_t index;   /* in the block */
    struct ptx_block *block;
    const struct ptx_op *op; /* the present one, for messages */
    struct ptx_group groups[PTX_LANES];
    int32_t group_count;
    int32_t barrier; /* id it waits at, -1: none */
    uint64_t instructions;
    uint64_t random;           /* of the order in which its groups run */
    struct ptx_copies *copies; /* copies.c: asynchronous copies, per commit group */
};

struct ptx_barrier {  /* since it last completed */
    uint32_t come;    /* warps that have come, a bit each */
    uint32_t threads; /* that it waits for */
    bool counted;     /* ... as an operand said; else for all that live */
};

struct ptx_region { /* of global memory */
    uint64_t base, bytes;
};

enum { PTX_NEAR = 4 };

struct ptx_block {
    const struct ptx_launch *launch;
    uint32_t index[3];
    uint32_t threads;
    unsigned char *shared;
    uint32_t shared_bytes;
    struct ptx_warp *warps;
    int32_t warp_count;
    struct ptx_barrier barriers[PTX_BARRIERS];
    uint64_t order, budget;           /* of ptx_options */
    struct ptx_region near[PTX_NEAR]; /* regions.c: where the last accesses were */
    uint32_t near_next;
    uint64_t access; /* counts accesses of warps: those of one instruction have the same */
    struct ptx_shadow *shadow; /* shadow.c: who touched which byte of shared memory, or NULL */
    struct ptx_counts counts;
    struct ptx_site *sites; /* by instruction, or NULL: nobody watches */
    struct ptx_why *why;
    jmp_buf fail;
};

/* Ends the launch: a sentence about the present instruction of `lane` (-1: of the warp). */
_Noreturn void ptx_fail(struct ptx_warp *w, int lane, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* "thread (x,y,z)" of the thread with that number in the block. */
void ptx_thread_text(const struct ptx_launch *launch, uint32_t thread, char *text, size_t size);

/*
 * sites.c: the present instruction's access of `lanes` to `bytes` bytes each took so many passes
 * over the banks, touched so many sectors. Nothing is done where nobody watches.
 */
void ptx_site_passes(struct ptx_warp *w, uint32_t lanes, uint32_t bytes, uint32_t passes);
void ptx_site_sectors(struct ptx_warp *w, uint32_t lanes, const uint64_t *address, uint32_t bytes,
                      uint32_t sectors);

/* warp.c: a warp at the kernel's first instruction, its special registers and constants filled. */
void ptx_warp_start(struct ptx_warp *w);
/* Runs it until all its threads have ended (true) or it waits at a barrier (false). */
bool ptx_warp_run(struct ptx_warp *w);
/* block.c: the warp comes to its present instruction's barrier; waits: w->barrier until all have.
 */
void ptx_barrier_come(struct ptx_warp *w, bool waits);
/* block.c: runs block->warps from their starts to their ends; block->fail is set. */
void ptx_block_run(struct ptx_block *block);

/* copies.c's and shadow.c's part of a block's life. Copies that are under way when a warp ends are
 * an error. */
void ptx_copies_start(struct ptx_warp *w);
void ptx_copies_end(struct ptx_warp *w);
void ptx_copies_free(struct ptx_warp *w);
/* False if memory is short; once for the blocks that a host thread runs, whatever becomes of them.
 */
bool ptx_shadow_make(struct ptx_block *block);
void ptx_shadow_start(struct ptx_block *block);
void ptx_shadow_free(struct ptx_block *block);
/*
 * Where `count` bytes of shared memory are on the host, count a power of 2 that `address` is a
 * multiple of; ptx_fail if they are not all the block's. Known to shadow.c.
 */
unsigned char *ptx_shared(struct ptx_warp *w, int lane, uint64_t address, uint32_t count,
                          bool write);
/* The same for global memory, aligned to `align`, a power of 2. */
unsigned char *ptx_global(struct ptx_warp *w, int lane, uint64_t address, uint32_t count,
                          uint32_t align, bool write);

/*
 * Races (shadow.c); called only where block->shadow is there. Bytes [at, at + count) of shared
 * memory are read, written, changed by an atomic operation; a copy to them is issued, has landed.
 */
void ptx_shadow_read(struct ptx_warp *w, int lane, uint32_t at, uint32_t count);
void ptx_shadow_write(struct ptx_warp *w, int lane, uint32_t at, uint32_t count);
void ptx_shadow_atomic(struct ptx_warp *w, int lane, uint32_t at, uint32_t count);
void ptx_shadow_issue(struct ptx_warp *w, int lane, uint32_t at, uint32_t count);
void ptx_shadow_land(struct ptx_warp *w, int lane, uint32_t at, uint32_t count);
/* The warp comes to barrier `id`, goes on from it; all have; lanes of `mask` met in bar.warp.sync.
 */
void ptx_shadow_come(struct ptx_warp *w, int id);
void ptx_shadow_leave(struct ptx_warp *w, int id);
void ptx_shadow_complete(struct ptx_block *block, int id);
void ptx_shadow_meet(struct ptx_warp *w, uint32_t mask);

#define PTX_U16(w, op, k)  ((uint16_t *)((w)->file + (op)->at[k]))
#define PTX_U32(w, op, k)  ((uint32_t *)((w)->file + (op)->at[k]))
#define PTX_U64(w, op, k)  ((uint64_t *)((w)->file + (op)->at[k]))
#define PTX_F32(w, op, k)  ((float *)((w)->file + (op)->at[k]))
#define PTX_F64(w, op, k)  ((double *)((w)->file + (op)->at[k]))
#define PTX_PRED(w, op, k) ((uint32_t *)((w)->file + (op)->at[k]))

#endif
