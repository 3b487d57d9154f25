/*
 * `latentd generate`: the whole pipeline in this process, or on a server, with a progress bar. A
 * picture is written beside its name and renamed, so an interrupted run leaves no half file.
 */
#include "api/resolve.h"
#include "api/validate.h"
#include "runtime/base/id.h"
#include "runtime/base/json_find.h"
#include "runtime/base/log.h"
#include "runtime/sample/sampler.h"
#include "runtime/sample/schedule.h"
#include "server/cmd.h"
#include "server/cmd_adapters.h"
#include "server/cmd_generate_inputs.h"
#include "server/cmd_generate_run.h"
#include "server/cmd_output.h"
#include "server/names.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { ARENA_MAX = 64 << 20, SHEET_MAX = 80 << 20, PATH_SIZE = 4096 };

static struct ld_cancel interrupt;

static void on_signal(int number)
{
    (void)number;
    atomic_store(&interrupt.requested, true);
}

/* The first Ctrl-C asks; the handler then steps aside, so that a second one ends at once. */
static void catch_interrupt(void)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

/* ---- Files ----------------------------------------------------------------------------------- */

/* Before anything is painted: can the picture be written at all? */
static enum ld_code check_output(const struct ld_generate_args *args, struct ld_error *err)
{
    char folder[PATH_SIZE];
    const char *slash = strrchr(args->output, '/');
    struct stat info;
    if (args->output[0] == '\0' || (slash && slash[1] == '\0'))
        return LD_FAIL(err, LD_E_INVALID, "-o needs the name of a file");
    (void)ld_fmt(folder, sizeof folder, "%.*s", slash ? (int)(slash - args->output + 1) : 1,
                 slash ? args->output : ".");
    if (faccessat(AT_FDCWD, folder, W_OK, AT_EACCESS) != 0)
        return LD_FAIL_OS(err, LD_E_IO, errno, "the folder of '%.200s' cannot be written to",
                          args->output);
    if (stat(args->output, &info) == 0 && S_ISDIR(info.st_mode))
        return LD_FAIL(err, LD_E_INVALID, "'%.200s' is a folder; -o needs the name of a file",
                       args->output);
    return LD_OK;
}

/* ---- Preparing the request ------------------------------------------------------------------- */

static bool fill_random(void *ctx, void *out, size_t size)
{
    (void)ctx;
    ld_random_bytes(out, size);
    return true;
}

/* Model name for the manifest: the file's name without folder and ending. */
static const char *model_name(const struct ld_generate_args *args, struct ld_arena *arena)
{
    const char *path = args->engine.model_path[0] ? args->engine.model_path : args->request.model;
    const char *slash = strrchr(path, '/');
    const char *name = slash && slash[1] ? slash + 1 : path;
    const char *dot = strrchr(name, '.');
    const char *copy = ld_arena_strndup(arena, name, dot ? (size_t)(dot - name) : strlen(name));
    return copy ? copy : "";
}

/* The adapters of --adapter-dir, looked at only where the request asks for a recipe. */
static enum ld_code apply_hyper(struct ld_generate_args *args, const struct ld_api_names *names,
                                struct ld_arena *arena, struct ld_warnings *warnings,
                                struct ld_problem *problem)
{
    struct ld_local_adapters adapters = {0};
    struct ld_error err = {0};
    if (args->request.hyper_steps <= 0)
        return LD_OK;
    enum ld_code code = ld_local_adapters_open(&adapters, args->engine.adapter_dir, &err);
    if (code != LD_OK)
        return ld_problem_add(problem, code, "/hyper", "--adapter-dir: %.300s", err.detail);
    code = ld_request_apply_hyper(&args->request, &adapters.list, names, arena, warnings, problem);
    ld_local_adapters_close(&adapters);
    return code;
}

