#include "kernels/cuda/libs.h"

#include "kernels/cuda/libs_table.h"
#include "runtime/base/arena.h"
#include "runtime/base/bytes.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

/* ---- Opening --------------------------------------------------------------------------------- */

#if defined(LDK_HAS_CUBLASLT) || defined(LDK_HAS_CUDNN)
/* The library of the major version that the headers describe, else none: another major version
 * may pass other structs. It stays loaded until the process ends: what it has left with the driver
 * and with threads points into it, and the next device finds it at once. */
static void *open_library(const char *stem, int major, char *why, size_t why_size)
{
    char name[64];
    LD_ASSERT(ld_fmt(name, sizeof name, "%s.so.%d", stem, major));
    void *library = dlopen(name, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (!library)
        (void)snprintf(why, why_size, "%s not found", name);
    return library;
}

/* A function pointer cannot be cast from an object pointer in strict C; its bytes can be copied. */
static bool find(void *library, const char *name, void *out, char *why, size_t why_size)
{
    void *symbol = dlsym(library, name);
    memcpy(out, &symbol, sizeof symbol);
    if (!symbol)
        (void)snprintf(why, why_size, "%s is missing", name);
    return symbol != NULL;
}
#endif

#define LDK_FIND(name) found = found && find(library, #name, &table->name, why, why_size);

#ifdef LDK_HAS_CUBLASLT
static void open_cublaslt(struct ldk_libs *libs, char *why, size_t why_size)
{
    struct ldk_cublaslt *table = &libs->lt;
    void *library = open_library("libcublasLt", CUBLAS_VER_MAJOR, why, why_size);
    bool found = library != NULL;
    LDK_CUBLASLT_FUNCTIONS(LDK_FIND)
    if (found) {
        const int code = (int)table->cublasLtCreate(&table->handle);
        found = code == CUBLAS_STATUS_SUCCESS;
        if (!found)
            (void)snprintf(why, why_size, "version %zu does not start (code %d)",
                           table->cublasLtGetVersion(), code);
    }
    if (found) {
        libs->info.cublaslt = (int32_t)table->cublasLtGetVersion();
        libs->cublaslt_library = library;
    } else if (library) {
        (void)dlclose(library);
    }
}
#else
static void open_cublaslt(struct ldk_libs *libs, char *why, size_t why_size)
{
    (void)libs;
    (void)snprintf(why, why_size, "not in this build");
}
#endif

#ifdef LDK_HAS_CUDNN
static void open_cudnn(struct ldk_libs *libs, char *why, size_t why_size)
{
    struct ldk_cudnn *table = &libs->dnn;
    void *library = open_library("libcudnn", CUDNN_MAJOR, why, why_size);
    bool found = library != NULL;
    LDK_CUDNN_FUNCTIONS(LDK_FIND)
    if (found) {
        const int code = (int)table->cudnnCreate(&table->handle);
        found = code == CUDNN_STATUS_SUCCESS;
        if (!found)
            (void)snprintf(why, why_size, "version %zu does not start (code %d)",
                           table->cudnnGetVersion(), code);
    }
    if (found) {
        libs->info.cudnn = (int32_t)table->cudnnGetVersion();
        libs->cudnn_library = library;
    } else if (library) {
        (void)dlclose(library);
    }
}
#else
static void open_cudnn(struct ldk_libs *libs, char *why, size_t why_size)
{
    (void)libs;
    (void)snprintf(why, why_size, "not in this build");
}
#endif

enum ld_code ldk_libs_open(struct ldk_libs **out, struct ld_error *err)
{
    char lt[80] = "";
    char dnn[80] = "";
    struct ldk_libs *libs = ld_heap_alloc(sizeof *libs);
    *out = libs;
    if (!libs)
        return LD_FAIL(err, LD_E_NOMEM, "not enough memory for the libraries' tables");
    open_cublaslt(libs, lt, sizeof lt);
    open_cudnn(libs, dnn, sizeof dnn);
    if (libs->info.cublaslt)
        (void)snprintf(lt, sizeof lt, "version %d", libs->info.cublaslt);
    if (libs->info.cudnn)
        (void)snprintf(dnn, sizeof dnn, "version %d", libs->info.cudnn);
    (void)snprintf(libs->info.sentence, sizeof libs->info.sentence, "cuBLASLt: %s; cuDNN: %s", lt,
                   dnn);
    return LD_OK;
}

void ldk_libs_close(struct ldk_libs *libs)
{
    if (!libs)
        return;
    ldk_libs_conv_deinit(libs);
    if (libs->workspace)
        (void)ldk_rt_free(libs->workspace);
#ifdef LDK_HAS_CUBLASLT
    if (libs->cublaslt_library) {
        (void)libs->lt.cublasLtDestroy(libs->lt.handle);
        (void)dlclose(libs->cublaslt_library);
    }
#endif
#ifdef LDK_HAS_CUDNN
    if (libs->cudnn_library) {
        (void)libs->dnn.cudnnDestroy(libs->dnn.handle);
        (void)dlclose(libs->cudnn_library);
    }
#endif
    ld_heap_free(libs);
}

const struct ldk_libs_info *ldk_libs_info(const struct ldk_libs *libs)
{
    return &libs->info;
}

void ldk_libs_keep_plans(struct ldk_libs *libs, const char *folder, const char *device)
{
    if (ld_fmt(libs->device, sizeof libs->device, "%s", device))
        ldk_plan_store_init(&libs->store, folder);
}

size_t ldk_libs_scratch_bytes(void)
{
#if defined(LDK_HAS_CUBLASLT) || defined(LDK_HAS_CUDNN)
    return LDK_LIBS_WORKSPACE_BYTES;
#else
    return 0;
#endif
}

int ldk_libs_workspace(struct ldk_libs *libs, void **out)
{
    int code = LDK_OK;
    if (!libs->workspace)
        code = ldk_rt_malloc(&libs->workspace, LDK_LIBS_WORKSPACE_BYTES);
    *out = libs->workspace;
    return code;
}
