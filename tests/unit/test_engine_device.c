/* Proves what the engine does when its GPU fails: a lost device ends the engine and leaves its jobs
 * open, for another worker to take up; too little memory makes passes smaller and no job fail. How:
 * a demonstration checkpoint on a fake GPU that fails on order.
 *
 *     test_engine_device MAKE_CHECKPOINT FOLDER
 */
#include "runtime/engine.h"
#include "tests/cuda/fake_gpu.h"

#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

enum { PATH_SIZE = 4096, TICKS_MAX = 400, SIDE = 32 };

extern char **environ;
static unsigned passed, failed;
static char path[PATH_SIZE];

static void report(const char *claim, bool holds)
{
    printf("%s %s\n", holds ? "ok  " : "FAIL", claim);
    *(holds ? &passed : &failed) += 1;
}

struct listener {
    uint32_t done, images;
    enum ld_code code;
};

static void on_image(void *ctx, const struct ld_engine_image *image)
{
    (void)image;
    ((struct listener *)ctx)->images++;
}

static void on_done(void *ctx, const struct ld_engine_report *told, const struct ld_error *err)
{
    struct listener *listener = ctx;
    (void)told;
    listener->done++;
    listener->code = err->code;
}

static struct ld_engine *open_engine(void)
{
    struct ld_engine *engine = NULL;
    struct ld_error err = {0};
    const struct ld_engine_config config = {.model_dir = "",
                                            .adapter_dir = "",
                                            .embedding_dir = "",
                                            .wildcard_dir = "",
                                            .vae_dir = "",
                                            .default_model = "",
                                            .model_path = path,
                                            .vocab_path = "",
                                            .backend = "cuda",
                                            .threads = 1};
    if (ld_engine_create(&engine, &config, &err) != LD_OK)
        printf("engine: %s\n", err.detail);
    return engine;
}

/* Two pictures, so that a pass has four rows. */
static bool submit(struct ld_engine *engine, struct ld_request *request, struct listener *listener)
{
    struct ld_error err = {0};
    uint64_t handle;
    ld_request_default(request);
    request->prompt = "a cat";
    request->negative_prompt = "";
    request->sampler = "euler";
    request->width = request->height = SIDE;
    request->steps = 2;
    request->cfg_scale = 5;
    request->seed_random = false;
    request->images = 2;
    const struct ld_engine_job job = {
        .request = request, .ctx = listener, .on_image = on_image, .on_done = on_done};
    return ld_engine_submit(engine, &job, &handle, &err) == LD_OK;
}

static void a_lost_device_ends_the_engine_and_no_job(void)
{
    struct listener listener = {0};
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

/* Arenas of four rows do not fit, those of fewer do. */
static void too_little_memory_makes_passes_smaller(void)
{
    struct listener listener = {0};
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

static bool make_checkpoint(const char *tool)
{
    char name[] = "make_checkpoint";
    char kind[] = "--tiny";
    char *const arguments[] = {name, kind, path, NULL};
    pid_t child;
    int status = 1;
    return posix_spawn(&child, tool, NULL, NULL, arguments, environ) == 0 &&
           waitpid(child, &status, 0) == child && status == 0;
}

int main(int argc, char **argv)
{
    (void)setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc != 3) {
        fprintf(stderr, "usage: test_engine_device MAKE_CHECKPOINT FOLDER\n");
        return 2;
    }
    (void)snprintf(path, sizeof path, "%s/engine_device.safetensors", argv[2]);
    if (!make_checkpoint(argv[1])) {
        printf("FAIL the checkpoint could not be made\n0 passed, 1 failed\n");
        return 1;
    }
    a_lost_device_ends_the_engine_and_no_job();
    too_little_memory_makes_passes_smaller();
    (void)remove(path);
    printf("%u passed, %u failed\n", passed, failed);
    return failed || passed == 0 ? 1 : 0;
}
