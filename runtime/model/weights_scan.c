/* Passes over the values of weights: decoding with scale, and the search for what is not finite. */
#include "runtime/model/weights.h"

#include <string.h>

void ld_weight_view_decode_part(const struct ld_weight_view *view, size_t first, size_t count,
                                float *dst)
{
    const uint8_t *src = view->data;
    ld_dtype_to_f32(dst, src + first * ld_dtype_size(view->dtype), view->dtype, count);
    if (view->scale != 1.0f) {
        for (size_t i = 0; i < count; i++)
            dst[i] *= view->scale;
    }
}

void ld_weight_view_decode(const struct ld_weight_view *view, float *dst)
{
    ld_weight_view_decode_part(view, 0, view->count, dst);
}

/* Elements whose exponent bits are all ones; for E4M3 only the one NaN code has that meaning. */
#define COUNT_LOOP(type, mask)                                                                     \
    for (size_t i = 0; i < count; i++) {                                                           \
        type code;                                                                                 \
        memcpy(&code, bytes + i * sizeof code, sizeof code);                                       \
        bad += (code & (mask)) == (mask);                                                          \
    }                                                                                              \
    return bad

static uint64_t count_nonfinite(const uint8_t *bytes, enum ld_dtype dtype, size_t count)
{
    uint64_t bad = 0;
    if (dtype == LD_DTYPE_F32) {
        COUNT_LOOP(uint32_t, 0x7F800000u);
    }
    if (dtype == LD_DTYPE_F16) {
        COUNT_LOOP(uint16_t, 0x7C00u);
    }
    if (dtype == LD_DTYPE_BF16) {
        COUNT_LOOP(uint16_t, 0x7F80u);
    }
    if (dtype == LD_DTYPE_F64) {
        COUNT_LOOP(uint64_t, 0x7FF0000000000000u);
    }
    if (dtype == LD_DTYPE_F8_E4M3) {
        COUNT_LOOP(uint8_t, 0x7Fu);
    }
    if (dtype == LD_DTYPE_F8_E5M2) {
        COUNT_LOOP(uint8_t, 0x7Cu);
    }
    return bad;
}

uint64_t ld_weights_count_nonfinite(const struct ld_weights *weights, const char **first)
{
    uint64_t total = 0;
    *first = NULL;
    for (uint32_t i = 0; i < ld_weights_count(weights); i++) {
        struct ld_weight_view view;
        ld_weights_at(weights, i, &view);
        const uint64_t bad = count_nonfinite(view.data, view.dtype, view.count);
        if (bad > 0 && total == 0)
            *first = view.name;
        total += bad;
        ld_weights_drop_pages(weights, &view);
    }
    return total;
}
