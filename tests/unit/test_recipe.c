/*
 * Proves that the text in a picture says what painted it: what we write is read back to the same
 * request, and what A1111, ComfyUI and NovelAI write becomes a native one. Texts are of the forms
 * those programs produce; broken ones must end in an error or in fewer fields.
 */
#include "runtime/base/json_find.h"
#include "runtime/image/infotext.h"
#include "runtime/image/png_meta.h"
#include "runtime/image/recipe_build.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* ---- Helpers --------------------------------------------------------------------------------- */

static struct ld_span request_of(const struct ld_recipe *recipe)
{
    return ld_span_of(recipe->request.data, recipe->request.size);
}

static void has_text(const struct ld_recipe *recipe, const char *pointer, const char *want)
{
    char value[512];
    if (!ld_json_find_string(request_of(recipe), pointer, value, sizeof value))
        fail_msg("%s is no string in %s", pointer, recipe->request.data);
    assert_string_equal(value, want);
}

static void has_number(const struct ld_recipe *recipe, const char *pointer, double want)
{
    double value;
    if (!ld_json_find_double(request_of(recipe), pointer, &value))
        fail_msg("%s is no number in %s", pointer, recipe->request.data);
    assert_true(fabs(value - want) < 1e-9);
}

static void lacks(const struct ld_recipe *recipe, const char *pointer)
{
    struct ld_json_token token;
    assert_false(ld_json_find(request_of(recipe), pointer, &token));
}

/* Both results must be JSON whatever went in. */
static void is_json(const struct ld_buffer *buffer)
{
    struct ld_json json;
    struct ld_json_token token;
    ld_json_init(&json, ld_span_of(buffer->data, buffer->size), 32, 100000);
    do
        assert_int_equal(ld_json_next(&json, &token, NULL), LD_OK);
    while (token.kind != LD_JSON_END);
}

static struct ld_recipe from_infotext(const char *text)
{
    struct ld_recipe recipe;
    assert_int_equal(ld_recipe_from_infotext(&recipe, ld_span_text(text), NULL), LD_OK);
    is_json(&recipe.request);
    is_json(&recipe.notes);
    return recipe;
}

static struct ld_recipe from_graph(const char *text)
{
    struct ld_recipe recipe;
    struct ld_error err = {0};
    if (ld_recipe_from_graph(&recipe, ld_span_text(text), &err) != LD_OK)
        fail_msg("%s", err.detail);
    is_json(&recipe.request);
    is_json(&recipe.notes);
    return recipe;
}

/* ---- A1111 ----------------------------------------------------------------------------------- */

static void an_infotext_of_a1111_becomes_a_request(void **state)
{
    (void)state;
    struct ld_recipe r = from_infotext(
        "masterpiece, 1girl, <lora:detail:0.8>, sky <lora:style:0.5:1>\nsecond line\n"
        "Negative prompt: lowres, bad\nworse\n"
        "Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7.5, Seed: 1234567890123, "
        "Size: 832x1216, Model hash: 0123456789, Model: anime/model_v2, VAE hash: abcdef0123, "
        "VAE: kl-f8.ckpt, Variation seed: 77, Variation seed strength: 0.25, "
        "Denoising strength: 0.6, Clip skip: 2, ENSD: 31337, RNG: CPU, Hires upscale: 1.5, "
        "Hires steps: 12, Hires upscaler: Latent (bicubic antialiased), "
        "Hires prompt: \"a, b: c\\nd\", NGMS: 2.5, Lora hashes: \"detail: aaaa, style: bbbb\", "
        "Hashes: {\"model\": \"0123456789\", \"lora:x\": \"y\"}, Version: v1.10.1");
    assert_int_equal(r.source, LD_RECIPE_A1111);
    assert_string_equal(r.model_hash, "0123456789");
    has_text(&r, "/prompt", "masterpiece, 1girl,, sky\nsecond line");
    has_text(&r, "/negative_prompt", "lowres, bad\nworse");
    has_number(&r, "/steps", 20);
    has_text(&r, "/sampler", "DPM++ 2M");
    has_text(&r, "/scheduler", "Karras");
    has_number(&r, "/cfg_scale", 7.5);
    has_number(&r, "/seed", 1234567890123.0);
    has_number(&r, "/width", 832);
    has_number(&r, "/height", 1216);
    has_text(&r, "/model", "anime/model_v2");
    has_text(&r, "/vae", "kl-f8");
    has_number(&r, "/variation/seed", 77);
    has_number(&r, "/variation/strength", 0.25);
    has_number(&r, "/clip_skip", 2);
    has_number(&r, "/sampler_options/ensd", 31337);
    has_text(&r, "/noise", "cpu");
    has_text(&r, "/profile", "a1111");
    has_number(&r, "/hires/scale", 1.5);
    has_number(&r, "/hires/steps", 12);
    has_text(&r, "/hires/upscaler", "latent-bicubic-aa");
    has_text(&r, "/hires/prompt", "a, b: c\nd");
    has_number(&r, "/hires/strength", 0.6);
    has_number(&r, "/guidance/ngms", 2.5);
    has_text(&r, "/loras/0/name", "detail");
    has_number(&r, "/loras/0/weight", 0.8);
    has_text(&r, "/loras/1/name", "style");
    has_number(&r, "/loras/1/weight", 1);
    has_number(&r, "/loras/1/text_weight", 0.5);
    assert_string_equal(r.notes.data, "[]");
    ld_recipe_deinit(&r);
}

