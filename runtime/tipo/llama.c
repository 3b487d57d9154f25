/*
 * The decoder at work: blocks of tokens through the layers. The caller's thread does what is small
 * (norms, rotations, sums); products and attention are cut among the pool's threads by outputs and
 * by heads.
 */
#include "runtime/base/arena.h"
#include "runtime/tipo/llama_private.h"

#include <math.h>

enum {
    TASK_BYTES =
        128 << 10, /* of a matrix: a task's part, large against the cost of handing it out */
    PRODUCTS_MAX = 3
};

/* ---- Products -------------------------------------------------------------------------------- */

/* y = x W' for up to three matrices of the same x, as one loop over pieces of their outputs. */
struct products {
    const struct ld_row_kernels *kernels;
    const float *x;
    uint32_t rows, count;
    const struct llama_matrix *matrix[PRODUCTS_MAX];
    float *y[PRODUCTS_MAX];
    uint32_t piece;             /* outputs of a task */
    uint32_t end[PRODUCTS_MAX]; /* tasks up to and with this matrix */
};

static void product_task(void *ctx, uint32_t task, uint32_t worker)
{
    (void)worker;
    const struct products *p = ctx;
    uint32_t i = 0;
    while (task >= p->end[i])
        i++;
    const struct llama_matrix *matrix = p->matrix[i];
    const uint32_t first = (task - (i > 0 ? p->end[i - 1] : 0)) * p->piece;
    const uint32_t left = matrix->outputs - first;
    p->kernels->product(&(struct ld_half_product){
        .x = p->x,
        .x_stride = matrix->inputs,
        .rows = (int32_t)p->rows,
        .w = matrix->values + (size_t)first * matrix->inputs,
        .k = (int32_t)matrix->inputs,
        .y = p->y[i] + first,
        .y_stride = matrix->outputs,
        .outputs = (int32_t)(left < p->piece ? left : p->piece),
    });
}

static void run_products(struct ld_llama *llama, struct products *p)
{
    const uint32_t fitting = TASK_BYTES / (uint32_t)sizeof(uint16_t) / p->matrix[0]->inputs;
    p->kernels = llama->kernels;
    p->piece = fitting > 8 ? fitting / 8 * 8 : 8;
    uint32_t tasks = 0;
    for (uint32_t i = 0; i < p->count; i++) {
        tasks += (p->matrix[i]->outputs + p->piece - 1) / p->piece;
        p->end[i] = tasks;
    }
    ld_pool_run(llama->pool, tasks, product_task, p);
}

/* ---- What is small --------------------------------------------------------------------------- */

/* y = x / rms(x) * gain for each row; the mean of squares in double. */
static void norm_rows(float *y, const float *x, const float *gain, uint32_t rows,
                      const struct ld_llama_sizes *sizes)
{
    for (uint32_t r = 0; r < rows; r++, x += sizes->width, y += sizes->width) {
        double sum = 0.0;
        for (uint32_t i = 0; i < sizes->width; i++)
            sum += (double)x[i] * (double)x[i];
        const float scale = (float)(1.0 / sqrt(sum / (double)sizes->width + sizes->epsilon));
        for (uint32_t i = 0; i < sizes->width; i++)
            y[i] = x[i] * scale * gain[i];
    }
}

static void add_rows(float *x, const float *added, size_t count)
{
    for (size_t i = 0; i < count; i++)
        x[i] += added[i];
}

/* Turn each pair (2i, 2i + 1) of each head of a row by the angle of its position. */
static void turn(float *row, uint32_t heads, const float *turns, const struct ld_llama_sizes *sizes)
{
    for (uint32_t h = 0; h < heads; h++, row += sizes->head_width) {
        for (uint32_t i = 0; i < sizes->rotated; i += 2) {
            const float cosine = turns[i];
            const float sine = turns[i + 1];
            const float a = row[i];
            const float b = row[i + 1];
            row[i] = a * cosine - b * sine;
            row[i + 1] = a * sine + b * cosine;
        }
    }
}

struct silu {
    float *gate;
    const float *up;
    size_t width;
};

