/*
 * The instances of flash attention with fp16 scores (attention_scores.cuh): the widths and blocks
 * of attention.cu, fp16 alone, not causal.
 */
#include "kernels/cuda/attention_kernel.cuh"

struct launch_f16_scores {
    template <class S> static int with(const struct ldk_attention *a, ldk_stream stream)
    {
        return attention_launch<f16_scores<S>, half, false>(a, stream);
    }
};

int ldk_attention_f16_scores(const struct ldk_attention *a, int variant, ldk_stream stream)
{
    return with_instance<launch_f16_scores>(a->head_dim, variant, a, stream);
}
