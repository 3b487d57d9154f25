/* The samplers by name: ComfyUI's names, A1111's labels, and what every other dialect calls them
 * (api.md 2.6). */
#include "runtime/sample/names.h"
#include "runtime/sample/sampler_frame.h"

#include <strings.h>

#define ANC     LD_SAMPLER_ANCESTRAL
#define BRO     LD_SAMPLER_BROWNIAN
#define DISCARD LD_SAMPLER_DISCARD_PENULTIMATE
#define ENSD    LD_SAMPLER_USES_ENSD
#define PP      LD_SAMPLER_CFG_PP
#define TWO     LD_SAMPLER_SECOND_ORDER
#define VP      LD_SAMPLER_VP

/* clang-format off: name, label / aliases / hint / traits, evaluations a step, kind, eta, order */
static const struct ld_sampler_row rows[] = {
    {{"euler", "Euler", "k_euler",
      "simple and deterministic; the same picture at any step count above about 20", 0, 1},
     &ld_kind_euler,
     0,
     0},
    {{"euler_ancestral", "Euler a", "k_euler_a,k_euler_ancestral,euler_a,eulera",
      "adds fresh noise every step; the most stable choice for NovelAI V2", ANC | ENSD, 1},
     &ld_kind_euler_ancestral,
     1,
     0},
    {{"euler_cfg_pp", "Euler CFG++", "ddim cfg++,ddim_cfg_pp",
      "Euler with CFG++; use a cfg scale of 0.5 to 2", PP, 1},
     &ld_kind_euler_cfg_pp,
     0,
     0},
    {{"euler_ancestral_cfg_pp", "Euler a CFG++", "",
      "Euler a with CFG++; use a cfg scale of 0.5 to 2", PP | ANC, 1},
     &ld_kind_euler_cfg_pp,
     1,
     0},
    {{"heun", "Heun", "k_heun", "second order, two evaluations a step; accurate and slow", TWO, 2},
     &ld_kind_heun,
     0,
     0},
    {{"heunpp2", "Heun++ 2", "k_heunpp2,heunpp2 (heun++)",
      "Heun with up to three evaluations a step", 0, 3},
     &ld_kind_heunpp2,
     0,
     0},
    {{"dpm_2", "DPM2", "k_dpm_2,dpm2", "midpoint method, two evaluations a step", TWO | DISCARD, 2},
     &ld_kind_dpm_2,
     0,
     0},
    {{"dpm_2_ancestral", "DPM2 a", "k_dpm_2_a,k_dpm_2_ancestral,dpm2a,dpm2_a",
      "midpoint method with fresh noise, two evaluations a step", TWO | DISCARD | ANC | ENSD, 2},
     &ld_kind_dpm_2_ancestral,
     1,
     0},
    {{"lms", "LMS", "k_lms", "linear multistep of fourth order; fast, weak below 20 steps", 0, 1},
     &ld_kind_lms,
     0,
     4},
    {{"dpm_fast", "DPM fast", "k_dpm_fast,dpmfast",
      "fixed plan of third-order steps that stops at sigma_min", ANC | ENSD, 1},
     &ld_kind_dpm_fast,
     0,
     0},
    {{"dpm_adaptive", "DPM adaptive", "k_dpm_adaptive,k_dpm_ad,dpmadaptive",
      "chooses its own step count; steps only sets the schedule's ends", ANC | ENSD, 3},
     &ld_kind_dpm_adaptive,
     0,
     0},
    {{"dpmpp_2s_ancestral", "DPM++ 2S a",
      "k_dpmpp_2s_a,k_dpmpp_2s_ancestral,dpm++2s_a,dpm2sa,dpmpp_2s_a",
      "second order with fresh noise, two evaluations a step", TWO | ANC | ENSD, 2},
     &ld_kind_dpmpp_2s_ancestral,
     1,
     0},
    {{"dpmpp_2s_ancestral_cfg_pp", "DPM++ 2S a CFG++", "",
      "DPM++ 2S a with CFG++; use a cfg scale of 0.5 to 2", PP | ANC, 2},
     &ld_kind_dpmpp_2s_ancestral_cfg_pp,
     1,
     0},
    {{"dpmpp_sde", "DPM++ SDE", "k_dpmpp_sde,dpmpp_sde_gpu,dpmsde,dpm++sde",
      "best texture; two evaluations a step, so take half the steps", TWO | BRO, 2},
     &ld_kind_dpmpp_sde,
     1,
     0},
    {{"dpmpp_2m", "DPM++ 2M", "k_dpmpp_2m,dpm++2m,dpm2m",
      "second order multistep; fast and clean, 20 steps suffice", 0, 1},
     &ld_kind_dpmpp_2m,
     0,
     0},
    {{"dpmpp_2m_cfg_pp", "DPM++ 2M CFG++", "", "DPM++ 2M with CFG++; use a cfg scale of 0.5 to 2",
      PP, 1},
     &ld_kind_dpmpp_2m_cfg_pp,
     0,
     0},
    {{"dpmpp_2m_sde", "DPM++ 2M SDE", "k_dpmpp_2m_sde,dpmpp_2m_sde_gpu,dpm++2m_sde",
      "DPM++ 2M with noise; more detail than 2M", BRO, 1},
     &ld_kind_dpmpp_2m_sde,
     1,
     0},
    {{"dpmpp_2m_sde_heun", "DPM++ 2M SDE Heun",
      "k_dpmpp_2m_sde_heun,dpmpp_2m_sde_heun_gpu,dpm++ 2m sde (heun)",
      "DPM++ 2M SDE with Heun's form of the correction", BRO, 1},
     &ld_kind_dpmpp_2m_sde_heun,
     1,
     0},
    {{"dpmpp_3m_sde", "DPM++ 3M SDE", "k_dpmpp_3m_sde,dpmpp_3m_sde_gpu,dpm++3m_sde",
      "third order with noise; wants 25 steps or more", BRO, 1},
     &ld_kind_dpmpp_3m_sde,
     1,
     0},
    {{"ddpm", "DDPM", "k_ddpm", "the original ancestral process; wants many steps", ANC, 1},
     &ld_kind_ddpm,
     0,
     0},
    {{"lcm", "LCM", "k_lcm", "for LCM checkpoints and LoRAs, 4 to 8 steps", ANC, 1},
     &ld_kind_lcm,
     0,
     0},
    {{"ipndm", "iPNDM", "", "Adams-Bashforth up to fourth order; deterministic", 0, 1},
     &ld_kind_ipndm,
     0,
     4},
    {{"ipndm_v", "iPNDM V", "", "Adams-Bashforth with weights for uneven steps", 0, 1},
     &ld_kind_ipndm_v,
     0,
     4},
    {{"deis", "DEIS", "", "exponential multistep of third order; good at 10 to 15 steps", 0, 1},
     &ld_kind_deis,
     0,
     3},
    {{"res_multistep", "Res Multistep", "", "second order exponential multistep; deterministic", 0,
      1},
     &ld_kind_res_multistep,
     0,
     0},
    {{"res_multistep_cfg_pp", "Res Multistep CFG++", "",
      "res_multistep with CFG++; use a cfg scale of 0.5 to 2", PP, 1},
     &ld_kind_res_multistep_cfg_pp,
     0,
     0},
    {{"res_multistep_ancestral", "Res Multistep a", "", "res_multistep with fresh noise every step",
      ANC, 1},
     &ld_kind_res_multistep,
     1,
     0},
    {{"res_multistep_ancestral_cfg_pp", "Res Multistep a CFG++", "",
      "res_multistep_ancestral with CFG++; use a cfg scale of 0.5 to 2", PP | ANC, 1},
     &ld_kind_res_multistep_cfg_pp,
     1,
     0},
    {{"gradient_estimation", "Gradient Estimation", "euler_ge",
      "Euler that corrects its slope; stable at few steps", 0, 1},
     &ld_kind_gradient_estimation,
     0,
     0},
    {{"gradient_estimation_cfg_pp", "Gradient Estimation CFG++", "",
      "gradient_estimation with CFG++; use a cfg scale of 0.5 to 2", PP, 1},
     &ld_kind_gradient_estimation_cfg_pp,
     0,
     0},
    {{"er_sde", "ER SDE", "", "third order SDE solver; detail at 10 to 20 steps", ANC, 1},
     &ld_kind_er_sde,
     0,
     3},
    {{"seeds_2", "SEEDS 2", "", "exponential SDE solver, two evaluations a step", ANC, 2},
     &ld_kind_seeds_2,
     1,
     0},
    {{"seeds_3", "SEEDS 3", "", "exponential SDE solver, three evaluations a step", ANC, 3},
     &ld_kind_seeds_3,
     1,
     0},
    {{"sa_solver", "SA Solver", "",
      "stochastic Adams predictor and corrector; noise in the middle of the schedule", ANC, 1},
     &ld_kind_sa_solver,
     1,
     0},
    {{"sa_solver_pece", "SA Solver PECE", "", "SA Solver that evaluates again after correcting",
      ANC, 2},
     &ld_kind_sa_solver_pece,
     1,
     0},
    {{"uni_pc", "UniPC", "unipc", "predictor and corrector of third order; good at 10 steps",
      DISCARD, 1},
     &ld_kind_uni_pc,
     0,
     0},
    {{"uni_pc_bh2", "UniPC BH2", "unipc_bh2", "UniPC with the second form of its B(h)", DISCARD, 1},
     &ld_kind_uni_pc_bh2,
     0,
     0},
    {{"ddim", "DDIM", "ddim_v3,k_ddim",
      "Euler; in profile a1111 the classic DDIM on integer timesteps", 0, 1},
     &ld_kind_ddim,
     0,
     0},
    {{"ddim_trailing", "DDIM Trailing", "",
      "DDIM on trailing timesteps; what the Hyper-SD CFG LoRAs are made for", VP, 1},
     &ld_kind_ddim_trailing,
     0,
     0},
    {{"plms", "PLMS", "k_plms",
      "the first sampler of Stable Diffusion; multistep on integer timesteps", VP, 1},
     &ld_kind_plms,
     0,
     0},
    {{"tcd", "TCD", "", "for trajectory consistency LoRAs; eta 0 to 1 trades detail for stability",
      VP | ANC, 1},
     &ld_kind_tcd,
     0.3,
     0},
    {{"lcm_trailing", "LCM Trailing", "lcm_vp",
      "the LCM scheduler on integer timesteps, for LCM LoRAs", VP | ANC, 1},
     &ld_kind_lcm_trailing,
     0,
     0},
    {{"restart", "Restart", "", "Heun that jumps back to a higher noise level once or twice", TWO,
      2},
     &ld_kind_restart,
     0,
     0},
};
/* clang-format on */

enum { ROW_COUNT = sizeof rows / sizeof rows[0] };

uint32_t ld_sampler_info_count(void)
{
    return ROW_COUNT;
}

const struct ld_sampler_info *ld_sampler_info_at(uint32_t index)
{
    LD_ASSERT(index < ROW_COUNT);
    return &rows[index].info;
}

const struct ld_sampler_row *ld_sampler_row_of(const struct ld_sampler_info *info)
{
    const struct ld_sampler_row *row = NULL;
    for (uint32_t i = 0; i < ROW_COUNT; i++)
        if (&rows[i].info == info)
            row = &rows[i];
    LD_ASSERT(row != NULL); /* an info that did not come from this registry */
    return row;
}

const struct ld_sampler_info *ld_sampler_info_find(const char *name)
{
    for (int pass = 0; pass < 3; pass++) { /* names win over labels, labels over aliases */
        for (uint32_t i = 0; i < ROW_COUNT; i++) {
            const struct ld_sampler_info *info = &rows[i].info;
            if (pass == 0   ? strcasecmp(info->name, name) == 0
                : pass == 1 ? strcasecmp(info->label, name) == 0
                            : ld_name_in_list(info->aliases, name))
                return info;
        }
    }
    return NULL;
}
