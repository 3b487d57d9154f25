#include "kernels/cuda/tuned_bench.h"

#include "kernels/cuda/libs.h"
#include "kernels/cuda/rt.h"
#include "kernels/tensor.h"
#include "runtime/base/arena.h"
#include "runtime/base/bytes.h"
#include "runtime/base/id.h"
#include "runtime/base/log.h"

#include <math.h>
#include <string.h>

enum {
    NOISE = 1 << 18, /* values that fill every operand again and again */
    VARIANTS_MAX = 64,
    PLACES_MAX = 8,
    CHECK_BATCH = 2 /* the plain kernel is slow, and more rows prove nothing */
};

/* Relative L2 between a candidate and the plain kernel: the limit of kernels.md 15 for each of the
 * two (both round once), and half as much again where fp16 accumulators take part. */
static double limit_of(const struct ldk_tune_unit *unit)
{
    if (unit->op == LDK_TUNE_ATTENTION)
        return unit->dtype == LDK_BF16 ? 2 * 1e-2 : 2 * 2e-3;
    if (unit->epilogue & LDK_TUNE_FP16_ACCUMULATE)
        return 4e-3 + 1e-3;
    return unit->dtype == LDK_BF16 ? 2 * 6e-3 : 2 * 1e-3;
}

/* ---- Candidates ------------------------------------------------------------------------------ */

static bool is_conv(const struct ldk_work *work)
{
    return work->unit.op == LDK_TUNE_CONV;
}

static bool is_attention(const struct ldk_work *work)
{
    return work->unit.op == LDK_TUNE_ATTENTION;
}

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
    if (is_attention(work))
        return ldk_attention_number(&attention);
    return is_conv(work) ? ldk_conv_number(&conv) : ldk_linear_number(&linear);
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

/* The operator at another batch, without operands. */
static struct ldk_conv conv_at(const struct ldk_work *work, int32_t batch)
{
    struct ldk_conv c = work->conv;
    c.batch = batch;
    c.moments = NULL;
    return c;
}

static struct ldk_linear linear_at(const struct ldk_work *work, int32_t batch)
{
    struct ldk_linear l = work->linear;
    l.rows = batch * l.rows_per_image;
    l.moments = NULL;
    return l;
}

static struct ldk_attention attention_at(const struct ldk_work *work, int32_t batch)
{
    struct ldk_attention a = work->attention;
    a.batch = batch;
    a.kv_len = NULL; /* every key counts */
    return a;
}

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

static uint32_t candidates(void *ctx, const struct ldk_tune_unit *unit,
                           struct ldk_tune_candidate *out, uint32_t capacity)
{
    const struct ldk_work *work = ctx;
    struct ldk_libs_way ways[LDK_LIBS_WAYS_MAX];
    uint32_t way_count = 0;
    (void)unit;
    uint32_t count = without_plain(out, ldk_work_own_candidates(work, out, capacity));
    /* Libraries are asked at the reference batch, so that every batch sees the same list. They
     * leave no moments: the norm then reads y itself, for which they are charged (follow). */
    if (work->libs && !is_attention(work)) {
        const struct ldk_conv conv = conv_at(work, LDK_TUNE_REFERENCE_BATCH);
        const struct ldk_linear linear = linear_at(work, LDK_TUNE_REFERENCE_BATCH);
        way_count = is_conv(work)
                        ? ldk_libs_conv_ways(work->libs, &conv, ways, LDK_LIBS_WAYS_MAX)
                        : ldk_libs_linear_ways(work->libs, &linear, ways, LDK_LIBS_WAYS_MAX);
    }
    for (uint32_t i = 0; i < way_count && count < capacity; i++) {
        struct ldk_tune_candidate *c = &out[count];
        memset(c, 0, sizeof *c);
        if (!ld_fmt(c->name, sizeof c->name, "%s", ways[i].name))
            continue;
        c->family = is_conv(work) ? LDK_TUNE_CUDNN : LDK_TUNE_CUBLASLT;
        c->signature = ld_crc32c(0, ld_span_text(c->name)) | 1U;
        count++;
    }
    return count;
}