static void defaults_that_a1111_leaves_unsaid_are_said(void **state)
{
    (void)state;
    struct ld_recipe r =
        from_infotext("cat\nSteps: 30, Sampler: DPM++ 2M SDE Exponential, CFG scale: 7, Seed: 1");
    has_text(&r, "/sampler", "DPM++ 2M SDE");
    has_text(&r, "/scheduler", "Exponential");
    has_number(&r, "/clip_skip", 1);
    has_text(&r, "/noise", "philox");
    ld_recipe_deinit(&r);
    r = from_infotext("cat\nSteps: 30, Sampler: Euler a, CFG scale: 7, Seed: 1");
    has_text(&r, "/scheduler", "automatic");
    lacks(&r, "/hires");
    ld_recipe_deinit(&r);
}

static void what_is_no_list_of_pairs_is_prompt(void **state)
{
    (void)state;
    struct ld_infotext info;
    ld_infotext_split(&info, ld_span_text("a cat\nSteps: 3, Sampler: Euler"));
    assert_int_equal(info.pair_count, 0);
    assert_true(ld_span_is(info.prompt, "a cat\nSteps: 3, Sampler: Euler"));
    ld_infotext_split(&info, ld_span_text(""));
    assert_true(info.prompt.size == 0 && info.negative.size == 0 && info.pair_count == 0);
    ld_infotext_split(&info, ld_span_text("Negative prompt: dog"));
    assert_true(info.prompt.size == 0);
    assert_true(ld_span_is(info.negative, "dog"));
    ld_infotext_split(&info, ld_span_text("Steps: 1, Sampler: x, Seed: 2"));
    assert_int_equal(info.pair_count, 3);
    assert_int_equal(info.prompt.size, 0);
}

static void unknown_keys_and_nonsense_are_told(void **state)
{
    (void)state;
    struct ld_recipe r = from_infotext("cat\nSteps: many, Seed: -1, Size: big, Wibble: 3, "
                                       "Hires upscaler: R-ESRGAN 4x+, Denoising strength: 0.4");
    lacks(&r, "/steps");
    lacks(&r, "/seed");
    lacks(&r, "/width");
    has_text(&r, "/hires/upscaler", "pixel-lanczos");
    assert_non_null(strstr(r.notes.data, "Wibble"));
    assert_non_null(strstr(r.notes.data, "many"));
    assert_non_null(strstr(r.notes.data, "R-ESRGAN"));
    ld_recipe_deinit(&r);
}

/* ---- Our own infotext ------------------------------------------------------------------------ */

