/*
 * `latentd completion bash|zsh|fish`: a script for the shell, made from what the verbs say about
 * themselves.
 *
 *     latentd completion bash > /usr/share/bash-completion/completions/latentd
 */
#include "server/cmd.h"
#include "server/verb.h"

#include <stdio.h>

enum { HELP_BYTES_MAX = 1 << 20 };

enum shell { SHELL_BASH, SHELL_ZSH, SHELL_FISH };

/* Inside single quotes of any of the shells; what a doc may not hold is left out. */
static void quoted(struct ld_buffer *out, struct ld_span text)
{
    for (size_t i = 0; i < text.size; i++) {
        const char c = (char)text.data[i];
        if (c != '\'' && c != '\\' && c != '[' && c != ']' && c != ':' && (unsigned char)c >= 0x20)
            ld_buffer_byte(out, c);
    }
}

static void name(struct ld_buffer *out, struct ld_span text)
{
    ld_buffer_bytes(out, text.data, text.size);
}

static void write_option(struct ld_buffer *out, enum shell shell, const char *verb,
                         const struct ld_verb_option *option)
{
    if (shell == SHELL_BASH) {
        ld_buffer_byte(out, ' ');
        name(out, option->name);
    } else if (shell == SHELL_ZSH) {
        ld_buffer_text(out, "        '");
        name(out, option->name);
        ld_buffer_byte(out, '[');
        quoted(out, option->doc);
        ld_buffer_text(out, "]'\n");
    } else {
        const bool is_long = option->name.size > 2 && option->name.data[1] == '-';
        ld_buffer_format(out, "complete -c latentd -n '__fish_seen_subcommand_from %s' -%c '", verb,
                         is_long ? 'l' : 's');
        name(out, ld_span_of(option->name.data + (is_long ? 2 : 1),
                             option->name.size - (is_long ? 2 : 1)));
        ld_buffer_text(out, "' -d '");
        quoted(out, option->doc);
        ld_buffer_text(out, "'\n");
    }
}

static enum ld_code write_options(struct ld_buffer *out, enum shell shell, const char *verb,
                                  struct ld_error *err)
{
    struct ld_buffer help = ld_buffer_make(HELP_BYTES_MAX);
    struct ld_verb_option option;
    size_t pos = 0;
    const enum ld_code code = ld_verb_help(verb, &help, err);
    while (code == LD_OK &&
           ld_verb_option_next(ld_span_of(help.data ? help.data : "", help.size), &pos, &option))
        write_option(out, shell, verb, &option);
    ld_buffer_deinit(&help);
    return code;
}

static enum ld_code write_bash(struct ld_buffer *out, struct ld_error *err)
{
    uint32_t count;
    const struct ld_verb *verbs = ld_verbs(&count);
    ld_buffer_text(out, "# bash completion of latentd\n_latentd()\n{\n"
                        "    local word=${COMP_WORDS[COMP_CWORD]} options=\n"
                        "    if [ \"$COMP_CWORD\" -eq 1 ]; then\n"
                        "        COMPREPLY=($(compgen -W '");
    for (uint32_t i = 0; i < count; i++)
        if (verbs[i].help)
            ld_buffer_format(out, "%s ", verbs[i].name);
    ld_buffer_text(out, "--help --version' -- \"$word\"))\n        return\n    fi\n"
                        "    case ${COMP_WORDS[1]} in\n");
    for (uint32_t i = 0; i < count; i++) {
        if (!verbs[i].help)
            continue;
        ld_buffer_format(out, "    %s) options='--help", verbs[i].name);
        if (write_options(out, SHELL_BASH, verbs[i].name, err) != LD_OK)
            return err->code;
        ld_buffer_text(out, "' ;;\n");
    }
    ld_buffer_text(out, "    esac\n    case $word in\n"
                        "    -*) COMPREPLY=($(compgen -W \"$options\" -- \"$word\")) ;;\n"
                        "    *) COMPREPLY=($(compgen -f -- \"$word\")) ;;\n"
                        "    esac\n}\ncomplete -o filenames -F _latentd latentd\n");
    return LD_OK;
}

