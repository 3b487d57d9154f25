/*
 * The PTX machine on programs of a few lines: what they must write is computed here in plain C.
 * Each runs with warps and lanes in every order, with the search for races and without: none of
 * them has one.
 */
#include "tests/ptx/test_ptx_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* ---- Lanes that part ------------------------------------------------------------------------- */

static void test_lanes_part_and_meet(void **state)
{
    (void)state;
    uint32_t want[64];
    for (uint32_t i = 0; i < 64; i++)
        want[i] = (i % 4 == 0 ? i + 100 : i % 4 == 1 ? i * 3 : i ^ 0xff) + 1000;
    fixture_expect("and.b32 %r5, %r0, 3;\n"
                   "setp.eq.s32 %p0, %r5, 0;\n"
                   "@%p0 bra $zero;\n"
                   "setp.eq.s32 %p1, %r5, 1;\n"
                   "@!%p1 bra $else;\n"
                   "mul.lo.s32 %r6, %r0, 3;\n"
                   "bra.uni $join;\n"
                   "$zero:\n"
                   "add.s32 %r6, %r0, 100;\n"
                   "bra.uni $join;\n"
                   "$else:\n"
                   "xor.b32 %r6, %r0, 255;\n"
                   "$join:\n"
                   "add.s32 %r6, %r6, 1000;\n"
                   "st.global.u32 [%rd2], %r6;\n"
                   "ret;",
                   1, 64, want, 64);
}

static void test_loops_of_different_lengths(void **state)
{
    (void)state;
    uint32_t want[96];
    for (uint32_t i = 0; i < 96; i++) {
        want[i] = 0;
        for (uint32_t k = 0; k <= i % 37; k++)
            want[i] = want[i] * 31 + k;
        want[i] += 37; /* and all meet again */
    }
    fixture_expect("rem.u32 %r5, %r0, 37;\n"
                   "mov.u32 %r6, 0;\n"
                   "mov.u32 %r7, 0;\n"
                   "$loop:\n"
                   "mad.lo.s32 %r6, %r6, 31, %r7;\n"
                   "add.s32 %r7, %r7, 1;\n"
                   "setp.le.u32 %p0, %r7, %r5;\n"
                   "@%p0 bra $loop;\n"
                   "bar.warp.sync -1;\n"
                   "add.s32 %r6, %r6, 37;\n"
                   "st.global.u32 [%rd2], %r6;\n"
                   "ret;",
                   1, 96, want, 96);
}

/* Lanes end one by one inside a loop, and predicated; a block whose last warp is not full. */
static void test_early_exit(void **state)
{
    (void)state;
    uint32_t want[50];
    for (uint32_t i = 0; i < 50; i++)
        want[i] = i % 5 == 2 ? UINT32_MAX : i % 32;
    fixture_expect("rem.u32 %r5, %r0, 5;\n"
                   "setp.eq.s32 %p0, %r5, 2;\n"
                   "@%p0 exit;\n"
                   "and.b32 %r5, %r0, 31;\n"
                   "mov.u32 %r6, 0;\n"
                   "$loop:\n"
                   "setp.ne.s32 %p1, %r5, %r6;\n"
                   "@%p1 bra $on;\n"
                   "st.global.u32 [%rd2], %r6;\n"
                   "ret;\n"
                   "$on:\n"
                   "add.s32 %r6, %r6, 1;\n"
                   "bra.uni $loop;",
                   1, 50, want, 50);
}

/* ---- Barriers -------------------------------------------------------------------------------- */

static void test_full_barrier(void **state)
{
    (void)state;
    uint32_t want[512];
    for (uint32_t i = 0; i < 512; i++)
        want[i] = (255 - i % 256) * 7 + (i / 256);
    fixture_expect("mad.lo.s32 %r5, %r0, 7, %r1;\n"
                   "st.shared.u32 [%r4], %r5;\n"
                   "bar.sync 0;\n"
                   "sub.s32 %r6, 255, %r0;\n"
                   "shl.b32 %r6, %r6, 2;\n"
                   "add.s32 %r6, %r6, %r3;\n"
                   "ld.shared.u32 %r7, [%r6];\n"
                   "bar.sync 0;\n"
                   "st.shared.u32 [%r4], %r7;\n"
                   "ld.shared.u32 %r8, [%r4];\n"
                   "st.global.u32 [%rd2], %r8;",
                   2, 256, want, 512);
}

