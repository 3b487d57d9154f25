/*
 * The state folder: where it is, whether it is fit, and that only one server uses it.
 */
#ifndef LD_SERVER_STATE_H
#define LD_SERVER_STATE_H

#include "config/settings.h"

struct ld_state {
    char dir[4096];
    char db_path[4200];
    char blob_dir[4200];
    char spool_dir[4200];    /* server/spool.h */
    char digests_path[4200]; /* of the workers: runtime/model/digest_cache.h */
    int lock_fd;
};

/*
 * Find or make it (the setting, $STATE_DIRECTORY, $XDG_DATA_HOME/latentd, ~/.local/share/latentd)
 * and lock it; a server that is just ending is waited for.
 * Errors   LD_E_FORBIDDEN (network file system, writable by everyone), LD_E_CONFLICT (in use),
 *          LD_E_NOT_FOUND (nowhere to put it), LD_E_NOSPACE, LD_E_IO.
 */
enum ld_code ld_state_open(struct ld_state *state, const struct ld_settings *settings,
                           struct ld_error *err) LD_MUST_USE;
void ld_state_close(struct ld_state *state);

/* Only the place: nothing is made or locked. Errors   LD_E_NOT_FOUND. */
enum ld_code ld_state_place(struct ld_state *state, const struct ld_settings *settings,
                            struct ld_error *err) LD_MUST_USE;

/* A folder that exists must not be writable by everyone. "" and missing ones pass.
 * Errors   LD_E_FORBIDDEN (names the setting). */
enum ld_code ld_state_check_folder(const char *path, const char *setting,
                                   struct ld_error *err) LD_MUST_USE;

/* Every folder of models, adapters and their kin that is set: there, readable, and not writable by
 * everyone. Without one the workers could never start, and the server would wait for them in vain.
 * Errors   LD_E_INVALID (names setting, flag and folder), LD_E_FORBIDDEN. */
enum ld_code ld_state_check_models(const struct ld_settings *settings,
                                   struct ld_error *err) LD_MUST_USE;

#endif
