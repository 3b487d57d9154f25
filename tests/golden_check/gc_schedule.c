/*
 * Golden cases of schedulers and samplers: tables/, schedules/, traj/, traj_vp/ and the two parts
 * of guidance/area.json that are about them. The "model" of the trajectories is the exactly known
 * denoiser of a Gaussian mixture; noise comes from a bank, in the order of the draws.
 */
#include "tests/golden_check/gc.h"

#include "runtime/sample/schedule.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_SIZE = 256, PATH_SIZE = 4096, ARENA_SIZE = 64 << 20 };

/* ---- JSON
 * ------------------------------------------------------------------------------------------ */

static double number(const json_t *object, const char *key, double fallback)
{
    const json_t *value = json_object_get(object, key);
    return json_is_number(value) ? json_number_value(value) : fallback;
}

static const char *text(const json_t *object, const char *key)
{
    const char *value = json_string_value(json_object_get(object, key));
    return value ? value : "";
}

/* Numbers of a JSON array, null as NaN; the caller frees. */
static double *numbers(const json_t *array, size_t *count)
{
    *count = json_array_size(array);
    double *values = calloc(*count + 1, sizeof *values);
    for (size_t i = 0; values && i < *count; i++) {
        const json_t *item = json_array_get(array, i);
        values[i] = json_is_number(item) ? json_number_value(item) : (double)NAN;
    }
    return values;
}

/* Largest |a - b| / |b|; infinity where the counts differ. A NaN expected is a value the
 * specification defines otherwise; `in_place_of_nan` is that value. */
static double relative_error(const double *a, size_t a_count, const double *b, size_t b_count,
                             double in_place_of_nan)
{
    if (a_count != b_count)
        return (double)INFINITY;
    double worst = 0;
    for (size_t i = 0; i < a_count; i++) {
        const double expected = isnan(b[i]) ? in_place_of_nan : b[i];
        const double error = fabs(a[i] - expected) / (expected != 0 ? fabs(expected) : 1);
        if (!(error <= worst))
            worst = isnan(error) ? (double)INFINITY : error;
    }
    return worst;
}

static json_t *load(struct gc *gc, const char *path)
{
    json_t *root = json_load_file(path, 0, NULL);
    if (!root)
        gc_fail(gc, path, "not readable as JSON");
    return root;
}

/* ---- tables/
 * --------------------------------------------------------------------------------------- */

static void check_table(struct gc *gc, const char *root, const char *file, const double *values,
                        double tolerance)
{
    char path[PATH_SIZE];
    struct gc_array expected;
    if (!gc_find(gc, root, file, path, sizeof path) || !gc_npy_load(path, &expected)) {
        gc_fail(gc, file, "not readable");
        return;
    }
    gc_report(gc, file,
              relative_error(values, LD_TIMESTEPS, expected.data, expected.count, (double)NAN),
              tolerance);
    gc_array_free(&expected);
}

static void check_tables(struct gc *gc, const char *root)
{
    static struct ld_sigma_table table;
    static struct ld_sigma_table zsnr;
    double values[LD_TIMESTEPS];
    ld_sigma_table_init(&table, &(struct ld_sigma_table_config){0});
    ld_sigma_table_init(&zsnr, &(struct ld_sigma_table_config){.zsnr = true});
    check_table(gc, root, "tables/alphas_cumprod_f64.npy", table.alphas_cumprod, 1e-12);
    for (int k = 0; k < LD_TIMESTEPS; k++)
        values[k] = (double)table.sigmas[k];
    check_table(gc, root, "tables/sigmas_f32.npy", values, 2e-6);
    for (int k = 0; k < LD_TIMESTEPS; k++)
        values[k] = (double)table.log_sigmas[k];
    check_table(gc, root, "tables/log_sigmas_f32.npy", values, 2e-6);
    for (int k = 0; k < LD_TIMESTEPS; k++)
        values[k] = (double)zsnr.sigmas[k];
    check_table(gc, root, "tables/sigmas_zsnr_f32.npy", values, 2e-6);
}

