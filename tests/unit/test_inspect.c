/*
 * Proves that any file is named for what it is and that its description can harm no terminal. Small
 * files of each kind are written and described.
 */
#include "runtime/model/inspect.h"

#include "runtime/base/json_find.h"
#include "runtime/model/magic.h"
#include "tests/unit/model_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <sys/stat.h>

#include <cmocka.h>

static struct fixture fixture;
static char folder[256];
static struct ld_buffer json;

static int set_up(void **state)
{
    (void)state;
    json = ld_buffer_make(LD_INSPECT_BYTES_MAX);
    fixture_folder(folder);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    ld_buffer_deinit(&json);
    fixture_remove_folder(folder);
    return 0;
}

static struct ld_span described(const char *path)
{
    struct ld_error err = {0};
    ld_buffer_clear(&json);
    if (ld_inspect(path, &json, &err) != LD_OK)
        fail_msg("%s", err.detail);
    return ld_span_of(json.data, json.size);
}

static struct ld_span described_fixture(void)
{
    const char *path = fixture_path(folder, "file.safetensors");
    fixture_write(&fixture, path);
    return described(path);
}

static void assert_text(struct ld_span text, const char *pointer, const char *expected)
{
    char found[256];
    assert_true(ld_json_find_string(text, pointer, found, sizeof found));
    assert_string_equal(found, expected);
}

static void assert_number(struct ld_span text, const char *pointer, uint64_t expected)
{
    uint64_t found;
    assert_true(ld_json_find_u64(text, pointer, &found));
    assert_int_equal(found, expected);
}

static bool is_true(struct ld_span text, const char *pointer)
{
    struct ld_json_token token;
    assert_true(ld_json_find(text, pointer, &token));
    return token.kind == LD_JSON_TRUE;
}

static void first_bytes_name_foreign_files(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t size;
        const char *format;
    } files[] = {
        {"", 0, "empty"},
        {"\x89PNG\r\n\x1a\n", 8, "png"},
        {"\xff\xd8\xff\xe0", 4, "jpeg"},
        {"RIFF\0\0\0\0WEBP", 12, "webp"},
        {"PK\x03\x04 something", 14, "zip"},
        {"\x80\x02}q\0.", 6, "pickle"},
        {"GGUF\3\0\0\0", 8, "gguf"},
        {"\x1f\x8b\x08", 3, "gzip"},
        {"  \n<!DocType HTML><p>", 21, "html"},
        {"version https://git-lfs.github.com/spec/v1\n", 43, "git-lfs"},
        {" {\"a\":1}", 8, "json"},
        {"hello\nworld\n", 12, "text"},
        {"\x01\x02\x03\x04", 4, "unknown"},
    };
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        const char *path = fixture_path(folder, "foreign");
        fixture_text(path, files[i].bytes, files[i].size);
        const struct ld_span text = described(path);
        assert_text(text, "/format", files[i].format);
        assert_number(text, "/bytes", files[i].size);
    }
    /* SHA-256 of nothing (FIPS 180-4 examples). */
    fixture_text(fixture_path(folder, "foreign"), "", 0);
    assert_text(described(fixture_path(folder, "foreign")), "/sha256",
                "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    assert_text(ld_span_of(json.data, json.size), "/short_hash", "e3b0c44298");
}

