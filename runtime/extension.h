/*
 * A prompt on its way to be extended by the TIPO model: an errand, because it takes the CPU for
 * seconds and no pass should wait for it.
 *
 *     extension = ld_extension_create(writer, &request);
 *     ld_errands_give(errands, &extension->errand);
 *     ...
 *     if (extension->code == LD_OK)
 *         use(extension->prompt.data);
 *     ld_extension_destroy(extension);
 */
#ifndef LD_RUNTIME_EXTENSION_H
#define LD_RUNTIME_EXTENSION_H

#include "runtime/base/thread.h"
#include "runtime/errands.h"
#include "runtime/params.h"
#include "runtime/text/notes.h"
#include "runtime/tipo/tipo.h"

/* ---- The model ------------------------------------------------------------------------------- */

/* The language model's file and the lists of tags; read when the first prompt asks for them. */
struct ld_prompt_writer;

/*
 * `path`: a .gguf file; NULL or "": none, and every extension says so. `tag_folder`: whose
 * *.tags.csv tell who is an artist or a character; NULL or "": the program's own list alone.
 * `threads`: 0: one a core. Nothing is read. Owner    returns owned. Errors   LD_E_NOMEM.
 */
enum ld_code ld_prompt_writer_create(struct ld_prompt_writer **out, const char *path,
                                     const char *tag_folder, uint32_t threads,
                                     struct ld_error *err) LD_MUST_USE;
void ld_prompt_writer_destroy(struct ld_prompt_writer *writer); /* NULL is fine */

/* ---- One prompt ------------------------------------------------------------------------------ */

struct ld_extension {
    struct ld_errand errand;
    struct ld_prompt_writer *writer; /* borrowed; one extension at a time uses it */
    struct ld_tipo_wish wish;
    struct ld_arena arena;    /* of the wish's texts, the notes and: */
    struct ld_cancel *cancel; /* set: ends at the next token */

    struct ld_buffer prompt; /* done, and `code` LD_OK */
    struct ld_notes notes;   /* sentences for the author */
    enum ld_code code;
    struct ld_error err;
    int64_t spent_us;
};

/* What request.tipo asks for, about request.prompt, whose wildcards are expanded by now. Copies
 * what it needs; NULL without memory. */
struct ld_extension *ld_extension_create(struct ld_prompt_writer *writer,
                                         const struct ld_request *request);
void ld_extension_destroy(struct ld_extension *extension); /* only when nobody runs it */

/* Nobody wants it any more, whether it has begun or not. */
void ld_extension_drop(struct ld_errands *errands, struct ld_extension *extension);

#endif
