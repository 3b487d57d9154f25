/*
 * Weights of the CPU backend: biases and per-part scales become float32 vectors, vectors are
 * float32, tables keep their own type (a row is decoded when it is looked up), and matrices are
 * packed by the level.
 */
#include "kernels/cpu/cpu.h"

#include "runtime/base/arena.h"

#include <string.h>

static float part_scale(const struct ld_weight_part *part)
{
    return part->scale == 0.0f ? 1.0f : part->scale;
}

/* Decode one vector part to float32, scale applied. */
static void decode_vector(float *dst, const struct ld_weight_part *part, int32_t rows)
{
    ld_dtype_to_f32(dst, part->data, part->dtype, (size_t)rows);
    float scale = part_scale(part);
    for (int32_t i = 0; scale != 1.0f && i < rows; i++)
        dst[i] *= scale;
}

/* One block holds bias and row_scale; neither is there where no part asks for it. */
static enum ld_code create_row_vectors(struct ld_weight *weight, const struct ld_weight_desc *desc,
                                       struct ld_error *err)
{
    bool has_bias = false;
    bool has_scale = false;
    for (uint32_t i = 0; i < desc->part_count; i++) {
        has_bias = has_bias || desc->bias[i].data != NULL;
        has_scale = has_scale || part_scale(&desc->parts[i]) != 1.0f;
    }
    size_t vectors = (has_bias ? 1u : 0u) + (has_scale ? 1u : 0u);
    if (vectors == 0)
        return LD_OK;
    size_t rows = (size_t)weight->facts.rows;
    weight->vector_bytes = vectors * rows * sizeof(float);
    float *at = ld_block_alloc(weight->vector_bytes);
    if (at == NULL)
        return LD_FAIL(err, LD_E_NOMEM, "out of memory for a bias");
    weight->bias = at;
    if (has_scale)
        weight->row_scale = has_bias ? at + rows : at;
    int32_t first = 0;
    for (uint32_t i = 0; i < desc->part_count; i++) {
        const int32_t part_rows = ld_weight_part_rows(desc, i);
        if (desc->bias[i].data != NULL)
            decode_vector(weight->bias + first, &desc->bias[i], part_rows);
        for (int32_t r = 0; has_scale && r < part_rows; r++)
            weight->row_scale[first + r] = part_scale(&desc->parts[i]);
        first += part_rows;
    }
    if (!has_bias)
        weight->bias = NULL;
    return LD_OK;
}

static enum ld_code create_vector(struct ld_weight *weight, const struct ld_weight_desc *desc,
                                  struct ld_error *err)
{
    weight->dtype = LD_DTYPE_F32;
    weight->data_bytes = (size_t)weight->facts.rows * sizeof(float);
    weight->data = ld_block_alloc(weight->data_bytes);
    if (weight->data == NULL)
        return LD_FAIL(err, LD_E_NOMEM, "out of memory for a weight vector");
    float *dst = weight->data;
    for (uint32_t i = 0; i < desc->part_count; dst += ld_weight_part_rows(desc, i++))
        decode_vector(dst, &desc->parts[i], ld_weight_part_rows(desc, i));
    return LD_OK;
}

static enum ld_code create_table(struct ld_weight *weight, const struct ld_weight_desc *desc,
                                 struct ld_error *err)
{
    weight->dtype = desc->parts[0].dtype;
    weight->data_bytes =
        (size_t)weight->facts.rows * (size_t)weight->facts.k * ld_dtype_size(weight->dtype);
    weight->data = ld_block_alloc(weight->data_bytes);
    if (weight->data == NULL)
        return LD_FAIL(err, LD_E_NOMEM, "out of memory for an embedding table");
    memcpy(weight->data, desc->parts[0].data, weight->data_bytes);
    return create_row_vectors(weight, desc, err);
}

enum ld_code ld_cpu_weight_create(struct ld_backend *backend, const struct ld_weight_desc *desc,
                                  struct ld_weight **out, struct ld_error *err)
{
    LD_ASSERT(backend != NULL && desc != NULL && out != NULL);
    *out = NULL;
    enum ld_code code = ld_check_weight(desc, err);
    if (code != LD_OK)
        return code;
    struct ld_weight *weight = ld_heap_alloc(sizeof *weight);
    if (weight == NULL)
        return LD_FAIL(err, LD_E_NOMEM, "out of memory for a weight");
    weight->facts = ld_weight_facts_of(desc);
    switch (desc->kind) {
    case LD_WEIGHT_VECTOR:
        code = create_vector(weight, desc, err);
        break;
    case LD_WEIGHT_TABLE:
        code = create_table(weight, desc, err);
        break;
    case LD_WEIGHT_LINEAR:
    case LD_WEIGHT_GEGLU:
    case LD_WEIGHT_CONV:
        code = create_row_vectors(weight, desc, err);
        if (code == LD_OK)
            code = ld_cpu_of(backend)->ops->weight_pack(ld_cpu_of(backend), desc, weight, err);
        break;
    }
    if (code != LD_OK) {
        ld_cpu_weight_destroy(backend, weight);
        return code;
    }
    *out = weight;
    return LD_OK;
}

void ld_cpu_weight_destroy(struct ld_backend *backend, struct ld_weight *weight)
{
    (void)backend;
    if (weight == NULL)
        return;
    if (weight->data != NULL)
        ld_block_free(weight->data, weight->data_bytes);
    float *vectors = weight->bias != NULL ? weight->bias : weight->row_scale;
    if (vectors != NULL)
        ld_block_free(vectors, weight->vector_bytes);
    ld_heap_free(weight);
}

size_t ld_cpu_weight_bytes(const struct ld_weight *weight)
{
    return sizeof *weight + weight->data_bytes + weight->vector_bytes;
}