/* gate = silu(gate) * up, one row. */
static void silu_task(void *ctx, uint32_t task, uint32_t worker)
{
    (void)worker;
    const struct silu *s = ctx;
    float *gate = s->gate + task * s->width;
    const float *up = s->up + task * s->width;
    for (size_t i = 0; i < s->width; i++)
        gate[i] = gate[i] / (1.0f + expf(-gate[i])) * up[i];
}

static void embed(const struct ld_llama *llama, const uint32_t *ids, uint32_t rows)
{
    const size_t width = llama->sizes.width;
    for (size_t r = 0; r < rows; r++)
        ld_dtype_to_f32(llama->x + r * width, llama->embedding.values + ids[r] * width,
                        LD_DTYPE_F16, width);
}

/* ---- Attention ------------------------------------------------------------------------------- */

/* The first value of a position's key or value in the cache. */
static size_t cache_at(const struct ld_llama_sizes *sizes, uint32_t layer, uint32_t kv_head,
                       uint32_t position)
{
    return (((size_t)layer * sizes->kv_heads + kv_head) * sizes->context + position) *
           sizes->head_width;
}

/* Turn the block's queries and keys, and put its keys and values into the cache. */
static void store_block(struct ld_llama *llama, uint32_t layer, uint32_t rows)
{
    const struct ld_llama_sizes *sizes = &llama->sizes;
    const size_t head_bytes = sizes->head_width * sizeof(float);
    for (uint32_t r = 0; r < rows; r++) {
        const uint32_t position = llama->position + r;
        const float *turns = llama->turns + (size_t)position * sizes->rotated;
        float *k = llama->k + (size_t)r * ld_llama_kv_width(sizes);
        const float *v = llama->v + (size_t)r * ld_llama_kv_width(sizes);
        turn(llama->q + (size_t)r * sizes->width, sizes->heads, turns, sizes);
        turn(k, sizes->kv_heads, turns, sizes);
        for (uint32_t h = 0; h < sizes->kv_heads; h++) {
            const size_t at = cache_at(sizes, layer, h, position);
            memcpy(llama->keys + at, k + (size_t)h * sizes->head_width, head_bytes);
            memcpy(llama->values + at, v + (size_t)h * sizes->head_width, head_bytes);
        }
    }
}

static void softmax(float *scores, uint32_t count)
{
    float largest = scores[0];
    for (uint32_t j = 1; j < count; j++)
        largest = scores[j] > largest ? scores[j] : largest;
    double total = 0.0;
    for (uint32_t j = 0; j < count; j++) {
        scores[j] = expf(scores[j] - largest);
        total += (double)scores[j];
    }
    const float scale = (float)(1.0 / total);
    for (uint32_t j = 0; j < count; j++)
        scores[j] *= scale;
}

struct attention {
    struct ld_llama *llama;
    uint32_t layer;
};

/* One head of one row: over the cache up to the row's own position. */
static void attention_task(void *ctx, uint32_t task, uint32_t worker)
{
    const struct attention *a = ctx;
    const struct ld_llama *llama = a->llama;
    const struct ld_llama_sizes *sizes = &llama->sizes;
    const uint32_t row = task / sizes->heads;
    const uint32_t head = task % sizes->heads;
    const uint32_t kv_head = head / (sizes->heads / sizes->kv_heads);
    const uint32_t count = llama->position + row + 1;
    const size_t at = cache_at(sizes, a->layer, kv_head, 0);
    const size_t own = (size_t)row * sizes->width + (size_t)head * sizes->head_width;
    float *scores = llama->scores + (size_t)worker * sizes->context;
    llama->kernels->scores(scores, llama->q + own, llama->keys + at, (int32_t)count,
                           (int32_t)sizes->head_width,
                           (float)(1.0 / sqrt((double)sizes->head_width)));
    softmax(scores, count);
    llama->kernels->mix(llama->mixed + own, scores, llama->values + at, (int32_t)count,
                        (int32_t)sizes->head_width);
}

/* ---- Layers ---------------------------------------------------------------------------------- */

