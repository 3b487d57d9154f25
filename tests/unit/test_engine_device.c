/* Proves what the engine does when its GPU fails: a lost device ends the engine and leaves its jobs
 * open, for another worker to take up; too little memory makes passes smaller; a failed pass ends
 * no job that it was not about. And that a picture costs the device no allocation and no bytes
 * beyond what its steps need, and says which kernels made it. How: a demonstration checkpoint on a
 * fake GPU that fails on order and counts.
 *
 *     test_engine_device MAKE_CHECKPOINT FOLDER
 */
#include "kernels/cuda/device_lock.h"
#include "tests/unit/engine_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- A device that fails --------------------------------------------------------------------- */

/* Two pictures, so that a pass has four rows. */
static bool submit(struct ld_engine *engine, struct ld_request *request, struct listener *listener)
{
    ask(request);
    request->images = 2;
    return hand_in(engine, request, listener);
}

static void a_lost_device_ends_the_engine_and_no_job(void)
{
    struct listener listener;
    struct ld_request request;
    struct ld_error err = {0};
    fake_gpu_reset();
    struct ld_engine *engine = open_engine();
    bool good = engine && submit(engine, &request, &listener);
    for (int i = 0; good && i < 4; i++) /* texts, both sessions, one pass */
        good = ld_engine_tick(engine, &err) == LD_OK;
    report("the engine works on a job", good && ld_engine_busy(engine) && listener.done == 0);
    fake_gpu.sync_error = FAKE_ILLEGAL_ADDRESS;
    enum ld_code code = LD_OK;
    for (int i = 0; good && code == LD_OK && i < TICKS_MAX; i++)
        code = ld_engine_tick(engine, &err);
    report("a lost device is the engine's error", code == LD_E_DEVICE);
    report("the job is still open", listener.done == 0 && good && ld_engine_busy(engine));
    if (engine) {
        ld_engine_destroy(engine); /* ends the job, for it is still borrowed */
        report("nothing is left on the device", fake_gpu.live_allocations == 0);
    }
}

/* What there is to do is the tuner's affair (test_libs). */
static void an_idle_time_is_the_devices(void)
{
    struct listener listener;
    struct ld_request request;
    struct ld_error err = {0};
    enum ld_idle left = LD_IDLE_DONE;
    fake_gpu_reset();
    struct ld_engine *engine = open_engine();
    ask(&request);
    fake_gpu.idle_work = 2;
    bool good = engine && paint(engine, &request, &listener) && fake_gpu.idle_work == 2;
    report("a job leaves to an idle time what waits for one", good);
    good = good && ld_engine_idle(engine, &left, &err) == LD_OK && left == LD_IDLE_MORE &&
           fake_gpu.idle_work == 1;
    report("which does it piece by piece",
           good && ld_engine_idle(engine, &left, &err) == LD_OK && left == LD_IDLE_DONE);
    fake_gpu.idle_work = 1;
    fake_gpu.sync_error = FAKE_ILLEGAL_ADDRESS;
    report("a device that is lost in it is the engine's error",
           good && ld_engine_idle(engine, &left, &err) == LD_E_DEVICE && left == LD_IDLE_DONE);
    ld_engine_destroy(engine);
}

/* Can another process have the device for itself? */
static bool is_free(struct ldk_device_lock *other)
{
    const bool taken = ldk_device_lock_take(other);
    ldk_device_lock_release(other);
    return taken;
}

/* Locks of one process that were opened apart exclude each other as those of two do. */
static void other_processes_hear_of_jobs(void)
{
    struct listener listener;
    struct ld_request request;
    struct ld_error err = {0};
    struct ldk_device_lock other;
    enum ld_idle left = LD_IDLE_DONE;
    fake_gpu_reset();
    ldk_device_lock_init(&other, getenv("LATENTD_TUNING"), fake_gpu.info.uuid, false);
    struct ld_engine *engine = open_engine();
    bool good = engine && submit(engine, &request, &listener) && is_free(&other);
    report("a job that nothing has been done for occupies no device", good);
    good = good && tick(engine, 1);
    report("one that is worked on does", good && !is_free(&other));
    good = good && finish(engine) && listener.code == LD_OK;
    report("until it is done", good && is_free(&other));
    fake_gpu.idle_work = 1;
    ldk_device_lock_share(&other);
    report("an idle time waits for another process",
           good && ld_engine_idle(engine, &left, &err) == LD_OK && left == LD_IDLE_LATER &&
               fake_gpu.idle_work == 1);
    ldk_device_lock_release(&other);
    report("and no longer", good && ld_engine_idle(engine, &left, &err) == LD_OK &&
                                left == LD_IDLE_DONE && fake_gpu.idle_work == 0 && is_free(&other));
    ld_engine_destroy(engine);
    ldk_device_lock_deinit(&other);
}

/* Arenas of four rows do not fit, those of fewer do. */
static void too_little_memory_makes_passes_smaller(void)
{
    struct listener listener;
    struct ld_request request;
    struct ld_error err = {0};
    fake_gpu_reset();
    struct ld_engine *engine = open_engine();
    bool good = engine && submit(engine, &request, &listener);
    uint64_t refused = 0;
    for (int i = 0; good && listener.done == 0 && i < TICKS_MAX; i++) {
        /* The first pass comes after the text and both sessions. */
        if (i == 3 && refused++ == 0)
            fake_gpu.fail_alloc_after = 0;
        good = ld_engine_tick(engine, &err) == LD_OK;
        fake_gpu.fail_alloc_after = UINT64_MAX;
    }
    report("the job is done all the same",
           good && listener.done == 1 && listener.code == LD_OK && listener.images == 2);
    ld_engine_destroy(engine);
}

