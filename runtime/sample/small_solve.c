#include "runtime/sample/small_solve.h"

#include <math.h>

static void swap_rows(double a[LD_SOLVE_MAX][LD_SOLVE_MAX], double b[LD_SOLVE_MAX], uint32_t n,
                      uint32_t i, uint32_t j)
{
    for (uint32_t k = 0; k < n; k++) {
        const double kept = a[i][k];
        a[i][k] = a[j][k];
        a[j][k] = kept;
    }
    const double kept = b[i];
    b[i] = b[j];
    b[j] = kept;
}

void ld_solve(double a[LD_SOLVE_MAX][LD_SOLVE_MAX], double b[LD_SOLVE_MAX], uint32_t n)
{
    for (uint32_t column = 0; column < n; column++) {
        uint32_t pivot = column;
        for (uint32_t i = column + 1; i < n; i++)
            if (fabs(a[i][column]) > fabs(a[pivot][column]))
                pivot = i;
        swap_rows(a, b, n, column, pivot);
        for (uint32_t i = column + 1; i < n; i++) {
            const double factor = a[i][column] / a[column][column];
            for (uint32_t k = column; k < n; k++)
                a[i][k] -= factor * a[column][k];
            b[i] -= factor * b[column];
        }
    }
    for (uint32_t row = n; row-- > 0;) {
        for (uint32_t k = row + 1; k < n; k++)
            b[row] -= a[row][k] * b[k];
        b[row] /= a[row][row];
    }
}
