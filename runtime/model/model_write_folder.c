/*
 * The diffusers layout: a folder for each part with its weights and a configuration that says the
 * widths, one for the scheduler, an index of the whole, and the tokenizer's vocabulary.
 *
 * Source   configuration keys of the diffusers library's UNet2DConditionModel, AutoencoderKL and
 *          DDIMScheduler, and of the transformers library's CLIPTextConfig and CLIPTokenizer.
 */
#include "runtime/model/model_write_private.h"

#include "runtime/base/buffer.h"
#include "runtime/base/fsx.h"
#include "runtime/model/vocabulary.h"

enum { JSON_MAX = 16 << 20, FIRST_MERGE = 512, PARTS = 3, TRAIN_STEPS = 1000 };

struct folder {
    const struct ld_model_write *write;
    struct ld_out_file out;
    struct ld_buffer json;
};

/* ---- Configurations -------------------------------------------------------------------------- */

static void widths(struct ld_buffer *out, const char *key, int32_t channels,
                   const int32_t *multipliers, int32_t levels)
{
    ld_buffer_format(out, "\"%s\":[", key);
    for (int32_t i = 0; i < levels; i++)
        ld_buffer_format(out, "%s%d", i ? "," : "", channels * multipliers[i]);
    ld_buffer_text(out, "]");
}

/* `special` stands at level `at`, `usual` at all others. */
static void block_types(struct ld_buffer *out, const char *key, const char *usual,
                        const char *special, int32_t at, int32_t levels)
{
    ld_buffer_format(out, "\"%s\":[", key);
    for (int32_t i = 0; i < levels; i++)
        ld_buffer_format(out, "%s\"%s\"", i ? "," : "", i == at ? special : usual);
    ld_buffer_text(out, "]");
}

static void unet_config(const struct ld_arch *arch, struct ld_buffer *out)
{
    const int32_t levels = arch->unet_levels;
    ld_buffer_format(out,
                     "{\"_class_name\":\"UNet2DConditionModel\",\"act_fn\":\"silu\","
                     "\"attention_head_dim\":%d,\"center_input_sample\":false,"
                     "\"cross_attention_dim\":%d,\"downsample_padding\":1,\"flip_sin_to_cos\":true,"
                     "\"freq_shift\":0,\"in_channels\":%d,\"layers_per_block\":2,"
                     "\"mid_block_scale_factor\":1,\"norm_eps\":1e-05,\"norm_num_groups\":32,"
                     "\"out_channels\":4,\"sample_size\":64,",
                     arch->unet_heads, arch->unet_context, arch->unet_in_channels);
    widths(out, "block_out_channels", arch->unet_channels, arch->unet_multipliers, levels);
    ld_buffer_byte(out, ',');
    block_types(out, "down_block_types", "CrossAttnDownBlock2D", "DownBlock2D", levels - 1, levels);
    ld_buffer_byte(out, ',');
    block_types(out, "up_block_types", "CrossAttnUpBlock2D", "UpBlock2D", 0, levels);
    ld_buffer_text(out, "}\n");
}

static void vae_config(const struct ld_arch *arch, struct ld_buffer *out)
{
    ld_buffer_text(out, "{\"_class_name\":\"AutoencoderKL\",\"act_fn\":\"silu\",\"in_channels\":3,"
                        "\"latent_channels\":4,\"layers_per_block\":2,\"norm_num_groups\":32,"
                        "\"out_channels\":3,\"sample_size\":512,\"scaling_factor\":0.18215,");
    widths(out, "block_out_channels", arch->vae_channels, arch->vae_multipliers, arch->vae_levels);
    ld_buffer_byte(out, ',');
    block_types(out, "down_block_types", "DownEncoderBlock2D", "", -1, arch->vae_levels);
    ld_buffer_byte(out, ',');
    block_types(out, "up_block_types", "UpDecoderBlock2D", "", -1, arch->vae_levels);
    ld_buffer_text(out, "}\n");
}

