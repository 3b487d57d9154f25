/*
 * Packing of weight matrices for the CUDA kernels: checkpoint order in, the layout of
 * `struct ldk_weight` out, in any range of packed rows, so that a large weight can pass through a
 * small staging buffer and several threads can share one. Pure functions of host memory: no device,
 * no allocation.
 *
 * The packed form is a permutation of the checkpoint's elements (rounded to the packed type) plus
 * zeros; ldk_unpack_row inverts it exactly. The phase form is derived and has no inverse.
 *
 *     struct ldk_pack pack;
 *     ldk_pack_plan(&pack, &desc, LDK_F16, false);
 *     ldk_pack_rows(&pack, &desc, 0, pack.rows_padded, line, staging);   // line: pack.line floats
 *     ldk_pack_bias(&pack, &desc, bias);
 *     struct ldk_weight w = ldk_pack_weight(&pack, device_data, NULL, device_bias);
 *
 * Source   kernels.md sections 2, 5.5, 6.
 */
#ifndef LDK_PACK_H
#define LDK_PACK_H

#include "kernels/cuda/kernels.h"
#include "kernels/ops.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Rows and K are padded to this many elements: a 16-byte vector, one n8 block of the MMA. */
enum { LDK_PACK_UNIT = 8, LDK_PACK_PHASES = 4, LDK_PACK_PHASE_TAPS = 4 };

/* Of every piece on the device, in bytes. */
enum { LDK_PACK_ALIGN = 256 };

struct ldk_pack {
    int32_t rows, rows_padded; /* all parts together */
    int32_t k, k_padded;
    int32_t taps; /* 1 or 9 */
    bool geglu;
    enum ldk_dtype dtype;
    size_t row_bytes;       /* of one packed row */
    size_t data_bytes;      /* rows_padded * row_bytes */
    size_t phase_row_bytes; /* of one packed row of one phase; 0: no phase form */
    size_t phase_bytes;     /* 4 * rows_padded * phase_row_bytes */
    size_t bias_bytes;      /* rows_padded floats */
    size_t line;            /* floats of scratch that the packing calls need */
};

/*
 * Sizes of the packed form of a LINEAR, GEGLU or CONV weight. `phase` asks for the upsampling form
 * as well and is for kernels of 3 only. A description of another kind, or with sides below 1, is a
 * caller's mistake (asserts).
 */
void ldk_pack_plan(struct ldk_pack *pack, const struct ld_weight_desc *desc, enum ldk_dtype dtype,
                   bool phase);

/* Where the pieces of a packed matrix lie behind its data, each at a multiple of LDK_PACK_ALIGN,
 * and the bytes of the whole. The bias stands twice: in float32, and in the weight's own type for
 * libraries. */
struct ldk_pack_places {
    size_t phase, bias, bias16, bytes;
};
struct ldk_pack_places ldk_pack_places_of(const struct ldk_pack *pack);

/* Bytes of a weight of any kind on the device. `phase` as above, and only where it applies. */
size_t ldk_pack_weight_bytes(const struct ld_weight_desc *desc, enum ldk_dtype dtype, bool phase);

/* Packed rows [first, first + count) of 0..rows_padded into dst (count * row_bytes). `line` is
 * scratch of pack->line floats, one per thread. */
void ldk_pack_rows(const struct ldk_pack *pack, const struct ld_weight_desc *desc, int32_t first,
                   int32_t count, float *line, void *dst);

/* The same of the phase form: row index phase * rows_padded + row, phase = 2 * (y odd) + (x odd).
 * Taps that fall on one stored pixel are added in float32, in tap order, and rounded once. */
void ldk_pack_phase_rows(const struct ldk_pack *pack, const struct ld_weight_desc *desc,
                         int32_t first, int32_t count, float *line, void *dst);

/* rows_padded floats in packed row order; zeros where a part has no bias and in the padding. */
void ldk_pack_bias(const struct ldk_pack *pack, const struct ld_weight_desc *desc, float *dst);

/* Checkpoint row behind packed row `row` (parts stacked); -1: padding. */
int32_t ldk_pack_source_row(const struct ldk_pack *pack, int32_t row);

/* Inverse: one packed row back into checkpoint order [k][taps], as float32. */
void ldk_unpack_row(const struct ldk_pack *pack, const void *packed_row, float *dst);

/* The kernels' view of a packed weight that lies at these device addresses. */
struct ldk_weight ldk_pack_weight(const struct ldk_pack *pack, const void *data, const void *phase,
                                  const float *bias);

#ifdef __cplusplus
}
#endif
#endif
