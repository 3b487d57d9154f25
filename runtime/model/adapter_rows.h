/*
 * One weight changed by one module of an adapter: W' from W, rows in parallel. What a row becomes
 * never depends on the number of threads.
 */
#ifndef LD_MODEL_ADAPTER_ROWS_H
#define LD_MODEL_ADAPTER_ROWS_H

#include "runtime/base/thread.h"
#include "runtime/model/adapter_delta.h"

struct ld_rows_options {
    double strength;
    enum ld_dora_norm dora_norm;
    struct ld_pool *pool; /* NULL: the calling thread alone */
};

/*
 * Shapes   values: W as it stands, all of [out, in * kernel] in float32, changed in place. With
 *          `from` W is read there instead, row by row, and `values` need not hold anything yet.
 * Delta    planned (ld_delta_plan), of a kind that changes the weight; its factors are decoded and
 *          let go of here.
 * Errors   LD_E_NOMEM; `values` may be half changed.
 */
enum ld_code ld_adapter_rows_change(struct ld_delta *delta, const struct ld_rows_options *options,
                                    const struct ld_weight_view *from, float *values,
                                    struct ld_error *err) LD_MUST_USE;

/* True if the module has a DoRA magnitude that fits neither outputs nor inputs. */
bool ld_adapter_rows_contradict(const struct ld_delta *delta) LD_MUST_USE;

#endif
