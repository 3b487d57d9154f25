#include "server/cmd_generate_args.h"

#include "config/folders.h"
#include "runtime/base/arena.h"
#include "runtime/base/cache_folder.h"
#include "server/cmd_output.h"

#include <math.h>
#include <sys/stat.h>

/* ---- Own flags ------------------------------------------------------------------------------- */

enum { FOLDER_SIZE = 1024 };

enum own_kind { OWN_TEXT, OWN_FLAG, OWN_THREADS, OWN_CONTROL, OWN_SWEEP };

struct own_flag {
    const char *name;
    enum own_kind kind;
    size_t offset;
    const char *value, *doc;
};

#define AT(member) offsetof(struct ld_generate_args, member)

static const struct own_flag own_flags[] = {
    {"model", OWN_TEXT, AT(engine.model_path), "FILE|NAME",
     "checkpoint (.safetensors or diffusers folder), or its name in --model-dir"},
    {"output", OWN_TEXT, AT(output), "FILE",
     "where the picture goes, PNG, WebP (.webp) or JPEG (.jpg) by its ending; several get -0, -1, "
     "..."},
    {"vocab", OWN_TEXT, AT(engine.vocab_path), "FILE",
     "CLIP vocabulary, for checkpoints without their own"},
    {"model-dir", OWN_TEXT, AT(engine.model_dir), "DIR", "folder of checkpoints"},
    {"adapter-dir", OWN_TEXT, AT(engine.adapter_dir), "DIR", "folder of LoRA and its kin"},
    {"embedding-dir", OWN_TEXT, AT(engine.embedding_dir), "DIR", "folder of textual inversions"},
    {"wildcard-dir", OWN_TEXT, AT(engine.wildcard_dir), "DIR", "folder of wildcard lists"},
    {"vae-dir", OWN_TEXT, AT(engine.vae_dir), "DIR", "folder of VAEs"},
    {"controlnet-dir", OWN_TEXT, AT(engine.controlnet_dir), "DIR", "folder of ControlNets"},
    {"tipo-model", OWN_TEXT, AT(engine.tipo_model), "FILE",
     "TIPO language model (.gguf), for --tipo"},
    {"backend", OWN_TEXT, AT(engine.backend), "auto|cpu|cuda", "what computes"},
    {"precision", OWN_TEXT, AT(engine.precision), "fp16|bf16", "type that a GPU computes in"},
    {"fp16-accumulate", OWN_FLAG, AT(engine.fp16_accumulate), "",
     "a GPU's sums in fp16 first: for GeForce, fp16 only"},
    {"stream-weights", OWN_TEXT, AT(engine.stream_weights), "auto|on|off",
     "weights stay in the host's memory and are sent to the GPU as they are used"},
    {"threads", OWN_THREADS, AT(engine.threads), "N",
     "threads of the CPU backend; 0: one per core"},
    {"init", OWN_TEXT, AT(init_path), "FILE", "picture to start from (PNG, JPEG, WebP)"},
    {"mask", OWN_TEXT, AT(mask_path), "FILE", "picture; white is repainted, black is kept"},
    {"control-image", OWN_CONTROL, AT(control_paths), "FILE",
     "picture that a --control follows, the first for the first, and so on; else that of --init"},
    {"sweep", OWN_SWEEP, AT(sweep), "FIELD=A,B",
     "a grid over values, up to three times: across, down, pages; -o is the sheet"},
    {"replay", OWN_TEXT, AT(replay), "FILE",
     "paint the picture in FILE again and say whether it is the same, or what differs"},
    {"server", OWN_TEXT, AT(server), "URL", "paint on a running latentd instead of here"},
    {"key", OWN_TEXT, AT(key), "KEY", "key for --server; LATENTD_KEY in the environment is safer"},
    {"list", OWN_TEXT, AT(list), "WHAT", "samplers, schedulers or fields; then stop"},
    {"json", OWN_FLAG, AT(json), "", "events as JSON lines on standard output"},
    {"quiet", OWN_FLAG, AT(quiet), "", "no progress"},
    {"help", OWN_FLAG, AT(help), "", "this text"},
};

