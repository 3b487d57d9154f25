/*
 * Proves that a converted model holds the same numbers in another type or layout and nothing else,
 * and that a file that cannot be finished never appears. Compares with the fixture's own values.
 */
#include "runtime/model/convert.h"

#include "runtime/model/detect.h"
#include "runtime/model/vocabulary.h"
#include "tests/unit/model_fixture.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define LINEAR "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn1.to_q.weight"
#define NORM   "model.diffusion_model.out.0.weight"

static struct fixture fixture;
static char folder[256];
static struct ld_weights *model;

static int make_model(void **state)
{
    (void)state;
    fixture_folder(folder);
    fixture_model(&fixture, LD_DTYPE_F32);
    fixture_add_matrix(&fixture, "model_ema.decay", LD_DTYPE_F32, 0, 0);
    fixture_add_matrix(&fixture, "betas", LD_DTYPE_F32, 1000, 0);
    fixture_note(&fixture, "modelspec.title", "a \"quoted\" title");
    fixture_write(&fixture, fixture_path(folder, "model.safetensors"));
    return ld_weights_open(&model, fixture_path(folder, "model.safetensors"), NULL, NULL) != LD_OK;
}

static int remove_model(void **state)
{
    (void)state;
    ld_weights_close(model);
    fixture_remove_folder(folder);
    return 0;
}

static struct ld_convert_request request_of(enum ld_model_storage storage)
{
    return (struct ld_convert_request){
        .model = model, .from = "somewhere/model.safetensors", .storage = storage};
}

static struct ld_weights *converted(const char *name, const struct ld_convert_request *request,
                                    struct ld_convert_report *report)
{
    struct ld_error err = {0};
    struct ld_weights *weights = NULL;
    const char *path = fixture_path(folder, name);
    if (ld_convert(path, request, report, &err) != LD_OK ||
        ld_weights_open(&weights, path, NULL, &err) != LD_OK)
        fail_msg("%s", err.detail);
    return weights;
}

/* The largest |value - rounded| / |value's tensor| over the whole model. */
static double difference(const struct ld_weights *weights)
{
    static float want[1 << 20];
    static float have[1 << 20];
    double worst = 0;
    assert_int_equal(ld_weights_count(weights), ld_weights_count(model));
    for (uint32_t i = 0; i < ld_weights_count(model); i++) {
        struct ld_weight_view a;
        struct ld_weight_view b;
        double largest = 0;
        double gap = 0;
        ld_weights_at(model, i, &a);
        assert_true(ld_weights_get(weights, a.name, &b));
        assert_true(a.count == b.count && a.count <= 1 << 20);
        ld_weight_view_decode(&a, want);
        ld_weight_view_decode(&b, have);
        for (size_t j = 0; j < a.count; j++) {
            largest = fmax(largest, fabs((double)want[j]));
            gap = fmax(gap, fabs((double)want[j] - (double)have[j]));
        }
        worst = fmax(worst, gap / largest);
    }
    return worst;
}

static void types_keep_what_they_can_hold(void **state)
{
    (void)state;
    static const struct {
        enum ld_model_storage storage;
        enum ld_dtype linear, norm;
        double least, most; /* of the error over the tensor's largest value */
    } cases[] = {
        {LD_STORE_KEEP, LD_DTYPE_F32, LD_DTYPE_F32, 0, 0},
        {LD_STORE_F16, LD_DTYPE_F16, LD_DTYPE_F16, 1e-6, 0x1p-11},
        {LD_STORE_BF16, LD_DTYPE_BF16, LD_DTYPE_BF16, 1e-4, 0x1p-8},
        {LD_STORE_FP8, LD_DTYPE_F8_E4M3, LD_DTYPE_F16, 1e-3, 0x1p-4},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct ld_convert_request request = request_of(cases[i].storage);
        struct ld_convert_report report;
        request.replace = true;
        struct ld_weights *weights = converted("out.safetensors", &request, &report);
        assert_int_equal(ld_weights_storage_dtype(weights, LINEAR), cases[i].linear);
        assert_int_equal(ld_weights_storage_dtype(weights, NORM), cases[i].norm);
        const double gap = difference(weights);
        assert_true(gap >= cases[i].least && gap <= cases[i].most);
        assert_int_equal(report.dropped, 2);
        assert_int_equal(report.dropped_bytes, 4 + 4000);
        assert_int_equal(report.tensors, ld_weights_count(model));
        ld_weights_close(weights);
    }
}

static void metadata_tells_the_origin_and_keeps_the_rest(void **state)
{
    (void)state;
    const struct ld_convert_request request = request_of(LD_STORE_F16);
    struct ld_convert_report report;
    char digest[65];
    struct ld_weights *weights = converted("noted.safetensors", &request, &report);
    const char *history = ld_weights_metadata(weights, "latentd.convert");
    assert_int_equal(ld_weights_sha256(model, digest, NULL), LD_OK);
    assert_non_null(history);
    assert_non_null(strstr(history, digest));
    assert_non_null(strstr(history, "{\"dtype\":\"fp16\",\"layout\":\"single\","
                                    "\"from\":{\"name\":\"model.safetensors\""));
    assert_string_equal(ld_weights_metadata(weights, "modelspec.title"), "a \"quoted\" title");
    assert_string_equal(ld_weights_metadata(weights, "format"), "pt");
    ld_weights_close(weights);
}