static struct ld_request full_request(void)
{
    struct ld_request r = {
        .model = "m",
        .prompt = "caf\xC3\xA9, tree",
        .negative_prompt = "lowres",
        .profile = LD_PROFILE_COMFY,
        .width = 832,
        .height = 1216,
        .images = 1,
        .steps = 28,
        .cfg_scale = 7.5,
        .sampler = "euler_ancestral",
        .scheduler = "gits",
        .seed = UINT64_C(18446744073709551615),
        .noise = LD_NOISE_CPU,
        .variation_seed = 9,
        .variation_strength = 0.2,
        .clip_skip = 2,
        .lora_count = 2,
        .vae = "",
        .metadata_full = true,
    };
    r.loras[0] = (struct ld_request_lora){"detail", 0.8, (double)NAN, 0, 1};
    r.loras[1] = (struct ld_request_lora){"a/style", 1, 0.5, 0, 1};
    struct ld_request_sampler_options *o = &r.sampler_options;
    o->eta = o->s_noise = o->s_churn = o->s_tmin = o->s_tmax = o->r = (double)NAN;
    o->solver = "";
    o->discard_penultimate = LD_UNSET;
    struct ld_request_scheduler_options *s = &r.scheduler_options;
    s->rho = s->sigma_min = s->sigma_max = s->alpha = s->beta = s->mu = s->b = (double)NAN;
    s->coefficient = 1.25;
    r.guidance = (struct ld_request_guidance){.rescale = 0.6,
                                              .freeu = "v2",
                                              .freeu_b1 = (double)NAN,
                                              .freeu_b2 = (double)NAN,
                                              .freeu_s1 = (double)NAN,
                                              .freeu_s2 = 0.3,
                                              .epsilon_scale = 1,
                                              .negative_end = 1,
                                              .pag = 2};
    r.deep_shrink =
        (struct ld_request_deep_shrink){true, 3, 2, 0, 0.35, true, "bicubic", "bislerp"};
    r.hires = (struct ld_request_hires){.present = true,
                                        .scale = 1.5,
                                        .upscaler = "latent-bislerp",
                                        .steps = 14,
                                        .strength = 0.55,
                                        .sampler = "",
                                        .scheduler = "karras",
                                        .cfg_scale = (double)NAN};
    return r;
}

static const struct ld_infotext_facts facts = {
    .model_name = "novelai_v2",
    .model_sha256 = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    .adapters_json = "[{\"name\":\"detail\",\"x\":[1],\"sha256\":\"aaaaaaaaaabbbb\"}]",
    .version = "latentd 0.1.0",
};

static void our_infotext_reads_as_others_read_it(void **state)
{
    (void)state;
    const struct ld_request request = full_request();
    struct ld_buffer out = ld_buffer_make(1 << 20);
    ld_infotext_write(&out, &request, &facts);
    assert_string_equal(
        out.data,
        "caf\xC3\xA9, tree <lora:detail:0.8> <lora:a/style:0.5:1>\nNegative prompt: lowres\n"
        "Steps: 28, Sampler: Euler a, Schedule type: GITS, CFG scale: 7.5, "
        "Seed: 18446744073709551615, Size: 832x1216, Model hash: 0123456789, Model: novelai_v2, "
        "Variation seed: 9, Variation seed strength: 0.2, Denoising strength: 0.55, Clip skip: 2, "
        "RNG: CPU, Hires upscale: 1.5, Hires steps: 14, Hires upscaler: latent-bislerp, "
        "Hires schedule type: Karras, Lora hashes: \"detail: aaaaaaaaaa\", "
        "Hashes: {\"model\": \"0123456789\", \"lora:detail\": \"aaaaaaaaaa\"}, "
        "Version: latentd 0.1.0");
    struct ld_recipe r = from_infotext(out.data);
    has_text(&r, "/prompt", "caf\xC3\xA9, tree");
    has_text(&r, "/profile", "comfy");
    has_text(&r, "/seed", "18446744073709551615");
    has_text(&r, "/scheduler", "GITS");
    has_text(&r, "/hires/upscaler", "latent-bislerp");
    has_text(&r, "/loras/1/name", "a/style");
    has_number(&r, "/loras/1/text_weight", 0.5);
    assert_string_equal(r.notes.data, "[]");
    ld_recipe_deinit(&r);
    ld_buffer_deinit(&out);
}