static void run_attention(struct ld_llama *llama, uint32_t index, uint32_t rows)
{
    const struct ld_llama_sizes *sizes = &llama->sizes;
    const struct llama_layer *layer = &llama->layers[index];
    norm_rows(llama->normed, llama->x, layer->attn_norm, rows, sizes);
    run_products(llama, &(struct products){.x = llama->normed,
                                           .rows = rows,
                                           .count = 3,
                                           .matrix = {&layer->q, &layer->k, &layer->v},
                                           .y = {llama->q, llama->k, llama->v}});
    store_block(llama, index, rows);
    ld_pool_run(llama->pool, rows * sizes->heads, attention_task,
                &(struct attention){.llama = llama, .layer = index});
    run_products(llama, &(struct products){.x = llama->mixed,
                                           .rows = rows,
                                           .count = 1,
                                           .matrix = {&layer->output},
                                           .y = {llama->added}});
    add_rows(llama->x, llama->added, (size_t)rows * sizes->width);
}

static void run_mlp(struct ld_llama *llama, uint32_t index, uint32_t rows)
{
    const struct ld_llama_sizes *sizes = &llama->sizes;
    const struct llama_layer *layer = &llama->layers[index];
    norm_rows(llama->normed, llama->x, layer->ffn_norm, rows, sizes);
    run_products(llama, &(struct products){.x = llama->normed,
                                           .rows = rows,
                                           .count = 2,
                                           .matrix = {&layer->gate, &layer->up},
                                           .y = {llama->gate, llama->up}});
    ld_pool_run(llama->pool, rows, silu_task,
                &(struct silu){.gate = llama->gate, .up = llama->up, .width = sizes->mlp_width});
    run_products(llama, &(struct products){.x = llama->gate,
                                           .rows = rows,
                                           .count = 1,
                                           .matrix = {&layer->down},
                                           .y = {llama->added}});
    add_rows(llama->x, llama->added, (size_t)rows * sizes->width);
}

static void run_block(struct ld_llama *llama, const uint32_t *ids, uint32_t rows)
{
    embed(llama, ids, rows);
    for (uint32_t i = 0; i < llama->sizes.layers; i++) {
        run_attention(llama, i, rows);
        run_mlp(llama, i, rows);
    }
    llama->position += rows;
}

/* Of the last row of a block. */
static void run_output(struct ld_llama *llama, uint32_t rows, float *logits)
{
    const struct ld_llama_sizes *sizes = &llama->sizes;
    norm_rows(llama->normed, llama->x + (size_t)(rows - 1) * sizes->width, llama->output_norm, 1,
              sizes);
    run_products(
        llama,
        &(struct products){
            .x = llama->normed, .rows = 1, .count = 1, .matrix = {&llama->output}, .y = {logits}});
}

enum ld_code ld_llama_feed(struct ld_llama *llama, const uint32_t *ids, uint32_t count,
                           float *logits, struct ld_error *err)
{
    LD_ASSERT(llama != NULL && ids != NULL && count > 0);
    if (count > llama->sizes.context - llama->position)
        return LD_FAIL(err, LD_E_TOO_LARGE,
                       "%u tokens after %u do not fit the language model's context of %u", count,
                       llama->position, llama->sizes.context);
    for (uint32_t i = 0; i < count; i++)
        if (ids[i] >= llama->sizes.vocabulary)
            return LD_FAIL(err, LD_E_RANGE, "the language model has no token %u", ids[i]);
    for (uint32_t done = 0, rows; done < count; done += rows) {
        rows = count - done < LD_LLAMA_BLOCK ? count - done : LD_LLAMA_BLOCK;
        run_block(llama, ids + done, rows);
        if (logits && done + rows == count)
            run_output(llama, rows, logits);
    }
    return LD_OK;
}

uint32_t ld_llama_position(const struct ld_llama *llama)
{
    return llama->position;
}

void ld_llama_rewind(struct ld_llama *llama, uint32_t position)
{
    LD_ASSERT(position <= llama->position);
    llama->position = position;
}

const struct ld_llama_sizes *ld_llama_sizes(const struct ld_llama *llama)
{
    return &llama->sizes;
}

/* ---- Creation -------------------------------------------------------------------------------- */

