/* Proves what the engine does when its GPU fails: a lost device ends the engine and leaves its jobs
 * open, for another worker to take up; too little memory makes passes smaller, lets go of what
 * nobody uses and ends only the job that cannot be helped; a failed pass ends no job that it was
 * not about; what fp16 cannot hold is painted again in bf16, and nothing else is touched. And that
 * a picture costs the device no allocation and no bytes beyond what its steps need. How: a
 * demonstration checkpoint on a fake GPU that fails on order and counts.
 *
 *     test_engine_device MAKE_CHECKPOINT FOLDER
 */
#include "runtime/base/json_find.h"
#include "runtime/engine.h"
#include "runtime/image/png_meta.h"
#include "runtime/image/png_read.h"
#include "tests/cuda/fake_gpu.h"

#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PATH_SIZE = 4096, TICKS_MAX = 400, SIDE = 32 };

extern char **environ;
static unsigned passed, failed;
static char path[PATH_SIZE];

static void report(const char *claim, bool holds)
{
    printf("%s %s\n", holds ? "ok  " : "FAIL", claim);
    *(holds ? &passed : &failed) += 1;
}

/* ---- Jobs ------------------------------------------------------------------------------------ */

enum { IMAGES_MAX = 2, TEXT_SIZE = 1024 };

struct listener {
    uint32_t done, images, repainted;
    enum ld_code code;
    uint64_t digest[IMAGES_MAX]; /* of the pixels */
    char why[LD_ERROR_DETAIL_SIZE], warnings[TEXT_SIZE], numerics[TEXT_SIZE];
    bool numerics_in_picture; /* the first one says the same as the report */
    char own[TEXT_SIZE];      /* what it says */
};

static void read_numerics(struct listener *listener, struct ld_span png)
{
    struct ld_arena arena;
    struct ld_png_texts texts = {0};
    struct ld_error err = {0};
    struct ld_span numerics;
    ld_arena_init(&arena, "test", 1 << 20);
    if (ld_png_texts_read(&texts, &arena, png, false, &err) == LD_OK) {
        const char *own = ld_png_text_find(&texts, "latentd");
        if (own && ld_json_find_span(ld_span_text(own), "/numerics", &numerics))
            (void)snprintf(listener->own, sizeof listener->own, "%.*s", (int)numerics.size,
                           (const char *)numerics.data);
    }
    ld_arena_deinit(&arena);
}

static uint64_t digest_of(struct ld_span png)
{
    struct ld_picture picture = {0};
    struct ld_error err = {0};
    uint64_t hash = 0xCBF29CE484222325U; /* FNV-1a */
    if (ld_png_read(&picture, png, 0, &err) == LD_OK)
        for (size_t i = 0; i < (size_t)picture.width * (size_t)picture.height * 3; i++)
            hash = (hash ^ picture.pixels[i]) * 0x100000001B3U;
    ld_picture_deinit(&picture);
    return hash;
}

static void on_image(void *ctx, const struct ld_engine_image *image)
{
    struct listener *listener = ctx;
    listener->images++;
    if (image->index < IMAGES_MAX)
        listener->digest[image->index] = digest_of(image->png);
    if (image->index == 0)
        read_numerics(listener, image->png);
}

static void on_done(void *ctx, const struct ld_engine_report *told, const struct ld_error *err)
{
    struct listener *listener = ctx;
    listener->done++;
    listener->code = err->code;
    listener->repainted = told->repainted;
    (void)snprintf(listener->why, sizeof listener->why, "%s", err->detail);
    (void)snprintf(listener->warnings, sizeof listener->warnings, "%s", told->warnings_json);
    (void)snprintf(listener->numerics, sizeof listener->numerics, "%s", told->numerics_json);
    listener->numerics_in_picture = strcmp(listener->numerics, listener->own) == 0;
}

static struct ld_engine *open_engine_with(const char *model, const char *folder,
                                          const char *precision)
{
    struct ld_engine *engine = NULL;
    struct ld_error err = {0};
    const struct ld_engine_config config = {.model_dir = folder,
                                            .adapter_dir = "",
                                            .embedding_dir = "",
                                            .wildcard_dir = "",
                                            .vae_dir = "",
                                            .default_model = "",
                                            .model_path = model,
                                            .vocab_path = "",
                                            .backend = "cuda",
                                            .precision = precision,
                                            .threads = 1};
    if (ld_engine_create(&engine, &config, &err) != LD_OK)
        printf("engine: %s\n", err.detail);
    return engine;
}

static struct ld_engine *open_engine(void)
{
    return open_engine_with(path, "", "");
}

