/*
 * Proves that a plan which cuDNN has compiled is loaded by the next process instead of being
 * compiled again, that nothing else is, and that whatever cuDNN does not take is compiled as if no
 * file was there. How: the real cuDNN, without a GPU, over a driver that takes everything; what it
 * is asked to finish is counted. Skips where cuDNN is not installed.
 */
#include "tests/cuda/fake_gpu.h"
#include "tests/unit/cudnn_fixture.h"
#include "tests/unit/folder_fixture.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#ifdef HAS_PROPERTIES

static _Alignas(256) unsigned char memory[7][256];
enum { X, W, BIAS, ROW, RESIDUAL, Y, PATH_SIZE = 400 };
enum { COMPILED = 1, LOADED };

static struct ldk_libs libs;
static struct ldk_libs_way ways[LDK_LIBS_WAYS_MAX];
static uint32_t way_count;
static int compiled, loaded, refused, executions, written;
static cudnnBackendDescriptor_t latest; /* plan that was loaded */
static int64_t more_workspace;          /* than a loaded plan takes */

/* ---- What stands before cuDNN ---------------------------------------------------------------- */

static cudnnStatus_t set(cudnnBackendDescriptor_t object, cudnnBackendAttributeName_t name,
                         cudnnBackendAttributeType_t type, int64_t count, const void *values)
{
    if (name == CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION) {
        latest = object;
        loaded++;
    }
    if (name == CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG) {
        latest = NULL; /* this one may stand where that one stood */
        compiled++;
    }
    return set_without_handle(object, name, type, count, values);
}

static cudnnStatus_t finalize(cudnnBackendDescriptor_t object)
{
    const cudnnStatus_t status = real_cudnn.cudnnBackendFinalize(object);
    refused += status != CUDNN_STATUS_SUCCESS;
    return status;
}

static cudnnStatus_t get(cudnnBackendDescriptor_t object, cudnnBackendAttributeName_t name,
                         cudnnBackendAttributeType_t type, int64_t wanted, int64_t *count,
                         void *values)
{
    const cudnnStatus_t status =
        real_cudnn.cudnnBackendGetAttribute(object, name, type, wanted, count, values);
    written += name == CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION && wanted > 0;
    if (name == CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE && object == latest)
        *(int64_t *)values += more_workspace;
    return status;
}

static cudnnStatus_t execute(cudnnHandle_t handle, cudnnBackendDescriptor_t given,
                             cudnnBackendDescriptor_t pack)
{
    (void)handle;
    assert_non_null(given);
    assert_non_null(pack);
    executions++;
    return CUDNN_STATUS_SUCCESS;
}

/* ---- Processes ------------------------------------------------------------------------------- */

static const char gpu[] = "a Hopper, sm 90, 132 multiprocessors, driver 13000";

/* What a process begins with: no plan in memory. */
static void begin(const char *device)
{
    ldk_libs_conv_deinit(&libs);
    latest = NULL;
    compiled = loaded = refused = executions = written = 0;
    ldk_libs_keep_plans(&libs, test_folder, device);
}

static const struct ldk_conv conv = {.x0 = memory[X],
                                     .c0 = 64,
                                     .batch = 2,
                                     .in_h = 16,
                                     .in_w = 24,
                                     .out_h = 16,
                                     .out_w = 24,
                                     .stride = 1,
                                     .pad_before = 1,
                                     .w = {.data = memory[W],
                                           .bias = (const float *)(const void *)memory[BIAS],
                                           .rows = 128,
                                           .rows_padded = 128,
                                           .k = 64,
                                           .k_padded = 64,
                                           .taps = 9,
                                           .dtype = LDK_F16},
                                     .row_add = memory[ROW],
                                     .row_add_stride = 640,
                                     .row_add_f32 = true,
                                     .residual = memory[RESIDUAL],
                                     .y = memory[Y],
                                     .dtype = LDK_F16};

static void run_conv(const struct ldk_conv *c, uint32_t way, bool for_caller)
{
    ldk_stream stream = for_caller ? (ldk_stream)(void *)memory : NULL;
    const int before = executions;
    assert_int_equal(ldk_libs_conv(&libs, &ways[way], c, stream), LDK_OK);
    assert_int_equal(executions, before + 1);
}

static void run_way(uint32_t way)
{
    run_conv(&conv, way, true);
}

/* ---- Files ----------------------------------------------------------------------------------- */

/* The only file whose name is not `but`. */
static int find_file(const char *but, char out[PATH_SIZE])
{
    DIR *dir = opendir(test_plans);
    int count = 0;
    for (struct dirent *entry; dir && (entry = readdir(dir)) != NULL;) {
        if (entry->d_name[0] == '.' || (but && strstr(but, entry->d_name)))
            continue;
        (void)snprintf(out, PATH_SIZE, "%s/%s", test_plans, entry->d_name);
        count++;
    }
    if (dir)
        (void)closedir(dir);
    return count;
}

