/*
 * Faults planted into PTX of a few lines: the machine must name each, whatever order warps and
 * lanes run in.
 */
#include "tests/ptx/test_ptx_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* ---- Memory ---------------------------------------------------------------------------------- */

static void test_outside(void **state)
{
    (void)state;
    /* The whole sentence, once. */
    fixture_refuse(
        "setp.ne.u32 %p0, %r0, 5;\n@%p0 ret;\nld.global.u8 %r5, [%rd1+8192];", 1, 32,
        "k, block (0,0,0), thread (5,0,0): PTX line 26 `ld.global.u8`: reads 1 bytes at 0x",
        ", 1 bytes past the end of 8192 bytes at 0x");
    fixture_refuse("st.global.u8 [%rd0+-1], %r0;", 1, 32, "writes 1 bytes at 0x",
                   ", 1 bytes before the beginning of 8192 bytes at 0x");
    /* A row of words that begins inside and ends outside; the same where accesses went before. */
    fixture_refuse("ld.global.u32 %r5, [%rd3];\nld.global.u32 %r5, [%rd3+8068];", 1, 32,
                   "thread (31,0,0): PTX line 25", "4 bytes past the end of 8192");
    fixture_refuse("ld.global.u32 %r5, [%rd3+8068];", 1, 32, "thread (31,0,0)",
                   "4 bytes past the end of 8192");
    fixture_refuse("st.global.v4.u32 [%rd0+8188], {%r0, %r0, %r0, %r0};", 1, 1, "writes 16 bytes",
                   "not a multiple of 16");
    fixture_refuse("mov.u64 %rd4, 0;\nld.u32 %r5, [%rd4];", 1, 32, "reads 4 bytes at 0x0,",
                   "before the beginning");
    fixture_refuse("atom.global.add.u32 %r5, [%rd0+8192], 1;", 1, 32, "writes 4 bytes",
                   "4 bytes past the end");
}

static void test_misaligned(void **state)
{
    (void)state;
    fixture_refuse("ld.global.u32 %r5, [%rd3+2];", 1, 32, "thread (0,0,0)",
                   "which is not a multiple of 4");
    fixture_refuse("ld.global.v4.f32 {%f0, %f1, %f2, %f3}, [%rd1+8];", 1, 32, "reads 16 bytes",
                   "which is not a multiple of 16");
    fixture_refuse("ld.shared.v2.u32 {%r5, %r6}, [%r4];", 1, 32, "thread (1,0,0)",
                   "reads 8 bytes at shared offset 4, which is not a multiple of 8");
    fixture_refuse("cp.async.ca.shared.global [%r4], [%rd3+2], 4;", 1, 32, "copies from 0x",
                   "which is not a multiple of 4");
    fixture_refuse("cp.async.cg.shared.global [%r4], [%rd1], 16;", 1, 32, "thread (1,0,0)",
                   "writes 16 bytes at shared offset 4");
}

static void test_freed(void **state)
{
    (void)state;
    struct fixture f;
    fixture_start(&f, 1, 32);
    assert_true(fixture_run(&f, "ld.global.u32 %r5, [%rd3];"));
    ptx_memory_remove(f.in);
    assert_false(fixture_run(&f, "ld.global.u32 %r5, [%rd3];"));
    if (strstr(f.why.text, "in 8192 bytes at 0x") == NULL ||
        strstr(f.why.text, "that have been freed") == NULL)
        fail_msg("%s", f.why.text);
    ptx_memory_add(f.in, FIXTURE_WORDS * sizeof *f.in);
    fixture_end(&f);
}

/* A region whose last word is cut: the word's last byte is one too many. */
static void test_one_byte(void **state)
{
    (void)state;
    struct fixture f;
    fixture_start(&f, 1, 32);
    ptx_memory_remove(f.in);
    ptx_memory_add(f.in, 127);
    assert_false(fixture_run(&f, "ld.global.u32 %r5, [%rd3];"));
    if (strstr(f.why.text, "thread (31,0,0)") == NULL ||
        strstr(f.why.text, ", 1 bytes past the end of 127 bytes") == NULL)
        fail_msg("%s", f.why.text);
    ptx_memory_remove(f.in);
    ptx_memory_add(f.in, 128);
    assert_true(fixture_run(&f, "ld.global.u32 %r5, [%rd3];"));
    fixture_end(&f);
}

