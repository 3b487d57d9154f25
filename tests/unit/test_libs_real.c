/*
 * Proves that cuBLASLt and cuDNN themselves accept what we hand to them, and read it as it was
 * meant: descriptors, layouts, preferences, graphs, engine configurations, variant packs. How:
 * without a GPU. What needs a handle of cuBLASLt is answered here; cuDNN is given the properties of
 * a device in its place (its compilation ahead of time) and is stopped before it compiles. Skips
 * where the libraries are not installed.
 */
#include "tests/cuda/fake_gpu.h"
#include "tests/unit/cudnn_fixture.h"

#include <dlfcn.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#if defined(LDK_HAS_CUBLASLT) || defined(HAS_PROPERTIES)
/* Nothing is read: addresses are all that counts. */
static _Alignas(256) unsigned char memory[7][256];
enum { X, W, BIAS, BIAS16, ROW, RESIDUAL, Y };
#endif

static int reset(void **state)
{
    (void)state;
    fake_gpu_reset();
    return 0;
}

#ifdef LDK_HAS_CUBLASLT
static void find(void *library, const char *name, void *out)
{
    void *symbol = dlsym(library, name);
    if (!symbol)
        fail_msg("%s is missing", name);
    memcpy(out, &symbol, sizeof symbol);
}
#endif

/* ---- cuBLASLt -------------------------------------------------------------------------------- */

#ifdef LDK_HAS_CUBLASLT

enum { ROWS = 12, K = 32, N = 24, ATTRIBUTES = CUBLASLT_ALGO_CONFIG_CLUSTER_SHAPE_ID + 1 };

static struct ldk_libs lt_libs;
static __typeof__(&cublasLtMatmulDescGetAttribute) get_operation;
static __typeof__(&cublasLtMatrixLayoutGetAttribute) get_layout;
static __typeof__(&cublasLtMatmulPreferenceGetAttribute) get_preference;
static bool residual_wanted;
static int proposals, checks, products;

/* The documented width of an algorithm's attribute. */
static size_t width_of(int attribute)
{
    return attribute >= CUBLASLT_ALGO_CONFIG_INNER_SHAPE_ID ? sizeof(uint16_t) : sizeof(uint32_t);
}

static void check_layout(cublasLtMatrixLayout_t layout, uint64_t rows, uint64_t columns)
{
    uint32_t type = 0;
    uint64_t got_rows = 0;
    uint64_t got_columns = 0;
    int64_t ld = 0;
    size_t n;
    assert_int_equal(get_layout(layout, CUBLASLT_MATRIX_LAYOUT_TYPE, &type, sizeof type, &n), 0);
    assert_int_equal(
        get_layout(layout, CUBLASLT_MATRIX_LAYOUT_ROWS, &got_rows, sizeof got_rows, &n), 0);
    assert_int_equal(
        get_layout(layout, CUBLASLT_MATRIX_LAYOUT_COLS, &got_columns, sizeof got_columns, &n), 0);
    assert_int_equal(get_layout(layout, CUBLASLT_MATRIX_LAYOUT_LD, &ld, sizeof ld, &n), 0);
    assert_int_equal(type, CUDA_R_16BF);
    assert_int_equal(got_rows, rows);
    assert_int_equal(got_columns, columns);
    assert_int_equal(ld, rows);
}

static void check_operation(cublasLtMatmulDesc_t operation)
{
    uint32_t compute = 0;
    uint32_t scale = 99;
    uint32_t transposed = 99;
    uint32_t epilogue = 0;
    const void *bias = NULL;
    size_t n;
    assert_int_equal(get_operation(operation, CUBLASLT_MATMUL_DESC_COMPUTE_TYPE, &compute, 4, &n),
                     0);
    assert_int_equal(get_operation(operation, CUBLASLT_MATMUL_DESC_SCALE_TYPE, &scale, 4, &n), 0);
    assert_int_equal(get_operation(operation, CUBLASLT_MATMUL_DESC_TRANSA, &transposed, 4, &n), 0);
    assert_int_equal(get_operation(operation, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, 4, &n), 0);
    assert_int_equal(
        get_operation(operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof bias, &n), 0);
    assert_int_equal(compute, CUBLAS_COMPUTE_32F);
    assert_int_equal(scale, CUDA_R_32F);
    assert_int_equal(transposed, CUBLAS_OP_T);
    assert_int_equal(epilogue, CUBLASLT_EPILOGUE_BIAS);
    assert_ptr_equal(bias, memory[BIAS16]);
}

