#include "server/submit.h"

#include "runtime/base/clock.h"
#include "runtime/base/log.h"

enum {
    KEY_BYTES_MAX = 255,
    PATIENCE_US = 60 * 1000 * 1000 /* of a parked submit; then it looks and parks again */
};

struct submitting {
    struct ld_exchange *ex;
    struct ld_submit_options options;
    char key[KEY_BYTES_MAX + 1];
};

struct ld_intake *ld_intake_open(struct ld_exchange *ex)
{
    struct ld_intake *intake = ld_heap_alloc(sizeof *intake);
    if (intake)
        ld_intake_init(intake, ex);
    return intake;
}

void ld_intake_close(struct ld_intake *intake)
{
    if (intake)
        ld_intake_deinit(intake);
    ld_heap_free(intake);
}

/* Only for what the server has no room for: a caller's own mistakes are no refused jobs. */
static void count_refusal(const struct ld_exchange *ex, enum ld_code code)
{
    if (code == LD_E_QUEUE_FULL)
        ld_metrics_add(ex->front->metrics, LD_COUNT_REJECTED_QUEUE, 1);
    else if (code == LD_E_GPU_NOMEM)
        ld_metrics_add(ex->front->metrics, LD_COUNT_REJECTED_MEMORY, 1);
    else if (code == LD_E_NOSPACE)
        ld_metrics_add(ex->front->metrics, LD_COUNT_REJECTED_DISK, 1);
}

bool ld_front_accept(struct ld_exchange *ex, struct ld_intake *intake, struct ld_span body)
{
    if (ld_intake_accept(intake, ex->tenant, body))
        return true;
    count_refusal(ex, intake->native.problem.code);
    return false;
}

static void drop_ctx(const struct ld_submit_options *options)
{
    if (options->ctx_free)
        options->ctx_free(options->ctx);
}

static enum ld_handled refuse(struct ld_exchange *ex, const struct ld_error *err, bool replayed)
{
    struct ld_problem problem;
    count_refusal(ex, err->code);
    ld_problem_init(&problem, &ex->arena);
    (void)ld_problem_add_error(&problem, NULL, err);
    problem.retry_after_s = ld_front_retry_after(ex, err->code);
    if (err->code == LD_E_CONFLICT)
        problem.status = 422; /* the key came with another body */
    else if (err->code == LD_E_NOT_FOUND && replayed)
        problem.status = 410; /* its job was deleted */
    return ld_exchange_problem(ex, &problem);
}

/* The client left before it could be told. Its job goes with it, unless another try of the same
 * call waits for it. */
static void abandon(void *state)
{
    struct submitting *s = state;
    const struct ld_exchange *ex = s->ex;
    char id[LD_ID_SIZE];
    struct ld_error err;
    enum ld_job_status status;
    bool replayed;
    const enum ld_code code = ld_intake_submit_end(s->options.intake, id, &replayed, &err);
    if (code == LD_OK && !replayed && !s->options.stays &&
        !ld_event_hub_is_held(ex->front->hub, ex->tenant, id) &&
        ld_front_cancel(ex->front, ex->tenant, id, false, &status, &err) != LD_OK)
        ld_log_error(LD_LOG_WARN, "http", "a job without a caller was not cancelled", &err);
    count_refusal(ex, code);
    drop_ctx(&s->options);
    ld_intake_close(s->options.intake);
    ld_heap_free(s);
}

static enum ld_handled end(struct ld_exchange *ex)
{
    struct submitting *s = ex->state;
    const struct ld_submit_options options = s->options;
    char id[LD_ID_SIZE];
    struct ld_error err = {0};
    bool replayed;
    if (!ex->stopping && !ld_intake_submit_is_known(options.intake)) {
        ex->park_until_us = ld_clock_monotonic_us() + PATIENCE_US;
        return LD_PARKED;
    }
    ex->state = NULL;
    ex->state_free = NULL;
    const enum ld_code code = ld_intake_submit_end(options.intake, id, &replayed, &err);
    ld_intake_close(options.intake);
    ld_heap_free(s);
    if (code == LD_OK && replayed)
        ld_exchange_set_header(ex, "Idempotent-Replayed", "true");
    if (code == LD_OK)
        return options.queued(ex, id, replayed, options.ctx);
    drop_ctx(&options);
    return refuse(ex, &err, replayed);
}

static void wake(void *ctx)
{
    ld_exchange_wake(ctx);
}

enum ld_handled ld_front_submit(struct ld_exchange *ex, const struct ld_submit_options *options)
{
    struct ld_error err = {0};
    struct submitting *s = ld_heap_alloc(sizeof *s);
    enum ld_code code = LD_OK;
    if (s)
        *s = (struct submitting){.ex = ex, .options = *options};
    if (!s || !ld_fmt(s->key, sizeof s->key, "%s", options->key))
        code = LD_FAIL(&err, LD_E_NOMEM, "out of memory");
    if (code == LD_OK)
        code = ld_intake_submit_begin(options->intake, ex->tenant, s->key, options->body, wake, ex,
                                      &err);
    if (code != LD_OK) {
        drop_ctx(options);
        ld_intake_close(options->intake);
        ld_heap_free(s);
        return refuse(ex, &err, false);
    }
    ex->state = s;
    ex->state_free = abandon;
    return end(ex);
}

bool ld_front_is_parked(const struct ld_exchange *ex)
{
    return ld_front_is_waiting(ex) || (ex->state && ex->state_free == abandon);
}

enum ld_handled ld_front_again(struct ld_exchange *ex)
{
    return ld_front_is_waiting(ex) ? ld_front_wait_again(ex) : end(ex);
}
