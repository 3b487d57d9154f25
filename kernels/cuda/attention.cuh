/*
 * What the attention files share: the checked form of a call and who may run it. Private to
 * attention*.cu.
 */
#ifndef LDK_ATTENTION_CUH
#define LDK_ATTENTION_CUH

#include "kernels/cuda/launch.h"
#include "kernels/idx.h"

static constexpr float LDK_LOG2_E = 1.44269504088896341f; /* softmax runs in powers of two */
static constexpr unsigned LDK_ALL_LANES = 0xffffffffu;

/* attention_f16.cu: the mma kernels with fp16 scores. `variant` is one of theirs. */
int ldk_attention_f16_scores(const struct ldk_attention *a, int variant, ldk_stream stream);
/* attention_plain.cu: any width up to 1024, any element offset. */
int ldk_attention_plain(const struct ldk_attention *a, ldk_stream stream);
struct ldk_variant ldk_attention_plain_variant(int head_dim); /* without its number */
/* attention_wide.cu: widths that are multiples of 128, through workspace. */
bool ldk_attention_wide_fits(const struct ldk_attention *a);
size_t ldk_attention_wide_workspace(const struct ldk_attention *a);
int ldk_attention_wide(const struct ldk_attention *a, ldk_stream stream);
struct ldk_variant ldk_attention_wide_variant(); /* without its number */

/* Rows of q, k, v and o start at multiples of 16 bytes, as cp.async and 16-byte accesses want. */
static inline bool ldk_attention_aligned(const struct ldk_attention *a)
{
    const uintptr_t bases = reinterpret_cast<uintptr_t>(a->q) | reinterpret_cast<uintptr_t>(a->k) |
                            reinterpret_cast<uintptr_t>(a->v) | reinterpret_cast<uintptr_t>(a->o);
    const int strides = a->q_stride | a->k_stride | a->v_stride | a->o_stride;
    return bases % 16 == 0 && strides % 8 == 0 && a->head_dim % 8 == 0;
}

/* Keys of image b that take part; device memory is not trusted beyond kv_rows. */
static __device__ __forceinline__ int attention_keys(const struct ldk_attention &a, int b)
{
    if (a.kv_len == nullptr)
        return a.kv_rows;
    const int keys = a.kv_len[b];
    return keys < 0 ? 0 : ld_idx_min(keys, a.kv_rows);
}

#endif
