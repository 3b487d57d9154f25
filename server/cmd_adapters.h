/*
 * The adapters of a folder as recipes want them, for `latentd generate`, which resolves a request
 * before it loads a model. Nothing is hashed.
 */
#ifndef LD_SERVER_CMD_ADAPTERS_H
#define LD_SERVER_CMD_ADAPTERS_H

#include "api/hyper.h"
#include "runtime/model/registry.h"

/* Caller's storage; zeroed is empty. */
struct ld_local_adapters {
    struct ld_registry *registry;
    char recipe[8 * 1024 + 1]; /* of the adapter asked for last */
    struct ld_adapter_list list;
};

/* `folder` "": none. Owner   fills `adapters`; ld_local_adapters_close. Errors as
 * ld_registry_open. */
enum ld_code ld_local_adapters_open(struct ld_local_adapters *adapters, const char *folder,
                                    struct ld_error *err) LD_MUST_USE;
void ld_local_adapters_close(struct ld_local_adapters *adapters);

#endif