static void ask(struct ld_request *request)
{
    ld_request_default(request);
    request->prompt = "a cat";
    request->negative_prompt = "";
    request->sampler = "euler";
    request->width = request->height = SIDE;
    request->steps = 2;
    request->cfg_scale = 5;
    request->seed_random = false;
    request->images = 1;
}

static bool send(struct ld_engine *engine, const struct ld_request *request,
                 struct listener *listener)
{
    struct ld_error err = {0};
    uint64_t handle;
    memset(listener, 0, sizeof *listener);
    const struct ld_engine_job job = {
        .request = request, .ctx = listener, .on_image = on_image, .on_done = on_done};
    return engine && ld_engine_submit(engine, &job, &handle, &err) == LD_OK;
}

/* Until nothing is left to do. */
static bool finish(struct ld_engine *engine)
{
    struct ld_error err = {0};
    bool good = true;
    for (int i = 0; good && i < TICKS_MAX && ld_engine_busy(engine); i++)
        good = ld_engine_tick(engine, &err) == LD_OK;
    return good && !ld_engine_busy(engine);
}

static bool paint(struct ld_engine *engine, const struct ld_request *request,
                  struct listener *listener)
{
    const bool good = send(engine, request, listener) && finish(engine) && listener->done == 1;
    if (listener->code != LD_OK)
        printf("     %s: %s\n", ld_code_name(listener->code), listener->why);
    return good;
}

/* Two pictures, so that a pass has four rows. */
static bool submit(struct ld_engine *engine, struct ld_request *request, struct listener *listener)
{
    ask(request);
    request->images = 2;
    return send(engine, request, listener);
}

/* ---- A device that fails --------------------------------------------------------------------- */

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
    bool good = paint(engine, &other, &alone) && send(engine, &request, &first) &&
                send(engine, &other, &second);
    for (int i = 0; good && i < 4; i++) /* both texts, both sessions */
        good = ld_engine_tick(engine, &err) == LD_OK;
    fake_gpu.sync_error = 46;
    good = good && finish(engine);
    report("a failed pass of two jobs ends neither",
           good && first.code == LD_OK && second.code == LD_OK && first.images == 1);
    report("and changes no picture", good && second.digest[0] == alone.digest[0]);
    good = send(engine, &request, &first);
    for (int i = 0; good && i < 2; i++)
        good = ld_engine_tick(engine, &err) == LD_OK;
    fake_gpu.sync_error = 46;
    report("a job whose own pass fails has failed",
           good && finish(engine) && first.done == 1 && first.code == LD_E_DEVICE);
    ld_engine_destroy(engine);
}

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
    const bool good =
        warm && send(engine, &greedy, &large) && send(engine, &request, &small) && finish(engine);
    report("a picture that does not fit fails", good && large.code == LD_E_GPU_NOMEM);
    report("and says how much is missing",
           strstr(large.why, "MiB more are needed") && strstr(large.why, "MiB are free"));
    report("the other job is done", good && small.code == LD_OK && small.images == 1);
    fake_gpu.fail_alloc_after = UINT64_MAX;
    report("with memory back it fits",
           paint(engine, &greedy, &large) && large.code == LD_OK && large.images == 1);
    ld_engine_destroy(engine);
}

