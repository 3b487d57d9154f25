/*
 * A language model file from the command line, for tests that compare it with other programs:
 *
 *     language tokens FILE                     the text on stdin -> its token ids, on one line
 *     language logits FILE ID...               the logits of the token after these, one a line
 *     language complete FILE SEED TEMPERATURE  the prompt on stdin -> its continuation, at most 512
 * tokens
 *
 * `complete` limits and penalises nothing: top-p 1, min-p 0, no top-k, repetition penalty 1.
 */
#include "runtime/tipo/language.h"
#include "runtime/base/arena.h"
#include "runtime/tipo/llama.h"
#include "runtime/tipo/pieces.h"

#include <stdio.h>
#include <string.h>

enum { IDS_MAX = 3 * (LD_PIECES_TEXT_MAX + 1) };

static int told(const struct ld_error *err)
{
    fprintf(stderr, "language: %s\n", err->detail);
    return 1;
}

static bool read_input(struct ld_buffer *text)
{
    char part[4096];
    size_t got;
    while ((got = fread(part, 1, sizeof part, stdin)) > 0)
        ld_buffer_bytes(text, part, got);
    return !ferror(stdin) && !text->failed;
}

static int show_tokens(const char *path, struct ld_span text)
{
    struct ld_error err = {0};
    struct ld_gguf *file = NULL;
    struct ld_pieces *pieces = NULL;
    uint32_t *ids = ld_heap_calloc(IDS_MAX, sizeof *ids);
    uint32_t count = 0;
    enum ld_code code = ids ? LD_OK : LD_FAIL(&err, LD_E_NOMEM, "out of memory");
    if (code == LD_OK)
        code = ld_gguf_open(&file, path, &err);
    if (code == LD_OK)
        code = ld_pieces_create(&pieces, file, &err);
    if (code == LD_OK)
        code = ld_pieces_encode(pieces, text, ids, IDS_MAX, &count, &err);
    for (uint32_t i = 0; code == LD_OK && i < count && i < IDS_MAX; i++)
        printf("%s%u", i > 0 ? " " : "", ids[i]);
    if (code == LD_OK)
        printf("\n");
    ld_pieces_destroy(pieces);
    ld_gguf_close(file);
    ld_heap_free(ids);
    return code == LD_OK ? 0 : told(&err);
}

static enum ld_code read_ids(uint32_t *ids, int count, char **texts, struct ld_error *err)
{
    for (int i = 0; i < count; i++) {
        int64_t number;
        if (!ld_parse_i64(ld_span_text(texts[i]), &number) || !ld_narrow_u32(number, &ids[i]))
            return LD_FAIL(err, LD_E_INVALID, "'%s' is no token id", texts[i]);
    }
    return LD_OK;
}

static enum ld_code print_logits(struct ld_llama *llama, const uint32_t *ids, uint32_t count,
                                 struct ld_error *err)
{
    const uint32_t vocabulary = ld_llama_sizes(llama)->vocabulary;
    float *logits = ld_heap_calloc(vocabulary, sizeof *logits);
    enum ld_code code = logits ? LD_OK : LD_FAIL(err, LD_E_NOMEM, "out of memory");
    if (code == LD_OK)
        code = ld_llama_feed(llama, ids, count, logits, err);
    for (uint32_t i = 0; code == LD_OK && i < vocabulary; i++)
        printf("%.9g\n", (double)logits[i]);
    ld_heap_free(logits);
    return code;
}

static int show_logits(const char *path, int count, char **texts)
{
    struct ld_error err = {0};
    struct ld_gguf *file = NULL;
    struct ld_llama *llama = NULL;
    uint32_t *ids = ld_heap_calloc((size_t)count, sizeof *ids);
    enum ld_code code = ids ? LD_OK : LD_FAIL(&err, LD_E_NOMEM, "out of memory");
    if (code == LD_OK)
        code = read_ids(ids, count, texts, &err);
    if (code == LD_OK)
        code = ld_gguf_open(&file, path, &err);
    if (code == LD_OK)
        code = ld_llama_create(&llama, file, 0, &err);
    if (code == LD_OK)
        code = print_logits(llama, ids, (uint32_t)count, &err);
    ld_llama_destroy(llama);
    ld_gguf_close(file);
    ld_heap_free(ids);
    return code == LD_OK ? 0 : told(&err);
}

static int show_continuation(const char *path, const char *seed, const char *temperature,
                             struct ld_span prompt)
{
    struct ld_error err = {0};
    struct ld_language *language = NULL;
    struct ld_buffer out = ld_buffer_make(1 << 20);
    struct ld_token_choice choice = {.top_p = 1.0, .repetition_penalty = 1.0, .tokens_max = 512};
    enum ld_code code = LD_OK;
    if (!ld_parse_u64(ld_span_text(seed), &choice.seed) ||
        !ld_parse_double(ld_span_text(temperature), &choice.temperature))
        code = LD_FAIL(&err, LD_E_INVALID, "SEED is a whole number, TEMPERATURE a number");
    if (code == LD_OK)
        code = ld_language_open(&language, path, 0, &err);
    if (code == LD_OK)
        code = ld_language_complete(language, prompt, &choice, NULL, &out, &err);
    if (code == LD_OK)
        (void)fwrite(out.data, 1, out.size, stdout);
    ld_language_close(language);
    ld_buffer_deinit(&out);
    return code == LD_OK ? 0 : told(&err);
}

int main(int argc, char **argv)
{
    struct ld_buffer text = ld_buffer_make(1 << 20);
    int status = 2;
    const bool reads = argc > 1 && strcmp(argv[1], "logits") != 0;
    if (reads && !read_input(&text))
        fprintf(stderr, "language: stdin cannot be read or is too long\n");
    else if (argc == 3 && strcmp(argv[1], "tokens") == 0)
        status = show_tokens(argv[2], ld_span_of(text.data, text.size));
    else if (argc >= 4 && strcmp(argv[1], "logits") == 0)
        status = show_logits(argv[2], argc - 3, argv + 3);
    else if (argc == 5 && strcmp(argv[1], "complete") == 0)
        status = show_continuation(argv[2], argv[3], argv[4], ld_span_of(text.data, text.size));
    else
        fprintf(stderr, "usage: language tokens FILE | logits FILE ID... | complete FILE SEED "
                        "TEMPERATURE\n");
    ld_buffer_deinit(&text);
    return status == 0 && fflush(stdout) != 0 ? 1 : status;
}
