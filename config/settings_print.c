/* Settings as text for people: the effective ones, the example file, the page of the manual. */
#include "config/settings.h"

const char *ld_setting_origin_name(enum ld_setting_origin origin)
{
    static const char *const names[] = {"default", "file", "environment", "flag"};
    LD_ASSERT((unsigned)origin < sizeof names / sizeof names[0]);
    return names[origin];
}

static void write_value(const struct ld_settings *settings, const struct ld_setting *row,
                        struct ld_buffer *out)
{
    const void *place = (const char *)settings + row->offset;
    switch (row->kind) {
    case LD_SETTING_INT:
        ld_buffer_format(out, "%lld", (long long)*(const int64_t *)place);
        break;
    case LD_SETTING_BOOL:
        ld_buffer_text(out, *(const bool *)place ? "true" : "false");
        break;
    case LD_SETTING_TEXT:
    case LD_SETTING_LIST:
    case LD_SETTING_WORD:
        ld_buffer_text(out, *(const char *const *)place);
        break;
    }
}

static void write_default(const struct ld_setting *row, struct ld_buffer *out)
{
    if (row->kind == LD_SETTING_INT)
        ld_buffer_format(out, "%lld", (long long)row->default_integer);
    else if (row->kind == LD_SETTING_BOOL)
        ld_buffer_text(out, row->default_integer ? "true" : "false");
    else
        ld_buffer_text(out, row->default_text);
}

static void write_bounds(const struct ld_setting *row, struct ld_buffer *out)
{
    if (row->kind == LD_SETTING_INT)
        ld_buffer_format(out, "%lld to %lld%s%s", (long long)row->min, (long long)row->max,
                         row->unit[0] ? " " : "", row->unit);
    else if (row->kind == LD_SETTING_BOOL)
        ld_buffer_text(out, "true or false");
    else if (row->kind == LD_SETTING_LIST)
        ld_buffer_text(out, "list with commas");
    else if (row->kind == LD_SETTING_TEXT)
        ld_buffer_text(out, "text");
    else
        for (const char *c = row->words; *c; c++)
            ld_buffer_text(out, *c == '|' ? ", " : (const char[]){*c, '\0'});
}

/* A heading where the section changes. */
static bool begins_section(const struct ld_setting *rows, uint32_t index)
{
    return index == 0 || strcmp(rows[index].section, rows[index - 1].section) != 0;
}

void ld_settings_print(const struct ld_settings *settings, struct ld_buffer *out)
{
    uint32_t count;
    const struct ld_setting *rows = ld_setting_table(&count);
    for (uint32_t i = 0; i < count; i++) {
        if (begins_section(rows, i))
            ld_buffer_format(out, "%s[%s]\n", i ? "\n" : "", rows[i].section);
        ld_buffer_format(out, "; %s\n%s = ",
                         ld_setting_origin_name((enum ld_setting_origin)settings->origins[i]),
                         rows[i].key);
        write_value(settings, &rows[i], out);
        ld_buffer_byte(out, '\n');
    }
}

void ld_settings_write_example(struct ld_buffer *out)
{
    uint32_t count;
    const struct ld_setting *rows = ld_setting_table(&count);
    ld_buffer_text(out, "; latentd.conf: every setting with its default. Remove the ';' in front "
                        "to change one.\n"
                        "; A flag (--section-key) wins over the environment "
                        "(LATENTD_SECTION_KEY), that over this file.\n");
    for (uint32_t i = 0; i < count; i++) {
        if (begins_section(rows, i))
            ld_buffer_format(out, "\n[%s]\n", rows[i].section);
        ld_buffer_format(out, "\n; %s\n; ", rows[i].doc);
        write_bounds(&rows[i], out);
        const bool empty = rows[i].kind != LD_SETTING_INT && rows[i].kind != LD_SETTING_BOOL &&
                           rows[i].default_text[0] == '\0';
        ld_buffer_format(out, "\n;%s =%s", rows[i].key, empty ? "" : " ");
        write_default(&rows[i], out);
        ld_buffer_byte(out, '\n');
    }
}

void ld_settings_write_docs(struct ld_buffer *out)
{
    uint32_t count;
    const struct ld_setting *rows = ld_setting_table(&count);
    ld_buffer_text(out,
                   "# Settings\n\n"
                   "A flag wins over the environment, the environment over `latentd.conf`, the "
                   "file over the default. Every\nsetting has the flag `--SECTION-KEY` and the "
                   "variable `LATENTD_SECTION_KEY`; some have a short flag too.\n"
                   "`--print-config` shows the effective values with their origin. This page is "
                   "made from `config/settings.def`.\n");
    for (uint32_t i = 0; i < count; i++) {
        if (begins_section(rows, i))
            ld_buffer_format(out,
                             "\n## %s\n\n| Key | Flag | Default | Values | Meaning |\n"
                             "|---|---|---|---|---|\n",
                             rows[i].section);
        ld_buffer_format(out, "| `%s` | ", rows[i].key);
        if (rows[i].flag[0])
            ld_buffer_format(out, "`--%s`", rows[i].flag);
        ld_buffer_text(out, " | ");
        write_default(&rows[i], out);
        ld_buffer_text(out, " | ");
        write_bounds(&rows[i], out);
        ld_buffer_format(out, " | %s |\n", rows[i].doc);
    }
}
