/*
 * No tuner: what the backend asks of tuned.h where a test is not about choosing. Programs that are
 * link the real one instead.
 */
#include "kernels/cuda/tuned.h"
#include "tests/cuda/fake_gpu.h"

enum ld_code ldk_tuner_create(struct ldk_tuner **out, const struct ldk_tuner_options *options,
                              struct ld_error *err)
{
    (void)options;
    (void)err;
    *out = NULL;
    return LD_OK;
}

void ldk_tuner_destroy(struct ldk_tuner *tuner)
{
    (void)tuner;
}

void ldk_tuner_conv(struct ldk_tuner *tuner, struct ldk_conv *conv, bool moments, bool may_measure)
{
    (void)tuner;
    (void)conv;
    (void)moments;
    (void)may_measure;
}

void ldk_tuner_linear(struct ldk_tuner *tuner, struct ldk_linear *linear, bool moments,
                      bool may_measure)
{
    (void)tuner;
    (void)linear;
    (void)moments;
    (void)may_measure;
}

void ldk_tuner_attention(struct ldk_tuner *tuner, struct ldk_attention *attention, bool may_measure)
{
    (void)tuner;
    (void)attention;
    (void)may_measure;
}

bool ldk_tuner_idle(struct ldk_tuner *tuner)
{
    (void)tuner;
    return fake_gpu.idle_work > 0 && --fake_gpu.idle_work > 0;
}

bool ldk_tuner_waits(const struct ldk_tuner *tuner)
{
    (void)tuner;
    return fake_gpu.idle_work > 0;
}

const struct ldk_tune_choice *ldk_tuner_latest(const struct ldk_tuner *tuner)
{
    (void)tuner;
    return NULL;
}

uint64_t ldk_tuner_lost(const struct ldk_tuner *tuner)
{
    (void)tuner;
    return fake_gpu.tuner_lost;
}

size_t ldk_tuner_library_bytes(const struct ldk_tuner *tuner)
{
    (void)tuner;
    return fake_gpu.library_bytes;
}

int ldk_tuned_conv2d(struct ldk_tuner *tuner, const struct ldk_conv *conv, ldk_stream stream)
{
    (void)tuner;
    return ldk_conv2d(conv, stream);
}

int ldk_tuned_linear(struct ldk_tuner *tuner, const struct ldk_linear *linear, ldk_stream stream)
{
    (void)tuner;
    return ldk_linear(linear, stream);
}

const struct ldk_tune_choice *ldk_tuner_conv_choice(const struct ldk_tuner *tuner,
                                                    const struct ldk_conv *conv, bool moments)
{
    (void)tuner;
    (void)conv;
    (void)moments;
    return NULL;
}

const struct ldk_tune_choice *ldk_tuner_linear_choice(const struct ldk_tuner *tuner,
                                                      const struct ldk_linear *linear, bool moments)
{
    (void)tuner;
    (void)linear;
    (void)moments;
    return NULL;
}