static void test_shared_outside(void **state)
{
    (void)state;
    fixture_refuse("st.shared.u32 [%r4+4064], %r0;", 1, 32, "thread (8,0,0)",
                   "writes 4 bytes at shared offset 4096, 4 bytes past the end of 4096 bytes");
    fixture_refuse("ld.shared.u8 %r5, [%r3+-1];", 1, 32,
                   "reads 1 bytes at shared offset 4294967295", "past the end of 4096 bytes");
    fixture_refuse(".shared .align 4 .b8 tail[6];\nst.shared.u32 [tail+4], %r0;", 1, 1,
                   "writes 4 bytes at shared offset 4100", "2 bytes past the end of 4102 bytes");
    fixture_refuse("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r5, %r6, %r7, %r8}, [%r3+4096];", 1,
                   32, "reads 16 bytes at shared offset 4096", "16 bytes past the end");
    fixture_refuse("cp.async.cg.shared.global [%r3+4096], [%rd1], 16;", 1, 1, "writes 16 bytes",
                   "16 bytes past the end of 4096 bytes");
    fixture_refuse("cp.async.cg.shared.global [%r3], [%rd1+8192], 16, 1;", 1, 1, "reads 1 bytes",
                   "1 bytes past the end of 8192 bytes");
}

static void test_parameters_outside(void **state)
{
    (void)state;
    fixture_refuse("ld.param.u32 %r5, [k_in+8];", 1, 32, "reads 4 bytes at offset 16",
                   "of 16 bytes of parameters");
}

/* ---- Barriers -------------------------------------------------------------------------------- */

static void test_barrier_of_half_a_warp(void **state)
{
    (void)state;
    fixture_refuse("setp.lt.u32 %p0, %r0, 16;\n"
                   "@!%p0 bra $else;\n"
                   "bar.sync 0;\n"
                   "ret;\n"
                   "$else:\n"
                   "bar.sync 0;\n"
                   "ret;",
                   1, 32, "a barrier that only lanes ", "of the warp come to: lanes ");
    fixture_refuse("setp.lt.u32 %p0, %r0, 16;\n"
                   "@%p0 bar.sync 0;\n"
                   "bar.warp.sync -1;",
                   1, 32, "lanes 0-15", "lanes 16-31");
}

static void test_deadlock(void **state)
{
    (void)state;
    fixture_refuse("shr.u32 %r5, %r0, 5;\n"
                   "add.s32 %r5, %r5, 1;\n"
                   "barrier.sync %r5, 64;",
                   1, 64, "deadlock: warp 0 waits at line 26 for barrier 1 (1 warps of 64 threads",
                   "warp 1 waits at line 26 for barrier 2");
    fixture_refuse("setp.lt.u32 %p0, %r0, 32;\n"
                   "@%p0 bar.sync 1, 96;\n",
                   1, 96, "deadlock: warp 0 waits at line 25 for barrier 1", "96 threads");
}

static void test_barrier_operands(void **state)
{
    (void)state;
    fixture_refuse("bar.sync 1, 48;", 1, 64, "barrier 1 of 48 threads", "in a block of 64");
    fixture_refuse("bar.sync 1, 96;", 1, 64, "barrier 1 of 96 threads", "in a block of 64");
    fixture_refuse("bar.sync 16;", 1, 64, "barrier 16", "there are 16");
    fixture_refuse("bar.sync %r0;", 1, 32, "thread (1,0,0)", "barrier 1, but 0 in lane 0");
    fixture_refuse("setp.lt.u32 %p0, %r0, 32;\n"
                   "mov.u32 %r5, 96;\n"
                   "@%p0 mov.u32 %r5, 64;\n"
                   "bar.sync 1, %r5;",
                   1, 96, "barrier 1 of ", "for those who came before");
    fixture_refuse("bar.arrive 1, 64;\nbar.sync 1, 64;\n", 1, 64, "comes to barrier 1 again",
                   "before it has completed");
}

