/*
 * One API key: who it is, what it may do, and the hash of its secret. A key is shown to its owner
 * once, as `ldk_<id>_<secret>`: the id (8 characters) is public and names it everywhere, the secret
 * (32 random bytes in base 62) is kept nowhere, only its SHA-256. 256 bits of chance need no slow
 * hash.
 *
 *     ld_key_make(&key, secret);                       // new id, secret and hash
 *     if (ld_key_secret_fits(&key, candidate)) ...     // takes the same time whatever it holds
 */
#ifndef LD_SERVER_KEY_H
#define LD_SERVER_KEY_H

#include "api/json_scan.h"
#include "api/problem.h"
#include "config/settings.h"
#include "runtime/base/id.h"

enum {
    LD_KEY_ID_LENGTH = 8,
    LD_KEY_ID_SIZE = LD_KEY_ID_LENGTH + 1,
    LD_KEY_SECRET_LENGTH = 43, /* the digits of 2^256 in base 62 */
    LD_KEY_TEXT_LENGTH = 4 + LD_KEY_ID_LENGTH + 1 + LD_KEY_SECRET_LENGTH,
    LD_KEY_TEXT_SIZE = LD_KEY_TEXT_LENGTH + 1,
    LD_KEY_NAME_SIZE = 65,
    LD_KEY_MODELS_SIZE = 513
};

/* What a call asks for and a key allows. */
enum ld_scope {
    LD_SCOPE_OPEN, /* health and documents: no key */
    LD_SCOPE_READ,
    LD_SCOPE_GENERATE,
    LD_SCOPE_ADMIN,
    LD_SCOPE_COUNT
};
const char *ld_scope_name(enum ld_scope scope);

/* How far a picture may go; a key's rating allows itself and what stands before it. */
enum ld_rating {
    LD_RATING_GENERAL,
    LD_RATING_SENSITIVE,
    LD_RATING_QUESTIONABLE,
    LD_RATING_EXPLICIT
};
enum { LD_RATING_COUNT = LD_RATING_EXPLICIT + 1 };
const char *ld_rating_name(enum ld_rating rating);

enum { LD_KEY_UNSET = -1 };

struct ld_key_limits {
#define LIMIT(name, member, by_default, min, max, doc) int64_t member;
#include "server/key_limits.def"
#undef LIMIT
    enum ld_rating rating;
    char models[LD_KEY_MODELS_SIZE]; /* comma-separated patterns; "": all */
};

struct ld_key {
    char id[LD_KEY_ID_SIZE];
    char name[LD_KEY_NAME_SIZE];
    uint8_t hash[LD_SHA256_BYTES];
    uint32_t scopes; /* bits 1 << enum ld_scope */
    int64_t created_us;
    int64_t revoked_us;          /* 0: it is valid */
    struct ld_key_limits limits; /* LD_KEY_UNSET: as the settings say */
};

/* One row of key_limits.def. */
struct ld_key_limit {
    const char *name, *doc;
    int64_t min, max;
    size_t offset; /* in struct ld_key_limits */
};
const struct ld_key_limit *ld_key_limit_table(uint32_t *count);

/* A key without a name and limits of its own: new id and secret; may read and generate. `text` is
 * the whole key, to be shown once. */
void ld_key_make(struct ld_key *key, char text[LD_KEY_TEXT_SIZE]);

/* The parts of "ldk_<id>_<secret>"; false when it does not look like a key at all. */
bool ld_key_split(struct ld_span text, char id[LD_KEY_ID_SIZE], struct ld_span *secret);

/* Hash and compare in constant time. `key` may be NULL: as long as with one, and false. */
bool ld_key_secret_fits(const struct ld_key *key, struct ld_span secret);

/* The limits that hold: the key's own, else those of the settings. `limits` NULL: all of them. */
void ld_key_limits_effective(const struct ld_key_limits *limits, const struct ld_settings *settings,
                             struct ld_key_limits *out);

/*
 * Set what the members of an object say: name, scopes, rating, models and the limits (null: back to
 * the settings'). Every member that is refused is added to `problem` with its pointer.
 * Errors   the code of the first.
 */
enum ld_code ld_key_apply(struct ld_key *key, const struct ld_json_tree *tree,
                          const struct ld_json_node *object, struct ld_arena *arena,
                          struct ld_problem *problem) LD_MUST_USE;
/* The same for one member given as text ("scopes", "generate,read"); the command line's way.
 * Errors   LD_E_NOT_FOUND (no such member), LD_E_INVALID, LD_E_RANGE. */
enum ld_code ld_key_set(struct ld_key *key, const char *member, const char *value,
                        struct ld_error *err) LD_MUST_USE;

/* The line of keys.jsonl, and back. Errors   LD_E_FORMAT. */
void ld_key_write_line(const struct ld_key *key, struct ld_buffer *out);
enum ld_code ld_key_read_line(struct ld_key *key, struct ld_span line,
                              struct ld_error *err) LD_MUST_USE;

/* {"id","name","scopes",...}: what may be shown, with the limits that hold; no hash. */
void ld_key_write_view(const struct ld_key *key, const struct ld_settings *settings,
                       struct ld_buffer *out);
/* The members "scopes", "rating", "models", "limits" of a caller, without braces. */
void ld_key_write_rights(uint32_t scopes, const struct ld_key_limits *effective,
                         struct ld_buffer *out);

#endif
