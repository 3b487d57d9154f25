/*
 * The harness: results, numbers, device memory, comparisons. What differs between host and chip is
 * in hostcuda_host.c and hostcuda_device.c.
 */
#include "tests/cuda/hostcuda_private.h"

#include "kernels/cuda/rt.h"
#include "kernels/host/number.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_TENSORS = 256, TAIL = 256 };

static struct {
    char name[160];
    uint32_t passed, failed, skipped;
} results;

static struct {
    void *device;
    size_t bytes;
} tensors[MAX_TENSORS];
static uint32_t tensor_count;

static struct ldk_host_counters counters;

static _Noreturn void give_up(const char *what, int code)
{
    fprintf(stderr, "FAIL %s: %s: %s\n", results.name, what, ldk_rt_error_name(code));
    exit(2);
}

static void must(int code, const char *what)
{
    if (code != 0)
        give_up(what, code);
}

static void *host_memory(size_t bytes)
{
    void *memory = calloc(1, bytes > 0 ? bytes : 1);
    if (!memory)
        give_up("host memory", 2);
    return memory;
}

/* ---- Results --------------------------------------------------------------------------------- */

void hc_case(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(results.name, sizeof results.name, format, arguments);
    va_end(arguments);
}

bool hc_expect(bool ok, const char *format, ...)
{
    if (ok) {
        results.passed++;
        return true;
    }
    results.failed++;
    printf("FAIL %s: ", results.name);
    va_list arguments;
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    putchar('\n');
    fflush(stdout);
    return false;
}

void hc_skip(const char *why)
{
    results.skipped++;
    printf("skipped %s: %s\n", results.name, why);
}

int hc_report(void)
{
    printf("%u passed, %u failed, %u skipped\n", results.passed, results.failed, results.skipped);
    return results.failed > 0 || results.passed == 0;
}

/* ---- Numbers --------------------------------------------------------------------------------- */

size_t hc_size(enum ldk_dtype dtype)
{
    return dtype == LDK_F32 ? 4 : 2;
}

float hc_round(float value, enum ldk_dtype dtype)
{
    if (dtype == LDK_F16)
        return ldk_f16_to_f32(ldk_f32_to_f16(value));
    if (dtype == LDK_BF16)
        return ldk_bf16_to_f32(ldk_f32_to_bf16(value));
    return value;
}

double hc_ulp(double value, enum ldk_dtype dtype)
{
    int digits = dtype == LDK_F16 ? 11 : dtype == LDK_BF16 ? 8 : 24;
    int lowest = dtype == LDK_F16 ? -24 : -149;
    int exponent = lowest;
    if (value != 0.0)
        (void)frexp(value, &exponent);
    exponent -= digits;
    return ldexp(1.0, exponent < lowest ? lowest : exponent);
}

static uint32_t random_bits(uint64_t seed, uint64_t index)
{
    uint64_t z = seed * UINT64_C(0xD1342543DE82EF95) + (index + 1) * UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    return (uint32_t)((z ^ z >> 31) >> 32);
}

/* The sum of four uniform numbers has variance 1/3. */
void hc_normal(float *out, size_t count, float deviation, uint64_t seed)
{
    for (size_t i = 0; i < count; i++) {
        double sum = -2.0;
        for (uint64_t j = 0; j < 4; j++)
            sum += (double)random_bits(seed, 4 * i + j) / 4294967296.0;
        out[i] = (float)((double)deviation * sum * 1.7320508075688772);
    }
}

void hc_integers(int32_t *out, size_t count, int32_t low, int32_t high, uint64_t seed)
{
    uint32_t span = (uint32_t)(high - low) + 1;
    for (size_t i = 0; i < count; i++)
        out[i] = low + (int32_t)(random_bits(seed, i) % span);
}

/* ---- Device memory --------------------------------------------------------------------------- */

void *hc_device(size_t bytes)
{
    size_t tail = hc_is_host() ? 0 : TAIL;
    if (tensor_count == MAX_TENSORS)
        give_up("too many tensors", LDK_E_INVALID);
    void *device = NULL;
    must(ldk_rt_malloc(&device, bytes + tail), "device memory");
    if (tail > 0)
        must(ldk_rt_memset(device, 0xFF, bytes + tail, NULL), "filling");
    tensors[tensor_count].device = device;
    tensors[tensor_count++].bytes = bytes;
    return device;
}

void *hc_upload(const void *data, size_t bytes)
{
    void *device = hc_device(bytes);
    must(ldk_rt_upload(device, data, bytes, NULL), "upload");
    must(ldk_rt_stream_synchronize(NULL), "upload");
    return device;
}

void *hc_tensor(float *values, size_t count, enum ldk_dtype dtype)
{
    for (size_t i = 0; i < count; i++)
        values[i] = hc_round(values[i], dtype);
    if (dtype == LDK_F32)
        return hc_upload(values, count * sizeof(float));
    uint16_t *bits = host_memory(count * sizeof *bits);
    for (size_t i = 0; i < count; i++)
        bits[i] = dtype == LDK_F16 ? ldk_f32_to_f16(values[i]) : ldk_f32_to_bf16(values[i]);
    void *device = hc_upload(bits, count * sizeof *bits);
    free(bits);
    return device;
}

void hc_download(void *out, const void *device, size_t bytes)
{
    must(ldk_rt_download(out, device, bytes, NULL), "download");
    must(ldk_rt_stream_synchronize(NULL), "download");
}

