#include "tests/unit/cudnn_fixture.h"

#ifdef HAS_PROPERTIES

#include <dlfcn.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* A Hopper of 132 multiprocessors in cuDNN's own words. */
static const char device[] =
    "{\"cudaDeviceId\":0,\"deviceVer\":900,\"driverVer\":13000,\"deviceName\":\"a Hopper\","
    "\"maxGridSize\":[2147483647,65535,65535],\"maxBlockSize\":[1024,1024,64],"
    "\"regsPerBlock\":65536,\"multiProcessorCount\":132,\"warpSize\":32,"
    "\"maxSharedMemoryPerBlock\":49152,\"maxSharedMemoryPerBlockOptin\":232448,"
    "\"reservedSharedMemoryPerBlock\":1024,\"maxRegistersPerSM\":65536,\"maxCtasPerSM\":32,"
    "\"maxThreadsPerBlock\":1024,\"maxThreadsPerSM\":2048,\"pciDeviceId\":0,\"isTccDriver\":0,"
    "\"supportCoopLaunch\":1,\"smClockRateKHz\":1980000,\"memClockRateKHz\":3201000,"
    "\"l2CacheSize\":62914560,\"totalGlobalMem\":150754820096}";

struct ldk_cudnn real_cudnn;
static cudnnBackendDescriptor_t properties;
static void (*last_error)(char *text, size_t size);

cudnnStatus_t accepted(cudnnStatus_t status, const char *what, int which)
{
    char text[512] = "";
    if (status != CUDNN_STATUS_SUCCESS) {
        last_error(text, sizeof text);
        fail_msg("%s %d is refused (status %d): %s", what, which, (int)status, text);
    }
    return status;
}

static void give_device(cudnnBackendDescriptor_t object, cudnnBackendAttributeName_t name)
{
    (void)accepted(real_cudnn.cudnnBackendSetAttribute(object, name, CUDNN_TYPE_BACKEND_DESCRIPTOR,
                                                       1, &properties),
                   "device properties, attribute", (int)name);
}

cudnnStatus_t set_without_handle(cudnnBackendDescriptor_t object, cudnnBackendAttributeName_t name,
                                 cudnnBackendAttributeType_t type, int64_t count,
                                 const void *values)
{
    if (name == CUDNN_ATTR_OPERATIONGRAPH_HANDLE)
        return CUDNN_STATUS_SUCCESS;
    if (name == CUDNN_ATTR_EXECUTION_PLAN_HANDLE) {
        give_device(object, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP);
        return CUDNN_STATUS_SUCCESS;
    }
    (void)accepted(real_cudnn.cudnnBackendSetAttribute(object, name, type, count, values),
                   "attribute", (int)name);
    if (name == CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH)
        give_device(object, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP);
    if (name == CUDNN_ATTR_ENGINE_OPERATION_GRAPH)
        give_device(object, CUDNN_ATTR_ENGINE_DEVICEPROP);
    return CUDNN_STATUS_SUCCESS;
}

static cudnnStatus_t set_stream(cudnnHandle_t handle, cudaStream_t stream)
{
    (void)handle;
    (void)stream;
    return CUDNN_STATUS_SUCCESS;
}

/* Does cuDNN know the device by these words? Another version may want more of them. */
static bool make_properties(void)
{
    return real_cudnn.cudnnBackendCreateDescriptor(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR,
                                                   &properties) == CUDNN_STATUS_SUCCESS &&
           real_cudnn.cudnnBackendSetAttribute(
               properties, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR,
               sizeof device - 1, device) == CUDNN_STATUS_SUCCESS &&
           real_cudnn.cudnnBackendFinalize(properties) == CUDNN_STATUS_SUCCESS;
}

static void find(void *library, const char *name, void *out)
{
    void *symbol = dlsym(library, name);
    if (!symbol)
        fail_msg("%s is missing", name);
    memcpy(out, &symbol, sizeof symbol);
}

bool open_real_cudnn(struct ldk_libs *libs)
{
    char name[64];
    (void)snprintf(name, sizeof name, "libcudnn.so.%d", CUDNN_MAJOR);
    void *library = dlopen(name, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (!library) {
        print_message("needs %s\n", name);
        return false;
    }
#define FIND(function)                                                                             \
    find(library, #function, &real_cudnn.function);                                                \
    libs->dnn.function = real_cudnn.function;
    LDK_CUDNN_FUNCTIONS(FIND)
#undef FIND
    find(library, "cudnnGetLastErrorString", &last_error);
    libs->cudnn_library = library;
    libs->dnn.cudnnBackendSetAttribute = set_without_handle;
    libs->dnn.cudnnSetStream = set_stream;
    if (make_properties())
        return true;
    print_message("needs a cuDNN that takes these device properties\n");
    return false;
}

void close_real_cudnn(struct ldk_libs *libs)
{
    ldk_libs_conv_deinit(libs);
    if (libs->workspace)
        assert_int_equal(ldk_rt_free(libs->workspace), 0);
    assert_int_equal(real_cudnn.cudnnBackendDestroyDescriptor(properties), CUDNN_STATUS_SUCCESS);
    assert_int_equal(dlclose(libs->cudnn_library), 0);
}

#endif
