/*
 * Checks that need more than one field, or more than the table: names and their aliases, sizes and
 * work against the caller's limits, ranges whose ends must be in order. Every violation is added to
 * the problem with its JSON pointer; nothing stops at the first.
 */
#ifndef LD_API_VALIDATE_H
#define LD_API_VALIDATE_H

#include "api/names.h"
#include "api/problem.h"
#include "api/resolve.h"

/* Of the caller; all at most the ceilings of config/limits.h. */
struct ld_request_limits {
    int64_t area_max; /* pixels of one picture, the second pass's included */
    int64_t work_max; /* units, see ld_request_work */
    int32_t images_max;
    int32_t steps_max;
    int32_t priority_max; /* 5 without the right to more */
};

/* The ceilings' defaults. */
struct ld_request_limits ld_request_limits_default(void);

/* ceil(W*H/4096) * steps * images, the second pass counted with its own size and steps. */
int64_t ld_request_work(const struct ld_request *request);

/*
 * Names become canonical in place ("Euler a" -> "euler_ancestral"; "DPM++ 2M Karras" sets the
 * scheduler too where none was given). `names` and `limits` may be NULL.
 * Errors   the code of the first problem.
 */
enum ld_code ld_request_check(struct ld_request *request, const struct ld_api_names *names,
                              const struct ld_request_limits *limits, struct ld_arena *arena,
                              struct ld_warnings *warnings, struct ld_problem *problem) LD_MUST_USE;

#endif
