#include "tests/unit/engine_fixture.h"

#include "runtime/base/json_find.h"
#include "runtime/image/png_meta.h"
#include "runtime/image/png_read.h"

#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

extern char **environ;
static unsigned passed, failed;
char path[PATH_SIZE];
uint32_t engine_threads = 1;
bool engine_tune_idle;

void report(const char *claim, bool holds)
{
    printf("%s %s\n", holds ? "ok  " : "FAIL", claim);
    *(holds ? &passed : &failed) += 1;
}

/* ---- Jobs ------------------------------------------------------------------------------------ */

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
    listener->partial += image->partial ? 1 : 0;
    if (image->index < IMAGES_MAX)
        listener->digest[image->index] = digest_of(image->file);
    if (image->index == 0)
        read_numerics(listener, image->file);
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

static struct ld_engine *open_configured(const char *model, const char *folder,
                                         const char *precision, const char *stream_weights)
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
                                            .stream_weights = stream_weights,
                                            .threads = engine_threads,
                                            .tune_idle = engine_tune_idle};
    if (ld_engine_create(&engine, &config, &err) != LD_OK)
        printf("engine: %s\n", err.detail);
    return engine;
}

struct ld_engine *open_engine_with(const char *model, const char *folder, const char *precision)
{
    return open_configured(model, folder, precision, "");
}

struct ld_engine *open_engine_streaming(const char *stream_weights)
{
    return open_configured(path, "", "", stream_weights);
}

struct ld_engine *open_engine(void)
{
    return open_engine_with(path, "", "");
}

void ask(struct ld_request *request)
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

bool hand_in(struct ld_engine *engine, const struct ld_request *request, struct listener *listener)
{
    struct ld_error err = {0};
    uint64_t handle;
    memset(listener, 0, sizeof *listener);
    const struct ld_engine_job job = {
        .request = request, .ctx = listener, .on_image = on_image, .on_done = on_done};
    return engine && ld_engine_submit(engine, &job, &handle, &err) == LD_OK;
}

bool finish(struct ld_engine *engine)
{
    struct ld_error err = {0};
    bool good = true;
    for (int i = 0; good && i < TICKS_MAX && ld_engine_busy(engine); i++)
        good = ld_engine_tick(engine, &err) == LD_OK;
    return good && !ld_engine_busy(engine);
}

bool paint(struct ld_engine *engine, const struct ld_request *request, struct listener *listener)
{
    const bool good = hand_in(engine, request, listener) && finish(engine) && listener->done == 1;
    if (listener->code != LD_OK)
        printf("     %s: %s\n", ld_code_name(listener->code), listener->why);
    return good;
}

bool tick(struct ld_engine *engine, int times)
{
    struct ld_error err = {0};
    bool good = true;
    for (int i = 0; good && i < times; i++)
        good = ld_engine_tick(engine, &err) == LD_OK;
    return good;
}

bool copy_file(const char *from, const char *to)
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

int run_claims(int argc, char **argv, const engine_claim *claims, size_t count)
{
    (void)setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc != 3) {
        fprintf(stderr, "usage: %s MAKE_CHECKPOINT FOLDER\n", argv[0]);
        return 2;
    }
    (void)snprintf(path, sizeof path, "%s/engine_device.safetensors", argv[2]);
    (void)setenv("LATENTD_TUNING", argv[2], 1); /* other programs share locks elsewhere */
    if (!make_checkpoint(argv[1])) {
        printf("FAIL the checkpoint could not be made\n0 passed, 1 failed\n");
        return 1;
    }
    for (size_t i = 0; i < count; i++)
        claims[i]();
    (void)remove(path);
    printf("%u passed, %u failed\n", passed, failed);
    return failed || passed == 0 ? 1 : 0;
}
