/*
 * Packing of weight matrices: see pack.h. A row whose type is already the packed one moves as bits;
 * others, and scaled ones, go through float32.
 */
#include "kernels/cuda/pack.h"

#include "kernels/check.h"
#include "kernels/idx.h"

#include <string.h>

/* ---- Sizes ----------------------------------------------------------------------------------- */

static enum ld_dtype host_dtype(enum ldk_dtype dtype)
{
    switch (dtype) {
    case LDK_F16:
        return LD_DTYPE_F16;
    case LDK_BF16:
        return LD_DTYPE_BF16;
    case LDK_F32:
        break;
    }
    return LD_DTYPE_F32;
}

static int32_t padded(int32_t n)
{
    return ld_idx_ceil_div(n, LDK_PACK_UNIT) * LDK_PACK_UNIT;
}

void ldk_pack_plan(struct ldk_pack *pack, const struct ld_weight_desc *desc, enum ldk_dtype dtype,
                   bool phase)
{
    bool conv = desc->kind == LD_WEIGHT_CONV;
    LD_ASSERT(conv || desc->kind == LD_WEIGHT_LINEAR || desc->kind == LD_WEIGHT_GEGLU);
    LD_ASSERT(desc->rows > 0 && desc->k > 0 && desc->part_count > 0);
    LD_ASSERT(!phase || (conv && desc->kernel == 3));
    *pack = (struct ldk_pack){.rows = desc->rows,
                              .k = desc->k,
                              .k_padded = padded(desc->k),
                              .taps = conv ? desc->kernel * desc->kernel : 1,
                              .geglu = desc->kind == LD_WEIGHT_GEGLU,
                              .dtype = dtype};
    pack->rows_padded = pack->geglu ? 2 * padded(pack->rows / 2) : padded(pack->rows);
    size_t item = ld_dtype_size(host_dtype(dtype));
    pack->row_bytes = (size_t)pack->taps * (size_t)pack->k_padded * item;
    pack->data_bytes = pack->row_bytes * (size_t)pack->rows_padded;
    if (phase) {
        pack->phase_row_bytes = LDK_PACK_PHASE_TAPS * (size_t)pack->k_padded * item;
        pack->phase_bytes = LDK_PACK_PHASES * (size_t)pack->rows_padded * pack->phase_row_bytes;
    }
    pack->bias_bytes = (size_t)pack->rows_padded * sizeof(float);
    /* One decoded row, and behind it the same encoded or one row of the phase form. */
    size_t decoded = (size_t)pack->k * (size_t)pack->taps;
    size_t sums = LDK_PACK_PHASE_TAPS * (size_t)pack->k_padded;
    pack->line = decoded + (decoded > sums ? decoded : sums);
}

static size_t round_up(size_t bytes)
{
    return (bytes + LDK_PACK_ALIGN - 1) / LDK_PACK_ALIGN * LDK_PACK_ALIGN;
}

struct ldk_pack_places ldk_pack_places_of(const struct ldk_pack *pack)
{
    struct ldk_pack_places places;
    places.phase = round_up(pack->data_bytes);
    places.bias = places.phase + round_up(pack->phase_bytes);
    places.bias16 = places.bias + round_up(pack->bias_bytes);
    places.bytes = places.bias16 + round_up(pack->bias_bytes / 2);
    return places;
}

size_t ldk_pack_weight_bytes(const struct ld_weight_desc *desc, enum ldk_dtype dtype, bool phase)
{
    struct ldk_pack pack;
    const size_t rows = (size_t)ld_weight_facts_of(desc).rows;
    if (desc->kind == LD_WEIGHT_VECTOR)
        return round_up(rows * sizeof(float));
    if (desc->kind == LD_WEIGHT_TABLE)
        return round_up(rows * (size_t)desc->k * ld_dtype_size(host_dtype(dtype)));
    ldk_pack_plan(&pack, desc, dtype, phase && desc->upsampled && desc->kernel == 3);
    return ldk_pack_places_of(&pack).bytes;
}

