/* Proves what the engine does without memory: what nobody uses is let go, decodes come in strips,
 * only the job that cannot be helped ends and says what is missing, and the least that a picture
 * takes is what the inventory says. How: a demonstration checkpoint on a fake GPU that counts.
 *
 *     test_engine_memory MAKE_CHECKPOINT FOLDER
 */
#include "runtime/base/json_find.h"
#include "tests/unit/engine_fixture.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- Memory ---------------------------------------------------------------------------------- */

/* The small picture's plans stand already, the large one finds no memory for a single row. */
static void too_little_memory_ends_only_the_job_that_needs_it(void)
{
    struct listener small;
    struct listener large;
    struct ld_request request;
    struct ld_request greedy;
    fake_gpu_reset();
    struct ld_engine *engine = open_engine();
    ask(&request);
    ask(&greedy);
    greedy.width = greedy.height = 4 * SIDE;
    const bool warm = paint(engine, &request, &small);
    fake_gpu.fail_alloc_after = 0;
    const bool good = warm && hand_in(engine, &greedy, &large) &&
                      hand_in(engine, &request, &small) && finish(engine);
    report("a picture that does not fit fails", good && large.code == LD_E_GPU_NOMEM);
    report("and says how much is missing",
           strstr(large.why, "MiB more are needed") && strstr(large.why, "MiB are free"));
    report("the other job is done", good && small.code == LD_OK && small.images == 1);
    fake_gpu.fail_alloc_after = UINT64_MAX;
    report("with memory back it fits",
           paint(engine, &greedy, &large) && large.code == LD_OK && large.images == 1);
    ld_engine_destroy(engine);
}

/* Two models, and room for one. */
static void memory_comes_from_what_nobody_uses(void)
{
    char folder[PATH_SIZE];
    char names[2][PATH_SIZE + 32];
    struct listener listener;
    struct ld_request request;
    fake_gpu_reset();
    (void)snprintf(folder, sizeof folder, "%.*s.models", PATH_SIZE - 16, path);
    (void)mkdir(folder, 0700);
    for (int i = 0; i < 2; i++)
        (void)snprintf(names[i], sizeof names[i], "%s/model_%d.safetensors", folder, i);
    bool good = copy_file(path, names[0]) && copy_file(path, names[1]);
    struct ld_engine *engine = good ? open_engine_with("", folder, "") : NULL;
    ask(&request);
    request.model = "model_0";
    good = good && paint(engine, &request, &listener) && listener.code == LD_OK;
    const uint64_t digest = listener.digest[0];
    fake_gpu.device_bytes_max = fake_gpu.device_bytes + fake_gpu.device_bytes / 4;
    for (int round = 0; good && round < 3; round++) {
        request.model = round % 2 == 0 ? "model_1" : "model_0";
        good = paint(engine, &request, &listener) && listener.code == LD_OK &&
               listener.digest[0] == digest;
    }
    report("models that nobody uses make room for the one that is asked for", good);
    ld_engine_destroy(engine);
    report("and nothing is left of either", fake_gpu.live_allocations == 0);
    for (int i = 0; i < 2; i++)
        (void)remove(names[i]);
    (void)rmdir(folder);
}

static void weights_that_do_not_fit_are_named(void)
{
    struct listener listener;
    struct ld_request request;
    fake_gpu_reset();
    struct ld_engine *engine = open_engine_streaming("off");
    ask(&request);
    fake_gpu.device_bytes_max = 6 << 20; /* the text encoder fits, the UNet does not */
    report("weights that do not fit and are not to be streamed end the job with what they need",
           paint(engine, &request, &listener) && listener.code == LD_E_GPU_NOMEM &&
               strstr(listener.why, "the model's ") && strstr(listener.why, " takes ") &&
               strstr(listener.why, "MiB are free"));
    fake_gpu.device_bytes_max = UINT64_MAX;
    const bool good = paint(engine, &request, &listener) && listener.code == LD_OK;
    const uint64_t digest = listener.digest[0];
    ld_engine_destroy(engine);

    engine = open_engine();
    fake_gpu.device_bytes_max = 6 << 20;
    report("left to itself the engine streams them, for the same picture",
           good && paint(engine, &request, &listener) && listener.code == LD_OK &&
               listener.digest[0] == digest);
    fake_gpu.device_bytes_max = UINT64_MAX;
    ld_engine_destroy(engine);
    report("and nothing is left of it", fake_gpu.live_allocations == 0);
}

