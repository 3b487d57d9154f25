/*
 * Who makes a call, as handlers see it: ex->caller. Filled by auth.c before the body is read.
 */
#ifndef LD_SERVER_CALLER_H
#define LD_SERVER_CALLER_H

#include "server/key.h"

#define LD_CALLER_ANONYMOUS "anonymous" /* longer than a key's id: never one */

enum { LD_CALLER_TENANT_SIZE = 16 };

struct ld_caller {
    char tenant[LD_CALLER_TENANT_SIZE]; /* what jobs, uploads and events are filed under: the key's
                                           id, or LD_CALLER_ANONYMOUS */
    char name[LD_KEY_NAME_SIZE];        /* for people */
    bool anonymous;
    bool counted;                /* among the calls in flight, under `meter` */
    char meter[72];              /* what its calls are counted under; "": not counted */
    uint32_t scopes;             /* bits 1 << enum ld_scope */
    struct ld_key_limits limits; /* that hold: nothing is unset */
};

static inline bool ld_caller_may(const struct ld_caller *caller, enum ld_scope scope)
{
    return scope == LD_SCOPE_OPEN || (caller->scopes & (1U << scope)) != 0;
}

#endif
