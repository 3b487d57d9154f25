/*
 * Proves that every layout of a model gives the same named values, that what is missing or foreign
 * is named, and that overlays change nothing but themselves. A tiny model is written in each form.
 */
#include "runtime/model/weights.h"

#include "runtime/model/detect.h"
#include "tests/unit/model_fixture.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <cmocka.h>

#define FIRST_CONV "model.diffusion_model.input_blocks.0.0.weight"
#define PROJ_IN    "model.diffusion_model.input_blocks.1.1.proj_in.weight"
#define VAE_Q      "first_stage_model.decoder.mid.attn_1.q.weight"
#define TOKENS     "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight"

static struct fixture fixture;
static char folder[256];

static int make_folder(void **state)
{
    (void)state;
    fixture_folder(folder);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    fixture_remove_folder(folder);
    return 0;
}

static const char *model_path(void)
{
    return fixture_path(folder, "model.safetensors");
}

static struct ld_weights *open_written(const struct ld_weights_options *options)
{
    struct ld_weights *weights;
    struct ld_error err = {0};
    fixture_write(&fixture, model_path());
    if (ld_weights_open(&weights, model_path(), options, &err) != LD_OK)
        fail_msg("%s", err.detail);
    return weights;
}

/* The public sentence of a refusal. */
static const char *refusal(void)
{
    static struct ld_error err;
    struct ld_weights *weights;
    memset(&err, 0, sizeof err);
    fixture_write(&fixture, model_path());
    assert_int_not_equal(ld_weights_open(&weights, model_path(), NULL, &err), LD_OK);
    assert_null(weights);
    return err.detail;
}

/* Every tensor has the values of its canonical name in the type it was written in. */
static void assert_values(const struct ld_weights *weights, enum ld_dtype dtype)
{
    for (uint32_t i = 0; i < ld_weights_count(weights); i++) {
        struct ld_weight_view view;
        ld_weights_at(weights, i, &view);
        assert_int_equal(view.dtype, dtype);
        float *values = calloc(view.count, sizeof *values);
        assert_non_null(values);
        ld_weight_view_decode(&view, values);
        for (size_t k = 0; k < view.count; k += 1 + view.count / 7) {
            uint8_t code[8];
            float expected = fixture_value(view.name, k);
            ld_dtype_from_f32(code, &expected, dtype, 1);
            ld_dtype_to_f32(&expected, code, dtype, 1);
            assert_true(values[k] == expected);
        }
        free(values);
    }
}

/* ---- Layouts --------------------------------------------------------------------------------- */

static void every_element_type_is_read_in_place(void **state)
{
    (void)state;
    static const enum ld_dtype dtypes[] = {LD_DTYPE_F32, LD_DTYPE_F16,     LD_DTYPE_BF16,
                                           LD_DTYPE_F64, LD_DTYPE_F8_E4M3, LD_DTYPE_F8_E5M2};
    for (size_t i = 0; i < sizeof dtypes / sizeof dtypes[0]; i++) {
        fixture_model(&fixture, dtypes[i]);
        struct ld_weights *weights = open_written(NULL);
        const struct ld_arch *arch = ld_weights_arch(weights);
        assert_true(arch->has_unet && arch->has_vae_decoder && arch->has_vae_encoder);
        assert_true(arch->has_text && arch->is_test_config);
        assert_int_equal(arch->text_vocabulary, 40);
        assert_int_equal(arch->unet_in_channels, 4);
        assert_int_equal(arch->prediction, LD_PREDICT_EPS);
        assert_int_equal(ld_weights_count(weights), fixture.count);
        assert_int_equal(ld_weights_storage_dtype(weights, TOKENS), dtypes[i]);
        assert_values(weights, dtypes[i]);
        ld_weights_close(weights);
    }
}

