#include "tests/tools/network_values.h"

#include "tests/tools/genweights.h"

#include <math.h>

void network_fill(float *values, size_t count, uint64_t seed)
{
    for (size_t i = 0; i < count; i++) {
        double sum = 0;
        for (uint64_t k = 0; k < 3; k++)
            sum += ld_genweights_uniform(seed * 0x9E3779B9U, 3 * i + k);
        values[i] = (float)sum; /* three uniforms: variance one */
    }
}

double network_distance(const float *a, const float *b, size_t count)
{
    double difference = 0;
    double size = 0;
    for (size_t i = 0; i < count; i++) {
        difference += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
        size += (double)b[i] * (double)b[i];
    }
    return sqrt(difference / size);
}
