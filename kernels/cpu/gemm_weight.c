/*
 * Packing of weight matrices for the fast levels: choose the narrowest exact element type, then
 * scatter every checkpoint row into its panel column. One-time work at load, parallel over panels.
 */
#include "kernels/cpu/gemm.h"

#include "runtime/base/arena.h"

#include <string.h>

/* ---- Element type ---------------------------------------------------------------------------- */

static bool fits_bf16(uint32_t bits)
{
    return (bits & 0xFFFFu) == 0;
}

/* Float16 holds 11 significant bits between 2^-24 and 65504; below 2^-14 the step stays 2^-24. */
static bool fits_f16(uint32_t bits)
{
    uint32_t exponent = bits >> 23 & 0xFFu;
    uint32_t fraction = bits & 0x7FFFFFu;
    if (exponent == 0)
        return fraction == 0;
    if (exponent > 142 || exponent < 103)
        return false;
    uint32_t lost = exponent >= 113 ? 13 : 126 - exponent;
    return ((fraction | 0x800000u) & ((1u << lost) - 1)) == 0;
}

static bool known_bf16(enum ld_dtype dtype)
{
    return dtype == LD_DTYPE_BF16 || dtype == LD_DTYPE_F8_E4M3 || dtype == LD_DTYPE_F8_E5M2;
}

static bool known_f16(enum ld_dtype dtype)
{
    return dtype == LD_DTYPE_F16 || dtype == LD_DTYPE_F8_E4M3 || dtype == LD_DTYPE_F8_E5M2;
}

static bool row_fits(const float *values, size_t count, bool (*fits)(uint32_t bits))
{
    for (size_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, &values[i], sizeof bits);
        if (!fits(bits))
            return false;
    }
    return true;
}

/* Whether every element of every part fits; `line` has room for one row. */
static bool parts_fit(const struct ld_weight_desc *desc, float *line, size_t row,
                      bool (*known)(enum ld_dtype dtype), bool (*fits)(uint32_t bits))
{
    for (uint32_t p = 0; p < desc->part_count; p++) {
        const struct ld_weight_part *part = &desc->parts[p];
        const unsigned char *src = part->data;
        if (known(part->dtype))
            continue;
        const int32_t rows = ld_weight_part_rows(desc, p);
        for (int32_t r = 0; r < rows; r++, src += row * ld_dtype_size(part->dtype)) {
            ld_dtype_to_f32(line, src, part->dtype, row);
            if (!row_fits(line, row, fits))
                return false;
        }
    }
    return true;
}

/* The narrowest type that holds all parts exactly. */
static enum ld_dtype choose_type(const struct ld_weight_desc *desc, float *line, size_t row)
{
    if (parts_fit(desc, line, row, known_bf16, fits_bf16))
        return LD_DTYPE_BF16;
    if (parts_fit(desc, line, row, known_f16, fits_f16))
        return LD_DTYPE_F16;
    return LD_DTYPE_F32;
}

/* ---- Packing --------------------------------------------------------------------------------- */

struct pack {
    const struct ld_micro *micro;
    const struct ld_weight_desc *desc;
    const struct ld_weight *weight;
    size_t row; /* elements of a checkpoint row: k * taps */
    size_t item;
    unsigned char *scratch; /* one slice for each worker: rows in the stored type, a float32 row */
    size_t slice;
    size_t place[LD_MICRO_NR_MAX][LD_STEP_K]; /* the level's b_index, by column */
    bool plain;                               /* it is [k][n] */
};

/* The weight row behind column n of a panel, -1 for none. */
static int32_t panel_row(const struct pack *pack, int32_t panel, int32_t n)
{
    int32_t nr = pack->micro->nr;
    int32_t rows = pack->weight->facts.rows;
    if (pack->weight->facts.kind != LD_WEIGHT_GEGLU) {
        int32_t row = panel * nr + n;
        return row < rows ? row : -1;
    }
    return ld_idx_geglu_row(panel, n, nr, rows / 2);
}

/* Checkpoint row `row` in the stored type: in place, or decoded and encoded into `raw`. */
static const unsigned char *stored_row(const struct pack *pack, int32_t row, unsigned char *raw,
                                       float *line)
{
    int32_t within;
    const struct ld_weight_part *part =
        &pack->desc->parts[ld_weight_part_of(pack->desc, row, &within)];
    size_t at = (size_t)within * pack->row;
    const unsigned char *src = (const unsigned char *)part->data + at * ld_dtype_size(part->dtype);
    if (part->dtype == pack->weight->dtype)
        return src;
    ld_dtype_to_f32(line, src, part->dtype, pack->row);
    ld_dtype_from_f32(raw, line, pack->weight->dtype, pack->row);
    return raw;
}

/* `count` values of K of one row, all taps: dst has the taps' steps one after another. */
static void scatter16(uint16_t *dst, const unsigned char *src, const size_t *place, size_t count,
                      size_t taps, size_t step)
{
    for (size_t c = 0; c < count; c++) {
        uint16_t *at = dst + place[c];
        for (size_t t = 0; t < taps; t++, at += step, src += sizeof *at)
            memcpy(at, src, sizeof *at);
    }
}

static void scatter32(uint32_t *dst, const unsigned char *src, const size_t *place, size_t count,
                      size_t taps, size_t step)
{
    for (size_t c = 0; c < count; c++) {
        uint32_t *at = dst + place[c];
        for (size_t t = 0; t < taps; t++, at += step, src += sizeof *at)
            memcpy(at, src, sizeof *at);
    }
}

/* The same for all rows of a plain panel at once: what is written lies side by side, and every row
 * is read from its start to its end. */
