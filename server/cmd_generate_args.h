/*
 * The command line of `latentd generate`: its own flags, and every request field as a flag.
 */
#ifndef LD_SERVER_CMD_GENERATE_ARGS_H
#define LD_SERVER_CMD_GENERATE_ARGS_H

#include "api/sweep.h"
#include "runtime/engine.h"

/* Texts point into argv. */
struct ld_generate_args {
    struct ld_engine_config engine;
    const char *output; /* -o; NULL: by the format, ld_cmd_default_output */
    const char *replay; /* a picture to paint again; NULL: none */
    const char *server, *key;
    const char *init_path, *mask_path;                  /* NULL: none */
    const char *control_paths[LD_REQUEST_CONTROLS_MAX]; /* --control-image, repeated */
    uint32_t control_path_count;
    const char *list;      /* --list WHAT, NULL: paint */
    struct ld_sweep sweep; /* --sweep, repeated */
    bool json, quiet, help;
    struct ld_request request;
};

/*
 * Texts of `request` are made in `arena`.
 * Errors   LD_E_INVALID (a flag without its value, a second prompt), LD_E_NOT_FOUND (unknown flag,
 *          names the nearest), and those of ld_request_set_text.
 */
enum ld_code ld_generate_args_parse(struct ld_generate_args *args, struct ld_arena *arena, int argc,
                                    char **argv, struct ld_error *err) LD_MUST_USE;

/* The help text: own flags, then the request's with bounds and defaults. */
void ld_generate_args_help(struct ld_buffer *out);

#endif