static const struct own_flag *own_flag_find(const char *name)
{
    for (size_t i = 0; i < sizeof own_flags / sizeof own_flags[0]; i++)
        if (strcmp(own_flags[i].name, name) == 0)
            return &own_flags[i];
    return NULL;
}

static enum ld_code set_own(struct ld_generate_args *args, const struct own_flag *flag,
                            const char *value, struct ld_arena *arena, struct ld_error *err)
{
    void *member = (char *)args + flag->offset;
    uint64_t threads;
    switch (flag->kind) {
    case OWN_FLAG:
        *(bool *)member = true;
        return LD_OK;
    case OWN_TEXT:
        *(const char **)member = value;
        return LD_OK;
    case OWN_CONTROL:
        if (args->control_path_count == LD_REQUEST_CONTROLS_MAX)
            return LD_FAIL(err, LD_E_RANGE, "--%s may be given at most %d times", flag->name,
                           LD_REQUEST_CONTROLS_MAX);
        ((const char **)member)[args->control_path_count++] = value;
        return LD_OK;
    case OWN_SWEEP:
        return ld_sweep_add(member, value, arena, err);
    case OWN_THREADS:
        if (!ld_parse_u64(ld_span_text(value), &threads) || threads > 1024)
            return LD_FAIL(err, LD_E_RANGE, "threads must be between 0 and 1024");
        *(uint32_t *)member = (uint32_t)threads;
        return LD_OK;
    }
    return LD_E_BUG;
}

/* ---- The request's flags --------------------------------------------------------------------- */

static bool is_switch(const char *name)
{
    const struct ld_field *field = ld_field_find(name);
    return field && ld_field_flag_is_switch(field);
}

/* "true" and "false" may follow a switch; anything else is the next argument. */
static bool is_switch_value(const char *text)
{
    return text && (strcmp(text, "true") == 0 || strcmp(text, "false") == 0);
}

/* Split "--name=value"; the name is copied out. */
static const char *split_flag(const char *argument, char *name, size_t size, struct ld_error *err)
{
    const char *start = argument[1] == '-' ? argument + 2 : argument + 1;
    const char *equals = strchr(start, '=');
    const size_t length = equals ? (size_t)(equals - start) : strlen(start);
    if (!ld_fmt(name, size, "%.*s", (int)length, start)) {
        (void)LD_FAIL(err, LD_E_INVALID, "a flag of this length does not exist");
        return NULL;
    }
    if (strcmp(name, "o") == 0)
        (void)ld_fmt(name, size, "output");
    if (strcmp(name, "h") == 0)
        (void)ld_fmt(name, size, "help");
    return equals ? equals + 1 : "";
}

/* A model of gigabytes is hashed once, not for every picture. */
static enum ld_code place_digests(struct ld_generate_args *args, struct ld_arena *arena,
                                  struct ld_error *err)
{
    char folder[FOLDER_SIZE];
    char path[FOLDER_SIZE + 16];
    ld_cache_folder(folder, sizeof folder);
    if (!folder[0])
        return LD_OK;
    (void)ld_fmt(path, sizeof path, "%s/digests", folder);
    args->engine.digests_path = ld_arena_strdup(arena, path);
    return args->engine.digests_path ? LD_OK : LD_FAIL(err, LD_E_NOMEM, "out of memory");
}

