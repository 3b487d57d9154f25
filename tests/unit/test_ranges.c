/* Proves what a profiler sees: every request, text, step and decoding under its name and nothing of
 * what the request says, each range closed however its job ends; operators and blocks only where it
 * was asked for; and that without a profiler there is nothing to call. How: a demonstration
 * checkpoint on a fake GPU, and a profiler that writes down what it is told (cuda/nvtx_tool.h).
 *
 *     test_ranges MAKE_CHECKPOINT FILE [PROFILER]      FILE: where the checkpoint may lie
 */
#include "runtime/engine.h"
#include "runtime/gpu/device.h"
#include "runtime/model/model.h"
#include "tests/cuda/fake_gpu.h"
#include "tests/cuda/nvtx_tool.h"

#include <dlfcn.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

enum { TICKS_MAX = 400, SIDE = 32, CELLS = SIDE / 8 };

extern char **environ;
static unsigned passed, failed;
static char *path;
static struct nvtx_tool *tool;

static void report(const char *claim, bool holds)
{
    printf("%s %s\n", holds ? "ok  " : "FAIL", claim);
    *(holds ? &passed : &failed) += 1;
}

/* ---- What was written down ------------------------------------------------------------------- */

/* Every push has its pop, every start its end, in an order that can be. */
static bool balanced(void)
{
    uint32_t depth = 0;
    for (uint32_t i = 0; i < tool->count; i++) {
        const struct nvtx_tool_event *event = &tool->events[i];
        uint32_t ends = 0;
        if (event->kind == NVTX_TOOL_POP && depth-- == 0)
            return false;
        depth += event->kind == NVTX_TOOL_PUSH;
        for (uint32_t k = i + 1; event->kind == NVTX_TOOL_START && k < tool->count; k++)
            ends += tool->events[k].kind == NVTX_TOOL_END && tool->events[k].range == event->range;
        if (event->kind == NVTX_TOOL_START && ends != 1)
            return false;
    }
    return depth == 0 && !tool->strange;
}

/* The ranges in the order of their beginnings. */
static bool named(const char *const *names, uint32_t count)
{
    uint32_t found = 0;
    bool equal = true;
    for (uint32_t i = 0; i < tool->count; i++) {
        const struct nvtx_tool_event *event = &tool->events[i];
        if (event->kind != NVTX_TOOL_PUSH && event->kind != NVTX_TOOL_START)
            continue;
        equal = equal && found < count && strcmp(event->name, names[found]) == 0;
        found++;
    }
    for (uint32_t i = 0; !(equal && found == count) && i < tool->count; i++)
        printf("     %d %s\n", (int)tool->events[i].kind, tool->events[i].name);
    return equal && found == count;
}

/* How many began with this name, or (`whole` false) with names that begin so. */
static uint32_t counted(const char *name, bool whole)
{
    uint32_t found = 0;
    for (uint32_t i = 0; i < tool->count; i++) {
        const struct nvtx_tool_event *event = &tool->events[i];
        if (event->kind == NVTX_TOOL_PUSH || event->kind == NVTX_TOOL_START)
            found += whole ? strcmp(event->name, name) == 0
                           : strncmp(event->name, name, strlen(name)) == 0;
    }
    return found;
}

/* ---- Requests -------------------------------------------------------------------------------- */

static struct ld_engine *open_engine(const struct ld_cancel *interrupt)
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
                                            .precision = "",
                                            .threads = 1,
                                            .interrupt = interrupt};
    fake_gpu_reset();
    if (ld_engine_create(&engine, &config, &err) != LD_OK)
        printf("engine: %s\n", err.detail);
    tool->count = 0;
    return engine;
}

static void on_done(void *ctx, const struct ld_engine_report *told, const struct ld_error *err)
{
    (void)told;
    *(enum ld_code *)ctx = err->code;
}

static bool send(struct ld_engine *engine, int32_t steps, uint64_t *handle, enum ld_code *ended)
{
    static struct ld_request request; /* of the latest job: the same for all but its steps */
    struct ld_error err = {0};
    ld_request_default(&request);
    request.prompt = "a cat";
    request.negative_prompt = "a dog";
    request.sampler = "euler";
    request.width = request.height = SIDE;
    request.steps = steps;
    request.cfg_scale = 5;
    request.seed_random = false;
    request.images = 1;
    *ended = LD_E_BUG;
    const struct ld_engine_job job = {.request = &request, .ctx = ended, .on_done = on_done};
    return engine && ld_engine_submit(engine, &job, handle, &err) == LD_OK;
}

