/*
 * Proves that the CUDA runtime over the PTX machine refuses what CUDA refuses, and that captures
 * and graphs keep CUDA's rules. Its kernels are real: nvcc's object file registers and launches
 * them. The last case breaks the device on purpose, which prints one sentence.
 */
#include "tests/cuda/hostcuda.h"

#include <stddef.h>

extern "C" {
#include "tests/ptx/ptx.h"
}

static __global__ void add(int *x, int count, int by)
{
    int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
    if (i < count)
        x[i] += by;
}

static __global__ void twice(int *x)
{
    x[threadIdx.x] *= 2;
}

static __global__ void __launch_bounds__(64) bounded(int *x)
{
    x[threadIdx.x] = static_cast<int>(blockDim.x);
}

/* Static shared memory beside dynamic. */
static __global__ void both_shared(int *x, int words)
{
    __shared__ int own[16];
    extern __shared__ int given[];
    own[threadIdx.x & 15] = 7;
    given[words - 1] = 5;
    __syncthreads();
    x[0] = own[3] + given[words - 1];
}

struct odd {
    char bytes[5];
};

static __global__ void mixed(char a, double b, short c, odd d, int *x)
{
    x[0] = a;
    x[1] = static_cast<int>(b);
    x[2] = c;
    x[3] = d.bytes[4];
}

static __global__ void at_index(int *x, int64_t at)
{
    x[at] = 1;
}

static void expect(cudaError_t got, cudaError_t want, const char *what)
{
    hc_expect(got == want, "%s: %d (%s), not %d", what, static_cast<int>(got),
              cudaGetErrorString(got), static_cast<int>(want));
    cudaError_t last = cudaGetLastError();
    hc_expect(last == want, "%s: the last error is %d", what, static_cast<int>(last));
}

#define EXPECT(call, want) expect(call, want, #call)
#define OK(call)           expect(call, cudaSuccess, #call)

/* What came of the launch before. */
static void launched(cudaError_t want)
{
    cudaError_t got = cudaGetLastError();
    hc_expect(got == want, "the launch: %d, not %d", static_cast<int>(got), static_cast<int>(want));
}

static int at(const int *x, int i)
{
    int value = 0;
    cudaMemcpyAsync(&value, x + i, sizeof value, cudaMemcpyDeviceToHost, nullptr);
    return value;
}

static int *ints(int count, int value)
{
    void *x = nullptr;
    OK(cudaMalloc(&x, static_cast<size_t>(count) * sizeof(int)));
    int *first = static_cast<int *>(x);
    for (int i = 0; i < count; i++)
        cudaMemcpyAsync(first + i, &value, sizeof value, cudaMemcpyHostToDevice, nullptr);
    return first;
}