/* A passing error hits one pass of two jobs: neither is to blame. */
static void a_failed_pass_ends_no_job_of_several(void)
{
    struct listener first;
    struct listener second;
    struct listener alone;
    struct ld_request request;
    struct ld_request other;
    struct ld_error err = {0};
    fake_gpu_reset();
    struct ld_engine *engine = open_engine();
    ask(&request);
    ask(&other);
    other.seed = 3;
    bool good = paint(engine, &other, &alone) && hand_in(engine, &request, &first) &&
                hand_in(engine, &other, &second);
    for (int i = 0; good && i < 4; i++) /* both texts, both sessions */
        good = ld_engine_tick(engine, &err) == LD_OK;
    fake_gpu.sync_error = 46;
    good = good && finish(engine);
    report("a failed pass of two jobs ends neither",
           good && first.code == LD_OK && second.code == LD_OK && first.images == 1);
    report("and changes no picture", good && second.digest[0] == alone.digest[0]);
    good = hand_in(engine, &request, &first);
    for (int i = 0; good && i < 2; i++)
        good = ld_engine_tick(engine, &err) == LD_OK;
    fake_gpu.sync_error = 46;
    report("a job whose own pass fails has failed",
           good && finish(engine) && first.done == 1 && first.code == LD_E_DEVICE);
    ld_engine_destroy(engine);
}

/* ---- What a picture costs -------------------------------------------------------------------- */

/* Bytes that `steps` steps pass over the bus, in a request that has been run before. */
static uint64_t bytes_of(struct ld_engine *engine, int32_t steps, uint64_t *allocations)
{
    struct listener listener;
    struct ld_request request;
    ask(&request);
    request.steps = steps;
    bool good = true;
    for (int i = 0; good && i < 2; i++) /* walked, recorded */
        good = paint(engine, &request, &listener);
    *allocations = fake_gpu.allocations;
    const uint64_t before = fake_gpu.bytes_up + fake_gpu.bytes_down;
    good = good && paint(engine, &request, &listener);
    *allocations = fake_gpu.allocations - *allocations;
    return good ? fake_gpu.bytes_up + fake_gpu.bytes_down - before : 0;
}

static void a_warm_request_allocates_nothing_and_copies_its_latents(void)
{
    /* Two rows: x in and the estimate out, a scale and a time each, and their key counts. */
    enum { CELLS = SIDE / 8 * SIDE / 8, STEP = 2 * (2 * 4 * CELLS * 4 + 2 * 4 + 4) };
    uint64_t allocations[2];
    fake_gpu_reset();
    struct ld_engine *engine = open_engine();
    const uint64_t few = engine ? bytes_of(engine, 2, &allocations[0]) : 0;
    const uint64_t more = engine ? bytes_of(engine, 5, &allocations[1]) : 0;
    report("a request that has been run before allocates nothing on the device or pinned",
           engine && allocations[0] == 0 && allocations[1] == 0);
    printf("     %llu bytes a step\n", (unsigned long long)(more - few) / 3);
    report("a step copies its rows and nothing else", few > 0 && more - few == 3 * STEP);
    ld_engine_destroy(engine);
}

/* ---- What decides the bits ------------------------------------------------------------------- */

static void a_picture_says_which_kernels_made_it(void)
{
    struct listener alone;
    struct listener together;
    struct listener other;
    struct listener larger;
    struct ld_request request;
    fake_gpu_reset();
    struct ld_engine *engine = open_engine();
    ask(&request);
    bool good = paint(engine, &request, &alone);
    report(
        "report and metadata name backend, device and precision",
        good && alone.numerics_in_picture &&
            strstr(alone.numerics,
                   "{\"backend\":\"cuda\",\"device\":\"Fake\",\"precision\":\"fp16\",\"unet\":\""));
    request.images = 2;
    good = good && paint(engine, &request, &together);
    report("a batch has the same signature as a picture alone",
           good && strcmp(alone.numerics, together.numerics) == 0);
    request.images = 1;
    request.width = 2 * SIDE;
    good = good && paint(engine, &request, &larger);
    report("another size may sum in another order",
           good && strcmp(alone.numerics, larger.numerics) != 0);
    request.width = SIDE;
    fake_gpu.signature = 5;
    good = good && paint(engine, &request, &other);
    report("other kernels have another signature",
           good && strcmp(alone.numerics, other.numerics) != 0);
    ld_engine_destroy(engine);
}

int main(int argc, char **argv)
{
    static const engine_claim claims[] = {
        a_lost_device_ends_the_engine_and_no_job,
        an_idle_time_is_the_devices,
        other_processes_hear_of_jobs,
        too_little_memory_makes_passes_smaller,
        a_failed_pass_ends_no_job_of_several,
        a_warm_request_allocates_nothing_and_copies_its_latents,
        a_picture_says_which_kernels_made_it,
    };
    return run_claims(argc, argv, claims, sizeof claims / sizeof claims[0]);
}
