/*
 * A cuBLASLt of plain loops over the fake GPU, built as the shared library that kernels/cuda/libs.c
 * opens by name. It computes one thing, y = x W^T + bias with or without a residual, in three ways:
 *
 *     1   right, twice as fast as ours
 *     2   right, faster still, but an image's bits depend on how many rows it is computed with
 *     3   fastest, and forgets the bias
 *
 * Argument sizes are checked as the real library's are. What the program under test provides
 * (fake_gpu.h, conversions) is found in that program.
 */
#include "kernels/tensor.h"
#include "tests/cuda/fake_gpu.h"

#include <cublasLt.h>
#include <stdlib.h>
#include <string.h>

enum { WAY_RIGHT = 1, WAY_UNSTEADY, WAY_WRONG, WAYS = WAY_WRONG, VERSION = 139900, OPERANDS = 4 };

struct layout {
    cudaDataType type;
    uint64_t rows, columns;
    int64_t ld;
};

struct operation {
    cublasOperation_t transposed_a;
    cublasLtEpilogue_t epilogue;
    const void *bias;
};

struct preference {
    uint32_t alignment[OPERANDS]; /* of a, b, c, d */
    uint32_t reductions;          /* schemes that may be proposed */
};

struct product {
    const void *a, *b, *c;
    void *d;
    const void *bias;
    uint64_t n, m, k;
    bool bf16, residual;
    uint32_t way;
};

/* ---- Objects --------------------------------------------------------------------------------- */

static char handle;

cublasStatus_t cublasLtCreate(cublasLtHandle_t *out)
{
    *out = (cublasLtHandle_t)(void *)&handle;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t given)
{
    return (void *)given == &handle ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}

size_t cublasLtGetVersion(void)
{
    return VERSION;
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *out, cudaDataType type,
                                          uint64_t rows, uint64_t columns, int64_t ld)
{
    struct layout *layout = calloc(1, sizeof *layout);
    if (!layout)
        return CUBLAS_STATUS_ALLOC_FAILED;
    *layout = (struct layout){type, rows, columns, ld};
    *out = (cublasLtMatrixLayout_t)(void *)layout;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout)
{
    free(layout);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *out, cublasComputeType_t compute,
                                        cudaDataType_t scale)
{
    struct operation *operation = calloc(1, sizeof *operation);
    if (!operation || compute != CUBLAS_COMPUTE_32F || scale != CUDA_R_32F) {
        free(operation);
        return CUBLAS_STATUS_NOT_SUPPORTED;
    }
    *out = (cublasLtMatmulDesc_t)(void *)operation;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t operation)
{
    free(operation);
    return CUBLAS_STATUS_SUCCESS;
}

static cublasStatus_t take(void *member, size_t wanted, const void *value, size_t bytes)
{
    if (bytes != wanted)
        return CUBLAS_STATUS_INVALID_VALUE;
    memcpy(member, value, bytes);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t given,
                                              cublasLtMatmulDescAttributes_t attribute,
                                              const void *value, size_t bytes)
{
    struct operation *operation = (void *)given;
    if (attribute == CUBLASLT_MATMUL_DESC_TRANSA)
        return take(&operation->transposed_a, sizeof operation->transposed_a, value, bytes);
    if (attribute == CUBLASLT_MATMUL_DESC_EPILOGUE)
        return take(&operation->epilogue, sizeof operation->epilogue, value, bytes);
    if (attribute == CUBLASLT_MATMUL_DESC_BIAS_POINTER)
        return take(&operation->bias, sizeof operation->bias, value, bytes);
    return CUBLAS_STATUS_NOT_SUPPORTED;
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *out)
{
    struct preference *preference = malloc(sizeof *preference);
    for (int i = 0; preference && i < OPERANDS; i++)
        preference->alignment[i] = 256; /* the documented default */
    if (preference)
        preference->reductions = CUBLASLT_REDUCTION_SCHEME_MASK;
    *out = (cublasLtMatmulPreference_t)(void *)preference;
    return preference ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_ALLOC_FAILED;
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference)
{
    free(preference);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute,
                                                    const void *value, size_t bytes)
{
    struct preference *known = (void *)preference;
    const int operand = (int)attribute - (int)CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES;
    if (attribute == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES)
        return bytes == sizeof(uint64_t) ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
    if (attribute == CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK)
        return take(&known->reductions, sizeof known->reductions, value, bytes);
    return operand >= 0 && operand < OPERANDS
               ? take(&known->alignment[operand], sizeof known->alignment[0], value, bytes)
               : CUBLAS_STATUS_INVALID_VALUE;
}

