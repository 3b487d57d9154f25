#include "runtime/sample/sampler_frame.h"

#include <math.h>
#include <string.h>

/* ---- Options --------------------------------------------------------------------------------- */

struct ld_sampler_options ld_sampler_options_default(void)
{
    return (struct ld_sampler_options){
        .eta = (double)NAN,
        .s_noise = 1,
        .s_churn = 0,
        .s_tmin = 0,
        .s_tmax = (double)INFINITY,
        .gamma = 2,
        .r = (double)NAN,
        .rtol = 0.05,
        .atol = 0.0078,
        .h_init = 0.05,
    };
}

/* NAN means the default everywhere, so that a caller may hand on what a request did not give. */
static void resolve_one(double *option, double fallback)
{
    if (isnan(*option))
        *option = fallback;
}

static enum ld_code resolve_options(struct ld_sampler *s, struct ld_error *err)
{
    const struct ld_sampler_options defaults = ld_sampler_options_default();
    struct ld_sampler_options *options = &s->options;
    /* A1111 runs these two with noise, ComfyUI without. */
    const bool solver = s->kind == &ld_kind_dpm_fast || s->kind == &ld_kind_dpm_adaptive;
    resolve_one(&options->eta, solver && options->a1111 ? 1 : s->row->eta);
    resolve_one(&options->s_noise, defaults.s_noise);
    resolve_one(&options->s_churn, defaults.s_churn);
    resolve_one(&options->s_tmin, defaults.s_tmin);
    resolve_one(&options->s_tmax, defaults.s_tmax);
    resolve_one(&options->gamma, defaults.gamma);
    resolve_one(&options->r, 0.5);
    resolve_one(&options->rtol, defaults.rtol);
    resolve_one(&options->atol, defaults.atol);
    resolve_one(&options->h_init, defaults.h_init);
    if (!(options->eta >= 0 && options->eta <= 100))
        return LD_FAIL(err, LD_E_RANGE, "eta must be between 0 and 100");
    if (!(options->s_noise >= 0 && options->s_noise <= 100))
        return LD_FAIL(err, LD_E_RANGE, "s_noise must be between 0 and 100");
    if (!(options->s_churn >= 0 && options->s_churn <= 10000))
        return LD_FAIL(err, LD_E_RANGE, "s_churn must be between 0 and 10000");
    if (!(options->gamma >= -100 && options->gamma <= 100))
        return LD_FAIL(err, LD_E_RANGE, "gamma must be between -100 and 100");
    if (!(options->r >= 0.01 && options->r <= 1))
        return LD_FAIL(err, LD_E_RANGE, "r must be between 0.01 and 1");
    if (!(options->rtol >= 1e-6 && options->rtol <= 1 && options->atol >= 1e-6 &&
          options->atol <= 1))
        return LD_FAIL(err, LD_E_RANGE, "rtol and atol must be between 0.000001 and 1");
    if (!(options->h_init >= 1e-4 && options->h_init <= 10))
        return LD_FAIL(err, LD_E_RANGE, "h_init must be between 0.0001 and 10");
    if (options->order < 0 || options->order > (s->row->order > 0 ? s->row->order : 4))
        return LD_FAIL(err, LD_E_RANGE, "order must be between 1 and %d, or 0",
                       s->row->order > 0 ? s->row->order : 4);
    if (options->order == 0)
        options->order = s->row->order;
    return LD_OK;
}

/* ---- Creation -------------------------------------------------------------------------------- */

