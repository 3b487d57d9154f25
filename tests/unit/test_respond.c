/*
 * Proves that replies are valid JSON with the members api.md names, and that absent ones are
 * absent. Works on hand-made values read back with jansson, and on the embedded OpenAPI document.
 */
#include "api/base64.h"
#include "api/respond.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static struct ld_buffer out;

static int open_buffer(void **state)
{
    (void)state;
    out = ld_buffer_make(1 << 20);
    return 0;
}

static int close_buffer(void **state)
{
    (void)state;
    ld_buffer_deinit(&out);
    return 0;
}

static json_t *parsed(void)
{
    json_error_t where;
    json_t *document = json_loadb(out.data, out.size, JSON_REJECT_DUPLICATES, &where);
    if (!document)
        fail_msg("%s: %s", where.text, out.data);
    return document;
}

static json_int_t integer_of(json_t *document, const char *key)
{
    assert_true(json_is_integer(json_object_get(document, key)));
    return json_integer_value(json_object_get(document, key));
}

static const char *text_of(json_t *document, const char *key)
{
    assert_true(json_is_string(json_object_get(document, key)));
    return json_string_value(json_object_get(document, key));
}

static struct ld_job_view finished_job(const struct ld_image_view *images)
{
    const struct ld_job_view job = {
        .id = "0123456789abcdefghijklmnop",
        .status = LD_JOB_SUCCEEDED,
        .created_us = INT64_C(1764077400123456),
        .started_us = INT64_C(1764077401000000),
        .finished_us = INT64_C(1764077402999999),
        .position = -1,
        .eta_ms = -1,
        .progress = {0, 1, 28, 28, 1.0, "done"},
        .request_json = "{\"prompt\":\"a\"}",
        .images = images,
        .image_count = 2,
        .timings = {5, 1.5, 1000, 20, 3, -1},
        .unet_rows = 56,
        .warnings_json = "[\"w\"]",
        .numerics_json = "{\"precision\":\"fp16\"}",
        .repainted = 1,
    };
    return job;
}

static void a_finished_job_says_all_and_nothing_more(void **state)
{
    (void)state;
    const struct ld_image_view images[2] = {
        {.index = 0, .width = 64, .height = 72, .seed = 5, .sha256 = "aa", .bytes = 100},
        {.index = 1, .width = 64, .height = 72, .seed = UINT64_MAX, .bytes = 1, .partial = true},
    };
    const struct ld_job_view job = finished_job(images);
    ld_respond_job(&job, &out);
    json_t *document = parsed();
    assert_string_equal(text_of(document, "status"), "succeeded");
    assert_string_equal(text_of(document, "created_at"), "2025-11-25T13:30:00.123Z");
    assert_string_equal(text_of(document, "finished_at"), "2025-11-25T13:30:02.999Z");
    assert_null(json_object_get(document, "position"));
    assert_null(json_object_get(document, "eta_ms"));
    assert_null(json_object_get(document, "error"));
    assert_string_equal(text_of(json_object_get(document, "request"), "prompt"), "a");
    json_t *list = json_object_get(document, "images");
    assert_int_equal(json_array_size(list), 2);
    assert_string_equal(text_of(json_array_get(list, 0), "url"),
                        "/v1/jobs/0123456789abcdefghijklmnop/images/0");
    assert_int_equal(integer_of(json_array_get(list, 0), "seed"), 5);
    assert_null(json_object_get(json_array_get(list, 0), "partial"));
    assert_string_equal(text_of(json_array_get(list, 1), "seed"), "18446744073709551615");
    assert_true(json_is_true(json_object_get(json_array_get(list, 1), "partial")));
    json_t *timings = json_object_get(document, "timings");
    assert_int_equal(json_object_size(timings), 5); /* gpu_ms is not known */
    assert_int_equal(integer_of(timings, "queue_ms"), 5);
    assert_int_equal(json_array_size(json_object_get(document, "warnings")), 1);
    assert_int_equal(json_array_size(json_object_get(document, "adapters")), 0);
    assert_string_equal(text_of(json_object_get(document, "numerics"), "precision"), "fp16");
    assert_int_equal(integer_of(document, "repainted"), 1);
    assert_string_equal(text_of(json_object_get(document, "links"), "cancel"),
                        "/v1/jobs/0123456789abcdefghijklmnop/cancel");
    json_decref(document);
}

