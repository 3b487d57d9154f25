/*
 * What the dialects share. A dialect is another program's HTTP interface, spoken by clients that
 * people already have. It only translates: its body becomes a native request as JSON text, which
 * then goes the way of every native body (dialect_native.h), so that there is one validator and one
 * set of bounds. What a dialect knows and latentd has not is refused or named in a warning.
 *
 *     struct ld_translation t;
 *     ld_translation_init(&t, &native);
 *     ld_a1111_translate(&t, &tree, &call);       // fields, warnings, problems, pictures
 *     if (ld_translation_finish(&t, &body))       // the native body
 *         ...
 *     ld_translation_deinit(&t);
 */
#ifndef LD_API_DIALECT_H
#define LD_API_DIALECT_H

#include "api/dialect_native.h"
#include "runtime/image/recipe_build.h"

enum ld_dialect {
    LD_DIALECT_NATIVE,
    LD_DIALECT_A1111,
    LD_DIALECT_OPENAI,
    LD_DIALECT_NOVELAI,
    LD_DIALECT_COMFY
};

/* Whose path this is, known to the route table or not; `path` without query. */
enum ld_dialect ld_dialect_of_path(const char *path);

/* ---- Errors ---------------------------------------------------------------------------------- */

/*
 * A problem in the dialect's own shape (api.md 2). Every rejected field is told, in one sentence
 * after another where the shape has room for one only.
 */
void ld_dialect_write_problem(enum ld_dialect dialect, const struct ld_problem *problem,
                              const char *instance, struct ld_buffer *out);
/* The status that goes with it; some dialects have their own for some cases. */
int ld_dialect_status(enum ld_dialect dialect, const struct ld_problem *problem);

/* ---- Translating ----------------------------------------------------------------------------- */

/* `native` (initialised) takes warnings, problems and pictures and is what the body is read into
 * afterwards. */
struct ld_translation {
    struct ld_native *native;
    struct ld_recipe_fields fields;
};

void ld_translation_init(struct ld_translation *t, struct ld_native *native);
void ld_translation_deinit(struct ld_translation *t);

/* Write the native body and turn the notes of the fields into warnings. False after a problem, also
 * an earlier one. */
bool ld_translation_finish(struct ld_translation *t, struct ld_recipe *recipe);

/* Refuse a field of the dialect's body: `pointer` as in the client's body. */
void ld_translation_refuse(struct ld_translation *t, const char *pointer, const char *format, ...)
    LD_PRINTF(3, 4);
void ld_translation_warn(struct ld_translation *t, const char *format, ...) LD_PRINTF(2, 3);

/* ---- Reading as leniently as those programs do ----------------------------------------------- */

/* The member, or NULL where it is absent or null. */
const struct ld_json_node *ld_lenient_member(const struct ld_json_tree *tree,
                                             const struct ld_json_node *object, const char *key);
/* Numbers, numbers in strings, and booleans as 0 and 1. */
bool ld_lenient_number(const struct ld_json_node *node, double *out);
/* The same without a fraction: 20, 20.0, "20". */
bool ld_lenient_whole(const struct ld_json_node *node, int64_t *out);
/* true, 1, "true", "True". */
bool ld_lenient_flag(const struct ld_json_node *node, bool *out);
/* A string's text with its escapes resolved, NUL-terminated in the arena; NULL for anything else,
 * an embedded NUL, or without memory. */
const char *ld_lenient_text(const struct ld_json_node *node, struct ld_arena *arena);

/* Members of the body by key; where the value is of another kind a problem is added and the
 * default returned. */
double ld_body_number(struct ld_translation *t, const struct ld_json_tree *tree,
                      const struct ld_json_node *object, const char *key, double by_default);
int64_t ld_body_whole(struct ld_translation *t, const struct ld_json_tree *tree,
                      const struct ld_json_node *object, const char *key, int64_t by_default);
bool ld_body_flag(struct ld_translation *t, const struct ld_json_tree *tree,
                  const struct ld_json_node *object, const char *key, bool by_default);
const char *ld_body_text(struct ld_translation *t, const struct ld_json_tree *tree,
                         const struct ld_json_node *object, const char *key,
                         const char *by_default);

/* A table of fields that need no thought. */
enum ld_dialect_put {
    LD_DIALECT_NUMBER,
    LD_DIALECT_WHOLE,
    LD_DIALECT_SEED, /* negative: left out, so that one is drawn; beyond 2^64 refused */
    LD_DIALECT_TEXT,
    LD_DIALECT_FLAG,
    LD_DIALECT_READ,   /* looked at elsewhere */
    LD_DIALECT_IGNORE, /* has no meaning here and changes no picture: passed over */
    LD_DIALECT_LACKED, /* not in latentd: refused unless null, false, 0, "" or empty */
};
struct ld_dialect_row {
    const char *key;
    enum ld_dialect_put put;
    const char *path; /* native; of LACKED: what the refusal calls it */
};

/* One value as its row says. */
void ld_translate_value(struct ld_translation *t, const struct ld_json_node *node,
                        const struct ld_dialect_row *row);

/*
 * Walk the members of a body: rows are put, what no row names becomes a warning. `rows` ends with a
 * NULL key.
 */
void ld_translate_rows(struct ld_translation *t, const struct ld_json_tree *tree,
                       const struct ld_json_node *object, const struct ld_dialect_row *rows);

/* What the readers of foreign texts have to say, as warnings. */
void ld_translate_notes(struct ld_translation *t, const struct ld_recipe *recipe);

/* Every value of a native request (its own tree) as a field; the tree's text may go afterwards. */
void ld_translate_native(struct ld_translation *t, const struct ld_json_tree *tree);

/* null, false, 0, "", [] or {}. */
bool ld_lenient_is_empty(const struct ld_json_node *node);

/*
 * A picture in base64, with or without a "data:...;base64," in front, into native->init_image or
 * init_mask; `field` is "init.image" or "init.mask" and is put so that the native reader finds it.
 * URLs are refused: nothing here fetches anything.
 */
void ld_translate_picture(struct ld_translation *t, const struct ld_json_node *node,
                          const char *pointer, const char *field);
/* The same into any of native's buffers, whose field is then LD_TRANSLATED_PICTURE. */
void ld_translate_picture_into(struct ld_translation *t, const struct ld_json_node *node,
                               const char *pointer, struct ld_buffer *out);
/* Stands where the native reader wants an id; the id of the stored bytes replaces it. */
#define LD_TRANSLATED_PICTURE "{\"id\":\"00000000000000000000000000\"}"
/* The same from bytes (forms). */
void ld_translate_picture_bytes(struct ld_translation *t, struct ld_span png, const char *pointer,
                                const char *field);

/* A whole JSON text back out, for echoes; nodes of raw text. */
void ld_write_node(const struct ld_json_node *node, struct ld_buffer *out);

#endif
