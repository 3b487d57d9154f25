/*
 * The texts that TIPO is asked to continue, and what it answers (model.md 6.2).
 *
 *     ld_tipo_compose(LD_TIPO_EXPAND, LD_TIPO_LONG, &given, &found, &text);
 *     // "rating: safe\ntarget: <|long|>\ntag: 1girl, red hair"
 *     ...                                            the model appends to `text`
 *     ld_tipo_parse(ld_span_of(text.data, text.size), &answer);
 *     // answer.values[LD_TIPO_KEY_TAG]: "1girl, red hair, solo, smile"
 */
#ifndef LD_TIPO_TIPO_TEXT_H
#define LD_TIPO_TIPO_TEXT_H

#include "runtime/tipo/tag_kinds.h"

#include "runtime/base/buffer.h"
#include "runtime/params.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- What a picture is described by ---------------------------------------------------------- */

enum {
    LD_TIPO_ITEMS_MAX = 128, /* of one kind; further ones are left out */
    /* What the model is shown has to leave room for its answer in 1024 tokens: a tag has about one
     * token for each four bytes. */
    LD_TIPO_LINE_BYTES_MAX = 256,      /* of each line above the target */
    LD_TIPO_TAGS_BYTES_MAX = 2048,     /* of the block of tags */
    LD_TIPO_SENTENCES_BYTES_MAX = 1024 /* of the block of sentences */
};

struct ld_tipo_items {
    const char *items[LD_TIPO_ITEMS_MAX];
    uint32_t count;
};

/* Nothing in it holds a line end or a control token of the model: what fills it sees to that. */
struct ld_tipo_content {
    struct ld_tipo_items tags[LD_TAG_KIND_COUNT];
    struct ld_tipo_items sentences; /* each with its full stop */
};

/* ---- Questions ------------------------------------------------------------------------------- */

enum ld_tipo_task {
    LD_TIPO_EXPAND, /* more tags, from tags alone: no task is named */
    LD_TIPO_SHORT_TO_TAG,
    LD_TIPO_LONG_TO_TAG,
    LD_TIPO_TAG_TO_LONG
};

/*
 * Append the text that is to be continued: a line for each kind that is there (meta, rating,
 * artist, characters, copyrights, quality), the target line, then the blocks of the task. `given`
 * comes before `found`; special tags come before general ones. The last block is left open behind
 * its content, or behind `key:` where it has none. `gen_meta` is never asked for: quality and
 * rating are the server's own business.
 */
void ld_tipo_compose(enum ld_tipo_task task, enum ld_tipo_length length,
                     const struct ld_tipo_content *given, const struct ld_tipo_content *found,
                     struct ld_buffer *out);

/* ---- Answers --------------------------------------------------------------------------------- */

enum ld_tipo_key {
    LD_TIPO_KEY_META,
    LD_TIPO_KEY_RATING,
    LD_TIPO_KEY_ARTIST,
    LD_TIPO_KEY_CHARACTERS,
    LD_TIPO_KEY_COPYRIGHTS,
    LD_TIPO_KEY_QUALITY,
    LD_TIPO_KEY_TARGET,
    LD_TIPO_KEY_TAG,
    LD_TIPO_KEY_SHORT,
    LD_TIPO_KEY_LONG,
    LD_TIPO_KEY_COUNT
};

struct ld_tipo_answer {
    struct ld_span values[LD_TIPO_KEY_COUNT]; /* within the text; size 0: none */
};

/*
 * Read lines `key: value`. A value runs to the next line that starts with one of the keys above,
 * so that a colon in prose ends nothing; of two equal keys the first counts; white space around a
 * value is taken off, and `<|empty|>` is no value. The bytes are as hostile as the model.
 */
void ld_tipo_parse(struct ld_span text, struct ld_tipo_answer *out);

#ifdef __cplusplus
}
#endif
#endif
