/*
 * Proves that the shipped manifests load, mean what the models want and hold only legal defaults,
 * and that slips in an operator's own are named with their line. Works on the embedded files, on
 * texts and on a folder.
 */
#include "config/manifest.h"
#include "runtime/base/fsx.h"
#include "runtime/params.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

static void shipped_manifests_claim_their_models(void **state)
{
    (void)state;
    struct ld_arena arena;
    struct ld_manifests set;
    struct ld_error err = {0};
    ld_arena_init(&arena, "test", 1 << 20);
    if (ld_manifests_load(&set, NULL, &arena, &err) != LD_OK)
        fail_msg("%s", err.detail);
    static const struct {
        const char *model, *manifest;
    } cases[] = {
        {"novelai_v2", "novelai_v2"},
        {"NovelAI-Diffusion-V2.safetensors", "novelai_v2"},
        {"folder/nai-diffusion-2", "novelai_v2"},
        {"demo", "demo"},
        {"tiny.safetensors", "demo"},
        {"anything else", "default"},
        {"", "default"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_string_equal(ld_manifests_for(&set, cases[i].model)->name, cases[i].manifest);
    const struct ld_manifest *v2 = ld_manifests_for(&set, "novelai_v2");
    assert_string_equal(v2->prediction, "eps");
    assert_int_equal(v2->size_count, 11);
    assert_true(v2->sizes[0].width == 1024 && v2->sizes[8].height == 640);
    assert_string_equal(v2->sizes[0].note, "");
    assert_true(v2->sizes[9].note[0] != '\0');
    assert_true(ld_manifest_quality(v2, v2->quality_default)->in_front);
    assert_string_equal(ld_manifest_quality(v2, "v2")->text,
                        "very aesthetic, best quality, absurdres");
    assert_string_equal(ld_manifest_undesired(v2, "lowres")->text, "lowres");
    assert_null(ld_manifest_undesired(v2, "none"));
    assert_string_equal(ld_manifest_renamed(v2, ";|"), "neutral face");
    assert_string_equal(ld_manifest_renamed(v2, "\\||/"), "open \\m/");
    assert_null(ld_manifest_renamed(v2, "1girl"));
    ld_arena_deinit(&arena);
}

static void shipped_defaults_pass_the_table(void **state)
{
    (void)state;
    struct ld_arena arena;
    struct ld_manifests set;
    struct ld_error err = {0};
    ld_arena_init(&arena, "test", 1 << 20);
    assert_int_equal(ld_manifests_load(&set, "", &arena, &err), LD_OK);
    for (uint32_t i = 0; i < set.count; i++) {
        struct ld_request request;
        ld_request_default(&request);
        assert_true(set.items[i].title[0] != '\0' && set.items[i].default_count > 0);
        for (uint32_t j = 0; j < set.items[i].default_count; j++)
            if (ld_request_set_text(&request, &arena, set.items[i].defaults[j].field,
                                    set.items[i].defaults[j].value, &err) != LD_OK)
                fail_msg("%s: %s", set.items[i].name, err.detail);
    }
    ld_arena_deinit(&arena);
}

static void refuses(const char *conf, const char *tags, const char *words)
{
    struct ld_arena arena;
    struct ld_manifest manifest;
    struct ld_error err = {0};
    ld_arena_init(&arena, "test", 1 << 20);
    assert_int_not_equal(
        ld_manifest_parse(&manifest, "x", ld_span_text(conf), ld_span_text(tags), &arena, &err),
        LD_OK);
    if (!strstr(err.detail, words))
        fail_msg("%s", err.detail);
    ld_arena_deinit(&arena);
}

static void slips_are_named_with_their_line(void **state)
{
    (void)state;
    refuses("[manifest]\ntitel = x\n", "",
            "line 2: unknown key titel in [manifest]; did you mean "
            "title?");
    refuses("[manifst]\ntitle = x\n", "", "did you mean manifest?");
    refuses("[sizes]\nnative = 100x100\n", "", "line 2: a size is");
    refuses("[sizes]\nnative = 64\n", "", "a size is");
    refuses("[sizes]\nwide = 64x64\n", "", "native or stretched");
    refuses("[manifest]\nprediction = x0\n", "", "eps or v");
    refuses("what is this\n", "", "line 1: neither");
    refuses("[manifest]\n", "{", "line 1");
    refuses("[manifest]\n", "{\"quality\":{\"default\":\"a\",\"presets\":[]}}", "does not exist");
}

static void write_file(const char *folder, const char *name, const char *text)
{
    char path[256];
    (void)ld_fmt(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static void a_folder_replaces_and_adds_manifests(void **state)
{
    (void)state;
    char folder[] = "/tmp/latentd-manifest-XXXXXX";
    struct ld_arena arena;
    struct ld_manifests set;
    struct ld_error err = {0};
    ld_arena_init(&arena, "test", 1 << 20);
    assert_non_null(mkdtemp(folder));
    write_file(folder, "demo.conf", "[manifest]\ntitle = Mine\nmodels = demo*\n");
    write_file(folder, "own.conf", "[manifest]\ntitle = Own\nmodels = own*,\n  other*\n");
    write_file(folder, "own.tags.json",
               "{\"undesired\":[{\"name\":\"heavy\",\"text\":\"bad ; worse\"}]}");
    write_file(folder, "readme.txt", "no manifest");
    if (ld_manifests_load(&set, folder, &arena, &err) != LD_OK)
        fail_msg("%s", err.detail);
    assert_string_equal(ld_manifests_for(&set, "demo")->title, "Mine");
    assert_string_equal(ld_manifests_for(&set, "otherwise")->title, "Own");
    assert_string_equal(ld_manifest_undesired(ld_manifests_for(&set, "own1"), "heavy")->text,
                        "bad ; worse");
    write_file(folder, "own.conf", "[manifest]\ntitel = Own\n");
    assert_int_not_equal(ld_manifests_load(&set, folder, &arena, &err), LD_OK);
    assert_non_null(strstr(err.detail, "manifest own: line 2"));
    static const char *const files[] = {"demo.conf", "own.conf", "own.tags.json", "readme.txt"};
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        char path[256];
        (void)ld_fmt(path, sizeof path, "%s/%s", folder, files[i]);
        assert_int_equal(unlink(path), 0);
    }
    assert_int_equal(rmdir(folder), 0);
    assert_int_equal(ld_manifests_load(&set, folder, &arena, &err), LD_E_NOT_FOUND);
    ld_arena_deinit(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shipped_manifests_claim_their_models),
        cmocka_unit_test(shipped_defaults_pass_the_table),
        cmocka_unit_test(slips_are_named_with_their_line),
        cmocka_unit_test(a_folder_replaces_and_adds_manifests),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
