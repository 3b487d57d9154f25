/*
 * Proves that what concerns more than one field is checked: names and aliases, sizes and work
 * against the caller's limits, ranges in order. Works on hand-made requests with a small set of
 * known names.
 */
#include "api/dialect_native.h"
#include "api/validate.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <strings.h>

#include <cmocka.h>

/* ---- A small world --------------------------------------------------------------------------- */

static const char *const samplers[] = {"euler", "euler_ancestral", "dpmpp_2m", NULL};
static const char *const schedulers[] = {"simple", "karras", "sgm_uniform", NULL};

static const char *find(const char *const *known, const char *name)
{
    for (; *known; known++)
        if (strcasecmp(*known, name) == 0)
            return *known;
    return NULL;
}

static const char *sampler(void *ctx, const char *name)
{
    (void)ctx;
    if (strcasecmp(name, "Euler a") == 0 || strcasecmp(name, "k_euler_a") == 0)
        return samplers[1];
    if (strcasecmp(name, "DPM++ 2M") == 0)
        return samplers[2];
    return find(samplers, name);
}

static const char *scheduler(void *ctx, const char *name, const struct ld_request *request)
{
    (void)ctx;
    if (strcasecmp(name, "automatic") == 0)
        return strcmp(request->sampler, "dpmpp_2m") == 0 ? schedulers[1] : schedulers[0];
    if (strcasecmp(name, "SGM Uniform") == 0)
        return schedulers[2];
    return find(schedulers, name);
}

static const char *model(void *ctx, const char *name)
{
    (void)ctx;
    return strcmp(name, "v2") == 0 || strcmp(name, "novelai_v2") == 0 ? "novelai_v2" : NULL;
}

static const char *adapter(void *ctx, const char *name)
{
    (void)ctx;
    return strcmp(name, "styles/ink") == 0 ? "styles/ink" : NULL;
}

static const char *controlnet(void *ctx, const char *name)
{
    (void)ctx;
    return strcmp(name, "canny") == 0 || strcmp(name, "edges") == 0 ? "canny" : NULL;
}

static const char *controlnet_at(void *ctx, uint32_t index)
{
    (void)ctx;
    return index == 0 ? "canny" : NULL;
}

static const char *unusable(void *ctx, const char *kind, const char *name)
{
    (void)ctx;
    return strcmp(kind, "ControlNet") == 0 && strcmp(name, "xl") == 0 ? "it is for SDXL" : NULL;
}

static const char *sampler_at(void *ctx, uint32_t index)
{
    (void)ctx;
    return samplers[index];
}

static const struct ld_api_names names = {
    .sampler = sampler,
    .scheduler = scheduler,
    .model = model,
    .adapter = adapter,
    .vae = model,
    .controlnet = controlnet,
    .unusable = unusable,
    .sampler_at = sampler_at,
    .controlnet_at = controlnet_at,
};

struct fixture {
    struct ld_arena arena;
    struct ld_native native;
};

static enum ld_code check(struct fixture *f, const char *body,
                          const struct ld_request_limits *limits)
{
    const struct ld_api_context context = {.names = &names, .limits = limits};
    ld_arena_init(&f->arena, "test", 1 << 20);
    ld_native_init(&f->native, &f->arena);
    return ld_native_accept(&f->native, ld_span_text(body), &context);
}

static void close_fixture(struct fixture *f)
{
    ld_native_deinit(&f->native);
    ld_arena_deinit(&f->arena);
}

static void accepts(const char *body)
{
    struct fixture f;
    const struct ld_request_limits limits = ld_request_limits_default();
    if (check(&f, body, &limits) != LD_OK)
        fail_msg("%s: %s", body, f.native.problem.detail);
    close_fixture(&f);
}

static void refuses(const char *body, const char *pointer, const char *words)
{
    struct fixture f;
    const struct ld_request_limits limits = ld_request_limits_default();
    if (check(&f, body, &limits) == LD_OK)
        fail_msg("%s: accepted", body);
    if (f.native.problem.item_count != 1 ||
        strcmp(f.native.problem.items[0].pointer, pointer) != 0 ||
        !strstr(f.native.problem.items[0].message, words))
        fail_msg("%s: %u at %s: %s", body, f.native.problem.item_count,
                 f.native.problem.items[0].pointer, f.native.problem.items[0].message);
    close_fixture(&f);
}

