#include "server/fair.h"

/* Virtual time of one unit of cost at weight 1; large enough that weights divide it well. */
static const int64_t scale = 1000;

bool ld_fair_has_room(const struct ld_fair_worker *worker)
{
    return worker->running < worker->running_max && !worker->running_suspect;
}

static bool may_have_more(const struct ld_fair_key *key, const struct ld_fair_worker *worker)
{
    if (key->running >= key->running_max)
        return false;
    return worker->places < 2 || key->running < (int64_t)worker->places - 1;
}

int32_t ld_fair_choose(const struct ld_fair_key *keys, uint32_t count,
                       const struct ld_fair_worker *worker)
{
    int32_t best = LD_FAIR_NONE;
    if (!ld_fair_has_room(worker))
        return LD_FAIR_NONE;
    for (uint32_t i = 0; i < count; i++) {
        if (may_have_more(&keys[i], worker) &&
            (best == LD_FAIR_NONE || keys[i].vtime < keys[best].vtime))
            best = (int32_t)i;
    }
    return best;
}

bool ld_fair_may_start(bool suspect, const struct ld_fair_worker *worker)
{
    return !suspect || worker->running == 0;
}

bool ld_fair_is_oldest_turn(int64_t turns)
{
    return turns % LD_FAIR_OLDEST_TURN == LD_FAIR_OLDEST_TURN - 1;
}

int64_t ld_fair_charge(int64_t cost, int64_t weight)
{
    return cost * scale / (weight > 0 ? weight : 1);
}

int64_t ld_fair_join(int64_t vtime, int64_t now)
{
    return vtime > now ? vtime : now;
}

int64_t ld_fair_ahead(const struct ld_fair_key *other, int64_t start, int64_t *cost)
{
    *cost = 0;
    if (other->queued <= 0 || other->vtime >= start)
        return 0;
    const int64_t mean = other->queued_cost / other->queued;
    const int64_t each = ld_fair_charge(mean, other->weight);
    /* Its k-th job starts at vtime + k * each. */
    int64_t jobs = each > 0 ? (start - other->vtime - 1) / each + 1 : other->queued;
    if (jobs > other->queued)
        jobs = other->queued;
    *cost = jobs * mean;
    return jobs;
}