int32_t ldk_pack_source_row(const struct ldk_pack *pack, int32_t row)
{
    enum { PAIR = 2 * LDK_PACK_UNIT };
    if (pack->geglu)
        return ld_idx_geglu_row(row / PAIR, row % PAIR, PAIR, pack->rows / 2);
    return row < pack->rows ? row : -1;
}

/* ---- Rows ------------------------------------------------------------------------------------ */

struct source {
    const unsigned char *data; /* [k][taps] of `dtype` */
    enum ld_dtype dtype;
    float scale;
};

static struct source source_of(const struct ldk_pack *pack, const struct ld_weight_desc *desc,
                               int32_t row)
{
    int32_t within;
    const struct ld_weight_part *part = &desc->parts[ld_weight_part_of(desc, row, &within)];
    size_t elements = (size_t)pack->k * (size_t)pack->taps;
    size_t at = (size_t)within * elements * ld_dtype_size(part->dtype);
    return (struct source){.data = (const unsigned char *)part->data + at,
                           .dtype = part->dtype,
                           .scale = part->scale == 0.0f ? 1.0f : part->scale};
}

static void decode(const struct source *source, size_t count, float *line)
{
    ld_dtype_to_f32(line, source->data, source->dtype, count);
    for (size_t i = 0; source->scale != 1.0f && i < count; i++)
        line[i] *= source->scale;
}

/* [k][taps] to [taps][k_padded]; both sides may be unaligned. */
static void transpose16(const struct ldk_pack *pack, const unsigned char *src, unsigned char *dst)
{
    size_t taps = (size_t)pack->taps;
    for (size_t t = 0; t < taps; t++) {
        unsigned char *to = dst + t * (size_t)pack->k_padded * sizeof(uint16_t);
        const unsigned char *from = src + t * sizeof(uint16_t);
        for (size_t c = 0; c < (size_t)pack->k; c++)
            memcpy(to + c * sizeof(uint16_t), from + c * taps * sizeof(uint16_t), sizeof(uint16_t));
    }
}

static void transpose32(const struct ldk_pack *pack, const unsigned char *src, unsigned char *dst)
{
    size_t taps = (size_t)pack->taps;
    for (size_t t = 0; t < taps; t++) {
        unsigned char *to = dst + t * (size_t)pack->k_padded * sizeof(float);
        const unsigned char *from = src + t * sizeof(float);
        for (size_t c = 0; c < (size_t)pack->k; c++)
            memcpy(to + c * sizeof(float), from + c * taps * sizeof(float), sizeof(float));
    }
}

static void pack_row(const struct ldk_pack *pack, const struct source *source, float *line,
                     unsigned char *dst)
{
    enum ld_dtype dtype = host_dtype(pack->dtype);
    size_t count = (size_t)pack->k * (size_t)pack->taps;
    const unsigned char *bits = source->data;
    if (source->dtype != dtype || source->scale != 1.0f) {
        decode(source, count, line);
        ld_dtype_from_f32(line + count, line, dtype, count);
        bits = (const unsigned char *)(line + count);
    }
    if (dtype == LD_DTYPE_F32)
        transpose32(pack, bits, dst);
    else
        transpose16(pack, bits, dst);
}

void ldk_pack_rows(const struct ldk_pack *pack, const struct ld_weight_desc *desc, int32_t first,
                   int32_t count, float *line, void *dst)
{
    LD_ASSERT(first >= 0 && count >= 0 && first + count <= pack->rows_padded);
    unsigned char *at = dst;
    for (int32_t row = first; row < first + count; row++, at += pack->row_bytes) {
        int32_t from = ldk_pack_source_row(pack, row);
        if (from < 0 || pack->k_padded != pack->k)
            memset(at, 0, pack->row_bytes);
        if (from >= 0) {
            struct source source = source_of(pack, desc, from);
            pack_row(pack, &source, line, at);
        }
    }
}

