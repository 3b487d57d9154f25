#include "api/problem.h"

#include <stdarg.h>
#include <stdio.h>

void ld_problem_init(struct ld_problem *problem, struct ld_arena *arena)
{
    memset(problem, 0, sizeof *problem);
    problem->arena = arena;
}

enum ld_code ld_problem_add(struct ld_problem *problem, enum ld_code code, const char *pointer,
                            const char *format, ...)
{
    char message[LD_ERROR_DETAIL_SIZE];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(message, sizeof message, format, args); /* a longer sentence is cut */
    va_end(args);
    LD_ASSERT(code != LD_OK);
    if (problem->code == LD_OK) {
        problem->code = code;
        (void)ld_fmt(problem->detail, sizeof problem->detail, "%s", message);
    }
    const char *kept = ld_arena_strdup(problem->arena, message);
    const char *place = ld_arena_strdup(problem->arena, pointer);
    if (!kept || !place || problem->item_count == LD_PROBLEM_ITEMS) {
        problem->dropped++;
        return code;
    }
    const struct ld_problem_item item = {place, kept};
    problem->items[problem->item_count++] = item;
    return code;
}

enum ld_code ld_problem_add_error(struct ld_problem *problem, const char *pointer,
                                  const struct ld_error *err)
{
    return ld_problem_add(problem, err->code, pointer ? pointer : err->pointer, "%s", err->detail);
}

/* ---- Statuses -------------------------------------------------------------------------------- */

int ld_code_status(enum ld_code code)
{
    switch (code) {
    case LD_OK:
        return 200;
    case LD_E_FORMAT:
        return 400;
    case LD_E_AUTH:
        return 401;
    case LD_E_FORBIDDEN:
        return 403;
    case LD_E_NOT_FOUND:
        return 404;
    case LD_E_CONFLICT:
    case LD_E_CANCELLED:
        return 409;
    case LD_E_TOO_LARGE:
        return 413;
    case LD_E_INVALID:
    case LD_E_RANGE:
    case LD_E_SHAPE:
    case LD_E_ALIGN:
    case LD_E_UNSUPPORTED:
        return 422;
    case LD_E_RATE:
    case LD_E_QUEUE_FULL:
        return 429;
    case LD_E_DEVICE:
    case LD_E_IO:
    case LD_E_LEASE_LOST:
    case LD_E_BUG:
    case LD_E_NUMERICAL:
        return 500;
    case LD_E_NOMEM:
    case LD_E_TIMEOUT:
    case LD_E_DRAINING:
        return 503;
    case LD_E_GPU_NOMEM:
    case LD_E_NOSPACE:
        return 507;
    case LD_CODE_COUNT:
        break;
    }
    return 500;
}

/* Names as api.md and robustness.md 5 give them, for clients to tell cases apart. */
static const char *code_public_name(enum ld_code code)
{
    switch (code) { // clang-format off
    case LD_OK: return "ok";
    case LD_E_FORMAT: return "malformed";
    case LD_E_AUTH: return "unauthorized";
    case LD_E_NOSPACE: return "storage_full";
    case LD_E_GPU_NOMEM: return "gpu_out_of_memory";
    case LD_E_NOMEM: return "out_of_memory";
    case LD_E_INVALID: case LD_E_RANGE: case LD_E_SHAPE: case LD_E_ALIGN: return "invalid";
    case LD_E_IO: case LD_E_BUG: case LD_E_DEVICE: case LD_E_LEASE_LOST: return "internal";
    case LD_E_TOO_LARGE: case LD_E_NOT_FOUND: case LD_E_CONFLICT: case LD_E_FORBIDDEN:
    case LD_E_RATE: case LD_E_QUEUE_FULL: case LD_E_TIMEOUT: case LD_E_CANCELLED:
    case LD_E_DRAINING: case LD_E_UNSUPPORTED: case LD_E_NUMERICAL: case LD_CODE_COUNT: break;
    } // clang-format on
    return ld_code_name(code);
}