/* ---- Operands -------------------------------------------------------------------------------- */

static void drop_operands(struct ldk_work *work)
{
    void *const all[] = {work->x0,      work->x1,         work->x2,        work->residual,
                         work->y,       work->reference,  work->row_add,   work->moments,
                         work->scratch, work->norm_gains, work->norm_fold, work->norm_scratch,
                         work->runway};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        if (all[i])
            (void)ldk_rt_free(all[i]);
    }
    ld_heap_free(work->want);
    work->want = NULL;
    work->x0 = work->x1 = work->x2 = work->residual = work->y = work->reference = NULL;
    work->row_add = work->moments = NULL;
    work->norm_gains = work->norm_fold = work->norm_scratch = NULL;
    work->scratch = NULL;
    work->runway = NULL;
    work->scratch_bytes = work->moments_bytes = work->runway_bytes = 0;
    work->batch = 0;
}

void ldk_work_deinit(struct ldk_work *work)
{
    drop_operands(work);
    if (work->weight)
        (void)ldk_rt_free(work->weight);
    work->weight = NULL;
}

static int alloc(unsigned char **out, size_t bytes)
{
    void *memory = NULL;
    const int code = bytes ? ldk_rt_malloc(&memory, bytes) : LDK_OK;
    *out = memory;
    return code;
}

/* `bytes` of the same values again and again: the first piece from the host, then the filled part
 * doubles. Image 0 of every batch gets equal bytes. */
static int fill(unsigned char *target, size_t bytes, const void *pattern, size_t pattern_bytes)
{
    size_t done = bytes < pattern_bytes ? bytes : pattern_bytes;
    int code = bytes ? ldk_rt_upload(target, pattern, done, NULL) : LDK_OK;
    while (code == LDK_OK && done < bytes) {
        const size_t piece = done < bytes - done ? done : bytes - done;
        code = ldk_rt_copy(target + done, target, piece, NULL);
        done += piece;
    }
    return code;
}

/* xorshift32 (Marsaglia 2003), four uniform numbers a value: nearly normal, deviation 1. */
static float noise(uint32_t *state)
{
    float sum = 0;
    for (int i = 0; i < 4; i++) {
        *state ^= *state << 13;
        *state ^= *state >> 17;
        *state ^= *state << 5;
        sum += (float)(*state >> 8) * (1.0F / 16777216.0F) - 0.5F;
    }
    return sum * 1.7320508F; /* sqrt(12 / 4) */
}

static size_t act_bytes(const struct ldk_work *work)
{
    return work->unit.dtype == LDK_F32 ? sizeof(float) : sizeof(uint16_t);
}

static int upload_operands(struct ldk_work *work)
{
    const size_t element = act_bytes(work);
    float *values = ld_heap_calloc(NOISE, sizeof *values);
    void *rounded = ld_heap_calloc(NOISE, element);
    uint32_t state = 2463534242U;
    int code = values && rounded ? LDK_OK : LDK_E_UNSUPPORTED;
    for (size_t i = 0; code == LDK_OK && i < NOISE; i++)
        values[i] = noise(&state);
    if (code == LDK_OK) {
        ld_dtype_from_f32(rounded, values,
                          work->unit.dtype == LDK_BF16  ? LD_DTYPE_BF16
                          : work->unit.dtype == LDK_F16 ? LD_DTYPE_F16
                                                        : LD_DTYPE_F32,
                          NOISE);
        code = fill(work->x0, work->x0_bytes * work->places, rounded, NOISE * element);
    }
    if (code == LDK_OK)
        code = fill(work->x1, work->x1_bytes, rounded, NOISE * element);
    if (code == LDK_OK)
        code = fill(work->x2, work->x2_bytes, rounded, NOISE * element);
    if (code == LDK_OK && work->residual)
        code = fill(work->residual, work->y_bytes, rounded, NOISE * element);
    if (code == LDK_OK && work->row_add)
        code = fill((unsigned char *)work->row_add,
                    (size_t)work->batch * (size_t)work->conv.row_add_stride * sizeof(float), values,
                    NOISE * sizeof(float));
    if (code == LDK_OK)
        code = ldk_rt_stream_synchronize(NULL);
    ld_heap_free(rounded);
    ld_heap_free(values);
    return code;
}

