/*
 * What a matrix product that is cut into tiles is predicted to take: the default choice of a tile
 * (matmul_plan.c) and the tuner's short list (tune.c) rank by it. Pure arithmetic; good for ranking
 * tiles of one kernel family, no more.
 */
#ifndef LDK_TILE_MODEL_H
#define LDK_TILE_MODEL_H

#include <stdint.h>

struct ldk_tile_cut {
    int32_t m, n; /* a tile's rows and columns */
    int32_t
        splits; /* parts of K, each of a block of its own and added by a second launch; 1: none */
};

/*
 * Predicted clocks of the multiprocessor that gets most of `tiles` tiles with `k` of K each, out of
 * `sm_count` (below 1: 1). Not measured.
 */
double ldk_tile_clocks(int64_t tiles, int32_t k, struct ldk_tile_cut cut, int32_t sm_count);

#endif