/* ---- Names ----------------------------------------------------------------------------------- */

static void names_become_canonical(void **state)
{
    (void)state;
    static const struct {
        const char *body, *sampler, *scheduler;
    } cases[] = {
        {"{\"prompt\":\"\"}", "euler_ancestral", "simple"},
        {"{\"prompt\":\"\",\"sampler\":\"Euler a\"}", "euler_ancestral", "simple"},
        {"{\"prompt\":\"\",\"sampler\":\"EULER\",\"scheduler\":\"Karras\"}", "euler", "karras"},
        {"{\"prompt\":\"\",\"sampler\":\"DPM++ 2M Karras\"}", "dpmpp_2m", "karras"},
        {"{\"prompt\":\"\",\"sampler\":\"DPM++ 2M SGM Uniform\"}", "dpmpp_2m", "sgm_uniform"},
        {"{\"prompt\":\"\",\"sampler\":\"Euler a Karras\",\"scheduler\":\"simple\"}",
         "euler_ancestral", "simple"},
        {"{\"prompt\":\"\",\"sampler\":\"DPM++ 2M\",\"scheduler\":\"Automatic\"}", "dpmpp_2m",
         "karras"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct fixture f;
        if (check(&f, cases[i].body, NULL) != LD_OK)
            fail_msg("%s: %s", cases[i].body, f.native.problem.detail);
        assert_string_equal(f.native.request.sampler, cases[i].sampler);
        assert_string_equal(f.native.request.scheduler, cases[i].scheduler);
        close_fixture(&f);
    }
    struct fixture f;
    assert_int_equal(check(&f, "{\"prompt\":\"\",\"model\":\"v2\"}", NULL), LD_OK);
    assert_string_equal(f.native.request.model, "novelai_v2");
    close_fixture(&f);
}

static void unknown_names_are_refused_at_their_field(void **state)
{
    (void)state;
    refuses("{\"prompt\":\"\",\"sampler\":\"eulre\"}", "/sampler", "did you mean euler?");
    refuses("{\"prompt\":\"\",\"sampler\":\"DPM++ 2M Carras\"}", "/sampler", "no sampler");
    refuses("{\"prompt\":\"\",\"scheduler\":\"karas\"}", "/scheduler", "no scheduler karas");
    refuses("{\"prompt\":\"\",\"model\":\"v3\"}", "/model", "no model v3");
    refuses("{\"prompt\":\"\",\"vae\":\"x\"}", "/vae", "no VAE x");
    refuses("{\"prompt\":\"\",\"loras\":[{\"name\":\"styles/ink\"},{\"name\":\"ink\"}]}",
            "/loras/1/name", "no adapter ink");
    refuses("{\"prompt\":\"\",\"size\":\"512x512\",\"hires\":{\"sampler\":\"x\"}}",
            "/hires/sampler", "no sampler x");
}

static void the_names_of_controlnets_are_checked(void **state)
{
    (void)state;
    static const char *const asked[LD_REQUEST_CONTROLS_MAX] = {"edges", "cannny", "xl"};
    struct fixture f;
    assert_int_equal(check(&f, "{\"prompt\":\"\"}", NULL), LD_OK);
    struct ld_request *request = &f.native.request;
    struct ld_problem problem;
    ld_problem_init(&problem, &f.arena);
    for (uint32_t i = 0; i < LD_REQUEST_CONTROLS_MAX; i++)
        request->controls[i] = (struct ld_request_control){.model = asked[i],
                                                           .image = "i",
                                                           .weight = 1,
                                                           .end = 1,
                                                           .low = (double)NAN,
                                                           .high = (double)NAN};
    request->control_count = 1; /* what lies behind is nobody's */
    assert_int_equal(
        ld_request_check(request, &names, NULL, &f.arena, &f.native.warnings, &problem), LD_OK);
    assert_string_equal(request->controls[0].model, "canny");
    request->control_count = LD_REQUEST_CONTROLS_MAX;
    assert_int_equal(
        ld_request_check(request, &names, NULL, &f.arena, &f.native.warnings, &problem),
        LD_E_INVALID);
    assert_int_equal(problem.item_count, 2);
    assert_string_equal(problem.items[0].pointer, "/control/1/model");
    assert_string_equal(problem.items[0].message,
                        "there is no ControlNet cannny; did you mean canny?");
    assert_string_equal(problem.items[1].pointer, "/control/2/model");
    assert_string_equal(problem.items[1].message,
                        "ControlNet xl is here but cannot be used: it is for SDXL");
    close_fixture(&f);
}

/* ---- Limits ---------------------------------------------------------------------------------- */

static void work_counts_both_passes_and_all_pictures(void **state)
{
    (void)state;
    struct ld_request request;
    ld_request_default(&request);
    assert_int_equal(ld_request_work(&request), 247 * 28); /* 832*1216/4096 = 247 */
    request.images = 4;
    assert_int_equal(ld_request_work(&request), 247 * 28 * 4);
    request.width = 64;
    request.height = 72; /* 4608/4096, rounded up */
    request.images = 1;
    assert_int_equal(ld_request_work(&request), 2 * 28);
    request.hires.present = true;
    request.hires.width = 128;
    request.hires.height = 128;
    assert_int_equal(ld_request_work(&request), 2 * 28 + 4 * 28);
    request.hires.steps = 10;
    assert_int_equal(ld_request_work(&request), 2 * 28 + 4 * 10);
}

static void limits_hold_below_at_and_above(void **state)
{
    (void)state;
    struct fixture f;
    struct ld_request_limits limits = ld_request_limits_default();
    const char *body = "{\"prompt\":\"\",\"size\":\"512x512\",\"steps\":10,\"images\":2}";
    limits.area_max = 512 * 512;
    limits.work_max = 64 * 10 * 2;
    limits.steps_max = 10;
    limits.images_max = 2;
    assert_int_equal(check(&f, body, &limits), LD_OK);
    close_fixture(&f);
    static const char *const pointers[] = {"/width", "", "/steps", "/images"};
    for (int i = 0; i < 4; i++) {
        struct ld_request_limits low = limits;
        low.area_max -= i == 0;
        low.work_max -= i == 1;
        low.steps_max -= i == 2;
        low.images_max -= i == 3;
        assert_int_equal(check(&f, body, &low), LD_E_RANGE);
        assert_int_equal(f.native.problem.item_count, 1);
        assert_string_equal(f.native.problem.items[0].pointer, pointers[i]);
        close_fixture(&f);
    }
    accepts("{\"prompt\":\"\",\"size\":\"1024x3120\",\"steps\":1}");
    refuses("{\"prompt\":\"\",\"size\":\"1024x3128\",\"steps\":1}", "/width", "3200000");
    refuses("{\"prompt\":\"\",\"size\":\"1024x1024\",\"steps\":1,\"hires\":{\"scale\":2}}",
            "/hires", "3200000");
    refuses("{\"prompt\":\"\",\"priority\":6}", "/priority", "at most 5");
    assert_int_equal(check(&f, "{\"prompt\":\"\",\"priority\":6}", NULL), LD_OK);
    close_fixture(&f);
}

/* ---- Ranges ---------------------------------------------------------------------------------- */

static void ranges_must_be_in_order(void **state)
{
    (void)state;
    accepts("{\"prompt\":\"\",\"loras\":[{\"name\":\"styles/ink\",\"start\":0.2,\"end\":0.7}]}");
    refuses("{\"prompt\":\"\",\"loras\":[{\"name\":\"styles/ink\",\"start\":0.1,\"end\":0.2},"
            "{\"name\":\"styles/ink\",\"start\":0.3,\"end\":0.4},"
            "{\"name\":\"styles/ink\",\"start\":0.5,\"end\":0.6},"
            "{\"name\":\"styles/ink\",\"start\":0.7,\"end\":0.8}]}",
            "/loras", "at most 8 ranges");
    refuses("{\"prompt\":\"\",\"size\":\"512x512\",\"hires\":{\"model\":\"v3\"}}", "/hires/model",
            "no model v3");
    refuses("{\"prompt\":\"\",\"size\":\"512x512\",\"hires\":{\"loras\":[{\"name\":\"ink\"}]}}",
            "/hires/loras/0/name", "no adapter ink");
    refuses("{\"prompt\":\"\",\"hyper\":true}", "/hyper", "adapters are not known yet");
    refuses("{\"prompt\":\"\",\"loras\":[{\"name\":\"styles/ink\",\"start\":0.6,\"end\":0.5}]}",
            "/loras/0/start", "at most loras.end");
    refuses("{\"prompt\":\"\",\"deep_shrink\":{\"start\":0.5}}", "/deep_shrink/start", "at most");
    refuses("{\"prompt\":\"\",\"guidance\":{\"negative_start\":1,\"negative_end\":0.5}}",
            "/guidance/negative_start", "at most");
    refuses("{\"prompt\":\"\",\"guidance\":{\"skip_below_sigma\":3,\"skip_above_sigma\":2}}",
            "/guidance/skip_below_sigma", "at most");
    refuses("{\"prompt\":\"\",\"scheduler_options\":{\"sigma_min\":2,\"sigma_max\":2}}",
            "/scheduler_options/sigma_min", "below");
    refuses("{\"prompt\":\"\",\"sampler_options\":{\"s_tmin\":2,\"s_tmax\":1}}",
            "/sampler_options/s_tmin", "at most");
    refuses("{\"prompt\":\"\",\"scheduler_options\":{\"coefficient\":1.22}}",
            "/scheduler_options/coefficient", "multiple of 0.05");
    refuses("{\"prompt\":\"\",\"size\":\"512x512\",\"hires\":{\"width\":1024}}", "/hires/height",
            "together");
    refuses("{\"prompt\":\"\",\"size\":\"4096x64\",\"hires\":{\"scale\":1.5}}", "/hires/scale",
            "sides");
    refuses("{\"prompt\":\"\",\"init\":{\"image\":{\"base64\":\"AAAA\"},\"mask_blur\":4}}",
            "/init/mask_blur", "needs init.mask");
    refuses("{\"prompt\":\"\",\"init\":{\"image\":{\"base64\":\"AAAA\"},\"area\":\"masked\"}}",
            "/init/area", "needs init.mask");
    refuses("{\"prompt\":\"\",\"size\":\"512x512\",\"init\":{\"image\":{\"base64\":\"AAAA\"},"
            "\"outpaint\":{\"left\":256,\"right\":193}}}",
            "/init/outpaint", "must leave 64 pixels of width");
    accepts("{\"prompt\":\"\",\"init\":{\"image\":{\"base64\":\"AAAA\"},\"mask_blur\":0}}");
    accepts("{\"prompt\":\"\",\"scheduler_options\":{\"coefficient\":1.15,\"sigma_min\":1}}");
    accepts("{\"prompt\":\"\",\"init\":{\"image\":{\"base64\":\"AAAA\"},"
            "\"mask\":{\"base64\":\"AAAA\"},\"mask_blur\":4}}");
    accepts("{\"prompt\":\"\",\"deep_shrink\":{\"start\":0.35}}");
}

/* ---- Units of control ------------------------------------------------------------------------ */

#define UNIT      "{\"prompt\":\"\",\"control\":[{\"model\":\"canny\","
#define OWN       "\"image\":{\"base64\":\"AAAA\"}"
#define WITH_INIT "\"init\":{\"image\":{\"base64\":\"AAAA\"}}"
#define WITH_MASK "\"init\":{\"image\":{\"base64\":\"AAAA\"},\"mask\":{\"base64\":\"AAAA\"}}"
#define HIRES     "\"size\":\"512x512\",\"hires\":{\"scale\":2}"

static void units_have_what_they_need(void **state)
{
    (void)state;
    accepts(UNIT OWN "}]}");
    accepts(UNIT "\"image\":{\"id\":\"0123456789abcdefghijklmnop\"}}]}");
    accepts(UNIT "\"weight\":0}]," WITH_INIT "}");
    refuses(UNIT "\"weight\":1}]}", "/control/0/image", "control.image is required");
    refuses("{\"prompt\":\"\",\"control\":[{\"model\":\"canny\"," OWN "},{\"model\":\"edges\"}]}",
            "/control/1/image", "control.image is required");
    /* What is wrong with a picture is said alone. */
    refuses(UNIT "\"image\":{\"base64\":\"?\"}}]}", "/control/0/image/base64", "control.image");
    accepts(UNIT OWN ",\"preprocess\":\"inpaint\"}]," WITH_MASK "}");
    refuses(UNIT OWN ",\"preprocess\":\"inpaint\"}]," WITH_INIT "}", "/control/0/preprocess",
            "control.preprocess inpaint needs init with init.mask");
    refuses(UNIT OWN ",\"preprocess\":\"inpaint\"}]}", "/control/0/preprocess", "init.mask");
    accepts(UNIT OWN ",\"passes\":\"second\"}]," HIRES "}");
    accepts(UNIT OWN ",\"passes\":\"first\"}]}");
    refuses(UNIT OWN ",\"passes\":\"second\"}]}", "/control/0/passes",
            "control.passes second needs hires");
    refuses("{\"upscale\":{\"image\":{\"base64\":\"AAAA\"}},\"control\":[{\"model\":\"canny\"," OWN
            "}]}",
            "/control", "no meaning beside upscale");
}

static void ranges_and_thresholds_of_units_hold(void **state)
{
    (void)state;
    static const struct {
        const char *kind;
        bool low, high;
    } kinds[] = {{"none", false, false},      {"canny", true, true},    {"scribble", false, true},
                 {"lineart", false, false},   {"invert", false, false}, {"threshold", false, true},
                 {"luminance", false, false}, {"blur", false, true},    {"tile", false, true},
                 {"inpaint", false, false}};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        char body[256];
        assert_true(ld_fmt(body, sizeof body,
                           UNIT OWN ",\"preprocess\":\"%s\",\"low\":0}]," WITH_MASK "}",
                           kinds[i].kind));
        if (kinds[i].low)
            accepts(body);
        else
            refuses(body, "/control/0/low", "control.low needs control.preprocess canny");
        assert_true(ld_fmt(body, sizeof body,
                           UNIT OWN ",\"preprocess\":\"%s\",\"high\":200}]," WITH_MASK "}",
                           kinds[i].kind));
        if (kinds[i].high)
            accepts(body);
        else
            refuses(body, "/control/0/high", "control.high needs control.preprocess canny, ");
    }
    accepts(UNIT OWN ",\"preprocess\":\"canny\",\"low\":9,\"high\":9}]}");
    refuses(UNIT OWN ",\"preprocess\":\"canny\",\"low\":9,\"high\":8}]}", "/control/0/low",
            "control.low must be at most control.high");
    accepts(UNIT OWN ",\"preprocess\":\"canny\",\"low\":200}]}");
    refuses(UNIT OWN ",\"preprocess\":\"canny\",\"low\":201}]}", "/control/0/low",
            "control.low must be at most control.high (200 if absent)");
    accepts(UNIT OWN ",\"preprocess\":\"canny\",\"high\":100}]}");
    refuses(UNIT OWN ",\"preprocess\":\"canny\",\"high\":99}]}", "/control/0/high",
            "control.high must be at least control.low (100 if absent)");
    accepts(UNIT OWN ",\"start\":0.5,\"end\":0.6}]}");
    refuses(UNIT OWN ",\"start\":0.5,\"end\":0.5}]}", "/control/0/start",
            "control.start must be below control.end");
    refuses(UNIT OWN ",\"start\":1}]}", "/control/0/start", "below control.end");
}

