/*
 * From what was asked to what will run: the model's defaults under the given fields, presets placed
 * in the prompts, hidden defaults made explicit, random seeds drawn. Afterwards the request says
 * everything that is needed to run it again, and resolving it once more changes nothing.
 */
#ifndef LD_API_RESOLVE_H
#define LD_API_RESOLVE_H

#include "api/problem.h"
#include "config/limits.h"
#include "config/manifest.h"
#include "runtime/params.h"

struct ld_warnings {
    struct ld_arena *arena;
    const char *items[LD_WARNINGS_MAX];
    uint32_t count;
};

/* Silently full after LD_WARNINGS_MAX. */
void ld_warnings_add(struct ld_warnings *warnings, const char *format, ...) LD_PRINTF(2, 3);
/* JSON array of strings. */
void ld_warnings_write(const struct ld_warnings *warnings, struct ld_buffer *out);

/* Fills bytes; false if the system has none. */
struct ld_random {
    void *ctx;
    bool (*fill)(void *ctx, void *out, size_t size);
};

/*
 * `manifest` may be NULL (no model defaults). What cannot be placed (an unknown preset, a default
 * of the manifest that the table refuses) is added to `problem`. Owner    texts are made in
 * `arena`. Errors   the code of the first problem, LD_E_NOMEM, LD_E_IO (no random bytes).
 */
enum ld_code ld_request_resolve(struct ld_request *request, const struct ld_manifest *manifest,
                                const struct ld_random *random, struct ld_arena *arena,
                                struct ld_warnings *warnings,
                                struct ld_problem *problem) LD_MUST_USE;

#endif
