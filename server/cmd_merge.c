/*
 * `latentd merge A [B [C]] -o OUT`: one model out of several, with parts exchanged and adapters
 * baked in.
 */
#include "runtime/model/hash.h"
#include "runtime/model/merge_model.h"
#include "server/cmd.h"
#include "server/model_tool.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MODELS = 3 };

struct adapter_option {
    char path[4096];
    char sha256[LD_SHA256_HEX_SIZE];
    double weight, text_weight;
};

struct options {
    const char *models[MODELS];
    uint32_t model_count;
    const char *output, *vae, *text;
    struct adapter_option adapters[LD_MERGE_ADAPTERS_MAX];
    uint32_t adapter_count;
    struct ld_merge_recipe recipe;
    bool op_given, dora_comfy;
    enum ld_model_storage storage;
    bool diffusers, force, quiet, json, help;
};

static const char usage[] =
    "usage: latentd merge A [B [C]] -o OUT [--op OP] [flags]\n"
    "\n"
    "Makes one model out of others, tensor by tensor in float32, rounded once. What one side "
    "lacks\n"
    "comes from the other. The file tells how it was made; it appears complete or not at all.\n"
    "\n"
    "  --op OP              weighted_sum        (1 - alpha) A + alpha B; the default of two "
    "models\n"
    "                       block_weighted_sum  the same with one alpha a block: --blocks\n"
    "                       sum_twice           (1 - beta) ((1 - alpha) A + alpha B) + beta C\n"
    "                       add_difference      A + alpha (B - C); the default of three models\n"
    "                       cosine_a, cosine_b  A or B where they differ most, the other where "
    "they\n"
    "                                           agree; alpha is taken from every similarity\n"
    "                       ties                A and B trimmed and joined over their base C:\n"
    "                                           --density, --lambda\n"
    "                       dare                A + lambda times B's delta, thinned: --drop\n"
    "                       none                A as it is; the default of one model\n"
    "  --alpha N            default 0.5 (add_difference: 1; cosine: 0)\n"
    "  --beta N             default 0.5\n"
    "  --blocks LIST        26 numbers BASE,IN00..IN11,M00,OUT00..OUT11, or pairs such as\n"
    "                       BASE=0.5,IN04=0.2,M00=1; blocks that are not named get alpha\n"
    "  --density N          share of a delta that ties keeps, 0..1 (default 0.5)\n"
    "  --drop N             probability with which dare drops an element, 0..0.999 (default 0.5)\n"
    "  --lambda N           factor of the joined delta, default 1\n"
    "  --vae FILE           take the VAE from this file or model; a, b or c mean a parent\n"
    "  --text FILE          the text encoder likewise\n"
    "  --adapter FILE[:W[:TW]]  bake in an adapter at weight W (text: TW); may be repeated\n"
    "  --dora-norm NORM     merged (default) or comfy, for DoRA adapters\n"
    "  --dtype TYPE         keep (default), fp32, fp16, bf16 or fp8\n"
    "  --to LAYOUT          single (default) or diffusers\n"
    "  --force              replace an existing file\n"
    "  --json               say what was done as one JSON object\n"
    "  --quiet              no progress\n";

/* ---- Block weights --------------------------------------------------------------------------- */

static enum ld_code set_pair(struct ld_merge_recipe *recipe, struct ld_span name, double number,
                             struct ld_error *err)
{
    uint32_t place;
    if (ld_merge_alpha_find(name, &place)) {
        *ld_merge_alpha_at(recipe, place) = number;
        return LD_OK;
    }
    return LD_FAIL(err, LD_E_RANGE,
                   "--blocks: '%.*s' is no block; they are BASE, IN00..IN11, M00, OUT00..OUT11",
                   (int)(name.size < 40 ? name.size : 40), (const char *)name.data);
}

/* All 26 in order, or pairs over what stands there. */
static enum ld_code read_blocks(struct ld_merge_recipe *recipe, const char *text,
                                struct ld_error *err)
{
    uint32_t place = 0;
    bool pairs = false;
    for (uint32_t i = 0; i <= 2 * LD_MERGE_ALPHAS; i++) {
        const size_t size = strcspn(text, ",");
        const char *equals = memchr(text, '=', size);
        const char *start = equals ? equals + 1 : text;
        double number;
        if (!ld_parse_double(ld_span_of(start, size - (size_t)(start - text)), &number))
            return LD_FAIL(err, LD_E_RANGE, "--blocks: number %u is not one", i + 1);
        pairs = pairs || equals;
        if (equals) {
            const enum ld_code code =
                set_pair(recipe, ld_span_of(text, (size_t)(equals - text)), number, err);
            if (code != LD_OK)
                return code;
        } else if (place < LD_MERGE_ALPHAS) {
            *ld_merge_alpha_at(recipe, place) = number;
        }
        place += equals ? 0 : 1;
        if (!text[size])
            break;
        text += size + 1;
    }
    return (pairs && place == 0) || (!pairs && place == LD_MERGE_ALPHAS)
               ? LD_OK
               : LD_FAIL(err, LD_E_RANGE, "--blocks takes %d numbers, or pairs NAME=NUMBER alone",
                         LD_MERGE_ALPHAS);
}