/* Elements of one image. */
struct extent {
    size_t x0, x1, x2, y;
};

static struct extent extent_of(const struct ldk_work *work)
{
    if (is_attention(work)) {
        const struct ldk_attention *a = &work->attention;
        return (struct extent){
            (size_t)a->q_rows * (size_t)a->q_stride, (size_t)a->kv_rows * (size_t)a->k_stride,
            (size_t)a->kv_rows * (size_t)a->v_stride, (size_t)a->q_rows * (size_t)a->o_stride};
    }
    if (is_conv(work)) {
        const struct ldk_conv *c = &work->conv;
        const size_t in = (size_t)c->in_h * (size_t)c->in_w;
        return (struct extent){in * (size_t)c->c0, in * (size_t)c->c1, 0,
                               (size_t)c->out_h * (size_t)c->out_w * (size_t)c->w.rows};
    }
    const struct ldk_linear *l = &work->linear;
    const size_t rows = (size_t)l->rows_per_image;
    return (struct extent){rows * (size_t)l->c0, rows * (size_t)l->c1, 0,
                           rows * (size_t)(l->w.geglu ? l->w.rows / 2 : l->w.rows)};
}

/* ---- The norm that reads y next -------------------------------------------------------------- */

static bool has_norm(const struct ldk_work *work)
{
    return (work->unit.epilogue & LDK_TUNE_MOMENTS) != 0;
}

/* Up to where it knows means and deviations. Its groups are those of the networks; how many there
 * are hardly counts. */
static struct ldk_group_norm norm_of(const struct ldk_work *work, int32_t batch)
{
    enum { GROUPS = 32 };
    const int32_t channels = is_conv(work) ? work->conv.w.rows : work->linear.w.rows;
    return (struct ldk_group_norm){.c0 = channels,
                                   .batch = batch,
                                   .positions = work->unit.m,
                                   .groups = channels % GROUPS == 0 ? GROUPS : 1,
                                   .epsilon = 1e-5F,
                                   .half = LDK_NORM_MEASURE,
                                   .gamma = (void *)work->norm_gains,
                                   .beta = (void *)work->norm_gains,
                                   .fold = (void *)work->norm_fold,
                                   .workspace = work->norm_scratch,
                                   .dtype = work->unit.dtype};
}

static int prepare_norm(struct ldk_work *work, int32_t batch)
{
    const struct ldk_group_norm norm = norm_of(work, batch);
    const size_t channels = (size_t)norm.c0;
    if (!has_norm(work))
        return LDK_OK;
    int code = alloc(&work->norm_gains, channels * sizeof(float));
    if (code == LDK_OK)
        code = alloc(&work->norm_fold, (size_t)batch * channels * 4 * sizeof(float));
    if (code == LDK_OK)
        code = alloc(&work->norm_scratch, ldk_group_norm_workspace(&norm));
    return code == LDK_OK ? ldk_rt_memset(work->norm_gains, 0, channels * sizeof(float), NULL)
                          : code;
}

