#include "kernels/cuda/tuned_bench.h"

#include "kernels/cuda/libs.h"
#include "kernels/cuda/rt.h"
#include "kernels/cuda/tuned_candidates.h"
#include "kernels/cuda/tuned_operands.h"
#include "kernels/tensor.h"
#include "runtime/base/arena.h"
#include "runtime/base/bytes.h"
#include "runtime/base/id.h"
#include "runtime/base/log.h"

#include <math.h>
#include <string.h>

enum { CHECK_BATCH = 2 /* the plain kernel is slow, and more rows prove nothing */ };

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

/* ---- Running --------------------------------------------------------------------------------- */

static struct ldk_attention attention_at(const struct ldk_work *work, int32_t batch)
{
    struct ldk_attention a = work->attention;
    a.batch = batch;
    a.kv_len = NULL; /* every key counts */
    return a;
}

/* In place, y starts as the residual does. */
static int residual_in_place(const struct ldk_work *work, unsigned char *y, const void **residual)
{
    if (!(work->unit.epilogue & LDK_TUNE_IN_PLACE))
        return LDK_OK;
    *residual = y;
    return ldk_rt_copy(y, work->operands.residual, work->operands.y_bytes, NULL);
}

static int launch_conv(struct ldk_work *work, const struct ldk_tune_candidate *candidate,
                       int32_t variant, int32_t batch, const unsigned char *x0, unsigned char *y)
{
    struct ldk_conv c = ldk_work_conv_at(work, batch);
    c.x0 = x0;
    c.x1 = c.c1 ? work->operands.x1 : NULL;
    c.row_add = c.row_add ? work->operands.row_add : NULL;
    c.row_add_f32 = true;
    c.residual = work->operands.residual;
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
    if (ldk_work_has_norm(work)) {
        const int32_t tiles = ldk_conv_tiles(&c);
        code = ldk_work_need_moments(work, batch, tiles, c.w.rows);
        c.moments = tiles > 0 ? work->operands.moments : NULL;
    }
    if (code == LDK_OK)
        code = ldk_work_need_scratch(work, ldk_conv_workspace(&c));
    c.workspace = work->operands.scratch;
    return code == LDK_OK ? ldk_conv2d(&c, NULL) : code;
}

static int launch_linear(struct ldk_work *work, const struct ldk_tune_candidate *candidate,
                         int32_t variant, int32_t batch, const unsigned char *x0, unsigned char *y)
{
    struct ldk_linear l = ldk_work_linear_at(work, batch);
    l.x0 = x0;
    l.x1 = l.c1 ? work->operands.x1 : NULL;
    l.residual = work->operands.residual;
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
    if (ldk_work_has_norm(work)) {
        const int32_t tiles = ldk_linear_tiles(&l);
        code = ldk_work_need_moments(work, batch, tiles, l.w.rows);
        l.moments = tiles > 0 ? work->operands.moments : NULL;
    }
    if (code == LDK_OK)
        code = ldk_work_need_scratch(work, ldk_linear_workspace(&l));
    l.workspace = work->operands.scratch;
    return code == LDK_OK ? ldk_linear(&l, NULL) : code;
}

static int launch_attention(struct ldk_work *work, int32_t variant, int32_t batch,
                            const unsigned char *x0, unsigned char *y)
{
    struct ldk_attention a = attention_at(work, batch);
    a.q = x0;
    a.k = work->operands.x1;
    a.v = work->operands.x2;
    a.o = y;
    a.variant = variant;
    const int code = ldk_work_need_scratch(work, ldk_attention_workspace(&a));
    a.workspace = work->operands.scratch;
    return code == LDK_OK ? ldk_attention(&a, NULL) : code;
}

static int launch(struct ldk_work *work, const struct ldk_tune_candidate *candidate,
                  int32_t variant, int32_t batch, const unsigned char *x0, unsigned char *y)
{
    if (ldk_work_is_attention(work))
        return launch_attention(work, variant, batch, x0, y);
    return ldk_work_is_conv(work) ? launch_conv(work, candidate, variant, batch, x0, y)
                                  : launch_linear(work, candidate, variant, batch, x0, y);
}

/*
 * What the norm has left to do. Moments spare it a reading of y, so who leaves none is timed with
 * that reading, and who leaves them with their sum.
 */