/* Threads that have ended are not waited for: half of warp 0, all of warp 1. */
static void test_barrier_without_the_ended(void **state)
{
    (void)state;
    uint32_t want[96];
    for (uint32_t i = 0; i < 96; i++)
        want[i] = i < 16 ? i + 64 + 1 : i < 64 ? UINT32_MAX : i - 64 < 16 ? i - 64 + 1 : 81;
    fixture_expect("setp.lt.u32 %p0, %r0, 16;\n"
                   "setp.ge.u32 %p1, %r0, 64;\n"
                   "or.pred %p2, %p0, %p1;\n"
                   "@!%p2 ret;\n"
                   "add.s32 %r5, %r0, 1;\n"
                   "st.shared.u32 [%r4], %r5;\n"
                   "bar.sync 0;\n"
                   "mov.u32 %r6, 80;\n"
                   "@%p0 add.s32 %r6, %r0, 64;\n"
                   "setp.lt.u32 %p3, %r0, 80;\n"
                   "and.pred %p3, %p3, %p1;\n"
                   "@%p3 sub.s32 %r6, %r0, 64;\n"
                   "shl.b32 %r6, %r6, 2;\n"
                   "add.s32 %r6, %r6, %r3;\n"
                   "ld.shared.u32 %r7, [%r6];\n"
                   "st.global.u32 [%rd2], %r7;",
                   1, 96, want, 96);
}

/* Half a warp is at the barrier when the other half ends, or ends while the barrier waits for it.
 */
static void test_barrier_when_others_end(void **state)
{
    (void)state;
    uint32_t want[64];
    for (uint32_t i = 0; i < 64; i++)
        want[i] = i % 32 < 16 ? (i ^ 32) + 9 : UINT32_MAX;
    fixture_expect("and.b32 %r5, %r0, 16;\n"
                   "setp.ne.s32 %p0, %r5, 0;\n"
                   "@%p0 bra $else;\n"
                   "add.s32 %r6, %r0, 9;\n"
                   "st.shared.u32 [%r4], %r6;\n"
                   "bar.sync 0;\n"
                   "xor.b32 %r7, %r4, 128;\n"
                   "ld.shared.u32 %r8, [%r7];\n"
                   "st.global.u32 [%rd2], %r8;\n"
                   "ret;\n"
                   "$else:\n"
                   "add.s32 %r6, %r0, 1;\n"
                   "ret;",
                   1, 64, want, 64);
}

/* Warps 0 and 1 write, arrive and go on; 2 and 3 wait for them; then the other way round. */
static void test_arrive_and_wait(void **state)
{
    (void)state;
    uint32_t want[128];
    for (uint32_t i = 0; i < 128; i++)
        want[i] = i < 64 ? (i + 64) * 2 : i - 64 + 5;
    fixture_expect("setp.ge.u32 %p0, %r0, 64;\n"
                   "@%p0 bra $consumer;\n"
                   "add.s32 %r5, %r0, 5;\n"
                   "st.shared.u32 [%r4], %r5;\n"
                   "barrier.arrive 1, 128;\n"
                   "barrier.sync 2, 128;\n"
                   "ld.shared.u32 %r6, [%r4+256];\n"
                   "st.global.u32 [%rd2], %r6;\n"
                   "ret;\n"
                   "$consumer:\n"
                   "shl.b32 %r5, %r0, 1;\n"
                   "st.shared.u32 [%r4], %r5;\n"
                   "barrier.sync 1, 128;\n"
                   "ld.shared.u32 %r6, [%r4+-256];\n"
                   "st.global.u32 [%rd2], %r6;\n"
                   "barrier.arrive 2, 128;\n"
                   "ret;",
                   1, 128, want, 128);
}

