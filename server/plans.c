#include "server/supervisor_internal.h"

#include "runtime/base/clock.h"

/* A worker answers between two ticks, and one tick of a large picture on a CPU takes long. */
static const int64_t plan_patience_us = (int64_t)60 * 1000000;
/* A slow disk and several GiB; prompts that wait for others to be extended on a slow CPU. */
static const int64_t long_patience_us = (int64_t)300 * 1000000;

/* Prompts of one key that a worker extends, or that wait for it: those of others wait behind. */
enum { EXTENSIONS_PER_TENANT = 4 };

/* With the lock. */
static bool may_ask(const struct ld_supervisor *supervisor, const struct ld_plan_note *asked)
{
    uint32_t count = 0;
    for (const struct ld_plan_note *note = supervisor->plans; note; note = note->next)
        count += note->question == LD_QUESTION_EXTEND && strcmp(note->tenant, asked->tenant) == 0;
    return asked->question != LD_QUESTION_EXTEND || count < EXTENSIONS_PER_TENANT;
}

/* `asked`: what the note shall be, but for its text. */
static void ask(struct ld_supervisor *supervisor, const char *request_json,
                const struct ld_plan_note *asked)
{
    const size_t size = strlen(request_json) + 1;
    struct ld_plan_note *note = ld_heap_alloc(sizeof *note + size);
    if (!note) {
        asked->answer(asked->ctx, LD_E_NOMEM, "out of memory", "");
        return;
    }
    *note = *asked;
    memcpy(note->request_json, request_json, size);
    note->until_us = ld_clock_monotonic_us() +
                     (note->question == LD_QUESTION_PLAN ? plan_patience_us : long_patience_us);
    pthread_mutex_lock(&supervisor->lock);
    const bool may = may_ask(supervisor, note);
    if (may) {
        note->next = supervisor->plans;
        supervisor->plans = note;
    }
    pthread_mutex_unlock(&supervisor->lock);
    if (may) {
        ld_supervisor_wake(supervisor);
        return;
    }
    asked->answer(asked->ctx, LD_E_RATE,
                  "prompts of this key are being extended already; try again in a moment", "");
    ld_heap_free(note);
}

void ld_supervisor_plan(struct ld_supervisor *supervisor, const char *request_json,
                        ld_plan_answer answer, void *ctx)
{
    ask(supervisor, request_json,
        &(struct ld_plan_note){.question = LD_QUESTION_PLAN, .answer = answer, .ctx = ctx});
}

void ld_supervisor_extend(struct ld_supervisor *supervisor, const char *tenant,
                          const char *request_json, ld_plan_answer answer, void *ctx)
{
    struct ld_plan_note asked = {.question = LD_QUESTION_EXTEND, .answer = answer, .ctx = ctx};
    (void)ld_fmt(asked.tenant, sizeof asked.tenant, "%s", tenant);
    ask(supervisor, request_json, &asked);
}

void ld_supervisor_model(struct ld_supervisor *supervisor, const char *name,
                         enum ld_model_order order, ld_plan_answer answer, void *ctx)
{
    ask(supervisor, name,
        &(struct ld_plan_note){
            .question = LD_QUESTION_MODEL, .order = order, .answer = answer, .ctx = ctx});
}

void ld_supervisor_rescan(struct ld_supervisor *supervisor, ld_plan_answer answer, void *ctx)
{
    ld_supervisor_model(supervisor, "", LD_MODEL_RESCAN, answer, ctx);
}

/* With the lock: answer the note at `place` and free it. Answering under the lock is what makes
 * ld_supervisor_plan_drop final. */
static void answer_note(struct ld_plan_note **place, enum ld_code code, const char *detail,
                        const char *json)
{
    struct ld_plan_note *note = *place;
    *place = note->next;
    if (note->ctx)
        note->answer(note->ctx, code, detail, json);
    ld_heap_free(note);
}

void ld_supervisor_plan_drop(struct ld_supervisor *supervisor, void *ctx)
{
    pthread_mutex_lock(&supervisor->lock);
    for (struct ld_plan_note **place = &supervisor->plans; *place;) {
        struct ld_plan_note *note = *place;
        if (note->ctx == ctx && note->question == LD_QUESTION_EXTEND && note->number != 0)
            note->ctx = NULL; /* the worker is at it: it counts until that has answered */
        if (note->ctx != ctx) {
            place = &note->next;
            continue;
        }
        *place = note->next;
        ld_heap_free(note);
    }
    pthread_mutex_unlock(&supervisor->lock);
}

static struct ld_slot *ready_slot(struct ld_supervisor *supervisor)
{
    for (uint32_t i = 0; i < supervisor->config.workers; i++) {
        if (supervisor->slots[i].state == LD_SLOT_READY)
            return &supervisor->slots[i];
    }
    return NULL;
}

/* To every worker that is ready. */
static bool send_model(struct ld_supervisor *supervisor, struct ld_plan_note *note)
{
    struct ld_error err;
    const struct ld_message_model message = {note->order, ld_span_text(note->request_json)};
    struct ld_buffer payload = ld_buffer_make(4096);
    ld_message_model_encode(&payload, &message);
    note->number = ++supervisor->plan_next;
    bool sent = !payload.failed;
    for (uint32_t i = 0; sent && i < supervisor->config.workers; i++) {
        struct ld_slot *slot = &supervisor->slots[i];
        if (slot->state != LD_SLOT_READY)
            continue;
        sent = ld_slot_send(slot, LD_FRAME_MODEL, "", note->number,
                            ld_span_of(payload.data, payload.size), &err) == LD_OK;
        note->waits++;
    }
    ld_buffer_deinit(&payload);
    return sent;
}

