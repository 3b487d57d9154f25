/*
 * One new model file at a time, made beside the server: `latentd merge` or `latentd convert` as a
 * child process of low priority, watched by a thread of its own. The child writes under a hidden
 * name and renames, so the folder never shows half a model; when it has ended well, the workers are
 * told to take the file up. The last build is remembered until the next one begins.
 *
 *     ld_build_start(front->build, &order, &err);      202
 *     ld_build_write(front->build, "mine", &body);     {"name": "mine", "status": "running", ...}
 */
#ifndef LD_SERVER_BUILD_H
#define LD_SERVER_BUILD_H

#include "runtime/base/buffer.h"
#include "server/supervisor.h"

struct ld_build;

enum ld_code ld_build_create(struct ld_build **build, struct ld_error *err) LD_MUST_USE;
/* Ends the child, at once if it does not listen, and waits for it. Before the supervisor stops. */
void ld_build_destroy(struct ld_build *build);

/* Texts are copied. */
struct ld_build_order {
    struct ld_supervisor *supervisor;
    const char *name;   /* of the new model */
    const char *folder; /* where it will lie as NAME.safetensors; absolute */
    char *const *argv;  /* of this very program, NULL-terminated */
};

/* Errors   LD_E_CONFLICT (another one runs), LD_E_NOMEM. */
enum ld_code ld_build_start(struct ld_build *build, const struct ld_build_order *order,
                            struct ld_error *err) LD_MUST_USE;

/* Ask a running one to end; it leaves nothing behind. `*running` is false where it has ended
 * already. Errors   LD_E_NOT_FOUND (the last build was not of this name). */
enum ld_code ld_build_cancel(struct ld_build *build, const char *name, bool *running,
                             struct ld_error *err) LD_MUST_USE;

/*
 * {"name", "status": "running" | "done" | "failed" | "cancelled", "started_at", "finished_at",
 * "report", "bytes", "error"}. False if the last build was not of this name.
 */
bool ld_build_write(struct ld_build *build, const char *name, struct ld_buffer *out);

#endif