static void a_failed_and_a_waiting_job_differ_in_their_parts(void **state)
{
    (void)state;
    struct ld_job_view job = finished_job(NULL);
    job.image_count = 0;
    job.status = LD_JOB_FAILED;
    job.error_code = "worker_crash";
    job.error_detail = "the worker died";
    ld_respond_job(&job, &out);
    json_t *document = parsed();
    assert_string_equal(text_of(json_object_get(document, "error"), "code"), "worker_crash");
    json_decref(document);
    ld_buffer_clear(&out);
    job.status = LD_JOB_QUEUED;
    job.error_code = NULL;
    job.started_us = job.finished_us = 0;
    job.position = 0;
    job.eta_ms = 1500;
    const struct ld_job_view jobs[2] = {job, job};
    ld_respond_jobs(jobs, 2, "c2", &out);
    document = parsed();
    assert_int_equal(json_array_size(json_object_get(document, "jobs")), 2);
    assert_string_equal(text_of(document, "next"), "c2");
    json_t *first = json_array_get(json_object_get(document, "jobs"), 0);
    assert_int_equal(integer_of(first, "position"), 0);
    assert_int_equal(integer_of(first, "eta_ms"), 1500);
    assert_null(json_object_get(first, "started_at"));
    json_decref(document);
    ld_buffer_clear(&out);
    ld_respond_jobs(NULL, 0, NULL, &out);
    assert_string_equal(out.data, "{\"jobs\":[]}");
}

static void statuses_have_their_names(void **state)
{
    (void)state;
    for (int i = 0; i < LD_JOB_STATUS_COUNT; i++) {
        enum ld_job_status back;
        assert_true(ld_job_status_find(ld_job_status_name((enum ld_job_status)i), &back));
        assert_int_equal(back, i);
    }
    enum ld_job_status unused;
    assert_false(ld_job_status_find("done", &unused));
    assert_true(ld_job_status_is_final(LD_JOB_CANCELLED));
    assert_false(ld_job_status_is_final(LD_JOB_CANCELLING));
}

