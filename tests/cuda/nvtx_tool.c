/* The library of nvtx_tool.h. For one thread, as the tests are. */
#include "tests/cuda/nvtx_tool.h"

#include <nvtx3/nvToolsExt.h>
#include <stdio.h>
#include <stdlib.h>

#define EXPORTED __attribute__((visibility("default")))

EXPORTED struct nvtx_tool nvtx_tool;

static int the_domain;

static struct nvtx_tool_event *note(enum nvtx_tool_kind kind)
{
    if (nvtx_tool.count == NVTX_TOOL_EVENTS_MAX)
        abort();
    struct nvtx_tool_event *event = &nvtx_tool.events[nvtx_tool.count++];
    *event = (struct nvtx_tool_event){.kind = kind};
    return event;
}

static void name_it(struct nvtx_tool_event *event, nvtxDomainHandle_t domain,
                    const nvtxEventAttributes_t *given)
{
    const bool plain = given->messageType == NVTX_MESSAGE_TYPE_ASCII &&
                       given->version == NVTX_VERSION &&
                       given->size == NVTX_EVENT_ATTRIB_STRUCT_SIZE;
    nvtx_tool.strange = nvtx_tool.strange || !plain || (void *)domain != &the_domain;
    if (plain)
        (void)snprintf(event->name, sizeof event->name, "%s", given->message.ascii);
}

static nvtxDomainHandle_t NVTX_API domain_create(const char *name)
{
    nvtx_tool.strange = nvtx_tool.strange || nvtx_tool.domain[0] != '\0';
    (void)snprintf(nvtx_tool.domain, sizeof nvtx_tool.domain, "%s", name);
    return (nvtxDomainHandle_t)(void *)&the_domain;
}

static int NVTX_API range_push(nvtxDomainHandle_t domain, const nvtxEventAttributes_t *given)
{
    struct nvtx_tool_event *event = note(NVTX_TOOL_PUSH);
    name_it(event, domain, given);
    if (nvtx_tool.on_push)
        nvtx_tool.on_push(event->name);
    return 0;
}

static int NVTX_API range_pop(nvtxDomainHandle_t domain)
{
    (void)domain;
    (void)note(NVTX_TOOL_POP);
    return 0;
}

static nvtxRangeId_t NVTX_API range_start(nvtxDomainHandle_t domain,
                                          const nvtxEventAttributes_t *given)
{
    struct nvtx_tool_event *event = note(NVTX_TOOL_START);
    name_it(event, domain, given);
    return event->range = nvtx_tool.count;
}

static void NVTX_API range_end(nvtxDomainHandle_t domain, nvtxRangeId_t range)
{
    (void)domain;
    note(NVTX_TOOL_END)->range = range;
}

EXPORTED int NVTX_API InitializeInjectionNvtx2(NvtxGetExportTableFunc_t export_table);

int NVTX_API InitializeInjectionNvtx2(NvtxGetExportTableFunc_t export_table)
{
    const NvtxExportTableCallbacks *callbacks = export_table(NVTX_ETID_CALLBACKS);
    NvtxFunctionTable table = NULL;
    unsigned int size = 0;
    if (!callbacks || !callbacks->GetModuleFunctionTable(NVTX_CB_MODULE_CORE2, &table, &size) ||
        size <= NVTX_CBID_CORE2_DomainCreateA)
        return 0;
    *table[NVTX_CBID_CORE2_DomainCreateA] = (NvtxFunctionPointer)(void (*)(void))domain_create;
    *table[NVTX_CBID_CORE2_DomainRangePushEx] = (NvtxFunctionPointer)(void (*)(void))range_push;
    *table[NVTX_CBID_CORE2_DomainRangePop] = (NvtxFunctionPointer)(void (*)(void))range_pop;
    *table[NVTX_CBID_CORE2_DomainRangeStartEx] = (NvtxFunctionPointer)(void (*)(void))range_start;
    *table[NVTX_CBID_CORE2_DomainRangeEnd] = (NvtxFunctionPointer)(void (*)(void))range_end;
    nvtx_tool.attached++;
    return 1;
}