static void test_endless(void **state)
{
    (void)state;
    ptx_options()->budget = 10000;
    fixture_refuse("$loop:\nadd.s32 %r5, %r5, 1;\nbra.uni $loop;", 1, 32,
                   "the warp has executed more than 10000 instructions", "`bra.uni`");
    /* One lane waits for what another would write. */
    fixture_refuse("setp.eq.u32 %p0, %r0, 0;\n"
                   "$loop:\n"
                   "ld.global.u32 %r5, [%rd0];\n"
                   "setp.ne.u32 %p1, %r5, 7;\n"
                   "@%p1 bra $loop;\n"
                   "@%p0 st.global.u32 [%rd0], 7;",
                   1, 32, "the warp has executed more than 10000 instructions", "`bra`");
    ptx_options()->budget = 0;
}

static void test_trap(void **state)
{
    (void)state;
    fixture_refuse("setp.eq.u32 %p0, %r0, 3;\n@%p0 trap;", 1, 32, "thread (3,0,0)", "a trap");
}

/* ---- Collectives ----------------------------------------------------------------------------- */

static void test_lanes_missing(void **state)
{
    (void)state;
    fixture_refuse("setp.ge.u32 %p0, %r0, 16;\n"
                   "@%p0 ret;\n"
                   "shfl.sync.bfly.b32 %r5|%p1, %r0, 1, 31, -1;",
                   1, 32, "the member mask 0xffffffff names lanes 16-31", "which have ended");
    fixture_refuse("setp.ge.u32 %p0, %r0, 30;\n"
                   "@%p0 bra $else;\n"
                   "shfl.sync.bfly.b32 %r5|%p1, %r0, 1, 31, -1;\n"
                   "ret;\n"
                   "$else:\n"
                   "vote.sync.any.pred %p1, %p0, -1;",
                   1, 32, "wait for ever for member mask 0xffffffff: lanes ", "wait at line ");
    fixture_refuse("bar.warp.sync -1;", 1, 20, "names lanes 20-31", "which have ended");
}

static void test_masks(void **state)
{
    (void)state;
    fixture_refuse("mov.u32 %r5, 0xffff;\nshfl.sync.idx.b32 %r6, %r0, 0, 31, %r5;", 1, 32,
                   "thread (16,0,0)", "not in its own member mask 0x0000ffff");
    fixture_refuse("setp.lt.u32 %p0, %r0, 16;\n"
                   "mov.u32 %r5, 0xffffffff;\n"
                   "@%p0 mov.u32 %r5, 0xffff;\n"
                   "redux.sync.add.u32 %r6, %r0, %r5;",
                   1, 32, "has member mask 0x", "which is in it, 0x");
    fixture_refuse("setp.ge.u32 %p0, %r0, 16;\n"
                   "@%p0 ret;\n"
                   "shfl.sync.idx.b32 %r6, %r0, 20, 31, 0xffff;",
                   1, 32, "takes the value of lane 20", "which is not in member mask 0x0000ffff");
}

static void test_matrix_of_half_a_warp(void **state)
{
    (void)state;
    fixture_refuse("setp.lt.u32 %p0, %r0, 16;\n"
                   "@%p0 mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%f0, %f1, %f2, %f3}, "
                   "{%r5, %r6}, {%r7}, {%f0, %f1, %f2, %f3};",
                   1, 32, "all 32 lanes must come, only lanes 0-15 do", "lanes 16-31 have ended");
    fixture_refuse("ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r5}, [%r3];", 1, 48,
                   "thread (32,0,0)", "only lanes 0-15 do");
}

/* ---- Races ----------------------------------------------------------------------------------- */