static void lists_split_aliases_and_leave_out_what_is_empty(void **state)
{
    (void)state;
    const struct ld_sampler_view sampler = {.name = "euler_ancestral",
                                            .label = "Euler a",
                                            .aliases = "k_euler_a, Euler \"a\" ,,EulerA",
                                            .evals_per_step = 1,
                                            .ancestral = true};
    ld_respond_samplers(&sampler, 1, &out);
    json_t *document = parsed();
    json_t *item = json_array_get(json_object_get(document, "samplers"), 0);
    assert_int_equal(json_array_size(json_object_get(item, "aliases")), 3);
    assert_null(json_object_get(item, "hint"));
    json_decref(document);
    ld_buffer_clear(&out);
    const struct ld_model_view model = {.name = "demo", .created_us = 1000000, .is_default = true};
    ld_respond_models(&model, 1, &out);
    document = parsed();
    item = json_array_get(json_object_get(document, "data"), 0);
    assert_string_equal(text_of(document, "object"), "list");
    assert_string_equal(text_of(item, "id"), "demo");
    assert_int_equal(integer_of(item, "created"), 1);
    json_decref(document);
    ld_buffer_clear(&out);
    const char *words[] = {"ink", "wash"};
    const struct ld_adapter_view adapter = {
        .name = "x", .kind = "lora", .rank = 8, .trigger_words = words, .trigger_word_count = 2};
    ld_respond_adapters(&adapter, 1, &out);
    json_decref(parsed());
    ld_buffer_clear(&out);
    const struct ld_embedding_view embedding = {.name = "e", .vectors = 4, .width = 768};
    ld_respond_embeddings(&embedding, 1, &out);
    json_decref(parsed());
    ld_buffer_clear(&out);
    const struct ld_controlnet_view controlnets[] = {{"canny", "", 0}, {"v1/depth", "ab", 7}};
    ld_respond_controlnets(controlnets, 2, &out);
    assert_string_equal(out.data, "{\"controlnets\":[{\"name\":\"canny\",\"bytes\":0},"
                                  "{\"name\":\"v1/depth\",\"sha256\":\"ab\",\"bytes\":7}]}");
    ld_buffer_clear(&out);
    const struct ld_size_view size = {832, 1216, ""};
    ld_respond_resolutions(&size, 1, &out);
    assert_string_equal(out.data, "{\"resolutions\":[{\"size\":\"832x1216\",\"width\":832,"
                                  "\"height\":1216}]}");
    ld_buffer_clear(&out);
    const struct ld_scheduler_view scheduler = {"karras", "Karras", "", ""};
    ld_respond_schedulers(&scheduler, 1, &out);
    json_decref(parsed());
    ld_buffer_clear(&out);
    const struct ld_upload_view upload = {"0123456789abcdefghijklmnop", "aa", 10, 20};
    ld_respond_upload(&upload, &out);
    json_decref(parsed());
}

static void a_plan_takes_in_what_the_engine_says(void **state)
{
    (void)state;
    const struct ld_plan_view plan = {.request_json = "{}",
                                      .engine_json = "{\"seconds\":1.5,\"tokens\":[3]}",
                                      .work_units = 7,
                                      .queue_eta_ms = -1};
    ld_respond_plan(&plan, &out);
    assert_string_equal(out.data, "{\"work_units\":7,\"request\":{},\"seconds\":1.5,"
                                  "\"tokens\":[3],\"warnings\":[]}");
    ld_buffer_clear(&out);
    const struct ld_plan_view empty = {.engine_json = "{}", .queue_eta_ms = 9};
    ld_respond_plan(&empty, &out);
    json_t *document = parsed();
    assert_int_equal(integer_of(document, "queue_eta_ms"), 9);
    json_decref(document);
}

static void events_are_single_lines_with_their_parts(void **state)
{
    (void)state;
    const struct ld_progress_view progress = {0, 1, 3, 28, 0.107, "sample"};
    struct ld_buffer json = ld_buffer_make(4096);
    ld_respond_event_progress("j", &progress, 900, &json);
    ld_respond_event(12, "progress", json.data, &out);
    assert_int_equal(strncmp(out.data, "id: 12\nevent: progress\ndata: {\"job\":\"j\"", 36), 0);
    assert_non_null(strstr(out.data, "\"fraction\":0.107"));
    assert_ptr_equal(strchr(strstr(out.data, "data: "), '\n'), out.data + out.size - 2);
    ld_buffer_clear(&out);
    ld_respond_event_preview("j", 0, 3, "image/jpeg", ld_span_text("\x89PNG"), &out);
    json_t *document = parsed();
    assert_string_equal(text_of(document, "base64"), "iVBORw==");
    assert_string_equal(text_of(document, "type"), "image/jpeg");
    json_decref(document);
    ld_buffer_clear(&out);
    ld_respond_event_status("j", LD_JOB_RUNNING, -1, &out);
    assert_string_equal(out.data, "{\"job\":\"j\",\"status\":\"running\"}");
    ld_buffer_clear(&out);
    const struct ld_image_view image = {.index = 2, .seed = 7};
    ld_respond_event_image("j", &image, &out);
    json_decref(parsed());
    ld_buffer_deinit(&json);
}

