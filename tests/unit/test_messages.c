/*
 * Proves that each message comes back as it was written and that cut, padded or impossible payloads
 * are refused. Round-trips every message, then tries every prefix and a trailing byte of each.
 */
#include "runtime/ipc/messages.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

/* The start of a 16x8 RGB8 picture and one more byte: all that the decoder looks at. */
static const uint8_t png[] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1A, '\n', 0,    0, 0, 13,
                              'I',  'H', 'D', 'R', 0,    0,    0,    16,   0,    0, 0, 8,
                              8,    2,   0,   0,   0,    0x7F, 0x14, 0xE8, 0xC0, 5};

#define ROUND_TRIP(name, in, out)                                                                  \
    do {                                                                                           \
        struct ld_buffer bytes = ld_buffer_make(1 << 20);                                          \
        ld_message_##name##_encode(&bytes, &(in));                                                 \
        assert_false(bytes.failed);                                                                \
        memcpy(storage, bytes.data, bytes.size);                                                   \
        for (size_t cut = 0; cut < bytes.size; cut++)                                              \
            assert_int_equal(ld_message_##name##_decode(&(out), ld_span_of(storage, cut), NULL),   \
                             LD_E_FORMAT);                                                         \
        storage[bytes.size] = 0;                                                                   \
        assert_int_equal(                                                                          \
            ld_message_##name##_decode(&(out), ld_span_of(storage, bytes.size + 1), NULL),         \
            LD_E_FORMAT);                                                                          \
        assert_int_equal(                                                                          \
            ld_message_##name##_decode(&(out), ld_span_of(storage, bytes.size), NULL), LD_OK);     \
        ld_buffer_deinit(&bytes);                                                                  \
    } while (0)

#define REFUSED(name, in, out)                                                                     \
    do {                                                                                           \
        struct ld_buffer bytes = ld_buffer_make(1 << 20);                                          \
        ld_message_##name##_encode(&bytes, &(in));                                                 \
        assert_int_equal(                                                                          \
            ld_message_##name##_decode(&(out), ld_span_of(bytes.data, bytes.size), NULL),          \
            LD_E_FORMAT);                                                                          \
        ld_buffer_deinit(&bytes);                                                                  \
    } while (0)

static uint8_t storage[4096];

static void worker_messages_round_trip(void **state)
{
    (void)state;
    const struct ld_message_hello hello = {8, ld_span_text("{\"models\":[]}")};
    struct ld_message_hello hello2;
    ROUND_TRIP(hello, hello, hello2);
    assert_int_equal(hello2.jobs_max, 8);
    assert_true(ld_span_equal(hello2.inventory, hello.inventory));

    const struct ld_message_heartbeat beat = {UINT64_MAX, 3};
    struct ld_message_heartbeat beat2;
    ROUND_TRIP(heartbeat, beat, beat2);
    assert_true(beat2.activity == UINT64_MAX && beat2.jobs == 3);

    const struct ld_message_progress progress = {ld_span_text("sample"), 1, 4, 7, 28, 0.3125};
    struct ld_message_progress progress2;
    ROUND_TRIP(progress, progress, progress2);
    assert_true(ld_span_is(progress2.phase, "sample"));
    assert_int_equal(progress2.image, 1);
    assert_int_equal(progress2.images, 4);
    assert_int_equal(progress2.step, 7);
    assert_int_equal(progress2.steps, 28);
    assert_true(progress2.fraction == 0.3125);

    const struct ld_message_image image = {2, UINT64_MAX, 16, 8, true, ld_span_of(png, sizeof png)};
    struct ld_message_image image2;
    ROUND_TRIP(image, image, image2);
    assert_true(image2.index == 2 && image2.seed == UINT64_MAX && image2.partial);
    assert_true(ld_span_equal(image2.file, image.file));

    const struct ld_message_done done = {LD_E_CANCELLED,
                                         ld_span_text("cancelled"),
                                         1,
                                         2,
                                         3,
                                         4,
                                         5,
                                         6,
                                         ld_span_text("[\"w\"]"),
                                         ld_span_text(""),
                                         ld_span_text("{\"seed\": 1}"),
                                         ld_span_text("{\"backend\": \"cpu\"}"),
                                         2};
    struct ld_message_done done2;
    ROUND_TRIP(done, done, done2);
    assert_int_equal(done2.code, LD_E_CANCELLED);
    assert_true(done2.text_us == 1 && done2.sample_us == 2 && done2.decode_us == 3 &&
                done2.encode_us == 4 && done2.unet_rows == 5 && done2.unet_rows_saved == 6);
    assert_true(ld_span_is(done2.warnings, "[\"w\"]") && done2.adapters.size == 0);
    assert_true(ld_span_is(done2.resolved, "{\"seed\": 1}"));
    assert_true(ld_span_is(done2.numerics, "{\"backend\": \"cpu\"}") && done2.repainted == 2);

    const struct ld_message_plan_answer plan = {LD_OK, ld_span_text(""), ld_span_text("{}")};
    struct ld_message_plan_answer plan2;
    ROUND_TRIP(plan_answer, plan, plan2);
    assert_true(ld_span_is(plan2.plan, "{}"));

    const struct ld_message_fault fault = {LD_E_DEVICE, ld_span_text("the device was lost")};
    struct ld_message_fault fault2;
    ROUND_TRIP(fault, fault, fault2);
    assert_int_equal(fault2.code, LD_E_DEVICE);
}

static void counts_round_trip_and_stay_within_their_table(void **state)
{
    (void)state;
    static struct ld_message_stats stats;
    static struct ld_message_stats stats2;
    stats.count = 3;
    stats.values[0] = 1;
    stats.values[2] = UINT64_MAX;
    ROUND_TRIP(stats, stats, stats2);
    assert_int_equal(stats2.count, 3);
    assert_true(stats2.values[2] == UINT64_MAX);
    stats.count = LD_MESSAGE_STATS_MAX + 1;
    REFUSED(stats, stats, stats2);
}

static void front_messages_round_trip(void **state)
{
    (void)state;
    const struct ld_message_job job = {
        .request = ld_span_text("{\"prompt\":\"a\"}"),
        .init_image = ld_span_of(png, 5),
        .control_images = {ld_span_of(png, 0), ld_span_of(png, 7), ld_span_of(png + 7, 9)},
        .share = 7};
    struct ld_message_job job2;
    ROUND_TRIP(job, job, job2);
    assert_true(ld_span_equal(job2.request, job.request));
    assert_true(ld_span_equal(job2.init_image, job.init_image));
    assert_int_equal(job2.init_mask.size, 0);
    for (size_t i = 0; i < LD_CONTROLS_MAX; i++) /* each at its unit's place */
        assert_true(ld_span_equal(job2.control_images[i], job.control_images[i]));
    assert_int_equal(job2.share, 7);
    const struct ld_message_cancel cancel = {true};
    struct ld_message_cancel cancel2;
    ROUND_TRIP(cancel, cancel, cancel2);
    assert_true(cancel2.keep_partial);
    const struct ld_message_sheet sheet = {ld_span_text("{\"sweep\":{}}"), 64, 4096, 8};
    struct ld_message_sheet sheet2;
    ROUND_TRIP(sheet, sheet, sheet2);
    assert_true(ld_span_equal(sheet2.request, sheet.request));
    assert_true(sheet2.cells == 64 && sheet2.width == 4096 && sheet2.height == 8);
    const struct ld_message_cell cell = {63, ld_span_of(png, sizeof png)};
    struct ld_message_cell cell2;
    ROUND_TRIP(cell, cell, cell2);
    assert_true(cell2.index == 63 && ld_span_equal(cell2.file, cell.file));
    const struct ld_message_model model = {LD_MODEL_FIND, ld_span_text("a/b")};
    struct ld_message_model model2;
    ROUND_TRIP(model, model, model2);
    assert_true(model2.order == LD_MODEL_FIND && ld_span_equal(model2.name, model.name));
    const struct ld_message_model scan = {LD_MODEL_RESCAN, ld_span_text("")};
    ROUND_TRIP(model, scan, model2);
    assert_true(model2.order == LD_MODEL_RESCAN && model2.name.size == 0);
}

static void impossible_values_are_refused(void **state)
{
    (void)state;
    struct ld_message_progress progress = {ld_span_text("sample"), 0, 1, 1, 2, 0.5};
    struct ld_message_progress progress2;
    struct ld_message_model model = {LD_MODEL_ORDER_END, ld_span_text("a")};
    struct ld_message_model model2;
    REFUSED(model, model, model2);
    static const double fractions[] = {-0.1, 1.1, (double)NAN, (double)INFINITY};
    for (size_t i = 0; i < 4; i++) {
        progress.fraction = fractions[i];
        REFUSED(progress, progress, progress2);
    }
    progress.fraction = 0.5;
    progress.step = 3;
    REFUSED(progress, progress, progress2);

    static const struct ld_message_sheet sheets[] = {
        {{(const uint8_t *)"{}", 2}, 0, 8, 8},    {{(const uint8_t *)"{}", 2}, 65, 8, 8},
        {{(const uint8_t *)"{}", 2}, 1, 0, 8},    {{(const uint8_t *)"{}", 2}, 1, 4097, 8},
        {{(const uint8_t *)"{}", 2}, 1, 8, 4097}, {{(const uint8_t *)"[]", 2}, 1, 8, 8}};
    struct ld_message_sheet sheet2;
    for (size_t i = 0; i < sizeof sheets / sizeof sheets[0]; i++)
        REFUSED(sheet, sheets[i], sheet2);
    const struct ld_message_cell cell = {64, ld_span_of(png, 0)};
    struct ld_message_cell cell2;
    REFUSED(cell, cell, cell2);

    struct ld_message_image image = {0, 1, 16, 8, false, ld_span_of(png, sizeof png)};
    struct ld_message_image image2;
    image.width = 8;
    REFUSED(image, image, image2);
    image.width = 16;
    image.index = 16;
    REFUSED(image, image, image2);
    image.index = 0;
    image.file = ld_span_of(png, 32);
    REFUSED(image, image, image2);
    image.file = ld_span_text("GIF89a..............................................");
    REFUSED(image, image, image2);

    struct ld_message_done done = {.code = LD_OK, .warnings = ld_span_text("{}")};
    struct ld_message_done done2;
    REFUSED(done, done, done2);
    done.warnings = ld_span_text("[1");
    REFUSED(done, done, done2);
    done.warnings = ld_span_text("[] []");
    REFUSED(done, done, done2);
    done.warnings = ld_span_text("");
    done.code = (enum ld_code)LD_CODE_COUNT;
    REFUSED(done, done, done2);

    struct ld_message_hello hello = {0, ld_span_text("{}")};
    struct ld_message_hello hello2;
    REFUSED(hello, hello, hello2);
    hello.jobs_max = 1;
    hello.inventory = ld_span_text("");
    REFUSED(hello, hello, hello2);
    const struct ld_message_plan_answer plan = {.code = LD_OK};
    struct ld_message_plan_answer plan2;
    REFUSED(plan_answer, plan, plan2);
}

static void honest_errors_never_look_malformed(void **state)
{
    (void)state;
    static const char *const sentences[] = {"two\nlines", "cut in a letter \xC3", "\x7F", ""};
    char long_one[2000];
    memset(long_one, 'a', sizeof long_one);
    for (size_t i = 0; i < 5; i++) {
        struct ld_message_fault fault = {LD_E_IO, i < 4 ? ld_span_text(sentences[i])
                                                        : ld_span_of(long_one, sizeof long_one)};
        struct ld_buffer bytes = ld_buffer_make(1 << 16);
        ld_message_fault_encode(&bytes, &fault);
        struct ld_message_fault out;
        assert_int_equal(ld_message_fault_decode(&out, ld_span_of(bytes.data, bytes.size), NULL),
                         LD_OK);
        ld_buffer_deinit(&bytes);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(worker_messages_round_trip),
        cmocka_unit_test(counts_round_trip_and_stay_within_their_table),
        cmocka_unit_test(front_messages_round_trip),
        cmocka_unit_test(impossible_values_are_refused),
        cmocka_unit_test(honest_errors_never_look_malformed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