static void the_second_pass_names_its_model_and_adapters(void **state)
{
    (void)state;
    struct ld_request request = full_request();
    struct ld_infotext_facts two = facts;
    struct ld_buffer out = ld_buffer_make(1 << 20);
    two.hires_model_name = "sub/fine";
    two.hires_model_sha256 = "fedcba9876543210";
    request.hires.loras_given = true;
    request.hires.lora_count = 1;
    request.hires.loras[0] = (struct ld_request_lora){"ink", 0.5, (double)NAN, 0, 1};
    ld_infotext_write(&out, &request, &two);
    assert_non_null(strstr(out.data, "Hires checkpoint: sub/fine [fedcba9876], "));
    assert_non_null(strstr(out.data, "Hires prompt: \"caf\xC3\xA9, tree <lora:ink:0.5>\""));
    struct ld_recipe r = from_infotext(out.data);
    assert_string_equal(r.notes.data, "[]");
    has_text(&r, "/hires/model", "sub/fine");
    has_text(&r, "/hires/prompt", "caf\xC3\xA9, tree");
    has_text(&r, "/hires/loras/0/name", "ink");
    has_number(&r, "/hires/loras/0/weight", 0.5);
    lacks(&r, "/hires/loras/1");
    has_text(&r, "/loras/1/name", "a/style");
    ld_recipe_deinit(&r);

    /* A prompt of its own and the first pass's adapters: A1111 would lose them without tags. */
    ld_buffer_clear(&out);
    request.hires.loras_given = false;
    request.hires.prompt = "close up";
    ld_infotext_write(&out, &request, &facts);
    assert_non_null(
        strstr(out.data, "Hires prompt: \"close up <lora:detail:0.8> <lora:a/style:0.5:1>\""));
    assert_null(strstr(out.data, "Hires checkpoint"));

    /* None in the second pass, which is what a prompt without tags means. */
    ld_buffer_clear(&out);
    request.hires.loras_given = true;
    request.hires.lora_count = 0;
    ld_infotext_write(&out, &request, &facts);
    r = from_infotext(out.data);
    has_text(&r, "/hires/prompt", "close up");
    assert_non_null(strstr(r.request.data, "\"loras\":[]"));
    ld_recipe_deinit(&r);
    ld_buffer_deinit(&out);

    r = from_infotext("a\nSteps: 9, Sampler: Euler, Hires upscale: 2, Hires upscaler: Latent, "
                      "Hires checkpoint: Use same checkpoint, Denoising strength: 0.5");
    lacks(&r, "/hires/model");
    ld_recipe_deinit(&r);
}

static void a_controlnet_is_written_as_its_extension_does(void **state)
{
    (void)state;
    static const char sha256[] = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    struct ld_request request = full_request();
    struct ld_buffer out = ld_buffer_make(65536);
    struct ld_infotext_facts with = facts;
    with.control_sha256[0] = sha256;
    request.hires.present = false;
    request.controls[0] = (struct ld_request_control){.model = "edges",
                                                      .weight = 0.8,
                                                      .end = 1,
                                                      .preprocess = LD_HINT_CANNY,
                                                      .low = (double)NAN,
                                                      .high = 150,
                                                      .resize = LD_FIT_CROP};
    request.controls[1] = (struct ld_request_control){.model = "a, b", .weight = 1, .end = 1};
    request.controls[2] = (struct ld_request_control){.model = "lines",
                                                      .weight = 1,
                                                      .start = 0.1,
                                                      .end = 0.9,
                                                      .mode = LD_CONTROL_HINT,
                                                      .preprocess = LD_HINT_BLUR,
                                                      .low = (double)NAN,
                                                      .high = (double)NAN,
                                                      .resize = LD_FIT_PAD,
                                                      .passes = LD_CONTROL_FIRST};
    request.control_count = 3;
    ld_infotext_write(&out, &request, &with);
    assert_non_null(strstr(
        out.data,
        ", ControlNet 0: \"Module: canny, Model: edges [01234567], Weight: 0.8, Resize Mode: Crop "
        "and Resize, Threshold A: 100, Threshold B: 150, Guidance Start: 0, Guidance End: 1, "
        "Pixel Perfect: True, Control Mode: Balanced\", "));
    assert_null(strstr(out.data, "ControlNet 1"));
    assert_non_null(strstr(
        out.data,
        ", ControlNet 2: \"Module: blur_gaussian, Model: lines, Weight: 1, Resize Mode: Resize and "
        "Fill, Threshold A: 9, Guidance Start: 0.1, Guidance End: 0.9, Pixel Perfect: True, "
        "Control Mode: ControlNet is more important\", "));
    struct ld_recipe r = from_infotext(out.data);
    has_number(&r, "/steps", request.steps);
    lacks(&r, "/control");
    assert_non_null(strstr(r.notes.data, "ControlNet 0 " LD_RECIPE_NOTE_CONTROL));
    assert_non_null(strstr(r.notes.data, "ControlNet 2 " LD_RECIPE_NOTE_CONTROL));
    ld_recipe_deinit(&r);
    out.size = 0;
    request.hires.present = true;
    ld_infotext_write(&out, &request, &with);
    assert_non_null(strstr(out.data, "Balanced, Hr Option: Both\""));
    assert_non_null(strstr(out.data, "important, Hr Option: Low res only\""));
    ld_buffer_deinit(&out);
}

