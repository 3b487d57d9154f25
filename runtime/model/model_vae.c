#include "runtime/model/model_state.h"

/* model.md 2.2: what keeps exp(0.5 logvar) finite. */
static const float LOGVAR_MIN = -30.0F;
static const float LOGVAR_MAX = 20.0F;

enum ld_code ld_model_decode(struct ld_model *model, const float *latent, int32_t height,
                             int32_t width, float scale, const struct ld_cancel *cancel,
                             float *picture, struct ld_error *err)
{
    const struct ld_plan_key key = {.part = LD_PART_VAE_DECODER, .vae = {1, height, width}};
    struct ld_plan *plan;
    struct ld_graph_run run;
    enum ld_code code = ld_model_prepare(model, NULL, &key, 0, &plan, &run, err);
    if (code != LD_OK)
        return code;
    run.in[LD_PORT_X] = latent;
    run.in[LD_PORT_SCALE] = &scale;
    run.out[LD_PORT_OUT] = picture;
    run.cancel = cancel;
    return ld_model_run(model, plan, &run, err);
}

enum ld_code ld_model_encode_image(struct ld_model *model, const float *picture, int32_t height,
                                   int32_t width, const struct ld_cancel *cancel, float *moments,
                                   struct ld_error *err)
{
    const struct ld_plan_key key = {.part = LD_PART_VAE_ENCODER, .vae = {1, height, width}};
    struct ld_plan *plan;
    struct ld_graph_run run;
    enum ld_code code = ld_model_prepare(model, NULL, &key, 0, &plan, &run, err);
    if (code != LD_OK)
        return code;
    run.in[LD_PORT_X] = picture;
    run.out[LD_PORT_OUT] = moments;
    run.cancel = cancel;
    code = ld_model_run(model, plan, &run, err);
    if (code != LD_OK)
        return code;
    const int32_t factor = ld_vae_factor(ld_model_arch(model));
    const size_t plane = (size_t)(height / factor) * (size_t)(width / factor);
    for (size_t i = 4 * plane; i < 8 * plane; i++) {
        moments[i] = moments[i] < LOGVAR_MIN ? LOGVAR_MIN : moments[i];
        moments[i] = moments[i] > LOGVAR_MAX ? LOGVAR_MAX : moments[i];
    }
    return LD_OK;
}