/* Defaults of the model's manifest, presets, a seed; then every check the server makes. */
static enum ld_code resolve(struct ld_generate_args *args, struct ld_arena *arena,
                            struct ld_warnings *warnings, struct ld_error *err)
{
    struct ld_manifests manifests;
    struct ld_problem problem;
    const struct ld_random random = {NULL, fill_random};
    const struct ld_api_names names = ld_names_builtin();
    ld_problem_init(&problem, arena);
    if (ld_manifests_load(&manifests, NULL, arena, err) != LD_OK)
        return err->code;
    const struct ld_manifest *manifest = ld_manifests_for(&manifests, model_name(args, arena));
    if (ld_request_resolve(&args->request, manifest, &random, arena, warnings, &problem) != LD_OK ||
        apply_hyper(args, &names, arena, warnings, &problem) != LD_OK ||
        ld_request_check(&args->request, &names, NULL, arena, warnings, &problem) != LD_OK) {
        for (uint32_t i = 1; i < problem.item_count && i < 3; i++)
            fprintf(stderr, "latentd: %s\n", problem.items[i].message);
        return LD_FAIL(err, problem.code, "%s", problem.detail);
    }
    return LD_OK;
}

/* ---- Running --------------------------------------------------------------------------------- */

/* What computes, so that nobody waits for a GPU that is not used. */
static void tell_device(const struct ld_engine *engine)
{
    char backend[32];
    char device[160];
    const struct ld_span inventory = ld_span_text(ld_engine_inventory(engine));
    if (ld_json_find_string(inventory, "/backend", backend, sizeof backend) &&
        ld_json_find_string(inventory, "/device", device, sizeof device))
        fprintf(stderr, "latentd: painting on the %s backend (%s)%s%s\n", backend, device,
                ld_engine_note(engine)[0] ? "; no GPU is used: " : "", ld_engine_note(engine));
}

/* One request to its end. */
static enum ld_code paint_one(struct ld_generate_run *run, struct ld_engine *engine,
                              const struct ld_request *request,
                              const struct ld_generate_inputs *inputs)
{
    uint64_t handle;
    struct ld_engine_job job = {
        .request = request,
        .ctx = run,
        .on_progress = ld_generate_on_progress,
        .on_image = ld_generate_on_image,
        .on_done = ld_generate_on_done,
    };
    ld_generate_inputs_give(inputs, &job);
    enum ld_code code = ld_engine_submit(engine, &job, &handle, &run->err);
    bool cancelled = false;
    run->done = false;
    while (code == LD_OK && !run->done) {
        if (!cancelled && (run->code != LD_OK || atomic_load(&interrupt.requested))) {
            ld_engine_cancel(engine, handle, false);
            cancelled = true;
        }
        code = ld_engine_tick(engine, &run->err);
    }
    return code == LD_OK ? run->code : code;
}

/* All `count` requests one after the other. */
static enum ld_code paint_here(struct ld_generate_run *run, struct ld_generate_args *args,
                               const struct ld_request *requests, uint32_t count,
                               const struct ld_generate_inputs *inputs)
{
    struct ld_engine *engine = NULL;
    args->engine.interrupt = &interrupt;
    enum ld_code code = ld_engine_create(&engine, &args->engine, &run->err);
    if (code == LD_OK && !args->quiet)
        tell_device(engine);
    for (run->cell = 0; code == LD_OK && run->cell < count; run->cell++)
        code = paint_one(run, engine, &requests[run->cell], inputs);
    ld_engine_destroy(engine);
    return code;
}

/* ---- Sweeps ---------------------------------------------------------------------------------- */

/* Seeds that are left to chance are drawn once, so that cells differ in nothing but their values.
 */
static void draw_seeds(struct ld_request *request)
{
    uint32_t drawn[2];
    ld_random_bytes(drawn, sizeof drawn);
    if (request->seed_random)
        request->seed = drawn[0];
    if (request->variation_seed_random)
        request->variation_seed = drawn[1];
    request->seed_random = request->variation_seed_random = false;
}

/* Every cell is resolved and checked before the first is painted. */
static enum ld_code resolve_cells(struct ld_generate_args *args, struct ld_request *requests,
                                  struct ld_arena *arena, struct ld_warnings *warnings,
                                  struct ld_error *err)
{
    draw_seeds(&args->request);
    const struct ld_request base = args->request;
    enum ld_code code = LD_OK;
    for (uint32_t i = 0; code == LD_OK && i < ld_sweep_cells(&args->sweep); i++) {
        struct ld_warnings ignored = {.arena = arena};
        code = ld_sweep_cell(&args->sweep, i, &base, &args->request, arena, err);
        if (code == LD_OK)
            code = resolve(args, arena, i == 0 ? warnings : &ignored, err);
        if (code == LD_OK && args->request.images != 1)
            code =
                LD_FAIL(err, LD_E_INVALID, "a sweep paints one picture a cell; images must be 1");
        requests[i] = args->request;
    }
    args->request = base;
    return code;
}

