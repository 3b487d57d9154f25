#include "server/front.h"
#include "server/webhook_url.h"

#include "api/sweep.h"
#include "runtime/base/log.h"
#include "server/names.h"
#include "server/rights.h"

/* A canonical request: three prompts of 16 KiB with their escapes, and the rest. */
enum { REQUEST_BYTES_MAX = 1 << 20, CELL_ARENA_BYTES = 1 << 20 };

static bool fill_random(void *ctx, void *out, size_t size)
{
    (void)ctx;
    ld_random_bytes(out, size);
    return true;
}

static const struct ld_manifest *find_manifest(void *ctx, const char *model)
{
    const struct ld_intake *intake = ctx;
    const struct ld_model_view *known = ld_inventory_model(intake->inventory, model);
    return ld_manifests_for(&ld_guides_now(intake->front->guides)->manifests,
                            known ? known->name : model);
}

void ld_intake_init(struct ld_intake *intake, struct ld_exchange *ex)
{
    memset(intake, 0, sizeof *intake);
    intake->front = ex->front;
    intake->caller = &ex->caller;
    intake->arena = &ex->arena;
    intake->inventory = ld_inventory_acquire(ex->front->inventory);
    ld_native_init(&intake->native, intake->arena);
    intake->names = ld_names_builtin();
    ld_inventory_names(intake->inventory, &intake->names);
    if (intake->inventory)
        intake->adapters = ld_inventory_adapters(intake->inventory);
    intake->limits = (struct ld_request_limits){
        .area_max = ex->caller.limits.area_max,
        .work_max = ex->caller.limits.work_max,
        .images_max = (int32_t)ex->caller.limits.images_max,
        .steps_max = (int32_t)ex->caller.limits.steps_max,
        .priority_max = (int32_t)ex->caller.limits.priority_max,
    };
    intake->random = (struct ld_random){NULL, fill_random};
    intake->context = (struct ld_api_context){
        .names = &intake->names,
        .limits = &intake->limits,
        .random = &intake->random,
        .adapters = intake->inventory ? &intake->adapters : NULL,
        .no_tipo = !ex->front->settings->tipo_model[0],
        .manifest = find_manifest,
        .manifest_ctx = intake,
    };
    intake->request_json = ld_buffer_make(REQUEST_BYTES_MAX);
    intake->warnings_json = ld_buffer_make(REQUEST_BYTES_MAX);
}

void ld_intake_deinit(struct ld_intake *intake)
{
    ld_intake_let_go(intake);
    for (uint32_t i = 0; i < intake->cell_count; i++) {
        ld_buffer_deinit(&intake->cells[i].request_json);
        ld_buffer_deinit(&intake->cells[i].warnings_json);
    }
    ld_heap_free(intake->cells);
    ld_buffer_deinit(&intake->request_json);
    ld_buffer_deinit(&intake->warnings_json);
    ld_native_deinit(&intake->native);
    ld_inventory_release(intake->front->inventory, intake->inventory);
}

/* ---- Sweeps ---------------------------------------------------------------------------------- */

/* A picture that no worker's device can hold is refused before it waits for one. */
static bool check_capacity(const struct ld_intake *intake, const struct ld_request *request,
                           struct ld_problem *problem)
{
    struct ld_error err = {0};
    if (intake->unpainted || ld_capacity_check(intake->front->capacity, request, &err) == LD_OK)
        return true;
    (void)ld_problem_add_error(problem, err.pointer, &err);
    return false;
}

/* A cell as it will run: what was given with the cell's values, then defaults and checks. `cell` is
 * initialised; its problem tells what is wrong. */
static void settle_cell(const struct ld_intake *intake, const struct ld_request *given,
                        const struct ld_sweep *sweep, uint32_t index, struct ld_native *cell)
{
    const struct ld_request *drawn = &intake->native.request;
    struct ld_error err = {0};
    struct ld_request base = *given;
    /* Drawn once, so that cells differ in nothing but their values. */
    if (base.seed_random)
        base.seed = drawn->seed;
    if (base.variation_seed_random)
        base.variation_seed = drawn->variation_seed;
    base.seed_random = base.variation_seed_random = false;
    base.init.image = drawn->init.image; /* as it was stored */
    base.init.mask = drawn->init.mask;
    for (uint32_t i = 0; i < base.control_count; i++)
        base.controls[i].image = drawn->controls[i].image;
    if (ld_sweep_cell(sweep, index, &base, &cell->request, cell->arena, &err) != LD_OK) {
        if (err.code == LD_E_NOT_FOUND) /* a field's name is a value here */
            err.code = LD_E_INVALID;
        (void)ld_problem_add_error(&cell->problem, err.pointer, &err);
        return;
    }
    const bool allowed = ld_native_settle(cell, &intake->context) == LD_OK &&
                         ld_rights_apply(intake->caller, intake->inventory, &cell->request,
                                         cell->arena, &cell->problem);
    if (allowed && cell->request.images != 1)
        (void)ld_problem_add(&cell->problem, LD_E_INVALID, "/images",
                             "a sweep paints one picture a cell; images must be 1");
    else if (allowed)
        (void)check_capacity(intake, &cell->request, &cell->problem);
}