static void check_mapping(struct gc *gc, const json_t *mapping)
{
    static struct ld_sigma_table comfy;
    static struct ld_sigma_table a1111;
    ld_sigma_table_init(&comfy, &(struct ld_sigma_table_config){0});
    ld_sigma_table_init(&a1111, &(struct ld_sigma_table_config){.profile = LD_PROFILE_A1111});
    size_t count;
    size_t t_count;
    double *sigma = numbers(json_object_get(mapping, "sigma"), &count);
    double *nearest = numbers(json_object_get(mapping, "timestep_nearest"), &count);
    double *between = numbers(json_object_get(mapping, "timestep_interpolated"), &count);
    double *t = numbers(json_object_get(mapping, "t"), &t_count);
    double *sigma_of_t = numbers(json_object_get(mapping, "sigma_of_t"), &t_count);
    char name[NAME_SIZE];
    for (size_t i = 0; i < count; i++) {
        snprintf(name, sizeof name, "tables/mapping.timestep_nearest.%zu", i);
        gc_exact(gc, name, ld_sigma_to_timestep(&comfy, sigma[i]) == nearest[i]);
        snprintf(name, sizeof name, "tables/mapping.timestep_interpolated.%zu", i);
        gc_report(gc, name, fabs(ld_sigma_to_timestep(&a1111, sigma[i]) - between[i]), 1e-4);
    }
    for (size_t i = 0; i < t_count; i++) {
        snprintf(name, sizeof name, "tables/mapping.sigma_of_t.%zu", i);
        const double found = ld_timestep_to_sigma(&comfy, t[i]);
        gc_report(gc, name, relative_error(&found, 1, &sigma_of_t[i], 1, 0), 2e-6);
    }
    free(sigma);
    free(nearest);
    free(between);
    free(t);
    free(sigma_of_t);
}

static void check_vector(struct gc *gc, const json_t *row, const char *key, const double *found)
{
    size_t count;
    char name[NAME_SIZE];
    double *expected = numbers(json_object_get(row, key), &count);
    snprintf(name, sizeof name, "tables/parametrisation.%s.sigma%g", key, number(row, "sigma", 0));
    gc_report(gc, name, gc_absolute_max(found, expected, count), 1e-12);
    free(expected);
}

/* noise_scaling: scale z + latent, with x in the role of z. Profile a1111 leaves the choice between
 * both scales to the caller, so it is what can show both at any sigma. */
static void check_parametrisation(struct gc *gc, const json_t *data)
{
    static struct ld_sigma_table a1111;
    ld_sigma_table_init(&a1111, &(struct ld_sigma_table_config){.profile = LD_PROFILE_A1111});
    const struct ld_sigma_table *table = ld_sigma_table_default();
    size_t count;
    double *x = numbers(json_object_get(data, "x"), &count);
    double *out = numbers(json_object_get(data, "model_output"), &count);
    double *found = calloc(count + 1, sizeof *found);
    const double latent = number(data, "latent_image", 0);
    size_t index;
    const json_t *row;
    json_array_foreach(json_object_get(data, "rows"), index, row)
    {
        const double sigma = number(row, "sigma", 0);
        const struct ld_wrapping eps = ld_sigma_table_wrap(table, LD_PREDICT_EPS, sigma);
        const struct ld_wrapping v = ld_sigma_table_wrap(table, LD_PREDICT_V, sigma);
        for (size_t i = 0; i < count; i++)
            found[i] = eps.c_in * x[i];
        check_vector(gc, row, "unet_input", found);
        for (size_t i = 0; i < count; i++)
            found[i] = eps.x * x[i] + eps.out * out[i];
        check_vector(gc, row, "denoised_eps", found);
        for (size_t i = 0; i < count; i++)
            found[i] = v.x * x[i] + v.out * out[i];
        check_vector(gc, row, "denoised_v", found);
        for (int max = 0; max < 2; max++) {
            const double scale = ld_initial_noise_scale(&a1111, sigma, max == 1);
            for (size_t i = 0; i < count; i++)
                found[i] = latent + scale * x[i];
            check_vector(gc, row, max ? "noise_scaling_max" : "noise_scaling", found);
        }
    }
    free(x);
    free(out);
    free(found);
}

static void run_tables(struct gc *gc, const char *root, const char *path)
{
    json_t *data = load(gc, path);
    if (!data)
        return;
    check_tables(gc, root);
    check_mapping(gc, json_object_get(data, "mapping"));
    size_t count;
    double *percent = numbers(json_object_get(data, "percent"), &count);
    double *sigma = numbers(json_object_get(data, "percent_to_sigma"), &count);
    for (size_t i = 0; i < count; i++) {
        char name[NAME_SIZE];
        snprintf(name, sizeof name, "tables/mapping.percent_to_sigma.%g", percent[i]);
        const double found = ld_percent_to_sigma(ld_sigma_table_default(), percent[i]);
        gc_report(gc, name, relative_error(&found, 1, &sigma[i], 1, 0), 2e-6);
    }
    free(percent);
    free(sigma);
    check_parametrisation(gc, json_object_get(data, "parametrisation"));
    json_decref(data);
}

