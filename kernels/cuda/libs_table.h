/*
 * The functions of cuBLASLt and cuDNN that we call, by name; what the libs files share. Private to
 * kernels/cuda/libs*.c, the only files that see these libraries' headers.
 */
#ifndef LDK_LIBS_TABLE_H
#define LDK_LIBS_TABLE_H

#include "kernels/cuda/libs.h"
#include "kernels/cuda/plan_store.h"
#include "kernels/cuda/rt.h"

#if defined(__has_include)
#if __has_include(<cublasLt.h>)
#include <cublasLt.h>
#define LDK_HAS_CUBLASLT 1
#endif
#if __has_include(<cudnn_graph.h>)
#include <cudnn_graph.h>
#define LDK_HAS_CUDNN 1
#endif
#endif

/* LDK_LIBS_ALIGN: bytes that operands are aligned to, all that we promise. */
enum { LDK_LIBS_PLANS_MAX = 256, LDK_LIBS_ALIGN = 16, LDK_LIBS_DEVICE_SIZE = 256 };
/* What algorithms may use; more buys nothing for these shapes (the libraries' own advice is 32 MB
 * on Hopper). */
static const size_t LDK_LIBS_WORKSPACE_BYTES = (size_t)32 << 20;

#ifdef LDK_HAS_CUBLASLT
#define LDK_CUBLASLT_FUNCTIONS(X)                                                                  \
    X(cublasLtCreate)                                                                              \
    X(cublasLtDestroy)                                                                             \
    X(cublasLtGetVersion)                                                                          \
    X(cublasLtMatmul)                                                                              \
    X(cublasLtMatmulAlgoCheck)                                                                     \
    X(cublasLtMatmulAlgoConfigGetAttribute)                                                        \
    X(cublasLtMatmulAlgoConfigSetAttribute)                                                        \
    X(cublasLtMatmulAlgoGetHeuristic)                                                              \
    X(cublasLtMatmulAlgoInit)                                                                      \
    X(cublasLtMatmulDescCreate)                                                                    \
    X(cublasLtMatmulDescDestroy)                                                                   \
    X(cublasLtMatmulDescSetAttribute)                                                              \
    X(cublasLtMatmulPreferenceCreate)                                                              \
    X(cublasLtMatmulPreferenceDestroy)                                                             \
    X(cublasLtMatmulPreferenceSetAttribute)                                                        \
    X(cublasLtMatrixLayoutCreate)                                                                  \
    X(cublasLtMatrixLayoutDestroy)

struct ldk_cublaslt {
#define LDK_MEMBER(name) __typeof__(&name) name;
    LDK_CUBLASLT_FUNCTIONS(LDK_MEMBER)
#undef LDK_MEMBER
    cublasLtHandle_t handle;
};
#endif

#ifdef LDK_HAS_CUDNN
#define LDK_CUDNN_FUNCTIONS(X)                                                                     \
    X(cudnnCreate)                                                                                 \
    X(cudnnDestroy)                                                                                \
    X(cudnnGetVersion)                                                                             \
    X(cudnnSetStream)                                                                              \
    X(cudnnBackendCreateDescriptor)                                                                \
    X(cudnnBackendDestroyDescriptor)                                                               \
    X(cudnnBackendSetAttribute)                                                                    \
    X(cudnnBackendGetAttribute)                                                                    \
    X(cudnnBackendFinalize)                                                                        \
    X(cudnnBackendExecute)

struct ldk_cudnn {
#define LDK_MEMBER(name) __typeof__(&name) name;
    LDK_CUDNN_FUNCTIONS(LDK_MEMBER)
#undef LDK_MEMBER
    cudnnHandle_t handle;
};

/* One engine configuration made ready for one convolution; what tells them apart is `key`. */
struct ldk_cudnn_plan {
    char key[192];
    cudnnBackendDescriptor_t plan;
    int64_t workspace_bytes;
    bool refused;  /* the engine cannot do it; asked once */
    bool recorded; /* ran for the backend: a graph may hold its kernels */
    bool compiled; /* here: no file has it */
    uint64_t used;
};
#endif

struct ldk_libs {
    struct ldk_libs_info info;
    void *cublaslt_library, *cudnn_library; /* of dlopen */
    void *workspace;                        /* device, LDK_LIBS_WORKSPACE_BYTES; NULL: not yet */
#ifdef LDK_HAS_CUBLASLT
    struct ldk_cublaslt lt;
#endif
#ifdef LDK_HAS_CUDNN
    struct ldk_cudnn dnn;
    struct ldk_cudnn_plan *plans; /* [LDK_LIBS_PLANS_MAX] */
    uint32_t plan_count;
    uint64_t clock, plans_lost;
#endif
    struct ldk_plan_store store;
    char device[LDK_LIBS_DEVICE_SIZE]; /* what a kept plan is for */
};

/* The scratch memory of library calls, made at the first use. LDK_OK or the runtime's code. */
int ldk_libs_workspace(struct ldk_libs *libs, void **out);

/* Give back what libs_conv.c keeps. */
void ldk_libs_conv_deinit(struct ldk_libs *libs);

#endif