static void other_prefixes_mean_the_same_tensors(void **state)
{
    (void)state;
    static const char *const renames[][2] = {
        {"cond_stage_model.transformer.text_model.", "cond_stage_model.transformer."},
        {"cond_stage_model.transformer.", "text_encoders.clip_l.transformer."},
        {"cond_stage_model.transformer.", "clip_l.transformer."},
        {"model.diffusion_model.", "diffusion_model."},
        {"model.diffusion_model.", ""},
        {"first_stage_model.", ""},
        {"first_stage_model.decoder.mid.attn_1.q.", "first_stage_model.decoder.mid.attn_1.to_q."},
        {"first_stage_model.encoder.mid.attn_1.proj_out.",
         "first_stage_model.encoder.mid.attn_1.proj_attn."},
    };
    for (size_t i = 0; i < sizeof renames / sizeof renames[0]; i++) {
        fixture_model(&fixture, LD_DTYPE_F16);
        fixture_rename(&fixture, renames[i][0], renames[i][1]);
        struct ld_weights *weights = open_written(NULL);
        assert_int_equal(ld_weights_count(weights), fixture.count);
        assert_int_equal(ld_weights_detection(weights)->unknown, 0);
        assert_values(weights, LD_DTYPE_F16);
        ld_weights_close(weights);
    }
}

static void matrices_and_1x1_convolutions_are_the_same(void **state)
{
    (void)state;
    fixture_model(&fixture, LD_DTYPE_F16);
    fixture_find(&fixture, PROJ_IN)->rank = 2;
    fixture_find(&fixture, VAE_Q)->rank = 2;
    struct ld_weights *weights = open_written(NULL);
    struct ld_weight_view view;
    assert_true(ld_weights_get(weights, PROJ_IN, &view));
    assert_int_equal(view.rank, 4);
    assert_int_equal(view.shape[0] * view.shape[1] * view.shape[2] * view.shape[3], 32 * 32);
    assert_true(ld_weights_get(weights, VAE_Q, &view));
    assert_int_equal(view.rank, 4);
    ld_weights_close(weights);
}

static void parts_may_come_alone(void **state)
{
    (void)state;
    fixture_model(&fixture, LD_DTYPE_F16);
    fixture_remove(&fixture, "first_stage_model.");
    fixture_remove(&fixture, "cond_stage_model.");
    struct ld_weights *weights = open_written(NULL);
    assert_true(ld_weights_arch(weights)->has_unet && !ld_weights_arch(weights)->has_text);
    struct ld_weight_view view;
    assert_false(ld_weights_get(weights, TOKENS, &view));
    assert_int_equal(ld_weights_storage_dtype(weights, TOKENS), LD_DTYPE_OTHER);
    ld_weights_close(weights);

    fixture_model(&fixture, LD_DTYPE_F16);
    fixture_remove(&fixture, "model.");
    fixture_remove(&fixture, "cond_stage_model.");
    fixture_remove(&fixture, "first_stage_model.encoder.");
    fixture_remove(&fixture, "first_stage_model.quant_conv.");
    weights = open_written(NULL);
    assert_true(ld_weights_arch(weights)->has_vae_decoder);
    assert_false(ld_weights_arch(weights)->has_vae_encoder || ld_weights_arch(weights)->has_unet);
    ld_weights_close(weights);
}

static void scaled_fp8_multiplies_its_weights(void **state)
{
    (void)state;
    static const float scale[] = {0.75f};
    fixture_model(&fixture, LD_DTYPE_F8_E4M3);
    fixture_add_matrix(&fixture, "model.diffusion_model.scaled_fp8", LD_DTYPE_F8_E4M3, 2, 0);
    fixture_add_matrix(&fixture, "model.diffusion_model.input_blocks.1.1.proj_in.scale_weight",
                       LD_DTYPE_F32, 1, 0)
        ->values = scale;
    fixture_add_matrix(&fixture, "model.diffusion_model.input_blocks.1.1.proj_in.scale_input",
                       LD_DTYPE_F32, 1, 0);
    struct ld_weights *weights = open_written(NULL);
    struct ld_weight_view view;
    float values[32 * 32];
    float plain[32 * 32];
    assert_true(ld_weights_detection(weights)->scaled_fp8);
    assert_int_equal(ld_weights_detection(weights)->unknown, 0);
    assert_true(ld_weights_get(weights, PROJ_IN, &view));
    assert_true(view.scale == scale[0]);
    ld_weight_view_decode(&view, values);
    ld_dtype_to_f32(plain, view.data, view.dtype, view.count);
    for (size_t i = 0; i < view.count; i++)
        assert_true(values[i] == plain[i] * scale[0]);
    ld_weights_close(weights);
}

