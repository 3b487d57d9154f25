/*
 * Linear layers through cuBLASLt. Row-major y = x W^T is column-major y' = W x' for it, so W is its
 * A (transposed), x its B, and the bias runs along its rows. The residual is its C with beta 1.
 */
#include "kernels/cuda/libs_table.h"
#include "runtime/base/bytes.h"

#include <stdio.h>
#include <string.h>

#ifdef LDK_HAS_CUBLASLT

/* What makes an algorithm, in the order of its name. */
static const cublasLtMatmulAlgoConfigAttributes_t config_attributes[] = {
    CUBLASLT_ALGO_CONFIG_ID,
    CUBLASLT_ALGO_CONFIG_TILE_ID,
    CUBLASLT_ALGO_CONFIG_STAGES_ID,
    CUBLASLT_ALGO_CONFIG_SPLITK_NUM,
    CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME,
    CUBLASLT_ALGO_CONFIG_CTA_SWIZZLING,
    CUBLASLT_ALGO_CONFIG_CUSTOM_OPTION,
    CUBLASLT_ALGO_CONFIG_INNER_SHAPE_ID,
    CUBLASLT_ALGO_CONFIG_CLUSTER_SHAPE_ID};
enum { CONFIG_COUNT = sizeof config_attributes / sizeof config_attributes[0] };
/* The last two are 16 bits wide (their enums have no 32-bit form in the interface). */
enum { CONFIG_WIDE = 7 };

static const char prefix[] = "cublaslt:";

static cudaDataType_t type_of(enum ldk_dtype dtype)
{
    return dtype == LDK_BF16 ? CUDA_R_16BF : CUDA_R_16F;
}

/* Is this layer one that a library call computes as it is? */
static bool plain_product(const struct ldk_libs *libs, const struct ldk_linear *l)
{
    return libs->cublaslt_library && l->dtype != LDK_F32 && l->w.dtype == l->dtype && !l->x1 &&
           l->c1 == 0 && l->activation == LDK_ACT_NONE && !l->moments && !l->y_f32 &&
           !l->fp16_accumulate && !l->w.geglu && l->w.taps == 1 && l->w.bias16 &&
           l->w.k_padded == l->c0 && l->w.rows % 8 == 0 && l->rows > 0;
}

static bool is_aligned(const struct ldk_linear *l)
{
    const uintptr_t bases = (uintptr_t)l->x0 | (uintptr_t)l->w.data | (uintptr_t)l->w.bias16 |
                            (uintptr_t)l->residual | (uintptr_t)l->y;
    return bases % LDK_LIBS_ALIGN == 0;
}

/* The descriptors of one product. */
struct product {
    cublasLtMatmulDesc_t operation;
    cublasLtMatrixLayout_t a, b, d;
};

static void close_product(const struct ldk_cublaslt *lt, struct product *p)
{
    if (p->d)
        (void)lt->cublasLtMatrixLayoutDestroy(p->d);
    if (p->b)
        (void)lt->cublasLtMatrixLayoutDestroy(p->b);
    if (p->a)
        (void)lt->cublasLtMatrixLayoutDestroy(p->a);
    if (p->operation)
        (void)lt->cublasLtMatmulDescDestroy(p->operation);
}

static bool open_product(const struct ldk_cublaslt *lt, const struct ldk_linear *l,
                         struct product *p)
{
    const cudaDataType_t type = type_of(l->dtype);
    const cublasOperation_t transposed = CUBLAS_OP_T;
    const cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;
    const uint64_t n = (uint64_t)l->w.rows;
    const uint64_t k = (uint64_t)l->c0;
    const uint64_t m = (uint64_t)l->rows;
    memset(p, 0, sizeof *p);
    return lt->cublasLtMatmulDescCreate(&p->operation, CUBLAS_COMPUTE_32F, CUDA_R_32F) ==
               CUBLAS_STATUS_SUCCESS &&
           lt->cublasLtMatmulDescSetAttribute(p->operation, CUBLASLT_MATMUL_DESC_TRANSA,
                                              &transposed,
                                              sizeof transposed) == CUBLAS_STATUS_SUCCESS &&
           lt->cublasLtMatmulDescSetAttribute(p->operation, CUBLASLT_MATMUL_DESC_EPILOGUE,
                                              &epilogue,
                                              sizeof epilogue) == CUBLAS_STATUS_SUCCESS &&
           lt->cublasLtMatmulDescSetAttribute(p->operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER,
                                              &l->w.bias16,
                                              sizeof l->w.bias16) == CUBLAS_STATUS_SUCCESS &&
           lt->cublasLtMatrixLayoutCreate(&p->a, type, k, n, (int64_t)k) == CUBLAS_STATUS_SUCCESS &&
           lt->cublasLtMatrixLayoutCreate(&p->b, type, k, m, (int64_t)k) == CUBLAS_STATUS_SUCCESS &&
           lt->cublasLtMatrixLayoutCreate(&p->d, type, n, m, (int64_t)n) == CUBLAS_STATUS_SUCCESS;
}