static void values_with_commas_are_quoted_and_clip_skip_one_is_left_out(void **state)
{
    (void)state;
    struct ld_request request = full_request();
    struct ld_infotext_facts odd = facts;
    struct ld_buffer out = ld_buffer_make(1 << 20);
    request.clip_skip = 1;
    request.profile = LD_PROFILE_A1111;
    odd.model_name = "a, \"b\": c";
    ld_infotext_write(&out, &request, &odd);
    assert_non_null(strstr(out.data, "Model: \"a, \\\"b\\\": c\", "));
    assert_null(strstr(out.data, "Clip skip"));
    struct ld_recipe r = from_infotext(out.data);
    has_text(&r, "/model", "a, \"b\": c");
    has_text(&r, "/profile", "a1111");
    has_number(&r, "/clip_skip", 1);
    ld_recipe_deinit(&r);
    ld_buffer_deinit(&out);
}

/* ---- ComfyUI --------------------------------------------------------------------------------- */

static void our_graph_reads_back_to_the_same_request(void **state)
{
    (void)state;
    const struct ld_request request = full_request();
    struct ld_buffer out = ld_buffer_make(1 << 20);
    ld_infotext_write_graph(&out, &request, &facts);
    struct ld_recipe r = from_graph(out.data);
    assert_int_equal(r.source, LD_RECIPE_COMFY);
    has_text(&r, "/prompt", request.prompt);
    has_text(&r, "/negative_prompt", "lowres");
    has_text(&r, "/model", "novelai_v2");
    has_number(&r, "/width", 832);
    has_number(&r, "/height", 1216);
    has_number(&r, "/steps", 28);
    has_number(&r, "/cfg_scale", 7.5);
    has_text(&r, "/sampler", "euler_ancestral");
    has_text(&r, "/scheduler", "gits");
    has_number(&r, "/scheduler_options/coefficient", 1.25);
    has_text(&r, "/seed", "18446744073709551615");
    has_number(&r, "/clip_skip", 2);
    has_text(&r, "/loras/0/name", "detail");
    has_text(&r, "/loras/1/name", "a/style");
    has_number(&r, "/loras/1/text_weight", 0.5);
    has_number(&r, "/guidance/rescale", 0.6);
    has_number(&r, "/guidance/pag", 2);
    has_text(&r, "/guidance/freeu/version", "v2");
    has_number(&r, "/guidance/freeu/s2", 0.3);
    has_number(&r, "/deep_shrink/end", 0.35);
    has_text(&r, "/deep_shrink/upscale", "bislerp");
    has_number(&r, "/hires/scale", 1.5);
    has_text(&r, "/hires/upscaler", "latent-bislerp");
    has_number(&r, "/hires/steps", 14);
    has_number(&r, "/hires/strength", 0.55);
    has_text(&r, "/hires/scheduler", "karras");
    ld_recipe_deinit(&r);
    ld_buffer_deinit(&out);
}

