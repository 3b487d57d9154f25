/*
 * Who is next: pure arithmetic of the fair queue; the store keeps the numbers.
 *
 * Between keys: virtual time, as in start-time fair queueing (Goyal, Vin, Cheng 1996). A key's
 * virtual time grows by the estimated cost of each of its jobs that starts, divided by its weight;
 * the key that is least far goes first. A key that comes with nothing waiting starts at the present
 * virtual time at the earliest: who was away has saved nothing up, and a flood of jobs only moves
 * the flooder's own clock. What a cancelled job did not use is given back.
 *
 * Within a key: priority, then age; but every LD_FAIR_OLDEST_TURN-th turn belongs to its oldest
 * job, so that a job waits at most that many times as long as it would have in the order of
 * arrival.
 *
 * Where several keys share the machine, one place of the batch is kept free of those who already
 * have all others, so that a newcomer's job joins at the next step instead of behind long ones.
 */
#ifndef LD_SERVER_FAIR_H
#define LD_SERVER_FAIR_H

#include <stdbool.h>
#include <stdint.h>

enum {
    LD_FAIR_KEYS_MAX = 1088, /* above all jobs of all workers: more than can be held back */
    LD_FAIR_NONE = -1,
    LD_FAIR_WEIGHT_DEFAULT = 10,
    LD_FAIR_WEIGHT_MAX = 1000,
    LD_FAIR_OLDEST_TURN = 8
};

/* What a key is due. */
struct ld_fair_share {
    int64_t weight;
    int64_t running_max;
};

/* One key with waiting jobs. */
struct ld_fair_key {
    int64_t vtime;
    int64_t weight;
    int64_t running, running_max;
    int64_t queued, queued_cost; /* all its waiting jobs; for estimates */
};

struct ld_fair_worker {
    uint32_t running;
    uint32_t running_max;
    bool running_suspect; /* nothing may join it */
    uint32_t places;      /* of all workers, if several keys share them; 0: no place is kept free */
};

/* Is there room for any job at all? */
bool ld_fair_has_room(const struct ld_fair_worker *worker);

/* Index of the key whose turn it is, or LD_FAIR_NONE. Equal ones: the first. */
int32_t ld_fair_choose(const struct ld_fair_key *keys, uint32_t count,
                       const struct ld_fair_worker *worker);

/* May the chosen key's job start here? A suspect (it may have killed a worker) waits for the worker
 * to become empty; nothing overtakes it, so it cannot starve. */
bool ld_fair_may_start(bool suspect, const struct ld_fair_worker *worker);

/* Does the key's next turn (it has had `turns`) belong to its oldest job? */
bool ld_fair_is_oldest_turn(int64_t turns);

/* Virtual time for `cost` at `weight`. */
int64_t ld_fair_charge(int64_t cost, int64_t weight);

/* Where a key goes on whose queue was empty. */
int64_t ld_fair_join(int64_t vtime, int64_t now);

/*
 * How many jobs of `other` start before one with the start time `start`, and their cost. An
 * estimate: it takes the other's jobs to be equally large.
 */
int64_t ld_fair_ahead(const struct ld_fair_key *other, int64_t start, int64_t *cost);

#endif