void hc_values(float *out, const void *device, size_t count, enum ldk_dtype dtype)
{
    if (dtype == LDK_F32) {
        hc_download(out, device, count * sizeof(float));
        return;
    }
    uint16_t *bits = host_memory(count * sizeof *bits);
    hc_download(bits, device, count * sizeof *bits);
    for (size_t i = 0; i < count; i++)
        out[i] = dtype == LDK_F16 ? ldk_f16_to_f32(bits[i]) : ldk_bf16_to_f32(bits[i]);
    free(bits);
}

static void check_tail(const void *device, size_t bytes)
{
    unsigned char tail[TAIL];
    hc_download(tail, (const unsigned char *)device + bytes, TAIL);
    for (uint32_t i = 0; i < TAIL; i++) {
        if (tail[i] != 0xFF) {
            hc_expect(false, "byte %u behind a tensor of %zu bytes was written", i, bytes);
            return;
        }
    }
}

void hc_free_all(void)
{
    while (tensor_count > 0) {
        tensor_count--;
        if (!hc_is_host())
            check_tail(tensors[tensor_count].device, tensors[tensor_count].bytes);
        must(ldk_rt_free(tensors[tensor_count].device), "free");
    }
}

/* ---- Running --------------------------------------------------------------------------------- */

/* Switches differ with the order of threads; everything else is a matter of the kernel. */
static bool same_counters(struct ldk_host_counters a, struct ldk_host_counters b)
{
    a.switches = b.switches = 0;
    return memcmp(&a, &b, sizeof a) == 0;
}

/* The counters are all uint64_t. */
static void subtract(struct ldk_host_counters *from, const struct ldk_host_counters *what)
{
    uint64_t a[sizeof *from / sizeof(uint64_t)], b[sizeof *from / sizeof(uint64_t)];
    memcpy(a, from, sizeof a);
    memcpy(b, what, sizeof b);
    for (size_t i = 0; i < sizeof a / sizeof a[0]; i++)
        a[i] -= b[i];
    memcpy(from, a, sizeof a);
}

static bool run_once(int (*run)(void *), void *context, void *out, size_t bytes, void *result,
                     struct ldk_host_counters *after)
{
    struct ldk_host_counters before = {0};
    must(ldk_rt_memset(out, 0xFF, bytes, NULL), "filling");
    (void)hc_counters_now(&before);
    int code = run(context);
    if (!hc_expect(code == 0, "the launch gave %d: %s", code, ldk_rt_error_name(code)))
        return false;
    code = ldk_rt_stream_synchronize(NULL);
    if (code != 0)
        give_up("the kernel", code);
    (void)hc_counters_now(after);
    subtract(after, &before);
    hc_download(result, out, bytes);
    return true;
}

bool hc_run(int (*run)(void *context), void *context, void *out, size_t bytes)
{
    enum { RANDOM_ORDER = 20231 };
    static const uint64_t seeds[] = {0, 1, RANDOM_ORDER};
    void *first = host_memory(bytes), *again = host_memory(bytes);
    struct ldk_host_counters now = {0};
    hc_seed(seeds[0]);
    bool ok = run_once(run, context, out, bytes, first, &counters);
    for (uint32_t i = 1; ok && i < 3; i++) {
        hc_seed(seeds[i]);
        ok = run_once(run, context, out, bytes, again, &now) &&
             hc_expect(memcmp(first, again, bytes) == 0, "bits differ in thread order %llu",
                       (unsigned long long)seeds[i]) &&
             hc_expect(same_counters(counters, now), "counters differ in thread order %llu",
                       (unsigned long long)seeds[i]);
    }
    free(first);
    free(again);
    return ok;
}

bool hc_counters(struct ldk_host_counters *out)
{
    struct ldk_host_counters now;
    *out = counters;
    return hc_counters_now(&now);
}

/* ---- Comparing ------------------------------------------------------------------------------- */

bool hc_close(const char *what, const float *got, const double *want, size_t count, double limit)
{
    double wrong = 0.0, total = 0.0;
    for (size_t i = 0; i < count; i++) {
        if (!isfinite(got[i]))
            return hc_expect(false, "%s[%zu] of %zu is %g, not %g", what, i, count, (double)got[i],
                             want[i]);
        wrong += ((double)got[i] - want[i]) * ((double)got[i] - want[i]);
        total += want[i] * want[i];
    }
    double relative = total > 0.0 ? sqrt(wrong / total) : sqrt(wrong);
    return hc_expect(relative <= limit, "%s: relative error %.3g, limit %.3g", what, relative,
                     limit);
}

bool hc_within(const char *what, const float *got, const double *want, const double *limits,
               size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (!(fabs((double)got[i] - want[i]) <= limits[i]))
            return hc_expect(false, "%s[%zu] of %zu is %.8g, not %.8g within %.3g", what, i, count,
                             (double)got[i], want[i], limits[i]);
    }
    return hc_expect(true, "%s", what);
}

bool hc_equal_bits(const char *what, const void *a, const void *b, size_t bytes)
{
    const unsigned char *left = a, *right = b;
    size_t i = 0;
    while (i < bytes && left[i] == right[i])
        i++;
    return hc_expect(i == bytes, "%s: byte %zu of %zu differs", what, i, bytes);
}