static void models_tell_their_parts_and_types(void **state)
{
    (void)state;
    static const float bad[] = {-1.0f / 0.0f};
    fixture_model(&fixture, LD_DTYPE_F16);
    fixture_find(&fixture, "model.diffusion_model.out.2.bias")->dtype = LD_DTYPE_F32;
    fixture_add_matrix(&fixture, "v_pred", LD_DTYPE_F32, 1, 0);
    struct ld_span text = described_fixture();
    assert_text(text, "/kind", "model");
    assert_text(text, "/arch", "sd15");
    assert_text(text, "/prediction", "v");
    assert_true(is_true(text, "/usable") && is_true(text, "/parts/unet"));
    assert_true(is_true(text, "/parts/text") && is_true(text, "/test_model"));
    assert_number(text, "/tensors", fixture.count);
    assert_number(text, "/dtypes/F32/tensors", 2);
    assert_number(text, "/dtypes/F32/parameters", 5);
    assert_number(text, "/nonfinite", 0);
    fixture_find(&fixture, "v_pred")->values = bad; /* no weight: does not count */
    assert_number(described_fixture(), "/nonfinite", 0);
    fixture_remove(&fixture, "model.diffusion_model.out.2.bias");
    fixture_add_matrix(&fixture, "strange\n\x1b[31mname", LD_DTYPE_F32, 1, 0);
    text = described_fixture();
    assert_false(is_true(text, "/usable"));
    assert_text(text, "/fault", "missing_tensor");
    assert_number(text, "/missing", 1);
    assert_text(text, "/problems/0", "unknown: strange??[31mname");
    assert_text(text, "/problems/1", "missing: model.diffusion_model.out.2.bias");
}

static void adapters_and_embeddings_tell_theirs(void **state)
{
    (void)state;
    memset(&fixture, 0, sizeof fixture);
    fixture_add_matrix(&fixture, "lora_te_text_model_encoder_layers_0_mlp_fc1.lora_up.weight",
                       LD_DTYPE_F16, 64, 4);
    fixture_add_matrix(&fixture, "lora_te_text_model_encoder_layers_0_mlp_fc1.lora_down.weight",
                       LD_DTYPE_F16, 4, 32);
    fixture_note(&fixture, "modelspec.trigger_phrase", "say please");
    struct ld_span text = described_fixture();
    assert_text(text, "/kind", "adapter");
    assert_text(text, "/families/0", "lora");
    assert_number(text, "/rank/max", 4);
    assert_number(text, "/text_modules", 1);
    assert_text(text, "/trigger_words", "say please");
    memset(&fixture, 0, sizeof fixture);
    fixture_add_matrix(&fixture, "clip_l", LD_DTYPE_F32, 5, 768);
    fixture_add_matrix(&fixture, "clip_g", LD_DTYPE_F32, 5, 1280);
    text = described_fixture();
    assert_text(text, "/kind", "embedding");
    assert_number(text, "/vectors", 5);
    assert_number(text, "/width", 768);
}

static void damaged_files_are_an_answer(void **state)
{
    (void)state;
    static const char cut[] = "\x20\0\0\0\0\0\0\0{\"a\":{\"dtype\":";
    const char *path = fixture_path(folder, "cut.safetensors");
    fixture_text(path, cut, sizeof cut - 1);
    const struct ld_span text = described(path);
    assert_text(text, "/format", "safetensors");
    assert_false(is_true(text, "/valid"));
    assert_text(text, "/error_class", "header_length");
    struct ld_error err = {0};
    ld_buffer_clear(&json);
    assert_int_equal(ld_inspect(fixture_path(folder, "absent"), &json, &err), LD_E_NOT_FOUND);
    assert_text(described(folder), "/format", "folder");
    assert_false(is_true(ld_span_of(json.data, json.size), "/usable"));
}

