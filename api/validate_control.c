/* The units of `control`: ranges in order, thresholds that their preprocessor reads, and what they
 * need of the rest of the request. */
#include "api/validate.h"

enum { CANNY_LOW = 100, CANNY_HIGH = 200 }; /* the usual ones, runtime/image/hint.h */

#define BIT(kind) (1U << (kind))

/* Preprocessors that read `low`, and those that read `high`. */
static const uint32_t with_low = BIT(LD_HINT_CANNY);
static const uint32_t with_high = BIT(LD_HINT_CANNY) | BIT(LD_HINT_SCRIBBLE) |
                                  BIT(LD_HINT_THRESHOLD) | BIT(LD_HINT_BLUR) | BIT(LD_HINT_TILE);

/* A sentence about member `key` of unit `index`. */
static void refuse(struct ld_problem *problem, enum ld_code code, uint32_t index, const char *key,
                   const char *sentence)
{
    char pointer[48];
    (void)ld_fmt(pointer, sizeof pointer, "/control/%u/%s", index, key);
    (void)ld_problem_add(problem, code, pointer, "control.%s", sentence);
}

static void check_thresholds(const struct ld_request_control *unit, uint32_t index,
                             struct ld_problem *problem)
{
    const uint32_t kind = BIT(unit->preprocess);
    const bool has_low = unit->low >= 0; /* false where it is not given (NAN) */
    const bool has_high = unit->high >= 0;
    if (has_low && !(kind & with_low))
        refuse(problem, LD_E_INVALID, index, "low", "low needs control.preprocess canny");
    if (has_high && !(kind & with_high))
        refuse(problem, LD_E_INVALID, index, "high",
               "high needs control.preprocess canny, threshold, scribble, blur or tile");
    if (!(kind & with_low) || (!has_low && !has_high))
        return;
    const double low = has_low ? unit->low : CANNY_LOW;
    const double high = has_high ? unit->high : CANNY_HIGH;
    if (low > high && has_low)
        refuse(problem, LD_E_RANGE, index, "low",
               "low must be at most control.high (200 if absent)");
    else if (low > high)
        refuse(problem, LD_E_RANGE, index, "high",
               "high must be at least control.low (100 if absent)");
}

static void check_unit(const struct ld_request *request, uint32_t index, struct ld_problem *problem)
{
    const struct ld_request_control *unit = &request->controls[index];
    const struct ld_request_init *init = &request->init;
    const bool masked = init->present && (init->mask[0] || ld_request_has(request, "init.mask"));
    if (!(unit->start < unit->end))
        refuse(problem, LD_E_RANGE, index, "start", "start must be below control.end");
    check_thresholds(unit, index, problem);
    if (!unit->image[0] && !init->present)
        refuse(problem, LD_E_INVALID, index, "image",
               "image is required where there is no init, whose picture would stand in");
    if (unit->preprocess == LD_HINT_INPAINT && !masked)
        refuse(problem, LD_E_INVALID, index, "preprocess",
               "preprocess inpaint needs init with init.mask");
    if (unit->passes == LD_CONTROL_SECOND && !request->hires.present)
        refuse(problem, LD_E_INVALID, index, "passes", "passes second needs hires");
}

void ld_request_check_control(const struct ld_request *request, struct ld_problem *problem)
{
    for (uint32_t i = 0; i < request->control_count; i++)
        check_unit(request, i, problem);
}
