#include "runtime/model/unet_sag.h"

#include "runtime/base/arena.h"

#include <math.h>

/* Products of query `i` with all keys of one head, times the softmax scale. */
static void score_row(const float *q, const float *k, int32_t head_dim, size_t positions, size_t i,
                      double *row)
{
    const double scale = 1.0 / sqrt((double)head_dim);
    for (size_t j = 0; j < positions; j++)
        row[j] = 0;
    for (int32_t d = 0; d < head_dim; d++) {
        const double value = scale * (double)q[(size_t)d * positions + i];
        const float *line = k + (size_t)d * positions;
        for (size_t j = 0; j < positions; j++)
            row[j] += value * (double)line[j];
    }
}

static void add_softmax(const double *row, size_t positions, double *sums, double *weights)
{
    double most = row[0];
    double total = 0;
    for (size_t j = 1; j < positions; j++)
        most = row[j] > most ? row[j] : most;
    for (size_t j = 0; j < positions; j++) {
        weights[j] = exp(row[j] - most);
        total += weights[j];
    }
    for (size_t j = 0; j < positions; j++)
        sums[j] += weights[j] / total;
}

enum ld_code ld_sag_scores(const float *qkv, int32_t channels, int32_t heads, int32_t positions,
                           float *scores, struct ld_error *err)
{
    if (heads < 1 || channels < 1 || channels % heads != 0 || positions < 1)
        return LD_FAIL(err, LD_E_SHAPE, "the attention map has no valid shape");
    const size_t n = (size_t)positions;
    const int32_t head_dim = channels / heads;
    double *row = ld_heap_calloc(3 * n, sizeof *row);
    if (!row)
        return LD_FAIL(err, LD_E_NOMEM, "not enough memory for the attention map");
    double *weights = row + n;
    double *sums = weights + n;
    for (int32_t h = 0; h < heads; h++) {
        const float *q = qkv + (size_t)h * (size_t)head_dim * n;
        const float *k = q + (size_t)channels * n;
        for (size_t i = 0; i < n; i++) {
            score_row(q, k, head_dim, n, i, row);
            add_softmax(row, n, sums, weights);
        }
    }
    for (size_t j = 0; j < n; j++)
        scores[j] = (float)(sums[j] / heads);
    ld_heap_free(row);
    return LD_OK;
}
