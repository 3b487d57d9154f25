/*
 * OpenAI's images interface (api.md 2.2): generations, edits, variations. Source: the types of
 * openai-python, 2026-08.
 */
#ifndef LD_API_DIALECT_OPENAI_H
#define LD_API_DIALECT_OPENAI_H

#include "api/dialect.h"
#include "api/job_view.h"
#include "api/multipart.h"

enum ld_openai_kind { LD_OPENAI_GENERATE, LD_OPENAI_EDIT, LD_OPENAI_VARY };

/* A call while it is read and answered. Texts in the caller's arena. */
struct ld_openai_call {
    enum ld_openai_kind kind;
    struct ld_json_tree tree; /* the body, or the texts of the form as one object */
    struct ld_span image, mask;
    uint32_t image_count;
    bool stream, wants_url;
    int64_t partial_images;
    int32_t default_steps; /* of the server's default model, to place the partial images */
    const char *size, *quality, *background; /* echoed; "auto" where absent */
    const char *format;                      /* "png" where absent */
};

/* The texts of a form as a JSON object, its pictures into `call`. Errors as ld_multipart_next,
 * LD_E_NOMEM; a repeated field counts once. */
enum ld_code ld_openai_read_form(struct ld_openai_call *call, const char *content_type,
                                 struct ld_span body, struct ld_arena *arena,
                                 struct ld_error *err) LD_MUST_USE;

void ld_openai_translate(struct ld_translation *t, struct ld_openai_call *call);

/* ---- Documents ------------------------------------------------------------------------------- */

struct ld_openai_picture {
    struct ld_span file;
    const char *url; /* "" where the bytes are wanted */
};

void ld_openai_write_result(const struct ld_openai_call *call, const struct ld_job_view *job,
                            const struct ld_openai_picture *pictures, struct ld_buffer *out);

/* One server-sent event each. */
void ld_openai_write_partial(const struct ld_openai_call *call, int64_t created_s, uint32_t index,
                             enum ld_picture_kind kind, struct ld_span base64,
                             struct ld_buffer *out);
void ld_openai_write_completed(const struct ld_openai_call *call, const struct ld_image_view *image,
                               int64_t created_s, struct ld_span file, struct ld_buffer *out);
void ld_openai_write_failed(const char *code, const char *sentence, struct ld_buffer *out);

#endif
