/*
 * The verbs of the program by name, and what they say about themselves: the manual and the shell
 * completion are made from the very text that `latentd VERB --help` prints, which is made from the
 * tables of settings and of request fields.
 */
#ifndef LD_SERVER_VERB_H
#define LD_SERVER_VERB_H

#include "runtime/base/buffer.h"
#include "runtime/base/error.h"

struct ld_verb {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *help; /* NULL: not for people */
};

/* The table (main.c). */
const struct ld_verb *ld_verbs(uint32_t *count);

/*
 * What this program prints for `latentd VERB --help`, by running it.
 * Errors   LD_E_IO, LD_E_NOMEM.
 */
enum ld_code ld_verb_help(const char *verb, struct ld_buffer *out,
                          struct ld_error *err) LD_MUST_USE;

/* One option of a help text. */
struct ld_verb_option {
    struct ld_span name; /* with its dashes */
    struct ld_span doc;  /* the rest of its line */
};

/* The next option of a help text: a line whose first word is "-x" or "--name" (of "-o, --output" it
 * is the long one). False at the end; `*pos` starts at 0. */
bool ld_verb_option_next(struct ld_span help, size_t *pos, struct ld_verb_option *option);

#endif
