#include "runtime/base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const code_names[LD_CODE_COUNT] = {
    "ok",         "invalid",   "range",        "shape",         "align",
    "format",     "too_large", "not_found",    "conflict",      "auth",
    "forbidden",  "rate",      "queue_full",   "out_of_memory", "gpu_out_of_memory",
    "device",     "io",        "storage_full", "timeout",       "cancelled",
    "lease_lost", "draining",  "unsupported",  "bug",           "numerical"};

const char *ld_code_name(enum ld_code code)
{
    return (unsigned)code < LD_CODE_COUNT ? code_names[code] : "unknown";
}

/* The newest frame always has a place: on overflow the middle goes, the cause stays. */
static struct ld_error_frame *next_frame(struct ld_error *err)
{
    if (err->frame_count < LD_ERROR_FRAMES_MAX)
        return &err->frames[err->frame_count++];
    const uint32_t middle = LD_ERROR_FRAMES_MAX / 2;
    memmove(&err->frames[middle], &err->frames[middle + 1],
            (LD_ERROR_FRAMES_MAX - middle - 1) * sizeof err->frames[0]);
    err->frames_dropped++;
    return &err->frames[LD_ERROR_FRAMES_MAX - 1];
}

enum ld_code ld_error_set(struct ld_error *err, enum ld_code code, int os_code, const char *file,
                          int line, const char *format, ...)
{
    if (!err)
        return code;
    memset(err, 0, sizeof *err);
    err->code = code;
    va_list args;
    va_start(args, format);
    vsnprintf(err->detail, sizeof err->detail, format, args);
    va_end(args);
    struct ld_error_frame *frame = next_frame(err);
    frame->file = file;
    frame->line = line;
    frame->os_code = os_code;
    snprintf(frame->message, sizeof frame->message, "%.*s", LD_ERROR_MESSAGE_SIZE - 1, err->detail);
    return code;
}

enum ld_code ld_error_add(struct ld_error *err, const char *file, int line, const char *format, ...)
{
    if (!err)
        return LD_E_BUG;
    struct ld_error_frame *frame = next_frame(err);
    frame->file = file;
    frame->line = line;
    frame->os_code = 0;
    va_list args;
    va_start(args, format);
    vsnprintf(frame->message, sizeof frame->message, format, args);
    va_end(args);
    return err->code;
}

enum ld_code ld_error_at(struct ld_error *err, const char *format, ...)
{
    if (!err)
        return LD_E_BUG;
    va_list args;
    va_start(args, format);
    vsnprintf(err->pointer, sizeof err->pointer, format, args);
    va_end(args);
    return err->code;
}

void ld_assert_failed(const char *condition, const char *file, int line)
{
    fprintf(stderr, "latentd: broken invariant: %s (%s:%d)\n", condition, file, line);
    abort();
}