/* Estimated cost in UNet rows of one unit of area: two rows a call unless the negative pass is
 * skipped, and a decode that takes about as long as four. */
static int64_t estimate_cost(const struct ld_request *request)
{
    enum { DECODE_ROWS = 4 };
    if (request->upscale.present)
        return ld_request_work(request);
    const double cfg_scale = request->cfg_scale;
    const int64_t rows = cfg_scale == 1 ? 1 : 2;
    const int64_t evals = ld_names_evals_per_step(request->sampler);
    const int64_t work = ld_request_work(request);
    const int64_t steps = request->steps > 0 ? request->steps : 1;
    /* A ControlNet has 0.37 of a UNet's multiplications, beside each row. */
    const int64_t tenths = 10 + 4 * (int64_t)request->control_count;
    return work * rows * evals * tenths / 10 + work / steps * DECODE_ROWS;
}

static bool keep_cell(struct ld_intake *intake, const struct ld_native *cell)
{
    struct ld_intake_cell *kept = &intake->cells[intake->cell_count++];
    kept->request_json = ld_buffer_make(REQUEST_BYTES_MAX);
    kept->warnings_json = ld_buffer_make(REQUEST_BYTES_MAX);
    ld_request_write_json(&cell->request, &kept->request_json);
    ld_warnings_write(&cell->warnings, &kept->warnings_json);
    kept->work = ld_request_work(&cell->request);
    kept->cost = estimate_cost(&cell->request);
    return !kept->request_json.failed && !kept->warnings_json.failed;
}

/* The first cell that is refused speaks for all. */
static bool settle_sweep(struct ld_intake *intake, const struct ld_request *given)
{
    struct ld_problem *problem = &intake->native.problem;
    struct ld_error err = {0};
    struct ld_sweep *sweep = ld_arena_alloc(intake->arena, sizeof *sweep);
    intake->cells = ld_heap_calloc(LD_SWEEP_CELLS_MAX, sizeof *intake->cells);
    if (!sweep || !intake->cells) {
        (void)ld_problem_add(problem, LD_E_NOMEM, "", "out of memory");
        return false;
    }
    if (ld_sweep_read(sweep, ld_span_text(given->sweep), intake->arena, &err) != LD_OK) {
        (void)ld_problem_add_error(problem, err.pointer, &err);
        return false;
    }
    for (uint32_t i = 0; problem->code == LD_OK && i < ld_sweep_cells(sweep); i++) {
        struct ld_arena arena;
        struct ld_native cell;
        ld_arena_init(&arena, "sweep cell", CELL_ARENA_BYTES);
        ld_native_init(&cell, &arena);
        settle_cell(intake, given, sweep, i, &cell);
        if (cell.problem.code != LD_OK) {
            const char *pointer = cell.problem.items[0].pointer;
            (void)ld_problem_add(problem, cell.problem.code, pointer ? pointer : "",
                                 "cell %u of the sweep: %s", i, cell.problem.items[0].message);
        } else if (!keep_cell(intake, &cell)) {
            (void)ld_problem_add(problem, LD_E_NOMEM, "", "out of memory");
        }
        ld_native_deinit(&cell);
        ld_arena_deinit(&arena);
    }
    return problem->code == LD_OK;
}

/* ---- Webhooks -------------------------------------------------------------------------------- */

/* Where a call may go is the operator's to say; the sender judges it again. */
static bool check_webhook(struct ld_intake *intake)
{
    const struct ld_settings *settings = intake->front->settings;
    const char *text = intake->native.request.webhook_url;
    struct ld_webhook_url url;
    struct ld_error err = {0};
    if (!text[0] && intake->native.request.webhook_events == 0)
        return true;
    if (!text[0])
        (void)LD_FAIL(&err, LD_E_INVALID, "webhook.url is required beside webhook.events");
    else if (!settings->webhook_hosts[0])
        (void)LD_FAIL(&err, LD_E_INVALID, "this server makes no calls to others");
    else if (ld_webhook_url_parse(&url, ld_span_text(text), &err) == LD_OK &&
             !ld_webhook_url_is_listed(&url, settings->webhook_hosts))
        (void)LD_FAIL(&err, LD_E_INVALID, "this server does not call that host");
    if (err.code == LD_OK)
        return true;
    (void)ld_problem_add_error(&intake->native.problem, "/webhook/url", &err);
    return false;
}

/* ---- The whole way --------------------------------------------------------------------------- */