/* Memory and random operands for `batch`; what was there for a smaller one is dropped. */
static int prepare(struct ldk_work *work, int32_t batch)
{
    if (batch <= work->batch)
        return LDK_OK;
    drop_operands(work);
    const struct extent extent = extent_of(work);
    const size_t images = (size_t)batch;
    const size_t element = act_bytes(work);
    const bool residual = (work->unit.epilogue & LDK_TUNE_RESIDUAL) != 0;
    work->batch = batch;
    work->x0_bytes = images * extent.x0 * element;
    work->x1_bytes = images * extent.x1 * element;
    work->x2_bytes = images * extent.x2 * element;
    work->y_bytes =
        images * extent.y * (work->unit.epilogue & LDK_TUNE_F32_OUT ? sizeof(float) : element);
    /* Copies of x0 and y that together leave the L2 behind. */
    const size_t both = work->x0_bytes + work->y_bytes;
    const size_t wanted = 2 * work->l2_bytes / (both ? both : 1) + 1;
    work->places = wanted < PLACES_MAX ? (uint32_t)wanted : PLACES_MAX;
    unsigned char *row = NULL;
    int code = alloc(&work->x0, work->x0_bytes * work->places);
    if (code == LDK_OK)
        code = alloc(&work->x1, work->x1_bytes);
    if (code == LDK_OK)
        code = alloc(&work->x2, work->x2_bytes);
    if (code == LDK_OK)
        code = alloc(&work->y, work->y_bytes * work->places);
    if (code == LDK_OK)
        code = alloc(&work->reference, work->y_bytes);
    if (code == LDK_OK && residual)
        code = alloc(&work->residual, work->y_bytes);
    if (code == LDK_OK && is_conv(work) && work->conv.row_add) {
        code = alloc(&row, images * (size_t)work->conv.row_add_stride * sizeof(float));
        work->row_add = (void *)row;
    }
    if (code == LDK_OK)
        code = prepare_norm(work, batch);
    if (code == LDK_OK)
        code = upload_operands(work);
    if (code != LDK_OK)
        drop_operands(work);
    return code;
}

/* As large as real ones: an output has the deviation of its inputs. */
int ldk_work_own_weight(struct ldk_work *work)
{
    if (is_attention(work))
        return LDK_OK;
    struct ldk_weight *w = is_conv(work) ? &work->conv.w : &work->linear.w;
    const size_t line = (size_t)w->k_padded * sizeof(uint16_t);
    const size_t rows = (size_t)w->rows_padded;
    const size_t data = rows * (size_t)w->taps * line;
    const size_t phase = w->phase ? 4 * rows * 4 * line : 0;
    const size_t bias = rows * sizeof(float);
    const float deviation = 1.0F / sqrtf((float)w->k * (float)w->taps);
    float *values = ld_heap_calloc(NOISE, sizeof *values);
    void *rounded = ld_heap_calloc(NOISE, sizeof(uint16_t));
    uint32_t state = 362436069U;
    LD_ASSERT(w->dtype != LDK_F32 && !work->weight);
    int code = values && rounded ? alloc(&work->weight, data + phase + bias) : LDK_E_UNSUPPORTED;
    for (size_t i = 0; code == LDK_OK && i < NOISE; i++)
        values[i] = deviation * noise(&state);
    if (code == LDK_OK) {
        ld_dtype_from_f32(rounded, values, w->dtype == LDK_BF16 ? LD_DTYPE_BF16 : LD_DTYPE_F16,
                          NOISE);
        code = fill(work->weight, data + phase, rounded, NOISE * sizeof(uint16_t));
    }
    if (code == LDK_OK)
        code = fill(work->weight + data + phase, bias, values, NOISE * sizeof *values);
    if (code == LDK_OK)
        code = ldk_rt_stream_synchronize(NULL);
    if (code == LDK_OK) {
        w->data = work->weight;
        w->phase = w->phase ? work->weight + data : NULL;
        w->bias = (const float *)(const void *)(work->weight + data + phase);
        w->bias16 = NULL;
    }
    ld_heap_free(rounded);
    ld_heap_free(values);
    return code;
}

/* ---- Running --------------------------------------------------------------------------------- */

static int need(void **memory, size_t *have, size_t bytes)
{
    if (bytes <= *have)
        return LDK_OK;
    if (*memory)
        (void)ldk_rt_free(*memory);
    *memory = NULL;
    *have = 0;
    const int code = ldk_rt_malloc(memory, bytes);
    if (code == LDK_OK)
        *have = bytes;
    return code;
}

static int need_moments(struct ldk_work *work, int32_t batch, int32_t tiles, int32_t channels)
{
    void *memory = work->moments;
    const size_t bytes = (size_t)batch * (size_t)tiles * (size_t)channels * 4 * sizeof(float);
    const int code = need(&memory, &work->moments_bytes, bytes);
    work->moments = memory;
    return code;
}

