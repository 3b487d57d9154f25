/*
 * One job inside the engine: what was asked, the texts encoded for it, its pictures in flight and
 * what has to be told at the end. Internal to the engine; engine.h is the way in.
 */
#ifndef LD_RUNTIME_JOB_H
#define LD_RUNTIME_JOB_H

#include "runtime/conditioning.h"
#include "runtime/encoding.h"
#include "runtime/engine.h"
#include "runtime/extension.h"
#include "runtime/image/inpaint.h"
#include "runtime/library.h"
#include "runtime/pass.h"

enum ld_session_phase {
    LD_SESSION_WAITING, /* holds nothing yet */
    LD_SESSION_SAMPLING,
    LD_SESSION_UPSCALING, /* first pass done, the second one not yet set up */
    LD_SESSION_DECODING,
    LD_SESSION_ENCODING,  /* decoded; the encoder makes its file */
    LD_SESSION_ELSEWHERE, /* painted again in a wider type, by another engine */
    LD_SESSION_DONE
};

/* One picture of a job. */
struct ld_session {
    struct ld_job *job;
    uint32_t image;
    enum ld_session_phase phase;
    bool second;           /* in the second (hires) pass */
    struct ld_arena arena; /* of the pass at hand */
    struct ld_pass *pass;
    double *latent;               /* [4, height, width] finished latent of a pass, on the heap */
    int32_t height, width;        /* of `latent`, or of the pass */
    uint64_t served;              /* tick that last ran a row of it */
    bool left_over;               /* that pass had no room for all of its rows */
    bool alone;                   /* a pass with others failed: the next ones run without them */
    bool overflowed;              /* the latest pass gave values that are no numbers */
    bool closed;                  /* its call is: the sampler has the estimate */
    struct ld_error err;          /* or why it cannot be */
    bool tiles;                   /* there was too little memory to decode it in one piece */
    uint64_t elsewhere;           /* its job's handle in the other engine; 0: none */
    struct ld_encoding *encoding; /* while the encoder has it; owned */
};

enum { LD_JOB_PASSES = 2 };

/* A range of a pass's steps in which the same adapters act. */
struct ld_job_stage {
    double start; /* share of the steps at which it begins */
    struct ld_variant_pin variant;
    struct ld_conditioning *conditioning;
};

/* What one pass paints with. */
struct ld_job_pass {
    struct ld_resident *model; /* pinned while the job lives */
    struct ld_sigma_table table;
    struct ld_request_lora
        loras[LD_REQUEST_LORAS_MAX]; /* of the request and of the pass's prompt */
    uint32_t lora_count;
    struct ld_job_stage stages[LD_LORA_RANGES_MAX]; /* at least one */
    uint32_t stage_count;
};

/* A ControlNet's picture at the size of a pass. */
struct ld_job_hint {
    float *planes; /* [3, height, width], a block */
    int32_t width, height;
    uint64_t serial; /* of these planes alone in this process */
};

/* A unit of request.controls; nothing where its weight is 0. */
struct ld_job_control {
    struct ld_model *model; /* pinned while the job lives */
    char sha256[LD_SHA256_HEX_SIZE];
    struct ld_job_hint hints[LD_JOB_PASSES];
};

struct ld_job {
    struct ld_job *next;
    uint64_t handle;
    struct ld_engine_job given;
    struct ld_request request; /* what runs: model named, prompts expanded */
    struct ld_arena arena;
    bool prepared;
    uint64_t replaced; /* the engine's count when it was prepared */
    bool cancelled, keep_partial;

    struct ld_job_pass passes[LD_JOB_PASSES]; /* the second one with request.hires only */
    struct ld_model *vae;                     /* of the request; NULL: each model's own */
    struct ld_job_control controls[LD_REQUEST_CONTROLS_MAX];
    struct ld_taesd *preview_decoder; /* the library's; NULL: the latent's own colours */