static enum ld_code write_zsh(struct ld_buffer *out, struct ld_error *err)
{
    uint32_t count;
    const struct ld_verb *verbs = ld_verbs(&count);
    ld_buffer_text(out, "#compdef latentd\n_latentd() {\n    local -a verbs\n    verbs=(\n");
    for (uint32_t i = 0; i < count; i++) {
        if (!verbs[i].help)
            continue;
        ld_buffer_format(out, "        '%s:", verbs[i].name);
        quoted(out, ld_span_text(verbs[i].help));
        ld_buffer_text(out, "'\n");
    }
    ld_buffer_text(out, "    )\n    if (( CURRENT == 2 )); then\n"
                        "        _describe verb verbs\n        return\n    fi\n"
                        "    case $words[2] in\n");
    for (uint32_t i = 0; i < count; i++) {
        if (!verbs[i].help)
            continue;
        ld_buffer_format(out, "    %s) _arguments -s \\\n        '--help[this text]' \\\n",
                         verbs[i].name);
        struct ld_buffer rows = ld_buffer_make(HELP_BYTES_MAX);
        const enum ld_code code = write_options(&rows, SHELL_ZSH, verbs[i].name, err);
        /* One command over many lines: each ends with a backslash. */
        for (size_t k = 0; code == LD_OK && k < rows.size; k++) {
            if (rows.data[k] == '\n')
                ld_buffer_text(out, " \\");
            ld_buffer_byte(out, rows.data[k]);
        }
        ld_buffer_deinit(&rows);
        if (code != LD_OK)
            return code;
        ld_buffer_text(out, "        '*:file:_files' ;;\n");
    }
    ld_buffer_text(out, "    esac\n}\n_latentd \"$@\"\n");
    return LD_OK;
}

static enum ld_code write_fish(struct ld_buffer *out, struct ld_error *err)
{
    uint32_t count;
    const struct ld_verb *verbs = ld_verbs(&count);
    ld_buffer_text(out, "# fish completion of latentd\n");
    for (uint32_t i = 0; i < count; i++) {
        if (!verbs[i].help)
            continue;
        ld_buffer_format(out, "complete -c latentd -n __fish_use_subcommand -a %s -d '",
                         verbs[i].name);
        quoted(out, ld_span_text(verbs[i].help));
        ld_buffer_text(out, "'\n");
        if (write_options(out, SHELL_FISH, verbs[i].name, err) != LD_OK)
            return err->code;
    }
    return LD_OK;
}

int ld_cmd_completion(int argc, char **argv)
{
    static const struct {
        const char *name;
        enum ld_code (*write)(struct ld_buffer *out, struct ld_error *err);
    } shells[] = {{"bash", write_bash}, {"zsh", write_zsh}, {"fish", write_fish}};
    static const char usage[] =
        "usage: latentd completion bash|zsh|fish\n\n"
        "Prints a script with which the shell completes latentd's verbs and "
        "options.\n";
    const char *word = argc == 2 ? argv[1] : "";
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) {
        (void)fputs(usage, stdout);
        return LD_EXIT_OK;
    }
    for (size_t i = 0; i < sizeof shells / sizeof shells[0]; i++) {
        struct ld_error err = {0};
        if (strcmp(word, shells[i].name) != 0)
            continue;
        struct ld_buffer out = ld_buffer_make(4 * HELP_BYTES_MAX);
        const enum ld_code code = shells[i].write(&out, &err);
        const bool good = code == LD_OK && !out.failed &&
                          fwrite(out.data, 1, out.size, stdout) == out.size && fflush(stdout) == 0;
        ld_buffer_deinit(&out);
        if (!good)
            (void)fprintf(stderr, "latentd completion: %s\n",
                          code == LD_OK ? "the script could not be written" : err.detail);
        return good ? LD_EXIT_OK : LD_EXIT_FAILED;
    }
    (void)fputs(usage, stderr);
    return LD_EXIT_USAGE;
}
