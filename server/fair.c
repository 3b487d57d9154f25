#include "server/fair.h"

int32_t ld_fair_choose(const struct ld_fair_job *jobs, uint32_t count,
                       const struct ld_fair_worker *worker)
{
    if (count == 0 || worker->running >= worker->running_max || worker->running_suspect)
        return LD_FAIR_NONE;
    if (jobs[0].suspect && worker->running > 0)
        return LD_FAIR_NONE;
    return 0;
}