/* ---- schedules/
 * ------------------------------------------------------------------------------------ */

static double tolerance_of(const char *scheduler, uint32_t steps)
{
    const char *const tight[] = {"beta", "simple", "ddim_uniform"};
    if (strcmp(scheduler, "laplace") == 0)
        return 1e-5;
    if (strcmp(scheduler, "gits") == 0)
        return steps <= 20 ? 1e-7 : 2e-6;
    for (size_t i = 0; i < sizeof tight / sizeof tight[0]; i++)
        if (strcmp(scheduler, tight[i]) == 0)
            return 1e-7;
    return 2e-6;
}

/* Options from a case; `table` decides the profile. */
static struct ld_schedule_options case_options(const json_t *item,
                                               const struct ld_sigma_table *table)
{
    struct ld_schedule_options options = ld_schedule_options_default();
    options.table = table;
    options.scheduler = text(item, "scheduler");
    options.steps = (uint32_t)number(item, "steps", 0);
    options.denoise = number(item, "denoise", 1);
    options.rho = number(item, "rho", options.rho);
    options.coefficient = number(item, "coeff", options.coefficient);
    options.alpha = number(item, "alpha", options.alpha);
    options.beta = number(item, "beta_param", options.beta);
    options.mu = number(item, "mu", options.mu);
    options.b = number(item, "beta", options.b);
    return options;
}

static void check_schedule(struct gc *gc, const char *name,
                           const struct ld_schedule_options *options, const json_t *expected_list,
                           double tolerance)
{
    struct ld_arena arena;
    struct ld_schedule schedule;
    struct ld_error err = {0};
    size_t count;
    ld_arena_init(&arena, "case", ARENA_SIZE);
    double *expected = numbers(expected_list, &count);
    for (size_t i = 0; i < count; i++) /* shortest decimals of float32 values */
        expected[i] = (double)(float)expected[i];
    if (ld_schedule_build(&schedule, &arena, options, &err) != LD_OK)
        gc_fail(gc, name, err.detail);
    else
        gc_report(gc, name,
                  relative_error(schedule.sigmas, schedule.sigma_count, expected, count,
                                 ld_sigma_table_max(options->table)),
                  tolerance);
    free(expected);
    ld_arena_deinit(&arena);
}

static void run_schedules(struct gc *gc, const char *path, enum ld_profile profile,
                          const char *fixed_scheduler)
{
    static struct ld_sigma_table tables[2];
    json_t *data = load(gc, path);
    if (!data)
        return;
    ld_sigma_table_init(&tables[0], &(struct ld_sigma_table_config){.profile = profile});
    ld_sigma_table_init(&tables[1],
                        &(struct ld_sigma_table_config){.profile = profile, .zsnr = true});
    size_t index;
    const json_t *item;
    json_array_foreach(json_object_get(data, "cases"), index, item)
    {
        const bool zsnr = json_is_true(json_object_get(item, "zero_terminal_snr"));
        struct ld_schedule_options options = case_options(item, &tables[zsnr ? 1 : 0]);
        if (!options.scheduler[0])
            options.scheduler = fixed_scheduler;
        if (text(item, "sampler")[0])
            options.sampler = ld_sampler_info_find(text(item, "sampler"));
        char name[NAME_SIZE];
        snprintf(name, sizeof name, "schedules/%s%s.%s%s%s.%u.%g.%zu",
                 profile == LD_PROFILE_A1111 ? "a1111." : "", options.scheduler,
                 text(item, "sampler"), zsnr ? "zsnr" : "",
                 isnan(options.coefficient) ? "" : ".coeff", options.steps, options.denoise, index);
        check_schedule(gc, name, &options, json_object_get(item, "sigmas"),
                       tolerance_of(options.scheduler, options.steps));
    }
    json_array_foreach(json_object_get(data, "img2img_cut"), index, item)
    {
        struct ld_schedule_options options = case_options(item, &tables[0]);
        options.scheduler = text(item, "sched");
        options.denoise = number(item, "denoising_strength", 1);
        options.exact_steps = json_is_true(json_object_get(item, "do_exact_steps"));
        char name[NAME_SIZE];
        snprintf(name, sizeof name, "schedules/a1111.img2img_cut.%u.%g.%s", options.steps,
                 options.denoise, options.exact_steps ? "exact" : "plain");
        check_schedule(gc, name, &options, json_object_get(item, "sigma_sched"), 2e-6);
    }
    json_decref(data);
}

static void run_comfy(struct gc *gc, const char *root, const char *path)
{
    (void)root;
    run_schedules(gc, path, LD_PROFILE_COMFY, "");
}

