/*
 * Proves that what is counted comes out as Prometheus' text format says it: buckets that only grow,
 * sums that agree with counts, one head a metric, no text of a request in any line; and that a
 * worker that starts anew takes nothing back.
 */
#include "server/metrics.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct ld_metrics *metrics;
static struct ld_buffer out;
static uint32_t route_count;
static const struct ld_route *routes;

static int begin(void **state)
{
    struct ld_error err = {0};
    (void)state;
    routes = ld_routes(&route_count);
    out = ld_buffer_make(4 << 20);
    return ld_metrics_create(&metrics, routes, route_count, &err) == LD_OK ? 0 : -1;
}

static int end(void **state)
{
    (void)state;
    ld_metrics_destroy(metrics);
    ld_buffer_deinit(&out);
    return 0;
}

/* The value of the line that starts with `start`; fails the test if there is none. */
static double value_of(const char *start)
{
    ld_buffer_clear(&out);
    ld_metrics_write(metrics, &out);
    assert_false(out.failed);
    for (const char *line = out.data; line && *line; line = strchr(line, '\n')) {
        line += *line == '\n' ? 1 : 0;
        if (strncmp(line, start, strlen(start)) == 0 && line[strlen(start)] == ' ')
            return strtod(line + strlen(start), NULL);
    }
    fail_msg("no line %s", start);
    return 0;
}

static void says(const char *start, double value)
{
    assert_true(fabs(value_of(start) - value) < 1e-9);
}

static void replies_are_counted_by_route_and_status(void **state)
{
    (void)state;
    ld_metrics_request(metrics, &routes[0], 202, 4000);
    ld_metrics_request(metrics, &routes[0], 202, 40000);
    ld_metrics_request(metrics, NULL, 404, 10);
    ld_metrics_request(metrics, &routes[0], 299, 10); /* a status that nothing sends */
    says("latentd_http_requests_total{route=\"/v1/jobs\",method=\"POST\","
         "dialect=\"native\",code=\"202\"}",
         2);
    says("latentd_http_requests_total{route=\"none\",method=\"any\","
         "dialect=\"none\",code=\"404\"}",
         1);
    says("latentd_http_requests_total{route=\"/v1/jobs\",method=\"POST\","
         "dialect=\"native\",code=\"0\"}",
         1);
    says("latentd_http_request_duration_seconds_bucket{route=\"/v1/jobs\","
         "method=\"POST\",dialect=\"native\",le=\"0.005\"}",
         2);
    says("latentd_http_request_duration_seconds_count{route=\"/v1/jobs\","
         "method=\"POST\",dialect=\"native\"}",
         3);
}

static void a_worker_that_starts_anew_takes_nothing_back(void **state)
{
    (void)state;
    static uint64_t before[LD_STAT_COUNT];
    static uint64_t now[LD_STAT_COUNT];
    now[LD_STAT_CONTEXT_HITS] = 5;
    ld_metrics_take_stats(metrics, before, now);
    now[LD_STAT_CONTEXT_HITS] = 7;
    ld_metrics_take_stats(metrics, before, now);
    now[LD_STAT_CONTEXT_HITS] = 2; /* a new process */
    ld_metrics_take_stats(metrics, before, now);
    says("latentd_text_contexts_total{result=\"shared\"}", 9);
}

static void passes_are_put_into_their_class(void **state)
{
    (void)state;
    static uint64_t before[LD_STAT_COUNT];
    static uint64_t now[LD_STAT_COUNT];
    ld_stats_read(before);
    ld_stats_pass(64 * 64, 2, 15000);
    ld_stats_pass(104 * 152, 16, 300000);
    ld_stats_pass(4096 * 64, 3, 99000000);
    ld_stats_read(now);
    ld_metrics_take_stats(metrics, before, now);
    says("latentd_denoise_step_seconds_bucket{bucket=\"<=512x512\","
         "batch=\"2\",le=\"0.02\"}",
         1);
    says("latentd_denoise_step_seconds_count{bucket=\"<=1024x1024\","
         "batch=\"<=16\"}",
         1);
    says("latentd_denoise_step_seconds_bucket{bucket=\">1024x1024\","
         "batch=\"<=4\",le=\"5\"}",
         0);
    says("latentd_denoise_step_seconds_sum{bucket=\">1024x1024\","
         "batch=\"<=4\"}",
         99);
    says("latentd_batch_size_sum", 21);
    says("latentd_batch_size_bucket{le=\"4\"}", 2);
}

/* Line by line as a scraper would: a head before its samples, once; buckets never fall. */
static void the_text_is_well_formed(void **state)
{
    (void)state;
    static char heads[64 * 1024];
    double last = -1;
    for (uint32_t i = 0; i < route_count; i++)
        ld_metrics_request(metrics, &routes[i], 200, (int64_t)i * 70000);
    ld_metrics_observe(metrics, LD_TIME_QUEUE_WAIT, -5); /* the clock was set back */
    ld_metrics_observe(metrics, LD_TIME_QUEUE_WAIT, INT64_C(1000000000));
    ld_buffer_clear(&out);
    ld_metrics_write(metrics, &out);
    assert_false(out.failed);
    heads[0] = '\0';
    for (char *line = strtok(out.data, "\n"); line; line = strtok(NULL, "\n")) {
        char name[128];
        char search[140];
        if (strncmp(line, "# TYPE ", 7) == 0) {
            assert_true(
                ld_fmt(search, sizeof search, "|%.*s|", (int)strcspn(line + 7, " "), line + 7));
            if (strstr(heads, search))
                fail_msg("%s has two heads", search);
            assert_true(strlen(heads) + strlen(search) < sizeof heads);
            memcpy(heads + strlen(heads), search, strlen(search) + 1);
            last = -1;
            continue;
        }
        if (line[0] == '#')
            continue;
        const size_t size = strcspn(line, "{ ");
        assert_true(ld_fmt(name, sizeof name, "%.*s", (int)size, line));
        static const char *const ends[] = {"_bucket", "_sum", "_count"};
        for (size_t i = 0; i < 3; i++) {
            const size_t cut = strlen(ends[i]);
            if (size > cut && strcmp(name + size - cut, ends[i]) == 0 && strstr(line, "_seconds"))
                name[size - cut] = '\0';
        }
        if (strcmp(name, "latentd_batch_size_bucket") == 0 ||
            strcmp(name, "latentd_batch_size_sum") == 0 ||
            strcmp(name, "latentd_batch_size_count") == 0)
            name[strlen("latentd_batch_size")] = '\0';
        assert_true(ld_fmt(search, sizeof search, "|%s|", name));
        if (!strstr(heads, search))
            fail_msg("%s has no head", line);
        const char *space = strrchr(line, ' ');
        char *stop;
        const double value = strtod(space + 1, &stop);
        assert_true(*stop == '\0' && isfinite(value) && value >= 0);
        if (strstr(line, "_bucket{")) {
            if (value < last)
                fail_msg("buckets fall at %s", line);
            last = strstr(line, "le=\"+Inf\"") ? -1 : value;
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(replies_are_counted_by_route_and_status, begin, end),
        cmocka_unit_test_setup_teardown(a_worker_that_starts_anew_takes_nothing_back, begin, end),
        cmocka_unit_test_setup_teardown(passes_are_put_into_their_class, begin, end),
        cmocka_unit_test_setup_teardown(the_text_is_well_formed, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