static enum ld_code paint_sweep(struct ld_generate_run *run, struct ld_generate_args *args,
                                struct ld_arena *arena, struct ld_warnings *warnings,
                                const struct ld_generate_inputs *inputs)
{
    const uint32_t cells = ld_sweep_cells(&args->sweep);
    struct ld_buffer sheet = ld_buffer_make(SHEET_MAX);
    struct ld_request *requests = ld_heap_calloc(cells, sizeof *requests);
    run->pictures = ld_heap_calloc(1, sizeof *run->pictures);
    run->cells = cells;
    enum ld_code code = requests && run->pictures
                            ? resolve_cells(args, requests, arena, warnings, &run->err)
                            : LD_FAIL(&run->err, LD_E_NOMEM, "out of memory for the sweep");
    for (uint32_t i = 0; code == LD_OK && !args->quiet && i < warnings->count; i++)
        fprintf(stderr, "latentd: note: %s\n", warnings->items[i]);
    if (code == LD_OK)
        code = paint_here(run, args, requests, cells, inputs);
    if (code == LD_OK)
        code = ld_sweep_sheet(&args->sweep, &args->request, run->pictures, &sheet, &run->err);
    if (code == LD_OK)
        code = ld_cmd_write_file(args->output, ld_span_of(sheet.data, sheet.size), &run->err);
    ld_progress_bar_clear(&run->bar);
    if (code == LD_OK && !args->quiet)
        fprintf(stderr, "%s: the sheet of %u pictures\n", args->output, cells);
    if (run->pictures)
        ld_sweep_pictures_deinit(run->pictures);
    ld_heap_free(run->pictures);
    ld_heap_free(requests);
    ld_buffer_deinit(&sheet);
    return code;
}

/* ---- Replay ---------------------------------------------------------------------------------- */

/* The request comes from the picture alone: a flag beside it would make it another one. */
static enum ld_code begin_replay(struct ld_generate_run *run, struct ld_generate_args *args,
                                 struct ld_arena *arena, struct ld_error *err)
{
    char sentence[512];
    uint32_t count;
    const struct ld_field *fields = ld_fields(&count);
    for (uint32_t i = 0; i < count; i++)
        if (!(fields[i].flags & LD_FIELD_ITEM) && ld_request_has(&args->request, fields[i].path))
            return LD_FAIL(err, LD_E_INVALID,
                           "--replay takes the request from the picture; leave %s away",
                           fields[i].path);
    if (args->server[0] || args->sweep.axis_count > 0)
        return LD_FAIL(err, LD_E_INVALID,
                       "--replay paints in this process, without --server and --sweep; a server "
                       "does it with POST /v1/replay");
    run->painted = ld_buffer_make(SHEET_MAX);
    if (ld_replay_open(run->replay, args->replay, err) != LD_OK ||
        ld_replay_request(run->replay, &args->request, err) != LD_OK)
        return err->code;
    if (args->request.sweep[0])
        return LD_FAIL(err, LD_E_UNSUPPORTED,
                       "the picture is the sheet of a sweep; a server paints it again with POST "
                       "/v1/replay");
    for (uint32_t i = 0;
         !args->quiet && ld_replay_unmapped(run->replay, i, sentence, sizeof sentence); i++)
        fprintf(stderr, "latentd: note: %s\n", sentence);
    const char *name = model_name(args, arena);
    if (args->engine.model_path[0] && args->request.model[0] &&
        strcmp(args->request.model, name) != 0) {
        if (!args->quiet)
            fprintf(stderr, "latentd: note: the picture's model is called '%.100s'\n",
                    args->request.model);
        args->request.model = "";
    }
    return LD_OK;
}

