/*
 * Element types and their exact conversions. Weights come in many types; the CPU backend computes
 * in float32, the CUDA backend in float16 with float32 accumulation.
 */
#ifndef LD_KERNELS_TENSOR_H
#define LD_KERNELS_TENSOR_H

#include "runtime/base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum ld_dtype {
    LD_DTYPE_F32,
    LD_DTYPE_F16,
    LD_DTYPE_BF16,
    LD_DTYPE_F64,
    LD_DTYPE_F8_E4M3, /* "FN": bias 7, no infinities, 0x7F and 0xFF are NaN */
    LD_DTYPE_F8_E5M2, /* bias 15, IEEE-like */
    LD_DTYPE_I64,
    LD_DTYPE_I32,
    LD_DTYPE_I16,
    LD_DTYPE_I8,
    LD_DTYPE_U8,
    LD_DTYPE_BOOL,
    LD_DTYPE_U16,
    LD_DTYPE_U32,
    LD_DTYPE_U64,
    LD_DTYPE_OTHER, /* a name safetensors knows and latentd refuses as a weight */
    LD_DTYPE_COUNT
};

/* Bytes per element; 0 for LD_DTYPE_OTHER (sub-byte types have no whole number). */
size_t ld_dtype_size(enum ld_dtype dtype);
const char *ld_dtype_name(enum ld_dtype dtype); /* as safetensors spells it */

/* True for the types a weight may have: F64 F32 F16 BF16 F8_E4M3 F8_E5M2. */
bool ld_dtype_is_float(enum ld_dtype dtype);

/*
 * Decode `count` elements exactly (F64 rounds to nearest even). `src` may be unaligned.
 * Integer types convert by value. LD_DTYPE_OTHER is a caller's mistake (asserts).
 */
void ld_dtype_to_f32(float *dst, const void *src, enum ld_dtype dtype, size_t count);

/* Encode, rounding to nearest even; overflow goes to infinity (E4M3: saturates to 448). Float
 * types only. `dst` may be unaligned. */
void ld_dtype_from_f32(void *dst, const float *src, enum ld_dtype dtype, size_t count);

float ld_f16_to_f32(uint16_t bits);
uint16_t ld_f16_from_f32(float value);
float ld_bf16_to_f32(uint16_t bits);
uint16_t ld_bf16_from_f32(float value);

#ifdef __cplusplus
}
#endif
#endif