    /* Image to image: [4, h, w] scaled latent, [h, w] masks of both passes; and for pasting back
     * the original picture and the blurred mask [height, width]. NULL where there are none. */
    double *start, *mask, *second_mask;
    uint8_t *init_rgb;
    float *mask_pixels;
    float *extra[LD_JOB_PASSES]; /* [Cin - 4, h, w] for inpainting checkpoints */
    /* With init.area "masked": the whole picture and its mask, and which part of it is painted. */
    uint8_t *frame;    /* [frame_height, frame_width, 3] */
    float *frame_mask; /* [frame_height, frame_width] */
    int32_t frame_width, frame_height;
    struct ld_rect frame_part;

    struct ld_session *sessions;
    uint32_t session_count;
    struct ld_errands *encoder;     /* the engine's */
    struct ld_errands *writing;     /* the engine's */
    struct ld_extension *extension; /* of the prompt, while `writing` has it; owned */

    uint64_t range; /* on a profiler's time line */
    struct ld_error err;
    struct ld_engine_report report;
    struct ld_buffer warnings, adapters, resolved; /* JSON text */
    struct ld_buffer numerics;                     /* of the latest picture; the same for all */
    uint32_t last_preview;
};

/* ---- job.c ----------------------------------------------------------------------------------- */

/* Copies what must outlive submit. Errors LD_E_NOMEM. */
enum ld_code ld_job_create(struct ld_job **out, const struct ld_engine_job *given, uint64_t handle,
                           struct ld_error *err) LD_MUST_USE;
void ld_job_destroy(struct ld_job *job, struct ld_library *library);

/* Adds a sentence for the job's author. */
void ld_job_warn(struct ld_job *job, const char *format, ...) LD_PRINTF(2, 3);

/* Model, adapters, texts, input image: everything before the first step. */
enum ld_code ld_job_prepare(struct ld_job *job, struct ld_library *library,
                            const struct ld_cancel *interrupt, struct ld_error *err) LD_MUST_USE;

/* Tell progress, `phase` being what happens now in `session`. */
void ld_job_tell_progress(const struct ld_job *job, const struct ld_session *session,
                          enum ld_engine_phase phase);

/* Share of the job that is done, 0..1. */
double ld_job_fraction(const struct ld_job *job);

/* All pictures done, or an error or cancel: on_done is called once. */
void ld_job_finish(struct ld_job *job, const struct ld_error *err);

/* ---- job_pass.c ------------------------------------------------------------------------------ */

/*
 * Model, prompts, adapters and encoded texts of one pass.
 * Errors   LD_E_NOT_FOUND, LD_E_TOO_LARGE, LD_E_RANGE (ranges of adapters), and those of the
 *          library and the conditioning.
 */
enum ld_code ld_job_prepare_pass(struct ld_job *job, struct ld_library *library, uint32_t which,
                                 struct ld_error *err) LD_MUST_USE;
void ld_job_release_pass(struct ld_job *job, struct ld_library *library, uint32_t which);

/* What a session paints with now, and the VAE that goes with it. */
const struct ld_job_pass *ld_session_pass(const struct ld_session *session);
const struct ld_job_stage *ld_session_stage(const struct ld_session *session);
struct ld_model *ld_job_vae(const struct ld_job *job, bool second);

/* ---- job_input.c ----------------------------------------------------------------------------- */

/* Decode and encode the init image and its mask. Without one nothing happens. */
enum ld_code ld_job_take_input(struct ld_job *job, const struct ld_cancel *interrupt,
                               struct ld_error *err) LD_MUST_USE;
void ld_job_release_input(struct ld_job *job);

/* The scaled latent of a picture, [4, height / 8, width / 8] on the heap. */
enum ld_code ld_job_encode_pixels(struct ld_job *job, bool second, const uint8_t *rgb,
                                  int32_t height, int32_t width, const struct ld_cancel *interrupt,
                                  double **latent, struct ld_error *err) LD_MUST_USE;

