#include "runtime/tipo/tipo.h"

#include "runtime/text/prompt.h"

enum {
    ARENA_BYTES = 64 << 20,        /* all texts of a schedule with their segments */
    QUESTION_BYTES_MAX = 16 << 10, /* six lines, a target and two blocks stay far below */
    ANSWER_BYTES_MAX = 64 << 10,
    ANSWERS_BYTES_MAX = 8 << 10 /* of all calls: some 2,000 tokens, a minute where a CPU is slow */
};

struct run {
    const struct ld_tipo_writer *writer;
    const struct ld_tipo_wish *wish;
    const struct ld_cancel *interrupt;
    struct ld_tipo_merge merge;
    struct ld_buffer text; /* a question, and then its answer behind it */
    uint64_t calls;
    size_t answered; /* bytes, of all calls */
    bool full;       /* the model has no room for a longer text */
    struct ld_error *err;
};

struct ld_token_choice ld_tipo_choice(uint64_t seed)
{
    return (struct ld_token_choice){.temperature = 0.5,
                                    .top_p = 0.95,
                                    .min_p = 0.05,
                                    .top_k = 80,
                                    .repetition_penalty = 1.17,
                                    .tokens_max = 512,
                                    .seed = seed};
}

/* ---- One call -------------------------------------------------------------------------------- */

/* Leaves question and answer in run->text. */
static enum ld_code ask(struct run *run, enum ld_tipo_task task)
{
    struct ld_token_choice choice = run->wish->choice;
    struct ld_buffer answer = ld_buffer_make(ANSWER_BYTES_MAX);
    enum ld_code code;
    if (run->interrupt && atomic_load(&run->interrupt->requested))
        return LD_FAIL(run->err, LD_E_CANCELLED, "cancelled");
    choice.seed += run->calls++;
    ld_buffer_clear(&run->text);
    ld_tipo_compose(task, run->wish->length, &run->merge.reading->given, &run->merge.found,
                    &run->text);
    code = run->text.failed
               ? LD_FAIL(run->err, LD_E_NOMEM, "out of memory while extending the prompt")
               : run->writer->complete(run->writer->ctx, ld_span_of(run->text.data, run->text.size),
                                       &choice, run->interrupt, &answer, run->err);
    if (code == LD_E_TOO_LARGE) { /* of the question, or of an answer without end */
        run->full = answer.size == 0;
        code = LD_OK;
        if (run->err)
            memset(run->err, 0, sizeof *run->err);
    }
    run->answered += answer.size;
    if (code == LD_OK)
        ld_buffer_bytes(&run->text, answer.data, answer.size);
    ld_buffer_deinit(&answer);
    return code;
}

/* ---- A pass ---------------------------------------------------------------------------------- */

/* Tags that are not written only help the text pass: one answer of them will do. */
static bool is_enough(const struct run *run, bool tags)
{
    const struct ld_tipo_bounds bounds = ld_tipo_bounds_of(run->wish->length);
    if (tags && run->wish->write == LD_TIPO_TEXT)
        return true;
    return tags ? ld_tipo_tag_count(&run->merge) >= bounds.tags_min
                : ld_tipo_sentence_count(&run->merge) >= bounds.sentences_min;
}

static bool has_room(const struct run *run, bool tags)
{
    const struct ld_tipo_bounds bounds = ld_tipo_bounds_of(run->wish->length);
    return tags ? ld_tipo_tag_count(&run->merge) < bounds.tags_max
                : ld_tipo_sentence_count(&run->merge) < bounds.sentences_max;
}

/* Texts of a pass that were there before, by their hashes. */
struct history {
    uint64_t hashes[LD_TIPO_RETRIES_MAX + 1];
    uint32_t count, equal;
};

static void remember(struct history *history, struct ld_span text)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325); /* FNV-1a */
    for (size_t i = 0; i < text.size; i++)
        hash = (hash ^ text.data[i]) * UINT64_C(0x100000001b3);
    for (uint32_t i = 0; i < history->count; i++) {
        if (history->hashes[i] == hash) {
            history->equal++;
            return;
        }
    }
    history->hashes[history->count++] = hash;
    history->equal = 0;
}

/* Ask until there is enough; what was found so far is part of the next question. Without chance an
 * equal question has an equal answer. */
static enum ld_code run_pass(struct run *run, enum ld_tipo_task task)
{
    const bool tags = task != LD_TIPO_TAG_TO_LONG;
    const uint32_t equal_max = run->wish->choice.temperature > 0 ? LD_TIPO_EQUAL_ANSWERS_MAX : 1;
    struct history history = {.count = 0};
    struct ld_tipo_answer answer;
    if (!has_room(run, tags))
        return LD_OK;
    for (int tries = 0; tries <= LD_TIPO_RETRIES_MAX && !run->full; tries++) {
        enum ld_code code = ask(run, task);
        if (code != LD_OK)
            return code;
        ld_tipo_parse(ld_span_of(run->text.data, run->text.size), &answer);
        code = tags ? ld_tipo_take_tags(&run->merge, &answer, run->err)
                    : ld_tipo_take_text(&run->merge, &answer, run->err);
        if (code != LD_OK)
            return code;
        if (is_enough(run, tags))
            break;
        remember(&history, ld_span_of(run->text.data, run->text.size));
        if (history.equal == equal_max || run->answered > ANSWERS_BYTES_MAX)
            break;
    }
    return LD_OK;
}

/* ---- All of it ------------------------------------------------------------------------------- */

/* Only special and general tags stand in the block of tags; names and quality do not ask for a task
 * with tags. */