static void test_memory()
{
    hc_case("memory");
    void *x = nullptr, *pinned = nullptr;
    size_t before = 0, after = 0, total = 0;
    unsigned char host[64];
    OK(cudaMemGetInfo(&before, &total));
    OK(cudaMalloc(&x, 33));
    hc_expect(reinterpret_cast<uintptr_t>(x) % 256 == 0, "memory of the device is aligned to 256");
    OK(cudaMemGetInfo(&after, &total));
    hc_expect(before - after == 256, "33 bytes take %zu", before - after);
    OK(cudaMemcpyAsync(host, x, 33, cudaMemcpyDeviceToHost, nullptr));
    hc_expect(host[0] == 0xFF && host[32] == 0xFF, "new memory is 0xFF");
    char *bytes = static_cast<char *>(x);
    EXPECT(cudaMemcpyAsync(host, x, 34, cudaMemcpyDeviceToHost, nullptr), cudaErrorInvalidValue);
    EXPECT(cudaMemcpyAsync(bytes + 1, host, 33, cudaMemcpyHostToDevice, nullptr),
           cudaErrorInvalidValue);
    EXPECT(cudaMemcpyAsync(host, host + 32, 4, cudaMemcpyDeviceToHost, nullptr),
           cudaErrorInvalidValue);
    EXPECT(cudaMemcpyAsync(x, bytes + 8, 4, cudaMemcpyHostToDevice, nullptr),
           cudaErrorInvalidValue);
    EXPECT(cudaMemsetAsync(bytes + 30, 0, 4, nullptr), cudaErrorInvalidValue);
    OK(cudaMemsetAsync(bytes + 30, 0, 3, nullptr));
    OK(cudaHostAlloc(&pinned, 8, cudaHostAllocDefault));
    EXPECT(cudaMemcpyAsync(pinned, x, 9, cudaMemcpyDeviceToHost, nullptr), cudaErrorInvalidValue);
    OK(cudaMemcpyAsync(pinned, x, 8, cudaMemcpyDeviceToHost, nullptr));
    EXPECT(cudaFree(pinned), cudaErrorInvalidValue);
    OK(cudaFreeHost(pinned));
    EXPECT(cudaFree(bytes + 1), cudaErrorInvalidValue);
    OK(cudaFree(x));
    EXPECT(cudaFree(x), cudaErrorInvalidValue);
    OK(cudaFree(nullptr));
    EXPECT(cudaMalloc(&x, total + 1), cudaErrorMemoryAllocation);
}

static void test_launches()
{
    hc_case("launches");
    int *x = ints(64, 0);
    add<<<2, 32>>>(x, 64, 3);
    launched(cudaSuccess);
    hc_expect(at(x, 0) == 3 && at(x, 63) == 3, "both blocks ran");
    mixed<<<1, 1>>>(-1, 2.5e3, -3, odd{{0, 0, 0, 0, 9}}, x);
    hc_expect(at(x, 0) == -1 && at(x, 1) == 2500 && at(x, 2) == -3 && at(x, 3) == 9,
              "parameters lie where the kernel looks");
    bounded<<<1, 64>>>(x);
    launched(cudaSuccess);
    bounded<<<1, 65>>>(x);
    launched(cudaErrorLaunchOutOfResources);
    add<<<1, 1025>>>(x, 0, 0);
    launched(cudaErrorInvalidConfiguration);
    add<<<1, dim3(2, 2, 65)>>>(x, 0, 0);
    launched(cudaErrorInvalidConfiguration);
    add<<<0, 32>>>(x, 0, 0);
    launched(cudaErrorInvalidConfiguration);
    add<<<dim3(1, 65536), 32>>>(x, 0, 0);
    launched(cudaErrorInvalidConfiguration);
    EXPECT(cudaLaunchKernel(x, 1, 1, nullptr, 0, nullptr), cudaErrorInvalidDeviceFunction);
    EXPECT(cudaMemsetAsync(x, 0, 4, reinterpret_cast<cudaStream_t>(x)),
           cudaErrorInvalidResourceHandle);
    OK(cudaFree(x));
}

static void test_shared()
{
    hc_case("shared memory");
    enum { OWN = 64, PLAIN = 48 << 10, MOST = 163 << 10 };
    int *x = ints(1, 0);
    const void *kernel = reinterpret_cast<const void *>(both_shared);
    cudaFuncAttributes attributes;
    OK(cudaFuncGetAttributes(&attributes, kernel));
    hc_expect(attributes.sharedSizeBytes == OWN, "its own: %zu bytes", attributes.sharedSizeBytes);
    both_shared<<<1, 32, PLAIN - OWN>>>(x, (PLAIN - OWN) / 4);
    launched(cudaSuccess);
    hc_expect(at(x, 0) == 12, "both kinds are apart");
    both_shared<<<1, 32, PLAIN - OWN + 4>>>(x, 1);
    launched(cudaErrorInvalidValue);
    EXPECT(
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, MOST - OWN + 4),
        cudaErrorInvalidValue);
    OK(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, MOST - OWN));
    both_shared<<<1, 32, MOST - OWN>>>(x, (MOST - OWN) / 4);
    launched(cudaSuccess);
    OK(cudaFree(x));
}