static void run_gits(struct gc *gc, const char *root, const char *path)
{
    (void)root;
    run_schedules(gc, path, LD_PROFILE_COMFY, "gits");
}

static void run_a1111(struct gc *gc, const char *root, const char *path)
{
    (void)root;
    run_schedules(gc, path, LD_PROFILE_A1111, "");
}

/* ---- schedules/timesteps.json
 * ----------------------------------------------------------------------- */

static bool spacing_named(const json_t *item, enum ld_spacing *spacing)
{
    static const struct {
        const char *kind, *name;
        enum ld_spacing spacing;
    } all[] = {
        {"ddim", "trailing", LD_SPACING_TRAILING}, {"ddim", "leading", LD_SPACING_LEADING},
        {"ddim", "linspace", LD_SPACING_LINSPACE}, {"tcd", "", LD_SPACING_DISTILLED},
        {"lcm", "", LD_SPACING_DISTILLED},         {"a1111_ddim", "", LD_SPACING_UNIFORM},
    };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        if (strcmp(all[i].kind, text(item, "kind")) == 0 &&
            strcmp(all[i].name, text(item, "spacing")) == 0) {
            *spacing = all[i].spacing;
            return true;
        }
    }
    return false;
}

static bool timesteps_match(const json_t *item, enum ld_spacing spacing)
{
    int32_t found[LD_TIMESTEPS];
    const uint32_t count =
        ld_timesteps_spaced(spacing, (uint32_t)number(item, "steps", 0), found, LD_TIMESTEPS);
    const json_t *list = json_object_get(item, "timesteps");
    const bool ascending = list == NULL;
    if (ascending)
        list = json_object_get(item, "timesteps_ascending");
    if (json_array_size(list) != count)
        return false;
    for (uint32_t i = 0; i < count; i++) {
        const uint32_t at = ascending ? count - 1 - i : i;
        if (json_integer_value(json_array_get(list, i)) != found[at])
            return false;
    }
    return true;
}

static void run_timesteps(struct gc *gc, const char *root, const char *path)
{
    static struct ld_sigma_table distilled;
    (void)root;
    json_t *data = load(gc, path);
    if (!data)
        return;
    ld_sigma_table_init(&distilled, &(struct ld_sigma_table_config){.lcm = true});
    size_t index;
    const json_t *item;
    json_array_foreach(json_object_get(data, "cases"), index, item)
    {
        char name[NAME_SIZE];
        enum ld_spacing spacing;
        snprintf(name, sizeof name, "schedules/timesteps.%s.%s.%g", text(item, "kind"),
                 text(item, "spacing"), number(item, "steps", 0));
        if (spacing_named(item, &spacing)) {
            gc_exact(gc, name, timesteps_match(item, spacing));
        } else if (strcmp(text(item, "kind"), "comfy_lcm_distilled_sgm_uniform") == 0) {
            struct ld_schedule_options options = case_options(item, &distilled);
            options.scheduler = "sgm_uniform";
            check_schedule(gc, name, &options, json_object_get(item, "sigmas"), 2e-6);
        } else {
            gc_fail(gc, name, "unknown kind");
        }
    }
    json_decref(data);
}

/* ---- guidance/area.json: LCM wrapping and turbo
 * ------------------------------------------------------ */

static void run_area(struct gc *gc, const char *root, const char *path)
{
    static struct ld_sigma_table distilled;
    (void)root;
    json_t *data = load(gc, path);
    if (!data)
        return;
    ld_sigma_table_init(&distilled, &(struct ld_sigma_table_config){.lcm = true});
    size_t index;
    const json_t *item;
    char name[NAME_SIZE];
    json_array_foreach(json_object_get(data, "lcm_wrapping"), index, item)
    {
        const struct ld_wrapping w =
            ld_sigma_table_wrap(&distilled, LD_PREDICT_EPS, number(item, "sigma", 0));
        const double found = w.x * number(item, "x", 0) + w.out * number(item, "model_output", 0);
        snprintf(name, sizeof name, "guidance/lcm_wrapping.sigma%g", number(item, "sigma", 0));
        gc_report(gc, name,
                  w.timestep == number(item, "timestep", -1)
                      ? fabs(found - number(item, "denoised", 0))
                      : (double)INFINITY,
                  1e-10 * fmax(1, fabs(number(item, "denoised", 0))));
    }
    json_array_foreach(json_object_get(data, "turbo_scheduler"), index, item)
    {
        struct ld_schedule_options options = case_options(item, ld_sigma_table_default());
        options.scheduler = "turbo";
        snprintf(name, sizeof name, "guidance/turbo_scheduler.%u.%g", options.steps,
                 options.denoise);
        check_schedule(gc, name, &options, json_object_get(item, "sigmas"), 2e-6);
    }
    json_decref(data);
}

