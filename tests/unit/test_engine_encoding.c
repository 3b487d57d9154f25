/* Proves what becomes of a picture between its decoding and its PNG, which another thread makes: it
 * is handed out by a later tick, a cancelled job gets it with keep_partial and else does not even
 * wait for it, one that cannot be encoded is its job's failure alone, a job that fails keeps those
 * that are whole, one painted again in bf16 holds up no pass, and an engine that ends waits for it.
 * How: a demonstration checkpoint on a fake GPU, tick by tick.
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

/* What an encoder is busy with for seconds: noise, packed as small as can be. */
enum { NOISE_SIDE = 1024, NOISE_COUNT = 16 };
struct noise {
    struct ld_errands *encoder;
    struct ld_encoding *pictures[NOISE_COUNT];
};

static void occupy(struct ld_errands *encoder, struct noise *noise)
{
    const size_t bytes = (size_t)3 * NOISE_SIDE * NOISE_SIDE;
    uint32_t state = 1;
    noise->encoder = encoder;
    for (uint32_t n = 0; n < NOISE_COUNT; n++) {
        struct ld_encoding *picture = ld_encoding_create();
        uint8_t *rgb = ld_block_alloc(bytes);
        LD_ASSERT(picture && rgb);
        for (size_t i = 0; i < bytes; i++) {
            state = state * 1664525U + 1013904223U; /* Numerical Recipes, 7.1 */
            rgb[i] = (uint8_t)(state >> 28);
        }
        picture->rgb = rgb;
        picture->width = picture->height = NOISE_SIDE;
        picture->form.compression = 12;
        noise->pictures[n] = picture;
        ld_errands_give(encoder, &picture->errand);
    }
}

static bool is_occupied(const struct noise *noise)
{
    return noise->encoder &&
           !ld_errands_done(noise->encoder, &noise->pictures[NOISE_COUNT - 1]->errand);
}

static void leave(struct noise *noise)
{
    for (uint32_t n = 0; noise->encoder && n < NOISE_COUNT; n++)
        ld_errands_drop(noise->encoder, &noise->pictures[n]->errand);
    noise->encoder = NULL;
}

static enum ld_session_phase phase_of_first(const struct ld_engine *engine)
{
    const struct ld_job *job = engine ? engine->jobs : NULL;
    return job && job->sessions ? job->sessions[0].phase : LD_SESSION_WAITING;
}

static void a_picture_that_nobody_wants_is_not_waited_for(void)
{
    struct listener listener;
    struct ld_request request;
    struct ld_error err = {0};
    struct noise noise = {0};
    fake_gpu_reset();
    struct ld_engine *engine = open_engine();
    ask(&request);
    bool good = hand_in(engine, &request, &listener);
    for (int i = 0; good && phase_of_first(engine) != LD_SESSION_DECODING && i < TICKS_MAX; i++)
        good = ld_engine_tick(engine, &err) == LD_OK;
    if (good)
        occupy(engine->encoder, &noise);
    good = good && tick_until_decoded(engine);
    if (good)
        ld_engine_cancel(engine, engine->jobs->handle, false);
    report("a cancelled job ends while the encoder has pictures before its own",
           good && finish(engine) && listener.code == LD_E_CANCELLED && listener.images == 0 &&
               is_occupied(&noise));
    leave(&noise);
    ld_engine_destroy(engine);
}

static void a_job_that_fails_keeps_what_is_whole(void)
{
    struct listener listener;
    struct ld_request request;
    fake_gpu_reset();
    struct ld_engine *engine = open_engine();
    ask(&request);
    request.images = 2;
    const bool good = hand_in(engine, &request, &listener) && tick_until_decoded(engine);
    if (good) {
        (void)LD_FAIL(&engine->jobs->err, LD_E_NUMERICAL, "the other picture has failed");
        ld_engine_retire_failed(engine);
    }
    report("a job that fails hands out its decoded picture",
           good && listener.images == 1 && listener.partial == 0);
    report("before it ends",
           good && listener.done == 1 && listener.code == LD_E_NUMERICAL && !engine->jobs);
    ld_engine_destroy(engine);
}

/* What is painted again in bf16 has an encoder of its own, for which fp16's passes do not wait. */
static void a_picture_painted_again_holds_up_no_pass(void)
{
    struct listener wide;
    struct listener modest;
    struct ld_request greedy;
    struct ld_request request;
    struct ld_error err = {0};
    struct noise noise = {0};
    fake_gpu_reset();
    struct ld_engine *engine = open_engine();
    ask(&request);
    request.steps = 30;
    ask(&greedy);
    greedy.prompt = "(cat:3000000)"; /* beyond fp16's range */
    greedy.syntax = LD_SYNTAX_A1111;
    greedy.emphasis = LD_EMPHASIS_NO_NORM;
    bool good = hand_in(engine, &greedy, &wide) && hand_in(engine, &request, &modest);
    for (int i = 0; good && phase_of_first(engine->wide) != LD_SESSION_ENCODING && i < TICKS_MAX;
         i++) {
        if (phase_of_first(engine->wide) == LD_SESSION_DECODING && !noise.encoder)
            occupy(engine->wide->encoder, &noise);
        good = ld_engine_tick(engine, &err) == LD_OK;
    }
    const uint64_t passes = engine ? engine->tick : 0;
    report("a pass goes on while the second engine's encoder works",
           good && tick(engine, 1) && engine->tick == passes + 1 && is_occupied(&noise));
    leave(&noise);
    report("and both pictures come",
           good && finish(engine) && wide.images == 1 && modest.images == 1 && wide.repainted == 1);
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
        a_picture_painted_again_holds_up_no_pass,
        few_pictures_wait_at_a_time,
        an_engine_that_ends_waits,
    };
    return run_claims(argc, argv, claims, sizeof claims / sizeof claims[0]);
}