/* The key that a file holds (plan_store.h). */
static void key_of(const char *path, char out[LDK_PLAN_KEY_SIZE])
{
    unsigned crc;
    unsigned size = 0;
    unsigned bytes;
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    assert_int_equal(fscanf(file, "latentd-plan 1\n%8x %8x %8x", &crc, &size, &bytes), 3);
    assert_int_equal(fgetc(file), '\n');
    assert_true(size < LDK_PLAN_KEY_SIZE);
    assert_int_equal(fread(out, 1, size, file), size);
    out[size] = '\0';
    assert_int_equal(fclose(file), 0);
}

static void need_ways(uint32_t count)
{
    if (way_count >= count)
        return;
    print_message("needs a cuDNN that proposes %u ways over tests/cuda/fake_driver.c\n", count);
    skip();
}

static int open_folder(void **state)
{
    (void)state;
    fake_gpu_reset();
    if (!make_test_folder("test_plans_real"))
        return -1;
    more_workspace = 0;
    memset(&libs, 0, sizeof libs);
    way_count = 0;
    if (!open_real_cudnn(&libs))
        return 0;
    libs.info.cudnn = (int32_t)libs.dnn.cudnnGetVersion();
    libs.dnn.cudnnBackendSetAttribute = set;
    libs.dnn.cudnnBackendGetAttribute = get;
    libs.dnn.cudnnBackendFinalize = finalize;
    libs.dnn.cudnnBackendExecute = execute;
    way_count = ldk_libs_conv_ways(&libs, &conv, ways, LDK_LIBS_WAYS_MAX);
    if (way_count > 0) { /* the last one compiles soonest */
        const struct ldk_libs_way first = ways[0];
        ways[0] = ways[way_count - 1];
        ways[way_count - 1] = first;
    }
    begin(gpu);
    return 0;
}

static int close_folder(void **state)
{
    (void)state;
    if (libs.cudnn_library)
        close_real_cudnn(&libs);
    return remove_test_folder() ? 0 : -1;
}

/* ---- Claims ---------------------------------------------------------------------------------- */

static void expect(int what)
{
    assert_int_equal(compiled, (what & COMPILED) != 0);
    assert_int_equal(loaded, (what & LOADED) != 0);
}

static void a_compiled_plan_is_loaded_by_the_next_process(void **state)
{
    (void)state;
    need_ways(1);
    run_way(0);
    run_way(0);
    expect(COMPILED);
    assert_int_equal(written, 1);
    assert_int_equal(count_files(test_plans, ""), 1);
    for (int i = 0; i < 2; i++) {
        begin(gpu);
        run_way(0);
        run_way(0);
        expect(LOADED);
        assert_int_equal(refused + written, 0);
    }
    assert_int_equal(count_files(test_plans, ""), 1);
}

static void what_only_the_tuner_ran_is_not_kept(void **state)
{
    (void)state;
    need_ways(1);
    run_conv(&conv, 0, false);
    assert_int_equal(count_files(test_plans, ""), 0);
    run_conv(&conv, 0, true); /* it was chosen */
    expect(COMPILED);
    assert_int_equal(count_files(test_plans, ""), 1);
    begin(gpu);
    run_conv(&conv, 0, false);
    expect(LOADED);
}

static void without_a_folder_nothing_is_kept(void **state)
{
    (void)state;
    need_ways(1);
    for (int i = 0; i < 2; i++) {
        begin(gpu);
        memset(&libs.store, 0, sizeof libs.store);
        run_way(0);
        expect(COMPILED);
    }
    assert_int_equal(count_files(test_plans, ""), 0);
}

static void another_device_version_or_shape_is_another_plan(void **state)
{
    (void)state;
    need_ways(2);
    struct ldk_conv other = conv;
    run_way(0);
    begin("a Hopper, sm 90, 132 multiprocessors, driver 13010");
    run_way(0);
    expect(COMPILED);
    begin(gpu);
    libs.info.cudnn++;
    run_way(0);
    expect(COMPILED);
    libs.info.cudnn--;
    begin(gpu);
    run_way(1);
    expect(COMPILED);
    begin(gpu);
    other.batch = 3;
    run_conv(&other, 0, true);
    expect(COMPILED);
    begin(gpu);
    other = conv;
    other.residual = NULL;
    run_conv(&other, 0, true);
    expect(COMPILED);
    assert_int_equal(count_files(test_plans, ""), 6);
}

