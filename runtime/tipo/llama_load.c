/*
 * Reading a LLaMA decoder from its file: the sizes from the keys, each bounded, then the tensors,
 * each of exactly the shape that the sizes ask for. A tensor that has no place in the decoder (a
 * bias, an expert, a table of scaled rotations) is refused: without it the model would compute
 * something else.
 */
#include "runtime/base/arena.h"
#include "runtime/tipo/llama_private.h"

#include <math.h>
#include <stdio.h>

enum {
    WIDTH_MAX = 16384,
    MLP_WIDTH_MAX = 65536,
    LAYERS_MAX = 256,
    HEADS_MAX = 256,
    VOCABULARY_MAX = 1000000,
    LAYER_TENSORS = 9,
    NAME_SIZE = 64
};

/* ---- Sizes ----------------------------------------------------------------------------------- */

static enum ld_code check_architecture(const struct ld_gguf *file, struct ld_error *err)
{
    struct ld_span name;
    const enum ld_code code = ld_gguf_text(file, "general.architecture", true, &name, err);
    if (code == LD_OK && !ld_span_is(name, "llama"))
        return LD_FAIL(err, LD_E_UNSUPPORTED,
                       "the file holds a model of the architecture '%s'; only 'llama' is read",
                       ld_gguf_show(name).text);
    return code;
}

struct size_key {
    const char *key;
    uint32_t min, max, *out;
    bool needed;
};

static enum ld_code read_counts(const struct ld_gguf *file, const struct size_key *keys,
                                size_t count, struct ld_error *err)
{
    for (size_t i = 0; i < count; i++) {
        const enum ld_code code = ld_gguf_u32(file, keys[i].key, keys[i].needed, keys[i].out, err);
        if (code != LD_OK)
            return code;
        if (*keys[i].out < keys[i].min || *keys[i].out > keys[i].max)
            return LD_FAIL(err, LD_E_UNSUPPORTED, "%s is %u; %u to %u are read", keys[i].key,
                           *keys[i].out, keys[i].min, keys[i].max);
    }
    return LD_OK;
}

/* Rotations stretched for longer contexts, and layers of experts: other formulas than ours. */
static enum ld_code check_variants(const struct ld_gguf *file, struct ld_error *err)
{
    struct ld_span scaling = ld_span_text("none");
    double linear = 1.0;
    double factor = 1.0;
    uint32_t experts = 0;
    enum ld_code code = ld_gguf_text(file, "llama.rope.scaling.type", false, &scaling, err);
    if (code == LD_OK)
        code = ld_gguf_real(file, "llama.rope.scale_linear", false, &linear, err);
    if (code == LD_OK)
        code = ld_gguf_real(file, "llama.rope.scaling.factor", false, &factor, err);
    if (code == LD_OK)
        code = ld_gguf_u32(file, "llama.expert_count", false, &experts, err);
    if (code != LD_OK)
        return code;
    if (!ld_span_is(scaling, "none"))
        return LD_FAIL(err, LD_E_UNSUPPORTED,
                       "llama.rope.scaling.type is '%s'; only rotations without scaling are read",
                       ld_gguf_show(scaling).text);
    const bool scaled = linear < 1.0 || linear > 1.0 || factor < 1.0 || factor > 1.0;
    if (scaled || isnan(linear) || isnan(factor))
        return LD_FAIL(err, LD_E_UNSUPPORTED,
                       "the file scales its rotations; only those without scaling are read");
    if (experts > 0)
        return LD_FAIL(err, LD_E_UNSUPPORTED, "the file has layers of experts, which are not read");
    return LD_OK;
}

