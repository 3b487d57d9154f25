/*
 * Weights on the device: where they lie (slabs), how they get there (packed range by range into one
 * pinned buffer while the other one is being copied). Streamed ones are packed where they stay, in
 * slabs of pinned memory; backend_stream.c sends them.
 */
#include "kernels/cuda/backend_state.h"
#include "kernels/cuda/pack.h"

#include "runtime/base/arena.h"

#include <string.h>

static const size_t SLAB_BYTES_MIN = (size_t)1 << 20;
static const size_t SLAB_BYTES_MAX = (size_t)64 << 20;
/* Long copies reach the bus's full speed from about 4 MiB on. */
static const size_t RING_BYTES = (size_t)16 << 20;
enum { ROWS_PER_TASK = 16 };

/* ---- Slabs ----------------------------------------------------------------------------------- */

static struct ld_cuda_slab **slabs_of(struct ld_cuda *cuda, bool pinned)
{
    return pinned ? &cuda->host_slabs : &cuda->slabs;
}

static enum ld_code take_memory(struct ld_cuda *cuda, bool pinned, size_t bytes, void **out,
                                struct ld_error *err)
{
    return pinned ? ld_cuda_alloc_pinned(cuda, bytes, out, err)
                  : ld_cuda_alloc(cuda, bytes, out, err);
}

static void free_slab(struct ld_cuda_slab *slab)
{
    (void)(slab->pinned ? ldk_rt_free_pinned(slab->memory) : ldk_rt_free(slab->memory));
    ld_heap_free(slab);
}

static enum ld_code add_slab(struct ld_cuda *cuda, bool pinned, size_t bytes, struct ld_error *err)
{
    struct ld_cuda_slab **list = slabs_of(cuda, pinned);
    struct ld_cuda_slab *slab = ld_heap_alloc(sizeof *slab);
    void *memory = NULL;
    if (!slab)
        return LD_FAIL(err, LD_E_NOMEM, "out of memory for the model's weights");
    /* Twice the latest one: a small model takes little, a large one few pieces. */
    size_t wanted = *list ? 2 * (*list)->bytes : SLAB_BYTES_MIN;
    wanted = wanted > SLAB_BYTES_MAX ? SLAB_BYTES_MAX : wanted;
    wanted = wanted < bytes ? bytes : wanted;
    enum ld_code code = take_memory(cuda, pinned, wanted, &memory, err);
    if ((code == LD_E_GPU_NOMEM || code == LD_E_NOMEM) && wanted > bytes) {
        wanted = bytes; /* where memory is short, no more than is needed */
        code = take_memory(cuda, pinned, wanted, &memory, err);
    }
    if (code != LD_OK) {
        ld_heap_free(slab);
        return code;
    }
    slab->memory = memory;
    slab->bytes = wanted;
    slab->pinned = pinned;
    slab->next = *list;
    *list = slab;
    return LD_OK;
}

static enum ld_code place(struct ld_cuda *cuda, struct ld_weight *weight, unsigned char **at,
                          struct ld_error *err)
{
    struct ld_cuda_slab **list = slabs_of(cuda, weight->streamed);
    if (!*list || (*list)->used + weight->bytes > (*list)->bytes) {
        const enum ld_code code = add_slab(cuda, weight->streamed, weight->bytes, err);
        if (code != LD_OK)
            return code;
    }
    struct ld_cuda_slab *slab = *list;
    *at = slab->memory + slab->used;
    weight->host = weight->streamed ? *at : NULL;
    slab->used += weight->bytes;
    slab->live++;
    weight->slab = slab;
    return LD_OK;
}

/* A slab goes when its last weight goes. */
static void leave(struct ld_cuda *cuda, struct ld_cuda_slab *slab)
{
    LD_ASSERT(slab->live > 0);
    if (--slab->live > 0)
        return;
    struct ld_cuda_slab **link = slabs_of(cuda, slab->pinned);
    while (*link != slab)
        link = &(*link)->next;
    *link = slab->next;
    free_slab(slab);
}

/* ---- The way to the device ------------------------------------------------------------------- */

static enum ld_code open_ring(struct ld_cuda *cuda, struct ld_error *err)
{
    struct ld_cuda_ring *ring = &cuda->ring;
    for (int i = 0; i < 2 && ring->bytes == 0; i++) {
        void *memory = ring->buffers[i];
        enum ld_code code = LD_OK;
        if (!memory)
            code = ld_cuda_alloc_pinned(cuda, RING_BYTES, &memory, err);
        ring->buffers[i] = memory;
        if (code == LD_OK && !ring->sent[i])
            code = ld_cuda_check(cuda, ldk_rt_event_create(&ring->sent[i]), "an event", err);
        if (code != LD_OK)
            return code;
    }
    ring->bytes = RING_BYTES;
    return LD_OK;
}

