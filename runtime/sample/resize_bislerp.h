/* The bislerp mode of resize.h: interpolation of channel vectors on the sphere. */
#ifndef LD_SAMPLE_RESIZE_BISLERP_H
#define LD_SAMPLE_RESIZE_BISLERP_H

#include "runtime/sample/resize.h"

#ifdef __cplusplus
extern "C" {
#endif

/* `op` is checked by the caller. Errors LD_E_NOMEM. */
enum ld_code ld_resample_bislerp(const struct ld_resample *op, struct ld_error *err) LD_MUST_USE;

#ifdef __cplusplus
}
#endif
#endif