static void a_folder_and_back_is_the_same_model(void **state)
{
    (void)state;
    struct ld_convert_request request = request_of(LD_STORE_KEEP);
    struct ld_convert_report report;
    char path[512];
    request.folder = true;
    request.vocabulary = "#version: 0.2\na b\nab c</w>\n";
    /* The fixture's text encoder has another number of merges: said before anything appears. */
    struct ld_error err = {0};
    assert_int_equal(ld_convert(fixture_path(folder, "diffusers"), &request, &report, &err),
                     LD_E_SHAPE);
    assert_int_not_equal(access(fixture_path(folder, "diffusers"), F_OK), 0);
    request.vocabulary = NULL;
    struct ld_weights *parts = converted("diffusers", &request, &report);
    assert_true(difference(parts) == 0);
    assert_false(report.tokenizer);
    ld_weights_close(parts);
    assert_true(ld_fmt(path, sizeof path, "%s/diffusers", folder));
    assert_int_equal(ld_weights_open(&parts, path, NULL, NULL), LD_OK);
    const struct ld_convert_request back = {.model = parts, .from = path, .storage = LD_STORE_KEEP};
    struct ld_weights *again = converted("again.safetensors", &back, &report);
    assert_true(difference(again) == 0);
    ld_weights_close(again);
    ld_weights_close(parts);
}

static void what_is_there_is_left_alone(void **state)
{
    (void)state;
    struct ld_convert_request request = request_of(LD_STORE_F16);
    struct ld_convert_report report;
    struct ld_error err = {0};
    struct stat info;
    const char *path = fixture_path(folder, "precious");
    fixture_text(path, "mine", 4);
    assert_int_equal(ld_convert(path, &request, &report, &err), LD_E_CONFLICT);
    assert_string_equal(err.detail, "the output is there already");
    request.folder = true;
    assert_int_equal(ld_convert(path, &request, &report, NULL), LD_E_CONFLICT);
    assert_true(stat(path, &info) == 0 && info.st_size == 4);
    assert_int_equal(ld_convert("/nowhere/at/all/x", &request, &report, NULL), LD_E_NOT_FOUND);
}

static bool stop_late(void *ctx, uint64_t done, uint64_t total)
{
    (void)ctx;
    return done < total / 2;
}

/* Entries of the test's folder. */
static unsigned count_entries(void)
{
    struct stat info;
    assert_int_equal(stat(folder, &info), 0);
    return (unsigned)info.st_nlink;
}

static void an_interrupted_conversion_leaves_nothing(void **state)
{
    (void)state;
    char hidden[512];
    struct ld_convert_report report;
    for (int as_folder = 0; as_folder < 2; as_folder++) {
        struct ld_convert_request request = request_of(LD_STORE_F16);
        request.progress = stop_late;
        request.folder = as_folder;
        const unsigned before = count_entries();
        assert_int_equal(ld_convert(fixture_path(folder, "half"), &request, &report, NULL),
                         LD_E_CANCELLED);
        assert_int_not_equal(access(fixture_path(folder, "half"), F_OK), 0);
        assert_true(ld_fmt(hidden, sizeof hidden, "%s/.half.%ld.part", folder, (long)getpid()));
        assert_int_not_equal(access(hidden, F_OK), 0);
        assert_int_equal(count_entries(), before);
    }
}

static void values_beyond_fp16_are_refused_by_name(void **state)
{
    (void)state;
    static float large[4096];
    struct ld_error err = {0};
    struct ld_convert_report report;
    large[7] = 1e6f;
    fixture_find(&fixture, NORM)->values = large;
    fixture_write(&fixture, fixture_path(folder, "large.safetensors"));
    fixture_find(&fixture, NORM)->values = NULL;
    struct ld_convert_request request = request_of(LD_STORE_F16);
    assert_int_equal(
        ld_weights_open(&request.model, fixture_path(folder, "large.safetensors"), NULL, NULL),
        LD_OK);
    assert_int_equal(ld_convert(fixture_path(folder, "no"), &request, &report, &err), LD_E_RANGE);
    assert_string_equal(err.detail, NORM " has values beyond fp16 (1e+06); use bf16 or fp32");
    request.storage = LD_STORE_BF16;
    assert_int_equal(ld_convert(fixture_path(folder, "yes"), &request, &report, NULL), LD_OK);
    ld_weights_close(request.model);
}

static void a_vocabulary_becomes_json(void **state)
{
    (void)state;
    struct ld_buffer out = ld_buffer_make(1 << 16);
    const char *text = "#version: 0.2\na b\r\n\nab c</w>\n";
    assert_int_equal(ld_vocabulary_count(text), 2);
    ld_vocabulary_merges(&out, text);
    assert_string_equal(out.data, "a b\nab c</w>\n");
    ld_buffer_clear(&out);
    ld_vocabulary_json(&out, text);
    assert_memory_equal(out.data, "{\"!\":0,\"\\\"\":1,\"#\":2", 19);
    assert_non_null(strstr(out.data, "\"\xC4\x80\":188,")); /* U+0100 stands for the zero byte */
    assert_non_null(strstr(out.data, "\"!</w>\":256,"));
    assert_non_null(strstr(out.data, "\",</w>\":267,"));
    assert_non_null(strstr(out.data, "\"ab\":512,\"abc</w>\":513,\"<|startoftext|>\":514,"
                                     "\"<|endoftext|>\":515}"));
    ld_buffer_deinit(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(types_keep_what_they_can_hold),
        cmocka_unit_test(metadata_tells_the_origin_and_keeps_the_rest),
        cmocka_unit_test(a_folder_and_back_is_the_same_model),
        cmocka_unit_test(what_is_there_is_left_alone),
        cmocka_unit_test(an_interrupted_conversion_leaves_nothing),
        cmocka_unit_test(values_beyond_fp16_are_refused_by_name),
        cmocka_unit_test(a_vocabulary_becomes_json),
    };
    return cmocka_run_group_tests(tests, make_model, remove_model);
}