/* Two pairs of warps, each at its own barrier, several times over. */
static void test_counted_barriers(void **state)
{
    (void)state;
    uint32_t want[128];
    for (uint32_t i = 0; i < 128; i++)
        want[i] = (i ^ 32) * 10 + 3;
    fixture_expect("shr.u32 %r5, %r0, 6;\n"
                   "add.s32 %r5, %r5, 1;\n"
                   "mov.u32 %r6, 0;\n"
                   "xor.b32 %r7, %r4, 128;\n"
                   "$loop:\n"
                   "mad.lo.s32 %r8, %r0, 10, %r6;\n"
                   "st.shared.u32 [%r4], %r8;\n"
                   "barrier.sync %r5, 64;\n"
                   "ld.shared.u32 %r9, [%r7];\n"
                   "barrier.sync %r5, 64;\n"
                   "add.s32 %r6, %r6, 1;\n"
                   "setp.lt.u32 %p0, %r6, 4;\n"
                   "@%p0 bra $loop;\n"
                   "st.global.u32 [%rd2], %r9;",
                   1, 128, want, 128);
}

/* ---- Collectives ----------------------------------------------------------------------------- */

struct shuffle {
    const char *mode;
    uint32_t b, c;
};

/* PTX ISA, "shfl.sync", its table of modes, written out anew. */
static uint32_t shuffle_source(const struct shuffle *s, uint32_t lane, bool *valid)
{
    const int width_mask = (int)(s->c >> 8), bound = (int)(s->c & 31), l = (int)lane;
    const int top = (l & width_mask) | (bound & ~width_mask);
    int j = 0;
    if (strcmp(s->mode, "up") == 0) {
        j = l - (int)s->b;
        *valid = j >= top;
    } else {
        j = strcmp(s->mode, "down") == 0   ? l + (int)s->b
            : strcmp(s->mode, "bfly") == 0 ? l ^ (int)s->b
                                           : (l & width_mask) | ((int)s->b & ~width_mask);
        *valid = j <= top;
    }
    return *valid ? (uint32_t)j : lane;
}

static void test_shuffles(void **state)
{
    (void)state;
    static const struct shuffle shuffles[] = {
        {"bfly", 1, 0x1f}, {"bfly", 16, 0x1f}, {"bfly", 2, 0x181f}, {"bfly", 9, 0x0f},
        {"up", 1, 0},      {"up", 5, 0x1800},  {"down", 3, 0x1f},   {"down", 1, 0x1c1f},
        {"idx", 7, 0x1f},  {"idx", 2, 0x181f}, {"idx", 20, 0x0f},   {"up", 0, 0x1000},
    };
    for (size_t n = 0; n < sizeof shuffles / sizeof shuffles[0]; n++) {
        const struct shuffle *s = &shuffles[n];
        uint32_t want[64];
        char body[512];
        for (uint32_t i = 0; i < 64; i++) {
            bool valid;
            const uint32_t from = shuffle_source(s, i % 32, &valid);
            want[i] = (i / 32 * 32 + from + 7) * 2 + valid;
        }
        snprintf(body, sizeof body,
                 "add.s32 %%r5, %%r0, 7;\n"
                 "shfl.sync.%s.b32 %%r6|%%p0, %%r5, %u, %u, -1;\n"
                 "shfl.sync.%s.b32 %%r5, %%r5, %u, %u, 0xffffffff;\n"
                 "sub.s32 %%r5, %%r5, %%r6;\n" /* without |p: the same */
                 "add.s32 %%r6, %%r6, %%r5;\n"
                 "selp.u32 %%r7, 1, 0, %%p0;\n"
                 "mad.lo.s32 %%r6, %%r6, 2, %%r7;\n"
                 "st.global.u32 [%%rd2], %%r6;",
                 s->mode, s->b, s->c, s->mode, s->b, s->c);
        fixture_expect(body, 1, 64, want, 64);
    }
}

