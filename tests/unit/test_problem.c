/*
 * Proves that each error code has one HTTP status and that problem documents are valid RFC 9457
 * JSON with everything that was refused. Works on all codes and on documents read back with
 * jansson.
 */
#include "api/problem.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static struct ld_arena arena;

static int open_arena(void **state)
{
    (void)state;
    ld_arena_init(&arena, "test", 1 << 20);
    return 0;
}

static int close_arena(void **state)
{
    (void)state;
    ld_arena_deinit(&arena);
    return 0;
}

static const char *text_of(json_t *document, const char *key)
{
    return json_string_value(json_object_get(document, key));
}

static void every_code_has_a_status_with_a_title(void **state)
{
    (void)state;
    for (int code = LD_OK + 1; code < LD_CODE_COUNT; code++) {
        struct ld_problem problem;
        const int status = ld_code_status((enum ld_code)code);
        assert_in_range(status, 400, 599);
        assert_string_not_equal(ld_status_title(status), "Error");
        ld_problem_init(&problem, &arena);
        problem.code = (enum ld_code)code;
        assert_true(ld_problem_name(&problem)[0] != '\0');
    }
    static const struct {
        enum ld_code code;
        int status;
        const char *name;
    } cases[] = {
        {LD_E_FORMAT, 400, "malformed"},      {LD_E_AUTH, 401, "unauthorized"},
        {LD_E_FORBIDDEN, 403, "forbidden"},   {LD_E_NOT_FOUND, 404, "not_found"},
        {LD_E_CONFLICT, 409, "conflict"},     {LD_E_TOO_LARGE, 413, "too_large"},
        {LD_E_RANGE, 422, "invalid"},         {LD_E_UNSUPPORTED, 422, "unsupported"},
        {LD_E_QUEUE_FULL, 429, "queue_full"}, {LD_E_BUG, 500, "internal"},
        {LD_E_NOMEM, 503, "out_of_memory"},   {LD_E_DRAINING, 503, "draining"},
        {LD_E_NOSPACE, 507, "storage_full"},  {LD_E_GPU_NOMEM, 507, "gpu_out_of_memory"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct ld_problem problem;
        ld_problem_init(&problem, &arena);
        problem.code = cases[i].code;
        assert_int_equal(ld_problem_status(&problem), cases[i].status);
        assert_string_equal(ld_problem_name(&problem), cases[i].name);
    }
}

static void documents_list_every_refusal(void **state)
{
    (void)state;
    struct ld_problem problem;
    struct ld_error err = {0};
    struct ld_buffer out = ld_buffer_make(65536);
    ld_problem_init(&problem, &arena);
    assert_int_equal(
        ld_problem_add(&problem, LD_E_RANGE, "/steps", "steps must be at most %d", 150),
        LD_E_RANGE);
    LD_FAIL(&err, LD_E_INVALID, "a \"quoted\"\nname \x01\xFF");
    ld_error_at(&err, "/loras/%d/name", 0);
    assert_int_equal(ld_problem_add_error(&problem, NULL, &err), LD_E_INVALID);
    ld_problem_write(&problem, "/v1/jobs", &out);
    json_t *document = json_loadb(out.data, out.size, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(document);
    assert_string_equal(text_of(document, "type"), "urn:latentd:problem:invalid");
    assert_string_equal(text_of(document, "title"), "Unprocessable Content");
    assert_string_equal(text_of(document, "detail"), "steps must be at most 150");
    assert_string_equal(text_of(document, "instance"), "/v1/jobs");
    assert_int_equal(json_integer_value(json_object_get(document, "status")), 422);
    json_t *errors = json_object_get(document, "errors");
    assert_int_equal(json_array_size(errors), 2);
    assert_string_equal(text_of(json_array_get(errors, 1), "pointer"), "/loras/0/name");
    assert_string_equal(text_of(json_array_get(errors, 1), "message"),
                        "a \"quoted\"\nname \x01\xEF\xBF\xBD");
    json_decref(document);
    ld_buffer_deinit(&out);
}

static void an_arena_without_room_still_tells_the_first_sentence(void **state)
{
    (void)state;
    struct ld_arena none = {0};
    struct ld_problem problem;
    struct ld_buffer out = ld_buffer_make(4096);
    ld_problem_init(&problem, &none);
    ld_problem_add(&problem, LD_E_NOMEM, "", "out of memory");
    assert_int_equal(problem.dropped, 1);
    ld_problem_write(&problem, NULL, &out);
    json_t *document = json_loadb(out.data, out.size, 0, NULL);
    assert_string_equal(text_of(document, "detail"), "out of memory");
    assert_null(json_object_get(document, "errors"));
    assert_null(json_object_get(document, "instance"));
    json_decref(document);
    ld_buffer_deinit(&out);
}

static void retries_are_advised_where_they_help(void **state)
{
    (void)state;
    static const struct {
        enum ld_code code;
        bool retry;
    } cases[] = {{LD_E_QUEUE_FULL, true}, {LD_E_RATE, true},    {LD_E_DRAINING, true},
                 {LD_E_NOMEM, true},      {LD_E_NOSPACE, true}, {LD_E_GPU_NOMEM, false},
                 {LD_E_INVALID, false},   {LD_E_BUG, false}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct ld_problem problem;
        ld_problem_init(&problem, &arena);
        problem.code = cases[i].code;
        assert_int_equal(ld_problem_retry_after(&problem) > 0, cases[i].retry);
        problem.retry_after_s = 77;
        assert_int_equal(ld_problem_retry_after(&problem), 77);
    }
}

static void job_errors_and_overrides_have_their_statuses(void **state)
{
    (void)state;
    struct ld_buffer out = ld_buffer_make(4096);
    struct ld_problem problem;
    assert_int_equal(ld_job_error_status("worker_crash"), 500);
    assert_int_equal(ld_job_error_status("storage_full"), 507);
    assert_int_equal(ld_job_error_status("gpu_out_of_memory"), 503);
    assert_int_equal(ld_job_error_status("expired"), 410);
    assert_int_equal(ld_job_error_status("something new"), 500);
    ld_problem_write_job_error("worker_crash", "the worker died", "/v1/jobs/x", &out);
    assert_string_equal(
        out.data, "{\"type\":\"urn:latentd:problem:worker_crash\",\"title\":\"Internal Server "
                  "Error\",\"status\":500,\"detail\":\"the worker died\","
                  "\"instance\":\"/v1/jobs/x\"}");
    ld_problem_init(&problem, &arena);
    ld_problem_add(&problem, LD_E_INVALID, "", "no such method here");
    problem.status = 405;
    problem.name = "method_not_allowed";
    assert_int_equal(ld_problem_status(&problem), 405);
    assert_string_equal(ld_problem_name(&problem), "method_not_allowed");
    ld_buffer_deinit(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_code_has_a_status_with_a_title, open_arena,
                                        close_arena),
        cmocka_unit_test_setup_teardown(documents_list_every_refusal, open_arena, close_arena),
        cmocka_unit_test_setup_teardown(an_arena_without_room_still_tells_the_first_sentence,
                                        open_arena, close_arena),
        cmocka_unit_test_setup_teardown(retries_are_advised_where_they_help, open_arena,
                                        close_arena),
        cmocka_unit_test_setup_teardown(job_errors_and_overrides_have_their_statuses, open_arena,
                                        close_arena),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
