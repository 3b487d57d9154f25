/*
 * The common subset of ComfyUI's protocol (api.md 2.4). A graph is checked against the table of
 * nodes that stand for something here (the same table is /object_info), then read as a recipe
 * (runtime/image/recipe_graph.c) from its sampler backwards. What the table does not have is
 * refused by the node's name; nothing is flattened away.
 */
#ifndef LD_API_DIALECT_COMFY_H
#define LD_API_DIALECT_COMFY_H

#include "api/dialect.h"
#include "api/job_view.h"
#include "runtime/base/id.h"

enum { LD_COMFY_ID_SIZE = 64, LD_COMFY_LIST_BYTES_MAX = 1 << 20 };

/* Lists that a node's inputs choose from, as JSON arrays of strings. */
struct ld_comfy_lists {
    const char *models, *vaes, *loras, *samplers, *schedulers, *images, *controlnets;
};

/* {"KSampler": {...}, ...} of one class ("": all). False: no such class. */
bool ld_comfy_write_object_info(const struct ld_comfy_lists *lists, const char *class_type,
                                struct ld_arena *arena, struct ld_buffer *out);

/* ---- Names of pictures ----------------------------------------------------------------------- */

/* What LoadImage is given: an upload ("ID.png"), or one whose transparency is another upload's
 * ("ID_ID.png", as /upload/mask calls it). What stands behind the ending (" [input]") is not
 * looked at. */
struct ld_comfy_input {
    char image[LD_ID_SIZE];
    char mask[LD_ID_SIZE]; /* "": its own */
};
bool ld_comfy_input_read(const char *name, struct ld_comfy_input *input);
void ld_comfy_input_write(const struct ld_comfy_input *input, struct ld_buffer *out);

/* "JOB_N.png" (or another ending), a finished job's picture N. */
bool ld_comfy_output_read(const char *name, char job[LD_ID_SIZE], uint64_t *index);

/* ---- Prompts --------------------------------------------------------------------------------- */

struct ld_comfy_call {
    struct ld_json_tree tree; /* the body of POST /prompt */
    struct ld_comfy_lists lists;
    const char *prompt_id; /* the client's, "" if it gave none */
    const char *client_id;
    bool front;
    struct ld_buffer node_errors; /* members of the object, "" if all is well */
    uint32_t node_error_count;
    const char *error_type, *error_message; /* of the whole; NULL: fine */
    /* Of a picture that the graph starts from: its uploads, and the size of one. */
    struct ld_comfy_input picture;
    bool (*image_size)(void *ctx, const char *id, int32_t *width, int32_t *height);
    void *image_ctx;
};

/* Errors are left in `call` (and then t->native->problem is set as well). */
void ld_comfy_translate(struct ld_translation *t, struct ld_comfy_call *call);

/* {"error": {...}, "node_errors": {...}} */
void ld_comfy_write_refusal(const struct ld_comfy_call *call, struct ld_buffer *out);

/* ---- Jobs as its clients see them ------------------------------------------------------------ */

/* What a job of this dialect keeps beside its request (user_data). */
struct ld_comfy_job {
    char prompt_id[LD_COMFY_ID_SIZE]; /* the job's id where the client gave none */
    char client_id[LD_COMFY_ID_SIZE];
    char sampler[LD_COMFY_ID_SIZE]; /* node ids */
    char output[LD_COMFY_ID_SIZE];
    char kind[16]; /* "save", "preview", "websocket"; "" for a job of another dialect */
};
void ld_comfy_job_read(struct ld_comfy_job *job, const struct ld_job_view *view);

/* "ID_N.png" (or .jpg, .webp), the name under which /view gives a job's picture. */
void ld_comfy_write_images(const struct ld_comfy_job *comfy, const struct ld_job_view *view,
                           struct ld_buffer *out);
/* An entry of /history: "ID": {...}. Only of jobs that have ended. */
void ld_comfy_write_history(const struct ld_job_view *view, struct ld_buffer *out);
/* An entry of /queue. */
void ld_comfy_write_queued(const struct ld_job_view *view, int64_t number, struct ld_buffer *out);

#endif
