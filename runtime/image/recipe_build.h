/*
 * Collects the fields of a native request by path and writes them as one JSON object; shared by the
 * readers of the three foreign sources.
 *
 *     struct ld_recipe_fields fields;
 *     ld_recipe_fields_init(&fields);
 *     ld_recipe_put_text(&fields, "hires.upscaler", value);
 *     code = ld_recipe_fields_finish(&fields, recipe, err);   // also releases
 */
#ifndef LD_IMAGE_RECIPE_BUILD_H
#define LD_IMAGE_RECIPE_BUILD_H

#include "runtime/image/png_meta.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    LD_RECIPE_FIELDS_MAX = 96,
    LD_RECIPE_BYTES_MAX = 256 * 1024, /* LD_JSON_BODY_BYTES_MAX: it is to be a request's body */
    LD_RECIPE_NOTES_MAX = 32,
    LD_RECIPE_NAME_SIZE = 256
};

struct ld_recipe_field {
    const char *path; /* static text, "guidance.apg.eta" */
    size_t at, size;  /* of its JSON value in `values` */
};

struct ld_recipe_fields {
    struct ld_recipe_field field[LD_RECIPE_FIELDS_MAX];
    size_t count;
    struct ld_buffer values;
    struct ld_buffer notes; /* JSON strings with commas between */
    size_t note_count;
    bool failed;
};

/* An empty recipe of a source: request {} and no notes. */
void ld_recipe_init(struct ld_recipe *recipe, enum ld_recipe_source source);

void ld_recipe_fields_init(struct ld_recipe_fields *fields);

/* A later value of the same path replaces the earlier one. */
void ld_recipe_put_json(struct ld_recipe_fields *fields, const char *path, struct ld_span json);
void ld_recipe_put_text(struct ld_recipe_fields *fields, const char *path, struct ld_span text);
void ld_recipe_put_string(struct ld_recipe_fields *fields, const char *path, const char *text);
void ld_recipe_put_bool(struct ld_recipe_fields *fields, const char *path, bool value);
void ld_recipe_put_integer(struct ld_recipe_fields *fields, const char *path, int64_t value);
/* Above 2^63-1 as a decimal string, as the native form wants it. */
void ld_recipe_put_seed(struct ld_recipe_fields *fields, const char *path, uint64_t value);
void ld_recipe_put_double(struct ld_recipe_fields *fields, const char *path, double value);

/* A number's literal, put as an integer where it is one ("20.0" too). False if it is none. */
bool ld_recipe_put_number(struct ld_recipe_fields *fields, const char *path, struct ld_span text);
/* The same for fields that are integers, and for seeds; negative seeds are left out. */
bool ld_recipe_put_whole(struct ld_recipe_fields *fields, const char *path, struct ld_span text);
bool ld_recipe_put_seed_text(struct ld_recipe_fields *fields, const char *path,
                             struct ld_span text);

bool ld_recipe_has(const struct ld_recipe_fields *fields, const char *path);

/* Take a field out again; nothing happens where it is not there. `drop_equal`: only where the other
 * field is there with the same JSON. */
void ld_recipe_drop(struct ld_recipe_fields *fields, const char *path);
void ld_recipe_drop_equal(struct ld_recipe_fields *fields, const char *path, const char *other);

/* How the note of a node with a ControlNet ends: its picture is not in the graph. */
#define LD_RECIPE_NOTE_CONTROL "follows another picture, which is not here, and was left out"

/* A sentence for people. Silently full after LD_RECIPE_NOTES_MAX. */
void ld_recipe_note(struct ld_recipe_fields *fields, const char *format, ...) LD_PRINTF(2, 3);

/* A file's name as the registry lists it: without folders' backslashes and without .safetensors,
 * .ckpt, .pt, .pth or .bin. `out` has LD_RECIPE_NAME_SIZE bytes. */
void ld_recipe_model_name(struct ld_span file, char *out);

/* A1111's spellings (recipe_infotext.c): "DPM++ 2M Karras" names a sampler and, where `schedule` is
 * "", a schedule. */
void ld_recipe_put_sampler(struct ld_recipe_fields *fields, const char *name, const char *schedule,
                           const char *sampler_path, const char *schedule_path);
/* Its upscaler as hires.upscaler; a note where another one stands in. */
void ld_recipe_put_upscaler(struct ld_recipe_fields *fields, const char *name);
/* The prompt without its <lora:...> tags, and those as `loras`. */
void ld_recipe_put_prompt(struct ld_recipe_fields *fields, struct ld_span prompt);
/* The same for the second pass, after the first's: hires.prompt and hires.loras. */
void ld_recipe_put_hires_prompt(struct ld_recipe_fields *fields, struct ld_span prompt);

/* Write request and notes into `recipe` and release the fields, also on failure. Errors
 * LD_E_TOO_LARGE. */
enum ld_code ld_recipe_fields_finish(struct ld_recipe_fields *fields, struct ld_recipe *recipe,
                                     struct ld_error *err) LD_MUST_USE;

#ifdef __cplusplus
}
#endif
#endif
