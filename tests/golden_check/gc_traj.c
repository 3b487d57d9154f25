/*
 * Golden cases of samplers: traj/ and traj_vp/. The "model" is the exactly known denoiser of a
 * Gaussian mixture; noise comes from a bank, in the order of the draws, so neither a network nor a
 * random number generator is involved.
 */
#include "tests/golden_check/gc_schedule.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- The known denoiser ---------------------------------------------------------------------- */

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
    mixture->components = (uint32_t)gc_number_or(parts, "K", 0);
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

/* ---- Noise from the bank --------------------------------------------------------------------- */

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

/* ---- traj/ ----------------------------------------------------------------------------------- */

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
    options->eta = gc_number_or(given, "eta", options->eta);
    options->s_noise = gc_number_or(given, "s_noise", options->s_noise);
    options->s_churn = gc_number_or(given, "s_churn", options->s_churn);
    options->s_tmin = gc_number_or(given, "s_tmin", options->s_tmin);
    options->s_tmax = gc_number_or(given, "s_tmax", options->s_tmax);
    options->r = gc_number_or(given, "r", options->r);
    options->gamma = gc_number_or(given, "ge_gamma", options->gamma);
}

/* The cases name an algorithm, "dpm_fast_eta1", by its function plus options. */
static const char *sampler_of(const json_t *item, char *buffer, size_t size)
{
    snprintf(buffer, size, "%s", gc_text_or_empty(item, "function"));
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
    double *sigmas = gc_numbers(json_object_get(item, "sigmas"), &sigma_count);
    double *call_sigmas = gc_numbers(json_object_get(item, "call_sigmas"), &call_count);
    double *x = calloc(count, sizeof *x);
    struct bank bank = {.mixture = mixture, .args = json_object_get(item, "noise_args")};
    snprintf(name, sizeof name, "traj/%s.%s.%g", gc_text_or_empty(item, "sampler"),
             gc_text_or_empty(item, "scheduler"), gc_number_or(item, "steps", 0));
    if (!gc_find(gc, root, gc_text_or_empty(item, "file"), path, sizeof path) ||
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
        .cfg = gc_number_or(item, "cfg", (double)NAN),
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
    if (run.rows != call_count + 1 || call_count != (size_t)gc_number_or(item, "nfe", -1))
        gc_fail(gc, name, "the case contradicts itself");
    else
        report_run(gc, name, &run, (size_t)gc_number_or(item, "noise_draws", 0),
                   loose ? 1e-9 : 1e-10);
done:
    gc_array_free(&expected);
    free(sigmas);
    free(call_sigmas);
    free(x);
}

void gc_run_traj(struct gc *gc, const char *root, const char *path)
{
    struct mixture mixture;
    json_t *manifest = gc_load(gc, path);
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

/* ---- traj_vp/ -------------------------------------------------------------------------------- */

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
    double *list = gc_numbers(json_object_get(item, "timesteps"), &list_count);
    double *calls = gc_numbers(json_object_get(item, "call_timesteps"), &call_count);
    double *sigmas = calloc(list_count + 1, sizeof *sigmas);
    int32_t *timesteps = calloc(list_count + 1, sizeof *timesteps);
    double *x = calloc(count, sizeof *x);
    struct bank bank = {.mixture = mixture};
    struct run run = {.mixture = mixture, .cfg = (double)NAN, .x = x, .vp = true, .bank = &bank};
    snprintf(name, sizeof name, "traj_vp/%s.%g.eta%g", gc_text_or_empty(item, "kind"),
             gc_number_or(item, "steps", 0), gc_number_or(item, "eta", 0));
    run.config.options = ld_sampler_options_default();
    if (!vp_sampler_named(gc_text_or_empty(item, "kind"), &run.config.name,
                          &run.config.options.a1111)) {
        gc_fail(gc, name, "unknown kind");
        goto done;
    }
    if (!gc_find(gc, root, gc_text_or_empty(item, "file"), path, sizeof path) ||
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
    run.config.options.eta = gc_number_or(item, "eta", run.config.options.eta);
    run.expected = expected.data;
    run.rows = expected.count / count;
    run.call_sigmas = calls;
    if (run.rows != call_count + 1 || call_count != (size_t)gc_number_or(item, "nfe", -1))
        gc_fail(gc, name, "the case contradicts itself");
    else
        report_run(gc, name, &run, (size_t)gc_number_or(item, "noise_draws", 0), 1e-10);
done:
    gc_array_free(&expected);
    free(list);
    free(calls);
    free(sigmas);
    free(timesteps);
    free(x);
}

void gc_run_traj_vp(struct gc *gc, const char *root, const char *path)
{
    struct mixture mixture;
    json_t *manifest = gc_load(gc, path);
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
