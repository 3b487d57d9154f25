/*
 * Proves that settings come from the strongest origin, stay within the compiled bounds and refuse
 * unsafe sets, and that slips are named. Works on texts, on the environment of this process and on
 * every row of the table.
 */
#include "config/settings.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

static struct ld_arena arena;
static struct ld_settings settings;

static int open_settings(void **state)
{
    (void)state;
    ld_arena_init(&arena, "test", 1 << 20);
    ld_settings_init(&settings, &arena);
    return 0;
}

static int close_settings(void **state)
{
    (void)state;
    ld_arena_deinit(&arena);
    return 0;
}

static void load(const char *text)
{
    struct ld_error err = {0};
    if (ld_settings_load_text(&settings, ld_span_text(text), &err) != LD_OK)
        fail_msg("%s", err.detail);
}

static void refuses(const char *text, enum ld_code code, const char *words)
{
    struct ld_error err = {0};
    assert_int_equal(ld_settings_load_text(&settings, ld_span_text(text), &err), code);
    if (!strstr(err.detail, words))
        fail_msg("%s", err.detail);
}

static void flag_beats_environment_beats_file_beats_default(void **state)
{
    (void)state;
    struct ld_error err = {0};
    assert_int_equal(settings.port, 7860);
    assert_int_equal(setenv("LATENTD_SERVER_PORT", "7001", 1), 0);
    assert_int_equal(ld_settings_load_environment(&settings, &err), LD_OK);
    load("[server]\nport = 7002\nbind = ::1\n");
    assert_int_equal(settings.port, 7001);
    assert_string_equal(settings.bind, "::1");
    assert_int_equal(ld_settings_set_flag(&settings, "port", "7003", &err), LD_OK);
    assert_int_equal(ld_settings_load_environment(&settings, &err), LD_OK);
    assert_int_equal(settings.port, 7003);
    assert_int_equal(ld_settings_set_flag(&settings, "limits-images-max", "4", &err), LD_OK);
    assert_int_equal(settings.images_max, 4);
    assert_int_equal(unsetenv("LATENTD_SERVER_PORT"), 0);
    struct ld_buffer out = ld_buffer_make(65536);
    ld_settings_print(&settings, &out);
    assert_non_null(strstr(out.data, "; flag\nport = 7003\n"));
    assert_non_null(strstr(out.data, "; file\nbind = ::1\n"));
    assert_non_null(strstr(out.data, "; default\nwait_s = 300\n"));
    ld_buffer_deinit(&out);
}

static void slips_are_named_with_line_and_likely_name(void **state)
{
    (void)state;
    struct ld_error err = {0};
    refuses("[server]\nprot = 1\n", LD_E_NOT_FOUND,
            "line 2: unknown key prot in [server]; did you "
            "mean port?");
    refuses("\n\n[sever]\nport = 1\n", LD_E_NOT_FOUND,
            "line 4: unknown section [sever]; did you "
            "mean server?");
    refuses("port = 1\n", LD_E_NOT_FOUND, "unknown section []");
    refuses("[server]\nport = 1\nport = 2\n", LD_E_INVALID, "line 3: server.port is set twice");
    refuses("[server]\nport: seven\n", LD_E_INVALID, "must be an integer");
    refuses("[server\n", LD_E_FORMAT, "line 1");
    refuses("[server]\nnonsense\n", LD_E_FORMAT, "line 2: neither");
    refuses("[log]\nlevel = loud\n", LD_E_INVALID, "debug|info|warn|error");
    refuses("[server]\nbehind_proxy = perhaps\n", LD_E_INVALID, "true or false");
    char line[400];
    (void)ld_fmt(line, sizeof line, "[models]\ndir = %0300d\n", 1);
    refuses(line, LD_E_FORMAT, "line 2: the line is too long");
    const struct ld_span zero = ld_span_of("[a]\0", 4);
    assert_int_equal(ld_settings_load_text(&settings, zero, &err), LD_E_FORMAT);
    assert_int_equal(ld_settings_set_flag(&settings, "prot", "1", &err), LD_E_NOT_FOUND);
    assert_non_null(strstr(err.detail, "did you mean --port?"));
    assert_int_equal(setenv("LATENTD_SERVER_PROT", "1", 1), 0);
    assert_int_equal(ld_settings_load_environment(&settings, &err), LD_E_NOT_FOUND);
    assert_non_null(strstr(err.detail, "LATENTD_SERVER_PORT"));
    assert_int_equal(unsetenv("LATENTD_SERVER_PROT"), 0);
    assert_int_equal(setenv("LATENTD_BUILD", "1", 1), 0); /* somebody else's */
    assert_int_equal(ld_settings_load_environment(&settings, &err), LD_OK);
    assert_int_equal(unsetenv("LATENTD_BUILD"), 0);
}

static void bounds_hold_for_every_number(void **state)
{
    (void)state;
    uint32_t count;
    const struct ld_setting *rows = ld_setting_table(&count);
    for (uint32_t i = 0; i < count; i++) {
        char text[32];
        struct ld_error err = {0};
        if (rows[i].kind != LD_SETTING_INT)
            continue;
        for (int step = -1; step <= 1; step++) {
            (void)ld_fmt(text, sizeof text, "%lld", (long long)rows[i].max + step);
            assert_int_equal(ld_settings_set(&settings, rows[i].section, rows[i].key, text,
                                             LD_ORIGIN_FLAG, &err),
                             step <= 0 ? LD_OK : LD_E_RANGE);
            (void)ld_fmt(text, sizeof text, "%lld", (long long)rows[i].min + step);
            assert_int_equal(ld_settings_set(&settings, rows[i].section, rows[i].key, text,
                                             LD_ORIGIN_FLAG, &err),
                             step >= 0 ? LD_OK : LD_E_RANGE);
        }
        assert_non_null(strstr(err.detail, rows[i].key));
    }
}

