/*
 * What `latentd merge` and `latentd convert` share: flags with values, progress for people, and an
 * interrupt that stops the work without leaving half a file.
 */
#ifndef LD_SERVER_MODEL_TOOL_H
#define LD_SERVER_MODEL_TOOL_H

#include "runtime/base/error.h"

#include <stdbool.h>
#include <stdint.h>

/* One pass over the arguments. Caller's storage. */
struct ld_tool_args {
    int argc, at;
    char **argv;
    const char *flag;  /* without dashes; NULL for a plain word */
    const char *value; /* of "--flag=value"; the plain word itself; else NULL */
};

/* False at the end. "-o" is "output", "-h" is "help". */
bool ld_tool_next(struct ld_tool_args *args);
/* The flag's value, from the next argument if need be. Errors LD_E_INVALID: there is none. */
enum ld_code ld_tool_value(struct ld_tool_args *args, const char **value,
                           struct ld_error *err) LD_MUST_USE;
/* Errors   LD_E_RANGE: no number, or outside. */
enum ld_code ld_tool_number(struct ld_tool_args *args, double low, double high, double *number,
                            struct ld_error *err) LD_MUST_USE;

/* Stop at the next tensor when interrupted. */
void ld_tool_catch_interrupts(void);
bool ld_tool_interrupted(void);

/* "write  45 %" on a terminal, a few times a second; `quiet` shows nothing. False when interrupted.
 */
struct ld_tool_progress {
    bool quiet, open;
    int64_t shown_us;
};
bool ld_tool_show(struct ld_tool_progress *progress, const char *phase, uint64_t done,
                  uint64_t total);
/* Remove the line. */
void ld_tool_clear(struct ld_tool_progress *progress);

/* Print the error as this verb's and return the exit status. */
int ld_tool_fail(const struct ld_error *err);

#endif