/* ---- Arguments ------------------------------------------------------------------------------- */

/* FILE[:W[:TW]]; a colon inside the path stays where no number follows. */
static enum ld_code read_adapter(struct options *options, const char *value, struct ld_error *err)
{
    if (options->adapter_count == LD_MERGE_ADAPTERS_MAX)
        return LD_FAIL(err, LD_E_RANGE, "--adapter may be given %d times", LD_MERGE_ADAPTERS_MAX);
    struct adapter_option *adapter = &options->adapters[options->adapter_count++];
    double numbers[2];
    uint32_t count = 0;
    if (!ld_fmt(adapter->path, sizeof adapter->path, "%s", value))
        return LD_FAIL(err, LD_E_INVALID, "the path of an adapter is too long");
    while (count < 2) {
        char *colon = strrchr(adapter->path, ':');
        if (!colon || !ld_parse_double(ld_span_text(colon + 1), &numbers[count]))
            break;
        *colon = '\0';
        count++;
    }
    adapter->weight = count > 0 ? numbers[count - 1] : 1;
    adapter->text_weight = count > 1 ? numbers[0] : adapter->weight;
    return fabs(adapter->weight) <= 4 && fabs(adapter->text_weight) <= 4
               ? LD_OK
               : LD_FAIL(err, LD_E_RANGE, "--adapter: weights must be between -4 and 4");
}

static enum ld_code read_word(struct options *options, const char *flag, const char *value,
                              struct ld_error *err)
{
    if (strcmp(flag, "op") == 0) {
        options->op_given = true;
        return ld_merge_op_find(value, &options->recipe.op)
                   ? LD_OK
                   : LD_FAIL(err, LD_E_RANGE,
                             "--op must be weighted_sum, block_weighted_sum, sum_twice, "
                             "add_difference, cosine_a, cosine_b, ties, dare or none");
    }
    if (strcmp(flag, "dtype") == 0)
        return ld_model_storage_find(value, &options->storage)
                   ? LD_OK
                   : LD_FAIL(err, LD_E_RANGE, "--dtype must be keep, fp32, fp16, bf16 or fp8");
    if (strcmp(flag, "dora-norm") == 0) {
        options->dora_comfy = strcmp(value, "comfy") == 0;
        return options->dora_comfy || strcmp(value, "merged") == 0
                   ? LD_OK
                   : LD_FAIL(err, LD_E_RANGE, "--dora-norm must be merged or comfy");
    }
    if (strcmp(flag, "to") == 0) {
        options->diffusers = strcmp(value, "diffusers") == 0;
        return options->diffusers || strcmp(value, "single") == 0
                   ? LD_OK
                   : LD_FAIL(err, LD_E_RANGE, "--to must be single or diffusers");
    }
    if (strcmp(flag, "adapter") == 0)
        return read_adapter(options, value, err);
    const char **text = strcmp(flag, "output") == 0 ? &options->output
                        : strcmp(flag, "vae") == 0  ? &options->vae
                        : strcmp(flag, "text") == 0 ? &options->text
                                                    : NULL;
    if (!text)
        return LD_FAIL(err, LD_E_NOT_FOUND, "merge has no flag --%s", flag);
    *text = value;
    return LD_OK;
}

static enum ld_code read_flag(struct options *options, struct ld_tool_args *args,
                              const char **blocks, struct ld_error *err)
{
    const struct {
        const char *name;
        bool *flag;
    } flags[] = {
        {"force", &options->force},
        {"quiet", &options->quiet},
        {"json", &options->json},
        {"help", &options->help},
    };
    const struct {
        const char *name;
        double *number, low, high;
    } numbers[] = {
        {"alpha", &options->recipe.alpha, -4, 4},    {"beta", &options->recipe.beta, -4, 4},
        {"density", &options->recipe.density, 0, 1}, {"drop", &options->recipe.drop, 0, 0.999},
        {"lambda", &options->recipe.lambda, -4, 4},
    };
    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++) {
        if (strcmp(args->flag, flags[i].name) == 0) {
            *flags[i].flag = true;
            return LD_OK;
        }
    }
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        if (strcmp(args->flag, numbers[i].name) == 0)
            return ld_tool_number(args, numbers[i].low, numbers[i].high, numbers[i].number, err);
    }
    const char *value;
    const bool is_blocks = strcmp(args->flag, "blocks") == 0;
    const enum ld_code code = ld_tool_value(args, is_blocks ? blocks : &value, err);
    return code == LD_OK && !is_blocks ? read_word(options, args->flag, value, err) : code;
}