static void text_config(const struct ld_arch *arch, struct ld_buffer *out)
{
    ld_buffer_format(
        out,
        "{\"architectures\":[\"CLIPTextModel\"],\"attention_dropout\":0.0,\"bos_token_id\":%d,"
        "\"eos_token_id\":%d,\"hidden_act\":\"quick_gelu\",\"hidden_size\":%d,"
        "\"intermediate_size\":%d,\"layer_norm_eps\":1e-05,\"max_position_embeddings\":%d,"
        "\"model_type\":\"clip_text_model\",\"num_attention_heads\":%d,\"num_hidden_layers\":%d,"
        "\"pad_token_id\":1,\"projection_dim\":%d,\"vocab_size\":%d}\n",
        arch->text_vocabulary - 2, arch->text_vocabulary - 1, arch->text_width, arch->text_mlp,
        arch->text_positions, arch->text_heads, arch->text_layers, arch->text_width,
        arch->text_vocabulary);
}

static void scheduler_config(const struct ld_arch *arch, struct ld_buffer *out)
{
    ld_buffer_text(out, "{\"_class_name\":\"DDIMScheduler\",\"beta_start\":");
    ld_buffer_json_double(out, arch->beta_start);
    ld_buffer_text(out, ",\"beta_end\":");
    ld_buffer_json_double(out, arch->beta_end);
    ld_buffer_format(out,
                     ",\"beta_schedule\":\"scaled_linear\",\"clip_sample\":false,"
                     "\"num_train_timesteps\":%d,\"prediction_type\":\"%s\","
                     "\"rescale_betas_zero_snr\":%s,\"set_alpha_to_one\":false,\"steps_offset\":1,"
                     "\"timestep_spacing\":\"leading\"}\n",
                     TRAIN_STEPS,
                     arch->prediction == LD_PREDICT_V    ? "v_prediction"
                     : arch->prediction == LD_PREDICT_X0 ? "sample"
                                                         : "epsilon",
                     arch->zero_terminal_snr ? "true" : "false");
}

static const char *pipeline_of(const struct ld_arch *arch)
{
    return arch->unet_in_channels == 9   ? "StableDiffusionInpaintPipeline"
           : arch->unet_in_channels == 8 ? "StableDiffusionInstructPix2PixPipeline"
                                         : "StableDiffusionPipeline";
}

static void model_index(const struct ld_arch *arch, bool tokenizer, struct ld_buffer *out)
{
    ld_buffer_format(out,
                     "{\"_class_name\":\"%s\",\"_diffusers_version\":\"0.30.0\","
                     "\"feature_extractor\":[null,null],\"requires_safety_checker\":false,"
                     "\"safety_checker\":[null,null],\"scheduler\":[\"diffusers\","
                     "\"DDIMScheduler\"]",
                     pipeline_of(arch));
    if (arch->has_text)
        ld_buffer_text(out, ",\"text_encoder\":[\"transformers\",\"CLIPTextModel\"]");
    if (tokenizer)
        ld_buffer_text(out, ",\"tokenizer\":[\"transformers\",\"CLIPTokenizer\"]");
    if (arch->has_unet)
        ld_buffer_text(out, ",\"unet\":[\"diffusers\",\"UNet2DConditionModel\"]");
    if (arch->has_vae_decoder)
        ld_buffer_text(out, ",\"vae\":[\"diffusers\",\"AutoencoderKL\"]");
    ld_buffer_text(out, "}\n");
}

static enum ld_code put(struct folder *folder, const char *part, const char *name,
                        struct ld_error *err)
{
    enum ld_code code = folder->json.failed
                            ? LD_FAIL(err, LD_E_NOMEM, "not enough memory to write a model")
                            : ld_out_folder_add(&folder->out, part, name, err);
    if (code == LD_OK)
        code =
            ld_fsx_write_all(folder->out.fd, ld_span_of(folder->json.data, folder->json.size), err);
    ld_buffer_clear(&folder->json);
    return code;
}

/* ---- Tokenizer ------------------------------------------------------------------------------- */

