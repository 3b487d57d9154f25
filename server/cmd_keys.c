/*
 * `latentd keys add|set|revoke|list`: who may use a server. Works on the file in the server's state
 * folder, whether the server runs or not; a running one follows at its next call.
 */
#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "server/cmd.h"
#include "server/cmd_options.h"
#include "server/keyring.h"
#include "server/state.h"

#include <stdio.h>
#include <string.h>

enum { ARGS_MAX = 128, MEMBERS_MAX = 32 };

struct member {
    char name[64];
    const char *value;
};

struct arguments {
    const char *action, *who;
    struct member members[MEMBERS_MAX]; /* --weight 20 and so on */
    uint32_t member_count;
    bool json, all, help;
    char *rest[ARGS_MAX]; /* for cmd_options: where the state lies */
    int rest_count;
};

/* ---- Arguments ------------------------------------------------------------------------------- */

static bool is_member(const char *name)
{
    uint32_t count;
    const struct ld_key_limit *rows = ld_key_limit_table(&count);
    for (uint32_t i = 0; i < count; i++) {
        if (strcmp(rows[i].name, name) == 0)
            return true;
    }
    return strcmp(name, "scopes") == 0 || strcmp(name, "rating") == 0 ||
           strcmp(name, "models") == 0 || strcmp(name, "name") == 0;
}

/* "--requests-per-minute=5" -> requests_per_minute. */
static void member_name(const char *word, char out[64])
{
    (void)ld_fmt(out, 64, "%.*s", (int)strcspn(word + 2, "="), word + 2);
    for (char *c = out; *c; c++)
        *c = *c == '-' ? '_' : *c;
}

/* A flag of the settings, which say where the state lies; false if there is none such. */
static bool is_setting(const char *word, bool *takes_value)
{
    char name[64];
    (void)ld_fmt(name, sizeof name, "%.*s", (int)strcspn(word + 2, "="), word + 2);
    const struct ld_setting *setting = ld_setting_by_flag(name);
    *takes_value = !strchr(word, '=') && (!setting || setting->kind != LD_SETTING_BOOL);
    return setting || strcmp(name, "config") == 0;
}

static enum ld_code keep(struct arguments *arguments, char *word, struct ld_error *err)
{
    if (arguments->rest_count >= ARGS_MAX - 1)
        return LD_FAIL(err, LD_E_INVALID, "too many options");
    arguments->rest[arguments->rest_count++] = word;
    return LD_OK;
}

static enum ld_code take_member(struct arguments *arguments, const char *name, const char *value,
                                struct ld_error *err)
{
    if (!value)
        return LD_FAIL(err, LD_E_INVALID, "--%s needs a value", name);
    if (arguments->member_count == MEMBERS_MAX)
        return LD_FAIL(err, LD_E_INVALID, "too many options");
    struct member *member = &arguments->members[arguments->member_count++];
    (void)ld_fmt(member->name, sizeof member->name, "%s", name);
    member->value = value;
    return LD_OK;
}

static enum ld_code take_word(struct arguments *arguments, const char *word, struct ld_error *err)
{
    if (!arguments->action)
        arguments->action = word;
    else if (!arguments->who)
        arguments->who = word;
    else
        return LD_FAIL(err, LD_E_INVALID, "unexpected argument: %.100s", word);
    return LD_OK;
}

static enum ld_code read_arguments(struct arguments *arguments, int argc, char **argv,
                                   struct ld_error *err)
{
    enum ld_code code = keep(arguments, argv[0], err);
    for (int i = 1; i < argc && code == LD_OK; i++) {
        char name[64];
        bool takes_value;
        char *word = argv[i];
        if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) {
            arguments->help = true;
            continue;
        }
        if (strncmp(word, "--", 2) != 0) {
            code = take_word(arguments, word, err);
            continue;
        }
        member_name(word, name);
        const char *equals = strchr(word, '=');
        if (strcmp(word, "--json") == 0)
            arguments->json = true;
        else if (strcmp(word, "--all") == 0)
            arguments->all = true;
        else if (is_member(name))
            code = take_member(arguments, name,
                               equals         ? equals + 1
                               : i + 1 < argc ? argv[++i]
                                              : NULL,
                               err);
        else if (!is_setting(word, &takes_value))
            code = LD_FAIL(err, LD_E_INVALID, "there is no option %.64s; --help lists them", word);
        else if ((code = keep(arguments, word, err)) == LD_OK && takes_value && i + 1 < argc)
            code = keep(arguments, argv[++i], err);
    }
    return code;
}