static void gather16(uint16_t *dst, const unsigned char *const *rows, size_t nr, size_t at,
                     size_t count, size_t taps, size_t step)
{
    for (size_t c = 0; c < count; c++, dst += nr)
        for (size_t t = 0; t < taps; t++, at += sizeof *dst)
            for (size_t n = 0; n < nr; n++)
                memcpy(dst + t * step + n, rows[n] + at, sizeof *dst);
}

static void gather32(uint32_t *dst, const unsigned char *const *rows, size_t nr, size_t at,
                     size_t count, size_t taps, size_t step)
{
    for (size_t c = 0; c < count; c++, dst += nr)
        for (size_t t = 0; t < taps; t++, at += sizeof *dst)
            for (size_t n = 0; n < nr; n++)
                memcpy(dst + t * step + n, rows[n] + at, sizeof *dst);
}

static void find_places(struct pack *pack)
{
    const struct ld_micro *micro = pack->micro;
    pack->plain = true;
    for (int32_t n = 0; n < micro->nr; n++) {
        for (int32_t k = 0; k < LD_STEP_K; k++) {
            pack->place[n][k] = micro->b_index(k, n);
            pack->plain = pack->plain && pack->place[n][k] == (size_t)(k * micro->nr + n);
        }
    }
}

/* The rows behind a panel's columns, NULL for none. Returns how many there are. */
static int32_t panel_rows(const struct pack *pack, uint32_t panel, uint32_t worker,
                          const unsigned char **rows)
{
    unsigned char *raw = pack->scratch + worker * pack->slice;
    float *line = (float *)(void *)raw;
    int32_t count = 0;
    raw += pack->row * sizeof *line;
    for (int32_t n = 0; n < pack->micro->nr; n++, raw += pack->row * pack->item) {
        const int32_t row = panel_row(pack, (int32_t)panel, n);
        rows[n] = row < 0 ? NULL : stored_row(pack, row, raw, line);
        count += row < 0 ? 0 : 1;
    }
    return count;
}

/* `count` values of K of the panel from value `c` on. Columns without a row stay zero, as the block
 * is. */
static void pack_step(const struct pack *pack, const unsigned char *const *rows, bool whole,
                      size_t c, size_t count, unsigned char *dst)
{
    const size_t nr = (size_t)pack->micro->nr;
    const size_t taps = (size_t)pack->weight->facts.kernel * (size_t)pack->weight->facts.kernel;
    const size_t step = LD_STEP_K * nr;
    const size_t at = c * taps * pack->item;
    if (pack->plain && whole) {
        if (pack->item == 2)
            gather16((uint16_t *)(void *)dst, rows, nr, at, count, taps, step);
        else
            gather32((uint32_t *)(void *)dst, rows, nr, at, count, taps, step);
        return;
    }
    for (size_t n = 0; n < nr; n++) {
        if (rows[n] == NULL)
            continue;
        if (pack->item == 2)
            scatter16((uint16_t *)(void *)dst, rows[n] + at, pack->place[n], count, taps, step);
        else
            scatter32((uint32_t *)(void *)dst, rows[n] + at, pack->place[n], count, taps, step);
    }
}

/* Task: one panel, k-block by k-block, so that the steps being filled stay in the near cache. */
static void pack_panel_task(void *pointer, uint32_t panel, uint32_t worker)
{
    const struct pack *pack = pointer;
    const struct ld_weight *weight = pack->weight;
    const unsigned char *rows[LD_MICRO_NR_MAX];
    const bool whole = panel_rows(pack, panel, worker, rows) == pack->micro->nr;
    const size_t taps = (size_t)weight->facts.kernel * (size_t)weight->facts.kernel;
    const size_t step_bytes = (size_t)(LD_STEP_K * pack->micro->nr) * pack->item;
    const size_t k = (size_t)weight->facts.k;
    unsigned char *dst = weight->data;
    dst += panel * ld_gemm_steps(weight) * step_bytes;
    for (size_t c = 0; c < k; c += LD_STEP_K, dst += taps * step_bytes)
        pack_step(pack, rows, whole, c, k - c < LD_STEP_K ? k - c : LD_STEP_K, dst);
}

enum ld_code ld_gemm_weight_pack(struct ld_cpu_backend *cpu, const struct ld_micro *micro,
                                 const struct ld_weight_desc *desc, struct ld_weight *weight,
                                 struct ld_error *err)
{
    struct pack pack = {.micro = micro, .desc = desc, .weight = weight};
    enum ld_code code = LD_OK;
    find_places(&pack);
    pack.row =
        (size_t)weight->facts.k * (size_t)weight->facts.kernel * (size_t)weight->facts.kernel;
    pack.slice = (pack.row * (1 + (size_t)micro->nr) * sizeof(float) + 63) & ~(size_t)63;
    size_t scratch_bytes = pack.slice * cpu->threads;
    pack.scratch = ld_block_alloc(scratch_bytes);
    if (pack.scratch == NULL)
        return LD_FAIL(err, LD_E_NOMEM, "out of memory for packing a weight");
    weight->dtype = choose_type(desc, (float *)(void *)pack.scratch, pack.row);
    pack.item = ld_dtype_size(weight->dtype);
    int32_t panels = ld_gemm_panels(micro, weight);
    size_t panel_bytes = ld_gemm_steps(weight) * LD_STEP_K * (size_t)micro->nr * pack.item;
    weight->data_bytes = (size_t)panels * panel_bytes;
    weight->data = ld_block_alloc(weight->data_bytes);
    if (weight->data == NULL)
        code = LD_FAIL(err, LD_E_NOMEM, "out of memory for a weight matrix");
    else
        ld_pool_run(cpu->pool, (uint32_t)panels, pack_panel_task, &pack);
    ld_block_free(pack.scratch, scratch_bytes);
    return code;
}