/* Sentence `index` of JSON strings with commas between. */
static bool note_at(const struct ld_buffer *notes, uint32_t index, char *out, size_t size)
{
    char pointer[16];
    struct ld_buffer array = ld_buffer_make(1 << 17);
    (void)ld_fmt(pointer, sizeof pointer, "/%u", index);
    ld_buffer_format(&array, "[%s]", notes->size ? notes->data : "");
    const bool found = ld_json_find_string(ld_span_of(array.data, array.size), pointer, out, size);
    ld_buffer_deinit(&array);
    return found;
}

/* Exit status 0 says bit-identical. */
static enum ld_code finish_replay(struct ld_generate_run *run, struct ld_error *err)
{
    bool identical;
    struct ld_buffer notes = ld_buffer_make(1 << 16);
    enum ld_code code = ld_replay_compare(
        run->replay, ld_span_of(run->painted.data, run->painted.size), &identical, &notes, err);
    if (code == LD_OK && run->args->json)
        printf("{\"event\":\"replay\",\"identical\":%s,\"differences\":[%s]}\n",
               identical ? "true" : "false", notes.size ? notes.data : "");
    if (code == LD_OK && identical) {
        if (!run->args->quiet)
            fprintf(stderr, "latentd: bit-identical to '%.200s'\n", run->args->replay);
    } else if (code == LD_OK) {
        char sentence[512];
        for (uint32_t i = 0; note_at(&notes, i, sentence, sizeof sentence); i++)
            fprintf(stderr, "latentd: %s\n", sentence);
        code = LD_FAIL(err, LD_E_CONFLICT, "not bit-identical to '%.200s'", run->args->replay);
    }
    ld_buffer_deinit(&notes);
    return code;
}

static enum ld_code paint_there(struct ld_generate_run *run, struct ld_generate_args *args,
                                struct ld_generate_inputs *inputs, struct ld_error *err)
{
    struct ld_buffer body = ld_buffer_make(1 << 20);
    const char *key = args->key[0] ? args->key : getenv("LATENTD_KEY");
    struct ld_remote remote = {
        .url = args->server,
        .key = key ? key : "",
        .cancel = &interrupt,
        .ctx = run,
        .on_progress = ld_generate_on_progress,
        .on_image = ld_generate_on_image,
        .on_end = ld_generate_on_end,
    };
    struct ld_buffer sweep = ld_buffer_make(LD_SWEEP_BYTES_MAX);
    enum ld_code code = ld_generate_inputs_upload(inputs, &remote, &args->request, err);
    if (code == LD_OK && args->sweep.axis_count > 0) {
        ld_sweep_write(&args->sweep, &sweep);
        args->request.sweep = sweep.failed ? "" : sweep.data;
        ld_request_mark(&args->request, ld_field_find("sweep"));
        if (sweep.failed)
            code = LD_FAIL(err, LD_E_TOO_LARGE, "the sweep is too large");
    }
    if (code == LD_OK) {
        ld_request_write_given_json(&args->request, &body);
        remote.request_json = body.data;
        code =
            body.failed ? LD_FAIL(err, LD_E_NOMEM, "out of memory") : ld_remote_run(&remote, err);
    }
    ld_buffer_deinit(&body);
    ld_buffer_deinit(&sweep);
    return code == LD_OK ? run->code : code;
}

/* ---- Lists ----------------------------------------------------------------------------------- */

static void list_row(bool json, bool first, const char *name, const char *label, const char *hint)
{
    if (!json) {
        printf("%-34s %-30s %s\n", name, label, hint);
        return;
    }
    struct ld_buffer line = ld_buffer_make(4096);
    ld_buffer_text(&line, first ? "[{\"name\":" : ",\n {\"name\":");
    ld_buffer_json_string(&line, name);
    ld_buffer_text(&line, ",\"label\":");
    ld_buffer_json_string(&line, label);
    ld_buffer_text(&line, ",\"hint\":");
    ld_buffer_json_string(&line, hint);
    ld_buffer_text(&line, "}");
    if (!line.failed)
        fputs(line.data, stdout);
    ld_buffer_deinit(&line);
}

