/*
 * PTX written by hand, as the body of one kernel, run on small buffers.
 *
 * The kernel has %p0-15, %rs0-15, %r0-63, %f0-63, %rd0-31, shared memory `s` of 4096 bytes, and
 * begins with
 *
 *     %r0 thread, %r1 block, %r2 thread of the grid
 *     %r3 address of s, %r4 of the thread's own word in s
 *     %rd0 out, %rd1 in, %rd2 the thread's own word of out, %rd3 of in
 *
 * A body uses what is above these numbers (%r5, %rd4), and ends by falling off its end.
 */
#ifndef LD_TESTS_PTX_FIXTURE_H
#define LD_TESTS_PTX_FIXTURE_H

#include "tests/ptx/ptx.h"

enum { FIXTURE_WORDS = 2048, FIXTURE_SHARED = 4096 };

struct fixture {
    uint32_t blocks, threads;
    uint32_t *in, *out; /* FIXTURE_WORDS each, with gaps around; in[i] = i * 2654435761 at first */
    uint32_t *memory;   /* that both lie in */
    struct ptx_why why;
};

/* False: see f->why. `out` is all ones before. */
bool fixture_run(struct fixture *f, const char *body);
void fixture_start(struct fixture *f, uint32_t blocks, uint32_t threads);
void fixture_end(struct fixture *f);

/* Runs body in every order, with and without races: always out[i] == want[i] for `count` words. */
void fixture_expect(const char *body, uint32_t blocks, uint32_t threads, const uint32_t *want,
                    uint32_t count);
/* Runs it in three orders with races on: always fails, and the sentence has both parts. */
void fixture_refuse(const char *body, uint32_t blocks, uint32_t threads, const char *part,
                    const char *other_part);

#endif