static void test_missing_barrier(void **state)
{
    (void)state;
    fixture_refuse("st.shared.u32 [%r4], %r0;\n"
                   "xor.b32 %r5, %r4, 128;\n"
                   "ld.shared.u32 %r6, [%r5];",
                   1, 64, "shared offset ", "and no barrier lies between");
    /* Read first, then written. */
    fixture_refuse("st.shared.u32 [%r4], %r0;\n"
                   "bar.sync 0;\n"
                   "xor.b32 %r5, %r4, 128;\n"
                   "ld.shared.u32 %r6, [%r5];\n"
                   "st.shared.u32 [%r4], %r6;",
                   1, 64, "line 27 `ld.shared.u32`", "and no barrier lies between");
    /* Two writers of one byte, whose neighbours are others' by right. */
    fixture_refuse("and.b32 %r5, %r0, 31;\n"
                   "add.s32 %r5, %r5, %r3;\n"
                   "st.shared.u8 [%r5], %r0;",
                   1, 64, "writes shared offset 0, which thread (", "`st.shared.u8`");
    /* A word and a byte of it. */
    fixture_refuse("setp.eq.u32 %p0, %r0, 0;\n"
                   "setp.eq.u32 %p1, %r0, 32;\n"
                   "@%p0 st.shared.u32 [%r3], 5;\n"
                   "@%p1 ld.shared.u8 %r5, [%r3+2];",
                   1, 64, "shared offset 2, which ", "and no barrier lies between");
    /* Plain and atomic. */
    fixture_refuse("setp.eq.u32 %p0, %r0, 0;\n"
                   "@%p0 st.shared.u32 [%r3], 0;\n"
                   "atom.shared.add.u32 %r5, [%r3], 1;",
                   1, 64, "`atom.shared.add.u32`", "lies between");
}

/* A barrier orders those who come to it, not the others. */
static void test_barrier_of_others(void **state)
{
    (void)state;
    fixture_refuse("st.shared.u32 [%r4], %r0;\n"
                   "setp.ge.u32 %p0, %r0, 64;\n"
                   "@%p0 bra $last;\n"
                   "barrier.sync 1, 64;\n"
                   "ret;\n"
                   "$last:\n"
                   "ld.shared.u32 %r5, [%r4+-256];",
                   1, 96, "shared offset ", "and no barrier lies between");
    /* Who only arrived knows nothing of what the others did. */
    fixture_refuse("st.shared.u32 [%r4], %r0;\n"
                   "setp.ge.u32 %p0, %r0, 32;\n"
                   "@%p0 bra $waits;\n"
                   "barrier.arrive 1, 64;\n"
                   "ld.shared.u32 %r5, [%r4+128];\n"
                   "ret;\n"
                   "$waits:\n"
                   "barrier.sync 1, 64;\n"
                   "ret;",
                   1, 64, "shared offset ", "and no barrier lies between");
}

/* Two pairs of warps use one barrier, one pair after the other: neither knows of the other pair. */
static void test_barrier_used_again(void **state)
{
    (void)state;
    struct fixture f;
    fixture_start(&f, 1, 128);
    ptx_options()->races = true; /* in order 0 the first two warps are the first pair */
    assert_false(fixture_run(&f, "st.shared.u32 [%r4], %r0;\n"
                                 "bar.sync 1, 64;\n"
                                 "setp.ge.u32 %p0, %r0, 64;\n"
                                 "@%p0 ld.shared.u32 %r5, [%r4+-256];"));
    assert_non_null(strstr(f.why.text, "and no barrier lies between"));
    ptx_options()->races = false;
    fixture_end(&f);
}

