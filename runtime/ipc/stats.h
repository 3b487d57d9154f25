/*
 * What this process has counted: passes by size, batch and duration, cached texts, loaded models.
 * One table a process, because a worker has one engine; counting never fails and never waits. A
 * worker sends the table to its front, which adds what is new to its own metrics.
 *
 *     ld_stats_add(LD_STAT_CONTEXT_HITS, 1);
 *     ld_stats_pass(latent_height * latent_width, rows, spent_us);
 */
#ifndef LD_IPC_STATS_H
#define LD_IPC_STATS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
    LD_STATS_SIZES = 3,   /* classes of latent positions: 512x512, 1024x1024, larger */
    LD_STATS_BATCHES = 7, /* classes of rows: 1, 2, 4, ... 64 */
    LD_STATS_BUCKETS = 10 /* of a pass's seconds; the last one is everything longer */
};

/* Upper bounds of the classes. */
extern const uint32_t ld_stats_batch_max[LD_STATS_BATCHES];
extern const int64_t ld_stats_bucket_us[LD_STATS_BUCKETS - 1];

/* Everything only grows while a process lives. */
enum ld_stat {
    LD_STAT_CONTEXT_HITS,   /* texts found encoded */
    LD_STAT_CONTEXT_MISSES, /* texts that had to be encoded */
    LD_STAT_MODEL_LOADS,
    LD_STAT_MODEL_LOAD_US,
    LD_STAT_VARIANT_HITS, /* adapter sets found merged */
    LD_STAT_VARIANT_MISSES,
    LD_STAT_JOBS_JOINED, /* jobs that took the result of an equal one in flight */
    LD_STAT_PASSES_SHRUNK,
    LD_STAT_ROWS,    /* of all passes */
    LD_STAT_PASS_US, /* in this many [size][batch], then the buckets' counts */
    LD_STAT_PASS_BUCKETS = LD_STAT_PASS_US + LD_STATS_SIZES * LD_STATS_BATCHES,
    LD_STAT_COUNT = LD_STAT_PASS_BUCKETS + LD_STATS_SIZES * LD_STATS_BATCHES * LD_STATS_BUCKETS
};

/* Place of a pass's class in the two tables. */
static inline size_t ld_stat_pass_us(size_t size, size_t batch)
{
    return LD_STAT_PASS_US + size * LD_STATS_BATCHES + batch;
}
static inline size_t ld_stat_pass_bucket(size_t size, size_t batch, size_t bucket)
{
    return LD_STAT_PASS_BUCKETS + (size * LD_STATS_BATCHES + batch) * LD_STATS_BUCKETS + bucket;
}

void ld_stats_add(enum ld_stat stat, uint64_t amount);
/* One pass of the denoiser over `rows` rows of `positions` latent positions each. */
void ld_stats_pass(uint32_t positions, uint32_t rows, int64_t spent_us);

/* All values as they are now. Any thread. */
void ld_stats_read(uint64_t values[LD_STAT_COUNT]);

#ifdef __cplusplus
}
#endif
#endif