static enum ld_code read_reals(struct ld_llama_sizes *sizes, const struct ld_gguf *file,
                               struct ld_error *err)
{
    sizes->rope_base = 10000.0;
    enum ld_code code =
        ld_gguf_real(file, "llama.attention.layer_norm_rms_epsilon", true, &sizes->epsilon, err);
    if (code == LD_OK)
        code = ld_gguf_real(file, "llama.rope.freq_base", false, &sizes->rope_base, err);
    if (code != LD_OK)
        return code;
    if (!(sizes->epsilon > 0.0 && sizes->epsilon < 1.0))
        return LD_FAIL(err, LD_E_FORMAT,
                       "llama.attention.layer_norm_rms_epsilon is not between 0 and 1");
    if (!(sizes->rope_base >= 1.0 && sizes->rope_base <= 1e12))
        return LD_FAIL(err, LD_E_FORMAT, "llama.rope.freq_base is not between 1 and 10^12");
    return LD_OK;
}

/* Heads divide the width and each other, and all have the same width. */
static enum ld_code read_heads(struct ld_llama_sizes *sizes, const struct ld_gguf *file,
                               struct ld_error *err)
{
    sizes->kv_heads = sizes->heads;
    const struct size_key grouped[] = {
        {"llama.attention.head_count_kv", 1, sizes->heads, &sizes->kv_heads, false}};
    enum ld_code code = read_counts(file, grouped, 1, err);
    if (code != LD_OK)
        return code;
    if (sizes->width % sizes->heads != 0 || sizes->heads % sizes->kv_heads != 0 ||
        sizes->width / sizes->heads % 2 != 0)
        return LD_FAIL(err, LD_E_UNSUPPORTED,
                       "%u heads in groups of %u do not divide the width %u into even parts",
                       sizes->heads, sizes->kv_heads, sizes->width);
    sizes->head_width = sizes->width / sizes->heads;
    sizes->rotated = sizes->head_width;
    uint32_t key_width = sizes->head_width;
    uint32_t value_width = sizes->head_width;
    const struct size_key widths[] = {
        {"llama.rope.dimension_count", 2, sizes->head_width, &sizes->rotated, false},
        {"llama.attention.key_length", sizes->head_width, sizes->head_width, &key_width, false},
        {"llama.attention.value_length", sizes->head_width, sizes->head_width, &value_width,
         false}};
    code = read_counts(file, widths, sizeof widths / sizeof widths[0], err);
    if (code == LD_OK && sizes->rotated % 2 != 0)
        return LD_FAIL(err, LD_E_FORMAT, "llama.rope.dimension_count is %u, which is odd",
                       sizes->rotated);
    return code;
}

static enum ld_code read_sizes(struct ld_llama_sizes *sizes, const struct ld_gguf *file,
                               struct ld_error *err)
{
    const struct size_key keys[] = {
        {"llama.embedding_length", 2, WIDTH_MAX, &sizes->width, true},
        {"llama.feed_forward_length", 1, MLP_WIDTH_MAX, &sizes->mlp_width, true},
        {"llama.block_count", 1, LAYERS_MAX, &sizes->layers, true},
        {"llama.attention.head_count", 1, HEADS_MAX, &sizes->heads, true},
        {"llama.context_length", 32, 1 << 24, &sizes->context, true}};
    enum ld_code code = check_architecture(file, err);
    if (code == LD_OK)
        code = read_counts(file, keys, sizeof keys / sizeof keys[0], err);
    if (code == LD_OK)
        code = check_variants(file, err);
    if (code == LD_OK)
        code = read_reals(sizes, file, err);
    if (code == LD_OK)
        code = read_heads(sizes, file, err);
    if (sizes->context > LD_LLAMA_CONTEXT_MAX)
        sizes->context = LD_LLAMA_CONTEXT_MAX;
    return code;
}

/* ---- Tensors --------------------------------------------------------------------------------- */

/* A tensor of exactly this shape; outputs 0: a vector. */
static enum ld_code find(const struct ld_gguf *file, const char *name, uint32_t inputs,
                         uint32_t outputs, const struct ld_gguf_tensor **out, struct ld_error *err)
{
    const struct ld_gguf_tensor *tensor = ld_gguf_find_tensor(file, name);
    *out = tensor;
    if (!tensor)
        return LD_FAIL(err, LD_E_FORMAT, "the file lacks the tensor %s", name);
    const uint64_t rows = outputs > 0 ? outputs : 1;
    if (tensor->dims[0] != inputs || tensor->dims[1] != rows || tensor->dims[2] != 1 ||
        tensor->dims[3] != 1)
        return LD_FAIL(err, LD_E_FORMAT,
                       "tensor %s has the shape %llu x %llu; the file's sizes ask for %u x %llu",
                       name, (unsigned long long)tensor->dims[0],
                       (unsigned long long)tensor->dims[1], inputs, (unsigned long long)rows);
    return LD_OK;
}