/* Adds model_ema.* beside or instead of the plain UNet. */
static void add_ema(bool keep_plain)
{
    const uint32_t count = fixture.count;
    for (uint32_t i = 0; i < count; i++) {
        struct fixture_tensor *tensor = &fixture.tensors[i];
        if (strncmp(tensor->name, "model.diffusion_model.", 22) != 0)
            continue;
        char name[FIXTURE_NAME_SIZE] = "model_ema.";
        size_t size = strlen(name);
        for (const char *p = tensor->name + strlen("model."); *p; p++) {
            if (*p != '.')
                name[size++] = *p;
        }
        name[size] = 0;
        fixture_add(&fixture, name, tensor->dtype, tensor->rank, tensor->shape);
    }
    fixture_add_matrix(&fixture, "model_ema.decay", LD_DTYPE_F32, 0, 0);
    if (!keep_plain)
        fixture_remove(&fixture, "model.diffusion_model.");
}

static void averaged_weights_are_used_when_asked_or_alone(void **state)
{
    (void)state;
    const struct ld_weights_options ask = {.use_ema = true, .prediction = -1};
    for (int i = 0; i < 3; i++) {
        fixture_model(&fixture, LD_DTYPE_F32);
        add_ema(i < 2);
        struct ld_weights *weights = open_written(i == 1 ? &ask : NULL);
        struct ld_weight_view view;
        assert_true(ld_weights_detection(weights)->has_ema);
        assert_int_equal(ld_weights_detection(weights)->uses_ema, i > 0);
        assert_true(ld_weights_get(weights, FIRST_CONV, &view));
        const float expected =
            i == 0 ? fixture_value(FIRST_CONV, 3)
                   : fixture_value("model_ema.diffusion_modelinput_blocks00weight", 3);
        float value;
        memcpy(&value, (const float *)view.data + 3, sizeof value);
        assert_true(value == expected);
        ld_weights_close(weights);
    }
}

/* ---- Signs ----------------------------------------------------------------------------------- */

static void inpainting_and_prediction_are_detected(void **state)
{
    (void)state;
    fixture_model(&fixture, LD_DTYPE_F16);
    fixture_find(&fixture, FIRST_CONV)->shape[1] = 9;
    fixture_add_matrix(&fixture, "v_pred", LD_DTYPE_F32, 1, 0);
    fixture_add_matrix(&fixture, "ztsnr", LD_DTYPE_F32, 1, 0);
    struct ld_weights *weights = open_written(NULL);
    assert_int_equal(ld_weights_arch(weights)->unet_in_channels, 9);
    assert_int_equal(ld_weights_arch(weights)->prediction, LD_PREDICT_V);
    assert_true(ld_weights_arch(weights)->zero_terminal_snr);
    assert_string_equal(ld_detection_name(ld_weights_detection(weights)), "sd15-inpaint");
    ld_weights_close(weights);

    const struct ld_weights_options force = {.prediction = LD_PREDICT_EPS};
    weights = open_written(&force);
    assert_int_equal(ld_weights_arch(weights)->prediction, LD_PREDICT_EPS);
    ld_weights_close(weights);

    fixture_model(&fixture, LD_DTYPE_F16);
    fixture_note(&fixture, "modelspec.prediction_type", "v");
    weights = open_written(NULL);
    assert_int_equal(ld_weights_arch(weights)->prediction, LD_PREDICT_V);
    ld_weights_close(weights);
}

/* ---- Refusals -------------------------------------------------------------------------------- */

static void what_is_wrong_is_named(void **state)
{
    (void)state;
    fixture_model(&fixture, LD_DTYPE_F16);
    fixture_remove(&fixture, PROJ_IN);
    fixture_remove(&fixture, "model.diffusion_model.out.2.bias");
    const char *sentence = refusal();
    assert_non_null(strstr(sentence, "2 missing, 0 mis-shaped"));
    assert_non_null(strstr(sentence, PROJ_IN));

    fixture_model(&fixture, LD_DTYPE_F16);
    fixture_find(&fixture, "model.diffusion_model.time_embed.0.weight")->rank = 4;
    for (int d = 2; d < 4; d++)
        fixture_find(&fixture, "model.diffusion_model.time_embed.0.weight")->shape[d] = 1;
    assert_non_null(strstr(refusal(), "wrong shape: model.diffusion_model.time_embed.0.weight"));

    fixture_model(&fixture, LD_DTYPE_F16);
    fixture_find(&fixture, TOKENS)->dtype = LD_DTYPE_I8;
    assert_non_null(strstr(refusal(), "not a floating-point type"));

    fixture_model(&fixture, LD_DTYPE_F16);
    fixture_add(&fixture, "first_stage_model.decoder.mid.attn_1.to_q.weight", LD_DTYPE_F16, 4,
                fixture_find(&fixture, VAE_Q)->shape);
    assert_non_null(strstr(refusal(), "second spelling"));
}