static int list(const struct ld_generate_args *args)
{
    uint32_t count = 0;
    if (strcmp(args->list, "samplers") == 0) {
        for (; count < ld_sampler_info_count(); count++) {
            const struct ld_sampler_info *info = ld_sampler_info_at(count);
            list_row(args->json, count == 0, info->name, info->label, info->hint);
        }
    } else if (strcmp(args->list, "schedulers") == 0) {
        for (; count < ld_scheduler_info_count(); count++) {
            const struct ld_scheduler_info *info = ld_scheduler_info_at(count);
            list_row(args->json, count == 0, info->name, info->label, info->hint);
        }
    } else if (strcmp(args->list, "fields") == 0) {
        uint32_t rows;
        const struct ld_field *fields = ld_fields(&rows);
        for (; count < rows; count++)
            list_row(args->json, count == 0, fields[count].path, fields[count].unit,
                     fields[count].doc);
    } else {
        fprintf(stderr, "latentd: --list takes samplers, schedulers or fields\n");
        return LD_EXIT_USAGE;
    }
    if (args->json)
        puts("]");
    return LD_EXIT_OK;
}

/* ---- The verb -------------------------------------------------------------------------------- */

static int help(void)
{
    struct ld_buffer text = ld_buffer_make(256 * 1024);
    ld_generate_args_help(&text);
    if (text.data)
        fputs(text.data, stdout);
    ld_buffer_deinit(&text);
    return LD_EXIT_OK;
}

static enum ld_code generate(struct ld_generate_args *args, struct ld_arena *arena,
                             struct ld_error *err)
{
    struct ld_generate_run run = {.args = args, .told.arena = arena};
    struct ld_generate_inputs inputs = {0};
    struct ld_warnings warnings = {.arena = arena};
    if (!args->server[0] && !args->engine.model_path[0] && !args->engine.model_dir[0])
        return LD_FAIL(err, LD_E_INVALID,
                       "--model FILE, --model-dir DIR or --server URL is needed");
    const bool sweep = args->sweep.axis_count > 0;
    struct ld_replay replay = {0};
    enum ld_code code = LD_OK;
    if (args->replay) {
        run.replay = &replay;
        code = begin_replay(&run, args, arena, err);
    }
    if (!args->output)
        args->output = ld_cmd_default_output(&args->request);
    if (code == LD_OK)
        code = check_output(args, err);
    if (code == LD_OK)
        code = ld_generate_inputs_open(&inputs, args, arena, err);
    if (code == LD_OK && !args->server[0] && !sweep)
        code = resolve(args, arena, &warnings, err);
    for (uint32_t i = 0; code == LD_OK && !args->quiet && i < warnings.count; i++)
        fprintf(stderr, "latentd: note: %s\n", warnings.items[i]);
    if (code == LD_OK) {
        ld_progress_bar_init(&run.bar, stderr);
        code = args->server[0] ? paint_there(&run, args, &inputs, err)
               : sweep         ? paint_sweep(&run, args, arena, &warnings, &inputs)
                               : paint_here(&run, args, &args->request, 1, &inputs);
        ld_progress_bar_clear(&run.bar);
        if (code != LD_OK && run.err.code != LD_OK)
            *err = run.err;
    }
    if (code == LD_OK && run.replay)
        code = finish_replay(&run, err);
    if (run.replay)
        ld_replay_close(run.replay);
    ld_buffer_deinit(&run.painted);
    ld_generate_inputs_close(&inputs);
    return code;
}

int ld_cmd_generate(int argc, char **argv)
{
    struct ld_arena arena;
    struct ld_generate_args args;
    struct ld_error err = {0};
    ld_arena_init(&arena, "generate", ARENA_MAX);
    int status = LD_EXIT_USAGE;
    enum ld_code code = ld_generate_args_parse(&args, &arena, argc, argv, &err);
    if (code == LD_OK && args.help)
        status = help();
    else if (code == LD_OK && args.list)
        status = list(&args);
    else if (code == LD_OK) {
        catch_interrupt();
        /* What a person needs to know is said in plain lines; the log is for what went wrong. */
        ld_log_setup(LD_LOG_WARN, LD_LOG_AUTO, LD_LOG_PRIVATE_NONE);
        code = generate(&args, &arena, &err);
        status = code == LD_OK            ? LD_EXIT_OK
                 : code == LD_E_CANCELLED ? LD_EXIT_INTERRUPTED
                                          : LD_EXIT_FAILED;
    }
    if (code != LD_OK)
        fprintf(stderr, "latentd: %s\n", err.detail);
    ld_arena_deinit(&arena);
    return status;
}
