#include "runtime/ipc/stats.h"

#include <stdatomic.h>

const uint32_t ld_stats_batch_max[LD_STATS_BATCHES] = {1, 2, 4, 8, 16, 32, 64};
/* From a fast GPU's step to a CPU's. */
const int64_t ld_stats_bucket_us[LD_STATS_BUCKETS - 1] = {2000,   5000,   10000,   20000,  50000,
                                                          100000, 500000, 1000000, 5000000};

static atomic_uint_least64_t table[LD_STAT_COUNT];

void ld_stats_add(enum ld_stat stat, uint64_t amount)
{
    atomic_fetch_add_explicit(&table[stat], amount, memory_order_relaxed);
}

void ld_stats_pass(uint32_t positions, uint32_t rows, int64_t spent_us)
{
    const size_t size = positions <= 64U * 64U ? 0 : positions <= 128U * 128U ? 1 : 2;
    size_t batch = 0;
    size_t bucket = 0;
    while (batch < LD_STATS_BATCHES - 1 && rows > ld_stats_batch_max[batch])
        batch++;
    while (bucket < LD_STATS_BUCKETS - 1 && spent_us > ld_stats_bucket_us[bucket])
        bucket++;
    ld_stats_add(LD_STAT_ROWS, rows);
    ld_stats_add((enum ld_stat)ld_stat_pass_us(size, batch), spent_us > 0 ? (uint64_t)spent_us : 0);
    ld_stats_add((enum ld_stat)ld_stat_pass_bucket(size, batch, bucket), 1);
}

void ld_stats_read(uint64_t values[LD_STAT_COUNT])
{
    for (size_t i = 0; i < LD_STAT_COUNT; i++)
        values[i] = atomic_load_explicit(&table[i], memory_order_relaxed);
}