static void test_missing_warp_sync(void **state)
{
    (void)state;
    fixture_refuse("st.shared.u32 [%r4], %r0;\n"
                   "xor.b32 %r5, %r4, 4;\n"
                   "ld.shared.u32 %r6, [%r5];",
                   1, 32, "reads shared offset ", "and no bar.warp.sync lies between");
    /* A shuffle is not one. */
    fixture_refuse("st.shared.u32 [%r4], %r0;\n"
                   "shfl.sync.bfly.b32 %r7|%p0, %r0, 1, 31, -1;\n"
                   "xor.b32 %r5, %r4, 4;\n"
                   "ld.shared.u32 %r6, [%r5];",
                   1, 32, "which thread (", "and no bar.warp.sync lies between");
    /* Nor one of other lanes. */
    fixture_refuse("st.shared.u32 [%r4], %r0;\n"
                   "setp.lt.u32 %p0, %r0, 16;\n"
                   "mov.u32 %r7, 0xffff0000;\n"
                   "@%p0 mov.u32 %r7, 0xffff;\n"
                   "bar.warp.sync %r7;\n"
                   "xor.b32 %r5, %r4, 64;\n"
                   "ld.shared.u32 %r6, [%r5];",
                   1, 32, "reads shared offset ", "and no bar.warp.sync lies between");
    fixture_refuse("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r5, %r6, %r7, %r8}, [%r3];\n"
                   "st.shared.u32 [%r3], %r0;",
                   1, 32, "writes shared offset 0", "`ldmatrix.sync.aligned.m8n8.x4.shared.b16`");
}

static void test_lanes_disagree(void **state)
{
    (void)state;
    fixture_refuse("st.shared.u32 [%r3], %r0;", 1, 32, "lanes write different values",
                   "`st.shared.u32`");
}

/* ---- Asynchronous copies --------------------------------------------------------------------- */

static void test_copy_under_way(void **state)
{
    (void)state;
    fixture_refuse("cp.async.ca.shared.global [%r4], [%rd3], 4;\n"
                   "cp.async.commit_group;\n"
                   "ld.shared.u32 %r5, [%r4];\n"
                   "cp.async.wait_group 0;",
                   1, 32, "reads shared offset 0, the target of a copy under way",
                   "thread (0,0,0) issued it at PTX line 24");
    /* Waited for, but one group too few. */
    fixture_refuse("cp.async.ca.shared.global [%r4], [%rd3], 4;\n"
                   "cp.async.commit_group;\n"
                   "cp.async.commit_group;\n"
                   "cp.async.wait_group 2;\n"
                   "ld.shared.u32 %r5, [%r4];\n"
                   "cp.async.wait_all;",
                   1, 32, "reads shared offset 0", "the target of a copy under way");
    fixture_refuse("cp.async.ca.shared.global [%r4], [%rd3], 4;\n"
                   "st.shared.u32 [%r4], %r0;\n"
                   "cp.async.wait_all;",
                   1, 32, "writes shared offset 0", "the target of a copy under way");
    /* Odd lanes have committed one group more, but waited for all but one as well. */
    fixture_refuse("and.b32 %r5, %r0, 1;\n"
                   "setp.eq.s32 %p0, %r5, 0;\n"
                   "@%p0 bra $even;\n"
                   "cp.async.commit_group;\n"
                   "$even:\n"
                   "bar.warp.sync -1;\n"
                   "cp.async.ca.shared.global [%r4], [%rd3], 4;\n"
                   "cp.async.commit_group;\n"
                   "cp.async.wait_group 1;\n"
                   "@!%p0 ld.shared.u32 %r6, [%r4];\n"
                   "cp.async.wait_all;",
                   1, 32, "thread (1,0,0)", "the target of a copy under way");
    /* Another lane's, waited for by that lane alone. */
    fixture_refuse("cp.async.ca.shared.global [%r4], [%rd3], 4;\n"
                   "cp.async.wait_all;\n"
                   "xor.b32 %r5, %r4, 4;\n"
                   "ld.shared.u32 %r6, [%r5];\n",
                   1, 32, "reads shared offset ", "and no bar.warp.sync lies between");
    /* Another warp's: the barrier came before the wait. */
    fixture_refuse("cp.async.ca.shared.global [%r4], [%rd3], 4;\n"
                   "bar.sync 0;\n"
                   "cp.async.wait_all;\n"
                   "xor.b32 %r5, %r4, 128;\n"
                   "ld.shared.u32 %r6, [%r5];\n",
                   1, 64, "reads shared offset ", "");
    /* Issued while another warp may still read what is there. */
    fixture_refuse("st.shared.u32 [%r4], %r0;\n"
                   "bar.sync 0;\n"
                   "xor.b32 %r5, %r4, 128;\n"
                   "ld.shared.u32 %r6, [%r5];\n"
                   "cp.async.ca.shared.global [%r4], [%rd3], 4;\n"
                   "bar.sync 0;\n"
                   "cp.async.wait_all;",
                   1, 64, "shared offset ", "");
}

