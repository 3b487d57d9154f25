/*
 * The instructions of atomic.c and copies.c, for memory.c's rules.
 */
#ifndef LD_TESTS_PTX_MEMORY_OPS_H
#define LD_TESTS_PTX_MEMORY_OPS_H

#include "tests/ptx/memory.h"

ptx_do ptx_copy_issue, ptx_copy_commit, ptx_copy_wait, ptx_copy_wait_all;

/* ptx_atom_SPACE_OPERATION, which returns what was there, and ptx_red_SPACE_OPERATION, which does
 * not. */
#define PTX_ATOMICS(space)                                                                         \
    ptx_do ptx_atom_##space##_add_u32, ptx_red_##space##_add_u32, ptx_atom_##space##_add_u64,      \
        ptx_red_##space##_add_u64, ptx_atom_##space##_add_f32, ptx_red_##space##_add_f32,          \
        ptx_atom_##space##_max_u32, ptx_red_##space##_max_u32, ptx_atom_##space##_max_s32,         \
        ptx_red_##space##_max_s32, ptx_atom_##space##_max_u64, ptx_red_##space##_max_u64,          \
        ptx_atom_##space##_min_u32, ptx_red_##space##_min_u32, ptx_atom_##space##_min_s32,         \
        ptx_red_##space##_min_s32, ptx_atom_##space##_min_u64, ptx_red_##space##_min_u64,          \
        ptx_atom_##space##_and_b32, ptx_red_##space##_and_b32, ptx_atom_##space##_or_b32,          \
        ptx_red_##space##_or_b32, ptx_atom_##space##_xor_b32, ptx_red_##space##_xor_b32,           \
        ptx_atom_##space##_exch_b32, ptx_atom_##space##_exch_b64, ptx_atom_##space##_cas_b32,      \
        ptx_atom_##space##_cas_b64

PTX_ATOMICS(global);
PTX_ATOMICS(shared);
PTX_ATOMICS(generic);

#endif
