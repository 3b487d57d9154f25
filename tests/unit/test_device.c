/* Proves that each thing that keeps the CUDA backend from running is told in one sentence that
 * names what is needed, and that `auto` falls back to the CPU and says why. How: made-up facts, and
 * a fake driver. */
#include "runtime/gpu/device.h"
#include "tests/cuda/fake_gpu.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static int reset(void **state)
{
    (void)state;
    fake_gpu_reset();
    return 0;
}

static const struct ld_device_facts fit = {.built = true,
                                           .driver_version = 13000,
                                           .runtime_version = 13000,
                                           .count = 1,
                                           .name = "Some GPU",
                                           .major = 8,
                                           .minor = 9,
                                           .memory_total = (size_t)8 << 30,
                                           .memory_free = (size_t)6 << 30};

static void refuses(const struct ld_device_facts *facts, enum ld_code code, const char *needed)
{
    struct ld_error err = {0};
    assert_int_equal(ld_device_judge(facts, &err), code);
    if (!strstr(err.detail, needed))
        fail_msg("'%s' does not name '%s'", err.detail, needed);
}

static void what_is_missing_is_named(void **state)
{
    (void)state;
    struct ld_device_facts facts = fit;
    assert_int_equal(ld_device_judge(&facts, NULL), LD_OK);
    facts.driver_version = 13020; /* newer is fine */
    assert_int_equal(ld_device_judge(&facts, NULL), LD_OK);
    facts.built = false;
    refuses(&facts, LD_E_UNSUPPORTED, "LATENTD_CUDA=ON");
    facts = fit;
    facts.driver_version = 0;
    refuses(&facts, LD_E_UNSUPPORTED, "driver 580 or newer is needed");
    facts.driver_version = 12040;
    refuses(&facts, LD_E_UNSUPPORTED, "supports CUDA 12.4, CUDA 13.0 is needed");
    facts = fit;
    facts.count = 0;
    refuses(&facts, LD_E_UNSUPPORTED, "compute capability 8.0 or newer is needed");
    facts = fit;
    facts.major = 7;
    facts.minor = 5;
    refuses(&facts, LD_E_UNSUPPORTED, "(Some GPU) has compute capability 7.5; 8.0 or newer");
    facts = fit;
    facts.no_kernels = true;
    refuses(&facts, LD_E_UNSUPPORTED, "capability 8.9; build with -DLATENTD_CUDA_ARCHS=89");
    facts = fit;
    facts.memory_free = (size_t)1 << 30;
    assert_int_equal(ld_device_judge(&facts, NULL), LD_OK); /* weights may be streamed */
    facts.resident = true;
    refuses(&facts, LD_E_GPU_NOMEM, "1024 of 8192 MiB of memory free; 2560 MiB are needed, fewer");
    facts.resident = false;
    facts.memory_free = (size_t)511 << 20;
    refuses(&facts, LD_E_GPU_NOMEM, "511 of 8192 MiB of memory free; 512 MiB are needed");
    facts = fit;
    facts.major = 0;
    refuses(&facts, LD_E_DEVICE, "does not answer");
}

static void opens(const char *backend, const char *expected, const char *why)
{
    struct ld_error err = {0};
    struct ld_backend *opened = NULL;
    char note[LD_DEVICE_NOTE_SIZE];
    const struct ld_device_choice choice = {.backend = backend, .threads = 1};
    if (ld_device_open(&opened, &choice, note, &err) != LD_OK)
        fail_msg("%s", err.detail);
    assert_string_equal(opened->name, expected);
    if (why[0] ? strstr(note, why) == NULL : note[0] != '\0')
        fail_msg("'%s' does not say '%s'", note, why);
    opened->ops->destroy(opened);
}

static void auto_takes_a_fit_gpu_and_else_the_cpu_and_says_why(void **state)
{
    (void)state;
    opens("auto", "cuda", "");
    opens("", "cuda", "");
    opens("cuda", "cuda", "");
    opens("cpu", "cpu", "");
    fake_gpu.driver = 0;
    opens("auto", "cpu", "no NVIDIA driver was found");
    fake_gpu.driver = 12040;
    opens("auto", "cpu", "CUDA 13.0 is needed");
    fake_gpu.driver = 13000;
    fake_gpu.info.memory_free = (size_t)300 << 20;
    opens("auto", "cpu", "has 300 of 8192 MiB of memory free");
    fake_gpu.info.memory_free = (size_t)7 << 30;
    fake_gpu.info.major = 6;
    opens("auto", "cpu", "has compute capability 6.0");
    fake_gpu.info.major = 9;
    fake_gpu.no_kernels = true;
    opens("auto", "cpu", "no kernels for the GPU");
    fake_gpu.no_kernels = false;
    opens("auto", "cuda", "");
    fake_gpu.count_error = 100;
    fake_gpu.count = 0;
    opens("auto", "cpu", "shows no GPU");
}

/* Which device a process of this turn takes. */
static int32_t taken(uint32_t turn)
{
    struct ld_device_facts facts;
    fake_gpu.contexts = 0;
    ld_device_look(&facts, false, turn);
    assert_int_equal(ld_device_judge(&facts, NULL), LD_OK);
    return facts.device;
}

