/* A worker's answers to questions: what a request would cost, how its prompt is extended, which
 * models are there. */
#include "server/worker_internal.h"

#include <unistd.h>

static void send_plan_answer(struct ld_worker *worker, uint64_t token,
                             const struct ld_message_plan_answer *answer)
{
    struct ld_buffer payload = ld_buffer_make(1 << 20);
    ld_message_plan_answer_encode(&payload, answer);
    ld_worker_send(worker, LD_FRAME_PLAN_ANSWER, "", token, &payload);
    ld_buffer_deinit(&payload);
}

static void send_answer(struct ld_worker *worker, uint64_t token, enum ld_code code,
                        const char *detail, struct ld_span json)
{
    const struct ld_message_plan_answer answer = {
        .code = code,
        .detail = ld_span_text(code == LD_OK ? "" : detail),
        .plan = code == LD_OK ? json : ld_span_text(""),
    };
    send_plan_answer(worker, token, &answer);
}

/* ---- Plans ----------------------------------------------------------------------------------- */

void ld_worker_answer_plan(struct ld_worker *worker, const struct ld_frame *frame)
{
    struct ld_error err = {0};
    struct ld_message_job message;
    struct ld_arena arena;
    struct ld_native native;
    struct ld_buffer plan = ld_buffer_make(512 * 1024);
    ld_arena_init(&arena, "plan", LD_ARENA_JOB_BYTES);
    ld_native_init(&native, &arena);
    enum ld_code code = ld_message_job_decode(&message, frame->payload, &err);
    if (code == LD_OK)
        code = ld_worker_read_request(&native, message.request, &err);
    if (code == LD_OK)
        code = worker->pipeline->plan(worker->pipeline->ctx, &native.request, &plan, &err);
    send_answer(worker, frame->token, code, err.detail, ld_span_of(plan.data, plan.size));
    ld_buffer_deinit(&plan);
    ld_native_deinit(&native);
    ld_arena_deinit(&arena);
}

/* ---- Prompts --------------------------------------------------------------------------------- */

/* Who has asked; lives until the pipeline answers. */
struct asked {
    struct ld_worker *worker;
    uint64_t token;
};

static void on_extended(void *ctx, enum ld_code code, const char *detail, const char *json)
{
    struct asked *asked = ctx;
    /* A model's file that cannot be used is the server's state, not the caller's fault. */
    if (code == LD_E_FORMAT || code == LD_E_UNSUPPORTED || code == LD_E_NOT_FOUND ||
        code == LD_E_IO || code == LD_E_SHAPE)
        code = LD_E_CONFLICT;
    send_answer(asked->worker, asked->token, code, detail, ld_span_text(json));
    ld_heap_free(asked);
}

/* What the pipeline forgets at the end is not freed: the process ends with it. */
void ld_worker_answer_extend(struct ld_worker *worker, const struct ld_frame *frame)
{
    struct ld_error err = {0};
    struct ld_message_job message;
    struct ld_arena arena;
    struct ld_native native;
    struct asked *asked = ld_heap_alloc(sizeof *asked);
    if (!asked)
        _exit(1);
    *asked = (struct asked){worker, frame->token};
    ld_arena_init(&arena, "extend", LD_ARENA_JOB_BYTES);
    ld_native_init(&native, &arena);
    enum ld_code code = ld_message_job_decode(&message, frame->payload, &err);
    if (code == LD_OK)
        code = ld_worker_read_request(&native, message.request, &err);
    if (code == LD_OK)
        code = worker->pipeline->extend(worker->pipeline->ctx, &native.request, on_extended, asked,
                                        &err);
    if (code != LD_OK)
        on_extended(asked, code, err.detail, "");
    ld_native_deinit(&native);
    ld_arena_deinit(&arena);
}

/* ---- Models ---------------------------------------------------------------------------------- */

void ld_worker_answer_model(struct ld_worker *worker, const struct ld_frame *frame)
{
    struct ld_error err = {0};
    struct ld_message_model message;
    char name[LD_NAME_BYTES_MAX + 1];
    struct ld_buffer out = ld_buffer_make(512 * 1024);
    enum ld_code code = ld_message_model_decode(&message, frame->payload, &err);
    if (code == LD_OK &&
        !ld_fmt(name, sizeof name, "%.*s", (int)message.name.size, (const char *)message.name.data))
        code = LD_FAIL(&err, LD_E_RANGE, "the model's name is too long");
    if (code == LD_OK && message.order == LD_MODEL_FIND) {
        code = worker->pipeline->find(worker->pipeline->ctx, name, &err);
        ld_buffer_text(&out, "{}");
    } else if (code == LD_OK && message.order == LD_MODEL_RESCAN) {
        code = worker->pipeline->rescan(worker->pipeline->ctx, &out, &err);
        worker->scans++;
    } else if (code == LD_OK) {
        code = worker->pipeline->model(worker->pipeline->ctx, name, message.order == LD_MODEL_LOAD,
                                       &out, &err);
    }
    if (worker->pipeline->has_news(worker->pipeline->ctx))
        ld_worker_say_hello(worker); /* who asks next shall see it */
    send_answer(worker, frame->token, code, err.detail, ld_span_of(out.data, out.size));
    ld_buffer_deinit(&out);
}
