#include "server/exchange.h"

#include "api/dialect.h"
#include "runtime/base/log.h"

#include <stdlib.h>
#include <strings.h>

/* ---- The query ------------------------------------------------------------------------------- */

/* One level of percent escapes and '+' for a blank; the guard has checked the escapes. */
static const char *decode(struct ld_arena *arena, const char *text, size_t size)
{
    char *out = ld_arena_strndup(arena, text, size);
    size_t length = 0;
    for (size_t i = 0; out && i < size; i++) {
        const bool escape = text[i] == '%' && i + 2 < size && ld_hex_digit(text[i + 1]) >= 0 &&
                            ld_hex_digit(text[i + 2]) >= 0;
        if (escape) {
            out[length++] = (char)(ld_hex_digit(text[i + 1]) * 16 + ld_hex_digit(text[i + 2]));
            i += 2;
        } else {
            out[length++] = text[i] == '+' ? ' ' : text[i];
        }
    }
    if (out)
        out[length] = '\0';
    return out;
}

const char *ld_exchange_param(struct ld_exchange *ex, uint32_t index)
{
    const char *text = ex->params[index];
    char *out = ld_arena_strdup(&ex->arena, text);
    size_t length = 0;
    for (size_t i = 0; out && text[i]; i++) { /* '+' is itself in a path */
        const bool escape =
            text[i] == '%' && ld_hex_digit(text[i + 1]) >= 0 && ld_hex_digit(text[i + 2]) >= 0;
        out[length++] =
            escape ? (char)(ld_hex_digit(text[i + 1]) * 16 + ld_hex_digit(text[i + 2])) : text[i];
        i += escape ? 2 : 0;
    }
    if (out)
        out[length] = '\0';
    return out;
}

const char *ld_exchange_query(struct ld_exchange *ex, const char *name)
{
    const size_t name_size = strlen(name);
    for (const char *at = ex->query; *at;) {
        const size_t size = strcspn(at, "&");
        if (size >= name_size && strncmp(at, name, name_size) == 0 &&
            (size == name_size || at[name_size] == '=')) {
            const size_t skip = size == name_size ? name_size : name_size + 1;
            return decode(&ex->arena, at + skip, size - skip);
        }
        at += size + (at[size] == '&' ? 1 : 0);
    }
    return NULL;
}

/* Media ranges are compared as words; quality values other than 0 count as yes. */
bool ld_exchange_accepts(const struct ld_exchange *ex, const char *type, bool by_default)
{
    const char *accept = ld_exchange_header(ex, "Accept");
    if (!accept || !*accept)
        return by_default;
    const size_t type_size = strlen(type);
    for (const char *at = accept; *at;) {
        at += strspn(at, " \t,");
        const size_t size = strcspn(at, ",");
        const size_t word = strcspn(at, ",; \t");
        if (word == type_size && strncasecmp(at, type, word) == 0)
            return true;
        if (by_default && word == 3 && strncmp(at, "*/*", 3) == 0)
            return true;
        at += size;
    }
    return false;
}

/* ---- Replies --------------------------------------------------------------------------------- */

void ld_exchange_set_header(struct ld_exchange *ex, const char *name, const char *value)
{
    LD_ASSERT(ex->reply.header_count < LD_REPLY_HEADERS_MAX);
    if (!value)
        return; /* the arena was full; a reply without it is still a reply */
    ex->reply.header_names[ex->reply.header_count] = name;
    ex->reply.header_values[ex->reply.header_count] = value;
    ex->reply.header_count++;
}

enum ld_handled ld_exchange_json(struct ld_exchange *ex, int status)
{
    if (ex->reply.body.failed)
        return ld_exchange_refuse(ex, LD_E_NOMEM, 0, "out of memory");
    ex->reply.status = status;
    ex->reply.content_type = "application/json";
    return LD_HANDLED;
}

enum ld_handled ld_exchange_empty(struct ld_exchange *ex, int status)
{
    ld_buffer_clear(&ex->reply.body);
    ex->reply.status = status;
    ex->reply.content_type = NULL;
    return LD_HANDLED;
}

/* OpenAI's SDKs ask under paths of ours, and under ComfyUI's /models where they were given the bare
 * address; they name themselves and read one shape only. */
static enum ld_dialect dialect_of(const struct ld_exchange *ex)
{
    const enum ld_dialect dialect = ld_dialect_of_path(ex->path);
    const bool is_shared = dialect == LD_DIALECT_NATIVE || strcmp(ex->path, "/models") == 0;
    return is_shared && ld_exchange_header(ex, "X-Stainless-Lang") ? LD_DIALECT_OPENAI : dialect;
}

enum ld_handled ld_exchange_problem(struct ld_exchange *ex, const struct ld_problem *problem)
{
    const uint32_t retry_s = ld_problem_retry_after(problem);
    const enum ld_dialect dialect = dialect_of(ex);
    ld_buffer_clear(&ex->reply.body);
    ld_dialect_write_problem(dialect, problem, ex->path, &ex->reply.body);
    if (ex->reply.body.failed) /* a sentence that needs no memory */
        ld_buffer_clear(&ex->reply.body);
    ex->reply.status = ld_dialect_status(dialect, problem);
    ex->reply.content_type =
        dialect == LD_DIALECT_NATIVE ? "application/problem+json" : "application/json";
    /* OpenAI's SDKs come again after these unless they are told not to. */
    if (dialect == LD_DIALECT_OPENAI && retry_s == 0 &&
        (ex->reply.status == 409 || ex->reply.status >= 500))
        ld_exchange_set_header(ex, "X-Should-Retry", "false");
    if (retry_s > 0) {
        char *text = ld_arena_alloc(&ex->arena, 16);
        if (text && ld_fmt(text, 16, "%u", retry_s))
            ld_exchange_set_header(ex, "Retry-After", text);
    }
    return LD_HANDLED;
}

enum ld_handled ld_exchange_fail(struct ld_exchange *ex, const struct ld_error *err)
{
    struct ld_problem problem;
    ld_problem_init(&problem, &ex->arena);
    (void)ld_problem_add_error(&problem, NULL, err);
    if (ld_problem_status(&problem) >= 500)
        ld_log_error(LD_LOG_ERROR, "http", "a request failed", err);
    return ld_exchange_problem(ex, &problem);
}

enum ld_handled ld_exchange_refuse(struct ld_exchange *ex, enum ld_code code, int status,
                                   const char *sentence)
{
    struct ld_problem problem;
    ld_problem_init(&problem, &ex->arena);
    (void)ld_problem_add(&problem, code, "", "%s", sentence);
    problem.status = status;
    return ld_exchange_problem(ex, &problem);
}