/* ---- Names ----------------------------------------------------------------------------------- */

static bool read_config(const struct ldk_cublaslt *lt, const cublasLtMatmulAlgo_t *algorithm,
                        uint32_t values[CONFIG_COUNT])
{
    for (int i = 0; i < CONFIG_COUNT; i++) {
        size_t written;
        uint16_t narrow = 0;
        const bool wide = i < CONFIG_WIDE;
        values[i] = 0;
        if (lt->cublasLtMatmulAlgoConfigGetAttribute(
                algorithm, config_attributes[i], wide ? (void *)&values[i] : (void *)&narrow,
                wide ? sizeof values[i] : sizeof narrow, &written) != CUBLAS_STATUS_SUCCESS)
            return false;
        if (!wide)
            values[i] = narrow;
    }
    return true;
}

static bool print_name(const uint32_t values[CONFIG_COUNT], char out[LDK_LIBS_NAME_SIZE])
{
    int used = snprintf(out, LDK_LIBS_NAME_SIZE, "%s", prefix);
    for (int i = 0; i < CONFIG_COUNT && used < LDK_LIBS_NAME_SIZE; i++)
        used += snprintf(out + used, (size_t)(LDK_LIBS_NAME_SIZE - used), "%s%u", i ? "." : "",
                         values[i]);
    return used < LDK_LIBS_NAME_SIZE;
}

static bool parse_name(const char *name, uint32_t values[CONFIG_COUNT])
{
    const char *at = name + sizeof prefix - 1;
    if (strncmp(name, prefix, sizeof prefix - 1) != 0)
        return false;
    for (int i = 0; i < CONFIG_COUNT; i++) {
        uint64_t value;
        const size_t size = strcspn(at, ".");
        if (!ld_parse_u64(ld_span_of(at, size), &value) ||
            value > (i < CONFIG_WIDE ? UINT32_MAX : UINT16_MAX))
            return false;
        values[i] = (uint32_t)value;
        at += size;
        if (i + 1 < CONFIG_COUNT && *at++ != '.')
            return false;
    }
    return *at == '\0';
}

static bool make_algorithm(const struct ldk_cublaslt *lt, enum ldk_dtype dtype,
                           const uint32_t values[CONFIG_COUNT], cublasLtMatmulAlgo_t *out)
{
    const cudaDataType_t type = type_of(dtype);
    if (lt->cublasLtMatmulAlgoInit(lt->handle, CUBLAS_COMPUTE_32F, CUDA_R_32F, type, type, type,
                                   type, (int)values[0], out) != CUBLAS_STATUS_SUCCESS)
        return false;
    for (int i = 1; i < CONFIG_COUNT; i++) {
        const uint16_t narrow = (uint16_t)values[i];
        const bool wide = i < CONFIG_WIDE;
        if (lt->cublasLtMatmulAlgoConfigSetAttribute(
                out, config_attributes[i], wide ? (const void *)&values[i] : (const void *)&narrow,
                wide ? sizeof values[i] : sizeof narrow) != CUBLAS_STATUS_SUCCESS)
            return false;
    }
    return true;
}

/* What the heuristic may take for granted, left alone it would count on 256 bytes; and that pieces
 * of a split K meet in float32: left alone, they may in the output's 16 bits. */
static bool set_preference(const struct ldk_cublaslt *lt, cublasLtMatmulPreference_t preference)
{
    static const cublasLtMatmulPreferenceAttributes_t alignments[] = {
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES};
    const uint64_t limit = LDK_LIBS_WORKSPACE_BYTES;
    const uint32_t alignment = LDK_LIBS_ALIGN;
    const uint32_t reductions =
        CUBLASLT_REDUCTION_SCHEME_NONE | CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
    bool good = lt->cublasLtMatmulPreferenceSetAttribute(
                    preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &limit, sizeof limit) ==
                    CUBLAS_STATUS_SUCCESS &&
                lt->cublasLtMatmulPreferenceSetAttribute(
                    preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &reductions,
                    sizeof reductions) == CUBLAS_STATUS_SUCCESS;
    for (size_t i = 0; good && i < sizeof alignments / sizeof alignments[0]; i++)
        good = lt->cublasLtMatmulPreferenceSetAttribute(preference, alignments[i], &alignment,
                                                        sizeof alignment) == CUBLAS_STATUS_SUCCESS;
    return good;
}

