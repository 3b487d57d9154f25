#include "server/model_tool.h"

#include "runtime/base/bytes.h"
#include "runtime/base/clock.h"
#include "server/cmd.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { REDRAW_US = 200000 };

/* ---- Arguments ------------------------------------------------------------------------------- */

bool ld_tool_next(struct ld_tool_args *args)
{
    static _Thread_local char name[64];
    args->flag = args->value = NULL;
    if (args->at >= args->argc)
        return false;
    const char *word = args->argv[args->at++];
    if (word[0] != '-' || word[1] == '\0') {
        args->value = word;
        return true;
    }
    const char *start = word[1] == '-' ? word + 2 : word + 1;
    const char *equals = strchr(start, '=');
    const size_t size = equals ? (size_t)(equals - start) : strlen(start);
    if (!ld_fmt(name, sizeof name, "%.*s", (int)size, start))
        (void)ld_fmt(name, sizeof name, "?");
    args->flag = strcmp(name, "o") == 0 ? "output" : strcmp(name, "h") == 0 ? "help" : name;
    args->value = equals ? equals + 1 : NULL;
    return true;
}

enum ld_code ld_tool_value(struct ld_tool_args *args, const char **value, struct ld_error *err)
{
    if (!args->value && args->at < args->argc)
        args->value = args->argv[args->at++];
    *value = args->value;
    return args->value && args->value[0]
               ? LD_OK
               : LD_FAIL(err, LD_E_INVALID, "--%s needs a value", args->flag);
}

enum ld_code ld_tool_number(struct ld_tool_args *args, double low, double high, double *number,
                            struct ld_error *err)
{
    const char *text;
    const enum ld_code code = ld_tool_value(args, &text, err);
    if (code != LD_OK)
        return code;
    return ld_parse_double(ld_span_text(text), number) && *number >= low && *number <= high
               ? LD_OK
               : LD_FAIL(err, LD_E_RANGE, "--%s must be a number between %g and %g", args->flag,
                         low, high);
}

/* ---- Interrupts ------------------------------------------------------------------------------ */

static volatile sig_atomic_t interrupted;

static void on_signal(int number)
{
    (void)number;
    interrupted = 1;
}

void ld_tool_catch_interrupts(void)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

bool ld_tool_interrupted(void)
{
    return interrupted != 0;
}

/* ---- Progress -------------------------------------------------------------------------------- */

bool ld_tool_show(struct ld_tool_progress *progress, const char *phase, uint64_t done,
                  uint64_t total)
{
    const int64_t now = ld_clock_monotonic_us();
    if (!progress->quiet && isatty(STDERR_FILENO) && now - progress->shown_us > REDRAW_US) {
        (void)fprintf(stderr, "\r%s %3.0f %%", phase,
                      total ? 100.0 * (double)done / (double)total : 100.0);
        (void)fflush(stderr);
        progress->shown_us = now;
        progress->open = true;
    }
    return !interrupted;
}

void ld_tool_clear(struct ld_tool_progress *progress)
{
    if (progress->open)
        (void)fputs("\r                    \r", stderr);
    progress->open = false;
}

int ld_tool_fail(const struct ld_error *err)
{
    (void)fprintf(stderr, "latentd: %s\n", err->detail);
    return interrupted ? LD_EXIT_INTERRUPTED : LD_EXIT_FAILED;
}
