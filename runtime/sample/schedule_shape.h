/*
 * The formulas of sampling.md section 2, one function each: n steps become a list of sigmas, before
 * any cut. Internal to the schedule files; schedule.h is the way in.
 */
#ifndef LD_SAMPLE_SCHEDULE_SHAPE_H
#define LD_SAMPLE_SCHEDULE_SHAPE_H

#include "runtime/sample/schedule.h"

/* What a formula reads; every option is set, none is NAN where the formula needs it. */
struct ld_shape {
    const struct ld_sigma_table *table;
    uint32_t n; /* >= 1 */
    double sigma_min, sigma_max;
    double rho, coefficient, alpha, beta, mu, b; /* NAN: the formula's own default */
    double denoise;                              /* `turbo` alone */
};

/* Room for at least max(n, 1000) + 2 values, so that no formula needs to check. */
struct ld_shape_list {
    double *values;
    uint32_t count;
};

typedef enum ld_code (*ld_shape_fn)(const struct ld_shape *shape, struct ld_shape_list *list,
                                    struct ld_error *err);

enum ld_code ld_shape_simple(const struct ld_shape *, struct ld_shape_list *, struct ld_error *);
enum ld_code ld_shape_normal(const struct ld_shape *, struct ld_shape_list *, struct ld_error *);
enum ld_code ld_shape_sgm_uniform(const struct ld_shape *, struct ld_shape_list *,
                                  struct ld_error *);
enum ld_code ld_shape_ddim_uniform(const struct ld_shape *, struct ld_shape_list *,
                                   struct ld_error *);
enum ld_code ld_shape_karras(const struct ld_shape *, struct ld_shape_list *, struct ld_error *);
enum ld_code ld_shape_exponential(const struct ld_shape *, struct ld_shape_list *,
                                  struct ld_error *);
enum ld_code ld_shape_polyexponential(const struct ld_shape *, struct ld_shape_list *,
                                      struct ld_error *);
enum ld_code ld_shape_beta(const struct ld_shape *, struct ld_shape_list *, struct ld_error *);
enum ld_code ld_shape_linear_quadratic(const struct ld_shape *, struct ld_shape_list *,
                                       struct ld_error *);
enum ld_code ld_shape_kl_optimal(const struct ld_shape *, struct ld_shape_list *,
                                 struct ld_error *);
enum ld_code ld_shape_laplace(const struct ld_shape *, struct ld_shape_list *, struct ld_error *);
enum ld_code ld_shape_vp(const struct ld_shape *, struct ld_shape_list *, struct ld_error *);
enum ld_code ld_shape_ays(const struct ld_shape *, struct ld_shape_list *, struct ld_error *);
enum ld_code ld_shape_gits(const struct ld_shape *, struct ld_shape_list *, struct ld_error *);
enum ld_code ld_shape_turbo(const struct ld_shape *, struct ld_shape_list *, struct ld_error *);

/* One row of the registry (schedule_table.c). Exactly one of `shape` and the spacing is meant:
 * rows with LD_SCHEDULER_SPACING have a `spacing`, "automatic" has neither. */
struct ld_scheduler_row {
    struct ld_scheduler_info info;
    ld_shape_fn shape;
    enum ld_spacing spacing;
};

const struct ld_scheduler_row *ld_scheduler_row_of(const struct ld_scheduler_info *info);

/*
 * Inverse of the regularised incomplete beta function: the x in [0,1] with I_x(a, b) = p, to 1e-12;
 * exactly 1/2 for a = b, p = 1/2. a, b in 0.01..100, p in [0,1].
 */
double ld_beta_quantile(double p, double a, double b);

#endif
