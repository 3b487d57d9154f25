/*
 * Proves that the generated names and shapes are those of SD1.5 and that no two spellings collide.
 * Counts and parameter sums are pinned; where the full lists are at hand, every name is compared.
 */
#include "runtime/model/keymap.h"

#include "runtime/model/adapter_names.h"
#include "runtime/model/alias.h"
#include "runtime/model/arch.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static struct ld_keymap *sd15_map(void)
{
    struct ld_arch arch;
    struct ld_keymap *map;
    ld_arch_set_sd15(&arch);
    assert_int_equal(ld_keymap_create(&map, &arch, NULL), LD_OK);
    return map;
}

static int64_t elements(const struct ld_key *key)
{
    int64_t count = 1;
    for (int32_t i = 0; i < key->rank; i++)
        count *= key->shape[i];
    return count;
}

/* Source: the published checkpoint, 1130 tensors and these sizes. */
static void sd15_has_its_tensors_and_parameters(void **state)
{
    (void)state;
    struct ld_keymap *map = sd15_map();
    int64_t parameters[LD_PART_COUNT] = {0};
    uint32_t tensors[LD_PART_COUNT] = {0};
    for (uint32_t i = 0; i < ld_keymap_count(map); i++) {
        const struct ld_key *key = ld_keymap_at(map, i);
        parameters[key->part] += elements(key);
        tensors[key->part]++;
        assert_int_equal(ld_keymap_find(map, key->name), i);
    }
    assert_int_equal(ld_keymap_count(map), 1130);
    assert_int_equal(tensors[LD_PART_UNET], 686);
    assert_int_equal(tensors[LD_PART_TEXT], 196);
    assert_int_equal(parameters[LD_PART_UNET], 859520964);
    assert_int_equal(parameters[LD_PART_TEXT], 123060480);
    assert_int_equal(parameters[LD_PART_VAE_ENCODER] + parameters[LD_PART_VAE_DECODER], 83653863);
    assert_int_equal(ld_keymap_find(map, "model.diffusion_model.nothing"), -1);
    ld_keymap_destroy(map);
}

static void spellings_never_mean_two_tensors(void **state)
{
    (void)state;
    struct ld_keymap *map = sd15_map();
    struct ld_aliases aliases;
    struct ld_module_names names;
    assert_int_equal(ld_aliases_init(&aliases, map, NULL), LD_OK);
    for (uint32_t i = 1; i < aliases.count; i++) {
        if (strcmp(aliases.items[i - 1].name, aliases.items[i].name) == 0)
            assert_int_equal(aliases.items[i - 1].key, aliases.items[i].key);
    }
    assert_int_equal(ld_module_names_init(&names, map, NULL), LD_OK);
    for (uint32_t i = 1; i < names.count; i++) {
        if (strcmp(names.items[i - 1].name, names.items[i].name) == 0)
            assert_int_equal(names.items[i - 1].key, names.items[i].key);
    }
    ld_module_names_deinit(&names);
    ld_aliases_deinit(&aliases);
    ld_keymap_destroy(map);
}

static void test_widths_are_bounded(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "[]",
        "{\"unet\":1}",
        "{\"unet\":{\"model_channels\":0}}",
        "{\"unet\":{\"model_channels\":33}}",
        "{\"unet\":{\"num_heads\":3}}",
        "{\"unet\":{\"channel_mult\":[1]}}",
        "{\"unet\":{\"channel_mult\":[1,2,3,4,5,6,7,8,9]}}",
        "{\"vae\":{\"ch\":100000}}",
        "{\"clip\":{\"layers\":1.5}}",
        "{\"clip\":{\"heads\":7}}",
        "{\"clip\":{}} {}",
    };
    struct ld_arch arch;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ld_arch_set_sd15(&arch);
        assert_int_not_equal(ld_arch_set_test_config(&arch, bad[i], NULL), LD_OK);
        assert_false(arch.is_test_config);
    }
    ld_arch_set_sd15(&arch);
    assert_int_equal(ld_arch_set_test_config(&arch, "{\"other\":[{}],\"clip\":{\"new\":1}}", NULL),
                     LD_OK);
}

