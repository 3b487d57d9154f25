#include "runtime/model/detect_kind.h"

#include <stdlib.h>
#include <string.h>

enum { EMBEDDING_WIDTH = 768, SD2_WIDTH = 1024, SDXL_WIDTH = 2048 };

bool ld_has_prefix(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

bool ld_has_suffix(const char *text, const char *suffix)
{
    const size_t length = strlen(text);
    const size_t tail = strlen(suffix);
    return length >= tail && strcmp(text + length - tail, suffix) == 0;
}

static int has_name(const void *name, const void *item)
{
    return strcmp(name, ((const struct ld_inventory_item *)item)->name);
}

int32_t ld_inventory_find(const struct ld_inventory *inventory, const char *name)
{
    const struct ld_inventory_item *items = inventory->items;
    const struct ld_inventory_item *found =
        inventory->count ? bsearch(name, items, inventory->count, sizeof *items, has_name) : NULL;
    return found ? (int32_t)(found - items) : -1;
}

/* ---- The UNet's probes ----------------------------------------------------------------------- */

struct ld_probe ld_probe_unet(const struct ld_inventory *inventory)
{
#define CONV_IN "input_blocks.0.0.weight"
#define CONTEXT "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
    static const char *const pairs[][2] = {
        {LD_PREFIX_UNET CONV_IN, LD_PREFIX_UNET CONTEXT},
        {"diffusion_model." CONV_IN, "diffusion_model." CONTEXT},
        {CONV_IN, CONTEXT},
        {"conv_in.weight", "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight"},
        {"model_ema.diffusion_modelinput_blocks00weight",
         "model_ema.diffusion_modelinput_blocks11transformer_blocks0attn2to_kweight"},
    };
#undef CONV_IN
#undef CONTEXT
    struct ld_probe probe = {-1, -1};
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        const int32_t conv_in = ld_inventory_find(inventory, pairs[i][0]);
        const int32_t context_k = ld_inventory_find(inventory, pairs[i][1]);
        if (probe.conv_in < 0)
            probe.conv_in = conv_in;
        if (probe.context_k < 0)
            probe.context_k = context_k;
    }
    return probe;
}

/* ---- Kinds ----------------------------------------------------------------------------------- */

enum { MATCH_WHOLE, MATCH_PREFIX, MATCH_SUFFIX, MATCH_INSIDE };

struct sign {
    const char *text;
    int where;
    enum ld_file_kind kind;
};

/* What steers a UNet is made of a UNet's own tensors, often under their names, so these count
 * before the probes. In the order of precedence: a Control-LoRA and a difference have the maps of a
 * ControlNet too. Single files, diffusers, Control-LoRAs, differences and T2I adapters as ComfyUI's
 * comfy/controlnet.py tells them apart; ControlLLLite as in kohya-ss/sd-scripts. */
static const struct sign controls[] = {
    {"lora_controlnet", MATCH_WHOLE, LD_FILE_CONTROL_LORA},
    {"difference", MATCH_WHOLE, LD_FILE_CONTROLNET_DIFFERENCE},
    {"control_model.", MATCH_PREFIX, LD_FILE_CONTROLNET},
    {"zero_convs.", MATCH_INSIDE, LD_FILE_CONTROLNET},
    {"controlnet_cond_embedding.", MATCH_PREFIX, LD_FILE_CONTROLNET},
    {"controlnet_down_blocks.", MATCH_PREFIX, LD_FILE_CONTROLNET},
    {"lllite_", MATCH_PREFIX, LD_FILE_CONTROL_LLLITE},
    {"adapter.body.", MATCH_PREFIX, LD_FILE_T2I_ADAPTER},
    {"body.0.block1.", MATCH_PREFIX, LD_FILE_T2I_ADAPTER},
    {"body.0.in_conv.", MATCH_PREFIX, LD_FILE_T2I_ADAPTER},
};

/* In the order of precedence. */
static const struct sign signs[] = {
    {"ip_adapter.", MATCH_PREFIX, LD_FILE_IP_ADAPTER},
    {"lora_", MATCH_INSIDE, LD_FILE_ADAPTER},
    {".lora.", MATCH_INSIDE, LD_FILE_ADAPTER},
    {"lycoris_", MATCH_PREFIX, LD_FILE_ADAPTER},
    {".hada_", MATCH_INSIDE, LD_FILE_ADAPTER},
    {".lokr_", MATCH_INSIDE, LD_FILE_ADAPTER},
    {".dora_scale", MATCH_SUFFIX, LD_FILE_ADAPTER},
    {".diff", MATCH_SUFFIX, LD_FILE_ADAPTER},
    {".diff_b", MATCH_SUFFIX, LD_FILE_ADAPTER},
    {".on_input", MATCH_SUFFIX, LD_FILE_ADAPTER},
    {"emb_params", MATCH_PREFIX, LD_FILE_EMBEDDING},
    {"string_to_param", MATCH_PREFIX, LD_FILE_EMBEDDING},
};

/* Signs that no UNet of ours has, whatever else the file holds. */
static const struct sign foreign[] = {
    {"cond_stage_model.model.", MATCH_PREFIX, LD_FILE_SD2},
    {"label_emb.", MATCH_INSIDE, LD_FILE_SDXL},
    {"add_embedding.", MATCH_PREFIX, LD_FILE_SDXL},
    {"conditioner.embedders.", MATCH_PREFIX, LD_FILE_SDXL},
    {"joint_blocks.", MATCH_INSIDE, LD_FILE_OTHER_MODEL},
    {"double_blocks.", MATCH_INSIDE, LD_FILE_OTHER_MODEL},
    {"joint_transformer_blocks.", MATCH_INSIDE, LD_FILE_OTHER_MODEL},
    {"double_stream_blocks.", MATCH_INSIDE, LD_FILE_OTHER_MODEL},
};