/* The device's bytes in use after a picture of twice the side has been painted and decoded as
 * `tiling` says, where there are `bytes_max`, in an engine that has nothing else; 0 if it failed.
 */
static uint64_t bytes_after(enum ld_vae_tiling tiling, uint64_t bytes_max,
                            struct listener *listener)
{
    struct ld_request request;
    struct ld_engine *engine = open_engine();
    fake_gpu.device_bytes_max = bytes_max;
    ask(&request);
    request.width = request.height = 2 * SIDE;
    request.steps = 1;
    request.vae_tiling = tiling;
    const bool good = paint(engine, &request, listener) && listener->code == LD_OK;
    const uint64_t bytes = fake_gpu.device_bytes;
    ld_engine_destroy(engine);
    fake_gpu.device_bytes_max = UINT64_MAX;
    return good ? bytes : 0;
}

/* Room for the decoder in strips of rows, not in one piece. */
static void a_decode_without_memory_comes_in_strips(void)
{
    struct listener whole;
    struct listener strips;
    struct listener tight;
    fake_gpu_reset();
    fake_gpu.no_moments = true; /* so that both forms' norms are summed alike */
    const uint64_t more = bytes_after(LD_VAE_AUTO, UINT64_MAX, &whole);
    const uint64_t less = bytes_after(LD_VAE_EXACT, UINT64_MAX, &strips);
    printf("     %llu KiB in one piece, %llu in strips\n", (unsigned long long)more >> 10,
           (unsigned long long)less >> 10);
    report("strips take less of the device", less > 0 && less < more);
    report("and give the same picture", strips.digest[0] == whole.digest[0] && more > 0);
    report("in one piece it has no warning", strcmp(whole.warnings, "[]") == 0);
    (void)bytes_after(LD_VAE_AUTO, less + (more - less) / 2, &tight);
    report("a decode that finds too little memory comes in strips",
           tight.code == LD_OK && tight.images == 1 && tight.digest[0] == whole.digest[0]);
    report("and its warning says so", strstr(tight.warnings, "was decoded in strips, the same but "
                                                             "for rounding") != NULL);
    (void)bytes_after(LD_VAE_AUTO, less - (more - less) / 2, &tight);
    report("where strips do not fit either, the job says what is missing",
           tight.code == LD_E_GPU_NOMEM && strstr(tight.why, "MiB are free"));
    fake_gpu_reset();
}

/* ---- What never fits ------------------------------------------------------------------------- */

/* Bytes that the inventory says a picture takes at least, by the step that begins at `positions`;
 * 0: it says nothing. */
static uint64_t told(struct ld_engine *engine, uint64_t positions)
{
    const struct ld_span inventory = ld_span_text(ld_engine_inventory(engine));
    for (int i = 0; i < 64; i++) {
        char pointer[64];
        uint64_t at;
        uint64_t bytes;
        (void)snprintf(pointer, sizeof pointer, "/memory/needs/0/steps/%d/0", i);
        if (!ld_json_find_u64(inventory, pointer, &at))
            return 0;
        (void)snprintf(pointer, sizeof pointer, "/memory/needs/0/steps/%d/1", i);
        if (at == positions)
            return ld_json_find_u64(inventory, pointer, &bytes) ? bytes : 0;
    }
    return 0;
}

static void ask_least(struct ld_request *request, int32_t side)
{
    ask(request);
    request->width = request->height = side;
    request->steps = 1;
    request->cfg_scale = 1; /* one row */
}

