#include "runtime/base/log.h"

#include "runtime/base/clock.h"
#include "runtime/base/id.h"

#include <errno.h>
#include <math.h>
#include <stdatomic.h>
#include <unistd.h>

static atomic_int level_min = LD_LOG_INFO;
static atomic_int line_format = LD_LOG_AUTO;
static atomic_int private_shown = LD_LOG_PRIVATE_NONE;
static atomic_int line_fd = STDERR_FILENO;

void ld_log_setup(enum ld_log_level level, enum ld_log_format format, enum ld_log_private shown)
{
    level_min = (int)level;
    line_format = (int)format;
    private_shown = (int)shown;
}

void ld_log_set_fd(int fd)
{
    line_fd = fd < 0 ? STDERR_FILENO : fd;
}

bool ld_log_enabled(enum ld_log_level level)
{
    return (int)level >= level_min;
}

/* ---- A line of fixed size -------------------------------------------------------------------- */

/* The marker and the closing of an object must always fit, so they have a reserve. */
#define CUT_MARKER "...[cut]"
enum { LINE_RESERVE = 48 };

struct line {
    char bytes[LD_LOG_LINE_MAX];
    size_t size;
    bool full;
};

static void put(struct line *line, const char *text, size_t size)
{
    if (line->full || line->size + size > sizeof line->bytes - LINE_RESERVE) {
        line->full = true;
        return;
    }
    memcpy(line->bytes + line->size, text, size);
    line->size += size;
}

static void put_text(struct line *line, const char *text)
{
    put(line, text, strlen(text));
}

/* For the closing marks only: uses the reserve. */
static void put_last(struct line *line, const char *text)
{
    const size_t size = strlen(text);
    LD_ASSERT(line->size + size <= sizeof line->bytes);
    memcpy(line->bytes + line->size, text, size);
    line->size += size;
}

/* One code point, escaped so that it is safe inside JSON quotes and on a terminal. */
static void put_escaped(struct line *line, uint32_t c)
{
    static const char digits[] = "0123456789abcdef";
    if (c == '"' || c == '\\') {
        const char pair[2] = {'\\', (char)c};
        put(line, pair, sizeof pair);
        return;
    }
    /* C1 controls and the bidirectional overrides can change how a terminal shows a line. */
    const bool hidden = c < 0x20 || (c >= 0x7F && c < 0xA0) || (c >= 0x200B && c <= 0x200F) ||
                        (c >= 0x2028 && c <= 0x202E) || (c >= 0x2066 && c <= 0x2069) || c == 0xFEFF;
    if (hidden) {
        const char escape[6] = {'\\',
                                'u',
                                digits[(c >> 12) & 15U],
                                digits[(c >> 8) & 15U],
                                digits[(c >> 4) & 15U],
                                digits[c & 15U]};
        put(line, escape, sizeof escape);
        return;
    }
    uint8_t bytes[4];
    const size_t size = ld_utf8_put(c, bytes);
    put(line, (const char *)bytes, size);
}

static void put_quoted(struct line *line, const char *text)
{
    const struct ld_span span = ld_span_text(text);
    put_text(line, "\"");
    if (line->full)
        return;
    for (size_t pos = 0; pos < span.size && !line->full;)
        put_escaped(line, ld_utf8_next(span.data, span.size, &pos));
    if (line->full)
        put_last(line, CUT_MARKER "\"");
    else
        put_last(line, "\"");
}

/* ---- Fields ---------------------------------------------------------------------------------- */

static void put_private(struct line *line, const char *text)
{
    if (private_shown == LD_LOG_PRIVATE_FULL) {
        put_quoted(line, text);
    } else if (private_shown == LD_LOG_PRIVATE_HASH) {
        char hex[LD_SHA256_HEX_SIZE];
        ld_sha256_hex(ld_span_text(text), hex);
        hex[16] = '\0'; /* enough to tell texts apart */
        put_quoted(line, hex);
    } else {
        put_text(line, "\"[private]\"");
    }
}