/* In place, y starts as the residual does. */
static int residual_in_place(const struct ldk_work *work, unsigned char *y, const void **residual)
{
    if (!(work->unit.epilogue & LDK_TUNE_IN_PLACE))
        return LDK_OK;
    *residual = y;
    return ldk_rt_copy(y, work->residual, work->y_bytes, NULL);
}

static int launch_conv(struct ldk_work *work, const struct ldk_tune_candidate *candidate,
                       int32_t variant, int32_t batch, const unsigned char *x0, unsigned char *y)
{
    struct ldk_conv c = conv_at(work, batch);
    c.x0 = x0;
    c.x1 = c.c1 ? work->x1 : NULL;
    c.row_add = c.row_add ? work->row_add : NULL;
    c.row_add_f32 = true;
    c.residual = work->residual;
    c.y = y;
    c.variant = variant;
    int code = residual_in_place(work, y, &c.residual);
    if (code != LDK_OK)
        return code;
    if (candidate && candidate->family != LDK_TUNE_OWN) {
        struct ldk_libs_way way;
        return ld_fmt(way.name, sizeof way.name, "%s", candidate->name)
                   ? ldk_libs_conv(work->libs, &way, &c, NULL)
                   : LDK_E_INVALID;
    }
    if (has_norm(work)) {
        const int32_t tiles = ldk_conv_tiles(&c);
        code = need_moments(work, batch, tiles, c.w.rows);
        c.moments = tiles > 0 ? work->moments : NULL;
    }
    if (code == LDK_OK)
        code = need(&work->scratch, &work->scratch_bytes, ldk_conv_workspace(&c));
    c.workspace = work->scratch;
    return code == LDK_OK ? ldk_conv2d(&c, NULL) : code;
}

static int launch_linear(struct ldk_work *work, const struct ldk_tune_candidate *candidate,
                         int32_t variant, int32_t batch, const unsigned char *x0, unsigned char *y)
{
    struct ldk_linear l = linear_at(work, batch);
    l.x0 = x0;
    l.x1 = l.c1 ? work->x1 : NULL;
    l.residual = work->residual;
    l.y = y;
    l.variant = variant;
    int code = residual_in_place(work, y, &l.residual);
    if (code != LDK_OK)
        return code;
    if (candidate && candidate->family != LDK_TUNE_OWN) {
        struct ldk_libs_way way;
        return ld_fmt(way.name, sizeof way.name, "%s", candidate->name)
                   ? ldk_libs_linear(work->libs, &way, &l, NULL)
                   : LDK_E_INVALID;
    }
    if (has_norm(work)) {
        const int32_t tiles = ldk_linear_tiles(&l);
        code = need_moments(work, batch, tiles, l.w.rows);
        l.moments = tiles > 0 ? work->moments : NULL;
    }
    if (code == LDK_OK)
        code = need(&work->scratch, &work->scratch_bytes, ldk_linear_workspace(&l));
    l.workspace = work->scratch;
    return code == LDK_OK ? ldk_linear(&l, NULL) : code;
}

static int launch_attention(struct ldk_work *work, int32_t variant, int32_t batch,
                            const unsigned char *x0, unsigned char *y)
{
    struct ldk_attention a = attention_at(work, batch);
    a.q = x0;
    a.k = work->x1;
    a.v = work->x2;
    a.o = y;
    a.variant = variant;
    const int code = need(&work->scratch, &work->scratch_bytes, ldk_attention_workspace(&a));
    a.workspace = work->scratch;
    return code == LDK_OK ? ldk_attention(&a, NULL) : code;
}

static int launch(struct ldk_work *work, const struct ldk_tune_candidate *candidate,
                  int32_t variant, int32_t batch, const unsigned char *x0, unsigned char *y)
{
    if (is_attention(work))
        return launch_attention(work, variant, batch, x0, y);
    return is_conv(work) ? launch_conv(work, candidate, variant, batch, x0, y)
                         : launch_linear(work, candidate, variant, batch, x0, y);
}