static void a_second_pass_of_its_own_is_read_back(void **state)
{
    (void)state;
    struct ld_request request = full_request();
    struct ld_infotext_facts two = facts;
    struct ld_buffer out = ld_buffer_make(1 << 20);
    two.hires_model_name = "sub/fine";
    request.hires.model = "fine";
    request.hires.upscaler = "pixel-lanczos";
    request.hires.prompt = "close up";
    request.hires.loras_given = true;
    request.hires.lora_count = 1;
    request.hires.loras[0] = (struct ld_request_lora){"ink", 0.5, (double)NAN, 0, 1};
    ld_infotext_write_graph(&out, &request, &two);
    struct ld_recipe r = from_graph(out.data);
    has_text(&r, "/model", "novelai_v2");
    has_text(&r, "/loras/1/name", "a/style");
    lacks(&r, "/loras/2");
    has_text(&r, "/prompt", request.prompt);
    has_text(&r, "/hires/model", "sub/fine");
    has_text(&r, "/hires/prompt", "close up");
    has_text(&r, "/hires/upscaler", "pixel-lanczos");
    has_text(&r, "/hires/loras/0/name", "ink");
    has_number(&r, "/hires/loras/0/weight", 0.5);
    lacks(&r, "/hires/loras/1");
    /* What is the first pass's is left to it. */
    lacks(&r, "/hires/negative_prompt");
    lacks(&r, "/hires/sampler");
    lacks(&r, "/hires/cfg_scale");
    ld_recipe_deinit(&r);

    /* No adapters, and the first pass's model and prompts. */
    ld_buffer_clear(&out);
    request.hires.model = "";
    request.hires.prompt = NULL;
    request.hires.lora_count = 0;
    ld_infotext_write_graph(&out, &request, &facts);
    r = from_graph(out.data);
    lacks(&r, "/hires/model");
    lacks(&r, "/hires/prompt");
    assert_non_null(strstr(r.request.data, "\"loras\":[]"));
    has_text(&r, "/loras/1/name", "a/style");
    ld_recipe_deinit(&r);

    /* Adapters that neither pass has are not mentioned. */
    ld_buffer_clear(&out);
    request.lora_count = 0;
    ld_infotext_write_graph(&out, &request, &facts);
    r = from_graph(out.data);
    lacks(&r, "/loras");
    lacks(&r, "/hires/loras");
    ld_recipe_deinit(&r);
    ld_buffer_deinit(&out);
}

static void every_scheduler_and_option_makes_a_graph(void **state)
{
    (void)state;
    static const char *const names[] = {"simple", "karras", "exponential", "polyexponential",
                                        "beta",   "ays",    "gits",        "laplace",
                                        "vp",     "turbo",  "automatic",   "trailing"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        for (int variant = 0; variant < 4; variant++) {
            struct ld_request request = full_request();
            struct ld_buffer out = ld_buffer_make(1 << 20);
            request.scheduler = names[i];
            request.sampler = variant & 1 ? "dpmpp_2m_sde" : "dpmpp_sde";
            request.sampler_options.eta = variant & 1 ? 0.5 : (double)NAN;
            request.hires.upscaler = variant & 2 ? "pixel-bicubic" : "latent-nearest";
            request.hires.width = request.hires.height = variant & 2 ? 1024 : 0;
            request.init.present = (variant & 1) != 0;
            request.init.image = "picture";
            request.init.mask = "mask";
            request.vae = "other";
            ld_infotext_write_graph(&out, &request, &facts);
            is_json(&out);
            struct ld_recipe r = from_graph(out.data);
            has_text(&r, "/prompt", request.prompt);
            has_text(&r, "/vae", "other");
            has_number(&r, "/steps", 28);
            ld_recipe_deinit(&r);
            ld_buffer_deinit(&out);
        }
    }
}

static const char stock_graph[] =
    "{\"3\":{\"inputs\":{\"seed\":5,\"steps\":20,\"cfg\":8.0,\"sampler_name\":\"dpmpp_2m\","
    "\"scheduler\":\"karras\",\"denoise\":1,\"model\":[\"4\",0],\"positive\":[\"6\",0],"
    "\"negative\":[\"7\",0],\"latent_image\":[\"5\",0]},\"class_type\":\"KSampler\","
    "\"_meta\":{\"title\":\"KSampler\"}},\"4\":{\"inputs\":{\"ckpt_name\":\"sub\\\\x.ckpt\"},"
    "\"class_type\":\"CheckpointLoaderSimple\"},\"5\":{\"inputs\":{\"width\":640,\"height\":1536,"
    "\"batch_size\":1},\"class_type\":\"EmptyLatentImage\"},\"6\":{\"inputs\":{\"text\":"
    "[\"10\",0],\"clip\":[\"4\",1]},\"class_type\":\"CLIPTextEncode\"},\"7\":{\"inputs\":{\"text\":"
    "\"\",\"clip\":[\"4\",1]},\"class_type\":\"CLIPTextEncode\"},\"10\":{\"inputs\":{\"value\":"
    "\"a \\\"cat\\\"\"},\"class_type\":\"PrimitiveString\"},\"8\":{\"inputs\":{\"samples\":"
    "[\"3\",0],\"vae\":[\"4\",2]},\"class_type\":\"VAEDecode\",\"is_changed\":[NaN]}}";