/* Bytes without an id are a picture while they are checked, and no id afterwards. */
static void a_picture_in_base64_leaves_no_id(void **state)
{
    (void)state;
    struct fixture f;
    assert_int_equal(check(&f, UNIT OWN "}]}", NULL), LD_OK);
    assert_string_equal(f.native.request.controls[0].image, "");
    assert_int_equal(f.native.control_images[0].size, 3);
    close_fixture(&f);
}

static void advice_is_given_without_refusing(void **state)
{
    (void)state;
    static const struct {
        const char *body, *words;
    } cases[] = {
        {"{\"prompt\":\"\",\"size\":\"520x512\"}", "multiples of 64"},
        {"{\"prompt\":\"\",\"sigmas\":[1,0],\"steps\":3}", "replace"},
        {"{\"prompt\":\"\",\"cfg_scale\":1,\"negative_prompt\":\"x\"}", "no effect"},
        {"{\"prompt\":\"\",\"seed\":4294967296}", "32 bits"},
        {"{\"prompt\":\"\",\"sampler_options\":{\"ensd\":31337}}", "a1111 only"},
        {"{\"prompt\":\"\",\"smea_scale\":2}", "no effect without smea"},
        {"{\"prompt\":\"\",\"variation\":{\"seed\":9}}", "without variation.strength"},
        {"{\"prompt\":\"\",\"guidance\":{\"sag_blur\":4}}", "without guidance.sag"},
        {"{\"prompt\":\"\",\"cfg_scale\":1,\"guidance\":{\"rescale\":0.5}}",
         "cfg_scale other than 1"},
        {"{\"prompt\":\"\",\"guidance\":{\"perp_neg\":1}}", "no effect without a negative prompt"},
        {"{\"prompt\":\"\",\"negative_prompt\":\" \\n\",\"guidance\":{\"perp_neg\":1}}",
         "third row"},
        {"{\"prompt\":\"\",\"hires\":{\"scale\":2},\"guidance\":{\"perp_neg\":1}}",
         "no effect without a negative prompt"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct fixture f;
        struct ld_buffer out = ld_buffer_make(4096);
        assert_int_equal(check(&f, cases[i].body, NULL), LD_OK);
        ld_warnings_write(&f.native.warnings, &out);
        if (f.native.warnings.count != 1 || !strstr(out.data, cases[i].words))
            fail_msg("%s: %s", cases[i].body, out.data);
        ld_buffer_deinit(&out);
        close_fixture(&f);
    }
    struct fixture f;
    assert_int_equal(check(&f, "{\"prompt\":\"\"}", NULL), LD_OK);
    assert_int_equal(f.native.warnings.count, 0);
    close_fixture(&f);
    assert_int_equal(
        check(&f,
              "{\"prompt\":\"\",\"smea\":\"on\",\"smea_scale\":2,\"variation\":{\"seed\":9,"
              "\"strength\":0.1},\"guidance\":{\"sag\":1,\"sag_blur\":4,\"rescale\":0.5}}",
              NULL),
        LD_OK);
    assert_int_equal(f.native.warnings.count, 0);
    close_fixture(&f);
    static const char in_second_pass[] =
        "{\"prompt\":\"\",\"hires\":{\"scale\":2,\"negative_prompt\":\"x\"},"
        "\"guidance\":{\"perp_neg\":1}}";
    static const char *const acting[] = {
        "{\"prompt\":\"\",\"negative_prompt\":\"x\",\"guidance\":{\"perp_neg\":1}}",
        in_second_pass,
        "{\"prompt\":\"\",\"guidance\":{\"perp_neg\":0}}",
    };
    for (size_t i = 0; i < sizeof acting / sizeof acting[0]; i++) {
        assert_int_equal(check(&f, acting[i], NULL), LD_OK);
        assert_int_equal(f.native.warnings.count, 0);
        close_fixture(&f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_become_canonical),
        cmocka_unit_test(unknown_names_are_refused_at_their_field),
        cmocka_unit_test(the_names_of_controlnets_are_checked),
        cmocka_unit_test(work_counts_both_passes_and_all_pictures),
        cmocka_unit_test(limits_hold_below_at_and_above),
        cmocka_unit_test(ranges_must_be_in_order),
        cmocka_unit_test(units_have_what_they_need),
        cmocka_unit_test(ranges_and_thresholds_of_units_hold),
        cmocka_unit_test(a_picture_in_base64_leaves_no_id),
        cmocka_unit_test(advice_is_given_without_refusing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