/*
 * What the norm has left to do. Moments spare it a reading of y, so who leaves none is timed with
 * that reading, and who leaves them with their sum.
 */
static int follow(struct ldk_work *work, const struct ldk_tune_candidate *candidate, int32_t batch,
                  const unsigned char *y)
{
    struct ldk_group_norm norm = norm_of(work, batch);
    struct ldk_conv conv = work->conv;
    struct ldk_linear linear = work->linear;
    if (!has_norm(work))
        return LDK_OK;
    conv.variant = linear.variant = candidate->number;
    if (candidate->family == LDK_TUNE_OWN)
        norm.tiles0 = is_conv(work) ? ldk_conv_tiles(&conv) : ldk_linear_tiles(&linear);
    norm.moments0 = norm.tiles0 > 0 ? work->moments : NULL;
    norm.x0 = y;
    return ldk_group_norm(&norm, NULL);
}

/* ---- What the tuner asks --------------------------------------------------------------------- */

/* |a - b| / |b| of downloaded outputs; infinity where a value is none. */
static double distance(const struct ldk_work *work, const void *a, const void *b, size_t bytes)
{
    enum { PIECE = 2048 };
    const enum ld_dtype dtype =
        (work->unit.epilogue & LDK_TUNE_F32_OUT) || work->unit.dtype == LDK_F32 ? LD_DTYPE_F32
        : work->unit.dtype == LDK_BF16                                          ? LD_DTYPE_BF16
                                                                                : LD_DTYPE_F16;
    const size_t element = ld_dtype_size(dtype);
    const size_t count = bytes / element;
    float x[PIECE];
    float y[PIECE];
    double difference = 0;
    double size = 0;
    for (size_t first = 0; first < count; first += PIECE) {
        const size_t piece = count - first < PIECE ? count - first : PIECE;
        ld_dtype_to_f32(x, (const uint8_t *)a + first * element, dtype, piece);
        ld_dtype_to_f32(y, (const uint8_t *)b + first * element, dtype, piece);
        for (size_t i = 0; i < piece; i++) {
            difference += ((double)x[i] - (double)y[i]) * ((double)x[i] - (double)y[i]);
            size += (double)y[i] * (double)y[i];
        }
    }
    const double relative = size > 0 ? sqrt(difference / size) : sqrt(difference);
    return isfinite(relative) ? relative : (double)INFINITY;
}

/* The first images of y on the host, waited for. */
static int fetch(void *out, const void *y, size_t bytes)
{
    const int code = ldk_rt_download(out, y, bytes, NULL);
    return code == LDK_OK ? ldk_rt_stream_synchronize(NULL) : code;
}

/* What the judge makes of the operands: once for all candidates. */
static int reference(struct ldk_work *work, int32_t batch, size_t bytes)
{
    if (work->want)
        return LDK_OK;
    const int32_t judge = work->same_bits ? LDK_VARIANT_AUTO : LDK_VARIANT_PLAIN;
    void *want = ld_heap_alloc(bytes);
    int code =
        want ? launch(work, NULL, judge, batch, work->x0, work->reference) : LDK_E_UNSUPPORTED;
    if (code == LDK_OK)
        code = fetch(want, work->reference, bytes);
    if (code == LDK_OK)
        work->want = want;
    else
        ld_heap_free(want);
    return code;
}

static int check(void *ctx, const struct ldk_tune_unit *unit,
                 const struct ldk_tune_candidate *candidate, bool *equal)
{
    struct ldk_work *work = ctx;
    *equal = false;
    int code = prepare(work, unit->batch);
    if (code != LDK_OK)
        return code;
    /* Of the batch that the operands were made for, so that `want` holds for every candidate. */
    const int32_t batch = work->batch < CHECK_BATCH ? work->batch : CHECK_BATCH;
    const size_t bytes = work->y_bytes / (size_t)work->batch * (size_t)batch;
    void *got = ld_heap_alloc(bytes);
    code = got ? reference(work, batch, bytes) : LDK_E_UNSUPPORTED;
    if (code == LDK_OK)
        code = ldk_rt_memset(work->y, 0xFF, bytes, NULL);
    if (code == LDK_OK)
        code = launch(work, candidate, candidate->number, batch, work->x0, work->y);
    if (code == LDK_OK)
        code = fetch(got, work->y, bytes);
    if (code == LDK_OK)
        *equal = work->same_bits ? memcmp(got, work->want, bytes) == 0
                                 : distance(work, got, work->want, bytes) <= limit_of(unit);
    ld_heap_free(got);
    return code;
}