static void check_preference(cublasLtMatmulPreference_t preference)
{
    uint64_t workspace = 0;
    uint32_t reductions = 0;
    size_t n;
    assert_int_equal(get_preference(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                    &workspace, sizeof workspace, &n),
                     0);
    assert_int_equal(get_preference(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
                                    &reductions, sizeof reductions, &n),
                     0);
    assert_int_equal(workspace, LDK_LIBS_WORKSPACE_BYTES);
    assert_int_equal(reductions, CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE);
    for (int i = 0; i < 4; i++) {
        uint32_t alignment = 0;
        const int which = (int)CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES + i;
        assert_int_equal(get_preference(preference, (cublasLtMatmulPreferenceAttributes_t)which,
                                        &alignment, sizeof alignment, &n),
                         0);
        assert_int_equal(alignment, LDK_LIBS_ALIGN);
    }
}

static void check_matrices(cublasLtMatmulDesc_t operation, cublasLtMatrixLayout_t a,
                           cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c,
                           cublasLtMatrixLayout_t d)
{
    check_operation(operation);
    check_layout(a, K, N);
    check_layout(b, K, ROWS);
    check_layout(c, N, ROWS);
    check_layout(d, N, ROWS);
}

/* One algorithm, whose attributes the real library writes: 10 + its number. */
static cublasStatus_t propose(cublasLtHandle_t handle, cublasLtMatmulDesc_t operation,
                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                              cublasLtMatmulPreference_t preference, int wanted,
                              cublasLtMatmulHeuristicResult_t results[], int *found)
{
    (void)handle;
    assert_int_equal(wanted, LDK_LIBS_WAYS_MAX);
    check_matrices(operation, a, b, c, d);
    check_preference(preference);
    memset(results, 0, sizeof *results);
    for (int i = 1; i < ATTRIBUTES; i++) {
        const uint32_t value = 10 + (uint32_t)i;
        assert_int_equal(
            lt_libs.lt.cublasLtMatmulAlgoConfigSetAttribute(
                &results->algo, (cublasLtMatmulAlgoConfigAttributes_t)i, &value, width_of(i)),
            0);
    }
    *found = 1;
    proposals++;
    return CUBLAS_STATUS_SUCCESS;
}

static cublasStatus_t begin(cublasLtHandle_t handle, cublasComputeType_t compute,
                            cudaDataType_t scale, cudaDataType_t a, cudaDataType_t b,
                            cudaDataType_t c, cudaDataType_t d, int id, cublasLtMatmulAlgo_t *out)
{
    (void)handle;
    assert_int_equal(compute, CUBLAS_COMPUTE_32F);
    assert_int_equal(scale, CUDA_R_32F);
    assert_true(a == CUDA_R_16BF && b == a && c == a && d == a && id == 0);
    memset(out, 0, sizeof *out);
    return CUBLAS_STATUS_SUCCESS;
}

static cublasStatus_t check(cublasLtHandle_t handle, cublasLtMatmulDesc_t operation,
                            cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                            cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                            const cublasLtMatmulAlgo_t *algorithm,
                            cublasLtMatmulHeuristicResult_t *result)
{
    (void)handle;
    check_matrices(operation, a, b, c, d);
    memset(result, 0, sizeof *result);
    for (int i = 1; i < ATTRIBUTES; i++) {
        uint32_t value = 0;
        size_t n;
        assert_int_equal(
            lt_libs.lt.cublasLtMatmulAlgoConfigGetAttribute(
                algorithm, (cublasLtMatmulAlgoConfigAttributes_t)i, &value, width_of(i), &n),
            0);
        assert_int_equal(value, 10 + i);
    }
    checks++;
    return CUBLAS_STATUS_SUCCESS;
}

static cublasStatus_t multiply(cublasLtHandle_t handle, cublasLtMatmulDesc_t operation,
                               const void *alpha, const void *a, cublasLtMatrixLayout_t a_layout,
                               const void *b, cublasLtMatrixLayout_t b_layout, const void *beta,
                               const void *c, cublasLtMatrixLayout_t c_layout, void *d,
                               cublasLtMatrixLayout_t d_layout,
                               const cublasLtMatmulAlgo_t *algorithm, void *workspace,
                               size_t workspace_bytes, cudaStream_t stream)
{
    (void)handle;
    (void)algorithm;
    (void)stream;
    check_matrices(operation, a_layout, b_layout, c_layout, d_layout);
    assert_true(*(const float *)alpha == 1.0F);
    assert_true(*(const float *)beta == (residual_wanted ? 1.0F : 0.0F));
    assert_ptr_equal(a, memory[W]);
    assert_ptr_equal(b, memory[X]);
    assert_ptr_equal(c, memory[residual_wanted ? RESIDUAL : Y]);
    assert_ptr_equal(d, memory[Y]);
    assert_non_null(workspace);
    assert_int_equal(workspace_bytes, LDK_LIBS_WORKSPACE_BYTES);
    products++;
    return CUBLAS_STATUS_SUCCESS;
}
#endif

