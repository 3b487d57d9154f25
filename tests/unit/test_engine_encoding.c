/* Proves what becomes of a picture between its decoding and its PNG, which another thread makes: it
 * is handed out by a later tick, a cancelled job gets it with keep_partial and else not, one that
 * cannot be encoded is its job's failure alone, and an engine that ends waits for it. How: a
 * demonstration checkpoint on a fake GPU, tick by tick.
 *
 *     test_engine_encoding MAKE_CHECKPOINT FOLDER
 */
#include "runtime/engine_state.h"
#include "tests/unit/engine_fixture.h"

#include <stdio.h>

/* Pictures of the first job that wait for their PNG. */
static uint32_t encoding(const struct ld_engine *engine)
{
    const struct ld_job *job = engine->jobs;
    uint32_t count = 0;
    for (uint32_t i = 0; job && i < job->session_count; i++)
        count += job->sessions[i].phase == LD_SESSION_ENCODING ? 1 : 0;
    return count;
}

static bool tick_until_decoded(struct ld_engine *engine)
{
    struct ld_error err = {0};
    for (int i = 0; i < TICKS_MAX && encoding(engine) == 0; i++)
        if (ld_engine_tick(engine, &err) != LD_OK)
            return false;
    return encoding(engine) > 0;
}

/* A job whose picture is decoded and not handed out. */
static struct ld_engine *decoded(struct ld_request *request, struct listener *listener)
{
    fake_gpu_reset();
    struct ld_engine *engine = open_engine();
    ask(request);
    if (engine && hand_in(engine, request, listener) && tick_until_decoded(engine))
        return engine;
    ld_engine_destroy(engine);
    return NULL;
}

static void a_picture_is_handed_out_by_a_later_tick(void)
{
    struct listener listener;
    struct ld_request request;
    struct ld_engine *engine = decoded(&request, &listener);
    report("the tick that decodes hands nothing out", engine && listener.images == 0);
    report("the picture comes, and the job ends",
           engine && finish(engine) && listener.images == 1 && listener.code == LD_OK);
    ld_engine_destroy(engine);
}

static void a_cancelled_job_keeps_what_is_whole(void)
{
    struct listener listener;
    struct ld_request request;
    struct ld_engine *engine = decoded(&request, &listener);
    if (engine)
        ld_engine_cancel(engine, engine->jobs->handle, true);
    report("with keep_partial the decoded picture is handed out",
           engine && finish(engine) && listener.images == 1 && listener.partial == 0);
    report("and the job is cancelled", listener.code == LD_E_CANCELLED);
    ld_engine_destroy(engine);
    engine = decoded(&request, &listener);
    if (engine)
        ld_engine_cancel(engine, engine->jobs->handle, false);
    report("without it nobody gets it",
           engine && finish(engine) && listener.images == 0 && listener.code == LD_E_CANCELLED);
    ld_engine_destroy(engine);
}

static void a_picture_that_cannot_be_encoded_is_its_jobs_failure(void)
{
    struct listener bad;
    struct listener good;
    struct ld_request request;
    struct ld_request other;
    fake_gpu_reset();
    struct ld_engine *engine = open_engine();
    ask(&request);
    ask(&other);
    request.compression = 99; /* no request that was read has it */
    bool done = hand_in(engine, &request, &bad) && hand_in(engine, &other, &good);
    done = done && finish(engine);
    report("a level of compression that there is not ends the job",
           done && bad.code == LD_E_RANGE && bad.images == 0);
    report("and no other", done && good.code == LD_OK && good.images == 1);
    ld_engine_destroy(engine);
}

static void few_pictures_wait_at_a_time(void)
{
    struct listener listener;
    struct ld_request request;
    struct ld_error err = {0};
    uint32_t most = 0;
    fake_gpu_reset();
    struct ld_engine *engine = open_engine();
    ask(&request);
    request.images = 12;
    request.compression = 12;
    bool good = hand_in(engine, &request, &listener);
    for (int i = 0; good && i < TICKS_MAX && ld_engine_busy(engine); i++) {
        good = ld_engine_tick(engine, &err) == LD_OK;
        most = encoding(engine) > most ? encoding(engine) : most;
    }
    report("twelve pictures are all handed out", good && listener.images == 12);
    report("four at most have waited for their PNG", most >= 1 && most <= LD_ENCODINGS_MAX);
    ld_engine_destroy(engine);
}

static void an_engine_that_ends_waits(void)
{
    struct listener listener;
    struct ld_request request;
    struct ld_engine *engine = decoded(&request, &listener);
    ld_engine_destroy(engine);
    report("an engine may end while a picture is encoded", engine && listener.images == 0);
    report("nothing is left on the device", fake_gpu.live_allocations == 0);
}

int main(int argc, char **argv)
{
    static const engine_claim claims[] = {
        a_picture_is_handed_out_by_a_later_tick,
        a_cancelled_job_keeps_what_is_whole,
        a_picture_that_cannot_be_encoded_is_its_jobs_failure,
        few_pictures_wait_at_a_time,
        an_engine_that_ends_waits,
    };
    return run_claims(argc, argv, claims, sizeof claims / sizeof claims[0]);
}
