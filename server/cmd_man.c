/*
 * `latentd man [latentd|latentd.conf]`: the manual in roff, made from what the verbs say about
 * themselves and from the table of settings.
 *
 *     latentd man | man -l -
 *     latentd man > /usr/share/man/man1/latentd.1
 *     latentd man latentd.conf > /usr/share/man/man5/latentd.conf.5
 */
#include "config/settings.h"
#include "server/cmd.h"
#include "server/verb.h"

#include <stdio.h>

enum { PAGE_BYTES_MAX = 4 << 20 };

/* Text in roff: a backslash and a leading dot or quote would be read as commands, a minus as a
 * hyphen (groff_char(7), groff(7)). */
static void roff(struct ld_buffer *out, struct ld_span text)
{
    bool line_begins = true;
    for (size_t i = 0; i < text.size; i++) {
        const char c = (char)text.data[i];
        if (line_begins && (c == '.' || c == '\''))
            ld_buffer_text(out, "\\&");
        if (c == '\\')
            ld_buffer_text(out, "\\e");
        else if (c == '-')
            ld_buffer_text(out, "\\-");
        else
            ld_buffer_byte(out, c);
        line_begins = c == '\n';
    }
}

static void roff_text(struct ld_buffer *out, const char *text)
{
    roff(out, ld_span_text(text));
}

static enum ld_code write_program(struct ld_buffer *out, struct ld_error *err)
{
    static const char *const statuses[][2] = {
        {"0", "done, or drained and stopped"},
        {"1", "could not start, or the command failed"},
        {"2", "wrong usage"},
        {"75", "the job store can no longer be trusted; start again"},
        {"78", "the settings cannot work"},
        {"130", "interrupted"},
    };
    uint32_t count;
    const struct ld_verb *verbs = ld_verbs(&count);
    ld_buffer_text(out, ".TH LATENTD 1 \"\" \"latentd " LATENTD_VERSION "\"\n.SH NAME\n"
                        "latentd \\- pictures from models of the SD1.5 family\n"
                        ".SH SYNOPSIS\n.B latentd\n.I VERB\n[\\fIOPTION\\fR]...\n.SH VERBS\n");
    for (uint32_t i = 0; i < count; i++) {
        if (!verbs[i].help)
            continue;
        ld_buffer_format(out, ".TP\n.B %s\n", verbs[i].name);
        roff_text(out, verbs[i].help);
        ld_buffer_byte(out, '\n');
    }
    for (uint32_t i = 0; i < count; i++) {
        struct ld_buffer help = ld_buffer_make(PAGE_BYTES_MAX);
        if (!verbs[i].help)
            continue;
        const enum ld_code code = ld_verb_help(verbs[i].name, &help, err);
        if (code == LD_OK) {
            ld_buffer_format(out, ".SH LATENTD %s\n.EX\n", verbs[i].name);
            roff(out, ld_span_of(help.data ? help.data : "", help.size));
            ld_buffer_text(out, ".EE\n");
        }
        ld_buffer_deinit(&help);
        if (code != LD_OK)
            return code;
    }
    ld_buffer_text(out, ".SH EXIT STATUS\n");
    for (size_t i = 0; i < sizeof statuses / sizeof statuses[0]; i++)
        ld_buffer_format(out, ".TP\n.B %s\n%s\n", statuses[i][0], statuses[i][1]);
    ld_buffer_text(out, ".SH FILES\n.TP\n.I /etc/latentd/latentd.conf\nsettings, see\n"
                        ".BR latentd.conf (5)\n"
                        ".SH ENVIRONMENT\nEvery setting as LATENTD_SECTION_KEY; LATENTD_CONFIG "
                        "names the settings file.\n.SH SEE ALSO\n.BR latentd.conf (5)\n");
    return LD_OK;
}

static void write_setting(struct ld_buffer *out, const struct ld_setting *row)
{
    ld_buffer_format(out, ".TP\n.B %s\n", row->key);
    roff_text(out, row->doc);
    ld_buffer_text(out, ".\n");
    if (row->kind == LD_SETTING_INT)
        ld_buffer_format(out, "From %lld to %lld%s%s, default %lld.\n", (long long)row->min,
                         (long long)row->max, row->unit[0] ? " " : "", row->unit,
                         (long long)row->default_integer);
    else if (row->kind == LD_SETTING_BOOL)
        ld_buffer_format(out, "true or false, default %s.\n",
                         row->default_integer ? "true" : "false");
    else if (row->kind == LD_SETTING_WORD)
        ld_buffer_format(out, "One of %s, default %s.\n", row->words, row->default_text);
    else if (row->default_text[0])
        ld_buffer_format(out, "Default %s.\n", row->default_text);
    if (row->flag[0]) {
        ld_buffer_text(out, "Flag ");
        char flag[80];
        if (ld_fmt(flag, sizeof flag, "--%s", row->flag))
            roff_text(out, flag);
        ld_buffer_text(out, ".\n");
    }
}

static enum ld_code write_settings(struct ld_buffer *out, struct ld_error *err)
{
    uint32_t count;
    const struct ld_setting *rows = ld_setting_table(&count);
    (void)err;
    ld_buffer_text(
        out, ".TH LATENTD.CONF 5 \"\" \"latentd " LATENTD_VERSION "\"\n.SH NAME\n"
             "latentd.conf \\- settings of latentd\n.SH DESCRIPTION\n"
             "Sections in brackets, then \\fIkey\\fR = \\fIvalue\\fR, one a line; a line that "
             "begins with a semicolon is a comment. A flag (\\-\\-SECTION\\-KEY) wins over the "
             "environment (LATENTD_SECTION_KEY), that over this file, that over the default. "
             "An unknown section or key is an error.\n"
             ".B latentd serve \\-\\-check\\-config\nchecks them,\n"
             ".B \\-\\-print\\-config\nshows the effective ones with their origin.\n");
    for (uint32_t i = 0; i < count; i++) {
        if (i == 0 || strcmp(rows[i].section, rows[i - 1].section) != 0) {
            ld_buffer_text(out, ".SH [");
            ld_buffer_text(out, rows[i].section);
            ld_buffer_text(out, "]\n");
        }
        write_setting(out, &rows[i]);
    }
    ld_buffer_text(out, ".SH SEE ALSO\n.BR latentd (1)\n");
    return LD_OK;
}

int ld_cmd_man(int argc, char **argv)
{
    static const char usage[] = "usage: latentd man [latentd|latentd.conf]\n\n"
                                "Prints the manual page in roff: latentd man | man -l -\n";
    const char *word = argc > 1 ? argv[1] : "latentd";
    struct ld_error err = {0};
    enum ld_code code = LD_OK;
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) {
        (void)fputs(usage, stdout);
        return LD_EXIT_OK;
    }
    if (argc > 2 || (strcmp(word, "latentd") != 0 && strcmp(word, "latentd.conf") != 0)) {
        (void)fputs(usage, stderr);
        return LD_EXIT_USAGE;
    }
    struct ld_buffer out = ld_buffer_make(PAGE_BYTES_MAX);
    code = strcmp(word, "latentd") == 0 ? write_program(&out, &err) : write_settings(&out, &err);
    const bool good = code == LD_OK && !out.failed &&
                      fwrite(out.data, 1, out.size, stdout) == out.size && fflush(stdout) == 0;
    ld_buffer_deinit(&out);
    if (!good)
        (void)fprintf(stderr, "latentd man: %s\n",
                      code == LD_OK ? "the page could not be written" : err.detail);
    return good ? LD_EXIT_OK : LD_EXIT_FAILED;
}