/* Decode up to one Q8 block or 32 values from value `first` on. */
static void decode(float *out, const struct ld_gguf_tensor *tensor, const uint8_t *data,
                   uint64_t first, uint32_t count)
{
    switch (tensor->type) {
    case LD_GGUF_TENSOR_F32:
        ld_dtype_to_f32(out, data + 4 * first, LD_DTYPE_F32, count);
        break;
    case LD_GGUF_TENSOR_F16:
        ld_dtype_to_f32(out, data + 2 * first, LD_DTYPE_F16, count);
        break;
    case LD_GGUF_TENSOR_BF16:
        ld_dtype_to_f32(out, data + 2 * first, LD_DTYPE_BF16, count);
        break;
    case LD_GGUF_TENSOR_Q8_0: {
        const uint8_t *block = data + first / LD_GGUF_Q8_BLOCK * LD_GGUF_Q8_BYTES;
        const float scale = ld_f16_to_f32(ld_read_u16le(block));
        for (uint32_t i = 0; i < count; i++)
            out[i] = scale * (float)(int8_t)block[2 + i];
        break;
    }
    }
}

static enum ld_code load_vector(const struct ld_gguf *file, const char *name, uint32_t count,
                                float **out, struct ld_error *err)
{
    const struct ld_gguf_tensor *tensor;
    const enum ld_code code = find(file, name, count, 0, &tensor, err);
    if (code != LD_OK)
        return code;
    *out = ld_heap_calloc(count, sizeof **out);
    if (!*out)
        return LD_FAIL(err, LD_E_NOMEM, "not enough memory for the tensor %s", name);
    for (uint32_t i = 0; i < count; i += LD_GGUF_Q8_BLOCK)
        decode(*out + i, tensor, ld_gguf_data(file, tensor), i,
               count - i < LD_GGUF_Q8_BLOCK ? count - i : LD_GGUF_Q8_BLOCK);
    return LD_OK;
}

/* To float16; a value that it cannot hold would silently become infinite. */
static enum ld_code convert(struct llama_matrix *matrix, const struct ld_gguf_tensor *tensor,
                            const uint8_t *data, const char *name, struct ld_error *err)
{
    matrix->own = ld_block_alloc((size_t)tensor->elements * sizeof *matrix->own);
    if (!matrix->own)
        return LD_FAIL(err, LD_E_NOMEM, "not enough memory for the tensor %s", name);
    matrix->values = matrix->own;
    for (uint64_t i = 0; i < tensor->elements; i += LD_GGUF_Q8_BLOCK) {
        float values[LD_GGUF_Q8_BLOCK];
        const uint64_t left = tensor->elements - i;
        const uint32_t count = left < LD_GGUF_Q8_BLOCK ? (uint32_t)left : LD_GGUF_Q8_BLOCK;
        decode(values, tensor, data, i, count);
        for (uint32_t k = 0; k < count; k++)
            if (!(fabsf(values[k]) < 65520.0f)) /* rounds to infinity from here on */
                return LD_FAIL(err, LD_E_UNSUPPORTED,
                               "tensor %s holds a value that float16 cannot hold", name);
        ld_dtype_from_f32(matrix->own + i, values, LD_DTYPE_F16, count);
    }
    return LD_OK;
}

static enum ld_code load_matrix(const struct ld_gguf *file, const char *name, uint32_t inputs,
                                uint32_t outputs, struct llama_matrix *matrix, struct ld_error *err)
{
    const struct ld_gguf_tensor *tensor;
    const enum ld_code code = find(file, name, inputs, outputs, &tensor, err);
    if (code != LD_OK)
        return code;
    const uint8_t *data = ld_gguf_data(file, tensor);
    matrix->inputs = inputs;
    matrix->outputs = outputs;
    if (tensor->type != LD_GGUF_TENSOR_F16)
        return convert(matrix, tensor, data, name, err);
    matrix->values = (const uint16_t *)(const void *)data;
    return LD_OK;
}