static void put_value(struct line *line, const struct ld_log_field *field)
{
    char number[40];
    switch (field->kind) {
    case LD_LOG_FIELD_MESSAGE:
    case LD_LOG_FIELD_TEXT:
        put_quoted(line, field->text ? field->text : "");
        break;
    case LD_LOG_FIELD_INT:
        (void)ld_fmt(number, sizeof number, "%lld", (long long)field->integer);
        put_text(line, number);
        break;
    case LD_LOG_FIELD_REAL:
        if (isfinite(field->real))
            (void)ld_fmt(number, sizeof number, "%.9g", field->real);
        put_text(line, isfinite(field->real) ? number : "null");
        break;
    case LD_LOG_FIELD_PRIVATE:
        put_private(line, field->text ? field->text : "");
        break;
    case LD_LOG_FIELD_END:
        break;
    }
}

static const char *level_name(enum ld_log_level level)
{
    static const char *const names[] = {"debug", "info", "warn", "error"};
    return (unsigned)level < 4 ? names[level] : "error";
}

static void compose_json(struct line *line, enum ld_log_level level, const char *component,
                         const struct ld_log_field *fields)
{
    char now[LD_CLOCK_TEXT_SIZE];
    ld_clock_format(ld_clock_wall_us(), now);
    put_text(line, "{\"time\":\"");
    put_text(line, now);
    put_text(line, "\",\"level\":\"");
    put_text(line, level_name(level));
    put_text(line, "\",\"component\":");
    put_quoted(line, component);
    for (; fields->kind != LD_LOG_FIELD_END && !line->full; fields++) {
        const size_t before = line->size;
        put_text(line, ",");
        put_quoted(line, fields->key);
        put_text(line, ":");
        if (line->full) {
            line->size = before; /* half a key would not be JSON */
            break;
        }
        const size_t value_at = line->size;
        put_value(line, fields);
        if (line->full && line->size == value_at)
            line->size = before;
    }
    put_last(line, line->full ? ",\"cut\":true}\n" : "}\n");
}

static void compose_pretty(struct line *line, enum ld_log_level level, const char *component,
                           const struct ld_log_field *fields)
{
    char now[LD_CLOCK_TEXT_SIZE];
    ld_clock_format(ld_clock_wall_us(), now);
    put(line, now + 11, 12); /* the time of day with milliseconds */
    put_text(line, " ");
    put_text(line, level_name(level));
    put_text(line, " ");
    put_text(line, component);
    for (; fields->kind != LD_LOG_FIELD_END && !line->full; fields++) {
        put_text(line, " ");
        if (fields->kind != LD_LOG_FIELD_MESSAGE) {
            put_text(line, fields->key);
            put_text(line, "=");
        }
        put_value(line, fields);
    }
    put_last(line, line->full ? CUT_MARKER "\n" : "\n");
}

void ld_log_write(enum ld_log_level level, const char *component, const struct ld_log_field *fields)
{
    if (!ld_log_enabled(level))
        return;
    const int saved_errno = errno;
    const int fd = line_fd;
    struct line line;
    line.size = 0;
    line.full = false;
    const bool pretty =
        line_format == LD_LOG_PRETTY || (line_format == LD_LOG_AUTO && isatty(fd) == 1);
    if (pretty)
        compose_pretty(&line, level, component, fields);
    else
        compose_json(&line, level, component, fields);
    /* A log that cannot be written must not stop the service; a short write loses the rest. */
    ssize_t written;
    do
        written = write(fd, line.bytes, line.size);
    while (written < 0 && errno == EINTR);
    errno = saved_errno;
}

void ld_log_error(enum ld_log_level level, const char *component, const char *message,
                  const struct ld_error *err)
{
    char trail[1024];
    size_t used = 0;
    trail[0] = '\0';
    for (uint32_t i = 0; i < err->frame_count && i < LD_ERROR_FRAMES_MAX; i++) {
        const struct ld_error_frame *frame = &err->frames[i];
        (void)ld_fmt(trail + used, sizeof trail - used, "%s%s:%d %s (os %d)", i ? "; " : "",
                     frame->file ? frame->file : "?", frame->line, frame->message, frame->os_code);
        used = strlen(trail);
    }
    LD_LOG(level, component, message, ld_log_text("code", ld_code_name(err->code)),
           ld_log_text("detail", err->detail), ld_log_text("trail", trail));
}