/* Pair i turns by position * base^(-2i / rotated); in double, as angles grow with the position. */
static void fill_turns(struct ld_llama *llama)
{
    const struct ld_llama_sizes *sizes = &llama->sizes;
    for (uint32_t i = 0; i < sizes->rotated; i += 2) {
        const double speed = pow(sizes->rope_base, -(double)i / (double)sizes->rotated);
        for (uint32_t position = 0; position < sizes->context; position++) {
            const double angle = (double)position * speed;
            float *pair = llama->turns + (size_t)position * sizes->rotated + i;
            pair[0] = (float)cos(angle);
            pair[1] = (float)sin(angle);
        }
    }
}

static enum ld_code allocate(struct ld_llama *llama, struct ld_error *err)
{
    const struct ld_llama_sizes *sizes = &llama->sizes;
    const size_t kv_width = ld_llama_kv_width(sizes);
    const struct {
        float **block;
        size_t rows, width;
    } blocks[] = {{&llama->x, LD_LLAMA_BLOCK, sizes->width},
                  {&llama->normed, LD_LLAMA_BLOCK, sizes->width},
                  {&llama->mixed, LD_LLAMA_BLOCK, sizes->width},
                  {&llama->q, LD_LLAMA_BLOCK, sizes->width},
                  {&llama->k, LD_LLAMA_BLOCK, kv_width},
                  {&llama->v, LD_LLAMA_BLOCK, kv_width},
                  {&llama->gate, LD_LLAMA_BLOCK, sizes->mlp_width},
                  {&llama->up, LD_LLAMA_BLOCK, sizes->mlp_width},
                  {&llama->added, LD_LLAMA_BLOCK, sizes->width},
                  {&llama->scores, ld_pool_threads(llama->pool), sizes->context},
                  {&llama->turns, sizes->context, sizes->rotated}};
    bool all = true;
    for (size_t i = 0; i < sizeof blocks / sizeof blocks[0]; i++) {
        *blocks[i].block = ld_heap_calloc(blocks[i].rows * blocks[i].width, sizeof(float));
        all = all && *blocks[i].block;
    }
    llama->cache_bytes = sizes->layers * kv_width * sizes->context * sizeof(float);
    llama->keys = ld_block_alloc(llama->cache_bytes);
    llama->values = ld_block_alloc(llama->cache_bytes);
    if (!all || !llama->keys || !llama->values)
        return LD_FAIL(err, LD_E_NOMEM, "not enough memory for a language model's context");
    fill_turns(llama);
    return LD_OK;
}

enum ld_code ld_llama_create(struct ld_llama **out, const struct ld_gguf *file, uint32_t threads,
                             struct ld_error *err)
{
    LD_ASSERT(out != NULL && file != NULL);
    *out = NULL;
    struct ld_llama *llama = ld_heap_alloc(sizeof *llama);
    if (!llama)
        return LD_FAIL(err, LD_E_NOMEM, "not enough memory for a language model");
    enum ld_code code = ld_row_kernels_choose(&llama->kernels, LD_CPU_AUTO, err);
    if (code == LD_OK)
        code = ld_llama_load(llama, file, err);
    if (code == LD_OK)
        code = ld_pool_create(&llama->pool, threads, err);
    if (code == LD_OK)
        code = allocate(llama, err);
    if (code == LD_OK)
        *out = llama;
    else
        ld_llama_destroy(llama);
    return code;
}

void ld_llama_destroy(struct ld_llama *llama)
{
    if (!llama)
        return;
    float *const blocks[] = {llama->x,     llama->normed, llama->mixed, llama->q,
                             llama->k,     llama->v,      llama->gate,  llama->up,
                             llama->added, llama->scores, llama->turns};
    for (size_t i = 0; i < sizeof blocks / sizeof blocks[0]; i++)
        ld_heap_free(blocks[i]);
    if (llama->keys)
        ld_block_free(llama->keys, llama->cache_bytes);
    if (llama->values)
        ld_block_free(llama->values, llama->cache_bytes);
    ld_pool_destroy(llama->pool);
    ld_llama_unload(llama);
    ld_heap_free(llama);
}
