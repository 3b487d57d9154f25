/*
 * The quantile of the beta distribution, for the `beta` schedule (Lee et al., arXiv:2407.12173).
 * The result picks one of 1000 table entries, so plain bisection over a continued fraction is
 * exact enough and has no special cases to get wrong.
 */
#include "runtime/sample/schedule_shape.h"

#include <math.h>

/* Modified Lentz evaluation of the continued fraction of I_x(a, b), DLMF 8.17.22; converges within
 * about sqrt(max(a, b)) terms for x < (a + 1) / (a + b + 2). */
static double beta_fraction(double x, double a, double b)
{
    const double tiny = 1e-300;
    double c = 1;
    double d = 1 - (a + b) * x / (a + 1);
    d = 1 / (fabs(d) < tiny ? tiny : d);
    double result = d;
    for (int m = 1; m <= 300; m++) {
        for (int odd = 0; odd < 2; odd++) {
            const double term = odd ? -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
                                    : m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
            d = 1 + term * d;
            d = 1 / (fabs(d) < tiny ? tiny : d);
            c = 1 + term / c;
            c = fabs(c) < tiny ? tiny : c;
            result *= c * d;
        }
        if (fabs(c * d - 1) < 1e-15)
            break;
    }
    return result;
}

/* I_x(a, b), given ln B(a, b), which does not change over a bisection. */
static double beta_cumulative(double x, double a, double b, double log_beta)
{
    if (x <= 0)
        return 0;
    if (x >= 1)
        return 1;
    const double front = exp(a * log(x) + b * log1p(-x) - log_beta);
    if (x < (a + 1) / (a + b + 2))
        return front * beta_fraction(x, a, b) / a;
    return 1 - front * beta_fraction(1 - x, b, a) / b;
}

double ld_beta_quantile(double p, double a, double b)
{
    if (p <= 0)
        return 0;
    if (p >= 1)
        return 1;
    if (a == b && p == 0.5)
        return 0.5; /* then 999 / 2 rounds half to even, as in the reference */
    int sign;       /* lgamma_r, because lgamma writes a global */
    const double log_beta = lgamma_r(a, &sign) + lgamma_r(b, &sign) - lgamma_r(a + b, &sign);
    double low = 0;
    double high = 1;
    for (int i = 0; i < 52; i++) {
        const double middle = 0.5 * (low + high);
        if (beta_cumulative(middle, a, b, log_beta) < p)
            low = middle;
        else
            high = middle;
    }
    return 0.5 * (low + high);
}
