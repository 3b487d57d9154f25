/*
 * Completing a text: tokens of the prompt into the decoder, then one chosen token after another.
 * The decoder keeps what it has read; where the next prompt starts alike, that part is not read
 * again, which changes no bit of the result.
 */
#include "runtime/tipo/language.h"

#include "runtime/base/arena.h"
#include "runtime/tipo/choice.h"
#include "runtime/tipo/llama.h"
#include "runtime/tipo/pieces.h"

#include <math.h>

enum { ROOM_MIN = 16 /* positions that a prompt leaves for its continuation */ };

struct ld_language {
    struct ld_gguf *file;
    struct ld_pieces *pieces;
    struct ld_llama *llama;
    struct ld_language_facts facts;
    char *name;
    uint32_t *prompt; /* [context] */
    uint32_t *tokens; /* [context]: what the decoder has read, of which its position counts */
    float *logits;    /* [vocabulary] */
    struct ld_candidate *candidates; /* [vocabulary] */
};

/* ---- Opening --------------------------------------------------------------------------------- */

static enum ld_code note_facts(struct ld_language *language, struct ld_error *err)
{
    struct ld_span name = ld_span_text("");
    const enum ld_code code = ld_gguf_text(language->file, "general.name", false, &name, err);
    if (code != LD_OK)
        return code;
    language->name = ld_heap_strdup(ld_gguf_show(name).text);
    if (!language->name)
        return LD_FAIL(err, LD_E_NOMEM, "not enough memory for a language model");
    const struct ld_llama_sizes *sizes = ld_llama_sizes(language->llama);
    language->facts = (struct ld_language_facts){.name = language->name,
                                                 .layers = sizes->layers,
                                                 .width = sizes->width,
                                                 .mlp_width = sizes->mlp_width,
                                                 .heads = sizes->heads,
                                                 .kv_heads = sizes->kv_heads,
                                                 .vocabulary = sizes->vocabulary,
                                                 .context = sizes->context,
                                                 .parameters = sizes->parameters,
                                                 .bytes = sizes->bytes};
    return LD_OK;
}

static enum ld_code make_room(struct ld_language *language, struct ld_error *err)
{
    const struct ld_llama_sizes *sizes = ld_llama_sizes(language->llama);
    if (sizes->vocabulary != ld_pieces_count(language->pieces))
        return LD_FAIL(err, LD_E_FORMAT, "the file's decoder has %u tokens, its tokenizer %u",
                       sizes->vocabulary, ld_pieces_count(language->pieces));
    language->prompt = ld_heap_calloc(sizes->context, sizeof *language->prompt);
    language->tokens = ld_heap_calloc(sizes->context, sizeof *language->tokens);
    language->logits = ld_heap_calloc(sizes->vocabulary, sizeof *language->logits);
    language->candidates = ld_heap_calloc(sizes->vocabulary, sizeof *language->candidates);
    if (!language->prompt || !language->tokens || !language->logits || !language->candidates)
        return LD_FAIL(err, LD_E_NOMEM, "not enough memory for a language model");
    return LD_OK;
}

enum ld_code ld_language_open(struct ld_language **out, const char *path, uint32_t threads,
                              struct ld_error *err)
{
    LD_ASSERT(out != NULL && path != NULL);
    *out = NULL;
    struct ld_language *language = ld_heap_alloc(sizeof *language);
    if (!language)
        return LD_FAIL(err, LD_E_NOMEM, "not enough memory for a language model");
    enum ld_code code = ld_gguf_open(&language->file, path, err);
    if (code == LD_OK)
        code = ld_pieces_create(&language->pieces, language->file, err);
    if (code == LD_OK)
        code = ld_llama_create(&language->llama, language->file, threads, err);
    if (code == LD_OK)
        code = make_room(language, err);
    if (code == LD_OK)
        code = note_facts(language, err);
    if (code == LD_OK)
        *out = language;
    else
        ld_language_close(language);
    return code;
}

void ld_language_close(struct ld_language *language)
{
    if (!language)
        return;
    ld_llama_destroy(language->llama);
    ld_pieces_destroy(language->pieces);
    ld_gguf_close(language->file);
    ld_heap_free(language->name);
    ld_heap_free(language->prompt);
    ld_heap_free(language->tokens);
    ld_heap_free(language->logits);
    ld_heap_free(language->candidates);
    ld_heap_free(language);
}

const struct ld_language_facts *ld_language_facts(const struct ld_language *language)
{
    return &language->facts;
}