static void other_widths_need_the_declaration(void **state)
{
    (void)state;
    fixture_model(&fixture, LD_DTYPE_F16);
    fixture.metadata_count = 0;
    assert_non_null(strstr(refusal(), "mis-shaped"));
}

static void foreign_files_are_recognised(void **state)
{
    (void)state;
    static const struct {
        const char *name, *word;
        uint64_t rows, columns;
    } files[] = {
        {"lora_unet_mid_block_attentions_0_proj_in.lora_down.weight", "adapter", 4, 32},
        {"control_model.zero_convs.0.0.weight", "controlnet", 4, 4},
        {"emb_params", "embedding", 3, 768},
        {"double_blocks.0.img_attn.qkv.weight", "architecture", 4, 4},
        {"something", "not a checkpoint", 4, 4},
    };
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        memset(&fixture, 0, sizeof fixture);
        fixture_add_matrix(&fixture, files[i].name, LD_DTYPE_F16, files[i].rows, files[i].columns);
        assert_non_null(strstr(refusal(), files[i].word));
    }
    struct ld_weights *weights;
    struct ld_error err = {0};
    fixture_text(model_path(), "\x80\x02}q\x00.", 6);
    assert_int_equal(ld_weights_open(&weights, model_path(), NULL, &err), LD_E_UNSUPPORTED);
    assert_non_null(strstr(err.detail, "pickle"));
    fixture_text(model_path(), "<!DOCTYPE html>", 15);
    assert_int_equal(ld_weights_open(&weights, model_path(), NULL, &err), LD_E_UNSUPPORTED);
    assert_non_null(strstr(err.detail, "web page"));
}

/* Tensors of one file: 3x3 convolutions where `columns` is 4, else matrices. */
struct named {
    const char *name;
    uint64_t rows, columns;
};

static void write_named(const struct named *tensors, size_t count)
{
    memset(&fixture, 0, sizeof fixture);
    for (size_t i = 0; i < count && tensors[i].name; i++) {
        const uint64_t shape[4] = {tensors[i].rows, tensors[i].columns, 3, 3};
        fixture_add(&fixture, tensors[i].name, LD_DTYPE_F16, tensors[i].columns == 4 ? 4 : 2,
                    shape);
    }
}

#define LDM_CONV   "input_blocks.0.0.weight"
#define LDM_K(at)  "input_blocks." at ".transformer_blocks.0.attn2.to_k.weight"
#define DIFF_CONV  "conv_in.weight"
#define DIFF_K(at) "down_blocks." at ".transformer_blocks.0.attn2.to_k.weight"