static enum ld_code apply(const struct arguments *arguments, struct ld_key *key,
                          struct ld_error *err)
{
    for (uint32_t i = 0; i < arguments->member_count; i++) {
        const enum ld_code code =
            ld_key_set(key, arguments->members[i].name, arguments->members[i].value, err);
        if (code != LD_OK)
            return code;
    }
    return LD_OK;
}

/* ---- Actions --------------------------------------------------------------------------------- */

static enum ld_code add(const struct arguments *arguments, const char *dir, struct ld_error *err)
{
    struct ld_key key;
    char text[LD_KEY_TEXT_SIZE];
    ld_key_make(&key, text);
    enum ld_code code = ld_key_set(&key, "name", arguments->who, err);
    if (code == LD_OK && (code = apply(arguments, &key, err)) == LD_OK &&
        (code = ld_keys_add(dir, &key, err)) == LD_OK) {
        /* The key alone on the output, so that a script can take it. */
        (void)fprintf(stderr, "The key of %s. It is shown this once; only its hash is kept.\n",
                      key.name);
        (void)puts(text);
    }
    explicit_bzero(text, sizeof text);
    return code;
}

static enum ld_code revoke(const struct arguments *arguments, const char *dir, struct ld_error *err)
{
    struct ld_key key;
    const enum ld_code code = ld_keys_revoke(dir, arguments->who, &key, err);
    if (code == LD_OK)
        (void)printf("revoked %s (%s)\n", key.name, key.id);
    return code;
}

static const struct ld_key *find(const struct ld_key *keys, uint32_t count, const char *who)
{
    for (uint32_t i = 0; i < count; i++) {
        if (keys[i].revoked_us == 0 &&
            (strcmp(keys[i].id, who) == 0 || strcmp(keys[i].name, who) == 0))
            return &keys[i];
    }
    return NULL;
}

static enum ld_code set(const struct arguments *arguments, const char *dir,
                        const struct ld_key *keys, uint32_t count, struct ld_error *err)
{
    const struct ld_key *found = find(keys, count, arguments->who);
    if (!found)
        return LD_FAIL(err, LD_E_NOT_FOUND, "there is no valid key with that id or name");
    struct ld_key key = *found;
    enum ld_code code = apply(arguments, &key, err);
    if (code == LD_OK && (code = ld_keys_replace(dir, &key, err)) == LD_OK)
        (void)printf("changed %s (%s)\n", key.name, key.id);
    return code;
}

static void print_row(const struct ld_key *key)
{
    char created[LD_CLOCK_TEXT_SIZE];
    char scopes[64] = "";
    for (unsigned i = LD_SCOPE_READ; i < LD_SCOPE_COUNT; i++) {
        if (!(key->scopes & (1U << i)))
            continue;
        const size_t used = strlen(scopes);
        (void)ld_fmt(scopes + used, sizeof scopes - used, "%s%s", used ? "," : "",
                     ld_scope_name((enum ld_scope)i));
    }
    ld_clock_format(key->created_us, created);
    (void)printf("%-8s  %-24s  %-21s  %.10s  %s\n", key->id, key->name, scopes, created,
                 key->revoked_us ? "revoked" : "");
}

static enum ld_code list(const struct arguments *arguments, const struct ld_settings *settings,
                         const struct ld_key *keys, uint32_t count)
{
    struct ld_buffer out = ld_buffer_make((size_t)LD_KEYS_FILE_BYTES_MAX * 2);
    uint32_t shown = 0;
    if (!arguments->json)
        (void)printf("%-8s  %-24s  %-21s  %-10s\n", "id", "name", "scopes", "created");
    ld_buffer_text(&out, "[");
    for (uint32_t i = 0; i < count; i++) {
        if (keys[i].revoked_us && !arguments->all)
            continue;
        ld_buffer_text(&out, shown++ ? ",\n " : "");
        ld_key_write_view(&keys[i], settings, &out);
        if (!arguments->json)
            print_row(&keys[i]);
    }
    ld_buffer_text(&out, "]\n");
    if (arguments->json)
        (void)fputs(out.failed ? "" : out.data, stdout);
    const bool failed = out.failed;
    ld_buffer_deinit(&out);
    return failed ? LD_E_NOMEM : LD_OK;
}

