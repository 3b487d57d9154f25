/*
 * Packing of weight matrices for the fast levels: choose the narrowest exact element type, then
 * scatter every checkpoint row into its panel column. One-time work at load.
 */
#include "kernels/cpu/gemm.h"

#include "runtime/base/arena.h"

#include <string.h>

/* ---- Element type ------------------------------------------------------------------------------
 */

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

struct fit {
    bool bf16, f16;
};

static struct fit fit_of(const float *values, size_t count)
{
    struct fit fit = {true, true};
    for (size_t i = 0; i < count && (fit.bf16 || fit.f16); i++) {
        uint32_t bits;
        memcpy(&bits, &values[i], sizeof bits);
        fit.bf16 = fit.bf16 && fits_bf16(bits);
        fit.f16 = fit.f16 && fits_f16(bits);
    }
    return fit;
}

/* The narrowest type that holds all parts exactly; `line` has room for one row. */
static enum ld_dtype choose_type(const struct ld_weight_desc *desc, float *line, size_t row)
{
    struct fit fit = {true, true};
    for (uint32_t p = 0; p < desc->part_count; p++) {
        const struct ld_weight_part *part = &desc->parts[p];
        size_t item = ld_dtype_size(part->dtype);
        for (size_t r = 0; r < (size_t)desc->rows && (fit.bf16 || fit.f16); r++) {
            if (part->dtype == LD_DTYPE_F16 && fit.f16 && !fit.bf16)
                break; /* nothing left to find out */
            ld_dtype_to_f32(line, (const unsigned char *)part->data + r * row * item, part->dtype,
                            row);
            struct fit one = fit_of(line, row);
            fit.bf16 = fit.bf16 && one.bf16;
            fit.f16 = fit.f16 && (one.f16 || part->dtype == LD_DTYPE_F16);
        }
    }
    return fit.bf16 ? LD_DTYPE_BF16 : fit.f16 ? LD_DTYPE_F16 : LD_DTYPE_F32;
}

/* ---- Packing ------------------------------------------------------------------------------------
 */

struct pack {
    const struct ld_micro *micro;
    const struct ld_weight_desc *desc;
    const struct ld_weight *weight;
    size_t row; /* elements of a checkpoint row: k * taps */
    size_t item;
    float *line;        /* one row as float32 */
    unsigned char *raw; /* one row in the stored type */
};

/* The weight row behind column n of a panel, -1 for none. */
static int32_t panel_row(const struct pack *pack, int32_t panel, int32_t n)
{
    int32_t nr = pack->micro->nr;
    int32_t rows = pack->weight->rows;
    if (pack->weight->kind != LD_WEIGHT_GEGLU) {
        int32_t row = panel * nr + n;
        return row < rows ? row : -1;
    }
    int32_t half = nr / 2;
    int32_t out = panel * half + n % half;
    if (out >= rows / 2)
        return -1;
    return n < half ? out : out + rows / 2;
}

/* Bring checkpoint row `row` into the stored type; returns its first element. */
static const unsigned char *stored_row(const struct pack *pack, int32_t row)
{
    const struct ld_weight_part *part = &pack->desc->parts[row / pack->desc->rows];
    size_t at = (size_t)(row % pack->desc->rows) * pack->row;
    const unsigned char *src = (const unsigned char *)part->data + at * ld_dtype_size(part->dtype);
    if (part->dtype == pack->weight->dtype)
        return src;
    ld_dtype_to_f32(pack->line, src, part->dtype, pack->row);
    if (pack->weight->dtype == LD_DTYPE_F32)
        return (const unsigned char *)pack->line;
    ld_dtype_from_f32(pack->raw, pack->line, pack->weight->dtype, pack->row);
    return pack->raw;
}

static void scatter16(uint16_t *dst, const unsigned char *src, const size_t *place, size_t k,
                      size_t taps, size_t step)
{
    for (size_t c = 0; c < k; c++) {
        uint16_t *at = dst + c / LD_STEP_K * taps * step + place[c % LD_STEP_K];
        for (size_t t = 0; t < taps; t++, at += step, src += sizeof *at)
            memcpy(at, src, sizeof *at);
    }
}

static void scatter32(uint32_t *dst, const unsigned char *src, const size_t *place, size_t k,
                      size_t taps, size_t step)
{
    for (size_t c = 0; c < k; c++) {
        uint32_t *at = dst + c / LD_STEP_K * taps * step + place[c % LD_STEP_K];
        for (size_t t = 0; t < taps; t++, at += step, src += sizeof *at)
            memcpy(at, src, sizeof *at);
    }
}

static void pack_panel(const struct pack *pack, int32_t panel)
{
    const struct ld_weight *weight = pack->weight;
    size_t step = (size_t)LD_STEP_K * (size_t)pack->micro->nr;
    size_t taps = (size_t)weight->kernel * (size_t)weight->kernel;
    size_t bytes = ld_gemm_steps(weight) * step * pack->item;
    unsigned char *dst = (unsigned char *)weight->data + (size_t)panel * bytes;
    for (int32_t n = 0; n < pack->micro->nr; n++) {
        int32_t row = panel_row(pack, panel, n);
        if (row < 0)
            continue; /* the block was zeroed */
        size_t place[LD_STEP_K];
        for (int32_t k = 0; k < LD_STEP_K; k++)
            place[k] = pack->micro->b_index(k, n);
        const unsigned char *src = stored_row(pack, row);
        if (pack->item == 2)
            scatter16((uint16_t *)(void *)dst, src, place, (size_t)weight->k, taps, step);
        else
            scatter32((uint32_t *)(void *)dst, src, place, (size_t)weight->k, taps, step);
    }
}

enum ld_code ld_gemm_weight_pack(const struct ld_micro *micro, const struct ld_weight_desc *desc,
                                 struct ld_weight *weight, struct ld_error *err)
{
    struct pack pack = {.micro = micro, .desc = desc, .weight = weight};
    enum ld_code code = LD_OK;
    pack.row = (size_t)weight->k * (size_t)weight->kernel * (size_t)weight->kernel;
    pack.line = ld_heap_calloc(pack.row, sizeof *pack.line);
    pack.raw = ld_heap_calloc(pack.row, sizeof(uint16_t));
    if (pack.line == NULL || pack.raw == NULL) {
        code = LD_FAIL(err, LD_E_NOMEM, "out of memory for a weight row");
        goto done;
    }
    weight->dtype = choose_type(desc, pack.line, pack.row);
    pack.item = ld_dtype_size(weight->dtype);
    int32_t panels = ld_gemm_panels(micro, weight);
    size_t panel_bytes = ld_gemm_steps(weight) * LD_STEP_K * (size_t)micro->nr * pack.item;
    weight->data_bytes = (size_t)panels * panel_bytes;
    weight->data = ld_block_alloc(weight->data_bytes);
    if (weight->data == NULL) {
        code = LD_FAIL(err, LD_E_NOMEM, "out of memory for a weight matrix");
        goto done;
    }
    for (int32_t panel = 0; panel < panels; panel++)
        pack_panel(&pack, panel);
done:
    ld_heap_free(pack.line);
    ld_heap_free(pack.raw);
    return code;
}