/* ---- The known denoiser
 * ------------------------------------------------------------------------------ */

enum { COMPONENTS_MAX = 8, CHANNELS = 4 };

struct mixture {
    uint32_t components;
    double s[COMPONENTS_MAX], pi[COMPONENTS_MAX];
    struct gc_array mu_cond, mu_uncond; /* (K, 4, 8, 8) */
    struct gc_array x_unit, noise_bank;
};

/* D(x, sigma) of a mixture of Gaussians, independently per spatial position over the channels. */
static void mixture_denoise(const struct mixture *mixture, const double *mu, const double *x,
                            double sigma, size_t count, double *out)
{
    const size_t positions = count / CHANNELS;
    for (size_t p = 0; p < positions; p++) {
        double weight[COMPONENTS_MAX];
        double highest = -(double)INFINITY;
        for (uint32_t k = 0; k < mixture->components; k++) {
            const double v = mixture->s[k] * mixture->s[k] + sigma * sigma;
            double distance = 0;
            for (size_t c = 0; c < CHANNELS; c++) {
                const double gap = x[c * positions + p] - mu[k * count + c * positions + p];
                distance += gap * gap;
            }
            weight[k] = log(mixture->pi[k]) - 2 * log(v) - distance / (2 * v);
            highest = fmax(highest, weight[k]);
        }
        double sum = 0;
        for (uint32_t k = 0; k < mixture->components; k++) {
            weight[k] = exp(weight[k] - highest);
            sum += weight[k];
        }
        for (size_t c = 0; c < CHANNELS; c++) {
            const size_t at = c * positions + p;
            out[at] = 0;
            for (uint32_t k = 0; k < mixture->components; k++) {
                const double variance = mixture->s[k] * mixture->s[k];
                const double v = variance + sigma * sigma;
                out[at] +=
                    weight[k] / sum * (variance * x[at] + sigma * sigma * mu[k * count + at]) / v;
            }
        }
    }
}

static bool load_common(struct gc *gc, const char *root, const char *file, struct gc_array *array)
{
    char path[PATH_SIZE];
    return gc_find(gc, root, file, path, sizeof path) && gc_npy_load(path, array);
}

static bool mixture_load(struct gc *gc, const char *root, struct mixture *mixture)
{
    char path[PATH_SIZE];
    memset(mixture, 0, sizeof *mixture);
    if (!gc_find(gc, root, "traj/manifest.json", path, sizeof path))
        return false;
    json_t *manifest = json_load_file(path, 0, NULL);
    const json_t *parts = json_object_get(manifest, "mixture");
    mixture->components = (uint32_t)number(parts, "K", 0);
    bool ok = mixture->components > 0 && mixture->components <= COMPONENTS_MAX;
    for (uint32_t k = 0; ok && k < mixture->components; k++) {
        mixture->s[k] = json_number_value(json_array_get(json_object_get(parts, "s"), k));
        mixture->pi[k] = json_number_value(json_array_get(json_object_get(parts, "pi"), k));
    }
    json_decref(manifest);
    ok = ok && load_common(gc, root, "traj/common/mu_cond.npy", &mixture->mu_cond) &&
         load_common(gc, root, "traj/common/mu_uncond.npy", &mixture->mu_uncond) &&
         load_common(gc, root, "traj/common/x_unit.npy", &mixture->x_unit) &&
         load_common(gc, root, "traj/common/noise_bank.npy", &mixture->noise_bank);
    return ok && mixture->mu_cond.count == mixture->components * mixture->x_unit.count;
}

static void mixture_free(struct mixture *mixture)
{
    gc_array_free(&mixture->mu_cond);
    gc_array_free(&mixture->mu_uncond);
    gc_array_free(&mixture->x_unit);
    gc_array_free(&mixture->noise_bank);
}

/* ---- Noise from the bank
 * ------------------------------------------------------------------------------ */

struct bank {
    const struct mixture *mixture;
    const json_t *args; /* expected [from, to] of each draw, null for churn; NULL: not known */
    size_t drawn;
    bool mismatch;
};

static bool near(double a, double b)
{
    return fabs(a - b) <= 1e-9 * fmax(fabs(a), fabs(b));
}

