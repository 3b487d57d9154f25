#include "tests/unit/llama_fixture.h"

#include "kernels/tensor.h"
#include "runtime/base/arena.h"

#include <math.h>
#include <string.h>

/* ---- Random weights -------------------------------------------------------------------------- */

static float random_value(uint32_t *state)
{
    float sum = 0.0f;
    for (int i = 0; i < 4; i++) {
        *state = *state * 1664525u + 1013904223u;
        sum += (float)(*state >> 8) / 16777216.0f - 0.5f;
    }
    return sum * 1.73f;
}

/*
 * One block of Q8_0: its 34 bytes, and the values that they stand for. The scale is 3 times a power
 * of 2, so that float16 holds the values exactly and a second rounding changes nothing.
 */
static void round_q8(float *values, uint8_t *block)
{
    float largest = 0.0f;
    for (uint32_t i = 0; i < LD_GGUF_Q8_BLOCK; i++)
        largest = fabsf(values[i]) > largest ? fabsf(values[i]) : largest;
    float scale = 3.0f * 0x1p-20f;
    while (scale * 127.0f < largest)
        scale *= 2.0f;
    const uint16_t scale_bits = ld_f16_from_f32(scale);
    block[0] = (uint8_t)scale_bits;
    block[1] = (uint8_t)(scale_bits >> 8);
    for (uint32_t i = 0; i < LD_GGUF_Q8_BLOCK; i++) {
        const float steps = roundf(values[i] / scale);
        block[2 + i] = (uint8_t)(int8_t)steps;
        values[i] = steps * scale;
    }
}

static void round_to(float *values, size_t count, uint32_t type)
{
    uint8_t block[LD_GGUF_Q8_BYTES];
    for (size_t i = 0; i < count; i++) {
        if (type == LD_GGUF_TENSOR_BF16)
            values[i] = ld_bf16_to_f32(ld_bf16_from_f32(values[i]));
        if (type != LD_GGUF_TENSOR_Q8_0)
            values[i] = ld_f16_to_f32(ld_f16_from_f32(values[i]));
        else if (i % LD_GGUF_Q8_BLOCK == 0)
            round_q8(values + i, block);
    }
}

static struct llama_weight make_matrix(uint32_t inputs, uint32_t outputs, uint32_t type,
                                       uint32_t *state)
{
    struct llama_weight w = {.inputs = inputs, .outputs = outputs};
    const size_t count = (size_t)inputs * outputs;
    w.values = ld_heap_calloc(count, sizeof *w.values);
    LD_ASSERT(w.values);
    const float scale = 1.3f / sqrtf((float)inputs);
    for (size_t i = 0; i < count; i++)
        w.values[i] = scale * random_value(state);
    round_to(w.values, count, type);
    return w;
}

static struct llama_weight make_norm(uint32_t width, uint32_t *state)
{
    struct llama_weight w = {.inputs = width, .outputs = 0};
    w.values = ld_heap_calloc(width, sizeof *w.values);
    LD_ASSERT(w.values);
    for (uint32_t i = 0; i < width; i++)
        w.values[i] = 1.0f + 0.3f * random_value(state);
    return w;
}

struct llama_weights llama_weights_make(const struct llama_plan *plan)
{
    LD_ASSERT(plan->layers <= LLAMA_LAYERS_MAX);
    struct llama_weights w = {.plan = *plan};
    uint32_t state = plan->seed;
    const uint32_t kv_width = plan->width / plan->heads * plan->kv_heads;
    w.embedding = make_matrix(plan->width, plan->vocabulary, plan->type, &state);
    w.output_norm = make_norm(plan->width, &state);
    if (!plan->tied)
        w.output = make_matrix(plan->width, plan->vocabulary, plan->type, &state);
    for (uint32_t i = 0; i < plan->layers; i++) {
        struct llama_weights_layer *layer = &w.layers[i];
        layer->attn_norm = make_norm(plan->width, &state);
        layer->ffn_norm = make_norm(plan->width, &state);
        layer->q = make_matrix(plan->width, plan->width, plan->type, &state);
        layer->k = make_matrix(plan->width, kv_width, plan->type, &state);
        layer->v = make_matrix(plan->width, kv_width, plan->type, &state);
        layer->output = make_matrix(plan->width, plan->width, plan->type, &state);
        layer->gate = make_matrix(plan->width, plan->mlp_width, plan->type, &state);
        layer->up = make_matrix(plan->width, plan->mlp_width, plan->type, &state);
        layer->down = make_matrix(plan->mlp_width, plan->width, plan->type, &state);
    }
    return w;
}