static bool copy_file(const char *from, const char *to)
{
    static unsigned char block[1 << 16];
    FILE *in = fopen(from, "rb");
    FILE *out = in ? fopen(to, "wb") : NULL;
    bool good = out != NULL;
    for (size_t size; good && (size = fread(block, 1, sizeof block, in)) > 0;)
        good = fwrite(block, 1, size, out) == size;
    if (in)
        (void)fclose(in);
    return (!out || fclose(out) == 0) && good;
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
    struct ld_engine *engine = open_engine();
    ask(&request);
    fake_gpu.device_bytes_max = 6 << 20; /* the text encoder fits, the UNet does not */
    report("weights that do not fit end the job with what they need",
           paint(engine, &request, &listener) && listener.code == LD_E_GPU_NOMEM &&
               strstr(listener.why, "the model's ") && strstr(listener.why, " takes ") &&
               strstr(listener.why, "MiB are free"));
    fake_gpu.device_bytes_max = UINT64_MAX;
    ld_engine_destroy(engine);
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

/* ---- Beyond fp16 ----------------------------------------------------------------------------- */

/* Weights that take the text's encoding out of fp16's range, of bf16's with `beyond`. */
static void ask_too_much(struct ld_request *request, bool beyond)
{
    ask(request);
    request->prompt = beyond ? "(cat:1000000000000000000000000000000000000000)" : "(cat:3000000)";
    request->syntax = LD_SYNTAX_A1111;
    request->emphasis = LD_EMPHASIS_NO_NORM;
}

static void what_fp16_cannot_hold_is_painted_in_bf16(void)
{
    struct listener modest_alone;
    struct listener wide_alone;
    struct listener modest;
    struct listener wide;
    struct ld_request request;
    struct ld_request greedy;
    fake_gpu_reset();
    ask(&request);
    ask_too_much(&greedy, false);
    greedy.images = 2;
    struct ld_engine *reference = open_engine_with(path, "", "bf16");
    bool good = paint(reference, &greedy, &wide_alone) && wide_alone.code == LD_OK;
    ld_engine_destroy(reference);
    struct ld_engine *engine = open_engine();
    good = good && paint(engine, &request, &modest_alone) && modest_alone.code == LD_OK;
    report("a modest picture stays in fp16", good && modest_alone.repainted == 0);
    good =
        good && send(engine, &greedy, &wide) && send(engine, &request, &modest) && finish(engine);
    report("a picture beyond fp16's range is painted all the same",
           good && wide.code == LD_OK && wide.images == 2 && wide.repainted == 2);
    report("as bf16 paints it", good && wide.digest[0] == wide_alone.digest[0] &&
                                    wide.digest[1] == wide_alone.digest[1]);
    report("its warnings say so", strstr(wide.warnings, "was painted again in bf16") != NULL);
    report("and so do its numerics",
           strstr(wide.numerics, "\"precision\":\"bf16\"") != NULL && wide.numerics_in_picture);
    report("its company in the batch is the same as alone",
           good && modest.code == LD_OK && modest.repainted == 0 &&
               modest.digest[0] == modest_alone.digest[0] && strcmp(modest.warnings, "[]") == 0);
    ask_too_much(&greedy, true);
    good =
        good && send(engine, &greedy, &wide) && send(engine, &request, &modest) && finish(engine);
    report("what bf16 cannot hold either fails, with a reason",
           good && wide.code == LD_E_NUMERICAL && strstr(wide.why, "no numbers"));
    report("alone", good && modest.code == LD_OK && modest.digest[0] == modest_alone.digest[0]);
    ld_engine_destroy(engine);
    report("and nothing is left on the device", fake_gpu.live_allocations == 0);
}

/* The same bytes in another file: what counts is that nobody can know them to be the same. */
static bool replace_file(const char *file)
{
    char next[PATH_SIZE + 64];
    (void)snprintf(next, sizeof next, "%s.next", file);
    return copy_file(path, next) && rename(next, file) == 0;
}

static bool look_again(struct ld_engine *engine)
{
    struct ld_error err = {0};
    struct ld_buffer found = ld_buffer_make(4096);
    const bool good = ld_engine_rescan(engine, &found, &err) == LD_OK;
    ld_buffer_deinit(&found);
    return good;
}

static bool tick(struct ld_engine *engine, int times)
{
    struct ld_error err = {0};
    bool good = true;
    for (int i = 0; good && i < times; i++)
        good = ld_engine_tick(engine, &err) == LD_OK;
    return good;
}

/* The second engine opens files by name, so it must not open those of another time. */
static void files_replaced_meanwhile_are_not_mixed_in(void)
{
    char own[PATH_SIZE + 32];
    struct listener alone;
    struct listener listener;
    struct ld_request request;
    fake_gpu_reset();
    (void)snprintf(own, sizeof own, "%s.own.safetensors", path);
    struct ld_engine *engine = copy_file(path, own) ? open_engine_with(own, "", "") : NULL;
    ask_too_much(&request, false);
    request.steps = 6;
    bool good = paint(engine, &request, &alone) && alone.code == LD_OK && alone.repainted == 1;

    good = good && send(engine, &request, &listener) && tick(engine, 5) && look_again(engine) &&
           finish(engine);
    report("a scan that finds nothing new leaves a picture that is painted again alone",
           good && listener.code == LD_OK && listener.digest[0] == alone.digest[0]);

    good = good && send(engine, &request, &listener) && tick(engine, 5) && replace_file(own) &&
           look_again(engine) && finish(engine);
    report("one that holds its files keeps them when they are replaced",
           good && listener.code == LD_OK && listener.digest[0] == alone.digest[0]);

    good = good && send(engine, &request, &listener) && tick(engine, 1) && replace_file(own) &&
           look_again(engine) && finish(engine);
    report("one that would have to open others fails with a reason",
           good && listener.code == LD_E_CONFLICT &&
               strstr(listener.why, "were replaced meanwhile") && listener.images == 0);

    good = good && paint(engine, &request, &listener);
    report("and the next job paints with the new ones",
           good && listener.code == LD_OK && listener.digest[0] == alone.digest[0]);
    ld_engine_destroy(engine);
    report("and nothing is left on the device", fake_gpu.live_allocations == 0);
    (void)remove(own);
}

static void a_job_can_go_while_it_is_painted_again(void)
{
    struct listener listener;
    struct ld_request request;
    struct ld_error err = {0};
    fake_gpu_reset();
    struct ld_engine *engine = open_engine();
    ask_too_much(&request, false);
    request.steps = 6;
    bool good = send(engine, &request, &listener);
    for (int i = 0; good && i < 5; i++)
        good = ld_engine_tick(engine, &err) == LD_OK;
    good = good && listener.done == 0;
    ld_engine_cancel(engine, 1, false);
    report("a job that is painted again can be cancelled",
           good && finish(engine) && listener.done == 1 && listener.code == LD_E_CANCELLED);
    ld_engine_destroy(engine);
}

/* The decoder's first convolution, times 2^20: float16 in the file, so by its exponents. Weights
 * that would become infinite keep 2^15. */
static bool spoil_decoder(const char *file)
{
    static const char name[] = "\"first_stage_model.decoder.conv_in.weight\"";
    static char header[1 << 20];
    unsigned char size[8];
    unsigned long long at = 0, from = 0, to = 0;
    FILE *stream = fopen(file, "r+b");
    bool good = stream && fread(size, 1, 8, stream) == 8;
    for (int i = 8; good && i-- > 0;)
        at = at << 8 | size[i];
    good = good && at < sizeof header && fread(header, 1, (size_t)at, stream) == at;
    const char *entry = good ? strstr(header, name) : NULL;
    const char *offsets = entry ? strstr(entry, "\"data_offsets\":[") : NULL;
    if (offsets) {
        char *end;
        from = strtoull(offsets + 16, &end, 10);
        to = strtoull(end + 1, NULL, 10);
    }
    good = offsets && to > from;
    for (unsigned long long i = from; good && i < to; i += 2) {
        unsigned char half[2];
        const long place = (long)(8 + at + i);
        good = fseek(stream, place, SEEK_SET) == 0 && fread(half, 1, 2, stream) == 2;
        unsigned value = (unsigned)half[0] | (unsigned)half[1] << 8;
        const unsigned exponent = value >> 10 & 31U;
        const unsigned raised = exponent + 20 > 30 ? 30 : exponent + 20;
        value = exponent == 0 ? value : (value & 0x83FFU) | raised << 10;
        half[0] = (unsigned char)value;
        half[1] = (unsigned char)(value >> 8);
        good = good && fseek(stream, place, SEEK_SET) == 0 && fwrite(half, 1, 2, stream) == 2;
    }
    return (!stream || fclose(stream) == 0) && good;
}

static void a_decoder_beyond_fp16_runs_in_bf16(void)
{
    char spoiled[PATH_SIZE + 32];
    struct listener listener;
    struct ld_request request;
    fake_gpu_reset();
    (void)snprintf(spoiled, sizeof spoiled, "%s.spoiled.safetensors", path);
    const bool made = copy_file(path, spoiled) && spoil_decoder(spoiled);
    struct ld_engine *engine = made ? open_engine_with(spoiled, "", "") : NULL;
    ask(&request);
    const bool good = paint(engine, &request, &listener);
    report("a decoder beyond fp16's range runs again in bf16",
           good && listener.code == LD_OK && listener.images == 1 && listener.repainted == 1);
    report("and the job says so", good && strstr(listener.warnings, "the VAE went beyond") &&
                                      strstr(listener.numerics, "\"vae_precision\":\"bf16\""));
    ld_engine_destroy(engine);
    (void)remove(spoiled);
}

/* ---- All of it ------------------------------------------------------------------------------- */

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
    a_failed_pass_ends_no_job_of_several();
    too_little_memory_ends_only_the_job_that_needs_it();
    memory_comes_from_what_nobody_uses();
    weights_that_do_not_fit_are_named();
    a_decode_without_memory_comes_in_strips();
    a_picture_takes_what_the_inventory_says();
    the_engine_lives_through_what_never_fits();
    a_warm_request_allocates_nothing_and_copies_its_latents();
    a_picture_says_which_kernels_made_it();
    what_fp16_cannot_hold_is_painted_in_bf16();
    files_replaced_meanwhile_are_not_mixed_in();
    a_job_can_go_while_it_is_painted_again();
    a_decoder_beyond_fp16_runs_in_bf16();
    (void)remove(path);
    printf("%u passed, %u failed\n", passed, failed);
    return failed || passed == 0 ? 1 : 0;
}