/* Half warps that went apart, each with its own mask; and together, each with its own. */
static void test_shuffle_of_parts(void **state)
{
    (void)state;
    uint32_t want[32];
    for (uint32_t i = 0; i < 32; i++)
        want[i] = (i < 16 ? (i ^ 1) + 10 : (i ^ 2) + 20) + (i ^ 4);
    fixture_expect("setp.lt.u32 %p0, %r0, 16;\n"
                   "mov.u32 %r9, 0xffff0000;\n"
                   "@%p0 mov.u32 %r9, 0xffff;\n"
                   "@%p0 bra $low;\n"
                   "add.s32 %r5, %r0, 20;\n"
                   "shfl.sync.bfly.b32 %r6|%p1, %r5, 2, 31, 0xffff0000;\n"
                   "bra.uni $join;\n"
                   "$low:\n"
                   "add.s32 %r5, %r0, 10;\n"
                   "shfl.sync.bfly.b32 %r6|%p1, %r5, 1, 31, %r9;\n"
                   "$join:\n"
                   "shfl.sync.bfly.b32 %r7|%p1, %r0, 4, 31, %r9;\n"
                   "add.s32 %r6, %r6, %r7;\n"
                   "st.global.u32 [%rd2], %r6;",
                   1, 32, want, 32);
}

static void test_votes(void **state)
{
    (void)state;
    uint32_t want[64];
    for (uint32_t i = 0; i < 64; i++) {
        uint32_t ballot = 0;
        for (uint32_t k = 0; k < 32; k++)
            ballot |= (uint32_t)((i / 32 * 32 + k) % 3 == 0 && i / 32 == 0) << k;
        /* Warp 0: some are multiples of 3; warp 1: none votes. */
        want[i] = ballot ^ (i < 32 ? 1 : 4);
    }
    fixture_expect("rem.u32 %r5, %r0, 3;\n"
                   "setp.eq.s32 %p0, %r5, 0;\n"
                   "setp.lt.u32 %p1, %r0, 32;\n"
                   "and.pred %p0, %p0, %p1;\n"
                   "vote.sync.ballot.b32 %r6, %p0, -1;\n"
                   "vote.sync.any.pred %p2, %p0, -1;\n"
                   "vote.sync.all.pred %p3, %p0, -1;\n"
                   "vote.sync.uni.pred %p4, %p0, -1;\n"
                   "selp.u32 %r7, 1, 0, %p2;\n"
                   "selp.u32 %r8, 2, 0, %p3;\n"
                   "selp.u32 %r9, 4, 0, %p4;\n"
                   "xor.b32 %r6, %r6, %r7;\n"
                   "xor.b32 %r6, %r6, %r8;\n"
                   "xor.b32 %r6, %r6, %r9;\n"
                   "st.global.u32 [%rd2], %r6;",
                   1, 64, want, 64);
}

static void test_redux(void **state)
{
    (void)state;
    uint32_t want[32], sum = 0, most = 0, xor = 0;
    int32_t least = INT32_MAX;
    for (uint32_t i = 0; i < 32; i++) {
        const uint32_t x = i * 2654435761u;
        sum += x;
        most = x > most ? x : most;
        least = (int32_t)x < least ? (int32_t)x : least;
        xor ^= x;
    }
    for (uint32_t i = 0; i < 32; i++)
        want[i] = sum + 3 * most + 5 * (uint32_t)least + 7 * xor;
    fixture_expect("ld.global.u32 %r5, [%rd3];\n"
                   "redux.sync.add.u32 %r6, %r5, -1;\n"
                   "redux.sync.max.u32 %r7, %r5, -1;\n"
                   "redux.sync.min.s32 %r8, %r5, -1;\n"
                   "redux.sync.xor.b32 %r9, %r5, -1;\n"
                   "mad.lo.s32 %r6, %r7, 3, %r6;\n"
                   "mad.lo.s32 %r6, %r8, 5, %r6;\n"
                   "mad.lo.s32 %r6, %r9, 7, %r6;\n"
                   "st.global.u32 [%rd2], %r6;",
                   1, 32, want, 32);
}

