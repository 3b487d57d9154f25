/*
 * Packing of weight matrices: see pack.h. A row whose type is already the packed one moves as bits;
 * others, and scaled ones, go through float32.
 */
#include "kernels/cuda/pack.h"

#include "kernels/check.h"
#include "kernels/idx.h"

#include <string.h>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

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

/* ---- A source row ---------------------------------------------------------------------------- */

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

/* ---- Taps to the front ----------------------------------------------------------------------- */

/* [k][taps] elements to [taps] rows of k, `pitch` elements apart; both sides may be unaligned.
 * Channels from `first` on; those before are there already. */
static inline void taps_first(const unsigned char *src, size_t k, size_t taps, size_t item,
                              size_t first, size_t pitch, unsigned char *dst)
{
    for (size_t t = 0; t < taps; t++)
        for (size_t c = first; c < k; c++)
            memcpy(dst + (t * pitch + c) * item, src + (c * taps + t) * item, item);
}

#if defined(__SSE2__)

enum { BLOCK = 8, TAPS = 9 }; /* channels a register holds, taps of a 3x3 kernel */

/* Rows become columns: out[i] holds element i of each of the eight. */
static inline void transpose8(const __m128i in[BLOCK], __m128i out[BLOCK])
{
    __m128i pairs[BLOCK];
    __m128i fours[BLOCK];
    for (int i = 0; i < 4; i++) {
        pairs[2 * i] = _mm_unpacklo_epi16(in[2 * i], in[2 * i + 1]);
        pairs[2 * i + 1] = _mm_unpackhi_epi16(in[2 * i], in[2 * i + 1]);
    }
    for (int i = 0; i < 2; i++) {
        fours[4 * i] = _mm_unpacklo_epi32(pairs[4 * i], pairs[4 * i + 2]);
        fours[4 * i + 1] = _mm_unpackhi_epi32(pairs[4 * i], pairs[4 * i + 2]);
        fours[4 * i + 2] = _mm_unpacklo_epi32(pairs[4 * i + 1], pairs[4 * i + 3]);
        fours[4 * i + 3] = _mm_unpackhi_epi32(pairs[4 * i + 1], pairs[4 * i + 3]);
    }
    for (int i = 0; i < 4; i++) {
        out[2 * i] = _mm_unpacklo_epi64(fours[i], fours[i + 4]);
        out[2 * i + 1] = _mm_unpackhi_epi64(fours[i], fours[i + 4]);
    }
}

/* The first eight taps of eight channels are a square of registers; the ninth is picked up one by
 * one. Returns how many channels are done: a multiple of eight. */
static size_t nine_taps_first(const unsigned char *src, size_t k, size_t pitch, unsigned char *dst)
{
    size_t c = 0;
    for (; c + BLOCK <= k; c += BLOCK) {
        __m128i rows[BLOCK];
        __m128i columns[BLOCK];
        uint16_t last[BLOCK];
        for (size_t i = 0; i < BLOCK; i++) {
            const unsigned char *channel = src + (c + i) * TAPS * sizeof(uint16_t);
            rows[i] = _mm_loadu_si128((const __m128i *)(const void *)channel);
            memcpy(&last[i], channel + (TAPS - 1) * sizeof(uint16_t), sizeof(uint16_t));
        }
        transpose8(rows, columns);
        for (size_t t = 0; t < TAPS - 1; t++)
            _mm_storeu_si128((__m128i *)(void *)(dst + (t * pitch + c) * sizeof(uint16_t)),
                             columns[t]);
        memcpy(dst + ((TAPS - 1) * pitch + c) * sizeof(uint16_t), last, sizeof last);
    }
    return c;
}

#else

static size_t nine_taps_first(const unsigned char *src, size_t k, size_t pitch, unsigned char *dst)
{
    (void)src, (void)k, (void)pitch, (void)dst;
    return 0;
}

#endif

/* Elements of two or four bytes. */
static void transpose(const struct ldk_pack *pack, const unsigned char *src, size_t item,
                      size_t pitch, unsigned char *dst)
{
    const size_t k = (size_t)pack->k;
    const size_t taps = (size_t)pack->taps;
    if (taps == 1)
        memcpy(dst, src, k * item);
    else if (item == sizeof(uint16_t))
        taps_first(src, k, taps, sizeof(uint16_t),
                   taps == 9 ? nine_taps_first(src, k, pitch, dst) : 0, pitch, dst);
    else
        taps_first(src, k, taps, sizeof(float), 0, pitch, dst);
}

/* ---- Rows ------------------------------------------------------------------------------------ */

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
    transpose(pack, bits, ld_dtype_size(dtype), (size_t)pack->k_padded, dst);
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

/* [9][k] to [4][k_padded]: for the output parities (py, px), each of the 9 taps is added to the one
 * of 2x2 that reads the same stored pixel. */
static void sum_phase(const struct ldk_pack *pack, int32_t phase, const float *restrict taps,
                      float *restrict sums)
{
    memset(sums, 0, LDK_PACK_PHASE_TAPS * (size_t)pack->k_padded * sizeof *sums);
    for (int32_t tap = 0; tap < pack->taps; tap++) {
        int32_t y = ld_idx_phase_tap(phase / 2, tap / 3);
        int32_t x = ld_idx_phase_tap(phase % 2, tap % 3);
        const float *from = taps + (size_t)tap * (size_t)pack->k;
        float *to = sums + (size_t)(2 * y + x) * (size_t)pack->k_padded;
        for (int32_t c = 0; c < pack->k; c++)
            to[c] += from[c];
    }
}

/* Values of a source row, tap by tap, in the first half of `line`. 16-bit elements change places
 * before they are decoded, in the second half; others after it. */
static void decode_taps_first(const struct ldk_pack *pack, const struct source *source, float *line)
{
    const size_t k = (size_t)pack->k;
    const size_t count = k * (size_t)pack->taps;
    float *behind = line + count;
    if (ld_dtype_size(source->dtype) == sizeof(uint16_t)) {
        const struct source moved = {(unsigned char *)behind, source->dtype, source->scale};
        transpose(pack, source->data, sizeof(uint16_t), k, (unsigned char *)behind);
        decode(&moved, count, line);
    } else {
        decode(source, count, behind);
        transpose(pack, (const unsigned char *)behind, sizeof(float), k, (unsigned char *)line);
    }
}

void ldk_pack_phase_rows(const struct ldk_pack *pack, const struct ld_weight_desc *desc,
                         int32_t first, int32_t count, float *line, void *dst)
{
    LD_ASSERT(pack->phase_row_bytes > 0 && first >= 0 && count >= 0);
    LD_ASSERT(first + count <= LDK_PACK_PHASES * pack->rows_padded);
    float *sums = line + (size_t)pack->k * (size_t)pack->taps;
    unsigned char *at = dst;
    for (int32_t row = first; row < first + count; row++, at += pack->phase_row_bytes) {
        int32_t from = ldk_pack_source_row(pack, row % pack->rows_padded);
        if (from < 0) {
            memset(at, 0, pack->phase_row_bytes);
            continue;
        }
        struct source source = source_of(pack, desc, from);
        decode_taps_first(pack, &source, line);
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