void llama_weights_free(struct llama_weights *w)
{
    ld_heap_free(w->embedding.values);
    ld_heap_free(w->output_norm.values);
    ld_heap_free(w->output.values);
    for (uint32_t i = 0; i < w->plan.layers; i++) {
        struct llama_weights_layer *layer = &w->layers[i];
        float *const all[] = {layer->attn_norm.values, layer->ffn_norm.values, layer->q.values,
                              layer->k.values,         layer->v.values,        layer->output.values,
                              layer->gate.values,      layer->up.values,       layer->down.values};
        for (size_t k = 0; k < sizeof all / sizeof all[0]; k++)
            ld_heap_free(all[k]);
    }
}

/* ---- The file -------------------------------------------------------------------------------- */

void llama_write_keys(struct gguf_fixture *f, const struct llama_plan *plan)
{
    gguf_text(f, "general.architecture", "llama");
    gguf_u32(f, "llama.embedding_length", plan->width);
    gguf_u32(f, "llama.feed_forward_length", plan->mlp_width);
    gguf_u32(f, "llama.block_count", plan->layers);
    gguf_u32(f, "llama.attention.head_count", plan->heads);
    gguf_u32(f, "llama.attention.head_count_kv", plan->kv_heads);
    gguf_u32(f, "llama.context_length", plan->context);
    gguf_f32(f, "llama.attention.layer_norm_rms_epsilon", plan->epsilon);
    gguf_u32(f, "llama.rope.dimension_count", plan->rotated);
    gguf_f32(f, "llama.rope.freq_base", plan->rope_base);
}

static void write_values(struct gguf_fixture *f, const char *name, uint32_t type, uint32_t inputs,
                         uint32_t outputs, const float *values)
{
    const uint64_t dims[2] = {inputs, outputs};
    const size_t count = (size_t)inputs * (outputs > 0 ? outputs : 1);
    uint8_t *bytes = ld_heap_alloc(4 * count);
    float *copy = ld_heap_calloc(count, sizeof *copy);
    LD_ASSERT(bytes && copy);
    memcpy(copy, values, count * sizeof *copy);
    size_t size = 0;
    if (type == LD_GGUF_TENSOR_Q8_0) {
        for (size_t i = 0; i < count; i += LD_GGUF_Q8_BLOCK, size += LD_GGUF_Q8_BYTES)
            round_q8(copy + i, bytes + size);
    } else {
        const enum ld_dtype dtype = type == LD_GGUF_TENSOR_F32   ? LD_DTYPE_F32
                                    : type == LD_GGUF_TENSOR_F16 ? LD_DTYPE_F16
                                                                 : LD_DTYPE_BF16;
        ld_dtype_from_f32(bytes, copy, dtype, count);
        size = count * ld_dtype_size(dtype);
    }
    gguf_tensor(f, name, type, outputs > 0 ? 2 : 1, dims, bytes, size);
    ld_heap_free(bytes);
    ld_heap_free(copy);
}

static void write_weight(struct gguf_fixture *f, const char *name, uint32_t type,
                         const struct llama_weight *w)
{
    write_values(f, name, w->outputs > 0 ? type : LD_GGUF_TENSOR_F32, w->inputs, w->outputs,
                 w->values);
}

