/* Attention of the fast levels: softmax over blocks of keys with a running maximum, so that no
 * matrix of scores is ever held. */
#ifndef LD_KERNELS_CPU_ATTENTION_H
#define LD_KERNELS_CPU_ATTENTION_H

#include "kernels/cpu/micro.h"

void ld_tiled_attention(struct ld_cpu_backend *cpu, const struct ld_micro *micro,
                        const struct ld_attention *op);

#endif
