/*
 * What `serve` and `worker` are started with: every setting as a flag, over the environment, over
 * the configuration file. Both verbs take the same flags, so that a front can start its workers
 * with its own.
 */
#ifndef LD_SERVER_CMD_OPTIONS_H
#define LD_SERVER_CMD_OPTIONS_H

#include "config/settings.h"

struct ld_cmd_options {
    struct ld_arena arena;
    struct ld_settings settings;
    bool help, check_config, print_config;
    const char *script; /* of the scripted worker, NULL: the engine */
    uint32_t slot;      /* of a worker: its number among those of its front */
};

/*
 * Reads file, environment and flags. Errors   LD_E_INVALID (usage), LD_E_NOT_FOUND (unknown flag,
 * names the nearest), those of the settings.
 */
enum ld_code ld_cmd_options_read(struct ld_cmd_options *options, int argc, char **argv,
                                 struct ld_error *err) LD_MUST_USE;
void ld_cmd_options_deinit(struct ld_cmd_options *options);

/* All flags with their defaults, for --help. */
void ld_cmd_options_help(struct ld_buffer *out);

/* Set up the log as the settings say. */
void ld_cmd_options_log(const struct ld_settings *settings);

#endif