/* Row 2i of a head in the file is row i of the checkpoint, row 2i + 1 is row i + rotated / 2. */
static void write_turned(struct gguf_fixture *f, const char *name, const struct llama_weights *w,
                         const struct llama_weight *matrix, uint32_t heads)
{
    const uint32_t head_width = w->plan.width / w->plan.heads;
    const size_t row_bytes = matrix->inputs * sizeof(float);
    float *rows = ld_heap_calloc((size_t)matrix->inputs * matrix->outputs, sizeof *rows);
    LD_ASSERT(rows);
    for (uint32_t h = 0; h < heads; h++) {
        for (uint32_t i = 0; i < head_width; i++) {
            const uint32_t from =
                i >= w->plan.rotated ? i : i / 2 + (i % 2 ? w->plan.rotated / 2 : 0);
            memcpy(rows + (size_t)(h * head_width + i) * matrix->inputs,
                   matrix->values + (size_t)(h * head_width + from) * matrix->inputs, row_bytes);
        }
    }
    write_values(f, name, w->plan.type, matrix->inputs, matrix->outputs, rows);
    ld_heap_free(rows);
}

void llama_write_tensors(struct gguf_fixture *f, const struct llama_weights *w)
{
    const uint32_t type = w->plan.type;
    write_weight(f, "token_embd.weight", type, &w->embedding);
    write_weight(f, "output_norm.weight", type, &w->output_norm);
    if (!w->plan.tied)
        write_weight(f, "output.weight", type, &w->output);
    for (uint32_t i = 0; i < w->plan.layers; i++) {
        const struct llama_weights_layer *layer = &w->layers[i];
        const struct {
            const char *name;
            const struct llama_weight *weight;
        } parts[] = {{"attn_norm", &layer->attn_norm},
                     {"ffn_norm", &layer->ffn_norm},
                     {"attn_q", &layer->q},
                     {"attn_k", &layer->k},
                     {"attn_v", &layer->v},
                     {"attn_output", &layer->output},
                     {"ffn_gate", &layer->gate},
                     {"ffn_up", &layer->up},
                     {"ffn_down", &layer->down}};
        for (size_t k = 0; k < sizeof parts / sizeof parts[0]; k++) {
            char name[64];
            LD_ASSERT(ld_fmt(name, sizeof name, "blk.%u.%s.weight", i, parts[k].name));
            if (parts[k].weight == &layer->q)
                write_turned(f, name, w, &layer->q, w->plan.heads);
            else if (parts[k].weight == &layer->k)
                write_turned(f, name, w, &layer->k, w->plan.kv_heads);
            else
                write_weight(f, name, type, parts[k].weight);
        }
    }
}

/* ---- The network in float64 ------------------------------------------------------------------ */

static void matvec(double *y, const struct llama_weight *w, const double *x)
{
    for (uint32_t n = 0; n < w->outputs; n++) {
        y[n] = 0.0;
        for (uint32_t k = 0; k < w->inputs; k++)
            y[n] += (double)w->values[(size_t)n * w->inputs + k] * x[k];
    }
}

static void rms_norm(double *y, const double *x, const struct llama_weight *gain, double epsilon)
{
    double sum = 0.0;
    for (uint32_t i = 0; i < gain->inputs; i++)
        sum += x[i] * x[i];
    const double scale = 1.0 / sqrt(sum / gain->inputs + epsilon);
    for (uint32_t i = 0; i < gain->inputs; i++)
        y[i] = x[i] * scale * (double)gain->values[i];
}

/* Values i and i + rotated / 2 of a head turn together. */
static void rotate_half(double *head, uint32_t position, const struct llama_plan *plan)
{
    const uint32_t half = plan->rotated / 2;
    for (uint32_t i = 0; i < half; i++) {
        const double angle =
            position * pow((double)plan->rope_base, -2.0 * (double)i / (double)plan->rotated);
        const double a = head[i];
        const double b = head[i + half];
        head[i] = a * cos(angle) - b * sin(angle);
        head[i + half] = b * cos(angle) + a * sin(angle);
    }
}

struct reference {
    const struct llama_weights *w;
    uint32_t count, head_width, kv_width;
    double *x, *h, *q, *k, *v, *mixed, *gate, *up, *scores; /* rows of all tokens, but the last */
};

