#include "runtime/sample/tables.h"

#include "runtime/sample/float32.h"

#include <math.h>
#include <string.h>
#include <threads.h>

/* Betas of latent diffusion ("scaled linear"), as SD1.5 was trained. */
static const double beta_start_sd15 = 0.00085;
static const double beta_end_sd15 = 0.012;

/* The last rescaled cumulative alpha would be 0 and sigma infinite; the reference puts this value
 * there (sampling.md 1.3), sigma_max is then about 4518.76. */
static const double alpha_cumprod_zsnr_last = 4.8973451890853435e-08;

/* c_skip and c_out of LCM: sigma_data^2 = 0.5^2 and timestep scaling 10 (arXiv:2310.04378). */
static const float lcm_sigma_data_squared = 0.25F;
static const float lcm_timestep_scaling = 10.0F;

/* ---- The table ------------------------------------------------------------------------------- */

static void fill_alphas(struct ld_sigma_table *table)
{
    const struct ld_sigma_table_config *config = &table->config;
    const double low = sqrt(config->beta_start);
    const double high = sqrt(config->beta_end);
    double product = 1;
    for (int k = 0; k < LD_TIMESTEPS; k++) {
        const double root = low + (high - low) * k / (LD_TIMESTEPS - 1);
        product *= 1 - root * root;
        table->alphas_cumprod[k] = product;
    }
}

/* Shift and scale sqrt(alphas_cumprod) so that the last is 0 and the first stays. */
static void rescale_to_zero_snr(struct ld_sigma_table *table)
{
    const double first = sqrt(table->alphas_cumprod[0]);
    const double last = sqrt(table->alphas_cumprod[LD_TIMESTEPS - 1]);
    for (int k = 0; k < LD_TIMESTEPS; k++) {
        const double root = (sqrt(table->alphas_cumprod[k]) - last) * first / (first - last);
        table->alphas_cumprod[k] = root * root;
    }
    table->alphas_cumprod[LD_TIMESTEPS - 1] = alpha_cumprod_zsnr_last;
}

/* Profile a1111 keeps alphas_cumprod in float32 and goes on from there, comfy works in double. */
static void fill_sigmas(struct ld_sigma_table *table)
{
    for (uint32_t i = 0; i < table->count; i++) {
        const double alpha = table->alphas_cumprod[i * table->stride + table->stride - 1];
        if (table->config.profile == LD_PROFILE_A1111) {
            const float rounded = (float)alpha;
            table->sigmas[i] = sqrtf((1.0F - rounded) / rounded);
            table->log_sigmas[i] = logf(table->sigmas[i]);
        } else {
            const double sigma = sqrt((1 - alpha) / alpha);
            table->sigmas[i] = (float)sigma;
            table->log_sigmas[i] = (float)log(sigma);
        }
    }
}

void ld_sigma_table_init(struct ld_sigma_table *table, const struct ld_sigma_table_config *config)
{
    memset(table, 0, sizeof *table);
    table->config = *config;
    if (table->config.beta_start <= 0)
        table->config.beta_start = beta_start_sd15;
    if (table->config.beta_end <= 0)
        table->config.beta_end = beta_end_sd15;
    table->count = config->lcm ? LD_TIMESTEPS_DISTILLED : LD_TIMESTEPS;
    table->stride = LD_TIMESTEPS / table->count;
    fill_alphas(table);
    if (config->zsnr)
        rescale_to_zero_snr(table);
    fill_sigmas(table);
}

static struct ld_sigma_table default_table;

static void init_default(void)
{
    ld_sigma_table_init(&default_table, &(struct ld_sigma_table_config){0});
}

const struct ld_sigma_table *ld_sigma_table_default(void)
{
    static once_flag once = ONCE_FLAG_INIT;
    call_once(&once, init_default);
    return &default_table;
}

double ld_sigma_table_min(const struct ld_sigma_table *table)
{
    return (double)table->sigmas[0];
}

double ld_sigma_table_max(const struct ld_sigma_table *table)
{
    return (double)table->sigmas[table->count - 1];
}

/* ---- sigma and t ----------------------------------------------------------------------------- */

/* The last entry with log_sigma <= x, or 0. */
static uint32_t entry_below(const struct ld_sigma_table *table, double x)
{
    uint32_t low = 0;
    uint32_t high = table->count;
    while (high - low > 1) {
        const uint32_t middle = low + (high - low) / 2;
        if ((double)table->log_sigmas[middle] <= x)
            low = middle;
        else
            high = middle;
    }
    return low;
}

