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

/* ceil(W*H/4096) * steps * images, the second pass counted with its own size and steps; a picture
 * that is only enlarged counts as one step of its size. */
int64_t ld_request_work(const struct ld_request *request);

/*
 * Names become canonical in place ("Euler a" -> "euler_ancestral"; "DPM++ 2M Karras" sets the
 * scheduler too where none was given). `names` and `limits` may be NULL.
 * Errors   the code of the first problem.
 */
enum ld_code ld_request_check(struct ld_request *request, const struct ld_api_names *names,
                              const struct ld_request_limits *limits, struct ld_arena *arena,
                              struct ld_warnings *warnings, struct ld_problem *problem) LD_MUST_USE;

/*
 * The same for a request with `upscale`: what has no meaning beside it is refused by name.
 * `warnings` may be NULL. Errors   the code of the first problem.
 */
enum ld_code ld_request_check_upscale(const struct ld_request *request,
                                      const struct ld_request_limits *limits,
                                      struct ld_warnings *warnings,
                                      struct ld_problem *problem) LD_MUST_USE;

/* `output` and `preview.format` alone, which both of the above look at: a format that this build
 * does not write, sides that it cannot say, what has no effect on it. `warnings` may be NULL. */
void ld_request_check_output(const struct ld_request *request, struct ld_warnings *warnings,
                             struct ld_problem *problem);
/* Once a size is known that the request does not say; false after a problem. */
bool ld_request_check_sides(const struct ld_request *request, int64_t width, int64_t height,
                            struct ld_problem *problem);

/* `control` alone, which ld_request_check looks at too. A unit has a picture of its own where its
 * `image` is not "": who has bytes and no id yet gives it a stand-in for the while. */
void ld_request_check_control(const struct ld_request *request, struct ld_problem *problem);

/*
 * Once the size of the picture to enlarge is known: upscale.width and upscale.height become what
 * will be, within LD_UPSCALE_AREA_FACTOR times the caller's area limit (four times each side of the
 * largest picture the caller may paint) and LD_AREA_MAX. `limits` NULL: the ceiling alone.
 * Errors   LD_E_RANGE with its pointer.
 */
enum ld_code ld_request_settle_upscale(struct ld_request *request, int32_t width, int32_t height,
                                       const struct ld_request_limits *limits,
                                       struct ld_problem *problem) LD_MUST_USE;

#endif
