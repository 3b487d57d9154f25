/* The schedulers by name: ComfyUI's names and order first, then those of nodes and of A1111. */
#include "runtime/sample/names.h"
#include "runtime/sample/schedule_shape.h"

#include <string.h>
#include <strings.h>

/* clang-format off: one row a scheduler reads better than one field a line */
static const struct ld_scheduler_row rows[] = {
    {{"automatic", "Automatic", "auto", "the schedule usually paired with the sampler", 0},
     NULL,
     0},
    {{"simple", "Simple", "", "every 1000/n-th training timestep; the safe default", 0},
     ld_shape_simple,
     0},
    {{"sgm_uniform", "SGM Uniform", "sgm uniform",
      "equal steps in time that stop one step short of sigma_min", 0},
     ld_shape_sgm_uniform,
     0},
    {{"karras", "Karras", "", "more steps at low noise; suits the DPM++ samplers", 0},
     ld_shape_karras,
     0},
    {{"exponential", "Exponential", "", "equal steps in log sigma; suits the SDE samplers", 0},
     ld_shape_exponential,
     0},
    {{"ddim_uniform", "DDIM", "ddim",
      "DDIM's own spacing; may run one step more and starts below sigma_max", 0},
     ld_shape_ddim_uniform,
     0},
    {{"beta", "Beta", "", "many steps at both ends, few in the middle", 0}, ld_shape_beta, 0},
    {{"normal", "Normal", "native,discrete",
      "equal steps in training time; NovelAI's native schedule", 0},
     ld_shape_normal,
     0},
    {{"linear_quadratic", "Linear Quadratic", "",
      "small equal steps first, growing ones after half the way", 0},
     ld_shape_linear_quadratic,
     0},
    {{"kl_optimal", "KL Optimal", "kl optimal", "optimal for Gaussian data; close to karras", 0},
     ld_shape_kl_optimal,
     0},
    {{"uniform", "Uniform", "", "A1111's name of normal", 0}, ld_shape_normal, 0},
    {{"polyexponential", "Polyexponential", "", "exponential with a power rho on the way",
      LD_SCHEDULER_EXPLICIT},
     ld_shape_polyexponential,
     0},
    {{"laplace", "Laplace", "",
      "dense around a middle sigma; ends at sigma_min, so it runs n - 1 steps",
      LD_SCHEDULER_EXPLICIT},
     ld_shape_laplace,
     0},
    {{"vp", "VP", "vp_scheduler", "the continuous variance preserving process",
      LD_SCHEDULER_EXPLICIT},
     ld_shape_vp,
     0},
    {{"ays", "Align Your Steps",
      "align_your_steps,alignyoursteps,align your steps,align_your_steps_11,align_your_steps_32",
      "optimised for few steps (10); interpolated for other counts",
      LD_SCHEDULER_EXPLICIT | LD_SCHEDULER_OWN_CUT},
     ld_shape_ays,
     0},
    {{"gits", "GITS", "align_your_steps_gits,gits_scheduler",
      "sharp and vivid in few steps (8 to 12); option coefficient",
      LD_SCHEDULER_EXPLICIT | LD_SCHEDULER_OWN_CUT},
     ld_shape_gits,
     0},
    {{"turbo", "Turbo", "sdturbo,sd_turbo,sdturboscheduler",
      "1 to 10 steps for turbo-distilled checkpoints",
      LD_SCHEDULER_EXPLICIT | LD_SCHEDULER_OWN_CUT},
     ld_shape_turbo,
     0},
    {{"trailing", "DDIM Trailing", "ddim_trailing",
      "integer timesteps counted from the end; what Hyper-SD was distilled for",
      LD_SCHEDULER_EXPLICIT | LD_SCHEDULER_SPACING},
     NULL,
     LD_SPACING_TRAILING},
    {{"leading", "DDIM Leading", "ddim_leading", "integer timesteps counted from the start",
      LD_SCHEDULER_EXPLICIT | LD_SCHEDULER_SPACING},
     NULL,
     LD_SPACING_LEADING},
    {{"linspace", "DDIM Linspace", "ddim_linspace", "integer timesteps with both ends",
      LD_SCHEDULER_EXPLICIT | LD_SCHEDULER_SPACING},
     NULL,
     LD_SPACING_LINSPACE},
    {{"ddim_classic", "DDIM Classic", "", "the timesteps of A1111's DDIM and PLMS",
      LD_SCHEDULER_EXPLICIT | LD_SCHEDULER_SPACING},
     NULL,
     LD_SPACING_UNIFORM},
    {{"lcm", "LCM", "tcd", "the 50 timesteps of consistency distillation, thinned out",
      LD_SCHEDULER_EXPLICIT | LD_SCHEDULER_SPACING},
     NULL,
     LD_SPACING_DISTILLED},
};
/* clang-format on */

enum { ROW_COUNT = sizeof rows / sizeof rows[0] };

/* A1111's pairs of sampler and schedule (sampling.md 2, api.md 2.6); all others get "uniform". */
static const struct {
    const char *sampler, *scheduler;
} usual[] = {
    {"dpmpp_2m", "karras"},           {"dpmpp_sde", "karras"},
    {"dpmpp_2s_ancestral", "karras"}, {"dpm_2", "karras"},
    {"dpm_2_ancestral", "karras"},    {"restart", "karras"},
    {"dpmpp_2m_sde", "exponential"},  {"dpmpp_2m_sde_heun", "exponential"},
    {"dpmpp_3m_sde", "exponential"},
};

uint32_t ld_scheduler_info_count(void)
{
    return ROW_COUNT;
}

const struct ld_scheduler_info *ld_scheduler_info_at(uint32_t index)
{
    LD_ASSERT(index < ROW_COUNT);
    return &rows[index].info;
}

const struct ld_scheduler_row *ld_scheduler_row_of(const struct ld_scheduler_info *info)
{
    const struct ld_scheduler_row *row = NULL;
    for (uint32_t i = 0; i < ROW_COUNT; i++)
        if (&rows[i].info == info)
            row = &rows[i];
    LD_ASSERT(row != NULL); /* an info that did not come from this registry */
    return row;
}

const struct ld_scheduler_info *ld_scheduler_info_find(const char *name)
{
    for (int pass = 0; pass < 3; pass++) { /* names win over labels, labels over aliases */
        for (uint32_t i = 0; i < ROW_COUNT; i++) {
            const struct ld_scheduler_info *info = &rows[i].info;
            if (pass == 0   ? strcasecmp(info->name, name) == 0
                : pass == 1 ? strcasecmp(info->label, name) == 0
                            : ld_name_in_list(info->aliases, name))
                return info;
        }
    }
    return NULL;
}

const struct ld_scheduler_info *ld_scheduler_automatic(const struct ld_sampler_info *sampler)
{
    for (size_t i = 0; sampler && i < sizeof usual / sizeof usual[0]; i++)
        if (strcmp(usual[i].sampler, sampler->name) == 0)
            return ld_scheduler_info_find(usual[i].scheduler);
    return ld_scheduler_info_find("uniform");
}