static double entry_nearest(const struct ld_sigma_table *table, double x)
{
    const uint32_t below = entry_below(table, x);
    if (below + 1 == table->count)
        return (double)below;
    const double to_below = fabs(x - (double)table->log_sigmas[below]);
    const double to_above = fabs(x - (double)table->log_sigmas[below + 1]);
    return to_above < to_below ? (double)(below + 1) : (double)below;
}

static double entry_interpolated(const struct ld_sigma_table *table, double x)
{
    uint32_t below = entry_below(table, x);
    if (below + 1 == table->count)
        below--;
    const double low = (double)table->log_sigmas[below];
    const double high = (double)table->log_sigmas[below + 1];
    const double weight = fmin(fmax((x - low) / (high - low), 0), 1);
    return (double)below + weight;
}

double ld_sigma_to_timestep(const struct ld_sigma_table *table, double sigma)
{
    const double x = sigma > 0 ? log(sigma) : -HUGE_VAL;
    const bool nearest =
        table->config.profile == LD_PROFILE_COMFY || table->config.quantize || table->config.lcm;
    const double entry = nearest ? entry_nearest(table, x) : entry_interpolated(table, x);
    return entry * table->stride + (table->stride - 1);
}

double ld_timestep_to_sigma(const struct ld_sigma_table *table, double timestep)
{
    const double stride = table->stride;
    const double entry =
        fmin(fmax((timestep - (stride - 1)) / stride, 0), (double)(table->count - 1));
    const double below = floor(entry);
    const double weight = entry - below;
    const double low = (double)table->log_sigmas[(uint32_t)below];
    const double high = (double)table->log_sigmas[(uint32_t)ceil(entry)];
    return ld_float32(exp((1 - weight) * low + weight * high));
}

double ld_percent_to_sigma(const struct ld_sigma_table *table, double percent)
{
    if (percent <= 0)
        return 999999999.9; /* above every sigma; the reference's own number */
    if (percent >= 1)
        return 0;
    return ld_timestep_to_sigma(table, (1 - percent) * (LD_TIMESTEPS - 1));
}

/* ---- Parametrisation ------------------------------------------------------------------------- */

/* In float32 as in the reference, where c_out is 1 for all but the lowest timesteps. */
static struct ld_wrapping wrap_lcm(double sigma, double timestep)
{
    const float scaled = lcm_timestep_scaling * (float)timestep;
    const float spread = scaled * scaled + lcm_sigma_data_squared;
    const double c_skip = (double)(lcm_sigma_data_squared / spread);
    const double c_out = (double)(scaled / sqrtf(spread));
    return (struct ld_wrapping){.x = c_out + c_skip, .out = -c_out * sigma};
}

struct ld_wrapping ld_sigma_table_wrap(const struct ld_sigma_table *table,
                                       enum ld_prediction prediction, double sigma)
{
    const double variance = sigma * sigma + 1;
    const double timestep = ld_sigma_to_timestep(table, sigma);
    struct ld_wrapping wrapping = {0};
    switch (prediction) {
    case LD_PREDICT_EPS:
        if (table->config.lcm)
            wrapping = wrap_lcm(sigma, timestep);
        else
            wrapping = (struct ld_wrapping){.x = 1, .out = -sigma};
        break;
    case LD_PREDICT_V:
        wrapping = (struct ld_wrapping){.x = 1 / variance, .out = -sigma / sqrt(variance)};
        break;
    case LD_PREDICT_X0:
        wrapping = (struct ld_wrapping){.x = 0, .out = 1};
        break;
    }
    wrapping.c_in = 1 / sqrt(variance);
    wrapping.timestep = timestep;
    return wrapping;
}

double ld_initial_noise_scale(const struct ld_sigma_table *table, double sigma_first,
                              bool unit_variance)
{
    if (table->config.profile == LD_PROFILE_COMFY) {
        const double max = ld_sigma_table_max(table);
        if (sigma_first > max || fabs(max - sigma_first) <= 1e-5 * fmax(max, sigma_first))
            unit_variance = true;
    }
    return unit_variance ? sqrt(1 + sigma_first * sigma_first) : sigma_first;
}
