/*
 * Our side of cpu_vs_torch.sh: holds a checkpoint on the CPU backend and obeys lines on stdin.
 *
 *     cpu_vs_torch CHECKPOINT FOLDER LATENT_SIDE THREADS
 *
 *     step      one CFG step (two rows) on FOLDER/x.f32, context.f32 -> eps.f32, prints seconds
 *     decode    FOLDER/z.f32 -> picture.f32, prints seconds
 *     memory    prints peak and current resident bytes of this process
 *
 * Files are raw float32.
 */
#include "runtime/base/arena.h"
#include "runtime/model/model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { LINE_SIZE = 64, PATH_SIZE = 4096, TOKENS = 77 };
static const float TIMESTEP = 601;

struct bench {
    struct ld_backend *backend;
    struct ld_model *model;
    const char *folder;
    int32_t side;
    size_t context_row;
    float *x, *context, *eps, *z, *picture;
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static bool transfer(const struct bench *bench, const char *name, float *values, size_t count,
                     bool write)
{
    char path[PATH_SIZE];
    snprintf(path, sizeof path, "%s/%s", bench->folder, name);
    FILE *file = fopen(path, write ? "wb" : "rb");
    if (!file)
        return false;
    const size_t done = write ? fwrite(values, sizeof *values, count, file)
                              : fread(values, sizeof *values, count, file);
    return fclose(file) == 0 && done == count;
}

static size_t latent_values(const struct bench *bench)
{
    return 4 * (size_t)bench->side * (size_t)bench->side;
}

static enum ld_code run_step(struct bench *bench, struct ld_error *err)
{
    struct ld_unet_row rows[2];
    for (size_t r = 0; r < 2; r++)
        rows[r] = (struct ld_unet_row){.x = bench->x,
                                       .scale = 1,
                                       .t = TIMESTEP,
                                       .context = bench->context + r * bench->context_row,
                                       .context_tokens = TOKENS,
                                       .eps = bench->eps + r * latent_values(bench)};
    const struct ld_unet_request request = {
        .rows = rows, .row_count = 2, .height = bench->side, .width = bench->side};
    return ld_model_unet(bench->model, NULL, &request, err);
}

/* A command's seconds on stdout; its result in the folder. */
static enum ld_code obey(struct bench *bench, const char *line, struct ld_error *err)
{
    const bool step = strcmp(line, "step\n") == 0;
    if (!step && strcmp(line, "decode\n") != 0)
        return LD_FAIL(err, LD_E_INVALID, "commands are step, decode and memory");
    const double start = now();
    enum ld_code code = step ? run_step(bench, err)
                             : ld_model_decode(bench->model, bench->z, bench->side, bench->side, 1,
                                               NULL, bench->picture, err);
    const double seconds = now() - start;
    if (code != LD_OK)
        return code;
    const bool written =
        step ? transfer(bench, "eps.f32", bench->eps, 2 * latent_values(bench), true)
             : transfer(bench, "picture.f32", bench->picture, 48 * latent_values(bench), true);
    if (!written)
        return LD_FAIL(err, LD_E_IO, "a result cannot be written");
    printf("%.4f\n", seconds);
    return LD_OK;
}

/* Peak and current resident set in bytes, from the kernel's own account. */
static void print_memory(void)
{
    char line[256];
    long long peak = 0;
    long long current = 0;
    FILE *file = fopen("/proc/self/status", "r");
    while (file && fgets(line, sizeof line, file)) {
        if (strncmp(line, "VmHWM:", 6) == 0)
            peak = strtoll(line + 6, NULL, 10);
        if (strncmp(line, "VmRSS:", 6) == 0)
            current = strtoll(line + 6, NULL, 10);
    }
    if (file)
        fclose(file);
    printf("%lld %lld\n", peak * 1024, current * 1024);
}

static enum ld_code open_bench(struct bench *bench, char **argv, struct ld_error *err)
{
    bench->folder = argv[2];
    bench->side = (int32_t)strtol(argv[3], NULL, 10);
    enum ld_code code = ld_cpu_backend_create(&bench->backend, (uint32_t)strtoul(argv[4], NULL, 10),
                                              LD_CPU_AUTO, err);
    if (code == LD_OK)
        code = ld_model_open(&bench->model, bench->backend, argv[1], NULL, err);
    if (code != LD_OK)
        return code;
    if (bench->side < 1)
        return LD_FAIL(err, LD_E_RANGE, "the latent side must be positive");
    bench->context_row = TOKENS * (size_t)ld_model_arch(bench->model)->unet_context;
    bench->x = ld_heap_calloc(latent_values(bench), sizeof(float));
    bench->z = ld_heap_calloc(latent_values(bench), sizeof(float));
    bench->eps = ld_heap_calloc(2 * latent_values(bench), sizeof(float));
    bench->context = ld_heap_calloc(2 * bench->context_row, sizeof(float));
    bench->picture = ld_heap_calloc(48 * latent_values(bench), sizeof(float));
    if (!bench->x || !bench->z || !bench->eps || !bench->context || !bench->picture)
        return LD_FAIL(err, LD_E_NOMEM, "not enough memory");
    if (!transfer(bench, "x.f32", bench->x, latent_values(bench), false) ||
        !transfer(bench, "z.f32", bench->z, latent_values(bench), false) ||
        !transfer(bench, "context.f32", bench->context, 2 * bench->context_row, false))
        return LD_FAIL(err, LD_E_IO, "an input cannot be read");
    code = ld_model_load(bench->model, LD_PART_UNET, err);
    if (code == LD_OK)
        code = ld_model_load(bench->model, LD_PART_VAE_DECODER, err);
    return code;
}

static void close_bench(struct bench *bench)
{
    ld_heap_free(bench->picture);
    ld_heap_free(bench->context);
    ld_heap_free(bench->eps);
    ld_heap_free(bench->z);
    ld_heap_free(bench->x);
    ld_model_destroy(bench->model);
    if (bench->backend)
        bench->backend->ops->destroy(bench->backend);
}

int main(int argc, char **argv)
{
    struct bench bench = {0};
    struct ld_error err = {0};
    char line[LINE_SIZE];
    if (argc != 5) {
        fprintf(stderr, "usage: cpu_vs_torch CHECKPOINT FOLDER LATENT_SIDE THREADS\n");
        return 2;
    }
    enum ld_code code = open_bench(&bench, argv, &err);
    if (code == LD_OK)
        printf("%s, %zu bytes of weights\n", bench.backend->description,
               ld_model_weight_bytes(bench.model));
    while (code == LD_OK && fflush(stdout) == 0 && fgets(line, sizeof line, stdin)) {
        if (strcmp(line, "memory\n") == 0)
            print_memory();
        else
            code = obey(&bench, line, &err);
    }
    if (code != LD_OK)
        fprintf(stderr, "cpu_vs_torch: %s\n", err.detail);
    close_bench(&bench);
    return code == LD_OK ? 0 : 1;
}
