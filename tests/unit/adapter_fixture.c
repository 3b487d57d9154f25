#include "tests/unit/adapter_fixture.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static struct fixture model;
struct fixture adapter_file;
char adapter_folder[256];
struct ld_weights *adapter_base;

int open_adapter_base(void **state)
{
    (void)state;
    fixture_folder(adapter_folder);
    fixture_model(&model, LD_DTYPE_F32);
    fixture_write(&model, fixture_path(adapter_folder, "base.safetensors"));
    return ld_weights_open(&adapter_base, fixture_path(adapter_folder, "base.safetensors"), NULL,
                           NULL) != LD_OK;
}

int close_adapter_base(void **state)
{
    (void)state;
    ld_weights_close(adapter_base);
    fixture_remove_folder(adapter_folder);
    return 0;
}

/* ---- Files and factors ----------------------------------------------------------------------- */

void start(void)
{
    memset(&adapter_file, 0, sizeof adapter_file);
}

void factor(const char *name, uint32_t rank, uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
    const uint64_t shape[4] = {a, b, c, d};
    fixture_add(&adapter_file, name, LD_DTYPE_F32, rank, shape);
}

double value(const char *name, size_t index)
{
    return (double)fixture_value(name, index);
}

void alpha(const char *name, const float *number)
{
    fixture_add_matrix(&adapter_file, name, LD_DTYPE_F32, 0, 0)->values = number;
}

struct ld_adapter *open_file(void)
{
    struct ld_adapter *adapter;
    struct ld_error err = {0};
    const char *path = fixture_path(adapter_folder, "adapter.safetensors");
    fixture_write(&adapter_file, path);
    if (ld_adapter_open(&adapter, path, &err) != LD_OK)
        fail_msg("%s", err.detail);
    return adapter;
}

struct ld_weights *merge_into(const struct ld_weights *below,
                              const struct ld_adapter_options *options)
{
    struct ld_adapter *adapter = open_file();
    struct ld_adapter_report report;
    struct ld_weights *overlay;
    struct ld_error err = {0};
    assert_int_equal(ld_weights_overlay(&overlay, below, NULL), LD_OK);
    if (ld_adapter_apply(adapter, overlay, options, &report, &err) != LD_OK)
        fail_msg("%s", err.detail);
    assert_int_equal(report.modules_unmatched, 0);
    assert_true(report.tensors_applied > 0);
    for (uint32_t i = 0; i < ld_weights_count(overlay); i++) {
        struct ld_weight_view view;
        ld_weights_at(overlay, i, &view);
        assert_int_equal(ld_weights_make(overlay, view.name, NULL), LD_OK);
    }
    ld_adapter_close(adapter);
    return overlay;
}

struct ld_weights *merge(double strength)
{
    const struct ld_adapter_options options = {.unet_strength = strength,
                                               .text_strength = strength};
    return merge_into(adapter_base, &options);
}

double before(const char *name, size_t index)
{
    return (double)fixture_value(name, index);
}

void assert_near(double got, double expected)
{
    if (!(fabs(got - expected) <= 2e-6 * (1 + fabs(expected))))
        fail_msg("%.9g instead of %.9g", got, expected);
}

void assert_weight(const struct ld_weights *overlay, const char *name, size_t in, size_t kernel,
                   formula expected)
{
    struct ld_weight_view view;
    assert_true(ld_weights_get(overlay, name, &view));
    assert_int_equal(view.dtype, LD_DTYPE_F32);
    for (size_t at = 0; at < view.count; at++) {
        const size_t o = at / (in * kernel);
        const size_t i = at / kernel % in;
        assert_near((double)((const float *)view.data)[at], expected(o, i, at % kernel));
    }
}

size_t conv_index(size_t o, size_t i, size_t k)
{
    return (o * C + i) * K + k;
}

double low_rank(const char *up, const char *down, size_t rank, size_t columns, size_t o, size_t j)
{
    double sum = 0;
    for (size_t r = 0; r < rank; r++)
        sum += value(up, o * rank + r) * value(down, r * columns + j);
    return sum;
}

const float two[1] = {2};

void add_lora(void)
{
    start();
    factor(M_LINEAR ".lora_up.weight", 2, C, R, 0, 0);
    factor(M_LINEAR ".lora_down.weight", 2, R, C, 0, 0);
    alpha(M_LINEAR ".alpha", two);
    factor(M_WIDE ".lora_B.weight", 2, 256, R, 0, 0);
    factor(M_WIDE ".lora_A.weight", 2, R, C, 0, 0);
    factor(M_CONV ".lora_up.weight", 4, C, R, 1, 1);
    factor(M_CONV ".lora_down.weight", 4, R, C, 3, 3);
    alpha(M_CONV ".alpha", two);
    factor(M_TEXT ".lora_up.weight", 2, 64, 1, 0, 0);
    factor(M_TEXT ".lora_down.weight", 2, 1, C, 0, 0);
}

void add_dora(uint32_t rank, uint64_t a, uint64_t b)
{
    start();
    factor(M_WIDE ".lora_up.weight", 2, 256, R, 0, 0);
    factor(M_WIDE ".lora_down.weight", 2, R, C, 0, 0);
    factor(M_WIDE ".dora_scale", rank, a, b, 0, 0);
}
