/*
 * A1111's `/sdapi/v1` (api.md 2.1): bodies of txt2img and img2img to a native request, and the
 * documents that its clients read. Sources: the field names and defaults of AUTOMATIC1111 and Forge
 * `modules/api/models.py`.
 */
#ifndef LD_API_DIALECT_A1111_H
#define LD_API_DIALECT_A1111_H

#include "api/dialect.h"
#include "api/job_view.h"

/* What a caller has set by POST /options; NULL or 0 where nothing was. Stands behind the body. */
struct ld_a1111_options {
    const char *model; /* as the client wrote it */
    const char *vae;
    int64_t clip_skip;
    int64_t ensd;
    bool previews_off;           /* live_previews_enable is false */
    int64_t previews_every;      /* show_progress_every_n_steps; 0: not set, negative: never */
    const char *previews_format; /* live_previews_image_format: "png", "jpeg", "webp" */
    const char *format;          /* samples_format: "png", "jpg", "jpeg", "webp" */
    int64_t quality;             /* jpeg_quality, which is WebP's too */
    bool lossless;               /* webp_lossless */
};

/* What the other program saves a JPEG or WebP with where nobody said otherwise. */
enum { LD_A1111_QUALITY_DEFAULT = 80 };

/* Steps from one live preview to the next; 0: none are made. */
int64_t ld_a1111_previews_every(const struct ld_a1111_options *options);

/* Options out of a JSON object (a stored one, a posted one, override_settings); unknown keys are
 * passed over. Texts in `arena`. */
void ld_a1111_options_read(struct ld_a1111_options *options, const struct ld_json_tree *tree,
                           const struct ld_json_node *object, struct ld_arena *arena);
void ld_a1111_options_write(const struct ld_a1111_options *options, struct ld_buffer *out);

/* "name.safetensors [0123456789]", "name.safetensors" and "name" are one model. `out` has
 * LD_RECIPE_NAME_SIZE bytes. */
void ld_a1111_model_name(const char *title, char *out);

/* The file's format and quality, by the name that its ending has there. What is not written here
 * stays a PNG, which loses nothing. */
void ld_a1111_put_file(struct ld_translation *t, const struct ld_a1111_options *options);

/* A body of txt2img, or of img2img with `image_to_image`. */
void ld_a1111_translate(struct ld_translation *t, const struct ld_json_tree *tree,
                        bool image_to_image, const struct ld_a1111_options *options);

/* ---- Documents ------------------------------------------------------------------------------- */

struct ld_a1111_picture {
    struct ld_span file;
    const char *infotext; /* "" if unknown */
};

struct ld_a1111_result {
    const struct ld_job_view *job;
    const struct ld_a1111_picture *pictures;
    uint32_t picture_count;
    const char *model_name, *model_sha256; /* "" if unknown */
    const char *sampler_label;
    const struct ld_json_tree *tree; /* the request's body, for the echo */
    bool send_images;
};

/* {images, parameters, info, warnings} */
void ld_a1111_write_result(const struct ld_a1111_result *result, struct ld_buffer *out);

/* Progress of the caller's jobs. `job` NULL: idle. */
struct ld_a1111_progress {
    const struct ld_job_view *job;
    uint32_t waiting; /* queued behind it */
    int64_t now_us;
    struct ld_span preview; /* a file of what is painted; empty: none */
};
void ld_a1111_write_progress(const struct ld_a1111_progress *progress, struct ld_buffer *out);

/* Digits of a time, "20261128173000". */
void ld_a1111_timestamp(int64_t us, char out[16]);

#endif