static void processes_share_out_the_devices(void **state)
{
    (void)state;
    struct ld_device_facts facts;
    fake_gpu.count = 4;
    fake_gpu.old_devices = 1 << 1;
    const int32_t wanted[] = {0, 2, 3, 0, 2}; /* the old one is nobody's */
    for (uint32_t turn = 0; turn < 5; turn++) {
        assert_int_equal(taken(turn), wanted[turn]);
        assert_int_equal(fake_gpu.contexts, 1 << wanted[turn]); /* no memory of another one's */
    }
    ld_device_look(&facts, false, 0);
    assert_int_equal(facts.count, 4);
    assert_int_equal(facts.capable, 3);

    /* A full one is passed over, by whoever's turn it is. */
    fake_gpu.full_devices = 1 << 2;
    assert_int_equal(taken(0), 0);
    assert_int_equal(taken(1), 3);
    assert_int_equal(taken(2), 3);

    /* None is fit: the one whose turn it is says why. */
    fake_gpu.full_devices = 0xF;
    ld_device_look(&facts, false, 1);
    refuses(&facts, LD_E_GPU_NOMEM, "has 100 of");
    assert_int_equal(facts.device, 2);
    fake_gpu.old_devices = 0xF;
    ld_device_look(&facts, false, 1);
    refuses(&facts, LD_E_UNSUPPORTED, "compute capability 7.5");
    assert_int_equal(facts.capable, 0);
}

static void cuda_without_a_fit_gpu_is_an_error(void **state)
{
    (void)state;
    struct ld_error err = {0};
    struct ld_backend *opened = NULL;
    struct ld_device_choice choice = {.backend = "cuda"};
    fake_gpu.info.memory_free = (size_t)100 << 20;
    assert_int_equal(ld_device_open(&opened, &choice, NULL, &err), LD_E_GPU_NOMEM);
    assert_null(opened);
    fake_gpu.driver = 12000;
    assert_int_equal(ld_device_open(&opened, &choice, NULL, &err), LD_E_UNSUPPORTED);
    choice.backend = "gpu";
    assert_int_equal(ld_device_open(&opened, &choice, NULL, &err), LD_E_INVALID);
    choice = (struct ld_device_choice){.backend = "cpu", .precision = "fp8"};
    assert_int_equal(ld_device_open(&opened, &choice, NULL, &err), LD_E_INVALID);
}

/* What a device has to have depends on whether weights have to fit on it. */
static void weights_that_may_be_streamed_ask_for_less(void **state)
{
    (void)state;
    static const struct {
        const char *word;
        enum ld_code code;
    } cases[] = {{NULL, LD_OK},           {"", LD_OK},          {"auto", LD_OK}, {"on", LD_OK},
                 {"off", LD_E_GPU_NOMEM}, {"yes", LD_E_INVALID}};
    fake_gpu.info.memory_free = (size_t)1 << 30;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct ld_error err = {0};
        struct ld_backend *opened = NULL;
        const struct ld_device_choice choice = {
            .backend = "cuda", .threads = 1, .stream_weights = cases[i].word};
        assert_int_equal(ld_device_open(&opened, &choice, NULL, &err), cases[i].code);
        if (opened) {
            assert_int_equal(opened->memory_free, (size_t)1 << 30);
            opened->ops->destroy(opened);
        }
    }
}

static void the_precision_is_the_type_of_activations(void **state)
{
    (void)state;
    struct ld_error err = {0};
    struct ld_backend *opened = NULL;
    struct ld_device_choice choice = {.backend = "cuda", .precision = "bf16", .threads = 1};
    assert_int_equal(ld_device_open(&opened, &choice, NULL, &err), LD_OK);
    assert_int_equal(opened->act_dtype, LD_DTYPE_BF16);
    assert_non_null(strstr(opened->description, "bf16"));
    opened->ops->destroy(opened);
    choice.precision = "";
    assert_int_equal(ld_device_open(&opened, &choice, NULL, &err), LD_OK);
    assert_int_equal(opened->act_dtype, LD_DTYPE_F16);
    opened->ops->destroy(opened);
}

static uint32_t signature_with(const char *precision, bool fp16_accumulate)
{
    struct ld_error err = {0};
    struct ld_backend *opened = NULL;
    const struct ld_device_choice choice = {.backend = "cuda",
                                            .precision = precision,
                                            .fp16_accumulate = fp16_accumulate,
                                            .threads = 1};
    const struct ld_attention op = {
        .batch = 1, .q_rows = 64, .kv_rows = 64, .heads = 1, .head_dim = 40, .scale = 1};
    assert_int_equal(ld_device_open(&opened, &choice, NULL, &err), LD_OK);
    assert_int_equal(strstr(opened->description, "fp16 sums") != NULL,
                     fp16_accumulate && strcmp(precision, "fp16") == 0);
    const uint32_t signature = opened->ops->signature(opened, LD_WORKSPACE_ATTENTION, &op);
    opened->ops->destroy(opened);
    return signature;
}

static void sums_in_fp16_are_of_fp16_alone(void **state)
{
    (void)state;
    assert_int_not_equal(signature_with("fp16", true), signature_with("fp16", false));
    assert_int_equal(signature_with("bf16", true), signature_with("bf16", false));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(what_is_missing_is_named, reset),
        cmocka_unit_test_setup(auto_takes_a_fit_gpu_and_else_the_cpu_and_says_why, reset),
        cmocka_unit_test_setup(processes_share_out_the_devices, reset),
        cmocka_unit_test_setup(cuda_without_a_fit_gpu_is_an_error, reset),
        cmocka_unit_test_setup(weights_that_may_be_streamed_ask_for_less, reset),
        cmocka_unit_test_setup(the_precision_is_the_type_of_activations, reset),
        cmocka_unit_test_setup(sums_in_fp16_are_of_fp16_alone, reset),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