/* They have the tensors that a UNet is known by, under the same names. */
static void what_steers_a_unet_is_none(void **state)
{
    (void)state;
    enum { TENSORS = 4 };
    static const struct {
        const char *kind;
        struct named tensors[TENSORS];
    } files[] = {
        {"controlnet",
         {{"control_model." LDM_CONV, 8, 4},
          {"control_model." LDM_K("1.1"), 8, 768},
          {"control_model.zero_convs.0.0.weight", 8, 8}}},
        {"controlnet", {{LDM_CONV, 8, 4}, {LDM_K("1.1"), 8, 768}, {"zero_convs.0.0.weight", 8, 8}}},
        {"controlnet",
         {{DIFF_CONV, 8, 4},
          {DIFF_K("0.attentions.0"), 8, 768},
          {"controlnet_cond_embedding.conv_in.weight", 8, 3}}},
        {"controlnet",
         {{"model.diffusion_model." LDM_CONV, 8, 4}, {"control_model." LDM_CONV, 8, 4}}},
        {"controlnet-sd2",
         {{LDM_CONV, 8, 4}, {LDM_K("1.1"), 8, 1024}, {"zero_convs.0.0.weight", 8, 8}}},
        {"controlnet-sd2",
         {{DIFF_CONV, 8, 4},
          {DIFF_K("0.attentions.0"), 8, 1024},
          {"controlnet_down_blocks.0.weight", 8, 8}}},
        {"controlnet-sdxl",
         {{LDM_CONV, 8, 4}, {LDM_K("4.1"), 8, 2048}, {"zero_convs.0.0.weight", 8, 8}}},
        {"controlnet-sdxl",
         {{LDM_CONV, 8, 4}, {"label_emb.0.0.weight", 8, 8}, {"zero_convs.0.0.weight", 8, 8}}},
        {"controlnet-sdxl",
         {{DIFF_CONV, 8, 4},
          {"add_embedding.linear_1.weight", 8, 8},
          {"controlnet_cond_embedding.conv_in.weight", 8, 3}}},
        {"control-lora",
         {{LDM_CONV, 8, 4}, {"lora_controlnet", 0, 0}, {"zero_convs.0.0.weight", 8, 8}}},
        {"controlnet-difference",
         {{"control_model." LDM_CONV, 8, 4},
          {"difference", 0, 0},
          {"control_model.zero_convs.0.0.weight", 8, 8}}},
        {"control-lllite", {{"lllite_unet_input_blocks_4_1_attn1_to_q.down.0.weight", 8, 8}}},
        {"t2i-adapter", {{DIFF_CONV, 8, 4}, {"body.0.block1.weight", 8, 4}}},
        {"t2i-adapter", {{"body.0.in_conv.weight", 8, 4}}},
        {"t2i-adapter", {{"adapter.body.0.resnets.0.block1.weight", 8, 4}}},
    };
    static const char words[] = " but of the kind: ";
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        write_named(files[i].tensors, TENSORS);
        const char *told = strstr(refusal(), words);
        assert_non_null(told);
        assert_string_equal(told + strlen(words), files[i].kind);
    }
    /* Widths of its own are said by a test model. */
    write_named(files[4].tensors, TENSORS);
    fixture_note(&fixture, "latentd.test_config", fixture_config);
    assert_string_equal(strstr(refusal(), words) + strlen(words), "controlnet");
    /* A network that enlarges pictures has a body, too. */
    static const struct named other[] = {{"body.0.weight", 8, 4},
                                         {"body.0.rdb1.conv1.weight", 8, 4}};
    write_named(other, sizeof other / sizeof other[0]);
    assert_null(strstr(refusal(), words));
}

static void values_that_are_not_finite_are_counted_and_refused_on_request(void **state)
{
    (void)state;
    static float values[32];
    values[5] = (float)INFINITY;
    values[7] = (float)NAN;
    static const enum ld_dtype dtypes[] = {LD_DTYPE_F32, LD_DTYPE_F16, LD_DTYPE_BF16, LD_DTYPE_F64,
                                           LD_DTYPE_F8_E5M2};
    for (size_t i = 0; i < sizeof dtypes / sizeof dtypes[0]; i++) {
        const char *first;
        fixture_model(&fixture, dtypes[i]);
        struct ld_weights *weights = open_written(NULL);
        assert_int_equal(ld_weights_count_nonfinite(weights, &first), 0);
        assert_null(first);
        ld_weights_close(weights);
        fixture_find(&fixture, "model.diffusion_model.out.0.bias")->values = values;
        weights = open_written(NULL);
        assert_int_equal(ld_weights_count_nonfinite(weights, &first), 2);
        assert_string_equal(first, "model.diffusion_model.out.0.bias");
        ld_weights_close(weights);
        const struct ld_weights_options strict = {.refuse_nonfinite = true, .prediction = -1};
        assert_int_equal(ld_weights_open(&weights, model_path(), &strict, NULL), LD_E_FORMAT);
    }
}

/* ---- Folders --------------------------------------------------------------------------------- */

/* Write the tensors of one part under their diffusers names; those whose index is `shard` modulo
 * `shards`. */