static void cublaslt_reads_a_layer_as_it_is_meant(void **state)
{
    (void)state;
#ifdef LDK_HAS_CUBLASLT
    char name[64];
    (void)snprintf(name, sizeof name, "libcublasLt.so.%d", CUBLAS_VER_MAJOR);
    void *library = dlopen(name, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (!library) {
        print_message("needs %s\n", name);
        skip();
    }
    struct ldk_cublaslt *lt = &lt_libs.lt;
#define FIND(function) find(library, #function, &lt->function);
    LDK_CUBLASLT_FUNCTIONS(FIND)
#undef FIND
    find(library, "cublasLtMatmulDescGetAttribute", &get_operation);
    find(library, "cublasLtMatrixLayoutGetAttribute", &get_layout);
    find(library, "cublasLtMatmulPreferenceGetAttribute", &get_preference);
    lt->cublasLtMatmulAlgoGetHeuristic = propose;
    lt->cublasLtMatmulAlgoInit = begin;
    lt->cublasLtMatmulAlgoCheck = check;
    lt->cublasLtMatmul = multiply;
    lt_libs.cublaslt_library = library;
    struct ldk_libs_way ways[LDK_LIBS_WAYS_MAX];
    struct ldk_linear linear = {.x0 = memory[X],
                                .c0 = K,
                                .rows = ROWS,
                                .rows_per_image = ROWS,
                                .w = {.data = memory[W],
                                      .rows = N,
                                      .rows_padded = N,
                                      .k = K,
                                      .k_padded = K,
                                      .taps = 1,
                                      .bias16 = memory[BIAS16],
                                      .dtype = LDK_BF16},
                                .y = memory[Y],
                                .dtype = LDK_BF16};
    assert_int_equal(ldk_libs_linear_ways(&lt_libs, &linear, ways, LDK_LIBS_WAYS_MAX), 1);
    assert_string_equal(ways[0].name, "cublaslt:0.11.16.12.13.14.15.17.18");
    for (int i = 0; i < 2; i++) {
        residual_wanted = i == 1;
        linear.residual = residual_wanted ? memory[RESIDUAL] : NULL;
        assert_int_equal(ldk_libs_linear(&lt_libs, &ways[0], &linear, NULL), LDK_OK);
    }
    assert_true(proposals == 1 && checks == 2 && products == 2);
    assert_int_equal(ldk_rt_free(lt_libs.workspace), 0);
    assert_int_equal(dlclose(library), 0);
#else
    print_message("needs the CUDA toolkit's cublasLt.h\n");
    skip();
#endif
}

/* ---- cuDNN ----------------------------------------------------------------------------------- */

#ifdef HAS_PROPERTIES

static struct ldk_libs dnn_libs;
static cudnnBackendDescriptor_t plan;
static int heuristics, executions;

static cudnnStatus_t create(cudnnBackendDescriptorType_t type, cudnnBackendDescriptor_t *out)
{
    (void)accepted(real_cudnn.cudnnBackendCreateDescriptor(type, out), "descriptor", (int)type);
    if (type == CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR)
        plan = *out;
    return CUDNN_STATUS_SUCCESS;
}

/* Compiling takes seconds, and its end a driver. */
static cudnnStatus_t finalize(cudnnBackendDescriptor_t object)
{
    return object == plan
               ? CUDNN_STATUS_SUCCESS
               : accepted(real_cudnn.cudnnBackendFinalize(object), "descriptor's end", 0);
}

static cudnnStatus_t get(cudnnBackendDescriptor_t object, cudnnBackendAttributeName_t name,
                         cudnnBackendAttributeType_t type, int64_t wanted, int64_t *count,
                         void *values)
{
    if (name == CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE) {
        *(int64_t *)values = 0;
        *count = 1;
        return CUDNN_STATUS_SUCCESS;
    }
    heuristics += name == CUDNN_ATTR_ENGINEHEUR_RESULTS;
    return accepted(real_cudnn.cudnnBackendGetAttribute(object, name, type, wanted, count, values),
                    "attribute asked for", (int)name);
}

static cudnnStatus_t execute(cudnnHandle_t handle, cudnnBackendDescriptor_t given,
                             cudnnBackendDescriptor_t pack)
{
    (void)handle;
    assert_ptr_equal(given, plan);
    assert_non_null(pack);
    executions++;
    return CUDNN_STATUS_SUCCESS;
}

/* One of every kind in the networks, and odd sides. */
static const struct {
    enum ldk_dtype dtype;
    int32_t in_h, in_w, out_h, out_w, stride, pad_before;
    bool row_add, residual;
} kinds[] = {
    {LDK_F16, 16, 24, 16, 24, 1, 1, false, false}, {LDK_F16, 16, 24, 16, 24, 1, 1, true, false},
    {LDK_BF16, 16, 24, 16, 24, 1, 1, false, true}, {LDK_BF16, 16, 24, 16, 24, 1, 1, true, true},
    {LDK_F16, 16, 24, 8, 12, 2, 1, false, false},  {LDK_F16, 17, 25, 9, 13, 2, 1, false, false},
    {LDK_BF16, 16, 24, 8, 12, 2, 0, false, false},
};
#endif

static void cudnn_takes_every_kind_of_convolution(void **state)
{
    (void)state;
#ifdef HAS_PROPERTIES
    enum { BATCH = 2, KINDS = sizeof kinds / sizeof kinds[0] };
    if (!open_real_cudnn(&dnn_libs))
        skip();
    dnn_libs.dnn.cudnnBackendCreateDescriptor = create;
    dnn_libs.dnn.cudnnBackendGetAttribute = get;
    dnn_libs.dnn.cudnnBackendFinalize = finalize;
    dnn_libs.dnn.cudnnBackendExecute = execute;
    /* Engines that compile are proposed where there is a driver to load, if only a stub. */
    const bool driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL) != NULL;
    int runs = 0;
    for (int i = 0; i < KINDS; i++) {
        struct ldk_libs_way ways[LDK_LIBS_WAYS_MAX];
        const struct ldk_conv conv = {.x0 = memory[X],
                                      .c0 = 64,
                                      .batch = BATCH,
                                      .in_h = kinds[i].in_h,
                                      .in_w = kinds[i].in_w,
                                      .out_h = kinds[i].out_h,
                                      .out_w = kinds[i].out_w,
                                      .stride = kinds[i].stride,
                                      .pad_before = kinds[i].pad_before,
                                      .w = {.data = memory[W],
                                            .bias = (const float *)(void *)memory[BIAS],
                                            .rows = 128,
                                            .rows_padded = 128,
                                            .k = 64,
                                            .k_padded = 64,
                                            .taps = 9,
                                            .dtype = kinds[i].dtype},
                                      .row_add = kinds[i].row_add ? memory[ROW] : NULL,
                                      .row_add_stride = 640,
                                      .row_add_f32 = true,
                                      .residual = kinds[i].residual ? memory[RESIDUAL] : NULL,
                                      .y = memory[Y],
                                      .dtype = kinds[i].dtype};
        const uint32_t count = ldk_libs_conv_ways(&dnn_libs, &conv, ways, LDK_LIBS_WAYS_MAX);
        assert_int_equal(heuristics, i + 1);
        if (driver && count == 0)
            fail_msg("nothing is proposed for kind %d", i);
        for (uint32_t w = 0; w < count; w++, runs++) {
            if (ldk_libs_conv(&dnn_libs, &ways[w], &conv, NULL) != LDK_OK)
                fail_msg("kind %d does not run as %s", i, ways[w].name);
        }
        struct ldk_conv over = conv; /* its own residual: none of these may run */
        over.y = memory[RESIDUAL];
        if (!conv.residual)
            continue;
        for (uint32_t w = 0; w < count; w++)
            assert_int_equal(ldk_libs_conv(&dnn_libs, &ways[w], &over, NULL), LDK_E_UNSUPPORTED);
        assert_int_equal(ldk_libs_conv_ways(&dnn_libs, &over, ways, LDK_LIBS_WAYS_MAX), 0);
    }
    assert_int_equal(executions, runs);
    close_real_cudnn(&dnn_libs);
    if (!driver)
        print_message("engines need libcuda.so.1: graphs alone were looked at\n");
#else
    print_message("needs cudnn_graph.h of cuDNN 9.8 or newer\n");
    skip();
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(cublaslt_reads_a_layer_as_it_is_meant, reset),
        cmocka_unit_test_setup(cudnn_takes_every_kind_of_convolution, reset),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
