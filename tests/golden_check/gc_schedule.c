/*
 * Golden cases of schedules: tables/, schedules/ and the two parts of guidance/area.json that are
 * about them. Trajectories are in gc_traj.c.
 */
#include "tests/golden_check/gc_schedule.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- JSON ------------------------------------------------------------------------------------ */

double gc_number_or(const json_t *object, const char *key, double fallback)
{
    const json_t *value = json_object_get(object, key);
    return json_is_number(value) ? json_number_value(value) : fallback;
}

const char *gc_text_or_empty(const json_t *object, const char *key)
{
    const char *value = json_string_value(json_object_get(object, key));
    return value ? value : "";
}

double *gc_numbers(const json_t *array, size_t *count)
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

json_t *gc_load(struct gc *gc, const char *path)
{
    json_t *root = json_load_file(path, 0, NULL);
    if (!root)
        gc_fail(gc, path, "not readable as JSON");
    return root;
}

/* ---- tables/ --------------------------------------------------------------------------------- */

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
    double *sigma = gc_numbers(json_object_get(mapping, "sigma"), &count);
    double *nearest = gc_numbers(json_object_get(mapping, "timestep_nearest"), &count);
    double *between = gc_numbers(json_object_get(mapping, "timestep_interpolated"), &count);
    double *t = gc_numbers(json_object_get(mapping, "t"), &t_count);
    double *sigma_of_t = gc_numbers(json_object_get(mapping, "sigma_of_t"), &t_count);
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
    double *expected = gc_numbers(json_object_get(row, key), &count);
    snprintf(name, sizeof name, "tables/parametrisation.%s.sigma%g", key,
             gc_number_or(row, "sigma", 0));
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
    double *x = gc_numbers(json_object_get(data, "x"), &count);
    double *out = gc_numbers(json_object_get(data, "model_output"), &count);
    double *found = calloc(count + 1, sizeof *found);
    const double latent = gc_number_or(data, "latent_image", 0);
    size_t index;
    const json_t *row;
    json_array_foreach(json_object_get(data, "rows"), index, row)
    {
        const double sigma = gc_number_or(row, "sigma", 0);
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
    json_t *data = gc_load(gc, path);
    if (!data)
        return;
    check_tables(gc, root);
    check_mapping(gc, json_object_get(data, "mapping"));
    size_t count;
    double *percent = gc_numbers(json_object_get(data, "percent"), &count);
    double *sigma = gc_numbers(json_object_get(data, "percent_to_sigma"), &count);
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

/* ---- schedules/ ------------------------------------------------------------------------------ */

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
    options.scheduler = gc_text_or_empty(item, "scheduler");
    options.steps = (uint32_t)gc_number_or(item, "steps", 0);
    options.denoise = gc_number_or(item, "denoise", 1);
    options.rho = gc_number_or(item, "rho", options.rho);
    options.coefficient = gc_number_or(item, "coeff", options.coefficient);
    options.alpha = gc_number_or(item, "alpha", options.alpha);
    options.beta = gc_number_or(item, "beta_param", options.beta);
    options.mu = gc_number_or(item, "mu", options.mu);
    options.b = gc_number_or(item, "beta", options.b);
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
    double *expected = gc_numbers(expected_list, &count);
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
    json_t *data = gc_load(gc, path);
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
        if (gc_text_or_empty(item, "sampler")[0])
            options.sampler = ld_sampler_info_find(gc_text_or_empty(item, "sampler"));
        char name[NAME_SIZE];
        snprintf(name, sizeof name, "schedules/%s%s.%s%s%s.%u.%g.%zu",
                 profile == LD_PROFILE_A1111 ? "a1111." : "", options.scheduler,
                 gc_text_or_empty(item, "sampler"), zsnr ? "zsnr" : "",
                 isnan(options.coefficient) ? "" : ".coeff", options.steps, options.denoise, index);
        check_schedule(gc, name, &options, json_object_get(item, "sigmas"),
                       tolerance_of(options.scheduler, options.steps));
    }
    json_array_foreach(json_object_get(data, "img2img_cut"), index, item)
    {
        struct ld_schedule_options options = case_options(item, &tables[0]);
        options.scheduler = gc_text_or_empty(item, "sched");
        options.denoise = gc_number_or(item, "denoising_strength", 1);
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

/* ---- schedules/timesteps.json ---------------------------------------------------------------- */

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
        if (strcmp(all[i].kind, gc_text_or_empty(item, "kind")) == 0 &&
            strcmp(all[i].name, gc_text_or_empty(item, "spacing")) == 0) {
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
        ld_timesteps_spaced(spacing, (uint32_t)gc_number_or(item, "steps", 0), found, LD_TIMESTEPS);
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
    json_t *data = gc_load(gc, path);
    if (!data)
        return;
    ld_sigma_table_init(&distilled, &(struct ld_sigma_table_config){.lcm = true});
    size_t index;
    const json_t *item;
    json_array_foreach(json_object_get(data, "cases"), index, item)
    {
        char name[NAME_SIZE];
        enum ld_spacing spacing;
        snprintf(name, sizeof name, "schedules/timesteps.%s.%s.%g", gc_text_or_empty(item, "kind"),
                 gc_text_or_empty(item, "spacing"), gc_number_or(item, "steps", 0));
        if (spacing_named(item, &spacing)) {
            gc_exact(gc, name, timesteps_match(item, spacing));
        } else if (strcmp(gc_text_or_empty(item, "kind"), "comfy_lcm_distilled_sgm_uniform") == 0) {
            struct ld_schedule_options options = case_options(item, &distilled);
            options.scheduler = "sgm_uniform";
            check_schedule(gc, name, &options, json_object_get(item, "sigmas"), 2e-6);
        } else {
            gc_fail(gc, name, "unknown kind");
        }
    }
    json_decref(data);
}

/* ---- guidance/area.json: LCM wrapping and turbo ---------------------------------------------- */

static void run_area(struct gc *gc, const char *root, const char *path)
{
    static struct ld_sigma_table distilled;
    (void)root;
    json_t *data = gc_load(gc, path);
    if (!data)
        return;
    ld_sigma_table_init(&distilled, &(struct ld_sigma_table_config){.lcm = true});
    size_t index;
    const json_t *item;
    char name[NAME_SIZE];
    json_array_foreach(json_object_get(data, "lcm_wrapping"), index, item)
    {
        const struct ld_wrapping w =
            ld_sigma_table_wrap(&distilled, LD_PREDICT_EPS, gc_number_or(item, "sigma", 0));
        const double found =
            w.x * gc_number_or(item, "x", 0) + w.out * gc_number_or(item, "model_output", 0);
        snprintf(name, sizeof name, "guidance/lcm_wrapping.sigma%g",
                 gc_number_or(item, "sigma", 0));
        gc_report(gc, name,
                  w.timestep == gc_number_or(item, "timestep", -1)
                      ? fabs(found - gc_number_or(item, "denoised", 0))
                      : (double)INFINITY,
                  1e-10 * fmax(1, fabs(gc_number_or(item, "denoised", 0))));
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

const struct gc_kind gc_kinds_schedule[] = {
    {"tables/mapping.json", run_tables},
    {"schedules/schedules.json", run_comfy},
    {"schedules/gits.json", run_gits},
    {"schedules/denoise_cut_comfy.json", run_comfy},
    {"schedules/schedules_a1111.json", run_a1111},
    {"schedules/timesteps.json", run_timesteps},
    {"guidance/area.json", run_area},
    {"traj/manifest.json", gc_run_traj},
    {"traj_vp/manifest.json", gc_run_traj_vp},
    {NULL, NULL},
};