static void write_part(const char *path, enum ld_part first, enum ld_part last, uint32_t shard,
                       uint32_t shards)
{
    struct ld_arch arch;
    struct ld_keymap *map;
    fixture_arch(&arch);
    assert_int_equal(ld_keymap_create(&map, &arch, NULL), LD_OK);
    memset(&fixture, 0, sizeof fixture);
    for (uint32_t i = 0; i < ld_keymap_count(map); i++) {
        const struct ld_key *key = ld_keymap_at(map, i);
        uint64_t shape[4];
        for (int d = 0; d < 4; d++)
            shape[d] = (uint64_t)key->shape[d];
        if (key->part < first || key->part > last || i % shards != shard)
            continue;
        struct fixture_tensor *tensor =
            fixture_add(&fixture, key->diffusers, LD_DTYPE_F16, (uint32_t)key->rank, shape);
        assert_true(ld_fmt(tensor->seed, sizeof tensor->seed, "%s", key->name));
        if (strstr(key->diffusers, ".to_q.") && key->rank == 4)
            tensor->rank = 2;
    }
    fixture_note(&fixture, "latentd.test_config", fixture_config);
    fixture_write(&fixture, path);
    ld_keymap_destroy(map);
}

static void make_dirs(const char *root)
{
    static const char *const parts[] = {"", "/unet", "/vae", "/text_encoder", "/scheduler"};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        char path[512];
        assert_true(ld_fmt(path, sizeof path, "%s%s", root, parts[i]));
        assert_int_equal(mkdir(path, 0700), 0);
    }
}

static void a_diffusers_folder_is_the_same_model(void **state)
{
    (void)state;
    static const char index[] = "{\"metadata\":{},\"weight_map\":{\"a\":\"m-1.safetensors\","
                                "\"b\":\"m-2.safetensors\",\"c\":\"m-1.safetensors\"}}";
    static const char scheduler[] = "{\"_class_name\":\"X\",\"beta_start\":0.001,\"beta_end\":0.02,"
                                    "\"prediction_type\":\"v_prediction\",\"list\":[1,{}],"
                                    "\"rescale_betas_zero_snr\":true}";
    char root[300];
    char path[512];
    struct ld_weights *weights;
    struct ld_error err = {0};
    assert_true(ld_fmt(root, sizeof root, "%s/diffusers", folder));
    make_dirs(root);
    assert_true(ld_fmt(path, sizeof path, "%s/unet/m-1.safetensors", root));
    write_part(path, LD_PART_UNET, LD_PART_UNET, 0, 2);
    assert_true(ld_fmt(path, sizeof path, "%s/unet/m-2.safetensors", root));
    write_part(path, LD_PART_UNET, LD_PART_UNET, 1, 2);
    assert_true(
        ld_fmt(path, sizeof path, "%s/unet/diffusion_pytorch_model.safetensors.index.json", root));
    fixture_text(path, index, sizeof index - 1);
    assert_true(ld_fmt(path, sizeof path, "%s/vae/diffusion_pytorch_model.fp16.safetensors", root));
    write_part(path, LD_PART_VAE_ENCODER, LD_PART_VAE_DECODER, 0, 1);
    assert_true(ld_fmt(path, sizeof path, "%s/text_encoder/model.safetensors", root));
    write_part(path, LD_PART_TEXT, LD_PART_TEXT, 0, 1);
    assert_true(ld_fmt(path, sizeof path, "%s/scheduler/scheduler_config.json", root));
    fixture_text(path, scheduler, sizeof scheduler - 1);
    if (ld_weights_open(&weights, root, NULL, &err) != LD_OK)
        fail_msg("%s", err.detail);
    const struct ld_arch *arch = ld_weights_arch(weights);
    assert_true(arch->has_unet && arch->has_text && arch->has_vae_encoder && arch->has_vae_decoder);
    assert_int_equal(arch->prediction, LD_PREDICT_V);
    assert_true(arch->zero_terminal_snr && arch->beta_start == 0.001 && arch->beta_end == 0.02);
    assert_values(weights, LD_DTYPE_F16);
    ld_weights_close(weights);

    /* An index must not lead out of its folder. */
    static const char *const evil[] = {
        "../m-1.safetensors", "/etc/m.safetensors", "m.bin",
        ".safetensors",       "a\\\\b.safetensors", "m\\u002f.safetensors"};
    for (size_t i = 0; i < sizeof evil / sizeof evil[0]; i++) {
        char text[128];
        assert_true(ld_fmt(text, sizeof text, "{\"weight_map\":{\"a\":\"%s\"}}", evil[i]));
        assert_true(ld_fmt(path, sizeof path,
                           "%s/unet/diffusion_pytorch_model.safetensors.index.json", root));
        fixture_text(path, text, strlen(text));
        assert_int_equal(ld_weights_open(&weights, root, NULL, NULL), LD_E_FORMAT);
    }
}