static bool tick(struct ld_engine *engine, int times)
{
    struct ld_error err = {0};
    bool good = true;
    for (int i = 0; good && i < times && ld_engine_busy(engine); i++)
        good = ld_engine_tick(engine, &err) == LD_OK;
    return good;
}

static void a_request_is_seen_from_its_texts_to_its_decoding(void)
{
    static const char *const names[] = {"request 32x32, steps 4, images 1",
                                        "clip x1",
                                        "clip x1",
                                        "step[0] 32x32, rows 2",
                                        "step[1] 32x32, rows 2",
                                        "step[2] 32x32, rows 2",
                                        "step[3] 32x32, rows 2",
                                        "decode 32x32"};
    enum ld_code ended;
    uint64_t handle;
    struct ld_engine *engine = open_engine(NULL);
    const bool good = send(engine, 4, &handle, &ended) && tick(engine, TICKS_MAX);
    report("a picture is painted, by recordings too",
           good && ended == LD_OK && fake_gpu.graph_launches > 0);
    report("its ranges are these, and no operator's", named(names, sizeof names / sizeof names[0]));
    report("they are closed", balanced());
    ld_engine_destroy(engine);
}

static void ranges_are_closed_however_a_job_ends(void)
{
    static struct ld_cancel interrupt;
    enum ld_code ended;
    enum ld_code other;
    uint64_t handle;
    struct ld_engine *engine = open_engine(&interrupt);
    bool good = send(engine, 4, &handle, &ended) && tick(engine, 3);
    fake_gpu.sync_error = 46;
    good = good && tick(engine, TICKS_MAX);
    report("a job whose pass fails leaves no range open",
           good && ended == LD_E_DEVICE && counted("step", false) == 2 && balanced());
    tool->count = 0;
    good = send(engine, 4, &handle, &ended) && tick(engine, 3);
    ld_engine_cancel(engine, handle, true);
    good = good && tick(engine, TICKS_MAX);
    report("nor one that is cancelled",
           good && ended == LD_E_CANCELLED && counted("decode", false) == 1 && balanced());
    tool->count = 0;
    good = send(engine, 4, &handle, &ended) && send(engine, 4, &handle, &other) && tick(engine, 5);
    atomic_store(&interrupt.requested, true);
    good = good && tick(engine, TICKS_MAX);
    report("nor two that are interrupted",
           good && ended == LD_E_CANCELLED && other == LD_E_CANCELLED &&
               counted("request 32x32, steps 4, images 1", true) == 2 && balanced());
    atomic_store(&interrupt.requested, false);
    tool->count = 0;
    good = send(engine, 4, &handle, &ended) && tick(engine, 3);
    fake_gpu.sync_error = FAKE_ILLEGAL_ADDRESS;
    report("a lost device ends the engine", good && !tick(engine, TICKS_MAX));
    ld_engine_destroy(engine);
    report("and its job's range with it", counted("request", false) == 1 && balanced());
}

/* ---- Operators ------------------------------------------------------------------------------- */

struct network {
    struct ld_backend *backend;
    struct ld_model *model;
};

static bool open_network(struct network *network, bool profile)
{
    struct ld_error err = {0};
    const struct ld_device_choice choice = {.backend = "cuda", .threads = 1, .profile = profile};
    memset(network, 0, sizeof *network);
    fake_gpu_reset();
    const bool good = ld_device_open(&network->backend, &choice, NULL, &err) == LD_OK &&
                      ld_model_open(&network->model, network->backend, path, NULL, &err) == LD_OK;
    if (!good)
        printf("model: %s\n", err.detail);
    return good;
}

static void close_network(struct network *network)
{
    ld_model_destroy(network->model);
    if (network->backend)
        network->backend->ops->destroy(network->backend);
}

static enum ld_code run_unet(const struct network *network, const struct ld_cancel *cancel)
{
    static float x[4 * CELLS * CELLS];
    static float eps[4 * CELLS * CELLS];
    static float context[77 * 4096];
    struct ld_error err = {0};
    if (ld_model_arch(network->model)->unet_context > 4096)
        return LD_E_BUG;
    const struct ld_unet_row row = {
        .x = x, .scale = 1, .t = 601, .context = context, .context_tokens = 77, .eps = eps};
    const struct ld_unet_request request = {
        .rows = &row, .row_count = 1, .height = CELLS, .width = CELLS, .cancel = cancel};
    return ld_model_unet(network->model, NULL, &request, &err);
}