/* ---- Memory ---------------------------------------------------------------------------------- */

/* u8, s8, s16 into wider registers, vectors, and lanes that are not consecutive. */
static void test_loads(void **state)
{
    (void)state;
    uint32_t want[64], in[FIXTURE_WORDS];
    unsigned char bytes[sizeof in];
    for (uint32_t i = 0; i < FIXTURE_WORDS; i++)
        in[i] = i * 2654435761u;
    memcpy(bytes, in, sizeof in);
    for (uint32_t i = 0; i < 64; i++) {
        const uint32_t at = i * 20;
        int16_t s16;
        memcpy(&s16, bytes + at + 2, sizeof s16);
        want[i] = (uint32_t)bytes[at + 1] + (uint32_t)(int8_t)bytes[at + 3] * 3 +
                  (uint32_t)(int32_t)s16 * 5 + in[4 * i + 1] * 7 + in[4 * i + 3] * 9 +
                  (uint32_t)((uint64_t)(int64_t)(int32_t)in[i] >> 32) * 11;
    }
    fixture_expect("mul.wide.u32 %rd4, %r0, 20;\n"
                   "add.s64 %rd4, %rd4, %rd1;\n"
                   "ld.global.nc.u8 %rs0, [%rd4+1];\n"
                   "cvt.u32.u16 %r5, %rs0;\n"
                   "ld.global.s8 %r6, [%rd4+3];\n"
                   "ld.global.s16 %r7, [%rd4+2];\n"
                   "mul.wide.u32 %rd5, %r0, 16;\n"
                   "add.s64 %rd5, %rd5, %rd1;\n"
                   "ld.global.nc.L1::no_allocate.v4.u32 {%r10, %r11, %r12, %r13}, [%rd5];\n"
                   "ld.global.s32 %rd6, [%rd3];\n"
                   "shr.u64 %rd6, %rd6, 32;\n"
                   "cvt.u32.u64 %r8, %rd6;\n"
                   "mad.lo.s32 %r5, %r6, 3, %r5;\n"
                   "mad.lo.s32 %r5, %r7, 5, %r5;\n"
                   "mad.lo.s32 %r5, %r11, 7, %r5;\n"
                   "mad.lo.s32 %r5, %r13, 9, %r5;\n"
                   "mad.lo.s32 %r5, %r8, 11, %r5;\n"
                   "st.global.u32 [%rd2], %r5;",
                   1, 64, want, 64);
}

/* Bytes, halves and vectors of shared memory, through generic addresses too. */
static void test_stores(void **state)
{
    (void)state;
    uint32_t want[64];
    for (uint32_t i = 0; i < 64; i++)
        want[i] = (i & 0xff) | ((i + 1) & 0xff) << 8 | (i * 3 & 0xffff) << 16;
    fixture_expect("st.shared.u8 [%r4], %r0;\n"
                   "add.s32 %r5, %r0, 1;\n"
                   "cvt.u16.u32 %rs0, %r5;\n"
                   "st.shared.u8 [%r4+1], %rs0;\n"
                   "mul.lo.s32 %r5, %r0, 3;\n"
                   "st.shared.u16 [%r4+2], %r5;\n"
                   "mov.u32 %r6, s;\n"
                   "cvt.u64.u32 %rd4, %r4;\n"
                   "cvta.shared.u64 %rd4, %rd4;\n"
                   "ld.u32 %r7, [%rd4];\n"
                   "st.u32 [%rd2], %r7;",
                   1, 64, want, 64);
}

