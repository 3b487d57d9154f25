#include "server/handlers.h"

#include "api/respond.h"
#include "runtime/base/json_find.h"
#include "server/ask.h"
#include "server/front.h"

/* What the caller wants to know of a request. */
enum wanted {
    WANTED_PLAN,   /* /v1/plan */
    WANTED_TOKENS, /* /v1/prompt/parse */
    WANTED_PROMPT  /* /v1/prompt/extend */
};

struct planning {
    struct ld_answer answer;
    struct ld_buffer request_json, warnings_json;
    int64_t work_units;
    enum wanted wanted;
};

static void end_planning(void *state)
{
    struct planning *planning = state;
    ld_answer_end(&planning->answer);
    ld_buffer_deinit(&planning->request_json);
    ld_buffer_deinit(&planning->warnings_json);
    ld_heap_free(planning);
}

static int64_t queue_eta_ms(struct ld_exchange *ex)
{
    const double rate = ld_store_rate(ex->front->store);
    const int64_t cost_ahead = ld_store_forecast(ex->front->store, ex->tenant);
    if (cost_ahead == 0)
        return 0;
    return rate > 0 ? (int64_t)((double)cost_ahead * 1000 / rate) : -1;
}

static enum ld_handled reply_tokens(struct ld_exchange *ex, const struct planning *planning)
{
    struct ld_span tokens;
    struct ld_span warnings;
    struct ld_buffer *out = &ex->reply.body;
    const struct ld_span json = ld_span_of(planning->answer.json.data, planning->answer.json.size);
    ld_buffer_text(out, "{\"tokens\":");
    if (ld_json_find_span(json, "/tokens/prompt", &tokens))
        ld_buffer_bytes(out, tokens.data, tokens.size);
    else
        ld_buffer_text(out, "[]");
    ld_buffer_text(out, ",\"warnings\":");
    if (ld_json_find_span(json, "/warnings", &warnings))
        ld_buffer_bytes(out, warnings.data, warnings.size);
    else
        ld_buffer_text(out, "[]");
    ld_buffer_text(out, "}");
    return ld_exchange_json(ex, 200);
}

/* The worker's members but its warnings, which join the request's own. */
static void split_warnings(const struct planning *planning, struct ld_buffer *members,
                           struct ld_buffer *warnings)
{
    struct ld_span list;
    const struct ld_span json = ld_span_of(planning->answer.json.data, planning->answer.json.size);
    const struct ld_span own =
        ld_span_of(planning->warnings_json.data, planning->warnings_json.size);
    const bool has_own = own.size > 2; /* more than "[]" */
    ld_buffer_bytes(warnings, own.data, has_own ? own.size - 1 : 0);
    if (!ld_json_find_span(json, "/warnings", &list) || list.size < 2) {
        ld_buffer_bytes(members, json.data, json.size);
        ld_buffer_text(warnings, has_own ? "]" : "[]");
        return;
    }
    if (has_own && list.size > 2)
        ld_buffer_byte(warnings, ',');
    ld_buffer_bytes(warnings, list.data + (has_own ? 1 : 0), list.size - (has_own ? 1 : 0));
    /* The member goes, with the comma before it (or, for the first, the one behind). */
    const size_t start = (size_t)(list.data - json.data);
    const size_t end = start + list.size;
    size_t key = start;
    while (key > 0 && json.data[key] != ',' && json.data[key] != '{')
        key--;
    const bool first = json.data[key] == '{';
    const bool more = end < json.size && json.data[end] == ',';
    ld_buffer_bytes(members, json.data, first ? key + 1 : key);
    ld_buffer_bytes(members, json.data + end + (first && more ? 1 : 0),
                    json.size - end - (first && more ? 1 : 0));
}

static enum ld_handled write_plan(struct ld_exchange *ex, const struct planning *planning)
{
    struct ld_buffer members = ld_buffer_make(2 << 20);
    struct ld_buffer warnings = ld_buffer_make(2 << 20);
    split_warnings(planning, &members, &warnings);
    const struct ld_plan_view view = {
        .request_json = planning->request_json.data,
        .engine_json = members.failed ? "{}" : members.data,
        .work_units = planning->work_units,
        .queue_eta_ms = queue_eta_ms(ex),
        .warnings_json = warnings.failed ? "[]" : warnings.data,
    };
    ld_respond_plan(&view, &ex->reply.body);
    ld_buffer_deinit(&members);
    ld_buffer_deinit(&warnings);
    return ld_exchange_json(ex, 200);
}

/* The worker's answer, with the request's own warnings before its. */
static enum ld_handled reply_prompt(struct ld_exchange *ex, const struct planning *planning)
{
    struct ld_buffer members = ld_buffer_make(1 << 20);
    struct ld_buffer warnings = ld_buffer_make(2 << 20);
    struct ld_buffer *out = &ex->reply.body;
    split_warnings(planning, &members, &warnings);
    ld_buffer_bytes(out, members.data, members.size ? members.size - 1 : 0);
    ld_buffer_text(out, ",\"warnings\":");
    ld_buffer_bytes(out, warnings.data, warnings.size);
    ld_buffer_byte(out, '}');
    const bool failed = members.failed || warnings.failed;
    ld_buffer_deinit(&members);
    ld_buffer_deinit(&warnings);
    if (failed)
        return ld_exchange_refuse(ex, LD_E_NOMEM, 0, "out of memory");
    return ld_exchange_json(ex, 200);
}

