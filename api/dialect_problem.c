/* One error, in the shape of whoever asked. Shapes: api.md 2.1 to 2.4. */
#include "api/dialect.h"

/* The sentences one after another: most shapes have room for one text. */
static void write_sentences(const struct ld_problem *problem, struct ld_buffer *out)
{
    struct ld_buffer text = ld_buffer_make(64 * 1024);
    for (uint32_t i = 0; i < problem->item_count; i++) {
        if (i > 0)
            ld_buffer_text(&text, "; ");
        ld_buffer_text(&text, problem->items[i].message);
    }
    ld_buffer_json_string(out, text.size > 0 && !text.failed ? text.data : problem->detail);
    ld_buffer_deinit(&text);
}

int ld_dialect_status(enum ld_dialect dialect, const struct ld_problem *problem)
{
    const int status = ld_problem_status(problem);
    switch (dialect) {
    case LD_DIALECT_A1111:
        /* The one name that its clients look up by status. */
        for (uint32_t i = 0; i < problem->item_count && status == 422; i++)
            if (strcmp(problem->items[i].pointer, "/sampler") == 0)
                return 404;
        return status;
    case LD_DIALECT_OPENAI:
        if (status == 422 && problem->item_count > 0 &&
            strcmp(problem->items[0].pointer, "/model") == 0)
            return 404;
        return status == 422 || status == 415 ? 400 : status;
    case LD_DIALECT_NOVELAI:
    case LD_DIALECT_COMFY:
        return status == 422 || status == 415 ? 400 : status;
    case LD_DIALECT_NATIVE:
        break;
    }
    return status;
}

/* The classes that its clients see: one of them is what its own device throws when it is full. */
static void write_a1111(const struct ld_problem *problem, int status, struct ld_buffer *out)
{
    const bool memory = strcmp(ld_problem_name(problem), "gpu_out_of_memory") == 0;
    ld_buffer_format(out, "{\"error\":\"%s\",\"detail\":",
                     memory          ? "OutOfMemoryError"
                     : status == 422 ? "ValidationError"
                                     : "HTTPException");
    if (status == 404 && ld_problem_status(problem) == 422)
        ld_buffer_text(out, "\"Sampler not found\"");
    else
        write_sentences(problem, out);
    ld_buffer_text(out, ",\"body\":\"\",\"errors\":");
    write_sentences(problem, out);
    ld_buffer_byte(out, '}');
}

/* Types as the SDKs know them; `param` is the first field by its name. */
static void write_openai(const struct ld_problem *problem, int status, struct ld_buffer *out)
{
    const char *type = status == 401   ? "authentication_error"
                       : status == 403 ? "permission_error"
                       : status == 429 ? "rate_limit_error"
                       : status >= 500 ? "server_error"
                                       : "invalid_request_error";
    const char *pointer = problem->item_count > 0 ? problem->items[0].pointer : "";
    ld_buffer_text(out, "{\"error\":{\"message\":");
    write_sentences(problem, out);
    ld_buffer_format(out, ",\"type\":\"%s\",\"param\":", type);
    if (pointer[0] == '/')
        ld_buffer_json_string(out, pointer + 1);
    else
        ld_buffer_text(out, "null");
    ld_buffer_text(out, ",\"code\":");
    if (status == 401)
        ld_buffer_text(out, "\"invalid_api_key\"");
    else if (strcmp(pointer, "/model") == 0)
        ld_buffer_text(out, "\"model_not_found\"");
    else
        ld_buffer_json_string(out, ld_problem_name(problem));
    ld_buffer_text(out, "}}");
}

static void write_comfy(const struct ld_problem *problem, struct ld_buffer *out)
{
    ld_buffer_format(out, "{\"error\":{\"type\":\"%s\",\"message\":",
                     ld_problem_status(problem) == 422 ? "invalid_prompt"
                                                       : ld_problem_name(problem));
    ld_buffer_json_string(out, problem->detail);
    ld_buffer_text(out, ",\"details\":");
    write_sentences(problem, out);
    ld_buffer_text(out, ",\"extra_info\":{}},\"node_errors\":{}}");
}

void ld_dialect_write_problem(enum ld_dialect dialect, const struct ld_problem *problem,
                              const char *instance, struct ld_buffer *out)
{
    const int status = ld_dialect_status(dialect, problem);
    switch (dialect) {
    case LD_DIALECT_A1111:
        write_a1111(problem, status, out);
        return;
    case LD_DIALECT_OPENAI:
        write_openai(problem, status, out);
        return;
    case LD_DIALECT_NOVELAI:
        ld_buffer_format(out, "{\"statusCode\":%d,\"message\":", status);
        write_sentences(problem, out);
        ld_buffer_byte(out, '}');
        return;
    case LD_DIALECT_COMFY:
        write_comfy(problem, out);
        return;
    case LD_DIALECT_NATIVE:
        break;
    }
    ld_problem_write(problem, instance, out);
}