static enum ld_code reserve_lines(struct ld_cuda *cuda, size_t floats, struct ld_error *err)
{
    struct ld_cuda_ring *ring = &cuda->ring;
    if (floats <= ring->line_floats)
        return LD_OK;
    ld_heap_free(ring->lines);
    ring->line_floats = 0;
    ring->lines = ld_heap_calloc(floats * ld_pool_threads(cuda->pool), sizeof *ring->lines);
    if (!ring->lines)
        return LD_FAIL(err, LD_E_NOMEM, "out of memory for packing weights");
    ring->line_floats = floats;
    return LD_OK;
}

/* What is sent: `rows` rows of `row_bytes`, made by `fill` from row numbers. */
struct source {
    const struct ld_weight_desc *desc;
    struct ldk_pack pack;
    enum ld_dtype dtype; /* of a table's rows */
    int32_t rows;
    size_t row_bytes;
    void (*fill)(const struct source *source, int32_t first, int32_t count, float *line, void *dst);
};

struct fill_ctx {
    const struct source *source;
    struct ld_cuda_ring *ring;
    unsigned char *dst;
    int32_t first, count;
};

static void fill_task(void *pointer, uint32_t task, uint32_t worker)
{
    const struct fill_ctx *ctx = pointer;
    const int32_t offset = (int32_t)task * ROWS_PER_TASK;
    const int32_t left = ctx->count - offset;
    ctx->source->fill(ctx->source, ctx->first + offset, left < ROWS_PER_TASK ? left : ROWS_PER_TASK,
                      ctx->ring->lines + worker * ctx->ring->line_floats,
                      ctx->dst + (size_t)offset * ctx->source->row_bytes);
}

static void fill_all(struct ld_cuda *cuda, const struct source *source, unsigned char *dst,
                     int32_t first, int32_t count)
{
    struct fill_ctx ctx = {source, &cuda->ring, dst, first, count};
    ld_pool_run(cuda->pool, (uint32_t)((count + ROWS_PER_TASK - 1) / ROWS_PER_TASK), fill_task,
                &ctx);
}

/* Packing the next rows overlaps with copying the last ones: a buffer is waited for only when its
 * turn comes again. */
static enum ld_code send(struct ld_cuda *cuda, const struct source *source, unsigned char *device,
                         struct ld_error *err)
{
    struct ld_cuda_ring *ring = &cuda->ring;
    const int32_t per_buffer = (int32_t)(ring->bytes / source->row_bytes);
    LD_ASSERT(per_buffer > 0);
    enum ld_code code = LD_OK;
    for (int32_t first = 0; code == LD_OK && first < source->rows; first += per_buffer) {
        const int32_t left = source->rows - first;
        const int32_t count = left < per_buffer ? left : per_buffer;
        const size_t bytes = (size_t)count * source->row_bytes;
        const uint32_t which = ring->next;
        ring->next = 1 - which;
        code = ld_cuda_check(cuda, ldk_rt_event_synchronize(ring->sent[which]), "upload", err);
        if (code != LD_OK)
            break;
        fill_all(cuda, source, ring->buffers[which], first, count);
        code = ld_cuda_check(cuda,
                             ldk_rt_upload(device + (size_t)first * source->row_bytes,
                                           ring->buffers[which], bytes, cuda->stream),
                             "upload", err);
        if (code == LD_OK)
            code = ld_cuda_check(cuda, ldk_rt_event_record(ring->sent[which], cuda->stream),
                                 "upload", err);
    }
    return code;
}

/* To where the weight lies: what is streamed stays in the host's memory. */
static enum ld_code put(struct ld_cuda *cuda, const struct ld_weight *weight,
                        const struct source *source, unsigned char *at, struct ld_error *err)
{
    if (!weight->streamed)
        return send(cuda, source, at, err);
    fill_all(cuda, source, at, 0, source->rows);
    return LD_OK;
}

/* ---- Kinds of rows --------------------------------------------------------------------------- */

static void fill_rows(const struct source *source, int32_t first, int32_t count, float *line,
                      void *dst)
{
    ldk_pack_rows(&source->pack, source->desc, first, count, line, dst);
}

static void fill_phase(const struct source *source, int32_t first, int32_t count, float *line,
                       void *dst)
{
    ldk_pack_phase_rows(&source->pack, source->desc, first, count, line, dst);
}

