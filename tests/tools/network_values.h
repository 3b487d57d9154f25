/* What tests of whole networks put in and how they measure what comes out. */
#ifndef LD_TESTS_NETWORK_VALUES_H
#define LD_TESTS_NETWORK_VALUES_H

#include <stddef.h>
#include <stdint.h>

/* Reproducible values, roughly normal, from a seed. */
void network_fill(float *values, size_t count, uint64_t seed);

/* |a - b| / |b| in the Euclidean norm. */
double network_distance(const float *a, const float *b, size_t count);

#endif
