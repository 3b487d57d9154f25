/*
 * As much of a CUDA driver as cuDNN asks for when it compiles a plan without a device: it wants to
 * load what it has compiled. Built as the shared library that cuDNN opens by name. Every other
 * function that it looks for is there and refuses.
 */

enum { SUCCESS = 0, NOT_SUPPORTED = 801 };

static char object;

int cuLibraryLoadData(void **library);
int cuLibraryGetKernel(void **kernel);
int cuLibraryUnload(void);

/* The arguments behind the first one are not looked at. */
int cuLibraryLoadData(void **library)
{
    *library = &object;
    return SUCCESS;
}

int cuLibraryGetKernel(void **kernel)
{
    *kernel = &object;
    return SUCCESS;
}

int cuLibraryUnload(void)
{
    return SUCCESS;
}

#define REFUSED(name)                                                                              \
    int name(void);                                                                                \
    int name(void)                                                                                 \
    {                                                                                              \
        return NOT_SUPPORTED;                                                                      \
    }
REFUSED(cuCtxGetCurrent)
REFUSED(cuCtxGetLimit)
REFUSED(cuCtxPopCurrent)
REFUSED(cuCtxPushCurrent)
REFUSED(cuDeviceGet)
REFUSED(cuDeviceGetCount)
REFUSED(cuDriverGetVersion)
REFUSED(cuGetErrorName)
REFUSED(cuGetErrorString)
REFUSED(cuKernelGetAttribute)
REFUSED(cuKernelSetAttribute)
REFUSED(cuLaunchCooperativeKernel)
REFUSED(cuLaunchKernel)
REFUSED(cuLaunchKernelEx)
REFUSED(cuLibraryLoadFromFile)
REFUSED(cuLinkAddData)
REFUSED(cuLinkComplete)
REFUSED(cuLinkCreate)
REFUSED(cuLinkDestroy)
REFUSED(cuOccupancyMaxPotentialClusterSize)
REFUSED(cuStreamGetCtx)
