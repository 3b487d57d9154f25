#include "runtime/extension.h"

#include "config/limits.h"
#include "config/tags.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/tipo/language.h"

enum { EXTENSION_ARENA_MAX = 1 << 20 };

struct ld_prompt_writer {
    struct ld_arena arena; /* of the two names */
    const char *path, *tag_folder;
    uint32_t threads;
    struct ld_language *language; /* NULL: not read yet */
    struct ld_tags *tags;         /* as that */
};

/* ---- The model ------------------------------------------------------------------------------- */

enum ld_code ld_prompt_writer_create(struct ld_prompt_writer **out, const char *path,
                                     const char *tag_folder, uint32_t threads, struct ld_error *err)
{
    struct ld_prompt_writer *writer = ld_heap_alloc(sizeof *writer);
    *out = writer;
    if (!writer)
        return LD_FAIL(err, LD_E_NOMEM, "out of memory");
    ld_arena_init(&writer->arena, "prompt writer", 64 << 10);
    writer->path = ld_arena_strdup(&writer->arena, path ? path : "");
    writer->tag_folder = ld_arena_strdup(&writer->arena, tag_folder ? tag_folder : "");
    writer->threads = threads;
    if (writer->path && writer->tag_folder)
        return LD_OK;
    ld_prompt_writer_destroy(writer);
    *out = NULL;
    return LD_FAIL(err, LD_E_NOMEM, "out of memory");
}

void ld_prompt_writer_destroy(struct ld_prompt_writer *writer)
{
    if (!writer)
        return;
    ld_language_close(writer->language);
    ld_tags_destroy(writer->tags);
    ld_arena_deinit(&writer->arena);
    ld_heap_free(writer);
}

/* Lists that cannot be read cost the classes of their tags, not the prompt. */
static void read_tags(struct ld_prompt_writer *writer)
{
    struct ld_error err = {0};
    if (!writer->tags && ld_tags_load(&writer->tags, writer->tag_folder, &err) != LD_OK) {
        ld_log_error(LD_LOG_WARN, "tipo", "the lists of tags cannot be used", &err);
        writer->tags = NULL;
    }
}

static enum ld_code read_model(struct ld_prompt_writer *writer, struct ld_error *err)
{
    struct ld_error why = {0};
    if (!writer->path[0])
        return LD_FAIL(err, LD_E_UNSUPPORTED,
                       "tipo: there is no TIPO model here; models.tipo_model (--tipo-model) names "
                       "its .gguf file");
    if (!writer->language &&
        ld_language_open(&writer->language, writer->path, writer->threads, &why) != LD_OK)
        return LD_FAIL(err, why.code, "tipo: the TIPO model cannot be used: %.400s", why.detail);
    read_tags(writer);
    return LD_OK;
}

static enum ld_code complete(void *ctx, struct ld_span prompt, const struct ld_token_choice *choice,
                             const struct ld_cancel *interrupt, struct ld_buffer *out,
                             struct ld_error *err)
{
    return ld_language_complete(ctx, prompt, choice, interrupt, out, err);
}

/* ---- One prompt ------------------------------------------------------------------------------ */

static void extend(struct ld_errand *errand)
{
    struct ld_extension *extension = (struct ld_extension *)errand;
    const int64_t start_us = ld_clock_monotonic_us();
    extension->code = read_model(extension->writer, &extension->err);
    if (extension->code == LD_OK) {
        const struct ld_tipo_writer writer = {complete, extension->writer->language,
                                              extension->writer->tags};
        extension->code = ld_tipo_extend(&writer, &extension->wish, extension->cancel,
                                         &extension->prompt, &extension->notes, &extension->err);
    }
    extension->spent_us = ld_clock_monotonic_us() - start_us;
}

static void drop(struct ld_errand *errand)
{
    ld_extension_destroy((struct ld_extension *)errand);
}

struct ld_extension *ld_extension_create(struct ld_prompt_writer *writer,
                                         const struct ld_request *request)
{
    const struct ld_request_tipo *tipo = &request->tipo;
    struct ld_extension *extension = ld_heap_alloc(sizeof *extension);
    if (!extension)
        return NULL;
    extension->errand = (struct ld_errand){.run = extend, .destroy = drop};
    extension->writer = writer;
    ld_arena_init(&extension->arena, "extension", EXTENSION_ARENA_MAX);
    extension->cancel = ld_arena_calloc(&extension->arena, 1, sizeof *extension->cancel);
    extension->prompt = ld_buffer_make(LD_PROMPT_EXPANSION_BYTES_MAX + 1);
    extension->notes.arena = &extension->arena;
    extension->wish = (struct ld_tipo_wish){
        .prompt = ld_arena_strdup(&extension->arena, request->prompt),
        .syntax = request->syntax,
        .text = ld_arena_strdup(&extension->arena, tipo->text),
        .avoid = ld_arena_strdup(&extension->arena, tipo->avoid),
        .write = tipo->write,
        .length = tipo->length,
        .choice = ld_tipo_choice(tipo->seeded ? tipo->seed : request->seed),
    };
    struct ld_token_choice *choice = &extension->wish.choice;
    choice->temperature = tipo->temperature;
    choice->top_p = tipo->top_p;
    choice->min_p = tipo->min_p;
    choice->top_k = (uint32_t)tipo->top_k;
    if (extension->cancel && extension->wish.prompt && extension->wish.text &&
        extension->wish.avoid)
        return extension;
    ld_extension_destroy(extension);
    return NULL;
}

void ld_extension_destroy(struct ld_extension *extension)
{
    if (!extension)
        return;
    ld_buffer_deinit(&extension->prompt);
    ld_arena_deinit(&extension->arena);
    ld_heap_free(extension);
}

void ld_extension_drop(struct ld_errands *errands, struct ld_extension *extension)
{
    atomic_store(&extension->cancel->requested, true);
    ld_errands_drop(errands, &extension->errand);
}
