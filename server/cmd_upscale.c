/*
 * `latentd upscale FILE [OPTION]...`: a finished picture enlarged by a filter, here, without a
 * model. What the picture said about itself goes with it.
 */
#include "api/validate.h"
#include "config/limits.h"
#include "runtime/base/fsx.h"
#include "runtime/image/picture_header.h"
#include "runtime/image/picture_upscale.h"
#include "server/cmd.h"
#include "server/cmd_output.h"

#include <stdio.h>
#include <string.h>

enum { ARENA_BYTES = 1 << 20, FLAG_SIZE = 64 };

static const char usage[] =
    "usage: latentd upscale FILE [OPTION]...\n"
    "Enlarges a picture (PNG, JPEG, WebP) by a filter, without a model.\n\n"
    "  -o, --output FILE       where the result goes; upscaled.png if absent. Its ending\n"
    "                          (.png, .webp, .jpg) is the format, unless --format is given\n"
    "      --scale N           times each side (1..8); 2 if absent\n"
    "      --width N           width of the result, with --height in place of --scale\n"
    "      --height N          height of the result\n"
    "      --resize WORD       stretch, crop, pad or cover: how the picture comes to that size\n"
    "      --upscaler WORD     pixel-lanczos, pixel-bicubic, pixel-bilinear, pixel-area,\n"
    "                          pixel-nearest-exact\n"
    "      --format WORD       png, webp or jpeg\n"
    "      --quality N         1..100, of jpeg and of webp that is not lossless; 90 if absent\n"
    "      --lossless          webp that keeps every bit\n"
    "      --compression N     deflate level of png, 1..12\n"
    "      --metadata WORD     full or none: text written into the picture\n"
    "  -h, --help              this text\n";

struct arguments {
    const char *input, *output;
    struct ld_request request;
    struct ld_arena arena;
    bool help;
};

/* The request's fields by the names they have here; NULL: there is no such flag. */
static const char *field_of(const char *flag)
{
    static const char *const own[] = {"scale", "width", "height", "resize", "upscaler"};
    static const char *const file[] = {"format", "quality", "lossless", "compression", "metadata"};
    for (size_t i = 0; i < sizeof own / sizeof own[0]; i++)
        if (strcmp(flag, own[i]) == 0)
            return "upscale";
    for (size_t i = 0; i < sizeof file / sizeof file[0]; i++)
        if (strcmp(flag, file[i]) == 0)
            return "output";
    return NULL;
}

static enum ld_code set_flag(struct arguments *args, const char *flag, const char *value,
                             struct ld_error *err)
{
    char path[FLAG_SIZE];
    if (!value)
        return LD_FAIL(err, LD_E_INVALID, "--%.40s needs a value", flag);
    if (strcmp(flag, "output") == 0) {
        args->output = value;
        return LD_OK;
    }
    const char *object = field_of(flag);
    if (!object || !ld_fmt(path, sizeof path, "%s.%s", object, flag))
        return LD_FAIL(err, LD_E_INVALID, "there is no flag --%.40s", flag);
    return ld_request_set_text(&args->request, &args->arena, path, value, err);
}

