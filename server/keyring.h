/*
 * The keys of a server: one file of lines beside the job store (keys.jsonl, mode 0600), which
 * `latentd keys` and the administrator's calls rewrite as a whole under a lock, and a copy of it in
 * the front that follows the file. So a new or a revoked key counts from the next call on, without
 * a restart.
 *
 * A server that has seen a key never goes back to serving everybody, not even when the last one was
 * revoked or the file is gone or damaged; that takes a restart without the file.
 */
#ifndef LD_SERVER_KEYRING_H
#define LD_SERVER_KEYRING_H

#include "server/key.h"

enum { LD_KEYS_MAX = 10000, LD_KEYS_FILE_BYTES_MAX = 32 << 20 };

struct ld_keyring;

/* `dir` is the state folder; a missing file is an empty ring.
 * Errors   LD_E_FORMAT (names the line), LD_E_IO, LD_E_NOMEM. */
enum ld_code ld_keyring_open(struct ld_keyring **ring, const char *dir,
                             struct ld_error *err) LD_MUST_USE;
void ld_keyring_close(struct ld_keyring *ring);

/* Any thread, as all that follow. Is there a key, or was there ever one? */
bool ld_keyring_is_configured(struct ld_keyring *ring);

/* A copy of the key with this id, revoked ones too; false if there is none. */
bool ld_keyring_find(struct ld_keyring *ring, const char *id, struct ld_key *key);

/* The same without a look at the file, for those who ask often and need not be the first to know.
 */
bool ld_keyring_recall(struct ld_keyring *ring, const char *id, struct ld_key *key);

/* The valid key whose text this is. */
bool ld_keyring_check(struct ld_keyring *ring, struct ld_span text, struct ld_key *key);

/* How many keys are valid. */
uint32_t ld_keyring_valid_count(struct ld_keyring *ring);

/* Grows whenever the keys have changed. */
uint64_t ld_keyring_generation(struct ld_keyring *ring);

/* Copies of all, in the order of the file, in the arena. Errors   LD_E_NOMEM. */
enum ld_code ld_keyring_list(struct ld_keyring *ring, struct ld_arena *arena, struct ld_key **keys,
                             uint32_t *count, struct ld_error *err) LD_MUST_USE;

/* ---- Changing the file: any process ---------------------------------------------------------- */

/* Errors of the three: LD_E_CONFLICT (a valid key has that name), LD_E_NOT_FOUND (no valid key has
 * that id or name), LD_E_RANGE (LD_KEYS_MAX), LD_E_FORMAT, LD_E_NOSPACE, LD_E_IO. */
enum ld_code ld_keys_add(const char *dir, struct ld_key *key, struct ld_error *err) LD_MUST_USE;
/* `who`: a key's id or name; `*key` is what it was. */
enum ld_code ld_keys_revoke(const char *dir, const char *who, struct ld_key *key,
                            struct ld_error *err) LD_MUST_USE;
/* Replace the key of the same id: its name, scopes and limits. */
enum ld_code ld_keys_replace(const char *dir, const struct ld_key *key,
                             struct ld_error *err) LD_MUST_USE;

#endif
