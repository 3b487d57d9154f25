/*
 * Structured log lines on stderr: one event is one line of at most 4 KiB and one write, JSON in
 * services and readable text on a terminal. Every value is escaped, so no request can forge a line
 * or drive a terminal. Private text (prompts) has its own field type and is left out unless the
 * operator asks for it.
 *
 *     LD_LOG(LD_LOG_INFO, "http", "listening", ld_log_int("port", 7860));
 *     LD_LOG(LD_LOG_WARN, "supervisor", "worker died", ld_log_text("job_id", id),
 *            ld_log_int("signal", 9));
 */
#ifndef LD_BASE_LOG_H
#define LD_BASE_LOG_H

#include "runtime/base/bytes.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { LD_LOG_LINE_MAX = 4096 };

enum ld_log_level { LD_LOG_DEBUG, LD_LOG_INFO, LD_LOG_WARN, LD_LOG_ERROR };
enum ld_log_format { LD_LOG_AUTO, LD_LOG_JSON, LD_LOG_PRETTY };
enum ld_log_private { LD_LOG_PRIVATE_NONE, LD_LOG_PRIVATE_HASH, LD_LOG_PRIVATE_FULL };

enum ld_log_kind {
    LD_LOG_FIELD_END,
    LD_LOG_FIELD_MESSAGE,
    LD_LOG_FIELD_TEXT,
    LD_LOG_FIELD_INT,
    LD_LOG_FIELD_REAL,
    LD_LOG_FIELD_PRIVATE
};

struct ld_log_field {
    enum ld_log_kind kind;
    const char *key;
    const char *text;
    int64_t integer;
    double real;
};

static inline struct ld_log_field ld_log_text(const char *key, const char *text)
{
    struct ld_log_field field = {LD_LOG_FIELD_TEXT, key, text, 0, 0};
    return field;
}

static inline struct ld_log_field ld_log_int(const char *key, int64_t value)
{
    struct ld_log_field field = {LD_LOG_FIELD_INT, key, "", value, 0};
    return field;
}

static inline struct ld_log_field ld_log_real(const char *key, double value)
{
    struct ld_log_field field = {LD_LOG_FIELD_REAL, key, "", 0, value};
    return field;
}

/* Text of a user: shown as ld_log_setup says. */
static inline struct ld_log_field ld_log_private(const char *key, const char *text)
{
    struct ld_log_field field = {LD_LOG_FIELD_PRIVATE, key, text, 0, 0};
    return field;
}

static inline struct ld_log_field ld_log_message(const char *text)
{
    struct ld_log_field field = {LD_LOG_FIELD_MESSAGE, "msg", text, 0, 0};
    return field;
}

static inline struct ld_log_field ld_log_end(void)
{
    struct ld_log_field field = {LD_LOG_FIELD_END, "", "", 0, 0};
    return field;
}

/* Before other threads start, and again on reload. LD_LOG_AUTO is pretty on a terminal. */
void ld_log_setup(enum ld_log_level level, enum ld_log_format format, enum ld_log_private shown);

/* Where lines go, for tests and for reopening; -1 restores stderr. Borrows the descriptor. */
void ld_log_set_fd(int fd);

/* True if an event of that level would be written. */
bool ld_log_enabled(enum ld_log_level level);

/* `fields` ends with ld_log_end(). Any thread; never fails, never allocates. */
void ld_log_write(enum ld_log_level level, const char *component,
                  const struct ld_log_field *fields);

/* The error's code, sentence and private frames under `message`. */
void ld_log_error(enum ld_log_level level, const char *component, const char *message,
                  const struct ld_error *err);

/* The message, then any number of fields. */
#define LD_LOG(level, component, ...)                                                              \
    ld_log_write((level), (component), (const struct ld_log_field[]){LD_LOG_FIELDS(__VA_ARGS__)})
#define LD_LOG_FIELDS(...)                 LD_LOG_MESSAGE_FIRST(__VA_ARGS__, ld_log_end(), ld_log_end())
#define LD_LOG_MESSAGE_FIRST(message, ...) ld_log_message(message), __VA_ARGS__

#ifdef __cplusplus
}
#endif
#endif
