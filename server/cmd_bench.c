/*
 * `latentd bench WHAT [OPTION]...`: what this machine does with the operators, with one step of the
 * network, with a picture. Prints a table, or one JSON document with --json; --pipe lets a script
 * alternate our steps with another program's.
 */
#include "server/cmd_bench.h"
#include "server/cmd.h"

#include <stdio.h>
#include <string.h>

static const struct bench {
    const char *name;
    enum ld_code (*run)(const struct ld_bench_options *, struct ld_buffer *, struct ld_error *);
    const char *help;
} benches[] = {
    {"kernels", ld_bench_kernels, "every distinct operator of a network at one size"},
    {"step", ld_bench_step, "one guided step of the UNet (two rows an image)"},
    {"image", ld_bench_image, "a whole picture by phase: text, steps, decode"},
    {"serve", ld_bench_serve, "pictures a second with 1, 2, 4 ... of them in flight"},
};

static void print_help(FILE *out)
{
    (void)fputs("usage: latentd bench WHAT [OPTION]...\n\n"
                "  plan     WxH[,B]: the memory that B pictures take on a GPU\n",
                out);
    for (size_t i = 0; i < sizeof benches / sizeof benches[0]; i++)
        (void)fprintf(out, "  %-8s %s\n", benches[i].name, benches[i].help);
    (void)fputs(
        "\n"
        "  --size WxH        picture size, 1024x1024\n"
        "  --batch N         images at once, 1; serve: the most in flight, 16\n"
        "  --seconds N       serve: as many in flight as can be measured in that time\n"
        "  --rounds N        timed runs, 20; the median and its spread are shown\n"
        "  --steps N         steps of a picture, 8\n"
        "  --model FILE      checkpoint (step, image, serve)\n"
        "  --network NAME    unet or vae (kernels)\n"
        "  --backend NAME    auto, cpu or cuda\n"
        "  --precision NAME  fp16 or bf16, on CUDA\n"
        "  --fp16-accumulate sums in fp16 first, on CUDA in fp16: for GeForce\n"
        "  --threads N       of the CPU backend\n"
        "  --tune            choose kernels by measuring first, on CUDA; kept for later runs\n"
        "  --stream          weights in the host's memory, sent to each step, on CUDA (step, "
        "image, serve)\n"
        "  --profile         operators one by one, named for a profiler, on CUDA; slower\n"
        "  --json            one JSON document instead of a table\n"
        "  --pipe            step: obey `step N`, `eps FILE` and `end` on stdin\n"
        "  --inputs DIR      step: x.f32 and context.f32 instead of random numbers\n",
        out);
}

/* Runs one and prints what it left in `json` or printed itself. */
static int run(const struct bench *bench, const struct ld_bench_options *options)
{
    struct ld_error err = {0};
    struct ld_buffer json = ld_buffer_make(LD_BENCH_JSON_MAX);
    enum ld_code code = bench->run(options, &json, &err);
    if (code == LD_OK && json.failed)
        code = LD_FAIL(&err, LD_E_NOMEM, "not enough memory for the answer");
    if (code == LD_OK && options->json &&
        (fputs(json.data, stdout) == EOF || putchar('\n') == EOF || fflush(stdout) != 0))
        code = LD_FAIL(&err, LD_E_IO, "the answer cannot be written");
    ld_buffer_deinit(&json);
    if (code == LD_OK)
        return LD_EXIT_OK;
    (void)fprintf(stderr, "latentd bench %s: %s\n", bench->name, err.detail);
    return LD_EXIT_FAILED;
}

int ld_cmd_bench(int argc, char **argv)
{
    struct ld_bench_options options;
    if (argc < 2 || strcmp(argv[1], "--help") == 0) {
        print_help(argc < 2 ? stderr : stdout);
        return argc < 2 ? LD_EXIT_USAGE : LD_EXIT_OK;
    }
    if (strcmp(argv[1], "plan") == 0)
        return ld_cmd_bench_plan(argc - 1, argv + 1);
    for (size_t i = 0; i < sizeof benches / sizeof benches[0]; i++) {
        if (strcmp(benches[i].name, argv[1]) != 0)
            continue;
        if (!ld_bench_options_read(&options, argc - 1, argv + 1))
            return LD_EXIT_USAGE;
        if (options.help) {
            print_help(stdout);
            return LD_EXIT_OK;
        }
        return run(&benches[i], &options);
    }
    (void)fprintf(stderr, "latentd bench: unknown '%.40s'\n\n", argv[1]);
    print_help(stderr);
    return LD_EXIT_USAGE;
}
