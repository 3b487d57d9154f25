/*
 * What the files of the ComfyUI dialect share.
 */
#ifndef LD_SERVER_HANDLE_COMFY_H
#define LD_SERVER_HANDLE_COMFY_H

#include "api/dialect_comfy.h"
#include "server/dialect_call.h"

/* The lists that nodes choose from, in ex->arena. False without memory. */
bool ld_comfy_lists(struct ld_exchange *ex, struct ld_comfy_lists *lists);

#endif