static bool send_note(struct ld_supervisor *supervisor, struct ld_slot *slot,
                      struct ld_plan_note *note)
{
    if (note->question == LD_QUESTION_MODEL)
        return send_model(supervisor, note);
    struct ld_error err;
    const struct ld_message_job job = {.request = ld_span_text(note->request_json)};
    struct ld_buffer payload = ld_buffer_make(1 << 20);
    ld_message_job_encode(&payload, &job);
    note->number = ++supervisor->plan_next;
    note->slot = slot->index;
    const enum ld_frame_type type =
        note->question == LD_QUESTION_PLAN ? LD_FRAME_PLAN : LD_FRAME_EXTEND;
    const bool sent =
        !payload.failed && ld_slot_send(slot, type, "", note->number,
                                        ld_span_of(payload.data, payload.size), &err) == LD_OK;
    ld_buffer_deinit(&payload);
    return sent;
}

/* ---- Scans of folders ------------------------------------------------------------------------ */

static bool is_scan(const struct ld_plan_note *note)
{
    return note->question == LD_QUESTION_MODEL && note->order == LD_MODEL_RESCAN;
}

/* Whether the note has to wait for the scan that runs. All that wait are sent as one: `*round` is
 * the scan that this turn has sent. */
static bool joins_scan(const struct ld_supervisor *supervisor, struct ld_plan_note *note,
                       uint64_t round)
{
    if (!is_scan(note) || supervisor->scan_number == 0)
        return false;
    if (supervisor->scan_number == round) {
        note->number = round;
        note->waits = supervisor->scan_waits;
    }
    return true;
}

/* What kept a worker from starting, a folder without a model above all, may be mended. The breaker
 * is not for that and stays as it is. */
static void start_failed(struct ld_supervisor *supervisor, int64_t now_us)
{
    for (uint32_t i = 0; i < supervisor->config.workers; i++) {
        struct ld_slot *slot = &supervisor->slots[i];
        if (slot->state != LD_SLOT_DOWN || slot->disabled)
            continue;
        slot->quick_deaths = 0;
        slot->start_at_us = now_us;
    }
}

/* ---- Questions and answers ------------------------------------------------------------------- */

void ld_supervisor_send_plans(struct ld_supervisor *supervisor, int64_t now_us)
{
    struct ld_slot *slot = ready_slot(supervisor);
    uint64_t round = 0;
    pthread_mutex_lock(&supervisor->lock);
    for (struct ld_plan_note **place = &supervisor->plans; *place;) {
        struct ld_plan_note *note = *place;
        if (note->until_us < now_us) {
            answer_note(place, LD_E_TIMEOUT, "no worker answered in time", "");
        } else if (note->number == 0 && !slot) {
            if (is_scan(note))
                start_failed(supervisor, now_us);
            answer_note(place, LD_E_UNSUPPORTED, "no worker is ready", "");
        } else if (note->number != 0 || joins_scan(supervisor, note, round)) {
            place = &note->next;
        } else if (!send_note(supervisor, slot, note)) {
            answer_note(place, LD_E_NOMEM, "out of memory", "");
        } else {
            if (is_scan(note)) {
                round = supervisor->scan_number = note->number;
                supervisor->scan_waits = note->waits;
            }
            place = &note->next;
        }
    }
    pthread_mutex_unlock(&supervisor->lock);
}

void ld_supervisor_plan_answered(struct ld_supervisor *supervisor, uint64_t number,
                                 enum ld_code code, struct ld_span detail, struct ld_span plan)
{
    char sentence[LD_ERROR_DETAIL_SIZE];
    struct ld_buffer json = ld_buffer_make(plan.size + 1);
    (void)ld_fmt(sentence, sizeof sentence, "%.*s", (int)detail.size, (const char *)detail.data);
    ld_buffer_bytes(&json, plan.data, plan.size);
    if (number != 0 && number == supervisor->scan_number && --supervisor->scan_waits == 0)
        supervisor->scan_number = 0;
    pthread_mutex_lock(&supervisor->lock);
    for (struct ld_plan_note **place = &supervisor->plans; *place;) {
        if ((*place)->number == number && number != 0 && code == LD_OK && (*place)->waits > 1) {
            (*place)->waits--; /* others have not answered yet */
            place = &(*place)->next;
        } else if ((*place)->number == number && number != 0)
            answer_note(place, json.failed ? LD_E_NOMEM : code, sentence,
                        json.data ? json.data : "");
        else
            place = &(*place)->next;
    }
    pthread_mutex_unlock(&supervisor->lock);
    ld_buffer_deinit(&json);
}

void ld_supervisor_plans_lost(struct ld_supervisor *supervisor, uint32_t slot)
{
    supervisor->scan_number = 0;
    pthread_mutex_lock(&supervisor->lock);
    for (struct ld_plan_note **place = &supervisor->plans; *place;) {
        if (slot == UINT32_MAX ||
            ((*place)->number != 0 &&
             ((*place)->question == LD_QUESTION_MODEL || (*place)->slot == slot)))
            answer_note(place, LD_E_UNSUPPORTED, "the worker ended before it answered", "");
        else
            place = &(*place)->next;
    }
    pthread_mutex_unlock(&supervisor->lock);
}