static void test_vector_stores(void **state)
{
    (void)state;
    uint32_t want[256];
    for (uint32_t i = 0; i < 256; i++)
        want[i] = (31 - i / 4 % 32 + i / 128 * 32) * 10 + i % 4;
    /* Lane l takes the piece of lane 31 - l. */
    fixture_expect("mul.lo.s32 %r5, %r0, 10;\n"
                   "add.s32 %r6, %r5, 1;\n"
                   "add.s32 %r7, %r5, 2;\n"
                   "add.s32 %r8, %r5, 3;\n"
                   "shl.b32 %r9, %r0, 4;\n"
                   "add.s32 %r9, %r9, %r3;\n"
                   "st.shared.v4.u32 [%r9], {%r5, %r6, %r7, %r8};\n"
                   "bar.warp.sync -1;\n"
                   "xor.b32 %r10, %r0, 31;\n"
                   "shl.b32 %r10, %r10, 4;\n"
                   "add.s32 %r10, %r10, %r3;\n"
                   "ld.shared.v4.f32 {%f0, %f1, %f2, %f3}, [%r10];\n"
                   "mul.wide.u32 %rd4, %r0, 16;\n"
                   "add.s64 %rd4, %rd4, %rd0;\n"
                   "st.global.v4.f32 [%rd4], {%f0, %f1, %f2, %f3};",
                   1, 64, want, 256);
}

/* From many blocks at once; what a thread gets back depends on the order, what is left does not. */
static void test_atomics(void **state)
{
    (void)state;
    enum { BLOCKS = 40, THREADS = 64, ALL = BLOCKS * THREADS };
    uint32_t want[7] = {UINT32_MAX, UINT32_MAX,     (uint32_t)-6, 0,
                        ALL - 1,    (uint32_t)-ALL, UINT32_MAX}; /* out is all ones before */
    for (uint32_t i = 0; i < ALL; i++)
        want[0] += i;
    /* Who finds -1 at 2 is the only one; it sets 3. */
    fixture_expect("atom.global.add.u32 %r5, [%rd0], %r2;\n"
                   "red.global.max.u32 [%rd0+4], %r2;\n"
                   "atom.global.cas.b32 %r5, [%rd0+8], -1, -6;\n"
                   "setp.ne.s32 %p0, %r5, -1;\n"
                   "@%p0 bra $on;\n"
                   "atom.global.add.u32 %r6, [%rd0+12], 1;\n"
                   "membar.gl;\n"
                   "$on:\n"
                   "atom.global.max.s32 %r6, [%rd0+16], %r2;\n"
                   "not.b32 %r7, %r2;\n"
                   "atom.global.min.s32 %r6, [%rd0+20], %r7;\n"
                   "red.global.or.b32 [%rd0+24], %r2;",
                   BLOCKS, THREADS, want, 7);
}

static void test_shared_atomics(void **state)
{
    (void)state;
    uint32_t want[96];
    for (uint32_t i = 0; i < 96; i++)
        want[i] = 96 * 95 / 2;
    fixture_expect("setp.eq.u32 %p0, %r0, 0;\n"
                   "@%p0 st.shared.u32 [%r3], 0;\n"
                   "bar.sync 0;\n"
                   "atom.shared.add.u32 %r5, [%r3], %r0;\n"
                   "bar.sync 0;\n"
                   "ld.shared.u32 %r6, [%r3];\n"
                   "st.global.u32 [%rd2], %r6;",
                   1, 96, want, 96);
}

/* ---- Asynchronous copies --------------------------------------------------------------------- */

