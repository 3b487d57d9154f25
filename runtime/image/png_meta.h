/*
 * What a PNG says about itself: its header, its text chunks, and the recipe in them. Pure functions
 * on bytes of strangers, no pixels, no libpng: safe in the front process.
 *
 *     struct ld_png_texts texts;
 *     ld_png_texts_read(&texts, &arena, bytes, true, &err);
 *     struct ld_recipe recipe;
 *     ld_recipe_read(&recipe, &texts, &err);
 *     // recipe.source, recipe.request: a native request as JSON, to be validated like any other
 *     ld_recipe_deinit(&recipe);
 *
 * Source: robustness.md 2, 3; api.md 2.3, 2.7, 6; PNG specification (Third Edition).
 */
#ifndef LD_IMAGE_PNG_META_H
#define LD_IMAGE_PNG_META_H

#include "runtime/base/arena.h"
#include "runtime/base/buffer.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Header ---------------------------------------------------------------------------------- */

enum { LD_PNG_HEADER_SIZE = 33 }; /* signature and the whole IHDR chunk */

struct ld_png_header {
    int32_t width, height;
    uint8_t bit_depth, colour_type;
};

/*
 * Check the first 33 bytes: signature, IHDR and its checksum, a legal kind of picture, at most
 * LD_AREA_MAX pixels, not interlaced. What passes may be handed to the decoder.
 * Errors   LD_E_FORMAT (not a PNG), LD_E_TOO_LARGE (pixels), LD_E_UNSUPPORTED (interlaced).
 */
enum ld_code ld_png_check_header(struct ld_png_header *header, struct ld_span png,
                                 bool ignore_checksum, struct ld_error *err) LD_MUST_USE;

/* ---- Text chunks ----------------------------------------------------------------------------- */

enum { LD_PNG_TEXTS = 16 /* = LD_PNG_TEXT_CHUNKS_MAX of config/limits.h */ };

struct ld_png_text_entry {
    const char *keyword; /* UTF-8 */
    const char *text;    /* UTF-8 whatever the chunk's encoding; NUL-terminated */
    size_t text_size;
};

struct ld_png_texts {
    struct ld_png_text_entry entry[LD_PNG_TEXTS];
    size_t count;
};

/*
 * Walk the chunks and collect tEXt, zTXt and iTXt. Damaged text (bad inflate, no keyword) is left
 * out; malformed UTF-8 is replaced.
 *
 * Owner    texts live in `arena`: at most 1 MiB, three times that where it is not UTF-8.
 * Errors   LD_E_FORMAT (not a PNG, a chunk reaches past the end, a wrong checksum), LD_E_TOO_LARGE
 *          (more than 16 text chunks, more than 1 MiB of text after inflation), LD_E_NOMEM.
 */
enum ld_code ld_png_texts_read(struct ld_png_texts *texts, struct ld_arena *arena,
                               struct ld_span png, bool ignore_checksums,
                               struct ld_error *err) LD_MUST_USE;

/* The text of a keyword, or NULL. */
const char *ld_png_text_find(const struct ld_png_texts *texts, const char *keyword);

/* ---- The recipe in them ---------------------------------------------------------------------- */

enum ld_recipe_source {
    LD_RECIPE_NONE,    /* nothing known was found */
    LD_RECIPE_LATENTD, /* our own canonical request: exact */
    LD_RECIPE_A1111,   /* infotext */
    LD_RECIPE_COMFY,   /* an API graph */
    LD_RECIPE_NOVELAI  /* the Comment's JSON */
};

/* "latentd", "a1111", "comfyui", "novelai"; "none". */
const char *ld_recipe_source_name(enum ld_recipe_source source);

struct ld_recipe {
    enum ld_recipe_source source;
    struct ld_buffer request; /* JSON object in the form of POST /v1/jobs; unchecked values */
    struct ld_buffer notes;   /* JSON array of sentences: what was left out or guessed */
    char model_hash[65];      /* of the model that painted it, any length of hex; "" if unknown */
};

/*
 * Read the best source present: our own, then NovelAI's, A1111's, ComfyUI's.
 * Owner    the caller deinits `recipe`, also after an error.
 * Errors   LD_E_FORMAT (the JSON of the source is malformed), LD_E_TOO_LARGE, LD_E_NOMEM. A picture
 *          without a recipe is LD_OK with LD_RECIPE_NONE.
 */
enum ld_code ld_recipe_read(struct ld_recipe *recipe, const struct ld_png_texts *texts,
                            struct ld_error *err) LD_MUST_USE;
void ld_recipe_deinit(struct ld_recipe *recipe);

/* A keyword may occur more than once in a PNG, a member of an object may not: the first counts. */
bool ld_png_text_is_repeated(const struct ld_png_texts *texts, size_t index);

/* {keyword: text, ...} */
void ld_png_texts_write_json(const struct ld_png_texts *texts, struct ld_buffer *out);

/* {"source", "model_hash", "request", "notes", "texts"}: the answer of png-info, on the command
 * line and over HTTP. */
void ld_recipe_write_json(const struct ld_recipe *recipe, const struct ld_png_texts *texts,
                          struct ld_buffer *out);

/* Each source alone, as the text that a dialect's own route is given. Errors as ld_recipe_read. */
enum ld_code ld_recipe_from_infotext(struct ld_recipe *recipe, struct ld_span text,
                                     struct ld_error *err) LD_MUST_USE;
enum ld_code ld_recipe_from_graph(struct ld_recipe *recipe, struct ld_span json,
                                  struct ld_error *err) LD_MUST_USE;
enum ld_code ld_recipe_from_novelai(struct ld_recipe *recipe, struct ld_span json,
                                    struct ld_error *err) LD_MUST_USE;

/* ---- A1111 infotext, taken apart ------------------------------------------------------------- */

enum { LD_INFOTEXT_PAIRS_MAX = 64 };

struct ld_infotext_pair {
    struct ld_span key, value; /* value without its quotes, escapes not yet resolved */
    bool quoted;
};

/* Spans into the text it was made from. */
struct ld_infotext {
    struct ld_span prompt, negative;
    struct ld_infotext_pair pair[LD_INFOTEXT_PAIRS_MAX];
    size_t pair_count; /* 0: the last line was no list of at least three pairs */
};

/* Never fails: what is not a list of pairs is prompt. Linear in the text. */
void ld_infotext_split(struct ld_infotext *info, struct ld_span text);

/* The pair of a key, or NULL. */
const struct ld_infotext_pair *ld_infotext_find(const struct ld_infotext *info, const char *key);

/* The value with JSON escapes resolved; false if it does not fit. */
bool ld_infotext_value(const struct ld_infotext_pair *pair, char *out, size_t out_size);

#ifdef __cplusplus
}
#endif
#endif