static void test_copy_at_the_end(void **state)
{
    (void)state;
    fixture_refuse("cp.async.ca.shared.global [%r4], [%rd3], 4;\ncp.async.commit_group;", 1, 32,
                   "`cp.async.ca.shared.global`", "still under way when the thread ends");
}

/* Without races, bytes are seen late at least: what was there before the wait is what is read. */
static void test_copy_lands_at_the_wait(void **state)
{
    (void)state;
    struct fixture f;
    fixture_start(&f, 1, 32);
    for (uint64_t order = 0; order < 3; order++) {
        ptx_options()->order = order;
        assert_true(fixture_run(&f, "st.shared.u32 [%r4], 7;\n"
                                    "cp.async.ca.shared.global [%r4], [%rd3], 4;\n"
                                    "cp.async.commit_group;\n"
                                    "ld.shared.u32 %r5, [%r4];\n"
                                    "cp.async.wait_group 0;\n"
                                    "ld.shared.u32 %r6, [%r4];\n"
                                    "sub.s32 %r6, %r6, %r5;\n"
                                    "st.global.u32 [%rd2], %r6;"));
        for (uint32_t i = 0; i < 32; i++)
            assert_int_equal(f.out[i], i * 2654435761u - 7);
    }
    ptx_options()->order = 0;
    fixture_end(&f);
}

/* ---- Launches -------------------------------------------------------------------------------- */

static void test_launches(void **state)
{
    (void)state;
    fixture_refuse("ret;", 0, 32, "no grid (0,1,1) of blocks (32,1,1)", "k:");
    fixture_refuse("ret;", 1, 1056, "no grid (1,1,1) of blocks (1056,1,1)", "k:");
}

/* One block of many fails; the sentence is of a block that did. */
static void test_first_failure(void **state)
{
    (void)state;
    fixture_refuse("setp.ne.u32 %p0, %r1, 17;\n"
                   "@%p0 ret;\n"
                   "trap;",
                   64, 32, "block (17,0,0)", "a trap");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_outside),
        cmocka_unit_test(test_misaligned),
        cmocka_unit_test(test_freed),
        cmocka_unit_test(test_one_byte),
        cmocka_unit_test(test_shared_outside),
        cmocka_unit_test(test_parameters_outside),
        cmocka_unit_test(test_barrier_of_half_a_warp),
        cmocka_unit_test(test_deadlock),
        cmocka_unit_test(test_barrier_operands),
        cmocka_unit_test(test_endless),
        cmocka_unit_test(test_trap),
        cmocka_unit_test(test_lanes_missing),
        cmocka_unit_test(test_masks),
        cmocka_unit_test(test_matrix_of_half_a_warp),
        cmocka_unit_test(test_missing_barrier),
        cmocka_unit_test(test_barrier_of_others),
        cmocka_unit_test(test_barrier_used_again),
        cmocka_unit_test(test_missing_warp_sync),
        cmocka_unit_test(test_lanes_disagree),
        cmocka_unit_test(test_copy_under_way),
        cmocka_unit_test(test_copy_at_the_end),
        cmocka_unit_test(test_copy_lands_at_the_wait),
        cmocka_unit_test(test_launches),
        cmocka_unit_test(test_first_failure),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