/*
 * Something to do for the device while the host prepares the launch that is timed: a library's call
 * takes the host longer than a small layer takes the device, and a recorded plan launches without
 * it. Four times the L2 take some 60 microseconds and leave nothing in it. Without memory for it
 * times are less good, not wrong.
 */
static int lay_runway(struct ldk_work *work)
{
    enum { L2_TIMES = 4 };
    if (!work->runway && alloc(&work->runway, L2_TIMES * work->l2_bytes) == LDK_OK)
        work->runway_bytes = L2_TIMES * work->l2_bytes;
    if (!work->runway) {
        (void)ldk_rt_last_error();
        return LDK_OK;
    }
    return ldk_rt_memset(work->runway, 0, work->runway_bytes, NULL);
}

static int run(void *ctx, const struct ldk_tune_unit *unit,
               const struct ldk_tune_candidate *candidate, double *ms)
{
    struct ldk_work *work = ctx;
    ldk_event events[2] = {NULL, NULL};
    float elapsed = 0;
    int code = prepare(work, unit->batch);
    const size_t place = code == LDK_OK ? work->turn++ % work->places : 0;
    unsigned char *y = code == LDK_OK ? work->y + place * work->y_bytes : NULL;
    for (int i = 0; code == LDK_OK && i < 2; i++)
        code = ldk_rt_event_create(&events[i]);
    if (code == LDK_OK)
        code = lay_runway(work);
    if (code == LDK_OK)
        code = ldk_rt_event_record(events[0], NULL);
    if (code == LDK_OK)
        code = launch(work, candidate, candidate->number, unit->batch,
                      work->x0 + place * work->x0_bytes, y);
    if (code == LDK_OK)
        code = follow(work, candidate, unit->batch, y);
    if (code == LDK_OK)
        code = ldk_rt_event_record(events[1], NULL);
    if (code == LDK_OK)
        code = ldk_rt_event_synchronize(events[1]);
    if (code == LDK_OK)
        code = ldk_rt_event_elapsed(events[0], events[1], &elapsed);
    for (int i = 0; i < 2; i++) {
        if (events[i])
            (void)ldk_rt_event_destroy(events[i]);
    }
    *ms = (double)elapsed;
    return code;
}

static int bits(void *ctx, const struct ldk_tune_unit *unit,
                const struct ldk_tune_candidate *candidate, uint64_t *hash)
{
    struct ldk_work *work = ctx;
    uint8_t digest[LD_SHA256_BYTES];
    int code = prepare(work, unit->batch);
    if (code != LDK_OK)
        return code;
    const size_t bytes = work->y_bytes / (size_t)work->batch;
    void *image = ld_heap_alloc(bytes);
    code = image ? launch(work, candidate, candidate->number, unit->batch, work->x0, work->y)
                 : LDK_E_UNSUPPORTED;
    if (code == LDK_OK)
        code = ldk_rt_download(image, work->y, bytes, NULL);
    if (code == LDK_OK)
        code = ldk_rt_stream_synchronize(NULL);
    if (code == LDK_OK) {
        ld_sha256(ld_span_of(image, bytes), digest);
        *hash = ld_read_u64le(digest);
    }
    ld_heap_free(image);
    return code;
}

static void write_log(void *ctx, const char *sentence)
{
    (void)ctx;
    LD_LOG(LD_LOG_WARN, "tune", sentence);
}

struct ldk_tune_bench ldk_work_bench(struct ldk_work *work)
{
    return (struct ldk_tune_bench){work, candidates, check, run, bits, write_log};
}