static enum ld_code bank_draw(void *state, enum ld_noise_stream stream, double from, double to,
                              double *out, size_t count, struct ld_error *err)
{
    struct bank *bank = state;
    const size_t rows = bank->mixture->noise_bank.count / count;
    if (bank->drawn >= rows)
        return LD_FAIL(err, LD_E_RANGE, "the noise bank has %zu rows only", rows);
    if (bank->args) {
        const json_t *pair = json_array_get(bank->args, bank->drawn);
        const bool fits = json_is_null(pair)
                              ? stream == LD_NOISE_CHURN
                              : json_is_array(pair) && stream != LD_NOISE_CHURN &&
                                    near(json_number_value(json_array_get(pair, 0)), from) &&
                                    near(json_number_value(json_array_get(pair, 1)), to);
        bank->mismatch = bank->mismatch || !fits;
    }
    memcpy(out, bank->mixture->noise_bank.data + bank->drawn * count, count * sizeof *out);
    bank->drawn++;
    return LD_OK;
}

/* ---- traj/
 * -------------------------------------------------------------------------------------------- */

/* One run: the points the sampler asked at, in order, and the result as the last row. */
struct run {
    const struct mixture *mixture;
    double cfg; /* NAN: the conditional denoiser alone */
    struct ld_sampler_config config;
    double *x;              /* start, then result */
    const double *expected; /* rows of count */
    size_t rows;            /* nfe + 1 */
    const double *call_sigmas;
    bool vp;            /* expected rows are in VP scale */
    double *scratch[2]; /* D and U */
    struct bank *bank;
};

static bool sigma_fits(const struct run *run, uint32_t call, double sigma)
{
    return near(run->call_sigmas[call], sigma);
}

/* Largest difference over all rows, or a sentence in `why` about what does not fit at all. */
static double compare_run(struct run *run, struct ld_arena *arena, const char **why,
                          struct ld_error *err)
{
    const struct mixture *mixture = run->mixture;
    const size_t count = run->config.count;
    const struct ld_noise_source noise = {.state = run->bank, .draw = bank_draw};
    struct ld_sampler *sampler;
    struct ld_sampler_eval eval;
    double worst = 0;
    size_t calls = 0;
    *why = err->detail;
    if (ld_sampler_create(&sampler, arena, &run->config, &noise, run->x, err) != LD_OK)
        return (double)INFINITY;
    while (ld_sampler_next(sampler, &eval) == LD_SAMPLER_EVAL) {
        *why = "more denoiser calls than the reference";
        if (calls + 1 >= run->rows || eval.call != calls)
            return (double)INFINITY;
        *why = "a denoiser call at another sigma than the reference";
        if (!sigma_fits(run, eval.call, eval.sigma))
            return (double)INFINITY;
        const double scale = run->vp ? 1 / sqrt(1 + eval.sigma * eval.sigma) : 1;
        const double *row = run->expected + calls * count;
        for (size_t i = 0; i < count; i++)
            worst = fmax(worst, fabs(eval.x[i] * scale - row[i]));
        mixture_denoise(mixture, mixture->mu_cond.data, eval.x, eval.sigma, count, run->scratch[0]);
        mixture_denoise(mixture, mixture->mu_uncond.data, eval.x, eval.sigma, count,
                        run->scratch[1]);
        for (size_t i = 0; !isnan(run->cfg) && i < count; i++)
            run->scratch[0][i] =
                run->scratch[1][i] + run->cfg * (run->scratch[0][i] - run->scratch[1][i]);
        *why = err->detail;
        if (ld_sampler_accept(sampler, run->scratch[0], eval.needs_uncond ? run->scratch[1] : NULL,
                              err) != LD_OK)
            return (double)INFINITY;
        calls++;
    }
    *why = "fewer denoiser calls than the reference";
    if (calls + 1 != run->rows)
        return (double)INFINITY;
    *why = "";
    return fmax(worst, gc_absolute_max(run->x, run->expected + calls * count, count));
}

/* ||result||_inf of the reference, at least 1: what the tolerances are relative to. */
static double result_size(const struct run *run)
{
    double size = 1;
    const double *last = run->expected + (run->rows - 1) * run->config.count;
    for (size_t i = 0; i < run->config.count; i++)
        size = fmax(size, fabs(last[i]));
    return size;
}

static void report_run(struct gc *gc, const char *name, struct run *run, size_t draws,
                       double tolerance)
{
    struct ld_arena arena;
    struct ld_error err = {0};
    const char *why;
    ld_arena_init(&arena, "case", ARENA_SIZE);
    run->scratch[0] = calloc(run->config.count, sizeof(double));
    run->scratch[1] = calloc(run->config.count, sizeof(double));
    const double error = compare_run(run, &arena, &why, &err);
    if (isinf(error) && why[0])
        gc_fail(gc, name, why);
    else if (run->bank->drawn != draws)
        gc_fail(gc, name, "another number of noise draws than the reference");
    else if (run->bank->mismatch)
        gc_fail(gc, name, "a noise draw of another kind or place than the reference");
    else
        gc_report(gc, name, error / result_size(run), tolerance);
    free(run->scratch[0]);
    free(run->scratch[1]);
    ld_arena_deinit(&arena);
}

