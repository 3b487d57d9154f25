/* What the files of the engine share. Internal; engine.h is the way in. */
#ifndef LD_RUNTIME_ENGINE_STATE_H
#define LD_RUNTIME_ENGINE_STATE_H

#include "runtime/batch.h"
#include "runtime/errands.h"
#include "runtime/estimate.h"
#include "runtime/gpu/device.h"

enum { LD_ENCODINGS_MAX = 4 };        /* pictures that wait for their file; decoding waits then */
enum { LD_SESSIONS_ACTIVE_MAX = 32 }; /* two rows each fill the largest batch */

struct ld_engine {
    struct ld_backend *backend;
    struct ld_library *library;
    struct ld_batch_memory memory;
    struct ld_errands *encoder;
    struct ld_errands *writing;             /* prompts that are extended */
    struct ld_prompt_writer *prompt_writer; /* what extends them */
    struct ld_asked_prompt *asked;          /* those that callers wait for, oldest first */
    struct ld_job *jobs;                    /* oldest first */
    bool occupies;                          /* the device, as other processes are told */
    uint64_t next_handle;
    uint64_t tick;
    uint32_t batch_max;
    /* Latent positions that a pass may hold since one had found too little memory; 0: as planned.
     */
    uint64_t positions_fit;
    const struct ld_cancel *interrupt;
    struct ld_rates rates; /* measured, for plans */
    char note[LD_DEVICE_NOTE_SIZE];

    /* The same models in bf16, for pictures that fp16 cannot hold; NULL until there is one. */
    struct ld_engine *wide;
    bool wide_in_use;  /* outside of its own jobs */
    uint64_t replaced; /* how often files were removed or replaced */
};

/* ---- engine.c -------------------------------------------------------------------------------- */

bool ld_engine_interrupted(const struct ld_engine *engine);

/* One unit of work, and no wait for the encoder. *worked: there was one; else it stays as it was.
 * Errors as ld_engine_tick. */
enum ld_code ld_engine_step(struct ld_engine *engine, bool *worked,
                            struct ld_error *err) LD_MUST_USE;

/* End a job with what happened to it, and forget it. */
void ld_engine_retire(struct ld_engine *engine, struct ld_job *job, const struct ld_error *err);

/* End every job whose own `err` says that something happened to it. */
void ld_engine_retire_failed(struct ld_engine *engine);

/* A failure inside a job ends that job; only an interrupt leaves it to the next tick. When the
 * device is lost it is not the job's fault: jobs stay, and the tick ends the engine (robustness.md
 * G1). */
void ld_engine_settle(struct ld_engine *engine, struct ld_job *job, enum ld_code code,
                      const struct ld_error *err);

/* ---- engine_prompt.c ------------------------------------------------------------------------- */

/*
 * Whether the job's prompt has still to be extended: then its turn is later. *worked: something was
 * done for it, which may have ended the job.
 */
bool ld_engine_prompt_waits(struct ld_engine *engine, struct ld_job *job, bool *worked);

/* The first of the callers' prompts, if it is written. */
bool ld_engine_answer_one(struct ld_engine *engine);

/* Nothing is left to do but to wait for a prompt: a moment, so that new jobs are heard of. */
void ld_engine_await_prompt(struct ld_engine *engine);

/* ---- engine_sample.c ------------------------------------------------------------------------- */

/*
 * Whether another picture may be under way beside `active` ones of `positions` latent positions
 * together: a few on a CPU, where more of them only end later; on a GPU as many as fill a pass.
 */
bool ld_engine_has_room(const struct ld_engine *engine, uint32_t active, uint64_t positions);

/* One UNet pass, led by the session that has waited longest. False: nobody samples. */
bool ld_engine_sample(struct ld_engine *engine);

/* ---- engine_wide.c --------------------------------------------------------------------------- */

/* Whether what fp16 cannot hold can be computed again in bf16 here. */
bool ld_engine_can_widen(const struct ld_engine *engine);

/*
 * A picture went beyond fp16's range while it was sampled: paint it again in bf16, from its noise
 * on. It leaves the passes of this engine; its job waits for it.
 * Errors   why that is not possible, in a sentence that names the picture.
 */
enum ld_code ld_engine_repaint(struct ld_engine *engine, struct ld_session *session,
                               struct ld_error *err) LD_MUST_USE;

/* Forget what is being painted again for this job, which is about to go. */
void ld_engine_abandon(struct ld_engine *engine, const struct ld_job *job);

/* Files were removed or replaced: the second engine, which opens them by name, must not take up
 * what was begun with the old ones. */
void ld_engine_replaced(struct ld_engine *engine);

/* ld_engine_step for pictures that are painted again. */
enum ld_code ld_engine_step_wide(struct ld_engine *engine, bool *worked,
                                 struct ld_error *err) LD_MUST_USE;

/* `step` of a session whose VAE went beyond fp16's range, once more with the VAE in bf16. */
enum ld_code ld_engine_widen_vae(struct ld_engine *engine, struct ld_session *session,
                                 enum ld_code (*step)(struct ld_session *session,
                                                      const struct ld_cancel *interrupt,
                                                      struct ld_error *err),
                                 struct ld_error *err) LD_MUST_USE;

/* A backend's `relieve`, with the outermost engine as its context. */
bool ld_engine_relieve(void *engine);

#endif