static enum ld_code run_passes(struct run *run)
{
    const bool text = run->merge.reading->given.sentences.count > 0;
    const bool tags = ld_tipo_tag_count(&run->merge) > 0;
    enum ld_code code = LD_OK;
    if (run->wish->write != LD_TIPO_TEXT || !tags)
        code = run_pass(run, !text  ? LD_TIPO_EXPAND
                             : tags ? LD_TIPO_SHORT_TO_TAG
                                    : LD_TIPO_LONG_TO_TAG);
    if (code == LD_OK && run->wish->write != LD_TIPO_TAGS)
        code = run_pass(run, LD_TIPO_TAG_TO_LONG);
    return code;
}

static void tell(const struct run *run, uint32_t dropped, struct ld_notes *notes)
{
    const struct ld_tipo_bounds bounds = ld_tipo_bounds_of(run->wish->length);
    if (dropped > 0)
        ld_notes_add(notes, "Sentences of the text were left out: they are too long, or hold "
                            "characters or words that prompts give a meaning.");
    if (run->full)
        ld_notes_add(notes, "The prompt is too long for the language model; it could add no more.");
    else if (!is_enough(run, true))
        ld_notes_add(notes,
                     "The language model found no more tags: the prompt has %u, the length "
                     "asks for %u.",
                     ld_tipo_tag_count(&run->merge), bounds.tags_min);
    else if (run->wish->write != LD_TIPO_TAGS && !is_enough(run, false))
        ld_notes_add(notes,
                     "The language model found no more to say: the prompt has %u sentences, "
                     "the length asks for %u.",
                     ld_tipo_sentence_count(&run->merge), bounds.sentences_min);
}

/* Reads, asks and writes the result. */
static enum ld_code extend(struct run *run, struct ld_tag_avoid *avoid, struct ld_buffer *result,
                           struct ld_notes *notes)
{
    const struct ld_tipo_wish *wish = run->wish;
    struct ld_tipo_reading *reading = run->merge.reading;
    struct ld_arena *arena = run->merge.arena;
    const struct ld_span unwanted = ld_span_text(wish->avoid);
    uint32_t dropped = 0;
    enum ld_code code = ld_prompt_check(unwanted, LD_PROMPT_EXPANSION_BYTES_MAX, run->err);
    if (code == LD_OK)
        code = ld_tag_avoid_read(avoid, arena, unwanted, run->err);
    if (code == LD_OK)
        code =
            ld_tipo_read(reading, arena, run->writer->tags, wish->syntax, wish->prompt, run->err);
    if (code == LD_OK)
        code = ld_tipo_read_text(reading, arena, wish->text, &dropped, run->err);
    if (code == LD_OK)
        code = run_passes(run);
    if (code == LD_OK) {
        tell(run, dropped, notes);
        ld_tipo_write(&run->merge, wish->syntax, wish->write, wish->prompt, result, notes);
    }
    return code;
}

/* A prompt that leaves no room is not even read. */
static enum ld_code extend_or_keep(struct run *run, struct ld_tag_avoid *avoid,
                                   struct ld_buffer *result, struct ld_notes *notes)
{
    const struct ld_span prompt = ld_span_text(run->wish->prompt);
    const enum ld_code code = ld_prompt_check(prompt, LD_PROMPT_EXPANSION_BYTES_MAX, run->err);
    if (code != LD_OK)
        return code;
    if (prompt.size < LD_PROMPT_BYTES_MAX)
        return extend(run, avoid, result, notes);
    ld_notes_add(notes,
                 "The prompt has no room for what a language model could add: it has at "
                 "most %d bytes.",
                 LD_PROMPT_BYTES_MAX);
    ld_buffer_bytes(result, prompt.data, prompt.size);
    return LD_OK;
}

enum ld_code ld_tipo_extend(const struct ld_tipo_writer *writer, const struct ld_tipo_wish *wish,
                            const struct ld_cancel *interrupt, struct ld_buffer *out,
                            struct ld_notes *notes, struct ld_error *err)
{
    struct ld_arena arena;
    struct ld_buffer result = ld_buffer_make(LD_PROMPT_EXPANSION_BYTES_MAX);
    struct run run = {.writer = writer, .wish = wish, .interrupt = interrupt, .err = err};
    enum ld_code code;
    LD_ASSERT(wish->prompt && wish->text && wish->avoid);
    ld_arena_init(&arena, "tipo", ARENA_BYTES);
    run.text = ld_buffer_make(QUESTION_BYTES_MAX + ANSWER_BYTES_MAX);
    struct ld_tag_avoid *avoid = ld_arena_alloc(&arena, sizeof *avoid);
    run.merge.reading = ld_arena_alloc(&arena, sizeof *run.merge.reading);
    if (!avoid || !run.merge.reading) {
        code = LD_FAIL(err, LD_E_NOMEM, "out of memory while extending the prompt");
        goto done;
    }
    run.merge.arena = &arena;
    run.merge.tags = writer->tags;
    run.merge.avoid = avoid;
    run.merge.length = wish->length;
    code = extend_or_keep(&run, avoid, &result, notes);
    if (code != LD_OK)
        goto done;
    if (!result.failed)
        ld_buffer_bytes(out, result.data, result.size);
    if (result.failed || out->failed)
        code = LD_FAIL(err, LD_E_NOMEM, "out of memory while extending the prompt");
done:
    ld_buffer_deinit(&result);
    ld_buffer_deinit(&run.text);
    ld_arena_deinit(&arena);
    return code;
}