static void apply_options(const json_t *item, struct ld_sampler_options *options)
{
    const json_t *given = json_object_get(item, "options");
    options->eta = number(given, "eta", options->eta);
    options->s_noise = number(given, "s_noise", options->s_noise);
    options->s_churn = number(given, "s_churn", options->s_churn);
    options->s_tmin = number(given, "s_tmin", options->s_tmin);
    options->s_tmax = number(given, "s_tmax", options->s_tmax);
    options->r = number(given, "r", options->r);
    options->gamma = number(given, "ge_gamma", options->gamma);
}

/* The cases name an algorithm, "dpm_fast_eta1", by its function plus options. */
static const char *sampler_of(const json_t *item, char *buffer, size_t size)
{
    snprintf(buffer, size, "%s", text(item, "function"));
    char *suffix = strstr(buffer, "_eta1");
    if (suffix)
        *suffix = '\0';
    return buffer;
}

static void run_case(struct gc *gc, const char *root, const struct mixture *mixture,
                     const json_t *item)
{
    char name[NAME_SIZE];
    char sampler[NAME_SIZE];
    char path[PATH_SIZE];
    struct gc_array expected = {0};
    size_t sigma_count;
    size_t call_count;
    const size_t count = mixture->x_unit.count;
    double *sigmas = numbers(json_object_get(item, "sigmas"), &sigma_count);
    double *call_sigmas = numbers(json_object_get(item, "call_sigmas"), &call_count);
    double *x = calloc(count, sizeof *x);
    struct bank bank = {.mixture = mixture, .args = json_object_get(item, "noise_args")};
    snprintf(name, sizeof name, "traj/%s.%s.%g", text(item, "sampler"), text(item, "scheduler"),
             number(item, "steps", 0));
    if (!gc_find(gc, root, text(item, "file"), path, sizeof path) ||
        !gc_npy_load(path, &expected) || sigma_count == 0) {
        gc_fail(gc, name, "trajectory not readable");
        goto done;
    }
    for (size_t i = 0; i < sigma_count; i++)
        sigmas[i] = (double)(float)sigmas[i];
    const double scale = ld_initial_noise_scale(ld_sigma_table_default(), sigmas[0], false);
    for (size_t i = 0; i < count; i++)
        x[i] = mixture->x_unit.data[i] * scale;
    struct run run = {
        .mixture = mixture,
        .cfg = number(item, "cfg", (double)NAN),
        .config = {.name = sampler_of(item, sampler, sizeof sampler),
                   .sigmas = sigmas,
                   .sigma_count = (uint32_t)sigma_count,
                   .count = count,
                   .options = ld_sampler_options_default()},
        .x = x,
        .expected = expected.data,
        .rows = expected.count / count,
        .call_sigmas = call_sigmas,
        .bank = &bank,
    };
    apply_options(item, &run.config.options);
    const bool loose = strncmp(sampler, "dpm_adaptive", 12) == 0 ||
                       strcmp(sampler, "dpmpp_2s_ancestral_cfg_pp") == 0;
    if (run.rows != call_count + 1 || call_count != (size_t)number(item, "nfe", -1))
        gc_fail(gc, name, "the case contradicts itself");
    else
        report_run(gc, name, &run, (size_t)number(item, "noise_draws", 0), loose ? 1e-9 : 1e-10);
done:
    gc_array_free(&expected);
    free(sigmas);
    free(call_sigmas);
    free(x);
}

static void run_traj(struct gc *gc, const char *root, const char *path)
{
    struct mixture mixture;
    json_t *manifest = load(gc, path);
    if (!manifest)
        return;
    size_t index;
    const json_t *item;
    if (!mixture_load(gc, root, &mixture))
        gc_fail(gc, path, "the mixture or the noise bank is not readable");
    else
        json_array_foreach(json_object_get(manifest, "cases"), index, item)
            run_case(gc, root, &mixture, item);
    mixture_free(&mixture);
    json_decref(manifest);
}

/* ---- traj_vp/
 * ----------------------------------------------------------------------------------------- */