/* ---- Algorithms ------------------------------------------------------------------------------ */

/* An algorithm is its attributes, 16 bits each. */
static uint16_t *attributes(cublasLtMatmulAlgo_t *algorithm)
{
    return (uint16_t *)(void *)algorithm->data;
}

/* The documented widths: 32 bits but for the last two. */
static size_t width_of(cublasLtMatmulAlgoConfigAttributes_t attribute)
{
    return attribute == CUBLASLT_ALGO_CONFIG_INNER_SHAPE_ID ||
                   attribute == CUBLASLT_ALGO_CONFIG_CLUSTER_SHAPE_ID
               ? sizeof(uint16_t)
               : sizeof(uint32_t);
}

cublasStatus_t cublasLtMatmulAlgoConfigSetAttribute(cublasLtMatmulAlgo_t *algorithm,
                                                    cublasLtMatmulAlgoConfigAttributes_t attribute,
                                                    const void *value, size_t bytes)
{
    if (bytes != width_of(attribute) || attribute == CUBLASLT_ALGO_CONFIG_ID)
        return CUBLAS_STATUS_INVALID_VALUE;
    memcpy(&attributes(algorithm)[attribute], value, sizeof(uint16_t)); /* little-endian */
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoConfigGetAttribute(const cublasLtMatmulAlgo_t *algorithm,
                                                    cublasLtMatmulAlgoConfigAttributes_t attribute,
                                                    void *value, size_t bytes, size_t *written)
{
    cublasLtMatmulAlgo_t copy = *algorithm;
    if (bytes != width_of(attribute))
        return CUBLAS_STATUS_INVALID_VALUE;
    memset(value, 0, bytes);
    memcpy(value, &attributes(&copy)[attribute], sizeof(uint16_t));
    *written = bytes;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoInit(cublasLtHandle_t given, cublasComputeType_t compute,
                                      cudaDataType_t scale, cudaDataType_t a, cudaDataType_t b,
                                      cudaDataType_t c, cudaDataType_t d, int id,
                                      cublasLtMatmulAlgo_t *out)
{
    memset(out, 0, sizeof *out);
    attributes(out)[CUBLASLT_ALGO_CONFIG_ID] = (uint16_t)id;
    return (void *)given == &handle && compute == CUBLAS_COMPUTE_32F && scale == CUDA_R_32F &&
                   a == b && b == c && c == d && id >= WAY_RIGHT && id <= WAYS
               ? CUBLAS_STATUS_SUCCESS
               : CUBLAS_STATUS_NOT_SUPPORTED;
}

/* D [n, m] = A^T [n, k] B [k, m], all of one two-byte type and without gaps. */
static bool fits(const struct operation *operation, const struct layout *a, const struct layout *b,
                 const struct layout *c, const struct layout *d)
{
    const bool half = a->type == CUDA_R_16F || a->type == CUDA_R_16BF;
    return half && a->type == b->type && b->type == c->type && c->type == d->type &&
           operation->transposed_a == CUBLAS_OP_T &&
           operation->epilogue == CUBLASLT_EPILOGUE_BIAS && operation->bias && a->rows == b->rows &&
           a->columns == d->rows && b->columns == d->columns && c->rows == d->rows &&
           c->columns == d->columns && a->ld == (int64_t)a->rows && b->ld == (int64_t)b->rows &&
           d->ld == (int64_t)d->rows;
}

cublasStatus_t cublasLtMatmulAlgoCheck(cublasLtHandle_t given, cublasLtMatmulDesc_t operation,
                                       cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                       cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                       const cublasLtMatmulAlgo_t *algorithm,
                                       cublasLtMatmulHeuristicResult_t *result)
{
    memset(result, 0, sizeof *result);
    result->algo = *algorithm;
    return (void *)given == &handle &&
                   fits((void *)operation, (void *)a, (void *)b, (void *)c, (void *)d)
               ? CUBLAS_STATUS_SUCCESS
               : CUBLAS_STATUS_NOT_SUPPORTED;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t given,
                                              cublasLtMatmulDesc_t operation,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int wanted,
                                              cublasLtMatmulHeuristicResult_t results[], int *found)
{
    const struct preference *known = (const void *)preference;
    *found = 0;
    if (!known)
        return CUBLAS_STATUS_INVALID_VALUE;
    /* What is asked for operands of more than 16 bytes need not run on them. */
    for (int i = 0; i < OPERANDS; i++)
        if (known->alignment[i] > 16)
            return CUBLAS_STATUS_NOT_SUPPORTED;
    /* Nor is what sums in 16 bits as exact as ours. */
    if (known->reductions & ~(uint32_t)CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE)
        return CUBLAS_STATUS_NOT_SUPPORTED;
    for (int way = WAYS; way >= WAY_RIGHT && *found < wanted; way--) {
        cublasLtMatmulHeuristicResult_t *result = &results[*found];
        cublasLtMatmulAlgo_t algorithm;
        const uint32_t tile = 20;
        const uint16_t cluster = 7;
        const cudaDataType type = ((const struct layout *)(void *)a)->type;
        if (cublasLtMatmulAlgoInit(given, CUBLAS_COMPUTE_32F, CUDA_R_32F, type, type, type, type,
                                   way, &algorithm) != CUBLAS_STATUS_SUCCESS ||
            cublasLtMatmulAlgoConfigSetAttribute(&algorithm, CUBLASLT_ALGO_CONFIG_TILE_ID, &tile,
                                                 sizeof tile) != CUBLAS_STATUS_SUCCESS ||
            cublasLtMatmulAlgoConfigSetAttribute(&algorithm, CUBLASLT_ALGO_CONFIG_CLUSTER_SHAPE_ID,
                                                 &cluster, sizeof cluster) != CUBLAS_STATUS_SUCCESS)
            return CUBLAS_STATUS_INTERNAL_ERROR;
        result->state = cublasLtMatmulAlgoCheck(given, operation, a, b, c, d, &algorithm, result);
        *found += result->state == CUBLAS_STATUS_SUCCESS;
    }
    return CUBLAS_STATUS_SUCCESS;
}

/* ---- The product ----------------------------------------------------------------------------- */

static float get(const void *x, uint64_t i, bool bf16)
{
    const uint16_t bits = ((const uint16_t *)x)[i];
    return bf16 ? ld_bf16_to_f32(bits) : ld_f16_to_f32(bits);
}

static void run_product(const void *args)
{
    const struct product *p = args;
    const float uneven = p->way == WAY_UNSTEADY && p->m > 16 ? 1.0F + 0x1p-9F : 1.0F;
    for (uint64_t j = 0; j < p->m; j++)
        for (uint64_t i = 0; i < p->n; i++) {
            float sum = 0;
            for (uint64_t k = 0; k < p->k; k++)
                sum += get(p->a, i * p->k + k, p->bf16) * get(p->b, j * p->k + k, p->bf16);
            if (p->residual)
                sum += get(p->c, j * p->n + i, p->bf16);
            if (p->way != WAY_WRONG)
                sum += get(p->bias, i, p->bf16);
            sum *= uneven;
            ((uint16_t *)p->d)[j * p->n + i] =
                p->bf16 ? ld_bf16_from_f32(sum) : ld_f16_from_f32(sum);
        }
    fake_gpu.now_ms -= p->way == WAY_RIGHT ? 0.5 : 0.75;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t given, cublasLtMatmulDesc_t operation,
                              const void *alpha, const void *a, cublasLtMatrixLayout_t a_layout,
                              const void *b, cublasLtMatrixLayout_t b_layout, const void *beta,
                              const void *c, cublasLtMatrixLayout_t c_layout, void *d,
                              cublasLtMatrixLayout_t d_layout,
                              const cublasLtMatmulAlgo_t *algorithm, void *workspace,
                              size_t workspace_bytes, cudaStream_t stream)
{
    cublasLtMatmulAlgo_t copy = *algorithm;
    cublasLtMatmulHeuristicResult_t checked;
    const struct layout *x = (void *)b_layout;
    const struct layout *y = (void *)d_layout;
    if (fake_gpu.library_fails || !workspace || workspace_bytes == 0 ||
        *(const float *)alpha != 1.0F ||
        cublasLtMatmulAlgoCheck(given, operation, a_layout, b_layout, c_layout, d_layout, algorithm,
                                &checked) != CUBLAS_STATUS_SUCCESS)
        return CUBLAS_STATUS_NOT_SUPPORTED;
    const struct product product = {.a = a,
                                    .b = b,
                                    .c = c,
                                    .d = d,
                                    .bias = ((const struct operation *)(void *)operation)->bias,
                                    .n = y->rows,
                                    .m = y->columns,
                                    .k = x->rows,
                                    .bf16 = x->type == CUDA_R_16BF,
                                    .residual = *(const float *)beta != 0,
                                    .way = attributes(&copy)[CUBLASLT_ALGO_CONFIG_ID]};
    return fake_gpu_enqueue((ldk_stream)stream, run_product, &product, sizeof product) == 0
               ? CUBLAS_STATUS_SUCCESS
               : CUBLAS_STATUS_EXECUTION_FAILED;
}