/* A square picture in an engine that has nothing else, on a device of `spare` bytes beyond what the
 * inventory says that it takes at least. */
static enum ld_code paint_with(int32_t side, int64_t spare, uint64_t *need, uint64_t *used)
{
    struct listener listener;
    struct ld_request request;
    struct ld_engine *engine = open_engine();
    ask_least(&request, side);
    (void)ld_engine_has_news(engine); /* the model's widths are known by now */
    *need = told(engine, (uint64_t)(side / 8) * (uint64_t)(side / 8));
    fake_gpu.device_bytes_max = (uint64_t)((int64_t)*need + spare);
    const bool good = paint(engine, &request, &listener) && *need > 0;
    *used = fake_gpu.device_bytes;
    fake_gpu.device_bytes_max = UINT64_MAX;
    ld_engine_destroy(engine);
    return good ? listener.code : LD_E_BUG;
}

/* The front refuses a job where a device has less than this (server/capacity.h). */
static void a_picture_takes_what_the_inventory_says(void)
{
    static const int32_t sides[] = {64, 128};
    char name[64];
    uint64_t bytes;
    fake_gpu_reset();
    struct ld_engine *engine = open_engine();
    (void)ld_engine_has_news(engine);
    const struct ld_span inventory = ld_span_text(ld_engine_inventory(engine));
    report("the inventory tells what the device has",
           ld_json_find_u64(inventory, "/memory/bytes", &bytes) &&
               bytes == fake_gpu.info.memory_total);
    report("and which models it speaks of",
           ld_json_find_string(inventory, "/memory/needs/0/models/0", name, sizeof name) &&
               strcmp(name, "engine_device") == 0);
    ld_engine_destroy(engine);
    for (int i = 0; i < 2; i++) {
        uint64_t need;
        uint64_t used;
        const enum ld_code less = paint_with(sides[i], -1, &need, &used);
        const enum ld_code more = paint_with(sides[i], (int64_t)need / 2, &need, &used);
        printf("     %dx%d: %llu KiB at least, %llu taken\n", (int)sides[i], (int)sides[i],
               (unsigned long long)need >> 10, (unsigned long long)used >> 10);
        report("on a device with a byte less than it takes a picture fails",
               less == LD_E_GPU_NOMEM);
        report("with half as much again it is painted", more == LD_OK && used >= need);
    }
}

/* What the front would refuse, sent all the same; every tenth time one that fits comes after it. */
static void the_engine_lives_through_what_never_fits(void)
{
    enum { TIMES = 100, LARGE = 512 };
    struct listener listener;
    struct ld_request request;
    fake_gpu_reset();
    struct ld_engine *engine = open_engine();
    (void)ld_engine_has_news(engine);
    fake_gpu.device_bytes_max = told(engine, (uint64_t)(LARGE / 8) * (LARGE / 8)) - 1;
    int lived = 0;
    for (int i = 0; i < TIMES; i++) {
        ask_least(&request, LARGE);
        const bool refused = paint(engine, &request, &listener) && listener.code == LD_E_GPU_NOMEM;
        ask_least(&request, SIDE);
        lived += refused &&
                 (i % 10 != 0 || (paint(engine, &request, &listener) && listener.code == LD_OK));
    }
    printf("     %d of %d\n", lived, TIMES);
    report("an engine lives through pictures that never fit, and paints those that do",
           lived == TIMES);
    fake_gpu.device_bytes_max = UINT64_MAX;
    ld_engine_destroy(engine);
    report("and nothing is left on the device", fake_gpu.live_allocations == 0);
}

int main(int argc, char **argv)
{
    static const engine_claim claims[] = {
        too_little_memory_ends_only_the_job_that_needs_it,
        memory_comes_from_what_nobody_uses,
        weights_that_do_not_fit_are_named,
        a_decode_without_memory_comes_in_strips,
        a_picture_takes_what_the_inventory_says,
        the_engine_lives_through_what_never_fits,
    };
    return run_claims(argc, argv, claims, sizeof claims / sizeof claims[0]);
}