/* Copies the list without steps that change nothing (h = 0), which no formula could divide by. */
static enum ld_code take_sigmas(struct ld_sampler *s, const struct ld_sampler_config *config,
                                struct ld_error *err)
{
    const uint32_t count = config->sigma_count;
    s->sigmas = ld_arena_calloc(s->arena, count + 1, sizeof *s->sigmas);
    int32_t *timesteps = ld_arena_calloc(s->arena, count + 1, sizeof *timesteps);
    if (!s->sigmas || !timesteps)
        return LD_FAIL(err, LD_E_NOMEM, "out of memory for the sampler");
    uint32_t kept = 0;
    for (uint32_t i = 0; i < count; i++) {
        const double sigma = config->sigmas[i];
        const bool last = i + 1 == count;
        if (!(sigma > 0 || (last && sigma == 0)) || isinf(sigma))
            return LD_FAIL(err, LD_E_RANGE, "sigmas must be positive; only the last may be 0");
        if (kept > 0 && sigma > s->sigmas[kept - 1])
            return LD_FAIL(err, LD_E_RANGE, "sigmas must be decreasing");
        if (kept > 0 && sigma == s->sigmas[kept - 1])
            continue;
        if (config->timesteps && !last) {
            const int32_t t = config->timesteps[i];
            if (t < 0 || t >= LD_TIMESTEPS)
                return LD_FAIL(err, LD_E_RANGE, "timesteps must be between 0 and 999");
            timesteps[kept] = t;
        }
        s->sigmas[kept++] = sigma;
    }
    s->steps = kept > 0 ? kept - 1 : 0;
    s->timesteps = config->timesteps ? timesteps : NULL;
    s->timestep_total = config->timestep_total > 0 ? config->timestep_total : s->steps;
    return LD_OK;
}

static enum ld_code take_memory(struct ld_sampler *s, struct ld_error *err)
{
    LD_ASSERT(s->kind->slots <= LD_SAMPLER_SLOTS_MAX);
    for (uint32_t i = 0; i < s->kind->slots; i++) {
        s->slot[i] = ld_arena_calloc(s->arena, s->count, sizeof *s->slot[i]);
        if (!s->slot[i])
            return LD_FAIL(err, LD_E_NOMEM, "out of memory for the sampler");
    }
    s->state = ld_arena_alloc(s->arena, s->kind->state_size);
    if (!s->state)
        return LD_FAIL(err, LD_E_NOMEM, "out of memory for the sampler");
    return LD_OK;
}

static enum ld_code open_step(struct ld_sampler *s, struct ld_error *err)
{
    if (s->i >= s->steps) {
        s->status = LD_SAMPLER_DONE;
        return LD_OK;
    }
    s->status = LD_SAMPLER_EVAL;
    s->phase = 0;
    s->sigma = s->sigmas[s->i];
    s->sigma_next = s->sigmas[s->i + 1];
    s->ask_step = s->i;
    s->asked = false;
    if (!s->kind->open) {
        ld_sampler_ask(s, s->x, s->sigma);
        return LD_OK;
    }
    const enum ld_code code = s->kind->open(s, err);
    LD_ASSERT(code != LD_OK || s->asked);
    return code;
}

enum ld_code ld_sampler_create(struct ld_sampler **out, struct ld_arena *arena,
                               const struct ld_sampler_config *config,
                               const struct ld_noise_source *noise, double *x, struct ld_error *err)
{
    *out = NULL;
    const struct ld_sampler_info *info = ld_sampler_info_find(config->name);
    if (!info)
        return LD_FAIL(err, LD_E_NOT_FOUND, "unknown sampler");
    struct ld_sampler *s = ld_arena_alloc(arena, sizeof *s);
    if (!s)
        return LD_FAIL(err, LD_E_NOMEM, "out of memory for the sampler");
    s->row = ld_sampler_row_of(info);
    s->kind = s->row->kind;
    s->options = config->options;
    s->noise = *noise;
    s->arena = arena;
    s->table = config->table ? config->table : ld_sigma_table_default();
    s->x = x;
    s->count = config->count;
    /* DDIM of profile a1111 walks timesteps, elsewhere the name means Euler. */
    if (s->kind == &ld_kind_ddim && !config->options.a1111)
        s->kind = &ld_kind_euler;
    enum ld_code code = resolve_options(s, err);
    if (code == LD_OK)
        code = take_sigmas(s, config, err);
    if (code == LD_OK)
        code = take_memory(s, err);
    if (code == LD_OK && s->steps > 0 && s->kind->begin)
        code = s->kind->begin(s, err);
    if (code == LD_OK)
        code = open_step(s, err);
    if (code == LD_OK)
        *out = s;
    return code;
}

/* ---- The machine ----------------------------------------------------------------------------- */

