/*
 * Proves that one event is one escaped line of at most 4 KiB and that private text stays out. Sends
 * lines through a pipe, with every byte value in every field, and parses them with jansson.
 */
#include "runtime/base/log.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

static int pipe_fds[2];
static char captured[3 * LD_LOG_LINE_MAX];

static int open_pipe(void **state)
{
    (void)state;
    if (pipe2(pipe_fds, O_CLOEXEC | O_NONBLOCK) != 0)
        return -1;
    ld_log_set_fd(pipe_fds[1]);
    return 0;
}

static int close_pipe(void **state)
{
    (void)state;
    ld_log_set_fd(-1);
    return close(pipe_fds[0]) + close(pipe_fds[1]);
}

static size_t capture(void)
{
    const ssize_t got = read(pipe_fds[0], captured, sizeof captured - 1);
    const size_t size = got > 0 ? (size_t)got : 0;
    captured[size] = '\0';
    return size;
}

static void assert_one_clean_line(size_t size)
{
    assert_in_range(size, 1, LD_LOG_LINE_MAX);
    assert_int_equal(captured[size - 1], '\n');
    for (size_t i = 0; i + 1 < size; i++)
        assert_in_range((unsigned char)captured[i], 0x20, 0xFF);
    assert_null(memchr(captured, 0x7F, size));
}

static void every_byte_value_is_escaped(void **state)
{
    (void)state;
    ld_log_setup(LD_LOG_INFO, LD_LOG_JSON, LD_LOG_PRIVATE_FULL);
    char text[256];
    for (size_t i = 0; i < 255; i++)
        text[i] = (char)(i + 1);
    text[255] = '\0';
    LD_LOG(LD_LOG_INFO, text, text, ld_log_text("k", text), ld_log_private("p", text));
    const size_t size = capture();
    assert_one_clean_line(size);
    json_error_t error;
    json_t *line = json_loadb(captured, size, 0, &error);
    assert_non_null(line);
    assert_non_null(json_object_get(line, "p"));
    json_decref(line);
    LD_LOG(LD_LOG_INFO, "x", "\xE2\x80\xAE reversed \xC2\x9B csi");
    assert_one_clean_line(capture());
    assert_non_null(strstr(captured, "\\u202e"));
    assert_non_null(strstr(captured, "\\u009b"));
}

static void long_values_are_cut_with_a_marker(void **state)
{
    (void)state;
    ld_log_setup(LD_LOG_INFO, LD_LOG_JSON, LD_LOG_PRIVATE_NONE);
    static char text[20000];
    static const char *const fillers[] = {"a", "\"", "\x01", "\xC3\xA9"};
    for (size_t f = 0; f < 4; f++) {
        text[0] = '\0';
        const size_t step = strlen(fillers[f]);
        for (size_t i = 0; i + step < sizeof text; i += step)
            memcpy(text + i, fillers[f], step + 1);
        for (size_t start = 0; start < 64; start += step) {
            LD_LOG(LD_LOG_INFO, "c", text + start, ld_log_int("after", 1));
            const size_t size = capture();
            assert_one_clean_line(size);
            assert_non_null(strstr(captured, "...[cut]"));
            json_t *line = json_loadb(captured, size, 0, NULL);
            assert_non_null(line);
            assert_true(json_is_true(json_object_get(line, "cut")));
            json_decref(line);
        }
    }
    /* Many short fields: the one that does not fit is left out as a whole. */
    for (size_t length = 3700; length < 4000; length++) {
        memset(text, 'b', length);
        text[length] = '\0';
        LD_LOG(LD_LOG_INFO, "c", text, ld_log_int("a", 123456789), ld_log_text("b", "cc"),
               ld_log_real("d", 0.25), ld_log_private("e", "x"));
        const size_t size = capture();
        assert_one_clean_line(size);
        json_t *line = json_loadb(captured, size, JSON_REJECT_DUPLICATES, NULL);
        assert_non_null(line);
        json_decref(line);
    }
}

static void private_text_is_hidden_unless_asked_for(void **state)
{
    (void)state;
    ld_log_setup(LD_LOG_INFO, LD_LOG_JSON, LD_LOG_PRIVATE_NONE);
    LD_LOG(LD_LOG_INFO, "c", "m", ld_log_private("prompt", "canary"));
    capture();
    assert_null(strstr(captured, "canary"));
    ld_log_setup(LD_LOG_INFO, LD_LOG_JSON, LD_LOG_PRIVATE_HASH);
    LD_LOG(LD_LOG_INFO, "c", "m", ld_log_private("prompt", "canary"));
    capture();
    assert_null(strstr(captured, "canary"));
    assert_non_null(strstr(captured, "\"prompt\":\"e100fbce008c04ec\""));
    ld_log_setup(LD_LOG_INFO, LD_LOG_JSON, LD_LOG_PRIVATE_FULL);
    LD_LOG(LD_LOG_INFO, "c", "m", ld_log_private("prompt", "canary"));
    capture();
    assert_non_null(strstr(captured, "\"prompt\":\"canary\""));
}

static void levels_below_the_minimum_are_silent(void **state)
{
    (void)state;
    ld_log_setup(LD_LOG_WARN, LD_LOG_PRETTY, LD_LOG_PRIVATE_NONE);
    LD_LOG(LD_LOG_INFO, "c", "quiet");
    assert_int_equal(capture(), 0);
    LD_LOG(LD_LOG_WARN, "c", "loud\n", ld_log_int("n", -3));
    assert_one_clean_line(capture());
    assert_non_null(strstr(captured, " warn c \"loud\\u000a\" n=-3\n"));
}

static void an_error_shows_its_frames(void **state)
{
    (void)state;
    ld_log_setup(LD_LOG_INFO, LD_LOG_JSON, LD_LOG_PRIVATE_NONE);
    struct ld_error err;
    (void)LD_FAIL_OS(&err, LD_E_IO, 5, "writing a file failed");
    (void)ld_error_note(&err, "publishing");
    ld_log_error(LD_LOG_ERROR, "blob", "no result stored", &err);
    assert_one_clean_line(capture());
    assert_non_null(strstr(captured, "\"code\":\"io\""));
    assert_non_null(strstr(captured, "(os 5); "));
    /* from the root of the sources, whatever folder it was built in */
    assert_non_null(strstr(captured, "\"trail\":\"tests/unit/test_log.c:"));
    assert_non_null(strstr(captured, "publishing"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_byte_value_is_escaped),
        cmocka_unit_test(long_values_are_cut_with_a_marker),
        cmocka_unit_test(private_text_is_hidden_unless_asked_for),
        cmocka_unit_test(levels_below_the_minimum_are_silent),
        cmocka_unit_test(an_error_shows_its_frames),
    };
    return cmocka_run_group_tests(tests, open_pipe, close_pipe);
}