static bool matches(const char *name, const struct sign *sign)
{
    if (sign->where == MATCH_WHOLE)
        return strcmp(name, sign->text) == 0;
    if (sign->where == MATCH_PREFIX)
        return ld_has_prefix(name, sign->text);
    if (sign->where == MATCH_SUFFIX)
        return ld_has_suffix(name, sign->text);
    return strstr(name, sign->text) != NULL;
}

static enum ld_file_kind first_sign(const struct ld_inventory *inventory, const struct sign *list,
                                    size_t count)
{
    for (size_t s = 0; s < count; s++) {
        for (uint32_t i = 0; i < inventory->count; i++) {
            if (matches(inventory->items[i].name, &list[s]))
                return list[s].kind;
        }
    }
    return LD_FILE_UNKNOWN;
}

/* `clip_l` with or without `clip_g`, or one lone matrix of the text encoder's width. */
static bool is_embedding(const struct ld_inventory *inventory)
{
    const int32_t clip_l = ld_inventory_find(inventory, "clip_l");
    if (clip_l >= 0 && inventory->count <= 2 && inventory->items[clip_l].rank == 2)
        return true;
    return inventory->count == 1 && inventory->items[0].rank == 2 &&
           inventory->items[0].shape[1] == EMBEDDING_WIDTH;
}

/* Values of a prompt's vector that the file attends to; 0 if it attends to none. */
static uint64_t context_width(const struct ld_inventory *inventory)
{
    for (uint32_t i = 0; i < inventory->count; i++) {
        const struct ld_inventory_item *item = &inventory->items[i];
        if (item->rank == 2 && ld_has_suffix(item->name, ".attn2.to_k.weight"))
            return item->shape[1];
    }
    return 0;
}

/* Which models a ControlNet is for: its layout is the same for all. */
static enum ld_file_kind controlnet_kind(const struct ld_inventory *inventory)
{
    static const struct sign sdxl[] = {
        {"label_emb.", MATCH_INSIDE, LD_FILE_CONTROLNET_SDXL},
        {"add_embedding.", MATCH_PREFIX, LD_FILE_CONTROLNET_SDXL},
    };
    const uint64_t width = context_width(inventory);
    if (inventory->test_config)
        return LD_FILE_CONTROLNET;
    if (width == SDXL_WIDTH || first_sign(inventory, sdxl, sizeof sdxl / sizeof sdxl[0]))
        return LD_FILE_CONTROLNET_SDXL;
    return width == SD2_WIDTH ? LD_FILE_CONTROLNET_SD2 : LD_FILE_CONTROLNET;
}

enum ld_file_kind ld_detect_kind(const struct ld_inventory *inventory, const struct ld_probe *probe)
{
    const enum ld_file_kind control =
        first_sign(inventory, controls, sizeof controls / sizeof controls[0]);
    if (control != LD_FILE_UNKNOWN)
        return control == LD_FILE_CONTROLNET ? controlnet_kind(inventory) : control;
    if (probe->conv_in < 0) {
        const enum ld_file_kind kind = first_sign(inventory, signs, sizeof signs / sizeof signs[0]);
        if (kind != LD_FILE_UNKNOWN)
            return kind;
        if (is_embedding(inventory))
            return LD_FILE_EMBEDDING;
    }
    const enum ld_file_kind other =
        first_sign(inventory, foreign, sizeof foreign / sizeof foreign[0]);
    if (other != LD_FILE_UNKNOWN)
        return other;
    if (probe->context_k >= 0 && inventory->items[probe->context_k].rank == 2) {
        const uint64_t width = inventory->items[probe->context_k].shape[1];
        if (width == SD2_WIDTH && !inventory->test_config)
            return LD_FILE_SD2;
        if (width == SDXL_WIDTH && !inventory->test_config)
            return LD_FILE_SDXL;
    }
    return LD_FILE_UNKNOWN;
}

/* ---- Tensors nobody needs -------------------------------------------------------------------- */

bool ld_is_ignorable(const char *name)
{
    static const char *const suffixes[] = {
        ".position_ids", "text_projection.weight", "text_projection", "logit_scale",
        "scaled_fp8",    ".scale_weight",          ".scale_input",
    };
    static const char *const names[] = {
        "betas",
        "alphas_cumprod",
        "alphas_cumprod_prev",
        "sqrt_alphas_cumprod",
        "sqrt_one_minus_alphas_cumprod",
        "log_one_minus_alphas_cumprod",
        "sqrt_recip_alphas_cumprod",
        "sqrt_recipm1_alphas_cumprod",
        "posterior_variance",
        "posterior_log_variance_clipped",
        "posterior_mean_coef1",
        "posterior_mean_coef2",
        "v_pred",
        "ztsnr",
    };
    for (size_t i = 0; i < sizeof suffixes / sizeof suffixes[0]; i++) {
        if (ld_has_suffix(name, suffixes[i]))
            return true;
    }
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(name, names[i]) == 0)
            return true;
    }
    return ld_has_prefix(name, "model_ema.");
}