static void an_empty_folder_holds_no_model(void **state)
{
    (void)state;
    struct ld_weights *weights;
    const char *empty = fixture_path(folder, "empty");
    assert_int_equal(mkdir(empty, 0700), 0);
    assert_int_equal(ld_weights_open(&weights, empty, NULL, NULL), LD_E_NOT_FOUND);
    assert_int_equal(ld_weights_open(&weights, fixture_path(folder, "absent"), NULL, NULL),
                     LD_E_NOT_FOUND);
}

/* ---- Overlays and identity ------------------------------------------------------------------- */

static void overlays_change_only_themselves(void **state)
{
    (void)state;
    fixture_model(&fixture, LD_DTYPE_F16);
    struct ld_weights *base = open_written(NULL);
    struct ld_weights *first;
    struct ld_weights *second;
    struct ld_weight_view view;
    assert_int_equal(ld_weights_overlay(&first, base, NULL), LD_OK);
    assert_int_equal(ld_weights_overlay(&second, first, NULL), LD_OK);
    float *copy = ld_weights_edit(first, PROJ_IN);
    assert_non_null(copy);
    assert_ptr_equal(copy, ld_weights_edit(first, PROJ_IN));
    const float before = copy[9];
    copy[9] = 42;
    assert_null(ld_weights_edit(first, "no such tensor"));
    assert_true(ld_weights_get(first, PROJ_IN, &view) && view.dtype == LD_DTYPE_F32);
    assert_ptr_equal(view.data, copy);
    assert_true(ld_weights_get(second, PROJ_IN, &view)); /* sees what lies below it */
    assert_ptr_equal(view.data, copy);
    float *above = ld_weights_edit(second, PROJ_IN);
    assert_true(above != copy && above[9] == 42.0f);
    assert_true(ld_weights_get(base, PROJ_IN, &view) && view.dtype == LD_DTYPE_F16);
    float values[32 * 32];
    ld_weight_view_decode(&view, values);
    assert_true(values[9] == before);
    assert_true(ld_weights_is_edited(first, PROJ_IN) && !ld_weights_is_edited(base, PROJ_IN));
    assert_false(ld_weights_is_edited(first, TOKENS));
    assert_int_equal(ld_weights_storage_dtype(second, PROJ_IN), LD_DTYPE_F16);
    assert_ptr_equal(ld_weights_arch(second), ld_weights_arch(base));
    ld_weights_close(second);
    ld_weights_close(first);
    ld_weights_close(base);
}

/* Multiplies every tensor of two axes or more by a factor and counts how often it was asked. */
struct scaling {
    const struct ld_keymap *map;
    float factor;
    uint32_t made, destroyed;
};

static bool scales(const void *ctx, uint32_t key)
{
    const struct scaling *scaling = ctx;
    return ld_keymap_at(scaling->map, key)->rank >= 2;
}

static enum ld_code scale(void *ctx, uint32_t key, const struct ld_weight_view *from, float *values,
                          struct ld_error *err)
{
    struct scaling *scaling = ctx;
    const struct ld_key *facts = ld_keymap_at(scaling->map, key);
    size_t count = 1;
    (void)err;
    for (int32_t i = 0; i < facts->rank; i++)
        count *= (size_t)facts->shape[i];
    if (from)
        ld_weight_view_decode(from, values);
    for (size_t i = 0; i < count; i++)
        values[i] *= scaling->factor;
    scaling->made++;
    return LD_OK;
}

static void note_destroyed(void *ctx)
{
    ((struct scaling *)ctx)->destroyed++;
}