static void lists_continue_on_indented_lines(void **state)
{
    (void)state;
    load(
        "[server]\ncors_origins = https://a.example,\n   https://b.example\n\thttps://c.example\n");
    static const char *const wanted[] = {"https://a.example", "https://b.example",
                                         "https://c.example"};
    struct ld_span item;
    size_t count = 0;
    for (size_t pos = 0; ld_settings_list_next(settings.cors_origins, &pos, &item); count++) {
        assert_true(count < 3);
        assert_true(ld_span_is(item, wanted[count]));
    }
    assert_int_equal(count, 3);
    size_t pos = 0;
    assert_false(ld_settings_list_next(" , ,", &pos, &item));
}

static void set(const char *key, const char *value)
{
    struct ld_error err = {0};
    assert_int_equal(ld_settings_set(&settings, "server", key, value, LD_ORIGIN_FLAG, &err), LD_OK);
}

static void unsafe_addresses_are_refused_with_advice(void **state)
{
    (void)state;
    struct ld_error err = {0};
    assert_int_equal(ld_settings_check(&settings, false, &err), LD_OK);
    set("bind", "0.0.0.0");
    assert_int_equal(ld_settings_check(&settings, false, &err), LD_E_FORBIDDEN);
    assert_non_null(strstr(err.detail, "--allow-anonymous"));
    assert_int_equal(ld_settings_check(&settings, true, &err), LD_E_FORBIDDEN);
    assert_non_null(strstr(err.detail, "--behind-proxy"));
    set("behind_proxy", "true");
    assert_int_equal(ld_settings_check(&settings, true, &err), LD_OK);
    assert_int_equal(ld_settings_check(&settings, false, &err), LD_E_FORBIDDEN);
    set("allow_anonymous", "true");
    assert_int_equal(ld_settings_check(&settings, false, &err), LD_OK);
    static const char *const loopback[] = {"127.0.0.1", "127.9.9.9", "::1", "localhost",
                                           "::ffff:127.0.0.1"};
    static const char *const others[] = {"0.0.0.0", "::",      "128.0.0.1", "10.0.0.1",         "",
                                         "host",    "127.0.0", "::2",       "127.0.0.1.example"};
    for (size_t i = 0; i < sizeof loopback / sizeof loopback[0]; i++)
        assert_true(ld_address_is_loopback(loopback[i]));
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        assert_false(ld_address_is_loopback(others[i]));
}

/* With every ';' before a key removed the example must be a legal file of nothing but defaults. */
static void the_example_file_is_the_defaults(void **state)
{
    (void)state;
    struct ld_error err = {0};
    struct ld_buffer text = ld_buffer_make(65536);
    if (ld_settings_load_file(&settings, LATENTD_SOURCE_DIR "/config/latentd.example.conf", &err) !=
        LD_OK)
        fail_msg("%s", err.detail);
    ld_settings_write_example(&text);
    for (char *line = text.data; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (line[0] == ';' && line[1] != ' ')
            line[0] = ' ';
    }
    /* An indented line continues the one before, so take the blank away again. */
    struct ld_buffer open = ld_buffer_make(65536);
    for (size_t i = 0; i < text.size; i++)
        if (!(text.data[i] == ' ' && (i == 0 || text.data[i - 1] == '\n')))
            ld_buffer_byte(&open, text.data[i]);
    load(open.data);
    struct ld_settings defaults;
    ld_settings_init(&defaults, &arena);
    uint32_t count;
    const struct ld_setting *rows = ld_setting_table(&count);
    for (uint32_t i = 0; i < count; i++) {
        const void *a = (const char *)&settings + rows[i].offset;
        const void *b = (const char *)&defaults + rows[i].offset;
        assert_int_equal(settings.origins[i], LD_ORIGIN_FILE);
        if (rows[i].kind == LD_SETTING_INT)
            assert_memory_equal(a, b, sizeof(int64_t));
        else if (rows[i].kind == LD_SETTING_BOOL)
            assert_memory_equal(a, b, sizeof(bool));
        else
            assert_string_equal(*(const char *const *)a, *(const char *const *)b);
    }
    ld_buffer_deinit(&open);
    ld_buffer_deinit(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(flag_beats_environment_beats_file_beats_default,
                                        open_settings, close_settings),
        cmocka_unit_test_setup_teardown(slips_are_named_with_line_and_likely_name, open_settings,
                                        close_settings),
        cmocka_unit_test_setup_teardown(bounds_hold_for_every_number, open_settings,
                                        close_settings),
        cmocka_unit_test_setup_teardown(lists_continue_on_indented_lines, open_settings,
                                        close_settings),
        cmocka_unit_test_setup_teardown(unsafe_addresses_are_refused_with_advice, open_settings,
                                        close_settings),
        cmocka_unit_test_setup_teardown(the_example_file_is_the_defaults, open_settings,
                                        close_settings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