static enum ld_code load_layer(struct ld_llama *llama, const struct ld_gguf *file, uint32_t index,
                               struct ld_error *err)
{
    const struct ld_llama_sizes *sizes = &llama->sizes;
    struct llama_layer *layer = &llama->layers[index];
    const uint32_t width = sizes->width;
    const uint32_t kv_width = ld_llama_kv_width(sizes);
    const struct {
        const char *name;
        uint32_t inputs, outputs;
        struct llama_matrix *matrix;
    } matrices[] = {{"attn_q", width, width, &layer->q},
                    {"attn_k", width, kv_width, &layer->k},
                    {"attn_v", width, kv_width, &layer->v},
                    {"attn_output", width, width, &layer->output},
                    {"ffn_gate", width, sizes->mlp_width, &layer->gate},
                    {"ffn_up", width, sizes->mlp_width, &layer->up},
                    {"ffn_down", sizes->mlp_width, width, &layer->down}};
    char name[NAME_SIZE];
    (void)ld_fmt(name, sizeof name, "blk.%u.attn_norm.weight", index);
    enum ld_code code = load_vector(file, name, width, &layer->attn_norm, err);
    (void)ld_fmt(name, sizeof name, "blk.%u.ffn_norm.weight", index);
    if (code == LD_OK)
        code = load_vector(file, name, width, &layer->ffn_norm, err);
    for (size_t i = 0; code == LD_OK && i < sizeof matrices / sizeof matrices[0]; i++) {
        (void)ld_fmt(name, sizeof name, "blk.%u.%s.weight", index, matrices[i].name);
        code = load_matrix(file, name, matrices[i].inputs, matrices[i].outputs, matrices[i].matrix,
                           err);
    }
    return code;
}

/* The vocabulary's size is that of the embedding. Without an output matrix of its own the embedding
 * is it. */
static enum ld_code load_ends(struct ld_llama *llama, const struct ld_gguf *file, uint32_t *tensors,
                              struct ld_error *err)
{
    struct ld_llama_sizes *sizes = &llama->sizes;
    const struct ld_gguf_tensor *embedding = ld_gguf_find_tensor(file, "token_embd.weight");
    if (embedding && embedding->dims[1] <= VOCABULARY_MAX)
        sizes->vocabulary = (uint32_t)embedding->dims[1];
    enum ld_code code = load_matrix(file, "token_embd.weight", sizes->width, sizes->vocabulary,
                                    &llama->embedding, err);
    if (code == LD_OK)
        code = load_vector(file, "output_norm.weight", sizes->width, &llama->output_norm, err);
    *tensors = 2;
    if (code != LD_OK)
        return code;
    if (!ld_gguf_find_tensor(file, "output.weight")) {
        llama->output = llama->embedding;
        llama->output.own = NULL;
        return LD_OK;
    }
    *tensors = 3;
    return load_matrix(file, "output.weight", sizes->width, sizes->vocabulary, &llama->output, err);
}

/* True for the name of a tensor that was loaded. */
static bool has_place(struct ld_span name, uint32_t layers)
{
    static const char *const parts[LAYER_TENSORS] = {"attn_norm", "attn_q",      "attn_k",
                                                     "attn_v",    "attn_output", "ffn_norm",
                                                     "ffn_gate",  "ffn_up",      "ffn_down"};
    if (ld_span_is(name, "token_embd.weight") || ld_span_is(name, "output_norm.weight") ||
        ld_span_is(name, "output.weight"))
        return true;
    for (uint32_t layer = 0; layer < layers; layer++) {
        for (size_t i = 0; i < LAYER_TENSORS; i++) {
            char known[NAME_SIZE];
            (void)ld_fmt(known, sizeof known, "blk.%u.%s.weight", layer, parts[i]);
            if (ld_span_is(name, known))
                return true;
        }
    }
    return false;
}

