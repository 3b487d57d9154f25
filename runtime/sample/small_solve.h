/*
 * Linear systems of at most four unknowns: the coefficients of the multistep solvers.
 */
#ifndef LD_SAMPLE_SMALL_SOLVE_H
#define LD_SAMPLE_SMALL_SOLVE_H

#include <stdint.h>

enum { LD_SOLVE_MAX = 4 };

/*
 * Solve a x = b for the leading n by n part, Gaussian elimination with partial pivoting. `a` and
 * `b` are used up; the solution is left in b. A singular system leaves infinities or NaNs, which
 * distinct nodes cannot give.
 */
void ld_solve(double a[LD_SOLVE_MAX][LD_SOLVE_MAX], double b[LD_SOLVE_MAX], uint32_t n);

#endif