/* ---- The upsampling form --------------------------------------------------------------------- */

/* [k][9] to [4][k_padded]: for the output parities (py, px), each of the 9 taps is added to the one
 * of 2x2 that reads the same stored pixel. */
static void sum_phase(const struct ldk_pack *pack, int32_t phase, const float *line, float *sums)
{
    memset(sums, 0, LDK_PACK_PHASE_TAPS * (size_t)pack->k_padded * sizeof *sums);
    for (int32_t tap = 0; tap < pack->taps; tap++) {
        int32_t y = ld_idx_phase_tap(phase / 2, tap / 3);
        int32_t x = ld_idx_phase_tap(phase % 2, tap % 3);
        float *to = sums + (size_t)(2 * y + x) * (size_t)pack->k_padded;
        for (int32_t c = 0; c < pack->k; c++)
            to[c] += line[c * pack->taps + tap];
    }
}

void ldk_pack_phase_rows(const struct ldk_pack *pack, const struct ld_weight_desc *desc,
                         int32_t first, int32_t count, float *line, void *dst)
{
    LD_ASSERT(pack->phase_row_bytes > 0 && first >= 0 && count >= 0);
    LD_ASSERT(first + count <= LDK_PACK_PHASES * pack->rows_padded);
    size_t elements = (size_t)pack->k * (size_t)pack->taps;
    float *sums = line + elements;
    unsigned char *at = dst;
    for (int32_t row = first; row < first + count; row++, at += pack->phase_row_bytes) {
        int32_t from = ldk_pack_source_row(pack, row % pack->rows_padded);
        if (from < 0) {
            memset(at, 0, pack->phase_row_bytes);
            continue;
        }
        struct source source = source_of(pack, desc, from);
        decode(&source, elements, line);
        sum_phase(pack, row / pack->rows_padded, line, sums);
        ld_dtype_from_f32(at, sums, host_dtype(pack->dtype),
                          LDK_PACK_PHASE_TAPS * (size_t)pack->k_padded);
    }
}

/* ---- Bias, inverse, view --------------------------------------------------------------------- */

void ldk_pack_bias(const struct ldk_pack *pack, const struct ld_weight_desc *desc, float *dst)
{
    for (int32_t row = 0; row < pack->rows_padded; row++) {
        int32_t from = ldk_pack_source_row(pack, row);
        dst[row] = 0.0f;
        if (from < 0)
            continue;
        int32_t within;
        const struct ld_weight_part *part = &desc->bias[ld_weight_part_of(desc, from, &within)];
        if (part->data == NULL)
            continue;
        size_t at = (size_t)within * ld_dtype_size(part->dtype);
        ld_dtype_to_f32(&dst[row], (const unsigned char *)part->data + at, part->dtype, 1);
        dst[row] *= part->scale == 0.0f ? 1.0f : part->scale;
    }
}

void ldk_unpack_row(const struct ldk_pack *pack, const void *packed_row, float *dst)
{
    enum ld_dtype dtype = host_dtype(pack->dtype);
    const unsigned char *src = packed_row;
    size_t item = ld_dtype_size(dtype);
    for (size_t t = 0; t < (size_t)pack->taps; t++) {
        for (size_t c = 0; c < (size_t)pack->k; c++)
            ld_dtype_to_f32(&dst[c * (size_t)pack->taps + t],
                            src + (t * (size_t)pack->k_padded + c) * item, dtype, 1);
    }
}

struct ldk_weight ldk_pack_weight(const struct ldk_pack *pack, const void *data, const void *phase,
                                  const float *bias)
{
    return (struct ldk_weight){.data = data,
                               .phase = pack->phase_bytes > 0 ? phase : NULL,
                               .bias = bias,
                               .rows = pack->rows,
                               .rows_padded = pack->rows_padded,
                               .k = pack->k,
                               .k_padded = pack->k_padded,
                               .taps = pack->taps,
                               .geglu = pack->geglu,
                               .dtype = pack->dtype};
}