/* What was not given follows from the operation, and that from the number of models. */
static enum ld_code settle(struct options *options, const char *blocks, struct ld_error *err)
{
    struct ld_merge_recipe *recipe = &options->recipe;
    if (!options->op_given)
        recipe->op = blocks                     ? LD_MERGE_BLOCK_WEIGHTED
                     : options->model_count > 2 ? LD_MERGE_ADD_DIFFERENCE
                     : options->model_count > 1 ? LD_MERGE_WEIGHTED_SUM
                                                : LD_MERGE_NONE;
    if (isnan(recipe->alpha))
        recipe->alpha = recipe->op == LD_MERGE_ADD_DIFFERENCE ? 1
                        : ld_merge_is_cosine(recipe->op)      ? 0
                                                              : 0.5;
    for (uint32_t i = 0; i < LD_MERGE_ALPHAS; i++)
        *ld_merge_alpha_at(recipe, i) = recipe->alpha;
    if (options->model_count != ld_merge_models(recipe->op))
        return LD_FAIL(err, LD_E_INVALID, "%s takes %u model%s, not %u",
                       ld_merge_op_name(recipe->op), ld_merge_models(recipe->op),
                       ld_merge_models(recipe->op) == 1 ? "" : "s", options->model_count);
    if (blocks && recipe->op != LD_MERGE_BLOCK_WEIGHTED)
        return LD_FAIL(err, LD_E_INVALID, "--blocks is for block_weighted_sum");
    if (recipe->op == LD_MERGE_NONE && !options->vae && !options->text && !options->adapter_count)
        return LD_FAIL(err, LD_E_INVALID,
                       "one model alone needs --vae, --text or --adapter (or use convert)");
    return blocks ? read_blocks(recipe, blocks, err) : LD_OK;
}

static enum ld_code parse(struct options *options, int argc, char **argv, struct ld_error *err)
{
    struct ld_tool_args args = {.argc = argc, .at = 1, .argv = argv};
    const char *blocks = NULL;
    enum ld_code code = LD_OK;
    while (code == LD_OK && ld_tool_next(&args)) {
        if (args.flag)
            code = read_flag(options, &args, &blocks, err);
        else if (options->model_count == MODELS)
            code = LD_FAIL(err, LD_E_INVALID, "merge takes three models at most");
        else
            options->models[options->model_count++] = args.value;
    }
    if (code != LD_OK || options->help)
        return code;
    if (options->model_count == 0 || !options->output)
        return LD_FAIL(err, LD_E_INVALID, "merge needs a model and -o OUT");
    return settle(options, blocks, err);
}

/* ---- Work ------------------------------------------------------------------------------------ */

struct work {
    struct ld_merge_parent parents[MODELS], vae, text;
    struct ld_adapter *adapters[LD_MERGE_ADAPTERS_MAX];
    struct ld_merge_adapter baked[LD_MERGE_ADAPTERS_MAX];
};

/* Of several files, which one it was. */
static enum ld_code name_file(const char *path, enum ld_code code, struct ld_error *err)
{
    char why[LD_ERROR_DETAIL_SIZE];
    if (code == LD_OK)
        return code;
    memcpy(why, err->detail, sizeof why);
    (void)ld_fmt(err->detail, sizeof err->detail, "'%.150s': %.300s", path, why);
    return code;
}

static enum ld_code open_model(struct ld_merge_parent *parent, const char *path,
                               struct ld_error *err)
{
    parent->path = path;
    return name_file(path, ld_weights_open(&parent->weights, path, NULL, err), err);
}

/* A parent by its letter, or a file of its own. */
static enum ld_code open_part(struct work *work, struct ld_merge_parent *part, const char *name,
                              struct ld_error *err)
{
    if (!name)
        return LD_OK;
    const bool letter = name[0] >= 'a' && name[0] <= 'c' && !name[1];
    if (!letter)
        return open_model(part, name, err);
    *part = work->parents[name[0] - 'a'];
    return part->weights ? LD_OK : LD_FAIL(err, LD_E_INVALID, "there is no model '%s'", name);
}

static enum ld_code check_part(const struct ld_merge_parent *part, bool vae, struct ld_error *err)
{
    if (!part->weights)
        return LD_OK;
    const struct ld_arch *arch = ld_weights_arch(part->weights);
    if (vae ? arch->has_vae_decoder : arch->has_text)
        return LD_OK;
    return LD_FAIL(err, LD_E_INVALID, "'%.150s' has no %s", part->path,
                   vae ? "VAE" : "text encoder");
}

