/*
 * Proves that a tuner with a folder has the libraries' plans kept there, for its device alone, and
 * one without a folder or without libraries does not. How: the real tuner over a fake GPU, and
 * libraries that only write down what they are asked.
 */
#include "kernels/cuda/libs.h"
#include "kernels/cuda/tuned.h"
#include "tests/cuda/fake_gpu.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(plans_are_kept_where_decisions_are, reset),
        cmocka_unit_test_setup(every_device_and_driver_has_its_own, reset),
        cmocka_unit_test_setup(without_a_folder_or_libraries_none_are_kept, reset),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