/* What stands in the file of way 0 from here on: a sound file, whatever it says. */
static void forge(const char *key, struct ld_span plan)
{
    ldk_plan_store_write(&libs.store, key, plan);
}

/* Way 0 does not come from its file, but is compiled and replaces it. */
static void check_replaced(int what)
{
    begin(gpu);
    run_way(0);
    expect(what);
    assert_int_equal(count_files(test_plans, ""), 1);
    begin(gpu);
    run_way(0);
    expect(LOADED);
}

static void what_cudnn_does_not_take_is_compiled(void **state)
{
    (void)state;
    need_ways(1);
    static const char *const texts[] = {"{}", "no JSON", "{\"cudnnVersion\":91900}"};
    char path[PATH_SIZE];
    char key[LDK_PLAN_KEY_SIZE];
    run_way(0);
    assert_int_equal(find_file(NULL, path), 1);
    key_of(path, key);
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        forge(key, ld_span_text(texts[i]));
        check_replaced(LOADED | COMPILED);
    }
    FILE *file = fopen(path, "r+b"); /* cuDNN would take it: a byte of the code itself */
    assert_non_null(file);
    assert_int_equal(fseek(file, -2000, SEEK_END), 0);
    const int was = fgetc(file);
    assert_int_equal(fseek(file, -2000, SEEK_END), 0);
    assert_int_equal(fputc(was == 'A' ? 'B' : 'A', file), was == 'A' ? 'B' : 'A');
    assert_int_equal(fclose(file), 0);
    check_replaced(COMPILED);
}

static void other_knobs_than_asked_for_are_compiled(void **state)
{
    (void)state;
    need_ways(2);
    struct ld_buffer file = ld_buffer_make(LDK_PLAN_FILE_BYTES_MAX);
    struct ld_span plan;
    char path[PATH_SIZE];
    char other_path[PATH_SIZE];
    char key[LDK_PLAN_KEY_SIZE];
    char other_key[LDK_PLAN_KEY_SIZE];
    run_way(0);
    assert_int_equal(find_file(NULL, path), 1);
    run_way(1);
    assert_int_equal(find_file(path, other_path), 1);
    key_of(path, key);
    key_of(other_path, other_key);
    assert_true(ldk_plan_store_read(&libs.store, other_key, &file, &plan));
    forge(key, plan);
    ld_buffer_deinit(&file);
    assert_int_equal(unlink(other_path), 0);
    check_replaced(LOADED | COMPILED);
}

/* Whether cuDNN has an engine of that number is its own affair. */
static void another_engine_than_asked_for_is_not_taken(void **state)
{
    (void)state;
    need_ways(1);
    struct ld_buffer file = ld_buffer_make(LDK_PLAN_FILE_BYTES_MAX);
    struct ld_span plan;
    char path[PATH_SIZE];
    char key[LDK_PLAN_KEY_SIZE];
    run_way(0);
    assert_int_equal(find_file(NULL, path), 1);
    key_of(path, key);
    assert_true(ldk_plan_store_read(&libs.store, key, &file, &plan));
    char *engine = strstr(key, "cudnn:");
    assert_non_null(engine);
    engine += strlen("cudnn:");
    *engine = *engine == '7' ? '6' : '7';
    ways[0].name[strlen("cudnn:")] = *engine;
    forge(key, plan);
    ld_buffer_deinit(&file);
    begin(gpu);
    (void)ldk_libs_conv(&libs, &ways[0], &conv, (ldk_stream)(void *)memory);
    assert_int_equal(loaded, 1);
    assert_true(executions == 0 || compiled == 1);
}

static void a_loaded_plan_may_not_want_more_memory(void **state)
{
    (void)state;
    need_ways(1);
    run_way(0);
    more_workspace = (int64_t)LDK_LIBS_WORKSPACE_BYTES + 1;
    begin(gpu);
    run_way(0);
    expect(LOADED | COMPILED);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, open_folder, close_folder)
    const struct CMUnitTest tests[] = {
        TEST(a_compiled_plan_is_loaded_by_the_next_process),
        TEST(what_only_the_tuner_ran_is_not_kept),
        TEST(without_a_folder_nothing_is_kept),
        TEST(another_device_version_or_shape_is_another_plan),
        TEST(what_cudnn_does_not_take_is_compiled),
        TEST(other_knobs_than_asked_for_are_compiled),
        TEST(another_engine_than_asked_for_is_not_taken),
        TEST(a_loaded_plan_may_not_want_more_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#else

static void cudnn_is_not_here(void **state)
{
    (void)state;
    print_message("needs cudnn_graph.h of cuDNN 9.8 or newer\n");
    skip();
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(cudnn_is_not_here)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#endif
