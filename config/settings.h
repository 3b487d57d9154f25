/*
 * Settings of the running program (config/settings.def): from a file, the environment and flags,
 * each value with its origin. Precedence: flag > environment > file > default.
 *
 *     ld_settings_init(&settings, &arena);
 *     ld_settings_load_file(&settings, path, &err);
 *     ld_settings_load_environment(&settings, &err);
 *     ld_settings_set(&settings, "server", "port", "7861", LD_ORIGIN_FLAG, &err);
 *     ld_settings_check(&settings, key_count > 0, &err);
 */
#ifndef LD_CONFIG_SETTINGS_H
#define LD_CONFIG_SETTINGS_H

#include "runtime/base/arena.h"
#include "runtime/base/buffer.h"

enum ld_setting_origin { LD_ORIGIN_DEFAULT, LD_ORIGIN_FILE, LD_ORIGIN_ENVIRONMENT, LD_ORIGIN_FLAG };

enum ld_setting_kind {
    LD_SETTING_INT,
    LD_SETTING_BOOL,
    LD_SETTING_TEXT,
    LD_SETTING_LIST, /* stored as its text; ld_settings_list_next walks it */
    LD_SETTING_WORD
};

enum { LD_SETTINGS_MAX = 64 };

/* Texts are never NULL; they live in the arena or are static. */
struct ld_settings {
#define INT(section, key, member, ...)  int64_t member;
#define BOOL(section, key, member, ...) bool member;
#define TEXT(section, key, member, ...) const char *member;
#define LIST(section, key, member, ...) const char *member;
#define WORD(section, key, member, ...) const char *member;
#include "config/settings.def"
#undef INT
#undef BOOL
#undef TEXT
#undef LIST
#undef WORD
    struct ld_arena *arena;
    uint8_t origins[LD_SETTINGS_MAX]; /* enum ld_setting_origin, by row of the table */
};

/* One row of the table. */
struct ld_setting {
    const char *section, *key;
    const char *flag; /* short flag without dashes, "" if none; --SECTION-KEY always works */
    const char *doc, *unit, *words;
    const char *default_text;
    int64_t default_integer; /* INT; BOOL as 0 or 1 */
    int64_t min, max;
    size_t offset;
    enum ld_setting_kind kind;
};

const struct ld_setting *ld_setting_table(uint32_t *count);
/* By flag name without dashes: the short one or "section-key"; NULL if unknown. */
const struct ld_setting *ld_setting_by_flag(const char *flag);
/* The nearest flag for a message, or NULL. */
const char *ld_setting_flag_like(const char *flag);

/* All defaults. `arena` keeps texts and must outlive the settings. */
void ld_settings_init(struct ld_settings *settings, struct ld_arena *arena);

/*
 * Set one value; ignored (LD_OK) when the present value comes from a stronger origin.
 * Errors   LD_E_NOT_FOUND (unknown section or key; names the nearest), LD_E_INVALID, LD_E_RANGE
 *          (beyond a bound; robustness.md 1 f), LD_E_NOMEM.
 */
enum ld_code ld_settings_set(struct ld_settings *settings, const char *section, const char *key,
                             const char *value, enum ld_setting_origin origin,
                             struct ld_error *err) LD_MUST_USE;
/* The same by flag. */
enum ld_code ld_settings_set_flag(struct ld_settings *settings, const char *flag, const char *value,
                                  struct ld_error *err) LD_MUST_USE;

/* An INI file of at most 256 KiB. Errors: LD_E_NOT_FOUND, LD_E_IO, LD_E_FORMAT with the line, and
 * those of ld_settings_set with the line. */
enum ld_code ld_settings_load_file(struct ld_settings *settings, const char *path,
                                   struct ld_error *err) LD_MUST_USE;
/* The same from memory (tests, fuzzer). */
enum ld_code ld_settings_load_text(struct ld_settings *settings, struct ld_span text,
                                   struct ld_error *err) LD_MUST_USE;
/* LATENTD_SECTION_KEY for every row; an unknown name that begins with LATENTD_ and a known section
 * is an error too. LATENTD_LOG_LEVEL=debug. */
enum ld_code ld_settings_load_environment(struct ld_settings *settings,
                                          struct ld_error *err) LD_MUST_USE;

/*
 * Combinations that would be unsafe (robustness.md 1): a bind address beyond loopback without a key
 * and without allow_anonymous, or without behind_proxy.
 * Errors   LD_E_FORBIDDEN with what to do.
 */
enum ld_code ld_settings_check(const struct ld_settings *settings, bool has_keys,
                               struct ld_error *err) LD_MUST_USE;

/* Is the address 127.0.0.0/8, ::1 or "localhost"? */
bool ld_address_is_loopback(const char *address);

/* Walk a comma-separated list: trimmed items, empty ones skipped; false at the end. *pos starts
 * at 0. */
bool ld_settings_list_next(const char *list, size_t *pos, struct ld_span *item);

/*
 * After reading the settings again: what cannot change in a running server (addresses, folders,
 * processes) is set back to what `running` has, and told by name if it differs. The texts of
 * `running` are borrowed.
 */
void ld_settings_keep(struct ld_settings *fresh, const struct ld_settings *running,
                      void (*kept)(void *ctx, const char *section, const char *key), void *ctx);

const char *ld_setting_origin_name(enum ld_setting_origin origin);
/* The effective settings as an INI file, each line with its origin (--print-config). */
void ld_settings_print(const struct ld_settings *settings, struct ld_buffer *out);
/* latentd.example.conf: every setting, commented out, with its doc and default. */
void ld_settings_write_example(struct ld_buffer *out);
/* docs/settings.md. */
void ld_settings_write_docs(struct ld_buffer *out);

#endif