static enum ld_code parse(struct arguments *args, int argc, char **argv, struct ld_error *err)
{
    args->output = "upscaled.png";
    ld_request_default(&args->request);
    ld_request_set_object(&args->request, ld_field_find("upscale"), true);
    for (int i = 1; i < argc; i++) {
        const char *word = argv[i];
        if (strcmp(word, "-h") == 0 || strcmp(word, "--help") == 0) {
            args->help = true;
            return LD_OK;
        }
        if (word[0] != '-' || word[1] == '\0') {
            if (args->input)
                return LD_FAIL(err, LD_E_INVALID, "one picture at a time, please");
            args->input = word;
            continue;
        }
        char flag[FLAG_SIZE];
        const char *equals = strchr(word, '=');
        const char *name = strncmp(word, "--", 2) == 0 ? word + 2 : word + 1;
        const size_t size = equals ? (size_t)(equals - name) : strlen(name);
        const bool alone = size == 8 && strncmp(name, "lossless", size) == 0;
        const char *value = equals ? equals + 1 : alone ? "true" : i + 1 < argc ? argv[++i] : NULL;
        if (!ld_fmt(flag, sizeof flag, "%.*s", (int)(size < FLAG_SIZE ? size : FLAG_SIZE - 1),
                    strcmp(word, "-o") == 0 ? "output" : name))
            return LD_FAIL(err, LD_E_INVALID, "there is no such flag");
        if (strcmp(word, "-o") == 0)
            (void)ld_fmt(flag, sizeof flag, "output");
        if (set_flag(args, flag, value, err) != LD_OK)
            return err->code;
    }
    if (!args->input)
        return LD_FAIL(err, LD_E_INVALID, "a picture is needed");
    return ld_cmd_take_format(&args->request, &args->arena, args->output, err);
}

/* The first sentence of a problem. */
static enum ld_code refuse(const struct ld_problem *problem, struct ld_error *err)
{
    return LD_FAIL(err, problem->code, "%.300s",
                   problem->item_count ? problem->items[0].message : problem->detail);
}

/* A failure here is about the file, so it is named. */
static enum ld_code read_picture(const char *path, struct ld_buffer *bytes,
                                 struct ld_picture_header *header, struct ld_error *err)
{
    struct ld_error why = {0};
    enum ld_code code = ld_fsx_read_file(path, bytes, &why);
    if (code == LD_OK)
        code = ld_picture_check_header(header, ld_span_of(bytes->data, bytes->size), &why);
    return code == LD_OK ? LD_OK : LD_FAIL(err, code, "'%.200s': %.300s", path, why.detail);
}

static enum ld_code enlarge(struct arguments *args, struct ld_error *err)
{
    struct ld_picture_header header;
    struct ld_problem problem;
    struct ld_upscaled done = {0};
    struct ld_buffer bytes = ld_buffer_make(LD_UPLOAD_BYTES_MAX);
    struct ld_warnings warnings = {.arena = &args->arena};
    ld_problem_init(&problem, &args->arena);
    enum ld_code code = read_picture(args->input, &bytes, &header, err);
    const struct ld_span picture = ld_span_of(bytes.data, bytes.size);
    if (code == LD_OK &&
        (ld_request_check_upscale(&args->request, NULL, &warnings, &problem) != LD_OK ||
         ld_request_settle_upscale(&args->request, header.width, header.height, NULL, &problem) !=
             LD_OK))
        code = refuse(&problem, err);
    for (uint32_t i = 0; code == LD_OK && i < warnings.count; i++)
        fprintf(stderr, "latentd: note: %s\n", warnings.items[i]);
    if (code == LD_OK)
        code = ld_picture_upscale(&done, &args->request, picture, err);
    if (code == LD_OK)
        code = ld_cmd_write_file(args->output, ld_span_of(done.file.data, done.file.size), err);
    if (code == LD_OK)
        printf("%s: %dx%d\n", args->output, done.width, done.height);
    ld_buffer_deinit(&done.file);
    ld_buffer_deinit(&bytes);
    return code;
}

int ld_cmd_upscale(int argc, char **argv)
{
    struct arguments args = {0};
    struct ld_error err = {0};
    int status = LD_EXIT_USAGE;
    ld_arena_init(&args.arena, "upscale", ARENA_BYTES);
    enum ld_code code = parse(&args, argc, argv, &err);
    if (code == LD_OK && args.help) {
        fputs(usage, stdout);
        status = LD_EXIT_OK;
    } else if (code == LD_OK) {
        code = enlarge(&args, &err);
        status = code == LD_OK ? LD_EXIT_OK : LD_EXIT_FAILED;
    }
    if (code != LD_OK)
        fprintf(stderr, "latentd: %s\n", err.detail);
    ld_arena_deinit(&args.arena);
    return status;
}