/* Values of part `p` to float32, its scale applied. */
static void decode(const struct ld_weight_part *part, size_t first, size_t count, float *dst)
{
    const unsigned char *src = part->data;
    ld_dtype_to_f32(dst, src + first * ld_dtype_size(part->dtype), part->dtype, count);
    const float scale = part->scale;
    for (size_t i = 0; scale != 0.0f && scale != 1.0f && i < count; i++)
        dst[i] *= scale;
}

static void fill_table(const struct source *source, int32_t first, int32_t count, float *line,
                       void *dst)
{
    const size_t k = (size_t)source->desc->k;
    for (int32_t r = 0; r < count; r++) {
        decode(&source->desc->parts[0], (size_t)(first + r) * k, k, line);
        ld_dtype_from_f32((unsigned char *)dst + (size_t)r * source->row_bytes, line, source->dtype,
                          k);
    }
}

/* One row: all parts of a vector side by side. */
static void fill_vector(const struct source *source, int32_t first, int32_t count, float *line,
                        void *dst)
{
    (void)first;
    (void)count;
    (void)line;
    float *at = dst;
    for (uint32_t p = 0; p < source->desc->part_count; p++) {
        const int32_t rows = ld_weight_part_rows(source->desc, p);
        decode(&source->desc->parts[p], 0, (size_t)rows, at);
        at += rows;
    }
}

/* One row: the bias as float32. */
static void fill_bias(const struct source *source, int32_t first, int32_t count, float *line,
                      void *dst)
{
    (void)first;
    (void)count;
    (void)line;
    ldk_pack_bias(&source->pack, source->desc, dst);
}

/* One row: the same in the weight's own type, for libraries. */
static void fill_bias16(const struct source *source, int32_t first, int32_t count, float *line,
                        void *dst)
{
    (void)first;
    (void)count;
    ldk_pack_bias(&source->pack, source->desc, line);
    ld_dtype_from_f32(dst, line, source->dtype, (size_t)source->pack.rows_padded);
}

/* ---- Creation -------------------------------------------------------------------------------- */

/* Vectors are too small to be worth a copy each time (backend_stream.c). */
static bool is_streamed(const struct ld_weight_desc *desc)
{
    return desc->streamed && desc->kind != LD_WEIGHT_VECTOR;
}

/* The weight's place, once its bytes are known; for a streamed one there is a ring from here on. */
static enum ld_code settle_down(struct ld_cuda *cuda, struct ld_weight *weight, unsigned char **at,
                                struct ld_error *err)
{
    if (weight->serial > 0) {
        const enum ld_code code = ld_cuda_stream_admit(cuda, weight->bytes, err);
        if (code != LD_OK)
            return code;
        weight->streamed = true;
    }
    return place(cuda, weight, at, err);
}

static enum ld_code create_matrix(struct ld_cuda *cuda, struct ld_weight *weight,
                                  const struct ld_weight_desc *desc, struct ld_error *err)
{
    struct source source = {.desc = desc, .dtype = cuda->base.act_dtype};
    const bool phase = desc->upsampled && desc->kernel == 3 && !cuda->options.no_phase;
    unsigned char *at = NULL;
    ldk_pack_plan(&source.pack, desc, cuda->dtype, phase);
    const struct ldk_pack *pack = &source.pack;
    const struct ldk_pack_places places = ldk_pack_places_of(pack);
    const size_t bias16_bytes = pack->bias_bytes / 2;
    weight->bytes = places.bytes;
    const size_t rows_padded = (size_t)pack->rows_padded;
    enum ld_code code =
        reserve_lines(cuda, pack->line > rows_padded ? pack->line : rows_padded, err);
    if (code == LD_OK)
        code = settle_down(cuda, weight, &at, err);
    if (code != LD_OK)
        return code;
    source.rows = pack->rows_padded;
    source.row_bytes = pack->row_bytes;
    source.fill = fill_rows;
    code = put(cuda, weight, &source, at, err);
    if (code == LD_OK && pack->phase_bytes > 0) {
        source.rows = LDK_PACK_PHASES * pack->rows_padded;
        source.row_bytes = pack->phase_row_bytes;
        source.fill = fill_phase;
        code = put(cuda, weight, &source, at + places.phase, err);
    }
    source.rows = 1;
    if (code == LD_OK) {
        source.row_bytes = pack->bias_bytes;
        source.fill = fill_bias;
        code = put(cuda, weight, &source, at + places.bias, err);
    }
    if (code == LD_OK) {
        source.row_bytes = bias16_bytes;
        source.fill = fill_bias16;
        code = put(cuda, weight, &source, at + places.bias16, err);
    }
    weight->matrix = ldk_pack_weight(pack, at, pack->phase_bytes > 0 ? at + places.phase : NULL,
                                     (const float *)(const void *)(at + places.bias));
    weight->matrix.bias16 = at + places.bias16;
    return code;
}