enum ld_sampler_status ld_sampler_next(struct ld_sampler *s, struct ld_sampler_eval *eval)
{
    if (s->status == LD_SAMPLER_EVAL)
        *eval = (struct ld_sampler_eval){
            .x = s->ask_x,
            .sigma = s->ask_sigma,
            .step = s->ask_step,
            .call = s->call,
            .needs_uncond = (s->row->info.traits & LD_SAMPLER_CFG_PP) != 0,
            .noise_to = s->kind->noise_to ? s->kind->noise_to(s) : s->sigma_next,
        };
    return s->status;
}

enum ld_code ld_sampler_accept(struct ld_sampler *s, const double *denoised, const double *uncond,
                               struct ld_error *err)
{
    LD_ASSERT(s->status == LD_SAMPLER_EVAL);
    LD_ASSERT(denoised != NULL);
    LD_ASSERT(uncond != NULL || !(s->row->info.traits & LD_SAMPLER_CFG_PP));
    s->denoised = denoised;
    s->uncond = uncond;
    s->asked = false;
    s->reopened = false;
    s->call++;
    enum ld_code code = s->kind->step(s, err);
    s->denoised = NULL;
    s->uncond = NULL;
    if (code == LD_OK && s->status == LD_SAMPLER_EVAL) {
        if (s->asked) {
            s->phase = s->reopened ? 0 : s->phase + 1;
        } else {
            s->i++;
            code = open_step(s, err);
        }
    }
    if (code != LD_OK)
        s->status = LD_SAMPLER_FAILED;
    return code;
}

/* ---- What samplers call ---------------------------------------------------------------------- */

void ld_sampler_ask(struct ld_sampler *s, const double *x, double sigma)
{
    s->ask_x = x;
    s->ask_sigma = sigma;
    s->asked = true;
}

void ld_sampler_finish(struct ld_sampler *s)
{
    s->status = LD_SAMPLER_DONE;
}

enum ld_code ld_sampler_draw(struct ld_sampler *s, enum ld_noise_stream stream, double from,
                             double to, double *out, struct ld_error *err)
{
    const enum ld_code code = s->noise.draw(s->noise.state, stream, from, to, out, s->count, err);
    return code == LD_OK ? LD_OK : ld_error_note(err, "drawing noise for the sampler");
}

enum ld_code ld_sampler_add_noise(struct ld_sampler *s, double scale, double *scratch,
                                  struct ld_error *err)
{
    const enum ld_code code =
        ld_sampler_draw(s, LD_NOISE_ANCESTRAL, s->sigma, s->sigma_next, scratch, err);
    if (code == LD_OK)
        LD_COMBINE(s, s->x, {1, s->x}, {scale * s->options.s_noise, scratch});
    return code;
}

enum ld_code ld_sampler_churn(struct ld_sampler *s, bool always_draw, double *scratch,
                              struct ld_error *err)
{
    const struct ld_sampler_options *options = &s->options;
    double gamma = 0;
    if (options->s_churn > 0 && s->sigma >= options->s_tmin && s->sigma <= options->s_tmax)
        gamma = fmin(options->s_churn / s->steps, sqrt(2) - 1); /* Karras et al. 2022, alg. 2 */
    if (gamma > 0 || always_draw || options->a1111) {
        const enum ld_code code = ld_sampler_draw(s, LD_NOISE_CHURN, 0, 0, scratch, err);
        if (code != LD_OK)
            return code;
    }
    if (gamma > 0) {
        const double raised = s->sigma * (gamma + 1);
        const double scale = sqrt(raised * raised - s->sigma * s->sigma) * options->s_noise;
        LD_COMBINE(s, s->x, {1, s->x}, {scale, scratch});
        s->sigma = raised;
    }
    ld_sampler_ask(s, s->x, s->sigma);
    return LD_OK;
}

void ld_ancestral_split(double from, double to, double eta, double *down, double *up)
{
    if (eta == 0) {
        *down = to;
        *up = 0;
        return;
    }
    const double variance = to * to * (from * from - to * to) / (from * from);
    *up = fmin(to, eta * sqrt(variance));
    *down = sqrt(to * to - *up * *up);
}

void ld_slot_swap(struct ld_sampler *s, uint32_t a, uint32_t b)
{
    double *kept = s->slot[a];
    s->slot[a] = s->slot[b];
    s->slot[b] = kept;
}

void ld_sampler_take(struct ld_sampler *s, const double *src)
{
    memcpy(s->x, src, s->count * sizeof *s->x);
}
