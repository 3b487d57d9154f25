/*
 * NVTX behind kernels/range.h. Its header is all there is of it: no library is linked, and it opens
 * the profiler's at the first call. A domain is refused where no profiler has come; that is asked
 * once, and nothing of NVTX is called any more if the answer was no.
 *
 * Source   NVTX 3, nvtx3/nvToolsExt.h.
 */
#include "kernels/cuda/ranges.h"

#ifdef LDK_NVTX

#include <nvtx3/nvToolsExt.h>
#include <pthread.h>

static nvtxDomainHandle_t domain;

static nvtxEventAttributes_t named(const char *name)
{
    return (nvtxEventAttributes_t){.version = NVTX_VERSION,
                                   .size = NVTX_EVENT_ATTRIB_STRUCT_SIZE,
                                   .messageType = NVTX_MESSAGE_TYPE_ASCII,
                                   .message.ascii = name};
}

static void push(const char *name)
{
    const nvtxEventAttributes_t event = named(name);
    (void)nvtxDomainRangePushEx(domain, &event);
}

static void pop(void)
{
    (void)nvtxDomainRangePop(domain);
}

static uint64_t start(const char *name)
{
    const nvtxEventAttributes_t event = named(name);
    return nvtxDomainRangeStartEx(domain, &event);
}

static void end(uint64_t range)
{
    nvtxDomainRangeEnd(domain, range);
}

static void look(void)
{
    domain = nvtxDomainCreateA("latentd");
}

const struct ld_ranges *ldk_ranges(void)
{
    static const struct ld_ranges ranges = {push, pop, start, end};
    static pthread_once_t looked = PTHREAD_ONCE_INIT;
    (void)pthread_once(&looked, look);
    return domain ? &ranges : NULL;
}

#else

const struct ld_ranges *ldk_ranges(void)
{
    return NULL;
}

#endif