static void what_is_deferred_is_made_in_order_and_made_again_after_it_was_dropped(void **state)
{
    (void)state;
    fixture_model(&fixture, LD_DTYPE_F16);
    struct ld_weights *base = open_written(NULL);
    struct ld_weights *overlay;
    struct ld_weight_view below;
    struct ld_weight_view view;
    const struct ld_keymap *map = ld_weights_keymap(base);
    struct scaling changes[2] = {{.map = map, .factor = 3}, {.map = map, .factor = -2}};
    assert_int_equal(ld_weights_overlay(&overlay, base, NULL), LD_OK);
    for (int c = 0; c < 2; c++)
        assert_int_equal(ld_weights_defer(overlay,
                                          &(struct ld_weights_change){.touches = scales,
                                                                      .apply = scale,
                                                                      .destroy = note_destroyed,
                                                                      .ctx = &changes[c]},
                                          NULL),
                         LD_OK);
    assert_true(ld_weights_is_edited(overlay, PROJ_IN));
    assert_true(ld_weights_get(overlay, PROJ_IN, &view) && view.data == NULL);
    assert_int_equal(changes[0].made, 0);
    assert_true(ld_weights_get(base, PROJ_IN, &below));
    float values[32 * 32];
    ld_weight_view_decode(&below, values);
    for (int round = 0; round < 2; round++) {
        assert_int_equal(ld_weights_make(overlay, PROJ_IN, NULL), LD_OK);
        assert_int_equal(ld_weights_make(overlay, PROJ_IN, NULL), LD_OK); /* stands: no work */
        assert_true(ld_weights_get(overlay, PROJ_IN, &view) && view.dtype == LD_DTYPE_F32);
        for (size_t i = 0; i < view.count; i++)
            assert_true(((const float *)view.data)[i] == values[i] * 3 * -2);
        assert_int_equal(changes[1].made, round + 1);
        ld_weights_drop_pages(overlay, &view);
        assert_true(ld_weights_get(overlay, PROJ_IN, &view) && view.data == NULL);
    }
    /* More at once than share memory, each with values of its own. */
    uint32_t edited = 0;
    for (uint32_t i = 0; i < ld_weights_count(overlay); i++) {
        ld_weights_at(overlay, i, &view);
        assert_int_equal(ld_weights_make(overlay, view.name, NULL), LD_OK);
        edited += ld_weights_is_edited(overlay, view.name);
    }
    for (uint32_t i = 0; i < ld_weights_count(overlay); i++) {
        ld_weights_at(overlay, i, &view);
        if (!ld_weights_is_edited(overlay, view.name))
            continue;
        float first = 0;
        ld_weights_at(base, i, &below);
        ld_weight_view_decode_part(&below, below.count - 1, 1, &first);
        assert_true(((const float *)view.data)[view.count - 1] == first * 3 * -2);
    }
    assert_int_equal(changes[0].made, 2 + edited);
    ld_weights_close(overlay);
    assert_int_equal(changes[0].destroyed + changes[1].destroyed, 2);
    ld_weights_close(base);
}

static void the_digest_is_that_of_the_file(void **state)
{
    (void)state;
    char digest[65];
    char again[65];
    fixture_model(&fixture, LD_DTYPE_F16);
    struct ld_weights *weights = open_written(NULL);
    assert_int_equal(ld_weights_sha256(weights, digest, NULL), LD_OK);
    assert_int_equal(ld_weights_sha256(weights, again, NULL), LD_OK);
    assert_string_equal(digest, again);
    assert_int_equal(strlen(digest), 64);
    assert_string_equal(ld_weights_metadata(weights, "latentd.test_config"), fixture_config);
    assert_null(ld_weights_metadata(weights, "none"));
    ld_weights_close(weights);
    fixture_note(&fixture, "one", "more");
    weights = open_written(NULL);
    assert_int_equal(ld_weights_sha256(weights, again, NULL), LD_OK);
    assert_string_not_equal(digest, again);
    ld_weights_close(weights);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_element_type_is_read_in_place),
        cmocka_unit_test(other_prefixes_mean_the_same_tensors),
        cmocka_unit_test(matrices_and_1x1_convolutions_are_the_same),
        cmocka_unit_test(parts_may_come_alone),
        cmocka_unit_test(scaled_fp8_multiplies_its_weights),
        cmocka_unit_test(averaged_weights_are_used_when_asked_or_alone),
        cmocka_unit_test(inpainting_and_prediction_are_detected),
        cmocka_unit_test(what_is_wrong_is_named),
        cmocka_unit_test(other_widths_need_the_declaration),
        cmocka_unit_test(foreign_files_are_recognised),
        cmocka_unit_test(what_steers_a_unet_is_none),
        cmocka_unit_test(values_that_are_not_finite_are_counted_and_refused_on_request),
        cmocka_unit_test(a_diffusers_folder_is_the_same_model),
        cmocka_unit_test(an_empty_folder_holds_no_model),
        cmocka_unit_test(overlays_change_only_themselves),
        cmocka_unit_test(what_is_deferred_is_made_in_order_and_made_again_after_it_was_dropped),
        cmocka_unit_test(the_digest_is_that_of_the_file),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