bool ld_intake_accept(struct ld_intake *intake, const char *tenant, struct ld_span body)
{
    struct ld_native *native = &intake->native;
    const enum ld_code code = ld_native_decode(native, body, &intake->context);
    if (code == LD_E_FORMAT || code == LD_E_NOMEM)
        return false;
    if (intake->format && !ld_request_has(&native->request, "output.format")) {
        native->request.output_format = intake->format;
        ld_request_mark(&native->request, ld_field_find("output.format"));
    }
    const struct ld_request given = native->request;
    if (ld_native_settle(native, &intake->context) != LD_OK ||
        !ld_rights_apply(intake->caller, intake->inventory, &native->request, intake->arena,
                         &native->problem))
        return false;
    const bool sweeps = native->request.sweep[0] != '\0'; /* whose cells count, one by one */
    if (!sweeps && !check_capacity(intake, &native->request, &native->problem))
        return false;
    if (!ld_intake_settle_pictures(intake, tenant))
        return false;
    if (sweeps && !settle_sweep(intake, &given))
        return false;
    if (!check_webhook(intake))
        return false;
    ld_request_write_json(&native->request, &intake->request_json);
    ld_warnings_write(&native->warnings, &intake->warnings_json);
    if (intake->request_json.failed || intake->warnings_json.failed) {
        (void)ld_problem_add(&native->problem, LD_E_NOMEM, "", "out of memory");
        return false;
    }
    return true;
}

/* Millions of pixels times steps, as work units; 0: no limit. */
static int64_t day_work(const struct ld_key_limits *limits)
{
    return limits->day_max * 1000000 / LD_WORK_UNIT_PIXELS;
}

/* What the store borrows until the end of a submit. */
struct ld_intake_submission {
    struct ld_store_submission *stored;
    struct ld_store_submit submit;
    char body_sha256[LD_SHA256_HEX_SIZE];
    struct ld_store_cell cells[LD_SWEEP_CELLS_MAX];
};

static void fill_submission(const struct ld_intake *intake, const char *tenant, const char *key,
                            struct ld_span body, struct ld_intake_submission *out)
{
    for (uint32_t i = 0; i < intake->cell_count; i++) {
        const struct ld_intake_cell *cell = &intake->cells[i];
        out->cells[i] = (struct ld_store_cell){
            .request_json = cell->request_json.data,
            .warnings_json = cell->warnings_json.size > 2 ? cell->warnings_json.data : "",
            .work = cell->work,
            .cost = cell->cost,
        };
    }
    ld_sha256_hex(body, out->body_sha256);
    out->submit = (struct ld_store_submit){
        .tenant = tenant,
        .request_json = intake->request_json.data,
        .warnings_json = intake->native.warnings.count ? intake->warnings_json.data : "",
        .priority = intake->native.request.priority,
        .work = ld_request_work(&intake->native.request),
        .cost = estimate_cost(&intake->native.request),
        .day_work_max = day_work(&intake->caller->limits),
        .init_sha256 = intake->init_sha256,
        .mask_sha256 = intake->mask_sha256,
        .idempotency_key = key,
        .key_use = intake->key_use,
        .body_sha256 = out->body_sha256,
        .queued_per_tenant_max = intake->caller->limits.queued_max,
        .queued_max = atomic_load(&intake->front->settings)->queued_max,
        .cells = out->cells,
        .cell_count = intake->cell_count,
    };
    for (uint32_t i = 0; i < LD_CONTROLS_MAX; i++)
        out->submit.control_sha256[i] = intake->control_sha256[i];
}

enum ld_code ld_intake_submit_begin(struct ld_intake *intake, const char *tenant, const char *key,
                                    struct ld_span body, void (*told)(void *ctx), void *ctx,
                                    struct ld_error *err)
{
    LD_ASSERT(!intake->submission);
    struct ld_intake_submission *made = ld_heap_alloc(sizeof *made);
    if (!made)
        return LD_FAIL(err, LD_E_NOMEM, "out of memory");
    fill_submission(intake, tenant, key, body, made);
    const enum ld_code code =
        ld_store_submit_begin(&made->stored, intake->front->store, &made->submit, told, ctx, err);
    if (code == LD_OK)
        intake->submission = made;
    else
        ld_heap_free(made);
    return code;
}

bool ld_intake_submit_is_known(const struct ld_intake *intake)
{
    return ld_store_submit_is_known(intake->submission->stored);
}

static enum ld_count count_of(const struct ld_intake *intake, bool replayed)
{
    return replayed                                 ? LD_COUNT_REPLAYED
           : intake->native.request.upscale.present ? LD_COUNT_SUBMITTED_UPSCALE
           : intake->mask_sha256[0]                 ? LD_COUNT_SUBMITTED_MASK
           : intake->init_sha256[0]                 ? LD_COUNT_SUBMITTED_IMAGE
                                                    : LD_COUNT_SUBMITTED_TEXT;
}

enum ld_code ld_intake_submit_end(struct ld_intake *intake, char id[LD_ID_SIZE], bool *replayed,
                                  struct ld_error *err)
{
    LD_ASSERT(intake->submission);
    const enum ld_code code = ld_store_submit_end(intake->submission->stored, id, replayed, err);
    ld_heap_free(intake->submission);
    intake->submission = NULL;
    if (code == LD_OK)
        ld_metrics_add(intake->front->metrics, count_of(intake, *replayed), 1);
    if (code == LD_OK && !*replayed)
        ld_supervisor_wake(intake->front->supervisor);
    return code;
}
