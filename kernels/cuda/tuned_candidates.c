#include "kernels/cuda/tuned_candidates.h"

#include "kernels/cuda/libs.h"
#include "runtime/base/bytes.h"
#include "runtime/base/id.h"

#include <string.h>

enum { VARIANTS_MAX = 64 };

/* ---- Our own --------------------------------------------------------------------------------- */

/* Moments are sums over so many rows: where they are wanted, that number is part of what the bits
 * depend on. */
static uint32_t signature_of(const struct ldk_variant *variant, bool moments)
{
    const uint32_t rows = moments ? (uint32_t)variant->moment_rows : 0;
    uint8_t bytes[8];
    ld_write_u32le(bytes, variant->signature);
    ld_write_u32le(bytes + 4, rows);
    const uint32_t hash = ld_crc32c(0, ld_span_of(bytes, sizeof bytes));
    return hash ? hash : 1; /* 0 means "any" */
}

static int32_t own_variants(const struct ldk_work *work, struct ldk_variant out[VARIANTS_MAX])
{
    switch (work->unit.op) {
    case LDK_TUNE_CONV:
        return ldk_conv_variants(&work->conv, out, VARIANTS_MAX);
    case LDK_TUNE_LINEAR:
        return ldk_linear_variants(&work->linear, out, VARIANTS_MAX);
    case LDK_TUNE_ATTENTION:
        return ldk_attention_variants(&work->attention, out, VARIANTS_MAX);
    case LDK_TUNE_OP_COUNT:
        break;
    }
    return 0;
}

uint32_t ldk_work_own_candidates(const struct ldk_work *work, struct ldk_tune_candidate *out,
                                 uint32_t capacity)
{
    struct ldk_variant variants[VARIANTS_MAX];
    const bool moments = (work->unit.epilogue & LDK_TUNE_MOMENTS) != 0;
    const int32_t count = own_variants(work, variants);
    uint32_t used = 0;
    for (int32_t i = 0; i < count && used < capacity; i++) {
        const struct ldk_variant *v = &variants[i];
        struct ldk_tune_candidate *c = &out[used];
        memset(c, 0, sizeof *c);
        if (!ld_fmt(c->name, sizeof c->name, "own:%s", v->name))
            continue;
        for (char *p = c->name; *p; p++)
            *p = *p == ' ' ? '_' : *p;
        c->number = v->number;
        c->signature = signature_of(v, moments);
        c->tile_m = v->tile_m;
        c->tile_n = v->tile_n;
        c->tile_k = v->tile_k;
        c->splits = v->splits;
        c->threads = v->threads;
        c->shared_bytes = v->shared_bytes;
        used++;
    }
    return used;
}

int32_t ldk_work_default_number(const struct ldk_work *work)
{
    struct ldk_conv conv = work->conv;
    struct ldk_linear linear = work->linear;
    struct ldk_attention attention = work->attention;
    conv.variant = linear.variant = attention.variant = LDK_VARIANT_AUTO;
    if (ldk_work_is_attention(work))
        return ldk_attention_number(&attention);
    return ldk_work_is_conv(work) ? ldk_conv_number(&conv) : ldk_linear_number(&linear);
}

uint32_t ldk_work_default_signature(const struct ldk_work *work)
{
    struct ldk_variant variants[VARIANTS_MAX];
    const bool moments = (work->unit.epilogue & LDK_TUNE_MOMENTS) != 0;
    const int32_t number = ldk_work_default_number(work);
    const int32_t count = own_variants(work, variants);
    uint32_t signature = 0;
    int32_t alike = 0;
    for (int32_t i = 0; i < count && i < VARIANTS_MAX; i++)
        if (variants[i].number == number)
            signature = signature_of(&variants[i], moments);
    for (int32_t i = 0; i < count && i < VARIANTS_MAX; i++)
        alike += variants[i].number != LDK_VARIANT_PLAIN &&
                 signature_of(&variants[i], moments) == signature;
    return alike > 1 ? signature : 0;
}

/* ---- Everyone -------------------------------------------------------------------------------- */

/* The plain kernels are what others are checked against. They take any shape and are slow by
 * design, so they stand for election only where nothing else does. */
static uint32_t without_plain(struct ldk_tune_candidate *list, uint32_t count)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (list[i].number != LDK_VARIANT_PLAIN || count == 1)
            list[kept++] = list[i];
    }
    return kept;
}

uint32_t ldk_work_candidates(const struct ldk_work *work, struct ldk_tune_candidate *out,
                             uint32_t capacity)
{
    struct ldk_libs_way ways[LDK_LIBS_WAYS_MAX];
    uint32_t way_count = 0;
    uint32_t count = without_plain(out, ldk_work_own_candidates(work, out, capacity));
    /* Libraries are asked at the reference batch, so that every batch sees the same list. They
     * leave no moments: the norm then reads y itself, for which they are charged (tuned_bench.c).
     */
    if (work->libs && !ldk_work_is_attention(work)) {
        const struct ldk_conv conv = ldk_work_conv_at(work, LDK_TUNE_REFERENCE_BATCH);
        const struct ldk_linear linear = ldk_work_linear_at(work, LDK_TUNE_REFERENCE_BATCH);
        way_count = ldk_work_is_conv(work)
                        ? ldk_libs_conv_ways(work->libs, &conv, ways, LDK_LIBS_WAYS_MAX)
                        : ldk_libs_linear_ways(work->libs, &linear, ways, LDK_LIBS_WAYS_MAX);
    }
    for (uint32_t i = 0; i < way_count && count < capacity; i++) {
        struct ldk_tune_candidate *c = &out[count];
        memset(c, 0, sizeof *c);
        if (!ld_fmt(c->name, sizeof c->name, "%s", ways[i].name))
            continue;
        c->family = ldk_work_is_conv(work) ? LDK_TUNE_CUDNN : LDK_TUNE_CUBLASLT;
        c->signature = ld_crc32c(0, ld_span_text(c->name)) | 1U;
        count++;
    }
    return count;
}