enum ld_code ld_generate_args_parse(struct ld_generate_args *args, struct ld_arena *arena, int argc,
                                    char **argv, struct ld_error *err)
{
    memset(args, 0, sizeof *args);
    args->engine = (struct ld_engine_config){.model_dir = "",
                                             .adapter_dir = "",
                                             .embedding_dir = "",
                                             .wildcard_dir = "",
                                             .vae_dir = "",
                                             .controlnet_dir = "",
                                             .default_model = "",
                                             .model_path = "",
                                             .vocab_path = "",
                                             .backend = "auto",
                                             .precision = "fp16",
                                             .stream_weights = "auto"};
    args->server = "";
    args->key = "";
    ld_request_default(&args->request);
    bool has_prompt = false;
    bool flags_end = false; /* after "--", as everywhere: a prompt may begin with a dash */
    for (int i = 1; i < argc; i++) {
        char name[96];
        const bool flag = !flags_end && argv[i][0] == '-' && argv[i][1] != '\0';
        if (flag && strcmp(argv[i], "--") == 0) {
            flags_end = true;
            continue;
        }
        if (!flag) {
            if (has_prompt)
                return LD_FAIL(err, LD_E_INVALID,
                               "'%.60s' is a second prompt; put a prompt with blanks in quotes",
                               argv[i]);
            has_prompt = true;
            if (ld_request_set_text(&args->request, arena, "prompt", argv[i], err) != LD_OK)
                return err->code;
            continue;
        }
        const char *value = split_flag(argv[i], name, sizeof name, err);
        if (!value)
            return err->code;
        const bool joined = value[0] != '\0' || argv[i][strlen(argv[i]) - 1] == '=';
        const struct own_flag *own = own_flag_find(name);
        const bool alone = own ? own->kind == OWN_FLAG : is_switch(name);
        if (alone && !joined)
            value = !own && i + 1 < argc && is_switch_value(argv[i + 1]) ? argv[++i] : "true";
        else if (!joined && (own || ld_field_find(name) || strcmp(name, "lora") == 0)) {
            if (i + 1 >= argc)
                return LD_FAIL(err, LD_E_INVALID, "--%s needs a value", name);
            value = argv[++i];
        }
        has_prompt = has_prompt || strcmp(name, "prompt") == 0;
        const enum ld_code code =
            own ? set_own(args, own, value, arena, err)
                : ld_request_set_text(&args->request, arena, name, value, err);
        if (code != LD_OK)
            return code;
    }
    if (args->output && !args->replay &&
        ld_cmd_take_format(&args->request, arena, args->output, err) != LD_OK)
        return err->code;
    struct ld_engine_config *engine = &args->engine;
    const struct ld_folders folders = {
        .adapters = &engine->adapter_dir,
        .embeddings = &engine->embedding_dir,
        .vaes = &engine->vae_dir,
        .controlnets = &engine->controlnet_dir,
        .wildcards = &engine->wildcard_dir,
    };
    ld_folders_beside(engine->model_dir, engine->model_path, arena, &folders);
    return place_digests(args, arena, err);
}

/* ---- Help ------------------------------------------------------------------------------------ */

static void help_field(const struct ld_field *field, struct ld_buffer *out)
{
    char flag[96];
    if (!ld_field_flag_name(field, flag, sizeof flag) || own_flag_find(flag))
        return;
    ld_buffer_format(out, "  --%-36s %s", flag, field->doc);
    if (field->words[0])
        ld_buffer_format(out, " (%s)", field->words);
    else if ((field->kind == LD_FIELD_INT || field->kind == LD_FIELD_NUMBER) &&
             isfinite(field->min) && isfinite(field->max))
        ld_buffer_format(out, " (%g..%g%s%s)", field->min, field->max, field->unit[0] ? " " : "",
                         field->unit);
    ld_buffer_text(out, "\n");
}

void ld_generate_args_help(struct ld_buffer *out)
{
    uint32_t count;
    const struct ld_field *fields = ld_fields(&count);
    ld_buffer_text(out, "usage: latentd generate --model FILE [flags] \"prompt\"\n\n"
                        "Paints a picture in this process, or on a server with --server.\n\n"
                        "Flags:\n");
    for (size_t i = 0; i < sizeof own_flags / sizeof own_flags[0]; i++) {
        char left[64];
        (void)ld_fmt(left, sizeof left, "%s %s", own_flags[i].name, own_flags[i].value);
        ld_buffer_format(out, "  --%-36s %s\n", left, own_flags[i].doc);
    }
    ld_buffer_text(out, "  --lora NAME[:WEIGHT[:TEXT_WEIGHT]]       one adapter; may be repeated\n"
                        "\nThe request (what is not given comes from the model's manifest):\n");
    for (uint32_t i = 0; i < count; i++)
        if (fields[i].kind != LD_FIELD_OBJECT && fields[i].kind != LD_FIELD_UNBUILT)
            help_field(&fields[i], out);
}