static void pictures_tell_their_texts(void **state)
{
    (void)state;
    /* One red pixel and a text chunk. */
    static const uint8_t png[] = {
        0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a, 0x00, 0x00, 0x00, 0x0d, 0x49, 0x48, 0x44,
        0x52, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x01, 0x08, 0x02, 0x00, 0x00, 0x00, 0x90,
        0x77, 0x53, 0xde, 0x00, 0x00, 0x00, 0x33, 0x74, 0x45, 0x58, 0x74, 0x70, 0x61, 0x72, 0x61,
        0x6d, 0x65, 0x74, 0x65, 0x72, 0x73, 0x00, 0x61, 0x20, 0x63, 0x61, 0x74, 0x0a, 0x53, 0x74,
        0x65, 0x70, 0x73, 0x3a, 0x20, 0x32, 0x30, 0x2c, 0x20, 0x53, 0x61, 0x6d, 0x70, 0x6c, 0x65,
        0x72, 0x3a, 0x20, 0x45, 0x75, 0x6c, 0x65, 0x72, 0x2c, 0x20, 0x53, 0x65, 0x65, 0x64, 0x3a,
        0x20, 0x31, 0x10, 0xbc, 0x4d, 0xd1, 0x00, 0x00, 0x00, 0x0c, 0x49, 0x44, 0x41, 0x54, 0x78,
        0x9c, 0x63, 0xf8, 0xcf, 0xc0, 0x00, 0x00, 0x03, 0x01, 0x01, 0x00, 0xc9, 0xfe, 0x92, 0xef,
        0x00, 0x00, 0x00, 0x00, 0x49, 0x45, 0x4e, 0x44, 0xae, 0x42, 0x60, 0x82};
    const char *path = fixture_path(folder, "picture.safetensors"); /* whatever its name */
    fixture_text(path, png, sizeof png);
    struct ld_span text = described(path);
    assert_text(text, "/format", "png");
    assert_text(text, "/kind", "image");
    assert_number(text, "/width", 1);
    assert_text(text, "/texts/parameters", "a cat\nSteps: 20, Sampler: Euler, Seed: 1");
    fixture_text(path, png, sizeof png - 20);
    text = described(path);
    assert_false(is_true(text, "/valid"));
}

static void a_model_folder_is_described_as_one(void **state)
{
    (void)state;
    char path[300];
    assert_true(ld_fmt(path, sizeof path, "%s/model", folder));
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(mkdir(fixture_path(path, "unet"), 0700), 0);
    fixture_model(&fixture, LD_DTYPE_F16);
    fixture_write(&fixture, fixture_path(path, "unet/diffusion_pytorch_model.safetensors"));
    const struct ld_span text = described(path);
    assert_text(text, "/format", "folder");
    assert_text(text, "/kind", "model");
    assert_number(text, "/files", 1);
    assert_true(is_true(text, "/usable"));
}

static void long_metadata_is_cut_between_characters(void **state)
{
    (void)state;
    static char value[4001];
    memset(&fixture, 0, sizeof fixture);
    for (size_t i = 1; i + 2 < sizeof value; i += 2)
        memcpy(value + i, "\xc3\xa9", 2);
    value[0] = 'x';
    fixture_note(&fixture, "long", value);
    fixture_add_matrix(&fixture, "other", LD_DTYPE_F32, 1, 0);
    char found[3000];
    assert_true(ld_json_find_string(described_fixture(), "/metadata/long", found, sizeof found));
    assert_true(strlen(found) < 2010);
    assert_string_equal(found + strlen(found) - 5, "\xc3\xa9...");
}

static void text_for_people_is_safe_for_a_terminal(void **state)
{
    (void)state;
    struct ld_buffer text = ld_buffer_make(4096);
    ld_inspect_text(&text, ld_span_text("{\"a\":\"x\\u001b[2J\\ny\\u202e\",\"b\":{\"c\":[1,true],"
                                        "\"d\":null},\"e\":[]}"));
    assert_string_equal(text.data, "a: x?[2J y?\nb:\n  c:\n    1\n    yes\n  d: null\ne:\n");
    ld_buffer_clear(&text);
    ld_inspect_text(&text, ld_span_text(""));
    assert_int_equal(text.size, 0);
    ld_buffer_deinit(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(first_bytes_name_foreign_files),
        cmocka_unit_test(models_tell_their_parts_and_types),
        cmocka_unit_test(adapters_and_embeddings_tell_theirs),
        cmocka_unit_test(damaged_files_are_an_answer),
        cmocka_unit_test(pictures_tell_their_texts),
        cmocka_unit_test(a_model_folder_is_described_as_one),
        cmocka_unit_test(long_metadata_is_cut_between_characters),
        cmocka_unit_test(text_for_people_is_safe_for_a_terminal),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