static void a_stock_graph_is_read_through_its_links(void **state)
{
    (void)state;
    struct ld_png_texts texts = {.entry = {{"prompt", stock_graph, sizeof stock_graph - 1}},
                                 .count = 1};
    struct ld_recipe r;
    assert_int_equal(ld_recipe_read(&r, &texts, NULL), LD_OK);
    assert_int_equal(r.source, LD_RECIPE_COMFY);
    has_text(&r, "/prompt", "a \"cat\"");
    has_text(&r, "/negative_prompt", "");
    has_text(&r, "/model", "sub/x");
    has_number(&r, "/seed", 5);
    has_number(&r, "/clip_skip", 1);
    has_number(&r, "/height", 1536);
    has_text(&r, "/sampler", "dpmpp_2m");
    lacks(&r, "/hires");
    ld_recipe_deinit(&r);
}

/* Its picture is somewhere else, so the unit cannot be in the request. */
static void a_controlnet_is_told_and_left_out(void **state)
{
    (void)state;
    static const char text[] =
        "{\"3\":{\"inputs\":{\"seed\":5,\"steps\":20,\"positive\":[\"9\",0],"
        "\"negative\":[\"9\",1]},\"class_type\":\"KSampler\"},"
        "\"6\":{\"inputs\":{\"text\":\"cat\"},\"class_type\":\"CLIPTextEncode\"},"
        "\"7\":{\"inputs\":{\"text\":\"fog\"},\"class_type\":\"CLIPTextEncode\"},"
        "\"8\":{\"inputs\":{\"control_net_name\":\"x\"},\"class_type\":\"ControlNetLoader\"},"
        "\"9\":{\"inputs\":{\"positive\":[\"6\",0],\"negative\":[\"7\",0],"
        "\"control_net\":[\"8\",0]},\"class_type\":\"ControlNetApplyAdvanced\"}}";
    struct ld_recipe r = from_graph(text);
    has_text(&r, "/prompt", "cat");
    has_text(&r, "/negative_prompt", "fog");
    lacks(&r, "/control");
    assert_non_null(strstr(r.notes.data, "ControlNetApplyAdvanced: " LD_RECIPE_NOTE_CONTROL));
    ld_recipe_deinit(&r);
}

static void graphs_that_are_none_or_go_round_end(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum ld_code code;
    } graphs[] = {
        {"", LD_E_FORMAT},
        {"[]", LD_E_FORMAT},
        {"{}", LD_E_FORMAT},
        {"{\"1\":{\"class_type\":\"KSampler\"}}", LD_OK},
        {"{\"1\":{\"class_type\":\"KSampler\",\"inputs\":{\"model\":[\"1\",0],"
         "\"positive\":[\"2\",0],\"latent_image\":[\"1\",0]}},\"2\":{\"class_type\":"
         "\"ConditioningCombine\",\"inputs\":{\"conditioning_1\":[\"2\",0]}}}",
         LD_E_FORMAT},
        {"{\"1\":{\"class_type\":\"KSampler\",\"inputs\":{\"positive\":[\"2\",0],\"model\":"
         "[\"3\",0]}},\"2\":{\"class_type\":\"ConditioningCombine\",\"inputs\":{"
         "\"conditioning_1\":[\"2\",0]}},\"3\":{\"class_type\":\"X\",\"inputs\":{\"model\":"
         "[\"3\",0]}}}",
         LD_OK},
        {"{\"1\":{\"class_type\":5,\"inputs\":[1,{\"a\":[[]]}]},\"2\":3,\"3\":[]}", LD_E_FORMAT},
    };
    for (size_t i = 0; i < sizeof graphs / sizeof graphs[0]; i++) {
        struct ld_recipe r;
        assert_int_equal(ld_recipe_from_graph(&r, ld_span_text(graphs[i].text), NULL),
                         graphs[i].code);
        is_json(&r.request);
        is_json(&r.notes);
        ld_recipe_deinit(&r);
    }
}

/* ---- NovelAI and our own --------------------------------------------------------------------- */