/* Blocks without one in another, each with operators in it, all of them inside of one. */
static bool nested(void)
{
    uint32_t depth = 0;
    uint32_t inside = 0;
    for (uint32_t i = 0; i < tool->count; i++) {
        const struct nvtx_tool_event *event = &tool->events[i];
        if (event->kind == NVTX_TOOL_POP) {
            if (depth == 0 || (depth == 1 && inside == 0))
                return false;
            depth--;
        } else if (event->kind == NVTX_TOOL_PUSH) {
            const bool is_operator = strchr(event->name, ' ') != NULL;
            if (is_operator != (depth == 1))
                return false;
            inside = is_operator ? inside + 1 : 0;
            depth++;
        }
    }
    return depth == 0;
}

static void operators_are_seen_where_it_is_asked_for(void)
{
    struct network network;
    bool good = open_network(&network, false);
    tool->count = 0;
    for (int i = 0; good && i < 3; i++)
        good = run_unet(&network, NULL) == LD_OK;
    report("a UNet alone shows no operator, walked or recorded", good && tool->count == 0);
    close_network(&network);
    good = open_network(&network, true);
    tool->count = 0;
    good = good && run_unet(&network, NULL) == LD_OK;
    report("profiled, it shows blocks with their operators in them",
           good && nested() && balanced());
    report("by their names",
           counted("prologue", true) == 1 && counted("time_embed", true) == 1 &&
               counted("input_blocks.0", true) == 1 && counted("middle_block", true) == 1 &&
               counted("end", true) == 1 && counted("attention 1x", false) > 0 &&
               counted("conv2d 1x4x4x", false) > 0 && counted("planes_in 1x4x4x4", true) == 1);
    tool->count = 0;
    for (int i = 0; good && i < 3; i++)
        good = run_unet(&network, NULL) == LD_OK;
    report("every time, and the context's part is not repeated",
           good && fake_gpu.graph_launches == 0 && counted("input_blocks.1", true) == 3 &&
               counted("prologue", true) == 0 && nested() && balanced());
    close_network(&network);
}

static struct ld_cancel midway;

static void cancel_midway(const char *name)
{
    if (strcmp(name, "input_blocks.1") == 0)
        atomic_store(&midway.requested, true);
}

static void a_walk_that_is_cancelled_leaves_no_block_open(void)
{
    struct network network;
    bool good = open_network(&network, true) && run_unet(&network, NULL) == LD_OK;
    tool->count = 0;
    tool->on_push = cancel_midway;
    good = good && run_unet(&network, &midway) == LD_E_CANCELLED;
    tool->on_push = NULL;
    report("a UNet cancelled inside of a block leaves nothing open",
           good && counted("input_blocks.1", true) == 1 && counted("middle_block", true) == 0 &&
               balanced());
    close_network(&network);
}

/* ---- Nobody listens -------------------------------------------------------------------------- */

static void without_a_profiler_there_is_nothing_to_call(void)
{
    struct network network;
    const bool good = open_network(&network, true) && run_unet(&network, NULL) == LD_OK;
    report("without a profiler the backend has no ranges", good && !network.backend->ranges);
    close_network(&network);
}

/* ---- All ------------------------------------------------------------------------------------- */

static bool make_checkpoint(char *program)
{
    char kind[] = "--tiny";
    char *const arguments[] = {program, kind, path, NULL};
    pid_t child;
    int status = 1;
    return posix_spawn(&child, program, NULL, NULL, arguments, environ) == 0 &&
           waitpid(child, &status, 0) == child && status == 0;
}

/* The library that NVTX opens by itself is open already: its record is this one. */
static bool listen_with(const char *library)
{
    void *opened = dlopen(library, RTLD_NOW);
    tool = opened ? dlsym(opened, "nvtx_tool") : NULL;
    return tool && setenv("NVTX_INJECTION64_PATH", library, 1) == 0;
}

int main(int argc, char **argv)
{
    static struct nvtx_tool none;
    (void)setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc != 3 && argc != 4) {
        fprintf(stderr, "usage: test_ranges MAKE_CHECKPOINT FILE [PROFILER]\n");
        return 2;
    }
    path = argv[2];
    tool = &none;
    (void)unsetenv("NVTX_INJECTION64_PATH");
    report("a checkpoint is made", make_checkpoint(argv[1]));
    if (argc == 3) {
        without_a_profiler_there_is_nothing_to_call();
    } else if (listen_with(argv[3])) {
        a_request_is_seen_from_its_texts_to_its_decoding();
        ranges_are_closed_however_a_job_ends();
        operators_are_seen_where_it_is_asked_for();
        a_walk_that_is_cancelled_leaves_no_block_open();
        report("the profiler was opened once, for one domain",
               tool->attached == 1 && strcmp(tool->domain, "latentd") == 0 && !tool->strange);
    } else {
        report("the profiler's library is there", false);
    }
    (void)remove(path);
    printf("%u passed, %u failed\n", passed, failed);
    return failed || passed == 0 ? 1 : 0;
}