/* Groups land in their order; what is not read is zero. */
static void test_copies(void **state)
{
    (void)state;
    uint32_t want[128];
    for (uint32_t i = 0; i < 128; i++) {
        const uint32_t thread = i / 4;
        const bool read = i % 4 * 4 < thread % 5 * 4;
        want[i] = read ? i * 2654435761u : 0;
        want[i] += (128 + i) * 2654435761u;
    }
    fixture_expect("shl.b32 %r5, %r0, 4;\n"
                   "add.s32 %r6, %r5, %r3;\n"
                   "cvt.u64.u32 %rd4, %r5;\n"
                   "add.s64 %rd5, %rd4, %rd1;\n"
                   "rem.u32 %r7, %r0, 5;\n"
                   "shl.b32 %r7, %r7, 2;\n"
                   "cp.async.cg.shared.global [%r6], [%rd5], 16, %r7;\n"
                   "cp.async.commit_group;\n"
                   "cp.async.ca.shared.global [%r6+512], [%rd5+512], 4;\n"
                   "cp.async.ca.shared.global.L2::128B [%r6+516], [%rd5+516], 4;\n"
                   "cp.async.ca.shared.global [%r6+520], [%rd5+520], 8;\n"
                   "cp.async.commit_group;\n"
                   "cp.async.wait_group 1;\n"
                   "ld.shared.v4.u32 {%r10, %r11, %r12, %r13}, [%r6];\n"
                   "cp.async.wait_all;\n"
                   "ld.shared.v4.u32 {%r20, %r21, %r22, %r23}, [%r6+512];\n"
                   "add.s32 %r10, %r10, %r20;\n"
                   "add.s32 %r11, %r11, %r21;\n"
                   "add.s32 %r12, %r12, %r22;\n"
                   "add.s32 %r13, %r13, %r23;\n"
                   "add.s64 %rd4, %rd4, %rd0;\n"
                   "st.global.v4.u32 [%rd4], {%r10, %r11, %r12, %r13};",
                   1, 32, want, 128);
}

/* Each thread counts its own groups: odd lanes have committed one more. */
static void test_copies_of_lanes_that_part(void **state)
{
    (void)state;
    uint32_t want[32];
    for (uint32_t i = 0; i < 32; i++)
        want[i] = i * 2654435761u;
    fixture_expect("and.b32 %r5, %r0, 1;\n"
                   "setp.eq.s32 %p0, %r5, 0;\n"
                   "@%p0 bra $even;\n"
                   "cp.async.commit_group;\n"
                   "$even:\n"
                   "cp.async.ca.shared.global [%r4], [%rd3], 4;\n"
                   "cp.async.commit_group;\n"
                   "mov.u32 %r6, 0;\n"
                   "@%p0 bra $wait;\n"
                   "cp.async.commit_group;\n"
                   "$wait:\n"
                   "cp.async.wait_group 0;\n"
                   "ld.shared.u32 %r6, [%r4];\n"
                   "st.global.u32 [%rd2], %r6;",
                   1, 32, want, 32);
}

/* What another warp copied is there after its wait and a barrier. */
static void test_copies_for_others(void **state)
{
    (void)state;
    uint32_t want[128];
    for (uint32_t i = 0; i < 128; i++)
        want[i] = (i ^ 96) * 2654435761u;
    fixture_expect("cp.async.ca.shared.global [%r4], [%rd3], 4;\n"
                   "cp.async.commit_group;\n"
                   "cp.async.wait_group 0;\n"
                   "bar.sync 0;\n"
                   "xor.b32 %r5, %r4, 384;\n"
                   "ld.shared.u32 %r6, [%r5];\n"
                   "st.global.u32 [%rd2], %r6;",
                   1, 128, want, 128);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lanes_part_and_meet),
        cmocka_unit_test(test_loops_of_different_lengths),
        cmocka_unit_test(test_early_exit),
        cmocka_unit_test(test_full_barrier),
        cmocka_unit_test(test_barrier_without_the_ended),
        cmocka_unit_test(test_barrier_when_others_end),
        cmocka_unit_test(test_arrive_and_wait),
        cmocka_unit_test(test_counted_barriers),
        cmocka_unit_test(test_shuffles),
        cmocka_unit_test(test_shuffle_of_parts),
        cmocka_unit_test(test_votes),
        cmocka_unit_test(test_redux),
        cmocka_unit_test(test_loads),
        cmocka_unit_test(test_stores),
        cmocka_unit_test(test_vector_stores),
        cmocka_unit_test(test_atomics),
        cmocka_unit_test(test_shared_atomics),
        cmocka_unit_test(test_copies),
        cmocka_unit_test(test_copies_of_lanes_that_part),
        cmocka_unit_test(test_copies_for_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
