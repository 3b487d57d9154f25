/*
 * cuBLASLt and cuDNN as competitors of our kernels. Neither is linked: they are opened when the
 * program first asks, behind small tables of the functions we call. Without them, or in a build
 * whose toolkit lacks their headers, everything here says so and nothing else changes: our own
 * kernels need no library.
 *
 *     ldk_libs_open(&libs, &err);
 *     count = ldk_libs_linear_ways(libs, &linear, ways, capacity);
 *     ldk_libs_linear(libs, &ways[0], &linear, stream);
 *
 * A *way* is one algorithm, told by a text that finds the same algorithm again in another process
 * of the same library version. It runs at any batch size.
 *
 * Source: cuBLAS library documentation, section "Using the cuBLASLt API"; cuDNN backend API
 * documentation, "Graph API".
 */
#ifndef LDK_LIBS_H
#define LDK_LIBS_H

#include "kernels/cuda/kernels.h"
#include "runtime/base/error.h"

enum { LDK_LIBS_NAME_SIZE = 80, LDK_LIBS_WAYS_MAX = 8, LDK_LIBS_SENTENCE_SIZE = 200 };

struct ldk_libs;

struct ldk_libs_info {
    int32_t cublaslt, cudnn;               /* versions as the libraries give them; 0: not there */
    char sentence[LDK_LIBS_SENTENCE_SIZE]; /* for people: what is there, what is not and why */
};

/* "cublaslt:..." or "cudnn:...", no blanks. */
struct ldk_libs_way {
    char name[LDK_LIBS_NAME_SIZE];
};

/*
 * Open what there is; an absent library is no error. Handles belong to the current device.
 * Owner    returns owned; ldk_libs_close (NULL allowed). Used by one thread at a time.
 * Errors   LD_E_NOMEM.
 */
enum ld_code ldk_libs_open(struct ldk_libs **out, struct ld_error *err) LD_MUST_USE;
void ldk_libs_close(struct ldk_libs *libs);
const struct ldk_libs_info *ldk_libs_info(const struct ldk_libs *libs);

/* Device memory that the first call takes and all share, until ldk_libs_close; 0 in a build without
 * either library. What they take for themselves is not known to us. */
size_t ldk_libs_scratch_bytes(void);

/*
 * Keep cuDNN's plans below `folder`, and load them from there instead of compiling them: a plan
 * takes tenths of a second to compile and a millisecond to load (plan_store.h). `device` tells the
 * GPU and its driver from all others. Both are copied.
 */
void ldk_libs_keep_plans(struct ldk_libs *libs, const char *folder, const char *device);

/*
 * What the library's heuristic proposes for this shape, best first; 0 where it cannot do the
 * operator as it is (activations but none, two sources, moments, float32 output, a weight without
 * `bias16`, K with padding).
 */
uint32_t ldk_libs_linear_ways(struct ldk_libs *libs, const struct ldk_linear *linear,
                              struct ldk_libs_way *out, uint32_t capacity);
/* Convolutions 3x3: not with two sources, upsampling, moments or fp16 accumulators, and not over
 * their own residual. */
uint32_t ldk_libs_conv_ways(struct ldk_libs *libs, const struct ldk_conv *conv,
                            struct ldk_libs_way *out, uint32_t capacity);

/*
 * Run. The first call of a shape prepares (descriptors, plans, scratch memory) and must not happen
 * while a graph is captured; later ones only launch.
 * LDK_E_UNSUPPORTED where the way cannot do it, LDK_E_INVALID for a name that tells nothing.
 */
int ldk_libs_linear(struct ldk_libs *libs, const struct ldk_libs_way *way,
                    const struct ldk_linear *linear, ldk_stream stream);
int ldk_libs_conv(struct ldk_libs *libs, const struct ldk_libs_way *way,
                  const struct ldk_conv *conv, ldk_stream stream);

/*
 * How many plans have been given up that ran on a stream of the caller's, to make room for others:
 * what was recorded before must not be launched any more, its kernels may be gone.
 */
uint64_t ldk_libs_plans_lost(const struct ldk_libs *libs);

#endif