/* ---- The verb -------------------------------------------------------------------------------- */

static void print_help(void)
{
    uint32_t count;
    const struct ld_key_limit *rows = ld_key_limit_table(&count);
    (void)puts(
        "usage: latentd keys add NAME [OPTION]...   make a key and print it, once\n"
        "       latentd keys set NAME [OPTION]...   change what a key may do\n"
        "       latentd keys revoke NAME            end it; its waiting jobs are cancelled\n"
        "       latentd keys list [--all] [--json]  --all: the revoked ones too\n\n"
        "NAME may be a key's id. A running server follows at once. Where the keys lie is said\n"
        "as for `latentd serve`: --state-dir, --config, the environment.\n\n"
        "  --scopes LIST                  of read, generate, admin (read,generate)\n"
        "  --rating WORD                  general, sensitive, questionable or explicit; a\n"
        "                                 filter of prompts, not of pictures (explicit)\n"
        "  --models LIST                  patterns of the models it may use (all)\n"
        "  --name NAME                    with `set`: another name");
    for (uint32_t i = 0; i < count; i++) {
        char flag[64];
        (void)ld_fmt(flag, sizeof flag, "%s", rows[i].name);
        for (char *c = flag; *c; c++)
            *c = *c == '_' ? '-' : *c;
        (void)printf("  --%-28s %s\n", flag, rows[i].doc);
    }
    (void)puts("\nWhat is not given is as the server's settings say, also later.");
}

static enum ld_code act(const struct arguments *arguments, const struct ld_settings *settings,
                        struct ld_error *err)
{
    struct ld_state place;
    struct ld_keyring *ring = NULL;
    struct ld_arena arena;
    struct ld_key *keys = NULL;
    uint32_t count = 0;
    enum ld_code code = ld_state_place(&place, settings, err);
    if (code != LD_OK)
        return code;
    ld_arena_init(&arena, "keys", 64 << 20);
    if ((code = ld_keyring_open(&ring, place.dir, err)) == LD_OK)
        code = ld_keyring_list(ring, &arena, &keys, &count, err);
    if (code != LD_OK)
        ;
    else if (strcmp(arguments->action, "list") == 0)
        code = list(arguments, settings, keys, count);
    else if (!arguments->who)
        code = LD_FAIL(err, LD_E_INVALID, "say which key: latentd keys %s NAME", arguments->action);
    else if (strcmp(arguments->action, "add") == 0)
        code = add(arguments, place.dir, err);
    else if (strcmp(arguments->action, "set") == 0)
        code = set(arguments, place.dir, keys, count, err);
    else
        code = revoke(arguments, place.dir, err);
    ld_keyring_close(ring);
    ld_arena_deinit(&arena);
    return code;
}

static bool is_action(const char *word)
{
    static const char *const actions[] = {"add", "set", "revoke", "list"};
    for (size_t i = 0; word && i < sizeof actions / sizeof actions[0]; i++) {
        if (strcmp(word, actions[i]) == 0)
            return true;
    }
    return false;
}

int ld_cmd_keys(int argc, char **argv)
{
    struct arguments arguments = {0};
    struct ld_cmd_options options = {0};
    struct ld_error err = {0};
    enum ld_code code = read_arguments(&arguments, argc, argv, &err);
    if (code == LD_OK && arguments.help) {
        print_help();
        return LD_EXIT_OK;
    }
    if (code == LD_OK && !is_action(arguments.action))
        code = LD_FAIL(&err, LD_E_INVALID, "say add, set, revoke or list; --help tells more");
    if (code == LD_OK)
        code = ld_cmd_options_read(&options, arguments.rest_count, arguments.rest, &err);
    ld_log_setup(LD_LOG_WARN, LD_LOG_PRETTY, LD_LOG_PRIVATE_NONE);
    const bool usage = code != LD_OK;
    if (code == LD_OK)
        code = act(&arguments, &options.settings, &err);
    ld_cmd_options_deinit(&options);
    if (code == LD_OK)
        return LD_EXIT_OK;
    (void)fprintf(stderr, "latentd keys: %s\n", err.detail);
    return usage || code == LD_E_INVALID || code == LD_E_RANGE ? LD_EXIT_USAGE : LD_EXIT_FAILED;
}