static int follow(struct ldk_work *work, const struct ldk_tune_candidate *candidate, int32_t batch,
                  const unsigned char *y)
{
    struct ldk_group_norm norm = ldk_work_norm(work, batch);
    struct ldk_conv conv = work->conv;
    struct ldk_linear linear = work->linear;
    if (!ldk_work_has_norm(work))
        return LDK_OK;
    conv.variant = linear.variant = candidate->number;
    if (candidate->family == LDK_TUNE_OWN)
        norm.tiles0 = ldk_work_is_conv(work) ? ldk_conv_tiles(&conv) : ldk_linear_tiles(&linear);
    norm.moments0 = norm.tiles0 > 0 ? work->operands.moments : NULL;
    norm.x0 = y;
    return ldk_group_norm(&norm, NULL);
}

/* ---- What the tuner asks --------------------------------------------------------------------- */

static uint32_t candidates(void *ctx, const struct ldk_tune_unit *unit,
                           struct ldk_tune_candidate *out, uint32_t capacity)
{
    (void)unit; /* the work's own */
    return ldk_work_candidates(ctx, out, capacity);
}

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
    struct ldk_operands *o = &work->operands;
    if (o->want)
        return LDK_OK;
    const int32_t judge = work->same_bits ? LDK_VARIANT_AUTO : LDK_VARIANT_PLAIN;
    void *want = ld_heap_alloc(bytes);
    int code = want ? launch(work, NULL, judge, batch, o->x0, o->reference) : LDK_E_UNSUPPORTED;
    if (code == LDK_OK)
        code = fetch(want, o->reference, bytes);
    if (code == LDK_OK)
        o->want = want;
    else
        ld_heap_free(want);
    return code;
}

static int check(void *ctx, const struct ldk_tune_unit *unit,
                 const struct ldk_tune_candidate *candidate, bool *equal)
{
    struct ldk_work *work = ctx;
    const struct ldk_operands *o = &work->operands;
    *equal = false;
    int code = ldk_work_prepare(work, unit->batch);
    if (code != LDK_OK)
        return code;
    /* Of the batch that the operands were made for, so that `want` holds for every candidate. */
    const int32_t batch = o->batch < CHECK_BATCH ? o->batch : CHECK_BATCH;
    const size_t bytes = o->y_bytes / (size_t)o->batch * (size_t)batch;
    void *got = ld_heap_alloc(bytes);
    code = got ? reference(work, batch, bytes) : LDK_E_UNSUPPORTED;
    if (code == LDK_OK)
        code = ldk_rt_memset(o->y, 0xFF, bytes, NULL);
    if (code == LDK_OK)
        code = launch(work, candidate, candidate->number, batch, o->x0, o->y);
    if (code == LDK_OK)
        code = fetch(got, o->y, bytes);
    if (code == LDK_OK)
        *equal = work->same_bits ? memcmp(got, o->want, bytes) == 0
                                 : distance(work, got, o->want, bytes) <= limit_of(unit);
    ld_heap_free(got);
    return code;
}

static int run(void *ctx, const struct ldk_tune_unit *unit,
               const struct ldk_tune_candidate *candidate, double *ms)
{
    struct ldk_work *work = ctx;
    struct ldk_operands *o = &work->operands;
    ldk_event events[2] = {NULL, NULL};
    float elapsed = 0;
    int code = ldk_work_prepare(work, unit->batch);
    const size_t place = code == LDK_OK ? o->turn++ % o->places : 0;
    unsigned char *y = code == LDK_OK ? o->y + place * o->y_bytes : NULL;
    for (int i = 0; code == LDK_OK && i < 2; i++)
        code = ldk_rt_event_create(&events[i]);
    if (code == LDK_OK)
        code = ldk_work_lay_runway(work);
    if (code == LDK_OK)
        code = ldk_rt_event_record(events[0], NULL);
    if (code == LDK_OK)
        code =
            launch(work, candidate, candidate->number, unit->batch, o->x0 + place * o->x0_bytes, y);
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
    const struct ldk_operands *o = &work->operands;
    uint8_t digest[LD_SHA256_BYTES];
    int code = ldk_work_prepare(work, unit->batch);
    if (code != LDK_OK)
        return code;
    const size_t bytes = o->y_bytes / (size_t)o->batch;
    void *image = ld_heap_alloc(bytes);
    code = image ? launch(work, candidate, candidate->number, unit->batch, o->x0, o->y)
                 : LDK_E_UNSUPPORTED;
    if (code == LDK_OK)
        code = ldk_rt_download(image, o->y, bytes, NULL);
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