/* Names are unique, so a count beyond the loaded ones means others. */
static enum ld_code check_others(const struct ld_gguf *file, uint32_t layers, uint32_t loaded,
                                 struct ld_error *err)
{
    if (ld_gguf_tensor_count(file) == loaded)
        return LD_OK;
    for (uint32_t i = 0; i < ld_gguf_tensor_count(file); i++) {
        const struct ld_span name = ld_gguf_tensor_at(file, i)->name;
        if (!has_place(name, layers))
            return LD_FAIL(err, LD_E_UNSUPPORTED,
                           "tensor '%s' has no place in the decoder that is read",
                           ld_gguf_show(name).text);
    }
    return LD_FAIL(err, LD_E_FORMAT, "the file's tensors are not those of a decoder");
}

/* What the tensors and the cache will take; before any of it is allocated. */
static enum ld_code weigh(struct ld_llama_sizes *sizes, const struct ld_gguf *file,
                          struct ld_error *err)
{
    const uint64_t cache =
        (uint64_t)sizes->layers * sizes->context * ld_llama_kv_width(sizes) * 2 * sizeof(float);
    uint64_t weights = 0;
    sizes->parameters = 0;
    for (uint32_t i = 0; i < ld_gguf_tensor_count(file); i++) {
        const struct ld_gguf_tensor *tensor = ld_gguf_tensor_at(file, i);
        sizes->parameters += tensor->elements; /* 4096 of at most 2^33 */
        weights += tensor->elements * (tensor->rank == 1 ? sizeof(float) : sizeof(uint16_t));
    }
    sizes->bytes = weights + cache;
    if (sizes->bytes > LD_LLAMA_BYTES_MAX)
        return LD_FAIL(err, LD_E_TOO_LARGE,
                       "the language model takes %llu MiB for its weights and %llu MiB for its "
                       "context; at most %llu MiB are given",
                       (unsigned long long)(weights >> 20), (unsigned long long)(cache >> 20),
                       (unsigned long long)(LD_LLAMA_BYTES_MAX >> 20));
    return LD_OK;
}

enum ld_code ld_llama_load(struct ld_llama *llama, const struct ld_gguf *file, struct ld_error *err)
{
    struct ld_llama_sizes *sizes = &llama->sizes;
    enum ld_code code = read_sizes(sizes, file, err);
    if (code == LD_OK)
        code = weigh(sizes, file, err);
    if (code != LD_OK)
        return code;
    llama->layers = ld_heap_calloc(sizes->layers, sizeof *llama->layers);
    if (!llama->layers)
        return LD_FAIL(err, LD_E_NOMEM, "not enough memory for a language model");
    uint32_t loaded;
    code = load_ends(llama, file, &loaded, err);
    for (uint32_t i = 0; code == LD_OK && i < sizes->layers; i++, loaded += LAYER_TENSORS)
        code = load_layer(llama, file, i, err);
    return code == LD_OK ? check_others(file, sizes->layers, loaded, err) : code;
}

static void free_matrix(struct llama_matrix *matrix)
{
    if (matrix->own)
        ld_block_free(matrix->own, (size_t)matrix->inputs * matrix->outputs * sizeof *matrix->own);
}

void ld_llama_unload(struct ld_llama *llama)
{
    for (uint32_t i = 0; llama->layers && i < llama->sizes.layers; i++) {
        struct llama_layer *layer = &llama->layers[i];
        struct llama_matrix *const matrices[] = {&layer->q,      &layer->k,    &layer->v,
                                                 &layer->output, &layer->gate, &layer->up,
                                                 &layer->down};
        for (size_t k = 0; k < sizeof matrices / sizeof matrices[0]; k++)
            free_matrix(matrices[k]);
        ld_heap_free(layer->attn_norm);
        ld_heap_free(layer->ffn_norm);
    }
    free_matrix(&llama->embedding);
    free_matrix(&llama->output);
    ld_heap_free(llama->output_norm);
    ld_heap_free(llama->layers);
}