/* ---- Captures -------------------------------------------------------------------------------- */

static cudaStream_t stream()
{
    cudaStream_t out = nullptr;
    OK(cudaStreamCreateWithPriority(&out, cudaStreamNonBlocking, 0));
    return out;
}

static cudaEvent_t event()
{
    cudaEvent_t out = nullptr;
    OK(cudaEventCreate(&out));
    return out;
}

static void begin(cudaStream_t s)
{
    OK(cudaStreamBeginCapture(s, cudaStreamCaptureModeThreadLocal));
}

/* Ends with this error, and the stream is free again. */
static void end_fails(cudaStream_t s, cudaError_t want)
{
    cudaGraph_t graph = nullptr;
    EXPECT(cudaStreamEndCapture(s, &graph), want);
    hc_expect(graph == nullptr, "no graph with an error");
    OK(cudaStreamSynchronize(s));
}

/* x[0] = ((1 + 10) * 2 + 5): 10 on one stream, the doubling on another, 5 behind both; under each
 * order. */
static void test_graph()
{
    hc_case("a graph of two streams");
    int *x = ints(2, 1);
    cudaStream_t a = stream(), b = stream();
    cudaEvent_t fork = event(), join = event();
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t exec = nullptr;
    begin(a);
    int by = 10;
    add<<<1, 32, 0, a>>>(x, 1, by);
    by = 99;
    OK(cudaEventRecord(fork, a));
    OK(cudaStreamWaitEvent(b, fork, 0));
    add<<<1, 32, 0, a>>>(x + 1, 1, 4);
    twice<<<1, 1, 0, b>>>(x);
    OK(cudaEventRecord(join, b));
    OK(cudaStreamWaitEvent(a, join, 0));
    add<<<1, 32, 0, a>>>(x, 1, 5);
    hc_expect(at(x, 0) == 1 && at(x, 1) == 1, "nothing runs while it is captured");
    OK(cudaStreamEndCapture(a, &graph));
    OK(cudaGraphInstantiate(&exec, graph, 0));
    OK(cudaGraphDestroy(graph));
    hc_expect(at(x, 0) == 1, "nor when it is made");
    uint64_t order = ptx_options()->order;
    int want = 1;
    for (uint64_t each = 0; each < 12; each++) {
        ptx_options()->order = each;
        OK(cudaGraphLaunch(exec, b));
        want = (want + 10) * 2 + 5;
        hc_expect(at(x, 0) == want, "order %d: %d, not %d", static_cast<int>(each), at(x, 0), want);
    }
    ptx_options()->order = order;
    hc_expect(at(x, 1) == 1 + 12 * 4, "the branch beside: %d", at(x, 1));
    twice<<<1, 1, 0, b>>>(x);
    hc_expect(at(x, 0) == want * 2, "a stream that was captured works at once again");
    EXPECT(cudaEventSynchronize(join), cudaErrorCapturedEvent);
    OK(cudaEventRecord(join, b));
    OK(cudaEventSynchronize(join));
    OK(cudaGraphExecDestroy(exec));
    OK(cudaEventDestroy(fork));
    OK(cudaEventDestroy(join));
    OK(cudaStreamDestroy(a));
    EXPECT(cudaStreamDestroy(a), cudaErrorInvalidResourceHandle);
    OK(cudaStreamDestroy(b));
    OK(cudaFree(x));
}