/* What a stored job may have failed with. */
static const struct {
    const char *name;
    int status;
} job_errors[] = {
    {"worker_crash", 500},
    {"attempts_exhausted", 500},
    {"numerical", 500},
    {"storage_full", 507},
    {"gpu_out_of_memory", 503},
    {"out_of_memory", 503},
    {"cancelled", 409},
    {"expired", 410},
    {"invalid", 422},
    {"not_found", 422},
    {"unsupported", 422},
    {"draining", 503},
    {"worker_unavailable", 503},
    {"timeout", 503},
};

int ld_job_error_status(const char *name)
{
    for (size_t i = 0; i < sizeof job_errors / sizeof job_errors[0]; i++)
        if (strcmp(job_errors[i].name, name) == 0)
            return job_errors[i].status;
    return 500;
}

int ld_problem_status(const struct ld_problem *problem)
{
    return problem->status ? problem->status : ld_code_status(problem->code);
}

uint32_t ld_problem_retry_after(const struct ld_problem *problem)
{
    const int status = ld_problem_status(problem);
    if (problem->retry_after_s > 0)
        return problem->retry_after_s;
    if (status == 429)
        return 10;
    return status == 503 || problem->code == LD_E_NOSPACE ? 5 : 0;
}

const char *ld_problem_name(const struct ld_problem *problem)
{
    return problem->name ? problem->name : code_public_name(problem->code);
}

/* RFC 9110 section 15, RFC 6585, RFC 4918. */
const char *ld_status_title(int status)
{
    static const struct {
        int status;
        const char *title;
    } titles[] = {
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {406, "Not Acceptable"},
        {408, "Request Timeout"},
        {409, "Conflict"},
        {410, "Gone"},
        {411, "Length Required"},
        {412, "Precondition Failed"},
        {413, "Content Too Large"},
        {414, "URI Too Long"},
        {415, "Unsupported Media Type"},
        {416, "Range Not Satisfiable"},
        {417, "Expectation Failed"},
        {421, "Misdirected Request"},
        {422, "Unprocessable Content"},
        {429, "Too Many Requests"},
        {431, "Request Header Fields Too Large"},
        {500, "Internal Server Error"},
        {501, "Not Implemented"},
        {503, "Service Unavailable"},
        {504, "Gateway Timeout"},
        {507, "Insufficient Storage"},
    };
    for (size_t i = 0; i < sizeof titles / sizeof titles[0]; i++)
        if (titles[i].status == status)
            return titles[i].title;
    return "Error";
}

/* ---- The document ---------------------------------------------------------------------------- */

static void write_head(const char *name, int status, const char *detail, const char *instance,
                       struct ld_buffer *out)
{
    ld_buffer_text(out, "{\"type\":\"urn:latentd:problem:");
    ld_buffer_text(out, name);
    ld_buffer_text(out, "\",\"title\":");
    ld_buffer_json_string(out, ld_status_title(status));
    ld_buffer_format(out, ",\"status\":%d,\"detail\":", status);
    ld_buffer_json_string(out, detail);
    if (instance && instance[0]) {
        ld_buffer_text(out, ",\"instance\":");
        ld_buffer_json_string(out, instance);
    }
}

void ld_problem_write(const struct ld_problem *problem, const char *instance, struct ld_buffer *out)
{
    write_head(ld_problem_name(problem), ld_problem_status(problem), problem->detail, instance,
               out);
    if (problem->item_count > 0) {
        ld_buffer_text(out, ",\"errors\":[");
        for (uint32_t i = 0; i < problem->item_count; i++) {
            ld_buffer_text(out, i ? ",{\"pointer\":" : "{\"pointer\":");
            ld_buffer_json_string(out, problem->items[i].pointer);
            ld_buffer_text(out, ",\"message\":");
            ld_buffer_json_string(out, problem->items[i].message);
            ld_buffer_byte(out, '}');
        }
        ld_buffer_byte(out, ']');
    }
    if (problem->dropped > 0)
        ld_buffer_format(out, ",\"errors_omitted\":%u", problem->dropped);
    ld_buffer_byte(out, '}');
}

void ld_problem_write_job_error(const char *name, const char *detail, const char *instance,
                                struct ld_buffer *out)
{
    write_head(name, ld_job_error_status(name), detail, instance, out);
    ld_buffer_byte(out, '}');
}
