/*
 * One sampling pass of one picture: schedule, noise, guidance and sampler bound together. It turns
 * the sampler's "evaluate me here" into the UNet rows that the guidance needs, and the rows'
 * results into what the sampler is given. It knows no model: who runs the rows, and with whom in
 * one batch, is the engine's affair.
 *
 *     ld_pass_create(&pass, &arena, &config, &err);
 *     while (ld_pass_open(pass, &err) == LD_PASS_ROWS) {
 *         for each row in ld_pass_rows(pass, &count)  // until none is left undone
 *             evaluate; ld_pass_row_done(pass, row, network_output)
 *         ld_pass_close(pass, &err);
 *     }
 *     ld_pass_latent(pass)
 *
 * Source: sampling.md 1.4-1.6 (latents, noise, masks), 5.8-5.9 (rows), 6 (deep shrink).
 */
#ifndef LD_RUNTIME_PASS_H
#define LD_RUNTIME_PASS_H

#include "runtime/control_row.h"
#include "runtime/model/unet.h"
#include "runtime/params.h"
#include "runtime/sample/deep_shrink.h"
#include "runtime/sample/guidance.h"
#include "runtime/sample/noise.h"
#include "runtime/sample/schedule.h"

/* Rows of the guidance, and with SMEA as many twins that see a smaller picture. */
enum { LD_PASS_PARTS_MAX = 16, LD_PASS_ROWS_MAX = 2 * (LD_PASS_PARTS_MAX + 4) };

/* Everything but the scalars is borrowed for the life of the pass. */
struct ld_pass_config {
    const struct ld_request *request;
    const struct ld_sigma_table *table;
    enum ld_prediction prediction;
    bool hires;            /* second pass: hires.* where given, hires.strength */
    uint32_t image;        /* index within the job; its seed is seed + image */
    int32_t height, width; /* of the latent */
    const double *start;   /* [4, height, width] scaled latent to start from, NULL: text to image */
    const double *mask;    /* [height, width], 1 = repaint; NULL: everything */
    uint32_t parts;        /* prompts joined by AND, at least 1 */
    const double *part_weights; /* [parts] */
};

enum ld_pass_prompt { LD_PASS_POSITIVE, LD_PASS_NEGATIVE, LD_PASS_EMPTY };

/* One UNet row the present call needs. */
struct ld_pass_row {
    enum ld_pass_prompt prompt;
    uint32_t part;               /* of the positive prompt */
    const double *x;             /* [4, height, width], before c_in */
    struct ld_wrapping wrapping; /* c_in, timestep, and how the output is read */
    struct ld_unet_options options;
    struct ld_row_control controls[LD_REQUEST_CONTROLS_MAX]; /* [options.controls] */
    double *denoised; /* [4, height, width], filled by ld_pass_row_done */
    bool done;
    bool twin; /* SMEA: the same row with its deep features shrunk */
};

enum ld_pass_status { LD_PASS_ROWS, LD_PASS_DONE, LD_PASS_FAILED };

struct ld_pass;

/*
 * Everything comes from `arena` (ld_pass_arena_bytes tells how much it may take).
 * Errors   LD_E_NOT_FOUND, LD_E_RANGE, LD_E_INVALID (options), LD_E_NOMEM.
 */
enum ld_code ld_pass_create(struct ld_pass **out, struct ld_arena *arena,
                            const struct ld_pass_config *config, struct ld_error *err) LD_MUST_USE;
size_t ld_pass_arena_bytes(int32_t height, int32_t width);

/* Make the rows of the next call, unless they stand already. FAILED: see `err`. */
enum ld_pass_status ld_pass_open(struct ld_pass *pass, struct ld_error *err);

/* Rows of the open call; some may be done. */
struct ld_pass_row *ld_pass_rows(struct ld_pass *pass, uint32_t *count);

/* For whoever waits for the open call's rows: draws the noise that the sampler will ask for when
 * they are done. Changes no byte of it. */
void ld_pass_ahead(struct ld_pass *pass);

/* The network's output for one row, [4, height, width]. With options.middle_qkv, `attention`
 * [tokens]: for every key the mean over heads of the sum over queries of the softmax. */
void ld_pass_row_done(struct ld_pass *pass, struct ld_pass_row *row, const float *output,
                      const float *attention, int32_t tokens);

/* All rows are done: combine and hand to the sampler, or open SAG's second row. */
enum ld_code ld_pass_close(struct ld_pass *pass, struct ld_error *err) LD_MUST_USE;

/* The sampler's x (after DONE: the finished latent), and the latest denoised estimate, which is
 * what a preview shows; NULL before the first call. [4, height, width] */
const double *ld_pass_latent(const struct ld_pass *pass);
const double *ld_pass_prediction(const struct ld_pass *pass);

uint32_t ld_pass_steps(const struct ld_pass *pass);
uint32_t ld_pass_step(const struct ld_pass *pass); /* steps finished */
uint32_t ld_pass_call(const struct ld_pass *pass); /* denoiser calls finished */
/* Denoiser calls that prompt schedules count in. */
uint32_t ld_pass_calls_total(const struct ld_pass *pass);
/* Rows run, and rows that plain guidance would have run beyond those. */
void ld_pass_row_counts(const struct ld_pass *pass, uint64_t *run, uint64_t *saved);
const struct ld_schedule *ld_pass_schedule(const struct ld_pass *pass);

/* Denoiser calls of a pass before it exists: what the prompt's schedule is compiled for. */
uint32_t ld_pass_calls_expected(const struct ld_request *request, bool hires);

#endif