static void attend(struct reference *r, uint32_t row, uint32_t head)
{
    const struct llama_plan *plan = &r->w->plan;
    const uint32_t kv_head = head * plan->kv_heads / plan->heads;
    const double *q = r->q + (size_t)row * plan->width + (size_t)head * r->head_width;
    double *out = r->mixed + (size_t)row * plan->width + (size_t)head * r->head_width;
    double total = 0.0;
    for (uint32_t j = 0; j <= row; j++) {
        const double *k = r->k + (size_t)j * r->kv_width + (size_t)kv_head * r->head_width;
        double score = 0.0;
        for (uint32_t d = 0; d < r->head_width; d++)
            score += q[d] * k[d];
        r->scores[j] = exp(score / sqrt((double)r->head_width));
        total += r->scores[j];
    }
    for (uint32_t d = 0; d < r->head_width; d++) {
        out[d] = 0.0;
        for (uint32_t j = 0; j <= row; j++)
            out[d] += r->scores[j] / total *
                      r->v[(size_t)j * r->kv_width + (size_t)kv_head * r->head_width + d];
    }
}

static void reference_layer(struct reference *r, const struct llama_weights_layer *layer)
{
    const struct llama_plan *plan = &r->w->plan;
    const uint32_t width = plan->width;
    for (uint32_t t = 0; t < r->count; t++) {
        rms_norm(r->h, r->x + (size_t)t * width, &layer->attn_norm, (double)plan->epsilon);
        matvec(r->q + (size_t)t * width, &layer->q, r->h);
        matvec(r->k + (size_t)t * r->kv_width, &layer->k, r->h);
        matvec(r->v + (size_t)t * r->kv_width, &layer->v, r->h);
        for (uint32_t head = 0; head < plan->heads; head++)
            rotate_half(r->q + (size_t)t * width + (size_t)head * r->head_width, t, plan);
        for (uint32_t head = 0; head < plan->kv_heads; head++)
            rotate_half(r->k + (size_t)t * r->kv_width + (size_t)head * r->head_width, t, plan);
    }
    for (uint32_t t = 0; t < r->count; t++) {
        double *x = r->x + (size_t)t * width;
        for (uint32_t head = 0; head < plan->heads; head++)
            attend(r, t, head);
        matvec(r->h, &layer->output, r->mixed + (size_t)t * width);
        for (uint32_t i = 0; i < width; i++)
            x[i] += r->h[i];
        rms_norm(r->h, x, &layer->ffn_norm, (double)plan->epsilon);
        matvec(r->gate, &layer->gate, r->h);
        matvec(r->up, &layer->up, r->h);
        for (uint32_t i = 0; i < plan->mlp_width; i++)
            r->gate[i] = r->gate[i] / (1.0 + exp(-r->gate[i])) * r->up[i];
        matvec(r->h, &layer->down, r->gate);
        for (uint32_t i = 0; i < width; i++)
            x[i] += r->h[i];
    }
}

void llama_reference(const struct llama_weights *w, const uint32_t *ids, uint32_t count,
                     double *logits)
{
    const struct llama_plan *plan = &w->plan;
    struct reference r = {.w = w, .count = count, .head_width = plan->width / plan->heads};
    r.kv_width = r.head_width * plan->kv_heads;
    const size_t rows = (size_t)count * plan->width;
    double **const blocks[] = {&r.x, &r.h, &r.q, &r.k, &r.v, &r.mixed, &r.gate, &r.up, &r.scores};
    for (size_t i = 0; i < sizeof blocks / sizeof blocks[0]; i++) {
        *blocks[i] = ld_heap_calloc(rows + plan->mlp_width + count, sizeof(double));
        LD_ASSERT(*blocks[i]);
    }
    for (uint32_t t = 0; t < count; t++)
        for (uint32_t i = 0; i < plan->width; i++)
            r.x[(size_t)t * plan->width + i] =
                (double)w->embedding.values[(size_t)ids[t] * plan->width + i];
    for (uint32_t i = 0; i < plan->layers; i++)
        reference_layer(&r, &w->layers[i]);
    rms_norm(r.h, r.x + (size_t)(count - 1) * plan->width, &w->output_norm, (double)plan->epsilon);
    matvec(logits, plan->tied ? &w->embedding : &w->output, r.h);
    for (size_t i = 0; i < sizeof blocks / sizeof blocks[0]; i++)
        ld_heap_free(*blocks[i]);
}