static void a_novelai_comment_becomes_a_request(void **state)
{
    (void)state;
    static const char comment[] =
        "{\"prompt\": \"{cat}\", \"steps\": 28, \"height\": 1216, \"width\": 832, \"scale\": 10.0, "
        "\"uncond_scale\": 0.9, \"cfg_rescale\": 0.2, \"seed\": 4294967288, \"n_samples\": 1, "
        "\"noise_schedule\": \"native\", \"legacy_v3_extend\": false, \"sampler\": "
        "\"k_euler_ancestral\", \"sm\": true, \"sm_dyn\": false, \"dynamic_thresholding\": true, "
        "\"dynamic_thresholding_percentile\": 0.999, \"dynamic_thresholding_mimic_scale\": 10.0, "
        "\"skip_cfg_above_sigma\": null, \"uc\": \"lowres\", \"lora_unet_weights\": null, "
        "\"request_type\": \"PromptGenerateRequest\", \"extra\": {\"a\": [1, {\"b\": 2}]}}";
    struct ld_png_texts texts = {
        .entry = {{"Software", "NovelAI", 7}, {"Comment", comment, sizeof comment - 1}},
        .count = 2};
    struct ld_recipe r;
    assert_int_equal(ld_recipe_read(&r, &texts, NULL), LD_OK);
    assert_int_equal(r.source, LD_RECIPE_NOVELAI);
    has_text(&r, "/prompt", "{cat}");
    has_text(&r, "/negative_prompt", "lowres");
    has_text(&r, "/syntax", "novelai");
    has_text(&r, "/sampler", "k_euler_ancestral");
    has_text(&r, "/scheduler", "native");
    has_number(&r, "/cfg_scale", 10);
    has_number(&r, "/seed", 4294967288.0);
    has_number(&r, "/guidance/uncond_scale", 0.9);
    has_number(&r, "/guidance/rescale", 0.2);
    has_number(&r, "/guidance/dynamic_threshold/mimic_scale", 10);
    lacks(&r, "/guidance/skip_above_sigma");
    assert_non_null(strstr(r.notes.data, "SMEA"));
    ld_recipe_deinit(&r);
    texts.entry[1].text = "{\"prompt\": ";
    assert_int_equal(ld_recipe_read(&r, &texts, NULL), LD_E_FORMAT);
    ld_recipe_deinit(&r);
}

static void our_own_record_wins_and_is_handed_on_unchanged(void **state)
{
    (void)state;
    struct ld_png_texts texts = {
        .entry = {{"parameters", "x", 1},
                  {"latentd",
                   "{\"version\":\"1\",\"model_sha256\":\"ab\",\"request\":{\"seed\":1}}", 0}},
        .count = 2};
    struct ld_recipe r;
    assert_int_equal(ld_recipe_read(&r, &texts, NULL), LD_OK);
    assert_int_equal(r.source, LD_RECIPE_LATENTD);
    assert_string_equal(r.request.data, "{\"seed\":1}");
    assert_string_equal(r.model_hash, "ab");
    ld_recipe_deinit(&r);
    texts.entry[1].text = "{\"request\":{";
    assert_int_equal(ld_recipe_read(&r, &texts, NULL), LD_E_FORMAT);
    ld_recipe_deinit(&r);
    texts.count = 0;
    assert_int_equal(ld_recipe_read(&r, &texts, NULL), LD_OK);
    assert_int_equal(r.source, LD_RECIPE_NONE);
    ld_recipe_deinit(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_infotext_of_a1111_becomes_a_request),
        cmocka_unit_test(defaults_that_a1111_leaves_unsaid_are_said),
        cmocka_unit_test(what_is_no_list_of_pairs_is_prompt),
        cmocka_unit_test(unknown_keys_and_nonsense_are_told),
        cmocka_unit_test(our_infotext_reads_as_others_read_it),
        cmocka_unit_test(the_second_pass_names_its_model_and_adapters),
        cmocka_unit_test(a_controlnet_is_written_as_its_extension_does),
        cmocka_unit_test(values_with_commas_are_quoted_and_clip_skip_one_is_left_out),
        cmocka_unit_test(our_graph_reads_back_to_the_same_request),
        cmocka_unit_test(a_second_pass_of_its_own_is_read_back),
        cmocka_unit_test(every_scheduler_and_option_makes_a_graph),
        cmocka_unit_test(a_stock_graph_is_read_through_its_links),
        cmocka_unit_test(a_controlnet_is_told_and_left_out),
        cmocka_unit_test(graphs_that_are_none_or_go_round_end),
        cmocka_unit_test(a_novelai_comment_becomes_a_request),
        cmocka_unit_test(our_own_record_wins_and_is_handed_on_unchanged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