/* ---- Completing ------------------------------------------------------------------------------ */

static enum ld_code check_interrupt(const struct ld_cancel *interrupt, struct ld_error *err)
{
    if (interrupt && atomic_load(&interrupt->requested))
        return LD_FAIL(err, LD_E_CANCELLED, "the continuation of the text was cancelled");
    return LD_OK;
}

static enum ld_code feed(struct ld_language *language, const uint32_t *ids, uint32_t count,
                         float *logits, struct ld_error *err)
{
    const uint32_t position = ld_llama_position(language->llama);
    const enum ld_code code = ld_llama_feed(language->llama, ids, count, logits, err);
    if (code == LD_OK)
        memcpy(language->tokens + position, ids, count * sizeof *ids);
    return code;
}

/* Keep what the decoder has read as far as the prompt starts alike; at least the last token of the
 * prompt is read again, for its logits. */
static void keep_shared(struct ld_language *language, uint32_t count)
{
    const uint32_t position = ld_llama_position(language->llama);
    uint32_t shared = 0;
    while (shared < position && shared + 1 < count &&
           language->tokens[shared] == language->prompt[shared])
        shared++;
    ld_llama_rewind(language->llama, shared);
}

static enum ld_code read_prompt(struct ld_language *language, struct ld_span text,
                                const struct ld_cancel *interrupt, struct ld_error *err)
{
    const uint32_t context = language->facts.context;
    uint32_t count;
    enum ld_code code =
        ld_pieces_encode(language->pieces, text, language->prompt, context, &count, err);
    if (code != LD_OK)
        return code;
    if (count > context - ROOM_MIN)
        return LD_FAIL(
            err, LD_E_TOO_LARGE,
            "the prompt has %u tokens for the language model; at most %u of its %u are for "
            "a prompt",
            count, context - ROOM_MIN, context);
    if (count == 0) /* no text, and no begin token by the file's wish: there must be something */
        language->prompt[count++] = ld_pieces_begin(language->pieces);
    keep_shared(language, count);
    uint32_t done = ld_llama_position(language->llama);
    while (code == LD_OK && done < count) {
        const uint32_t rows = count - done < LD_LLAMA_BLOCK ? count - done : LD_LLAMA_BLOCK;
        code = check_interrupt(interrupt, err);
        if (code == LD_OK)
            code = feed(language, language->prompt + done, rows,
                        done + rows == count ? language->logits : NULL, err);
        done += rows;
    }
    return code;
}

/* From the logits of the tokens so far. The begin and unknown tokens are never chosen. */
static enum ld_code next_token(struct ld_language *language, const struct ld_token_choice *choice,
                               uint32_t draw, uint32_t *out, struct ld_error *err)
{
    const uint32_t banned[] = {ld_pieces_begin(language->pieces),
                               ld_pieces_unknown(language->pieces)};
    for (size_t i = 0; i < sizeof banned / sizeof banned[0]; i++)
        if (banned[i] != ld_pieces_end(language->pieces) && !isnan(language->logits[banned[i]]))
            language->logits[banned[i]] = -INFINITY;
    return ld_choice_next(choice, language->logits, language->facts.vocabulary, language->tokens,
                          ld_llama_position(language->llama), draw, language->candidates, out, err);
}

enum ld_code ld_language_complete(struct ld_language *language, struct ld_span prompt,
                                  const struct ld_token_choice *choice,
                                  const struct ld_cancel *interrupt, struct ld_buffer *out,
                                  struct ld_error *err)
{
    LD_ASSERT(language != NULL && choice != NULL && out != NULL);
    enum ld_code code = ld_choice_check(choice, err);
    if (code == LD_OK)
        code = read_prompt(language, prompt, interrupt, err);
    for (uint32_t i = 0; code == LD_OK && i < choice->tokens_max; i++) {
        uint32_t id;
        code = check_interrupt(interrupt, err);
        if (code == LD_OK)
            code = next_token(language, choice, i, &id, err);
        if (code != LD_OK || id == ld_pieces_end(language->pieces))
            break;
        ld_pieces_write(language->pieces, id, out);
        if (out->failed)
            return LD_FAIL(err, LD_E_TOO_LARGE, "the continuation is longer than %zu bytes",
                           out->bytes_limit);
        if (ld_llama_position(language->llama) == language->facts.context ||
            i + 1 == choice->tokens_max)
            break;
        code = feed(language, &id, 1, language->logits, err);
    }
    return code;
}