static enum ld_handled reply_plan(struct ld_exchange *ex)
{
    const struct planning *planning = ex->state;
    if (ld_answer_is_late(&planning->answer))
        return ld_exchange_refuse(ex, planning->answer.code, 503, planning->answer.detail);
    if (planning->answer.code != LD_OK)
        return ld_exchange_refuse(ex, planning->answer.code, 0, planning->answer.detail);
    if (planning->answer.json.failed)
        return ld_exchange_refuse(ex, LD_E_NOMEM, 0, "out of memory");
    if (planning->wanted == WANTED_TOKENS)
        return reply_tokens(ex, planning);
    if (planning->wanted == WANTED_PROMPT)
        return reply_prompt(ex, planning);
    return write_plan(ex, planning);
}

static enum ld_handled wait_for_answer(struct ld_exchange *ex)
{
    const struct planning *planning = ex->state;
    if (atomic_load(&planning->answer.there))
        return reply_plan(ex);
    return ld_ask_wait(ex, INT64_MAX);
}

static enum ld_handled ask(struct ld_exchange *ex, enum wanted wanted)
{
    struct ld_intake intake;
    struct planning *planning = ld_heap_alloc(sizeof *planning);
    if (!planning)
        return ld_exchange_refuse(ex, LD_E_NOMEM, 0, "out of memory");
    planning->wanted = wanted;
    ld_answer_init(&planning->answer, ex, 2 << 20);
    planning->request_json = ld_buffer_make(2 << 20);
    planning->warnings_json = ld_buffer_make(1 << 20);
    ex->state = planning;
    ex->state_free = end_planning;
    ld_intake_init(&intake, ex);
    intake.unpainted = wanted != WANTED_PLAN;
    const bool accepted = ld_intake_accept(&intake, ex->tenant, ex->body);
    if (accepted) {
        planning->work_units = intake.cell_count ? 0 : ld_request_work(&intake.native.request);
        for (uint32_t i = 0; i < intake.cell_count; i++)
            planning->work_units += intake.cells[i].work;
        ld_buffer_text(&planning->request_json, intake.request_json.data);
        ld_buffer_text(&planning->warnings_json, intake.warnings_json.data);
    } else {
        (void)ld_exchange_problem(ex, &intake.native.problem);
    }
    ld_intake_deinit(&intake);
    if (!accepted)
        return LD_HANDLED;
    if (wanted == WANTED_PROMPT)
        ld_supervisor_extend(ex->front->supervisor, ex->tenant, planning->request_json.data,
                             ld_answer_take, &planning->answer);
    else
        ld_supervisor_plan(ex->front->supervisor, planning->request_json.data, ld_answer_take,
                           &planning->answer);
    return wait_for_answer(ex);
}

enum ld_handled ld_handle_plan(struct ld_exchange *ex)
{
    return ex->state ? wait_for_answer(ex) : ask(ex, WANTED_PLAN);
}

/* The fields of a request that say how its prompt is read; everything else is the model's. */
enum ld_handled ld_handle_prompt_parse(struct ld_exchange *ex)
{
    static const char *const known[] = {"prompt", "syntax", "steps", "model"};
    struct ld_json_tree tree;
    struct ld_error err = {0};
    if (ex->state)
        return wait_for_answer(ex);
    if (ld_json_scan(&tree, ex->body, LD_JSON_DEPTH, LD_JSON_VALUES, &ex->arena, &err) != LD_OK)
        return ld_exchange_fail(ex, &err);
    const struct ld_json_node *root = ld_json_root(&tree);
    uint32_t recognised = 0;
    for (size_t i = 0; root->kind == LD_JSON_OBJECT_BEGIN && i < 4; i++)
        recognised += ld_json_member(&tree, root, known[i]) ? 1 : 0;
    if (root->kind != LD_JSON_OBJECT_BEGIN || recognised != root->child_count)
        return ld_exchange_refuse(ex, LD_E_INVALID, 0,
                                  "the fields here are prompt, syntax, steps and model");
    return ask(ex, WANTED_TOKENS);
}

/* A request whose prompt its author wants to see before anything is painted; `tipo` may be left out
 * here. */
enum ld_handled ld_handle_prompt_extend(struct ld_exchange *ex)
{
    if (!ex->front->settings->tipo_model[0])
        return ld_exchange_refuse(ex, LD_E_CONFLICT, 0,
                                  "this server has no TIPO model; models.tipo_model (--tipo-model) "
                                  "names its .gguf file");
    return ex->state ? wait_for_answer(ex) : ask(ex, WANTED_PROMPT);
}