static enum ld_code create_plain(struct ld_cuda *cuda, struct ld_weight *weight,
                                 const struct ld_weight_desc *desc, struct ld_error *err)
{
    const bool table = desc->kind == LD_WEIGHT_TABLE;
    unsigned char *at = NULL;
    struct source source = {.desc = desc,
                            .dtype = cuda->base.act_dtype,
                            .rows = table ? weight->facts.rows : 1,
                            .row_bytes = table ? (size_t)desc->k * ld_dtype_size(LD_DTYPE_F16)
                                               : (size_t)weight->facts.rows * sizeof(float),
                            .fill = table ? fill_table : fill_vector};
    weight->bytes = ldk_pack_weight_bytes(desc, cuda->dtype, false);
    enum ld_code code = reserve_lines(cuda, (size_t)desc->k, err);
    if (code == LD_OK)
        code = settle_down(cuda, weight, &at, err);
    if (code == LD_OK)
        code = put(cuda, weight, &source, at, err);
    weight->data = at;
    return code;
}

enum ld_code ld_cuda_weight_create(struct ld_backend *backend, const struct ld_weight_desc *desc,
                                   struct ld_weight **out, struct ld_error *err)
{
    struct ld_cuda *cuda = ld_cuda_of(backend);
    LD_ASSERT(cuda->mode == LD_CUDA_WALK);
    *out = NULL;
    enum ld_code code = ld_check_weight(desc, err);
    if (code == LD_OK && cuda->ring.bytes == 0 && !is_streamed(desc))
        code = open_ring(cuda, err);
    if (code != LD_OK)
        return code;
    struct ld_weight *weight = ld_heap_alloc(sizeof *weight);
    if (!weight)
        return LD_FAIL(err, LD_E_NOMEM, "out of memory for a weight");
    weight->facts = ld_weight_facts_of(desc);
    weight->serial = is_streamed(desc) ? ++cuda->streaming.serials : 0;
    const bool matrix = desc->kind != LD_WEIGHT_VECTOR && desc->kind != LD_WEIGHT_TABLE;
    code = matrix ? create_matrix(cuda, weight, desc, err) : create_plain(cuda, weight, desc, err);
    if (code != LD_OK) {
        ld_cuda_weight_destroy(backend, weight);
        return code;
    }
    *out = weight;
    return LD_OK;
}

void ld_cuda_weight_destroy(struct ld_backend *backend, struct ld_weight *weight)
{
    if (!weight)
        return;
    if (weight->streamed)
        ld_cuda_stream_dismiss(ld_cuda_of(backend));
    if (weight->slab)
        leave(ld_cuda_of(backend), weight->slab);
    ld_heap_free(weight);
}

size_t ld_cuda_weight_bytes(const struct ld_weight *weight)
{
    return weight->bytes;
}

size_t ld_cuda_weight_plan_bytes(struct ld_backend *backend, const struct ld_weight_desc *desc)
{
    const struct ld_cuda *cuda = ld_cuda_of(backend);
    return is_streamed(desc) ? 0
                             : ldk_pack_weight_bytes(desc, cuda->dtype, !cuda->options.no_phase);
}

size_t ld_cuda_ring_plan_bytes(struct ld_backend *backend, const struct ld_weight_desc *desc)
{
    const struct ld_cuda *cuda = ld_cuda_of(backend);
    return is_streamed(desc)
               ? ldk_ring_bytes(ldk_pack_weight_bytes(desc, cuda->dtype, !cuda->options.no_phase))
               : 0;
}

void ld_cuda_weights_deinit(struct ld_cuda *cuda)
{
    struct ld_cuda_ring *ring = &cuda->ring;
    for (int i = 0; i < 2; i++) {
        if (ring->buffers[i])
            (void)ldk_rt_free_pinned(ring->buffers[i]);
        if (ring->sent[i])
            (void)ldk_rt_event_destroy(ring->sent[i]);
    }
    ld_heap_free(ring->lines);
    memset(ring, 0, sizeof *ring);
    for (int pinned = 0; pinned < 2; pinned++) {
        struct ld_cuda_slab **list = slabs_of(cuda, pinned);
        while (*list) {
            struct ld_cuda_slab *next = (*list)->next;
            free_slab(*list);
            *list = next;
        }
    }
}