/* ---- Ways ------------------------------------------------------------------------------------ */

uint32_t ldk_libs_linear_ways(struct ldk_libs *libs, const struct ldk_linear *linear,
                              struct ldk_libs_way *out, uint32_t capacity)
{
    struct ldk_cublaslt *lt = &libs->lt;
    struct product product;
    cublasLtMatmulPreference_t preference = NULL;
    cublasLtMatmulHeuristicResult_t results[LDK_LIBS_WAYS_MAX];
    int found = 0;
    uint32_t count = 0;
    if (!plain_product(libs, linear))
        return 0;
    const int wanted = capacity < LDK_LIBS_WAYS_MAX ? (int)capacity : LDK_LIBS_WAYS_MAX;
    if (open_product(lt, linear, &product) &&
        lt->cublasLtMatmulPreferenceCreate(&preference) == CUBLAS_STATUS_SUCCESS &&
        set_preference(lt, preference) &&
        lt->cublasLtMatmulAlgoGetHeuristic(lt->handle, product.operation, product.a, product.b,
                                           product.d, product.d, preference, wanted, results,
                                           &found) != CUBLAS_STATUS_SUCCESS)
        found = 0;
    for (int i = 0; i < found; i++) {
        uint32_t values[CONFIG_COUNT];
        if (results[i].state == CUBLAS_STATUS_SUCCESS &&
            read_config(lt, &results[i].algo, values) && print_name(values, out[count].name))
            count++;
    }
    if (preference)
        (void)lt->cublasLtMatmulPreferenceDestroy(preference);
    close_product(lt, &product);
    return count;
}

int ldk_libs_linear(struct ldk_libs *libs, const struct ldk_libs_way *way,
                    const struct ldk_linear *linear, ldk_stream stream)
{
    struct ldk_cublaslt *lt = &libs->lt;
    struct product product;
    cublasLtMatmulAlgo_t algorithm;
    cublasLtMatmulHeuristicResult_t checked;
    uint32_t values[CONFIG_COUNT];
    void *workspace;
    const float one = 1;
    const float zero = 0;
    if (!parse_name(way->name, values))
        return LDK_E_INVALID;
    if (!plain_product(libs, linear) || !is_aligned(linear))
        return LDK_E_UNSUPPORTED;
    int code = ldk_libs_workspace(libs, &workspace);
    if (code != LDK_OK)
        return code;
    code = LDK_E_UNSUPPORTED;
    if (open_product(lt, linear, &product) &&
        make_algorithm(lt, linear->dtype, values, &algorithm) &&
        lt->cublasLtMatmulAlgoCheck(lt->handle, product.operation, product.a, product.b, product.d,
                                    product.d, &algorithm, &checked) == CUBLAS_STATUS_SUCCESS &&
        checked.workspaceSize <= LDK_LIBS_WORKSPACE_BYTES &&
        lt->cublasLtMatmul(lt->handle, product.operation, &one, linear->w.data, product.a,
                           linear->x0, product.b, linear->residual ? &one : &zero,
                           linear->residual ? linear->residual : linear->y, product.d, linear->y,
                           product.d, &algorithm, workspace, LDK_LIBS_WORKSPACE_BYTES,
                           (cudaStream_t)stream) == CUBLAS_STATUS_SUCCESS)
        code = LDK_OK;
    close_product(lt, &product);
    return code;
}

#else

uint32_t ldk_libs_linear_ways(struct ldk_libs *libs, const struct ldk_linear *linear,
                              struct ldk_libs_way *out, uint32_t capacity)
{
    (void)libs;
    (void)linear;
    (void)out;
    (void)capacity;
    return 0;
}

int ldk_libs_linear(struct ldk_libs *libs, const struct ldk_libs_way *way,
                    const struct ldk_linear *linear, ldk_stream stream)
{
    (void)libs;
    (void)way;
    (void)linear;
    (void)stream;
    return LDK_E_UNSUPPORTED;
}

#endif
