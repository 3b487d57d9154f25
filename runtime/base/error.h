/*
 * Error values. Every fallible function returns an `enum ld_code` and takes a `struct ld_error *`
 * last. The struct lives on the caller's stack and never allocates, so an out-of-memory error can
 * always be reported. It carries two things that must not be mixed: one *public* sentence that may
 * be shown to any client, and a chain of private frames for the log.
 *
 *     struct ld_error err = {0};
 *     if (ld_safetensors_open(&file, path, &err) != LD_OK)
 *         return ld_error_note(&err, "loading the base model");
 */
#ifndef LD_BASE_ERROR_H
#define LD_BASE_ERROR_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define LD_MUST_USE                     __attribute__((warn_unused_result))
#define LD_PRINTF(fmt_index, arg_index) __attribute__((format(printf, fmt_index, arg_index)))

enum ld_code {
    LD_OK = 0,
    LD_E_INVALID,
    LD_E_RANGE,
    LD_E_SHAPE,
    LD_E_ALIGN,
    LD_E_FORMAT,
    LD_E_TOO_LARGE,
    LD_E_NOT_FOUND,
    LD_E_CONFLICT,
    LD_E_AUTH,
    LD_E_FORBIDDEN,
    LD_E_RATE,
    LD_E_QUEUE_FULL,
    LD_E_NOMEM,
    LD_E_GPU_NOMEM,
    LD_E_DEVICE,
    LD_E_IO,
    LD_E_NOSPACE,
    LD_E_TIMEOUT,
    LD_E_CANCELLED,
    LD_E_LEASE_LOST,
    LD_E_DRAINING,
    LD_E_UNSUPPORTED,
    LD_E_BUG,
    LD_E_NUMERICAL, /* a model produced values that are no numbers */
    LD_CODE_COUNT
};

enum {
    LD_ERROR_FRAMES_MAX = 8,
    LD_ERROR_DETAIL_SIZE = 512,
    LD_ERROR_POINTER_SIZE = 96,
    LD_ERROR_MESSAGE_SIZE = 96
};

struct ld_error_frame {
    const char *file;
    int line;
    int os_code; /* errno or a device code; 0 where there is none */
    char message[LD_ERROR_MESSAGE_SIZE];
};

struct ld_error {
    enum ld_code code;
    char detail[LD_ERROR_DETAIL_SIZE];   /* the public sentence */
    char pointer[LD_ERROR_POINTER_SIZE]; /* JSON pointer of the offending field, or "" */
    uint32_t frame_count;
    uint32_t frames_dropped; /* middle frames lost to overflow */
    struct ld_error_frame frames[LD_ERROR_FRAMES_MAX];
};

/* ---- Setting and extending ------------------------------------------------------------------- */

/*
 * Start a chain at the cause. `format` gives the public sentence: short, factual, naming the field
 * and the bound, never a path, address or another user's data. Returns `code`, so that
 * `return LD_FAIL(err, LD_E_RANGE, "steps must be between 1 and 150");` is the usual form.
 *
 * Owner    borrows everything; `err` may be NULL, then only the code is returned.
 */
#define LD_FAIL(err, code, ...) ld_error_set((err), (code), 0, __FILE__, __LINE__, __VA_ARGS__)

/* As LD_FAIL, and records `os_code` (an errno captured by the caller on the line before). */
#define LD_FAIL_OS(err, code, os_code, ...)                                                        \
    ld_error_set((err), (code), (os_code), __FILE__, __LINE__, __VA_ARGS__)

/* Add a private frame on the way up; the public sentence stays. Returns the code in `err`. */
#define ld_error_note(err, ...) ld_error_add((err), __FILE__, __LINE__, __VA_ARGS__)

enum ld_code ld_error_set(struct ld_error *err, enum ld_code code, int os_code, const char *file,
                          int line, const char *format, ...) LD_PRINTF(6, 7);
enum ld_code ld_error_add(struct ld_error *err, const char *file, int line, const char *format, ...)
    LD_PRINTF(4, 5);

/* Name the request field as a JSON pointer ("/loras/0/name"). Returns the code in `err`. */
enum ld_code ld_error_at(struct ld_error *err, const char *format, ...) LD_PRINTF(2, 3);

/* The code's stable lower-case name ("too_large"); never NULL. */
const char *ld_code_name(enum ld_code code);

/* ---- Broken invariants ----------------------------------------------------------------------- */

/* Stays on in release: logs and aborts, the supervisor restarts. External input never gets here. */
#define LD_ASSERT(condition)                                                                       \
    ((condition) ? (void)0 : ld_assert_failed(#condition, __FILE__, __LINE__))

void ld_assert_failed(const char *condition, const char *file, int line)
    __attribute__((noreturn, cold));

#ifdef __cplusplus
}
#endif
#endif
