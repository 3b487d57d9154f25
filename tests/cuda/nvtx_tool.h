/*
 * A profiler that only listens (nvtx_tool.c), built as the shared library that NVTX opens where
 * NVTX_INJECTION64_PATH names it: it writes down every range of the process in the order of the
 * calls. A test opens the same library and finds the record as its symbol `nvtx_tool`.
 */
#ifndef LD_TESTS_CUDA_NVTX_TOOL_H
#define LD_TESTS_CUDA_NVTX_TOOL_H

#include <stdbool.h>
#include <stdint.h>

enum { NVTX_TOOL_EVENTS_MAX = 1 << 14, NVTX_TOOL_NAME_SIZE = 128 };

enum nvtx_tool_kind { NVTX_TOOL_PUSH, NVTX_TOOL_POP, NVTX_TOOL_START, NVTX_TOOL_END };

struct nvtx_tool_event {
    enum nvtx_tool_kind kind;
    uint64_t range;                 /* START, END */
    char name[NVTX_TOOL_NAME_SIZE]; /* PUSH, START */
};

struct nvtx_tool {
    uint32_t attached;                /* how often NVTX has opened it */
    char domain[NVTX_TOOL_NAME_SIZE]; /* of the only one */
    bool strange;                     /* another domain, or a message that is no plain text */
    uint32_t count;
    struct nvtx_tool_event events[NVTX_TOOL_EVENTS_MAX];
    void (*on_push)(const char *name); /* the test's; NULL: none */
};

#endif