/* ---- Against the full lists ------------------------------------------------------------------ */

static json_t *spec(const char *name)
{
    char path[1024];
    assert_true(ld_fmt(path, sizeof path, "%s/%s", LD_SPEC_DIR, name));
    return json_load_file(path, 0, NULL);
}

static void names_and_shapes_match_the_inventory(void **state)
{
    (void)state;
    json_t *inventory = spec("sd15_keys.json");
    if (!inventory)
        skip();
    struct ld_keymap *map = sd15_map();
    uint32_t required = 0;
    size_t i;
    json_t *tensor;
    json_array_foreach(json_object_get(inventory, "tensors"), i, tensor)
    {
        if (!json_is_true(json_object_get(tensor, "required")))
            continue;
        required++;
        const int32_t index =
            ld_keymap_find(map, json_string_value(json_object_get(tensor, "name")));
        assert_true(index >= 0);
        const struct ld_key *key = ld_keymap_at(map, (uint32_t)index);
        const json_t *shape = json_object_get(tensor, "shape");
        assert_int_equal(json_array_size(shape), key->rank);
        for (int32_t d = 0; d < key->rank; d++)
            assert_int_equal(json_integer_value(json_array_get(shape, (size_t)d)), key->shape[d]);
    }
    assert_int_equal(required, ld_keymap_count(map));
    ld_keymap_destroy(map);
    json_decref(inventory);
}

static void diffusers_names_match_the_list(void **state)
{
    (void)state;
    json_t *list = spec("diffusers_key_map.json");
    if (!list)
        skip();
    struct ld_keymap *map = sd15_map();
    struct ld_aliases aliases;
    assert_int_equal(ld_aliases_init(&aliases, map, NULL), LD_OK);
    static const char *const folders[] = {"unet", "vae", "text_encoder",
                                          "vae_legacy_attention_names"};
    size_t compared = 0;
    for (size_t f = 0; f < sizeof folders / sizeof folders[0]; f++) {
        const char *name;
        json_t *target;
        json_object_foreach(json_object_get(list, folders[f]), name, target)
        {
            const struct ld_alias *alias = ld_aliases_find(&aliases, name);
            assert_non_null(alias);
            const struct ld_key *key = ld_keymap_at(map, alias->key);
            assert_string_equal(key->name, json_string_value(target));
            if (f < 3)
                assert_string_equal(key->diffusers, name);
            compared++;
        }
    }
    assert_true(compared >= 1130);
    ld_aliases_deinit(&aliases);
    ld_keymap_destroy(map);
    json_decref(list);
}

static void adapter_names_match_the_list(void **state)
{
    (void)state;
    json_t *list = spec("lora_key_map.json");
    if (!list)
        skip();
    struct ld_keymap *map = sd15_map();
    struct ld_module_names names;
    assert_int_equal(ld_module_names_init(&names, map, NULL), LD_OK);
    size_t compared = 0;
    const char *weight;
    json_t *module;
    json_object_foreach(json_object_get(list, "modules"), weight, module)
    {
        size_t i;
        json_t *name;
        json_array_foreach(json_object_get(module, "names"), i, name)
        {
            const int32_t key = ld_module_names_find(&names, json_string_value(name));
            assert_true(key >= 0);
            assert_string_equal(ld_keymap_at(map, (uint32_t)key)->name, weight);
            compared++;
        }
    }
    assert_true(compared > 2000);
    ld_module_names_deinit(&names);
    ld_keymap_destroy(map);
    json_decref(list);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sd15_has_its_tensors_and_parameters),
        cmocka_unit_test(spellings_never_mean_two_tensors),
        cmocka_unit_test(test_widths_are_bounded),
        cmocka_unit_test(names_and_shapes_match_the_inventory),
        cmocka_unit_test(diffusers_names_match_the_list),
        cmocka_unit_test(adapter_names_match_the_list),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
