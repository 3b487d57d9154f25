/* Proves that the widths of a model can be told from what a listing says of it, and only where it
 * says enough. How: detections are described and read back. */
#include "runtime/model/arch.h"
#include "runtime/model/describe.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static struct ld_detection detection_of(bool unet, bool text, int32_t channels)
{
    struct ld_detection detection;
    memset(&detection, 0, sizeof detection);
    detection.kind = LD_FILE_MODEL;
    ld_arch_set_sd15(&detection.arch);
    detection.arch.has_unet = unet;
    detection.arch.has_text = text;
    detection.arch.has_vae_decoder = true;
    detection.arch.unet_in_channels = channels;
    return detection;
}

static bool read_back(const struct ld_detection *detection, struct ld_arch *arch)
{
    struct ld_buffer out = ld_buffer_make(4096);
    ld_buffer_text(&out, "{");
    ld_describe_detection(&out, detection);
    ld_buffer_text(&out, "}");
    assert_false(out.failed);
    const bool read = ld_describe_arch_of(ld_span_of(out.data, out.size), arch);
    ld_buffer_deinit(&out);
    return read;
}

static void a_model_is_read_back_as_it_was(void **state)
{
    (void)state;
    static const int32_t channels[] = {4, 8, 9};
    for (int i = 0; i < 6; i++) {
        const struct ld_detection detection = detection_of(true, i % 2 == 0, channels[i / 2]);
        struct ld_arch arch;
        assert_true(read_back(&detection, &arch));
        assert_memory_equal(&arch, &detection.arch, sizeof arch);
    }
}

static void what_says_too_little_is_not_read(void **state)
{
    (void)state;
    struct ld_arch arch;
    struct ld_detection detection = detection_of(false, true, 4);
    assert_false(read_back(&detection, &arch)); /* no UNet */
    detection = detection_of(true, true, 4);
    detection.fault = LD_FAULT_MISSING;
    assert_false(read_back(&detection, &arch));
    detection = detection_of(true, true, 4);
    detection.arch.is_test_config = true; /* with widths of its own */
    assert_false(read_back(&detection, &arch));
    detection = detection_of(true, true, 4);
    detection.kind = LD_FILE_ADAPTER;
    assert_false(read_back(&detection, &arch));
    assert_false(ld_describe_arch_of(ld_span_text("{}"), &arch));
    assert_false(ld_describe_arch_of(ld_span_text(""), &arch));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_model_is_read_back_as_it_was),
        cmocka_unit_test(what_says_too_little_is_not_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