static void test_capture_errors()
{
    hc_case("void captures");
    int *x = ints(1, 0);
    void *more = nullptr;
    cudaStream_t a = stream(), b = stream(), waiting = nullptr;
    cudaEvent_t before = event(), fork = event(), other = event();
    OK(cudaStreamCreateWithPriority(&waiting, cudaStreamDefault, 0));
    OK(cudaEventRecord(before, a));

    begin(a);
    EXPECT(cudaStreamBeginCapture(a, cudaStreamCaptureModeThreadLocal), cudaErrorIllegalState);
    EXPECT(cudaMalloc(&more, 4), cudaErrorStreamCaptureUnsupported);
    EXPECT(cudaMemsetAsync(x, 0, 4, a), cudaErrorStreamCaptureInvalidated);
    end_fails(a, cudaErrorStreamCaptureInvalidated);

    begin(a);
    EXPECT(cudaStreamSynchronize(a), cudaErrorStreamCaptureUnsupported);
    end_fails(a, cudaErrorStreamCaptureInvalidated);

    begin(a);
    OK(cudaStreamSynchronize(b));
    EXPECT(cudaStreamWaitEvent(a, before, 0), cudaErrorStreamCaptureIsolation);
    end_fails(a, cudaErrorStreamCaptureInvalidated);

    begin(a);
    OK(cudaEventRecord(fork, a));
    EXPECT(cudaEventSynchronize(fork), cudaErrorCapturedEvent);
    end_fails(a, cudaErrorStreamCaptureInvalidated);

    begin(a);
    OK(cudaEventRecord(fork, a));
    OK(cudaStreamWaitEvent(b, fork, 0));
    OK(cudaMemsetAsync(x, 1, 4, b));
    end_fails(a, cudaErrorStreamCaptureUnjoined);
    OK(cudaMemsetAsync(x, 2, 4, b));
    hc_expect(at(x, 0) == 0x02020202, "the stream left behind works at once again");

    begin(a);
    begin(b);
    OK(cudaEventRecord(fork, a));
    EXPECT(cudaStreamWaitEvent(b, fork, 0), cudaErrorStreamCaptureMerge);
    end_fails(a, cudaErrorStreamCaptureInvalidated);
    end_fails(b, cudaErrorStreamCaptureInvalidated);

    begin(a);
    OK(cudaEventRecord(fork, a));
    OK(cudaStreamWaitEvent(b, fork, 0));
    cudaGraph_t graph = nullptr;
    EXPECT(cudaStreamEndCapture(b, &graph), cudaErrorStreamCaptureUnmatched);
    end_fails(a, cudaErrorStreamCaptureInvalidated);
    EXPECT(cudaStreamEndCapture(a, &graph), cudaErrorIllegalState);
    EXPECT(cudaStreamWaitEvent(b, fork, 0), cudaErrorCapturedEvent);

    begin(waiting);
    EXPECT(cudaMemsetAsync(x, 0, 4, nullptr), cudaErrorStreamCaptureImplicit);
    end_fails(waiting, cudaErrorStreamCaptureInvalidated);
    EXPECT(cudaStreamBeginCapture(nullptr, cudaStreamCaptureModeThreadLocal),
           cudaErrorStreamCaptureUnsupported);

    float milliseconds = 0;
    EXPECT(cudaEventElapsedTime(&milliseconds, before, other), cudaErrorInvalidResourceHandle);
    OK(cudaEventRecord(other, b));
    OK(cudaEventElapsedTime(&milliseconds, before, other));
    hc_expect(milliseconds > 0, "time passes");
    OK(cudaFree(x));
}

static void test_broken_device()
{
    hc_case("a broken device");
    int *x = ints(4, 0);
    at_index<<<1, 1>>>(x, 3);
    launched(cudaSuccess);
    at_index<<<1, 1>>>(x, 4);
    int value = 0;
    hc_expect(cudaGetLastError() == cudaErrorIllegalAddress, "the launch is told of");
    hc_expect(cudaGetLastError() == cudaErrorIllegalAddress, "and stays");
    hc_expect(cudaMemcpyAsync(&value, x, 4, cudaMemcpyDeviceToHost, nullptr) ==
                  cudaErrorIllegalAddress,
              "with every call");
    hc_expect(cudaStreamSynchronize(nullptr) == cudaErrorIllegalAddress, "of whatever kind");
}

int main()
{
    test_memory();
    test_launches();
    test_shared();
    test_graph();
    test_capture_errors();
    test_broken_device();
    return hc_report();
}
