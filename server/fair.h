/*
 * Who is next: a pure choice over the first jobs of the queue and the state of one worker. Today's
 * rule is priority, then age; the interface is where fair share by tenant will come in.
 */
#ifndef LD_SERVER_FAIR_H
#define LD_SERVER_FAIR_H

#include <stdbool.h>
#include <stdint.h>

enum {
    LD_FAIR_CANDIDATES_MAX = 64,
    LD_FAIR_NONE = -1,
    LD_FAIR_WEIGHT_DEFAULT = 10,
    LD_FAIR_WEIGHT_MAX = 1000
};

struct ld_fair_job {
    int64_t seq; /* grows with every submit */
    int32_t priority;
    int64_t work;
    bool suspect; /* may have killed a worker: must run alone */
};

struct ld_fair_worker {
    uint32_t running;
    uint32_t running_max;
    bool running_suspect; /* nothing may join it */
};

/* Index into `jobs` (sorted by priority falling, seq rising), or LD_FAIR_NONE. A suspect at the
 * front waits for the worker to become empty and nothing overtakes it, so it cannot starve. */
int32_t ld_fair_choose(const struct ld_fair_job *jobs, uint32_t count,
                       const struct ld_fair_worker *worker);

#endif