/* Mask (and inpainting channels) at the second pass's size, in latent cells. */
enum ld_code ld_job_second_mask(struct ld_job *job, int32_t height, int32_t width,
                                struct ld_error *err) LD_MUST_USE;

/* ---- job_control.c --------------------------------------------------------------------------- */

/*
 * Load the request's ControlNets and make their hints; the passes' models and init's picture are
 * there. Errors   LD_E_NOT_FOUND, LD_E_UNSUPPORTED (made for another kind of model), those of
 * loading and of reading a picture, at /control/N.
 */
enum ld_code ld_job_take_controls(struct ld_job *job, struct ld_library *library,
                                  struct ld_error *err) LD_MUST_USE;
void ld_job_release_controls(struct ld_job *job, struct ld_library *library);

/* ---- job_output.c ---------------------------------------------------------------------------- */

/* A picture on its way out. */
struct ld_job_pixels {
    uint8_t *rgb; /* [height, width, 3], a block */
    int32_t width, height;
};
void ld_job_pixels_release(struct ld_job_pixels *pixels);

/*
 * What becomes of decoded pixels of a job with an input picture: colours corrected, what the mask
 * keeps put back, and with init.area "masked" the part pasted into its frame, whose size `pixels`
 * then has. Without an input picture nothing happens.
 * Owner    `pixels` stays the caller's. Errors LD_E_NOMEM.
 */
enum ld_code ld_job_finish_pixels(const struct ld_job *job, struct ld_job_pixels *pixels,
                                  struct ld_error *err) LD_MUST_USE;

/* ---- job_upscale.c --------------------------------------------------------------------------- */

/* What ld_job_prepare is for jobs that only enlarge a picture. */
enum ld_code ld_job_prepare_upscale(struct ld_job *job, struct ld_error *err) LD_MUST_USE;
/* Enlarge it and hand it out. */
enum ld_code ld_session_enlarge(struct ld_session *session, struct ld_error *err) LD_MUST_USE;

/* ---- job_preview.c --------------------------------------------------------------------------- */

/* Which decoder the job's previews go through; what stands in its way is a warning. */
void ld_job_choose_preview(struct ld_job *job, struct ld_library *library);
/* A small picture of the prediction at hand to on_preview, if it is time for one. */
void ld_session_preview(struct ld_session *session);

/* ---- session.c ------------------------------------------------------------------------------- */

/* Set up the first pass. */
enum ld_code ld_session_begin(struct ld_session *session, struct ld_error *err) LD_MUST_USE;
/* The pass is done: keep its latent, free the rest, move to the next phase. */
enum ld_code ld_session_end_pass(struct ld_session *session, struct ld_error *err) LD_MUST_USE;
/* Resize and set up the second pass. */
enum ld_code ld_session_upscale(struct ld_session *session, const struct ld_cancel *interrupt,
                                struct ld_error *err) LD_MUST_USE;
/* Decode and check; the encoder gets the picture, and the session's memory of its passes goes. */
enum ld_code ld_session_decode(struct ld_session *session, const struct ld_cancel *interrupt,
                               struct ld_error *err) LD_MUST_USE;
/* Decode the prediction at hand, encode it and hand it out as partial. */
enum ld_code ld_session_decode_partial(struct ld_session *session,
                                       struct ld_error *err) LD_MUST_USE;
/* Whether the encoder has done with it. */
bool ld_session_encoded(const struct ld_session *session);
/* The file to on_image; waits for the encoder. Errors   its own. */
enum ld_code ld_session_hand_out(struct ld_session *session, bool partial,
                                 struct ld_error *err) LD_MUST_USE;
/* Nobody wants the picture any more. */
void ld_session_drop_encoding(struct ld_session *session);
/* The request of this one picture, as it would be asked for alone; texts are the job's. */
struct ld_request ld_session_request(const struct ld_session *session);
/* Give back what its pass takes. */
void ld_session_release(struct ld_session *session);

#endif