static enum ld_code write_tokenizer(struct folder *folder, const char *merges, struct ld_error *err)
{
    const int32_t vocabulary = folder->write->arch->text_vocabulary;
    ld_buffer_text(&folder->json, "#version: 0.2\n");
    ld_vocabulary_merges(&folder->json, merges);
    enum ld_code code = put(folder, "tokenizer", "merges.txt", err);
    if (code == LD_OK) {
        ld_vocabulary_json(&folder->json, merges);
        code = put(folder, "tokenizer", "vocab.json", err);
    }
    if (code == LD_OK) {
        ld_buffer_format(&folder->json,
                         "{\"add_prefix_space\":false,\"bos_token\":\"<|startoftext|>\","
                         "\"do_lower_case\":true,\"eos_token\":\"<|endoftext|>\","
                         "\"model_max_length\":%d,\"pad_token\":\"<|endoftext|>\","
                         "\"tokenizer_class\":\"CLIPTokenizer\",\"unk_token\":\"<|endoftext|>\"}\n",
                         folder->write->arch->text_positions);
        code = put(folder, "tokenizer", "tokenizer_config.json", err);
    }
    if (code == LD_OK && vocabulary != FIRST_MERGE + 2 + (int32_t)ld_vocabulary_count(merges))
        code = LD_FAIL(err, LD_E_SHAPE, "the vocabulary has %u merges and the model wants %d",
                       ld_vocabulary_count(merges), vocabulary - FIRST_MERGE - 2);
    return code;
}

/* ---- Weights --------------------------------------------------------------------------------- */

static bool takes_unet(const struct ld_model_item *item)
{
    return item->key->part == LD_PART_UNET;
}

static bool takes_vae(const struct ld_model_item *item)
{
    return item->key->part == LD_PART_VAE_ENCODER || item->key->part == LD_PART_VAE_DECODER;
}

static bool takes_text(const struct ld_model_item *item)
{
    return item->key->part == LD_PART_TEXT;
}

static const struct part {
    const char *folder, *file;
    bool (*takes)(const struct ld_model_item *item);
    void (*config)(const struct ld_arch *arch, struct ld_buffer *out);
} parts[PARTS] = {
    {"text_encoder", "model.safetensors", takes_text, text_config},
    {"unet", "diffusion_pytorch_model.safetensors", takes_unet, unet_config},
    {"vae", "diffusion_pytorch_model.safetensors", takes_vae, vae_config},
};

static enum ld_code write_part(struct folder *folder, const struct part *part, uint64_t *done,
                               uint64_t total, struct ld_error *err)
{
    struct ld_write_file file;
    enum ld_code code = ld_write_file_init(&file, folder->write, part->takes, true, err);
    if (code == LD_OK && file.count > 0) {
        part->config(folder->write->arch, &folder->json);
        code = put(folder, part->folder, "config.json", err);
        if (code == LD_OK)
            code = ld_out_folder_add(&folder->out, part->folder, part->file, err);
        if (code == LD_OK)
            code = ld_write_file_run(&file, folder->out.fd, done, total, err);
    }
    ld_write_file_deinit(&file);
    return code;
}

static enum ld_code total_bytes(const struct ld_model_write *write, uint64_t *total,
                                struct ld_error *err)
{
    struct ld_write_file file;
    const enum ld_code code = ld_write_file_init(&file, write, NULL, true, err);
    if (code == LD_OK)
        *total = ld_write_file_bytes(&file);
    ld_write_file_deinit(&file);
    return code;
}

static enum ld_code write_all(struct folder *folder, const char *merges, struct ld_error *err)
{
    const struct ld_arch *arch = folder->write->arch;
    uint64_t total = 0;
    uint64_t done = 0;
    enum ld_code code = total_bytes(folder->write, &total, err);
    if (code == LD_OK)
        code = ld_out_file_require(&folder->out, total, err);
    for (size_t i = 0; code == LD_OK && i < PARTS; i++)
        code = write_part(folder, &parts[i], &done, total, err);
    if (code == LD_OK && merges)
        code = write_tokenizer(folder, merges, err);
    if (code == LD_OK) {
        scheduler_config(arch, &folder->json);
        code = put(folder, "scheduler", "scheduler_config.json", err);
    }
    if (code == LD_OK) {
        model_index(arch, merges != NULL, &folder->json);
        code = put(folder, "", "model_index.json", err);
    }
    return code;
}

enum ld_code ld_model_write_folder(const char *path, const struct ld_model_write *write,
                                   const char *merges, struct ld_error *err)
{
    struct folder folder = {.write = write, .json = ld_buffer_make(JSON_MAX)};
    enum ld_code code = ld_out_folder_open(&folder.out, path, err);
    if (code == LD_OK) {
        code = write_all(&folder, merges, err);
        if (code == LD_OK)
            code = ld_out_file_commit(&folder.out, err);
        else
            ld_out_file_discard(&folder.out);
    }
    ld_buffer_deinit(&folder.json);
    return code;
}
