#include "server/cmd_options.h"

#include "config/folders.h"
#include "runtime/base/log.h"
#include "server/supervisor.h"

#include <stdlib.h>
#include <string.h>

#define DEFAULT_CONFIG "/etc/latentd/latentd.conf"

enum { ARENA_BYTES = 4 << 20 };

struct arguments {
    int argc, at;
    char **argv;
};

/* Splits "--name=value" or "--name value"; false at the end or on something else. */
static bool next_flag(struct arguments *arguments, char *name, size_t name_size,
                      const char **inline_value)
{
    if (arguments->at >= arguments->argc)
        return false;
    const char *word = arguments->argv[arguments->at];
    if (strcmp(word, "-h") == 0)
        word = "--help";
    if (strncmp(word, "--", 2) != 0)
        return false;
    const char *equals = strchr(word, '=');
    const size_t size = equals ? (size_t)(equals - word - 2) : strlen(word) - 2;
    if (!ld_fmt(name, name_size, "%.*s", (int)size, word + 2))
        return false;
    *inline_value = equals ? equals + 1 : NULL;
    arguments->at++;
    return true;
}

static const char *value_of(struct arguments *arguments, const char *inline_value)
{
    if (inline_value)
        return inline_value;
    return arguments->at < arguments->argc ? arguments->argv[arguments->at++] : NULL;
}

/* A flag that stands alone switches a setting on; "--flag=false" switches it off. */
static enum ld_code read_setting(struct ld_cmd_options *options, struct arguments *arguments,
                                 const char *name, const char *inline_value, struct ld_error *err)
{
    const struct ld_setting *setting = ld_setting_by_flag(name);
    const char *value;
    if (!setting) {
        const char *like = ld_setting_flag_like(name);
        return LD_FAIL(err, LD_E_NOT_FOUND, "unknown option --%s%s%s%s", name,
                       like ? "; did you mean --" : "", like ? like : "", like ? "?" : "");
    }
    if (setting->kind == LD_SETTING_BOOL)
        value = inline_value ? inline_value : "true";
    else
        value = value_of(arguments, inline_value);
    if (!value)
        return LD_FAIL(err, LD_E_INVALID, "--%s needs a value", name);
    return ld_settings_set_flag(&options->settings, name, value, err);
}

static enum ld_code read_slot(struct ld_cmd_options *options, const char *value,
                              struct ld_error *err)
{
    uint64_t slot;
    if (!value || !ld_parse_u64(ld_span_text(value), &slot) || slot >= LD_WORKERS_MAX)
        return LD_FAIL(err, LD_E_INVALID, "--slot must be a number below %d", LD_WORKERS_MAX);
    options->slot = (uint32_t)slot;
    return LD_OK;
}

static enum ld_code read_flag(struct ld_cmd_options *options, struct arguments *arguments,
                              const char *name, const char *inline_value, const char **config,
                              struct ld_error *err)
{
    if (strcmp(name, "help") == 0)
        options->help = true;
    else if (strcmp(name, "check-config") == 0)
        options->check_config = true;
    else if (strcmp(name, "print-config") == 0)
        options->print_config = true;
    else if (strcmp(name, "config") == 0)
        *config = value_of(arguments, inline_value);
    else if (strcmp(name, "script") == 0)
        options->script = value_of(arguments, inline_value);
    else if (strcmp(name, "slot") == 0)
        return read_slot(options, value_of(arguments, inline_value), err);
    else
        return read_setting(options, arguments, name, inline_value, err);
    return LD_OK;
}

/* The file that was asked for must be there; the default one may be missing. */
static enum ld_code read_file(struct ld_cmd_options *options, const char *config,
                              struct ld_error *err)
{
    const char *path = config ? config : getenv("LATENTD_CONFIG");
    const enum ld_code code =
        ld_settings_load_file(&options->settings, path && *path ? path : DEFAULT_CONFIG, err);
    return code == LD_E_NOT_FOUND && !(path && *path) ? LD_OK : code;
}

enum ld_code ld_cmd_options_read(struct ld_cmd_options *options, int argc, char **argv,
                                 struct ld_error *err)
{
    struct arguments arguments = {argc, 1, argv};
    const char *config = NULL;
    const char *inline_value;
    char name[64];
    memset(options, 0, sizeof *options);
    ld_arena_init(&options->arena, "settings", ARENA_BYTES);
    ld_settings_init(&options->settings, &options->arena);
    while (next_flag(&arguments, name, sizeof name, &inline_value)) {
        const enum ld_code code = read_flag(options, &arguments, name, inline_value, &config, err);
        if (code != LD_OK)
            return code;
    }
    if (arguments.at < argc)
        return LD_FAIL(err, LD_E_INVALID, "unexpected argument: %.200s", argv[arguments.at]);
    enum ld_code code = read_file(options, config, err);
    if (code == LD_OK)
        code = ld_settings_load_environment(&options->settings, err);
    struct ld_settings *settings = &options->settings;
    const struct ld_folders folders = {
        .adapters = &settings->adapter_dir,
        .embeddings = &settings->embedding_dir,
        .vaes = &settings->vae_dir,
        .controlnets = &settings->controlnet_dir,
        .wildcards = &settings->wildcard_dir,
    };
    if (code == LD_OK)
        ld_folders_beside(settings->model_dir, settings->model, &options->arena, &folders);
    return code;
}

void ld_cmd_options_deinit(struct ld_cmd_options *options)
{
    ld_arena_deinit(&options->arena);
}

void ld_cmd_options_help(struct ld_buffer *out)
{
    uint32_t count;
    const struct ld_setting *settings = ld_setting_table(&count);
    ld_buffer_text(out, "  --config FILE        settings file (default " DEFAULT_CONFIG ")\n"
                        "  --check-config       check the settings and end\n"
                        "  --print-config       print the settings with their origins and end\n");
    for (uint32_t i = 0; i < count; i++) {
        const struct ld_setting *setting = &settings[i];
        char flag[64];
        if (setting->flag[0])
            (void)ld_fmt(flag, sizeof flag, "--%s", setting->flag);
        else
            (void)ld_fmt(flag, sizeof flag, "--%s-%s", setting->section, setting->key);
        for (char *c = flag; *c; c++)
            *c = *c == '_' ? '-' : *c;
        ld_buffer_format(out, "  %-20s %s", flag, setting->doc);
        if (setting->default_text[0])
            ld_buffer_format(out, " (default %s)", setting->default_text);
        ld_buffer_text(out, "\n");
    }
}

void ld_cmd_options_log(const struct ld_settings *settings)
{
    static const char *const levels[] = {"debug", "info", "warn", "error"};
    enum ld_log_level level = LD_LOG_INFO;
    for (unsigned i = 0; i < 4; i++)
        level = strcmp(settings->log_level, levels[i]) == 0 ? (enum ld_log_level)i : level;
    const enum ld_log_format format = strcmp(settings->log_format, "json") == 0   ? LD_LOG_JSON
                                      : strcmp(settings->log_format, "text") == 0 ? LD_LOG_PRETTY
                                                                                  : LD_LOG_AUTO;
    const enum ld_log_private shown =
        strcmp(settings->log_prompts, "full") == 0   ? LD_LOG_PRIVATE_FULL
        : strcmp(settings->log_prompts, "hash") == 0 ? LD_LOG_PRIVATE_HASH
                                                     : LD_LOG_PRIVATE_NONE;
    ld_log_setup(level, format, shown);
}
