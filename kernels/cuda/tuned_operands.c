#include "kernels/cuda/tuned_operands.h"

#include "kernels/cuda/rt.h"
#include "kernels/tensor.h"
#include "runtime/base/arena.h"

#include <math.h>

enum {
    NOISE = 1 << 18, /* values that fill every operand again and again */
    PLACES_MAX = 8
};

/* ---- Memory ---------------------------------------------------------------------------------- */

static void drop_operands(struct ldk_operands *o)
{
    void *const all[] = {o->x0,        o->x1,           o->x2,      o->residual, o->y,
                         o->reference, o->row_add,      o->moments, o->scratch,  o->norm_gains,
                         o->norm_fold, o->norm_scratch, o->runway};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        if (all[i])
            (void)ldk_rt_free(all[i]);
    }
    ld_heap_free(o->want);
    *o = (struct ldk_operands){.turn = o->turn};
}

void ldk_work_deinit(struct ldk_work *work)
{
    drop_operands(&work->operands);
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
    struct ldk_operands *o = &work->operands;
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
        code = fill(o->x0, o->x0_bytes * o->places, rounded, NOISE * element);
    }
    if (code == LDK_OK)
        code = fill(o->x1, o->x1_bytes, rounded, NOISE * element);
    if (code == LDK_OK)
        code = fill(o->x2, o->x2_bytes, rounded, NOISE * element);
    if (code == LDK_OK && o->residual)
        code = fill(o->residual, o->y_bytes, rounded, NOISE * element);
    if (code == LDK_OK && o->row_add)
        code = fill((unsigned char *)o->row_add,
                    (size_t)o->batch * (size_t)work->conv.row_add_stride * sizeof(float), values,
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
    if (ldk_work_is_attention(work)) {
        const struct ldk_attention *a = &work->attention;
        return (struct extent){
            (size_t)a->q_rows * (size_t)a->q_stride, (size_t)a->kv_rows * (size_t)a->k_stride,
            (size_t)a->kv_rows * (size_t)a->v_stride, (size_t)a->q_rows * (size_t)a->o_stride};
    }
    if (ldk_work_is_conv(work)) {
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

/* Its groups are those of the networks; how many there are hardly counts. */
struct ldk_group_norm ldk_work_norm(const struct ldk_work *work, int32_t batch)
{
    const struct ldk_operands *o = &work->operands;
    enum { GROUPS = 32 };
    const int32_t channels = ldk_work_is_conv(work) ? work->conv.w.rows : work->linear.w.rows;
    return (struct ldk_group_norm){.c0 = channels,
                                   .batch = batch,
                                   .positions = work->unit.m,
                                   .groups = channels % GROUPS == 0 ? GROUPS : 1,
                                   .epsilon = 1e-5F,
                                   .half = LDK_NORM_MEASURE,
                                   .gamma = (void *)o->norm_gains,
                                   .beta = (void *)o->norm_gains,
                                   .fold = (void *)o->norm_fold,
                                   .workspace = o->norm_scratch,
                                   .dtype = work->unit.dtype};
}

static int prepare_norm(struct ldk_work *work, int32_t batch)
{
    struct ldk_operands *o = &work->operands;
    const struct ldk_group_norm norm = ldk_work_norm(work, batch);
    const size_t channels = (size_t)norm.c0;
    if (!ldk_work_has_norm(work))
        return LDK_OK;
    int code = alloc(&o->norm_gains, channels * sizeof(float));
    if (code == LDK_OK)
        code = alloc(&o->norm_fold, (size_t)batch * channels * 4 * sizeof(float));
    if (code == LDK_OK)
        code = alloc(&o->norm_scratch, ldk_group_norm_workspace(&norm));
    return code == LDK_OK ? ldk_rt_memset(o->norm_gains, 0, channels * sizeof(float), NULL) : code;
}

int ldk_work_prepare(struct ldk_work *work, int32_t batch)
{
    struct ldk_operands *o = &work->operands;
    if (batch <= o->batch)
        return LDK_OK;
    drop_operands(o);
    const struct extent extent = extent_of(work);
    const size_t images = (size_t)batch;
    const size_t element = act_bytes(work);
    const bool residual = (work->unit.epilogue & LDK_TUNE_RESIDUAL) != 0;
    o->batch = batch;
    o->x0_bytes = images * extent.x0 * element;
    o->x1_bytes = images * extent.x1 * element;
    o->x2_bytes = images * extent.x2 * element;
    o->y_bytes =
        images * extent.y * (work->unit.epilogue & LDK_TUNE_F32_OUT ? sizeof(float) : element);
    const size_t both = o->x0_bytes + o->y_bytes;
    const size_t wanted = 2 * work->l2_bytes / (both ? both : 1) + 1;
    o->places = wanted < PLACES_MAX ? (uint32_t)wanted : PLACES_MAX;
    unsigned char *row = NULL;
    int code = alloc(&o->x0, o->x0_bytes * o->places);
    if (code == LDK_OK)
        code = alloc(&o->x1, o->x1_bytes);
    if (code == LDK_OK)
        code = alloc(&o->x2, o->x2_bytes);
    if (code == LDK_OK)
        code = alloc(&o->y, o->y_bytes * o->places);
    if (code == LDK_OK)
        code = alloc(&o->reference, o->y_bytes);
    if (code == LDK_OK && residual)
        code = alloc(&o->residual, o->y_bytes);
    if (code == LDK_OK && ldk_work_is_conv(work) && work->conv.row_add) {
        code = alloc(&row, images * (size_t)work->conv.row_add_stride * sizeof(float));
        o->row_add = (void *)row;
    }
    if (code == LDK_OK)
        code = prepare_norm(work, batch);
    if (code == LDK_OK)
        code = upload_operands(work);
    if (code != LDK_OK)
        drop_operands(o);
    return code;
}

/* As large as real ones: an output has the deviation of its inputs. */
int ldk_work_own_weight(struct ldk_work *work)
{
    if (ldk_work_is_attention(work))
        return LDK_OK;
    struct ldk_weight *w = ldk_work_is_conv(work) ? &work->conv.w : &work->linear.w;
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

/* ---- What launches ask for ------------------------------------------------------------------- */

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

int ldk_work_need_scratch(struct ldk_work *work, size_t bytes)
{
    struct ldk_operands *o = &work->operands;
    return need(&o->scratch, &o->scratch_bytes, bytes);
}

int ldk_work_need_moments(struct ldk_work *work, int32_t batch, int32_t tiles, int32_t channels)
{
    struct ldk_operands *o = &work->operands;
    void *memory = o->moments;
    const size_t bytes = (size_t)batch * (size_t)tiles * (size_t)channels * 4 * sizeof(float);
    const int code = need(&memory, &o->moments_bytes, bytes);
    o->moments = memory;
    return code;
}

int ldk_work_lay_runway(struct ldk_work *work)
{
    struct ldk_operands *o = &work->operands;
    enum { L2_TIMES = 4 };
    if (!o->runway && alloc(&o->runway, L2_TIMES * work->l2_bytes) == LDK_OK)
        o->runway_bytes = L2_TIMES * work->l2_bytes;
    if (!o->runway) {
        (void)ldk_rt_last_error();
        return LDK_OK;
    }
    return ldk_rt_memset(o->runway, 0, o->runway_bytes, NULL);
}
