/*
 * What the tests of the CUDA kernels share, in C and C++. The same test sources run over the host
 * build (guarded tensors, thread orders, counters) and, linked with ld_cuda, on a chip.
 *
 *     float x[N];
 *     hc_normal(x, N, 1.0f, 1);
 *     const void *dx = hc_tensor(x, N, LDK_F16);       // x is rounded to what the device holds
 *     struct my_run run = {.x = dx, .y = hc_device(N * 2)};
 *     hc_case("silu, %d elements", N);
 *     if (hc_run(launch_it, &run, run.y, N * 2)) {      // three thread orders, equal bits
 *         hc_values(y, run.y, N, LDK_F16);
 *         hc_close("y", y, want, N, 1e-3);
 *     }
 *     hc_free_all();
 *     ...
 *     return hc_report();
 *
 * A failed expectation prints one line and the test goes on; what cannot go on (no memory, a copy
 * that fails) ends the program with status 2.
 */
#ifndef LD_TESTS_HOSTCUDA_H
#define LD_TESTS_HOSTCUDA_H

#include "kernels/cuda/kernels.h"
#include "kernels/host/fiber.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Results --------------------------------------------------------------------------------- */

/* Names what the next expectations are about. */
void hc_case(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Counts and returns `ok`; if false, prints the case and the sentence. */
bool hc_expect(bool ok, const char *format, ...) __attribute__((format(printf, 2, 3)));
void hc_skip(const char *why);
/* Prints `N passed, N failed, N skipped`; the program's exit status. */
int hc_report(void);

/* ---- Numbers --------------------------------------------------------------------------------- */

/* Bytes of one element. */
size_t hc_size(enum ldk_dtype dtype);
/* To the nearest number of the type, ties to even. */
float hc_round(float value, enum ldk_dtype dtype);
/* The distance of neighbouring numbers of the type around `value`. */
double hc_ulp(double value, enum ldk_dtype dtype);
/* About normal with this deviation, a function of seed and index only. */
void hc_normal(float *out, size_t count, float deviation, uint64_t seed);
/* Uniform integers of [low, high]. */
void hc_integers(int32_t *out, size_t count, int32_t low, int32_t high, uint64_t seed);

/* ---- Device memory --------------------------------------------------------------------------- */

/* 256-byte aligned, filled with 0xFF; on the host between guard areas (fiber.h). */
void *hc_device(size_t bytes);
/* Bytes copied to device memory. */
void *hc_upload(const void *data, size_t bytes);
/* Rounds `values` in place to what `dtype` holds, and uploads them as that. */
void *hc_tensor(float *values, size_t count, enum ldk_dtype dtype);
void hc_download(void *out, const void *device, size_t bytes);
/* Downloads elements of `dtype` as float. */
void hc_values(float *out, const void *device, size_t count, enum ldk_dtype dtype);
/* Frees all that the functions above returned, and checks on a chip that nothing was written
 * behind. */
void hc_free_all(void);

/* ---- Running --------------------------------------------------------------------------------- */

/* The kernels run on the host: their host build, or the machine that runs their PTX. */
bool hc_is_host(void);
void hc_seed(uint64_t seed); /* the order of threads; nothing on a chip */

/*
 * Calls run(context), which launches and returns the launcher's code, three times: on the host with
 * thread orders 0, 1 and a random one. Each time `out` is first filled with 0xFF. True if every
 * code was 0 and out's bits were equal. An operand that is changed in place must be uploaded by
 * `run`.
 */
bool hc_run(int (*run)(void *context), void *context, void *out, size_t bytes);

/* Counts of one of hc_run's runs (they are equal by construction, which is checked); false but over
 * the host build. */
bool hc_counters(struct ldk_host_counters *out);

/* ---- Comparing ------------------------------------------------------------------------------- */

/* |got - want| / |want| over all elements is at most `limit`, and nothing is NaN or infinite. */
bool hc_close(const char *what, const float *got, const double *want, size_t count, double limit);
/* Each element is within its limit: |got - want| <= limits[i]. */
bool hc_within(const char *what, const float *got, const double *want, const double *limits,
               size_t count);
bool hc_equal_bits(const char *what, const void *a, const void *b, size_t bytes);

#ifdef __cplusplus
}
#endif
#endif
