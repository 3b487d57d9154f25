/* Settings from a file and from the environment. */
#include "config/ini_text.h"
#include "config/nearest.h"
#include "config/settings.h"
#include "runtime/base/fsx.h"

#include <stdlib.h>
#include <unistd.h>

enum { ENVIRONMENT_MAX = 16384 };

/* What the lines of a file have set so far. */
struct load {
    struct ld_settings *settings;
    bool seen[LD_SETTINGS_MAX];
};

static const struct ld_setting *row_of(const char *section, const char *key)
{
    uint32_t count;
    const struct ld_setting *rows = ld_setting_table(&count);
    for (uint32_t i = 0; i < count; i++)
        if (strcmp(rows[i].section, section) == 0 && strcmp(rows[i].key, key) == 0)
            return &rows[i];
    return NULL;
}

/* A further line of a list is joined to it. */
static enum ld_code append(struct ld_settings *settings, const struct ld_setting *row,
                           const char *value, struct ld_error *err)
{
    const char *before = *(const char *const *)((const char *)settings + row->offset);
    const size_t size = strlen(before) + strlen(value) + 3;
    char *joined = ld_arena_alloc(settings->arena, size);
    if (!joined)
        return LD_FAIL(err, LD_E_NOMEM, "out of memory");
    (void)ld_fmt(joined, size, "%s, %s", before, value);
    return ld_settings_set(settings, row->section, row->key, joined, LD_ORIGIN_FILE, err);
}

static enum ld_code take(void *ctx, const char *section, const char *key, const char *value,
                         bool continued, struct ld_error *err)
{
    struct load *load = ctx;
    const struct ld_setting *row = row_of(section, key);
    if (row) {
        bool *seen = &load->seen[row - ld_setting_table(NULL)];
        if (continued && *seen && row->kind == LD_SETTING_LIST &&
            load->settings->origins[row - ld_setting_table(NULL)] == LD_ORIGIN_FILE)
            return append(load->settings, row, value, err);
        if (*seen)
            return LD_FAIL(err, LD_E_INVALID, "%s.%s is set twice", section, key);
        *seen = true;
    }
    return ld_settings_set(load->settings, section, key, value, LD_ORIGIN_FILE, err);
}

enum ld_code ld_settings_load_text(struct ld_settings *settings, struct ld_span text,
                                   struct ld_error *err)
{
    struct load load = {.settings = settings};
    return ld_ini_parse(text, take, &load, err);
}

enum ld_code ld_settings_load_file(struct ld_settings *settings, const char *path,
                                   struct ld_error *err)
{
    struct ld_buffer text = ld_buffer_make(LD_INI_FILE_BYTES_MAX);
    enum ld_code code = ld_fsx_read_file(path, &text, err);
    if (code == LD_OK)
        code = ld_settings_load_text(settings, ld_span_of(text.data, text.size), err);
    ld_buffer_deinit(&text);
    return code;
}

/* ---- Environment ----------------------------------------------------------------------------- */

/* LATENTD_SERVER_PORT */
static void variable_name(const struct ld_setting *row, char out[96])
{
    (void)ld_fmt(out, 96, "LATENTD_%s_%s", row->section, row->key);
    for (char *c = out; *c; c++)
        if (*c >= 'a' && *c <= 'z')
            *c = (char)(*c - 'a' + 'A');
}

/* LATENTD_SERVER_PROT is a slip; LATENTD_BUILD is somebody else's business. */
static bool looks_like_ours(const char *name)
{
    uint32_t count;
    const struct ld_setting *rows = ld_setting_table(&count);
    for (uint32_t i = 0; i < count; i++) {
        const size_t size = strlen(rows[i].section);
        if (strncasecmp(name, rows[i].section, size) == 0 && name[size] == '_')
            return true;
    }
    return false;
}

static enum ld_code take_variable(struct ld_settings *settings, const char *name, size_t name_size,
                                  const char *value, struct ld_error *err)
{
    uint32_t count;
    const struct ld_setting *rows = ld_setting_table(&count);
    char known[96];
    char copy[96];
    char near[96] = "";
    uint32_t distance = 4; /* nearer than that is a slip worth naming */
    if (!ld_fmt(copy, sizeof copy, "%.*s", (int)name_size, name))
        return LD_OK;
    for (uint32_t i = 0; i < count; i++) {
        variable_name(&rows[i], known);
        if (strcmp(known, copy) == 0)
            return ld_settings_set(settings, rows[i].section, rows[i].key, value,
                                   LD_ORIGIN_ENVIRONMENT, err);
        const uint32_t apart = ld_edit_distance(ld_span_text(copy), ld_span_text(known));
        if (apart < distance) {
            distance = apart;
            (void)ld_fmt(near, sizeof near, "%s", known);
        }
    }
    if (!looks_like_ours(copy + strlen("LATENTD_")))
        return LD_OK;
    return LD_FAIL(err, LD_E_NOT_FOUND, "unknown variable %.90s%s%s%s", copy,
                   near[0] ? "; did you mean " : "", near, near[0] ? "?" : "");
}

enum ld_code ld_settings_load_environment(struct ld_settings *settings, struct ld_error *err)
{
    static const char prefix[] = "LATENTD_";
    for (uint32_t i = 0; i < ENVIRONMENT_MAX && environ && environ[i]; i++) {
        const char *equals = strchr(environ[i], '=');
        if (!equals || strncmp(environ[i], prefix, sizeof prefix - 1) != 0)
            continue;
        const enum ld_code code =
            take_variable(settings, environ[i], (size_t)(equals - environ[i]), equals + 1, err);
        if (code != LD_OK)
            return code;
    }
    return LD_OK;
}
