/*
 * Prompts that the TIPO model extends: of jobs, before anything of theirs is encoded, and of
 * callers who want the prompt alone. A thread writes them one after the other while the engine
 * paints; a job waits for its own, jobs behind it do not.
 *
 * Source: model.md 6.
 */
#include "runtime/engine_state.h"

enum {
    ASKED_MAX = 16, /* prompts that callers wait for at once */
    AWAIT_MS = 20,  /* how late the engine may hear of a new job meanwhile */
    ANSWER_BYTES_MAX = 1 << 20
};

/* ---- Jobs ------------------------------------------------------------------------------------ */

static enum ld_code begin(struct ld_engine *engine, struct ld_job *job, struct ld_error *err)
{
    ld_job_tell_progress(job, NULL, LD_PHASE_TEXT);
    if (ld_library_expand(engine->library, &job->request, &job->arena, err) != LD_OK)
        return err->code;
    job->extension = ld_extension_create(engine->prompt_writer, &job->request);
    if (!job->extension)
        return LD_FAIL(err, LD_E_NOMEM, "out of memory for the prompt");
    ld_errands_give(engine->writing, &job->extension->errand);
    return LD_OK;
}

/* The prompt is the job's own from here on: what is told and stored has no `tipo` left, and can be
 * run again where there is no such model. */
static enum ld_code take(struct ld_job *job, struct ld_error *err)
{
    const struct ld_extension *extension = job->extension;
    job->report.text_us += extension->spent_us;
    for (uint32_t i = 0; i < extension->notes.count; i++)
        ld_job_warn(job, "%s", extension->notes.items[i]);
    enum ld_code code = extension->code;
    if (code != LD_OK) {
        *err = extension->err;
    } else {
        job->request.prompt = ld_arena_strdup(&job->arena, extension->prompt.data);
        job->request.tipo.present = false;
        if (!job->request.prompt)
            code = LD_FAIL(err, LD_E_NOMEM, "out of memory for the prompt");
    }
    ld_extension_destroy(job->extension);
    job->extension = NULL;
    return code;
}

bool ld_engine_prompt_waits(struct ld_engine *engine, struct ld_job *job, bool *worked)
{
    struct ld_error err = {0};
    *worked = false;
    if (!job->request.tipo.present)
        return false;
    if (job->extension && !ld_errands_done(engine->writing, &job->extension->errand))
        return true;
    *worked = true;
    ld_engine_settle(engine, job, job->extension ? take(job, &err) : begin(engine, job, &err),
                     &err);
    return true; /* the next tick goes on with it, if it is still there */
}

/* ---- Questions ------------------------------------------------------------------------------- */

struct ld_asked_prompt {
    struct ld_extension *extension;
    ld_engine_answer answer;
    void *ctx;
    struct ld_asked_prompt *next;
};

enum ld_code ld_engine_extend(struct ld_engine *engine, const struct ld_request *request,
                              ld_engine_answer answer, void *ctx, struct ld_error *err)
{
    struct ld_asked_prompt **end = &engine->asked;
    struct ld_request expanded = *request;
    struct ld_arena arena;
    uint32_t count = 0;
    for (; *end; end = &(*end)->next)
        count++;
    if (count >= ASKED_MAX)
        return LD_FAIL(err, LD_E_RATE,
                       "%d prompts are waiting to be extended already; try again in a moment",
                       ASKED_MAX);
    struct ld_asked_prompt *asked = ld_heap_alloc(sizeof *asked);
    if (!asked)
        return LD_FAIL(err, LD_E_NOMEM, "out of memory for the prompt");
    ld_arena_init(&arena, "asked prompt", 1 << 20);
    enum ld_code code = ld_library_expand(engine->library, &expanded, &arena, err);
    if (code == LD_OK) {
        *asked = (struct ld_asked_prompt){ld_extension_create(engine->prompt_writer, &expanded),
                                          answer, ctx, NULL};
        if (!asked->extension)
            code = LD_FAIL(err, LD_E_NOMEM, "out of memory for the prompt");
    }
    ld_arena_deinit(&arena);
    if (code != LD_OK) {
        ld_heap_free(asked);
        return code;
    }
    *end = asked;
    ld_errands_give(engine->writing, &asked->extension->errand);
    return LD_OK;
}

static void write_answer(struct ld_buffer *out, const struct ld_extension *extension)
{
    ld_buffer_text(out, "{\"prompt\":");
    ld_buffer_json_string(out, extension->prompt.data);
    ld_buffer_format(out, ",\"seed\":%llu,\"seconds\":%.3f,\"warnings\":[",
                     (unsigned long long)extension->wish.choice.seed,
                     (double)extension->spent_us / 1e6);
    for (uint32_t i = 0; i < extension->notes.count; i++) {
        ld_buffer_text(out, i ? "," : "");
        ld_buffer_json_string(out, extension->notes.items[i]);
    }
    ld_buffer_text(out, "]}");
}

bool ld_engine_answer_one(struct ld_engine *engine)
{
    struct ld_asked_prompt *asked = engine->asked;
    if (!asked || !ld_errands_done(engine->writing, &asked->extension->errand))
        return false;
    struct ld_buffer json = ld_buffer_make(ANSWER_BYTES_MAX);
    const struct ld_extension *extension = asked->extension;
    struct ld_error err = extension->err;
    engine->asked = asked->next;
    if (extension->code == LD_OK)
        write_answer(&json, extension);
    if (json.failed)
        (void)LD_FAIL(&err, LD_E_NOMEM, "out of memory for the prompt");
    asked->answer(asked->ctx, err.code, err.detail, json.failed || !json.data ? "" : json.data);
    ld_buffer_deinit(&json);
    ld_extension_destroy(asked->extension);
    ld_heap_free(asked);
    return true;
}

void ld_engine_forget_asked(struct ld_engine *engine)
{
    while (engine->asked) {
        struct ld_asked_prompt *asked = engine->asked;
        engine->asked = asked->next;
        ld_extension_drop(engine->writing, asked->extension);
        ld_heap_free(asked);
    }
}

/* ---- Both ------------------------------------------------------------------------------------ */

void ld_engine_await_prompt(struct ld_engine *engine)
{
    const struct ld_extension *first = engine->asked ? engine->asked->extension : NULL;
    for (const struct ld_job *job = engine->jobs; job; job = job->next) {
        const struct ld_extension *own = job->extension;
        if (own && (!first || own->errand.serial < first->errand.serial))
            first = own;
    }
    if (first)
        (void)ld_errands_wait_for(engine->writing, &first->errand, AWAIT_MS);
}