static bool vp_sampler_named(const char *kind, const char **sampler, bool *a1111)
{
    static const struct {
        const char *kind, *sampler;
        bool a1111;
    } all[] = {
        {"a1111_ddim", "ddim", true},
        {"a1111_plms", "plms", true},
        {"ddim_trailing", "ddim_trailing", false},
        {"tcd", "tcd", false},
        {"tcd_trailing", "tcd", false},
        {"lcm", "lcm_trailing", false},
    };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        if (strcmp(all[i].kind, kind) == 0) {
            *sampler = all[i].sampler;
            *a1111 = all[i].a1111;
            return true;
        }
    }
    return false;
}

static double vp_sigma(double timestep)
{
    const double alpha = ld_sigma_table_default()->alphas_cumprod[(uint32_t)timestep];
    return sqrt((1 - alpha) / alpha);
}

static void run_vp_case(struct gc *gc, const char *root, const struct mixture *mixture,
                        const json_t *item)
{
    char name[NAME_SIZE];
    char path[PATH_SIZE];
    struct gc_array expected = {0};
    size_t list_count;
    size_t call_count;
    const size_t count = mixture->x_unit.count;
    double *list = numbers(json_object_get(item, "timesteps"), &list_count);
    double *calls = numbers(json_object_get(item, "call_timesteps"), &call_count);
    double *sigmas = calloc(list_count + 1, sizeof *sigmas);
    int32_t *timesteps = calloc(list_count + 1, sizeof *timesteps);
    double *x = calloc(count, sizeof *x);
    struct bank bank = {.mixture = mixture};
    struct run run = {.mixture = mixture, .cfg = (double)NAN, .x = x, .vp = true, .bank = &bank};
    snprintf(name, sizeof name, "traj_vp/%s.%g.eta%g", text(item, "kind"), number(item, "steps", 0),
             number(item, "eta", 0));
    run.config.options = ld_sampler_options_default();
    if (!vp_sampler_named(text(item, "kind"), &run.config.name, &run.config.options.a1111)) {
        gc_fail(gc, name, "unknown kind");
        goto done;
    }
    if (!gc_find(gc, root, text(item, "file"), path, sizeof path) ||
        !gc_npy_load(path, &expected)) {
        gc_fail(gc, name, "trajectory not readable");
        goto done;
    }
    for (size_t i = 0; i < list_count; i++) { /* A1111's lists are ascending */
        const double t = list[run.config.options.a1111 ? list_count - 1 - i : i];
        timesteps[i] = (int32_t)t;
        sigmas[i] = vp_sigma(t);
    }
    for (size_t i = 0; i < call_count; i++)
        calls[i] = vp_sigma(calls[i]);
    for (size_t i = 0; i < count; i++) /* unit noise in VP scale, handed over in sigma space */
        x[i] = mixture->x_unit.data[i] * sqrt(1 + sigmas[0] * sigmas[0]);
    run.config.sigmas = sigmas;
    run.config.timesteps = timesteps;
    run.config.sigma_count = (uint32_t)list_count + 1;
    run.config.count = count;
    run.config.options.eta = number(item, "eta", run.config.options.eta);
    run.expected = expected.data;
    run.rows = expected.count / count;
    run.call_sigmas = calls;
    if (run.rows != call_count + 1 || call_count != (size_t)number(item, "nfe", -1))
        gc_fail(gc, name, "the case contradicts itself");
    else
        report_run(gc, name, &run, (size_t)number(item, "noise_draws", 0), 1e-10);
done:
    gc_array_free(&expected);
    free(list);
    free(calls);
    free(sigmas);
    free(timesteps);
    free(x);
}

static void run_traj_vp(struct gc *gc, const char *root, const char *path)
{
    struct mixture mixture;
    json_t *manifest = load(gc, path);
    if (!manifest)
        return;
    size_t index;
    const json_t *item;
    if (!mixture_load(gc, root, &mixture))
        gc_fail(gc, path, "the mixture or the noise bank is not readable");
    else
        json_array_foreach(json_object_get(manifest, "cases"), index, item)
            run_vp_case(gc, root, &mixture, item);
    mixture_free(&mixture);
    json_decref(manifest);
}

const struct gc_kind gc_kinds_schedule[] = {
    {"tables/mapping.json", run_tables},
    {"schedules/schedules.json", run_comfy},
    {"schedules/gits.json", run_gits},
    {"schedules/denoise_cut_comfy.json", run_comfy},
    {"schedules/schedules_a1111.json", run_a1111},
    {"schedules/timesteps.json", run_timesteps},
    {"guidance/area.json", run_area},
    {"traj/manifest.json", run_traj},
    {"traj_vp/manifest.json", run_traj_vp},
    {NULL, NULL},
};
