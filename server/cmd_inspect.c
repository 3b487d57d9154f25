/*
 * `latentd inspect FILE [--json]`: what a checkpoint, folder, adapter, embedding or picture is.
 * `--has-vocabulary` asks only whether a checkpoint can read prompts without the CLIP vocabulary
 * being installed; scripts use it before they fetch one.
 */
#include "runtime/model/arch.h"
#include "runtime/model/inspect.h"
#include "runtime/model/weights.h"
#include "runtime/text/bpe.h"
#include "server/cmd.h"

#include <stdio.h>
#include <string.h>

enum { VOCABULARY_BYTES_MAX = 64 << 20, PATH_SIZE = 4096 };

struct options {
    const char *path;
    bool json, has_vocabulary;
};

/* ---- --has-vocabulary ------------------------------------------------------------------------ */

/* Inside the model's folder, else beside the model's file: where loading looks too. */
static bool vocabulary_nearby(const char *path, uint32_t merges)
{
    char folder[PATH_SIZE];
    struct ld_arena arena;
    struct ld_bpe *bpe;
    struct ld_error ignored = {0};
    const char *slash = strrchr(path, '/');
    ld_arena_init(&arena, "vocabulary", VOCABULARY_BYTES_MAX);
    bool found = ld_bpe_load(&bpe, &arena, path, merges, &ignored) == LD_OK;
    if (!found && ld_fmt(folder, sizeof folder, "%.*s", slash ? (int)(slash - path + 1) : 1,
                         slash ? path : "."))
        found = ld_bpe_load(&bpe, &arena, folder, merges, &ignored) == LD_OK;
    ld_arena_deinit(&arena);
    return found;
}

static enum ld_code ask_vocabulary(const char *path, bool *has, struct ld_error *err)
{
    struct ld_weights *weights = NULL;
    const enum ld_code code = ld_weights_open(&weights, path, NULL, err);
    if (code != LD_OK)
        return code;
    const struct ld_arch *arch = ld_weights_arch(weights);
    const int32_t merges = arch->text_vocabulary - (LD_BPE_FIRST_MERGE + 2);
    *has = !arch->has_text || ld_weights_metadata(weights, LD_VOCABULARY_KEY) != NULL ||
           (merges > 0 && vocabulary_nearby(path, (uint32_t)merges));
    ld_weights_close(weights);
    return LD_OK;
}

/* ---- The verb -------------------------------------------------------------------------------- */

static enum ld_code show(const struct options *options, struct ld_error *err)
{
    struct ld_buffer json = ld_buffer_make(LD_INSPECT_BYTES_MAX);
    struct ld_buffer text = ld_buffer_make(LD_INSPECT_BYTES_MAX);
    enum ld_code code = ld_inspect(options->path, &json, err);
    ld_buffer_text(&json, "\n");
    if (code == LD_OK && !options->json) {
        ld_inspect_text(&text, ld_span_of(json.data, json.size));
        if (text.failed)
            code = LD_FAIL(err, LD_E_TOO_LARGE, "the answer is larger than %d bytes",
                           LD_INSPECT_BYTES_MAX);
    }
    if (code == LD_OK &&
        (fputs(options->json ? json.data : text.data, stdout) == EOF || fflush(stdout) != 0))
        code = LD_FAIL(err, LD_E_IO, "the answer cannot be written");
    ld_buffer_deinit(&text);
    ld_buffer_deinit(&json);
    return code;
}

/* False for wrong usage. */
static bool parse(struct options *options, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--json") == 0)
            options->json = true;
        else if (strcmp(argv[i], "--has-vocabulary") == 0)
            options->has_vocabulary = true;
        else if (argv[i][0] == '-' || options->path)
            return false;
        else
            options->path = argv[i];
    }
    return options->path != NULL;
}

int ld_cmd_inspect(int argc, char **argv)
{
    static const char usage[] =
        "usage: latentd inspect FILE [--json]\n"
        "       latentd inspect MODEL --has-vocabulary\n"
        "Tells what a checkpoint, diffusers folder, adapter, embedding or picture is. With\n"
        "--has-vocabulary it prints nothing: status 0 if the model needs no installed CLIP\n"
        "vocabulary, else 1.\n";
    struct options options = {0};
    struct ld_error err = {0};
    bool has = false;
    if (argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
        fputs(usage, stdout);
        return LD_EXIT_OK;
    }
    if (!parse(&options, argc, argv)) {
        fputs(usage, stderr);
        return LD_EXIT_USAGE;
    }
    const enum ld_code code =
        options.has_vocabulary ? ask_vocabulary(options.path, &has, &err) : show(&options, &err);
    if (code != LD_OK) {
        fprintf(stderr, "latentd: '%s': %s\n", options.path, err.detail);
        return LD_EXIT_FAILED;
    }
    return options.has_vocabulary && !has ? LD_EXIT_FAILED : LD_EXIT_OK;
}
