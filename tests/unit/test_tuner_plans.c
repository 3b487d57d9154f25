/*
 * Proves that a tuner with a folder has the libraries' plans kept there, for its device alone, and
 * one without a folder or without libraries does not; and that it counts the libraries' memory
 * where one of them may come to run, and nowhere else. How: the real tuner over a fake GPU, and
 * libraries that only write down what they are asked.
 */
#include "kernels/cuda/libs.h"
#include "kernels/cuda/tune_cache.h"
#include "kernels/cuda/tuned.h"
#include "tests/cuda/fake_gpu.h"
#include "tests/unit/folder_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { SCRATCH = 1000 };

static struct ldk_libs {
    struct ldk_libs_info info;
} the_libs;
static int kept;
static char kept_folder[64], kept_device[256];

/* ---- The libraries --------------------------------------------------------------------------- */

enum ld_code ldk_libs_open(struct ldk_libs **out, struct ld_error *err)
{
    (void)err;
    *out = &the_libs;
    return LD_OK;
}

void ldk_libs_close(struct ldk_libs *libs)
{
    (void)libs;
}

const struct ldk_libs_info *ldk_libs_info(const struct ldk_libs *libs)
{
    return &libs->info;
}

void ldk_libs_keep_plans(struct ldk_libs *libs, const char *folder, const char *device)
{
    assert_ptr_equal(libs, &the_libs);
    kept++;
    (void)snprintf(kept_folder, sizeof kept_folder, "%s", folder);
    (void)snprintf(kept_device, sizeof kept_device, "%s", device);
}

uint32_t ldk_libs_linear_ways(struct ldk_libs *libs, const struct ldk_linear *linear,
                              struct ldk_libs_way *out, uint32_t capacity)
{
    (void)libs;
    (void)linear;
    (void)out;
    (void)capacity;
    return 0;
}

uint32_t ldk_libs_conv_ways(struct ldk_libs *libs, const struct ldk_conv *conv,
                            struct ldk_libs_way *out, uint32_t capacity)
{
    (void)libs;
    (void)conv;
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

int ldk_libs_conv(struct ldk_libs *libs, const struct ldk_libs_way *way,
                  const struct ldk_conv *conv, ldk_stream stream)
{
    (void)libs;
    (void)way;
    (void)conv;
    (void)stream;
    return LDK_E_UNSUPPORTED;
}

size_t ldk_libs_scratch_bytes(void)
{
    return SCRATCH;
}

uint64_t ldk_libs_plans_lost(const struct ldk_libs *libs)
{
    (void)libs;
    return 0;
}

/* ---- Claims ---------------------------------------------------------------------------------- */

static int reset(void **state)
{
    (void)state;
    fake_gpu_reset();
    kept = 0;
    kept_device[0] = '\0';
    return 0;
}

static void open_tuner(const char *folder, bool libraries)
{
    struct ldk_tuner *tuner;
    struct ld_error err = {0};
    const struct ldk_tuner_options options = {.folder = folder, .libraries = libraries};
    if (ldk_tuner_create(&tuner, &options, &err) != LD_OK)
        fail_msg("%s", err.detail);
    ldk_tuner_destroy(tuner);
}

static void plans_are_kept_where_decisions_are(void **state)
{
    (void)state;
    open_tuner("/tmp/none/at/all", true);
    assert_int_equal(kept, 1);
    assert_string_equal(kept_folder, "/tmp/none/at/all");
    assert_string_equal(kept_device, "Fake, sm 80, 4 multiprocessors, driver 13000");
}

static void every_device_and_driver_has_its_own(void **state)
{
    (void)state;
    char before[sizeof kept_device];
    for (int i = 0; i < 5; i++) {
        memcpy(before, kept_device, sizeof before);
        fake_gpu_reset();
        fake_gpu.info.driver_version += i == 1;
        fake_gpu.info.sm_count += i == 2;
        fake_gpu.info.minor += i == 3;
        fake_gpu.info.name[0] = i == 4 ? 'C' : 'F';
        open_tuner("/tmp/none/at/all", true);
        assert_string_not_equal(kept_device, before);
    }
}

static void without_a_folder_or_libraries_none_are_kept(void **state)
{
    (void)state;
    static char deep[2000];
    memset(deep, 'a', sizeof deep - 1);
    open_tuner(NULL, true);
    open_tuner("/tmp/none/at/all", false);
    open_tuner(deep, true);
    assert_int_equal(kept, 0);
}

static size_t counted(bool libraries, bool measure)
{
    struct ldk_tuner *tuner;
    struct ld_error err = {0};
    const struct ldk_tuner_options options = {
        .folder = test_folder, .libraries = libraries, .measure = measure};
    if (ldk_tuner_create(&tuner, &options, &err) != LD_OK)
        fail_msg("%s", err.detail);
    const size_t bytes = ldk_tuner_library_bytes(tuner);
    ldk_tuner_destroy(tuner);
    return bytes;
}

/* A choice in the folder, as a process with these libraries has left it. */
static void decide(const char *candidate)
{
    struct ld_error err = {0};
    struct ldk_tune_cache cache = {0};
    struct ldk_tune_identity identity = {.sm_count = fake_gpu.info.sm_count,
                                         .driver = fake_gpu.info.driver_version,
                                         .cublaslt = the_libs.info.cublaslt,
                                         .build = LATENTD_VERSION};
    struct ldk_tune_choice choice = {.ms = 1};
    (void)snprintf(identity.device, sizeof identity.device, "%s", fake_gpu.info.name);
    (void)snprintf(choice.candidate, sizeof choice.candidate, "%s", candidate);
    assert_int_equal(ldk_tune_cache_put_choice(&cache, "a layer", &choice, &err), LD_OK);
    assert_int_equal(ldk_tune_cache_write(&cache, test_folder, &identity, &err), LD_OK);
    ldk_tune_cache_deinit(&cache);
}

static void the_libraries_memory_counts_where_one_may_run(void **state)
{
    (void)state;
    assert_true(make_test_folder("test_tuner_plans"));
    assert_int_equal(ldk_tuner_library_bytes(NULL), 0);
    decide("cublaslt:1");
    assert_int_equal(counted(true, true), 0); /* it is not installed */
    the_libs.info.cublaslt = 130100;
    assert_int_equal(counted(true, false), 0); /* what was decided is of other versions */
    assert_int_equal(counted(true, true), SCRATCH);
    decide("own:128x128");
    assert_int_equal(counted(true, false), 0);
    decide("cublaslt:1");
    assert_int_equal(counted(true, false), SCRATCH);
    assert_int_equal(counted(false, false), 0);
    the_libs.info.cublaslt = 0;
    remove_files(test_folder, "tune-");
    assert_true(remove_test_folder());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(plans_are_kept_where_decisions_are, reset),
        cmocka_unit_test_setup(every_device_and_driver_has_its_own, reset),
        cmocka_unit_test_setup(without_a_folder_or_libraries_none_are_kept, reset),
        cmocka_unit_test_setup(the_libraries_memory_counts_where_one_may_run, reset),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
