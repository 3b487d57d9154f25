/* Proves what becomes of a picture between its decoding and its PNG, which another thread makes: it
 * is handed out by a later tick, a cancelled job gets it with keep_partial and else does not even
 * wait for it, one that cannot be encoded is its job's failure alone, a job that fails keeps those
 * that are whole, and an engine that ends waits for it. How: a demonstration checkpoint on a fake
 * GPU, tick by tick.
 *
 *     test_engine_encoding MAKE_CHECKPOINT FOLDER
 */
#include "runtime/base/arena.h"
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

/* Something that the encoder is busy with for a while: noise, packed as small as can be. */
static struct ld_encoding *occupy(struct ld_encoder *encoder)
{
    enum { NOISE_SIDE = 1024 };
    const size_t bytes = (size_t)3 * NOISE_SIDE * NOISE_SIDE;
    struct ld_encoding *noise = ld_encoding_create();
    uint32_t state = 1;
    if (!noise)
        return NULL;
    noise->rgb = ld_block_alloc(bytes);
    noise->width = noise->height = NOISE_SIDE;
    noise->compression = 12;
    for (size_t i = 0; noise->rgb && i < bytes; i++) {
        state = state * 1664525U + 1013904223U; /* Numerical Recipes, 7.1 */
        noise->rgb[i] = (uint8_t)(state >> 28);
    }
    ld_encoder_give(encoder, noise);
    return noise;
}

/* A job whose first picture is decoded and waits for the encoder, which has `noise`. */
static struct ld_engine *decoded_behind(struct ld_encoding **noise, struct ld_request *request,
                                        struct listener *listener)
{
    struct ld_error err = {0};
    *noise = NULL;
    fake_gpu_reset();
    struct ld_engine *engine = open_engine();
    bool good = hand_in(engine, request, listener);
    bool sampled = false;
    for (int i = 0; good && !sampled && i < TICKS_MAX; i++) {
        const struct ld_session *first = engine->jobs->sessions;
        sampled = first && first->phase == LD_SESSION_DECODING;
        good = sampled || (ld_engine_tick(engine, &err) == LD_OK && engine->jobs);
    }
    *noise = sampled ? occupy(engine->encoder) : NULL;
    if (*noise && tick_until_decoded(engine))
        return engine;
    if (*noise)
        ld_encoder_drop(engine->encoder, *noise);
    ld_engine_destroy(engine);
    return NULL;
}

static void a_picture_that_nobody_wants_is_not_waited_for(void)
{
    struct listener listener;
    struct ld_request request;
    struct ld_encoding *noise;
    ask(&request);
    struct ld_engine *engine = decoded_behind(&noise, &request, &listener);
    if (engine)
        ld_engine_cancel(engine, engine->jobs->handle, false);
    report("a cancelled job ends while the encoder has another picture",
           engine && finish(engine) && listener.code == LD_E_CANCELLED && listener.images == 0 &&
               !ld_encoder_done(engine->encoder, noise));
    if (engine)
        ld_encoder_drop(engine->encoder, noise);
    ld_engine_destroy(engine);
}

static void a_job_that_fails_keeps_what_is_whole(void)
{
    struct listener listener;
    struct ld_request request;
    struct ld_encoding *noise;
    ask(&request);
    request.images = 2;
    struct ld_engine *engine = decoded_behind(&noise, &request, &listener);
    if (engine) {
        (void)LD_FAIL(&engine->jobs->err, LD_E_NUMERICAL, "the other picture has failed");
        ld_engine_retire_failed(engine);
    }
    report("a job that fails hands out its decoded picture",
           engine && listener.images == 1 && listener.partial == 0);
    report("before it ends",
           engine && listener.done == 1 && listener.code == LD_E_NUMERICAL && !engine->jobs);
    if (engine)
        ld_encoder_drop(engine->encoder, noise);
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
        a_picture_that_nobody_wants_is_not_waited_for,
        a_job_that_fails_keeps_what_is_whole,
        few_pictures_wait_at_a_time,
        an_engine_that_ends_waits,
    };
    return run_claims(argc, argv, claims, sizeof claims / sizeof claims[0]);
}
