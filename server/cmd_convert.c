/*
 * `latentd convert MODEL -o OUT`: a model in another storage type or layout, without what only
 * training needed.
 */
#include "runtime/base/arena.h"
#include "runtime/base/fsx.h"
#include "runtime/model/arch.h"
#include "runtime/model/convert.h"
#include "server/cmd.h"
#include "server/model_tool.h"

#include <stdio.h>
#include <string.h>

enum { VOCABULARY_MAX = 16 << 20 };

struct options {
    const char *model, *output, *vocabulary;
    enum ld_model_storage storage;
    bool diffusers, ema, force, quiet, json, help;
};

static const char usage[] =
    "usage: latentd convert MODEL -o OUT [--dtype TYPE] [--to single|diffusers]\n"
    "\n"
    "Writes the model (a .safetensors file or a diffusers folder) in another type or layout.\n"
    "Only what the model uses is kept: EMA copies, schedule tables and leftovers of training\n"
    "are dropped. The output appears complete or not at all.\n"
    "\n"
    "  -o, --output OUT     a .safetensors file, or the folder to make with --to diffusers\n"
    "  --dtype TYPE         keep (default), fp32, fp16, bf16 or fp8 (matrices of the UNet as E4M3\n"
    "                       with a scale each, all else fp16)\n"
    "  --to LAYOUT          single (default) or diffusers\n"
    "  --ema                use the averaged weights of the UNet where the file has them\n"
    "  --vocab FILE         merges.txt for the folder's tokenizer, where the model has none "
    "inside\n"
    "  --force              replace an existing file\n"
    "  --json               say what was done as one JSON object\n"
    "  --quiet              no progress\n";

/* ---- Arguments ------------------------------------------------------------------------------- */

static enum ld_code read_flag(struct options *options, struct ld_tool_args *args,
                              struct ld_error *err)
{
    const char *value = "";
    const struct {
        const char *name;
        bool *flag;
        const char **text;
    } flags[] = {
        {"ema", &options->ema, NULL},          {"force", &options->force, NULL},
        {"quiet", &options->quiet, NULL},      {"json", &options->json, NULL},
        {"help", &options->help, NULL},        {"output", NULL, &options->output},
        {"vocab", NULL, &options->vocabulary},
    };
    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++) {
        if (strcmp(args->flag, flags[i].name) != 0)
            continue;
        if (flags[i].text)
            return ld_tool_value(args, flags[i].text, err);
        *flags[i].flag = true;
        return LD_OK;
    }
    const bool dtype = strcmp(args->flag, "dtype") == 0;
    if (!dtype && strcmp(args->flag, "to") != 0)
        return LD_FAIL(err, LD_E_NOT_FOUND, "convert has no flag --%s", args->flag);
    const enum ld_code code = ld_tool_value(args, &value, err);
    if (code != LD_OK)
        return code;
    if (dtype)
        return ld_model_storage_find(value, &options->storage)
                   ? LD_OK
                   : LD_FAIL(err, LD_E_RANGE, "--dtype must be keep, fp32, fp16, bf16 or fp8");
    options->diffusers = strcmp(value, "diffusers") == 0;
    return options->diffusers || strcmp(value, "single") == 0
               ? LD_OK
               : LD_FAIL(err, LD_E_RANGE, "--to must be single or diffusers");
}

static enum ld_code parse(struct options *options, int argc, char **argv, struct ld_error *err)
{
    struct ld_tool_args args = {.argc = argc, .at = 1, .argv = argv};
    enum ld_code code = LD_OK;
    while (code == LD_OK && ld_tool_next(&args)) {
        if (args.flag)
            code = read_flag(options, &args, err);
        else if (options->model)
            code = LD_FAIL(err, LD_E_INVALID, "convert takes one model");
        else
            options->model = args.value;
    }
    if (code == LD_OK && !options->help && (!options->model || !options->output))
        code = LD_FAIL(err, LD_E_INVALID, "convert needs a model and -o OUT");
    return code;
}

/* ---- Work ------------------------------------------------------------------------------------ */

static bool show(void *ctx, uint64_t done, uint64_t total)
{
    return ld_tool_show(ctx, "write", done, total);
}

static void tell(const struct options *options, const struct ld_convert_report *report)
{
    if (options->json) {
        printf("{\"tensors\":%u,\"dropped\":%u,\"dropped_bytes\":%llu,\"dtype\":\"%s\","
               "\"layout\":\"%s\",\"tokenizer\":%s}\n",
               report->tensors, report->dropped, (unsigned long long)report->dropped_bytes,
               ld_model_storage_name(options->storage), options->diffusers ? "diffusers" : "single",
               report->tokenizer ? "true" : "false");
        return;
    }
    printf("%s: %u tensors, %s\n", options->output, report->tensors,
           ld_model_storage_name(options->storage));
    if (report->dropped)
        printf("dropped %u tensors (%.1f MB) that no part of the model is\n", report->dropped,
               (double)report->dropped_bytes / 1e6);
    if (options->diffusers && !report->tokenizer)
        puts("no tokenizer was written: the model carries no vocabulary; --vocab FILE adds one");
}

/* A vocabulary's text, NUL-terminated; NULL where none was named. */
static enum ld_code read_vocabulary(const char *path, struct ld_buffer *text, struct ld_error *err)
{
    enum ld_code code = path ? ld_fsx_read_file(path, text, err) : LD_OK;
    if (code != LD_OK)
        return LD_FAIL(err, code, "the vocabulary cannot be read");
    if (path && (!text->data || strlen(text->data) != text->size))
        code = LD_FAIL(err, LD_E_FORMAT, "the vocabulary is not a text of merges");
    return code;
}

static enum ld_code run(const struct options *options, struct ld_convert_report *report,
                        struct ld_error *err)
{
    struct ld_weights *weights = NULL;
    struct ld_tool_progress progress = {.quiet = options->quiet};
    struct ld_buffer text = ld_buffer_make(VOCABULARY_MAX);
    const struct ld_weights_options how = {.use_ema = options->ema};
    enum ld_code code = read_vocabulary(options->vocabulary, &text, err);
    if (code == LD_OK)
        code = ld_weights_open(&weights, options->model, &how, err);
    if (code == LD_OK) {
        const struct ld_convert_request request = {
            .model = weights,
            .from = options->model,
            .vocabulary = options->vocabulary ? text.data : NULL,
            .storage = options->storage,
            .folder = options->diffusers,
            .replace = options->force,
            .progress = show,
            .progress_ctx = &progress,
        };
        code = ld_convert(options->output, &request, report, err);
    }
    ld_tool_clear(&progress);
    ld_weights_close(weights);
    ld_buffer_deinit(&text);
    return code;
}

int ld_cmd_convert(int argc, char **argv)
{
    struct options options = {.storage = LD_STORE_KEEP};
    struct ld_convert_report report;
    struct ld_error err = {0};
    if (parse(&options, argc, argv, &err) != LD_OK) {
        fprintf(stderr, "latentd: %s\n\n%s", err.detail, usage);
        return LD_EXIT_USAGE;
    }
    if (options.help) {
        fputs(usage, stdout);
        return LD_EXIT_OK;
    }
    ld_tool_catch_interrupts();
    if (run(&options, &report, &err) != LD_OK)
        return ld_tool_fail(&err);
    tell(&options, &report);
    return LD_EXIT_OK;
}