static enum ld_code open_adapter(struct work *work, struct options *options, uint32_t index,
                                 struct ld_error *err)
{
    struct adapter_option *from = &options->adapters[index];
    enum ld_code code = ld_adapter_open(&work->adapters[index], from->path, err);
    if (code == LD_OK)
        code = ld_hash_path(from->path, from->sha256, err);
    work->baked[index] = (struct ld_merge_adapter){
        .adapter = work->adapters[index],
        .path = from->path,
        .sha256 = from->sha256,
        .weight = from->weight,
        .text_weight = from->text_weight,
        .dora_norm = options->dora_comfy ? LD_DORA_COMFY : LD_DORA_MERGED,
    };
    return name_file(from->path, code, err);
}

static enum ld_code open_all(struct work *work, struct options *options, struct ld_error *err)
{
    enum ld_code code = LD_OK;
    for (uint32_t i = 0; code == LD_OK && i < options->model_count; i++)
        code = open_model(&work->parents[i], options->models[i], err);
    if (code == LD_OK)
        code = open_part(work, &work->vae, options->vae, err);
    if (code == LD_OK)
        code = open_part(work, &work->text, options->text, err);
    if (code == LD_OK)
        code = check_part(&work->vae, true, err);
    if (code == LD_OK)
        code = check_part(&work->text, false, err);
    for (uint32_t i = 0; code == LD_OK && i < options->adapter_count; i++)
        code = open_adapter(work, options, i, err);
    return code;
}

static bool is_parent(const struct work *work, const struct ld_weights *weights)
{
    for (size_t i = 0; i < MODELS; i++) {
        if (work->parents[i].weights == weights)
            return true;
    }
    return false;
}

static void close_all(struct work *work)
{
    if (work->text.weights != work->vae.weights && !is_parent(work, work->text.weights))
        ld_weights_close(work->text.weights);
    if (!is_parent(work, work->vae.weights))
        ld_weights_close(work->vae.weights);
    for (size_t i = 0; i < MODELS; i++)
        ld_weights_close(work->parents[i].weights);
    for (size_t i = 0; i < LD_MERGE_ADAPTERS_MAX; i++)
        ld_adapter_close(work->adapters[i]);
}

static bool show(void *ctx, const char *phase, uint64_t done, uint64_t total)
{
    return ld_tool_show(ctx, phase, done, total);
}

static void tell(const struct options *options, const struct ld_merge_report *report)
{
    if (!options->json) {
        printf("%s: %u tensors, %s, %s\n", options->output, report->tensors,
               ld_merge_op_name(options->recipe.op), ld_model_storage_name(options->storage));
        if (report->copied)
            printf("%u tensors were copied: one side lacks them\n", report->copied);
        for (uint32_t i = 0; i < options->adapter_count; i++)
            printf("adapter %s: %u tensors changed, %u modules without a place\n",
                   options->adapters[i].path, report->adapter_tensors[i],
                   report->adapter_unmatched[i]);
        return;
    }
    printf("{\"op\":\"%s\",\"dtype\":\"%s\",\"tensors\":%u,\"copied\":%u,\"adapters\":[",
           ld_merge_op_name(options->recipe.op), ld_model_storage_name(options->storage),
           report->tensors, report->copied);
    for (uint32_t i = 0; i < options->adapter_count; i++)
        printf("%s{\"tensors_applied\":%u,\"tensors_unmatched\":%u}", i ? "," : "",
               report->adapter_tensors[i], report->adapter_unmatched[i]);
    puts("]}");
}

static enum ld_code run(struct options *options, struct ld_merge_report *report,
                        struct ld_error *err)
{
    struct work work = {0};
    struct ld_tool_progress progress = {.quiet = options->quiet};
    enum ld_code code = open_all(&work, options, err);
    if (code == LD_OK) {
        const struct ld_merge_request request = {
            .recipe = &options->recipe,
            .a = work.parents[0],
            .b = work.parents[1],
            .c = work.parents[2],
            .vae = work.vae,
            .text = work.text,
            .adapters = work.baked,
            .adapter_count = options->adapter_count,
            .storage = options->storage,
            .folder = options->diffusers,
            .replace = options->force,
            .progress = show,
            .progress_ctx = &progress,
        };
        code = ld_merge_write(options->output, &request, report, err);
    }
    ld_tool_clear(&progress);
    close_all(&work);
    return code;
}

int ld_cmd_merge(int argc, char **argv)
{
    static struct options options; /* 64 KiB of adapter paths */
    struct ld_merge_report report;
    struct ld_error err = {0};
    options = (struct options){
        .storage = LD_STORE_KEEP,
        .recipe = {.alpha = (double)NAN, .beta = 0.5, .density = 0.5, .drop = 0.5, .lambda = 1}};
    if (parse(&options, argc, argv, &err) != LD_OK) {
        fprintf(stderr, "latentd: %s\n`latentd merge --help` tells more.\n", err.detail);
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