static void times_before_and_after_the_epoch_are_written(void **state)
{
    (void)state;
    char text[40];
    ld_time_text(0, text, sizeof text);
    assert_string_equal(text, "1970-01-01T00:00:00.000Z");
    ld_time_text(-1, text, sizeof text);
    assert_string_equal(text, "1969-12-31T23:59:59.999Z");
    ld_time_text(INT64_C(1709210096789000), text, sizeof text);
    assert_string_equal(text, "2024-02-29T12:34:56.789Z");
}

/* Every $ref leads somewhere and every operation can be named. */
static void check_references(json_t *value, json_t *document)
{
    json_t *pending[4096];
    size_t count = 0;
    pending[count++] = value;
    while (count > 0) {
        json_t *item = pending[--count];
        const char *key;
        json_t *child;
        size_t index;
        json_object_foreach(item, key, child)
        {
            if (strcmp(key, "$ref") == 0) {
                char path[128];
                json_t *target = document;
                (void)ld_fmt(path, sizeof path, "%s", json_string_value(child) + 2);
                for (char *part = path, *slash; part; part = slash) {
                    slash = strchr(part, '/');
                    if (slash)
                        *slash++ = '\0';
                    target = json_object_get(target, part);
                }
                if (!target)
                    fail_msg("%s leads nowhere", json_string_value(child));
            }
            assert_true(count < 4096);
            pending[count++] = child;
        }
        json_array_foreach(item, index, child)
        {
            assert_true(count < 4096);
            pending[count++] = child;
        }
    }
}

static void the_contract_is_embedded_and_consistent(void **state)
{
    (void)state;
    const struct ld_span text = ld_openapi_document();
    json_t *document = json_loadb((const char *)text.data, text.size, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(document);
    assert_string_equal(text_of(document, "openapi"), "3.1.0");
    static const char *const routes[] = {"/v1/jobs",
                                         "/v1/jobs/{id}",
                                         "/v1/jobs/{id}/events",
                                         "/v1/jobs/{id}/cancel",
                                         "/v1/jobs/{id}/images/{n}",
                                         "/v1/images",
                                         "/v1/models",
                                         "/v1/adapters",
                                         "/v1/embeddings",
                                         "/v1/controlnets",
                                         "/v1/samplers",
                                         "/v1/schedulers",
                                         "/v1/resolutions",
                                         "/v1/plan",
                                         "/v1/png-info",
                                         "/v1/replay",
                                         "/v1/prompt/parse",
                                         "/healthz",
                                         "/readyz",
                                         "/openapi.json"};
    for (size_t i = 0; i < sizeof routes / sizeof routes[0]; i++)
        if (!json_object_get(json_object_get(document, "paths"), routes[i]))
            fail_msg("%s is missing", routes[i]);
    check_references(document, document);
    json_t *steps = json_object_get(document, "components");
    steps = json_object_get(json_object_get(steps, "schemas"), "Request");
    steps = json_object_get(json_object_get(steps, "properties"), "steps");
    assert_int_equal(integer_of(steps, "maximum"), 150);
    json_decref(document);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_finished_job_says_all_and_nothing_more, open_buffer,
                                        close_buffer),
        cmocka_unit_test_setup_teardown(a_failed_and_a_waiting_job_differ_in_their_parts,
                                        open_buffer, close_buffer),
        cmocka_unit_test(statuses_have_their_names),
        cmocka_unit_test_setup_teardown(lists_split_aliases_and_leave_out_what_is_empty,
                                        open_buffer, close_buffer),
        cmocka_unit_test_setup_teardown(a_plan_takes_in_what_the_engine_says, open_buffer,
                                        close_buffer),
        cmocka_unit_test_setup_teardown(events_are_single_lines_with_their_parts, open_buffer,
                                        close_buffer),
        cmocka_unit_test(times_before_and_after_the_epoch_are_written),
        cmocka_unit_test(the_contract_is_embedded_and_consistent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
